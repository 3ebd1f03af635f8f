//! What a model file could do to the one who opens it, found out without loading it.
//!
//! The file is mapped and its structure walked; no tensor is read, no other file opened, nothing unpacked or executed.

mod archive;
mod onnx;
mod pickle;
pub(crate) mod wire;

use crate::model::{Kind, file_kind};
use oxrt_tensor::{Context, Result, map_file};
use serde::Serialize;
use std::collections::BTreeMap;
use std::path::Path;

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Worth knowing: what the file needs from outside of itself.
    Low,
    /// Unusual; harmless to oxrt, maybe not to others.
    Medium,
    /// Do not open this file with tools that trust it.
    High,
}

/// One thing that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct AuditFinding {
    /// Stable name of the kind of finding, as `external-path`.
    pub code: &'static str,
    pub severity: Severity,
    /// Tensor, node or member.
    pub place: String,
    pub what: String,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct AuditReport {
    pub kind: String,
    pub bytes: u64,
    /// Most severe first.
    pub findings: Vec<AuditFinding>,
    /// Counts and sizes by name.
    pub facts: BTreeMap<String, String>,
}

/// Findings of one kind beyond this many are counted only.
const LISTED: usize = 20;

impl AuditReport {
    pub fn worst(&self) -> Option<Severity> {
        self.findings.iter().map(|f| f.severity).max()
    }

    fn add(&mut self, severity: Severity, code: &'static str, place: impl Into<String>, what: impl Into<String>) {
        let (place, what) = (printable(&place.into()), printable(&what.into()));
        match self.findings.iter().filter(|f| f.code == code).count() {
            n if n < LISTED => self.findings.push(AuditFinding { code, severity, place, what }),
            _ => {
                let more = self.facts.entry(format!("more {code}")).or_insert_with(|| "0".to_string());
                *more = (more.parse::<usize>().unwrap_or(0) + 1).to_string();
            }
        }
    }

    fn fact(&mut self, name: &str, value: impl ToString) {
        self.facts.insert(name.to_string(), value.to_string());
    }
}

/// Text of a file on a terminal: without control characters, and not endless.
fn printable(text: &str) -> String {
    let cut: String = text.chars().take(300).collect();
    cut.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// Looks through a file of any kind.
///
/// # Errors
/// When it cannot be read at all.
pub fn audit(path: &Path) -> Result<AuditReport> {
    let map = map_file(path)?;
    let bytes: &[u8] = map.as_ref();
    let mut r = AuditReport { bytes: bytes.len() as u64, ..AuditReport::default() };
    if path.symlink_metadata().is_ok_and(|m| m.is_symlink()) {
        r.add(Severity::Low, "symlink", path.display().to_string(), "the file itself is a symbolic link");
    }
    if bytes.starts_with(b"\x80") {
        r.kind = "pickle".to_string();
        r.add(Severity::Medium, "pickle", "", "a pickle: opening it with Python's own reader executes what it says");
        pickle::audit(bytes, "", &mut r);
    } else if bytes.starts_with(b"PK") {
        r.kind = "archive".to_string();
        archive::audit(bytes, &mut r);
    } else {
        match file_kind(path).at(|| path.display())? {
            Kind::Engine => {
                r.kind = "engine".to_string();
                match oxrt_plan::read_plan(path) {
                    Ok(plan) => {
                        r.fact("producer", plan.producer);
                        r.fact("backend", format!("{} ({})", plan.backend, plan.target));
                        r.fact("steps", plan.steps.len());
                    }
                    Err(e) => r.add(Severity::High, "damaged", "", e.to_string()),
                }
            }
            Kind::Darknet => r.kind = "darknet".to_string(),
            _ => {
                r.kind = "onnx".to_string();
                onnx::audit(bytes, path, &mut r);
            }
        }
    }
    r.findings.sort_by_key(|f| std::cmp::Reverse(f.severity));
    Ok(r)
}
