//! Random numbers: SplitMix64, from the attribute `seed` or from a counter of the process.

use crate::eval::{Datum, Eval};
use crate::infer::Infer;
use crate::shape::sizes;
use oxrt_ir::{Attrs, Dim};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::atomic::{AtomicU64, Ordering};

pub struct Random(u64);

impl Random {
    /// From a node's `seed`; without one, every call draws other numbers.
    pub fn of(attrs: &Attrs) -> Result<Random> {
        Ok(attrs.get_float("seed")?.map_or_else(Random::fresh, |s| Random::seeded(s.to_bits() as u64)))
    }

    pub fn seeded(seed: u64) -> Random {
        Random(seed)
    }

    pub fn fresh() -> Random {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Random(NEXT.fetch_add(1, Ordering::Relaxed) << 32)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// In [0, 1).
    pub fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Of mean 0 and variance 1 (Box and Muller).
    pub fn normal(&mut self) -> f64 {
        let radius = (-2.0 * (1.0 - self.uniform()).ln()).sqrt();
        radius * (std::f64::consts::TAU * self.uniform()).cos()
    }
}

/// The element type in the attribute `dtype`.
pub fn listed_type(attrs: &Attrs) -> Result<Option<DType>> {
    match attrs.get_int("dtype")? {
        None => Ok(None),
        Some(&n) => match i32::try_from(n).ok().and_then(DType::from_onnx) {
            Some(d) => Ok(Some(d)),
            None => bail!(invalid, "{n} is not an element type"),
        },
    }
}

type Draw = fn(&Attrs, &mut Random) -> Result<f64>;

/// Between `low` and `high`.
pub fn uniform(attrs: &Attrs, random: &mut Random) -> Result<f64> {
    let (low, high) = (attrs.float_or("low", 0.0)? as f64, attrs.float_or("high", 1.0)? as f64);
    Ok(low + random.uniform() * (high - low))
}

/// Around `mean` with the deviation `scale`.
pub fn normal(attrs: &Attrs, random: &mut Random) -> Result<f64> {
    Ok(attrs.float_or("mean", 0.0)? as f64 + random.normal() * attrs.float_or("scale", 1.0)? as f64)
}

fn shape(attrs: &Attrs) -> Result<Vec<usize>> {
    sizes(attrs.ints("shape")?.ok_or_else(|| Error::invalid("the attribute `shape` is missing"))?)
}

/// Shape rule of operators whose shape is an attribute.
pub fn infer_shaped(ctx: &mut Infer) -> Result<()> {
    let dims = shape(ctx.attrs())?.into_iter().map(Dim::from).collect();
    ctx.set(0, listed_type(ctx.attrs())?.unwrap_or(DType::F32), Some(dims));
    Ok(())
}

/// Shape rule of operators whose shape is that of the input.
pub fn infer_like(ctx: &mut Infer) -> Result<()> {
    let t = ctx.ty(0)?;
    ctx.set(0, listed_type(ctx.attrs())?.unwrap_or(t.dtype), t.dims.clone());
    Ok(())
}

pub fn eval_shaped(ctx: &Eval, draw: Draw) -> Result<Vec<Datum>> {
    fill(ctx, &shape(ctx.attrs())?, DType::F32, draw)
}

pub fn eval_like(ctx: &Eval, draw: Draw) -> Result<Vec<Datum>> {
    let x = ctx.tensor(0)?;
    fill(ctx, x.shape(), x.dtype(), draw)
}

fn fill(ctx: &Eval, shape: &[usize], default: DType, draw: Draw) -> Result<Vec<Datum>> {
    let mut random = Random::of(ctx.attrs())?;
    let n = crate::copy::checked_len(shape)?;
    let values = (0..n).map(|_| draw(ctx.attrs(), &mut random)).collect::<Result<Vec<_>>>()?;
    let dtype = listed_type(ctx.attrs())?.unwrap_or(default);
    Ok(vec![Tensor::from_f64(dtype, shape, &values)?.into()])
}
