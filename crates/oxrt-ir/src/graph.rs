//! Values, nodes and the graph that owns them.

use crate::{Attr, Attrs, Contents, Dim, Symbols, TensorType, ValueType};
use oxrt_tensor::{Error, Result, Tensor, bail};
use std::collections::BTreeMap;
use std::sync::Arc;

/// A graph with the symbols of its dimensions and what its file says about itself.
#[derive(Clone, Debug, Default)]
pub struct Model {
    pub graph: Graph,
    pub symbols: Symbols,
    /// Free text of the file (`metadata_props` of ONNX).
    pub metadata: BTreeMap<String, String>,
    pub producer: String,
    /// Opset of the default domain in the file this came from; the graph itself is at the newest.
    pub opset: i64,
}

/// Index of a value in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ValueId(pub u32);

/// Index of a node in its graph.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct NodeId(pub u32);

/// Where a node was written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Source {
    /// Module path, as `encoder.layer.0.attention`.
    pub module: String,
    /// `file.py:42`, or empty.
    pub location: String,
    /// The line of code, or empty.
    pub code: String,
}

/// One value: an input, a constant, or the result of a node.
#[derive(Clone, Debug, PartialEq)]
pub struct Value {
    pub name: String,
    pub ty: ValueType,
    /// Set for constants (weights).
    pub constant: Option<Tensor>,
    /// Known elements of a small integer tensor.
    pub contents: Option<Contents>,
    /// A constant of an engine whose data exists only in the packed form of its readers.
    pub packed: bool,
    /// The name was made up by a rewrite; the source has none for this value.
    pub made_up: bool,
    producer: Option<(NodeId, usize)>,
    users: Vec<NodeId>,
}

/// One operator call. Inputs and outputs may be absent (`None`), as ONNX's empty names.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// `Conv`, or `domain.Op` outside the default domain: `com.microsoft.Gelu`, `oxrt.Conv`.
    pub op: Arc<str>,
    pub name: String,
    pub attrs: Attrs,
    pub source: Option<Arc<Source>>,
    /// Names of the nodes whose work this one does, where rewrites keep them ([`Graph::seed_origins`]); else empty.
    pub origins: Vec<Arc<str>>,
    inputs: Vec<Option<ValueId>>,
    outputs: Vec<Option<ValueId>>,
}

impl Node {
    pub fn inputs(&self) -> &[Option<ValueId>] {
        &self.inputs
    }

    pub fn outputs(&self) -> &[Option<ValueId>] {
        &self.outputs
    }

    /// Input `i`, when present.
    pub fn input(&self, i: usize) -> Option<ValueId> {
        self.inputs.get(i).copied().flatten()
    }

    /// Output `i`, when present.
    pub fn output(&self, i: usize) -> Option<ValueId> {
        self.outputs.get(i).copied().flatten()
    }

    /// The graphs among the attributes.
    pub fn subgraphs(&self) -> impl Iterator<Item = (&str, &Graph)> {
        self.attrs.iter().flat_map(|(name, attr)| {
            let graphs: &[Graph] = match attr {
                Attr::Graph(g) => std::slice::from_ref(&**g),
                Attr::Graphs(gs) => gs,
                _ => &[],
            };
            graphs.iter().map(move |g| (name, g))
        })
    }

    /// `Conv "backbone/conv1"`, with the Python line where known: for messages.
    pub fn describe(&self) -> String {
        let place = match self.source.as_deref() {
            Some(s) if !s.location.is_empty() && !s.module.is_empty() => format!(" ({} in {})", s.location, s.module),
            Some(s) if !s.location.is_empty() => format!(" ({})", s.location),
            Some(s) if !s.module.is_empty() => format!(" (in {})", s.module),
            _ => String::new(),
        };
        format!("{} \"{}\"{place}", self.op, self.name)
    }
}

/// A directed acyclic graph in single-assignment form.
///
/// Nodes keep a list order that is topological after [`Graph::sort`]; passes may break it in between.
/// A subgraph (body of `If`, `Loop`, `Scan`) names the outer values that it reads in `captures`.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Graph {
    pub name: String,
    pub inputs: Vec<ValueId>,
    pub outputs: Vec<ValueId>,
    /// For a subgraph: (value of the enclosing graph, value in here that stands for it).
    pub captures: Vec<(ValueId, ValueId)>,
    values: Vec<Value>,
    nodes: Vec<Option<Node>>,
    order: Vec<NodeId>,
    /// What was changed since [`Graph::record_edits`]; `None` while nobody asks.
    edits: Option<Vec<Edit>>,
}

