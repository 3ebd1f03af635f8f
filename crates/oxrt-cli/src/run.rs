//! `oxrt run`

use crate::args::BuildArgs;
use crate::ui;
use oxrt::onnx::{PbKind, datum_to_pb, load_datum};
use oxrt::ops::Datum;
use oxrt::{Engine, Error, Result, Tensor, TensorView, input, npy, write_atomically};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Runs a model or engine on files: pictures, .npy, .npz, .pb
#[derive(clap::Args)]
#[command(
    after_help = "Examples:\n  oxrt run model.engine --in image=cat.png --out y=out.npz\n  oxrt run sr.pt2 --in image=small.png --out big.png\n  oxrt run model.onnx --engine-cache cache/ --in x=x.npy --out y.npy\n  oxrt run model.onnx --in-dir case/ --out-dir got/      input_<i>.pb → output_<i>.pb"
)]
pub struct Args {
    /// .pt2, .onnx or .engine file
    model: PathBuf,
    /// An input: NAME=FILE, or FILE for the only one
    #[arg(long = "in", value_name = "NAME=FILE")]
    inputs: Vec<String>,
    /// Where an output goes: NAME=FILE, or FILE for the first (or, with .npz, for all)
    #[arg(long = "out", value_name = "NAME=FILE")]
    outputs: Vec<String>,
    /// Folder with input_<i>.pb (ONNX TensorProto, SequenceProto, OptionalProto)
    #[arg(long, value_name = "DIR", requires = "out_dir", conflicts_with = "inputs")]
    in_dir: Option<PathBuf>,
    /// Folder for output_<i>.pb
    #[arg(long, value_name = "DIR", requires = "in_dir", conflicts_with = "outputs")]
    out_dir: Option<PathBuf>,
    /// Keeps engines in a folder: builds when no fitting one is there, loads it when it is
    #[arg(long, value_name = "DIR")]
    engine_cache: Option<PathBuf>,
    #[command(flatten)]
    build: BuildArgs,
}

pub fn run(a: Args) -> Result<ExitCode> {
    let progress = ui::Progress::new();
    let engine = match &a.engine_cache {
        Some(dir) => cached(&a, dir, &progress)?,
        None => a.build.engine(&a.model, &progress)?,
    };
    progress.stage("running");
    if let (Some(from), Some(to)) = (&a.in_dir, &a.out_dir) {
        let inputs = folder_inputs(&engine, from)?;
        // Sizes of zero lie outside the ranges that are assumed: such a run has an engine of its own.
        let empty = empty_dims(&engine, &inputs);
        let rebuilt = !empty.is_empty() && oxrt::file_kind(&a.model)? != oxrt::FileKind::Engine;
        let engine = if rebuilt { a.build.engine_at(&a.model, empty, &progress)? } else { engine };
        return run_folder(&engine, inputs, to);
    }
    let inputs = read_inputs(&engine, &a.inputs)?;
    let views: Vec<(&str, TensorView)> =
        inputs.iter().map(|(n, t)| Ok((n.as_str(), t.view()?))).collect::<Result<_>>()?;
    let outputs = engine.run(&views)?.into_vec();
    progress.finish();
    write_outputs(&outputs, &a.outputs)?;
    Ok(ExitCode::SUCCESS)
}

/// Tensors for all inputs from `NAME=FILE`.
pub fn read_inputs(engine: &Engine, specs: &[String]) -> Result<Vec<(String, Tensor)>> {
    let ports = engine.inputs();
    let list = || ports.iter().map(|p| format!("{} {}", p.name, p.ty)).collect::<Vec<_>>().join(", ");
    let mut out = Vec::new();
    for spec in specs {
        // A whole .npz fills every input that it has an array for.
        if spec.ends_with(".npz") && !spec.contains('=') {
            let arrays = npy::read_npz(Path::new(spec))?;
            for (i, p) in ports.iter().enumerate() {
                if let Some(t) = arrays.get(&p.name).or_else(|| arrays.get(&format!("in{i}"))) {
                    out.push((p.name.clone(), input::convert(t.clone(), p)?));
                }
            }
            continue;
        }
        let (port, file) = match spec.split_once('=') {
            Some((name, file)) => {
                let port = ports.iter().find(|p| p.name == name);
                (
                    port.ok_or_else(|| {
                        Error::invalid(format!("there is no input `{name}`; the inputs are {}", list()))
                    })?,
                    file,
                )
            }
            None if ports.len() == 1 => (&ports[0], spec.as_str()),
            None => {
                return Err(Error::invalid(format!("which input is `{spec}` for? The inputs are {}", list()))
                    .help("write `--in NAME=FILE`"));
            }
        };
        out.push((port.name.clone(), input::convert(input::load(port, file)?, port)?));
    }
    if let Some(p) = ports.iter().find(|p| !out.iter().any(|(n, _)| *n == p.name)) {
        return Err(Error::invalid(format!("input `{}` {} is missing", p.name, p.ty))
            .help(format!("add `--in {}=FILE`", p.name)));
    }
    Ok(out)
}

