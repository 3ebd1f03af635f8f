//! What the page draws: a graph with its subgraphs, flat, in columns.

use crate::hierarchy::{self, Groups};
use crate::overlay::{Overlay, Unit};
use crate::weights::{Summary, summarise};
use oxrt_ir::{Attr, Graph, Model, Node, Tensor, ValueId};
use oxrt_plan::{Plan, StepKind};
use serde::Serialize;
use std::collections::{BTreeMap, HashMap, HashSet};

/// Longest text of one attribute.
const LONGEST_TEXT: usize = 400;
/// Bytes of weights that a self-contained page summarises; the rest is named only.
const SUMMARISED: usize = 256 << 20;

/// A graph as the page draws it. Columns of equal length describe nodes, values and groups; texts stand once, in `strings`.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Document {
    pub name: String,
    /// Heading and text, about the whole.
    pub facts: Vec<(String, String)>,
    strings: Vec<String>,
    groups: GroupColumns,
    pub(crate) nodes: NodeColumns,
    pub(crate) values: ValueColumns,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    weights: Vec<WeightRow>,
    pub(crate) overlays: Vec<Overlay>,
    #[serde(skip)]
    interned: HashMap<String, u32>,
    #[serde(skip)]
    tensors: Vec<Tensor>,
    /// Sizes at which costs are numbers.
    #[serde(skip)]
    sizes: BTreeMap<String, i64>,
    /// By node: operations, and bytes of inputs and outputs, at those sizes.
    #[serde(skip)]
    costs: [Vec<Option<f64>>; 2],
}

#[derive(Clone, Debug, Default, Serialize)]
struct GroupColumns {
    parent: Vec<u32>,
    label: Vec<u32>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct NodeColumns {
    pub op: Vec<u32>,
    pub name: Vec<u32>,
    group: Vec<u32>,
    module: Vec<u32>,
    location: Vec<u32>,
    code: Vec<u32>,
    /// Values read and made; −1 stands for an absent one.
    pub inputs: Vec<Vec<i32>>,
    pub outputs: Vec<Vec<i32>>,
    /// Name, text, name, text …
    pub attrs: Vec<Vec<u32>>,
    /// Operations and bytes as expressions, 0 where unknown.
    flops: Vec<u32>,
    bytes: Vec<u32>,
    parameters: Vec<u64>,
    /// Names of the nodes whose work it does.
    pub origins: Vec<Vec<u32>>,
    /// Kernel of an engine's step.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    kernel: Vec<u32>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub(crate) struct ValueColumns {
    pub name: Vec<u32>,
    #[serde(rename = "type")]
    pub ty: Vec<u32>,
    /// Node that makes it; −1: an input, −2: a constant.
    producer: Vec<i32>,
}

#[derive(Clone, Debug, Serialize)]
struct WeightRow {
    value: u32,
    bytes: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    summary: Option<Summary>,
}

/// Which weights are summarised when a document is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Weights {
    /// None: the page asks for them one by one.
    OnDemand,
    /// The smallest first, up to 256 MiB together.
    Inside,
}

impl Document {
    /// Of a model before it is an engine. Its costs are given at `sizes` of dimensions; those not named have their least size.
    pub fn of_model(name: &str, model: &Model, sizes: &BTreeMap<String, i64>) -> Document {
        let least = model.symbols.iter().map(|(s, r)| (s.to_string(), r.min.max(1)));
        let all = least.chain(sizes.iter().map(|(s, &n)| (s.clone(), n))).collect();
        let mut d = Document::start(name, &model.graph, all);
        d.fact("made by", &model.producer);
        if model.opset > 0 {
            d.fact("opset", &model.opset.to_string());
        }
        let dims: Vec<String> = model.symbols.iter().map(|(s, r)| format!("{s} {r}")).collect();
        d.fact("dimensions", &dims.join(", "));
        d
    }

