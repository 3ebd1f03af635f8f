//! Attention of doubles, and of floats with what the packed kernel does not take: scores as an output, windows, numbers of
//! valid keys. Scores and sums are in `f64`.

use super::attention::{self, mask_strides};
use super::{Entry, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Bound, NodeView};
use oxrt_ir::{Attrs, DType};
use oxrt_ops::attention::{ATTRIBUTES, Operand, Placed};
use oxrt_tensor::{Result, bail};

pub(super) const ATTENTION_ANY: Entry = Entry {
    name: "attention_any",
    ops: &["oxrt.Attention", "Attention"],
    supports,
    pack: pack_nothing,
    load: |ctx, node, _| {
        let bind: fn(&Ctx, &Attrs, bool, &BindArgs) -> Result<Box<dyn Bound>> =
            if node.dtype(0) == Some(DType::F64) { bind::<f64> } else { bind::<f32> };
        let (ctx, attrs, bool_mask) = (ctx.clone(), node.attrs().clone(), node.dtype(3) == Some(DType::Bool));
        kernel(move |args| bind(&ctx, &attrs, bool_mask, args))
    },
};

fn supports(node: &NodeView) -> Option<()> {
    require((attention::ATTENTION.supports)(node).is_none())?;
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64))?;
    for i in [0, 1, 2, 4, 5].into_iter().filter(|&i| i < 3 || node.has(i)) {
        require(node.dtype(i) == Some(dtype))?;
        require(if i < 3 { matches!(node.rank(i)?, 3 | 4) } else { node.rank(i)? == 4 })?;
    }
    require(node.has(4) == node.has(5))?;
    if node.has(3) {
        require((node.dtype(3)? == DType::Bool || node.dtype(3)? == dtype) && node.rank(3)? <= 4)?;
    }
    require(!node.has(6) || (node.dtype(6)? == DType::I64 && node.rank(6)? == 1))?;
    let more = ["qk_matmul_output_mode", "softmax_precision", "left_window_size", "right_window_size"];
    require(node.attrs().iter().all(|(name, _)| ATTRIBUTES.contains(&name) || more.contains(&name)))?;
    require((0..=3).contains(&node.attrs().int_or("qk_matmul_output_mode", 0).ok()?))
}

/// Rows of keys or values: those of a cache, then those of this call.
#[derive(Clone, Copy)]
struct Rows {
    heads: usize,
    past: usize,
    total: usize,
    size: usize,
    steps: [usize; 3],
}

impl Rows {
    fn new(new: &Placed, past: Option<&[usize]>, out: Option<&[usize]>) -> Result<Rows> {
        let before = match past {
            None => 0,
            Some(&[b, h, rows, size]) if (b, h, size) == (new.batch, new.heads, new.size) => rows,
            Some(other) => bail!(invalid, "a cache of shape {other:?} for {} heads of {}", new.heads, new.size),
        };
        let rows = Rows { heads: new.heads, past: before, total: before + new.rows, size: new.size, steps: new.steps };
        let full = [new.batch, new.heads, rows.total, new.size];
        if out.is_some_and(|out| out != full) {
            bail!(invalid, "{out:?} as the shape of all keys or values, which have {full:?}");
        }
        Ok(rows)
    }

    /// # Safety
    /// The pointers cover the sizes; a cache without rows may be null.
    unsafe fn row<T>(&self, past: *const T, new: *const T, [b, h, j]: [usize; 3]) -> *const T {
        let [batch, head, step] = self.steps;
        // SAFETY: as the caller promises.
        unsafe {
            if j < self.past {
                past.add(((b * self.heads + h) * self.past + j) * self.size)
            } else {
                new.add(b * batch + h * head + (j - self.past) * step)
            }
        }
    }
}

