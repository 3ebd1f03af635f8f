//! Rules that join, turn and scale: one graph where each fires, ones where it must not, and the numbers before and after.

mod common;

use common::{check, count, engine, model, simple};

#[test]
fn factors_become_part_of_weights() {
    // Through heads, turned: queries scaled as scaled_dot_product_attention is exported.
    let text = "(f32[b, 5, 6] x) {
        p = MatMul(x, f32[6, 8]{1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8})
        q = Add(p, f32[8]{1, 2, 3, 4, 5, 6, 7, 8})
        r = Reshape(q, i64[4]{0, 0, 2, 4})
        t = Transpose<perm=[0, 2, 1, 3]>(r)
        y = Mul(t, 0.25)
    } => y";
    let m = check(text, simple, &["fold-factors"], &[]);
    assert_eq!((count(&m, "Mul"), m.graph.num_nodes()), (0, 4), "{}", m.graph);
    // Scores are scaled in the product that makes one side.
    let scores = "(f32[2, 3, 4] x, f32[2, 4, 5] k) {
        q = MatMul(x, f32[4, 4]{0.5})
        s = MatMul(q, k)
        y = Div(s, 8.0)
    } => y";
    assert_eq!(check(scores, simple, &["fold-factors"], &[]).graph.num_nodes(), 2);
    // A scale per column, after the turn that puts columns first.
    let columns = "(f32[2, 3, 4] x) {
        p = MatMul(x, f32[4, 3]{1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12})
        t = Transpose<perm=[0, 2, 1]>(p)
        y = Mul(t, f32[3, 1]{1, 2, 3})
    } => y";
    check(columns, simple, &["fold-factors"], &[]);
    for kept in [
        // Somebody else reads the product.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n a = Mul(p, 2.0)\n y = Add(a, p) } => y",
        // The product is a result itself.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, 2.0) } => p, y",
        // A square would be scaled twice.
        "(f32[3, 3] x) { r = Sin(x)\n p = MatMul(r, r)\n y = Mul(p, 2.0) } => y",
        // Rows are not columns.
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, f32[2, 1]{1, 2}) } => y",
        // The factor makes the result larger.
        "(f32[1, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, f32[2, 3]{1, 2, 3, 4, 5, 6}) } => y",
        "(f32[2, 3] x) { p = Exp(x)\n y = Mul(p, 2.0) } => y",
        "(f32[2, 3] x) { p = MatMul(x, f32[3, 3]{1})\n y = Mul(p, 0.0) } => y",
    ] {
        check(kept, simple, &[], &["fold-factors"]);
    }
    check(
        "(f32[2, 3] x) { p = Relu(x)\n a = Mul(p, 2.0)\n y = Mul(a, f32[3]{1, 2, 3}) } => y",
        simple,
        &["fold-factors"],
        &[],
    );
    check(
        "(f32[2, 3] x) { a = MatMul(x, f32[3, 3]{0.5})\n p = Relu(a)\n y = Mul(p, -2.0) } => y",
        simple,
        &[],
        &["fold-factors"],
    );
    check(
        "(f32[2, 3] x) { a = Gemm<alpha=0.5>(x, f32[3, 4]{0.5}, f32[4]{1, 2, 3, 4})\n y = Mul(a, f32[4]{1, 2, 3, 4}) } => y",
        simple,
        &["fold-factors"],
        &[],
    );
    check(
        "(f32[2, 3] x) { a = LayerNormalization<axis=-1>(x, f32[3]{1, 2, 3}, f32[3]{3, 2, 1})\n b = Mul(a, f32[3]{4, 5, 6})\n y = Add(b, f32[3]{7, 8, 9}) } => y",
        simple,
        &["fold-factors", "fold-shifts"],
        &[],
    );
    check(
        "(f32[2, 3] x) { e = Exp(x)\n a = Div(f32[3]{1, 2, 3}, e)\n b = Mul(a, 3.0)\n c = Add(b, 1.0)\n y = Sub(c, f32[3]{4, 5, 6}) } => y",
        simple,
        &["fold-factors", "fold-shifts"],
        &[],
    );
}

#[test]
fn a_scale_and_shift_after_batch_normalisation_is_its_own() {
    let text = "(f32[n, 2, 3, 3] x) {
        b = BatchNormalization(x, f32[2]{1, 2}, f32[2]{3, 4}, f32[2]{0.5, -0.5}, f32[2]{1, 2})
        s = Mul(b, f32[2, 1, 1]{3, 5})
        t = Add(s, f32[2, 1, 1]{-1, 1})
        y = Relu(t)
    } => y";
    let m = check(text, simple, &["fold-factors", "fold-shifts"], &[]);
    assert_eq!(m.graph.num_nodes(), 2, "{}", m.graph);
}

