//! Makes the fixed sizes of a model's inputs dynamic.

use crate::DIM_KEY;
use crate::proto::{DimensionValue, ModelProto, StringStringEntryProto, TypeValue, ValueInfoProto};
use crate::read::decode;
use bytes::Bytes;
use oxrt_tensor::Result;
use prost::Message;

/// Rewrites a model so that sizes of its inputs have names (`dim_param`) where `name(input, axis, size)` gives
/// one. Sizes of other values that the file states are dropped: they held for the old sizes. External data stays
/// where it is.
///
/// # Errors
/// When `model` is not an ONNX model.
pub fn name_sizes(model: &[u8], name: &mut dyn FnMut(&str, usize, i64) -> Option<String>) -> Result<Vec<u8>> {
    let mut proto: ModelProto = decode(Bytes::copy_from_slice(model))?;
    let Some(graph) = &mut proto.graph else { return Ok(model.to_vec()) };
    for input in &mut graph.input {
        if graph.initializer.iter().any(|t| t.name == input.name) {
            continue;
        }
        let Some(TypeValue::Tensor(tensor)) = input.r#type.as_mut().and_then(|t| t.value.as_mut()) else { continue };
        for (axis, dim) in tensor.shape.iter_mut().flat_map(|s| &mut s.dim).enumerate() {
            let Some(DimensionValue::Value(size)) = dim.value else { continue };
            let Some(symbol) = name(&input.name, axis, size) else { continue };
            if size == 0 {
                // The default range of a named dimension begins at 1.
                let key = format!("{DIM_KEY}{symbol}");
                proto.metadata_props.push(StringStringEntryProto { key, value: "0..".to_string() });
            }
            dim.value = Some(DimensionValue::Param(symbol));
        }
    }
    graph.value_info.clear();
    graph.output.iter_mut().for_each(forget_sizes);
    Ok(proto.encode_to_vec())
}

fn forget_sizes(value: &mut ValueInfoProto) {
    if let Some(TypeValue::Tensor(t)) = value.r#type.as_mut().and_then(|t| t.value.as_mut()) {
        t.shape = None;
    }
}
