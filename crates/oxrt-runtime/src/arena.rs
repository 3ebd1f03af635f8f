//! The memory of a context: one aligned block that only grows.

use oxrt_tensor::{Result, bail};

/// 64 bytes, aligned like [`oxrt_backend::ALIGN`].
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Line([u8; 64]);

#[derive(Default)]
pub(crate) struct Arena {
    lines: Vec<Line>,
}

impl Arena {
    /// Makes room for `bytes`; contents are lost when it grows.
    ///
    /// # Errors
    /// When the machine has not so much memory.
    pub fn reserve(&mut self, bytes: usize) -> Result<()> {
        let lines = bytes.div_ceil(64);
        if lines > self.lines.len() {
            // Freed first, so that the old and the new block never exist together.
            self.lines = Vec::new();
            if self.lines.try_reserve_exact(lines).is_err() {
                bail!(invalid, "no memory for activations of {bytes} bytes");
            }
            self.lines.resize(lines, Line([0; 64]));
        }
        Ok(())
    }

    pub fn base(&mut self) -> *mut u8 {
        self.lines.as_mut_ptr().cast()
    }

    pub fn bytes(&self) -> &[u8] {
        // SAFETY: the block holds that many initialised bytes.
        unsafe { std::slice::from_raw_parts(self.lines.as_ptr().cast(), self.len()) }
    }

    pub fn len(&self) -> usize {
        self.lines.len() * 64
    }
}
