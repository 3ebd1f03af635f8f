"""Writes the official backend cases of the installed `onnx` package to disk.

    python onnx_cases.py DIR

The suites are those of `onnx.backend.test.BackendTest`: node, simple, light ("real" there), pytorch-converted and
pytorch-operator, in the official layout:

    <suite>/<case>/model.onnx
    <suite>/<case>/test_data_set_0/input_<i>.pb, output_<i>.pb
    manifest.json       {"onnx": version, "cases": [{suite, name, op, rtol, atol, random}, ...], "types": {op: [type, ...]}}

`op` is the operator under test ("" for whole models), `rtol` and `atol` are the official tolerances, `random` says that
the outputs are drawn at random. `types` are those that the standard allows for the first input. A folder that the same version of onnx wrote is left as it is.
"""
import importlib.resources
import json
import pathlib
import shutil
import sys
import warnings

import numpy as np
import onnx
from onnx import numpy_helper

warnings.filterwarnings("ignore")
from onnx.backend.test.loader import load_model_tests  # noqa: E402

RANDOM_OPS = {
    "Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike",
}


def main(out):
    manifest = out / "manifest.json"
    have = json.loads(manifest.read_text()) if manifest.exists() else {}
    if have.get("onnx") == onnx.__version__ and "types" in have:
        return
    # Written beside the target and renamed, so that half a folder is never taken for a whole one.
    half = out.with_name(out.name + ".part")
    for folder in (half, out):
        shutil.rmtree(folder, ignore_errors=True)
    rows = [*node_cases(half), *stored_cases(half), *light_cases(half)]
    (half / "manifest.json").write_text(json.dumps({"onnx": onnx.__version__, "cases": rows, "types": first_types()}))
    half.rename(out)
    print(f"{len(rows)} official cases of onnx {onnx.__version__} in {out}")


def first_types():
    """{operator: element types that the newest standard allows for its first input (its first output, where it has none)}."""
    short = {"float": "f32", "double": "f64", "float16": "f16", "bfloat16": "bf16"}
    short.update({f"{sign}int{bits}": f"{sign[:1] or 'i'}{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)})
    types = {}
    for schema in onnx.defs.get_all_schemas():
        first = (list(schema.inputs) or list(schema.outputs))[0]
        names = [t[len("tensor("):-1] for t in first.types if t.startswith("tensor(")]
        name = f"{schema.domain}.{schema.name}" if schema.domain else schema.name
        types[name] = sorted(short.get(t, t) for t in names)
    return types


def node_cases(out):
    """The node suite does not ship as files; the package's own Python makes it, always the same."""
    tests = load_model_tests(kind="node")
    single = {t.name: t.model.graph.node[0].op_type for t in tests if len(t.model.graph.node) == 1}
    for test in tests:
        base = test.name.split("_expanded")[0]
        folder = out / "node" / test.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True)
        (folder / "model.onnx").write_bytes(test.model.SerializeToString(deterministic=True))
        (inputs, outputs), = test.data_sets
        graph = test.model.graph
        for which, infos, values in (("input", graph.input, inputs), ("output", graph.output, outputs)):
            for i, (info, value) in enumerate(zip(infos, values, strict=True)):
                message = to_pb(value, info.type, info.name)
                (data / f"{which}_{i}.pb").write_bytes(message.SerializeToString(deterministic=True))
        yield row("node", test, single.get(base, single.get(test.name, "")), folder)


def stored_cases(out):
    for suite in ("simple", "pytorch-converted", "pytorch-operator"):
        for test in sorted(load_model_tests(kind=suite), key=lambda t: t.name):
            folder = out / suite / test.name
            shutil.copytree(test.model_dir, folder)
            yield row(suite, test, "", folder)


def light_cases(out):
    """Whole models with constant weights: the input is a ramp in [0, 1), the output lies beside the model."""
    light = pathlib.Path(str(importlib.resources.files("onnx"))) / "backend" / "test" / "data" / "light"
    for test in sorted(load_model_tests(kind="real"), key=lambda t: t.name):
        source = light / pathlib.PurePosixPath(test.url).name
        folder = out / "light" / test.name
        data = folder / "test_data_set_0"
        data.mkdir(parents=True)
        shutil.copy(source, folder / "model.onnx")
        shutil.copy(source.with_name(f"{source.stem}_output_0.pb"), data / "output_0.pb")
        info, = fed_inputs(onnx.load(source))
        shape = [d.dim_value or 1 for d in info.type.tensor_type.shape.dim]
        ramp = np.arange(np.prod(shape)).reshape(shape) / np.prod(shape)
        message = numpy_helper.from_array(ramp.astype(np.float32), info.name)
        (data / "input_0.pb").write_bytes(message.SerializeToString(deterministic=True))
        yield row("light", test, "", folder)


def row(suite, test, op, folder):
    model = onnx.load(folder / "model.onnx")
    return {
        "suite": suite, "name": test.name, "op": op, "rtol": test.rtol, "atol": test.atol,
        "random": is_random(model, folder / "test_data_set_0"),
    }


def to_pb(value, type_proto, name):
    kind = type_proto.WhichOneof("value")
    if kind == "sequence_type":
        return numpy_helper.from_list(value, name)
    if kind == "optional_type":
        return numpy_helper.from_optional(value, name)
    return value if isinstance(value, onnx.TensorProto) else numpy_helper.from_array(np.asarray(value), name)


def fed_inputs(model):
    """Graph inputs without a default value."""
    initial = {t.name for t in model.graph.initializer} | {t.values.name for t in model.graph.sparse_initializer}
    return [i for i in model.graph.input if i.name not in initial]


def all_nodes(graph):
    for node in graph.node:
        yield node
        for attr in node.attribute:
            for sub in [attr.g, *attr.graphs]:
                yield from all_nodes(sub)


def is_random(model, data):
    place = {info.name: i for i, info in enumerate(fed_inputs(model))}

    def fed(name, default):
        if name not in place:
            return default
        tensor = onnx.TensorProto()
        tensor.ParseFromString((data / f"input_{place[name]}.pb").read_bytes())
        return numpy_helper.to_array(tensor)

    for node in all_nodes(model.graph):
        if node.op_type in RANDOM_OPS:
            return True
        if node.op_type == "Dropout" and len(node.input) > 2:
            if np.any(fed(node.input[2], False)) and np.any(fed(node.input[1], 0.5)):
                return True
    return False


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
