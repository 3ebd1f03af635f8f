//! The reference evaluator: one node at a time, in f64 inside.

use crate::registry;
use oxrt_ir::{Attrs, Graph, Node, NodeId, ValueId};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail};
use rustc_hash::FxHashMap;

/// A run-time value.
#[derive(Clone, Debug, PartialEq)]
pub enum Datum {
    Tensor(Tensor),
    Sequence(Vec<Datum>),
    Optional(Option<Box<Datum>>),
    /// Vectors of equal length; keys are i64 or strings (`ai.onnx.ml`).
    Map {
        keys: Tensor,
        values: Tensor,
    },
}

impl From<Tensor> for Datum {
    fn from(t: Tensor) -> Datum {
        Datum::Tensor(t)
    }
}

impl Datum {
    pub fn as_tensor(&self) -> Option<&Tensor> {
        match self {
            Datum::Tensor(t) => Some(t),
            _ => None,
        }
    }

    pub fn into_tensor(self) -> Result<Tensor> {
        match self {
            Datum::Tensor(t) => Ok(t),
            Datum::Optional(Some(d)) => d.into_tensor(),
            Datum::Optional(None) => bail!(invalid, "an empty optional where a tensor is needed"),
            Datum::Sequence(_) => bail!(invalid, "a sequence where a tensor is needed"),
            Datum::Map { .. } => bail!(invalid, "a map where a tensor is needed"),
        }
    }
}

/// One node under evaluation.
pub struct Eval<'a> {
    pub node: &'a Node,
    pub inputs: &'a [Option<Datum>],
    /// Values of the enclosing graph, for subgraphs.
    captured: &'a dyn Fn(ValueId) -> Option<Datum>,
    observe: Observer<'a>,
    bodies: Option<Bodies<'a>>,
}

/// Runs a body on its inputs and the values that it captures, where there is a faster way than node by node; `None` where
/// there is not.
pub type Bodies<'a> = &'a dyn Fn(&Graph, &[Datum], &[(ValueId, Datum)]) -> Option<Result<Vec<Datum>>>;

impl<'a> Eval<'a> {
    pub fn attrs(&self) -> &'a Attrs {
        &self.node.attrs
    }

    pub fn num_outputs(&self) -> usize {
        self.node.outputs().len()
    }

    /// Input `i`, when present.
    pub fn datum(&self, i: usize) -> Option<&'a Datum> {
        self.inputs.get(i).and_then(Option::as_ref)
    }

    /// Tensor input `i`, when present.
    pub fn opt(&self, i: usize) -> Result<Option<&'a Tensor>> {
        match self.datum(i) {
            None => Ok(None),
            Some(Datum::Tensor(t)) => Ok(Some(t)),
            Some(_) => bail!(invalid, "input {i} should be a tensor"),
        }
    }

    /// Required tensor input `i`.
    pub fn tensor(&self, i: usize) -> Result<&'a Tensor> {
        self.opt(i)?.ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }

    /// Elements of an integer input, when present.
    pub fn ints(&self, i: usize) -> Result<Option<Vec<i64>>> {
        self.opt(i)?.map(Tensor::to_i64_vec).transpose()
    }

    pub fn dtype(&self, i: usize) -> Result<DType> {
        Ok(self.tensor(i)?.dtype())
    }

    /// Runs the graph in attribute `name` on `inputs`.
    pub fn run_subgraph(&self, body: &Graph, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        let captures = body
            .captures
            .iter()
            .map(|&(outer, inner)| {
                let datum = (self.captured)(outer)
                    .ok_or_else(|| Error::bug(format!("the captured value `{}` is not there", body[inner].name)))?;
                Ok((inner, datum))
            })
            .collect::<Result<Vec<_>>>()?;
        if let Some(outputs) = self.bodies.and_then(|run| run(body, &inputs, &captures)) {
            return outputs;
        }
        Interpreter::new(body).walk(inputs, captures, self.observe)
    }
}

/// Evaluates one node. `captured` gives the values that its subgraphs read from outside.
pub fn eval_node(
    node: &Node,
    inputs: &[Option<Datum>],
    captured: &dyn Fn(ValueId) -> Option<Datum>,
) -> Result<Vec<Datum>> {
    evaluate(node, inputs, captured, &|_, _, _| Ok(()), None)
}

