//! Graphs and plans as JSON with tensors apart.

use crate::plan::{PackedKernel, Plan, Profile, SizeRange, Step, StepKind};
use oxrt_ir::{
    Attr, Attrs, Contents, DType, Dim, Graph, NodeId, Range, Source, Symbol, Symbols, Tensor, TensorType, ValueId,
    ValueType,
};
use oxrt_tensor::{Context, Error, Result, bail, num_elements};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::sync::Arc;

#[derive(Serialize, Deserialize)]
pub(crate) struct PlanJson {
    producer: String,
    backend: String,
    target: String,
    symbols: BTreeMap<String, (i64, Option<i64>)>,
    profiles: Vec<BTreeMap<String, (i64, i64, Option<i64>)>>,
    metadata: BTreeMap<String, String>,
    steps: Vec<StepJson>,
    graph: GraphJson,
    pub(crate) tensors: Vec<TensorJson>,
}

#[derive(Serialize, Deserialize)]
pub(crate) struct TensorJson {
    dtype: String,
    shape: Vec<usize>,
    pub(crate) start: usize,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    strings: Option<Vec<String>>,
}

#[derive(Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
enum StepJson {
    Kernel {
        node: u32,
        kernels: Vec<(String, Vec<usize>)>,
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        by_work: Vec<(u64, usize)>,
        consumed: Vec<usize>,
    },
    Alias {
        node: u32,
    },
    Host {
        node: u32,
    },
}

#[derive(Serialize, Deserialize)]
struct GraphJson {
    name: String,
    inputs: Vec<u32>,
    outputs: Vec<u32>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    captures: Vec<(u32, u32)>,
    values: Vec<ValueJson>,
    nodes: Vec<NodeJson>,
}

