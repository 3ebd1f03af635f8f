//! A graph in the place of a node.

use crate::{Attr, Attrs, Graph, NodeId, ValueId};
use oxrt_tensor::{Error, Result};
use std::collections::{HashMap, HashSet};

impl Graph {
    /// Puts the nodes of `body` in the place of node `id`, whose results become those of `body`. Inputs of `body` are the inputs of the
    /// node in order, its captures the values that they name. Nodes take the source of `id` where they have none.
    ///
    /// # Errors
    /// When the body has fewer results than the node.
    pub fn splice(&mut self, id: NodeId, body: &Graph) -> Result<()> {
        let mut map: HashMap<ValueId, ValueId> = body.captures.iter().map(|&(outer, inner)| (inner, outer)).collect();
        let given: Vec<ValueId> = self[id].inputs().iter().flatten().copied().collect();
        map.extend(body.inputs.iter().copied().zip(given));
        let (source, prefix) = (self[id].source.clone(), self[id].name.clone());
        let mut taken: HashSet<String> = self.value_ids().map(|v| self[v].name.clone()).collect();
        let mut mapped = |graph: &mut Graph, v: ValueId| {
            *map.entry(v).or_insert_with(|| {
                let value = &body[v];
                let mut name = value.name.clone();
                for n in 1.. {
                    if taken.insert(name.clone()) {
                        break;
                    }
                    name = format!("{}_{n}", value.name);
                }
                let new = graph.add_value(&name, value.ty.clone());
                (graph[new].contents, graph[new].made_up) = (value.contents.clone(), value.made_up);
                if let Some(t) = &value.constant {
                    graph.set_constant(new, t.clone());
                }
                new
            })
        };
        let mut names: HashSet<String> = HashSet::new();
        for (_, node) in body.nodes() {
            let mut list = |ids: &[Option<ValueId>]| ids.iter().map(|v| v.map(|v| mapped(self, v))).collect::<Vec<_>>();
            let (inputs, outputs) = (list(node.inputs()), list(node.outputs()));
            let mut attrs = node.attrs.clone();
            for attr in attrs.0.values_mut() {
                let graphs: &mut [Graph] = match attr {
                    Attr::Graph(g) => std::slice::from_mut(&mut **g),
                    Attr::Graphs(gs) => gs,
                    _ => continue,
                };
                graphs.iter_mut().flat_map(|g| &mut g.captures).for_each(|c| c.0 = mapped(self, c.0));
            }
            // Nodes of a function may have no names.
            let base = match node.name.is_empty() || node.name.ends_with('/') {
                true => format!("{}{}", node.name, node.op),
                false => node.name.clone(),
            };
            let mut name = base.clone();
            while !names.insert(name.clone()) {
                name = format!("{base}_{}", names.len());
            }
            let new = self.add_node_with_outputs(&node.op, &name, &inputs, attrs, &outputs);
            (self[new].source, self[new].origins) = (node.source.clone().or(source.clone()), node.origins.clone());
        }
        let old = self[id].outputs().to_vec();
        if old.len() > body.outputs.len() {
            return Err(Error::invalid(format!(
                "{} results are asked of a body that has {}",
                old.len(),
                body.outputs.len()
            ))
            .at(self[id].describe()));
        }
        let mut results: Vec<ValueId> = Vec::new();
        for &v in &body.outputs {
            let new = mapped(self, v);
            // A result that is an input, a constant, or a result already needs a value of its own.
            let own = self[new].producer().is_some() && !self.is_output(new) && !results.contains(&new);
            // What a capture names has other readers, who know it by its name.
            let own = own && !body.captures.iter().any(|c| c.1 == v);
            results.push(if own {
                new
            } else {
                let node = self.add_node(
                    "Identity",
                    &format!("{prefix}/Identity_{}", results.len()),
                    &[Some(new)],
                    Attrs::new(),
                    1,
                );
                let out = self[node].output(0).ok_or_else(|| Error::bug("no output"))?;
                (self[out].ty, self[out].contents) = (self[new].ty.clone(), self[new].contents.clone());
                out
            });
        }
        self.remove_node(id);
        for (old, new) in old.into_iter().zip(results) {
            if let Some(old) = old {
                self.replace_value(old, new);
            }
        }
        Ok(())
    }
}
