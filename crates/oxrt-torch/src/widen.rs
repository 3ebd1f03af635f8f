//! Element types that runtimes have kernels for.
//!
//! ONNX allows most operators in every element type; runtimes implement a few. An operator in a type that
//! onnxruntime's CPU provider has no kernel for is computed in a wider type and rounded back, which is what
//! PyTorch does for 16-bit floats itself. (Half precision is not listed: onnxruntime inserts those casts on its own.)

use oxrt_ir::{Attr, Attrs, DType, Graph, NodeId, ValueId, ValueType};
use oxrt_tensor::Result;

/// Operators and the types that they have kernels for, as `onnxruntime.capi…get_all_opkernel_def()` of
/// onnxruntime 1.32 lists them for the opsets that are written.
#[rustfmt::skip]
const KERNELS: &[(&str, &[DType])] = {
    use DType::{Bool, F16, F32, F64, I8, I16, I32, I64, U8, U32, U64};
    &[
        ("Acos Acosh Asin Asinh Atan Atanh AveragePool Conv ConvTranspose Cosh Det Elu Erf Gelu GlobalAveragePool HardSigmoid \
          InstanceNormalization LRN LeakyRelu LpPool PRelu RNN Selu Sinh Softplus Tan HardSwish ThresholdedRelu Col2Im", &[F32, F16]),
        ("Add Sub Mul Div MatMul Gemm Pow ReduceSum ReduceMean ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp \
          ReduceSumSquare CumSum CumProd Less LessOrEqual Greater GreaterOrEqual Einsum Range", &[F32, F64, I32, I64, F16]),
        ("Ceil Cos Exp Floor GRU GridSample LSTM Log LogSoftmax Reciprocal RoiAlign Round Sigmoid Sin Softmax Sqrt Tanh BatchNormalization \
          LayerNormalization RMSNormalization GroupNormalization DeformConv Sum LpNormalization Mish Swish", &[F32, F64, F16]),
        ("Neg", &[F32, F64, I8, I32, I64, F16]),
        ("Abs Sign", &[F32, F64, I8, I16, I32, I64, U8, DType::U16, U32, U64, F16]),
        ("Relu", &[F32, F64, I8, I32, F16]),
        ("Clip", &[F32, F64, I8, U8, I32, I64, U32, U64, F16]),
        ("Max Min", &[F32, F64, I32, I64, U32, U64, F16]),
        ("Mod", &[F32, F64, I8, I16, I32, I64, U8, DType::U16, U32, U64, F16]),
        ("Equal", &[F32, F64, Bool, I32, I64, F16, DType::String]),
        ("ReduceMax ReduceMin", &[F32, F64, I8, U8, I32, I64, F16]),
        ("ArgMax ArgMin", &[F32, F64, I8, U8, I32, I64, F16]),
        ("MaxPool", &[F32, F64, I8, U8, F16]),
        ("Resize", &[F32, I32, I8, U8, F16]),
        ("DepthToSpace SpaceToDepth", &[F32, F64, U8, F16]),
        ("TopK", &[F32, F64, I32, I64, F16]),
        ("Where", &[F32, F64, I32, I64, U8, F16, DType::String]),
        ("Trilu", &[F32, F64, I64, Bool, F16]),
        ("Pad", &[F32, F64, I8, U8, I32, I64, U32, U64, Bool, F16]),
        ("Tile Expand", &[F32, F64, I8, I16, I32, I64, U8, DType::U16, U32, U64, Bool, F16, DType::String]),
        ("NonZero", &[F32, I32, I64, U8, Bool]),
        ("EyeLike", &[F32, F64, I32, I64, U64]),
        ("Unique", &[F32, F64, I8, I64, DType::String]),
    ]
};

fn supported(op: &str) -> Option<&'static [DType]> {
    KERNELS.iter().find(|(names, _)| names.split_whitespace().any(|n| n == op)).map(|k| k.1)
}

