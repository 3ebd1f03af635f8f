//! Types of values, with symbolic dimensions.

use crate::{Dim, Symbol};
use oxrt_tensor::{DType, Error, Tensor};
use std::fmt;

/// Element type and symbolic shape. `dims: None` means that not even the rank is known.
#[derive(Clone, PartialEq, Eq)]
pub struct TensorType {
    pub dtype: DType,
    pub dims: Option<Vec<Dim>>,
}

impl TensorType {
    pub fn new(dtype: DType, dims: Vec<Dim>) -> TensorType {
        TensorType { dtype, dims: Some(dims) }
    }

    pub fn of(tensor: &Tensor) -> TensorType {
        TensorType::new(tensor.dtype(), tensor.shape().iter().map(|&d| d.into()).collect())
    }

    pub fn rank(&self) -> Option<usize> {
        self.dims.as_ref().map(Vec::len)
    }

    /// The shape, when every dimension is known.
    pub fn static_shape(&self) -> Option<Vec<usize>> {
        self.dims.as_ref()?.iter().map(Dim::as_size).collect()
    }
}

/// What a value is.
#[derive(Clone, PartialEq, Eq, Default)]
pub enum ValueType {
    #[default]
    Unknown,
    Tensor(TensorType),
    Sequence(Box<ValueType>),
    Optional(Box<ValueType>),
    /// Key type and value type (`ai.onnx.ml`).
    Map(DType, Box<ValueType>),
}

impl ValueType {
    pub fn tensor(dtype: DType, dims: Vec<Dim>) -> ValueType {
        ValueType::Tensor(TensorType::new(dtype, dims))
    }

    pub fn as_tensor(&self) -> Option<&TensorType> {
        match self {
            ValueType::Tensor(t) => Some(t),
            _ => None,
        }
    }

    pub fn dtype(&self) -> Option<DType> {
        self.as_tensor().map(|t| t.dtype)
    }

    pub fn dims(&self) -> Option<&[Dim]> {
        self.as_tensor()?.dims.as_deref()
    }

    /// Calls `f` for each symbol in the type.
    pub fn for_each_symbol(&self, f: &mut dyn FnMut(&Symbol)) {
        match self {
            ValueType::Tensor(t) => t.dims.iter().flatten().for_each(|d| d.for_each_symbol(f)),
            ValueType::Sequence(t) | ValueType::Optional(t) | ValueType::Map(_, t) => t.for_each_symbol(f),
            ValueType::Unknown => {}
        }
    }

    #[must_use]
    pub fn substitute(&self, replace: &dyn Fn(&Symbol) -> Option<Dim>) -> ValueType {
        match self {
            ValueType::Unknown => ValueType::Unknown,
            ValueType::Tensor(t) => ValueType::Tensor(TensorType {
                dtype: t.dtype,
                dims: t.dims.as_ref().map(|d| d.iter().map(|d| d.substitute(replace)).collect()),
            }),
            ValueType::Sequence(t) => ValueType::Sequence(Box::new(t.substitute(replace))),
            ValueType::Optional(t) => ValueType::Optional(Box::new(t.substitute(replace))),
            ValueType::Map(k, t) => ValueType::Map(*k, Box::new(t.substitute(replace))),
        }
    }
}

impl std::str::FromStr for TensorType {
    type Err = Error;

    /// `f32[batch, 3, 224]`, as it is shown; without brackets a tensor of rank 0, without a type `f32`.
    fn from_str(text: &str) -> Result<TensorType, Error> {
        let bad = || Error::invalid(format!("`{text}` is no tensor type")).help("write it as `f32[batch,3,224,224]`");
        let (dtype, dims) = match text.split_once('[') {
            None => (text.trim(), ""),
            Some((dtype, rest)) => (dtype.trim(), rest.trim_end().strip_suffix(']').ok_or_else(bad)?),
        };
        let dtype = if dtype.is_empty() { DType::F32 } else { dtype.parse().map_err(|()| bad())? };
        let dims: Vec<Dim> = match dims.trim() {
            "" => Vec::new(),
            dims => dims.split(',').map(|d| d.parse().map_err(|_| bad())).collect::<Result<_, Error>>()?,
        };
        if dims.iter().any(|d| d.as_const().is_some_and(|c| c < 0)) {
            return Err(bad());
        }
        Ok(TensorType::new(dtype, dims))
    }
}

impl From<TensorType> for ValueType {
    fn from(t: TensorType) -> ValueType {
        ValueType::Tensor(t)
    }
}

impl fmt::Display for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.dtype)?;
        let Some(dims) = &self.dims else { return write!(f, "[..]") };
        if dims.is_empty() {
            return Ok(());
        }
        write!(f, "[")?;
        for (i, d) in dims.iter().enumerate() {
            write!(f, "{}{d}", if i > 0 { ", " } else { "" })?;
        }
        write!(f, "]")
    }
}

impl fmt::Display for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ValueType::Unknown => write!(f, "?"),
            ValueType::Tensor(t) => t.fmt(f),
            ValueType::Sequence(t) => write!(f, "seq({t})"),
            ValueType::Optional(t) => write!(f, "optional({t})"),
            ValueType::Map(k, t) => write!(f, "map({k}, {t})"),
        }
    }
}

impl fmt::Debug for TensorType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ValueType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// What is known of the elements of a small integer tensor (a shape, an index): each one a [`Dim`].
/// The rank is 0 or 1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Contents {
    pub scalar: bool,
    pub elements: Vec<Dim>,
}

impl Contents {
    pub fn scalar(d: Dim) -> Contents {
        Contents { scalar: true, elements: vec![d] }
    }

    pub fn vector(elements: Vec<Dim>) -> Contents {
        Contents { scalar: false, elements }
    }

    /// Of a constant integer or bool tensor of rank 0 or 1 with at most 64 elements.
    pub fn of(tensor: &Tensor) -> Option<Contents> {
        let small = tensor.rank() <= 1 && tensor.len() <= 64;
        if !small || !(tensor.dtype().is_int() || tensor.dtype() == DType::Bool) {
            return None;
        }
        let elements = tensor.to_i64_vec().ok()?;
        // Dimensions are i64; what lies beyond would look negative.
        if tensor.dtype() == DType::U64 && elements.iter().any(|&x| x < 0) {
            return None;
        }
        let elements = elements.into_iter().map(Dim::Const).collect();
        Some(Contents { scalar: tensor.rank() == 0, elements })
    }

    /// The elements as numbers, when all are known.
    pub fn as_consts(&self) -> Option<Vec<i64>> {
        self.elements.iter().map(Dim::as_const).collect()
    }

    /// As a tensor, when all elements are known.
    pub fn to_tensor(&self, dtype: DType) -> Option<Tensor> {
        let values = self.as_consts()?;
        let shape: &[usize] = if self.scalar { &[] } else { &[values.len()] };
        Tensor::from_i64(dtype, shape, &values).ok()
    }
}
