//! Normalisation of rows to zero mean and unit variance, and scaling after it.

use crate::scalar::broadcast_each;
use oxrt_tensor::{Result, Tensor, bail};

/// Mean and variance of a row.
pub fn moments(row: &[f64]) -> (f64, f64) {
    let n = row.len() as f64;
    let mean = row.iter().sum::<f64>() / n;
    (mean, row.iter().map(|v| (v - mean) * (v - mean)).sum::<f64>() / n)
}

/// Normalises each row of `len` elements in place. Gives mean and 1/√(variance + epsilon) of each.
pub fn normalise(data: &mut [f64], len: usize, epsilon: f64) -> Vec<(f64, f64)> {
    let rows = data.chunks_mut(len.max(1)).map(|row| {
        let (mean, variance) = moments(row);
        let scale = 1.0 / (variance + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v = (*v - mean) * scale);
        (mean, scale)
    });
    rows.collect()
}

/// Divides each row of `len` elements by its root mean square.
pub fn normalise_rms(data: &mut [f64], len: usize, epsilon: f64) {
    for row in data.chunks_mut(len.max(1)) {
        let square = row.iter().map(|v| v * v).sum::<f64>() / row.len() as f64;
        let scale = 1.0 / (square + epsilon).sqrt();
        row.iter_mut().for_each(|v| *v *= scale);
    }
}

/// Normalises x [N, C, spatial…] in `groups` groups of channels, then scales and shifts each channel.
pub fn group_norm(x: &Tensor, groups: usize, scale: &Tensor, bias: &Tensor, epsilon: f64) -> Result<Vec<f64>> {
    if x.rank() < 2 || groups == 0 || !x.shape()[1].is_multiple_of(groups) {
        bail!(invalid, "{groups} groups of the channels of {:?}", x.shape());
    }
    let (n, c) = (x.shape()[0], x.shape()[1]);
    let plane: usize = x.shape()[2..].iter().product();
    let mut data = x.to_f64_vec()?;
    normalise(&mut data, c / groups * plane, epsilon);
    affine_channels(&mut data, n, c, plane, &scale.to_f64_vec()?, &bias.to_f64_vec()?)?;
    Ok(data)
}

/// Each channel of [n, c, plane] times its scale plus its bias.
pub fn affine_channels(data: &mut [f64], n: usize, c: usize, plane: usize, scale: &[f64], bias: &[f64]) -> Result<()> {
    if scale.len() != c || bias.len() != c {
        bail!(invalid, "scale and bias should have {c} elements, found {} and {}", scale.len(), bias.len());
    }
    for i in 0..n * c {
        data[i * plane..(i + 1) * plane].iter_mut().for_each(|v| *v = *v * scale[i % c] + bias[i % c]);
    }
    Ok(())
}

/// `data` of `shape` times `scale` plus `bias`, both broadcast to it.
pub fn affine(data: &mut [f64], shape: &[usize], scale: Option<&Tensor>, bias: Option<&Tensor>) -> Result<()> {
    for (t, add) in [(scale, false), (bias, true)] {
        let Some(t) = t else { continue };
        if crate::shape::broadcast_shapes(&[shape, t.shape()])? != shape {
            bail!(invalid, "{:?} does not broadcast to {shape:?}", t.shape());
        }
        let values = t.to_f64_vec()?;
        let mut i = 0;
        broadcast_each(shape, &[t.shape()], |at| {
            if add {
                data[i] += values[at[0]];
            } else {
                data[i] *= values[at[0]];
            }
            i += 1;
            Ok(())
        })?;
    }
    Ok(())
}
