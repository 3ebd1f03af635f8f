//! A model before it is an engine.

use crate::engine::{Device, Engine};
use crate::verify;
use oxrt_backend::{Backend, Precision};
use oxrt_build::{BuildReport, DimSpec, TuningRecord};
use oxrt_cpu::CpuBackend;
use oxrt_ir::{Dim, Symbol};
use oxrt_onnx::{WriteOptions, WriteReport};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail};
use oxrt_torch::{DimOption, ImportOptions};
use std::collections::{BTreeMap, BTreeSet};
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a file is, by its content.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A `.pt2` that `torch.export.save` wrote, or a `.pt` of `torch.jit.save`.
    Pt2,
    /// The `.cfg` of a Darknet network, whose numbers lie in a `.weights` file.
    Darknet,
    Onnx,
    Engine,
}

/// Looks at the first bytes of a file.
///
/// # Errors
/// When it cannot be read, is empty, or is a kind of file that is known not to work.
pub fn file_kind(path: &Path) -> Result<Kind> {
    let mut start = [0u8; 4096];
    let mut file = std::fs::File::open(path).at(|| path.display())?;
    let n = file.read(&mut start).at(|| path.display())?;
    let start = &start[..n];
    if n == 0 {
        return Err(Error::invalid("the file is empty").at(path.display().to_string()));
    }
    if oxrt_plan::is_engine(start) {
        return Ok(Kind::Engine);
    }
    if start.starts_with(b"PK") {
        return Ok(Kind::Pt2);
    }
    if start.starts_with(b"\x80") {
        return Err(Error::unsupported("a pickled checkpoint, which holds weights but no graph")
            .at(path.display().to_string())
            .help(
                "export the model in Python: `torch.export.save(torch.export.export(model, inputs), \"model.pt2\")`",
            ));
    }
    if oxrt_darknet::is_cfg(start) {
        return Ok(Kind::Darknet);
    }
    Ok(Kind::Onnx)
}

/// A graph with its weights, from a `.pt2` or an `.onnx` file.
#[derive(Clone, Debug)]
pub struct Model {
    pub(crate) ir: oxrt_ir::Model,
    path: PathBuf,
    /// Inputs that came with the file (sample inputs of a `.pt2`), in order.
    samples: Vec<Tensor>,
    pub warnings: Vec<String>,
}

/// How a file is opened: names and sizes that the user chooses.
#[derive(Clone, Debug, Default)]
pub struct ExportOptions {
    /// `new` in order of the inputs, or `old=new`.
    pub input_names: Vec<String>,
    pub output_names: Vec<String>,
    /// `batch=1..64` (range), `batch=8` (fixed), `x:0=batch` (name of axis 0 of input `x`), `x:0=batch=1..64`.
    pub dims: Vec<String>,
    /// Types and sizes of the inputs of a TorchScript file, which does not keep them: `x=f32[batch,3,224,224]`.
    pub inputs: Vec<String>,
    /// The `.weights` file of a Darknet network; by default that beside the `.cfg` with its name.
    pub weights: Option<PathBuf>,
    /// Boxes and scores out of a Darknet network's detection layers, in place of their raw results.
    pub decode: bool,
    /// Suppression after decoding: `detections` in place of boxes and scores.
    pub nms: Option<oxrt_darknet::Suppression>,
    /// ONNX files whose functions give operators of the user's own domains their meaning.
    pub functions: Vec<PathBuf>,
    /// Leaves out the model's own assertions, and the conditions on sizes under which it was exported.
    pub no_checks: bool,
}

#[derive(Clone, Debug, Default)]
pub struct SimplifyOptions {
    pub passes: oxrt_passes::Options,
    /// Leaves out the comparison with the original.
    pub no_check: bool,
}

#[derive(Clone, Debug)]
pub struct SimplifyReport {
    pub nodes_before: usize,
    pub nodes_after: usize,
    /// (rule, times it fired)
    pub rules: Vec<(String, usize)>,
    /// Each step in order: rule and node.
    pub steps: Vec<oxrt_passes::Applied>,
    /// Nodes of constants that were not folded because their result is beyond the limit.
    pub kept: Vec<oxrt_passes::Unfolded>,
    /// Comparisons with the original, one per set of sizes.
    pub checks: Vec<verify::VerifyCase>,
}

/// How kernels are chosen of which only a measurement tells the quickest (ways to do a convolution, precisions).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Tuning {
    /// By an estimate: the build is quick and gives the same engine everywhere.
    #[default]
    Estimate,
    /// By timing them here, at the sizes tuned for.
    Measure,
    /// By the times in this file; what it lacks is measured and added. With a full record the same engine is built again, byte
    /// for byte.
    Record(PathBuf),
}

