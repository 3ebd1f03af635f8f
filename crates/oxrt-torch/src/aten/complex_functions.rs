//! Functions of complex tensors, and operators that treat real and imaginary part alike.

use super::complex::{joined, parts};
use super::formula::{F, call};
use super::table::Rule;
use crate::args::{Arg, Args};
use crate::cx::{Cx, Val, real_dtype};
use crate::promote::Operand;
use oxrt_ir::{DType, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};

/// A complex expression.
#[derive(Clone)]
struct C {
    re: F,
    im: F,
}

impl C {
    fn mul(&self, o: &C) -> C {
        C { re: &self.re * &o.re - &self.im * &o.im, im: &self.re * &o.im + &self.im * &o.re }
    }

    fn div(&self, o: &C) -> C {
        let norm = o.re.squared() + o.im.squared();
        let re = (&self.re * &o.re + &self.im * &o.im) / &norm;
        C { re, im: (&self.im * &o.re - &self.re * &o.im) / norm }
    }

    fn add(&self, o: &C) -> C {
        C { re: &self.re + &o.re, im: &self.im + &o.im }
    }

    fn sub(&self, o: &C) -> C {
        C { re: &self.re - &o.re, im: &self.im - &o.im }
    }

    /// `self + x`
    fn plus(&self, x: f64) -> C {
        C { re: &self.re + x, im: self.im.clone() }
    }

    /// `self · x`
    fn times(&self, x: f64) -> C {
        C { re: &self.re * x, im: &self.im * x }
    }

    fn scaled(&self, x: &F) -> C {
        C { re: &self.re * x, im: &self.im * x }
    }

    fn neg(&self) -> C {
        C { re: -&self.re, im: -&self.im }
    }

    /// `i · self`
    fn turned(&self) -> C {
        C { re: -&self.im, im: self.re.clone() }
    }

    /// `-i · self`
    fn turned_back(&self) -> C {
        C { re: self.im.clone(), im: -&self.re }
    }

    fn size(&self) -> F {
        (self.re.squared() + self.im.squared()).sqrt()
    }

    fn exp(&self) -> C {
        let size = self.re.exp();
        C { re: &size * self.im.cos(), im: size * self.im.sin() }
    }

    fn sqrt(&self) -> C {
        let size = self.size();
        let half = |x: F| (x * 0.5).max(0.0).sqrt();
        let v = half(&size - &self.re);
        C { re: half(&size + &self.re), im: self.im.lt(0.0).pick(-&v, &v) }
    }

    fn tanh(&self) -> C {
        let (t, u) = (call("Tanh", &[&self.re]), self.im.tan());
        let below = t.squared() * u.squared() + 1.0;
        C { re: &t * (u.squared() + 1.0) / &below, im: u * (1.0 - t.squared()) / below }
    }
}

/// Expressions with a logarithm need the angle, which is made of nodes.
fn log(cx: &mut Cx, z: &C, dtype: DType) -> Result<C> {
    let (re, im) = (z.re.emit(cx, dtype)?, z.im.emit(cx, dtype)?);
    let z = C { re: F::from(re), im: F::from(im) };
    Ok(C { re: z.size().ln(), im: F::from(super::elementwise::atan2_values(cx, im, re)?) })
}

fn asinh(cx: &mut Cx, z: &C, dtype: DType) -> Result<C> {
    // The function is odd; on the right half the sum does not cancel.
    let sign = z.re.lt(0.0).pick(-1.0, 1.0);
    let z = z.scaled(&sign);
    let root = z.mul(&z).plus(1.0).sqrt();
    Ok(log(cx, &z.add(&root), dtype)?.scaled(&sign))
}

fn atanh(cx: &mut Cx, z: &C, dtype: DType) -> Result<C> {
    let (above, below) = (log(cx, &z.plus(1.0), dtype)?, log(cx, &z.neg().plus(1.0), dtype)?);
    Ok(above.sub(&below).times(0.5))
}

