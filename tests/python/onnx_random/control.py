"""Branches, loops and sequences."""
import numpy as np
from draw import FLOATS, NUMBERS, SAME, T, Reject
from onnx import helper


def body_nodes(d, x, y, out):
    """One or two nodes from `x` and `y` (of equal type and shape) to `out`."""
    middle = d.name("b")
    first = d.pick("Add", "Mul", "Sub")
    return [helper.make_node(first, [x, y], [middle]), helper.make_node(d.pick("Neg", "Relu", "Identity"), [middle], [out])]


def branch(d):
    x = d.value((T.FLOAT,))
    y = d.like(x, x.shape)
    condition = d.leaf(T.BOOL, ())
    graphs = []
    for _ in range(2):
        out = d.name("b")
        graphs.append(helper.make_graph(body_nodes(d, x.name, y.name, out), d.name("g"), [], [helper.make_tensor_value_info(out, T.FLOAT, None)]))
    d.node("If", [condition], then_branch=graphs[0], else_branch=graphs[1])
    d.values[-1].dtype, d.values[-1].shape = T.FLOAT, x.shape


def loop(d):
    x = d.leaf(T.FLOAT, d.shape(0, 2), constant=False)
    y = d.like(x, x.shape)
    i, going, carried, out, again, scanned = (d.name("b") for _ in range(6))
    body = helper.make_graph(
        [*body_nodes(d, carried, y.name, out), helper.make_node("Identity", [going], [again]), helper.make_node("Identity", [carried], [scanned])], d.name("g"),
        [helper.make_tensor_value_info(i, T.INT64, []), helper.make_tensor_value_info(going, T.BOOL, []), helper.make_tensor_value_info(carried, T.FLOAT, None)],
        [helper.make_tensor_value_info(again, T.BOOL, []), helper.make_tensor_value_info(out, T.FLOAT, None), helper.make_tensor_value_info(scanned, T.FLOAT, None)])
    trips = d.param(np.array(d.int(1, 3), np.int64))
    condition = d.leaf(T.BOOL, None, np.array(True)) if d.chance(0.5) else None
    made = d.node("Loop", [trips, condition, x], outputs=2, body=body)
    made[0].dtype = made[1].dtype = T.FLOAT


def scan(d):
    steps = d.int(1, 4)
    shape = d.shape(0, 2)
    x = d.leaf(T.FLOAT, (steps, *shape), constant=False)
    start = d.leaf(T.FLOAT, shape)
    carried, part, out, scanned = (d.name("b") for _ in range(4))
    info = lambda name: helper.make_tensor_value_info(name, T.FLOAT, shape)
    body = helper.make_graph([*body_nodes(d, carried, part, out), helper.make_node("Identity", [out], [scanned])], d.name("g"),
                             [info(carried), info(part)], [info(out), info(scanned)])
    made = d.node("Scan", [start, x], outputs=2, body=body, num_scan_inputs=1, scan_input_directions=d.maybe([d.int(0, 1)]), scan_output_directions=d.maybe([d.int(0, 1)]))
    made[0].dtype = made[1].dtype = T.FLOAT


def sequence(d):
    x = d.value(NUMBERS, low=1)
    parts = [x, *(d.like(x, x.shape) for _ in range(d.int(0, 2)))]
    made = d.node("SequenceConstruct", parts)[0]
    made.dtype = made.shape = None
    how = d.int(0, 2)
    if how == 0:
        at = d.param(np.array(d.int(-len(parts), len(parts) - 1), np.int64))
        out = d.node("SequenceAt", [made, at])[0]
        out.dtype, out.shape = x.dtype, x.shape
        if d.chance(0.5) and x.dtype in FLOATS:
            d.node("Relu", [out])
    elif how == 1:
        out = d.node("ConcatFromSequence", [made], axis=d.axis(x.rank), new_axis=d.pick(None, 0, 1))[0]
        out.dtype = x.dtype
    else:
        out = d.node("SequenceLength", [made], trust=SAME, bound=4)[0]
        out.dtype, out.shape = T.INT64, ()


FAMILIES = {branch: 2, loop: 2, scan: 2, sequence: 3}
