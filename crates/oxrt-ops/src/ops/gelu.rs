//! <https://onnx.ai/onnx/operators/onnx__Gelu.html>

use crate::activation::emit;
use crate::def::OpDef;
use oxrt_tensor::bail;

pub const OP: OpDef = OpDef::elementwise("Gelu", &[20], 1..=1, |e, attrs, x| {
    let name = match attrs.string_or("approximate", "none")? {
        "none" => "gelu",
        "tanh" => "gelu_tanh",
        other => bail!(invalid, "the approximation is none or tanh, not `{other}`"),
    };
    emit(e, name, 0.0, 0.0, x[0])
})
.examples(&[
    ("(f32[3] x) { y = Gelu(x) } => y", &["x = -1 0 1"], "-0.15865526 0 0.8413447"),
    ("(f32[3] x) { y = Gelu<approximate=\"tanh\">(x) } => y", &["x = -1 0 1"], "-0.15880801 0 0.841192"),
]);
