//! Convolution, channels last: as a product on the matrix units or by plain multiply-adds.

use super::gemm::{epilogue_fits, exact, fits_stream, floats, narrow, offered, rows_stream, types};
use super::product::{Copy, Method, Product, Sizes, TILES, Tile, Types, Window2, text};
use super::{Entry, counts, makes, require};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use oxrt_backend::{BindArgs, Io, Kernel, NodeView, Packing, bound, kernel};
use oxrt_ir::Attrs;
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

const OPS: &[&str] = &["oxrt.Conv"];

/// One entry per tile.
macro_rules! tiles {
    ($($i:literal $id:ident $name:literal)*) => {
        $(pub(super) const $id: Entry = Entry {
            name: $name,
            ops: OPS,
            supports: mma_supports::<$i>,
            pack: pack::<$i>,
            load: load::<$i>,
            mixes: true,
            narrow: true,
            timed: true,
            counts: false,
        };)*
    };
}
tiles! {
    0 C0 "conv_128x128" 1 C1 "conv_128x64" 2 C2 "conv_64x128" 3 C3 "conv_64x64"
    4 C4 "conv_256x128" 5 C5 "conv_128x256" 6 C6 "conv_32x64" 7 C7 "conv_32x128" 8 C8 "conv_128x32"
    9 C9 "conv_stream_256x128" 10 C10 "conv_stream_128x192" 11 C11 "conv_stream_128x128"
    12 C12 "conv_stream_256x64" 13 C13 "conv_stream_128x64" 14 C14 "conv_stream_128x64_two"
    15 C15 "conv_stream_64x64" 16 C16 "conv_stream_128x128_turns" 17 C17 "conv_stream_256x64_turns"
    18 C18 "conv_stream_192x192" 19 C19 "conv_stream_192x128_turns"
}
pub(super) const PLAIN: Entry = Entry::new("conv_plain", OPS, supports, pack_plain, load_plain);

/// What the weights and attributes say: weights [M, C/group, k…] of one or two axes.
pub(super) struct Filter {
    pub cout: usize,
    pub cin: usize,
    pub groups: usize,
    pub kernel: Vec<usize>,
}

impl Filter {
    pub fn of(node: &NodeView) -> Result<Filter> {
        let shape = node.ty(1).and_then(|t| t.static_shape()).unwrap_or_default();
        let [cout, cin, kernel @ ..] = &shape[..] else { bail!(bug, "weights without a shape") };
        let groups = usize::try_from(node.attrs().int_or("group", 1)?).unwrap_or(0);
        if groups == 0 || cout % groups != 0 {
            bail!(invalid, "{cout} maps in {groups} groups");
        }
        Ok(Filter { cout: *cout, cin: *cin, groups, kernel: kernel.to_vec() })
    }

    pub fn depth(&self) -> usize {
        self.cin * self.kernel.iter().product::<usize>()
    }

    /// Images of a few channels, whose pixels are widened to four.
    pub fn is_thin(&self) -> bool {
        self.cin <= 4 && self.groups == 1
    }

    pub fn is_depthwise(&self) -> bool {
        self.cin == 1 && self.groups == self.cout && self.groups > 1
    }
}

pub(super) fn supports(_: &Ctx, node: &NodeView) -> Option<()> {
    floats(node)?;
    require(node.constant(1)?.dtype() == DType::F32 && matches!(node.rank(0)?, 3 | 4))?;
    Filter::of(node).ok().map(|_| ())
}

fn mma_supports<const I: usize>(ctx: &Ctx, node: &NodeView) -> Option<()> {
    supports(ctx, node)?;
    narrow(ctx, node)?;
    // A few channels per group would leave the matrix units empty.
    let f = Filter::of(node).ok()?;
    require(f.groups == 1 || f.cout / f.groups >= 8)?;
    offered(ctx, I, streams(ctx, node, &f).is_some())
}

/// Whether tiles that stream serve.
fn streams(ctx: &Ctx, node: &NodeView, f: &Filter) -> Option<()> {
    windows_stream(node, f)?;
    if f.is_thin() {
        Fold::of(node, f, DType::F16)?;
        return fits_stream(ctx, node, f.cout);
    }
    rows_stream(ctx, node, f.cout, f.cin)
}

