//! Tensors made from nothing: constants, ranges, random numbers.

use super::formula::F;
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use crate::promote::scalar_value;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

/// Constants up to this many elements are written out; larger ones are made at run time.
const INLINE: i64 = 1024;

/// A tensor of one repeated value.
pub(crate) fn filled(cx: &mut Cx, dtype: DType, dims: &[Dim], value: &Scalar) -> Result<ValueId> {
    let count = dims
        .iter()
        .map(Dim::as_const)
        .collect::<Option<Vec<_>>>()
        .and_then(|d| d.iter().try_fold(1i64, |n, &d| n.checked_mul(d)));
    if let (Some(x), Some(n)) = (value.as_f64(), count.filter(|n| (0..=INLINE).contains(n))) {
        let shape: Vec<usize> = dims.iter().filter_map(Dim::as_size).collect();
        let tensor = match value {
            Scalar::Int(Dim::Const(i)) if dtype.is_int() => Tensor::from_i64(dtype, &shape, &vec![*i; n as usize])?,
            _ => Tensor::from_f64(dtype, &shape, &vec![x; n as usize])?,
        };
        return Ok(cx.b.constant(tensor));
    }
    let v = scalar_value(cx, value, dtype)?;
    cx.expand(v, dims)
}

fn of_output(cx: &mut Cx, a: &Args, value: &Scalar) -> Result<ValueId> {
    let dtype = a.out_dtype()?;
    if dtype.is_complex() {
        let (v, mut dims) = (super::pairs::number(cx, value, dtype)?, a.out_dims()?);
        dims.push(Dim::Const(2));
        return cx.expand(v, &dims);
    }
    filled(cx, dtype, &a.out_dims()?, value)
}

/// `zeros(SymInt[] size, *, ScalarType? dtype=None, …)`, `zeros_like`, `new_zeros`, `empty*`: uninitialised
/// memory is zero here
pub fn zeros(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of_output(cx, a, &Scalar::Int(Dim::Const(0)))
}

/// `ones(SymInt[] size, …)`, `ones_like`, `new_ones`
pub fn ones(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of_output(cx, a, &Scalar::Int(Dim::Const(1)))
}

/// `full(SymInt[] size, Scalar fill_value, …)`, `full_like`, `new_full`
pub fn full(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    of_output(cx, a, &a.scalar("fill_value")?)
}

/// `scalar_tensor(Scalar s, *, ScalarType? dtype=None, …)`
pub fn scalar_tensor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    scalar_value(cx, &a.scalar("s")?, a.out_dtype()?)
}

/// `0 … n-1` as i64.
pub(crate) fn range(cx: &mut Cx, n: &Dim) -> Result<ValueId> {
    arange_values(cx, &Scalar::Int(Dim::Const(0)), &Scalar::Int(n.clone()), &Scalar::Int(Dim::Const(1)), DType::I64, n)
}

fn arange_values(cx: &mut Cx, start: &Scalar, end: &Scalar, step: &Scalar, dtype: DType, n: &Dim) -> Result<ValueId> {
    let known = (start.as_f64(), step.as_f64(), n.as_const());
    // A range of integers counts by whole steps, cut from what is given.
    let known = match known {
        (Some(start), Some(step), n) if dtype.is_int() => (Some(start.trunc()), Some(step.trunc()), n),
        other => other,
    };
    if let (Some(start), Some(step), Some(n @ 0..=INLINE)) = known {
        let values: Vec<f64> = (0..n).map(|i| start + i as f64 * step).collect();
        let t = Tensor::from_f64(dtype, &[n as usize], &values)?;
        return Ok(cx.b.constant(t));
    }
    // Integers are counted exactly; a float range is counted by its length, which torch rounds its own way.
    let whole = |s: &Scalar| matches!(s, Scalar::Int(_));
    let v = if whole(start) && whole(end) && whole(step) {
        let bounds = [start, end, step].map(|s| scalar_value(cx, s, DType::I64));
        let [start, end, step] = bounds;
        let v = cx.call("Range", &[start?, end?, step?])?;
        cx.cast(v, dtype)?
    } else {
        let float = if dtype.is_float() && dtype != DType::F16 && dtype != DType::BF16 { dtype } else { DType::F32 };
        let places = range(cx, n)?;
        let places = cx.cast(places, float)?;
        let (start, step) = (scalar_value(cx, start, float)?, scalar_value(cx, step, float)?);
        let v = cx.call("Mul", &[places, step])?;
        let v = cx.call("Add", &[v, start])?;
        cx.cast(v, dtype)?
    };
    cx.b.graph[v].ty = oxrt_ir::ValueType::tensor(dtype, vec![n.clone()]);
    Ok(v)
}

