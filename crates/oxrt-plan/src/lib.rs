//! The engine file: a lowered graph, the kernel chosen for each node, packed weights, profiles.
//!
//! Layout of the file (little-endian):
//!
//! ```text
//! 0   magic "OXRTENG\0"      8 bytes
//! 8   format version         u32, then 4 zero bytes
//! 16  length of the metadata u64
//! 24  start of the data      u64, a multiple of 64
//! 32  length of the data     u64
//! 40  xxh3 of the metadata   u64
//! 48  xxh3 of the data       u64
//! 56  xxh3 of bytes 0..56    u64
//! 64  metadata               JSON, readable without the device
//! …   data                   tensors, each at a multiple of 64, mapped in place
//! ```

pub mod choose;
mod file;
mod json;
pub mod memory;
mod plan;

pub use file::{is_engine, read_plan, write_plan};
pub use plan::{PackedKernel, Plan, Profile, SizeRange, Step, StepKind};

/// Version of the file format; engines of another version are refused. It rises too when kernels take other parameters or weights in another
/// order: an engine holds compiled code and packed weights, which this program's kernels have to fit.
pub const FORMAT_VERSION: u32 = 4;
