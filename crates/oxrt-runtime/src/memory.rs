//! The memory of a run, for reports: which buffer lies where, and from which step to which.

use crate::binding::{Action, Binding};
use crate::engine::{Engine, Inner};
use oxrt_tensor::{DType, Result};

/// A tensor between steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedBuffer {
    /// The value that it was made for; values that take its place in the same memory are not named.
    pub name: String,
    pub bytes: usize,
    /// Offset in the arena.
    pub offset: usize,
    /// First and last step that need it, both inclusive; outputs live one step beyond the last.
    pub first: usize,
    pub last: usize,
}

/// A step that does work (aliases do not stand here).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PlannedStep {
    /// Name of its node.
    pub name: String,
    pub op: String,
    /// Kernel name, or `reference` for host steps.
    pub kernel: String,
    pub workspace_bytes: usize,
    /// Floating-point operations, as its kernel counts them.
    pub flops: u64,
    /// Bytes of inputs and outputs.
    pub io_bytes: u64,
    /// Start of the scratch memory in the arena.
    pub workspace_offset: usize,
}

/// Buffers and steps for one set of input sizes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MemoryPlan {
    pub arena_bytes: usize,
    /// Bytes alive at the busiest step, its scratch memory included: no placement can need less.
    pub lower_bound: usize,
    pub steps: Vec<PlannedStep>,
    pub buffers: Vec<PlannedBuffer>,
}

impl MemoryPlan {
    /// Bytes of tensors alive at a step, its scratch memory included.
    pub fn bytes_at(&self, step: usize) -> usize {
        let alive = self.buffers.iter().filter(|b| b.first <= step && step <= b.last).map(|b| b.bytes);
        alive.sum::<usize>() + self.steps.get(step).map_or(0, |s| s.workspace_bytes)
    }

    pub(crate) fn new(inner: &Inner, inputs: &[(DType, &[usize])]) -> Result<MemoryPlan> {
        let sizes = Engine::sizes(inner, inputs)?;
        let binding = Binding::new(inner, &sizes)?;
        let g = &inner.plan.graph;
        let steps = binding.steps.iter().map(|s| {
            let (workspace_bytes, flops) = match &s.action {
                Action::Kernel(bound, _) => (bound.workspace_bytes(), bound.flops()),
                Action::Host { .. } => (0, 0),
            };
            let node = &g[s.node];
            PlannedStep {
                name: node.name.clone(),
                op: node.op.to_string(),
                kernel: s.kernel_name(&inner.plan),
                workspace_bytes,
                flops,
                io_bytes: s.bytes,
                workspace_offset: s.workspace,
            }
        });
        let buffers = binding.buffers.iter().map(|(v, b, offset)| PlannedBuffer {
            name: g[*v].name.clone(),
            bytes: b.bytes,
            offset: *offset,
            first: b.first,
            last: b.last,
        });
        Ok(MemoryPlan {
            arena_bytes: binding.arena_bytes,
            lower_bound: binding.lower_bound,
            steps: steps.collect(),
            buffers: buffers.collect(),
        })
    }
}
