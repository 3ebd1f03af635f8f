//! What is asked of cuDNN: graphs of operations, in plain data, and the library's descriptors of them.

use super::{Descriptor, Functions, Handle};
use cudarc::cudnn::sys::{
    self, cudnnBackendAttributeName_t as Name, cudnnBackendAttributeType_t as Type,
    cudnnBackendDescriptorType_t as Kind, cudnnPointwiseMode_t as Mode,
};
use oxrt_tensor::{DType, Result, bail};
use std::fmt;
use std::sync::Arc;

/// A graph of operations of fixed sizes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Graph {
    Conv(ConvGraph),
    Attention(AttentionGraph),
}

impl fmt::Display for Graph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        match self {
            Graph::Conv(g) => g.fmt(f),
            Graph::Attention(g) => g.fmt(f),
        }
    }
}

/// What operands of a graph are known by: image, weights, result, bias, residual.
pub const X: i64 = 1;
pub const W: i64 = 2;
pub const Y: i64 = 3;
pub const BIAS: i64 = 4;
pub const RESIDUAL: i64 = 5;
/// Queries, keys, values, and the factor of their products, which lies on the host.
pub const Q: i64 = 6;
pub const K: i64 = 7;
pub const V: i64 = 8;
pub const SCALE: i64 = 9;
/// The first of what lies between operations.
const BETWEEN: i64 = 16;

/// A convolution, channels last, and what follows it: y = activation(conv(x, w) + residual + bias). All operands but the bias are
/// of one type; sums, and what follows them, are in single precision.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ConvGraph {
    pub of: DType,
    /// Images, channels, height, width.
    pub x: [usize; 4],
    pub y: [usize; 4],
    /// Maps, channels of a group, height, width.
    pub w: [usize; 4],
    pub strides: [usize; 2],
    pub dilations: [usize; 2],
    pub pads_begin: [usize; 2],
    pub pads_end: [usize; 2],
    /// Its type: the library's ready kernels take one like the other operands, those that it compiles one in single precision as well.
    pub bias: Option<DType>,
    pub residual: bool,
    pub activation: Option<Activation>,
}

/// An activation as cuDNN has it: a mode, and its parameters as bits of doubles.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Activation {
    mode: Mode,
    parameters: Vec<(Name, u64)>,
}

impl Activation {
    /// By its name in `oxrt_ops::activation`; `None` for one that the library does not have.
    pub fn named(name: &str, alpha: f32, beta: f32) -> Option<Activation> {
        use Mode::*;
        use Name::*;
        let of = |mode, parameters: &[(Name, f32)]| {
            let finite = parameters.iter().filter(|p| p.1.is_finite());
            Some(Activation { mode, parameters: finite.map(|&(n, v)| (n, f64::from(v).to_bits())).collect() })
        };
        match name {
            "relu" => of(CUDNN_POINTWISE_RELU_FWD, &[]),
            "leaky_relu" => of(CUDNN_POINTWISE_RELU_FWD, &[(CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP_SLOPE, alpha)]),
            "clip" => {
                // A lower limit that is infinite would leave the operation's own, zero.
                let limits = [
                    (CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP, alpha.max(f32::MIN)),
                    (CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP, beta),
                ];
                of(CUDNN_POINTWISE_RELU_FWD, &limits)
            }
            "elu" => of(CUDNN_POINTWISE_ELU_FWD, &[(CUDNN_ATTR_POINTWISE_ELU_ALPHA, alpha)]),
            "sigmoid" => of(CUDNN_POINTWISE_SIGMOID_FWD, &[]),
            "tanh" => of(CUDNN_POINTWISE_TANH_FWD, &[]),
            "softplus" => of(CUDNN_POINTWISE_SOFTPLUS_FWD, &[]),
            "silu" => of(CUDNN_POINTWISE_SWISH_FWD, &[]),
            "swish" => of(CUDNN_POINTWISE_SWISH_FWD, &[(CUDNN_ATTR_POINTWISE_SWISH_BETA, alpha)]),
            "gelu" => of(CUDNN_POINTWISE_GELU_FWD, &[]),
            "gelu_tanh" => of(CUDNN_POINTWISE_GELU_APPROX_TANH_FWD, &[]),
            _ => None,
        }
    }
}

