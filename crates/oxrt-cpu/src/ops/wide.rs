//! Elementwise operators and chains in 64 bits: over integers and booleans alone, and over anything with `f64`.

use super::elementwise::{self, program};
use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::wide::{Number, Wide, stores};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result};

pub(super) const INTEGERS: Entry = Entry {
    name: "elementwise_int",
    ops: &[],
    supports: |node| require(all_stored(node)? == 0),
    pack: pack_nothing,
    load: integers,
};
/// What single precision does not serve: `f64`, and types that its kernels do not read.
pub(super) const DOUBLES: Entry = Entry {
    name: "elementwise_f64",
    ops: &[],
    supports: |node| require(all_stored(node)? > 0 && (elementwise::FLOATS.supports)(node).is_none()),
    pack: pack_nothing,
    load: load::<f64>,
};

/// How many inputs and outputs are floats, when all can be read and written.
fn all_stored(node: &NodeView) -> Option<usize> {
    program(node)?;
    require(node.num_inputs() > 0)?;
    let mut floats = 0;
    for i in 0..node.num_inputs() {
        let dtype = node.dtype(i)?;
        require(stores(dtype))?;
        floats += usize::from(dtype.is_float());
    }
    let out = node.output_dtype(0)?;
    require(stores(out))?;
    Some(floats + usize::from(out.is_float()))
}

fn integers(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    // One unsigned operand of 64 bits makes all of it unsigned.
    let unsigned = (0..node.num_inputs()).any(|i| node.dtype(i) == Some(DType::U64));
    if unsigned { load::<u64>(ctx, node, packed) } else { load::<i64>(ctx, node, packed) }
}

fn load<T: Number>(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let bug = || Error::bug("an elementwise node without a program");
    let program = program(node).ok_or_else(bug)?;
    let dtypes: Vec<DType> = (0..node.num_inputs()).map(|i| node.dtype(i).ok_or_else(bug)).collect::<Result<_>>()?;
    let out = node.output_dtype(0).ok_or_else(bug)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let output = args.output(0)?;
        let operands: Vec<(&[usize], DType)> =
            dtypes.iter().enumerate().map(|(i, &d)| Ok((args.shape(i)?, d))).collect::<Result<_>>()?;
        let step = Wide::<T>::new(&program, output, &operands, out)
            .ok_or_else(|| Error::invalid(format!("inputs do not broadcast to shape {output:?}")))?;
        let flops = output.iter().product::<usize>() * program.instrs.len();
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { step.run(&ctx.pool, io.inputs, io.output(0)) }).flops(flops).boxed()
    })
}
