//! <https://onnx.ai/onnx/operators/onnx_aionnxml_ZipMap.html>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::ml::Labels;
use oxrt_ir::ValueType;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// A map from the class labels to the scores, for each row.
pub const OP: OpDef = OpDef::new("ai.onnx.ml.ZipMap", &[1], 1..=1, infer, eval).examples(&[(
    "(f32[2, 2] x) { m = ai.onnx.ml.ZipMap<classlabels_int64s=[3, 5]>(x); y = SequenceLength(m) } => y",
    &["x = 1 2 3 4"],
    "2",
)]);

fn infer(ctx: &mut Infer) -> Result<()> {
    let scalar = ValueType::tensor(ctx.dtype(0)?, vec![]);
    let map = ValueType::Map(Labels::of(ctx.attrs())?.dtype(), Box::new(scalar));
    ctx.set_type(0, ValueType::Sequence(Box::new(map)));
    Ok(())
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let keys = Labels::of(ctx.attrs())?;
    let columns = match *x.shape() {
        [c] | [_, c] if c == keys.len() => c,
        _ => bail!(invalid, "scores of shape {:?} for {} labels", x.shape(), keys.len()),
    };
    let keys = keys.pick(&(0..columns).collect::<Vec<_>>())?;
    let Some(size) = x.dtype().size().filter(|_| x.dtype() == DType::F32) else {
        bail!(unsupported, "a map of {}", x.dtype())
    };
    let maps = x.bytes().chunks((columns * size).max(1)).map(|row| {
        Ok(Datum::Map { keys: keys.clone(), values: Tensor::from_bytes(DType::F32, &[columns], row)? })
    });
    Ok(vec![Datum::Sequence(maps.collect::<Result<_>>()?)])
}
