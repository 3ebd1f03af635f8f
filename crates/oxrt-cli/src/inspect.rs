//! `oxrt inspect`: the summary here, each table in a file of its own.

mod capability;
mod cost;
mod memory;
mod steps;

use crate::args::{ImportArgs, parse_dims};
use crate::build::describe_profile;
use crate::ui;
use oxrt::ir::{Graph, Symbol};
use oxrt::{Engine, Error, FileKind, Model, Result, plan::Plan};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Shows a model or engine: inputs, outputs, dimensions, operators, costs, kernels, memory
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt inspect model.pt2\n  oxrt inspect model.onnx --cost --dim batch=8\n  oxrt inspect model.onnx --capability\n  \
        oxrt inspect model.engine --nodes --tuning tune.json\n  oxrt inspect model.engine --memory\n  oxrt inspect model.onnx --text"
)]
pub struct Args {
    /// .pt2, .pt, .onnx, .cfg or .engine file
    model: PathBuf,
    /// Lists every node; of an engine every step with its kernel, and why it was chosen
    #[arg(long, visible_alias = "steps")]
    nodes: bool,
    /// Parameters, operations, bytes and arithmetic intensity, by operator and by node
    #[arg(long)]
    cost: bool,
    /// Which nodes of a model have a kernel on which device and in which precision; nothing is built
    #[arg(long)]
    capability: bool,
    /// The memory plan drawn over the steps of a run (a model is built first, in memory)
    #[arg(long)]
    memory: bool,
    /// Size of a dimension for costs and memory: NAME=SIZE; by default the one tuned for, or the least
    #[arg(long = "dim", value_name = "DIM")]
    dims: Vec<String>,
    /// The record of times that the engine was built with, to say why kernels were chosen
    #[arg(long, value_name = "FILE")]
    tuning: Option<PathBuf>,
    /// Prints the graph in text form
    #[arg(long)]
    text: bool,
    /// Machine-readable report, with the tables asked for
    #[arg(long)]
    json: bool,
    #[command(flatten)]
    import: ImportArgs,
}

/// What is inspected.
enum Subject {
    Model(Box<Model>),
    Engine(Box<Plan>),
}

impl Subject {
    fn graph(&self) -> &Graph {
        match self {
            Subject::Model(m) => &m.ir().graph,
            Subject::Engine(p) => &p.graph,
        }
    }
}

pub fn run(a: Args) -> Result<ExitCode> {
    let subject = match oxrt::file_kind(&a.model)? {
        FileKind::Engine => Subject::Engine(Box::new(oxrt::plan::read_plan(&a.model)?)),
        _ => Subject::Model(Box::new(Model::open_with(&a.model, &a.import.clone().options(Vec::new(), false))?)),
    };
    let g = subject.graph();
    if a.text && !a.json {
        println!("{g}");
        return Ok(ExitCode::SUCCESS);
    }
    let sizes = sizes(&subject, &a.dims)?;
    let (about, problem) = about(&a.model, &subject);
    let mut report = Map::new();
    let mut tables: Vec<String> = Vec::new();
    let mut add = |name: &str, (text, value): (String, Value)| {
        report.insert(name.to_string(), value);
        tables.push(text);
    };
    let cost = cost::of(g, &sizes);
    if a.cost {
        add("cost", cost.table());
    }
    if a.capability {
        let Subject::Model(model) = &subject else {
            return Err(Error::invalid("an engine is built for one device already").help(
                "`--nodes` shows its kernels; `oxrt inspect model.onnx --capability` the choice before building",
            ));
        };
        add("capability", capability::table(model)?);
    }
    if let (true, Subject::Engine(plan)) = (a.nodes, &subject) {
        add("steps", steps::table(plan, a.tuning.as_deref())?);
    }
    if a.memory {
        let engine = match &subject {
            Subject::Engine(_) => Engine::open(&a.model)?,
            Subject::Model(m) => m.build(&Default::default())?,
        };
        add("memory", memory::chart(&engine, &sizes)?);
    }
    let nodes = node_rows(g);
    if a.json {
        let summary = summary_json(&a.model, g, &about, problem, &nodes, &cost);
        report.extend(summary);
        ui::print_json(&Value::Object(report))?;
        return Ok(ExitCode::SUCCESS);
    }
    print_summary(&a.model, &subject, &about, &cost);
    if let Some(p) = problem {
        ui::warn(&format!("this machine cannot run it: {p}"));
    }
    if a.nodes && matches!(subject, Subject::Model(_)) {
        let head = ["operator", "type", "name", "source"].map(String::from).to_vec();
        let rows: Vec<Vec<String>> = std::iter::once(head).chain(nodes).collect();
        tables.push(ui::table(&rows));
    }
    tables.iter().for_each(|t| print!("\n{t}"));
    Ok(ExitCode::SUCCESS)
}

