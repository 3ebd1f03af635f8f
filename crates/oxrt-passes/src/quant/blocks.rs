//! Products with constant weights, and rows of constant tables, that were quantised in blocks: the codes stay as they are.

use crate::driver::{Rewrite, Rule};
use crate::query::{made_by, perm_of};
use oxrt_ir::{Attrs, DType, Graph, NodeId, ValueId};
use oxrt_ops::copy::permute;
use oxrt_tensor::{Result, Tensor};

pub(crate) const PRODUCT: Rule = Rule { name: crate::BLOCK_WEIGHTS, ops: &["Gemm", "MatMul"], apply };

pub(crate) const GATHER: Rule = Rule { name: crate::BLOCK_TABLE, ops: &["Gather"], apply: gather };

/// Weights in blocks along their last axis.
struct Blocks {
    /// Unsigned codes [N, K].
    codes: Tensor,
    /// Scales [N, blocks].
    scale: Tensor,
    /// Zero points [N, blocks] as reals, of the scales' type.
    zero: Tensor,
    block: i64,
}

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(x), Some(w), Some(y)) = (node.input(0), node.input(1), node.output(0)) else { return Ok(false) };
    let plain = node.attrs.float_or("alpha", 1.0)? == 1.0
        && node.attrs.float_or("beta", 1.0)? == 1.0
        && !node.attrs.bool_or("transA", false)?;
    let turned = &*node.op == "Gemm" && node.attrs.bool_or("transB", false)?;
    let (w, flipped) = match made_by(g, w, "Transpose") {
        Some(t) if perm_of(g, t) == Some(vec![1, 0]) => match g[t].input(0) {
            Some(inner) => (inner, true),
            None => return Ok(false),
        },
        _ => (w, false),
    };
    if !plain || g.dims(x).is_none_or(|d| d.len() < 2) || g[x].is_constant() {
        return Ok(false);
    }
    let Some(blocks) = blocks(g, w, turned != flipped)? else { return Ok(false) };
    let n = blocks.codes.shape()[0];
    let dtype = blocks.scale.dtype();
    let bias = match node.input(2) {
        None => None,
        Some(b) => match g.constant(b).filter(|t| t.dtype() == dtype && t.shape().last() == Some(&n) && t.len() == n) {
            Some(t) => Some(t.reshaped(&[n])?),
            None => return Ok(false),
        },
    };
    if g[x].ty.dtype() != Some(dtype) {
        return Ok(false);
    }
    let mut b = rw.builder(id);
    let bias = bias.map(|t| b.constant(t));
    let (codes, scale) = (b.constant(blocks.codes), b.constant(blocks.scale));
    let zero = b.constant(blocks.zero);
    let attrs = Attrs::new().with("block_size", blocks.block);
    let out = b.op_multi("oxrt.BlockGemm", &[Some(x), Some(codes), bias, Some(scale), Some(zero)], attrs, 1)?[0];
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

fn gather(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let node = &g[id];
    let (Some(table), Some(ids), Some(y)) = (node.input(0), node.input(1), node.output(0)) else { return Ok(false) };
    if node.attrs.int_or("axis", 0)?.rem_euclid(2) != 0 || g[ids].is_constant() {
        return Ok(false);
    }
    let Some(blocks) = blocks(g, table, true)? else { return Ok(false) };
    let mut b = rw.builder(id);
    let (codes, scale, zero) = (b.constant(blocks.codes), b.constant(blocks.scale), b.constant(blocks.zero));
    let attrs = Attrs::new().with("block_size", blocks.block);
    let out = b.op("oxrt.GatherBlocks", &[codes, ids, scale, zero], attrs)?;
    let g = &mut rw.model.graph;
    g.remove_node(id);
    g.replace_value(y, out);
    Ok(true)
}

