//! Eigenvalues of symmetric matrices and singular values, by Jacobi's method: the rotations of disjoint pairs, in
//! round-robin order, make one orthogonal matrix per step, so a step is a few products and sizes may be dynamic.
//!
//! Source: G. Golub & C. Van Loan, *Matrix Computations*, 4th ed., 8.5 (parallel Jacobi) and 8.6 (one-sided: Hestenes).

use super::formula::F;
use super::hop::repeat;
use super::linalg::{
    column_vector, first, identity, inverse_of, last_axis_sum, matrix, qr_of, row_vector, size, transposed, triangle,
};
use crate::args::Args;
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// Sweeps over all pairs; Jacobi's method converges quadratically, ten sweeps serve matrices of thousands.
const SWEEPS: i64 = 12;

/// Steps of one sweep: each pairs every index with another.
fn rounds(n: &Dim) -> Dim {
    // Of n and n - 1 the odd one.
    n.clone() - (n.clone() + 1).modulo(&Dim::Const(2))
}

/// The rotation of step `i` for a symmetric matrix: turns every pair (p, partner of p) so that its element off the
/// diagonal becomes zero.
fn rotation(cx: &mut Cx, m: ValueId, i: ValueId, places: ValueId, n: &Dim) -> Result<ValueId> {
    let dtype = cx.dtype(m)?;
    let odd = rounds(n);
    let (count, spare) = (cx.dim_scalar(&odd)?, cx.dim_scalar(&(n.clone() - odd.clone()))?);
    let half = cx.dim_scalar(&(odd.clone() + 1).floor_div(&Dim::Const(2)))?;
    // Round robin: in round r, p meets r - p; whoever would meet itself meets the last (or rests).
    let round = cx.call("Mod", &[i, count])?;
    let opposite = cx.call("Sub", &[round, places])?;
    let opposite = cx.call("Mod", &[opposite, count])?;
    let last = cx.call("Mul", &[round, half])?;
    let last = cx.call("Mod", &[last, count])?;
    let (p, count, spare) = (F::from(places), F::from(count), F::from(spare));
    let (opposite, last) = (F::from(opposite), F::from(last));
    let alone = spare.equals(1.0).pick(&count, &p);
    let partner = p.lt(&count).pick(opposite.equals(&p).pick(alone, &opposite), last).emit(cx, DType::I64)?;
    let column = column_vector(cx, partner)?;
    let pairs = cx.call("Equal", &[column, places])?;
    let pairs = cx.cast(pairs, dtype)?;
    let column = column_vector(cx, places)?;
    let eye = cx.call("Equal", &[column, places])?;
    let eye = cx.cast(eye, dtype)?;
    let on = cx.call("Mul", &[m, eye])?;
    let d = last_axis_sum(cx, on, false)?;
    let other = cx.op("Gather", &[d, partner], Attrs::new().with("axis", -1))?;
    let off = cx.call("Mul", &[m, pairs])?;
    let off = F::from(last_axis_sum(cx, off, false)?);
    let partner = F::from(partner);
    let rests = partner.equals(&p).or(off.equals(0.0));
    let theta = (F::from(other) - F::from(d)) / (2.0 * rests.pick(1.0, off));
    // The two of a pair turn against each other, also where theta is zero.
    let one = F::from(cx.b.scalar(dtype, 1.0)?);
    let first = p.lt(&partner).pick(&one, -&one);
    let sign = theta.equals(0.0).pick(first, theta.sign());
    let t = sign / (theta.abs() + (theta.squared() + 1.0).sqrt());
    let t = rests.pick(0.0, t);
    let c = (t.squared() + 1.0).sqrt().recip();
    let s = (&t * &c).emit(cx, dtype)?;
    let c = c.emit(cx, dtype)?;
    let (c, s) = (row_vector(cx, c)?, row_vector(cx, s)?);
    (F::from(eye) * F::from(c) - F::from(pairs) * F::from(s)).emit(cx, dtype)
}

/// Columns in the order of `places` (with batches).
fn reorder_columns(cx: &mut Cx, m: ValueId, places: ValueId) -> Result<ValueId> {
    let dims = cx.dims(m)?;
    if dims.iter().any(|d| d.is(0)) {
        return Ok(m);
    }
    let places = row_vector(cx, places)?;
    let places = cx.expand(places, &dims)?;
    cx.op("GatherElements", &[m, places], Attrs::new().with("axis", -1))
}

