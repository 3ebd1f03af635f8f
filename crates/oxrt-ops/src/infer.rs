//! Types, symbolic dimensions and the contents of shape tensors, carried through a graph.

use crate::eval::Datum;
use crate::registry;
use oxrt_ir::{Attr, Attrs, Contents, Dim, Graph, Model, Node, NodeId, Symbols, TensorType, ValueId, ValueType};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail};

/// One node under inference: what is known of its inputs, and the slots for its outputs.
pub struct Infer<'a> {
    graph: &'a Graph,
    node: &'a Node,
    symbols: &'a mut Symbols,
    outputs: Vec<(ValueType, Option<Contents>)>,
}

impl<'a> Infer<'a> {
    pub fn node(&self) -> &'a Node {
        self.node
    }

    pub fn attrs(&self) -> &'a Attrs {
        &self.node.attrs
    }

    /// Number of inputs as written, trailing absent ones included.
    pub fn num_inputs(&self) -> usize {
        self.node.inputs().len()
    }

    pub fn num_outputs(&self) -> usize {
        self.node.outputs().len()
    }

    pub fn has(&self, i: usize) -> bool {
        self.node.input(i).is_some()
    }

    /// Type of input `i`; `None` when the input is absent.
    pub fn value_type(&self, i: usize) -> Option<&'a ValueType> {
        self.node.input(i).map(|v| &self.graph[v].ty)
    }

    /// Tensor type of a required input.
    pub fn ty(&self, i: usize) -> Result<&'a TensorType> {
        match self.value_type(i) {
            Some(ValueType::Tensor(t)) => Ok(t),
            Some(other) => bail!(invalid, "input {i} should be a tensor, found {other}"),
            None => bail!(invalid, "input {i} is missing"),
        }
    }

    pub fn dtype(&self, i: usize) -> Result<DType> {
        Ok(self.ty(i)?.dtype)
    }

    /// Dimensions of input `i`; `None` when absent or of unknown rank.
    pub fn dims(&self, i: usize) -> Option<&'a [Dim]> {
        self.value_type(i)?.dims()
    }

    pub fn rank(&self, i: usize) -> Option<usize> {
        self.dims(i).map(<[Dim]>::len)
    }

    /// The constant behind input `i`.
    pub fn constant(&self, i: usize) -> Option<&'a Tensor> {
        self.graph.constant(self.node.input(i)?)
    }

    /// Known elements of an integer input (a shape, axes, indices), constant or symbolic.
    pub fn contents(&self, i: usize) -> Option<&'a Contents> {
        self.graph[self.node.input(i)?].contents.as_ref()
    }

    /// Like [`Infer::contents`], also for float constants that hold whole numbers.
    pub fn whole(&self, i: usize) -> Option<Contents> {
        self.whole_value(self.node.input(i)?)
    }

    fn whole_value(&self, v: ValueId) -> Option<Contents> {
        let value = &self.graph[v];
        if let Some(c) = &value.contents {
            return Some(c.clone());
        }
        let t = value.constant.as_ref()?;
        if t.rank() > 1 || t.len() > 64 || !t.dtype().is_float() {
            return None;
        }
        let values = t.to_f64_vec().ok()?;
        // -0 is no whole number that a dimension could be.
        let is_whole = |x: f64| x.fract() == 0.0 && x.abs() < 1e15 && (x != 0.0 || x.is_sign_positive());
        let whole = |x: &f64| is_whole(*x).then_some(Dim::Const(*x as i64));
        Some(Contents { scalar: t.rank() == 0, elements: values.iter().map(whole).collect::<Option<_>>()? })
    }

    /// Elements as (numerator, denominator); looks through one float division or multiplication.
    pub(crate) fn fractions_of(&self, v: ValueId) -> Option<(bool, Vec<(Dim, Dim)>)> {
        if let Some(c) = self.whole_value(v) {
            return Some((c.scalar, c.elements.into_iter().map(|d| (d, Dim::Const(1))).collect()));
        }
        if let Some(t) = self.graph.constant(v) {
            // A multiple of a power of two, as 0.5.
            if t.rank() > 1 || t.len() > 64 || !t.dtype().is_float() {
                return None;
            }
            let part = |x: &f64| {
                let scaled = x * 65536.0;
                (scaled.fract() == 0.0 && scaled.abs() < 1e15).then_some((Dim::Const(scaled as i64), Dim::Const(65536)))
            };
            return Some((t.rank() == 0, t.to_f64_vec().ok()?.iter().map(part).collect::<Option<_>>()?));
        }
        let node = self.graph.producer(v)?;
        // Narrower types round what sizes and their quotients are.
        let float = |v: ValueId| matches!(self.graph[v].ty.dtype(), Some(DType::F32 | DType::F64));
        match (&*node.op, node.input(0), node.input(1)) {
            ("Cast", Some(a), None) if float(v) && float(a) => self.fractions_of(a),
            ("Div" | "Mul", Some(a), Some(b)) if float(v) => {
                let ((sa, a), (sb, b)) = (self.fractions_of(a)?, self.fractions_of(b)?);
                let n = if a.len() == 1 { b.len() } else { a.len() };
                if (b.len() != n && b.len() != 1) || a.is_empty() || b.is_empty() {
                    return None;
                }
                let pick = |list: &[(Dim, Dim)], i: usize| list[if list.len() == 1 { 0 } else { i }].clone();
                let divide = &*node.op == "Div";
                let elements = (0..n).map(|i| {
                    let ((an, ad), (bn, bd)) = (pick(&a, i), pick(&b, i));
                    if divide { (an * bd, ad * bn) } else { (an * bn, ad * bd) }
                });
                Some((sa && sb, elements.collect()))
            }
            _ => None,
        }
    }

    /// Rows of a matrix of sizes that reshapes, reversals of its rows and transpositions made of a vector
    /// of known elements. PyTorch's older exporter turns the pads of `F.pad` around in this way.
    pub(crate) fn rows_of(&self, v: ValueId) -> Option<Vec<Vec<Dim>>> {
        let node = self.graph.producer(v)?;
        let ints = |i: usize| self.graph.constant(node.input(i)?)?.to_i64_vec().ok();
        let x = node.input(0)?;
        match &*node.op {
            "Reshape" => {
                let width = match ints(1)?[..] {
                    [_, w] => usize::try_from(w).ok().filter(|&w| w > 0)?,
                    _ => return None,
                };
                let elements = &self.graph[x].contents.as_ref()?.elements;
                (elements.len() % width == 0).then(|| elements.chunks(width).map(<[Dim]>::to_vec).collect())
            }
            "Slice" => {
                let mut rows = self.rows_of(x)?;
                let reversed = ints(4)? == [-1] && ints(3)? == [0] && ints(1)? == [-1] && ints(2)?.first()? < &-64;
                rows.reverse();
                reversed.then_some(rows)
            }
            "Transpose" if matches!(node.attrs.ints("perm"), Ok(None | Some([1, 0]))) => {
                let rows = self.rows_of(x)?;
                Some((0..rows.first()?.len()).map(|c| rows.iter().map(|r| r[c].clone()).collect()).collect())
            }
            _ => None,
        }
    }

    /// Elements of a constant integer input of any length (axes, pads, sizes).
    pub fn const_ints(&self, i: usize) -> Option<Vec<i64>> {
        if let Some(t) = self.constant(i) {
            return t.to_i64_vec().ok();
        }
        self.contents(i)?.as_consts()
    }

    /// Number of elements of a vector input, when known: the rank of what it is the shape of.
    pub fn length_of(&self, i: usize) -> Option<usize> {
        self.dims(i)?.first()?.as_size().filter(|&n| n <= 64)
    }

    /// A dimension that nothing is known about.
    pub fn fresh(&mut self) -> Dim {
        self.symbols.fresh().into()
    }

    pub fn fresh_dims(&mut self, rank: usize) -> Vec<Dim> {
        (0..rank).map(|_| self.fresh()).collect()
    }

    /// Least and greatest value that the ranges of the symbols leave.
    pub fn bounds(&self, d: &Dim) -> (i64, i64) {
        d.bounds(&|s| self.symbols.bounds(s))
    }

    /// Whether `a` is never greater than `b`.
    pub fn is_at_most(&self, a: &Dim, b: &Dim) -> bool {
        self.bounds(&(b.clone() - a.clone())).0 >= 0
    }

    pub fn symbols(&self) -> &Symbols {
        self.symbols
    }

    /// See [`join`].
    pub fn join(&mut self, a: &ValueType, b: &ValueType) -> ValueType {
        join(a, b, self.symbols)
    }

    /// Sets the type of output `i` (ignored when the node does not have it).
    pub fn set(&mut self, i: usize, dtype: DType, dims: Option<Vec<Dim>>) {
        self.set_type(i, TensorType { dtype, dims }.into());
    }

    pub fn set_type(&mut self, i: usize, ty: ValueType) {
        if let Some(slot) = self.outputs.get_mut(i) {
            slot.0 = ty;
        }
    }

    /// States the elements of output `i`.
    pub fn set_contents(&mut self, i: usize, contents: Contents) {
        if let Some(slot) = self.outputs.get_mut(i) {
            // Long tensors are data, not shapes.
            slot.1 = (contents.elements.len() <= 64).then_some(contents);
        }
    }
}

