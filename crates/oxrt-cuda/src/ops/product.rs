//! Matrix products and convolutions: what both have in common. A convolution is a product whose left rows are windows of
//! the image, which the kernels find as they read.

use crate::backend::{Ctx, Launcher};
use crate::gpu::{Params, TensorPath, Walk};
use crate::text::{self, Number};
use oxrt_backend::{COUNTERS, Io, NodeView};
use oxrt_tensor::{DType, Result, Tensor, bail};
use std::sync::Arc;

const TILE: &str = include_str!("../text/tile.cuh");
const TILE_START: &str = include_str!("../text/tile_start.cuh");
const TILE_END: &str = include_str!("../text/tile_end.cuh");
const MMA: &str = include_str!("../text/mma.cuh");
pub(super) const WGMMA: &str = include_str!("../text/wgmma.cuh");
const STREAM: &str = include_str!("../text/stream.cuh");
const SIMT: &str = include_str!("../text/simt.cuh");

/// A tile of the matrix kernels: rows and columns of a block, its warps in both directions, slices on their way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Tile {
    pub m: usize,
    pub n: usize,
    pub warps: [usize; 2],
    pub stages: usize,
    /// On Hopper's units for whole warpgroups, with its copy engine (compute capability 9.0 alone).
    pub streams: Option<Blocks>,
}

/// How the blocks of a streaming tile work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Blocks {
    /// Of a multiprocessor.
    each: usize,
    /// Pieces of results on their way, of a warpgroup.
    buffers: usize,
    /// Whether warpgroups take tiles in turn, one multiplying while the other writes; else they share each tile.
    in_turn: bool,
}

const fn tile(m: usize, n: usize, warps: [usize; 2], stages: usize) -> Tile {
    Tile { m, n, warps, stages, streams: None }
}

/// `groups` warpgroups, one below the other; `each` blocks of a multiprocessor.
const fn hopper(m: usize, n: usize, groups: usize, stages: usize, each: usize) -> Tile {
    let buffers = if each == 1 { 2 } else { 1 };
    Tile { m, n, warps: [4 * groups, 1], stages, streams: Some(Blocks { each, buffers, in_turn: false }) }
}

/// Two warpgroups that take tiles in turn.
const fn in_turn(m: usize, n: usize, stages: usize) -> Tile {
    Tile { m, n, warps: [8, 1], stages, streams: Some(Blocks { each: 1, buffers: 2, in_turn: true }) }
}

/// The tiles that compete; which is quickest depends on sizes and the GPU.
pub(super) const TILES: [Tile; 20] = [
    tile(128, 128, [2, 4], 3),
    tile(128, 64, [2, 2], 4),
    tile(64, 128, [2, 2], 4),
    tile(64, 64, [2, 2], 4),
    tile(256, 128, [4, 2], 3),
    tile(128, 256, [2, 4], 3),
    tile(32, 64, [1, 4], 4),
    tile(32, 128, [1, 4], 4),
    tile(128, 32, [4, 1], 4),
    hopper(256, 128, 2, 4, 1),
    hopper(128, 192, 2, 4, 1),
    hopper(128, 128, 2, 6, 1),
    hopper(256, 64, 2, 4, 1),
    hopper(128, 64, 2, 8, 1),
    hopper(128, 64, 2, 4, 2),
    hopper(64, 64, 1, 6, 2),
    in_turn(128, 128, 6),
    in_turn(256, 64, 4),
    hopper(192, 192, 3, 3, 1),
    in_turn(192, 128, 4),
];

/// Bytes of a row of a slice of the matrix kernel.
const ROW: usize = 128;
/// Bytes of a piece of 64 × 64 results.
const PIECE: usize = 64 * 128;

impl Tile {
    /// With the warp that asks for copies, where there is one (`ASKERS` in the text).
    fn threads(&self) -> usize {
        let asking = match self.streams {
            None => 0,
            Some(Blocks { each: 1, .. }) if self.warps[0] > 4 => 4,
            Some(_) => 1,
        };
        (self.warps[0] * self.warps[1] + asking) * 32
    }