/// A change of a graph, as far as it matters for whose work a node does.
#[derive(Clone, Debug, PartialEq)]
pub enum Edit {
    /// A node went, with its origins and what it read.
    Removed { origins: Vec<Arc<str>>, read: Vec<ValueId> },
    /// Readers of `old` read `new`.
    Replaced { old: ValueId, new: ValueId },
    /// A node reads other values than `was`.
    Rewired { node: NodeId, was: Vec<ValueId> },
}

impl std::ops::Index<ValueId> for Graph {
    type Output = Value;
    fn index(&self, id: ValueId) -> &Value {
        &self.values[id.0 as usize]
    }
}

impl std::ops::IndexMut<ValueId> for Graph {
    fn index_mut(&mut self, id: ValueId) -> &mut Value {
        &mut self.values[id.0 as usize]
    }
}

impl std::ops::Index<NodeId> for Graph {
    type Output = Node;
    fn index(&self, id: NodeId) -> &Node {
        self.nodes[id.0 as usize].as_ref().expect("the node was removed")
    }
}

impl std::ops::IndexMut<NodeId> for Graph {
    fn index_mut(&mut self, id: NodeId) -> &mut Node {
        self.nodes[id.0 as usize].as_mut().expect("the node was removed")
    }
}

impl Value {
    pub fn is_constant(&self) -> bool {
        self.constant.is_some()
    }

    /// Node and output index that make this value; `None` for inputs and constants.
    pub fn producer(&self) -> Option<(NodeId, usize)> {
        self.producer
    }

    /// Nodes that read this value, one entry per node, subgraph captures included.
    pub fn users(&self) -> &[NodeId] {
        &self.users
    }
}

impl Graph {
    pub fn new(name: &str) -> Graph {
        Graph { name: name.to_string(), ..Graph::default() }
    }

    // ---- values ----

    pub fn add_value(&mut self, name: &str, ty: ValueType) -> ValueId {
        let id = ValueId(self.values.len() as u32);
        let name = name.to_string();
        self.values.push(Value {
            name,
            ty,
            constant: None,
            contents: None,
            packed: false,
            made_up: false,
            producer: None,
            users: Vec::new(),
        });
        id
    }

    pub fn add_input(&mut self, name: &str, ty: ValueType) -> ValueId {
        let id = self.add_value(name, ty);
        self.inputs.push(id);
        id
    }

    pub fn add_constant(&mut self, name: &str, tensor: Tensor) -> ValueId {
        let id = self.add_value(name, TensorType::of(&tensor).into());
        self.set_constant(id, tensor);
        id
    }

    /// Makes a value (of no producer) a constant.
    pub fn set_constant(&mut self, id: ValueId, tensor: Tensor) {
        let value = &mut self[id];
        value.ty = TensorType::of(&tensor).into();
        value.contents = Contents::of(&tensor);
        value.constant = Some(tensor);
    }

    pub fn value_ids(&self) -> impl Iterator<Item = ValueId> + use<> {
        (0..self.values.len() as u32).map(ValueId)
    }

    pub fn constant(&self, id: ValueId) -> Option<&Tensor> {
        self[id].constant.as_ref()
    }

    pub fn dims(&self, id: ValueId) -> Option<&[Dim]> {
        self[id].ty.dims()
    }

    pub fn is_output(&self, id: ValueId) -> bool {
        self.outputs.contains(&id)
    }

    /// The producing node, when there is one.
    pub fn producer(&self, id: ValueId) -> Option<&Node> {
        self[id].producer.map(|(n, _)| &self[n])
    }

    pub fn find_value(&self, name: &str) -> Option<ValueId> {
        self.value_ids().find(|&v| self[v].name == name)
    }

    /// `base`, or `base_1`, `base_2` …: the first that no value has.
    pub fn unused_value_name(&self, base: &str) -> String {
        let taken: std::collections::HashSet<&str> = self.values.iter().map(|v| v.name.as_str()).collect();
        std::iter::once(base.to_string())
            .chain((1..).map(|i| format!("{base}_{i}")))
            .find(|n| !taken.contains(n.as_str()))
            .expect("the names are endless")
    }

    // ---- nodes ----

    /// Appends a node with `outputs` new values named after it. Types are left unknown.
    pub fn add_node(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[Option<ValueId>],
        attrs: Attrs,
        outputs: usize,
    ) -> NodeId {
        let outputs: Vec<_> = (0..outputs)
            .map(|i| {
                let value_name = if i == 0 { name.to_string() } else { format!("{name}_out{i}") };
                Some(self.add_value(&value_name, ValueType::Unknown))
            })
            .collect();
        self.add_node_with_outputs(op, name, inputs, attrs, &outputs)
    }

