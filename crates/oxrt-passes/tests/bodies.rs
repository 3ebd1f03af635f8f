//! Rules inside of branches and bodies, and around them.

mod common;

use common::{check, model, run};
use oxrt_ir::Model;
use oxrt_passes::{Log, Options, simplify};

fn simple(m: &mut Model) -> Log {
    simplify(m, &Options::default()).unwrap()
}

#[test]
fn branches_see_constants_around_them() {
    // In both branches the sum of two constants of the enclosing graph is one number.
    let text = "(f32[n] x, bool c) { k = Add(1.5, 2.25); y = If<then_branch={() { a = Add(k, 1.0); b = Mul(x, a) } => b}, \
                else_branch={() { d = Identity(x); e = Mul(d, 1.0); f = Sub(e, k) } => f}>(c) } => y";
    let m = check(text, simple, &["fold-constants", "remove-identities"], &[]);
    assert_eq!(m.graph.count_nodes(), 3, "{}", m.graph);
}

#[test]
fn a_branch_that_is_always_taken_stands_in_place_of_its_if() {
    for (condition, gone) in [("true", "Sub"), ("false", "Add")] {
        let n = if condition == "true" { 1 } else { 0 };
        let text = format!(
            "(f32[n] x) {{ y = If<then_branch={{() {{ a = Add(x, 1.0) }} => a}}, else_branch={{() {{ a = Sub(x, 2.0) }} => a}}>\
             (bool{{{n}}}); z = Relu(y) }} => z"
        );
        let m = check(&text, simple, &["inline-branches"], &[]);
        assert_eq!(m.graph.count_nodes(), 2, "{}", m.graph);
        assert!(m.graph.nodes().all(|(_, n)| &*n.op != gone), "{}", m.graph);
    }
    // The input decides.
    let text = "(f32[n] x, bool c) { y = If<then_branch={() { a = Add(x, 1.0) } => a}, else_branch={() { a = Sub(x, 2.0) } => a}>(c) } => y";
    check(text, simple, &[], &["inline-branches"]);
}

#[test]
fn an_output_that_a_branch_hands_on_keeps_its_name() {
    // A result that is the value of an input, and a graph output besides.
    let text = "(f32[n] x) { y = If<then_branch={() { } => x}, else_branch={() { a = Relu(x) } => a}>(bool{1}) } => y";
    let m = check(text, simple, &["inline-branches"], &[]);
    assert_eq!(m.graph.count_nodes(), 1, "{}", m.graph);
}

#[test]
fn bodies_of_loops_are_simplified_for_any_number_of_turns() {
    for turns in [0, 1, 5] {
        let text = format!(
            "(f32[n] x) {{ k = Add(1.0, 1.0); y, z = Loop<body={{(i64 i, bool c, f32[n] a) {{ t = Identity(a); u = Mul(t, k); v = Mul(u, 1.0); \
             w = Transpose<perm=[0]>(v); o = Neg(w) }} => c, v, o}}>(i64{{{turns}}}, bool{{1}}, x) }} => y, z"
        );
        let m = check(&text, simple, &["fold-sizes", "remove-identities"], &[]);
        assert_eq!(m.graph.count_nodes(), 3, "{}", m.graph);
    }
}

#[test]
fn a_carried_value_is_not_the_one_that_the_loop_starts_with() {
    // The start is a constant; what the body adds to it must not be folded.
    let text = "(f32[n] x, i64 n) { y = Loop<body={(i64 i, bool c, f32[] a) { b = Add(a, 1.0) } => c, b}>(n, bool{1}, 0.0); z = Add(x, y) } => z";
    for n in [0i64, 3] {
        let mut m = model(&text.replace("i64 n)", "f32 unused)").replace("(n, bool", &format!("(i64{{{n}}}, bool")));
        let before = run(&m);
        simple(&mut m);
        assert_eq!(before, run(&m), "{}", m.graph);
    }
}

#[test]
fn captures_that_nothing_reads_any_more_free_what_made_them() {
    let text = "(f32[n] x, bool c) { big = Exp(x); y = If<then_branch={() { s = Shape(big); t = ConstantOfShape(s); u = Add(t, x) } => u}, \
                else_branch={() { a = Relu(x) } => a}>(c) } => y";
    let m = check(text, simple, &[], &[]);
    for (_, node) in m.graph.nodes() {
        for (_, body) in node.subgraphs() {
            assert!(body.captures.iter().all(|c| !body[c.1].users().is_empty() || body.is_output(c.1)), "{}", m.graph);
        }
    }
}

#[test]
fn bodies_within_bodies() {
    let text = "(f32[n] x, bool c) { y = Loop<body={(i64 i, bool go, f32[n] a) { b = If<then_branch={() { p = Add(0.5, 0.5); q = Mul(a, p) } => q}, \
                else_branch={() { r = Sub(a, 0.0) ; s = Neg(r); t = Neg(s) } => t}>(c) } => go, b}>(i64{3}, bool{1}, x) } => y";
    check(text, simple, &["fold-constants", "remove-identities"], &[]);
}

#[test]
fn recurrent_operators_start_from_zeros_anyway() {
    let lstm = |state: &str| {
        format!(
            "(f32[3, n, 2] x) {{ s = Shape<start=1, end=2>(x); d = Concat<axis=0>(i64[1]{{1}}, s, i64[1]{{2}}); z = Expand({state}, d); \
             y, h, c = LSTM<hidden_size=2>(x, f32[1, 8, 2]{{0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.1, 1.2, 1.3, 1.4, 1.5, 1.6}}, \
             f32[1, 8, 2]{{0.3}}, f32[1, 16]{{0.1}}, _, z, z) }} => y"
        )
    };
    let m = check(&lstm("0.0"), simple, &["remove-zero-states"], &[]);
    assert_eq!(m.graph.count_nodes(), 1, "{}", m.graph);
    check(&lstm("0.5"), simple, &[], &["remove-zero-states"]);
}

#[test]
fn empty_parts_are_not_joined() {
    let text = "(f32[n, 4] x) { e = Slice(x, i64[1]{2}, i64[1]{2}, i64[1]{1}); y = Concat<axis=1>(e, x, e) ; z = Relu(y) } => z";
    let m = check(text, simple, &["remove-empty-parts"], &[]);
    assert_eq!(m.graph.count_nodes(), 1, "{}", m.graph);
}

#[test]
fn a_transpose_of_axes_of_one_is_a_reshape() {
    let text = "(f32[n, 1, 1, 6] x) { t = Transpose<perm=[0, 3, 1, 2]>(x); y = Reshape(t, i64[2]{-1, 6}) } => y";
    let m = check(text, simple, &["merge-reshapes"], &[]);
    assert_eq!(m.graph.count_nodes(), 1, "{}", m.graph);
    let text = "(f32[n, 2, 1, 3] x) { t = Transpose<perm=[0, 3, 1, 2]>(x); y = Reshape(t, i64[2]{-1, 6}) } => y";
    check(text, simple, &[], &["merge-reshapes"]);
}

#[test]
fn outputs_that_are_known_are_constants() {
    let m = check("(f32[n] x) { a = Add(1.0, 2.0); y = Relu(x) } => y, a", simple, &["fold-sizes"], &[]);
    assert_eq!(m.graph.count_nodes(), 1, "{}", m.graph);
}
