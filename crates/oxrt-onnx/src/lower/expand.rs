//! Operators said in older ones.

use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result, bail};

pub(super) type Expand = fn(&mut Builder, &Attrs, &[Option<ValueId>]) -> Result<ValueId>;

/// (operator, opset that has it in the newest form, the same in older operators)
pub(super) const EXPANSIONS: &[(&str, i64, Expand)] = &[
    ("Gelu", 20, gelu),
    ("GroupNormalization", 21, group_norm),
    ("RMSNormalization", 23, rms_norm),
    ("Swish", 24, swish),
    ("Mish", 18, mish),
    ("LayerNormalization", 17, layer_norm),
    ("Attention", 23, attention),
    ("HardSwish", 14, hard_swish),
    ("Celu", 12, celu),
    ("GreaterOrEqual", 12, |b, _, inputs| negated(b, inputs, "Less")),
    ("LessOrEqual", 12, |b, _, inputs| negated(b, inputs, "Greater")),
    ("Shape", 15, shape),
    ("CastLike", 15, |b, _, inputs| {
        let (x, like) = (input(inputs, 0)?, input(inputs, 1)?);
        let to = b.dtype(like)?;
        if b.dtype(x)? == to { b.call("Identity", &[x]) } else { b.cast(x, to) }
    }),
    ("Softmax", 13, |b, attrs, inputs| over_last_axis(b, attrs, inputs, "Softmax")),
    ("LogSoftmax", 13, |b, attrs, inputs| over_last_axis(b, attrs, inputs, "LogSoftmax")),
    ("Hardmax", 13, |b, attrs, inputs| over_last_axis(b, attrs, inputs, "Hardmax")),
    ("ThresholdedRelu", 10, |b, attrs, inputs| {
        let x = input(inputs, 0)?;
        let (alpha, zero) = (b.scalar_like(x, attrs.float_or("alpha", 1.0)? as f64)?, b.scalar_like(x, 0.0)?);
        let above = b.call("Greater", &[x, alpha])?;
        b.call("Where", &[above, x, zero])
    }),
];

fn input(inputs: &[Option<ValueId>], i: usize) -> Result<ValueId> {
    inputs.get(i).copied().flatten().ok_or_else(|| Error::invalid(format!("input {i} is missing")))
}

fn gelu(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let (half, one) = (b.scalar_like(x, 0.5)?, b.scalar_like(x, 1.0)?);
    let gate = if attrs.string_or("approximate", "none")? == "tanh" {
        // tanh(√(2/π) (x + 0.044715 x³))
        let (three, c, k) = (
            b.scalar_like(x, 3.0)?,
            b.scalar_like(x, 0.044715)?,
            b.scalar_like(x, (2.0 / std::f64::consts::PI).sqrt())?,
        );
        let cube = b.call("Pow", &[x, three])?;
        let term = b.call("Mul", &[cube, c])?;
        let sum = b.call("Add", &[x, term])?;
        let arg = b.call("Mul", &[sum, k])?;
        b.call("Tanh", &[arg])?
    } else {
        let k = b.scalar_like(x, std::f64::consts::SQRT_2)?;
        let arg = b.call("Div", &[x, k])?;
        b.call("Erf", &[arg])?
    };
    let gate = b.call("Add", &[gate, one])?;
    let y = b.call("Mul", &[x, gate])?;
    b.call("Mul", &[y, half])
}

fn swish(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let alpha = attrs.float_or("alpha", 1.0)?;
    let scaled = if alpha == 1.0 {
        x
    } else {
        let a = b.scalar_like(x, alpha as f64)?;
        b.call("Mul", &[x, a])?
    };
    let s = b.call("Sigmoid", &[scaled])?;
    b.call("Mul", &[x, s])
}

fn mish(b: &mut Builder, _: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let soft = b.call("Softplus", &[x])?;
    let t = b.call("Tanh", &[soft])?;
    b.call("Mul", &[x, t])
}

/// InstanceNormalization over [N, groups, …], then the scale and bias of each channel.
fn group_norm(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (x, scale, bias) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
    let groups = attrs.int_or("num_groups", 1)?;
    let dims = b.dims(x)?;
    if groups < 1 || dims.len() < 2 {
        bail!(invalid, "GroupNormalization needs rank 2 or more and a positive number of groups");
    }
    let dtype = b.dtype(x)?;
    let grouped = b.reshape_const(x, &[0, groups, -1])?;
    let ones = oxrt_tensor::Tensor::from_f64(dtype, &[groups as usize], &vec![1.0; groups as usize])?;
    let zeros = oxrt_tensor::Tensor::zeros(dtype, &[groups as usize]);
    let (ones, zeros) = (b.constant(ones), b.constant(zeros));
    let eps = attrs.float_or("epsilon", 1e-5)?;
    let normal = b.op("InstanceNormalization", &[grouped, ones, zeros], Attrs::new().with("epsilon", eps))?;
    let back = b.reshape(normal, &dims)?;
    let mut channel = vec![1i64; dims.len() - 1];
    channel[0] = -1;
    let (scale, bias) = (b.reshape_const(scale, &channel)?, b.reshape_const(bias, &channel)?);
    let scaled = b.call("Mul", &[back, scale])?;
    b.call("Add", &[scaled, bias])
}

