"""Differences from onnxruntime that are explained: whose fault, and by which words of the specification.

Each entry holds for a shrunk graph, and asks as closely as it can for the one thing that it explains.
"""

import re
from fractions import Fraction

import numpy as np
from onnx import shape_inference
from peer import OnnxRuntime


def only(graph, op):
    """The last node, when it is of this kind and the rest of the graph is not to blame."""
    node = graph.nodes[-1]
    return node if node.op_type == op else None


def any_of(graph, op):
    return [n for n in graph.nodes if n.op_type == op]


def attr(node, name, default=None):
    for a in node.attribute:
        if a.name == name:
            return {1: a.f, 2: a.i, 3: a.s.decode(), 6: list(a.floats), 7: list(a.ints)}.get(a.type, default)
    return default


def attr_strings(node, name):
    return [s.decode() for a in node.attribute if a.name == name for s in a.strings]


def array(graph, node, i):
    return graph.arrays.get(node.input[i]) if len(node.input) > i and node.input[i] else None


def is_empty(graph, name):
    """Whether the shapes alone say that a value inside the graph has no elements."""
    model = shape_inference.infer_shapes(graph.model(), data_prop=True)
    dims = [i.type.tensor_type.shape.dim for i in model.graph.value_info if i.name == name]
    return any(d.HasField("dim_value") and d.dim_value == 0 for shape in dims for d in shape)


def all_ways(bad):
    return len(bad) == 4 and len({v[1] for v in bad.values()}) == 1


def slice_backwards_to_int_max(graph, bad):
    for node in any_of(graph, "Slice"):
        ends, steps = array(graph, node, 2), array(graph, node, 4)
        if ends is not None and steps is not None and any(e >= 2**31 - 1 and s < 0 for e, s in zip(ends.tolist(), steps.tolist())):
            return True
    return False


def transposed_same_without_overlap(graph, bad):
    for node in any_of(graph, "ConvTranspose"):
        if str(attr(node, "auto_pad", "")).startswith("SAME"):
            weights = array(graph, node, 1)
            kernel = attr(node, "kernel_shape") or (list(weights.shape[2:]) if weights is not None else [])
            strides = attr(node, "strides", [1] * len(kernel))
            dilations = attr(node, "dilations", [1] * len(kernel))
            if any((k - 1) * d + 1 < s for k, d, s in zip(kernel, dilations, strides)):
                return True
    return False


def nonzero_of_scalar(graph, bad):
    node = only(graph, "NonZero")
    return node is not None and all_ways(bad) and "i64 [0, " in bad["fixed"][1]


def variance_of_nothing(graph, bad):
    return bool(any_of(graph, "MeanVarianceNormalization")) and all("want NaN" in v[1] for v in bad.values())


def quantise_nothing(graph, bad):
    node = only(graph, "DynamicQuantizeLinear")
    x = array(graph, node, 0) if node is not None else None
    if node is None or x is not None:
        return node is not None and not np.any(x)
    # What is made inside of the graph shows by the scales that both give to nothing.
    scales = all("is 0.003921568859368563, want 1" in v[1] for v in bad.values())
    return is_empty(graph, node.input[0]) or (all_ways(bad) and scales)


def regions_of_volumes(graph, bad):
    return bool(any_of(graph, "RoiAlign")) and all("the input should be [N, C, H, W], found" in v[1] for v in bad.values())


def axis_named_twice(graph, bad):
    nodes = [n for n in graph.nodes if n.op_type.startswith("Reduce")]
    return bool(nodes) and all(v[0] == "error" and "twice" in v[1] for v in bad.values())


def updates_that_nobody_reads(graph, bad):
    return bool(any_of(graph, "ScatterND")) and all(v[0] == "error" and "places for updates of shape" in v[1] for v in bad.values())


def one_point_between_corners(graph, bad):
    node = only(graph, "AffineGrid")
    if node is None or attr(node, "align_corners", 0) != 1:
        return False
    size = array(graph, node, 1)
    return size is not None and 1 in size.tolist()[2:]


def fractional_length(graph, bad):
    for node in any_of(graph, "Resize"):
        scales = array(graph, node, 2)
        if attr(node, "coordinate_transformation_mode") in ("align_corners", "pytorch_half_pixel", "half_pixel_symmetric") and scales is not None and scales.size:
            return True
    return False


