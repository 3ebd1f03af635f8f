//! Initial states of zeros are what recurrent operators start from anyway.

use crate::driver::{Rewrite, Rule};
use crate::query::is_filled;
use oxrt_ir::{Graph, NodeId, ValueId};
use oxrt_tensor::Result;

/// The rule's name, to be left out where such a state is looked for.
pub const ZERO_STATES: &str = "remove-zero-states";

pub(crate) const RULE: Rule = Rule { name: ZERO_STATES, ops: &["LSTM", "GRU", "RNN"], apply };

/// How far zeros are followed.
const MAX_STEPS: usize = 8;

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &mut rw.model.graph;
    let zero = |i: &usize| g[id].input(*i).is_some_and(|v| is_zeros(g, v, 0));
    let states: Vec<usize> = [5, 6].into_iter().filter(zero).collect();
    if states.is_empty() {
        return Ok(false);
    }
    let mut inputs = g[id].inputs().to_vec();
    states.iter().for_each(|&i| inputs[i] = None);
    while inputs.last().is_some_and(Option::is_none) {
        inputs.pop();
    }
    g.set_inputs(id, &inputs);
    Ok(true)
}

/// Whether every element is zero, whatever the sizes.
fn is_zeros(g: &Graph, v: ValueId, steps: usize) -> bool {
    if g.constant(v).is_some() {
        return is_filled(g, v, 0.0);
    }
    let Some(node) = g.producer(v).filter(|_| steps < MAX_STEPS) else { return false };
    match &*node.op {
        "Expand" | "Tile" | "Reshape" | "Transpose" | "Squeeze" | "Unsqueeze" | "Flatten" | "Slice" | "Split"
        | "Gather" | "Identity" | "Cast" => node.input(0).is_some_and(|x| is_zeros(g, x, steps + 1)),
        "Concat" => node.inputs().iter().all(|x| x.is_some_and(|x| is_zeros(g, x, steps + 1))),
        "ConstantOfShape" => match node.attrs.get_tensor("value") {
            Ok(None) => true,
            Ok(Some(t)) => t.to_f64_vec().is_ok_and(|x| x.iter().all(|&x| x == 0.0)),
            Err(_) => false,
        },
        _ => false,
    }
}