#[test]
fn keys_turned_between_reshapes_are_turned_once() {
    let text = "(f32[b, s, 8] x) {
        r = Reshape(x, i64[4]{0, 0, 2, 4})
        t = Transpose<perm=[0, 2, 1, 3]>(r)
        sh = Shape(t)
        s = Slice(sh, i64[1]{-2}, i64[1]{-1})
        c = Concat<axis=0>(i64[1]{-1}, s, i64[1]{4})
        j = Reshape(t, c)
        k = Transpose<perm=[0, 2, 1]>(j)
        h = Slice(sh, i64[1]{0}, i64[1]{-2})
        d = Concat<axis=0>(h, i64[1]{4}, s)
        u = Reshape(k, d)
        y = Relu(u)
    } => y";
    let m = check(text, simple, &["merge-reshaped-transpose", "merge-transposes"], &[]);
    assert_eq!(m.graph.num_nodes(), 3, "{}", m.graph);
    // Other axes come out than went in.
    let mixed =
        "(f32[2, 3, 4] x) { j = Reshape(x, i64[2]{6, 4})\n k = Transpose(j)\n y = Reshape(k, i64[3]{2, 4, 3}) } => y";
    check(mixed, simple, &[], &["merge-reshaped-transpose"]);
}

/// Attention over heads of 4, of `x` [b, 3, 8]; `parts` makes q, k and v of shape [b, 2, 3, 4].
fn attention(parts: &str) -> String {
    format!(
        "(f32[b, 3, 8] x) {{
        {parts}
        kt = Transpose<perm=[0, 1, 3, 2]>(k)
        s = MatMul(q, kt)
        p = Softmax<axis=-1>(s)
        o = MatMul(p, v)
        y = Transpose<perm=[0, 2, 1, 3]>(o)
    }} => y"
    )
}

#[test]
fn queries_keys_and_values_come_from_one_product() {
    let weights = |k: i32| {
        let numbers: Vec<String> = (0..64).map(|i| format!("{}", ((i * 7 + k * 11) % 13 - 6) as f64 / 16.0)).collect();
        format!("f32[8, 8]{{{}}}", numbers.join(", "))
    };
    let one = |name: &str, k: i32, bias: &str| {
        let (product, last) = if bias.is_empty() {
            (format!("{name}p"), format!("{name}p"))
        } else {
            (format!("{name}m"), format!("{name}p"))
        };
        let add = if bias.is_empty() { String::new() } else { format!("{last} = Add({product}, {bias})\n") };
        format!(
            "{product} = MatMul(x, {})\n {add} {name}r = Reshape({last}, i64[4]{{0, 0, 2, 4}})\n {name} = Transpose<perm=[0, 2, 1, 3]>({name}r)\n",
            weights(k)
        )
    };
    let bias = "f32[8]{1, 2, 3, 4, 5, 6, 7, 8}";
    let all = [one("q", 0, bias), one("k", 1, ""), one("v", 2, bias)].concat();
    let m = check(&attention(&all), simple, &["join-products", "sink-split"], &[]);
    // MatMul, Add, Reshape, Transpose, Split; the keys turned once more; product, softmax, product; the result turned.
    assert_eq!(m.graph.num_nodes(), 10, "{}", m.graph);
    // Engines have attention in place all the same.
    let e = check(
        &attention(&all),
        |m| {
            let mut log = simple(m);
            log.extend(engine(m));
            log
        },
        &["fuse-attention", "attention-in-place"],
        &[],
    );
    assert_eq!((count(&e, "oxrt.Attention"), count(&e, "Split")), (1, 0), "{}", e.graph);
    // Products of different matrices stay apart, and one that is read twice.
    let apart = all.replacen("MatMul(x,", "MatMul(z,", 1);
    let apart = attention(&format!("z = Sin(x)\n w = Cos(x)\n {}", apart.replacen("MatMul(x,", "MatMul(w,", 1)));
    check(&apart, simple, &[], &["join-products"]);
}

