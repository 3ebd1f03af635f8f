//! TensorRT and OpenVINO, by the operator tables that they publish.

use super::file::OnnxFile;
use super::{Acceptance, Problems};
use oxrt_tensor::{DType, Error, Result};
use std::collections::{BTreeSet, HashMap};

const TENSORRT: &str = include_str!("tensorrt.tsv");
const OPENVINO: &str = include_str!("openvino.tsv");

/// Opsets that the tables are for.
const TENSORRT_OPSETS: (i64, i64) = (9, 20);
const OPENVINO_NEWEST: i64 = 23;

fn rows(table: &'static str) -> impl Iterator<Item = Vec<&'static str>> {
    table.lines().filter(|l| !l.starts_with('#')).map(|l| l.split('\t').collect())
}

fn name(domain: &str, op: &str) -> String {
    if domain.is_empty() { op.to_string() } else { format!("{domain}.{op}") }
}

pub(super) fn tensorrt(file: &OnnxFile, major: Option<u32>) -> Result<Acceptance> {
    if major.is_some_and(|m| m != 10) {
        return Err(Error::unsupported("the table is that of TensorRT 10").help("ask for `--for tensorrt=10`"));
    }
    let table: HashMap<&str, Vec<&str>> = rows(TENSORRT).map(|r| (r[0], r)).collect();
    let mut problems = Problems::default();
    let mut notes = BTreeSet::new();
    let opset = file.opsets.get("").copied().unwrap_or(TENSORRT_OPSETS.0);
    if opset < TENSORRT_OPSETS.0 || opset > TENSORRT_OPSETS.1 {
        problems.add("", "", format!("opset {opset} is not among {} to {}", TENSORRT_OPSETS.0, TENSORRT_OPSETS.1));
    }
    for node in &file.nodes {
        if file.functions.contains(&(node.domain.clone(), node.op.clone())) {
            continue;
        }
        let op = name(&node.domain, &node.op);
        let Some(row) = table.get(node.op.as_str()).filter(|_| node.domain.is_empty()) else {
            problems.add(&op, &node.name, "it needs a plugin".to_string());
            continue;
        };
        if row[1] == "-" {
            problems.add(&op, &node.name, "it is not taken".to_string());
            continue;
        }
        if let Some(words) = row.get(2).filter(|w| !w.is_empty()) {
            notes.insert(format!("{op}: {words}"));
        }
        let allowed: Vec<&str> = row[1].split(',').collect();
        // The first input is the data; others are sizes and indices, for which the table gives no types.
        let Some(&have) = node.inputs.first().and_then(|v| file.types.get(v)) else { continue };
        // Doubles are cast to single precision, clamping.
        let takes = allowed.contains(&have.name())
            || have == DType::F64 && allowed.contains(&"f32")
            || have.name().starts_with("f8") && allowed.contains(&"f8");
        if !takes && !allowed.contains(&"") {
            problems.add(&op, &node.name, format!("{} is not taken", have.name()));
        }
    }
    Ok(Acceptance {
        target: "tensorrt".to_string(),
        version: "10.0".to_string(),
        accepted: problems.0.is_empty(),
        problems: problems.0,
        notes: notes.into_iter().collect(),
        source: "onnx-tensorrt, docs/operators.md of TensorRT 10.0; not run against TensorRT".to_string(),
    })
}

pub(super) fn openvino(file: &OnnxFile) -> Result<Acceptance> {
    let table: HashMap<(&str, &str), &str> =
        rows(OPENVINO).map(|r| ((r[0], r[1]), r.get(2).copied().unwrap_or(""))).collect();
    let mut problems = Problems::default();
    let mut notes = BTreeSet::new();
    if let Some(&opset) = file.opsets.get("").filter(|&&o| o > OPENVINO_NEWEST) {
        problems.add("", "", format!("opset {opset} is newer than {OPENVINO_NEWEST}, the newest of the table"));
    }
    for node in &file.nodes {
        if file.functions.contains(&(node.domain.clone(), node.op.clone())) {
            continue;
        }
        let op = name(&node.domain, &node.op);
        match table.get(&(node.domain.as_str(), node.op.as_str())) {
            None => problems.add(&op, &node.name, "it is not taken".to_string()),
            Some(limit) if !limit.is_empty() => {
                notes.insert(format!("{op}: {limit}"));
            }
            Some(_) => {}
        }
    }
    Ok(Acceptance {
        target: "openvino".to_string(),
        version: "2025".to_string(),
        accepted: problems.0.is_empty(),
        problems: problems.0,
        notes: notes.into_iter().collect(),
        source:
            "openvino, src/frontends/onnx/docs/supported_ops.md; operators only, no types; not run against OpenVINO"
                .to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::file::FileNode;
    use super::*;

    #[test]
    fn tables_say_what_they_should() {
        let mut file = OnnxFile { ir: 8, ..OnnxFile::default() };
        file.opsets.insert(String::new(), 17);
        file.types.insert("x".to_string(), DType::F32);
        for (op, trt, vino) in
            [("Conv", true, true), ("Det", false, false), ("BitShift", false, true), ("Softmax", true, true)]
        {
            file.nodes = vec![FileNode { op: op.into(), inputs: vec!["x".into()], ..FileNode::default() }];
            assert_eq!(tensorrt(&file, Some(10)).unwrap().accepted, trt, "{op}");
            assert_eq!(openvino(&file).unwrap().accepted, vino, "{op}");
        }
        assert!(tensorrt(&file, Some(8)).is_err());
        file.opsets.insert(String::new(), 24);
        assert!(!tensorrt(&file, None).unwrap().accepted && !openvino(&file).unwrap().accepted);
    }
}
