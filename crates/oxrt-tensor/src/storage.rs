//! Owned aligned bytes and read-only file mappings.

use crate::{Block, Context, Error, Result};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// A read-only mapping of a whole file, shared by every tensor that lies in it.
#[derive(Clone)]
pub struct Mapped(Arc<memmap2::Mmap>);

impl AsRef<[u8]> for Mapped {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps a file read-only.
///
/// # Errors
/// With the path when the file cannot be opened or is empty.
pub fn map_file(path: &Path) -> Result<Mapped> {
    let file = File::open(path).at(|| path.display())?;
    if file.metadata().at(|| path.display())?.len() == 0 {
        return Err(Error::invalid("the file is empty").at(path.display().to_string()));
    }
    // SAFETY: the mapping is read-only. Another process truncating the file while it is mapped is the
    // one hazard that mmap cannot exclude; writers of oxrt replace files by rename, never in place.
    let map = unsafe { memmap2::Mmap::map(&file) }.at(|| path.display())?;
    Ok(Mapped(Arc::new(map)))
}

/// Writes a file beside its target and renames it when complete, so that nobody ever sees half a file.
///
/// # Errors
/// Whatever `write` or the file system says; the partial file is removed.
pub fn write_atomically<T>(path: &Path, write: impl FnOnce(&mut std::io::BufWriter<File>) -> Result<T>) -> Result<T> {
    let name = path.file_name().ok_or_else(|| Error::invalid(format!("not a file name: {}", path.display())))?;
    let mut partial = name.to_os_string();
    partial.push(format!(".partial-{}", std::process::id()));
    let partial = path.with_file_name(partial);
    let attempt: Result<T> = (|| {
        let mut out = std::io::BufWriter::with_capacity(1 << 20, File::create(&partial)?);
        let value = write(&mut out)?;
        out.into_inner().map_err(|e| Error::from(e.into_error()))?;
        std::fs::rename(&partial, path)?;
        Ok(value)
    })();
    if attempt.is_err() {
        std::fs::remove_file(&partial).ok();
    }
    attempt.at(|| format!("writing {}", path.display()))
}

/// Bytes of a tensor. Owned ones start at a multiple of 64.
pub(crate) enum Storage {
    Owned { block: Block, len: usize },
    Shared { owner: Box<dyn AsRef<[u8]> + Send + Sync>, start: usize, len: usize },
    Strings(Vec<String>),
}

impl Storage {
    /// # Panics
    /// When the machine has not so much memory.
    pub fn zeroed(len: usize) -> Self {
        Storage::try_zeroed(len).unwrap_or_else(|| panic!("no memory for a tensor of {len} bytes"))
    }

    /// The same, `None` when there is not so much memory.
    pub fn try_zeroed(len: usize) -> Option<Self> {
        Some(Storage::Owned { block: Block::zeroed(len)?, len })
    }

    /// Room for `len` bytes in memory that is there already, whatever it holds; `None` where that is too small.
    pub fn reused(self, len: usize) -> Option<Self> {
        match self {
            Storage::Owned { block, .. } if block.bytes().len() >= len => Some(Storage::Owned { block, len }),
            _ => None,
        }
    }

    /// Bytes that [`Storage::reused`] can give.
    pub fn capacity(&self) -> usize {
        match self {
            Storage::Owned { block, .. } => block.bytes().len(),
            _ => 0,
        }
    }

    pub fn copied(bytes: &[u8]) -> Self {
        let mut s = Self::zeroed(bytes.len());
        s.bytes_mut().expect("owned").copy_from_slice(bytes);
        s
    }

    pub fn bytes(&self) -> &[u8] {
        match self {
            Storage::Owned { block, len } => &block.bytes()[..*len],
            Storage::Shared { owner, start, len } => &(**owner).as_ref()[*start..*start + *len],
            Storage::Strings(_) => &[],
        }
    }

    pub fn bytes_mut(&mut self) -> Option<&mut [u8]> {
        match self {
            Storage::Owned { block, len } => Some(&mut block.bytes_mut()[..*len]),
            _ => None,
        }
    }
}
