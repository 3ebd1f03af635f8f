//! <https://onnx.ai/onnx/operators/onnx__RNN.html>

use crate::def::OpDef;
use crate::recurrent::{self, Cell, Kind};

pub const OP: OpDef = OpDef::new("RNN", &[1, 7, 14, 22], 3..=6, recurrent::infer, |ctx| recurrent::eval(ctx, &KIND, "")).examples(&[(
    "(f32[2, 1, 1] x) { y, h = RNN<hidden_size=1, activations=[\"Relu\"]>(x, f32[1, 1, 1]{2}, f32[1, 1, 1]{10}) } => y",
    &["x = 1 2"],
    "2 24",
)]);

const KIND: Kind = Kind { gates: 1, activations: &["Tanh"], step };

/// h = f(W x + R h + b)
fn step(cell: &Cell, input: &[f64], h: &mut [f64], _: &mut [f64]) {
    let next: Vec<f64> = cell.recur(0, h).iter().zip(input).map(|(r, w)| cell.act(0, w + r)).collect();
    h.copy_from_slice(&next);
}
