//! Symbols of a program: their names, ranges, and size expressions as [`Dim`].

use crate::schema::{SymExpr, SymInt};
use oxrt_ir::Expr;
use oxrt_ir::{Dim, Range, Symbol};
use oxrt_tensor::{Error, Result, bail};
use rustc_hash::{FxHashMap, FxHashSet};

/// A quotient of two sizes: what floats computed from sizes (`h * 1.5`) are.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Ratio {
    pub num: Dim,
    /// Positive.
    pub den: Dim,
}

impl Ratio {
    pub fn int(d: Dim) -> Ratio {
        Ratio { num: d, den: Dim::Const(1) }
    }

    /// An exact fraction with a small denominator, as 1.5 or 0.25 are.
    pub fn float(x: f64) -> Option<Ratio> {
        (0..=20).map(|k| 1i64 << k).find_map(|den| {
            let num = x * den as f64;
            let exact = num.fract() == 0.0 && num.abs() < 1e15;
            exact.then_some(Ratio { num: Dim::Const(num as i64), den: Dim::Const(den) })
        })
    }

    pub fn as_int(&self) -> Option<Dim> {
        if self.den.is(1) { Some(self.num.clone()) } else { self.num.divide_exactly(&self.den) }
    }

    pub fn as_const(&self) -> Option<f64> {
        Some(self.num.as_const()? as f64 / self.den.as_const()? as f64)
    }

    pub fn add(self, other: Ratio) -> Ratio {
        if self.den == other.den {
            return Ratio { num: self.num + other.num, den: self.den };
        }
        Ratio { num: self.num * other.den.clone() + other.num * self.den.clone(), den: self.den * other.den }
    }

    pub fn mul(self, other: Ratio) -> Ratio {
        Ratio { num: self.num * other.num, den: self.den * other.den }
    }

    pub fn floor(&self) -> Dim {
        self.num.floor_div(&self.den)
    }

    pub fn ceil(&self) -> Dim {
        self.num.ceil_div(&self.den)
    }
}

type Bounds<'a> = &'a dyn Fn(&Symbol) -> (i64, i64);

/// A size expression as a [`Ratio`]; an error when it is outside what [`Dim`] can say.
pub(crate) fn to_ratio(e: &Expr, symbol: &dyn Fn(&str) -> Dim, bounds: Bounds) -> Result<Ratio> {
    let (f, args) = match e {
        Expr::Int(x) => return Ok(Ratio::int(Dim::Const(*x))),
        Expr::Bool(x) => return Ok(Ratio::int(Dim::Const(*x as i64))),
        Expr::Name(n) => return Ok(Ratio::int(symbol(n))),
        Expr::Float(x) => return Ratio::float(*x).ok_or_else(|| Error::unsupported(format!("sizes times {x}"))),
        Expr::Text(t) => bail!(invalid, "the text `{t}` in a size"),
        Expr::Call(f, args) => (f.as_str(), args),
    };
    if f == "Where" {
        return choose(args, symbol, bounds);
    }
    let v: Vec<Ratio> = args.iter().map(|a| to_ratio(a, symbol, bounds)).collect::<Result<_>>()?;
    let int = |i: usize| -> Result<Dim> {
        v[i].as_int().ok_or_else(|| Error::unsupported(format!("{f} of a fractional size")))
    };
    let positive = |d: &Dim| d.bounds(bounds).0 > 0;
    Ok(match (f, v.len()) {
        ("Add", _) => v.into_iter().reduce(Ratio::add).unwrap_or(Ratio::int(Dim::Const(0))),
        ("Mul", _) => v.into_iter().reduce(Ratio::mul).unwrap_or(Ratio::int(Dim::Const(1))),
        ("Pow" | "PowByNatural" | "FloatPow", 2) => match v[1].as_int().and_then(|d| d.as_const()) {
            Some(n @ 0..=16) => (0..n).fold(Ratio::int(Dim::Const(1)), |p, _| p.mul(v[0].clone())),
            Some(-1) if positive(&v[0].num) => Ratio { num: v[0].den.clone(), den: v[0].num.clone() },
            _ => bail!(unsupported, "a size to the power {:?}", args[1]),
        },
        ("Max", 1..) => Ratio::int(fold(&v, int, |a, b| larger(&a, &b, bounds))?),
        ("Min", 1..) => Ratio::int(fold(&v, int, |a, b| smaller(&a, &b, bounds))?),
        ("FloorDiv" | "CleanDiv", 2) => {
            let (a, b) = (int(0)?, int(1)?);
            Ratio::int(a.floor_div(&b))
        }
        ("CeilDiv", 2) => Ratio::int(int(0)?.ceil_div(&int(1)?)),
        ("Mod" | "PythonMod", 2) => Ratio::int(int(0)?.modulo(&int(1)?)),
        ("ModularIndexing", 3) => Ratio::int(int(0)?.floor_div(&int(1)?).modulo(&int(2)?)),
        ("IntTrueDiv" | "FloatTrueDiv" | "Rational", 2) => match v[1].num.as_const() {
            Some(d) if d < 0 => v[0].clone().mul(Ratio { num: -v[1].den.clone(), den: Dim::Const(-d) }),
            _ if positive(&v[1].num) => v[0].clone().mul(Ratio { num: v[1].den.clone(), den: v[1].num.clone() }),
            _ => bail!(unsupported, "a division by a size of unknown sign"),
        },
        ("ToFloat" | "Identity", 1) => v[0].clone(),
        ("FloorToInt", 1) => Ratio::int(v[0].floor()),
        ("CeilToInt", 1) => Ratio::int(v[0].ceil()),
        ("TruncToInt" | "TruncToFloat", 1) => match v[0].as_int() {
            Some(d) => Ratio::int(d),
            None if v[0].num.bounds(bounds).0 >= 0 => Ratio::int(v[0].floor()),
            None if v[0].num.bounds(bounds).1 <= 0 => Ratio::int(v[0].ceil()),
            None => bail!(unsupported, "truncation of a size of unknown sign"),
        },
        ("RoundToInt", 1) if v[0].as_int().is_some() => Ratio::int(int(0)?),
        ("LShift", 2) if matches!(v[1].as_const(), Some(0.0..=62.0)) => {
            Ratio::int(int(0)? * (1i64 << v[1].as_const().unwrap_or(0.0) as i64))
        }
        ("RShift", 2) if matches!(v[1].as_const(), Some(0.0..=62.0)) => {
            Ratio::int(int(0)?.floor_div(&Dim::Const(1i64 << v[1].as_const().unwrap_or(0.0) as i64)))
        }
        ("Abs", 1) if int(0)?.bounds(bounds).0 >= 0 => Ratio::int(int(0)?),
        _ => bail!(unsupported, "the function {f} of sizes"),
    })
}