    /// Bytes of shared memory: slices on their way, or the sums on their way out.
    fn shared(&self, stages: usize) -> usize {
        let slices = (self.m + self.n) * ROW;
        match self.streams {
            // Two barriers for each slice; for each warpgroup pieces of the result on their way, a barrier, a word.
            Some(b) => {
                let groups = self.warps[0] / 4;
                self.stages * (slices + 16) + groups * (b.buffers * (PIECE + 8) + 12)
            }
            None => (stages * slices).max(self.m * (self.n + 4) * 4),
        }
    }
}

/// Storage of a product's operands, and how the text is made for it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Types {
    pub x: DType,
    pub w: DType,
    pub residual: DType,
    pub y: DType,
}

/// How the left operand comes to shared memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Copy {
    /// Element by element, through registers.
    Elements = 0,
    /// Eight elements at once.
    Chunks = 1,
    /// Four channels of a pixel at once.
    Pixels = 2,
}

/// How a product is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Method {
    /// On the matrix units, in f16, bf16, or f32 of which they take 11 bits. A tile that streams takes operands of one type, in rows of 16 bytes.
    /// `exact`: f32 in two parts, which together hold it.
    Mma { tile: Tile, conv: bool, of: DType, exact: bool, x_copy: Copy, w_turned: bool, w_async: bool },
    /// By plain multiply-adds.
    Simt { conv: bool },
}

impl Method {
    /// On the matrix units, with packed weights and operands whose rows are copied as they lie.
    pub fn packed(tile: Tile, conv: bool, of: DType) -> Method {
        Method::Mma { tile, conv, of, exact: false, x_copy: Copy::Chunks, w_turned: false, w_async: true }
    }
}

/// Types and the activation of a node, which texts of products begin with.
pub(super) fn beginning(node: &NodeView, types: Types, fast: bool) -> Result<String> {
    let number = if types.x == DType::F64 { Number::F64 } else { Number::F32 };
    Ok(format!(
        "typedef {} TX;\ntypedef {} TW;\ntypedef {} TR;\ntypedef {} TY;\ntypedef {} C;\n{}",
        super::c_type(types.x)?,
        super::c_type(types.w)?,
        super::c_type(types.residual)?,
        super::c_type(types.y)?,
        number.name(),
        text::activation(node.attrs(), number, fast)?
    ))
}

/// The text of a product with the activation of a node.
pub(super) fn text(node: &NodeView, method: Method, types: Types, fast: bool) -> Result<String> {
    let beginning = beginning(node, types, fast)?;
    let flag = |b: bool| u8::from(b);
    Ok(match method {
        Method::Mma { tile: Tile { streams: Some(blocks), .. }, .. } => {
            stream_text(method, blocks, types.y, &beginning)?
        }
        Method::Mma { tile, conv, of, exact, x_copy, w_turned, w_async } => format!(
            "#define BM {}\n#define BN {}\n#define WARPS_M {}\n#define WARPS_N {}\n#define THREADS {}\n#define STAGES {}\n\
             #define CONV {}\n#define EXACT {}\n#define ASYNC {}\n#define W_TURNED {}\n#define W_ASYNC {}\ntypedef {} T;\n\
             {beginning}{TILE}\n{}",
            tile.m,
            tile.n,
            tile.warps[0],
            tile.warps[1],
            tile.threads(),
            tile.stages,
            flag(conv),
            flag(exact),
            x_copy as u8,
            flag(w_turned),
            flag(w_async),
            super::c_type(of)?,
            MMA.replace("    TILE_START\n", TILE_START).replace("    TILE_END\n", TILE_END)
        ),
        Method::Simt { conv } => format!("#define CONV {}\n{beginning}{SIMT}", flag(conv)),
    })
}

