//! What a file says of itself, before anything is made of it.

use crate::audit::wire::{Field, fields, text};
use oxrt_tensor::DType;
use std::collections::{HashMap, HashSet};

#[derive(Debug, Default)]
pub(super) struct OnnxFile {
    pub ir: i64,
    /// Version by domain; the default domain is empty.
    pub opsets: HashMap<String, i64>,
    pub nodes: Vec<FileNode>,
    /// Operators that the file defines by functions.
    pub functions: HashSet<(String, String)>,
    /// Element types of values, where the file states them.
    pub types: HashMap<String, DType>,
}

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub domain: String,
    pub op: String,
    pub name: String,
    pub inputs: Vec<String>,
    pub outputs: Vec<String>,
}

/// Subgraphs deeper than this are refused.
const MAX_DEPTH: usize = 64;

fn domain(bytes: &[u8]) -> String {
    match text(bytes) {
        d if d == "ai.onnx" => String::new(),
        d => d,
    }
}

impl OnnxFile {
    pub fn read(bytes: &[u8]) -> Result<OnnxFile, String> {
        let mut file = OnnxFile::default();
        fields(bytes, |n, f| match (n, f) {
            (1, Field::Number(ir)) => {
                file.ir = ir as i64;
                Ok(())
            }
            (7, Field::Bytes(b)) => file.graph(b, 0),
            (8, Field::Bytes(b)) => {
                let (mut d, mut version) = (String::new(), 0);
                fields(b, |n, f| {
                    match (n, f) {
                        (1, Field::Bytes(b)) => d = domain(b),
                        (2, Field::Number(v)) => version = v as i64,
                        _ => {}
                    }
                    Ok(())
                })?;
                file.opsets.insert(d, version);
                Ok(())
            }
            (25, Field::Bytes(b)) => {
                let (mut d, mut name) = (String::new(), String::new());
                fields(b, |n, f| {
                    match (n, f) {
                        (1, Field::Bytes(b)) => name = text(b),
                        (10, Field::Bytes(b)) => d = domain(b),
                        _ => {}
                    }
                    Ok(())
                })?;
                file.functions.insert((d, name));
                Ok(())
            }
            _ => Ok(()),
        })?;
        Ok(file)
    }

    fn graph(&mut self, bytes: &[u8], depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("graphs lie inside one another more than {MAX_DEPTH} deep"));
        }
        fields(bytes, |n, f| match (n, f) {
            (1, Field::Bytes(b)) => self.node(b, depth),
            // Initializers: TensorProto with its type in 2 and its name in 8.
            (5, Field::Bytes(b)) => {
                let (mut name, mut dtype) = (String::new(), 0);
                fields(b, |n, f| {
                    match (n, f) {
                        (2, Field::Number(t)) => dtype = t,
                        (8, Field::Bytes(b)) => name = text(b),
                        _ => {}
                    }
                    Ok(())
                })?;
                self.note(name, dtype);
                Ok(())
            }
            // ValueInfoProto: name, and TypeProto.tensor_type.elem_type.
            (11..=13, Field::Bytes(b)) => {
                let (mut name, mut dtype) = (String::new(), 0);
                fields(b, |n, f| match (n, f) {
                    (1, Field::Bytes(b)) => {
                        name = text(b);
                        Ok(())
                    }
                    (2, Field::Bytes(b)) => fields(b, |n, f| match (n, f) {
                        (1, Field::Bytes(b)) => fields(b, |n, f| {
                            if let (1, Field::Number(t)) = (n, f) {
                                dtype = t;
                            }
                            Ok(())
                        }),
                        _ => Ok(()),
                    }),
                    _ => Ok(()),
                })?;
                self.note(name, dtype);
                Ok(())
            }
            _ => Ok(()),
        })
    }

    fn note(&mut self, name: String, dtype: u64) {
        if let Some(t) = i32::try_from(dtype).ok().and_then(DType::from_onnx) {
            self.types.insert(name, t);
        }
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), String> {
        let mut node = FileNode::default();
        let mut bodies = Vec::new();
        fields(bytes, |n, f| {
            match (n, f) {
                (1, Field::Bytes(b)) => node.inputs.push(text(b)),
                (2, Field::Bytes(b)) => node.outputs.push(text(b)),
                (3, Field::Bytes(b)) => node.name = text(b),
                (4, Field::Bytes(b)) => node.op = text(b),
                (7, Field::Bytes(b)) => node.domain = domain(b),
                (5, Field::Bytes(b)) => fields(b, |n, f| {
                    if let (6 | 11, Field::Bytes(b)) = (n, f) {
                        bodies.push(b);
                    }
                    Ok(())
                })?,
                _ => {}
            }
            Ok(())
        })?;
        self.nodes.push(node);
        bodies.into_iter().try_for_each(|b| self.graph(b, depth + 1))
    }
}
