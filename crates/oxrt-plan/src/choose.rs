//! From a graph to steps: what follows from sizes alone is taken out of it, and each node gets the way it runs.
//!
//! Graphs are planned when an engine is built. Bodies of `If`, `Loop` and `Scan` are planned when it is loaded: they are
//! small, and read their weights from the graph around them.

use crate::{PackedKernel, Step, StepKind};
use oxrt_backend::{Backend, NodeView};
use oxrt_ir::{Dim, Graph, NodeId, Symbol, Tensor, ValueId, ValueType};
use oxrt_tensor::{Context, Result};
use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};

/// Kernels of a node that were quickest when they were timed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chosen {
    /// At the sizes that the engine is tuned for.
    pub usual: &'static str,
    /// By the work ([`Step::work`]) of each of the sizes, rising; empty where one serves all.
    pub by_work: Vec<(u64, &'static str)>,
}

/// Chooses a kernel for each node (those in `chosen`, where it stands there) and packs its weights. A node that makes
/// sizes which are not known before it runs goes to a kernel that counts, or to the host.
pub fn steps(
    g: &Graph,
    backend: &dyn Backend,
    chosen: &HashMap<NodeId, Chosen>,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Vec<Step>> {
    let nodes = with_known_sizes(g);
    let total = nodes.len();
    let steps = side_by_side(total, &mut |i| progress(i, total), |i| {
        let (id, sizes_known) = nodes[i];
        let kind = match sizes_known {
            true if is_alias(g, id) => StepKind::Alias,
            _ => kernel(NodeView::new(g, id), sizes_known, backend, chosen.get(&id)).at(|| g[id].describe())?,
        };
        Ok(Step { node: id, kind })
    });
    steps.into_iter().collect()
}

/// `one` of each index below `count`, on all processors, in order. `progress` hears of indices as this thread comes to them.
pub fn side_by_side<T: Send>(count: usize, progress: &mut dyn FnMut(usize), one: impl Fn(usize) -> T + Sync) -> Vec<T> {
    let next = AtomicUsize::new(0);
    let done: Vec<Mutex<Option<T>>> = (0..count).map(|_| Mutex::new(None)).collect();
    let step = || {
        let i = next.fetch_add(1, Ordering::Relaxed);
        let place = done.get(i)?;
        let made = one(i);
        *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(made);
        Some(i)
    };
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(count.max(1));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| while step().is_some() {});
        }
        while let Some(i) = step() {
            progress(i);
        }
    });
    // A thread that panicked has ended the scope with its panic: every place is filled.
    done.into_iter().filter_map(|place| place.into_inner().unwrap_or_else(PoisonError::into_inner)).collect()
}

/// Tensors, each replaced by an equal one of `earlier` if there is one: kernels of one family pack alike.
pub fn kept_once<'a>(tensors: Vec<Tensor>, earlier: impl Iterator<Item = &'a Tensor> + Clone) -> Vec<Tensor> {
    let find = |t: Tensor| {
        let equal = |x: &&Tensor| x.dtype() == t.dtype() && x.shape() == t.shape() && x.bytes() == t.bytes();
        earlier.clone().find(equal).cloned().unwrap_or(t)
    };
    tensors.into_iter().map(find).collect()
}

/// The kernel that [`steps`] would choose for each node without measuring, before anything is packed; an empty name is the
/// reference evaluator. Nodes that do no work are not named.
pub fn preview(g: &Graph, backend: &dyn Backend) -> HashMap<NodeId, String> {
    let choice = |(id, sizes_known): (NodeId, bool)| match sizes_known {
        true if is_alias(g, id) => None,
        _ => Some((id, candidate(NodeView::new(g, id), sizes_known, backend, None).unwrap_or_default().to_string())),
    };
    with_known_sizes(g).into_iter().filter_map(choice).collect()
}

/// Each node in order, and whether the sizes that it makes are known before it runs.
fn with_known_sizes(g: &Graph) -> Vec<(NodeId, bool)> {
    // Symbols whose sizes are known when a step is reached.
    let mut known = symbols_of(g, &g.inputs);
    let mut out = Vec::with_capacity(g.num_nodes());
    for id in g.node_ids() {
        let node = &g[id];
        let mut new = BTreeSet::new();
        for &v in node.outputs().iter().flatten() {
            g[v].ty.for_each_symbol(&mut |s| {
                new.insert(s.clone());
            });
        }
        let sizes_known = new.is_subset(&known) && node.outputs().iter().flatten().all(|&v| g[v].ty.dims().is_some());
        // The run learns a symbol from a result that it sizes, when the size can be solved for it, and from a result
        // that holds it.
        for &v in node.outputs().iter().flatten() {
            for d in g[v].ty.dims().unwrap_or_default() {
                if let Some((symbol, _)) = d.solve(None, &|s| known.contains(s).then_some(1)) {
                    known.insert(symbol);
                }
            }
            known.extend(g[v].contents.iter().flat_map(|c| &c.elements).filter_map(|d| d.as_symbol().cloned()));
        }
        out.push((id, sizes_known));
    }
    out
}

fn candidate(
    view: NodeView,
    sizes_known: bool,
    backend: &dyn Backend,
    chosen: Option<&'static str>,
) -> Option<&'static str> {
    let plain = |v: &Option<ValueId>| v.is_none_or(|v| matches!(view.graph[v].ty, ValueType::Tensor(_)));
    let all_tensors = view.node().inputs().iter().chain(view.node().outputs()).all(plain);
    let usual = chosen.or_else(|| backend.candidates(view).first().copied()).filter(|_| sizes_known);
    usual.or_else(|| backend.counting(view)).filter(|_| all_tensors)
}

