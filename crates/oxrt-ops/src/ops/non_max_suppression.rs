//! <https://onnx.ai/onnx/operators/onnx__NonMaxSuppression.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::matmul::parallel;
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// Boxes in order of score that overlap no better one of their class: [count, (batch, class, box)].
pub const OP: OpDef = OpDef::new(
    "NonMaxSuppression",
    &[10, 11],
    2..=5,
    |ctx| {
        let count = ctx.fresh();
        ctx.set(0, DType::I64, Some(vec![count, Dim::Const(3)]));
        Ok(())
    },
    eval,
)
.examples(&[(
    "(f32[1, 3, 4] b, f32[1, 1, 3] s) { y = NonMaxSuppression(b, s, i64{5}, 0.5, 0.2) } => y",
    &["b = 0 0 1 1 0 0.1 1 1.1 0 2 1 3", "s = 0.9 0.8 0.5"],
    "0 0 0 0 0 2",
)]);

/// A box: its corners (low, high) per axis, and its area.
struct Area {
    sides: [(f64, f64); 2],
    area: f64,
}

impl Area {
    fn new(b: &[f64], centred: bool) -> Area {
        let sides = corners(b, centred);
        Area { sides, area: (sides[0].1 - sides[0].0) * (sides[1].1 - sides[1].0) }
    }
}

/// Corners (low, high) per axis of a box.
fn corners(b: &[f64], centred: bool) -> [(f64, f64); 2] {
    if centred {
        let span = |c: f64, size: f64| (c - size / 2.0, c + size / 2.0);
        [span(b[0], b[2]), span(b[1], b[3])]
    } else {
        [(b[0].min(b[2]), b[0].max(b[2])), (b[1].min(b[3]), b[1].max(b[3]))]
    }
}

/// Intersection over union.
fn overlap(a: &Area, b: &Area) -> f64 {
    let sides = [0, 1].map(|d| (a.sides[d].1.min(b.sides[d].1) - a.sides[d].0.max(b.sides[d].0)).max(0.0));
    let (common, x, y) = (sides[0] * sides[1], a.area, b.area);
    if common <= 0.0 || x <= 0.0 || y <= 0.0 { 0.0 } else { common / (x + y - common) }
}

/// The boxes kept so far: corners side by side, so that most are told apart without a branch for each.
#[derive(Default)]
struct Kept {
    places: Vec<usize>,
    corners: [Vec<f64>; 4],
    /// One of them has a corner that is NaN, about which comparisons say nothing.
    odd: bool,
}

impl Kept {
    fn push(&mut self, i: usize, area: &Area) {
        self.places.push(i);
        self.odd |= area.area.is_nan();
        let [(y0, y1), (x0, x1)] = area.sides;
        for (list, v) in self.corners.iter_mut().zip([y0, y1, x0, x1]) {
            list.push(v);
        }
    }

    /// Whether a kept box touches this one at all.
    fn touches(&self, area: &Area) -> bool {
        let n = self.places.len();
        let [y0, y1, x0, x1] = self.corners.each_ref().map(|c| &c[..n]);
        let [(a0, a1), (b0, b1)] = area.sides;
        // No early end: the loop is one of vectors.
        (0..n).fold(0u32, |sum, k| {
            sum + u32::from((a0 < y1[k]) & (y0[k] < a1) & (b0 < x1[k]) & (x0[k] < b1))
        }) > 0
    }
}

/// The boxes of one class, best first, by the scores in `score`.
fn select(score: &[f64], areas: &[Area], most: f64, limit: f64, least: Option<f64>) -> Vec<usize> {
    let mut order: Vec<usize> = (0..score.len()).filter(|&i| least.is_none_or(|l| score[i] > l)).collect();
    order.sort_by(|&a, &b| score[b].total_cmp(&score[a]));
    let mut kept = Kept::default();
    for i in order {
        if kept.places.len() as f64 >= most {
            break;
        }
        // Boxes that do not touch overlap by 0, which a negative limit alone forbids.
        let free = limit >= 0.0 && !kept.odd && !areas[i].area.is_nan() && !kept.touches(&areas[i]);
        if free || kept.places.iter().all(|&k| overlap(&areas[i], &areas[k]) <= limit) {
            kept.push(i, &areas[i]);
        }
    }
    kept.places
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (boxes, scores) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let ([batches, n, 4], [b, classes, m]) = (boxes.shape(), scores.shape()) else {
        bail!(invalid, "boxes {:?} and scores {:?}", boxes.shape(), scores.shape());
    };
    if (batches, n) != (b, m) {
        bail!(invalid, "boxes {:?} and scores {:?}", boxes.shape(), scores.shape());
    }
    let number = |i: usize| -> Result<Option<f64>> {
        Ok(ctx.opt(i)?.map(Tensor::to_f64_vec).transpose()?.and_then(|v| v.first().copied()))
    };
    let most = number(2)?.unwrap_or(0.0).max(0.0);
    let (limit, least) = (number(3)?.unwrap_or(0.0), number(4)?);
    let centred = ctx.attrs().bool_or("center_point_box", false)?;
    let (boxes, scores) = (boxes.to_f64_vec()?, scores.to_f64_vec()?);
    let areas: Vec<Area> = boxes.chunks(4).map(|b| Area::new(b, centred)).collect();
    let (n, classes) = (*n, *classes);
    let selected = parallel(batches * classes, scores.len().saturating_mul(8), |job| {
        let batch = job / classes;
        select(&scores[job * n..(job + 1) * n], &areas[batch * n..(batch + 1) * n], most, limit, least)
    });
    let mut out: Vec<i64> = Vec::new();
    for (job, boxes) in selected.into_iter().enumerate() {
        boxes.into_iter().for_each(|i| out.extend([job / classes, job % classes, i].map(|v| v as i64)));
    }
    Ok(vec![Tensor::from_slice(&[out.len() / 3, 3], &out).into()])
}
