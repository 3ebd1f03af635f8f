//! Kernels that walk a window channel by channel: depthwise convolution and pooling, channels last.
//!
//! One call does a run of output pixels that see the same kernel positions (*taps*); the positions that fall into the
//! padding are left out of the list, so there is nothing to test in the loops.
//!
//! ```text
//! out[p][c] = op over taps t of x[t][p * step + c] (* w[t][c])        p: pixel, c: channel
//! ```

use super::activation::{Act, simple};
use crate::simd::Simd;

/// An input element as it lies in memory.
pub trait Input: Copy {
    /// The lanes of `m`, zero elsewhere; other lanes' memory is not touched.
    ///
    /// # Safety
    /// The lanes of `m` are readable at `p`.
    unsafe fn load<S: Simd>(s: S, p: *const Self, m: S::M) -> S::F;
}

impl Input for f32 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const f32, m: S::M) -> S::F {
        // SAFETY: passed on.
        unsafe { s.load_mask(p, m) }
    }
}

/// The bits of a bfloat16.
impl Input for u16 {
    #[inline(always)]
    unsafe fn load<S: Simd>(s: S, p: *const u16, m: S::M) -> S::F {
        // SAFETY: passed on.
        unsafe { s.load_bf16_mask(p, m) }
    }
}

/// A run of pixels with the same taps, for inputs of type `E`.
#[derive(Clone, Copy, Debug)]
pub struct TapRun<E = f32> {
    /// Per tap, the first channel of the first pixel's input.
    pub x: *const *const E,
    /// Per tap, the weights of the channels (depthwise convolution only).
    pub w: *const *const f32,
    /// How many taps.
    pub taps: usize,
    /// Pixels in the run.
    pub pixels: usize,
    /// Elements from one pixel's input to the next one's.
    pub step: usize,
    /// Channels.
    pub channels: usize,
    /// The first output pixel.
    pub out: *mut f32,
    /// Floats from one output pixel to the next.
    pub out_step: usize,
    /// One float per channel, or null (depthwise convolution only).
    pub bias: *const f32,
    /// Added to the sum, or null (depthwise convolution only).
    pub residual: *const f32,
    /// Floats from one residual pixel to the next.
    pub residual_step: usize,
    /// Factor of the sum (average only).
    pub scale: f32,
    /// The activation, where it is simple (depthwise convolution only).
    pub act: Act,
}

/// What is done over the taps.
trait Window: Copy {
    /// The value before the first tap.
    unsafe fn start<S: Simd, E: Input>(s: S, run: &TapRun<E>, c: usize, m: S::M) -> S::F;
    /// The weights of one tap.
    unsafe fn weights<S: Simd, E: Input>(s: S, run: &TapRun<E>, tap: usize, c: usize, m: S::M) -> S::F;
    fn step<S: Simd>(s: S, acc: S::F, x: S::F, w: S::F) -> S::F;
    unsafe fn end<S: Simd, E: Input>(s: S, run: &TapRun<E>, acc: S::F, pixel: usize, c: usize, m: S::M) -> S::F;
}

#[derive(Clone, Copy)]
struct Depthwise;
#[derive(Clone, Copy)]
struct Maximum;
#[derive(Clone, Copy)]
struct Average;

impl Window for Depthwise {
    #[inline(always)]
    unsafe fn start<S: Simd, E: Input>(s: S, run: &TapRun<E>, c: usize, m: S::M) -> S::F {
        if run.bias.is_null() {
            s.zero()
        } else {
            // SAFETY: the mask keeps inside the channels.
            unsafe { s.load_mask(run.bias.add(c), m) }
        }
    }
    #[inline(always)]
    unsafe fn weights<S: Simd, E: Input>(s: S, run: &TapRun<E>, tap: usize, c: usize, m: S::M) -> S::F {
        // SAFETY: the mask keeps inside the channels.
        unsafe { s.load_mask((*run.w.add(tap)).add(c), m) }
    }
    #[inline(always)]
    fn step<S: Simd>(s: S, acc: S::F, x: S::F, w: S::F) -> S::F {
        s.fma(x, w, acc)
    }
    #[inline(always)]
    unsafe fn end<S: Simd, E: Input>(s: S, run: &TapRun<E>, acc: S::F, pixel: usize, c: usize, m: S::M) -> S::F {
        let mut v = acc;
        if !run.residual.is_null() {
            // SAFETY: the residual covers the run's pixels and channels.
            v = s.add(v, unsafe { s.load_mask(run.residual.add(pixel * run.residual_step + c), m) });
        }
        simple(s, run.act, v)
    }
}

