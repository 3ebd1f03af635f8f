//! TorchScript files: what `torch.jit.save` writes of a scripted or traced module.
//!
//! The archive holds the modules' attributes as a pickle and their methods as source text of a small language.
//! Nothing of it is executed: `parser` reads the text, `interp` evaluates it on values of the graph with the same
//! lowering of ATen operators as exported programs have. Branches and loops that the data decides become `If` and
//! `Loop`.
//!
//! * `lexer`, `parser`, `ast`, `code`: the text.
//! * `value`, `load`, `inputs`: values, the object tree, what `forward` takes.
//! * `interp`, `builtins`, `containers`, `numbers`, `text`: evaluation; `call`, `overload`, `meta`: ATen operators.
//! * `fold`: numbers that constants decide; `control`, `loops`, `region`: subgraphs.

mod ast;
mod builtins;
mod call;
mod code;
mod containers;
mod control;
mod fold;
mod inputs;
mod interp;
mod lexer;
mod load;
mod loops;
mod meta;
mod numbers;
mod overload;
mod parser;
mod region;
mod text;
mod value;

use crate::archive::Archive;
use crate::cx::Cx;
use crate::import::{ImportOptions, Imported, make_names_unique, rename};
use crate::pickle::Pickle;
use crate::symbols::SymbolTable;
use code::Code;
use inputs::Spec;
use interp::Interp;
use load::Loader;
use oxrt_ir::{Model, ValueId};
use oxrt_ops::Builder;
use oxrt_tensor::{Context, Error, Result, bail};
use rustc_hash::FxHashSet;
use std::rc::Rc;
use value::{Cell, Sv};

/// Stack of the evaluating thread: nested calls of the script are nested calls here.
const STACK_BYTES: usize = 512 << 20;

/// The archive's folder, with its slash, when it is a TorchScript file.
pub(crate) fn root_of(archive: &Archive) -> Option<String> {
    let data = archive.names.iter().find(|n| *n == "data.pkl" || n.ends_with("/data.pkl"))?;
    let root = data.strip_suffix("data.pkl")?;
    let code = format!("{root}code/");
    archive.names.iter().any(|n| n.starts_with(&code)).then(|| root.to_string())
}

/// Imports the method `forward` of a script.
pub(crate) fn import_script(archive: &Archive, root: &str, options: &ImportOptions) -> Result<Imported> {
    std::thread::scope(|s| {
        let worker = std::thread::Builder::new().name("script".into()).stack_size(STACK_BYTES);
        let handle = worker.spawn_scoped(s, || evaluate(archive, root, options))?;
        handle.join().unwrap_or_else(|_| Err(Error::bug("the evaluation of the script panicked")))
    })
}

