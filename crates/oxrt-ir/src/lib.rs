//! The graph: values, nodes, symbolic dimensions, verifier, text form