/// Products of two rows, in sums of their own that vectors hold.
///
/// # Safety
/// Both have `n` elements.
#[inline]
unsafe fn dot<T: Element>(a: *const T, b: *const T, n: usize) -> f64 {
    const LANES: usize = 8;
    let mut sums = [0.0f64; LANES];
    let whole = n / LANES * LANES;
    // SAFETY: as the caller promises.
    unsafe {
        for i in (0..whole).step_by(LANES) {
            for (l, sum) in sums.iter_mut().enumerate() {
                *sum += (*a.add(i + l)).to_f64() * (*b.add(i + l)).to_f64();
            }
        }
        (whole..n).for_each(|i| sums[i - whole] += (*a.add(i)).to_f64() * (*b.add(i)).to_f64());
    }
    sums.iter().sum()
}

fn bind<T: Element>(ctx: &Ctx, attrs: &Attrs, bool_mask: bool, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let place = |operand: Operand| Placed::new(attrs, operand, args.shape(operand as usize)?);
    let (q, k, v) = (place(Operand::Query)?, place(Operand::Key)?, place(Operand::Value)?);
    let same = k.batch == q.batch && v.batch == q.batch && k.heads == v.heads && k.rows == v.rows && k.size == q.size;
    if !same || k.heads == 0 || q.heads % k.heads != 0 {
        let shapes = [args.shape(0)?, args.shape(1)?, args.shape(2)?];
        bail!(invalid, "queries, keys and values of shapes {shapes:?} do not fit together");
    }
    let out = Placed::new(attrs, Operand::Result, args.output(0)?)?;
    makes(args, q.batch * q.heads * q.rows * v.size)?;
    if (out.heads, out.rows, out.size) != (q.heads, q.rows, v.size) {
        bail!(invalid, "a result of shape {:?} for queries of shape {:?}", args.output(0)?, args.shape(0)?);
    }
    let whole = [1, 2].map(|i| args.output(i).ok());
    let keys = Rows::new(&k, args.opt_shape(4), whole[0])?;
    let values = Rows::new(&v, args.opt_shape(5), whole[1])?;
    if keys.past != values.past {
        bail!(invalid, "caches of {} keys and of {} values", keys.past, values.past);
    }
    let (total, full) = (keys.total, [q.batch, q.heads, q.rows, keys.total]);
    let mask = args.opt_shape(3).map(|shape| mask_strides(shape, full, bool_mask)).transpose()?;
    if args.output(3).is_ok_and(|s| s != full) {
        bail!(invalid, "scores of shape {:?}, which have {full:?}", args.output(3)?);
    }
    if args.opt_shape(6).is_some_and(|s| s != [q.batch]) {
        bail!(invalid, "numbers of valid keys of shape {:?} for {} batches", args.shape(6)?, q.batch);
    }
    let scale = attrs.get_float("scale")?.map_or_else(|| 1.0 / (q.size as f64).sqrt(), |&s| f64::from(s));
    let softcap = f64::from(attrs.float_or("softcap", 0.0)?);
    let causal = attrs.bool_or("is_causal", false)?;
    let (left, right) = (attrs.int_or("left_window_size", -1)?, attrs.int_or("right_window_size", -1)?);
    let stage = attrs.int_or("qk_matmul_output_mode", 0)?;
    let jobs = q.batch * q.heads * q.rows;
    let work = jobs * total * (q.size + v.size);
    let parts = ctx.pool.parts(work / (16 * 1024)).min(jobs.max(1));
    let room = (total + v.size).next_multiple_of(8);
    let groups = q.heads / k.heads;
    let ctx = ctx.clone();
    bound(move |io| {
        let input = |i: usize, at: usize| Shared(io.input::<T>(i).wrapping_add(at).cast_mut());
        let (queries, new_keys, new_values) = (input(0, q.at), input(1, k.at), input(2, v.at));
        let (old_keys, old_values, added) = (input(4, 0), input(5, 0), input(3, 0));
        let kept = Shared(io.input::<u8>(3).cast_mut());
        let valid = Shared(io.input::<i64>(6).cast_mut());
        let (y, seen) = (Shared(io.output::<T>(0)), Shared(io.output::<T>(3)));
        for (i, rows, old, new) in [(1, keys, old_keys, new_keys), (2, values, old_values, new_values)] {
            let to = Shared(io.output::<T>(i));
            if to.get().is_null() {
                continue;
            }
            ctx.pool.run(q.batch * rows.heads, |g| {
                for j in 0..rows.total {
                    // SAFETY: every head has rows of its own in the result.
                    unsafe {
                        let from = rows.row(old.get(), new.get(), [g / rows.heads, g % rows.heads, j]);
                        core::ptr::copy_nonoverlapping(from, to.at((g * rows.total + j) * rows.size), rows.size);
                    }
                }
            });
        }
        let workspace = Shared(io.workspace.cast::<f64>());
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(jobs, parts, part);
            // SAFETY: every part has room of its own for scores and a row of sums.
            let (scores, sums) = unsafe {
                let at = workspace.at(part * room);
                (core::slice::from_raw_parts_mut(at, total), core::slice::from_raw_parts_mut(at.add(total), v.size))
            };
            for job in start..start + count {
                let (b, h, i) = (job / (q.heads * q.rows), job / q.rows % q.heads, job % q.rows);
                let shared = h / groups;
                // SAFETY: rows lie inside their operands; every job has a row of the result and of the scores.
                unsafe {
                    let query = queries.at(b * q.steps[0] + h * q.steps[1] + i * q.steps[2]);
                    let keep = |at: i64, scores: &[f64]| {
                        if at == stage && !seen.get().is_null() {
                            (0..total).for_each(|j| *seen.at(job * total + j) = T::from_f64(scores[j]));
                        }
                    };
                    for (j, s) in scores.iter_mut().enumerate() {
                        let key = keys.row(old_keys.get().cast_const(), new_keys.get(), [b, shared, j]);
                        *s = dot(query.cast_const(), key, q.size) * scale;
                    }
                    keep(0, scores);
                    if softcap > 0.0 {
                        scores.iter_mut().for_each(|s| *s = (*s / softcap).tanh() * softcap);
                    }
                    keep(1, scores);
                    let limit = if valid.get().is_null() { None } else { Some(*valid.at(b)) };
                    // Position of the query among the keys.
                    let place = i as i64 + limit.map_or(keys.past as i64, |n| n - q.rows as i64);
                    let mut open = false;
                    for (j, s) in scores.iter_mut().enumerate() {
                        let at = j as i64;
                        let hidden = causal && at > place
                            || left >= 0 && place - at > left
                            || right >= 0 && at - place > right
                            || limit.is_some_and(|n| at >= n);
                        let bias = match mask {
                            _ if hidden => f64::NEG_INFINITY,
                            None => 0.0,
                            Some((_, visible)) if j >= visible => f64::NEG_INFINITY,
                            Some((m, _)) => {
                                let at = b * m.at.batch + h * m.at.head + i * m.at.row + j * m.key;
                                match bool_mask {
                                    true if *kept.at(at) != 0 => 0.0,
                                    true => f64::NEG_INFINITY,
                                    false => (*added.at(at)).to_f64(),
                                }
                            }
                        };
                        open |= bias != f64::NEG_INFINITY;
                        *s += bias;
                    }
                    keep(2, scores);
                    oxrt_ops::attention::weigh(scores, open);
                    keep(3, scores);
                    sums.fill(0.0);
                    for (j, &p) in scores.iter().enumerate().filter(|p| *p.1 != 0.0) {
                        let value = values.row(old_values.get().cast_const(), new_values.get(), [b, shared, j]);
                        sums.iter_mut().enumerate().for_each(|(c, sum)| *sum += p * (*value.add(c)).to_f64());
                    }
                    let to = y.at(out.at + b * out.steps[0] + h * out.steps[1] + i * out.steps[2]);
                    sums.iter().enumerate().for_each(|(c, &sum)| *to.add(c) = T::from_f64(sum));
                }
            }
        });
    })
    .workspace(parts * room * size_of::<f64>())
    .flops(2 * work)
    .boxed()
}
