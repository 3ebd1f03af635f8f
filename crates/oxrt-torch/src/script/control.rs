//! Branches. Those that are decided while the script is read are followed; those that the data decides become `If`.

use super::ast::{Stmt, assigned};
use super::interp::{Flow, Interp};
use super::region::{Before, Effects, LeafKind, Merged, Out, kind_of};
use super::value::{Ref, Sv, same};
use crate::alias::TensorId;
use crate::aten::assertions::check;
use crate::cx::Cx;
use crate::subgraph::finish;
use oxrt_ir::{Attr, Attrs, DType, Dim, Graph, TensorType, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result, bail};
use std::rc::Rc;

pub(super) fn with_graph(mut attrs: Attrs, name: &str, g: Graph) -> Attrs {
    attrs.0.insert(name.to_string(), Attr::Graph(Box::new(g)));
    attrs
}

fn is_uninit(o: &Out) -> bool {
    matches!(o, Out::Fixed(Sv::Uninit))
}

/// One of the two sides of a branch: its graph, in which values may still be added.
pub(super) struct Side {
    pub graph: Graph,
    pub before: Before,
    pub effects: Effects,
}

/// A pair of values, one of either side, that become one output.
struct Join {
    yes: Option<ValueId>,
    no: Option<ValueId>,
    kind: LeafKind,
}

