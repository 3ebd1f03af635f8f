//! An opened `.pt2` file: what it takes, what it gives, and its weights on demand.

use crate::archive::Archive;
use crate::argument::Argument;
use crate::pickle::{Pickle, Tree, Value};
use crate::schema::{self, ExportedProgram, InputSpec, OutputSpec, PayloadConfig, SymInt};
use crate::symbols::SymbolTable;
use crate::weights::Weights;
use crate::{naming, pytree};
use oxrt_ir::{Dim, Range, Symbol};
use oxrt_tensor::{Context, DType, Error, Result, Tensor, bail, map_file};
use rustc_hash::FxHashMap;
use std::path::Path;

/// One tensor (or integer) that the user passes.
#[derive(Clone, Debug)]
pub struct Input {
    pub name: String,
    pub dtype: DType,
    pub dims: Vec<Dim>,
    /// torch's own name of the value.
    pub(crate) torch_name: String,
}

/// A program read from a `.pt2` file. The weights stay in the mapped file.
pub struct Program {
    pub(crate) archive: Archive,
    pub(crate) exported: ExportedProgram,
    pub(crate) weights: Weights,
    pub(crate) symbols: SymbolTable,
    /// Symbols that size inputs, in order of appearance, with their ranges.
    pub dims: Vec<(Symbol, Range)>,
    pub inputs: Vec<Input>,
    /// Names of the results, in order.
    pub outputs: Vec<String>,
    /// Conditions on the sizes under which the program was traced, in Python's syntax over the dimensions.
    pub conditions: Vec<String>,
    /// Conditions that exclude sizes inside the ranges, as readable text.
    pub warnings: Vec<String>,
    pub torch_version: String,
    /// Member of the archive with the sample inputs, if any, and whether it is nested.
    samples: Option<String>,
    root: String,
}

impl Program {
    /// Opens a file and reads everything but the weights.
    ///
    /// # Errors
    /// When the file is not a `.pt2` archive, is damaged, or of an unknown format.
    pub fn open(path: &Path) -> Result<Program> {
        Self::read(path).at(|| path.display())
    }

    fn read(path: &Path) -> Result<Program> {
        let archive = Archive::open(map_file(path)?)?;
        let layout = Layout::detect(&archive)?;
        let text = archive.text(&layout.program)?;
        let mut patched = String::new();
        let exported: ExportedProgram = schema::parse(text, &mut patched).map_err(|e| {
            Error::invalid(format!("`{}` is not a program of torch.export: {e}", layout.program))
                .help("export and save the model again; `torch.export.load` shows whether torch can read the file")
        })?;
        let major = exported.schema_version.major;
        if !(5..=8).contains(&major) {
            return Err(Error::unsupported(format!("schema version {major} of torch.export"))
                .help("versions 5 (torch 2.4) to 8 (torch 2.6 and later) are read"));
        }
        let weights = layout.weights(&archive)?;
        let mut program = Program {
            archive,
            torch_version: exported.torch_version.clone(),
            exported,
            weights,
            symbols: SymbolTable::default(),
            dims: Vec::new(),
            inputs: Vec::new(),
            outputs: Vec::new(),
            conditions: Vec::new(),
            warnings: Vec::new(),
            samples: layout.samples,
            root: layout.root,
        };
        program.read_signature()?;
        Ok(program)
    }

    fn read_signature(&mut self) -> Result<()> {
        let ep = &self.exported;
        let (graph, signature) = (&ep.graph_module.graph, &ep.graph_module.signature);
        if graph.inputs.len() != signature.input_specs.len() || graph.outputs.len() != signature.output_specs.len() {
            bail!(
                invalid,
                "the signature has {} inputs and {} outputs, the graph {} and {}",
                signature.input_specs.len(),
                signature.output_specs.len(),
                graph.inputs.len(),
                graph.outputs.len()
            );
        }
        for spec in &signature.input_specs {
            let InputSpec::UserInput(holder) = spec else { continue };
            let (torch_name, dtype, sizes) = match &holder.arg {
                Argument::Tensor(name) => {
                    let Some(meta) = graph.tensor_values.get(name) else {
                        bail!(invalid, "the program does not state the type of its input `{name}`")
                    };
                    let Some(dtype) = schema::dtype_of(meta.dtype) else {
                        bail!(unsupported, "element type number {} of the input `{name}`", meta.dtype)
                    };
                    (name, dtype, &meta.sizes[..])
                }
                // An integer that may change from call to call is a tensor of rank 0 here.
                Argument::Symbolic(name) => (name, DType::I64, &[][..]),
                _ => continue,
            };
            for size in sizes {
                note_hint(&mut self.symbols, size);
            }
            self.inputs.push(Input {
                name: torch_name.clone(),
                dtype,
                dims: Vec::new(),
                torch_name: torch_name.clone(),
            });
        }
        naming::name_symbols(ep, &mut self.symbols, &self.inputs, &mut self.warnings);
        naming::set_ranges(ep, &mut self.symbols, &self.inputs, &mut self.conditions, &mut self.warnings);
        self.outputs = output_names(ep);
        self.restate_inputs()
    }

