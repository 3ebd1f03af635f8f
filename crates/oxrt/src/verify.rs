//! Runs a model and its source on the same inputs, at several sizes of each dynamic dimension.

use crate::engine::{Device, Engine};
use crate::model::{BuildOptions, Model};
use oxrt_backend::Precision;
use oxrt_ir::{Dim, Symbol, ValueType};
use oxrt_tensor::{Context, DType, Result, Tensor, TensorView, bail, num_elements};
use serde::Serialize;
use std::collections::BTreeMap;

pub use oxrt_verify::{Comparison, compare as compare_tensors};

#[derive(Clone, Debug)]
pub struct VerifyOptions {
    pub rtol: f64,
    pub atol: f64,
    /// Largest relative L2 error of float outputs of an engine of lower precision ([`Engine::precision`]), which is not held
    /// to `rtol` and `atol`.
    pub rel_l2: f64,
    /// Where elements are outside of `rtol` and `atol`: largest difference, as a part of the largest number of the output, that still
    /// passes. 0 passes none.
    pub of_largest: f64,
    /// Inputs for the first comparison, in order; random ones when empty.
    pub samples: Vec<Tensor>,
    pub seed: u64,
    /// Device of the model under test; the source always runs by the reference evaluator.
    pub device: Device,
    pub threads: usize,
    /// Sizes that the source itself refuses (two dimensions of one length, each with a name of its own) are passed over while
    /// it takes others.
    pub source_may_refuse: bool,
    /// Most elements that an input may have for the comparisons at chosen sizes: the reference evaluator is slow.
    pub element_limit: usize,
}

impl Default for VerifyOptions {
    fn default() -> VerifyOptions {
        VerifyOptions {
            rtol: 1e-3,
            atol: 1e-4,
            rel_l2: 2e-2,
            of_largest: 0.0,
            samples: Vec::new(),
            seed: 0,
            device: Device::Cpu,
            threads: 0,
            source_may_refuse: true,
            element_limit: 1 << 18,
        }
    }
}

/// One comparison: the sizes it was made at, and each output.
#[derive(Clone, Debug, Serialize)]
pub struct VerifyCase {
    pub sizes: BTreeMap<String, i64>,
    pub outputs: Vec<Comparison>,
    pub passed: bool,
    /// Why nothing was compared: the source itself refuses these sizes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub refused: Option<String>,
}

/// Sets of sizes at which something was compared.
pub fn compared(cases: &[VerifyCase]) -> usize {
    cases.iter().filter(|c| c.refused.is_none()).count()
}

impl VerifyCase {
    /// `batch=3: output max abs 0.5 at [7]`, for messages.
    pub fn describe(&self) -> String {
        let sizes: Vec<String> = self.sizes.iter().map(|(s, v)| format!("{s}={v}")).collect();
        let sizes = if sizes.is_empty() { "the only size".to_string() } else { sizes.join(", ") };
        match self.outputs.iter().find(|c| !c.passed) {
            Some(c) => match &c.mismatch {
                Some(m) => format!("{sizes}: output `{}` {m}", c.name),
                None => format!(
                    "{sizes}: output `{}` max abs {:.3e}, {} elements outside the tolerance",
                    c.name, c.max_abs, c.outside
                ),
            },
            None => sizes,
        }
    }
}

/// Sets of sizes to compare at: all dimensions small and prime, each one alone at its least, its greatest
/// (when that is small enough to run), and one other.
pub fn sizes_to_try(model: &Model) -> Vec<BTreeMap<Symbol, i64>> {
    let broken = |set: &BTreeMap<Symbol, i64>| {
        oxrt_ir::broken_conditions(model.ir(), &|name| set.get(&Symbol::new(name)).copied()).len()
    };
    let symbols: Vec<(Symbol, i64, i64)> =
        model.ir().symbols.iter().map(|(s, r)| (s.clone(), r.min, r.max.unwrap_or(i64::MAX))).collect();
    // Image-like sizes need room for strides and windows; others are small.
    let base_of = |s: &str| {
        if s.contains("height") || s.contains("width") {
            37
        } else if s.contains("batch") {
            2
        } else {
            7
        }
    };
    let mut base: BTreeMap<Symbol, i64> =
        symbols.iter().map(|(s, lo, hi)| (s.clone(), base_of(s.as_str()).clamp(*lo, *hi))).collect();
    // Conditions such as `height % 32 == 0`: the next sizes that meet as many as possible.
    for (s, _, hi) in &symbols {
        let at = |size: i64| {
            let mut set = base.clone();
            set.insert(s.clone(), size);
            set
        };
        let sizes = (base[s]..=base[s].saturating_add(64).min(*hi)).map(at);
        if let Some(best) = sizes.min_by_key(|set| broken(set)).filter(|best| broken(best) < broken(&base)) {
            base = best;
        }
    }
    let mut sets = vec![base.clone()];
    for (s, lo, hi) in &symbols {
        // Small prime numbers both, where the dimension allows.
        let other = if base[s] == 2 { 3 } else { base[s] + 4 };
        for size in [(*lo).max(1), *hi, other] {
            let mut set = base.clone();
            if size <= *hi && size <= 256 {
                set.insert(s.clone(), size);
                if !sets.contains(&set) && broken(&set) <= broken(&base) {
                    sets.push(set);
                }
            }
        }
    }
    sets
}

