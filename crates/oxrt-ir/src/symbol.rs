//! Names of dimensions and their ranges.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

/// The name of a dimension (`batch`, `height`), cheap to clone.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Symbol(Arc<str>);

impl Symbol {
    pub fn new(name: &str) -> Symbol {
        Symbol(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Symbol {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Sizes that a dimension may take; `max: None` is unbounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Range {
    pub min: i64,
    pub max: Option<i64>,
}

impl Default for Range {
    fn default() -> Range {
        Range { min: 1, max: None }
    }
}

impl fmt::Display for Range {
    /// `2..64`, or `2..` without an upper bound.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}..", self.min)?;
        self.max.map_or(Ok(()), |m| write!(f, "{m}"))
    }
}

/// The symbols of a model with their ranges, and a source of fresh ones.
///
/// A symbol that does not appear here is *derived*: a size nobody named, or one that depends on data.
/// Derived symbols range from 0 without bound.
#[derive(Clone, Debug, Default)]
pub struct Symbols {
    ranges: BTreeMap<Symbol, Range>,
    fresh: usize,
}

impl Symbols {
    pub fn declare(&mut self, symbol: Symbol, range: Range) {
        self.ranges.insert(symbol, range);
    }

    pub fn remove(&mut self, symbol: &Symbol) -> Option<Range> {
        self.ranges.remove(symbol)
    }

    pub fn get(&self, symbol: &Symbol) -> Option<Range> {
        self.ranges.get(symbol).copied()
    }

    pub fn iter(&self) -> impl Iterator<Item = (&Symbol, Range)> {
        self.ranges.iter().map(|(s, r)| (s, *r))
    }

    pub fn is_empty(&self) -> bool {
        self.ranges.is_empty()
    }

    /// A new symbol `_d<k>` for a size that nobody named.
    pub fn fresh(&mut self) -> Symbol {
        self.fresh += 1;
        Symbol::new(&format!("_d{}", self.fresh))
    }

    /// Bounds for [`crate::Dim::bounds`].
    pub fn bounds(&self, symbol: &Symbol) -> (i64, i64) {
        self.get(symbol).map_or((0, i64::MAX), |r| (r.min, r.max.unwrap_or(i64::MAX)))
    }
}
