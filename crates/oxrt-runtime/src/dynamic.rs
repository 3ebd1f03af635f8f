//! Runs step by step when sizes depend on data: every buffer is made when its size is known.

use crate::binding::known_tensor;
use crate::bodies::runner;
use crate::context::StepProfile;
use crate::engine::{Engine, Inner};
use crate::sizes::{Sizes, shape_of};
use oxrt_backend::{ALIGN, BindArgs, BindInput, Io};
use oxrt_ir::{Contents, Node, ValueId, ValueType};
use oxrt_ops::Datum;
use oxrt_ops::eval::{eval_node, eval_node_by};
use oxrt_plan::StepKind;
use oxrt_tensor::{Context as _, DType, Error, Result, Tensor, bail};
use std::collections::HashMap;
use std::time::Instant;

/// Sees each result of a run step by step, with the number of its step in the plan.
pub type Watch<'a> = &'a mut dyn FnMut(usize, ValueId, &Datum) -> Result<Seen>;

/// What becomes of a value that was seen.
#[derive(Clone, Debug)]
pub enum Seen {
    Keep,
    /// The steps that follow read this instead.
    Replace(Datum),
    /// The run ends here.
    Stop,
}

pub(crate) fn run(inner: &Inner, inputs: Vec<Datum>, profile: Option<&mut Vec<StepProfile>>) -> Result<Vec<Datum>> {
    let outputs = run_watched(inner, inputs, profile, &mut |_, _, _| Ok(Seen::Keep))?;
    outputs.ok_or_else(|| Error::bug("a run stopped that nobody watched"))
}

/// Outputs; `None` when the watch stopped the run.
pub(crate) fn run_watched(
    inner: &Inner,
    inputs: Vec<Datum>,
    mut profile: Option<&mut Vec<StepProfile>>,
    watch: Watch,
) -> Result<Option<Vec<Datum>>> {
    let plan = &inner.plan;
    let g = &plan.graph;
    if inputs.len() != g.inputs.len() {
        bail!(invalid, "the engine takes {} inputs, given {}", g.inputs.len(), inputs.len());
    }
    let mut sizes = input_sizes(inner, &inputs)?;
    let mut remaining: HashMap<ValueId, usize> = HashMap::new();
    for step in &plan.steps {
        for v in g.reads(step.node) {
            *remaining.entry(v).or_default() += 1;
        }
    }
    for &v in &g.outputs {
        *remaining.entry(v).or_default() += 1;
    }
    for (v, datum) in g.inputs.iter().zip(&inputs) {
        if let Datum::Tensor(t) = datum {
            learn_elements(g[*v].contents.as_ref(), t, &mut sizes)?;
        }
    }
    let mut env: HashMap<ValueId, Datum> = g.inputs.iter().copied().zip(inputs).collect();
    for (index, step) in plan.steps.iter().enumerate() {
        let node = &g[step.node];
        let started = Instant::now();
        let lookup = |v: ValueId| -> Result<Option<Datum>> {
            match env.get(&v) {
                Some(d) => Ok(Some(d.clone())),
                None => Ok(known_tensor(plan, v, &sizes)?.map(Datum::Tensor)),
            }
        };
        let ins = node
            .inputs()
            .iter()
            .map(|v| v.map_or(Ok(None), lookup))
            .collect::<Result<Vec<_>>>()
            .at(|| node.describe())?;
        let mut flops = 0;
        let outs = match &step.kind {
            StepKind::Kernel { consumed, .. } => {
                // A size that no earlier result told (a factor of zero hid it): the evaluator finds it out.
                let told = node.outputs().iter().flatten().all(|v| shape_of(&g[*v].ty, &sizes).is_some());
                match told || !consumed.is_empty() {
                    true => run_kernel(inner, index, node, &ins, consumed, &sizes, &mut flops),
                    false => eval_node(node, &ins, &|v| lookup(v).ok().flatten()),
                }
            }
            StepKind::Alias => alias(node, &ins, g[node.output(0).unwrap_or(ValueId(0))].ty.clone(), &sizes),
            StepKind::Host => eval_node_by(node, &ins, &|v| lookup(v).ok().flatten(), &runner(inner)),
        };
        let outs = outs.at(|| node.describe())?;
        if let Some(p) = profile.as_deref_mut() {
            let kernel = match &step.kind {
                StepKind::Kernel { candidate, .. } => candidate.clone(),
                _ => "reference".into(),
            };
            let bytes =
                ins.iter().flatten().chain(&outs).filter_map(Datum::as_tensor).map(|t| t.bytes().len() as u64).sum();
            let seconds = started.elapsed().as_secs_f64();
            p.push(StepProfile { name: node.name.clone(), op: node.op.to_string(), kernel, seconds, flops, bytes });
        }
        drop(ins);
        for v in g.reads(step.node) {
            let left = remaining.get_mut(&v).ok_or_else(|| Error::bug("uses out of step"))?;
            *left -= 1;
            if *left == 0 {
                env.remove(&v);
            }
        }
        for (v, datum) in node.outputs().iter().zip(outs) {
            let Some(v) = *v else { continue };
            let datum = match watch(index, v, &datum)? {
                Seen::Keep => datum,
                Seen::Replace(other) => other,
                Seen::Stop => return Ok(None),
            };
            if let Datum::Tensor(t) = &datum {
                learn(&g[v].ty, t.shape(), &mut sizes);
                // Kernels trust sizes that were inferred, so a wrong one must not get through.
                if let Some(told) = shape_of(&g[v].ty, &sizes).filter(|told| told != t.shape()) {
                    return Err(Error::bug(format!("inferred {told:?}, found {t:?}")).at(node.describe()));
                }
                learn_elements(g[v].contents.as_ref(), t, &mut sizes)?;
            }
            if remaining.contains_key(&v) {
                env.insert(v, datum);
            }
        }
    }
    let outputs = g.outputs.iter().map(|&v| match env.get(&v) {
        Some(d) => Ok(d.clone()),
        None => known_tensor(plan, v, &sizes)?
            .map(Datum::Tensor)
            .ok_or_else(|| Error::bug(format!("output `{}` was not made", g[v].name))),
    });
    outputs.collect::<Result<Vec<Datum>>>().map(Some)
}

