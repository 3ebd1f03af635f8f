//! Complex Fourier transforms of f32 signals in f32, in the order of pocketfft (Reinecke), which NumPy and SciPy have: the
//! cases of `DFT` hold its rounding, where exact results would be 0.

use std::f64::consts::TAU;

type Complex = (f32, f32);

fn add(a: Complex, b: Complex) -> Complex {
    (a.0 + b.0, a.1 + b.1)
}

fn sub(a: Complex, b: Complex) -> Complex {
    (a.0 - b.0, a.1 - b.1)
}

/// The radices of a length, in the order of the passes; `None` when other primes than 2, 3 and 5 divide it.
pub fn radices(mut n: usize) -> Option<Vec<usize>> {
    let mut out = Vec::new();
    while n > 0 && n.is_multiple_of(4) {
        out.push(4);
        n /= 4;
    }
    if n > 0 && n.is_multiple_of(2) {
        out.insert(0, 2);
        n /= 2;
    }
    for p in [3, 5] {
        while n > 0 && n.is_multiple_of(p) {
            out.push(p);
            n /= p;
        }
    }
    (n == 1).then_some(out)
}

/// The transform, or its inverse divided by the length; `None` for lengths that are left to the general one.
pub fn transform(x: &[Complex], inverse: bool) -> Option<Vec<Complex>> {
    let n = x.len();
    let radices = radices(n)?;
    let roots: Vec<Complex> = (0..n)
        .map(|k| {
            let (sin, cos) = (TAU * k as f64 / n as f64).sin_cos();
            (cos as f32, sin as f32)
        })
        .collect();
    let turn = |v: Complex, w: Complex| match inverse {
        true => (v.0 * w.0 - v.1 * w.1, v.0 * w.1 + v.1 * w.0),
        false => (v.0 * w.0 + v.1 * w.1, v.1 * w.0 - v.0 * w.1),
    };
    let (mut from, mut to) = (x.to_vec(), vec![(0.0, 0.0); n]);
    let mut done = 1;
    for radix in radices {
        let rest = n / (done * radix);
        for k in 0..done {
            for i in 0..rest {
                let mut part = [(0.0, 0.0); 5];
                (0..radix).for_each(|j| part[j] = from[i + rest * (j + radix * k)]);
                butterfly(&mut part, radix, inverse);
                for (j, &v) in part[..radix].iter().enumerate() {
                    let turned = if i > 0 && j > 0 { turn(v, roots[j * done * i]) } else { v };
                    to[i + rest * (k + done * j)] = turned;
                }
            }
        }
        std::mem::swap(&mut from, &mut to);
        done *= radix;
    }
    if inverse {
        let share = (1.0 / n as f64) as f32;
        from.iter_mut().for_each(|v| *v = (v.0 * share, v.1 * share));
    }
    Some(from)
}

/// The transform of `radix` numbers in place.
fn butterfly(p: &mut [Complex; 5], radix: usize, inverse: bool) {
    let sign = if inverse { 1.0 } else { -1.0 };
    let (a, b, c, d, e) = (p[0], p[1], p[2], p[3], p[4]);
    match radix {
        2 => (p[0], p[1]) = (add(a, b), sub(a, b)),
        3 => {
            let (t1, t2) = (add(b, c), sub(b, c));
            let wi = (sign * 0.866_025_403_784_438_6_f64) as f32;
            p[0] = add(a, t1);
            let ca = (a.0 + t1.0 * -0.5, a.1 + t1.1 * -0.5);
            let cb = (-t2.1 * wi, t2.0 * wi);
            (p[1], p[2]) = (add(ca, cb), sub(ca, cb));
        }
        4 => {
            let (t2, t1) = (add(a, c), sub(a, c));
            let (t3, t4) = (add(b, d), sub(b, d));
            let t4 = if inverse { (-t4.1, t4.0) } else { (t4.1, -t4.0) };
            (p[0], p[2]) = (add(t2, t3), sub(t2, t3));
            (p[1], p[3]) = (add(t1, t4), sub(t1, t4));
        }
        _ => {
            let (r1, r2) = (0.309_016_994_374_947_45_f64 as f32, -0.809_016_994_374_947_5_f64 as f32);
            let i1 = (sign * 0.951_056_516_295_153_5_f64) as f32;
            let i2 = (sign * 0.587_785_252_292_473_1_f64) as f32;
            let (t1, t4) = (add(b, e), sub(b, e));
            let (t2, t3) = (add(c, d), sub(c, d));
            p[0] = add(add(a, t1), t2);
            for (u, v, wa, wb, xa, xb) in [(1, 4, r1, r2, i1, i2), (2, 3, r2, r1, i2, -i1)] {
                let ca = (a.0 + wa * t1.0 + wb * t2.0, a.1 + wa * t1.1 + wb * t2.1);
                let cb = (-(xa * t4.1 + xb * t3.1), xa * t4.0 + xb * t3.0);
                (p[u], p[v]) = (add(ca, cb), sub(ca, cb));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn agrees_with_the_general_transform() {
        for n in [1, 2, 3, 4, 5, 6, 8, 9, 10, 12, 15, 16, 20, 25, 30, 36, 60, 64, 100] {
            let x: Vec<Complex> = (0..n).map(|i| ((i as f32 * 0.7).sin(), (i as f32 * 1.3).cos())).collect();
            let wide: Vec<(f64, f64)> = x.iter().map(|v| (v.0 as f64, v.1 as f64)).collect();
            for inverse in [false, true] {
                let got = transform(&x, inverse).expect("only 2, 3 and 5");
                for (g, w) in got.iter().zip(crate::spectral::transform(&wide, inverse)) {
                    let close = |a: f32, b: f64| (a as f64 - b).abs() < 1e-6 * n as f64;
                    assert!(close(g.0, w.0) && close(g.1, w.1), "{n} {inverse}: {g:?}, {w:?}");
                }
            }
        }
        assert!(transform(&[(0.0, 0.0); 7], false).is_none());
    }
}