def clipped_recurrence(graph, bad):
    node = graph.nodes[-1]
    return node.op_type == "LSTM" and bool(attr(node, "clip")) and {v[0] for v in bad.values()} == {"differs"}


def window_of_padding(graph, bad):
    return bool(any_of(graph, "MaxPool")) and all("-inf, want -340282346638528" in v[1] or "-inf, want -17976931348623157" in v[1] for v in bad.values())


def mean_of_nothing(graph, bad):
    node = only(graph, "ReduceMean")
    x = array(graph, node, 0) if node is not None else None
    return x is not None and x.size == 0


def not_a_number_in_max(graph, bad):
    nodes = [n for op in ("MaxPool", "GlobalMaxPool", "ReduceMax", "ReduceMin") for n in any_of(graph, op)]
    return any(np.isnan(x).any() for n in nodes for x in [array(graph, n, 0)] if x is not None and x.dtype.kind == "f")


def resize_not_finite(graph, bad):
    """An infinity or NaN that is read lies beside the point, and one side alone says NaN."""
    for node in any_of(graph, "Resize") + any_of(graph, "Upsample"):
        x = array(graph, node, 0)
        if attr(node, "mode") != "nearest" and (x is None or not np.isfinite(x.astype(np.float64)).all()):
            return all("NaN" in v[1] or "inf" in v[1] for v in bad.values())
    return False


def resize_symmetric(graph, bad):
    """Of bytes alone, and by scales or sizes that do not divide."""
    for node in any_of(graph, "Resize"):
        if attr(node, "coordinate_transformation_mode") == "half_pixel_symmetric":
            return all(re.search(r" of [ui]8 ", v[1]) for v in bad.values())
    return False


def resize_symmetric_between_pixels(graph, bad):
    """Sizes alone, and a point that lies exactly where one nearest pixel gives way to the next."""
    for node in any_of(graph, "Resize"):
        sizes, x = array(graph, node, 3), array(graph, node, 0)
        if attr(node, "coordinate_transformation_mode") != "half_pixel_symmetric" or attr(node, "mode", "nearest") != "nearest" or sizes is None or x is None:
            continue
        half = Fraction(1, 2)
        edge = half if attr(node, "nearest_mode", "round_prefer_floor").startswith("round") else 0
        for axis, out in zip(attr(node, "axes") or range(x.ndim), sizes.tolist()):
            if any(((y + half) * Fraction(x.shape[axis], out) - half - edge).denominator == 1 for y in range(out) if out != x.shape[axis]):
                return all_ways(bad)
    return False


def resize_antialiased_by_scales(graph, bad):
    """By a scale that is not the quotient of the two lengths."""
    for node in any_of(graph, "Resize"):
        scales, x = array(graph, node, 2), array(graph, node, 0)
        if attr(node, "antialias") == 1 and scales is not None and scales.size:
            axes = attr(node, "axes") or range(len(scales))
            return x is None or any(x.shape[a] and abs(int(x.shape[a] * s) / x.shape[a] - s) > 1e-6 for a, s in zip(axes, scales.tolist()))
    return False


def scatter_not_a_number(graph, bad):
    nodes = any_of(graph, "ScatterND") + any_of(graph, "ScatterElements")
    return any(attr(n, "reduction") in ("min", "max") for n in nodes) and all("is NaN" in v[1] for v in bad.values())


def resize_to_the_same_shape(graph, bad):
    for node in any_of(graph, "Resize") + any_of(graph, "Upsample"):
        scales, x = array(graph, node, min(2, max(1, len(node.input) - 1))), array(graph, node, 0)
        scales = np.array(attr(node, "scales", []), np.float32) if scales is None else scales
        if scales.dtype == np.float32 and any(1 < s < 2 for s in scales.reshape(-1).tolist()):
            if x is None or all(int(n * s) == n for n, s in zip(x.shape, scales.tolist())):
                return True
    return False


def cubic_grid(graph, bad):
    nodes = any_of(graph, "GridSample")
    return {v[0] for v in bad.values()} == {"differs"} and any(attr(n, "mode") in ("bicubic", "cubic") and attr(n, "padding_mode") in ("border", "reflection") for n in nodes)


