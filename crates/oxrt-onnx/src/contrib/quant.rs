//! Quantised operators: between `DequantizeLinear` and `QuantizeLinear`, or as integer products with a scale.

use super::fused::one;
use super::{Call, Expand, keep};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("QuantizeLinear", |c| {
        let y = c.b.op_multi("QuantizeLinear", c.inputs, keep(c.attrs, &["axis"]), 1)?[0];
        one(y)
    }),
    ("DequantizeLinear", |c| {
        let y = c.b.op_multi("DequantizeLinear", c.inputs, keep(c.attrs, &["axis"]), 1)?[0];
        one(y)
    }),
    ("QLinearAdd", |c| binary(c, "Add")),
    ("QLinearMul", |c| binary(c, "Mul")),
    ("QLinearSigmoid", |c| unary(c, "Sigmoid", Attrs::new())),
    ("QLinearLeakyRelu", |c| unary(c, "LeakyRelu", Attrs::new().with("alpha", c.attrs.float_or("alpha", 0.01)?))),
    ("QLinearSoftmax", q_linear_softmax),
    ("QLinearGlobalAveragePool", |c| pool(c, "GlobalAveragePool", &[])),
    ("QLinearAveragePool", |c| {
        pool(c, "AveragePool", &["auto_pad", "ceil_mode", "count_include_pad", "kernel_shape", "pads", "strides"])
    }),
    ("QLinearReduceMean", |c| {
        let x = dequantized(c, 0)?;
        let axes = c.attrs.ints_or("axes", &[])?;
        let axes = c.b.ints(&axes);
        let y = c.b.op("ReduceMean", &[x, axes], Attrs::new().with("keepdims", c.attrs.int_or("keepdims", 1)?))?;
        quantized(c, y, 3, 0)
    }),
    ("QLinearConcat", |c| {
        let count = c.inputs.len().saturating_sub(2) / 3;
        let parts = (0..count).map(|i| dequantized(c, 2 + 3 * i)).collect::<Result<Vec<_>>>()?;
        let y = c.concat(&parts, c.attrs.int_or("axis", 0)?)?;
        quantized(c, y, 0, 2)
    }),
    ("QLinearWhere", |c| {
        let (x, y) = (dequantized(c, 1)?, dequantized(c, 4)?);
        let z = c.call("Where", &[c.input(0)?, x, y])?;
        quantized(c, z, 7, 1)
    }),
    ("QLinearConv", |c| {
        let last = c.attrs.bool_or("channels_last", false)?;
        let mut inputs = c.inputs.to_vec();
        if last {
            inputs[0] = Some(c.channels_first(c.input(0)?)?);
        }
        let attrs = keep(c.attrs, &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
        let y = c.b.op_multi("QLinearConv", &inputs, attrs, 1)?[0];
        one(if last { c.channels_last(y)? } else { y })
    }),
    ("QGemm", q_gemm),
    ("MatMulIntegerToFloat", |c| {
        let scale = c.mul(c.input(2)?, c.input(3)?)?;
        let y = integer_product(c, [c.input(0)?, c.input(1)?], [c.opt(4), c.opt(5)], scale)?;
        one(c.add_opt(y, c.opt(6))?)
    }),
    ("DynamicQuantizeMatMul", |c| {
        let q = c.b.op_multi("DynamicQuantizeLinear", &[c.opt(0)], Attrs::new(), 3)?;
        let scale = c.mul(q[1], c.input(2)?)?;
        let y = integer_product(c, [q[0], c.input(1)?], [Some(q[2]), c.opt(3)], scale)?;
        one(c.add_opt(y, c.opt(4))?)
    }),
    ("MatMulInteger16", |c| {
        let (x, w) = (c.b.cast(c.input(0)?, DType::I32)?, c.b.cast(c.input(1)?, DType::I32)?);
        let y = c.call("MatMul", &[x, w])?;
        one(y)
    }),
    ("MulInteger", |c| {
        let centred = |c: &mut Call, i: usize| -> Result<ValueId> {
            let x = c.b.cast(c.input(i)?, DType::I32)?;
            match c.opt(i + 1) {
                Some(z) => {
                    let z = c.b.cast(z, DType::I32)?;
                    c.call("Sub", &[x, z])
                }
                None => Ok(x),
            }
        };
        let (x, y) = (centred(c, 0)?, centred(c, 2)?);
        one(c.mul(x, y)?)
    }),
    ("ReduceSumInteger", |c| {
        let x = c.b.cast(c.input(0)?, DType::I32)?;
        let axes = c.attrs.ints_or("axes", &[])?;
        let axes = c.b.ints(&axes);
        one(c.b.op("ReduceSum", &[x, axes], Attrs::new().with("keepdims", c.attrs.int_or("keepdims", 1)?))?)
    }),
    ("DynamicQuantizeLSTM", dynamic_quantize_lstm),
];

/// Inputs `i`, `i + 1`, `i + 2`: a quantised tensor, its scale and zero point.
fn dequantized(c: &mut Call, i: usize) -> Result<ValueId> {
    c.b.op_multi("DequantizeLinear", &[Some(c.input(i)?), Some(c.input(i + 1)?), c.opt(i + 2)], Attrs::new(), 1)
        .map(|v| v[0])
}

/// Quantises by the scale in input `i` and the zero point behind it, to the type of input `like`.
fn quantized(c: &mut Call, y: ValueId, i: usize, like: usize) -> Result<Vec<Option<ValueId>>> {
    let zero = match c.opt(i + 1) {
        Some(z) => z,
        None => c.b.scalar(c.b.dtype(c.input(like)?)?, 0.0)?,
    };
    one(c.call("QuantizeLinear", &[y, c.input(i)?, zero])?)
}

