//! What a node costs: operations and bytes, as expressions over the symbolic sizes.
//!
//! A multiply-add counts as two operations, a comparison or an `exp` as one. Figures are those of the mathematics, whatever
//! a kernel does (Winograd's method multiplies less). Of `If` the dearer branch counts; bodies of `Loop` and `Scan` count once per turn.

use crate::control::stays;
use crate::scalar::{Instr, Program};
use crate::shape::axis;
use oxrt_ir::{Dim, Graph, Node, NodeId, ValueId};

/// What one run of a node costs.
#[derive(Clone, Debug, PartialEq)]
pub struct Cost {
    /// Floating-point (or integer) operations; `None` where no rule is known or sizes are not.
    pub flops: Option<Dim>,
    /// Bytes of inputs and outputs, each counted once; `None` where sizes are not known.
    pub bytes: Option<Dim>,
    /// Elements of its constants, those of its bodies included.
    pub parameters: usize,
    pub parameter_bytes: usize,
    /// Nodes whose operations are not known: itself, or those of its bodies. `flops` counts the others.
    pub unknown: usize,
    /// Whether a loop is in it whose number of turns is not known: one turn is counted.
    pub per_turn: bool,
}

/// Operators that look at a tensor in another way: nothing is read or written.
const VIEWS: &[&str] = &["Reshape", "Squeeze", "Unsqueeze", "Flatten", "Identity", "Shape", "Size", "Dropout"];

/// Operators that copy, choose or convert elements: bytes, but no arithmetic.
const MOVES: &[&str] = &[
    "Cast",
    "CastLike",
    "Compress",
    "Concat",
    "ConstantOfShape",
    "DepthToSpace",
    "Expand",
    "EyeLike",
    "Gather",
    "GatherElements",
    "GatherND",
    "NonZero",
    "OneHot",
    "Pad",
    "Range",
    "ScatterElements",
    "ScatterND",
    "Slice",
    "SpaceToDepth",
    "Split",
    "Tile",
    "Transpose",
    "Trilu",
    "Unique",
    "oxrt.Lookup",
];

/// The cost of a node. Constants that several nodes share count for each of them.
pub fn cost(g: &Graph, id: NodeId) -> Cost {
    let node = &g[id];
    if node.subgraphs().next().is_some() {
        return of_bodies(g, node);
    }
    let constants = || node.inputs().iter().flatten().filter_map(|&v| g.constant(v));
    let view = VIEWS.contains(&&*node.op);
    let bytes = match view {
        true => Some(Dim::Const(0)),
        false => node.inputs().iter().chain(node.outputs()).flatten().map(|&v| bytes(g, v)).sum::<Option<Dim>>(),
    };
    let flops = if view || MOVES.contains(&&*node.op) { Some(Dim::Const(0)) } else { flops(g, node) };
    Cost {
        unknown: flops.is_none() as usize,
        per_turn: false,
        flops,
        bytes,
        parameters: constants().map(|t| t.len()).sum(),
        parameter_bytes: constants().map(|t| t.bytes().len()).sum(),
    }
}

/// The cost of `If`, `Loop`, `Scan` and other nodes with graphs inside.
fn of_bodies(g: &Graph, node: &Node) -> Cost {
    let mut total = node.subgraphs().map(|(_, body)| of_graph(body)).reduce(dearer).unwrap_or_else(nothing);
    let turns = match &*node.op {
        "If" => Some(Dim::Const(1)),
        "Loop" => loop_turns(g, node),
        "Scan" => scan_turns(g, node),
        _ => None,
    };
    match turns {
        Some(turns) => {
            total.flops = total.flops.map(|f| f * turns.clone());
            total.bytes = total.bytes.map(|b| b * turns);
        }
        None => total.per_turn = true,
    }
    total
}

fn nothing() -> Cost {
    Cost {
        flops: Some(Dim::Const(0)),
        bytes: Some(Dim::Const(0)),
        parameters: 0,
        parameter_bytes: 0,
        unknown: 0,
        per_turn: false,
    }
}

/// The cost of all nodes of a graph: of those whose cost is known.
fn of_graph(g: &Graph) -> Cost {
    g.nodes().map(|(id, _)| cost(g, id)).fold(nothing(), |sum, c| Cost {
        flops: Some(sum.flops.into_iter().chain(c.flops).sum()),
        bytes: Some(sum.bytes.into_iter().chain(c.bytes).sum()),
        parameters: sum.parameters + c.parameters,
        parameter_bytes: sum.parameter_bytes + c.parameter_bytes,
        unknown: sum.unknown + c.unknown,
        per_turn: sum.per_turn | c.per_turn,
    })
}

