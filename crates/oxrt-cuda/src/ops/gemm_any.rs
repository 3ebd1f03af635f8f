//! Matrix products that the quicker kernels leave: Gemm of any operands, and products of integers.

use super::each::only;
use super::map::broadcast;
use super::windows::{Method, Sizes, Text, Windows, batched};
use super::{Entry, c_type, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::text::{Number, stored};
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, bound, kernel};
use oxrt_tensor::{DType, Result, Tensor, bail};

pub(super) const GEMM_ANY: Entry = Entry::new("gemm_any", &["Gemm", "MatMul"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let types = (0..node.num_inputs()).filter_map(|i| node.dtype(i));
    require(types.chain([node.output_dtype(0)?]).all(|d| stored(d).is_some() && d != DType::Bool))?;
    // Floats of different widths mix, integers do not.
    let float = node.dtype(0)?.is_float();
    let fits = |d: DType| if float { d.is_float() } else { Some(d) == node.dtype(0) };
    require((0..node.num_inputs()).all(|i| node.dtype(i).is_none_or(fits)) && fits(node.output_dtype(0)?))?;
    require(node.rank(0)? >= 1 && node.rank(1)? >= 1 && (node.op() == "MatMul" || node.rank(0)? == 2))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (x, w, y) = (dtype(node, 0)?, dtype(node, 1)?, output_dtype(node, 0)?);
    let addend = node.dtype(2).unwrap_or(x);
    let c = Number::for_types(&[x, w, addend], y).name();
    // Factors of integers are whole.
    let whole = if x.is_float() { "" } else { "(i64)" };
    let finish = if node.op() == "MatMul" {
        "return put<TY>(v);".to_string()
    } else {
        format!(
            "v *= (C){whole}p.number[0]; \
             if (p.in[0]) v += (C){whole}p.number[1] * get<C>(((const {}*)p.in[0])[at / p.n * p.whole[0] + map * p.whole[1]]); \
             return put<TY>(v);",
            c_type(addend)?
        )
    };
    let text = Text {
        x: c_type(x)?,
        w: c_type(w)?,
        y: c_type(y)?,
        sum: c,
        channels_last: true,
        transposed: false,
        x_zero: "0",
        w_zero: "0",
        before: "",
        finish: &finish,
    };
    only(ctx, &text.write(Method::Simt))
}

fn gemm(args: &BindArgs, turned: [bool; 2]) -> Result<Sizes> {
    let (&[a, b], &[c, d]) = (args.shape(0)?, args.shape(1)?) else {
        bail!(invalid, "a product of shapes {:?} and {:?}", args.shape(0)?, args.shape(1)?);
    };
    let (m, k) = if turned[0] { (b, a) } else { (a, b) };
    let (depth, n) = if turned[1] { (d, c) } else { (c, d) };
    if k != depth {
        bail!(invalid, "rows of {k} for columns of {depth}");
    }
    let (w_map, w_channel) = if turned[1] { (k, 1) } else { (1, n) };
    let mut sizes = Sizes::product(m, n, k, w_map, w_channel);
    if turned[0] {
        (sizes.x_channel, sizes.x_axis) = (m, [0, 0, 1]);
    }
    if let Some(addend) = args.opt_shape(2) {
        let steps = broadcast(addend, &[m, n])?;
        (sizes.whole[0], sizes.whole[1]) = (steps[0] as i64, steps[1] as i64);
    }
    Ok(sizes)
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let windows = Windows::load(ctx, packed.first(), true, Method::Simt)?;
    let attrs = node.attrs();
    let turned = [attrs.bool_or("transA", false)?, attrs.bool_or("transB", false)?];
    let factors = [attrs.float_or("alpha", 1.0)?, attrs.float_or("beta", 1.0)?];
    let matrix = node.op() == "MatMul";
    let bytes = [dtype(node, 0)?, dtype(node, 1)?, output_dtype(node, 0)?].map(|d| d.bytes_for(1));
    kernel(move |args| {
        let (mut sizes, offsets) =
            if matrix { batched(args.shape(0)?, args.shape(1)?, false)? } else { (gemm(args, turned)?, vec![[0; 3]]) };
        sizes.number[..2].copy_from_slice(&factors);
        let each = sizes.groups[0] * sizes.groups[1] * sizes.output[2] * sizes.maps;
        makes(args, counts(offsets.len() * each)?)?;
        windows.check(&sizes)?;
        let flops = sizes.flops() * offsets.len().max(1);
        let windows = windows.clone();
        bound(move |io| {
            for o in &offsets {
                let place = |i: usize| o[i] * bytes[i];
                let (x, w) = (io.input::<u8>(0).wrapping_add(place(0)), io.input::<u8>(1).wrapping_add(place(1)));
                // SAFETY: buffers have the bound sizes; offsets lie inside them.
                unsafe { windows.run(&sizes, io, &[x, w, io.input(2)], io.output::<u8>(0).wrapping_add(place(2)))? };
            }
            Ok(())
        })
        .flops(flops)
        .boxed()
    })
}
