//! What an operator file states about its operator.

use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::scalar::{Emit, Reg};
use oxrt_ir::{Attrs, Graph, Symbols, ValueType};
use oxrt_tensor::Result;

pub type InferFn = fn(&mut Infer) -> Result<()>;
pub type EvalFn = fn(&Eval) -> Result<Vec<Datum>>;
/// Emits the operator for one element; the registers are its inputs.
pub type ScalarFn = fn(&mut Emit, &Attrs, &[Reg]) -> Result<Reg>;
/// Types of the inputs of a subgraph from the node's input types. Asked again after the subgraph was
/// inferred, until the answer stays the same: what a loop carries must fit its next turn as well.
pub type SubgraphInputsFn =
    fn(body: &Graph, attrs: &Attrs, inputs: &[ValueType], symbols: &mut Symbols) -> Result<Vec<ValueType>>;

/// An operator. Built as a constant, one per file:
///
/// ```text
/// pub const OP: OpDef = OpDef::new("HardSwish", &[14, 22], 1..=1)
///     .elementwise(|e, _, x| …)
///     .example("(f32[3] x) { y = HardSwish(x) } => y", &["x = -4 0 3"], "0 0 3");
/// ```
#[derive(Clone, Copy)]
pub struct OpDef {
    /// As in [`oxrt_ir::Node::op`].
    pub name: &'static str,
    /// Opset versions in which it changed, rising.
    pub versions: &'static [i64],
    /// Least and greatest number of inputs.
    pub arity: (usize, usize),
    pub infer: InferFn,
    pub eval: EvalFn,
    /// For elementwise operators with broadcasting.
    pub scalar: Option<ScalarFn>,
    pub subgraph_inputs: Option<SubgraphInputsFn>,
    /// Draws random numbers, so equal calls are not interchangeable and never folded.
    pub random: bool,
    /// (graph text, inputs as `name = elements`, first output's elements).
    pub examples: &'static [(&'static str, &'static [&'static str], &'static str)],
}

impl OpDef {
    /// An operator with `infer` and `eval` of its own.
    pub const fn new(
        name: &'static str,
        versions: &'static [i64],
        arity: std::ops::RangeInclusive<usize>,
        infer: InferFn,
        eval: EvalFn,
    ) -> OpDef {
        let arity = (*arity.start(), *arity.end());
        OpDef { name, versions, arity, infer, eval, scalar: None, subgraph_inputs: None, random: false, examples: &[] }
    }

    /// An elementwise operator whose inputs broadcast and whose result has the type of the inputs:
    /// shape rule and evaluation come from the scalar expression.
    pub const fn elementwise(
        name: &'static str,
        versions: &'static [i64],
        arity: std::ops::RangeInclusive<usize>,
        scalar: ScalarFn,
    ) -> OpDef {
        let mut op = OpDef::new(name, versions, arity, crate::shape::infer_elementwise, crate::scalar::eval_node);
        op.scalar = Some(scalar);
        op
    }

    /// The same with a bool result.
    pub const fn predicate(
        name: &'static str,
        versions: &'static [i64],
        arity: std::ops::RangeInclusive<usize>,
        scalar: ScalarFn,
    ) -> OpDef {
        let mut op = OpDef::elementwise(name, versions, arity, scalar);
        op.infer = crate::shape::infer_predicate;
        op.eval = crate::scalar::eval_predicate;
        op
    }

    pub const fn infer(mut self, infer: InferFn) -> OpDef {
        self.infer = infer;
        self
    }

    pub const fn eval(mut self, eval: EvalFn) -> OpDef {
        self.eval = eval;
        self
    }

    pub const fn subgraphs(mut self, f: SubgraphInputsFn) -> OpDef {
        self.subgraph_inputs = Some(f);
        self
    }

    pub const fn random(mut self) -> OpDef {
        self.random = true;
        self
    }

    /// Examples become tests and documentation.
    pub const fn examples(
        mut self,
        examples: &'static [(&'static str, &'static [&'static str], &'static str)],
    ) -> OpDef {
        self.examples = examples;
        self
    }
}
