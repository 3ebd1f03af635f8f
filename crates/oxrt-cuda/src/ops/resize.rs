//! Resize: every mode that is a sum of taps along each axis, over up to three axes.

use super::gemm::is_float;
use super::{Entry, c_type, contiguous, counts, dtype, known, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing, bound, kernel};
use oxrt_ir::Attrs;
use oxrt_ops::resample::{Taps, taps_as_laid};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/resize.cuh");

pub(super) const RESIZE: Entry = Entry::new("resize", &["Resize", "oxrt.Resize"], supports, pack, load);

/// Taps of the kernel, by the attributes.
fn most_taps(node: &NodeView) -> Option<usize> {
    Some(match node.attrs().string_or("mode", "nearest").ok()? {
        "nearest" => 1,
        "linear" => 2,
        "cubic" => 4,
        _ => return None,
    })
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let (x, y) = (node.dtype(0)?, node.output_dtype(0)?);
    let moved = most_taps(node)? == 1 && matches!(x, DType::I8 | DType::U8);
    require((is_float(x) && is_float(y)) || (x == y && (x == DType::F64 || moved)))?;
    let text = |name: &str, default: &'static str| node.attrs().string_or(name, default).ok().map(str::to_string);
    require(text("coordinate_transformation_mode", "half_pixel")? != "tf_crop_and_resize")?;
    require(node.attrs().int_or("antialias", 0).ok()? == 0)?;
    require(text("keep_aspect_ratio_policy", "stretch")? == "stretch" && node.rank(0)? <= 5)?;
    known(node, 2)?;
    known(node, 3)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let x = dtype(node, 0)?;
    let body = format!(
        "typedef {} TX;\ntypedef {} TY;\ntypedef {} C;\n#define TAPS {}\n{TEXT}",
        c_type(x)?,
        c_type(output_dtype(node, 0)?)?,
        if x == DType::F64 { "f64" } else { "f32" },
        most_taps(node).unwrap_or(1)
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

/// Taps along every axis of the data as it lies.
fn tables(args: &BindArgs, attrs: &Attrs, last: bool) -> Result<Vec<Option<Taps>>> {
    let list = |i: usize| args.value(i).filter(|t| !t.is_empty());
    let target = list(3).map(|t| oxrt_ops::shape::sizes(&t.to_i64_vec()?)).transpose()?;
    let scales = if target.is_some() { None } else { list(2).map(Tensor::to_f64_vec).transpose()? };
    taps_as_laid(attrs, args.shape(0)?, last, scales, target)
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "resize", 0)?;
    let most = most_taps(node).unwrap_or(1);
    let last = node.op() == "oxrt.Resize";
    let (attrs, ctx) = (node.attrs().clone(), ctx.clone());
    kernel(move |args| {
        let (x, y) = (args.shape(0)?.to_vec(), args.output(0)?.to_vec());
        let tables = tables(args, &attrs, last)?;
        let (mut places, mut weights) = (Vec::new(), Vec::new());
        let (mut starts, mut axes) = (vec![-1i64; x.len()], Vec::new());
        for (d, table) in tables.iter().enumerate() {
            let Some(table) = table else { continue };
            if table.len() != y[d] || table.iter().any(|t| t.len() > most) {
                bail!(unsupported, "resizing shape {x:?} to {y:?}");
            }
            starts[d] = places.len() as i64;
            axes.push(d);
            for taps in table {
                for i in 0..most {
                    let (place, weight) = taps.get(i).copied().unwrap_or((0, 0.0));
                    places.push(place as i32);
                    weights.push(weight as f32);
                }
            }
        }
        if axes.len() > 3 || x.len() != y.len() || (0..x.len()).any(|d| starts[d] < 0 && x[d] != y[d]) {
            bail!(unsupported, "resizing shape {x:?} to {y:?} along {} axes", axes.len());
        }
        let count = counts(y.iter().product())?;
        counts(x.iter().product())?;
        let place = ctx.upload(&Tensor::from_slice(&[places.len()], &places))?;
        let weight = ctx.upload(&Tensor::from_slice(&[weights.len()], &weights))?;
        let strides = contiguous(&x);
        let launcher = launcher.clone();
        bound(move |io| {
            let mut p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0));
            p = p.ptr(place.ptr()).ptr(weight.ptr()).u32(count).u32(y.len());
            for d in 0..5 {
                p = p.divider(y.get(d).copied().unwrap_or(1).max(1));
            }
            for d in 0..5 {
                p = p.i32(strides.get(d).copied().unwrap_or(0) as i64);
            }
            for d in 0..5 {
                p = p.i32(starts.get(d).copied().unwrap_or(-1));
            }
            p = p.u32(axes.len());
            for a in 0..3 {
                p = p.u32(axes.get(a).copied().unwrap_or(0));
            }
            // SAFETY: buffers have the bound sizes, tables lead inside the input.
            unsafe { launcher.run(io, [count.div_ceil(256), 1, 1], 256, 0, &p.finish()) }
        })
        .flops(2 * count * most)
        .boxed()
    })
}
