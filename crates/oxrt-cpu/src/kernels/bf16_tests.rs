use super::*;
use half::bf16;

fn noise(n: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).max(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

fn halves(v: &[f32]) -> Vec<u16> {
    v.iter().map(|&x| bf16::from_f32(x).to_bits()).collect()
}

fn wide(h: u16) -> f64 {
    f64::from(bf16::from_bits(h).to_f32())
}

#[test]
fn units_multiply() {
    for unit in Bf16Unit::all() {
        for rows in 1..=unit.mr {
            for k in [32, 64, 96, 512] {
                let stride = k + 8;
                let a = halves(&noise(rows * stride, 1));
                let b = halves(&noise(k * NR, 2));
                let before = noise(rows * NR, 3);
                for accumulate in [false, true] {
                    let mut c = before.clone();
                    let tile = Bf16Tile {
                        a: a.as_ptr(),
                        a_stride: stride,
                        rows,
                        k,
                        b: b.as_ptr(),
                        c: c.as_mut_ptr(),
                        accumulate,
                    };
                    // SAFETY: the operands have these sizes.
                    unsafe { (unit.tile)(&tile) };
                    for i in 0..rows {
                        for j in 0..NR {
                            let start = if accumulate { f64::from(before[i * NR + j]) } else { 0.0 };
                            let sum: f64 = (0..k)
                                .map(|p| wide(a[i * stride + p]) * wide(b[(p / 2 * NR + j) * 2 + p % 2]))
                                .sum::<f64>()
                                + start;
                            let got = f64::from(c[i * NR + j]);
                            assert!(
                                (got - sum).abs() < 1e-5 * (k as f64).sqrt() * 4.0,
                                "{unit:?} {rows}x{k} at {i},{j}: {got} for {sum}"
                            );
                        }
                    }
                }
            }
        }
        (unit.release)();
    }
}

#[test]
fn narrowing_rounds_to_even_and_stays_inside() {
    for unit in Bf16Unit::all() {
        for n in [0, 1, 15, 16, 17, 31, 32, 33, 100] {
            let mut src = noise(n, 7);
            if n > 3 {
                src[0] = f32::from_bits(0x3f80_8000); // halfway, to even
                src[1] = f32::from_bits(0x3f81_8000);
                src[2] = f32::INFINITY;
            }
            let mut dst = vec![0xdead_u16; n + 4];
            // SAFETY: `n` values on both sides.
            unsafe { (unit.narrow)(src.as_ptr(), n, dst.as_mut_ptr()) };
            assert_eq!(&dst[..n], &halves(&src)[..]);
            assert_eq!(&dst[n..], &[0xdead; 4]);
        }
    }
}

#[test]
fn finishing_adds_activates_and_stores() {
    let (rows, cols, stride) = (5, 27, 40);
    for unit in Bf16Unit::all() {
        for act in
            [Act::None, Act::Relu, Act::Clip(-0.5, 0.5), Act::Leaky(0.1), Act::HardSwish, Act::Silu, Act::GeluErf]
        {
            for (residual_half, out_half) in [(false, false), (true, false), (false, true), (true, true)] {
                let (sums, bias, residual) = (noise(rows * NR, 1), noise(cols, 2), noise(rows * stride, 3));
                let residual16 = halves(&residual);
                let mut scratch = sums.clone();
                let mut out = vec![7u8; rows * stride * 4];
                let residual_ptr = if residual_half { residual16.as_ptr().cast() } else { residual.as_ptr().cast() };
                let t = Bf16Finish {
                    sums: scratch.as_mut_ptr(),
                    rows,
                    cols,
                    bias: bias.as_ptr(),
                    residual: residual_ptr,
                    residual_half,
                    residual_stride: stride,
                    act,
                    out: out.as_mut_ptr(),
                    out_half,
                    out_stride: stride,
                };
                // SAFETY: the operands have these sizes.
                unsafe { (unit.finish)(&t) };
                for i in 0..rows {
                    for j in 0..stride {
                        let at = i * stride + j;
                        let size = if out_half { 2 } else { 4 };
                        let bytes = &out[at * size..(at + 1) * size];
                        if j >= cols {
                            assert!(bytes.iter().all(|&b| b == 7), "written past the columns");
                            continue;
                        }
                        let r = if residual_half { wide(residual16[at]) as f32 } else { residual[at] };
                        let want = act.scalar(sums[i * NR + j] + bias[j] + r);
                        let got = if out_half {
                            bf16::from_bits(u16::from_le_bytes([bytes[0], bytes[1]])).to_f32()
                        } else {
                            f32::from_le_bytes(bytes.try_into().unwrap())
                        };
                        let limit = if out_half { 0.005 * want.abs() } else { 1e-5 };
                        assert!((got - want).abs() <= limit + 1e-6, "{unit:?} {act:?}: {got} for {want}");
                    }
                }
            }
        }
    }
}