/// The same, with another way to run subgraphs.
pub fn eval_node_by(
    node: &Node,
    inputs: &[Option<Datum>],
    captured: &dyn Fn(ValueId) -> Option<Datum>,
    bodies: Bodies,
) -> Result<Vec<Datum>> {
    evaluate(node, inputs, captured, &|_, _, _| Ok(()), Some(bodies))
}

fn evaluate<'a>(
    node: &'a Node,
    inputs: &'a [Option<Datum>],
    captured: &'a dyn Fn(ValueId) -> Option<Datum>,
    observe: Observer<'a>,
    bodies: Option<Bodies<'a>>,
) -> Result<Vec<Datum>> {
    let op = registry::find(&node.op)
        .ok_or_else(|| Error::unsupported(format!("the operator {} is unknown", node.op)).at(node.describe()))?;
    if node.inputs().len() > op.arity.1 || inputs.len() < op.arity.0 {
        let (lo, hi) = op.arity;
        return Err(Error::invalid(format!("takes {lo} to {hi} inputs, found {}", inputs.len())).at(node.describe()));
    }
    (op.eval)(&Eval { node, inputs, captured, observe, bodies }).at(|| node.describe())
}

/// Called after each node, those of subgraphs too, with its graph and its results, for tools that watch a run.
pub type Observer<'a> = &'a dyn Fn(&Graph, NodeId, &[Datum]) -> Result<()>;

/// Runs a whole graph by the reference evaluator, freeing values after their last use.
pub struct Interpreter<'g> {
    graph: &'g Graph,
}

impl<'g> Interpreter<'g> {
    pub fn new(graph: &'g Graph) -> Self {
        Interpreter { graph }
    }

    /// Outputs for `inputs`, both in the graph's order.
    pub fn run(&self, inputs: Vec<Datum>) -> Result<Vec<Datum>> {
        self.walk(inputs, Vec::new(), &|_, _, _| Ok(()))
    }

    /// The same, calling `observe` after each node.
    pub fn run_observed(&self, inputs: Vec<Datum>, observe: Observer) -> Result<Vec<Datum>> {
        self.walk(inputs, Vec::new(), observe)
    }

    fn walk(&self, inputs: Vec<Datum>, captures: Vec<(ValueId, Datum)>, observe: Observer) -> Result<Vec<Datum>> {
        let g = self.graph;
        if inputs.len() != g.inputs.len() {
            bail!(invalid, "the graph takes {} inputs, given {}", g.inputs.len(), inputs.len());
        }
        let mut remaining: FxHashMap<ValueId, usize> = FxHashMap::default();
        for (id, _) in g.nodes() {
            for v in g.reads(id) {
                *remaining.entry(v).or_default() += 1;
            }
        }
        for &v in &g.outputs {
            *remaining.entry(v).or_default() += 1;
        }
        let mut env: FxHashMap<ValueId, Datum> = g.inputs.iter().copied().zip(inputs).chain(captures).collect();
        let lookup = |env: &FxHashMap<ValueId, Datum>, v: ValueId| {
            env.get(&v).cloned().or_else(|| g.constant(v).map(|t| Datum::Tensor(t.clone())))
        };
        for (id, node) in g.nodes() {
            let inputs = node
                .inputs()
                .iter()
                .map(|v| match *v {
                    None => Ok(None),
                    Some(v) => lookup(&env, v)
                        .map(Some)
                        .ok_or_else(|| Error::invalid(format!("`{}` has no value", g[v].name)).at(node.describe())),
                })
                .collect::<Result<Vec<_>>>()?;
            let outputs = evaluate(node, &inputs, &|v| lookup(&env, v), observe, None)?;
            if outputs.len() < node.outputs().iter().rposition(Option::is_some).map_or(0, |i| i + 1) {
                return Err(Error::bug("the evaluator gave too few outputs").at(node.describe()));
            }
            observe(g, id, &outputs)?;
            drop(inputs);
            for v in g.reads(id) {
                let left = remaining.get_mut(&v).expect("counted above");
                *left -= 1;
                if *left == 0 {
                    env.remove(&v);
                }
            }
            for (v, datum) in node.outputs().iter().zip(outputs) {
                if let Some(v) = v.filter(|v| remaining.contains_key(v)) {
                    env.insert(v, datum);
                }
            }
        }
        g.outputs
            .iter()
            .map(|&v| lookup(&env, v).ok_or_else(|| Error::invalid(format!("output `{}` is never made", g[v].name))))
            .collect()
    }
}