def pool_same_without_overlap(graph, bad):
    for node in any_of(graph, "LpPool") + any_of(graph, "MaxPool") + any_of(graph, "AveragePool"):
        kernel = attr(node, "kernel_shape", [])
        strides = attr(node, "strides", [1] * len(kernel))
        if str(attr(node, "auto_pad", "")).startswith("SAME") and any(k < s for k, s in zip(kernel, strides)):
            return True
    return False


def weight_of_nothing(graph, bad):
    """One input holds a NaN or an infinity, and one side alone says NaN."""
    for node in any_of(graph, "RoiAlign") + any_of(graph, "GridSample"):
        x = array(graph, node, 0)
        if x is not None and x.dtype.kind == "f" and not np.isfinite(x).all():
            # The greatest of numbers and NaN depends on the order in which they are compared.
            greatest = node.op_type == "RoiAlign" and attr(node, "mode") == "max" and np.isnan(x).any()
            # What the two precisions of oxrt make of the numbers that are left may differ in the last place.
            return len(bad) == 4 and (greatest or all("NaN" in v[1] for v in bad.values()))
    return False


def infinite_without_bounds(graph, bad):
    node = only(graph, "Clip")
    x = array(graph, node, 0) if node is not None else None
    if x is None or x.dtype.kind != "f" or not np.isinf(x).any() or len([i for i in node.input if i]) > 2:
        return False
    largest = {2: "65504", 4: "3402823466", 8: "1797693134"}[x.dtype.itemsize]
    return all_ways(bad) and "inf, want" in bad["fixed"][1] and largest in bad["fixed"][1]


def sum_that_keeps_infinities(graph, bad):
    """The elements that onnxruntime calls NaN lie in channels behind one that is not finite."""
    node = only(graph, "LRN")
    x = array(graph, node, 0) if node is not None else None
    return x is not None and not np.isfinite(x.astype(np.float64)).all() and all_ways(bad) and bad["fixed"][1].endswith("want NaN")


def squares_beyond_single(graph, bad):
    """Finite numbers whose squares sum up to more than float32 holds."""
    node = only(graph, "LayerNormalization")
    x = array(graph, node, 0) if node is not None else None
    if x is None or x.dtype != np.float32 or not np.isfinite(x).all():
        return False
    return all_ways(bad) and np.square(x.astype(np.float64)).sum() > np.finfo(np.float32).max


def greatest_of_minus_infinity(graph, bad):
    node = only(graph, "GlobalMaxPool")
    x = array(graph, node, 0) if node is not None else None
    lowest = ("-inf, want -340282346638528", "-inf, want -17976931348623157", "-inf, want -65504")
    return x is not None and np.isneginf(x.astype(np.float64)).any() and all_ways(bad) and any(text in bad["fixed"][1] for text in lowest)


def shrink_of_large_integers(graph, bad):
    """Integers that a float rounds to 2^64."""
    node = only(graph, "Shrink")
    x = array(graph, node, 0) if node is not None else None
    return x is not None and x.dtype == np.uint64 and all_ways(bad) and (x >= np.uint64(2**64 - 2**40)).any() and bad["fixed"][1].endswith("want 0")


def logarithm_of_what_cancels(graph, bad):
    """The sum of a row is less than its last places."""
    node = only(graph, "ReduceLogSum")
    found = [re.search(r" of f(?:32|64) .*is (\S+), want (\S+)$", v[1]) for v in bad.values()] if node is not None and len(bad) == 4 else [None]
    # Nothing at all, or less than nothing, are -inf and NaN.
    return all(m and all(not float(x) >= -14 for x in m.groups()) for m in found)


def exponentials_that_overflow(graph, bad):
    """A half whose exponential halves do not hold."""
    node = only(graph, "ReduceLogSumExp")
    x = array(graph, node, 0) if node is not None else None
    if x is None or x.dtype != np.float16 or not np.isfinite(x).all() or not (x > 11).any():
        return False
    return all_ways(bad) and bad["fixed"][1].endswith("want inf")


def products_beyond_single(graph, bad):
    """Finite numbers whose products are more than float32 holds, in whatever order they are summed."""
    node = only(graph, "Conv")
    x, w = (array(graph, node, 0), array(graph, node, 1)) if node is not None else (None, None)
    if x is None or w is None or x.dtype != np.float32 or not (np.isfinite(x).all() and np.isfinite(w).all()):
        return False
    most = np.abs(x.astype(np.float64)).max(initial=0) * np.abs(w.astype(np.float64)).max(initial=0) * w[0].size
    return most > np.finfo(np.float32).max and all("inf" in v[1] or "NaN" in v[1] for v in bad.values())


