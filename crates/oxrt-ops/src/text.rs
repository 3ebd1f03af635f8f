//! Access to string tensors.

use oxrt_tensor::{Result, Tensor, bail};

pub fn strings(t: &Tensor) -> Result<&[String]> {
    match t.strings() {
        Some(s) => Ok(s),
        None => bail!(invalid, "strings are needed, found {}", t.dtype()),
    }
}
