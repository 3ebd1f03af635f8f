//! Runs step by step when sizes depend on data: every buffer is made when its size is known.

use crate::binding::{Binding, Loc, REFERENCE, known_tensor};
use crate::bodies::runner;
use crate::context::StepProfile;
use crate::device::{DeviceContext, OnDevice};
use crate::engine::{Engine, Inner};
use crate::kept::{BoundStep, Kept};
use crate::loose::{Held, Operand, Resident, Side};
use crate::sizes::{Sizes, eval, shape_of, shapes};
use oxrt_backend::{ALIGN, BindArgs, BindInput, Bound, Greatest, Io};
use oxrt_ir::{Contents, Dim, Graph, Node, Symbol, ValueId, ValueType};
use oxrt_ops::Datum;
use oxrt_ops::eval::{eval_node, eval_node_by};
use oxrt_plan::StepKind;
use oxrt_plan::choose::follows_from_sizes;
use oxrt_tensor::{Context as _, DType, Error, Result, Tensor, TensorView, bail, num_elements};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
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

pub(crate) fn run(
    inner: &Inner,
    inputs: Vec<Datum>,
    kept: &mut Kept,
    profile: Option<&mut Vec<StepProfile>>,
) -> Result<Vec<Datum>> {
    let outputs = run_by(inner, inputs, kept, profile, None)?;
    outputs.ok_or_else(|| Error::bug("a run stopped that nobody watched"))
}

/// Outputs; `None` when the watch stopped the run.
pub(crate) fn run_watched(
    inner: &Inner,
    inputs: Vec<Datum>,
    kept: &mut Kept,
    profile: Option<&mut Vec<StepProfile>>,
    watch: Watch,
) -> Result<Option<Vec<Datum>>> {
    run_by(inner, inputs, kept, profile, Some(watch))
}

/// The inputs of a run that goes on a device: on the host, or (their sizes) there.
pub(crate) enum Given<'a> {
    Host(&'a [TensorView<'a>]),
    Device(&'a [(DType, &'a [usize])]),
}

/// Memory of the device for an output, and its bytes.
pub(crate) type Room = (*mut u8, usize);

/// The rest of a run whose first steps are done: what they left is on the device, and stays until the run is over.
pub(crate) fn run_rest(
    inner: &Inner,
    inputs: &[TensorView],
    begun: &DeviceContext,
    binding: &Arc<Binding>,
    kept: &mut Kept,
) -> Result<Vec<Datum>> {
    rest(inner, &Given::Host(inputs), begun, binding, kept, |sizes, kept, env| home(inner, sizes, kept, env))
}

/// The same, from and to memory of the device. Returns the shapes of the outputs.
pub(crate) fn run_rest_on_device(
    inner: &Inner,
    inputs: &[(DType, &[usize])],
    outputs: &[Room],
    begun: &DeviceContext,
    binding: &Arc<Binding>,
    kept: &mut Kept,
) -> Result<Vec<Vec<usize>>> {
    let end = |sizes: &Sizes, kept: &mut Kept, env: &mut Values| hand_out(inner, sizes, kept, env, outputs);
    rest(inner, &Given::Device(inputs), begun, binding, kept, end)
}

/// A run of which no step can be done before, from and to memory of the device.
pub(crate) fn run_lent(
    inner: &Inner,
    inputs: &[*const u8],
    types: &[(DType, &[usize])],
    outputs: &[Room],
    kept: &mut Kept,
) -> Result<Vec<Vec<usize>>> {
    let g = &inner.plan.graph;
    let mut sizes = Learned::new(Engine::sizes(inner, types)?);
    let lent = |(&ptr, (dtype, shape)): (&*const u8, &(DType, &[usize]))| Held {
        host: None,
        device: Some(Resident::lent(ptr.cast_mut(), *dtype, shape.to_vec())),
    };
    let env = g.inputs.iter().copied().zip(inputs.iter().zip(types).map(lent)).collect();
    let made = settled(inner, kept, env, |kept, env| {
        let told: Vec<ValueId> = g.inputs.iter().copied().filter(|&v| tells_sizes(g[v].contents.as_ref())).collect();
        bring_home(inner, env, kept, told.iter().copied())?;
        for v in told {
            learn_all(inner, v, &env[&v], &mut sizes).at(|| g[v].name.clone())?;
        }
        steps(
            inner,
            sizes,
            |_| false,
            kept,
            None,
            None,
            env,
            |sizes, kept, env| hand_out(inner, sizes, kept, env, outputs),
        )
    })?;
    made.ok_or_else(|| Error::bug("a run stopped that nobody watched"))
}

