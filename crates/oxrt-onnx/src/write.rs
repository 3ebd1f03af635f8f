//! The graph to an ONNX file.

use crate::assertions::{self, ASSERT};
use crate::lower;
use crate::proto::{
    AttributeProto, Dimension, DimensionValue, GraphProto, MapTypeProto, ModelProto, NodeProto, OperatorSetIdProto,
    OptionalTypeProto, SequenceTypeProto, StringStringEntryProto, TensorProto, TensorShapeProto, TensorTypeProto,
    TypeProto, TypeValue, ValueInfoProto, attr_type,
};
use crate::tensor_io::{tensor_header, tensor_to_proto};
use crate::{DIM_KEY, DIM_TEXT_KEY, NEWEST_OPSET};
use bytes::Bytes;
use oxrt_ir::{Attr, Dim, Graph, Model, Node, Symbol, TensorType, ValueId, ValueType};
use oxrt_tensor::{DType, Result, Tensor, bail, write_atomically};
use prost::Message;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint};
use std::collections::{BTreeSet, HashMap, HashSet};
use std::io::Write;
use std::path::Path;

/// How a file is written.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Opset of the default domain; `None` takes the lowest from 18 up that has every operator of the graph.
    pub opset: Option<i64>,
    /// Tensors of at least this many bytes go to `FILE.data`. `None` does so only when the file would
    /// pass the 2 GiB that one protobuf message may have.
    pub external_data_threshold: Option<usize>,
    /// Version of the file format; `None` takes the one that came with the opset.
    pub ir: Option<i64>,
}

/// What was written.
#[derive(Clone, Debug)]
pub struct WriteReport {
    pub opset: i64,
    pub nodes: usize,
    pub bytes: u64,
    pub external_bytes: u64,
}

/// Largest message that every protobuf reader takes, less a margin for what is not weights.
const MESSAGE_LIMIT: u64 = (1 << 31) - (1 << 24);

/// External tensors start at multiples of this, so that readers can map them.
const EXTERNAL_ALIGN: u64 = 4096;

