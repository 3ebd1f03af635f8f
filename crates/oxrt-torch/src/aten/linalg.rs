//! Dense linear algebra as graphs of ONNX operators.
//!
//! Matrices lie on the last two axes; leading axes are batches. Every algorithm is a `Loop` whose body works on
//! whole matrices, so sizes may be dynamic:
//!
//! * systems, inverses, determinants: Gauss–Jordan elimination with partial pivoting;
//! * LU, Cholesky, QR (Householder reflections with LAPACK's signs);
//! * eigenvalues and singular values: `spectral.rs`.
//!
//! Source: G. Golub & C. Van Loan, *Matrix Computations*, 4th ed., chapters 3, 4, 5.

use super::formula::F;
use super::hop::repeat;
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// Rows and columns, and the batch axes before them.
pub(crate) struct Size {
    pub batch: Vec<Dim>,
    pub rows: Dim,
    pub columns: Dim,
}

pub(crate) fn size(cx: &Cx, m: ValueId) -> Result<Size> {
    let mut dims = cx.dims(m)?;
    match (dims.pop(), dims.pop()) {
        (Some(columns), Some(rows)) => Ok(Size { batch: dims, rows, columns }),
        _ => bail!(invalid, "a matrix of rank below 2"),
    }
}

impl Size {
    fn with(&self, tail: &[&Dim]) -> Vec<Dim> {
        self.batch.iter().chain(tail.iter().copied()).cloned().collect()
    }
}

pub(crate) fn matrix(cx: &mut Cx, a: &Args, name: &str) -> Result<ValueId> {
    crate::promote::float_arg(cx, a, name)
}

/// The first of these arguments that the operator has.
pub(crate) fn first(cx: &mut Cx, a: &Args, names: &[&str]) -> Result<ValueId> {
    let name = names.iter().find(|n| a.has(n)).copied().unwrap_or("self");
    matrix(cx, a, name)
}

pub(crate) fn transposed(cx: &mut Cx, m: ValueId) -> Result<ValueId> {
    let rank = cx.rank(m)?;
    let mut perm: Vec<usize> = (0..rank).collect();
    perm.swap(rank - 1, rank - 2);
    cx.b.transpose(m, &perm)
}

/// The part at `index` (a scalar value) of an axis counted from the end.
pub(crate) fn at(cx: &mut Cx, m: ValueId, index: ValueId, from_end: usize) -> Result<ValueId> {
    let axis = (cx.rank(m)? - from_end) as i64;
    cx.op("Gather", &[m, index], Attrs::new().with("axis", axis))
}

pub(crate) fn column_vector(cx: &mut Cx, v: ValueId) -> Result<ValueId> {
    cx.b.unsqueeze(v, &[-1])
}

pub(crate) fn row_vector(cx: &mut Cx, v: ValueId) -> Result<ValueId> {
    cx.b.unsqueeze(v, &[-2])
}

pub(crate) fn last_axis_sum(cx: &mut Cx, v: ValueId, keep: bool) -> Result<ValueId> {
    let rank = cx.rank(v)?;
    cx.reduce("ReduceSum", v, &[rank - 1], keep)
}

/// The unit matrix of `n`, for every batch.
pub(crate) fn identity(cx: &mut Cx, n: &Dim, batch: &[Dim], dtype: DType) -> Result<ValueId> {
    let columns = super::create::range(cx, n)?;
    let rows = column_vector(cx, columns)?;
    let on = cx.call("Equal", &[rows, columns])?;
    let eye = cx.cast(on, dtype)?;
    let dims: Vec<Dim> = batch.iter().chain([n, n]).cloned().collect();
    cx.expand(eye, &dims)
}

fn zeros(cx: &mut Cx, dtype: DType, dims: &[Dim]) -> Result<ValueId> {
    super::create::filled(cx, dtype, dims, &crate::args::Scalar::Int(Dim::Const(0)))
}

fn ones(cx: &mut Cx, dtype: DType, dims: &[Dim]) -> Result<ValueId> {
    super::create::filled(cx, dtype, dims, &crate::args::Scalar::Int(Dim::Const(1)))
}

fn expand_batch(cx: &mut Cx, m: ValueId, batch: &[Dim]) -> Result<ValueId> {
    let s = size(cx, m)?;
    let dims: Vec<Dim> = batch.iter().chain([&s.rows, &s.columns]).cloned().collect();
    cx.expand(m, &dims)
}