fn rms_norm(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (x, scale) = (input(inputs, 0)?, input(inputs, 1)?);
    let rank = b.rank(x)? as i64;
    let axis = attrs.int_or("axis", -1)?;
    let first = if axis < 0 { axis + rank } else { axis };
    let dtype = b.dtype(x)?;
    let wide = b.cast(x, DType::F32)?;
    let axes = b.ints(&(first..rank).collect::<Vec<_>>());
    let square = b.call("Mul", &[wide, wide])?;
    let mean = b.op("ReduceMean", &[square, axes], Attrs::new().with("keepdims", 1))?;
    let eps = b.scalar(DType::F32, attrs.float_or("epsilon", 1e-5)? as f64)?;
    let shifted = b.call("Add", &[mean, eps])?;
    let root = b.call("Sqrt", &[shifted])?;
    let normal = b.call("Div", &[wide, root])?;
    let normal = b.cast(normal, dtype)?;
    let dims: Vec<Dim> = b.dims(x)?;
    debug_assert_eq!(dims.len() as i64, rank);
    b.call("Mul", &[normal, scale])
}

/// (x - mean) / √(variance + ε) · scale + bias
fn layer_norm(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (x, scale) = (input(inputs, 0)?, input(inputs, 1)?);
    let rank = b.rank(x)?;
    let first = oxrt_ops::shape::axis(attrs.int_or("axis", -1)?, rank)? as i64;
    let dtype = b.dtype(x)?;
    let wide = b.cast(x, DType::F32)?;
    let axes = b.ints(&(first..rank as i64).collect::<Vec<_>>());
    let keep = || Attrs::new().with("keepdims", 1);
    let mean = b.op("ReduceMean", &[wide, axes], keep())?;
    let centred = b.call("Sub", &[wide, mean])?;
    let square = b.call("Mul", &[centred, centred])?;
    let variance = b.op("ReduceMean", &[square, axes], keep())?;
    let eps = b.scalar(DType::F32, attrs.float_or("epsilon", 1e-5)? as f64)?;
    let shifted = b.call("Add", &[variance, eps])?;
    let root = b.call("Sqrt", &[shifted])?;
    let normal = b.call("Div", &[centred, root])?;
    let normal = b.cast(normal, dtype)?;
    let scaled = b.call("Mul", &[normal, scale])?;
    match inputs.get(2).copied().flatten() {
        Some(bias) => b.call("Add", &[scaled, bias]),
        None => Ok(scaled),
    }
}

