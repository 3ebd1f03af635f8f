//! Conformance suites: cases on disk in the layout of the official ONNX backend tests, ways to run them, comparison
//! with the official tolerances, lists of what is expected to fail.

pub mod case;
pub mod compare;
pub mod expect;
pub mod guard;
pub mod operators;
pub mod run;
