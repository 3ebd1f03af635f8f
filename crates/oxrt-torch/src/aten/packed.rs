//! Sequences of different lengths, packed: the rows of all sequences at each time one after another, and how many there are at each time.

use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, ValueId};
use oxrt_tensor::Result;

/// `0 … n-1` for a number of the graph.
fn count_to(cx: &mut Cx, n: ValueId) -> Result<ValueId> {
    let (zero, one) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, 1.0)?);
    cx.call("Range", &[zero, n, one])
}

/// Where in the packed rows each sequence's row at each time stands, and whether it has one: `[time, batch]`.
fn places(cx: &mut Cx, sizes: ValueId) -> Result<(ValueId, ValueId)> {
    let zero = cx.b.scalar(DType::I64, 0.0)?;
    let batch = cx.op("Gather", &[sizes, zero], Attrs::new().with("axis", 0))?;
    let columns = count_to(cx, batch)?;
    let column = cx.b.unsqueeze(sizes, &[1])?;
    let mask = cx.call("Less", &[columns, column])?;
    let ends = cx.call("CumSum", &[sizes, zero])?;
    let starts = cx.call("Sub", &[ends, sizes])?;
    let starts = cx.b.unsqueeze(starts, &[1])?;
    let at = cx.call("Add", &[starts, columns])?;
    Ok((cx.call("Where", &[mask, at, zero])?, mask))
}

/// The rows of `x` (`[time, batch, …]`) that `mask` names.
fn chosen(cx: &mut Cx, x: ValueId, mask: ValueId) -> Result<ValueId> {
    let dims = cx.dims(x)?;
    let mut flat = vec![dims[0].clone() * dims[1].clone()];
    flat.extend_from_slice(&dims[2..]);
    let rows = cx.reshape(x, &flat)?;
    let mask = cx.reshape(mask, &flat[..1])?;
    cx.op("Compress", &[rows, mask], Attrs::new().with("axis", 0))
}

/// Packed rows as `[time, batch, …]`, with rows of no meaning where a sequence has ended, and the lengths.
pub(crate) fn unpack(cx: &mut Cx, data: ValueId, sizes: ValueId) -> Result<(ValueId, ValueId)> {
    let (at, mask) = places(cx, sizes)?;
    let x = cx.op("Gather", &[data, at], Attrs::new().with("axis", 0))?;
    Ok((x, lengths(cx, mask)?))
}

fn lengths(cx: &mut Cx, mask: ValueId) -> Result<ValueId> {
    let ones = cx.cast(mask, DType::I64)?;
    cx.reduce("ReduceSum", ones, &[0], false)
}

/// `x` (`[time, batch, …]`) packed again as `sizes` says.
pub(crate) fn repack(cx: &mut Cx, x: ValueId, sizes: ValueId) -> Result<ValueId> {
    let (_, mask) = places(cx, sizes)?;
    chosen(cx, x, mask)
}

/// `_pack_padded_sequence(Tensor input, Tensor lengths, bool batch_first) -> (data, batch_sizes)`
pub fn pack(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let mut x = a.t("input")?;
    if a.bool("batch_first")? {
        let mut perm: Vec<usize> = (0..cx.rank(x)?).collect();
        perm.swap(0, 1);
        x = cx.b.transpose(x, &perm)?;
    }
    let lengths = cx.cast(a.t("lengths")?, DType::I64)?;
    let time = cx.size(x, 0)?;
    let time = cx.dim_scalar(&time)?;
    let times = count_to(cx, time)?;
    let times = cx.b.unsqueeze(times, &[1])?;
    let mask = cx.call("Less", &[times, lengths])?;
    let data = chosen(cx, x, mask)?;
    let ones = cx.cast(mask, DType::I64)?;
    let sizes = cx.reduce("ReduceSum", ones, &[1], false)?;
    // Times beyond the longest sequence have no rows and are not listed.
    let some = cx.cast(sizes, DType::Bool)?;
    let sizes = cx.op("Compress", &[sizes, some], Attrs::new().with("axis", 0))?;
    Ok(vec![data, sizes])
}

/// `_pad_packed_sequence(Tensor data, Tensor batch_sizes, bool batch_first, Scalar padding_value, int total_length) -> (output, lengths)`
pub fn pad(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (data, mut sizes) = (a.t("data")?, a.t("batch_sizes")?);
    let total = a.dim("total_length")?;
    let have = cx.size(sizes, 0)?;
    if total != have && total.as_const().is_none_or(|n| n > 0) {
        // More times than any sequence has: without rows.
        let more = total - have;
        let zero = cx.b.scalar(DType::I64, 0.0)?;
        let shape = cx.shape(&[more])?;
        let none = cx.call("Expand", &[zero, shape])?;
        sizes = cx.concat(&[sizes, none], 0)?;
    }
    let (at, mask) = places(cx, sizes)?;
    let x = cx.op("Gather", &[data, at], Attrs::new().with("axis", 0))?;
    let lengths = lengths(cx, mask)?;
    let rank = cx.rank(x)?;
    let wide: Vec<i64> = (2..rank as i64).collect();
    let mask = if wide.is_empty() { mask } else { cx.b.unsqueeze(mask, &wide)? };
    let dtype = cx.dtype(x)?;
    let padding = crate::promote::scalar_value(cx, &a.scalar("padding_value")?, dtype)?;
    let mut y = cx.call("Where", &[mask, x, padding])?;
    if a.bool("batch_first")? {
        let mut perm: Vec<usize> = (0..rank).collect();
        perm.swap(0, 1);
        y = cx.b.transpose(y, &perm)?;
    }
    Ok(vec![y, lengths])
}
