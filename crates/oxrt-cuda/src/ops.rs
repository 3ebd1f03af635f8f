//! Which nodes the backend runs, and how: one file per family of operators, one list.
//!
//! A family writes the kernel text for the node's element types when an engine is built (`pack`); sizes are fixed when they
//! are bound, so one text serves all of them.

/// Entries `S9` to `S18` of a family, one for each tile that streams, by its functions `pack` and `load`.
macro_rules! stream_entries {
    ($family:literal, $ops:expr, $supports:ident, mixes: $mixes:literal, narrow: $narrow:literal) => {
        stream_entries!(@ $family, $ops, $supports, $mixes, $narrow, 9 S9 "256x128" 10 S10 "128x192" 11 S11 "128x128" 12 S12 "256x64"
            13 S13 "128x64" 14 S14 "128x64_two" 15 S15 "64x64" 16 S16 "128x128_turns" 17 S17 "256x64_turns" 18 S18 "192x192" 19 S19 "192x128_turns");
    };
    (@ $family:literal, $ops:expr, $supports:ident, $mixes:literal, $narrow:literal, $($i:literal $id:ident $tile:literal)*) => {
        $(pub(super) const $id: Entry = Entry {
            mixes: $mixes,
            narrow: $narrow,
            timed: true,
            ..Entry::new(concat!($family, "_stream_", $tile), $ops, $supports, pack::<$i>, load::<$i>)
        };)*
    };
}

mod attention;
mod channels;
mod col2im;
mod conv;
mod conv_any;
mod copy;
pub(crate) mod cudnn;
mod cudnn_attention;
mod deform_conv;
mod depthwise;
mod dft;
mod each;
mod elementwise;
mod f8;
mod fill;
mod gemm;
mod gemm_any;
mod grid_sample;
mod hardmax;
mod index;
mod library;
mod linear_attention;
mod map;
mod moves;
mod non_max_suppression;
mod non_zero;
mod norm;
mod norm_any;
mod norm_gemm;
mod pad;
mod pool;
mod pool_any;
mod product;
mod q_line;
mod q_misc;
mod q_product;
mod q_stream;
mod quantize;
mod recurrent;
mod reduce;
mod resize;
mod roi_align;
mod rotary;
mod running;
mod scatter;
mod top_k;
mod unique;
mod windows;

use crate::backend::Ctx;
use oxrt_backend::geometry::{axis_of, contiguous, ints, known};
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// One way to run some operators.
pub(crate) struct Entry {
    /// The candidate's name.
    pub name: &'static str,
    /// Operators it may run; empty when `supports` looks at the name itself.
    pub ops: &'static [&'static str],
    /// `Some` when it can run this node for all of its sizes.
    pub supports: fn(&Ctx, &NodeView) -> Option<()>,
    /// Compiles, and packs constants.
    pub pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    /// Makes the kernel.
    pub load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
    /// Whether each float operand may come in single precision or narrower.
    pub mixes: bool,
    /// Whether it multiplies in the build's precision.
    pub narrow: bool,
    /// Whether only a measurement tells it from other timed entries.
    pub timed: bool,
    /// Whether it is for nodes whose data decides the size of their results.
    pub counts: bool,
}

impl Entry {
    const fn new(
        name: &'static str,
        ops: &'static [&'static str],
        supports: fn(&Ctx, &NodeView) -> Option<()>,
        pack: fn(&Ctx, &NodeView) -> Result<Packing>,
        load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
    ) -> Entry {
        Entry { name, ops, supports, pack, load, mixes: true, narrow: false, timed: false, counts: false }
    }
}

