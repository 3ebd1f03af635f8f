//! Depthwise convolution and maximum pooling between tensors of bfloat16, channels last, and sums over their pixels.
//!
//! Sums are made in single precision in a piece of scratch that stays in the first cache, and narrowed from there.

use super::conv::{Filter, STACK_TAPS, each_run};
use super::window::{Tap, Window};
use super::{Shared, cut, reduce};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::bf16::Bf16Unit;
use crate::kernels::reduce::Reduction;
use crate::kernels::taps::TapRun;
use crate::pool::ThreadPool;
use core::mem::MaybeUninit;

/// Floats of scratch.
const SCRATCH: usize = 4096;
/// Channels done at once: eight pixels of them fit the scratch.
const CHANNELS: usize = SCRATCH / 8;

/// What is done over the window.
#[derive(Clone, Copy, Debug)]
pub enum Step {
    /// A filter per channel: weights `[taps][channels]`, a bias or null, an activation.
    Depthwise(*const f32, *const f32, Act),
    /// The largest value.
    Max,
}

// SAFETY: weights and bias are only read.
unsafe impl Sync for Step {}

/// Whether the windows of a filter are few enough positions for these kernels.
pub fn fits(taps: usize) -> bool {
    taps <= STACK_TAPS
}

/// Packs the weights of a depthwise filter.
pub fn pack(kernels: &Kernels, filter: &Filter, w: &[f32]) -> Vec<f32> {
    let mut packed = vec![0.0; filter.packed_len(kernels)];
    filter.pack(kernels, w, &mut packed);
    packed
}

/// Runs `step` from bfloat16 to bfloat16.
///
/// # Safety
/// `x` and `y` cover the window's input and output with `channels` channels, the weights what [`Step`] says; the window has
/// no more positions than [`fits`] allows.
pub unsafe fn run(
    kernels: &Kernels,
    unit: &Bf16Unit,
    pool: &ThreadPool,
    step: Step,
    window: &Window,
    channels: usize,
    x: *const u16,
    y: *mut u16,
) {
    let (x, y, step) = (Shared(x.cast_mut()), Shared(y), &step);
    each_run(pool, window, &|pixel, pixels, taps: &[Tap]| {
        let mut scratch = [MaybeUninit::<f32>::uninit(); SCRATCH];
        let scratch = scratch.as_mut_ptr().cast::<f32>();
        let mut from = [core::ptr::null::<u16>(); STACK_TAPS];
        let mut weights = [core::ptr::null::<f32>(); STACK_TAPS];
        debug_assert!(taps.len() <= STACK_TAPS);
        let pixel_step = window.strides[2] * channels;
        for c in (0..channels).step_by(CHANNELS) {
            let width = (channels - c).min(CHANNELS);
            let most = SCRATCH / width / 8 * 8;
            for p in (0..pixels).step_by(most) {
                let count = (pixels - p).min(most);
                // SAFETY: taps lie inside the input, runs are disjoint parts of the output; `count` pixels of `width` channels
                // fit the scratch.
                unsafe {
                    for (i, tap) in taps.iter().enumerate() {
                        from[i] = x.at(tap.pixel * channels + p * pixel_step + c);
                        if let Step::Depthwise(w, ..) = step {
                            weights[i] = w.add(tap.index * channels + c);
                        }
                    }
                    let (bias, act) = match *step {
                        Step::Depthwise(_, bias, act) if !bias.is_null() => (bias.add(c), act),
                        Step::Depthwise(_, bias, act) => (bias, act),
                        Step::Max => (core::ptr::null(), Act::None),
                    };
                    let run = TapRun {
                        x: from.as_ptr(),
                        w: weights.as_ptr(),
                        taps: taps.len(),
                        pixels: count,
                        step: pixel_step,
                        channels: width,
                        out: scratch,
                        out_step: width,
                        bias,
                        residual: core::ptr::null(),
                        residual_step: 0,
                        scale: 1.0,
                        act,
                    };
                    match step {
                        Step::Depthwise(..) => (kernels.depthwise_bf16)(&run),
                        Step::Max => (kernels.max_pool_bf16)(&run),
                    }
                    if !act.is_simple() {
                        (kernels.activate)(scratch, count, width, width, act);
                    }
                    let to = y.at((pixel + p) * channels + c);
                    if width == channels {
                        (unit.narrow)(scratch, count * width, to);
                    } else {
                        for i in 0..count {
                            (unit.narrow)(scratch.add(i * width), width, to.add(i * channels));
                        }
                    }
                }
            }
        }
    });
}

/// Columns that a task takes at least.
const COLUMNS: usize = 64;
/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 32 * 1024;