fn kernel(view: NodeView, sizes_known: bool, backend: &dyn Backend, chosen: Option<&Chosen>) -> Result<StepKind> {
    let chosen = chosen.filter(|_| sizes_known);
    let usual = candidate(view, sizes_known, backend, chosen.map(|c| c.usual));
    let Some(usual) = usual else { return Ok(StepKind::Host) };
    let elsewhere = chosen.map_or(&[][..], |c| &c.by_work);
    let mut names = vec![usual];
    for (_, name) in elsewhere {
        if !names.contains(name) {
            names.push(name);
        }
    }
    let mut kernels: Vec<PackedKernel> = Vec::with_capacity(names.len());
    let mut consumed: Option<Vec<usize>> = None;
    for name in &names {
        let packing = backend.pack(view, name)?;
        let packed = kept_once(packing.tensors, kernels.iter().flat_map(|k| &k.packed));
        kernels.push(PackedKernel { candidate: name.to_string(), packed });
        match &mut consumed {
            None => consumed = Some(packing.consumed),
            Some(all) => all.retain(|i| packing.consumed.contains(i)),
        }
    }
    let by_work = match names.len() {
        1 => Vec::new(),
        _ => elsewhere.iter().map(|(work, name)| (*work, names.iter().position(|n| n == name).unwrap_or(0))).collect(),
    };
    Ok(StepKind::Kernel { kernels, by_work, consumed: consumed.unwrap_or_default() })
}

/// Cuts values with known contents (shapes, indices computed from sizes) from the nodes that compute
/// them: the runtime evaluates their expressions when sizes are bound. What follows from sizes that depend on
/// data (`item`, `nonzero`, `floor(h * 1.3)`) is computed by its nodes, and so is what leaves 64 bits, where nodes wrap around.
pub fn detach_sizes(g: &mut Graph) {
    let mut known = BTreeSet::new();
    for &v in &g.inputs {
        g[v].ty.for_each_symbol(&mut |s| {
            known.insert(s.clone());
        });
    }
    for v in g.value_ids() {
        let value = &g[v];
        let computed = value.producer().is_some() && !value.is_constant() && !g.outputs.contains(&v);
        let Some(contents) = value.contents.clone().filter(|_| computed) else { continue };
        let mut evaluable = !value.users().is_empty();
        for d in &contents.elements {
            d.for_each_symbol(&mut |s| evaluable &= known.contains(s));
            evaluable &= follows_from_sizes(d);
        }
        if !evaluable {
            continue;
        }
        let name = g.unused_value_name(&format!("{}_sizes", value.name));
        let ty = value.ty.clone();
        let detached = g.add_value(&name, ty);
        match contents.to_tensor(g[v].ty.dtype().unwrap_or(oxrt_ir::DType::I64)) {
            Some(t) => g.set_constant(detached, t),
            None => g[detached].contents = Some(contents),
        }
        g.replace_uses(v, detached);
    }
}

/// Whether an expression is one of sizes, which nodes compute alike: arithmetic that overflows for usual sizes, of which five can be
/// multiplied, is not that of shapes, and nodes wrap around.
pub fn follows_from_sizes(d: &Dim) -> bool {
    let (lo, hi) = d.bounds(&|_| (0, 1 << 12));
    d.as_const().is_some() || (lo > i64::MIN && hi < i64::MAX)
}

/// Symbols that a run learns from the shapes of these values, or from their elements.
fn symbols_of(g: &Graph, values: &[ValueId]) -> BTreeSet<Symbol> {
    let mut out = BTreeSet::new();
    for &v in values {
        g[v].ty.for_each_symbol(&mut |s| {
            out.insert(s.clone());
        });
        let elements = g[v].contents.iter().flat_map(|c| &c.elements);
        out.extend(elements.filter_map(|d| d.as_symbol().cloned()));
    }
    out
}

/// Whether output 0 of the node is input 0 under another shape, so that nothing needs to run.
fn is_alias(g: &Graph, id: NodeId) -> bool {
    let node = &g[id];
    let (Some(x), Some(y)) = (node.input(0), node.output(0)) else { return false };
    let only_output = node.outputs().iter().flatten().count() == 1;
    // Memory of constants is shared too, but strings have none.
    let plain = g[x].ty.dtype().is_some_and(|d| d != oxrt_ir::DType::String) && g[x].ty.dtype() == g[y].ty.dtype();
    let moves_nothing = match &*node.op {
        "Reshape" | "Squeeze" | "Unsqueeze" | "Flatten" | "Identity" => true,
        // Inference: dropout passes its input through.
        "Dropout" => node.input(2).is_none(),
        "Cast" => true,
        "Transpose" => transposes_only_ones(g, id),
        _ => false,
    };
    plain && only_output && moves_nothing
}

/// A transposition that keeps the order of all axes longer than 1 leaves memory as it is.
fn transposes_only_ones(g: &Graph, id: NodeId) -> bool {
    let Some(dims) = g[id].input(0).and_then(|x| g.dims(x)) else { return false };
    let Ok(Some(perm)) = g[id].attrs.ints("perm") else { return false };
    let long: Vec<i64> = perm.iter().copied().filter(|&p| dims.get(p as usize).is_some_and(|d| !d.is(1))).collect();
    long.is_sorted()
}
