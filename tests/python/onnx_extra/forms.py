"""Older versions of operators whose words no newer case can be turned into, and those that nobody runs today: their answers
follow from the definition."""
import numpy as np

from core import make_model, normal, one_node
from onnx import TensorProto, helper


def make(s):
    """Adds the cases; yields the (operator, version) pairs that they are of."""

    def known(op, since, opset, inputs, answer, attrs=None, outputs=1, name="", **how):
        model, fed = one_node(op, inputs, outputs, "", opset, (), False, attrs or {})
        model.ir_version = 3 if opset < 9 else 4
        s.model(f"{op}_{since}_form{name}", model, fed, answer, **how)
        return op, since

    x = normal([2, 3, 4, 5])
    row = normal([3, 4])
    yield known("Clip", 1, 5, [row], [np.clip(row, -0.5, 0.7)], {"min": -0.5, "max": 0.7})
    yield known("Clip", 6, 10, [row], [np.clip(row, -0.5, np.inf)], {"min": -0.5}, name="_min")
    for since, opset in [(1, 5), (6, 6)]:
        yield known("Dropout", since, opset, [row], [row], {"is_test": 1, "ratio": 0.3})
    yield known("Dropout", 7, 9, [row], [row, np.ones_like(row)], {"ratio": 0.3}, outputs=2, name="_mask")
    yield known("Dropout", 10, 11, [row], [row, np.ones(row.shape, bool)], {"ratio": 0.3}, outputs=2)
    a, b, c = normal([3, 4]), normal([4, 5], 1), normal([5], 2)
    for since, opset in [(1, 5), (6, 6)]:
        yield known("Gemm", since, opset, [a, b, c], [0.5 * a @ b + 2 * c], {"alpha": 0.5, "beta": 2.0, "broadcast": 1}, rtol=1e-3)
    scale, bias, mean, var = [np.abs(normal([3], i)) + 0.5 for i in range(4)]
    columns = lambda v: v[:, None, None]  # noqa: E731
    normal_form = columns(scale) * (x - columns(mean)) / np.sqrt(columns(var) + 1e-5) + columns(bias)
    for since, opset in [(1, 5), (6, 6)]:
        attrs = {"is_test": 1, "epsilon": 1e-5} | ({"consumed_inputs": [0, 0, 0, 1, 1]} if since == 1 else {})
        yield known("BatchNormalization", since, opset, [x, scale, bias, mean, var], [normal_form], attrs)
    yield known("BatchNormalization", 7, 8, [x, scale, bias, mean, var], [normal_form], {"spatial": 1}, name="_spatial")
    for since, opset in [(1, 1), (2, 20)]:
        p = 2.0 if since == 1 else 3
        yield known("GlobalLpPool", since, opset, [x], [(np.abs(x) ** p).sum((2, 3), keepdims=True) ** (1 / p)], {"p": p})
    yield known("Pad", 1, 1, [row], [np.pad(row, [(0, 1), (2, 0)], constant_values=0.5)], {"paddings": [0, 2, 1, 0], "value": 0.5})
    yield known("Pad", 2, 10, [row], [np.pad(row, [(0, 1), (2, 0)], mode="edge")], {"pads": [0, 2, 1, 0], "mode": "edge"})
    yield known("Split", 1, 1, [normal([2, 6])], np.split(normal([2, 6]), [2, 3], 1), {"axis": 1, "split": [2, 1, 3]}, outputs=3)
    yield known("Split", 2, 10, [normal([2, 6])], np.split(normal([2, 6]), 3, 1), {"axis": 1}, outputs=3, name="_equal")
    model, fed = one_node("Tile", [row, np.array([2.0], np.float32), np.array([1.0], np.float32)], 1, "", 1, (1, 2), False, {})
    model.ir_version = 3
    s.model("Tile_1_form", model, fed, [np.tile(row, (1, 2))])
    yield "Tile", 1
    order = np.argsort(-row, 1)[:, :2]
    yield known("TopK", 1, 9, [row], [np.take_along_axis(row, order, 1), order], {"k": 2, "axis": 1}, outputs=2)
    yield known("Upsample", 1, 6, [x], [x.repeat(2, 2).repeat(3, 3)], {"height_scale": 2.0, "width_scale": 3.0, "mode": "nearest"})
    yield known("Upsample", 7, 8, [x], [x.repeat(2, 2).repeat(3, 3)], {"scales": [1.0, 1.0, 2.0, 3.0]})
    model, fed = one_node("Upsample", [x, np.array([1, 1, 2, 3], np.float32)], 1, "", 9, (1,), False, {})
    s.model("Upsample_9_form", model, fed, [x.repeat(2, 2).repeat(3, 3)])
    yield "Upsample", 9
    rois = np.array([[0, 0, 0, 3, 3]], np.float32)
    yield known("MaxRoiPool", 1, 21, [x[:, :, :4, :4].copy(), rois], [x[:1, :, :4, :4].reshape(1, 3, 2, 2, 2, 2).max((3, 5))], {"pooled_shape": [2, 2]})
    xs, w, r = normal([4, 2, 3]), normal([1, 5, 3], 1), normal([1, 5, 5], 2)
    h, steps = np.zeros([2, 5], np.float32), []
    for t in xs:
        h = np.tanh(t @ w[0].T + h @ r[0].T)
        steps.append(h)
    yield known("RNN", 1, 6, [xs, w, r], [np.stack(steps)[:, None], h[None]], {"hidden_size": 5, "output_sequence": 1}, outputs=2, rtol=1e-3)
    yield from control(s, x)
    yield from optionals(s, row)


