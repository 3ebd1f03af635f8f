//! Convolutions by cuDNN, where it is installed, with bias, residual and activation in one graph of operations. An activation
//! that the library does not have, or has no kernel for, follows in a pass of its own.

use super::conv::{Filter, pack_rows, supports as conv_supports, window};
use super::gemm::{epilogue_fits, exact, narrow};
use super::map::{Map, MapPlan};
use super::{Entry, output_dtype, require};
use crate::backend::Ctx;
use crate::driver::Cuda;
use crate::libraries::cudnn::graphs::{Activation, BIAS, ConvGraph, Graph, RESIDUAL, W, X, Y};
use crate::libraries::cudnn::{Choice, Plan};
use oxrt_backend::{Kernel, NodeView, Packing, bound, kernel};
use oxrt_ops::window::Window;
use oxrt_tensor::{DType, Error, Result, Tensor, bail};
use std::sync::Arc;

/// One entry for each of the plans that compete for a node.
macro_rules! entries {
    ($($i:literal $id:ident $name:literal)*) => {
        $(pub(super) const $id: Entry = Entry {
            narrow: true,
            timed: true,
            ..Entry::new($name, &["oxrt.Conv"], supports, pack::<$i>, load)
        };)*
    };
}
/// How many there are.
const ENTRIES: usize = 4;
entries! { 0 C0 "conv_cudnn_0" 1 C1 "conv_cudnn_1" 2 C2 "conv_cudnn_2" 3 C3 "conv_cudnn_3" }

/// Whether the library is installed, and may be used.
pub(super) fn is_there(ctx: &Ctx) -> Option<()> {
    require(ctx.libraries && ctx.gpu.as_cuda()?.libraries.cudnn.is_there())
}

fn supports(ctx: &Ctx, node: &NodeView) -> Option<()> {
    is_there(ctx)?;
    conv_supports(ctx, node)?;
    require(!node.has(2) || node.constant(2).is_some())?;
    asked(node, narrow(ctx, node)?).map(|_| ())
}

/// The graph that a node of fixed sizes asks the library for, in elements of type `of`. What the node's constants hold does not
/// matter: they are gone when an engine is loaded.
fn asked(node: &NodeView, of: DType) -> Option<ConvGraph> {
    // The library takes operands of one type.
    require(node.dtype(0) == Some(of) && node.output_dtype(0) == Some(of))?;
    require(!node.has(3) || node.dtype(3) == Some(of))?;
    let f = Filter::of(node).ok()?;
    // Depthwise filters have kernels of their own, and so have images of few channels.
    require(!f.is_depthwise() && !f.is_thin() && f.cin % 8 == 0 && f.cout % 8 == 0)?;
    let x = node.ty(0)?.static_shape()?;
    let [n, spatial @ .., c] = &x[..] else { return None };
    require(*c == f.cin * f.groups && spatial.len() == f.kernel.len())?;
    let kernel: Vec<i64> = f.kernel.iter().map(|&k| k as i64).collect();
    let placed = Window::new(node.attrs(), &kernel).ok()?.place(spatial).ok()?;
    // One axis is a row of an image of height 1.
    let two = |list: &[usize], fill: usize| match *list {
        [w] => Some([fill, w]),
        [h, w] => Some([h, w]),
        _ => None,
    };
    let signed = |list: &[i64], fill: usize| two(&super::sizes(list)?, fill);
    let (image, out) = (two(spatial, 1)?, two(&placed.out, 1)?);
    require(*n > 0 && out.iter().chain(&image).all(|&s| s > 0))?;
    let [r, s] = two(&f.kernel, 1)?;
    let (strides, dilations) = (signed(&placed.strides, 1)?, signed(&placed.dilations, 1)?);
    let (pads_begin, mut pads_end) = (signed(&placed.begin, 0)?, signed(&placed.end, 0)?);
    // Equal padding on both sides, which more kernels take, where results are the same.
    for (i, &k) in [r, s].iter().enumerate() {
        let (room, extent) = (image[i] + 2 * pads_begin[i], dilations[i] * (k - 1) + 1);
        if room >= extent && (room - extent) / strides[i] + 1 == out[i] {
            pads_end[i] = pads_begin[i];
        }
    }
    let attrs = node.attrs();
    let (alpha, beta) = (attrs.float_or("act_alpha", 0.0).ok()?, attrs.float_or("act_beta", 0.0).ok()?);
    Some(ConvGraph {
        of,
        x: [*n, *c, image[0], image[1]],
        y: [*n, f.cout, out[0], out[1]],
        w: [f.cout, f.cin, r, s],
        strides,
        dilations,
        pads_begin,
        pads_end,
        // The library's ready kernels that add a residual add a bias as well.
        bias: (node.has(2) || node.has(3)).then_some(of),
        residual: node.has(3),
        activation: Activation::named(attrs.string_or("activation", "none").ok()?, alpha, beta),
    })
}

