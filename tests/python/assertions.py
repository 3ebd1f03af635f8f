"""Assertions of exported programs through oxrt: what PyTorch refuses, oxrt must refuse, with message and Python line.

    python tests/python/assertions.py --oxrt target/fast/oxrt

(The line of what stands inside a branch is one of torch's own making.) Each case has a model, inputs that it takes and inputs that it refuses, with what the message must say. The program is
exported in the three forms (as written, functional, core ATen). Checked: eager PyTorch agrees about every input;
`oxrt run` on the .pt2 and on the ONNX file that `oxrt export` wrote takes and refuses the same; onnx.checker and onnxruntime
take the ONNX file; `--no-checks` lets every input through. One line per case; the exit code is 1 when any fails.
"""
import argparse
import pathlib
import subprocess
import sys
import tempfile
import traceback
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
import torch

torch.set_num_threads(1)
onnxruntime.set_default_logger_severity(4)
AUTO = torch.export.Dim.AUTO
CASES = {}


def case(good, bad, dynamic=None, forms=("none", "functional", "core")):
    def register(make):
        CASES[make.__name__] = (make, good, bad, dynamic, forms)
        return make

    return register


V, I = lambda *x: torch.tensor(x, dtype=torch.float32), lambda x: torch.tensor(x)


@case([(V(1, 2),), (V(3, 4),)], [((V(-1, 2),), "x must be positive")])
class Async(torch.nn.Module):
    def forward(self, x):
        torch._assert_async((x > 0).all(), "x must be positive")
        return x * 2


@case([(V(1, 2, 3, 4), I(3)), (V(1, 2, 3, 4), I(2))], [((V(1, 2, 3, 4), I(1)), "u0 >= 2"), ((V(1, 2, 3, 4), I(5)), "u0 <= 4"), ((V(1, 2, 3, 4), I(-1)), "u0 >= ")])
class Item(torch.nn.Module):
    def forward(self, x, n):
        k = n.item()
        torch._check(k >= 2)
        torch._check(k <= 4)
        return x[:k] + 1


@case([(V(1, 2, 3), I(2)), (V(1, 2, 3, 4, 5), I(5))], [((V(1, 2, 3), I(4)), "u0 <= batch")], ({0: AUTO}, None))
class ItemAndSize(torch.nn.Module):
    def forward(self, x, n):
        k = n.item()
        torch._check(k >= 0)
        torch._check(k <= x.shape[0])
        return x[:k] * 3


@case([(V(1, 0, 3),), (V(1, 2, 3),)], [((V(0, 0, 3),), "u0 >= 2")])
class NonZero(torch.nn.Module):
    def forward(self, x):
        z = torch.nonzero(x)
        torch._check(z.shape[0] >= 2)
        return z


@case([(V(1, 2, 3), I(5))], [((V(1, 2, 3), I(7)), "must be 5")])
class UnreadNumber(torch.nn.Module):
    def forward(self, x, n):
        torch._check(n.item() == 5)
        return x.relu()


@case([(torch.ones(2, 4),), (torch.ones(3, 6),)], [((torch.ones(2, 5),), "x_dim1 = 5 breaks")], ({0: AUTO, 1: AUTO},))
class BranchOnSize(torch.nn.Module):
    def forward(self, x):
        return x.relu() if x.shape[1] % 2 == 0 else x.neg()


@case([(V(1, 2), torch.tensor(True)), (V(-3, 2), torch.tensor(False))], [((V(-3, 2), torch.tensor(True)), "sum")])
class InABranch(torch.nn.Module):
    def forward(self, x, c):
        def yes(x):
            torch._assert_async(x.sum() > 0, "the sum must be positive")
            return x + 1

        return torch.cond(c, yes, lambda x: x - 1, (x,))


def run(oxrt, file, names, inputs, tmp, *options):
    np.savez(tmp / "in.npz", **{n: t.numpy() for n, t in zip(names, inputs)})
    given = [x for n in names for x in ("--in", f"{n}={tmp}/in.npz")]
    out = [x for x in ("--out", f"={tmp}/out.npz")]
    for old in tmp.glob("out.npz"):
        old.unlink()
    p = subprocess.run([oxrt, "run", str(file), *given, *options, "--out", str(tmp / "out.npz")], capture_output=True, text=True)
    if p.returncode:
        return p.stderr, None
    return "", list(np.load(tmp / "out.npz").values())


def check(oxrt, name, form, tmp):
    make, good, bad, dynamic, _ = CASES[name]
    model = make().eval()
    program = torch.export.export(model, good[0], dynamic_shapes=dynamic)
    if form != "none":
        program = program.run_decompositions({} if form == "functional" else None)
    torch.export.save(program, tmp / "m.pt2")
    p = subprocess.run([oxrt, "export", str(tmp / "m.pt2"), "-o", str(tmp / "m.onnx")], capture_output=True, text=True)
    if p.returncode:
        return p.stderr
    onnx.checker.check_model(str(tmp / "m.onnx"), full_check=True)
    session = onnxruntime.InferenceSession(str(tmp / "m.onnx"))
    names = [i.name for i in session.get_inputs()]
    for inputs in good:
        want = program.module()(*inputs).numpy()
        for file in ("m.pt2", "m.onnx"):
            error, got = run(oxrt, tmp / file, names, inputs, tmp)
            if error or not np.allclose(got[0], want):
                return f"{file}: {error or got} for {want}"
        (got,) = session.run(None, {n: t.numpy() for n, t in zip(names, inputs)})
        if not np.allclose(got, want):
            return f"onnxruntime: {got} for {want}"
    for inputs, message in bad:
        try:
            program.module()(*inputs)
            return f"PyTorch takes {inputs}"
        except Exception:
            pass
        for file in ("m.pt2", "m.onnx"):
            error, got = run(oxrt, tmp / file, names, inputs, tmp)
            line = "breaks" in message or "sum" in message or "assertions.py:" in error
            if message not in error or not line or "panicked" in error:
                return f"{file} says {error!r}, {message!r} and the line are asked for ({got})"
            error, got = run(oxrt, tmp / file, names, inputs, tmp, "--no-checks")
            if "check of the model" in error or "breaks" in error:
                return f"{file} with --no-checks: {error}"
    return ""


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--only", default="")
    ap.add_argument("--cases", help="folder to keep the programs in; by default one that goes away")
    a = ap.parse_args()
    failed = passed = 0
    with tempfile.TemporaryDirectory() as tmp:
        if a.cases:
            tmp = a.cases
            pathlib.Path(tmp).mkdir(parents=True, exist_ok=True)
        for name, (*_, forms) in CASES.items():
            for form in forms:
                if a.only not in name:
                    continue
                try:
                    problem = check(str(pathlib.Path(a.oxrt).resolve()), name, form, pathlib.Path(tmp))
                except Exception:
                    problem = traceback.format_exc(limit=3)
                print(f"{'ok  ' if not problem else 'FAIL'} {name} {form} {problem}", flush=True)
                passed, failed = passed + (not problem), failed + bool(problem)
    print(f"{passed} passed, {failed} failed")
    sys.exit(failed > 0)


if __name__ == "__main__":
    main()
