//! ONNX bytes to the graph.

use crate::assertions::ASSERT;
use crate::proto::{
    AttributeProto, Dimension, DimensionValue, FunctionProto, GraphProto, ModelProto, NodeProto,
    StringStringEntryProto, TensorProto, TypeProto, TypeValue, ValueInfoProto, attr_type,
};
use crate::tensor_io::{ExternalData, location_of, tensor_from_proto};
use crate::{CAUTION_KEY, DIM_KEY, DIM_TEXT_KEY, NEWEST_OPSET};
use crate::{contrib, gradient, raise};
use bytes::Bytes;
use oxrt_ir::{Attr, Attrs, Dim, Graph, Model, NodeId, Range, Source, Symbol, Symbols, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail, map_file, num_elements};
use prost::Message;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;

/// Depth of nested subgraphs and functions that is still believed.
const MAX_DEPTH: usize = 32;
/// Most elements of a sparse tensor that is written out: its file says nothing of the zeros.
const MAX_DENSE: usize = 1 << 28;

/// Reads a model file. Weights stay in the mapped file where their alignment allows.
///
/// # Errors
/// For everything that is not a valid ONNX model, with node and tensor names.
pub fn read_file(path: &Path) -> Result<Model> {
    let map = map_file(path)?;
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    read(Bytes::from_owner(map), Some(folder)).at(|| path.display())
}

/// Reads a model from memory; external data is refused.
pub fn read_bytes(bytes: &[u8]) -> Result<Model> {
    read(Bytes::copy_from_slice(bytes), None)
}

/// Files that a model's tensors refer to, as written in it.
pub fn external_files(path: &Path) -> Result<Vec<String>> {
    let proto = decode(Bytes::from_owner(map_file(path)?)).at(|| path.display())?;
    let mut found = BTreeSet::new();
    fn visit(g: &GraphProto, found: &mut BTreeSet<String>) {
        let attrs = g.node.iter().flat_map(|n| &n.attribute);
        for a in attrs {
            a.g.iter().chain(&a.graphs).for_each(|g| visit(g, found));
            let tensors = a.t.iter().chain(&a.tensors);
            found.extend(tensors.filter_map(|t| location_of(&t.external_data)).map(str::to_string));
        }
        found.extend(g.initializer.iter().filter_map(|t| location_of(&t.external_data)).map(str::to_string));
    }
    proto.graph.iter().for_each(|g| visit(g, &mut found));
    Ok(found.into_iter().collect())
}

pub(crate) fn decode(bytes: Bytes) -> Result<ModelProto> {
    let size = bytes.len();
    let proto = ModelProto::decode(bytes).map_err(|e| {
        Error::invalid(format!("not an ONNX model, or a damaged one ({e}; the file has {size} bytes)"))
            .help("was the file copied whole? compare its size with the original")
    })?;
    if proto.graph.is_none() {
        return Err(Error::invalid("no graph in the file; it is not an ONNX model, or a damaged one"));
    }
    Ok(proto)
}

fn read(bytes: Bytes, folder: Option<&Path>) -> Result<Model> {
    read_proto(&decode(bytes)?, folder)
}

