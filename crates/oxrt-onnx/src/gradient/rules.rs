//! One rule per operator: from the gradient of its result to those of its inputs.

use oxrt_ir::{Attrs, Dim, Node, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{DType, Error, Result, bail};

/// A node on the way back.
pub(crate) struct Step<'a> {
    pub node: &'a Node,
    /// Values at the place where the gradient is taken.
    pub inputs: Vec<Option<ValueId>>,
    pub y: ValueId,
    pub dy: ValueId,
}

impl Step<'_> {
    fn input(&self, i: usize) -> Result<ValueId> {
        self.inputs.get(i).copied().flatten().ok_or_else(|| Error::invalid(format!("input {i} is missing")))
    }
}

/// A gradient per input; `None` for what is not differentiated (shapes, axes, conditions).
pub(crate) type Rule = fn(&mut Builder, &Step) -> Result<Vec<Option<ValueId>>>;

pub(crate) fn find(op: &str) -> Option<Rule> {
    RULES.iter().find(|(name, _)| *name == op).map(|(_, rule)| *rule)
}

const RULES: &[(&str, Rule)] = &[
    ("Identity", |_, s| Ok(vec![Some(s.dy)])),
    ("Dropout", |_, s| Ok(vec![Some(s.dy)])),
    ("Add", |b, s| both(b, s, s.dy, s.dy)),
    ("Sub", |b, s| {
        let minus = b.call("Neg", &[s.dy])?;
        both(b, s, s.dy, minus)
    }),
    ("Mul", |b, s| {
        let (l, r) = (b.call("Mul", &[s.dy, s.input(1)?])?, b.call("Mul", &[s.dy, s.input(0)?])?);
        both(b, s, l, r)
    }),
    ("Div", |b, s| {
        let l = b.call("Div", &[s.dy, s.input(1)?])?;
        // d(x/z)/dz = -y/z
        let r = b.call("Mul", &[l, s.y])?;
        let r = b.call("Neg", &[r])?;
        both(b, s, l, r)
    }),
    ("Pow", pow),
    ("Sum", |b, s| (0..s.inputs.len()).map(|i| Ok(Some(unbroadcast(b, s.dy, s.input(i)?)?))).collect()),
    ("Max", |b, s| extreme(b, s, "GreaterOrEqual")),
    ("Min", |b, s| extreme(b, s, "LessOrEqual")),
    ("Where", |b, s| {
        let zero = b.scalar_like(s.dy, 0.0)?;
        let c = s.input(0)?;
        let (l, r) = (b.call("Where", &[c, s.dy, zero])?, b.call("Where", &[c, zero, s.dy])?);
        Ok(vec![None, Some(unbroadcast(b, l, s.input(1)?)?), Some(unbroadcast(b, r, s.input(2)?)?)])
    }),
    ("Clip", |b, s| {
        // Where the result is the input, nothing was cut.
        let kept = b.call("Equal", &[s.input(0)?, s.y])?;
        let zero = b.scalar_like(s.dy, 0.0)?;
        Ok(vec![Some(b.call("Where", &[kept, s.dy, zero])?)])
    }),
    ("Cast", |b, s| {
        let x = s.input(0)?;
        let to = b.dtype(x)?;
        if !to.is_float() || !b.dtype(s.y)?.is_float() {
            bail!(unsupported, "a Cast between {to} and {} has no gradient", b.dtype(s.y)?);
        }
        Ok(vec![Some(b.cast(s.dy, to)?)])
    }),
    // Elementwise: dx = dy · f'(x).
    ("Neg", |b, s| Ok(vec![Some(b.call("Neg", &[s.dy])?)])),
    ("Abs", |b, s| slope(b, s, |b, x, _| b.call("Sign", &[x]))),
    ("Exp", |b, s| slope(b, s, |_, _, y| Ok(y))),
    ("Log", |b, s| slope(b, s, |b, x, _| b.call("Reciprocal", &[x]))),
    ("Sqrt", |b, s| {
        slope(b, s, |b, _, y| {
            let half = b.scalar_like(y, 0.5)?;
            b.call("Div", &[half, y])
        })
    }),
    ("Reciprocal", |b, s| {
        slope(b, s, |b, _, y| {
            let square = b.call("Mul", &[y, y])?;
            b.call("Neg", &[square])
        })
    }),
    ("Sin", |b, s| slope(b, s, |b, x, _| b.call("Cos", &[x]))),
    ("Cos", |b, s| {
        slope(b, s, |b, x, _| {
            let sin = b.call("Sin", &[x])?;
            b.call("Neg", &[sin])
        })
    }),
    ("Tanh", |b, s| {
        slope(b, s, |b, _, y| {
            let (one, square) = (b.scalar_like(y, 1.0)?, b.call("Mul", &[y, y])?);
            b.call("Sub", &[one, square])
        })
    }),
    ("Sigmoid", |b, s| slope(b, s, |b, _, y| sigmoid_slope(b, y))),
    ("Relu", |b, s| slope(b, s, |b, x, _| step_at_zero(b, x, 0.0))),
    ("LeakyRelu", |b, s| {
        let alpha = s.node.attrs.float_or("alpha", 0.01)? as f64;
        slope(b, s, |b, x, _| step_at_zero(b, x, alpha))
    }),
    ("Elu", |b, s| {
        let alpha = s.node.attrs.float_or("alpha", 1.0)? as f64;
        slope(b, s, |b, x, y| {
            // α eˣ = y + α below zero.
            let (zero, one, alpha) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 1.0)?, b.scalar_like(x, alpha)?);
            let positive = b.call("Greater", &[x, zero])?;
            let below = b.call("Add", &[y, alpha])?;
            b.call("Where", &[positive, one, below])
        })
    }),
    ("Softplus", |b, s| slope(b, s, |b, x, _| b.call("Sigmoid", &[x]))),
    ("Softsign", |b, s| {
        slope(b, s, |b, x, _| {
            let (one, size) = (b.scalar_like(x, 1.0)?, b.call("Abs", &[x])?);
            let sum = b.call("Add", &[one, size])?;
            let square = b.call("Mul", &[sum, sum])?;
            b.call("Reciprocal", &[square])
        })
    }),
    ("Erf", |b, s| {
        slope(b, s, |b, x, _| {
            let square = b.call("Mul", &[x, x])?;
            let minus = b.call("Neg", &[square])?;
            let (bell, k) = (b.call("Exp", &[minus])?, b.scalar_like(x, std::f64::consts::FRAC_2_SQRT_PI)?);
            b.call("Mul", &[bell, k])
        })
    }),
    ("Softmax", |b, s| {
        // y ⊙ (dy - Σ dy ⊙ y)
        let product = b.call("Mul", &[s.dy, s.y])?;
        let sum = sum_along(b, product, s.node.attrs.int_or("axis", -1)?)?;
        let rest = b.call("Sub", &[s.dy, sum])?;
        Ok(vec![Some(b.call("Mul", &[s.y, rest])?)])
    }),
    ("LogSoftmax", |b, s| {
        let sum = sum_along(b, s.dy, s.node.attrs.int_or("axis", -1)?)?;
        let soft = b.call("Exp", &[s.y])?;
        let part = b.call("Mul", &[soft, sum])?;
        Ok(vec![Some(b.call("Sub", &[s.dy, part])?)])
    }),
    // Shapes.
    ("Reshape", back_to_shape),
    ("Flatten", back_to_shape),
    ("Squeeze", back_to_shape),
    ("Unsqueeze", back_to_shape),
    ("Expand", |b, s| Ok(vec![Some(unbroadcast(b, s.dy, s.input(0)?)?)])),
    ("Transpose", |b, s| {
        let rank = b.rank(s.dy)?;
        let reversed: Vec<i64> = (0..rank as i64).rev().collect();
        let perm = s.node.attrs.ints_or("perm", &reversed)?;
        let mut back = vec![0usize; rank];
        for (i, &p) in perm.iter().enumerate() {
            back[oxrt_ops::shape::axis(p, rank)?] = i;
        }
        Ok(vec![Some(b.transpose(s.dy, &back)?)])
    }),
    ("Concat", concat),
    ("Slice", slice),
    ("ReduceSum", |b, s| Ok(vec![Some(spread(b, s)?)])),
    ("ReduceMean", |b, s| {
        let x = s.input(0)?;
        let wide = spread(b, s)?;
        let (size, count) = (b.call("Size", &[x])?, b.call("Size", &[s.y])?);
        let dtype = b.dtype(x)?;
        let (size, count) = (b.cast(size, dtype)?, b.cast(count, dtype)?);
        let share = b.call("Div", &[count, size])?;
        Ok(vec![Some(b.call("Mul", &[wide, share])?)])
    }),
    ("GlobalAveragePool", |b, s| {
        let x = s.input(0)?;
        let (shape, dims) = (b.call("Shape", &[x])?, b.dims(x)?);
        let wide = b.call("Expand", &[s.dy, shape])?;
        let area = b.shape_value(&[dims[2..].iter().fold(Dim::Const(1), |n, d| n * d.clone())])?;
        let area = b.cast(area, b.graph[x].ty.dtype().unwrap_or(DType::F32))?;
        Ok(vec![Some(b.call("Div", &[wide, area])?)])
    }),
    // Products.
    ("MatMul", mat_mul),
    ("Gemm", gemm),
    ("Conv", conv),
];