fn rest<T>(
    inner: &Inner,
    inputs: &Given,
    begun: &DeviceContext,
    binding: &Arc<Binding>,
    kept: &mut Kept,
    end: impl FnOnce(&Sizes, &mut Kept, &mut Values) -> Result<T>,
) -> Result<T> {
    let g = &inner.plan.graph;
    let mut sizes = Learned::new(match inputs {
        Given::Host(inputs) => Engine::sizes(inner, &shapes(inputs))?,
        Given::Device(types) => Engine::sizes(inner, types)?,
    });
    let mut env = Values::new();
    for (v, dtype, shape, loc) in &binding.left {
        let device = Resident::lent(begun.place(binding, *loc)?, *dtype, shape.clone());
        let host = match (inputs, g.inputs.iter().position(|i| i == v)) {
            (Given::Host(inputs), Some(i)) => Some(kept.free.copied(&inputs[i])?.into()),
            _ => None,
        };
        env.insert(*v, Held { host, device: Some(device) });
    }
    for (counted, found) in binding.counted.iter().zip(begun.found(binding)) {
        for (v, greatest, at) in &counted.results {
            let dtype = g[*v].ty.dtype().unwrap_or(DType::F32);
            let device = Resident::lent(begun.place(binding, Loc::Arena(*at))?, dtype, greatest.at(found)?);
            env.insert(*v, Held { host: None, device: Some(device) });
        }
    }
    let telling: Vec<usize> = (0..g.inputs.len()).filter(|&i| tells_sizes(g[g.inputs[i]].contents.as_ref())).collect();
    if let Given::Host(inputs) = inputs {
        for &i in &telling {
            learn_elements(g[g.inputs[i]].contents.as_ref(), &inputs[i].to_tensor()?, &mut sizes)?;
        }
    }
    let made = settled(inner, kept, env, |kept, env| {
        let made: Vec<ValueId> = env.keys().copied().collect();
        bring_home(inner, env, kept, made.iter().copied().filter(|&v| tells_sizes(g[v].contents.as_ref())))?;
        for v in made {
            learn_all(inner, v, &env[&v], &mut sizes).at(|| g[v].name.clone())?;
        }
        if let (Given::Device(types), Some(side)) = (inputs, kept.side.as_mut()) {
            for &i in &telling {
                let (dtype, shape) = types[i];
                let there = Resident::lent(begun.place(binding, Loc::Input(i))?, dtype, shape.to_vec());
                learn_elements(g[g.inputs[i]].contents.as_ref(), &side.fetch(inner, &there)?, &mut sizes)?;
            }
        }
        let done = |index: usize| inner.first.as_ref().is_some_and(|first| first.steps[index]);
        steps(inner, sizes, done, kept, None, None, env, end)
    })?;
    made.ok_or_else(|| Error::bug("a run stopped that nobody watched"))
}

/// Values of a run, by their ids.
type Values = HashMap<ValueId, Held>;

fn run_by(
    inner: &Inner,
    inputs: Vec<Datum>,
    kept: &mut Kept,
    profile: Option<&mut Vec<StepProfile>>,
    watch: Option<Watch>,
) -> Result<Option<Vec<Datum>>> {
    let g = &inner.plan.graph;
    if inputs.len() != g.inputs.len() {
        bail!(invalid, "the engine takes {} inputs, given {}", g.inputs.len(), inputs.len());
    }
    let mut sizes = Learned::new(input_sizes(inner, &inputs)?);
    for (v, datum) in g.inputs.iter().zip(&inputs) {
        if let Datum::Tensor(t) = datum {
            learn_elements(g[*v].contents.as_ref(), t, &mut sizes)?;
        }
    }
    let env = g.inputs.iter().copied().zip(inputs.into_iter().map(Held::from)).collect();
    settled(inner, kept, env, |kept, env| {
        steps(inner, sizes, |_| false, kept, profile, watch, env, |sizes, kept, env| home(inner, sizes, kept, env))
    })
}

