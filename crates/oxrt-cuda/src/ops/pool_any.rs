//! Pools that say more than the greatest: MaxPool with places, LpPool.

use super::each::{Each, only};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, output_dtype, require, sizes};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/pool_any.cuh");

pub(super) const POOL_ANY: Entry = Entry::new("pool_any", &["MaxPool", "LpPool"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let (x, y) = (node.dtype(0)?, node.output_dtype(0).or(node.dtype(0))?);
    let bytes = node.op() == "MaxPool" && matches!(x, DType::I8 | DType::U8) && x == y;
    require((is_float(x) && is_float(y)) || (x == DType::F64 && x == y) || bytes)?;
    // Without places, MaxPool has a quicker kernel.
    require(node.op() == "LpPool" || node.output_dtype(1) == Some(DType::I64))?;
    require((3..=5).contains(&node.rank(0)?))?;
    sizes(node.attrs().ints("kernel_shape").ok()??).map(|_| ())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let x = dtype(node, 0)?;
    let (c, power) = if x == DType::F64 { ("f64", "pow") } else { ("f32", "powf") };
    let y = c_type(output_dtype(node, 0).unwrap_or(x))?;
    let (norm, columns) = (u8::from(node.op() == "LpPool"), u8::from(node.attrs().bool_or("storage_order", false)?));
    only(
        ctx,
        &format!(
            "typedef {} TX;\ntypedef {y} TY;\ntypedef {c} C;\n#define POWER {power}\n#define NORM {norm}\n#define COLUMNS {columns}\n{TEXT}",
            c_type(x)?
        ),
    )
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "pool", 0)?;
    let attrs = node.attrs().clone();
    let kernel_shape = attrs.ints("kernel_shape")?.unwrap_or_default().to_vec();
    let power = attrs.int_or("p", 2)? as f32;
    kernel(move |args| {
        let x = args.shape(0)?;
        let placed = Window::new(&attrs, &kernel_shape)?.place(&x[2..])?;
        counts(x.iter().product())?;
        let wanted = [&x[..2], &placed.out].concat();
        if args.outputs.iter().flatten().any(|y| **y != wanted[..]) {
            bail!(invalid, "a result of another shape than {wanted:?} for shape {x:?}");
        }
        let count = counts(wanted.iter().product())?;
        // Missing axes in front are ones.
        let three = |list: Vec<i64>, fill: i64| -> [i64; 3] {
            let mut out = [fill; 3];
            out[3 - list.len()..].copy_from_slice(&list);
            out
        };
        let ints = |list: &[usize]| list.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let fields = [
            three(ints(&x[2..]), 1),
            three(ints(&placed.kernel), 1),
            three(placed.strides.clone(), 1),
            three(placed.dilations.clone(), 1),
            three(placed.begin.clone(), 0),
        ];
        let out = three(ints(&placed.out), 1).map(|n| n as usize);
        let fields = fields.iter().fold(Params::new(), |p, list| p.i32s(list)).dividers(&out).f32(power);
        let flops = count * placed.taps_per_output();
        Each { launcher: launcher.clone(), inputs: 1, outputs: 2, count, fields }.bound().flops(flops).boxed()
    })
}
