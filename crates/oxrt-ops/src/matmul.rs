//! Matrix products of the reference evaluator, in f64 or exact integers, and work on several threads.

use crate::scalar::broadcast_each;
use crate::shape::{broadcast_shapes, unify};
use oxrt_ir::Dim;
use oxrt_tensor::{DType, Result, Tensor, bail};
use std::num::Wrapping;
use std::ops::{AddAssign, Mul};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Elements that products are computed in: `f64`, or `Wrapping<i64>` for integers.
pub trait Number: Copy + Default + Send + Sync + Mul<Output = Self> + AddAssign {}
impl Number for f64 {}
impl Number for Wrapping<i64> {}

/// Results of `f(0)` … `f(jobs - 1)`, on several threads when `work` (operations in all) is worth it.
pub fn parallel<T: Send>(jobs: usize, work: usize, f: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(jobs);
    if threads <= 1 || work < 1 << 18 {
        return (0..jobs).map(f).collect();
    }
    let next = AtomicUsize::new(0);
    let mut results: Vec<(usize, T)> = std::thread::scope(|scope| {
        let run = || {
            let mut done = Vec::new();
            loop {
                let job = next.fetch_add(1, Ordering::Relaxed);
                if job >= jobs {
                    return done;
                }
                done.push((job, f(job)));
            }
        };
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(run)).collect();
        workers
            .into_iter()
            .flat_map(|w| match w.join() {
                Ok(done) => done,
                Err(panic) => std::panic::resume_unwind(panic),
            })
            .collect()
    });
    results.sort_by_key(|r| r.0);
    results.into_iter().map(|r| r.1).collect()
}

/// c += a · b, all row-major: a is [m, k], b is [k, n], c is [m, n].
pub fn gemm<T: Number>(m: usize, n: usize, k: usize, a: &[T], b: &[T], c: &mut [T]) {
    if n == 0 {
        return;
    }
    let mut blocks = c[..m * n].chunks_mut(4 * n);
    for i in (0..m).step_by(4) {
        let Some(rows) = blocks.next() else { return };
        if rows.len() < 4 * n {
            for (r, row) in rows.chunks_mut(n).enumerate() {
                for p in 0..k {
                    let x = a[(i + r) * k + p];
                    row.iter_mut().zip(&b[p * n..(p + 1) * n]).for_each(|(y, &z)| *y += x * z);
                }
            }
            return;
        }
        let (c0, rest) = rows.split_at_mut(n);
        let (c1, rest) = rest.split_at_mut(n);
        let (c2, c3) = rest.split_at_mut(n);
        for p in 0..k {
            let (x0, x1, x2, x3) = (a[i * k + p], a[(i + 1) * k + p], a[(i + 2) * k + p], a[(i + 3) * k + p]);
            let row = &b[p * n..(p + 1) * n];
            for j in 0..n {
                c0[j] += x0 * row[j];
                c1[j] += x1 * row[j];
                c2[j] += x2 * row[j];
                c3[j] += x3 * row[j];
            }
        }
    }
}