def control(s, x):
    """`If`, `Loop` and `Scan` at the last opset of each version, by onnxruntime."""
    f, i64, boolean = TensorProto.FLOAT, TensorProto.INT64, TensorProto.BOOL
    info = helper.make_tensor_value_info

    def tests(op, since, opset, nodes, inputs, outputs, fed):
        model = make_model(nodes, inputs, [o.name for o in outputs], opset, ir=4 if opset < 11 else 7, known={o.name: o for o in outputs})
        made = s.model(f"{op}_{since}_form", model, fed)
        return (op, since) if made is not None else None

    row = x[0, 0]
    shape = list(row.shape)
    bounds = {"If": [1, 11, 13, 16, 19, 21, 23, 24, 25], "Loop": [1, 11, 13, 16, 19, 21, 23, 24, 25], "Scan": [8, 9, 11, 16, 19, 21, 23, 24, 25]}
    for since, following in zip(bounds["If"], bounds["If"][1:]):
        then = helper.make_graph([helper.make_node("Add", ["x", "x"], ["t"])], "then", [], [info("t", f, shape)])
        other = helper.make_graph([helper.make_node("Mul", ["x", "x"], ["e"])], "else", [], [info("e", f, shape)])
        node = helper.make_node("If", ["c"], ["y"], then_branch=then, else_branch=other)
        fed = {"c": np.array(False), "x": row}
        yield tests("If", since, following - 1, [node], [info("c", boolean, []), info("x", f, shape)], [info("y", f, shape)], fed)
    for since, following in zip(bounds["Loop"], bounds["Loop"][1:]):
        body = helper.make_graph(
            [helper.make_node("Add", ["a", "x"], ["b"]), helper.make_node("Identity", ["go"], ["on"]), helper.make_node("Mul", ["b", "b"], ["z"])],
            "body", [info("i", i64, []), info("go", boolean, []), info("a", f, shape)], [info("on", boolean, []), info("b", f, shape), info("z", f, shape)])
        node = helper.make_node("Loop", ["n", "c", "x"], ["y", "all"], body=body)
        fed = {"n": np.array(3), "c": np.array(True), "x": row}
        yield tests("Loop", since, following - 1, [node], [info("n", i64, []), info("c", boolean, []), info("x", f, shape)],
                    [info("y", f, shape), info("all", f, None)], fed)
    for since, following in zip(bounds["Scan"], bounds["Scan"][1:]):
        body = helper.make_graph([helper.make_node("Add", ["h", "e"], ["k"]), helper.make_node("Identity", ["k"], ["o"])], "body",
                                 [info("h", f, [5]), info("e", f, [5])], [info("k", f, [5]), info("o", f, [5])])
        if since == 8:
            batch = row[None]
            node = helper.make_node("Scan", ["", "h0", "x"], ["h1", "y"], body=body, num_scan_inputs=1, directions=[1])
            fed = {"h0": batch[:, 0].copy(), "x": batch}
            # A batch of three, and one with a length for each.
            several = np.stack([row, row + 1, row * 2])
            many = {"h0": several[:, 0].copy(), "x": several}
            for name, lengths in (("batch", None), ("lengths", np.array([len(row), 1, len(row) - 1]))):
                first = "n" if lengths is not None else ""
                other = helper.make_node("Scan", [first, "h0", "x"], ["h1", "y"], body=body, num_scan_inputs=1)
                given = many if lengths is None else {"n": lengths, **many}
                infos = [info(k, i64 if k == "n" else f, list(v.shape)) for k, v in given.items()]
                s.model(f"Scan_8_{name}", make_model([other], infos, ["h1", "y"], following - 1, ir=4,
                                                     known={"h1": info("h1", f, None), "y": info("y", f, None)}), given)
        else:
            node = helper.make_node("Scan", ["h0", "x"], ["h1", "y"], body=body, num_scan_inputs=1, scan_input_directions=[1], scan_output_directions=[0])
            fed = {"h0": row[0].copy(), "x": row}
        infos = [info(k, f, list(v.shape)) for k, v in fed.items()]
        yield tests("Scan", since, following - 1, [node], infos, [info("h1", f, None), info("y", f, None)], fed)


def optionals(s, row):
    node = [helper.make_node("Optional", ["x"], ["o"]), helper.make_node("OptionalHasElement", ["o"], ["has"]), helper.make_node("OptionalGetElement", ["o"], ["y"])]
    infos = [helper.make_tensor_value_info("x", TensorProto.FLOAT, list(row.shape))]
    known = {"has": helper.make_tensor_value_info("has", TensorProto.BOOL, []), "y": helper.make_tensor_value_info("y", TensorProto.FLOAT, None)}
    s.model("Optional_15_form", make_model(node, infos, ["has", "y"], 17, known=known), {"x": row})
    yield "Optional", 15
    yield "OptionalHasElement", 15
