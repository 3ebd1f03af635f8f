"""Small models of operators that no large model of gpu.py has, on an NVIDIA GPU beside the reference evaluator; what PyTorch has no
operator for comes as ONNX. No step may run on the host.

usage: gpu_ops.py --oxrt PROGRAM [--device cuda] [--precision fp32] [--only NAME,...] [--forced fp16,bf16,tf32,fp32] [--times]
"""

import argparse
import json
import os
import struct
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


class Step(nn.Module):
    """Grouped attention behind a cache that grows, as decoders are exported."""

    def __init__(self, heads=8, kv=2, size=64):
        super().__init__()
        width = heads * size
        self.q, self.k, self.v, self.o = nn.Linear(width, width), nn.Linear(width, kv * size), nn.Linear(width, kv * size), nn.Linear(width, width)
        self.heads, self.kv, self.size = heads, kv, size

    def forward(self, x, past_k, past_v):
        b, s, _ = x.shape
        q, k, v = (f(x).view(b, s, n, self.size).transpose(1, 2) for f, n in [(self.q, self.heads), (self.k, self.kv), (self.v, self.kv)])
        k, v = torch.cat([past_k, k], 2), torch.cat([past_v, v], 2)
        shown = torch.arange(k.shape[2])[None, :] <= torch.arange(s)[:, None] + past_k.shape[2]
        share = self.heads // self.kv
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(share, 1), v.repeat_interleave(share, 1), attn_mask=shown)
        return self.o(y.transpose(1, 2).reshape(b, s, -1)), k, v


def proto(*fields):
    """A message of protocol buffers: (number, integer, float, text, bytes or message) each."""

    def varint(n):
        n &= (1 << 64) - 1
        out = b""
        while n > 127:
            out, n = out + bytes([n & 127 | 128]), n >> 7
        return out + bytes([n])

    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        elif isinstance(value, float):
            out += varint(number << 3 | 5) + struct.pack("<f", value)
        else:
            value = value.encode() if isinstance(value, str) else value
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


ELEMENTS = {"f32": (1, "f"), "i64": (7, "q"), "f16": (10, "e"), "bool": (9, "?")}


def onnx(op, inputs, outputs, constants=(), opset=24, **attributes):
    """A model of one node. Inputs are (type, sizes) by name, constants (type, value) by name; a name that starts with `_` is absent."""

    def value(name, of, sizes):
        dims = [(1, proto((1, n))) for n in sizes]
        return proto((1, name), (2, proto((1, proto((1, ELEMENTS[of][0]), (2, proto(*dims)))))))

    def attribute(name, x):
        return proto((1, name), (3, x), (20, 2)) if isinstance(x, int) else proto((1, name), (2, x), (20, 1))

    given = dict(inputs) | dict(constants)
    node = [(1, "" if n.startswith("_") else n) for n in given] + [(2, n) for n in outputs]
    node += [(4, op)] + [(5, attribute(*a)) for a in attributes.items()]
    fixed = [(5, proto((2, ELEMENTS[of][0]), (8, n), (9, struct.pack("<" + ELEMENTS[of][1], x)))) for n, (of, x) in dict(constants).items()]
    ends = [(11, value(n, *t)) for n, t in inputs.items() if not n.startswith("_")]
    # Types of results are found by inference.
    ends += [(12, proto((1, n))) for n in outputs]
    return proto((1, 10), (8, proto((2, opset))), (7, proto((1, proto(*node)), (2, op), *fixed, *ends)))


def attention(q, k, past, kind="f32", **attributes):
    """ONNX's operator with a past and what it becomes."""
    b, heads, kv, size = 2, 8, 2, 64
    inputs = {"q": (kind, [b, q, heads * size]), "k": (kind, [b, k, kv * size]), "v": (kind, [b, k, kv * size]), "_mask": None}
    inputs |= {"pk": (kind, [b, kv, past, size]), "pv": (kind, [b, kv, past, size])}
    return onnx("Attention", inputs, ["y", "new_k", "new_v"], q_num_heads=heads, kv_num_heads=kv, **attributes)


def boxes(batch, classes, n, most, least):
    inputs = {"boxes": ("f32", [batch, n, 4]), "scores": ("f32", [batch, classes, n])}
    constants = {"most": ("i64", most), "limit": ("f32", 0.45), "least": ("f32", least)}
    return onnx("NonMaxSuppression", inputs, ["kept"], constants)


