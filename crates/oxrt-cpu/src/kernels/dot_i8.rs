//! The microkernels of quantised products: sums of products of bytes, and what follows up to the next byte.
//!
//! As in [`super::gemm`] the left operand is not packed: one pointer per row and tap. The right operand lies in panels of
//! `NV * LANES` columns; four consecutive elements of the inner product stand side by side per column, and every tap is
//! filled up with zeros to a multiple of four:
//!
//! ```text
//! panel: k=0..4 [c0 c0 c0 c0  c1 c1 c1 c1 …]   k=4..8 [c0 c0 c0 c0 …]   …
//! ```
//!
//! Left operands are taken as unsigned; signed ones are moved up by 128 on the way in, and their zero point with them.

use super::activation::{Act, simple};
use crate::simd::Simd;
use crate::simd::bytes::{Bytes, Dot};

/// One call of the product's microkernel.
#[derive(Clone, Copy, Debug)]
pub struct DotTile {
    /// Row pointers: those of tap `t` start at `a.add(t * a_tap)`, one per row.
    pub a: *const *const u8,
    /// Pointers from one tap to the next.
    pub a_tap: usize,
    /// How many taps.
    pub taps: usize,
    /// Bytes per tap.
    pub kc: usize,
    /// `0`, or `0x80808080` where the left operand is signed.
    pub flip: i32,
    /// The panel of the right operand: `taps * kc.next_multiple_of(4)` bytes per column.
    pub b: *const i8,
    /// What the sums start from, one per column of the panel.
    pub init: *const i32,
    /// The sums, rows of the panel's width.
    pub out: *mut i32,
}

/// The signs of four bytes.
const SIGNS: i32 = 0x8080_8080u32 as i32;

/// Up to four bytes as the low ones of an integer.
#[inline(always)]
unsafe fn few(p: *const u8, n: usize) -> i32 {
    let mut v = 0u32;
    for i in 0..n {
        // SAFETY: the caller has `n` bytes there.
        v |= u32::from(unsafe { *p.add(i) }) << (8 * i);
    }
    v as i32
}

/// The microkernel for exactly `MR` rows and a panel of `NV` vectors.
///
/// # Safety
/// Every pointer of `t` covers what its description says.
#[inline(always)]
pub unsafe fn dot_tile<S: Bytes, D: Dot<S>, const MR: usize, const NV: usize, const FLIP: bool>(s: S, t: &DotTile) {
    // SAFETY: the caller's promise covers every access.
    unsafe {
        let mut acc = [[s.int_splat(0); NV]; MR];
        for j in 0..NV {
            let v = s.int_load(t.init.add(j * S::LANES));
            for i in 0..MR {
                acc[i][j] = v;
            }
        }
        let mut b = t.b.cast::<i32>();
        macro_rules! step {
            ($u:literal, $a:expr) => {{
                let mut bv = [s.int_splat(0); NV];
                for j in 0..NV {
                    bv[j] = s.int_load(b.add(($u * NV + j) * S::LANES));
                }
                for i in 0..MR {
                    let moved: i32 = if FLIP { $a(i) ^ SIGNS } else { $a(i) };
                    let av = s.int_splat(moved);
                    for j in 0..NV {
                        acc[i][j] = D::dot(s, acc[i][j], av, bv[j]);
                    }
                }
            }};
        }
        for tap in 0..t.taps {
            let rows = t.a.add(tap * t.a_tap);
            let mut p = [core::ptr::null::<u8>(); MR];
            for i in 0..MR {
                p[i] = *rows.add(i);
            }
            let mut k = 0;
            while k + 16 <= t.kc {
                step!(0, |i: usize| p[i].add(k).cast::<i32>().read_unaligned());
                step!(1, |i: usize| p[i].add(k + 4).cast::<i32>().read_unaligned());
                step!(2, |i: usize| p[i].add(k + 8).cast::<i32>().read_unaligned());
                step!(3, |i: usize| p[i].add(k + 12).cast::<i32>().read_unaligned());
                b = b.add(4 * NV * S::LANES);
                k += 16;
            }
            while k + 4 <= t.kc {
                step!(0, |i: usize| p[i].add(k).cast::<i32>().read_unaligned());
                b = b.add(NV * S::LANES);
                k += 4;
            }
            if k < t.kc {
                // Gathered first: a loop among the sums would keep them out of registers.
                let mut rest = [0i32; MR];
                for i in 0..MR {
                    rest[i] = few(p[i].add(k), t.kc - k);
                }
                step!(0, |i: usize| rest[i]);
                b = b.add(NV * S::LANES);
            }
        }
        for i in 0..MR {
            for j in 0..NV {
                s.int_store(t.out.add((i * NV + j) * S::LANES), acc[i][j]);
            }
        }
    }
}

