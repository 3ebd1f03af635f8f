"""Elementwise operators, reductions and what else goes along an axis."""
import math

import numpy as np
from draw import FLOATS, GRID, INTS, NEAR, NUMBERS, PLAIN, SAME, SIGNED, T, UNSIGNED, Reject, np_type

SMOOTH = ("Acos Acosh Asin Asinh Atan Atanh Cos Cosh Erf Exp Log Reciprocal Sigmoid Sin Sinh Softplus Softsign Sqrt Tan "
          "Tanh HardSwish Mish Selu").split()


def smooth(d):
    op = d.pick(*SMOOTH)
    # Rounding in front of a pole or the end of a domain makes all the difference.
    edgy = op in ("Acos", "Acosh", "Asin", "Atanh", "Log", "Reciprocal", "Sqrt", "Tan")
    # So does f16 in front of a steep function.
    x = d.value(FLOATS, trust=SAME if edgy or d.chance(0.5) else NEAR)
    if x.dtype == T.FLOAT16 and x.trust == NEAR:
        raise Reject
    d.node(op, [x], bound=math.inf)


def with_alpha(d):
    x = d.value(FLOATS)
    number = lambda: d.maybe(d.int(-6, 6) / 4)
    op = d.pick("LeakyRelu", "Elu", "Celu", "HardSigmoid", "ThresholdedRelu", "Shrink", "Gelu", "Swish", "Selu")
    attrs = {"alpha": number()}
    if op == "Celu":
        attrs = {"alpha": d.maybe(d.int(1, 6) / 4)}
    elif op in ("HardSigmoid",):
        attrs["beta"] = number()
    elif op == "Selu":
        attrs["gamma"] = number()
    elif op == "Shrink":
        attrs = {"bias": d.maybe(float(d.int(-2, 2))), "lambd": d.maybe(d.int(0, 6) / 4)}
    elif op == "Gelu":
        attrs = {"approximate": d.pick(None, "none", "tanh")}
    if op in ("Shrink", "ThresholdedRelu"):
        x = d.value(NUMBERS if op == "Shrink" else FLOATS, trust=SAME)
        if x.dtype in INTS and x.bound > 60:
            raise Reject        # how integers wrap here is not said
    d.node(op, [x], bound=x.bound * 4, **attrs)


def stepped(d):
    op = d.pick("Floor", "Ceil", "Round", "Sign", "Abs", "Neg", "Relu", "IsNaN", "IsInf", "Not", "BitwiseNot", "Identity")
    x = d.value(PLAIN if op != "Round" else FLOATS, trust=SAME)
    attrs = {}
    if op == "IsInf":
        attrs = {"detect_negative": d.pick(None, 0, 1), "detect_positive": d.pick(None, 0, 1)}
    d.node(op, [x], trust=x.trust, bound=x.bound, **attrs)


def arithmetic(d):
    x = d.value(NUMBERS)
    y = d.value((x.dtype,), shape=d.partner(x.shape)) if d.chance(0.7) else d.like(x, x.shape)
    op = d.pick("Add", "Sub", "Mul", "Div", "Max", "Min", "Add", "Mul", "PRelu", "Pow")
    trust = min(x.trust, y.trust)
    bound = {"Mul": x.bound * y.bound}.get(op, x.bound + y.bound)
    if op == "Pow":
        # Integers to a negative power, and sums of squares beyond the type, are nobody's business.
        base = d.leaf(x.dtype, None, (d.np.integers(0, 5, x.shape)).astype(np_type(x.dtype)), constant=False)
        power = d.pick(x.dtype, T.FLOAT, T.INT64, T.INT32)
        y = d.leaf(power, None, d.np.integers(0, 4, d.partner(x.shape)).astype(np_type(power)), constant=d.chance(0.5))
        d.node(op, [base, y], bound=256)
        return
    if op == "Div":
        divisor = d.np.integers(1, 5, y.shape) * (d.np.integers(0, 2, y.shape) * 2 - 1 if x.dtype not in UNSIGNED else 1)
        y = d.leaf(x.dtype, None, divisor.astype(np_type(x.dtype)))
        if x.dtype in SIGNED and x.bound > 100:
            raise Reject        # the least integer through -1 stops some processors
        trust, bound = (trust if x.dtype in INTS else NEAR), x.bound
    if op == "PRelu":
        y = d.leaf(x.dtype, tuple(1 if d.chance(0.3) else s for s in x.shape)[d.int(0, x.rank):])
        if x.dtype in INTS:
            raise Reject
    if d.chance(0.5) and op not in ("Div", "Sub", "PRelu"):
        x, y = y, x
    trust = min(trust, SAME) if op in ("Max", "Min") and trust == SAME else trust if trust == GRID else NEAR
    if x.dtype in INTS:
        trust = min(x.trust, y.trust)
    if x.dtype == T.FLOAT16 and op not in ("Max", "Min"):
        trust = NEAR
    d.node(op, [x, y], trust=trust, bound=bound)


