//! Comparison of outputs and runs
