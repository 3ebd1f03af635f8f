//! Operators of `torch.library`: nodes of an ONNX domain of the same name.
//!
//! `torch.ops.my.op` becomes `my.op`: tensors are inputs, in the order of the call; numbers, texts and lists of them are
//! attributes under their schema names. Types and shapes of the results are those that the program states.

use crate::args::{Arg, Args};
use crate::cx::{Cx, Val, real_dtype};
use oxrt_ir::{Attr, Attrs, ValueId, ValueType};
use oxrt_tensor::{Error, Result, bail};

/// Namespaces whose operators oxrt lowers itself, or does not know yet.
const OWN: &[&str] = &[
    "aten",
    "prims",
    "_operator",
    "math",
    "torch",
    "higher_order",
    "torchvision",
    "quantized_decomposed",
    "transformers",
    "torch_nn",
];

/// Whether a target (`my.op.default`) is of a namespace of the user's own.
pub(crate) fn is_custom(target: &str) -> bool {
    let parts: Vec<&str> = target.split('.').collect();
    parts.len() == 3 && !OWN.contains(&parts[0])
}

/// `my.op.default` → `my.op`, `my.op.Tensor` → `my.op_Tensor`.
pub(crate) fn onnx_name(target: &str) -> String {
    match target.rsplit_once('.') {
        Some((name, "default")) => name.to_string(),
        Some((name, overload)) => format!("{name}_{overload}"),
        None => target.to_string(),
    }
}

pub fn lower(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    if a.outputs.iter().all(|n| n.is_empty()) {
        return Err(Error::unsupported("a custom operator without results: the program does not say what it writes")
            .help("save `program.run_decompositions({})` instead, which states what custom operators write"));
    }
    let named: Vec<(&str, &Arg)> = a.named.iter().map(|(name, arg)| (*name, arg)).collect();
    call(cx, a.target, &named, &a.outputs)
}

/// `auto_functionalized_v2(operator, **arguments, _x_base_index, _all_bases) -> (results…, bases…)`,
/// `auto_functionalized(operator, **arguments) -> (results…, written arguments…)`: a custom operator that writes its
/// arguments is a node that gives what it wrote as further results
pub fn auto_functionalized<'a>(cx: &mut Cx<'a, '_>, a: &Args<'a>) -> Result<Vec<Val<'a>>> {
    let Arg::Other(Val::Text(operator)) = a.at(0)? else { bail!(invalid, "a wrapper without an operator") };
    let target = crate::lower::short_target(operator);
    if !is_custom(target) {
        bail!(unsupported, "`{target}`, which writes its arguments");
    }
    let bases = match a.named.iter().find(|(name, _)| *name == "_all_bases") {
        Some((_, Arg::List(items))) => items.as_slice(),
        _ => &[],
    };
    let mut named = Vec::new();
    for (name, arg) in &a.named[1..] {
        let described = name.strip_prefix('_').filter(|_| *name != "_all_bases");
        let Some(described) = described else {
            if *name != "_all_bases" {
                named.push((*name, arg));
            }
            continue;
        };
        match (described.strip_suffix("_base_index"), arg) {
            (Some(written), Arg::Other(Val::Int(i))) => {
                let base = i.as_const().and_then(|i| bases.get(usize::try_from(i).ok()?));
                named.push((
                    written,
                    base.ok_or_else(|| Error::invalid(format!("no base number {i} for `{written}`")))?,
                ));
            }
            (Some(_), Arg::Other(Val::None)) | (None, Arg::Other(Val::Bool(true))) => {}
            _ => bail!(unsupported, "`{target}` writes a view of its argument (`{name}`)"),
        }
    }
    let outputs: Vec<&str> = a.outputs.iter().copied().filter(|n| !n.is_empty()).collect();
    let mut results = call(cx, target, &named, &outputs)?.into_iter();
    let vals = a.outputs.iter().map(|name| match name.is_empty() {
        true => Some(Val::None),
        false => results.next().map(|v| Val::Tensor(cx.new_tensor(v))),
    });
    vals.collect::<Option<_>>().ok_or_else(|| Error::bug("fewer results than names"))
}

