//! Arithmetic, comparisons, logic and other elementwise operators.

use crate::args::{Arg, Args, Scalar};
use crate::cx::Cx;
use crate::promote::{Operand, float_arg, float_of, pair, result_type, scalar_value, value};
use oxrt_ir::{Attrs, DType, ValueId};
use oxrt_tensor::{Result, bail};

/// `a * alpha` where alpha is not one.
fn scaled(cx: &mut Cx, a: &Args, v: ValueId, dtype: DType) -> Result<ValueId> {
    match a.opt_scalar("alpha")? {
        Some(s) if !s.is(1.0) => {
            let s = scalar_value(cx, &s, dtype)?;
            cx.call("Mul", &[v, s])
        }
        _ => Ok(v),
    }
}

/// `add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`, `add.Scalar`
pub fn add(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    if dtype == DType::Bool {
        let nothing = a.opt_scalar("alpha")?.is_some_and(|s| s.is(0.0));
        return if nothing { Ok(x) } else { cx.call("Or", &[x, y]) };
    }
    let y = scaled(cx, a, y, dtype)?;
    cx.call("Add", &[x, y])
}

/// `sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`, `sub.Scalar`
pub fn sub(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let y = scaled(cx, a, y, dtype)?;
    cx.call("Sub", &[x, y])
}

/// `rsub.Scalar(Tensor self, Scalar other, Scalar alpha=1)`, `rsub.Tensor`
pub fn rsub(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let x = scaled(cx, a, x, dtype)?;
    cx.call("Sub", &[y, x])
}

/// `mul.Tensor(Tensor self, Tensor other)`, `mul.Scalar`
pub fn mul(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    cx.call(if dtype == DType::Bool { "And" } else { "Mul" }, &[x, y])
}

/// `div.Tensor(Tensor self, Tensor other)`, `div.Scalar`, `true_divide.Tensor`
pub fn div(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "other")?);
    let dtype = float_of(result_type(cx, &[&x, &y])?);
    let (x, y) = (value(cx, &x, dtype)?, value(cx, &y, dtype)?);
    cx.call("Div", &[x, y])
}

/// `div.Tensor_mode(Tensor self, Tensor other, *, str? rounding_mode)`, `div.Scalar_mode`
pub fn div_mode(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    if !a.has("rounding_mode") {
        return div(cx, a);
    }
    match &*a.text("rounding_mode")? {
        "floor" => floor_divide(cx, a),
        "trunc" => {
            let (x, y, dtype) = pair(cx, a, "self", "other")?;
            let q = cx.call("Div", &[x, y])?;
            if dtype.is_int() { Ok(q) } else { truncate(cx, q) }
        }
        other => bail!(unsupported, "the rounding mode {other}"),
    }
}

/// `floor_divide(Tensor self, Tensor other)`, `floor_divide.Scalar`
pub fn floor_divide(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    floor_div_values(cx, x, y, dtype)
}

pub fn floor_div_values(cx: &mut Cx, x: ValueId, y: ValueId, dtype: DType) -> Result<ValueId> {
    if !dtype.is_int() {
        let q = cx.call("Div", &[x, y])?;
        return cx.call("Floor", &[q]);
    }
    // ONNX division of integers truncates; subtracting the remainder (sign of the divisor) first makes
    // it exact.
    if dtype.is_unsigned_int() {
        return cx.call("Div", &[x, y]);
    }
    let rest = cx.call("Mod", &[x, y])?;
    let whole = cx.call("Sub", &[x, rest])?;
    cx.call("Div", &[whole, y])
}

/// `remainder.Tensor(Tensor self, Tensor other)`, `remainder.Scalar`: the sign of the divisor
pub fn remainder(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    if dtype.is_int() {
        return cx.call("Mod", &[x, y]);
    }
    let r = cx.op("Mod", &[x, y], Attrs::new().with("fmod", 1))?;
    // A remainder of the other sign moves by one divisor.
    let sum = cx.call("Add", &[r, y])?;
    let zero = cx.like(r, 0.0)?;
    let product = cx.call("Mul", &[r, y])?;
    let opposite = cx.call("Less", &[product, zero])?;
    cx.call("Where", &[opposite, sum, r])
}

