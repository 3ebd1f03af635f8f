//! What the language has beside tensors: numbers, text, lists, dicts. The serializer writes all of it as `torch.*`
//! and `ops.prim.*` calls.

use super::call::{c10_of_dtype, dtype_of_c10};
use super::interp::{Interp, Truth};
use super::value::{Cell, Ref, Sv, same};
use crate::cx::Cx;
use crate::symbols::{Ratio, compare};
use oxrt_ir::{Attrs, Dim, Tensor, ValueId};
use oxrt_tensor::{DType, Error, Result, bail};
use std::rc::Rc;

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

fn known(v: &Sv) -> Option<f64> {
    match v {
        Sv::Int(d) => d.as_const().map(|x| x as f64),
        Sv::Float(x) => Some(*x),
        Sv::SymFloat(r) => r.as_const(),
        Sv::Bool(b) => Some(*b as u8 as f64),
        _ => None,
    }
}

fn number_from(r: Ratio) -> Sv {
    match r.as_const() {
        Some(x) => Sv::Float(x),
        None => Sv::SymFloat(r),
    }
}

fn is_number(v: &Sv) -> bool {
    matches!(v, Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_))
}

fn text(v: &Sv) -> Result<Rc<str>> {
    match v {
        Sv::Text(s) => Ok(s.clone()),
        other => bail!(invalid, "text is needed, found a {}", other.kind()),
    }
}

/// A number of unknown sign that sizes a tensor is not negative.
fn is_size(cx: &mut Cx, d: &Dim) {
    if let Some(range) = d.as_symbol().and_then(|s| cx.symbols.ranges.get_mut(s)) {
        range.min = range.min.max(0);
    }
}

