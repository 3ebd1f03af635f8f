//! Softmax and normalisations over whole tensors.

use super::{Shared, cut};
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::rows::Norm;
use crate::pool::ThreadPool;

/// Fewer floats than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 8 * 1024;
/// Floats of pixels that a per-channel pass takes at once: they stay in the first cache.
const CHUNK: usize = 4096;

/// Calls `f(first row, rows)` for `rows` rows of `n` floats, shared out among the threads.
fn by_rows(pool: &ThreadPool, rows: usize, n: usize, f: impl Fn(usize, usize) + Sync) {
    let parts = pool.parts(rows * n / MIN_PER_TASK).min(rows.max(1));
    pool.run(parts, |part| {
        let (start, count) = cut(rows, parts, part);
        f(start, count);
    });
}

/// A kernel of one of the `softmax` family: input, output, rows, elements of a row.
pub type RowsFn<T> = unsafe fn(*const T, *mut T, usize, usize);

/// Softmax (by the kernel given) of `rows` rows of `n` elements.
///
/// # Safety
/// `rows * n` elements are readable at `x` and writable at `y`, which may be `x`.
pub unsafe fn softmax<T: Copy>(kernel: RowsFn<T>, pool: &ThreadPool, x: *const T, y: *mut T, rows: usize, n: usize) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    by_rows(pool, rows, n, |start, count| {
        // SAFETY: parts are disjoint rows.
        unsafe { kernel(x.at(start * n), y.at(start * n), count, n) }
    });
}

/// Layer or root-mean-square normalisation of `rows` rows of `n` floats.
///
/// # Safety
/// As [`softmax`]; `norm`'s vectors have `n` floats.
pub unsafe fn rows(
    kernels: &Kernels,
    pool: &ThreadPool,
    x: *const f32,
    y: *mut f32,
    rows: usize,
    n: usize,
    norm: Norm,
) {
    struct Wrap(Norm);
    // SAFETY: its vectors are only read.
    unsafe impl Sync for Wrap {}
    impl Wrap {
        fn get(&self) -> &Norm {
            &self.0
        }
    }
    let (x, y, norm) = (Shared(x.cast_mut()), Shared(y), Wrap(norm));
    by_rows(pool, rows, n, |start, count| {
        // SAFETY: parts are disjoint rows.
        unsafe { (kernels.normalize)(x.at(start * n), y.at(start * n), count, n, norm.get()) }
    });
}

/// Group normalisation: `groups` equal groups of channels per image; instance normalisation has as many as channels.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct GroupNorm {
    /// Images.
    pub batch: usize,
    /// Channels; a multiple of `groups`.
    pub channels: usize,
    /// Groups.
    pub groups: usize,
    /// Pixels of one image.
    pub pixels: usize,
    /// Added to the variance.
    pub epsilon: f32,
    /// Applied to the result.
    pub act: Act,
}

/// Operands of a group normalisation.
#[derive(Clone, Copy, Debug)]
pub struct GroupNormOperands {
    /// Input.
    pub x: *const f32,
    /// One factor per channel, or null.
    pub scale: *const f32,
    /// One addend per channel, or null.
    pub bias: *const f32,
    /// Output; may be the input.
    pub y: *mut f32,
}

// SAFETY: tasks write disjoint parts of the output and only read the rest.
unsafe impl Sync for GroupNormOperands {}

impl GroupNormOperands {
    /// Factor and addend of channel `c` that bring a group of this mean and variance to zero and one.
    unsafe fn affine(&self, c: usize, mean: f32, variance: f32, epsilon: f32) -> (f32, f32) {
        // SAFETY: the vectors have a float per channel.
        unsafe {
            let scale = if self.scale.is_null() { 1.0 } else { *self.scale.add(c) };
            let bias = if self.bias.is_null() { 0.0 } else { *self.bias.add(c) };
            let factor = scale / (variance + epsilon).sqrt();
            (factor, bias - mean * factor)
        }
    }
}

impl GroupNorm {
    /// Parts that an image's pixels are cut into, channels last.
    fn parts(&self, threads: usize) -> usize {
        let wanted = (4 * threads).div_ceil(self.batch.max(1));
        (self.pixels * self.channels / MIN_PER_TASK).clamp(1, wanted).min(self.pixels.max(1))
    }

    /// Floats of workspace, channels last.
    pub fn workspace_len(&self, threads: usize) -> usize {
        self.batch * (self.parts(threads) + 1) * 2 * self.channels
    }

    /// Runs it over `[batch][channels][pixels]`.
    ///
    /// # Safety
    /// The operands cover the sizes.
    pub unsafe fn run_channels_first(&self, kernels: &Kernels, pool: &ThreadPool, op: &GroupNormOperands) {
        let per_group = self.channels / self.groups;
        let n = per_group * self.pixels;
        let op = &op;
        pool.run(self.batch * self.groups, |i| {
            // SAFETY: groups are disjoint parts of both sides.
            unsafe {
                let mut moments = [0.0f32; 2];
                (kernels.moments)(op.x.add(i * n), n, moments.as_mut_ptr());
                for c in 0..per_group {
                    let channel = i % self.groups * per_group + c;
                    let (scale, shift) = op.affine(channel, moments[0], moments[1], self.epsilon);
                    let at = i * n + c * self.pixels;
                    (kernels.affine)(op.x.add(at), op.y.add(at), self.pixels, scale, shift);
                    (kernels.activate)(op.y.add(at), 1, self.pixels, self.pixels, self.act);
                }
            }
        });
    }