/// Eigenvalues in rising order and eigenvectors as columns.
fn eigen(cx: &mut Cx, m: ValueId) -> Result<(ValueId, ValueId)> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let eye = identity(cx, &s.rows, &s.batch, dtype)?;
    let places = super::create::range(cx, &s.rows)?;
    let steps = cx.dim_scalar(&(rounds(&s.rows) * Dim::Const(SWEEPS)))?;
    let n = s.rows.clone();
    let out = repeat(cx, "jacobi", steps, &[m, eye], &[places], |cx, i, state, held| {
        let j = rotation(cx, state[0], i, held[0], &n)?;
        let t = transposed(cx, j)?;
        let m = cx.call("MatMul", &[t, state[0]])?;
        let m = cx.call("MatMul", &[m, j])?;
        Ok(vec![m, cx.call("MatMul", &[state[1], j])?])
    })?;
    let rank = cx.rank(m)?;
    let values = super::matrix::diagonal(cx, out[0], 0, (rank - 2, rank - 1))?;
    let k = cx.b.dim_value(&s.rows)?;
    let attrs = Attrs::new().with("axis", -1).with("largest", 0).with("sorted", 1);
    let sorted = cx.b.op_multi("TopK", &[Some(values), Some(k)], attrs, 2)?;
    Ok((sorted[0], reorder_columns(cx, out[1], sorted[1])?))
}

/// The symmetric matrix that one triangle states.
fn symmetric(cx: &mut Cx, a: &Args, m: ValueId) -> Result<ValueId> {
    let upper = a.has("UPLO") && a.text("UPLO")?.eq_ignore_ascii_case("u");
    let whole = triangle(cx, m, upper, 0)?;
    let strict = triangle(cx, m, upper, if upper { 1 } else { -1 })?;
    let mirrored = transposed(cx, strict)?;
    cx.call("Add", &[whole, mirrored])
}

/// `linalg_eigh(Tensor self, str UPLO="L") -> (eigenvalues, eigenvectors)`, `_linalg_eigh`: the signs of the vectors
/// are not determined, and may differ from LAPACK's
pub fn eigh(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    let m = symmetric(cx, a, m)?;
    let (values, vectors) = eigen(cx, m)?;
    Ok(vec![values, vectors])
}

/// `linalg_eigvalsh(Tensor self, str UPLO="L")`
pub fn eigvalsh(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    Ok(eigh(cx, a)?[0])
}

/// U (m × n), the singular values in falling order, and V (n × n) of a matrix with m ≥ n.
fn tall_svd(cx: &mut Cx, m: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let eye = identity(cx, &s.columns, &s.batch, dtype)?;
    let places = super::create::range(cx, &s.columns)?;
    let steps = cx.dim_scalar(&(rounds(&s.columns) * Dim::Const(SWEEPS)))?;
    let n = s.columns.clone();
    let out = repeat(cx, "svd", steps, &[m, eye], &[places], |cx, i, state, held| {
        let t = transposed(cx, state[0])?;
        let products = cx.call("MatMul", &[t, state[0]])?;
        let j = rotation(cx, products, i, held[0], &n)?;
        Ok(vec![cx.call("MatMul", &[state[0], j])?, cx.call("MatMul", &[state[1], j])?])
    })?;
    let rank = cx.rank(m)?;
    let lengths = cx.reduce("ReduceL2", out[0], &[rank - 2], false)?;
    let k = cx.b.dim_value(&s.columns)?;
    let attrs = Attrs::new().with("axis", -1).with("largest", 1).with("sorted", 1);
    let sorted = cx.b.op_multi("TopK", &[Some(lengths), Some(k)], attrs, 2)?;
    let u = reorder_columns(cx, out[0], sorted[1])?;
    let v = reorder_columns(cx, out[1], sorted[1])?;
    let by = F::from(row_vector(cx, sorted[0])?);
    let u = (F::from(u) / by.equals(0.0).pick(1.0, &by)).emit(cx, dtype)?;
    Ok((u, sorted[0], v))
}

