//! What the method `forward` takes: from the shapes that a traced module keeps, or as the user states it.

use super::ast::Expr;
use super::interp::Interp;
use super::value::{Cell, Sv};
use crate::cx::Cx;
use crate::import::DimOption;
use crate::pickle::{Id, Pickle, Value};
use oxrt_ir::{Dim, Range, Symbol, TensorType, ValueType};
use oxrt_tensor::{DType, Error, Result, bail};
use std::rc::Rc;

/// Declared type of one argument of `forward`.
#[derive(Clone, Debug)]
pub(crate) enum Spec {
    Tensor(DType, Vec<Dim>),
    Int(i64),
    Float(f64),
    Bool(bool),
    None,
    Tuple(Vec<Spec>),
    List(Vec<Spec>),
    Dict(Vec<(Rc<str>, Spec)>),
}

/// `name=f32[batch,3,224,224]`, `images.0=f32[3,h,w]`, `n=5`, `flag=true`, `mask=none`
pub(crate) fn parse_option(text: &str) -> Result<(String, Spec)> {
    let bad = || {
        Error::invalid(format!("cannot read the input `{text}`"))
            .help("write `x=f32[batch,3,224,224]`; elements of lists and dicts are `images.0=f32[3,480,640]`")
    };
    let (name, ty) = text.split_once('=').ok_or_else(bad)?;
    let (name, ty) = (name.trim().to_string(), ty.trim());
    if name.is_empty() {
        return Err(bad());
    }
    let spec = match ty {
        "true" => Spec::Bool(true),
        "false" => Spec::Bool(false),
        "none" => Spec::None,
        _ => match (ty.parse::<i64>(), ty.parse::<f64>()) {
            (Ok(x), _) => Spec::Int(x),
            (_, Ok(x)) => Spec::Float(x),
            _ => {
                let ty: TensorType = ty.parse().map_err(|_| bad())?;
                Spec::Tensor(ty.dtype, ty.dims.unwrap_or_default())
            }
        },
    };
    Ok((name, spec))
}

/// The inputs that a traced module was made with: type and sizes of each.
pub(crate) fn traced(pickle: &Pickle) -> Option<Vec<Spec>> {
    let Value::Dict(methods) = pickle.value(pickle.root) else { return None };
    let forward = methods.iter().find(|(k, _)| matches!(pickle.value(*k), Value::Text(t) if t == "forward"))?;
    let (Value::List(ids) | Value::Tuple(ids)) = pickle.value(forward.1) else { return None };
    ids.iter().map(|&id| traced_value(pickle, id, 0)).collect()
}

fn traced_value(pickle: &Pickle, id: Id, depth: usize) -> Option<Spec> {
    if depth > 16 {
        return None;
    }
    let all = |ids: &[Id]| ids.iter().map(|&i| traced_value(pickle, i, depth + 1)).collect::<Option<Vec<_>>>();
    Some(match pickle.value(id) {
        Value::Shape(dtype, sizes) => Spec::Tensor(*dtype, sizes.iter().map(|&n| n.into()).collect()),
        Value::Tensor(t) => Spec::Tensor(t.dtype(), t.shape().iter().map(|&n| n.into()).collect()),
        Value::None => Spec::None,
        Value::Int(x) => Spec::Int(*x),
        Value::Float(x) => Spec::Float(*x),
        Value::Bool(b) => Spec::Bool(*b),
        Value::Tuple(ids) => Spec::Tuple(all(ids)?),
        Value::List(ids) => Spec::List(all(ids)?),
        Value::Dict(pairs) => Spec::Dict(
            (pairs.iter())
                .map(|(k, v)| match pickle.value(*k) {
                    Value::Text(t) => Some((t.as_str().into(), traced_value(pickle, *v, depth + 1)?)),
                    _ => None,
                })
                .collect::<Option<_>>()?,
        ),
        _ => return None,
    })
}

/// Puts what the user stated under a name (`images.0`) into the arguments by parameter.
pub(crate) fn place(options: &[(String, Spec)], param: &str, ty: &Expr) -> Result<Option<Spec>> {
    if let Some((_, spec)) = options.iter().find(|(n, _)| n == param) {
        return Ok(Some(spec.clone()));
    }
    let prefix = format!("{param}.");
    let parts: Vec<(&str, &Spec)> = options.iter().filter_map(|(n, s)| Some((n.strip_prefix(&prefix)?, s))).collect();
    if parts.is_empty() {
        return Ok(None);
    }
    let numbered = parts.iter().all(|(n, _)| n.parse::<usize>().is_ok());
    if !numbered {
        return Ok(Some(Spec::Dict(parts.into_iter().map(|(n, s)| (n.into(), s.clone())).collect())));
    }
    let mut items = Vec::new();
    for i in 0..parts.len() {
        let found = parts.iter().find(|(n, _)| n.parse() == Ok(i));
        let found = found.ok_or_else(|| Error::invalid(format!("`{param}.{i}` is missing among the inputs")))?;
        items.push(found.1.clone());
    }
    let tuple = format!("{ty:?}").contains("\"Tuple\"");
    Ok(Some(if tuple { Spec::Tuple(items) } else { Spec::List(items) }))
}