/// How an engine is built.
#[derive(Clone, Debug, Default)]
pub struct BuildOptions {
    /// One list of ranges per profile; none takes the ranges of the model.
    pub profiles: Vec<Vec<DimSpec>>,
    pub device: Device,
    /// Threads of the engine; 0 takes all that the process may use.
    pub threads: usize,
    /// Leaves out the engine's fusions (for finding faults).
    pub no_fusion: bool,
    /// How kernels are chosen of which only a measurement tells the quickest.
    pub tuning: Tuning,
    /// The least exact arithmetic allowed. A CPU without a unit for it computes more exactly; [`BuildReport::notes`] says so.
    pub precision: Precision,
    /// Leaves kernels of installed libraries out, so that the engine needs a GPU's driver alone.
    pub self_contained: bool,
    /// Rules of the engine that stay off, and further ones.
    pub passes: oxrt_passes::Options,
    /// Inputs in the model's order on which values are looked for that half precision does not hold, before an engine in it is
    /// built; those, and products of them, stay in single precision, and [`BuildReport::notes`] names them.
    pub overflow_samples: Option<Vec<Tensor>>,
}

/// Values whose elements leave half precision, with the largest magnitude, when a prepared model runs on the CPU in single
/// precision; and the largest magnitude of all. Infinite elements are not counted: single precision does not hold them either.
fn overflows(model: &oxrt_ir::Model, samples: &[Tensor], threads: usize) -> Result<(Vec<(String, f32)>, f32)> {
    if samples.len() != model.graph.inputs.len() {
        bail!(invalid, "{} sample inputs for {} inputs", samples.len(), model.graph.inputs.len());
    }
    let backend = Device::Cpu.backend(None, threads, Precision::F32, false)?;
    let options = oxrt_build::BuildOptions { no_fusion: true, ..oxrt_build::BuildOptions::default() };
    let (plan, _) = oxrt_build::build(model, &*backend, &options, None, &mut |_, _, _| {})?;
    let engine = Engine::new(plan, backend)?;
    let (mut found, mut largest) = (Vec::new(), 0f32);
    let mut look = |name: &str, t: &Tensor| {
        if t.dtype() == DType::F32 {
            let finite = t.as_slice::<f32>().iter().map(|x| x.abs()).filter(|x| x.is_finite());
            let most = finite.fold(0.0, f32::max);
            largest = largest.max(most);
            if most > oxrt_build::LARGEST_F16 {
                found.push((name.to_string(), most));
            }
        }
    };
    let g = &engine.plan().graph;
    for (&v, t) in g.inputs.iter().zip(samples) {
        look(&g[v].name, t);
    }
    let inputs = samples.iter().cloned().map(oxrt_ops::Datum::from).collect();
    engine.run_watched(inputs, &mut |_, v, datum| {
        if let oxrt_ops::Datum::Tensor(t) = datum {
            look(&g[v].name, t);
        }
        Ok(crate::Seen::Keep)
    })?;
    Ok((found, largest))
}

fn read_darknet(cfg: &Path, options: &ExportOptions) -> Result<oxrt_ir::Model> {
    let input = match &options.inputs[..] {
        [] => None,
        [one] => {
            let ty = one.strip_prefix("images=").ok_or_else(|| {
                Error::invalid(format!("`{one}` is not for the input `images`, the only one of a Darknet network"))
                    .help("write `--input images=f32[batch,3,height,width]`")
            })?;
            Some(ty.parse()?)
        }
        _ => bail!(invalid, "a Darknet network has one input, `images`"),
    };
    let weights = options.weights.clone().unwrap_or_else(|| cfg.with_extension("weights"));
    if !weights.exists() {
        return Err(Error::invalid(format!("there is no `{}`", weights.display()))
            .at(cfg.display().to_string())
            .help("name the file with the network's numbers: `--weights FILE.weights`"));
    }
    let options = oxrt_darknet::ImportOptions { input, decode: options.decode, nms: options.nms };
    oxrt_darknet::import(cfg, &weights, &options)
}

impl Model {
    /// Opens a `.pt2` or `.onnx` file, whichever it is.
    ///
    /// # Errors
    /// Damaged files, unsupported operators (all of them at once).
    pub fn open(path: impl AsRef<Path>) -> Result<Model> {
        Model::open_with(path, &ExportOptions::default())
    }

