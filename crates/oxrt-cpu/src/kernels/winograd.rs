//! The transforms of Winograd's minimal filtering for 3x3 kernels: a tile of outputs from far fewer multiplications.
//!
//! Lavin and Gray, "Fast Algorithms for Convolutional Neural Networks". With `F(m)` a tile of `m x m` outputs needs
//! `n x n = (m + 2)^2` products per channel pair instead of `9 m^2`. The interpolation points decide the rounding errors:
//!
//! * `F(2)`: 0, 1, -1 and infinity.
//! * `F(4)`: 0, ±3/4, ±3/2 and infinity; these lose about one bit against direct summation, the usual 0, ±1, ±2 two.

use super::activation::{Act, simple};
use super::rows::{load_or, store_n};
use crate::simd::Simd;

/// The inner points of `F(4)`, as squares: 3/4 and 3/2.
const A: f32 = 0.75;
const B: f32 = 1.5;
const A2: f32 = A * A;
const B2: f32 = B * B;

/// Interpolation points of `F(m)` but infinity.
pub fn points(m: usize) -> &'static [f64] {
    if m == 4 { &[0.0, 0.75, -0.75, 1.5, -1.5] } else { &[0.0, 1.0, -1.0] }
}

/// The one-dimensional transforms of a tile size.
trait Tile: Copy {
    /// Inputs per side.
    const IN: usize;
    /// Outputs per side.
    const OUT: usize;
    fn input<S: Simd>(s: S, d: [S::F; 6]) -> [S::F; 6];
    fn output<S: Simd>(s: S, m: [S::F; 6]) -> [S::F; 4];
}

#[derive(Clone, Copy)]
struct Two;
#[derive(Clone, Copy)]
struct Four;

impl Tile for Two {
    const IN: usize = 4;
    const OUT: usize = 2;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F; 6]) -> [S::F; 6] {
        let zero = s.zero();
        [s.sub(d[2], d[0]), s.add(d[2], d[1]), s.sub(d[2], d[1]), s.sub(d[3], d[1]), zero, zero]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F; 6]) -> [S::F; 4] {
        let zero = s.zero();
        [s.add(m[0], s.add(m[1], m[2])), s.add(s.sub(m[1], m[2]), m[3]), zero, zero]
    }
}

impl Tile for Four {
    const IN: usize = 6;
    const OUT: usize = 4;

    #[inline(always)]
    fn input<S: Simd>(s: S, d: [S::F; 6]) -> [S::F; 6] {
        // x^4 - (a² + b²) x² + a² b², and the same times x.
        let (sum, product) = (s.splat(-(A2 + B2)), s.splat(A2 * B2));
        let first = s.fma(d[0], product, s.fma(d[2], sum, d[4]));
        let last = s.fma(d[1], product, s.fma(d[3], sum, d[5]));
        // x (x ± p) (x² - q²): even part ± odd part.
        let even_a = s.fma(d[2], s.splat(-B2), d[4]);
        let odd_a = s.mul(s.fma(d[1], s.splat(-B2), d[3]), s.splat(A));
        let even_b = s.fma(d[2], s.splat(-A2), d[4]);
        let odd_b = s.mul(s.fma(d[1], s.splat(-A2), d[3]), s.splat(B));
        [first, s.add(even_a, odd_a), s.sub(even_a, odd_a), s.add(even_b, odd_b), s.sub(even_b, odd_b), last]
    }

    #[inline(always)]
    fn output<S: Simd>(s: S, m: [S::F; 6]) -> [S::F; 4] {
        let (sum_a, dif_a) = (s.add(m[1], m[2]), s.sub(m[1], m[2]));
        let (sum_b, dif_b) = (s.add(m[3], m[4]), s.sub(m[3], m[4]));
        [
            s.add(m[0], s.add(sum_a, sum_b)),
            s.fma(dif_a, s.splat(A), s.mul(dif_b, s.splat(B))),
            s.fma(sum_a, s.splat(A2), s.mul(sum_b, s.splat(B2))),
            s.add(m[5], s.fma(dif_a, s.splat(A2 * A), s.mul(dif_b, s.splat(B2 * B)))),
        ]
    }
}

