//! Symbolic dimensions: integer expressions over named symbols, kept in one canonical form.
//!
//! A [`Dim`] is a polynomial with integer coefficients over *atoms*: symbols and the non-linear
//! functions `floordiv`, `mod`, `min`, `max` of other dimensions. Equal polynomials are equal values,
//! so `2*h/2 == h` and `a*(b+1) == a*b + a` hold structurally and a `HashMap` can be keyed by them.
//! Text form (also in ONNX `dim_param` and in engine files): `2*h + 1`, `floor((h + 2)/4)`,
//! `mod(h, 8)`, `min(h, 16)`, `max(h, w)`.

use crate::Symbol;
use std::cmp::Ordering;
use std::fmt;
use std::ops::{Add, Mul, Neg, Sub};
use std::sync::Arc;

/// A dimension or any other integer computed from dimensions.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Dim {
    Const(i64),
    /// Never a constant in disguise.
    Expr(Arc<Poly>),
}

/// Sum of terms in rising order of their monomials, plus a constant. At least one term.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Poly {
    terms: Vec<(Monomial, i64)>,
    constant: i64,
}

/// Product of atoms in rising order (an atom appears once per power).
type Monomial = Vec<Atom>;

/// What a polynomial is made of.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Atom {
    Symbol(Symbol),
    /// Rounded towards minus infinity.
    FloorDiv(Dim, Dim),
    /// `a - b*floor(a/b)`: the sign of the divisor.
    Mod(Dim, Dim),
    Min(Dim, Dim),
    Max(Dim, Dim),
    /// The size that all of these broadcast to: each is it, or 1. In rising order, two at least, none of them
    /// constant. Where one is 0 the others are 0 or 1, so this is not their maximum.
    Broadcast(Vec<Dim>),
}

impl From<i64> for Dim {
    fn from(x: i64) -> Dim {
        Dim::Const(x)
    }
}

impl From<usize> for Dim {
    fn from(x: usize) -> Dim {
        Dim::Const(i64::try_from(x).unwrap_or(i64::MAX))
    }
}

impl From<Symbol> for Dim {
    fn from(s: Symbol) -> Dim {
        Dim::atom(Atom::Symbol(s))
    }
}

impl Dim {
    /// A dimension named `name`.
    pub fn symbol(name: &str) -> Dim {
        Symbol::new(name).into()
    }

    fn atom(a: Atom) -> Dim {
        Dim::Expr(Arc::new(Poly { terms: vec![(vec![a], 1)], constant: 0 }))
    }

    pub fn as_const(&self) -> Option<i64> {
        match self {
            Dim::Const(x) => Some(*x),
            Dim::Expr(_) => None,
        }
    }

    /// The constant as a size; `None` when symbolic or negative.
    pub fn as_size(&self) -> Option<usize> {
        self.as_const().and_then(|x| usize::try_from(x).ok())
    }

    pub fn is(&self, value: i64) -> bool {
        *self == Dim::Const(value)
    }

    /// The symbol, when the dimension is just one.
    pub fn as_symbol(&self) -> Option<&Symbol> {
        match self {
            Dim::Expr(p) if p.constant == 0 && p.terms.len() == 1 && p.terms[0].1 == 1 => match &p.terms[0].0[..] {
                [Atom::Symbol(s)] => Some(s),
                _ => None,
            },
            _ => None,
        }
    }

    fn terms(&self) -> (&[(Monomial, i64)], i64) {
        match self {
            Dim::Const(x) => (&[], *x),
            Dim::Expr(p) => (&p.terms, p.constant),
        }
    }

    /// Terms as (coefficient, atoms), then the constant: for writers that emit the arithmetic as nodes.
    pub fn sum_of_products(&self) -> (Vec<(i64, &[Atom])>, i64) {
        let (terms, constant) = self.terms();
        (terms.iter().map(|(m, c)| (*c, &m[..])).collect(), constant)
    }