/// `arange(Scalar end, …)`, `arange.start(Scalar start, Scalar end, …)`, `arange.start_step`
pub fn arange(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let start = a.opt_scalar("start")?.unwrap_or(Scalar::Int(Dim::Const(0)));
    let step = a.opt_scalar("step")?.unwrap_or(Scalar::Int(Dim::Const(1)));
    let end = a.scalar("end")?;
    let dims = a.out_dims()?;
    let [n] = &dims[..] else { bail!(invalid, "arange of rank {}", dims.len()) };
    arange_values(cx, &start, &end, &step, a.out_dtype()?, n)
}

/// `linspace(Scalar start, Scalar end, int steps, …)`
pub fn linspace(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (start, end, steps) = (a.scalar("start")?, a.scalar("end")?, a.dim("steps")?);
    let dtype = a.out_dtype()?;
    if let (Some(s), Some(e), Some(n)) =
        (start.as_f64(), end.as_f64(), steps.as_const().filter(|n| (0..1 << 20).contains(n)))
    {
        // torch counts from both ends towards the middle, in the tensor's own precision.
        let wide = dtype == DType::F64;
        let cut = |x: f64| if wide { x } else { x as f32 as f64 };
        let step = if n > 1 { cut((cut(e) - cut(s)) / (n - 1) as f64) } else { 0.0 };
        let at = |i: i64| if i < n / 2 { cut(s + step * i as f64) } else { cut(e - step * (n - 1 - i) as f64) };
        let values: Vec<f64> = (0..n).map(|i| if n == 1 { s } else { at(i) }).collect();
        let t = Tensor::from_f64(dtype, &[n as usize], &values)?;
        return Ok(cx.b.constant(t));
    }
    let float = crate::promote::float_of(dtype);
    let places = range(cx, &steps)?;
    let places = cx.cast(places, float)?;
    let (s, e) = (scalar_value(cx, &start, float)?, scalar_value(cx, &end, float)?);
    let gaps = cx.dim_scalar(&(steps - 1).at_least(&Dim::Const(1)))?;
    let gaps = cx.cast(gaps, float)?;
    let width = cx.call("Sub", &[e, s])?;
    let step = cx.call("Div", &[width, gaps])?;
    let v = cx.call("Mul", &[places, step])?;
    let v = cx.call("Add", &[v, s])?;
    cx.cast(v, dtype)
}

/// `logspace(Scalar start, Scalar end, int steps, float base=10, …)`
pub fn logspace(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let exponents = linspace(cx, a)?;
    let base = cx.like(exponents, a.float("base")?)?;
    cx.call("Pow", &[base, exponents])
}

/// `eye(SymInt n, …)`, `eye.m(SymInt n, SymInt m, …)`
pub fn eye(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (dims, dtype) = (a.out_dims()?, a.out_dtype()?);
    let [n, m] = &dims[..] else { bail!(invalid, "eye of rank {}", dims.len()) };
    let (rows, columns) = (range(cx, n)?, range(cx, m)?);
    let rows = cx.b.unsqueeze(rows, &[1])?;
    let same = cx.call("Equal", &[rows, columns])?;
    cx.cast(same, dtype)
}

/// `hann_window(int window_length, …)`, `hamming_window`, `blackman_window`, `bartlett_window`, `kaiser_window`: periodic unless asked otherwise
pub fn window(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dims = a.out_dims()?;
    let Some(n) = dims.first().and_then(Dim::as_const).filter(|n| (0..1 << 20).contains(n)) else {
        bail!(unsupported, "a window of dynamic length")
    };
    let periodic = a.get("periodic").is_none() || a.bool("periodic")?;
    let length = if periodic { n } else { n - 1 } as f64;
    let number = |name: &str, usual: f64| -> Result<f64> { Ok(a.opt_float(name)?.unwrap_or(usual)) };
    let name = a.target.trim_start_matches("aten.").split('_').next().unwrap_or_default();
    let at: Box<dyn Fn(f64) -> f64> = match name {
        "hann" => Box::new(|x| 0.5 - 0.5 * (std::f64::consts::TAU * x).cos()),
        "hamming" => {
            let (alpha, beta) = (number("alpha", 0.54)?, number("beta", 0.46)?);
            Box::new(move |x| alpha - beta * (std::f64::consts::TAU * x).cos())
        }
        "blackman" => Box::new(|x| {
            0.42 - 0.5 * (std::f64::consts::TAU * x).cos() + 0.08 * (2.0 * std::f64::consts::TAU * x).cos()
        }),
        "bartlett" => Box::new(|x| 1.0 - (2.0 * x - 1.0).abs()),
        "kaiser" => {
            let beta = number("beta", 12.0)?;
            Box::new(move |x| bessel_i0(beta * (1.0 - (2.0 * x - 1.0).powi(2)).max(0.0).sqrt()) / bessel_i0(beta))
        }
        other => bail!(bug, "the window {other}"),
    };
    let values: Vec<f64> = (0..n).map(|i| if n == 1 { 1.0 } else { at(i as f64 / length) }).collect();
    let t = Tensor::from_f64(a.out_dtype()?, &[n as usize], &values)?;
    Ok(cx.b.constant(t))
}