/// Every entry; earlier ones are preferred.
pub(crate) static OPS: &[&Entry] = &[
    &depthwise::DEPTHWISE,
    &conv::C0,
    &conv::C1,
    &conv::C2,
    &conv::C3,
    &conv::C4,
    &conv::C5,
    &conv::C6,
    &conv::C7,
    &conv::C8,
    &conv::C9,
    &conv::C10,
    &conv::C11,
    &conv::C12,
    &conv::C13,
    &conv::C14,
    &conv::C15,
    &conv::C16,
    &conv::C17,
    &conv::C18,
    &conv::C19,
    &library::CONV,
    &cudnn::C0,
    &cudnn::C1,
    &cudnn::C2,
    &cudnn::C3,
    &conv::PLAIN,
    &conv_any::CONV_ANY,
    &deform_conv::DEFORM_CONV,
    &col2im::COL2IM,
    &gemm::G0,
    &gemm::G1,
    &gemm::G2,
    &gemm::G3,
    &gemm::G4,
    &gemm::G5,
    &gemm::G6,
    &gemm::G7,
    &gemm::G8,
    &gemm::G9,
    &gemm::G10,
    &gemm::G11,
    &gemm::G12,
    &gemm::G13,
    &gemm::G14,
    &gemm::G15,
    &gemm::G16,
    &gemm::G17,
    &gemm::G18,
    &gemm::G19,
    &library::GEMM,
    &gemm::PLAIN,
    &gemm::M0,
    &gemm::M1,
    &gemm::M2,
    &gemm::M3,
    &gemm::M4,
    &gemm::M5,
    &gemm::M6,
    &gemm::M7,
    &gemm::PLAIN_MATMUL,
    &gemm_any::GEMM_ANY,
    &norm_gemm::S9,
    &norm_gemm::S10,
    &norm_gemm::S11,
    &norm_gemm::S12,
    &norm_gemm::S13,
    &norm_gemm::S14,
    &norm_gemm::S15,
    &norm_gemm::S16,
    &norm_gemm::S17,
    &norm_gemm::S18,
    &norm_gemm::S19,
    &attention::ATTENTION_WGMMA,
    &attention::ATTENTION_WGMMA_TWO,
    &attention::ATTENTION,
    &cudnn_attention::A0,
    &cudnn_attention::A1,
    &linear_attention::LINEAR_ATTENTION,
    &linear_attention::CAUSAL_CONV,
    &recurrent::RECURRENT,
    &depthwise::BYTES,
    &q_product::MMA_64,
    &q_product::MMA_128,
    &q_product::MMA_32,
    &q_stream::S9,
    &q_stream::S10,
    &q_stream::S11,
    &q_stream::S12,
    &q_stream::S13,
    &q_stream::S14,
    &q_stream::S15,
    &q_stream::S16,
    &q_stream::S17,
    &q_stream::S18,
    &q_stream::S19,
    &q_product::FUSED,
    &f8::S9,
    &f8::S10,
    &f8::S11,
    &f8::S12,
    &f8::S13,
    &f8::S14,
    &f8::S15,
    &f8::S16,
    &f8::S17,
    &f8::S18,
    &f8::S19,
    &f8::DEPTHWISE,
    &f8::PLAIN,
    &q_product::INTEGER,
    &q_misc::BINARY,
    &q_misc::LOOKUP,
    &q_misc::GLOBAL,
    &q_misc::DYNAMIC,
    &pool::POOL,
    &pool_any::POOL_ANY,
    &reduce::REDUCE,
    &reduce::ARG,
    &resize::RESIZE,
    &norm::ROWS,
    &norm::GROUPS,
    &norm_any::NORM_ANY,
    &channels::BATCH,
    &channels::LRN,
    &hardmax::HARDMAX,
    &copy::SELECT,
    &index::GATHER,
    &index::GATHER_ELEMENTS,
    &index::SCATTER_ELEMENTS,
    &index::GATHER_ND,
    &index::SCATTER_ND,
    &scatter::SCATTER,
    &elementwise::ELEMENTWISE,
    &elementwise::CAST,
    &copy::FEW_LAST,
    &copy::TRANSPOSE,
    &copy::CONCAT,
    &copy::SPLIT,
    &copy::SLICE,
    &copy::EXPAND,
    &copy::TILE,
    &copy::SHUFFLE,
    &copy::RESHAPE,
    &pad::PAD,
    &fill::TRILU,
    &fill::ONE_HOT,
    &fill::RANGE,
    &fill::EYE,
    &fill::CONSTANT,
    &running::RUNNING,
    &top_k::TOP_K,
    &dft::DFT,
    &grid_sample::GRID_SAMPLE,
    &roi_align::ROI_ALIGN,
    &rotary::ROTARY,
    &moves::REVERSE,
    &moves::CACHE,
    &moves::UNPOOL,
    &moves::BIT_CAST,
    &non_zero::NON_ZERO,
    &non_zero::COMPRESS,
    &non_max_suppression::NON_MAX_SUPPRESSION,
    &unique::UNIQUE,
    &quantize::QUANTIZE,
    &quantize::DEQUANTIZE,
];

