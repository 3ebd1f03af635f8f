//! Ways to run a model: the engine with fixed or dynamic sizes, the reference evaluator, inference against what it
//! evaluates to.

use oxrt::ir::{Contents, Graph, ValueType};
use oxrt::onnx::{name_sizes, read_bytes};
use oxrt::ops::infer::{contradiction, infer_model};
use oxrt::ops::{Datum, Interpreter};
use oxrt::{BuildOptions, Device, Engine, Error, Model, Result, TensorView};
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Which sizes of a model's inputs are dynamic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Sizes {
    /// None: as in the file.
    Fixed,
    /// All but 1; equal sizes are the same dimension, so that kernels see known broadcasting.
    Shared,
    /// All, each a dimension of its own.
    Free,
}

impl Sizes {
    pub const ALL: [Sizes; 3] = [Sizes::Fixed, Sizes::Shared, Sizes::Free];

    fn name(self, input: usize, axis: usize, size: i64) -> Option<String> {
        match self {
            Sizes::Fixed => None,
            Sizes::Shared => (size != 1).then(|| format!("n{size}")),
            Sizes::Free => Some(format!("n{input}_{axis}")),
        }
    }
}

/// Reads a model with dynamic sizes: of all inputs, or where its own shapes would not fit any more (sizes that an
/// attribute or a constant repeats), of as many inputs as possible.
pub fn read_with_sizes(bytes: &[u8], sizes: Sizes) -> Result<oxrt::ir::Model> {
    if sizes == Sizes::Fixed {
        return read_bytes(bytes);
    }
    let inputs = RefCell::new(Vec::<String>::new());
    let named = |skip: &BTreeSet<usize>| {
        let bytes = name_sizes(bytes, &mut |input, axis, size| {
            let mut inputs = inputs.borrow_mut();
            let at = inputs.iter().position(|i| i == input).unwrap_or_else(|| {
                inputs.push(input.to_string());
                inputs.len() - 1
            });
            if skip.contains(&at) { None } else { sizes.name(at, axis, size) }
        })?;
        read_bytes(&bytes)
    };
    let all = named(&BTreeSet::new());
    if all.is_ok() {
        return all;
    }
    let mut skip: BTreeSet<usize> = (0..inputs.borrow().len()).collect();
    for i in 0..skip.len() {
        skip.remove(&i);
        if named(&skip).is_err() {
            skip.insert(i);
        }
    }
    named(&skip)
}

/// Builds and runs the optimised engine. The second run of the same session finds its memory used.
pub fn run_engine(
    model: oxrt::ir::Model,
    inputs: &[Datum],
    threads: usize,
    device: Device,
) -> Result<(Engine, Vec<Datum>)> {
    let engine = Model::from_ir(model).build(&BuildOptions { threads, device, ..BuildOptions::default() })?;
    let mut session = engine.session();
    let views: Option<Result<Vec<TensorView>>> =
        inputs.iter().map(|d| d.as_tensor().filter(|t| t.strings().is_none()).map(|t| t.view())).collect();
    let plain = |ty: &ValueType| ty.as_tensor().is_some_and(|t| t.dtype != oxrt::DType::String);
    let outputs = match views {
        Some(views) if engine.outputs().iter().all(|p| plain(&p.ty)) && engine.is_static() => {
            let views = views?;
            session.run_ordered(&views)?;
            let outputs = session.run_ordered(&views)?;
            outputs.iter().map(|v| Ok(v.to_tensor()?.into())).collect::<Result<_>>()?
        }
        _ => session.run_datums(inputs.to_vec())?,
    };
    Ok((engine, outputs))
}

/// Runs by the reference evaluator alone. The second result says whether inference, from nothing but inputs whose
/// elements are known, found type and size of every value in the graph and its subgraphs; what the file states of
/// them is not used. It names the first value that it knows too little of.
///
/// # Errors
/// When evaluation fails, or contradicts what was inferred.
pub fn run_reference(model: &oxrt::ir::Model, inputs: &[Datum]) -> Result<(Vec<Datum>, Result<()>)> {
    let (known, gap) = match infer_from(model, inputs) {
        Ok(known) => (known, None),
        Err(e) => (model.clone(), Some(e)),
    };
    let gap = RefCell::new(gap);
    let outputs = Interpreter::new(&known.graph).run_observed(inputs.to_vec(), &|g, id, results| {
        if let Some(e) = contradiction(g, id, results, false) {
            return Err(Error::bug(e));
        }
        if gap.borrow().is_none() {
            *gap.borrow_mut() = contradiction(g, id, results, true).map(Error::unsupported);
        }
        Ok(())
    })?;
    Ok((outputs, gap.into_inner().map_or(Ok(()), Err)))
}

/// The model with types that follow from these inputs alone.
fn infer_from(model: &oxrt::ir::Model, inputs: &[Datum]) -> Result<oxrt::ir::Model> {
    let mut model = model.clone();
    forget(&mut model.graph);
    for (v, datum) in model.graph.inputs.clone().into_iter().zip(inputs) {
        if let Datum::Tensor(t) = datum {
            model.graph[v].ty = oxrt::ir::TensorType::of(t).into();
            model.graph[v].contents = Contents::of(t);
            model.graph[v].constant = Some(t.clone());
        }
    }
    infer_model(&mut model)?;
    Ok(model)
}

/// Takes away what is known of values that nodes make.
fn forget(g: &mut Graph) {
    for v in g.value_ids() {
        if g[v].producer().is_some() {
            g[v].ty = ValueType::Unknown;
            g[v].contents = None;
        }
    }
    for id in g.node_ids() {
        g.edit_attrs(id, |attrs| {
            for (_, attr) in attrs.0.iter_mut() {
                match attr {
                    oxrt::ir::Attr::Graph(body) => forget(body),
                    oxrt::ir::Attr::Graphs(bodies) => bodies.iter_mut().for_each(forget),
                    _ => {}
                }
            }
        });
    }
}