/// The modified Bessel function of order zero, by its series.
fn bessel_i0(x: f64) -> f64 {
    let (mut sum, mut term, mut k) = (1.0, 1.0, 1.0);
    while term > 1e-17 * sum && k < 1000.0 {
        term *= (x / (2.0 * k)).powi(2);
        sum += term;
        k += 1.0;
    }
    sum
}

/// `fft_fftfreq(int n, float d=1.0, …)`, `fft_rfftfreq`: the frequencies of a transform
pub fn frequencies(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (n, d, dtype) = (a.dim("n")?, a.opt_float("d")?.unwrap_or(1.0), a.out_dtype()?);
    let count = a.out_dims()?.into_iter().next().ok_or_else(|| oxrt_tensor::Error::invalid("frequencies of rank 0"))?;
    let places = range(cx, &count)?;
    let half = cx.dim_scalar(&(n.clone() + 1).floor_div(&Dim::Const(2)))?;
    let total = cx.dim_scalar(&n)?;
    let places = match a.target.contains("rfftfreq") {
        true => places,
        // The second half are the negative ones.
        false => F::from(places)
            .lt(F::from(half))
            .pick(F::from(places), F::from(places) - F::from(total))
            .emit(cx, DType::I64)?,
    };
    let (places, total) = (cx.cast(places, dtype)?, cx.cast(total, dtype)?);
    (F::from(places) / (F::from(total) * d)).emit(cx, dtype)
}

// ---- random numbers ----

fn warn_random(cx: &mut Cx) {
    cx.warn("the program draws random numbers; results differ from run to run and from torch".into());
}

fn random(cx: &mut Cx, a: &Args, op: &str, attrs: Attrs) -> Result<ValueId> {
    warn_random(cx);
    let dtype = a.out_dtype()?;
    let float = crate::promote::float_of(dtype);
    let base = filled(cx, float, &a.out_dims()?, &Scalar::Int(Dim::Const(0)))?;
    let v = cx.op(&format!("{op}Like"), &[base], attrs.with("dtype", float.to_onnx() as i64))?;
    cx.cast(v, dtype)
}

/// `rand(SymInt[] size, …)`, `rand_like`
pub fn rand(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    random(cx, a, "RandomUniform", Attrs::new().with("low", 0.0f32).with("high", 1.0f32))
}

/// `randn(SymInt[] size, …)`, `randn_like`
pub fn randn(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    random(cx, a, "RandomNormal", Attrs::new().with("mean", 0.0f32).with("scale", 1.0f32))
}

/// `normal.float_float(float mean, float std, SymInt[] size, …)`
pub fn normal(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mean, std) = (a.float("mean")? as f32, a.float("std")? as f32);
    random(cx, a, "RandomNormal", Attrs::new().with("mean", mean).with("scale", std))
}

/// `randint(SymInt high, SymInt[] size, …)`, `randint.low(SymInt low, SymInt high, …)`
pub fn randint(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let low = a.opt_int("low")?.unwrap_or(0);
    let high = a.int("high")?;
    warn_random(cx);
    let base = filled(cx, DType::F32, &a.out_dims()?, &Scalar::Int(Dim::Const(0)))?;
    let attrs = Attrs::new().with("low", low as f32).with("high", high as f32);
    let v = cx.op("RandomUniformLike", &[base], attrs.with("dtype", DType::F32.to_onnx() as i64))?;
    let v = cx.call("Floor", &[v])?;
    cx.cast(v, a.out_dtype()?)
}

/// `bernoulli(Tensor self, …)` of the probabilities in `self`, `bernoulli.p(Tensor self, float p, …)`, `bernoulli_.float`, `bernoulli.Tensor`
pub fn bernoulli(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if !a.has("p") {
        warn_random(cx);
        return cx.call("Bernoulli", &[x]);
    }
    let p = crate::promote::Operand::of(a, "p")?;
    let p = crate::promote::value(cx, &p, DType::F32)?;
    // Zero is never drawn where the probability is zero, and one always where it is one.
    let (u, dtype) = uniform_like(cx, a)?;
    let y = u.lt(F::from(p)).emit(cx, DType::F32)?;
    cx.cast(y, dtype)
}