pub(crate) fn triangle(cx: &mut Cx, m: ValueId, upper: bool, offset: i64) -> Result<ValueId> {
    let k = cx.b.scalar(DType::I64, offset as f64)?;
    cx.op("Trilu", &[m, k], Attrs::new().with("upper", upper))
}

// ---- systems ----

/// Gauss–Jordan elimination of `[m | b]`: `m⁻¹·b`, the sign of the determinant, and the logarithm of its size.
fn eliminate(cx: &mut Cx, m: ValueId, b: Option<ValueId>) -> Result<(ValueId, ValueId, ValueId)> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let joined = match b {
        Some(b) => {
            let axis = cx.rank(m)? - 1;
            cx.concat(&[m, b], axis)?
        }
        None => m,
    };
    let full = cx.dims(joined)?;
    let (sign, log) = (ones(cx, dtype, &s.batch)?, zeros(cx, dtype, &s.batch)?);
    let steps = cx.dim_scalar(&s.rows)?;
    let places = super::create::range(cx, &s.rows)?;
    let out = repeat(cx, "eliminate", steps, &[joined, sign, log], &[places], |cx, i, state, held| {
        let [m, sign, log] = state[..] else { bail!(bug, "elimination state") };
        let (rows, here) = (F::from(held[0]), F::from(i));
        // The largest element on or below the diagonal comes into the row of the step.
        let column = at(cx, m, i, 1)?;
        let below = rows.ge(&here);
        let score = below.pick(F::from(column).abs(), -1.0).emit(cx, dtype)?;
        let pivot = cx.op("ArgMax", &[score], Attrs::new().with("axis", -1).with("keepdims", 1))?;
        let p = F::from(pivot);
        let order = rows.equals(&here).pick(&p, rows.equals(&p).pick(&here, &rows)).emit(cx, DType::I64)?;
        let order = column_vector(cx, order)?;
        let order = cx.expand(order, &full)?;
        let m = cx.op("GatherElements", &[m, order], Attrs::new().with("axis", -2))?;
        let row = at(cx, m, i, 2)?;
        let d = at(cx, row, i, 1)?;
        let moved = cx.b.squeeze(pivot, &[-1])?;
        let swap = F::from(moved).equals(&here).pick(F::from(ones(cx, dtype, &[])?), -F::from(ones(cx, dtype, &[])?));
        let d = F::from(d);
        let sign = (F::from(sign) * d.sign() * swap).emit(cx, dtype)?;
        let log = (F::from(log) + d.abs().ln()).emit(cx, dtype)?;
        // A singular matrix shows in the determinant; the division must not spoil the rest.
        let d = d.equals(0.0).pick(1.0, &d).emit(cx, dtype)?;
        let d = column_vector(cx, d)?;
        let unit = cx.call("Div", &[row, d])?;
        let factors = at(cx, m, i, 1)?;
        let factors = column_vector(cx, factors)?;
        let unit = row_vector(cx, unit)?;
        let this = cx.call("Equal", &[held[0], i])?;
        let this = column_vector(cx, this)?;
        let rest = F::from(m) - F::from(factors) * F::from(unit);
        let m = F::from(this).pick(F::from(unit), rest).emit(cx, dtype)?;
        Ok(vec![m, sign, log])
    })?;
    let x = match b {
        Some(_) => {
            let axis = cx.rank(out[0])? - 1;
            cx.slice(out[0], axis, &s.columns, &Dim::Const(i64::MAX), 1)?
        }
        None => out[0],
    };
    Ok((x, out[1], out[2]))
}

/// `m⁻¹·b`, batches broadcast.
pub(crate) fn solve_values(cx: &mut Cx, m: ValueId, b: ValueId) -> Result<ValueId> {
    let batch = oxrt_ops::shape::broadcast_dims(&[&size(cx, m)?.batch, &size(cx, b)?.batch])?;
    let (m, b) = (expand_batch(cx, m, &batch)?, expand_batch(cx, b, &batch)?);
    Ok(eliminate(cx, m, Some(b))?.0)
}

pub(crate) fn inverse_of(cx: &mut Cx, m: ValueId) -> Result<ValueId> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let eye = identity(cx, &s.rows, &s.batch, dtype)?;
    Ok(eliminate(cx, m, Some(eye))?.0)
}

/// The error codes of LAPACK: none.
pub(crate) fn no_errors(cx: &mut Cx, like: ValueId) -> Result<ValueId> {
    let batch = size(cx, like)?.batch;
    zeros(cx, DType::I32, &batch)
}

