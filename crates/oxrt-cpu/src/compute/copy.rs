//! Moving elements between two strided layouts: transpose, slice, pad, concatenate, expand are all this one loop.

use super::{Shared, cut};
use crate::pool::ThreadPool;
use core::mem::MaybeUninit;

/// Elements per side of a square that is transposed at once: one cache line of floats.
const SQUARE: usize = 16;
/// Fewer bytes than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 64 * 1024;
/// Bytes that are more than the caches hold.
const LARGE: usize = 32 << 20;

/// A copy of a box of elements, with any strides on both sides (zero on the source side repeats).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StridedCopy {
    /// Sizes, the destination's smallest stride last.
    dims: Vec<usize>,
    src: Vec<isize>,
    dst: Vec<isize>,
    /// Bytes of one element.
    size: usize,
    /// Dimension along which the source is contiguous, when that is not the last.
    across: Option<usize>,
}

impl StridedCopy {
    /// A copy of `dims` elements of `size` bytes; strides are in elements.
    pub fn new(dims: &[usize], src: &[isize], dst: &[isize], size: usize) -> StridedCopy {
        let mut order: Vec<usize> = (0..dims.len()).filter(|&d| dims[d] != 1).collect();
        // Destination order: writes are what costs.
        order.sort_by_key(|&d| {
            (core::cmp::Reverse(dst[d].unsigned_abs()), core::cmp::Reverse(src[d].unsigned_abs()), d)
        });
        let mut copy = StridedCopy { dims: Vec::new(), src: Vec::new(), dst: Vec::new(), size, across: None };
        for d in order {
            if let Some(last) = copy.dims.len().checked_sub(1) {
                let n = dims[d] as isize;
                if copy.src[last] == src[d] * n && copy.dst[last] == dst[d] * n {
                    copy.dims[last] *= dims[d];
                    copy.src[last] = src[d];
                    copy.dst[last] = dst[d];
                    continue;
                }
            }
            copy.dims.push(dims[d]);
            copy.src.push(src[d]);
            copy.dst.push(dst[d]);
        }
        if copy.dims.is_empty() {
            copy.dims.push(if dims.contains(&0) { 0 } else { 1 });
            copy.src.push(1);
            copy.dst.push(1);
        }
        let last = copy.dims.len() - 1;
        if copy.dst[last] == 1 && copy.src[last] != 1 {
            copy.across = (0..last).find(|&d| copy.src[d] == 1);
        }
        copy
    }

    /// From contiguous to contiguous, with the dimensions in another order: `dst[i] = src[perm]`.
    pub fn transpose(shape: &[usize], perm: &[usize], size: usize) -> StridedCopy {
        let strides = contiguous(shape);
        let dims: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        let src: Vec<isize> = perm.iter().map(|&p| strides[p]).collect();
        StridedCopy::new(&dims, &src, &contiguous(&dims), size)
    }

    /// Elements it moves.
    pub fn len(&self) -> usize {
        self.dims.iter().product()
    }

    /// Whether there is nothing to move.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Whether it is one unbroken piece.
    pub fn is_contiguous(&self) -> bool {
        self.dims.len() == 1 && self.src[0] == 1 && self.dst[0] == 1
    }

    /// Runs it, from the element at `src` to the element at `dst`.
    ///
    /// # Safety
    /// Every element that the strides reach is readable and writable; the sides do not overlap; elements are aligned.
    pub unsafe fn run(&self, pool: &ThreadPool, src: *const u8, dst: *mut u8) {
        // SAFETY: passed on.
        unsafe {
            match self.size {
                1 => self.typed::<u8>(pool, src, dst),
                2 => self.typed::<u16>(pool, src, dst),
                4 => self.typed::<u32>(pool, src, dst),
                8 => self.typed::<u64>(pool, src, dst),
                16 => self.typed::<[u64; 2]>(pool, src, dst),
                _ => unreachable!("element sizes are powers of two up to 16"),
            }
        }
    }