/// Sizes of the symbols, from the inputs that are tensors.
fn input_sizes(inner: &Inner, inputs: &[Datum]) -> Result<Sizes> {
    let shapes: Vec<(DType, &[usize])> = inputs
        .iter()
        .zip(&inner.inputs)
        .map(|(d, p)| match d {
            Datum::Tensor(t) => Ok((t.dtype(), t.shape())),
            // Ports of other kinds are not looked at.
            _ if p.ty.as_tensor().is_none() => Ok((DType::F32, &[][..])),
            _ => Err(Error::invalid(format!("input `{}` should be a tensor", p.name))),
        })
        .collect::<Result<_>>()?;
    Engine::sizes(inner, &shapes)
}

/// Learns sizes that depend on data from the shape of a result.
fn learn(ty: &ValueType, shape: &[usize], sizes: &mut Sizes) {
    let Some(dims) = ty.dims() else { return };
    for (d, &size) in dims.iter().zip(shape) {
        if let Some((s, value)) = d.solve(Some(size as i64), &|s| sizes.get(s).copied()) {
            sizes.insert(s, value);
        }
    }
}

/// Learns sizes that were computed from data from the elements of a result.
fn learn_elements(contents: Option<&Contents>, t: &Tensor, sizes: &mut Sizes) -> Result<()> {
    let Some(contents) = contents.filter(|c| c.elements.iter().any(|d| d.as_symbol().is_some())) else { return Ok(()) };
    for (d, size) in contents.elements.iter().zip(t.to_i64_vec()?) {
        if let Some(s) = d.as_symbol() {
            sizes.entry(s.clone()).or_insert(size);
        }
    }
    Ok(())
}

