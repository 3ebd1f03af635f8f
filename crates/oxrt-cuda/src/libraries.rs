//! NVIDIA's libraries, where they are installed: candidates beside our own kernels.

/// What was opened so far.
#[derive(Debug, Default)]
pub struct Libraries {}
