//! Structural checks that hold for every graph between passes.

use crate::{Graph, NodeId};
use oxrt_tensor::{Result, bail};
use std::collections::HashMap;

impl Graph {
    /// Checks single assignment, order, links between values and nodes, and the uniqueness of names.
    ///
    /// # Errors
    /// The first broken rule, with the node or value that breaks it.
    pub fn verify(&self) -> Result<()> {
        let mut position: HashMap<NodeId, usize> = HashMap::new();
        for (at, (id, node)) in self.nodes().enumerate() {
            if position.insert(id, at).is_some() {
                bail!(bug, "{} stands twice in the order", node.describe());
            }
        }
        for (id, node) in self.nodes() {
            for (i, v) in node.outputs().iter().enumerate() {
                let Some(v) = *v else { continue };
                if self[v].producer() != Some((id, i)) {
                    bail!(bug, "output {i} of {} does not point back at it", node.describe());
                }
                if self[v].is_constant() || self.inputs.contains(&v) {
                    bail!(bug, "{} writes `{}`, an input or constant", node.describe(), self[v].name);
                }
            }
            for v in self.reads(id) {
                if v.0 as usize >= self.value_ids().count() {
                    bail!(bug, "{} reads a value that does not exist", node.describe());
                }
                if !self[v].users().contains(&id) {
                    bail!(bug, "`{}` does not know its reader {}", self[v].name, node.describe());
                }
                match self[v].producer() {
                    Some((p, _)) if position[&p] >= position[&id] => {
                        bail!(invalid, "{} reads `{}` before it is made", node.describe(), self[v].name)
                    }
                    Some(_) => {}
                    None if self.is_source(v) => {}
                    None => bail!(invalid, "{} reads `{}`, which nothing makes", node.describe(), self[v].name),
                }
            }
            for (_, g) in node.subgraphs() {
                g.verify()?;
            }
        }
        for &v in &self.outputs {
            if self[v].producer().is_none() && !self.is_source(v) {
                bail!(invalid, "the graph output `{}` is never made", self[v].name);
            }
        }
        let mut names: HashMap<&str, crate::ValueId> = HashMap::new();
        let live = self.nodes().flat_map(|(_, n)| n.outputs().iter().flatten().copied());
        for v in self.inputs.iter().copied().chain(live) {
            let name = self[v].name.as_str();
            if names.insert(name, v).is_some_and(|other| other != v) {
                bail!(invalid, "two values are named `{name}`");
            }
        }
        debug_assert!(self.num_slots() >= position.len());
        Ok(())
    }

    fn is_source(&self, v: crate::ValueId) -> bool {
        // A value with known contents and no producer is computed from the sizes when they are bound.
        self[v].is_constant()
            || self[v].packed
            || self[v].contents.is_some()
            || self.inputs.contains(&v)
            || self.captures.iter().any(|c| c.1 == v)
    }
}
