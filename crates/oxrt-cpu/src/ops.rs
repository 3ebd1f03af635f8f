//! Which nodes the backend runs, and how: one file per family of operators, one list.
//!
//! A family's functions see the node's types and attributes; `supports` is asked at build time only, `load` must not look at
//! constants that `pack` consumed (they are not in the engine).

mod attention;
mod attention_any;
mod bf16;
mod bf16_taps;
mod block_gemm;
mod causal_conv;
mod col2_im;
mod conv;
mod conv_any;
mod conv_transpose;
mod copy;
mod deform_conv;
mod elementwise;
mod fill;
mod fold;
mod gemm;
mod gemm_any;
mod grid_sample;
mod index;
mod linear_attention;
mod make;
mod norm;
mod norm_any;
mod pool;
mod pool_any;
mod product;
mod q_conv;
mod q_gemm;
mod q_integer;
mod q_misc;
mod quantised;
mod quantize;
mod recurrent;
mod recurrent_any;
mod reduce;
mod resize;
mod roi_align;
mod select;
mod spectral;
mod wide;

use crate::backend::Ctx;
use crate::kernels::activation::Act;
use crate::kernels::elementwise::Format;
use oxrt_backend::geometry::axis_of;
use oxrt_backend::{BindArgs, Kernel, NodeView, Packing};
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_tensor::{Error, Result};

/// One way to run some operators.
pub(crate) struct Entry {
    /// The candidate's name.
    pub name: &'static str,
    /// Operators it may run; empty when `supports` looks at the name itself.
    pub ops: &'static [&'static str],
    /// `Some` when it can run this node for all of its sizes.
    pub supports: fn(&NodeView) -> Option<()>,
    /// Packs constants.
    pub pack: fn(&Ctx, &NodeView) -> Result<Packing>,
    /// Makes the kernel.
    pub load: fn(&Ctx, &NodeView, &[Tensor]) -> Result<Box<dyn Kernel>>,
}

/// Every entry; earlier ones are preferred.
pub(crate) static OPS: &[&Entry] = &[
    &conv::WINOGRAD_4,
    &conv::WINOGRAD_2,
    &conv::CONV,
    &conv::CONV_NCHW,
    &conv_transpose::CONV_TRANSPOSE,
    &conv_any::CONV_ANY,
    &conv_any::TRANSPOSED_ANY,
    &deform_conv::DEFORM_CONV,
    &deform_conv::DEFORM_CONV_F64,
    &col2_im::COL2_IM,
    &attention::ATTENTION,
    &attention_any::ATTENTION_ANY,
    &linear_attention::LINEAR_ATTENTION,
    &causal_conv::CAUSAL_CONV,
    &recurrent::RECURRENT,
    &recurrent_any::RECURRENT_ANY,
    &q_conv::CONV,
    &block_gemm::BLOCK_GEMM,
    &block_gemm::GATHER_BLOCKS,
    &q_gemm::GEMM,
    &q_gemm::MATMUL,
    &q_integer::MATMUL_PACKED,
    &q_integer::MATMUL,
    &q_integer::CONV,
    &q_integer::DYNAMIC,
    &q_misc::BINARY,
    &q_misc::LOOKUP,
    &q_misc::GLOBAL,
    &q_misc::MAX_POOL,
    &pool::WINDOW,
    &pool::GLOBAL,
    &pool_any::POOL_ANY,
    &reduce::REDUCE,
    &fold::FOLD,
    &reduce::ARG,
    &resize::RESIZE,
    &grid_sample::GRID_SAMPLE,
    &roi_align::ROI_ALIGN,
    &resize::BYTES,
    &resize::NEAREST,
    &resize::ANY,
    &gemm::PACKED,
    &gemm::DYNAMIC,
    &product::PRODUCT,
    &gemm_any::GEMM_ANY,
    &elementwise::FLOATS,
    &wide::INTEGERS,
    &wide::DOUBLES,
    &norm::SOFTMAX_F16,
    &norm::SOFTMAX,
    &norm::ROWS,
    &norm::GROUPS,
    &norm::BATCH,
    &norm_any::LINES,
    &norm_any::ROWS,
    &norm_any::CHANNELS,
    &norm_any::LRN,
    &copy::TRANSPOSE,
    &copy::CONCAT,
    &copy::SPLIT,
    &copy::SLICE,
    &copy::EXPAND,
    &copy::RESHAPE,
    &fill::PAD,
    &fill::TILE,
    &fill::SHUFFLE,
    &fill::TRILU,
    &fill::CUMSUM,
    &fill::CAST,
    &quantize::QUANTIZE,
    &quantize::DEQUANTIZE,
    &index::GATHER,
    &index::GATHER_ELEMENTS,
    &index::GATHER_ND,
    &index::SCATTER_ELEMENTS,
    &index::SCATTER_ND,
    &spectral::DFT,
    &spectral::STFT,
    &select::TOP_K,
    &select::ONE_HOT,
    &select::HARDMAX,
    &make::RANGE,
    &make::CONSTANT,
    &make::EYE,
];

/// Elementwise work on floats of any width.
pub(crate) use elementwise::FLOATS;

/// Entries that multiply in bfloat16: taken where the caller allows that precision or the operands have it already.
pub(crate) static BF16_OPS: &[&Entry] = &[
    &bf16::CONV,
    &bf16::GEMM,
    &bf16_taps::DEPTHWISE,
    &bf16_taps::MAX_POOL,
    &bf16_taps::MEAN,
    &recurrent::RECURRENT_BF16,
];

