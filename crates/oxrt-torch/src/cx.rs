//! The state of a lowering: values by torch name, aliases, sources, problems.

use crate::alias::{Slot, TensorId, View};
use crate::schema;
use crate::symbols::{Ratio, SymbolTable};
use oxrt_ir::{Attrs, DType, Dim, Source, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Kind, Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};
use std::sync::Arc;

/// What a name of the program stands for.
#[derive(Clone, Debug)]
pub(crate) enum Val<'a> {
    Tensor(TensorId),
    Int(Dim),
    Float(f64),
    /// A float computed from sizes.
    SymFloat(Ratio),
    Bool(bool),
    /// A number known at run time only: a tensor of rank 0.
    Runtime(ValueId),
    Complex(f64, f64),
    List(Vec<Val<'a>>),
    Text(String),
    DType(DType),
    Graph(&'a schema::Graph),
    None,
    /// Something that oxrt cannot express; an error for whoever uses it.
    Unusable(String),
}

/// One (sub)graph of the program being lowered.
pub(crate) struct Scope<'a> {
    pub graph: &'a schema::Graph,
    pub env: FxHashMap<&'a str, Val<'a>>,
    /// Names that some node or output reads.
    pub used: FxHashSet<&'a str>,
}

/// An operator that oxrt cannot lower, with its first place.
#[derive(Clone, Debug)]
pub(crate) struct Problem {
    pub what: String,
    pub help: Option<String>,
    pub count: usize,
    pub place: String,
}

pub(crate) struct Cx<'a, 'g> {
    pub b: Builder<'g>,
    pub symbols: SymbolTable,
    pub slots: Vec<Slot>,
    pub scopes: Vec<Scope<'a>>,
    /// Element type that the enclosing autocast region computes in.
    pub autocast: Option<DType>,
    pub warnings: Vec<String>,
    pub problems: Vec<Problem>,
    /// Values that hold complex numbers, with a last axis of two.
    pub complex: FxHashSet<ValueId>,
    /// Names given to values so far.
    pub taken: FxHashSet<String>,
    /// Truth at run time of comparisons that the ranges of sizes told by data decide.
    pub assumed: FxHashMap<&'a str, ValueId>,
    pub last_source: Option<(&'a schema::Metadata, Arc<Source>)>,
}

impl<'a, 'g> Cx<'a, 'g> {
    pub fn scope(&mut self) -> Result<&mut Scope<'a>> {
        self.scopes.last_mut().ok_or_else(|| Error::bug("no scope"))
    }