/// The text of a product that streams. `before` defines the types of operands and `activate`, and for bytes what `quantised.cuh` does.
pub(super) fn stream_text(method: Method, blocks: Blocks, y: DType, before: &str) -> Result<String> {
    let Method::Mma { tile: Tile { m, n, warps, stages, .. }, conv, of, .. } = method else {
        bail!(bug, "plain multiply-adds that stream")
    };
    let flag = |b: bool| u8::from(b);
    let integer = matches!(of, DType::U8 | DType::I8);
    Ok(format!(
        "#define BM {m}\n#define BN {n}\n#define WGS {}\n#define STAGES {stages}\n#define BLOCKS {}\n#define BUFFERS {}\n\
         #define IN_TURN {}\n#define TY_BYTES {}\n#define CONV {}\n#define QUANTA {}\ntypedef {} T;\ntypedef {} S;\n{before}{WGMMA}{}",
        warps[0] / 4,
        blocks.each,
        blocks.buffers,
        flag(blocks.in_turn),
        y.bytes_for(1),
        flag(conv),
        flag(of.bytes_for(1) == 1),
        super::c_type(of)?,
        if integer { "i32" } else { "f32" },
        STREAM.replace("WGMMA_ASM", &wgmma(n, of, Left::Shared))
    ))
}

/// Where the left operand of the instruction lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Left {
    /// In shared memory, as the right one does.
    Shared,
    /// In registers `a`; the right one lies along columns.
    Registers,
}

/// The instruction that multiplies 64 rows by n columns; every thread holds n / 2 sums of them.
pub(super) fn wgmma(n: usize, of: DType, left: Left) -> String {
    let count = n / 2;
    let (ty, depth) = match of {
        DType::F32 => ("tf32", 8),
        DType::BF16 => ("bf16", 16),
        DType::U8 => ("u8", 32),
        DType::I8 => ("s8", 32),
        DType::F8E4M3FN => ("e4m3", 32),
        _ => ("f16", 16),
    };
    // Integers are summed in integers; those on the right are signed.
    let integer = matches!(of, DType::U8 | DType::I8);
    let (sum, right, register) = if integer { ("s32", "s8", "r") } else { ("f32", ty, "f") };
    let list = |range: std::ops::Range<usize>, f: &dyn Fn(usize) -> String| range.map(f).collect::<Vec<_>>().join(", ");
    let name = |i: usize| format!("%{i}");
    let (a, a_given, last, signs) = match left {
        // What is not of 16 bits lies along rows in any case, and integers have no signs to turn.
        Left::Shared if integer => (name(count), "\"l\"(da)".to_string(), count + 1, ""),
        Left::Shared if of.bytes_for(1) != 2 => (name(count), "\"l\"(da)".to_string(), count + 1, ", 1, 1"),
        Left::Shared => (name(count), "\"l\"(da)".to_string(), count + 1, ", 1, 1, 0, 0"),
        Left::Registers => (
            format!("{{{}}}", list(count..count + 4, &name)),
            list(0..4, &|i| format!("\"r\"(a[{i}])")),
            count + 4,
            ", 1, 1, 1",
        ),
    };
    format!(
        "asm volatile(\"{{ .reg .pred p; setp.ne.b32 p, %{}, 0; wgmma.mma_async.sync.aligned.m64n{n}k{depth}.{sum}.{ty}.{right} {{{}}}, \
         {a}, %{last}, p{signs}; }}\" : {} : {a_given}, \"l\"(db), \"r\"(add));",
        last + 1,
        list(0..count, &name),
        list(0..count, &|i| format!("\"+{register}\"(d[{i}])")),
    )
}

/// A product's kernel.
pub(super) struct Product {
    method: Method,
    kernel: Launcher,
    processors: usize,
    ctx: Ctx,
    types: Types,
}

/// Sizes and distances of a product, and the windows of a convolution.
#[derive(Clone, Debug, Default)]
pub(super) struct Sizes {
    pub m: usize,
    pub n: usize,
    pub k: usize,
    /// Distance of rows (of pixels, for convolutions).
    pub ldx: usize,
    /// Distance of columns of w (rows, when it is turned).
    pub ldw: usize,
    pub ldy: usize,
    /// For plain multiply-adds: distance of w along n; `ldw` is that along k.
    pub w_n: usize,
    /// Two axes of batches (inner, outer): how many, and the distances of the operands.
    pub batch: [usize; 2],
    pub x_step: [usize; 2],
    pub w_step: [usize; 2],
    pub y_step: [usize; 2],
    pub window: Option<Window2>,
}

