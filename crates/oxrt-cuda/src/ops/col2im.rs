//! Col2Im.

use super::each::{Each, only};
use super::gemm::is_float;
use super::{Entry, c_type, counts, dtype, ints, known, makes, output_dtype, require};
use crate::backend::Ctx;
use crate::gpu::Params;
use oxrt_backend::{Kernel, NodeView, Packing, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const TEXT: &str = include_str!("../text/col2im.cuh");

pub(super) const COL2IM: Entry = Entry::new("col2im", &["Col2Im"], supports, pack, load);

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    let (x, y) = (node.dtype(0)?, node.output_dtype(0)?);
    require((is_float(x) && is_float(y)) || (x == DType::F64 && y == DType::F64))?;
    require(node.output_ty(0)?.dims.as_ref()?.len() <= 6)?;
    known(node, 1)?;
    known(node, 2)
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let x = dtype(node, 0)?;
    let c = if x == DType::F64 { "f64" } else { "f32" };
    let y = c_type(output_dtype(node, 0)?)?;
    only(ctx, &format!("typedef {} TX;\ntypedef {y} TY;\ntypedef {c} C;\n{TEXT}", c_type(x)?))
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let launcher = ctx.function(packed.first(), "gather", 0)?;
    let attrs = node.attrs().clone();
    kernel(move |args| {
        let missing = || Error::invalid("shapes of image and block are missing");
        let image = oxrt_ops::shape::sizes(&ints(args, 1)?.ok_or_else(missing)?)?;
        let block = ints(args, 2)?.ok_or_else(missing)?;
        let placed = Window::new(&attrs, &block)?.place(&image)?;
        let (taps, positions) = (placed.taps_per_output(), placed.num_outputs());
        let &[n, rows, length] = args.shape(0)? else { bail!(invalid, "columns of shape {:?}", args.shape(0)?) };
        if taps == 0 || rows % taps != 0 || length != positions || image.len() > 4 {
            bail!(invalid, "columns of shape {:?} for {positions} blocks of {taps}", args.shape(0)?);
        }
        counts(n * rows * length)?;
        let plane: usize = image.iter().product();
        let count = counts(n * (rows / taps) * plane)?;
        makes(args, count)?;
        // Missing axes in front are ones.
        let four = |list: Vec<i64>, fill: i64| -> [i64; 4] {
            let mut out = [fill; 4];
            out[4 - list.len()..].copy_from_slice(&list);
            out
        };
        let whole = |list: &[usize]| list.iter().map(|&n| n as i64).collect::<Vec<_>>();
        let size = four(whole(&image), 1).map(|v| v as usize);
        let steps = four(placed.strides.clone(), 1).map(|v| v as usize);
        let fields = Params::new().u32(image.len()).dividers(&size).i32s(&four(whole(&placed.kernel), 1));
        let fields = fields.i32s(&four(placed.dilations.clone(), 1)).i32s(&four(placed.begin.clone(), 0));
        let fields = fields.i32s(&four(whole(&placed.out), 1)).dividers(&steps).dividers(&[plane]);
        let fields = fields.u32(taps).u32(positions);
        Each { launcher: launcher.clone(), inputs: 3, outputs: 1, count, fields }.bound().flops(count * taps).boxed()
    })
}
