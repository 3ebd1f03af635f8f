//! `RoiAlign`: the taps of a block of sampling points are found once, and applied to every channel.

use super::{Entry, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use crate::compute::element::Element;
use core::cell::RefCell;
use oxrt_backend::{BindArgs, Bound, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::roi::{Regions, around};
use oxrt_tensor::{Result, bail};

pub(super) const ROI_ALIGN: Entry = Entry { name: "roi_align", ops: &["RoiAlign"], supports, pack: pack_nothing, load };

/// Points that are sampled together, but where one bin has more.
const MOST: usize = 4096;

/// The four pixels around a point and their weights.
type Taps<T> = [(u32, T); 4];

/// The taps of some bins, and for each bin their end and whether it has points without.
type Table<T> = (Vec<Taps<T>>, Vec<(usize, bool)>);

/// A float with a table of its own in every thread.
trait Real: Element {
    fn with_table<R>(run: impl FnOnce(&mut Table<Self>) -> R) -> R;
}

macro_rules! reals {
    ($($t:ident)*) => {$(
        impl Real for $t {
            fn with_table<R>(run: impl FnOnce(&mut Table<$t>) -> R) -> R {
                thread_local! {
                    static TABLE: RefCell<Table<$t>> = const { RefCell::new((Vec::new(), Vec::new())) };
                }
                TABLE.with_borrow_mut(run)
            }
        }
    )*};
}
reals!(f32 f64);

fn supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64) && node.dtype(1)? == dtype)?;
    require(node.dtype(2)? == DType::I64)?;
    Regions::new(node.attrs()).ok().map(drop)
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let regions = Regions::new(node.attrs())?;
    let ctx = ctx.clone();
    let bind = if node.dtype(0) == Some(DType::F64) { bind::<f64> } else { bind::<f32> };
    kernel(move |args| bind(&ctx, &regions, args))
}

fn bind<T: Real>(ctx: &Ctx, regions: &Regions, args: &BindArgs) -> Result<Box<dyn Bound>> {
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
        let (x, rois) = (Shared(io.input::<T>(0).cast_mut()), Shared(io.input::<T>(1).cast_mut()));
        let (batches, y) = (Shared(io.input::<i64>(2).cast_mut()), Shared(io.output::<T>(0)));
        // SAFETY: regions have four corners each.
        let region = |r: usize| regions.place(&[0, 1, 2, 3].map(|i| unsafe { *rois.at(4 * r + i) }.to_f64()));
        // SAFETY: there is an index for each region.
        let image = |r: usize| oxrt_ops::copy::index(unsafe { *batches.at(r) }, n);
        for r in 0..count {
            image(r)?;
            region(r).check(c * bins)?;
        }
        ctx.pool.run(count, |r| {
            let (Ok(image), region) = (image(r), region(r)) else { return };
            let points = region.points[0] * region.points[1];
            T::with_table(|(taps, ends)| {
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
                            around(v, u, height, width).map(|t| t.map(|(at, weight)| (at as u32, T::from_f64(weight))))
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
                                    T::from_f64(sum(plane, &taps[start..end]).to_f64() / points.max(1) as f64)
                                } else {
                                    let least = if points == 0 || outside { T::default() } else { T::LEAST };
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
}

/// The sum of all parts of all points.
///
/// # Safety
/// The taps lie inside the plane.
unsafe fn sum<T: Real>(plane: *const T, taps: &[Taps<T>]) -> T {
    let mut sums = [T::default(); 4];
    for point in taps {
        for k in 0..4 {
            // SAFETY: as the caller promises.
            sums[k] = sums[k].plus(unsafe { *plane.add(point[k].0 as usize) }.times(point[k].1));
        }
    }
    (sums[0].plus(sums[1])).plus(sums[2].plus(sums[3]))
}

/// The greatest part of a point, or `least`.
///
/// # Safety
/// As [`sum`].
unsafe fn greatest<T: Real>(plane: *const T, taps: &[Taps<T>], least: T) -> T {
    let mut most = least;
    for point in taps {
        for k in 0..4 {
            // SAFETY: as the caller promises.
            let part = unsafe { *plane.add(point[k].0 as usize) }.times(point[k].1);
            // A part that is no number is left out.
            most = if part > most { part } else { most };
        }
    }
    most
}
