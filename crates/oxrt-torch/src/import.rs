//! From an opened program to a model of the IR.

use crate::archive::Archive;
use crate::argument::{Argument, ScalarArg};
use crate::cx::{Cx, Problem, Scope, Val};
use crate::lower::{is_lowered, run_graph, short_target, used_names, value_of};
use crate::program::Program;
use crate::schema::{Graph, InputSpec, OutputSpec};
use oxrt_ir::{Dim, Graph as IrGraph, Model, Range, Symbol, Symbols, Tensor, ValueId, ValueType};
use oxrt_ops::Builder;
use oxrt_tensor::{Context, DType, Error, Result, bail, map_file};
use rustc_hash::{FxHashMap, FxHashSet};
use std::path::Path;

/// What the user wants changed on the way in.
#[derive(Clone, Debug, Default)]
pub struct ImportOptions {
    /// New names of the inputs: one per input in order, or `old=new`.
    pub input_names: Vec<String>,
    pub output_names: Vec<String>,
    /// Dimensions: a present name (`batch`), torch's symbol (`s77`) or a place (`x:0`), with a new name
    /// and range where wanted.
    pub dims: Vec<DimOption>,
    /// Types and sizes of a scripted module's inputs, which its file does not keep: `x=f32[batch,3,224,224]`.
    pub inputs: Vec<String>,
}

/// One `--dim`.
#[derive(Clone, Debug, Default)]
pub struct DimOption {
    pub dim: String,
    pub name: Option<String>,
    pub range: Option<Range>,
}

impl std::str::FromStr for DimOption {
    type Err = Error;

    /// `batch=1..64`, `x:0=batch`, `x:0=batch=1..64`, `s77=batch`, `batch=8`.
    fn from_str(text: &str) -> Result<DimOption> {
        let mut parts = text.split('=').map(str::trim);
        let mut out = DimOption { dim: parts.next().unwrap_or_default().to_string(), ..DimOption::default() };
        let bad = || {
            Error::invalid(format!("cannot read the dimension option `{text}`"))
                .help("write `batch=1..64`, `x:0=batch` or `x:0=batch=1..64`")
        };
        for part in parts {
            let number = part.starts_with(|c: char| c.is_ascii_digit());
            if !number {
                if part.is_empty() || out.name.replace(part.to_string()).is_some() {
                    return Err(bad());
                }
                continue;
            }
            let (min, max) = part.split_once("..").unwrap_or((part, part));
            let min: i64 = min.parse().map_err(|_| bad())?;
            let max: Option<i64> = if max.is_empty() { None } else { Some(max.parse().map_err(|_| bad())?) };
            if max.is_some_and(|m| m < min) {
                return Err(Error::invalid(format!("the range {part} of `{}` is empty", out.dim)));
            }
            out.range = Some(Range { min, max });
        }
        if out.dim.is_empty() || out.name.is_none() && out.range.is_none() { Err(bad()) } else { Ok(out) }
    }
}

/// A model with what there is to say about its import.
#[derive(Debug)]
pub struct Imported {
    pub model: Model,
    /// The inputs that the model was exported with, in order; empty when the file has none that are plain tensors.
    pub samples: Vec<Tensor>,
    pub warnings: Vec<String>,
    /// The version of torch that wrote the file.
    pub torch_version: String,
}

/// Imports a `.pt2` file, or the TorchScript `.pt` file of a scripted or traced module.
///
/// # Errors
/// When the file is damaged, or holds operators that oxrt cannot lower: those of a `.pt2` are listed at once.
pub fn import(path: &Path, options: &ImportOptions) -> Result<Imported> {
    let archive = map_file(path).and_then(Archive::open).at(|| path.display())?;
    if let Some(root) = crate::script::root_of(&archive) {
        return crate::script::import_script(&archive, &root, options).at(|| path.display());
    }
    if !options.inputs.is_empty() {
        return Err(Error::invalid("this file states the types of its inputs itself")
            .at(path.display().to_string())
            .help("leave `--input` out; `--dim` renames dimensions and narrows their ranges"));
    }
    import_program(Program::open(path)?, options).at(|| path.display())
}