/// Writes `model` as ONNX, complete or not at all.
///
/// # Errors
/// When an operator cannot be said in the chosen opset, or the disk says no.
pub fn write_file(model: &Model, path: &Path, options: &WriteOptions) -> Result<WriteReport> {
    let mut model = model.clone();
    let opset = match options.opset {
        Some(v) if !(lower::OLDEST_OPSET..=NEWEST_OPSET).contains(&v) => {
            bail!(unsupported, "opset {v}; files are written for opsets {} to {NEWEST_OPSET}", lower::OLDEST_OPSET)
        }
        Some(v) => v,
        None => lower::needed_opset(&model.graph).max(18),
    };
    lower::lower(&mut model, opset)?;
    let ir = options.ir.unwrap_or(ir_version(opset));
    check_ir(&model.graph, ir)?;
    let functions = if assertions::tie(&mut model.graph, ir) { vec![assertions::function(opset)] } else { Vec::new() };
    let mut writer = Writer::default();
    let mut graph = writer.graph(&model.graph, None)?;
    let weights = std::mem::take(&mut writer.weights);
    if ir < 4 {
        // An initializer had to be an input too, of which it was the default.
        graph.input.extend(weights.iter().map(|(name, t)| value_info(name, &TensorType::of(t).into())));
    }
    let total: u64 = weights.iter().map(|(_, t)| t.bytes().len() as u64).sum();
    let threshold = match options.external_data_threshold {
        Some(t) => Some(t),
        None if total > MESSAGE_LIMIT => Some(1024),
        None => None,
    };
    let is_external =
        |t: &Tensor| t.dtype() != DType::String && threshold.is_some_and(|min| t.bytes().len() >= min.max(1));
    let (external, inline): (Vec<_>, Vec<_>) = weights.into_iter().partition(|(_, t)| is_external(t));
    let inline_bytes: u64 = inline.iter().map(|(_, t)| t.bytes().len() as u64).sum();
    if inline_bytes > MESSAGE_LIMIT {
        bail!(
            invalid,
            "the tensors below the external-data threshold take {inline_bytes} bytes, more than one message may hold"
        );
    }

    let mut headers: Vec<TensorProto> = Vec::new();
    let mut external_bytes = 0;
    if !external.is_empty() {
        let mut name = path.file_name().unwrap_or_default().to_os_string();
        name.push(".data");
        let location = name.to_string_lossy().into_owned();
        external_bytes = write_atomically(&path.with_file_name(&name), |out| {
            let mut at = 0u64;
            for (name, t) in &external {
                let start = at.next_multiple_of(EXTERNAL_ALIGN);
                std::io::copy(&mut std::io::Read::take(std::io::repeat(0), start - at), out)?;
                out.write_all(t.bytes())?;
                at = start + t.bytes().len() as u64;
                let mut header = tensor_header(name, t);
                header.data_location = 1;
                header.external_data = [
                    ("location", location.clone()),
                    ("offset", start.to_string()),
                    ("length", t.bytes().len().to_string()),
                ]
                .map(|(key, value)| StringStringEntryProto { key: key.into(), value })
                .to_vec();
                headers.push(header);
            }
            Ok(at)
        })?;
    }
    graph.initializer = headers;
    let mut opset_import = vec![OperatorSetIdProto { domain: String::new(), version: opset }];
    opset_import.extend(
        writer
            .domains
            .iter()
            .map(|d| OperatorSetIdProto { domain: d.clone(), version: if d == "ai.onnx.ml" { 5 } else { 1 } }),
    );
    let (texts, metadata): (Vec<_>, Vec<_>) =
        model.metadata.clone().into_iter().partition(|(key, _)| key.starts_with(DIM_TEXT_KEY));
    let mut metadata: Vec<(String, String)> = metadata;
    let texts: HashMap<&str, &str> =
        texts.iter().map(|(key, text)| (&key[DIM_TEXT_KEY.len()..], text.as_str())).collect();
    graph.input.iter_mut().chain(&mut graph.output).for_each(|port| keep_texts(port, &texts, &model));
    metadata.extend(model.symbols.iter().map(|(s, r)| (format!("{DIM_KEY}{s}"), r.to_string())));
    let head = ModelProto {
        ir_version: ir,
        opset_import,
        producer_name: "oxrt".into(),
        producer_version: env!("CARGO_PKG_VERSION").into(),
        metadata_props: entries(metadata),
        functions,
        ..ModelProto::default()
    };
    let bytes = write_atomically(path, |out| write_message(out, &head, &graph, &inline))?;
    Ok(WriteReport { opset, nodes: graph.node.len(), bytes, external_bytes })
}

/// IR version that came with an opset, so that old runtimes accept the file.
fn ir_version(opset: i64) -> i64 {
    match opset {
        ..=18 => 8,
        19..=20 => 9,
        21..=22 => 10,
        23 => 11,
        24 => 12,
        25..=27 => 13,
        _ => 14,
    }
}

/// Newest version of the file format.
const NEWEST_IR: i64 = 14;

/// Refuses a version of the format that lacks an element type of the graph.
fn check_ir(graph: &Graph, ir: i64) -> Result<()> {
    if !(3..=NEWEST_IR).contains(&ir) {
        bail!(unsupported, "IR version {ir}; files are written for versions 3 to {NEWEST_IR}");
    }
    let of = |d: DType| match d {
        DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ => 9,
        DType::I4 | DType::U4 => 10,
        DType::F4E2M1 => 11,
        DType::F8E8M0 => 12,
        DType::I2 | DType::U2 => 13,
        DType::BF16 => 4,
        _ => 3,
    };
    for v in graph.value_ids() {
        let value = &graph[v];
        let dtype = value.ty.dtype().filter(|d| of(*d) > ir);
        if let Some(d) = dtype.filter(|_| value.producer().is_some() || !value.users().is_empty()) {
            bail!(unsupported, "`{}` has {d} elements, which came with IR version {}", value.name, of(d));
        }
    }
    for (_, node) in graph.nodes() {
        node.subgraphs().try_for_each(|(_, g)| check_ir(g, ir))?;
    }
    Ok(())
}

