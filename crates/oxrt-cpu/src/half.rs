//! Nodes over half precision, run by the kernels of single precision: converted on the way in and out.

use crate::backend::{Ctx, bound, kernel};
use crate::compute::{Shared, cut};
use crate::kernels::elementwise::Format;
use crate::ops::{Entry, OPS};
use oxrt_backend::{Bound, Io, Kernel, NodeView, Packing};
use oxrt_ir::{Graph, NodeId, Tensor, ValueType};
use oxrt_tensor::{DType, Error, Result};
use std::sync::{Arc, OnceLock};

/// Elements that a task converts at least.
const MIN_PER_TASK: usize = 32 * 1024;

/// Every entry under the name it has when run this way.
pub(crate) fn entries() -> &'static [(&'static str, &'static Entry)] {
    static LIST: OnceLock<Vec<(&'static str, &'static Entry)>> = OnceLock::new();
    LIST.get_or_init(|| {
        // Candidates' names live as long as the program; there is one per entry.
        OPS.iter().map(|e| (&*Box::leak(format!("f32:{}", e.name).into_boxed_str()), *e)).collect()
    })
}

fn format(dtype: DType) -> Option<Format> {
    match dtype {
        DType::F16 => Some(Format::F16),
        DType::BF16 => Some(Format::Bf16),
        _ => None,
    }
}

/// The node in a graph of its own, with single precision for half. `None` when there is no half to widen, or widening
/// would change the node's meaning.
pub(crate) fn widened(node: &NodeView) -> Option<(Graph, NodeId)> {
    let half = |ty: &ValueType| ty.dtype().and_then(format).is_some();
    let (inputs, outputs) = (node.node().inputs(), node.node().outputs());
    let any = inputs.iter().chain(outputs).flatten().any(|&v| half(&node.graph[v].ty));
    if !any || node.op().starts_with("Cast") || node.node().subgraphs().next().is_some() {
        return None;
    }
    let wide = |ty: &ValueType| match ty {
        ValueType::Tensor(t) if format(t.dtype).is_some() => {
            let mut t = t.clone();
            t.dtype = DType::F32;
            ValueType::Tensor(t)
        }
        other => other.clone(),
    };
    let mut graph = Graph::new("half");
    let mut ids = Vec::new();
    for (i, v) in inputs.iter().enumerate() {
        let Some(v) = *v else {
            ids.push(None);
            continue;
        };
        let value = &node.graph[v];
        let id = match node.graph.constant(v) {
            Some(t) if format(t.dtype()).is_some() => {
                let floats = Tensor::from_f64(DType::F32, t.shape(), &t.to_f64_vec().ok()?).ok()?;
                graph.add_constant(&format!("in{i}"), floats)
            }
            Some(t) => graph.add_constant(&format!("in{i}"), t.clone()),
            None => graph.add_input(&format!("in{i}"), wide(&value.ty)),
        };
        graph[id].contents = value.contents.clone();
        ids.push(Some(id));
    }
    let id = graph.add_node(node.op(), &node.node().name, &ids, node.attrs().clone(), outputs.len());
    let made = graph[id].outputs().to_vec();
    for (i, v) in outputs.iter().enumerate() {
        match (made[i], v) {
            (Some(new), Some(old)) => graph[new].ty = wide(&node.graph[*old].ty),
            // An output that nobody asked for must stay absent: it would be computed, or not be supported.
            (Some(_), None) => return None,
            _ => {}
        }
    }
    Some((graph, id))
}

/// Packs the widened node.
pub(crate) fn pack(ctx: &Ctx, node: &NodeView, entry: &Entry) -> Result<Packing> {
    let (graph, id) = widened(node).ok_or_else(|| Error::bug("a node without half precision"))?;
    let mut packing = (entry.pack)(ctx, &NodeView::new(&graph, id))?;
    // Constants of half precision that are not packed arrive as they are, and are widened in every run.
    packing.consumed.sort_unstable();
    Ok(packing)
}

