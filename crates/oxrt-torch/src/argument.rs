//! Arguments of nodes: the tagged union of the serializer.

use crate::schema::Graph;
use serde::Deserialize;
use serde::de::{Deserializer, Error as _, IgnoredAny, MapAccess, Visitor};
use std::fmt;

/// A plain value.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum ScalarArg {
    None,
    Int(i64),
    Float(f64),
    Bool(bool),
    String(String),
    Complex(f64, f64),
}

/// An argument of a node, or an input or output of a graph.
#[derive(Debug)]
pub(crate) enum Argument {
    Scalar(ScalarArg),
    Tensor(String),
    /// A sym_int, sym_float or sym_bool by name.
    Symbolic(String),
    List(Vec<Argument>),
    DType(i64),
    /// Device, layout, memory format: nothing that changes a value.
    Placement,
    Graph(Box<Graph>),
    /// A kind that this reader does not know, by its tag.
    Unknown(String),
}

/// A float that JSON may spell as a number or as the word of a non-finite one.
struct Float(f64);

impl<'de> Deserialize<'de> for Float {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Float, D::Error> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Raw {
            Number(f64),
            Word(String),
        }
        match Raw::deserialize(d)? {
            Raw::Number(x) => Ok(Float(x)),
            Raw::Word(w) => match &*w {
                "Infinity" => Ok(Float(f64::INFINITY)),
                "-Infinity" => Ok(Float(f64::NEG_INFINITY)),
                "NaN" => Ok(Float(f64::NAN)),
                _ => Err(D::Error::custom(format!("`{w}` is not a number"))),
            },
        }
    }
}

#[derive(Deserialize)]
struct Named {
    name: String,
}

#[derive(Deserialize)]
struct Complex {
    real: Float,
    imag: Float,
}

#[derive(Deserialize)]
struct GraphArg {
    graph: Box<Graph>,
}

impl<'de> Deserialize<'de> for Argument {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Argument, D::Error> {
        d.deserialize_map(ArgumentVisitor)
    }
}

struct ArgumentVisitor;

impl<'de> Visitor<'de> for ArgumentVisitor {
    type Value = Argument;

    fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str("an argument: an object with one tag such as `as_tensor`")
    }

    fn visit_map<M: MapAccess<'de>>(self, mut map: M) -> Result<Argument, M::Error> {
        use Argument as A;
        let Some(tag) = map.next_key::<std::borrow::Cow<str>>()? else {
            return Err(M::Error::custom("an empty object where an argument should be"));
        };
        macro_rules! list {
            ($t:ty, $f:expr) => {
                A::List(map.next_value::<Vec<$t>>()?.into_iter().map($f).collect())
            };
        }
        let value = match &*tag {
            // `true` since 2.6, `[]` before.
            "as_none" => {
                map.next_value::<IgnoredAny>()?;
                A::Scalar(ScalarArg::None)
            }
            "as_tensor" | "as_optional_tensor" => A::Tensor(map.next_value::<Named>()?.name),
            "as_int" => A::Scalar(ScalarArg::Int(map.next_value()?)),
            "as_float" => A::Scalar(ScalarArg::Float(map.next_value::<Float>()?.0)),
            "as_bool" => A::Scalar(ScalarArg::Bool(map.next_value()?)),
            // An operator as an argument is its name.
            "as_string" | "as_string_to_argument" | "as_operator" => A::Scalar(ScalarArg::String(map.next_value()?)),
            "as_complex" => {
                let c: Complex = map.next_value()?;
                A::Scalar(ScalarArg::Complex(c.real.0, c.imag.0))
            }
            "as_ints" => list!(i64, |x| A::Scalar(ScalarArg::Int(x))),
            "as_floats" => list!(Float, |x| A::Scalar(ScalarArg::Float(x.0))),
            "as_bools" => list!(bool, |x| A::Scalar(ScalarArg::Bool(x))),
            "as_strings" => list!(String, |x| A::Scalar(ScalarArg::String(x))),
            "as_tensors" => list!(Named, |x| A::Tensor(x.name)),
            "as_name" => A::Symbolic(map.next_value()?),
            "as_sym_int" | "as_sym_float" | "as_sym_bool" => map.next_value::<Argument>()?,
            "as_sym_ints" | "as_sym_floats" | "as_sym_bools" | "as_optional_tensors" => A::List(map.next_value()?),
            "as_scalar_type" => A::DType(map.next_value()?),
            "as_device" | "as_layout" | "as_memory_format" => {
                map.next_value::<IgnoredAny>()?;
                A::Placement
            }
            "as_graph" => A::Graph(map.next_value::<GraphArg>()?.graph),
            other => {
                let name = other.to_string();
                map.next_value::<IgnoredAny>()?;
                A::Unknown(name)
            }
        };
        while map.next_entry::<IgnoredAny, IgnoredAny>()?.is_some() {}
        Ok(value)
    }
}

impl<'de> Deserialize<'de> for ScalarArg {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<ScalarArg, D::Error> {
        match Argument::deserialize(d)? {
            Argument::Scalar(s) => Ok(s),
            other => Err(D::Error::custom(format!("a plain value is needed, found {other:?}"))),
        }
    }
}