    fn from_terms(mut terms: Vec<(Monomial, i64)>, constant: i64) -> Dim {
        terms.sort_by(|a, b| a.0.cmp(&b.0));
        let mut merged: Vec<(Monomial, i64)> = Vec::with_capacity(terms.len());
        for (m, c) in terms {
            match merged.last_mut() {
                Some(last) if last.0 == m => last.1 = last.1.saturating_add(c),
                _ => merged.push((m, c)),
            }
        }
        merged.retain(|t| t.1 != 0);
        if merged.is_empty() { Dim::Const(constant) } else { Dim::Expr(Arc::new(Poly { terms: merged, constant })) }
    }

    /// `floor(self / by)`. Division by the constant zero gives zero.
    pub fn floor_div(&self, by: &Dim) -> Dim {
        match (self, by) {
            (_, Dim::Const(0)) => Dim::Const(0),
            (_, Dim::Const(1)) => self.clone(),
            (Dim::Const(a), Dim::Const(b)) => Dim::Const(a.div_euclid(*b) - (*b < 0 && a.rem_euclid(*b) != 0) as i64),
            (_, Dim::Const(b)) if *b > 0 => {
                // floor((b*q + r)/b) = q + floor(r/b), where r keeps the terms that b does not divide.
                let (terms, constant) = self.terms();
                let (whole, rest): (Vec<_>, Vec<_>) = terms.iter().cloned().partition(|t| t.1 % b == 0);
                let whole = whole.into_iter().map(|(m, c)| (m, c / b)).collect();
                let whole = Dim::from_terms(whole, constant.div_euclid(*b));
                let rest = Dim::from_terms(rest, constant.rem_euclid(*b));
                match rest {
                    Dim::Const(_) => whole,
                    // floor(floor(x/a)/b) = floor(x/(a*b))
                    rest => {
                        let merged = match rest.as_atom() {
                            Some(Atom::FloorDiv(x, Dim::Const(a))) if *a > 0 && a.checked_mul(*b).is_some() => {
                                x.floor_div(&Dim::Const(a * b))
                            }
                            _ => Dim::common_factor_div(&rest, *b),
                        };
                        whole + merged
                    }
                }
            }
            _ if self == by => Dim::Const(1),
            (Dim::Const(0), _) => Dim::Const(0),
            _ => match self.divide_exactly(by) {
                Some(q) => q,
                None => Dim::atom(Atom::FloorDiv(self.clone(), by.clone())),
            },
        }
    }

    /// floor((g*x)/(g*y)) = floor(x/y) for a common factor g of all coefficients.
    fn common_factor_div(rest: &Dim, by: i64) -> Dim {
        let (terms, constant) = rest.terms();
        let g = terms.iter().fold(gcd(by, constant), |g, t| gcd(g, t.1));
        if g > 1 {
            let smaller = Dim::from_terms(terms.iter().map(|(m, c)| (m.clone(), c / g)).collect(), constant / g);
            // What is left may itself be a quotient.
            smaller.floor_div(&Dim::Const(by / g))
        } else {
            Dim::atom(Atom::FloorDiv(rest.clone(), Dim::Const(by)))
        }
    }

    fn as_atom(&self) -> Option<&Atom> {
        match self {
            Dim::Expr(p) if p.constant == 0 && p.terms.len() == 1 && p.terms[0].1 == 1 && p.terms[0].0.len() == 1 => {
                Some(&p.terms[0].0[0])
            }
            _ => None,
        }
    }

