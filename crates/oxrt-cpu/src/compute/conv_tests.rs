use super::*;
use crate::testing::{close, every_tier, noise};

struct Case {
    batch: usize,
    input: &'static [usize],
    cin: usize,
    cout: usize,
    groups: usize,
    kernel: &'static [usize],
    strides: &'static [usize],
    dilations: &'static [usize],
    /// Begins, then ends.
    pads: &'static [usize],
}

const PLAIN: Case = Case {
    batch: 1,
    input: &[7, 9],
    cin: 5,
    cout: 6,
    groups: 1,
    kernel: &[1, 1],
    strides: &[],
    dilations: &[],
    pads: &[],
};

fn cases() -> Vec<Case> {
    vec![
        PLAIN,
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 3, cout: 33, strides: &[2, 2], batch: 2, ..PLAIN },
        Case { kernel: &[7, 7], pads: &[3, 3, 3, 3], cin: 3, cout: 64, strides: &[2, 2], input: &[23, 31], ..PLAIN },
        Case { kernel: &[4, 4], cin: 3, cout: 40, strides: &[4, 4], input: &[16, 20], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 19, cout: 35, batch: 2, ..PLAIN },
        Case { kernel: &[3, 2], pads: &[2, 0, 1, 1], cin: 17, cout: 8, dilations: &[2, 3], input: &[11, 12], ..PLAIN },
        Case { kernel: &[1, 1], strides: &[2, 2], cin: 32, cout: 48, ..PLAIN },
        Case { kernel: &[1, 1], cin: 32, cout: 48, input: &[1, 1], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 12, cout: 18, groups: 3, ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 12, cout: 24, groups: 12, ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 1030, cout: 10, input: &[3, 4], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 1024, cout: 66, input: &[3, 5], ..PLAIN },
        Case { kernel: &[5, 5], pads: &[2, 2, 2, 2], cin: 16, cout: 7, input: &[2, 2], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 37, cout: 37, groups: 37, input: &[12, 29], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[1, 1, 1, 1], cin: 64, cout: 64, groups: 64, strides: &[2, 2], ..PLAIN },
        Case {
            kernel: &[5, 5],
            pads: &[2, 2, 2, 2],
            cin: 72,
            cout: 72,
            groups: 72,
            input: &[14, 14],
            batch: 2,
            ..PLAIN
        },
        Case { kernel: &[7, 7], pads: &[3, 3, 3, 3], cin: 96, cout: 96, groups: 96, input: &[5, 4], ..PLAIN },
        Case { kernel: &[3, 3], pads: &[2, 2, 2, 2], cin: 8, cout: 8, groups: 8, dilations: &[2, 2], ..PLAIN },
        Case { input: &[13], kernel: &[3], pads: &[1, 1], cin: 20, cout: 11, ..PLAIN },
        Case { input: &[50], kernel: &[10], strides: &[5], cin: 1, cout: 24, ..PLAIN },
        Case { input: &[4, 5, 6], kernel: &[3, 3, 3], pads: &[1; 6], cin: 4, cout: 9, ..PLAIN },
        Case {
            input: &[4, 5, 6],
            kernel: &[2, 1, 3],
            strides: &[2, 1, 2],
            pads: &[0, 0, 1, 1, 0, 0],
            cin: 18,
            cout: 9,
            ..PLAIN
        },
        Case { input: &[4, 5, 6], kernel: &[3, 3, 3], pads: &[1; 6], cin: 9, cout: 9, groups: 9, ..PLAIN },
        Case { batch: 0, kernel: &[3, 3], pads: &[1, 1, 1, 1], ..PLAIN },
    ]
}

fn at(values: &[usize], i: usize, missing: usize) -> usize {
    values.get(i).copied().unwrap_or(missing)
}

