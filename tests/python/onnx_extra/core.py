"""Writing cases in the official layout, and judging a run of oxrt on them."""
import json
import shutil
import subprocess
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import ml_dtypes
import numpy as np
import onnx
import onnxruntime as ort
from onnx import TensorProto, helper, numpy_helper

ort.set_default_logger_severity(4)
RTOL, ATOL = 1e-4, 1e-5
DOMAINS = {"com.microsoft": 1, "ai.onnx.ml": 3}


@dataclass
class Case:
    name: str
    path: Path
    rtol: float
    atol: float
    # Values that may be off by more, as a share of all: rounding at ties of quantised results.
    off: float = 0.0


@dataclass
class Suite:
    name: str
    path: Path
    only: object
    verbose: bool = False
    cases: list = field(default_factory=list)

    def wants(self, name):
        return self.only.search(f"{self.name}/{name}") is not None

    def model(self, name, model, inputs, outputs=None, rtol=RTOL, atol=ATOL, off=0.0, reference=None):
        """A case of a whole model; `inputs` by name. Expected outputs come from onnxruntime, unless
        they are given or `reference` makes them of the inputs."""
        if not self.wants(name):
            return None
        folder = self.path / name / "test_data_set_0"
        if folder.exists():
            shutil.rmtree(folder)
        folder.mkdir(parents=True)
        file = self.path / name / "model.onnx"
        if outputs is None:
            try:
                outputs = reference(*inputs.values()) if reference else run_ort(model, inputs)
                outputs = list(outputs) if isinstance(outputs, (list, tuple)) else [outputs]
            except Exception as e:  # the judge refuses it
                if self.verbose:
                    print(f"{self.name}/{name}: no judge: {str(e)[:300]}")
                shutil.rmtree(folder.parent)
                return None
        for info, value in zip(model.graph.output, outputs):
            if not info.HasField("type"):
                info.CopyFrom(value_info(info.name, np.asarray(value), False))
        onnx.save(model, file)
        fed = [i.name for i in model.graph.input if i.name in inputs]
        for i, key in enumerate(fed):
            info = next(x for x in model.graph.input if x.name == key)
            (folder / f"input_{i}.pb").write_bytes(to_proto(inputs[key], key, info).SerializeToString())
        for i, (value, info) in enumerate(zip(outputs, model.graph.output)):
            (folder / f"output_{i}.pb").write_bytes(to_proto(value, info.name, info).SerializeToString())
        case = Case(name, folder.parent, rtol, atol, off)
        self.cases.append(case)
        return outputs

    def node(self, name, op, inputs, outputs=1, domain="", opset=21, constants=(), dynamic=False, attrs=None, **how):
        """A case of one node. `inputs` is a list of arrays (None for an absent one); those whose index is in
        `constants` become initializers; `dynamic` leaves every size of the others open."""
        if not self.wants(name):
            return None
        model, fed = one_node(op, inputs, outputs, domain, opset, constants, dynamic, attrs or {})
        return self.model(name, model, fed, **how)

    def finish(self):
        odd = {c.name: {"rtol": c.rtol, "atol": c.atol, "off": c.off} for c in self.cases}
        odd = {k: v for k, v in odd.items() if (v["rtol"], v["atol"], v["off"]) != (RTOL, ATOL, 0.0)}
        if self.path.exists():
            (self.path / "tolerances.json").write_text(json.dumps(odd, indent=1, sort_keys=True) + "\n")


def elem_type(a):
    return helper.np_dtype_to_tensor_dtype(np.asarray(a).dtype) if np.asarray(a).dtype.kind not in "OU" else TensorProto.STRING


def value_info(name, a, dynamic):
    shape = [f"{name}_{i}" for i in range(a.ndim)] if dynamic else list(a.shape)
    return helper.make_tensor_value_info(name, elem_type(a), shape)


