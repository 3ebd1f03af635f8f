//! The exported program as it lies in `models/model.json`.
//!
//! Fields that oxrt does not use are skipped, missing ones take their default: that is all it takes to
//! read every schema version since 5.3, because later ones only added fields.

use crate::argument::{Argument, ScalarArg};
use oxrt_tensor::DType;
use rustc_hash::FxHashMap;
use serde::Deserialize;
use std::collections::BTreeMap;

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ExportedProgram {
    pub graph_module: GraphModule,
    #[serde(deserialize_with = "null_default")]
    pub range_constraints: BTreeMap<String, RangeConstraint>,
    pub schema_version: SchemaVersion,
    #[serde(deserialize_with = "null_default")]
    pub torch_version: String,
    #[serde(deserialize_with = "null_default")]
    pub guards_code: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct SchemaVersion {
    pub major: i64,
    pub minor: i64,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct RangeConstraint {
    pub min_val: Option<i64>,
    pub max_val: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct GraphModule {
    pub graph: Graph,
    pub signature: Signature,
    #[serde(deserialize_with = "null_default")]
    pub module_call_graph: Vec<ModuleCall>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Graph {
    #[serde(deserialize_with = "null_default")]
    pub inputs: Vec<Argument>,
    #[serde(deserialize_with = "null_default")]
    pub outputs: Vec<Argument>,
    #[serde(deserialize_with = "null_default")]
    pub nodes: Vec<Node>,
    #[serde(deserialize_with = "null_default")]
    pub tensor_values: FxHashMap<String, TensorMeta>,
    #[serde(deserialize_with = "null_default")]
    pub sym_int_values: FxHashMap<String, SymInt>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Node {
    pub target: String,
    #[serde(deserialize_with = "null_default")]
    pub inputs: Vec<NamedArgument>,
    #[serde(deserialize_with = "null_default")]
    pub outputs: Vec<Argument>,
    #[serde(deserialize_with = "null_default")]
    pub metadata: Metadata,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Metadata {
    pub stack_trace: Option<String>,
    pub nn_module_stack: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct NamedArgument {
    #[serde(default)]
    pub name: String,
    pub arg: Argument,
}

/// An integer that may be symbolic.
#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum SymInt {
    AsInt(i64),
    AsExpr(SymExpr),
}

#[derive(Clone, Debug, Deserialize)]
pub(crate) struct SymExpr {
    pub expr_str: String,
    #[serde(default)]
    pub hint: Option<Hint>,
}

/// The example's value. Other kinds than integers are not needed.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Hint {
    pub as_int: Option<i64>,
}

#[derive(Debug, Deserialize)]
pub(crate) struct TensorMeta {
    pub dtype: i64,
    pub sizes: Vec<SymInt>,
    #[serde(default)]
    pub strides: Vec<SymInt>,
    #[serde(default)]
    pub storage_offset: Option<SymInt>,
    #[serde(default)]
    pub layout: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Signature {
    pub input_specs: Vec<InputSpec>,
    pub output_specs: Vec<OutputSpec>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum InputSpec {
    Parameter(ParameterSpec),
    Buffer(BufferSpec),
    TensorConstant(ConstantSpec),
    UserInput(ArgHolder),
    ConstantInput(ConstantInputSpec),
    CustomObj(serde::de::IgnoredAny),
    Token(TokenSpec),
}

#[derive(Debug, Deserialize)]
pub(crate) struct NameRef {
    pub name: String,
}

/// The token that orders operators with effects.
#[derive(Debug, Deserialize)]
pub(crate) struct TokenSpec {
    pub arg: NameRef,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ParameterSpec {
    pub arg: NameRef,
    pub parameter_name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct BufferSpec {
    pub arg: NameRef,
    pub buffer_name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConstantSpec {
    pub arg: NameRef,
    pub tensor_constant_name: String,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ArgHolder {
    pub arg: Argument,
}

#[derive(Debug, Deserialize)]
pub(crate) struct ConstantInputSpec {
    #[serde(default)]
    pub name: String,
    pub value: ScalarArg,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum OutputSpec {
    UserOutput(ArgHolder),
    BufferMutation(serde::de::IgnoredAny),
    UserInputMutation(serde::de::IgnoredAny),
    ParameterMutation(serde::de::IgnoredAny),
    LossOutput(serde::de::IgnoredAny),
    GradientToParameter(serde::de::IgnoredAny),
    GradientToUserInput(serde::de::IgnoredAny),
    Token(serde::de::IgnoredAny),
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModuleCall {
    pub fqn: String,
    pub signature: Option<ModuleCallSignature>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct ModuleCallSignature {
    #[serde(deserialize_with = "null_default")]
    pub in_spec: String,
    #[serde(deserialize_with = "null_default")]
    pub out_spec: String,
}

/// `data/weights/model_weights_config.json` and its sibling for constants.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PayloadConfig {
    #[serde(deserialize_with = "null_default")]
    pub config: BTreeMap<String, PayloadMeta>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct PayloadMeta {
    pub path_name: String,
    pub use_pickle: bool,
    pub tensor_meta: Option<TensorMeta>,
}

fn null_default<'de, D: serde::Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// The serializer's number of complex numbers of two halves.
pub(crate) const COMPLEX_HALF: i64 = 9;

/// Element type by the serializer's own numbering (neither c10's nor ONNX's).
pub(crate) fn dtype_of(number: i64) -> Option<DType> {
    Some(match number {
        1 => DType::U8,
        2 => DType::I8,
        3 => DType::I16,
        4 => DType::I32,
        5 => DType::I64,
        6 => DType::F16,
        7 => DType::F32,
        8 => DType::F64,
        10 => DType::C64,
        11 => DType::C128,
        12 => DType::Bool,
        13 => DType::BF16,
        28 => DType::U16,
        29 => DType::F8E4M3FN,
        30 => DType::F8E5M2,
        31 => DType::F8E4M3FNUZ,
        32 => DType::F8E5M2FNUZ,
        33 => DType::F8E8M0,
        34 => DType::U32,
        35 => DType::U64,
        _ => return None,
    })
}

/// Reads a program. Up to torch 2.6 non-finite floats are bare words, which JSON does not know; they are
/// quoted in a copy when the text does not parse as it is.
pub(crate) fn parse<'a, T: Deserialize<'a>>(text: &'a str, patched: &'a mut String) -> serde_json::Result<T> {
    match serde_json::from_str(text) {
        Ok(value) => Ok(value),
        Err(first) => match quote_bare_floats(text) {
            Some(better) => {
                *patched = better;
                serde_json::from_str(patched)
            }
            None => Err(first),
        },
    }
}

fn quote_bare_floats(text: &str) -> Option<String> {
    let mut out = String::with_capacity(text.len() + 64);
    let (mut in_string, mut changed, mut rest) = (false, false, text);
    while let Some(c) = rest.chars().next() {
        if in_string && c == '\\' {
            let n = 1 + rest[1..].chars().next().map_or(0, char::len_utf8);
            out.push_str(&rest[..n]);
            rest = &rest[n..];
            continue;
        }
        in_string ^= c == '"';
        let word = ["-Infinity", "Infinity", "NaN"].into_iter().find(|w| !in_string && rest.starts_with(w));
        match word {
            Some(w) => {
                out.extend(["\"", w, "\""]);
                rest = &rest[w.len()..];
                changed = true;
            }
            None => {
                out.push(c);
                rest = &rest[c.len_utf8()..];
            }
        }
    }
    changed.then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bare_non_finite_floats_of_old_files_are_read() {
        let text =
            r#"{"graph_module": {"graph": {"outputs": [{"as_float": -Infinity}, {"as_string": "NaN \" Infinity"}]}}}"#;
        let mut patched = String::new();
        let p: ExportedProgram = parse(text, &mut patched).unwrap();
        let outputs = &p.graph_module.graph.outputs;
        assert!(matches!(outputs[0], Argument::Scalar(ScalarArg::Float(f)) if f == f64::NEG_INFINITY));
        assert!(matches!(&outputs[1], Argument::Scalar(ScalarArg::String(s)) if s == "NaN \" Infinity"));
    }

    #[test]
    fn unknown_fields_and_nulls_are_harmless() {
        let text = r#"{"later": [1, {}], "guards_code": null, "graph_module": {"graph": {"nodes": [{"target": "t", "name": "n",
            "metadata": {"from_node": [1]}, "outputs": [{"as_newer_kind": {"a": 1}}]}]}}}"#;
        let p: ExportedProgram = parse(text, &mut String::new()).unwrap();
        assert!(matches!(p.graph_module.graph.nodes[0].outputs[0], Argument::Unknown(ref k) if k == "as_newer_kind"));
    }
}
