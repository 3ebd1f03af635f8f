//! The graph: values, nodes, symbolic dimensions, source locations, verifier, text form.
//!
//! The graph speaks of operators by name only: what `Conv` means is written in `oxrt-ops`. Importers
//! raise every operator to its newest ONNX version, so a node carries no version.

mod attr;
mod conditions;
mod dim;
mod dim_parse;
mod expr;
mod extract;
mod graph;
mod splice;
mod symbol;
mod text;

mod types;
mod verify;

pub use attr::{Attr, Attrs};
pub use conditions::{CONDITIONS, broken_conditions, holds, substitute_conditions, substitute_in};
pub use dim::{Atom, Dim};
pub use expr::Expr;
pub use graph::{Edit, Graph, Model, Node, NodeId, Source, Value, ValueId};
pub use symbol::{Range, Symbol, Symbols};

pub use text::parse_graph;
pub use types::{Contents, TensorType, ValueType};

pub use oxrt_tensor::{DType, Error, Result, Tensor};
