//! Subgraphs: a part of the script that runs inside an `If` or a `Loop`, and what of its effects gets out.

use super::interp::{Env, Interp};
use super::value::{Cell, Heap, Ref, Sv, map_values, same};
use crate::alias::TensorId;
use crate::cx::{Cx, Scope};
use crate::schema;
use crate::subgraph::{Start, Subgraph};
use oxrt_ir::{DType, Dim, Graph, ValueId, ValueType};
use oxrt_tensor::{Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};
use std::rc::Rc;
use std::sync::OnceLock;

/// A value as it leaves a region: known parts stay, the rest are values of the region's graph.
#[derive(Clone, Debug)]
pub(crate) enum Out {
    /// The same for whoever reads it: text, None, references to what was there before.
    Fixed(Sv),
    Tensor(TensorId, ValueId),
    /// A number, as known and as a value of rank 0.
    Number(Sv, ValueId),
    Sequence(ValueId),
    Tuple(Vec<Out>),
    Named(Rc<str>, Vec<(Rc<str>, Out)>),
    List(Vec<Out>),
    Dict(Vec<(Sv, Out)>),
    Object(Rc<str>, Rc<str>, Vec<(Rc<str>, Out)>),
}

/// What a region left behind.
pub(crate) struct Effects {
    pub vars: Vec<(Rc<str>, Out)>,
    /// Tensors of the enclosing graph that were written in place, by their roots.
    pub written: Vec<(TensorId, ValueId)>,
    /// Lists, dicts and objects from outside that were changed.
    pub cells: Vec<(Ref, Out)>,
}

/// What was there when a region was entered.
pub(crate) struct Before {
    pub cells: usize,
    pub slots: usize,
    current: Vec<u32>,
    heap: Heap,
    /// Number of the first symbol made inside.
    first_symbol: u64,
}

impl Before {
    /// The same without the contents of the heap.
    pub fn clone_marks(&self) -> Before {
        let (cells, slots, first_symbol) = (self.cells, self.slots, self.first_symbol);
        Before { cells, slots, current: Vec::new(), heap: Heap::default(), first_symbol }
    }

    /// Whether a size is known outside of the region.
    pub fn is_outer(&self, d: &Dim) -> bool {
        let mut outer = true;
        d.for_each_symbol(&mut |s| outer &= symbol_number(s.as_str()).is_none_or(|n| n < self.first_symbol));
        outer
    }
}

/// `_d17` → 17
pub(crate) fn symbol_number(name: &str) -> Option<u64> {
    name.strip_prefix("_d")?.parse().ok()
}

pub(crate) fn empty_scope() -> Scope<'static> {
    static EMPTY: OnceLock<schema::Graph> = OnceLock::new();
    let names = ["0", "1", "2", "3", "4", "5", "6", "7", "8", "9"];
    Scope {
        graph: EMPTY.get_or_init(schema::Graph::default),
        env: FxHashMap::default(),
        used: names.into_iter().collect(),
    }
}

