//! Depthwise convolution, channels last, of floats and of bytes.

use super::conv::{Filter, supports as conv_supports, window};
use super::gemm::{epilogue_fits, narrow, types};
use super::product::Window2;
use super::q_product::{end_text, ends, ends_fit, fused_supports, has_text, is_small, numbers, row_residual};
use super::{Entry, c_type, counts, dtype, output_dtype, require};
use crate::backend::{Ctx, Launcher};
use crate::gpu::Params;
use crate::text::{self, Number};
use oxrt_backend::{BindArgs, Io, Kernel, NodeView, Packing, bound, kernel};
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::Arc;

const TEXT: &str = include_str!("../text/depthwise.cuh");

pub(super) const DEPTHWISE: Entry = Entry::new("depthwise", &["oxrt.Conv"], supports, pack, load);
pub(super) const BYTES: Entry =
    super::each::strict("q_depthwise", &["oxrt.QConv"], bytes_supports, pack_bytes, load_bytes);

/// Widest kernel whose taps are held in registers.
const WIDEST: usize = 7;

/// How the kernel shares its work.
struct Pieces {
    /// Channels of a thread.
    vector: usize,
    /// The same where there is little work, of one pixel.
    few: usize,
    /// Neighbouring pixels of a thread.
    pixels: usize,
    /// Whether a thread reads every pixel of a row once; kernel and stride along it are those of the text.
    in_rows: bool,
    kernel_w: usize,
    stride_w: usize,
}

impl Pieces {
    fn of(node: &NodeView, f: &Filter) -> Result<Pieces> {
        let last = |name: &str| -> Result<usize> {
            let list = node.attrs().ints(name)?.and_then(|l| l.last().copied());
            Ok(usize::try_from(list.unwrap_or(1)).unwrap_or(1))
        };
        let kernel_w = f.kernel.last().copied().unwrap_or(1);
        let (stride_w, dilation_w) = (last("strides")?, last("dilations")?);
        let in_rows = kernel_w <= WIDEST && stride_w <= 2 && dilation_w == 1;
        // Sums and taps of a row fill the registers.
        let most = if in_rows && kernel_w > 3 { 4 } else { 8 };
        let vector = [8, 4, 2].into_iter().find(|v| *v <= most && f.cout.is_multiple_of(*v)).unwrap_or(1);
        // Bytes become numbers by four.
        let narrow = if node.op() == "oxrt.QConv" { 4 } else { 2 };
        let few = [narrow, 2].into_iter().find(|v| f.cout.is_multiple_of(*v)).unwrap_or(1);
        Ok(Pieces { vector, few, pixels: if in_rows && kernel_w > 3 { 8 } else { 4 }, in_rows, kernel_w, stride_w })
    }
}

/// The text; `before` defines the types of operands and what a sum ends with.
fn whole_text(node: &NodeView, f: &Filter, before: &str) -> Result<String> {
    let pieces = Pieces::of(node, f)?;
    Ok(format!(
        "#define VECTOR {}\n#define PIXELS {}\n#define IN_ROWS {}\n#define KERNEL_W {}\n#define STRIDE_W {}\n#define FEW {}\n{before}{TEXT}",
        pieces.vector, pieces.pixels, pieces.in_rows, pieces.kernel_w, pieces.stride_w, pieces.few
    ))
}

/// The weights, neighbouring channels side by side.
fn turned<T: Copy>(data: &[T], f: &Filter) -> Vec<T> {
    let taps: usize = f.kernel.iter().product();
    (0..taps * f.cout).map(|i| data[i % f.cout * taps + i / f.cout]).collect()
}

/// A compiled text.
struct Depthwise {
    /// Large pieces for each thread share loads; small ones fill the GPU.
    launchers: [Launcher; 2],
    processors: usize,
    pieces: Pieces,
    filter: Filter,
    attrs: Attrs,
}

/// The same at the bound sizes.
struct Placed {
    few: usize,
    count: usize,
    window: Window2,
    groups: usize,
    columns: usize,
    flops: usize,
}

impl Depthwise {
    fn load(ctx: &Ctx, node: &NodeView, code: Option<&Tensor>) -> Result<Arc<Depthwise>> {
        let filter = Filter::of(node)?;
        Ok(Arc::new(Depthwise {
            launchers: [ctx.function(code, "depthwise", 0)?, ctx.function(code, "depthwise_few", 0)?],
            processors: ctx.gpu.processors() as usize,
            pieces: Pieces::of(node, &filter)?,
            filter,
            attrs: node.attrs().clone(),
        }))
    }

    fn place(&self, args: &BindArgs) -> Result<Placed> {
        let (f, pieces) = (&self.filter, &self.pieces);
        let window = window(args, &self.attrs, f)?;
        let images = args.shape(0)?[0];
        counts(args.shape(0)?.iter().product())?;
        let large = images * window.output[0] * window.output[1].div_ceil(pieces.pixels) * (f.cout / pieces.vector);
        let few = usize::from(large < self.processors * 512);
        let [vector, wide] = if few == 1 { [pieces.few, 1] } else { [pieces.vector, pieces.pixels] };
        let groups = f.cout / vector;
        let columns = window.output[1].div_ceil(wide);
        let count = counts(images * window.output[0] * columns * groups)?;
        let flops = 2 * images * window.output[0] * window.output[1] * f.cout * window.kernel[0] * window.kernel[1];
        Ok(Placed { few, count, window, groups, columns, flops })
    }

