//! Loops: unrolled where the number of turns is known, a `Loop` where the data decides.

use super::ast::{Expr, Stmt, assigned};
use super::control::{Side, captured, cast_in, describe, element_rank, element_type, sequence_in, with_graph};
use super::interp::{Flow, Interp, Truth};
use super::region::{LeafKind, Merged, Out, kind_of};
use super::value::{Cell, Ref, Sv, same};
use crate::alias::TensorId;
use crate::cx::Cx;
use crate::subgraph::finish;
use oxrt_ir::{Attrs, DType, Dim, TensorType, ValueId, ValueType};
use oxrt_tensor::{Error, Result, bail};
use std::rc::Rc;

/// Loops of a known number of turns up to this many are unrolled.
const MAX_UNROLLED: i64 = 1024;
/// Turns of a `while` that is decided at each turn.
const MAX_TURNS: usize = 100_000;
/// Attempts to find what a loop carries.
const MAX_TRIALS: usize = 12;

impl Interp<'_> {
    pub fn for_loop(&mut self, cx: &mut Cx<'static, '_>, name: &Rc<str>, n: &Dim, body: &[Stmt]) -> Result<Flow> {
        if let Some(n) = n.as_const() {
            if n <= MAX_UNROLLED {
                for i in 0..n {
                    self.set(name.clone(), Sv::int(i))?;
                    if let Flow::Return(v) = self.block(cx, body)? {
                        return Ok(Flow::Return(v));
                    }
                }
                return Ok(Flow::Next);
            }
        }
        let turns = cx.dim_scalar(n)?;
        self.loop_node(cx, Some(name), Some(turns), None, None, body)?;
        Ok(Flow::Next)
    }

    pub fn while_loop(&mut self, cx: &mut Cx<'static, '_>, test: &Expr, body: &[Stmt]) -> Result<Flow> {
        for _ in 0..MAX_TURNS {
            let v = self.eval(cx, test)?;
            match self.truth(cx, &v)? {
                Truth::Known(false) => return Ok(Flow::Next),
                Truth::Known(true) => {
                    if let Flow::Return(v) = self.block(cx, body)? {
                        return Ok(Flow::Return(v));
                    }
                }
                Truth::AtRunTime(c) => {
                    self.loop_node(cx, None, None, Some(c), Some(test), body)?;
                    return Ok(Flow::Next);
                }
            }
        }
        bail!(unsupported, "a loop of more than {MAX_TURNS} turns")
    }

    fn loop_node(
        &mut self,
        cx: &mut Cx<'static, '_>,
        counter: Option<&Rc<str>>,
        turns: Option<ValueId>,
        first: Option<ValueId>,
        test: Option<&Expr>,
        body: &[Stmt],
    ) -> Result<()> {
        let mut names = Vec::new();
        assigned(body, &mut names);
        if let Some(c) = counter {
            names.retain(|n| n != c);
        }
        let frame = self.frames.last().ok_or_else(|| Error::bug("no call under way"))?;
        names.retain(|n| frame.env.contains_key(n));
        let label = format!("{}.body", cx.b.name("Loop"));
        let mut state = Carried::default();
        for name in &names {
            let v = self.frames.last().and_then(|f| f.env.get(name).cloned()).unwrap_or(Sv::None);
            state.vars.push((name.clone(), Merged::Fixed(v)));
        }
        for _ in 0..MAX_TRIALS {
            let mut types = vec![ValueType::tensor(DType::I64, Vec::new()), ValueType::tensor(DType::Bool, Vec::new())];
            types.extend(state.leaves.iter().map(|l| l.ty.clone()));
            let now = state.clone();
            let (graph, (again, effects, before)) = self.region(cx, &label, &types, |me, cx, inputs, before| {
                let leaves = &inputs[2..];
                if let Some(name) = counter {
                    let d = Dim::from(cx.b.symbols.fresh());
                    cx.b.note_dim_value(d.clone(), inputs[0]);
                    me.int_sources.push((d.clone(), inputs[0]));
                    me.set(name.clone(), Sv::Int(d))?;
                }
                for (r, m) in &now.cells {
                    let cell = me.rebuild_cell(cx, m, leaves)?;
                    *me.heap.get_mut(*r) = cell;
                }
                for (root, leaf) in &now.written {
                    cx.write(*root, leaves[*leaf])?;
                }
                for (name, m) in &now.vars {
                    let v = me.rebuild(cx, m, leaves)?;
                    me.set(name.clone(), v)?;
                }
                match me.block(cx, body)? {
                    Flow::Next => {}
                    Flow::Return(_) => bail!(unsupported, "a return inside of a loop that the data decides"),
                }
                let again = match test {
                    None => cx.b.constant(oxrt_ir::Tensor::scalar(true)),
                    Some(test) => {
                        let v = me.eval(cx, test)?;
                        match me.truth(cx, &v)? {
                            Truth::Known(t) => cx.b.constant(oxrt_ir::Tensor::scalar(t)),
                            Truth::AtRunTime(c) => c,
                        }
                    }
                };
                let effects = me.effects(cx, before, &now.vars.iter().map(|v| v.0.clone()).collect::<Vec<_>>())?;
                Ok((again, effects, before.clone_marks()))
            })?;
            let mut side = Side { graph, before, effects };
            let outputs = match self.settle_loop(cx, &mut state, &mut side)? {
                Some(outputs) => outputs,
                None => continue,
            };
            let all = std::iter::once(again).chain(outputs).collect();
            let body = finish(side.graph, cx.b.symbols, &label, all)?;
            let mut inputs = vec![turns, first];
            for l in &state.leaves {
                inputs.push(Some(l.entry));
            }
            let attrs = with_graph(Attrs::new(), "body", body);
            let out = cx.b.op_multi("Loop", &inputs, attrs, state.leaves.len())?;
            for (&v, l) in out.iter().zip(&state.leaves) {
                cx.b.graph[v].ty = l.after(cx);
                cx.b.note_symbols(v);
            }
            for (r, m) in &state.cells {
                let cell = self.rebuild_cell(cx, m, &out)?;
                *self.heap.get_mut(*r) = cell;
            }
            for (root, leaf) in &state.written {
                cx.write(*root, out[*leaf])?;
            }
            for (name, m) in &state.vars {
                let v = self.rebuild(cx, m, &out)?;
                self.set(name.clone(), v)?;
            }
            return Ok(());
        }
        bail!(unsupported, "a loop whose values keep changing their kind")
    }

    /// Compares what a turn left with what it began with. Everything that differs must be carried; once nothing new
    /// does, returns the outputs of the body.
    fn settle_loop(
        &mut self,
        cx: &mut Cx<'static, '_>,
        state: &mut Carried,
        side: &mut Side,
    ) -> Result<Option<Vec<ValueId>>> {
        let mut changed = false;
        let mut outputs: Vec<Option<ValueId>> = vec![None; state.leaves.len()];
        let vars = std::mem::take(&mut state.vars);
        for (name, m) in vars {
            let out = side.effects.vars.iter().find(|v| v.0 == name).map(|v| v.1.clone());
            let out = out.ok_or_else(|| Error::bug("a loop lost a variable"))?;
            let m = self.widen(cx, state, side, &m, &out, &mut outputs, &mut changed)?;
            state.vars.push((name, m));
        }
        for (root, v) in std::mem::take(&mut side.effects.written) {
            let leaf = match state.written.iter().find(|w| w.0 == root) {
                Some((_, leaf)) => *leaf,
                None => {
                    changed = true;
                    let entry = cx.read(root)?;
                    let ty = cx.b.graph[entry].ty.clone();
                    state.leaves.push(Leaf { entry, ty, kind: LeafKind::Tensor });
                    state.written.push((root, state.leaves.len() - 1));
                    outputs.push(None);
                    state.leaves.len() - 1
                }
            };
            widen_type(cx, &mut state.leaves[leaf], side, v, &mut changed);
            outputs[leaf] = Some(v);
        }
        // A tensor that was written in the first turns stays carried.
        for (root, leaf) in &state.written {
            if outputs[*leaf].is_none() {
                let v = captured(&side.graph, cx.slots[root.0 as usize].value);
                outputs[*leaf] = Some(v.ok_or_else(|| Error::bug("a carried tensor that is not captured"))?);
            }
        }
        let cells = std::mem::take(&mut side.effects.cells);
        for (r, out) in cells {
            let known = state.cells.iter().position(|c| c.0 == r);
            let m = match known {
                Some(i) => state.cells[i].1.clone(),
                None => {
                    changed = true;
                    self.template(r)?
                }
            };
            let m = self.widen(cx, state, side, &m, &out, &mut outputs, &mut changed)?;
            match known {
                Some(i) => state.cells[i].1 = m,
                None => state.cells.push((r, m)),
            }
        }
        if changed {
            return Ok(None);
        }
        let done: Option<Vec<ValueId>> = outputs.into_iter().collect();
        // A container that was changed in an earlier trial only: try again without it.
        done.ok_or_else(|| Error::unsupported("a loop that changes a list in some of its turns only")).map(Some)
    }

    /// The present contents of a container, all known.
    fn template(&self, r: Ref) -> Result<Merged> {
        Ok(match self.heap.get(r) {
            Cell::List(items) => Merged::List(items.iter().cloned().map(Merged::Fixed).collect()),
            Cell::Dict(pairs) => {
                Merged::Dict(pairs.iter().map(|(k, v)| (k.clone(), Merged::Fixed(v.clone()))).collect())
            }
            Cell::Object { class, path, fields } => Merged::Object(
                class.clone(),
                path.clone(),
                fields.iter().map(|(n, v)| (n.clone(), Merged::Fixed(v.clone()))).collect(),
            ),
            Cell::Sequence(v) => Merged::Sequence(*v),
        })
    }

    /// Makes `m` general enough to hold `out` as well.
    fn widen(
        &mut self,
        cx: &mut Cx<'static, '_>,
        state: &mut Carried,
        side: &mut Side,
        m: &Merged,
        out: &Out,
        outputs: &mut Vec<Option<ValueId>>,
        changed: &mut bool,
    ) -> Result<Merged> {
        let slots = side.before.slots as u32;
        Ok(match (m, out) {
            (Merged::Fixed(Sv::Tensor(x)), Out::Tensor(y, _)) if x == y && y.0 < slots => m.clone(),
            (Merged::Fixed(Sv::Int(x)), Out::Number(Sv::Int(y), _)) if x == y => m.clone(),
            (Merged::Fixed(x @ (Sv::Float(_) | Sv::Bool(_) | Sv::SymFloat(_))), Out::Number(y, _)) if same(x, y) => {
                m.clone()
            }
            (Merged::Fixed(Sv::Uninit), Out::Fixed(Sv::Uninit)) => m.clone(),
            (Merged::Fixed(x), Out::Fixed(y)) if same(x, y) => m.clone(),
            (Merged::Leaf(i, kind), Out::Tensor(_, v) | Out::Number(_, v)) if *kind != LeafKind::Sequence => {
                let dtype = state.leaves[*i].ty.dtype().unwrap_or(DType::F32);
                let v = if *kind == LeafKind::Tensor { *v } else { cast_in(&mut side.graph, cx, *v, dtype)? };
                widen_type(cx, &mut state.leaves[*i], side, v, changed);
                outputs[*i] = Some(v);
                m.clone()
            }
            (Merged::Leaf(i, LeafKind::Sequence), Out::Sequence(_) | Out::List(_)) => {
                let dtype = match &state.leaves[*i].ty {
                    ValueType::Sequence(t) => t.dtype(),
                    _ => None,
                };
                outputs[*i] = Some(sequence_in(&mut side.graph, cx, out, dtype)?);
                m.clone()
            }
            // Known at first, different after a turn: carried.
            (Merged::Fixed(x @ Sv::Tensor(_)), Out::Tensor(..)) => {
                *changed = true;
                let entry = self.tensor_value(cx, x)?;
                let ty = cx.b.graph[entry].ty.clone();
                self.new_leaf(state, outputs, entry, ty, LeafKind::Tensor)
            }
            (Merged::Fixed(x), Out::Number(y, v))
                if matches!(x, Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_)) =>
            {
                *changed = true;
                let entry = self.scalar_value(cx, x)?;
                let have = cx.dtype(entry)?;
                let want = match y {
                    Sv::Scalar(_) => side.graph[*v].ty.dtype().unwrap_or(have),
                    _ => have,
                };
                let dtype = crate::promote::promote(have, want);
                let entry = cx.cast(entry, dtype)?;
                self.new_leaf(state, outputs, entry, ValueType::tensor(dtype, Vec::new()), kind_of(dtype))
            }
            (Merged::Tuple(ms), Out::Tuple(os)) if ms.len() == os.len() => Merged::Tuple(
                ms.iter()
                    .zip(os)
                    .map(|(m, o)| self.widen(cx, state, side, m, o, outputs, changed))
                    .collect::<Result<_>>()?,
            ),
            (Merged::Fixed(Sv::Tuple(items)), Out::Tuple(os)) if items.len() == os.len() => {
                let ms: Vec<Merged> = items.iter().cloned().map(Merged::Fixed).collect();
                let ms: Vec<Merged> = ms
                    .iter()
                    .zip(os)
                    .map(|(m, o)| self.widen(cx, state, side, m, o, outputs, changed))
                    .collect::<Result<_>>()?;
                Merged::Tuple(ms)
            }
            (Merged::List(ms), Out::List(os)) if ms.len() == os.len() => Merged::List(
                ms.iter()
                    .zip(os)
                    .map(|(m, o)| self.widen(cx, state, side, m, o, outputs, changed))
                    .collect::<Result<_>>()?,
            ),
            // A list that grows: a sequence.
            (Merged::List(ms), Out::List(_) | Out::Sequence(_)) => {
                *changed = true;
                let mut entry = Vec::new();
                for m in ms {
                    match m {
                        Merged::Fixed(x @ Sv::Tensor(_)) => entry.push(self.tensor_value(cx, x)?),
                        _ => bail!(unsupported, "a list of other than tensors that grows in a loop"),
                    }
                }
                let dtype = entry.first().map(|&v| cx.dtype(v)).transpose()?;
                let Some(dtype) = dtype.or_else(|| element_type(&side.graph, out)) else {
                    bail!(unsupported, "a list of other than tensors that grows in a loop")
                };
                let seq = if entry.is_empty() {
                    cx.op("SequenceEmpty", &[], Attrs::new().with("dtype", dtype.to_onnx() as i64))?
                } else {
                    cx.call("SequenceConstruct", &entry)?
                };
                let rank = element_rank(&side.graph, out);
                let dims = rank.map(|r| (0..r).map(|_| Dim::from(cx.b.symbols.fresh())).collect());
                let ty = ValueType::Sequence(Box::new(ValueType::Tensor(TensorType { dtype, dims })));
                self.new_leaf(state, outputs, seq, ty, LeafKind::Sequence)
            }
            (Merged::Sequence(seq), Out::Sequence(_)) => {
                *changed = true;
                let ty = cx.b.graph[*seq].ty.clone();
                self.new_leaf(state, outputs, *seq, ty, LeafKind::Sequence)
            }
            (Merged::Dict(ms), Out::Dict(os)) if ms.len() == os.len() => Merged::Dict(
                ms.iter()
                    .zip(os)
                    .map(|(m, o)| Ok((m.0.clone(), self.widen(cx, state, side, &m.1, &o.1, outputs, changed)?)))
                    .collect::<Result<_>>()?,
            ),
            (Merged::Object(c, p, ms), Out::Object(_, _, os)) if ms.len() == os.len() => Merged::Object(
                c.clone(),
                p.clone(),
                ms.iter()
                    .zip(os)
                    .map(|(m, o)| Ok((m.0.clone(), self.widen(cx, state, side, &m.1, &o.1, outputs, changed)?)))
                    .collect::<Result<_>>()?,
            ),
            (m, o) => bail!(unsupported, "a loop that the data ends turns {m:?} into {}", describe(o)),
        })
    }

    fn new_leaf(
        &mut self,
        state: &mut Carried,
        outputs: &mut Vec<Option<ValueId>>,
        entry: ValueId,
        ty: ValueType,
        kind: LeafKind,
    ) -> Merged {
        state.leaves.push(Leaf { entry, ty, kind });
        outputs.push(None);
        Merged::Leaf(state.leaves.len() - 1, kind)
    }

    fn tensor_value(&mut self, cx: &mut Cx<'static, '_>, v: &Sv) -> Result<ValueId> {
        match v {
            Sv::Tensor(id) => cx.read(*id),
            other => self.scalar_value(cx, other),
        }
    }
}

