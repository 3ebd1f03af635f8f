//! Products of bytes on every tier and by every way, against integers.

use super::*;
use crate::simd::Isa;
use crate::testing::noise;

fn bytes(n: usize, seed: u32) -> Vec<u8> {
    // The extremes are frequent: they are what saturates.
    noise(n, seed).iter().map(|v| (v * 180.0 + 128.0).clamp(0.0, 255.0) as u8).collect()
}

fn end(store: Store) -> End {
    End {
        w_zero: 0,
        store,
        act: Act::None,
        mid: Rounding::default(),
        mid_flip: 0,
        mid_zero: 0,
        mid_scale: 0.0,
        residual_flip: 0,
        residual_zero: 0,
        residual_scale: 0.0,
        y: Rounding { inverse: 1.0, low: -7.0, high: 200.0, zero: 7 },
    }
}

#[test]
fn sums_are_exact_on_every_tier() {
    for kernels in Isa::ALL.into_iter().flat_map(DotKernels::ways) {
        for (m, n, k) in [(1, 1, 1), (3, 16, 4), (14, 32, 19), (29, 70, 64), (5, 33, 131), (31, 8, 3), (2, 100, 1000)] {
            for (flip, w_zero) in [(0, 0), (0x8080_8080u32 as i32, 0), (0, -5)] {
                let (a, b) = (bytes(m * k, 1), bytes(k * n, 2));
                let size = Size { m, n, taps: 1, kc: k };
                let mut packed = vec![0i8; packed_len(kernels, size)];
                let columns = pack(kernels, size, |k, c| b[k * n + c] as i8, &mut packed);
                let init = vec![3i32; padded(kernels, n)];
                let mut y = vec![0i32; m * n];
                let io = Io {
                    flip,
                    b: packed.as_ptr(),
                    init: init.as_ptr(),
                    scale: core::ptr::null(),
                    bias: core::ptr::null(),
                    residual: core::ptr::null(),
                    residual_stride: 0,
                    mid_table: core::ptr::null(),
                    table: core::ptr::null(),
                    y: y.as_mut_ptr().cast(),
                    y_stride: 4 * n,
                };
                let how = Cut::choose(kernels, size, 3);
                let rows = ByteMatrix { data: a.as_ptr(), stride: k };
                for task in 0..how.tasks() {
                    // SAFETY: the operands have the sizes of the product.
                    unsafe { block(kernels, size, how, &rows, &io, &End { w_zero, ..end(Store::I32) }, task) };
                }
                let moved = |v: u8| if flip == 0 { i32::from(v) } else { i32::from(v as i8) + 128 };
                for i in 0..m * n {
                    let (r, c) = (i / n, i % n);
                    let want = (0..k)
                        .map(|l| moved(a[r * k + l]) * (i32::from(b[l * n + c] as i8) - w_zero))
                        .fold(3, |s, v| s + v);
                    assert_eq!(y[i], want, "{kernels:?} {m}x{n}x{k} at {i}");
                }
                for (c, &sum) in columns.iter().enumerate() {
                    let want: i32 = if c < n { (0..k).map(|l| i32::from(b[l * n + c] as i8)).sum() } else { 0 };
                    assert_eq!(sum, want);
                }
            }
        }
    }
}

#[test]
fn rounding_residual_and_table_on_every_tier() {
    let (m, n, k) = (17, 45, 24);
    let (a, b, r) = (bytes(m * k, 3), bytes(k * n, 4), bytes(m * n, 5));
    let table: Vec<u8> = (0..=255u8).map(|v| v.wrapping_mul(7).wrapping_add(3)).collect();
    let scale: Vec<f32> = (0..n).map(|c| 0.003 + c as f32 * 1e-4).collect();
    let bias: Vec<f32> = noise(n, 6);
    for kernels in Isa::ALL.into_iter().flat_map(DotKernels::ways) {
        for (act, residual, look_up) in [
            (Act::None, false, false),
            (Act::HardSwish, false, true),
            (Act::None, true, false),
            (Act::Leaky(0.1), true, true),
        ] {
            let size = Size { m, n, taps: 1, kc: k };
            let mut packed = vec![0i8; packed_len(kernels, size)];
            pack(kernels, size, |k, c| b[k * n + c] as i8, &mut packed);
            let init = vec![0i32; padded(kernels, n)];
            let mut y = vec![0u8; m * n];
            let end = End {
                act,
                mid: Rounding { inverse: 2.0, low: -30.0, high: 60.0, zero: 0 },
                mid_scale: 0.5,
                residual_flip: 0x80,
                residual_zero: 131,
                residual_scale: 0.25,
                ..end(Store::Byte)
            };
            let io = Io {
                flip: 0,
                b: packed.as_ptr(),
                init: init.as_ptr(),
                scale: scale.as_ptr(),
                bias: bias.as_ptr(),
                residual: if residual { r.as_ptr() } else { core::ptr::null() },
                residual_stride: n,
                mid_table: core::ptr::null(),
                table: if look_up { table.as_ptr() } else { core::ptr::null() },
                y: y.as_mut_ptr(),
                y_stride: n,
            };
            let how = Cut::choose(kernels, size, 1);
            // SAFETY: the operands have the sizes of the product.
            unsafe { block(kernels, size, how, &ByteMatrix { data: a.as_ptr(), stride: k }, &io, &end, 0) };
            let mut apart = 0;
            for i in 0..m * n {
                let (row, c) = (i / n, i % n);
                let sum: i32 = (0..k).map(|l| i32::from(a[row * k + l]) * i32::from(b[l * n + c] as i8)).sum();
                let mut v = f64::from(sum) * f64::from(scale[c]) + f64::from(bias[c]);
                if act != Act::None {
                    v = f64::from(act.scalar(v as f32)) * if residual { 2.0 } else { 1.0 };
                }
                if residual {
                    let q = v.clamp(-30.0, 60.0).round_ties_even();
                    v = q * 0.5 + (f64::from(r[i] as i8) + 128.0 - 131.0) * 0.25;
                }
                let q = v.clamp(-7.0, 200.0).round_ties_even() as i32 + 7;
                let near =
                    [q - 1, q, q + 1].map(|q| if look_up { i32::from(table[q.clamp(0, 255) as usize]) } else { q });
                assert!(near.contains(&i32::from(y[i])), "{kernels:?} {act:?} at {i}: {} for {q}", y[i]);
                apart += usize::from(i32::from(y[i]) != near[1]);
            }
            assert!(apart <= 3, "{kernels:?}: {apart} values a quantum apart");
        }
    }
}
