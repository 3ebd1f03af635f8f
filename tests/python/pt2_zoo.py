"""Converts every model of a zoo that torch.export accepts, and compares ONNX file and engine with eager PyTorch.

    python pt2_zoo.py --zoo ZOO.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv
        [--peer peer.tsv] [--modes static,dynamic] [--forms none,functional,core] [--list FILE] [--keep] [--drop MB] [PREFIX…]

The zoo is a Python file with `ENTRIES`: id → entry with `make_model()`, `make_inputs(seed, alt)`, `inputs`, `sizes`, `alt`,
`compare`, `has_dyn`, and functions `dyn_spec`, `flat_tensors`, `eager`, `do_export`, `clone_tree`, `RNG`. Programs are exported
once and kept in DIR. With `--keep`, results that are in the file already and good are not made again. Per case: the example's
inputs, other values, and for dynamic programs two further sizes of every dynamic dimension (those that the exported
program itself accepts). `--list` names the cases and their order, a line each: id, mode, form. The zoo's custom operator gets its
meaning by `--functions`, as a user would give it (`docs/custom-operators.md`). The exit status is 1 when a program that torch accepts fails.
"""
import argparse
import importlib.util
import json
import os
import shutil
import sys
import time

import onnx
import torch
from onnx import helper
from pt2_judge import forked, judge, passed, same, to_numpy, warm_up
from torch.utils import _pytree as pytree

COLUMNS = "id family mode form program export checker ort checker_simple ort_simple engine nodes simple_nodes seconds simplify_seconds build_seconds".split()


def load_zoo(path):
    spec = importlib.util.spec_from_file_location("zoo", path)
    zoo = importlib.util.module_from_spec(spec)
    sys.modules["zoo"] = zoo
    spec.loader.exec_module(zoo)
    return zoo


def third_sizes(e):
    """Sizes that lie as far beyond the alternative ones as those lie from the example's."""
    out = {}
    for k, alt in e.alt.items():
        size = e.sizes.get(k)
        if isinstance(alt, int) and isinstance(size, int) and alt != size:
            out[k] = 2 * alt - size if 2 * alt - size > 0 else alt + size
        else:
            out[k] = alt
    return out


def make_case(zoo, e, dynamic, form, folder):
    """Exports the program and writes what eager PyTorch gives for each set of inputs."""
    os.makedirs(folder, exist_ok=True)
    started = time.time()
    try:
        _, _, _, program = zoo.do_export(e, dynamic)
        if form != "none":
            program = program.run_decompositions({} if form == "functional" else None)
        torch.export.save(program, f"{folder}/model.pt2")
    except Exception as error:
        return {"refused": f"{type(error).__name__}: {str(error)[:300]}"}
    inputs = [e.make_inputs(), e.make_inputs(seed=1)]
    if dynamic:
        inputs.append(e.make_inputs(seed=1, alt=True))
        try:
            inputs.append(e.inputs(zoo.RNG(1002), **{**e.sizes, **third_sizes(e)}))
        except Exception:
            pass
    for k, (args, kwargs) in enumerate(inputs):
        note, outputs = "", []
        try:
            torch.manual_seed(0)
            outputs = zoo.eager(e.make_model(), args, kwargs)
            # What the program does not accept (torch.export fixes sizes and checks them) need not be accepted here.
            torch.manual_seed(0)
            state = [(b, b.clone()) for _, b in program.named_buffers()]
            with torch.no_grad():
                traced = zoo.flat_tensors(program.module()(*zoo.clone_tree(args), **zoo.clone_tree(kwargs)))
                # A buffer that a run changes is for the next set what it was at first.
                for buffer, before in state:
                    # One that is written owns its memory; others may be expanded views, which cannot be copied to.
                    if not torch.equal(buffer, before):
                        buffer.copy_(before)
            if e.compare and same([to_numpy(t) for t in traced], outputs):
                # torch.export took another path than eager does (TransformerEncoder's): what was exported counts.
                outputs = traced
        except Exception as error:
            if k == 0:
                raise
            note = f"{type(error).__name__}: {str(error)[:300]}"
        leaves = [v for v in pytree.tree_leaves((args, kwargs)) if isinstance(v, (torch.Tensor, bool, int, float))]
        number = [not isinstance(v, torch.Tensor) for v in leaves]
        # Results that share memory under two types cannot be saved.
        outputs = [t.clone() for t in outputs]
        torch.save(dict(inputs=zoo.flat_tensors((args, kwargs)), number=number, outputs=outputs, note=note), f"{folder}/set{k}.pt")
    return {"seconds": round(time.time() - started, 2), "shapes_only": not e.compare}


