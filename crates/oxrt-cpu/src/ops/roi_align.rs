//! `RoiAlign`: the taps of a block of sampling points are found once, and applied to every channel.

use super::{Entry, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::roi::{Regions, around};
use oxrt_tensor::{Result, bail};

pub(super) const ROI_ALIGN: Entry = Entry { name: "roi_align", ops: &["RoiAlign"], supports, pack: pack_nothing, load };

/// Points that are sampled together.
const BLOCK: usize = 16;

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0).and(float(node, 1))?;
    require(node.dtype(2)? == DType::I64)?;
    Regions::new(node.attrs()).ok().map(drop)
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let regions = Regions::new(node.attrs())?;
    let ctx = ctx.clone();
    kernel(move |args| {
        let (&[n, c, height, width], &[count, 4]) = (args.shape(0)?, args.shape(1)?) else {
            bail!(invalid, "an input of {:?} and regions of {:?}", args.shape(0)?, args.shape(1)?);
        };
        let plane = height * width;
        if args.shape(2)? != [count] || plane == 0 {
            bail!(invalid, "{:?} batch indices for {count} regions of {:?}", args.shape(2)?, args.shape(0)?);
        }
        let bins = regions.out[0] * regions.out[1];
        makes(args, count * c * bins)?;
        let (ctx, regions) = (ctx.clone(), regions.clone());
        bound(move |io| {
            let (x, rois) = (Shared(io.input::<f32>(0).cast_mut()), Shared(io.input::<f32>(1).cast_mut()));
            let (batches, y) = (Shared(io.input::<i64>(2).cast_mut()), Shared(io.output::<f32>(0)));
            // SAFETY: regions have four corners each.
            let region = |r: usize| regions.place(&[0, 1, 2, 3].map(|i| f64::from(unsafe { *rois.at(4 * r + i) })));
            // SAFETY: there is an index for each region.
            let image = |r: usize| oxrt_ops::copy::index(unsafe { *batches.at(r) }, n);
            for r in 0..count {
                image(r)?;
                region(r).check(c * bins)?;
            }
            ctx.pool.run(count, |r| {
                let (Ok(image), region) = (image(r), region(r)) else { return };
                let points = region.points[0] * region.points[1];
                let start = if regions.average || points == 0 { 0.0 } else { f32::NEG_INFINITY };
                for bin in 0..bins {
                    // SAFETY: every region has results of its own.
                    let to = |channel: usize| unsafe { y.at((r * c + channel) * bins + bin) };
                    for channel in 0..c {
                        // SAFETY: as above.
                        unsafe { *to(channel) = start };
                    }
                    for first in (0..points).step_by(BLOCK) {
                        let size = BLOCK.min(points - first);
                        let mut taps = [None; BLOCK];
                        for (p, taps) in taps[..size].iter_mut().enumerate() {
                            let (v, u) = region.point([bin / regions.out[1], bin % regions.out[1]], first + p);
                            *taps = around(v, u, height, width).map(|t| t.map(|(at, weight)| (at, weight as f32)));
                        }
                        for channel in 0..c {
                            let base = (image * c + channel) * plane;
                            // SAFETY: taps lie inside the plane.
                            let part = |(at, weight): (usize, f32)| unsafe { *x.at(base + at) * weight };
                            // SAFETY: as above.
                            let sum = unsafe { &mut *to(channel) };
                            for taps in &taps[..size] {
                                // Far outside there is nothing.
                                let parts = taps.map_or([0.0; 4], |t| t.map(part));
                                if regions.average {
                                    *sum += parts.iter().sum::<f32>();
                                } else {
                                    *sum = parts.into_iter().fold(*sum, f32::max);
                                }
                            }
                        }
                    }
                    if regions.average {
                        for channel in 0..c {
                            // SAFETY: as above.
                            unsafe { *to(channel) /= points.max(1) as f32 };
                        }
                    }
                }
            });
            Ok(())
        })
        .flops(8 * count * c * bins)
        .boxed()
    })
}
