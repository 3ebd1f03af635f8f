"""An fp8 model (e4m3, QDQ) of a float ONNX model, as quantisers for Hopper's units write it.

Inputs of convolutions and products are rounded with one scale each, weights with one per output channel; of sums the operand that is no
convolution is rounded, the other added as it is. Scales are the greatest magnitude over 448, of weights and of the values that a sample gives.

usage: fp8.py MODEL.onnx SAMPLE.npy OUT.onnx     (opset 17 or later; needs onnx, onnxruntime, ml_dtypes)
"""

import sys

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper

LARGEST = 448
F8 = ml_dtypes.float8_e4m3fn


def f8_tensor(name, values):
    return helper.make_tensor(name, TensorProto.FLOAT8E4M3FN, values.shape, values.astype(F8).tobytes(), raw=True)


def magnitudes(model, names, sample):
    """The greatest magnitude of each of the values."""
    probe = onnx.ModelProto()
    probe.CopyFrom(model)
    known = {v.name for v in [*probe.graph.output, *probe.graph.input]}
    probe.graph.output.extend(helper.make_tensor_value_info(n, TensorProto.FLOAT, None) for n in names if n not in known)
    session = onnxruntime.InferenceSession(probe.SerializeToString())
    entry = session.get_inputs()[0].name
    found = dict(zip([o.name for o in session.get_outputs()], session.run(None, {entry: sample})))
    found[entry] = sample
    return {n: float(np.abs(found[n]).max()) for n in names}


def quantise(model, sample):
    graph = model.graph
    made = {o: n.op_type for n in graph.node for o in n.output}

    def rounded_input(node):
        """Which input is rounded."""
        if node.op_type in ("Conv", "Gemm"):
            return 0
        if node.op_type == "Add":
            return 1 if made.get(node.input[0]) == "Conv" else 0
        return None

    places = [(n, rounded_input(n)) for n in graph.node]
    rounded = list(dict.fromkeys(n.input[i] for n, i in places if i is not None))
    largest = magnitudes(model, rounded, sample)
    weights = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    nodes, constants, gone = [], [f8_tensor("f8_zero", np.zeros((), np.float32))], set()

    def round_value(name):
        constants.append(numpy_helper.from_array(np.float32(largest[name] / LARGEST), name + "_scale"))
        nodes.append(helper.make_node("QuantizeLinear", [name, name + "_scale", "f8_zero"], [name + "_f8"]))
        nodes.append(helper.make_node("DequantizeLinear", [name + "_f8", name + "_scale", "f8_zero"], [name + "_back"]))

    for value in graph.input:
        if value.name in rounded:
            round_value(value.name)
    for node, place in places:
        if place is not None:
            node.input[place] += "_back"
        if node.op_type in ("Conv", "Gemm"):
            name, values = node.input[1], weights[node.input[1]]
            scale = np.abs(values.reshape(len(values), -1)).max(1).clip(1e-8) / LARGEST
            constants.append(f8_tensor(name + "_f8", values / scale.reshape(-1, *[1] * (values.ndim - 1))))
            constants.append(numpy_helper.from_array(scale.astype(np.float32), name + "_scale"))
            nodes.append(helper.make_node("DequantizeLinear", [name + "_f8", name + "_scale"], [name + "_back"], axis=0))
            node.input[1] = name + "_back"
            gone.add(name)
        nodes.append(node)
        for output in node.output:
            if output in rounded:
                round_value(output)
    nodes = [onnx.NodeProto.FromString(n.SerializeToString()) for n in nodes]
    kept = [onnx.TensorProto.FromString(t.SerializeToString()) for t in graph.initializer if t.name not in gone]
    del graph.node[:], graph.initializer[:]
    graph.node.extend(nodes)
    graph.initializer.extend(kept + constants)
    model.opset_import[0].version = max(model.opset_import[0].version, 21)
    model.ir_version = max(model.ir_version, 10)
    return model


def main():
    source, sample, out = sys.argv[1:]
    model = quantise(onnx.load(source), np.load(sample))
    onnx.checker.check_model(model)
    onnx.save(model, out)


if __name__ == "__main__":
    main()
