//! Arguments of a node by schema name, with the schema's defaults.

use crate::alias::TensorId;
use crate::cx::{Cx, Val};
use crate::symbols::Ratio;
use oxrt_ir::{DType, Dim, ValueId};
use oxrt_tensor::{Error, Result, bail};
use rustc_hash::FxHashMap;
use std::sync::OnceLock;

/// An argument with tensors read.
#[derive(Clone, Debug)]
pub(crate) enum Arg<'a> {
    Tensor(TensorId, ValueId),
    List(Vec<Arg<'a>>),
    Other(Val<'a>),
}

/// A number for arithmetic with tensors.
#[derive(Clone, Debug)]
pub(crate) enum Scalar {
    Int(Dim),
    Float(f64),
    SymFloat(Ratio),
    Bool(bool),
    Runtime(ValueId),
    Complex(f64, f64),
}

impl Scalar {
    pub fn is(&self, x: f64) -> bool {
        self.as_f64() == Some(x)
    }

    pub fn as_f64(&self) -> Option<f64> {
        match self {
            Scalar::Int(d) => d.as_const().map(|x| x as f64),
            Scalar::Float(x) => Some(*x),
            Scalar::Bool(b) => Some(*b as u8 as f64),
            Scalar::SymFloat(r) => r.as_const(),
            Scalar::Runtime(_) | Scalar::Complex(..) => None,
        }
    }
}

/// The arguments of one call.
#[derive(Clone, Debug)]
pub(crate) struct Args<'a> {
    pub target: &'a str,
    /// torch's name of the first argument, when it is a tensor or a number that has one.
    pub first_name: Option<&'a str>,
    pub named: Vec<(&'a str, Arg<'a>)>,
    /// Names of the results, in order; a list result counts as its elements.
    pub outputs: Vec<&'a str>,
    /// Stated type of the first tensor result.
    pub out_dtype: Option<DType>,
    pub out_dims: Option<Vec<Dim>>,
}