/// `random(Tensor self, …)`, `random.from(Tensor self, int from, int? to, …)`, `random.to(Tensor self, int to, …)`: whole numbers below `to`
pub fn random_whole(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (u, dtype) = uniform_like(cx, a)?;
    // Floats take the whole numbers that they hold exactly; none beyond what single precision tells apart is drawn.
    let from = a.opt_int("from")?.unwrap_or(0);
    let to = a.opt_int("to")?.unwrap_or(1 << 24);
    let v = ((u * (to - from) as f64).floor() + from as f64).emit(cx, DType::F32)?;
    cx.cast(v, dtype)
}

/// `randperm(SymInt n, …)`: the order of random numbers
pub fn randperm(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    warn_random(cx);
    let n = a.dim("n")?;
    let base = filled(cx, DType::F32, std::slice::from_ref(&n), &Scalar::Int(Dim::Const(0)))?;
    let v = cx.op("RandomUniformLike", &[base], Attrs::new())?;
    let k = cx.b.dim_value(&n)?;
    let out = cx.b.op_multi("TopK", &[Some(v), Some(k)], Attrs::new(), 2)?;
    cx.cast(out[1], a.out_dtype()?)
}

/// Uniform numbers between 0 and 1, both ends excluded, in the shape of the first argument.
fn uniform_like(cx: &mut Cx, a: &Args) -> Result<(F, DType)> {
    warn_random(cx);
    let x = a.t("self")?;
    let dims = cx.dims(x)?;
    let base = filled(cx, DType::F32, &dims, &Scalar::Int(Dim::Const(0)))?;
    let attrs = Attrs::new().with("low", f32::EPSILON).with("high", 1.0 - f32::EPSILON);
    Ok((F::from(cx.op("RandomUniformLike", &[base], attrs)?), cx.dtype(x)?))
}

/// `uniform(Tensor self, float from=0, float to=1, …)`
pub fn uniform(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (u, dtype) = uniform_like(cx, a)?;
    let (from, to) = (a.float("from")?, a.float("to")?);
    let v = (u * (to - from) + from).emit(cx, DType::F32)?;
    cx.cast(v, dtype)
}

/// `cauchy(Tensor self, float median=0, float sigma=1, …)`
pub fn cauchy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (u, dtype) = uniform_like(cx, a)?;
    let v = ((u - 0.5) * std::f64::consts::PI).tan() * a.float("sigma")? + a.float("median")?;
    let v = v.emit(cx, DType::F32)?;
    cx.cast(v, dtype)
}

/// `exponential(Tensor self, float lambd=1, …)`
pub fn exponential(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (u, dtype) = uniform_like(cx, a)?;
    let v = (-u.ln() / a.float("lambd")?).emit(cx, DType::F32)?;
    cx.cast(v, dtype)
}

/// `geometric(Tensor self, float p, …)`
pub fn geometric(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (u, dtype) = uniform_like(cx, a)?;
    let trials = super::formula::call("Ceil", &[&(u.ln() / (1.0 - a.float("p")?).ln())]);
    let v = trials.emit(cx, DType::F32)?;
    cx.cast(v, dtype)
}

/// `normal_(Tensor self, float mean=0, float std=1, …)` and, with an exponential, `log_normal_`
pub fn normal_like(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    warn_random(cx);
    let x = a.t("self")?;
    let (dims, dtype) = (cx.dims(x)?, cx.dtype(x)?);
    let base = filled(cx, DType::F32, &dims, &Scalar::Int(Dim::Const(0)))?;
    let attrs = Attrs::new().with("mean", a.float("mean")? as f32).with("scale", a.float("std")? as f32);
    let mut v = cx.op("RandomNormalLike", &[base], attrs)?;
    if a.target.contains("log_normal") {
        v = cx.call("Exp", &[v])?;
    }
    cx.cast(v, dtype)
}

/// `normal.Tensor_Tensor(Tensor mean, Tensor std, …)`, `.Tensor_float`, `.float_Tensor`
pub fn normal_around(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    warn_random(cx);
    let (dims, dtype) = (a.out_dims()?, a.out_dtype()?);
    let base = filled(cx, DType::F32, &dims, &Scalar::Int(Dim::Const(0)))?;
    let z = cx.op("RandomNormalLike", &[base], Attrs::new())?;
    let z = cx.cast(z, dtype)?;
    let operand = |name: &str, default: f64| match a.has(name) {
        true => crate::promote::Operand::of(a, name),
        false => Ok(crate::promote::Operand::Scalar(Scalar::Float(default))),
    };
    let (mean, std) = (operand("mean", 0.0)?, operand("std", 1.0)?);
    let (mean, std) = (crate::promote::value(cx, &mean, dtype)?, crate::promote::value(cx, &std, dtype)?);
    (F::from(z) * F::from(std) + F::from(mean)).emit(cx, dtype)
}

