//! Whether another runtime takes an ONNX file: by its opset, IR version, operators and element types.
//!
//! The answer comes from tables of what the runtimes state of themselves. It is about the file as it stands, not about the graph that
//! oxrt makes of it.

mod file;
mod onnxruntime;
mod others;

use crate::model::Model;
use file::OnnxFile;
use oxrt_ir::{Attr, Graph};
use oxrt_tensor::{Context, DType, Error, Result, map_file};
use serde::Serialize;
use std::collections::HashMap;
use std::path::Path;

/// A runtime, with a version or the newest known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// Version 1.x, on the CPU.
    OnnxRuntime(Option<u32>),
    TensorRt(Option<u32>),
    OpenVino,
}

impl std::str::FromStr for Target {
    type Err = Error;

    fn from_str(s: &str) -> Result<Target> {
        let (name, version) = match s.split_once('=') {
            Some((n, v)) => (n, Some(v)),
            None => (s, None),
        };
        let bad = |what: &str| {
            Err(Error::invalid(format!("`{s}`: {what}")).help("write `onnxruntime=1.17`, `tensorrt=10` or `openvino`"))
        };
        let number = |text: &str| text.split('.').next().and_then(|n| n.parse::<u32>().ok());
        match (name.to_ascii_lowercase().as_str(), version) {
            ("onnxruntime" | "ort", None) => Ok(Target::OnnxRuntime(None)),
            ("onnxruntime" | "ort", Some(v)) => match v.strip_prefix("1.").and_then(number) {
                Some(minor) => Ok(Target::OnnxRuntime(Some(minor))),
                None => bad("versions of onnxruntime are 1.x"),
            },
            ("tensorrt" | "trt", v) => match v.map(number) {
                None => Ok(Target::TensorRt(None)),
                Some(Some(major)) => Ok(Target::TensorRt(Some(major))),
                Some(None) => bad("that is no version"),
            },
            ("openvino", _) => Ok(Target::OpenVino),
            _ => bad("no runtime that is known here"),
        }
    }
}

/// Why it would be refused.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Refusal {
    /// The operator, or empty for the file as a whole.
    pub op: String,
    /// Nodes of this kind, by name, a few of them.
    pub nodes: Vec<String>,
    pub count: usize,
    pub what: String,
}

#[derive(Clone, Debug, Serialize)]
pub struct Acceptance {
    pub target: String,
    pub version: String,
    pub accepted: bool,
    pub problems: Vec<Refusal>,
    /// Restrictions that the table states in words, for operators of the file.
    pub notes: Vec<String>,
    /// Where the table comes from.
    pub source: String,
}

/// Gathers problems of one kind under one entry.
#[derive(Default)]
struct Problems(Vec<Refusal>);

impl Problems {
    fn add(&mut self, op: &str, node: &str, what: String) {
        match self.0.iter_mut().find(|p| p.op == op && p.what == what) {
            Some(p) => {
                p.count += 1;
                if p.nodes.len() < 5 {
                    p.nodes.push(node.to_string());
                }
            }
            None => self.0.push(Refusal { op: op.to_string(), nodes: vec![node.to_string()], count: 1, what }),
        }
    }
}

/// Predicts whether a runtime takes the file.
///
/// # Errors
/// When it is no ONNX file, cannot be read, or the version is not in the tables.
pub fn acceptance(path: &Path, target: &Target) -> Result<Acceptance> {
    let kind = crate::model::file_kind(path)?;
    if kind != crate::model::Kind::Onnx {
        return Err(Error::invalid("only ONNX files are taken by other runtimes")
            .at(path.display().to_string())
            .help("export it first: `oxrt export model.pt2 -o model.onnx`"));
    }
    let map = map_file(path)?;
    let mut file = OnnxFile::read(map.as_ref()).map_err(|what| Error::invalid(what).at(path.display().to_string()))?;
    // Types that the file does not state are inferred; a file that oxrt cannot read is judged without.
    if let Ok(model) = Model::open(path) {
        collect_types(&model.ir().graph, &mut file.types);
    }
    match target {
        Target::OnnxRuntime(minor) => onnxruntime::check(&file, *minor),
        Target::TensorRt(major) => others::tensorrt(&file, *major),
        Target::OpenVino => others::openvino(&file),
    }
    .at(|| path.display())
}

fn collect_types(g: &Graph, types: &mut HashMap<String, DType>) {
    for v in g.value_ids() {
        if let Some(t) = g[v].ty.dtype() {
            types.entry(g[v].name.clone()).or_insert(t);
        }
    }
    for (_, node) in g.nodes() {
        for (_, attr) in node.attrs.iter() {
            match attr {
                Attr::Graph(inner) => collect_types(inner, types),
                Attr::Graphs(list) => list.iter().for_each(|inner| collect_types(inner, types)),
                _ => {}
            }
        }
    }
}