/// The real type that a call on complex tensors computes in.
fn real_type(cx: &Cx, a: &Args) -> Result<DType> {
    let complex: Vec<ValueId> = a.tensors().into_iter().filter(|&v| cx.is_complex(v)).collect();
    let found = complex.iter().find(|&&v| cx.rank(v).is_ok_and(|r| r > 1)).or(complex.first());
    found.map_or(Ok(DType::F32), |&v| cx.dtype(v))
}

fn of_value(cx: &mut Cx, v: ValueId, dtype: DType) -> Result<C> {
    if cx.is_complex(v) {
        let (re, im) = parts(cx, v)?;
        return Ok(C { re: F::from(cx.cast(re, dtype)?), im: F::from(cx.cast(im, dtype)?) });
    }
    Ok(C { re: F::from(cx.cast(v, dtype)?), im: F::from(0.0) })
}

/// A named tensor or number.
fn operand(cx: &mut Cx, a: &Args, name: &str, dtype: DType) -> Result<C> {
    Ok(match Operand::of(a, name)? {
        Operand::Tensor(v) => of_value(cx, v, dtype)?,
        Operand::Scalar(crate::args::Scalar::Complex(re, im)) => C { re: F::from(re), im: F::from(im) },
        o => C { re: F::from(crate::promote::value(cx, &o, dtype)?), im: F::from(0.0) },
    })
}

fn emit(cx: &mut Cx, z: &C, dtype: DType) -> Result<ValueId> {
    let (re, im) = (z.re.emit(cx, dtype)?, z.im.emit(cx, dtype)?);
    joined(cx, re, im)
}

/// `tan(Tensor self)`, `sinh`, `cosh`, `tanh`, `asin`, `acos`, `atan`, `asinh`, `acosh`, `atanh`, `log1p`, `log2`, `log10`, `exp2`, `expm1`,
/// `rsqrt`, `sigmoid`
pub fn function(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let z = operand(cx, a, "self", dtype)?;
    let name = a.target.trim_start_matches("aten.").split('.').next().unwrap_or_default();
    let name = name.trim_start_matches("special_").trim_end_matches('_').replacen("arc", "a", 1);
    let y = match &*name {
        "tan" => z.turned().tanh().turned_back(),
        "tanh" => z.tanh(),
        "sinh" | "cosh" => {
            let (s, c) = (call("Sinh", &[&z.re]), call("Cosh", &[&z.re]));
            let (s, c) = if name == "sinh" { (s, c) } else { (c, s) };
            C { re: s * z.im.cos(), im: c * z.im.sin() }
        }
        "asinh" => asinh(cx, &z, dtype)?,
        "asin" => asinh(cx, &z.turned(), dtype)?.turned_back(),
        "acos" => asinh(cx, &z.turned(), dtype)?.turned_back().neg().plus(std::f64::consts::FRAC_PI_2),
        "acosh" => {
            let root = z.plus(1.0).sqrt().mul(&z.plus(-1.0).sqrt());
            log(cx, &z.add(&root), dtype)?
        }
        "atanh" => atanh(cx, &z, dtype)?,
        "atan" => atanh(cx, &z.turned(), dtype)?.turned_back(),
        "log1p" => log(cx, &z.plus(1.0), dtype)?,
        "log2" => log(cx, &z, dtype)?.times(1.0 / std::f64::consts::LN_2),
        "log10" => log(cx, &z, dtype)?.times(1.0 / std::f64::consts::LN_10),
        "exp2" => z.times(std::f64::consts::LN_2).exp(),
        "expm1" => z.exp().plus(-1.0),
        "rsqrt" => C { re: F::from(1.0), im: F::from(0.0) }.div(&z.sqrt()),
        "sigmoid" | "expit" => C { re: F::from(1.0), im: F::from(0.0) }.div(&z.neg().exp().plus(1.0)),
        other => bail!(bug, "the complex function {other}"),
    };
    emit(cx, &y, dtype)
}

