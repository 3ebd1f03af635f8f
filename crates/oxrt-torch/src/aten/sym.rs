//! Arithmetic on sizes, and numbers taken out of tensors.

use crate::args::{Arg, Args, Scalar};
use crate::cx::{Cx, Val};
use crate::symbols::{Ratio, compare};
use oxrt_ir::{Contents, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Error, Result, bail};

/// A quotient of sizes as a float of rank 0.
pub(crate) fn ratio_value(cx: &mut Cx, r: &Ratio, dtype: DType) -> Result<ValueId> {
    if let Some(x) = r.as_const() {
        return cx.b.scalar(dtype, x);
    }
    let num = cx.dim_scalar(&r.num)?;
    let num = cx.cast(num, dtype)?;
    if r.den.is(1) {
        return Ok(num);
    }
    let den = cx.dim_scalar(&r.den)?;
    let den = cx.cast(den, dtype)?;
    cx.call("Div", &[num, den])
}

/// What the file says the first result is, when that can be said as a size.
fn stated<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Option<Val<'a>>> {
    let Some(name) = a.outputs.first() else { return Ok(None) };
    let size = cx.scopes.last().and_then(|s| s.graph.sym_int_values.get(*name));
    let Some(size) = size else { return Ok(None) };
    let d = cx.symbols.dim(size)?;
    let opaque = d.as_symbol().is_some_and(|s| s.as_str().starts_with("_x"));
    Ok((!opaque).then_some(Val::Int(d)))
}

fn one(v: Val<'_>) -> Result<Vec<Val<'_>>> {
    Ok(vec![v])
}

/// `sym_size.int(Tensor self, int dim)`
pub fn sym_size<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    if let Some(v) = stated(cx, a)? {
        return one(v);
    }
    let x = a.t("self")?;
    let axis = cx.axis(x, a.int("dim")?)?;
    one(Val::Int(cx.size(x, axis)?))
}

/// `sym_numel(Tensor self)`
pub fn sym_numel<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    one(Val::Int(cx.dims(a.t("self")?)?.into_iter().product()))
}

/// `sym_stride.int(Tensor self, int dim)`, `sym_storage_offset(Tensor self)`: as the file states them
pub fn sym_layout<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    match stated(cx, a)? {
        Some(v) => one(v),
        None => bail!(unsupported, "a dynamic stride"),
    }
}

/// `item(Tensor self)`, `_local_scalar_dense`: the symbol of the result is read from the tensor
pub fn item<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let x = a.t("self")?;
    let v = cx.reshape(x, &[])?;
    let Some(Val::Int(d)) = stated(cx, a)? else { return one(Val::Runtime(v)) };
    if let Some(c) = d.as_const() {
        // An assertion (`n.item() == 5`) told torch, which wrote the number in its place.
        if cx.b.graph.constant(v).is_none() {
            let (v, c) = (cx.cast(v, DType::I64)?, cx.b.constant(Tensor::scalar(c)));
            let same = cx.call("Equal", &[v, c])?;
            super::assertions::check(cx, same, &format!("the number must be {d}"))?;
        }
    } else {
        let v = cx.cast(v, DType::I64)?;
        if cx.b.graph[v].contents.is_none() && cx.b.graph.constant(v).is_none() {
            cx.b.graph[v].contents = Some(Contents::scalar(d.clone()));
        }
        cx.b.note_dim_value(d.clone(), v);
        cx.symbols.read.extend(d.as_symbol().cloned());
    }
    one(Val::Int(d))
}

/// The operands by place, whatever Python calls them.
fn operands(a: &Args) -> Result<Vec<Scalar>> {
    a.named.iter().map(|(name, _)| a.scalar(name)).collect()
}

fn ratio(s: &Scalar) -> Option<Ratio> {
    match s {
        Scalar::Int(d) => Some(Ratio::int(d.clone())),
        Scalar::Float(x) => Ratio::float(*x),
        Scalar::SymFloat(r) => Some(r.clone()),
        Scalar::Bool(b) => Some(Ratio::int(Dim::Const(*b as i64))),
        _ => None,
    }
}

fn is_float(cx: &Cx, s: &Scalar) -> bool {
    match s {
        Scalar::Float(_) | Scalar::SymFloat(_) => true,
        Scalar::Runtime(v) => cx.dtype(*v).is_ok_and(DType::is_float),
        _ => false,
    }
}

/// Any number as a tensor of rank 0, for what sizes alone cannot say.
fn at_run_time(cx: &mut Cx, s: &Scalar, dtype: DType) -> Result<ValueId> {
    crate::promote::scalar_value(cx, s, dtype)
}

/// A number computed at run time; integers that name sizes are noted under the file's symbol.
fn runtime_result<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>, v: ValueId) -> Result<Vec<Val<'a>>> {
    let name = a.outputs.first().copied().unwrap_or_default();
    let size = cx.scopes.last().and_then(|s| s.graph.sym_int_values.get(name));
    let Some(size) = size else { return one(Val::Runtime(v)) };
    let d = cx.symbols.dim(size)?;
    let v = cx.cast(v, DType::I64)?;
    if d.as_const().is_none() {
        cx.b.graph[v].contents = Some(Contents::scalar(d.clone()));
        cx.b.note_dim_value(d.clone(), v);
        cx.symbols.read.extend(d.as_symbol().cloned());
    }
    one(Val::Int(d))
}

