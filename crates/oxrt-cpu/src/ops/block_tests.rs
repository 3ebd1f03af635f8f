//! Weights of few bits on every tier against the reference evaluator.

use super::tests::{Case, check_reference, floats};
use oxrt_ir::Attrs;
use oxrt_tensor::{DType, Tensor};

fn codes(dtype: DType, n: usize, k: usize, seed: u32) -> Tensor {
    let most = (1 << dtype.bits()) as f32;
    let values: Vec<i64> =
        crate::testing::noise(n * k, seed).iter().map(|v| ((v + 1.0) / 2.0 * most).floor() as i64).collect();
    Tensor::from_i64(dtype, &[n, k], &values).unwrap()
}

/// Few rows and many, columns and rows beside the widths of vectors, chunks and blocks.
#[test]
fn products() {
    let sizes =
        [(1, 32, 16, 16), (1, 37, 67, 32), (1, 200, 129, 16), (2, 64, 100, 64), (3, 256, 33, 128), (7, 90, 48, 32)];
    let many = [
        (9, 70, 35, 16),
        (40, 300, 65, 256),
        (65, 128, 130, 32),
        (130, 33, 5, 32),
        (2, 0, 5, 16),
        (0, 32, 5, 16),
        (17, 1024, 35, 64),
        (8, 64, 35, 16),
        (16, 48, 20, 16),
        (12, 100, 70, 32),
        (20, 600, 300, 16),
    ];
    for (i, &(m, k, n, block)) in sizes.iter().chain(&many).enumerate() {
        for dtype in [DType::U2, DType::U4, DType::U8] {
            let blocks = k / block + usize::from(k % block != 0);
            let scale = floats(&[n, blocks], 3);
            let half = (1u32 << (dtype.bits() - 1)) as f32;
            // Halves of the range (nothing to subtract), whole and broken zero points.
            let zeros: Vec<Vec<f32>> = vec![
                vec![half; n * blocks],
                crate::testing::noise(n * blocks, 4).iter().map(|v| (half + v * half).round()).collect(),
                crate::testing::noise(n * blocks, 5).iter().map(|v| half + v * 3.3).collect(),
            ];
            let zero = Tensor::from_slice(&[n, blocks], &zeros[i % 3]);
            for bias in [false, true] {
                let case = Case {
                    op: "oxrt.BlockGemm",
                    attrs: Attrs::new().with("block_size", block as i64),
                    inputs: vec![
                        Some((floats(&[m, k], 1), false)),
                        Some((codes(dtype, n, k, 2), true)),
                        bias.then(|| (floats(&[n], 6), true)),
                        Some((scale.clone(), true)),
                        (bias || i % 2 == 0).then(|| (zero.clone(), true)),
                    ],
                    outputs: vec![(DType::F32, vec![m, n])],
                };
                check_reference(&case, 2e-5 * f64::from(half) * (k as f64).sqrt().max(1.0));
            }
        }
    }
}

/// A stack of rows, in half precision.
#[test]
fn half_precision() {
    let half = |t: Tensor| Tensor::from_f64(DType::F16, t.shape(), &t.to_f64_vec().unwrap()).unwrap();
    let case = Case {
        op: "oxrt.BlockGemm",
        attrs: Attrs::new().with("block_size", 32),
        inputs: vec![
            Some((half(floats(&[2, 3, 96], 1)), false)),
            Some((codes(DType::U4, 40, 96, 4), true)),
            Some((half(floats(&[40], 2)), true)),
            Some((half(floats(&[40, 3], 3)), true)),
        ],
        outputs: vec![(DType::F16, vec![2, 3, 40])],
    };
    check_reference(&case, 0.05);
}

/// Rows of a table.
#[test]
fn rows() {
    for (dtype, k, zero) in [(DType::U4, 37, true), (DType::U8, 64, false), (DType::U2, 48, true)] {
        let blocks = k / 16 + usize::from(k % 16 != 0);
        let numbers = |seed| Some((floats(&[9, blocks], seed), true));
        let case = Case {
            op: "oxrt.GatherBlocks",
            attrs: Attrs::new().with("block_size", 16),
            inputs: vec![
                Some((codes(dtype, 9, k, 1), true)),
                Some((Tensor::from_slice(&[2, 2], &[3i64, -1, 0, 8]), false)),
                numbers(2),
                if zero { numbers(3) } else { None },
            ],
            outputs: vec![(DType::F32, vec![2, 2, k])],
        };
        check_reference(&case, 1e-5);
    }
}
