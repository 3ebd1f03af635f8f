//! Diagonals, triangles, distances and small linear algebra.

use crate::alias::{Shown, View};
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, Tensor, ValueId};
use oxrt_tensor::{Result, bail};

/// Order of axes that moves two to the end.
fn to_end(rank: usize, axes: (usize, usize)) -> Vec<usize> {
    let mut perm: Vec<usize> = (0..rank).filter(|&i| i != axes.0 && i != axes.1).collect();
    perm.extend([axes.0, axes.1]);
    perm
}

/// Places of a diagonal in the flattened matrix.
fn diagonal_places(cx: &mut Cx, rows: &Dim, columns: &Dim, offset: i64) -> Result<(ValueId, Dim)> {
    let (r0, c0) = ((-offset).max(0), offset.max(0));
    let zero = Dim::Const(0);
    let n = (rows.clone() - r0).at_most(&(columns.clone() - c0)).at_least(&zero);
    let i = super::create::range(cx, &n)?;
    let step = cx.dim_scalar(&(columns.clone() + 1))?;
    let start = cx.dim_scalar(&(columns.clone() * r0 + c0))?;
    let i = cx.call("Mul", &[i, step])?;
    Ok((cx.call("Add", &[i, start])?, n))
}

pub(crate) fn diagonal(cx: &mut Cx, x: ValueId, offset: i64, axes: (usize, usize)) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let y = cx.b.transpose(x, &to_end(rank, axes))?;
    let mut dims = cx.dims(y)?;
    let (rows, columns) = (dims[rank - 2].clone(), dims[rank - 1].clone());
    let (places, _) = diagonal_places(cx, &rows, &columns, offset)?;
    dims.truncate(rank - 2);
    dims.push(rows * columns);
    let flat = cx.reshape(y, &dims)?;
    cx.op("Gather", &[flat, places], Attrs::new().with("axis", rank as i64 - 2))
}

/// `x` with its diagonal replaced.
pub(crate) fn diagonal_scatter(
    cx: &mut Cx,
    x: ValueId,
    value: ValueId,
    offset: i64,
    axes: (usize, usize),
) -> Result<ValueId> {
    let rank = cx.rank(x)?;
    let perm = to_end(rank, axes);
    let y = cx.b.transpose(x, &perm)?;
    let full = cx.dims(y)?;
    let (rows, columns) = (full[rank - 2].clone(), full[rank - 1].clone());
    let (places, _) = diagonal_places(cx, &rows, &columns, offset)?;
    let mut dims = full[..rank - 2].to_vec();
    dims.push(rows * columns);
    let flat = cx.reshape(y, &dims)?;
    let flat = crate::alias::scatter_axis(cx, flat, value, rank - 2, places)?;
    let y = cx.reshape(flat, &full)?;
    let mut back = vec![0; rank];
    perm.iter().enumerate().for_each(|(i, &p)| back[p] = i);
    cx.b.transpose(y, &back)
}

/// `diagonal(Tensor self, int offset=0, int dim1=0, int dim2=1)`
pub fn diagonal_view(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("self")?;
    let axes = (cx.axis(x, a.int("dim1")?)?, cx.axis(x, a.int("dim2")?)?);
    Ok(View::Diagonal { offset: a.int("offset")?, axes }.into())
}

/// `linalg_diagonal(Tensor A, *, int offset=0, int dim1=-2, int dim2=-1)`
pub fn linalg_diagonal(cx: &mut Cx, a: &Args) -> Result<Shown> {
    let x = a.t("A")?;
    let axes = (cx.axis(x, a.int("dim1")?)?, cx.axis(x, a.int("dim2")?)?);
    Ok(View::Diagonal { offset: a.int("offset")?, axes }.into())
}

/// `diagflat(Tensor self, int offset=0)`
pub fn diagflat(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let n = cx.dims(x)?.into_iter().product();
    let flat = cx.reshape(x, &[n])?;
    embed(cx, flat, a.int("offset")?)
}

