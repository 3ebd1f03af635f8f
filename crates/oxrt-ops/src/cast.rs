//! Conversion between element types, for `Cast` and `CastLike`.

use crate::infer::Infer;
use crate::shape::fractions;
use oxrt_ir::{Attrs, Contents, Dim};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

/// Type and contents of output 0 for a cast of input 0 to `to`. Sizes on a detour through floats stay
/// exact: a float holds a fraction until it is rounded.
pub fn infer(ctx: &mut Infer, to: DType) -> Result<()> {
    let from = ctx.ty(0)?.clone();
    ctx.set(0, to, from.dims);
    if to == DType::String || from.dtype == DType::String {
        return Ok(());
    }
    let whole = if from.dtype == DType::Bool || to == DType::Bool {
        ctx.contents(0).filter(|c| c.as_consts().is_some()).cloned()
    } else {
        ctx.whole(0)
    };
    let Some((least, most)) = crate::shape::exact_range(to) else { return Ok(()) };
    let fits = |d: &Dim| to == DType::Bool || d.as_const().is_none_or(|c| (least..=most).contains(&c));
    if let Some(mut c) = whole {
        if !c.elements.iter().all(fits) {
            return Ok(());
        }
        if to == DType::Bool {
            c.elements.iter_mut().for_each(|d| *d = Dim::Const((!d.is(0)) as i64));
        }
        ctx.set_contents(0, c);
    } else if to.is_int() {
        let Some((scalar, list)) = fractions(ctx, 0) else { return Ok(()) };
        // Truncation is flooring for sizes.
        let positive = |d: &Dim, least: i64| ctx.bounds(d).0 >= least;
        let floors: Option<Vec<Dim>> =
            list.iter().map(|(n, d)| (positive(n, 0) && positive(d, 1)).then(|| n.floor_div(d))).collect();
        if let Some(elements) = floors {
            ctx.set_contents(0, Contents { scalar, elements });
        }
    }
    Ok(())
}

/// The elements of `x` as `to`, under the attributes `saturate` and `round_mode`.
pub fn cast(x: &Tensor, to: DType, attrs: &Attrs) -> Result<Tensor> {
    let from = x.dtype();
    if from == to {
        return Ok(x.clone());
    }
    if let Some(strings) = x.strings() {
        let parse = |s: &String| {
            let t = s.trim();
            let t = t.strip_prefix('+').unwrap_or(t);
            t.parse::<f64>().map_err(|_| Error::invalid(format!("the string `{s}` is not a number")))
        };
        if to.is_int() {
            let whole: Option<Vec<i64>> = strings.iter().map(|s| s.trim().parse().ok()).collect();
            if let Some(values) = whole {
                return Tensor::from_i64(to, x.shape(), &values);
            }
        }
        let values = strings.iter().map(parse).collect::<Result<Vec<_>>>()?;
        return Tensor::from_f64(to, x.shape(), &values);
    }
    if to == DType::String {
        return Tensor::from_strings(x.shape(), strings_of(x)?);
    }
    if from.is_int() || from == DType::Bool {
        let values = x.to_i64_vec()?;
        if to == DType::Bool {
            let truths: Vec<bool> = values.iter().map(|&v| v != 0).collect();
            return Ok(Tensor::from_slice(x.shape(), &truths));
        }
        if !to.is_float() || from != DType::U64 {
            return Tensor::from_i64(to, x.shape(), &values);
        }
    }
    let values = x.to_f64_vec()?;
    if to.is_int() {
        return Tensor::from_i64(to, x.shape(), &values.iter().map(|&v| whole(v, to)).collect::<Vec<_>>());
    }
    let saturate = attrs.bool_or("saturate", true)?;
    if to == DType::F8E8M0 {
        return power_of_two(&values, x.shape(), saturate, attrs.string_or("round_mode", "up")?);
    }
    let small = matches!(to, DType::F8E4M3FN | DType::F8E4M3FNUZ | DType::F8E5M2 | DType::F8E5M2FNUZ);
    if small && !saturate {
        return unsaturated(to, &values, x.shape());
    }
    Tensor::from_f64(to, x.shape(), &values)
}

