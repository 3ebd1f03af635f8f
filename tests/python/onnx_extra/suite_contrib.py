"""Operators of onnxruntime's own domain, and its old experimental ones."""
import math

import numpy as np
from core import normal, rng

MS = "com.microsoft"


# Operators that onnxruntime runs on other devices only: their definitions in NumPy.
def softmax(x, axes):
    e = np.exp(x - x.max(axis=axes, keepdims=True))
    return e / e.sum(axis=axes, keepdims=True)


def gelu(x):
    return (0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))).astype(x.dtype)


def group_norm(x, g, b, groups, last, act):
    x = np.moveaxis(x, -1, 1) if last else x
    parts = x.reshape(x.shape[0], groups, -1).astype(np.float64)
    y = ((parts - parts.mean(2, keepdims=True)) / np.sqrt(parts.var(2, keepdims=True) + 1e-5)).reshape(x.shape)
    y = y * g[:, None, None] + b[:, None, None]
    y = y / (1 + np.exp(-y)) if act else y
    return (np.moveaxis(y, 1, -1) if last else y).astype(np.float32)


def t5_buckets(n, m, bidirectional, buckets, far):
    """`_relative_position_bucket` of transformers' T5."""
    rel = np.arange(m)[None, :] - np.arange(n)[:, None]
    start = np.zeros_like(rel)
    if bidirectional:
        buckets //= 2
        start, rel = (rel > 0) * buckets, np.abs(rel)
    else:
        rel = -np.minimum(rel, 0)
    exact = buckets // 2
    with np.errstate(divide="ignore"):
        large = exact + (np.log(rel / exact) / math.log(far / exact) * (buckets - exact))
    return start + np.where(rel < exact, rel, np.minimum(np.maximum(large, 0).astype(np.int64), buckets - 1))


def make(s):
    fused(s)
    norms(s)
    attention(s)
    grouped(s)
    quantised(s)
    weights(s)
    small(s)
    experimental(s)


def fused(s):
    x = normal([2, 3, 4])
    for op in ["Gelu", "QuickGelu", "FastGelu"]:
        s.node(f"{op}", op, [x], domain=MS)
    s.node("QuickGelu_alpha", "QuickGelu", [x], domain=MS, attrs={"alpha": 1.0})
    for op in ["BiasGelu", "FastGelu"]:
        s.node(f"{op}_bias", op, [x, normal([4], 1)], domain=MS, dynamic=True)
    s.node("BiasSplitGelu", "BiasSplitGelu", [x, normal([4], 1)], domain=MS,
           reference=lambda x, b: (x + b)[..., :2] * gelu((x + b)[..., 2:]))
    s.node("BiasSoftmax_inner", "BiasSoftmax", [normal([2, 3, 4, 5]), normal([2, 1, 1, 5], 1)], domain=MS, attrs={"axis": 3, "is_inner_broadcast": 1},
           reference=lambda x, b: softmax(x + b, 3))
    s.node("BiasSoftmax_outer", "BiasSoftmax", [normal([2, 3, 4, 5]), normal([1, 1, 4, 5], 1)], domain=MS, attrs={"axis": 2, "is_inner_broadcast": 0},
           reference=lambda x, b: softmax(x + b, (2, 3)))
    s.node("BiasDropout", "BiasDropout", [x, normal([4], 1), normal([2, 3, 4], 2)], domain=MS, reference=lambda x, b, r: x + b + r)
    for op in ["FusedMatMul", "TransposeMatMul"]:
        for ta in (0, 1):
            for tb in (0, 1):
                a, b = normal([2, 4, 3] if ta else [2, 3, 4]), normal([2, 5, 4] if tb else [2, 4, 5], 1)
                s.node(f"{op}_{ta}{tb}", op, [a, b], domain=MS, attrs={"transA": ta, "transB": tb, "alpha": 0.5})
    s.node("FusedMatMul_batch", "FusedMatMul", [normal([3, 2, 4]), normal([4, 2, 5], 1)], domain=MS, attrs={"transBatchA": 1, "transBatchB": 1})
    s.node("FusedMatMul_batch_trans", "FusedMatMul", [normal([4, 2, 3]), normal([2, 4, 5], 1)], domain=MS, attrs={"transBatchA": 1, "transA": 1})
    s.node("FusedMatMul_vector", "FusedMatMul", [normal([4]), normal([4, 5], 1)], domain=MS)
    s.node("FusedMatMulActivation", "FusedMatMulActivation", [normal([3, 4]), normal([4, 5], 1)], domain=MS, attrs={"activation": "Relu"},
           reference=lambda a, b: np.maximum(a @ b, 0))
    xs, w, b = normal([1, 4, 6, 5]), normal([3, 4, 3, 3], 1), normal([3], 2)
    for act, params in [("Relu", None), ("Tanh", None), ("Sigmoid", None), ("LeakyRelu", [0.2]), ("Clip", [-0.5, 0.7]), ("HardSigmoid", [0.3, 0.4])]:
        attrs = {"activation": act, "pads": [1, 1, 1, 1]} | ({"activation_params": params} if params else {})
        s.node(f"FusedConv_{act}", "FusedConv", [xs, w, b], domain=MS, attrs=attrs)
    s.node("FusedConv_sum", "FusedConv", [xs, w, b, normal([1, 3, 4, 3], 3)], domain=MS, attrs={"activation": "Relu"})
    s.node("FusedConv_plain", "FusedConv", [xs, w], domain=MS, attrs={"strides": [2, 2]})
    s.node("NhwcFusedConv", "NhwcFusedConv", [xs.transpose(0, 2, 3, 1).copy(), w, b], domain=MS, attrs={"activation": "Relu"})
    s.node("NhwcMaxPool", "NhwcMaxPool", [rng().integers(0, 255, [1, 5, 6, 8], dtype=np.uint8)], domain=MS, attrs={"kernel_shape": [2, 3], "strides": [1, 2]})
    for act, extra in [("Relu", {}), ("LeakyRelu", {"activation_alpha": 0.1}), ("Tanh", {}), ("Sigmoid", {}), ("Softplus", {}), ("Elu", {"activation_alpha": 0.7}),
                       ("HardSigmoid", {"activation_alpha": 0.3, "activation_beta": 0.4})]:
        s.node(f"FusedGemm_{act}", "FusedGemm", [normal([3, 4]), normal([5, 4], 1), normal([5], 2)], domain=MS,
               attrs={"transB": 1, "alpha": 0.5, "beta": 2.0, "activation": act} | extra)