impl fmt::Display for ConvGraph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "conv of {} {:?} by {:?}, strides {:?}", self.of, self.x, self.w, self.strides)?;
        write!(f, ", dilations {:?}, pads {:?} {:?}", self.dilations, self.pads_begin, self.pads_end)?;
        for step in self.steps() {
            match step {
                Follows::Residual => write!(f, " + residual")?,
                Follows::Bias(of) => write!(f, " + {of} bias")?,
                Follows::Activation(a) => {
                    write!(f, ", {:?}", a.mode)?;
                    for (name, bits) in &a.parameters {
                        write!(f, " {name:?} {}", f64::from_bits(*bits))?;
                    }
                }
            }
        }
        Ok(())
    }
}

/// An operation behind the convolution.
enum Follows<'a> {
    Residual,
    Bias(DType),
    Activation(&'a Activation),
}

impl ConvGraph {
    /// Whether the library has kernels ready for what follows; for all else it compiles some.
    pub fn has_ready_kernels(&self) -> bool {
        let relu = |a: &Activation| a.mode == Mode::CUDNN_POINTWISE_RELU_FWD && a.parameters.is_empty();
        self.bias.is_none_or(|b| b == self.of) && self.activation.as_ref().is_none_or(relu)
    }

    /// What follows, in the order that the library's ready kernels know: residual before bias.
    fn steps(&self) -> Vec<Follows<'_>> {
        let mut all = Vec::new();
        if self.residual {
            all.push(Follows::Residual);
        }
        all.extend(self.bias.map(Follows::Bias));
        all.extend(self.activation.iter().map(Follows::Activation));
        all
    }
}

/// softmax(q · kᵀ · scale) · v, all of one type.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AttentionGraph {
    pub of: DType,
    /// Queries and the result: batch, heads, rows, elements of a head; then keys and values.
    pub q: Heads,
    pub k: Heads,
    pub v: Heads,
    pub y: Heads,
}

/// Heads of an operand, and the distances between them in elements.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Heads {
    pub dims: [usize; 4],
    /// Of neighbours along the first three.
    pub steps: [usize; 3],
}

impl fmt::Display for AttentionGraph {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        write!(f, "attention of {}", self.of)?;
        for (name, part) in [("q", &self.q), ("k", &self.k), ("v", &self.v), ("y", &self.y)] {
            write!(f, ", {name} {:?} by {:?}", part.dims, part.steps)?;
        }
        Ok(())
    }
}

/// A finished graph and what it is made of.
pub(super) struct Operations {
    pub graph: Descriptor,
    parts: Vec<Descriptor>,
}

impl Operations {
    pub fn into_parts(self) -> Vec<Descriptor> {
        self.parts.into_iter().chain([self.graph]).collect()
    }
}

fn data_type(of: DType) -> Result<sys::cudnnDataType_t> {
    match of {
        DType::F16 => Ok(sys::cudnnDataType_t::CUDNN_DATA_HALF),
        DType::BF16 => Ok(sys::cudnnDataType_t::CUDNN_DATA_BFLOAT16),
        DType::F32 => Ok(sys::cudnnDataType_t::CUDNN_DATA_FLOAT),
        other => bail!(unsupported, "cuDNN: convolutions of {other}"),
    }
}

/// Makes descriptors for a handle.
pub(super) struct Maker<'a> {
    pub functions: &'a Arc<Functions>,
    pub handle: Handle,
}