class Ends(nn.Module):
    """Convolutions of every kind of end, window and type that a library's plan may have."""

    ACTIVATIONS = [
        lambda x: x,
        F.relu,
        lambda x: F.leaky_relu(x, 0.1),
        F.relu6,
        lambda x: F.hardtanh(x, -0.5, 0.75),
        lambda x: F.elu(x, 0.7),
        torch.sigmoid,
        torch.tanh,
        F.softplus,
        F.silu,
        F.gelu,
        lambda x: F.gelu(x, approximate="tanh"),
        F.hardswish,
        F.mish,
    ]

    def __init__(self, c=32):
        super().__init__()
        conv = lambda **options: nn.Conv2d(c, c, 3, **{"padding": 1} | options)
        self.first = conv()
        self.ends = nn.ModuleList(conv() for _ in self.ACTIVATIONS)
        self.residual = nn.ModuleList(conv() for _ in self.ACTIVATIONS)
        self.bare = nn.ModuleList([conv(bias=False), conv(bias=False)])
        self.windows = nn.ModuleList([conv(groups=2), conv(dilation=2, padding=2), nn.Conv2d(c, 2 * c, 1)])
        self.shrinking = nn.ModuleList([conv(stride=2), nn.Conv2d(c, c, 1, 2), nn.Conv2d(c, c, (3, 1), 2, (1, 0))])
        self.line = nn.Conv1d(c, c, 5, padding=2)
        self.last, self.small = nn.Conv2d(c * (2 * len(self.ACTIVATIONS) + 6), 8, 1), nn.Conv2d(c * 4, 8, 1)

    def forward(self, x):
        h = F.relu(self.first(x))
        large = [f(conv(h)) for f, conv in zip(self.ACTIVATIONS, self.ends)]
        large += [f(conv(h) + h) for f, conv in zip(self.ACTIVATIONS, self.residual)]
        large += [F.relu(self.bare[0](h)), F.relu(self.bare[1](h) + h)]
        large += [F.relu(conv(h)) for conv in self.windows]
        # Padding on one side alone.
        small = [F.relu(conv(h)) for conv in self.shrinking] + [F.relu(self.shrinking[0](F.pad(h, (0, 1, 0, 1))))[..., :-1, :-1]]
        line = self.line(F.relu(h[:, :, 0]))
        return self.last(torch.cat(large, 1)), self.small(torch.cat(small, 1)), line