/// Whether an activation follows.
fn is_active(node: &NodeView) -> Result<bool> {
    Ok(node.attrs().string_or("activation", "none")? != "none")
}

/// Graphs that serve a convolution: with a bias of the operands' type, which the library's ready kernels take; with one in single
/// precision; without the activation, which then follows in a pass of its own.
fn variants(plain: ConvGraph) -> [ConvGraph; 3] {
    let single = ConvGraph { bias: plain.bias.map(|_| DType::F32), ..plain.clone() };
    let bare = ConvGraph { activation: None, ..plain.clone() };
    [plain, single, bare]
}

/// Ways of the library to run a convolution, at most one for each entry: those that it has ready, and those that it compiles for
/// the graph. Where it has none for the activation, those without it.
fn conv_choices(ctx: &Ctx, graph: ConvGraph) -> Vec<(Graph, Choice)> {
    let exact = exact(ctx, graph.of);
    let found = |graph: ConvGraph| choices(ctx, Graph::Conv(graph), exact).unwrap_or_default();
    let [plain, single, bare] = variants(graph);
    let mut compiled = if single == plain { Vec::new() } else { found(single) };
    let mut ready = match plain.has_ready_kernels() || compiled.is_empty() {
        true => found(plain),
        false => Vec::new(),
    };
    if ready.is_empty() && compiled.is_empty() {
        ready = found(bare);
    }
    // As many of each where there are enough of both.
    compiled.truncate((ENTRIES / 2).max(ENTRIES.saturating_sub(ready.len())));
    ready.truncate(ENTRIES - compiled.len());
    ready.extend(compiled);
    ready
}

/// The graph that a node asks for in plain form.
fn node_graph(ctx: &Ctx, node: &NodeView) -> Result<Graph> {
    let graph = match node.op() {
        "oxrt.Conv" => narrow(ctx, node).and_then(|of| asked(node, of)).map(Graph::Conv),
        _ => super::cudnn_attention::asked(node).map(Graph::Attention),
    };
    graph.ok_or_else(|| Error::bug(format!("{} is not for cuDNN", node.op())))
}

/// Ways of the library to run a graph.
fn choices(ctx: &Ctx, graph: Graph, exact: bool) -> Result<Vec<(Graph, Choice)>> {
    let choices = cuda(ctx)?.libraries.cudnn.choices(&graph, exact)?;
    Ok(choices.into_iter().map(|choice| (graph.clone(), choice)).collect())
}

/// The GPU, whose context the thread then has entered.
fn cuda(ctx: &Ctx) -> Result<&Cuda> {
    let cuda = ctx.gpu.as_cuda().ok_or_else(|| Error::unsupported("cuDNN on the emulator"))?;
    cuda.enter()?;
    Ok(cuda)
}

