//! What layers of decoders keep from one step to the next, on the emulator against the reference evaluator.

use super::tests::{check, sample};
use super::wide_tests::{ints, tolerance};
use oxrt_tensor::{DType, Tensor};

/// What attention of one kind is given: sizes, attributes, and which inputs and outputs there are.
struct Attended {
    dtype: DType,
    /// Batches, heads, heads of keys, queries, new keys, past keys.
    lens: [usize; 6],
    sizes: [usize; 2],
    flat: bool,
    attributes: &'static str,
    mask: Option<(DType, Vec<usize>)>,
    valid: Option<Vec<i64>>,
    outputs: usize,
}

impl Attended {
    fn check(&self) -> Vec<&'static str> {
        let ([b, h, kv, queries, new, past], [d, v]) = (self.lens, self.sizes);
        let shape = |heads: usize, rows: usize, size: usize| match self.flat {
            true => vec![b, rows, heads * size],
            false => vec![b, heads, rows, size],
        };
        let dtype = self.dtype;
        let (mut declared, mut given, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
        let mut add = |name: &str, t: Option<Tensor>| {
            given.push(if t.is_some() { name.to_string() } else { "_".to_string() });
            if let Some(t) = t {
                declared.push(format!("{}{:?} {name}", t.dtype(), t.shape()));
                inputs.push(t);
            }
        };
        add("q", Some(sample(dtype, &shape(h, queries, d), 1)));
        add("k", Some(sample(dtype, &shape(kv, new, d), 2)));
        add("v", Some(sample(dtype, &shape(kv, new, v), 3)));
        add("m", self.mask.as_ref().map(|(dtype, shape)| sample(*dtype, shape, 4)));
        add("pk", (past > 0).then(|| sample(dtype, &[b, kv, past, d], 5)));
        add("pv", (past > 0).then(|| sample(dtype, &[b, kv, past, v], 6)));
        add("n", self.valid.as_ref().map(|n| ints(&[b], n)));
        while given.last().is_some_and(|g| g == "_") {
            given.pop();
        }
        let heads = if self.flat { format!("q_num_heads={h}, kv_num_heads={kv}, ") } else { String::new() };
        let attributes = format!("{heads}{}", self.attributes);
        let attributes = attributes.trim_end_matches(", ");
        let attributes = if attributes.is_empty() { String::new() } else { format!("<{attributes}>") };
        let outputs = ["y", "a", "b", "s"][..self.outputs].join(", ");
        let (declared, given) = (declared.join(", "), given.join(", "));
        let text = format!("({declared}) {{ {outputs} = Attention{attributes}({given}) }} => {outputs}");
        check(&text, &inputs, tolerance(dtype) * 3.0)
    }
}

#[test]
fn attention_keeps_caches() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        let all = Attended {
            dtype,
            lens: [2, 4, 2, 3, 3, 70],
            sizes: [32, 32],
            flat: false,
            attributes: "is_causal=1",
            mask: None,
            valid: None,
            outputs: 3,
        };
        all.check();
        if dtype == DType::BF16 {
            continue;
        }
        // Scratch memory for keys, values or both; no past at all.
        for outputs in [1, 2] {
            Attended { outputs, flat: true, ..all_of(&all) }.check();
        }
        Attended { lens: [1, 2, 2, 5, 7, 0], sizes: [16, 24], ..all_of(&all) }.check();
        // One query behind a long past, sizes that are not whole chunks, values of another size.
        for sizes in [[64, 64], [20, 12], [5, 3], [128, 64]] {
            Attended { lens: [2, 4, 1, 1, 1, 200], sizes, flat: true, ..all_of(&all) }.check();
        }
        for mask in [
            (DType::Bool, vec![2, 1, 3, 73]),
            (dtype, vec![3, 73]),
            (dtype, vec![1, 4, 1, 40]),
            (DType::Bool, vec![3, 1]),
        ] {
            Attended { mask: Some(mask), ..all_of(&all) }.check();
        }
        for attributes in [
            "left_window_size=5",
            "left_window_size=2, right_window_size=0",
            "right_window_size=1",
            "is_causal=1, left_window_size=90, softcap=0.7",
            "left_window_size=0, is_causal=1, softmax_precision=1",
        ] {
            Attended { attributes, ..all_of(&all) }.check();
            Attended { attributes, lens: [1, 2, 1, 130, 130, 0], ..all_of(&all) }.check();
        }
        for (mode, attributes) in [
            "is_causal=1",
            "qk_matmul_output_mode=1, softcap=0.5, is_causal=1",
            "qk_matmul_output_mode=2, softcap=0.5, is_causal=1",
            "qk_matmul_output_mode=3, left_window_size=3",
        ]
        .into_iter()
        .enumerate()
        {
            let mask = (mode != 1).then(|| (DType::Bool, vec![2, 1, 3, 60]));
            Attended { attributes, mask, outputs: 4, ..all_of(&all) }.check();
        }
        // Keys in a buffer with room, of which each batch has used some.
        for attributes in ["", "is_causal=1", "left_window_size=4, right_window_size=2"] {
            let valid = Some(vec![40, 3]);
            Attended { attributes, valid, lens: [2, 4, 2, 3, 70, 0], outputs: 1, ..all_of(&all) }.check();
        }
        Attended { valid: Some(vec![0, 100]), lens: [2, 2, 2, 3, 70, 0], outputs: 1, ..all_of(&all) }.check();
    }
    // Hopper's units take a past as well.
    let names = Attended {
        dtype: DType::F16,
        lens: [1, 2, 1, 70, 70, 130],
        sizes: [64, 64],
        flat: true,
        attributes: "is_causal=1",
        mask: None,
        valid: None,
        outputs: 3,
    }
    .check();
    assert_eq!(names, ["attention_wgmma_two", "attention"]);
}