/// `linalg_inv(Tensor A)`, `inverse`, `linalg_inv_ex(Tensor A, *, bool check_errors=False) -> (inverse, info)`
pub fn inv(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    Ok(vec![inverse_of(cx, m)?, no_errors(cx, m)?])
}

fn solve_args(cx: &mut Cx, a: &Args) -> Result<(ValueId, ValueId)> {
    let (m, mut b) = (matrix(cx, a, "A")?, matrix(cx, a, "B")?);
    let left = a.get("left").is_none() || a.bool("left")?;
    let (dims, bd) = (cx.dims(m)?, cx.dims(b)?);
    let vector = bd.len() == 1 || bd.len() + 1 == dims.len() && bd[..] == dims[..dims.len() - 1];
    if vector {
        b = column_vector(cx, b)?;
    }
    let x = match left {
        true => solve_values(cx, m, b)?,
        false => {
            let (m, b) = (transposed(cx, m)?, transposed(cx, b)?);
            let x = solve_values(cx, m, b)?;
            transposed(cx, x)?
        }
    };
    Ok((if vector { cx.b.squeeze(x, &[-1])? } else { x }, m))
}

/// `linalg_solve(Tensor A, Tensor B, *, bool left=True)`, `linalg_solve_ex -> (result, info)`
pub fn solve(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, m) = solve_args(cx, a)?;
    Ok(vec![x, no_errors(cx, m)?])
}

/// `_linalg_solve_ex(Tensor A, Tensor B, *, bool left=True, bool check_errors=False) -> (result, LU, pivots, info)`
pub fn solve_with_lu(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (x, m) = solve_args(cx, a)?;
    let mut out = vec![x];
    if (1..4).any(|i| a.used(cx, i)) {
        let (lu, pivots, _) = factor(cx, m)?;
        out.extend([lu, pivots, no_errors(cx, m)?]);
    }
    Ok(out)
}

/// `linalg_solve_triangular(Tensor self, Tensor B, *, bool upper, bool left=True, bool unitriangular=False)`
pub fn solve_triangular(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (m, b) = (matrix(cx, a, "self")?, matrix(cx, a, "B")?);
    let m = one_triangle(cx, m, a.bool("upper")?, a.bool("unitriangular")?)?;
    if a.get("left").is_none() || a.bool("left")? {
        return solve_values(cx, m, b);
    }
    let (m, b) = (transposed(cx, m)?, transposed(cx, b)?);
    let x = solve_values(cx, m, b)?;
    transposed(cx, x)
}

/// One triangle, with ones on the diagonal where the diagonal is not looked at.
fn one_triangle(cx: &mut Cx, m: ValueId, upper: bool, unit: bool) -> Result<ValueId> {
    if !unit {
        return triangle(cx, m, upper, 0);
    }
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let strict = triangle(cx, m, upper, if upper { 1 } else { -1 })?;
    let eye = identity(cx, &s.rows, &[], dtype)?;
    cx.call("Add", &[strict, eye])
}

/// `triangular_solve(Tensor self, Tensor A, bool upper=True, bool transpose=False, bool unitriangular=False)
/// -> (solution, cloned_coefficient)`
pub fn triangular_solve(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let (b, m) = (matrix(cx, a, "self")?, matrix(cx, a, "A")?);
    let upper = a.get("upper").is_none() || a.bool("upper")?;
    let mut t = one_triangle(cx, m, upper, a.bool("unitriangular")?)?;
    if a.bool("transpose")? {
        t = transposed(cx, t)?;
    }
    Ok(vec![solve_values(cx, t, b)?, m])
}

/// `cholesky_solve(Tensor self, Tensor input2, bool upper=False)`
pub fn cholesky_solve(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (b, l) = (matrix(cx, a, "self")?, matrix(cx, a, "input2")?);
    let m = gram(cx, l, a.bool("upper")?)?;
    solve_values(cx, m, b)
}

/// `cholesky_inverse(Tensor self, bool upper=False)`
pub fn cholesky_inverse(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let l = matrix(cx, a, "self")?;
    let m = gram(cx, l, a.bool("upper")?)?;
    inverse_of(cx, m)
}

/// The matrix that a Cholesky factor is of.
fn gram(cx: &mut Cx, l: ValueId, upper: bool) -> Result<ValueId> {
    let l = triangle(cx, l, upper, 0)?;
    let t = transposed(cx, l)?;
    if upper { cx.call("MatMul", &[t, l]) } else { cx.call("MatMul", &[l, t]) }
}