/// `pow.Tensor_Tensor(Tensor self, Tensor exponent)`, `pow.Scalar(Scalar self, Tensor exponent)`, `pow.Tensor_Scalar` of complex exponents:
/// `e^(w log z)`, and of zero 0 where the exponent's real part is positive, 1 where the exponent is zero
pub fn pow(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (z, w) = (operand(cx, a, "self", dtype)?, operand(cx, a, "exponent", dtype)?);
    let y = log(cx, &z, dtype)?.mul(&w).exp();
    let zero = |z: &C| z.re.equals(0.0).and(z.im.equals(0.0));
    let none = zero(&w);
    let gone = zero(&z).and(w.re.gt(0.0));
    let y = C { re: none.pick(1.0, gone.pick(0.0, y.re)), im: none.or(&gone).pick(0.0, y.im) };
    emit(cx, &y, dtype)
}

/// `addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1)`, `addcdiv`
pub fn addc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let [x, y, z, by] = ["self", "tensor1", "tensor2", "value"].map(|name| operand(cx, a, name, dtype));
    let (y, z) = (y?, z?);
    let part = if a.target.contains("addcdiv") { y.div(&z) } else { y.mul(&z) };
    emit(cx, &x?.add(&part.mul(&by?)), dtype)
}

/// `lerp.Scalar(Tensor self, Tensor end, Scalar weight)`, `lerp.Tensor`
pub fn lerp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (x, end) = (operand(cx, a, "self", dtype)?, operand(cx, a, "end", dtype)?);
    let w = operand(cx, a, "weight", dtype)?;
    emit(cx, &x.add(&end.sub(&x).mul(&w)), dtype)
}

/// `logaddexp(Tensor self, Tensor other)`
pub fn logaddexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (x, y) = (operand(cx, a, "self", dtype)?, operand(cx, a, "other", dtype)?);
    let z = log(cx, &x.exp().add(&y.exp()), dtype)?;
    emit(cx, &z, dtype)
}

/// `logsumexp(Tensor self, int[1] dim, bool keepdim=False)`
pub fn logsumexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let z = operand(cx, a, "self", dtype)?.exp();
    let mut sums = Vec::new();
    for part in [z.re, z.im] {
        let part = part.emit(cx, dtype)?;
        let call = real_call(a, dtype).with("self", tensor(cx, part));
        sums.push(F::from(super::reduce::sum(cx, &call)?));
    }
    let [re, im] = &sums[..] else { bail!(bug, "two parts") };
    let z = log(cx, &C { re: re.clone(), im: im.clone() }, dtype)?;
    emit(cx, &z, dtype)
}

/// `prod(Tensor self, *, ScalarType? dtype=None)`, `prod.dim_int`, `cumprod`: the sizes are multiplied, the angles added
pub fn prod(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let (re, im) = parts(cx, a.t("self")?)?;
    let size = C { re: F::from(re), im: F::from(im) }.size().emit(cx, dtype)?;
    let angle = super::elementwise::atan2_values(cx, im, re)?;
    let a = real_call(a, dtype);
    let (size, angle) = (a.with("self", tensor(cx, size)), a.with("self", tensor(cx, angle)));
    let (size, angle) = match a.target.contains("cumprod") {
        true => (super::reduce::cumprod(cx, &size)?, super::reduce::cumsum(cx, &angle)?),
        false => (super::reduce::prod(cx, &size)?, super::reduce::sum(cx, &angle)?),
    };
    let (size, angle) = (F::from(size), F::from(angle));
    emit(cx, &C { re: &size * angle.cos(), im: size * angle.sin() }, dtype)
}

