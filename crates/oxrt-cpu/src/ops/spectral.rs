//! DFT and STFT: sums in double precision, but for complex lines of single precision in that, as the cases of ONNX have it.

use super::{Entry, axis_of, makes, pack_nothing, require};
use crate::backend::{Ctx, bound, kernel};
use crate::compute::element::Element;
use crate::compute::fft::{Fft, RealFft};
use crate::compute::{Shared, cut};
use crate::kernels::fft::{Parts, Real};
use oxrt_backend::geometry::{ints, known};
use oxrt_backend::{BindArgs, Bound, Io, Kernel, NodeView};
use oxrt_ir::{DType, Tensor};
use oxrt_ops::fft32::radices;
use oxrt_tensor::{Error, Result, bail};

pub(super) const DFT: Entry =
    Entry { name: "dft", ops: &["DFT"], supports: dft_supports, pack: pack_nothing, load: dft };
pub(super) const STFT: Entry =
    Entry { name: "stft", ops: &["STFT"], supports: stft_supports, pack: pack_nothing, load: stft };

fn dft_supports(node: &NodeView) -> Option<()> {
    require(matches!(node.dtype(0)?, DType::F32 | DType::F64) && node.rank(0)? >= 2)?;
    known(node, 1)?;
    known(node, 2)
}

fn stft_supports(node: &NodeView) -> Option<()> {
    require(matches!(node.dtype(0)?, DType::F32 | DType::F64) && matches!(node.rank(0)?, 2 | 3))?;
    require(!node.has(2) || node.dtype(2) == node.dtype(0))?;
    known(node, 1)?;
    known(node, 3)
}

fn one(args: &BindArgs, i: usize) -> Result<Option<i64>> {
    Ok(ints(args, i)?.and_then(|v| v.first().copied()))
}

/// Calls `job(line, its two lines of `room` numbers)` for all lines; workspace for so many tasks at once is needed.
fn each_line<T: Real>(
    ctx: &Ctx,
    io: &Io,
    lines: usize,
    tasks: usize,
    room: usize,
    job: impl Fn(usize, [Parts<T>; 2]) + Sync,
) {
    let space = Shared(io.workspace.cast::<T>());
    ctx.pool.run(tasks, |task| {
        let (start, count) = cut(lines, tasks, task);
        // SAFETY: the workspace has four rows of the room for each task.
        let own = unsafe { space.at(task * 4 * room) };
        let line = Parts { re: own, im: own.wrapping_add(room) };
        (start..start + count).for_each(|i| job(i, [line, line.at(2 * room)]));
    });
}

/// Tasks for so many lines of so many numbers.
fn tasks(ctx: &Ctx, lines: usize, n: usize) -> usize {
    ctx.pool.parts(lines * n / 2048).min(lines.max(1))
}

/// A DFT bound to sizes.
#[derive(Clone, Copy)]
struct Lines {
    /// Length of the transform.
    n: usize,
    /// Numbers given along the axis.
    given: usize,
    /// Numbers kept of a result.
    kept: usize,
    /// Elements of a number on the way in and out.
    parts: usize,
    width: usize,
    /// Numbers behind the axis.
    inner: usize,
    lines: usize,
    inverse: bool,
    half: bool,
}

fn dft(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let attrs = node.attrs();
    let (inverse, half) = (attrs.bool_or("inverse", false)?, attrs.bool_or("onesided", false)?);
    let single = node.dtype(0) == Some(DType::F32);
    let ctx = ctx.clone();
    kernel(move |args| {
        let x = args.shape(0)?;
        let rank = x.len();
        let at = axis_of(one(args, 2)?.unwrap_or(-2), rank)?;
        let parts = match x.last() {
            Some(&p @ (1 | 2)) if at + 1 < rank => p,
            _ => bail!(invalid, "a signal of shape {x:?} along axis {at}"),
        };
        let given = x[at];
        let n = match one(args, 1)? {
            Some(n) => usize::try_from(n).ok().filter(|&n| n > 0),
            None => Some(if inverse && half { 2 * given.saturating_sub(1) } else { given }),
        };
        let n = n.ok_or_else(|| Error::invalid("a transform of a length below one"))?;
        let kept = if half && !inverse { n / 2 + 1 } else { n };
        let inner: usize = x[at + 1..rank - 1].iter().product();
        let lines = x[..at].iter().product::<usize>() * inner;
        let width = if inverse && half { 1 } else { 2 };
        let l = Lines { n, given, kept, parts, width, inner, lines, inverse, half };
        makes(args, lines * kept * width)?;
        if n == 0 || lines == 0 {
            return bound(|_| ()).boxed();
        }
        if !single {
            return l.bind::<f64, f64>(&ctx);
        }
        if parts == 2 && !half && radices(n).is_some() { l.bind::<f32, f32>(&ctx) } else { l.bind::<f32, f64>(&ctx) }
    })
}