/// `_operator.{add,sub,mul,truediv,floordiv,mod,pow,neg,lshift,rshift,…}`, `math.trunc`, `torch.sym_*`
pub fn arithmetic<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    if let Some(v) = stated(cx, a)? {
        return one(v);
    }
    let op = a.target.rsplit('.').next().unwrap_or_default();
    let v = operands(a)?;
    if let Some(exact) = exactly(cx, op, &v) {
        return one(exact);
    }
    // Floats of sizes that are no plain fractions (`h * 0.3`) are computed when the model runs, in f64 as
    // Python does it.
    let float = v.iter().any(|s| is_float(cx, s)) || op == "truediv" || op == "sym_sqrt" || op == "sym_float";
    let dtype = if float { DType::F64 } else { DType::I64 };
    let x = v.iter().map(|s| at_run_time(cx, s, dtype)).collect::<Result<Vec<_>>>()?;
    let out = match (op, &x[..]) {
        ("add", [x, y]) => cx.call("Add", &[*x, *y])?,
        ("sub", [x, y]) => cx.call("Sub", &[*x, *y])?,
        ("mul", [x, y]) => cx.call("Mul", &[*x, *y])?,
        ("truediv", [x, y]) => cx.call("Div", &[*x, *y])?,
        ("floordiv", [x, y]) => super::elementwise::floor_div_values(cx, *x, *y, dtype)?,
        ("mod", [x, y]) if !float => cx.call("Mod", &[*x, *y])?,
        ("pow", [x, y]) => cx.call("Pow", &[*x, *y])?,
        ("neg", [x]) => cx.call("Neg", &[*x])?,
        ("sym_max", [x, y]) => cx.call("Max", &[*x, *y])?,
        ("sym_min", [x, y]) => cx.call("Min", &[*x, *y])?,
        ("sym_float", [x]) => *x,
        ("sym_sqrt", [x]) => cx.call("Sqrt", &[*x])?,
        ("trunc" | "sym_int", [x]) if float => super::elementwise::truncate(cx, *x)?,
        ("trunc" | "sym_int", [x]) => *x,
        ("floor", [x]) if float => cx.call("Floor", &[*x])?,
        ("ceil", [x]) if float => cx.call("Ceil", &[*x])?,
        _ => bail!(unsupported, "this arithmetic on dynamic sizes"),
    };
    runtime_result(cx, a, out)
}

/// The result as an exact expression of sizes.
fn exactly<'a>(cx: &Cx, op: &str, v: &[Scalar]) -> Option<Val<'a>> {
    let float = v.iter().any(|s| is_float(cx, s));
    let r: Vec<Ratio> = v.iter().map(ratio).collect::<Option<_>>()?;
    let number = |r: Ratio, float: bool| match (float, r.as_int()) {
        (false, Some(d)) => Some(Val::Int(d)),
        (true, _) => Some(r.as_const().map_or(Val::SymFloat(r), Val::Float)),
        _ => None,
    };
    let bounds = |d: &Dim| d.bounds(&|s| cx.symbols.bounds(s));
    let ints = || -> Option<(Dim, Dim)> { Some((r[0].as_int()?, r[1].as_int()?)) };
    match (op, r.len()) {
        ("add", 2) => number(r[0].clone().add(r[1].clone()), float),
        ("sub", 2) => {
            let minus = Ratio { num: -r[1].num.clone(), den: r[1].den.clone() };
            number(r[0].clone().add(minus), float)
        }
        ("mul", 2) => number(r[0].clone().mul(r[1].clone()), float),
        ("truediv", 2) if bounds(&r[1].num).0 > 0 => {
            let inverse = Ratio { num: r[1].den.clone(), den: r[1].num.clone() };
            number(r[0].clone().mul(inverse), true)
        }
        ("floordiv", 2) if !float => ints().map(|(a, b)| Val::Int(a.floor_div(&b))),
        ("mod", 2) if !float => ints().map(|(a, b)| Val::Int(a.modulo(&b))),
        ("neg", 1) => number(Ratio { num: -r[0].num.clone(), den: r[0].den.clone() }, float),
        ("pow", 2) => match r[1].as_int()?.as_const()? {
            n @ 0..=8 => {
                let p = (0..n).fold(Ratio::int(Dim::Const(1)), |p, _| p.mul(r[0].clone()));
                number(p, float)
            }
            _ => None,
        },
        ("sym_max", 2) if !float => ints().map(|(a, b)| Val::Int(a.at_least(&b))),
        ("sym_min", 2) if !float => ints().map(|(a, b)| Val::Int(a.at_most(&b))),
        ("sym_float", 1) => number(r[0].clone(), true),
        ("trunc" | "sym_int", 1) if bounds(&r[0].num).0 >= 0 => Some(Val::Int(r[0].floor())),
        ("floor", 1) => Some(Val::Int(r[0].floor())),
        ("ceil", 1) => Some(Val::Int(r[0].ceil())),
        _ => None,
    }
}