    /// Runs it over `[batch][pixels][channels]`.
    ///
    /// Sums per channel are taken around the channel's first pixel, so that one pass gives the variance without the
    /// cancellation of "mean of squares minus square of mean".
    ///
    /// # Safety
    /// The operands cover the sizes; `workspace` has [`GroupNorm::workspace_len`] floats.
    pub unsafe fn run_channels_last(
        &self,
        kernels: &Kernels,
        pool: &ThreadPool,
        op: &GroupNormOperands,
        workspace: *mut f32,
    ) {
        let (c, pixels) = (self.channels, self.pixels);
        if self.batch * c * pixels == 0 {
            return;
        }
        let parts = self.parts(pool.threads());
        let sums = Shared(workspace);
        let per_image = (parts + 1) * 2 * c;
        let step = (CHUNK / c).max(1);
        let op = &op;
        pool.run(self.batch * parts, |i| {
            let (image, part) = (i / parts, i % parts);
            let (start, count) = cut(pixels, parts, part);
            // SAFETY: every part has its own sums.
            unsafe {
                let x = op.x.add(image * pixels * c);
                let sum = sums.at(image * per_image + part * 2 * c);
                core::ptr::write_bytes(sum, 0, 2 * c);
                for p in (start..start + count).step_by(step) {
                    let rows = step.min(start + count - p);
                    (kernels.column_moments)(x.add(p * c), rows, c, x, sum, sum.add(c));
                }
            }
        });
        for image in 0..self.batch {
            // SAFETY: all parts are done; the image's last `2 c` floats take its factors.
            unsafe {
                let base = sums.at(image * per_image);
                self.combine(op, image, base, parts, base.add(parts * 2 * c));
            }
        }
        pool.run(self.batch * parts, |i| {
            let (image, part) = (i / parts, i % parts);
            let (start, count) = cut(pixels, parts, part);
            // SAFETY: parts are disjoint pixels of the output.
            unsafe {
                let scale = sums.at(image * per_image + parts * 2 * c);
                for p in (start..start + count).step_by(step) {
                    let rows = step.min(start + count - p);
                    let at = (image * pixels + p) * c;
                    (kernels.affine_columns)(op.x.add(at), op.y.add(at), rows, c, scale, scale.add(c));
                    (kernels.activate)(op.y.add(at), 1, rows * c, rows * c, self.act);
                }
            }
        });
    }

    /// Factor and addend of every channel of an image, from its parts' sums.
    unsafe fn combine(&self, op: &GroupNormOperands, image: usize, sums: *const f32, parts: usize, out: *mut f32) {
        let (c, per_group) = (self.channels, self.channels / self.groups);
        let n = self.pixels as f64;
        for g in 0..self.groups {
            // SAFETY: sums, factors and the image's first pixel have `c` channels each.
            unsafe {
                let total = |channel: usize, which: usize| -> f64 {
                    (0..parts).map(|p| f64::from(*sums.add((p * 2 + which) * c + channel))).sum()
                };
                let center = |channel: usize| f64::from(*op.x.add(image * self.pixels * c + channel));
                let channels = g * per_group..(g + 1) * per_group;
                let mean = channels.clone().map(|i| total(i, 0) / n + center(i)).sum::<f64>() / per_group as f64;
                let variance = channels
                    .clone()
                    .map(|i| {
                        let off = mean - center(i);
                        total(i, 1) / n - 2.0 * off * (total(i, 0) / n) + off * off
                    })
                    .sum::<f64>()
                    / per_group as f64;
                for i in channels {
                    let (scale, shift) = op.affine(i, mean as f32, variance.max(0.0) as f32, self.epsilon);
                    // A NaN in the data must stay one: `max` above dropped it.
                    let scale = if variance.is_nan() { f32::NAN } else { scale };
                    *out.add(i) = scale;
                    *out.add(c + i) = shift;
                }
            }
        }
    }
}

/// `y = x scale[c] + shift[c]` over `outer` times `channels` rows of `inner` floats.
///
/// # Safety
/// The pointers cover these sizes; `y` may be `x`.
pub unsafe fn per_channel(
    kernels: &Kernels,
    pool: &ThreadPool,
    x: *const f32,
    y: *mut f32,
    outer: usize,
    channels: usize,
    inner: usize,
    scale: *const f32,
    shift: *const f32,
) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    let (scale, shift) = (Shared(scale.cast_mut()), Shared(shift.cast_mut()));
    if inner == 1 {
        by_rows(pool, outer, channels, |start, count| {
            let at = start * channels;
            // SAFETY: parts are disjoint rows.
            unsafe { (kernels.affine_columns)(x.at(at), y.at(at), count, channels, scale.get(), shift.get()) }
        });
        return;
    }
    by_rows(pool, outer * channels, inner, |start, count| {
        for row in start..start + count {
            let c = row % channels;
            // SAFETY: parts are disjoint rows.
            unsafe { (kernels.affine)(x.at(row * inner), y.at(row * inner), inner, *scale.at(c), *shift.at(c)) }
        }
    });
}

#[cfg(test)]
#[path = "norm_tests.rs"]
mod tests;
