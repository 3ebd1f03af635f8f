//! The first elements of a line in order: a scan keeps a small set of candidates, which alone is sorted.

use super::element::Element;
use super::fold::Middle;
use super::{Shared, cut};
use crate::pool::ThreadPool;
use core::cmp::Ordering;

/// Elements that are looked at together.
const RUN: usize = 32;
/// Fewer elements than this are not worth waking another thread for.
const MIN_PER_TASK: usize = 16 * 1024;

/// An element's key, turned so that the first wanted is the least, and its place.
#[derive(Clone, Copy, Default)]
pub struct Entry<K> {
    key: K,
    place: u32,
}

/// The `k` greatest (or least) elements of each line, in order; equal ones by place. NaN is greater than everything.
#[derive(Clone, Copy, Debug)]
pub struct TopK {
    /// Lines; the middle holds `n` elements each.
    pub lines: Middle,
    pub k: usize,
    pub largest: bool,
}

impl TopK {
    /// Candidates that are kept at a time: few, so that the worst of them soon keeps almost everything out.
    fn room(&self) -> usize {
        (2 * self.k).max(32).min(self.lines.n)
    }

    fn parts(&self, threads: usize) -> usize {
        let lines = self.lines.outer * self.lines.inner;
        crate::pool::parts(lines * self.lines.n / MIN_PER_TASK, threads).min(lines.max(1))
    }

    /// Bytes of workspace.
    pub fn workspace<T: Element>(&self, threads: usize) -> usize {
        self.parts(threads) * self.room() * size_of::<Entry<T::Key>>()
    }

    /// Runs it; `values` or `places` may be null.
    ///
    /// # Safety
    /// The pointers cover the sizes, `workspace` as many bytes as [`TopK::workspace`] says; lines are shorter than 2³².
    pub unsafe fn run<T: Element>(
        &self,
        pool: &ThreadPool,
        x: *const T,
        values: *mut T,
        places: *mut i64,
        workspace: *mut u8,
    ) {
        let Middle { outer, n, inner } = self.lines;
        let (lines, k, room) = (outer * inner, self.k, self.room());
        if lines == 0 || k == 0 {
            return;
        }
        let (x, values, places) = (Shared(x.cast_mut()), Shared(values), Shared(places));
        let scratch = Shared(workspace.cast::<Entry<T::Key>>());
        let parts = self.parts(pool.threads());
        pool.run(parts, |part| {
            let (first, count) = cut(lines, parts, part);
            // SAFETY: each part has entries of its own, initialised here before they are read as a slice.
            let entries = unsafe {
                (0..room).for_each(|i| scratch.at(part * room + i).write(Entry::default()));
                core::slice::from_raw_parts_mut(scratch.at(part * room), room)
            };
            for line in first..first + count {
                let (o, i) = (line / inner, line % inner);
                // SAFETY: the line lies inside the operand, its first elements inside the results.
                unsafe {
                    let from = x.at(o * n * inner + i).cast_const();
                    if self.largest {
                        first_k::<T, true>(from, n, inner, k, entries, |a: &T::Key, b: &T::Key| b.cmp(a));
                    } else {
                        first_k::<T, false>(from, n, inner, k, entries, T::Key::cmp);
                    }
                    for (j, entry) in entries[..k].iter().enumerate() {
                        let to = (o * k + j) * inner + i;
                        if !values.get().is_null() {
                            *values.at(to) = *from.add(entry.place as usize * inner);
                        }
                        if !places.get().is_null() {
                            *places.at(to) = i64::from(entry.place);
                        }
                    }
                }
            }
        });
    }
}

/// Puts the first `k` elements of a line in order into `entries`.
#[inline(always)]
unsafe fn first_k<T: Element, const LARGEST: bool>(
    x: *const T,
    n: usize,
    step: usize,
    k: usize,
    entries: &mut [Entry<T::Key>],
    order: impl Fn(&T::Key, &T::Key) -> Ordering,
) {
    let full = |a: &Entry<T::Key>, b: &Entry<T::Key>| order(&a.key, &b.key).then(a.place.cmp(&b.place));
    let mut len = 0;
    let mut last: Option<T::Key> = None;
    let (mut next, mut looked) = (0, 0);
    while next < n {
        // Mostly none of some neighbours comes before the last candidate.
        if let (Some(last), 1, true) = (last, step, next >= looked && next + RUN <= n) {
            let mut any = false;
            for j in 0..RUN {
                // SAFETY: the line has `n` elements.
                let key = unsafe { *x.add(next + j) }.key();
                any |= if LARGEST { key > last } else { key < last };
            }
            looked = next + RUN;
            if !any {
                next = looked;
                continue;
            }
        }
        let i = next;
        next += 1;
        // SAFETY: the line has `n` elements.
        let key = unsafe { *x.add(i * step) }.key();
        // Later ones that are equal to the last candidate stand behind it.
        if last.is_some_and(|last| order(&key, &last).is_ge()) {
            continue;
        }
        entries[len] = Entry { key, place: i as u32 };
        len += 1;
        if len == entries.len() && len > k && i + 1 < n {
            entries.select_nth_unstable_by(k - 1, full);
            last = Some(entries[k - 1].key);
            len = k;
        }
    }
    if len > k {
        entries[..len].select_nth_unstable_by(k - 1, full);
    }
    entries[..k].sort_unstable_by(full);
}