/// Imports an opened program.
///
/// # Errors
/// As [`import`].
pub fn import_program(mut program: Program, options: &ImportOptions) -> Result<Imported> {
    apply_dims(&mut program, &options.dims)?;
    rename(program.inputs.iter_mut().map(|i| &mut i.name).collect(), &options.input_names, "input")?;
    rename(program.outputs.iter_mut().collect(), &options.output_names, "output")?;
    check_targets(&program.exported.graph_module.graph)?;

    let mut model = Model { producer: format!("torch {}", program.torch_version), opset: 23, ..Model::default() };
    model.graph.name = "main".to_string();
    for (symbol, range) in &program.dims {
        model.symbols.declare(symbol.clone(), *range);
    }
    if !program.conditions.is_empty() {
        // Sizes that break one of these would take another path in PyTorch.
        model.metadata.insert(oxrt_ir::CONDITIONS.to_string(), program.conditions.join("\n"));
    }
    let warnings = build(&program, &mut model.graph, &mut model.symbols)?;
    model.graph.remove_dead_nodes();
    crate::widen::widen(&mut model.graph)?;
    model.graph = model.graph.compacted();
    model.graph.verify().at(|| "the imported graph")?;
    let warnings = program.warnings.iter().cloned().chain(warnings).collect();
    let samples = program.sample_inputs().ok().flatten().unwrap_or_default();
    // Samples that do not fit the inputs (a cache object among them, say) are of no use as test inputs.
    let fits = samples.len() == program.inputs.len()
        && samples.iter().zip(&program.inputs).all(|(t, i)| t.dtype() == i.dtype && t.rank() == i.dims.len());
    let samples = if fits { samples } else { Vec::new() };
    Ok(Imported { model, samples, warnings, torch_version: program.torch_version })
}

fn build(program: &Program, graph: &mut IrGraph, symbols: &mut Symbols) -> Result<Vec<String>> {
    let exported = &program.exported.graph_module;
    let source = &exported.graph;
    let mut cx = Cx {
        b: Builder::new(graph, symbols),
        symbols: program.symbols.clone(),
        slots: Vec::new(),
        scopes: vec![Scope { graph: source, env: FxHashMap::default(), used: used_names(source) }],
        autocast: None,
        complex: FxHashSet::default(),
        warnings: Vec::new(),
        problems: Vec::new(),
        taken: program.inputs.iter().map(|i| i.name.clone()).chain(program.outputs.iter().cloned()).collect(),
        last_source: None,
        assumed: FxHashMap::default(),
    };
    bind_inputs(&mut cx, program)?;
    let result = run_graph(&mut cx, source);
    // What stands in for an unsupported operator may bring errors of its own, which say nothing.
    if !cx.problems.is_empty() {
        return Err(report(&cx.problems));
    }
    result?;
    bind_outputs(&mut cx, program)?;
    let warnings = std::mem::take(&mut cx.warnings);
    make_names_unique(graph);
    Ok(warnings)
}

