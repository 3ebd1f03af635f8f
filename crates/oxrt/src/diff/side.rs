//! One of the two that are compared.

use super::NodePlace;
use crate::engine::{Device, Engine};
use crate::model::{BuildOptions, Kind, Model, file_kind};
use oxrt_ir::{Dim, Graph, NodeId, Symbol, ValueId};
use oxrt_ops::Datum;
use oxrt_passes::CHANNELS_LAST;
use oxrt_plan::StepKind;
use oxrt_tensor::{Context, Error, Result, Tensor, npy, strides_of};
use oxrt_verify::unravel;
use std::collections::{BTreeMap, HashMap};
use std::path::Path;

/// A value of a side.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub value: ValueId,
    /// Its axes stand in channels-last order.
    pub is_last: bool,
}

impl Found {
    /// The tensor in channels-first order.
    pub fn read(self, t: &Tensor) -> Result<Tensor> {
        if self.is_last { turned(t, &to_first(t.rank())) } else { Ok(t.clone()) }
    }

    /// The tensor as the side holds it.
    pub fn write(self, t: Tensor) -> Result<Tensor> {
        if self.is_last { turned(&t, &to_last(t.rank())) } else { Ok(t) }
    }
}

/// [N, spatial…, C] → [N, C, spatial…]
fn to_first(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain((rank > 1).then(|| rank - 1)).chain(1..rank.saturating_sub(1)).collect()
}

/// [N, C, spatial…] → [N, spatial…, C]
fn to_last(rank: usize) -> Vec<usize> {
    std::iter::once(0).chain(2..rank).chain((rank > 1).then_some(1)).collect()
}

fn turned(t: &Tensor, perm: &[usize]) -> Result<Tensor> {
    let shape: Vec<usize> = perm.iter().map(|&p| t.shape()[p]).collect();
    let strides = strides_of(t.shape());
    let (size, from) = (t.dtype().bytes_for(1), t.bytes());
    let mut bytes = Vec::with_capacity(from.len());
    for i in 0..t.len() {
        let at: usize = unravel(i, &shape).iter().zip(perm).map(|(x, &p)| x * strides[p]).sum();
        bytes.extend_from_slice(&from[at * size..(at + 1) * size]);
    }
    Tensor::from_bytes(t.dtype(), &shape, &bytes)
}

/// A side of a comparison: something that runs, or tensors that were saved.
#[derive(Clone)]
pub enum Side {
    /// An engine, or a model run by the reference evaluator (`is_model`).
    Engine { engine: Engine, is_model: bool },
    /// Tensors by name: inputs, outputs, and what lies between.
    Tensors(BTreeMap<String, Tensor>),
}

impl Side {
    /// Any file: `.pt2`, `.pt`, `.cfg` and `.onnx` are run by the reference evaluator, an engine by its kernels, `.npz` is taken
    /// as it is.
    ///
    /// # Errors
    /// As opening the file.
    pub fn open(path: &Path, threads: usize) -> Result<Side> {
        if path.extension().is_some_and(|e| e == "npz") {
            return Ok(Side::Tensors(npy::read_npz(path)?));
        }
        match file_kind(path)? {
            Kind::Engine => Ok(Side::of_engine(&Engine::open_with(path, threads)?)),
            _ => Side::of_model(&Model::open(path)?).at(|| path.display()),
        }
    }

    pub fn of_engine(engine: &Engine) -> Side {
        Side::Engine { engine: engine.clone(), is_model: false }
    }

    /// The model as it stands, node by node, by the reference evaluator. Its assertions are left out: they say nothing of its
    /// numbers.
    ///
    /// # Errors
    /// Operators without meaning.
    pub fn of_model(model: &Model) -> Result<Side> {
        let mut model = model.clone();
        oxrt_passes::drop_assertions(&mut model.ir.graph);
        let options = BuildOptions { device: Device::Reference, no_fusion: true, ..BuildOptions::default() };
        Ok(Side::Engine { engine: model.build(&options)?, is_model: true })
    }

    pub(crate) fn engine(&self) -> Option<&Engine> {
        match self {
            Side::Engine { engine, .. } => Some(engine),
            Side::Tensors(_) => None,
        }
    }

    pub(crate) fn graph(&self) -> Option<&Graph> {
        self.engine().map(|e| &e.plan().graph)
    }

