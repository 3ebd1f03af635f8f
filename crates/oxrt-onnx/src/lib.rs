//! ONNX files: read, write, check, raise old opsets
