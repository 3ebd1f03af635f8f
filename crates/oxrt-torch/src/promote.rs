//! PyTorch's rules for the element type of a result.
//!
//! Operands fall into three classes: tensors with axes, tensors of rank 0, and Python numbers. A lower
//! class changes the type only when its kind (bool < integer < float < complex) is higher.
//! <https://pytorch.org/docs/stable/tensor_attributes.html#type-promotion-doc>

use crate::args::{Arg, Args, Scalar};
use crate::cx::{Cx, Val};
use oxrt_ir::{DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Error, Result, bail};

#[derive(Clone, Debug)]
pub(crate) enum Operand {
    Tensor(ValueId),
    Scalar(Scalar),
}

impl Operand {
    pub fn of(a: &Args, name: &str) -> Result<Operand> {
        match a.get(name) {
            Some(Arg::Tensor(_, v)) => Ok(Operand::Tensor(v)),
            Some(Arg::Other(Val::None)) | None => bail!(invalid, "the argument `{name}` is missing"),
            Some(_) => a.scalar(name).map(Operand::Scalar),
        }
    }
}

fn kind(d: DType) -> u8 {
    match d {
        DType::Bool => 0,
        d if d.is_int() => 1,
        d if d.is_float() => 2,
        _ => 3,
    }
}

/// Smallest type that holds both (`torch.promote_types`).
pub(crate) fn promote(a: DType, b: DType) -> DType {
    use DType::*;
    if a == b {
        return a;
    }
    let (lo, hi) = if kind(a) <= kind(b) { (a, b) } else { (b, a) };
    if kind(lo) != kind(hi) {
        return match (lo, hi) {
            (F64, C64) => C128,
            _ => hi,
        };
    }
    match kind(a) {
        1 => {
            let (wide, narrow) = if a.bits() >= b.bits() { (a, b) } else { (b, a) };
            match (wide.is_signed_int(), narrow.is_signed_int()) {
                (true, _) if wide.bits() > narrow.bits() => wide,
                (x, y) if x == y => wide,
                // Equal width with different signs, or a wider unsigned type: the next signed one.
                _ => match wide.bits() {
                    8 => I16,
                    16 => I32,
                    _ => I64,
                },
            }
        }
        2 => {
            let rank = |d: DType| match d {
                F64 => 3,
                F32 => 2,
                F16 | BF16 => 1,
                _ => 0,
            };
            match rank(a).cmp(&rank(b)) {
                std::cmp::Ordering::Greater => a,
                std::cmp::Ordering::Less => b,
                std::cmp::Ordering::Equal => F32,
            }
        }
        _ => C128,
    }
}

fn combine(higher: Option<DType>, lower: Option<DType>) -> Option<DType> {
    let (Some(h), Some(l)) = (higher, lower) else { return higher.or(lower) };
    Some(match (kind(h), kind(l)) {
        (3, _) => h,
        (2, 3) => {
            if h == DType::F64 {
                DType::C128
            } else {
                DType::C64
            }
        }
        (2, _) => h,
        (0, _) | (_, 2 | 3) => promote(h, l),
        _ => h,
    })
}

/// `torch.result_type` of the operands.
pub(crate) fn result_type(cx: &Cx, operands: &[&Operand]) -> Result<DType> {
    let (mut with_axes, mut rank0, mut numbers): (Option<DType>, Option<DType>, Option<DType>) = (None, None, None);
    let join = |slot: &mut Option<DType>, d: DType| *slot = Some(slot.map_or(d, |s| promote(s, d)));
    for operand in operands {
        match operand {
            Operand::Tensor(v) if cx.rank(*v)? > 0 => join(&mut with_axes, cx.dtype(*v)?),
            Operand::Tensor(v) => join(&mut rank0, cx.dtype(*v)?),
            Operand::Scalar(s) => join(&mut numbers, number_type(cx, s)?),
        }
    }
    combine(with_axes, combine(rank0, numbers)).ok_or_else(|| Error::invalid("no operands"))
}

pub(crate) fn number_type(cx: &Cx, s: &Scalar) -> Result<DType> {
    Ok(match s {
        Scalar::Bool(_) => DType::Bool,
        Scalar::Int(_) => DType::I64,
        Scalar::Float(_) | Scalar::SymFloat(_) => DType::F32,
        Scalar::Runtime(v) => match cx.dtype(*v)? {
            d if d.is_float() => DType::F32,
            DType::Bool => DType::Bool,
            _ => DType::I64,
        },
        Scalar::Complex(..) => DType::C64,
    })
}

/// The operand as a value of element type `dtype`.
pub(crate) fn value(cx: &mut Cx, operand: &Operand, dtype: DType) -> Result<ValueId> {
    match operand {
        Operand::Tensor(v) => cx.cast(*v, dtype),
        Operand::Scalar(s) => scalar_value(cx, s, dtype),
    }
}

pub(crate) fn scalar_value(cx: &mut Cx, s: &Scalar, dtype: DType) -> Result<ValueId> {
    match s {
        Scalar::Int(Dim::Const(x)) if dtype.is_int() => {
            let t = Tensor::from_i64(dtype, &[], &[*x])?;
            Ok(cx.b.constant(t))
        }
        Scalar::Int(Dim::Const(x)) => cx.b.scalar(dtype, *x as f64),
        Scalar::Int(d) => {
            let v = cx.dim_scalar(d)?;
            cx.cast(v, dtype)
        }
        // A float in integer arithmetic (`fill_(x, 2.7)`) is cut as a C cast does.
        Scalar::Float(x) => cx.b.scalar(dtype, *x),
        Scalar::Bool(b) => cx.b.scalar(dtype, *b as u8 as f64),
        Scalar::SymFloat(r) => crate::aten::sym::ratio_value(cx, r, dtype),
        Scalar::Runtime(v) => cx.cast(*v, dtype),
        Scalar::Complex(..) => bail!(unsupported, "a complex number as operand"),
    }
}

/// Two named operands in their common type.
pub(crate) fn pair(cx: &mut Cx, a: &Args, left: &str, right: &str) -> Result<(ValueId, ValueId, DType)> {
    let (x, y) = (Operand::of(a, left)?, Operand::of(a, right)?);
    let dtype = result_type(cx, &[&x, &y])?;
    Ok((value(cx, &x, dtype)?, value(cx, &y, dtype)?, dtype))
}

/// The type that float-valued functions of `d` compute in.
pub(crate) fn float_of(d: DType) -> DType {
    if d.is_float() || d.is_complex() { d } else { DType::F32 }
}

/// A named tensor as float.
pub(crate) fn float_arg(cx: &mut Cx, a: &Args, name: &str) -> Result<ValueId> {
    let v = a.t(name)?;
    let dtype = float_of(cx.dtype(v)?);
    cx.cast(v, dtype)
}

#[cfg(test)]
mod tests {
    use super::*;
    use DType::*;

    #[test]
    fn as_torch_promotes() {
        for (a, b, c) in [
            (U8, I8, I16),
            (U8, I64, I64),
            (Bool, U8, U8),
            (F16, BF16, F32),
            (I64, F16, F16),
            (F32, F64, F64),
            (I32, I16, I32),
        ] {
            assert_eq!((promote(a, b), promote(b, a)), (c, c), "{a} {b}");
        }
        assert_eq!(combine(Some(I32), Some(I64)), Some(I32));
        assert_eq!(combine(Some(I32), Some(F32)), Some(F32));
        assert_eq!(combine(Some(F16), Some(F32)), Some(F16));
        assert_eq!(combine(Some(Bool), Some(I64)), Some(I64));
    }
}
