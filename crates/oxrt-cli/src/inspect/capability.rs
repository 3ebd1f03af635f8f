//! What has a kernel where, before anything is built.

use crate::ui;
use oxrt::{Model, Result, Runs};
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// By operator: how many of its nodes a kernel runs, per target; then the nodes that the reference evaluator would run.
pub fn table(model: &Model) -> Result<(String, Value)> {
    let c = oxrt::capability(model)?;
    let mut by_op: BTreeMap<&str, Vec<[usize; 3]>> = BTreeMap::new();
    for n in &c.nodes {
        let counts = by_op.entry(&n.op).or_insert_with(|| vec![[0; 3]; c.targets.len()]);
        for (count, runs) in counts.iter_mut().zip(&n.runs) {
            count[match runs {
                Runs::Kernel { .. } => 0,
                Runs::NoWork => 1,
                Runs::Reference => 2,
            }] += 1;
        }
    }
    let cell = |[kernel, none, reference]: &[usize; 3]| {
        let parts = [(*kernel, "by kernel"), (*none, "no work"), (*reference, "by reference")];
        let all: Vec<String> = parts.iter().filter(|p| p.0 > 0).map(|(n, what)| format!("{n} {what}")).collect();
        all.join(", ")
    };
    let mut rows = vec![std::iter::once("operator".to_string()).chain(c.targets.iter().cloned()).collect::<Vec<_>>()];
    for (op, counts) in &by_op {
        rows.push(std::iter::once(op.to_string()).chain(counts.iter().map(cell)).collect());
    }
    let mut text = ui::table(&rows);
    for (t, target) in c.targets.iter().enumerate() {
        let left: Vec<String> =
            c.nodes.iter().filter(|n| n.runs[t] == Runs::Reference).map(|n| format!("{} {}", n.op, n.name)).collect();
        if !left.is_empty() {
            let more = if left.len() > 8 {
                format!(" and {} more (`--json` names all)", left.len() - 8)
            } else {
                String::new()
            };
            text.push_str(&format!(
                "{target}: {} run by the reference evaluator: {}{more}\n",
                left.len(),
                left[..left.len().min(8)].join(", ")
            ));
        }
    }
    Ok((text, json!(c)))
}
