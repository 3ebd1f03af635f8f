//! Element types, host tensors and views, `.npy`/`.npz` and image files.
//!
//! The lowest crate of oxrt: it knows numbers and bytes, and nothing of graphs. It also holds the
//! one [`Error`] type that every other crate speaks.

mod block;
mod dtype;
mod error;
mod halves;
pub mod image;
mod jpeg;
mod minifloat;
pub mod npy;
mod storage;
mod tensor;
mod view;

pub use block::Block;
pub use dtype::{DType, Element};
pub use error::{Context, Error, Kind, Result};
pub use half::{bf16, f16};
pub use halves::{bf16_from_f64, f16_from_f64};
pub use storage::{Mapped, map_file, write_atomically};
pub use tensor::{Tensor, num_elements, strides_of};
pub use view::TensorView;
