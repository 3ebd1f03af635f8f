//! PyTorch exported programs: .pt2 reader and ATen lowering
use oxrt_tensor::{Result, Tensor, bail};
#[derive(Default)]
pub struct ImportOptions {}
pub struct Imported {
    pub model: oxrt_ir::Model,
    pub samples: Vec<Tensor>,
    pub warnings: Vec<String>,
}
pub fn import(_: &std::path::Path, _: &ImportOptions) -> Result<Imported> {
    bail!(unsupported, "importer")
}