    /// Of an engine: each node is a step.
    pub fn of_plan(name: &str, plan: &Plan) -> Document {
        let tuned = plan.profiles.first().map(|p| p.ranges.iter().map(|(s, r)| (s.to_string(), r.opt)).collect());
        let mut d = Document::start(name, &plan.graph, tuned.unwrap_or_default());
        d.fact("built by", &plan.producer);
        d.fact("device", &format!("{} ({})", plan.backend, plan.target));
        for p in &plan.profiles {
            let ranges: Vec<String> = p.ranges.iter().map(|(s, r)| format!("{s}={r}")).collect();
            d.fact("profile", &ranges.join(" "));
        }
        let kernels: HashMap<_, &str> = plan
            .steps
            .iter()
            .map(|s| {
                let name = match &s.kind {
                    StepKind::Kernel { .. } => s.kind.candidate().unwrap_or_default(),
                    StepKind::Alias => "no work",
                    StepKind::Host => "reference",
                };
                (s.node, name)
            })
            .collect();
        let mut column = vec![0; d.nodes.op.len()];
        for (at, id) in plan.graph.node_ids().into_iter().enumerate() {
            column[at] = d.intern(kernels.get(&id).copied().unwrap_or_default());
        }
        d.nodes.kernel = column;
        d
    }

    fn start(name: &str, g: &Graph, sizes: BTreeMap<String, i64>) -> Document {
        let mut d = Document { name: name.to_string(), sizes, ..Document::default() };
        d.intern("");
        let mut groups = Groups::new(name);
        let values = d.add_graph(g, &mut groups, 0, &HashMap::new());
        d.inputs = g.inputs.iter().map(|v| values[v.0 as usize]).collect();
        d.outputs = g.outputs.iter().map(|v| values[v.0 as usize]).collect();
        d.groups.parent = groups.parent.iter().map(|&p| p as u32).collect();
        d.groups.label = groups.label.iter().map(|l| d.intern(l)).collect();
        let ports = |list: &[ValueId]| {
            let one = |v: &ValueId| format!("{} {}", g[*v].name, g[*v].ty);
            list.iter().map(one).collect::<Vec<_>>().join(", ")
        };
        let parameters = d.nodes.parameters.iter().map(|&p| (p > 0).then_some(p as f64)).collect();
        let [operations, bytes] = std::mem::take(&mut d.costs);
        let overlay = |name: &str, unit, values| Overlay { name: name.to_string(), unit, values, names: Vec::new() };
        d.overlays.push(overlay("operations", Unit::Count, operations));
        d.overlays.push(overlay("bytes moved", Unit::Bytes, bytes));
        d.overlays.push(overlay("parameters", Unit::Count, parameters));
        let at: Vec<String> = d.sizes.iter().map(|(s, n)| format!("{s}={n}")).collect();
        d.fact("costs at", &at.join(" "));
        d.fact("nodes", &d.nodes.op.len().to_string());
        d.fact("inputs", &ports(&g.inputs));
        d.fact("outputs", &ports(&g.outputs));
        d
    }

    /// Adds a heading and its text; an empty text says nothing.
    pub fn fact(&mut self, heading: &str, text: &str) {
        if !text.is_empty() {
            self.facts.push((heading.to_string(), text.to_string()));
        }
    }

    pub(crate) fn intern(&mut self, text: &str) -> u32 {
        if let Some(&i) = self.interned.get(text) {
            return i;
        }
        let i = self.strings.len() as u32;
        self.strings.push(text.to_string());
        self.interned.insert(text.to_string(), i);
        i
    }

    pub(crate) fn text(&self, i: u32) -> &str {
        &self.strings[i as usize]
    }

    /// Number of nodes, those of subgraphs included.
    pub fn num_nodes(&self) -> usize {
        self.nodes.op.len()
    }

    /// Name of a node.
    pub fn node_name(&self, node: usize) -> &str {
        self.text(self.nodes.name[node])
    }