fn all_of(a: &Attended) -> Attended {
    Attended { mask: a.mask.clone(), valid: a.valid.clone(), ..*a }
}

#[test]
fn states_are_kept_by_linear_attention() {
    for dtype in [DType::F32, DType::F16, DType::BF16] {
        for (rule, [b, t, hq, hk, dk, dv]) in [
            ("linear", [2, 5, 4, 2, 8, 40]),
            ("gated", [1, 7, 3, 3, 5, 3]),
            ("delta", [2, 1, 6, 2, 64, 33]),
            ("gated_delta", [1, 9, 2, 1, 130, 16]),
        ] {
            let (gated, delta) = (rule.starts_with("gated"), rule.ends_with("delta"));
            for (wide, past) in [(false, true), (true, false)] {
                let shapes = [
                    Some(vec![b, t, hq * dk]),
                    Some(vec![b, t, hk * dk]),
                    Some(vec![b, t, hk * dv]),
                    past.then(|| vec![b, hk, dk, dv]),
                    gated.then(|| vec![b, t, if wide { hk * dk } else { hk }]),
                    delta.then(|| vec![b, t, if wide { 1 } else { hk }]),
                ];
                let (mut declared, mut given, mut inputs) = (Vec::new(), Vec::new(), Vec::new());
                for (i, shape) in shapes.iter().enumerate() {
                    // States may be wider than what they are asked.
                    let of = if i == 3 { DType::F32 } else { dtype };
                    given.push(shape.as_ref().map_or("_".to_string(), |_| format!("x{i}")));
                    if let Some(shape) = shape {
                        declared.push(format!("{of}{shape:?} x{i}"));
                        inputs.push(sample(of, shape, i as u64 + 1));
                    }
                }
                let attributes = format!("q_num_heads={hq}, kv_num_heads={hk}, update_rule=\"{rule}\"");
                let (declared, given) = (declared.join(", "), given.join(", "));
                let text = format!("({declared}) {{ y, s = LinearAttention<{attributes}>({given}) }} => y, s");
                check(&text, &inputs, tolerance(dtype) * 4.0);
            }
        }
        let [x, w] = [sample(dtype, &[2, 5, 9], 1), sample(dtype, &[5, 1, 4], 2)];
        let [bias, past] = [sample(dtype, &[5], 3), sample(dtype, &[2, 5, 3], 4)];
        let types = format!("{dtype}[2, 5, 9] x, {dtype}[5, 1, 4] w");
        let text = format!("({types}) {{ y, s = CausalConvWithState(x, w) }} => y, s");
        check(&text, &[x.clone(), w.clone()], tolerance(dtype));
        let text = format!(
            "({types}, {dtype}[5] b, {dtype}[2, 5, 3] p) {{ y, s = CausalConvWithState<activation=\"silu\">(x, w, b, p) }} => y, s"
        );
        check(&text, &[x, w, bias.clone(), past.clone()], tolerance(dtype));
        // Fewer elements than the state holds.
        let text = format!(
            "({dtype}[2, 5, 1] x, {dtype}[5, 1, 4] w, {dtype}[2, 5, 3] p) {{ y, s = CausalConvWithState(x, w, _, p) }} => y, s"
        );
        check(&text, &[sample(dtype, &[2, 5, 1], 7), sample(dtype, &[5, 1, 4], 2), past], tolerance(dtype));
    }
}
