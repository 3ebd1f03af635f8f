//! RoiAlign.

use super::each::{Each, only};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_ops::roi::Regions;
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/roi_align.cuh");

pub(super) const ROI_ALIGN: Entry = Entry::new("roi_align", &["RoiAlign"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let float = |d: DType| is_float(d) || d == DType::F64;
    require(float(node.dtype(0)?) && float(node.dtype(1)?) && float(node.output_dtype(0)?))?;
    require(matches!(node.dtype(2)?, DType::I64 | DType::I32))?;
    Regions::new(node.attrs()).ok().map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let x = dtype(node, 0)?;
    only(
        ctx,
        &format!(
            "typedef {} TX;\ntypedef {} TR;\ntypedef {} I;\ntypedef {} TY;\ntypedef {} C;\n#define MAXIMUM {}\n{TEXT}",
            c_type(x)?,
            c_type(dtype(node, 1)?)?,
            c_type(dtype(node, 2)?)?,
            c_type(output_dtype(node, 0)?)?,
            if x == DType::F64 { "f64" } else { "f32" },
            u8::from(!Regions::new(node.attrs())?.average)
        ),
    )
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "roi_align", 0)?;
    let attrs = node.attrs();
    let [rows, columns] = Regions::new(attrs)?.out;
    let half = attrs.string_or("coordinate_transformation_mode", "half_pixel")? == "half_pixel";
    let scale = attrs.float_or("spatial_scale", 1.0)?;
    let samples = attrs.int_or("sampling_ratio", 0)?.clamp(0, 1 << 20);
    kernel(move |args| {
        let (&[images, channels, height, width], &[regions, 4]) = (args.shape(0)?, args.shape(1)?) else {
            bail!(invalid, "an input of {:?} and regions of {:?}", args.shape(0)?, args.shape(1)?);
        };
        holds(args, 2, regions)?;
        counts(images * channels * height * width)?;
        let count = counts(regions * channels * rows * columns)?;
        makes(args, count)?;
        if height * width == 0 {
            bail!(invalid, "regions of an empty image");
        }
        let fields = Params::new().dividers(&[columns, rows, channels]).u32(images).u32(height).u32(width);
        let fields = fields.f32(if half { 0.5 } else { 0.0 }).f32(scale).i32(samples);
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields }.boxed()
    })
}