/// Infers the outputs of one node from what the graph knows of its inputs.
///
/// # Errors
/// When the operator is unknown, or its inputs or attributes break its rules; the node is named.
pub fn infer_node(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    infer_subgraphs(graph, symbols, id)?;
    let node = &graph[id];
    let describe = || node.describe();
    let Some(op) = registry::find(&node.op) else {
        // An operator of a domain of the user's own keeps the types that the file states.
        let typed = node.outputs().iter().flatten().all(|&v| graph[v].ty != ValueType::Unknown);
        if registry::is_custom(&node.op) && typed {
            return Ok(());
        }
        return Err(Error::unsupported(format!("the operator {} is unknown", node.op)).at(describe()));
    };
    let given = node.inputs().len();
    if given > op.arity.1 || (0..op.arity.0).any(|i| node.input(i).is_none() && i >= given) {
        let (lo, hi) = op.arity;
        return Err(Error::invalid(format!("takes {lo} to {hi} inputs, found {given}")).at(describe()));
    }
    if node.inputs().iter().flatten().any(|&v| graph[v].ty == ValueType::Unknown) {
        return Ok(());
    }
    let outputs = vec![(ValueType::Unknown, None); node.outputs().len()];
    let mut ctx = Infer { graph, node, symbols, outputs };
    (op.infer)(&mut ctx).at(describe)?;
    let results = ctx.outputs;
    let ids = node.outputs().to_vec();
    for (v, (ty, contents)) in ids.into_iter().zip(results) {
        let Some(v) = v else { continue };
        let value = &mut graph[v];
        value.ty = merge(&value.ty, ty);
        if contents.is_some() {
            value.contents = contents;
        }
    }
    Ok(())
}

