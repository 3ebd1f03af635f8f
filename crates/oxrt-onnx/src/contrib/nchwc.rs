//! `com.microsoft.nchwc`: layouts of one machine.

use super::Call;
use oxrt_ir::ValueId;
use oxrt_tensor::{Error, Result};

/// Weights in blocks of 8 or 16 channels, whichever the machine had that wrote the file; the file does not say.
pub(super) fn declined(_: &mut Call) -> Result<Vec<Option<ValueId>>> {
    Err(Error::unsupported("a model whose weights onnxruntime packed for the machine that it ran on")
        .help("save it with ORT_ENABLE_EXTENDED instead of ORT_ENABLE_ALL"))
}