fn bind_inputs<'a>(cx: &mut Cx<'a, '_>, program: &'a Program) -> Result<()> {
    let exported = &program.exported.graph_module;
    let by_name: FxHashMap<&str, &crate::program::Input> =
        program.inputs.iter().map(|i| (i.torch_name.as_str(), i)).collect();
    // Tied weights are one constant under the first name.
    let mut constants: Vec<(Tensor, ValueId)> = Vec::new();
    for spec in &exported.signature.input_specs {
        let (name, weight) = match spec {
            InputSpec::Parameter(p) => (&p.arg.name, &p.parameter_name),
            InputSpec::Buffer(b) => (&b.arg.name, &b.buffer_name),
            InputSpec::TensorConstant(c) => (&c.arg.name, &c.tensor_constant_name),
            InputSpec::UserInput(holder) => {
                match &holder.arg {
                    Argument::Tensor(name) => {
                        let Some(input) = by_name.get(name.as_str()) else { continue };
                        // A complex input is taken as a real one with a last axis of two.
                        let (dtype, mut dims) = (crate::cx::real_dtype(input.dtype), input.dims.clone());
                        if input.dtype.is_complex() {
                            dims.push(Dim::Const(2));
                            cx.warn(format!(
                                "the complex input `{}` is real here, with a last axis of real and imaginary part",
                                input.name
                            ));
                        }
                        let v = cx.b.add_input(&input.name, ValueType::tensor(dtype, dims));
                        if input.dtype.is_complex() {
                            cx.complex.insert(v);
                        }
                        let id = cx.new_tensor(v);
                        cx.define(name, Val::Tensor(id))?;
                    }
                    Argument::Symbolic(name) => {
                        let Some(input) = by_name.get(name.as_str()) else { continue };
                        let v = cx.b.add_input(&input.name, ValueType::tensor(DType::I64, Vec::new()));
                        let size = exported.graph.sym_int_values.get(name);
                        let d = size.map(|s| cx.symbols.dim(s)).transpose()?;
                        let d = d.unwrap_or_else(|| Dim::symbol(name));
                        cx.b.note_dim_value(d.clone(), v);
                        cx.define(name, Val::Int(d))?;
                    }
                    _ => {}
                }
                continue;
            }
            InputSpec::ConstantInput(c) => {
                let val = match &c.value {
                    ScalarArg::Int(x) => Val::Int(Dim::Const(*x)),
                    ScalarArg::Float(x) => Val::Float(*x),
                    ScalarArg::Bool(b) => Val::Bool(*b),
                    ScalarArg::String(s) => Val::Text(s.clone()),
                    _ => Val::None,
                };
                cx.define(&c.name, val)?;
                continue;
            }
            InputSpec::Token(t) => {
                cx.define(&t.arg.name, Val::None)?;
                continue;
            }
            InputSpec::CustomObj(_) => continue,
        };
        if !cx.scope()?.used.contains(name.as_str()) {
            continue;
        }
        let tensor = program.weights.get(&program.archive, weight)?;
        check_weight(cx, name, weight, &tensor)?;
        let is_complex = tensor.dtype().is_complex();
        let tensor = split_complex(tensor)?;
        let tied = constants
            .iter()
            .find(|(t, _)| t.dtype() == tensor.dtype() && t.shape() == tensor.shape() && t.same_storage(&tensor));
        let v = match tied {
            Some(&(_, v)) => v,
            None => {
                let mut unique = weight.clone();
                while !cx.taken.insert(unique.clone()) {
                    unique.push('_');
                }
                let v = cx.b.graph.add_constant(&unique, tensor.clone());
                // Linear search over thousands of weights costs nothing beside reading them.
                constants.push((tensor, v));
                v
            }
        };
        if is_complex {
            cx.complex.insert(v);
        }
        let id = cx.new_tensor(v);
        cx.define(name, Val::Tensor(id))?;
    }
    note_derived_symbols(cx)
}

/// Real tensor with a last axis of two.
pub(crate) fn split_complex(t: Tensor) -> Result<Tensor> {
    let real = crate::cx::real_dtype(t.dtype());
    if real == t.dtype() {
        return Ok(t);
    }
    let mut shape = t.shape().to_vec();
    shape.push(2);
    Tensor::from_bytes(real, &shape, t.bytes())
}

fn check_weight(cx: &mut Cx, name: &str, weight: &str, tensor: &Tensor) -> Result<()> {
    let Some((dtype, dims)) = cx.meta(name)? else { return Ok(()) };
    let same = dims.len() == tensor.rank() && dims.iter().zip(tensor.shape()).all(|(d, &n)| d.as_size() == Some(n));
    if dtype != tensor.dtype() || !same {
        bail!(
            invalid,
            "the weight `{weight}` is {} {:?}, the program says {dtype} {dims:?}",
            tensor.dtype(),
            tensor.shape()
        );
    }
    Ok(())
}

/// Inputs sized `2*s + 1` where no input is sized `s`: the symbol is solved for.
fn note_derived_symbols(cx: &mut Cx) -> Result<()> {
    let inputs = cx.b.graph.inputs.clone();
    let plain: FxHashSet<Symbol> = (inputs.iter())
        .flat_map(|&v| cx.b.graph.dims(v).unwrap_or_default())
        .filter_map(|d| d.as_symbol().cloned())
        .collect();
    let mut done = plain;
    for v in inputs {
        for (axis, d) in cx.dims(v)?.into_iter().enumerate() {
            let (terms, constant) = d.sum_of_products();
            let [(factor, [oxrt_ir::Atom::Symbol(s)])] = terms[..] else { continue };
            if factor <= 0 || !done.insert(s.clone()) {
                continue;
            }
            let symbol = Dim::from(s.clone());
            let axis = axis as i64;
            let attrs = oxrt_ir::Attrs::new().with("start", axis).with("end", axis + 1);
            let mut size = cx.op("Shape", &[v], attrs)?;
            if constant != 0 {
                let c = cx.b.ints(&[constant]);
                size = cx.call("Sub", &[size, c])?;
            }
            if factor != 1 {
                let c = cx.b.ints(&[factor]);
                size = cx.call("Div", &[size, c])?;
            }
            cx.b.graph[size].contents = Some(oxrt_ir::Contents::vector(vec![symbol.clone()]));
            cx.b.note_dim_value(symbol, size);
        }
    }
    Ok(())
}