fn evaluate(archive: &Archive, root: &str, options: &ImportOptions) -> Result<Imported> {
    let code = Code::new(archive, root.to_string());
    let data = Pickle::load_member(archive, &format!("{root}data"))?;
    let mut model = Model { producer: "torch.jit".to_string(), opset: 23, ..Model::default() };
    model.graph.name = "main".to_string();
    let mut cx: Cx<'static, '_> = Cx {
        b: Builder::new(&mut model.graph, &mut model.symbols),
        symbols: SymbolTable::default(),
        slots: Vec::new(),
        scopes: vec![region::empty_scope()],
        autocast: None,
        complex: FxHashSet::default(),
        warnings: Vec::new(),
        problems: Vec::new(),
        taken: FxHashSet::default(),
        last_source: None,
        assumed: Default::default(),
    };
    let mut me = Interp::new(&code);
    let cx_ = &mut cx;
    let top = Loader::new(&data).root(cx_, &mut me.heap, "")?;
    if archive.names.iter().any(|n| *n == format!("{root}constants.pkl")) {
        let constants = Pickle::load_member(archive, &format!("{root}constants"))?;
        let loaded = Loader::new(&constants).root(cx_, &mut me.heap, "")?;
        me.constants = me.items(&loaded).at(|| "the constants of the archive")?;
    }
    let Sv::Object(module) = top else { bail!(invalid, "the archive holds no module") };
    let Cell::Object { class, fields, .. } = me.heap.get(module) else { bail!(bug, "a module that is none") };
    if fields.iter().any(|(n, v)| &**n == "training" && matches!(v, Sv::Bool(true))) {
        cx_.warn("the module was saved in training mode; call `model.eval()` before `torch.jit.save`".into());
    }
    let class = class.clone();
    let Some((file, i)) = code.class(&class)? else { bail!(invalid, "the archive lacks the class {class}") };
    let forward = file.class(i).methods.iter().find(|m| &*m.name == "forward").cloned();
    let Some(forward) = forward else { bail!(unsupported, "the module has no method `forward`") };

    // Arguments: as the user states them, else as traced, else by their defaults.
    let stated = options.inputs.iter().map(|t| inputs::parse_option(t)).collect::<Result<Vec<_>>>()?;
    let params: Vec<(Rc<str>, String)> = forward.params[1.min(forward.params.len())..]
        .iter()
        .map(|p| (p.name.clone(), inputs::show_type(&p.ty)))
        .collect();
    inputs::check_names(&stated, &params)?;
    let traced = match archive.names.iter().any(|n| *n == format!("{root}traced_inputs.pkl")) {
        true => inputs::traced(&Pickle::load_member(archive, &format!("{root}traced_inputs"))?),
        false => None,
    };
    // Traced modules may pass tied weights along; only the user's inputs are recorded.
    let mut args = Vec::new();
    for (i, p) in forward.params.iter().enumerate().skip(1) {
        let by_user = inputs::place(&stated, &p.name, &p.ty)?;
        let spec = by_user.or_else(|| traced.as_ref().and_then(|t| t.get(i - 1).cloned()));
        match spec {
            Some(spec) => args.push(me.bind_input(cx_, &p.name, &spec, &options.dims)?),
            None => match &p.default {
                Some(_) => break,
                None if inputs::show_type(&p.ty).starts_with("Optional") => {
                    args.push(me.bind_input(cx_, &p.name, &Spec::None, &options.dims)?)
                }
                None => return Err(inputs::missing(&params, &p.name)),
            },
        }
    }
    let known: Vec<String> = cx_.b.symbols.iter().map(|(s, _)| s.as_str().to_string()).collect();
    for o in &options.dims {
        let place = o.dim.contains(':');
        if !place && !known.contains(&o.dim) {
            let known = if known.is_empty() { "none".to_string() } else { known.join(", ") };
            return Err(Error::invalid(format!("there is no dynamic dimension `{}`; there are: {known}", o.dim))
                .help("name a place (`--dim x:0=batch`) or use the name in `--input x=f32[batch,3,224,224]`"));
        }
    }
    let result = me.call_method(cx_, module, "forward", args, Vec::new())?;

    // Results.
    cx.b.prefix.clear();
    cx.b.source = None;
    let mut outputs = Vec::new();
    flatten(&mut me, &mut cx, &result, "output", &mut outputs, 0)?;
    if outputs.is_empty() {
        bail!(unsupported, "`forward` returns no tensor");
    }
    let mut names: Vec<String> = Vec::new();
    for (name, _) in &outputs {
        let mut unique = name.clone();
        let mut k = 0;
        while names.contains(&unique) || cx.b.graph.inputs.iter().any(|&v| cx.b.graph[v].name == unique) {
            k += 1;
            unique = format!("{name}_{k}");
        }
        names.push(unique);
    }
    rename(names.iter_mut().collect(), &options.output_names, "output")?;
    let mut done: FxHashSet<ValueId> = FxHashSet::default();
    for ((_, v), name) in outputs.into_iter().zip(names) {
        let made_here = cx.b.graph[v].producer().is_some() && done.insert(v);
        let v = if made_here { v } else { cx.call("Identity", &[v])? };
        cx.b.graph[v].name = name;
        cx.b.graph.outputs.push(v);
    }
    let warnings = std::mem::take(&mut cx.warnings);
    let inputs = cx.b.graph.inputs.clone();
    let mut input_names: Vec<String> = inputs.iter().map(|&v| cx.b.graph[v].name.clone()).collect();
    rename(input_names.iter_mut().collect(), &options.input_names, "input")?;
    for (v, name) in inputs.into_iter().zip(input_names) {
        cx.b.graph[v].name = name;
    }
    make_names_unique(cx.b.graph);
    crate::widen::widen(&mut model.graph)?;
    model.graph.remove_dead_nodes();
    model.graph = model.graph.compacted();
    model.graph.verify().at(|| "the imported graph")?;
    Ok(Imported { model, samples: Vec::new(), warnings, torch_version: String::new() })
}

/// Every tensor and number of a result, with a name for each.
fn flatten(
    me: &mut Interp,
    cx: &mut Cx<'static, '_>,
    v: &Sv,
    name: &str,
    out: &mut Vec<(String, ValueId)>,
    depth: usize,
) -> Result<()> {
    if depth > 16 {
        bail!(unsupported, "a result nested deeper than 16");
    }
    match v {
        Sv::None => Ok(()),
        Sv::Tensor(id) => {
            out.push((name.to_string(), cx.read(*id)?));
            Ok(())
        }
        Sv::Tuple(items) => items.iter().try_for_each(|i| flatten(me, cx, i, name, out, depth + 1)),
        Sv::NamedTuple(_, fields) => fields.iter().try_for_each(|(n, v)| flatten(me, cx, v, n, out, depth + 1)),
        Sv::List(r) | Sv::Dict(r) => match me.heap.get(*r).clone() {
            Cell::List(items) => items.iter().try_for_each(|i| flatten(me, cx, i, name, out, depth + 1)),
            Cell::Dict(pairs) => pairs.iter().try_for_each(|(k, v)| {
                let name = me.show(k);
                flatten(me, cx, v, &name, out, depth + 1)
            }),
            Cell::Sequence(v) => {
                out.push((name.to_string(), v));
                Ok(())
            }
            Cell::Object { .. } => bail!(bug, "a container that is an object"),
        },
        Sv::Int(_) | Sv::Float(_) | Sv::SymFloat(_) | Sv::Bool(_) | Sv::Scalar(_) => {
            let v = me.scalar_value(cx, v)?;
            out.push((name.to_string(), v));
            Ok(())
        }
        Sv::Text(_) | Sv::Device(_) => Ok(()),
        other => bail!(unsupported, "`forward` returns a {}", other.kind()),
    }
}