def mean_of_halves_that_cancel(graph, bad):
    """A mean near zero that one last place of one of its halves explains."""
    node = only(graph, "ReduceMean")
    off = re.search(r" of f16 .* off by up to (\S+) where the largest is (\S+);", bad["fixed"][1]) if node is not None and all_ways(bad) else None
    return off is not None and graph.dtypes.get(node.input[0]) == 10 and float(off[1]) <= 2**-13 and float(off[2]) <= 2**-11


def instances_of_equal_elements(graph, bad):
    """Every line is one number repeated: (x - mean) · scale is nothing, or what rounding leaves of x · scale - mean · scale."""
    node = only(graph, "InstanceNormalization")
    x, scale = (array(graph, node, 0), array(graph, node, 1)) if node is not None else (None, None)
    if x is None or scale is None or x.ndim < 3 or not x.size or {v[0] for v in bad.values()} != {"differs"}:
        return False
    lines = x.astype(np.float64).reshape(x.shape[0], x.shape[1], -1)
    rest = np.abs(x.astype(np.float64)).max() * np.abs(scale.astype(np.float64)).max() / np.sqrt(attr(node, "epsilon", 1e-5)) * 2**-21
    off = re.search(r" off by up to (\S+) where", bad["fixed"][1])
    return bool((lines.max(-1) == lines.min(-1)).any()) and off is not None and float(off[1]) <= rest


def gates_that_amplify(graph, bad):
    """Gates that are no shares between 0 and 1, and a difference that single precision makes by itself."""
    node = only(graph, "GRU")
    names = attr_strings(node, "activations")[::2] if node is not None else []
    off = re.search(r" of f32 .* off by up to (\S+) where the largest is (\S+);", bad["fixed"][1]) if all_ways(bad) else None
    return any(n.lower() not in ("sigmoid", "hardsigmoid") for n in names) and off is not None and float(off[1]) <= 1e-3 * float(off[2])


def place_in_padding(graph, bad):
    """The place of the greatest element of a window without elements."""
    node = only(graph, "MaxPool")
    return node is not None and len(node.output) > 1 and graph.outputs == [node.output[1]] and bool(attr(node, "pads")) and all("want -" in v[1] for v in bad.values())


def gemm_of_a_vector(graph, bad):
    """Squeeze took an axis too many for the matrix that Gemm asks for."""
    node = graph.nodes[-1]
    a = array(graph, node, 0)
    return node.op_type == "Gemm" and (a is None or a.ndim == 1) and all("should be a matrix" in v[1] for v in bad.values())


def logarithm_near_one_in_half(graph, bad):
    node = only(graph, "ReduceLogSum") or only(graph, "ReduceLogSumExp")
    off = [re.search(r" of f16 .* off by up to (\S+)", v[1]) for v in bad.values()] if node is not None and len(bad) == 4 else [None]
    # A few last places of a sum near 1, no more.
    return all(m and float(m[1]) <= 2**-7 for m in off)


def mean_of_rounded_halves(graph, bad):
    """The mean of a row of halves that cancel: one of them is off by its last place, which the mean shows in full."""
    node = only(graph, "LayerNormalization")
    off = re.search(r" of f32 .* off by up to (\S+) where the largest is (\S+);", next(iter(bad.values()))[1]) if node is not None else None
    halves = node is not None and graph.dtypes.get(node.input[0]) == 10
    return bool(off) and halves and graph.outputs == [node.output[1]] and float(off[1]) <= 2**-10 * max(1.0, float(off[2]))


def window_longer_than_data(graph, bad):
    for node in any_of(graph, "LpPool") + any_of(graph, "MaxPool"):
        x, kernel, pads = array(graph, node, 0), attr(node, "kernel_shape"), attr(node, "pads")
        dilations = attr(node, "dilations", [1] * len(kernel))
        if x is not None and not pads and any((k - 1) * d + 1 > n for k, d, n in zip(kernel, dilations, x.shape[2:])):
            return all_ways(bad) and ", want f" in bad["fixed"][1]
    return False


