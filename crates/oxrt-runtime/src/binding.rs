//! An engine with fixed sizes: shapes, bound kernels, places in the arena.

use crate::engine::Inner;
use crate::sizes::{Sizes, eval, shape_of};
use oxrt_backend::{BindArgs, BindInput, Bound, Greatest};
use oxrt_ir::{DType, Graph, Node, NodeId, ValueId};
use oxrt_plan::memory::{Buffer, assign, lower_bound};
use oxrt_plan::{Plan, StepKind};
use oxrt_tensor::{Context as _, Error, Result, Tensor, bail, num_elements};
use std::collections::HashMap;

/// What reports call the reference evaluator.
pub(crate) const REFERENCE: &str = "reference";

/// Where a tensor lies during a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Loc {
    Null,
    /// Offset in the arena.
    Arena(usize),
    /// Graph input by index.
    Input(usize),
    /// Constant of the plan, or a value computed from the sizes.
    Const(*const u8),
}

pub(crate) enum Action {
    /// With the index of the kernel among those of the step.
    Kernel(Box<dyn Bound>, usize),
    /// The reference evaluator.
    Host { inputs: Vec<Option<(DType, Vec<usize>)>>, output_bytes: Vec<usize> },
}

/// What offsets in the arena are multiples of: scratch memory of devices' libraries wants more than kernels do.
const PLACES: usize = 256;

pub(crate) struct BoundStep {
    pub node: NodeId,
    /// Index in the plan.
    pub index: usize,
    pub action: Action,
    pub inputs: Vec<Loc>,
    pub outputs: Vec<Loc>,
    /// Start of its scratch memory in the arena.
    pub workspace: usize,
    /// Bytes read and written, for profiles.
    pub bytes: u64,
}

pub(crate) struct OutputBinding {
    pub dtype: DType,
    pub shape: Vec<usize>,
    pub bytes: usize,
    pub loc: Loc,
}

/// A step that finds out a size.
pub(crate) struct Counted {
    /// Place of the size in the arena, an `i64`.
    pub at: usize,
    /// Its results, how large they may be, and where they lie.
    pub results: Vec<(ValueId, Greatest, usize)>,
}

/// All that a run needs to know for one set of input sizes; where other sizes are found out later, of the steps before that.
pub(crate) struct Binding {
    pub steps: Vec<BoundStep>,
    /// None where steps come later.
    pub outputs: Vec<OutputBinding>,
    /// What later steps need.
    pub left: Vec<(ValueId, DType, Vec<usize>, Loc)>,
    pub counted: Vec<Counted>,
    pub arena_bytes: usize,
    /// Peak of live activations and scratch memory: no placement can need less.
    pub lower_bound: usize,
    /// The value that each buffer was made for, its lifetime in bound steps, and its place: for reports.
    pub buffers: Vec<(ValueId, Buffer, usize)>,
    /// Owns what `Loc::Const` points to.
    pub values: Vec<Tensor>,
    /// Bytes of each graph input.
    pub input_bytes: Vec<usize>,
}

// SAFETY: the raw pointers lead to tensors that the binding or the plan owns and nobody writes.
unsafe impl Send for Binding {}
// SAFETY: as above.
unsafe impl Sync for Binding {}

/// Tensor of a value that is known when the sizes are: a constant, or contents computed from sizes.
pub(crate) fn known_tensor(plan: &Plan, v: ValueId, sizes: &Sizes) -> Result<Option<Tensor>> {
    let value = &plan.graph[v];
    if let Some(t) = &value.constant {
        return Ok(Some(t.clone()));
    }
    if value.producer().is_some() || value.packed || plan.graph.inputs.contains(&v) {
        return Ok(None);
    }
    let Some(contents) = &value.contents else { return Ok(None) };
    let elements: Option<Vec<i64>> = contents.elements.iter().map(|d| eval(d, sizes)).collect();
    let elements = elements.ok_or_else(|| Error::bug(format!("the size `{}` cannot be computed", value.name)))?;
    let shape: &[usize] = if contents.scalar { &[] } else { &[elements.len()] };
    Tensor::from_i64(value.ty.dtype().unwrap_or(DType::I64), shape, &elements).map(Some)
}

