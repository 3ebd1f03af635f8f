//! Maximum and average pooling, channels last.

use super::conv::{STACK_TAPS, each_run};
use super::window::Window;
use crate::compute::Shared;
use crate::kernels::Kernels;
use crate::kernels::activation::Act;
use crate::kernels::taps::TapRun;
use crate::pool::ThreadPool;

/// Which pooling.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The largest value under the window.
    Max,
    /// The mean of the values under the window that lie in the input.
    Average,
    /// The mean over the window where it lies in the padded input, whose end padding this is; padding counts as zero.
    AveragePadded([usize; 3]),
}

/// Pools `[batch][pixels][channels]` floats.
///
/// # Safety
/// The pointers cover the window's input and output with `channels` channels.
pub unsafe fn pool(
    kernels: &Kernels,
    threads: &ThreadPool,
    kind: Kind,
    window: &Window,
    channels: usize,
    x: *const f32,
    y: *mut f32,
) {
    let (x, y) = (Shared(x.cast_mut()), Shared(y));
    each_run(threads, window, &|pixel, pixels, taps| {
        let scale = match kind {
            Kind::Max => 1.0,
            Kind::Average => 1.0 / taps.len().max(1) as f32,
            Kind::AveragePadded(ends) => 1.0 / padded_taps(window, ends, pixel).max(1) as f32,
        };
        let mut stack = [core::ptr::null::<f32>(); STACK_TAPS];
        let mut heap = Vec::new();
        let pointers: &mut [*const f32] = if taps.len() <= STACK_TAPS {
            &mut stack
        } else {
            heap.resize(taps.len(), core::ptr::null());
            &mut heap
        };
        // SAFETY: taps lie inside the input, runs are disjoint parts of the output.
        unsafe {
            for (pointer, tap) in pointers.iter_mut().zip(taps) {
                *pointer = x.at(tap.pixel * channels);
            }
            let run = TapRun {
                x: pointers.as_ptr(),
                w: core::ptr::null(),
                taps: taps.len(),
                pixels,
                step: window.strides[2] * channels,
                channels,
                out: y.at(pixel * channels),
                out_step: channels,
                bias: core::ptr::null(),
                residual: core::ptr::null(),
                residual_step: 0,
                scale,
                act: Act::None,
            };
            match kind {
                Kind::Max => (kernels.max_pool)(&run),
                Kind::Average | Kind::AveragePadded(_) => (kernels.average_pool)(&run),
            }
        }
    });
}

/// Kernel positions of an output pixel that lie inside the padded input.
fn padded_taps(window: &Window, ends: [usize; 3], pixel: usize) -> usize {
    let at = pixel % window.output_pixels();
    let [_, h, w] = window.output;
    let position = [at / (h * w), at / w % h, at % w];
    (0..3)
        .map(|d| {
            let room = window.pads[d] + window.input[d] + ends[d];
            let start = position[d] * window.strides[d];
            (0..window.kernel[d]).filter(|k| start + k * window.dilations[d] < room).count()
        })
        .product()
}