    /// Queues it; `ends` are further parameters.
    ///
    /// # Safety
    /// Operands (x, w, bias, residual) and result have the bound sizes and the types of the text.
    unsafe fn run(
        &self,
        at: &Placed,
        io: &Io,
        operands: [*const u8; 4],
        ends: impl FnOnce(Params) -> Params,
    ) -> Result<()> {
        let win = &at.window;
        let p = operands.into_iter().fold(Params::new(), Params::ptr).ptr(io.output::<u8>(0));
        let p = p.u32(at.count).u32(self.filter.cout).u32(win.input[0]).u32(win.input[1]);
        let p = p.u32(win.output[0]).u32(win.output[1]).u32(win.kernel[0]).u32(win.kernel[1]);
        let p = p.i32(win.pads[0]).i32(win.pads[1]).u32(win.strides[0]).u32(win.strides[1]);
        let p = p.u32(win.dilations[0]).u32(win.dilations[1]).divider(at.groups).divider(at.columns.max(1));
        let p = ends(p.divider(win.output[0].max(1))).finish();
        // SAFETY: the caller's promise.
        unsafe { self.launchers[at.few].run(io, [at.count.div_ceil(256), 1, 1], 256, 0, &p) }
    }
}

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    conv_supports(ctx, node)?;
    require(Filter::of(node).ok()?.is_depthwise())
}

fn pack(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let f = Filter::of(node)?;
    let of = narrow(ctx, node).unwrap_or(DType::F32);
    let activate = text::activation(node.attrs(), Number::F32, of != DType::F32)?;
    let t = types(node, of)?;
    let before = format!(
        "#define QUANTA 0\ntypedef {} TX;\ntypedef {} T;\ntypedef {} TR;\ntypedef {} TY;\n\
         {activate}",
        c_type(t.x)?,
        c_type(of)?,
        c_type(t.residual)?,
        c_type(t.y)?
    );
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let weights = turned(&w.to_f32_cow()?, &f);
    let code = ctx.code(&whole_text(node, &f, &before)?)?;
    Ok(Packing { tensors: vec![code, super::as_type(&[weights.len()], &weights, of)?], consumed: vec![1] })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let depthwise = Depthwise::load(ctx, node, packed.first())?;
    let weights = ctx.weights(packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?)?;
    kernel(move |args| {
        let at = depthwise.place(args)?;
        epilogue_fits(args, depthwise.filter.cout)?;
        let (depthwise, weights, flops) = (depthwise.clone(), weights.clone(), at.flops);
        bound(move |io| {
            let operands = [io.input(0), weights.ptr().cast_const(), io.input(2), io.input(3)];
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe { depthwise.run(&at, io, operands, |p| p) }
        })
        .flops(flops)
        .boxed()
    })
}

/// Taps whose products of bytes single precision sums exactly.
const MOST_TAPS: usize = 256;

fn bytes_supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    require(!is_small(node))?;
    byte_filters(ctx, node)
}

/// Filters of bytes, and of floats of 8 bits.
pub(super) fn byte_filters(ctx: &Ctx, node: &NodeView) -> Option<()> {
    fused_supports(ctx, node)?;
    let weights = node.constant(1)?.dtype();
    require(matches!(weights, DType::I8 | DType::F8E4M3FN) && node.attrs().int_or("w_zero", 0).ok()? == 0)?;
    let f = Filter::of(node).ok()?;
    require(matches!(node.rank(0)?, 3 | 4) && f.is_depthwise() && f.depth() <= MOST_TAPS)
}

pub(super) fn pack_bytes(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let f = Filter::of(node)?;
    let before = format!(
        "#define QUANTA 1\n#define X_IS_NOT_T {}\ntypedef {} TX;\ntypedef {} T;\ntypedef {} TY;\n{}{}",
        u8::from(dtype(node, 0)? != dtype(node, 1)?),
        c_type(dtype(node, 0)?)?,
        c_type(dtype(node, 1)?)?,
        c_type(output_dtype(node, 0)?)?,
        has_text(node),
        end_text(ctx, node, ends(node.op()))?
    );
    let w = node.constant(1).ok_or_else(|| Error::bug("the weights are not constant"))?;
    let weights = turned(w.bytes(), &f);
    let code = ctx.code(&whole_text(node, &f, &before)?)?;
    let weights = Tensor::from_bytes(w.dtype(), &[weights.len()], &weights)?;
    Ok(Packing { tensors: vec![code, weights], consumed: vec![1] })
}

pub(super) fn load_bytes(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let depthwise = Depthwise::load(ctx, node, packed.first())?;
    let weights = ctx.weights(packed.get(1).ok_or_else(|| Error::invalid("packed weights are missing"))?)?;
    let ends = ends(node.op());
    let (whole, mut number) = numbers(node, ends)?;
    number[4] = node.attrs().float_or("scale", 1.0)?;
    let zero = node.attrs().int_or("x_zero", 0)?;
    let row = row_residual(node);
    kernel(move |args| {
        let at = depthwise.place(args)?;
        if ends_fit(args, ends, depthwise.filter.cout)? && !row {
            bail!(bug, "a residual of one row where more were known");
        }
        let (depthwise, weights, flops) = (depthwise.clone(), weights.clone(), at.flops);
        bound(move |io| {
            let operands = [io.input(0), weights.ptr().cast_const(), io.input(ends[1]), io.input(ends[2])];
            let end = |p: Params| {
                let p = p.ptr(io.input::<u8>(ends[0])).ptr(io.input::<u8>(ends[3])).ptr(io.input::<u8>(ends[4]));
                let p = p.i32(zero).i32s(&whole);
                number.into_iter().fold(p, Params::f32)
            };
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe { depthwise.run(&at, io, operands, end) }
        })
        .flops(flops)
        .boxed()
    })
}