/// Types that hold every value of `d` (nearly, for f64), narrowest first.
fn wider(d: DType) -> &'static [DType] {
    use DType::{BF16, Bool, F16, F32, F64, I8, I16, I32, I64, U8, U16, U32, U64};
    match d {
        BF16 | F16 | F64 => &[F32],
        Bool | U8 => &[I32, I64, F32],
        I8 | I16 | U16 => &[I32, I64, F32],
        I32 | U32 => &[I64, F64, F32],
        I64 | U64 => &[I64, F64, F32],
        _ => &[],
    }
}

/// Rewrites every node of the graph, those of its subgraphs included.
pub(crate) fn widen(graph: &mut Graph) -> Result<()> {
    let mut changed = false;
    for id in graph.node_ids() {
        if graph[id].subgraphs().next().is_some() {
            let mut attrs = graph[id].attrs.clone();
            for attr in attrs.0.values_mut() {
                if let Attr::Graph(g) = attr {
                    widen(g)?;
                }
            }
            graph.edit_attrs(id, |a| *a = attrs);
        }
        changed |= widen_node(graph, id);
    }
    if changed { graph.sort() } else { Ok(()) }
}

fn cast(graph: &mut Graph, like: NodeId, v: ValueId, to: DType, label: &str, index: usize) -> ValueId {
    let name = format!("{}/{label}_{index}", graph[like].name);
    let id = graph.add_node("Cast", &name, &[Some(v)], Attrs::new().with("to", to.to_onnx() as i64), 1);
    graph[id].source = graph[like].source.clone();
    let out = graph[id].outputs()[0].expect("asked for one output");
    graph[out].ty = retyped(&graph[v].ty, to);
    graph[out].contents = graph[v].contents.clone().filter(|_| to.is_int());
    out
}

fn retyped(ty: &ValueType, to: DType) -> ValueType {
    match ty.as_tensor() {
        Some(t) => ValueType::Tensor(oxrt_ir::TensorType { dtype: to, ..t.clone() }),
        None => ty.clone(),
    }
}

/// Casts around one node; whether there was need.
fn widen_node(graph: &mut Graph, id: NodeId) -> bool {
    let Some(allowed) = supported(&graph[id].op) else { return false };
    let key = if &*graph[id].op == "Where" { 1 } else { 0 };
    let Some(narrow) = graph[id].input(key).and_then(|v| graph[v].ty.dtype()) else { return false };
    if allowed.contains(&narrow) {
        return false;
    }
    let Some(&wide) = wider(narrow).iter().find(|w| allowed.contains(w) && **w != narrow) else { return false };
    let inputs: Vec<Option<ValueId>> = graph[id].inputs().to_vec();
    let widened = inputs
        .into_iter()
        .enumerate()
        .map(|(i, v)| match v {
            Some(v) if graph[v].ty.dtype() == Some(narrow) => Some(cast(graph, id, v, wide, "widen", i)),
            v => v,
        })
        .collect::<Vec<_>>();
    graph.set_inputs(id, &widened);
    let outputs: Vec<ValueId> = graph[id].outputs().iter().flatten().copied().collect();
    for (i, v) in outputs.into_iter().enumerate() {
        if graph[v].ty.dtype() != Some(narrow) {
            continue;
        }
        // The readers, and the graph's outputs, see the value in its own type under its own name.
        let back = cast(graph, id, v, narrow, "narrow", i);
        let name = std::mem::take(&mut graph[v].name);
        graph[back].name = name.clone();
        graph[v].name = format!("{name}_wide");
        graph[back].contents = graph[v].contents.take();
        graph.replace_uses(v, back);
        let cast_node = graph[back].producer().map(|p| p.0).expect("made above");
        graph.set_input(cast_node, 0, Some(v));
        graph[v].ty = retyped(&graph[v].ty.clone(), wide);
    }
    true
}