    pub fn lookup(&self, name: &str) -> Result<Val<'a>> {
        let found = self.scopes.last().and_then(|s| s.env.get(name)).cloned();
        found.ok_or_else(|| {
            Error::invalid(format!("the program reads `{name}` before it is made"))
                .help("the file is damaged; export and save the model again")
        })
    }

    pub fn define(&mut self, name: &'a str, val: Val<'a>) -> Result<()> {
        self.scope()?.env.insert(name, val);
        Ok(())
    }

    /// Element type and dimensions that the file states for a tensor.
    pub fn meta(&mut self, name: &str) -> Result<Option<(DType, Vec<Dim>)>> {
        let graph = match self.scopes.last() {
            Some(s) => s.graph,
            None => return Ok(None),
        };
        let Some(meta) = graph.tensor_values.get(name) else { return Ok(None) };
        if meta.dtype == schema::COMPLEX_HALF {
            // There is no such element type here: pairs of halves, of which the operator says the rest.
            return Ok(None);
        }
        let Some(dtype) = schema::dtype_of(meta.dtype) else {
            bail!(unsupported, "element type number {} of `{name}`", meta.dtype)
        };
        let dims = meta.sizes.iter().map(|s| self.symbols.dim(s)).collect::<Result<Vec<_>>>()?;
        if dims.iter().any(|d| d.as_const().is_some_and(|c| c < 0)) {
            bail!(invalid, "`{name}` has a negative size");
        }
        Ok(Some((dtype, dims)))
    }

    /// Whether the file's strides say that a tensor is laid out row by row.
    pub fn is_contiguous(&mut self, name: &str) -> Result<bool> {
        let Some(strides) = self.strides(name)? else { return Ok(true) };
        let Some((_, dims)) = self.meta(name)? else { return Ok(true) };
        let mut expected = Dim::Const(1);
        for (d, s) in dims.iter().zip(&strides).rev() {
            if !d.is(1) && *s != expected {
                return Ok(false);
            }
            expected = expected * d.clone();
        }
        Ok(true)
    }

    pub fn strides(&mut self, name: &str) -> Result<Option<Vec<Dim>>> {
        let Some(scope) = self.scopes.last() else { return Ok(None) };
        let Some(meta) = scope.graph.tensor_values.get(name) else { return Ok(None) };
        if meta.strides.len() != meta.sizes.len() {
            return Ok(None);
        }
        meta.strides.iter().map(|s| self.symbols.dim(s)).collect::<Result<Vec<_>>>().map(Some)
    }

    /// Compares what was inferred for `v` with what the file states, keeps the file's dimensions, and
    /// names the value after torch.
    pub fn settle(&mut self, v: ValueId, name: &str, first_new: usize) -> Result<()> {
        if let Some((dtype, dims)) = self.meta(name)? {
            self.settle_type(v, dtype, dims, name)?;
        }
        let fresh = self.b.graph[v].producer().is_some_and(|(n, _)| n.0 as usize >= first_new);
        if fresh && !self.taken.contains(&self.b.graph[v].name) && self.taken.insert(name.to_string()) {
            self.b.graph[v].name = name.to_string();
        }
        self.b.note_symbols(v);
        Ok(())
    }

    fn settle_type(&mut self, v: ValueId, dtype: DType, mut dims: Vec<Dim>, name: &str) -> Result<()> {
        let value = &self.b.graph[v];
        if let Some(have) = value.ty.dtype().filter(|&d| d != real_dtype(dtype)) {
            bail!(bug, "`{name}` came out as {have}, the program says {dtype}");
        }
        if dtype.is_complex() {
            dims.push(Dim::Const(2));
            self.complex.insert(v);
        }
        let value = &self.b.graph[v];
        if let Some(have) = value.ty.dims().map(<[Dim]>::to_vec) {
            let agree = have.len() == dims.len() && have.iter().zip(&dims).all(|(a, b)| self.may_equal(a, b));
            if !agree {
                bail!(bug, "`{name}` came out with shape {have:?}, the program says {dims:?}");
            }
            for (d, h) in dims.iter_mut().zip(have) {
                if d.as_const().is_none() && h.as_const().is_some() {
                    *d = h;
                }
            }
        }
        self.b.graph[v].ty = ValueType::tensor(real_dtype(dtype), dims);
        Ok(())
    }

    /// Whether two sizes agree at the example's sizes.
    fn may_equal(&self, a: &Dim, b: &Dim) -> bool {
        let hint = |d: &Dim| d.eval(&|s| self.symbols.hints.get(s).copied());
        match (hint(a), hint(b)) {
            (Some(a), Some(b)) => a == b,
            _ => true,
        }
    }

    // ---- aliases ----

    pub fn new_tensor(&mut self, value: ValueId) -> TensorId {
        let id = TensorId(self.slots.len() as u32);
        self.slots.push(Slot { value, version: 0, parent: None, root: id, current: 0, depth: 0 });
        id
    }

    pub fn new_view(&mut self, base: TensorId, view: View, value: ValueId) -> Result<TensorId> {
        let id = TensorId(self.slots.len() as u32);
        let parent = &self.slots[base.0 as usize];
        let (root, depth) = (parent.root, parent.depth + 1);
        if depth > 2000 {
            bail!(unsupported, "a chain of more than 2000 views");
        }
        let version = self.slots[root.0 as usize].current;
        self.slots.push(Slot { value, version, parent: Some((base, Arc::new(view))), root, current: 0, depth });
        Ok(id)
    }

    /// Present value of a tensor; a view of something written since is taken again.
    pub fn read(&mut self, id: TensorId) -> Result<ValueId> {
        let slot = &self.slots[id.0 as usize];
        let now = self.slots[slot.root.0 as usize].current;
        if slot.version == now {
            return Ok(slot.value);
        }
        let Some((parent, view)) = slot.parent.clone() else {
            return Err(Error::bug("a stale tensor that is no view"));
        };
        let old = slot.value;
        let base = self.read(parent)?;
        let value = view.apply(self, base)?;
        if value != base {
            self.b.graph[value].ty = self.b.graph[old].ty.clone();
        }
        if self.is_complex(old) {
            self.complex.insert(value);
        }
        let slot = &mut self.slots[id.0 as usize];
        (slot.value, slot.version) = (value, now);
        Ok(value)
    }

    /// Writes a tensor in place: the bases that it is a view of change with it.
    pub fn write(&mut self, id: TensorId, value: ValueId) -> Result<()> {
        let root = self.slots[id.0 as usize].root;
        match self.slots[id.0 as usize].parent.clone() {
            None => self.slots[id.0 as usize].current += 1,
            Some((parent, view)) => {
                let base = self.read(parent)?;
                let ty = self.b.graph[base].ty.clone();
                let updated = view.scatter(self, base, value)?;
                if updated != base {
                    self.b.graph[updated].ty = ty;
                }
                if self.is_complex(base) {
                    self.complex.insert(updated);
                }
                self.write(parent, updated)?;
            }
        }
        let now = self.slots[root.0 as usize].current;
        let slot = &mut self.slots[id.0 as usize];
        (slot.value, slot.version) = (value, now);
        Ok(())
    }

    // ---- values ----

    pub fn is_complex(&self, v: ValueId) -> bool {
        self.complex.contains(&v)
    }

    /// The element type of a value.
    pub fn dtype(&self, v: ValueId) -> Result<DType> {
        self.b.dtype(v)
    }

    pub fn dims(&self, v: ValueId) -> Result<Vec<Dim>> {
        self.b.dims(v)
    }

    pub fn rank(&self, v: ValueId) -> Result<usize> {
        self.b.rank(v)
    }

    /// A known size.
    pub fn size(&self, v: ValueId, axis: usize) -> Result<Dim> {
        let dims = self.dims(v)?;
        dims.get(axis).cloned().ok_or_else(|| Error::invalid(format!("axis {axis} of a tensor of rank {}", dims.len())))
    }

    /// A size that must be known before the model runs.
    pub fn static_size(&self, v: ValueId, axis: usize, what: &str) -> Result<i64> {
        let d = self.size(v, axis)?;
        d.as_const().ok_or_else(|| Error::unsupported(format!("{what} with the dynamic size `{d}`")))
    }

    /// `axis` counted from the front. Rank 0 takes axes as rank 1 does.
    pub fn axis(&self, v: ValueId, axis: i64) -> Result<usize> {
        let rank = self.rank(v)?;
        if rank == 0 && (axis == 0 || axis == -1) {
            return Ok(0);
        }
        oxrt_ops::shape::axis(axis, rank)
    }

    pub fn call(&mut self, op: &str, inputs: &[ValueId]) -> Result<ValueId> {
        self.b.call(op, inputs)
    }

    pub fn op(&mut self, op: &str, inputs: &[ValueId], attrs: Attrs) -> Result<ValueId> {
        self.b.op(op, inputs, attrs)
    }

    pub fn cast(&mut self, v: ValueId, to: DType) -> Result<ValueId> {
        let from = self.dtype(v)?;
        if from == to {
            return Ok(v);
        }
        if let Some(t) = self.b.graph.constant(v).filter(|t| t.len() <= 64) {
            // Small constants are cast here; bools become 0 and 1, floats truncate, as Cast does.
            let (shape, values) = (t.shape().to_vec(), t.to_f64_vec()?);
            let exact = !from.is_int() || values.iter().all(|x| x.abs() < 9e15);
            let in_range = !to.is_int() || values.iter().all(|x| x.is_finite() && x.abs() < 9e18);
            if exact && in_range {
                let cast = match to.is_int() && from.is_int() {
                    true => Tensor::from_i64(to, &shape, &t.to_i64_vec()?)?,
                    false => Tensor::from_f64(to, &shape, &values)?,
                };
                return Ok(self.b.constant(cast));
            }
        }
        self.b.cast(v, to)
    }

    /// A size as a tensor of rank 0.
    pub fn dim_scalar(&mut self, d: &Dim) -> Result<ValueId> {
        match d.as_const() {
            Some(c) => Ok(self.b.constant(Tensor::scalar(c))),
            None => {
                let v = self.b.dim_value(d)?;
                self.b.squeeze(v, &[0])
            }
        }
    }

    /// Sizes as an i64 vector; constants where they are known.
    pub fn shape(&mut self, dims: &[Dim]) -> Result<ValueId> {
        self.b.shape_value(dims)
    }

    /// Reshape to dimensions.
    pub fn reshape(&mut self, v: ValueId, dims: &[Dim]) -> Result<ValueId> {
        self.b.reshape(v, dims)
    }

    /// Broadcast to dimensions; nothing when it has them already.
    pub fn expand(&mut self, v: ValueId, dims: &[Dim]) -> Result<ValueId> {
        if self.dims(v)? == dims {
            return Ok(v);
        }
        let shape = self.shape(dims)?;
        let out = self.call("Expand", &[v, shape])?;
        let dtype = self.dtype(out)?;
        self.b.graph[out].ty = ValueType::tensor(dtype, dims.to_vec());
        Ok(out)
    }

    /// Constant of rank 0 with the element type of `like`.
    pub fn like(&mut self, like: ValueId, x: f64) -> Result<ValueId> {
        self.b.scalar_like(like, x)
    }

    pub fn slice(&mut self, v: ValueId, axis: usize, start: &Dim, end: &Dim, step: i64) -> Result<ValueId> {
        let n = self.size(v, axis)?;
        let whole = end.as_const() == Some(i64::MAX) || *end == n;
        if start.is(0) && whole && step == 1 {
            return Ok(v);
        }
        let (start, end) = (self.b.dim_value(start)?, self.b.dim_value(end)?);
        let axes = self.b.ints(&[axis as i64]);
        if step == 1 {
            return self.call("Slice", &[v, start, end, axes]);
        }
        let steps = self.b.ints(&[step]);
        self.call("Slice", &[v, start, end, axes, steps])
    }

    pub fn concat(&mut self, parts: &[ValueId], axis: usize) -> Result<ValueId> {
        match parts {
            [] => bail!(invalid, "nothing to concatenate"),
            [one] => Ok(*one),
            _ => self.op("Concat", parts, Attrs::new().with("axis", axis as i64)),
        }
    }

    /// Reduces `axes` (all when empty) with an operator that takes its axes as an input.
    pub fn reduce(&mut self, op: &str, v: ValueId, axes: &[usize], keep: bool) -> Result<ValueId> {
        if self.rank(v)? == 0 {
            return Ok(v);
        }
        let attrs = Attrs::new().with("keepdims", keep);
        if axes.is_empty() {
            return self.op(op, &[v], attrs);
        }
        let axes: Vec<i64> = axes.iter().map(|&a| a as i64).collect();
        let axes = self.b.ints(&axes);
        self.op(op, &[v, axes], attrs)
    }

    pub fn warn(&mut self, message: String) {
        if self.warnings.len() < 100 && !self.warnings.contains(&message) {
            self.warnings.push(message);
        }
    }

    /// Notes an unsupported operator; other errors pass through.
    pub fn note_problem(&mut self, error: Error, target: &str, place: &str) -> Result<()> {
        if error.kind() != Kind::Unsupported {
            return Err(error);
        }
        let what = format!("{target}: {}", error.message());
        match self.problems.iter_mut().find(|p| p.what == what) {
            Some(p) => p.count += 1,
            None => self.problems.push(Problem {
                what,
                help: error.remedy().map(str::to_string),
                count: 1,
                place: place.to_string(),
            }),
        }
        Ok(())
    }
}

/// Complex tensors are kept as real ones with a last axis of two.
pub(crate) fn real_dtype(d: DType) -> DType {
    match d {
        DType::C64 => DType::F32,
        DType::C128 => DType::F64,
        d => d,
    }
}
