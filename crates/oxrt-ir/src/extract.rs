//! A part of a graph as a graph of its own.

use crate::{Graph, NodeId, ValueId};
use oxrt_tensor::{Result, bail};
use std::collections::BTreeSet;

impl Graph {
    /// Nodes that compute `to` once the values in `from` are given, in list order.
    pub fn nodes_between(&self, from: &dyn Fn(ValueId) -> bool, to: &[ValueId]) -> Vec<NodeId> {
        let mut found = BTreeSet::new();
        let mut stack: Vec<ValueId> = to.to_vec();
        while let Some(v) = stack.pop() {
            if let Some((id, _)) = self[v].producer()
                && (to.contains(&v) || !from(v))
                && found.insert(id)
            {
                stack.extend(self.reads(id).into_iter().filter(|&v| !from(v)));
            }
        }
        self.nodes().map(|(id, _)| id).filter(|id| found.contains(id)).collect()
    }

    /// The part of the graph that computes `to` from `from`. Its inputs are those of `from` that are read, in that order,
    /// then inputs of this graph that are read all the same. Ids of the result are its own.
    ///
    /// # Errors
    /// Without `to`; when a value of `from` is a constant.
    pub fn extracted(&self, from: &[ValueId], to: &[ValueId]) -> Result<Graph> {
        if to.is_empty() {
            bail!(invalid, "no value is named that the part should compute");
        }
        if let Some(&c) = from.iter().find(|&&v| self[v].is_constant()) {
            bail!(invalid, "`{}` is a constant; a part starts at inputs or results of nodes", self[c].name);
        }
        let mut g = self.clone();
        let keep: BTreeSet<NodeId> = self.nodes_between(&|v| from.contains(&v), to).into_iter().collect();
        let gone: Vec<NodeId> = g.node_ids().into_iter().filter(|id| !keep.contains(id)).collect();
        g.remove_nodes(&gone);
        let read: BTreeSet<ValueId> = keep.iter().flat_map(|&id| self.reads(id)).chain(to.iter().copied()).collect();
        // A kept node may make a value that the part starts from: its readers get the given one.
        let mut inputs = Vec::new();
        for &v in from.iter().filter(|v| read.contains(v)) {
            if g[v].producer().is_none() {
                inputs.push(v);
                continue;
            }
            let (name, ty) = (g[v].name.clone(), g[v].ty.clone());
            let made = g.unused_value_name(&format!("{name}_made"));
            let given = g.add_value(&name, ty);
            let outputs = std::mem::take(&mut g.outputs);
            g.replace_uses(v, given);
            g.outputs = outputs;
            g[v].name = made;
            inputs.push(given);
        }
        inputs.extend(self.inputs.iter().copied().filter(|v| read.contains(v) && !from.contains(v)));
        g.inputs = inputs;
        // A result that is also given is the given one.
        g.outputs = to.to_vec();
        g.remove_dead_nodes();
        let missing = g.node_ids().into_iter().flat_map(|id| g.reads(id)).find(|&v| {
            g[v].producer().is_none() && !g[v].is_constant() && !g.inputs.contains(&v) && g[v].contents.is_none()
        });
        if let Some(v) = missing {
            bail!(bug, "`{}` was left without a producer", g[v].name);
        }
        g.sort()?;
        Ok(g.compacted())
    }
}

#[cfg(test)]
mod tests {
    use crate::parse_graph;

    #[test]
    fn parts_have_what_they_need_and_no_more() {
        let g = parse_graph(
            "(f32[4] x, f32[4] z) { a = Relu(x) ; b = Add(a, z) ; c = Mul(b, a) ; d = Neg(c) ; e = Exp(x) } => d, e",
        )
        .unwrap();
        let v = |n: &str| g.find_value(n).unwrap();
        let names = |g: &crate::Graph, list: &[crate::ValueId]| -> Vec<String> {
            list.iter().map(|&v| g[v].name.clone()).collect()
        };
        let part = g.extracted(&[v("a")], &[v("c")]).unwrap();
        assert_eq!(
            (names(&part, &part.inputs), names(&part, &part.outputs)),
            (vec!["a".into(), "z".into()], vec!["c".into()])
        );
        assert_eq!(part.num_nodes(), 2);
        part.verify().unwrap();
        // From an early value to one that needs the inputs beside it.
        let part = g.extracted(&[], &[v("e")]).unwrap();
        assert_eq!((names(&part, &part.inputs), part.num_nodes()), (vec!["x".to_string()], 1));
        // A node that makes two values, of which one is given.
        let g = parse_graph("(f32[4] x) { a, b = Split<axis=0>(x) ; c = Add(a, b) } => c").unwrap();
        let v = |n: &str| g.find_value(n).unwrap();
        let part = g.extracted(&[v("a"), v("x")], &[v("c")]).unwrap();
        assert_eq!((names(&part, &part.inputs), part.num_nodes()), (vec!["a".to_string(), "x".to_string()], 2));
        part.verify().unwrap();
        assert!(g.extracted(&[v("x")], &[]).is_err());
    }
}