    /// Computes the dimensions of the inputs under the present names of the symbols.
    pub(crate) fn restate_inputs(&mut self) -> Result<()> {
        let graph = &self.exported.graph_module.graph;
        let mut seen: Vec<Symbol> = Vec::new();
        for input in &mut self.inputs {
            let Some(meta) = graph.tensor_values.get(&input.torch_name) else { continue };
            input.dims = meta.sizes.iter().map(|s| self.symbols.dim(s)).collect::<Result<_>>()?;
            if input.dims.iter().any(|d| d.as_const().is_some_and(|c| c < 0)) {
                bail!(invalid, "the input `{}` has a negative size", input.name);
            }
            for d in &input.dims {
                d.for_each_symbol(&mut |s| {
                    if !seen.contains(s) {
                        seen.push(s.clone());
                    }
                });
            }
        }
        self.dims =
            seen.into_iter().map(|s| (s.clone(), self.symbols.ranges.get(&s).copied().unwrap_or_default())).collect();
        Ok(())
    }

    /// The inputs that the model was exported with, by position; `None` when the file has none.
    ///
    /// # Errors
    /// When they hold something other than tensors and plain containers.
    pub fn sample_inputs(&self) -> Result<Option<Vec<Tensor>>> {
        let Some(member) = &self.samples else { return Ok(None) };
        let nested = self.archive.open_nested(self.archive.get(member)?).at(|| member)?;
        let tree = Pickle::load(&nested).and_then(|p| p.tree()).at(|| member)?;
        let mut tensors = Vec::new();
        flatten(&tree, &mut tensors);
        Ok(Some(tensors))
    }

    /// Names of the extra files (`extra_files=` of `torch.export.save`).
    pub fn extra_files(&self) -> Vec<&str> {
        let folder = format!("{}extra/", self.root);
        self.archive.names.iter().filter_map(|n| n.strip_prefix(folder.as_str())).collect()
    }
}

fn note_hint(symbols: &mut SymbolTable, size: &SymInt) {
    let SymInt::AsExpr(e) = size else { return };
    let hint = e.hint.as_ref().and_then(|h| h.as_int);
    if let (Some(name), Some(hint)) = (SymbolTable::plain(size), hint) {
        symbols.hints.insert(Symbol::new(&name), hint);
    }
}

/// Tensors and integers in the order of `tree_flatten`: positional arguments, then keywords.
fn flatten(tree: &Tree, out: &mut Vec<Tensor>) {
    match tree {
        Tree::Leaf(Value::Tensor(t)) => out.push(t.clone()),
        Tree::Leaf(Value::Int(x)) => out.push(Tensor::scalar(*x)),
        Tree::Leaf(_) => {}
        Tree::Tuple(items) | Tree::List(items) => items.iter().for_each(|t| flatten(t, out)),
        Tree::Dict(pairs) => pairs.iter().for_each(|(_, t)| flatten(t, out)),
    }
}

/// `output`, `output_1`, … or the names in the result's dict keys and fields.
fn output_names(ep: &ExportedProgram) -> Vec<String> {
    let calls = &ep.graph_module.module_call_graph;
    let spec = calls.iter().find(|c| c.fqn.is_empty()).and_then(|c| c.signature.as_ref());
    let leaves = spec.and_then(|s| pytree::leaf_names(&s.out_spec));
    let users: Vec<&Argument> = (ep.graph_module.signature.output_specs.iter())
        .filter_map(|s| match s {
            OutputSpec::UserOutput(holder) => Some(&holder.arg),
            _ => None,
        })
        .collect();
    let leaves = leaves.filter(|l| l.len() == users.len());
    let mut names: Vec<String> = Vec::new();
    for (i, arg) in users.iter().enumerate() {
        if matches!(arg, Argument::Scalar(crate::argument::ScalarArg::None)) {
            continue;
        }
        let leaf = leaves.as_ref().map_or("", |l| &l[i]);
        let base = match leaf {
            "" => "output".to_string(),
            l if l.bytes().all(|b| b.is_ascii_digit()) => "output".to_string(),
            l if l.as_bytes()[0].is_ascii_digit() => format!("output_{l}"),
            l => l.to_string(),
        };
        let mut name = base.clone();
        let mut k = 0;
        while names.contains(&name) {
            k += 1;
            name = format!("{base}_{k}");
        }
        names.push(name);
    }
    names
}

