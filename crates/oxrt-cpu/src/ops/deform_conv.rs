//! `DeformConv`: panels of moved taps, sampled as the matrix product comes to them.

use super::{Entry, float, float_or_absent, holds, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::gemm::{self, Cut, Matrix, Out, Size};
use crate::compute::{Shared, cut};
use crate::kernels::product::{PANEL, ProductTile, ROWS, Scalar};
use oxrt_backend::{BindArgs, Kernel, NodeView};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_ops::window::{Placed, Window};
use oxrt_tensor::{Error, Result, bail};

pub(super) const DEFORM_CONV: Entry =
    Entry { name: "deform_conv", ops: &["DeformConv"], supports, pack: pack_nothing, load };
pub(super) const DEFORM_CONV_F64: Entry = Entry {
    name: "deform_conv_f64",
    ops: &["DeformConv"],
    supports: |node| {
        require((0..3).all(|i| node.rank(i) == Some(4)))?;
        require((0..5).all(|i| (i > 2 && !node.has(i)) || node.dtype(i) == Some(DType::F64)))
    },
    pack: pack_nothing,
    load: load_doubles,
};

fn supports(node: &NodeView) -> Option<()> {
    (0..3).try_for_each(|i| float(node, i).and(require(node.rank(i)? == 4)))?;
    float_or_absent(node, 3)?;
    float_or_absent(node, 4)
}

/// Columns of the widest panel.
const WIDE: usize = 64;

/// The sizes of a node, found to fit each other.
struct Plan {
    placed: Placed,
    n: usize,
    c: usize,
    height: usize,
    width: usize,
    m: usize,
    cg: usize,
    taps: usize,
    /// Columns of the kernel and of the result.
    kw: usize,
    ow: usize,
    positions: usize,
    group: usize,
    shifts: usize,
}

fn plan(attrs: &Attrs, args: &BindArgs) -> Result<Plan> {
    let positive = |name: &str| -> Result<usize> {
        let n = usize::try_from(attrs.int_or(name, 1)?).ok().filter(|&n| n > 0);
        n.ok_or_else(|| Error::invalid(format!("`{name}` should be positive")))
    };
    let (group, shifts) = (positive("group")?, positive("offset_group")?);
    let (&[n, c, height, width], &[m, cg, kh, kw]) = (args.shape(0)?, args.shape(1)?) else {
        bail!(invalid, "an input of {:?} and weights of {:?}", args.shape(0)?, args.shape(1)?);
    };
    let placed = Window::new(attrs, &[kh as i64, kw as i64])?.place(&[height, width])?;
    let (oh, ow) = (placed.out[0], placed.out[1]);
    let (taps, positions) = (kh * kw, oh * ow);
    if cg * group != c || m % group != 0 || c % shifts != 0 || args.shape(2)? != [n, shifts * taps * 2, oh, ow] {
        bail!(
            invalid,
            "an input of {:?}, weights of {:?} and offsets of {:?}",
            args.shape(0)?,
            args.shape(1)?,
            args.shape(2)?
        );
    }
    holds(args, 3, m)?;
    holds(args, 4, n * shifts * taps * positions)?;
    makes(args, n * m * positions)?;
    Ok(Plan { placed, n, c, height, width, m, cg, taps, kw, ow, positions, group, shifts })
}

impl Plan {
    /// Where a tap of a result's pixel falls before it is moved: row and column.
    fn origin(&self, p: usize, tap: usize) -> [f64; 2] {
        let at = |d: usize, o: usize, k: usize| {
            (o as i64 * self.placed.strides[d] + k as i64 * self.placed.dilations[d] - self.placed.begin[d]) as f64
        };
        [at(0, p / self.ow, tap / self.kw), at(1, p % self.ow, tap % self.kw)]
    }
}

fn load(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (ctx, attrs) = (ctx.clone(), node.attrs().clone());
    kernel(move |args| {
        let plan = plan(&attrs, args)?;
        let Plan { n, c, height, width, m, cg, taps, positions, group, shifts, .. } = plan;
        let plane = height * width;
        let (k, mg) = (cg * taps, m / group);
        let nr = ctx.kernels.nr;
        debug_assert!(nr <= WIDE);
        let panels = positions.div_ceil(nr);
        let jobs = n * group * panels;
        let tasks = (4 * ctx.threads()).min(jobs.max(1));
        let ctx = ctx.clone();
        bound(move |io| {
            if m * positions == 0 {
                return;
            }
            let input = |i: usize| Shared(io.input::<f32>(i).cast_mut());
            let (x, w, moved, bias, mask) = (input(0), input(1), input(2), input(3), input(4));
            let (y, room) = (Shared(io.output::<f32>(0)), Shared(io.workspace.cast::<f32>()));
            ctx.pool.run(tasks, |task| {
                let (start, count) = cut(jobs, tasks, task);
                // SAFETY: tasks have room of their own and write disjoint columns of the result; pixels lie inside their planes.
                unsafe {
                    let room = room.at(task * k * nr);
                    for job in start..start + count {
                        let (image, g, first) = (job / (group * panels), job / panels % group, job % panels * nr);
                        let cols = nr.min(positions - first);
                        // Packed as the microkernel reads it: one vector wide where that is enough.
                        let wide = if cols <= ctx.kernels.lanes { ctx.kernels.lanes } else { nr };
                        for tap in 0..taps {
                            let mut channel = 0;
                            while channel < cg {
                                let all = g * cg + channel;
                                let shift = image * shifts + all / (c / shifts);
                                // Channels that move alike.
                                let alike = (c / shifts - all % (c / shifts)).min(cg - channel);
                                // Places, shares, and masks of ones where there is a pixel to read.
                                let (mut places, mut shares, mut there) =
                                    ([[0usize; WIDE]; 4], [[0.0f32; WIDE]; 4], [[0u32; WIDE]; 4]);
                                for j in 0..cols {
                                    let p = first + j;
                                    let by = |part: usize| *moved.at(((shift * taps + tap) * 2 + part) * positions + p);
                                    let origin = plan.origin(p, tap);
                                    let (py, px) = (origin[0] as f32 + by(0), origin[1] as f32 + by(1));
                                    let share = if mask.get().is_null() {
                                        1.0
                                    } else {
                                        *mask.at((shift * taps + tap) * positions + p)
                                    };
                                    let (y0, x0) = (py.floor(), px.floor());
                                    for k in 0..4 {
                                        let (qy, qx) = (y0 + (k / 2) as f32, x0 + (k % 2) as f32);
                                        if qy >= 0.0 && qx >= 0.0 && qy < height as f32 && qx < width as f32 {
                                            places[k][j] = qy as usize * width + qx as usize;
                                            shares[k][j] = (1.0 - (py - qy).abs()) * (1.0 - (px - qx).abs()) * share;
                                            there[k][j] = u32::MAX;
                                        }
                                    }
                                }
                                for at in channel..channel + alike {
                                    let from = x.at((image * c + g * cg + at) * plane);
                                    let to = room.add((at * taps + tap) * wide);
                                    for j in 0..if plane == 0 { 0 } else { wide } {
                                        let mut sum = 0.0;
                                        for k in 0..4 {
                                            let pixel = (*from.add(places[k][j])).to_bits() & there[k][j];
                                            sum += f32::from_bits(pixel) * shares[k][j];
                                        }
                                        *to.add(j) = sum;
                                    }
                                    if plane == 0 {
                                        core::ptr::write_bytes(to, 0, wide);
                                    }
                                }
                                channel += alike;
                            }
                        }
                        let size = Size::plain(mg, cols, k);
                        let how = Cut::choose(ctx.kernels, size, 1);
                        let rows = Matrix { data: w.at(g * mg * k).cast_const(), stride: k };
                        let to = y.at((image * m + g * mg) * positions + first);
                        for part in 0..how.tasks() {
                            gemm::block(ctx.kernels, size, how, &rows, room, Out::plain(to, positions), part);
                        }
                        for row in (0..mg).filter(|_| !bias.get().is_null()) {
                            let b = *bias.at(g * mg + row);
                            (0..cols).for_each(|j| *to.add(row * positions + j) += b);
                        }
                    }
                }
            });
        })
        .workspace(tasks * k * nr * 4)
        .flops(2 * n * m * positions * k)
        .boxed()
    })
}

fn load_doubles(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (ctx, attrs) = (ctx.clone(), node.attrs().clone());
    kernel(move |args| {
        let plan = plan(&attrs, args)?;
        let Plan { n, c, height, width, m, cg, taps, positions, group, shifts, .. } = plan;
        let plane = height * width;
        let (k, mg) = (cg * taps, m / group);
        let panels = positions.div_ceil(PANEL);
        let jobs = n * group * panels;
        let tasks = (4 * ctx.threads()).min(jobs.max(1));
        let ctx = ctx.clone();
        bound(move |io| {
            let input = |i: usize| Shared(io.input::<f64>(i).cast_mut());
            let (x, w, moved, bias, mask) = (input(0), input(1), input(2), input(3), input(4));
            let (y, room) = (Shared(io.output::<f64>(0)), Shared(io.workspace.cast::<f64>()));
            ctx.pool.run(tasks, |task| {
                let (start, count) = cut(jobs, tasks, task);
                // SAFETY: tasks have room of their own and write disjoint columns of the result; pixels lie inside their planes.
                unsafe {
                    let panel = room.at(task * k * PANEL);
                    for job in start..start + count {
                        let (image, g, first) = (job / (group * panels), job / panels % group, job % panels * PANEL);
                        let columns = PANEL.min(positions - first);
                        core::slice::from_raw_parts_mut(panel, k * PANEL).fill(0.0);
                        for channel in 0..cg {
                            let all = g * cg + channel;
                            let (shift, from) = (image * shifts + all / (c / shifts), x.at((image * c + all) * plane));
                            for (tap, j) in (0..taps).flat_map(|tap| (0..columns).map(move |j| (tap, j))) {
                                let p = first + j;
                                let by = |part: usize| *moved.at(((shift * taps + tap) * 2 + part) * positions + p);
                                let origin = plan.origin(p, tap);
                                let (py, px) = (origin[0] + by(0), origin[1] + by(1));
                                let (y0, x0) = (py.floor(), px.floor());
                                let mut sum = 0.0;
                                for corner in 0..4 {
                                    let (qy, qx) = (y0 + f64::from(corner / 2), x0 + f64::from(corner % 2));
                                    if qy >= 0.0 && qx >= 0.0 && qy < height as f64 && qx < width as f64 {
                                        let share = (1.0 - (py - qy).abs()) * (1.0 - (px - qx).abs());
                                        sum += share * *from.add(qy as usize * width + qx as usize);
                                    }
                                }
                                if !mask.get().is_null() {
                                    sum *= *mask.at((shift * taps + tap) * positions + p);
                                }
                                *panel.add((channel * taps + tap) * PANEL + j) = sum;
                            }
                        }
                        for row in (0..mg).step_by(ROWS) {
                            let (map, rows) = (g * mg + row, ROWS.min(mg - row));
                            let to = y.at((image * m + map) * positions + first);
                            let a = w.at(map * k).cast_const();
                            let tile = ProductTile { k, a, b: panel, c: to, stride: positions, rows, columns };
                            f64::kernel(ctx.kernels)(&tile);
                            for i in 0..if bias.get().is_null() { 0 } else { rows * columns } {
                                *to.add(i / columns * positions + i % columns) += *bias.at(map + i / columns);
                            }
                        }
                    }
                }
            });
        })
        .workspace(tasks * k * PANEL * size_of::<f64>())
        .flops(2 * n * m * positions * k)
        .boxed()
    })
}
