//! Factors of symmetric indefinite matrices, with LAPACK's pivots, so that they can be handed on.
//!
//! Source: J. Bunch & L. Kaufman, *Some stable methods for calculating inertia and solving symmetric linear systems*, Math. Comp. 31
//! (1977), algorithm A; the layout of factors and pivots is that of LAPACK's `sytf2` for the lower triangle.

use super::create::{filled, range};
use super::formula::F;
use super::hop::repeat;
use super::linalg::{
    Size, at, column_vector, first, matrix, no_errors, row_vector, size, solve_values, transposed, triangle,
};
use crate::args::{Args, Scalar};
use crate::cx::Cx;
use oxrt_ir::{Attrs, DType, Dim, ValueId};
use oxrt_tensor::{Result, bail};

/// What bounds the growth of elements: (1 + √17) / 8.
const ALPHA: f64 = 0.640_388_203_202_208;

fn zeros(cx: &mut Cx, dtype: DType, dims: &[Dim]) -> Result<ValueId> {
    filled(cx, dtype, dims, &Scalar::Int(Dim::Const(0)))
}

fn with(s: &Size, tail: &[Dim]) -> Vec<Dim> {
    s.batch.iter().chain(tail).cloned().collect()
}

/// The places of a vector with `a` and `b` (of rank one less, kept as 1) exchanged.
fn exchanged(cx: &mut Cx, places: &F, a: &F, b: &F) -> Result<ValueId> {
    places.equals(a).pick(b, places.equals(b).pick(a, places)).emit(cx, DType::I64)
}

/// A symmetric matrix with rows and columns in another order.
fn reordered(cx: &mut Cx, m: ValueId, order: ValueId, full: &[Dim]) -> Result<ValueId> {
    let (down, across) = (column_vector(cx, order)?, row_vector(cx, order)?);
    let (down, across) = (cx.expand(down, full)?, cx.expand(across, full)?);
    let m = cx.op("GatherElements", &[m, down], Attrs::new().with("axis", -2))?;
    cx.op("GatherElements", &[m, across], Attrs::new().with("axis", -1))
}

/// `x ⊗ y` of vectors.
fn outer(cx: &mut Cx, x: &F, y: &F, dtype: DType) -> Result<F> {
    let (x, y) = (x.emit(cx, dtype)?, y.emit(cx, dtype)?);
    Ok(F::from(column_vector(cx, x)?) * F::from(row_vector(cx, y)?))
}

/// Element `i` of vectors, with its axis kept.
fn element(cx: &mut Cx, v: ValueId, i: ValueId) -> Result<F> {
    let e = at(cx, v, i, 1)?;
    Ok(F::from(column_vector(cx, e)?))
}

/// The place after `i`, or `i` at the end.
fn after(cx: &mut Cx, i: ValueId, n: &Dim) -> Result<ValueId> {
    let (one, last) = (cx.b.scalar(DType::I64, 1.0)?, cx.dim_scalar(&(n.clone() - 1))?);
    let next = cx.call("Add", &[i, one])?;
    cx.call("Min", &[next, last])
}

fn greatest(cx: &mut Cx, v: &F, dtype: DType) -> Result<F> {
    let v = v.emit(cx, dtype)?;
    let rank = cx.rank(v)?;
    Ok(F::from(cx.reduce("ReduceMax", v, &[rank - 1], true)?))
}