/// Where the parts of a program lie in the archive.
struct Layout {
    root: String,
    program: String,
    samples: Option<String>,
    kind: Kind,
}

enum Kind {
    /// torch ≥ 2.8: a root folder, `models/<name>.json`.
    Package { name: String },
    /// torch 2.4 … 2.7.
    Flat,
}

impl Layout {
    fn detect(archive: &Archive) -> Result<Layout> {
        let has = |name: &str| archive.find(name).is_some();
        if has("serialized_exported_program.json") {
            let samples = Some("serialized_example_inputs.pt".to_string()).filter(|n| has(n));
            let program = "serialized_exported_program.json".to_string();
            return Ok(Layout { root: String::new(), program, samples, kind: Kind::Flat });
        }
        let root = archive.names.first().and_then(|n| n.split_once('/')).map_or("", |(r, _)| r);
        let root = format!("{root}/");
        let folder = format!("{root}models/");
        let models: Vec<&str> =
            (archive.names.iter()).filter_map(|n| n.strip_prefix(folder.as_str())?.strip_suffix(".json")).collect();
        let name = match models[..] {
            [one] => one,
            _ if models.contains(&"model") => "model",
            [] => return Err(not_a_program(archive)),
            _ => {
                return Err(Error::unsupported(format!("the package holds several programs: {}", models.join(", ")))
                    .help("save the one you want with `torch.export.save`"));
            }
        };
        let samples = Some(format!("{root}data/sample_inputs/{name}.pt")).filter(|n| has(n));
        let program = format!("{folder}{name}.json");
        Ok(Layout { program, samples, kind: Kind::Package { name: name.to_string() }, root })
    }

    fn weights(&self, archive: &Archive) -> Result<Weights> {
        let mut weights = Weights::new();
        match &self.kind {
            Kind::Flat => {
                for member in ["serialized_state_dict.pt", "serialized_constants.pt"] {
                    load_saved(archive, member, &mut weights)?;
                }
            }
            Kind::Package { name } => {
                for kind in ["weights", "constants"] {
                    let folder = format!("{}data/{kind}/", self.root);
                    let config = format!("{folder}{name}_{kind}_config.json");
                    if archive.find(&config).is_some() {
                        let parsed: PayloadConfig = serde_json::from_str(archive.text(&config)?)
                            .map_err(|e| Error::invalid(format!("`{config}`: {e}")))?;
                        weights.add_config(folder, parsed);
                    } else {
                        load_saved(archive, &format!("{folder}{name}.pt"), &mut weights)?;
                    }
                }
            }
        }
        Ok(weights)
    }
}

/// A dict of tensors written by torch.save inside the archive (torch ≤ 2.8).
fn load_saved(archive: &Archive, member: &str, weights: &mut Weights) -> Result<()> {
    let Some(span) = archive.find(member).filter(|s| s.len > 0) else { return Ok(()) };
    let nested = archive.open_nested(span).at(|| member)?;
    let tree = Pickle::load(&nested).and_then(|p| p.tree()).at(|| member)?;
    let Tree::Dict(pairs) = tree else { bail!(invalid, "`{member}` does not hold a dict") };
    let tensors = pairs.into_iter().filter_map(|pair| match pair {
        (Tree::Leaf(Value::Text(name)), Tree::Leaf(Value::Tensor(t))) => Some((name, t)),
        _ => None,
    });
    weights.loaded.extend(tensors.collect::<FxHashMap<_, _>>());
    Ok(())
}

fn not_a_program(archive: &Archive) -> Error {
    let any = |part: &str| archive.names.iter().any(|n| n.contains(part));
    let error = Error::invalid("the archive holds no exported program");
    if any("data/aotinductor/") {
        return error.help("this is a compiled package; bring the `.pt2` of `torch.export.save` instead");
    }
    if any("constants.pkl") && any("code/") {
        return error.help("this is a TorchScript file; export the model with `torch.export.export` instead");
    }
    if any("data.pkl") {
        return error.help("this is a checkpoint (weights only); build the model, then `torch.export.export` it");
    }
    error.help("make one with `torch.export.save(torch.export.export(model, args), \"model.pt2\")`")
}
