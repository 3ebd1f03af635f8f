//! Chains of elementwise operators become one, run tile by tile without writing what lies between.

use crate::driver::{Rewrite, Rule};
use crate::query::only_user;
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_ops::registry;
use oxrt_ops::scalar::{Emit, Program, Reg};
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "fuse-elementwise", ops: &[], apply };

/// Bounds on one fused chain: inputs keep their pointers in registers, tiles of all results stay in L1.
const MAX_INPUTS: usize = 8;
const MAX_INSTRS: usize = 48;

/// The program of an elementwise node on f32, and its inputs.
fn program(g: &Graph, id: NodeId) -> Option<(Program, Vec<ValueId>)> {
    let node = &g[id];
    let scalar = registry::find(&node.op)?.scalar?;
    let f32 = |v: ValueId| g[v].ty.dtype() == Some(DType::F32);
    let inputs: Vec<ValueId> = node.inputs().iter().copied().collect::<Option<_>>()?;
    let all = inputs.iter().copied().chain(node.output(0)).all(f32);
    let named = node.outputs().len() == 1 && inputs.iter().all(|&v| g.dims(v).is_some());
    if !all || !named {
        return None;
    }
    Some((Program::of(scalar, &node.attrs, inputs.len()).ok()?, inputs))
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let Some((outer, outer_inputs)) = program(g, id) else { return Ok(false) };
    let Some(y) = g[id].output(0) else { return Ok(false) };
    // A producer that nobody else reads, of the full size of the result: nothing is computed twice.
    let inner = outer_inputs.iter().copied().find_map(|v| {
        let (p, _) = g[v].producer()?;
        let full = g.dims(v)? == g.dims(y)?;
        (full && only_user(g, v) == Some(id)).then(|| program(g, p).map(|prog| (v, p, prog))).flatten()
    });
    let Some((v, producer, (inner, inner_inputs))) = inner else { return Ok(false) };
    let mut inputs: Vec<ValueId> = Vec::new();
    let mut slot = |v: ValueId| {
        inputs.iter().position(|&x| x == v).unwrap_or_else(|| {
            inputs.push(v);
            inputs.len() - 1
        })
    };
    let mut e = Emit::default();
    let args: Vec<Reg> = inner_inputs.iter().map(|&x| e.input(slot(x))).collect();
    let result = e.inline(&inner, &args);
    let args: Vec<Reg> = outer_inputs.iter().map(|&x| if x == v { result } else { e.input(slot(x)) }).collect();
    let result = e.inline(&outer, &args);
    let fused = e.finish(result);
    if inputs.len() > MAX_INPUTS || fused.instrs.len() > MAX_INSTRS {
        return Ok(false);
    }
    // Inputs that the program no longer reads are dropped with their numbers.
    let (fused, inputs) = without_unused(fused, inputs);
    let attrs = Attrs::new().with("expr", fused.to_string()).with("dtype", DType::F32.to_onnx() as i64);
    let new = rw.builder(id).op("oxrt.Elementwise", &inputs, attrs)?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, new);
    g.remove_node(producer);
    Ok(true)
}

fn without_unused(program: Program, inputs: Vec<ValueId>) -> (Program, Vec<ValueId>) {
    use oxrt_ops::scalar::Instr;
    let used: Vec<u16> = (0..inputs.len() as u16).filter(|i| program.instrs.contains(&Instr::Input(*i))).collect();
    if used.len() == inputs.len() {
        return (program, inputs);
    }
    let renumber = |i: u16| used.iter().position(|&u| u == i).unwrap_or(0) as u16;
    let instrs = program.instrs.into_iter().map(|i| match i {
        Instr::Input(i) => Instr::Input(renumber(i)),
        other => other,
    });
    (Program { instrs: instrs.collect() }, used.iter().map(|&u| inputs[u as usize]).collect())
}