    /// Appends a graph below a group. `outer` gives the place of values that it captures. Returns the place of each value.
    fn add_graph(&mut self, g: &Graph, groups: &mut Groups, root: usize, outer: &HashMap<ValueId, u32>) -> Vec<u32> {
        let mut place: Vec<u32> = Vec::new();
        for v in g.value_ids() {
            if let Some(&o) = outer.get(&v) {
                place.push(o);
                continue;
            }
            let value = &g[v];
            let (name, ty) = (self.intern(&value.name), self.intern(&value.ty.to_string()));
            place.push(self.values.name.len() as u32);
            self.values.name.push(name);
            self.values.ty.push(ty);
            self.values.producer.push(if value.is_constant() || value.packed || value.contents.is_some() {
                -2
            } else {
                -1
            });
            if let Some(t) = &value.constant {
                self.weights.push(WeightRow { value: place[v.0 as usize], bytes: t.bytes().len(), summary: None });
                self.tensors.push(t.clone());
            }
        }
        let nodes: Vec<(oxrt_ir::NodeId, &Node)> = g.nodes().collect();
        let constant = of_constants(g);
        let paths: Vec<(Vec<&str>, &str)> = nodes
            .iter()
            .map(|(id, n)| {
                let path = hierarchy::path(n.source.as_deref().map_or("", |s| &s.module), &n.name);
                // Beside the modules of a model, what only prepares weights would be all that is seen.
                let apart = path.is_empty() && constant.len() >= LONGEST_ROW && constant.contains(id);
                (if apart { vec!["constants"] } else { path }, &*n.op)
            })
            .collect();
        let of = hierarchy::assign(groups, root, &paths);
        let first = self.nodes.op.len();
        let mut bodies = Vec::new();
        for (at, (id, node)) in nodes.iter().enumerate() {
            let mut group = of[at];
            if node.subgraphs().next().is_some() {
                group = groups.add(group, format!("{} {}", node.op, node.name));
                bodies.extend(node.subgraphs().map(|(name, body)| (group, name.to_string(), body)));
            }
            self.add_node(g, *id, node, group, &place);
        }
        for (at, (_, node)) in nodes.iter().enumerate() {
            for v in node.outputs().iter().flatten() {
                self.values.producer[place[v.0 as usize] as usize] = (first + at) as i32;
            }
        }
        for (group, name, body) in bodies {
            let inner = groups.add(group, name);
            let captured = body.captures.iter().map(|&(o, i)| (i, place[o.0 as usize])).collect();
            self.add_graph(body, groups, inner, &captured);
        }
        place
    }

    fn add_node(&mut self, g: &Graph, id: oxrt_ir::NodeId, node: &Node, group: usize, place: &[u32]) {
        let cost = oxrt_ops::cost::cost(g, id);
        let source = node.source.as_deref().cloned().unwrap_or_default();
        let ids =
            |list: &[Option<ValueId>]| list.iter().map(|v| v.map_or(-1, |v| place[v.0 as usize] as i32)).collect();
        let (inputs, outputs) = (ids(node.inputs()), ids(node.outputs()));
        let mut attrs = Vec::new();
        for (name, attr) in node.attrs.iter().filter(|(_, a)| !matches!(a, Attr::Graph(_) | Attr::Graphs(_))) {
            attrs.push(self.intern(name));
            attrs.push(self.intern(&attr_text(attr)));
        }
        let number =
            |e: &Option<oxrt_ir::Dim>| Some(e.as_ref()?.eval(&|s| self.sizes.get(s.as_str()).copied())? as f64);
        // The nodes of a body stand beside theirs, with their own costs.
        let holds_bodies = node.subgraphs().next().is_some();
        let costs = if holds_bodies { [Some(0.0); 2] } else { [number(&cost.flops), number(&cost.bytes)] };
        self.costs.iter_mut().zip(costs).for_each(|(column, x)| column.push(x));
        let times = if cost.per_turn { " per turn" } else { "" };
        let text = |e: Option<oxrt_ir::Dim>| e.map_or(String::new(), |e| format!("{e}{times}"));
        let row = [
            node.op.to_string(),
            node.name.clone(),
            source.module,
            source.location,
            source.code,
            text(cost.flops),
            text(cost.bytes),
        ];
        let [op, name, module, location, code, flops, bytes] = row.map(|t| self.intern(&t));
        let origins = node.origins.iter().map(|o| self.intern(o)).collect();
        let n = &mut self.nodes;
        n.op.push(op);
        n.name.push(name);
        n.group.push(group as u32);
        n.module.push(module);
        n.location.push(location);
        n.code.push(code);
        n.inputs.push(inputs);
        n.outputs.push(outputs);
        n.attrs.push(attrs);
        n.flops.push(flops);
        n.bytes.push(bytes);
        n.parameters.push(if holds_bodies { 0 } else { cost.parameters as u64 });
        n.origins.push(origins);
    }

    /// Adds figures per node.
    pub fn overlay(&mut self, overlay: Overlay) {
        self.overlays.push(overlay);
    }

    /// Nodes by name; of equal names the first.
    pub(crate) fn nodes_by_name(&self) -> BTreeMap<&str, usize> {
        let mut map = BTreeMap::new();
        (0..self.num_nodes()).for_each(|n| {
            map.entry(self.node_name(n)).or_insert(n);
        });
        map
    }

