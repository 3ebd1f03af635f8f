//! Makes nodes whose types are inferred as they are added; importers and passes use it.

use crate::infer::infer_node;
use oxrt_ir::{Atom, Attrs, DType, Dim, Graph, NodeId, Source, Symbol, Symbols, ValueId, ValueType};
use oxrt_tensor::{Error, Result, Tensor};
use rustc_hash::FxHashMap;
use std::sync::Arc;

/// Adds nodes to a graph, naming them, inferring their types, and stamping them with a source.
pub struct Builder<'g> {
    pub graph: &'g mut Graph,
    pub symbols: &'g mut Symbols,
    /// Stamped on every node added from now on.
    pub source: Option<Arc<Source>>,
    /// Start of the names of nodes and values added from now on.
    pub prefix: String,
    /// Whether names of values added from now on are made up by a rewrite.
    pub made_up: bool,
    counters: FxHashMap<String, usize>,
    /// Where the size of a symbol can be read: a value and its axis.
    symbol_sources: FxHashMap<Symbol, (ValueId, usize)>,
    /// Scalars (shape [1], i64) already made for an atom or symbol.
    dim_values: FxHashMap<Dim, ValueId>,
    first_node: usize,
}

impl<'g> Builder<'g> {
    pub fn new(graph: &'g mut Graph, symbols: &'g mut Symbols) -> Builder<'g> {
        let first_node = graph.num_nodes();
        let mut b = Builder {
            graph,
            symbols,
            source: None,
            prefix: String::new(),
            made_up: false,
            counters: FxHashMap::default(),
            symbol_sources: FxHashMap::default(),
            dim_values: FxHashMap::default(),
            first_node,
        };
        for v in b.graph.inputs.clone() {
            b.note_symbols(v);
        }
        b
    }

    /// Nodes added since the builder was made.
    pub fn added(&self) -> Vec<NodeId> {
        self.graph.node_ids().split_off(self.first_node)
    }

    pub fn add_input(&mut self, name: &str, ty: ValueType) -> ValueId {
        let v = self.graph.add_input(name, ty);
        self.note_symbols(v);
        v
    }

    /// Remembers that the plain symbols among the dimensions of `v` can be read from it.
    pub fn note_symbols(&mut self, v: ValueId) {
        let found: Vec<_> = (self.graph.dims(v).unwrap_or_default().iter().enumerate())
            .filter_map(|(axis, d)| Some((d.as_symbol()?.clone(), axis)))
            .collect();
        for (s, axis) in found {
            self.symbol_sources.entry(s).or_insert((v, axis));
        }
    }

    /// Remembers that the (scalar or one-element i64) value `v` holds the size `d`.
    pub fn note_dim_value(&mut self, d: Dim, v: ValueId) {
        self.dim_values.entry(d).or_insert(v);
    }

    /// A name that was not given out yet.
    pub fn name(&mut self, base: &str) -> String {
        let full = match self.prefix.is_empty() {
            true => base.to_string(),
            false => format!("{}/{base}", self.prefix),
        };
        let n = self.counters.entry(full.clone()).or_default();
        *n += 1;
        if *n == 1 { full } else { format!("{full}_{}", *n - 1) }
    }

    /// One node with one output.
    pub fn op(&mut self, op: &str, inputs: &[ValueId], attrs: Attrs) -> Result<ValueId> {
        let inputs: Vec<_> = inputs.iter().map(|&v| Some(v)).collect();
        Ok(self.op_multi(op, &inputs, attrs, 1)?[0])
    }

    /// One node without attributes and with one output.
    pub fn call(&mut self, op: &str, inputs: &[ValueId]) -> Result<ValueId> {
        self.op(op, inputs, Attrs::new())
    }

    /// One node with optional inputs and `outputs` outputs.
    pub fn op_multi(
        &mut self,
        op: &str,
        inputs: &[Option<ValueId>],
        attrs: Attrs,
        outputs: usize,
    ) -> Result<Vec<ValueId>> {
        let base = op.rsplit('.').next().unwrap_or(op).to_string();
        let name = self.name(&base);
        let id = self.graph.add_node(op, &name, inputs, attrs, outputs);
        self.graph[id].source = self.source.clone();
        infer_node(self.graph, self.symbols, id)?;
        let outs: Vec<ValueId> = self.graph[id].outputs().iter().flatten().copied().collect();
        for &v in &outs {
            self.graph[v].made_up = self.made_up;
            self.note_symbols(v);
        }
        Ok(outs)
    }

    pub fn constant(&mut self, tensor: Tensor) -> ValueId {
        let name = self.name("const");
        self.graph.add_constant(&name, tensor)
    }

    /// A vector of i64.
    pub fn ints(&mut self, values: &[i64]) -> ValueId {
        self.constant(Tensor::from_slice(&[values.len()], values))
    }

    /// A scalar of any numeric type.
    pub fn scalar(&mut self, dtype: DType, value: f64) -> Result<ValueId> {
        let t = Tensor::from_f64(dtype, &[], &[value])?;
        Ok(self.constant(t))
    }

    /// A scalar with the element type of `like`.
    pub fn scalar_like(&mut self, like: ValueId, value: f64) -> Result<ValueId> {
        let dtype = self.dtype(like)?;
        self.scalar(dtype, value)
    }

    pub fn dtype(&self, v: ValueId) -> Result<DType> {
        let value = &self.graph[v];
        value.ty.dtype().ok_or_else(|| Error::bug(format!("the element type of `{}` is unknown", value.name)))
    }

    pub fn dims(&self, v: ValueId) -> Result<Vec<Dim>> {
        let value = &self.graph[v];
        let dims = value.ty.dims().map(<[Dim]>::to_vec);
        dims.ok_or_else(|| Error::unsupported(format!("the rank of `{}` is unknown", value.name)))
    }

    pub fn rank(&self, v: ValueId) -> Result<usize> {
        Ok(self.dims(v)?.len())
    }

    pub fn cast(&mut self, v: ValueId, to: DType) -> Result<ValueId> {
        if self.dtype(v)? == to {
            return Ok(v);
        }
        self.op("Cast", &[v], Attrs::new().with("to", to.to_onnx() as i64))
    }

    /// An i64 vector that holds `dims` at run time: a constant when they are known, else arithmetic on
    /// `Shape` of values that carry the symbols.
    pub fn shape_value(&mut self, dims: &[Dim]) -> Result<ValueId> {
        if let Some(consts) = dims.iter().map(Dim::as_const).collect::<Option<Vec<_>>>() {
            return Ok(self.ints(&consts));
        }
        let parts = dims.iter().map(|d| self.dim_value(d)).collect::<Result<Vec<_>>>()?;
        if let [one] = parts[..] {
            return Ok(one);
        }
        self.op("Concat", &parts, Attrs::new().with("axis", 0))
    }

    /// The size `d` as an i64 vector of one element.
    pub fn dim_value(&mut self, d: &Dim) -> Result<ValueId> {
        if let Some(&v) = self.dim_values.get(d) {
            return if self.rank(v)? == 0 { self.reshape_const(v, &[1]) } else { Ok(v) };
        }
        let value = match d.as_const() {
            Some(c) => self.ints(&[c]),
            None => self.emit_dim(d)?,
        };
        self.dim_values.insert(d.clone(), value);
        Ok(value)
    }

    fn emit_dim(&mut self, d: &Dim) -> Result<ValueId> {
        if let Some(s) = d.as_symbol() {
            let Some(&(v, axis)) = self.symbol_sources.get(s) else {
                return Err(Error::unsupported(format!("no tensor carries the size `{s}`")));
            };
            let axis = axis as i64;
            return self.op("Shape", &[v], Attrs::new().with("start", axis).with("end", axis + 1));
        }
        let (terms, constant) = d.sum_of_products();
        let terms: Vec<(i64, Vec<Atom>)> = terms.into_iter().map(|(c, m)| (c, m.to_vec())).collect();
        let mut sum: Option<ValueId> = None;
        for (coefficient, monomial) in terms {
            let mut product: Option<ValueId> = None;
            for atom in monomial {
                let factor = self.emit_atom(&atom)?;
                product = Some(match product {
                    Some(p) => self.call("Mul", &[p, factor])?,
                    None => factor,
                });
            }
            let mut term = product.ok_or_else(|| Error::bug("an empty monomial"))?;
            if coefficient == -1 && sum.is_some() {
                sum = Some(self.call("Sub", &[sum.expect("checked"), term])?);
                continue;
            }
            if coefficient != 1 {
                let c = self.ints(&[coefficient]);
                term = self.call("Mul", &[term, c])?;
            }
            sum = Some(match sum {
                Some(s) => self.call("Add", &[s, term])?,
                None => term,
            });
        }
        let sum = sum.ok_or_else(|| Error::bug("a symbolic dimension without terms"))?;
        if constant == 0 {
            return Ok(sum);
        }
        let c = self.ints(&[constant]);
        self.call("Add", &[sum, c])
    }

    fn emit_atom(&mut self, atom: &Atom) -> Result<ValueId> {
        let (op, a, b) = match atom {
            Atom::Symbol(s) => return self.dim_value(&s.clone().into()),
            Atom::FloorDiv(a, b) => ("Div", a, b),
            Atom::Mod(a, b) => ("Mod", a, b),
            Atom::Min(a, b) => ("Min", a, b),
            Atom::Max(a, b) => ("Max", a, b),
            Atom::Broadcast(list) => {
                // The largest, unless one is 0: then 0.
                let mut sizes = list.iter().map(|d| self.dim_value(d)).collect::<Result<Vec<_>>>()?;
                let largest = self.call("Max", &sizes)?;
                sizes.push(self.ints(&[1]));
                let some = self.call("Min", &sizes)?;
                return self.call("Mul", &[largest, some]);
            }
        };
        let (x, y) = (self.dim_value(a)?, self.dim_value(b)?);
        let (lo, _) = a.bounds(&|s| self.symbols.bounds(s));
        if op != "Div" || lo >= 0 {
            return self.call(op, &[x, y]);
        }
        // ONNX `Div` truncates: floor(a/b) = (a - mod(a, b)) / b.
        let rest = self.call("Mod", &[x, y])?;
        let whole = self.call("Sub", &[x, rest])?;
        self.call("Div", &[whole, y])
    }

    /// Reshape to a constant shape (which may hold one -1).
    pub fn reshape_const(&mut self, v: ValueId, shape: &[i64]) -> Result<ValueId> {
        let shape = self.ints(shape);
        self.call("Reshape", &[v, shape])
    }

    /// Reshape to symbolic dimensions. One symbolic dimension becomes -1, so that no shape arithmetic
    /// is needed in the common case.
    pub fn reshape(&mut self, v: ValueId, dims: &[Dim]) -> Result<ValueId> {
        if self.graph.dims(v) == Some(dims) {
            return Ok(v);
        }
        let symbolic = dims.iter().filter(|d| d.as_const().is_none()).count();
        let out = if symbolic <= 1 && !dims.iter().any(|d| d.is(0)) {
            let shape: Vec<i64> = dims.iter().map(|d| d.as_const().unwrap_or(-1)).collect();
            self.reshape_const(v, &shape)?
        } else {
            let shape = self.shape_value(dims)?;
            self.op("Reshape", &[v, shape], Attrs::new().with("allowzero", dims.iter().any(|d| d.is(0))))?
        };
        // The caller states the dimensions; they may know more than division finds out.
        let dtype = self.dtype(out)?;
        self.graph[out].ty = ValueType::tensor(dtype, dims.to_vec());
        Ok(out)
    }

    pub fn transpose(&mut self, v: ValueId, perm: &[usize]) -> Result<ValueId> {
        if perm.iter().enumerate().all(|(i, &p)| i == p) {
            return Ok(v);
        }
        let perm: Vec<i64> = perm.iter().map(|&p| p as i64).collect();
        self.op("Transpose", &[v], Attrs::new().with("perm", perm))
    }

    pub fn unsqueeze(&mut self, v: ValueId, axes: &[i64]) -> Result<ValueId> {
        let axes = self.ints(axes);
        self.call("Unsqueeze", &[v, axes])
    }

    pub fn squeeze(&mut self, v: ValueId, axes: &[i64]) -> Result<ValueId> {
        let axes = self.ints(axes);
        self.call("Squeeze", &[v, axes])
    }
}