    unsafe fn typed<T: Copy>(&self, pool: &ThreadPool, src: *const u8, dst: *mut u8) {
        if self.is_empty() {
            return;
        }
        let (src, dst) = (Shared(src.cast_mut().cast::<T>()), Shared(dst.cast::<T>()));
        let last = self.dims.len() - 1;
        // Work is counted in lines: runs along the last dimension, or squares' rows when transposing.
        let most = pool.parts(self.len() * self.size / MIN_PER_TASK);
        if let Some(across) = self.across {
            // A few planes become one: many rows at once are worth it.
            let few = self.dims[last] <= 4 && self.dst[across] == self.dims[last] as isize;
            let many = self.dims[across] >= 64 * SQUARE;
            let side = if few {
                16 * SQUARE
            } else if many {
                4 * SQUARE
            } else {
                SQUARE
            };
            let blocks = self.dims[across].div_ceil(side);
            let outer: usize = self.len() / (self.dims[across] * self.dims[last]);
            let lines = outer * blocks;
            let parts = most.min(lines);
            pool.run(parts, |part| {
                let (start, count) = cut(lines, parts, part);
                for line in start..start + count {
                    let (s, d) = self.offsets(line / blocks, Some(across));
                    let first = line % blocks * side;
                    let rows = side.min(self.dims[across] - first);
                    // SAFETY: squares are disjoint parts of the box.
                    unsafe {
                        let s = src.get().offset(s).add(first);
                        let d = dst.get().offset(d + first as isize * self.dst[across]);
                        match self.dims[last] {
                            2 if few => interleave::<T, 2>(s, self.src[last], d, rows),
                            3 if few => interleave::<T, 3>(s, self.src[last], d, rows),
                            4 if few => interleave::<T, 4>(s, self.src[last], d, rows),
                            cols => squares(s, self.src[last], d, self.dst[across], rows, cols),
                        }
                    }
                }
            });
            return;
        }
        let lines = self.len() / self.dims[last];
        if lines == 1 && self.src[last] == 1 && self.dst[last] == 1 {
            // Few large pieces: the system's own copy writes those past the caches.
            let parts = if self.len() * self.size >= LARGE { most.min(pool.threads()) } else { most };
            pool.run(parts, |part| {
                let (start, count) = cut(self.dims[last], parts, part);
                // SAFETY: parts are disjoint pieces of the run.
                unsafe { core::ptr::copy_nonoverlapping(src.at(start), dst.at(start), count) };
            });
            return;
        }
        let parts = most.min(lines);
        pool.run(parts, |part| {
            let (start, count) = cut(lines, parts, part);
            let n = self.dims[last];
            let (ss, ds) = (self.src[last], self.dst[last]);
            for line in start..start + count {
                let (s, d) = self.offsets(line, None);
                // SAFETY: lines are disjoint parts of the box.
                unsafe {
                    let (s, d) = (src.get().offset(s), dst.get().offset(d));
                    match (ss, ds) {
                        (1, 1) if n * size_of::<T>() < 64 => (0..n).for_each(|i| *d.add(i) = *s.add(i)),
                        (1, 1) => core::ptr::copy_nonoverlapping(s, d, n),
                        (0, 1) => {
                            let value = *s;
                            (0..n).for_each(|i| *d.add(i) = value);
                        }
                        _ => (0..n as isize).for_each(|i| *d.offset(i * ds) = *s.offset(i * ss)),
                    }
                }
            }
        });
    }

    /// Offsets of both sides for position `index` counted over all dimensions but the last and `skip`.
    #[inline]
    fn offsets(&self, mut index: usize, skip: Option<usize>) -> (isize, isize) {
        let (mut s, mut d) = (0, 0);
        for i in (0..self.dims.len() - 1).rev() {
            if Some(i) == skip {
                continue;
            }
            let at = (index % self.dims[i]) as isize;
            index /= self.dims[i];
            s += at * self.src[i];
            d += at * self.dst[i];
        }
        (s, d)
    }
}

pub use oxrt_backend::geometry::contiguous;

/// Elements of `N` planes, `step` apart, side by side: `d[r * N + c] = s[c * step + r]`.
#[inline]
unsafe fn interleave<T: Copy, const N: usize>(s: *const T, step: isize, d: *mut T, rows: usize) {
    for r in 0..rows {
        for c in 0..N {
            // SAFETY: the caller's box contains every position.
            unsafe { *d.add(r * N + c) = *s.offset(c as isize * step).add(r) };
        }
    }
}

