//! The table of operators in `docs/operators.md`.
//!
//! Element types are found out by trying: the example of each operator is rewritten for every type, evaluated, and built.

use crate::guard::catch;
use oxrt::ir::{Symbols, parse_graph};
use oxrt::ops::infer::infer_graph;
use oxrt::ops::{Datum, Interpreter, OpDef, registry};
use oxrt::plan::StepKind;
use oxrt::{BuildOptions, DType, Error, Model, Result, Tensor};
use std::collections::BTreeMap;
use std::fmt::Write;

/// Cases passed and cases there are, by operator.
pub type Counts = BTreeMap<String, (usize, usize)>;

/// The whole page.
///
/// `allowed` are the types that the standard allows, by operator, under their short names.
pub fn page(counts: &Counts, allowed: &BTreeMap<String, Vec<String>>) -> String {
    let mut text = String::from(
        "# Operators\n\n\
         Written by `cargo xtask operators`; `cargo xtask test` checks that it is current.\n\n\
         *Versions*: opsets in which the operator changed; older forms are raised to the newest on reading. *Evaluated*: element types of the first\n\
         input that the operator takes (more than ONNX allows), tried with its examples. *CPU kernel*: those of them that have one, or need none. *By reference*:\n\
         the common types (f32 f16 bf16 f64 i64 i32 u8 i8 bool) that ONNX allows and no kernel serves; where the size of a result depends on\n\
         data, that is the way it runs. *Cases*: official cases of onnx passed through the optimised engine, of those there are for the operator.\n\n\
         | operator | versions | evaluated | CPU kernel | by reference | cases |\n|---|---|---|---|---|---|\n",
    );
    let mut ops: Vec<&OpDef> = registry::all().iter().copied().filter(|op| !op.name.starts_with("oxrt.")).collect();
    ops.sort_by_key(|op| (op.name.contains('.'), op.name));
    let mut left = counts.clone();
    for op in ops {
        let versions: Vec<String> = op.versions.iter().map(i64::to_string).collect();
        let (evaluated, kernels) = types(op);
        let short = op.name.rsplit('.').next().unwrap_or(op.name);
        let cases = left.remove(short).map_or("–".to_string(), |(passed, all)| format!("{passed}/{all}"));
        let _ = writeln!(
            text,
            "| `{}` | {} | {} | {} | {} | {cases} |",
            op.name,
            versions.join(" "),
            names(&evaluated),
            names(&kernels),
            names(&by_reference(&evaluated, &kernels, allowed.get(op.name)))
        );
    }
    text.push_str("\nOperators that reading turns into others:\n\n| operator | cases |\n|---|---|\n");
    for (op, (passed, all)) in left {
        let _ = writeln!(text, "| `{op}` | {passed}/{all} |");
    }
    text
}

/// Common types that are allowed and evaluated, but have no kernel.
fn by_reference(evaluated: &[DType], kernels: &[DType], allowed: Option<&Vec<String>>) -> Vec<DType> {
    use DType::*;
    let common = [F32, F16, BF16, F64, I64, I32, U8, I8, Bool];
    let allows = |d: &DType| allowed.is_none_or(|list| list.iter().any(|name| name == d.name()));
    common.into_iter().filter(|d| evaluated.contains(d) && !kernels.contains(d) && allows(d)).collect()
}

/// Types in short: families that are complete by one word.
fn names(types: &[DType]) -> String {
    use DType::*;
    const FAMILIES: [(&str, &[DType]); 5] = [
        ("float", &[F64, F32, F16, BF16]),
        ("float8", &[F8E4M3FN, F8E4M3FNUZ, F8E5M2, F8E5M2FNUZ]),
        ("int", &[I64, I32, I16, I8]),
        ("uint", &[U64, U32, U16, U8]),
        ("int4/2", &[I4, U4, I2, U2]),
    ];
    let mut left = types.to_vec();
    let mut out = Vec::new();
    for (name, members) in FAMILIES {
        if members.iter().all(|m| left.contains(m)) {
            left.retain(|t| !members.contains(t));
            out.push(name.to_string());
        }
    }
    out.extend(left.iter().map(|t| t.name().to_string()));
    if out.is_empty() { "–".to_string() } else { out.join(" ") }
}

/// Element types of the first input that are evaluated, and those of them that have a kernel.
fn types(op: &OpDef) -> (Vec<DType>, Vec<DType>) {
    let mut evaluated = Vec::new();
    let mut kernels = Vec::new();
    for &dtype in DType::ALL.iter().filter(|d| !d.is_complex()) {
        let mut tried = Vec::new();
        for (text, inputs, _) in op.examples {
            // Weights, axes and the like are constants in most models.
            for constants in [false, true] {
                tried.extend(catch(|| attempt(text, inputs, dtype, constants)).ok().and_then(Result::ok));
            }
        }
        if !tried.is_empty() {
            evaluated.push(dtype);
        }
        if tried.contains(&true) {
            kernels.push(dtype);
        }
    }
    (evaluated, kernels)
}