/// `multinomial(Tensor self, SymInt num_samples, bool replacement=False, …)`: without replacement, the greatest of the
/// logarithms with Gumbel noise added
pub fn multinomial(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    warn_random(cx);
    let weights = a.t("self")?;
    let samples = a.dim("num_samples")?;
    let out_dims = match &a.out_dims {
        Some(dims) => dims.clone(),
        None => {
            let mut dims = cx.dims(weights)?;
            dims.pop();
            dims.push(samples.clone());
            dims
        }
    };
    let p = cx.cast(weights, DType::F32)?;
    if a.bool("replacement")? {
        // Places on the running sum of the weights.
        let dims = cx.dims(p)?;
        let last = dims.len() - 1;
        let axis = cx.b.scalar(DType::I64, last as f64)?;
        let steps = cx.call("CumSum", &[p, axis])?;
        let total = cx.reduce("ReduceSum", p, &[last], true)?;
        let base = filled(cx, DType::F32, &out_dims, &Scalar::Int(Dim::Const(0)))?;
        let u = cx.op("RandomUniformLike", &[base], Attrs::new())?;
        let u = cx.call("Mul", &[u, total])?;
        let (u, steps) = (cx.b.unsqueeze(u, &[-1])?, cx.b.unsqueeze(steps, &[-2])?);
        let passed = cx.call("GreaterOrEqual", &[u, steps])?;
        let passed = cx.cast(passed, DType::I64)?;
        let places = cx.reduce("ReduceSum", passed, &[last + 1], false)?;
        let most = cx.dim_scalar(&(dims[last].clone() - 1))?;
        return cx.call("Min", &[places, most]);
    }
    let log = cx.call("Log", &[p])?;
    let attrs = Attrs::new().with("low", f32::MIN_POSITIVE).with("high", 1.0f32);
    let u = cx.op("RandomUniformLike", &[p], attrs)?;
    let noise = super::formula::F::from(u);
    let keys = (super::formula::F::from(log) - (-noise.ln()).ln()).emit(cx, DType::F32)?;
    let k = cx.b.dim_value(&samples)?;
    let out = cx.b.op_multi("TopK", &[Some(keys), Some(k)], Attrs::new(), 2)?;
    Ok(out[1])
}

/// `one_hot(Tensor self, int num_classes=-1)`
pub fn one_hot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let classes = match &a.out_dims {
        Some(dims) => dims.last().cloned().ok_or_else(|| oxrt_tensor::Error::invalid("one_hot of rank 0"))?,
        None if a.int("num_classes")? >= 0 => a.dim("num_classes")?,
        None => bail!(unsupported, "one_hot without a number of classes"),
    };
    let classes = range(cx, &classes)?;
    let x = cx.b.unsqueeze(x, &[-1])?;
    let hit = cx.call("Equal", &[x, classes])?;
    cx.cast(hit, DType::I64)
}

/// `complex(Tensor real, Tensor imag)`
pub fn complex(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (r, i) = (a.t("real")?, a.t("imag")?);
    let dims = match &a.out_dims {
        Some(dims) => dims.clone(),
        None => {
            let (x, y) = (cx.dims(r)?, cx.dims(i)?);
            oxrt_ops::shape::broadcast_dims(&[&x, &y])?.into_iter().collect()
        }
    };
    let (r, i) = (cx.expand(r, &dims)?, cx.expand(i, &dims)?);
    let (r, i) = (cx.b.unsqueeze(r, &[-1])?, cx.b.unsqueeze(i, &[-1])?);
    cx.concat(&[r, i], dims.len())
}

/// `polar(Tensor abs, Tensor angle)`
pub fn polar(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (r, angle) = (a.t("abs")?, a.t("angle")?);
    let (c, s) = (cx.call("Cos", &[angle])?, cx.call("Sin", &[angle])?);
    let (x, y) = (cx.call("Mul", &[r, c])?, cx.call("Mul", &[r, s])?);
    let rank = cx.rank(x)?;
    let (x, y) = (cx.b.unsqueeze(x, &[-1])?, cx.b.unsqueeze(y, &[-1])?);
    cx.concat(&[x, y], rank)
}
