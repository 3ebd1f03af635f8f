//! Which overload a call means. The code of a script names operators without their overloads; as the TorchScript
//! compiler does, the first schema that the arguments fit is taken, without conversions before with them.

use super::value::{Cell, Heap, Sv};
use rustc_hash::FxHashMap;
use std::rc::Rc;
use std::sync::OnceLock;

/// A parameter of a schema.
#[derive(Debug)]
pub(crate) struct Param {
    pub name: &'static str,
    /// `Tensor`, `int`, `SymInt[]`, `Tensor?` …; alias marks removed.
    pub ty: &'static str,
    has_default: bool,
    keyword_only: bool,
}

/// A schema of the table.
#[derive(Debug)]
pub(crate) struct Schema {
    /// `aten.add.Tensor`
    pub target: &'static str,
    pub params: Vec<Param>,
    pub returns: Vec<&'static str>,
}

fn schemas() -> &'static FxHashMap<&'static str, Vec<Schema>> {
    static ALL: OnceLock<FxHashMap<&'static str, Vec<Schema>>> = OnceLock::new();
    ALL.get_or_init(|| {
        let mut all: FxHashMap<&'static str, Vec<Schema>> = FxHashMap::default();
        for line in crate::args::SCHEMAS.lines() {
            let Some((target, text)) = line.split_once('\t') else { continue };
            let Some((base, _)) = target.rsplit_once('.') else { continue };
            if let Some(schema) = parse(target, text) {
                all.entry(base).or_default().push(schema);
            }
        }
        all
    })
}

fn parse(target: &'static str, text: &'static str) -> Option<Schema> {
    let close = text.rfind(") -> ")?;
    let inside = text.get(text.find('(')? + 1..close)?;
    let mut params = Vec::new();
    let mut keyword_only = false;
    for part in crate::args::split_top(inside) {
        let part = part.trim();
        if part.is_empty() {
            continue;
        }
        if part == "*" {
            keyword_only = true;
            continue;
        }
        let declaration = part.split_once('=').map_or(part, |(d, _)| d).trim();
        let (ty, name) = declaration.rsplit_once(' ')?;
        params.push(Param { name, ty: bare(ty), has_default: part.contains('='), keyword_only });
    }
    let returns = text[close + 5..].trim();
    let inner = returns.strip_prefix('(').and_then(|r| r.strip_suffix(')')).unwrap_or(returns);
    let returns = match inner.is_empty() {
        true => Vec::new(),
        false => crate::args::split_top(inner).into_iter().map(|r| bare(r.trim())).collect(),
    };
    Some(Schema { target, params, returns })
}

/// `Tensor(a)` → `Tensor`; `Tensor(a -> *)[]` keeps its brackets by being named `Tensor[]`.
fn bare(ty: &'static str) -> &'static str {
    let Some(open) = ty.find('(') else { return ty };
    let Some(close) = ty.find(')') else { return ty };
    let tail = &ty[close + 1..];
    let tail = tail.split_once(' ').map_or(tail, |(t, _)| t);
    match (&ty[..open], tail) {
        ("Tensor", "[]") => "Tensor[]",
        ("Tensor", "?") => "Tensor?",
        (head, _) => head,
    }
}

/// How well a value fits a type.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Fit {
    Exact,
    Converted,
}

fn fit(ty: &str, v: &Sv, heap: &Heap) -> Option<Fit> {
    if let Some(inner) = ty.strip_suffix('?') {
        return if matches!(v, Sv::None) { Some(Fit::Exact) } else { fit(inner, v, heap) };
    }
    if let Some((inner, size)) = ty.strip_suffix(']').and_then(|t| t.rsplit_once('[')) {
        let items: &[Sv] = match v {
            Sv::List(r) => match heap.get(*r) {
                Cell::List(items) => items,
                Cell::Sequence(_) => return (inner == "Tensor").then_some(Fit::Exact),
                _ => return None,
            },
            Sv::Tuple(items) => items,
            // `int[2]` takes one number for all.
            one if !size.is_empty() => return fit(inner, one, heap).map(|_| Fit::Converted),
            _ => return None,
        };
        return items.iter().map(|i| fit(inner, i, heap)).try_fold(Fit::Exact, |worst, f| Some(worst.max(f?)));
    }
    let exact = match ty {
        "Tensor" => matches!(v, Sv::Tensor(_)),
        "Scalar" => {
            matches!(v, Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_) | Sv::Complex(..))
        }
        "int" | "SymInt" => matches!(v, Sv::Int(_)),
        "float" => matches!(v, Sv::Float(_) | Sv::SymFloat(_) | Sv::Scalar(_)),
        "bool" => matches!(v, Sv::Bool(_)),
        "complex" => matches!(v, Sv::Complex(..)),
        "str" => matches!(v, Sv::Text(_)),
        "ScalarType" => matches!(v, Sv::Int(_)),
        "Device" => matches!(v, Sv::Device(_)),
        "Layout" | "MemoryFormat" => matches!(v, Sv::Int(_)),
        _ => false,
    };
    if exact {
        return Some(Fit::Exact);
    }
    let converted = match ty {
        "float" => matches!(v, Sv::Int(_)),
        "int" | "SymInt" => matches!(v, Sv::Bool(_) | Sv::Scalar(_) | Sv::Tensor(_)),
        "bool" => matches!(v, Sv::Scalar(_) | Sv::Int(_)),
        // Numbers taken out of tensors are passed as tensors of rank 0.
        "Scalar" => matches!(v, Sv::Tensor(_)),
        "Device" => matches!(v, Sv::Text(_)),
        _ => false,
    };
    converted.then_some(Fit::Converted)
}