def variadic(d):
    op = d.pick("Max", "Min", "Sum", "Mean")
    x = d.value(NUMBERS)
    more = [d.value((x.dtype,), shape=d.partner(x.shape)) for _ in range(d.int(0, 3))]
    # One shape for all partners, or they may not fit each other.
    more = [m for m in more if all(a == b or 1 in (a, b) for n in more for a, b in zip(m.shape[::-1], n.shape[::-1]))]
    d.node(op, [x, *more], bound=sum(v.bound for v in (x, *more)))


def modulo(d):
    x = d.value(NUMBERS, trust=SAME)
    if x.bound > 1000:
        raise Reject
    values = d.np.integers(1, 6, d.partner(x.shape))
    if x.dtype not in UNSIGNED:
        values = values * (d.np.integers(0, 2, values.shape) * 2 - 1)
    y = d.leaf(x.dtype, None, values.astype(np_type(x.dtype)))
    if x.dtype in FLOATS and x.trust != GRID:
        raise Reject
    d.node("Mod", [x, y], trust=SAME, bound=6, fmod=1 if x.dtype in FLOATS else d.pick(None, 0, 1))


def compare(d):
    x = d.value(PLAIN, trust=SAME)
    y = d.leaf(x.dtype, d.partner(x.shape))
    if y.trust < SAME:
        raise Reject
    d.node(d.pick("Equal", "Greater", "Less", "GreaterOrEqual", "LessOrEqual"), [x, y], trust=SAME, bound=1)


def logic(d):
    x = d.value((T.BOOL,))
    d.node(d.pick("And", "Or", "Xor"), [x, d.value((T.BOOL,), shape=d.partner(x.shape))], trust=SAME, bound=1)


def bits(d):
    op = d.pick("BitwiseAnd", "BitwiseOr", "BitwiseXor", "BitShift")
    x = d.value(UNSIGNED if op == "BitShift" else INTS)
    if op == "BitShift":
        y = d.leaf(x.dtype, None, d.np.integers(0, 7, d.partner(x.shape)).astype(np_type(x.dtype)))
        d.node(op, [x, y], trust=SAME, bound=math.inf, direction=d.pick("LEFT", "RIGHT"))
        return
    y = d.value((x.dtype,), shape=d.partner(x.shape))
    d.node(op, [x, y], trust=min(x.trust, y.trust, SAME), bound=x.bound + y.bound)


def where(d):
    x = d.value((*PLAIN, T.STRING))
    y = d.value((x.dtype,), shape=d.partner(x.shape))
    c = d.value((T.BOOL,), shape=d.partner(x.shape))
    if any(a != b and 1 not in (a, b) for a, b in zip(c.shape[::-1], y.shape[::-1])):
        raise Reject
    d.node("Where", [c, x, y], trust=min(x.trust, y.trust), bound=max(x.bound, y.bound))


def clip(d):
    x = d.value(NUMBERS)
    low, high = sorted((d.int(-8, 8), d.int(-8, 8)))
    if x.dtype in UNSIGNED:
        low, high = max(low, 0), max(high, 0)
    if d.opset < 11:
        d.node("Clip", [x], trust=x.trust, bound=8, min=d.maybe(float(low)), max=d.maybe(float(high)))
        return
    limit = lambda v: d.param(np.array(v, np_type(x.dtype)), x.dtype) if d.chance(0.7) else None
    d.node("Clip", [x, limit(low), limit(high)], trust=x.trust, bound=x.bound + 8)


def cast(d):
    x = d.value((*PLAIN, T.STRING) if d.chance(0.1) else PLAIN, trust=SAME)
    to = d.pick(*PLAIN, T.FLOAT, T.FLOAT, T.INT64)
    if x.dtype == T.STRING:
        raise Reject
    if to in INTS and x.dtype in FLOATS:
        # Out of the range of the type is undefined.
        if x.bound > 100:
            raise Reject
        if to in UNSIGNED:
            x = d.node("Abs", [x], trust=x.trust, bound=x.bound)[0]
    if to == T.FLOAT16 and x.bound > 60000:
        raise Reject
    trust = x.trust if x.trust == GRID and x.bound < 200 else SAME
    if d.chance(0.3) and d.opset >= 15:
        d.node("CastLike", [x, d.leaf(to, d.shape(0, 1))], trust=trust, bound=x.bound)
    else:
        d.node("Cast", [x], trust=trust, bound=x.bound, to=to)


