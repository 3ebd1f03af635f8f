//! Checks in ONNX files: `y = oxrt.Assert(x, condition)`, a call of a function of the file that passes `x` through.
//!
//! ONNX has no operator that fails on a condition. Readers that know `oxrt.Assert` check; others see the function's
//! body, an `Identity`, and drop the condition.

use crate::NEWEST_OPSET;
use crate::proto::{FunctionProto, NodeProto, OperatorSetIdProto};
use oxrt_ir::{Attr, Graph, NodeId};

/// The operator: without outputs in a graph, with one in a file.
pub(crate) const ASSERT: &str = "oxrt.Assert";

/// First version of the file format that has functions.
const FUNCTIONS_SINCE_IR: i64 = 8;

/// Hangs every check on the first output of its graph. Dropped where the file cannot say them, or the graph gives nothing.
/// True when some remain.
pub(crate) fn tie(graph: &mut Graph, ir: i64) -> bool {
    let mut any = false;
    let mut checks: Vec<NodeId> = Vec::new();
    for id in graph.node_ids() {
        if &*graph[id].op == ASSERT {
            checks.push(id);
        }
        if graph[id].subgraphs().next().is_some() {
            any |= graph.edit_attrs(id, |attrs| {
                let mut any = false;
                for attr in attrs.0.values_mut() {
                    match attr {
                        Attr::Graph(g) => any |= tie(g, ir),
                        Attr::Graphs(gs) => gs.iter_mut().for_each(|g| any |= tie(g, ir)),
                        _ => {}
                    }
                }
                any
            });
        }
    }
    for id in checks {
        let (condition, attrs, name) = (graph[id].input(0), graph[id].attrs.clone(), graph[id].name.clone());
        let source = graph[id].source.clone();
        graph.remove_node(id);
        let Some(x) = graph.outputs.first().copied().filter(|_| ir >= FUNCTIONS_SINCE_IR) else { continue };
        any = true;
        // The name of the output goes with the last of the chain.
        let y = graph.add_value(&graph[x].name.clone(), graph[x].ty.clone());
        let unchecked = graph.unused_value_name(&format!("{}_unchecked", graph[x].name));
        if graph[x].producer().is_some() {
            graph[x].name = unchecked;
        }
        graph.outputs[0] = y;
        let new = graph.add_node_with_outputs(ASSERT, &name, &[Some(x), condition], attrs, &[Some(y)]);
        graph[new].source = source;
    }
    any
}

/// The function that stands for the check where nobody knows it.
pub(crate) fn function() -> FunctionProto {
    let text = |list: &[&str]| list.iter().map(|s| s.to_string()).collect();
    FunctionProto {
        name: "Assert".into(),
        domain: "oxrt".into(),
        input: text(&["x", "condition"]),
        output: text(&["y"]),
        attribute: text(&["message"]),
        doc_string:
            "Gives x. A runtime that knows this function refuses to unless every element of the condition is true."
                .into(),
        node: vec![NodeProto {
            op_type: "Identity".into(),
            input: text(&["x"]),
            output: text(&["y"]),
            ..NodeProto::default()
        }],
        opset_import: vec![OperatorSetIdProto { domain: String::new(), version: NEWEST_OPSET.min(18) }],
        ..FunctionProto::default()
    }
}