/// Writes the message piece by piece, so that weights go from their mapping to the file without a copy.
fn write_message(
    out: &mut impl Write,
    head: &ModelProto,
    graph: &GraphProto,
    weights: &[(String, Tensor)],
) -> Result<u64> {
    const INITIALIZER: u32 = 5;
    const RAW_DATA: u32 = 9;
    const GRAPH: u32 = 7;
    let prefix = |tag: u32, len: u64| {
        let mut b = Vec::new();
        encode_key(tag, WireType::LengthDelimited, &mut b);
        encode_varint(len, &mut b);
        b
    };
    let head_bytes = head.encode_to_vec();
    let graph_bytes = graph.encode_to_vec();
    let mut pieces: Vec<(Vec<u8>, &[u8])> = Vec::with_capacity(weights.len());
    let mut graph_len = graph_bytes.len() as u64;
    for (name, t) in weights {
        let mut header = tensor_header(name, t).encode_to_vec();
        let body = t.bytes();
        if t.dtype() != DType::String {
            header.extend(prefix(RAW_DATA, body.len() as u64));
        }
        let len = (header.len() + body.len()) as u64;
        let start = prefix(INITIALIZER, len);
        graph_len += start.len() as u64 + len;
        pieces.push(([start, header].concat(), body));
    }
    let graph_start = prefix(GRAPH, graph_len);
    debug_assert_eq!(graph_start.len(), 1 + encoded_len_varint(graph_len));
    out.write_all(&head_bytes)?;
    out.write_all(&graph_start)?;
    out.write_all(&graph_bytes)?;
    for (header, body) in &pieces {
        out.write_all(header)?;
        out.write_all(body)?;
    }
    Ok(head_bytes.len() as u64 + graph_start.len() as u64 + graph_len)
}

fn entries(list: impl IntoIterator<Item = (String, String)>) -> Vec<StringStringEntryProto> {
    list.into_iter().map(|(key, value)| StringStringEntryProto { key, value }).collect()
}

#[derive(Default)]
struct Writer {
    /// Names of all graphs: a subgraph may not shadow.
    taken: HashSet<String>,
    /// Names of nodes, which some readers want to differ too.
    nodes: HashSet<String>,
    weights: Vec<(String, Tensor)>,
    domains: BTreeSet<String>,
}

/// `base`, or else the first of `base_1`, `base_2` … that is not taken.
fn free_name(taken: &mut HashSet<String>, base: &str) -> String {
    let mut name = base.to_string();
    let mut n = 0;
    while !taken.insert(name.clone()) {
        n += 1;
        name = format!("{base}_{n}");
    }
    name
}

impl Writer {
    fn unique(&mut self, base: &str) -> String {
        free_name(&mut self.taken, if base.is_empty() { "value" } else { base })
    }

    /// `outer` gives the names of captured values for a subgraph; the main graph has none.
    fn graph(&mut self, g: &Graph, outer: Option<&HashMap<ValueId, String>>) -> Result<GraphProto> {
        let mut names: HashMap<ValueId, String> = HashMap::new();
        for &(from, inner) in &g.captures {
            if let Some(name) = outer.and_then(|o| o.get(&from)) {
                names.insert(inner, name.clone());
            }
        }
        // Inputs and outputs keep their names: they are the contract.
        for &v in g.inputs.iter().chain(&g.outputs) {
            names.entry(v).or_insert_with(|| self.unique(&g[v].name));
        }
        let mut proto = GraphProto {
            name: if g.name.is_empty() { "graph".into() } else { g.name.clone() },
            ..GraphProto::default()
        };
        proto.input = g.inputs.iter().map(|v| value_info(&names[v], &g[*v].ty)).collect();
        let mut constants = Vec::new();
        for (id, node) in g.nodes() {
            for v in g.reads(id) {
                if g[v].is_constant() && !names.contains_key(&v) {
                    let name = self.unique(&g[v].name);
                    names.insert(v, name);
                    constants.push(v);
                }
            }
            for v in node.outputs().iter().flatten() {
                if !names.contains_key(v) {
                    let name = self.unique(&g[*v].name);
                    names.insert(*v, name);
                }
            }
            let node = self.node(node, &names)?;
            proto.node.push(node);
        }
        let captured: HashSet<ValueId> = g.captures.iter().map(|c| c.1).collect();
        let mut used: HashSet<ValueId> = HashSet::new();
        for &v in &g.outputs {
            let first = used.insert(v);
            let direct = g[v].producer().is_none() || captured.contains(&v) || !first;
            let mut name = names[&v].clone();
            if direct {
                // An output that no node of its own makes: an input, a constant, or the same value again.
                let constant = g[v].constant.as_ref().filter(|_| first && !captured.contains(&v));
                let mut node = NodeProto::default();
                if let Some(t) = constant.filter(|t| is_small(t)) {
                    node.op_type = "Constant".into();
                    node.attribute.push(AttributeProto {
                        name: "value".into(),
                        r#type: attr_type::TENSOR,
                        t: Some(tensor_to_proto("", t)),
                        ..AttributeProto::default()
                    });
                } else {
                    node.op_type = "Identity".into();
                    if let Some(t) = constant {
                        let source = self.unique(&format!("{name}_value"));
                        self.constant(&mut proto, &source, t, outer.is_some());
                        node.input.push(source);
                    } else {
                        node.input.push(name.clone());
                        name = self.unique(&format!("{name}_copy"));
                    }
                }
                node.name = free_name(&mut self.nodes, &name);
                node.output.push(name.clone());
                // Other nodes may read a constant.
                let at = if constant.is_some() { 0 } else { proto.node.len() };
                proto.node.insert(at, node);
            }
            proto.output.push(value_info(&name, &g[v].ty));
        }
        for v in constants {
            if let (Some(t), false) = (&g[v].constant, captured.contains(&v)) {
                self.constant(&mut proto, &names[&v], t, outer.is_some());
            }
        }
        let inner = g.nodes().flat_map(|(_, n)| n.outputs().iter().flatten().copied());
        proto.value_info = inner
            .filter(|v| !g.is_output(*v) && g[*v].ty != ValueType::Unknown)
            .map(|v| value_info(&names[&v], &g[v].ty))
            .collect();
        Ok(proto)
    }

