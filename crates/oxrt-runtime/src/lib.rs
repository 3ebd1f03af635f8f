//! Loads a plan, binds shapes, runs.
//!
//! An [`Engine`] is immutable and shared; a [`Context`] holds the memory of one run at a time. Setting the
//! input sizes evaluates all shape expressions once and keeps the result per set of sizes; a run with
//! known sizes walks the steps without allocating, hashing or looking at shapes.
//!
//! When a size depends on data (`NonZero`, `Loop`), the context runs step by step instead, with buffers
//! made as their sizes become known.

mod arena;
mod binding;
mod bodies;
mod context;
mod device;
mod dynamic;
mod engine;
mod kept;
mod loose;
mod memory;
mod sizes;

pub use context::{Context, StepProfile};
pub use device::DeviceTimes;
pub use dynamic::{Seen, Watch};
pub use engine::{Engine, Port};
pub use memory::{MemoryPlan, PlannedBuffer, PlannedStep};
pub use oxrt_tensor::{DType, Error, Result, Tensor, TensorView};