impl<'a> Args<'a> {
    /// The argument as given or by default; `None` stands for Python's None too.
    pub fn get(&self, name: &str) -> Option<Arg<'a>> {
        let given = self.named.iter().find(|(n, _)| *n == name).map(|(_, a)| a.clone());
        let arg = given.or_else(|| default_of(self.target, name).map(Arg::Other))?;
        (!matches!(arg, Arg::Other(Val::None))).then_some(arg)
    }

    /// The same call with another value of one argument.
    pub fn with(&self, name: &'a str, arg: Arg<'a>) -> Args<'a> {
        let mut out = self.clone();
        match out.named.iter_mut().find(|(n, _)| *n == name) {
            Some((_, old)) => *old = arg,
            None => out.named.push((name, arg)),
        }
        out
    }

    fn need(&self, name: &str) -> Result<Arg<'a>> {
        self.get(name).ok_or_else(|| Error::invalid(format!("the argument `{name}` is missing")))
    }

    /// Argument by place, for higher-order operators, whose arguments have no names.
    pub fn at(&self, i: usize) -> Result<&Arg<'a>> {
        let arg = self.named.get(i).map(|(_, a)| a);
        arg.ok_or_else(|| Error::invalid(format!("argument {i} is missing")))
    }

    pub fn has(&self, name: &str) -> bool {
        self.get(name).is_some()
    }

    pub fn t(&self, name: &str) -> Result<ValueId> {
        tensor(&self.need(name)?, name)
    }

    pub fn opt_t(&self, name: &str) -> Result<Option<ValueId>> {
        self.get(name).map(|a| tensor(&a, name)).transpose()
    }

    pub fn ts(&self, name: &str) -> Result<Vec<ValueId>> {
        self.list(name)?.iter().map(|a| tensor(a, name)).collect()
    }

    pub fn opt_ts(&self, name: &str) -> Result<Vec<Option<ValueId>>> {
        let one = |a: &Arg<'a>| match a {
            Arg::Other(Val::None) => Ok(None),
            a => tensor(a, name).map(Some),
        };
        self.list(name)?.iter().map(one).collect()
    }

    fn list(&self, name: &str) -> Result<Vec<Arg<'a>>> {
        match self.need(name)? {
            Arg::List(items) => Ok(items),
            Arg::Other(Val::List(items)) => Ok(items.into_iter().map(Arg::Other).collect()),
            one => Ok(vec![one]),
        }
    }

    pub fn dim(&self, name: &str) -> Result<Dim> {
        dim(&self.need(name)?, name)
    }

    pub fn opt_dim(&self, name: &str) -> Result<Option<Dim>> {
        self.get(name).map(|a| dim(&a, name)).transpose()
    }

    pub fn dim_list(&self, name: &str) -> Result<Vec<Dim>> {
        self.list(name)?.iter().map(|a| dim(a, name)).collect()
    }

    pub fn int(&self, name: &str) -> Result<i64> {
        let d = self.dim(name)?;
        d.as_const().ok_or_else(|| Error::unsupported(format!("the dynamic value `{d}` of `{name}`")))
    }

    pub fn opt_int(&self, name: &str) -> Result<Option<i64>> {
        if self.has(name) { self.int(name).map(Some) } else { Ok(None) }
    }

    pub fn ints(&self, name: &str) -> Result<Vec<i64>> {
        let known =
            |d: Dim| d.as_const().ok_or_else(|| Error::unsupported(format!("the dynamic value `{d}` in `{name}`")));
        self.dim_list(name)?.into_iter().map(known).collect()
    }

    pub fn opt_ints(&self, name: &str) -> Result<Option<Vec<i64>>> {
        if self.has(name) { self.ints(name).map(Some) } else { Ok(None) }
    }

    /// A list of `n` numbers; a single one stands for all.
    pub fn ints_n(&self, name: &str, n: usize) -> Result<Vec<i64>> {
        let list = self.ints(name)?;
        match list.len() {
            len if len == n => Ok(list),
            1 => Ok(vec![list[0]; n]),
            len => bail!(invalid, "`{name}` has {len} elements, {n} are needed"),
        }
    }

    pub fn scalar(&self, name: &str) -> Result<Scalar> {
        scalar(&self.need(name)?, name)
    }

    pub fn opt_scalar(&self, name: &str) -> Result<Option<Scalar>> {
        self.get(name).map(|a| scalar(&a, name)).transpose()
    }

    pub fn float(&self, name: &str) -> Result<f64> {
        self.scalar(name)?.as_f64().ok_or_else(|| Error::unsupported(format!("a dynamic value of `{name}`")))
    }

    pub fn opt_float(&self, name: &str) -> Result<Option<f64>> {
        if self.has(name) { self.float(name).map(Some) } else { Ok(None) }
    }

    pub fn opt_floats(&self, name: &str) -> Result<Option<Vec<f64>>> {
        if !self.has(name) {
            return Ok(None);
        }
        let one = |a: &Arg<'a>| {
            scalar(a, name)?.as_f64().ok_or_else(|| Error::unsupported(format!("a dynamic value of `{name}`")))
        };
        self.list(name)?.iter().map(one).collect::<Result<_>>().map(Some)
    }

    pub fn bool(&self, name: &str) -> Result<bool> {
        match self.get(name) {
            None => Ok(false),
            Some(Arg::Other(Val::Bool(b))) => Ok(b),
            Some(Arg::Other(Val::Int(d))) if d.as_const().is_some() => Ok(!d.is(0)),
            Some(_) => bail!(unsupported, "a dynamic value of `{name}`"),
        }
    }

    pub fn text(&self, name: &str) -> Result<String> {
        match self.need(name)? {
            Arg::Other(Val::Text(s)) => Ok(s),
            _ => bail!(invalid, "the argument `{name}` should be text"),
        }
    }

    pub fn dtype(&self, name: &str) -> Result<Option<DType>> {
        match self.get(name) {
            None => Ok(None),
            Some(Arg::Other(Val::DType(d))) => Ok(Some(d)),
            Some(_) => bail!(invalid, "the argument `{name}` should be an element type"),
        }
    }

    pub fn out_dims(&self) -> Result<Vec<Dim>> {
        self.out_dims.clone().ok_or_else(|| Error::invalid("the program does not state the result's shape"))
    }

    pub fn out_dtype(&self) -> Result<DType> {
        self.out_dtype.ok_or_else(|| Error::invalid("the program does not state the result's element type"))
    }

    /// Every tensor among the arguments, lists included.
    pub fn tensors(&self) -> Vec<ValueId> {
        fn walk(a: &Arg, out: &mut Vec<ValueId>) {
            match a {
                Arg::Tensor(_, v) => out.push(*v),
                Arg::List(items) => items.iter().for_each(|a| walk(a, out)),
                Arg::Other(_) => {}
            }
        }
        let mut out = Vec::new();
        self.named.iter().for_each(|(_, a)| walk(a, &mut out));
        out
    }

    /// Whether anything reads result `i`.
    pub fn used(&self, cx: &Cx, i: usize) -> bool {
        let used = cx.scopes.last().map(|s| &s.used);
        self.outputs.get(i).is_some_and(|name| used.is_some_and(|u| u.contains(name)))
    }
}

fn tensor(a: &Arg, name: &str) -> Result<ValueId> {
    match a {
        Arg::Tensor(_, v) => Ok(*v),
        Arg::Other(Val::Runtime(v)) => Ok(*v),
        Arg::Other(Val::Unusable(why)) => bail!(unsupported, "{why}"),
        _ => bail!(invalid, "the argument `{name}` should be a tensor, found {a:?}"),
    }
}

fn dim(a: &Arg, name: &str) -> Result<Dim> {
    match a {
        Arg::Other(Val::Int(d)) => Ok(d.clone()),
        Arg::Other(Val::Bool(b)) => Ok(Dim::Const(*b as i64)),
        Arg::Other(Val::Float(x)) if x.fract() == 0.0 => Ok(Dim::Const(*x as i64)),
        Arg::Other(Val::SymFloat(r)) if r.as_int().is_some() => Ok(r.num.clone()),
        Arg::Other(Val::Runtime(_)) => bail!(unsupported, "`{name}` depends on the data"),
        Arg::Other(Val::Unusable(why)) => bail!(unsupported, "{why}"),
        _ => bail!(invalid, "the argument `{name}` should be an integer, found {a:?}"),
    }
}

