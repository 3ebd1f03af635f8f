"""`oxrt convert-opset` over the official node cases: what it writes must pass onnx.checker, and give the expected outputs by
onnxruntime, or by onnx's reference evaluator.

    python tests/python/onnx_extra/conversions.py --oxrt target/fast/oxrt [--per-operator 2] [--only REGEX]

Declined models are counted with their reasons; anything else that goes wrong fails.
"""
import argparse
import collections
import re
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import onnx
from core import Case, compare, run_ort, to_proto
from onnx import numpy_helper
from onnx.reference import ReferenceEvaluator
from suite_opsets import LEFT_OUT

TARGETS = [7, 9, 11, 13, 15, 17, 18, 19, 20, 21, 23, 25, 28]



def cases():
    from onnx.backend.test.case.node import collect_testcases

    for case in collect_testcases(None):
        model = case.model
        if model is None or not case.data_sets or any(o.domain for o in model.opset_import) or case.name.endswith("_expanded"):
            continue
        unpacked = [[numpy_helper.to_array(d) if isinstance(d, onnx.TensorProto) else d for d in part] for part in case.data_sets[0]]
        if all(isinstance(d, (np.ndarray, np.generic)) for part in unpacked for d in part):
            yield case.name, model, *unpacked


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
    args = p.parse_args()
    seen, right, declined, wrong = collections.Counter(), 0, collections.Counter(), []
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
                done = subprocess.run([args.oxrt, "convert-opset", source, "--opset", str(opset), "-o", target, "--no-check"], capture_output=True, text=True)
                if done.returncode == 2:
                    reason = next((line for line in done.stderr.splitlines() if line.startswith("error")), "?")
                    declined[f"{opset}: {reason}"] += 1
                    continue
                key = f"{name} to {opset}"
                if done.returncode:
                    wrong.append(f"{key}: exit {done.returncode}: {done.stderr.strip()[:200]}")
                    continue
                written = onnx.load(target)
                try:
                    onnx.checker.check_model(written, full_check=True)
                except Exception as e:
                    wrong.append(f"{key}: checker: {' '.join(str(e).split())[:200]}")
                    continue
                problem = agrees(written, fed, outputs)
                if problem:
                    wrong.append(f"{key}: {problem}")
                else:
                    right += 1
    for w in wrong:
        print(w)
    print(f"{right} conversions are right, {sum(declined.values())} are declined, {len(wrong)} are wrong")
    if args.only:
        for reason, n in sorted(declined.items()):
            print(f"  {n} × {reason}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
