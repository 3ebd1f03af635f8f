"""Windows, matrices, normalisations, resampling, recurrence, quantisation."""
import math

import numpy as np
from draw import FLOATS, GRID, INTS, NEAR, NUMBERS, SAME, T, Reject, np_type


def window(d, x, most=4):
    """Attributes of a window over the axes of `x` after the second."""
    n = x.rank - 2
    kernel = [d.int(1, min(most, max(1, s))) for s in x.shape[2:]]
    dilations = [d.pick(1, 1, 1, 2, 3) for _ in range(n)] if d.chance(0.3) else [1] * n
    strides = [d.pick(1, 1, 2, 3) for _ in range(n)]
    reach = [(k - 1) * l + 1 for k, l in zip(kernel, dilations)]
    attrs = {"kernel_shape": kernel, "strides": d.maybe(strides, 0.7), "dilations": dilations if max(dilations) > 1 or d.chance(0.2) else None}
    how = d.int(0, 3)
    if how == 0:
        attrs["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
        if attrs["auto_pad"] != "VALID" and attrs["dilations"]:
            attrs["auto_pad"] = "VALID"
    elif how < 3:
        attrs["pads"] = [d.int(0, k - 1) if k > 1 else 0 for k in kernel * 2]
    pads = attrs.get("pads", [0] * 2 * n)
    if attrs.get("auto_pad", "VALID") == "VALID" and any(s + pads[i] + pads[i + n] < reach[i] for i, s in enumerate(x.shape[2:])):
        raise Reject
    return attrs


def image(d, dtypes=FLOATS, low=3, high=5, channels=None):
    ok = lambda v: v.size > 0 and (channels is None or v.shape[1] % channels == 0)
    return d.value(dtypes, low=low, high=high, where=ok)


def conv(d):
    x = image(d)
    group = d.pick(1, 1, 1, x.shape[1], d.int(1, 4))
    if x.shape[1] % group:
        raise Reject
    attrs = window(d, x)
    m = group * d.int(1, 4)
    if d.chance(0.1) and group == 1:
        m = 16
    w = d.like(x, (m, x.shape[1] // group, *attrs["kernel_shape"]), p=0.1)
    b = d.like(x, (m,), p=0.1) if d.chance(0.5) else None
    attrs["kernel_shape"] = d.maybe(attrs["kernel_shape"], 0.7)
    y = d.node("Conv", [x, w, b], group=d.maybe(group) if group == 1 else group, **attrs)[0]
    after(d, y)


def after(d, y):
    """What engines like to fuse into the node before."""
    if y.shape is None or d.chance(0.4) or y.dtype == T.FLOAT16:
        return
    for _ in range(d.int(1, 2)):
        how = d.int(0, 5)
        if how == 0:
            y = d.node(d.pick("Relu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu"), [y])[0]
        elif how == 1:
            y = d.node("Add", [y, d.like(y, y.shape)])[0]
        elif how == 2 and y.rank >= 2:
            y = d.node("Mul", [y, d.leaf(y.dtype, (y.shape[1], *(1,) * (y.rank - 2)), constant=True)])[0]
        elif how == 3 and y.rank >= 3:
            c = (y.shape[1],)
            variance = d.leaf(y.dtype, None, d.np.random(c) + 0.5, constant=True)
            y = d.node("BatchNormalization", [y, *(d.leaf(y.dtype, c, constant=True) for _ in range(3)), variance])[0]
        elif how == 4:
            y = d.node("Mul", [y, d.node("Sigmoid", [y])[0]])[0]
        elif how == 5:
            y = d.node("Clip", [y], min=0.0, max=6.0)[0] if d.opset < 11 else d.node("Relu", [y])[0]


def conv_transpose(d):
    x = image(d, FLOATS)
    group = d.pick(1, 1, x.shape[1], 2)
    if x.shape[1] % group or x.size > 4000:
        raise Reject
    n = x.rank - 2
    kernel = [d.int(1, 4) for _ in range(n)]
    strides = [d.int(1, 3) for _ in range(n)]
    dilations = [d.pick(1, 1, 2) for _ in range(n)]
    attrs = {"kernel_shape": d.maybe(kernel), "strides": strides, "dilations": d.maybe(dilations) or ([1] * n if d.chance(0.5) else None)}
    dilations = attrs["dilations"] or [1] * n
    how = d.int(0, 3)
    if how == 1:
        attrs["pads"] = [d.int(0, k - 1) for k in kernel * 2]
    elif how == 2:
        attrs["auto_pad"] = d.pick("SAME_UPPER", "SAME_LOWER", "VALID")
    elif how == 3:
        attrs["output_shape"] = [(s - 1) * t + (k - 1) * l + 1 - d.int(0, 1) for s, t, k, l in zip(x.shape[2:], strides, kernel, dilations)]
        if min(attrs["output_shape"]) < 1:
            raise Reject
    if how < 2 and d.chance(0.4):
        attrs["output_padding"] = [d.int(0, s - 1) for s in strides]
    if how == 1 and any((s - 1) * t + (k - 1) * l + 1 - attrs["pads"][i] - attrs["pads"][i + n] < 1
                        for i, (s, t, k, l) in enumerate(zip(x.shape[2:], strides, kernel, dilations))):
        raise Reject
    m = d.int(1, 3)
    w = d.like(x, (x.shape[1], m, *kernel), p=0.1)
    b = d.like(x, (m * group,), p=0.1) if d.chance(0.4) else None
    after(d, d.node("ConvTranspose", [x, w, b], group=group, **attrs)[0])


def pool(d):
    op = d.pick("MaxPool", "AveragePool", "LpPool", "MaxPool", "AveragePool")
    x = image(d, FLOATS if op != "MaxPool" or d.chance(0.8) else (T.INT8, T.UINT8))
    attrs = window(d, x)
    if op == "MaxPool" and x.trust >= SAME and d.chance(0.3):
        d.node(op, [x], outputs=2, trust=SAME, bound=max(x.bound, x.size), ceil_mode=d.pick(None, 0, 1), storage_order=d.pick(None, 0, 1), **attrs)
        return
    if op == "MaxPool":
        d.node(op, [x], trust=min(x.trust, SAME), bound=x.bound, ceil_mode=d.pick(None, 0, 1), **attrs)
    elif op == "AveragePool":
        d.node(op, [x], bound=x.bound, ceil_mode=d.pick(None, 0, 1), count_include_pad=d.pick(None, 0, 1), **attrs)
    else:
        d.node(op, [x], bound=math.inf, ceil_mode=d.pick(None, 0, 1), p=d.pick(None, 1, 2, 3), **attrs)


def global_pool(d):
    x = image(d)
    op = d.pick("GlobalAveragePool", "GlobalMaxPool", "GlobalLpPool")
    d.node(op, [x], bound=math.inf, p=d.pick(None, 1, 2, 3) if op == "GlobalLpPool" else None)


def matmul(d):
    x = d.value((*FLOATS, T.INT32, T.INT64, T.UINT32), low=1, where=lambda v: v.size < 4000)
    if x.bound > 1e4 and x.dtype in INTS:
        raise Reject
    k, n = x.shape[-1], d.pick(1, 2, 3, 5, 8, 17, 33)
    batch = x.shape[:-2]
    shape = (k,) if d.chance(0.15) else (*(d.partner(batch) if d.chance(0.5) else ()), k, n)
    after(d, d.node("MatMul", [x, d.like(x, shape, p=0.2)])[0])


def gemm(d):
    x = d.value((*FLOATS, T.INT32, T.INT64), low=2, high=2)
    ta, tb = d.int(0, 1), d.int(0, 1)
    m, k = x.shape[::-1] if ta else x.shape
    n = d.pick(1, 2, 3, 5, 8, 17)
    w = d.like(x, (n, k) if tb else (k, n), p=0.1)
    c = d.like(x, d.pick((m, n), (n,), (1, n), (m, 1), (1,), ()), p=0.1) if d.opset < 11 or d.chance(0.6) else None
    whole = x.dtype in INTS
    scale = lambda: None if whole else d.maybe(d.int(-4, 8) / 4)
    after(d, d.node("Gemm", [x, w, c], transA=ta or None, transB=tb or None, alpha=scale(), beta=scale())[0])


def einsum(d):
    letters = "abcde"
    size = {c: d.pick(1, 2, 3, 4) for c in letters}
    terms = ["".join(d.rng.sample(letters, d.int(1, 3))) for _ in range(d.int(1, 2))]
    used = sorted(set("".join(terms)))
    out = "".join(d.rng.sample(used, d.int(0, len(used))))
    dtype = d.pick(T.FLOAT, T.DOUBLE, T.INT32, T.INT64)
    inputs = [d.leaf(dtype, tuple(size[c] for c in t)) for t in terms]
    if any(v.bound > 100 for v in inputs):
        raise Reject
    d.node("Einsum", inputs, equation=",".join(terms) + (f"->{out}" if d.chance(0.8) else ""))


def normalise(d):
    op = d.pick("BatchNormalization", "InstanceNormalization", "LayerNormalization", "GroupNormalization", "LRN",
                "MeanVarianceNormalization", "RMSNormalization", "LayerNormalization")
    eps = d.pick(None, 1e-3, 0.1)
    if op in ("LayerNormalization", "RMSNormalization"):
        x = d.value(FLOATS, low=1, where=lambda v: v.size > 0)
        axis = d.axis(x.rank)
        shape = x.shape[axis:] if axis else x.shape
        scale = d.like(x, shape, p=0.1)
        bias = d.like(x, shape, p=0.1) if op[0] == "L" and d.chance(0.6) else None
        d.node(op, [x, scale, bias] if op[0] == "L" else [x, scale], outputs=1 if op[0] == "R" or d.chance(0.8) else 3, bound=100, axis=axis, epsilon=eps)
        return
    x = image(d, FLOATS if op != "MeanVarianceNormalization" else (T.FLOAT,))
    if math.isinf(x.bound):
        raise Reject
    c = (x.shape[1],)
    if op == "BatchNormalization":
        variance = d.leaf(x.dtype, None, d.np.random(c) + 0.5, constant=d.chance(0.7))
        d.node(op, [x, *(d.leaf(x.dtype, c) for _ in range(3)), variance], epsilon=eps)
    elif op == "InstanceNormalization":
        d.node(op, [x, d.leaf(x.dtype, c), d.leaf(x.dtype, c)], epsilon=eps or 1e-3)
    elif op == "GroupNormalization":
        if d.opset < 21:
            raise Reject
        groups = d.pick(*[g for g in range(1, c[0] + 1) if c[0] % g == 0])
        d.node(op, [x, d.leaf(x.dtype, c), d.leaf(x.dtype, c)], num_groups=groups, epsilon=eps or 1e-3)
    elif op == "LRN":
        x = image(d, (T.FLOAT,), low=4, high=4)
        d.node(op, [x], size=d.pick(1, 3, 5), alpha=d.pick(None, 0.5), beta=d.pick(None, 0.5), bias=d.pick(None, 2.0))
    else:
        d.node(op, [x], axes=d.maybe([0, 2, 3]) if x.rank == 4 else [0, 2])


MODES = ("nearest", "linear", "cubic")
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "align_corners", "asymmetric", "tf_crop_and_resize")


def resize(d):
    if d.opset < 11:
        x = image(d, (T.FLOAT,), low=4, high=4)
        scales = [1.0, 1.0, *(d.pick(1.0, 1.5, 2.0, 3.0) for _ in x.shape[2:])]
        d.node("Upsample" if d.opset < 10 else "Resize", [x], mode=d.pick("nearest", "linear"), scales=scales if d.opset < 9 else d.param(np.array(scales, np.float32), T.FLOAT))
        return
    x = image(d, (T.FLOAT, T.FLOAT, T.UINT8, T.INT8), low=4, high=4) if d.chance(0.8) else image(d, (T.FLOAT,), low=3, high=5)
    mode = d.pick(*MODES)
    # How an interpolated integer is rounded is not said.
    if mode == "cubic" and x.rank != 4 or x.dtype != T.FLOAT:
        mode = "nearest"
    coordinates = d.pick(*COORDINATES[:5], None)
    if coordinates == "half_pixel_symmetric" and d.opset < 19:
        coordinates = "half_pixel"
    attrs = {"mode": mode, "coordinate_transformation_mode": coordinates}
    if mode == "nearest":
        attrs["nearest_mode"] = d.pick(None, "round_prefer_floor", "round_prefer_ceil", "floor", "ceil")
    if mode == "cubic":
        attrs |= {"cubic_coeff_a": d.pick(None, -0.5), "exclude_outside": d.pick(None, 0, 1)}
    if d.opset >= 18 and mode != "nearest" and d.chance(0.3):
        attrs["antialias"] = 1
    space = x.rank - 2
    if d.chance(0.5):
        # Quarters only: a scale that is not exact puts nearest on either side of a step.
        scales = [1.0] * 2 + [d.pick(0.5, 0.75, 1.0, 1.25, 1.5, 2.0, 2.5, 4.0) for _ in range(space)]
        if any(math.floor(s * f) < 1 for s, f in zip(x.shape, scales)):
            raise Reject
        inputs = [x, None, d.param(np.array(scales, np.float32), T.FLOAT)]
    else:
        sizes = [*x.shape[:2], *(d.int(1, 9) if mode != "nearest" else d.pick(s, 2 * s, 4 * s, max(1, s // 2)) for s in x.shape[2:])]
        inputs = [x, None, d.param(np.zeros(0, np.float32), T.FLOAT) if d.opset < 13 else None, d.param(np.array(sizes, np.int64))]
    if d.opset < 13:
        inputs[1] = d.param(np.zeros(0, np.float32), T.FLOAT)
    d.node("Resize", inputs, bound=x.bound * 2, **attrs)


def sample(d):
    if d.chance(0.5):
        x = image(d, (T.FLOAT,), low=4, high=4 if d.opset < 20 else 5)
        space = x.rank - 2
        grid = d.leaf(T.FLOAT, None, d.np.uniform(-1.3, 1.3, (x.shape[0], *(d.int(1, 4) for _ in range(space)), space)).astype(np.float32), constant=False)
        modes = ("bilinear", "bicubic") if d.opset < 20 else ("linear", "cubic") if space == 2 else ("linear",)
        d.node("GridSample", [x, grid], mode=d.pick(None, *modes), padding_mode=d.pick(None, "zeros", "border", "reflection"), align_corners=d.pick(None, 0, 1))
    else:
        x = image(d, (T.FLOAT,), low=4, high=4)
        count = d.int(1, 3)
        corner = d.np.uniform(0, 3, (count, 2))
        boxes = np.concatenate([corner, corner + d.np.uniform(1, 4, (count, 2))], 1).astype(np.float32)
        batch = d.leaf(T.INT64, None, d.np.integers(0, x.shape[0], count), constant=d.chance(0.3))
        d.node("RoiAlign", [x, d.leaf(T.FLOAT, None, boxes), batch], mode=d.pick(None, "avg", "max"), output_height=d.int(1, 3), output_width=d.int(1, 3),
               sampling_ratio=d.pick(None, 0, 1, 2), spatial_scale=d.pick(None, 0.5), coordinate_transformation_mode=d.pick(None, "half_pixel", "output_half_pixel"))


def recurrent(d):
    op = d.pick("LSTM", "GRU", "RNN")
    gates = {"LSTM": 4, "GRU": 3, "RNN": 1}[op]
    steps, batch, size, hidden = d.int(1, 5), d.int(1, 3), d.int(1, 4), d.int(1, 5)
    direction = d.pick(None, "forward", "reverse", "bidirectional")
    n = 2 if direction == "bidirectional" else 1
    layout = d.pick(None, 0) if d.opset >= 14 else None
    make = lambda *shape: d.leaf(T.FLOAT, shape)
    x = d.leaf(T.FLOAT, (steps, batch, size), constant=False)
    lengths = d.leaf(T.INT32, None, d.np.integers(1, steps + 1, batch).astype(np.int32), constant=False) if d.chance(0.3) else None
    inputs = [x, make(n, gates * hidden, size), make(n, gates * hidden, hidden), make(n, 2 * gates * hidden) if d.chance(0.7) else None, lengths]
    if d.chance(0.5):
        inputs.append(make(n, batch, hidden))
        if op == "LSTM" and d.chance(0.7):
            inputs.append(make(n, batch, hidden))
            if d.chance(0.3):
                inputs.append(make(n, 3 * hidden))
    names = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}[op]
    activations = [d.pick(a, a, "Tanh", "Sigmoid", "Softsign", "HardSigmoid") for a in names * n] if d.chance(0.2) else None
    d.node(op, inputs, outputs=d.int(1, 3 if op == "LSTM" else 2), hidden_size=hidden, direction=direction, layout=layout, activations=activations,
           clip=d.maybe(1.5, 0.1), linear_before_reset=d.pick(None, 0, 1) if op == "GRU" else None)


def quantise(d):
    kind = d.pick(T.UINT8, T.INT8)
    x = d.value((T.FLOAT,), trust=SAME)
    scale = d.param(np.float32(d.pick(0.25, 0.5, 0.125)), T.FLOAT)
    zero = d.param(np.array(d.int(0, 9), np_type(kind)), kind)
    how = d.int(0, 3)
    if how == 0 and x.rank and d.opset >= 13:
        axis = d.axis(x.rank)
        scale = d.leaf(T.FLOAT, None, np.array([d.pick(0.25, 0.5, 0.125) for _ in range(x.shape[axis])], np.float32))
        zero = d.leaf(kind, None, d.np.integers(0, 9, x.shape[axis]).astype(np_type(kind)))
        q = d.node("QuantizeLinear", [x, scale, zero], trust=SAME, bound=255, axis=axis)[0]
        d.node("DequantizeLinear", [q, scale, zero], trust=SAME, bound=64, axis=axis)
    elif how == 1 and d.opset >= 11:
        d.node("DynamicQuantizeLinear", [x], outputs=3, bound=255)
    else:
        q = d.node("QuantizeLinear", [x, scale, zero if d.chance(0.7) or kind == T.INT8 else None], trust=SAME, bound=255)[0]
        if d.chance(0.7):
            d.node("DequantizeLinear", [q, scale, d.param(np.array(3, np_type(q.dtype)), q.dtype) if d.chance(0.5) else None], trust=SAME, bound=64)


def quantised(d):
    a = d.pick(T.UINT8, T.INT8) if d.chance(0.3) else T.UINT8
    b = d.pick(T.UINT8, T.INT8)
    byte = lambda kind, *shape: d.leaf(kind, None, d.np.integers(0 if kind == T.UINT8 else -20, 20, shape).astype(np_type(kind)))
    zero = lambda kind, *shape: d.leaf(kind, None, d.np.integers(0, 5, shape).astype(np_type(kind)), constant=d.chance(0.8))
    scale = lambda *shape: d.leaf(T.FLOAT, None, np.full(shape, d.pick(0.25, 0.5, 1.0), np.float32), constant=d.chance(0.8))
    how = d.int(0, 3)
    if how == 0:
        m, k, n = d.int(1, 5), d.int(1, 9), d.int(1, 9)
        batch = (d.int(1, 3),) if d.chance(0.3) else ()
        za = zero(a) if d.chance(0.6) else None
        zb = (zero(b, n) if not batch and d.chance(0.3) else zero(b)) if d.chance(0.6) else None
        d.node("MatMulInteger", [byte(a, *batch, m, k), byte(b, *batch, k, n), za, zb], trust=SAME, bound=1e5)
    elif how == 1:
        x = byte(a, d.int(1, 2), d.int(1, 3), d.int(3, 6), d.int(3, 6))
        attrs = window(d, x, 3)
        d.node("ConvInteger", [x, byte(b, d.int(1, 3), x.shape[1], *attrs["kernel_shape"]), zero(a) if d.chance(0.6) else None,
                               zero(b) if d.chance(0.4) else None], trust=SAME, bound=1e5, **attrs)
    elif how == 2:
        m, k, n = d.int(1, 5), d.int(1, 9), d.int(1, 9)
        d.node("QLinearMatMul", [byte(a, m, k), scale(), zero(a), byte(b, k, n), scale(), zero(b), scale(), zero(a)], trust=SAME, bound=255)
    else:
        x = byte(a, d.int(1, 2), d.int(1, 3), d.int(3, 6), d.int(3, 6))
        attrs = window(d, x, 3)
        m = d.int(1, 3)
        per = (m,) if d.chance(0.3) else ()
        bias = d.leaf(T.INT32, None, d.np.integers(-50, 50, m).astype(np.int32)) if d.chance(0.5) else None
        d.node("QLinearConv", [x, scale(), zero(a), byte(b, m, x.shape[1], *attrs["kernel_shape"]), scale(*per),
                               d.leaf(b, None, np.zeros(per, np_type(b)), constant=True), scale(), zero(a), bias], trust=SAME, bound=255, **attrs)


def losses(d):
    n, c = d.int(1, 3), d.int(2, 5)
    rest = d.shape(0, 2)
    if 0 in rest:
        raise Reject
    x = d.leaf(d.pick(T.FLOAT, T.DOUBLE), (n, c, *rest), constant=False)
    target = d.leaf(d.pick(T.INT64, T.INT32), None, d.np.integers(0, c, (n, *rest)), constant=False)
    weight = d.leaf(x.dtype, None, d.np.random(c) + 0.5) if d.chance(0.5) else None
    attrs = {"reduction": d.pick(None, "none", "sum", "mean"), "ignore_index": d.maybe(d.int(0, c), 0.3)}
    if d.chance(0.5):
        d.node("NegativeLogLikelihoodLoss", [x, target, weight], **attrs)
    else:
        d.node("SoftmaxCrossEntropyLoss", [x, target, weight], outputs=d.int(1, 2), **attrs)


def attention(d):
    b, h, q, k, e, v = d.int(1, 2), d.int(1, 4), d.int(1, 5), d.int(1, 6), d.pick(2, 4, 8), d.pick(2, 4, 8)
    groups = d.pick(*[g for g in range(1, h + 1) if h % g == 0])
    make = lambda *shape: d.leaf(T.FLOAT, shape, constant=False)
    attrs = {"is_causal": d.pick(None, 0, 1), "scale": d.maybe(0.3, 0.3), "softcap": d.maybe(2.0, 0.2)}
    mask = None
    if d.chance(0.4):
        shape = d.pick((q, k), (1, 1, q, k), (b, h, q, k), (b, 1, q, k))
        mask = d.leaf(T.FLOAT, shape) if d.chance(0.7) else d.leaf(T.BOOL, None, d.np.random(shape) < 0.8)
    if d.chance(0.5):
        inputs = [make(b, h, q, e), make(b, groups, k, e), make(b, groups, k, v)]
    else:
        inputs = [make(b, q, h * e), make(b, k, groups * e), make(b, k, groups * v)]
        attrs |= {"q_num_heads": h, "kv_num_heads": groups}
    d.node("Attention", [*inputs, mask], **attrs)


def rotary(d):
    b, h, s, e = d.int(1, 2), d.int(1, 3), d.int(1, 5), d.pick(2, 4, 8)
    inter = d.pick(None, 0, 1)
    half = e // 2
    table = lambda: d.leaf(T.FLOAT, (10, half))
    x = d.leaf(T.FLOAT, (b, h, s, e), constant=False)
    places = d.leaf(T.INT64, None, d.np.integers(0, 10, (b, s)), constant=False)
    d.node("RotaryEmbedding", [x, table(), table(), places], interleaved=inter)


def col2im(d):
    space = [d.int(2, 5) for _ in range(2)]
    block = [d.int(1, s) for s in space]
    strides, dilations, pads = [d.int(1, 2) for _ in space], [1, 1], [d.int(0, 1) for _ in range(4)]
    count = math.prod((s + pads[i] + pads[i + 2] - (b - 1) - 1) // t + 1 for i, (s, b, t) in enumerate(zip(space, block, strides)))
    x = d.leaf(T.FLOAT, (d.int(1, 2), d.int(1, 3) * math.prod(block), count), constant=False)
    d.node("Col2Im", [x, d.param(np.array(space, np.int64)), d.param(np.array(block, np.int64))], strides=strides, dilations=dilations, pads=pads)


def dropout(d):
    x = d.value(FLOATS)
    d.node("Dropout", [x], outputs=d.int(1, 2) if d.opset >= 12 else 1, trust=x.trust, bound=x.bound)


def affine_grid(d):
    n, space = d.int(1, 2), d.int(2, 3)
    theta = d.leaf(T.FLOAT, (n, space, space + 1), constant=False)
    d.node("AffineGrid", [theta, d.param(np.array([n, 2, *(d.int(1, 4) for _ in range(space))], np.int64))], align_corners=d.pick(None, 0, 1))


FAMILIES = {conv: 8, conv_transpose: 5, pool: 6, global_pool: 2, matmul: 6, gemm: 5, einsum: 2, normalise: 7, resize: 7, sample: 3, recurrent: 3,
            quantise: 4, quantised: 4, losses: 2, attention: 2, rotary: 1, col2im: 1, dropout: 1, affine_grid: 1}