/// The gradients of two broadcast operands.
fn both(b: &mut Builder, s: &Step, l: ValueId, r: ValueId) -> Result<Vec<Option<ValueId>>> {
    Ok(vec![Some(unbroadcast(b, l, s.input(0)?)?), Some(unbroadcast(b, r, s.input(1)?)?)])
}

/// Sums `g` over the axes along which `x` was repeated.
fn unbroadcast(b: &mut Builder, g: ValueId, x: ValueId) -> Result<ValueId> {
    let (from, to) = (b.dims(g)?, b.dims(x)?);
    let extra = from.len() - to.len().min(from.len());
    let repeated = |i: usize| i < extra || to[i - extra].is(1) && !from[i].is(1);
    for i in extra..from.len() {
        if from[i] != to[i - extra] && !repeated(i) {
            bail!(unsupported, "a gradient of shape {from:?} for an operand of shape {to:?}");
        }
    }
    let axes: Vec<i64> = (0..from.len()).filter(|&i| repeated(i)).map(|i| i as i64).collect();
    if axes.is_empty() {
        return Ok(g);
    }
    let axes = b.ints(&axes);
    let sum = b.op("ReduceSum", &[g, axes], Attrs::new().with("keepdims", 1))?;
    b.reshape(sum, &to)
}