/// Work on values; memory of the device that they held is taken back when it is done.
fn settled<T>(
    inner: &Inner,
    kept: &mut Kept,
    mut env: Values,
    work: impl FnOnce(&mut Kept, &mut Values) -> Result<T>,
) -> Result<T> {
    if let (Some(on), None) = (&inner.device, &kept.side) {
        kept.side = Some(Side::new(on)?);
    }
    let result = work(kept, &mut env);
    // Values must not go while work on them is under way.
    if let Some(side) = &mut kept.side {
        side.settle();
        env.into_values().filter_map(|held| held.device).for_each(|r| side.put(r));
        side.end();
    }
    result
}

/// Brings values to the host that lie on the device alone.
fn bring_home(
    inner: &Inner,
    env: &mut Values,
    kept: &mut Kept,
    values: impl IntoIterator<Item = ValueId>,
) -> Result<()> {
    for v in values {
        if let (Some(held), Some(side)) = (env.get_mut(&v), kept.side.as_mut())
            && held.host.is_none()
            && let Some(r) = &held.device
        {
            held.host = Some(side.fetch(inner, r)?.into());
        }
    }
    Ok(())
}

/// Does the steps that are not `done` yet, and what makes an `end` of the outputs.
fn steps<T>(
    inner: &Inner,
    mut sizes: Learned,
    is_done: impl Fn(usize) -> bool,
    kept: &mut Kept,
    mut profile: Option<&mut Vec<StepProfile>>,
    mut watch: Option<Watch>,
    env: &mut Values,
    end: impl FnOnce(&Sizes, &mut Kept, &mut Values) -> Result<T>,
) -> Result<Option<T>> {
    let plan = &inner.plan;
    let g = &plan.graph;
    let rest = || plan.steps.iter().enumerate().filter(|(index, _)| !is_done(*index));
    let mut remaining: HashMap<ValueId, usize> = HashMap::new();
    for (_, step) in rest() {
        for v in g.reads(step.node) {
            *remaining.entry(v).or_default() += 1;
        }
    }
    for &v in &g.outputs {
        *remaining.entry(v).or_default() += 1;
    }
    for (index, step) in rest() {
        let node = &g[step.node];
        let started = Instant::now();
        let mut flops = 0;
        let outs = done(inner, index, &sizes.known, kept, env, &mut flops).at(|| node.describe())?;
        if let Some(p) = profile.as_deref_mut() {
            let which = kept.bound.get(&index).map_or(0, |b| b.kernel);
            let kernel = step.kind.kernels().get(which).map_or(REFERENCE, |k| k.candidate.as_str()).to_string();
            if let Some(side) = &mut kept.side {
                side.judge(inner)?;
            }
            let held = node.inputs().iter().flatten().filter_map(|v| env.get(v)).chain(&outs);
            let bytes = held.map(bytes_of).sum();
            let seconds = started.elapsed().as_secs_f64();
            p.push(StepProfile { name: node.name.clone(), op: node.op.to_string(), kernel, seconds, flops, bytes });
        }
        for v in g.reads(step.node) {
            let left = remaining.get_mut(&v).ok_or_else(|| Error::bug("uses out of step"))?;
            *left -= 1;
            if *left > 0 {
                continue;
            }
            let Some(held) = env.remove(&v) else { continue };
            if let Some(Datum::Tensor(t)) = held.host {
                kept.free.put(t);
            }
            if let (Some(r), Some(side)) = (held.device, &mut kept.side) {
                side.put(r);
            }
        }
        for (v, mut held) in node.outputs().iter().zip(outs) {
            let Some(v) = *v else { continue };
            // The host wants what is watched, and sizes.
            let wanted = watch.is_some() || tells_sizes(g[v].contents.as_ref());
            if let (true, None, Some(r), Some(side)) = (wanted, &held.host, &held.device, &mut kept.side) {
                held.host = Some(side.fetch(inner, r)?.into());
            }
            if let (Some(watch), Some(datum)) = (&mut watch, &held.host) {
                match watch(index, v, datum)? {
                    Seen::Keep => {}
                    Seen::Replace(other) => held = other.into(),
                    Seen::Stop => return Ok(None),
                }
            }
            learn_all(inner, v, &held, &mut sizes).at(|| node.describe())?;
            if remaining.contains_key(&v) {
                env.insert(v, held);
            }
        }
    }
    kept.free.end();
    end(&sizes.known, kept, env).map(Some)
}

