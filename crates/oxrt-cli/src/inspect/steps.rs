//! Steps of an engine: the kernel of each, and why it was chosen.

use crate::ui;
use oxrt::plan::{PackedKernel, Plan, StepKind};
use oxrt::{Result, TuningRecord, Why};
use serde_json::{Value, json};
use std::path::Path;

pub fn table(plan: &Plan, tuning: Option<&Path>) -> Result<(String, Value)> {
    let record = tuning.map(TuningRecord::read).transpose()?;
    let choices = oxrt::choices(plan, record.as_ref());
    let mut rows = vec![["operator", "kernel", "why", "type", "name", "does the work of"].map(String::from).to_vec()];
    let mut list = Vec::new();
    for (step, why) in plan.steps.iter().zip(&choices) {
        let node = &plan.graph[step.node];
        let (kernel, reason) = match &step.kind {
            StepKind::Kernel { kernels, .. } => (kernels[0].candidate.as_str(), reason(kernels, why)),
            StepKind::Alias => ("no work", "the same memory under another shape".to_string()),
            StepKind::Host if !step.is_on_host(&plan.graph) => {
                ("no work", "its sizes are known when it is reached".to_string())
            }
            StepKind::Host => ("reference evaluator", "no kernel, or sizes that depend on data".to_string()),
        };
        let ty = node.output(0).map_or(String::new(), |v| plan.graph[v].ty.to_string());
        let packed: usize = step.kind.kernels().iter().flat_map(|k| &k.packed).map(|t| t.bytes().len()).sum();
        let origins: Vec<String> = node.origins.iter().filter(|o| ***o != *node.name).map(|o| o.to_string()).collect();
        list.push(json!({
            "op": &*node.op, "name": node.name, "kernel": kernel, "why": reason, "others": why.others, "times_us": why.times_us,
            "type": ty, "packed_bytes": packed, "origins": node.origins.iter().map(|o| o.to_string()).collect::<Vec<_>>(),
        }));
        let work = match origins.len() {
            0..=3 => origins.join(", "),
            n => format!("{}, … ({n})", origins[..3].join(", ")),
        };
        rows.push(vec![node.op.to_string(), kernel.to_string(), reason, ty, node.name.clone(), work]);
    }
    Ok((ui::table(&rows), Value::Array(list)))
}

fn reason(kernels: &[PackedKernel], why: &Why) -> String {
    let elsewhere: Vec<&str> = kernels[1..].iter().map(|k| k.candidate.as_str()).collect();
    match elsewhere.is_empty() {
        true => reason_of(&kernels[0].candidate, why),
        false => format!("{}; at other sizes {}", reason_of(&kernels[0].candidate, why), elsewhere.join(", ")),
    }
}

fn reason_of(kernel: &str, why: &Why) -> String {
    if let Some(time) = why.times_us.get(kernel) {
        let others: Vec<String> =
            why.times_us.iter().filter(|(k, _)| *k != kernel).map(|(k, t)| format!("{k} {t:.1}")).collect();
        return format!("timed: {time:.1} µs; {}", others.join(", "));
    }
    match why.others.as_slice() {
        [] => "the only one".to_string(),
        others => format!("before {}", others.join(", ")),
    }
}