impl Sizes {
    /// Slices of `depth` of one tap of a window, and of all; a product without windows has one tap.
    fn tap_slices(&self, depth: usize) -> [usize; 2] {
        let taps = self.window.map_or(1, |w| w.kernel[0] * w.kernel[1]);
        let one = self.window.map_or(self.k, |w| w.cin).div_ceil(depth).max(1);
        [one, one * taps]
    }
}

/// Windows over two axes.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Window2 {
    pub input: [usize; 2],
    pub output: [usize; 2],
    pub kernel: [usize; 2],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub pads: [i64; 2],
    /// Channels of a group.
    pub cin: usize,
    /// Distance of rows of the image where pixels overlap; 0 where a row is as long as its pixels.
    pub row: usize,
}

impl Window2 {
    /// Whether some window has taps outside of the image.
    pub fn leaves_image(&self) -> bool {
        (0..2).any(|d| {
            let last = (self.output[d].max(1) - 1) * self.strides[d] + (self.kernel[d].max(1) - 1) * self.dilations[d];
            self.pads[d] > 0 || last as i64 - self.pads[d] >= self.input[d] as i64
        })
    }
}

/// A product with fixed sizes.
pub(super) struct Plan {
    sizes: Sizes,
    grid: [usize; 3],
    slices: usize,
    splits: usize,
    workspace: usize,
}

impl Plan {
    pub fn workspace(&self) -> usize {
        self.workspace
    }

    pub fn flops(&self) -> usize {
        2 * self.sizes.m * self.sizes.n * self.sizes.k * self.grid[2]
    }
}

impl Product {
    pub fn load(ctx: &Ctx, code: Option<&Tensor>, method: Method, types: Types) -> Result<Arc<Product>> {
        let shared = match method {
            Method::Mma { tile, .. } => tile.shared(tile.stages),
            Method::Simt { .. } => 0,
        };
        let kernel = ctx.function(code, "product", shared)?;
        let processors = ctx.gpu.processors() as usize;
        Ok(Arc::new(Product { method, kernel, processors, ctx: ctx.clone(), types }))
    }

    fn tile(&self) -> Option<Tile> {
        match self.method {
            Method::Mma { tile, .. } => Some(tile),
            Method::Simt { .. } => None,
        }
    }

    /// Type of the right operand.
    pub fn operand_type(&self) -> DType {
        self.types.w
    }

    /// Bytes of an element of x, w and y.
    pub fn operand_bytes(&self) -> [usize; 3] {
        [self.types.x, self.types.w, self.types.y].map(|d| d.bytes_for(1))
    }

    /// Elements of a row of a slice.
    fn depth(&self) -> usize {
        match self.method {
            Method::Mma { of, .. } => ROW / of.bytes_for(1),
            Method::Simt { .. } => 16,
        }
    }

    pub fn plan(&self, sizes: Sizes) -> Result<Plan> {
        super::counts(sizes.m.max(1) * sizes.ldy.max(1))?;
        let z = sizes.batch[0] * sizes.batch[1];
        if z > 65535 {
            bail!(unsupported, "{z} products in one batch");
        }
        let (bm, bn) = match self.method {
            Method::Mma { tile, .. } => (tile.m, tile.n),
            Method::Simt { .. } => (64, 64),
        };
        let tiles = sizes.m.div_ceil(bm) * sizes.n.div_ceil(bn);
        let depth = self.depth();
        let streams = self.tile().is_some_and(|t| t.streams.is_some());
        let all = if streams { sizes.tap_slices(depth)[1] } else { sizes.k.div_ceil(depth) };
        let all = all.max(1);
        let mut splits = 1;
        if matches!(self.method, Method::Mma { .. }) && (1..=COUNTERS).contains(&(tiles * z)) {
            // Blocks for every multiprocessor, but none with fewer than a few slices.
            let wanted = (self.processors / (tiles * z)).max(1);
            splits = wanted.min(all / 4).clamp(1, 16);
        }
        let slices = all.div_ceil(splits);
        splits = all.div_ceil(slices);
        let workspace = if splits > 1 { tiles * z * splits * bm * bn * 4 } else { 0 };
        Ok(Plan { grid: [tiles, splits, z], sizes, slices, splits, workspace })
    }

