use super::*;
use crate::testing::{close, every_tier, noise};

/// Abramowitz & Stegun 7.1.6 and the continued fraction, in f64.
fn erf64(x: f64) -> f64 {
    let a = x.abs();
    let value = if a < 3.0 {
        let (mut term, mut sum, mut n) = (a, a, 0.0);
        while term > 1e-18 * sum {
            n += 1.0;
            term *= 2.0 * a * a / (2.0 * n + 1.0);
            sum += term;
        }
        2.0 / std::f64::consts::PI.sqrt() * (-a * a).exp() * sum
    } else {
        let fraction = (1..60).rev().fold(0.0, |f, k| k as f64 / 2.0 / (a + f));
        1.0 - (-a * a).exp() / ((a + fraction) * std::f64::consts::PI.sqrt())
    };
    value.copysign(x)
}

fn judge(act: Act, x: f64) -> f64 {
    let clamp = |v: f64, lo: f64, hi: f64| if v.is_nan() { v } else { v.max(lo).min(hi) };
    match act {
        Act::None => x,
        Act::Relu => clamp(x, 0.0, f64::INFINITY),
        Act::Clip(lo, hi) => clamp(x, lo.into(), hi.into()),
        Act::Leaky(alpha) => {
            if x < 0.0 {
                f64::from(alpha) * x
            } else {
                x
            }
        }
        Act::Sigmoid => 1.0 / (1.0 + (-x).exp()),
        Act::Silu => x / (1.0 + (-x).exp()),
        Act::HardSigmoid(a, b) => clamp(f64::from(a) * x + f64::from(b), 0.0, 1.0),
        Act::HardSwish => x * clamp(x / 6.0 + 0.5, 0.0, 1.0),
        Act::GeluErf => 0.5 * x * (1.0 + erf64(x / 2f64.sqrt())),
        Act::GeluTanh => 0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x * x * x)).tanh()),
        Act::Tanh => x.tanh(),
    }
}

const ALL: [Act; 11] = [
    Act::None,
    Act::Relu,
    Act::Clip(-0.5, 6.0),
    Act::Leaky(0.1),
    Act::Sigmoid,
    Act::Silu,
    Act::HardSigmoid(0.2, 0.5),
    Act::HardSwish,
    Act::GeluErf,
    Act::GeluTanh,
    Act::Tanh,
];

#[test]
fn activations_agree_with_f64() {
    let mut x: Vec<f32> = noise(997, 1).iter().map(|v| v * 12.0).collect();
    x.extend(noise(200, 2).iter().map(|v| v * 1e-3));
    x.extend([0.0, -0.0, 1e-40, -1e-40, 1e-30, 20.0, -20.0, 88.0, -87.0, f32::NAN]);
    every_tier(|kernels| {
        for act in ALL {
            for n in [0, 1, 7, 8, 9, 15, 16, 17, x.len()] {
                let mut y = x[x.len() - n..].to_vec();
                // SAFETY: one row of n floats.
                unsafe { (kernels.activate)(y.as_mut_ptr(), 1, n, n, act) };
                let want: Vec<f64> = x[x.len() - n..].iter().map(|&v| judge(act, v.into())).collect();
                // Absolute: a rounding of the factor of a value up to 12. Relative: a few units in the last place.
                close(&y, &want, 3e-6, 1e-6, &format!("{act:?} on {}", kernels.isa.name()));
            }
        }
    });
}

#[test]
fn functions_are_exact_to_some_units_in_the_last_place() {
    #[derive(Clone, Copy)]
    struct Exp;
    impl Map for Exp {
        #[inline(always)]
        fn at<S: Simd>(self, s: S, x: S::F) -> S::F {
            math::exp(s, x)
        }
    }
    #[derive(Clone, Copy)]
    struct ExpDown;
    impl Map for ExpDown {
        #[inline(always)]
        fn at<S: Simd>(self, s: S, x: S::F) -> S::F {
            math::exp_down(s, x)
        }
    }
    #[derive(Clone, Copy)]
    struct Log;
    impl Map for Log {
        #[inline(always)]
        fn at<S: Simd>(self, s: S, x: S::F) -> S::F {
            math::log(s, x)
        }
    }
    #[derive(Clone, Copy)]
    struct Erf;
    impl Map for Erf {
        #[inline(always)]
        fn at<S: Simd>(self, s: S, x: S::F) -> S::F {
            math::erf(s, x)
        }
    }
    fn table(map: impl Map, judge: impl Fn(f64) -> f64, xs: &[f32], rel: f64, what: &str) {
        // SAFETY: the portable tier runs everywhere; the vectors below are whole.
        let s = unsafe { crate::simd::Portable::assume() };
        let got: Vec<f32> = xs.iter().map(|&x| map.at(s, [x; 8])[0]).collect();
        let want: Vec<f64> = xs.iter().map(|&x| f64::from(judge(f64::from(x)) as f32)).collect();
        close(&got, &want, 1.5e-45, rel, what);
    }
    let inf = f32::INFINITY;
    let mut xs: Vec<f32> = (-10400..890).map(|i| i as f32 * 0.01).collect();
    xs.extend([inf, -inf, f32::NAN, 88.722_83, 88.8, 1e-20, 1e30, -1e30]);
    table(Exp, f64::exp, &xs, 3e-7, "exp");
    let mut down: Vec<f32> = (0..8700).map(|i| i as f32 * -0.01).collect();
    down.extend([-0.0, -1e-20, f32::NAN]);
    table(ExpDown, f64::exp, &down, 3e-7, "exp of what is not above zero");
    table(ExpDown, |_| 0.0, &[-88.0, -1e4, -1e30, -inf], 0.0, "exp of next to nothing");
    let mut xs: Vec<f32> = (0..5000).map(|i| f32::from_bits(i * 0x0006_8000 + 1)).collect();
    xs.extend((1..3000).map(|i| i as f32 * 1e-3));
    xs.extend([0.0, -0.0, -1.0, inf, -inf, f32::NAN, 1e-45, 1.0]);
    table(Log, f64::ln, &xs, 3e-7, "log");
    let mut xs: Vec<f32> = (-5000..5000).map(|i| i as f32 * 1e-3).collect();
    xs.extend([inf, -inf, f32::NAN, 1e-30, -1e-40]);
    table(Erf, erf64, &xs, 3e-7, "erf");
}