impl Lines {
    /// Binds it for elements `E`, with sums in `T`.
    fn bind<E: Element, T: Real + Element>(self, ctx: &Ctx) -> Result<Box<dyn Bound>> {
        let l = self;
        if l.parts == 1 && l.half && !l.inverse && l.n.is_multiple_of(2) {
            return l.bind_real::<E>(ctx);
        }
        let fft = Fft::<T>::new(ctx.kernels, l.n, l.inverse);
        let (room, ctx) = (fft.room(), ctx.clone());
        let tasks = tasks(&ctx, l.lines, l.n);
        bound(move |io| {
            let (x, y) = (Shared(io.input::<E>(0).cast_mut()), Shared(io.output::<E>(0)));
            each_line::<T>(&ctx, io, l.lines, tasks, room, |line, [a, b]| {
                let (outer, k) = (line / l.inner, line % l.inner);
                // SAFETY: numbers lie inside the bound buffers; lines are disjoint.
                unsafe {
                    let number = |i: usize| {
                        let at = ((outer * l.given + i) * l.inner + k) * l.parts;
                        let wide = |at: usize| T::of((*x.at(at)).to_f64());
                        (wide(at), if l.parts == 2 { wide(at + 1) } else { T::default() })
                    };
                    if l.inverse && l.half {
                        // The other half mirrors the first; frequency 0 and the middle one are real.
                        for i in 0..l.n {
                            let at = i.min(l.n - i);
                            let (re, im) = if at < l.given { number(at) } else { (T::default(), T::default()) };
                            let im = if i == 0 || 2 * i == l.n { T::default() } else { im };
                            a.set(i, (re, if i <= l.n / 2 { im } else { -im }));
                        }
                    } else {
                        (0..l.given.min(l.n)).for_each(|i| a.set(i, number(i)));
                        (l.given..l.n).for_each(|i| a.set(i, (T::default(), T::default())));
                    }
                    let out = fft.run(ctx.kernels, a, b);
                    for i in 0..l.kept {
                        let at = ((outer * l.kept + i) * l.inner + k) * l.width;
                        let (re, im) = out.get(i);
                        *y.at(at) = E::from_f64(re.to_f64());
                        if l.width == 2 {
                            *y.at(at + 1) = E::from_f64(im.to_f64());
                        }
                    }
                }
            });
        })
        .workspace(tasks * 4 * room * size_of::<T>())
        .boxed()
    }

    /// Half of the spectrum of real lines of even length.
    fn bind_real<E: Element>(self, ctx: &Ctx) -> Result<Box<dyn Bound>> {
        let l = self;
        let fft = RealFft::new(ctx.kernels, l.n);
        let (room, ctx) = (fft.room(), ctx.clone());
        let tasks = tasks(&ctx, l.lines, l.n);
        bound(move |io| {
            let (x, y) = (Shared(io.input::<E>(0).cast_mut()), Shared(io.output::<E>(0)));
            each_line::<f64>(&ctx, io, l.lines, tasks, room, |line, [a, b]| {
                let (outer, k) = (line / l.inner, line % l.inner);
                // SAFETY: as above.
                unsafe {
                    let number = |i: usize| {
                        if i < l.given { (*x.at((outer * l.given + i) * l.inner + k)).to_f64() } else { 0.0 }
                    };
                    (0..l.n / 2).for_each(|i| a.set(i, (number(2 * i), number(2 * i + 1))));
                    let out = fft.run(ctx.kernels, a, b);
                    for i in 0..l.kept {
                        let (at, (re, im)) = (((outer * l.kept + i) * l.inner + k) * 2, out.get(i));
                        *y.at(at) = E::from_f64(re);
                        *y.at(at + 1) = E::from_f64(im);
                    }
                }
            });
        })
        .workspace(tasks * 4 * room * size_of::<f64>())
        .boxed()
    }
}

