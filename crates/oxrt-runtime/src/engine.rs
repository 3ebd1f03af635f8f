//! A plan made ready to run.

use crate::bodies::Bodies;
use crate::context::Context;
use crate::device::OnDevice;
use crate::dynamic::tells_sizes;
use crate::sizes::{self, Sizes};
use oxrt_backend::{Backend, Kernel, NodeView};
use oxrt_ir::{CONDITIONS, Expr, Symbol, ValueId, ValueType, holds};
use oxrt_plan::{PackedKernel, Plan, StepKind};
use oxrt_tensor::{Context as _, DType, Error, Result, Tensor, TensorView};
use std::collections::{BTreeSet, HashSet};
use std::sync::{Arc, Mutex};

/// An input or output of an engine.
#[derive(Clone, Debug)]
pub struct Port {
    pub name: String,
    pub ty: ValueType,
}

pub(crate) struct Inner {
    pub plan: Plan,
    /// Those of each step, as in the plan; none for aliases and host steps.
    pub kernels: Vec<Vec<Box<dyn Kernel>>>,
    /// Whether a step's kernel finds out the size of its results.
    pub counting: Vec<bool>,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    /// For a value that is an alias: the value whose memory it is.
    pub root: Vec<ValueId>,
    /// Conditions on the sizes under which the model was exported, as text and as what they say.
    pub conditions: Vec<(String, Expr)>,
    /// Whether all sizes follow from the input sizes.
    pub is_static: bool,
    /// Where not all sizes follow: what can be done before any is found out. On devices.
    pub first: Option<First>,
    /// What the host runs inside of `If`, `Loop` and `Scan`.
    pub bodies: Bodies,
    /// On devices with memory of their own.
    pub device: Option<OnDevice>,
}

/// The steps that need no size but those of the inputs, and those of them that find the next ones out.
pub(crate) struct First {
    /// By step of the plan.
    pub steps: Vec<bool>,
    /// What other steps, results and sizes need of theirs, and of the inputs; not what is counted.
    pub left: Vec<ValueId>,
}

impl First {
    /// `None` where there is no such step.
    fn of(plan: &Plan, counting: &[bool]) -> Option<First> {
        let g = &plan.graph;
        let mut known = BTreeSet::new();
        for &v in &g.inputs {
            // What is no tensor has no place on a device.
            g[v].ty.dims().filter(|_| g[v].ty.dtype() != Some(DType::String))?;
            g[v].ty.for_each_symbol(&mut |s| {
                known.insert(s.clone());
            });
        }
        let is_sized = |v: ValueId| {
            let mut sized = g[v].ty.dims().is_some() && g[v].ty.dtype() != Some(DType::String);
            g[v].ty.for_each_symbol(&mut |s| sized &= known.contains(s));
            let contents = g[v].contents.iter().filter(|_| g[v].producer().is_none() && !g.inputs.contains(&v));
            contents.flat_map(|c| &c.elements).for_each(|d| d.for_each_symbol(&mut |s| sized &= known.contains(s)));
            sized
        };
        let mut settled: HashSet<ValueId> =
            g.value_ids().filter(|&v| g[v].producer().is_none() && is_sized(v)).collect();
        let mut steps = Vec::with_capacity(plan.steps.len());
        for (step, &counts) in plan.steps.iter().zip(counting) {
            let node = &g[step.node];
            let outputs = || node.outputs().iter().flatten().copied();
            let captures = node.subgraphs().flat_map(|(_, body)| &body.captures);
            // Numbers that are computed and fix how a kernel works are there only when it is bound step by step.
            let computed = |v: ValueId| g[v].producer().is_some() || g.inputs.contains(&v);
            let is_there =
                |&v: &ValueId| g[v].is_constant() || settled.contains(&v) && !(computed(v) && g[v].contents.is_some());
            let now = g.reads(step.node).iter().all(is_there)
                && captures.into_iter().all(|&(outer, _)| g[outer].is_constant())
                && (counts || outputs().all(is_sized));
            if now && !counts {
                settled.extend(outputs());
            }
            steps.push(now);
        }
        let mut left: BTreeSet<ValueId> = g.outputs.iter().copied().collect();
        for (step, now) in plan.steps.iter().zip(&steps) {
            match now {
                // A size that nobody knows before is learned from the value that is it.
                true => left
                    .extend(g[step.node].outputs().iter().flatten().filter(|&&v| tells_sizes(g[v].contents.as_ref()))),
                false => left.extend(g.reads(step.node)),
            }
        }
        let made = |v: &ValueId| settled.contains(v) && (g[*v].producer().is_some() || g.inputs.contains(v));
        let left = left.into_iter().filter(made).collect();
        steps.contains(&true).then_some(First { steps, left })
    }
}

/// A loaded engine. Cloning shares it; it may be used from many threads at once.
#[derive(Clone)]
pub struct Engine {
    pub(crate) inner: Arc<Inner>,
    pool: Arc<Mutex<Vec<Context>>>,
}

