"""Files of torch's old tracer, in which sizes of the example are baked in: `oxrt repair` against eager PyTorch.

    python tests/python/repair.py --oxrt target/fast/oxrt --cases target/repair-cases [--only NAME]

Each model computes something from a size in Python. The file is repaired, checked, and run by onnxruntime at sizes
other than the example's. What cannot be repaired must be reported.
"""
import argparse
import json
import pathlib
import subprocess
import sys
import warnings

warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F

torch.set_num_threads(1)
CASES = {}


def case(shape, axes, example=None, expect="repaired", limit=None):
    """`axes` of x that are dynamic; `example`: sizes that the file does not betray and the user must tell."""

    def register(cls):
        CASES[cls.__name__] = (cls, shape, axes, example, expect, limit)
        return cls

    return register


BT = {0: "batch", 1: "time"}


@case((2, 3, 4), {0: "batch"})
class ViewOfInt(nn.Module):
    def forward(self, x):
        return x.view(int(x.size(0)), -1) * 2


@case((2, 6, 4), BT)
class ReshapeByList(nn.Module):
    def forward(self, x):
        b, t, c = (int(v) for v in x.shape)
        return x.reshape(b, t, 2, c // 2).transpose(1, 2).reshape(b, 2, t * (c // 2))


@case((3, 8, 8), BT, example="batch=3,time=8")
class ViewOfProduct(nn.Module):
    def forward(self, x):
        n = [int(v) for v in x.shape]
        return x.permute(1, 0, 2).contiguous().view(n[1] * n[0], n[2]).sum(1).view(n[1], n[0])


@case((2, 5, 8), {0: "batch"})
class ZeroState(nn.Module):
    def __init__(self):
        super().__init__()
        self.cell = nn.GRUCell(8, 8)

    def forward(self, x):
        h = torch.zeros(int(x.size(0)), 8)
        for t in range(5):
            h = self.cell(x[:, t], h)
        return h


@case((2, 5, 8), {0: "batch"})
class LstmState(nn.Module):
    def __init__(self):
        super().__init__()
        self.lstm = nn.LSTM(8, 6, batch_first=True)

    def forward(self, x):
        z = torch.zeros(1, int(x.size(0)), 6)
        return self.lstm(x, (z, z))[0]


@case((2, 7, 8), BT, limit=("time", 7))
class LearnedPositions(nn.Module):
    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(32, 8)

    def forward(self, x):
        return x + self.table(torch.arange(int(x.size(1))))


@case((2, 7, 8), BT)
class CountedPositions(nn.Module):
    def forward(self, x):
        return x + torch.arange(int(x.size(1)), dtype=torch.float32).unsqueeze(1) * 0.5


@case((2, 7, 8), BT)
class CausalMask(nn.Module):
    def forward(self, x):
        t = int(x.size(1))
        mask = torch.tril(torch.ones(t, t))
        return torch.softmax((x @ x.transpose(1, 2)).masked_fill(mask == 0, -1e9), -1) @ x


@case((2, 7, 8), BT)
class ClassToken(nn.Module):
    def __init__(self):
        super().__init__()
        self.token = nn.Parameter(torch.randn(1, 1, 8))

    def forward(self, x):
        return torch.cat([self.token.expand(int(x.size(0)), -1, -1), x], 1)


@case((2, 7, 8), BT)
class RepeatedQuery(nn.Module):
    def __init__(self):
        super().__init__()
        self.query = nn.Parameter(torch.randn(1, 4, 8))

    def forward(self, x):
        return self.query.repeat(int(x.size(0)), 1, 1) @ x.transpose(1, 2)


@case((2, 3, 8, 10), {0: "batch", 2: "height", 3: "width"}, example="height=8,width=10")
class DoubledImage(nn.Module):
    def forward(self, x):
        size = (int(x.size(2)) * 2, int(x.size(3)) * 2)
        return F.interpolate(x, size=size, mode="bilinear", align_corners=False)


@case((2, 8, 4), BT, example="time=8")
class HalfSlices(nn.Module):
    def forward(self, x):
        n = int(x.size(1))
        return x[:, : n // 2].sum(1) - x[:, n // 2 :].sum(1)


@case((2, 7, 8), BT, example="time=7")
class LastStep(nn.Module):
    def forward(self, x):
        return x[:, int(x.size(1)) - 1]


@case((2, 7, 8), BT, example="time=7")
class MeanByDivisor(nn.Module):
    def forward(self, x):
        return x.sum(1) / int(x.size(1))


@case((2, 3, 6, 5), {0: "batch", 2: "height", 3: "width"})
class PixelGrid(nn.Module):
    def forward(self, x):
        b, c, h, w = (int(v) for v in x.shape)
        ys, xs = torch.meshgrid(torch.arange(h), torch.arange(w), indexing="ij")
        return (x + ys + xs).reshape(b, c, h * w).transpose(1, 2)


@case((3, 8), {0: "batch"})
class SliceAssignment(nn.Module):
    def forward(self, x):
        y = torch.zeros(int(x.size(0)), 8)
        y[:, 2:5] = x[:, :3]
        return y + x


@case((2, 6, 4), BT, example="time=6")
class SliceAssignmentToEnd(nn.Module):
    def forward(self, x):
        y = x.clone()
        n = int(x.size(1))
        y[:, n // 2 :] = 0.0
        y[:, n - 1] = 1.0
        return y


@case((2, 7, 8), BT)
class SizeFromList(nn.Module):
    """A Python list of sizes, indexed by a tensor: the tracer keeps the number alone."""

    def forward(self, x):
        sizes = [int(x.size(0)), int(x.size(1))]
        which = torch.tensor(1)
        return x + torch.zeros(sizes[which], 8).add(0.5)


@case((2, 6, 8), BT, example="time=6")
class ChunksOfList(nn.Module):
    """A list of lengths, which a tensor chooses from."""

    def forward(self, x):
        n = int(x.size(1))
        lengths = [n // 2, n - n // 2]
        return x.split(lengths, 1)[torch.tensor(1)].sum(1)


@case((2, 7, 8), BT, example="time=7")
class Padded(nn.Module):
    def forward(self, x):
        t = int(x.size(1))
        y = torch.cat([x, torch.zeros(int(x.size(0)), 3, 8)], 1)
        return y[:, :t] * 2 + y[:, 3:]


@case((2, 3, 8, 8), {0: "batch", 2: "height", 3: "width"}, example="height=8,width=8")
class WindowPartition(nn.Module):
    def forward(self, x):
        b, c, h, w = (int(v) for v in x.shape)
        y = x.view(b, c, h // 4, 4, w // 4, 4).permute(0, 2, 4, 3, 5, 1).reshape(-1, 16, c)
        return y.softmax(1).view(b, h // 4, w // 4, 4, 4, c).permute(0, 5, 1, 3, 2, 4).reshape(b, c, h, w)


@case((2, 5, 8), BT, expect="cautioned")
class ChosenByTensor(nn.Module):
    """A list of layers, indexed by an input: the tracer keeps the one that the example took."""

    extra = (torch.tensor(1),)

    def __init__(self):
        super().__init__()
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 8)])

    def forward(self, x, which):
        return self.layers[int(which)](x)


@case((2, 5, 8), BT, expect="cautioned")
class FixedBranch(nn.Module):
    """A branch that an input decides: the tracer keeps the side that the example took."""

    extra = (torch.tensor(True),)

    def forward(self, x, flag):
        if flag:
            return x * 2
        return x - 1


@case((2, 4, 8), BT, example="time=4", expect="reported")
class BranchOnSize(nn.Module):
    """A branch that a size decides, and sizes that only that side has."""

    def forward(self, x):
        t = int(x.size(1))
        if t < 8:
            return torch.stack([x[:, i] for i in range(t)], 1).sum(1)
        return x[:, :8].sum(1)


@case((2, 4, 8), BT, example="time=4", expect="reported")
class UnrolledLoop(nn.Module):
    def forward(self, x):
        total = 0
        for i in range(x.size(1)):
            total = total + x[:, i] * i
        return total


def one(name, args):
    cls, shape, axes, example, expect, limit = CASES[name]
    folder = args.cases / name
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    model = cls().eval()
    path, fixed = folder / "traced.onnx", folder / "repaired.onnx"
    extra = getattr(cls, "extra", ())
    torch.onnx.export(model, (torch.randn(shape), *extra), str(path), input_names=["x", *(f"x{i + 1}" for i in range(len(extra)))], output_names=["y"],
                      dynamic_axes={"x": axes}, opset_version=17, dynamo=False)
    command = [args.oxrt, "repair", path, "-o", fixed, "--json"] + (["--example", example] if example else [])
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
    if not done.stdout:
        raise AssertionError("repair: " + done.stderr.strip().replace("\n", " | "))
    said = json.loads(done.stdout)
    found = [f for f in said["report"]["findings"]]
    if expect == "cautioned":
        # Nothing of it is in the file: what can be said is that it was traced.
        checked = subprocess.run([str(args.oxrt), "check", str(path)], capture_output=True, text=True, timeout=120).stdout
        assert not found and "made by tracing" in checked and said["report"]["caution"], f"no caution: {checked}"
        return "cautioned: made by tracing"
    if expect == "reported":
        assert any(not f[3] for f in found) and not said["complete"], f"nothing was reported: {found}"
        return "reported: " + next(f[2] for f in found if not f[3])
    assert found, "nothing was found"
    cases = said["report"]["at_example"] + said["report"]["elsewhere"] + [r[1] for r in said["report"]["rows"]]
    assert said["complete"], f"not proven: {[f for f in found if not f[3]]} {[c for c in cases if not c['passed']]}"
    onnx.checker.check_model(str(fixed), full_check=True)
    session = onnxruntime.InferenceSession(str(fixed), providers=["CPUExecutionProvider"])
    n = 0
    for step in (1, 3, -1):
        sizes = list(shape)
        for axis, symbol in axes.items():
            sizes[axis] = max(1, shape[axis] + step)
            if limit and limit[0] == symbol:
                sizes[axis] = min(sizes[axis], limit[1])
            if cls in (HalfSlices, ChunksOfList) and symbol == "time":
                sizes[axis] += sizes[axis] % 2
            if cls is WindowPartition and symbol != "batch":
                sizes[axis] = 4 * max(1, shape[axis] // 4 + step)
        x = torch.randn(sizes)
        with torch.no_grad():
            want = model(x).numpy()
        got = session.run(None, {"x": x.numpy()})[0]
        assert list(got.shape) == list(want.shape), f"sizes {sizes}: shape {got.shape} instead of {want.shape}"
        assert np.allclose(got, want, rtol=1e-3, atol=1e-4), f"sizes {sizes}: off by {np.abs(got - want).max():.3g}"
        n += 1
    return f"{len(found)} sizes put back, equal at {n} other sets of sizes"


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True, type=pathlib.Path)
    p.add_argument("--cases", required=True, type=pathlib.Path)
    p.add_argument("--only")
    args = p.parse_args()
    failed = 0
    names = [n for n in CASES if not args.only or args.only in n]
    for name in names:
        try:
            print(f"ok     {name}: {one(name, args)}", flush=True)
        except Exception as e:  # noqa: BLE001  a judge that fails is a failure of the case
            failed += 1
            print(f"FAILED {name} {type(e).__name__}: {str(e)[:500]}", flush=True)
    print(f"Baked sizes: {len(names) - failed} of {len(names)} files as expected")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