/// An entry, and whether it can run a node.
pub(crate) type Rival = (&'static Entry, fn(&NodeView) -> Option<()>);

/// Ways to do the same work whose speeds depend on sizes and machine more than an estimate can say; the most exact first.
pub(crate) static RIVALS: &[Rival] = &[
    (&conv::CONV, conv::supports),
    (&conv::WINOGRAD_2, conv::winograd_fits),
    (&conv::WINOGRAD_4, conv::winograd_fits),
    (&bf16::CONV, bf16::conv_supports),
    (&gemm::PACKED, gemm::packed_supports),
    (&bf16::GEMM, bf16::gemm_supports),
];

pub(crate) use conv::extra_bytes;

/// Nothing to pack.
fn pack_nothing(_: &Ctx, _: &NodeView) -> Result<Packing> {
    Ok(Packing::default())
}

/// `Some` when the condition holds.
fn require(condition: bool) -> Option<()> {
    condition.then_some(())
}

/// `Some` when input `i` is absent or holds `f32`.
fn float_or_absent(node: &NodeView, i: usize) -> Option<()> {
    require(!node.has(i) || node.dtype(i) == Some(DType::F32))
}

/// `Some` when input `i` is there and holds `f32`.
fn float(node: &NodeView, i: usize) -> Option<()> {
    require(node.dtype(i) == Some(DType::F32))
}

/// The shape of an input that is a constant, also after its elements were packed away.
fn static_shape(node: &NodeView, i: usize) -> Option<Vec<usize>> {
    node.ty(i)?.static_shape()
}

/// [`static_shape`] at load time, when it must be there.
fn known_shape(node: &NodeView, i: usize) -> Result<Vec<usize>> {
    static_shape(node, i)
        .ok_or_else(|| Error::bug(format!("the shape of input {i} is not fixed")).at(node.node().describe()))
}

/// The fused activation of a node.
fn activation(attrs: &Attrs) -> Result<Act> {
    let number = |name: &str, default: f32| attrs.float_or(name, default);
    Ok(match attrs.string_or("activation", "none")? {
        "" | "none" => Act::None,
        "relu" => Act::Relu,
        "clip" => Act::Clip(number("act_alpha", f32::NEG_INFINITY)?, number("act_beta", f32::INFINITY)?),
        "leaky" | "leaky_relu" => Act::Leaky(number("act_alpha", 0.01)?),
        "sigmoid" => Act::Sigmoid,
        "silu" | "swish" => Act::Silu,
        "hard_sigmoid" => Act::HardSigmoid(number("act_alpha", 0.2)?, number("act_beta", 0.5)?),
        "hard_swish" => Act::HardSwish,
        "gelu" | "gelu_erf" => Act::GeluErf,
        "gelu_tanh" => Act::GeluTanh,
        "tanh" => Act::Tanh,
        other => return Err(Error::unsupported(format!("the fused activation `{other}`"))),
    })
}

/// The element format of the elementwise interpreter, where it has one.
fn format(dtype: DType) -> Option<Format> {
    Some(match dtype {
        DType::F32 => Format::F32,
        DType::F16 => Format::F16,
        DType::BF16 => Format::Bf16,
        DType::Bool => Format::Bool,
        DType::U8 => Format::U8,
        DType::I8 => Format::I8,
        DType::I32 => Format::I32,
        DType::I64 => Format::I64,
        _ => return None,
    })
}

/// Refuses a result that does not have `len` elements. Sizes that depend on data are learned during a run, and a kernel
/// writes as many elements as its operands say.
fn makes(args: &BindArgs, len: usize) -> Result<()> {
    let shape = args.output(0)?;
    if shape.iter().product::<usize>() == len {
        return Ok(());
    }
    Err(Error::invalid(format!("a result of shape {shape:?} for {len} elements")))
}

/// Refuses input `i`, where there is one, unless it has `len` elements.
fn holds(args: &BindArgs, i: usize, len: usize) -> Result<()> {
    match args.opt_shape(i) {
        Some(shape) if shape.iter().product::<usize>() != len => {
            Err(Error::invalid(format!("input {i} of shape {shape:?}, where {len} elements are needed")))
        }
        _ => Ok(()),
    }
}

/// Non-negative attribute integers as sizes.
fn sizes(values: &[i64]) -> Option<Vec<usize>> {
    values.iter().map(|&v| usize::try_from(v).ok()).collect()
}

/// An owned `f32` tensor as packed weights.
fn packed_tensor(values: &[f32]) -> Tensor {
    Tensor::from_slice(&[values.len()], values)
}

/// The floats of packed tensor `i`, checked to be `len` long, as an owner that keeps them alive.
fn packed_floats(packed: &[Tensor], i: usize, len: usize) -> Result<Tensor> {
    let tensor = packed.get(i).ok_or_else(|| Error::invalid("packed weights are missing"))?;
    match tensor.get_slice::<f32>() {
        Some(floats) if floats.len() == len => Ok(tensor.clone()),
        _ => Err(Error::invalid(format!("packed weights are {tensor:?}, not {len} floats"))
            .help("the engine was built for another CPU target; build it again")),
    }
}

#[cfg(test)]
mod any_tests;
#[cfg(test)]
mod block_tests;
#[cfg(test)]
mod nn_tests;
#[cfg(test)]
mod q_tests;
#[cfg(test)]
mod reference_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod type_tests;
