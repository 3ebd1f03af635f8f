//! Fourier transforms of lines: passes of radices 2, 3, 4 and 5, by Bluestein's convolution where other primes divide the
//! length, and in half the length for real signals.

use crate::kernels::Kernels;
use crate::kernels::fft::{Parts, Pass, Real};
use oxrt_ops::fft32::radices;
use std::f64::consts::TAU;

/// A transform of one length.
#[derive(Clone, Debug)]
pub struct Fft<T> {
    n: usize,
    inverse: bool,
    passes: Vec<Step<T>>,
    bluestein: Option<Box<Bluestein<T>>>,
}

#[derive(Clone, Debug)]
struct Step<T> {
    radix: usize,
    done: usize,
    rest: usize,
    re: Vec<T>,
    im: Vec<T>,
}

/// Bluestein, "A linear filtering approach to the computation of the discrete Fourier transform" (1970): a convolution with a
/// chirp, of a length that has small factors.
#[derive(Clone, Debug)]
struct Bluestein<T> {
    forward: Fft<T>,
    back: Fft<T>,
    /// exp(∓πi k² / n).
    chirp: Vec<(T, T)>,
    /// The transform of the other chirp.
    spectrum: Vec<(T, T)>,
}

/// exp(2πi k / n).
fn root(k: usize, n: usize) -> (f64, f64) {
    let (sin, cos) = (TAU * k as f64 / n as f64).sin_cos();
    (cos, sin)
}

fn times<T: Real>(a: (T, T), b: (T, T)) -> (T, T) {
    (a.0 * b.0 - a.1 * b.1, a.0 * b.1 + a.1 * b.0)
}

impl<T: Real> Fft<T> {
    /// Of `n` numbers; the inverse is divided by the length.
    pub fn new(kernels: &Kernels, n: usize, inverse: bool) -> Fft<T> {
        let Some(radices) = radices(n) else { return Fft::by_convolution(kernels, n, inverse) };
        let (mut passes, mut done) = (Vec::new(), 1);
        for radix in radices {
            let rest = n / (done * radix);
            let factors = (1..radix).flat_map(|j| (0..rest).map(move |i| root(j * done * i, n)));
            let (re, im) = factors.map(|(re, im)| (T::of(re), T::of(im))).unzip();
            passes.push(Step { radix, done, rest, re, im });
            done *= radix;
        }
        Fft { n, inverse, passes, bluestein: None }
    }

    fn by_convolution(kernels: &Kernels, n: usize, inverse: bool) -> Fft<T> {
        let m = (2 * n - 1).next_power_of_two();
        let (forward, back) = (Fft::new(kernels, m, false), Fft::new(kernels, m, true));
        let sign = if inverse { 1.0 } else { -1.0 };
        let chirp: Vec<(f64, f64)> = (0..n)
            .map(|k| {
                // k² modulo 2n keeps the angle exact.
                let (cos, sin) = root((k as u128 * k as u128 % (2 * n as u128)) as usize, 2 * n);
                (cos, sign * sin)
            })
            .collect();
        let mut re = vec![T::default(); 4 * m];
        let room = Parts { re: re.as_mut_ptr(), im: re.as_mut_ptr().wrapping_add(2 * m) };
        let mut spectrum = Vec::new();
        // SAFETY: the room holds two lines of m numbers.
        unsafe {
            for (k, &(cos, sin)) in chirp.iter().enumerate() {
                let v = (T::of(cos), T::of(-sin));
                room.set(k, v);
                if k > 0 {
                    room.set(m - k, v);
                }
            }
            let line = forward.run(kernels, room, room.at(m));
            spectrum.extend((0..m).map(|i| line.get(i)));
        }
        let chirp = chirp.into_iter().map(|(re, im)| (T::of(re), T::of(im))).collect();
        Fft { n, inverse, passes: Vec::new(), bluestein: Some(Box::new(Bluestein { forward, back, chirp, spectrum })) }
    }

    /// Numbers that each of the two lines of [`Fft::run`] holds.
    pub fn room(&self) -> usize {
        self.bluestein.as_ref().map_or(self.n, |b| b.forward.n)
    }

    /// Transforms `line`, and says where the result is: there, or in `spare`.
    ///
    /// # Safety
    /// Both have [`Fft::room`] numbers, of which the first are the line, and do not overlap.
    pub unsafe fn run(&self, kernels: &Kernels, line: Parts<T>, spare: Parts<T>) -> Parts<T> {
        // SAFETY: as the caller promises.
        unsafe {
            if let Some(b) = &self.bluestein {
                let m = b.forward.n;
                for (k, &w) in b.chirp.iter().enumerate() {
                    line.set(k, times(line.get(k), w));
                }
                for k in self.n..m {
                    line.set(k, (T::default(), T::default()));
                }
                let one = b.forward.run(kernels, line, spare);
                let other = if one.re == line.re { spare } else { line };
                for (k, &w) in b.spectrum.iter().enumerate() {
                    one.set(k, times(one.get(k), w));
                }
                let out = b.back.run(kernels, one, other);
                let share = if self.inverse { T::of(1.0 / self.n as f64) } else { T::of(1.0) };
                for (k, &w) in b.chirp.iter().enumerate() {
                    let (re, im) = times(out.get(k), w);
                    out.set(k, (re * share, im * share));
                }
                return out;
            }
            let (mut from, mut to) = (line, spare);
            for step in &self.passes {
                let factors = Parts { re: step.re.as_ptr().cast_mut(), im: step.im.as_ptr().cast_mut() };
                let Step { radix, done, rest, .. } = *step;
                T::pass(kernels)(&Pass { radix, done, rest, inverse: self.inverse, factors, from, to });
                core::mem::swap(&mut from, &mut to);
            }
            if self.inverse {
                let share = T::of(1.0 / self.n as f64);
                for k in 0..self.n {
                    let (re, im) = from.get(k);
                    from.set(k, (re * share, im * share));
                }
            }
            from
        }
    }
}

