"""The tables behind `oxrt check --for`, and their test.

    python acceptance.py table --ort DIR --write FOLDER          reads the tables off the packages in DIR/<version>
    python acceptance.py test --ort DIR --oxrt OXRT --onnx-cases DIR [--versions 1.15,1.32] [--only TEXT]

DIR holds one folder per onnxruntime (`pip install --no-deps --target DIR/1.17.3 onnxruntime==1.17.3 'numpy<2'`); `fetch` makes them. The
kernels and schemas are those that each package states of itself; the newest IR version and opset are found by loading models. `test` loads
every official case with each version, after asking the package index whether it offers other versions than the table has, and compares with what `oxrt check --for` says; exit status 1 when they differ on more than
1 % (each is printed): what a table cannot show are operators made of others whose parts lack a kernel, and attributes.
"""
import argparse
import json
import os
import subprocess
import sys

import onnx
from onnx import TensorProto, helper

# One per minor version that PyPI offers for Python 3.11.
VERSIONS = (
    "1.15.1 1.16.3 1.17.3 1.18.1 1.19.2 1.20.1 1.21.1 1.22.1 1.23.2 1.24.4 1.25.1 1.26.0 1.27.0 1.28.0 1.29.0 1.30.0 1.31.1 1.32.0"
).split()
SHORT = dict(
    float="f32", double="f64", float16="f16", bfloat16="bf16", int8="i8", int16="i16", int32="i32", int64="i64", uint8="u8", uint16="u16",
    uint32="u32", uint64="u64", bool="bool", string="str", float8e4m3fn="f8e4m3fn", float8e4m3fnuz="f8e4m3fnuz", float8e5m2="f8e5m2",
    float8e5m2fnuz="f8e5m2fnuz", int4="i4", uint4="u4", float4e2m1="f4e2m1", int2="i2", uint2="u2", complex64="c64", complex128="c128",
    float8e8m0="f8e8m0",
)
DUMP = """
import json, sys
from onnxruntime.capi import onnxruntime_pybind11_state as C
out = dict(kernels=[], schemas=[])
for k in C.get_all_opkernel_def():
    if k.provider == "CPUExecutionProvider":
        out["kernels"].append([k.domain, k.op_name, *k.version_range, k.type_constraints])
for s in C.get_all_operator_schema():
    formal = lambda l: [p.typeStr + ("*" if "Variadic" in str(p.option) else "") for p in l]
    out["schemas"].append([s.domain, s.name, s.since_version, formal(s.inputs), formal(s.outputs), bool(s.deprecated)])
json.dump(out, sys.stdout)
"""
LOAD = """
import json, sys
import onnxruntime as ort
out = {}
for path in json.load(sys.stdin):
    o = ort.SessionOptions()
    o.log_severity_level, o.intra_op_num_threads = 4, 1
    try:
        ort.InferenceSession(path, o, providers=["CPUExecutionProvider"])
        out[path] = ""
    except Exception as e:
        # Nor does memory that it lacks; the run would count other files than the last one.
        if isinstance(e, MemoryError) or "alloc" in str(e).lower():
            raise
        # A locale that this machine lacks says nothing of the file.
        out[path] = "" if "locale" in str(e) else str(e)[:300] or "fails"
json.dump(out, sys.stdout)
"""


def python(a, version, code, data=""):
    env = dict(os.environ, PYTHONPATH=f"{a.ort}/{version}", OMP_NUM_THREADS="1")
    p = subprocess.run([sys.executable, "-c", code], input=data, capture_output=True, text=True, env=env)
    if p.returncode:
        raise RuntimeError(f"onnxruntime {version}: {p.stderr[-500:]}")
    return json.loads(p.stdout)


def short(t):
    """`tensor(float)` as `f32`; `None` for sequences and the like."""
    return SHORT.get(t[7:-1], t[7:-1]) if t.startswith("tensor(") else None


def limits(a, version, folder):
    """Newest IR version, opset of ai.onnx and of ai.onnx.ml that the version loads."""

    def newest(make, numbers):
        paths = []
        for n in numbers:
            paths.append(f"{folder}/{n}.onnx")
            with open(paths[-1], "wb") as f:
                f.write(make(n).SerializeToString())
        loaded = python(a, version, LOAD, json.dumps(paths))
        return max(n for n, p in zip(numbers, paths) if not loaded[p])

    value = lambda n: helper.make_tensor_value_info(n, TensorProto.FLOAT, [1])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "g", [value("x")], [value("y")])
    binarizer = helper.make_graph([helper.make_node("Binarizer", ["x"], ["y"], domain="ai.onnx.ml")], "g", [value("x")], [value("y")])
    model = lambda ir, opset: helper.make_model(graph, ir_version=ir, opset_imports=[helper.make_opsetid("", opset)])
    ml = lambda v: helper.make_model(binarizer, ir_version=8, opset_imports=[helper.make_opsetid("", 13), helper.make_opsetid("ai.onnx.ml", v)])
    return newest(lambda n: model(n, 11), range(3, 16)), newest(lambda n: model(8, n), range(9, 31)), newest(ml, range(1, 7))


