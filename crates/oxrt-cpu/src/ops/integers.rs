//! Elementwise operators and chains over integers and booleans alone.

use super::elementwise::program;
use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::integers::{self, Integers};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_tensor::{Error, Result};

pub(super) const INTEGERS: Entry = Entry { name: "elementwise_int", ops: &[], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    require(integers::supports(&program(node)?) && node.num_inputs() > 0)?;
    for i in 0..node.num_inputs() {
        require(integers::stores(node.dtype(i)?))?;
    }
    require(integers::stores(node.output_dtype(0)?))
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let bug = || Error::bug("an elementwise node without a program");
    let program = program(node).ok_or_else(bug)?;
    let dtypes: Vec<DType> = (0..node.num_inputs()).map(|i| node.dtype(i).ok_or_else(bug)).collect::<Result<_>>()?;
    let out = node.output_dtype(0).ok_or_else(bug)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let output = args.output(0)?;
        let operands: Vec<(&[usize], DType)> =
            dtypes.iter().enumerate().map(|(i, &d)| Ok((args.shape(i)?, d))).collect::<Result<_>>()?;
        let step = Integers::new(&program, output, &operands, out)
            .ok_or_else(|| Error::invalid(format!("inputs do not broadcast to shape {output:?}")))?;
        let flops = output.iter().product::<usize>() * program.instrs.len();
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes.
        bound(move |io| unsafe { step.run(&ctx.pool, io.inputs, io.output(0)) }).flops(flops).boxed()
    })
}