/// What the copy engine's windows can be.
pub(super) fn windows_stream(node: &NodeView, f: &Filter) -> Option<()> {
    let most = |name: &str, most: i64| {
        let list = node.attrs().ints(name).ok()?.unwrap_or(&[]);
        require(list.iter().all(|&v| (0..=most).contains(&v)))
    };
    most("strides", if f.is_thin() { 32 } else { 8 })?;
    most("pads", 100)?;
    most("dilations", 16)?;
    require(f.groups == 1 && (f.is_thin() || f.kernel.iter().all(|&k| k <= 7)))
}

/// An image of few channels, folded for the copy engine: blocks of pixels, as large as the stride, become pixels with the channels of
/// all of them, and the padding becomes zeros. So a window begins at a folded pixel, and a row of it is one piece of memory. Where such a row
/// is short, a pixel holds the block below as well: the engine is asked row by row, however long they are.
pub(super) struct Fold {
    /// Pixels of a block.
    block: [usize; 2],
    /// Blocks of a folded pixel, one below the other.
    tall: usize,
    /// Folded pixels of a window.
    taps: [usize; 2],
    /// Channels of a block: a multiple of 8, and of 16 bytes.
    channels: usize,
}

/// Bytes of a window's row up to which a folded pixel is two blocks tall: half a slice.
const SHORT_ROW: usize = 64;

impl Fold {
    /// For an image whose channels will be of type `of`.
    pub fn of(node: &NodeView, f: &Filter, of: DType) -> Option<Fold> {
        let list = |name: &str| node.attrs().ints(name).ok().map(|l| l.unwrap_or(&[]).to_vec());
        require(list("dilations")?.iter().all(|&d| d == 1) && matches!(f.kernel.len(), 1 | 2))?;
        let strides = list("strides")?;
        let two = |l: &[usize]| if let [w] = *l { [1, w] } else { [l[0], l[1]] };
        let strides = if strides.is_empty() { vec![1; f.kernel.len()] } else { super::sizes(&strides)? };
        require(strides.len() == f.kernel.len() && !strides.contains(&0))?;
        let (block, kernel) = (two(&strides), two(&f.kernel));
        let mut taps = [kernel[0].div_ceil(block[0]), kernel[1].div_ceil(block[1])];
        let channels = (block[0] * block[1] * f.cin).next_multiple_of((16 / of.bytes_for(1)).max(8));
        // What the copy engine's windows can be.
        require(taps[0] <= 32 && taps[1] * channels <= 4096)?;
        let tall = if taps[0] > 1 && of.bytes_for(taps[1] * channels) <= SHORT_ROW { 2 } else { 1 };
        taps[0] = taps[0].div_ceil(tall);
        Some(Fold { block, tall, taps, channels })
    }

    /// Channels of a folded pixel.
    fn pixel(&self) -> usize {
        self.tall * self.channels
    }

    /// Elements of a window.
    pub fn depth(&self) -> usize {
        self.taps[0] * self.taps[1] * self.pixel()
    }

    /// The weights as [M][window], with zeros where a window has more than the kernel.
    pub fn rows<T: std::marker::Copy + Default>(&self, data: &[T], f: &Filter) -> Vec<T> {
        let kernel = if let [w] = f.kernel[..] { [1, w] } else { [f.kernel[0], f.kernel[1]] };
        let (depth, taps) = (self.depth(), kernel[0] * kernel[1]);
        let mut rows = vec![T::default(); f.cout * depth];
        for m in 0..f.cout {
            for (h, w) in (0..kernel[0]).flat_map(|h| (0..kernel[1]).map(move |w| (h, w))) {
                let line = h / self.block[0];
                let tap = line / self.tall * self.taps[1] + w / self.block[1];
                let block = tap * self.pixel() + line % self.tall * self.channels;
                let pixel = h % self.block[0] * self.block[1] + w % self.block[1];
                for c in 0..f.cin {
                    rows[m * depth + block + pixel * f.cin + c] = data[(m * f.cin + c) * taps + h * kernel[1] + w];
                }
            }
        }
        rows
    }