/// Infers every node in order; subgraphs included.
pub fn infer_graph(graph: &mut Graph, symbols: &mut Symbols) -> Result<()> {
    for id in graph.node_ids() {
        infer_node(graph, symbols, id)?;
    }
    Ok(())
}

pub fn infer_model(model: &mut Model) -> Result<()> {
    infer_graph(&mut model.graph, &mut model.symbols)
}

/// What inference said of a node's results and evaluation refutes, if anything. `complete` also asks that
/// every element type, rank and size was known.
pub fn contradiction(graph: &Graph, id: NodeId, results: &[Datum], complete: bool) -> Option<String> {
    let pairs = graph[id].outputs().iter().zip(results).filter_map(|(v, r)| Some((&graph[(*v)?], r)));
    for (value, result) in pairs {
        if !admits(&value.ty, result, complete) {
            return Some(format!("{}: inferred {}, evaluated {}", graph[id].describe(), value.ty, type_of(result)));
        }
        let Datum::Tensor(t) = result else { continue };
        let told = value.contents.as_ref().and_then(|c| c.to_tensor(t.dtype()));
        // Known elements are numbers without the sign of a zero.
        let equal = |told: &Tensor| match (told.to_f64_vec(), t.to_f64_vec()) {
            (Ok(a), Ok(b)) if t.dtype().is_float() => told.shape() == t.shape() && a == b,
            _ => told == t,
        };
        if told.as_ref().is_some_and(|told| !equal(told)) {
            return Some(format!("{}: inferred the elements {told:?}, evaluated {t:?}", graph[id].describe()));
        }
    }
    None
}

/// Whether `datum` may be a value of type `ty`.
fn admits(ty: &ValueType, datum: &Datum, complete: bool) -> bool {
    match (ty, datum) {
        (ValueType::Unknown, _) => !complete,
        (ValueType::Tensor(told), Datum::Tensor(t)) => {
            let size_fits = |(d, &size): (&Dim, &usize)| match d.as_const() {
                Some(d) => d == size as i64,
                None => !complete,
            };
            let dims_fit = |dims: &Vec<Dim>| dims.len() == t.rank() && dims.iter().zip(t.shape()).all(size_fits);
            told.dtype == t.dtype() && told.dims.as_ref().map_or(!complete, dims_fit)
        }
        // The elements of a sequence may differ in size, so its type need not state them.
        (ValueType::Sequence(ty), Datum::Sequence(items)) => items.iter().all(|item| admits(ty, item, false)),
        (ValueType::Map(key, value), Datum::Map { keys, values }) => {
            *key == keys.dtype() && value.dtype().is_none_or(|v| v == values.dtype())
        }
        (ValueType::Optional(_), Datum::Optional(None)) => true,
        (ValueType::Optional(ty), Datum::Optional(Some(inner))) => admits(ty, inner, complete),
        (ValueType::Optional(ty), inner) => admits(ty, inner, complete),
        (ty, Datum::Optional(Some(inner))) => admits(ty, inner, complete),
        _ => false,
    }
}

