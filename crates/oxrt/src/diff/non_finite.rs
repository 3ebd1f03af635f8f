//! Where NaN and infinity come up first.

use super::{NodePlace, Side};
use crate::engine::Seen;
use oxrt_ir::ValueId;
use oxrt_ops::Datum;
use oxrt_tensor::{Result, Tensor};
use serde::Serialize;
use std::collections::HashMap;

/// The first node that makes NaN (or infinity) out of finite numbers.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct NonFinite {
    pub value: String,
    pub node: NodePlace,
    pub nans: usize,
    pub infinities: usize,
    pub elements: usize,
    /// Place of the first one.
    pub index: Vec<usize>,
    /// The values that the node reads.
    pub inputs: Vec<ReadRange>,
    /// Of a NaN that comes of infinities which a node before it made out of finite numbers: that node.
    pub overflow: Option<Box<NonFinite>>,
}

/// A value that a node reads: its least and greatest finite element, and how many are not finite.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ReadRange {
    pub value: String,
    pub lo: f64,
    pub hi: f64,
    pub not_finite: usize,
}

/// What is known of the numbers of a value.
#[derive(Clone, Copy, Default)]
struct Range {
    lo: f64,
    hi: f64,
    nans: usize,
    infinities: usize,
    first: usize,
}

impl Range {
    fn of(t: &Tensor) -> Option<Range> {
        // Integers are always finite.
        if !t.dtype().is_float() {
            let v = (t.len() <= 1 << 16 && t.strings().is_none()).then(|| t.to_f64_vec().ok()).flatten()?;
            let (lo, hi) = v.iter().fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), &x| (a.min(x), b.max(x)));
            return Some(Range { lo, hi, ..Range::default() });
        }
        let mut r = Range { lo: f64::INFINITY, hi: f64::NEG_INFINITY, ..Range::default() };
        for (i, x) in t.to_f64_vec().ok()?.into_iter().enumerate() {
            if x.is_finite() {
                (r.lo, r.hi) = (r.lo.min(x), r.hi.max(x));
                continue;
            }
            if r.nans + r.infinities == 0 {
                r.first = i;
            }
            r.nans += x.is_nan() as usize;
            r.infinities += x.is_infinite() as usize;
        }
        Some(r)
    }

    fn is_finite(&self) -> bool {
        self.nans + self.infinities == 0
    }
}

/// Runs a side and finds the first node that makes NaN or infinity out of finite numbers: a NaN wherever there is one, since
/// infinities may be meant (masks of attention).
///
/// # Errors
/// When the side cannot be run.
pub fn find_non_finite(side: &Side, inputs: &[(String, Tensor)]) -> Result<Option<NonFinite>> {
    let Some(engine) = side.engine() else {
        return Ok(None);
    };
    let g = &engine.plan().graph;
    let inputs = side.order_inputs(inputs)?;
    let mut ranges: HashMap<ValueId, Range> = HashMap::new();
    for (&v, datum) in g.inputs.iter().zip(&inputs) {
        ranges.extend(datum.as_tensor().and_then(Range::of).map(|r| (v, r)));
    }
    let (mut nan, mut infinity) = (None, None);
    // Where the infinities of a value were made; those of constants and inputs have no such place.
    let mut made: HashMap<ValueId, NonFinite> = HashMap::new();
    engine.run_watched(inputs, &mut |step, v, datum: &Datum| {
        let Some((t, r)) = datum.as_tensor().and_then(|t| Some((t, Range::of(t)?))) else { return Ok(Seen::Keep) };
        ranges.insert(v, r);
        let node = engine.plan().steps[step].node;
        if r.is_finite() || nan.is_some() {
            return Ok(Seen::Keep);
        }
        let reads: Vec<(ValueId, Range)> = (g.reads(node).into_iter())
            .filter_map(|x| Some((x, ranges.get(&x).copied().or_else(|| Range::of(g.constant(x)?))?)))
            .collect();
        // A NaN may come of infinities that are meant to be there; an infinity that was read was made elsewhere.
        let overflow = reads.iter().find_map(|(x, _)| made.get(x)).cloned();
        if reads.iter().any(|(_, x)| x.nans > 0 || (r.nans == 0 && x.infinities > 0)) {
            made.extend(overflow.map(|o| (v, o)));
            return Ok(Seen::Keep);
        }
        let found = NonFinite {
            value: g[v].name.clone(),
            node: side.place(node),
            nans: r.nans,
            infinities: r.infinities,
            elements: t.len(),
            index: oxrt_verify::unravel(r.first, t.shape()),
            inputs: (reads.into_iter())
                .map(|(x, r)| {
                    let not_finite = r.nans + r.infinities;
                    ReadRange { value: g[x].name.clone(), lo: r.lo, hi: r.hi, not_finite }
                })
                .collect(),
            overflow: overflow.filter(|_| r.nans > 0).map(Box::new),
        };
        if r.nans > 0 {
            nan = Some(found);
            return Ok(Seen::Stop);
        }
        made.insert(v, found.clone());
        infinity.get_or_insert(found);
        Ok(Seen::Keep)
    })?;
    Ok(nan.or(infinity))
}
