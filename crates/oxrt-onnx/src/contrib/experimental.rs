//! Operators that the default domain had in files of 2017 to 2019, before or without becoming standard.

use super::fused::one;
use super::{Call, Expand, norm};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

pub(super) const TABLE: &[(&str, Expand)] = &[
    ("SimplifiedLayerNormalization", norm::simplified_layer_normalization),
    ("Affine", |c| {
        let y = c.scaled(c.input(0)?, c.attrs.float_or("alpha", 1.0)? as f64)?;
        one(shifted(c, y, c.attrs.float_or("beta", 0.0)? as f64)?)
    }),
    ("Scale", |c| one(c.scaled(c.input(0)?, c.attrs.float_or("scale", 1.0)? as f64)?)),
    ("ScaledTanh", |c| {
        let x = c.scaled(c.input(0)?, c.attrs.float_or("beta", 1.0)? as f64)?;
        let y = c.call("Tanh", &[x])?;
        one(c.scaled(y, c.attrs.float_or("alpha", 1.0)? as f64)?)
    }),
    ("ParametricSoftplus", |c| {
        let x = c.scaled(c.input(0)?, c.attrs.float_or("beta", 1.0)? as f64)?;
        let y = c.call("Softplus", &[x])?;
        one(c.scaled(y, c.attrs.float_or("alpha", 1.0)? as f64)?)
    }),
    ("ImageScaler", |c| {
        let y = c.scaled(c.input(0)?, c.attrs.float_or("scale", 1.0)? as f64)?;
        let Some(bias) = c.attrs.get_floats("bias")? else { return one(y) };
        let values: Vec<f64> = bias.iter().map(|&v| v as f64).collect();
        let bias = Tensor::from_f64(c.b.dtype(y)?, &[values.len(), 1, 1], &values)?;
        let bias = c.b.constant(bias);
        one(c.add(y, bias)?)
    }),
    ("Crop", crop),
    ("GivenTensorFill", given_tensor_fill),
    ("DynamicSlice", |c| {
        let y = c.b.op_multi("Slice", c.inputs, Attrs::new(), 1)?;
        one(y[0])
    }),
];

fn shifted(c: &mut Call, x: ValueId, by: f64) -> Result<ValueId> {
    if by == 0.0 {
        return Ok(x);
    }
    let by = c.b.scalar_like(x, by)?;
    c.add(x, by)
}

/// Cuts borders (left, top, right, bottom) off [N, C, H, W], or takes `scale` (height, width) from the left top one.
fn crop(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let border = c.attrs.ints_or("border", &[0; 4])?;
    let [left, top, right, bottom] = border[..] else { bail!(invalid, "`border` has {} elements", border.len()) };
    let ends = match c.attrs.ints("scale")? {
        Some(&[h, w]) => [top.saturating_add(h), left.saturating_add(w)],
        Some(other) => bail!(invalid, "`scale` has {} elements", other.len()),
        None => [bottom, right].map(|b| if b > 0 { -b } else { i64::MAX }),
    };
    let (starts, ends, axes) = (c.b.ints(&[top, left]), c.b.ints(&ends), c.b.ints(&[2, 3]));
    one(c.call("Slice", &[c.input(0)?, starts, ends, axes])?)
}

fn given_tensor_fill(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let values = c.attrs.get_floats("values")?.cloned().unwrap_or_default();
    let mut shape = match (c.attrs.ints("shape")?, c.opt(0)) {
        (Some(shape), _) => shape.to_vec(),
        (None, Some(v)) if c.attrs.bool_or("input_as_shape", false)? => {
            let t = c.b.graph.constant(v).ok_or_else(|| Error::unsupported("a computed shape"))?;
            t.to_i64_vec()?
        }
        (None, Some(v)) => {
            let dims = c.b.dims(v)?;
            let fixed = dims.iter().map(oxrt_ir::Dim::as_const).collect::<Option<Vec<_>>>();
            fixed.ok_or_else(|| Error::unsupported("an input of unknown size"))?
        }
        (None, None) => vec![values.len() as i64],
    };
    shape.extend(c.attrs.ints("extra_shape")?.unwrap_or_default());
    let shape = oxrt_ops::shape::sizes(&shape)?;
    if oxrt_tensor::num_elements(&shape)? != values.len() {
        bail!(invalid, "{} values for the shape {shape:?}", values.len());
    }
    let values: Vec<f64> = values.iter().map(|&v| v as f64).collect();
    let t = Tensor::from_f64(DType::F32, &shape, &values)?;
    one(c.b.constant(t))
}