/// The outputs, on the host.
fn home(inner: &Inner, sizes: &Sizes, kept: &mut Kept, env: &mut Values) -> Result<Vec<Datum>> {
    let g = &inner.plan.graph;
    bring_home(inner, env, kept, g.outputs.iter().copied())?;
    if let Some(side) = &mut kept.side {
        side.judge(inner)?;
    }
    let outputs = g.outputs.iter().map(|&v| match env.get(&v).and_then(|held| held.host.as_ref()) {
        Some(d) => Ok(d.clone()),
        None => known_output(inner, sizes, v).map(Datum::Tensor),
    });
    outputs.collect()
}

/// An output that no step makes.
fn known_output(inner: &Inner, sizes: &Sizes, v: ValueId) -> Result<Tensor> {
    let made = known_tensor(&inner.plan, v, sizes)?;
    made.ok_or_else(|| Error::bug(format!("output `{}` was not made", inner.plan.graph[v].name)))
}

/// Copies the outputs to memory of the device. Returns their shapes.
///
/// # Errors
/// An output for which there is not enough.
fn hand_out(
    inner: &Inner,
    sizes: &Sizes,
    kept: &mut Kept,
    env: &mut Values,
    rooms: &[Room],
) -> Result<Vec<Vec<usize>>> {
    let g = &inner.plan.graph;
    let Some(side) = &mut kept.side else { bail!(bug, "a run on a device without a queue") };
    let mut shapes = Vec::with_capacity(rooms.len());
    for (&v, &(to, room)) in g.outputs.iter().zip(rooms) {
        let fits = |bytes: usize| fits(&g[v].name, bytes, room);
        let shape = match env.get(&v) {
            Some(Held { device: Some(r), .. }) => {
                fits(r.bytes()?)?;
                // SAFETY: the caller of the run gave memory of that size.
                unsafe { side.give(r, to)? };
                r.shape.clone()
            }
            held => {
                let t = match held.and_then(|held| held.host.as_ref()) {
                    Some(Datum::Tensor(t)) => t.clone(),
                    Some(_) => bail!(unsupported, "output `{}` is no tensor, so no memory holds it", g[v].name),
                    None => known_output(inner, sizes, v)?,
                };
                fits(t.bytes().len())?;
                // SAFETY: as above.
                unsafe { side.write(&t, to)? };
                t.shape().to_vec()
            }
        };
        shapes.push(shape);
    }
    side.judge(inner)?;
    Ok(shapes)
}

/// Refuses memory of `room` bytes for an output that has more.
pub(crate) fn fits(name: &str, bytes: usize, room: usize) -> Result<()> {
    if bytes > room {
        bail!(invalid, "output `{name}` has {bytes} bytes, its memory {room}");
    }
    Ok(())
}

/// The most bytes that each output can have: by the greatest sizes that kernels find.
pub(crate) fn most_bytes(inner: &Inner, inputs: &[(DType, &[usize])]) -> Result<Vec<usize>> {
    let plan = &inner.plan;
    let g = &plan.graph;
    let sizes = Engine::sizes(inner, inputs)?;
    let mut most = sizes.clone();
    for (index, step) in plan.steps.iter().enumerate().filter(|(index, _)| inner.counting[*index]) {
        let node = &g[step.node];
        let shapes: Vec<Option<Vec<usize>>> =
            node.inputs().iter().map(|v| v.and_then(|v| shape_of(&g[v].ty, &most))).collect();
        let told = node.inputs().iter().zip(&shapes).all(|(v, shape)| v.is_none() || shape.is_some());
        if !told {
            continue;
        }
        let known = node.inputs().iter().map(|v| v.map_or(Ok(None), |v| known_tensor(plan, v, &sizes)));
        let known = known.collect::<Result<Vec<_>>>()?;
        for (v, greatest) in node.outputs().iter().zip(greatest(inner, index, &shapes, &known)?) {
            let dims = v.and_then(|v| g[v].ty.dims()).unwrap_or_default();
            for (d, &size) in dims.iter().zip(&greatest.shape) {
                if let Some(s) = d.as_symbol().filter(|s| !sizes.contains_key(*s)) {
                    most.insert(s.clone(), size as i64);
                }
            }
        }
    }
    let bytes = g.outputs.iter().map(|&v| {
        let ty = &g[v].ty;
        // Of an expression of sizes that are found nobody knows that it grows with them.
        let bound = |d: &Dim| eval(d, &sizes).or_else(|| d.as_symbol().and_then(|s| most.get(s).copied()));
        let dims: Option<Vec<usize>> =
            ty.dims().and_then(|dims| dims.iter().map(|d| usize::try_from(bound(d)?).ok()).collect());
        let unknown = || {
            Error::unsupported(format!("output `{}` {ty} has a size without a known bound", g[v].name))
                .help("run it from the host's memory")
        };
        Ok(ty.dtype().unwrap_or(DType::F32).bytes_for(num_elements(&dims.ok_or_else(unknown)?)?))
    });
    bytes.collect()
}