    /// The text that folds an image.
    pub fn text(&self, from: DType, of: DType, cin: usize) -> Result<String> {
        Ok(format!(
            "typedef {} TX;\ntypedef {} T;\n#define CIN {cin}\n#define BLOCK_H {}\n#define BLOCK_W {}\n#define FOLDED {}\n#define SAME {}\n{FOLD}",
            super::c_type(from)?,
            super::c_type(of)?,
            self.block[0],
            self.block[1],
            self.channels,
            u8::from(from == of)
        ))
    }
}

/// A fold at the bound sizes.
pub(super) struct Folding {
    window: Window2,
    columns: usize,
    rows: usize,
    channels: usize,
    chunks: usize,
}

impl Fold {
    /// The product over the windows of the folded image, and the folding.
    pub fn place(&self, f: &Filter, window: Window2, images: usize) -> Result<(Sizes, Folding)> {
        let (out, taps, channels) = (window.output, self.taps, self.pixel());
        let [rows, columns] = [out[0] + (taps[0] - 1) * self.tall, out[1] + taps[1] - 1];
        let chunks = counts(images * rows * columns * channels)? / 8;
        let folded = Window2 {
            input: [rows, out[1]],
            output: out,
            kernel: [taps[0], 1],
            strides: [1, 1],
            dilations: [self.tall, 1],
            pads: [0, 0],
            cin: taps[1] * channels,
            row: columns * channels,
        };
        let sizes = Sizes {
            m: images * out[0] * out[1],
            n: f.cout,
            k: self.depth(),
            ldx: channels,
            ldw: self.depth(),
            ldy: f.cout,
            batch: [1, 1],
            window: Some(folded),
            ..Sizes::default()
        };
        Ok((sizes, Folding { window, columns, rows, channels, chunks }))
    }
}

impl Folding {
    /// Elements of the folded image.
    pub fn elements(&self) -> usize {
        self.chunks * 8
    }

    /// Folds; `fill` is what lies outside of the image.
    ///
    /// # Safety
    /// Both pointers lead to images of the bound sizes, in the types of the text.
    pub unsafe fn run(&self, launcher: &Launcher, io: &Io, x: *const u8, to: *mut u8, fill: f32) -> Result<()> {
        let w = &self.window;
        let mut p = Params::new().ptr(x).ptr(to.cast_const()).u32(self.chunks);
        p = p.u32(w.input[0]).u32(w.input[1]).i32(w.pads[0]).i32(w.pads[1]).f32(fill);
        p = p.divider((self.channels / 8).max(1)).divider(self.columns.max(1)).divider(self.rows.max(1));
        // SAFETY: the caller's promise.
        unsafe { launcher.run(io, [self.chunks.div_ceil(256), 1, 1], 256, 0, &p.finish()) }
    }
}

/// A folded image's eight channels per thread.
const FOLD: &str = r#"
struct P { const TX* x; T* y; u32 count; i32 height, width, pad_h, pad_w; f32 fill; Divider chunks, columns, rows; };
KERNEL(256, fold, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    u32 pixel = divide(index, p.chunks), chunk = index - pixel * p.chunks.divisor;
    u32 line = divide(pixel, p.columns), column = pixel - line * p.columns.divisor;
    u32 image = divide(line, p.rows), row = line - image * p.rows.divisor;
    Pack<T, 8> out;
    const T fill = put<T>(p.fill);
    PRAGMA_UNROLL for (int e = 0; e < 8; e++) {
        u32 all = chunk * 8 + e, at = all % FOLDED, inner = at / CIN, c = at % CIN;
        i32 h = (row + all / FOLDED) * BLOCK_H + inner / BLOCK_W - p.pad_h, w = column * BLOCK_W + inner % BLOCK_W - p.pad_w;
        bool inside = at < BLOCK_H * BLOCK_W * CIN && (u32)h < (u32)p.height && (u32)w < (u32)p.width;
        const i64 from = (((i64)image * p.height + h) * p.width + w) * CIN + c;
#if SAME
        out.at[e] = inside ? p.x[from] : fill;
#else
        out.at[e] = inside ? put<T>(get<f32>(p.x[from])) : fill;
#endif
    }
    *(Pack<T, 8>*)(p.y + (i64)index * 8) = out;
}
"#;