    /// Appends a node that makes existing values, which must have no producer yet.
    pub fn add_node_with_outputs(
        &mut self,
        op: &str,
        name: &str,
        inputs: &[Option<ValueId>],
        attrs: Attrs,
        outputs: &[Option<ValueId>],
    ) -> NodeId {
        let id = NodeId(self.nodes.len() as u32);
        let node = Node {
            op: op.into(),
            name: name.to_string(),
            attrs,
            source: None,
            origins: Vec::new(),
            inputs: inputs.to_vec(),
            outputs: outputs.to_vec(),
        };
        for (i, v) in outputs.iter().enumerate() {
            if let Some(v) = v {
                debug_assert!(self[*v].producer.is_none(), "{} already has a producer", self[*v].name);
                self[*v].producer = Some((id, i));
            }
        }
        self.nodes.push(Some(node));
        self.order.push(id);
        self.link(id);
        id
    }

    /// Nodes in list order.
    pub fn node_ids(&self) -> Vec<NodeId> {
        self.order.clone()
    }

    pub fn nodes(&self) -> impl Iterator<Item = (NodeId, &Node)> {
        self.order.iter().map(|&id| (id, &self[id]))
    }

    pub fn num_nodes(&self) -> usize {
        self.order.len()
    }

    /// Nodes, those of graphs inside of nodes included.
    pub fn count_nodes(&self) -> usize {
        self.nodes().map(|(_, n)| 1 + n.subgraphs().map(|(_, g)| g.count_nodes()).sum::<usize>()).sum()
    }

    pub fn is_alive(&self, id: NodeId) -> bool {
        self.nodes.get(id.0 as usize).is_some_and(Option::is_some)
    }

    /// Everything a node reads: its inputs and what its subgraphs capture.
    pub fn reads(&self, id: NodeId) -> Vec<ValueId> {
        let node = &self[id];
        let captured = node.subgraphs().flat_map(|(_, g)| g.captures.iter().map(|c| c.0));
        node.inputs.iter().flatten().copied().chain(captured).collect()
    }

    fn link(&mut self, id: NodeId) {
        for v in self.reads(id) {
            let users = &mut self[v].users;
            if users.last() != Some(&id) && !users.contains(&id) {
                users.push(id);
            }
        }
    }

    fn unlink(&mut self, id: NodeId) {
        for v in self.reads(id) {
            self[v].users.retain(|&u| u != id);
        }
    }

    /// Replaces input `i` of a node (extending the list when needed).
    pub fn set_input(&mut self, id: NodeId, i: usize, value: Option<ValueId>) {
        self.unlink(id);
        self.record(|g| Edit::Rewired { node: id, was: g[id].inputs.iter().flatten().copied().collect() });
        let inputs = &mut self[id].inputs;
        if inputs.len() <= i {
            inputs.resize(i + 1, None);
        }
        inputs[i] = value;
        self.link(id);
    }

    pub fn set_inputs(&mut self, id: NodeId, inputs: &[Option<ValueId>]) {
        self.unlink(id);
        self.record(|g| Edit::Rewired { node: id, was: g[id].inputs.iter().flatten().copied().collect() });
        self[id].inputs = inputs.to_vec();
        self.link(id);
    }

    /// Adds an output value to a node.
    pub fn push_output(&mut self, id: NodeId, value: Option<ValueId>) {
        let i = self[id].outputs.len();
        if let Some(v) = value {
            self[v].producer = Some((id, i));
        }
        self[id].outputs.push(value);
    }

    /// Changes attributes that may hold subgraphs, keeping the users of captured values right.
    pub fn edit_attrs<R>(&mut self, id: NodeId, edit: impl FnOnce(&mut Attrs) -> R) -> R {
        self.unlink(id);
        let result = edit(&mut self[id].attrs);
        self.link(id);
        result
    }

    /// Removes a node; its outputs lose their producer.
    pub fn remove_node(&mut self, id: NodeId) {
        self.unlink(id);
        self.record(|g| Edit::Removed { origins: g[id].origins.clone(), read: g.reads(id) });
        for v in self[id].outputs.clone().into_iter().flatten() {
            self[v].producer = None;
        }
        self.nodes[id.0 as usize] = None;
        self.order.retain(|&n| n != id);
    }