/// `Some` when the condition holds.
fn require(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// An element type of a node's operand that was there when it was chosen.
fn dtype(node: &NodeView, i: usize) -> Result<DType> {
    node.dtype(i).ok_or_else(|| Error::bug(format!("input {i} has no element type")))
}

fn output_dtype(node: &NodeView, i: usize) -> Result<DType> {
    let ty = node.node().output(i).and_then(|v| node.graph[v].ty.dtype());
    ty.ok_or_else(|| Error::bug(format!("output {i} has no element type")))
}

/// The C name of an element type that `supports` let through.
fn c_type(dtype: DType) -> Result<&'static str> {
    if dtype == DType::F8E4M3FN {
        return Ok("f8e4m3");
    }
    crate::text::stored(dtype).ok_or_else(|| Error::bug(format!("{dtype} has no C type")))
}

/// Non-negative attribute integers as sizes.
fn sizes(values: &[i64]) -> Option<Vec<usize>> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

/// Refuses a result that does not have `len` elements: a kernel writes as many as its operands say.
fn makes(args: &BindArgs, len: usize) -> Result<()> {
    let shape = args.output(0)?;
    if shape.iter().product::<usize>() != len {
        bail!(invalid, "a result of shape {shape:?} for {len} elements");
    }
    Ok(())
}

/// Refuses output `i`, where there is one, unless it has `len` elements.
fn holds_output(args: &BindArgs, i: usize, len: usize) -> Result<()> {
    match args.outputs.get(i).copied().flatten() {
        Some(shape) if shape.iter().product::<usize>() != len => {
            bail!(invalid, "output {i} of shape {shape:?}, where {len} elements are made")
        }
        _ => Ok(()),
    }
}

/// Refuses input `i`, where there is one, unless it has `len` elements.
fn holds(args: &BindArgs, i: usize, len: usize) -> Result<()> {
    match args.opt_shape(i) {
        Some(shape) if shape.iter().product::<usize>() != len => {
            bail!(invalid, "input {i} of shape {shape:?}, where {len} elements are needed")
        }
        _ => Ok(()),
    }
}

/// Refuses sizes that 31 bits do not count: kernels compute places with them.
fn counts(len: usize) -> Result<usize> {
    if len >= 1 << 31 {
        bail!(unsupported, "{len} elements in one tensor; the CUDA kernels count to 2³¹");
    }
    Ok(len)
}

/// Floats as a tensor of a float type.
/// Values as factors of products on matrix units: of type `of`, and in single precision, unless the product is exact, rounded
/// to what the units take (they would cut the rest off).
fn as_factors(shape: &[usize], mut values: Vec<f32>, of: DType, exact: bool) -> Result<Tensor> {
    if of == DType::F32 && !exact {
        for v in values.iter_mut().filter(|v| v.is_finite()) {
            let bits = v.to_bits();
            *v = f32::from_bits((bits + 0xfff + (bits >> 13 & 1)) & !0x1fff);
        }
    }
    as_type(shape, &values, of)
}

fn as_type(shape: &[usize], values: &[f32], dtype: DType) -> Result<Tensor> {
    let out = match dtype {
        DType::F16 => {
            let halves: Vec<half::f16> = values.iter().map(|&v| half::f16::from_f32(v)).collect();
            Tensor::from_slice(shape, &halves)
        }
        DType::BF16 => {
            let halves: Vec<half::bf16> = values.iter().map(|&v| half::bf16::from_f32(v)).collect();
            Tensor::from_slice(shape, &halves)
        }
        DType::F32 => Tensor::from_slice(shape, values),
        other => bail!(bug, "weights in {other}"),
    };
    Ok(out)
}

#[cfg(test)]
mod counted_tests;
#[cfg(test)]
mod decoder_tests;
#[cfg(test)]
mod norm_gemm_tests;
#[cfg(test)]
mod q_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wide_tests;
