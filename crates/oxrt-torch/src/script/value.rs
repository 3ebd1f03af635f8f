//! Values of the script language while it is evaluated: what is known stays a Rust value, what is known at run
//! time only is a value of the graph.

use crate::alias::TensorId;
use crate::symbols::Ratio;
use oxrt_ir::{Dim, ValueId};
use std::rc::Rc;

/// Place in [`Heap`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Ref(pub u32);

#[derive(Clone, Debug)]
pub(crate) enum Sv {
    None,
    Tensor(TensorId),
    Int(Dim),
    Float(f64),
    /// A float computed from sizes.
    SymFloat(Ratio),
    Bool(bool),
    /// An int, float or bool that is known at run time only: a value of rank 0.
    Scalar(ValueId),
    Complex(f64, f64),
    Text(Rc<str>),
    /// `cpu` and its like: where a tensor lies does not change it.
    Device(Rc<str>),
    Tuple(Rc<Vec<Sv>>),
    /// A tuple with named fields, of this class.
    NamedTuple(Rc<str>, Rc<Vec<(Rc<str>, Sv)>>),
    List(Ref),
    Dict(Ref),
    Object(Ref),
    /// A function or class by its full name.
    Global(Rc<str>),
    /// `object.method` before it is called.
    Method(Ref, Rc<str>),
    /// `uninitialized(T)`: never read where control flow gets to.
    Uninit,
}

impl Sv {
    pub fn int(x: i64) -> Sv {
        Sv::Int(Dim::Const(x))
    }

    pub fn kind(&self) -> &'static str {
        match self {
            Sv::None => "None",
            Sv::Tensor(_) => "Tensor",
            Sv::Int(_) => "int",
            Sv::Float(_) | Sv::SymFloat(_) => "float",
            Sv::Bool(_) => "bool",
            Sv::Scalar(_) => "number",
            Sv::Complex(..) => "complex",
            Sv::Text(_) => "str",
            Sv::Device(_) => "Device",
            Sv::Tuple(_) | Sv::NamedTuple(..) => "Tuple",
            Sv::List(_) => "List",
            Sv::Dict(_) => "Dict",
            Sv::Object(_) => "object",
            Sv::Global(_) | Sv::Method(..) => "function",
            Sv::Uninit => "uninitialized",
        }
    }
}

#[derive(Clone, Debug)]
pub(crate) enum Cell {
    List(Vec<Sv>),
    /// A list of tensors whose length is known at run time only: an ONNX sequence.
    Sequence(ValueId),
    /// In order of insertion.
    Dict(Vec<(Sv, Sv)>),
    Object {
        class: Rc<str>,
        path: Rc<str>,
        fields: Vec<(Rc<str>, Sv)>,
    },
}

/// Lists, dicts and objects: what Python passes by reference.
#[derive(Clone, Debug, Default)]
pub(crate) struct Heap {
    cells: Vec<Cell>,
}

impl Heap {
    pub fn add(&mut self, cell: Cell) -> Ref {
        self.cells.push(cell);
        Ref(self.cells.len() as u32 - 1)
    }

    pub fn get(&self, r: Ref) -> &Cell {
        &self.cells[r.0 as usize]
    }

    pub fn get_mut(&mut self, r: Ref) -> &mut Cell {
        &mut self.cells[r.0 as usize]
    }

    pub fn len(&self) -> usize {
        self.cells.len()
    }

    pub fn list(&mut self, items: Vec<Sv>) -> Sv {
        Sv::List(self.add(Cell::List(items)))
    }

    pub fn cells_mut(&mut self) -> impl Iterator<Item = &mut Cell> {
        self.cells.iter_mut()
    }
}

/// Whether two values are the same without running anything.
pub(crate) fn same(a: &Sv, b: &Sv) -> bool {
    match (a, b) {
        (Sv::None, Sv::None) | (Sv::Uninit, Sv::Uninit) => true,
        (Sv::Tensor(a), Sv::Tensor(b)) => a == b,
        (Sv::Int(a), Sv::Int(b)) => a == b,
        (Sv::Float(a), Sv::Float(b)) => a.to_bits() == b.to_bits(),
        (Sv::SymFloat(a), Sv::SymFloat(b)) => a == b,
        (Sv::Bool(a), Sv::Bool(b)) => a == b,
        (Sv::Scalar(a), Sv::Scalar(b)) => a == b,
        (Sv::Complex(a, b), Sv::Complex(c, d)) => a == c && b == d,
        (Sv::Text(a), Sv::Text(b)) | (Sv::Device(a), Sv::Device(b)) | (Sv::Global(a), Sv::Global(b)) => a == b,
        (Sv::Tuple(a), Sv::Tuple(b)) => a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(a, b)),
        (Sv::NamedTuple(n, a), Sv::NamedTuple(m, b)) => {
            n == m && a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(&a.1, &b.1))
        }
        (Sv::List(a), Sv::List(b)) | (Sv::Dict(a), Sv::Dict(b)) | (Sv::Object(a), Sv::Object(b)) => a == b,
        (Sv::Method(a, n), Sv::Method(b, m)) => a == b && n == m,
        _ => false,
    }
}

/// Calls `f` for every value of the graph that `v` holds directly.
pub(crate) fn map_values(v: &mut Sv, f: &mut dyn FnMut(&mut ValueId)) {
    match v {
        Sv::Scalar(id) => f(id),
        // Plain tuples stay shared.
        Sv::Tuple(items) if items.iter().any(|i| !matches!(i, Sv::Int(_) | Sv::Tensor(_) | Sv::None)) => {
            Rc::make_mut(items).iter_mut().for_each(|i| map_values(i, f));
        }
        Sv::NamedTuple(_, items) => Rc::make_mut(items).iter_mut().for_each(|i| map_values(&mut i.1, f)),
        _ => {}
    }
}

impl Cell {
    pub fn map_values(&mut self, f: &mut dyn FnMut(&mut ValueId)) {
        match self {
            Cell::List(items) => items.iter_mut().for_each(|v| map_values(v, f)),
            Cell::Sequence(id) => f(id),
            Cell::Dict(pairs) => pairs.iter_mut().for_each(|p| map_values(&mut p.1, f)),
            Cell::Object { fields, .. } => fields.iter_mut().for_each(|p| map_values(&mut p.1, f)),
        }
    }
}
