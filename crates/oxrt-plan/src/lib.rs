//! The engine file: header, steps, mappable weights, checksums
