//! `torch._foreach_*`: an operator on every element of lists of tensors.

use super::table::{Rule, entry};
use crate::args::{Arg, Args};
use crate::cx::{Cx, Val};
use oxrt_tensor::{Error, Result};

/// What such an operator does with one element.
pub(crate) struct Each {
    /// The operator on tensors, such as `aten.add.Tensor`.
    target: &'static str,
    pub rule: Rule,
    /// Its names for the arguments after `self`, where they differ.
    renamed: &'static [(&'static str, &'static str)],
}

/// What `aten._foreach_add.Scalar` or `aten._foreach_add_.Scalar` does, and whether the elements are written in place.
pub(crate) fn find(target: &str) -> Option<(Each, bool)> {
    let (name, overload) = target.strip_prefix("aten._foreach_")?.split_once('.')?;
    let (name, in_place) = name.strip_suffix('_').map_or((name, false), |n| (n, true));
    let number = matches!(overload, "Scalar" | "ScalarList");
    let (target, renamed): (_, &'static [_]) = match name {
        "add" | "sub" | "mul" | "div" if number => {
            (format!("aten.{name}.Scalar"), &[("scalar", "other"), ("scalars", "other")])
        }
        "add" | "sub" | "mul" | "div" => (format!("aten.{name}.Tensor"), &[]),
        "clamp_min" | "maximum" if number => {
            ("aten.clamp_min.default".into(), &[("scalar", "min"), ("scalars", "min")])
        }
        "clamp_max" | "minimum" if number => {
            ("aten.clamp_max.default".into(), &[("scalar", "max"), ("scalars", "max")])
        }
        "clamp_min" | "maximum" => ("aten.maximum.default".into(), &[]),
        "clamp_max" | "minimum" => ("aten.minimum.default".into(), &[]),
        "pow" if number => ("aten.pow.Tensor_Scalar".into(), &[]),
        "pow" if overload == "ScalarAndTensor" => ("aten.pow.Scalar".into(), &[]),
        "pow" => ("aten.pow.Tensor_Tensor".into(), &[]),
        "lerp" if number => ("aten.lerp.Scalar".into(), &[("tensors1", "end")]),
        "lerp" => ("aten.lerp.Tensor".into(), &[("tensors1", "end"), ("weights", "weight")]),
        // Their numbers may also be one tensor, of which each element takes one.
        "addcmul" | "addcdiv" if number => (format!("aten.{name}.default"), &[("scalars", "value")]),
        "norm" => ("aten.linalg_vector_norm.default".into(), &[]),
        _ if overload == "default" => (format!("aten.{name}.default"), &[]),
        _ => return None,
    };
    let (target, rule) = entry(&target)?;
    Some((Each { target, rule, renamed }, in_place))
}

/// How many elements the lists have.
pub(crate) fn count(all: &Args) -> Result<usize> {
    let lists = all.named.iter().filter_map(|(_, a)| match a {
        Arg::List(items) => Some(items.len()),
        _ => None,
    });
    lists.max().ok_or_else(|| Error::invalid("no list of tensors is given"))
}

impl Each {
    /// The call for element `i`.
    pub fn element<'a>(&self, cx: &mut Cx<'a, '_>, all: &Args<'a>, i: usize) -> Result<Args<'a>> {
        let short = |name: &str| Error::invalid(format!("the list `{name}` has no element {i}"));
        let mut named = Vec::with_capacity(all.named.len());
        for (name, arg) in &all.named {
            let arg = match arg {
                Arg::List(items) => items.get(i).cloned().ok_or_else(|| short(name))?,
                Arg::Other(Val::List(items)) => Arg::Other(items.get(i).cloned().ok_or_else(|| short(name))?),
                one => one.clone(),
            };
            // An earlier element may have been written, and this one may share its memory.
            let arg = match arg {
                Arg::Tensor(id, _) => Arg::Tensor(id, cx.read(id)?),
                other => other,
            };
            let name = self.renamed.iter().find(|(from, _)| from == name).map_or(*name, |&(_, to)| to);
            named.push((name, arg));
        }
        let outputs: Vec<&'a str> = all.outputs.get(i).copied().into_iter().collect();
        let (out_dtype, out_dims) = match outputs.first() {
            Some(name) => cx.meta(name)?.unzip(),
            None => (None, None),
        };
        Ok(Args { target: self.target, first_name: None, named, outputs, out_dtype, out_dims })
    }
}