/// Random inputs for given sizes: floats from a normal distribution, integers below a small bound, bools.
///
/// # Errors
/// When a shape depends on an unknown symbol.
pub fn random_inputs(model: &Model, sizes: &BTreeMap<Symbol, i64>, seed: u64) -> Result<Vec<Tensor>> {
    let g = &model.ir().graph;
    let mut rng = Random::new(seed);
    g.inputs
        .iter()
        .map(|&v| {
            let shape = shape_for(&g[v].ty, sizes).at(|| format!("input `{}`", g[v].name))?;
            random_tensor(g[v].ty.dtype().unwrap_or(DType::F32), &shape, &mut rng)
        })
        .collect()
}

fn shape_for(ty: &ValueType, sizes: &BTreeMap<Symbol, i64>) -> Result<Vec<usize>> {
    let Some(dims) = ty.dims() else { bail!(unsupported, "its rank is unknown, so no data can be made for it") };
    let size = |d: &Dim| d.eval(&|s| sizes.get(s).copied()).and_then(|x| usize::try_from(x).ok());
    match dims.iter().map(size).collect() {
        Some(shape) => Ok(shape),
        None => bail!(invalid, "no sizes for {ty}"),
    }
}

/// A small generator (xorshift64*), so that inputs are the same everywhere.
struct Random(u64);

