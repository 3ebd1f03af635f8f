//! The `.weights` file: a header, then every layer's numbers as f32, little-endian, in the order of the layers.

use oxrt_tensor::{DType, Error, Mapped, Result, Tensor, bail, map_file, num_elements};
use std::path::Path;

pub(crate) struct Weights {
    map: Mapped,
    at: usize,
    /// Files of early versions hold the matrices of connected layers transposed.
    pub transposed: bool,
}

impl Weights {
    pub fn open(path: &Path) -> Result<Weights> {
        let map = map_file(path)?;
        let bytes: &[u8] = map.as_ref();
        let word = |i: usize| bytes.get(4 * i..4 * i + 4).map(|b| i32::from_le_bytes([b[0], b[1], b[2], b[3]]));
        let (Some(major), Some(minor), Some(_)) = (word(0), word(1), word(2)) else {
            bail!(invalid, "{} bytes are too few for the header of a weights file", bytes.len())
        };
        if !(0..=1000).contains(&major) || !(0..=1000).contains(&minor) {
            return Err(Error::invalid(format!("version {major}.{minor}: not a Darknet weights file"))
                .help("give the `.weights` file that belongs to the cfg"));
        }
        // The number of images seen is 64 bits wide since version 0.2.
        let at = if major * 10 + minor >= 2 { 20 } else { 16 };
        Ok(Weights { map, at, transposed: major > 1000 || minor > 1000 })
    }

    /// The next numbers, as a tensor that lies in the file.
    pub fn take(&mut self, shape: &[usize], what: &str) -> Result<Tensor> {
        let bytes: &[u8] = self.map.as_ref();
        let need = num_elements(shape)?.checked_mul(4).ok_or_else(|| Error::invalid("a layer beyond memory"))?;
        let left = bytes.len().saturating_sub(self.at);
        if need > left {
            return Err(Error::invalid(format!("the {what} {shape:?} need {need} bytes, the file has {left} left"))
                .help("the weights belong to another cfg, or the file was not copied whole"));
        }
        let t = Tensor::from_bytes(DType::F32, shape, &bytes[self.at..self.at + need])?;
        self.at += need;
        Ok(t)
    }

    /// Complains about numbers that no layer took.
    pub fn finish(&self) -> Result<()> {
        let left = self.map.as_ref().len().saturating_sub(self.at);
        if left > 0 {
            return Err(Error::invalid(format!("{left} bytes are left after the last layer"))
                .help("the weights belong to another cfg: layers are missing in this one"));
        }
        Ok(())
    }
}