impl Window for Maximum {
    #[inline(always)]
    unsafe fn start<S: Simd, E: Input>(s: S, _: &TapRun<E>, _: usize, _: S::M) -> S::F {
        s.splat(f32::NEG_INFINITY)
    }
    #[inline(always)]
    unsafe fn weights<S: Simd, E: Input>(s: S, _: &TapRun<E>, _: usize, _: usize, _: S::M) -> S::F {
        s.zero()
    }
    #[inline(always)]
    fn step<S: Simd>(s: S, acc: S::F, x: S::F, _: S::F) -> S::F {
        // A NaN once met stays.
        s.blend(s.or(s.lt(acc, x), s.not(s.eq(x, x))), x, acc)
    }
    #[inline(always)]
    unsafe fn end<S: Simd, E: Input>(_: S, _: &TapRun<E>, acc: S::F, _: usize, _: usize, _: S::M) -> S::F {
        acc
    }
}

impl Window for Average {
    #[inline(always)]
    unsafe fn start<S: Simd, E: Input>(s: S, _: &TapRun<E>, _: usize, _: S::M) -> S::F {
        s.zero()
    }
    #[inline(always)]
    unsafe fn weights<S: Simd, E: Input>(s: S, _: &TapRun<E>, _: usize, _: usize, _: S::M) -> S::F {
        s.zero()
    }
    #[inline(always)]
    fn step<S: Simd>(s: S, acc: S::F, x: S::F, _: S::F) -> S::F {
        s.add(acc, x)
    }
    #[inline(always)]
    unsafe fn end<S: Simd, E: Input>(s: S, run: &TapRun<E>, acc: S::F, _: usize, _: usize, _: S::M) -> S::F {
        s.mul(acc, s.splat(run.scale))
    }
}

/// `P` pixels from pixel `p0`, `V` vectors of channels from channel `c`.
#[inline(always)]
unsafe fn block<S: Simd, W: Window, E: Input, const P: usize, const V: usize>(
    s: S,
    run: &TapRun<E>,
    p0: usize,
    c: usize,
    masks: [S::M; V],
) {
    // SAFETY: pixels and channels lie inside the run; masks keep the last vector inside the channels.
    unsafe {
        let mut acc = [[s.zero(); V]; P];
        for v in 0..V {
            let start = W::start(s, run, c + v * S::LANES, masks[v]);
            for p in 0..P {
                acc[p][v] = start;
            }
        }
        for tap in 0..run.taps {
            let x = (*run.x.add(tap)).add(p0 * run.step + c);
            for v in 0..V {
                let w = W::weights(s, run, tap, c + v * S::LANES, masks[v]);
                for p in 0..P {
                    let xv = E::load(s, x.add(p * run.step + v * S::LANES), masks[v]);
                    acc[p][v] = W::step(s, acc[p][v], xv, w);
                }
            }
        }
        for p in 0..P {
            for v in 0..V {
                let cv = c + v * S::LANES;
                let value = W::end(s, run, acc[p][v], p0 + p, cv, masks[v]);
                s.store_mask(run.out.add((p0 + p) * run.out_step + cv), value, masks[v]);
            }
        }
    }
}

#[inline(always)]
unsafe fn channels<S: Simd, W: Window, E: Input, const P: usize>(s: S, run: &TapRun<E>, p0: usize) {
    let mut c = 0;
    // SAFETY: as `block`.
    unsafe {
        let full = s.first(S::LANES);
        while c + 2 * S::LANES <= run.channels {
            block::<S, W, E, P, 2>(s, run, p0, c, [full; 2]);
            c += 2 * S::LANES;
        }
        while c < run.channels {
            block::<S, W, E, P, 1>(s, run, p0, c, [s.first(run.channels - c)]);
            c += S::LANES;
        }
    }
}

#[inline(always)]
unsafe fn walk<S: Simd, W: Window, E: Input>(s: S, run: &TapRun<E>, first: usize) {
    let mut p = first;
    // SAFETY: as `block`.
    unsafe {
        if S::LANES == 16 {
            while p + 8 <= run.pixels {
                channels::<S, W, E, 8>(s, run, p);
                p += 8;
            }
        }
        while p + 4 <= run.pixels {
            channels::<S, W, E, 4>(s, run, p);
            p += 4;
        }
        while p < run.pixels {
            channels::<S, W, E, 1>(s, run, p);
            p += 1;
        }
    }
}