/// Of two branches; both are in memory.
fn dearer(a: Cost, b: Cost) -> Cost {
    let max = |a: Option<Dim>, b: Option<Dim>| Some(a?.at_least(&b?));
    Cost {
        flops: max(a.flops, b.flops),
        bytes: max(a.bytes, b.bytes),
        parameters: a.parameters + b.parameters,
        parameter_bytes: a.parameter_bytes + b.parameter_bytes,
        unknown: a.unknown + b.unknown,
        per_turn: a.per_turn | b.per_turn,
    }
}

/// Turns of a `Loop` that only its trip count ends.
fn loop_turns(g: &Graph, node: &Node) -> Option<Dim> {
    let body = node.attrs.get_graph("body").ok()??;
    let number = |v: ValueId| match g.constant(v) {
        Some(t) => t.to_i64_vec().ok()?.first().map(|&n| Dim::Const(n)),
        None => g[v].contents.as_ref()?.elements.first().cloned(),
    };
    let started = node.input(1).is_none_or(|v| number(v).is_some_and(|d| d.is(1)));
    node.input(0).and_then(number).filter(|_| started && stays(body))
}

/// Turns of a `Scan`: the size of what it goes along.
fn scan_turns(g: &Graph, node: &Node) -> Option<Dim> {
    let scanned = usize::try_from(*node.attrs.get_int("num_scan_inputs").ok()??).ok()?;
    let dims = g.dims(node.input(node.inputs().len().checked_sub(scanned)?)?)?;
    let along = node.attrs.ints("scan_input_axes").ok()?.and_then(|axes| axes.first().copied()).unwrap_or(0);
    dims.get(axis(along, dims.len()).ok()?).cloned()
}

/// Bytes of a value.
pub fn bytes(g: &Graph, v: ValueId) -> Option<Dim> {
    let bits = g[v].ty.dtype()?.bits() as i64;
    let count = elements(g, v)?;
    Some(if bits % 8 == 0 { count * (bits / 8) } else { (count * bits).ceil_div(&Dim::Const(8)) })
}

fn elements(g: &Graph, v: ValueId) -> Option<Dim> {
    Some(g.dims(v)?.iter().cloned().product())
}

fn flops(g: &Graph, node: &Node) -> Option<Dim> {
    let input = |i: usize| g.dims(node.input(i)?);
    let count = |v: Option<ValueId>| elements(g, v?);
    let (x, y) = (count(node.input(0)), count(node.output(0)));
    let per_result = |k: i64| y.clone().map(|y| y * k);
    let kernel = || Some(node.attrs.ints("kernel_shape").ok()??.iter().product::<i64>());
    // Each result of a convolution sums over a group's channels and the window.
    let window = |i: usize| input(i).map(|w| w.iter().skip(1).cloned().product::<Dim>());
    let extras = |first: usize| node.inputs().iter().skip(first).flatten().count() as i64;
    match &*node.op {
        "Conv" | "FusedConv" | "oxrt.Conv" => Some(y? * (window(1)? * 2 + extras(2))),
        "ConvInteger" | "oxrt.QConv" => Some(y? * (window(1)? * 2)),
        "QLinearConv" => Some(y? * (window(3)? * 2)),
        "ConvTranspose" | "oxrt.ConvTranspose" => Some(x? * (window(1)? * 2)),
        "MatMul" | "MatMulInteger" | "oxrt.QMatMul" | "oxrt.QGemm" | "oxrt.BlockGemm" => {
            Some(y? * (input(0)?.last()?.clone() * 2))
        }
        "QLinearMatMul" => Some(y? * (input(0)?.last()?.clone() * 2)),
        "oxrt.Gemm" => Some(y? * (input(0)?.last()?.clone() * 2 + extras(2))),
        "Gemm" => {
            let a = input(0)?;
            let k = if node.attrs.bool_or("transA", false).ok()? { a.first()? } else { a.last()? };
            Some(y? * (k.clone() * 2 + extras(2)))
        }
        "Attention" | "oxrt.Attention" => attention(node, input(0)?, input(1)?, input(2)?),
        "LSTM" => recurrent(input(0)?, input(2)?),
        "GRU" | "RNN" => recurrent(input(0)?, input(2)?),
        "Softmax" | "LogSoftmax" | "Hardmax" => per_result(5),
        "LayerNormalization" | "GroupNormalization" | "InstanceNormalization" | "oxrt.GroupNorm" => per_result(8),
        "RMSNormalization" | "LpNormalization" => per_result(4),
        "BatchNormalization" | "QuantizeLinear" | "DequantizeLinear" => per_result(2),
        "MaxPool" | "AveragePool" | "LpPool" | "oxrt.MaxPool" | "oxrt.AveragePool" => per_result(kernel()?),
        "Resize" | "oxrt.Resize" | "GridSample" => per_result(8),
        op if op.starts_with("Reduce")
            || op.starts_with("Arg")
            || op.contains("GlobalAveragePool")
            || op == "GlobalMaxPool" =>
        {
            x
        }
        "CumSum" | "CumProd" => x,
        _ => {
            let program = Program::of_node(node).ok()??;
            let work = program.instrs.iter().filter(|i| !matches!(i, Instr::Input(_) | Instr::Const(_))).count();
            per_result(work.max(1) as i64)
        }
    }
}