/// `fmod.Tensor(Tensor self, Tensor other)`, `fmod.Scalar`: the sign of the dividend
pub fn fmod(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, _) = pair(cx, a, "self", "other")?;
    cx.op("Mod", &[x, y], Attrs::new().with("fmod", 1))
}

/// `pow.Tensor_Tensor(Tensor self, Tensor exponent)`, `pow.Tensor_Scalar`, `pow.Scalar`
pub fn pow(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "exponent")?);
    let dtype = result_type(cx, &[&x, &y])?;
    let base = value(cx, &x, dtype)?;
    if let (Operand::Scalar(s), true) = (&y, dtype.is_float()) {
        match s.as_f64() {
            Some(1.0) => return Ok(base),
            Some(0.5) => return cx.call("Sqrt", &[base]),
            Some(-1.0) => return cx.call("Reciprocal", &[base]),
            Some(-0.5) => {
                let root = cx.call("Sqrt", &[base])?;
                return cx.call("Reciprocal", &[root]);
            }
            _ => {}
        }
    }
    let exponent = value(cx, &y, dtype)?;
    cx.call("Pow", &[base, exponent])
}

fn extremum(cx: &mut Cx, a: &Args, op: &str, logic: &str) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    cx.call(if dtype == DType::Bool { logic } else { op }, &[x, y])
}

/// `maximum(Tensor self, Tensor other)`, `max.other`
pub fn maximum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    extremum(cx, a, "Max", "Or")
}

/// `minimum(Tensor self, Tensor other)`, `min.other`
pub fn minimum(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    extremum(cx, a, "Min", "And")
}

fn ignoring_nan(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let m = cx.call(op, &[x, y])?;
    if !dtype.is_float() {
        return Ok(m);
    }
    let (nan_x, nan_y) = (cx.call("IsNaN", &[x])?, cx.call("IsNaN", &[y])?);
    let m = cx.call("Where", &[nan_y, x, m])?;
    cx.call("Where", &[nan_x, y, m])
}

/// `fmax(Tensor self, Tensor other)`
pub fn fmax(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    ignoring_nan(cx, a, "Max")
}

/// `fmin(Tensor self, Tensor other)`
pub fn fmin(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    ignoring_nan(cx, a, "Min")
}

fn bound(a: &Args, name: &str) -> Result<Option<Operand>> {
    if a.has(name) { Operand::of(a, name).map(Some) } else { Ok(None) }
}

/// `clamp(Tensor self, Scalar? min=None, Scalar? max=None)`, `clamp.Tensor`, `clamp_min`, `clamp_max`,
/// `hardtanh(Tensor self, Scalar min_val=-1, Scalar max_val=1)`
pub fn clamp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = Operand::of(a, "self")?;
    let hard = a.target.starts_with("aten.hardtanh");
    let (lo, hi) = (bound(a, if hard { "min_val" } else { "min" })?, bound(a, if hard { "max_val" } else { "max" })?);
    let all: Vec<&Operand> = [Some(&x), lo.as_ref(), hi.as_ref()].into_iter().flatten().collect();
    // The bounds of hardtanh do not change the type.
    let dtype = if hard { result_type(cx, &[&x])? } else { result_type(cx, &all)? };
    let v = value(cx, &x, dtype)?;
    let scalars = [&lo, &hi].into_iter().flatten().all(|o| matches!(o, Operand::Scalar(s) if s.as_f64().is_some()));
    let lo = lo.map(|o| value(cx, &o, dtype)).transpose()?;
    let hi = hi.map(|o| value(cx, &o, dtype)).transpose()?;
    if scalars {
        return Ok(cx.b.op_multi("Clip", &[Some(v), lo, hi], Attrs::new(), 1)?[0]);
    }
    let v = match lo {
        Some(lo) => cx.call("Max", &[v, lo])?,
        None => v,
    };
    match hi {
        Some(hi) => cx.call("Min", &[v, hi]),
        None => Ok(v),
    }
}

/// `where.self(Tensor condition, Tensor self, Tensor other)`, `where.ScalarOther`, `where.ScalarSelf`
pub fn where_(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, _) = pair(cx, a, "self", "other")?;
    let c = as_bool(cx, a.t("condition")?)?;
    select(cx, c, x, y)
}