/// How many taps in a row read neighbouring pixels, the whole list being made of such rows; 1 where it is not.
///
/// # Safety
/// The run has its taps.
#[inline(always)]
unsafe fn neighbours<E: Input>(run: &TapRun<E>) -> usize {
    // SAFETY: inside the list.
    let next = |t: usize| unsafe { (*run.x.add(t)).wrapping_add(run.step) == *run.x.add(t + 1) };
    let row = (1..run.taps).find(|&t| !next(t - 1)).unwrap_or(run.taps);
    let even = row > 0 && run.taps.is_multiple_of(row) && (0..run.taps).all(|t| t % row == row - 1 || next(t));
    if even { row } else { 1 }
}

/// `P` pixels from pixel `p0`, a vector of channels from channel `c`, for taps in rows of `R` neighbours: an input that
/// several of them read is loaded once.
#[inline(always)]
unsafe fn sliding<S: Simd, E: Input, const P: usize, const R: usize>(
    s: S,
    run: &TapRun<E>,
    p0: usize,
    c: usize,
    m: S::M,
) {
    // SAFETY: pixels and channels lie inside the run; the mask keeps inside the channels. Pixel `p0 + P - 1` is read by the
    // row's last tap, which is the furthest that is read here.
    unsafe {
        let mut acc = [Depthwise::start(s, run, c, m); P];
        for row in (0..run.taps).step_by(R) {
            let mut w = [s.zero(); R];
            for r in 0..R {
                w[r] = Depthwise::weights(s, run, row + r, c, m);
            }
            let x = (*run.x.add(row)).add(p0 * run.step + c);
            for q in 0..P + R - 1 {
                let v = E::load(s, x.add(q * run.step), m);
                for r in 0..R {
                    if q >= r && q - r < P {
                        acc[q - r] = s.fma(v, w[r], acc[q - r]);
                    }
                }
            }
        }
        for p in 0..P {
            let value = Depthwise::end(s, run, acc[p], p0 + p, c, m);
            s.store_mask(run.out.add((p0 + p) * run.out_step + c), value, m);
        }
    }
}

/// As many pixels as [`sliding`] takes; gives the number.
#[inline(always)]
unsafe fn slide<S: Simd, E: Input, const R: usize>(s: S, run: &TapRun<E>) -> usize {
    let mut p = 0;
    // SAFETY: as `sliding`.
    unsafe {
        while p + 4 <= run.pixels {
            let eight = S::LANES == 16 && p + 8 <= run.pixels;
            for c in (0..run.channels).step_by(S::LANES) {
                let m = s.first(run.channels - c);
                if eight { sliding::<S, E, 8, R>(s, run, p, c, m) } else { sliding::<S, E, 4, R>(s, run, p, c, m) }
            }
            p += if eight { 8 } else { 4 };
        }
    }
    p
}

/// A run of depthwise convolution.
///
/// # Safety
/// The pointers of `run` cover what their descriptions say.
#[inline(always)]
pub unsafe fn depthwise<S: Simd, E: Input>(s: S, run: &TapRun<E>) {
    // SAFETY: as the caller promises.
    unsafe {
        let done = match neighbours(run) {
            3 => slide::<S, E, 3>(s, run),
            5 => slide::<S, E, 5>(s, run),
            7 => slide::<S, E, 7>(s, run),
            _ => 0,
        };
        walk::<S, Depthwise, E>(s, run, done)
    }
}

/// A run of maximum pooling; NaN is larger than everything.
///
/// # Safety
/// As [`depthwise`].
#[inline(always)]
pub unsafe fn max_pool<S: Simd, E: Input>(s: S, run: &TapRun<E>) {
    // SAFETY: as the caller promises.
    unsafe { walk::<S, Maximum, E>(s, run, 0) }
}

/// A run of average pooling.
///
/// # Safety
/// As [`depthwise`].
#[inline(always)]
pub unsafe fn average_pool<S: Simd, E: Input>(s: S, run: &TapRun<E>) {
    // SAFETY: as the caller promises.
    unsafe { walk::<S, Average, E>(s, run, 0) }
}