/// What a loop carries from turn to turn.
#[derive(Clone, Default)]
struct Carried {
    leaves: Vec<Leaf>,
    vars: Vec<(Rc<str>, Merged)>,
    written: Vec<(TensorId, usize)>,
    cells: Vec<(Ref, Merged)>,
}

#[derive(Clone)]
struct Leaf {
    /// Its value before the loop.
    entry: ValueId,
    ty: ValueType,
    kind: LeafKind,
}

impl Leaf {
    /// Type after the loop: sizes that change from turn to turn are new ones.
    fn after(&self, cx: &mut Cx) -> ValueType {
        let (ValueType::Tensor(t), LeafKind::Tensor) = (&self.ty, self.kind) else { return self.ty.clone() };
        let entry = cx.b.graph.dims(self.entry).map(<[Dim]>::to_vec);
        let dims = t.dims.as_ref().map(|dims| {
            dims.iter()
                .enumerate()
                .map(|(i, d)| match entry.as_ref().and_then(|e| e.get(i)) {
                    Some(e) if e == d => d.clone(),
                    _ => cx.b.symbols.fresh().into(),
                })
                .collect()
        });
        ValueType::Tensor(TensorType { dtype: t.dtype, dims })
    }
}

/// Sizes of a leaf that `v` does not have become free.
fn widen_type(cx: &mut Cx, leaf: &mut Leaf, side: &Side, v: ValueId, changed: &mut bool) {
    let entry = cx.b.graph.dims(leaf.entry).map(<[Dim]>::to_vec).unwrap_or_default();
    let Some(new) = side.graph.dims(v).map(<[Dim]>::to_vec) else { return };
    let ValueType::Tensor(t) = &mut leaf.ty else { return };
    let Some(dims) = &mut t.dims else { return };
    if dims.len() != new.len() {
        *changed = true;
        t.dims = None;
        return;
    }
    for (i, (d, n)) in dims.iter_mut().zip(new).enumerate() {
        let free = entry.get(i) != Some(d);
        if *d != n && !free {
            *d = cx.b.symbols.fresh().into();
            *changed = true;
        }
    }
}