/// What a step on the host reads: the node's inputs, then what its subgraphs read from outside.
pub(crate) fn host_reads<'g>(g: &'g Graph, node: &'g Node) -> impl Iterator<Item = Option<ValueId>> + 'g {
    let captured = node.subgraphs().flat_map(|(_, s)| s.captures.iter().map(|c| c.0));
    // Constants and packed weights are found elsewhere.
    let captured = captured.filter(|&v| g.constant(v).is_none());
    node.inputs().iter().copied().chain(captured.map(Some))
}

impl BoundStep {
    /// The kernel that runs it, for reports.
    pub fn kernel_name(&self, plan: &Plan) -> String {
        match self.action {
            Action::Kernel(_, which) => plan.steps[self.index].kind.kernels()[which].candidate.clone(),
            Action::Host { .. } => REFERENCE.to_string(),
        }
    }
}

impl Binding {
    pub fn new(inner: &Inner, sizes: &Sizes) -> Result<Binding> {
        let maker = Binder { inner, sizes, values: HashMap::new(), shapes: HashMap::new(), greatest: HashMap::new() };
        maker.bind()
    }
}

/// What is needed when the steps of a binding are done.
fn wanted(inner: &Inner) -> &[ValueId] {
    inner.first.as_ref().map_or(&inner.plan.graph.outputs, |first| &first.left)
}

struct Binder<'a> {
    inner: &'a Inner,
    sizes: &'a Sizes,
    /// Tensors known at bind time.
    values: HashMap<ValueId, Tensor>,
    shapes: HashMap<ValueId, Vec<usize>>,
    /// Of steps that count, by their index in the plan.
    greatest: HashMap<usize, Vec<Greatest>>,
}