/// What an engine keeps of a node's plan `i`, and its graph.
pub(super) fn plan_text(ctx: &Ctx, node: &NodeView, i: usize) -> Result<(Graph, String)> {
    let asked = node_graph(ctx, node)?;
    let cudnn = &cuda(ctx)?.libraries.cudnn;
    if let Some(there) = cudnn.recalled(&asked, i) {
        return Ok(there);
    }
    let mut all = match asked {
        Graph::Conv(graph) => conv_choices(ctx, graph),
        Graph::Attention(_) => choices(ctx, asked, false)?,
    };
    if i >= all.len() {
        return Err(Error::unsupported(format!(
            "cuDNN has {} plans for this node, and number {i} is wanted",
            all.len()
        ))
        .help("a tuning record of another version of cuDNN may name more: give `--tuning` another file"));
    }
    let (graph, choice) = all.swap_remove(i);
    let text = cudnn.text_of(&graph, &choice)?;
    Ok((graph, text))
}

/// The same as a tensor of an engine.
pub(super) fn as_tensor(text: &str) -> Result<Tensor> {
    Tensor::from_bytes(DType::U8, &[text.len()], text.as_bytes())
}

/// The plan of a graph that an engine kept.
pub(super) fn plan(ctx: &Ctx, graph: Graph, kept: Option<&Tensor>) -> Result<Arc<Plan>> {
    let kept = kept.ok_or_else(|| Error::invalid("the engine holds no plan for cuDNN"))?;
    cuda(ctx)?.libraries.cudnn.plan(&graph, &String::from_utf8_lossy(kept.bytes()))
}

/// Which plan a candidate is, if it is one of cuDNN's.
fn place(candidate: &str) -> Option<usize> {
    candidate.split_once("_cudnn_").and_then(|(_, i)| i.parse().ok())
}

/// Whether a candidate, if it is one of these, has a plan for a node.
pub(crate) fn serves(ctx: &Ctx, node: &NodeView, candidate: &str) -> bool {
    place(candidate).is_none_or(|i| plan_text(ctx, node, i).is_ok())
}

/// Graph and plan of a candidate, for later builds: plans that the library compiles are never twice the same bytes.
pub(crate) fn note(ctx: &Ctx, node: &NodeView, candidate: &str) -> Option<String> {
    let (graph, text) = plan_text(ctx, node, place(candidate)?).ok()?;
    Some(format!("{graph}\n{text}"))
}

/// Takes what [`note`] gave an earlier build.
pub(crate) fn recall(ctx: &Ctx, node: &NodeView, candidate: &str, note: &str) -> Option<()> {
    let asked = node_graph(ctx, node).ok()?;
    let (words, text) = note.split_once('\n')?;
    let all = match &asked {
        Graph::Conv(graph) => variants(graph.clone()).map(Graph::Conv).to_vec(),
        Graph::Attention(_) => vec![asked.clone()],
    };
    let found = all.into_iter().find(|graph| graph.to_string() == words)?;
    cuda(ctx).ok()?.libraries.cudnn.recall(asked, place(candidate)?, found, text)
}

/// [weights, the library's plan, bias where the graph has one, code of an activation that follows].
fn pack<const I: usize>(ctx: &Ctx, node: &NodeView) -> Result<Packing> {
    let (Graph::Conv(graph), text) = plan_text(ctx, node, I)? else { bail!(bug, "a convolution without one") };
    let of = graph.of;
    let f = Filter::of(node)?;
    let mut tensors = vec![pack_rows(ctx, node, &f, of, f.cin, f.depth())?];
    tensors.push(as_tensor(&text)?);
    let mut consumed = vec![1];
    if let Some(of) = graph.bias {
        let bias = node.constant(2).map(|b| b.to_f32_cow()).transpose()?;
        let zeros = || vec![0f32; f.cout].into();
        tensors.push(super::as_type(&[f.cout], &bias.unwrap_or_else(zeros), of)?);
    }
    if node.has(2) {
        consumed.push(2);
    }
    if graph.activation.is_none() && is_active(node)? {
        tensors.push(super::library::activation_behind(ctx, node, of)?);
    }
    Ok(Packing { tensors, consumed })
}