/// `condition ? x : y`. On booleans it is written in logic, which every runtime has.
pub fn select(cx: &mut Cx, c: ValueId, x: ValueId, y: ValueId) -> Result<ValueId> {
    if cx.dtype(x)? != DType::Bool {
        return cx.call("Where", &[c, x, y]);
    }
    let not = cx.call("Not", &[c])?;
    let (left, right) = (cx.call("And", &[c, x])?, cx.call("And", &[not, y])?);
    cx.call("Or", &[left, right])
}

/// `masked_fill.Scalar(Tensor self, Tensor mask, Scalar value)`, `masked_fill.Tensor`
pub fn masked_fill(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    let v = Operand::of(a, "value")?;
    let v = value(cx, &v, dtype)?;
    let mask = as_bool(cx, a.t("mask")?)?;
    select(cx, mask, v, x)
}

macro_rules! comparisons {
    ($($(#[$doc:meta])* $name:ident $op:literal;)*) => { $(
        $(#[$doc])*
        pub fn $name(cx: &mut Cx, a: &Args) -> Result<ValueId> {
            compare(cx, a, $op)
        }
    )* };
}

comparisons! {
    /// `eq.Tensor(Tensor self, Tensor other)`, `eq.Scalar`
    eq "Equal";
    /// `lt.Tensor(Tensor self, Tensor other)`, `lt.Scalar`
    lt "Less";
    /// `le.Tensor(Tensor self, Tensor other)`, `le.Scalar`
    le "LessOrEqual";
    /// `gt.Tensor(Tensor self, Tensor other)`, `gt.Scalar`
    gt "Greater";
    /// `ge.Tensor(Tensor self, Tensor other)`, `ge.Scalar`
    ge "GreaterOrEqual";
}

fn compare(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let (mut x, mut y, dtype) = pair(cx, a, "self", "other")?;
    if dtype == DType::Bool && op != "Equal" {
        (x, y) = (cx.cast(x, DType::I32)?, cx.cast(y, DType::I32)?);
    }
    cx.call(op, &[x, y])
}

/// `ne.Tensor(Tensor self, Tensor other)`, `ne.Scalar`
pub fn ne(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let equal = eq(cx, a)?;
    cx.call("Not", &[equal])
}

pub fn as_bool(cx: &mut Cx, v: ValueId) -> Result<ValueId> {
    cx.cast(v, DType::Bool)
}

fn logic(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let (x, y) = (as_bool(cx, a.t("self")?)?, as_bool(cx, a.t("other")?)?);
    cx.call(op, &[x, y])
}

/// `logical_and(Tensor self, Tensor other)`
pub fn logical_and(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    logic(cx, a, "And")
}

/// `logical_or(Tensor self, Tensor other)`
pub fn logical_or(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    logic(cx, a, "Or")
}

/// `logical_xor(Tensor self, Tensor other)`
pub fn logical_xor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    logic(cx, a, "Xor")
}

/// `logical_not(Tensor self)`
pub fn logical_not(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = as_bool(cx, a.t("self")?)?;
    cx.call("Not", &[x])
}

fn bits(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    if dtype == DType::Bool { cx.call(op, &[x, y]) } else { cx.call(&format!("Bitwise{op}"), &[x, y]) }
}

/// `bitwise_and.Tensor(Tensor self, Tensor other)`, `__and__.Tensor`
pub fn bitwise_and(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    bits(cx, a, "And")
}

/// `bitwise_or.Tensor(Tensor self, Tensor other)`, `__or__.Tensor`
pub fn bitwise_or(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    bits(cx, a, "Or")
}

/// `bitwise_xor.Tensor(Tensor self, Tensor other)`, `__xor__.Tensor`
pub fn bitwise_xor(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    bits(cx, a, "Xor")
}

/// `bitwise_not(Tensor self)`
pub fn bitwise_not(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    cx.call(if cx.dtype(x)? == DType::Bool { "Not" } else { "BitwiseNot" }, &[x])
}

/// `__lshift__.Scalar(Tensor self, Scalar other)`, `.Tensor`, `bitwise_left_shift.Tensor`
pub fn left_shift(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let two = cx.b.scalar(dtype, 2.0)?;
    let factor = cx.call("Pow", &[two, y])?;
    cx.call("Mul", &[x, factor])
}

/// `__rshift__.Scalar(Tensor self, Scalar other)`, `.Tensor`, `bitwise_right_shift.Tensor`: keeps the sign
pub fn right_shift(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let two = cx.b.scalar(dtype, 2.0)?;
    let factor = cx.call("Pow", &[two, y])?;
    floor_div_values(cx, x, factor, dtype)
}

macro_rules! float_unary {
    ($($name:ident $op:literal)*) => { $(
        #[doc = concat!("`", stringify!($name), "(Tensor self)`")]
        pub fn $name(cx: &mut Cx, a: &Args) -> Result<ValueId> {
            let x = float_arg(cx, a, "self")?;
            cx.call($op, &[x])
        }
    )* };
}

float_unary! {
    exp "Exp" log "Log" sqrt "Sqrt" sin "Sin" cos "Cos" tan "Tan" asin "Asin" acos "Acos" atan "Atan" sinh "Sinh"
    cosh "Cosh" tanh "Tanh" asinh "Asinh" acosh "Acosh" atanh "Atanh" erf "Erf" reciprocal "Reciprocal"
    sigmoid "Sigmoid"
}

macro_rules! same_unary {
    ($($name:ident $op:literal)*) => { $(
        #[doc = concat!("`", stringify!($name), "(Tensor self)`")]
        pub fn $name(cx: &mut Cx, a: &Args) -> Result<ValueId> {
            let x = a.t("self")?;
            cx.call($op, &[x])
        }
    )* };
}

same_unary! { abs "Abs" neg "Neg" }

macro_rules! rounding {
    ($($name:ident $op:literal)*) => { $(
        #[doc = concat!("`", stringify!($name), "(Tensor self)`: integers stay")]
        pub fn $name(cx: &mut Cx, a: &Args) -> Result<ValueId> {
            let x = a.t("self")?;
            if cx.dtype(x)?.is_float() { cx.call($op, &[x]) } else { Ok(x) }
        }
    )* };
}

rounding! { floor "Floor" ceil "Ceil" round "Round" }

/// `sign(Tensor self)`, `sgn(Tensor self)`
pub fn sign(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if cx.dtype(x)? == DType::Bool { Ok(x) } else { cx.call("Sign", &[x]) }
}

/// Rounds towards zero.
pub fn truncate(cx: &mut Cx, x: ValueId) -> Result<ValueId> {
    let zero = cx.like(x, 0.0)?;
    let negative = cx.call("Less", &[x, zero])?;
    let (up, down) = (cx.call("Ceil", &[x])?, cx.call("Floor", &[x])?);
    cx.call("Where", &[negative, up, down])
}

/// `trunc(Tensor self)`
pub fn trunc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if cx.dtype(x)?.is_float() { truncate(cx, x) } else { Ok(x) }
}

