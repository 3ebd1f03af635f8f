//! What the quantised operators share: parameters from attributes, and constants packed per output channel.

use super::activation;
use crate::backend::Ctx;
use crate::compute::gemm_i8::End;
use crate::kernels::activation::Act;
use crate::kernels::dot_i8::{Rounding, Store};
use crate::kernels::dot_tables::DotKernels;
use oxrt_backend::NodeView;
use oxrt_ir::{Attrs, DType, Tensor};
use oxrt_ops::quantised::{Linear, dtype_of};
use oxrt_tensor::{Error, Result};

/// The integer kernels of the context's tier.
pub(super) fn kernels(ctx: &Ctx) -> &'static DotKernels {
    DotKernels::of(ctx.kernels.isa)
}

/// Whether a type is one of bytes.
pub(super) fn is_byte(dtype: Option<DType>) -> bool {
    matches!(dtype, Some(DType::U8 | DType::I8))
}

/// `0x80` in every byte where the type is signed: signed bytes are moved up by 128.
pub(super) fn flip(dtype: DType) -> i32 {
    if dtype == DType::I8 { 0x8080_8080u32 as i32 } else { 0 }
}

/// The zero point of moved bytes.
pub(super) fn moved(zero: i64, dtype: DType) -> i32 {
    zero as i32 + if dtype == DType::I8 { 128 } else { 0 }
}

/// Parameters as a rounding.
pub(super) fn rounding(l: &Linear) -> Rounding {
    Rounding {
        inverse: 1.0 / l.scale,
        low: (l.low - l.zero) as f32,
        high: (l.high - l.zero) as f32,
        zero: l.zero as i32,
    }
}

/// The end of a product, and the factor that scales and biases take with them.
pub(super) struct Ending {
    pub end: End,
    pub factor: f32,
}

/// Reads it from the attributes of a node whose residual has that type (if there is one).
pub(super) fn ending(attrs: &Attrs, residual: Option<DType>) -> Result<Ending> {
    let act = activation(attrs)?;
    let w_zero = attrs.int_or("w_zero", 0)? as i32;
    let mut end = End {
        w_zero,
        store: Store::F32,
        act,
        mid: Rounding::default(),
        mid_flip: 0,
        mid_zero: 0,
        mid_scale: 0.0,
        residual_flip: 0,
        residual_zero: 0,
        residual_scale: 0.0,
        y: Rounding::default(),
    };
    let y_dtype = dtype_of(attrs, "y")?;
    if y_dtype == DType::F32 && residual.is_none() {
        return Ok(Ending { end, factor: 1.0 });
    }
    let y = Linear::from_attrs(attrs, "y")?;
    end.store = Store::Byte;
    end.y = rounding(&y);
    let mut factor = end.y.inverse;
    if let Some(dtype) = residual {
        let (mid, r) = (Linear::from_attrs(attrs, "mid")?, Linear::from_attrs(attrs, "r")?);
        end.mid = rounding(&mid);
        end.mid_scale = mid.scale;
        if attrs.has("t_scale") {
            // The bytes of the table between have parameters of their own.
            let t = Linear::from_attrs(attrs, "t")?;
            (end.mid_flip, end.mid_zero, end.mid_scale) = (flip(t.dtype) & 0xff, moved(t.zero, t.dtype), t.scale);
        }
        end.residual_flip = flip(dtype) & 0xff;
        end.residual_zero = moved(r.zero, dtype);
        end.residual_scale = r.scale;
        factor = end.mid.inverse;
    }
    Ok(Ending { end, factor: if act == Act::None { factor } else { 1.0 } })
}

/// Whether the kernels have the end that the attributes ask for.
pub(super) fn ending_supported(node: &NodeView, residual: usize, table: usize) -> Option<()> {
    let attrs = node.attrs();
    let residual = if node.has(residual) { Some(node.dtype(residual)?) } else { None };
    super::require(residual.is_none() || is_byte(residual))?;
    let ending = ending(attrs, residual).ok()?;
    let mid_fits = !node.has(6) || (residual.is_some() && is_byte(node.dtype(6)) && attrs.has("t_scale"));
    super::require(mid_fits || table == 2)?;
    let table_fits = !node.has(table) || (is_byte(node.dtype(table)) && ending.end.store == Store::Byte);
    super::require(ending.end.act.is_simple() && table_fits)
}

/// Floats per output channel times a factor, each at `place` of a vector of `len`.
pub(super) fn spread(values: &[f32], factor: f32, len: usize, place: impl Fn(usize) -> usize) -> Vec<f32> {
    let mut out = vec![0.0; len];
    for (i, v) in values.iter().enumerate() {
        out[place(i)] = v * factor;
    }
    out
}

/// Packed tensor `i`, checked to hold `len` elements of the type.
pub(super) fn packed_as<T: oxrt_tensor::Element>(packed: &[Tensor], i: usize, len: usize) -> Result<Tensor> {
    let tensor = packed.get(i).ok_or_else(|| Error::invalid("packed weights are missing"))?;
    match tensor.get_slice::<T>() {
        Some(values) if values.len() == len => Ok(tensor.clone()),
        _ => Err(Error::invalid(format!("packed weights are {tensor:?}, not {len} elements"))),
    }
}