    /// # Safety
    /// Pointers lead to operands of the planned sizes and the types of the text; the workspace has the planned size.
    pub unsafe fn run<T>(
        &self,
        plan: &Plan,
        io: &Io,
        x: *const T,
        w: *const u8,
        bias: *const u8,
        residual: *const u8,
        y: *mut u8,
    ) -> Result<()> {
        if let Some(Tile { streams: Some(blocks), .. }) = self.tile() {
            // SAFETY: the caller's promise.
            return unsafe { self.run_stream(plan, io, [x.cast(), w, bias, residual], y, blocks, |p| p) };
        }
        let s = &plan.sizes;
        let mut p = Params::new().ptr(x).ptr(w).ptr(bias).ptr(residual).ptr(y.cast_const());
        let mma = matches!(self.method, Method::Mma { .. });
        if mma {
            p = p.ptr(io.workspace.cast_const()).ptr(io.device.counters.cast_const());
        }
        for steps in [s.x_step, s.w_step, s.y_step] {
            p = p.i64(steps[0] as i64).i64(steps[1] as i64);
        }
        p = p.divider(s.batch[0].max(1)).u32(s.m).u32(s.n).u32(s.k).u32(s.ldx).u32(s.ldw).u32(s.ldy);
        // No more stages than slices: what is left of the shared memory serves other blocks.
        let stages = match self.method {
            Method::Mma { tile, .. } => tile.stages.min(plan.slices).max(1),
            Method::Simt { .. } => 0,
        };
        p = if mma { p.u32(plan.slices).u32(plan.splits).u32(stages) } else { p.u32(s.w_n) };
        let win = s.window.unwrap_or_default();
        p = p.u32(win.input[0]).u32(win.input[1]).i32(win.pads[0]).i32(win.pads[1]);
        p = p.u32(win.strides[0]).u32(win.strides[1]).u32(win.dilations[0]).u32(win.dilations[1]);
        p = p.divider(win.output[1].max(1)).divider((win.output[0] * win.output[1]).max(1));
        p = p.divider(win.cin.max(1)).divider(win.kernel[1].max(1));
        let bm = match self.method {
            Method::Mma { tile, .. } => tile.m,
            Method::Simt { .. } => 64,
        };
        let params = p.divider(s.m.div_ceil(bm).max(1)).status(&io.device).finish();
        let (threads, shared) = match self.method {
            Method::Mma { tile, .. } => (tile.threads(), tile.shared(stages)),
            Method::Simt { .. } => (256, 0),
        };
        // SAFETY: the caller's promise.
        unsafe { self.kernel.run(io, plan.grid, threads, shared, &params) }
    }

    /// A product that streams, with parameters of its own end: of operands of 8 bits, of rows that are normalised.
    ///
    /// # Safety
    /// As [`Self::run`].
    pub unsafe fn run_ended(
        &self,
        plan: &Plan,
        io: &Io,
        operands: [*const u8; 4],
        y: *mut u8,
        ends: impl FnOnce(Params) -> Params,
    ) -> Result<()> {
        let Some(Tile { streams: Some(blocks), .. }) = self.tile() else {
            bail!(bug, "a product that does not stream")
        };
        // SAFETY: the caller's promise.
        unsafe { self.run_stream(plan, io, operands, y, blocks, ends) }
    }

