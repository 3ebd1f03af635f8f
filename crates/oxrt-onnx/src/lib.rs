//! ONNX files: read, write, check, raise and lower opsets.
//!
//! Reading raises every operator to its newest version, inlines model-local functions, and turns
//! `dim_param` into symbols. Writing goes the other way, for a chosen opset. Weights are read from a
//! memory mapping and written straight from wherever they lie; no step needs the whole file in memory,
//! and nothing is limited to the 2 GiB of one protobuf message.

mod assertions;
#[cfg(test)]
mod assertions_tests;
mod contrib;
mod functions;
mod gradient;
#[cfg(test)]
mod hostile_tests;
mod lower;
#[cfg(test)]
mod lower_tests;
mod name_sizes;
mod proto;
mod raise;
mod read;
#[cfg(test)]
mod read_tests;
mod scan_8;
mod tensor_io;
mod write;

pub use functions::inline_functions;
pub use name_sizes::name_sizes;
pub use read::{external_files, read_bytes, read_file};
pub use tensor_io::{PbKind, datum_from_pb, datum_to_pb, load_datum};
pub use write::{WriteOptions, WriteReport, write_file};

/// Newest opset of the default domain that the writer knows.
pub const NEWEST_OPSET: i64 = 28;

/// Metadata key prefix under which ranges of dimensions are kept: `oxrt.dim.batch` = `1..64`.
pub const DIM_KEY: &str = "oxrt.dim.";

/// Metadata: what a reader of the model should know before relying on it.
pub const CAUTION_KEY: &str = "oxrt.caution";

/// Metadata key prefix under which a model in memory keeps how its file wrote a dimension that has another form here; it is never
/// written to a file.
const DIM_TEXT_KEY: &str = "oxrt.dim-text.";