/// Transposes `rows` source columns into destination rows of `cols` elements: `d[r * d_step + c] = s[c * s_step + r]`.
#[inline]
unsafe fn squares<T: Copy>(s: *const T, s_step: isize, d: *mut T, d_step: isize, rows: usize, cols: usize) {
    let (whole_rows, whole_cols) = (rows / SQUARE * SQUARE, cols / SQUARE * SQUARE);
    // By way of a square of its own: lines of a large source lie in the same few sets of the first cache.
    let mut square = [MaybeUninit::<[T; SQUARE]>::uninit(); SQUARE];
    // SAFETY: the caller's box contains every position.
    unsafe {
        for c0 in (0..whole_cols).step_by(SQUARE) {
            // Neighbouring lines of the same source rows.
            for r0 in (0..whole_rows).step_by(SQUARE) {
                for (c, line) in square.iter_mut().enumerate() {
                    line.write(s.offset((c0 + c) as isize * s_step).add(r0).cast::<[T; SQUARE]>().read());
                }
                let square = square.as_ptr().cast::<T>();
                for r in 0..SQUARE {
                    let to = d.offset((r0 + r) as isize * d_step).add(c0);
                    to.cast::<[T; SQUARE]>().write(core::array::from_fn(|c| *square.add(c * SQUARE + r)));
                }
            }
        }
        for r in 0..rows {
            for c in if r < whole_rows { whole_cols } else { 0 }..cols {
                *d.offset(r as isize * d_step).add(c) = *s.offset(c as isize * s_step).add(r);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(shape: &[usize], perm: &[usize]) {
        let n: usize = shape.iter().product();
        let pool = ThreadPool::new(2);
        let src: Vec<u32> = (0..n as u32).collect();
        let bytes: Vec<u8> = (0..n).map(|i| i as u8).collect();
        let (mut dst, mut dst8) = (vec![u32::MAX; n], vec![0xffu8; n]);
        // SAFETY: both sides have the shape's elements.
        unsafe {
            StridedCopy::transpose(shape, perm, 4).run(&pool, src.as_ptr().cast(), dst.as_mut_ptr().cast());
            StridedCopy::transpose(shape, perm, 1).run(&pool, bytes.as_ptr(), dst8.as_mut_ptr());
        }
        let dims: Vec<usize> = perm.iter().map(|&p| shape[p]).collect();
        for i in 0..n {
            let mut rest = i;
            let mut from = 0;
            for d in (0..dims.len()).rev() {
                from += rest % dims[d] * contiguous(shape)[perm[d]] as usize;
                rest /= dims[d];
            }
            assert_eq!(dst[i], src[from], "{shape:?} {perm:?} at {i}");
            assert_eq!(dst8[i], src[from] as u8);
        }
    }

    #[test]
    fn transposes_of_every_kind() {
        check(&[], &[]);
        check(&[5], &[0]);
        check(&[0, 3], &[1, 0]);
        check(&[1, 7, 1], &[2, 0, 1]);
        check(&[16, 16], &[1, 0]);
        check(&[33, 47], &[1, 0]);
        check(&[2, 17, 3, 19], &[0, 2, 3, 1]);
        check(&[2, 3, 19, 17], &[0, 3, 1, 2]);
        check(&[4, 6, 5, 8], &[0, 2, 1, 3]);
        check(&[4, 6, 5, 8], &[3, 2, 1, 0]);
        check(&[4, 6, 5, 8], &[2, 0, 3, 1]);
        check(&[64, 9, 100], &[1, 0, 2]);
        check(&[300, 300], &[1, 0]);
        check(&[37, 1100], &[1, 0]);
        check(&[2, 70, 1030], &[0, 2, 1]);
    }

    #[test]
    fn strides_may_be_negative_zero_or_wide() {
        let pool = ThreadPool::new(2);
        let src: Vec<u64> = (0..24).collect();
        let mut dst = vec![0u64; 60];
        // Rows backwards, every second column, each repeated three times, into rows of ten.
        let copy = StridedCopy::new(&[4, 3, 3], &[-6, 2, 0], &[10, 3, 1], 8);
        // SAFETY: the strides stay inside both buffers.
        unsafe { copy.run(&pool, src.as_ptr().add(18).cast(), dst.as_mut_ptr().cast()) };
        for r in 0..4 {
            for c in 0..3 {
                for k in 0..3 {
                    assert_eq!(dst[r * 10 + c * 3 + k], (18 - 6 * r + 2 * c) as u64);
                }
            }
            assert_eq!(dst[r * 10 + 9], 0);
        }
        assert!(StridedCopy::new(&[2, 3], &[3, 1], &[3, 1], 4).is_contiguous());
        assert!(StridedCopy::new(&[2, 0], &[3, 1], &[3, 1], 4).is_empty());
    }
}
