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
.examples(&[
    (
        "(f32[1, 3, 4] b, f32[1, 1, 3] s) { y = NonMaxSuppression(b, s, i64{5}, 0.5, 0.2) } => y",
        &["b = 0 0 1 1 0 0.1 1 1.1 0 2 1 3", "s = 0.9 0.8 0.5"],
        "0 0 0 0 0 2",
    ),
    (
        // 9/20 is no more than 0.45, as single precision rounds it.
        "(f32[1, 2, 4] b, f32[1, 1, 2] s) { y = NonMaxSuppression(b, s, i64{5}, 0.45) } => y",
        &["b = 0 0 1 2 0 0.5 1 1.4", "s = 0.9 0.8"],
        "0 0 0 0 0 1",
    ),
]);

/// A box: its corners (low, high) per axis, and its area.
struct Area {
    sides: [(f32, f32); 2],
    area: f32,
}

impl Area {
    fn new(b: &[f32], centred: bool) -> Area {
        let sides = corners(b, centred);
        Area { sides, area: (sides[0].1 - sides[0].0) * (sides[1].1 - sides[1].0) }
    }
}

/// Corners (low, high) per axis of a box.
fn corners(b: &[f32], centred: bool) -> [(f32, f32); 2] {
    if centred {
        let span = |c: f32, size: f32| (c - size / 2.0, c + size / 2.0);
        [span(b[0], b[2]), span(b[1], b[3])]
    } else {
        [(b[0].min(b[2]), b[0].max(b[2])), (b[1].min(b[3]), b[1].max(b[3]))]
    }
}

/// Intersection over union, in single precision as the boxes are: a share may be exactly the limit.
fn overlap(a: &Area, b: &Area) -> f32 {
    let sides = [0, 1].map(|d| (a.sides[d].1.min(b.sides[d].1) - a.sides[d].0.max(b.sides[d].0)).max(0.0));
    let (common, x, y) = (sides[0] * sides[1], a.area, b.area);
    if common <= 0.0 || x <= 0.0 || y <= 0.0 { 0.0 } else { common / (x + y - common) }
}

/// Boxes side by side in a [`Block`].
const LANES: usize = 16;

/// Corners (low, high of either axis) and areas of some boxes; those that are not there have no area.
#[derive(Default)]
struct Block {
    corners: [[f32; LANES]; 4],
    area: [f32; LANES],
}

impl Block {
    /// Whether [`overlap`] with each box, of which none may be infinite or NaN, surely is at most `limit`: less by more than
    /// what a product rounds away. A quotient each would take most of the time.
    fn surely_clear(&self, a: &Area, limit: f32) -> bool {
        let limit = limit * (1.0 - 1e-6);
        // Plain comparisons, and no early end: the loop is one of vectors.
        let span = |(low, high): (f32, f32), from: f32, to: f32| {
            let (from, to) = (if from > low { from } else { low }, if to < high { to } else { high });
            if to > from { to - from } else { 0.0 }
        };
        let [y0, y1, x0, x1] = &self.corners;
        // Answers are as wide as the numbers, so that they stay in the same vectors.
        (0..LANES).fold(u32::MAX, |clear, k| {
            let common = span(a.sides[0], y0[k], y1[k]) * span(a.sides[1], x0[k], x1[k]);
            clear & u32::from(common <= limit * (a.area + self.area[k] - common)).wrapping_neg()
        }) != 0
    }
}

/// The boxes kept so far.
#[derive(Default)]
struct Kept {
    places: Vec<usize>,
    areas: Vec<Area>,
    blocks: Vec<Block>,
    /// One of them has a corner that is not finite, and so perhaps a share of 0/0.
    odd: bool,
}

impl Kept {
    fn push(&mut self, i: usize, area: Area) {
        let lane = self.places.len() % LANES;
        if lane == 0 {
            self.blocks.push(Block::default());
        }
        self.odd |= !area.area.is_finite();
        if let Some(block) = self.blocks.last_mut() {
            let [(y0, y1), (x0, x1)] = area.sides;
            for (list, v) in block.corners.iter_mut().zip([y0, y1, x0, x1]) {
                list[lane] = v;
            }
            block.area[lane] = area.area;
        }
        self.places.push(i);
        self.areas.push(area);
    }
}

/// The boxes of one class, best first, by the scores in `score`; of equal ones the first.
fn select(score: &[f32], area: impl Fn(usize) -> Area, most: f64, limit: f32, least: Option<f32>) -> Vec<usize> {
    // Numbers that fall as the scores rise, before places.
    let key = |s: f32| u64::from(!(s.to_bits() ^ ((s.to_bits() as i32 >> 31) as u32 | 1 << 31)));
    let taken = |s: f32| least.is_none_or(|l| s > l);
    let mut order: Vec<u64> =
        score.iter().enumerate().filter(|&(_, &s)| taken(s)).map(|(i, &s)| key(s) << 32 | i as u64).collect();
    let mut kept = Kept::default();
    // Few are needed, mostly: the best are sorted, and more when they do not suffice.
    let (mut done, mut next) = (0, 0);
    let mut share = if most < 1e6 { (2 * most as usize).max(64) } else { usize::MAX };
    while (kept.places.len() as f64) < most {
        if next == done {
            let rest = &mut order[done..];
            if rest.is_empty() {
                break;
            }
            if share < rest.len() {
                rest.select_nth_unstable(share);
            }
            let count = share.min(rest.len());
            rest[..count].sort_unstable();
            done += count;
            share = share.saturating_mul(4);
        }
        let i = (order[next] & u64::from(u32::MAX)) as usize;
        let own = area(i);
        next += 1;
        // Blocks hold boxes of no area, which a negative limit would forbid.
        let plain = limit >= 0.0 && !kept.odd && own.area.is_finite();
        let mut blocks = kept.areas.chunks(LANES).zip(&kept.blocks);
        let free = blocks.all(|(areas, block)| {
            plain && block.surely_clear(&own, limit) || areas.iter().all(|a| overlap(&own, a) <= limit)
        });
        if free {
            kept.push(i, own);
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
    let (limit, least) = (number(3)?.unwrap_or(0.0) as f32, number(4)?.map(|l| l as f32));
    let centred = ctx.attrs().bool_or("center_point_box", false)?;
    let (boxes, scores) = (boxes.to_f32_cow()?, scores.to_f32_cow()?);
    let (n, classes) = (*n, *classes);
    if u32::try_from(n).is_err() {
        bail!(unsupported, "{n} boxes");
    }
    let selected = parallel(batches * classes, scores.len().saturating_mul(8), |job| {
        let batch = job / classes;
        let area = |i: usize| {
            let at = (batch * n + i) * 4;
            Area::new(&[0, 1, 2, 3].map(|k| boxes[at + k]), centred)
        };
        select(&scores[job * n..(job + 1) * n], area, most, limit, least)
    });
    let mut out: Vec<i64> = Vec::new();
    for (job, boxes) in selected.into_iter().enumerate() {
        boxes.into_iter().for_each(|i| out.extend([job / classes, job % classes, i].map(|v| v as i64)));
    }
    Ok(vec![Tensor::from_slice(&[out.len() / 3, 3], &out).into()])
}
