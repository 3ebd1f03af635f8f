//! <https://onnx.ai/onnx/operators/onnx__LSTM.html>

use crate::def::OpDef;
use crate::recurrent::{self, Cell, Kind};

/// Gates in the order input, output, forget, cell; optional peepholes in input 7.
pub const OP: OpDef =
    OpDef::new("LSTM", &[1, 7, 14, 22], 3..=8, recurrent::infer, |ctx| recurrent::eval(ctx, &KIND, "input_forget")).examples(&[(
        "(f32[2, 1, 1] x) { y, h, c = LSTM<hidden_size=1>(x, f32[1, 4, 1]{0, 0, 0, 1}, f32[1, 4, 1]{0}) } => y",
        &["x = 1 2"],
        "0.18169974 0.29328224",
    )]);

const KIND: Kind = Kind { gates: 4, activations: &["Sigmoid", "Tanh", "Tanh"], step };

/// i = f(… + Pi ⊙ c), f = f(… + Pf ⊙ c), c = f ⊙ c + i ⊙ g(…), o = f(… + Po ⊙ c), h = o ⊙ h(c)
fn step(cell: &Cell, input: &[f64], h: &mut [f64], c: &mut [f64]) {
    let n = cell.hidden;
    let gate = |g: usize| -> Vec<f64> { cell.recur(g, h).iter().zip(&input[g * n..]).map(|(r, w)| r + w).collect() };
    let (input_gate, output, forget, fresh) = (gate(0), gate(1), gate(2), gate(3));
    let p = &cell.peepholes;
    for k in 0..n {
        let i = cell.act(0, input_gate[k] + p[k] * c[k]);
        let f = if cell.flag { 1.0 - i } else { cell.act(0, forget[k] + p[2 * n + k] * c[k]) };
        c[k] = f * c[k] + i * cell.act(1, fresh[k]);
        h[k] = cell.act(0, output[k] + p[n + k] * c[k]) * cell.act(2, c[k]);
    }
}