fn bind_outputs<'a>(cx: &mut Cx<'a, '_>, program: &'a Program) -> Result<()> {
    let exported = &program.exported.graph_module;
    cx.b.prefix.clear();
    cx.b.source = None;
    let mut names = program.outputs.iter();
    let mut done: FxHashSet<ValueId> = FxHashSet::default();
    for (spec, arg) in exported.signature.output_specs.iter().zip(&exported.graph.outputs) {
        let OutputSpec::UserOutput(_) = spec else { continue };
        let v = match value_of(cx, arg)? {
            Val::Tensor(id) => cx.read(id)?,
            Val::Int(d) => cx.dim_scalar(&d)?,
            Val::Float(x) => cx.b.scalar(DType::F32, x)?,
            Val::Bool(b) => cx.b.constant(Tensor::scalar(b)),
            Val::SymFloat(r) => crate::aten::sym::ratio_value(cx, &r, DType::F32)?,
            Val::Runtime(v) => v,
            Val::None => continue,
            other => bail!(unsupported, "an output of the kind {other:?}"),
        };
        let name = names.next().ok_or_else(|| Error::bug("more outputs than names"))?;
        // Inputs, constants and values that are already an output keep their own name.
        let made_here = cx.b.graph[v].producer().is_some() && done.insert(v);
        let v = if made_here { v } else { cx.call("Identity", &[v])? };
        cx.b.graph[v].name = name.clone();
        cx.b.graph.outputs.push(v);
    }
    Ok(())
}

/// Gives inputs and outputs their names for good, and every other value one of its own.
pub(crate) fn make_names_unique(graph: &mut IrGraph) {
    let fixed: FxHashSet<ValueId> = graph.inputs.iter().chain(&graph.outputs).copied().collect();
    let mut taken: FxHashSet<String> = fixed.iter().map(|&v| graph[v].name.clone()).collect();
    for v in graph.value_ids().filter(|v| !fixed.contains(v)) {
        let base = graph[v].name.clone();
        let mut name = base.clone();
        let mut k = 0;
        while !taken.insert(name.clone()) {
            k += 1;
            name = format!("{base}_{k}");
        }
        graph[v].name = name;
    }
}

// ---- options ----

fn apply_dims(program: &mut Program, options: &[DimOption]) -> Result<()> {
    for option in options {
        let found = find_dim(program, &option.dim);
        let Some(symbol) = found else {
            let known: Vec<String> = program.dims.iter().map(|(s, r)| format!("{s} ({r})")).collect();
            let known =
                if known.is_empty() { "none: the program has static sizes".to_string() } else { known.join(", ") };
            return Err(Error::invalid(format!("there is no dynamic dimension `{}`; there are: {known}", option.dim))
                .help("name a dimension, or a place such as `x:0` (input and axis); export with `dynamic_shapes` to get more"));
        };
        let mut range = program.symbols.ranges.get(&symbol).copied().unwrap_or_default();
        if let Some(wanted) = option.range {
            let inside = wanted.min >= range.min && range.max.is_none_or(|m| wanted.max.is_some_and(|w| w <= m));
            if !inside {
                return Err(Error::invalid(format!("`{symbol}` was exported for {range}, {wanted} is outside"))
                    .help("ask for a range inside, or export again with a wider `torch.export.Dim`"));
            }
            range = wanted;
        }
        let name = option.name.clone().unwrap_or_else(|| symbol.as_str().to_string());
        let renamed = Symbol::new(&name);
        if renamed != symbol && program.dims.iter().any(|(s, _)| *s == renamed) {
            bail!(invalid, "two dimensions cannot both be named `{name}`");
        }
        let mut names = program.symbols.names.clone();
        names.values_mut().filter(|s| **s == symbol).for_each(|s| *s = renamed.clone());
        program.symbols.rename(names);
        let rename = |s: &Symbol| (*s == symbol).then(|| renamed.clone().into());
        program.conditions.iter_mut().for_each(|c| *c = oxrt_ir::substitute_in(c, &rename));
        program.symbols.ranges.remove(&symbol);
        program.symbols.ranges.insert(renamed.clone(), range);
        if let Some(h) = program.symbols.hints.remove(&symbol) {
            program.symbols.hints.insert(renamed, h);
        }
        program.restate_inputs()?;
    }
    Ok(())
}

