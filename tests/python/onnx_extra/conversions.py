"""`oxrt convert-opset` over the official node cases: what it writes must pass onnx.checker, and give the expected outputs by
onnxruntime, or by onnx's reference evaluator.

    python tests/python/onnx_extra/conversions.py --oxrt target/fast/oxrt [--per-operator 2] [--only REGEX]

With `--official FOLDER` (as onnx_cases.py writes it) every official case is converted instead, whole models, sequences and
optionals included, and judged by a run of oxrt, and of onnxruntime wherever that agrees about the original.

Declined models are counted with their reasons; anything else that goes wrong fails.
"""
import argparse
import collections
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from core import Case, compare, judge, load, run_ort, to_proto
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from suite_opsets import LEFT_OUT

TARGETS = [1, 3, 5, 6, 7, 9, 11, 13, 15, 17, 18, 19, 20, 21, 23, 25, 28]
# What onnxruntime says where it is no judge: it has no such version, or puts a Cast of today into a model of old.
SILENT = ("NOT_IMPLEMENTED", "InsertedPrecisionFreeCast")


def as_case(name, folder, model, fed, outputs):
    """A case on disk, as a run of oxrt wants it."""
    place = folder / "case"
    data = place / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    for kind, values in (("input", fed.values()), ("output", outputs)):
        for i, value in enumerate(values):
            (data / f"{kind}_{i}.pb").write_bytes(to_proto(value, "").SerializeToString())
    (place / "model.onnx").write_bytes(model.read_bytes())
    return Case(name, place, 1e-2, 1e-3)


def cases():
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        model = case.model
        if model is None or not case.data_sets or any(o.domain for o in model.opset_import) or case.name.endswith("_expanded"):
            continue
        unpacked = [[numpy_helper.to_array(d) if isinstance(d, onnx.TensorProto) else d for d in part] for part in case.data_sets[0]]
        if all(isinstance(d, (np.ndarray, np.generic)) for part in unpacked for d in part):
            yield case.name, model, *unpacked


def converted(args, source, opset, target):
    """(what is wrong, why it is declined): nothing where the model was written."""
    done = subprocess.run([args.oxrt, "convert-opset", source, "--opset", str(opset), "-o", target, "--no-check"], capture_output=True, text=True)
    if done.returncode == 2:
        lines = done.stderr.splitlines()
        named = any(line.startswith("  at ") or "node" in line for line in lines)
        return None, next((line for line in lines if line.startswith("error")), "?") + ("" if named else " (no node named)")
    if done.returncode:
        return f"exit {done.returncode}: {done.stderr.strip()[:200]}", None
    return None, None


# A whole picture network in the checker's own shape inference takes long and says nothing more.
WHOLE = ("light",)


def official(args):
    manifest = json.loads((args.official / "manifest.json").read_text())["cases"]
    right, by_ort, declined, wrong = collections.Counter(), 0, collections.defaultdict(collections.Counter), []
    for row in manifest:
        folder = args.official / row["suite"] / row["name"]
        if not re.search(args.only, f"{row['suite']}/{row['name']}"):
            continue
        model = onnx.load(folder / "model.onnx")
        data = folder / "test_data_set_0"
        # A last place of bfloat16 is the 128th part at most; both sides may be off by one.
        rounded = any(o.type.tensor_type.elem_type == onnx.TensorProto.BFLOAT16 for o in model.graph.output)
        case = Case(row["name"], folder, max(row["rtol"], 1e-3, 2**-6 if rounded else 0), max(row["atol"], 1e-5))
        tensors = all(i.type.HasField("tensor_type") for i in [*model.graph.input, *model.graph.output])
        fed = wanted = None
        if tensors and not row["random"] and row["suite"] not in WHOLE:
            kept = {i.name for i in model.graph.initializer}
            infos = [i for i in model.graph.input if i.name not in kept] if not (data / f"input_{len(model.graph.input) - 1}.pb").exists() else model.graph.input
            fed = {i.name: numpy_helper.to_array(load(data / f"input_{k}.pb", i)) for k, i in enumerate(infos)}
            wanted = [load(data / f"output_{k}.pb", i) for k, i in enumerate(model.graph.output)]
            if ort_disagrees(model, fed, wanted, case):
                fed = None
        with tempfile.TemporaryDirectory() as where:
            place = Path(where)
            (place / "test_data_set_0").symlink_to(data.resolve())
            for opset in args.targets:
                target = place / "model.onnx"
                problem, reason = converted(args, folder / "model.onnx", opset, target)
                if reason:
                    declined[opset][reason] += 1
                    continue
                if not problem and not row["random"]:
                    problem = judge(args.oxrt, Case(row["name"], place, case.rtol, case.atol), "cpu")
                if not problem:
                    problem = checked(target)
                if not problem and fed is not None:
                    problem = ort_disagrees(onnx.load(target), fed, wanted, case)
                    by_ort += not problem
                    problem = None if problem and any(s in problem for s in SILENT) else problem
                if problem:
                    wrong.append(f"{row['suite']}/{row['name']} to {opset}: {problem}")
                    print(wrong[-1], flush=True)
                else:
                    right[opset] += 1
    for opset in args.targets:
        print(f"opset {opset}: {right[opset]} right, {sum(declined[opset].values())} declined")
        for reason, n in declined[opset].most_common():
            print(f"  {n} × {reason}")
    print(f"{sum(right.values())} conversions are right ({by_ort} of them by onnxruntime too), "
          f"{sum(sum(d.values()) for d in declined.values())} are declined, {len(wrong)} are wrong")
    sys.exit(bool(wrong))