/// Sizes of dimensions: those given, else the tuned ones of an engine, else the least that a model allows.
fn sizes(subject: &Subject, given: &[String]) -> Result<BTreeMap<Symbol, i64>> {
    let mut sizes: BTreeMap<Symbol, i64> = match subject {
        Subject::Model(m) => m.ir().symbols.iter().map(|(s, r)| (s.clone(), r.min.max(1))).collect(),
        Subject::Engine(p) => {
            p.profiles.first().map(|p| p.ranges.iter().map(|(s, r)| (s.clone(), r.opt)).collect()).unwrap_or_default()
        }
    };
    for d in parse_dims(given)? {
        let Some(size) = sizes.get_mut(&Symbol::new(&d.name)) else {
            let known: Vec<String> = sizes.keys().map(|s| s.to_string()).collect();
            return Err(Error::invalid(format!("there is no dimension `{}`", d.name))
                .help(format!("dimensions are: {}", if known.is_empty() { "none".into() } else { known.join(", ") })));
        };
        *size = d.range.opt;
    }
    Ok(sizes)
}

/// Headings with their texts, and why this machine cannot run an engine.
fn about(path: &Path, subject: &Subject) -> (Vec<(&'static str, String)>, Option<String>) {
    match subject {
        Subject::Engine(plan) => {
            let profiles: Vec<String> = plan.profiles.iter().map(describe_profile).collect();
            let about = vec![
                ("built by", plan.producer.clone()),
                ("device", format!("{} ({})", plan.backend, plan.target)),
                ("profiles", profiles.join(" | ")),
            ];
            (about, Engine::open(path).err().map(|e| e.message().to_string()))
        }
        Subject::Model(m) => {
            let ir = m.ir();
            let dims: Vec<String> = ir.symbols.iter().map(|(s, r)| format!("{s} {r}")).collect();
            let mut about = vec![("made by", ir.producer.clone()), ("dimensions", dims.join(", "))];
            if ir.opset > 0 {
                about.push(("opset", ir.opset.to_string()));
            }
            (about, None)
        }
    }
}

fn ports(g: &Graph, list: &[oxrt::ir::ValueId]) -> Vec<String> {
    list.iter().map(|v| format!("{} {}", g[*v].name, g[*v].ty)).collect()
}

fn node_rows(g: &Graph) -> Vec<Vec<String>> {
    let row = |(_, n): (oxrt::ir::NodeId, &oxrt::ir::Node)| {
        let ty = n.output(0).map_or(String::new(), |v| g[v].ty.to_string());
        let source = n.source.as_deref().map_or(String::new(), |s| s.location.clone());
        vec![n.op.to_string(), ty, n.name.clone(), source]
    };
    g.nodes().map(row).collect()
}

fn operators(g: &Graph) -> BTreeMap<&str, usize> {
    let mut counts = BTreeMap::new();
    g.nodes().for_each(|(_, n)| *counts.entry(&*n.op).or_default() += 1);
    counts
}

fn weight_bytes(g: &Graph) -> usize {
    let own: usize = g.value_ids().filter_map(|v| g.constant(v)).map(|t| t.bytes().len()).sum();
    own + g.nodes().flat_map(|(_, n)| n.subgraphs()).map(|(_, body)| weight_bytes(body)).sum::<usize>()
}

fn summary_json(
    path: &Path,
    g: &Graph,
    about: &[(&'static str, String)],
    problem: Option<String>,
    nodes: &[Vec<String>],
    cost: &cost::Costs,
) -> Map<String, Value> {
    let value = json!({
        "file": path, "inputs": ports(g, &g.inputs), "outputs": ports(g, &g.outputs), "operators": operators(g),
        "weight_bytes": weight_bytes(g), "nodes": nodes, "about": about.iter().cloned().collect::<BTreeMap<_, _>>(),
        "cannot_run_here": problem, "totals": cost.totals(),
    });
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

fn print_summary(path: &Path, subject: &Subject, about: &[(&'static str, String)], cost: &cost::Costs) {
    let g = subject.graph();
    println!("{}", path.display());
    let line = |k: &str, v: &str| println!("  {k:<11} {v}");
    about.iter().filter(|(_, v)| !v.is_empty()).for_each(|(k, v)| line(k, v));
    for (heading, list) in [("inputs", ports(g, &g.inputs)), ("outputs", ports(g, &g.outputs))] {
        list.iter().enumerate().for_each(|(i, p)| line(if i == 0 { heading } else { "" }, p));
    }
    line("weights", &format!("{}, {} parameters", ui::bytes(weight_bytes(g)), cost::short(cost.parameters as f64)));
    line("work", &cost.sentence());
    let mut ops: Vec<_> = operators(g).into_iter().collect();
    ops.sort_by_key(|(op, n)| (std::cmp::Reverse(*n), *op));
    let ops: Vec<String> = ops.iter().map(|(op, n)| format!("{n} {op}")).collect();
    line("nodes", &format!("{}: {}", g.num_nodes(), ops.join(", ")));
    if let Subject::Engine(plan) = subject {
        let host: Vec<(String, String)> = plan
            .steps
            .iter()
            .filter(|s| s.is_on_host(&plan.graph))
            .map(|s| (g[s.node].op.to_string(), g[s.node].name.clone()))
            .collect();
        if !host.is_empty() {
            line("reference", &format!("{} steps: {}", host.len(), crate::build::summary(&host)));
        }
    }
}