fn fold(v: &[Ratio], int: impl Fn(usize) -> Result<Dim>, f: impl Fn(Dim, Dim) -> Dim) -> Result<Dim> {
    let mut out = int(0)?;
    for i in 1..v.len() {
        out = f(out, int(i)?);
    }
    Ok(out)
}

/// The larger of two sizes; the ranges may tell which it is.
fn larger(a: &Dim, b: &Dim, bounds: Bounds) -> Dim {
    match (a.clone() - b.clone()).bounds(bounds) {
        (0.., _) => a.clone(),
        (_, ..=0) => b.clone(),
        _ => a.at_least(b),
    }
}

fn smaller(a: &Dim, b: &Dim, bounds: Bounds) -> Dim {
    match (a.clone() - b.clone()).bounds(bounds) {
        (0.., _) => b.clone(),
        (_, ..=0) => a.clone(),
        _ => a.at_most(b),
    }
}

fn choose(args: &[Expr], symbol: &dyn Fn(&str) -> Dim, bounds: Bounds) -> Result<Ratio> {
    let [c, a, b] = args else { bail!(invalid, "Where with {} arguments", args.len()) };
    let (a, b) = (to_ratio(a, symbol, bounds)?, to_ratio(b, symbol, bounds)?);
    if a == b {
        return Ok(a);
    }
    match condition(c, symbol, bounds)? {
        Some(true) => Ok(a),
        Some(false) => Ok(b),
        None => bail!(unsupported, "a size that depends on a comparison of sizes"),
    }
}

/// Truth of a comparison of sizes for every size in range; `None` when it depends.
pub(crate) fn condition(e: &Expr, symbol: &dyn Fn(&str) -> Dim, bounds: Bounds) -> Result<Option<bool>> {
    let Expr::Call(f, args) = e else {
        return Ok(match e {
            Expr::Bool(b) => Some(*b),
            _ => None,
        });
    };
    if f == "Not" && args.len() == 1 {
        return Ok(condition(&args[0], symbol, bounds)?.map(|b| !b));
    }
    if (f == "And" || f == "Or") && !args.is_empty() {
        let all: Vec<_> = args.iter().map(|a| condition(a, symbol, bounds)).collect::<Result<_>>()?;
        let decisive = Some(f == "Or");
        return Ok(if all.contains(&decisive) {
            decisive
        } else if all.contains(&None) {
            None
        } else {
            Some(f == "And")
        });
    }
    let [a, b] = &args[..] else { return Ok(None) };
    let (a, b) = (to_ratio(a, symbol, bounds)?, to_ratio(b, symbol, bounds)?);
    Ok(compare(f, &(a.num * b.den - b.num * a.den), bounds))
}

