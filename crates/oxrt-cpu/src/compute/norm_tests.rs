use super::*;
use crate::testing::{close, every_tier, noise};

#[test]
fn softmax_of_awkward_rows() {
    let pool = ThreadPool::new(2);
    for n in [1, 2, 7, 8, 15, 16, 17, 33, 1000, 4099] {
        for special in 0..5 {
            let rows = 3;
            let mut x: Vec<f32> = noise(rows * n, 1).iter().map(|v| v * 30.0).collect();
            let value = [1.0, f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e30][special];
            x[n / 2] = value;
            if special == 3 {
                x[..n].fill(value);
            }
            for log in [false, true] {
                let mut want = Vec::new();
                for row in x.chunks(n) {
                    let top =
                        row.iter().fold(f64::NEG_INFINITY, |a, &v| if v.is_nan() { f64::NAN } else { a.max(v.into()) });
                    let sum: f64 = row.iter().map(|&v| (f64::from(v) - top).exp()).sum();
                    for &v in row {
                        let shifted = f64::from(v) - top;
                        want.push(if log { shifted - sum.ln() } else { shifted.exp() / sum });
                    }
                }
                every_tier(|kernels| {
                    let mut y = x.clone();
                    let p = y.as_mut_ptr();
                    // SAFETY: in place, over the rows.
                    unsafe {
                        softmax(
                            if log { kernels.log_softmax } else { kernels.softmax },
                            &pool,
                            p.cast_const(),
                            p,
                            rows,
                            n,
                        )
                    };
                    close(&y, &want, 1e-6, 2e-6, &format!("n {n} special {special} log {log} {}", kernels.isa.name()));
                });
            }
        }
    }
}

#[test]
fn rows_are_normalised() {
    let pool = ThreadPool::new(2);
    for n in [1, 3, 8, 16, 17, 64, 65, 768, 1031] {
        let x: Vec<f32> = noise(5 * n, 1).iter().map(|v| v * 2.0 + 10.0).collect();
        let (scale, bias) = (noise(n, 2), noise(n, 3));
        for center in [true, false] {
            let mut want = Vec::new();
            for row in x.chunks(n) {
                let mean = if center { row.iter().map(|&v| f64::from(v)).sum::<f64>() / n as f64 } else { 0.0 };
                let var = row.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / n as f64;
                for (j, &v) in row.iter().enumerate() {
                    let b = if center { f64::from(bias[j]) } else { 0.0 };
                    want.push((f64::from(v) - mean) / (var + 1e-5).sqrt() * f64::from(scale[j]) + b);
                }
            }
            every_tier(|kernels| {
                let mut y = vec![0.0f32; x.len()];
                let bias = if center { bias.as_ptr() } else { core::ptr::null() };
                let norm = Norm { scale: scale.as_ptr(), bias, epsilon: 1e-5, center };
                // SAFETY: five rows of n floats.
                unsafe { rows(kernels, &pool, x.as_ptr(), y.as_mut_ptr(), 5, n, norm) };
                close(&y, &want, 1e-4, 1e-5, &format!("n {n} center {center} {}", kernels.isa.name()));
            });
        }
    }
}

#[test]
fn groups_are_normalised_in_both_layouts() {
    let pool = ThreadPool::new(2);
    for (batch, channels, groups, pixels) in
        [(2, 6, 3, 5), (1, 64, 32, 1000), (3, 7, 7, 33), (2, 4, 1, 1), (1, 33, 3, 300)]
    {
        // A large offset shows cancellation.
        let x: Vec<f32> = noise(batch * channels * pixels, 1).iter().map(|v| v + 50.0).collect();
        let (scale, bias) = (noise(channels, 2), noise(channels, 3));
        let per = channels / groups * pixels;
        let mut want = Vec::new();
        for (g, group) in x.chunks(per).enumerate() {
            let mean = group.iter().map(|&v| f64::from(v)).sum::<f64>() / per as f64;
            let var = group.iter().map(|&v| (f64::from(v) - mean).powi(2)).sum::<f64>() / per as f64;
            for (j, &v) in group.iter().enumerate() {
                let c = g % groups * (channels / groups) + j / pixels;
                let y = (f64::from(v) - mean) / (var + 1e-5).sqrt() * f64::from(scale[c]) + f64::from(bias[c]);
                want.push(y.max(0.0));
            }
        }
        let turn = |v: &[f64]| -> Vec<f64> {
            (0..v.len())
                .map(|i| v[i / (channels * pixels) * channels * pixels + i % channels * pixels + i / channels % pixels])
                .collect()
        };
        let wide: Vec<f64> = x.iter().map(|&v| v.into()).collect();
        let last: Vec<f32> = turn(&wide).iter().map(|&v| v as f32).collect();
        let norm = GroupNorm { batch, channels, groups, pixels, epsilon: 1e-5, act: Act::Relu };
        every_tier(|kernels| {
            let mut y = vec![0.0f32; x.len()];
            let mut workspace = vec![f32::NAN; norm.workspace_len(2)];
            let mut op =
                GroupNormOperands { x: x.as_ptr(), scale: scale.as_ptr(), bias: bias.as_ptr(), y: y.as_mut_ptr() };
            // SAFETY: the buffers have the sizes.
            unsafe { norm.run_channels_first(kernels, &pool, &op) };
            close(&y, &want, 2e-4, 1e-5, &format!("channels first {channels} {}", kernels.isa.name()));
            op.x = last.as_ptr();
            op.y = y.as_mut_ptr();
            // SAFETY: the buffers have the sizes.
            unsafe { norm.run_channels_last(kernels, &pool, &op, workspace.as_mut_ptr()) };
            close(&y, &turn(&want), 2e-4, 1e-5, &format!("channels last {channels} {}", kernels.isa.name()));
        });
    }
}