    /// `self / by` when `by` is a single product that divides every term.
    pub fn divide_exactly(&self, by: &Dim) -> Option<Dim> {
        if self == by {
            return Some(Dim::Const(1));
        }
        let (terms, constant) = self.terms();
        let (divisor, coefficient) = match by {
            Dim::Const(0) => return None,
            Dim::Const(b) => (&[][..], *b),
            Dim::Expr(p) if p.terms.len() == 1 && p.constant == 0 => (&p.terms[0].0[..], p.terms[0].1),
            _ => return None,
        };
        if constant != 0 && (!divisor.is_empty() || constant % coefficient != 0) {
            return None;
        }
        let mut quotient = Vec::with_capacity(terms.len());
        for (m, c) in terms {
            if c % coefficient != 0 {
                return None;
            }
            let mut m = m.clone();
            for a in divisor {
                m.remove(m.iter().position(|x| x == a)?);
            }
            quotient.push((m, c / coefficient));
        }
        let plain: i64 = quotient.iter().filter(|t| t.0.is_empty()).map(|t| t.1).sum();
        quotient.retain(|t| !t.0.is_empty());
        Some(Dim::from_terms(quotient, constant / coefficient + plain))
    }

    /// `ceil(self / by)`.
    pub fn ceil_div(&self, by: &Dim) -> Dim {
        match by {
            Dim::Const(b) if *b > 0 => (self.clone() + Dim::Const(b - 1)).floor_div(by),
            _ => -((-self.clone()).floor_div(by)),
        }
    }

    /// `self - by*floor(self/by)`.
    pub fn modulo(&self, by: &Dim) -> Dim {
        match (self, by) {
            (_, Dim::Const(0)) => Dim::Const(0),
            (Dim::Const(a), Dim::Const(b)) => Dim::Const(a - b * floor_div_i64(*a, *b)),
            (_, Dim::Const(b)) if *b > 0 => {
                // Terms that the divisor divides drop out.
                let (terms, constant) = self.terms();
                let rest: Vec<_> = terms.iter().filter(|t| t.1 % b != 0).cloned().collect();
                match Dim::from_terms(rest, constant.rem_euclid(*b)) {
                    Dim::Const(c) => Dim::Const(c),
                    rest => Dim::atom(Atom::Mod(rest, by.clone())),
                }
            }
            _ if self.divide_exactly(by).is_some() => Dim::Const(0),
            _ => Dim::atom(Atom::Mod(self.clone(), by.clone())),
        }
    }

    /// The smaller of the two, `min(a, b)`.
    pub fn at_most(&self, other: &Dim) -> Dim {
        self.extremum(other, Ordering::Less, Atom::Min)
    }

    /// The larger of the two, `max(a, b)`.
    pub fn at_least(&self, other: &Dim) -> Dim {
        self.extremum(other, Ordering::Greater, Atom::Max)
    }

    fn extremum(&self, other: &Dim, keep: Ordering, atom: fn(Dim, Dim) -> Atom) -> Dim {
        // A constant difference decides at once; otherwise the order of the operands is canonical.
        if let Dim::Const(d) = self.clone() - other.clone() {
            return if d.cmp(&0) == keep || d == 0 { self.clone() } else { other.clone() };
        }
        let (a, b) = if self <= other { (self, other) } else { (other, self) };
        Dim::atom(atom(a.clone(), b.clone()))
    }

    /// The size that the two broadcast to, provided that they do.
    pub fn broadcast(&self, other: &Dim) -> Dim {
        let mut parts = Vec::new();
        for d in [self, other] {
            match (d, d.as_atom()) {
                (Dim::Const(1), _) => {}
                (Dim::Const(_), _) => return d.clone(),
                (_, Some(Atom::Broadcast(list))) => parts.extend(list.iter().cloned()),
                _ => parts.push(d.clone()),
            }
        }
        parts.sort();
        parts.dedup();
        // min(a, c) beside a: where c is the smaller, a must be 1 for the two to broadcast, or c is.
        let all = parts.clone();
        parts.retain(|d| match d.as_atom() {
            Some(Atom::Min(a, b)) => {
                let cut = |whole: &Dim, at: &Dim| all.contains(whole) && at.as_const().is_some_and(|c| c >= 1);
                !cut(a, b) && !cut(b, a)
            }
            _ => true,
        });
        match &parts[..] {
            [] => Dim::Const(1),
            [one] => one.clone(),
            _ => Dim::atom(Atom::Broadcast(parts)),
        }
    }

