//! Pools over windows, channels last and in ONNX's order.

use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, makes, output_dtype, require, sizes};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/pool.cuh");

pub(super) const POOL: Entry =
    Entry::new("pool", &["MaxPool", "AveragePool", "oxrt.MaxPool", "oxrt.AveragePool"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let (x, y) = (node.dtype(0)?, node.output_dtype(0)?);
    let bytes = matches!(x, DType::I8 | DType::U8 | DType::F8E4M3FN) && node.op().ends_with("MaxPool");
    require((is_float(x) && is_float(y)) || (x == y && (x == DType::F64 || bytes)))?;
    // Positions of the maxima are left to the host.
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    require((3..=5).contains(&node.rank(0)?))?;
    sizes(node.attrs().ints("kernel_shape").ok()??).map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let x = dtype(node, 0)?;
    let body = format!(
        "typedef {} TX;\ntypedef {} TY;\ntypedef {} C;\n#define MAXIMUM {}\n#define PADDED {}\n#define CHANNELS_LAST {}\n\
         #define LOWEST {}\n#define BYTES {}\n{TEXT}",
        c_type(x)?,
        c_type(output_dtype(node, 0)?)?,
        if x == DType::F64 { "f64" } else { "f32" },
        u8::from(node.op().ends_with("MaxPool")),
        u8::from(node.attrs().bool_or("count_include_pad", false)?),
        u8::from(node.op().starts_with("oxrt.")),
        if x.is_float() { "-INFINITE_F32" } else { "-128" },
        u8::from(matches!(x, DType::I8 | DType::U8)),
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let last = node.op().starts_with("oxrt.");
    let single = ctx.function(packed.first(), "single", 0)?;
    let packs = if last { ctx.function(packed.first(), "packs", 0)? } else { single.clone() };
    let bytes = last && matches!(dtype(node, 0)?, DType::I8 | DType::U8);
    let wide = if bytes { ctx.function(packed.first(), "wide", 0)? } else { single.clone() };
    let attrs = node.attrs().clone();
    let kernel_shape = attrs.ints("kernel_shape")?.unwrap_or_default().to_vec();
    kernel(move |args| {
        let (x, y) = (args.shape(0)?, args.output(0)?);
        let (c, spatial) = if last { (x.len() - 1, 1..x.len() - 1) } else { (1, 2..x.len()) };
        let channels = x[c];
        let placed = Window::new(&attrs, &kernel_shape)?.place(&x[spatial.clone()])?;
        counts(x.iter().product())?;
        makes(args, x[0] * channels * placed.out.iter().product::<usize>())?;
        if y[spatial.clone()] != placed.out[..] {
            bail!(invalid, "a result of shape {y:?} for shape {x:?}");
        }
        let rank = placed.out.len();
        // Missing axes in front are ones.
        let three = |list: Vec<i64>, fill: i64| -> [i64; 3] {
            let mut out = [fill; 3];
            out[3 - rank..].copy_from_slice(&list);
            out
        };
        let ints = |list: &[usize]| list.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let size = three(ints(&x[spatial]), 1);
        let out = three(ints(&placed.out), 1);
        let window = [
            size,
            three(ints(&placed.kernel), 1),
            three(placed.strides.clone(), 1),
            three(placed.dilations.clone(), 1),
            three(placed.begin.clone(), 0),
            three(placed.end.clone(), 0),
        ];
        let dense = if last { channels as i64 } else { 1 };
        let step = [dense * size[1] * size[2], dense * size[2], dense];
        // Channels first, every channel is an image.
        let image = if last { dense * size.iter().product::<i64>() } else { size.iter().product() };
        let v = match channels % 16 {
            0 if bytes => 16,
            0 | 8 if last => 8,
            _ => 1,
        };
        let count = y.iter().product::<usize>() / v;
        let inner = if last { channels / v } else { 1 };
        let launcher = [(16, &wide), (8, &packs)].into_iter().find(|l| l.0 == v).map_or(&single, |l| l.1).clone();
        let flops = y.iter().product::<usize>() * placed.taps_per_output();
        bound(move |io| {
            let mut p = Params::new().ptr(io.input::<u8>(0)).ptr(io.output::<u8>(0)).u32(count);
            for list in &window {
                for &n in list {
                    p = p.i32(n);
                }
            }
            p = p.i64(image);
            for s in step {
                p = p.i64(s);
            }
            p = p.divider(inner.max(1));
            for n in out {
                p = p.divider((n as usize).max(1));
            }
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, [count.div_ceil(256), 1, 1], 256, 0, &p.finish()) }
        })
        .flops(flops)
        .boxed()
    })
}
