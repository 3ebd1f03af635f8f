"""Operators that move elements: shapes, slices, gathers, scatters, pads."""
import math

import numpy as np
from draw import FLOATS, GRID, INTS, NEAR, NUMBERS, PLAIN, SAME, T, Reject, np_type

ANY = (*PLAIN, T.STRING)
INDEX = (T.INT32, T.INT64)


def copy(d, op, inputs, **attrs):
    """A node whose elements are those of its first input."""
    return d.node(op, inputs, trust=inputs[0].trust, bound=inputs[0].bound, **attrs)


def reshape(d):
    x = d.value(ANY)
    left, dims = max(x.size, 1), []
    while left > 1 and len(dims) < 5:
        divisors = [k for k in range(2, left + 1) if left % k == 0]
        dims.append(d.pick(*divisors))
        left //= dims[-1]
    if left > 1:
        dims.append(left)
    d.rng.shuffle(dims)
    for _ in range(d.int(0, 2)):
        dims.insert(d.int(0, len(dims)), 1)
    zero = None
    if x.size == 0:
        dims = [k for k in x.shape if k] + [0]
        zero = 1
    else:
        for i in range(min(len(dims), x.rank)):
            if dims[i] == x.shape[i] and d.chance(0.3):
                dims[i] = 0
        if dims and d.chance(0.5):
            dims[d.int(0, len(dims) - 1)] = -1
    if zero and d.opset < 14:
        raise Reject
    copy(d, "Reshape", [x, d.param(np.array(dims, np.int64))], allowzero=zero)


def flatten(d):
    x = d.value(ANY, low=1)
    copy(d, "Flatten", [x], axis=d.maybe(d.int(-x.rank if d.opset >= 11 else 0, x.rank)))


def squeeze(d):
    x = d.value(ANY)
    ones = [i for i, k in enumerate(x.shape) if k == 1]
    axes = [a - x.rank if d.opset >= 11 and d.chance(0.3) else a for a in d.rng.sample(ones, d.int(0, len(ones)))]
    copy(d, "Squeeze", [x], axes=axes or None)


def unsqueeze(d):
    x = d.value(ANY, high=3)
    more = d.int(1, 2)
    axes = d.rng.sample(range(x.rank + more), more)
    copy(d, "Unsqueeze", [x], axes=[a - x.rank - more if d.opset >= 11 and d.chance(0.3) else a for a in axes])


def transpose(d):
    x = d.value(ANY)
    perm = list(range(x.rank))
    d.rng.shuffle(perm)
    copy(d, "Transpose", [x], perm=d.maybe(perm, 0.85) if x.rank else None)


def concat(d):
    x = d.value(ANY, low=1)
    axis = d.axis(x.rank, d.opset >= 11)
    parts = [x]
    for _ in range(d.int(0, 3)):
        shape = list(x.shape)
        shape[axis] = d.dim()
        parts.append(d.like(x, shape))
    d.rng.shuffle(parts)
    d.node("Concat", parts, trust=min(p.trust for p in parts), bound=max(p.bound for p in parts), axis=axis)