/// Truth of `difference <op> 0`.
pub(crate) fn compare(op: &str, difference: &Dim, bounds: Bounds) -> Option<bool> {
    let (lo, hi) = difference.bounds(bounds);
    match op {
        "Equality" if lo == 0 && hi == 0 => Some(true),
        "Equality" if lo > 0 || hi < 0 => Some(false),
        "Unequality" if lo == 0 && hi == 0 => Some(false),
        "Unequality" if lo > 0 || hi < 0 => Some(true),
        "StrictLessThan" if hi < 0 => Some(true),
        "StrictLessThan" if lo >= 0 => Some(false),
        "LessThan" if hi <= 0 => Some(true),
        "LessThan" if lo > 0 => Some(false),
        "StrictGreaterThan" if lo > 0 => Some(true),
        "StrictGreaterThan" if hi <= 0 => Some(false),
        "GreaterThan" if lo >= 0 => Some(true),
        "GreaterThan" if hi < 0 => Some(false),
        _ => None,
    }
}

/// Turns the file's size expressions into [`Dim`], each text once.
#[derive(Clone, Default)]
pub(crate) struct SymbolTable {
    /// torch's symbol → its name here.
    pub names: FxHashMap<String, Symbol>,
    pub ranges: FxHashMap<Symbol, Range>,
    /// Symbols that stand for numbers in tensors.
    pub read: FxHashSet<Symbol>,
    /// Example sizes, for checks.
    pub hints: FxHashMap<Symbol, i64>,
    pub(crate) memo: FxHashMap<String, Dim>,
    pub(crate) opaque: usize,
}

impl SymbolTable {
    fn symbol(&self, torch_name: &str) -> Dim {
        self.names.get(torch_name).cloned().unwrap_or_else(|| Symbol::new(torch_name)).into()
    }

    /// What holds of a symbol whatever the data: the ranges of sizes that the data tells are only asserted.
    pub fn proven_bounds(&self, s: &Symbol) -> (i64, i64) {
        if self.names.values().any(|n| n == s) {
            return self.bounds(s);
        }
        (if self.read.contains(s) { i64::MIN } else { 0 }, i64::MAX)
    }

    pub fn bounds(&self, s: &Symbol) -> (i64, i64) {
        self.ranges.get(s).map_or((0, i64::MAX), |r| (r.min, r.max.unwrap_or(i64::MAX)))
    }

    /// Forgets translations made under other names.
    pub fn rename(&mut self, names: FxHashMap<String, Symbol>) {
        self.names = names;
        self.memo.clear();
    }

    pub fn dim(&mut self, size: &SymInt) -> Result<Dim> {
        match size {
            SymInt::AsInt(x) => Ok(Dim::Const(*x)),
            SymInt::AsExpr(e) => self.expr_dim(e),
        }
    }

    /// An expression beyond [`Dim`] (a product with 0.3, say) becomes a symbol of its own: the node that
    /// makes a tensor of that size also defines it.
    pub fn expr_dim(&mut self, e: &SymExpr) -> Result<Dim> {
        if let Some(d) = self.memo.get(&e.expr_str) {
            return Ok(d.clone());
        }
        let parsed = Expr::parse(&e.expr_str)?;
        let ratio = to_ratio(&parsed, &|n| self.symbol(n), &|s| self.bounds(s));
        let d = match ratio.ok().and_then(|r| r.as_int()) {
            Some(d) => d,
            None => {
                self.opaque += 1;
                Dim::symbol(&format!("_x{}", self.opaque))
            }
        };
        self.memo.insert(e.expr_str.clone(), d.clone());
        Ok(d)
    }

    /// A plain symbol's torch name.
    pub fn plain(size: &SymInt) -> Option<String> {
        let SymInt::AsExpr(e) = size else { return None };
        match Expr::parse(&e.expr_str).ok()? {
            Expr::Name(n) => Some(n),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dim(text: &str) -> Option<String> {
        let e = Expr::parse(text).unwrap();
        let ratio = to_ratio(&e, &|n| Dim::symbol(n), &|_| (2, i64::MAX)).ok()?;
        ratio.as_int().map(|d| d.to_string())
    }

    #[test]
    fn expressions_become_dims() {
        assert_eq!(
            dim("Add(Mul(Integer(2), Symbol('h', positive=True, integer=True)), Integer(1))").unwrap(),
            "2*h + 1"
        );
        assert_eq!(dim("FloorDiv(Add(Symbol('h'), Integer(-1)), Integer(2))").unwrap(), "floor((h + 1)/(2)) - 1");
        assert_eq!(dim("TruncToInt(FloatTrueDiv(Mul(Float('1.5', precision=53), ToFloat(Symbol('h'))), Float('3', precision=53)))").unwrap(), "floor((h)/(2))");
        assert_eq!(dim("Pow(Symbol('h'), Integer(2))").unwrap(), "h*h");
        assert_eq!(dim("CeilToInt(IntTrueDiv(Symbol('h'), Integer(4)))").unwrap(), "floor((h + 3)/(4))");
        assert_eq!(dim("Max(Integer(1), Symbol('h'))").unwrap(), "h");
        assert_eq!(dim("Piecewise(ExprCondPair(Integer(1), Equality(Symbol('h'), Integer(1))), ExprCondPair(Symbol('h'), true))").unwrap(), "h");
        assert_eq!(dim("TruncToInt(Mul(Float('0.3', precision=53), ToFloat(Symbol('h'))))"), None);
    }
}
