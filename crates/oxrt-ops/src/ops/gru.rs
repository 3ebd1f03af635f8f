//! <https://onnx.ai/onnx/operators/onnx__GRU.html>

use crate::def::OpDef;
use crate::recurrent::{self, Cell, Kind};

/// Gates in the order update, reset, hidden.
pub const OP: OpDef =
    OpDef::new("GRU", &[1, 3, 7, 14, 22], 3..=6, recurrent::infer, |ctx| recurrent::eval(ctx, &KIND, "linear_before_reset")).examples(&[(
        "(f32[1, 1, 1] x, f32[1, 1, 1] h) {
            y, l = GRU<hidden_size=1>(x, f32[1, 3, 1]{0}, f32[1, 3, 1]{0, 0, 1}, _, _, h) } => y",
        &["x = 1", "h = 2"],
        "1.3807971",
    )]);

const KIND: Kind = Kind { gates: 3, activations: &["Sigmoid", "Tanh"], step };

/// z = f(Wz x + Rz h), r = f(Wr x + Rr h), n = g(Wn x + Rn (r ⊙ h)), h = (1 - z) ⊙ n + z ⊙ h; with
/// `linear_before_reset` n = g(Wn x + r ⊙ (Rn h + b)).
fn step(cell: &Cell, input: &[f64], h: &mut [f64], _: &mut [f64]) {
    let n = cell.hidden;
    let gate = |g: usize| -> Vec<f64> {
        cell.recur(g, h).iter().enumerate().map(|(i, r)| cell.act(0, input[g * n + i] + r)).collect()
    };
    let (update, reset) = (gate(0), gate(1));
    let hidden: Vec<f64> = if cell.flag {
        cell.recur(2, h).iter().zip(&reset).map(|(a, r)| a * r).collect()
    } else {
        cell.recur(2, &h.iter().zip(&reset).map(|(a, r)| a * r).collect::<Vec<_>>())
    };
    for i in 0..n {
        h[i] = (1.0 - update[i]) * cell.act(1, input[2 * n + i] + hidden[i]) + update[i] * h[i];
    }
}