impl Maker<'_> {
    pub fn operations(&self, graph: &Graph) -> Result<Operations> {
        match graph {
            Graph::Conv(g) => self.convolution(g),
            Graph::Attention(g) => self.attention(g),
        }
    }

    /// A convolution and what follows it.
    fn convolution(&self, g: &ConvGraph) -> Result<Operations> {
        let mut parts = Vec::new();
        let single = sys::cudnnDataType_t::CUDNN_DATA_FLOAT;
        let of = data_type(g.of)?;
        let x = self.image(X, g.x, of, false)?;
        let w = self.image(W, g.w, of, false)?;
        let steps = g.steps();
        // Only the last result is written; between operations everything is in single precision.
        let result = |i: usize| match i == steps.len() {
            true => self.image(Y, g.y, of, false),
            false => self.image(BETWEEN + i as i64, g.y, single, true),
        };
        let window = self.descriptor(Kind::CUDNN_BACKEND_CONVOLUTION_DESCRIPTOR)?;
        window.set(Name::CUDNN_ATTR_CONVOLUTION_COMP_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[single])?;
        let mode = sys::cudnnConvolutionMode_t::CUDNN_CROSS_CORRELATION;
        window.set(Name::CUDNN_ATTR_CONVOLUTION_CONV_MODE, Type::CUDNN_TYPE_CONVOLUTION_MODE, &[mode])?;
        window.int64(Name::CUDNN_ATTR_CONVOLUTION_SPATIAL_DIMS, &[2])?;
        window.sizes(Name::CUDNN_ATTR_CONVOLUTION_PRE_PADDINGS, &g.pads_begin)?;
        window.sizes(Name::CUDNN_ATTR_CONVOLUTION_POST_PADDINGS, &g.pads_end)?;
        window.sizes(Name::CUDNN_ATTR_CONVOLUTION_FILTER_STRIDES, &g.strides)?;
        window.sizes(Name::CUDNN_ATTR_CONVOLUTION_DILATIONS, &g.dilations)?;
        let window = window.finish("a window")?;
        let mut last = result(0)?;
        let conv = self.descriptor(Kind::CUDNN_BACKEND_OPERATION_CONVOLUTION_FORWARD_DESCRIPTOR)?;
        conv.refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_CONV_DESC, &[&window])?;
        conv.refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_X, &[&x])?;
        conv.refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_W, &[&w])?;
        conv.refer(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_Y, &[&last])?;
        conv.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_ALPHA, Type::CUDNN_TYPE_FLOAT, &[1f32])?;
        conv.set(Name::CUDNN_ATTR_OPERATION_CONVOLUTION_FORWARD_BETA, Type::CUDNN_TYPE_FLOAT, &[0f32])?;
        let mut operations = vec![conv.finish("a convolution")?];
        for (i, step) in steps.iter().enumerate() {
            let y = result(i + 1)?;
            let (mode, operand, parameters) = match step {
                Follows::Residual => (Mode::CUDNN_POINTWISE_ADD, Some(self.image(RESIDUAL, g.y, of, false)?), &[][..]),
                Follows::Bias(of) => {
                    let bias = self.image(BIAS, [1, g.y[1], 1, 1], data_type(*of)?, false)?;
                    (Mode::CUDNN_POINTWISE_ADD, Some(bias), &[][..])
                }
                Follows::Activation(a) => (a.mode, None, &a.parameters[..]),
            };
            let pointwise = self.descriptor(Kind::CUDNN_BACKEND_POINTWISE_DESCRIPTOR)?;
            pointwise.set(Name::CUDNN_ATTR_POINTWISE_MODE, Type::CUDNN_TYPE_POINTWISE_MODE, &[mode])?;
            pointwise.set(Name::CUDNN_ATTR_POINTWISE_MATH_PREC, Type::CUDNN_TYPE_DATA_TYPE, &[single])?;
            for (name, bits) in parameters {
                pointwise.set(*name, Type::CUDNN_TYPE_DOUBLE, &[f64::from_bits(*bits)])?;
            }
            let pointwise = pointwise.finish(&format!("{mode:?}"))?;
            let operation = self.descriptor(Kind::CUDNN_BACKEND_OPERATION_POINTWISE_DESCRIPTOR)?;
            operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_PW_DESCRIPTOR, &[&pointwise])?;
            operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_XDESC, &[&last])?;
            operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_YDESC, &[&y])?;
            if let Some(operand) = &operand {
                operation.refer(Name::CUDNN_ATTR_OPERATION_POINTWISE_BDESC, &[operand])?;
            }
            operations.push(operation.finish(&format!("the operation {mode:?}"))?);
            parts.extend([pointwise, std::mem::replace(&mut last, y)]);
            parts.extend(operand);
        }
        parts.extend([x, w, window, last]);
        self.graph(&g.to_string(), operations, parts)
    }

    fn attention(&self, g: &AttentionGraph) -> Result<Operations> {
        let of = data_type(g.of)?;
        let heads = |id: i64, part: &Heads| {
            let [b, h, r] = part.steps;
            self.tensor(id, part.dims, [b, h, r, 1], of)?.finish("heads")
        };
        let (q, k, v, y) = (heads(Q, &g.q)?, heads(K, &g.k)?, heads(V, &g.v)?, heads(Y, &g.y)?);
        let scale = self.tensor(SCALE, [1; 4], [1; 4], sys::cudnnDataType_t::CUDNN_DATA_FLOAT)?;
        scale.set(Name::CUDNN_ATTR_TENSOR_IS_BY_VALUE, Type::CUDNN_TYPE_BOOLEAN, &[true])?;
        let scale = scale.finish("a factor")?;
        let attention = self.descriptor(Kind::CUDNN_BACKEND_OPERATION_SDPA_FWD_DESCRIPTOR)?;
        attention.refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_QDESC, &[&q])?;
        attention.refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_KDESC, &[&k])?;
        attention.refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_VDESC, &[&v])?;
        attention.refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_ODESC, &[&y])?;
        attention.refer(Name::CUDNN_ATTR_OPERATION_SDPA_FWD_SCALEDESC, &[&scale])?;
        self.graph(&g.to_string(), vec![attention.finish("attention")?], vec![q, k, v, y, scale])
    }

    /// The graph of operations that were made of `parts`.
    fn graph(&self, what: &str, operations: Vec<Descriptor>, mut parts: Vec<Descriptor>) -> Result<Operations> {
        let graph = self.descriptor(Kind::CUDNN_BACKEND_OPERATIONGRAPH_DESCRIPTOR)?;
        graph.handle(Name::CUDNN_ATTR_OPERATIONGRAPH_HANDLE, self.handle)?;
        let all: Vec<&Descriptor> = operations.iter().collect();
        graph.refer(Name::CUDNN_ATTR_OPERATIONGRAPH_OPS, &all)?;
        let graph = graph.finish(what)?;
        parts.extend(operations);
        Ok(Operations { graph, parts })
    }

    /// A tensor [n, c, h, w] that lies as [n][h][w][c].
    fn image(&self, id: i64, [n, c, h, w]: [usize; 4], of: sys::cudnnDataType_t, between: bool) -> Result<Descriptor> {
        let tensor = self.tensor(id, [n, c, h, w], [h * w * c, 1, w * c, c], of)?;
        if between {
            tensor.set(Name::CUDNN_ATTR_TENSOR_IS_VIRTUAL, Type::CUDNN_TYPE_BOOLEAN, &[true])?;
        }
        tensor.finish("an image")
    }

    /// A tensor that is not finished yet.
    fn tensor(&self, id: i64, dims: [usize; 4], steps: [usize; 4], of: sys::cudnnDataType_t) -> Result<Descriptor> {
        let tensor = self.descriptor(Kind::CUDNN_BACKEND_TENSOR_DESCRIPTOR)?;
        tensor.set(Name::CUDNN_ATTR_TENSOR_DATA_TYPE, Type::CUDNN_TYPE_DATA_TYPE, &[of])?;
        tensor.sizes(Name::CUDNN_ATTR_TENSOR_DIMENSIONS, &dims)?;
        tensor.sizes(Name::CUDNN_ATTR_TENSOR_STRIDES, &steps)?;
        tensor.int64(Name::CUDNN_ATTR_TENSOR_UNIQUE_ID, &[id])?;
        tensor.int64(Name::CUDNN_ATTR_TENSOR_BYTE_ALIGNMENT, &[16])?;
        Ok(tensor)
    }

    fn descriptor(&self, kind: Kind) -> Result<Descriptor> {
        Descriptor::new(self.functions, kind)
    }
}