impl Interp<'_> {
    fn side(
        &mut self,
        cx: &mut Cx<'static, '_>,
        block: &[Stmt],
        names: &[Rc<str>],
        label: &str,
    ) -> Result<std::result::Result<Side, String>> {
        let result = self.region(cx, label, &[], |me, cx, _, before| {
            match me.block(cx, block)? {
                Flow::Next => {}
                Flow::Return(_) => bail!(unsupported, "a return inside of a branch that the data decides"),
            }
            let effects = me.effects(cx, before, names)?;
            Ok((effects, before.clone_marks()))
        });
        match result {
            Ok((graph, (effects, before))) => Ok(Ok(Side { graph, before, effects })),
            Err(e) => match self.raised.take() {
                Some(message) => {
                    self.recovered();
                    Ok(Err(message))
                }
                None => Err(e),
            },
        }
    }

    /// `if` on a bool of rank 0.
    pub fn branch(&mut self, cx: &mut Cx<'static, '_>, c: ValueId, yes: &[Stmt], no: &[Stmt]) -> Result<()> {
        if yes.is_empty() && no.is_empty() {
            return Ok(());
        }
        let mut names = Vec::new();
        assigned(yes, &mut names);
        assigned(no, &mut names);
        let label = cx.b.name("If");
        let (then_label, else_label) = (format!("{label}.then"), format!("{label}.else"));
        let a = self.side(cx, yes, &names, &then_label)?;
        let b = self.side(cx, no, &names, &else_label)?;
        let (mut a, mut b) = match (a, b) {
            (Ok(a), Ok(b)) => (a, b),
            // A side that raises is a check; the other one is all that remains to be done.
            (Ok(_), Err(message)) => {
                check(cx, c, &message)?;
                return self.plain_block(cx, yes);
            }
            (Err(message), Ok(_)) => {
                let c = cx.call("Not", &[c])?;
                check(cx, c, &message)?;
                return self.plain_block(cx, no);
            }
            (Err(_), Err(_)) => bail!(invalid, "both ways of a branch raise an exception"),
        };
        let mut joins: Vec<Join> = Vec::new();
        let mut vars = Vec::new();
        for name in &names {
            let find = |s: &Side| s.effects.vars.iter().find(|v| v.0 == *name).map(|v| v.1.clone());
            if let (Some(x), Some(y)) = (find(&a), find(&b)) {
                let merged = self.join(cx, &mut a, &mut b, &x, &y, &mut joins);
                // Names that only one side means to use may differ beyond what an output can be.
                if let Ok(m) = merged {
                    vars.push((name.clone(), m));
                } else if let Err(e) = merged {
                    if let Some(&t) = self.usual.get(&c) {
                        return self.assumed(cx, t, if t { yes } else { no });
                    }
                    vars.push((name.clone(), Merged::Fixed(Sv::Uninit)));
                    cx.warn(format!("`{name}` after a branch: {}", e.message()));
                }
            }
        }
        let mut roots: Vec<TensorId> = a.effects.written.iter().chain(&b.effects.written).map(|w| w.0).collect();
        roots.sort_by_key(|t| t.0);
        roots.dedup();
        let mut written = Vec::new();
        for root in roots {
            let value = |s: &Side| -> Option<ValueId> {
                let found = s.effects.written.iter().find(|w| w.0 == root).map(|w| w.1);
                found.or_else(|| captured(&s.graph, cx.slots[root.0 as usize].value))
            };
            let (yes, no) = (value(&a), value(&b));
            if yes.is_none() || no.is_none() {
                bail!(bug, "a written tensor that is not captured");
            }
            written.push((root, joins.len()));
            joins.push(Join { yes, no, kind: LeafKind::Tensor });
        }
        let mut refs: Vec<Ref> = a.effects.cells.iter().chain(&b.effects.cells).map(|w| w.0).collect();
        refs.sort_by_key(|r| r.0);
        refs.dedup();
        let mut cells = Vec::new();
        for r in refs {
            let x = self.cell_of(cx, &mut a, r)?;
            let y = self.cell_of(cx, &mut b, r)?;
            cells.push((r, self.join(cx, &mut a, &mut b, &x, &y, &mut joins)?));
        }
        let ranks = |j: &Join| {
            let rank = |s: &Side, v: Option<ValueId>| v.and_then(|v| s.graph.dims(v).map(<[Dim]>::len));
            j.kind == LeafKind::Tensor && j.yes.is_some() && j.no.is_some() && rank(&a, j.yes) != rank(&b, j.no)
        };
        if let Some(&t) = self.usual.get(&c).filter(|_| joins.iter().any(ranks)) {
            return self.assumed(cx, t, if t { yes } else { no });
        }
        // Types of the outputs: where the sides differ in a size, it is a new one.
        let mut types = Vec::new();
        for j in &mut joins {
            types.push(join_types(cx, &mut a, &mut b, j)?);
        }
        let outputs = |get: fn(&Join) -> Option<ValueId>| joins.iter().filter_map(get).collect::<Vec<_>>();
        let (ya, nb) = (outputs(|j| j.yes), outputs(|j| j.no));
        if ya.is_empty() {
            let checks = |s: &Side| s.graph.nodes().any(|(_, n)| n.outputs().is_empty());
            if checks(&a) || checks(&b) {
                cx.warn("a check inside of a branch that gives no result is left out".to_string());
            }
            return Ok(());
        }
        let then = finish(a.graph, cx.b.symbols, &then_label, ya)?;
        let or = finish(b.graph, cx.b.symbols, &else_label, nb)?;
        let attrs = with_graph(with_graph(Attrs::new(), "then_branch", then), "else_branch", or);
        let out = cx.b.op_multi("If", &[Some(c)], attrs, types.len())?;
        for (&v, ty) in out.iter().zip(types) {
            cx.b.graph[v].ty = ty;
            cx.b.note_symbols(v);
        }
        for (r, m) in &cells {
            let cell = self.rebuild_cell(cx, m, &out)?;
            *self.heap.get_mut(*r) = cell;
        }
        for (root, i) in written {
            cx.write(root, out[i])?;
        }
        for (name, m) in vars {
            let v = self.rebuild(cx, &m, &out)?;
            self.set(name, v)?;
        }
        Ok(())
    }

    /// Takes the side of a test of sizes that holds when no size is zero: the sides give results that cannot be
    /// joined, of different ranks mostly.
    fn assumed(&mut self, cx: &mut Cx<'static, '_>, t: bool, block: &[Stmt]) -> Result<()> {
        let place = cx.b.source.as_ref().map(|s| format!("{} `{}`", s.location, s.code)).unwrap_or_default();
        cx.warn(format!("a test of sizes is taken to be {t}, as it is unless a size is zero: {place}"));
        self.plain_block(cx, block)
    }

    pub(super) fn set(&mut self, name: Rc<str>, v: Sv) -> Result<()> {
        let frame = self.frames.last_mut().ok_or_else(|| Error::bug("no call under way"))?;
        frame.env.insert(name, v);
        Ok(())
    }

    fn plain_block(&mut self, cx: &mut Cx<'static, '_>, block: &[Stmt]) -> Result<()> {
        match self.block(cx, block)? {
            Flow::Next => Ok(()),
            Flow::Return(_) => bail!(unsupported, "a return inside of a branch that the data decides"),
        }
    }

    /// A container as a side left it, changed there or not.
    fn cell_of(&mut self, cx: &mut Cx<'static, '_>, side: &mut Side, r: Ref) -> Result<Out> {
        if let Some((_, out)) = side.effects.cells.iter().find(|c| c.0 == r) {
            return Ok(out.clone());
        }
        let cell = self.heap.get(r).clone();
        let before = side.before.clone_marks();
        let out = self.describe_cell(cx, &before, &cell)?;
        translate(out, cx, &mut side.graph)
    }

    fn join(
        &mut self,
        cx: &mut Cx<'static, '_>,
        a: &mut Side,
        b: &mut Side,
        x: &Out,
        y: &Out,
        joins: &mut Vec<Join>,
    ) -> Result<Merged> {
        let mut leaf = |yes: Option<ValueId>, no: Option<ValueId>, kind: LeafKind| {
            joins.push(Join { yes, no, kind });
            Ok(Merged::Leaf(joins.len() - 1, kind))
        };
        let slots = a.before.slots.min(b.before.slots) as u32;
        match (x, y) {
            (Out::Fixed(x), Out::Fixed(y)) if same(x, y) => Ok(Merged::Fixed(x.clone())),
            (Out::Tensor(x, _), Out::Tensor(y, _)) if x == y && x.0 < slots => Ok(Merged::Fixed(Sv::Tensor(*x))),
            (Out::Tensor(_, x), Out::Tensor(_, y)) => leaf(Some(*x), Some(*y), LeafKind::Tensor),
            (Out::Number(x, xv), Out::Number(y, yv)) => {
                let outer = match (x, y) {
                    (Sv::Int(d), _) => a.before.is_outer(d),
                    (Sv::SymFloat(r), _) => a.before.is_outer(&r.num) && a.before.is_outer(&r.den),
                    (Sv::Scalar(_), _) => false,
                    _ => true,
                };
                if outer && same(x, y) {
                    return Ok(Merged::Fixed(x.clone()));
                }
                let dtype = |g: &Graph, v: ValueId| g[v].ty.dtype().unwrap_or(DType::F32);
                let (dx, dy) = (dtype(&a.graph, *xv), dtype(&b.graph, *yv));
                let common = crate::promote::promote(dx, dy);
                let xv = cast_in(&mut a.graph, cx, *xv, common)?;
                let yv = cast_in(&mut b.graph, cx, *yv, common)?;
                leaf(Some(xv), Some(yv), kind_of(common))
            }
            (Out::Sequence(x), Out::Sequence(y)) => leaf(Some(*x), Some(*y), LeafKind::Sequence),
            (Out::Tuple(x), Out::Tuple(y)) if x.len() == y.len() => Ok(Merged::Tuple(
                x.iter().zip(y).map(|(x, y)| self.join(cx, a, b, x, y, joins)).collect::<Result<_>>()?,
            )),
            (Out::Named(n, x), Out::Named(m, y)) if n == m && x.len() == y.len() => Ok(Merged::Named(
                n.clone(),
                x.iter()
                    .zip(y)
                    .map(|(x, y)| Ok((x.0.clone(), self.join(cx, a, b, &x.1, &y.1, joins)?)))
                    .collect::<Result<_>>()?,
            )),
            (Out::List(x), Out::List(y)) if x.len() == y.len() => {
                Ok(Merged::List(x.iter().zip(y).map(|(x, y)| self.join(cx, a, b, x, y, joins)).collect::<Result<_>>()?))
            }
            (Out::List(_) | Out::Sequence(_), Out::List(_) | Out::Sequence(_)) => {
                let dtype = element_type(&a.graph, x).or_else(|| element_type(&b.graph, y));
                let (x, y) = (sequence_in(&mut a.graph, cx, x, dtype)?, sequence_in(&mut b.graph, cx, y, dtype)?);
                leaf(Some(x), Some(y), LeafKind::Sequence)
            }
            (Out::Dict(x), Out::Dict(y)) if x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(&x.0, &y.0)) => {
                Ok(Merged::Dict(
                    x.iter()
                        .zip(y)
                        .map(|(x, y)| Ok((x.0.clone(), self.join(cx, a, b, &x.1, &y.1, joins)?)))
                        .collect::<Result<_>>()?,
                ))
            }
            (Out::Object(c, p, x), Out::Object(_, _, y))
                if x.len() == y.len() && x.iter().zip(y).all(|(x, y)| x.0 == y.0) =>
            {
                Ok(Merged::Object(
                    c.clone(),
                    p.clone(),
                    x.iter()
                        .zip(y)
                        .map(|(x, y)| Ok((x.0.clone(), self.join(cx, a, b, &x.1, &y.1, joins)?)))
                        .collect::<Result<_>>()?,
                ))
            }
            // What one side leaves unset is never read when that side was taken: anything of the type will do.
            (Out::Tensor(_, v), u) if is_uninit(u) => leaf(Some(*v), None, LeafKind::Tensor),
            (u, Out::Tensor(_, v)) if is_uninit(u) => leaf(None, Some(*v), LeafKind::Tensor),
            (Out::Number(n, _), u) | (u, Out::Number(n, _)) if is_uninit(u) && !matches!(n, Sv::Scalar(_)) => {
                let outer = match n {
                    Sv::Int(d) => a.before.is_outer(d),
                    _ => true,
                };
                if !outer {
                    bail!(unsupported, "a number that one side of a branch leaves unset");
                }
                Ok(Merged::Fixed(n.clone()))
            }
            (Out::Fixed(v), u) | (u, Out::Fixed(v)) if is_uninit(u) => Ok(Merged::Fixed(v.clone())),
            (x, y) => bail!(
                unsupported,
                "a branch that the data decides gives values of different kinds: {} and {}",
                describe(x),
                describe(y)
            ),
        }
    }
}

