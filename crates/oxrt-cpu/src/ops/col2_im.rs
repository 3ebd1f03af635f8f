//! `Col2Im`: columns added back into images; where each lands is found once per set of sizes.

use super::{Entry, float, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::Shared;
use oxrt_backend::geometry::{ints, known};
use oxrt_backend::{Kernel, NodeView};
use oxrt_ir::Tensor;
use oxrt_ops::window::Window;
use oxrt_tensor::{Error, Result, bail};

pub(super) const COL2_IM: Entry = Entry { name: "col2_im", ops: &["Col2Im"], supports, pack: pack_nothing, load };

fn supports(node: &NodeView) -> Option<()> {
    float(node, 0)?;
    require(node.rank(0)? == 3)?;
    known(node, 1)?;
    known(node, 2)
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (attrs, ctx) = (node.attrs().clone(), ctx.clone());
    kernel(move |args| {
        let list = |i: usize| ints(args, i)?.ok_or_else(|| Error::invalid("a shape is missing"));
        let image = oxrt_ops::shape::sizes(&list(1)?)?;
        let placed = Window::new(&attrs, &list(2)?)?.place(&image)?;
        let (taps, positions) = (placed.taps_per_output(), placed.num_outputs());
        let &[n, rows, length] = args.shape(0)? else { bail!(invalid, "columns of shape {:?}", args.shape(0)?) };
        if rows % taps.max(1) != 0 || length != positions {
            bail!(invalid, "columns of shape {:?} for {positions} blocks of {taps}", args.shape(0)?);
        }
        let table = placed.taps(&image, &placed.out)?;
        let runs = runs(&table, *placed.out.last().unwrap_or(&1));
        let step = placed.strides.last().map_or(1, |&s| s as usize);
        let size: usize = image.iter().product();
        let planes = n * rows / taps.max(1);
        makes(args, planes * size)?;
        let ctx = ctx.clone();
        bound(move |io| {
            let (x, y) = (Shared(io.input::<f32>(0).cast_mut()), Shared(io.output::<f32>(0)));
            ctx.pool.run(planes, |plane| {
                // SAFETY: planes are disjoint, and the table leads inside one.
                unsafe {
                    let (from, to) = (x.at(plane * taps * length), y.at(plane * size));
                    core::ptr::write_bytes(to, 0, size);
                    for &Run { from: first, to: place, len } in &runs {
                        let (from, to) = (from.add(first), to.add(place));
                        if step == 1 {
                            (0..len).for_each(|i| *to.add(i) += *from.add(i));
                        } else {
                            (0..len).for_each(|i| *to.add(i * step) += *from.add(i));
                        }
                    }
                }
            });
        })
        .boxed()
    })
}

/// Neighbours that land in neighbours, a stride apart.
struct Run {
    from: usize,
    to: usize,
    len: usize,
}

/// What of each row of positions lands inside the image.
fn runs(table: &[isize], row: usize) -> Vec<Run> {
    let mut runs = Vec::new();
    for (i, places) in table.chunks(row.max(1)).enumerate() {
        if let Some(first) = places.iter().position(|&p| p >= 0) {
            let len = places[first..].iter().take_while(|&&p| p >= 0).count();
            runs.push(Run { from: i * row + first, to: places[first] as usize, len });
        }
    }
    runs
}
