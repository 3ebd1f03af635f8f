//! What changed between two models.

use crate::Document;
use serde::Serialize;

/// How nodes of two documents correspond.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// For each node of the first: its counterpart in the second, or −1.
    pub left: Vec<i64>,
    /// For each node of the second: its counterpart in the first, or −1.
    pub right: Vec<i64>,
    /// What differs between counterparts, by node of the first; empty where nothing does.
    pub notes: Vec<String>,
}

/// Finds counterparts by name, by the names of results, by origin, and then by operator along the order of execution
/// between those found.
pub fn compare(a: &Document, b: &Document) -> Comparison {
    let mut left = vec![-1i64; a.num_nodes()];
    let mut right = vec![-1i64; b.num_nodes()];
    let same_op = |x: usize, y: usize| plain(a.text(a.nodes.op[x])) == plain(b.text(b.nodes.op[y]));
    let pair = |left: &mut Vec<i64>, right: &mut Vec<i64>, x: usize, y: usize| {
        if left[x] < 0 && right[y] < 0 {
            (left[x], right[y]) = (y as i64, x as i64);
        }
    };
    let names = b.nodes_by_name();
    for x in 0..a.num_nodes() {
        if let Some(&y) = names.get(a.node_name(x)).filter(|&&y| same_op(x, y)) {
            pair(&mut left, &mut right, x, y);
        }
    }
    let first_result =
        |d: &Document, n: usize| d.nodes.outputs[n].first().filter(|v| **v >= 0).map(|&v| d.values.name[v as usize]);
    let results: std::collections::HashMap<&str, usize> =
        (0..b.num_nodes()).filter_map(|y| Some((b.text(first_result(b, y)?), y))).collect();
    for x in 0..a.num_nodes() {
        let found = first_result(a, x).and_then(|v| results.get(a.text(v)).copied());
        if let Some(y) = found.filter(|&y| same_op(x, y)) {
            pair(&mut left, &mut right, x, y);
        }
    }
    for (x, heirs) in a.heirs(b).into_iter().enumerate() {
        if let Some(&y) = heirs.iter().find(|&&y| same_op(x, y)).or(heirs.first()) {
            pair(&mut left, &mut right, x, y);
        }
    }
    // What is left between two pairs is matched by operator, in order.
    let mut y = 0;
    for x in 0..a.num_nodes() {
        if left[x] >= 0 {
            y = left[x] as usize + 1;
            continue;
        }
        let end = (y..b.num_nodes()).find(|&k| right[k] >= 0).unwrap_or(b.num_nodes());
        if let Some(k) = (y..end).find(|&k| same_op(x, k)) {
            pair(&mut left, &mut right, x, k);
            y = k + 1;
        }
    }
    let notes =
        (0..a.num_nodes()).map(|x| if left[x] < 0 { String::new() } else { differences(a, x, b, left[x] as usize) });
    Comparison { notes: notes.collect(), left, right }
}

/// An engine's operator is the standard one, fused.
fn plain(op: &str) -> &str {
    op.strip_prefix("oxrt.").unwrap_or(op)
}

fn differences(a: &Document, x: usize, b: &Document, y: usize) -> String {
    let mut notes = Vec::new();
    let (op_a, op_b) = (a.text(a.nodes.op[x]), b.text(b.nodes.op[y]));
    if op_a != op_b {
        notes.push(format!("operator {op_a} → {op_b}"));
    }
    let attrs = |d: &Document, n: usize| -> std::collections::BTreeMap<String, String> {
        d.nodes.attrs[n].chunks(2).map(|kv| (d.text(kv[0]).to_string(), d.text(kv[1]).to_string())).collect()
    };
    let (aa, bb) = (attrs(a, x), attrs(b, y));
    for name in aa.keys().chain(bb.keys().filter(|k| !aa.contains_key(*k))) {
        let show = |v: Option<&String>| v.cloned().unwrap_or_else(|| "absent".to_string());
        if aa.get(name) != bb.get(name) {
            notes.push(format!("{name}: {} → {}", show(aa.get(name)), show(bb.get(name))));
        }
    }
    let types = |d: &Document, list: &[i32]| -> Vec<String> {
        list.iter()
            .map(|&v| if v < 0 { "absent".to_string() } else { d.text(d.values.ty[v as usize]).to_string() })
            .collect()
    };
    for (what, la, lb) in
        [("input", &a.nodes.inputs[x], &b.nodes.inputs[y]), ("output", &a.nodes.outputs[x], &b.nodes.outputs[y])]
    {
        let (ta, tb) = (types(a, la), types(b, lb));
        if ta.len() != tb.len() {
            notes.push(format!("{} {what}s → {}", ta.len(), tb.len()));
        }
        for (i, (p, q)) in ta.iter().zip(&tb).enumerate().filter(|(_, (p, q))| p != q) {
            notes.push(format!("{what} {i}: {p} → {q}"));
        }
    }
    notes.join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::{Model, parse_graph};

    fn document(text: &str) -> Document {
        Document::of_model("m", &Model { graph: parse_graph(text).unwrap(), ..Model::default() }, &Default::default())
    }

    #[test]
    fn equal_models_differ_nowhere() {
        let d = document("(f32[4] x) { a = Exp(x); y = Relu(a) } => y");
        let c = compare(&d, &d);
        assert_eq!((c.left, c.right), (vec![0, 1], vec![0, 1]));
        assert!(c.notes.iter().all(String::is_empty));
    }

    #[test]
    fn changes_removals_and_additions() {
        let a = document("(f32[4] x) { a = Exp(x); b = Identity(a); y = Softmax<axis=0>(b) } => y");
        let b = document("(f32[4] x) { c = Exp(x); y = Softmax<axis=-1>(c); z = Neg(y) } => z");
        let c = compare(&a, &b);
        assert_eq!(c.left, [0, -1, 1], "renamed, removed, changed");
        assert_eq!(c.right, [0, 2, -1], "the last is new");
        assert_eq!(c.notes[2], "axis: 0 → -1");
    }
}
