//! The contract between builder, runtime and a device
