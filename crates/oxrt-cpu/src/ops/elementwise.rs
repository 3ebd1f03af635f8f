//! Elementwise operators and fused chains of them: everything that has a scalar program.

use super::{Entry, format, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::elementwise::{Elementwise, MAX_INPUTS};
use crate::kernels::elementwise::Format;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::scalar::{Instr, Program};
use oxrt_tensor::{Error, Result};

/// Programs that compute in `f32`, whatever the stored types.
pub(crate) const FLOATS: Entry = Entry { name: "elementwise", ops: &[], supports, pack: super::pack_nothing, load };

/// The program of a node.
pub(super) fn program(node: &NodeView) -> Option<Program> {
    let program = match node.attrs().get_string(PROGRAM).ok()? {
        Some(text) => text.parse().ok()?,
        None => Program::of(oxrt_ops::registry::find(node.op())?.scalar?, node.attrs(), node.num_inputs()).ok()?,
    };
    let inputs = node.num_inputs();
    let known = |i: &Instr| !matches!(i, Instr::Input(n) if usize::from(*n) >= inputs);
    (inputs <= MAX_INPUTS && program.instrs.iter().all(known)).then_some(program)
}

/// The attribute that holds a fused chain's program.
const PROGRAM: &str = "expr";

fn supports(node: &NodeView) -> Option<()> {
    program(node)?;
    let mut floats = 0;
    for i in 0..node.num_inputs() {
        let dtype = node.dtype(i)?;
        format(dtype)?;
        floats += usize::from(dtype.is_float());
    }
    // Integers alone have arithmetic of their own.
    require(floats > 0)?;
    let out = node.output_dtype(0)?;
    require(matches!(out, DType::F32 | DType::F16 | DType::BF16 | DType::Bool))
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let bug = || Error::bug("an elementwise node without a program");
    let program = program(node).ok_or_else(bug)?;
    let formats: Vec<Format> =
        (0..node.num_inputs()).map(|i| node.dtype(i).and_then(format).ok_or_else(bug)).collect::<Result<_>>()?;
    let out_format = node.output_dtype(0).and_then(format).ok_or_else(bug)?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let output = args.output(0)?;
        let operands: Vec<(&[usize], Format)> =
            formats.iter().enumerate().map(|(i, &f)| Ok((args.shape(i)?, f))).collect::<Result<_>>()?;
        let in_place: Vec<usize> = (0..operands.len())
            .filter(|&i| operands[i].0 == output && formats[i].size() == out_format.size())
            .collect();
        let step = Elementwise::new(ctx.kernels, &program, output, &operands, out_format, ctx.threads())
            .ok_or_else(|| Error::invalid(format!("inputs do not broadcast to shape {output:?}")))?;
        let flops = step.flops();
        let ctx = ctx.clone();
        // SAFETY: buffers have the bound sizes; one that is shared with an input has that input's shape and element size.
        bound(move |io| unsafe { step.run(&ctx.pool, io.inputs, io.output(0)) })
            .in_place(&in_place)
            .flops(flops)
            .boxed()
    })
}