/// U, the singular values, and V: reduced.
fn svd_of(cx: &mut Cx, m: ValueId) -> Result<(ValueId, ValueId, ValueId)> {
    let s = size(cx, m)?;
    let wide = match (s.rows.as_const(), s.columns.as_const()) {
        (Some(r), Some(c)) => r < c,
        _ => {
            let (lo, hi) = (s.columns.clone() - s.rows.clone()).bounds(&|s| cx.symbols.bounds(s));
            match (lo, hi) {
                (_, ..=0) => false,
                (0.., _) => true,
                // Turned either way the columns beyond the rank come out as zeros.
                _ => bail!(
                    unsupported,
                    "singular values of a {} × {} matrix: which is greater is unknown",
                    s.rows,
                    s.columns
                ),
            }
        }
    };
    if !wide {
        return tall_svd(cx, m);
    }
    let t = transposed(cx, m)?;
    let (v, values, u) = tall_svd(cx, t)?;
    Ok((u, values, v))
}

/// A matrix with orthonormal columns, completed to a square one.
fn completed(cx: &mut Cx, q: ValueId) -> Result<ValueId> {
    let (s, rank) = (size(cx, q)?, cx.rank(q)?);
    if s.rows == s.columns {
        return Ok(q);
    }
    let (full, _) = qr_of(cx, q)?;
    let rest = cx.slice(full, rank - 1, &s.columns, &Dim::Const(i64::MAX), 1)?;
    cx.concat(&[q, rest], rank - 1)
}

/// `linalg_svd(Tensor A, bool full_matrices=True, *, str? driver=None) -> (U, S, Vh)`, `_linalg_svd`: the signs of the
/// vectors are not determined
pub fn svd(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A"])?;
    let full = a.get("full_matrices").is_some() && a.bool("full_matrices")?;
    let (mut u, values, mut v) = svd_of(cx, m)?;
    if full && (a.used(cx, 0) || a.used(cx, 2)) {
        (u, v) = (completed(cx, u)?, completed(cx, v)?);
    }
    Ok(vec![u, values, transposed(cx, v)?])
}

/// `svd(Tensor self, bool some=True, bool compute_uv=True) -> (U, S, V)`
pub fn svd_legacy(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = matrix(cx, a, "self")?;
    let (mut u, values, mut v) = svd_of(cx, m)?;
    if a.has("some") && !a.bool("some")? {
        (u, v) = (completed(cx, u)?, completed(cx, v)?);
    }
    Ok(vec![u, values, v])
}

pub(crate) fn singular_values(cx: &mut Cx, m: ValueId) -> Result<ValueId> {
    svd_of(cx, m).map(|r| r.1)
}

/// `linalg_svdvals(Tensor A, *, str? driver=None)`
pub fn svdvals(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = first(cx, a, &["A"])?;
    singular_values(cx, m)
}

/// What counts as zero among singular values: `max(atol, rtol·largest)`.
fn tolerance(cx: &mut Cx, a: &Args, m: ValueId, values: ValueId) -> Result<ValueId> {
    let (s, dtype, rank) = (size(cx, m)?, cx.dtype(m)?, cx.rank(values)?);
    let largest = cx.reduce("ReduceMax", values, &[rank - 1], true)?;
    let number = |cx: &mut Cx, name: &str| -> Result<Option<ValueId>> {
        if !a.has(name) {
            return Ok(None);
        }
        let o = crate::promote::Operand::of(a, name)?;
        let v = crate::promote::value(cx, &o, dtype)?;
        Ok(Some(if cx.rank(v)? > 0 { column_vector(cx, v)? } else { v }))
    };
    let relative = match number(cx, "rtol")? {
        Some(v) => Some(v),
        None => number(cx, "rcond")?,
    };
    let absolute = match number(cx, "atol")? {
        Some(v) => Some(v),
        None => number(cx, "tol")?,
    };
    let epsilon = if dtype == DType::F64 { f64::EPSILON } else { f32::EPSILON as f64 };
    let relative = match (relative, absolute) {
        (Some(r), _) => F::from(r),
        (None, given) => {
            let most = cx.dim_scalar(&s.rows.at_least(&s.columns))?;
            let most = cx.cast(most, dtype)?;
            let usual = F::from(most) * epsilon;
            match given {
                // With an absolute bound above zero the relative one is zero.
                Some(given) => F::from(given).gt(0.0).pick(0.0, usual),
                None => usual,
            }
        }
    };
    let bound = relative * F::from(largest);
    let bound = match absolute {
        Some(absolute) => bound.max(F::from(absolute)),
        None => bound,
    };
    bound.emit(cx, dtype)
}