/// `linalg_slogdet(Tensor A) -> (sign, logabsdet)`, `slogdet`, `_linalg_slogdet`
pub fn slogdet(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    let (_, sign, log) = eliminate(cx, m, None)?;
    let mut out = vec![sign, log];
    if a.used(cx, 2) || a.used(cx, 3) {
        let (lu, pivots, _) = factor(cx, m)?;
        out.extend([lu, pivots]);
    }
    Ok(out)
}

/// `logdet(Tensor self)`: no number where the determinant is negative
pub fn logdet(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = matrix(cx, a, "self")?;
    let dtype = cx.dtype(m)?;
    let (_, sign, log) = eliminate(cx, m, None)?;
    F::from(sign).lt(0.0).pick(f64::NAN, F::from(log)).emit(cx, dtype)
}

// ---- factorisations ----

/// LU with partial pivoting: both factors in one matrix, the pivots (1-based, i32), the order of the rows.
fn factor(cx: &mut Cx, m: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let count = s.rows.at_most(&s.columns);
    let full = cx.dims(m)?;
    let places = super::create::range(cx, &s.rows)?;
    let across = super::create::range(cx, &s.columns)?;
    let turns = super::create::range(cx, &count)?;
    let order = cx.expand(places, &s.with(&[&s.rows]))?;
    let pivots = cx.expand(turns, &s.with(&[&count]))?;
    let steps = cx.dim_scalar(&count)?;
    let held = [places, across, turns];
    let out = repeat(cx, "factor", steps, &[m, pivots, order], &held, |cx, i, state, held| {
        let [m, pivots, order] = state[..] else { bail!(bug, "factorisation state") };
        let (rows, here) = (F::from(held[0]), F::from(i));
        let column = at(cx, m, i, 1)?;
        let score = rows.ge(&here).pick(F::from(column).abs(), -1.0).emit(cx, dtype)?;
        let pivot = cx.op("ArgMax", &[score], Attrs::new().with("axis", -1).with("keepdims", 1))?;
        let p = F::from(pivot);
        let swap = rows.equals(&here).pick(&p, rows.equals(&p).pick(&here, &rows)).emit(cx, DType::I64)?;
        let order = cx.op("GatherElements", &[order, swap], Attrs::new().with("axis", -1))?;
        let turn = F::from(held[2]).equals(&here);
        let pivots = turn.pick(&p, F::from(pivots)).emit(cx, DType::I64)?;
        let swap = column_vector(cx, swap)?;
        let swap = cx.expand(swap, &full)?;
        let m = cx.op("GatherElements", &[m, swap], Attrs::new().with("axis", -2))?;
        let row = at(cx, m, i, 2)?;
        let d = at(cx, row, i, 1)?;
        let d = F::from(d);
        let d = d.equals(0.0).pick(1.0, &d).emit(cx, dtype)?;
        let d = column_vector(cx, d)?;
        let column = at(cx, m, i, 1)?;
        let ratio = rows.gt(&here).pick(F::from(column) / F::from(d), 0.0).emit(cx, dtype)?;
        let ratio = column_vector(cx, ratio)?;
        let row = row_vector(cx, row)?;
        let under = cx.call("Greater", &[held[0], i])?;
        let under = column_vector(cx, under)?;
        let (columns, r) = (F::from(held[1]), F::from(ratio));
        let reduced = F::from(m) - columns.gt(&here).pick(F::from(row), 0.0) * &r;
        let stored = F::from(under).and(columns.equals(&here)).pick(&r, reduced);
        Ok(vec![stored.emit(cx, dtype)?, pivots, order])
    })?;
    let one = cx.b.scalar(DType::I64, 1.0)?;
    let pivots = cx.call("Add", &[out[1], one])?;
    Ok((out[0], cx.cast(pivots, DType::I32)?, out[2]))
}

/// `linalg_lu_factor(Tensor A, *, bool pivot=True) -> (LU, pivots)`, `linalg_lu_factor_ex -> (LU, pivots, info)`,
/// `_lu_with_info`
pub fn lu_factor(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    with_pivots(a)?;
    let (lu, pivots, _) = factor(cx, m)?;
    Ok(vec![lu, pivots, no_errors(cx, m)?])
}

fn with_pivots(a: &Args) -> Result<()> {
    if a.has("pivot") && !a.bool("pivot")? {
        bail!(unsupported, "LU without pivoting");
    }
    Ok(())
}

