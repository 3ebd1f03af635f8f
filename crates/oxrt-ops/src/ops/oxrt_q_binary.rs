//! Sum or product of two quantised tensors, with broadcasting. Only passes create it.
//!
//! a, b `u8` or `i8`. Attributes: `op` (`add`, `sub` or `mul`), and the parameters `a`, `b` and `y` of
//! [`crate::quantised::Linear`].

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use crate::quantised::{Linear, dtype_of};
use crate::scalar::broadcast_each;
use crate::shape::{broadcast_shapes, infer_elementwise_as};
use oxrt_tensor::{Result, Tensor, bail};

pub const OP: OpDef = OpDef::new(
    "oxrt.QBinary",
    &[1],
    2..=2,
    |ctx| infer_elementwise_as(ctx, dtype_of(ctx.attrs(), "y")?),
    eval,
)
.examples(&[(
    "(u8[2] a, u8[1] b) { y = oxrt.QBinary<op=\"mul\", a_scale=0.5, b_scale=1, b_zero=2, y_scale=0.5, y_zero=7>(a, b) } => y",
    &["a = 1 3", "b = 4"],
    "9 13",
)]);

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let attrs = ctx.attrs();
    let (a, b) = (ctx.tensor(0)?, ctx.tensor(1)?);
    let [pa, pb, py] = [Linear::from_attrs(attrs, "a")?, Linear::from_attrs(attrs, "b")?, Linear::from_attrs(attrs, "y")?];
    let (va, vb) = (a.to_f64_vec()?, b.to_f64_vec()?);
    let shape = broadcast_shapes(&[a.shape(), b.shape()])?;
    let op: fn(f64, f64) -> f64 = match attrs.string_or("op", "add")? {
        "add" => |a, b| a + b,
        "sub" => |a, b| a - b,
        "mul" => |a, b| a * b,
        other => bail!(unsupported, "`{other}` of quantised tensors"),
    };
    let mut out = Vec::with_capacity(crate::copy::checked_len(&shape)?);
    broadcast_each(&shape, &[a.shape(), b.shape()], |at| {
        out.push(py.quantise(op(pa.real(va[at[0]]), pb.real(vb[at[1]]))));
        Ok(())
    })?;
    Ok(vec![Tensor::from_i64(py.dtype, &shape, &out)?.into()])
}
