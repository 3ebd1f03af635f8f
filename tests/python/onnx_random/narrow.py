"""Element types of few bits: bfloat16 (in any operator), float8 and four-bit integers (in those that onnxruntime has)."""
import numpy as np
from draw import GRID, NEAR, SAME, Reject, T, np_type

FLOAT8 = (T.FLOAT8E4M3FN, T.FLOAT8E4M3FNUZ, T.FLOAT8E5M2, T.FLOAT8E5M2FNUZ)
FOUR_BITS = (T.INT4, T.UINT4)


def bfloat(d):
    """A few operators between a cast to bfloat16 and one back."""
    if d.opset < 13:
        raise Reject
    x = d.value((T.FLOAT,), low=1, trust=SAME, where=lambda v: v.bound < 1e4 and v.size > 0)
    y = d.node("Cast", [x], trust=SAME, bound=x.bound, to=T.BFLOAT16)[0]
    for _ in range(d.int(1, 3)):
        y = bfloat_step(d, y)
    d.node("Cast", [y], trust=NEAR if y.trust == NEAR else SAME, bound=y.bound, to=T.FLOAT)


def bfloat_step(d, x):
    how = d.int(0, 11)
    other = lambda shape: d.node("Cast", [d.leaf(T.FLOAT, shape)], trust=SAME, bound=6, to=T.BFLOAT16)[0]
    if x.shape is None:
        raise Reject
    if how == 0:
        return d.node(d.pick("Add", "Sub", "Mul"), [x, other(d.partner(x.shape))], bound=x.bound * 8)[0]
    if how == 1:
        return d.node(d.pick("Relu", "Sigmoid", "Tanh", "Abs", "Neg", "Sqrt" if x.trust == GRID else "Exp"), [x], bound=x.bound * 2)[0]
    if how == 2 and x.rank:
        perm = list(range(x.rank))
        d.rng.shuffle(perm)
        return d.node("Transpose", [x], trust=x.trust, bound=x.bound, perm=perm)[0]
    if how == 3:
        return d.node("Reshape", [x, d.param(np.array([-1], np.int64))], trust=x.trust, bound=x.bound)[0]
    if how == 4 and x.rank:
        return d.node("Concat", [x, x], trust=x.trust, bound=x.bound, axis=d.axis(x.rank))[0]
    if how == 5 and x.rank:
        index = d.np.integers(0, max(1, x.shape[0]), d.shape(0, 2)).astype(np.int64)
        return d.node("Gather", [x, d.param(index)], trust=x.trust, bound=x.bound, axis=0)[0]
    if how == 6 and x.rank:
        axis = d.axis(x.rank)
        return d.node("Slice", [x, d.param([d.int(-3, 2)]), d.param([d.int(-2, 9)]), d.param([axis]), d.param([d.pick(1, 2, -1)])],
                      trust=x.trust, bound=x.bound)[0]
    if how == 7 and x.rank >= 2:
        return d.node("MatMul", [x, other((x.shape[-1], d.int(1, 5)))], bound=x.bound * 100)[0]
    if how == 8 and x.rank:
        return d.node(d.pick("ReduceSum", "ReduceMax", "ReduceMin", "ReduceMean"), [x], bound=x.bound * x.size, axes=[d.axis(x.rank)])[0]
    if how == 9 and x.rank:
        return d.node("Softmax", [x], bound=1, axis=x.rank - 1)[0]
    if how == 10:
        return d.node("Expand", [x, d.param(np.array([2, *x.shape], np.int64))], trust=x.trust, bound=x.bound)[0]
    return d.node("Where", [d.leaf(T.BOOL, x.shape), x, x], trust=x.trust, bound=x.bound)[0]


def float8(d):
    """Casts to and from the four float8 types, and quantisation by them."""
    if d.opset < 19:
        raise Reject
    kind = d.pick(*FLOAT8)
    x = d.value((T.FLOAT, T.FLOAT16), trust=SAME, where=lambda v: v.bound < 400)
    if d.chance(0.5):
        saturate = d.maybe(d.int(0, 1))
        y = d.node("Cast", [x], trust=SAME, bound=x.bound, to=kind, saturate=saturate)[0]
        d.node("Cast", [y], trust=SAME, bound=x.bound, to=d.pick(T.FLOAT, T.FLOAT16))
        return
    if x.dtype != T.FLOAT:
        raise Reject
    scale = d.param(np.float32(d.pick(0.25, 0.5, 2.0)), T.FLOAT)
    zero = d.leaf(kind, None, np.zeros((), np_type(kind)), constant=True)
    q = d.node("QuantizeLinear", [x, scale, zero], trust=SAME, bound=400, saturate=d.maybe(1))[0]
    d.node("DequantizeLinear", [q, scale, zero if d.chance(0.5) else None], trust=SAME, bound=400)


def four_bits(d):
    """Casts to and from four bits, and quantisation: whole, by channel and in blocks."""
    if d.opset < 21:
        raise Reject
    kind = d.pick(*FOUR_BITS)
    low, high = (-8, 8) if kind == T.INT4 else (0, 16)
    how = d.int(0, 3)
    if how == 0:
        x = d.leaf(d.pick(T.FLOAT, T.INT32, T.INT8 if kind == T.INT4 else T.UINT8), None, d.np.integers(low, high, d.shape(0, 3)))
        y = d.node("Cast", [x], trust=SAME, bound=16, to=kind)[0]
        d.node("Cast", [y], trust=GRID, bound=16, to=d.pick(T.FLOAT, T.INT32))
        return
    shape = d.shape(1, 3)
    if 0 in shape:
        raise Reject
    if how == 1:
        # Quantised and back, with one scale or one per slice.
        x = d.value((T.FLOAT,), low=1, trust=SAME, shape=shape)
        axis = d.axis(len(shape))
        many = d.chance(0.5)
        size = (shape[axis],) if many else ()
        scale = d.leaf(T.FLOAT, None, d.np.choice([0.25, 0.5, 1.0], size).astype(np.float32))
        zero = d.leaf(kind, None, d.np.integers(0, 4, size).astype(np_type(kind)), constant=True)
        q = d.node("QuantizeLinear", [x, scale, zero], trust=SAME, bound=16, axis=axis)[0]
        d.node("DequantizeLinear", [q, scale, zero], trust=SAME, bound=64, axis=axis)
        return
    weights = d.leaf(kind, None, d.np.integers(low, high, shape).astype(np_type(kind)), constant=True)
    axis = d.int(0, len(shape) - 1)
    if how == 2:
        scale = d.leaf(T.FLOAT, None, d.np.choice([0.25, 0.5, 1.0], (shape[axis],)).astype(np.float32), constant=True)
        d.node("DequantizeLinear", [weights, scale], trust=SAME, bound=64, axis=axis)
        return
    block = d.pick(2, 3, 4)
    blocks = tuple(-(-n // block) if i == axis else n for i, n in enumerate(shape))
    scale = d.leaf(T.FLOAT, None, d.np.choice([0.25, 0.5, 1.0], blocks).astype(np.float32), constant=d.chance(0.7))
    zero = d.leaf(kind, None, d.np.integers(0, 4, blocks).astype(np_type(kind)), constant=True) if d.chance(0.6) else None
    d.node("DequantizeLinear", [weights, scale, zero], trust=SAME, bound=64, axis=axis, block_size=block)


FAMILIES = {bfloat: 4, float8: 3, four_bits: 4}
