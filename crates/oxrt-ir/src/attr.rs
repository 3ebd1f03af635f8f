//! Attributes of nodes.

use crate::{Graph, ValueType};
use oxrt_tensor::{Result, Tensor, bail};
use std::collections::BTreeMap;

/// One attribute value, with the kinds of ONNX's `AttributeProto`.
#[derive(Clone, Debug, PartialEq)]
pub enum Attr {
    Int(i64),
    Float(f32),
    String(String),
    Ints(Vec<i64>),
    Floats(Vec<f32>),
    Strings(Vec<String>),
    Tensor(Tensor),
    Tensors(Vec<Tensor>),
    Type(ValueType),
    Graph(Box<Graph>),
    Graphs(Vec<Graph>),
}

impl From<i64> for Attr {
    fn from(x: i64) -> Attr {
        Attr::Int(x)
    }
}
impl From<bool> for Attr {
    fn from(x: bool) -> Attr {
        Attr::Int(x as i64)
    }
}
impl From<f32> for Attr {
    fn from(x: f32) -> Attr {
        Attr::Float(x)
    }
}
impl From<&str> for Attr {
    fn from(x: &str) -> Attr {
        Attr::String(x.to_string())
    }
}
impl From<String> for Attr {
    fn from(x: String) -> Attr {
        Attr::String(x)
    }
}
impl From<Vec<i64>> for Attr {
    fn from(x: Vec<i64>) -> Attr {
        Attr::Ints(x)
    }
}
impl<const N: usize> From<[i64; N]> for Attr {
    fn from(x: [i64; N]) -> Attr {
        Attr::Ints(x.to_vec())
    }
}
impl From<Vec<f32>> for Attr {
    fn from(x: Vec<f32>) -> Attr {
        Attr::Floats(x)
    }
}
impl From<Vec<String>> for Attr {
    fn from(x: Vec<String>) -> Attr {
        Attr::Strings(x)
    }
}
impl From<Tensor> for Attr {
    fn from(x: Tensor) -> Attr {
        Attr::Tensor(x)
    }
}

/// Attributes by name, in name order. Typed getters refuse an attribute of the wrong kind.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Attrs(pub BTreeMap<String, Attr>);

macro_rules! getters {
    ($($get:ident $variant:ident $t:ty, $what:literal);* $(;)?) => { $(
        #[doc = concat!("The attribute as ", $what, "; `None` when absent.")]
        pub fn $get(&self, name: &str) -> Result<Option<$t>> {
            match self.0.get(name) {
                None => Ok(None),
                Some(Attr::$variant(x)) => Ok(Some(x)),
                Some(other) => bail!(invalid, "attribute `{name}` should be {}, found {}", $what, other.kind()),
            }
        }
    )* };
}

impl Attrs {
    pub fn new() -> Attrs {
        Attrs::default()
    }

    /// Builder form of [`Attrs::set`].
    #[must_use]
    pub fn with(mut self, name: &str, value: impl Into<Attr>) -> Attrs {
        self.set(name, value);
        self
    }

    pub fn set(&mut self, name: &str, value: impl Into<Attr>) {
        self.0.insert(name.to_string(), value.into());
    }

    pub fn remove(&mut self, name: &str) -> Option<Attr> {
        self.0.remove(name)
    }

    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    pub fn get(&self, name: &str) -> Option<&Attr> {
        self.0.get(name)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Attr)> {
        self.0.iter().map(|(k, v)| (k.as_str(), v))
    }

    getters! {
        get_int Int &i64, "an int";
        get_float Float &f32, "a float";
        get_string String &String, "a string";
        get_ints Ints &Vec<i64>, "a list of ints";
        get_floats Floats &Vec<f32>, "a list of floats";
        get_strings Strings &Vec<String>, "a list of strings";
        get_tensor Tensor &Tensor, "a tensor";
        get_graph Graph &Graph, "a graph";
        get_type Type &ValueType, "a type";
    }

    pub fn int_or(&self, name: &str, default: i64) -> Result<i64> {
        Ok(self.get_int(name)?.copied().unwrap_or(default))
    }

    pub fn float_or(&self, name: &str, default: f32) -> Result<f32> {
        Ok(self.get_float(name)?.copied().unwrap_or(default))
    }

    pub fn bool_or(&self, name: &str, default: bool) -> Result<bool> {
        Ok(self.int_or(name, default as i64)? != 0)
    }

    pub fn string_or<'a>(&'a self, name: &str, default: &'a str) -> Result<&'a str> {
        Ok(self.get_string(name)?.map_or(default, String::as_str))
    }

    pub fn ints(&self, name: &str) -> Result<Option<&[i64]>> {
        Ok(self.get_ints(name)?.map(Vec::as_slice))
    }

    pub fn ints_or(&self, name: &str, default: &[i64]) -> Result<Vec<i64>> {
        Ok(self.get_ints(name)?.cloned().unwrap_or_else(|| default.to_vec()))
    }
}

impl Attr {
    /// Human name of the kind, for messages.
    pub fn kind(&self) -> &'static str {
        match self {
            Attr::Int(_) => "an int",
            Attr::Float(_) => "a float",
            Attr::String(_) => "a string",
            Attr::Ints(_) => "a list of ints",
            Attr::Floats(_) => "a list of floats",
            Attr::Strings(_) => "a list of strings",
            Attr::Tensor(_) => "a tensor",
            Attr::Tensors(_) => "a list of tensors",
            Attr::Type(_) => "a type",
            Attr::Graph(_) => "a graph",
            Attr::Graphs(_) => "a list of graphs",
        }
    }
}