def one_node(op, inputs, outputs, domain, opset, constants, dynamic, attrs):
    names, infos, inits, fed = [], [], [], {}
    for i, a in enumerate(inputs):
        if a is None:
            names.append("")
            continue
        a = np.asarray(a)
        name = f"x{i}"
        names.append(name)
        if i in constants:
            inits.append(numpy_helper.from_array(a, name))
        else:
            infos.append(value_info(name, a, dynamic))
            fed[name] = a
    wanted = [f"y{i}" for i in range(outputs)] if isinstance(outputs, int) else [f"y{i}" if w else "" for i, w in enumerate(outputs)]
    node = helper.make_node(op, names, wanted, name="node", domain=domain, **attrs)
    model = make_model([node], infos, [w for w in wanted if w], opset, inits)
    return model, fed


def make_model(nodes, inputs, outputs, opset=21, inits=(), ir=10, domains=None, known=None):
    """A model whose outputs get their types from a run of onnxruntime, or from `known` (name → ValueInfoProto)."""
    infos = [(known or {}).get(o) or onnx.ValueInfoProto(name=o) for o in outputs]
    graph = helper.make_graph(nodes, "g", inputs, infos, list(inits))
    opsets = [helper.make_opsetid("", opset)]
    used = {n.domain for n in nodes if n.domain}
    opsets += [helper.make_opsetid(d, (domains or DOMAINS).get(d, 1)) for d in sorted(used)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=ir, producer_name="cases")


def run_ort(model, inputs):
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    outputs = session.run(None, inputs)
    for info, told, value in zip(model.graph.output, session.get_outputs(), outputs):
        if not info.HasField("type"):
            describe(info, told, value)
    return outputs


def describe(info, told, value):
    """The type of an output, in full where onnxruntime knows more than the value shows."""
    kind = told.type
    if kind.startswith("tensor("):
        shape = [d if isinstance(d, int) else None for d in told.shape]
        info.CopyFrom(helper.make_tensor_value_info(info.name, elem_type(value), shape))
    else:
        info.CopyFrom(onnx.ValueInfoProto(name=info.name, type=type_of(kind)))


SCALARS = {"float": 1, "uint8": 2, "int8": 3, "uint16": 4, "int16": 5, "int32": 6, "int64": 7, "string": 8, "bool": 9, "float16": 10,
           "double": 11, "uint32": 12, "uint64": 13, "bfloat16": 16}


def type_of(text):
    """`seq(map(string,tensor(float)))` and the like, as onnxruntime prints types."""
    head, inner = text.split("(", 1)
    inner = inner[:-1]
    if head == "tensor":
        return helper.make_tensor_type_proto(SCALARS[inner], None)
    if head == "seq":
        return helper.make_sequence_type_proto(type_of(inner))
    if head == "map":
        key, value = inner.split(",", 1)
        return helper.make_map_type_proto(SCALARS[key], type_of(value) if "(" in value else helper.make_tensor_type_proto(SCALARS[value], []))
    raise ValueError(text)


def to_proto(value, name, info=None):
    if info is not None and info.type.HasField("optional_type"):
        out = onnx.OptionalProto(name=name)
        if isinstance(value, list):
            out.elem_type, _ = 3, out.sequence_value.CopyFrom(to_proto(value, ""))
        elif value is not None:
            out.elem_type, _ = 1, out.tensor_value.CopyFrom(to_proto(value, ""))
        return out
    if isinstance(value, dict):
        return map_proto(value, name)
    if isinstance(value, list):
        out = onnx.SequenceProto(name=name, elem_type=4 if value and isinstance(value[0], dict) else 1)
        for v in value:
            if isinstance(v, dict):
                out.map_values.append(map_proto(v, ""))
            else:
                out.tensor_values.append(numpy_helper.from_array(np.asarray(v), ""))
        return out
    a = np.asarray(value)
    if a.dtype.kind == "U":
        a = a.astype(object)
    return numpy_helper.from_array(a, name)


def map_proto(value, name):
    keys = list(value)
    text = bool(keys) and isinstance(keys[0], str)
    out = onnx.MapProto(name=name, key_type=8 if text else 7)
    (out.string_keys if text else out.keys).extend([k.encode() if text else int(k) for k in keys])
    out.values.elem_type = 1
    for v in value.values():
        array = np.asarray(v, dtype=None if isinstance(v, (str, np.ndarray, np.generic)) else (np.float32 if isinstance(v, float) else np.int64))
        out.values.tensor_values.append(numpy_helper.from_array(array.astype(object) if array.dtype.kind == "U" else array, ""))
    return out