impl Interp<'_> {
    /// Makes the inputs of the graph that an argument stands for.
    pub fn bind_input(&mut self, cx: &mut Cx<'static, '_>, name: &str, spec: &Spec, dims: &[DimOption]) -> Result<Sv> {
        Ok(match spec {
            Spec::Tensor(dtype, sizes) => {
                if dtype.is_complex() {
                    return Err(Error::unsupported(format!("the complex input `{name}`"))
                        .help("pass real and imaginary part as a real tensor and use torch.view_as_complex inside"));
                }
                let mut sizes = sizes.clone();
                for (axis, d) in sizes.iter_mut().enumerate() {
                    let place = format!("{name}:{axis}");
                    if let Some(o) = dims.iter().find(|o| o.dim == place) {
                        match (&o.name, &o.range) {
                            (Some(n), _) => *d = Dim::symbol(n),
                            (None, Some(r)) if r.max == Some(r.min) => *d = Dim::Const(r.min),
                            _ => *d = Dim::symbol(&format!("{name}_dim{axis}")),
                        }
                    }
                }
                for (axis, d) in sizes.iter().enumerate() {
                    if let Some(s) = d.as_symbol() {
                        self.declare(cx, s, dims, &format!("{name}:{axis}"));
                    }
                }
                let unique = !cx.taken.insert(name.to_string());
                let full = if unique { cx.b.name(name) } else { name.to_string() };
                let v = cx.b.add_input(&full, ValueType::tensor(*dtype, sizes));
                Sv::Tensor(cx.new_tensor(v))
            }
            Spec::Int(x) => Sv::int(*x),
            Spec::Float(x) => Sv::Float(*x),
            Spec::Bool(b) => Sv::Bool(*b),
            Spec::None => Sv::None,
            Spec::Tuple(items) => {
                let items = self.bind_all(cx, name, items, dims)?;
                Sv::Tuple(Rc::new(items))
            }
            Spec::List(items) => {
                let items = self.bind_all(cx, name, items, dims)?;
                self.heap.list(items)
            }
            Spec::Dict(items) => {
                let mut pairs = Vec::new();
                for (key, spec) in items {
                    pairs.push((Sv::Text(key.clone()), self.bind_input(cx, &format!("{name}.{key}"), spec, dims)?));
                }
                Sv::Dict(self.heap.add(Cell::Dict(pairs)))
            }
        })
    }

    fn bind_all(
        &mut self,
        cx: &mut Cx<'static, '_>,
        name: &str,
        items: &[Spec],
        dims: &[DimOption],
    ) -> Result<Vec<Sv>> {
        items.iter().enumerate().map(|(i, s)| self.bind_input(cx, &format!("{name}.{i}"), s, dims)).collect()
    }

    fn declare(&mut self, cx: &mut Cx<'static, '_>, symbol: &Symbol, dims: &[DimOption], place: &str) {
        let named = dims.iter().find(|o| o.dim == symbol.as_str() || o.dim == place);
        let range = named.and_then(|o| o.range);
        let range = range.or(cx.symbols.ranges.get(symbol).copied()).unwrap_or(Range { min: 1, max: None });
        cx.symbols.ranges.insert(symbol.clone(), range);
        cx.b.symbols.declare(symbol.clone(), range);
    }
}

/// What is missing when a script's inputs are not stated.
pub(crate) fn missing(params: &[(Rc<str>, String)], name: &str) -> Error {
    let list: Vec<String> = params.iter().map(|(n, ty)| format!("{n}: {ty}")).collect();
    Error::invalid(format!("the sizes of the input `{name}` are not known: a scripted module does not keep them"))
        .help(format!("state them: `--input {name}=f32[1,3,224,224]` (forward takes {})", list.join(", ")))
}

/// A type as it is written.
pub(crate) fn show_type(e: &Expr) -> String {
    match e {
        Expr::Name(n) => n.to_string(),
        Expr::None => "None".into(),
        Expr::Attr(_, n) => n.to_string(),
        Expr::Item(head, inner) => format!("{}[{}]", show_type(head), show_type(inner)),
        Expr::Tuple(items) => items.iter().map(show_type).collect::<Vec<_>>().join(", "),
        _ => "?".into(),
    }
}

/// Whether every option names something that `forward` takes.
pub(crate) fn check_names(options: &[(String, Spec)], params: &[(Rc<str>, String)]) -> Result<()> {
    for (name, _) in options {
        let head = name.split('.').next().unwrap_or_default();
        if !params.iter().any(|(p, _)| **p == *head) {
            let known: Vec<&str> = params.iter().map(|p| &*p.0).collect();
            bail!(invalid, "there is no input `{head}`; forward takes {}", known.join(", "));
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read() {
        let (name, spec) = parse_option("x=f32[batch, 3,224]").unwrap();
        assert_eq!(name, "x");
        assert!(
            matches!(spec, Spec::Tensor(DType::F32, d) if d == [Dim::symbol("batch"), Dim::Const(3), Dim::Const(224)])
        );
        assert!(matches!(parse_option("n=5").unwrap().1, Spec::Int(5)));
        assert!(matches!(parse_option("m=none").unwrap().1, Spec::None));
        assert!(matches!(parse_option("s=i64").unwrap().1, Spec::Tensor(DType::I64, d) if d.is_empty()));
        for bad in ["x", "=f32[1]", "x=f33[1]", "x=f32[1", "x=f32[-1]", "x=f32[a b]"] {
            assert!(parse_option(bad).is_err(), "{bad}");
        }
        let images = [parse_option("images.0=f32[3,8,8]").unwrap(), parse_option("images.1=f32[3,9,9]").unwrap()];
        assert!(matches!(place(&images, "images", &Expr::None).unwrap(), Some(Spec::List(l)) if l.len() == 2));
    }
}
