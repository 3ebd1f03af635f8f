//! ONNX files: external data, declared and actual sizes, operators, depth.

use super::wire::{Field, fields, text, varint};
use super::{AuditReport, Severity};
use oxrt_tensor::DType;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Component, Path};

/// Subgraphs deeper than this are no model's; recursive readers run out of stack.
const MAX_DEPTH: usize = 64;
/// Names longer than this are no names.
const MAX_NAME: usize = 1 << 16;

struct Walk<'r> {
    report: &'r mut AuditReport,
    path: &'r Path,
    operators: BTreeMap<String, usize>,
    functions: BTreeSet<String>,
    external: BTreeSet<String>,
    tensors: usize,
    weight_bytes: u64,
    nodes: usize,
    odd_names: usize,
}

pub(super) fn audit(bytes: &[u8], path: &Path, report: &mut AuditReport) {
    let mut w = Walk {
        report,
        path,
        operators: BTreeMap::new(),
        functions: BTreeSet::new(),
        external: BTreeSet::new(),
        tensors: 0,
        weight_bytes: 0,
        nodes: 0,
        odd_names: 0,
    };
    let result = fields(bytes, |number, field| match (number, field) {
        (1, Field::Number(ir)) => {
            w.report.fact("ir version", ir);
            Ok(())
        }
        (2, Field::Bytes(b)) => {
            w.report.fact("producer", super::printable(&text(b)));
            Ok(())
        }
        (7, Field::Bytes(graph)) => w.graph(graph, 1),
        (8, Field::Bytes(b)) => w.opset(b),
        (14, Field::Bytes(b)) if b.len() > 1 << 20 => {
            w.report.add(
                Severity::Medium,
                "large-metadata",
                "",
                format!("an entry of the metadata has {} bytes", b.len()),
            );
            Ok(())
        }
        (20, Field::Bytes(_)) => {
            w.report.add(Severity::Low, "training", "", "the file holds training information");
            Ok(())
        }
        (25, Field::Bytes(b)) => w.function(b),
        _ => Ok(()),
    });
    if let Err(what) = result {
        w.report.add(Severity::High, "damaged", "", format!("not a sound ONNX file: {what}"));
    }
    w.finish();
}