    /// Weights of the main graph are streamed; those of subgraphs are small and go in place.
    fn constant(&mut self, proto: &mut GraphProto, name: &str, t: &Tensor, in_subgraph: bool) {
        if in_subgraph {
            proto.initializer.push(tensor_to_proto(name, t));
        } else {
            self.weights.push((name.to_string(), t.clone()));
        }
    }

    fn node(&mut self, node: &Node, names: &HashMap<ValueId, String>) -> Result<NodeProto> {
        let (domain, op) = match node.op.rsplit_once('.') {
            Some((d, op)) => (d.to_string(), op.to_string()),
            None => (String::new(), node.op.to_string()),
        };
        if domain == "oxrt" && &*node.op != ASSERT {
            bail!(bug, "{} is an operator of the engine and cannot be written to ONNX", node.describe());
        }
        if !domain.is_empty() {
            self.domains.insert(domain.clone());
        }
        let list = |ids: &[Option<ValueId>]| {
            let mut out: Vec<String> = ids.iter().map(|v| v.map_or(String::new(), |v| names[&v].clone())).collect();
            while out.last().is_some_and(String::is_empty) {
                out.pop();
            }
            out
        };
        let attribute = node.attrs.iter().map(|(k, a)| self.attr(k, a, names)).collect::<Result<Vec<_>>>()?;
        let source = node.source.as_deref().map(|s| {
            let pairs = [("oxrt.module", &s.module), ("oxrt.source", &s.location), ("oxrt.code", &s.code)];
            entries(pairs.into_iter().filter(|p| !p.1.is_empty()).map(|(k, v)| (k.to_string(), v.clone())))
        });
        // A nameless node is nobody's namesake.
        let name = if node.name.is_empty() { String::new() } else { free_name(&mut self.nodes, &node.name) };
        Ok(NodeProto {
            name,
            op_type: op,
            domain,
            input: list(node.inputs()),
            output: list(node.outputs()),
            attribute,
            metadata_props: source.unwrap_or_default(),
            ..NodeProto::default()
        })
    }

    fn attr(&mut self, name: &str, attr: &Attr, names: &HashMap<ValueId, String>) -> Result<AttributeProto> {
        let mut a = AttributeProto { name: name.to_string(), ..AttributeProto::default() };
        let bytes = |s: &String| Bytes::copy_from_slice(s.as_bytes());
        a.r#type = match attr {
            Attr::Int(x) => {
                a.i = *x;
                attr_type::INT
            }
            Attr::Float(x) => {
                a.f = *x;
                attr_type::FLOAT
            }
            Attr::String(s) => {
                a.s = bytes(s);
                attr_type::STRING
            }
            Attr::Ints(x) => {
                a.ints = x.clone();
                attr_type::INTS
            }
            Attr::Floats(x) => {
                a.floats = x.clone();
                attr_type::FLOATS
            }
            Attr::Strings(x) => {
                a.strings = x.iter().map(bytes).collect();
                attr_type::STRINGS
            }
            Attr::Tensor(t) => {
                a.t = Some(tensor_to_proto("", t));
                attr_type::TENSOR
            }
            Attr::Tensors(ts) => {
                a.tensors = ts.iter().map(|t| tensor_to_proto("", t)).collect();
                attr_type::TENSORS
            }
            Attr::Type(t) => {
                a.tp = Some(type_proto(t));
                attr_type::TYPE_PROTO
            }
            Attr::Graph(g) => {
                a.g = Some(self.graph(g, Some(names))?);
                attr_type::GRAPH
            }
            Attr::Graphs(gs) => {
                a.graphs = gs.iter().map(|g| self.graph(g, Some(names))).collect::<Result<_>>()?;
                attr_type::GRAPHS
            }
        };
        Ok(a)
    }
}