/// Broadcast product of matrices as `numpy.matmul`; the shapes have at least two axes.
fn product<T: Number>(a: &[T], sa: &[usize], b: &[T], sb: &[usize]) -> Result<(Vec<usize>, Vec<T>)> {
    let ((ba, ma), (bb, mb)) = (sa.split_at(sa.len() - 2), sb.split_at(sb.len() - 2));
    let (m, k, n) = (ma[0], ma[1], mb[1]);
    if mb[0] != k {
        bail!(invalid, "matrices of shape {sa:?} and {sb:?} do not multiply");
    }
    let batch = broadcast_shapes(&[ba, bb])?;
    let shape = [&batch[..], &[m, n]].concat();
    let total = crate::copy::checked_len(&shape)?;
    let mut starts = Vec::new();
    broadcast_each(&batch, &[ba, bb], |at| {
        starts.push((at[0] * m * k, at[1] * k * n));
        Ok(())
    })?;
    // Blocks of rows and columns that keep the part of b in cache.
    let (rows, cols) = (64.min(m.max(1)), 256.min(n.max(1)));
    let (tall, wide) = (m.div_ceil(rows), n.div_ceil(cols));
    let blocks = parallel(starts.len() * tall * wide, total.saturating_mul(k), |job| {
        let (x, y) = starts[job / (tall * wide)];
        let (i, j) = (job / wide % tall * rows, job % wide * cols);
        let (h, w) = (rows.min(m - i), cols.min(n - j));
        let part: Vec<T> = (0..k).flat_map(|p| b[y + p * n + j..y + p * n + j + w].iter().copied()).collect();
        let mut c = vec![T::default(); h * w];
        gemm(h, w, k, &a[x + i * k..x + (i + h) * k], &part, &mut c);
        c
    });
    let mut out = vec![T::default(); total];
    for (job, c) in blocks.into_iter().enumerate() {
        let (i, j) = (job / wide % tall * rows, job % wide * cols);
        let w = cols.min(n - j);
        let base = job / (tall * wide) * m * n;
        for (r, row) in c.chunks(w.max(1)).enumerate() {
            let at = base + (i + r) * n + j;
            out[at..at + w].copy_from_slice(row);
        }
    }
    Ok((shape, out))
}

/// `numpy.matmul` in f64; vectors act as one row or one column, which the result lacks.
pub fn matmul_f64(a: &[f64], sa: &[usize], b: &[f64], sb: &[usize]) -> Result<(Vec<usize>, Vec<f64>)> {
    promoted(a, sa, b, sb)
}

fn promoted<T: Number>(a: &[T], sa: &[usize], b: &[T], sb: &[usize]) -> Result<(Vec<usize>, Vec<T>)> {
    if sa.is_empty() || sb.is_empty() {
        bail!(invalid, "a scalar is no matrix");
    }
    let (row, column) = (sa.len() == 1, sb.len() == 1);
    let wide = if row { vec![1, sa[0]] } else { sa.to_vec() };
    let tall = if column { vec![sb[0], 1] } else { sb.to_vec() };
    let (mut shape, out) = product(a, &wide, b, &tall)?;
    if column {
        shape.pop();
    }
    if row {
        shape.remove(shape.len() - 1 - !column as usize);
    }
    Ok((shape, out))
}

/// The product of two tensors as `dtype`.
pub fn matmul(a: &Tensor, b: &Tensor, dtype: DType) -> Result<Tensor> {
    if a.dtype().is_int() && b.dtype().is_int() {
        let wrap =
            |t: &Tensor| -> Result<Vec<Wrapping<i64>>> { Ok(t.to_i64_vec()?.into_iter().map(Wrapping).collect()) };
        let (shape, out) = promoted(&wrap(a)?, a.shape(), &wrap(b)?, b.shape())?;
        return Tensor::from_i64(dtype, &shape, &out.into_iter().map(|x| x.0).collect::<Vec<_>>());
    }
    let (shape, out) = matmul_f64(&a.to_f64_vec()?, a.shape(), &b.to_f64_vec()?, b.shape())?;
    Tensor::from_f64(dtype, &shape, &out)
}

/// The dimensions of the product.
pub fn matmul_dims(a: &[Dim], b: &[Dim]) -> Result<Vec<Dim>> {
    let (Some(last), Some(_)) = (a.last(), b.last()) else { bail!(invalid, "a scalar is no matrix") };
    let inner = if b.len() == 1 { &b[0] } else { &b[b.len() - 2] };
    if unify(last, inner).is_err() {
        bail!(invalid, "matrices of shape {a:?} and {b:?} do not multiply");
    }
    let head = |d: &[Dim]| d[..d.len().saturating_sub(2)].to_vec();
    let mut out = crate::shape::broadcast_dims(&[&head(a), &head(b)])?;
    if a.len() > 1 {
        out.push(a[a.len() - 2].clone());
    }
    if b.len() > 1 {
        out.push(b[b.len() - 1].clone());
    }
    Ok(out)
}
