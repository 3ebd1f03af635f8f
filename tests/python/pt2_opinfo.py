"""Measures which of torch's own operator samples (OpInfo) convert and compute what eager PyTorch does.

    python pt2_opinfo.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv [--samples 4] [--dtypes float32,int64,bool]
        [--list FILE] [--check FILE] [OPERATOR…]

Every sample is exported with torch.export, converted, and judged as `pt2_judge.py` does: checker, onnxruntime, engine. Programs
are exported once and kept in DIR. `--list` writes the operators that do not pass completely, each with its reason;
`--check` compares with such a list and fails when an operator passes less than it says.
"""
import argparse
import collections
import json
import os
import re
import sys

import torch
from pt2_judge import forked, judge, passed, warm_up
from torch.testing._internal.common_methods_invocations import op_db
from torch.utils import _pytree as pytree

# Results are random: only shapes and types are compared.
RANDOM = re.compile(r"dropout(?!_backward)|multi_head_attention_forward|^(bernoulli|multinomial|normal|rand.*|.*rrelu|cauchy|exponential|geometric|log_normal|uniform|poisson|.*fractional_max_pool..|empty.*|new_empty.*)$")
# What is not determined by the mathematics: signs or bases of vectors.
AMBIGUOUS = {"linalg.eigh", "linalg.svd", "svd", "svd_lowrank", "pca_lowrank", "linalg.eig", "geqrf", "linalg.lstsq"}


# Among equal values torch leaves open which place is named; floats hardly ever are equal.
TIES = {"topk", "kthvalue", "mode", "sort", "msort", "median", "nanmedian", "max", "min"}


class Call(torch.nn.Module):
    """One call of an operator: tensors are inputs, everything else is fixed."""

    def __init__(self, op, spec, leaves):
        super().__init__()
        self.op, self.spec = op, spec
        self.leaves = [None if isinstance(v, torch.Tensor) else v for v in leaves]

    def forward(self, *tensors):
        tensors = iter(tensors)
        leaves = [next(tensors) if fixed is None and self.is_tensor[i] else fixed for i, fixed in enumerate(self.leaves)]
        args, kwargs = pytree.tree_unflatten(leaves, self.spec)
        return self.op(*args, **kwargs)


def name_of(op):
    return op.name + (f".{op.variant_test_name}" if op.variant_test_name else "")