/// `linalg_ldl_factor(Tensor self, *, bool hermitian=False) -> (LD, pivots)`, `linalg_ldl_factor_ex -> (LD, pivots, info)`: of the lower
/// triangle
pub fn factor(cx: &mut Cx, a: &Args) -> Result<Vec<ValueId>> {
    let m = first(cx, a, &["self"])?;
    let (s, dtype) = (size(cx, m)?, cx.dtype(m)?);
    let (full, n) = (cx.dims(m)?, s.rows.clone());
    let (lower, strict) = (triangle(cx, m, false, 0)?, triangle(cx, m, false, -1)?);
    let mirrored = transposed(cx, strict)?;
    let whole = cx.call("Add", &[lower, mirrored])?;
    let packed = zeros(cx, dtype, &full)?;
    let pivots = zeros(cx, DType::I64, &with(&s, std::slice::from_ref(&n)))?;
    let second = filled(cx, DType::Bool, &with(&s, &[Dim::Const(1)]), &Scalar::Bool(false))?;
    let places = range(cx, &n)?;
    let steps = cx.dim_scalar(&n)?;
    // A step does one column, or two, when the next one has nothing to do (`second`).
    let out = repeat(cx, "ldl", steps, &[whole, packed, pivots, second], &[places], |cx, i, state, held| {
        let [whole, packed, pivots, second] = state[..] else { bail!(bug, "factorisation state") };
        let (rows, here) = (F::from(held[0]), F::from(i));
        let next = after(cx, i, &n)?;
        let follower = F::from(next);
        let column = at(cx, whole, i, 1)?;
        let own = element(cx, column, i)?.abs();
        let score = rows.gt(&here).pick(F::from(column).abs(), -1.0).emit(cx, dtype)?;
        let most = cx.op("ArgMax", &[score], Attrs::new().with("axis", -1).with("keepdims", 1))?;
        let column_most = greatest(cx, &F::from(score), dtype)?.max(0.0);
        // The row of the largest element.
        let index = column_vector(cx, most)?;
        let index = cx.expand(index, &with(&s, &[Dim::Const(1), n.clone()]))?;
        let row = cx.op("GatherElements", &[whole, index], Attrs::new().with("axis", -2))?;
        let row = cx.b.squeeze(row, &[-2])?;
        let diagonal = F::from(cx.op("GatherElements", &[row, most], Attrs::new().with("axis", -1))?).abs();
        let most = F::from(most);
        let others = rows.ge(&here).and(rows.equals(&most).not());
        let row_most = greatest(cx, &others.pick(F::from(row).abs(), 0.0), dtype)?;
        let safe = row_most.equals(0.0).pick(1.0, &row_most);
        let stays = own.ge(&column_most * ALPHA).or(own.ge(&column_most * &column_most / safe * ALPHA));
        let stays = stays.emit(cx, dtype)?;
        let single = diagonal.ge(&row_most * ALPHA).emit(cx, dtype)?;
        let two = F::from(stays).or(F::from(single)).or(F::from(second)).not().emit(cx, dtype)?;
        let from = F::from(stays).pick(&here, &most).emit(cx, DType::I64)?;
        let to = F::from(two).pick(&follower, &here).emit(cx, DType::I64)?;
        let (two, from) = (F::from(two), F::from(from));
        let order = exchanged(cx, &rows, &F::from(to), &from)?;
        let whole_now = reordered(cx, whole, order, &full)?;
        // The block on the diagonal: d, or d e / e f.
        let (x, y) = (at(cx, whole_now, i, 1)?, at(cx, whole_now, next, 1)?);
        let (d, e, f) = (element(cx, x, i)?, element(cx, x, next)?, element(cx, y, next)?);
        let (x, y) = (F::from(x), F::from(y));
        let below = rows.gt(&here);
        let w = below.pick(&x / d.equals(0.0).pick(1.0, &d), 0.0);
        let far = rows.gt(&follower);
        let det = &d * &f - e.squared();
        let det = two.pick(det, 1.0);
        let (u, v) = (far.pick((&f * &x - &e * &y) / &det, 0.0), far.pick((&d * &y - &e * &x) / &det, 0.0));
        let (far_x, far_y) = (far.pick(&x, 0.0), far.pick(&y, 0.0));
        let one_column = outer(cx, &w, &below.pick(&x, 0.0), dtype)?;
        let two_columns = outer(cx, &u, &far_x, dtype)? + outer(cx, &v, &far_y, dtype)?;
        let two_value = two.emit(cx, dtype)?;
        let (deep_two, deep_second) = (F::from(column_vector(cx, two_value)?), F::from(column_vector(cx, second)?));
        let reduced = F::from(whole_now) - deep_two.pick(two_columns, one_column);
        let left = rows.equals(&here).pick(&d, two.pick(rows.equals(&follower).pick(&e, &u), &w)).emit(cx, dtype)?;
        let right = rows.equals(&follower).pick(&f, &v).emit(cx, dtype)?;
        let (left, right) = (F::from(column_vector(cx, left)?), F::from(column_vector(cx, right)?));
        let stored = deep_two.and(rows.equals(&follower)).pick(right, F::from(packed));
        let stored = rows.equals(&here).pick(left, stored);
        let number = &from + 1.0;
        let signed = two.pick(-&number, number);
        let noted = rows.equals(&here).or(two.and(rows.equals(&follower))).pick(signed, F::from(pivots));
        Ok(vec![
            deep_second.pick(F::from(whole), reduced).emit(cx, dtype)?,
            deep_second.pick(F::from(packed), stored).emit(cx, dtype)?,
            F::from(second).pick(F::from(pivots), noted).emit(cx, DType::I64)?,
            two_value,
        ])
    })?;
    Ok(vec![out[1], cx.cast(out[2], DType::I32)?, no_errors(cx, m)?])
}