/// `var(Tensor self, …)`, `std`, `var_mean`, `std_mean`: the variances of both parts add up
pub fn spread(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let dtype = real_type(cx, a)?;
    let (re, im) = parts(cx, a.t("self")?)?;
    let call = real_call(a, dtype);
    let (mut vars, mut means) = (Vec::new(), Vec::new());
    for part in [re, im] {
        let call = call.with("self", tensor(cx, part));
        let out = super::reduce::var_mean(cx, &call)?;
        vars.push(out[0]);
        means.extend(out.get(1));
    }
    let mut var = F::from(vars[0]) + F::from(vars[1]);
    if a.target.starts_with("aten.std") {
        var = var.sqrt();
    }
    let var = var.emit(cx, dtype)?;
    Ok(match means[..] {
        [re, im] if a.target.contains("_mean") => vec![var, joined(cx, re, im)?],
        _ => vec![var],
    })
}

/// `isnan(Tensor self)`, `isinf`, `isfinite`, `isreal`
pub fn test(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let z = operand(cx, a, "self", dtype)?;
    let odd = |x: &F| x.is_nan().or(x.is_inf());
    let y = match a.target {
        t if t.contains("isnan") => z.re.is_nan().or(z.im.is_nan()),
        t if t.contains("isinf") => z.re.is_inf().or(z.im.is_inf()),
        t if t.contains("isreal") => z.im.equals(0.0),
        _ => odd(&z.re).or(odd(&z.im)).not(),
    };
    y.emit(cx, dtype)
}

// ---- calls of the real operator ----

fn tensor(cx: &mut Cx, v: ValueId) -> Arg<'static> {
    Arg::Tensor(cx.new_tensor(v), v)
}

/// The call with real element types.
fn real_call<'a>(a: &Args<'a>, dtype: DType) -> Args<'a> {
    let mut out = a.clone();
    out.out_dtype = out.out_dtype.map(real_dtype);
    for (_, arg) in &mut out.named {
        if let Arg::Other(Val::DType(d)) = arg {
            *d = if d.is_complex() { dtype } else { *d };
        }
    }
    out
}

/// What the rule for real tensors gives.
fn run(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (rule, _) = crate::lower::rule_of(a.target).ok_or_else(|| Error::bug("no rule for real tensors"))?;
    let first = match a.named.first() {
        Some((_, Arg::Tensor(_, v))) => Some(*v),
        _ => None,
    };
    let base = first.ok_or_else(|| Error::bug("a view of nothing"));
    Ok(match rule {
        Rule::One(f) => vec![f(cx, a)?],
        Rule::Many(f) => f(cx, a)?,
        Rule::View(f) => match f(cx, a)? {
            crate::alias::Shown::Copy(v) => vec![v],
            crate::alias::Shown::View(view) => vec![view.apply(cx, base?)?],
        },
        Rule::Views(f) => {
            let base = base?;
            f(cx, a)?.iter().map(|v| v.apply(cx, base)).collect::<Result<_>>()?
        }
        Rule::Vals(_) | Rule::Skip => bail!(unsupported, "this operator on complex tensors"),
    })
}

/// Arguments that are elements of the result: a real number there has no imaginary part.
const ELEMENTS: &[&str] = &["value", "fill_value", "padding_value", "input"];