/// Loads the widened node.
pub(crate) fn load(ctx: &Ctx, node: &NodeView, entry: &Entry, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let (graph, id) = widened(node).ok_or_else(|| Error::bug("a node without half precision"))?;
    let inner = (entry.load)(ctx, &NodeView::new(&graph, id), packed)?;
    let formats = |dtypes: Vec<Option<DType>>| dtypes.into_iter().map(|d| d.and_then(format)).collect::<Vec<_>>();
    let inputs = formats((0..node.num_inputs()).map(|i| node.dtype(i)).collect());
    let outputs = formats((0..node.num_outputs()).map(|i| node.output_dtype(i)).collect());
    let ctx = ctx.clone();
    kernel(move |args| {
        let step = inner.bind(args)?;
        let len = |shape: Option<&[usize]>| shape.map_or(0, |s| s.iter().product::<usize>());
        let mut at = step.workspace_bytes().next_multiple_of(64);
        let mut place = |format: Option<Format>, n: usize| {
            format.map(|format| {
                let slot = Slot { format, n, at };
                at += (n * 4).next_multiple_of(64);
                slot
            })
        };
        let ins: Vec<_> = inputs.iter().enumerate().map(|(i, &f)| place(f, len(args.opt_shape(i)))).collect();
        let outs: Vec<_> =
            outputs.iter().enumerate().map(|(i, &f)| place(f, len(args.outputs.get(i).copied().flatten()))).collect();
        let flops = step.flops() as usize;
        let step: Arc<dyn Bound> = step.into();
        let ctx = ctx.clone();
        bound(move |io| run(&ctx, &*step, &ins, &outs, io)).workspace(at).flops(flops).boxed()
    })
}

/// Where a widened tensor lies in the workspace.
#[derive(Clone, Copy)]
struct Slot {
    format: Format,
    n: usize,
    at: usize,
}

/// Most inputs or outputs of a node whose pointers are kept on the stack.
const MAX: usize = 16;

fn run(ctx: &Ctx, step: &dyn Bound, ins: &[Option<Slot>], outs: &[Option<Slot>], io: &Io) -> Result<()> {
    if ins.len() > MAX || outs.len() > MAX {
        return Err(Error::unsupported(format!("a node of {} inputs in half precision", ins.len())));
    }
    let mut from = [std::ptr::null::<u8>(); MAX];
    let mut to = [std::ptr::null_mut::<u8>(); MAX];
    from[..io.inputs.len()].copy_from_slice(io.inputs);
    to[..io.outputs.len()].copy_from_slice(io.outputs);
    let each = |n: usize, f: &(dyn Fn(usize, usize) + Sync)| {
        let parts = ctx.pool.parts(n / MIN_PER_TASK);
        ctx.pool.run(parts, |part| {
            let (start, count) = cut(n, parts, part);
            f(start, count);
        });
    };
    for (i, slot) in ins.iter().enumerate() {
        let Some(Slot { format, n, at }) = *slot else { continue };
        if from[i].is_null() {
            continue;
        }
        let (src, dst) = (Shared(from[i].cast_mut()), Shared(io.workspace.wrapping_add(at).cast::<f32>()));
        // SAFETY: the slot has room for the input's elements; parts are disjoint.
        each(n, &|start, count| unsafe { (ctx.kernels.widen)(format, src.at(start * 2), dst.at(start), count) });
        from[i] = dst.get().cast_const().cast();
    }
    for (i, slot) in outs.iter().enumerate() {
        if let (Some(slot), false) = (slot, to[i].is_null()) {
            to[i] = io.workspace.wrapping_add(slot.at);
        }
    }
    let inner = Io {
        inputs: &from[..ins.len()],
        outputs: &to[..outs.len()],
        workspace: io.workspace,
        device: Default::default(),
    };
    // SAFETY: the pointers are those of the bound sizes in single precision.
    unsafe { step.run(&inner)? };
    for (i, slot) in outs.iter().enumerate() {
        let Some(Slot { format, n, .. }) = *slot else { continue };
        if io.outputs[i].is_null() {
            continue;
        }
        let (src, dst) = (Shared(to[i].cast::<f32>()), Shared(io.outputs[i]));
        // SAFETY: both sides have the output's elements; parts are disjoint.
        each(n, &|start, count| unsafe { (ctx.kernels.narrow)(format, src.at(start), dst.at(start * 2), count) });
    }
    Ok(())
}
