//! Products with weights of few bits.

use super::fused::one;
use super::quant::constant;
use super::{Call, Expand};
use oxrt_ir::{Attrs, ValueId};
use oxrt_tensor::{DType, Error, Result, Tensor, bail};

pub(super) const TABLE: &[(&str, Expand)] =
    &[("MatMulNBits", mat_mul_n_bits), ("MatMulBnb4", mat_mul_bnb4), ("GatherBlockQuantized", gather_block_quantized)];

fn size(c: &Call, name: &str) -> Result<usize> {
    match c.attrs.int_or(name, 0)? {
        n @ 1.. => usize::try_from(n).map_err(|_| Error::invalid(format!("`{name}` = {n}"))),
        n => bail!(invalid, "`{name}` = {n}"),
    }
}

/// Unsigned integers of so many bits.
fn packed_type(bits: i64) -> Result<DType> {
    match bits {
        2 => Ok(DType::U2),
        4 => Ok(DType::U4),
        8 => Ok(DType::U8),
        n => bail!(unsupported, "weights of {n} bits"),
    }
}

/// The first `columns` codes of each row, where rows fill whole bytes.
fn unpadded(bytes: &[u8], dtype: DType, rows: usize, columns: usize) -> Result<Tensor> {
    let row_bytes = (columns * dtype.bits()).div_ceil(8);
    if bytes.len() != rows * row_bytes {
        bail!(invalid, "{} bytes for {rows} rows of {columns} {dtype}", bytes.len());
    }
    if columns * dtype.bits() == row_bytes * 8 {
        return Tensor::from_bytes(dtype, &[rows, columns], bytes);
    }
    let wide = row_bytes * 8 / dtype.bits();
    unpadded_columns(&Tensor::from_bytes(dtype, &[rows, wide], bytes)?, columns)
}

/// The first `columns` columns of a matrix.
fn unpadded_columns(t: &Tensor, columns: usize) -> Result<Tensor> {
    let &[rows, wide] = t.shape() else { bail!(bug, "a matrix of shape {:?}", t.shape()) };
    if wide == columns {
        return Ok(t.clone());
    }
    let kept: Vec<i64> = t.to_i64_vec()?.chunks(wide).flat_map(|r| &r[..columns]).copied().collect();
    Tensor::from_i64(t.dtype(), &[rows, columns], &kept)
}

/// Weights [N, blocks, block bytes] are those of `DequantizeLinear` in blocks along K.
fn mat_mul_n_bits(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    c.refuse_inputs(&[(4, "reordered groups (`g_idx`)")])?;
    c.refuse_attr("weight_prepacked", 0)?;
    let (n, k, block) = (size(c, "N")?, size(c, "K")?, size(c, "block_size")?);
    let dtype = packed_type(c.attrs.int_or("bits", 4)?)?;
    let weights = constant(c, 1, "packed weights")?;
    let blocks = k.div_ceil(block);
    let wide = blocks.checked_mul(block).ok_or_else(|| Error::invalid("a block size that overflows"))?;
    let float_zero = c.opt(3).map(|z| c.b.dtype(z)).transpose()?.is_some_and(DType::is_float);
    let weights = unpadded(weights.bytes(), dtype, n, wide)?;
    // What fills up the last block means nothing.
    let weights = if float_zero { weights } else { unpadded_columns(&weights, k)? };
    let weights = c.b.constant(weights);
    let scales = c.b.reshape_const(c.input(2)?, &[n as i64, blocks as i64])?;
    let attrs = Attrs::new().with("axis", 1).with("block_size", block as i64);
    let restored = if float_zero {
        // Zero points that are no codes: w · s - z · s.
        let zero = c.b.reshape_const(c.input(3)?, &[n as i64, blocks as i64])?;
        let offset = c.mul(zero, scales)?;
        let plain = c.b.op("DequantizeLinear", &[weights, scales], attrs)?;
        let grouped = c.b.reshape_const(plain, &[n as i64, blocks as i64, block as i64])?;
        let offset = c.b.unsqueeze(offset, &[2])?;
        let moved = c.call("Sub", &[grouped, offset])?;
        c.b.reshape_const(moved, &[n as i64, wide as i64])?
    } else {
        let zero = match c.opt(3) {
            Some(_) => unpadded(constant(c, 3, "packed zero points")?.bytes(), dtype, n, blocks)?,
            None => Tensor::from_i64(dtype, &[n, blocks], &vec![1 << (dtype.bits() - 1); n * blocks])?,
        };
        let zero = c.b.constant(zero);
        c.b.op("DequantizeLinear", &[weights, scales, zero], attrs)?
    };
    let restored = if wide == k || !float_zero { restored } else { c.slice(restored, 1, 0, k as i64)? };
    let turned = c.turned(restored)?;
    let y = c.call("MatMul", &[c.input(0)?, turned])?;
    one(c.add_opt(y, c.opt(5))?)
}

