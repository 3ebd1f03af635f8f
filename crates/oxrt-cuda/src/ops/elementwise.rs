//! Elementwise operators, fused chains of them, and casts.

use super::map::{MAX_INPUTS, Map, broadcast, text};
use super::{Entry, contiguous, dtype, output_dtype, require};
use crate::backend::Ctx;
use crate::text::stored;
use oxrt_backend::{Kernel, NodeView, Packing, Precision, bound, kernel};
use oxrt_ops::scalar::{Instr, Program};
use oxrt_tensor::{DType, Error, Result, Tensor};

pub(super) const ELEMENTWISE: Entry = Entry::new("elementwise", &[], supports, pack, load);
pub(super) const CAST: Entry = Entry::new("cast", &["Cast", "CastLike"], cast_supports, pack, load);

/// The program of a node.
fn program(node: &NodeView) -> Option<Program> {
    if matches!(node.op(), "Cast" | "CastLike") {
        return Some(Program { instrs: vec![Instr::Input(0)] });
    }
    let inputs = node.num_inputs();
    let program = match node.attrs().get_string("expr").ok()? {
        Some(text) => text.parse().ok()?,
        None => Program::of_node(node.node()).ok()??,
    };
    let known = |i: &Instr| !matches!(i, Instr::Input(n) if usize::from(*n) >= inputs);
    (inputs <= MAX_INPUTS && program.instrs.iter().all(known)).then_some(program)
}

/// Inputs that the program reads: absent ones (limits of a Clip) have a number all the same.
fn operands(node: &NodeView) -> usize {
    if node.op() == "CastLike" { 1 } else { node.num_inputs() }
}

fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    require(oxrt_ops::registry::find(node.op())?.scalar.is_some() && node.num_inputs() > 0)?;
    program(node)?;
    for i in (0..node.num_inputs()).filter(|&i| node.has(i)) {
        stored(node.dtype(i)?)?;
    }
    stored(node.output_dtype(0)?).map(|_| ())
}

fn cast_supports(_: &Ctx, node: &NodeView) -> Option<()> {
    stored(node.dtype(0)?)?;
    stored(node.output_dtype(0)?).map(|_| ())
}

/// Present inputs, in order, and the program over them.
fn present(node: &NodeView) -> Result<(Vec<usize>, Program)> {
    let mut program = program(node).ok_or_else(|| Error::bug("an elementwise node without a program"))?;
    let present: Vec<usize> = (0..operands(node)).filter(|&i| node.has(i)).collect();
    for instr in &mut program.instrs {
        if let Instr::Input(i) = instr {
            let place = present.iter().position(|p| p == &usize::from(*i));
            *i = place.ok_or_else(|| Error::bug("a program that reads an absent input"))? as u16;
        }
    }
    Ok((present, program))
}

fn types(node: &NodeView) -> Result<(Vec<DType>, DType)> {
    let (present, _) = present(node)?;
    Ok((present.iter().map(|&i| dtype(node, i)).collect::<Result<_>>()?, output_dtype(node, 0)?))
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (inputs, out) = types(node)?;
    let fast = ctx.precision != Precision::F32;
    let wraps = matches!(node.op(), "Cast" | "CastLike");
    let code = ctx.code(&text(&inputs, out, &present(node)?.1, fast, wraps)?)?;
    Ok(Packing { tensors: vec![code], consumed: Vec::new() })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (inputs, out) = types(node)?;
    let (present, program) = present(node)?;
    let map = std::sync::Arc::new(Map::load(ctx, packed.first(), &inputs, out)?);
    kernel(move |args| {
        let output = args.output(0)?;
        let mut strides = Vec::with_capacity(present.len());
        let mut in_place = Vec::new();
        for (k, &i) in present.iter().enumerate() {
            let shape = args.shape(i)?;
            strides.push((broadcast(shape, output)?, 0));
            if shape == output && inputs[k].bytes_for(1) == out.bytes_for(1) {
                in_place.push(i);
            }
        }
        let plan = map.plan(output, &strides, (contiguous(output), 0))?;
        let (map, present) = (map.clone(), present.clone());
        let flops = output.iter().product::<usize>() * program.instrs.len();
        bound(move |io| {
            let ins: Vec<*const u8> = present.iter().map(|&i| io.input(i)).collect();
            // SAFETY: buffers have the bound sizes; one that is shared with an input is read before it is written, by the
            // thread that writes it.
            unsafe { plan.run(&map, io, &ins, io.output(0)) }
        })
        .in_place(&in_place)
        .flops(flops)
        .boxed()
    })
}
