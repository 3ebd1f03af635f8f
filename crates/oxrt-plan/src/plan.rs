//! What an engine is made of.

use crate::choose::follows_from_sizes;
use oxrt_backend::BindArgs;
use oxrt_ir::{Graph, NodeId, Symbol, Symbols, Tensor, ValueId};
use oxrt_tensor::{Result, bail};
use std::collections::BTreeMap;
use std::fmt;

/// Sizes that a dimension takes: least, the one tuned for, greatest (`None`: no bound).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SizeRange {
    pub min: i64,
    pub opt: i64,
    pub max: Option<i64>,
}

impl SizeRange {
    /// # Errors
    /// Unless 0 ≤ min ≤ opt ≤ max.
    pub fn new(min: i64, opt: i64, max: Option<i64>) -> Result<SizeRange> {
        if min < 0 || opt < min || max.is_some_and(|m| m < opt) {
            let max = max.map_or("∞".to_string(), |m| m.to_string());
            bail!(invalid, "the range {min}:{opt}:{max} is not min ≤ opt ≤ max");
        }
        Ok(SizeRange { min, opt, max })
    }

    /// The greatest size, or four times the usual one where there is none.
    pub fn upper(&self) -> i64 {
        self.max.unwrap_or(self.opt.saturating_mul(4))
    }

    pub fn contains(&self, size: i64) -> bool {
        size >= self.min && self.max.is_none_or(|m| size <= m)
    }
}

impl fmt::Display for SizeRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.max {
            Some(max) => write!(f, "{}:{}:{max}", self.min, self.opt),
            None => write!(f, "{}:{}:∞", self.min, self.opt),
        }
    }
}

/// Ranges of all dimensions that an engine was built for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Profile {
    pub ranges: BTreeMap<Symbol, SizeRange>,
}

impl Profile {
    /// The first dimension whose size lies outside, with its range.
    pub fn violation(&self, sizes: &BTreeMap<Symbol, i64>) -> Option<(&Symbol, SizeRange, i64)> {
        self.ranges.iter().find_map(|(s, r)| {
            let size = *sizes.get(s)?;
            (!r.contains(size)).then_some((s, *r, size))
        })
    }

    /// How wide the profile is, to prefer the tightest one that fits.
    pub fn width(&self) -> f64 {
        self.ranges.values().map(|r| ((r.max.unwrap_or(i64::MAX) - r.min) as f64 + 1.0).ln()).sum()
    }
}

/// How a node runs.
#[derive(Clone, Debug)]
pub enum StepKind {
    /// By a kernel of the backend.
    Kernel {
        /// The one for the sizes that the engine was tuned for, then those that were quicker at others.
        kernels: Vec<PackedKernel>,
        /// The work ([`Step::work`]) of the sizes that kernels were timed at, rising, and the index of the quickest kernel;
        /// empty where one serves all sizes.
        by_work: Vec<(u64, usize)>,
        /// Inputs that the packed tensors of every kernel replace.
        consumed: Vec<usize>,
    },
    /// Output 0 is input 0 under another shape: nothing runs.
    Alias,
    /// By the reference evaluator on the host.
    Host,
}

/// A kernel and the constants in the order it reads.
#[derive(Clone, Debug)]
pub struct PackedKernel {
    pub candidate: String,
    pub packed: Vec<Tensor>,
}

impl StepKind {
    /// The kernel for the sizes that the engine was tuned for; `None` where no kernel runs.
    pub fn candidate(&self) -> Option<&str> {
        self.kernels().first().map(|k| k.candidate.as_str())
    }

    /// All kernels of the step.
    pub fn kernels(&self) -> &[PackedKernel] {
        match self {
            StepKind::Kernel { kernels, .. } => kernels,
            StepKind::Alias | StepKind::Host => &[],
        }
    }
}

#[derive(Clone, Debug)]
pub struct Step {
    pub node: NodeId,
    pub kind: StepKind,
}

impl Step {
    /// Whether the reference evaluator has to run it: not where the result is a shape, whose sizes are known when it is reached.
    pub fn is_on_host(&self, g: &Graph) -> bool {
        let node = &g[self.node];
        let contents = |v: ValueId| g[v].contents.as_ref();
        let sizes = node.output(0).and_then(contents).is_some_and(|c| c.elements.iter().all(follows_from_sizes));
        matches!(self.kind, StepKind::Host) && !(sizes && matches!(&*node.op, "Shape" | "Size"))
    }

    /// How much a node has to do at these sizes: elements of its tensors that are not constants of the graph.
    pub fn work(g: &Graph, node: NodeId, args: &BindArgs) -> u64 {
        let elements = |shape: &[usize]| shape.iter().map(|&n| n as u64).product::<u64>();
        let moving = |i: usize| g[node].input(i).is_some_and(|v| !g[v].is_constant() && !g[v].packed);
        let inputs = (0..args.inputs.len()).filter(|&i| moving(i)).filter_map(|i| args.opt_shape(i));
        inputs.chain(args.outputs.iter().copied().flatten()).map(elements).sum()
    }

    /// Index of the kernel for these sizes: the one that was quickest where there was most nearly as much to do.
    pub fn kernel_for(&self, g: &Graph, args: &BindArgs) -> usize {
        let StepKind::Kernel { by_work, .. } = &self.kind else { return 0 };
        if by_work.is_empty() {
            return 0;
        }
        let work = Step::work(g, self.node, args).max(1) as f64;
        let distance = |at: u64| (work / at.max(1) as f64).ln().abs();
        let nearest = by_work.iter().min_by(|a, b| distance(a.0).total_cmp(&distance(b.0)));
        nearest.map_or(0, |(_, kernel)| *kernel)
    }
}

/// An engine, independent of any running device.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `oxrt 0.1.0`
    pub producer: String,
    /// Backend name and what of it the kernels need: `cpu`, `avx512`.
    pub backend: String,
    pub target: String,
    pub graph: Graph,
    pub symbols: Symbols,
    pub profiles: Vec<Profile>,
    /// In order of execution.
    pub steps: Vec<Step>,
    pub metadata: BTreeMap<String, String>,
}