#[test]
fn heads_need_no_axis_for_their_parts() {
    let packed = "j = Reshape(x, i64[5]{0, 0, 3, 2, 4})\n t = Transpose<perm=[2, 0, 3, 1, 4]>(j)\n";
    let rows = "(f32[b, 5, 24] x) {";
    let rest = "a = MatMul(q, w)\n y = MatMul(a, v) } => y";
    let gathers = "q = Gather<axis=0>(t, i64{0})\n k = Gather<axis=0>(t, i64{1})\n v = Gather<axis=0>(t, i64{-1})\n w = Transpose<perm=[0, 1, 3, 2]>(k)\n";
    let m = check(&format!("{rows} {packed} {gathers} {rest}"), simple, &["split-heads"], &[]);
    assert_eq!((count(&m, "Split"), m.graph.num_nodes()), (1, 6), "{}", m.graph);
    let split = "q1, k1, v1 = Split<axis=0>(t, i64[3]{1, 1, 1})\n q = Squeeze(q1, i64[1]{0})\n k = Squeeze(k1, i64[1]{0})\n v = Squeeze(v1, i64[1]{0})\n w = Transpose<perm=[0, 1, 3, 2]>(k)\n";
    let m = check(&format!("{rows} {packed} {split} {rest}"), simple, &["split-heads"], &[]);
    assert_eq!(m.graph.num_nodes(), 6, "{}", m.graph);
    // One part is not taken out.
    let two = "q = Gather<axis=0>(t, i64{0})\n v = Gather<axis=0>(t, i64{1})\n w = Transpose<perm=[0, 1, 3, 2]>(v)\n";
    check(&format!("{rows} {packed} {two} {rest}"), simple, &[], &["split-heads"]);
}

#[test]
fn several_readers_of_a_reshape_merge_together() {
    let text = "(f32[n] x) {
        u = Unsqueeze(x, i64[2]{0, 1})
        a = Unsqueeze(u, i64[1]{3})
        b = Unsqueeze(u, i64[1]{2})
        y = Add(a, b)
    } => y";
    assert_eq!(check(text, simple, &["merge-reshapes"], &[]).graph.num_nodes(), 3);
    let kept = "(f32[n] x) { u = Unsqueeze(x, i64[1]{0})\n a = Unsqueeze(u, i64[1]{0})\n y = Add(a, u) } => y";
    check(kept, simple, &[], &["merge-reshapes"]);
}

#[test]
fn what_is_always_true_decides_nothing() {
    let text = "(bool[n] m) {
        s = Shape(m)
        c = Squeeze(s)
        r = Range(i64{0}, c, i64{1})
        g = GreaterOrEqual(r, i64{0})
        y = And(g, m)
    } => y";
    let m = check(text, simple, &[], &["remove-identities"]);
    assert_eq!(m.graph.num_nodes(), 5, "something stands between an input and an output: {}", m.graph);
    let text = text.replace("} => y", "z = Not(y) } => z");
    assert_eq!(check(&text, simple, &["remove-identities"], &[]).graph.num_nodes(), 1);
    // Counting down, or a bound that is not zero.
    for other in ["Range(i64{0}, c, i64{-1})", "Range(i64{-1}, c, i64{1})"] {
        let text = text.replace("Range(i64{0}, c, i64{1})", other);
        let mut m = model(&text);
        simple(&mut m);
        assert!(m.graph.num_nodes() > 1, "{}", m.graph);
    }
}

#[test]
fn slices_that_take_apart_are_a_split() {
    let text = "(f32[n, 6] x) {
        a = Slice(x, i64[1]{0}, i64[1]{2}, i64[1]{1}, i64[1]{1})
        b = Slice(x, i64[1]{-4}, i64[1]{9223372036854775807}, i64[1]{-1})
        c = Neg(b)
        y = Concat<axis=1>(c, a)
    } => y";
    let m = check(text, simple, &["merge-slices"], &[]);
    assert_eq!((count(&m, "Split"), count(&m, "Slice")), (1, 0), "{}", m.graph);
    for (from, to) in
        [("{-4}", "{-3}"), ("{-4}", "{-5}"), ("i64[1]{-1}", "i64[1]{-1}, i64[1]{2}"), ("f32[n, 6]", "f32[6, n]")]
    {
        let other = text.replace(from, to);
        if other.contains("[6, n]") {
            let mut m = model(&other);
            assert!(!simple(&mut m).steps.iter().any(|s| s.rule == "merge-slices"), "{}", m.graph);
        } else {
            check(&other, simple, &[], &["merge-slices"]);
        }
    }
}

#[test]
fn a_product_with_a_reciprocal_is_a_quotient() {
    let text = "(f32[3] x) { e = Exp(x)\n s = Sqrt(e)\n r = Reciprocal(s)\n y = Mul(x, r) } => y";
    assert_eq!(check(text, simple, &["fuse-division"], &[]).graph.num_nodes(), 3);
    check(&text.replace("Mul(x, r) } => y", "Mul(x, r) } => y, r"), simple, &[], &["fuse-division"]);
    check(&text.replace("Mul(x, r)", "Mul(r, r)"), simple, &[], &["fuse-division"]);
}