fn window(case: &Case) -> Window {
    let rank = case.input.len();
    let output: Vec<usize> = (0..rank)
        .map(|i| {
            let pads = at(case.pads, i, 0) + at(case.pads, rank + i, 0);
            Window::output_len(case.input[i], case.kernel[i], at(case.strides, i, 1), at(case.dilations, i, 1), pads)
        })
        .collect();
    Window::new(case.batch, case.input, case.kernel, case.strides, case.dilations, case.pads, &output).unwrap()
}

/// The definition, in f64, over three dimensions.
fn judge(w: &Window, f: &Filter, x: &[f32], weights: &[f32], bias: &[f32], residual: &[f32], act: Act) -> Vec<f64> {
    let (cg, mg) = (f.cin / f.groups, f.cout / f.groups);
    let mut out = Vec::new();
    for n in 0..w.batch {
        for o in 0..w.output_pixels() {
            let o3 = [o / (w.output[1] * w.output[2]), o / w.output[2] % w.output[1], o % w.output[2]];
            for m in 0..f.cout {
                let mut sum = f64::from(bias[m]);
                for k in 0..f.taps {
                    let k3 = [k / (w.kernel[1] * w.kernel[2]), k / w.kernel[2] % w.kernel[1], k % w.kernel[2]];
                    let i: Option<Vec<usize>> = (0..3)
                        .map(|d| {
                            let i = (o3[d] * w.strides[d] + k3[d] * w.dilations[d]) as isize - w.pads[d] as isize;
                            (i >= 0 && (i as usize) < w.input[d]).then_some(i as usize)
                        })
                        .collect();
                    let Some(i) = i else { continue };
                    let pixel = ((n * w.input[0] + i[0]) * w.input[1] + i[1]) * w.input[2] + i[2];
                    for c in 0..cg {
                        let v = x[pixel * f.cin + m / mg * cg + c];
                        sum += f64::from(v) * f64::from(weights[(m * cg + c) * f.taps + k]);
                    }
                }
                sum += f64::from(residual[out.len()]);
                out.push(act.scalar(sum as f32).into());
            }
        }
    }
    out
}

#[test]
fn convolutions_agree_with_their_definition() {
    let pool = ThreadPool::new(2);
    for (i, case) in cases().iter().enumerate() {
        let window = window(case);
        let filter = Filter { cin: case.cin, cout: case.cout, groups: case.groups, taps: window.taps() };
        let x = noise(case.batch * window.input_pixels() * case.cin, 1);
        let w = noise(case.cout * (case.cin / case.groups) * filter.taps, 2);
        let (bias, residual) = (noise(case.cout, 3), noise(case.batch * window.output_pixels() * case.cout, 4));
        let act = [Act::None, Act::Relu, Act::HardSwish][i % 3];
        let want = judge(&window, &filter, &x, &w, &bias, &residual, act);
        every_tier(|kernels| {
            let mut packed = vec![f32::NAN; filter.packed_len(kernels)];
            filter.pack(kernels, &w, &mut packed);
            let conv = Conv::new(kernels, filter, window, pool.threads());
            let mut workspace = vec![f32::NAN; conv.workspace_len()];
            // A wider step: the output as part of a larger tensor, whose other channels must stay.
            let step = case.cout + i % 2;
            let mut y = vec![9.0f32; case.batch * window.output_pixels() * step];
            let op = Operands {
                x: x.as_ptr(),
                w: packed.as_ptr(),
                bias: bias.as_ptr(),
                residual: residual.as_ptr(),
                y: y.as_mut_ptr(),
                y_step: step,
                act,
            };
            // SAFETY: the buffers have the sizes of the window and filter.
            unsafe { conv.run(&pool, &op, workspace.as_mut_ptr()) };
            let got: Vec<f32> = y.chunks(step).flat_map(|p| p[..case.cout].iter().copied()).collect();
            assert!(y.chunks(step).all(|p| p[case.cout..].iter().all(|&v| v == 9.0)));
            let bound = 2e-6 * (filter.taps as f64 * (case.cin / case.groups) as f64).sqrt().max(1.0);
            close(&got, &want, bound, 1e-5, &format!("case {i} on {}", kernels.isa.name()));
        });
    }
}