impl Interp<'_> {
    /// Runs `f` with a graph of its own, in which everything outside can be read. The script's state is put back
    /// afterwards; what should survive is in the result.
    pub fn region<R>(
        &mut self,
        cx: &mut Cx<'static, '_>,
        label: &str,
        inputs: &[ValueType],
        f: impl FnOnce(&mut Self, &mut Cx<'static, '_>, &[ValueId], &Before) -> Result<R>,
    ) -> Result<(Graph, R)> {
        let outer_env = self.frames.last().map(|f| f.env.clone()).unwrap_or_default();
        let outer_heap = self.heap.clone();
        let outer_sources = self.int_sources.clone();

        // Everything that can be reached is captured; what is not read is dropped again.
        let mut seen: FxHashSet<ValueId> = FxHashSet::default();
        let mut reachable: Vec<ValueId> = Vec::new();
        let mut note = |v: &mut ValueId| {
            if seen.insert(*v) {
                reachable.push(*v);
            }
        };
        cx.slots.iter().for_each(|s| note(&mut s.value.clone()));
        self.int_sources.iter().for_each(|(_, v)| note(&mut v.clone()));
        if let Some(frame) = self.frames.last_mut() {
            frame.env.values_mut().for_each(|v| map_values(v, &mut note));
        }
        self.heap.cells_mut().for_each(|c| c.map_values(&mut note));
        let mut sub = Subgraph::new(cx, label, inputs, reachable);
        let inside = &sub.inside;
        let mut map = |v: &mut ValueId| {
            if let Some(&copy) = inside.get(v) {
                *v = copy;
            }
        };
        let mut slots = cx.slots.clone();
        slots.iter_mut().for_each(|s| map(&mut s.value));
        self.int_sources.iter_mut().for_each(|(_, v)| map(v));
        if let Some(frame) = self.frames.last_mut() {
            frame.env.values_mut().for_each(|v| map_values(v, &mut map));
        }
        self.heap.cells_mut().for_each(|c| c.map_values(&mut map));
        let complex = cx.complex.iter().filter_map(|v| inside.get(v).copied()).collect();
        let marker = cx.b.symbols.fresh();
        let before = Before {
            cells: self.heap.len(),
            slots: slots.len(),
            current: slots.iter().map(|s| s.current).collect(),
            heap: self.heap.clone(),
            first_symbol: symbol_number(marker.as_str()).unwrap_or(u64::MAX),
        };
        let start = Start { slots, scopes: vec![empty_scope()], complex };
        let input_values = sub.inputs.clone();
        let result = sub.build(cx, start, |cx| {
            for (d, v) in &self.int_sources {
                cx.b.note_dim_value(d.clone(), *v);
            }
            f(self, cx, &input_values, &before)
        });
        self.heap = outer_heap;
        self.int_sources = outer_sources;
        if let Some(frame) = self.frames.last_mut() {
            frame.env = outer_env;
        }
        Ok((sub.graph, result?))
    }

    /// What a region did, seen from outside: the variables `names`, writes in place, changed containers.
    pub fn effects(&mut self, cx: &mut Cx<'static, '_>, before: &Before, names: &[Rc<str>]) -> Result<Effects> {
        let env: Env = self.frames.last().map(|f| f.env.clone()).unwrap_or_default();
        let mut vars = Vec::new();
        for name in names {
            if let Some(v) = env.get(name) {
                vars.push((name.clone(), self.describe(cx, before, v)?));
            }
        }
        let mut written = Vec::new();
        for i in 0..before.slots {
            if cx.slots[i].parent.is_none() && cx.slots[i].current != before.current[i] {
                let id = TensorId(i as u32);
                written.push((id, cx.read(id)?));
            }
        }
        let mut cells = Vec::new();
        for i in 0..before.cells {
            let r = Ref(i as u32);
            if same_cell(self.heap.get(r), before.heap.get(r)) {
                continue;
            }
            let cell = self.heap.get(r).clone();
            cells.push((r, self.describe_cell(cx, before, &cell)?));
        }
        Ok(Effects { vars, written, cells })
    }

    pub fn describe(&mut self, cx: &mut Cx<'static, '_>, before: &Before, v: &Sv) -> Result<Out> {
        Ok(match v {
            Sv::Tensor(id) => Out::Tensor(*id, cx.read(*id)?),
            Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_) => {
                Out::Number(v.clone(), self.scalar_value(cx, v)?)
            }
            Sv::Tuple(items) => Out::Tuple(items.iter().map(|i| self.describe(cx, before, i)).collect::<Result<_>>()?),
            Sv::NamedTuple(class, items) => Out::Named(class.clone(), self.describe_fields(cx, before, items)?),
            Sv::List(r) | Sv::Dict(r) | Sv::Object(r) if (r.0 as usize) >= before.cells => {
                let cell = self.heap.get(*r).clone();
                self.describe_cell(cx, before, &cell)?
            }
            other => Out::Fixed(other.clone()),
        })
    }

    fn describe_fields(
        &mut self,
        cx: &mut Cx<'static, '_>,
        before: &Before,
        items: &[(Rc<str>, Sv)],
    ) -> Result<Vec<(Rc<str>, Out)>> {
        items.iter().map(|(n, v)| Ok((n.clone(), self.describe(cx, before, v)?))).collect()
    }

    pub fn describe_cell(&mut self, cx: &mut Cx<'static, '_>, before: &Before, cell: &Cell) -> Result<Out> {
        Ok(match cell {
            Cell::List(items) => Out::List(items.iter().map(|i| self.describe(cx, before, i)).collect::<Result<_>>()?),
            Cell::Sequence(v) => Out::Sequence(*v),
            Cell::Dict(pairs) => Out::Dict(
                pairs.iter().map(|(k, v)| Ok((k.clone(), self.describe(cx, before, v)?))).collect::<Result<_>>()?,
            ),
            Cell::Object { class, path, fields } => {
                Out::Object(class.clone(), path.clone(), self.describe_fields(cx, before, fields)?)
            }
        })
    }
}

