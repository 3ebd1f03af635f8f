//! Formulas: expressions over values, written as in mathematics and turned into nodes at the end.

use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, ValueId};
use oxrt_tensor::Result;
use rustc_hash::FxHashMap;
use std::ops::{Add, Div, Mul, Neg, Sub};
use std::rc::Rc;

/// An expression. Cloning shares it: a shared part becomes one node.
#[derive(Clone, Debug)]
pub(crate) struct F(Rc<Term>);

#[derive(Debug)]
enum Term {
    Value(ValueId),
    /// A number of the formula's element type.
    Number(f64),
    Call(&'static str, Attrs, Vec<F>),
}

impl From<ValueId> for F {
    fn from(v: ValueId) -> F {
        F(Rc::new(Term::Value(v)))
    }
}

impl From<f64> for F {
    fn from(x: f64) -> F {
        F(Rc::new(Term::Number(x)))
    }
}

impl From<&F> for F {
    fn from(f: &F) -> F {
        f.clone()
    }
}

pub(crate) fn call(op: &'static str, args: &[&F]) -> F {
    F(Rc::new(Term::Call(op, Attrs::new(), args.iter().map(|&f| f.clone()).collect())))
}

macro_rules! binary {
    ($($trait:ident $method:ident $op:literal),*) => {$(
        impl<R: Into<F>> $trait<R> for F {
            type Output = F;
            fn $method(self, other: R) -> F { call($op, &[&self, &other.into()]) }
        }
        impl<R: Into<F>> $trait<R> for &F {
            type Output = F;
            fn $method(self, other: R) -> F { call($op, &[self, &other.into()]) }
        }
        impl $trait<F> for f64 {
            type Output = F;
            fn $method(self, other: F) -> F { call($op, &[&self.into(), &other]) }
        }
        impl $trait<&F> for f64 {
            type Output = F;
            fn $method(self, other: &F) -> F { call($op, &[&self.into(), other]) }
        }
    )*};
}
binary!(Add add "Add", Sub sub "Sub", Mul mul "Mul", Div div "Div");

impl Neg for F {
    type Output = F;
    fn neg(self) -> F {
        call("Neg", &[&self])
    }
}

impl Neg for &F {
    type Output = F;
    fn neg(self) -> F {
        call("Neg", &[self])
    }
}

macro_rules! methods {
    ($($method:ident $op:literal),*) => {
        #[allow(dead_code)]
        impl F { $(pub fn $method(&self) -> F { call($op, &[self]) })* }
    };
}
methods!(
    abs "Abs", exp "Exp", ln "Log", sqrt "Sqrt", sin "Sin", cos "Cos", tan "Tan", floor "Floor", round "Round", erf "Erf",
    recip "Reciprocal", sign "Sign", is_nan "IsNaN", is_inf "IsInf", not "Not"
);

macro_rules! relations {
    ($($method:ident $op:literal),*) => {
        #[allow(dead_code)]
        impl F { $(pub fn $method(&self, other: impl Into<F>) -> F { call($op, &[self, &other.into()]) })* }
    };
}
relations!(lt "Less", le "LessOrEqual", gt "Greater", ge "GreaterOrEqual", equals "Equal", and "And", or "Or", max "Max", min "Min", pow "Pow");

impl F {
    pub fn squared(&self) -> F {
        self * self
    }

    /// `self ? yes : no`
    pub fn pick(&self, yes: impl Into<F>, no: impl Into<F>) -> F {
        call("Where", &[self, &yes.into(), &no.into()])
    }

    /// Coefficients of falling powers, by Horner's rule.
    pub fn polynomial(&self, coefficients: &[f64]) -> F {
        let mut terms = coefficients.iter();
        let mut sum = F::from(terms.next().copied().unwrap_or(0.0));
        for &c in terms {
            sum = sum * self + c;
        }
        sum
    }

    /// Adds the nodes; numbers get the element type `dtype`.
    pub fn emit(&self, cx: &mut Cx, dtype: DType) -> Result<ValueId> {
        Emit { dtype, done: FxHashMap::default(), numbers: FxHashMap::default() }.emit(cx, self)
    }
}

struct Emit {
    dtype: DType,
    done: FxHashMap<*const Term, ValueId>,
    numbers: FxHashMap<u64, ValueId>,
}

impl Emit {
    fn emit(&mut self, cx: &mut Cx, f: &F) -> Result<ValueId> {
        let key = Rc::as_ptr(&f.0);
        if let Some(&v) = self.done.get(&key) {
            return Ok(v);
        }
        let v = match &*f.0 {
            Term::Value(v) => *v,
            Term::Number(x) => match self.numbers.get(&x.to_bits()) {
                Some(&v) => v,
                None => {
                    let v = cx.b.scalar(self.dtype, *x)?;
                    self.numbers.insert(x.to_bits(), v);
                    v
                }
            },
            Term::Call(op, attrs, args) => {
                let args = args.iter().map(|a| self.emit(cx, a)).collect::<Result<Vec<_>>>()?;
                cx.op(op, &args, attrs.clone())?
            }
        };
        self.done.insert(key, v);
        Ok(v)
    }
}