fn slope(
    b: &mut Builder,
    s: &Step,
    of: impl FnOnce(&mut Builder, ValueId, ValueId) -> Result<ValueId>,
) -> Result<Vec<Option<ValueId>>> {
    let factor = of(b, s.input(0)?, s.y)?;
    Ok(vec![Some(b.call("Mul", &[s.dy, factor])?)])
}

fn sigmoid_slope(b: &mut Builder, y: ValueId) -> Result<ValueId> {
    let one = b.scalar_like(y, 1.0)?;
    let rest = b.call("Sub", &[one, y])?;
    b.call("Mul", &[y, rest])
}

/// 1 above zero, `below` elsewhere.
fn step_at_zero(b: &mut Builder, x: ValueId, below: f64) -> Result<ValueId> {
    let (zero, one, below) = (b.scalar_like(x, 0.0)?, b.scalar_like(x, 1.0)?, b.scalar_like(x, below)?);
    let positive = b.call("Greater", &[x, zero])?;
    b.call("Where", &[positive, one, below])
}

fn sum_along(b: &mut Builder, v: ValueId, axis: i64) -> Result<ValueId> {
    let axes = b.ints(&[axis]);
    b.op("ReduceSum", &[v, axes], Attrs::new().with("keepdims", 1))
}

/// d xᵃ/dx = a xᵃ⁻¹, d xᵃ/da = xᵃ ln x.
fn pow(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let (x, a) = (s.input(0)?, s.input(1)?);
    let one = b.scalar_like(a, 1.0)?;
    let less = b.call("Sub", &[a, one])?;
    let power = b.call("Pow", &[x, less])?;
    let dtype = b.dtype(x)?;
    let factor = b.cast(a, dtype)?;
    let l = b.call("Mul", &[power, factor])?;
    let l = b.call("Mul", &[s.dy, l])?;
    if b.graph[a].is_constant() || !b.dtype(a)?.is_float() {
        return Ok(vec![Some(unbroadcast(b, l, x)?), None]);
    }
    let log = b.call("Log", &[x])?;
    let r = b.call("Mul", &[s.y, log])?;
    let r = b.call("Mul", &[s.dy, r])?;
    both(b, s, l, r)
}

/// The gradient goes to the operand that gave the result.
fn extreme(b: &mut Builder, s: &Step, compare: &str) -> Result<Vec<Option<ValueId>>> {
    if s.inputs.len() != 2 {
        bail!(unsupported, "{} of {} operands has no gradient", s.node.op, s.inputs.len());
    }
    let zero = b.scalar_like(s.dy, 0.0)?;
    let first = b.call(compare, &[s.input(0)?, s.input(1)?])?;
    let (l, r) = (b.call("Where", &[first, s.dy, zero])?, b.call("Where", &[first, zero, s.dy])?);
    both(b, s, l, r)
}

