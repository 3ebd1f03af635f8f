//! What the fused operators on quantised tensors (`oxrt.Q…`) share: the parameters of a tensor as attributes, and the end
//! of a product: activation, rounding, a second quantised operand, a table.

use crate::activation;
use crate::cast::int_range;
use crate::eval::Eval;
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// How integers, or floats of 8 bits, stand for reals: `real = (q - zero) * scale`, with `q` kept within `low..=high`.
///
/// Limits narrower than the type's are those of a `Relu` or `Clip` before the rounding.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Linear {
    /// The size of one quantum.
    pub scale: f32,
    /// The integer that stands for zero.
    pub zero: i64,
    /// The least integer.
    pub low: i64,
    /// The greatest integer.
    pub high: i64,
    /// The type of what is stored.
    pub dtype: DType,
}

impl Linear {
    /// Parameters with the limits of the type.
    pub fn new(scale: f32, zero: i64, dtype: DType) -> Linear {
        let (low, high) = range(dtype);
        Linear { scale, zero, low, high, dtype }
    }

    /// The parameters named `NAME_scale`, `NAME_zero`, `NAME_low`, `NAME_high`, `NAME_dtype` (as ONNX numbers it).
    ///
    /// # Errors
    /// A missing or non-positive scale, or a type that [`is_rounded`] does not know.
    pub fn from_attrs(attrs: &Attrs, name: &str) -> Result<Linear> {
        let scale = attrs.float_or(&format!("{name}_scale"), 0.0)?;
        let dtype = dtype_of(attrs, name)?;
        if !is_rounded(dtype) || scale.is_nan() || scale <= 0.0 {
            bail!(invalid, "`{name}` is quantised to {dtype} by the scale {scale}");
        }
        let all = Linear::new(scale, attrs.int_or(&format!("{name}_zero"), 0)?, dtype);
        let low = attrs.int_or(&format!("{name}_low"), all.low)?.clamp(all.low, all.high);
        let high = attrs.int_or(&format!("{name}_high"), all.high)?.clamp(low, all.high);
        Ok(Linear { low, high, ..all })
    }

    /// The same parameters as attributes.
    pub fn to_attrs(self, attrs: &mut Attrs, name: &str) {
        attrs.set(&format!("{name}_scale"), self.scale);
        attrs.set(&format!("{name}_zero"), self.zero);
        attrs.set(&format!("{name}_dtype"), self.dtype.to_onnx() as i64);
        let (low, high) = range(self.dtype);
        if self.low > low {
            attrs.set(&format!("{name}_low"), self.low);
        }
        if self.high < high {
            attrs.set(&format!("{name}_high"), self.high);
        }
    }

    /// The integer nearest to a real, halves to even, NaN as zero.
    pub fn quantise(&self, v: f64) -> i64 {
        ((v / f64::from(self.scale)).round_ties_even() as i64).saturating_add(self.zero).clamp(self.low, self.high)
    }

    /// What is stored for reals: the nearest integers or floats of 8 bits.
    ///
    /// # Errors
    /// A shape that does not hold as many.
    pub fn round(&self, reals: &[f64], shape: &[usize]) -> Result<Tensor> {
        let small = |v: f64| (v / f64::from(self.scale)).clamp(self.low as f64, self.high as f64);
        let quanta: Vec<f64> = match self.dtype.is_float() {
            true => reals.iter().map(|&v| small(v)).collect(),
            false => reals.iter().map(|&v| self.quantise(v) as f64).collect(),
        };
        Tensor::from_f64(self.dtype, shape, &quanta)
    }

    /// The real an integer stands for.
    pub fn real(&self, q: f64) -> f64 {
        (q - self.zero as f64) * f64::from(self.scale)
    }
}

/// Whether elements of this type stand for reals as [`Linear`] says.
pub fn is_rounded(dtype: DType) -> bool {
    matches!(dtype, DType::U8 | DType::I8 | DType::F8E4M3FN)
}

/// Least and greatest number of a type that [`is_rounded`] knows.
fn range(dtype: DType) -> (i64, i64) {
    if dtype == DType::F8E4M3FN { (-448, 448) } else { int_range(dtype) }
}