    /// Value under an assignment of the symbols; `None` when one is missing or a divisor is zero.
    pub fn eval(&self, lookup: &dyn Fn(&Symbol) -> Option<i64>) -> Option<i64> {
        let (terms, constant) = self.terms();
        let mut sum = constant;
        for (monomial, coefficient) in terms {
            let mut product = *coefficient;
            for atom in monomial {
                product = product.checked_mul(atom.eval(lookup)?)?;
            }
            sum = sum.checked_add(product)?;
        }
        Some(sum)
    }

    /// Replaces symbols; those for which `replace` gives `None` stay.
    pub fn substitute(&self, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> Dim {
        let (terms, constant) = self.terms();
        let mut sum = Dim::Const(constant);
        for (monomial, coefficient) in terms {
            let mut product = Dim::Const(*coefficient);
            for atom in monomial {
                let factor = match atom {
                    Atom::Symbol(s) => replace(s).unwrap_or_else(|| s.clone().into()),
                    Atom::FloorDiv(a, b) => a.substitute(replace).floor_div(&b.substitute(replace)),
                    Atom::Mod(a, b) => a.substitute(replace).modulo(&b.substitute(replace)),
                    Atom::Min(a, b) => a.substitute(replace).at_most(&b.substitute(replace)),
                    Atom::Max(a, b) => a.substitute(replace).at_least(&b.substitute(replace)),
                    Atom::Broadcast(list) => {
                        list.iter().fold(Dim::Const(1), |all, d| all.broadcast(&d.substitute(replace)))
                    }
                };
                product = product * factor;
            }
            sum = sum + product;
        }
        sum
    }

    /// The one symbol that `known` does not tell, with its value when the dimension is `size`: for dimensions that
    /// are linear in that symbol. `None` when there is no such symbol, or more than one.
    pub fn solve(&self, size: Option<i64>, known: &dyn Fn(&Symbol) -> Option<i64>) -> Option<(Symbol, i64)> {
        let mut open: Option<Symbol> = None;
        let mut several = false;
        self.for_each_symbol(&mut |s| match &open {
            _ if known(s).is_some() => {}
            Some(o) => several |= o != s,
            None => open = Some(s.clone()),
        });
        let open = open.filter(|_| !several)?;
        let (terms, constant) = self.sum_of_products();
        let (mut factor, mut rest) = (0i64, constant);
        for (coefficient, monomial) in terms {
            let mut product = coefficient;
            let mut times = 0;
            for atom in monomial {
                match atom {
                    Atom::Symbol(s) if *s == open => times += 1,
                    other => product = product.checked_mul(other.eval(known)?)?,
                }
            }
            match times {
                0 => rest = rest.checked_add(product)?,
                1 => factor = factor.checked_add(product)?,
                _ => return None,
            }
        }
        let Some(size) = size else { return Some((open, 0)) };
        let difference = size.checked_sub(rest)?;
        (factor != 0 && difference % factor == 0).then(|| (open, difference / factor))
    }

    /// Calls `f` for each symbol (repeats possible).
    pub fn for_each_symbol(&self, f: &mut dyn FnMut(&Symbol)) {
        for (monomial, _) in self.terms().0 {
            for atom in monomial {
                match atom {
                    Atom::Symbol(s) => f(s),
                    Atom::FloorDiv(a, b) | Atom::Mod(a, b) | Atom::Min(a, b) | Atom::Max(a, b) => {
                        a.for_each_symbol(f);
                        b.for_each_symbol(f);
                    }
                    Atom::Broadcast(list) => list.iter().for_each(|d| d.for_each_symbol(f)),
                }
            }
        }
    }

    /// Lower and upper bound by interval arithmetic, given the ranges of the symbols. `i64::MIN/MAX`
    /// stand for unbounded.
    pub fn bounds(&self, range: &dyn Fn(&Symbol) -> (i64, i64)) -> (i64, i64) {
        let (terms, constant) = self.terms();
        let (mut lo, mut hi) = (constant as i128, constant as i128);
        const INF: i128 = i64::MAX as i128;
        let clamp = |x: i128| x.clamp(-INF, INF);
        for (monomial, coefficient) in terms {
            let (mut a, mut b) = (*coefficient as i128, *coefficient as i128);
            for atom in monomial {
                let (c, d) = atom.bounds(range);
                let products = [a * c as i128, a * d as i128, b * c as i128, b * d as i128];
                a = clamp(*products.iter().min().unwrap_or(&0));
                b = clamp(*products.iter().max().unwrap_or(&0));
            }
            // An infinite bound stays infinite.
            lo = if a <= -INF || lo <= -INF { -INF } else { clamp(lo + a) };
            hi = if b >= INF || hi >= INF { INF } else { clamp(hi + b) };
        }
        let narrow = |x: i128| if x <= -INF { i64::MIN } else { x as i64 };
        (narrow(lo), narrow(hi))
    }
}

impl Atom {
    fn eval(&self, lookup: &dyn Fn(&Symbol) -> Option<i64>) -> Option<i64> {
        let two = |a: &Dim, b: &Dim| Some((a.eval(lookup)?, b.eval(lookup)?));
        match self {
            Atom::Symbol(s) => lookup(s),
            Atom::FloorDiv(a, b) => two(a, b).filter(|v| v.1 != 0).map(|(a, b)| floor_div_i64(a, b)),
            Atom::Mod(a, b) => two(a, b).filter(|v| v.1 != 0).map(|(a, b)| a - b * floor_div_i64(a, b)),
            Atom::Min(a, b) => two(a, b).map(|(a, b)| a.min(b)),
            Atom::Max(a, b) => two(a, b).map(|(a, b)| a.max(b)),
            Atom::Broadcast(list) => {
                let sizes = list.iter().map(|d| d.eval(lookup)).collect::<Option<Vec<i64>>>()?;
                if sizes.contains(&0) { Some(0) } else { sizes.into_iter().max() }
            }
        }
    }

