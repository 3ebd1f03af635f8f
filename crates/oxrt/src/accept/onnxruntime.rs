//! onnxruntime, by the kernels and schemas that each of its packages lists.

use super::file::{FileNode, OnnxFile};
use super::{Acceptance, Problems};
use oxrt_tensor::{DType, Error, Result};
use std::collections::HashMap;

const TABLE: &str = include_str!("onnxruntime.tsv");

struct Version {
    minor: u32,
    package: &'static str,
    ir: i64,
    opset: i64,
    ml: i64,
}

struct Schema {
    since: i64,
    inputs: Vec<&'static str>,
    outputs: Vec<&'static str>,
    mark: &'static str,
}

struct Kernel {
    since: i64,
    /// Last opset; 0 for a kernel that holds until the operator changes.
    until: i64,
    /// Element types by type of the schema.
    types: HashMap<&'static str, Vec<&'static str>>,
}

type Key = (&'static str, &'static str);

/// Operators without a kernel that are made of one that may lack a kernel for their types.
const PARTS: &[(&str, &str)] = &[("CastLike", "Cast"), ("Bernoulli", "RandomUniformLike")];

/// What one version has.
struct Table {
    version: Version,
    schemas: HashMap<Key, Vec<Schema>>,
    kernels: HashMap<Key, Vec<Kernel>>,
}

fn holds(ranges: &str, minor: u32) -> bool {
    ranges.split(',').any(|r| {
        let (a, b) = r.split_once('-').unwrap_or((r, r));
        a.parse::<u32>().is_ok_and(|a| a <= minor) && b.parse::<u32>().is_ok_and(|b| minor <= b)
    })
}

fn number(text: &str) -> i64 {
    text.parse().unwrap_or(0)
}