impl Engine {
    /// Makes the kernels of a plan.
    ///
    /// # Errors
    /// When the plan was built for another backend or a better-equipped machine.
    pub fn new(plan: Plan, backend: &dyn Backend) -> Result<Engine> {
        if plan.backend != backend.name() {
            return Err(Error::invalid(format!(
                "the engine was built for `{}`, not `{}`",
                plan.backend,
                backend.name()
            ))
            .help(format!("build it with `--device {}`", backend.name())));
        }
        let g = &plan.graph;
        let mut root: Vec<ValueId> = g.value_ids().collect();
        let mut kernels = Vec::with_capacity(plan.steps.len());
        let mut counting = Vec::with_capacity(plan.steps.len());
        let mut known: BTreeSet<_> = Default::default();
        for &v in &g.inputs {
            g[v].ty.for_each_symbol(&mut |s| {
                known.insert(s.clone());
            });
        }
        let mut is_static = g.inputs.iter().all(|&v| g[v].ty.dims().is_some());
        for step in &plan.steps {
            let node = &g[step.node];
            // Strings have no place in memory that is planned.
            let has_strings = |v: ValueId| g[v].ty.dtype() == Some(DType::String);
            is_static &=
                !g.reads(step.node).into_iter().chain(node.outputs().iter().flatten().copied()).any(has_strings);
            for &v in node.outputs().iter().flatten() {
                is_static &= g[v].ty.dims().is_some();
                g[v].ty.for_each_symbol(&mut |s| is_static &= known.contains(s));
            }
            let candidate = step.kind.candidate();
            let counts = candidate.is_some() && backend.counting(NodeView::new(g, step.node)) == candidate;
            is_static &= !counts;
            counting.push(counts);
            kernels.push(match &step.kind {
                StepKind::Kernel { kernels, .. } => {
                    let load = |k: &PackedKernel| backend.load(NodeView::new(g, step.node), &k.candidate, &k.packed);
                    kernels.iter().map(load).collect::<Result<_>>().at(|| node.describe())?
                }
                StepKind::Alias => {
                    if let (Some(x), Some(y)) = (node.input(0), node.output(0)) {
                        root[y.0 as usize] = root[x.0 as usize];
                    }
                    Vec::new()
                }
                StepKind::Host => {
                    // A subgraph reads values of its graph by name, which only a run step by step can give.
                    let captures = node.subgraphs().flat_map(|(_, body)| &body.captures);
                    is_static &= captures.into_iter().all(|&(outer, _)| g[outer].is_constant());
                    Vec::new()
                }
            });
        }
        let port = |v: &ValueId| Port { name: g[*v].name.clone(), ty: g[*v].ty.clone() };
        let (inputs, outputs) = (g.inputs.iter().map(port).collect(), g.outputs.iter().map(port).collect());
        let bodies = match backend.host() {
            Some(host) => Bodies::of(&plan, &*host),
            None => Bodies::of(&plan, backend),
        };
        let device = backend.device().map(|device| OnDevice::new(device, &plan)).transpose()?;
        let first = device.as_ref().filter(|_| !is_static).and_then(|_| First::of(&plan, &counting));
        let conditions = plan.metadata.get(CONDITIONS).map_or("", String::as_str).lines();
        let conditions = conditions.filter_map(|c| Some((c.to_string(), Expr::parse(c).ok()?))).collect();
        let inner =
            Inner { conditions, inputs, outputs, kernels, counting, first, root, is_static, bodies, device, plan };
        Ok(Engine { inner: Arc::new(inner), pool: Arc::default() })
    }

    pub fn inputs(&self) -> &[Port] {
        &self.inner.inputs
    }

    pub fn outputs(&self) -> &[Port] {
        &self.inner.outputs
    }

    pub fn plan(&self) -> &Plan {
        &self.inner.plan
    }

    /// Whether every size follows from the input sizes. If not, runs go step by step.
    pub fn is_static(&self) -> bool {
        self.inner.is_static
    }

    /// A new context with memory of its own.
    pub fn context(&self) -> Context {
        Context::new(self.inner.clone())
    }

    /// Runs once with a context from the engine's pool; the outputs own their data.
    pub fn run(&self, inputs: &[TensorView]) -> Result<Vec<Tensor>> {
        let lock = || self.pool.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let pooled = lock().pop();
        let mut context = pooled.unwrap_or_else(|| self.context());
        let result = context.run(inputs).and_then(|outs| outs.iter().map(TensorView::to_tensor).collect());
        lock().push(context);
        result
    }

    /// Sizes of the symbols for given input shapes, checked against the profiles.
    pub(crate) fn sizes(inner: &Inner, inputs: &[(oxrt_tensor::DType, &[usize])]) -> Result<Sizes> {
        let sizes = sizes::solve(&inner.inputs, inputs)?;
        sizes::choose_profile(&inner.plan.profiles, &sizes)?;
        let size = |name: &str| sizes.get(&Symbol::new(name)).copied();
        if let Some((text, condition)) = inner.conditions.iter().find(|(_, c)| !holds(c, &size)) {
            let mut named = Vec::new();
            condition.names(&mut |n| named.extend(size(n).map(|x| format!("{n} = {x}"))));
            named.dedup();
            return Err(Error::invalid(format!(
                "{} breaks `{text}`, a condition on the sizes under which the model was exported",
                named.join(", ")
            ))
            .help(
                "for other sizes the model's code takes another path: export it again with such sizes, or \
                   build with `--no-checks` if you know that it does not matter",
            ));
        }
        Ok(sizes)
    }
}