fn stft(ctx: &Ctx, node: &NodeView, _: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let half = node.attrs().bool_or("onesided", true)?;
    let double = node.dtype(0) == Some(DType::F64);
    let ctx = ctx.clone();
    kernel(move |args| if double { bind_stft::<f64>(&ctx, args, half) } else { bind_stft::<f32>(&ctx, args, half) })
}

fn bind_stft<E: Element>(ctx: &Ctx, args: &BindArgs, half: bool) -> Result<Box<dyn Bound>> {
    let (batch, length, parts) = match *args.shape(0)? {
        [b, l] => (b, l, 1),
        [b, l, p @ (1 | 2)] => (b, l, p),
        ref other => bail!(invalid, "a signal of shape {other:?}"),
    };
    let window = args.opt_shape(2).map(|s| s.iter().product::<usize>());
    let n = match (one(args, 3)?, window) {
        (Some(n), _) => usize::try_from(n).unwrap_or(0),
        (None, Some(w)) => w,
        (None, None) => length,
    };
    let step = one(args, 1)?.and_then(|s| usize::try_from(s).ok()).filter(|&s| s > 0);
    let step = step.ok_or_else(|| Error::invalid("the step should be positive"))?;
    if n == 0 || n > length || window.is_some_and(|w| w != n) {
        bail!(invalid, "windows of {n} over a signal of {length}");
    }
    let frames = (length - n) / step + 1;
    let bins = if half { n / 2 + 1 } else { n };
    makes(args, batch * frames * bins * 2)?;
    let lines = batch * frames;
    let tasks = tasks(ctx, lines, n);
    // A real signal is transformed in half the length; what that leaves out of the spectrum mirrors it.
    let real = (parts == 1 && n.is_multiple_of(2)).then(|| RealFft::new(ctx.kernels, n));
    let whole = if real.is_none() { Some(Fft::<f64>::new(ctx.kernels, n, false)) } else { None };
    let room = real.as_ref().map_or(0, RealFft::room).max(whole.as_ref().map_or(0, Fft::room));
    let ctx = ctx.clone();
    bound(move |io| {
        let (x, w) = (Shared(io.input::<E>(0).cast_mut()), Shared(io.input::<E>(2).cast_mut()));
        let y = Shared(io.output::<E>(0));
        each_line::<f64>(&ctx, io, lines, tasks, room, |line, [a, b]| {
            // SAFETY: frames lie inside the signal; lines of the result are disjoint.
            unsafe {
                let first = line / frames * length + line % frames * step;
                let factor = |i: usize| if w.get().is_null() { 1.0 } else { (*w.at(i)).to_f64() };
                let element = |i: usize, part: usize| (*x.at((first + i) * parts + part)).to_f64() * factor(i);
                let out = match (&real, &whole) {
                    (Some(fft), _) => {
                        (0..n / 2).for_each(|i| a.set(i, (element(2 * i, 0), element(2 * i + 1, 0))));
                        fft.run(ctx.kernels, a, b)
                    }
                    (None, Some(fft)) => {
                        let im = |i: usize| if parts == 2 { element(i, 1) } else { 0.0 };
                        (0..n).for_each(|i| a.set(i, (element(i, 0), im(i))));
                        fft.run(ctx.kernels, a, b)
                    }
                    (None, None) => return,
                };
                for i in 0..bins {
                    let (re, im) = match real.is_some() && i > n / 2 {
                        true => {
                            let (re, im) = out.get(n - i);
                            (re, -im)
                        }
                        false => out.get(i),
                    };
                    *y.at((line * bins + i) * 2) = E::from_f64(re);
                    *y.at((line * bins + i) * 2 + 1) = E::from_f64(im);
                }
            }
        });
    })
    .workspace(tasks * 4 * room * size_of::<f64>())
    .boxed()
}
