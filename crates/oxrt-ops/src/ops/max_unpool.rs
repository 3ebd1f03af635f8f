//! <https://onnx.ai/onnx/operators/onnx__MaxUnpool.html>

use crate::copy::{assemble, checked_len};
use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Error, Result, Tensor, bail, strides_of};

/// Puts values back where `MaxPool` (output 1) found them; zero elsewhere. Input 2: a larger output shape.
pub const OP: OpDef = OpDef::new("MaxUnpool", &[9, 11, 22], 2..=3, infer, eval).examples(&[(
    "(f32[1, 1, 2] x, i64[1, 1, 2] i) { y = MaxUnpool<kernel_shape=[2], strides=[2]>(x, i) } => y",
    &["x = 5 6", "i = 1 2"],
    "0 5 6 0",
)]);

/// The shape that was pooled: the least that the window covers.
fn pooled(attrs: &Attrs, x: &[Dim]) -> Result<Vec<Dim>> {
    let kernel = attrs.ints("kernel_shape")?.ok_or_else(|| Error::invalid("`kernel_shape` is missing"))?;
    let n = kernel.len();
    let (strides, pads) = (attrs.ints_or("strides", &vec![1; n])?, attrs.ints_or("pads", &vec![0; 2 * n])?);
    if x.len() != n + 2 || strides.len() != n || pads.len() != 2 * n {
        bail!(invalid, "a kernel of {n} axes over {x:?}");
    }
    let mut out = x[..2].to_vec();
    for d in 0..n {
        out.push((x[d + 2].clone() - 1) * strides[d] + (kernel[d].saturating_sub(pads[d]).saturating_sub(pads[n + d])));
    }
    Ok(out)
}

fn infer(ctx: &mut Infer) -> Result<()> {
    let dims = match (ctx.contents(2), ctx.dims(0)) {
        (Some(c), _) => Some(c.elements.clone()),
        (None, Some(x)) if ctx.has(2) => Some(ctx.fresh_dims(x.len())),
        (None, Some(x)) => Some(pooled(ctx.attrs(), x)?),
        _ => None,
    };
    ctx.set(0, ctx.dtype(0)?, dims);
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, places) = (ctx.tensor(0)?, ctx.tensor(1)?);
    if x.shape() != places.shape() {
        bail!(invalid, "indices of {:?} for values of {:?}", places.shape(), x.shape());
    }
    let dims: Vec<Dim> = x.shape().iter().map(|&d| d.into()).collect();
    let inner: Option<Vec<usize>> = pooled(ctx.attrs(), &dims)?.iter().map(Dim::as_size).collect();
    let inner = inner.ok_or_else(|| Error::invalid("the pads take more than there is"))?;
    let shape = ctx.ints(2)?.map(|s| sizes(&s)).transpose()?.unwrap_or_else(|| inner.clone());
    if shape.len() != inner.len() || shape.iter().zip(&inner).any(|(a, b)| a < b) {
        bail!(invalid, "an output of {shape:?} does not hold {inner:?}");
    }
    // The indices count in the pooled shape, which lies at the front of the output.
    let (from, to) = (strides_of(&inner), strides_of(&shape));
    let total = checked_len(&inner)?;
    let zero = Tensor::zeros(x.dtype(), &[]);
    let mut out = vec![(1, 0); checked_len(&shape)?];
    for (i, &p) in places.to_i64_vec()?.iter().enumerate() {
        let p = crate::copy::index(p, total)?;
        let at: usize = (0..inner.len()).map(|d| p / from[d] % inner[d] * to[d]).sum();
        out[at] = (0, i);
    }
    Ok(vec![assemble(&[x, &zero], &shape, out)?.into()])
}
