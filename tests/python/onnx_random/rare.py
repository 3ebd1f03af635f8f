"""Operators that few models have: spectra, regions, strings, optionals, sequences, what the newest opsets brought."""
import math

import numpy as np
from draw import FLOATS, GRID, INTS, NUMBERS, SAME, T, Reject, np_type
from onnx import helper, numpy_helper

TEXTS = ("", "a", "A b", "one,two", ",x,", "  spaced  out ", "élan vital", "x1y22", "same", "Same", "a-b-c")


def text(d, shape):
    return d.leaf(T.STRING, None, np.array([d.pick(*TEXTS) for _ in range(math.prod(shape))], dtype=object).reshape(shape), constant=False)


def turned(d):
    d.node("Not", [d.value((T.BOOL,))], trust=SAME, bound=1)


def windows(d):
    size = d.param(np.array(d.int(2, 12), np.int64))
    d.node(d.pick("HannWindow", "HammingWindow", "BlackmanWindow"), [size], bound=1, periodic=d.pick(None, 0, 1),
           output_datatype=d.maybe(d.pick(T.FLOAT, T.DOUBLE)))


def determinant(d):
    n = d.int(1, 4)
    batch = d.shape(0, 2)
    d.node("Det", [d.leaf(T.FLOAT, (*batch, n, n), constant=False)], bound=1e4)


def spectrum(d):
    rank = d.int(2, 4)
    shape = [d.int(1, 6) for _ in range(rank - 1)]
    axis = d.int(1 if rank > 2 else 0, rank - 2)
    shape[axis] = d.pick(1, 2, 3, 4, 5, 7, 8, 12, 16)
    inverse = d.pick(None, 0, 1)
    real = not inverse and d.chance(0.6)
    x = d.leaf(d.pick(T.FLOAT, T.DOUBLE), (*shape, 1 if real else 2), constant=False)
    length = d.param(np.array(d.int(1, 18), np.int64)) if d.chance(0.4) else None
    # Before the axis was an input, the batch was the first of them.
    if d.opset < 20 and axis == 0:
        raise Reject
    d.node("DFT", [x, length], bound=1e3, axis=axis if d.opset < 20 else np.array(axis - rank if d.chance(0.3) else axis, np.int64), inverse=inverse,
           onesided=d.pick(None, 0, 1) if real else None)


def short_time_spectrum(d):
    frame, step = d.pick(2, 3, 4, 8), d.int(1, 5)
    x = d.leaf(T.FLOAT, (d.int(1, 2), frame + d.int(0, 12), 1), constant=False)
    window = d.leaf(T.FLOAT, (frame,)) if d.chance(0.6) else None
    length = d.param(np.array(frame, np.int64)) if window is None or d.chance(0.5) else None
    d.node("STFT", [x, d.param(np.array(step, np.int64)), window, length], bound=1e3, onesided=d.int(0, 1))       # onnx infers by another default than it states


def mel(d):
    low = d.pick(0.0, 20.0, 100.0)
    number = lambda v: d.param(np.array(v, np.int64))
    real = lambda v: d.param(np.array(v, np.float32), T.FLOAT)
    d.node("MelWeightMatrix", [number(d.int(2, 8)), number(d.pick(16, 32, 64)), number(d.pick(8192, 16000)), real(low), real(low + d.pick(500.0, 3000.0))], bound=1)


