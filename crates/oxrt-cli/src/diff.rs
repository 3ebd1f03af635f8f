//! `oxrt diff`

use crate::args::{BuildArgs, ImportArgs};
use crate::ui;
use oxrt::{DiffOptions, DiffReport, Error, ExportOptions, Fault, FileKind, Model, NodePlace, Result, Side, Tensor};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Finds the first node where two models, engines or files of saved tensors differ
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt diff model.pt2 model.engine\n  oxrt diff model.onnx simplified.onnx --minimise small\n  oxrt diff model.onnx                      (with an engine built from it)\n  oxrt diff model.onnx values.npz --all\n  oxrt diff model.onnx --bisect-pass\n  oxrt diff model.onnx --non-finite\n\nModels are run by the reference evaluator, engines by their kernels. Values are matched by name.\nExit status 1 when the two differ."
)]
pub struct Args {
    /// The reference: .pt2, .onnx, .engine or .npz
    reference: PathBuf,
    /// What is tested: .pt2, .onnx, .engine or .npz; by default an engine built from the reference
    tested: Option<PathBuf>,
    /// Value of an input: NAME=FILE (.npy, .npz, picture), or a .npz with all of them
    #[arg(long = "in", value_name = "INPUT")]
    inputs: Vec<String>,
    /// Size of a dimension for inputs that are made up: NAME=SIZE
    #[arg(long = "size", value_name = "NAME=SIZE")]
    sizes: Vec<String>,
    /// Memory for values of the reference, as 512M or 2G; the rest lies in a temporary file
    #[arg(long = "mem", default_value = "2G", value_name = "BYTES")]
    memory: String,
    /// Largest relative L2 error that one step may add (by default what its element type allows)
    #[arg(long, value_name = "ERROR")]
    budget: Option<f64>,
    /// Compares every value instead of stopping at the first beyond its budget
    #[arg(long)]
    all: bool,
    /// Writes the nodes at fault, at most 10, as STEM.onnx with their inputs and right results in STEM.npz
    #[arg(long, value_name = "STEM", visible_alias = "minimize")]
    minimise: Option<PathBuf>,
    /// Names the rule of simplification or fusion that breaks the reference's graph
    #[arg(long, visible_alias = "bisect-passes")]
    bisect_pass: bool,
    /// Finds the first node that makes NaN or infinity out of finite numbers
    #[arg(long)]
    non_finite: bool,
    #[command(flatten)]
    build: BuildArgs,
    #[command(flatten)]
    import: ImportArgs,
    /// Machine-readable report: with `values`, a list of the error at each node
    #[arg(long)]
    json: bool,
}

impl Args {
    fn side(&self, path: &Path) -> Result<Side> {
        match is_model(path) {
            true => Side::of_model(&self.open(path)?).map_err(|e| e.at(path.display().to_string())),
            false => Side::open(path, self.build.threads),
        }
    }

