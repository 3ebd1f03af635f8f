//! One file per operator: schema, shape rule, scalar expression or reference evaluation, examples.
//!
//! * [`def::OpDef`] is what an operator file states; [`registry::find`] finds it by name.
//! * [`infer`] carries types, symbolic dimensions and the contents of shape tensors through a graph.
//! * [`eval`] is the reference evaluator, the judge of every fast path (f64 inside).
//! * [`scalar`] is the little language of elementwise operators; every backend compiles it.
//! * [`build::Builder`] makes nodes with inferred types; importers and passes use it.

pub mod activation;
pub mod attention;
pub mod build;
pub mod cast;
pub mod control;
pub mod conv;
pub mod copy;
pub mod cost;
pub mod def;
pub mod einsum;
pub mod eval;
pub mod fft32;
pub mod grid;
pub mod infer;
pub mod loss;
pub mod matmul;
pub mod ml;
pub mod norm;
mod ops;
pub mod optimizer;
pub mod pool;
pub mod quant;
pub mod quantised;
pub mod random;
pub mod recurrent;
pub mod reduce;
pub mod regex;
pub mod registry;
pub mod resample;
pub mod roi;
pub mod scalar;
pub mod shape;
pub mod spectral;
pub mod svm;
pub mod text;
pub mod trees;
pub mod window;

pub use build::Builder;
pub use def::OpDef;
pub use eval::{Datum, Eval, Interpreter};
pub use infer::Infer;

pub use oxrt_ir as ir;
pub use oxrt_tensor::{DType, Error, Result, Tensor};