fn back_to_shape(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let dims = b.dims(s.input(0)?)?;
    Ok(vec![Some(b.reshape(s.dy, &dims)?)])
}

fn concat(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let axis = oxrt_ops::shape::axis(s.node.attrs.int_or("axis", 0)?, b.rank(s.y)?)?;
    let mut sizes = Vec::new();
    for i in 0..s.inputs.len() {
        sizes.push(b.dims(s.input(i)?)?[axis].clone());
    }
    let sizes = b.shape_value(&sizes)?;
    let attrs = Attrs::new().with("axis", axis as i64);
    let parts = b.op_multi("Split", &[Some(s.dy), Some(sizes)], attrs, s.inputs.len())?;
    Ok(parts.into_iter().map(Some).collect())
}

/// Zeros around what was taken, for steps of one.
fn slice(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let x = s.input(0)?;
    let dims = b.dims(x)?;
    let ints = |b: &Builder, i: usize| -> Result<Option<Vec<i64>>> {
        match s.inputs.get(i).copied().flatten() {
            None => Ok(None),
            Some(v) => match b.graph.constant(v) {
                Some(t) => t.to_i64_vec().map(Some),
                None => bail!(unsupported, "a Slice with computed bounds has no gradient"),
            },
        }
    };
    let starts = ints(b, 1)?.unwrap_or_default();
    let axes = ints(b, 3)?.unwrap_or_else(|| (0..starts.len() as i64).collect());
    if ints(b, 4)?.is_some_and(|steps| steps.iter().any(|&s| s != 1)) {
        bail!(unsupported, "a Slice with steps has no gradient");
    }
    let taken = b.dims(s.dy)?;
    let mut pads = vec![Dim::Const(0); 2 * dims.len()];
    for (&start, &axis) in starts.iter().zip(&axes) {
        let axis = oxrt_ops::shape::axis(axis, dims.len())?;
        let size = dims[axis].clone();
        let before = match (start, size.as_const()) {
            (_, Some(n)) => Dim::Const(if start < 0 { (start + n).max(0) } else { start.min(n) }),
            (0.., None) => Dim::Const(start),
            (_, None) => size.clone() + start,
        };
        pads[dims.len() + axis] = size - before.clone() - taken[axis].clone();
        pads[axis] = before;
    }
    let pads = b.shape_value(&pads)?;
    Ok(vec![Some(b.call("Pad", &[s.dy, pads])?)])
}

/// A reduced gradient in the shape of the input.
fn spread(b: &mut Builder, s: &Step) -> Result<ValueId> {
    let x = s.input(0)?;
    let rank = b.rank(x)?;
    let axes = match s.inputs.get(1).copied().flatten() {
        Some(v) => match b.graph.constant(v) {
            Some(t) => t.to_i64_vec()?,
            None => bail!(unsupported, "{} along computed axes has no gradient", s.node.op),
        },
        None => Vec::new(),
    };
    if axes.is_empty() && s.node.attrs.bool_or("noop_with_empty_axes", false)? {
        return Ok(s.dy);
    }
    let axes: Vec<i64> = if axes.is_empty() { (0..rank as i64).collect() } else { axes };
    let mut dy = s.dy;
    if !s.node.attrs.bool_or("keepdims", true)? {
        dy = b.unsqueeze(dy, &axes)?;
    }
    let shape = b.call("Shape", &[x])?;
    b.call("Expand", &[dy, shape])
}

fn swap_last(b: &mut Builder, v: ValueId) -> Result<ValueId> {
    let rank = b.rank(v)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 2, rank - 1);
    b.transpose(v, &perm)
}

/// dA = dY Bᵀ, dB = Aᵀ dY
fn mat_mul(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let (x, w) = (s.input(0)?, s.input(1)?);
    if b.rank(x)? < 2 || b.rank(w)? < 2 {
        bail!(unsupported, "a MatMul of vectors has no gradient");
    }
    let (wt, xt) = (swap_last(b, w)?, swap_last(b, x)?);
    let (l, r) = (b.call("MatMul", &[s.dy, wt])?, b.call("MatMul", &[xt, s.dy])?);
    both(b, s, l, r)
}