#[derive(Serialize, Deserialize)]
struct ValueJson {
    name: String,
    #[serde(rename = "type")]
    ty: TypeJson,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    tensor: Option<usize>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    contents: Option<(bool, Vec<String>)>,
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    packed: bool,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum TypeJson {
    Unknown,
    Tensor(String, Option<Vec<String>>),
    Sequence(Box<TypeJson>),
    Optional(Box<TypeJson>),
    Map(String, Box<TypeJson>),
}

#[derive(Serialize, Deserialize)]
struct NodeJson {
    op: String,
    name: String,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    attrs: BTreeMap<String, AttrJson>,
    inputs: Vec<Option<u32>>,
    outputs: Vec<Option<u32>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    source: Option<(String, String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    origins: Vec<Arc<str>>,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
enum AttrJson {
    Int(i64),
    /// The bits, so that NaN and infinities survive.
    Float(u32),
    String(String),
    Ints(Vec<i64>),
    Floats(Vec<u32>),
    Strings(Vec<String>),
    Tensor(usize),
    Tensors(Vec<usize>),
    Type(TypeJson),
    Graph(Box<GraphJson>),
    Graphs(Vec<GraphJson>),
}

/// Collects the tensors of a plan; equal storages are stored once.
#[derive(Default)]
pub(crate) struct Tensors {
    pub list: Vec<Tensor>,
}

impl Tensors {
    fn add(&mut self, t: &Tensor) -> usize {
        let same =
            |x: &Tensor| x.dtype() == t.dtype() && x.shape() == t.shape() && !t.bytes().is_empty() && x.same_storage(t);
        if let Some(i) = self.list.iter().position(same) {
            return i;
        }
        self.list.push(t.clone());
        self.list.len() - 1
    }
}

/// Rounds up to the alignment of tensors in the file.
pub(crate) fn aligned(at: usize) -> usize {
    at.next_multiple_of(64)
}

pub(crate) fn to_json(plan: &Plan, tensors: &mut Tensors) -> PlanJson {
    // Ids are renumbered by compaction, in list order of the nodes.
    let compact = plan.graph.compacted();
    let position: BTreeMap<NodeId, u32> = plan.graph.node_ids().into_iter().zip(0..).collect();
    let graph = graph_json(&compact, tensors);
    let steps = plan.steps.iter().map(|s| {
        let node = position[&s.node];
        match &s.kind {
            StepKind::Alias => StepJson::Alias { node },
            StepKind::Host => StepJson::Host { node },
            StepKind::Kernel { kernels, by_work, consumed } => StepJson::Kernel {
                node,
                kernels: (kernels.iter())
                    .map(|k| (k.candidate.clone(), k.packed.iter().map(|t| tensors.add(t)).collect()))
                    .collect(),
                by_work: by_work.clone(),
                consumed: consumed.clone(),
            },
        }
    });
    let steps = steps.collect();
    let mut at = 0;
    let list = tensors.list.iter().map(|t| {
        let start = at;
        at = aligned(at + t.bytes().len());
        TensorJson {
            dtype: t.dtype().name().into(),
            shape: t.shape().to_vec(),
            start,
            strings: t.strings().map(<[String]>::to_vec),
        }
    });
    PlanJson {
        producer: plan.producer.clone(),
        backend: plan.backend.clone(),
        target: plan.target.clone(),
        symbols: plan.symbols.iter().map(|(s, r)| (s.to_string(), (r.min, r.max))).collect(),
        profiles: plan
            .profiles
            .iter()
            .map(|p| p.ranges.iter().map(|(s, r)| (s.to_string(), (r.min, r.opt, r.max))).collect())
            .collect(),
        metadata: plan.metadata.clone(),
        steps,
        graph,
        tensors: list.collect(),
    }
}

fn graph_json(g: &Graph, tensors: &mut Tensors) -> GraphJson {
    let values = g.value_ids().map(|v| ValueJson {
        name: g[v].name.clone(),
        ty: type_json(&g[v].ty),
        tensor: g[v].constant.as_ref().map(|t| tensors.add(t)),
        contents: match (&g[v].constant, &g[v].contents) {
            (None, Some(c)) => Some((c.scalar, c.elements.iter().map(Dim::to_string).collect())),
            _ => None,
        },
        packed: g[v].packed,
    });
    let values = values.collect();
    let ids = |list: &[Option<ValueId>]| list.iter().map(|v| v.map(|v| v.0)).collect();
    let nodes = g.nodes().map(|(_, n)| NodeJson {
        op: n.op.to_string(),
        name: n.name.clone(),
        attrs: n.attrs.iter().map(|(k, a)| (k.to_string(), attr_json(a, tensors))).collect(),
        inputs: ids(n.inputs()),
        outputs: ids(n.outputs()),
        source: n.source.as_deref().map(|s| (s.module.clone(), s.location.clone(), s.code.clone())),
        origins: n.origins.clone(),
    });
    GraphJson {
        name: g.name.clone(),
        inputs: g.inputs.iter().map(|v| v.0).collect(),
        outputs: g.outputs.iter().map(|v| v.0).collect(),
        captures: g.captures.iter().map(|c| (c.0.0, c.1.0)).collect(),
        nodes: nodes.collect(),
        values,
    }
}

fn type_json(t: &ValueType) -> TypeJson {
    match t {
        ValueType::Unknown => TypeJson::Unknown,
        ValueType::Tensor(t) => {
            TypeJson::Tensor(t.dtype.name().into(), t.dims.as_ref().map(|d| d.iter().map(Dim::to_string).collect()))
        }
        ValueType::Sequence(t) => TypeJson::Sequence(Box::new(type_json(t))),
        ValueType::Optional(t) => TypeJson::Optional(Box::new(type_json(t))),
        ValueType::Map(k, t) => TypeJson::Map(k.name().into(), Box::new(type_json(t))),
    }
}

fn attr_json(a: &Attr, tensors: &mut Tensors) -> AttrJson {
    match a {
        Attr::Int(x) => AttrJson::Int(*x),
        Attr::Float(x) => AttrJson::Float(x.to_bits()),
        Attr::String(s) => AttrJson::String(s.clone()),
        Attr::Ints(x) => AttrJson::Ints(x.clone()),
        Attr::Floats(x) => AttrJson::Floats(x.iter().map(|x| x.to_bits()).collect()),
        Attr::Strings(x) => AttrJson::Strings(x.clone()),
        Attr::Tensor(t) => AttrJson::Tensor(tensors.add(t)),
        Attr::Tensors(ts) => AttrJson::Tensors(ts.iter().map(|t| tensors.add(t)).collect()),
        Attr::Type(t) => AttrJson::Type(type_json(t)),
        Attr::Graph(g) => AttrJson::Graph(Box::new(graph_json(g, tensors))),
        Attr::Graphs(gs) => AttrJson::Graphs(gs.iter().map(|g| graph_json(g, tensors)).collect()),
    }
}

/// Reads one tensor of the data section.
pub(crate) fn tensor_from_json(
    t: &TensorJson,
    data: impl AsRef<[u8]> + Send + Sync + 'static,
    base: usize,
) -> Result<Tensor> {
    let dtype = dtype(&t.dtype)?;
    num_elements(&t.shape)?;
    match &t.strings {
        Some(s) => Tensor::from_strings(&t.shape, s.clone()),
        None => {
            let start = base.checked_add(t.start).ok_or_else(|| Error::invalid("a tensor starts beyond the file"))?;
            Tensor::from_shared(dtype, &t.shape, data, start)
        }
    }
}

fn dtype(name: &str) -> Result<DType> {
    name.parse().map_err(|()| Error::invalid(format!("`{name}` is not an element type")))
}

pub(crate) fn from_json(json: PlanJson, tensors: &[Tensor]) -> Result<Plan> {
    let graph = graph_from_json(json.graph, tensors, 0)?;
    graph.verify()?;
    let nodes = graph.node_ids();
    let node = |i: u32| {
        nodes.get(i as usize).copied().ok_or_else(|| Error::invalid(format!("step of node {i}, which is not there")))
    };
    let steps = json.steps.into_iter().map(|s| {
        Ok(match s {
            StepJson::Alias { node: n } => Step { node: node(n)?, kind: StepKind::Alias },
            StepJson::Host { node: n } => Step { node: node(n)?, kind: StepKind::Host },
            StepJson::Kernel { node: n, kernels, by_work, consumed } => {
                if kernels.is_empty() || by_work.iter().any(|&(_, k)| k >= kernels.len()) {
                    return Err(Error::invalid(format!("the step of node {n} names a kernel that is not there")));
                }
                let unpack = |(candidate, packed): (String, Vec<usize>)| {
                    let packed = packed.into_iter().map(|i| tensor(tensors, i)).collect::<Result<_>>()?;
                    Ok(PackedKernel { candidate, packed })
                };
                let kernels = kernels.into_iter().map(unpack).collect::<Result<_>>()?;
                Step { node: node(n)?, kind: StepKind::Kernel { kernels, by_work, consumed } }
            }
        })
    });
    let steps = steps.collect::<Result<Vec<_>>>()?;
    let mut symbols = Symbols::default();
    for (s, (min, max)) in json.symbols {
        symbols.declare(Symbol::new(&s), Range { min, max });
    }
    let profiles = json.profiles.into_iter().map(|p| {
        let ranges = p.into_iter().map(|(s, (min, opt, max))| Ok((Symbol::new(&s), SizeRange::new(min, opt, max)?)));
        Ok(Profile { ranges: ranges.collect::<Result<_>>()? })
    });
    Ok(Plan {
        producer: json.producer,
        backend: json.backend,
        target: json.target,
        profiles: profiles.collect::<Result<_>>()?,
        metadata: json.metadata,
        graph,
        symbols,
        steps,
    })
}

fn tensor(tensors: &[Tensor], i: usize) -> Result<Tensor> {
    tensors.get(i).cloned().ok_or_else(|| Error::invalid(format!("tensor {i} is not there")))
}

fn graph_from_json(json: GraphJson, tensors: &[Tensor], depth: usize) -> Result<Graph> {
    if depth > 32 {
        bail!(invalid, "graphs nested deeper than 32");
    }
    let mut g = Graph::new(&json.name);
    for v in json.values {
        let id = g.add_value(&v.name, type_from_json(v.ty, 0).at(|| format!("value `{}`", v.name))?);
        g[id].packed = v.packed;
        if let Some(i) = v.tensor {
            g.set_constant(id, tensor(tensors, i)?);
        }
        if let Some((scalar, elements)) = v.contents {
            let elements = elements.iter().map(|e| e.parse()).collect::<Result<_>>()?;
            g[id].contents = Some(Contents { scalar, elements });
        }
    }
    let count = g.value_ids().count() as u32;
    let id = |i: u32| if i < count { Ok(ValueId(i)) } else { Err(Error::invalid(format!("value {i} is not there"))) };
    let ids = |list: &[Option<u32>]| list.iter().map(|v| v.map(id).transpose()).collect::<Result<Vec<_>>>();
    for n in json.nodes {
        let mut attrs = Attrs::new();
        for (k, a) in n.attrs {
            attrs.set(&k, attr_from_json(a, tensors, depth)?);
        }
        for (_, sub) in attrs.iter() {
            let graphs: &[Graph] = match sub {
                Attr::Graph(g) => std::slice::from_ref(&**g),
                Attr::Graphs(gs) => gs,
                _ => &[],
            };
            if graphs.iter().flat_map(|g| &g.captures).any(|c| c.0.0 >= count) {
                bail!(invalid, "a subgraph captures a value that is not there");
            }
        }
        let outputs = ids(&n.outputs)?;
        if outputs.iter().flatten().any(|&v| g[v].producer().is_some()) {
            bail!(invalid, "a value is made twice");
        }
        let node = g.add_node_with_outputs(&n.op, &n.name, &ids(&n.inputs)?, attrs, &outputs);
        g[node].origins = n.origins;
        g[node].source = n.source.map(|(module, location, code)| Arc::new(Source { module, location, code }));
    }
    g.inputs = json.inputs.into_iter().map(id).collect::<Result<_>>()?;
    g.outputs = json.outputs.into_iter().map(id).collect::<Result<_>>()?;
    g.captures = json.captures.into_iter().map(|(o, i)| Ok((ValueId(o), id(i)?))).collect::<Result<_>>()?;
    Ok(g)
}

fn type_from_json(t: TypeJson, depth: usize) -> Result<ValueType> {
    if depth > 16 {
        bail!(invalid, "types nested deeper than 16");
    }
    Ok(match t {
        TypeJson::Unknown => ValueType::Unknown,
        TypeJson::Tensor(d, dims) => {
            let dims = dims.map(|d| d.iter().map(|d| d.parse()).collect::<Result<_>>()).transpose()?;
            TensorType { dtype: dtype(&d)?, dims }.into()
        }
        TypeJson::Sequence(t) => ValueType::Sequence(Box::new(type_from_json(*t, depth + 1)?)),
        TypeJson::Optional(t) => ValueType::Optional(Box::new(type_from_json(*t, depth + 1)?)),
        TypeJson::Map(k, t) => ValueType::Map(dtype(&k)?, Box::new(type_from_json(*t, depth + 1)?)),
    })
}

fn attr_from_json(a: AttrJson, tensors: &[Tensor], depth: usize) -> Result<Attr> {
    Ok(match a {
        AttrJson::Int(x) => Attr::Int(x),
        AttrJson::Float(x) => Attr::Float(f32::from_bits(x)),
        AttrJson::String(s) => Attr::String(s),
        AttrJson::Ints(x) => Attr::Ints(x),
        AttrJson::Floats(x) => Attr::Floats(x.into_iter().map(f32::from_bits).collect()),
        AttrJson::Strings(x) => Attr::Strings(x),
        AttrJson::Tensor(i) => Attr::Tensor(tensor(tensors, i)?),
        AttrJson::Tensors(list) => Attr::Tensors(list.into_iter().map(|i| tensor(tensors, i)).collect::<Result<_>>()?),
        AttrJson::Type(t) => Attr::Type(type_from_json(t, 0)?),
        AttrJson::Graph(g) => Attr::Graph(Box::new(graph_from_json(*g, tensors, depth + 1)?)),
        AttrJson::Graphs(gs) => {
            Attr::Graphs(gs.into_iter().map(|g| graph_from_json(g, tensors, depth + 1)).collect::<Result<_>>()?)
        }
    })
}