/// A node of the operator's own domain.
fn call(cx: &mut Cx, target: &str, named: &[(&str, &Arg)], names: &[&str]) -> Result<Vec<ValueId>> {
    let op = onnx_name(target);
    let mut inputs = Vec::new();
    let mut attrs = Attrs::new();
    for (name, arg) in named {
        argument(cx, name, arg, &mut inputs, &mut attrs)?;
    }
    let label = cx.b.name(op.rsplit('.').next().unwrap_or(&op));
    let id = cx.b.graph.add_node(&op, &label, &inputs, attrs, names.len());
    cx.b.graph[id].source = cx.b.source.clone();
    let outputs: Vec<ValueId> = cx.b.graph[id].outputs().iter().flatten().copied().collect();
    for (name, &v) in names.iter().zip(&outputs) {
        let Some((dtype, dims)) = cx.meta(name)? else {
            bail!(invalid, "the program does not state the type of `{name}`")
        };
        if dtype.is_complex() {
            bail!(unsupported, "a custom operator on complex tensors");
        }
        cx.b.graph[v].ty = ValueType::tensor(real_dtype(dtype), dims);
    }
    if oxrt_ops::registry::find(&op).is_none() {
        cx.warn(format!(
            "`{op}` is a node of the ONNX domain `{}`: give its meaning with `--functions`, or register it where the model runs",
            op.split('.').next().unwrap_or_default()
        ));
    }
    Ok(outputs)
}

fn argument(cx: &mut Cx, name: &str, arg: &Arg, inputs: &mut Vec<Option<ValueId>>, attrs: &mut Attrs) -> Result<()> {
    let attr = match arg {
        Arg::Tensor(_, v) => {
            inputs.push(Some(*v));
            return Ok(());
        }
        Arg::List(items) if items.iter().all(|i| matches!(i, Arg::Tensor(..))) => {
            return items.iter().try_for_each(|i| argument(cx, name, i, inputs, attrs));
        }
        Arg::List(items) => {
            let items: Option<Vec<Val>> =
                items.iter().map(|i| if let Arg::Other(v) = i { Some(v.clone()) } else { None }).collect();
            attribute(&Val::List(items.unwrap_or_default()))
        }
        Arg::Other(Val::None) => return Ok(()),
        Arg::Other(Val::Runtime(v)) => {
            inputs.push(Some(*v));
            return Ok(());
        }
        Arg::Other(Val::Int(d)) if d.as_const().is_none() => {
            let v = cx.dim_scalar(d)?;
            inputs.push(Some(v));
            return Ok(());
        }
        Arg::Other(v) => attribute(v),
    };
    let attr =
        attr.ok_or_else(|| Error::unsupported(format!("the argument `{name}` of a custom operator: {arg:?}")))?;
    attrs.set(name, attr);
    Ok(())
}

fn attribute(val: &Val) -> Option<Attr> {
    Some(match val {
        Val::Int(d) => Attr::Int(d.as_const()?),
        Val::Bool(b) => Attr::Int(*b as i64),
        Val::Float(x) => Attr::Float(*x as f32),
        Val::Text(s) => Attr::String(s.clone()),
        Val::DType(d) => Attr::Int(d.to_onnx() as i64),
        Val::List(items) => {
            let ints: Option<Vec<i64>> =
                items.iter().map(|v| if let Val::Int(d) = v { d.as_const() } else { None }).collect();
            match ints {
                Some(ints) => Attr::Ints(ints),
                None => {
                    let number = |v: &Val| match v {
                        Val::Float(x) => Some(*x as f32),
                        Val::Int(d) => d.as_const().map(|x| x as f32),
                        _ => None,
                    };
                    Attr::Floats(items.iter().map(number).collect::<Option<_>>()?)
                }
            }
        }
        _ => return None,
    })
}
