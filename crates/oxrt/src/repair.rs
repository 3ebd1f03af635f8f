//! Files whose sizes were baked in by an exporter: repaired, and the repair proven by running.

use crate::model::Model;
use crate::verify::{self, VerifyCase, VerifyOptions, random_inputs, sizes_to_try};
use oxrt_ir::{Dim, Symbol, ValueType};
use oxrt_ops::{Datum, Interpreter};
use oxrt_passes::Finding;
use oxrt_tensor::{Error, Result, Tensor, bail};
use oxrt_torch::DimOption;
use oxrt_verify::Comparison;
use serde::Serialize;
use std::collections::BTreeMap;

/// What a repair starts from.
#[derive(Clone, Debug, Default)]
pub struct RepairOptions {
    /// Dimensions that should be dynamic: `x:0=batch`, `x:0=batch=1..64`. Those that the file names already need not
    /// be given.
    pub dims: Vec<String>,
    /// Sizes of the example that the file was exported with, `batch=2`; by default they are found out.
    pub example: Vec<String>,
}

/// What was found and what proves the repair.
#[derive(Clone, Debug, Serialize)]
pub struct RepairReport {
    /// Sizes of the example.
    pub example: BTreeMap<String, i64>,
    /// (node, Python line, what, repaired)
    pub findings: Vec<(String, String, String, bool)>,
    /// The repaired model against the original at the example's sizes.
    pub at_example: Vec<VerifyCase>,
    /// The engine of the repaired model against the reference evaluator at other sizes.
    pub elsewhere: Vec<VerifyCase>,
    /// For each dimension that is the first axis of inputs and outputs: whether rows run together give what they give
    /// one by one.
    pub rows: Vec<(String, VerifyCase)>,
    /// [`TRACED`], of files for which it holds.
    pub caution: Option<String>,
}

impl RepairReport {
    /// Whether everything that was found is mended and proven.
    pub fn is_complete(&self) -> bool {
        let cases = self.at_example.iter().chain(&self.elsewhere).chain(self.rows.iter().map(|r| &r.1));
        self.findings.iter().all(|f| f.3) && cases.into_iter().all(|c| c.passed)
    }
}

/// What a traced file cannot show.
pub const TRACED: &str = "made by tracing: of branches, list elements and loops that Python decided it holds what the example took, and \
    leaves no trace of the others; compare it with the model on inputs that decide otherwise, or export with torch.export";

impl Model {
    /// Whether an ONNX file was made by torch's old exporter, which runs the model on an example.
    pub fn was_traced(&self) -> bool {
        self.ir().producer.starts_with("pytorch") && self.ir().graph.nodes().any(|(_, n)| n.name.starts_with('/'))
    }

    /// Finds sizes that were baked in, without changing the model.
    ///
    /// # Errors
    /// As [`Model::repair`].
    pub fn baked_sizes(&self, options: &RepairOptions) -> Result<Vec<Finding>> {
        let (mut ir, example) = prepare(self, options)?;
        oxrt_passes::repair(&mut ir, &example)
    }

    /// Puts sizes back that were baked in, and runs the result at several sizes.
    ///
    /// # Errors
    /// Unknown dimensions; a model of which no example size can be found out.
    pub fn repair(&self, options: &RepairOptions) -> Result<(Model, RepairReport)> {
        let (mut ir, example) = prepare(self, options)?;
        let findings = oxrt_passes::repair(&mut ir, &example)?;
        ir.graph = ir.graph.compacted();
        let fixed = Model::from_ir(ir);
        let mut report = RepairReport {
            example: example.iter().map(|(s, n)| (s.as_str().to_string(), *n)).collect(),
            findings: findings.into_iter().map(|f| (f.node, f.location, f.what, f.repaired)).collect(),
            at_example: Vec::new(),
            elsewhere: Vec::new(),
            rows: Vec::new(),
            caution: self.was_traced().then(|| TRACED.to_string()),
        };
        report.at_example.push(compare_at(&fixed, self, &example)?);
        let checks = VerifyOptions { source_may_refuse: false, ..VerifyOptions::default() };
        report.elsewhere = match verify::verify_model(&fixed, &fixed, &checks) {
            Ok(cases) => cases,
            Err(e) => vec![failed(&example, e.message())],
        };
        for (symbol, _) in fixed.ir().symbols.iter() {
            if let Some(case) = rows_together(&fixed, symbol, &example)? {
                report.rows.push((symbol.as_str().to_string(), case));
            }
        }
        Ok((fixed, report))
    }
}