/// `_operator.{eq,ne,lt,le,gt,ge}` of sizes: decided when the ranges decide it, else a bool at run time
pub fn comparison<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let op = a.target.rsplit('.').next().unwrap_or_default();
    let v = operands(a)?;
    let [x, y] = &v[..] else { bail!(invalid, "a comparison of {} numbers", v.len()) };
    let sympy = match op {
        "eq" => "Equality",
        "ne" => "Unequality",
        "lt" => "StrictLessThan",
        "le" => "LessThan",
        "gt" => "StrictGreaterThan",
        _ => "GreaterThan",
    };
    if let (Some(x), Some(y)) = (ratio(x), ratio(y)) {
        let difference = x.num * y.den - y.num * x.den;
        if let Some(b) = compare(sympy, &difference, &|s| cx.symbols.bounds(s)) {
            // Ranges of sizes that the data tells hold as long as the program's assertions do.
            if compare(sympy, &difference, &|s| cx.symbols.proven_bounds(s)).is_none()
                && let Some(&name) = a.outputs.first()
                && let Ok(c) = compare_at_run_time(cx, op, &v[0], &v[1])
            {
                cx.assumed.insert(name, c);
            }
            return one(Val::Bool(b));
        }
    }
    // Most comparisons feed assertions only, and then it does not matter that they cannot be made.
    match compare_at_run_time(cx, op, x, y) {
        Ok(c) => one(Val::Runtime(c)),
        Err(_) => one(Val::Unusable("a comparison of sizes that no tensor carries".into())),
    }
}

fn compare_at_run_time(cx: &mut Cx, op: &str, x: &Scalar, y: &Scalar) -> Result<ValueId> {
    let dtype = if is_float(cx, x) || is_float(cx, y) { DType::F64 } else { DType::I64 };
    let (x, y) = (at_run_time(cx, x, dtype)?, at_run_time(cx, y, dtype)?);
    let (name, negate) = match op {
        "eq" => ("Equal", false),
        "ne" => ("Equal", true),
        "lt" => ("Less", false),
        "le" => ("LessOrEqual", false),
        "gt" => ("Greater", false),
        _ => ("GreaterOrEqual", false),
    };
    let c = cx.call(name, &[x, y])?;
    if negate { cx.call("Not", &[c]) } else { Ok(c) }
}

/// `_operator.and_`, `_operator.or_`, `torch.sym_not`
pub fn logic<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let op = a.target.rsplit('.').next().unwrap_or_default();
    let args: Vec<Val> = a.named.iter().map(|(_, arg)| as_val(arg)).collect();
    let out = match (op, &args[..]) {
        ("sym_not", [Val::Bool(b)]) => Val::Bool(!b),
        ("and_", [Val::Bool(false), _] | [_, Val::Bool(false)]) => Val::Bool(false),
        ("or_", [Val::Bool(true), _] | [_, Val::Bool(true)]) => Val::Bool(true),
        ("and_" | "or_", [Val::Bool(_), other] | [other, Val::Bool(_)]) => other.clone(),
        ("sym_not", [Val::Runtime(v)]) => Val::Runtime(cx.call("Not", &[*v])?),
        ("and_", [Val::Runtime(x), Val::Runtime(y)]) => Val::Runtime(cx.call("And", &[*x, *y])?),
        ("or_", [Val::Runtime(x), Val::Runtime(y)]) => Val::Runtime(cx.call("Or", &[*x, *y])?),
        _ => Val::Unusable("logic on comparisons of sizes that no tensor carries".into()),
    };
    one(out)
}

fn as_val<'a>(arg: &Arg<'a>) -> Val<'a> {
    match arg {
        Arg::Other(v) => v.clone(),
        Arg::Tensor(_, v) => Val::Runtime(*v),
        Arg::List(_) => Val::None,
    }
}

/// `torch.sym_ite(b, t, f)`
pub fn ite<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    if let Some(v) = stated(cx, a)? {
        return one(v);
    }
    match as_val(a.at(0)?) {
        Val::Bool(true) => one(as_val(a.at(1)?)),
        Val::Bool(false) => one(as_val(a.at(2)?)),
        Val::Runtime(c) => {
            let (_, t) = a.named.get(1).ok_or_else(|| Error::invalid("a choice without branches"))?;
            let x = match as_val(t) {
                Val::Int(d) => Scalar::Int(d),
                Val::Runtime(v) => Scalar::Runtime(v),
                _ => bail!(unsupported, "a choice between other than integers"),
            };
            let y = match as_val(a.at(2)?) {
                Val::Int(d) => Scalar::Int(d),
                Val::Runtime(v) => Scalar::Runtime(v),
                _ => bail!(unsupported, "a choice between other than integers"),
            };
            let (x, y) = (at_run_time(cx, &x, DType::I64)?, at_run_time(cx, &y, DType::I64)?);
            let v = cx.call("Where", &[c, x, y])?;
            runtime_result(cx, a, v)
        }
        _ => bail!(unsupported, "a choice by a comparison that no tensor carries"),
    }
}
