use super::*;
use crate::testing::{close, every_tier, noise};

#[derive(Clone, Copy)]
struct Case {
    batch: usize,
    heads: usize,
    kv_heads: usize,
    queries: usize,
    keys: usize,
    dim: usize,
    value_dim: usize,
    causal: Option<isize>,
    /// 0 none, 1 added per query and key, 2 added per key, 3 bytes per query and key.
    mask: usize,
    softcap: f32,
    /// Positions outside heads.
    rows_first: bool,
}

const PLAIN: Case = Case {
    batch: 2,
    heads: 3,
    kv_heads: 3,
    queries: 17,
    keys: 29,
    dim: 8,
    value_dim: 8,
    causal: None,
    mask: 0,
    softcap: 0.0,
    rows_first: false,
};

fn strides(rows_first: bool, heads: usize, rows: usize, dim: usize) -> Strides {
    if rows_first {
        Strides { batch: heads * rows * dim, head: dim, row: heads * dim }
    } else {
        Strides { batch: heads * rows * dim, head: rows * dim, row: dim }
    }
}

fn check(case: Case) {
    let Case { batch, heads, kv_heads, queries, keys, dim, value_dim, rows_first, .. } = case;
    let at = |h, r, d| strides(rows_first, h, r, d);
    let attention = Attention {
        batch,
        heads,
        kv_heads,
        queries,
        keys,
        dim,
        value_dim,
        scale: 0.5,
        softcap: case.softcap,
        visible: keys,
        causal: case.causal,
        q: at(heads, queries, dim),
        k: at(kv_heads, keys, dim),
        v: at(kv_heads, keys, value_dim),
        out: at(heads, queries, value_dim),
        mask: match case.mask {
            0 => None,
            2 => Some(MaskStrides { at: Strides { batch: keys, head: 0, row: 0 }, key: 1, bytes: false }),
            kind => {
                let at = Strides { batch: 0, head: queries * keys, row: keys };
                Some(MaskStrides { at, key: 1, bytes: kind == 3 })
            }
        },
    };
    let q = noise(batch * heads * queries * dim, 1);
    let k: Vec<f32> = noise(batch * kv_heads * keys * dim, 2).iter().map(|v| v * 4.0).collect();
    let v = noise(batch * kv_heads * keys * value_dim, 3);
    let floats = noise(batch.max(heads) * queries * keys, 4);
    let bytes: Vec<u8> = floats.iter().map(|&f| (f > -0.5) as u8).collect();
    let mut want = vec![0.0; batch * heads * queries * value_dim];
    for b in 0..batch {
        for h in 0..heads {
            for i in 0..queries {
                let g = h / (heads / kv_heads);
                let scores: Vec<f64> = (0..keys)
                    .map(|j| {
                        let qa = b * attention.q.batch + h * attention.q.head + i * attention.q.row;
                        let ka = b * attention.k.batch + g * attention.k.head + j * attention.k.row;
                        let dot: f64 = (0..dim).map(|d| f64::from(q[qa + d]) * f64::from(k[ka + d])).sum();
                        let mut s = dot * 0.5;
                        if case.softcap != 0.0 {
                            s = f64::from(case.softcap) * (s / f64::from(case.softcap)).tanh();
                        }
                        s += match case.mask {
                            0 => 0.0,
                            1 => f64::from(floats[(h * queries + i) * keys + j]),
                            2 => f64::from(floats[b * keys + j]),
                            _ if bytes[(h * queries + i) * keys + j] != 0 => 0.0,
                            _ => f64::NEG_INFINITY,
                        };
                        if case.causal.is_some_and(|o| j as isize > i as isize + o) { f64::NEG_INFINITY } else { s }
                    })
                    .collect();
                let top = scores.iter().copied().fold(f64::NEG_INFINITY, f64::max);
                let weights: Vec<f64> = scores.iter().map(|s| (s - top).exp()).collect();
                let total: f64 = weights.iter().sum();
                for d in 0..value_dim {
                    let va = b * attention.v.batch + g * attention.v.head + d;
                    let sum: f64 = (0..keys).map(|j| weights[j] * f64::from(v[va + j * attention.v.row])).sum();
                    want[b * attention.out.batch + h * attention.out.head + i * attention.out.row + d] =
                        if top == f64::NEG_INFINITY { 0.0 } else { sum / total };
                }
            }
        }
    }
    let pool = ThreadPool::new(2);
    every_tier(|kernels| {
        let mut out = vec![0.0f32; want.len()];
        let mut workspace = vec![f32::NAN; attention.workspace_len(kernels)];
        let mask = if case.mask == 3 { bytes.as_ptr() } else { floats.as_ptr().cast() };
        // SAFETY: the buffers have the sizes of the case.
        unsafe {
            attention.run(
                kernels,
                &pool,
                q.as_ptr(),
                k.as_ptr(),
                v.as_ptr(),
                mask,
                out.as_mut_ptr(),
                workspace.as_mut_ptr(),
            );
        }
        close(&out, &want, 3e-6, 1e-5, &format!("{queries}x{keys}x{dim} mask {} on {}", case.mask, kernels.isa.name()));
    });
}

#[test]
fn attention_agrees_with_its_definition() {
    check(PLAIN);
    check(Case { rows_first: true, ..PLAIN });
    check(Case { heads: 6, kv_heads: 2, mask: 1, ..PLAIN });
    check(Case { mask: 2, dim: 64, value_dim: 64, queries: 61, keys: 61, rows_first: true, ..PLAIN });
    check(Case { mask: 3, value_dim: 33, ..PLAIN });
    check(Case { causal: Some(0), keys: 17, ..PLAIN });
    check(Case { causal: Some(12), ..PLAIN });
    check(Case { softcap: 3.0, ..PLAIN });
    check(Case { queries: 1, keys: 1, dim: 1, value_dim: 1, ..PLAIN });
    check(Case { queries: 0, ..PLAIN });
}

#[test]
fn many_keys_are_taken_in_blocks() {
    let long = Case { batch: 1, heads: 2, kv_heads: 1, queries: 67, keys: 1301, dim: 16, value_dim: 40, ..PLAIN };
    check(long);
    check(Case { causal: Some(700), mask: 1, ..long });
    check(Case { mask: 3, ..long });
}

#[test]
fn a_query_without_keys_gives_zeros() {
    check(Case { keys: 0, ..PLAIN });
    check(Case { causal: Some(-3), batch: 1, heads: 1, kv_heads: 1, queries: 5, keys: 5, ..PLAIN });
}