fn same_cell(a: &Cell, b: &Cell) -> bool {
    match (a, b) {
        (Cell::List(a), Cell::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Cell::Sequence(a), Cell::Sequence(b)) => a == b,
        (Cell::Dict(a), Cell::Dict(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(&a.0, &b.0) && same(&a.1, &b.1))
        }
        (Cell::Object { fields: a, .. }, Cell::Object { fields: b, .. }) => {
            a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.0 == b.0 && same(&a.1, &b.1))
        }
        _ => false,
    }
}

// ---- what two ways agree on ----

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeafKind {
    Tensor,
    Int,
    Float,
    Bool,
    Sequence,
}

/// The shape of a value of which some parts are known at run time only: those are leaves.
#[derive(Clone, Debug)]
pub(crate) enum Merged {
    Fixed(Sv),
    Leaf(usize, LeafKind),
    Tuple(Vec<Merged>),
    Named(Rc<str>, Vec<(Rc<str>, Merged)>),
    List(Vec<Merged>),
    Dict(Vec<(Sv, Merged)>),
    Object(Rc<str>, Rc<str>, Vec<(Rc<str>, Merged)>),
    /// A list of tensors of which only the run knows how many.
    Sequence(ValueId),
}

pub(crate) fn kind_of(dtype: DType) -> LeafKind {
    match dtype {
        DType::Bool => LeafKind::Bool,
        d if d.is_int() => LeafKind::Int,
        _ => LeafKind::Float,
    }
}

impl Interp<'_> {
    /// The script's value for a merged one, its leaves being values of the present graph.
    pub fn rebuild(&mut self, cx: &mut Cx<'static, '_>, m: &Merged, leaves: &[ValueId]) -> Result<Sv> {
        Ok(match m {
            Merged::Fixed(v) => v.clone(),
            Merged::Leaf(i, LeafKind::Tensor) => Sv::Tensor(cx.new_tensor(leaves[*i])),
            Merged::Leaf(i, LeafKind::Sequence) => Sv::List(self.heap.add(Cell::Sequence(leaves[*i]))),
            Merged::Leaf(i, _) => self.number_of(cx, leaves[*i])?,
            Merged::Tuple(items) => {
                Sv::Tuple(Rc::new(items.iter().map(|i| self.rebuild(cx, i, leaves)).collect::<Result<_>>()?))
            }
            Merged::Named(class, items) => {
                Sv::NamedTuple(class.clone(), Rc::new(self.rebuild_fields(cx, items, leaves)?))
            }
            Merged::List(_) | Merged::Dict(_) | Merged::Object(..) | Merged::Sequence(_) => {
                let cell = self.rebuild_cell(cx, m, leaves)?;
                let make = match cell {
                    Cell::Dict(_) => Sv::Dict,
                    Cell::Object { .. } => Sv::Object,
                    _ => Sv::List,
                };
                make(self.heap.add(cell))
            }
        })
    }

    fn rebuild_fields(
        &mut self,
        cx: &mut Cx<'static, '_>,
        items: &[(Rc<str>, Merged)],
        leaves: &[ValueId],
    ) -> Result<Vec<(Rc<str>, Sv)>> {
        items.iter().map(|(n, m)| Ok((n.clone(), self.rebuild(cx, m, leaves)?))).collect()
    }

    pub fn rebuild_cell(&mut self, cx: &mut Cx<'static, '_>, m: &Merged, leaves: &[ValueId]) -> Result<Cell> {
        Ok(match m {
            Merged::Leaf(i, LeafKind::Sequence) => Cell::Sequence(leaves[*i]),
            Merged::Sequence(v) => Cell::Sequence(*v),
            Merged::List(items) => {
                Cell::List(items.iter().map(|i| self.rebuild(cx, i, leaves)).collect::<Result<_>>()?)
            }
            Merged::Dict(pairs) => Cell::Dict(
                pairs.iter().map(|(k, m)| Ok((k.clone(), self.rebuild(cx, m, leaves)?))).collect::<Result<_>>()?,
            ),
            Merged::Object(class, path, fields) => Cell::Object {
                class: class.clone(),
                path: path.clone(),
                fields: self.rebuild_fields(cx, fields, leaves)?,
            },
            _ => bail!(bug, "a container that is none"),
        })
    }
}
