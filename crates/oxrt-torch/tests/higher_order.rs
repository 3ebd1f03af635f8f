//! Operators whose arguments are graphs, as the serializer writes them.

mod common;
use common::*;
use oxrt_tensor::Tensor;
use oxrt_torch::ImportOptions;

fn x23() -> Tensor {
    Tensor::from_slice(&[2, 3], &[1f32, 2.0, 3.0, 4.0, 5.0, 6.0])
}

fn program<'a>(nodes: &'a [&'a str], values: &'a [(&'a str, i64, &'a [&'a str])]) -> Tiny<'a> {
    Tiny { values, nodes, output: "y", weight: false, guards: "" }
}

#[test]
fn wrappers_that_concern_training_or_the_compiler_are_inlined() {
    let double = body(&["a"], &["aten.mul.Tensor(self=t:a; other=i:2) -> b"], &["b"]);
    for call in [
        "higher_order.invoke_subgraph(=g:GRAPH; =s:subgraph_0; =t:x)",
        "higher_order.wrap_with_set_grad_enabled(=i:0; =g:GRAPH; =t:x)",
        "higher_order.tag_activation_checkpoint(=g:GRAPH; =t:x; use_reentrant=i:0; preserve_rng_state=i:1)",
        "higher_order.strict_mode(=g:GRAPH; =T:x)",
        "higher_order.hints_wrapper(=g:GRAPH; =T:x; =T:; hints=s:any)",
        "higher_order.wrap(=g:GRAPH; =t:x)",
    ] {
        let call = format!("{} -> y", call.replace("GRAPH", &double));
        let values: &[(&str, i64, &[&str])] = &[("x", 7, &["3"]), ("y", 7, &["3"])];
        let nodes = [call.as_str()];
        let x = Tensor::from_slice(&[3], &[1f32, 2.0, 3.0]);
        assert_eq!(run(&program(&nodes, values), x), [2.0, 4.0, 6.0], "{call}");
    }
}

#[test]
fn a_wrapper_with_operands_that_do_not_fit_is_refused() {
    let add = body(&["a", "b"], &["aten.add.Tensor(self=t:a; other=t:b) -> c"], &["c"]);
    let call = format!("higher_order.invoke_subgraph(=g:{add}; =s:s; =t:x) -> y");
    let values: &[(&str, i64, &[&str])] = &[("x", 7, &["3"]), ("y", 7, &["3"])];
    let nodes = [call.as_str()];
    let error = import_bytes(&program(&nodes, values).bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("a subgraph takes 2 inputs, given 1"), "{error}");
}

#[test]
fn associative_scan_combines_prefixes() {
    // Not commutative: 2 l + r.
    let combine = body(
        &["l", "r"],
        &["aten.mul.Tensor(self=t:l; other=i:2) -> d", "aten.add.Tensor(self=t:d; other=t:r) -> s"],
        &["s"],
    );
    for rows in ["2", "s0"] {
        let call = format!("higher_order.associative_scan(=g:{combine}; =T:x; =T:) -> y");
        let sizes = [rows, "3"];
        let values: &[(&str, i64, &[&str])] = &[("x", 7, &sizes), ("y", 7, &sizes)];
        let nodes = [call.as_str()];
        assert_eq!(run(&program(&nodes, values), x23()), [1.0, 2.0, 3.0, 6.0, 9.0, 12.0]);
        let one = Tensor::from_slice(&[1, 3], &[7f32, 8.0, 9.0]);
        if rows == "s0" {
            assert_eq!(run(&program(&nodes, values), one), [7.0, 8.0, 9.0]);
        }
    }
}

#[test]
fn what_a_custom_operator_writes_is_a_result_of_its_node() {
    let values: &[(&str, i64, &[&str])] = &[("x", 7, &["2", "3"]), ("w", 7, &["2", "3"]), ("y", 7, &["2", "3"])];
    for call in [
        "higher_order.auto_functionalized_v2(=o:torch.ops.my.touch.default; scale=f:2.5; _x_base_index=i:0; _all_bases=T:x) -> -,w",
        "higher_order.auto_functionalized(=o:torch.ops.my.touch.default; scale=f:2.5; x=t:x) -> -,w",
    ] {
        let nodes = [call, "aten.relu.default(self=t:w) -> y"];
        let m = import_bytes(&program(&nodes, values).bytes(), &ImportOptions::default()).unwrap().model;
        let (_, node) = m.graph.nodes().next().unwrap();
        assert_eq!((&*node.op, node.inputs().len(), node.outputs().len()), ("my.touch", 1, 1));
        assert_eq!(node.attrs.float_or("scale", 0.0).unwrap(), 2.5);
    }
    let nodes = ["my.touch.default(x=t:x) -> ", "aten.relu.default(self=t:x) -> y"];
    let error = import_bytes(&program(&nodes, values).bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("my.touch.default: a custom operator without results"), "{error}");
    assert!(error.contains("run_decompositions"), "{error}");
    let view = [
        "higher_order.auto_functionalized_v2(=o:torch.ops.my.touch.default; _x_base_index=i:0; _x_size=l:3; _all_bases=T:x) -> -,w",
        "aten.relu.default(self=t:w) -> y",
    ];
    let error = import_bytes(&program(&view, values).bytes(), &ImportOptions::default()).unwrap_err().to_string();
    assert!(error.contains("writes a view of its argument (`_x_size`)"), "{error}");
}