/// Means over the middle of `[outer][n][inner]` values, in single precision, in `row_parts` ([`reduce::row_parts`]) where these
/// are more than one.
///
/// # Safety
/// The pointers cover these sizes, `scratch` has `row_parts * inner` floats.
pub unsafe fn means(
    kernels: &Kernels,
    pool: &ThreadPool,
    x: *const u16,
    y: *mut f32,
    [outer, n, inner]: [usize; 3],
    row_parts: usize,
    scratch: *mut f32,
) {
    if row_parts > 1 {
        let columns = kernels.reduce_columns_bf16;
        // SAFETY: passed on.
        unsafe {
            reduce::reduce_by_rows(kernels, columns, pool, Reduction::Sum, x, y, (n, inner), row_parts, scratch);
            (kernels.affine)(y, y, inner, 1.0 / n as f32, 0.0);
        }
        return;
    }
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let groups = inner.div_ceil(COLUMNS);
    let parts = pool.parts(outer * n * inner / MIN_PER_TASK).min((outer * groups).max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(outer * groups, parts, part);
        for i in start..start + count {
            let (o, first) = (i / groups, i % groups * COLUMNS);
            let cols = COLUMNS.min(inner - first);
            // SAFETY: groups are disjoint columns.
            unsafe {
                let to = y.at(o * inner + first);
                (kernels.reduce_columns_bf16)(Reduction::Sum, x.at(o * n * inner + first), n, inner, cols, to);
                (kernels.affine)(to, to, cols, 1.0 / n as f32, 0.0);
            }
        }
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::noise;

    fn halves(values: &[f32]) -> (Vec<u16>, Vec<f32>) {
        let halves: Vec<u16> = values.iter().map(|v| (v.to_bits() >> 16) as u16).collect();
        let back = halves.iter().map(|&h| f32::from_bits(u32::from(h) << 16)).collect();
        (halves, back)
    }

    fn value(half: u16) -> f32 {
        f32::from_bits(u32::from(half) << 16)
    }

    /// Against single precision on the same values, of which this is the result narrowed.
    #[test]
    fn depthwise_and_pooling_are_those_of_single_precision_narrowed() {
        let Some(unit) = Bf16Unit::best() else { return };
        let pool = ThreadPool::new(2);
        for (side, channels, k, stride, act) in [
            (1, 1, 1, 1, Act::None),
            (7, 24, 3, 1, Act::Relu),
            (12, 72, 5, 2, Act::HardSwish),
            (19, 8, 3, 2, Act::Silu),
            (10, 600, 3, 1, Act::Silu),
            (9, 33, 7, 1, Act::None),
        ] {
            let out = Window::output_len(side, k, stride, 1, 2 * (k / 2));
            let window =
                Window::new(1, &[side, side], &[k, k], &[stride; 2], &[1, 1], &[k / 2; 4], &[out, out]).unwrap();
            let (x, wide) = halves(&noise(side * side * channels, 1));
            let (w, bias) = (noise(k * k * channels, 2), noise(channels, 3));
            let filter = Filter { cin: channels, cout: channels, groups: channels, taps: k * k };
            crate::testing::every_tier(|kernels| {
                let packed = pack(kernels, &filter, &w);
                for step in [Step::Depthwise(packed.as_ptr(), bias.as_ptr(), act), Step::Max] {
                    let mut got = vec![0u16; out * out * channels];
                    // SAFETY: the buffers have the window's sizes.
                    unsafe {
                        run(kernels, unit, &pool, step, &window, channels, x.as_ptr(), got.as_mut_ptr());
                    }
                    let mut want = vec![0.0f32; out * out * channels];
                    // SAFETY: as above.
                    unsafe {
                        let (x, y) = (wide.as_ptr(), want.as_mut_ptr());
                        if let Step::Depthwise(w, bias, act) = step {
                            let residual = core::ptr::null();
                            let op = super::super::conv::Operands { x, w, bias, residual, y, y_step: channels, act };
                            super::super::conv::Conv::new(kernels, filter, window, 2).run(&pool, &op, &mut 0.0);
                        } else {
                            let kind = super::super::pooling::Kind::Max;
                            super::super::pooling::pool(kernels, &pool, kind, &window, channels, x, y);
                        }
                    }
                    for (i, (g, w)) in got.iter().zip(&want).enumerate() {
                        let off = (value(*g) - w).abs();
                        assert!(
                            off <= w.abs() / 256.0 + 1e-38,
                            "{step:?} {side} {channels} {k} {i}: {} {w}",
                            value(*g)
                        );
                    }
                }
            });
        }
    }

    #[test]
    fn means_of_columns() {
        let pool = ThreadPool::new(2);
        for (outer, n, inner) in [(1, 49, 72), (2, 3, 5), (1, 1, 1), (3, 12, 200), (1, 3136, 64)] {
            let (x, wide) = halves(&noise(outer * n * inner, 4));
            crate::testing::every_tier(|kernels| {
                let parts = if outer == 1 { n.min(2) } else { 1 };
                let (mut y, mut scratch) = (vec![0.0f32; outer * inner], vec![0.0f32; parts * inner]);
                let (from, to, scratch) = (x.as_ptr(), y.as_mut_ptr(), scratch.as_mut_ptr());
                // SAFETY: the buffers have the sizes.
                unsafe { means(kernels, &pool, from, to, [outer, n, inner], parts, scratch) };
                for (i, y) in y.iter().enumerate() {
                    let column = (0..n).map(|j| f64::from(wide[(i / inner * n + j) * inner + i % inner]));
                    let want = column.sum::<f64>() / n as f64;
                    assert!((f64::from(*y) - want).abs() < 1e-5, "{outer} {n} {inner} {i}: {y} {want}");
                }
            });
        }
    }
}