class Heads(nn.Module):
    """Attention to itself, to a longer sequence, and with shared heads of keys and values."""

    def __init__(self, width=128, heads=4):
        super().__init__()
        self.own, self.other = (nn.MultiheadAttention(width, heads, batch_first=True) for _ in range(2))
        self.q, self.k, self.v, self.o = nn.Linear(width, width), nn.Linear(width, width // 2), nn.Linear(width, width // 2), nn.Linear(width, width)
        self.size = width // heads

    def forward(self, x, longer):
        x = x + self.own(x, x, x, need_weights=False)[0]
        x = x + self.other(x, longer, longer, need_weights=False)[0]
        q, k, v = (f(x).unflatten(2, (-1, self.size)).transpose(1, 2) for f in (self.q, self.k, self.v))
        y = F.scaled_dot_product_attention(q, k.repeat_interleave(2, 1), v.repeat_interleave(2, 1))
        return self.o(y.transpose(1, 2).flatten(2))


# Models that are run by candidates whose names hold a word, wherever they have a plan: inputs, and bounds of the error by precision.
FORCED = {
    "ends": ("conv_cudnn", Ends(), [torch.randn(2, 32, 14, 14)], {"fp16": "2e-3", "bf16": "2e-2", "tf32": "1e-3", "fp32": "1e-5"}),
    "heads": ("attention_cudnn", Heads(), [torch.randn(2, 37, 128), torch.randn(2, 150, 128)], {"fp16": "2e-3", "bf16": "2e-2"}),
}


def forced(a, folder, name):
    if a.device != "cuda":
        return True, f"skipped: {a.device} has no libraries"
    word, model, inputs, bounds = FORCED[name]
    path, record, said = os.path.join(folder, f"{name}.pt2"), os.path.join(folder, f"{name}.json"), []
    with torch.no_grad():
        torch.export.save(torch.export.export(model.eval(), tuple(inputs)), path)
    for precision, bound in ((p, bounds[p]) for p in a.forced.split(",") if p in bounds):
        options = ["--device", a.device, "--precision", precision, "--tuning", record]
        built = subprocess.run([a.oxrt, "build", path, "-o", os.path.join(folder, f"{name}.engine"), *options], capture_output=True, text=True, timeout=300)
        if built.returncode:
            return False, f"{precision}: {built.stderr.strip()[-800:]}"
        with open(record) as f:
            kept = json.load(f)
        os.remove(record)
        # A time this long stands for a candidate that has no plan for the node.
        plans = {(key, n) for m in kept["machines"].values() for key, t in m.items() for n in t if word in n and t[n] < 1e300}
        if not plans:
            said.append(f"{precision}: no candidates (cuDNN is not installed)")
            continue
        # The first are kernels that the library has ready, where it has any, the last one that it compiles.
        names = sorted({n for _, n in plans})
        for candidate in {names[0], names[-1]}:
            changed = json.loads(json.dumps(kept))
            for times in (t for m in changed["machines"].values() for t in m.values()):
                times.update({n: 0.0 for n in times if n == candidate and times[n] < 1e300})
            with open(record, "w") as f:
                json.dump(changed, f)
            done = subprocess.run([a.oxrt, "verify", path, *options, "--rel-l2", bound], capture_output=True, text=True, timeout=600)
            os.remove(record)
            if done.returncode:
                return False, f"{precision}, {candidate}: {(done.stdout + done.stderr).strip()[-800:]}"
        said.append(f"{precision}: {len(plans)} plans for {len({key for key, _ in plans})} kinds of node")
    return True, "; ".join(said)


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
    "non_zero": (Of(lambda m, x: torch.nonzero(x > 0.5)), [torch.randn(3, 200, 300)]),
    "picked": (Of(lambda m, x, y: (y[x > 1], x[x > 1].sum())), [torch.randn(70, 500), torch.randn(70, 500, 4)]),
    "cache": (Step(), [torch.randn(2, 3, 512), torch.randn(2, 2, 300, 64), torch.randn(2, 2, 300, 64)]),
    "compress": onnx("Compress", {"x": ("f32", [40, 3000, 5]), "pick": ("bool", [3000])}, ["y"], axis=1),
    # A detector's head at 640 x 640, as YOLOv5 has it: a score in six passes, then nearly all.
    "head": boxes(1, 80, 25200, 300, 1.0),
    "all_boxes": boxes(2, 3, 8400, 10**9, -10.0),
    "decode": attention(1, 1, 1000, is_causal=1),
    "prefill": attention(70, 70, 130, is_causal=1),
    "decode_halves": attention(1, 1, 4000, "f16", is_causal=1),
}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--device", default="cuda")
    p.add_argument("--precision", default="fp32")
    p.add_argument("--only", default="")
    p.add_argument("--forced", default="fp16", help="precisions in which models are run by candidates of libraries")
    p.add_argument("--times", action="store_true", help="the time of each case and of its steps, too")
    a = p.parse_args()
    asked = lambda name: not a.only or name in a.only.split(",")
    chosen = {name: case for name, case in CASES.items() if asked(name)}
    wrong = []
    with tempfile.TemporaryDirectory() as folder:
        for name, case in chosen.items():
            path = os.path.join(folder, f"{name}.{'onnx' if isinstance(case, bytes) else 'pt2'}")
            if isinstance(case, bytes):
                with open(path, "wb") as f:
                    f.write(case)
            else:
                model, inputs = case
                with torch.no_grad():
                    torch.export.save(torch.export.export(model.eval(), tuple(inputs)), path)
            # Single precision is held to verify's tolerances; of quantised results a sum at the edge of two quanta may fall to either.
            bounds = ["--atol", "0.0501"] if name == "quantised" else ["--rel-l2", "1e-2"]
            precision = ["--precision", a.precision]
            if name == "overflow" and a.device != "cpu":
                precision, bounds = ["--precision", "fp16", "--find-overflow"], ["--rel-l2", "2e-3"]
            engine = os.path.join(folder, f"{name}.engine")
            options, tune = ["--device", a.device, *precision], [] if a.times else ["--no-tune"]
            built = subprocess.run([a.oxrt, "build", path, "-o", engine, *tune, *options], capture_output=True, text=True, timeout=300)
            # Checks of what a program asserted are the host's business.
            host = [part for line in (built.stdout + built.stderr).splitlines() if "by the reference evaluator" in line for part in line.split(":")[1].split(",")]
            on_host = any("oxrt.Assert" not in part for part in host)
            done = subprocess.run([a.oxrt, "verify", path, *options, *bounds], capture_output=True, text=True, timeout=600)
            said = (done.stdout + done.stderr).strip().splitlines() + [f"on the host:{','.join(host)}"] * on_host
            good = done.returncode == 0 and built.returncode == 0 and not on_host
            print(f"{name:14} {'ok' if good else 'WRONG'}  {said[2] if len(said) > 2 else said}", flush=True)
            if a.times:
                timed = subprocess.run([a.oxrt, "bench", engine, "--profile-steps", "--seconds", "1"], capture_output=True, text=True, timeout=120)
                print(timed.stdout + timed.stderr, flush=True)
            if not good:
                wrong.append(name)
                print("\n".join(said[-8:]), flush=True)
        for name in filter(asked, FORCED):
            good, said = forced(a, folder, name)
            print(f"{name:14} {'ok' if good else 'WRONG'}  {said}", flush=True)
            wrong += [] if good else [name]
    print(f"{len(chosen) + len(list(filter(asked, FORCED)))} cases, wrong: {wrong or 'none'}")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