/// Y = α A' B' + β C
fn gemm(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let attrs = &s.node.attrs;
    let (alpha, beta) = (attrs.float_or("alpha", 1.0)?, attrs.float_or("beta", 1.0)?);
    let (ta, tb) = (attrs.int_or("transA", 0)?, attrs.int_or("transB", 0)?);
    let (x, w) = (s.input(0)?, s.input(1)?);
    let product = |b: &mut Builder, l: ValueId, r: ValueId, tl: i64, tr: i64| {
        b.op("Gemm", &[l, r], Attrs::new().with("alpha", alpha).with("transA", tl).with("transB", tr))
    };
    let dx = if ta == 0 { product(b, s.dy, w, 0, 1 - tb)? } else { product(b, w, s.dy, tb, 1)? };
    let dw = if tb == 0 { product(b, x, s.dy, 1 - ta, 0)? } else { product(b, s.dy, x, 1, ta)? };
    let mut out = vec![Some(dx), Some(dw)];
    if let Some(c) = s.inputs.get(2).copied().flatten() {
        let beta = b.scalar_like(s.dy, beta as f64)?;
        let scaled = b.call("Mul", &[s.dy, beta])?;
        out.push(Some(unbroadcast(b, scaled, c)?));
    }
    Ok(out)
}

/// By the input: a transposed convolution. By the weights: a convolution of the inputs with dY, with batch and
/// channels exchanged and strides and dilations too.
fn conv(b: &mut Builder, s: &Step) -> Result<Vec<Option<ValueId>>> {
    let attrs = &s.node.attrs;
    let (x, w) = (s.input(0)?, s.input(1)?);
    let fixed = |b: &Builder, v: ValueId| -> Result<Vec<i64>> {
        let dims = b.dims(v)?.iter().skip(2).map(Dim::as_const).collect::<Option<Vec<_>>>();
        dims.ok_or_else(|| Error::unsupported("a Conv of unknown spatial size has no gradient"))
    };
    let (size, kernel, out) = (fixed(b, x)?, fixed(b, w)?, fixed(b, s.y)?);
    let n = size.len();
    let (strides, dilations) = (attrs.ints_or("strides", &vec![1; n])?, attrs.ints_or("dilations", &vec![1; n])?);
    let group = attrs.int_or("group", 1)?;
    if attrs.string_or("auto_pad", "NOTSET")? != "NOTSET" || strides.len() != n || dilations.len() != n {
        bail!(unsupported, "a Conv with `auto_pad` has no gradient");
    }
    let pads = attrs.ints_or("pads", &vec![0; 2 * n])?;
    if pads.len() != 2 * n {
        bail!(invalid, "{} pads for {n} axes", pads.len());
    }
    // What the strides left over at the end.
    let reach = |i: usize| (out[i] - 1) * strides[i] + (kernel[i] - 1) * dilations[i] + 1;
    let rest: Vec<i64> = (0..n).map(|i| size[i] + pads[i] + pads[n + i] - reach(i)).collect();
    let transposed = Attrs::new()
        .with("strides", strides.clone())
        .with("dilations", dilations.clone())
        .with("pads", pads.clone())
        .with("output_padding", rest.clone())
        .with("group", group);
    let dx = b.op("ConvTranspose", &[s.dy, w], transposed)?;
    let mut gradients = vec![Some(dx), None];
    if group == 1 {
        let swap: Vec<usize> = [1, 0].into_iter().chain(2..n + 2).collect();
        let (xt, dyt) = (b.transpose(x, &swap)?, b.transpose(s.dy, &swap)?);
        let mut around = pads.clone();
        // The kernel is not to run over what was left.
        (0..n).for_each(|i| around[n + i] -= rest[i]);
        let attrs = Attrs::new().with("strides", dilations).with("dilations", strides).with("pads", around);
        let dw = b.op("Conv", &[xt, dyt], attrs)?;
        gradients[1] = Some(b.transpose(dw, &swap)?);
    } else if !b.graph[w].is_constant() {
        bail!(unsupported, "a Conv in groups has no gradient by its weights");
    }
    if s.inputs.get(2).copied().flatten().is_some() {
        let axes: Vec<i64> = [0].into_iter().chain(2..n as i64 + 2).collect();
        let axes = b.ints(&axes);
        gradients.push(Some(b.op("ReduceSum", &[s.dy, axes], Attrs::new().with("keepdims", 0))?));
    }
    Ok(gradients)
}
