//! Places buffers in one arena by their lifetimes.

/// A buffer that lives from step `first` to step `last`, both inclusive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Buffer {
    pub bytes: usize,
    pub first: usize,
    pub last: usize,
}

/// Offsets of the buffers (multiples of `align`) and the size of the arena.
///
/// Largest first, each at the lowest gap among the buffers that live at the same time ("greedy by size",
/// Pisarchyk & Lee, *Efficient Memory Management for Deep Neural Net Inference*, 2020).
pub fn assign(buffers: &[Buffer], align: usize) -> (Vec<usize>, usize) {
    let mut order: Vec<usize> = (0..buffers.len()).collect();
    order.sort_by_key(|&i| (std::cmp::Reverse(buffers[i].bytes), buffers[i].first, i));
    let mut offsets = vec![0; buffers.len()];
    // Placed buffers in rising order of offset.
    let mut placed: Vec<usize> = Vec::new();
    let mut total = 0;
    for i in order {
        let b = buffers[i];
        if b.bytes == 0 {
            continue;
        }
        let mut at = 0usize;
        for &p in &placed {
            let q = buffers[p];
            if q.last < b.first || b.last < q.first {
                continue;
            }
            if at + b.bytes <= offsets[p] {
                break;
            }
            at = at.max((offsets[p] + q.bytes).next_multiple_of(align));
        }
        offsets[i] = at;
        total = total.max(at + b.bytes);
        let rank = placed.partition_point(|&p| offsets[p] <= at);
        placed.insert(rank, i);
    }
    (offsets, total.next_multiple_of(align))
}

/// Bytes alive at the busiest step: no placement can need less.
pub fn lower_bound(buffers: &[Buffer]) -> usize {
    let steps = buffers.iter().map(|b| b.last + 1).max().unwrap_or(0);
    let mut alive = vec![0isize; steps + 1];
    for b in buffers {
        alive[b.first] += b.bytes as isize;
        alive[b.last + 1] -= b.bytes as isize;
    }
    let mut now = 0;
    let peak = alive.iter().map(|d| {
        now += d;
        now
    });
    peak.max().unwrap_or(0) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn buffers_alive_together_never_overlap(list in proptest::collection::vec((0usize..500, 0usize..20, 0usize..6), 0..40)) {
            let buffers: Vec<Buffer> =
                list.into_iter().map(|(bytes, first, len)| Buffer { bytes, first, last: first + len }).collect();
            let (offsets, total) = assign(&buffers, 64);
            for (i, a) in buffers.iter().enumerate() {
                prop_assert!(offsets[i] % 64 == 0 && offsets[i] + a.bytes <= total);
                for (j, b) in buffers.iter().enumerate().skip(i + 1) {
                    let together = a.first <= b.last && b.first <= a.last && a.bytes > 0 && b.bytes > 0;
                    let apart = offsets[i] + a.bytes <= offsets[j] || offsets[j] + b.bytes <= offsets[i];
                    prop_assert!(!together || apart, "{:?} at {} and {:?} at {}", a, offsets[i], b, offsets[j]);
                }
            }
            prop_assert!(total >= lower_bound(&buffers));
        }
    }

    #[test]
    fn a_chain_needs_two_buffers() {
        let chain: Vec<Buffer> = (0..10).map(|i| Buffer { bytes: 640, first: i, last: i + 1 }).collect();
        assert_eq!(assign(&chain, 64).1, 1280);
    }
}
