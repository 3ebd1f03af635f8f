"""Operators of the default domain that have no official case, and forms of others that have none."""
import numpy as np
from core import make_model, normal, one_node, rng
from onnx import helper


def make(s):
    sequences(s)
    pools(s)
    shapes_of_random(s)


def sequences(s):
    parts = [normal([2, 3], i) for i in range(3)]
    infos = [helper.make_tensor_value_info(f"x{i}", 1, [2, 3]) for i in range(3)]
    fed = {f"x{i}": p for i, p in enumerate(parts)}
    build = helper.make_node("SequenceConstruct", ["x0", "x1", "x2"], ["s"])
    for axis in (0, 1, -1):
        for new in (0, 1):
            node = helper.make_node("ConcatFromSequence", ["s"], ["y"], axis=axis, new_axis=new)
            s.model(f"ConcatFromSequence_{axis}_{new}", make_model([build, node], infos, ["y"], 17), fed)
    for at in (None, 0, 1, -1, -3):
        inputs = ["s"] + ([] if at is None else ["i"])
        inits = [] if at is None else [helper.make_tensor("i", 7, [], [at])]
        node = helper.make_node("SequenceErase", inputs, ["e"])
        s.model(f"SequenceErase_{at}", make_model([build, node], infos, ["e"], 17, inits), fed)
        if at is not None:
            pick = helper.make_node("SequenceAt", ["s", "i"], ["y"])
            s.model(f"SequenceAt_{at}", make_model([build, pick], infos, ["y"], 17, inits), fed)
            add = helper.make_node("SequenceInsert", ["s", "x0", "i"], ["e"])
            s.model(f"SequenceInsert_{at}", make_model([build, add], infos, ["e"], 17, inits), fed)
    for keep in (0, 1):
        node = helper.make_node("SplitToSequence", ["x0"], ["s"], axis=1, keepdims=keep)
        s.model(f"SplitToSequence_{keep}", make_model([node], infos[:1], ["s"], 17), {"x0": parts[0]})


def pools(s):
    x = normal([2, 3, 5, 6])
    for p in (1, 2, 3):
        s.node(f"GlobalLpPool_{p}", "GlobalLpPool", [x], attrs={"p": p}, dynamic=True)
    s.node("GlobalLpPool_1d", "GlobalLpPool", [normal([2, 3, 7])])
    s.node("GlobalLpPool_3d", "GlobalLpPool", [normal([1, 2, 3, 4, 2])], attrs={"p": 1})
    rois = np.array([[0, 0, 0, 4, 3], [1, 1, 1, 5, 4], [0, 2, 2, 2, 2], [1, -2, -1, 9, 8]], np.float32)
    for scale in (1.0, 0.5):
        for shape in ([2, 2], [1, 3], [4, 4]):
            s.node(f"MaxRoiPool_{scale}_{shape[0]}{shape[1]}", "MaxRoiPool", [x, rois], attrs={"pooled_shape": shape, "spatial_scale": scale})


def shapes_of_random(s):
    """What is drawn is for tests in Rust; here the shapes and types that onnxruntime gives, by a reduction that forgets the values."""
    x = rng().uniform(0, 1, [2, 5]).astype(np.float32)
    cases = [
        ("RandomNormal", [], {"shape": [2, 3]}),
        ("RandomNormal_f64", [], {"shape": [2, 3], "dtype": 11}),
        ("RandomUniform", [], {"shape": [4], "low": -1.0}),
        ("RandomNormalLike", [x], {}),
        ("RandomNormalLike_f64", [x], {"dtype": 11}),
        ("RandomUniformLike", [x], {"dtype": 1}),
        ("Multinomial", [np.log(x)], {"sample_size": 7}),
        ("Multinomial_i64", [np.log(x)], {"sample_size": 3, "dtype": 7}),
        ("Bernoulli", [x], {}),
        ("Bernoulli_i32", [x], {"dtype": 6}),
    ]
    for name, inputs, attrs in cases:
        model, fed = one_node(name.split("_")[0], inputs, 1, "", 15, (), False, attrs)
        model.graph.node[0].output[0] = "drawn"
        model.graph.node.append(helper.make_node("Mul", ["drawn", "zero"], ["y0"]))
        dtype = attrs.get("dtype", 6 if name.startswith("Multinomial") else 1)
        model.graph.initializer.append(helper.make_tensor("zero", dtype, [], [0]))
        s.model(name, model, fed)