def norms(s):
    x, g, b = normal([2, 3, 8]), normal([8], 1), normal([8], 2)
    s.node("SkipLayerNormalization", "SkipLayerNormalization", [x, normal([2, 3, 8], 3), g, b, normal([8], 4)], outputs=[1, 0, 0, 1], domain=MS,
           attrs={"epsilon": 1e-5})
    s.node("SkipLayerNormalization_plain", "SkipLayerNormalization", [x, normal([2, 3, 8], 3), g], domain=MS, dynamic=True)
    s.node("SkipLayerNormalization_skip2d", "SkipLayerNormalization", [x, normal([3, 8], 3), g, b], domain=MS)
    s.node("SkipSimplifiedLayerNormalization", "SkipSimplifiedLayerNormalization", [x, normal([2, 3, 8], 3), g, normal([8], 4)], outputs=[1, 0, 0, 1],
           domain=MS, attrs={"epsilon": 1e-5})
    s.node("SimplifiedLayerNormalization", "SimplifiedLayerNormalization", [x, g], opset=14, attrs={"axis": -1, "epsilon": 1e-5, "stash_type": 1})
    s.node("SimplifiedLayerNormalization_fp16", "SimplifiedLayerNormalization", [x.astype(np.float16), g.astype(np.float16)], opset=14,
           attrs={"axis": -1, "epsilon": 1e-5, "stash_type": 1}, rtol=2e-3, atol=1e-3)
    s.node("LayerNormalization_1", "LayerNormalization", [x, g, b], opset=11, attrs={"axis": -1, "epsilon": 1e-5})
    s.node("LayerNormalization_1_axis", "LayerNormalization", [x, normal([3, 8], 1)], opset=16, outputs=3, attrs={"axis": 1, "epsilon": 1e-5})
    ids, seg = rng(5).integers(0, 10, [2, 3], dtype=np.int32), rng(6).integers(0, 2, [2, 3], dtype=np.int32)
    tables = [normal([10, 8], 7), normal([5, 8], 8), normal([2, 8], 9), g, b]
    mask = np.array([[1, 1, 0], [1, 1, 1]], dtype=np.int32)
    s.node("EmbedLayerNormalization", "EmbedLayerNormalization", [ids, seg, *tables, mask], outputs=2, domain=MS, constants=range(2, 7), attrs={"epsilon": 1e-5})
    s.node("EmbedLayerNormalization_sum", "EmbedLayerNormalization", [ids, seg, *tables], outputs=3, domain=MS, constants=range(2, 7), dynamic=True)
    s.node("EmbedLayerNormalization_no_segments", "EmbedLayerNormalization", [ids, None, tables[0], tables[1], None, g, b], outputs=2, domain=MS)
    s.node("EmbedLayerNormalization_positions", "EmbedLayerNormalization", [ids, None, tables[0], tables[1], None, g, b, None, seg], outputs=2, domain=MS)
    q = lambda shape, seed: rng(seed).integers(0, 255, shape, dtype=np.uint8)  # noqa: E731
    scale, zero = lambda v: np.float32(v), np.uint8(120)  # noqa: E731
    s.node("QEmbedLayerNormalization", "QEmbedLayerNormalization",
           [ids, seg, q([10, 8], 1), q([5, 8], 2), q([2, 8], 3), q([8], 4), q([8], 5), mask, scale(.01), scale(.02), scale(.03), scale(.02), scale(.01)]
           + [zero] * 5, outputs=2, domain=MS, rtol=1e-3, atol=1e-3)
    for last in (0, 1):
        for act in (0, 1):
            x4 = normal([2, 3, 4, 8] if last else [2, 8, 3, 4])
            s.node(f"GroupNorm_{last}{act}", "GroupNorm", [x4, g, b], domain=MS, attrs={"groups": 4, "activation": act, "channels_last": last},
                   reference=lambda x, g, b: group_norm(x, g, b, 4, last, act))