def split(d):
    x = d.value(ANY, low=1)
    axis = d.axis(x.rank, d.opset >= 11)
    size = x.shape[axis]
    parts = d.int(1, 3)
    if d.chance(0.5):
        cuts = sorted(d.int(0, size) for _ in range(parts - 1))
        sizes = [b - a for a, b in zip([0, *cuts], [*cuts, size])]
        d.node("Split", [x], outputs=parts, trust=x.trust, bound=x.bound, axis=axis, split=sizes)
    else:
        if d.opset < 18 and size % parts or d.opset >= 18 and -(-size // parts) * (parts - 1) > size:
            raise Reject
        d.node("Split", [x], outputs=parts, trust=x.trust, bound=x.bound, axis=axis, num_outputs=parts)


def slice_(d):
    x = d.value(ANY, low=1)
    axes = d.axes(x.rank)
    if d.opset < 11:
        axes = [a % x.rank for a in axes]
    starts, ends, steps = [], [], []
    for a in axes:
        size = x.shape[a]
        step = 1 if d.opset < 10 else d.pick(1, 1, 2, 3, -1, -1, -2, -5)
        bounds = lambda: d.pick(d.int(-size - 2, size + 2), 0, size, -1, 2**31 - 1, -(2**31), 2**63 - 1, -(2**63))
        starts.append(bounds())
        ends.append(bounds())
        steps.append(step)
    if d.opset < 10:
        copy(d, "Slice", [x], starts=starts, ends=ends, axes=d.maybe(axes, 0.9) if sorted(a % x.rank for a in axes) == list(range(len(axes))) == axes else axes)
        return
    dtype = d.pick(T.INT32, T.INT64)
    clip = lambda v: [max(-(2**31), min(2**31 - 1, k)) for k in v] if dtype == T.INT32 else v
    param = lambda v: d.param(np.array(clip(v), np_type(dtype)), dtype)
    copy(d, "Slice", [x, param(starts), param(ends), param(axes), param(steps) if any(s != 1 for s in steps) or d.chance(0.5) else None])


def indices(d, shape, size, negative=True):
    low = -size if negative and d.chance(0.4) else 0
    return d.np.integers(low, size, shape)


def gather(d):
    x = d.value(ANY, low=1, where=lambda v: v.size > 0)
    axis = d.axis(x.rank)
    kind = d.pick(*INDEX)
    index = indices(d, d.shape(0, 2), x.shape[axis], d.opset >= 11).astype(np_type(kind))
    copy(d, "Gather", [x, d.leaf(kind, None, index, constant=d.chance(0.5))], axis=d.maybe(axis) if axis == 0 else axis)


def gather_elements(d):
    x = d.value(ANY, low=1, where=lambda v: v.size > 0)
    axis = d.axis(x.rank)
    shape = [d.int(1, k) for k in x.shape]
    shape[axis] = d.int(1, 6)
    kind = d.pick(*INDEX)
    index = d.leaf(kind, None, indices(d, shape, x.shape[axis]).astype(np_type(kind)), constant=d.chance(0.3))
    copy(d, "GatherElements", [x, index], axis=axis)


def gather_nd(d):
    x = d.value(ANY, low=1, where=lambda v: v.size > 0)
    batch = d.int(0, min(2, x.rank - 1)) if d.opset >= 12 else 0
    depth = d.int(1, x.rank - batch)
    shape = [*x.shape[:batch], *(d.int(1, 3) for _ in range(d.int(0 if batch else 1, 2)))]
    index = np.stack([indices(d, shape, x.shape[batch + k]) for k in range(depth)], -1)
    copy(d, "GatherND", [x, d.leaf(T.INT64, None, index, constant=d.chance(0.3))], batch_dims=batch or None)


def reduction(d, op):
    choices = [None, "none"] + (["add", "mul"] if d.opset >= 16 else []) + (["max", "min"] if d.opset >= 18 else [])
    return d.pick(*choices)


def scatter_elements(d):
    x = d.value(NUMBERS, low=1, where=lambda v: v.size > 0)
    axis = d.axis(x.rank)
    how = reduction(d, "ScatterElements")
    shape = [d.int(1, k) for k in x.shape]
    place = np.argsort(d.np.random(x.shape), axis)       # no index twice, unless something sums them up
    index = place[tuple(slice(0, k) for k in shape)] if how in (None, "none") else indices(d, shape, x.shape[axis])
    if how not in (None, "none") and x.bound > 200:
        raise Reject
    kind = d.pick(*INDEX)
    updates = d.like(x, shape)
    d.node("ScatterElements", [x, d.leaf(kind, None, index.astype(np_type(kind)), constant=d.chance(0.3)), updates],
           trust=min(x.trust, updates.trust) if how in (None, "none", "max", "min") else NEAR, bound=math.inf, axis=axis, reduction=how)


def scatter_nd(d):
    x = d.value(NUMBERS, low=1, where=lambda v: v.size > 0)
    depth = d.int(1, x.rank)
    how = reduction(d, "ScatterND")
    count = d.int(1, 4)
    total = math.prod(x.shape[:depth])
    flat = d.np.permutation(total)[:count] if how in (None, "none") else d.np.integers(0, total, count)
    index = np.stack(np.unravel_index(flat, x.shape[:depth]), -1).astype(np.int64)
    if d.chance(0.3):
        index = np.where(d.np.random(index.shape) < 0.5, index - np.array(x.shape[:depth]), index)
    if how not in (None, "none") and x.bound > 200:
        raise Reject
    updates = d.like(x, (len(flat), *x.shape[depth:]))
    d.node("ScatterND", [x, d.leaf(T.INT64, None, index, constant=d.chance(0.3)), updates],
           trust=min(x.trust, updates.trust) if how in (None, "none", "max", "min") else NEAR, bound=math.inf, reduction=how)


def expand(d):
    x = d.value(ANY, high=3)
    shape = [k if k != 1 or d.chance(0.3) else d.dim() for k in x.shape]
    shape = [1 if k == s and d.chance(0.3) else k for k, s in zip(shape, x.shape)]
    if d.chance(0.3):
        shape = [d.dim(), *shape]
    if d.chance(0.2):
        shape = shape[d.int(0, len(shape)):]
    copy(d, "Expand", [x, d.param(np.array(shape, np.int64))])


def tile(d):
    x = d.value(ANY, low=1)
    copy(d, "Tile", [x, d.param(np.array([d.pick(1, 1, 2, 3, 0 if d.chance(0.1) else 1) for _ in x.shape], np.int64))])


def pad(d):
    x = d.value(PLAIN, low=1, where=lambda v: v.size > 0)
    mode = d.pick(None, "constant", "reflect", "edge", *(["wrap"] if d.opset >= 19 else []))
    axes = list(range(x.rank))
    if d.opset >= 18 and d.chance(0.4):
        axes = d.axes(x.rank)
    def amount(a):
        limit = x.shape[a] - 1 if mode == "reflect" else 3 if mode != "wrap" else x.shape[a]
        low = -1 if mode in (None, "constant") and d.chance(0.15) and x.shape[a] > 2 else 0
        return d.int(low, max(0, min(limit, 4)))
    pads = [amount(a) for a in axes] + [amount(a) for a in axes]
    if d.opset < 11:
        d.node("Pad", [x], trust=x.trust, bound=x.bound, pads=pads, mode=mode, value=d.maybe(1.5))
        return
    fill = d.param(np.array(d.int(0, 4), np_type(x.dtype)), x.dtype) if mode in (None, "constant") and d.chance(0.5) else None
    last = d.param(np.array(axes, np.int64)) if len(axes) < x.rank or axes != list(range(x.rank)) else None
    copy(d, "Pad", [x, d.param(np.array(pads, np.int64)), fill, last], mode=mode)


def blocks(d):
    x = d.value(NUMBERS, low=4, high=4)
    n, c, h, w = x.shape
    b = d.int(1, 3)
    if d.chance(0.5):
        x = d.leaf(x.dtype, (n, (c or 1) * b * b, h, w)) if c % (b * b) else x
        copy(d, "DepthToSpace", [x], blocksize=b, mode=d.pick(None, "DCR", "CRD"))
    else:
        x = d.leaf(x.dtype, (n, c, (h or 1) * b, (w or 1) * b)) if h % b or w % b else x
        copy(d, "SpaceToDepth", [x], blocksize=b)


def shape_of(d):
    x = d.value(ANY)
    if d.chance(0.3):
        d.node("Size", [x], trust=GRID, bound=x.size)
    else:
        ends = lambda: d.int(-x.rank - 1, x.rank + 1)
        d.node("Shape", [x], trust=GRID, bound=20, start=d.maybe(ends()), end=d.maybe(ends()))


def made(d):
    kind = d.int(0, 3)
    if kind == 0:
        from onnx import numpy_helper
        dtype = d.pick(*NUMBERS, T.BOOL)
        value = numpy_helper.from_array(np.array([d.int(0, 3)], np_type(dtype)))
        d.node("ConstantOfShape", [d.param(np.array(d.shape(0, 3), np.int64))], trust=GRID, bound=3, value=d.maybe(value))
    elif kind == 1:
        dtype = d.pick(T.INT64, T.INT32, T.FLOAT, T.DOUBLE, T.INT16)
        start, step = d.int(-5, 5), d.pick(1, 1, 2, 3, -1, -2)
        limit = start + step * d.int(-1, 8) + d.pick(0, 0, 1)
        d.node("Range", [d.param(np.array(v, np_type(dtype)), dtype) for v in (start, limit, step)], trust=GRID, bound=60)
    elif kind == 2:
        x = d.value(NUMBERS, low=2, high=2)
        d.node("EyeLike", [x], trust=GRID, bound=1, dtype=d.maybe(d.pick(T.FLOAT, T.INT64, T.DOUBLE, T.INT32)), k=d.pick(None, 0, 1, -1, 3))
    else:
        depth = d.int(1, 6)
        index = d.leaf(d.pick(T.INT64, T.INT32, T.FLOAT), None, d.np.integers(-depth - 1, depth + 2, d.shape(0, 2)))
        out = d.pick(T.FLOAT, T.INT64, T.INT32)
        depth = d.param(np.array(depth if d.chance(0.5) else [depth], np.int64))
        d.node("OneHot", [index, depth, d.param(np.array([2, 5], np_type(out)), out)], trust=GRID, bound=5,
               axis=d.maybe(d.int(-index.rank - 1, index.rank)))


def trilu(d):
    x = d.value((*NUMBERS, T.BOOL), low=2)
    k = d.param(np.array(d.int(-4, 4), np.int64)) if d.chance(0.6) else None
    copy(d, "Trilu", [x, k], upper=d.pick(None, 0, 1))


def chosen(d):
    kind = d.int(0, 2)
    if kind == 0:
        x = d.value((*NUMBERS, T.BOOL), trust=SAME)
        y = d.node("NonZero", [x], trust=GRID, bound=20)[0]
        if d.chance(0.5):
            d.node("Cast", [y], to=T.FLOAT)
    elif kind == 1:
        x = d.value(ANY, low=1)
        axis = d.axis(x.rank, d.opset >= 11) if d.chance(0.7) else None
        length = x.size if axis is None else x.shape[axis]
        mask = d.leaf(T.BOOL, None, d.np.integers(0, 2, d.int(0, length)).astype(bool), constant=d.chance(0.3))
        y = copy(d, "Compress", [x, mask], axis=axis)[0]
        if d.chance(0.5) and x.dtype == T.FLOAT:
            d.node("Relu", [y])
    else:
        x = d.value((T.FLOAT, T.INT64, T.INT8, T.DOUBLE), low=1, trust=SAME, where=lambda v: v.size > 0)
        d.node("Unique", [x], outputs=d.int(1, 4), trust=SAME, bound=x.bound + x.size, axis=d.maybe(d.axis(x.rank)), sorted=d.pick(None, 0, 1))


def reverse_sequence(d):
    x = d.value(ANY, low=2, where=lambda v: v.size > 0)
    batch = d.int(0, 1)
    lengths = d.np.integers(1, x.shape[1 - batch] + 1, x.shape[batch])
    copy(d, "ReverseSequence", [x, d.leaf(T.INT64, None, lengths, constant=False)], batch_axis=batch, time_axis=1 - batch)


def center_crop_pad(d):
    x = d.value(NUMBERS, low=1)
    axes = d.axes(x.rank) if d.chance(0.7) else None
    count = len(axes) if axes else x.rank
    copy(d, "CenterCropPad", [x, d.param(np.array([d.int(1, 8) for _ in range(count)], np.int64))], axes=axes)


FAMILIES = {reshape: 5, flatten: 2, squeeze: 2, unsqueeze: 3, transpose: 5, concat: 5, split: 4, slice_: 7, gather: 4, gather_elements: 3,
            gather_nd: 3, scatter_elements: 3, scatter_nd: 3, expand: 4, tile: 2, pad: 5, blocks: 2, shape_of: 3, made: 4, trilu: 2,
            chosen: 3, reverse_sequence: 1, center_crop_pad: 2}
