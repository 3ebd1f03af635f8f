//! Products over windows by plain multiply-adds, in any layout and type: what convolutions that the quicker kernels leave,
//! products of integers and recurrent layers share.

use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use oxrt_backend::Io;
use oxrt_ops::window::Placed;
use oxrt_tensor::{Result, Tensor, bail};

const TEXT: &str = include_str!("../text/window.cuh");

/// How a text is made.
pub(super) struct Text<'a> {
    /// C types of both operands, of the result, and of the sums.
    pub x: &'a str,
    pub w: &'a str,
    pub y: &'a str,
    pub sum: &'a str,
    /// Channels are the dense axis of x.
    pub channels_last: bool,
    pub transposed: bool,
    /// C expressions that are taken from elements of x, and from those of a map of w; `p.in` are the inputs behind w.
    pub x_zero: &'a str,
    pub w_zero: &'a str,
    /// Functions before the kernel, the body of `TY finish(const P& p, C v, i32 map, i64 at)` last.
    pub before: &'a str,
    pub finish: &'a str,
}

impl Text<'_> {
    pub fn write(&self) -> String {
        let at = TEXT.find("struct Pixel").unwrap_or(TEXT.len());
        let (head, tail) = TEXT.split_at(at);
        format!(
            "typedef {} TX;\ntypedef {} TW;\ntypedef {} TY;\ntypedef {} C;\n#define CHANNELS_LAST {}\n#define TRANSPOSED {}\n\
             #define X_ZERO ({})\n#define W_ZERO(map) ({})\n{head}{}\n\
             DEVICE TY finish(const P& p, C v, i32 map, i64 at) {{ {} }}\n{tail}",
            self.x,
            self.w,
            self.y,
            self.sum,
            u8::from(self.channels_last),
            u8::from(self.transposed),
            self.x_zero,
            self.w_zero,
            self.before,
            self.finish
        )
    }
}

/// Sizes and distances of a product.
#[derive(Clone, Debug)]
pub(super) struct Sizes {
    pub images: usize,
    /// Channels and maps of a group.
    pub channels: usize,
    pub maps: usize,
    /// Groups or batches, the inner axis of them first.
    pub groups: [usize; 2],
    pub x_group: [usize; 2],
    pub w_group: [usize; 2],
    pub y_group: [usize; 2],
    /// How far the first map of a group lies behind that of the group before, where biases are concerned.
    pub group_maps: usize,
    pub input: [usize; 3],
    pub output: [usize; 3],
    pub kernel: [usize; 3],
    pub strides: [usize; 3],
    pub dilations: [usize; 3],
    pub pads: [i64; 3],
    pub x_image: usize,
    pub y_image: usize,
    pub x_channel: usize,
    pub y_channel: usize,
    pub x_axis: [usize; 3],
    pub y_pixel: usize,
    pub w_map: usize,
    pub w_channel: usize,
    pub w_tap: usize,
}

/// Missing axes in front are `fill`.
fn three<T: Copy>(list: &[T], fill: T) -> [T; 3] {
    let mut out = [fill; 3];
    let n = list.len().min(3);
    out[3 - n..].copy_from_slice(&list[list.len() - n..]);
    out
}

impl Sizes {
    /// Rows of `k` elements of x for columns of w, `n` of them `w_map` apart whose elements lie `w_channel` apart.
    pub fn product(m: usize, n: usize, k: usize, w_map: usize, w_channel: usize) -> Sizes {
        Sizes {
            images: 1,
            channels: k,
            maps: n,
            groups: [1, 1],
            x_group: [0; 2],
            w_group: [0; 2],
            y_group: [0; 2],
            group_maps: 0,
            input: [1, 1, m],
            output: [1, 1, m],
            kernel: [1; 3],
            strides: [1; 3],
            dilations: [1; 3],
            pads: [0; 3],
            x_image: 0,
            y_image: 0,
            x_channel: 1,
            y_channel: 1,
            x_axis: [0, 0, k],
            y_pixel: n,
            w_map,
            w_channel,
            w_tap: 0,
        }
    }