def ranges(minors, everything):
    """`15-20,23` for a set of versions."""
    out, at = [], [i for i, m in enumerate(everything) if m in minors]
    while at:
        n = 1
        while n < len(at) and at[n] == at[0] + n:
            n += 1
        first, last = everything[at[0]], everything[at[n - 1]]
        out.append(str(first) if first == last else f"{first}-{last}")
        at = at[n:]
    return ",".join(out)


def table(a):
    import tempfile

    functions = {
        (s.domain, s.name, s.since_version)
        for s in onnx.defs.get_all_schemas_with_history()
        if s.has_function or s.has_context_dependent_function
    }
    versions = [v for v in VERSIONS if os.path.isdir(f"{a.ort}/{v}")]
    minors = [int(v.split(".")[1]) for v in versions]
    head, kernels, schemas = [], {}, {}
    for version, minor in zip(versions, minors):
        with tempfile.TemporaryDirectory() as tmp:
            ir, opset, ml = limits(a, version, tmp)
        head.append(f"version\t{minor}\t{version}\t{ir}\t{opset}\t{ml}")
        try:
            dump = python(a, version, DUMP)
        except RuntimeError:
            # Packages before 1.17 do not list their kernels: those of the next that does, up to their own newest opset.
            dump = python(a, next(v for v in versions if int(v.split(".")[1]) >= 17), DUMP)
            newest = {"": opset, "ai.onnx": opset, "ai.onnx.ml": ml}
            for rows, at in (("kernels", 2), ("schemas", 2)):
                dump[rows] = [r for r in dump[rows] if r[at] <= newest.get(r[0], 1)]
        for domain, op, since, until, types in dump["kernels"]:
            listed = []
            for name, allowed in sorted(types.items()):
                known = sorted({short(t) for t in allowed} - {None})
                # A constraint that takes sequences alone says nothing of tensors.
                if known and len(known) == len(allowed):
                    listed.append(f"{name}={','.join(known)}")
                elif known:
                    listed.append(f"{name}={','.join(known)},other")
            row = (domain, op, since, until if until < 10**6 else 0, ";".join(listed))
            kernels.setdefault(row, set()).add(minor)
        for domain, op, since, inputs, outputs, gone in dump["schemas"]:
            mark = "deprecated" if gone else "function" if (domain, op, since) in functions else "-"
            schemas.setdefault((domain, op, since, ",".join(inputs), ",".join(outputs), mark), set()).add(minor)
        print(version, ir, opset, ml, len(dump["kernels"]), flush=True)
    with open(f"{a.write}/onnxruntime.tsv", "w") as f:
        f.write("# What each onnxruntime 1.x (CPU) says of itself, written by tests/python/acceptance.py. Rows:\n")
        f.write("# version: minor, package, newest IR version, newest opset of ai.onnx, of ai.onnx.ml\n")
        f.write("# schema: minors, domain, operator, opset, types of inputs (* repeats), of outputs, function or deprecated\n")
        f.write("# kernel: minors, domain, operator, first opset, last (0: open), element types per type\n")
        f.writelines(h + "\n" for h in head)
        for row, seen in sorted(schemas.items()):
            f.write("\t".join(["schema", ranges(seen, minors), *map(str, row)]) + "\n")
        for row, seen in sorted(kernels.items()):
            f.write("\t".join(["kernel", ranges(seen, minors), *map(str, row)]) + "\n")
    with open(f"{a.write}/openvino.tsv", "w") as f:
        f.write("# Operators of OpenVINO's ONNX frontend by openvinotoolkit/openvino, src/frontends/onnx/docs/supported_ops.md (commit 0ae60f0):\n")
        f.write("# domain, operator, limitation. Opsets up to 23.\n")
        newest = {s.name for s in onnx.defs.get_all_schemas_with_history() if s.domain == "" and s.since_version <= 23}
        limited = {"ConcatFromSequence"} | {o for o in newest if o.startswith("Sequence")}
        for op in sorted(newest - set(OPENVINO_NOT)):
            f.write(f"\t{op}" + ("\tonly in certain patterns" if op in limited else "") + "\n")
        f.writelines(f"com.microsoft\t{op}\n" for op in OPENVINO_MICROSOFT)
        f.write("ai.onnx.ml\tNormalizer\n")


