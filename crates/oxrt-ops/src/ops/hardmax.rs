//! <https://onnx.ai/onnx/operators/onnx__Hardmax.html>

use crate::def::OpDef;
use crate::reduce::eval_lanes;
use crate::shape::same_as_input;

/// 1 at the first greatest element along `axis`, 0 elsewhere.
pub const OP: OpDef = OpDef::new("Hardmax", &[1, 11, 13], 1..=1, same_as_input, |ctx| eval_lanes(ctx, -1, hardmax))
    .examples(&[("(f32[1, 3] x) { y = Hardmax(x) } => y", &["x = 0 2 2"], "0 1 0")]);

fn hardmax(lane: &mut [f64]) {
    let best = (1..lane.len()).fold(0, |best, i| if lane[i] > lane[best] { i } else { best });
    lane.iter_mut().enumerate().for_each(|(i, v)| *v = (i == best) as u8 as f64);
}