/// Does a step.
fn done(
    inner: &Inner,
    index: usize,
    sizes: &Sizes,
    kept: &mut Kept,
    env: &mut Values,
    flops: &mut u64,
) -> Result<Vec<Held>> {
    let plan = &inner.plan;
    let g = &plan.graph;
    let step = &plan.steps[index];
    let node = &g[step.node];
    if let Some(outs) = by_sizes(inner, node, sizes)? {
        return Ok(outs);
    }
    // A size that no earlier result told (a factor of zero hid it): the evaluator finds it out.
    let told = || node.outputs().iter().flatten().all(|v| shape_of(&g[*v].ty, sizes).is_some());
    match (&step.kind, &inner.device) {
        (StepKind::Kernel { .. }, Some(_)) if is_little(g, node, sizes, env) => {
            let lookup = |v: ValueId| env.get(&v).and_then(|held| held.host.clone()).or_else(|| constant(g, v));
            let ins: Vec<Option<Datum>> = node.inputs().iter().map(|v| v.and_then(lookup)).collect();
            return Ok(eval_node(node, &ins, &|_| None)?.into_iter().map(Held::from).collect());
        }
        (StepKind::Kernel { consumed, .. }, Some(on)) if inner.counting[index] || told() || !consumed.is_empty() => {
            return run_on_device(inner, on, index, consumed, sizes, kept, env, flops);
        }
        (StepKind::Alias, Some(_)) if told() => {
            let there = node.input(0).and_then(|v| env.get(&v)).filter(|held| held.host.is_none());
            if let (Some(r), Some(v)) = (there.and_then(|held| held.device.as_ref()), node.output(0)) {
                let shape = shape_of(&g[v].ty, sizes).ok_or_else(|| Error::bug("a shape that was told"))?;
                return Ok(vec![Held { host: None, device: Some(r.reshaped(&shape)?) }]);
            }
        }
        _ => {}
    }
    bring_home(inner, env, kept, g.reads(step.node))?;
    let lookup = |v: ValueId| -> Result<Option<Datum>> {
        match env.get(&v) {
            Some(held) => Ok(held.host.clone()),
            None => Ok(known_tensor(plan, v, sizes)?.map(Datum::Tensor)),
        }
    };
    let ins = node.inputs().iter().map(|v| v.map_or(Ok(None), lookup)).collect::<Result<Vec<_>>>()?;
    let outs = match &step.kind {
        StepKind::Kernel { consumed, .. } if told() || !consumed.is_empty() => {
            run_kernel(inner, index, node, &ins, consumed, sizes, kept, flops)
        }
        StepKind::Kernel { .. } => eval_node(node, &ins, &|v| lookup(v).ok().flatten()),
        StepKind::Alias => alias(node, &ins, g[node.output(0).unwrap_or(ValueId(0))].ty.clone(), sizes),
        StepKind::Host => eval_node_by(node, &ins, &|v| lookup(v).ok().flatten(), &runner(inner)),
    }?;
    Ok(outs.into_iter().map(Held::from).collect())
}

/// The results of a node of which every element is a size, or follows from sizes: nothing has to run for them.
fn by_sizes(inner: &Inner, node: &Node, sizes: &Sizes) -> Result<Option<Vec<Held>>> {
    let g = &inner.plan.graph;
    // A check has no result, and runs for that.
    if node.outputs().is_empty() {
        return Ok(None);
    }
    let mut outs = Vec::with_capacity(node.outputs().len());
    for v in node.outputs() {
        let value = v.map(|v| &g[v]);
        let Some((value, contents)) = value.and_then(|value| Some((value, value.contents.as_ref()?))) else {
            return Ok(None);
        };
        if !contents.elements.iter().all(follows_from_sizes) {
            return Ok(None);
        }
        let elements: Option<Vec<i64>> = contents.elements.iter().map(|d| eval(d, sizes)).collect();
        let Some(elements) = elements else { return Ok(None) };
        let shape: &[usize] = if contents.scalar { &[] } else { &[elements.len()] };
        let Some(dtype @ (DType::I64 | DType::I32)) = value.ty.dtype() else { return Ok(None) };
        outs.push(Datum::from(Tensor::from_i64(dtype, shape, &elements)?).into());
    }
    Ok(Some(outs))
}

