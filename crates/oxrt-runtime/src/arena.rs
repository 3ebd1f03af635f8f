//! The memory of a context: one aligned block that only grows.

use oxrt_tensor::{Block, Result, bail};

#[derive(Default)]
pub(crate) struct Arena {
    block: Block,
    len: usize,
}

impl Arena {
    /// Makes room for `bytes`; contents are lost when it grows.
    ///
    /// # Errors
    /// When the machine has not so much memory.
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let len = bytes.next_multiple_of(64);
        if len > self.len {
            // Freed first, so that the old and the new block never exist together.
            (self.block, self.len) = (Block::default(), 0);
            let Some(block) = Block::zeroed(len) else {
                bail!(invalid, "no memory for activations of {bytes} bytes");
            };
            (self.block, self.len) = (block, len);
        }
        Ok(())
    }

    pub fn base(&mut self) -> *mut u8 {
        self.block.bytes_mut().as_mut_ptr()
    }

    pub fn bytes(&self) -> &[u8] {
        &self.block.bytes()[..self.len]
    }

    pub fn len(&self) -> usize {
        self.len
    }
}
