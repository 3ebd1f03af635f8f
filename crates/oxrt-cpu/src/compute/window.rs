//! The geometry of sliding windows, channels last, in up to three dimensions.

/// Sizes of a window operation. One- and two-dimensional ones have ones in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Images.
    pub batch: usize,
    /// Input size: depth, height, width.
    pub input: [usize; 3],
    /// Output size.
    pub output: [usize; 3],
    /// Kernel size.
    pub kernel: [usize; 3],
    /// Steps of the window.
    pub strides: [usize; 3],
    /// Steps inside the window.
    pub dilations: [usize; 3],
    /// Padding before the input.
    pub pads: [usize; 3],
}

impl Window {
    /// A window over `input`, from ONNX attributes (`pads` has the begins, then the ends; empty means none). `None` when the
    /// ranks disagree, a stride or dilation is zero, or there are more than three dimensions.
    pub fn new(
        batch: usize,
        input: &[usize],
        kernel: &[usize],
        strides: &[usize],
        dilations: &[usize],
        pads: &[usize],
        output: &[usize],
    ) -> Option<Window> {
        let rank = input.len();
        if rank > 3 || kernel.len() != rank || output.len() != rank {
            return None;
        }
        let three = |values: &[usize], missing: usize| -> Option<[usize; 3]> {
            let mut out = [missing; 3];
            if values.is_empty() {
                return Some(out);
            }
            if values.len() < rank {
                return None;
            }
            out[3 - rank..].copy_from_slice(&values[..rank]);
            Some(out)
        };
        let window = Window {
            batch,
            input: three(input, 1)?,
            output: three(output, 1)?,
            kernel: three(kernel, 1)?,
            strides: three(strides, 1)?,
            dilations: three(dilations, 1)?,
            pads: three(pads, 0)?,
        };
        (!window.strides.contains(&0) && !window.dilations.contains(&0)).then_some(window)
    }

    /// The output size of one dimension (rounding down), or zero where the kernel does not fit.
    pub fn output_len(input: usize, kernel: usize, stride: usize, dilation: usize, pads: usize) -> usize {
        let extent = (kernel.max(1) - 1) * dilation + 1;
        match (input + pads).checked_sub(extent) {
            Some(room) => room / stride.max(1) + 1,
            None => 0,
        }
    }

    /// Kernel positions.
    pub fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    /// Input pixels of one image.
    pub fn input_pixels(&self) -> usize {
        self.input.iter().product()
    }

    /// Output pixels of one image.
    pub fn output_pixels(&self) -> usize {
        self.output.iter().product()
    }

    /// Output rows (runs along the width) of all images.
    pub fn rows(&self) -> usize {
        self.batch * self.output[0] * self.output[1]
    }

    /// The input position of kernel position `k` for output position `o`, along dimension `d`; `None` in the padding.
    #[inline]
    pub fn at(&self, d: usize, o: usize, k: usize) -> Option<usize> {
        let i = (o * self.strides[d] + k * self.dilations[d]).wrapping_sub(self.pads[d]);
        (i < self.input[d]).then_some(i)
    }

    /// The output columns whose whole kernel row lies inside the input: `start..end`.
    pub fn interior(&self) -> (usize, usize) {
        let (stride, pad, out) = (self.strides[2], self.pads[2], self.output[2]);
        let extent = (self.kernel[2] - 1) * self.dilations[2];
        let start = pad.div_ceil(stride).min(out);
        // The last position with o * stride - pad + extent <= input - 1.
        let end = match (self.input[2] + pad).checked_sub(extent + 1) {
            Some(room) => (room / stride + 1).min(out),
            None => 0,
        };
        (start, end.max(start))
    }

    /// Whether the window is the pixel itself, so that output pixel `i` reads input pixel `i`.
    pub fn is_pointwise(&self) -> bool {
        self.taps() == 1 && self.strides == [1; 3] && self.pads == [0; 3] && self.input == self.output
    }
}

/// One kernel position that lies inside the input.
#[derive(Clone, Copy, Debug)]
pub struct Tap {
    /// Input pixel for the first output pixel of the run, counted over all images.
    pub pixel: usize,
    /// Number of the kernel position.
    pub index: usize,
}

/// Calls `run(first output pixel, pixels, taps)` for the runs of output row `row`: single pixels at the borders, and one
/// long run between them. Output pixels count over all images. `taps` is scratch for [`Window::taps`] entries.
pub fn for_runs(window: &Window, row: usize, taps: &mut [Tap], mut run: impl FnMut(usize, usize, &[Tap])) {
    let [_, out_h, out_w] = window.output;
    let (image, od, oh) = (row / (window.output[0] * out_h), row / out_h % window.output[0], row % out_h);
    let [kd, kh, kw] = window.kernel;
    let [_, in_h, in_w] = window.input;
    let list = |ow: usize, taps: &mut [Tap]| {
        let mut count = 0;
        for d in 0..kd {
            let Some(id) = window.at(0, od, d) else { continue };
            for h in 0..kh {
                let Some(ih) = window.at(1, oh, h) else { continue };
                let base = ((image * window.input[0] + id) * in_h + ih) * in_w;
                for w in 0..kw {
                    if let Some(iw) = window.at(2, ow, w) {
                        taps[count] = Tap { pixel: base + iw, index: (d * kh + h) * kw + w };
                        count += 1;
                    }
                }
            }
        }
        count
    };
    let (start, end) = window.interior();
    let first = row * out_w;
    let mut ow = 0;
    while ow < out_w {
        let pixels = if ow == start && end > start { end - start } else { 1 };
        let count = list(ow, taps);
        run(first + ow, pixels, &taps[..count]);
        ow += pixels;
    }
}
