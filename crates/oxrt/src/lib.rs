//! PyTorch models to production in one library: open → simplify → build → run.
//!
//! ```
//! use oxrt::{BuildOptions, Engine, Model, SimplifyOptions, TensorView};
//!
//! # fn main() -> oxrt::Result<()> {
//! # let dir = tempfile::tempdir()?;
//! # let path = dir.path().join("digits.engine");
//! let model = Model::open("../../examples/digits/model.pt2")?;       // or .onnx
//! let (model, _report) = model.simplify(&SimplifyOptions::default())?;
//! model.build(&BuildOptions::default())?.save(&path)?;
//!
//! let engine = Engine::open(&path)?;
//! let pixels = vec![0.5f32; 3 * 8 * 8];
//! let outputs = engine.run(&[("pixels", TensorView::of(&[3, 1, 8, 8], &pixels)?)])?;
//! assert_eq!(outputs["output"].shape(), [3, 10]);
//! # Ok(())
//! # }
//! ```
//!
//! [`Engine`] is `Send + Sync` and cheap to clone. For a steady stream of calls take a [`Session`]: it owns
//! its memory, caches what it worked out for each set of input sizes, and returns outputs as views.

mod accept;
mod audit;
mod bench;
mod bisect;
mod capability;
mod diff;
mod engine;
pub mod input;
mod machine;
mod model;
mod repair;
mod verify;

pub use accept::{Acceptance, Refusal, Target, acceptance};
pub use audit::{AuditFinding, AuditReport, Severity, audit};
pub use bench::{
    BenchOptions, BenchReport, SizeReport, StepTotal, bench, bench_stream, random_stream, resident_peak_bytes,
};
pub use bisect::{BisectReport, Guilty, bisect_passes};
pub use capability::{Capability, NodeCapability, Runs, Why, capability, choices};
pub use diff::{
    DiffOptions, DiffReport, Fault, NodePlace, NonFinite, ReadRange, Reproducer, Side, ValueDiff, diff,
    find_non_finite, reproduce,
};
pub use engine::{
    Device, DeviceTimes, Engine, MemoryPlan, Outputs, PlannedBuffer, PlannedStep, Port, Seen, Session, StepProfile,
    Watch,
};
pub use machine::{Ceilings, best_target, cache_key, measure_ceilings};
pub use model::{
    BuildOptions, ExportOptions, Kind as FileKind, Model, SimplifyOptions, SimplifyReport, Tuning, file_kind,
};
pub use repair::{RepairOptions, RepairReport, TRACED};
pub use verify::{
    Comparison, VerifyCase, VerifyOptions, compare_outputs, compare_tensors, compared, inputs_for_engine,
    random_inputs, sizes_to_try, verify_engine, verify_model,
};

pub use oxrt_backend::{self as backend, Precision};
pub use oxrt_build::{BuildReport, DimSpec, TuningRecord};
pub use oxrt_cpu as cpu;
pub use oxrt_cuda as cuda;
pub use oxrt_darknet as darknet;
pub use oxrt_ir as ir;
pub use oxrt_onnx as onnx;
pub use oxrt_ops as ops;
pub use oxrt_passes as passes;
pub use oxrt_plan as plan;
pub use oxrt_tensor::{
    DType, Element, Error, Kind, Result, Tensor, TensorView, bf16, f16, image, npy, write_atomically,
};
pub use oxrt_torch as torch;