/// Scores and weighted sums: each pair of a query and a key costs a multiply-add per element of both heads.
fn attention(node: &Node, q: &[Dim], k: &[Dim], v: &[Dim]) -> Option<Dim> {
    let layout = node.attrs.string_or("layout", "bhsd").ok()?;
    let heads_second = layout == "bhsd";
    match (q, k, v) {
        ([b, q1, q2, d], [_, k1, k2, _], [_, _, _, dv]) => {
            let (heads, queries, keys) = if heads_second { (q1, q2, k2) } else { (q2, q1, k1) };
            Some(b.clone() * heads.clone() * queries.clone() * keys.clone() * (d.clone() + dv.clone()) * 2)
        }
        ([first, second, _], [k1, k2, _], [..]) if matches!(layout, "bsw" | "sbw") => {
            let number = |name: &str| node.attrs.int_or(name, 0).ok();
            let sizes = number("heads")? * (number("size")? + number("value_size")?);
            let keys = if layout == "bsw" { k2 } else { k1 };
            Some(first.clone() * second.clone() * keys.clone() * (sizes * 2))
        }
        // [batch, length, heads * size]: equal sizes of heads of keys and values.
        ([b, queries, width], [_, keys, _], [..]) => {
            Some(b.clone() * queries.clone() * keys.clone() * width.clone() * 4)
        }
        _ => None,
    }
}

/// x [length, batch, input], recurrent weights [directions, gates * hidden, hidden].
fn recurrent(x: &[Dim], r: &[Dim]) -> Option<Dim> {
    let ([length, batch, input], [directions, gates, hidden]) = (x, r) else { return None };
    let per_step = directions.clone() * gates.clone() * (input.clone() + hidden.clone()) * 2;
    Some(length.clone() * batch.clone() * per_step)
}

#[cfg(test)]
mod tests {
    use super::*;
    use oxrt_ir::{Model, parse_graph};

    fn flops_of(text: &str) -> String {
        let mut m = Model { graph: parse_graph(text).unwrap(), ..Default::default() };
        crate::infer::infer_model(&mut m).unwrap();
        let g = &m.graph;
        g.nodes().map(|(id, _)| cost(g, id).flops.map_or("?".into(), |f| f.to_string())).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn products_and_elementwise() {
        assert_eq!(flops_of("(f32[n, 4] x) { y = MatMul(x, f32[4, 3]{1}) } => y"), "24*n");
        assert_eq!(flops_of("(f32[n, 4] x) { y = Relu(x) } => y"), "4*n");
        assert_eq!(flops_of("(f32[n, 2, 5, 5] x) { y = Conv(x, f32[3, 2, 3, 3]{1}) } => y"), "972*n");
        assert_eq!(flops_of("(f32[2, 3] x) { y = Transpose(x) } => y"), "0");
    }

    fn only(text: &str) -> Cost {
        let mut m = Model { graph: parse_graph(text).unwrap(), ..Default::default() };
        crate::infer::infer_model(&mut m).unwrap();
        let g = &m.graph;
        let found = g.nodes().find(|(_, n)| n.subgraphs().next().is_some()).map(|(id, _)| cost(g, id));
        found.unwrap()
    }

    #[test]
    fn of_branches_the_dearer_counts() {
        let c = only(
            "(bool c) { y = If<then_branch={() { a = MatMul(f32[2, 4]{1}, f32[4, 4]{1}) } => a}, else_branch={() { b = Relu(f32[2, 4]{1}) } => b}>(c) } => y",
        );
        assert_eq!(c.flops, Some(Dim::Const(64)));
        // Weights of both branches are in memory.
        assert_eq!((c.parameters, c.unknown, c.per_turn), (32, 0, false));
    }

    #[test]
    fn bodies_count_once_per_turn() {
        let body = "{(i64 i, bool c, f32[8] a) { b = Relu(a); d = Identity(c) } => d, b}";
        let looped =
            |count: &str| only(&format!("(f32[8] s, i64 n) {{ y = Loop<body={body}>({count}, bool{{1}}, s) }} => y"));
        let known = looped("i64{5}");
        assert_eq!((known.flops, known.per_turn), (Some(Dim::Const(40)), false));
        let open = looped("n");
        assert_eq!((open.flops, open.per_turn), (Some(Dim::Const(8)), true));
        let scan = only(
            "(f32[1] s, f32[t, 1] x) { a, y = Scan<num_scan_inputs=1, body={(f32[1] s, f32[1] x) { b = Add(s, x); d = Identity(b) } => b, d}>(s, x) } => y",
        );
        assert_eq!((scan.flops.unwrap().to_string(), scan.per_turn), ("t".to_string(), false));
    }
}
