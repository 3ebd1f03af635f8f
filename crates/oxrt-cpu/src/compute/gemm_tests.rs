use super::*;
use crate::testing::{close, every_tier, noise};

struct Case {
    m: usize,
    k: usize,
    n: usize,
    trans_b: bool,
    fused: bool,
    act: Act,
}

fn check(kernels: &Kernels, pool: &ThreadPool, case: &Case, a: &[f32], b: &[f32]) {
    let Case { m, k, n, trans_b, fused, act } = *case;
    let (bias, residual) = (noise(n, 3), noise(m * n, 4));
    let (row, col) = if trans_b { (1, k) } else { (n, 1) };
    let mut packed = vec![f32::NAN; packed_len(kernels, k, n)];
    // A guard behind the result shows stores outside it.
    let mut c = vec![7.0f32; m * n + 64];
    let size = Size::plain(m, n, k);
    let null = core::ptr::null();
    let out = Out {
        c: c.as_mut_ptr(),
        c_stride: n,
        bias: if fused { bias.as_ptr() } else { null },
        residual: if fused { residual.as_ptr() } else { null },
        residual_stride: n,
        act,
    };
    // SAFETY: the buffers have the sizes named.
    unsafe {
        pack(kernels, pool, k, n, b.as_ptr(), row, col, packed.as_mut_ptr());
        let cut = Cut::choose(kernels, size, pool.threads());
        run(kernels, pool, size, cut, &Matrix { data: a.as_ptr(), stride: k }, packed.as_ptr(), out);
    }
    assert!(c[m * n..].iter().all(|&v| v == 7.0), "stores behind the result");
    let mut want = Vec::new();
    for i in 0..m {
        for j in 0..n {
            let mut sum: f64 = (0..k).map(|l| f64::from(a[i * k + l]) * f64::from(b[l * row + j * col])).sum();
            if fused {
                sum += f64::from(bias[j]) + f64::from(residual[i * n + j]);
            }
            want.push(f64::from(act.scalar(sum as f32)));
        }
    }
    // Rounding of a sum of k products of values below one.
    let bound = 1e-6 * (k as f64).sqrt().max(1.0) * 2.0;
    close(&c[..m * n], &want, bound, 1e-5, &format!("{} {m}x{k}x{n} {act:?}", kernels.isa.name()));
}

#[test]
fn sizes_around_tiles() {
    let pool = ThreadPool::new(2);
    every_tier(|kernels| {
        let (mr, nr, lanes) = (kernels.mr, kernels.nr, kernels.lanes);
        let acts = [Act::None, Act::Relu, Act::Clip(-0.5, 0.5), Act::Silu];
        let mut i = 0;
        for m in [0, 1, mr - 1, mr, mr + 1, 3 * mr + 2, 61] {
            for n in [0, 1, lanes - 1, lanes, lanes + 1, nr - 1, nr, nr + 1, 2 * nr + lanes + 3, 101] {
                for k in [0, 1, 3, 4, 5, 67] {
                    i += 1;
                    let case = Case { m, k, n, trans_b: i % 3 == 0, fused: i % 2 == 0, act: acts[i % 4] };
                    check(kernels, &pool, &case, &noise(m * k, 1), &noise(k * n, 2));
                }
            }
        }
    });
}

#[test]
fn long_products_and_colliding_rows() {
    let pool = ThreadPool::new(2);
    every_tier(|kernels| {
        for (m, k, n) in [(5, 1025, 7), (37, 1024, 70), (3, 5000, 33), (29, 3072, 97), (200, 2048, 40)] {
            let case = Case { m, k, n, trans_b: false, fused: true, act: Act::Relu };
            check(kernels, &pool, &case, &noise(m * k, 1), &noise(k * n, 2));
        }
    });
}

#[test]
fn values_that_are_no_numbers_stay_in_their_rows_and_columns() {
    let pool = ThreadPool::new(1);
    every_tier(|kernels| {
        let (m, k, n) = (17, 9, 35);
        let (mut a, mut b) = (noise(m * k, 1), noise(k * n, 2));
        a[3 * k + 2] = f32::NAN;
        a[5 * k] = f32::INFINITY;
        a[6 * k + 1] = 1e-40;
        b[4 * n + 20] = f32::NEG_INFINITY;
        for act in [Act::None, Act::Relu] {
            check(kernels, &pool, &Case { m, k, n, trans_b: false, fused: false, act }, &a, &b);
        }
    });
}