/// Dimensions of an input or output are written as they were read.
fn keep_texts(port: &mut ValueInfoProto, texts: &HashMap<&str, &str>, model: &Model) {
    // Names within a text that need not be one that is read here: `(s72*Min(64, s70))//s70`.
    let known = |text: &str| {
        let is_part = |c: char| c.is_alphanumeric() || "_.".contains(c);
        let words = text.split(|c| !is_part(c)).filter(|w| w.starts_with(|c: char| c.is_alphabetic() || c == '_'));
        let is_call = |word: &str| text.contains(&format!("{word}("));
        words.into_iter().all(|w| is_call(w) || model.symbols.get(&Symbol::new(w)).is_some())
    };
    // A dimension that was renamed since is no longer the one of the text; a size that data decides has no range under either name.
    let holds = |text: &str, now: &str| known(text) || !known(now);
    let Some(TypeValue::Tensor(t)) = port.r#type.as_mut().and_then(|t| t.value.as_mut()) else { return };
    for (axis, d) in t.shape.iter_mut().flat_map(|s| &mut s.dim).enumerate() {
        if let Some(DimensionValue::Param(p)) = &mut d.value {
            let place = format!("{}\t{axis}", port.name);
            let stated = texts.get(place.as_str()).filter(|text| holds(text, p));
            if let Some(text) = stated.or_else(|| texts.get(p.as_str())) {
                *p = (*text).to_string();
            }
        }
    }
}

/// Whether a constant is written in its node, rather than among the weights.
fn is_small(t: &Tensor) -> bool {
    t.bytes().len() <= 1 << 16
}

fn value_info(name: &str, ty: &ValueType) -> ValueInfoProto {
    ValueInfoProto {
        name: name.to_string(),
        r#type: (*ty != ValueType::Unknown).then(|| type_proto(ty)),
        ..ValueInfoProto::default()
    }
}

fn type_proto(ty: &ValueType) -> TypeProto {
    let boxed = |t: &ValueType| Some(Box::new(type_proto(t)));
    let value = match ty {
        ValueType::Unknown => None,
        ValueType::Tensor(t) => Some(TypeValue::Tensor(tensor_type(t))),
        ValueType::Sequence(t) => Some(TypeValue::Sequence(SequenceTypeProto { elem_type: boxed(t) })),
        ValueType::Optional(t) => Some(TypeValue::Optional(OptionalTypeProto { elem_type: boxed(t) })),
        ValueType::Map(k, t) => Some(TypeValue::Map(MapTypeProto { key_type: k.to_onnx(), value_type: boxed(t) })),
    };
    TypeProto { value, ..TypeProto::default() }
}

fn tensor_type(t: &TensorType) -> TensorTypeProto {
    let dim = |d: &Dim| {
        let value = match d {
            Dim::Const(c) => Some(DimensionValue::Value(*c)),
            d => (!has_fresh_symbol(d)).then(|| DimensionValue::Param(d.to_string())),
        };
        Dimension { value, ..Dimension::default() }
    };
    let shape = t.dims.as_ref().map(|d| TensorShapeProto { dim: d.iter().map(dim).collect() });
    TensorTypeProto { elem_type: t.dtype.to_onnx(), shape }
}

/// Whether a size that nobody named (`_d7`) takes part; such sizes are left open in files.
fn has_fresh_symbol(d: &Dim) -> bool {
    let mut fresh = false;
    d.for_each_symbol(&mut |s| fresh |= s.as_str().starts_with("_d"));
    fresh
}