    /// # Safety
    /// As [`Self::run`], which says the order of operands.
    unsafe fn run_stream(
        &self,
        plan: &Plan,
        io: &Io,
        operands: [*const u8; 4],
        y: *mut u8,
        blocks: Blocks,
        ends: impl FnOnce(Params) -> Params,
    ) -> Result<()> {
        let (s, Some(tile)) = (&plan.sizes, self.tile()) else { bail!(bug, "no tile that streams") };
        let items = plan.grid[0] * plan.splits;
        if items == 0 || plan.grid[2] == 0 {
            return Ok(());
        }
        let [x, w, bias, residual] = operands;
        let win = s.window.unwrap_or_default();
        let taps = s.window.map_or(1, |w| w.kernel[0] * w.kernel[1]);
        let channels = if s.window.is_some() { win.cin } else { s.k };
        // The engine counts in units of 16 bits.
        let bytes = ROW / self.depth();
        let units = |elements: usize| elements * bytes / 2;
        let windows = s.window.is_some() && matches!(self.method, Method::Mma { conv: true, .. });
        let x_path = if windows {
            let pixels = win.output[0] * win.output[1];
            let images = s.m / pixels.max(1);
            // The corner of the last window, from the last pixel.
            let high =
                |i: usize| ((win.output[i] - 1) * win.strides[i]) as i64 - win.pads[i] - (win.input[i] as i64 - 1);
            let row = bytes * if win.row > 0 { win.row } else { s.ldx * win.input[1] };
            TensorPath {
                base: x,
                dims: vec![units(channels), win.input[1], win.input[0], images],
                strides: vec![s.ldx * bytes, row, row * win.input[0]],
                walk: Walk::Windows {
                    pixels: tile.m,
                    low: [-win.pads[1], -win.pads[0]],
                    high: [high(1), high(0)],
                    steps: [win.strides[1], win.strides[0]],
                },
            }
        } else {
            TensorPath {
                base: x,
                dims: vec![units(s.k), s.m],
                strides: vec![s.ldx * bytes],
                walk: Walk::Box(vec![tile.m]),
            }
        };
        let w_path = TensorPath {
            base: w,
            // The engine is slow along an axis behind one of length 1: taps come last.
            dims: vec![units(channels), s.n, taps],
            strides: vec![s.ldw * bytes, channels * bytes],
            walk: Walk::Box(vec![tile.n, 1]),
        };
        let gpu = &self.ctx.gpu;
        let mut p = Params::new().tensor_map(&gpu.tensor_map(&x_path)?).tensor_map(&gpu.tensor_map(&w_path)?);
        let y_bytes = self.types.y.bytes_for(1);
        for base in [y.cast_const(), residual] {
            let (dims, strides) = (vec![s.n * y_bytes / 2, s.m], vec![s.ldy * y_bytes]);
            let path = TensorPath { base, dims, strides, walk: Walk::Box(vec![64]) };
            // What is not there, or not written by the copy engine (STAGED in the text), is not walked.
            let staged = y_bytes == 2 || (y_bytes == 1 && tile.n % 128 == 0 && s.n % 16 == 0);
            let walked = !base.is_null() && staged;
            p = p.tensor_map(&if walked { gpu.tensor_map(&path)? } else { [0; 128] });
        }
        p = p
            .ptr(bias)
            .ptr(residual)
            .ptr(y.cast_const())
            .ptr(io.workspace.cast_const())
            .ptr(io.device.counters.cast_const());
        let [tap_slices, slices] = s.tap_slices(self.depth());
        p = p.u32(s.m).u32(s.n).u32(s.ldy).u32(items).u32(plan.splits);
        p = p.u32(tap_slices).u32(slices).u32(plan.slices);
        p = p.i32(-win.pads[0]).i32(-win.pads[1]).u32(win.strides[0]).u32(win.strides[1]);
        p = p.u32(win.dilations[0]).u32(win.dilations[1]).u32(win.kernel[1].max(1));
        p = p.divider(win.output[1].max(1)).divider((win.output[0] * win.output[1]).max(1));
        p = p.divider(plan.splits).divider(s.n.div_ceil(tile.n).max(1));
        let params = ends(p).status(&io.device).finish();
        let grid = [items.min(self.processors * blocks.each), 1, 1];
        // SAFETY: the caller's promise.
        unsafe { self.kernel.run(io, grid, tile.threads(), tile.shared(tile.stages), &params) }
    }
}