/// Sums of the (moved) bytes of rows: `out[i]` over all taps of row `i`.
///
/// # Safety
/// The row pointers of `t` are valid for `rows` rows, `out` for as many sums.
#[inline(always)]
pub unsafe fn row_sums<S: Bytes, D: Dot<S>>(s: S, t: &DotTile, rows: usize, out: *mut i32) {
    // SAFETY: as the caller promises.
    unsafe {
        let (flip, ones) = (s.int_splat(t.flip), s.int_splat(0x0101_0101));
        for i in 0..rows {
            let mut acc = s.int_splat(0);
            let mut rest = 0i32;
            for tap in 0..t.taps {
                let p = *t.a.add(tap * t.a_tap + i);
                let mut k = 0;
                while k + S::BYTES <= t.kc {
                    acc = D::dot(s, acc, s.int_xor(s.int_load(p.add(k).cast()), flip), ones);
                    k += S::BYTES;
                }
                while k < t.kc {
                    rest = rest.wrapping_add(i32::from(*p.add(k) ^ t.flip as u8));
                    k += 1;
                }
            }
            let mut lanes = [0i32; 16];
            s.int_store(lanes.as_mut_ptr(), acc);
            *out.add(i) = lanes.iter().fold(rest, |sum, &v| sum.wrapping_add(v));
        }
    }
}

/// What stands at the end of a product.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Store {
    /// The sums themselves.
    I32,
    /// Reals.
    F32,
    /// Quantised.
    Byte,
}

/// Rounding to a quantised tensor.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rounding {
    /// One over the scale.
    pub inverse: f32,
    /// Least and greatest integer, less the zero point.
    pub low: f32,
    /// As `low`.
    pub high: f32,
    /// The zero point.
    pub zero: i32,
}

/// From sums to the result, for a rectangle.
#[derive(Clone, Copy, Debug)]
pub struct Finish {
    /// The sums.
    pub acc: *const i32,
    /// Sums from one row to the next.
    pub acc_stride: usize,
    /// Rows of the rectangle.
    pub rows: usize,
    /// Columns of the rectangle.
    pub cols: usize,
    /// Sums of the left operand's rows, or null.
    pub row_sums: *const i32,
    /// What is subtracted per unit of a row sum (the right operand's zero point).
    pub w_zero: i32,
    /// Kind of result.
    pub store: Store,
    /// Factor per column. For a byte without activation it includes the first rounding's `inverse`.
    pub scale: *const f32,
    /// Addend per column, as `scale`; or null.
    pub bias: *const f32,
    /// The activation, where it is simple.
    pub act: Act,
    /// The first rounding, when a residual follows.
    pub mid: Rounding,
    /// A table of 256 bytes for the result of the first rounding, or null.
    pub mid_table: *const u8,
    /// `0x80` where the bytes of that table are signed.
    pub mid_flip: i32,
    /// Their (moved) zero point.
    pub mid_zero: i32,
    /// Factor of the integers of the first rounding, or of the table's.
    pub mid_scale: f32,
    /// The residual, or null.
    pub residual: *const u8,
    /// Bytes from one of its rows to the next; zero for one row for all.
    pub residual_stride: usize,
    /// `0x80` where it is signed.
    pub residual_flip: i32,
    /// Its (moved) zero point.
    pub residual_zero: i32,
    /// Factor of its integers.
    pub residual_scale: f32,
    /// The last rounding.
    pub y: Rounding,
    /// A table of 256 bytes for the result, or null.
    pub table: *const u8,
    /// The result.
    pub out: *mut u8,
    /// Bytes from one row of the result to the next.
    pub out_stride: usize,
}

/// The rectangle.
///
/// # Safety
/// Every pointer of `f` covers what its description says.
#[inline(always)]
pub unsafe fn finish<S: Bytes, D: Dot<S>>(s: S, f: &Finish) {
    // SAFETY: as the caller promises.
    unsafe {
        if !f.mid_table.is_null() && !f.residual.is_null() {
            return through_table::<S, D>(s, f);
        }
        match (f.store, f.residual.is_null(), f.act == Act::None) {
            (Store::Byte, true, true) => columns::<S, false, false>(s, f),
            (Store::Byte, true, false) => columns::<S, false, true>(s, f),
            (Store::Byte, false, true) => columns::<S, true, false>(s, f),
            (Store::Byte, false, false) => columns::<S, true, true>(s, f),
            _ => plain(s, f),
        }
        if !f.table.is_null() {
            tabulate::<S, D>(s, f, f.table);
        }
    }
}