def softmax_of_nothing(graph, bad):
    node = only(graph, "Softmax") or only(graph, "LogSoftmax") or only(graph, "Hardmax")
    x = array(graph, node, 0) if node is not None else None
    return x is not None and x.size == 0 and graph.opset < 13 and x.ndim == attr(node, "axis", 1) and all("is outside a tensor" in v[1] for v in bad.values())


def gather_of_strings(graph, bad):
    """Slices of more than one string."""
    for node in any_of(graph, "Gather"):
        x = array(graph, node, 0)
        if x is not None and x.dtype == object and np.prod(x.shape[attr(node, "axis", 0) % x.ndim + 1:]) > 1:
            return all_ways(bad) and "strings differ" in bad["fixed"][1]
    return False


def split_of_nothing(graph, bad):
    """An empty string among those that a delimiter splits."""
    for node in any_of(graph, "StringSplit"):
        x = array(graph, node, 0)
        if attr(node, "delimiter", "") and x is not None and "" in x.reshape(-1).tolist():
            return all_ways(bad) and {v[0] for v in bad.values()} == {"differs"}
    return False


def joined_with_nothing(graph, bad):
    """A part without elements whose other sizes do not fit."""
    parts = [array(graph, n, i) for n in any_of(graph, "SequenceConstruct") for i in range(len(n.input))]
    return bool(any_of(graph, "ConcatFromSequence")) and any(x is not None and x.size == 0 for x in parts) and all("does not join" in v[1] for v in bad.values())


# Operators whose results move little where their inputs do.
CONTINUOUS = set("""LpNormalization LayerNormalization InstanceNormalization GroupNormalization MeanVarianceNormalization BatchNormalization
    RMSNormalization LRN ReduceSum ReduceMean ReduceL1 ReduceL2 ReduceSumSquare ReduceLogSum ReduceLogSumExp ReduceProd GlobalAveragePool GlobalLpPool
    AveragePool LpPool CumSum Sum Mean MatMul Gemm Conv ConvTranspose Einsum Add Sub Mul Div Neg Abs Pow Softmax LogSoftmax Exp Log Sqrt Sin Cos Tan Sinh
    Cosh Tanh Asin Acos Atan Asinh Acosh Atanh Sigmoid Erf Reciprocal Softplus Softsign Gelu Mish Swish Elu Selu Celu HardSwish HardSigmoid LSTM GRU RNN
    DFT STFT Det Attention RotaryEmbedding Identity Transpose Reshape Squeeze Unsqueeze Flatten Concat Split Slice Expand Tile SoftmaxCrossEntropyLoss
    NegativeLogLikelihoodLoss""".split())


def as_much_by_one_last_place(graph, bad):
    """The numbers in differ by one last place at most, and onnxruntime's own answer moves as far as the two are apart."""
    off = [re.search(r"^output (\d+): .* off by up to (\S+) where", v[1]) for v in bad.values()]
    if not all(off) or any(n.op_type not in CONTINUOUS for n in graph.nodes):
        return False
    moved, runtime = np.random.default_rng(0), OnnxRuntime()

    def answer(shake):
        changed = type(graph)(graph.opset, graph.nodes, graph.arrays, graph.constants, graph.outputs, graph.dtypes)
        for name, x in graph.arrays.items():
            if shake and x.dtype.kind == "f" and x.size:
                step = moved.choice((-1.0, 0.0, 1.0), x.shape).astype(x.dtype)
                changed.arrays[name] = np.asarray(np.where(np.isfinite(x), x + step * np.spacing(np.abs(x)), x), x.dtype)
        return runtime.run(changed.model().SerializeToString(), {n: changed.arrays[n] for n in changed.inputs()})

    plain = answer(False)
    others = [answer(True) for _ in range(8)]
    if plain is None or any(o is None for o in others):
        return False
    for m in off:
        i = int(m[1])
        with np.errstate(all="ignore"):
            most = max(float(np.nanmax(np.abs(o[i].astype(np.float64) - plain[i].astype(np.float64)), initial=0)) for o in others)
        if float(m[2]) > 4 * most:
            return False
    return True