    /// The same with names and ranges that the user chooses.
    pub fn open_with(path: impl AsRef<Path>, options: &ExportOptions) -> Result<Model> {
        let mut model = Model::read(path.as_ref(), options)?;
        if options.no_checks {
            oxrt_passes::drop_assertions(&mut model.ir.graph);
            model.ir.metadata.remove(oxrt_ir::CONDITIONS);
        }
        for file in &options.functions {
            if oxrt_onnx::inline_functions(&mut model.ir, file)? == 0 {
                model.warnings.push(format!("the model calls none of the functions of {}", file.display()));
            }
        }
        // What a function defines now needs no more words.
        model.warnings.retain(|w| {
            let named = w.strip_prefix('`').and_then(|w| w.split('`').next());
            !named.is_some_and(|n| {
                oxrt_ops::registry::is_custom(n) && model.ir.graph.nodes().all(|(_, node)| *node.op != *n)
            })
        });
        Ok(model)
    }

    fn read(path: &Path, options: &ExportOptions) -> Result<Model> {
        let dims =
            options.dims.iter().flat_map(|d| d.split(',')).map(str::parse).collect::<Result<Vec<DimOption>>>()?;
        match file_kind(path)? {
            Kind::Pt2 => {
                let (input_names, output_names) = (options.input_names.clone(), options.output_names.clone());
                let inputs = options.inputs.clone();
                let imported = oxrt_torch::import(path, &ImportOptions { input_names, output_names, dims, inputs })?;
                Ok(Model {
                    ir: imported.model,
                    path: path.to_path_buf(),
                    samples: imported.samples,
                    warnings: imported.warnings,
                })
            }
            Kind::Darknet => {
                let ir = read_darknet(path, options)?;
                let mut model = Model { ir, path: path.to_path_buf(), samples: Vec::new(), warnings: Vec::new() };
                model.rename(options)?;
                model.set_dims(&dims)?;
                Ok(model)
            }
            Kind::Onnx => {
                let ir = oxrt_onnx::read_file(path)?;
                let warnings = ir.metadata.get(oxrt_onnx::CAUTION_KEY).cloned().into_iter().collect();
                let mut model = Model { ir, path: path.to_path_buf(), samples: Vec::new(), warnings };
                model.rename(options)?;
                model.set_dims(&dims)?;
                Ok(model)
            }
            Kind::Engine => Err(Error::invalid("this is an engine; it holds no graph that can be exported or built")
                .at(path.display().to_string())
                .help("give the .pt2 or .onnx file that the engine was built from")),
        }
    }

    /// Wraps a graph made by other means.
    pub fn from_ir(ir: oxrt_ir::Model) -> Model {
        Model { ir, path: PathBuf::new(), samples: Vec::new(), warnings: Vec::new() }
    }