/// A table over the bytes that are there.
#[inline(always)]
unsafe fn tabulate<S: Bytes, D: Dot<S>>(s: S, f: &Finish, table: *const u8) {
    for i in 0..f.rows {
        // SAFETY: as `finish`.
        unsafe {
            let row = f.out.add(i * f.out_stride);
            look_up::<S, D>(s, table, row, row, f.cols);
        }
    }
}

/// The first rounding, its table, and then the residual added row by row.
#[inline(always)]
unsafe fn through_table<S: Bytes, D: Dot<S>>(s: S, f: &Finish) {
    // SAFETY: as `finish`.
    unsafe {
        let first = Finish { residual: core::ptr::null(), table: core::ptr::null(), y: f.mid, ..*f };
        if f.act == Act::None {
            columns::<S, false, false>(s, &first);
        } else {
            columns::<S, false, true>(s, &first);
        }
        tabulate::<S, D>(s, f, f.mid_table);
        for i in 0..f.rows {
            let out = f.out.add(i * f.out_stride);
            binary::<S, D>(
                s,
                &BinaryRow {
                    op: BinaryOp::Add,
                    x: [out, f.residual.add(i * f.residual_stride)],
                    step: [1; 2],
                    flip: [f.mid_flip, f.residual_flip],
                    zero: [f.mid_zero, f.residual_zero],
                    scale: [f.mid_scale * f.y.inverse, f.residual_scale * f.y.inverse],
                    y: f.y,
                    out,
                    n: f.cols,
                },
            );
        }
        if !f.table.is_null() {
            tabulate::<S, D>(s, f, f.table);
        }
    }
}

/// The sums of row `i` from column `c`, the right operand's zero point taken off.
#[inline(always)]
unsafe fn sums<S: Bytes>(s: S, f: &Finish, i: usize, c: usize, n: usize) -> S::I {
    // SAFETY: as `finish`.
    unsafe {
        let p = f.acc.add(i * f.acc_stride + c);
        let v = if n >= S::LANES { s.int_load(p) } else { s.int_load_first(p, n) };
        if f.row_sums.is_null() {
            return v;
        }
        s.int_sub(v, s.int_splat(f.w_zero.wrapping_mul(*f.row_sums.add(i))))
    }
}

/// Integers or reals.
#[inline(always)]
unsafe fn plain<S: Bytes>(s: S, f: &Finish) {
    // SAFETY: as `finish`.
    unsafe {
        let mut c = 0;
        while c < f.cols {
            let (n, m) = ((f.cols - c).min(S::LANES), s.first(f.cols - c));
            for i in 0..f.rows {
                let v = sums(s, f, i, c, n);
                let out = f.out.add(i * f.out_stride).cast::<i32>().add(c);
                if f.store == Store::I32 {
                    s.int_store_first(out, v, n);
                    continue;
                }
                let bias = if f.bias.is_null() { s.zero() } else { s.load_mask(f.bias.add(c), m) };
                let real = s.fma(s.int_to_float(v), s.load_mask(f.scale.add(c), m), bias);
                s.store_mask(out.cast(), simple(s, f.act, real), m);
            }
            c += S::LANES;
        }
    }
}

/// The nearest integers within the limits, less the zero point.
#[inline(always)]
fn limit<S: Simd>(s: S, r: &Rounding, v: S::F) -> S::F {
    s.min(s.max(v, s.splat(r.low)), s.splat(r.high))
}

#[inline(always)]
unsafe fn columns<S: Bytes, const MID: bool, const ACT: bool>(s: S, f: &Finish) {
    // SAFETY: as `finish`.
    unsafe {
        let first = if MID { f.mid.inverse } else { f.y.inverse };
        let mut c = 0;
        while c < f.cols {
            let (n, m) = ((f.cols - c).min(S::LANES), s.first(f.cols - c));
            let scale = s.load_mask(f.scale.add(c), m);
            let bias = if f.bias.is_null() { s.zero() } else { s.load_mask(f.bias.add(c), m) };
            for i in 0..f.rows {
                let mut v = s.fma(s.int_to_float(sums(s, f, i, c, n)), scale, bias);
                if ACT {
                    v = s.mul(simple(s, f.act, v), s.splat(first));
                }
                if MID {
                    let q = s.round(limit(s, &f.mid, v));
                    let r = s.widen(f.residual.add(i * f.residual_stride + c), n);
                    let r = s.int_sub(s.int_xor(r, s.int_splat(f.residual_flip)), s.int_splat(f.residual_zero));
                    let r = s.mul(s.int_to_float(r), s.splat(f.residual_scale));
                    v = s.mul(s.fma(q, s.splat(f.mid_scale), r), s.splat(f.y.inverse));
                }
                let q = s.int_add(s.to_int(limit(s, &f.y, v)), s.int_splat(f.y.zero));
                s.narrow(f.out.add(i * f.out_stride + c), q, n);
            }
            c += S::LANES;
        }
    }
}