def from_proto(data, like):
    """Reads the message of the kind that `like` is."""
    message = type(like)()
    message.ParseFromString(data)
    return message


def load(path, model_output):
    data = path.read_bytes()
    kind = model_output.type.WhichOneof("value")
    message = {"tensor_type": TensorProto, "sequence_type": onnx.SequenceProto, "map_type": onnx.MapProto,
               "optional_type": onnx.OptionalProto}.get(kind, TensorProto)()
    message.ParseFromString(data)
    return message


def judge(oxrt, case, device):
    """None, or what is wrong."""
    model = onnx.load(case.path / "model.onnx", load_external_data=False)
    with tempfile.TemporaryDirectory() as out:
        data = case.path / "test_data_set_0"
        done = subprocess.run([oxrt, "run", case.path / "model.onnx", "--in-dir", data, "--out-dir", out, "--device", device],
                              capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            return f"exit {done.returncode}: " + " | ".join(done.stderr.strip().splitlines()[:3])[:400]
        for i, info in enumerate(model.graph.output):
            want, got = load(data / f"output_{i}.pb", info), load(Path(out) / f"output_{i}.pb", info)
            problem = compare(got, want, case)
            if problem:
                return f"{info.name}: {problem}"
    return None


def compare(got, want, case):
    if isinstance(want, onnx.SequenceProto):
        for field_name in ["tensor_values", "map_values", "sequence_values"]:
            a, b = getattr(got, field_name), getattr(want, field_name)
            if len(a) != len(b):
                return f"{len(a)} elements, want {len(b)}"
            for x, y in zip(a, b):
                problem = compare(x, y, case)
                if problem:
                    return problem
        return None
    if isinstance(want, onnx.MapProto):
        pairs = []
        for m in [got, want]:
            keys = list(m.string_keys) if m.key_type == 8 else list(m.keys)
            pairs.append(dict(zip(keys, m.values.tensor_values)))
        if set(pairs[0]) != set(pairs[1]):
            return f"keys {sorted(pairs[0])}, want {sorted(pairs[1])}"
        for k in pairs[1]:
            problem = compare(pairs[0][k], pairs[1][k], case)
            if problem:
                return f"{k}: {problem}"
        return None
    if isinstance(want, onnx.OptionalProto):
        held = [[f for f in ("tensor_value", "sequence_value") if m.HasField(f)] for m in (got, want)]
        if held[0] != held[1]:
            return f"an optional of {held[0]}, want {held[1]}"
        return compare(getattr(got, held[1][0]), getattr(want, held[1][0]), case) if held[1] else None
    if got.data_type != want.data_type:
        return f"element type {got.data_type}, want {want.data_type}"
    a, b = numpy_helper.to_array(got), numpy_helper.to_array(want)
    if a.shape != b.shape:
        return f"shape {a.shape}, want {b.shape}"
    if a.dtype.kind in "OUS":
        return None if (a == b).all() else f"{a}, want {b}"
    if b.size == 0:
        return None
    if a.dtype.kind in "iu" and case.atol < 1:
        bad = (a != b).sum()
        return None if bad <= case.off * b.size else f"{bad} of {b.size} differ"
    a, b = a.astype(np.float64), b.astype(np.float64)
    with np.errstate(invalid="ignore"):
        near = np.abs(a - b) <= case.atol + case.rtol * np.abs(b)
    near |= (np.isnan(a) & np.isnan(b)) | (a == b)
    bad = (~near).sum()
    if bad > case.off * b.size:
        where = np.argwhere(~near)[0]
        return f"{bad} of {b.size} off, by up to {np.nanmax(np.abs(a - b)):.3g} (first at {list(where)}: {a[tuple(where)]:.6g}, want {b[tuple(where)]:.6g})"
    return None


def rng(seed=0):
    return np.random.default_rng(seed)


def normal(shape, seed=0, dtype=np.float32, scale=1.0):
    return (rng(seed).standard_normal(shape) * scale).astype(dtype)


bfloat16 = ml_dtypes.bfloat16