/// The element type in `NAME_dtype` (`u8` when it is not given).
pub fn dtype_of(attrs: &Attrs, name: &str) -> Result<DType> {
    let number = attrs.int_or(&format!("{name}_dtype"), DType::U8.to_onnx() as i64)?;
    let dtype = i32::try_from(number).ok().and_then(DType::from_onnx);
    dtype.ok_or_else(|| Error::invalid(format!("{number} is not an element type")))
}

/// Reals of `shape` to the result of a fused product: `activation`, and, where the result is quantised to `y`:
/// when input `residual` is there, rounding to `mid` (none where its type is `f32`), the table of input `table + 1` (whose bytes have the
/// parameters `t`), and adding that operand (of `shape`, or one row of it) with the parameters `r`; rounding to `y`; and the table of
/// input `table`.
pub fn finish(ctx: &Eval, mut data: Vec<f64>, shape: &[usize], residual: usize, table: usize) -> Result<Tensor> {
    let attrs = ctx.attrs();
    activation::epilogue(&mut data, None, shape, attrs)?;
    if let Some(r) = ctx.opt(residual)? {
        let from = Linear::from_attrs(attrs, "r")?;
        let row = shape.last().copied().unwrap_or(1).max(1);
        if r.shape() != shape && r.shape() != [row] {
            bail!(invalid, "a residual of shape {:?} for a result of shape {shape:?}", r.shape());
        }
        let other = r.to_f64_vec()?;
        let n = other.len().max(1);
        if is_rounded(dtype_of(attrs, "mid")?) {
            let mid = Linear::from_attrs(attrs, "mid")?;
            let (mut rounded, mut own) = (mid.round(&data, shape)?, mid);
            if let Some(t) = ctx.opt(table + 1)? {
                (rounded, own) = (look_up(&rounded, t)?, Linear::from_attrs(attrs, "t")?);
            }
            data.iter_mut().zip(rounded.to_f64_vec()?).for_each(|(v, q)| *v = own.real(q));
        }
        data.iter_mut().enumerate().for_each(|(i, v)| *v += from.real(other[i % n]));
    }
    let dtype = dtype_of(attrs, "y")?;
    if !is_rounded(dtype) {
        return Tensor::from_f64(dtype, shape, &data);
    }
    let q = Linear::from_attrs(attrs, "y")?.round(&data, shape)?;
    match ctx.opt(table)? {
        Some(table) => look_up(&q, table),
        None => Ok(q),
    }
}

/// The element type of a result that [`finish`] makes.
pub fn finished_dtype(attrs: &Attrs, table: Option<DType>) -> Result<DType> {
    match table {
        Some(dtype) => Ok(dtype),
        None => dtype_of(attrs, "y"),
    }
}

/// `table[byte]` for each byte of a `u8` or `i8` tensor.
pub fn look_up(x: &Tensor, table: &Tensor) -> Result<Tensor> {
    if table.shape() != [256] || x.dtype().size() != Some(1) {
        bail!(invalid, "a table of shape {:?} for {}", table.shape(), x.dtype());
    }
    crate::copy::select(table, x.shape(), x.bytes().iter().map(|&b| usize::from(b)))
}

/// A scale per map times each element of the integer products, plus a bias per map; the maps are the last axis.
pub fn scale_columns(data: &mut [f64], maps: usize, scale: &Tensor, bias: Option<&Tensor>) -> Result<()> {
    let scale = scale.to_f64_vec()?;
    let bias = bias.map(Tensor::to_f64_vec).transpose()?;
    let fits = |n: usize| n == maps;
    if !fits(scale.len()) || !bias.as_ref().is_none_or(|b| fits(b.len())) {
        bail!(invalid, "{} scales for {maps} maps", scale.len());
    }
    for (i, v) in data.iter_mut().enumerate() {
        let at = i % maps;
        *v = *v * scale[at] + bias.as_ref().map_or(0.0, |b| b[at]);
    }
    Ok(())
}
