//! `LinearAttention`: every head's state stays in the first cache, cut into strips of columns, while the steps pass by.

use super::{Entry, holds, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Bound, NodeView};
use oxrt_ir::{Attrs, DType};
use oxrt_tensor::{Result, bail};

pub(super) const LINEAR_ATTENTION: Entry = Entry {
    name: "linear_attention",
    ops: &["LinearAttention"],
    supports,
    pack: pack_nothing,
    load: |ctx, node, _| {
        let bind: fn(&Ctx, &Attrs, &BindArgs) -> Result<Box<dyn Bound>> =
            if node.dtype(0) == Some(DType::F64) { bind::<f64> } else { bind::<f32> };
        let (ctx, attrs) = (ctx.clone(), node.attrs().clone());
        kernel(move |args| bind(&ctx, &attrs, args))
    },
};

fn supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64))?;
    require((1..6).all(|i| !node.has(i) || node.dtype(i) == Some(dtype)))?;
    let (gated, delta) = rule(node.attrs())?;
    require(node.has(4) == gated && node.has(5) == delta)
}

/// Whether the state decays, and whether what it says already is taken off.
fn rule(attrs: &Attrs) -> Option<(bool, bool)> {
    Some(match attrs.string_or("update_rule", "gated_delta").ok()? {
        "linear" => (false, false),
        "gated" => (true, false),
        "delta" => (false, true),
        "gated_delta" => (true, true),
        _ => return None,
    })
}

/// Columns of a state that one task carries through the steps.
const STRIP: usize = 32;

fn bind<T: Element>(ctx: &Ctx, attrs: &Attrs, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let heads = |name: &str| -> Result<usize> { Ok(usize::try_from(attrs.int_or(name, 0)?).unwrap_or(0)) };
    let (hq, hk) = (heads("q_num_heads")?, heads("kv_num_heads")?);
    let (&[b, t, eq], &[bk, tk, ek], &[bv, tv, ev]) = (args.shape(0)?, args.shape(1)?, args.shape(2)?) else {
        bail!(invalid, "query, key and value should have three axes");
    };
    if hq == 0 || hk == 0 || hq % hk != 0 {
        bail!(invalid, "{hq} query heads share {hk} key heads");
    }
    let (dk, dv) = (eq / hq, ev / hk);
    if [bk, bv] != [b, b] || [tk, tv] != [t, t] || eq != dk * hq || ek != dk * hk || ev != dv * hk {
        bail!(
            invalid,
            "query {:?}, key {:?} and value {:?} do not fit",
            args.shape(0)?,
            args.shape(1)?,
            args.shape(2)?
        );
    }
    // Values per step and key head, one for all sizes or one each.
    let width = |i: usize, widths: [usize; 2]| match args.opt_shape(i) {
        None => Ok(0),
        Some(&[xb, xt, w]) if (xb, xt) == (b, t) && widths.contains(&w) => Ok(w),
        Some(other) => bail!(invalid, "input {i} has the shape {other:?}"),
    };
    let (decay_width, rate_width) = (width(4, [hk, hk * dk])?, width(5, [hk, 1])?);
    makes(args, b * t * hq * dv)?;
    holds(args, 3, b * hk * dk * dv)?;
    if args.output(1).is_ok_and(|s| s != [b, hk, dk, dv]) {
        bail!(invalid, "a next state of shape {:?}", args.output(1)?);
    }
    let scale = match attrs.float_or("scale", 0.0)? {
        0.0 => 1.0 / (dk as f64).sqrt(),
        s => f64::from(s),
    };
    let strips = dv.div_ceil(STRIP);
    let jobs = b * hk * strips;
    let groups = hq / hk;
    let work = (b * t * hk * dk * dv).saturating_mul(6 + 2 * groups);
    let parts = ctx.pool.parts(work / (16 * 1024)).min(jobs.max(1));
    let ctx = ctx.clone();
    bound(move |io| {
        let input = |i: usize| Shared(io.input::<T>(i).cast_mut());
        let (q, k, v, past, decay, rate) = (input(0), input(1), input(2), input(3), input(4), input(5));
        let (y, next) = (Shared(io.output::<T>(0)), Shared(io.output::<T>(1)));
        let room = Shared(io.workspace.cast::<T>());
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(jobs, parts, part);
            for job in start..start + count {
                let (image, h, first) = (job / (hk * strips), job / strips % hk, job % strips * STRIP);
                let columns = STRIP.min(dv - first);
                // SAFETY: every part has a state of its own; strips are disjoint columns of states and results.
                unsafe {
                    // Rows of the state, a strip wide; columns that are not there stay zero.
                    let state = core::slice::from_raw_parts_mut(room.at(part * dk * STRIP), dk * STRIP);
                    let base = (image * hk + h) * dk * dv + first;
                    state.fill(T::default());
                    if !past.get().is_null() {
                        for i in 0..dk {
                            (0..columns).for_each(|j| state[i * STRIP + j] = *past.at(base + i * dv + j));
                        }
                    }
                    for row in image * t..(image + 1) * t {
                        let key = k.at(row * ek + h * dk);
                        if decay_width > 0 {
                            let each = decay_width != hk;
                            let from = decay.at(row * decay_width + if each { h * dk } else { h });
                            let mut share = if dk > 0 { T::from_f64((*from).to_f64().exp()) } else { T::default() };
                            for (i, line) in state.chunks_exact_mut(STRIP).enumerate() {
                                if each {
                                    share = T::from_f64((*from.add(i)).to_f64().exp());
                                }
                                line.iter_mut().for_each(|s| *s = s.times(share));
                            }
                        }
                        let mut value = [T::default(); STRIP];
                        (0..columns).for_each(|j| value[j] = *v.at(row * ev + h * dv + first + j));
                        if rate_width > 0 {
                            let share = *rate.at(row * rate_width + if rate_width == 1 { 0 } else { h });
                            let mut found = [T::default(); STRIP];
                            for (i, line) in state.chunks_exact(STRIP).enumerate() {
                                let by = *key.add(i);
                                found.iter_mut().zip(line).for_each(|(f, s)| *f = f.plus(s.times(by)));
                            }
                            let minus = T::from_f64(-1.0);
                            for (v, f) in value.iter_mut().zip(&found) {
                                *v = v.plus(f.times(minus)).times(share);
                            }
                        }
                        for (i, line) in state.chunks_exact_mut(STRIP).enumerate() {
                            let by = *key.add(i);
                            line.iter_mut().zip(&value).for_each(|(s, v)| *s = s.plus(v.times(by)));
                        }
                        for head in h * groups..(h + 1) * groups {
                            let query = q.at(row * eq + head * dk);
                            let mut sums = [T::default(); STRIP];
                            for (i, line) in state.chunks_exact(STRIP).enumerate() {
                                let by = *query.add(i);
                                sums.iter_mut().zip(line).for_each(|(y, s)| *y = y.plus(s.times(by)));
                            }
                            let to = y.at(row * hq * dv + head * dv + first);
                            (0..columns).for_each(|j| *to.add(j) = T::from_f64(sums[j].to_f64() * scale));
                        }
                    }
                    if !next.get().is_null() {
                        for i in 0..dk {
                            (0..columns).for_each(|j| *next.at(base + i * dv + j) = state[i * STRIP + j]);
                        }
                    }
                }
            }
        });
    })
    .workspace(parts * dk * STRIP * size_of::<T>())
    .flops(work)
    .boxed()
}