/// `frac(Tensor self)`
pub fn frac(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let whole = truncate(cx, x)?;
    cx.call("Sub", &[x, whole])
}

/// `round.decimals(Tensor self, *, int decimals)`
pub fn round_decimals(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, decimals) = (a.t("self")?, a.int("decimals")?);
    if !cx.dtype(x)?.is_float() {
        return Ok(x);
    }
    let scale = cx.like(x, 10f64.powi(decimals.unsigned_abs() as i32))?;
    let (there, back) = if decimals >= 0 { ("Mul", "Div") } else { ("Div", "Mul") };
    let x = cx.call(there, &[x, scale])?;
    let x = cx.call("Round", &[x])?;
    cx.call(back, &[x, scale])
}

/// `rsqrt(Tensor self)`
pub fn rsqrt(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let root = sqrt(cx, a)?;
    cx.call("Reciprocal", &[root])
}

/// `square(Tensor self)`
pub fn square(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = match cx.dtype(a.t("self")?)? {
        DType::Bool => cx.cast(a.t("self")?, DType::I64)?,
        _ => a.t("self")?,
    };
    cx.call("Mul", &[x, x])
}

/// `exp2(Tensor self)`
pub fn exp2(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    let two = cx.like(x, 2.0)?;
    cx.call("Pow", &[two, x])
}