fn failed(sizes: &BTreeMap<Symbol, i64>, message: &str) -> VerifyCase {
    let sizes = sizes.iter().map(|(s, n)| (s.as_str().to_string(), *n)).collect();
    let c = Comparison { name: "run".to_string(), mismatch: Some(message.to_string()), ..Comparison::default() };
    VerifyCase { sizes, outputs: vec![c], passed: false, refused: None }
}

/// The model with symbols where sizes should be dynamic, and the example's sizes.
fn prepare(model: &Model, options: &RepairOptions) -> Result<(oxrt_ir::Model, BTreeMap<Symbol, i64>)> {
    let mut ir = model.ir().clone();
    let mut known: BTreeMap<Symbol, i64> = BTreeMap::new();
    for text in &options.dims {
        let option: DimOption = text.parse()?;
        let Some((input, axis)) = option.dim.rsplit_once(':') else {
            return Err(Error::invalid(format!("`{text}` names no place")).help("write `--dim x:0=batch`"));
        };
        let v = ir.graph.input_named(input)?;
        let axis: usize = axis.parse().map_err(|_| Error::invalid(format!("`{}` is no axis", option.dim)))?;
        let mut dims = ir.graph.dims(v).map(<[Dim]>::to_vec).unwrap_or_default();
        let Some(d) = dims.get_mut(axis) else { bail!(invalid, "`{input}` has no axis {axis}") };
        let name = option.name.clone().unwrap_or_else(|| format!("{input}_dim{axis}"));
        let symbol = Symbol::new(&name);
        if let Some(n) = d.as_const() {
            if known.insert(symbol.clone(), n).is_some_and(|other| other != n) {
                bail!(invalid, "`{name}` has two sizes in the file");
            }
        }
        *d = symbol.clone().into();
        let dtype = ir.graph[v].ty.dtype().unwrap_or(oxrt_tensor::DType::F32);
        ir.graph[v].ty = ValueType::tensor(dtype, dims);
        ir.symbols.declare(symbol, option.range.unwrap_or_default());
    }
    for text in &options.example {
        let bad = || Error::invalid(format!("cannot read `{text}`")).help("write `--example batch=2`");
        for part in text.split(',') {
            let (name, size) = part.split_once('=').ok_or_else(bad)?;
            known.insert(Symbol::new(name.trim()), size.trim().parse().map_err(|_| bad())?);
        }
    }
    // Constants that are computed in the file are folded first; types follow the old sizes, so they are forgotten.
    // A baked state of zeros is no longer there once nobody starts from it, which would go unsaid.
    let kept = oxrt_passes::Options { disabled: vec![oxrt_passes::ZERO_STATES.to_string()], ..Default::default() };
    let _ = oxrt_passes::simplify(&mut ir, &kept);
    let example = oxrt_passes::example_sizes(&ir, &known);
    Ok((ir, example))
}

fn run(model: &oxrt_ir::Model, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    let inputs = inputs.iter().cloned().map(Datum::Tensor).collect();
    Interpreter::new(&model.graph).run(inputs)?.into_iter().map(Datum::into_tensor).collect()
}

fn compare_all(model: &Model, have: &[Tensor], want: &[Tensor], sizes: &BTreeMap<Symbol, i64>) -> Result<VerifyCase> {
    let options = VerifyOptions::default();
    let g = &model.ir().graph;
    let outputs: Vec<_> = (g.outputs.iter().zip(have).zip(want))
        .map(|((&v, h), w)| oxrt_verify::compare(&g[v].name, h, w, options.rtol, options.atol))
        .collect::<Result<_>>()?;
    let passed = outputs.iter().all(|c| c.passed);
    Ok(VerifyCase {
        sizes: sizes.iter().map(|(s, n)| (s.as_str().to_string(), *n)).collect(),
        outputs,
        passed,
        refused: None,
    })
}

