//! Finds the first node whose result differs, and says whether the error was made there or came in with its inputs.
//!
//! Values of the two sides are matched by name: rewrites keep the names of values that live on. One side is run step by step
//! twice: once with its own values (the error that users see: *total*), once with each matched value replaced by the other
//! side's as soon as it has been compared, so that what is left is the error made since the last matched values (*added*).

mod minimise;
mod non_finite;
mod side;
mod walk;

pub use minimise::{Reproducer, reproduce};
pub use non_finite::{NonFinite, ReadRange, find_non_finite};
pub use side::Side;

use crate::verify::Comparison;
use oxrt_ir::{Graph, NodeId};
use oxrt_tensor::{Result, Tensor};
use oxrt_verify::Element;
use serde::Serialize;

#[derive(Clone, Debug)]
pub struct DiffOptions {
    /// Bytes of values of one side that are kept in memory; the rest lies in a temporary file.
    pub memory: usize,
    /// Largest relative L2 error that one step may add; by default what its element type and arithmetic allow.
    pub budget: Option<f64>,
    /// Goes on after the first node beyond its budget, to compare every value.
    pub all: bool,
}

impl Default for DiffOptions {
    fn default() -> DiffOptions {
        DiffOptions { memory: 2 << 30, budget: None, all: false }
    }
}

/// Where a node comes from.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct NodePlace {
    pub name: String,
    pub op: String,
    pub module: String,
    /// `file.py:42`, or empty.
    pub location: String,
    /// The line of Python code, or empty.
    pub code: String,
    /// The kernel of an engine's step; `reference` for those that the evaluator runs.
    pub kernel: String,
}

impl NodePlace {
    pub(crate) fn of(g: &Graph, id: NodeId) -> NodePlace {
        let node = &g[id];
        let source = node.source.as_deref().cloned().unwrap_or_default();
        NodePlace {
            name: node.name.clone(),
            op: node.op.to_string(),
            module: source.module,
            location: source.location,
            code: source.code,
            kernel: String::new(),
        }
    }
}

/// One value of both sides.
#[derive(Clone, Debug, Serialize)]
pub struct ValueDiff {
    pub value: String,
    /// The node of the reference that makes it (of the tested side, when the reference is a file of tensors).
    pub node: NodePlace,
    /// Error of the steps since the last matched values, run on the reference's values; `None` where neither side can be run.
    pub added: Option<Comparison>,
    /// Error that the tested side has here.
    pub total: Option<Comparison>,
    /// Largest relative L2 error that `added` may have.
    pub budget: f64,
    pub within: bool,
}

/// The first value beyond its budget.
#[derive(Clone, Debug, Serialize)]
pub struct Fault {
    pub value: String,
    /// Nodes of the reference that compute it from values that agree, the one that makes it last.
    pub reference_nodes: Vec<NodePlace>,
    pub tested_nodes: Vec<NodePlace>,
    /// Values that both start from.
    pub inputs: Vec<String>,
    pub added: Comparison,
    /// What the errors of its inputs make of it, computed exactly.
    pub inherited: Option<Comparison>,
    pub total: Option<Comparison>,
    pub worst: Vec<Element>,
    /// What the difference looks like.
    pub pattern: Option<String>,
    /// Constants of the nodes, and attributes, that differ.
    pub differing: Vec<String>,
}

#[derive(Clone, Debug, Serialize)]
pub struct DiffReport {
    /// Values compared, in the order of the run.
    pub values: Vec<ValueDiff>,
    pub fault: Option<Fault>,
    /// Outputs of both sides.
    pub outputs: Vec<Comparison>,
    pub outputs_agree: bool,
    /// Where NaN or infinity comes up first in the tested side, when its outputs or the fault hold any.
    pub non_finite: Option<NonFinite>,
    /// Bytes of values kept in memory and in a temporary file.
    pub memory_bytes: usize,
    pub file_bytes: u64,
    pub notes: Vec<String>,
}

impl DiffReport {
    pub fn agrees(&self) -> bool {
        self.fault.is_none() && self.outputs_agree
    }
}

/// Compares two sides on the same inputs, by name or in order.
///
/// # Errors
/// When a side cannot be run, or nothing of the two can be matched.
pub fn diff(reference: &Side, tested: &Side, inputs: &[(String, Tensor)], options: &DiffOptions) -> Result<DiffReport> {
    walk::walk(reference, tested, inputs, options)
}
