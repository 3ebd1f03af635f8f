//! <https://onnx.ai/onnx/operators/onnx_aionnxml_Imputer.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::shape::same_as_input;
use oxrt_tensor::{Result, Tensor, bail};

/// Puts a value, perhaps one per column, in the place of another one.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.Imputer", &[1], 1..=1, same_as_input, eval).examples(&[(
    "(f32[1, 3] x) { y = ai.onnx.ml.Imputer<replaced_value_float=-1.0, imputed_value_floats=[0.5]>(x) } => y",
    &["x = 3 -1 4"],
    "3 0.5 4",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let (x, attrs) = (ctx.tensor(0)?, ctx.attrs());
    let (gone, values): (f64, Vec<f64>) = if x.dtype().is_float() {
        let list = attrs.get_floats("imputed_value_floats")?.into_iter().flatten();
        (attrs.float_or("replaced_value_float", 0.0)? as f64, list.map(|&v| v as f64).collect())
    } else {
        let list = attrs.ints_or("imputed_value_int64s", &[])?;
        (attrs.int_or("replaced_value_int64", 0)? as f64, list.iter().map(|&v| v as f64).collect())
    };
    let columns = *x.shape().last().unwrap_or(&1);
    if values.is_empty() || values.len() != 1 && values.len() != columns {
        bail!(invalid, "{} values for {columns} columns", values.len());
    }
    let mut data = x.to_f64_vec()?;
    for (i, v) in data.iter_mut().enumerate() {
        if *v == gone || (v.is_nan() && gone.is_nan()) {
            *v = values[i % columns.max(1) % values.len()];
        }
    }
    Ok(vec![Tensor::from_f64(x.dtype(), x.shape(), &data)?.into()])
}
