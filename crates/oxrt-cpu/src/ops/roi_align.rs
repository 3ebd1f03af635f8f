//! `RoiAlign`: the taps of a block of sampling points are found once, and applied to every channel.

use super::{Entry, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use core::cell::RefCell;
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::roi::{Regions, around};
use oxrt_tensor::{Result, bail};

pub(super) const ROI_ALIGN: Entry = Entry { name: "roi_align", ops: &["RoiAlign"], supports, pack: pack_nothing, load };

/// Points that are sampled together, but where one bin has more.
const MOST: usize = 4096;

/// The four pixels around a point and their weights.
type Taps = [(u32, f32); 4];

thread_local! {
    /// The taps of some bins, and for each bin their end and whether it has points without.
    static TAPS: RefCell<(Vec<Taps>, Vec<(usize, bool)>)> = const { RefCell::new((Vec::new(), Vec::new())) };
}

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
        if u32::try_from(plane).is_err() {
            bail!(unsupported, "planes of {plane} elements");
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
                TAPS.with_borrow_mut(|(taps, ends)| {
                    let mut first = 0;
                    while first < bins {
                        // As many bins as the table holds, and one at least.
                        taps.clear();
                        ends.clear();
                        while first + ends.len() < bins && (ends.is_empty() || taps.len() + points <= MOST) {
                            let bin = first + ends.len();
                            let start = taps.len();
                            taps.extend((0..points).filter_map(|p| {
                                let (v, u) = region.point([bin / regions.out[1], bin % regions.out[1]], p);
                                around(v, u, height, width).map(|t| t.map(|(at, weight)| (at as u32, weight as f32)))
                            }));
                            // Far outside there is nothing.
                            ends.push((taps.len(), taps.len() - start < points));
                        }
                        for channel in 0..c {
                            // SAFETY: taps lie inside the plane; every region has results of its own.
                            unsafe {
                                let plane = x.at((image * c + channel) * plane);
                                let to = y.at((r * c + channel) * bins + first);
                                let mut start = 0;
                                for (i, &(end, outside)) in ends.iter().enumerate() {
                                    *to.add(i) = if regions.average {
                                        sum(plane, &taps[start..end]) / points.max(1) as f32
                                    } else {
                                        let least = if points == 0 || outside { 0.0 } else { f32::NEG_INFINITY };
                                        greatest(plane, &taps[start..end], least)
                                    };
                                    start = end;
                                }
                            }
                        }
                        first += ends.len();
                    }
                });
            });
            Ok(())
        })
        .flops(8 * count * c * bins)
        .boxed()
    })
}

/// The sum of all parts of all points.
///
/// # Safety
/// The taps lie inside the plane.
unsafe fn sum(plane: *const f32, taps: &[Taps]) -> f32 {
    let mut sums = [0.0f32; 4];
    for point in taps {
        for k in 0..4 {
            // SAFETY: as the caller promises.
            sums[k] += unsafe { *plane.add(point[k].0 as usize) } * point[k].1;
        }
    }
    (sums[0] + sums[1]) + (sums[2] + sums[3])
}

/// The greatest part of a point, or `least`.
///
/// # Safety
/// As [`sum`].
unsafe fn greatest(plane: *const f32, taps: &[Taps], least: f32) -> f32 {
    let mut most = least;
    for point in taps {
        for k in 0..4 {
            // SAFETY: as the caller promises.
            most = most.max(unsafe { *plane.add(point[k].0 as usize) } * point[k].1);
        }
    }
    most
}