/// Elements up to which integers that the host has stay there: sizes and conditions on them.
const LITTLE: usize = 64;

/// Whether a step works on a few integers that the host alone has.
fn is_little(g: &Graph, node: &Node, sizes: &Sizes, env: &Values) -> bool {
    let whole = |v: ValueId| g[v].ty.dtype().is_some_and(|d| d == DType::Bool || !d.is_float());
    let small = |shape: &[usize]| shape.iter().product::<usize>() <= LITTLE;
    let mut on_host = false;
    let inputs = node.inputs().iter().flatten().all(|&v| match (env.get(&v), g.constant(v)) {
        (Some(Held { host: Some(Datum::Tensor(t)), device: None }), _) => {
            on_host = true;
            small(t.shape())
        }
        (None, Some(t)) => small(t.shape()),
        _ => false,
    });
    let made = |v: &ValueId| whole(*v) && shape_of(&g[*v].ty, sizes).is_some_and(|shape| small(&shape));
    inputs && on_host && node.outputs().iter().flatten().all(made)
}

fn constant(g: &Graph, v: ValueId) -> Option<Datum> {
    g.constant(v).cloned().map(Datum::Tensor)
}

fn bytes_of(held: &Held) -> u64 {
    match (&held.host, &held.device) {
        (Some(Datum::Tensor(t)), _) => t.bytes().len() as u64,
        (_, Some(r)) => r.bytes().unwrap_or(0) as u64,
        _ => 0,
    }
}

