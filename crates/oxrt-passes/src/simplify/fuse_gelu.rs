//! The forms in which exporters write GELU (Hendrycks & Gimpel, 2016).

use crate::driver::{Rewrite, Rule};
use crate::query::{is_scalar, made_by, pair, scalar, with_scalar};
use oxrt_ir::{Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::Result;
use std::f64::consts::{FRAC_1_SQRT_2, PI};

/// ½x(1 + erf(x/√2)), the ½ on either side.
pub(crate) const ERF: Rule = Rule { name: "fuse-gelu", ops: &["Mul"], apply: |rw, id| fuse(rw, id, "none", erf_gate) };

/// ½x(1 + tanh(√(2/π)(x + 0.044715x³)))
pub(crate) const TANH: Rule =
    Rule { name: "fuse-gelu-tanh", ops: &["Mul"], apply: |rw, id| fuse(rw, id, "tanh", tanh_gate) };

fn fuse(rw: &mut Rewrite, id: NodeId, form: &str, gate: fn(&Graph, ValueId, ValueId) -> bool) -> Result<bool> {
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
fn product(g: &Graph, id: NodeId, gate: fn(&Graph, ValueId, ValueId) -> bool) -> Option<ValueId> {
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
    [(x, other), (other, x)].into_iter().find_map(|(x, s)| gate(g, one_plus(s)?, x).then_some(x))
}

/// Whether `v` is erf(x/√2).
fn erf_gate(g: &Graph, v: ValueId, x: ValueId) -> bool {
    let arg = made_by(g, v, "Erf").and_then(|n| g[n].input(0));
    arg.and_then(|arg| polynomial(g, arg, x, 0)).is_some_and(|p| close(p, [0.0, FRAC_1_SQRT_2, 0.0, 0.0]))
}

/// Whether `v` is tanh(√(2/π)(x + 0.044715x³)), in whatever order it is multiplied out.
fn tanh_gate(g: &Graph, v: ValueId, x: ValueId) -> bool {
    let k = (2.0 / PI).sqrt();
    let arg = made_by(g, v, "Tanh").and_then(|n| g[n].input(0));
    arg.and_then(|arg| polynomial(g, arg, x, 0)).is_some_and(|p| close(p, [0.0, k, 0.0, k * 0.044715]))
}

fn close(p: [f64; 4], q: [f64; 4]) -> bool {
    p.iter().zip(q).all(|(p, q)| (p - q).abs() <= 1e-5 * q.abs())
}

/// Deepest expression that is followed.
const MAX_DEPTH: usize = 8;

/// Coefficients, constant first, of `v` as a polynomial in `x` of degree 3 at most.
fn polynomial(g: &Graph, v: ValueId, x: ValueId, depth: usize) -> Option<[f64; 4]> {
    if v == x {
        return Some([0.0, 1.0, 0.0, 0.0]);
    }
    if let Some(c) = scalar(g, v) {
        return Some([c, 0.0, 0.0, 0.0]);
    }
    let (id, _) = g[v].producer().filter(|_| depth < MAX_DEPTH)?;
    let op = &*g[id].op;
    if !matches!(op, "Add" | "Sub" | "Mul" | "Div" | "Pow") {
        return None;
    }
    let (a, b) = pair(g, id)?;
    let (p, q) = (polynomial(g, a, x, depth + 1)?, polynomial(g, b, x, depth + 1)?);
    let number = (q[1..] == [0.0; 3]).then_some(q[0]);
    match op {
        "Add" => Some(std::array::from_fn(|i| p[i] + q[i])),
        "Sub" => Some(std::array::from_fn(|i| p[i] - q[i])),
        "Mul" => product_of(p, q),
        "Div" => number.filter(|&c| c != 0.0).map(|c| p.map(|v| v / c)),
        _ => match number {
            Some(2.0) => product_of(p, p),
            Some(3.0) => product_of(p, product_of(p, p)?),
            _ => None,
        },
    }
}

/// `None` when the degree passes 3.
fn product_of(p: [f64; 4], q: [f64; 4]) -> Option<[f64; 4]> {
    let mut out = [0.0; 4];
    for (i, a) in p.into_iter().enumerate() {
        for (j, b) in q.into_iter().enumerate().filter(|&(_, b)| a * b != 0.0) {
            *out.get_mut(i + j)? += a * b;
        }
    }
    Some(out)
}