#[test]
fn loops_over_constants_are_run() {
    let text = "(f32[2] x) {
        k, all = Loop<body={(i64 i, bool c, f32[2] a) { b = Add(a, a)\n d = Identity(b) } => c, b, d}>(i64{3}, bool{1}, f32[2]{1, 2})
        y = Add(x, k)
    } => y";
    let m = check(text, simple, &["fold-constants"], &[]);
    assert_eq!(m.graph.num_nodes(), 1, "{}", m.graph);
    // Too many turns, or a number of them that is not known, stay what they are.
    for other in
        [text.replace("i64{3}", "i64{100000}"), text.replace("(f32[2] x)", "(f32[2] x, i64 n)").replace("i64{3}", "n")]
    {
        let mut m = model(&other);
        simple(&mut m);
        assert_eq!(count(&m, "Loop"), 1, "{}", m.graph);
    }
}

/// What exporters make of a batch without padding: a mask of the batch's size, a guard for rows that see nothing.
#[test]
fn a_mask_that_masks_nothing_goes() {
    let text = "(f32[n, 2, 4, 4] x) {
        s = Shape(x)
        b = Slice(s, i64[1]{0}, i64[1]{1}, i64[1]{0})
        t = Concat<axis=0>(b, i64[3]{1, 4, 4})
        e = Expand(bool[1, 1, 4, 1]{1, 1, 1, 1}, t)
        w = Where(e, f32{0}, f32{-1e30})
        a = Add(x, w)
        p = Softmax<axis=-1>(a)
        m = ReduceMax<keepdims=1>(w, i64[1]{3})
        g = Greater(m, f32{-1e20})
        q = Where(g, p, f32{0})
        y = Neg(q)
    } => y";
    assert_eq!(check(text, simple, &["remove-identities"], &[]).graph.num_nodes(), 2);
    // A mask that is not the same everywhere, a maximum that may be of nothing, a guard that fails.
    for (from, to) in [("{1, 1, 1, 1}", "{1, 0, 1, 1}"), ("i64[1]{3}", "i64[1]{0}"), ("f32{-1e20}", "f32{0}")] {
        let mut m = model(&text.replace(from, to));
        simple(&mut m);
        assert!(m.graph.num_nodes() > 2, "{}", m.graph);
    }
}

#[test]
fn buffers_that_are_filled_row_by_row_are_one_join() {
    // out = zeros; out[:, t] = …, as a loop of Python leaves it.
    let text = "(f32[n, 1, 3] a, f32[n, 1, 3] b, f32[n, 1, 3] c, f32[n, 4, 3] zeros) {
        rest0 = Slice(zeros, i64[1]{1}, i64[1]{9223372036854775807}, i64[1]{1})
        out0 = Concat<axis=1>(a, rest0)
        head1 = Slice(out0, i64[1]{0}, i64[1]{1}, i64[1]{1})
        rest1 = Slice(out0, i64[1]{2}, i64[1]{4}, i64[1]{-2})
        out1 = Concat<axis=-2>(head1, b, rest1)
        head2 = Slice(out1, i64[1]{0}, i64[1]{-2}, i64[1]{1})
        rest2 = Slice(out1, i64[1]{3}, i64[1]{4}, i64[1]{1})
        y = Concat<axis=1>(head2, c, rest2)
    } => y";
    let m = check(text, simple, &["slice-parts", "merge-concats"], &[]);
    assert_eq!((count(&m, "Concat"), count(&m, "Slice")), (1, 1), "{}", m.graph);
    // What is read elsewhere stays.
    let read = check(&text.replace("=> y", "=> y, out1, out0"), simple, &["slice-parts"], &[]);
    assert!(count(&read, "Concat") <= 3, "{}", read.graph);
    // Parts in pieces, other axes, sizes that are not known: left alone.
    for (from, to) in [
        ("i64[1]{-2}, i64[1]{1})\n        rest2", "i64[1]{-2}, i64[1]{0})\n        rest2"),
        ("f32[n, 1, 3] a", "f32[n, k, 3] a"),
    ] {
        let other = text.replace(from, to);
        assert_ne!(other, text);
        let mut m = model(&other);
        simple(&mut m);
        assert!(count(&m, "Slice") >= 2, "{}", m.graph);
    }
}