    /// For each node of the model, the nodes of `made` (a simplified graph, an engine) that do its work.
    pub fn heirs(&self, made: &Document) -> Vec<Vec<usize>> {
        let index = self.nodes_by_name();
        let mut heirs = vec![Vec::new(); self.num_nodes()];
        for (step, origins) in made.nodes.origins.iter().enumerate() {
            for origin in origins {
                if let Some(&n) = index.get(made.text(*origin)) {
                    heirs[n].push(step);
                }
            }
        }
        heirs
    }

    /// As JSON.
    pub(crate) fn to_json(&self, weights: Weights) -> serde_json::Result<Vec<u8>> {
        let mut out = self.clone();
        if weights == Weights::Inside {
            let mut order: Vec<usize> = (0..out.weights.len()).collect();
            order.sort_by_key(|&w| out.weights[w].bytes);
            let mut left = SUMMARISED;
            for w in order {
                let bytes = out.weights[w].bytes;
                if bytes > left {
                    break;
                }
                left -= bytes;
                out.weights[w].summary = Some(summarise(&self.tensors[w]));
            }
        }
        serde_json::to_vec(&out)
    }

    /// The summary of one weight, as JSON; `None` when there is no such weight.
    pub(crate) fn weight_json(&self, weight: usize) -> Option<Vec<u8>> {
        serde_json::to_vec(&summarise(self.tensors.get(weight)?)).ok()
    }
}

fn attr_text(attr: &Attr) -> String {
    let text = match attr {
        Attr::Int(x) => x.to_string(),
        Attr::Float(x) => x.to_string(),
        Attr::String(s) => s.clone(),
        Attr::Ints(x) => format!("{x:?}"),
        Attr::Floats(x) => format!("{:?}", &x[..x.len().min(64)]),
        Attr::Strings(x) => format!("{:?}", &x[..x.len().min(32)]),
        Attr::Tensor(t) => format!("{t:?}"),
        Attr::Tensors(ts) => format!("{} tensors", ts.len()),
        Attr::Type(t) => t.to_string(),
        Attr::Graph(_) | Attr::Graphs(_) => "graph".to_string(),
    };
    match text.char_indices().nth(LONGEST_TEXT) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

/// Nodes of constants beyond which they are put into a group.
const LONGEST_ROW: usize = 4;

/// Nodes that depend on constants alone.
fn of_constants(g: &Graph) -> HashSet<oxrt_ir::NodeId> {
    let mut found = HashSet::new();
    for (id, node) in g.nodes() {
        let known = |v: &ValueId| g[*v].is_constant() || g[*v].producer().is_some_and(|(n, _)| found.contains(&n));
        if !node.outputs().is_empty() && node.subgraphs().next().is_none() && g.reads(id).iter().all(known) {
            found.insert(id);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::parse_graph;

    pub(crate) fn document(text: &str) -> Document {
        let mut m = Model { graph: parse_graph(text).unwrap(), ..Model::default() };
        oxrt_ops::infer::infer_model(&mut m).unwrap();
        Document::of_model("m", &m, &BTreeMap::new())
    }

    #[test]
    fn columns_describe_the_graph() {
        let d = document("(f32[n, 4] x) { a = MatMul(x, f32[4, 3]{1}); y = Relu(a) } => y");
        let json: serde_json::Value = serde_json::from_slice(&d.to_json(Weights::Inside).unwrap()).unwrap();
        let text = |i: &serde_json::Value| json["strings"][i.as_u64().unwrap() as usize].as_str().unwrap().to_string();
        assert_eq!(text(&json["nodes"]["op"][1]), "Relu");
        assert_eq!(text(&json["nodes"]["flops"][0]), "24*n");
        let value = json["nodes"]["inputs"][1][0].as_u64().unwrap() as usize;
        assert_eq!(text(&json["values"]["type"][value]), "f32[n, 3]");
        assert_eq!(json["values"]["producer"][value], 0);
        assert_eq!(json["weights"][0]["summary"]["stats"]["mean"], 1.0);
        let later: serde_json::Value = serde_json::from_slice(&d.to_json(Weights::OnDemand).unwrap()).unwrap();
        assert!(later["weights"][0]["summary"].is_null());
        assert!(d.weight_json(0).is_some() && d.weight_json(1).is_none());
    }
}