/// The call with every complex argument replaced by its part `k`.
fn with_part<'a>(cx: &mut Cx, a: &Args<'a>, k: usize, dtype: DType) -> Result<Args<'a>> {
    fn replace<'a>(cx: &mut Cx, arg: &Arg<'a>, k: usize, dtype: DType, element: bool) -> Result<Arg<'a>> {
        Ok(match arg {
            Arg::Tensor(_, v) if cx.is_complex(*v) => {
                let (re, im) = parts(cx, *v)?;
                let v = cx.cast(if k == 0 { re } else { im }, dtype)?;
                tensor(cx, v)
            }
            Arg::Tensor(_, v) if element => {
                let mut v = cx.cast(*v, dtype)?;
                if k == 1 {
                    let zero = cx.like(v, 0.0)?;
                    v = cx.call("Mul", &[v, zero])?;
                }
                tensor(cx, v)
            }
            Arg::Other(Val::Complex(re, im)) => Arg::Other(Val::Float(if k == 0 { *re } else { *im })),
            Arg::Other(Val::Float(_) | Val::Int(_)) if element && k == 1 => Arg::Other(Val::Float(0.0)),
            Arg::List(items) => {
                let complex = items.iter().any(|i| matches!(i, Arg::Tensor(_, v) if cx.is_complex(*v)));
                let items = items.iter().map(|i| replace(cx, i, k, dtype, complex));
                Arg::List(items.collect::<Result<_>>()?)
            }
            other => other.clone(),
        })
    }
    let mut out = real_call(a, dtype);
    for (name, arg) in &mut out.named {
        *arg = replace(cx, arg, k, dtype, ELEMENTS.contains(name))?;
    }
    Ok(out)
}

/// Operators that move elements or add them up: on both parts apart.
pub fn by_parts(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let dtype = match a.out_dtype {
        Some(d) if d.is_complex() => real_dtype(d),
        _ => real_type(cx, a)?,
    };
    // What multiplies is not linear in the parts.
    let factor = |(name, arg): &(&str, Arg)| match arg {
        Arg::Other(Val::Complex(..)) => !ELEMENTS.contains(name),
        Arg::Tensor(_, v) => *name == "x" && cx.is_complex(*v),
        Arg::List(items) if *name == "spacing" => {
            items.iter().any(|i| matches!(i, Arg::Tensor(_, v) if cx.is_complex(*v)))
        }
        _ => false,
    };
    if let Some((name, _)) = a.named.iter().find(|a| factor(a)) {
        bail!(unsupported, "a complex `{name}`");
    }
    let [re, im] = [0, 1].map(|k| -> Result<Vec<ValueId>> {
        let a = with_part(cx, a, k, dtype)?;
        run(cx, &a)
    });
    re?.into_iter().zip(im?).map(|(re, im)| joined(cx, re, im)).collect()
}

/// Products: linear in each of two arguments, beside what may be added to them.
pub fn by_product(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    const FACTORS: &[[&str; 2]] = &[
        ["mat1", "mat2"],
        ["batch1", "batch2"],
        ["mat", "vec"],
        ["vec1", "vec2"],
        ["x", "y"],
        ["input", "other"],
        ["self", "other"],
        ["self", "tensor"],
        ["self", "vec"],
    ];
    let dtype = real_type(cx, a)?;
    let factors = FACTORS.iter().find(|names| names.iter().all(|&n| a.has(n)));
    let [left, right] = *factors.ok_or_else(|| Error::bug("no factors"))?;
    let added = a.has("self") && left != "self";
    let mut operands = Vec::new();
    for name in [left, right] {
        let v = a.t(name)?;
        operands.push(match cx.is_complex(v) {
            true => {
                let (re, mut im) = parts(cx, v)?;
                let conjugate = a.target.contains("vdot") || a.target.contains("vecdot");
                if conjugate && name == left {
                    im = cx.call("Neg", &[im])?;
                }
                (re, Some(im))
            }
            false => (cx.cast(v, dtype)?, None),
        });
    }
    let mut call = real_call(a, dtype);
    let mut alpha = None;
    if added {
        // The product alone; scaled and added below.
        alpha = Some(operand(cx, a, "alpha", dtype)?);
        call =
            call.with("beta", Arg::Other(Val::Int(Dim::Const(0)))).with("alpha", Arg::Other(Val::Int(Dim::Const(1))));
        let (re, _) = of_value(cx, a.t("self")?, dtype).and_then(|c| Ok((c.re.emit(cx, dtype)?, ())))?;
        call = call.with("self", tensor(cx, re));
    }
    let product = super::complex::multilinear(cx, &operands, |cx, v| {
        let call = call.with(left, tensor(cx, v[0])).with(right, tensor(cx, v[1]));
        run(cx, &call)?.first().copied().ok_or_else(|| Error::bug("no result"))
    })?;
    let Some(alpha) = alpha else { return Ok(product) };
    cx.complex.insert(product);
    let product = of_value(cx, product, dtype)?.mul(&alpha);
    // What is multiplied by zero is not looked at, not even where it is no number.
    let ignored = a.opt_scalar("beta")?.is_some_and(|s| s.is(0.0));
    let sum = match ignored {
        true => product,
        false => product.add(&operand(cx, a, "self", dtype)?.mul(&operand(cx, a, "beta", dtype)?)),
    };
    emit(cx, &sum, dtype)
}