/// softmax(scale · Q Kᵀ + mask) V for inputs of four axes, without a past.
fn attention(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let (mut q, mut k, mut v) = (input(inputs, 0)?, input(inputs, 1)?, input(inputs, 2)?);
    let plain = ["softmax_precision", "left_window_size", "right_window_size"].iter().all(|a| !attrs.has(a));
    if inputs.iter().skip(4).any(Option::is_some) || !plain || attrs.bool_or("is_causal", false)? {
        bail!(unsupported, "an Attention with a past, a window or `is_causal`");
    }
    let flat = b.rank(q)? == 3;
    let mut heads = [attrs.int_or("q_num_heads", 0)?, attrs.int_or("kv_num_heads", 0)?];
    if flat {
        let part = |b: &mut Builder, x: ValueId, n: i64| -> Result<ValueId> {
            let x = b.reshape_const(x, &[0, 0, n, -1])?;
            b.transpose(x, &[0, 2, 1, 3])
        };
        (q, k, v) = (part(b, q, heads[0])?, part(b, k, heads[1])?, part(b, v, heads[1])?);
    } else {
        let count = |b: &Builder, x: ValueId| Ok::<_, Error>(b.dims(x)?[1].as_const().unwrap_or(0));
        heads = [count(b, q)?, count(b, k)?];
    }
    if heads[0] != heads[1] || heads[0] == 0 {
        bail!(unsupported, "an Attention whose keys are shared by heads");
    }
    let size = b.dims(q)?[3].as_const().ok_or_else(|| Error::unsupported("an Attention of unknown size"))?;
    let scale = attrs.get_float("scale")?.map_or(1.0 / (size as f64).sqrt(), |&s| s as f64);
    let turned = b.transpose(k, &[0, 1, 3, 2])?;
    let scores = b.call("MatMul", &[q, turned])?;
    let factor = b.scalar_like(scores, scale)?;
    let mut scores = b.call("Mul", &[scores, factor])?;
    let cap = attrs.float_or("softcap", 0.0)? as f64;
    if cap > 0.0 {
        let cap = b.scalar_like(scores, cap)?;
        let share = b.call("Div", &[scores, cap])?;
        let bent = b.call("Tanh", &[share])?;
        scores = b.call("Mul", &[bent, cap])?;
    }
    let mut hidden_rows = None;
    if let Some(mask) = inputs.get(3).copied().flatten() {
        let mask = if b.dtype(mask)? == DType::Bool {
            let (zero, hidden) = (b.scalar_like(scores, 0.0)?, b.scalar_like(scores, f64::NEG_INFINITY)?);
            b.call("Where", &[mask, zero, hidden])?
        } else {
            mask
        };
        scores = b.call("Add", &[scores, mask])?;
        // A query that sees no key gives zeros.
        let axes = b.ints(&[-1]);
        let top = b.op("ReduceMax", &[mask, axes], Attrs::new().with("keepdims", 1))?;
        let lowest = b.scalar_like(mask, f64::NEG_INFINITY)?;
        hidden_rows = Some(b.call("Equal", &[top, lowest])?);
    }
    let mut soft = b.op("Softmax", &[scores], Attrs::new().with("axis", 3))?;
    if let Some(rows) = hidden_rows {
        let zero = b.scalar_like(soft, 0.0)?;
        soft = b.call("Where", &[rows, zero, soft])?;
    }
    let y = b.call("MatMul", &[soft, v])?;
    if !flat {
        return Ok(y);
    }
    let y = b.transpose(y, &[0, 2, 1, 3])?;
    b.reshape_const(y, &[0, 0, -1])
}

/// x · max(0, min(1, x/6 + 1/2))
fn hard_swish(b: &mut Builder, _: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let gate = b.op("HardSigmoid", &[x], Attrs::new().with("alpha", 1.0f32 / 6.0).with("beta", 0.5f32))?;
    b.call("Mul", &[x, gate])
}

/// α Elu(x/α)
fn celu(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let alpha = b.scalar_like(x, attrs.float_or("alpha", 1.0)? as f64)?;
    let share = b.call("Div", &[x, alpha])?;
    let y = b.op("Elu", &[share], Attrs::new().with("alpha", 1.0f32))?;
    b.call("Mul", &[y, alpha])
}

/// A comparison that holds where the opposite one does not.
fn negated(b: &mut Builder, inputs: &[Option<ValueId>], opposite: &str) -> Result<ValueId> {
    let (x, y) = (input(inputs, 0)?, input(inputs, 1)?);
    let beyond = b.call(opposite, &[x, y])?;
    let not = b.call("Not", &[beyond])?;
    if !b.dtype(x)?.is_float() {
        return Ok(not);
    }
    // NaN compares with nothing, itself included.
    let (same_x, same_y) = (b.call("Equal", &[x, x])?, b.call("Equal", &[y, y])?);
    let numbers = b.call("And", &[same_x, same_y])?;
    b.call("And", &[not, numbers])
}

/// A part of the shape was cut out by Slice.
fn shape(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>]) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let whole = b.call("Shape", &[x])?;
    let (start, end) = (attrs.int_or("start", 0)?, attrs.int_or("end", i64::MAX)?);
    if start == 0 && end == i64::MAX {
        return Ok(whole);
    }
    let (start, end, axes) = (b.ints(&[start]), b.ints(&[end]), b.ints(&[0]));
    b.call("Slice", &[whole, start, end, axes])
}

/// Once all axes from `axis` on took part: the axis comes last.
fn over_last_axis(b: &mut Builder, attrs: &Attrs, inputs: &[Option<ValueId>], op: &str) -> Result<ValueId> {
    let x = input(inputs, 0)?;
    let rank = b.rank(x)?;
    let axis = oxrt_ops::shape::axis(attrs.int_or("axis", -1)?, rank.max(1))?;
    let last = rank.saturating_sub(1);
    let mut perm: Vec<usize> = (0..rank).collect();
    if rank > 0 {
        perm.swap(axis, last);
    }
    let turned = b.transpose(x, &perm)?;
    let y = b.op(op, &[turned], Attrs::new().with("axis", last as i64))?;
    b.transpose(y, &perm)
}