/// The first half of the spectrum of a real line of even length, by a complex transform of half the length.
#[derive(Clone, Debug)]
pub struct RealFft {
    half: Fft<f64>,
    roots: Vec<(f64, f64)>,
}

impl RealFft {
    /// Of `n` numbers, an even number.
    pub fn new(kernels: &Kernels, n: usize) -> RealFft {
        RealFft { half: Fft::new(kernels, n / 2, false), roots: (0..=n / 2).map(|k| root(k, n)).collect() }
    }

    /// Numbers that each of the two lines of [`RealFft::run`] holds.
    pub fn room(&self) -> usize {
        self.half.room().max(self.roots.len())
    }

    /// Transforms the line whose elements `2k` and `2k + 1` are the parts of number `k`, and says where the `n / 2 + 1` results
    /// are.
    ///
    /// # Safety
    /// As [`Fft::run`].
    pub unsafe fn run(&self, kernels: &Kernels, line: Parts<f64>, spare: Parts<f64>) -> Parts<f64> {
        let half = self.roots.len() - 1;
        // SAFETY: as the caller promises.
        unsafe {
            let packed = self.half.run(kernels, line, spare);
            let out = if packed.re == line.re { spare } else { line };
            for (k, &(cos, sin)) in self.roots.iter().enumerate() {
                let (a, b) = (packed.get(k % half), packed.get((half - k) % half));
                // The spectra of the even and of the odd elements.
                let even = ((a.0 + b.0) / 2.0, (a.1 - b.1) / 2.0);
                let odd = ((a.1 + b.1) / 2.0, (b.0 - a.0) / 2.0);
                out.set(k, (even.0 + odd.0 * cos + odd.1 * sin, even.1 + odd.1 * cos - odd.0 * sin));
            }
            out
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{every_tier, noise};

    #[test]
    fn lengths_of_all_kinds() {
        every_tier(|kernels| {
            for n in [1, 2, 3, 4, 5, 6, 7, 8, 11, 12, 15, 17, 25, 30, 49, 60, 64, 97, 100, 121, 128, 210, 400, 1009] {
                let x: Vec<(f64, f64)> =
                    noise(n, 1).into_iter().zip(noise(n, 2)).map(|(a, b)| (a.into(), b.into())).collect();
                for inverse in [false, true] {
                    let want = oxrt_ops::spectral::transform(&x, inverse);
                    let fft = Fft::<f64>::new(kernels, n, inverse);
                    // SAFETY: the lines have the transform's room.
                    let got = run(fft.room(), &x, |line, spare| unsafe { fft.run(kernels, line, spare) });
                    compare(&got[..n], &want, n);
                }
                if n % 2 == 0 {
                    let real: Vec<(f64, f64)> = x.iter().map(|v| (v.0, 0.0)).collect();
                    let want = oxrt_ops::spectral::transform(&real, false);
                    let fft = RealFft::new(kernels, n);
                    let pairs: Vec<(f64, f64)> = (0..n / 2).map(|k| (x[2 * k].0, x[2 * k + 1].0)).collect();
                    // SAFETY: as above.
                    let got = run(fft.room(), &pairs, |line, spare| unsafe { fft.run(kernels, line, spare) });
                    compare(&got[..n / 2 + 1], &want[..n / 2 + 1], n);
                }
            }
        });
    }

    fn run(room: usize, x: &[(f64, f64)], f: impl Fn(Parts<f64>, Parts<f64>) -> Parts<f64>) -> Vec<(f64, f64)> {
        let mut memory = vec![f64::NAN; 4 * room];
        let line = Parts { re: memory.as_mut_ptr(), im: memory.as_mut_ptr().wrapping_add(room) };
        // SAFETY: the memory holds both lines.
        unsafe {
            x.iter().enumerate().for_each(|(i, &v)| line.set(i, v));
            let out = f(line, line.at(2 * room));
            (0..room).map(|i| out.get(i)).collect()
        }
    }

    fn compare(got: &[(f64, f64)], want: &[(f64, f64)], n: usize) {
        for (g, w) in got.iter().zip(want) {
            let near = |a: f64, b: f64| (a - b).abs() < 1e-13 * n as f64;
            assert!(near(g.0, w.0) && near(g.1, w.1), "{n}: {g:?}, {w:?}");
        }
    }
}
