//! Sizes stay exact through shape arithmetic as exporters write it.

use oxrt_ir::{Symbols, parse_graph};
use oxrt_ops::infer::infer_graph;

/// The inferred type of the first output.
fn typed(text: &str) -> String {
    let mut graph = parse_graph(text).unwrap();
    let mut symbols = Symbols::default();
    for s in ["n", "c", "h", "w", "s"] {
        symbols.declare(oxrt_ir::Symbol::new(s), oxrt_ir::Range::default());
    }
    infer_graph(&mut graph, &mut symbols).unwrap();
    graph[graph.outputs[0]].ty.to_string()
}

#[test]
fn windows_and_strides() {
    let conv = |attrs: &str, size: &str| {
        let text = format!("(f32[n, 3, h, w] x) {{ y = Conv<{attrs}>(x, f32[8, 3, 3, 3]{{1}}) }} => y");
        assert_eq!(typed(&text), format!("f32[n, 8, {size}]"), "{attrs}");
    };
    conv("pads=[1, 1, 1, 1]", "h, w");
    conv("strides=[2, 2], pads=[1, 1, 1, 1]", "floor((h + 1)/(2)), floor((w + 1)/(2))");
    conv("strides=[2, 1], auto_pad=\"SAME_UPPER\"", "floor((h + 1)/(2)), w");
    conv("dilations=[2, 2]", "h - 4, w - 4");
    let pool = |attrs: &str, size: &str| {
        let text = format!("(f32[n, 3, h] x) {{ y = MaxPool<{attrs}>(x) }} => y");
        assert_eq!(typed(&text), format!("f32[n, 3, {size}]"), "{attrs}");
    };
    pool("kernel_shape=[3], strides=[2], pads=[1, 1], ceil_mode=1", "floor((h)/(2)) + 1");
    pool("kernel_shape=[2], strides=[2], ceil_mode=1", "floor((h + 1)/(2))");
    assert_eq!(typed("(f32[n, 4, h] x) { y = ConvTranspose<strides=[2]>(x, f32[4, 2, 2]{1}) } => y"), "f32[n, 2, 2*h]");
}

#[test]
fn shapes_through_gather_and_concat() {
    let text = "(f32[n, c, h, w] x) { s = Shape(x); a = Gather(s, i64{0}); b = Unsqueeze(a, i64[1]{0});
        c = Concat<axis=0>(b, i64[1]{-1}); y = Reshape(x, c) } => y";
    assert_eq!(typed(text), "f32[n, c*h*w]");
    let text =
        "(f32[n, s, 64] x) { a = Shape<start=0, end=2>(x); c = Concat<axis=0>(a, i64[2]{4, 16}); y = Reshape(x, c);
        z = Transpose<perm=[0, 2, 1, 3]>(y) } => z";
    assert_eq!(typed(text), "f32[n, 4, s, 16]");
}

#[test]
fn sizes_on_a_detour_through_floats() {
    let text = "(f32[n, 3, h, w] x) { s = Shape<start=2>(x); f = Cast<to=1>(s); d = Div(f, 2.0); r = Floor(d);
        i = Cast<to=7>(r); a = Shape<end=2>(x); t = Concat<axis=0>(a, i); y = Resize(x, _, _, t) } => y";
    assert_eq!(typed(text), "f32[n, 3, floor((h)/(2)), floor((w)/(2))]");
    let scaled = |scale: &str, size: &str| {
        let text = format!(
            "(f32[n, 3, h] x) {{ s = Shape<start=2>(x); f = Cast<to=1>(s); m = Mul(f, {scale}); r = Floor(m);
             i = Cast<to=7>(r); y = ConstantOfShape(i) }} => y"
        );
        assert_eq!(typed(&text), format!("f32[{size}]"));
    };
    scaled("0.5", "floor((h)/(2))");
    scaled("1.5", "floor((3*h)/(2))");
    scaled("4.0", "4*h");
    // Narrow floats round: 2.75 is 3 in eight bits, and half of 4099 is no half float.
    for (text, not) in [
        (
            "(f32[n] x) { c = Cast<to=20>(f32[1]{2.75}); f = Cast<to=1>(c); r = Floor(f); i = Cast<to=7>(r);
          y = ConstantOfShape(i) } => y",
            "f32[2]",
        ),
        (
            "(f32[n, 3] x) { s = Shape<end=1>(x); f = Cast<to=10>(s); d = Div(f, f16[1]{2}); r = Floor(d);
          i = Cast<to=7>(r); y = ConstantOfShape(i) } => y",
            "f32[floor((n)/(2))]",
        ),
    ] {
        assert_ne!(typed(text), not);
    }
    let text = "(f32[n, 3, h, w] x) { y = Resize(x, _, f32[4]{1, 1, 2, 0.5}) } => y";
    assert_eq!(typed(text), "f32[n, 3, 2*h, floor((w)/(2))]");
}