/// The factors L and U of a packed matrix.
fn unpacked(cx: &mut Cx, lu: ValueId) -> Result<(ValueId, ValueId)> {
    let (s, dtype) = (size(cx, lu)?, cx.dtype(lu)?);
    let k = s.rows.at_most(&s.columns);
    let rank = cx.rank(lu)?;
    let l = cx.slice(lu, rank - 1, &Dim::Const(0), &k, 1)?;
    let l = triangle(cx, l, false, -1)?;
    // Ones on the diagonal of a matrix that need not be square.
    let rows = super::create::range(cx, &s.rows)?;
    let rows = column_vector(cx, rows)?;
    let columns = super::create::range(cx, &k)?;
    let on = cx.call("Equal", &[rows, columns])?;
    let on = cx.cast(on, dtype)?;
    let l = cx.call("Add", &[l, on])?;
    let u = cx.slice(lu, rank - 2, &Dim::Const(0), &k, 1)?;
    Ok((l, triangle(cx, u, true, 0)?))
}

/// The matrix P of an order of rows: row `order[i]` of L·U is row i of A.
fn permutation(cx: &mut Cx, order: ValueId, n: &Dim, dtype: DType) -> Result<ValueId> {
    let places = super::create::range(cx, n)?;
    let places = column_vector(cx, places)?;
    let order = row_vector(cx, order)?;
    let hit = cx.call("Equal", &[order, places])?;
    cx.cast(hit, dtype)
}

/// `linalg_lu(Tensor A, *, bool pivot=True) -> (P, L, U)`
pub fn lu(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    with_pivots(a)?;
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let (lu, _, order) = factor(cx, m)?;
    let (l, u) = unpacked(cx, lu)?;
    Ok(vec![permutation(cx, order, &s.rows, dtype)?, l, u])
}

/// The order of rows that a sequence of swaps makes.
fn order_of(cx: &mut Cx, pivots: ValueId, n: &Dim) -> Result<ValueId> {
    let pivots = cx.cast(pivots, DType::I64)?;
    let dims = cx.dims(pivots)?;
    let places = super::create::range(cx, n)?;
    let full: Vec<Dim> = dims[..dims.len() - 1].iter().chain([n]).cloned().collect();
    let order = cx.expand(places, &full)?;
    let Some(count) = dims.last() else { bail!(invalid, "pivots of rank 0") };
    let steps = cx.dim_scalar(count)?;
    let out = repeat(cx, "order", steps, &[order], &[pivots, places], |cx, i, state, held| {
        let p = at(cx, held[0], i, 1)?;
        let one = cx.b.scalar(DType::I64, 1.0)?;
        let p = cx.call("Sub", &[p, one])?;
        let p = F::from(column_vector(cx, p)?);
        let (rows, here) = (F::from(held[1]), F::from(i));
        let swap = rows.equals(&here).pick(&p, rows.equals(&p).pick(&here, &rows)).emit(cx, DType::I64)?;
        Ok(vec![cx.op("GatherElements", &[state[0], swap], Attrs::new().with("axis", -1))?])
    })?;
    Ok(out[0])
}

/// `lu_unpack(Tensor LU_data, Tensor LU_pivots, bool unpack_data=True, bool unpack_pivots=True) -> (P, L, U)`
pub fn lu_unpack(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let packed = matrix(cx, a, "LU_data")?;
    let (s, dtype) = (size(cx, packed)?, cx.dtype(packed)?);
    let order = order_of(cx, a.t("LU_pivots")?, &s.rows)?;
    let (l, u) = unpacked(cx, packed)?;
    Ok(vec![permutation(cx, order, &s.rows, dtype)?, l, u])
}

/// `linalg_lu_solve(Tensor LU, Tensor pivots, Tensor B, *, bool left=True, bool adjoint=False)`, `lu_solve`
pub fn lu_solve(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let legacy = a.has("LU_data");
    let (packed, pivots) = match legacy {
        true => (matrix(cx, a, "LU_data")?, a.t("LU_pivots")?),
        false => (matrix(cx, a, "LU")?, a.t("pivots")?),
    };
    let mut b = matrix(cx, a, if legacy { "self" } else { "B" })?;
    let (s, dtype) = (size(cx, packed)?, cx.dtype(packed)?);
    let order = order_of(cx, pivots, &s.rows)?;
    let p = permutation(cx, order, &s.rows, dtype)?;
    let (l, u) = unpacked(cx, packed)?;
    let m = cx.call("MatMul", &[l, u])?;
    let mut m = cx.call("MatMul", &[p, m])?;
    let left = a.get("left").is_none() || a.bool("left")?;
    if a.bool("adjoint")? == left {
        m = transposed(cx, m)?;
    }
    if left {
        return solve_values(cx, m, b);
    }
    b = transposed(cx, b)?;
    let x = solve_values(cx, m, b)?;
    transposed(cx, x)
}