/// Reads a decoded model.
pub(crate) fn read_proto(proto: &ModelProto, folder: Option<&Path>) -> Result<Model> {
    let opsets = opsets_of(&proto.opset_import);
    let opset = opsets.get("").copied().unwrap_or(1);
    if opset > NEWEST_OPSET {
        return Err(Error::unsupported(format!("opset {opset}; the newest that is known is {NEWEST_OPSET}"))
            .help("export with a lower opset_version"));
    }
    let functions =
        proto.functions.iter().map(|f| ((domain(&f.domain), f.name.as_str(), f.overload.as_str()), f)).collect();
    let mut model = Model {
        producer: format!("{} {}", proto.producer_name, proto.producer_version).trim().to_string(),
        opset,
        ..Model::default()
    };
    for StringStringEntryProto { key, value } in &proto.metadata_props {
        match key.strip_prefix(DIM_KEY).and_then(|name| Some((name, parse_range(value)?))) {
            Some((name, range)) => model.symbols.declare(Symbol::new(name), range),
            None if key.starts_with(DIM_TEXT_KEY) => {}
            None => drop(model.metadata.insert(key.clone(), value.clone())),
        }
    }
    let graph = proto.graph.as_ref().ok_or_else(|| Error::invalid("no graph in the file"))?;
    let mut reader = Reader {
        functions,
        external: ExternalData::new(folder),
        symbols: model.symbols,
        calls: 0,
        texts: BTreeMap::new(),
        block: None,
        guessed: false,
    };
    let mut scopes = Vec::new();
    model.graph = reader.graph(graph, &opsets, &mut scopes)?;
    for v in model.graph.inputs.clone() {
        let mut found = Vec::new();
        model.graph[v].ty.for_each_symbol(&mut |s| found.push(s.clone()));
        for s in found {
            if reader.symbols.get(&s).is_none() {
                // ONNX says nothing of a range: 0 is a size like any other.
                reader.symbols.declare(s, Range { min: 0, max: None });
            }
        }
    }
    if let (true, Some(block)) = (reader.guessed, reader.block) {
        model.metadata.insert(
            CAUTION_KEY.to_string(),
            format!(
                "onnxruntime packed the weights in blocks of channels and the file does not say of how many: their numbers say {block}, no size proves it; \
                 compare with the model that was optimised (`oxrt verify`), or save that with ORT_ENABLE_EXTENDED"
            ),
        );
    }
    model.symbols = reader.symbols;
    model.metadata.extend(reader.texts.into_iter().map(|(dim, text)| (format!("{DIM_TEXT_KEY}{dim}"), text)));
    model.metadata.extend(graph.output.iter().flat_map(texts_of));
    oxrt_ops::infer::infer_model(&mut model)?;
    model.graph.verify()?;
    Ok(model)
}

pub(crate) fn domain(d: &str) -> &str {
    if d == "ai.onnx" { "" } else { d }
}

fn opsets_of(list: &[crate::proto::OperatorSetIdProto]) -> HashMap<String, i64> {
    list.iter().map(|o| (domain(&o.domain).to_string(), o.version)).collect()
}

/// `1..64` or `1..`.
fn parse_range(text: &str) -> Option<Range> {
    let (min, max) = text.split_once("..")?;
    let max = if max.is_empty() { None } else { Some(max.parse().ok()?) };
    Some(Range { min: min.parse().ok()?, max })
}

type FunctionKey<'a> = (&'a str, &'a str, &'a str);

struct Reader<'a> {
    functions: HashMap<FunctionKey<'a>, &'a FunctionProto>,
    external: ExternalData,
    symbols: Symbols,
    /// Function bodies inlined so far; bounds what a hostile file can make of nested calls.
    calls: usize,
    /// How the file writes dimensions that have another form here.
    texts: BTreeMap<String, String>,
    /// See [`contrib::Call::block`].
    block: Option<usize>,
    /// Whether only the numbers of weights told the block.
    guessed: bool,
}

/// Names of one graph while it is read.
struct Scope {
    graph: Graph,
    names: HashMap<String, ValueId>,
    /// Names that some later node makes: reading one of them means that the graph is unsorted.
    later: HashMap<String, String>,
}

impl<'a> Reader<'a> {
    fn graph(&mut self, g: &GraphProto, opsets: &HashMap<String, i64>, scopes: &mut Vec<Scope>) -> Result<Graph> {
        if scopes.len() >= MAX_DEPTH {
            bail!(invalid, "subgraphs nested deeper than {MAX_DEPTH}");
        }
        let later = g.node.iter().flat_map(|n| n.output.iter().map(|o| (o.clone(), n.name.clone()))).collect();
        scopes.push(Scope { graph: Graph::new(&g.name), names: HashMap::new(), later });
        let result = self.fill(g, opsets, scopes);
        let scope = scopes.pop().ok_or_else(|| Error::bug("scopes out of step"))?;
        result?;
        Ok(scope.graph)
    }

