//! Memory of tensors and activations.

/// 64 bytes, aligned like a cache line.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

/// Size and alignment of a large page, and the least that is worth one.
const LARGE_PAGE: usize = 2 << 20;

/// Bytes that start at a multiple of 64, zero at first. Large blocks lie in large pages where the system has them: with small
/// ones, work on large tensors waits for translations of addresses.
#[derive(Default)]
pub struct Block(Kind);

enum Kind {
    Lines(Vec<Line>),
    Pages { map: memmap2::MmapMut, start: usize },
}

impl Default for Kind {
    fn default() -> Kind {
        Kind::Lines(Vec::new())
    }
}

impl Block {
    /// At least `len` bytes of zeros; `None` when the machine has not so much memory.
    pub fn zeroed(len: usize) -> Option<Block> {
        if len >= LARGE_PAGE {
            // Room to begin at a large page; what is left out costs addresses alone.
            let mut map = memmap2::MmapMut::map_anon(len.checked_add(LARGE_PAGE)?).ok()?;
            let start = map.as_mut_ptr().align_offset(LARGE_PAGE);
            // Refused where the system has no large pages, which costs speed alone.
            #[cfg(target_os = "linux")]
            let _ = map.advise_range(memmap2::Advice::HugePage, start, len);
            return Some(Block(Kind::Pages { map, start }));
        }
        let mut lines = Vec::new();
        lines.try_reserve_exact(len.div_ceil(64)).ok()?;
        lines.resize(len.div_ceil(64), Line([0; 64]));
        Some(Block(Kind::Lines(lines)))
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        match &self.0 {
            // SAFETY: the lines are that many initialised bytes.
            Kind::Lines(lines) => unsafe { std::slice::from_raw_parts(lines.as_ptr().cast(), lines.len() * 64) },
            Kind::Pages { map, start } => &map[*start..],
        }
    }

    /// The bytes, to be written.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        match &mut self.0 {
            // SAFETY: as above, and the borrow is unique.
            Kind::Lines(lines) => unsafe {
                std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), lines.len() * 64)
            },
            Kind::Pages { map, start } => &mut map[*start..],
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_any_size_are_aligned_zeros() {
        for len in [0, 1, 64, 100, LARGE_PAGE - 1, LARGE_PAGE, 3 * LARGE_PAGE + 5] {
            let mut block = Block::zeroed(len).unwrap();
            assert!(block.bytes().len() >= len && block.bytes().iter().all(|&b| b == 0));
            assert!((block.bytes().as_ptr() as usize).is_multiple_of(64));
            block.bytes_mut().fill(7);
            assert!(block.bytes().iter().all(|&b| b == 7));
        }
        assert!(Block::zeroed(usize::MAX - 5).is_none());
    }
}