fn cholesky_of(cx: &mut Cx, m: ValueId) -> Result<ValueId> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let full = cx.dims(m)?;
    let start = zeros(cx, dtype, &full)?;
    let places = super::create::range(cx, &s.rows)?;
    let steps = cx.dim_scalar(&s.rows)?;
    let out = repeat(cx, "cholesky", steps, &[start], &[m, places], |cx, i, state, held| {
        let (l, here) = (state[0], F::from(i));
        let row = at(cx, l, i, 2)?;
        let row = column_vector(cx, row)?;
        let known = cx.call("MatMul", &[l, row])?;
        let known = cx.b.squeeze(known, &[-1])?;
        let column = at(cx, held[0], i, 1)?;
        let rest = cx.call("Sub", &[column, known])?;
        let d = at(cx, rest, i, 1)?;
        let d = cx.call("Sqrt", &[d])?;
        let d = column_vector(cx, d)?;
        let rows = F::from(held[1]);
        let column = rows.ge(&here).pick(F::from(rest) / F::from(d), 0.0).emit(cx, dtype)?;
        let column = column_vector(cx, column)?;
        let l = rows.equals(&here).pick(F::from(column), F::from(l)).emit(cx, dtype)?;
        Ok(vec![l])
    })?;
    Ok(out[0])
}

/// `linalg_cholesky(Tensor self, *, bool upper=False)`, `cholesky`, `linalg_cholesky_ex -> (L, info)`
pub fn cholesky(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = matrix(cx, a, "self")?;
    let upper = a.bool("upper")?;
    let source = if upper { transposed(cx, m)? } else { m };
    let l = cholesky_of(cx, source)?;
    let l = if upper { transposed(cx, l)? } else { l };
    Ok(vec![l, no_errors(cx, m)?])
}

/// One reflection: the vector, the vector times tau, and tau (with a last axis of one).
struct Householder {
    v: ValueId,
    tv: ValueId,
    tau: ValueId,
}

/// The reflection that clears column `i` of `r` below its diagonal.
fn householder(cx: &mut Cx, r: ValueId, i: ValueId, places: ValueId) -> Result<Householder> {
    let dtype = cx.dtype(r)?;
    let (rows, here) = (F::from(places), F::from(i));
    let column = at(cx, r, i, 1)?;
    let alpha = at(cx, column, i, 1)?;
    let alpha = F::from(column_vector(cx, alpha)?);
    let x = rows.gt(&here).pick(F::from(column), 0.0).emit(cx, dtype)?;
    let square = cx.call("Mul", &[x, x])?;
    let tail = F::from(last_axis_sum(cx, square, true)?);
    let length = (alpha.squared() + &tail).sqrt();
    let beta = alpha.lt(0.0).pick(&length, -&length);
    // A column that is zero below the diagonal is left as it is.
    let still = tail.equals(0.0);
    let tau = still.pick(0.0, (&beta - &alpha) / still.pick(1.0, &beta));
    let scale = still.pick(0.0, still.pick(1.0, &alpha - &beta).recip());
    let v = rows.equals(&here).pick(1.0, F::from(x) * scale);
    let tv = (&v * &tau).emit(cx, dtype)?;
    let v = v.emit(cx, dtype)?;
    Ok(Householder { v, tv, tau: tau.emit(cx, dtype)? })
}

/// Q (square) and R by Householder reflections, signs as LAPACK's `geqrf` has them.
pub(crate) fn qr_of(cx: &mut Cx, m: ValueId) -> Result<(ValueId, ValueId)> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let eye = identity(cx, &s.rows, &s.batch, dtype)?;
    let places = super::create::range(cx, &s.rows)?;
    let steps = cx.dim_scalar(&s.rows.at_most(&s.columns))?;
    let out = repeat(cx, "qr", steps, &[eye, m], &[places], |cx, i, state, held| {
        let [q, r] = state[..] else { bail!(bug, "QR state") };
        let Householder { v, tv, .. } = householder(cx, r, i, held[0])?;
        let (v_row, v_column) = (row_vector(cx, v)?, column_vector(cx, v)?);
        let (tv_row, tv_column) = (row_vector(cx, tv)?, column_vector(cx, tv)?);
        let w = cx.call("MatMul", &[v_row, r])?;
        let r = (F::from(r) - F::from(tv_column) * F::from(w)).emit(cx, dtype)?;
        let u = cx.call("MatMul", &[q, v_column])?;
        let q = (F::from(q) - F::from(u) * F::from(tv_row)).emit(cx, dtype)?;
        Ok(vec![q, r])
    })?;
    Ok((out[0], out[1]))
}

