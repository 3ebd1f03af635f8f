//! Names the rule that breaks a graph.

use crate::diff::Side;
use crate::model::Model;
use crate::verify::{Comparison, compare_tensors};
use oxrt_ops::Datum;
use oxrt_passes::{Applied, Log, Options};
use oxrt_tensor::{Result, Tensor};
use serde::Serialize;

/// The step after which the graph gives other numbers.
#[derive(Clone, Debug, Serialize)]
pub struct Guilty {
    pub rule: String,
    pub node: String,
    /// Number of the step, from 1: `--stop-at` one less leaves it out.
    pub step: usize,
    /// Whether it belongs to simplification (or to the engine's fusions).
    pub in_simplify: bool,
    /// The outputs after it.
    pub outputs: Vec<Comparison>,
}

#[derive(Clone, Debug, Serialize)]
pub struct BisectReport {
    /// Rewrites from the source to the graph of an engine, and those of simplification among them.
    pub steps: usize,
    pub simplify_steps: usize,
    /// Graphs that were run.
    pub runs: usize,
    pub guilty: Option<Guilty>,
}

/// Rewrites up to step `n`.
fn rewritten(source: &Model, options: &Options, n: Option<usize>) -> Result<(Model, Vec<Applied>, usize)> {
    let mut model = source.clone();
    oxrt_passes::drop_assertions(&mut model.ir.graph);
    let first = oxrt_passes::simplify(&mut model.ir, &Options { stop_at: n, ..options.clone() })?;
    let done = first.steps.len();
    let mut log: Log = first;
    if n.is_none_or(|n| n > done) {
        let rest = n.map(|n| n - done);
        log.extend(oxrt_passes::prepare_engine(&mut model.ir, &Options { stop_at: rest, ..options.clone() })?);
    }
    Ok((model, log.steps, done))
}

/// Runs the graph as it is after each of a few numbers of rewrites by the reference evaluator, and finds by bisection the one
/// after which the outputs leave `rtol` and `atol`. `None` when all rewrites together are right.
///
/// # Errors
/// When the source cannot be run, or a rule fails (which names it).
pub fn bisect_passes(
    source: &Model,
    inputs: &[(String, Tensor)],
    options: &Options,
    rtol: f64,
    atol: f64,
) -> Result<BisectReport> {
    let run = |model: &Model| -> Result<Vec<Datum>> {
        let side = Side::of_model(model)?;
        let inputs = side.order_inputs(inputs)?;
        match side.engine() {
            Some(engine) => Ok(engine.run_watched(inputs, &mut |_, _, _| Ok(crate::Seen::Keep))?.unwrap_or_default()),
            None => Ok(Vec::new()),
        }
    };
    let names: Vec<String> = source.ir.graph.outputs.iter().map(|&v| source.ir.graph[v].name.clone()).collect();
    let want = run(source)?;
    let mut runs = 1;
    let mut judge = |model: &Model| -> Result<(bool, Vec<Comparison>)> {
        runs += 1;
        let got = run(model)?;
        let pairs =
            names.iter().zip(got.iter().zip(&want)).filter_map(|(n, (g, w))| Some((n, g.as_tensor()?, w.as_tensor()?)));
        let outputs = pairs.map(|(n, g, w)| compare_tensors(n, g, w, rtol, atol)).collect::<Result<Vec<_>>>()?;
        Ok((outputs.iter().all(|c| c.passed), outputs))
    };
    let (whole, steps, simplify_steps) = rewritten(source, options, None)?;
    let (right, mut outputs) = judge(&whole)?;
    let mut guilty = None;
    if !right {
        // Right after `low` steps, wrong after `high`.
        let (mut low, mut high) = (0, steps.len());
        while high - low > 1 {
            let middle = low + (high - low) / 2;
            let (fine, found) = judge(&rewritten(source, options, Some(middle))?.0)?;
            match fine {
                true => low = middle,
                false => (high, outputs) = (middle, found),
            }
        }
        guilty = steps.get(high.wrapping_sub(1)).map(|s| Guilty {
            rule: s.rule.to_string(),
            node: s.node.clone(),
            step: high,
            in_simplify: high <= simplify_steps,
            outputs,
        });
    }
    Ok(BisectReport { steps: steps.len(), simplify_steps, runs, guilty })
}