impl Interp<'_> {
    pub fn int(&self, v: &Sv) -> Result<Dim> {
        match v {
            Sv::Int(d) => Ok(d.clone()),
            Sv::Bool(b) => Ok(Dim::Const(*b as i64)),
            other => bail!(invalid, "an int is needed, found a {}", other.kind()),
        }
    }

    fn const_int(&self, v: &Sv) -> Result<i64> {
        let d = self.int(v)?;
        d.as_const().ok_or_else(|| Error::unsupported(format!("a number `{d}` that depends on the input's sizes")))
    }

    pub fn items(&self, v: &Sv) -> Result<Vec<Sv>> {
        match v {
            Sv::Tuple(items) => Ok(items.to_vec()),
            Sv::NamedTuple(_, items) => Ok(items.iter().map(|f| f.1.clone()).collect()),
            Sv::List(r) => match self.heap.get(*r) {
                Cell::List(items) => Ok(items.clone()),
                _ => bail!(unsupported, "a list whose length is known at run time only"),
            },
            Sv::Dict(r) => match self.heap.get(*r) {
                Cell::Dict(pairs) => Ok(pairs.iter().map(|p| p.0.clone()).collect()),
                _ => bail!(bug, "a dict that is none"),
            },
            other => bail!(invalid, "a list is needed, found a {}", other.kind()),
        }
    }

    // ---- containers ----

    /// `list[index]`
    pub fn item(&mut self, cx: &mut Cx<'static, '_>, list: &Sv, index: &Sv) -> Result<Sv> {
        match list {
            Sv::Dict(r) => {
                let Cell::Dict(pairs) = self.heap.get(*r) else { bail!(bug, "a dict that is none") };
                let found = pairs.iter().find(|(k, _)| same(k, index)).map(|p| p.1.clone());
                found.ok_or_else(|| Error::invalid(format!("a dict has no key {index:?}")))
            }
            Sv::List(r) if matches!(self.heap.get(*r), Cell::Sequence(_)) => {
                let Cell::Sequence(seq) = *self.heap.get(*r) else { bail!(bug, "a sequence that is none") };
                let at = self.int(index)?;
                let at = cx.dim_scalar(&at)?;
                let v = cx.call("SequenceAt", &[seq, at])?;
                Ok(Sv::Tensor(cx.new_tensor(v)))
            }
            Sv::Text(s) => {
                let chars: Vec<char> = s.chars().collect();
                let at = self.place_of(index, chars.len())?;
                Ok(Sv::Text(chars[at].to_string().into()))
            }
            Sv::Tensor(_) => self.call_torch(cx, "select", vec![list.clone(), Sv::int(0), index.clone()], Vec::new()),
            _ => {
                let items = self.items(list)?;
                if self.int(index)?.as_const().is_none() {
                    return self.item_at_run_time(cx, &items, index);
                }
                let at = self.place_of(index, items.len())?;
                Ok(items[at].clone())
            }
        }
    }

    /// An element of a list whose place is known at run time only: tensors as a sequence, numbers as a vector.
    fn item_at_run_time(&mut self, cx: &mut Cx<'static, '_>, items: &[Sv], index: &Sv) -> Result<Sv> {
        let at = self.int(index)?;
        let at = cx.dim_scalar(&at)?;
        if items.iter().all(|i| matches!(i, Sv::Tensor(_))) && !items.is_empty() {
            let seq = self.sequence_of(cx, items)?;
            let v = cx.call("SequenceAt", &[seq, at])?;
            return Ok(Sv::Tensor(cx.new_tensor(v)));
        }
        if !items.is_empty() && items.iter().all(is_number) {
            let mut parts = Vec::new();
            for i in items {
                let v = self.scalar_value(cx, i)?;
                parts.push(cx.b.unsqueeze(v, &[0])?);
            }
            let all = cx.concat(&parts, 0)?;
            let v = cx.op("Gather", &[all, at], Attrs::new().with("axis", 0))?;
            return self.number_of(cx, v);
        }
        bail!(unsupported, "an index that is known at run time only, into a list of other than tensors and numbers")
    }

    pub fn sequence_of(&mut self, cx: &mut Cx<'static, '_>, items: &[Sv]) -> Result<ValueId> {
        let mut values = Vec::new();
        for i in items {
            let Sv::Tensor(id) = i else { bail!(unsupported, "a list of {} at run time", i.kind()) };
            values.push(cx.read(*id)?);
        }
        cx.call("SequenceConstruct", &values)
    }

    fn place_of(&self, index: &Sv, len: usize) -> Result<usize> {
        let i = self.const_int(index)?;
        let at = if i < 0 { i + len as i64 } else { i };
        usize::try_from(at)
            .ok()
            .filter(|&at| at < len)
            .ok_or_else(|| Error::invalid(format!("the index {i} into a list of {len}")))
    }

    pub fn set_item(&mut self, list: &Sv, index: &Sv, v: Sv) -> Result<()> {
        match list {
            Sv::Dict(r) => {
                let Cell::Dict(pairs) = self.heap.get_mut(*r) else { bail!(bug, "a dict that is none") };
                match pairs.iter_mut().find(|(k, _)| same(k, index)) {
                    Some(pair) => pair.1 = v,
                    None => pairs.push((index.clone(), v)),
                }
                Ok(())
            }
            Sv::List(r) => {
                let len = self.items(list)?.len();
                let at = self.place_of(index, len)?;
                let Cell::List(items) = self.heap.get_mut(*r) else { bail!(bug, "a list that is none") };
                items[at] = v;
                Ok(())
            }
            other => bail!(unsupported, "an element of a {} is set", other.kind()),
        }
    }

    fn list_mut(&mut self, r: Ref) -> Result<&mut Vec<Sv>> {
        match self.heap.get_mut(r) {
            Cell::List(items) => Ok(items),
            _ => bail!(unsupported, "a list whose length is known at run time only"),
        }
    }

    fn slice_items(&self, items: &[Sv], args: &[Sv]) -> Result<Vec<Sv>> {
        let n = items.len() as i64;
        let bound = |v: Option<&Sv>, default: i64| -> Result<i64> {
            match v {
                None | Some(Sv::None) => Ok(default),
                Some(v) => {
                    let i = self.const_int(v)?;
                    Ok(if i < 0 { i + n } else { i }.clamp(0, n))
                }
            }
        };
        let step = match args.get(2) {
            None | Some(Sv::None) => 1,
            Some(v) => self.const_int(v)?,
        };
        if step <= 0 {
            bail!(unsupported, "a slice of a list with step {step}");
        }
        let (from, to) = (bound(args.first(), 0)?, bound(args.get(1), n)?);
        Ok((from..to).step_by(step as usize).map(|i| items[i as usize].clone()).collect())
    }

    // ---- numbers ----

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
    fn arithmetic(&mut self, cx: &mut Cx<'static, '_>, op: &str, a: &Sv, b: &Sv) -> Result<Sv> {
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
    fn unary(&mut self, cx: &mut Cx<'static, '_>, op: &str, v: &Sv) -> Result<Option<Sv>> {
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

    // ---- text ----

    pub fn show(&self, v: &Sv) -> String {
        match v {
            Sv::None => "None".into(),
            Sv::Int(d) => d.to_string(),
            Sv::Float(x) if x.fract() == 0.0 && x.abs() < 1e16 => format!("{x:.1}"),
            Sv::Float(x) => x.to_string(),
            Sv::Bool(b) => if *b { "True" } else { "False" }.into(),
            Sv::Text(s) | Sv::Device(s) => s.to_string(),
            Sv::List(_) | Sv::Tuple(_) => {
                let items = self.items(v).unwrap_or_default();
                let items: Vec<String> = items.iter().map(|i| self.show(i)).collect();
                if matches!(v, Sv::List(_)) {
                    format!("[{}]", items.join(", "))
                } else {
                    format!("({})", items.join(", "))
                }
            }
            other => format!("<{}>", other.kind()),
        }
    }

    fn format(&self, args: &[Sv]) -> Result<String> {
        let pattern = text(args.first().unwrap_or(&Sv::None))?;
        let mut out = String::new();
        let mut values = args[1..].iter();
        let mut rest = &*pattern;
        while let Some(at) = rest.find('{') {
            out.push_str(&rest[..at]);
            let Some(end) = rest[at..].find('}') else { break };
            out.push_str(&values.next().map(|v| self.show(v)).unwrap_or_default());
            rest = &rest[at + end + 1..];
        }
        out.push_str(rest);
        Ok(out)
    }

    fn on_text(&mut self, name: &str, s: &str, args: &[Sv]) -> Result<Option<Sv>> {
        let arg = |i: usize| args.get(i).and_then(|v| text(v).ok());
        let owned = |s: String| Sv::Text(s.into());
        Ok(Some(match name {
            "len" => Sv::int(s.chars().count() as i64),
            "lower" => owned(s.to_lowercase()),
            "upper" => owned(s.to_uppercase()),
            "strip" => owned(s.trim().to_string()),
            "lstrip" => owned(s.trim_start().to_string()),
            "rstrip" => owned(s.trim_end().to_string()),
            "startswith" => Sv::Bool(s.starts_with(&*arg(0).unwrap_or_default())),
            "endswith" => Sv::Bool(s.ends_with(&*arg(0).unwrap_or_default())),
            "find" => Sv::int(s.find(&*arg(0).unwrap_or_default()).map_or(-1, |i| i as i64)),
            "__contains__" => Sv::Bool(s.contains(&*arg(0).unwrap_or_default())),
            "replace" => owned(s.replace(&*arg(0).unwrap_or_default(), &arg(1).unwrap_or_default())),
            "isdigit" => Sv::Bool(!s.is_empty() && s.chars().all(|c| c.is_ascii_digit())),
            "split" => {
                let parts: Vec<Sv> = match arg(0) {
                    Some(sep) => s.split(&*sep).map(|p| Sv::Text(p.into())).collect(),
                    None => s.split_whitespace().map(|p| Sv::Text(p.into())).collect(),
                };
                self.heap.list(parts)
            }
            "join" => {
                let parts = self.items(args.first().unwrap_or(&Sv::None))?;
                let parts = parts.iter().map(text).collect::<Result<Vec<_>>>()?;
                owned(parts.join(s))
            }
            "add" => owned(format!("{s}{}", arg(0).unwrap_or_default())),
            "mul" => owned(s.repeat(self.const_int(args.first().unwrap_or(&Sv::None))?.clamp(0, 1 << 16) as usize)),
            "ord" => Sv::int(s.chars().next().map_or(0, |c| c as i64)),
            "slice" => {
                let chars: Vec<Sv> = s.chars().map(|c| Sv::Text(c.to_string().into())).collect();
                let part = self.slice_items(&chars, args)?;
                owned(part.iter().map(|c| self.show(c)).collect())
            }
            "list" => {
                let chars: Vec<Sv> = s.chars().map(|c| Sv::Text(c.to_string().into())).collect();
                self.heap.list(chars)
            }
            _ => return Ok(None),
        }))
    }

    // ---- calls ----

    /// `int(x)` and its like: functions without a namespace.
    pub fn call_bare(&mut self, cx: &mut Cx<'static, '_>, name: &str, args: Vec<Sv>) -> Result<Sv> {
        match (name, &args[..]) {
            ("int" | "float" | "bool", [v]) => self.convert(cx, name, v),
            ("str", [v]) => Ok(Sv::Text(self.show(v).into())),
            ("getattr", [v, Sv::Text(name)]) => self.attribute(v, name),
            ("hasattr", [v, Sv::Text(name)]) => Ok(Sv::Bool(self.attribute(v, name).is_ok())),
            ("print", _) => Ok(Sv::None),
            ("ord", [Sv::Text(s)]) => Ok(Sv::int(s.chars().next().map_or(0, |c| c as i64))),
            ("list", [v]) => {
                let items = self.items(v)?;
                Ok(self.heap.list(items))
            }
            ("len", [_]) => self.call_torch(cx, "len", args, Vec::new()),
            _ => bail!(unsupported, "the function `{name}`"),
        }
    }

    /// `ops.prim.name(…)`.
    pub fn call_prim(&mut self, cx: &mut Cx<'static, '_>, name: &str, args: Vec<Sv>) -> Result<Sv> {
        Ok(match (name, &args[..]) {
            ("NumToTensor", [v]) => {
                let value = self.scalar_value(cx, v)?;
                Sv::Tensor(cx.new_tensor(value))
            }
            ("RaiseException", rest) => {
                let message = rest.first().map(|v| self.show(v)).unwrap_or_default();
                self.raised = Some(message.clone());
                bail!(invalid, "the model raises: {message}")
            }
            ("data" | "unchecked_unwrap_optional" | "unchecked_cast", [v, ..]) => v.clone(),
            ("dtype", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let d = cx.dtype(v)?;
                Sv::int(c10_of_dtype(d).ok_or_else(|| Error::unsupported(format!("the element type {d}")))?)
            }
            ("device", [_]) => Sv::Device("cpu".into()),
            ("type", [Sv::Device(d)]) => Sv::Text(d.split(':').next().unwrap_or_default().into()),
            ("index", [Sv::Device(_)]) => Sv::None,
            ("layout", [_]) => Sv::int(0),
            ("shape", [v]) => self.call_torch(cx, "size", vec![v.clone()], Vec::new())?,
            ("ndim", [v]) => self.call_torch(cx, "dim", vec![v.clone()], Vec::new())?,
            ("requires_grad", [_]) => Sv::Bool(true),
            ("grad", [_]) => Sv::None,
            (
                "is_cuda" | "is_sparse" | "is_mkldnn" | "is_quantized" | "is_nested" | "is_meta" | "is_mps" | "is_xpu"
                | "is_xla" | "is_maia" | "is_vulkan" | "is_ipu" | "is_ort" | "is_hpu" | "is_sparse_csr" | "is_tracing"
                | "is_leaf" | "is_inference",
                _,
            ) => Sv::Bool(name == "is_leaf"),
            ("is_scripting", _) => Sv::Bool(true),
            ("min" | "max", [list]) => {
                let items = self.items(list)?;
                let Some((first, rest)) = items.split_first() else { bail!(invalid, "{name} of an empty list") };
                let mut best = first.clone();
                for v in rest {
                    best = self.arithmetic(cx, name, &best, v)?;
                }
                best
            }
            ("min" | "max", [a, b]) => self.arithmetic(cx, name, a, b)?,
            ("abs", [v]) if is_number(v) => {
                self.unary(cx, "abs", v)?.ok_or_else(|| Error::unsupported("abs of this number"))?
            }
            ("name" | "value", [v]) => v.clone(),
            ("TupleIndex", [t, i]) => self.item(cx, t, i)?,
            ("rangelist", [n]) => {
                let n = self.const_int(n)?.clamp(0, 1 << 20);
                self.heap.list((0..n).map(Sv::int).collect())
            }
            ("AutogradZero" | "AutogradAnyNonZero", _) => bail!(unsupported, "gradients"),
            _ => match args.first() {
                Some(Sv::Tensor(_)) => self.call_torch(cx, name, args, Vec::new())?,
                _ => bail!(unsupported, "prim.{name}"),
            },
        })
    }

    /// `torch.name(…)`.
    pub fn call_torch(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        mut args: Vec<Sv>,
        named: Vec<(Rc<str>, Sv)>,
    ) -> Result<Sv> {
        if let Some(v) = self.builtin(cx, name, &args, &named)? {
            return Ok(v);
        }
        // Backend switches follow the arguments of `convolution`.
        let name = match name {
            "_convolution" => {
                args.truncate(9);
                "convolution"
            }
            // Legacy spellings.
            "__and__" | "__or__" | "__xor__" if matches!(args.first(), Some(Sv::Tensor(_))) => match name {
                "__and__" => "bitwise_and",
                "__or__" => "bitwise_or",
                _ => "bitwise_xor",
            },
            "__iand__" => "bitwise_and_",
            "__ior__" => "bitwise_or_",
            "tensor_float" | "tensor_int" => "tensor",
            other => other,
        };
        self.call_operator(cx, "aten", name, &args, &named)
    }

    fn builtin(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        args: &[Sv],
        named: &[(Rc<str>, Sv)],
    ) -> Result<Option<Sv>> {
        let given =
            |i: usize, key: &str| args.get(i).or_else(|| named.iter().find(|(n, _)| &**n == key).map(|(_, v)| v));
        Ok(Some(match (name, args) {
            // tensors
            ("size", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let mut dims = cx.dims(v)?;
                if cx.is_complex(v) {
                    dims.pop();
                }
                dims.iter().for_each(|d| is_size(cx, d));
                self.heap.list(dims.into_iter().map(Sv::Int).collect())
            }
            ("size", [Sv::Tensor(id), axis]) => {
                let v = cx.read(*id)?;
                let axis = cx.axis(v, self.const_int(axis)?)?;
                let d = cx.size(v, axis)?;
                is_size(cx, &d);
                Sv::Int(d)
            }
            ("dim" | "ndimension", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::int((cx.rank(v)? - cx.is_complex(v) as usize) as i64)
            }
            ("numel", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Int(cx.dims(v)?.into_iter().product())
            }
            ("len", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Int(cx.size(v, 0)?)
            }
            ("stride", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                let dims = cx.dims(v)?;
                let strides = (0..dims.len()).map(|i| Sv::Int(dims[i + 1..].iter().cloned().product()));
                let strides = strides.collect();
                self.heap.list(strides)
            }
            ("stride", [Sv::Tensor(id), axis]) => {
                let v = cx.read(*id)?;
                let axis = cx.axis(v, self.const_int(axis)?)?;
                Sv::Int(cx.dims(v)?[axis + 1..].iter().cloned().product())
            }
            ("storage_offset", [Sv::Tensor(_)]) => Sv::int(0),
            ("is_contiguous", [Sv::Tensor(_), ..]) => Sv::Bool(true),
            ("is_floating_point", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(cx.dtype(v)?.is_float() && !cx.is_complex(v))
            }
            ("is_complex", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(cx.is_complex(v))
            }
            ("is_signed", [Sv::Tensor(id)]) => {
                let v = cx.read(*id)?;
                Sv::Bool(!matches!(cx.dtype(v)?, DType::U8 | DType::Bool))
            }
            ("get_device", [_]) => Sv::int(-1),
            ("item" | "ScalarImplicit", [v]) => self.convert(cx, "item", v)?,
            ("IntImplicit" | "Int", [v]) => self.convert(cx, "int", v)?,
            ("FloatImplicit" | "Float", [v]) => self.convert(cx, "float", v)?,
            ("Bool" | "is_nonzero", [v]) => self.convert(cx, "bool", v)?,
            ("tensor" | "as_tensor", [v, ..]) => {
                let dtype = match given(1, "dtype") {
                    Some(Sv::Int(d)) => d.as_const().and_then(dtype_of_c10),
                    _ => None,
                };
                self.tensor(cx, v, dtype)?
            }
            ("is_grad_enabled", _) => Sv::Bool(true),
            ("is_autocast_enabled" | "is_autocast_cpu_enabled" | "is_tracing" | "has_torch_function", _) => {
                Sv::Bool(false)
            }
            ("is_scripting", _) => Sv::Bool(true),
            ("set_grad_enabled" | "warn" | "manual_seed" | "_assert" | "backward", _) => Sv::None,
            ("device", [Sv::Text(s), ..]) => Sv::Device(s.clone()),
            ("requires_grad_" | "retain_grad", [v, ..]) => v.clone(),
            ("result_type", [a, b]) => {
                let mut of = |v: &Sv| -> Result<DType> {
                    let v = self.scalar_value(cx, v).or_else(|_| match v {
                        Sv::Tensor(id) => cx.read(*id),
                        _ => Err(Error::invalid("result_type of other than numbers and tensors")),
                    })?;
                    cx.dtype(v)
                };
                let (x, y) = (of(a)?, of(b)?);
                let d = crate::promote::promote(x, y);
                Sv::int(c10_of_dtype(d).ok_or_else(|| Error::unsupported(format!("the element type {d}")))?)
            }
            // containers
            ("len", [Sv::List(r)]) => match self.heap.get(*r).clone() {
                Cell::Sequence(seq) => {
                    let n = cx.call("SequenceLength", &[seq])?;
                    self.number_of(cx, n)?
                }
                Cell::List(items) => Sv::int(items.len() as i64),
                _ => bail!(bug, "a list that is none"),
            },
            ("len", [v @ (Sv::Tuple(_) | Sv::Dict(_) | Sv::NamedTuple(..))]) => Sv::int(self.items(v)?.len() as i64),
            ("append", [Sv::List(r), v]) => {
                if let Cell::Sequence(seq) = *self.heap.get(*r) {
                    let Sv::Tensor(id) = v else { bail!(unsupported, "a {} in a list at run time", v.kind()) };
                    let v = cx.read(*id)?;
                    let longer = cx.call("SequenceInsert", &[seq, v])?;
                    *self.heap.get_mut(*r) = Cell::Sequence(longer);
                } else {
                    self.list_mut(*r)?.push(v.clone());
                }
                args[0].clone()
            }
            ("extend", [Sv::List(r), more]) => {
                let more = self.items(more)?;
                self.list_mut(*r)?.extend(more);
                Sv::None
            }
            ("insert", [Sv::List(r), at, v]) => {
                let at = self.const_int(at)?;
                let list = self.list_mut(*r)?;
                let n = list.len() as i64;
                list.insert(if at < 0 { at + n } else { at }.clamp(0, n) as usize, v.clone());
                Sv::None
            }
            ("pop", [Sv::List(r), rest @ ..]) => {
                let n = self.items(&args[0])?.len();
                let at = self.place_of(rest.first().unwrap_or(&Sv::int(-1)), n)?;
                self.list_mut(*r)?.remove(at)
            }
            ("Delete", [Sv::List(r), at]) => {
                let n = self.items(&args[0])?.len();
                let at = self.place_of(at, n)?;
                self.list_mut(*r)?.remove(at);
                Sv::None
            }
            ("clear", [Sv::List(r)]) => {
                self.list_mut(*r)?.clear();
                Sv::None
            }
            ("reverse", [Sv::List(r)]) => {
                self.list_mut(*r)?.reverse();
                Sv::None
            }
            ("copy" | "list", [v @ (Sv::List(_) | Sv::Tuple(_) | Sv::Dict(_))])
                if !(name == "copy" && matches!(v, Sv::Dict(_))) =>
            {
                let items = self.items(v)?;
                self.heap.list(items)
            }
            ("remove", [Sv::List(r), v]) => {
                let items = self.items(&args[0])?;
                let Some(at) = items.iter().position(|i| same(i, v)) else {
                    bail!(invalid, "a list lacks what it should lose")
                };
                self.list_mut(*r)?.remove(at);
                Sv::None
            }
            ("index", [l @ Sv::List(_), v]) if !matches!(v, Sv::List(_)) => {
                let at = self.items(l)?.iter().position(|i| same(i, v));
                Sv::int(at.ok_or_else(|| Error::invalid("a list lacks the element that is looked for"))? as i64)
            }
            ("count", [l @ Sv::List(_), v]) => Sv::int(self.items(l)?.iter().filter(|i| same(i, v)).count() as i64),
            ("sort" | "sorted", [l @ Sv::List(r), rest @ ..]) => {
                let mut items = self.items(l)?;
                let keys: Option<Vec<f64>> = items.iter().map(known).collect();
                let Some(_) = keys else {
                    if !items.iter().all(|i| matches!(i, Sv::Text(_))) {
                        bail!(unsupported, "a sort of values that are known at run time only");
                    }
                    items.sort_by_key(|i| self.show(i));
                    return Ok(Some(self.heap.list(items)));
                };
                items.sort_by(|a, b| known(a).unwrap_or(0.0).total_cmp(&known(b).unwrap_or(0.0)));
                if matches!(rest.first(), Some(Sv::Bool(true))) {
                    items.reverse();
                }
                if name == "sorted" {
                    self.heap.list(items)
                } else {
                    *self.list_mut(*r)? = items;
                    Sv::None
                }
            }
            ("slice", [l @ (Sv::List(_) | Sv::Tuple(_)), rest @ ..]) => {
                let items = self.items(l)?;
                let part = self.slice_items(&items, rest)?;
                if matches!(l, Sv::Tuple(_)) { Sv::Tuple(Rc::new(part)) } else { self.heap.list(part) }
            }
            ("select" | "__getitem__", [l @ (Sv::List(_) | Sv::Tuple(_) | Sv::Dict(_) | Sv::Text(_)), i]) => {
                self.item(cx, l, i)?
            }
            ("_set_item", [l, i, v]) => {
                self.set_item(l, i, v.clone())?;
                Sv::None
            }
            ("dict", []) => Sv::Dict(self.heap.add(Cell::Dict(Vec::new()))),
            ("dict" | "copy", [Sv::Dict(r)]) => {
                let cell = self.heap.get(*r).clone();
                Sv::Dict(self.heap.add(cell))
            }
            ("dict", [l @ Sv::List(_)]) => {
                let mut pairs = Vec::new();
                for item in self.items(l)? {
                    match &self.items(&item)?[..] {
                        [k, v] => pairs.push((k.clone(), v.clone())),
                        _ => bail!(invalid, "a dict of something other than pairs"),
                    }
                }
                Sv::Dict(self.heap.add(Cell::Dict(pairs)))
            }
            (
                "keys" | "values" | "items" | "get" | "update" | "setdefault" | "pop" | "clear" | "Delete",
                [Sv::Dict(r), rest @ ..],
            ) => {
                return self.on_dict(name, *r, rest).map(Some);
            }
            ("__contains__", [Sv::Text(s), _]) => return self.on_text(name, &s.clone(), &args[1..]),
            ("__contains__", [l, v]) => {
                let items = self.items(l)?;
                if items.iter().any(|i| same(i, v)) {
                    Sv::Bool(true)
                } else {
                    let mut any = Sv::Bool(false);
                    for i in items.iter().filter(|i| is_number(i) && is_number(v)) {
                        let equal = self.compare(cx, "eq", i, v)?;
                        any = self.either(cx, any, equal)?;
                    }
                    any
                }
            }
            ("__range_length", [lo, hi, step]) => {
                let (lo, hi, step) = (self.int(lo)?, self.int(hi)?, self.const_int(step)?);
                match step {
                    0 => bail!(invalid, "a range with step 0"),
                    s if s > 0 => Sv::Int((hi - lo).ceil_div(&Dim::Const(s)).at_least(&Dim::Const(0))),
                    s => Sv::Int((lo - hi).ceil_div(&Dim::Const(-s)).at_least(&Dim::Const(0))),
                }
            }
            ("__derive_index", [i, start, step]) => Sv::Int(self.int(start)? + self.int(i)? * self.int(step)?),
            // identity, logic
            ("__is__" | "__isnot__", [a, b]) => {
                let equal = match (a, b) {
                    (Sv::None, Sv::None) => true,
                    (Sv::None, _) | (_, Sv::None) => false,
                    (a, b) => same(a, b),
                };
                Sv::Bool(equal == (name == "__is__"))
            }
            ("__not__", [v]) => match self.truth(cx, v)? {
                Truth::Known(t) => Sv::Bool(!t),
                Truth::AtRunTime(c) => Sv::Scalar(cx.call("Not", &[c])?),
            },
            (
                "__and__" | "__or__" | "__xor__",
                [a @ (Sv::Bool(_) | Sv::Scalar(_)), b @ (Sv::Bool(_) | Sv::Scalar(_))],
            ) => match (name, a, b) {
                ("__and__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(*x && *y),
                ("__or__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(*x || *y),
                ("__xor__", Sv::Bool(x), Sv::Bool(y)) => Sv::Bool(x != y),
                ("__or__", x, y) => self.either(cx, x.clone(), y.clone())?,
                ("__and__", Sv::Bool(t), other) | ("__and__", other, Sv::Bool(t)) => {
                    if *t {
                        other.clone()
                    } else {
                        Sv::Bool(false)
                    }
                }
                _ => self.arithmetic(cx, name, a, b)?,
            },
            ("eq" | "ne", [a, b]) if !matches!((a, b), (Sv::Tensor(_), _) | (_, Sv::Tensor(_))) => {
                if is_number(a) && is_number(b) {
                    return self.compare(cx, name, a, b).map(Some);
                }
                let equal = self.equal(cx, a, b)?;
                match (name, equal) {
                    ("eq", v) => v,
                    (_, Sv::Bool(t)) => Sv::Bool(!t),
                    (_, Sv::Scalar(v)) => Sv::Scalar(cx.call("Not", &[v])?),
                    (_, other) => other,
                }
            }
            ("lt" | "le" | "gt" | "ge", [a, b]) if is_number(a) && is_number(b) => self.compare(cx, name, a, b)?,
            (
                "add" | "sub" | "mul" | "div" | "truediv" | "floordiv" | "remainder" | "fmod" | "pow" | "__lshift__"
                | "__rshift__" | "__and__" | "__or__" | "__xor__" | "gcd" | "atan2" | "copysign",
                [a, b],
            ) if is_number(a) && is_number(b) => {
                let op = if name == "div" { "truediv" } else { name };
                // Python's true division of integers gives a float.
                if let ("truediv", Sv::Int(x), Sv::Int(y)) = (op, a, b) {
                    if let (Some(x), Some(y)) = (x.as_const(), y.as_const().filter(|y| *y != 0)) {
                        return Ok(Some(Sv::Float(x as f64 / y as f64)));
                    }
                }
                self.arithmetic(cx, op, a, b)?
            }
            ("add", [a @ Sv::List(_), b @ Sv::List(_)]) => {
                let mut all = self.items(a)?;
                all.extend(self.items(b)?);
                self.heap.list(all)
            }
            ("add_", [a @ Sv::List(r), b @ Sv::List(_)]) => {
                let more = self.items(b)?;
                self.list_mut(*r)?.extend(more);
                a.clone()
            }
            ("add", [a @ Sv::Tuple(_), b @ Sv::Tuple(_)]) => {
                let mut all = self.items(a)?;
                all.extend(self.items(b)?);
                Sv::Tuple(Rc::new(all))
            }
            ("mul", [l @ Sv::List(_), n @ Sv::Int(_)]) | ("mul", [n @ Sv::Int(_), l @ Sv::List(_)]) => {
                let (items, n) = (self.items(l)?, self.const_int(n)?.clamp(0, 1 << 20) as usize);
                let all = items.iter().cycle().take(items.len() * n).cloned().collect();
                self.heap.list(all)
            }
            ("sum", [l @ Sv::List(_)]) => {
                let mut total = Sv::int(0);
                for v in self.items(l)? {
                    total = self.arithmetic(cx, "add", &total, &v)?;
                }
                total
            }
            ("all" | "any", [l @ Sv::List(_)]) => {
                let mut out = Sv::Bool(name == "all");
                for v in self.items(l)? {
                    out = match (name, &out, &v) {
                        ("any", _, _) => self.either(cx, out, v)?,
                        (_, Sv::Bool(a), Sv::Bool(b)) => Sv::Bool(*a && *b),
                        (_, a, b) => self.arithmetic(cx, "__and__", &a.clone(), b)?,
                    };
                }
                out
            }
            // text
            ("format", _) => Sv::Text(self.format(args)?.into()),
            ("str", [v]) => Sv::Text(self.show(v).into()),
            ("percentFormat", _) => Sv::Text(args.first().map(|v| self.show(v)).unwrap_or_default().into()),
            (_, [Sv::Text(s), rest @ ..]) => return self.on_text(name, &s.clone(), rest),
            (_, [v]) if is_number(v) => return self.unary(cx, name, v),
            _ => return Ok(None),
        }))
    }

    fn either(&mut self, cx: &mut Cx<'static, '_>, a: Sv, b: Sv) -> Result<Sv> {
        Ok(match (a, b) {
            (Sv::Bool(true), _) | (_, Sv::Bool(true)) => Sv::Bool(true),
            (Sv::Bool(false), v) | (v, Sv::Bool(false)) => v,
            (a, b) => self.arithmetic(cx, "__or__", &a, &b)?,
        })
    }

    /// Equality of other than numbers; lists of numbers may be equal at run time only.
    fn equal(&mut self, cx: &mut Cx<'static, '_>, a: &Sv, b: &Sv) -> Result<Sv> {
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

    fn on_dict(&mut self, name: &str, r: Ref, rest: &[Sv]) -> Result<Sv> {
        let Cell::Dict(pairs) = self.heap.get_mut(r) else { bail!(bug, "a dict that is none") };
        let at = rest.first().and_then(|k| pairs.iter().position(|p| same(&p.0, k)));
        Ok(match (name, rest) {
            ("keys", []) => {
                let items = pairs.iter().map(|p| p.0.clone()).collect();
                self.heap.list(items)
            }
            ("values", []) => {
                let items = pairs.iter().map(|p| p.1.clone()).collect();
                self.heap.list(items)
            }
            ("items", []) => {
                let items = pairs.iter().map(|p| Sv::Tuple(Rc::new(vec![p.0.clone(), p.1.clone()]))).collect();
                self.heap.list(items)
            }
            ("get", [_, default @ ..]) => match at {
                Some(i) => pairs[i].1.clone(),
                None => default.first().cloned().unwrap_or(Sv::None),
            },
            ("setdefault", [k, v]) => match at {
                Some(i) => pairs[i].1.clone(),
                None => {
                    pairs.push((k.clone(), v.clone()));
                    v.clone()
                }
            },
            ("pop", [_, default @ ..]) => match at {
                Some(i) => pairs.remove(i).1,
                None => default
                    .first()
                    .cloned()
                    .ok_or_else(|| Error::invalid("a dict lacks the key that it should lose"))?,
            },
            ("Delete", [_]) => {
                let i = at.ok_or_else(|| Error::invalid("a dict lacks the key that it should lose"))?;
                pairs.remove(i);
                Sv::None
            }
            ("clear", []) => {
                pairs.clear();
                Sv::None
            }
            ("update", [Sv::Dict(other)]) => {
                let Cell::Dict(more) = self.heap.get(*other).clone() else { bail!(bug, "a dict that is none") };
                for (k, v) in more {
                    self.set_item(&Sv::Dict(r), &k, v)?;
                }
                Sv::None
            }
            _ => bail!(unsupported, "`{name}` of a dict with {} arguments", rest.len()),
        })
    }

    /// `torch.tensor(data)`: numbers and nested lists of them.
    fn tensor(&mut self, cx: &mut Cx<'static, '_>, v: &Sv, dtype: Option<DType>) -> Result<Sv> {
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

    fn flatten(&self, v: &Sv, depth: usize, shape: &mut Vec<usize>, out: &mut Vec<Sv>) -> Result<()> {
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