/// `linalg_qr(Tensor A, str mode='reduced') -> (Q, R)`, `qr(Tensor self, bool some=True)`
pub fn qr(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    let complete = if a.has("some") { !a.bool("some")? } else { a.has("mode") && a.text("mode")? == "complete" };
    let only_r = a.has("mode") && a.text("mode")? == "r";
    let (s, rank) = (size(cx, m)?, cx.rank(m)?);
    let (q, r) = qr_of(cx, m)?;
    let k = s.rows.at_most(&s.columns);
    if complete {
        return Ok(vec![q, triangle(cx, r, true, 0)?]);
    }
    let q = match only_r {
        true => zeros(cx, cx.dtype(m)?, &[Dim::Const(0)])?,
        false => cx.slice(q, rank - 1, &Dim::Const(0), &k, 1)?,
    };
    let r = cx.slice(r, rank - 2, &Dim::Const(0), &k, 1)?;
    Ok(vec![q, triangle(cx, r, true, 0)?])
}

/// `linalg_householder_product(Tensor input, Tensor tau)`, `orgqr`
pub fn householder_product(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = first(cx, a, &["input"])?;
    let tau = a.t(if a.has("tau") { "tau" } else { "input2" })?;
    let (columns, rank) = (size(cx, m)?.columns, cx.rank(m)?);
    let q = reflections(cx, m, tau)?;
    cx.slice(q, rank - 1, &Dim::Const(0), &columns, 1)
}

/// `ormqr(Tensor self, Tensor input2, Tensor input3, bool left=True, bool transpose=False)`: Q, or its transpose, times
/// the third argument, or the other way round
pub fn ormqr(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (m, tau, other) = (matrix(cx, a, "self")?, a.t("input2")?, a.t("input3")?);
    let mut q = reflections(cx, m, tau)?;
    if a.bool("transpose")? {
        q = transposed(cx, q)?;
    }
    let left = a.get("left").is_none() || a.bool("left")?;
    if left { cx.call("MatMul", &[q, other]) } else { cx.call("MatMul", &[other, q]) }
}

/// The square product of the reflections that the columns of `m` below its diagonal state.
fn reflections(cx: &mut Cx, m: ValueId, tau: ValueId) -> Result<ValueId> {
    let (s, dtype, rank) = (size(cx, m)?, cx.dtype(m)?, cx.rank(m)?);
    let eye = identity(cx, &s.rows, &s.batch, dtype)?;
    let places = super::create::range(cx, &s.rows)?;
    let count = cx.size(tau, rank - 2)?;
    let steps = cx.dim_scalar(&count)?;
    let out = repeat(cx, "reflect", steps, &[eye], &[m, tau, places], |cx, i, state, held| {
        let (rows, here) = (F::from(held[2]), F::from(i));
        let column = at(cx, held[0], i, 1)?;
        let v = rows.equals(&here).pick(1.0, rows.gt(&here).pick(F::from(column), 0.0)).emit(cx, dtype)?;
        let t = at(cx, held[1], i, 1)?;
        let t = column_vector(cx, t)?;
        let tv = cx.call("Mul", &[v, t])?;
        let (v, tv) = (column_vector(cx, v)?, row_vector(cx, tv)?);
        let u = cx.call("MatMul", &[state[0], v])?;
        Ok(vec![(F::from(state[0]) - F::from(u) * F::from(tv)).emit(cx, dtype)?])
    })?;
    Ok(out[0])
}

// ---- functions of matrices ----

