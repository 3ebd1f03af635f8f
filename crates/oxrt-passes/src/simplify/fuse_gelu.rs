//! The forms in which exporters write GELU (Hendrycks & Gimpel, 2016).

use crate::driver::{Rewrite, Rule};
use crate::query::{is_scalar, made_by, pair, scalar, with_scalar};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::Result;

/// ½x(1 + erf(x/√2)), the ½ on either side.
pub(crate) const ERF: Rule = Rule { name: "fuse-gelu", ops: &["Mul"], apply: |rw, id| fuse(rw, id, "none", erf_gate) };

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
pub(crate) const TANH: Rule =
    Rule { name: "fuse-gelu-tanh", ops: &["Mul"], apply: |rw, id| fuse(rw, id, "tanh", tanh_gate) };

fn fuse(rw: &mut Rewrite, id: NodeId, form: &str, gate: fn(&Graph, ValueId) -> Option<ValueId>) -> Result<bool> {
    let Some(x) = product(&rw.model.graph, id, gate) else { return Ok(false) };
    let Some(y) = rw.model.graph[id].output(0) else { return Ok(false) };
    let mut b = rw.builder(id);
    let attrs = if form == "none" { Attrs::new() } else { Attrs::new().with("approximate", form) };
    let new = b.op("Gelu", &[x], attrs)?;
    rw.model.graph.remove_node(id);
    rw.model.graph.replace_value(y, new);
    Ok(true)
}

/// `x` of ½ · x · (1 + gate(x)), multiplied in any order.
fn product(g: &Graph, id: NodeId, gate: fn(&Graph, ValueId) -> Option<ValueId>) -> Option<ValueId> {
    // All factors of the (at most three-way) product.
    let mut factors = Vec::new();
    let (a, b) = pair(g, id)?;
    for v in [a, b] {
        match made_by(g, v, "Mul").and_then(|m| pair(g, m)) {
            Some((p, q)) if g[v].users().len() == 1 => factors.extend([p, q]),
            _ => factors.push(v),
        }
    }
    let [_, _, _] = factors[..] else { return None };
    let half = factors.iter().position(|&v| is_scalar(g, v, 0.5))?;
    factors.remove(half);
    let one_plus = |v: ValueId| {
        let (c, t) = with_scalar(g, made_by(g, v, "Add")?)?;
        (c == 1.0).then_some(t)
    };
    let (x, other) = (factors[0], factors[1]);
    [(x, other), (other, x)].into_iter().find_map(|(x, s)| (gate(g, one_plus(s)?)? == x).then_some(x))
}

/// `x` of erf(x/√2).
fn erf_gate(g: &Graph, v: ValueId) -> Option<ValueId> {
    let arg = g[made_by(g, v, "Erf")?].input(0)?;
    if let Some(div) = made_by(g, arg, "Div") {
        let (x, c) = pair(g, div)?;
        return is_scalar(g, c, std::f64::consts::SQRT_2).then_some(x);
    }
    let (c, x) = with_scalar(g, made_by(g, arg, "Mul")?)?;
    ((c - std::f64::consts::FRAC_1_SQRT_2).abs() < 1e-6).then_some(x)
}

/// `x` of tanh(√(2/π)(x + 0.044715x³)).
fn tanh_gate(g: &Graph, v: ValueId) -> Option<ValueId> {
    let arg = g[made_by(g, v, "Tanh")?].input(0)?;
    let (k, sum) = with_scalar(g, made_by(g, arg, "Mul")?)?;
    if (k - (2.0 / std::f64::consts::PI).sqrt()).abs() > 1e-5 {
        return None;
    }
    let (a, b) = pair(g, made_by(g, sum, "Add")?)?;
    [(a, b), (b, a)].into_iter().find_map(|(x, term)| {
        let (c, cube) = with_scalar(g, made_by(g, term, "Mul")?)?;
        if (c - 0.044715).abs() > 1e-6 {
            return None;
        }
        let is_cube = match made_by(g, cube, "Pow") {
            Some(p) => pair(g, p).is_some_and(|(base, e)| base == x && scalar(g, e) == Some(3.0)),
            None => made_by(g, cube, "Mul").and_then(|m| pair(g, m)).is_some_and(|(p, q)| {
                [(p, q), (q, p)]
                    .into_iter()
                    .any(|(sq, y)| y == x && made_by(g, sq, "Mul").and_then(|m| pair(g, m)) == Some((x, x)))
            }),
        };
        is_cube.then_some(x)
    })
}