/// Whether windows are single pixels that lie as the results do: a plain product.
pub(super) fn is_pointwise(node: &NodeView, f: &Filter) -> Result<bool> {
    let all = |name: &str, value: i64| -> Result<bool> {
        Ok(node.attrs().ints(name)?.unwrap_or(&[]).iter().all(|&v| v == value))
    };
    Ok(f.groups == 1 && f.kernel.iter().all(|&k| k == 1) && all("strides", 1)? && all("pads", 0)?)
}

/// Windows at the bound sizes; one axis is a row of an image of height 1.
pub(super) fn window(args: &BindArgs, attrs: &Attrs, f: &Filter) -> Result<Window2> {
    let (x, y) = (args.shape(0)?, args.output(0)?);
    let [_, spatial @ .., channels] = x else { bail!(invalid, "an image of shape {x:?}") };
    if *channels != f.cin * f.groups {
        bail!(invalid, "a filter for {} channels cannot take {channels}", f.cin * f.groups);
    }
    let kernel: Vec<i64> = f.kernel.iter().map(|&k| k as i64).collect();
    let placed = Window::new(attrs, &kernel)?.place(spatial)?;
    makes(args, x[0] * f.cout * placed.out.iter().product::<usize>())?;
    if y.len() != x.len() || y[1..y.len() - 1] != placed.out[..] {
        bail!(invalid, "a result of shape {y:?} for shape {x:?}");
    }
    let two = |list: &[i64], fill: i64| -> [usize; 2] {
        match *list {
            [w] => [fill as usize, w as usize],
            [h, w] => [h as usize, w as usize],
            _ => [1, 1],
        }
    };
    let sizes = |list: &[usize]| two(&list.iter().map(|&n| n as i64).collect::<Vec<_>>(), 1);
    let pads = match placed.begin[..] {
        [w] => [0, w],
        [h, w] => [h, w],
        _ => bail!(unsupported, "windows over {} axes", placed.begin.len()),
    };
    Ok(Window2 {
        input: sizes(spatial),
        output: sizes(&placed.out),
        kernel: sizes(&f.kernel),
        strides: two(&placed.strides, 1),
        dilations: two(&placed.dilations, 1),
        pads,
        cin: f.cin,
        row: 0,
    })
}

/// The weights as [M][tap][channel], each row filled up with zeros to `pitch`.
/// A pixel has `cin` places, of which channels that are not there stay zero.
pub(super) fn rows_of<T: std::marker::Copy + Default>(data: &[T], f: &Filter, cin: usize, pitch: usize) -> Vec<T> {
    let taps: usize = f.kernel.iter().product();
    let mut rows = vec![T::default(); f.cout * pitch];
    for m in 0..f.cout {
        for c in 0..f.cin {
            for t in 0..taps {
                rows[m * pitch + t * cin + c] = data[(m * f.cin + c) * taps + t];
            }
        }
    }
    rows
}

fn weights<'a>(node: &'a NodeView) -> Result<&'a [f32]> {
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    w.get_slice().ok_or_else(|| Error::bug("weights that are not in single precision"))
}

/// The same as factors of type `of`.
pub(super) fn pack_rows(ctx: &Ctx, node: &NodeView, f: &Filter, of: DType, cin: usize, pitch: usize) -> Result<Tensor> {
    super::as_factors(&[f.cout, pitch], rows_of(weights(node)?, f, cin, pitch), of, exact(ctx, of))
}

fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let f = Filter::of(node)?;
    let of = narrow(ctx, node).ok_or_else(|| Error::bug("no narrow type for a convolution"))?;
    let mut types = types(node, of)?;
    if TILES[I].streams.is_some() && f.is_thin() {
        let fold = Fold::of(node, &f, of).ok_or_else(|| Error::bug("an image that does not fold"))?;
        let from = std::mem::replace(&mut types.x, of);
        let method = Method::packed(TILES[I], true, of);
        let code = ctx.code(&text(node, method, types, true)?)?;
        let folds = ctx.code(&fold.text(from, of, f.cin)?)?;
        return Ok(Packing {
            tensors: vec![
                code,
                super::as_factors(&[f.cout, fold.depth()], fold.rows(weights(node)?, &f), of, false)?,
                folds,
            ],
            consumed: vec![1],
        });
    }
    let x_copy = if f.is_thin() {
        types.x = of;
        Copy::Pixels
    } else if types.x == of && f.cin % 8 == 0 {
        Copy::Chunks
    } else {
        Copy::Elements
    };
    let conv = TILES[I].streams.is_none() || !is_pointwise(node, &f)?;
    let exact = exact(ctx, of);
    let method = Method::Mma { tile: TILES[I], conv, of, exact, x_copy, w_turned: false, w_async: true };
    let code = ctx.code(&text(node, method, types, !exact)?)?;
    if x_copy != Copy::Pixels {
        let rows = pack_rows(ctx, node, &f, of, f.cin, f.depth().next_multiple_of(8))?;
        return Ok(Packing { tensors: vec![code, rows], consumed: vec![1] });
    }
    let taps: usize = f.kernel.iter().product();
    let rows = pack_rows(ctx, node, &f, of, 4, (taps * 4).next_multiple_of(8))?;
    let widen = ctx.code(&format!(
        "typedef {} TX;\ntypedef {} T;\n#define CHANNELS {}\n{WIDEN}",
        super::c_type(super::dtype(node, 0)?)?,
        super::c_type(of)?,
        f.cin
    ))?;
    Ok(Packing { tensors: vec![code, rows, widen], consumed: vec![1] })
}

fn load<const I: usize>(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let of = packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?.dtype();
    let f = Filter::of(node)?;
    if TILES[I].streams.is_some() && f.is_thin() {
        return load_folded(ctx, node, packed, TILES[I]);
    }
    let conv = TILES[I].streams.is_none() || !is_pointwise(node, &f)?;
    let method = Method::packed(TILES[I], conv, of);
    load_as(ctx, node, packed, method)
}

/// A convolution of an image of few channels: folded, then a product of rows of folded pixels.
fn load_folded(ctx: &Ctx, node: &NodeView, packed: &[Tensor], tile: Tile) -> Result<Box<dyn Kernel>> {
    let missing = || Error::invalid("packed weights are missing");
    let f = Filter::of(node)?;
    let weights = packed.get(1).ok_or_else(missing)?;
    let of = weights.dtype();
    let fold = Fold::of(node, &f, of).ok_or_else(|| Error::bug("an image that does not fold"))?;
    let method = Method::packed(tile, true, of);
    let product = Product::load(ctx, packed.first(), method, Types { x: of, ..types(node, of)? })?;
    let folds = ctx.function(Some(packed.get(2).ok_or_else(missing)?), "fold", 0)?;
    let weights = ctx.weights(weights)?;
    let attrs = node.attrs().clone();
    kernel(move |args| {
        let window = window(args, &attrs, &f)?;
        epilogue_fits(args, f.cout)?;
        let (images, out) = (args.shape(0)?[0], window.output);
        counts(args.shape(0)?.iter().product())?;
        let (sizes, folding) = fold.place(&f, window, images)?;
        let plan = product.plan(sizes)?;
        let (product, weights, folds) = (product.clone(), weights.clone(), folds.clone());
        let flops = 2 * images * out[0] * out[1] * f.cout * f.depth();
        let own = plan.workspace().next_multiple_of(256);
        let scratch = own + folding.elements() * of.bytes_for(1);
        bound(move |io| {
            let (bias, residual) = (io.input(2), io.input(3));
            // SAFETY: buffers have the bound sizes, the weights were packed for this node; the folded image lies behind the product's
            // own workspace.
            unsafe {
                let image = io.workspace.add(own);
                folding.run(&folds, io, io.input(0), image, 0.0)?;
                product.run(&plan, io, image.cast_const(), weights.ptr(), bias, residual, io.output(0))
            }
        })
        .workspace(scratch)
        .flops(flops)
        .boxed()
    })
}