def moved_taps(d):
    n, group = d.int(1, 2), d.pick(1, 1, 2)
    shifts = d.pick(1, 2)
    c, m = 2 * d.int(1, 2), group * d.int(1, 3)
    kernel = [d.int(1, 3), d.int(1, 3)]
    strides, pads = [d.int(1, 2), d.int(1, 2)], [d.int(0, 1) for _ in range(4)]
    size = [k + d.int(0, 4) for k in kernel]
    out = [(s + pads[i] + pads[i + 2] - k) // t + 1 for i, (s, k, t) in enumerate(zip(size, kernel, strides))]
    dtype = d.pick(T.FLOAT, T.FLOAT, T.DOUBLE)
    make = lambda *shape: d.leaf(dtype, shape, constant=False)
    taps = kernel[0] * kernel[1]
    offset = d.leaf(dtype, None, d.np.uniform(-1.5, 1.5, (n, shifts * taps * 2, *out)), constant=False)
    d.node("DeformConv", [make(n, c, *size), d.leaf(dtype, (m, c // group, *kernel)), offset, make(m) if d.chance(0.5) else None,
                          make(n, shifts * taps, *out) if d.chance(0.5) else None], group=group, offset_group=shifts, strides=strides, pads=pads,
           kernel_shape=d.maybe(kernel))


def pooled_regions(d):
    x = d.leaf(T.FLOAT, (d.int(1, 2), d.int(1, 3), d.int(4, 8), d.int(4, 8)), constant=False)
    count = d.int(1, 3)
    corner = d.np.integers(0, 3, (count, 2))
    boxes = np.concatenate([d.np.integers(0, x.shape[0], (count, 1)), corner, corner + d.np.integers(1, 4, (count, 2))], 1).astype(np.float32)
    d.node("MaxRoiPool", [x, d.leaf(T.FLOAT, None, boxes, constant=False)], trust=min(x.trust, SAME), bound=x.bound, pooled_shape=[d.int(1, 3), d.int(1, 3)],
           spatial_scale=d.pick(None, 1.0, 0.5))


def unpooled(d):
    k = d.int(2, 3)
    x = d.leaf(d.pick(T.FLOAT, T.DOUBLE), (d.int(1, 2), d.int(1, 2), k * d.int(1, 3), k * d.int(1, 3)), constant=False)
    y, places = d.node("MaxPool", [x], outputs=2, trust=SAME, bound=100, kernel_shape=[k, k], strides=[k, k])
    if y.dtype != T.FLOAT and d.opset < 11:
        raise Reject
    shape = d.param(np.array(x.shape, np.int64)) if d.chance(0.3) else None
    d.node("MaxUnpool", [y, places, shape], trust=SAME, bound=100, kernel_shape=[k, k], strides=[k, k])


def suppression(d):
    b, c, n = d.int(1, 2), d.int(1, 3), d.int(1, 8)
    corner = d.np.integers(0, 6, (b, n, 2)) / 2
    size = d.np.integers(1, 6, (b, n, 2)) / 2
    center = d.pick(None, 0, 1)
    boxes = np.concatenate([corner, size if center else corner + size], 2).astype(np.float32)
    # No two scores are equal: which comes first is not said.
    scores = (d.np.permutation(b * c * n).reshape(b, c, n) / (b * c * n)).astype(np.float32)
    number = lambda v, t: d.param(np.array(v, np_type(t)), t) if d.chance(0.8) else None
    inputs = [d.leaf(T.FLOAT, None, boxes, constant=False), d.leaf(T.FLOAT, None, scores, constant=False), d.param(np.array(d.int(1, 5), np.int64)),
              number(d.pick(0.3, 0.45, 0.7), T.FLOAT), number(d.pick(0.1, 0.5), T.FLOAT)]
    d.node("NonMaxSuppression", inputs, trust=GRID, bound=10, center_point_box=center)


def optional(d):
    x = d.value(NUMBERS, low=0)
    made = d.node("Optional", [x])[0]
    made.dtype = made.shape = None
    if d.chance(0.3):
        out = d.node("OptionalHasElement", [made], trust=GRID, bound=1)[0]
        out.dtype, out.shape = T.BOOL, ()
        return
    out = d.node("OptionalGetElement", [made], trust=x.trust, bound=x.bound)[0]
    out.dtype, out.shape = x.dtype, x.shape
    if x.dtype in FLOATS and d.chance(0.5):
        d.node("Relu", [out])


def texts(d):
    how = d.int(0, 3)
    x = text(d, d.shape(0, 2))
    if how == 0:
        partner = d.partner(x.shape)
        d.node("StringConcat", [x, text(d, partner)], trust=SAME)
    elif how == 1:
        d.node("RegexFullMatch", [x], trust=SAME, bound=1, pattern=d.pick("[a-z]+", "a.*", ".*,.*", r"\w*\d+", ""))
    elif how == 2:
        if x.size == 0:
            raise Reject
        d.node("StringSplit", [x], outputs=2, trust=SAME, bound=20, delimiter=d.pick(None, "", ",", "-", "a"), maxsplit=d.pick(None, 1, 2))
    else:
        # The plain locale is the only one that is there everywhere; it knows no letters besides those of ASCII.
        shape = d.pick((d.int(1, 5),), (1, d.int(1, 5)))
        plain = [t for t in TEXTS if t.isascii()]
        x = d.leaf(T.STRING, None, np.array([d.pick(*plain) for _ in range(math.prod(shape))], dtype=object).reshape(shape), constant=False)
        d.node("StringNormalizer", [x], trust=SAME, locale="C", case_change_action=d.pick(None, "LOWER", "UPPER", "NONE"), is_case_sensitive=d.pick(None, 0, 1),
               stopwords=d.maybe(["same", "a", "A b"]))


def words(d):
    x = d.leaf(d.pick(T.INT32, T.INT64), None, d.np.integers(0, 5, d.pick((6,), (2, 6))), constant=False)
    most = d.int(1, 2)
    d.node("TfIdfVectorizer", [x], trust=GRID, bound=10, mode=d.pick("TF", "IDF", "TFIDF"), min_gram_length=1, max_gram_length=most, max_skip_count=d.int(0, 3),
           ngram_counts=[0, 3], ngram_indexes=[0, 2, 1, 4, 3], pool_int64s=[0, 1, 2, 1, 2, 3, 4], weights=d.maybe([0.5, 2.0, 1.0, 1.5, 3.0]))


def old_scatter(d):
    x = d.value(NUMBERS, low=1, where=lambda v: v.size > 0)
    axis = d.axis(x.rank, d.opset >= 11)
    shape = [d.int(1, k) for k in x.shape]
    index = np.argsort(d.np.random(x.shape), axis)[tuple(slice(0, k) for k in shape)]
    updates = d.like(x, shape)
    d.node("Scatter", [x, d.leaf(T.INT64, None, index, constant=False), updates], trust=min(x.trust, updates.trust), bound=math.inf, axis=axis)


def lists(d):
    """Sequences that grow and shrink, and what is made of their elements."""
    x = d.value((T.FLOAT, T.INT64, T.DOUBLE), low=1, where=lambda v: v.size > 0)
    untyped = lambda v: (setattr(v, "dtype", None), setattr(v, "shape", None), v)[2]
    how = d.int(0, 2)
    count = d.int(1, 3)
    if how == 0:
        made = untyped(d.node("SequenceEmpty", [], dtype=x.dtype)[0])
        for _ in range(count):
            at = d.param(np.array(0, np.int64)) if d.chance(0.4) else None
            made = untyped(d.node("SequenceInsert", [made, x if d.chance(0.5) else d.like(x, x.shape), at])[0])
    elif how == 1:
        axis = d.axis(x.rank)
        size = x.shape[axis]
        part = d.int(1, size)
        split = None if d.chance(0.3) else np.array(part, np.int64) if d.chance(0.5) or size < 2 else np.array([part, size - part] if part < size else [size], np.int64)
        keep = d.pick(None, 0, 1) if split is None else None
        if keep == 0 and x.shape[axis] != 1 and split is not None:
            raise Reject
        made = untyped(d.node("SplitToSequence", [x, d.param(split) if split is not None else None], axis=axis, keepdims=keep)[0])
        count = 1
    else:
        parts = [x, *(d.like(x, x.shape) for _ in range(count))]
        made = untyped(d.node("SequenceConstruct", parts)[0])
        at = d.param(np.array(d.int(-count - 1, count), np.int64)) if d.chance(0.7) else None
        made = untyped(d.node("SequenceErase", [made, at])[0])
    if d.chance(0.3) and d.opset >= 17:
        part, out = d.name("b"), d.name("b")
        body = helper.make_graph([helper.make_node(d.pick("Neg", "Identity", "Abs"), [part], [out])], d.name("g"),
                                 [helper.make_tensor_value_info(part, x.dtype, None)], [helper.make_tensor_value_info(out, x.dtype, None)])
        made = untyped(d.node("SequenceMap", [made], body=body)[0])
    end = d.int(0, 2)
    if end == 0:
        out = d.node("SequenceAt", [made, d.param(np.array(d.int(-count, count - 1), np.int64))], trust=x.trust, bound=x.bound)[0]
        out.dtype = x.dtype
    elif end == 1:
        out = d.node("SequenceLength", [made], trust=GRID, bound=20)[0]
        out.dtype, out.shape = T.INT64, ()
    elif how != 1:
        out = d.node("ConcatFromSequence", [made], axis=d.int(0, x.rank - 1), new_axis=d.pick(None, 0, 1))[0]
        out.dtype = x.dtype


def constant(d):
    """A node where others have an initializer."""
    how = d.int(0, 4)
    if how == 0 and d.opset >= 12:
        attrs = {d.pick("value_float", "value_int"): d.int(-3, 3)}
        attrs = {k: float(v) if k.endswith("float") else v for k, v in attrs.items()}
    elif how == 1 and d.opset >= 12:
        attrs = {"value_ints": [d.int(-3, 3) for _ in range(d.int(1, 4))]}
    elif how == 2 and d.opset >= 11:
        dense = np.zeros(d.int(2, 9), np.float32)
        at = sorted(d.rng.sample(range(dense.size), d.int(1, 2)))
        values = numpy_helper.from_array(d.np.integers(1, 5, len(at)).astype(np.float32), "v")
        attrs = {"sparse_value": helper.make_sparse_tensor(values, numpy_helper.from_array(np.array(at, np.int64), "i"), list(dense.shape))}
    else:
        array, _, _ = d.array(d.pick(*NUMBERS), d.shape(0, 3))
        attrs = {"value": numpy_helper.from_array(np.asarray(array))}
    d.node("Constant", [], trust=SAME, bound=1e9, **attrs)


def newest(d):
    """What no released onnxruntime has: the engine against the reference evaluator."""
    how = d.int(0, 5)
    if how == 0:
        x = d.value((T.FLOAT, T.DOUBLE, T.FLOAT16), low=1)
        d.node("SwiGLU", [x, d.like(x, x.shape)], alpha=d.maybe(d.int(-4, 6) / 4))
    elif how == 1:
        b, c, length, k = d.int(1, 2), d.int(1, 4), d.int(1, 7), d.int(1, 4)
        make = lambda *shape: d.leaf(d.usual[0] if d.usual[0] == T.FLOAT16 else T.FLOAT, shape)
        d.node("CausalConvWithState", [make(b, c, length), make(c, 1, k), make(c) if d.chance(0.6) else None, make(b, c, k - 1) if d.chance(0.5) else None],
               outputs=2, activation=d.pick(None, "none", "silu", "swish"))
    elif how == 2:
        b, t, hk = d.int(1, 2), d.int(1, 5), d.int(1, 2)
        hq = hk * d.int(1, 2)
        dk, dv = d.pick(1, 2, 4, 8), d.pick(1, 3, 8, 40)
        make = lambda *shape: d.leaf(T.FLOAT, None, d.np.uniform(-0.5, 0.5, shape), constant=False)
        rule = d.pick("linear", "gated", "delta", "gated_delta")
        d.node("LinearAttention", [make(b, t, hq * dk), make(b, t, hk * dk), make(b, t, hk * dv), make(b, hk, dk, dv) if d.chance(0.5) else None,
                                   make(b, t, d.pick(hk, hk * dk)) if "gated" in rule else None, make(b, t, d.pick(hk, 1)) if "delta" in rule else None],
               outputs=2, q_num_heads=hq, kv_num_heads=hk, update_rule=rule, scale=d.maybe(0.7))
    elif how == 3:
        x = d.value((T.FLOAT, T.DOUBLE, T.INT32, T.INT64), low=1, where=lambda v: v.size < 12)
        if x.bound > 6:
            raise Reject
        d.node("CumProd", [x, d.param(np.array(d.axis(x.rank), np.int64))], exclusive=d.pick(None, 0, 1), reverse=d.pick(None, 0, 1))
    elif how == 4:
        x = d.value((T.FLOAT, T.INT32, T.UINT32, T.DOUBLE, T.INT64, T.FLOAT16, T.INT16, T.INT8, T.UINT8), trust=SAME)
        size = np.dtype(np_type(x.dtype)).itemsize
        d.node("BitCast", [x], trust=SAME, to=d.pick(*[t for t in (*INTS, *FLOATS) if np.dtype(np_type(t)).itemsize == size]))
    else:
        b, h, length, e = d.int(1, 3), d.int(1, 2), d.int(2, 6), d.int(1, 4)
        steps = d.int(1, length)
        cache = d.leaf(d.pick(T.FLOAT, T.FLOAT16, T.INT64), (b, h, length, e), constant=False)
        update = d.leaf(cache.dtype, (b, h, steps, e), constant=False)
        mode = d.pick(None, "linear", "circular")
        places = d.leaf(T.INT64, None, d.np.integers(0, length if mode == "circular" else length - steps + 1, b), constant=False) if d.chance(0.7) else None
        d.node("TensorScatter", [cache, update, places], trust=min(cache.trust, update.trust), bound=1e3, mode=mode, axis=d.pick(None, -2, 2))


def cached_attention(d):
    """Caches, scores, numbers of valid keys, and other types than single precision."""
    b, k, q, past, e, v = d.int(1, 2), d.int(1, 2), d.int(1, 4), d.int(1, 4), d.pick(2, 4, 8), d.pick(2, 4, 8)
    h = k * d.int(1, 2)
    dtype = d.pick(T.FLOAT, T.FLOAT, T.DOUBLE, T.FLOAT16)
    make = lambda *shape: d.leaf(dtype, None, d.np.uniform(-1, 1, shape), constant=False)
    keys = q + past
    inputs = [make(b, h, q, e), make(b, k, q, e), make(b, k, q, v), None, make(b, k, past, e), make(b, k, past, v)]
    if d.chance(0.3):
        inputs[3] = d.leaf(T.BOOL, None, np.concatenate([np.ones((q, 1), bool), d.np.random((q, keys - 1)) < 0.7], 1))
    attrs = {"is_causal": d.pick(None, 0, 1), "scale": d.maybe(0.3, 0.3), "softcap": d.maybe(2.0, 0.2)}
    many = d.pick(1, 3, 4)
    if many == 4:
        attrs["qk_matmul_output_mode"] = d.pick(0, 3)
    d.node("Attention", inputs, outputs=many, **attrs)


FAMILIES = {turned: 1, windows: 1, determinant: 1, spectrum: 2, short_time_spectrum: 1, mel: 1, moved_taps: 1, pooled_regions: 1, unpooled: 1, suppression: 1,
            optional: 2, texts: 3, words: 1, old_scatter: 1, lists: 3, constant: 2, newest: 2, cached_attention: 1}