/// `diagonal_scatter(Tensor self, Tensor src, int offset=0, int dim1=0, int dim2=1)`
pub fn diagonal_scatter_op(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let axes = (cx.axis(x, a.int("dim1")?)?, cx.axis(x, a.int("dim2")?)?);
    diagonal_scatter(cx, x, a.t("src")?, a.int("offset")?, axes)
}

/// `fill_diagonal(Tensor self, Scalar fill_value, bool wrap=False)`
pub fn fill_diagonal(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    if cx.rank(x)? != 2 || a.bool("wrap")? {
        bail!(unsupported, "fill_diagonal of a tensor of rank {}", cx.rank(x)?);
    }
    let on = on_diagonal(cx, &cx.dims(x)?, 0)?;
    let v = crate::promote::scalar_value(cx, &a.scalar("fill_value")?, cx.dtype(x)?)?;
    super::elementwise::select(cx, on, v, x)
}

/// Matrix of booleans: `column - row == offset`.
fn on_diagonal(cx: &mut Cx, dims: &[Dim], offset: i64) -> Result<ValueId> {
    let n = dims.len();
    let (rows, columns) = (super::create::range(cx, &dims[n - 2])?, super::create::range(cx, &dims[n - 1])?);
    let shift = cx.b.scalar(DType::I64, offset as f64)?;
    let rows = cx.call("Add", &[rows, shift])?;
    let rows = cx.b.unsqueeze(rows, &[1])?;
    cx.call("Equal", &[rows, columns])
}

/// `diag_embed(Tensor self, int offset=0, int dim1=-2, int dim2=-1)`
pub fn diag_embed(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let rank = cx.rank(x)? + 1;
    let axis = |name| oxrt_ops::shape::axis(a.int(name)?, rank);
    let (rows, columns) = (axis("dim1")?, axis("dim2")?);
    let y = embed(cx, x, a.int("offset")?)?;
    let mut others = 0..rank - 2;
    let perm: Vec<usize> = (0..rank)
        .map(|i| match i {
            i if i == rows => rank - 2,
            i if i == columns => rank - 1,
            _ => others.next().unwrap_or_default(),
        })
        .collect();
    cx.b.transpose(y, &perm)
}

fn embed(cx: &mut Cx, x: ValueId, offset: i64) -> Result<ValueId> {
    let rank = cx.rank(x)? + 1;
    let pad = [Dim::Const(0), Dim::Const(offset.abs())];
    let x = super::resize::pad_values(cx, x, &pad, "constant", None)?;
    let n = cx.size(x, rank - 2)?;
    // Element i stands in row i (offset ≥ 0) or in column i.
    let x = cx.b.unsqueeze(x, &[if offset >= 0 { -1 } else { -2 }])?;
    let on = on_diagonal(cx, &[n.clone(), n], offset)?;
    let zero = cx.like(x, 0.0)?;
    super::elementwise::select(cx, on, x, zero)
}

/// `diag(Tensor self, int diagonal=0)`
pub fn diag(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, offset) = (a.t("self")?, a.int("diagonal")?);
    if cx.rank(x)? == 1 { embed(cx, x, offset) } else { diagonal(cx, x, offset, (0, 1)) }
}

/// `trace(Tensor self)`
pub fn trace(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let d = diagonal(cx, a.t("self")?, 0, (0, 1))?;
    cx.reduce("ReduceSum", d, &[0], false)
}

fn triangle(cx: &mut Cx, a: &Args, upper: bool) -> Result<ValueId> {
    let (x, k) = (a.t("self")?, a.dim("diagonal")?);
    let k = cx.dim_scalar(&k)?;
    cx.op("Trilu", &[x, k], Attrs::new().with("upper", upper))
}

/// `tril(Tensor self, SymInt diagonal=0)`
pub fn tril(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    triangle(cx, a, false)
}

/// `triu(Tensor self, SymInt diagonal=0)`
pub fn triu(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    triangle(cx, a, true)
}

