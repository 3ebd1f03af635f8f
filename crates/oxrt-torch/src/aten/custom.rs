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
    let op = onnx_name(a.target);
    if a.outputs.iter().all(|n| n.is_empty()) {
        bail!(unsupported, "a custom operator without results (does it write its arguments?)");
    }
    let mut inputs = Vec::new();
    let mut attrs = Attrs::new();
    for (name, arg) in &a.named {
        argument(cx, name, arg, &mut inputs, &mut attrs)?;
    }
    let label = cx.b.name(op.rsplit('.').next().unwrap_or(&op));
    let id = cx.b.graph.add_node(&op, &label, &inputs, attrs, a.outputs.len());
    cx.b.graph[id].source = cx.b.source.clone();
    let outputs: Vec<ValueId> = cx.b.graph[id].outputs().iter().flatten().copied().collect();
    for (name, &v) in a.outputs.iter().zip(&outputs) {
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