impl Random {
    fn new(seed: u64) -> Random {
        Random(seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1)
    }

    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn uniform(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Sum of twelve uniforms: close to normal, and bounded.
    fn normal(&mut self) -> f64 {
        (0..12).map(|_| self.uniform()).sum::<f64>() - 6.0
    }
}

fn random_tensor(dtype: DType, shape: &[usize], rng: &mut Random) -> Result<Tensor> {
    let n = num_elements(shape)?;
    if dtype == DType::String {
        return Tensor::from_strings(shape, (0..n).map(|i| format!("s{i}")).collect());
    }
    let mut value = || match dtype {
        d if d.is_float() => rng.normal(),
        DType::Bool => (rng.uniform() < 0.5) as u8 as f64,
        // Indices into vocabularies and the like stay small and valid.
        _ => (rng.uniform() * 2.0).floor(),
    };
    let values: Vec<f64> = (0..n).map(|_| value()).collect();
    Tensor::from_f64(dtype, shape, &values)
}

/// Compares `model`, built for the chosen device, with `source` on the samples and at [`sizes_to_try`].
///
/// # Errors
/// When either cannot run at all.
pub fn verify_model(model: &Model, source: &Model, options: &VerifyOptions) -> Result<Vec<VerifyCase>> {
    let (model, source) = (&without_checks(model), &without_checks(source));
    let build = BuildOptions { device: options.device, threads: options.threads, ..BuildOptions::default() };
    verify_engine(&model.build(&build)?, source, options)
}

/// Random inputs may break the model's assertions, which says nothing of its numbers.
fn without_checks(m: &Model) -> Model {
    let mut m = m.clone();
    oxrt_passes::drop_assertions(&mut m.ir.graph);
    m
}

/// Largest difference of a rewritten graph, as a part of the largest number of an output.
const REWRITTEN: f64 = 3e-4;

/// Nodes that draw at random draw the same in a graph and in what was made of it: by the name of what they give.
fn seed_draws(m: &mut Model) {
    let g = &mut m.ir.graph;
    for id in g.node_ids() {
        let draws = oxrt_ops::registry::find(&g[id].op).is_some_and(|op| op.random) && &*g[id].op != "Dropout";
        let Some(v) = g[id].output(0).filter(|_| draws && !g[id].attrs.has("seed")) else { continue };
        let seed = g[v].name.bytes().fold(7u32, |sum, b| sum.wrapping_mul(31).wrapping_add(u32::from(b)));
        g[id].attrs.set("seed", (seed % 65_521) as f32);
    }
}

/// Compares a rewritten graph with `source` on the samples and at [`sizes_to_try`], node for node as both are: no fusion stands
/// between a rule and its judgement. Both run by the CPU's kernels; where those disagree, the reference evaluator runs both.
///
/// # Errors
/// When either cannot run at all.
pub fn verify_rewrites(rewritten: &Model, source: &Model, options: &VerifyOptions) -> Result<Vec<VerifyCase>> {
    let (mut rewritten, mut source) = (without_checks(rewritten), without_checks(source));
    [&mut rewritten, &mut source].into_iter().for_each(seed_draws);
    let (rewritten, source) = (&rewritten, &source);
    // Factors go into weights and are rounded there; deep networks make more of that than a few last places.
    let options = &VerifyOptions { of_largest: REWRITTEN, ..options.clone() };
    let compared_on = |device: Device| {
        let build = BuildOptions { device, threads: options.threads, no_fusion: true, ..BuildOptions::default() };
        let (tested, judge) = std::thread::scope(|s| {
            let judge = s.spawn(|| source.build(&build));
            let tested = rewritten.build(&build);
            (tested, judge.join().unwrap_or_else(|_| bail!(bug, "building the source panicked")))
        });
        compare_engines(&tested?, &judge?, source, options)
    };
    match compared_on(Device::Cpu) {
        Ok(cases) if cases.iter().all(|c| c.passed) => Ok(cases),
        _ => compared_on(Device::Reference),
    }
}

/// One output of an engine, judged as its precision asks for.
///
/// # Errors
/// Tensors without numbers.
pub fn compare_outputs(
    tested: &Engine,
    name: &str,
    got: &Tensor,
    want: &Tensor,
    options: &VerifyOptions,
) -> Result<Comparison> {
    let mut c = compare_tensors(name, got, want, options.rtol, options.atol)?;
    if tested.precision() != Precision::F32 && want.dtype().is_float() {
        c.judge_by_l2(options.rel_l2);
    }
    if !c.passed && c.mismatch.is_none() && c.non_finite == 0 && want.dtype().is_float() && options.of_largest > 0.0 {
        let largest = want.to_f64_vec()?.into_iter().filter(|x| x.is_finite()).fold(0.0, |a: f64, x| a.max(x.abs()));
        c.passed = c.max_abs <= options.of_largest * largest;
    }
    Ok(c)
}

/// Compares an engine with `source`, run by the reference evaluator, at all sizes to try that the engine takes.
pub fn verify_engine(tested: &Engine, source: &Model, options: &VerifyOptions) -> Result<Vec<VerifyCase>> {
    let judge =
        source.build(&BuildOptions { device: Device::Reference, no_fusion: true, ..BuildOptions::default() })?;
    compare_engines(tested, &judge, source, options)
}

fn compare_engines(
    tested: &Engine,
    judge: &Engine,
    source: &Model,
    options: &VerifyOptions,
) -> Result<Vec<VerifyCase>> {
    let mut cases = Vec::new();
    let small = |inputs: &[Tensor]| inputs.iter().all(|t| t.len() <= options.element_limit);
    let fits = |sizes: &BTreeMap<Symbol, i64>| {
        let profiles = &tested.plan().profiles;
        profiles.iter().any(|p| p.violation(sizes).is_none()) && fixed_sizes_agree(tested, source, sizes)
    };
    if !options.samples.is_empty() && small(&options.samples) {
        match compare_at(tested, judge, &options.samples, BTreeMap::new(), options) {
            Ok(case) => cases.push(case),
            // The sample's size may lie outside what the engine was built for.
            Err(e) if e.kind() == oxrt_tensor::Kind::Invalid => {}
            Err(e) => return Err(e),
        }
    }
    let (mut refused, mut compared) = (None, cases.len());
    let usual = sizes_to_try(source).into_iter().map(|sizes| (sizes, false));
    for (sizes, spare) in usual.chain(spare_sizes(source).into_iter().map(|sizes| (sizes, true))) {
        // Without dynamic sizes the samples said it all.
        if sizes.is_empty() && compared > 0 {
            break;
        }
        if !fits(&sizes) || spare && (refused.is_none() || compared > 1) {
            continue;
        }
        let inputs = random_inputs(source, &sizes, options.seed + 1)?;
        if !small(&inputs) && !cases.is_empty() {
            continue;
        }
        let named = sizes.iter().map(|(s, v)| (s.to_string(), *v)).collect();
        let want = match run_engine(judge, &inputs) {
            Err(e) if options.source_may_refuse && !sizes.is_empty() && e.kind() == oxrt_tensor::Kind::Invalid => {
                let said = e.to_string().lines().next().unwrap_or_default().to_string();
                cases.push(VerifyCase { sizes: named, outputs: Vec::new(), passed: true, refused: Some(said) });
                refused.get_or_insert_with(|| e.at("running the source").at(format!("sizes {sizes:?}")));
                continue;
            }
            other => other,
        };
        compared += 1;
        cases.push(compare_with(tested, want, &inputs, named, options)?);
    }
    match refused {
        Some(e) if compared == 0 => {
            return Err(e.help("state sizes that belong together: `--dim NAME=SIZE`"));
        }
        None if compared == 0 => {
            // None of the usual sizes fits: the tuned ones do.
            let inputs = inputs_for_engine(tested, &BTreeMap::new(), options.seed + 1)?;
            cases.push(compare_at(tested, judge, &inputs, BTreeMap::new(), options)?);
        }
        _ => {}
    }
    Ok(cases)
}

/// For models that refuse the usual sizes: all dimensions alike, and each alone long.
fn spare_sizes(model: &Model) -> Vec<BTreeMap<Symbol, i64>> {
    let symbols = &model.ir().symbols;
    let set = |size_of: &dyn Fn(&Symbol) -> i64| -> BTreeMap<Symbol, i64> {
        symbols.iter().map(|(s, r)| (s.clone(), size_of(s).clamp(r.min, r.max.unwrap_or(i64::MAX)))).collect()
    };
    let alike = [4, 7, 16, 32, 64].iter().map(|&size| set(&|_| size));
    let long = symbols.iter().map(|(one, _)| set(&|s| if s == one { 800 } else { 2 }));
    alike.chain(long).collect()
}

/// Whether the dimensions that the engine fixed have these sizes.
fn fixed_sizes_agree(engine: &Engine, source: &Model, sizes: &BTreeMap<Symbol, i64>) -> bool {
    let g = &source.ir().graph;
    engine.inputs().iter().zip(&g.inputs).all(|(p, &v)| {
        let (Some(have), Some(want)) = (p.ty.dims(), g.dims(v)) else { return true };
        have.iter().zip(want).all(|(h, w)| {
            let size = w.eval(&|s| sizes.get(s).copied());
            h.as_const().is_none_or(|c| size == Some(c))
        })
    })
}

/// Random inputs for an engine: given sizes, else the ones it was tuned for.
pub fn inputs_for_engine(engine: &Engine, sizes: &BTreeMap<String, i64>, seed: u64) -> Result<Vec<Tensor>> {
    let mut all: BTreeMap<Symbol, i64> = BTreeMap::new();
    for (s, r) in engine.plan().profiles.iter().flat_map(|p| &p.ranges) {
        all.entry(s.clone()).or_insert(r.opt.max(1));
    }
    for (name, size) in sizes {
        let symbol = Symbol::new(name);
        if !all.contains_key(&symbol) {
            let names: Vec<&str> = all.keys().map(Symbol::as_str).collect();
            bail!(invalid, "the engine has no dimension `{name}`; it has {}", names.join(", "));
        }
        all.insert(symbol, *size);
    }
    let mut rng = Random::new(seed);
    engine
        .inputs()
        .iter()
        .map(|p| {
            let shape = shape_for(&p.ty, &all).at(|| format!("input `{}`", p.name))?;
            random_tensor(p.ty.dtype().unwrap_or(DType::F32), &shape, &mut rng)
        })
        .collect()
}

fn compare_at(
    tested: &Engine,
    judge: &Engine,
    inputs: &[Tensor],
    sizes: BTreeMap<String, i64>,
    options: &VerifyOptions,
) -> Result<VerifyCase> {
    compare_with(tested, run_engine(judge, inputs), inputs, sizes, options)
}

fn run_engine(e: &Engine, inputs: &[Tensor]) -> Result<Vec<(String, Tensor)>> {
    let views = inputs.iter().map(Tensor::view).collect::<Result<Vec<TensorView>>>()?;
    let ports = e.inputs();
    if ports.len() != views.len() {
        bail!(invalid, "{} inputs are needed, {} given", ports.len(), views.len());
    }
    let pairs: Vec<_> = ports.iter().map(|p| p.name.as_str()).zip(views).collect();
    Ok(e.run(&pairs)?.into_vec())
}

/// The same with what the source gave.
fn compare_with(
    tested: &Engine,
    want: Result<Vec<(String, Tensor)>>,
    inputs: &[Tensor],
    sizes: BTreeMap<String, i64>,
    options: &VerifyOptions,
) -> Result<VerifyCase> {
    let place = || format!("sizes {sizes:?}");
    let want = want.at(|| "running the source").at(place)?;
    let got = run_engine(tested, inputs).at(|| "running the model under test").at(place)?;
    if want.len() != got.len() {
        bail!(bug, "{} outputs became {}", want.len(), got.len());
    }
    let outputs = want
        .iter()
        .zip(&got)
        .map(|((name, w), (_, g))| compare_outputs(tested, name, g, w, options))
        .collect::<Result<Vec<_>>>()?;
    let passed = outputs.iter().all(|c| c.passed);
    Ok(VerifyCase { sizes, outputs, passed, refused: None })
}