/// `linalg_ldl_solve(Tensor LD, Tensor pivots, Tensor B, *, bool hermitian=False)`: the matrix is put together again, from its last
/// column to its first
pub fn solve(cx: &mut Cx, a: &Args) -> Result<ValueId> {
    let (packed, pivots, b) = (matrix(cx, a, "LD")?, a.t("pivots")?, matrix(cx, a, "B")?);
    let pivots = cx.cast(pivots, DType::I64)?;
    let (s, dtype) = (size(cx, packed)?, cx.dtype(packed)?);
    let (full, n) = (cx.dims(packed)?, s.rows.clone());
    let start = zeros(cx, dtype, &full)?;
    let second = filled(cx, DType::Bool, &with(&s, &[Dim::Const(1)]), &Scalar::Bool(false))?;
    let places = range(cx, &n)?;
    let steps = cx.dim_scalar(&n)?;
    let last = cx.dim_scalar(&(n.clone() - 1))?;
    let held = [packed, pivots, places, last];
    let out = repeat(cx, "ldl_restore", steps, &[start, second], &held, |cx, i, state, held| {
        let [whole, pending] = state[..] else { bail!(bug, "restoration state") };
        let [packed, pivots, places, last] = held[..] else { bail!(bug, "restoration values") };
        let i = cx.call("Sub", &[last, i])?;
        let next = after(cx, i, &n)?;
        let (rows, here, follower) = (F::from(places), F::from(i), F::from(next));
        let pivot = element(cx, pivots, i)?;
        let zero = F::from(cx.b.scalar(DType::I64, 0.0)?);
        let waits = pivot.lt(&zero).and(F::from(pending).not()).emit(cx, DType::I64)?;
        let number = (pivot.abs() - 1.0).emit(cx, DType::I64)?;
        let (x, y) = (at(cx, packed, i, 1)?, at(cx, packed, next, 1)?);
        let (d, e, f) = (element(cx, x, i)?, element(cx, x, next)?, element(cx, y, next)?);
        let (x, y, two) = (F::from(x), F::from(y), F::from(pending));
        let far = rows.gt(&follower).or(two.not().and(rows.gt(&here)));
        let u = rows.equals(&here).pick(1.0, far.pick(&x, 0.0));
        let v = two.and(rows.gt(&here)).pick(rows.equals(&follower).pick(1.0, &y), 0.0);
        let (left, right) = (two.pick(&d * &u + &e * &v, &d * &u), two.pick(&e * &u + &f * &v, 0.0));
        let added = F::from(whole) + outer(cx, &u, &left, dtype)? + outer(cx, &v, &right, dtype)?;
        let added = added.emit(cx, dtype)?;
        let to = two.pick(&follower, &here).emit(cx, DType::I64)?;
        let order = exchanged(cx, &rows, &F::from(to), &F::from(number))?;
        let moved = reordered(cx, added, order, &full)?;
        let deep = F::from(column_vector(cx, waits)?);
        Ok(vec![deep.pick(F::from(whole), F::from(moved)).emit(cx, dtype)?, waits])
    })?;
    solve_values(cx, out[0], b)
}