/// A float as an integer: truncated; beyond 64 bits it saturates.
fn whole(v: f64, to: DType) -> i64 {
    if to == DType::U64 { v as u64 as i64 } else { v as i64 }
}

/// Each number as Python writes it: floats of 32 bits or less with as few digits as tell them apart.
fn strings_of(x: &Tensor) -> Result<Vec<String>> {
    if x.dtype().is_int() || x.dtype() == DType::Bool {
        return Ok(x.to_i64_vec()?.iter().map(i64::to_string).collect());
    }
    let text = |shortest: String| match shortest.as_str() {
        "NaN" => "NaN".to_string(),
        "inf" => "INF".to_string(),
        "-inf" => "-INF".to_string(),
        _ => shortest,
    };
    if x.dtype() == DType::F64 {
        return Ok(x.to_f64_vec()?.iter().map(|v| text(v.to_string())).collect());
    }
    Ok(x.to_f64_vec()?.iter().map(|&v| text((v as f32).to_string())).collect())
}

/// Values beyond the largest become infinite, or NaN where the type has no infinity.
fn unsaturated(to: DType, values: &[f64], shape: &[usize]) -> Result<Tensor> {
    let rounded = Tensor::from_f64(to, shape, values)?;
    let mut codes = rounded.bytes().to_vec();
    let (largest, over) = match to {
        DType::F8E4M3FN => (464.0, 0x7f),
        DType::F8E4M3FNUZ => (248.0, 0x80),
        DType::F8E5M2 => (61440.0, 0x7c),
        _ => (61440.0, 0x80),
    };
    for (code, v) in codes.iter_mut().zip(values) {
        // The midpoint between the largest value and the next step rounds to even, which is the step
        // for the types whose largest mantissa is odd.
        let beyond = if to == DType::F8E4M3FN { v.abs() > largest } else { v.abs() >= largest };
        if beyond {
            *code = if v.is_sign_negative() && over != 0x80 { over | 0x80 } else { over };
        }
        if v.is_nan() && v.is_sign_negative() && over != 0x80 {
            *code |= 0x80;
        }
    }
    Tensor::from_bytes(to, shape, &codes)
}

/// Float8 E8M0: only an exponent.
fn power_of_two(values: &[f64], shape: &[usize], saturate: bool, mode: &str) -> Result<Tensor> {
    if !matches!(mode, "up" | "down" | "nearest") {
        bail!(invalid, "the rounding mode is up, down or nearest, not `{mode}`");
    }
    let code = |&v: &f64| -> u8 {
        if v.is_nan() {
            return 0xff;
        }
        let v = v.abs();
        let limit = |code: u8| if saturate { code } else { 0xff };
        if v == 0.0 {
            return limit(0);
        }
        if v.is_infinite() {
            return limit(0xfe);
        }
        let low = v.log2().floor() as i32;
        // log2 may be off by one at the powers themselves.
        let low = if 2f64.powi(low) > v { low - 1 } else { low };
        let low = if 2f64.powi(low + 1) <= v { low + 1 } else { low };
        let part = v / 2f64.powi(low);
        let exponent = match mode {
            "up" => low + (part > 1.0) as i32,
            "down" => low,
            _ => low + (part >= 1.5) as i32,
        };
        match exponent + 127 {
            e if e < 0 => limit(0),
            e if e > 254 => limit(0xfe),
            e => e as u8,
        }
    };
    Tensor::from_bytes(DType::F8E8M0, shape, &values.iter().map(code).collect::<Vec<_>>())
}

/// Least and greatest number of an integer type.
pub fn int_range(dtype: DType) -> (i64, i64) {
    match (dtype.bits(), dtype.is_signed_int()) {
        (64, true) => (i64::MIN, i64::MAX),
        // As far as an i64 reaches.
        (64, false) => (0, i64::MAX),
        (bits, true) => (-(1 << (bits - 1)), (1 << (bits - 1)) - 1),
        (bits, false) => (0, (1 << bits) - 1),
    }
}
