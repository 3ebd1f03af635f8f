//! Products over windows, in any layout and type by plain multiply-adds, and of bytes on the matrix units: what convolutions
//! that the quicker kernels leave, products of integers and recurrent layers share.

use super::contiguous;
use super::map::{broadcast, collapse};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use oxrt_backend::Io;
use oxrt_ops::window::Placed;
use oxrt_tensor::{Result, Tensor, bail};

const TEXT: &str = include_str!("../text/window.cuh");
const SIMT: &str = include_str!("../text/window_simt.cuh");
const BYTES: &str = include_str!("../text/window_bytes.cuh");

/// How a product is done: by plain multiply-adds, or in bytes on the matrix units.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    Simt,
    /// A block's rows, columns and warps; how many channels are copied at once (16, 8 or 1).
    Bytes {
        tile: [usize; 2],
        warps: [usize; 2],
        chunk: usize,
    },
}

/// Slices on their way to the matrix units.
const STAGES: usize = 3;

impl Method {
    fn tile(self) -> [usize; 2] {
        match self {
            Method::Simt => [64, 64],
            Method::Bytes { tile, .. } => tile,
        }
    }

    fn threads(self) -> usize {
        match self {
            Method::Simt => 256,
            Method::Bytes { warps, .. } => warps[0] * warps[1] * 32,
        }
    }

    /// Bytes of shared memory: slices on their way, or the sums on their way out.
    fn shared(self) -> usize {
        match self {
            Method::Simt => 0,
            Method::Bytes { tile: [m, n], .. } => (STAGES * (m + n) * 80).max(m * (n + 4) * 4),
        }
    }
}

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
    pub fn write(&self, method: Method) -> String {
        let at = TEXT.find("struct Pixel").unwrap_or(TEXT.len());
        let (head, tail) = TEXT.split_at(at);
        let kernel = match method {
            Method::Simt => SIMT.to_string(),
            Method::Bytes { tile, warps, chunk } => format!(
                "#define BM {}\n#define BN {}\n#define WARPS_M {}\n#define WARPS_N {}\n#define STAGES {STAGES}\n#define CHUNK {}\n{BYTES}",
                tile[0], tile[1], warps[0], warps[1], chunk
            ),
        };
        format!(
            "typedef {} TX;\ntypedef {} TW;\ntypedef {} TY;\ntypedef {} C;\n#define CHANNELS_LAST {}\n#define TRANSPOSED {}\n\
             #define X_ZERO ({})\n#define W_ZERO(map) ({})\n{head}{}\n\
             DEVICE TY finish(const P& p, C v, i32 map, i64 at) {{ {} }}\n{tail}{kernel}",
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
    /// What the text's own parts read as `p.whole` and `p.number`.
    pub whole: [i64; 12],
    pub number: [f32; 11],
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
            whole: [0; 12],
            number: [0.0; 11],
        }
    }

    /// A convolution of x with w [maps, channels of a group, taps…] ([channels, maps of a group, taps…] when transposed).
    pub fn convolution(
        x: &[usize],
        w: &[usize],
        groups: usize,
        placed: &Placed,
        last: bool,
        turned: bool,
    ) -> Result<Sizes> {
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
            whole: [0; 12],
            number: [0.0; 11],
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

/// Products of all matrices of x […, m, k] and w […, k, n] (or […, n, k] when that is `turned`), whose batches broadcast: two
/// axes of them in one launch, the others as offsets of x, w and y.
pub(super) fn batched(x: &[usize], w: &[usize], turned: bool) -> Result<(Sizes, Vec<[usize; 3]>)> {
    let (row, column) = (x.len() == 1, w.len() == 1);
    let x = if row { vec![1, x[0]] } else { x.to_vec() };
    let w = if column { vec![w[0], 1] } else { w.to_vec() };
    let turned = turned && !column;
    let ([xb @ .., m, k], [wb @ .., a, b]) = (&x[..], &w[..]) else { bail!(bug, "a product of scalars") };
    let (depth, n) = if turned { (b, a) } else { (a, b) };
    if k != depth {
        bail!(invalid, "rows of {k} for columns of {depth}");
    }
    let batch = oxrt_ops::shape::broadcast_shapes(&[xb, wb])?;
    let scale = |list: Vec<isize>, by: usize| list.into_iter().map(|s| s * by as isize).collect::<Vec<_>>();
    let xs = scale(broadcast(xb, &batch)?, m * k);
    let ws = scale(broadcast(wb, &batch)?, k * n);
    let ys = scale(contiguous(&batch), m * n);
    let (dims, steps) = collapse(&batch, &[&xs, &ws, &ys]);
    let axis = |back: usize, operand: usize| {
        dims.len().checked_sub(back).map_or((1, 0), |d| (dims[d], steps[d][operand] as usize))
    };
    let pair = |operand: usize| [axis(1, operand).1, axis(2, operand).1];
    let (w_map, w_channel) = if turned { (*k, 1) } else { (1, *n) };
    let sizes = Sizes {
        groups: [axis(1, 0).0, axis(2, 0).0],
        x_group: pair(0),
        w_group: pair(1),
        y_group: pair(2),
        ..Sizes::product(*m, *n, *k, w_map, w_channel)
    };
    let mut offsets = vec![[0usize; 3]];
    for d in 0..dims.len().saturating_sub(2) {
        let (n, s) = (dims[d], &steps[d]);
        let step = |base: &[usize; 3], i: usize| [0, 1, 2].map(|o| base[o] + s[o] as usize * i);
        offsets = offsets.iter().flat_map(|base| (0..n).map(move |i| step(base, i))).collect();
    }
    if batch.iter().product::<usize>() == 0 {
        offsets.clear();
    }
    Ok((sizes, offsets))
}

/// A compiled text.
#[derive(Clone)]
pub(super) struct Windows {
    launcher: Launcher,
    channels_last: bool,
    method: Method,
}

impl Windows {
    pub fn load(ctx: &Ctx, code: Option<&Tensor>, channels_last: bool, method: Method) -> Result<Windows> {
        Ok(Windows { launcher: ctx.function(code, "windows", method.shared())?, channels_last, method })
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
        let [bm, bn] = self.method.tile();
        let inner = if self.channels_last { s.channels } else { s.taps() };
        p = p.dividers(&[s.groups[0]]).u32(m).u32(s.maps).u32(k).u32(s.group_maps).dividers(&s.output);
        p = p.i32s(&s.input.map(|v| v as i64)).i32s(&s.dilations.map(|v| v as i64)).i32s(&s.pads);
        p = p.dividers(&s.strides).dividers(&s.kernel[1..]).dividers(&[inner, m.div_ceil(bm)]);
        let p = s.number.into_iter().fold(p.i32s(&s.whole), Params::f32);
        let p = p.status(&io.device).finish();
        let grid = [m.div_ceil(bm) * s.maps.div_ceil(bn), 1, s.groups[0] * s.groups[1]];
        // SAFETY: the caller's promise.
        unsafe { self.launcher.run(io, grid, self.method.threads(), self.method.shared(), &p) }
    }
}
