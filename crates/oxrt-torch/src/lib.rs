//! PyTorch exported programs: `.pt2` reader and ATen lowering.
//!
//! [`Program::open`] maps a file written by `torch.export.save` (torch 2.4 and later) and reads its
//! signature; [`import`] lowers it to a graph of ONNX operators with symbolic dimensions. Weights stay
//! in the mapped file. Nothing in the file is ever executed.
//!
//! * `archive`, `schema`, `argument`, `pickle`, `weights`: the container.
//! * `symbols`, `naming`: sizes.
//! * `lower`, `alias`, `cx`, `args`: the walk over the program; in-place writes become new values.
//! * `widen`: element types that runtimes lack kernels for.
//! * `aten`: one function per operator overload, listed in `aten/table.rs`.

mod alias;
mod archive;
mod args;
mod argument;
mod aten;
mod cx;
mod import;
mod lower;
mod naming;
mod pickle;
mod program;
mod promote;
mod pytree;
mod schema;
mod script;
mod subgraph;
mod symbols;
mod weights;
mod widen;

pub use import::{DimOption, ImportOptions, Imported, import, import_program};
pub use program::{Input, Program};