    /// A convolution of x with w [maps, channels of a group, taps…] ([channels, maps of a group, taps…] when transposed).
    pub fn convolution(x: &[usize], w: &[usize], groups: usize, placed: &Placed, last: bool, turned: bool) -> Result<Sizes> {
        let taps: usize = placed.kernel.iter().product();
        let [first, second, ..] = *w else { bail!(invalid, "weights of shape {w:?}") };
        let (all_channels, maps) = if turned { (first, second) } else { (second * groups, first / groups.max(1)) };
        let (spatial, own) = if last { (&x[1..x.len() - 1], x[x.len() - 1]) } else { (&x[2..], x[1]) };
        if groups == 0 || own != all_channels || own % groups != 0 || (!turned && first % groups != 0) {
            bail!(invalid, "weights of shape {w:?} in {groups} groups for {own} channels");
        }
        let channels = own / groups;
        let (pixels, outputs): (usize, usize) = (spatial.iter().product(), placed.out.iter().product());
        let size = three(spatial, 1);
        let dense = if last { own } else { 1 };
        let every = maps * groups;
        let (x_channel, y_channel) = if last { (1, 1) } else { (pixels, outputs) };
        let (w_map, w_channel) = if turned { (taps, maps * taps) } else { (channels * taps, taps) };
        let natural = |list: &[i64]| list.iter().map(|&v| v.max(0) as usize).collect::<Vec<_>>();
        Ok(Sizes {
            images: x[0],
            channels,
            maps,
            groups: [groups, 1],
            x_group: [channels * x_channel, 0],
            w_group: [if turned { channels * w_channel } else { maps * w_map }, 0],
            y_group: [maps * y_channel, 0],
            group_maps: maps,
            input: size,
            output: three(&placed.out, 1),
            kernel: three(&placed.kernel, 1),
            strides: three(&natural(&placed.strides), 1),
            dilations: three(&natural(&placed.dilations), 1),
            pads: three(&placed.begin, 0),
            x_image: own * pixels,
            y_image: every * outputs,
            x_channel,
            y_channel,
            x_axis: [size[1] * size[2] * dense, size[2] * dense, dense],
            y_pixel: if last { every } else { 1 },
            w_map,
            w_channel,
            w_tap: 1,
        })
    }

    fn taps(&self) -> usize {
        self.kernel.iter().product()
    }

    fn pixels(&self) -> usize {
        self.images * self.output.iter().product::<usize>()
    }

    pub fn flops(&self) -> usize {
        2 * self.pixels() * self.maps * self.channels * self.taps() * self.groups[0] * self.groups[1]
    }
}

/// A compiled text.
#[derive(Clone)]
pub(super) struct Windows {
    launcher: Launcher,
    channels_last: bool,
}

impl Windows {
    pub fn load(ctx: &Ctx, code: Option<&Tensor>, channels_last: bool) -> Result<Windows> {
        Ok(Windows { launcher: ctx.function(code, "windows", 0)?, channels_last })
    }

    /// Refuses what the kernel does not count.
    pub fn check(&self, s: &Sizes) -> Result<()> {
        super::counts(s.pixels())?;
        super::counts(s.channels * s.taps())?;
        super::counts(s.groups[0] * s.groups[1] * s.maps)?;
        let reach = |d: usize| s.output[d] * s.strides[d] + s.kernel[d] * s.dilations[d];
        super::counts((0..3).map(reach).max().unwrap_or(0))?;
        let z = s.groups[0] * s.groups[1];
        if z > 65535 {
            bail!(unsupported, "{z} groups or batches in one product");
        }
        Ok(())
    }

    /// # Safety
    /// `inputs` (x, w, and up to five more) and `y` lead to what the sizes speak of.
    pub unsafe fn run(&self, s: &Sizes, io: &Io, inputs: &[*const u8], y: *mut u8) -> Result<()> {
        let mut p = Params::new();
        for i in 0..7 {
            p = p.ptr(inputs.get(i).copied().unwrap_or(std::ptr::null()));
        }
        p = p.ptr(y.cast_const());
        let pairs = [s.x_group, s.w_group, s.y_group].concat();
        let singles = [s.x_image, s.y_image, s.x_channel, s.y_channel, s.w_map, s.w_channel, s.w_tap];
        for v in pairs.into_iter().chain(singles).chain(s.x_axis).chain([s.y_pixel]) {
            p = p.i64(v as i64);
        }
        let (m, k) = (s.pixels(), s.channels * s.taps());
        let inner = if self.channels_last { s.channels } else { s.taps() };
        p = p.dividers(&[s.groups[0]]).u32(m).u32(s.maps).u32(k).u32(s.group_maps).dividers(&s.output);
        p = p.i32s(&s.input.map(|v| v as i64)).i32s(&s.dilations.map(|v| v as i64)).i32s(&s.pads);
        p = p.dividers(&s.strides).dividers(&s.kernel[1..]).dividers(&[inner, m.div_ceil(64)]);
        let p = p.status(&io.device).finish();
        let grid = [m.div_ceil(64) * s.maps.div_ceil(64), 1, s.groups[0] * s.groups[1]];
        // SAFETY: the caller's promise.
        unsafe { self.launcher.run(io, grid, 256, 0, &p) }
    }
}