/// What stands behind `v`, a matrix [N, K] (`by_rows`) or [K, N], when it is quantised in blocks along K.
fn blocks(g: &Graph, v: ValueId, by_rows: bool) -> Result<Option<Blocks>> {
    let (id, offset) = match (made_by(g, v, "DequantizeLinear"), moved(g, v)) {
        (Some(id), _) => (id, None),
        (None, Some((id, offset))) if by_rows => (id, Some(offset)),
        _ => return Ok(None),
    };
    let node = &g[id];
    let constant = |i: usize| node.input(i).and_then(|v| g.constant(v)).filter(|t| t.rank() == 2);
    let (Some(codes), Some(scale)) = (constant(0), constant(1)) else { return Ok(None) };
    let zero = match node.input(2) {
        None => None,
        Some(_) => match constant(2) {
            Some(z) => Some(z),
            None => return Ok(None),
        },
    };
    let half = match codes.dtype() {
        DType::I2 => Some(2),
        DType::I4 => Some(8),
        DType::I8 => Some(128),
        DType::U2 | DType::U4 | DType::U8 => None,
        _ => return Ok(None),
    };
    let block = node.attrs.int_or("block_size", 0)?;
    let axis = node.attrs.int_or("axis", 1)?.rem_euclid(2);
    let real = node.output(0).and_then(|y| g[y].ty.dtype());
    if axis != i64::from(by_rows) || block < 16 || block & (block - 1) != 0 || real != Some(scale.dtype()) {
        return Ok(None);
    }
    let by_columns = |t: &Tensor| if by_rows { Ok(t.clone()) } else { permute(t, &[1, 0]) };
    let (codes, scale) = (by_columns(codes)?, by_columns(scale)?);
    let &[n, k] = codes.shape() else { return Ok(None) };
    if scale.shape() != [n, k.div_ceil(block as usize)] || zero.is_some_and(|z| z.len() != scale.len()) {
        return Ok(None);
    }
    let mut zeros = zero.map_or(Ok(vec![0.0; scale.len()]), |z| by_columns(z)?.to_f64_vec())?;
    let codes = match half {
        None => codes,
        Some(half) => {
            // Signed codes move up by half of their range: their highest bit turns.
            zeros.iter_mut().for_each(|z| *z += f64::from(half));
            let (unsigned, turn) = match codes.dtype() {
                DType::I2 => (DType::U2, 0xaa),
                DType::I4 => (DType::U4, 0x88),
                _ => (DType::U8, 0x80),
            };
            let bytes: Vec<u8> = codes.bytes().iter().map(|b| b ^ turn).collect();
            Tensor::from_bytes(unsigned, codes.shape(), &bytes)?
        }
    };
    if let Some(offset) = offset {
        if offset.len() != scale.len() {
            return Ok(None);
        }
        // (code - zero) · scale - offset = (code - (zero + offset / scale)) · scale
        for ((z, o), s) in zeros.iter_mut().zip(offset.to_f64_vec()?).zip(scale.to_f64_vec()?) {
            match (o, s) {
                (0.0, _) => {}
                (_, 0.0) => return Ok(None),
                _ => *z += o / s,
            }
        }
    }
    let zero = Tensor::from_f64(scale.dtype(), scale.shape(), &zeros)?;
    Ok(Some(Blocks { codes, scale, zero, block }))
}

/// The DequantizeLinear from whose result, in blocks, a constant per block is taken: zero points that are no codes.
fn moved(g: &Graph, v: ValueId) -> Option<(NodeId, &Tensor)> {
    let less = made_by(g, g[made_by(g, v, "Reshape")?].input(0)?, "Sub")?;
    let offset = g.constant(g[less].input(1)?)?;
    let grouped = made_by(g, g[less].input(0)?, "Reshape")?;
    let &[n, blocks, block] = &g.dims(g[less].input(0)?)?.iter().map(|d| d.as_size()).collect::<Option<Vec<_>>>()?[..]
    else {
        return None;
    };
    let id = made_by(g, g[grouped].input(0)?, "DequantizeLinear")?;
    let whole = g.dims(v)?.iter().map(|d| d.as_size()).collect::<Option<Vec<_>>>()?;
    let same = whole == [n, blocks * block] && g[id].attrs.int_or("block_size", 0).ok()? == block as i64;
    (same && offset.shape() == [n, blocks, 1]).then_some((id, offset))
}
