//! Products, convolutions and activations with more fused into them.

use super::{Call, Expand, activation, keep};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{Result, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("FusedMatMul", |c| one(mat_mul(c)?)),
    ("TransposeMatMul", |c| one(mat_mul(c)?)),
    ("FusedMatMulActivation", |c| {
        let y = mat_mul(c)?;
        let params = numbered(c, "activation_")?;
        one(activation(c, y, c.attrs.string_or("activation", "")?, &params)?)
    }),
    ("FusedGemm", fused_gemm),
    ("GemmFastGelu", |c| {
        let y = c.call("MatMul", &[c.input(0)?, c.input(1)?])?;
        let y = c.add_opt(y, c.opt(2))?;
        one(fast_gelu(c, y)?)
    }),
    ("FusedConv", |c| conv(c, false)),
    ("NhwcConv", |c| conv(c, true)),
    ("NhwcFusedConv", |c| conv(c, true)),
    ("NhwcMaxPool", |c| {
        let x = c.channels_first(c.input(0)?)?;
        let attrs = keep(c.attrs, &["auto_pad", "ceil_mode", "dilations", "kernel_shape", "pads", "strides"]);
        let y = c.b.op("MaxPool", &[x], attrs)?;
        one(c.channels_last(y)?)
    }),
    ("Gelu", |c| {
        let x = c.input(0)?;
        one(c.call("Gelu", &[x])?)
    }),
    ("BiasGelu", |c| {
        let x = c.add(c.input(0)?, c.input(1)?)?;
        one(c.call("Gelu", &[x])?)
    }),
    ("FastGelu", |c| {
        let x = c.add_opt(c.input(0)?, c.opt(1))?;
        one(fast_gelu(c, x)?)
    }),
    ("QuickGelu", |c| {
        let alpha = c.attrs.float_or("alpha", 1.702)?;
        one(c.b.op("Swish", &[c.input(0)?], Attrs::new().with("alpha", alpha))?)
    }),
    ("ScaledSiLU", |c| {
        let y = c.b.call("Swish", &[c.input(0)?])?;
        one(c.scaled(y, c.attrs.float_or("scale", 1.0)? as f64)?)
    }),
    ("BiasSplitGelu", |c| {
        let x = c.add(c.input(0)?, c.input(1)?)?;
        let halves = c.b.op_multi("Split", &[Some(x)], Attrs::new().with("axis", -1).with("num_outputs", 2), 2)?;
        let gate = c.call("Gelu", &[halves[1]])?;
        one(c.mul(halves[0], gate)?)
    }),
    ("BiasAdd", |c| {
        let x = c.add(c.input(0)?, c.input(1)?)?;
        one(c.add(x, c.input(2)?)?)
    }),
    ("BiasDropout", |c| {
        let x = c.add(c.input(0)?, c.input(1)?)?;
        let outs = c.b.op_multi("Dropout", &[Some(x), c.opt(3), c.opt(4)], keep(c.attrs, &["seed"]), 2)?;
        let y = c.add_opt(outs[0], c.opt(2))?;
        Ok(vec![Some(y), Some(outs[1])])
    }),
    ("BiasSoftmax", bias_softmax),
];

pub(super) fn one(v: ValueId) -> Result<Vec<Option<ValueId>>> {
    Ok(vec![Some(v)])
}

/// 0.5 x (1 + tanh(0.797885 x + 0.035677 x³)), which is Gelu's tanh form.
pub(super) fn fast_gelu(c: &mut Call, x: ValueId) -> Result<ValueId> {
    c.b.op("Gelu", &[x], Attrs::new().with("approximate", "tanh"))
}

/// The attributes `…alpha`, `…beta`, `…gamma` in order, as far as they are given.
fn numbered(c: &Call, prefix: &str) -> Result<Vec<f32>> {
    let mut out = Vec::new();
    for name in ["alpha", "beta", "gamma"] {
        match c.attrs.get_float(&format!("{prefix}{name}"))? {
            Some(&v) => out.push(v),
            None => break,
        }
    }
    Ok(out)
}

/// α A' B', with matrices transposed, or axis 0 moved behind the other batch axes.
fn mat_mul(c: &mut Call) -> Result<ValueId> {
    let operand = |c: &mut Call, i: usize, turn: &str, batch: &str| -> Result<ValueId> {
        let mut x = c.input(i)?;
        if c.attrs.bool_or(batch, false)? {
            let rank = c.b.rank(x)?;
            if rank < 3 {
                bail!(invalid, "`{batch}` of an operand of rank {rank}");
            }
            let perm: Vec<usize> = (1..rank - 1).chain([0, rank - 1]).collect();
            x = c.b.transpose(x, &perm)?;
        }
        if c.attrs.bool_or(turn, false)? { c.turned(x) } else { Ok(x) }
    };
    let x = operand(c, 0, "transA", "transBatchA")?;
    let w = operand(c, 1, "transB", "transBatchB")?;
    let y = c.call("MatMul", &[x, w])?;
    c.scaled(y, c.attrs.float_or("alpha", 1.0)? as f64)
}

fn fused_gemm(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let attrs = keep(c.attrs, &["alpha", "beta", "transA", "transB"]);
    let y = c.b.op_multi("Gemm", &c.inputs[..c.inputs.len().min(3)], attrs, 1)?[0];
    let mut params = numbered(c, "activation_")?;
    if let Some(&alpha) = c.attrs.get_float("leaky_relu_alpha")? {
        params = vec![alpha];
    }
    one(activation(c, y, c.attrs.string_or("activation", "")?, &params)?)
}

/// Conv, what is added to it, an activation.
fn conv(c: &mut Call, channels_last: bool) -> Result<Vec<Option<ValueId>>> {
    let attrs = keep(c.attrs, &["auto_pad", "dilations", "group", "kernel_shape", "pads", "strides"]);
    let mut x = c.input(0)?;
    if channels_last {
        x = c.channels_first(x)?;
    }
    if !channels_last {
        return one(convolve(c, x, c.opt(1), attrs)?);
    }
    let y = c.b.op_multi("Conv", &[Some(x), c.opt(1), c.opt(2)], attrs, 1)?[0];
    let y = c.channels_last(y)?;
    one(after_conv(c, y)?)
}

/// A convolution with the node's bias, and what follows it.
pub(super) fn convolve(c: &mut Call, x: ValueId, w: Option<ValueId>, attrs: Attrs) -> Result<ValueId> {
    let y = c.b.op_multi("Conv", &[Some(x), w, c.opt(2)], attrs, 1)?[0];
    after_conv(c, y)
}

fn after_conv(c: &mut Call, y: ValueId) -> Result<ValueId> {
    let y = c.add_opt(y, c.opt(3))?;
    let params = c.attrs.get_floats("activation_params")?.cloned().unwrap_or_default();
    activation(c, y, c.attrs.string_or("activation", "")?, &params)
}

/// Softmax over all axes from `axis` on.
fn bias_softmax(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let sum = c.add(c.input(0)?, c.input(1)?)?;
    let rank = c.b.rank(sum)?;
    let axis = oxrt_ops::shape::axis(c.attrs.int_or("axis", 1)?, rank)?;
    if axis + 1 == rank {
        return one(c.b.op("Softmax", &[sum], Attrs::new().with("axis", -1))?);
    }
    let flat = c.b.op("Flatten", &[sum], Attrs::new().with("axis", axis as i64))?;
    let soft = c.b.op("Softmax", &[flat], Attrs::new().with("axis", -1))?;
    let dims = c.b.dims(sum)?;
    one(c.b.reshape(soft, &dims)?)
}