    pub fn ir(&self) -> &oxrt_ir::Model {
        &self.ir
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Makes simplified graphs and engines remember whose work each of their nodes does: that of which nodes of this model.
    /// Building does so by itself for the graph that it is given.
    pub fn track_origins(&mut self) {
        self.ir.graph.seed_origins();
    }

    /// Inputs that came with the file, in order; empty when there were none.
    pub fn samples(&self) -> &[Tensor] {
        &self.samples
    }

    /// The part that computes the values `to` (none: the outputs) from the values `from` (none: the inputs), by name.
    ///
    /// # Errors
    /// Names that no value has, with similar ones; parts that start at a constant.
    pub fn extracted(&self, from: &[String], to: &[String]) -> Result<Model> {
        let g = &self.ir.graph;
        let find = |name: &String| {
            g.find_value(name).ok_or_else(|| {
                let like = |v: &oxrt_ir::ValueId| {
                    !name.is_empty() && g[*v].name.contains(name.as_str()) && !g[*v].is_constant()
                };
                let names: Vec<&str> = g.value_ids().filter(like).take(5).map(|v| g[v].name.as_str()).collect();
                let hint = if names.is_empty() {
                    "`oxrt inspect --nodes` lists them".to_string()
                } else {
                    format!("did you mean {}?", names.join(", "))
                };
                Error::invalid(format!("the model has no value `{name}`")).help(hint)
            })
        };
        let from = from.iter().map(find).collect::<Result<Vec<_>>>()?;
        let to = to.iter().map(find).collect::<Result<Vec<_>>>()?;
        let graph = g.extracted(&from, if to.is_empty() { &g.outputs } else { &to })?;
        let samples =
            if graph.inputs.len() == g.inputs.len() && from.is_empty() { self.samples.clone() } else { Vec::new() };
        let mut ir = oxrt_ir::Model { graph, ..self.ir.clone() };
        oxrt_ops::infer::infer_model(&mut ir)?;
        Ok(Model { ir, path: self.path.clone(), samples, warnings: Vec::new() })
    }

    /// Gives inputs and outputs the names of the options.
    ///
    /// # Errors
    /// Names that are not there, or taken.
    pub fn rename(&mut self, options: &ExportOptions) -> Result<()> {
        let g = &mut self.ir.graph;
        for (names, ids, what) in
            [(&options.input_names, g.inputs.clone(), "input"), (&options.output_names, g.outputs.clone(), "output")]
        {
            let mut next = 0;
            for spec in names {
                let (v, name) = match spec.split_once('=') {
                    Some((old, new)) => {
                        let found = ids.iter().copied().find(|&v| g[v].name == old);
                        let have = || ids.iter().map(|&v| g[v].name.as_str()).collect::<Vec<_>>().join(", ");
                        let v = found.ok_or_else(|| {
                            Error::invalid(format!("there is no {what} `{old}`; there are {}", have()))
                        })?;
                        (v, new)
                    }
                    None => {
                        let Some(&v) = ids.get(next) else {
                            bail!(
                                invalid,
                                "{} {what} names are given, the model has {} {what}s",
                                names.len(),
                                ids.len()
                            );
                        };
                        next += 1;
                        (v, spec.as_str())
                    }
                };
                if name.is_empty() || g.find_value(name).is_some_and(|other| other != v) {
                    bail!(invalid, "the {what} name `{name}` is empty or taken");
                }
                g[v].name = name.to_string();
            }
        }
        Ok(())
    }

    /// Names and ranges of the dimensions of an ONNX model.
    fn set_dims(&mut self, dims: &[DimOption]) -> Result<()> {
        for spec in dims {
            let symbol = self.find_dim(&spec.dim)?;
            let known = self.ir.symbols.get(&symbol).unwrap_or_default();
            // A file that states no range leaves size 0 out by default, not by need.
            if let Some(r) = spec.range
                && known != oxrt_ir::Range::default()
                && (r.min < known.min || known.max.is_some_and(|m| r.max.is_none_or(|x| x > m)))
            {
                bail!(invalid, "`{symbol}` = {r} leaves the range {known} that the model was exported for");
            }
            let range = spec.range.unwrap_or(known);
            let name = spec.name.as_deref().unwrap_or(symbol.as_str());
            if range.max == Some(range.min) {
                oxrt_passes::substitute_symbols(&mut self.ir, &|s| (*s == symbol).then_some(Dim::Const(range.min)))?;
                continue;
            }
            let new = Symbol::new(name);
            if new != symbol {
                if self.ir.symbols.get(&new).is_some() {
                    bail!(invalid, "the model has a dimension `{name}` already");
                }
                oxrt_passes::substitute_symbols(&mut self.ir, &|s| (*s == symbol).then(|| new.clone().into()))?;
            }
            self.ir.symbols.declare(new, range);
        }
        Ok(())
    }

    /// A dimension by its name, or by its place `input:axis`.
    fn find_dim(&self, text: &str) -> Result<Symbol> {
        let symbol = Symbol::new(text);
        if self.ir.symbols.get(&symbol).is_some() {
            return Ok(symbol);
        }
        let place = text.rsplit_once(':').and_then(|(input, axis)| {
            let v = self.ir.graph.input_named(input).ok()?;
            self.ir.graph.dims(v)?.get(axis.parse::<usize>().ok()?)
        });
        if let Some(symbol) = place.and_then(Dim::as_symbol) {
            return Ok(symbol.clone());
        }
        let names: Vec<String> = self.ir.symbols.iter().map(|(s, r)| format!("{s} ({r})")).collect();
        let names = if names.is_empty() { "none: every size is fixed".to_string() } else { names.join(", ") };
        Err(Error::invalid(format!("the model has no dynamic dimension `{text}`; it has {names}"))
            .help("export again with that dimension in `dynamic_shapes=`"))
    }

    /// Writes the model as ONNX.
    pub fn save_onnx(&self, path: impl AsRef<Path>, options: &WriteOptions) -> Result<WriteReport> {
        oxrt_onnx::write_file(&self.ir, path.as_ref(), options)
    }

    /// Simplifies to fewer standard operators, and compares the result with the original at several sizes.
    ///
    /// # Errors
    /// When the simplified graph gives other numbers (which is a bug, and is caught here).
    pub fn simplify(&self, options: &SimplifyOptions) -> Result<(Model, SimplifyReport)> {
        options.passes.check_names()?;
        let mut simple = self.clone();
        let nodes_before = simple.ir.graph.count_nodes();
        let log = oxrt_passes::simplify(&mut simple.ir, &options.passes)?;
        let mut checks = Vec::new();
        // Without a step it is the same graph.
        if !options.no_check && !log.steps.is_empty() {
            checks = verify::verify_rewrites(
                &simple,
                self,
                &verify::VerifyOptions { samples: self.samples.clone(), ..Default::default() },
            )?;
            if let Some(bad) = checks.iter().find(|c| !c.passed) {
                return Err(Error::bug(format!(
                    "the simplified graph differs from the original at {}",
                    bad.describe()
                ))
                .help("`--disable-rule NAME` leaves a rule out; `--stop-at N` finds the one that does it"));
            }
        }
        let report = SimplifyReport {
            nodes_before,
            nodes_after: simple.ir.graph.count_nodes(),
            rules: log.counts(),
            kept: oxrt_passes::unfolded(&simple.ir.graph, options.passes.fold_limit),
            steps: log.steps,
            checks,
        };
        Ok((simple, report))
    }

    /// Sizes of the dimensions in the sample inputs.
    fn sample_sizes(&self) -> BTreeMap<Symbol, i64> {
        let g = &self.ir.graph;
        let mut sizes = BTreeMap::new();
        for (&v, t) in g.inputs.iter().zip(&self.samples) {
            for (d, &size) in g.dims(v).unwrap_or_default().iter().zip(t.shape()) {
                if let Some(s) = d.as_symbol() {
                    sizes.entry(s.clone()).or_insert(size as i64);
                }
            }
        }
        sizes
    }

    /// Builds an engine in memory.
    pub fn build(&self, options: &BuildOptions) -> Result<Engine> {
        self.build_with(options, &mut |_, _, _| {}).map(|(engine, _)| engine)
    }

    /// The same, reporting progress as (stage, done, total).
    pub fn build_with(
        &self,
        options: &BuildOptions,
        progress: &mut dyn FnMut(&str, usize, usize),
    ) -> Result<(Engine, BuildReport)> {
        let backend = options.device.backend(None, options.threads, options.precision, options.self_contained)?;
        self.build_on(backend, options, progress)
    }

    /// The same on a backend of the caller's own, in place of the device of the options.
    pub fn build_on(
        &self,
        backend: Arc<dyn Backend>,
        options: &BuildOptions,
        progress: &mut dyn FnMut(&str, usize, usize),
    ) -> Result<(Engine, BuildReport)> {
        options.passes.check_names()?;
        let mut build = oxrt_build::BuildOptions {
            profiles: options.profiles.clone(),
            usual_sizes: self.sample_sizes(),
            no_fusion: options.no_fusion,
            precision: options.precision,
            passes: options.passes.clone(),
            wide: BTreeSet::new(),
        };
        let mut record = match &options.tuning {
            Tuning::Estimate => None,
            Tuning::Measure => Some(TuningRecord::default()),
            Tuning::Record(path) => Some(TuningRecord::read(path)?),
        };
        let before = record.clone();
        let prepared = oxrt_build::prepare(&self.ir, &*backend, &build, progress)?;
        let mut found = Vec::new();
        let mut remarks = Vec::new();
        if options.overflow_samples.is_some() && options.precision != Precision::F16 {
            remarks.push("overflows are looked for where `--precision fp16` is asked for".to_string());
        }
        if let (Some(samples), Precision::F16) = (&options.overflow_samples, options.precision) {
            progress("looking for overflows", 0, 1);
            let largest;
            (found, largest) = overflows(&prepared.model, samples, options.threads).at(|| "looking for overflows")?;
            if found.is_empty() {
                remarks.push(format!("half precision holds every value on the samples; the largest is {largest:.3e}"));
            }
            build.wide = found.iter().map(|(name, _)| name.clone()).collect();
        }
        let (plan, mut report) = oxrt_build::finish(prepared, &*backend, &build, record.as_mut(), progress)?;
        report.notes.extend(remarks);
        report.notes.extend(found.iter().map(|(name, most)| {
            format!("`{name}` reaches {most:.3e}, more than half precision holds: it and products of it stay in single precision")
        }));
        if let Tuning::Record(path) = &options.tuning
            && let Some(record) = &record
            && (before.as_ref() != Some(record) || !path.exists())
        {
            record.write(path)?;
        }
        if options.precision == Precision::Bf16 && (options.device, CpuBackend::bf16_unit()) == (Device::Cpu, None) {
            report
                .notes
                .push("this CPU has no unit for bfloat16 (AVX512-BF16 or AMX): products stay in fp32".to_string());
        }
        Ok((Engine::new(plan, backend)?, report))
    }
}