/// `linalg_pinv.atol_rtol_tensor(Tensor self, *, Tensor? atol=None, Tensor? rtol=None, bool hermitian=False)`,
/// `.atol_rtol_float`, `linalg_pinv(Tensor self, float rcond, …)`, `pinverse`
pub fn pinv(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let mut m = matrix(cx, a, "self")?;
    if a.bool("hermitian")? {
        // Only one triangle is looked at.
        m = symmetric(cx, a, m)?;
    }
    let dtype = cx.dtype(m)?;
    let (u, values, v) = svd_of(cx, m)?;
    let bound = tolerance(cx, a, m, values)?;
    let s = F::from(values);
    let inverse = s.gt(F::from(bound)).pick(s.recip(), 0.0).emit(cx, dtype)?;
    let inverse = row_vector(cx, inverse)?;
    let v = cx.call("Mul", &[v, inverse])?;
    let u = transposed(cx, u)?;
    cx.call("MatMul", &[v, u])
}

/// `linalg_matrix_rank(Tensor self, float tol, bool hermitian=False)`, `.atol_rtol_tensor`, `.atol_rtol_float`
pub fn matrix_rank(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = first(cx, a, &["input"])?;
    let values = singular_values(cx, m)?;
    let bound = tolerance(cx, a, m, values)?;
    let counted = cx.call("Greater", &[values, bound])?;
    let counted = cx.cast(counted, DType::I64)?;
    last_axis_sum(cx, counted, false)
}

/// `linalg_cond(Tensor self, Scalar? p=None)`: by singular values for p = ±2
pub fn cond(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = matrix(cx, a, "self")?;
    let p = a.opt_float("p")?.unwrap_or(2.0);
    if p.abs() != 2.0 {
        let inverse = inverse_of(cx, m)?;
        let rank = cx.rank(m)?;
        let mut norms = Vec::new();
        for v in [m, inverse] {
            norms.push(super::reduce::matrix_norm_of(cx, v, p, (rank - 2, rank - 1), false)?);
        }
        return cx.call("Mul", &[norms[0], norms[1]]);
    }
    let values = singular_values(cx, m)?;
    let rank = cx.rank(values)?;
    let (hi, lo) =
        (cx.reduce("ReduceMax", values, &[rank - 1], false)?, cx.reduce("ReduceMin", values, &[rank - 1], false)?);
    if p > 0.0 { cx.call("Div", &[hi, lo]) } else { cx.call("Div", &[lo, hi]) }
}

/// `linalg_polar(Tensor A) -> (U, P)`: A = U P with orthonormal columns of U and positive semidefinite P, from A = V S Wᴴ as U = V Wᴴ,
/// P = W S Wᴴ (Higham, *Functions of Matrices*, 2008)
pub fn polar(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["A", "input", "self"])?;
    let (v, s, w) = svd_of(cx, m)?;
    let wt = transposed(cx, w)?;
    let u = cx.call("MatMul", &[v, wt])?;
    let s = row_vector(cx, s)?;
    let scaled = cx.call("Mul", &[w, s])?;
    Ok(vec![u, cx.call("MatMul", &[scaled, wt])?])
}

/// `linalg_matrix_sqrth(Tensor A, …)`: the square root of a symmetric matrix, by its eigenvalues
pub fn matrix_sqrth(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let m = first(cx, a, &["A", "input", "self"])?;
    let m = symmetric(cx, a, m)?;
    let dtype = cx.dtype(m)?;
    let (values, vectors) = eigen(cx, m)?;
    let zero = cx.b.scalar(dtype, 0.0)?;
    let values = cx.call("Max", &[values, zero])?;
    let roots = cx.call("Sqrt", &[values])?;
    let roots = row_vector(cx, roots)?;
    let scaled = cx.call("Mul", &[vectors, roots])?;
    let t = transposed(cx, vectors)?;
    cx.call("MatMul", &[scaled, t])
}