/// A run of pixels of a depthwise convolution that see the same kernel positions.
#[derive(Clone, Copy, Debug)]
pub struct DepthRun {
    /// Per tap (four per group), the first channel of the first pixel's input.
    pub x: *const *const u8,
    /// Per tap, bytes from one pixel's input to the next one's.
    pub steps: *const usize,
    /// Groups of four taps.
    pub groups: usize,
    /// Pixels in the run.
    pub pixels: usize,
    /// Channels.
    pub channels: usize,
    /// As [`DotTile::flip`].
    pub flip: i32,
    /// Weights: per group, per channel, four taps.
    pub w: *const i8,
    /// Bytes from one group's weights to the next.
    pub w_group: usize,
    /// What the sums start from, per channel.
    pub init: *const i32,
    /// The sums, `out_stride` from one pixel to the next.
    pub out: *mut i32,
    /// As said.
    pub out_stride: usize,
}

/// The run.
///
/// # Safety
/// Every pointer of `r` covers what its description says.
#[inline(always)]
pub unsafe fn depthwise<S: Bytes, D: Dot<S>>(s: S, r: &DepthRun) {
    // SAFETY: as the caller promises.
    unsafe {
        let flip = s.int_splat(r.flip);
        let mut c = 0;
        while c < r.channels {
            let n = (r.channels - c).min(S::LANES);
            let init = s.int_load_first(r.init.add(c), n);
            let mut p = 0;
            while p < r.pixels {
                let both = p + 2 <= r.pixels;
                let (mut a0, mut a1) = (init, init);
                for g in 0..r.groups {
                    let w = s.int_load_first(r.w.add(g * r.w_group).cast::<i32>().add(c), n);
                    let rows = |p: usize| {
                        core::array::from_fn(|t| {
                            let tap = 4 * g + t;
                            (*r.x.add(tap)).wrapping_add(p * *r.steps.add(tap) + c)
                        })
                    };
                    a0 = D::dot(s, a0, s.int_xor(s.interleave(rows(p), n), flip), w);
                    if both {
                        a1 = D::dot(s, a1, s.int_xor(s.interleave(rows(p + 1), n), flip), w);
                    }
                }
                s.int_store_first(r.out.add(p * r.out_stride + c), a0, n);
                if both {
                    s.int_store_first(r.out.add((p + 1) * r.out_stride + c), a1, n);
                }
                p += 2;
            }
            c += S::LANES;
        }
    }
}

/// `out[c] += sum of x[p][c]` over pixels.
///
/// # Safety
/// `x` has `pixels` rows of `channels` bytes, `stride` apart, `out` as many sums.
#[inline(always)]
pub unsafe fn column_sums<S: Bytes, D: Dot<S>>(
    s: S,
    x: *const u8,
    pixels: usize,
    channels: usize,
    stride: usize,
    flip: i32,
    out: *mut i32,
) {
    // SAFETY: as the caller promises.
    unsafe {
        let flip = s.int_splat(flip & 0xff);
        let mut c = 0;
        while c < channels {
            let n = (channels - c).min(S::LANES);
            let mut acc = s.int_load_first(out.add(c), n);
            for p in 0..pixels {
                acc = s.int_add(acc, s.int_xor(s.widen(x.add(p * stride + c), n), flip));
            }
            s.int_store_first(out.add(c), acc, n);
            c += S::LANES;
        }
    }
}

/// `y[i] = max(y[i], x[i])`, as signed bytes where `flip` is `0x80`.
///
/// # Safety
/// Both have `n` bytes.
#[inline(always)]
pub unsafe fn max_bytes<S: Bytes, D: Dot<S>>(_: S, x: *const u8, y: *mut u8, n: usize, flip: i32) {
    let flip = flip as u8;
    for i in 0..n {
        // SAFETY: as the caller promises. (The compiler has one instruction for whole registers of this.)
        unsafe { *y.add(i) = ((*x.add(i) ^ flip).max(*y.add(i) ^ flip)) ^ flip };
    }
}