/// `expm1(Tensor self)`
pub fn expm1(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    // 2·sinh(x/2)·exp(x/2) keeps the digits that exp(x) - 1 loses near zero.
    let x = float_arg(cx, a, "self")?;
    let (half, two) = (cx.like(x, 0.5)?, cx.like(x, 2.0)?);
    let h = cx.call("Mul", &[x, half])?;
    let (s, e) = (cx.call("Sinh", &[h])?, cx.call("Exp", &[h])?);
    let p = cx.call("Mul", &[s, e])?;
    cx.call("Mul", &[p, two])
}

/// `log1p(Tensor self)`
pub fn log1p(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    let one = cx.like(x, 1.0)?;
    let y = cx.call("Add", &[x, one])?;
    cx.call("Log", &[y])
}

fn log_base(cx: &mut Cx, a: &Args, base: f64) -> Result<ValueId> {
    let y = log(cx, a)?;
    let scale = cx.like(y, base.ln())?;
    cx.call("Div", &[y, scale])
}

/// `log2(Tensor self)`
pub fn log2(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    log_base(cx, a, 2.0)
}

/// `log10(Tensor self)`
pub fn log10(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    log_base(cx, a, 10.0)
}

/// `erfc(Tensor self)`
pub fn erfc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let y = erf(cx, a)?;
    let one = cx.like(y, 1.0)?;
    cx.call("Sub", &[one, y])
}

/// `isnan(Tensor self)`
pub fn isnan(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    cx.call("IsNaN", &[x])
}

/// `isinf(Tensor self)`
pub fn isinf(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    cx.call("IsInf", &[x])
}

/// `isposinf(Tensor self)`
pub fn isposinf(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    cx.op("IsInf", &[x], Attrs::new().with("detect_negative", 0))
}

/// `isneginf(Tensor self)`
pub fn isneginf(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    cx.op("IsInf", &[x], Attrs::new().with("detect_positive", 0))
}

/// `isfinite(Tensor self)`
pub fn isfinite(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (inf, nan) = (isinf(cx, a)?, isnan(cx, a)?);
    let odd = cx.call("Or", &[inf, nan])?;
    cx.call("Not", &[odd])
}

/// `nan_to_num(Tensor self, float? nan=None, float? posinf=None, float? neginf=None)`
pub fn nan_to_num(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let dtype = cx.dtype(x)?;
    if !dtype.is_float() {
        return Ok(x);
    }
    let largest = match dtype {
        DType::F64 => f64::MAX,
        DType::F16 => 65504.0,
        DType::BF16 => 3.3895313892515355e38,
        _ => f32::MAX as f64,
    };
    let mut out = x;
    for (test, number, default) in
        [(isnan as Lower, "nan", 0.0), (isposinf, "posinf", largest), (isneginf, "neginf", -largest)]
    {
        let replacement = a.opt_float(number)?.unwrap_or(default);
        let c = test(cx, a)?;
        let r = cx.like(x, replacement)?;
        out = cx.call("Where", &[c, r, out])?;
    }
    Ok(out)
}

type Lower = fn(&mut Cx, &Args) -> Result<ValueId>;

/// `atan2(Tensor self, Tensor other)`
pub fn atan2(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (y, x) = (float_arg(cx, a, "self")?, float_arg(cx, a, "other")?);
    atan2_values(cx, y, x)
}

pub fn atan2_values(cx: &mut Cx, y: ValueId, x: ValueId) -> Result<ValueId> {
    let (zero, pi) = (cx.like(y, 0.0)?, cx.like(y, std::f64::consts::PI)?);
    let (half, minus_half) = (cx.like(y, std::f64::consts::FRAC_PI_2)?, cx.like(y, -std::f64::consts::FRAC_PI_2)?);
    let q = cx.call("Div", &[y, x])?;
    let base = cx.call("Atan", &[q])?;
    let y_negative = cx.call("Less", &[y, zero])?;
    let x_negative = cx.call("Less", &[x, zero])?;
    let x_zero = cx.call("Equal", &[x, zero])?;
    let y_zero = cx.call("Equal", &[y, zero])?;
    let (plus, minus) = (cx.call("Add", &[base, pi])?, cx.call("Sub", &[base, pi])?);
    let left = cx.call("Where", &[y_negative, minus, plus])?;
    let out = cx.call("Where", &[x_negative, left, base])?;
    // On the vertical axis the quotient is infinite or undefined.
    let up = cx.call("Where", &[y_negative, minus_half, half])?;
    let vertical = cx.call("Where", &[y_zero, zero, up])?;
    cx.call("Where", &[x_zero, vertical, out])
}