pub(super) fn captured(inner: &Graph, outer: ValueId) -> Option<ValueId> {
    inner.captures.iter().find(|c| c.0 == outer).map(|c| c.1)
}

pub(super) fn describe(o: &Out) -> &'static str {
    match o {
        Out::Fixed(v) => v.kind(),
        Out::Tensor(..) => "Tensor",
        Out::Number(v, _) => v.kind(),
        Out::Sequence(_) | Out::List(_) => "List",
        Out::Tuple(_) | Out::Named(..) => "Tuple",
        Out::Dict(_) => "Dict",
        Out::Object(..) => "object",
    }
}

pub(super) fn cast_in(graph: &mut Graph, cx: &mut Cx, v: ValueId, to: DType) -> Result<ValueId> {
    if graph[v].ty.dtype() == Some(to) {
        return Ok(v);
    }
    Builder::new(graph, &mut *cx.b.symbols).cast(v, to)
}

pub(super) fn element_type(graph: &Graph, o: &Out) -> Option<DType> {
    match o {
        Out::List(items) => items.iter().find_map(|i| match i {
            Out::Tensor(_, v) => graph[*v].ty.dtype(),
            _ => None,
        }),
        Out::Sequence(v) => match &graph[*v].ty {
            ValueType::Sequence(t) => t.dtype(),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn element_rank(graph: &Graph, o: &Out) -> Option<usize> {
    match o {
        Out::List(items) => {
            let ranks = items.iter().map(|i| match i {
                Out::Tensor(_, v) => graph.dims(*v).map(<[Dim]>::len),
                _ => None,
            });
            let ranks: Option<Vec<usize>> = ranks.collect();
            let ranks = ranks?;
            ranks.iter().all(|r| *r == ranks[0]).then(|| ranks.first().copied()).flatten()
        }
        Out::Sequence(v) => match &graph[*v].ty {
            ValueType::Sequence(t) => t.dims().map(<[Dim]>::len),
            _ => None,
        },
        _ => None,
    }
}

pub(super) fn sequence_in(graph: &mut Graph, cx: &mut Cx, o: &Out, dtype: Option<DType>) -> Result<ValueId> {
    let items = match o {
        Out::Sequence(v) => return Ok(*v),
        Out::List(items) => items,
        other => bail!(unsupported, "a {} where a list of tensors is needed", describe(other)),
    };
    let mut values = Vec::new();
    for i in items {
        let Out::Tensor(_, v) = i else { bail!(unsupported, "a list of {} that the data makes", describe(i)) };
        values.push(*v);
    }
    let mut b = Builder::new(graph, &mut *cx.b.symbols);
    if values.is_empty() {
        let dtype = dtype.ok_or_else(|| Error::unsupported("an empty list of unknown element type"))?;
        return b.op("SequenceEmpty", &[], Attrs::new().with("dtype", dtype.to_onnx() as i64));
    }
    b.call("SequenceConstruct", &values)
}

/// Values of the enclosing graph in `out`, as the side's captures.
fn translate(out: Out, cx: &mut Cx<'static, '_>, graph: &mut Graph) -> Result<Out> {
    let mut value = |v: ValueId| -> Result<ValueId> {
        if let Some(inner) = captured(graph, v) {
            return Ok(inner);
        }
        // A number that was made a value just now: captured late.
        let outer = &cx.b.graph[v];
        let copy = graph.add_value(&outer.name, outer.ty.clone());
        graph[copy].constant = outer.constant.clone();
        graph[copy].contents = outer.contents.clone();
        graph.captures.push((v, copy));
        Ok(copy)
    };
    fn walk(out: Out, value: &mut dyn FnMut(ValueId) -> Result<ValueId>) -> Result<Out> {
        let fields = |items: Vec<(Rc<str>, Out)>, value: &mut dyn FnMut(ValueId) -> Result<ValueId>| {
            items.into_iter().map(|(n, o)| Ok((n, walk(o, value)?))).collect::<Result<Vec<_>>>()
        };
        Ok(match out {
            Out::Tensor(id, v) => Out::Tensor(id, value(v)?),
            Out::Number(n, v) => Out::Number(n, value(v)?),
            Out::Sequence(v) => Out::Sequence(value(v)?),
            Out::Tuple(items) => Out::Tuple(items.into_iter().map(|o| walk(o, value)).collect::<Result<_>>()?),
            Out::List(items) => Out::List(items.into_iter().map(|o| walk(o, value)).collect::<Result<_>>()?),
            Out::Named(c, items) => Out::Named(c, fields(items, value)?),
            Out::Dict(items) => {
                Out::Dict(items.into_iter().map(|(k, o)| Ok((k, walk(o, value)?))).collect::<Result<_>>()?)
            }
            Out::Object(c, p, items) => Out::Object(c, p, fields(items, value)?),
            fixed => fixed,
        })
    }
    walk(out, &mut value)
}

/// The type of a joined output. A side without a value gets one of that type.
fn join_types(cx: &mut Cx<'static, '_>, a: &mut Side, b: &mut Side, j: &mut Join) -> Result<ValueType> {
    let ty = |s: &Side, v: Option<ValueId>| v.map(|v| s.graph[v].ty.clone());
    let (x, y) = (ty(a, j.yes), ty(b, j.no));
    let (x, y) = match (x, y) {
        (Some(x), Some(y)) => (x, y),
        (Some(x), None) => {
            j.no = Some(placeholder(&mut b.graph, cx, &x)?);
            (x.clone(), x)
        }
        (None, Some(y)) => {
            j.yes = Some(placeholder(&mut a.graph, cx, &y)?);
            (y.clone(), y)
        }
        (None, None) => bail!(bug, "an output that neither side has"),
    };
    if j.kind == LeafKind::Sequence {
        let elements = |t: &ValueType| match t {
            ValueType::Sequence(t) => (t.dtype(), t.dims().map(<[Dim]>::len)),
            _ => (None, None),
        };
        let ((Some(dx), rx), (Some(dy), ry)) = (elements(&x), elements(&y)) else {
            bail!(unsupported, "a list of unknown elements")
        };
        if dx != dy {
            bail!(unsupported, "a branch that the data decides gives lists of {dx} and {dy}");
        }
        let dims = if rx == ry { rx.map(|r| (0..r).map(|_| cx.b.symbols.fresh().into()).collect()) } else { None };
        return Ok(ValueType::Sequence(Box::new(ValueType::Tensor(TensorType { dtype: dx, dims }))));
    }
    let (Some(x), Some(y)) = (x.as_tensor().cloned(), y.as_tensor().cloned()) else {
        bail!(bug, "an output that is no tensor")
    };
    if x.dtype != y.dtype {
        bail!(unsupported, "a branch that the data decides gives {} on one side and {} on the other", x.dtype, y.dtype);
    }
    let dims = match (x.dims, y.dims) {
        (Some(x), Some(y)) if x.len() == y.len() => Some(
            (x.into_iter().zip(y))
                .map(|(x, y)| if x == y && a.before.is_outer(&x) { x } else { cx.b.symbols.fresh().into() })
                .collect(),
        ),
        _ => None,
    };
    Ok(ValueType::Tensor(TensorType { dtype: x.dtype, dims }))
}

/// Some value of a type: what one side of a branch leaves unset.
fn placeholder(graph: &mut Graph, cx: &mut Cx, ty: &ValueType) -> Result<ValueId> {
    let Some(t) = ty.as_tensor() else { bail!(unsupported, "a list that one side of a branch leaves unset") };
    let Some(dims) = &t.dims else {
        bail!(unsupported, "a value of unknown rank that one side of a branch leaves unset")
    };
    let shape: Vec<usize> = dims.iter().map(|d| d.as_size().unwrap_or(0)).collect();
    let mut b = Builder::new(graph, &mut *cx.b.symbols);
    Ok(b.constant(oxrt_ir::Tensor::zeros(t.dtype, &shape)))
}