/// An operation of two quantised operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BinaryOp {
    /// Sum (or difference, by the sign of a factor).
    Add,
    /// Product.
    Mul,
}

/// A row of it.
#[derive(Clone, Copy, Debug)]
pub struct BinaryRow {
    /// Which.
    pub op: BinaryOp,
    /// Operands.
    pub x: [*const u8; 2],
    /// One, or zero for one byte for all.
    pub step: [usize; 2],
    /// `0x80` where signed.
    pub flip: [i32; 2],
    /// The (moved) zero points.
    pub zero: [i32; 2],
    /// The factors of a sum's operands; the first one is a product's. They include the rounding's inverse.
    pub scale: [f32; 2],
    /// The rounding.
    pub y: Rounding,
    /// The result.
    pub out: *mut u8,
    /// How many.
    pub n: usize,
}

/// Elements of operand `k` from `i` on, less their zero point.
#[inline(always)]
unsafe fn operand<S: Bytes>(s: S, r: &BinaryRow, k: usize, i: usize, n: usize) -> S::F {
    // SAFETY: as `binary`.
    let v = unsafe { if r.step[k] == 0 { s.int_splat(i32::from(*r.x[k])) } else { s.widen(r.x[k].add(i), n) } };
    s.int_to_float(s.int_sub(s.int_xor(v, s.int_splat(r.flip[k])), s.int_splat(r.zero[k])))
}

/// The row.
///
/// # Safety
/// Every pointer of `r` covers what its description says.
#[inline(always)]
pub unsafe fn binary<S: Bytes, D: Dot<S>>(s: S, r: &BinaryRow) {
    // SAFETY: as the caller promises.
    unsafe {
        let (ka, kb) = (s.splat(r.scale[0]), s.splat(r.scale[1]));
        let mut i = 0;
        while i < r.n {
            let n = (r.n - i).min(S::LANES);
            let (a, b) = (operand(s, r, 0, i, n), operand(s, r, 1, i, n));
            let v = match r.op {
                BinaryOp::Add => s.fma(a, ka, s.mul(b, kb)),
                BinaryOp::Mul => s.mul(s.mul(a, b), ka),
            };
            let q = s.int_add(s.to_int(limit(s, &r.y, v)), s.int_splat(r.y.zero));
            s.narrow(r.out.add(i), q, n);
            i += S::LANES;
        }
    }
}

/// Bytes to floats, `(x - zero) * scale`.
///
/// # Safety
/// `x` has `n` bytes, `y` as many floats.
#[inline(always)]
pub unsafe fn dequantise<S: Bytes, D: Dot<S>>(
    s: S,
    x: *const u8,
    y: *mut f32,
    n: usize,
    flip: i32,
    zero: i32,
    scale: f32,
) {
    let mut i = 0;
    while i < n {
        let count = (n - i).min(S::LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let v = s.int_xor(s.widen(x.add(i), count), s.int_splat(flip & 0xff));
            let v = s.mul(s.int_to_float(s.int_sub(v, s.int_splat(zero))), s.splat(scale));
            s.store_mask(y.add(i), v, s.first(count));
        }
        i += S::LANES;
    }
}

/// Floats to bytes. The quotient by `scale` is the rounded one of a division, as ONNX has it.
///
/// # Safety
/// `x` has `n` floats, `y` as many bytes.
#[inline(always)]
pub unsafe fn quantise<S: Bytes, D: Dot<S>>(s: S, x: *const f32, y: *mut u8, n: usize, scale: f32, r: &Rounding) {
    let mut i = 0;
    while i < n {
        let count = (n - i).min(S::LANES);
        // SAFETY: as the caller promises.
        unsafe {
            let v = s.div(s.load_mask(x.add(i), s.first(count)), s.splat(scale));
            // NaN is zero.
            let v = limit(s, r, s.blend(s.eq(v, v), v, s.zero()));
            s.narrow(y.add(i), s.int_add(s.to_int(v), s.int_splat(r.zero)), count);
        }
        i += S::LANES;
    }
}

/// `y = table[x]` for bytes.
///
/// # Safety
/// `x` and `y` have `n` bytes, `table` 256.
#[inline(always)]
pub unsafe fn look_up<S: Bytes, D: Dot<S>>(s: S, table: *const u8, x: *const u8, y: *mut u8, n: usize) {
    let mut i = 0;
    while i < n {
        // SAFETY: as the caller promises.
        unsafe { D::look_up(s, table, x.add(i), y.add(i), (n - i).min(S::BYTES)) };
        i += S::BYTES;
    }
}