def rounded_once_in_bfloat(graph, bad):
    """Values pass through bfloat16 on their way, and the two are apart by half a last place of the largest at most."""
    to = [attr(n, "to") for n in any_of(graph, "Cast")]
    if 16 not in to or any(t not in (1, 10, 11, 16) for t in to) or any(n.op_type not in CONTINUOUS and n.op_type != "Cast" for n in graph.nodes):
        return False
    off = [re.search(r" off by up to (\S+) where the largest is ([^\s;]+)", v[1]) for v in bad.values()]
    return all(m and float(m[1]) <= 2**-9 * float(m[2]) for m in off)


KNOWN = [
    ("Slice backwards to INT_MAX: oxrt is right. \"For negative stepping it clamps to [-1, dims[axis]-1]\": such a slice is empty; "
     "onnxruntime takes INT_MAX for the far end in either direction.", slice_backwards_to_int_max),
    ("ConvTranspose with SAME padding and gaps: oxrt is right. \"output_shape[i] = input_shape[i] * strides[i]\", also where the kernel is "
     "smaller than the stride; onnxruntime never pads by less than 0.", transposed_same_without_overlap),
    ("NonZero of a scalar: oxrt is right. \"for scalar input, NonZero produces output shape (0, N) instead of (1, N)\".", nonzero_of_scalar),
    ("MeanVarianceNormalization of a constant: oxrt is right. The function body adds 1e-9 to the deviation, so the result is 0; onnxruntime "
     "divides 0 by 0.", variance_of_nothing),
    ("DynamicQuantizeLinear of nothing, or of nothing but zeros: unspecified, the scale would be 0 and the zero point 0/0.", quantise_nothing),
    ("Reductions over an axis that is named twice: the reference implementation of ONNX refuses, as oxrt does.", axis_named_twice),
    ("ScatterND of updates that do not fit: oxrt refuses; where only the result's shape is asked for, onnxruntime and oxrt's engine leave the node out.",
     updates_that_nobody_reads),
    ("RoiAlign of other than four axes: the specification asks for [N, C, H, W]; oxrt declines.", regions_of_volumes),
    ("LRN of infinities and NaN: oxrt is right. \"square_sum[n, c, …] = sum(X[n, i, …]²), where max(0, c - floor((size - 1)/2)) <= i\" has the nearest "
     "channels alone; onnxruntime moves one sum along the channels, from which an infinity cannot be taken away again.", sum_that_keeps_infinities),
    ("clip of LSTM: oxrt clips \"the input of activations\", every one of them; onnxruntime leaves that of the cell state out. (Of GRU and RNN both clip all.)", clipped_recurrence),
    ("MaxPool of a window that holds padding alone: unspecified, the maximum of no element.", window_of_padding),
    ("MaxPool, ReduceMax and ReduceMin of NaN: unspecified; oxrt hands it on, onnxruntime takes the other elements.", not_a_number_in_max),
    ("ScatterND and ScatterElements, min and max of NaN: unspecified; oxrt hands it on.", scatter_not_a_number),
    ("Resize with half_pixel_symmetric: oxrt does as the reference implementation of ONNX, onnxruntime does not for 8-bit types.", resize_symmetric),
    ("Resize of the nearest with half_pixel_symmetric by sizes: oxrt does as the reference implementation of ONNX, whose adjustment is then 1; "
     "onnxruntime's is 1 but for a rounding of single precision, which moves points that lie on an edge.", resize_symmetric_between_pixels),
    ("Resize with antialias by scales: oxrt does as the reference implementation of ONNX and uses the scale given; onnxruntime uses the quotient of "
     "the lengths.", resize_antialiased_by_scales),
    ("Resize of infinities and NaN: unspecified whether a weight of 0 takes them away.", resize_not_finite),
    ("Resize to the shape that it has: oxrt is right, as is the reference implementation of ONNX. x_original follows the scale (1.25 of 3 elements "
     "is 3 elements, but not the same); onnxruntime copies.", resize_to_the_same_shape),
    ("GridSample, cubic, with border or reflected coordinates: oxrt does as the reference implementation of ONNX, which moves the point itself "
     "inside first; onnxruntime moves its sixteen neighbours only.", cubic_grid),
    ("RoiAlign and GridSample of infinities and NaN: unspecified whether a weight of 0 takes them away.", weight_of_nothing),
    ("Clip of infinities without min or max: the standard says two things. Its text lets the bounds default to the least and greatest finite number, as "
     "onnxruntime does; its function body (Identity, or one Less and Where) and its reference implementation leave infinities alone, as oxrt and PyTorch do.", infinite_without_bounds),
    ("GlobalMaxPool of minus infinity: oxrt is right, the greatest of nothing but that is that; onnxruntime starts from the least finite number.",
     greatest_of_minus_infinity),
    ("Shrink of unsigned integers near 2^64: oxrt is right. \"If x > lambd, y = x - bias\", which is x without a bias; onnxruntime goes by a float, which "
     "is 2^64 then.", shrink_of_large_integers),
    ("ReduceLogSum of numbers that cancel: oxrt sums in more than single precision; the logarithm shows what rounding leaves of nothing.", logarithm_of_what_cancels),
    ("ReduceLogSumExp of large float16: oxrt is right, as onnxruntime is of float; of halves its exponentials overflow.",
     exponentials_that_overflow),
    ("Conv of numbers whose products overflow: unspecified, infinite or not depends on the order of summing.", products_beyond_single),
    ("ReduceMean of float16 that cancel: both round what stands before it to half precision, a last place apart.", mean_of_halves_that_cancel),
    ("InstanceNormalization of equal elements: oxrt is nearer to y = scale · (x - mean) / √(variance + ε) + B, which is B; onnxruntime multiplies out, and "
     "rounding leaves what it leaves of x · scale - mean · scale.", instances_of_equal_elements),
    ("GRU whose gates are Tanh or the like: the state grows by up to (1 - z) = 2 a step, and rounding with it; oxrt's reference is in double precision.",
     gates_that_amplify),
    ("MaxPool, place of the greatest in a window that holds padding alone: unspecified.", place_in_padding),
    ("LayerNormalization of numbers whose squares overflow: oxrt sums them in more than single precision; in onnxruntime the variance is infinite, and "
     "the bias alone is left.", squares_beyond_single),
    ("Gemm of a vector: oxrt is right. \"Input tensor A. The shape of A should be (M, K)\"; onnxruntime takes a vector too.", gemm_of_a_vector),
    ("ReduceLogSum of float16: both round the sum to half precision somewhere, and the logarithm near 1 makes the last place of the sum large.",
     logarithm_near_one_in_half),
    ("Mean of LayerNormalization of float16: both round what stands before it to half precision, a last place apart.", mean_of_rounded_halves),
    ("LpPool and MaxPool of less data than the kernel: oxrt is right. floor((2 - 3)/3) + 1 is 0; onnxruntime truncates to 1.", window_longer_than_data),
    ("Softmax and Hardmax of nothing over an axis that is not there: oxrt refuses the axis always, onnxruntime only where there are elements.",
     softmax_of_nothing),
    ("Pooling with SAME padding and a kernel smaller than the stride: unspecified, the padding would be negative.", pool_same_without_overlap),
    ("ReduceMean of nothing: unspecified, \"Reduction over an empty set of values yields undefined\".", mean_of_nothing),
    ("AffineGrid of size 1 with align_corners: unspecified, the step 2/(size - 1) divides by 0.", one_point_between_corners),
    ("StringSplit of an empty string by a delimiter: oxrt does as the reference implementation of ONNX, one part that is empty; onnxruntime says none.",
     split_of_nothing),
    ("ConcatFromSequence of parts of different sizes: oxrt is right to refuse, \"all tensors must have the same shape, except for the dimension size of "
     "the axis\"; onnxruntime leaves out what has no elements.", joined_with_nothing),
    ("Gather of slices of strings: oxrt is right. onnxruntime copies the first string of each slice alone.", gather_of_strings),
    ("Rounding: a product and what is added to it are rounded to bfloat16 once by an engine that fuses them, twice otherwise; what cancels shows it.",
     rounded_once_in_bfloat),
    ("Rounding: inputs that differ by a last place move onnxruntime's own answer as far (LpNormalization, logarithms and sums of what cancels, in float16 "
     "above all).", as_much_by_one_last_place),
    ("Resize by scales that give a fractional length: oxrt follows the official case test_resize_downsample_scales_linear_align_corners, where "
     "length_resized is scale * length_original before rounding; onnxruntime, which fails that case, takes the rounded one.", fractional_length),
]


def explained(graph, bad):
    """The reason, when the shrunk graph shows nothing but a known difference."""
    for why, holds in KNOWN:
        if holds(graph, bad):
            return why
    return None