impl Binder<'_> {
    fn bind(mut self) -> Result<Binding> {
        let plan = &self.inner.plan;
        let g = &plan.graph;
        let mut pending = Vec::new();
        for (index, step) in plan.steps.iter().enumerate() {
            if self.inner.first.as_ref().is_some_and(|first| !first.steps[index]) {
                continue;
            }
            for v in g.reads(step.node) {
                self.note(v)?;
            }
            if self.inner.counting[index] {
                self.make_room(index).at(|| g[step.node].describe())?;
            }
            for &v in g[step.node].outputs().iter().flatten() {
                self.note(v)?;
            }
            if matches!(step.kind, StepKind::Alias) {
                continue;
            }
            pending.push((index, self.bind_step(index).at(|| g[step.node].describe())?));
        }
        for &v in wanted(self.inner).iter().chain(&g.inputs) {
            self.note(v)?;
        }
        self.place(pending)
    }

    /// The results of a step that counts get the greatest sizes that they may have.
    fn make_room(&mut self, index: usize) -> Result<()> {
        let plan = &self.inner.plan;
        let node = &plan.graph[plan.steps[index].node];
        let kernel =
            self.inner.kernels[index].first().ok_or_else(|| Error::bug("a step that counts without a kernel"))?;
        let inputs = self.inputs_of(node);
        let most = kernel.most(&BindArgs { inputs: &inputs, outputs: &[] })?;
        let most = most.ok_or_else(|| Error::bug("a kernel that does not say how large its results get"))?;
        for (v, greatest) in node.outputs().iter().zip(&most) {
            if let Some(v) = *v {
                num_elements(&greatest.shape)?;
                self.shapes.insert(v, greatest.shape.clone());
            }
        }
        self.greatest.insert(index, most);
        Ok(())
    }

    fn inputs_of(&self, node: &Node) -> Vec<Option<BindInput<'_>>> {
        let input = |v: &Option<ValueId>| v.map(|v| BindInput { shape: &self.shapes[&v], value: self.values.get(&v) });
        node.inputs().iter().map(input).collect()
    }

    /// Finds shape, and contents if they are known, of a value.
    fn note(&mut self, v: ValueId) -> Result<()> {
        if self.shapes.contains_key(&v) {
            return Ok(());
        }
        let g = &self.inner.plan.graph;
        if let Some(t) = known_tensor(&self.inner.plan, v, self.sizes)? {
            self.shapes.insert(v, t.shape().to_vec());
            self.values.insert(v, t);
            return Ok(());
        }
        let shape = shape_of(&g[v].ty, self.sizes);
        let shape =
            shape.ok_or_else(|| Error::invalid(format!("`{}` {} has no valid size here", g[v].name, g[v].ty)))?;
        num_elements(&shape)?;
        self.shapes.insert(v, shape);
        Ok(())
    }

    fn bytes(&self, v: ValueId) -> usize {
        let dtype = self.inner.plan.graph[v].ty.dtype().unwrap_or(DType::F32);
        dtype.bytes_for(self.shapes[&v].iter().product())
    }

    fn bind_step(&self, index: usize) -> Result<Action> {
        let plan = &self.inner.plan;
        let node = &plan.graph[plan.steps[index].node];
        let kernels = &self.inner.kernels[index];
        if kernels.is_empty() {
            let inputs = host_reads(&plan.graph, node)
                .map(|v| v.map(|v| (plan.graph[v].ty.dtype().unwrap_or(DType::F32), self.shapes[&v].clone())));
            let output_bytes = node.outputs().iter().map(|v| v.map_or(0, |v| self.bytes(v))).collect();
            return Ok(Action::Host { inputs: inputs.collect(), output_bytes });
        }
        let inputs = self.inputs_of(node);
        let outputs: Vec<_> = node.outputs().iter().map(|v| v.map(|v| self.shapes[&v].as_slice())).collect();
        let args = BindArgs { inputs: &inputs, outputs: &outputs };
        let which = plan.steps[index].kernel_for(&plan.graph, &args);
        Ok(Action::Kernel(kernels[which].bind(&args)?, which))
    }

    /// Lifetimes, sharing in place, offsets.
    fn place(self, pending: Vec<(usize, Action)>) -> Result<Binding> {
        let plan = &self.inner.plan;
        let g = &plan.graph;
        let root = |v: ValueId| self.inner.root[v.0 as usize];
        let end = pending.len();
        let mut last_use: HashMap<ValueId, usize> = HashMap::new();
        for (at, (index, _)) in pending.iter().enumerate() {
            for v in g.reads(plan.steps[*index].node) {
                last_use.insert(root(v), at);
            }
        }
        for &v in wanted(self.inner) {
            last_use.insert(root(v), end);
        }
        let mut buffers: Vec<Buffer> = Vec::new();
        let mut made_for: Vec<ValueId> = Vec::new();
        let mut buffer_of: HashMap<ValueId, usize> = HashMap::new();
        for (at, (index, action)) in pending.iter().enumerate() {
            let node = &g[plan.steps[*index].node];
            for (i, v) in node.outputs().iter().enumerate() {
                let Some(v) = *v else { continue };
                // What is counted is read when the size is known.
                let counted = self.greatest.contains_key(index);
                let last = if counted { end } else { last_use.get(&v).copied().unwrap_or(at) };
                let shared = match action {
                    Action::Kernel(bound, _) if i == 0 => bound.in_place().iter().find_map(|&k| {
                        let x = root(node.input(k)?);
                        let b = *buffer_of.get(&x)?;
                        let elsewhere = node.inputs().iter().enumerate().any(|(j, u)| {
                            u.is_some_and(|u| buffer_of.get(&root(u)) == Some(&b)) && !bound.in_place().contains(&j)
                        });
                        (buffers[b].last == at && buffers[b].bytes == self.bytes(v) && !elsewhere).then_some(b)
                    }),
                    _ => None,
                };
                let b = shared.unwrap_or_else(|| {
                    buffers.push(Buffer { bytes: self.bytes(v), first: at, last });
                    made_for.push(v);
                    buffers.len() - 1
                });
                buffers[b].last = buffers[b].last.max(last);
                buffer_of.insert(v, b);
            }
        }
        // Scratch memory is one more buffer of its step.
        let tensors = buffers.len();
        buffers.extend(pending.iter().enumerate().map(|(at, (_, action))| {
            let bytes = if let Action::Kernel(bound, _) = action { bound.workspace_bytes() } else { 0 };
            Buffer { bytes, first: at, last: at }
        }));
        // And sizes that are found.
        let mut size_of: HashMap<usize, usize> = HashMap::new();
        for (at, (index, _)) in pending.iter().enumerate().filter(|(_, (index, _))| self.greatest.contains_key(index)) {
            size_of.insert(*index, buffers.len());
            buffers.push(Buffer { bytes: 8, first: at, last: end });
        }
        let low = lower_bound(&buffers);
        let (offsets, arena_bytes) = assign(&buffers, PLACES);
        buffers.truncate(tensors);
        let input_index: HashMap<ValueId, usize> = g.inputs.iter().enumerate().map(|(i, &v)| (v, i)).collect();
        let loc = |v: ValueId| -> Result<Loc> {
            let r = root(v);
            if let Some(t) = self.values.get(&v).or_else(|| self.values.get(&r)) {
                return Ok(Loc::Const(t.bytes().as_ptr()));
            }
            if let Some(&b) = buffer_of.get(&r) {
                return Ok(Loc::Arena(offsets[b]));
            }
            Ok(input_index.get(&r).map_or(Loc::Null, |&i| Loc::Input(i)))
        };
        let mut counted = Vec::new();
        let mut steps = Vec::with_capacity(pending.len());
        for (at, (index, action)) in pending.into_iter().enumerate() {
            let id = plan.steps[index].node;
            let locate = |list: &[Option<ValueId>]| {
                list.iter().map(|v| v.map_or(Ok(Loc::Null), loc)).collect::<Result<Vec<_>>>()
            };
            let reads: Vec<_> = match action {
                // What a kernel has packed it does not look at.
                Action::Kernel(..) => match &plan.steps[index].kind {
                    StepKind::Kernel { consumed, .. } => {
                        let read = |(i, v): (usize, &Option<ValueId>)| v.filter(|_| !consumed.contains(&i));
                        g[id].inputs().iter().enumerate().map(read).collect()
                    }
                    _ => bail!(bug, "a kernel of a step without one"),
                },
                Action::Host { .. } => host_reads(g, &g[id]).collect(),
            };
            let ids = g[id].inputs().iter().chain(g[id].outputs()).flatten();
            let bytes = ids.map(|&v| self.bytes(v) as u64).sum();
            let mut outputs = locate(g[id].outputs())?;
            if let (Some(most), Some(&b)) = (self.greatest.get(&index), size_of.get(&index)) {
                let made = g[id].outputs().iter().zip(most).zip(&outputs);
                let results = made.filter_map(|((v, most), loc)| match (v, loc) {
                    (Some(v), Loc::Arena(at)) => Some((*v, most.clone(), *at)),
                    _ => None,
                });
                counted.push(Counted { at: offsets[b], results: results.collect() });
                outputs.push(Loc::Arena(offsets[b]));
            }
            steps.push(BoundStep {
                node: id,
                index,
                action,
                inputs: locate(&reads)?,
                outputs,
                workspace: offsets[tensors + at],
                bytes,
            });
        }
        let (mut outputs, mut left) = (Vec::new(), Vec::new());
        for &v in wanted(self.inner) {
            let (dtype, shape) = (g[v].ty.dtype().unwrap_or(DType::F32), self.shapes[&v].clone());
            match &self.inner.first {
                None => outputs.push(OutputBinding { dtype, bytes: self.bytes(v), shape, loc: loc(v)? }),
                Some(_) => left.push((v, dtype, shape, loc(v)?)),
            }
        }
        let input_bytes = g.inputs.iter().map(|&v| self.bytes(v)).collect();
        Ok(Binding {
            steps,
            outputs,
            left,
            counted,
            arena_bytes,
            lower_bound: low,
            buffers: made_for.into_iter().zip(buffers).zip(offsets).map(|((v, b), at)| (v, b, at)).collect(),
            input_bytes,
            values: self.values.into_values().collect(),
        })
    }
}