#[test]
fn slices_ranges_and_masks() {
    let slice = |args: &str, size: &str| {
        let text = format!("(f32[s, 4] x) {{ y = Slice(x, {args}) }} => y");
        assert_eq!(typed(&text), format!("f32[{size}, 4]"), "{args}");
    };
    slice("i64[1]{0}, i64[1]{9223372036854775807}, i64[1]{0}", "s");
    slice("i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{0}", "s - 1");
    slice("i64[1]{0}, i64[1]{-1}, i64[1]{0}", "s - 1");
    slice("i64[1]{0}, i64[1]{9223372036854775807}, i64[1]{0}, i64[1]{2}", "floor((s + 1)/(2))");
    slice("i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{0}, i64[1]{-1}", "s");
    let text = "(f32[n, s] x) { a = Shape(x); l = Gather(a, i64{1}); y = Range(i64{0}, l, i64{1}) } => y";
    assert_eq!(typed(text), "i64[s]");
    let text = "(f32[n, s] x) { a = Shape(x); e = Equal(a, i64[2]{-1}); t = Where(e, i64[2]{5}, a); y = Expand(f32[1, 1]{1}, t) } => y";
    assert_eq!(typed(text), "f32[n, s]");
    let text = "(f32[n, s] x) { a = Shape(x); p = ReduceProd<keepdims=0>(a, i64[1]{0}); u = Unsqueeze(p, i64[1]{0}); y = Tile(f32[1]{1}, u) } => y";
    assert_eq!(typed(text), "f32[n*s]");
}

#[test]
fn pads_turned_around_as_an_older_exporter_does() {
    let text =
        "(f32[n, h, w] x) { s = Shape(x); a = Gather(s, i64[1]{1}); m = Mod(a, i64[1]{4}); z = Sub(i64[1]{4}, m);
        p = Concat<axis=0>(i64[1]{0}, i64[1]{0}, i64[1]{0}, z, i64[2]{0}); r = Reshape(p, i64[2]{-1, 2});
        t = Slice(r, i64[1]{-1}, i64[1]{-9223372036854775807}, i64[1]{0}, i64[1]{-1});
        u = Transpose<perm=[1, 0]>(t); v = Reshape(u, i64[1]{-1}); y = Pad(x, v) } => y";
    assert_eq!(typed(text), "f32[n, h - mod(h, 4) + 4, w]");
}

#[test]
fn a_loop_generalises_what_it_carries() {
    let text = "(i64 k, f32[1] s) { y = Loop<body={(i64 i, bool c, f32[1] a) { b = Concat<axis=0>(a, a) } => c, b}>(k, bool{1}, s) } => y";
    assert!(typed(text).starts_with("f32[_d"), "{}", typed(text));
    let text = "(i64 k, f32[n] s) { y, z = Loop<body={(i64 i, bool c, f32[n] a) { b = Neg(a); d = Neg(a) } => c, b, d}>(i64{3}, bool{1}, s) } => z";
    assert_eq!(typed(text), "f32[3, n]");
}