REDUCTIONS = "ReduceSum ReduceMean ReduceMax ReduceMin ReduceProd ReduceL1 ReduceL2 ReduceLogSum ReduceLogSumExp ReduceSumSquare".split()


def reduce(d):
    op = d.pick(*REDUCTIONS)
    x = d.value(NUMBERS, where=lambda v: v.size > 0 if op in ("ReduceMax", "ReduceMin") else True)
    if x.dtype in INTS and op in ("ReduceLogSum", "ReduceLogSumExp", "ReduceL2"):
        raise Reject        # how a fraction becomes a whole number is not said
    axes = d.axes(x.rank, 0) if x.rank and d.chance(0.85) else None
    schema_axes = axes if axes or d.opset >= 18 else None
    many = max(1, x.size)
    exact = op in ("ReduceMax", "ReduceMin") or (op in ("ReduceSum", "ReduceL1", "ReduceSumSquare") and x.trust == GRID)
    bound = {"ReduceProd": x.bound ** many if many < 50 and x.bound < 1e3 else math.inf, "ReduceSumSquare": x.bound * x.bound * many}.get(op, x.bound * many)
    trust = min(x.trust, SAME) if exact else NEAR
    if x.dtype == T.FLOAT16 and op not in ("ReduceMax", "ReduceMin"):
        trust = NEAR
    if op == "ReduceProd" and bound > 1e4 or x.dtype in INTS and bound > 1e5:
        raise Reject
    d.node(op, [x], trust=trust, bound=bound, axes=schema_axes, keepdims=d.pick(None, 0, 1),
           noop_with_empty_axes=d.pick(None, None, 0, 1))


def arg(d):
    x = d.value(NUMBERS, low=1, trust=SAME, where=lambda v: v.size > 0)
    d.node(d.pick("ArgMax", "ArgMin"), [x], trust=GRID, bound=x.size, axis=d.maybe(d.axis(x.rank)), keepdims=d.pick(None, 0, 1),
           select_last_index=d.pick(None, 0, 1))


def axis_param(d, rank):
    dtype = d.pick(T.INT32, T.INT64)
    return d.param(np.array(d.axis(rank), np_type(dtype)), dtype)


def cumulative(d):
    x = d.value((*FLOATS, T.INT32, T.INT64), low=1)
    if x.bound * max(1, x.size) > 1e5:
        raise Reject
    axis = axis_param(d, x.rank)
    d.node("CumSum", [x, axis], trust=x.trust if x.trust == GRID and x.dtype != T.FLOAT16 else NEAR, bound=x.bound * max(1, x.size),
           exclusive=d.pick(None, 0, 1), reverse=d.pick(None, 0, 1))


def softmax(d):
    x = d.value(FLOATS, low=1)
    if x.bound > 1000:
        raise Reject
    op = d.pick("Softmax", "LogSoftmax", "Softmax", "Hardmax", "LpNormalization")
    if op == "Hardmax" and x.trust < SAME:
        raise Reject
    if op == "LpNormalization" and x.trust < SAME:
        raise Reject        # what rounding leaves of nothing is as long as anything
    attrs = {"p": d.pick(None, 1, 2)} if op == "LpNormalization" else {}
    d.node(op, [x], bound=100, axis=d.maybe(d.axis(x.rank, d.opset >= 11), 0.7), **attrs)


def top_k(d):
    x = d.value(NUMBERS, low=1, trust=SAME, where=lambda v: v.size > 0)
    axis = d.axis(x.rank, d.opset >= 11)
    k = d.int(0 if d.chance(0.05) else 1, x.shape[axis])
    d.node("TopK", [x], outputs=2, trust=SAME, bound=max(x.bound, x.size), k=k if d.opset < 10 else [k], axis=axis,
           largest=d.pick(None, 0, 1), sorted=d.pick(None, 1))


FAMILIES = {smooth: 5, with_alpha: 4, stepped: 5, arithmetic: 12, variadic: 2, modulo: 2, compare: 3, logic: 2, bits: 3, where: 3,
            clip: 3, cast: 5, reduce: 7, arg: 3, cumulative: 2, softmax: 4, top_k: 3}
