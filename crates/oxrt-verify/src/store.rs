//! Tensors by name in bounded memory: what does not fit lies in a temporary file.

use oxrt_tensor::{Context, DType, Error, Result, Tensor};
use std::collections::HashMap;
use std::fs::{File, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Holds tensors until they are asked for. Dropping it removes its file.
#[derive(Debug)]
pub struct Store {
    limit: usize,
    held: usize,
    spilled: u64,
    items: HashMap<String, Item>,
    file: Option<(File, PathBuf)>,
}

#[derive(Debug)]
enum Item {
    Memory(Tensor),
    File { dtype: DType, shape: Vec<usize>, at: u64, len: usize },
}

impl Store {
    /// Keeps up to `limit` bytes in memory.
    pub fn new(limit: usize) -> Store {
        Store { limit, held: 0, spilled: 0, items: HashMap::new(), file: None }
    }

    /// # Errors
    /// When the temporary file cannot be written.
    pub fn insert(&mut self, name: &str, t: Tensor) -> Result<()> {
        let len = t.bytes().len();
        // Strings have no bytes; small tensors are worth no trip to the disk.
        if t.strings().is_some() || len <= 256 || self.held + len <= self.limit {
            self.held += len;
            self.items.insert(name.to_string(), Item::Memory(t));
            return Ok(());
        }
        let (dtype, shape, at) = (t.dtype(), t.shape().to_vec(), self.spilled);
        let place = || "the temporary file for values beyond the memory allowed";
        let file = self.file().at(place)?;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.write_all(t.bytes())).at(place)?;
        self.spilled += len as u64;
        self.items.insert(name.to_string(), Item::File { dtype, shape, at, len });
        Ok(())
    }

    pub fn contains(&self, name: &str) -> bool {
        self.items.contains_key(name)
    }

    /// # Errors
    /// When the temporary file cannot be read.
    pub fn get(&mut self, name: &str) -> Result<Option<Tensor>> {
        let (dtype, shape, at, len) = match self.items.get(name) {
            None => return Ok(None),
            Some(Item::Memory(t)) => return Ok(Some(t.clone())),
            Some(Item::File { dtype, shape, at, len }) => (*dtype, shape.clone(), *at, *len),
        };
        let mut bytes = vec![0; len];
        let file = self.file()?;
        file.seek(SeekFrom::Start(at)).and_then(|_| file.read_exact(&mut bytes)).at(|| "reading a value back")?;
        Tensor::from_bytes(dtype, &shape, &bytes).map(Some)
    }

    /// Bytes in memory, and bytes in the file.
    pub fn bytes(&self) -> (usize, u64) {
        (self.held, self.spilled)
    }

    fn file(&mut self) -> Result<&mut File> {
        if self.file.is_none() {
            static COUNT: AtomicUsize = AtomicUsize::new(0);
            let name = format!("oxrt-values-{}-{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
            let path = std::env::temp_dir().join(name);
            let file = OpenOptions::new().read(true).write(true).create_new(true).open(&path);
            self.file = Some((file.at(|| path.display())?, path));
        }
        self.file.as_mut().map(|f| &mut f.0).ok_or_else(|| Error::bug("no file"))
    }
}

impl Drop for Store {
    fn drop(&mut self) {
        if let Some((_, path)) = &self.file {
            std::fs::remove_file(path).ok();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_beyond_the_limit_come_back_from_the_file() {
        let mut store = Store::new(4096);
        let value = |i: usize| Tensor::from_slice(&[16, 16], &vec![i as f32; 256]);
        for i in 0..12 {
            store.insert(&format!("v{i}"), value(i)).unwrap();
        }
        let (held, spilled) = store.bytes();
        assert!(held <= 4096 && spilled == 8 * 1024, "{held} {spilled}");
        for i in (0..12).rev() {
            assert_eq!(store.get(&format!("v{i}")).unwrap().unwrap(), value(i));
        }
        assert!(store.get("other").unwrap().is_none());
        let path = store.file.as_ref().unwrap().1.clone();
        drop(store);
        assert!(!path.exists());
    }
}
