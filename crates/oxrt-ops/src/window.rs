//! Geometry of sliding windows: kernel, stride, dilation and padding of convolutions and pools.

use crate::copy::checked_len;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{Result, bail, strides_of};

#[derive(Clone, Copy, PartialEq)]
enum AutoPad {
    None,
    Upper,
    Lower,
    Valid,
}

/// What the attributes say, per spatial axis.
pub struct Window {
    kernel: Vec<i64>,
    strides: Vec<i64>,
    dilations: Vec<i64>,
    pads: Vec<i64>,
    auto: AutoPad,
    ceil: bool,
    transposed: Option<Transposed>,
}

struct Transposed {
    output_padding: Vec<i64>,
    output_shape: Option<Vec<i64>>,
}

/// A window laid over axes of known size.
pub struct Placed {
    pub kernel: Vec<usize>,
    pub out: Vec<usize>,
    pub strides: Vec<i64>,
    pub dilations: Vec<i64>,
    /// Padding in front of each axis.
    pub begin: Vec<i64>,
    /// Padding behind each axis.
    pub end: Vec<i64>,
}

impl Window {
    /// From the attributes, for a kernel of these sizes.
    pub fn new(attrs: &Attrs, kernel: &[i64]) -> Result<Window> {
        let n = kernel.len();
        let list = |name: &str, default: i64, len: usize, least: i64| -> Result<Vec<i64>> {
            let list = attrs.ints_or(name, &vec![default; len])?;
            if list.len() != len {
                bail!(invalid, "`{name}` {list:?} should have {len} elements for {n} spatial axes");
            }
            match list.iter().find(|&&x| x < least || x > i32::MAX as i64) {
                Some(x) => bail!(invalid, "`{name}` holds {x}"),
                None => Ok(list),
            }
        };
        if let Some(k) = kernel.iter().find(|&&k| k < 1 || k > i32::MAX as i64) {
            bail!(invalid, "a kernel of size {k}");
        }
        let auto = match attrs.string_or("auto_pad", "NOTSET")? {
            "NOTSET" | "" => AutoPad::None,
            "SAME_UPPER" => AutoPad::Upper,
            "SAME_LOWER" => AutoPad::Lower,
            "VALID" => AutoPad::Valid,
            other => bail!(invalid, "auto_pad `{other}` is unknown"),
        };
        // What the padding is wins over what stands in `pads`.
        let pads = if auto == AutoPad::None { list("pads", 0, 2 * n, i32::MIN as i64)? } else { vec![0; 2 * n] };
        Ok(Window {
            kernel: kernel.to_vec(),
            strides: list("strides", 1, n, 1)?,
            dilations: list("dilations", 1, n, 1)?,
            pads,
            auto,
            ceil: attrs.bool_or("ceil_mode", false)?,
            transposed: None,
        })
    }

    /// The window of a transposed convolution.
    pub fn transposed(attrs: &Attrs, kernel: &[i64]) -> Result<Window> {
        let mut w = Window::new(attrs, kernel)?;
        let n = kernel.len();
        let output_padding = attrs.ints_or("output_padding", &vec![0; n])?;
        // Some exporters write the batch and channel axes as well.
        let output_shape = attrs.ints("output_shape")?.map(|s| s[s.len().saturating_sub(n)..].to_vec());
        let listed = || output_padding.iter().chain(output_shape.iter().flatten());
        if let Some(x) = listed().find(|&&x| x < 0 || x > i32::MAX as i64) {
            bail!(invalid, "output_padding or output_shape holds {x}");
        }
        if output_padding.len() != n || output_shape.as_ref().is_some_and(|s| s.len() != n) {
            bail!(invalid, "output_padding and output_shape should have {n} elements");
        }
        w.transposed = Some(Transposed { output_padding, output_shape });
        Ok(w)
    }

    pub fn rank(&self) -> usize {
        self.kernel.len()
    }

    fn extent(&self, i: usize) -> i64 {
        (self.kernel[i] - 1) * self.dilations[i] + 1
    }

    /// Size of the output along spatial axis `i` for an input of size `x`.
    fn out_dim(&self, i: usize, x: &Dim) -> Dim {
        let (stride, extent) = (Dim::Const(self.strides[i]), self.extent(i));
        let pads = self.pads[i] + self.pads[i + self.rank()];
        if let Some(t) = &self.transposed {
            if let Some(shape) = &t.output_shape {
                return Dim::Const(shape[i]);
            }
            if matches!(self.auto, AutoPad::Upper | AutoPad::Lower) {
                return x.clone() * stride;
            }
            return (x.clone() - 1) * stride + (t.output_padding[i] + extent - pads);
        }
        if matches!(self.auto, AutoPad::Upper | AutoPad::Lower) {
            return x.ceil_div(&stride);
        }
        let room = x.clone() + (pads - extent);
        if !self.ceil {
            return room.floor_div(&stride) + 1;
        }
        let out = room.ceil_div(&stride) + 1;
        // A window that would start behind the input is dropped.
        let end = self.pads[i + self.rank()];
        if end + self.strides[i] <= extent {
            return out;
        }
        out.at_most(&((x.clone() + (self.pads[i] - 1)).floor_div(&stride) + 1))
    }