    /// Inputs in the side's order: by its names, else by place.
    pub(crate) fn order_inputs(&self, inputs: &[(String, Tensor)]) -> Result<Vec<Datum>> {
        let Some(engine) = self.engine() else { return Ok(Vec::new()) };
        let ports = engine.inputs();
        let by_name = ports.iter().all(|p| inputs.iter().any(|(n, _)| *n == p.name));
        if !by_name && ports.len() != inputs.len() {
            let have: Vec<&str> = inputs.iter().map(|(n, _)| n.as_str()).collect();
            let want: Vec<&str> = ports.iter().map(|p| p.name.as_str()).collect();
            return Err(Error::invalid(format!(
                "inputs {} are needed, {} are given",
                want.join(", "),
                have.join(", ")
            )));
        }
        let find = |(i, p): (usize, &crate::Port)| match by_name {
            true => inputs.iter().find(|(n, _)| *n == p.name).map(|(_, t)| t).unwrap_or(&inputs[i].1),
            false => &inputs[i].1,
        };
        ports.iter().enumerate().map(|(i, p)| Ok(crate::input::convert(find((i, p)).clone(), p)?.into())).collect()
    }

    /// Where a node comes from, with its kernel.
    pub(crate) fn place(&self, id: NodeId) -> NodePlace {
        let Some(engine) = self.engine() else { return NodePlace::default() };
        let plan = engine.plan();
        let kernel = plan.steps.iter().find(|s| s.node == id).map(|s| match &s.kind {
            StepKind::Kernel { .. } => s.kind.candidate().unwrap_or_default().to_string(),
            StepKind::Alias => "alias".to_string(),
            StepKind::Host => "reference".to_string(),
        });
        NodePlace { kernel: kernel.unwrap_or_default(), ..NodePlace::of(&plan.graph, id) }
    }

    /// Results of nodes that are tensors, by name. A name that two values bear means neither. A value that an engine has in
    /// channels-last layout alone stands under its own name.
    pub(crate) fn results(&self) -> HashMap<String, Found> {
        let mut plain: HashMap<String, Option<ValueId>> = HashMap::new();
        let mut last: HashMap<String, Option<ValueId>> = HashMap::new();
        let Some(g) = self.graph() else { return HashMap::new() };
        for v in g.nodes().flat_map(|(_, n)| n.outputs().iter().flatten().copied()) {
            let (list, name) = match g[v].name.strip_suffix(CHANNELS_LAST) {
                Some(name) => (&mut last, name),
                None => (&mut plain, g[v].name.as_str()),
            };
            list.entry(name.to_string()).and_modify(|x| *x = None).or_insert(Some(v));
        }
        let found = |list: HashMap<String, Option<ValueId>>, is_last: bool| {
            list.into_iter().filter_map(move |(n, v)| Some((n, Found { value: v?, is_last })))
        };
        let mut all: HashMap<String, Found> = found(last, true).collect();
        all.extend(found(plain, false));
        all
    }

    /// The graph for these inputs: sizes are numbers, and values that follow from them constants.
    pub(crate) fn concrete(&self, inputs: &[Datum]) -> Option<Graph> {
        let mut g = self.graph()?.clone();
        let mut sizes: BTreeMap<Symbol, i64> = BTreeMap::new();
        for (&v, datum) in g.inputs.iter().zip(inputs) {
            let shape = datum.as_tensor().map(Tensor::shape).unwrap_or_default();
            for (d, &size) in g.dims(v).unwrap_or_default().iter().zip(shape) {
                if let Some((s, x)) = d.solve(Some(size as i64), &|s| sizes.get(s).copied()) {
                    sizes.insert(s, x);
                }
            }
        }
        for v in g.value_ids() {
            let ty = g[v].ty.substitute(&|s| sizes.get(s).map(|&x| Dim::Const(x)));
            g[v].ty = ty;
            let computed = g[v].producer().is_none() && !g[v].is_constant() && !g.inputs.contains(&v);
            let Some(contents) = g[v].contents.as_mut() else { continue };
            contents.elements.iter_mut().for_each(|d| *d = d.substitute(&|s| sizes.get(s).map(|&x| Dim::Const(x))));
            let dtype = g[v].ty.dtype().unwrap_or(oxrt_ir::DType::I64);
            if let (true, Some(t)) = (computed, g[v].contents.as_ref().and_then(|c| c.to_tensor(dtype))) {
                g.set_constant(v, t);
            }
        }
        Some(g)
    }
}
