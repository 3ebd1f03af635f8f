//! Attention: the fused operator that passes make, and ONNX's own.

use super::gemm::is_float;
use super::{Entry, c_type, dtype, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::attention::{ATTRIBUTES, Operand, Placed};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/attention.cuh");
/// Most elements of a head.
const WIDEST: usize = 512;

pub(super) const ATTENTION: Entry = Entry::new("attention", &["oxrt.Attention", "Attention"], supports, pack, load);

/// Sizes of a head of the queries (and keys) and of the values.
fn head_sizes(node: &NodeView) -> Option<[usize; 2]> {
    let number = |name: &str| usize::try_from(node.attrs().int_or(name, 0).ok()?).ok().filter(|&n| n > 0);
    if matches!(node.attrs().string_or("layout", "bhsd").ok()?, "bsw" | "sbw") {
        return Some([number("size")?, number("value_size")?]);
    }
    let size = |i: usize, heads: &str| -> Option<usize> {
        let dims = node.dims(i)?;
        let last = dims.last()?.as_size()?;
        match dims.len() {
            4 => Some(last),
            3 => number(heads).filter(|n| last % n == 0).map(|n| last / n),
            _ => None,
        }
    };
    Some([size(0, "q_num_heads")?, size(2, "kv_num_heads")?])
}

/// Whether rows of heads begin at 16 bytes in every operand, as copies of whole chunks want.
fn rows_begin_well(node: &NodeView) -> bool {
    let begin = node.attrs().ints("at").ok().flatten().unwrap_or(&[]).iter().all(|at| at % 8 == 0);
    begin && (0..3).all(|i| node.dims(i).and_then(|d| d.last()?.as_size()).is_some_and(|n| n % 8 == 0))
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let t = node.dtype(0)?;
    require(is_float(t) && node.dtype(1) == Some(t) && node.dtype(2) == Some(t) && is_float(node.output_dtype(0)?))?;
    if node.has(3) {
        require((is_float(node.dtype(3)?) || node.dtype(3)? == DType::Bool) && node.rank(3)? <= 4)?;
    }
    // Windows and whatever later versions add.
    require(node.attrs().iter().all(|(name, value)| {
        ATTRIBUTES.contains(&name) || (name == "qk_matmul_output_mode" && *value == oxrt_ir::Attr::Int(0))
    }))?;
    // Caches of earlier keys, and intermediate results as outputs.
    require((4..node.num_inputs()).all(|i| !node.has(i)))?;
    require((1..node.num_outputs()).all(|i| node.node().output(i).is_none()))?;
    let [d, v] = head_sizes(node)?;
    require(d <= WIDEST && v <= WIDEST && d > 0 && v > 0)
}

/// Whether the matrix units serve.
fn on_matrix_units(node: &NodeView) -> Result<bool> {
    let [d, v] = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    Ok(dtype(node, 0)? != DType::F32 && d % 16 == 0 && v % 16 == 0 && d <= 128 && v <= 128 && rows_begin_well(node))
}

fn shared(d: usize, v: usize) -> usize {
    64 * (d + 8) * 2 * 3 + 64 * (v + 8) * 2 * 2
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let [d, v] = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    let t = dtype(node, 0)?;
    let mask = if node.has(3) { dtype(node, 3)? } else { DType::F32 };
    let body = format!(
        "typedef {} T;\ntypedef {} TY;\ntypedef {} M;\n{}#define DIM {d}\n#define VDIM {v}\n#define WIDE {}\n#define MMA {}\n\
         #define MASK {}\n#define CAUSAL {}\n#define SOFTCAP {}\n{TEXT}",
        c_type(t)?,
        c_type(output_dtype(node, 0)?)?,
        if mask == DType::Bool { "u8" } else { c_type(mask)? },
        if t == DType::BF16 { "#define T_IS_BF16\n" } else { "" },
        v.div_ceil(32),
        u8::from(on_matrix_units(node)?),
        match (node.has(3), mask) {
            (false, _) => 0,
            (true, DType::Bool) => 2,
            (true, _) => 1,
        },
        u8::from(node.attrs().bool_or("is_causal", false)?),
        u8::from(node.attrs().float_or("softcap", 0.0)? > 0.0),
    );
    Ok(Packing { tensors: vec![ctx.code(&body)?], consumed: Vec::new() })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let [dim, value_dim] = head_sizes(node).ok_or_else(|| Error::bug("attention without head sizes"))?;
    let mma = on_matrix_units(node)?;
    let shared = if mma { shared(dim, value_dim) } else { 0 };
    let launcher = ctx.function(packed.first(), "attention", shared)?;
    let attrs = node.attrs().clone();
    let scale = attrs.get_float("scale")?.copied().unwrap_or(1.0 / (dim as f32).sqrt());
    let softcap = attrs.float_or("softcap", 0.0)?;
    let causal = attrs.bool_or("is_causal", false)?;
    // Elements are counted in bytes where an operand begins inside of a row.
    let bytes = [0, 1, 2].map(|i| node.dtype(i).map_or(1, |d| d.bytes_for(1)));
    kernel(move |args| {
        let place = |operand: Operand| Placed::new(&attrs, operand, args.shape(operand as usize)?);
        let (q, k, v) = (place(Operand::Query)?, place(Operand::Key)?, place(Operand::Value)?);
        let out = Placed::new(&attrs, Operand::Result, args.output(0)?)?;
        let same =
            k.batch == q.batch && v.batch == q.batch && k.heads == v.heads && k.rows == v.rows && k.size == q.size;
        let fits = q.size == dim && v.size == value_dim && out.heads == q.heads && out.rows == q.rows;
        if !same || !fits || k.heads == 0 || q.heads % k.heads != 0 {
            let shapes = [args.shape(0)?, args.shape(1)?, args.shape(2)?];
            bail!(invalid, "queries, keys and values of shapes {shapes:?} do not fit together");
        }
        makes(args, q.batch * q.heads * q.rows * value_dim)?;
        let mut mask = [0usize; 4];
        if let Some(shape) = args.opt_shape(3) {
            let full = [q.batch, q.heads, q.rows, k.rows];
            let mut step = 1;
            for (i, &n) in shape.iter().rev().enumerate() {
                if n != 1 && n != full[3 - i] {
                    bail!(invalid, "a mask of shape {shape:?} for scores of shape {full:?}");
                }
                mask[3 - i] = if n == 1 { 0 } else { step };
                step *= n;
            }
        }
        let launcher = launcher.clone();
        let flops = 2 * q.batch * q.heads * q.rows * k.rows * (dim + value_dim);
        let rows = if mma { 64 } else { 4 };
        let grid = [q.rows.div_ceil(rows), q.heads, q.batch];
        bound(move |io| {
            let operand = |i: usize, p: &Placed| io.input::<u8>(i).wrapping_add(p.at * bytes[i]);
            let mut p = Params::new().ptr(operand(0, &q)).ptr(operand(1, &k)).ptr(operand(2, &v));
            p = p.ptr(io.input::<u8>(3)).ptr(io.output::<u8>(0));
            for h in [&q, &k, &v, &out] {
                for s in h.steps {
                    p = p.i64(s as i64);
                }
            }
            for s in mask {
                p = p.i64(s as i64);
            }
            p = p.u32(q.heads).u32(q.heads / k.heads).u32(q.rows).u32(k.rows);
            p = p.i32(if causal { 0 } else { 1 << 30 }).f32(scale).f32(softcap);
            // SAFETY: buffers have the bound sizes.
            unsafe { launcher.run(io, grid, 128, shared, &p.finish()) }
        })
        .flops(flops)
        .boxed()
    })
}
