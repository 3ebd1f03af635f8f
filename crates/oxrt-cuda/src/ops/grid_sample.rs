//! GridSample over one to three axes.

use super::each::{only, pointers};
use super::gemm::is_float;
use super::{Entry, c_type, contiguous, counts, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::grid::{Padding, Sampling};
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/grid_sample.cuh");

pub(super) const GRID_SAMPLE: Entry = Entry::new("grid_sample", &["GridSample"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let float = |d: DType| is_float(d) || d == DType::F64;
    require(float(node.dtype(0)?) && float(node.dtype(1)?) && float(node.output_dtype(0)?))?;
    require((3..=5).contains(&node.rank(0)?))?;
    Sampling::new(node.attrs()).ok().map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let sampling = Sampling::new(node.attrs())?;
    let double = dtype(node, 0)? == DType::F64 || dtype(node, 1)? == DType::F64;
    let rank = node.rank(0).unwrap_or(4) - 2;
    let padding = match sampling.padding {
        Padding::Zeros => 0,
        Padding::Border => 1,
        Padding::Reflection => 2,
    };
    let types = format!(
        "typedef {} TX;\ntypedef {} TG;\ntypedef {} TY;\ntypedef {} C;\n",
        c_type(dtype(node, 0)?)?,
        c_type(dtype(node, 1)?)?,
        c_type(output_dtype(node, 0)?)?,
        if double { "f64" } else { "f32" }
    );
    let f = if double { "" } else { "f" };
    let names: String = [("MODULO", "fmod"), ("TRUNCATE", "trunc"), ("NEAREST", "rint"), ("FLOOR", "floor")]
        .iter()
        .map(|(macro_name, name)| format!("#define {macro_name} {name}{f}\n"))
        .collect();
    let corners = u8::from(sampling.corners);
    let taps = sampling.count();
    only(
        ctx,
        &format!(
            "{types}{names}#define RANK {rank}\n#define TAPS {taps}\n#define PADDING {padding}\n#define CORNERS {corners}\n{TEXT}"
        ),
    )
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "sample", 0)?;
    let taps = Sampling::new(node.attrs())?.count();
    kernel(move |args| {
        let (x, grid) = (args.shape(0)?, args.shape(1)?);
        let ([n, c, spatial @ ..], [images, out @ .., r]) = (x, grid) else {
            bail!(invalid, "a grid of shape {grid:?} for an input of shape {x:?}");
        };
        let rank = spatial.len();
        if grid.len() != x.len() || *r != rank || n != images {
            bail!(invalid, "a grid of shape {grid:?} for an input of shape {x:?}");
        }
        let points: usize = out.iter().product();
        let plane: usize = spatial.iter().product();
        makes(args, n * c * points)?;
        counts(n * c * plane)?;
        let count = if n * c == 0 { 0 } else { counts(n * points)? };
        if plane == 0 && count > 0 {
            bail!(invalid, "an empty input of shape {x:?}");
        }
        let ints = |list: Vec<usize>| list.into_iter().map(|v| v as i64).collect::<Vec<_>>();
        let strides = contiguous(spatial).into_iter().map(|s| s as usize).collect();
        let fields = Params::new().u32(count).dividers(&[points]).u32(*c);
        let fields = fields.i32s(&ints(spatial.to_vec())).i32s(&ints(strides)).u32(plane);
        let (launcher, chunks) = (launcher.clone(), c.div_ceil(8));
        if chunks > 65535 {
            bail!(unsupported, "{c} channels in one image");
        }
        bound(move |io| {
            let p = pointers(io, 2, 1).join(&fields).status(&io.device).finish();
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [count.div_ceil(256), chunks, 1], 256, 0, &p) }
        })
        .flops(2 * n * c * points * taps.pow(rank as u32))
        .boxed()
    })
}