/// Operators that only ask whether an element is zero.
pub fn by_truth(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let mut call = a.clone();
    for (_, arg) in &mut call.named {
        if let Arg::Tensor(_, v) = arg {
            if cx.is_complex(*v) {
                let (re, im) = parts(cx, *v)?;
                let dtype = cx.dtype(re)?;
                let any = F::from(re).equals(0.0).and(F::from(im).equals(0.0)).not().emit(cx, dtype)?;
                *arg = tensor(cx, any);
            }
        }
    }
    run(cx, &call)
}

/// Norms: of the sizes.
pub fn by_size(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let dtype = real_type(cx, a)?;
    let mut call = real_call(a, dtype);
    for (_, arg) in &mut call.named {
        if let Arg::Tensor(_, v) = arg {
            if cx.is_complex(*v) {
                let (re, im) = parts(cx, *v)?;
                let size = C { re: F::from(re), im: F::from(im) }.size().emit(cx, dtype)?;
                *arg = tensor(cx, size);
            }
        }
    }
    run(cx, &call)?.first().copied().ok_or_else(|| Error::bug("no result"))
}

/// Functions of matrices: of the real matrix `[[A, -B], [B, A]]` that does what `A + iB` does, of whose result the first half of the
/// columns is taken. A right side is stacked: `[A; B]`.
pub fn by_embedding(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let dtype = real_type(cx, a)?;
    let mut call = real_call(a, dtype);
    let mut columns = None;
    for (name, arg) in &mut call.named {
        let Arg::Tensor(_, v) = arg else { continue };
        let z = of_value(cx, *v, dtype)?;
        let (re, im) = (z.re.emit(cx, dtype)?, z.im.emit(cx, dtype)?);
        let rank = cx.rank(re)?;
        if rank < 2 {
            bail!(unsupported, "a complex vector as the right side");
        }
        let dims = cx.dims(re)?;
        let im = cx.expand(im, &dims)?;
        let stacked = cx.concat(&[re, im], rank - 2)?;
        *arg = match *name {
            "B" | "other" => {
                columns = Some(dims[rank - 1].clone());
                tensor(cx, stacked)
            }
            _ => {
                columns.get_or_insert(dims[rank - 1].clone());
                let minus = cx.call("Neg", &[im])?;
                let right = cx.concat(&[minus, re], rank - 2)?;
                let square = cx.concat(&[stacked, right], rank - 1)?;
                tensor(cx, square)
            }
        };
    }
    call.out_dims = None;
    let columns = columns.ok_or_else(|| Error::bug("no matrix"))?;
    let out = run(cx, &call)?;
    let y = *out.first().ok_or_else(|| Error::bug("no result"))?;
    let rank = cx.rank(y)?;
    let rows = cx.size(y, rank - 2)?.floor_div(&Dim::Const(2));
    let y = cx.slice(y, rank - 1, &Dim::Const(0), &columns, 1)?;
    let end = Dim::Const(i64::MAX);
    let (re, im) = (cx.slice(y, rank - 2, &Dim::Const(0), &rows, 1)?, cx.slice(y, rank - 2, &rows, &end, 1)?);
    let mut results = vec![joined(cx, re, im)?];
    results.extend(out.into_iter().skip(1));
    Ok(results)
}