fn list(text: &'static str) -> Vec<&'static str> {
    text.split(',').filter(|t| !t.is_empty()).collect()
}

impl Table {
    fn of(minor: Option<u32>) -> Result<Table> {
        let rows: Vec<Vec<&'static str>> =
            TABLE.lines().filter(|l| !l.starts_with('#')).map(|l| l.split('\t').collect()).collect();
        let versions: Vec<Version> = rows
            .iter()
            .filter(|r| r[0] == "version")
            .map(|r| Version {
                minor: number(r[1]) as u32,
                package: r[2],
                ir: number(r[3]),
                opset: number(r[4]),
                ml: number(r[5]),
            })
            .collect();
        let (first, last) = (versions.first().map_or(0, |v| v.minor), versions.last().map_or(0, |v| v.minor));
        let minor = minor.unwrap_or(last);
        let version = versions.into_iter().find(|v| v.minor == minor).ok_or_else(|| {
            Error::unsupported(format!("onnxruntime 1.{minor} is not in the table, which holds 1.{first} to 1.{last}"))
                .help(format!("ask for the nearest: `--for onnxruntime=1.{}`", minor.clamp(first, last)))
        })?;
        let (mut schemas, mut kernels) = (HashMap::<Key, Vec<Schema>>::new(), HashMap::<Key, Vec<Kernel>>::new());
        for r in rows.iter().filter(|r| r[0] != "version" && holds(r[1], minor)) {
            let domain = if r[2] == "ai.onnx" { "" } else { r[2] };
            match r[0] {
                "schema" => schemas.entry((domain, r[3])).or_default().push(Schema {
                    since: number(r[4]),
                    inputs: list(r[5]),
                    outputs: list(r[6]),
                    mark: r[7],
                }),
                _ => kernels.entry((domain, r[3])).or_default().push(Kernel {
                    since: number(r[4]),
                    until: number(r[5]),
                    types: r[6].split(';').filter_map(|t| t.split_once('=')).map(|(n, t)| (n, list(t))).collect(),
                }),
            }
        }
        Ok(Table { version, schemas, kernels })
    }

    /// Why a node is refused.
    fn refusal(&self, file: &OnnxFile, node: &FileNode) -> Option<String> {
        let key = (node.domain.as_str(), node.op.as_str());
        let Some(&opset) = file.opsets.get(&node.domain) else {
            // Operators of onnxruntime's own domain need no import.
            return (node.domain != "com.microsoft").then(|| format!("the file imports no opset of `{}`", node.domain));
        };
        // What is a constant is no longer a node when kernels are looked for.
        if key == ("", "Constant") {
            return None;
        }
        let all = self.schemas.get(&key);
        let Some(schema) = all.and_then(|s| s.iter().filter(|s| s.since <= opset).max_by_key(|s| s.since)) else {
            return Some(match all {
                Some(_) => format!("opset {opset} does not have it yet"),
                None => "the operator is unknown".to_string(),
            });
        };
        if schema.mark == "deprecated" {
            return Some(format!("opset {opset} does not have it any more"));
        }
        // As its registry looks for kernels: an open one must start where the operator last changed.
        let fits =
            |k: &&Kernel| k.since == schema.since || k.until > 0 && k.since < schema.since && schema.since <= k.until;
        let kernels: Vec<&Kernel> = self.kernels.get(&key).into_iter().flatten().filter(fits).collect();
        let mut wrong = None;
        for k in &kernels {
            match wrong_type(file, node, schema, k) {
                None => return None,
                Some(w) => wrong = Some(w),
            }
        }
        // Where it has a kernel of its own, but not for these types, the parts mostly lack one too.
        if schema.mark == "function" && wrong.is_none() {
            let part = PARTS.iter().find(|(op, _)| key == ("", *op))?.1;
            let node = FileNode {
                domain: String::new(),
                op: part.to_string(),
                name: node.name.clone(),
                inputs: node.inputs.iter().take(1).cloned().collect(),
                outputs: node.outputs.clone(),
            };
            return self.refusal(file, &node).map(|why| format!("it is made of {part}: {why}"));
        }
        Some(match wrong {
            Some((ty, place)) => format!("no kernel for {ty} {place}"),
            None => format!("no kernel for opset {}", schema.since),
        })
    }
}

/// The first element type that a kernel does not take.
fn wrong_type(file: &OnnxFile, node: &FileNode, schema: &Schema, kernel: &Kernel) -> Option<(String, String)> {
    for (formal, actual, what) in [(&schema.inputs, &node.inputs, "input"), (&schema.outputs, &node.outputs, "output")]
    {
        for (i, value) in actual.iter().enumerate().filter(|(_, v)| !v.is_empty()) {
            let last = formal.last().filter(|l| l.ends_with('*'));
            let Some(param) = formal.get(i).or(last).map(|p| p.trim_end_matches('*')) else { continue };
            let (Some(allowed), Some(&have)) = (kernel.types.get(param), file.types.get(value)) else { continue };
            if !takes(allowed, have) {
                return Some((have.name().to_string(), format!("as {what} {i}")));
            }
        }
    }
    None
}

fn takes(allowed: &[&str], have: DType) -> bool {
    let name = match have {
        DType::String => "str",
        other => other.name(),
    };
    // Half precision is cast to single where there is no kernel for it.
    allowed.contains(&name) || have == DType::F16 && allowed.contains(&"f32")
}

pub(super) fn check(file: &OnnxFile, minor: Option<u32>) -> Result<Acceptance> {
    let table = Table::of(minor)?;
    let v = &table.version;
    let mut problems = Problems::default();
    if file.ir > v.ir {
        problems.add("", "", format!("IR version {} is newer than {}, the newest that it reads", file.ir, v.ir));
    }
    for (domain, newest, shown) in [("", v.opset, "ai.onnx"), ("ai.onnx.ml", v.ml, "ai.onnx.ml")] {
        if let Some(&have) = file.opsets.get(domain).filter(|&&have| have > newest) {
            problems.add("", "", format!("opset {have} of {shown} is newer than {newest}, the newest that it has"));
        }
    }
    for node in &file.nodes {
        if file.functions.contains(&(node.domain.clone(), node.op.clone())) {
            continue;
        }
        if let Some(what) = table.refusal(file, node) {
            let op = if node.domain.is_empty() { node.op.clone() } else { format!("{}.{}", node.domain, node.op) };
            problems.add(&op, &node.name, what);
        }
    }
    let mut notes = Vec::new();
    if v.minor < 17 {
        notes.push("packages before 1.17 do not list their kernels: those of 1.17 are assumed".to_string());
    }
    Ok(Acceptance {
        target: "onnxruntime".to_string(),
        version: v.package.to_string(),
        accepted: problems.0.is_empty(),
        problems: problems.0,
        notes,
        source: format!("the kernels that the package onnxruntime {} lists (CPU)", v.package),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_version_of_the_table_can_be_read() {
        assert!(holds("15-20,23", 17) && holds("15-20,23", 23) && !holds("15-20,23", 21));
        for minor in 15..=32 {
            let t = Table::of(Some(minor)).unwrap();
            assert!(t.kernels.len() > 200 && t.schemas.contains_key(&("", "Conv")) && t.version.opset >= 19, "{minor}");
        }
        assert!(Table::of(Some(14)).is_err() && Table::of(Some(99)).is_err());
        assert!(Table::of(None).unwrap().version.minor >= 32);
    }

    #[test]
    fn opsets_types_and_operators_are_looked_at() {
        let mut file = OnnxFile { ir: 8, ..OnnxFile::default() };
        file.opsets.insert(String::new(), 17);
        file.types.extend([("x".to_string(), DType::F32), ("i".to_string(), DType::U16)]);
        let mut ask = |op: &str, domain: &str, input: &str| {
            let node =
                FileNode { op: op.into(), domain: domain.into(), inputs: vec![input.into()], ..FileNode::default() };
            file.nodes = vec![node];
            let found = check(&file, Some(17)).unwrap();
            found.problems.first().map(|p| p.what.clone()).unwrap_or_default()
        };
        assert_eq!(ask("Relu", "", "x"), "");
        assert!(ask("Relu", "", "i").contains("no kernel for u16"));
        assert!(ask("Gelu", "", "x").contains("does not have it yet"));
        assert!(ask("Upsample", "", "x").contains("any more"));
        assert!(ask("Special", "my.domain", "x").contains("no opset of `my.domain`"));
        assert_eq!(ask("Gelu", "com.microsoft", "x"), "");
    }
}