fn triangle_indices(cx: &mut Cx, a: &Args, lower: bool) -> Result<ValueId> {
    let (rows, columns, offset) = (a.int("row")?, a.int("col")?, a.int("offset")?);
    if !(0..=4096).contains(&rows) || !(0..=4096).contains(&columns) {
        bail!(unsupported, "triangle indices of a {rows} × {columns} matrix");
    }
    let inside = |r: i64, c: i64| if lower { c - r <= offset } else { c - r >= offset };
    let all: Vec<(i64, i64)> =
        (0..rows).flat_map(|r| (0..columns).map(move |c| (r, c))).filter(|&(r, c)| inside(r, c)).collect();
    let values: Vec<i64> = all.iter().map(|p| p.0).chain(all.iter().map(|p| p.1)).collect();
    let t = Tensor::from_i64(a.out_dtype()?, &[2, all.len()], &values)?;
    Ok(cx.b.constant(t))
}

/// `tril_indices(int row, int col, int offset=0, …)`
pub fn tril_indices(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    triangle_indices(cx, a, true)
}

/// `triu_indices(int row, int col, int offset=0, …)`
pub fn triu_indices(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    triangle_indices(cx, a, false)
}

/// `linalg_det(Tensor A)`, `_linalg_det -> (result, LU, pivots)`
pub fn det(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let x = if a.has("A") { a.t("A")? } else { a.t("self")? };
    Ok(vec![cx.call("Det", &[x])?])
}

/// `linalg_matrix_power(Tensor self, int n)`
pub fn matrix_power(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut x, mut n) = (a.t("self")?, a.int("n")?);
    if n < 0 {
        (x, n) = (super::linalg::inverse_of(cx, x)?, -n);
    }
    match n {
        0 => {
            let dims = cx.dims(x)?;
            let on = on_diagonal(cx, &dims, 0)?;
            let eye = cx.cast(on, cx.dtype(x)?)?;
            cx.expand(eye, &dims)
        }
        1..=64 => {
            let mut y = x;
            for _ in 1..n {
                y = cx.call("MatMul", &[y, x])?;
            }
            Ok(y)
        }
        _ => bail!(unsupported, "the matrix power {n}"),
    }
}

/// `linalg_cross(Tensor self, Tensor other, *, int dim=-1)`
pub fn cross(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("self")?, a.t("other")?);
    let axis = cx.axis(x, a.int("dim")?)?;
    cross_values(cx, x, y, axis)
}

pub(crate) fn cross_values(cx: &mut Cx, x: ValueId, y: ValueId, axis: usize) -> Result<ValueId> {
    let turn = |cx: &mut Cx, v: ValueId, order: [i64; 3]| -> Result<ValueId> {
        let i = cx.b.ints(&order);
        cx.op("Gather", &[v, i], Attrs::new().with("axis", axis as i64))
    };
    let (x1, y2) = (turn(cx, x, [1, 2, 0])?, turn(cx, y, [2, 0, 1])?);
    let (x2, y1) = (turn(cx, x, [2, 0, 1])?, turn(cx, y, [1, 2, 0])?);
    let (p, q) = (cx.call("Mul", &[x1, y2])?, cx.call("Mul", &[x2, y1])?);
    cx.call("Sub", &[p, q])
}

/// `cdist(Tensor x1, Tensor x2, float p=2, int? compute_mode=None)`, `_cdist_forward`
pub fn cdist(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y) = (a.t("x1")?, a.t("x2")?);
    let x = cx.b.unsqueeze(x, &[-2])?;
    let y = cx.b.unsqueeze(y, &[-3])?;
    let d = cx.call("Sub", &[x, y])?;
    let rank = cx.rank(d)?;
    super::reduce::norm_of(cx, d, a.float("p")?, &[rank - 1], false)
}

