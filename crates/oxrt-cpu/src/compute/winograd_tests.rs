use super::*;
use crate::compute::conv::Conv;
use crate::testing::{close, every_tier, noise};

/// Against the direct method, which its own tests hold to the definition.
fn check(batch: usize, height: usize, width: usize, cin: usize, cout: usize, pads: [usize; 4], act: Act) {
    let (out_h, out_w) = (height + pads[0] + pads[2] - 2, width + pads[1] + pads[3] - 2);
    let window = Window::new(batch, &[height, width], &[3, 3], &[], &[], &pads, &[out_h, out_w]).unwrap();
    let filter = Filter { cin, cout, groups: 1, taps: 9 };
    let x = noise(batch * height * width * cin, 1);
    let (w, bias) = (noise(cout * cin * 9, 2), noise(cout, 3));
    let len = batch * out_h * out_w * cout;
    let residual = noise(len, 4);
    let pool = ThreadPool::new(2);
    every_tier(|kernels| {
        let op = |w: &[f32], y: &mut [f32]| Operands {
            x: x.as_ptr(),
            w: w.as_ptr(),
            bias: bias.as_ptr(),
            residual: residual.as_ptr(),
            y: y.as_mut_ptr(),
            y_step: cout,
            act,
        };
        let mut want = vec![0.0f32; len];
        let mut packed = vec![0.0; filter.packed_len(kernels)];
        filter.pack(kernels, &w, &mut packed);
        let direct = Conv::new(kernels, filter, window, 2);
        let mut workspace = vec![0.0; direct.workspace_len()];
        // SAFETY: the buffers have the sizes of the window and filter.
        unsafe { direct.run(&pool, &op(&packed, &mut want), workspace.as_mut_ptr()) };
        let want: Vec<f64> = want.iter().map(|&v| v.into()).collect();
        for m in [2, 4] {
            for threads in [1, 2, 64] {
                let mut packed = vec![f32::NAN; packed_len(kernels, &filter, m)];
                pack(kernels, &ThreadPool::new(2), &filter, m, &w, &mut packed);
                let step = Winograd::new(kernels, filter, window, m, threads);
                let mut workspace = vec![f32::NAN; step.workspace_len()];
                let mut y = vec![9.0f32; len];
                // SAFETY: as above.
                unsafe { step.run(&pool, &op(&packed, &mut y), workspace.as_mut_ptr()) };
                // Sums of 9 cin products of values below one: their deviation grows with the root.
                let bound = 3e-6 * (cin as f64 * 9.0).sqrt();
                close(&y, &want, bound, 1e-5, &format!("F({m}) {height}x{width} {cin}->{cout} {}", kernels.isa.name()));
            }
        }
    });
}

#[test]
fn tiles_agree_with_the_direct_method() {
    check(1, 8, 8, 16, 32, [1; 4], Act::Relu);
    check(2, 7, 9, 5, 3, [1; 4], Act::None);
    check(1, 13, 13, 33, 65, [1; 4], Act::Leaky(0.1));
    check(1, 5, 6, 20, 17, [0, 1, 1, 0], Act::Silu);
    check(1, 1, 1, 4, 4, [1; 4], Act::None);
    check(1, 40, 31, 64, 48, [1; 4], Act::None);
    check(1, 4, 4, 300, 100, [0; 4], Act::None);
    check(0, 8, 8, 3, 3, [1; 4], Act::None);
}
