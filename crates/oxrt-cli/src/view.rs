//! `oxrt view`

use crate::args::{BuildArgs, ImportArgs, parse_dims};
use crate::ui;
use oxrt::{BenchOptions, BuildOptions, Engine, Error, FileKind, Model, Result, SimplifyOptions};
use oxrt_view::{Document, Overlay, View, compare};
use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

/// Shows a model or engine in a browser: modules, operators, weights, costs, times, what changed
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt view model.pt2\n  oxrt view model.onnx -o model.html\n  oxrt view model.onnx --with simplified\n  \
        oxrt view model.pt2 --profile --dim batch=8\n  oxrt view model.onnx --engine model.engine --errors diff.json"
)]
pub struct Args {
    /// .pt2, .pt, .onnx, .cfg or .engine file
    model: PathBuf,
    /// Writes one self-contained HTML file instead of serving the page
    #[arg(short, long, value_name = "FILE")]
    output: Option<PathBuf>,
    /// A second model beside it, with what changed: a file, or `simplified` or `engine` for what becomes of this one
    #[arg(long, value_name = "FILE")]
    with: Option<String>,
    /// Times of steps: of a run now, or from what `oxrt bench --profile-steps --json` printed
    #[arg(long, value_name = "FILE", num_args = 0..=1)]
    profile: Option<Option<PathBuf>>,
    /// Error of each node, as `oxrt diff --json` prints it: `[{"node": NAME, "error": NUMBER}]`
    #[arg(long, value_name = "FILE")]
    errors: Option<PathBuf>,
    /// An engine built from this model: which of its steps does the work of each node
    #[arg(long, value_name = "ENGINE")]
    engine: Option<PathBuf>,
    /// Size of a dimension for costs and times: NAME=SIZE
    #[arg(long = "dim", value_name = "DIM")]
    dims: Vec<String>,
    /// For `--profile` and `--with engine`: where the engine runs
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    device: String,
    /// For `--profile` and `--with engine`: least exact arithmetic allowed
    #[arg(long, default_value = "fp32", value_name = "PRECISION")]
    precision: String,
    /// Port of the page on 127.0.0.1; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    port: u16,
    /// Prints the address, and opens no browser
    #[arg(long)]
    no_open: bool,
    #[command(flatten)]
    import: ImportArgs,
}

/// A file as it was read.
enum Loaded {
    Model(Box<Model>),
    Engine(Box<oxrt::plan::Plan>),
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    progress.stage(format!("reading {}", a.model.display()));
    let sizes: BTreeMap<String, i64> = parse_dims(&a.dims)?.into_iter().map(|d| (d.name, d.range.opt)).collect();
    let loaded = load(&a.model, &a.import)?;
    let mut left = document(&file_name(&a.model), &loaded, &sizes);
    if let Some(file) = &a.engine {
        left.overlay(Overlay::of_engine(&left, &Document::of_plan(&file_name(file), &oxrt::plan::read_plan(file)?)));
    }
    match &a.profile {
        Some(Some(file)) => profiled(&mut left, &read(file)?, file)?,
        Some(None) => {
            let engine = engine_of(&a, &loaded, &progress)?;
            progress.stage("measuring");
            let inputs = oxrt::inputs_for_engine(&engine, &sizes, 1)?;
            let options = BenchOptions {
                runs: 5,
                duration: Duration::from_millis(500),
                profile: true,
                ..BenchOptions::default()
            };
            let report = oxrt::bench(&engine, &inputs, &options)?;
            let json = serde_json::to_string(&report).map_err(|e| Error::bug(e.to_string()))?;
            profiled(&mut left, &json, &a.model)?;
        }
        None => {}
    }
    if let Some(file) = &a.errors {
        let overlay = Overlay::of_errors(&read(file)?, &left).map_err(|e| e.at(file.display().to_string()))?;
        left.overlay(overlay);
    }
    let right = match a.with.as_deref() {
        None => None,
        Some("simplified") => {
            progress.stage("simplifying");
            let simplified = Loaded::Model(Box::new(simplified(&loaded)?));
            Some(document("simplified", &simplified, &sizes))
        }
        Some("engine") => {
            let engine = engine_of(&a, &loaded, &progress)?;
            Some(Document::of_plan("engine", engine.plan()))
        }
        Some(file) => Some(document(&file_name(Path::new(file)), &load(Path::new(file), &a.import)?, &sizes)),
    };
    let right = right.map(|d| {
        let comparison = compare(&left, &d);
        (d, comparison)
    });
    let view = View { left, right };
    if let Some(file) = &a.output {
        let bytes = oxrt_view::write_html(&view, file)?;
        progress.finish();
        println!("{}: {}", file.display(), ui::bytes(bytes));
        return Ok(ExitCode::SUCCESS);
    }
    let server = oxrt_view::serve(view, a.port)?;
    progress.finish();
    let url = server.url();
    println!("{url}");
    // Whoever reads the address through a pipe waits for it.
    let _ = std::io::stdout().flush();
    eprintln!("Ctrl-C ends the server");
    if !a.no_open && !open_browser(&url) {
        ui::warn("no browser could be opened; open the address yourself, or write a file with `-o model.html`");
    }
    server.run()?;
    Ok(ExitCode::SUCCESS)
}