/// Arguments in the order of the parameters, and how well they fit.
fn bind(schema: &Schema, args: &[Sv], named: &[(Rc<str>, Sv)], heap: &Heap) -> Option<(Fit, Vec<Option<Sv>>)> {
    let mut out: Vec<Option<Sv>> = vec![None; schema.params.len()];
    let mut places = schema.params.iter().enumerate().filter(|(_, p)| !p.keyword_only);
    for arg in args {
        let (i, _) = places.next()?;
        out[i] = Some(arg.clone());
    }
    for (name, arg) in named {
        let i = schema.params.iter().position(|p| p.name == &**name)?;
        if out[i].replace(arg.clone()).is_some() {
            return None;
        }
    }
    let mut worst = Fit::Exact;
    for (p, given) in schema.params.iter().zip(&out) {
        match given {
            Some(v) => worst = worst.max(fit(p.ty, v, heap)?),
            None if p.has_default => {}
            None => return None,
        }
    }
    Some((worst, out))
}

/// Whether any operator has this name (`aten.add`).
pub(crate) fn known(name: &str) -> bool {
    schemas().contains_key(name)
}

/// The schema that a call means, among those that `usable` admits, with its arguments by parameter.
pub(crate) fn resolve(
    name: &str,
    args: &[Sv],
    named: &[(Rc<str>, Sv)],
    heap: &Heap,
    usable: &dyn Fn(&str) -> bool,
) -> Option<(&'static Schema, Vec<Option<Sv>>)> {
    let all = schemas().get(name)?;
    let fitting = all.iter().filter(|s| usable(s.target)).filter_map(|s| {
        let (fit, bound) = bind(s, args, named, heap)?;
        let left_out = bound.iter().filter(|b| b.is_none()).count();
        Some((fit, left_out, s, bound))
    });
    fitting.min_by_key(|(fit, left_out, ..)| (*fit, *left_out)).map(|(_, _, s, bound)| (s, bound))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::alias::TensorId;

    #[test]
    fn types_decide() {
        let mut heap = Heap::default();
        let t = || Sv::Tensor(TensorId(0));
        let sizes = heap.list(vec![Sv::int(1), Sv::int(2)]);
        let target = |name: &str, args: &[Sv], heap: &Heap| {
            resolve(&format!("aten.{name}"), args, &[], heap, &|_| true).map(|(s, _)| s.target)
        };
        assert_eq!(target("add", &[t(), t()], &heap), Some("aten.add.Tensor"));
        assert_eq!(target("add", &[t(), Sv::Float(1.0)], &heap), Some("aten.add.Scalar"));
        assert_eq!(target("max", &[t()], &heap), Some("aten.max.default"));
        assert_eq!(target("max", &[t(), Sv::int(1)], &heap), Some("aten.max.dim"));
        assert_eq!(target("max", &[t(), t()], &heap), Some("aten.max.other"));
        assert_eq!(target("split", &[t(), sizes, Sv::int(1)], &heap), Some("aten.split.sizes"));
        assert_eq!(target("split", &[t(), Sv::int(3), Sv::int(1)], &heap), Some("aten.split.Tensor"));
        assert_eq!(target("relu", &[Sv::Text("x".into())], &heap), None);
        let (s, bound) = resolve("aten.topk", &[t(), Sv::int(3)], &[], &heap, &|_| true).unwrap();
        assert_eq!(s.returns, ["Tensor values", "Tensor indices"]);
        assert!(bound[0].is_some() && bound[2].is_none());
    }
}