/// Evaluates the example with its first type replaced; says whether an engine runs it without the reference evaluator.
/// With `constants`, all inputs but the first are known when it is built.
fn attempt(text: &str, inputs: &[&str], dtype: DType, constants: bool) -> Result<bool> {
    let first = text.trim_start_matches('(').split(['[', ' ', ')']).next().unwrap_or_default();
    let Ok(old) = first.parse::<DType>() else {
        // Sequences and the like: the type of their elements is not tried.
        return Err(Error::unsupported("an example without a tensor"));
    };
    let text = replace_word(text, old.name(), dtype.name());
    let mut graph = parse_graph(&text)?;
    let mut symbols = Symbols::default();
    infer_graph(&mut graph, &mut symbols)?;
    let mut data = Vec::new();
    for &v in &graph.inputs {
        let ty = graph[v].ty.as_tensor().ok_or_else(|| Error::unsupported("an input that is no tensor"))?;
        let given = inputs.iter().find(|i| i.split(['=', '[']).next().is_some_and(|n| n.trim() == graph[v].name));
        let given = given.ok_or_else(|| Error::unsupported("an input without elements"))?;
        data.push(Datum::from(elements(given, ty.dtype, ty.static_shape())?));
    }
    Interpreter::new(&graph).run(data.clone())?;
    if constants {
        let later: Vec<_> = graph.inputs.drain(1..).collect();
        for (v, datum) in later.into_iter().zip(data.into_iter().skip(1)) {
            graph.set_constant(v, datum.into_tensor()?);
        }
        infer_graph(&mut graph, &mut symbols)?;
    }
    let model = oxrt::ir::Model { graph, symbols, ..oxrt::ir::Model::default() };
    let engine = Model::from_ir(model).build(&BuildOptions { threads: 1, ..BuildOptions::default() })?;
    Ok(!engine.plan().steps.iter().any(|s| matches!(s.kind, StepKind::Host)))
}

/// Replaces whole words only: `f32` is part of no other type, but `u8` is of `u8x`-like names.
fn replace_word(text: &str, old: &str, new: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some(at) = rest.find(old) {
        let inside = |c: char| c.is_alphanumeric() || c == '_';
        let free = !rest[..at].ends_with(inside) && !rest[at + old.len()..].starts_with(inside);
        out.push_str(&rest[..at]);
        out.push_str(if free { new } else { old });
        rest = &rest[at + old.len()..];
    }
    out + rest
}

/// `name = elements` or `name[2,3] = elements`.
fn elements(text: &str, dtype: DType, shape: Option<Vec<usize>>) -> Result<Tensor> {
    let bad = || Error::invalid(format!("`{text}` does not give elements of {dtype}"));
    let (head, values) = text.split_once('=').ok_or_else(bad)?;
    let shape = match head.trim().split_once('[') {
        Some((_, dims)) => {
            let dims = dims.trim_end_matches(']').split(',').map(|d| d.trim().parse().map_err(|_| bad()));
            dims.collect::<Result<Vec<usize>>>()?
        }
        None => shape.ok_or_else(bad)?,
    };
    let words: Vec<&str> = values.split_whitespace().collect();
    if dtype == DType::String {
        return Tensor::from_strings(&shape, words.iter().map(|w| w.to_string()).collect());
    }
    let numbers: Vec<f64> = words.iter().map(|w| w.parse().map_err(|_| bad())).collect::<Result<_>>()?;
    if numbers.len() != shape.iter().product::<usize>() {
        return Err(bad());
    }
    Tensor::from_f64(dtype, &shape, &numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_are_found_out() {
        let (evaluated, kernels) = types(registry::find("Relu").unwrap());
        assert!(evaluated.contains(&DType::F64) && kernels.contains(&DType::F32), "{evaluated:?} {kernels:?}");
        assert!(!types(registry::find("Exp").unwrap()).0.contains(&DType::String));
    }

    #[test]
    fn families_are_named_once() {
        use DType::*;
        assert_eq!(names(&[F32, F64, F16, BF16, I64]), "float i64");
        assert_eq!(names(&[]), "–");
        assert_eq!(replace_word("(u8[3] x, u8y) u8", "u8", "i8"), "(i8[3] x, u8y) i8");
    }
}