fn alias(node: &Node, ins: &[Option<Datum>], ty: ValueType, sizes: &Sizes) -> Result<Vec<Datum>> {
    let Some(Some(Datum::Tensor(x))) = ins.first() else { return eval_node(node, ins, &|_| None) };
    match shape_of(&ty, sizes) {
        Some(shape) => Ok(vec![x.reshaped(&shape)?.into()]),
        None => eval_node(node, ins, &|_| None),
    }
}

/// A block for kernel scratch memory.
fn scratch(bytes: usize) -> Result<Tensor> {
    Tensor::try_zeros(DType::U8, &[bytes.max(ALIGN)])
}

fn run_kernel(
    inner: &Inner,
    index: usize,
    node: &Node,
    ins: &[Option<Datum>],
    consumed: &[usize],
    sizes: &Sizes,
    flops: &mut u64,
) -> Result<Vec<Datum>> {
    let g = &inner.plan.graph;
    let mut shapes = Vec::with_capacity(ins.len());
    for (i, (datum, v)) in ins.iter().zip(node.inputs()).enumerate() {
        shapes.push(match (datum, v) {
            (_, None) => None,
            (Some(Datum::Tensor(t)), _) => Some(t.shape().to_vec()),
            (None, Some(v)) if consumed.contains(&i) => shape_of(&g[*v].ty, sizes),
            _ => bail!(bug, "input {i} is not there"),
        });
    }
    // What a bound run would know, and sizes that the data told, fix how a kernel works; other data must not.
    let known: Vec<Option<Tensor>> = (node.inputs().iter().zip(ins))
        .map(|(v, datum)| match (v, datum) {
            (None, _) => Ok(None),
            (Some(v), Some(Datum::Tensor(t))) if g[*v].contents.is_some() => Ok(Some(t.clone())),
            (Some(v), _) => known_tensor(&inner.plan, *v, sizes),
        })
        .collect::<Result<_>>()?;
    let inputs: Vec<_> = (0..ins.len())
        .map(|i| shapes[i].as_deref().map(|shape| BindInput { shape, value: known[i].as_ref() }))
        .collect();
    let mut outs = Vec::new();
    for v in node.outputs() {
        outs.push(match v {
            None => None,
            Some(v) => {
                let shape = shape_of(&g[*v].ty, sizes)
                    .ok_or_else(|| Error::bug(format!("the size of `{}` {} is unknown", g[*v].name, g[*v].ty)))?;
                Some(Tensor::try_zeros(g[*v].ty.dtype().unwrap_or(DType::F32), &shape)?)
            }
        });
    }
    let kernel = inner.kernels[index].as_ref().ok_or_else(|| Error::bug("the step has no kernel"))?;
    let out_shapes: Vec<Option<&[usize]>> = outs.iter().map(|t| t.as_ref().map(Tensor::shape)).collect();
    let bound = kernel.bind(&BindArgs { inputs: &inputs, outputs: &out_shapes })?;
    *flops = bound.flops();
    if let Some(on) = &inner.device {
        crate::device::run_alone(on, &*bound, ins, consumed, &mut outs, index)?;
    } else {
        let mut workspace = scratch(bound.workspace_bytes())?;
        let in_ptrs: Vec<*const u8> = ins
            .iter()
            .map(|d| d.as_ref().and_then(Datum::as_tensor).map_or(std::ptr::null(), |t| t.bytes().as_ptr()))
            .collect();
        let out_ptrs: Vec<*mut u8> =
            outs.iter_mut().map(|t| t.as_mut().map_or(std::ptr::null_mut(), |t| t.bytes_mut().as_mut_ptr())).collect();
        let workspace = workspace.bytes_mut().as_mut_ptr();
        let io = Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace, device: Default::default() };
        // SAFETY: shapes are those bound, and every output has memory of its own.
        unsafe { bound.run(&io) }?;
    }
    Ok(outs.into_iter().map(|t| Datum::Tensor(t.unwrap_or_else(|| Tensor::zeros(DType::F32, &[0])))).collect())
}
