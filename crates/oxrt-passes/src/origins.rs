//! Whose work a rewritten node does.
//!
//! A rule replaces some nodes by others and says nothing about it. What it did is read off the list of changes that the
//! graph keeps: the nodes that went, or that nobody reads any more, have their origins handed to the nodes that took
//! their place.

use oxrt_ir::{Edit, Graph, NodeId, ValueId};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Operators that rules put around others to carry data to them: what they are made for is done by the others.
const MOVERS: &[&str] = &["Transpose", "Reshape", "Squeeze", "Unsqueeze", "Cast", "Identity"];

/// Hands on origins after a rule changed the neighbourhood of `id`. Nodes from `first_new` on are the rule's.
pub(crate) fn hand_on(g: &mut Graph, id: NodeId, first_new: NodeId) {
    let mut orphans: Vec<Arc<str>> = Vec::new();
    let mut perhaps_unread: Vec<ValueId> = Vec::new();
    let mut replacements: Vec<ValueId> = Vec::new();
    let mut rewired: Vec<NodeId> = Vec::new();
    for edit in g.take_edits() {
        match edit {
            Edit::Removed { origins, read } => {
                orphans.extend(origins);
                perhaps_unread.extend(read);
            }
            Edit::Replaced { old, new } => {
                perhaps_unread.push(old);
                replacements.push(new);
            }
            Edit::Rewired { node, was } => {
                rewired.push(node);
                perhaps_unread.extend(was);
            }
        }
    }
    // The sweep removes unread nodes later; what they did is done by others from now on.
    let mut dead = BTreeSet::new();
    while let Some(v) = perhaps_unread.pop() {
        let Some((node, _)) = g[v].producer() else { continue };
        let outputs = g[node].outputs();
        let unread = |o: ValueId| !g.is_output(o) && g[o].users().iter().all(|u| dead.contains(u));
        if dead.contains(&node) || outputs.is_empty() || !outputs.iter().flatten().all(|&o| unread(o)) {
            continue;
        }
        dead.insert(node);
        perhaps_unread.extend(g.reads(node));
        orphans.extend(std::mem::take(&mut g[node].origins));
    }
    let alive = |g: &Graph, n: NodeId| g.is_alive(n) && !dead.contains(&n);
    let mut heirs: Vec<NodeId> = (first_new.0..g.next_node().0).map(NodeId).filter(|&n| alive(g, n)).collect();
    let carries = |g: &Graph, n: NodeId| MOVERS.contains(&&*g[n].op);
    if heirs.iter().any(|&n| !carries(g, n)) {
        heirs.retain(|&n| !carries(g, n));
    }
    if heirs.is_empty() {
        heirs = replacements.iter().filter_map(|&v| Some(g[v].producer()?.0)).filter(|&n| alive(g, n)).collect();
    }
    if heirs.is_empty() {
        heirs = rewired.into_iter().filter(|&n| alive(g, n)).collect();
    }
    if heirs.is_empty() && alive(g, id) {
        heirs.push(id);
    }
    if orphans.is_empty() && g.is_alive(id) {
        // A new node beside one that stays does a part of its work.
        orphans = g[id].origins.clone();
        heirs.retain(|n| n.0 >= first_new.0 && !MOVERS.contains(&&*g[*n].op));
    }
    for heir in heirs {
        for origin in &orphans {
            if !g[heir].origins.contains(origin) {
                g[heir].origins.push(origin.clone());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use oxrt_ir::parse_graph;

    fn origins(text: &str, engine: bool) -> Vec<String> {
        let mut model = oxrt_ir::Model { graph: parse_graph(text).unwrap(), ..Default::default() };
        oxrt_ops::infer::infer_model(&mut model).unwrap();
        model.graph.seed_origins();
        match engine {
            true => crate::prepare_engine(&mut model, &crate::Options::default()).unwrap(),
            false => crate::simplify(&mut model, &crate::Options::default()).unwrap(),
        };
        let g = &model.graph;
        g.nodes().map(|(_, n)| format!("{}: {}", n.op, n.origins.join(" "))).collect()
    }

    #[test]
    fn a_fused_node_does_the_work_of_all_that_it_replaces() {
        let gelu = "(f32[n, 8] x) {
            a = Div(x, 1.4142135)
            b = Erf(a)
            c = Add(b, 1)
            d = Mul(x, c)
            y = Mul(d, 0.5)
        } => y";
        let made = origins(gelu, false);
        assert_eq!(made.len(), 1, "{made:?}");
        let mut names: Vec<&str> = made[0].strip_prefix("Gelu: ").unwrap().split(' ').collect();
        names.sort_unstable();
        assert_eq!(names, ["a", "b", "c", "d", "y"]);
    }

    #[test]
    fn a_removed_node_is_done_by_its_producer_and_a_chain_by_one() {
        let made = origins("(f32[n] x) { a = Relu(x); b = Identity(a); y = Exp(b) } => y", false);
        assert_eq!(made, ["Relu: a b", "Exp: y"]);
        let made = origins("(f32[n] x) { a = Relu(x); b = Identity(a); y = Exp(b) } => y", true);
        assert_eq!(made.len(), 1, "{made:?}");
        assert!(made[0].starts_with("oxrt.Elementwise: "));
        for name in ["a", "b", "y"] {
            assert!(made[0].contains(&format!(" {name}")), "{made:?}");
        }
    }
}