    fn fill(&mut self, g: &GraphProto, opsets: &HashMap<String, i64>, scopes: &mut Vec<Scope>) -> Result<()> {
        let depth = scopes.len();
        let top = depth - 1;
        for t in &g.initializer {
            let tensor = tensor_from_proto(t, &mut self.external)?;
            define_constant(&mut scopes[top], &t.name, tensor)?;
        }
        for s in &g.sparse_initializer {
            let name = s.values.as_ref().map(|v| v.name.clone()).unwrap_or_default();
            let tensor = self.dense(s).at(|| format!("sparse initializer \"{name}\""))?;
            define_constant(&mut scopes[top], &name, tensor)?;
        }
        for i in &g.input {
            // An initializer of the same name is the default value; the graph is used with it.
            if scopes[top].names.contains_key(&i.name) {
                continue;
            }
            let ty = self.value_type(i.r#type.as_ref(), &i.name).at(|| format!("input \"{}\"", i.name))?;
            let scope = &mut scopes[top];
            let v = scope.graph.add_input(&i.name, ty);
            scope.names.insert(i.name.clone(), v);
        }
        let hints: HashMap<&str, &ValueInfoProto> =
            g.value_info.iter().chain(&g.output).map(|v| (v.name.as_str(), v)).collect();
        if g.node.iter().any(|n| n.domain == contrib::nchwc::DOMAIN) {
            let scope = &scopes[top];
            let constant = |name: &str| scope.graph.constant(*scope.names.get(name)?).cloned();
            if let Some((block, told)) = contrib::nchwc::block(&g.node, &constant) {
                self.block = Some(block);
                self.guessed |= told == contrib::nchwc::Told::ByNumbers;
            }
        }
        for node in &g.node {
            self.node(node, opsets, scopes, &hints, 0)?;
        }
        for o in &g.output {
            let v = lookup(scopes, depth, &o.name).at(|| format!("graph output \"{}\"", o.name))?;
            let scope = &mut scopes[top];
            // One value may be asked for twice, or be an input or a constant: each output needs a name of its own.
            let shared = scope.graph.outputs.contains(&v) || scope.graph[v].producer().is_none();
            let v = if shared && depth == 1 && scope.graph[v].name != o.name || scope.graph.outputs.contains(&v) {
                let out = scope.graph.add_value(&o.name, scope.graph[v].ty.clone());
                scope.graph.add_node_with_outputs("Identity", &o.name, &[Some(v)], Attrs::new(), &[Some(out)]);
                out
            } else {
                v
            };
            if scope.graph[v].ty == ValueType::Unknown
                && let Ok(ty) = self.value_type(o.r#type.as_ref(), &o.name)
            {
                scopes[top].graph[v].ty = ty;
            }
            scopes[top].graph.outputs.push(v);
        }
        Ok(())
    }

    /// Reads one node, or inlines the function that it calls.
    fn node(
        &mut self,
        n: &NodeProto,
        opsets: &HashMap<String, i64>,
        scopes: &mut Vec<Scope>,
        hints: &HashMap<&str, &ValueInfoProto>,
        depth: usize,
    ) -> Result<()> {
        let place = || format!("node {} \"{}\"", n.op_type, n.name);
        let dom = domain(&n.domain);
        let inputs = resolve_inputs(n, scopes).at(place)?;
        let key = (dom, n.op_type.as_str(), n.overload.as_str());
        let known = dom == "oxrt" && n.op_type == "Assert";
        if !known && let Some(f) = self.functions.get(&key).copied() {
            return self.inline(f, n, &inputs, scopes, depth).at(|| format!("function {dom}.{}", n.op_type)).at(place);
        }
        let mut attrs = Attrs::new();
        for a in &n.attribute {
            if !a.ref_attr_name.is_empty() {
                bail!(invalid, "attribute `{}` refers to a function's attribute outside a function", a.name);
            }
            let value = self.attr(a, opsets, scopes).at(place)?;
            attrs.set(&a.name, value);
        }
        self.emit(n, dom, inputs, attrs, opsets, scopes, hints).at(place)
    }

    fn emit(
        &mut self,
        n: &NodeProto,
        dom: &str,
        inputs: Vec<Option<ValueId>>,
        attrs: Attrs,
        opsets: &HashMap<String, i64>,
        scopes: &mut [Scope],
        hints: &HashMap<&str, &ValueInfoProto>,
    ) -> Result<()> {
        let top = scopes.len() - 1;
        if dom.is_empty() && n.op_type == "Constant" {
            let Some(name) = n.output.first() else { return Ok(()) };
            return define_constant(&mut scopes[top], name, constant_of(&attrs)?);
        }
        if dom == "ai.onnx.preview.training" && n.op_type == "Gradient" {
            return self.gradient(n, &inputs, &attrs, scopes);
        }
        if n.output.is_empty() {
            // Nodes of ONNX do nothing but give results.
            return Ok(());
        }
        if dom == "oxrt" && n.op_type == "Assert" {
            let [Some(x), Some(condition)] = inputs[..] else {
                bail!(invalid, "a check needs a value and a condition");
            };
            let graph = &mut scopes[top].graph;
            let id = graph.add_node(ASSERT, &n.name, &[Some(condition)], attrs, 0);
            graph[id].source = source_of(n).map(Arc::new);
            oxrt_ops::infer::infer_node(graph, &mut self.symbols, id)?;
            let pass = NodeProto { op_type: "Identity".into(), domain: String::new(), ..n.clone() };
            return self.emit(&pass, "", vec![Some(x)], Attrs::new(), opsets, scopes, hints);
        }
        let version = opsets.get(dom).copied().unwrap_or(if dom.is_empty() { NEWEST_OPSET } else { 1 });
        if let Some(expand) = contrib::find(dom, &n.op_type, version) {
            let scope = &mut scopes[top];
            let mut b = builder(scope, &mut self.symbols, n);
            let first_new = b.graph.num_nodes();
            let wanted: Vec<bool> = n.output.iter().map(|o| !o.is_empty()).collect();
            let mut call =
                contrib::Call { b: &mut b, attrs: &attrs, inputs: &inputs, wanted: &wanted, block: self.block };
            let made = expand(&mut call)?;
            let new = b.graph.node_ids().split_off(first_new);
            return bind_outputs(scope, &mut self.symbols, n, &made, &new);
        }
        let op = if dom.is_empty() { n.op_type.clone() } else { format!("{dom}.{}", n.op_type) };
        let mut outputs = Vec::with_capacity(n.output.len());
        for name in &n.output {
            if name.is_empty() {
                outputs.push(None);
                continue;
            }
            let hint = hints.get(name.as_str()).and_then(|h| self.value_type(h.r#type.as_ref(), name).ok());
            let scope = &mut scopes[top];
            if scope.names.contains_key(name) {
                bail!(invalid, "`{name}` is made twice");
            }
            let v = scope.graph.add_value(name, hint.unwrap_or_default());
            outputs.push(Some(v));
            scope.names.insert(name.clone(), v);
            scope.later.remove(name);
        }
        let graph = &mut scopes[top].graph;
        let name = if n.name.is_empty() { n.output.first().cloned().unwrap_or_default() } else { n.name.clone() };
        let first_new = graph.num_nodes();
        let id = graph.add_node_with_outputs(&op, &name, &inputs, attrs, &outputs);
        graph[id].source = source_of(n).map(Arc::new);
        // Types are needed while raising; a node of an unknown operator is reported when types are inferred.
        raise::raise(graph, &mut self.symbols, id, version)?;
        let added: Vec<NodeId> = graph.node_ids().split_off(first_new);
        for id in added {
            oxrt_ops::infer::infer_node(graph, &mut self.symbols, id)?;
        }
        Ok(())
    }

    /// Writes a `Gradient` node out as the operators that compute it.
    fn gradient(
        &mut self,
        n: &NodeProto,
        inputs: &[Option<ValueId>],
        attrs: &Attrs,
        scopes: &mut [Scope],
    ) -> Result<()> {
        let depth = scopes.len();
        let mut values = |name: &str| -> Result<Vec<ValueId>> {
            gradient::names(attrs, name)?.iter().map(|v| lookup(scopes, depth, v)).collect()
        };
        let (xs, zs) = (values("xs")?, values("zs")?);
        let y = attrs.get_string("y")?.ok_or_else(|| Error::invalid("the attribute `y` is missing"))?;
        let y = lookup(scopes, depth, y)?;
        let at = inputs.iter().copied().collect::<Option<Vec<_>>>();
        let at = at.ok_or_else(|| Error::invalid("an input is missing"))?;
        let scope = &mut scopes[depth - 1];
        let mut b = builder(scope, &mut self.symbols, n);
        let first_new = b.graph.num_nodes();
        let found = gradient::expand(&mut b, &gradient::Wanted { xs, zs, y, at })?;
        let new = b.graph.node_ids().split_off(first_new);
        let found: Vec<Option<ValueId>> = found.into_iter().map(Some).collect();
        bind_outputs(scope, &mut self.symbols, n, &found, &new)
    }

    fn inline(
        &mut self,
        f: &FunctionProto,
        call: &NodeProto,
        inputs: &[Option<ValueId>],
        scopes: &mut Vec<Scope>,
        depth: usize,
    ) -> Result<()> {
        self.calls += 1;
        if depth >= MAX_DEPTH || self.calls > 1_000_000 {
            bail!(invalid, "function calls nested deeper than {MAX_DEPTH}, or too many; is the function recursive?");
        }
        let mut opsets = opsets_of(&f.opset_import);
        opsets.entry(String::new()).or_insert(NEWEST_OPSET);
        // Values inside are renamed `call/inner`; formal inputs and outputs take the names of the call.
        let top = scopes.len() - 1;
        let prefix = format!(
            "{}/{}",
            if call.name.is_empty() { call.output.first().map_or("", |s| s) } else { &call.name },
            self.calls
        );
        let mut rename: HashMap<&str, String> = HashMap::new();
        for (i, formal) in f.input.iter().enumerate() {
            let actual = inputs.get(i).copied().flatten();
            let name = match actual {
                None => String::new(),
                Some(v) => {
                    let alias = format!("{prefix}/{formal}");
                    scopes[top].names.insert(alias.clone(), v);
                    alias
                }
            };
            rename.insert(formal, name);
        }
        for (formal, actual) in f.output.iter().zip(&call.output) {
            rename.insert(formal, actual.clone());
        }
        let no_hints = HashMap::new();
        for n in &f.node {
            let mut n = n.clone();
            rename_node(&mut n, &prefix, &rename, f, call, 0);
            self.node(&n, &opsets, scopes, &no_hints, depth + 1)?;
        }
        Ok(())
    }

    fn dense(&mut self, s: &crate::proto::SparseTensorProto) -> Result<Tensor> {
        let (Some(values), Some(indices)) = (&s.values, &s.indices) else {
            bail!(invalid, "values or indices are missing")
        };
        let sizes = s.dims.iter().map(|&d| usize::try_from(d)).collect::<Result<Vec<_>, _>>();
        let shape = sizes.map_err(|_| Error::invalid(format!("negative size in the shape {:?}", s.dims)))?;
        let n = num_elements(&shape)?;
        if n > MAX_DENSE {
            bail!(unsupported, "a sparse tensor of shape {shape:?}, which is too large to write out");
        }
        let values = tensor_from_proto(values, &mut self.external)?;
        let indices = tensor_from_proto(indices, &mut self.external)?;
        let at = indices.to_i64_vec()?;
        let strides = oxrt_tensor::strides_of(&shape);
        // Linear places, or rows of one index per axis.
        let width = if indices.rank() <= 1 { 1 } else { shape.len() };
        if at.len() != values.len() * width {
            bail!(invalid, "{} indices for {} values", at.len(), values.len());
        }
        let flat = |k: usize| -> Option<usize> {
            if width == 1 && indices.rank() <= 1 {
                return usize::try_from(at[k]).ok().filter(|&i| i < n);
            }
            let row = at[k * width..(k + 1) * width].iter().zip(&shape).zip(&strides);
            row.map(|((&i, &d), &s)| usize::try_from(i).ok().filter(|&i| i < d).map(|i| i * s)).sum()
        };
        let mut places = vec![(0u8, 0u32); n];
        for k in 0..values.len() {
            let place = flat(k).ok_or_else(|| Error::invalid(format!("index {k} lies outside {shape:?}")))?;
            places[place] = (1, k as u32);
        }
        let zero = Tensor::zeros(values.dtype(), &[1]);
        let each = places.into_iter().map(|(source, k)| (source as usize, k as usize));
        oxrt_ops::copy::assemble(&[&zero, &values], &shape, each)
    }

    fn attr(&mut self, a: &AttributeProto, opsets: &HashMap<String, i64>, scopes: &mut Vec<Scope>) -> Result<Attr> {
        let utf8 = |b: &Bytes| String::from_utf8_lossy(b).into_owned();
        // Old files leave the type out; the field that is set tells.
        let kind = match a.r#type {
            0 if a.t.is_some() => attr_type::TENSOR,
            0 if a.g.is_some() => attr_type::GRAPH,
            0 if !a.ints.is_empty() => attr_type::INTS,
            0 if !a.floats.is_empty() => attr_type::FLOATS,
            0 if !a.strings.is_empty() => attr_type::STRINGS,
            0 if !a.s.is_empty() => attr_type::STRING,
            0 if a.f != 0.0 => attr_type::FLOAT,
            0 => attr_type::INT,
            t => t,
        };
        let missing = || Error::invalid(format!("attribute `{}` has no value", a.name));
        Ok(match kind {
            attr_type::FLOAT => Attr::Float(a.f),
            attr_type::INT => Attr::Int(a.i),
            attr_type::STRING => Attr::String(utf8(&a.s)),
            attr_type::TENSOR => {
                Attr::Tensor(tensor_from_proto(a.t.as_ref().ok_or_else(missing)?, &mut self.external)?)
            }
            attr_type::FLOATS => Attr::Floats(a.floats.clone()),
            attr_type::INTS => Attr::Ints(a.ints.clone()),
            attr_type::STRINGS => Attr::Strings(a.strings.iter().map(utf8).collect()),
            attr_type::TENSORS => {
                let tensors = a.tensors.iter().map(|t: &TensorProto| tensor_from_proto(t, &mut self.external));
                Attr::Tensors(tensors.collect::<Result<_>>()?)
            }
            attr_type::GRAPH => Attr::Graph(Box::new(self.graph(a.g.as_ref().ok_or_else(missing)?, opsets, scopes)?)),
            attr_type::GRAPHS => {
                Attr::Graphs(a.graphs.iter().map(|g| self.graph(g, opsets, scopes)).collect::<Result<_>>()?)
            }
            attr_type::TYPE_PROTO => Attr::Type(self.value_type(a.tp.as_ref(), &a.name)?),
            11 => Attr::Tensor(self.dense(a.sparse_tensor.as_ref().ok_or_else(missing)?)?),
            other => bail!(unsupported, "attribute `{}` of type number {other}", a.name),
        })
    }

    fn value_type(&mut self, t: Option<&TypeProto>, name: &str) -> Result<ValueType> {
        let Some(value) = t.and_then(|t| t.value.as_ref()) else { return Ok(ValueType::Unknown) };
        let dtype =
            |n: i32| DType::from_onnx(n).ok_or_else(|| Error::unsupported(format!("the element type number {n}")));
        Ok(match value {
            TypeValue::Tensor(t) | TypeValue::Sparse(t) => {
                if t.elem_type == 0 {
                    return Ok(ValueType::Unknown);
                }
                let dims = t
                    .shape
                    .as_ref()
                    .map(|s| s.dim.iter().enumerate().map(|(i, d)| self.dim(d, name, i)).collect::<Vec<Dim>>());
                oxrt_ir::TensorType { dtype: dtype(t.elem_type)?, dims }.into()
            }
            TypeValue::Sequence(s) => ValueType::Sequence(Box::new(self.value_type(s.elem_type.as_deref(), name)?)),
            TypeValue::Optional(o) => ValueType::Optional(Box::new(self.value_type(o.elem_type.as_deref(), name)?)),
            TypeValue::Map(m) => {
                ValueType::Map(dtype(m.key_type)?, Box::new(self.value_type(m.value_type.as_deref(), name)?))
            }
        })
    }

    fn dim(&mut self, d: &Dimension, name: &str, axis: usize) -> Dim {
        match &d.value {
            Some(DimensionValue::Value(v)) if *v >= 0 => Dim::Const(*v),
            Some(DimensionValue::Param(p)) if !p.trim().is_empty() => {
                let dim = dim_of(p);
                let canonical = dim.to_string();
                if canonical != *p {
                    self.texts.entry(canonical).or_insert_with(|| p.clone());
                }
                dim
            }
            _ => name_of(&format!("{name}_dim{axis}")),
        }
    }
}

/// What a `dim_param` says: an expression, or else a name.
fn dim_of(text: &str) -> Dim {
    text.parse().unwrap_or_else(|_| name_of(text.trim()))
}

/// A name that engine files can be read with: names of values hold more than the grammar of dimensions allows.
fn name_of(text: &str) -> Dim {
    let name = text.replace(|c: char| !(c.is_alphanumeric() || "_.".contains(c)), "_");
    let is_number = name.starts_with(|c: char| c.is_ascii_digit());
    Dim::symbol(&if is_number { format!("_{name}") } else { name })
}

/// How the file writes the dimensions of an output, by its name and the axis: inference may find another form of them.
fn texts_of(port: &ValueInfoProto) -> Vec<(String, String)> {
    let Some(TypeValue::Tensor(t)) = port.r#type.as_ref().and_then(|t| t.value.as_ref()) else { return Vec::new() };
    let dims = t.shape.iter().flat_map(|s| &s.dim).enumerate();
    let text = |(axis, d): (usize, &Dimension)| match &d.value {
        Some(DimensionValue::Param(p)) if !p.trim().is_empty() => {
            Some((format!("{DIM_TEXT_KEY}{}\t{axis}", port.name), p.clone()))
        }
        _ => None,
    };
    dims.filter_map(text).collect()
}

/// Renames the values of a function's node and fills in the attributes that refer to the call.
fn rename_node(
    n: &mut NodeProto,
    prefix: &str,
    rename: &HashMap<&str, String>,
    f: &FunctionProto,
    call: &NodeProto,
    depth: usize,
) {
    let new_name = |s: &str| match rename.get(s) {
        _ if s.is_empty() => String::new(),
        Some(r) => r.clone(),
        None => format!("{prefix}/{s}"),
    };
    n.name = format!("{prefix}/{}", n.name);
    n.input.iter_mut().for_each(|s| *s = new_name(s));
    n.output.iter_mut().for_each(|s| *s = new_name(s));
    if n.metadata_props.is_empty() {
        n.metadata_props = call.metadata_props.clone();
    }
    let attrs = std::mem::take(&mut n.attribute);
    for mut a in attrs {
        if !a.ref_attr_name.is_empty() {
            let wanted = &a.ref_attr_name;
            let given = call.attribute.iter().find(|c| c.name == *wanted);
            let Some(value) = given.or_else(|| f.attribute_proto.iter().find(|d| d.name == *wanted)) else { continue };
            a = AttributeProto { name: a.name.clone(), ..value.clone() };
        }
        if depth < MAX_DEPTH {
            for g in a.g.iter_mut().chain(&mut a.graphs) {
                rename_graph(g, prefix, rename, f, call, depth + 1);
            }
        }
        n.attribute.push(a);
    }
}

fn rename_graph(
    g: &mut GraphProto,
    prefix: &str,
    rename: &HashMap<&str, String>,
    f: &FunctionProto,
    call: &NodeProto,
    depth: usize,
) {
    let new_name = |s: &str| match rename.get(s) {
        Some(r) => r.clone(),
        None => format!("{prefix}/{s}"),
    };
    g.input.iter_mut().chain(&mut g.output).chain(&mut g.value_info).for_each(|v| v.name = new_name(&v.name));
    g.initializer.iter_mut().for_each(|t| t.name = new_name(&t.name));
    g.node.iter_mut().for_each(|n| rename_node(n, prefix, rename, f, call, depth));
}

/// Makes the nodes that a node is written out as.
fn builder<'a>(scope: &'a mut Scope, symbols: &'a mut Symbols, n: &NodeProto) -> Builder<'a> {
    let mut b = Builder::new(&mut scope.graph, symbols);
    b.prefix = if n.name.is_empty() { n.output.first().cloned().unwrap_or_default() } else { n.name.clone() };
    b.source = source_of(n).map(Arc::new);
    b
}

/// Gives values that the nodes `new` made the names of the outputs of `n`.
fn bind_outputs(
    scope: &mut Scope,
    symbols: &mut Symbols,
    n: &NodeProto,
    made: &[Option<ValueId>],
    new: &[NodeId],
) -> Result<()> {
    let mut bound = Vec::new();
    for (i, name) in n.output.iter().enumerate().filter(|(_, name)| !name.is_empty()) {
        let Some(v) = made.get(i).copied().flatten() else {
            bail!(unsupported, "output {i} of {}", n.op_type);
        };
        let ours = scope.graph[v].producer().is_some_and(|(id, _)| new.contains(&id)) && !bound.contains(&v);
        // A value of its own, where the result is an input or constant, or is asked for twice.
        let v = if ours { v } else { builder(scope, symbols, n).call("Identity", &[v])? };
        bound.push(v);
        scope.graph[v].name = name.clone();
        if scope.names.insert(name.clone(), v).is_some() {
            bail!(invalid, "`{name}` is made twice");
        }
        scope.later.remove(name);
    }
    Ok(())
}

fn define_constant(scope: &mut Scope, name: &str, tensor: Tensor) -> Result<()> {
    if scope.names.contains_key(name) {
        bail!(invalid, "`{name}` is defined twice");
    }
    let v = scope.graph.add_constant(name, tensor);
    scope.names.insert(name.to_string(), v);
    scope.later.remove(name);
    Ok(())
}

fn resolve_inputs(n: &NodeProto, scopes: &mut [Scope]) -> Result<Vec<Option<ValueId>>> {
    let depth = scopes.len();
    n.input.iter().map(|name| if name.is_empty() { Ok(None) } else { lookup(scopes, depth, name).map(Some) }).collect()
}

/// The value called `name` in the scope at `depth`; one of an outer scope is captured on the way in.
fn lookup(scopes: &mut [Scope], depth: usize, name: &str) -> Result<ValueId> {
    let Some(at) = (0..depth).rev().find(|&d| scopes[d].names.contains_key(name)) else {
        if let Some(maker) = scopes[..depth].iter().rev().find_map(|s| s.later.get(name)) {
            return Err(Error::invalid(format!(
                "it reads `{name}` before node \"{maker}\" makes it: the graph is unsorted or has a cycle"
            ))
            .help("nodes of an ONNX graph must stand in topological order"));
        }
        bail!(invalid, "it reads `{name}`, which nothing makes");
    };
    let mut v = scopes[at].names[name];
    for d in at + 1..depth {
        let ty = scopes[d - 1].graph[v].ty.clone();
        let constant = scopes[d - 1].graph[v].constant.clone();
        let contents = scopes[d - 1].graph[v].contents.clone();
        let inner = scopes[d].graph.add_value(name, ty);
        scopes[d].graph[inner].constant = constant;
        scopes[d].graph[inner].contents = contents;
        scopes[d].graph.captures.push((v, inner));
        scopes[d].names.insert(name.to_string(), inner);
        v = inner;
    }
    Ok(v)
}

/// The tensor of a `Constant` node, in any of its attribute forms.
fn constant_of(attrs: &Attrs) -> Result<Tensor> {
    let Some((name, attr)) = attrs.iter().next() else { bail!(invalid, "a Constant without a value") };
    Ok(match attr {
        Attr::Tensor(t) => t.clone(),
        Attr::Int(x) => Tensor::scalar(*x),
        Attr::Float(x) => Tensor::scalar(*x),
        Attr::Ints(x) => Tensor::from_slice(&[x.len()], x),
        Attr::Floats(x) => Tensor::from_slice(&[x.len()], x),
        Attr::String(s) => Tensor::from_strings(&[], vec![s.clone()])?,
        Attr::Strings(s) => Tensor::from_strings(&[s.len()], s.clone())?,
        other => bail!(invalid, "a Constant's `{name}` is {}", other.kind()),
    })
}

/// Module path and Python line, as oxrt and torch.onnx write them.
fn source_of(n: &NodeProto) -> Option<Source> {
    let get = |keys: &[&str]| {
        keys.iter()
            .find_map(|k| n.metadata_props.iter().find(|p| p.key == *k))
            .map(|p| p.value.clone())
            .unwrap_or_default()
    };
    let source = Source { module: get(&["oxrt.module"]), location: get(&["oxrt.source"]), code: get(&["oxrt.code"]) };
    (source != Source::default()).then_some(source)
}