fn load(path: &Path, import: &ImportArgs) -> Result<Loaded> {
    if oxrt::file_kind(path)? == FileKind::Engine {
        return Ok(Loaded::Engine(Box::new(oxrt::plan::read_plan(path)?)));
    }
    let mut model = Model::open_with(path, &import.clone().options(Vec::new(), false))?;
    model.track_origins();
    Ok(Loaded::Model(Box::new(model)))
}

fn document(name: &str, loaded: &Loaded, sizes: &BTreeMap<String, i64>) -> Document {
    match loaded {
        Loaded::Model(m) => Document::of_model(name, m.ir(), sizes),
        Loaded::Engine(plan) => Document::of_plan(name, plan),
    }
}

fn simplified(loaded: &Loaded) -> Result<Model> {
    match loaded {
        Loaded::Model(m) => Ok(m.simplify(&SimplifyOptions { no_check: true, ..SimplifyOptions::default() })?.0),
        Loaded::Engine(_) => {
            Err(Error::invalid("an engine is simplified already").help("`oxrt view model.onnx --with model.engine`"))
        }
    }
}

fn engine_of(a: &Args, loaded: &Loaded, progress: &ui::Progress) -> Result<Engine> {
    if let Loaded::Engine(_) = loaded {
        return Engine::open(&a.model);
    }
    progress.stage("building");
    let model = simplified(loaded)?;
    let build = BuildArgs {
        dims: a.dims.clone(),
        device: a.device.clone(),
        precision: a.precision.clone(),
        ..BuildArgs::default()
    };
    let options: BuildOptions = build.tuned().options(&model)?;
    Ok(model.build_with(&options, &mut progress.callback())?.0)
}

fn profiled(d: &mut Document, json: &str, from: &Path) -> Result<()> {
    for overlay in Overlay::of_profile(json, d).map_err(|e| e.at(from.display().to_string()))? {
        d.overlay(overlay);
    }
    Ok(())
}

fn read(path: &Path) -> Result<String> {
    std::fs::read_to_string(path).map_err(|e| Error::from(e).at(path.display().to_string()))
}

fn file_name(path: &Path) -> String {
    path.file_name().unwrap_or(path.as_os_str()).to_string_lossy().into_owned()
}

/// Asks the desktop for its browser. False when there is none to ask.
fn open_browser(url: &str) -> bool {
    let commands: &[&[&str]] = if cfg!(target_os = "macos") {
        &[&["open"]]
    } else if cfg!(windows) {
        &[&["rundll32", "url.dll,FileProtocolHandler"]]
    } else {
        &[&["xdg-open"], &["wslview"]]
    };
    commands.iter().any(|c| {
        let quiet = || Stdio::null();
        Command::new(c[0]).args(&c[1..]).arg(url).stdin(quiet()).stdout(quiet()).stderr(quiet()).spawn().is_ok()
    })
}