    /// A model; `--input` is for whichever of the two does not state its inputs itself.
    fn open(&self, path: &Path) -> Result<Model> {
        let options = self.import.clone().options(Vec::new(), false);
        Model::open_with(path, &options).or_else(|e| {
            let plain = ExportOptions { inputs: Vec::new(), ..options.clone() };
            if options.inputs.is_empty() { Err(e) } else { Model::open_with(path, &plain).map_err(|_| e) }
        })
    }
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage("reading");
    let reference = a.side(&a.reference)?;
    let tested = match (&a.tested, &reference) {
        (Some(path), _) => Some(a.side(path)?),
        (None, _) if a.bisect_pass || a.non_finite => None,
        (None, Side::Engine { is_model: true, .. }) => Some(Side::of_engine(&a.build.engine(&a.reference, &progress)?)),
        (None, _) => {
            return Err(Error::invalid("there is nothing to compare with").help("name a second file: `oxrt diff A B`"));
        }
    };
    let inputs = inputs(&a, &reference, tested.as_ref())?;
    if a.bisect_pass {
        return bisect(&a, &inputs, progress);
    }
    if a.non_finite {
        return non_finite(&a, tested.as_ref().unwrap_or(&reference), &inputs, progress);
    }
    let Some(tested) = tested else { return Err(Error::bug("no second side")) };
    progress.stage("comparing");
    let options = DiffOptions { memory: parse_bytes(&a.memory)?, budget: a.budget, all: a.all };
    let report = oxrt::diff(&reference, &tested, &inputs, &options)?;
    let reproducer = match (&a.minimise, &report.fault) {
        (Some(stem), Some(_)) => {
            progress.stage("cutting down");
            Some(oxrt::reproduce(&reference, &tested, &inputs, &report, stem)?)
        }
        _ => None,
    };
    let took = progress.finish();
    if a.json {
        ui::print_json(&serde_json::json!({
            "agrees": report.agrees(), "report": report, "reproducer": reproducer, "seconds": took.as_secs_f64(),
            "nodes": report.values.iter().map(|v| serde_json::json!({
                "node": v.node.name, "value": v.value,
                "error": v.total.as_ref().or(v.added.as_ref()).map(|c| c.rel_l2),
                "added": v.added.as_ref().map(|c| c.rel_l2), "within": v.within })).collect::<Vec<_>>(),
        }))?;
    } else {
        print_report(&report, &a);
        if let Some(r) = &reproducer {
            println!("\n{} ({} nodes) and {}", r.model.display(), r.nodes, r.tensors.display());
            if r.reproduces {
                match r.from_tested {
                    true => println!("  `oxrt diff {} {}` shows it", r.tensors.display(), r.model.display()),
                    false => println!("  `oxrt diff {}` shows it", r.model.display()),
                }
            }
            r.notes.iter().for_each(|n| println!("  {n}"));
        }
        println!("in {}", ui::time(took));
    }
    Ok(if report.agrees() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn print_report(report: &DiffReport, a: &Args) {
    let compared = report.values.len();
    match &report.fault {
        None if report.outputs_agree => println!("no node is beyond its budget; {compared} values compared"),
        None => println!("the outputs differ; {compared} values compared"),
        Some(f) => print_fault(f, compared),
    }
    if a.all {
        let head = ["value", "node", "added (rel L2)", "total (rel L2)", "max abs", "ulp", "cosine", ""];
        let mut rows = vec![head.map(String::from).to_vec()];
        for v in &report.values {
            let c = v.total.as_ref().or(v.added.as_ref());
            let number = |x: Option<f64>| x.map_or("–".to_string(), |x| format!("{x:.2e}"));
            rows.push(vec![
                v.value.clone(),
                format!("{} {}", v.node.op, v.node.location),
                number(v.added.as_ref().map(|c| c.rel_l2)),
                number(v.total.as_ref().map(|c| c.rel_l2)),
                number(c.map(|c| c.max_abs)),
                c.map_or(String::new(), |c| format!("{:.0}", c.max_ulp)),
                c.map_or(String::new(), |c| format!("{:.6}", c.cosine)),
                if v.within { String::new() } else { "beyond".to_string() },
            ]);
        }
        println!("\n{}", ui::table(&rows));
    }
    for c in &report.outputs {
        println!("output `{}`: {}", c.name, numbers(c));
    }
    if let Some(n) = &report.non_finite {
        print_non_finite(n);
    }
    report.notes.iter().for_each(|n| println!("note: {n}"));
    if report.file_bytes > 0 {
        println!(
            "{} of values in memory, {} in a temporary file",
            ui::bytes(report.memory_bytes),
            ui::bytes(report.file_bytes as usize)
        );
    }
}

fn numbers(c: &oxrt::Comparison) -> String {
    match &c.mismatch {
        Some(m) => m.clone(),
        None => format!(
            "rel L2 {:.2e}, max abs {:.2e}, max rel {:.2e}, {:.0} ulp, cosine {:.8}{}",
            c.rel_l2,
            c.max_abs,
            c.max_rel,
            c.max_ulp,
            c.cosine,
            if c.non_finite > 0 { format!(", {} not finite on one side", c.non_finite) } else { String::new() }
        ),
    }
}

fn print_fault(f: &Fault, compared: usize) {
    println!("first difference: `{}`, value {compared} of the run", f.value);
    let list = |what: &str, nodes: &[NodePlace]| {
        for n in nodes.iter().rev().take(10) {
            let kernel = if n.kernel.is_empty() { String::new() } else { format!(" by `{}`", n.kernel) };
            println!("  {what} {} \"{}\"{kernel}", n.op, n.name);
            let place: Vec<&str> =
                [&n.location, &n.module, &n.code].into_iter().map(|s| s.as_str()).filter(|s| !s.is_empty()).collect();
            if !place.is_empty() {
                println!("      {}", place.join("  "));
            }
        }
        if nodes.len() > 10 {
            println!("  … and {} more", nodes.len() - 10);
        }
    };
    list("reference:", &f.reference_nodes);
    list("tested:   ", &f.tested_nodes);
    println!("  added here: {}", numbers(&f.added));
    if let Some(c) = &f.inherited {
        println!("  inherited:  {}", numbers(c));
    }
    if let Some(c) = &f.total {
        println!("  total:      {}", numbers(c));
    }
    for e in &f.worst {
        println!("  {:?}: {} for {}", e.index, e.got, e.want);
    }
    f.differing.iter().for_each(|d| println!("  {d}"));
    if let Some(p) = &f.pattern {
        println!("  {p}");
    }
}

fn print_non_finite(n: &oxrt::NonFinite) {
    let what = if n.nans > 0 { format!("{} NaN", n.nans) } else { format!("{} infinities", n.infinities) };
    println!(
        "first {what} of {} elements: `{}` at {:?}, made by {} \"{}\"",
        n.elements, n.value, n.index, n.node.op, n.node.name
    );
    if !n.node.location.is_empty() {
        println!("  {}  {}", n.node.location, n.node.code);
    }
    for r in &n.inputs {
        let others = if r.not_finite > 0 { format!(", and {} not finite", r.not_finite) } else { String::new() };
        println!("  reads `{}`: {} to {}{others}", r.value, r.lo, r.hi);
    }
    if let Some(o) = &n.overflow {
        print!("it comes of an overflow before it: the ");
        print_non_finite(o);
    }
}

fn non_finite(a: &Args, side: &Side, inputs: &[(String, Tensor)], progress: ui::Progress) -> Result<ExitCode> {
    progress.stage("looking for NaN");
    let found = oxrt::find_non_finite(side, inputs)?;
    progress.finish();
    match (&found, a.json) {
        (_, true) => ui::print_json(&found)?,
        (Some(n), false) => print_non_finite(n),
        (None, false) => println!("every value is finite"),
    }
    Ok(if found.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn bisect(a: &Args, inputs: &[(String, Tensor)], progress: ui::Progress) -> Result<ExitCode> {
    progress.stage("running the graph after each half of the rewrites");
    let model = a.open(&a.reference)?;
    let report = oxrt::bisect_passes(&model, inputs, &oxrt::passes::Options::default(), 1e-3, 1e-4)?;
    let took = progress.finish();
    if a.json {
        ui::print_json(&report)?;
    } else {
        match &report.guilty {
            None => println!(
                "all {} rewrites together give the same outputs ({} runs, {})",
                report.steps,
                report.runs,
                ui::time(took)
            ),
            Some(g) => {
                println!(
                    "rule {} breaks the graph at node \"{}\": step {} of {} ({} runs, {})",
                    g.rule,
                    g.node,
                    g.step,
                    report.steps,
                    report.runs,
                    ui::time(took)
                );
                g.outputs.iter().filter(|c| !c.passed).for_each(|c| println!("  output `{}`: {}", c.name, numbers(c)));
                let command = if g.in_simplify { "simplify" } else { "build" };
                println!("  `oxrt {command} … --disable-rule {}` leaves it out", g.rule);
            }
        }
    }
    Ok(if report.guilty.is_none() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Inputs: given ones, those in a file of tensors, samples of a `.pt2`, else random ones.
fn inputs(a: &Args, reference: &Side, tested: Option<&Side>) -> Result<Vec<(String, Tensor)>> {
    let engine = [Some(reference), tested].into_iter().flatten().find_map(|s| match s {
        Side::Engine { engine, .. } => Some(engine),
        Side::Tensors(_) => None,
    });
    let Some(engine) = engine else { return Ok(Vec::new()) };
    let ports = engine.inputs();
    if !a.inputs.is_empty() {
        return ports
            .iter()
            .map(|p| {
                let spec = a.inputs.iter().find_map(|s| s.strip_prefix(&format!("{}=", p.name)));
                let spec = spec
                    .or_else(|| a.inputs.iter().map(String::as_str).find(|s| !s.contains('=') && s.ends_with(".npz")));
                let spec = spec.ok_or_else(|| Error::invalid(format!("input `{}` {} is not given", p.name, p.ty)))?;
                Ok((p.name.clone(), oxrt::input::convert(oxrt::input::load(p, spec)?, p)?))
            })
            .collect();
    }
    for side in [Some(reference), tested].into_iter().flatten() {
        let Side::Tensors(t) = side else { continue };
        let find = |(i, p): (usize, &oxrt::Port)| {
            t.get(&p.name).or_else(|| t.get(&format!("in{i}"))).map(|t| (p.name.clone(), t.clone()))
        };
        return ports
            .iter()
            .enumerate()
            .map(|(i, p)| {
                find((i, p)).ok_or_else(|| {
                    Error::invalid(format!("the saved tensors have no input `{}` (or `in{i}`)", p.name))
                        .help("save the inputs with the values")
                })
            })
            .collect();
    }
    let mut sizes = BTreeMap::new();
    for s in &a.sizes {
        let (name, size) = s
            .split_once('=')
            .and_then(|(n, v)| Some((n, v.parse().ok()?)))
            .ok_or_else(|| Error::invalid(format!("`--size {s}` is not NAME=SIZE")))?;
        sizes.insert(name.to_string(), size);
    }
    let files = [Some(&a.reference), a.tested.as_ref()];
    let models = files.into_iter().flatten().filter(|p| is_model(p)).map(|p| a.open(p)).collect::<Result<Vec<_>>>()?;
    if let Some(m) = models.iter().find(|m| sizes.is_empty() && m.samples().len() == ports.len() && !ports.is_empty()) {
        return Ok(ports.iter().map(|p| p.name.clone()).zip(m.samples().iter().cloned()).collect());
    }
    let made = match models.first() {
        Some(m) if sizes.is_empty() => {
            oxrt::random_inputs(m, &oxrt::sizes_to_try(m).into_iter().next().unwrap_or_default(), 1)?
        }
        _ => oxrt::inputs_for_engine(engine, &sizes, 1)?,
    };
    Ok(ports.iter().map(|p| p.name.clone()).zip(made).collect())
}

fn is_model(path: &Path) -> bool {
    path.extension().is_none_or(|e| e != "npz") && oxrt::file_kind(path).is_ok_and(|k| k != FileKind::Engine)
}

/// `512M`, `2G`, or a number of bytes.
fn parse_bytes(text: &str) -> Result<usize> {
    let digits = text.trim_end_matches(|c: char| c.is_ascii_alphabetic());
    let unit = match text[digits.len()..].to_ascii_uppercase().as_str() {
        "" | "B" => 1.0,
        "K" | "KB" | "KIB" => 1024.0,
        "M" | "MB" | "MIB" => 1024.0 * 1024.0,
        "G" | "GB" | "GIB" => 1024.0 * 1024.0 * 1024.0,
        _ => f64::NAN,
    };
    let bytes = digits.parse::<f64>().unwrap_or(f64::NAN) * unit;
    if bytes.is_nan() || bytes < 0.0 {
        return Err(Error::invalid(format!("`{text}` is no amount of memory")).help("write 512M or 2G"));
    }
    Ok(bytes as usize)
}