/// `V = B^T d B` of one tile, all channels.
#[inline(always)]
unsafe fn input_tile<S: Simd, T: Tile>(
    s: S,
    _: T,
    pixels: *const *const f32,
    channels: usize,
    out: *mut f32,
    step: usize,
) {
    let mut c = 0;
    while c < channels {
        let left = channels - c;
        // SAFETY: every pixel has the channels, every product position of the output too.
        unsafe {
            let mut half = [[s.zero(); 6]; 6];
            for j in 0..T::IN {
                let mut d = [s.zero(); 6];
                for i in 0..T::IN {
                    d[i] = load_or(s, (*pixels.add(i * T::IN + j)).add(c), left, 0.0);
                }
                let t = T::input(s, d);
                for i in 0..T::IN {
                    half[i][j] = t[i];
                }
            }
            for i in 0..T::IN {
                let t = T::input(s, half[i]);
                for j in 0..T::IN {
                    store_n(s, out.add((i * T::IN + j) * step + c), t[j], left);
                }
            }
        }
        c += S::LANES;
    }
}

/// One tile of results.
#[derive(Clone, Copy, Debug)]
pub struct OutputTile {
    /// Products: position `p`, channel `c` at `m[p * step + c]`.
    pub m: *const f32,
    /// Floats from one position to the next.
    pub step: usize,
    /// Channels.
    pub channels: usize,
    /// Output pixels, row by row; null outside the image.
    pub y: *const *mut f32,
    /// Residual pixels, as the output ones; or null.
    pub residual: *const *const f32,
    /// One float per channel, or null.
    pub bias: *const f32,
    /// The activation, where it is simple.
    pub act: Act,
}

/// `A^T m A` of one tile, with what follows it.
#[inline(always)]
unsafe fn output_tile<S: Simd, T: Tile>(s: S, _: T, tile: &OutputTile) {
    let mut c = 0;
    while c < tile.channels {
        let left = tile.channels - c;
        // SAFETY: positions and pixels have the channels.
        unsafe {
            let bias = if tile.bias.is_null() { s.zero() } else { load_or(s, tile.bias.add(c), left, 0.0) };
            let mut half = [[s.zero(); 6]; 4];
            for j in 0..T::IN {
                let mut m = [s.zero(); 6];
                for i in 0..T::IN {
                    m[i] = load_or(s, tile.m.add((i * T::IN + j) * tile.step + c), left, 0.0);
                }
                let t = T::output(s, m);
                for i in 0..T::OUT {
                    half[i][j] = t[i];
                }
            }
            for i in 0..T::OUT {
                let t = T::output(s, half[i]);
                for j in 0..T::OUT {
                    let at = i * T::OUT + j;
                    let y = *tile.y.add(at);
                    if y.is_null() {
                        continue;
                    }
                    let mut v = s.add(t[j], bias);
                    if !tile.residual.is_null() {
                        v = s.add(v, load_or(s, (*tile.residual.add(at)).add(c), left, 0.0));
                    }
                    store_n(s, y.add(c), simple(s, tile.act, v), left);
                }
            }
        }
        c += S::LANES;
    }
}

/// Transforms one tile of inputs: `(m + 2)^2` pixel pointers, row by row, to as many positions, `step` floats apart.
///
/// # Safety
/// Every pixel has `channels` floats, and `out` room for every position's.
#[inline(always)]
pub unsafe fn winograd_input<S: Simd>(
    s: S,
    m: usize,
    pixels: *const *const f32,
    channels: usize,
    out: *mut f32,
    step: usize,
) {
    // SAFETY: as the caller promises.
    unsafe {
        match m {
            4 => input_tile(s, Four, pixels, channels, out, step),
            _ => input_tile(s, Two, pixels, channels, out, step),
        }
    }
}

/// Transforms one tile of products to outputs.
///
/// # Safety
/// The pointers of the tile cover its channels.
#[inline(always)]
pub unsafe fn winograd_output<S: Simd>(s: S, m: usize, tile: &OutputTile) {
    // SAFETY: as the caller promises.
    unsafe {
        match m {
            4 => output_tile(s, Four, tile),
            _ => output_tile(s, Two, tile),
        }
    }
}
