//! A function of one byte, as a table of its 256 values. Only passes create it.
//!
//! x `u8` or `i8`, table [256] of any element type: the byte of x, read as unsigned, is the index.

use crate::def::OpDef;
use crate::quantised::look_up;

pub const OP: OpDef = OpDef::new(
    "oxrt.Lookup",
    &[1],
    2..=2,
    |ctx| {
        let (dtype, dims) = (ctx.dtype(1)?, ctx.ty(0)?.dims.clone());
        ctx.set(0, dtype, dims);
        Ok(())
    },
    |ctx| Ok(vec![look_up(ctx.tensor(0)?, ctx.tensor(1)?)?.into()]),
)
.examples(&[(
    "(u8[3] x) { t = Concat<axis=0>(f32[2]{4, 5}, f32[253]{0}, f32[1]{9})\n y = oxrt.Lookup(x, t) } => y",
    &["x = 0 255 1"],
    "4 9 5",
)]);