/// Values of the 16 codes of the 4-bit normal float (Dettmers et al., QLoRA, appendix E) …
#[rustfmt::skip]
const NF4: [f64; 16] = [
    -1.0, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453, -0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0.0,
    0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224, 0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1.0,
];
/// … and of the 4-bit float of bitsandbytes.
#[rustfmt::skip]
const FP4: [f64; 16] = [
    0.0, 5.208333333e-3, 0.66666667, 1.0, 0.33333333, 0.5, 0.16666667, 0.25,
    -0.0, -5.208333333e-3, -0.66666667, -1.0, -0.33333333, -0.5, -0.16666667, -0.25,
];

/// Weights in blocks of the flat [N, K] array: a table entry times the block's largest magnitude.
fn mat_mul_bnb4(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let (n, k, block) = (size(c, "N")?, size(c, "K")?, size(c, "block_size")?);
    let table = match c.attrs.int_or("quant_type", 1)? {
        0 => FP4,
        1 => NF4,
        other => bail!(invalid, "`quant_type` {other}"),
    };
    let (codes, scales) = (constant(c, 1, "packed weights")?, constant(c, 2, "scales of weights")?);
    let (bytes, scales) = (codes.bytes(), scales.to_f64_vec()?);
    let count = n.checked_mul(k).ok_or_else(|| Error::invalid("weights that overflow"))?;
    if bytes.len() != count.div_ceil(2) || scales.len() != count.div_ceil(block) {
        bail!(invalid, "{} bytes and {} scales for {n} x {k} weights", bytes.len(), scales.len());
    }
    // The first code of a byte is in its high bits.
    let value = |i: usize| {
        let code = if i.is_multiple_of(2) { bytes[i / 2] >> 4 } else { bytes[i / 2] & 15 };
        table[code as usize] * scales[i / block]
    };
    let values: Vec<f64> = (0..count).map(value).collect();
    let transposed = c.attrs.bool_or("transB", true)?;
    let shape = if transposed { [n, k] } else { [k, n] };
    let dtype = c.b.dtype(c.input(0)?)?;
    let weights = c.b.constant(Tensor::from_f64(dtype, &shape, &values)?);
    let weights = if transposed { c.turned(weights)? } else { weights };
    one(c.call("MatMul", &[c.input(0)?, weights])?)
}

/// Gathers of a table in blocks: restored, then gathered.
fn gather_block_quantized(c: &mut Call) -> Result<Vec<Option<ValueId>>> {
    let bits = c.attrs.int_or("bits", 4)?;
    let (data, scales) = (c.input(0)?, c.input(2)?);
    let block = c.attrs.int_or("block_size", 128)?;
    if block < 1 {
        bail!(unsupported, "a table in one block");
    }
    let quantize_axis = c.attrs.int_or("quantize_axis", 1)?;
    let (data, zero) = if c.b.dtype(data)? == DType::U8 && bits < 8 {
        // Codes packed into bytes along the last axis.
        let dtype = packed_type(bits)?;
        let per_byte = (8 / bits) as usize;
        let unpacked = |t: &Tensor, last: usize| -> Result<Tensor> {
            let rows = t.shape()[..t.rank().saturating_sub(1)].iter().product();
            let flat = unpadded(t.bytes(), dtype, rows, last)?;
            let shape: Vec<usize> = t.shape().iter().rev().skip(1).rev().copied().chain([last]).collect();
            flat.reshaped(&shape)
        };
        let t = constant(c, 0, "packed tables")?;
        let width = t.shape().last().copied().unwrap_or(1) * per_byte;
        let table = unpacked(&t, width)?;
        let blocks =
            c.b.dims(scales)?
                .last()
                .and_then(|d| d.as_size())
                .ok_or_else(|| Error::unsupported("scales of unknown size"))?;
        let zero = match c.opt(3) {
            Some(_) => unpacked(&constant(c, 3, "packed zero points")?, blocks)?,
            None => {
                let shape = c.b.dims(scales)?.iter().map(|d| d.as_size()).collect::<Option<Vec<_>>>();
                let shape = shape.ok_or_else(|| Error::unsupported("scales of unknown size"))?;
                let n = oxrt_tensor::num_elements(&shape)?;
                Tensor::from_i64(dtype, &shape, &vec![1 << (bits - 1); n])?
            }
        };
        (c.b.constant(table), Some(c.b.constant(zero)))
    } else {
        (data, c.opt(3))
    };
    let attrs = Attrs::new().with("axis", quantize_axis).with("block_size", block);
    let table = c.b.op_multi("DequantizeLinear", &[Some(data), Some(scales), zero], attrs, 1)?[0];
    let attrs = Attrs::new().with("axis", c.attrs.int_or("gather_axis", 0)?);
    one(c.b.op("Gather", &[table, c.input(1)?], attrs)?)
}
