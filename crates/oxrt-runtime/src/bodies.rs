//! Bodies of `If`, `Loop` and `Scan` as engines of their own, so that their nodes run by kernels too.

use crate::engine::{Engine, Inner};
use crate::kept::Kept;
use oxrt_backend::Backend;
use oxrt_ir::{Graph, ValueId};
use oxrt_ops::Datum;
use oxrt_plan::{Plan, StepKind, choose};
use oxrt_tensor::{DType, Result, Tensor, TensorView, bail};
use std::collections::HashMap;
use std::sync::Mutex;

/// The engines of a plan's bodies, by where the bodies lie. A body stays where it is as long as its plan lives.
#[derive(Default)]
pub(crate) struct Bodies {
    engines: HashMap<usize, Body>,
}

struct Body {
    engine: Engine,
    /// Captured values (as the body names them) that come after its inputs; those that are constant are part of the engine.
    captured: Vec<ValueId>,
    /// Of bodies whose sizes depend on data, one for each run at a time.
    kept: Mutex<Vec<Kept>>,
}

fn key(body: &Graph) -> usize {
    std::ptr::from_ref(body) as usize
}

impl Bodies {
    /// Plans the bodies of every step that the host runs. One that cannot be planned is left to the reference evaluator,
    /// which says what is wrong with it when it is reached.
    pub fn of(plan: &Plan, backend: &dyn Backend) -> Bodies {
        let mut engines = HashMap::new();
        for step in plan.steps.iter().filter(|s| matches!(s.kind, StepKind::Host)) {
            for (_, body) in plan.graph[step.node].subgraphs() {
                if let Ok(made) = Body::new(plan, body, backend) {
                    engines.insert(key(body), made);
                }
            }
        }
        Bodies { engines }
    }

    /// Runs a body; `None` when there is no engine for it, or its inputs are not those that it was planned for.
    pub fn run(&self, body: &Graph, inputs: &[Datum], captures: &[(ValueId, Datum)]) -> Option<Result<Vec<Datum>>> {
        let Body { engine, captured, kept } = self.engines.get(&key(body))?;
        let find = |v: &ValueId| captures.iter().find(|c| c.0 == *v).map(|c| &c.1);
        let all: Vec<&Datum> = inputs.iter().map(Some).chain(captured.iter().map(find)).collect::<Option<_>>()?;
        // Sequences and the like are handed from node to node by the evaluator.
        let tensors: Vec<&Tensor> = all.iter().map(|d| d.as_tensor()).collect::<Option<_>>()?;
        let shapes: Vec<_> = tensors.iter().map(|t| (t.dtype(), t.shape())).collect();
        // A loop may carry what its body does not say.
        Engine::sizes(&engine.inner, &shapes).ok()?;
        if !engine.is_static() {
            let lock = || kept.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let mut own = lock().pop().unwrap_or_default();
            let outputs = crate::dynamic::run(&engine.inner, all.into_iter().cloned().collect(), &mut own, None);
            lock().push(own);
            return Some(outputs);
        }
        let views: Result<Vec<TensorView>> = tensors.iter().map(|t| t.view()).collect();
        let outputs = views.and_then(|views| engine.run(&views));
        Some(outputs.map(|list| list.into_iter().map(Datum::from).collect()))
    }
}

impl Body {
    fn new(outer: &Plan, body: &Graph, backend: &dyn Backend) -> Result<Body> {
        if body.value_ids().any(|v| body[v].ty.dtype() == Some(DType::String)) {
            bail!(unsupported, "strings have no place in the memory of an engine");
        }
        let mut graph = body.clone();
        let mut captured = Vec::new();
        for (from, to) in std::mem::take(&mut graph.captures) {
            match outer.graph.constant(from) {
                Some(t) => graph.set_constant(to, t.clone()),
                None => {
                    graph.inputs.push(to);
                    captured.push(to);
                }
            }
        }
        choose::detach_sizes(&mut graph);
        graph.remove_dead_nodes();
        graph.sort()?;
        let steps = choose::steps(&graph, backend, &HashMap::new(), &mut |_, _| {})?;
        let plan = Plan {
            producer: outer.producer.clone(),
            backend: outer.backend.clone(),
            target: outer.target.clone(),
            graph,
            symbols: outer.symbols.clone(),
            profiles: Vec::new(),
            steps,
            metadata: Default::default(),
        };
        Ok(Body { engine: Engine::new(plan, backend)?, captured, kept: Mutex::default() })
    }
}

/// A body's run for the evaluator of the node that it belongs to.
pub(crate) fn runner(inner: &Inner) -> impl Fn(&Graph, &[Datum], &[(ValueId, Datum)]) -> Option<Result<Vec<Datum>>> {
    |body, inputs, captures| inner.bodies.run(body, inputs, captures)
}