impl Walk<'_> {
    fn finish(self) {
        let known = |op: &str| oxrt_ops::registry::find(op).is_some();
        let special = |op: &str| op == "Constant" || op.starts_with("ai.onnx.preview");
        for (op, n) in &self.operators {
            let times = format!("{n} nodes");
            if self.functions.contains(op) {
                self.report.add(
                    Severity::Low,
                    "function",
                    op.as_str(),
                    format!("{times}, defined by a function of the file"),
                );
            } else if !known(op) && !special(op) {
                let what = match op.contains('.') {
                    true => format!("{times} of a custom operator: running it needs a library from elsewhere"),
                    false => format!("{times} of an operator that ONNX does not have"),
                };
                self.report.add(Severity::Medium, "custom-operator", op.as_str(), what);
            }
        }
        if self.odd_names > 0 {
            let what =
                format!("{} names hold control characters, which can forge what a terminal shows", self.odd_names);
            self.report.add(Severity::Medium, "control-characters", "", what);
        }
        self.report.fact("nodes", self.nodes);
        self.report.fact("tensors", self.tensors);
        self.report.fact("weight bytes", self.weight_bytes);
        if !self.external.is_empty() {
            self.report.fact("external files", self.external.into_iter().collect::<Vec<_>>().join(", "));
        }
    }

    fn name(&mut self, bytes: &[u8], what: &str) -> String {
        if bytes.len() > MAX_NAME {
            self.report.add(Severity::Medium, "long-name", what, format!("a name of {} bytes", bytes.len()));
        }
        let name = text(&bytes[..bytes.len().min(MAX_NAME)]);
        self.odd_names += name.chars().any(char::is_control) as usize;
        name
    }

    fn opset(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (mut domain, mut version) = (String::new(), 0);
        fields(bytes, |n, f| {
            match (n, f) {
                (1, Field::Bytes(b)) => domain = text(b),
                (2, Field::Number(v)) => version = v,
                _ => {}
            }
            Ok(())
        })?;
        let shown = if domain.is_empty() { "ai.onnx".to_string() } else { super::printable(&domain) };
        self.report.fact(&format!("opset {shown}"), version);
        let usual = ["", "ai.onnx", "ai.onnx.ml", "com.microsoft", "ai.onnx.preview.training", "com.ms.internal.nhwc"];
        if !usual.contains(&domain.as_str()) && !domain.starts_with("pkg.") {
            self.report.add(
                Severity::Low,
                "custom-domain",
                domain,
                format!("version {version} of operators from elsewhere"),
            );
        }
        Ok(())
    }

    fn function(&mut self, bytes: &[u8]) -> Result<(), String> {
        let (mut name, mut domain) = (String::new(), String::new());
        fields(bytes, |n, f| match (n, f) {
            (1, Field::Bytes(b)) => {
                name = text(b);
                Ok(())
            }
            (10, Field::Bytes(b)) => {
                domain = text(b);
                Ok(())
            }
            (7, Field::Bytes(b)) => self.node(b, 2),
            _ => Ok(()),
        })?;
        self.functions.insert(if domain.is_empty() { name } else { format!("{domain}.{name}") });
        Ok(())
    }

    fn graph(&mut self, bytes: &[u8], depth: usize) -> Result<(), String> {
        if depth > MAX_DEPTH {
            return Err(format!("graphs lie inside one another more than {MAX_DEPTH} deep"));
        }
        fields(bytes, |n, f| match (n, f) {
            (1, Field::Bytes(b)) => self.node(b, depth),
            (5, Field::Bytes(b)) => self.tensor(b, "initializer"),
            (15, Field::Bytes(b)) => self.sparse(b),
            _ => Ok(()),
        })
    }

    fn node(&mut self, bytes: &[u8], depth: usize) -> Result<(), String> {
        self.nodes += 1;
        let (mut name, mut op, mut domain) = (String::new(), String::new(), String::new());
        let mut attributes = Vec::new();
        fields(bytes, |n, f| {
            match (n, f) {
                (3, Field::Bytes(b)) => name = self.name(b, "node"),
                (4, Field::Bytes(b)) => op = self.name(b, "operator"),
                (7, Field::Bytes(b)) => domain = self.name(b, "domain"),
                (5, Field::Bytes(b)) => attributes.push(b),
                (1 | 2, Field::Bytes(b)) => {
                    self.name(b, "value");
                }
                _ => {}
            }
            Ok(())
        })?;
        let full = if domain.is_empty() || domain == "ai.onnx" { op } else { format!("{domain}.{op}") };
        *self.operators.entry(full).or_default() += 1;
        for attribute in attributes {
            fields(attribute, |n, f| match (n, f) {
                (5 | 10, Field::Bytes(b)) => self.tensor(b, &name),
                (6 | 11, Field::Bytes(b)) => self.graph(b, depth + 1),
                (22 | 23, Field::Bytes(b)) => self.sparse(b),
                _ => Ok(()),
            })?;
        }
        Ok(())
    }

    fn sparse(&mut self, bytes: &[u8]) -> Result<(), String> {
        let mut dims = Vec::new();
        fields(bytes, |n, f| match (n, f) {
            (1 | 2, Field::Bytes(b)) => self.tensor(b, "sparse tensor"),
            (3, f) => integers(f, &mut dims),
            _ => Ok(()),
        })?;
        // A few stored elements may stand for any size.
        let elements = dims.iter().try_fold(1i64, |n, &d| if d < 0 { None } else { n.checked_mul(d) });
        if elements.is_none_or(|n| n as u64 > self.report.bytes.saturating_mul(1000).max(1 << 30)) {
            self.report.add(
                Severity::High,
                "oversized-tensor",
                "sparse tensor",
                format!("its dimensions are {dims:?}"),
            );
        }
        Ok(())
    }

    fn tensor(&mut self, bytes: &[u8], owner: &str) -> Result<(), String> {
        self.tensors += 1;
        let (mut dims, mut dtype, mut name, mut held) = (Vec::new(), 0u64, String::new(), None);
        let (mut entries, mut is_external, mut typed) = (Vec::new(), false, 0usize);
        fields(bytes, |n, f| {
            match (n, f) {
                (1, f) => integers(f, &mut dims)?,
                (2, Field::Number(t)) => dtype = t,
                (8, Field::Bytes(b)) => name = self.name(b, "tensor"),
                (9, Field::Bytes(b)) => held = Some(b.len() as u64),
                (14, Field::Number(l)) => is_external = l == 1,
                (13, Field::Bytes(b)) => {
                    let (mut key, mut value) = (String::new(), String::new());
                    fields(b, |n, f| {
                        match (n, f) {
                            (1, Field::Bytes(b)) => key = text(b),
                            (2, Field::Bytes(b)) => value = text(b),
                            _ => {}
                        }
                        Ok(())
                    })?;
                    entries.push((key, value));
                }
                (4 | 5 | 6 | 7 | 10 | 11, _) => typed += 1,
                _ => {}
            }
            Ok(())
        })?;
        let place = if name.is_empty() { owner.to_string() } else { name };
        let elements = dims.iter().try_fold(1i64, |n, &d| if d < 0 { None } else { n.checked_mul(d) });
        let Some(elements) = elements else {
            self.report.add(Severity::High, "impossible-size", place, format!("dimensions {dims:?}"));
            return Ok(());
        };
        let kind = i32::try_from(dtype).ok().and_then(|t| DType::from_onnx(t));
        let need = kind.filter(|k| *k != DType::String).map(|k| k.bytes_for(elements as usize) as u64);
        if kind.is_none() {
            self.report.add(Severity::Medium, "unknown-type", place.as_str(), format!("element type {dtype}"));
        }
        if is_external {
            self.external(&place, &entries, need);
        } else if let (Some(have), Some(need)) = (held, need) {
            self.weight_bytes += have;
            if have != need {
                self.report.add(
                    Severity::High,
                    "length-mismatch",
                    place,
                    format!("dimensions {dims:?} need {need} bytes, {have} are there"),
                );
            }
        } else if held.is_none() && typed == 0 && elements > 0 && need.is_some_and(|n| n > 1 << 20) {
            self.report.add(
                Severity::High,
                "oversized-tensor",
                place,
                format!("dimensions {dims:?} ask for {} bytes, and the file holds none of them", need.unwrap_or(0)),
            );
        }
        Ok(())
    }

    fn external(&mut self, place: &str, entries: &[(String, String)], need: Option<u64>) {
        let get = |key: &str| entries.iter().find(|(k, _)| k == key).map(|(_, v)| v.as_str());
        let location = get("location").unwrap_or_default();
        self.external.insert(super::printable(location));
        let outside = |what: &str| format!("external data in `{location}`, {what}");
        let relative = Path::new(location);
        let drive = location.as_bytes().get(1) == Some(&b':') || location.starts_with('\\');
        let r = &mut *self.report;
        if location.is_empty() {
            return r.add(Severity::High, "external-path", place, "external data without a place");
        }
        if relative.is_absolute() || drive {
            return r.add(Severity::High, "external-path", place, outside("an absolute path"));
        }
        if relative.components().any(|c| c == Component::ParentDir) || location.contains("..\\") {
            return r.add(Severity::High, "external-path", place, outside("which leaves the folder of the model"));
        }
        let folder = self.path.parent().unwrap_or(Path::new("."));
        let mut at = folder.to_path_buf();
        for part in relative.components() {
            at.push(part);
            if at.symlink_metadata().is_ok_and(|m| m.is_symlink()) {
                return r.add(Severity::High, "external-symlink", place, outside("which goes through a symbolic link"));
            }
        }
        let Ok(meta) = at.metadata() else {
            return r.add(Severity::Medium, "external-missing", place, outside("which is not there"));
        };
        let number = |key: &str| get(key).map(|v| v.parse::<u64>());
        let (offset, length) = (number("offset").unwrap_or(Ok(0)), number("length"));
        let (Ok(offset), Ok(length)) = (offset, length.transpose()) else {
            return r.add(
                Severity::High,
                "external-range",
                place,
                outside("with an offset or length that is no number"),
            );
        };
        let length = length.unwrap_or_else(|| need.unwrap_or(0));
        self.weight_bytes = self.weight_bytes.saturating_add(length);
        if offset.checked_add(length).is_none_or(|end| end > meta.len()) {
            let what = format!("{length} bytes at {offset}, beyond its {} bytes", meta.len());
            r.add(Severity::High, "external-range", place, outside(&what));
        }
        if need.is_some_and(|n| n != length) {
            let what = format!("{length} bytes where its dimensions need {}", need.unwrap_or(0));
            r.add(Severity::High, "length-mismatch", place, what);
        }
    }
}

/// Repeated integers, packed or one by one.
fn integers(field: Field, out: &mut Vec<i64>) -> Result<(), String> {
    match field {
        Field::Number(n) => out.push(n as i64),
        Field::Bytes(b) => {
            let mut at = 0;
            while at < b.len() {
                out.push(varint(b, &mut at).ok_or("a dimension is cut off")? as i64);
            }
        }
        Field::Fixed => {}
    }
    if out.len() > 1024 { Err("a tensor of more than 1024 dimensions".to_string()) } else { Ok(()) }
}