fn write_outputs(outputs: &[(String, Tensor)], specs: &[String]) -> Result<()> {
    if specs.is_empty() {
        for (name, t) in outputs {
            let values = t.to_f64_vec().unwrap_or_default();
            let shown: Vec<String> = values.iter().take(8).map(|v| format!("{v:.6}")).collect();
            let more = if values.len() > 8 { " …" } else { "" };
            println!("{name} {}{:?} = {}{more}", t.dtype(), t.shape(), shown.join(" "));
        }
        return Ok(());
    }
    for spec in specs {
        let (name, file) = spec.split_once('=').map_or((None, spec.as_str()), |(n, f)| (Some(n), f));
        let path = Path::new(file);
        let known = || outputs.iter().map(|(n, _)| n.as_str()).collect::<Vec<_>>().join(", ");
        let found = match name {
            Some(n) => outputs.iter().find(|(have, _)| have == n),
            None => outputs.first(),
        };
        let (found_name, t) = found.ok_or_else(|| {
            Error::invalid(format!("there is no output `{}`; the outputs are {}", name.unwrap_or(""), known()))
        })?;
        if path.extension().is_some_and(|e| e == "npz") {
            let all: Vec<(&str, &Tensor)> = match name {
                Some(_) => vec![(found_name, t)],
                None => outputs.iter().map(|(n, t)| (n.as_str(), t)).collect(),
            };
            npy::write_npz(path, all)?;
        } else {
            input::save(path, t)?;
        }
        eprintln!("{file}: {} {:?}", t.dtype(), t.shape());
    }
    Ok(())
}

/// Reads `input_<i>.pb`.
fn folder_inputs(engine: &Engine, from: &Path) -> Result<Vec<Datum>> {
    let ports = engine.inputs().iter().enumerate();
    ports.map(|(i, port)| load_datum(&from.join(format!("input_{i}.pb")), PbKind::of(&port.ty))).collect()
}

/// `NAME=0` for each dynamic dimension that is zero in these inputs.
fn empty_dims(engine: &Engine, inputs: &[Datum]) -> Vec<String> {
    let mut out = std::collections::BTreeSet::new();
    for (port, datum) in engine.inputs().iter().zip(inputs) {
        let (Some(dims), Some(t)) = (port.ty.dims(), datum.as_tensor()) else { continue };
        let zero = dims.iter().zip(t.shape()).filter(|(_, size)| **size == 0).filter_map(|(d, _)| d.as_symbol());
        out.extend(zero.map(|s| format!("{s}=0")));
    }
    out.into_iter().collect()
}

/// Runs on these inputs and writes `output_<i>.pb`.
fn run_folder(engine: &Engine, inputs: Vec<Datum>, to: &Path) -> Result<ExitCode> {
    let outputs = engine.session().run_datums(inputs)?;
    std::fs::create_dir_all(to)?;
    for (i, (port, datum)) in engine.outputs().iter().zip(&outputs).enumerate() {
        // An optional output that holds a value is written as declared.
        let wrapped;
        let datum = match (PbKind::of(&port.ty), datum) {
            (PbKind::Optional, d) if !matches!(d, Datum::Optional(_)) => {
                wrapped = Datum::Optional(Some(Box::new(d.clone())));
                &wrapped
            }
            (PbKind::Tensor | PbKind::Sequence, Datum::Optional(Some(d))) => &**d,
            (_, d) => d,
        };
        let bytes = datum_to_pb(&port.name, datum);
        write_atomically(&to.join(format!("output_{i}.pb")), |out| Ok(out.write_all(&bytes)?))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// An engine from the cache, or a new one put there. The name holds a hash of the model and of everything
/// that the engine depends on.
fn cached(a: &Args, dir: &Path, progress: &ui::Progress) -> Result<Engine> {
    if oxrt::file_kind(&a.model)? == oxrt::FileKind::Engine {
        return a.build.engine(&a.model, progress);
    }
    let key = oxrt::cache_key(&a.model, &format!("{:?}", a.build))?;
    let stem = a.model.file_stem().unwrap_or_default().to_string_lossy().into_owned();
    let path = dir.join(format!("{stem}-{key:016x}.engine"));
    if path.exists() {
        match Engine::open_with(&path, a.build.threads) {
            Ok(engine) => return Ok(engine),
            Err(e) => ui::warn(&format!("the cached engine is not used: {}", e.message())),
        }
    }
    let engine = a.build.engine(&a.model, progress)?;
    std::fs::create_dir_all(dir)?;
    engine.save(&path)?;
    Ok(engine)
}
