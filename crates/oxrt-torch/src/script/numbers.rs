//! Arithmetic on numbers: exact on sizes, in f64 on floats, as nodes on what the data decides.

use super::interp::{Interp, Truth};
use super::value::{Sv, same};
use crate::cx::Cx;
use crate::symbols::{Ratio, compare};
use oxrt_ir::{Attrs, Dim, Tensor};
use oxrt_tensor::{DType, Error, Result, bail};

/// A number that is known, or a quotient of sizes.
fn ratio(v: &Sv) -> Option<Ratio> {
    match v {
        Sv::Int(d) => Some(Ratio::int(d.clone())),
        Sv::Float(x) => Ratio::float(*x),
        Sv::SymFloat(r) => Some(r.clone()),
        Sv::Bool(b) => Some(Ratio::int(Dim::Const(*b as i64))),
        _ => None,
    }
}

pub(super) fn known(v: &Sv) -> Option<f64> {
    match v {
        Sv::Int(d) => d.as_const().map(|x| x as f64),
        Sv::Float(x) => Some(*x),
        Sv::SymFloat(r) => r.as_const(),
        Sv::Bool(b) => Some(*b as u8 as f64),
        _ => None,
    }
}

pub(super) fn number_from(r: Ratio) -> Sv {
    match r.as_const() {
        Some(x) => Sv::Float(x),
        None => Sv::SymFloat(r),
    }
}

pub(super) fn is_number(v: &Sv) -> bool {
    matches!(v, Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_))
}