    /// Removes many nodes in one pass over the order.
    pub fn remove_nodes(&mut self, ids: &[NodeId]) {
        for &id in ids {
            self.unlink(id);
            self.record(|g| Edit::Removed { origins: g[id].origins.clone(), read: g.reads(id) });
            for v in self[id].outputs.clone().into_iter().flatten() {
                self[v].producer = None;
            }
            self.nodes[id.0 as usize] = None;
        }
        let nodes = &self.nodes;
        self.order.retain(|n| nodes[n.0 as usize].is_some());
    }

    /// Makes every reader of `old` read `new`: nodes, captures and graph outputs.
    pub fn replace_uses(&mut self, old: ValueId, new: ValueId) {
        self.record(|_| Edit::Replaced { old, new });
        for user in self[old].users.clone() {
            self.unlink(user);
            let node = &mut self[user];
            node.inputs.iter_mut().filter(|v| **v == Some(old)).for_each(|v| *v = Some(new));
            for attr in node.attrs.0.values_mut() {
                let graphs: &mut [Graph] = match attr {
                    Attr::Graph(g) => std::slice::from_mut(&mut **g),
                    Attr::Graphs(gs) => gs,
                    _ => continue,
                };
                for capture in graphs.iter_mut().flat_map(|g| &mut g.captures).filter(|c| c.0 == old) {
                    capture.0 = new;
                }
            }
            self.link(user);
        }
        self.outputs.iter_mut().filter(|v| **v == old).for_each(|v| *v = new);
    }

    /// Replaces `old` by `new` everywhere. `new` takes the name of `old`, which is what it now holds: values keep their names
    /// through a rewrite, graph outputs always, others unless `new` is itself an input, a constant or an output.
    pub fn replace_value(&mut self, old: ValueId, new: ValueId) {
        let was_output = self.is_output(old);
        let is_fixed = self[new].producer.is_none() || self.is_output(new);
        self.replace_uses(old, new);
        if was_output || !is_fixed {
            let name = std::mem::take(&mut self[old].name);
            let previous = std::mem::replace(&mut self[new].name, name);
            self[old].name = previous;
            let made_up = self[old].made_up;
            self[old].made_up = std::mem::replace(&mut self[new].made_up, made_up);
        }
    }

    /// Nodes in topological order (stable: the list order where it is already one).
    ///
    /// # Errors
    /// Names a node on a cycle.
    pub fn sort(&mut self) -> Result<()> {
        let mut missing = vec![0u32; self.nodes.len()];
        let mut position = vec![0usize; self.nodes.len()];
        for (at, &id) in self.order.iter().enumerate() {
            position[id.0 as usize] = at;
            let mut producers: Vec<NodeId> =
                self.reads(id).iter().filter_map(|&v| self[v].producer).map(|p| p.0).collect();
            producers.sort_unstable();
            producers.dedup();
            missing[id.0 as usize] = producers.len() as u32;
        }
        let mut ready: std::collections::BinaryHeap<_> = (self.order.iter())
            .filter(|n| missing[n.0 as usize] == 0)
            .map(|&n| std::cmp::Reverse((position[n.0 as usize], n)))
            .collect();
        let mut sorted = Vec::with_capacity(self.order.len());
        while let Some(std::cmp::Reverse((_, id))) = ready.pop() {
            sorted.push(id);
            let mut users: Vec<NodeId> =
                self[id].outputs.iter().flatten().flat_map(|&v| self[v].users.iter().copied()).collect();
            users.sort_unstable();
            users.dedup();
            for user in users {
                let left = &mut missing[user.0 as usize];
                *left -= 1;
                if *left == 0 {
                    ready.push(std::cmp::Reverse((position[user.0 as usize], user)));
                }
            }
        }
        if sorted.len() != self.order.len() {
            let stuck = self.order.iter().find(|n| missing[n.0 as usize] > 0).expect("one is left");
            bail!(invalid, "the graph has a cycle through {}", self[*stuck].describe());
        }
        self.order = sorted;
        Ok(())
    }

    /// Removes nodes whose results nobody reads, and unlinks nothing else. Returns how many went.
    ///
    /// A node without outputs is there for what it does (a check), and stays with all that it reads.
    pub fn remove_dead_nodes(&mut self) -> usize {
        let mut alive = vec![false; self.nodes.len()];
        let mut stack: Vec<ValueId> = self.outputs.clone();
        for (id, _) in self.nodes().filter(|(_, n)| n.outputs.is_empty()).collect::<Vec<_>>() {
            alive[id.0 as usize] = true;
            stack.extend(self.reads(id));
        }
        while let Some(v) = stack.pop() {
            if let Some((n, _)) = self[v].producer
                && !std::mem::replace(&mut alive[n.0 as usize], true)
            {
                stack.extend(self.reads(n));
            }
        }
        let dead: Vec<NodeId> = self.order.iter().copied().filter(|n| !alive[n.0 as usize]).collect();
        self.remove_nodes(&dead);
        dead.len()
    }