fn find_dim(program: &Program, wanted: &str) -> Option<Symbol> {
    if let Some((s, _)) = program.dims.iter().find(|(s, _)| s.as_str() == wanted) {
        return Some(s.clone());
    }
    if let Some(s) = program.symbols.names.get(wanted) {
        return Some(s.clone());
    }
    let (input, axis) = wanted.rsplit_once([':', '.'])?;
    let axis: usize = axis.parse().ok()?;
    let input = program.inputs.iter().find(|i| i.name == input)?;
    input.dims.get(axis)?.as_symbol().cloned()
}

pub(crate) fn rename(names: Vec<&mut String>, wanted: &[String], what: &str) -> Result<()> {
    if wanted.is_empty() {
        return Ok(());
    }
    let have: Vec<String> = names.iter().map(|n| n.to_string()).collect();
    let mut names = names;
    if wanted.iter().any(|w| w.contains('=')) {
        for pair in wanted {
            let Some((old, new)) = pair.split_once('=') else {
                bail!(invalid, "`{pair}` should be `old=new`, as the other {what} names are")
            };
            let Some(name) = names.iter_mut().find(|n| n.as_str() == old) else {
                bail!(invalid, "there is no {what} `{old}`; the {what}s are {}", have.join(", "))
            };
            **name = new.to_string();
        }
    } else {
        if wanted.len() != names.len() {
            bail!(invalid, "{} {what} names for {} {what}s: {}", wanted.len(), names.len(), have.join(", "));
        }
        names.iter_mut().zip(wanted).for_each(|(n, w)| **n = w.clone());
    }
    let mut sorted: Vec<&str> = names.iter().map(|n| n.as_str()).collect();
    sorted.sort_unstable();
    if let Some(pair) = sorted.windows(2).find(|w| w[0] == w[1]) {
        bail!(invalid, "two {what}s cannot both be named `{}`", pair[0]);
    }
    Ok(())
}

// ---- what is missing ----

/// Looks for operators without lowering in the whole program before any work is done.
fn check_targets(graph: &Graph) -> Result<()> {
    let mut problems: Vec<Problem> = Vec::new();
    walk_targets(graph, 0, &mut problems)?;
    if problems.is_empty() { Ok(()) } else { Err(report(&problems)) }
}

fn walk_targets(graph: &Graph, depth: usize, problems: &mut Vec<Problem>) -> Result<()> {
    if depth > 32 {
        bail!(invalid, "subgraphs nested deeper than 32");
    }
    for node in &graph.nodes {
        for input in &node.inputs {
            if let Argument::Graph(g) = &input.arg {
                walk_targets(g, depth + 1, problems)?;
            }
        }
        let target = short_target(&node.target);
        if is_lowered(node, target) {
            continue;
        }
        match problems.iter_mut().find(|p| p.what == target) {
            Some(p) => p.count += 1,
            None => {
                let module = crate::lower::module_path(node.metadata.nn_module_stack.as_deref().unwrap_or_default());
                let (line, _) = crate::lower::user_frame(node.metadata.stack_trace.as_deref().unwrap_or_default());
                let place = match (module.is_empty(), line.is_empty()) {
                    (false, false) => format!("in {module} ({line})"),
                    (false, true) => format!("in {module}"),
                    (true, false) => format!("({line})"),
                    (true, true) => String::new(),
                };
                problems.push(Problem { what: target.to_string(), help: None, count: 1, place });
            }
        }
    }
    Ok(())
}

fn report(problems: &[Problem]) -> Error {
    let nodes: usize = problems.iter().map(|p| p.count).sum();
    let mut text = format!(
        "{} kind{} of operation ({nodes} node{}) cannot be lowered:",
        problems.len(),
        if problems.len() == 1 { "" } else { "s" },
        if nodes == 1 { "" } else { "s" }
    );
    for p in problems {
        let times = if p.count > 1 { format!(" × {}", p.count) } else { String::new() };
        let place = if p.place.is_empty() { String::new() } else { format!(", first {}", p.place) };
        text.push_str(&format!("\n  {}{times}{place}", p.what));
    }
    let help = problems.iter().find_map(|p| p.help.clone());
    let help = help.unwrap_or_else(|| {
        "`ep = ep.run_decompositions()` before `torch.export.save` replaces many operators by simpler ones".to_string()
    });
    Error::unsupported(text).help(help)
}