impl Interp<'_> {
    /// A comparison of numbers: `eq ne lt le gt ge`.
    pub fn compare(&mut self, cx: &mut Cx<'static, '_>, op: &str, a: &Sv, b: &Sv) -> Result<Sv> {
        if let (Some(x), Some(y)) = (known(a), known(b)) {
            return Ok(Sv::Bool(match op {
                "eq" => x == y,
                "ne" => x != y,
                "lt" => x < y,
                "le" => x <= y,
                "gt" => x > y,
                _ => x >= y,
            }));
        }
        let mut usual = None;
        if let (Some(x), Some(y)) = (ratio(a), ratio(b)) {
            let word = match op {
                "eq" => "Equality",
                "ne" => "Unequality",
                "lt" => "StrictLessThan",
                "le" => "LessThan",
                "gt" => "StrictGreaterThan",
                _ => "GreaterThan",
            };
            let difference = x.num * y.den - y.num * x.den;
            if let Some(t) = compare(word, &difference, &|s| cx.symbols.bounds(s)) {
                return Ok(Sv::Bool(t));
            }
            usual = compare(word, &difference, &|s| (cx.symbols.bounds(s).0.max(1), cx.symbols.bounds(s).1));
        }
        let (x, y) = (self.scalar_value(cx, a)?, self.scalar_value(cx, b)?);
        let (dx, dy) = (cx.dtype(x)?, cx.dtype(y)?);
        let dtype = if dx.is_float() || dy.is_float() { DType::F32 } else { dx };
        let (x, y) = (cx.cast(x, dtype)?, cx.cast(y, dtype)?);
        let name = match op {
            "eq" | "ne" => "Equal",
            "lt" => "Less",
            "le" => "LessOrEqual",
            "gt" => "Greater",
            _ => "GreaterOrEqual",
        };
        let mut v = cx.call(name, &[x, y])?;
        if op == "ne" {
            v = cx.call("Not", &[v])?;
        }
        if let Some(t) = usual {
            self.usual.insert(v, t);
        }
        Ok(Sv::Scalar(v))
    }

    /// Arithmetic of two numbers.
    pub(super) fn arithmetic(&mut self, cx: &mut Cx<'static, '_>, op: &str, a: &Sv, b: &Sv) -> Result<Sv> {
        let ints = |v: &Sv| match v {
            Sv::Int(d) => Some(d.clone()),
            Sv::Bool(b) => Some(Dim::Const(*b as i64)),
            _ => None,
        };
        if let (Some(x), Some(y)) = (ints(a), ints(b)) {
            let overflow = || Error::unsupported("an integer beyond 64 bits");
            let both = x.as_const().zip(y.as_const());
            let exact = match (op, both) {
                ("add", Some((x, y))) => Some(Dim::Const(x.checked_add(y).ok_or_else(overflow)?)),
                ("sub", Some((x, y))) => Some(Dim::Const(x.checked_sub(y).ok_or_else(overflow)?)),
                ("mul", Some((x, y))) => Some(Dim::Const(x.checked_mul(y).ok_or_else(overflow)?)),
                ("floordiv" | "remainder", Some((_, 0))) => bail!(invalid, "a division by zero"),
                ("add", _) => Some(x.clone() + y.clone()),
                ("sub", _) => Some(x.clone() - y.clone()),
                ("mul", _) => Some(x.clone() * y.clone()),
                ("floordiv", _) => Some(x.floor_div(&y)),
                ("remainder", _) => Some(x.modulo(&y)),
                ("min", Some((x, y))) => Some(Dim::Const(x.min(y))),
                ("max", Some((x, y))) => Some(Dim::Const(x.max(y))),
                ("min" | "max", None) => {
                    let smaller = self.compare(cx, "le", a, b)?;
                    Some(match (smaller, op) {
                        (Sv::Bool(t), _) => {
                            if t == (op == "min") {
                                x.clone()
                            } else {
                                y.clone()
                            }
                        }
                        (_, "min") => x.at_most(&y),
                        _ => x.at_least(&y),
                    })
                }
                ("pow", Some((x, y @ 0..=62))) => Some(Dim::Const(x.checked_pow(y as u32).ok_or_else(overflow)?)),
                ("__lshift__", Some((x, y @ 0..=62))) => Some(Dim::Const(x.checked_mul(1 << y).ok_or_else(overflow)?)),
                ("__rshift__", Some((x, y @ 0..=62))) => Some(Dim::Const(x >> y)),
                ("__and__", Some((x, y))) => Some(Dim::Const(x & y)),
                ("__or__", Some((x, y))) => Some(Dim::Const(x | y)),
                ("__xor__", Some((x, y))) => Some(Dim::Const(x ^ y)),
                ("gcd", Some((x, y))) => {
                    let (mut x, mut y) = (x.unsigned_abs(), y.unsigned_abs());
                    while y != 0 {
                        (x, y) = (y, x % y);
                    }
                    Some(Dim::Const(x as i64))
                }
                _ => None,
            };
            if let Some(d) = exact {
                return Ok(Sv::Int(d));
            }
        }
        if let (Some(x), Some(y)) = (known(a), known(b)) {
            let floor_mod = |x: f64, y: f64| x - (x / y).floor() * y;
            let value = match op {
                "add" => x + y,
                "sub" => x - y,
                "mul" => x * y,
                "div" | "truediv" if y == 0.0 => bail!(invalid, "a division by zero"),
                "div" | "truediv" => x / y,
                "floordiv" => (x / y).floor(),
                "remainder" => floor_mod(x, y),
                "fmod" => x % y,
                "pow" => x.powf(y),
                "min" => x.min(y),
                "max" => x.max(y),
                "atan2" => x.atan2(y),
                "copysign" => x.copysign(y),
                _ => bail!(unsupported, "{op} of numbers"),
            };
            return Ok(Sv::Float(value));
        }
        if let (Some(x), Some(y)) = (ratio(a), ratio(b)) {
            let negative = || Ratio { num: -y.num.clone(), den: y.den.clone() };
            let result = match op {
                "add" => Some(x.clone().add(y.clone())),
                "sub" => Some(x.clone().add(negative())),
                "mul" => Some(x.clone().mul(y.clone())),
                "div" | "truediv" if y.num.bounds(&|s| cx.symbols.bounds(s)).0 > 0 => {
                    Some(x.clone().mul(Ratio { num: y.den.clone(), den: y.num.clone() }))
                }
                _ => None,
            };
            if let Some(r) = result {
                return Ok(number_from(r));
            }
        }
        // What sizes alone cannot say is computed when the model runs, in f64 as Python does it.
        let name = match op {
            "add" => "Add",
            "sub" => "Sub",
            "mul" => "Mul",
            "div" | "truediv" => "Div",
            "pow" => "Pow",
            "min" => "Min",
            "max" => "Max",
            "floordiv" => "Div",
            "remainder" => "Mod",
            "__and__" => "And",
            "__or__" => "Or",
            "__xor__" => "Xor",
            _ => bail!(unsupported, "{op} of numbers that depend on the input"),
        };
        let (x, y) = (self.scalar_value(cx, a)?, self.scalar_value(cx, b)?);
        let dtype = if name == "And" || name == "Or" || name == "Xor" { DType::Bool } else { DType::F64 };
        let (x, y) = (cx.cast(x, dtype)?, cx.cast(y, dtype)?);
        let attrs = if name == "Mod" { Attrs::new().with("fmod", 1) } else { Attrs::new() };
        let mut v = cx.op(name, &[x, y], attrs)?;
        if op == "floordiv" {
            v = cx.call("Floor", &[v])?;
        }
        if op == "remainder" {
            // Python's remainder has the sign of the divisor.
            v = cx.call("Add", &[v, y])?;
            v = cx.op("Mod", &[v, y], Attrs::new().with("fmod", 1))?;
        }
        Ok(Sv::Scalar(v))
    }

    /// A function of one number.
    pub(super) fn unary(&mut self, cx: &mut Cx<'static, '_>, op: &str, v: &Sv) -> Result<Option<Sv>> {
        if let Sv::Int(d) = v {
            let fixed = match op {
                "neg" => Some(-d.clone()),
                "abs" => d.as_const().map(|x| Dim::Const(x.abs())),
                "floor" | "ceil" | "trunc" | "round" => Some(d.clone()),
                "bitwise_not" => Some(-d.clone() - 1),
                _ => None,
            };
            if let Some(d) = fixed {
                return Ok(Some(Sv::Int(d)));
            }
        }
        if let Sv::SymFloat(r) = v {
            let fixed = match op {
                "floor" => Some(Sv::Int(r.floor())),
                "ceil" => Some(Sv::Int(r.ceil())),
                "neg" => Some(number_from(Ratio { num: -r.num.clone(), den: r.den.clone() })),
                _ => None,
            };
            if fixed.is_some() {
                return Ok(fixed);
            }
        }
        if let Some(x) = known(v) {
            let whole = |x: f64| Sv::int(x as i64);
            return Ok(Some(match op {
                "neg" => Sv::Float(-x),
                "abs" => Sv::Float(x.abs()),
                "floor" => whole(x.floor()),
                "ceil" => whole(x.ceil()),
                "trunc" => whole(x.trunc()),
                "round" => Sv::Float(x.round_ties_even()),
                "sqrt" => Sv::Float(x.sqrt()),
                "exp" => Sv::Float(x.exp()),
                "expm1" => Sv::Float(x.exp_m1()),
                "log" => Sv::Float(x.ln()),
                "log2" => Sv::Float(x.log2()),
                "log10" => Sv::Float(x.log10()),
                "log1p" => Sv::Float(x.ln_1p()),
                "sin" => Sv::Float(x.sin()),
                "cos" => Sv::Float(x.cos()),
                "tan" => Sv::Float(x.tan()),
                "asin" => Sv::Float(x.asin()),
                "acos" => Sv::Float(x.acos()),
                "atan" => Sv::Float(x.atan()),
                "sinh" => Sv::Float(x.sinh()),
                "cosh" => Sv::Float(x.cosh()),
                "tanh" => Sv::Float(x.tanh()),
                "isnan" => Sv::Bool(x.is_nan()),
                "isinf" => Sv::Bool(x.is_infinite()),
                "isfinite" => Sv::Bool(x.is_finite()),
                "degrees" => Sv::Float(x.to_degrees()),
                "radians" => Sv::Float(x.to_radians()),
                _ => return Ok(None),
            }));
        }
        let name = match op {
            "neg" => "Neg",
            "abs" => "Abs",
            "floor" | "trunc" => "Floor",
            "ceil" => "Ceil",
            "sqrt" => "Sqrt",
            "exp" => "Exp",
            "log" => "Log",
            "round" => "Round",
            _ => return Ok(None),
        };
        let x = self.scalar_value(cx, v)?;
        let x = if cx.dtype(x)?.is_float() { x } else { cx.cast(x, DType::F64)? };
        let y = cx.call(name, &[x])?;
        if matches!(op, "floor" | "ceil" | "trunc") {
            let y = cx.cast(y, DType::I64)?;
            return self.number_of(cx, y).map(Some);
        }
        Ok(Some(Sv::Scalar(y)))
    }

    /// `int(x)`, `float(x)`, `bool(x)`, `x.item()`.
    pub fn convert(&mut self, cx: &mut Cx<'static, '_>, to: &str, v: &Sv) -> Result<Sv> {
        let v = match v {
            Sv::Tensor(id) => {
                let value = cx.read(*id)?;
                let value = cx.reshape(value, &[])?;
                self.number_of(cx, value)?
            }
            other => other.clone(),
        };
        Ok(match (to, &v) {
            ("item", _) => v,
            ("int", Sv::Int(_)) | ("float", Sv::Float(_) | Sv::SymFloat(_)) | ("bool", Sv::Bool(_)) => v,
            ("int", Sv::Bool(b)) => Sv::int(*b as i64),
            ("int", Sv::Float(x)) => Sv::int(x.trunc() as i64),
            ("int", Sv::SymFloat(r)) if r.as_int().is_some() => Sv::Int(r.num.clone()),
            ("int", Sv::SymFloat(r)) if r.num.bounds(&|s| cx.symbols.bounds(s)).0 >= 0 => Sv::Int(r.floor()),
            ("int", Sv::Text(s)) => {
                Sv::int(s.trim().parse().map_err(|_| Error::invalid(format!("`{s}` is no integer")))?)
            }
            ("int", Sv::Scalar(x)) => {
                let x = cx.cast(*x, DType::I64)?;
                self.number_of(cx, x)?
            }
            ("float", Sv::Int(d)) => number_from(Ratio::int(d.clone())),
            ("float", Sv::Bool(b)) => Sv::Float(*b as u8 as f64),
            ("float", Sv::Text(s)) => {
                Sv::Float(s.trim().parse().map_err(|_| Error::invalid(format!("`{s}` is no number")))?)
            }
            ("float", Sv::Scalar(x)) => {
                let float = cx.dtype(*x)?.is_float();
                if float { v } else { Sv::Scalar(cx.cast(*x, DType::F32)?) }
            }
            ("bool", _) => match self.truth(cx, &v)? {
                Truth::Known(t) => Sv::Bool(t),
                Truth::AtRunTime(c) => Sv::Scalar(c),
            },
            _ => bail!(unsupported, "{to}() of a {}", v.kind()),
        })
    }

    pub(super) fn either(&mut self, cx: &mut Cx<'static, '_>, a: Sv, b: Sv) -> Result<Sv> {
        Ok(match (a, b) {
            (Sv::Bool(true), _) | (_, Sv::Bool(true)) => Sv::Bool(true),
            (Sv::Bool(false), v) | (v, Sv::Bool(false)) => v,
            (a, b) => self.arithmetic(cx, "__or__", &a, &b)?,
        })
    }

    /// Equality of other than numbers; lists of numbers may be equal at run time only.
    pub(super) fn equal(&mut self, cx: &mut Cx<'static, '_>, a: &Sv, b: &Sv) -> Result<Sv> {
        if same(a, b) {
            return Ok(Sv::Bool(true));
        }
        if let (Sv::Device(x), Sv::Device(y)) = (a, b) {
            return Ok(Sv::Bool(x == y));
        }
        let both = matches!((a, b), (Sv::List(_), Sv::List(_)) | (Sv::Tuple(_), Sv::Tuple(_)));
        if !both {
            return Ok(Sv::Bool(false));
        }
        let (x, y) = (self.items(a)?, self.items(b)?);
        if x.len() != y.len() {
            return Ok(Sv::Bool(false));
        }
        let mut all = Sv::Bool(true);
        for (x, y) in x.iter().zip(&y) {
            let one = if is_number(x) && is_number(y) { self.compare(cx, "eq", x, y)? } else { self.equal(cx, x, y)? };
            all = match (all, one) {
                (Sv::Bool(false), _) | (_, Sv::Bool(false)) => Sv::Bool(false),
                (Sv::Bool(true), v) | (v, Sv::Bool(true)) => v,
                (a, b) => self.arithmetic(cx, "__and__", &a, &b)?,
            };
        }
        Ok(all)
    }

    /// `torch.tensor(data)`: numbers and nested lists of them.
    pub(super) fn tensor(&mut self, cx: &mut Cx<'static, '_>, v: &Sv, dtype: Option<DType>) -> Result<Sv> {
        if let Sv::Tensor(id) = v {
            let value = cx.read(*id)?;
            let value = match dtype {
                Some(d) => crate::aten::elementwise::cast_to(cx, value, d)?,
                None => value,
            };
            return Ok(Sv::Tensor(cx.new_tensor(value)));
        }
        let (mut shape, mut flat) = (Vec::new(), Vec::new());
        self.flatten(v, 0, &mut shape, &mut flat)?;
        let natural = match flat.iter().find(|v| matches!(v, Sv::Float(_) | Sv::SymFloat(_))) {
            Some(_) => DType::F32,
            None if flat.iter().all(|v| matches!(v, Sv::Bool(_))) && !flat.is_empty() => DType::Bool,
            None if flat.is_empty() => DType::F32,
            None => match flat.iter().find_map(|v| if let Sv::Scalar(s) = v { Some(*s) } else { None }) {
                Some(s) => cx.dtype(s)?,
                None => DType::I64,
            },
        };
        let dtype = dtype.unwrap_or(natural);
        let value = match flat.iter().map(known).collect::<Option<Vec<f64>>>() {
            Some(numbers) => {
                let ints: Option<Vec<i64>> = (flat.iter())
                    .map(|v| match v {
                        Sv::Int(d) => d.as_const(),
                        Sv::Bool(b) => Some(*b as i64),
                        _ => None,
                    })
                    .collect();
                let t = match ints {
                    Some(ints) if dtype.is_int() => Tensor::from_i64(dtype, &shape, &ints)?,
                    _ => Tensor::from_f64(dtype, &shape, &numbers)?,
                };
                cx.b.constant(t)
            }
            None => {
                let mut parts = Vec::new();
                for v in &flat {
                    let v = self.scalar_value(cx, v)?;
                    let v = cx.cast(v, dtype)?;
                    parts.push(cx.b.unsqueeze(v, &[0])?);
                }
                let all = cx.concat(&parts, 0)?;
                let dims: Vec<Dim> = shape.iter().map(|&n| n.into()).collect();
                cx.reshape(all, &dims)?
            }
        };
        Ok(Sv::Tensor(cx.new_tensor(value)))
    }

    pub(super) fn flatten(&self, v: &Sv, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<Sv>) -> Result<()> {
        if is_number(v) {
            if depth != shape.len() {
                bail!(invalid, "a tensor of lists of unequal depth");
            }
            out.push(v.clone());
            return Ok(());
        }
        if depth > 16 {
            bail!(invalid, "a tensor of rank beyond 16");
        }
        let items = self.items(v)?;
        if shape.len() == depth {
            shape.push(items.len());
        } else if shape.get(depth) != Some(&items.len()) {
            bail!(invalid, "a tensor of lists of unequal length");
        }
        items.iter().try_for_each(|i| self.flatten(i, depth + 1, shape, out))
    }
}
