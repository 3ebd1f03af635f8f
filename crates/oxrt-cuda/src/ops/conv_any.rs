//! Convolutions, also transposed, that the quicker kernels leave: any float type, order of axes, groups, and up to three axes.

use super::each::only;
use super::gemm::is_float;
use super::windows::{Method, Sizes, Text, Windows};
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::text::{self, Number};
use oxrt_backend::{Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Result, Tensor, bail};

pub(super) const CONV_ANY: Entry =
    Entry::new("conv_any", &["Conv", "ConvTranspose", "oxrt.Conv", "oxrt.ConvTranspose"], supports, pack, load);

fn float(d: DType) -> bool {
    is_float(d) || d == DType::F64
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require((3..=5).contains(&node.rank(0)?) && node.rank(0) == node.rank(1))?;
    require((0..node.num_inputs()).all(|i| node.dtype(i).is_none_or(float)) && float(node.output_dtype(0)?))
}

fn last(node: &NodeView) -> bool {
    node.op().starts_with("oxrt.")
}

fn turned(node: &NodeView) -> bool {
    node.op().ends_with("Transpose")
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let double = (0..node.num_inputs()).any(|i| node.dtype(i) == Some(DType::F64));
    let number = if double { Number::F64 } else { Number::F32 };
    let ty = |i: usize| c_type(node.dtype(i).unwrap_or(DType::F32));
    let c = number.name();
    let finish = format!(
        "if (p.in[0]) v += get<C>(((const {}*)p.in[0])[map]); if (p.in[1]) v += get<C>(((const {}*)p.in[1])[at]); return put<TY>(activate(v));",
        ty(2)?,
        ty(3)?
    );
    let text = Text {
        x: c_type(dtype(node, 0)?)?,
        w: c_type(dtype(node, 1)?)?,
        y: c_type(output_dtype(node, 0)?)?,
        sum: c,
        channels_last: last(node),
        transposed: turned(node),
        x_zero: "0",
        w_zero: "0",
        before: &text::activation(node.attrs(), number, ctx.precision != Precision::F32)?,
        finish: &finish,
    };
    only(ctx, &text.write(Method::Simt))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let windows = Windows::load(ctx, packed.first(), last(node), Method::Simt)?;
    let (last, turned) = (last(node), turned(node));
    let attrs = node.attrs().clone();
    let groups = usize::try_from(attrs.int_or("group", 1)?).unwrap_or(0);
    kernel(move |args| {
        let (x, w, y) = (args.shape(0)?, args.shape(1)?, args.output(0)?);
        let sizes: Vec<i64> = w.iter().skip(2).map(|&k| k as i64).collect();
        let window = if turned { Window::transposed(&attrs, &sizes)? } else { Window::new(&attrs, &sizes)? };
        let spatial = if last { 1..x.len() - 1 } else { 2..x.len() };
        let placed = window.place(&x[spatial.clone()])?;
        let sizes = Sizes::convolution(x, w, groups, &placed, last, turned)?;
        windows.check(&sizes)?;
        counts(x.iter().product())?;
        let maps = sizes.maps * groups;
        makes(args, counts(x[0] * maps * placed.out.iter().product::<usize>())?)?;
        if y.len() != x.len() || y[spatial] != placed.out[..] {
            bail!(invalid, "a result of shape {y:?} for shape {x:?}");
        }
        holds(args, 2, maps)?;
        holds(args, 3, y.iter().product())?;
        let (windows, flops) = (windows.clone(), sizes.flops());
        bound(move |io| {
            let inputs: [*const u8; 4] = std::array::from_fn(|i| io.input(i));
            // SAFETY: buffers have the bound sizes.
            unsafe { windows.run(&sizes, io, &inputs, io.output(0)) }
        })
        .flops(flops)
        .boxed()
    })
}