    /// Sizes of the output along all spatial axes.
    pub fn out_dims(&self, spatial: &[Dim]) -> Result<Vec<Dim>> {
        if spatial.len() != self.rank() {
            bail!(invalid, "a kernel of {} axes over {} spatial axes", self.rank(), spatial.len());
        }
        let dims: Vec<Dim> = spatial.iter().enumerate().map(|(i, x)| self.out_dim(i, x)).collect();
        if dims.iter().any(|d| d.as_const().is_some_and(|d| d < 0)) {
            bail!(invalid, "a kernel of {:?} does not fit over {spatial:?}", self.kernel);
        }
        Ok(dims)
    }

    /// The same for known sizes, with the padding that holds there.
    pub fn place(&self, spatial: &[usize]) -> Result<Placed> {
        let dims: Vec<Dim> = spatial.iter().map(|&d| d.into()).collect();
        let out = self.out_dims(&dims)?.iter().map(|d| d.as_size().unwrap_or(0)).collect::<Vec<_>>();
        let n = self.rank();
        let (mut begin, mut end) = (self.pads[..n].to_vec(), self.pads[n..].to_vec());
        for i in 0..n {
            let (x, y) = (spatial[i] as i64, out[i] as i64);
            let total = match &self.transposed {
                Some(t) if t.output_shape.is_some() || self.auto != AutoPad::None => {
                    let full = (x - 1) * self.strides[i] + t.output_padding[i] + self.extent(i);
                    if self.auto == AutoPad::Valid && t.output_shape.is_none() { 0 } else { (full - y).max(0) }
                }
                None if matches!(self.auto, AutoPad::Upper | AutoPad::Lower) => {
                    ((y - 1) * self.strides[i] + self.extent(i) - x).max(0)
                }
                _ => continue,
            };
            let small = total / 2;
            // A transposed convolution puts the odd one in front unless told SAME_UPPER.
            let front = match (self.auto, self.transposed.is_some()) {
                (AutoPad::Upper, _) => small,
                (AutoPad::Lower, _) | (_, true) => total - small,
                _ => small,
            };
            (begin[i], end[i]) = (front, total - front);
        }
        Ok(Placed {
            kernel: self.kernel.iter().map(|&k| k as usize).collect(),
            out,
            strides: self.strides.clone(),
            dilations: self.dilations.clone(),
            begin,
            end,
        })
    }
}

/// Mark of a tap that falls on padding.
pub const PADDING: isize = -1;
/// Mark of a tap behind the padding (the last window of `ceil_mode`).
pub const OUTSIDE: isize = -2;

impl Placed {
    /// Number of kernel positions.
    pub fn taps_per_output(&self) -> usize {
        self.kernel.iter().product()
    }

    pub fn num_outputs(&self) -> usize {
        self.out.iter().product()
    }

    /// Where tap `k` of output `o` falls in the input, which may be outside.
    pub fn origin(&self, o: &[usize], k: &[usize]) -> Vec<i64> {
        let at = |d: usize| o[d] as i64 * self.strides[d] + k[d] as i64 * self.dilations[d] - self.begin[d];
        (0..self.out.len()).map(at).collect()
    }

    /// For kernel position k and output position p, at `k * num_outputs + p`: the offset into a channel
    /// of `spatial` size, or [`PADDING`] or [`OUTSIDE`]. A transposed convolution swaps the parts of
    /// input and output: it passes `out` as the positions of the window.
    pub fn taps(&self, spatial: &[usize], out: &[usize]) -> Result<Vec<isize>> {
        let (positions, taps): (usize, usize) = (out.iter().product(), self.taps_per_output());
        let total = checked_len(&[taps, positions])?;
        let (own, outer, inner) = (strides_of(spatial), strides_of(out), strides_of(&self.kernel));
        let mut table = Vec::with_capacity(total);
        for k in 0..taps {
            for p in 0..positions {
                let mut offset = 0isize;
                for d in 0..spatial.len() {
                    let o = (p / outer[d] % out[d]) as i64;
                    let t = (k / inner[d] % self.kernel[d]) as i64;
                    let at = o * self.strides[d] + t * self.dilations[d] - self.begin[d];
                    if at < 0 || at >= spatial[d] as i64 {
                        let outside = at >= spatial[d] as i64 + self.end[d];
                        offset = if outside || offset == OUTSIDE { OUTSIDE } else { PADDING };
                        if outside {
                            break;
                        }
                    } else if offset >= 0 {
                        offset += at as isize * own[d] as isize;
                    }
                }
                table.push(offset);
            }
        }
        Ok(table)
    }
}