OPENVINO_NOT = (
    "Bernoulli DeformConv Det ImageDecoder LpPool MaxUnpool MelWeightMatrix Optional OptionalGetElement OptionalHasElement RegexFullMatch "
    "SequenceMap StringConcat StringNormalizer StringSplit TfIdfVectorizer"
).split()
OPENVINO_MICROSOFT = (
    "Attention BiasAdd BiasGelu BifurcationDetector DequantizeLinear DynamicQuantizeMatMul EmbedLayerNormalization FastGelu FusedConv FusedGemm "
    "FusedMatMul GatherND Gelu GroupNorm GroupQueryAttention MatMulIntegerToFloat MatMulNBits Pad QLinearAdd QLinearAveragePool QLinearConcat "
    "QLinearLeakyRelu QLinearMul QLinearReduceMean QLinearSigmoid QLinearSoftmax QLinearWhere QuantizeLinear QuickGelu Range RotaryEmbedding "
    "SimplifiedLayerNormalization SkipLayerNormalization SkipSimplifiedLayerNormalization Trilu"
).split()


def offered():
    """The newest patch of each minor version that PyPI offers for this Python; `None` where it cannot be asked."""
    p = subprocess.run([sys.executable, "-m", "pip", "index", "versions", "onnxruntime"], capture_output=True, text=True)
    line = next((l for l in p.stdout.splitlines() if l.startswith("Available versions:")), None)
    if line is None:
        return None
    newest = {}
    for v in line.split(":")[1].split(","):
        newest.setdefault(v.strip().rsplit(".", 1)[0], v.strip())
    return sorted(newest.values(), key=lambda v: [int(n) for n in v.split(".")])


def test(a):
    on_pypi = offered()
    if on_pypi is None:
        print("the package index was not reached: whether it offers other versions is not known")
    elif on_pypi != VERSIONS:
        sys.exit(f"the package index offers {' '.join(on_pypi)}: change VERSIONS, and make the tables anew (`cargo xtask acceptance write`)")
    minors = a.versions.split(",")
    versions = [next(v for v in VERSIONS if v.startswith(m + ".")) for m in minors]
    paths = sorted(f"{a.onnx_cases}/{s}/{c}/model.onnx" for s in ("node", "simple", "light", "pytorch-converted", "pytorch-operator") for c in os.listdir(f"{a.onnx_cases}/{s}"))
    paths = [p for p in paths if not a.only or a.only in p]
    loaded = {m: python(a, v, LOAD, json.dumps(paths)) for m, v in zip(minors, versions)}
    wrong = {m: [] for m in minors}
    unread = 0
    for path in paths:
        p = subprocess.run([a.oxrt, "check", path, "--json", *(x for m in minors for x in ("--for", f"onnxruntime={m}"))], capture_output=True, text=True)
        try:
            said = {t["version"].rsplit(".", 1)[0]: t for t in json.loads(p.stdout)["targets"]}
        except (ValueError, KeyError):
            unread += 1
            print(f"{path}: {p.stderr[:200]}")
            continue
        for m in minors:
            if said[m]["accepted"] != (loaded[m][path] == ""):
                wrong[m].append(path)
                print(f"{m}\t{path.split('/')[-2]}\tsaid {'yes' if said[m]['accepted'] else [q['what'] for q in said[m]['problems']]}\tis {loaded[m][path] or 'yes'}"[:400], flush=True)
    for m in minors:
        yes = sum(not e for e in loaded[m].values())
        print(f"onnxruntime {m}: {len(paths)} files, {yes} load; predicted wrongly: {len(wrong[m])}")
    print(f"not read by oxrt: {unread}")
    sys.exit(any(len(w) > 0.01 * len(paths) for w in wrong.values()) or unread > 0)


def fetch(a):
    for v in VERSIONS:
        if not os.path.isdir(f"{a.ort}/{v}"):
            numpy = "numpy<2" if int(v.split(".")[1]) < 19 else "numpy"
            pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps", "--target", f"{a.ort}/{v}.part"]
            subprocess.run([*pip, f"onnxruntime=={v}", numpy], check=True)
            os.rename(f"{a.ort}/{v}.part", f"{a.ort}/{v}")


if __name__ == "__main__":
    ap = argparse.ArgumentParser()
    ap.add_argument("what", choices=["fetch", "table", "test"])
    ap.add_argument("--ort", required=True)
    ap.add_argument("--write")
    ap.add_argument("--oxrt")
    ap.add_argument("--onnx-cases")
    ap.add_argument("--versions", default="1.15,1.32")
    ap.add_argument("--only")
    args = ap.parse_args()
    dict(fetch=fetch, table=table, test=test)[args.what](args)
