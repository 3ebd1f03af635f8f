//! The memory plan of a run, drawn over its steps.

use crate::ui;
use oxrt::ir::Symbol;
use oxrt::{Engine, Error, MemoryPlan, Result};
use serde_json::{Value, json};
use std::collections::BTreeMap;

const WIDTH: usize = 72;
const HEIGHT: usize = 8;
/// Buffers that have a line of their own, the largest.
const LINES: usize = 24;

pub fn chart(engine: &Engine, sizes: &BTreeMap<Symbol, i64>) -> Result<(String, Value)> {
    if !engine.is_static() {
        return Err(Error::unsupported(
            "a memory plan of an engine whose sizes depend on data: memory is taken as the run goes",
        ));
    }
    let shapes: Vec<(oxrt::DType, Vec<usize>)> = engine
        .inputs()
        .iter()
        .map(|p| {
            let size = |d: &oxrt::ir::Dim| usize::try_from(d.eval(&|s| sizes.get(s).copied())?).ok();
            let shape = p.ty.dims().and_then(|dims| dims.iter().map(size).collect());
            let open =
                || Error::invalid(format!("the sizes of input `{}` are open", p.name)).help("give them with `--dim`");
            Ok((p.ty.dtype().ok_or_else(open)?, shape.ok_or_else(open)?))
        })
        .collect::<Result<_>>()?;
    let inputs: Vec<(oxrt::DType, &[usize])> = shapes.iter().map(|(t, s)| (*t, s.as_slice())).collect();
    let plan = engine.session().memory_plan(&inputs)?;
    Ok((draw(&plan), to_json(&plan)))
}

/// Bytes alive over the steps as columns of blocks; below, the largest buffers as bars from first use to last.
fn draw(plan: &MemoryPlan) -> String {
    let steps = plan.steps.len();
    if steps == 0 {
        return "no step takes memory\n".to_string();
    }
    let columns = steps.min(WIDTH);
    let column = |step: usize| (step * columns / steps).min(columns - 1);
    let mut peak = vec![0usize; columns];
    let alive: Vec<usize> = (0..steps).map(|s| plan.bytes_at(s)).collect();
    alive.iter().enumerate().for_each(|(s, &b)| peak[column(s)] = peak[column(s)].max(b));
    let most = alive.iter().copied().max().unwrap_or(0).max(1);
    let busiest = alive.iter().position(|&b| b == most).unwrap_or(0);
    let mut out = format!(
        "memory over {steps} steps: {} are reserved, {} are alive at the busiest step ({} {})\n\n",
        ui::bytes(plan.arena_bytes),
        ui::bytes(most),
        plan.steps[busiest].op,
        plan.steps[busiest].name
    );
    let blocks = [' ', '▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    for row in (0..HEIGHT).rev() {
        let label = match row {
            r if r + 1 == HEIGHT => ui::bytes(most),
            r if r + 1 == HEIGHT / 2 => ui::bytes(most / 2),
            _ => String::new(),
        };
        let bar = |b: &usize| {
            let eighths = (b * HEIGHT * 8).div_ceil(most);
            blocks[eighths.saturating_sub(row * 8).min(8)]
        };
        out.push_str(&format!("{label:>11} │{}\n", peak.iter().map(bar).collect::<String>().trim_end()));
    }
    out.push_str(&format!("{:>11} └{}\n", "0 B", "─".repeat(columns)));
    let mut order: Vec<usize> = (0..plan.buffers.len()).collect();
    order.sort_by_key(|&b| std::cmp::Reverse(plan.buffers[b].bytes));
    order.truncate(LINES);
    order.sort_by_key(|&b| (plan.buffers[b].first, plan.buffers[b].offset));
    for b in order {
        let buffer = &plan.buffers[b];
        let (from, to) = (column(buffer.first.min(steps - 1)), column(buffer.last.min(steps - 1)));
        let bar = format!("{}{}", " ".repeat(from), "█".repeat(to - from + 1));
        out.push_str(&format!(
            "{:>11} │{bar:columns$} {} at {}\n",
            ui::bytes(buffer.bytes),
            buffer.name,
            ui::bytes(buffer.offset)
        ));
    }
    if plan.buffers.len() > LINES {
        out.push_str(&format!("{:>11} │ and {} smaller buffers (`--json` has all)\n", "", plan.buffers.len() - LINES));
    }
    let scratch = plan.steps.iter().map(|s| s.workspace_bytes).max().unwrap_or(0);
    if scratch > 0 {
        out.push_str(&format!(
            "scratch memory of kernels: at most {} at a step, among the buffers\n",
            ui::bytes(scratch)
        ));
    }
    out
}

fn to_json(plan: &MemoryPlan) -> Value {
    let buffers: Vec<Value> = plan
        .buffers
        .iter()
        .map(|b| json!({"name": b.name, "bytes": b.bytes, "offset": b.offset, "first": b.first, "last": b.last}))
        .collect();
    let steps: Vec<Value> = plan
        .steps
        .iter()
        .enumerate()
        .map(|(i, s)| {
            json!({
                "name": s.name, "op": s.op, "kernel": s.kernel, "alive_bytes": plan.bytes_at(i),
                "workspace_bytes": s.workspace_bytes, "workspace_offset": s.workspace_offset, "flops": s.flops, "io_bytes": s.io_bytes,
            })
        })
        .collect();
    json!({
        "arena_bytes": plan.arena_bytes, "lower_bound_bytes": plan.lower_bound,
        "steps": steps, "buffers": buffers,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt::{PlannedBuffer, PlannedStep};

    #[test]
    fn buffers_are_drawn_from_first_use_to_last() {
        let step = |name: &str| PlannedStep {
            name: name.into(),
            op: "Relu".into(),
            kernel: "k".into(),
            workspace_bytes: 0,
            flops: 0,
            io_bytes: 0,
            workspace_offset: 0,
        };
        let buffer =
            |name: &str, bytes, first, last| PlannedBuffer { name: name.into(), bytes, offset: 0, first, last };
        let plan = MemoryPlan {
            arena_bytes: 3072,
            lower_bound: 3072,
            steps: vec![step("a"), step("b"), step("c")],
            buffers: vec![buffer("x", 1024, 0, 1), buffer("y", 2048, 1, 3)],
        };
        let text = draw(&plan);
        assert!(text.contains("3.0 KiB are alive at the busiest step (Relu b)"), "{text}");
        assert!(text.contains("    1.0 KiB │██  x at 0 B"), "{text}");
        assert!(text.contains("    2.0 KiB │ ██ y at 0 B"), "{text}");
    }
}
