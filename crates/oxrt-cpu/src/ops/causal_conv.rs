//! `CausalConvWithState`: one channel after the other, the past before the present.

use super::{Entry, holds, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::{Shared, cut};
use oxrt_backend::{BindArgs, Bound, NodeView};
use oxrt_ir::DType;
use oxrt_tensor::{Result, bail};

pub(super) const CAUSAL_CONV: Entry = Entry {
    name: "causal_conv",
    ops: &["CausalConvWithState"],
    supports,
    pack: pack_nothing,
    load: |ctx, node, _| {
        let bind: fn(&Ctx, bool, &BindArgs) -> Result<Box<dyn Bound>> =
            if node.dtype(0) == Some(DType::F64) { bind::<f64> } else { bind::<f32> };
        let (ctx, silu) = (ctx.clone(), node.attrs().string_or("activation", "none")? != "none");
        kernel(move |args| bind(&ctx, silu, args))
    },
};

fn supports(node: &NodeView) -> Option<()> {
    let dtype = node.dtype(0)?;
    require(matches!(dtype, DType::F32 | DType::F64))?;
    require((1..4).all(|i| !node.has(i) || node.dtype(i) == Some(dtype)))?;
    require(matches!(node.attrs().string_or("activation", "none").ok()?, "none" | "silu" | "swish"))
}

fn bind<T: Element>(ctx: &Ctx, silu: bool, args: &BindArgs) -> Result<Box<dyn Bound>> {
    let (&[b, c, length], &[channels, 1, taps]) = (args.shape(0)?, args.shape(1)?) else {
        bail!(invalid, "an input of {:?} and weights of {:?}", args.shape(0)?, args.shape(1)?);
    };
    if c != channels || taps == 0 {
        bail!(invalid, "weights of {:?} for {c} channels", args.shape(1)?);
    }
    let past = taps - 1;
    holds(args, 2, c)?;
    holds(args, 3, b * c * past)?;
    makes(args, b * c * length)?;
    if args.output(1).is_ok_and(|s| s != [b, c, past]) {
        bail!(invalid, "a next state of shape {:?}", args.output(1)?);
    }
    let (jobs, work) = (b * c, 2 * b * c * length * taps);
    let parts = ctx.pool.parts(work / (16 * 1024)).min(jobs.max(1));
    let ctx = ctx.clone();
    bound(move |io| {
        let input = |i: usize| Shared(io.input::<T>(i).cast_mut());
        let (x, w, bias, state) = (input(0), input(1), input(2), input(3));
        let (y, next) = (Shared(io.output::<T>(0)), Shared(io.output::<T>(1)));
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(jobs, parts, part);
            for job in start..start + count {
                let channel = job % c;
                // SAFETY: every job has a channel of its own in inputs, results and states.
                unsafe {
                    let (x, w, to) = (x.at(job * length).cast_const(), w.at(channel * taps), y.at(job * length));
                    // Element `i` of the past and the present after it.
                    let at = |i: usize| match i.checked_sub(past) {
                        Some(i) => *x.add(i),
                        None if state.get().is_null() => T::default(),
                        None => *state.at(job * past + i),
                    };
                    let first = if bias.get().is_null() { T::default() } else { *bias.at(channel) };
                    for i in 0..length {
                        *to.add(i) = first;
                    }
                    for tap in 0..taps {
                        let (by, early) = (*w.add(tap), (past - tap).min(length));
                        for i in 0..early {
                            *to.add(i) = (*to.add(i)).plus(at(i + tap).times(by));
                        }
                        for i in early..length {
                            *to.add(i) = (*to.add(i)).plus((*x.add(i - (past - tap))).times(by));
                        }
                    }
                    if silu {
                        for i in 0..length {
                            let v = (*to.add(i)).to_f64();
                            *to.add(i) = T::from_f64(v / (1.0 + (-v).exp()));
                        }
                    }
                    if !next.get().is_null() {
                        (0..past).for_each(|i| *next.at(job * past + i) = at(length + i));
                    }
                }
            }
        });
    })
    .flops(work)
    .boxed()
}
