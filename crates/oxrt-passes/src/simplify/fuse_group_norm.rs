//! InstanceNormalization between two Reshapes, then a scale and shift per channel, is GroupNormalization
//! (Wu & He, 2018): the form in which exporters write it below opset 21. Scales of ones and shifts of zeros may be missing.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, only_user, pair, varies_along};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::{DType, Result, Tensor};

pub(crate) const RULE: Rule = Rule { name: "fuse-group-norm", ops: &["Add", "Mul", "Reshape"], apply };

struct Found {
    x: ValueId,
    groups: i64,
    epsilon: f32,
    scale: Vec<f32>,
    bias: Vec<f32>,
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let Some(f) = find(&rw.model.graph, id) else { return Ok(false) };
    let Some(y) = rw.model.graph[id].output(0) else { return Ok(false) };
    let mut b = rw.builder(id);
    let channels = f.scale.len();
    let scale = b.constant(Tensor::from_slice(&[channels], &f.scale));
    let bias = b.constant(Tensor::from_slice(&[channels], &f.bias));
    let attrs = Attrs::new().with("num_groups", f.groups).with("epsilon", f.epsilon);
    let new = b.op("GroupNormalization", &[f.x, scale, bias], attrs)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}

fn find(g: &Graph, id: NodeId) -> Option<Found> {
    let constant_side = |id: NodeId| {
        let (a, b) = pair(g, id)?;
        if g[b].is_constant() { Some((a, b)) } else { g[a].is_constant().then_some((b, a)) }
    };
    // What follows belongs to it: then the rule is for that node.
    let followed_by = |id: NodeId, ops: &[&str]| {
        let user = g[id].output(0).and_then(|v| only_user(g, v));
        user.is_some_and(|u| ops.contains(&&*g[u].op) && constant_side(u).is_some())
    };
    let (mut at, mut scale, mut bias) = (id, None, None);
    if &*g[at].op == "Add" {
        let (scaled, b) = constant_side(at)?;
        (at, bias) = (only_user(g, scaled).and(g[scaled].producer())?.0, Some(b));
    } else if followed_by(at, &["Add"]) {
        return None;
    }
    if &*g[at].op == "Mul" {
        let (normal, s) = constant_side(at)?;
        (at, scale) = (only_user(g, normal).and(g[normal].producer())?.0, Some(s));
    } else if at == id && followed_by(at, &["Mul"]) {
        return None;
    }
    let back = (&*g[at].op == "Reshape").then_some(at)?;
    let normal = g[back].output(0)?;
    let norm = made_by(g, g[back].input(0)?, "InstanceNormalization")?;
    let grouped = g[norm].input(0)?;
    let x = g[made_by(g, grouped, "Reshape")?].input(0)?;
    let (dx, dg) = (g.dims(x)?, g.dims(grouped)?);
    let rank = dx.len();
    // [N, C, …] → [N, groups, rest], and back to the same dimensions.
    let (channels, groups) = (dx.get(1)?.as_size()?, dg.get(1)?.as_size()?);
    if dg.len() != 3 || dg[0] != dx[0] || g.dims(normal)? != dx || groups == 0 || channels % groups != 0 {
        return None;
    }
    let all = |i: usize, want: f32| {
        let t = g.constant(g[norm].input(i)?)?;
        (t.dtype() == DType::F32 && t.as_slice::<f32>().iter().all(|&v| v == want)).then_some(())
    };
    all(1, 1.0)?;
    all(2, 0.0)?;
    let per_channel = |v: Option<ValueId>, without: f32| {
        let Some(v) = v else { return Some(vec![without; channels]) };
        let t = g.constant(v)?;
        let fits = t.dtype() == DType::F32 && varies_along(t, 1, rank) && t.len() == channels;
        fits.then(|| t.as_slice::<f32>().to_vec())
    };
    let epsilon = g[norm].attrs.float_or("epsilon", 1e-5).ok()?;
    Some(Found { x, groups: groups as i64, epsilon, scale: per_channel(scale, 1.0)?, bias: per_channel(bias, 0.0)? })
}
