//! What an engine is made of.

use oxrt_ir::{Graph, NodeId, Symbol, Symbols, Tensor};
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
    Kernel { candidate: String, packed: Vec<Tensor>, consumed: Vec<usize> },
    /// Output 0 is input 0 under another shape: nothing runs.
    Alias,
    /// By the reference evaluator on the host.
    Host,
}

#[derive(Clone, Debug)]
pub struct Step {
    pub node: NodeId,
    pub kind: StepKind,
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