/// Both models at the example's sizes, by the reference evaluator.
fn compare_at(fixed: &Model, original: &Model, example: &BTreeMap<Symbol, i64>) -> Result<VerifyCase> {
    let mut sizes = example.clone();
    for (s, r) in fixed.ir().symbols.iter() {
        sizes.entry(s.clone()).or_insert(r.min.max(2));
    }
    let inputs = random_inputs(fixed, &sizes, 1)?;
    let want = run(original.ir(), &inputs).map_err(|e| {
        let guessed: Vec<&str> = fixed
            .ir()
            .symbols
            .iter()
            .map(|(s, _)| s.as_str())
            .filter(|s| !example.contains_key(&Symbol::new(s)))
            .collect();
        let names: Vec<String> = guessed.iter().map(|s| format!("{s}=SIZE")).collect();
        e.at("the original at the example's sizes").help(format!(
            "the file does not tell the size of {}: state what it was exported with, `--example {}`",
            guessed.join(", "),
            names.join(",")
        ))
    })?;
    match run(fixed.ir(), &inputs) {
        Ok(have) => compare_all(fixed, &have, &want, &sizes),
        Err(e) => Ok(failed(&sizes, e.message())),
    }
}

/// Three rows together and one by one.
fn rows_together(model: &Model, symbol: &Symbol, example: &BTreeMap<Symbol, i64>) -> Result<Option<VerifyCase>> {
    let g = &model.ir().graph;
    let first =
        |v: &oxrt_ir::ValueId| g.dims(*v).and_then(|d| d.first()).is_some_and(|d| d.as_symbol() == Some(symbol));
    // A dimension that also stands elsewhere (a sequence) does not only count rows.
    let elsewhere =
        g.inputs.iter().any(|&v| g.dims(v).unwrap_or_default().iter().skip(1).any(|d| d.as_symbol() == Some(symbol)));
    if elsewhere || !g.inputs.iter().any(first) || !g.outputs.iter().any(first) {
        return Ok(None);
    }
    let allowed = model.ir().symbols.get(symbol).is_some_and(|r| r.min <= 1 && r.max.is_none_or(|m| m >= 3));
    if !allowed {
        return Ok(None);
    }
    let mut sizes = sizes_to_try(model).into_iter().next().unwrap_or_default();
    for (s, n) in example.iter().filter(|(s, _)| *s != symbol) {
        sizes.insert(s.clone(), *n);
    }
    sizes.insert(symbol.clone(), 3);
    let inputs = random_inputs(model, &sizes, 2)?;
    let together = match run(model.ir(), &inputs) {
        Ok(t) => t,
        Err(e) => return Ok(Some(failed(&sizes, e.message()))),
    };
    let mut parts: Vec<Vec<Tensor>> = Vec::new();
    for row in 0..3usize {
        let one: Vec<Tensor> = (g.inputs.iter().zip(&inputs))
            .map(|(v, t)| if first(v) { row_of(t, row) } else { Ok(t.clone()) })
            .collect::<Result<_>>()?;
        match run(model.ir(), &one) {
            Ok(t) => parts.push(t),
            Err(e) => return Ok(Some(failed(&sizes, e.message()))),
        }
    }
    let mut have = Vec::new();
    let mut want = Vec::new();
    for (i, _) in g.outputs.iter().enumerate().filter(|(_, v)| first(v)) {
        for (row, part) in parts.iter().enumerate() {
            have.push(row_of(&together[i], row)?);
            want.push(part[i].clone());
        }
    }
    let options = VerifyOptions::default();
    let outputs: Vec<_> = (have.iter().zip(&want))
        .map(|(h, w)| oxrt_verify::compare("row", h, w, options.rtol, options.atol))
        .collect::<Result<_>>()?;
    let passed = outputs.iter().all(|c| c.passed);
    let sizes = sizes.iter().map(|(s, n)| (s.as_str().to_string(), *n)).collect();
    Ok(Some(VerifyCase { sizes, outputs, passed, refused: None }))
}

fn row_of(t: &Tensor, row: usize) -> Result<Tensor> {
    let mut shape = t.shape().to_vec();
    let (Some(size), Some(n)) = (t.dtype().size(), shape.first().copied().filter(|&n| n > row)) else {
        bail!(unsupported, "rows of {t:?}")
    };
    let bytes = t.len() / n * size;
    shape[0] = 1;
    Tensor::from_bytes(t.dtype(), &shape, &t.bytes()[row * bytes..(row + 1) * bytes])
}
