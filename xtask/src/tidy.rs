//! Rules of the repository that neither the compiler nor clippy knows.

use crate::{Outcome, cargo, root};
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// Licences that a dependency may have (any one of an OR expression is enough).
const LICENCES: &[&str] = &[
    "MIT",
    "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception",
    "BSD-2-Clause",
    "BSD-3-Clause",
    "BSL-1.0",
    "ISC",
    "Zlib",
    "Unicode-3.0",
    "Unlicense",
    "0BSD",
    "CC0-1.0",
    "MIT-0",
];

/// Longest a Rust file may be before it should be two.
const MAX_LINES: usize = 900;

pub fn check() -> Outcome {
    let metadata = metadata()?;
    let mut problems = Vec::new();
    problems.extend(architecture(&metadata)?);
    problems.extend(dependencies(&metadata)?);
    problems.extend(files()?);
    if problems.is_empty() { Ok(()) } else { Err(format!("tidy:\n  {}", problems.join("\n  "))) }
}

fn metadata() -> Result<Value, String> {
    let out = cargo().args(["metadata", "--format-version", "1", "--locked"]).output().map_err(|e| e.to_string())?;
    if !out.status.success() {
        return Err(String::from_utf8_lossy(&out.stderr).into_owned());
    }
    serde_json::from_slice(&out.stdout).map_err(|e| e.to_string())
}

/// Normal dependencies of each crate of the workspace on others of it.
fn real_graph(metadata: &Value) -> BTreeMap<String, BTreeSet<String>> {
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let local = |p: &Value| p["source"].is_null();
    let names: BTreeSet<String> =
        packages.iter().filter(|p| local(p)).filter_map(|p| p["name"].as_str().map(String::from)).collect();
    packages
        .iter()
        .filter(|p| local(p))
        .map(|p| {
            let deps = p["dependencies"].as_array().cloned().unwrap_or_default();
            let used = deps.iter().filter(|d| d["kind"].is_null()).filter_map(|d| d["name"].as_str().map(String::from));
            (p["name"].as_str().unwrap_or_default().to_string(), used.filter(|n| names.contains(n)).collect())
        })
        .collect()
}

/// The table of ARCHITECTURE.md (`| crate | knows | … |`) must be the real dependency graph.
fn architecture(metadata: &Value) -> Result<Vec<String>, String> {
    let text = read(&root().join("ARCHITECTURE.md"))?;
    let mut stated: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for line in text.lines().filter(|l| l.starts_with("| `")) {
        let cells: Vec<&str> = line.trim_matches('|').split('|').map(str::trim).collect();
        let names = |cell: &str| cell.split('`').skip(1).step_by(2).map(String::from).collect::<BTreeSet<_>>();
        if let [name, knows, ..] = cells[..] {
            stated.insert(name.trim_matches('`').to_string(), names(knows));
        }
    }
    let real = real_graph(metadata);
    let mut problems = Vec::new();
    for (name, deps) in &real {
        match stated.get(name) {
            None => problems.push(format!("ARCHITECTURE.md does not name the crate {name}")),
            Some(s) if s != deps => {
                problems.push(format!("ARCHITECTURE.md says that {name} knows {s:?}; Cargo.toml says {deps:?}"));
            }
            Some(_) => {}
        }
    }
    problems.extend(
        stated
            .keys()
            .filter(|s| !real.contains_key(*s))
            .map(|s| format!("ARCHITECTURE.md names {s}, which is not there")),
    );
    Ok(problems)
}

/// Every third-party crate has a licence that we take, and every direct one is explained.
fn dependencies(metadata: &Value) -> Result<Vec<String>, String> {
    let explained = read(&root().join("docs/dependencies.md"))?;
    let packages = metadata["packages"].as_array().cloned().unwrap_or_default();
    let mut direct = BTreeSet::new();
    for p in packages.iter().filter(|p| p["source"].is_null()) {
        let deps = p["dependencies"].as_array().cloned().unwrap_or_default();
        direct.extend(deps.iter().filter(|d| d["path"].is_null()).filter_map(|d| d["name"].as_str().map(String::from)));
    }
    let mut problems = Vec::new();
    for p in packages.iter().filter(|p| !p["source"].is_null()) {
        let (name, licence) = (p["name"].as_str().unwrap_or_default(), p["license"].as_str().unwrap_or("none"));
        if !licence_fits(licence) {
            problems.push(format!("{name} has the licence `{licence}`"));
        }
        let from_registry = p["source"].as_str().is_some_and(|s| s.starts_with("registry+"));
        if !from_registry {
            problems.push(format!("{name} does not come from the registry"));
        }
    }
    let missing = direct.iter().filter(|d| !explained.contains(&format!("| `{d}` |")));
    problems.extend(missing.map(|d| format!("docs/dependencies.md does not say why {d} is needed")));
    Ok(problems)
}

/// `A OR B AND C`, with parentheses only around alternatives.
fn licence_fits(expression: &str) -> bool {
    let plain = expression.replace(['(', ')'], "").replace('/', " OR ");
    plain.split(" AND ").all(|all| all.split(" OR ").any(|l| LICENCES.contains(&l.trim())))
}

fn files() -> Result<Vec<String>, String> {
    let mut problems = Vec::new();
    for path in tracked()? {
        let name = path.strip_prefix(root()).unwrap_or(&path).display().to_string();
        let size = std::fs::metadata(&path).map_or(0, |m| m.len());
        if size > 1_000_000 {
            problems.push(format!("{name} has {size} bytes; nothing over 1 MB belongs in git"));
        }
        if path.extension().is_none_or(|e| e != "rs") {
            continue;
        }
        let text = read(&path)?;
        let lines = text.lines().count();
        if lines > MAX_LINES {
            problems.push(format!("{name} has {lines} lines: one thing each?"));
        }
        // Spelt in pieces, so that this file does not accuse itself.
        for word in
            [concat!("todo", "!("), concat!("unimplemented", "!("), concat!("dbg", "!("), concat!("#[ig", "nore")]
        {
            if text.contains(word) {
                problems.push(format!("{name} contains {word}"));
            }
        }
    }
    Ok(problems)
}

fn tracked() -> Result<Vec<PathBuf>, String> {
    let out = std::process::Command::new("git").current_dir(root()).args(["ls-files", "-z"]).output();
    let out = out.map_err(|e| e.to_string())?;
    let names = String::from_utf8_lossy(&out.stdout).into_owned();
    Ok(names.split('\0').filter(|n| !n.is_empty()).map(|n| root().join(n)).filter(|p| p.is_file()).collect())
}

fn read(path: &Path) -> Result<String, String> {
    std::fs::read_to_string(path).map_err(|e| format!("{}: {e}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_repository_is_tidy() {
        check().unwrap();
    }

    #[test]
    fn licence_expressions() {
        assert!(licence_fits("MIT OR Apache-2.0"));
        assert!(licence_fits("(MIT OR Apache-2.0) AND Unicode-3.0"));
        assert!(licence_fits("GPL-3.0 OR MIT"));
        assert!(!licence_fits("GPL-3.0"));
        assert!(!licence_fits("MIT AND GPL-3.0"));
    }
}