/// `linalg_matrix_exp(Tensor self)`, `matrix_exp`: Taylor's series of degree 12 of the matrix halved until its norm is
/// below one half, then squared back
pub fn matrix_exp(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = matrix(cx, a, "self")?;
    let (s, dtype, rank) = (size(cx, m)?, cx.dtype(m)?, cx.rank(m)?);
    let size = cx.call("Abs", &[m])?;
    let norms = cx.reduce("ReduceSum", size, &[rank - 2], false)?;
    let norm = cx.reduce("ReduceMax", norms, &[], false)?;
    let halvings = ((F::from(norm) * 2.0).max(1.0).ln() / std::f64::consts::LN_2).floor() + 1.0;
    let halvings = halvings.emit(cx, dtype)?;
    let x = (F::from(m) / F::from(2.0).pow(F::from(halvings))).emit(cx, dtype)?;
    let eye = identity(cx, &s.rows, &s.batch, dtype)?;
    let mut sum = eye;
    for k in (1..=12).rev() {
        let product = cx.call("MatMul", &[x, sum])?;
        sum = (F::from(eye) + F::from(product) / k as f64).emit(cx, dtype)?;
    }
    let steps = cx.cast(halvings, DType::I64)?;
    let out = repeat(cx, "square", steps, &[sum], &[], |cx, _, state, _| {
        Ok(vec![cx.call("MatMul", &[state[0], state[0]])?])
    })?;
    Ok(out[0])
}

/// `linalg_multi_dot(Tensor[] tensors)`, `chain_matmul`
pub fn multi_dot(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let all = a.ts(if a.has("tensors") { "tensors" } else { "matrices" })?;
    let mut all = all.into_iter();
    let Some(mut product) = all.next() else { bail!(invalid, "a product of no matrices") };
    for m in all {
        product = cx.call("MatMul", &[product, m])?;
    }
    Ok(product)
}

/// `linalg_tensorinv(Tensor self, int ind=2)`: the inverse of the matrix whose rows are the first `ind` axes
pub fn tensorinv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = matrix(cx, a, "self")?;
    let dims = cx.dims(m)?;
    let at = usize::try_from(a.int("ind")?).unwrap_or(0).min(dims.len());
    let n: Dim = dims[..at].iter().cloned().product();
    let square = cx.reshape(m, &[n.clone(), n])?;
    let inverse = inverse_of(cx, square)?;
    cx.reshape(inverse, &a.out_dims()?)
}

/// `linalg_tensorsolve(Tensor self, Tensor other, int[]? dims=None)`: `dims` are moved to the end first
pub fn tensorsolve(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (mut m, b) = (matrix(cx, a, "self")?, matrix(cx, a, "other")?);
    if let Some(list) = a.opt_ints("dims")? {
        let last = list.iter().map(|&d| cx.axis(m, d)).collect::<Result<Vec<_>>>()?;
        let perm: Vec<usize> = (0..cx.rank(m)?).filter(|i| !last.contains(i)).chain(last.iter().copied()).collect();
        m = cx.b.transpose(m, &perm)?;
    }
    let n: Dim = cx.dims(b)?.into_iter().product();
    let square = cx.reshape(m, &[n.clone(), n.clone()])?;
    let right = cx.reshape(b, &[n, Dim::Const(1)])?;
    let x = solve_values(cx, square, right)?;
    cx.reshape(x, &a.out_dims()?)
}

/// `geqrf(Tensor self) -> (a, tau)`: R above, the reflections below the diagonal
pub fn geqrf(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = matrix(cx, a, "self")?;
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let count = s.rows.at_most(&s.columns);
    let taus = zeros(cx, dtype, &s.with(&[&count]))?;
    let places = super::create::range(cx, &s.rows)?;
    let across = super::create::range(cx, &s.columns)?;
    let turns = super::create::range(cx, &count)?;
    let steps = cx.dim_scalar(&count)?;
    let held = [places, across, turns];
    repeat(cx, "geqrf", steps, &[m, taus], &held, |cx, i, state, held| {
        let [r, taus] = state[..] else { bail!(bug, "QR state") };
        let (columns, here) = (F::from(held[1]), F::from(i));
        let h = householder(cx, r, i, held[0])?;
        let (v_row, tv_column) = (row_vector(cx, h.v)?, column_vector(cx, h.tv)?);
        let w = cx.call("MatMul", &[v_row, r])?;
        let turned = F::from(r) - F::from(tv_column) * F::from(w);
        // Columns to the left hold earlier reflections; the own one keeps this.
        let under = column_vector(cx, held[0])?;
        let under = F::from(under).gt(&here);
        let v = F::from(column_vector(cx, h.v)?);
        let own = columns.equals(&here).and(under);
        let packed = columns.lt(&here).pick(F::from(r), own.pick(v, turned)).emit(cx, dtype)?;
        let tau = F::from(h.tau);
        let taus = F::from(held[2]).equals(&here).pick(tau, F::from(taus)).emit(cx, dtype)?;
        Ok(vec![packed, taus])
    })
}