def checked(path):
    """What onnx.checker has against a file."""
    try:
        onnx.checker.check_model(str(path))
    except Exception as e:  # whatever it raises is its answer
        return f"checker: {' '.join(str(e).split())[:200]}"
    return None


def ort_disagrees(model, fed, wanted, case):
    try:
        got = run_ort(model, fed)
    except Exception as e:  # whatever it raises is its answer
        return f"onnxruntime: {str(e).splitlines()[0][:200]}"
    return next((f"onnxruntime: {p}" for g, w in zip(got, wanted) if (p := compare(to_proto(g, ""), w, case))), None)


def agrees(model, fed, outputs):
    """None, or why no judge agrees."""
    problems = []
    for judge in (run_ort, lambda m, f: ReferenceEvaluator(m).run(None, f)):
        try:
            got = judge(model, fed)
        except Exception as e:
            problems.append(str(e).splitlines()[0][:150])
            continue
        loose = Case("", Path(), 1e-2, 1e-3)
        bad = [p for g, w in zip(got, outputs) if (p := compare(to_proto(g, ""), to_proto(w, ""), loose))]
        if not bad:
            return None
        problems.append(bad[0])
    return " / ".join(problems)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--per-operator", type=int, default=2)
    p.add_argument("--only", default="")
    p.add_argument("--official", type=Path)
    p.add_argument("--targets", type=lambda text: [int(t) for t in text.split(",")], default=[1, 5, 6, 9, 13, 18, 28])
    args = p.parse_args()
    if args.official:
        official(args)
    seen, right, by_itself, declined, wrong = collections.Counter(), 0, 0, collections.Counter(), []
    for name, model, inputs, outputs in cases():
        op = model.graph.node[0].op_type
        if op in LEFT_OUT or "training" in name or not re.search(args.only, name) or seen[op] >= args.per_operator:
            continue
        fed = {i.name: np.asarray(d) for i, d in zip(model.graph.input, inputs)}
        try:
            onnx.checker.check_model(model, full_check=True)
        except Exception:
            continue
        if agrees(model, fed, outputs):
            continue
        seen[op] += 1
        with tempfile.TemporaryDirectory() as folder:
            source = Path(folder) / "source.onnx"
            onnx.save(model, source)
            for opset in TARGETS:
                target = Path(folder) / f"{opset}.onnx"
                problem, reason = converted(args, source, opset, target)
                if reason:
                    declined[f"{opset}: {reason}"] += 1
                    continue
                key = f"{name} to {opset}"
                if problem:
                    wrong.append(f"{key}: {problem}")
                    continue
                written = onnx.load(target)
                try:
                    onnx.checker.check_model(written, full_check=True)
                except Exception as e:
                    wrong.append(f"{key}: checker: {' '.join(str(e).split())[:200]}")
                    continue
                problem = agrees(written, fed, outputs)
                if problem and opset < 7 and any(s in problem for s in SILENT):
                    problem = judge(args.oxrt, as_case(name, Path(folder), target, fed, outputs), "cpu")
                    by_itself += not problem
                if problem:
                    wrong.append(f"{key}: {problem}")
                else:
                    right += 1
    for w in wrong:
        print(w)
    print(f"{right} conversions are right ({by_itself} of versions that no other program has, by oxrt alone), "
          f"{sum(declined.values())} are declined, {len(wrong)} are wrong")
    if args.only:
        for reason, n in sorted(declined.items()):
            print(f"  {n} × {reason}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