    fn bounds(&self, range: &dyn Fn(&Symbol) -> (i64, i64)) -> (i64, i64) {
        match self {
            Atom::Symbol(s) => range(s),
            Atom::FloorDiv(a, b) => match (a.bounds(range), b.bounds(range)) {
                ((lo, hi), (b0, b1)) if b0 > 0 => {
                    let down = |x: i64, by: i64| if x == i64::MIN || x == i64::MAX { x } else { floor_div_i64(x, by) };
                    (
                        if lo >= 0 { down(lo, b1) } else { down(lo, b0) },
                        if hi >= 0 { down(hi, b0) } else { down(hi, b1) },
                    )
                }
                _ => (i64::MIN, i64::MAX),
            },
            Atom::Mod(_, b) => match b.bounds(range) {
                (b0, b1) if b0 > 0 => (0, b1.saturating_sub(1)),
                _ => (i64::MIN, i64::MAX),
            },
            Atom::Min(a, b) => {
                let (a, b) = (a.bounds(range), b.bounds(range));
                (a.0.min(b.0), a.1.min(b.1))
            }
            Atom::Max(a, b) => {
                let (a, b) = (a.bounds(range), b.bounds(range));
                (a.0.max(b.0), a.1.max(b.1))
            }
            Atom::Broadcast(list) => {
                let each: Vec<(i64, i64)> = list.iter().map(|d| d.bounds(range)).collect();
                let least = each.iter().map(|b| b.0);
                let least = if least.clone().any(|lo| lo <= 0) { Some(0) } else { least.max() };
                (least.unwrap_or(0), each.iter().map(|b| b.1).max().unwrap_or(i64::MAX))
            }
        }
    }
}

fn floor_div_i64(a: i64, b: i64) -> i64 {
    let q = a.wrapping_div(b);
    if a % b != 0 && (a < 0) != (b < 0) { q - 1 } else { q }
}

fn gcd(a: i64, b: i64) -> i64 {
    let (mut a, mut b) = (a.unsigned_abs(), b.unsigned_abs());
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a as i64
}

impl Add for Dim {
    type Output = Dim;
    fn add(self, other: Dim) -> Dim {
        if let (Dim::Const(a), Dim::Const(b)) = (&self, &other) {
            return Dim::Const(a.saturating_add(*b));
        }
        let ((a, x), (b, y)) = (self.terms(), other.terms());
        Dim::from_terms(a.iter().chain(b).cloned().collect(), x.saturating_add(y))
    }
}

impl Mul for Dim {
    type Output = Dim;
    fn mul(self, other: Dim) -> Dim {
        if let (Dim::Const(a), Dim::Const(b)) = (&self, &other) {
            return Dim::Const(a.saturating_mul(*b));
        }
        let ((a, x), (b, y)) = (self.terms(), other.terms());
        let mut terms = Vec::with_capacity((a.len() + 1) * (b.len() + 1));
        for (m, c) in a {
            for (n, d) in b {
                let mut product = [&m[..], &n[..]].concat();
                product.sort();
                terms.push((product, c.saturating_mul(*d)));
            }
            terms.push((m.clone(), c.saturating_mul(y)));
        }
        terms.extend(b.iter().map(|(n, d)| (n.clone(), d.saturating_mul(x))));
        Dim::from_terms(terms, x.saturating_mul(y))
    }
}

impl Neg for Dim {
    type Output = Dim;
    fn neg(self) -> Dim {
        self * Dim::Const(-1)
    }
}

impl Sub for Dim {
    type Output = Dim;
    fn sub(self, other: Dim) -> Dim {
        self + -other
    }
}

impl Add<i64> for Dim {
    type Output = Dim;
    fn add(self, other: i64) -> Dim {
        self + Dim::Const(other)
    }
}

impl Sub<i64> for Dim {
    type Output = Dim;
    fn sub(self, other: i64) -> Dim {
        self + Dim::Const(-other)
    }
}

impl Mul<i64> for Dim {
    type Output = Dim;
    fn mul(self, other: i64) -> Dim {
        self * Dim::Const(other)
    }
}

impl std::iter::Product for Dim {
    fn product<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::Const(1), |a, b| a * b)
    }
}