fn scalar(a: &Arg, name: &str) -> Result<Scalar> {
    match a {
        Arg::Other(Val::Int(d)) => Ok(Scalar::Int(d.clone())),
        Arg::Other(Val::Float(x)) => Ok(Scalar::Float(*x)),
        Arg::Other(Val::SymFloat(r)) => Ok(Scalar::SymFloat(r.clone())),
        Arg::Other(Val::Bool(b)) => Ok(Scalar::Bool(*b)),
        Arg::Other(Val::Complex(r, i)) => Ok(Scalar::Complex(*r, *i)),
        Arg::Other(Val::Runtime(v)) | Arg::Tensor(_, v) => Ok(Scalar::Runtime(*v)),
        Arg::Other(Val::Unusable(why)) => bail!(unsupported, "{why}"),
        _ => bail!(invalid, "the argument `{name}` should be a number, found {a:?}"),
    }
}

/// The schemas of the operators that are lowered, as torch prints them.
pub(crate) const SCHEMAS: &str = include_str!("aten/schemas.tsv");

/// Default of an argument by the operator's schema.
fn default_of<'a>(target: &str, name: &str) -> Option<Val<'a>> {
    static INDEX: OnceLock<FxHashMap<&'static str, &'static str>> = OnceLock::new();
    let index = INDEX.get_or_init(|| SCHEMAS.lines().filter_map(|l| l.split_once('\t')).collect());
    // A copying variant has the arguments of its view, one in place those of the operator that it is made of.
    let found = index.get(target).or_else(|| index.get(&*target.replacen("_copy.", ".", 1)));
    let schema = match found {
        Some(schema) => schema,
        None => index.get(&*crate::lower::functional_of(target)?)?,
    };
    let inside = schema.get(schema.find('(')? + 1..schema.rfind(") ->")?)?;
    for part in split_top(inside) {
        let (declaration, default) = match part.split_once('=') {
            Some(pair) => pair,
            None => continue,
        };
        if declaration.trim().rsplit(' ').next() == Some(name) {
            return parse_default(default.trim(), declaration.trim());
        }
    }
    None
}

/// Splits at commas outside brackets and quotes.
pub(crate) fn split_top(text: &str) -> Vec<&str> {
    let (mut parts, mut depth, mut quoted, mut start) = (Vec::new(), 0i32, false, 0);
    for (i, c) in text.char_indices() {
        match c {
            '"' => quoted = !quoted,
            '[' | '(' if !quoted => depth += 1,
            ']' | ')' if !quoted => depth -= 1,
            ',' if !quoted && depth == 0 => {
                parts.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    parts.push(&text[start..]);
    parts
}

fn parse_default<'a>(text: &str, declaration: &str) -> Option<Val<'a>> {
    if let Some(inner) = text.strip_prefix('[').and_then(|t| t.strip_suffix(']')) {
        let items = inner.split(',').map(str::trim).filter(|s| !s.is_empty());
        return Some(Val::List(items.filter_map(|s| parse_default(s, "")).collect()));
    }
    if let Some(s) = text.strip_prefix('"').and_then(|t| t.strip_suffix('"')) {
        return Some(Val::Text(s.to_string()));
    }
    Some(match text {
        "None" => Val::None,
        "True" => Val::Bool(true),
        "False" => Val::Bool(false),
        "contiguous_format" => Val::None,
        "Mean" => Val::Int(Dim::Const(1)),
        // An element type by its number in c10.
        "6" if declaration.starts_with("ScalarType") => Val::DType(DType::F32),
        _ => match text.parse::<i64>() {
            Ok(x) if !declaration.starts_with("float") => Val::Int(Dim::Const(x)),
            _ => Val::Float(text.parse().ok()?),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_come_from_the_schema() {
        let show = |t: &str, n: &str| format!("{:?}", default_of(t, n));
        assert_eq!(show("aten.add.Tensor", "alpha"), "Some(Int(1))");
        assert_eq!(show("aten.gelu.default", "approximate"), "Some(Text(\"none\"))");
        assert_eq!(show("aten.conv2d.default", "bias"), "Some(None)");
        assert_eq!(show("aten.max_pool2d.default", "stride"), "Some(List([]))");
        assert_eq!(show("aten.layer_norm.default", "eps"), "Some(Float(1e-5))");
        assert_eq!(show("aten.bernoulli_.float", "p"), "Some(Float(0.5))");
        assert_eq!(show("aten.add.Tensor", "nothing"), "None");
        assert_eq!(show("torchao.dequantize_affine.default", "output_dtype"), "Some(DType(F32))");
        assert_eq!(show("aten.nothing.default", "alpha"), "None");
    }
}
