//! RotaryEmbedding (Su et al., 2021): pairs of features turned by the angle of their position.

use super::{replace, where_sizes_allow, widened};
use crate::driver::{Rewrite, Rule};
use oxrt_ir::{Attrs, Dim, NodeId, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{Error, Result};

pub(crate) const RULE: Rule = Rule { name: "lower-rotary-embedding", ops: &["RotaryEmbedding"], apply };

fn apply(rw: &mut Rewrite, id: NodeId) -> Result<bool> {
    let g = &rw.model.graph;
    let (Some(x), Some(cos), Some(sin)) = (g[id].input(0), g[id].input(1), g[id].input(2)) else { return Ok(false) };
    let (positions, attrs) = (g[id].input(3), g[id].attrs.clone());
    // A table that states its width says how many features turn; they must be there.
    let new = turned(&mut rw.builder(id), x, [cos, sin], positions, &attrs);
    let Some(new) = where_sizes_allow(new)? else { return Ok(false) };
    replace(&mut rw.model.graph, id, new);
    Ok(true)
}

fn turned(
    b: &mut Builder,
    x: ValueId,
    tables: [ValueId; 2],
    positions: Option<ValueId>,
    attrs: &Attrs,
) -> Result<ValueId> {
    b.note_symbols(x);
    let (dtype, dims) = (b.dtype(x)?, b.dims(x)?);
    let unknown = || Error::unsupported("rotary features without a fixed size");
    // The axis of the heads, and the features of one.
    let (heads_axis, parts) = match &dims[..] {
        [_, _, _, _] => (1, x),
        [batch, length, features] => {
            let heads = attrs.int_or("num_heads", 0)?;
            let size = features.as_const().filter(|f| heads > 0 && f % heads == 0).ok_or_else(unknown)? / heads;
            (2, b.reshape(x, &[batch.clone(), length.clone(), Dim::Const(heads), Dim::Const(size)])?)
        }
        _ => return Err(unknown()),
    };
    let parts_dims = b.dims(parts)?;
    let size = parts_dims[3].as_const().ok_or_else(unknown)?;
    let rotated = match attrs.int_or("rotary_embedding_dim", 0)? {
        0 => size,
        n => n,
    };
    let half = rotated / 2;
    if rotated < 2 || rotated % 2 != 0 || rotated > size {
        return Err(unknown());
    }
    let mut angles = [x; 2];
    for (angle, table) in angles.iter_mut().zip(tables) {
        // Without positions the tables are [batch, length, half] already.
        if b.dims(table)?.last().is_none_or(|d| !d.is(half))
            || b.rank(table)? != if positions.is_some() { 2 } else { 3 }
        {
            return Err(unknown());
        }
        let rows = match positions {
            Some(p) => b.op("Gather", &[table, p], Attrs::new().with("axis", 0))?,
            None => table,
        };
        let wide = widened(b, rows)?;
        *angle = b.unsqueeze(wide, &[heads_axis])?;
    }
    let wide = widened(b, parts)?;
    let cut = |b: &mut Builder, from: i64, to: i64, step: i64| -> Result<ValueId> {
        let (from, to, axis, step) = (b.ints(&[from]), b.ints(&[to]), b.ints(&[3]), b.ints(&[step]));
        b.call("Slice", &[wide, from, to, axis, step])
    };
    let interleaved = attrs.bool_or("interleaved", false)?;
    let (real, imaginary) = if interleaved {
        (cut(b, 0, rotated, 2)?, cut(b, 1, rotated, 2)?)
    } else {
        (cut(b, 0, half, 1)?, cut(b, half, rotated, 1)?)
    };
    let [cos, sin] = angles;
    let mul = |b: &mut Builder, p: ValueId, q: ValueId| b.call("Mul", &[p, q]);
    let (rc, is) = (mul(b, real, cos)?, mul(b, imaginary, sin)?);
    let (rs, ic) = (mul(b, real, sin)?, mul(b, imaginary, cos)?);
    let (mut first, mut second) = (b.call("Sub", &[rc, is])?, b.call("Add", &[rs, ic])?);
    if interleaved {
        (first, second) = (b.unsqueeze(first, &[4])?, b.unsqueeze(second, &[4])?);
    }
    let joined = b.op("Concat", &[first, second], Attrs::new().with("axis", -1))?;
    let mut whole = parts_dims;
    whole[3] = Dim::Const(rotated);
    let mut y = b.reshape(joined, &whole)?;
    if rotated < size {
        let rest = cut(b, rotated, size, 1)?;
        y = b.op("Concat", &[y, rest], Attrs::new().with("axis", -1))?;
    }
    let y = b.reshape(y, &dims)?;
    b.cast(y, dtype)
}