def attention(s):
    B, S, N, H = 2, 4, 2, 8
    D = N * H
    x, w, b = normal([B, S, D]), normal([D, 3 * D], 1, scale=0.3), normal([3 * D], 2)
    lengths, ones = np.array([2, 4], dtype=np.int32), np.array([[1, 1, 0, 0], [1, 1, 1, 1]], dtype=np.int32)
    ends = np.array([3, 4, 1, 0], dtype=np.int32)
    three = rng(3).integers(0, 2, [B, S, S], dtype=np.int32)
    three[:, :, 0] = 1
    for name, mask in [("none", None), ("lengths", lengths), ("ends", ends), ("ones", ones), ("three", three)]:
        for causal in (0, 1):
            s.node(f"Attention_{name}_{causal}", "Attention", [x, w, b, mask], outputs=2, domain=MS, attrs={"num_heads": N, "unidirectional": causal})
    s.node("Attention_dynamic", "Attention", [x, w, b, ones], domain=MS, dynamic=True, attrs={"num_heads": N}, constants=(1, 2))
    s.node("Attention_no_bias", "Attention", [x, w, None], domain=MS, attrs={"num_heads": N, "scale": 0.2})
    s.node("Attention_sizes", "Attention", [x, normal([D, 2 * D + 8], 1, scale=0.3), normal([2 * D + 8], 2)], domain=MS,
           attrs={"num_heads": N, "qkv_hidden_sizes": [D, D, 8]})
    past = normal([2, B, N, 3, H], 4)
    s.node("Attention_past", "Attention", [x, w, b, None, past], outputs=2, domain=MS, attrs={"num_heads": N, "unidirectional": 1})
    s.node("Attention_past_mask", "Attention", [x, w, b, np.concatenate([np.ones([B, 3], np.int32), ones], 1), past], outputs=2, domain=MS,
           attrs={"num_heads": N, "unidirectional": 1}, dynamic=True, constants=(1, 2))
    s.node("Attention_bias", "Attention", [x, w, b, None, None, normal([1, N, S, S], 5)], domain=MS, attrs={"num_heads": N})
    s.node("Attention_bias_mask", "Attention", [x, w, b, ones, None, normal([B, N, S, S], 5)], domain=MS, attrs={"num_heads": N, "mask_filter_value": -5000.0})

    q, k, v = normal([B, S, D]), normal([B, 5, D], 1), normal([B, 5, D], 2)
    pad = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], dtype=np.int32)
    a = {"num_heads": N}
    s.node("MultiHeadAttention", "MultiHeadAttention", [q, k, v], domain=MS, attrs=a)
    s.node("MultiHeadAttention_dynamic", "MultiHeadAttention", [q, k, v, b, pad], domain=MS, attrs=a, dynamic=True, constants=(3,))
    s.node("MultiHeadAttention_bias", "MultiHeadAttention", [q, k, v, b], domain=MS, attrs=a)
    s.node("MultiHeadAttention_lengths", "MultiHeadAttention", [q, k, v, None, np.array([3, 5], np.int32)], domain=MS, attrs=a)
    s.node("MultiHeadAttention_pad", "MultiHeadAttention", [q, k, v, None, pad], domain=MS, attrs=a | {"scale": 0.5})
    s.node("MultiHeadAttention_scores", "MultiHeadAttention", [q, k, v, None, None, normal([B, N, S, 5], 3)], domain=MS, attrs=a)
    s.node("MultiHeadAttention_causal", "MultiHeadAttention", [q, k[:, :S], v[:, :S]], domain=MS, attrs=a | {"unidirectional": 1})
    s.node("MultiHeadAttention_past", "MultiHeadAttention", [q, k[:, :S], v[:, :S], None, None, None, normal([B, N, 3, H], 4), normal([B, N, 3, H], 5)],
           outputs=3, domain=MS, attrs=a)
    s.node("MultiHeadAttention_past_causal", "MultiHeadAttention", [q, k[:, :S], v[:, :S], None, None, None, normal([B, N, 3, H], 4), normal([B, N, 3, H], 5)],
           outputs=3, domain=MS, attrs=a | {"unidirectional": 1}, dynamic=True)
    s.node("MultiHeadAttention_cross", "MultiHeadAttention", [q, normal([B, N, 5, H], 4), normal([B, N, 5, H], 5)], domain=MS, attrs=a)
    s.node("MultiHeadAttention_values", "MultiHeadAttention", [q, k, normal([B, 5, 6], 2)], domain=MS, attrs=a)
    one = q[:, :1]
    s.node("DecoderMaskedMultiHeadAttention", "DecoderMaskedMultiHeadAttention",
           [one, k[:, :1], v[:, :1], None, None, normal([B, N, 3, H], 4), normal([B, N, 3, H], 5)], outputs=3, domain=MS, attrs=a)
    s.node("DecoderMaskedMultiHeadAttention_buffer", "DecoderMaskedMultiHeadAttention",
           [one, k[:, :1], v[:, :1], None, None, normal([B, N, 6, H], 4), normal([B, N, 6, H], 5), np.array([3], np.int32)], outputs=3, domain=MS,
           attrs=a | {"past_present_share_buffer": 1})
    s.node("DecoderMaskedMultiHeadAttention_cross", "DecoderMaskedMultiHeadAttention", [one, normal([B, N, 5, H], 4), normal([B, N, 5, H], 5), pad],
           domain=MS, attrs=a)
    qx, qw = rng(1).integers(0, 255, [B, S, D], dtype=np.uint8), rng(2).integers(-120, 120, [D, 3 * D], dtype=np.int8)
    f = np.float32
    for name, mask in [("none", None), ("lengths", lengths), ("ones", ones)]:
        s.node(f"QAttention_{name}", "QAttention", [qx, qw, b, f(0.01), f(0.004), mask, np.uint8(128), np.int8(0)], domain=MS, attrs=a, rtol=1e-3)
    s.node("QAttention_columns", "QAttention", [qx, qw, b, f(0.01), np.linspace(0.002, 0.005, 3 * D).astype(f), None, np.uint8(128), np.zeros(3 * D, np.int8)],
           domain=MS, attrs=a, rtol=1e-3, constants=(1, 2, 3, 4, 6, 7))