    /// Drops captures that nothing reads, and reads a value of the enclosing graph through one capture.
    pub fn tidy_captures(&mut self) {
        let mut first: Vec<(ValueId, ValueId)> = Vec::new();
        for (outer, inner) in std::mem::take(&mut self.captures) {
            match first.iter().find(|c| c.0 == outer) {
                Some(&(_, same)) => self.replace_uses(inner, same),
                None => first.push((outer, inner)),
            }
        }
        first.retain(|c| !self[c.1].users.is_empty() || self.is_output(c.1));
        self.captures = first;
    }

    /// Drops values that nothing refers to and renumbers the rest. Ids from before are void.
    #[must_use]
    pub fn compacted(&self) -> Graph {
        let mut out = Graph::new(&self.name);
        let mut map: Vec<Option<ValueId>> = vec![None; self.values.len()];
        fn copy(from: &Graph, out: &mut Graph, map: &mut [Option<ValueId>], v: ValueId) -> ValueId {
            *map[v.0 as usize].get_or_insert_with(|| {
                let mut value = from[v].clone();
                (value.producer, value.users) = (None, Vec::new());
                out.values.push(value);
                ValueId(out.values.len() as u32 - 1)
            })
        }
        out.inputs = self.inputs.iter().map(|&v| copy(self, &mut out, &mut map, v)).collect();
        out.captures = self.captures.iter().map(|&(o, v)| (o, copy(self, &mut out, &mut map, v))).collect();
        for (_, node) in self.nodes() {
            let mut node = node.clone();
            let rename = |v: &Option<ValueId>, out: &mut Graph, map: &mut Vec<Option<ValueId>>| {
                v.map(|v| copy(self, out, map, v))
            };
            let inputs: Vec<_> = node.inputs.iter().map(|v| rename(v, &mut out, &mut map)).collect();
            let outputs: Vec<_> = node.outputs.iter().map(|v| rename(v, &mut out, &mut map)).collect();
            for attr in node.attrs.0.values_mut() {
                let graphs: &mut [Graph] = match attr {
                    Attr::Graph(g) => std::slice::from_mut(&mut **g),
                    Attr::Graphs(gs) => gs,
                    _ => continue,
                };
                for g in graphs {
                    g.captures.iter_mut().for_each(|c| c.0 = copy(self, &mut out, &mut map, c.0));
                }
            }
            let (op, source, origins) = (node.op.clone(), node.source.take(), std::mem::take(&mut node.origins));
            let id = out.add_node_with_outputs(&op, &node.name, &inputs, node.attrs, &outputs);
            (out[id].source, out[id].origins) = (source, origins);
        }
        out.outputs = self.outputs.iter().map(|&v| copy(self, &mut out, &mut map, v)).collect();
        out
    }

    /// An input by name, or an error that lists the names there are.
    pub fn input_named(&self, name: &str) -> Result<ValueId> {
        self.inputs.iter().copied().find(|&v| self[v].name == name).ok_or_else(|| {
            let names: Vec<&str> = self.inputs.iter().map(|&v| self[v].name.as_str()).collect();
            Error::invalid(format!("there is no input `{name}`; the inputs are {}", names.join(", ")))
        })
    }

    // ---- where nodes come from ----

    /// Makes every node its own origin, unless some node has origins already.
    pub fn seed_origins(&mut self) {
        if self.nodes().all(|(_, n)| n.origins.is_empty()) {
            for node in self.nodes.iter_mut().flatten() {
                node.origins = vec![node.name.as_str().into()];
            }
        }
    }

    /// Starts or stops to keep a list of what is changed.
    pub fn record_edits(&mut self, on: bool) {
        self.edits = on.then(Vec::new);
    }

    /// What was changed since the last call; empty while nothing is recorded.
    pub fn take_edits(&mut self) -> Vec<Edit> {
        self.edits.as_mut().map(std::mem::take).unwrap_or_default()
    }

    fn record(&mut self, edit: impl FnOnce(&Graph) -> Edit) {
        if let Some(mut edits) = self.edits.take() {
            edits.push(edit(self));
            self.edits = Some(edits);
        }
    }

    /// The id that the next node will get: all ids from here on are newer than what is there now.
    pub fn next_node(&self) -> NodeId {
        NodeId(self.nodes.len() as u32)
    }

    pub(crate) fn num_slots(&self) -> usize {
        self.nodes.len()
    }
}