def custom_functions(path):
    """Writes the ONNX functions that say what the custom operators of `CUSTOM` compute."""
    body = [helper.make_node("Mul", ["x", "w"], ["p"]), helper.make_node("Constant", [], ["a"]), helper.make_node("Add", ["p", "a"], ["y"])]
    alpha = body[1].attribute.add()
    alpha.name, alpha.ref_attr_name, alpha.type = "value_float", "alpha", onnx.AttributeProto.FLOAT
    function = helper.make_function("zoo", "scale_shift", ["x", "w"], ["y"], body, [helper.make_opsetid("", 18)], attributes=["alpha"])
    empty = helper.make_graph([], "none", [], [])
    onnx.save(helper.make_model(empty, functions=[function], opset_imports=[helper.make_opsetid("", 18), helper.make_opsetid("zoo", 1)]), path)
    return path


# Entries that call a custom operator.
CUSTOM = {"trap/custom_op"}


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--zoo", required=True)
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--peer", help="only what this table says torch.export accepts, cheapest first")
    ap.add_argument("--modes", default="static,dynamic")
    ap.add_argument("--forms", default="none")
    ap.add_argument("--list", help="the cases and their order, a line each: id, mode, form")
    ap.add_argument("--seconds", type=int, default=400)
    ap.add_argument("--make-only", action="store_true", help="only exports the programs")
    ap.add_argument("--made-only", action="store_true", help="only programs that are exported already")
    ap.add_argument("--keep", action="store_true")
    ap.add_argument("--drop", type=float, metavar="MB", help="deletes programs above this size once they passed; they are exported again when needed")
    ap.add_argument("prefixes", nargs="*")
    a = ap.parse_args()
    torch.set_num_threads(1)
    zoo = load_zoo(a.zoo)
    warm_up()
    ids = [i for i in zoo.ENTRIES if not a.prefixes or any(i.startswith(p) for p in a.prefixes)]
    accepted = None
    if a.peer:
        lines = [line.rstrip("\n").split("\t") for line in open(a.peer)]
        table = {x[0]: dict(zip(lines[0], x)) for x in lines[1:]}
        # Nothing is said of some: torch.export is asked.
        accepted = lambda i, dynamic: table.get(i, {}).get("export_dynamic" if dynamic else "export") in ("ok", "")
        ids.sort(key=lambda i: float(table.get(i, {}).get("onnx_seconds") or 5))
    rows = {}
    if os.path.exists(a.out):
        for line in open(a.out).read().splitlines()[1:]:
            x = dict(zip(COLUMNS, line.split("\t")))
            rows[x["id"], x["mode"], x["form"]] = x

    def save():
        with open(a.out + ".new", "w") as f:
            f.write("\t".join(COLUMNS) + "\n")
            for x in rows.values():
                f.write("\t".join(str(x.get(c, "")).replace("\t", " ").replace("\n", " ") for c in COLUMNS) + "\n")
        os.replace(a.out + ".new", a.out)

    cases = [(i, mode, form) for i in ids for mode in a.modes.split(",") for form in a.forms.split(",")]
    if a.list:
        cases = [tuple(line.split()) for line in open(a.list)]
    counts = {}
    for key in cases:
        i, mode, form = key
        e, dynamic, folder = zoo.ENTRIES[i], mode == "dynamic", f"{a.cases}/{i}/{mode}-{form}"
        if dynamic and not e.has_dyn or accepted and not accepted(i, dynamic):
            continue
        if a.keep and key in rows and passed(rows[key]):
            continue
        if not os.path.exists(f"{folder}/case.json"):
            if a.made_only:
                continue
            made = forked(lambda: make_case(zoo, e, dynamic, form, folder), a.seconds)
            os.makedirs(folder, exist_ok=True)
            json.dump(made, open(f"{folder}/case.json", "w"))
        made = json.load(open(f"{folder}/case.json"))
        if a.make_only:
            print(i, mode, form, made, flush=True)
            continue
        row = dict(id=i, family=e.family, mode=mode, form=form)
        if "error" in made or "refused" in made:
            row["program"] = made.get("error") or made["refused"]
            verdict = "refused"
        else:
            row["program"] = "ok"
            functions = custom_functions(f"{folder}/functions.onnx") if i in CUSTOM else None
            result = forked(lambda: judge(a.oxrt, folder, made["shapes_only"], functions=functions), a.seconds)
            row.update(result)
            if "error" in result:
                row["export"] = result["error"]
            verdict = "ok" if passed(row) else "BAD"
        if a.drop is not None and row["program"] == "ok" and passed(row) and os.path.getsize(f"{folder}/model.pt2") > a.drop * 1e6:
            shutil.rmtree(folder)
        rows[key] = row
        counts[verdict] = counts.get(verdict, 0) + 1
        if verdict != "ok":
            steps = {k: row[k][:400] for k in ("program", "export", "checker", "ort", "checker_simple", "ort_simple", "engine") if k in row and not row[k].startswith("ok")}
            print(f"{verdict} {i} {mode} {form} {steps}", flush=True)
        if len(rows) % 5 == 0:
            save()
    save()
    print(counts)
    sys.exit(bool(counts.get("BAD")))


if __name__ == "__main__":
    main()