def pick(samples, count):
    """Samples spread over the list: the ends and what lies between."""
    if len(samples) <= count:
        return samples
    return [samples[i * (len(samples) - 1) // max(count - 1, 1)] for i in range(count)]


def make(op, dtype, count, folder):
    """Exports up to `count` samples; what became of each."""
    torch.manual_seed(0)
    made = []
    for k, sample in enumerate(pick(list(op.sample_inputs("cpu", dtype, requires_grad=False)), count)):
        place = f"{folder}/{k}"
        os.makedirs(place, exist_ok=True)
        leaves, spec = pytree.tree_flatten(((sample.input, *sample.args), sample.kwargs))
        call = Call(op.op, spec, leaves)
        call.is_tensor = [isinstance(v, torch.Tensor) for v in leaves]
        tensors = tuple(v.detach().clone() for v in leaves if isinstance(v, torch.Tensor))
        try:
            with torch.no_grad():
                want = call(*(t.clone() for t in tensors))
                program = torch.export.export(call.eval(), tuple(t.clone() for t in tensors))
                # A program that torch itself refuses to run on its own example has no result to compare with.
                program.module()(*(t.clone() for t in tensors))
            torch.export.save(program, f"{place}/model.pt2")
            flat = []
            for v in pytree.tree_leaves(want):
                if isinstance(v, torch.Tensor):
                    flat.append(v)
                elif isinstance(v, (bool, int, float)):
                    flat.append(torch.tensor(v))
            torch.save(dict(inputs=list(tensors), number=[False] * len(tensors), outputs=flat, note=""), f"{place}/set0.pt")
            made.append("ok")
        except Exception as e:
            made.append(f"{type(e).__name__}: {str(e)[:200]}")
    return made


def reason(row):
    for step in ("error", "export", "checker", "ort", "engine"):
        if step in row and not row[step].startswith("ok"):
            text = row[step].replace("\n", " ")
            text = re.sub(r"\|   at .*", "", text)
            text = re.sub(r"error: unsupported: \d+ kinds? of operation \(\d+ nodes?\) cannot be lowered: \|\s*", "", text)
            text = re.sub(r"/[^ ]*/[^ ]*", "…", re.sub(", first .*", "", text))
            return f"{step}: {text}"[:200]
    return ""


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--samples", type=int, default=4)
    ap.add_argument("--dtypes", default="float32,int64,bool")
    ap.add_argument("--list")
    ap.add_argument("--check")
    ap.add_argument("--failed-only", action="store_true", help="only operators that did not pass in RESULTS.tsv")
    ap.add_argument("operators", nargs="*")
    a = ap.parse_args()
    torch.set_num_threads(1)
    warm_up()
    rows = {}
    if os.path.exists(a.out):
        for line in open(a.out).read().splitlines()[1:]:
            x = line.split("\t")
            rows[x[0], x[1]] = [int(x[2]), int(x[3]), int(x[4]), x[5]]
    seen = set()
    for op in op_db:
        name = name_of(op)
        if a.operators and name not in a.operators and op.name not in a.operators or name in seen:
            continue
        seen.add(name)
        for dtype_name in a.dtypes.split(","):
            dtype = getattr(torch, dtype_name)
            key = (name, dtype_name)
            if dtype not in op.dtypes or a.failed_only and (key not in rows or rows[key][1] == rows[key][2]):
                continue
            folder = f"{a.cases}/{name}/{dtype_name}-{a.samples}"
            if not os.path.exists(f"{folder}/made.json"):
                os.makedirs(folder, exist_ok=True)
                made = forked(lambda: make(op, dtype, a.samples, folder), 240)
                json.dump(made, open(f"{folder}/made.json", "w"))
            made = json.load(open(f"{folder}/made.json"))
            if isinstance(made, dict):
                rows[key] = [0, 0, 0, "torch: " + made["error"]]
                continue
            shapes_only = bool(RANDOM.search(op.name)) or op.name in AMBIGUOUS or op.name == "argsort" and dtype_name == "bool"
            if op.name in ("resize_", "resize_as_"):
                shapes_only = "kept"
            if op.name in TIES and not dtype.is_floating_point:
                shapes_only = "first"

            def judge_all():
                return [judge(a.oxrt, f"{folder}/{k}", shapes_only, 60, simplify=False) for k, m in enumerate(made) if m == "ok"]

            results = forked(judge_all, 300)
            if isinstance(results, dict):
                results = [results]
            good = sum(passed(r) for r in results)
            why = next((reason(r) for r in results if not passed(r)), "")
            refused = next((m for m in made if m != "ok"), "")
            rows[key] = [len(made), len(results), good, (why or ("torch.export: " + refused if refused else "")).replace("\t", " ").replace("\n", " ")]
            if good < len(results):
                print(f"{name} {dtype_name}: {good} of {len(results)}: {why}", flush=True)
        with open(a.out + ".new", "w") as f:
            f.write("operator\tdtype\tsamples\texported\tpassed\tnote\n")
            for (n, d), r in sorted(rows.items()):
                f.write(f"{n}\t{d}\t{r[0]}\t{r[1]}\t{r[2]}\t{r[3]}\n")
        os.replace(a.out + ".new", a.out)
    total = collections.Counter()
    for r in rows.values():
        total["samples"] += r[0]
        total["exported"] += r[1]
        total["passed"] += r[2]
        if r[1]:
            total["operators"] += 1
            total["complete"] += r[1] == r[2]
            if r[2]:
                total["covered"] += r[1]
                total["covered passed"] += r[2]
    print(dict(total))
    worse = []
    if a.check:
        allowed = {}
        for line in open(a.check).read().splitlines()[1:]:
            x = line.split("\t")
            allowed[x[0], x[1]] = int(x[3])
        worse = [f"{n} {d}: {r[2]} of {r[1]} pass" for (n, d), r in rows.items() if r[2] < allowed.get((n, d), r[1])]
        print("\n".join(worse))
    if a.list:
        with open(a.list, "w") as f:
            f.write("operator\tdtype\texported\tpassed\treason\n")
            for (n, d), r in sorted(rows.items()):
                if r[2] < r[1]:
                    f.write(f"{n}\t{d}\t{r[1]}\t{r[2]}\t{r[3]}\n")
    sys.exit(bool(worse))


if __name__ == "__main__":
    main()