fn binary(c: &mut Call, op: &str) -> Result<Vec<Option<ValueId>>> {
    let (x, y) = (dequantized(c, 0)?, dequantized(c, 3)?);
    let z = c.call(op, &[x, y])?;
    quantized(c, z, 6, 0)
}

fn unary(c: &mut Call, op: &str, attrs: Attrs) -> Result<Vec<Option<ValueId>>> {
    let x = dequantized(c, 0)?;
    let y = c.b.op(op, &[x], attrs)?;
    quantized(c, y, 3, 0)
}

/// Before opset 13 over all axes from `axis` on.
fn q_linear_softmax(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let x = dequantized(c, 0)?;
    let (old, rank) = (c.attrs.int_or("opset", 13)? < 13, c.b.rank(x)?);
    let axis = oxrt_ops::shape::axis(c.attrs.int_or("axis", if old { 1 } else { -1 })?, rank)?;
    let y = if old && axis + 1 < rank {
        let flat = c.b.op("Flatten", &[x], Attrs::new().with("axis", axis as i64))?;
        let soft = c.b.op("Softmax", &[flat], Attrs::new().with("axis", -1))?;
        let dims = c.b.dims(x)?;
        c.b.reshape(soft, &dims)?
    } else {
        c.b.op("Softmax", &[x], Attrs::new().with("axis", axis as i64))?
    };
    quantized(c, y, 3, 0)
}

fn pool(c: &mut Call, op: &str, attrs: &[&str]) -> Result<Vec<Option<ValueId>>> {
    let last = c.attrs.bool_or("channels_last", false)?;
    let mut x = dequantized(c, 0)?;
    if last {
        x = c.channels_first(x)?;
    }
    let mut y = c.b.op(op, &[x], keep(c.attrs, attrs))?;
    if last {
        y = c.channels_last(y)?;
    }
    quantized(c, y, 3, 0)
}

/// (x - zx)(w - zw) · scale in f32.
pub(super) fn integer_product(
    c: &mut Call,
    [x, w]: [ValueId; 2],
    zeros: [Option<ValueId>; 2],
    scale: ValueId,
) -> Result<ValueId> {
    let product = c.b.op_multi("MatMulInteger", &[Some(x), Some(w), zeros[0], zeros[1]], Attrs::new(), 1)?[0];
    let dtype = c.b.dtype(scale)?;
    let product = c.b.cast(product, dtype)?;
    c.mul(product, scale)
}

fn q_gemm(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let mut x = c.input(0)?;
    let mut w = c.input(3)?;
    if c.attrs.bool_or("transA", false)? {
        x = c.turned(x)?;
    }
    if c.attrs.bool_or("transB", false)? {
        w = c.turned(w)?;
    }
    let mut y = c.b.op_multi("MatMulInteger", &[Some(x), Some(w), c.opt(2), c.opt(5)], Attrs::new(), 1)?[0];
    y = c.add_opt(y, c.opt(6))?;
    let scale = c.mul(c.input(1)?, c.input(4)?)?;
    let scale = c.scaled(scale, c.attrs.float_or("alpha", 1.0)? as f64)?;
    let dtype = c.b.dtype(scale)?;
    let y = c.b.cast(y, dtype)?;
    let y = c.mul(y, scale)?;
    match c.opt(7) {
        None => one(y),
        Some(_) => quantized(c, y, 7, 0),
    }
}

/// An LSTM with its weights restored. onnxruntime also rounds the input and the state to eight bits at each step;
/// here they keep their precision.
fn dynamic_quantize_lstm(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let restored = |c: &mut Call, at: [usize; 3]| -> Result<ValueId> {
        let [w, scale, zero] = [c.input(at[0])?, c.input(at[1])?, c.input(at[2])?];
        // [directions, inputs, 4 · hidden]; scales per direction, or per direction and column.
        let spread = |c: &mut Call, v: ValueId| -> Result<ValueId> {
            match c.b.rank(v)? {
                1 => c.b.unsqueeze(v, &[1, 2]),
                2 => c.b.unsqueeze(v, &[1]),
                r => bail!(invalid, "a scale of rank {r}"),
            }
        };
        let dtype = c.b.dtype(scale)?;
        let (w, zero) = (c.b.cast(w, dtype)?, c.b.cast(zero, dtype)?);
        let (zero, scale) = (spread(c, zero)?, spread(c, scale)?);
        let centred = c.call("Sub", &[w, zero])?;
        let w = c.mul(centred, scale)?;
        c.b.transpose(w, &[0, 2, 1])
    };
    let (w, r) = (restored(c, [1, 8, 9])?, restored(c, [2, 10, 11])?);
    let names =
        ["activation_alpha", "activation_beta", "activations", "clip", "direction", "hidden_size", "input_forget"];
    let inputs = [c.opt(0), Some(w), Some(r), c.opt(3), c.opt(4), c.opt(5), c.opt(6), c.opt(7)];
    let outs = c.b.op_multi("LSTM", &inputs, keep(c.attrs, &names), 3)?;
    Ok(outs.into_iter().map(Some).collect())
}

/// A constant that an operator needs at import.
pub(super) fn constant(c: &Call, i: usize, what: &str) -> Result<Tensor> {
    let v = c.input(i)?;
    c.b.graph.constant(v).cloned().ok_or_else(|| Error::unsupported(format!("{what} that are computed in the graph")))
}