/// `pdist(Tensor self, float p=2)`, `_pdist_forward`: pairs of rows
pub fn pdist(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("self")?;
    let (i, j) = match cx.size(x, 0)?.as_const() {
        Some(n @ 0..=2048) => {
            let pairs: Vec<(i64, i64)> = (0..n).flat_map(|i| (i + 1..n).map(move |j| (i, j))).collect();
            let (i, j): (Vec<i64>, Vec<i64>) = pairs.into_iter().unzip();
            (cx.b.ints(&i), cx.b.ints(&j))
        }
        _ => {
            // The places above the diagonal, row by row.
            let n = cx.size(x, 0)?;
            let columns = super::create::range(cx, &n)?;
            let rows = cx.b.unsqueeze(columns, &[1])?;
            let above = cx.call("Less", &[rows, columns])?;
            let places = cx.call("NonZero", &[above])?;
            let count =
                a.out_dims()?.into_iter().next().ok_or_else(|| oxrt_tensor::Error::invalid("pdist of rank 0"))?;
            cx.b.graph[places].ty = oxrt_ir::ValueType::tensor(DType::I64, vec![Dim::Const(2), count]);
            let (zero, one) = (cx.b.scalar(DType::I64, 0.0)?, cx.b.scalar(DType::I64, 1.0)?);
            (cx.call("Gather", &[places, zero])?, cx.call("Gather", &[places, one])?)
        }
    };
    let u = cx.op("Gather", &[x, i], Attrs::new().with("axis", 0))?;
    let v = cx.op("Gather", &[x, j], Attrs::new().with("axis", 0))?;
    let d = cx.call("Sub", &[u, v])?;
    super::reduce::norm_of(cx, d, a.float("p")?, &[1], false)
}

/// `pairwise_distance(Tensor x1, Tensor x2, float p=2, float eps=1e-06, bool keepdim=False)`
pub fn pairwise_distance(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (x, y, dtype) = crate::promote::pair(cx, a, "x1", "x2")?;
    let d = cx.call("Sub", &[x, y])?;
    let d = cx.cast(d, crate::promote::float_of(dtype))?;
    let eps = cx.like(d, a.float("eps")?)?;
    let d = cx.call("Add", &[d, eps])?;
    let rank = cx.rank(d)?;
    super::reduce::norm_of(cx, d, a.float("p")?, &[rank - 1], a.bool("keepdim")?)
}

/// `dist(Tensor self, Tensor other, Scalar p=2)`
pub fn dist(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let d = cx.call("Sub", &[a.t("self")?, a.t("other")?])?;
    super::reduce::norm_of(cx, d, a.float("p")?, &[], false)
}

/// `block_diag(Tensor[] tensors)`
pub fn block_diag(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut blocks = Vec::new();
    for v in a.ts("tensors")? {
        let dims = cx.dims(v)?;
        let two = match dims.len() {
            0 => vec![Dim::Const(1), Dim::Const(1)],
            1 => vec![Dim::Const(1), dims[0].clone()],
            _ => dims,
        };
        blocks.push(cx.reshape(v, &two)?);
    }
    let widths = blocks.iter().map(|&v| cx.size(v, 1)).collect::<Result<Vec<_>>>()?;
    let total: Dim = widths.iter().cloned().sum();
    let mut before = Dim::Const(0);
    let mut rows = Vec::new();
    for (v, w) in blocks.into_iter().zip(widths) {
        let after = total.clone() - before.clone() - w.clone();
        rows.push(super::resize::pad_values(cx, v, &[before.clone(), after], "constant", None)?);
        before = before + w;
    }
    cx.concat(&rows, 0)
}

/// `vander(Tensor x, int? N=None, bool increasing=False)`
pub fn vander(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let x = a.t("x")?;
    let dims = a.out_dims()?;
    let Some(n) = dims.last() else { bail!(invalid, "vander of rank 0") };
    let mut powers = super::create::range(cx, n)?;
    // torch.linalg's rises, the older one falls unless asked otherwise.
    if !a.target.contains("linalg") && !a.bool("increasing")? {
        powers = super::shape::flip_axes(cx, powers, &[0])?;
    }
    let dtype = a.out_dtype()?;
    let (powers, x) = (cx.cast(powers, dtype)?, cx.cast(x, dtype)?);
    let x = cx.b.unsqueeze(x, &[-1])?;
    let y = cx.call("Pow", &[x, powers])?;
    cx.reshape(y, &dims)
}