fn pack_plain(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let f = Filter::of(node)?;
    let code = ctx.code(&text(node, Method::Simt { conv: true }, types(node, DType::F32)?, false)?)?;
    let rows = Tensor::from_slice(&[f.cout, f.depth()], &rows_of(weights(node)?, &f, f.cin, f.depth()));
    Ok(Packing { tensors: vec![code, rows], consumed: vec![1] })
}

fn load_plain(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    load_as(ctx, node, packed, Method::Simt { conv: true })
}

fn load_as(ctx: &Ctx, node: &NodeView, packed: &[Tensor], method: Method) -> Result<Box<dyn Kernel>> {
    let f = Filter::of(node)?;
    let weights = packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?;
    let product = Product::load(ctx, packed.first(), method, types(node, weights.dtype())?)?;
    let pitch = weights.shape().get(1).copied().unwrap_or(0);
    let weights = ctx.weights(weights)?;
    let attrs = node.attrs().clone();
    let simt = matches!(method, Method::Simt { .. });
    let of = product.operand_type();
    let widen = packed.get(2).map(|code| ctx.function(Some(code), "widen", 0)).transpose()?;
    kernel(move |args| {
        let mut window = window(args, &attrs, &f)?;
        epilogue_fits(args, f.cout)?;
        let pixels = window.output[0] * window.output[1];
        let (n, images) = (f.cout / f.groups, args.shape(0)?[0]);
        counts(args.shape(0)?.iter().product())?;
        let (ldw, w_n) = if simt { (1, pitch) } else { (pitch, 0) };
        let image = images * window.input[0] * window.input[1];
        let cin = if widen.is_some() { 4 } else { f.cin };
        window.cin = cin;
        let sizes = Sizes {
            m: images * pixels,
            n,
            k: f.depth() / f.cin.max(1) * cin,
            ldx: cin * f.groups,
            ldw,
            w_n,
            ldy: f.cout,
            // Groups are batches whose channels lie side by side.
            batch: [f.groups, 1],
            x_step: [f.cin, 0],
            w_step: [n * pitch, 0],
            y_step: [n, 0],
            window: Some(window),
        };
        let plan = product.plan(sizes)?;
        let (product, weights, widen) = (product.clone(), weights.clone(), widen.clone());
        let flops = plan.flops();
        // The widened image lies behind the product's own workspace.
        let own = plan.workspace().next_multiple_of(256);
        let workspace = own + if widen.is_some() { image * 4 * of.bytes_for(1) } else { 0 };
        bound(move |io| {
            let (mut x, bias, residual) = (io.input::<u8>(0), io.input(2), io.input(3));
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe {
                if let Some(widen) = &widen {
                    let wide = io.workspace.add(own);
                    let p = Params::new().ptr(x).ptr(wide.cast_const()).u32(image).finish();
                    widen.run(io, [image.div_ceil(256), 1, 1], 256, 0, &p)?;
                    x = wide.cast_const();
                }
                product.run(&plan, io, x, weights.ptr(), bias, residual, io.output(0))
            }
        })
        .workspace(workspace)
        .flops(flops)
        .boxed()
    })
}

/// Copies pixels of a few channels to pixels of four.
const WIDEN: &str = r#"
struct P { const TX* x; T* y; u32 count; };
KERNEL(256, widen, P) {
    u32 index = blockIdx.x * 256 + threadIdx.x;
    if (index >= p.count) return;
    Pack<T, 4> out;
    PRAGMA_UNROLL for (int c = 0; c < 4; c++) out.at[c] = put<T>(c < CHANNELS ? get<f32>(p.x[(i64)index * CHANNELS + min(c, CHANNELS - 1)]) : 0.0f);
    *(Pack<T, 4>*)(p.y + (i64)index * 4) = out;
}
"#;
