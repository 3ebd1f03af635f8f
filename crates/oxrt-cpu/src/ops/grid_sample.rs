//! `GridSample`: the taps of a block of points are found once, and applied to every channel.

use super::{Entry, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::grid::Sampling;
use oxrt_tensor::{Result, bail};

pub(super) const GRID_SAMPLE: Entry =
    Entry { name: "grid_sample", ops: &["GridSample"], supports, pack: pack_nothing, load };

/// Points that are sampled together.
const BLOCK: usize = 16;
/// Most taps of a point: four along each of three axes.
const TAPS: usize = 64;

fn supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64) && node.dtype(1) == Some(dtype))?;
    require((3..=5).contains(&node.rank(0)?) && node.rank(1) == node.rank(0))?;
    Sampling::new(node.attrs()).ok().map(|_| ())
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let sampling = Sampling::new(node.attrs())?;
    let double = node.dtype(0) == Some(DType::F64);
    let ctx = ctx.clone();
    kernel(move |args| if double { bind::<f64>(&ctx, sampling, args) } else { bind::<f32>(&ctx, sampling, args) })
}

fn bind<T: Element>(ctx: &Ctx, sampling: Sampling, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let (x, grid, y) = (args.shape(0)?, args.shape(1)?, args.output(0)?);
    let r = x.len() - 2;
    let fits = grid.len() == r + 2 && grid[0] == x[0] && grid[r + 1] == r && y[..2] == x[..2] && y[2..] == grid[1..=r];
    if !fits {
        bail!(invalid, "a grid of shape {grid:?} for an input of shape {x:?} and a result of {y:?}");
    }
    let (batch, channels) = (x[0], x[1]);
    let spatial = x[2..].to_vec();
    let (plane, points): (usize, usize) = (spatial.iter().product(), grid[1..=r].iter().product());
    if u32::try_from(plane).is_err() {
        bail!(unsupported, "planes of {plane} elements");
    }
    if plane == 0 && y.iter().product::<usize>() > 0 {
        bail!(invalid, "an empty input of shape {x:?}");
    }
    let blocks = points.div_ceil(BLOCK);
    let units = if channels == 0 { 0 } else { batch * blocks };
    let work = batch * points * (channels * sampling.count().pow(r as u32) + 64);
    let parts = ctx.pool.parts(work / (32 * 1024)).min(units.max(1));
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, grid) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.input::<T>(1).cast_mut()));
        let y = Shared(io.output::<T>(0));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(units, parts, part);
            let mut taps = [[(0usize, T::default()); TAPS]; BLOCK];
            let mut lens = [0; BLOCK];
            for unit in start..start + count {
                let (image, first) = (unit / blocks, unit % blocks * BLOCK);
                let size = BLOCK.min(points - first);
                for p in 0..size {
                    // SAFETY: the point lies inside the grid.
                    let at = |d: usize| unsafe { *grid.at((image * points + first + p) * r + d) }.to_f64();
                    lens[p] = point(&sampling, &spatial, at, &mut taps[p]);
                }
                if lens[..size].iter().all(|&len| len <= 4) {
                    // Four taps each at most, as nearly everywhere: side by side.
                    let (mut places, mut weights) = ([[0u32; BLOCK]; 4], [[T::default(); BLOCK]; 4]);
                    for t in 0..4 {
                        for p in 0..size {
                            (places[t][p], weights[t][p]) = (taps[p][t].0 as u32, taps[p][t].1);
                        }
                    }
                    let whole = size == BLOCK && lens.iter().all(|&len| len == 4);
                    for c in 0..channels {
                        // SAFETY: taps lie inside the plane; blocks of points are disjoint.
                        unsafe {
                            let from = x.at((image * channels + c) * plane);
                            let to = y.at((image * channels + c) * points + first);
                            if whole {
                                for p in 0..BLOCK {
                                    let mut sum = T::default();
                                    for t in 0..4 {
                                        sum = sum.plus((*from.add(places[t][p] as usize)).times(weights[t][p]));
                                    }
                                    *to.add(p) = sum;
                                }
                            } else {
                                for p in 0..size {
                                    let mut sum = T::default();
                                    for t in 0..lens[p] {
                                        sum = sum.plus((*from.add(places[t][p] as usize)).times(weights[t][p]));
                                    }
                                    *to.add(p) = sum;
                                }
                            }
                        }
                    }
                    continue;
                }
                for c in 0..channels {
                    let base = (image * channels + c) * plane;
                    for p in 0..size {
                        let mut sum = T::default();
                        for &(at, weight) in &taps[p][..lens[p]] {
                            // SAFETY: taps lie inside the plane.
                            sum = sum.plus(unsafe { *x.at(base + at) }.times(weight));
                        }
                        // SAFETY: blocks of points are disjoint.
                        unsafe { *y.at((image * channels + c) * points + first + p) = sum };
                    }
                }
            }
        });
    })
    .flops(2 * work)
    .boxed()
}

/// The taps of a point: those of its axes, multiplied out. Gives their number.
fn point<T: Element>(
    sampling: &Sampling,
    spatial: &[usize],
    at: impl Fn(usize) -> f64,
    out: &mut [(usize, T); TAPS],
) -> usize {
    let r = spatial.len();
    // Offsets and weights along three axes, the outermost first; those that are not there have one.
    let mut axes = [([(0usize, 1.0f64); 4], 1); 3];
    let mut stride = 1;
    // The innermost axis is the grid's first.
    for d in (0..r).rev() {
        let (list, len) = &mut axes[3 - r + d];
        *len = 0;
        let taps = sampling.taps(spatial[d], at(r - 1 - d));
        for &(place, weight) in &taps[..sampling.count()] {
            if let Some(i) = place {
                list[*len] = (i * stride, weight);
                *len += 1;
            }
        }
        stride *= spatial[d];
    }
    let [(a, a_len), (b, b_len), (c, c_len)] = &axes;
    let mut len = 0;
    for x in &a[..*a_len] {
        for y in &b[..*b_len] {
            for z in &c[..*c_len] {
                out[len] = (x.0 + y.0 + z.0, T::from_f64(z.1 * y.1 * x.1));
                len += 1;
            }
        }
    }
    len
}