fn load(ctx: &Ctx, node: &NodeView, packed: &[Tensor]) -> Result<Box<dyn Kernel>> {
    let missing = || Error::invalid("packed weights are missing");
    let of = output_dtype(node, 0)?;
    let mut graph = asked(node, of).ok_or_else(|| Error::bug("no convolution for cuDNN"))?;
    let bias = if graph.bias.is_some() { Some(packed.get(2).ok_or_else(missing)?) } else { None };
    graph.bias = bias.map(Tensor::dtype);
    let after = match packed.get(2 + usize::from(bias.is_some())) {
        Some(code) => Some(Arc::new(Map::load(ctx, Some(code), &[of], of)?)),
        None => None,
    };
    if after.is_some() {
        graph.activation = None;
    }
    let plan = plan(ctx, Graph::Conv(graph.clone()), packed.get(1))?;
    let weights = ctx.weights(packed.first().ok_or_else(missing)?)?;
    let bias = bias.map(|b| ctx.weights(b)).transpose()?;
    let (f, attrs) = (Filter::of(node)?, node.attrs().clone());
    kernel(move |args| {
        let laid = window(args, &attrs, &f)?;
        epilogue_fits(args, f.cout)?;
        let ([n, _, height, width], y) = (graph.x, graph.y);
        if args.shape(0)?[0] != n || laid.input != [height, width] || laid.output != [y[2], y[3]] {
            bail!(bug, "a plan of cuDNN for {graph} at {:?}", args.shape(0)?);
        }
        let len = y.iter().product();
        let follows: Option<MapPlan> =
            after.as_ref().map(|map| map.plan(&[len], &[(vec![1], 0)], (vec![1], 0))).transpose()?;
        let (plan, weights, bias, after) = (plan.clone(), weights.clone(), bias.clone(), after.clone());
        let workspace = plan.workspace();
        bound(move |io| {
            let (y, bias) = (io.output::<u8>(0), bias.as_ref().map_or(std::ptr::null(), |b| b.ptr().cast_const()));
            let x = (X, io.input(0));
            let operands =
                [x, (W, weights.ptr().cast_const()), (Y, y.cast_const()), (BIAS, bias), (RESIDUAL, io.input(3))];
            // SAFETY: buffers have the bound sizes, the weights were packed for this node.
            unsafe {
                plan.run(io.device.queue, &operands, io.workspace)?;
                match (&after, &follows) {
                    (Some(map), Some(plan)) => plan.run(map, io, &[y.cast_const()], y),
                    _ => Ok(()),
                }
            }
        })
        .workspace(workspace)
        .flops(2 * len * f.depth())
        .boxed()
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::parse_graph;

    /// What a node asks for, in words.
    fn words(text: &str, of: DType) -> Option<String> {
        let mut graph = parse_graph(text).unwrap();
        oxrt_ops::infer::infer_graph(&mut graph, &mut Default::default()).unwrap();
        let id = *graph.node_ids().last().unwrap();
        asked(&NodeView::new(&graph, id), of).map(|g| g.to_string())
    }

    #[test]
    fn a_node_asks_for_one_graph_of_operations() {
        let node = |x: &str, w: &str, attrs: &str, rest: &str| {
            format!("({x}) {{ y = oxrt.Conv<{attrs}>(x, {w}{{0.5}}{rest}) }} => y")
        };
        let bias = ", f32[32]{1}";
        let cases = [
            (
                node(
                    "f16[2, 9, 8, 16] x, f16[2, 5, 4, 32] r",
                    "f32[32, 16, 3, 3]",
                    "kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1], activation=\"relu\"",
                    ", f32[32]{1}, r",
                ),
                DType::F16,
                "conv of f16 [2, 16, 9, 8] by [32, 16, 3, 3], strides [2, 2], dilations [1, 1], pads [1, 1] [1, 1] + residual + f16 bias, CUDNN_POINTWISE_RELU_FWD",
            ),
            // A row is an image of height 1.
            (
                node("bf16[2, 9, 16] x", "f32[32, 16, 3]", "kernel_shape=[3], pads=[2, 2], dilations=[2]", bias),
                DType::BF16,
                "conv of bf16 [2, 16, 1, 9] by [32, 16, 1, 3], strides [1, 1], dilations [1, 2], pads [0, 2] [0, 2] + bf16 bias",
            ),
            // Padding behind that no window reaches is as good as padding on both sides; other padding stays.
            (
                node(
                    "f16[1, 8, 9, 16] x",
                    "f32[32, 16, 3, 3]",
                    "kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 0, 2]",
                    "",
                ),
                DType::F16,
                "conv of f16 [1, 16, 8, 9] by [32, 16, 3, 3], strides [2, 2], dilations [1, 1], pads [1, 1] [1, 1]",
            ),
            (
                node(
                    "f16[1, 8, 8, 16] x",
                    "f32[32, 16, 3, 3]",
                    "kernel_shape=[3, 3], strides=[2, 2], pads=[0, 0, 1, 1]",
                    "",
                ),
                DType::F16,
                "conv of f16 [1, 16, 8, 8] by [32, 16, 3, 3], strides [2, 2], dilations [1, 1], pads [0, 0] [1, 1]",
            ),
            // A residual comes with a bias, and limits and slopes with the activation.
            (
                node(
                    "f32[1, 8, 8, 32] x",
                    "f32[32, 8, 1, 1]",
                    "kernel_shape=[1, 1], group=4, activation=\"clip\", act_alpha=-0.5, act_beta=6.0",
                    ", _, x",
                ),
                DType::F32,
                "conv of f32 [1, 32, 8, 8] by [32, 8, 1, 1], strides [1, 1], dilations [1, 1], pads [0, 0] [0, 0] + residual + f32 bias, CUDNN_POINTWISE_RELU_FWD CUDNN_ATTR_POINTWISE_RELU_LOWER_CLIP -0.5 CUDNN_ATTR_POINTWISE_RELU_UPPER_CLIP 6",
            ),
            // What the library has no mode for comes after it.
            (
                node("f16[1, 8, 8, 16] x", "f32[32, 16, 1, 1]", "kernel_shape=[1, 1], activation=\"mish\"", bias),
                DType::F16,
                "conv of f16 [1, 16, 8, 8] by [32, 16, 1, 1], strides [1, 1], dilations [1, 1], pads [0, 0] [0, 0] + f16 bias",
            ),
        ];
        for (text, of, want) in &cases {
            assert_eq!(words(text, *of).as_deref(), Some(*want), "{text}");
        }
        let none = [
            // Sizes that are not known yet, operands of several types, too few channels, depthwise filters.
            (node("f16[n, 8, 8, 16] x", "f32[32, 16, 1, 1]", "kernel_shape=[1, 1]", bias), DType::F16),
            (node("f32[1, 8, 8, 16] x", "f32[32, 16, 1, 1]", "kernel_shape=[1, 1]", bias), DType::F16),
            (node("f16[1, 8, 8, 3] x", "f32[32, 3, 1, 1]", "kernel_shape=[1, 1]", bias), DType::F16),
            (node("f16[1, 8, 8, 32] x", "f32[32, 1, 3, 3]", "kernel_shape=[3, 3], group=32", bias), DType::F16),
        ];
        for (text, of) in &none {
            assert_eq!(words(text, *of), None, "{text}");
        }
    }

    #[test]
    fn activations_are_those_of_the_library() {
        let has = |name: &str| Activation::named(name, 0.5, 6.0).is_some();
        let all =
            ["relu", "leaky_relu", "clip", "elu", "sigmoid", "tanh", "softplus", "silu", "swish", "gelu", "gelu_tanh"];
        assert!(all.iter().all(|name| has(name)));
        assert!(!["none", "hard_swish", "mish", "affine", "softsign"].iter().any(|name| has(name)));
    }
}