/// Whether elements of a value are sizes that nobody knows before.
pub(crate) fn tells_sizes(contents: Option<&Contents>) -> bool {
    contents.is_some_and(|c| c.elements.iter().any(|d| d.as_symbol().is_some()))
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

/// Learns sizes from a value that was made.
///
/// # Errors
/// A size that contradicts what was inferred: kernels trust that, so it must not get through.
fn learn_all(inner: &Inner, v: ValueId, held: &Held, sizes: &mut Learned) -> Result<()> {
    let value = &inner.plan.graph[v];
    if let Some(shape) = held.shape() {
        learn(&value.ty, shape, sizes);
        if let Some(told) = shape_of(&value.ty, &sizes.known).filter(|told| told != shape) {
            bail!(bug, "inferred {told:?}, found {shape:?}");
        }
    }
    if let Some(Datum::Tensor(t)) = &held.host {
        learn_elements(value.contents.as_ref(), t, sizes)?;
    }
    Ok(())
}

/// Sizes that a run has found out.
struct Learned {
    known: Sizes,
    /// Names of numbers that were no sizes: what was inferred of them does not hold, so nothing follows from them.
    refused: BTreeSet<Symbol>,
}

impl Learned {
    fn new(known: Sizes) -> Learned {
        Learned { known, refused: BTreeSet::new() }
    }
}

/// Learns sizes that depend on data from the shape of a result.
fn learn(ty: &ValueType, shape: &[usize], sizes: &mut Learned) {
    let Some(dims) = ty.dims() else { return };
    for (d, &size) in dims.iter().zip(shape) {
        let found = d.solve(Some(size as i64), &|s| sizes.known.get(s).copied());
        if let Some((s, value)) = found.filter(|(s, _)| !sizes.refused.contains(s)) {
            sizes.known.insert(s, value);
        }
    }
}

/// Learns sizes that were computed from data from the elements of a result.
fn learn_elements(contents: Option<&Contents>, t: &Tensor, sizes: &mut Learned) -> Result<()> {
    let Some(contents) = contents.filter(|c| tells_sizes(Some(c))) else { return Ok(()) };
    for (d, size) in contents.elements.iter().zip(t.to_i64_vec()?) {
        let Some(s) = d.as_symbol().filter(|s| !sizes.refused.contains(*s)) else { continue };
        if size < 0 {
            sizes.known.remove(s);
            sizes.refused.insert(s.clone());
        } else {
            sizes.known.entry(s.clone()).or_insert(size);
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

fn run_kernel(
    inner: &Inner,
    index: usize,
    node: &Node,
    ins: &[Option<Datum>],
    consumed: &[usize],
    sizes: &Sizes,
    kept: &mut Kept,
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
    let mut outs = Vec::new();
    for v in node.outputs() {
        outs.push(match v {
            None => None,
            Some(v) => {
                let (dtype, shape) = room_for(g, *v, sizes)?;
                Some(kept.free.take(dtype, &shape)?)
            }
        });
    }
    let out_shapes: Vec<Option<&[usize]>> = outs.iter().map(|t| t.as_ref().map(Tensor::shape)).collect();
    let bound = bound(inner, index, kept, &shapes, &out_shapes, &known)?;
    *flops = bound.flops();
    let need = bound.workspace_bytes().max(ALIGN);
    let mut workspace = match kept.workspace.take().filter(|w| w.len() >= need) {
        Some(workspace) => workspace,
        None => Tensor::try_zeros(DType::U8, &[need])?,
    };
    let in_ptrs: Vec<*const u8> = ins
        .iter()
        .map(|d| d.as_ref().and_then(Datum::as_tensor).map_or(std::ptr::null(), |t| t.bytes().as_ptr()))
        .collect();
    let out_ptrs: Vec<*mut u8> =
        outs.iter_mut().map(|t| t.as_mut().map_or(std::ptr::null_mut(), |t| t.bytes_mut().as_mut_ptr())).collect();
    let scratch = workspace.bytes_mut().as_mut_ptr();
    let io = Io { inputs: &in_ptrs, outputs: &out_ptrs, workspace: scratch, device: Default::default() };
    // SAFETY: shapes are those bound, and every output has memory of its own.
    unsafe { bound.run(&io) }?;
    kept.workspace = Some(workspace);
    Ok(outs.into_iter().map(|t| Datum::Tensor(t.unwrap_or_else(|| Tensor::zeros(DType::F32, &[0])))).collect())
}

fn bind_inputs<'a>(shapes: &'a [Option<Vec<usize>>], known: &'a [Option<Tensor>]) -> Vec<Option<BindInput<'a>>> {
    let input = |(shape, value): (&'a Option<Vec<usize>>, &'a Option<Tensor>)| {
        shape.as_deref().map(|shape| BindInput { shape, value: value.as_ref() })
    };
    shapes.iter().zip(known).map(input).collect()
}

/// How large the results of a step get whose kernel finds their size.
fn greatest(
    inner: &Inner,
    index: usize,
    shapes: &[Option<Vec<usize>>],
    known: &[Option<Tensor>],
) -> Result<Vec<Greatest>> {
    let args = BindArgs { inputs: &bind_inputs(shapes, known), outputs: &[] };
    let kernel = inner.kernels[index].first().ok_or_else(|| Error::bug("the step has no kernel"))?;
    kernel.most(&args)?.ok_or_else(|| Error::bug("a kernel that does not say how large its results get"))
}

/// The kernel of a step, bound to these sizes: as it was left, or anew.
fn bound(
    inner: &Inner,
    index: usize,
    kept: &mut Kept,
    shapes: &[Option<Vec<usize>>],
    outputs: &[Option<&[usize]>],
    known: &[Option<Tensor>],
) -> Result<Arc<dyn Bound>> {
    if let Some(b) = kept.bound.get(&index).filter(|b| b.fits(shapes, outputs, known)) {
        return Ok(b.bound.clone());
    }
    let args = BindArgs { inputs: &bind_inputs(shapes, known), outputs };
    let which = inner.plan.steps[index].kernel_for(&inner.plan.graph, &args);
    let kernel = inner.kernels[index].get(which).ok_or_else(|| Error::bug("the step has no kernel"))?;
    let bound: Arc<dyn Bound> = kernel.bind(&args)?.into();
    let outputs = outputs.iter().map(|s| s.map(<[usize]>::to_vec)).collect();
    let step =
        BoundStep { inputs: shapes.to_vec(), outputs, known: known.to_vec(), bound: bound.clone(), kernel: which };
    kept.bound.insert(index, step);
    Ok(bound)
}

/// Queues a step's kernel; its operands go to the device if they are not there, its results stay.
fn run_on_device(
    inner: &Inner,
    on: &OnDevice,
    index: usize,
    consumed: &[usize],
    sizes: &Sizes,
    kept: &mut Kept,
    env: &mut Values,
    flops: &mut u64,
) -> Result<Vec<Held>> {
    let g = &inner.plan.graph;
    let node = &g[inner.plan.steps[index].node];
    // What a bound run would know, and sizes that the data told, fix how a kernel works; other data must not.
    bring_home(inner, env, kept, node.inputs().iter().flatten().copied().filter(|v| g[*v].contents.is_some()))?;
    let Some(mut side) = kept.side.take() else { bail!(bug, "a run on a device without a queue") };
    let result = (|| {
        let (mut operands, mut shapes, mut known) = (Vec::new(), Vec::new(), Vec::new());
        for (i, v) in node.inputs().iter().enumerate() {
            let Some(v) = *v else {
                operands.push(Operand::Nothing);
                shapes.push(None);
                known.push(None);
                continue;
            };
            let packed = consumed.contains(&i);
            if let Some(held) = env.get_mut(&v) {
                let host = held.host.as_ref().and_then(Datum::as_tensor);
                known.push(host.filter(|_| g[v].contents.is_some()).cloned());
                if let (None, Some(t), false) = (&held.device, host, packed) {
                    held.device = Some(side.upload(on, t)?);
                }
                shapes.push(held.shape().map(<[usize]>::to_vec));
                operands.push(held.device.clone().filter(|_| !packed).map_or(Operand::Nothing, Operand::Value));
                continue;
            }
            let t = known_tensor(&inner.plan, v, sizes)?;
            match (&t, packed) {
                (Some(t), false) => operands.push(match on.constant(t.bytes()) {
                    Some(ptr) => Operand::Constant(ptr),
                    None => Operand::Value(side.upload(on, t)?),
                }),
                (None, false) => bail!(bug, "input {i} is not there"),
                _ => operands.push(Operand::Nothing),
            }
            shapes.push(t.as_ref().map(|t| t.shape().to_vec()).or_else(|| shape_of(&g[v].ty, sizes)));
            known.push(t);
        }
        // Where the data decides a size there is room for the greatest.
        let greatest = if inner.counting[index] { Some(greatest(inner, index, &shapes, &known)?) } else { None };
        let mut outs = Vec::new();
        for (i, v) in node.outputs().iter().enumerate() {
            outs.push(match (v, &greatest) {
                (None, _) => None,
                (Some(v), Some(greatest)) => {
                    let room = greatest.get(i).ok_or_else(|| Error::bug(format!("output {i} of unknown size")))?;
                    Some(side.room(on, g[*v].ty.dtype().unwrap_or(DType::F32), &room.shape)?)
                }
                (Some(v), None) => {
                    let (dtype, shape) = room_for(g, *v, sizes)?;
                    Some(side.room(on, dtype, &shape)?)
                }
            });
        }
        let out_shapes: Vec<Option<&[usize]>> = outs.iter().map(|r| r.as_ref().map(|r| &r.shape[..])).collect();
        let bound = bound(inner, index, kept, &shapes, &out_shapes, &known)?;
        *flops = bound.flops();
        if let Some(greatest) = greatest {
            let count = side.room(on, DType::I64, &[])?;
            outs.push(Some(count.clone()));
            side.launch(on, &*bound, &operands, &outs, index)?;
            outs.pop();
            let found = side.fetch(inner, &count)?.to_i64_vec()?.first().copied().unwrap_or(0);
            side.put(count);
            for (r, greatest) in outs.iter_mut().zip(&greatest) {
                *r = r.take().map(|r| Ok::<_, Error>(r.beginning(greatest.at(found)?))).transpose()?;
            }
        } else {
            side.launch(on, &*bound, &operands, &outs, index)?;
        }
        for operand in operands {
            // Only those that were brought for this step alone are given back.
            if let Operand::Value(r) = operand {
                side.put(r);
            }
        }
        Ok(outs.into_iter().map(|device| Held { host: None, device }).collect())
    })();
    kept.side = Some(side);
    result
}

/// Type and shape of a result that is about to be made; its size is known by now.
fn room_for(g: &Graph, v: ValueId, sizes: &Sizes) -> Result<(DType, Vec<usize>)> {
    let value = &g[v];
    let shape = shape_of(&value.ty, sizes)
        .ok_or_else(|| Error::bug(format!("the size of `{}` {} is unknown", value.name, value.ty)))?;
    Ok((value.ty.dtype().unwrap_or(DType::F32), shape))
}
