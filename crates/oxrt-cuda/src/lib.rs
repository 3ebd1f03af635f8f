//! The CUDA backend.
//!
//! Kernels are text ([`text`]), written for a node's element types and compiled when an engine is built; the engine file
//! holds their machine code, and a run needs nothing but the driver. All libraries are opened by name at run time, so one
//! binary serves machines with and without a GPU. The [`emulate`] module runs the same texts on the host, for tests.

mod backend;
mod driver;
pub mod emulate;
mod gpu;
mod libraries;
mod ops;
mod text;

pub use backend::CudaBackend;
pub use driver::{Cuda, compile};
pub use gpu::{Function, Gpu, Params};