fn type_of(datum: &Datum) -> ValueType {
    match datum {
        Datum::Map { keys, values } => {
            ValueType::Map(keys.dtype(), Box::new(ValueType::tensor(values.dtype(), Vec::new())))
        }
        Datum::Tensor(t) => TensorType::of(t).into(),
        Datum::Sequence(items) => ValueType::Sequence(Box::new(items.first().map_or(ValueType::Unknown, type_of))),
        Datum::Optional(inner) => {
            ValueType::Optional(Box::new(inner.as_ref().map_or(ValueType::Unknown, |inner| type_of(inner))))
        }
    }
}

fn infer_subgraphs(graph: &mut Graph, symbols: &mut Symbols, id: NodeId) -> Result<()> {
    if graph[id].subgraphs().next().is_none() {
        return Ok(());
    }
    let hook = registry::find(&graph[id].op).and_then(|op| op.subgraph_inputs);
    let mut attrs = graph[id].attrs.clone();
    let input_types: Vec<ValueType> =
        graph[id].inputs().iter().map(|v| v.map_or(ValueType::Unknown, |v| graph[v].ty.clone())).collect();
    for (_, attr) in attrs.0.iter_mut() {
        let Attr::Graph(body) = attr else { continue };
        for (outer, inner) in body.captures.clone() {
            body[inner].ty = graph[outer].ty.clone();
            body[inner].contents = graph[outer].contents.clone();
            if let Some(t) = graph.constant(outer) {
                body[inner].constant = Some(t.clone());
            }
        }
        let inferred = infer_graph(body, symbols);
        // A branch that does not fit these types may be one that is never taken.
        if &*graph[id].op == "If" {
            continue;
        }
        inferred?;
        // Each turn makes the carried types more general, so this ends.
        for _ in 0..4 {
            let Some(hook) = hook else { break };
            let types = hook(body, &graph[id].attrs, &input_types, symbols).at(|| graph[id].describe())?;
            let mut changed = false;
            for (v, ty) in body.inputs.clone().into_iter().zip(types) {
                if ty != ValueType::Unknown && ty != body[v].ty {
                    body[v].ty = ty;
                    changed = true;
                }
            }
            if !changed {
                break;
            }
            for v in body.value_ids() {
                if body[v].producer().is_some() {
                    body[v].ty = ValueType::Unknown;
                    body[v].contents = None;
                }
            }
            infer_graph(body, symbols)?;
        }
    }
    graph.edit_attrs(id, |a| *a = attrs);
    Ok(())
}

/// Keeps what was known before where the new result knows less (fresh symbols, unknown ranks).
fn merge(old: &ValueType, new: ValueType) -> ValueType {
    match (old, new) {
        (_, ValueType::Unknown) => old.clone(),
        (ValueType::Tensor(old), ValueType::Tensor(mut new)) => {
            new.dims = match (&old.dims, new.dims) {
                (Some(a), Some(b)) if a.len() == b.len() => {
                    Some(a.iter().zip(b).map(|(a, b)| if is_fresh(&b) { a.clone() } else { b }).collect())
                }
                (Some(a), None) => Some(a.clone()),
                (_, b) => b,
            };
            new.into()
        }
        // A file may know that an optional holds something.
        (ValueType::Tensor(_) | ValueType::Sequence(_), ValueType::Optional(new)) => merge(old, *new),
        (_, new) => new,
    }
}

/// The type of a value that may be either of two.
pub fn join(a: &ValueType, b: &ValueType, symbols: &mut Symbols) -> ValueType {
    match (a, b) {
        (ValueType::Unknown, other) | (other, ValueType::Unknown) => other.clone(),
        (ValueType::Tensor(a), ValueType::Tensor(b)) => {
            let dims = match (&a.dims, &b.dims) {
                (Some(x), Some(y)) if x.len() == y.len() => {
                    let each = x.iter().zip(y);
                    Some(each.map(|(x, y)| if x == y { x.clone() } else { symbols.fresh().into() }).collect())
                }
                _ => None,
            };
            TensorType { dtype: a.dtype, dims }.into()
        }
        (ValueType::Sequence(a), ValueType::Sequence(b)) => ValueType::Sequence(Box::new(join(a, b, symbols))),
        (ValueType::Optional(a), ValueType::Optional(b)) => ValueType::Optional(Box::new(join(a, b, symbols))),
        (ValueType::Optional(a), b) | (b, ValueType::Optional(a)) => ValueType::Optional(Box::new(join(a, b, symbols))),
        _ => a.clone(),
    }
}

fn is_fresh(d: &Dim) -> bool {
    d.as_symbol().is_some_and(|s| s.as_str().starts_with("_d"))
}