/// `hypot(Tensor self, Tensor other)`: scaled by the greater, so that squares do not overflow
pub fn hypot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    use super::formula::F;
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let (x, y) = (F::from(x).abs(), F::from(y).abs());
    let (most, least) = (x.max(&y), x.min(&y));
    let ratio = most.equals(0.0).pick(0.0, &least / &most);
    let length = &most * (ratio.squared() + 1.0).sqrt();
    // An infinite side makes it infinite, whatever the other is.
    x.is_inf().or(y.is_inf()).pick(f64::INFINITY, length).emit(cx, dtype)
}

/// `copysign.Tensor(Tensor self, Tensor other)`, `.Scalar`
pub fn copysign(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "other")?);
    let dtype = float_of(result_type(cx, &[&x, &y])?);
    let (x, y) = (value(cx, &x, dtype)?, value(cx, &y, dtype)?);
    let negative = sign_bit(cx, y)?;
    let size = cx.call("Abs", &[x])?;
    let minus = cx.call("Neg", &[size])?;
    cx.call("Where", &[negative, minus, size])
}

/// The sign bit; a negative zero shows in its reciprocal.
fn sign_bit(cx: &mut Cx, x: ValueId) -> Result<ValueId> {
    let zero = cx.like(x, 0.0)?;
    let less = cx.call("Less", &[x, zero])?;
    let r = cx.call("Reciprocal", &[x])?;
    let below = cx.call("Less", &[r, zero])?;
    cx.call("Or", &[less, below])
}

/// `signbit(Tensor self)`
pub fn signbit(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    sign_bit(cx, x)
}

/// `heaviside(Tensor self, Tensor values)`
pub fn heaviside(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, at_zero, dtype) = pair(cx, a, "self", "values")?;
    let (zero, one) = (cx.b.scalar(dtype, 0.0)?, cx.b.scalar(dtype, 1.0)?);
    if dtype == DType::Bool {
        // Nothing lies below false.
        return cx.call("Or", &[x, at_zero]);
    }
    let (less, equal) = (cx.call("Less", &[x, zero])?, cx.call("Equal", &[x, zero])?);
    let step = select(cx, less, zero, one)?;
    select(cx, equal, at_zero, step)
}

/// `xlogy.Tensor(Tensor self, Tensor other)`
pub fn xlogy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (Operand::of(a, "self")?, Operand::of(a, "other")?);
    let dtype = float_of(result_type(cx, &[&x, &y])?);
    let (x, y) = (value(cx, &x, dtype)?, value(cx, &y, dtype)?);
    let log = cx.call("Log", &[y])?;
    let product = cx.call("Mul", &[x, log])?;
    let zero = cx.like(x, 0.0)?;
    let at_zero = cx.call("Equal", &[x, zero])?;
    cx.call("Where", &[at_zero, zero, product])
}

/// `logaddexp(Tensor self, Tensor other)`
pub fn logaddexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    use super::formula::F;
    let (x, y, dtype) = pair(cx, a, "self", "other")?;
    let (x, y) = (F::from(x), F::from(y));
    let m = x.max(&y);
    let sum = &m + ((-(&x - &y).abs()).exp() + 1.0).ln();
    // Two equal infinities have no difference.
    x.equals(&y).and(m.is_inf()).pick(&m, sum).emit(cx, dtype)
}

/// `sinc(Tensor self)`
pub fn sinc(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = float_arg(cx, a, "self")?;
    let (pi, zero, one) = (cx.like(x, std::f64::consts::PI)?, cx.like(x, 0.0)?, cx.like(x, 1.0)?);
    let x = cx.call("Mul", &[x, pi])?;
    let s = cx.call("Sin", &[x])?;
    let q = cx.call("Div", &[s, x])?;
    let at_zero = cx.call("Equal", &[x, zero])?;
    cx.call("Where", &[at_zero, one, q])
}