impl std::iter::Sum for Dim {
    fn sum<I: Iterator<Item = Dim>>(dims: I) -> Dim {
        dims.fold(Dim::Const(0), |a, b| a + b)
    }
}

impl fmt::Display for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (terms, constant) = self.terms();
        for (i, (monomial, c)) in terms.iter().enumerate() {
            match (i, *c < 0) {
                (0, true) => write!(f, "-")?,
                (0, false) => {}
                (_, true) => write!(f, " - ")?,
                (_, false) => write!(f, " + ")?,
            }
            if c.unsigned_abs() != 1 {
                write!(f, "{}*", c.unsigned_abs())?;
            }
            for (j, atom) in monomial.iter().enumerate() {
                if j > 0 {
                    write!(f, "*")?;
                }
                write!(f, "{atom}")?;
            }
        }
        match (terms.is_empty(), constant) {
            (true, c) => write!(f, "{c}"),
            (false, 0) => Ok(()),
            (false, c) if c < 0 => write!(f, " - {}", c.unsigned_abs()),
            (false, c) => write!(f, " + {c}"),
        }
    }
}

impl fmt::Display for Atom {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Atom::Symbol(s) => write!(f, "{s}"),
            Atom::FloorDiv(a, b) => write!(f, "floor(({a})/({b}))"),
            Atom::Mod(a, b) => write!(f, "mod({a}, {b})"),
            Atom::Min(a, b) => write!(f, "min({a}, {b})"),
            Atom::Max(a, b) => write!(f, "max({a}, {b})"),
            Atom::Broadcast(list) => {
                write!(f, "broadcast(")?;
                for (i, d) in list.iter().enumerate() {
                    write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
                }
                write!(f, ")")
            }
        }
    }
}

impl fmt::Debug for Dim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
