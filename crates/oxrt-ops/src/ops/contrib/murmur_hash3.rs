//! <https://github.com/microsoft/onnxruntime/blob/main/docs/ContribOperators.md#com.microsoft.MurmurHash3>

use crate::def::OpDef;
use crate::eval::{Datum, Eval};
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Result, Tensor, bail};

/// MurmurHash3_x86_32 (Appleby) of each element's bytes, from `seed`; unsigned unless `positive` is 0.
pub const OP: OpDef = OpDef::new(
    "com.microsoft.MurmurHash3",
    &[1],
    1..=1,
    |ctx| {
        let dtype = result_type(ctx.attrs())?;
        ctx.set(0, dtype, ctx.ty(0)?.dims.clone());
        Ok(())
    },
    eval,
)
.examples(&[
    ("(i32[1] x) { y = com.microsoft.MurmurHash3<positive=0>(x) } => y", &["x = 3"], "847579505"),
    ("(i32[1] x) { y = com.microsoft.MurmurHash3<positive=0, seed=42>(x) } => y", &["x = 3"], "-1823081949"),
]);

fn result_type(attrs: &Attrs) -> Result<DType> {
    Ok(if attrs.bool_or("positive", true)? { DType::U32 } else { DType::I32 })
}

fn eval(ctx: &Eval) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    let seed = ctx.attrs().int_or("seed", 0)? as u32;
    let hashes: Vec<u32> = match x.strings() {
        Some(strings) => strings.iter().map(|s| hash(s.as_bytes(), seed)).collect(),
        None => match x.dtype().size() {
            Some(size @ (4 | 8)) => x.bytes().chunks_exact(size).map(|b| hash(b, seed)).collect(),
            _ => bail!(unsupported, "the hash of {} elements", x.dtype()),
        },
    };
    let dtype = result_type(ctx.attrs())?;
    let values: Vec<i64> = hashes.into_iter().map(|h| if dtype == DType::U32 { h as i64 } else { h as i32 as i64 }).collect();
    Ok(vec![Tensor::from_i64(dtype, x.shape(), &values)?.into()])
}

fn hash(bytes: &[u8], seed: u32) -> u32 {
    let scramble = |k: u32| k.wrapping_mul(0xcc9e_2d51).rotate_left(15).wrapping_mul(0x1b87_3593);
    let mut h = seed;
    let mut blocks = bytes.chunks_exact(4);
    for b in &mut blocks {
        h = (h ^ scramble(u32::from_le_bytes([b[0], b[1], b[2], b[3]]))).rotate_left(13);
        h = h.wrapping_mul(5).wrapping_add(0xe654_6b64);
    }
    let tail = blocks.remainder().iter().rev().fold(0u32, |k, &b| k << 8 | b as u32);
    if !blocks.remainder().is_empty() {
        h ^= scramble(tail);
    }
    h ^= bytes.len() as u32;
    h = (h ^ h >> 16).wrapping_mul(0x85eb_ca6b);
    h = (h ^ h >> 13).wrapping_mul(0xc2b2_ae35);
    h ^ h >> 16
}
