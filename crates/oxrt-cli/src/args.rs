//! Options that several commands share.

use clap::Args;
use oxrt::{
    BuildOptions, Device, DimSpec, Engine, Error, ExportOptions, FileKind, Model, Port, Result, SimplifyOptions,
    Tensor, Tuning, passes,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

/// Names and sizes chosen at import.
#[derive(Args, Clone, Debug, Default)]
pub struct ImportArgs {
    /// Name of an input: NEW in order of the inputs, or OLD=NEW
    #[arg(long = "input-name", value_name = "NAME")]
    pub input_names: Vec<String>,
    /// Name of an output: NEW in order of the outputs, or OLD=NEW
    #[arg(long = "output-name", value_name = "NAME")]
    pub output_names: Vec<String>,
    /// Type and sizes of an input of a TorchScript or Darknet file: x=f32[batch,3,224,224]
    #[arg(long = "input", value_name = "NAME=TYPE[DIMS]")]
    pub inputs: Vec<String>,
    /// The .weights file of a Darknet .cfg; by default that beside it with its name
    #[arg(long, value_name = "FILE")]
    pub weights: Option<PathBuf>,
    /// Boxes and scores out of a Darknet network's detection layers
    #[arg(long)]
    pub decode: bool,
    /// Suppression after decoding: IOU[:SCORE[:MAX_PER_CLASS]]
    #[arg(long, value_name = "IOU:SCORE:MAX")]
    pub nms: Option<oxrt::darknet::Suppression>,
    /// An ONNX file with functions that give custom operators their meaning
    #[arg(long = "functions", value_name = "ONNX")]
    pub functions: Vec<PathBuf>,
}

impl ImportArgs {
    /// The same for the library, with `--dim` options.
    pub fn options(self, dims: Vec<String>, no_checks: bool) -> ExportOptions {
        let ImportArgs { input_names, output_names, inputs, weights, decode, nms, functions } = self;
        ExportOptions { input_names, output_names, dims, inputs, weights, decode, nms, functions, no_checks }
    }
}

/// How an engine is built, for commands that may build one in memory.
#[derive(Args, Clone, Debug, Default)]
pub struct BuildArgs {
    /// Range of a dimension: NAME=MIN:OPT:MAX, NAME=MIN..MAX or NAME=SIZE. `--profile` starts another set of ranges
    #[arg(long = "dim", value_name = "DIM")]
    pub dims: Vec<String>,
    /// A further profile: ranges separated by commas, as `batch=1:1:1,seq=1:64:128`
    #[arg(long = "profile", value_name = "DIMS")]
    pub profiles: Vec<String>,
    /// Where the engine runs: cpu, cuda (or cuda:1 …), reference
    #[arg(long, default_value = "cpu", value_name = "DEVICE")]
    pub device: String,
    /// Least exact arithmetic allowed: fp32, bf16, or tf32 or fp16 on CUDA devices (operands of products and tensors between steps are
    /// of that type, sums in fp32)
    #[arg(long, default_value = "fp32", value_name = "PRECISION")]
    pub precision: String,
    /// Looks for values that fp16 does not hold, on the sample inputs of a .pt2 or those of `--sample`, and keeps them and products
    /// of them in fp32
    #[arg(long)]
    pub find_overflow: bool,
    /// An input for `--find-overflow` (picture, .npy, .npz), once for each
    #[arg(long = "sample", value_name = "NAME=FILE", requires = "find_overflow")]
    pub samples: Vec<String>,
    /// Leaves kernels of installed libraries (cuBLASLt, cuDNN) out: the engine needs the GPU's driver alone
    #[arg(long)]
    pub self_contained: bool,
    /// Threads; 0 takes all that the process may use
    #[arg(long, default_value_t = 0)]
    pub threads: usize,
    /// Times the kernels that only a measurement tells apart (`oxrt build` and `oxrt bench` do it anyway)
    #[arg(long, conflicts_with = "no_tune")]
    pub tune: bool,
    /// Chooses kernels by an estimate and not by timing them
    #[arg(long)]
    pub no_tune: bool,
    /// File that keeps the times: a build with it measures only what it lacks, and repeats an engine byte for byte
    #[arg(long, value_name = "FILE", conflicts_with = "no_tune", visible_alias = "timingCacheFile")]
    pub tuning: Option<PathBuf>,
    /// Leaves the graph as it is: no simplification
    #[arg(long)]
    pub no_simplify: bool,
    /// Leaves out the engine's fusions (to find faults)
    #[arg(long)]
    pub no_fusion: bool,
    /// Leaves out a rule of simplification or of the engine (an unknown name lists them)
    #[arg(long = "disable-rule", value_name = "RULE")]
    pub disabled: Vec<String>,
    /// Leaves out the model's own assertions and the conditions on sizes under which it was exported
    #[arg(long)]
    pub no_checks: bool,
    /// trtexec spelling: least input shapes, as `x:1x3x32x32,y:1x8`
    #[arg(long = "minShapes", value_name = "SHAPES", hide_short_help = true)]
    pub min_shapes: Option<String>,
    /// trtexec spelling: input shapes to tune for
    #[arg(long = "optShapes", value_name = "SHAPES", hide_short_help = true)]
    pub opt_shapes: Option<String>,
    /// trtexec spelling: greatest input shapes
    #[arg(long = "maxShapes", value_name = "SHAPES", hide_short_help = true)]
    pub max_shapes: Option<String>,
    /// trtexec spelling: bound on scratch memory of kernels in MiB, as `workspace:512`
    #[arg(long = "memPoolSize", value_name = "POOL", hide_short_help = true)]
    pub mem_pool_size: Option<String>,
}

pub fn parse_dims(list: &[String]) -> Result<Vec<DimSpec>> {
    list.iter().flat_map(|s| s.split(',')).map(str::parse).collect()
}

impl BuildArgs {
    /// The same, for commands whose users wait for the engine once and run it often: timed unless told otherwise.
    pub fn tuned(&self) -> BuildArgs {
        BuildArgs { tune: !self.no_tune, ..self.clone() }
    }

    /// Which rules stay off.
    pub fn passes(&self) -> passes::Options {
        passes::Options { disabled: self.disabled.clone(), ..passes::Options::default() }
    }

    /// The model as the engine's builder wants it: simplified, unless told otherwise. It is not compared with the original:
    /// that is done where it is asked for (`convert`, `verify`).
    pub fn simplified(&self, model: Model) -> Result<Model> {
        match self.no_simplify {
            true => Ok(model),
            false => Ok(model.simplify(&SimplifyOptions { no_check: true, passes: self.passes() })?.0),
        }
    }

    pub fn options(&self, model: &Model) -> Result<BuildOptions> {
        let device: Device = self.device.parse()?;
        let mut profiles = Vec::new();
        let mut first = parse_dims(&self.dims)?;
        first.extend(self.trtexec_dims(model)?);
        if !first.is_empty() {
            profiles.push(first);
        }
        for p in &self.profiles {
            profiles.push(parse_dims(std::slice::from_ref(p))?);
        }
        if let Some(pool) = &self.mem_pool_size {
            let number = pool.strip_prefix("workspace:").map(|n| n.trim_end_matches(['M', 'G', 'K', 'B', 'i']));
            if number.is_none_or(|n| n.parse::<f64>().is_err()) {
                return Err(Error::invalid(format!("`--memPoolSize={pool}` is not understood"))
                    .help("write `--memPoolSize=workspace:512`"));
            }
        }
        let tuning = match &self.tuning {
            Some(path) => Tuning::Record(path.clone()),
            None if self.tune => Tuning::Measure,
            None => Tuning::Estimate,
        };
        Ok(BuildOptions {
            tuning,
            profiles,
            device,
            threads: self.threads,
            no_fusion: self.no_fusion,
            precision: self.precision.parse()?,
            self_contained: self.self_contained,
            passes: self.passes(),
            overflow_samples: if self.find_overflow { Some(self.overflow_samples(model)?) } else { None },
        })
    }

    /// Inputs on which values are looked for that half precision does not hold.
    fn overflow_samples(&self, model: &Model) -> Result<Vec<Tensor>> {
        let g = &model.ir().graph;
        if self.samples.is_empty() && model.samples().len() == g.inputs.len() {
            return Ok(model.samples().to_vec());
        }
        let mut given = BTreeMap::new();
        for spec in &self.samples {
            let (name, file) = spec.split_once('=').ok_or_else(|| {
                Error::invalid(format!("`{spec}` is not NAME=FILE")).help("write `--sample x=picture.png`")
            })?;
            given.insert(g.input_named(name)?, file);
        }
        (g.inputs.iter())
            .map(|v| {
                let port = Port { name: g[*v].name.clone(), ty: g[*v].ty.clone() };
                let file = given.get(v).ok_or_else(|| {
                    Error::invalid(format!("`--find-overflow` needs a sample of the input `{}`", port.name))
                        .help("the file has none of its own: add `--sample NAME=FILE`")
                })?;
                oxrt::input::convert(oxrt::input::load(&port, file)?, &port)
            })
            .collect()
    }

    /// Ranges of symbols from shapes per tensor, as trtexec takes them.
    fn trtexec_dims(&self, model: &Model) -> Result<Vec<DimSpec>> {
        let parse = |text: &Option<String>| -> Result<Vec<(String, Vec<i64>)>> {
            let Some(text) = text else { return Ok(Vec::new()) };
            text.split(',')
                .map(|part| {
                    let bad = || {
                        Error::invalid(format!("`{part}` is not NAME:DIMxDIM…")).help("write `--minShapes=x:1x3x32x32`")
                    };
                    let (name, dims) = part.rsplit_once(':').ok_or_else(bad)?;
                    let dims = dims.split('x').map(|d| d.trim().parse().map_err(|_| bad())).collect::<Result<_>>()?;
                    Ok((name.trim_matches('\'').to_string(), dims))
                })
                .collect()
        };
        let (min, opt, max) = (parse(&self.min_shapes)?, parse(&self.opt_shapes)?, parse(&self.max_shapes)?);
        // As trtexec: what is not given follows from what is.
        let pick = |lists: [&[(String, Vec<i64>)]; 3], name: &str, axis: usize| {
            lists.iter().find_map(|l| l.iter().find(|(n, _)| n == name)).and_then(|(_, d)| d.get(axis).copied())
        };
        let g = &model.ir().graph;
        let mut out: Vec<DimSpec> = Vec::new();
        for name in min.iter().chain(&opt).chain(&max).map(|x| &x.0) {
            let v = g.input_named(name)?;
            for (axis, d) in g.dims(v).unwrap_or_default().iter().enumerate() {
                let values = [
                    pick([&min, &opt, &max], name, axis),
                    pick([&opt, &max, &min], name, axis),
                    pick([&max, &opt, &min], name, axis),
                ];
                let [Some(lo), Some(mid), Some(hi)] = values else {
                    return Err(Error::invalid(format!(
                        "input `{name}` has rank {}, the shapes given are shorter",
                        g.dims(v).map_or(0, <[_]>::len)
                    )));
                };
                match (d.as_const(), d.as_symbol()) {
                    (Some(c), _) if lo != c || hi != c => {
                        return Err(Error::invalid(format!(
                            "axis {axis} of `{name}` is fixed to {c} in the model; {lo} to {hi} were asked for"
                        ))
                        .help("export the model again with that dimension dynamic"));
                    }
                    (None, Some(s)) if !out.iter().any(|o| o.name == s.as_str()) => {
                        out.push(format!("{s}={lo}:{mid}:{hi}").parse()?);
                    }
                    _ => {}
                }
            }
        }
        Ok(out)
    }

    /// An engine from any stage's file: loaded, or built in memory.
    pub fn engine(&self, path: &Path, progress: &crate::ui::Progress) -> Result<Engine> {
        self.engine_at(path, Vec::new(), progress)
    }

    /// The same with sizes that hold from the import on: `NAME=SIZE`.
    pub fn engine_at(&self, path: &Path, dims: Vec<String>, progress: &crate::ui::Progress) -> Result<Engine> {
        if oxrt::file_kind(path)? == FileKind::Engine {
            if !self.dims.is_empty() || !self.profiles.is_empty() {
                return Err(
                    Error::invalid("the ranges of an engine are fixed").help("build it again with these `--dim`")
                );
            }
            return Engine::open_with(path, self.threads);
        }
        progress.stage(format!("reading {}", path.display()));
        let mut model =
            Model::open_with(path, &ExportOptions { dims, no_checks: self.no_checks, ..ExportOptions::default() })?;
        for w in &model.warnings {
            crate::ui::warn(w);
        }
        model.track_origins();
        if !self.no_simplify {
            progress.stage("simplifying");
        }
        let model = self.simplified(model)?;
        let options = self.options(&model)?;
        Ok(model.build_with(&options, &mut progress.callback())?.0)
    }
}

/// `-o FILE`, or the input's name with another extension.
pub fn output_path(given: &Option<PathBuf>, input: &Path, extension: &str) -> PathBuf {
    given.clone().unwrap_or_else(|| input.with_extension(extension))
}
