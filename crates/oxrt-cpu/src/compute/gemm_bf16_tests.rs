use super::*;
use crate::compute::gemm::Matrix;
use crate::testing::noise;
use half::bf16;

/// Both kinds of left operand, against sums in double precision.
#[test]
fn products_of_all_shapes() {
    for unit in Bf16Unit::all() {
        for threads in [1, 3] {
            let pool = ThreadPool::new(threads);
            for (m, n, k) in
                [(1, 1, 1), (1, 40, 33), (7, 100, 64), (50, 33, 600), (300, 70, 96), (64, 200, 1500), (0, 3, 4)]
            {
                let (a, b) = (noise(m * k, 1), noise(k * n, 2));
                let (bias, residual) = (noise(n, 3), noise(m * n, 4));
                let mut packed = vec![0; packed_len(k, n)];
                pack(k, n, &b, n, 1, &mut packed);
                let half = |v: f32| f64::from(bf16::from_f32(v).to_f32());
                let mut want = vec![0.0f64; m * n];
                for i in 0..m {
                    for j in 0..n {
                        let sum: f64 = (0..k).map(|p| half(a[i * k + p]) * half(b[p * n + j])).sum();
                        want[i * n + j] = (sum + f64::from(bias[j]) + f64::from(residual[i * n + j])).max(0.0);
                    }
                }
                let a16: Vec<u16> = a.iter().map(|&v| bf16::from_f32(v).to_bits()).collect();
                let mut c = vec![0.0f32; m * n];
                let check = |plan: Plan, wide: bool, c: &mut Vec<f32>| {
                    c.fill(f32::NAN);
                    let out = Out {
                        c: c.as_mut_ptr().cast(),
                        c_half: false,
                        c_stride: n,
                        bias: bias.as_ptr(),
                        residual: residual.as_ptr().cast(),
                        residual_half: false,
                        residual_stride: n,
                        act: Act::Relu,
                    };
                    let mut workspace = vec![0u8; plan.workspace_bytes()];
                    let (b, workspace) = (packed.as_ptr(), workspace.as_mut_ptr());
                    // SAFETY: the operands have these sizes.
                    unsafe {
                        if wide {
                            let rows = Matrix { data: a.as_ptr(), stride: k };
                            run(unit, &pool, &plan, &rows, b, &out, workspace);
                        } else {
                            let rows = Matrix { data: a16.as_ptr(), stride: k };
                            run(unit, &pool, &plan, &rows, b, &out, workspace);
                        }
                    }
                    for (at, (got, want)) in c.iter().zip(&want).enumerate() {
                        let limit = 2e-6 * (k as f64).sqrt() * 4.0 + 1e-6;
                        assert!(
                            (f64::from(*got) - want).abs() < limit,
                            "{unit:?} {m}x{n}x{k} at {at}: {got} for {want}"
                        );
                    }
                };
                let size = Size::plain(m, n, k);
                check(Plan::new(unit, size, threads, None), true, &mut c);
                check(Plan::new(unit, size, threads, None), false, &mut c);
                if k % unit.step == 0 {
                    check(Plan::new(unit, size, threads, Some(k)), false, &mut c);
                }
            }
        }
    }
}