/// `logit(Tensor self, float? eps=None)`
pub fn logit(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut x = float_arg(cx, a, "self")?;
    if let Some(eps) = a.opt_float("eps")? {
        // The lower bound goes first, also where it lies above the upper one.
        let (lo, hi) = (cx.like(x, eps)?, cx.like(x, 1.0 - eps)?);
        let (below, above) = (cx.call("Less", &[x, lo])?, cx.call("Greater", &[x, hi])?);
        let high = cx.call("Where", &[above, hi, x])?;
        x = cx.call("Where", &[below, lo, high])?;
    }
    let one = cx.like(x, 1.0)?;
    let y = cx.call("Sub", &[one, x])?;
    let q = cx.call("Div", &[x, y])?;
    cx.call("Log", &[q])
}

/// `ldexp.Tensor(Tensor self, Tensor other)`
pub fn ldexp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (float_arg(cx, a, "self")?, float_arg(cx, a, "other")?);
    let two = cx.like(y, 2.0)?;
    let p = cx.call("Pow", &[two, y])?;
    cx.call("Mul", &[x, p])
}

/// `lerp.Scalar(Tensor self, Tensor end, Scalar weight)`, `lerp.Tensor`
pub fn lerp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("self")?, a.t("end")?);
    let w = Operand::of(a, "weight")?;
    let w = value(cx, &w, cx.dtype(x)?)?;
    let d = cx.call("Sub", &[y, x])?;
    let d = cx.call("Mul", &[w, d])?;
    cx.call("Add", &[x, d])
}

fn add_combined(cx: &mut Cx, a: &Args, op: &str) -> Result<ValueId> {
    let (x, s, t) = (Operand::Tensor(a.t("self")?), Operand::Tensor(a.t("tensor1")?), Operand::Tensor(a.t("tensor2")?));
    let dtype = result_type(cx, &[&x, &s, &t])?;
    let (x, s, t) = (value(cx, &x, dtype)?, value(cx, &s, dtype)?, value(cx, &t, dtype)?);
    let mut y = cx.call(op, &[s, t])?;
    if let Some(scale) = a.opt_scalar("value")?.filter(|s| !s.is(1.0)) {
        let scale = scalar_value(cx, &scale, dtype)?;
        y = cx.call("Mul", &[y, scale])?;
    }
    cx.call("Add", &[x, y])
}

/// `addcmul(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1)`
pub fn addcmul(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    add_combined(cx, a, "Mul")
}

/// `addcdiv(Tensor self, Tensor tensor1, Tensor tensor2, *, Scalar value=1)`
pub fn addcdiv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    add_combined(cx, a, "Div")
}

/// `_to_copy(Tensor self, *, ScalarType? dtype=None, …)`
pub fn to_copy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    match a.dtype("dtype")? {
        Some(d) => cast_to(cx, x, d),
        None => Ok(x),
    }
}

pub fn cast_to(cx: &mut Cx, x: ValueId, d: DType) -> Result<ValueId> {
    if d.is_complex() {
        return super::complex::from_real(cx, x, d);
    }
    cx.cast(x, d)
}

/// `copy(Tensor self, Tensor src, bool non_blocking=False)`: type and shape of self
pub fn copy(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, src) = (a.t("self")?, a.t("src")?);
    let src = cx.cast(src, cx.dtype(x)?)?;
    let dims = cx.dims(x)?;
    cx.expand(src, &dims)
}

/// `fill.Scalar(Tensor self, Scalar value)`, `fill.Tensor`
pub fn fill(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let v = match a.get("value") {
        Some(Arg::Tensor(_, v)) => Operand::Tensor(v),
        _ => Operand::Scalar(a.scalar("value")?),
    };
    let v = value(cx, &v, cx.dtype(x)?)?;
    let dims = cx.dims(x)?;
    cx.expand(v, &dims)
}

/// `zero(Tensor self)`
pub fn zero(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (dtype, dims) = (cx.dtype(x)?, cx.dims(x)?);
    super::create::filled(cx, dtype, &dims, &Scalar::Int(0i64.into()))
}