def caches(length, half, seed=0):
    angles = np.outer(np.arange(length), 1.0 / 100 ** (np.arange(half) / half))
    return np.cos(angles).astype(np.float32), np.sin(angles).astype(np.float32)


def grouped(s):
    B, S, N, K, H = 2, 4, 4, 2, 16
    i32 = lambda *v: np.array(v, dtype=np.int32)  # noqa: E731
    cos, sin = caches(32, H // 2)
    q, k, v = normal([B, S, N * H]), normal([B, S, K * H], 1), normal([B, S, K * H], 2)
    a = {"num_heads": N, "kv_num_heads": K}
    empty = np.zeros([B, K, 0, H], np.float32)
    prompt = [i32(S - 1, S - 1), np.int32(S)]
    op = "GroupQueryAttention"
    s.node("GroupQueryAttention_prompt", op, [q, k, v, empty, empty, *prompt], outputs=3, domain=MS, attrs=a)
    s.node("GroupQueryAttention_no_past", op, [q, k, v, None, None, *prompt], outputs=3, domain=MS, attrs=a)
    s.node("GroupQueryAttention_rotary", op, [q, k, v, empty, empty, *prompt, cos, sin], outputs=3, domain=MS, attrs=a | {"do_rotary": 1})
    s.node("GroupQueryAttention_interleaved", op, [q, k, v, empty, empty, *prompt, cos, sin], outputs=3, domain=MS,
           attrs=a | {"do_rotary": 1, "rotary_interleaved": 1})
    s.node("GroupQueryAttention_packed", op, [np.concatenate([q, k, v], 2), None, None, empty, empty, *prompt, cos, sin], outputs=3, domain=MS,
           attrs=a | {"do_rotary": 1})
    past = [normal([B, K, 8, H], 3), normal([B, K, 8, H], 4)]
    # What lies behind the valid part of a buffer is undefined; onnxruntime clears it unless past and present are one.
    for p in past:
        p[0, :, 5:] = p[1, :, 3:] = 0
    one = [t[:, :1].copy() for t in (q, k, v)]
    s.node("GroupQueryAttention_token_buffer", op, [*one, *past, i32(5, 3), np.int32(6), cos, sin], outputs=3, domain=MS, attrs=a | {"do_rotary": 1})
    s.node("GroupQueryAttention_token_append", op, [*one, *[normal([B, K, 5, H], n) for n in (3, 4)], i32(5, 5), np.int32(6), cos, sin], outputs=3, domain=MS,
           attrs=a | {"do_rotary": 1})
    s.node("GroupQueryAttention_window", op, [*one, *past, i32(5, 3), np.int32(6)], outputs=3, domain=MS, attrs=a | {"local_window_size": 3})
    s.node("GroupQueryAttention_prompt_window", op, [q, k, v, empty, empty, *prompt], outputs=3, domain=MS, attrs=a | {"local_window_size": 2})
    s.node("GroupQueryAttention_softcap", op, [q, k, v, empty, empty, *prompt], outputs=3, domain=MS, attrs=a | {"softcap": 2.0, "scale": 0.7})
    s.node("GroupQueryAttention_smooth", op, [q, k, v, empty, empty, *prompt], outputs=3, domain=MS, attrs=a | {"smooth_softmax": 1})
    s.node("GroupQueryAttention_sink", op, [q, k, v, empty, empty, *prompt, None, None, None, None, normal([N], 7)], outputs=3, domain=MS, attrs=a)
    s.node("GroupQueryAttention_bias", op, [q, k, v, empty, empty, *prompt, None, None, None, normal([1, N, S, S], 6)], outputs=3, domain=MS, attrs=a)
    s.node("GroupQueryAttention_chunk", op, [q[:1], k[:1], v[:1], *[p[:1] for p in past], i32(6), np.int32(7), cos, sin], outputs=3, domain=MS,
           attrs=a | {"do_rotary": 1})
    s.node("GroupQueryAttention_qk_norm", op, [q, k, v, empty, empty, *prompt, cos, sin] + [None] * 5 + [normal([H], 8), normal([H], 9)], outputs=3, domain=MS,
           attrs=a | {"do_rotary": 1})
    s.node("GroupQueryAttention_dynamic", op, [*one, *past, i32(5, 3), np.int32(6), cos, sin], outputs=3, domain=MS, attrs=a | {"do_rotary": 1},
           dynamic=True, constants=(7, 8))

    pos = np.array([[0, 1, 2, 5], [3, 4, 5, 6]], dtype=np.int64)
    for inter in (0, 1):
        s.node(f"RotaryEmbedding_3d_{inter}", "RotaryEmbedding", [q, pos, cos, sin], domain=MS, attrs={"interleaved": inter})
        s.node(f"RotaryEmbedding_4d_{inter}", "RotaryEmbedding", [normal([B, N, S, H]), pos, cos, sin], domain=MS, attrs={"interleaved": inter})
        s.node(f"RotaryEmbedding_part_{inter}", "RotaryEmbedding", [q, pos, *caches(32, 4)], domain=MS,
               attrs={"interleaved": inter, "rotary_embedding_dim": 8, "num_heads": N})
    s.node("RotaryEmbedding_offset", "RotaryEmbedding", [q, np.array([2], np.int64), cos, sin], domain=MS, dynamic=True, constants=(2, 3))


def quantised(s):
    f, u8, i8 = np.float32, np.uint8, np.int8
    for name, t, zero, lo, hi in [("u8", u8, u8(100), 0, 255), ("i8", i8, i8(5), -128, 127)]:
        x, y = rng(1).integers(lo, hi, [2, 3, 4], dtype=t), rng(2).integers(lo, hi, [3, 4], dtype=t)
        for op in ["QLinearAdd", "QLinearMul"]:
            s.node(f"{op}_{name}", op, [x, f(0.02), zero, y, f(0.03), zero, f(0.05), zero], domain=MS, atol=1.01)
        s.node(f"QLinearAdd_no_zero_{name}", "QLinearAdd", [x, f(0.02), None, y, f(0.03), None, f(0.05), None], domain=MS, atol=1.01)
        s.node(f"QLinearSigmoid_{name}", "QLinearSigmoid", [x, f(0.05), zero, f(1 / 256), t(lo)], domain=MS, atol=1.01, constants=(1, 2, 3, 4))
        s.node(f"QLinearLeakyRelu_{name}", "QLinearLeakyRelu", [x, f(0.05), zero, f(0.05), zero], domain=MS, attrs={"alpha": 0.1}, atol=1.01, constants=(1, 2, 3, 4))
        for opset, axis in [(13, -1), (13, 1), (12, 1)]:
            s.node(f"QLinearSoftmax_{opset}_{axis % 3}_{name}", "QLinearSoftmax", [x, f(0.05), zero, f(1 / 256), t(lo)], domain=MS,
                   attrs={"axis": axis, "opset": opset}, atol=1.01)
        for last in (0, 1):
            img = rng(3).integers(lo, hi, [1, 6, 5, 3] if last else [1, 3, 6, 5], dtype=t)
            s.node(f"QLinearGlobalAveragePool_{last}_{name}", "QLinearGlobalAveragePool", [img, f(0.05), zero, f(0.04), zero], domain=MS,
                   attrs={"channels_last": last}, atol=1.01)
            s.node(f"QLinearAveragePool_{last}_{name}", "QLinearAveragePool", [img, f(0.05), zero, f(0.04), zero], domain=MS,
                   attrs={"channels_last": last, "kernel_shape": [3, 2], "pads": [1, 0, 1, 1], "strides": [2, 1]}, atol=1.01)
        s.node(f"QLinearReduceMean_{name}", "QLinearReduceMean", [x, f(0.05), zero, f(0.04), zero], domain=MS, attrs={"axes": [1], "keepdims": 0}, atol=1.01,
               reference=lambda x, sx, zx, sy, zy: np.clip(np.rint(((x.astype(f) - zx) * sx).mean(1) / sy) + zy, lo, hi).astype(t))
        s.node(f"QLinearConcat_{name}", "QLinearConcat", [f(0.04), zero, x, f(0.05), zero, x, f(0.03), zero], domain=MS, attrs={"axis": 1}, atol=1.01,
               constants=(0, 1, 3, 4, 6, 7))
        s.node(f"QLinearWhere_{name}", "QLinearWhere", [x > 50, x, f(0.05), zero, y, f(0.03), zero, f(0.06), zero], domain=MS, atol=1.01,
               constants=(2, 3, 5, 6, 7, 8))
        a, b = rng(4).integers(lo, hi, [3, 4], dtype=t), rng(5).integers(-100, 100, [4, 5], dtype=i8)
        s.node(f"QGemm_{name}", "QGemm", [a, f(0.02), zero, b, f(0.03), i8(2), rng(6).integers(-500, 500, [5], dtype=np.int32), f(0.5), zero], domain=MS,
               attrs={"alpha": 1.0}, atol=1.01, constants=(1, 2, 3, 4, 5, 6, 7, 8))
        s.node(f"QGemm_float_{name}", "QGemm", [a.T.copy(), f(0.02), zero, b.T.copy(), np.linspace(.01, .02, 5).astype(f), np.zeros(5, i8), None], domain=MS,
               attrs={"alpha": 0.5, "transA": 1, "transB": 1})
        s.node(f"MatMulIntegerToFloat_{name}", "MatMulIntegerToFloat", [a, b, f(0.02), f(0.03), zero, i8(2), normal([5])], domain=MS)
        s.node(f"MatMulIntegerToFloat_columns_{name}", "MatMulIntegerToFloat", [a, b, f(0.02), np.linspace(.01, .02, 5).astype(f), zero, np.arange(5, dtype=i8)],
               domain=MS)
        s.node(f"MulInteger_{name}", "MulInteger", [x, zero, y, zero], domain=MS,
               reference=lambda x, z, y, w: (x.astype(np.int32) - z) * (y.astype(np.int32) - w))
        for axis in (None, 1):
            scale, z = (f(0.05), zero) if axis is None else (np.linspace(.02, .05, 3).astype(f), np.array([zero] * 3))
            at = {} if axis is None else {"axis": axis}
            s.node(f"QuantizeLinear_{axis}_{name}", "QuantizeLinear", [normal([2, 3, 4]), scale, z], domain=MS, attrs=at, atol=1.01, off=0.02)
            s.node(f"DequantizeLinear_{axis}_{name}", "DequantizeLinear", [x, scale, z], domain=MS, attrs=at)
    for t in (np.uint16, np.int16, np.int32):
        z = t(0) if t == np.int32 else t(30)
        s.node(f"DequantizeLinear_{np.dtype(t).name}", "DequantizeLinear", [rng(1).integers(0, 3000, [2, 3], dtype=t), f(0.05), z], domain=MS)
        if t != np.int32:
            s.node(f"QuantizeLinear_{np.dtype(t).name}", "QuantizeLinear", [normal([2, 3]), f(0.001), z], domain=MS, atol=1.01)
    x, b = normal([2, 3, 4]), rng(5).integers(-100, 100, [4, 5], dtype=i8)
    s.node("DynamicQuantizeMatMul", "DynamicQuantizeMatMul", [x, b, f(0.03), i8(2), normal([5], 1)], domain=MS, dynamic=True, constants=(1, 2, 3, 4), rtol=1e-3, atol=1e-2)
    s.node("DynamicQuantizeMatMul_columns", "DynamicQuantizeMatMul", [x, b, np.linspace(.01, .02, 5).astype(f)], domain=MS, rtol=1e-3, atol=1e-2)
    d, inp, h = 2, 3, 4
    w, r = rng(1).integers(-120, 120, [d, inp, 4 * h], dtype=i8), rng(2).integers(-120, 120, [d, h, 4 * h], dtype=i8)
    sc, z = np.array([0.004, 0.005], f), np.zeros(d, i8)
    s.node("DynamicQuantizeLSTM", "DynamicQuantizeLSTM", [normal([5, 2, inp]), w, r, normal([d, 8 * h], 3), None, None, None, None, sc, z, sc, z], outputs=3, domain=MS,
           attrs={"hidden_size": h, "direction": "bidirectional"}, constants=(1, 2, 3, 8, 9, 10, 11), rtol=0, atol=0.03)


def weights(s):
    f = np.float32
    for bits in (2, 4, 8):
        for K, N, block in [(32, 5, 16), (40, 3, 16), (64, 4, 32)]:
            blocks = -(-K // block)
            packed = rng(1).integers(0, 255, [N, blocks, block * bits // 8], dtype=np.uint8)
            scales = rng(2).uniform(0.01, 0.1, [N * blocks]).astype(f)
            zero = rng(3).integers(0, 255, [N * -(-blocks * bits // 8)], dtype=np.uint8)
            a = {"K": K, "N": N, "bits": bits, "block_size": block, "accuracy_level": 1}
            x = normal([2, 3, K])
            s.node(f"MatMulNBits_{bits}_{K}_{block}", "MatMulNBits", [x, packed, scales], domain=MS, attrs=a, constants=(1, 2), rtol=1e-3, atol=1e-3)
            s.node(f"MatMulNBits_zero_{bits}_{K}_{block}", "MatMulNBits", [x, packed, scales, zero], domain=MS, attrs=a, constants=(1, 2, 3), rtol=1e-3, atol=1e-3)
            s.node(f"MatMulNBits_bias_{bits}_{K}_{block}", "MatMulNBits", [x, packed, scales, None, None, normal([N], 5)], domain=MS, attrs=a, constants=(1, 2, 5),
                   rtol=1e-3, atol=1e-3)
    packed = rng(1).integers(0, 255, [4, 2, 16], dtype=np.uint8)
    s.node("MatMulNBits_float_zero", "MatMulNBits", [normal([3, 64]), packed, rng(2).uniform(0.01, 0.1, [4, 2]).astype(f), rng(3).uniform(4, 9, [4, 2]).astype(f)],
           domain=MS, attrs={"K": 64, "N": 4, "bits": 4, "block_size": 32}, constants=(1, 2, 3), rtol=1e-3, atol=1e-3)
    for kind in (0, 1):
        s.node(f"MatMulBnb4_{kind}", "MatMulBnb4", [normal([3, 32]), rng(1).integers(0, 255, [32 * 4 // 2], dtype=np.uint8), rng(2).uniform(.5, 1, [8]).astype(f)],
               domain=MS, attrs={"K": 32, "N": 4, "block_size": 16, "quant_type": kind}, constants=(1, 2))
    table = rng(1).integers(0, 255, [6, 16], dtype=np.uint8)
    ids = np.array([[0, 5], [3, 1]], np.int64)
    s.node("GatherBlockQuantized_u8", "GatherBlockQuantized", [table, ids, rng(2).uniform(0.01, 0.1, [6, 2]).astype(f)], domain=MS,
           attrs={"block_size": 16, "bits": 4, "quantize_axis": 1, "gather_axis": 0}, constants=(0, 2))
    s.node("GatherBlockQuantized_zero", "GatherBlockQuantized", [table, ids, rng(2).uniform(0.01, 0.1, [6, 2]).astype(f), rng(3).integers(0, 255, [6, 1], dtype=np.uint8)],
           domain=MS, attrs={"block_size": 16, "bits": 4, "quantize_axis": 1, "gather_axis": 0}, constants=(0, 2, 3))


def small(s):
    f = np.float32
    s.node("Inverse", "Inverse", [normal([2, 3, 3])], domain=MS, rtol=1e-3)
    s.node("Inverse_f64", "Inverse", [normal([4, 4], dtype=np.float64)], domain=MS)
    for up in (0, 1):
        s.node(f"Trilu_{up}", "Trilu", [normal([2, 3, 4]), np.array(1, np.int64)], domain=MS, attrs={"upper": up})
    for mode in ("bilinear", "nearest", "bicubic"):
        for pad in ("zeros", "border", "reflection"):
            s.node(f"GridSample_{mode}_{pad}", "GridSample", [normal([1, 2, 4, 5]), normal([1, 3, 3, 2], 1)], domain=MS, attrs={"mode": mode, "padding_mode": pad},
                   rtol=1e-3, atol=1e-4)
    s.node("Pad", "Pad", [normal([2, 3]), np.array([0, 1, 1, 2], np.int64), np.array([3], f)], domain=MS)
    s.node("Pad_2d", "Pad", [normal([2, 3]), np.array([[0, 1, 0, 2]], np.int64)], domain=MS, attrs={"mode": "reflect"})
    s.node("Unique", "Unique", [np.array([3, 1, 3, 2, 1], f)], outputs=3, domain=MS)
    for name, args in [("f", [1.0, 5.0, 1.5]), ("default", [1.0, 4.0])]:
        s.node(f"Range_{name}", "Range", [np.array([v], f) for v in args], domain=MS)
    s.node("Range_int", "Range", [np.array(v, np.int64) for v in (10, 1, -3)], domain=MS)
    for axis in (0, -1, 2):
        s.node(f"ExpandDims_{axis % 4}", "ExpandDims", [normal([2, 3]), np.array(axis, np.int32)], domain=MS, constants=(1,))
    rois = np.array([[0, 0, 1, 1], [0.1, 0.2, 0.7, 0.9], [0.5, -0.2, 1.3, 0.6]], f)
    for mode in ("bilinear", "nearest"):
        s.node(f"CropAndResize_{mode}", "CropAndResize", [normal([2, 3, 6, 7]), rois, np.array([0, 1, 1], np.int32), np.array([3, 4], np.int32)], domain=MS,
               attrs={"mode": mode, "extrapolation_value": 0.5})
    s.node("CropAndResize_one", "CropAndResize", [normal([1, 1, 6, 7]), rois[1:2], np.array([0], np.int32), np.array([1, 1], np.int32)], domain=MS)
    s.node("NGramRepeatBlock", "NGramRepeatBlock", [np.array([[1, 2, 3, 1, 2], [4, 4, 4, 4, 4]], np.int64), normal([2, 6])], domain=MS, attrs={"ngram_size": 3})
    s.node("NGramRepeatBlock_2", "NGramRepeatBlock", [np.array([[1, 2, 3, 1, 2], [4, 4, 4, 5, 4]], np.int64), normal([2, 6])], domain=MS, attrs={"ngram_size": 2})
    i64 = lambda v: np.array(v, np.int64)  # noqa: E731
    for i, (src, cur, m, pred) in enumerate([
        ([1, 5, 3, 4, 2], [2, 3], 0, [1, 5, 3, 4, 2, 9]),
        ([1, 5, 3, 4, 2], [2, 3], 1, [5, 3, 7, 2, 9]),
        ([2, 9, 3, 2, 9, 4], [7], 0, [2, 8, 9, 9, 9, 9, 9]),
        ([2, 9, 3, 2, 9, 4], [2, 9], 6, [4]),
        ([2, 9, 3, 2, 9, 4], [2, 9], 6, [8]),
    ]):
        s.node(f"BifurcationDetector_{i}", "BifurcationDetector", [i64(src), i64(cur), i64(m), i64(pred)], outputs=2, domain=MS)
    s.node("BifurcationDetector_start", "BifurcationDetector", [i64([1, 5, 3]), i64([2, 5]), i64(0)], outputs=2, domain=MS)
    for pos in (0, 1):
        s.node(f"MurmurHash3_{pos}", "MurmurHash3", [np.array([1, -7, 3], np.int32)], domain=MS, attrs={"positive": pos, "seed": 7})
    s.node("MurmurHash3_string", "MurmurHash3", [np.array(["a", "hello", "", "sixteen bytes ok"], object)], domain=MS)
    s.node("MurmurHash3_i64", "MurmurHash3", [np.array([1, -7, 3], np.int64)], domain=MS)
    s.node("MurmurHash3_f64", "MurmurHash3", [np.array([1.5, -7, 3], np.float64)], domain=MS)
    s.node("GatherND", "GatherND", [normal([2, 3, 4]), np.array([[0, 1], [1, 2]], np.int64)], domain=MS)
    for metric in ("euclidean", "sqeuclidean"):
        s.node(f"CDist_{metric}", "CDist", [normal([3, 4]), normal([5, 4], 1)], domain=MS, attrs={"metric": metric})
    for op in ("ComplexMul", "ComplexMulConj"):
        def product(x, y, conj=op.endswith("Conj")):
            z = (x[..., 0] + 1j * x[..., 1]) * (y[..., 0] + (-1j if conj else 1j) * y[..., 1])
            return np.stack([z.real, z.imag], -1)
        s.node(op, op, [normal([3, 4, 2]), normal([3, 4, 2], 1)], domain=MS, reference=product)
    s.node("Rfft", "Rfft", [normal([2, 8])], domain=MS, attrs={"normalized": 0, "onesided": 1, "signal_ndim": 1},
           reference=lambda x: np.stack([np.fft.rfft(x).real, np.fft.rfft(x).imag], -1).astype(f))
    s.node("Irfft", "Irfft", [normal([2, 5, 2])], domain=MS, attrs={"normalized": 0, "onesided": 1, "signal_ndim": 1},
           reference=lambda x: np.fft.irfft(x[..., 0] + 1j * x[..., 1]).astype(f))
    s.node("TorchEmbedding", "TorchEmbedding", [normal([5, 3]), np.array([0, 4], np.int64)], domain=MS, reference=lambda w, i: w[i])
    for only in ({}, {"isinf_only": 1}, {"isnan_only": 1}):
        for bad in (1.0, np.inf, np.nan):
            answer = not ((np.isinf(bad) and "isnan_only" not in only) or (np.isnan(bad) and "isinf_only" not in only))
            s.node(f"IsAllFinite_{bad}_{''.join(only)}", "IsAllFinite", [normal([3]), np.array([1, bad], f)], domain=MS, attrs=only,
                   reference=lambda x, y: np.array(answer))
    s.node("SwiGLU", "SwiGLU", [normal([2, 8])], domain=MS, attrs={"activation_alpha": 1.7, "activation_beta": 1.0, "limit": 0.9},
           reference=lambda x: (g := np.minimum(x[..., :4], 0.9)) / (1 + np.exp(-1.7 * g)) * (np.clip(x[..., 4:], -0.9, 0.9) + 1))
    for two in (0, 1):
        s.node(f"RelativePositionBias_{two}", "RelativePositionBias", [normal([8, 3]), np.array([20], np.int64), np.array([20], np.int64)], domain=MS,
               attrs={"is_bidirectional": two, "max_distance": 16},
               reference=lambda t, n, m: t[t5_buckets(20, 20, two, 8, 16)].transpose(2, 0, 1)[None])


def experimental(s):
    x = normal([1, 3, 6, 7])
    s.node("Affine", "Affine", [normal([5])], opset=9, attrs={"alpha": 2.0, "beta": 0.5})
    s.node("Scale", "Scale", [normal([5])], opset=9, attrs={"scale": 2.0})
    s.node("ScaledTanh", "ScaledTanh", [normal([5])], opset=9, attrs={"alpha": 2.0, "beta": 0.5})
    s.node("ParametricSoftplus", "ParametricSoftplus", [normal([5])], opset=9, attrs={"alpha": 2.0, "beta": 0.5})
    s.node("ImageScaler", "ImageScaler", [x], opset=9, attrs={"scale": 2.0, "bias": [0.1, 0.2, 0.3]})
    s.node("Crop", "Crop", [x], opset=9, attrs={"border": [1, 2, 3, 1]})
    s.node("Crop_scale", "Crop", [x], opset=9, attrs={"border": [1, 2, 0, 0], "scale": [3, 4]})
    s.node("DynamicSlice", "DynamicSlice", [x, np.array([1, 2], np.int64), np.array([3, 5], np.int64), np.array([1, 3], np.int64)], opset=9)
