//! DeformConv in the plane.

use super::each::{only, pointers};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, holds, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/deform_conv.cuh");

pub(super) const DEFORM_CONV: Entry = Entry::new("deform_conv", &["DeformConv"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let float = |d: DType| is_float(d) || d == DType::F64;
    require(node.rank(0)? == 4 && node.rank(1)? == 4 && node.has(2))?;
    require((0..node.num_inputs()).all(|i| node.dtype(i).is_none_or(float)) && float(node.output_dtype(0)?))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let double = (0..node.num_inputs()).any(|i| node.dtype(i) == Some(DType::F64));
    let (c, floor) = if double { ("f64", "floor") } else { ("f32", "floorf") };
    let mut types = format!("typedef {c} C;\n#define FLOOR {floor}\ntypedef {} TY;\n", c_type(output_dtype(node, 0)?)?);
    for (i, name) in ["TX", "TW", "TO", "TB", "TM"].into_iter().enumerate() {
        types += &format!("typedef {} {name};\n", c_type(node.dtype(i).map_or_else(|| dtype(node, 0), Ok)?)?);
    }
    only(ctx, &format!("{types}{TEXT}"))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "deform", 0)?;
    let attrs = node.attrs().clone();
    let positive = |name: &str| attrs.int_or(name, 1).map(|v| usize::try_from(v).unwrap_or(0));
    let (groups, shifts) = (positive("group")?, positive("offset_group")?);
    kernel(move |args| {
        let (&[n, c, height, width], &[m, cg, kh, kw]) = (args.shape(0)?, args.shape(1)?) else {
            bail!(invalid, "an input of shape {:?} and weights of {:?}", args.shape(0)?, args.shape(1)?);
        };
        let placed = Window::new(&attrs, &[kh as i64, kw as i64])?.place(&[height, width])?;
        let [oh, ow] = placed.out[..] else { bail!(bug, "a window of {:?}", placed.out) };
        let taps = kh * kw;
        if groups == 0 || shifts == 0 || cg * groups != c || m % groups != 0 || c % shifts != 0 {
            bail!(invalid, "weights of {:?} in {groups} groups for {c} channels", args.shape(1)?);
        }
        counts(n * c * height * width)?;
        counts(m * cg * taps)?;
        holds(args, 2, counts(n * shifts * taps * 2 * oh * ow)?)?;
        holds(args, 3, m)?;
        holds(args, 4, n * shifts * taps * oh * ow)?;
        makes(args, counts(n * m * oh * ow)?)?;
        let count = n * oh * ow;
        let chunks = groups * (m / groups).div_ceil(8);
        if chunks > 65535 {
            bail!(unsupported, "{m} maps of one convolution");
        }
        let fields = Params::new().u32(count).dividers(&[ow, oh]);
        let numbers = [c, height, width, m, kw, taps, cg, m / groups, c / shifts];
        let fields = numbers.into_iter().fold(fields, Params::u32);
        let fields = fields.i32s(&placed.strides).i32s(&placed.dilations).i32s(&placed.begin);
        let launcher = launcher.clone();
        bound(move |io| {
            let p = pointers(io, 5, 1).join(&fields).status(&io.device).finish();
            // SAFETY: buffers have the bound sizes; taps outside the image are zeros.
            unsafe { launcher.run(io, [count.div_ceil(256), chunks, 1], 256, 0, &p) }
        })
        .flops(2 * count * m * cg * taps)
        .boxed()
    })
}
