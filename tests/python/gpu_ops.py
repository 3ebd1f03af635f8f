"""Small models of operators that no large model of gpu.py has, on an NVIDIA GPU beside the reference evaluator.

usage: gpu_ops.py --oxrt PROGRAM [--device cuda] [--precision fp32] [--only NAME,...]
"""

import argparse
import os
import subprocess
import sys
import tempfile

import torch
from torch import nn
from torch.nn import functional as F


class Of(nn.Module):
    def __init__(self, f, **parts):
        super().__init__()
        self.parts = nn.ModuleDict(parts)
        self.f = f

    def forward(self, *x):
        return self.f(self.parts, *x)


def quantised(x, w):
    """A convolution between quantise and dequantise, as integer engines want it."""
    q = torch.fake_quantize_per_tensor_affine(x, 0.02, 128, 0, 255)
    v = torch.fake_quantize_per_channel_affine(w, torch.full((w.shape[0],), 0.003), torch.zeros(w.shape[0]), 0, -127, 127)
    return torch.fake_quantize_per_tensor_affine(F.relu(F.conv2d(q, v, padding=1)), 0.05, 128, 0, 255)


class Quantised(nn.Module):
    def __init__(self):
        super().__init__()
        self.a = nn.Parameter(torch.randn(32, 16, 3, 3) * 0.1)
        self.b = nn.Parameter(torch.randn(48, 32, 3, 3) * 0.1)

    def forward(self, x):
        return quantised(quantised(x, self.a), self.b)


class Overflow(nn.Module):
    """Hidden values beyond what half precision holds."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(256, 256), nn.Linear(256, 256), nn.Linear(256, 64)
        with torch.no_grad():
            self.a.weight.mul_(4e4)
            self.b.weight.mul_(1e-5)

    def forward(self, x):
        return self.c(torch.relu(self.b(self.a(x))))


def recurrent(kind, **options):
    return Of(lambda m, x: m["r"](x)[0], r=kind(24, 40, batch_first=True, **options))


torch.manual_seed(0)
CASES = {
    "lstm": (recurrent(nn.LSTM, num_layers=2, bidirectional=True), [torch.randn(3, 11, 24)]),
    "gru": (recurrent(nn.GRU), [torch.randn(2, 9, 24)]),
    "rnn": (recurrent(nn.RNN, nonlinearity="relu"), [torch.randn(2, 9, 24)]),
    "top_k": (Of(lambda m, x: tuple(torch.topk(x, 37))), [torch.randn(5, 3000)]),
    "running_sums": (Of(lambda m, x: torch.cumsum(x, 1)), [torch.randn(4, 5000, 3)]),
    "scatter_add": (
        Of(lambda m, x, i: torch.zeros(7, 33).scatter_add(0, i, x)),
        [torch.randn(400, 33), torch.randint(0, 7, (400, 33))],
    ),
    "transposed": (Of(lambda m, x: m["c"](x), c=nn.ConvTranspose2d(12, 9, 3, 2, 1, 1, groups=3)), [torch.randn(2, 12, 13, 9)]),
    "volumes": (Of(lambda m, x: m["c"](x), c=nn.Conv3d(4, 6, 3, padding=1)), [torch.randn(1, 4, 9, 8, 7)]),
    "grid": (Of(lambda m, x, g: F.grid_sample(x, g, align_corners=False)), [torch.randn(2, 3, 17, 19), torch.rand(2, 8, 9, 2) * 2 - 1]),
    "pads": (Of(lambda m, x: F.pad(x, (3, 2, 1, 4), mode="reflect")), [torch.randn(2, 3, 12, 10)]),
    "norms": (Of(lambda m, x: m["b"](m["i"](x)), i=nn.InstanceNorm2d(6, affine=True), b=nn.BatchNorm2d(6)), [torch.randn(2, 6, 9, 7)]),
    "attention": (Of(lambda m, x: m["a"](x, x, x, need_weights=False)[0], a=nn.MultiheadAttention(64, 4, batch_first=True)), [torch.randn(3, 37, 64)]),
    "overflow": (Overflow(), [torch.randn(8, 256) * 4]),
    "quantised": (Quantised(), [torch.rand(2, 16, 14, 14) * 4 - 2]),
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--device", default="cuda")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--only", default="")
    a = p.parse_args()
    chosen = {name: case for name, case in CASES.items() if not a.only or name in a.only.split(",")}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, (model, inputs) in chosen.items():
            path = os.path.join(folder, f"{name}.pt2")
            with torch.no_grad():
                torch.export.save(torch.export.export(model.eval(), tuple(inputs)), path)
            # Single precision is held to verify's tolerances; of quantised results a sum at the edge of two quanta may fall to either.
            bounds = ["--atol", "0.0501"] if name == "quantised" else ["--rel-l2", "1e-2"]
            precision = ["--precision", a.precision]
            if name == "overflow" and a.device != "cpu":
                precision, bounds = ["--precision", "fp16", "--find-overflow"], ["--rel-l2", "2e-3"]
            command = [a.oxrt, "verify", path, "--device", a.device, *precision, *bounds]
            done = subprocess.run(command, capture_output=True, text=True, timeout=120)
            said = (done.stdout + done.stderr).strip().splitlines()
            print(f"{name:14} {'ok' if done.returncode == 0 else 'WRONG'}  {said[2] if len(said) > 2 else said}", flush=True)
            if done.returncode:
                wrong.append(name)
                print("\n".join(said[-8:]), flush=True)
    print(f"{len(chosen)} cases, wrong: {wrong or 'none'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
