//! Recurrent layers whose batch comes first are those whose steps come first, turned.

use crate::driver::{Rewrite, Rule};
use oxrt_ir::NodeId;
use oxrt_tensor::Result;

pub(crate) const RULE: Rule = Rule { name: "lower-recurrent-layout", ops: &["LSTM", "GRU", "RNN"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    if !g[id].attrs.bool_or("layout", false)? || g[id].input(0).is_none_or(|x| g.dims(x).is_none()) {
        return Ok(false);
    }
    let mut inputs = g[id].inputs().to_vec();
    let (op, old, mut attrs) = (g[id].op.clone(), g[id].outputs().to_vec(), g[id].attrs.clone());
    attrs.set("layout", 0);
    let mut b = rw.builder(id);
    // Data and initial states; weights and lengths know no batch.
    for i in [0, 5, 6] {
        if let Some(Some(v)) = inputs.get(i).copied() {
            inputs[i] = Some(b.transpose(v, &[1, 0, 2])?);
        }
    }
    let made = b.op_multi(&op, &inputs, attrs, old.len())?;
    let mut turned = Vec::new();
    for (i, (&v, old)) in made.iter().zip(&old).enumerate() {
        if let Some(old) = old {
            turned.push((*old, b.transpose(v, if i == 0 { &[2, 0, 1, 3] } else { &[1, 0, 2] })?));
        }
    }
    let g = &mut rw.model.graph;
    g.remove_node(id);
    turned.into_iter().for_each(|(old, new)| g.replace_value(old, new));
    Ok(true)
}
