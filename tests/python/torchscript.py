"""TorchScript files through oxrt, compared with eager PyTorch: export → onnx.checker → onnxruntime, and oxrt's engine.

    python tests/python/torchscript.py --oxrt target/fast/oxrt --cases target/script-cases [--only NAME] [--all]

Each case is a module, scripted and (where it can be) traced, the sizes of its inputs with names for those that are
dynamic, and several sets of sizes. `--all` adds the larger models of torchvision, `--every` all of torchvision's other classifiers
up to `--megabytes`. `--zoo` takes the traps of a zoo (the format of `pt2_zoo.py`) instead, scripted and traced where torch does either. One
line per case; the exit code is 1 when any fails.
"""
import argparse
import copy
import dataclasses
import json
import pathlib
import shutil
import subprocess
import sys
import time
import traceback
import typing
import warnings
from typing import Dict, List, Optional, Tuple

warnings.filterwarnings("ignore")

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F
import torchvision

torch.set_num_threads(1)
TV = torchvision.models


@dataclasses.dataclass
class Case:
    name: str
    make: typing.Callable[[], nn.Module]
    # Options of `--input`, and how to draw the inputs for a set of sizes.
    inputs: list
    draw: typing.Callable
    sizes: list
    kinds: tuple = ("script", "trace")
    large: bool = False
    rtol: float = 1e-3
    atol: float = 1e-4
    # Rows of one detection each, by falling score: rows whose scores all but tie may stand in another order.
    detections: bool = False


CASES: list[Case] = []


def case(name, inputs, draw, sizes, **kw):
    def register(make):
        CASES.append(Case(name, make, inputs, draw, sizes, **kw))
        return make

    return register


def image(h=64, w=64):
    return lambda batch, **_: (torch.randn(batch, 3, h, w),)


def vision(name, h=64, w=64, kinds=("script", "trace"), large=False, **kw):
    def make():
        torch.manual_seed(0)
        return getattr(TV, name)(weights=None, **kw).eval()

    sizes = [dict(batch=2), dict(batch=1), dict(batch=3)]
    CASES.append(Case(name, make, [f"x=f32[batch,3,{h},{w}]"], image(h, w), sizes, kinds, large))


vision("resnet18")
vision("mobilenet_v3_small")
vision("squeezenet1_1")
vision("shufflenet_v2_x0_5")
vision("vit_b_32", 224, 224, kinds=("script",), large=True)
vision("swin_t")
for large_model in ["alexnet", "vgg11", "densenet121", "googlenet", "efficientnet_b0", "mobilenet_v2", "mnasnet0_5",
                    "regnet_y_400mf", "convnext_tiny", "resnext50_32x4d", "swin_v2_t", "maxvit_t", "inception_v3"]:
    side = {"inception_v3": 299, "swin_v2_t": 256, "maxvit_t": 224}.get(large_model, 64)
    more = dict(init_weights=False, aux_logits=True) if large_model in ("googlenet", "inception_v3") else {}
    vision(large_model, side, side, large=True, kinds=("script",) if large_model in ("inception_v3", "googlenet") else
           ("script", "trace"), **more)


NAMED = {case.name for case in CASES}


def every(megabytes):
    """All other classifiers of torchvision; those that are larger are listed."""
    quantised, left = "quantized", []
    for name in torchvision.models.list_models(module=torchvision.models):
        if name in NAMED or quantised in name:
            continue
        size = sum(p.numel() for p in torchvision.models.get_model(name, weights=None).parameters()) * 4e-6
        if size > megabytes:
            left.append(f"{name} ({size:.0f} MB)")
            continue
        side = 224 if name.startswith(("vit", "maxvit", "swin", "convnext")) and not name.startswith("swin_v2") else 256 if "swin_v2" in name else 64
        vision(name, side, side, kinds=("script",))
    print(f"left out for their size: {', '.join(left) or 'none'}", flush=True)


DTYPES = {torch.float32: "f32", torch.float64: "f64", torch.float16: "f16", torch.bfloat16: "bf16", torch.int64: "i64", torch.int32: "i32", torch.bool: "bool"}


def traps(path):
    """The traps of a zoo that torch scripts or traces."""
    from pt2_zoo import load_zoo

    zoo = load_zoo(path)
    left_out = {
        "trap/dynamic_quant_eager": "quantised TorchScript (storages of QInt8) is not read",
        "trap/custom_op": "a TorchScript file does not state what a custom operator gives",
        "trap/mha_transformer": "traced, torch's fast path makes nested tensors",
    }
    for e in zoo.ENTRIES.values():
        if not e.id.startswith("trap/"):
            continue
        for kind in ("script", "trace"):
            def make(e=e):
                return e.make_model()

            def draw(k, e=e):
                args, kwargs = e.make_inputs(alt=k == 1)
                return args

            if e.id in left_out and (kind == "trace" or e.id != "trap/mha_transformer"):
                print(f"left out {e.id} {kind}: {left_out[e.id]}", flush=True)
                continue
            try:
                model, (args, kwargs) = make(), e.make_inputs()
                if kwargs:
                    raise ValueError("arguments by name")
                saved = torch.jit.script(model) if kind == "script" else torch.jit.trace(model, zoo.clone_tree(args), strict=False, check_trace=False)
                with torch.no_grad():
                    saved(*zoo.clone_tree(args))
            except Exception as error:  # noqa: BLE001  torch's many ways to refuse
                print(f"refused {e.id} {kind}: {type(error).__name__}: {str(error).strip()[:90]!r}", flush=True)
                continue
            names = [a.name for a in saved.forward.schema.arguments][1:]
            specs, numbers = [], False

            def walk(name, value, axes):
                nonlocal numbers
                if isinstance(value, torch.Tensor):
                    dims = [axes.get(i, n) if isinstance(axes, dict) else n for i, n in enumerate(value.shape)]
                    specs.append(f"{name}={DTYPES.get(value.dtype, '?')}[{','.join(map(str, dims))}]")
                elif isinstance(value, (list, tuple)):
                    for i, v in enumerate(value):
                        walk(f"{name}.{i}", v, axes[i] if isinstance(axes, (list, tuple)) else None)
                elif isinstance(value, dict):
                    for key, v in value.items():
                        walk(f"{name}.{key}", v, axes.get(key) if isinstance(axes, dict) else None)
                elif value is not None:
                    numbers = True

            # A traced module has the sizes that its Python fixed; a scripted one takes those that its author declares.
            axes = e.dyn if kind == "script" and e.dyn else None
            if axes and len(axes) == 1 and isinstance(axes[0], tuple) and len(args) > 1:
                axes = axes[0]
            for i, value in enumerate(args):
                walk(names[i] if i < len(names) else f"x{i}", value, axes[i] if axes and i < len(axes) else None)
            if numbers:
                print(f"refused {e.id} {kind}: an argument that is a number", flush=True)
                continue
            sizes = [dict(k=0)] + ([dict(k=1)] if axes else [])
            c = Case(f"{e.id.replace('/', '_')}", make, specs, draw, sizes, (kind,))
            c.random = not e.compare
            CASES.append(c)


def detection(name, large=False, **kw):
    def make():
        torch.manual_seed(0)
        m = getattr(TV.detection, name)(weights=None, weights_backbone=None, **kw).eval()
        # Untrained, all scores tie and ranks mean nothing: weights that keep the spread of the activations.
        g = torch.Generator().manual_seed(7)
        with torch.no_grad():
            for n, p in m.named_parameters():
                if p.dim() < 2:
                    continue
                spread = (2.0 / max(1, p[0].numel())) ** 0.5
                # Boxes that are not empty, scores that are not all one.
                if any(part in n for part in ("bbox", "regression", "centerness", "mask_fcn_logits")):
                    spread *= 0.05
                elif any(part in n for part in ("cls_logits", "cls_score", "classification_head")):
                    spread *= 0.003 if "module_list" in n else 0.15
                p.copy_(torch.randn(p.shape, generator=g) * spread)
        return m

    def draw(height, width):
        g = torch.Generator().manual_seed(height * 1000 + width)
        return ([torch.rand(3, height, width, generator=g)],)

    CASES.append(Case(name, make, ["images.0=f32[3,height,width]"], draw,
                      [dict(height=120, width=160), dict(height=160, width=128)], ("script",), large,
                      rtol=1e-2, atol=2e-2, detections=True))


detection("fasterrcnn_mobilenet_v3_large_320_fpn", num_classes=11)
for name in ["ssdlite320_mobilenet_v3_large", "ssd300_vgg16", "retinanet_resnet50_fpn", "fcos_resnet50_fpn",
             "fasterrcnn_resnet50_fpn", "maskrcnn_resnet50_fpn", "keypointrcnn_resnet50_fpn"]:
    detection(name, large=True)


# ---- the language ----


def rows(*shape):
    return lambda batch, **_: (torch.randn(batch, *shape),)


@case("branch_on_data", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=5)], kinds=("script",))
class BranchOnData(nn.Module):
    def forward(self, x):
        if bool(x.sum() > 0):
            y = x * 2
            k = 3
        else:
            y = x[:, :4].repeat(1, 2) - 1
            k = 5
        return y + k


@case("loop_on_data", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=5)], kinds=("script",))
class LoopOnData(nn.Module):
    def forward(self, x):
        n = 0
        while bool(x.abs().max() > 0.1):
            x = x * 0.5
            n += 1
        return x, torch.tensor(n)


@case("loop_over_rows", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=5), dict(batch=1)], kinds=("script",))
class LoopOverRows(nn.Module):
    def forward(self, x):
        out = torch.jit.annotate(List[torch.Tensor], [])
        total = torch.zeros(8)
        for i in range(x.size(0)):
            total = total + x[i]
            out.append(torch.tanh(total))
        return torch.stack(out), total


@case("write_in_loop", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=4)], kinds=("script",))
class WriteInLoop(nn.Module):
    def forward(self, x):
        y = torch.zeros_like(x)
        for i in range(x.size(0)):
            y[i] = x[i] * float(i)
            y[i, 0] += 1.0
        return y


@case("write_in_branch", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=4)], kinds=("script",))
class WriteInBranch(nn.Module):
    def forward(self, x):
        y = x.clone()
        if bool(x[0, 0] > 0):
            y[:, 1:3] = 0.0
        else:
            y += 1
        return y


@case("early_return", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=4)], kinds=("script",))
class EarlyReturn(nn.Module):
    def forward(self, x):
        if x.size(0) > 3:
            return x[:3].sum(0)
        if bool(x.mean() > 0):
            return x.sum(0)
        return -x.sum(0)


@case("containers", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=3)], kinds=("script",))
class Containers(nn.Module):
    def __init__(self):
        super().__init__()
        self.names = ["a", "b"]
        self.table = {"a": 2.0, "b": 3.0}
        self.layers = nn.ModuleList([nn.Linear(8, 8), nn.Linear(8, 4)])
        self.by_name = nn.ModuleDict({"p": nn.Linear(4, 4), "q": nn.ReLU()})

    def forward(self, x):
        d: Dict[str, torch.Tensor] = {}
        for n in self.names:
            d[n] = x * self.table[n]
        y = d["a"] + d["b"]
        for layer in self.layers:
            y = layer(y)
        for name, m in self.by_name.items():
            y = m(y)
        parts: Tuple[torch.Tensor, torch.Tensor] = (y[:, :2], y[:, 2:])
        return {"first": parts[0], "second": parts[1]}


@case("optional", ["x=f32[batch,8]"], rows(8), [dict(batch=2)], kinds=("script",))
class OptionalArguments(nn.Module):
    def forward(self, x, mask: Optional[torch.Tensor] = None, scale: float = 2.0, flip: bool = False):
        if mask is not None:
            x = x.masked_fill(mask, 0.0)
        if flip:
            x = x.flip(1)
        return x * scale


@case("strings", ["x=f32[batch,8]"], rows(8), [dict(batch=2)], kinds=("script",))
class Strings(nn.Module):
    def __init__(self):
        super().__init__()
        self.mode = "Gelu-tanh"

    def forward(self, x):
        kind = self.mode.lower().split("-")
        assert len(kind) == 2, "bad mode {}".format(self.mode)
        if kind[0] == "gelu":
            return F.gelu(x, approximate=kind[1])
        return x


@case("interpolate", ["x=f32[batch,3,height,width]"], lambda batch, height, width: (torch.randn(batch, 3, height, width),),
      [dict(batch=1, height=8, width=10), dict(batch=2, height=7, width=5)])
class Interpolate(nn.Module):
    def forward(self, x):
        y = F.interpolate(x, scale_factor=2.0, mode="bilinear", align_corners=False)
        z = F.interpolate(x, size=[x.size(2) * 2, x.size(3) * 2], mode="nearest")
        return F.adaptive_avg_pool2d(y + z, (1, 1))


@case("lstm", ["x=f32[batch,time,8]"], lambda batch, time: (torch.randn(batch, time, 8),),
      [dict(batch=2, time=5), dict(batch=1, time=9)])
class Lstm(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.lstm = nn.LSTM(8, 6, 2, batch_first=True, bidirectional=True)
        self.gru = nn.GRU(12, 5, batch_first=True)

    def forward(self, x):
        y, _ = self.lstm(x)
        z, h = self.gru(y)
        return z, h


@case("cell_loop", ["x=f32[batch,time,8]"], lambda batch, time: (torch.randn(batch, time, 8),),
      [dict(batch=2, time=5), dict(batch=1, time=9)], kinds=("script",))
class CellLoop(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.cell = nn.LSTMCell(8, 6)

    def forward(self, x):
        h = torch.zeros(x.size(0), 6)
        c = torch.zeros(x.size(0), 6)
        out: List[torch.Tensor] = []
        for t in range(x.size(1)):
            h, c = self.cell(x[:, t], (h, c))
            out.append(h)
        return torch.stack(out, 1)


@case("transformer", ["x=f32[batch,time,16]"], lambda batch, time: (torch.randn(batch, time, 16),),
      [dict(batch=2, time=5), dict(batch=1, time=7)])
class TransformerLayer(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.layer = nn.TransformerEncoderLayer(16, 4, 32, batch_first=True)

    def forward(self, x):
        return self.layer(x)


@case("masks", ["x=f32[batch,8]"], rows(8), [dict(batch=2), dict(batch=4)], kinds=("script",))
class Masks(nn.Module):
    def forward(self, x):
        keep = x > 0
        picked = x[keep]
        n = picked.numel()
        y = torch.zeros(n + 1)
        y[1:] = picked
        return y.sum(), torch.where(keep)[0]


@case("shape_arithmetic", ["x=f32[batch,time,8]"], lambda batch, time: (torch.randn(batch, time, 8),),
      [dict(batch=2, time=6), dict(batch=3, time=9)])
class ShapeArithmetic(nn.Module):
    def forward(self, x):
        b, t, c = x.shape
        y = x.reshape(b * t, 2, c // 2).transpose(0, 1).reshape(2, -1)
        pos = torch.arange(t, dtype=torch.float32).unsqueeze(1) / t
        return y, x + pos, F.pad(x, [0, 0, 1, (t + 1) // 2])


@case("two_dims_traced", ["x=f32[batch,8]", "y=f32[batch,8]"], lambda batch: (torch.randn(batch, 8), torch.randn(batch, 8)),
      [dict(batch=3), dict(batch=5)])
class TwoInputs(nn.Module):
    def forward(self, x, y):
        z = torch.cat([x, y], 1)
        a, b = z.chunk(2, 1)
        return (a * b).sum(1), torch.einsum("bi,bj->bij", a, b)


def flat(v):
    if isinstance(v, torch.Tensor):
        return [v]
    if isinstance(v, dict):
        return [t for x in v.values() for t in flat(x)]
    if isinstance(v, (list, tuple)):
        return [t for x in v for t in flat(x)]
    if isinstance(v, (int, float, bool)):
        return [torch.tensor(v)]
    return []


def close(have, want, case):
    if list(have.shape) != list(want.shape):
        return f"shape {list(have.shape)} instead of {list(want.shape)}"
    if want.dtype.kind in "iub":
        return None if np.array_equal(have, want) else f"{(have != want).sum()} of {want.size} differ"
    if want.size == 0:
        return None
    with np.errstate(all="ignore"):
        equal = (have == want) | (np.isnan(have.astype(np.float64)) & np.isnan(want.astype(np.float64)))
        d = np.where(equal, 0.0, np.abs(have.astype(np.float64) - want.astype(np.float64)))
        largest = np.abs(want[np.isfinite(want.astype(np.float64))]).max(initial=0)
        bound = case.atol * max(1.0, float(largest)) + case.rtol * np.abs(want)
    return None if (equal | (d <= bound)).all() else f"off by {d.max():.3g}"


def same_detections(have, want):
    """Pairs every row of `want` with a row of `have` of the same label, score and box; rows at the cut-off, where the
    last kept score all but ties with the first dropped one, may have no partner."""
    names = list(want)
    n = len(want["scores"])
    if [h.shape[1:] for h in have.values()] != [w.shape[1:] for w in want.values()]:
        return f"shapes {[h.shape for h in have.values()]} instead of {[w.shape for w in want.values()]}"
    free = list(range(len(have["scores"])))
    lost = 0
    scale = max(1.0, float(np.abs(want["boxes"]).max())) if n else 1.0
    for i in range(n):
        def fits(k):
            if have["labels"][k] != want["labels"][i] or abs(have["scores"][k] - want["scores"][i]) > 5e-3:
                return False
            if np.abs(have["boxes"][k] - want["boxes"][i]).max() > 5e-3 * scale:
                return False
            # Masks and key points of boxes of a pixel's width hang on the last digit of the box: their mean is judged.
            rest = [m for m in names if m not in ("boxes", "labels", "scores")]
            return all(np.abs(have[m][k] - want[m][i]).mean() <= 1e-2 * max(1.0, np.abs(want[m][i]).max()) for m in rest)

        partner = next((k for k in free if fits(k)), None)
        if partner is None:
            lost += want["scores"][i] > want["scores"][-1] + 2e-3 or n < 2
        else:
            free.remove(partner)
    allowed = n // 50
    return f"{lost} of {n} detections have no partner" if lost > allowed else None


def wide_types(session, onnx_path, inputs, want, args, folder):
    """bfloat16, which numpy does not have: through the files of ONNX's tensors."""
    from pt2_judge import run_onnxruntime, same, to_proto

    given, out = folder / "given", folder / "out"
    given.mkdir(exist_ok=True)
    for i, t in enumerate(inputs):
        (given / f"input_{i}.pb").write_bytes(to_proto(t).SerializeToString())
    done = subprocess.run([str(args.oxrt), "run", str(onnx_path), "--in-dir", str(given), "--out-dir", str(out)], capture_output=True, text=True, timeout=300)
    if done.returncode != 0:
        return "engine: " + done.stderr.strip().replace("\n", " | ")[:400]
    mine = [onnx.numpy_helper.to_array(onnx.load_tensor(str(out / f"output_{i}.pb"))) for i in range(len(want))]
    for who, outs in (("onnxruntime", run_onnxruntime(session, inputs)), ("engine", mine)):
        problem = same(outs, want)
        if problem:
            return f"{who}: {problem}"
    return None


def one(case, kind, args):
    folder = args.cases / f"{case.name}-{kind}"
    folder.mkdir(parents=True, exist_ok=True)
    model = case.make().eval()
    drawn = []
    for i, sizes in enumerate(case.sizes):
        torch.manual_seed(i)
        drawn.append(case.draw(**sizes))
    with torch.no_grad():
        saved = torch.jit.script(model) if kind == "script" else torch.jit.trace(model, drawn[0], strict=False)
        path = folder / "model.pt"
        torch.jit.save(saved, str(path))
        # A model may write into its inputs and buffers; tracing it ran it, so what it wrote then is in the file.
        fresh = lambda: torch.jit.load(str(path)) if kind == "trace" else copy.deepcopy(model)
        results = [fresh()(*torch.utils._pytree.tree_map(lambda t: t.clone() if isinstance(t, torch.Tensor) else t, x)) for x in drawn]
        expected = [flat(r) for r in results]
    onnx_path = folder / "model.onnx"
    command = [args.oxrt, "export", path, "-o", onnx_path, "--json"]
    # The sizes of a traced module are those of the example; `--input` makes them dynamic all the same.
    for spec in case.inputs:
        command += ["--input", spec]
    started = time.time()
    done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=300)
    took = time.time() - started
    if done.returncode != 0:
        return "export: " + done.stderr.strip().replace("\n", " | ")[:400], took
    onnx.checker.check_model(str(onnx_path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    for i, (x, want) in enumerate(zip(drawn, expected)):
        if any(t.dtype == torch.bfloat16 for t in [*flat(x), *want]):
            problem = wide_types(session, onnx_path, flat(x), want, args, folder)
            if problem:
                return f"sizes {case.sizes[i]}: {problem}", took
            continue
        feeds = dict(zip(names, [t.numpy() for t in flat(x)]))
        np.savez(folder / f"in{i}.npz", **feeds)
        got = session.run(None, feeds)
        done = subprocess.run([str(args.oxrt), "run", str(onnx_path), "--in", str(folder / f"in{i}.npz"), "--out",
                               str(folder / f"out{i}.npz")], capture_output=True, text=True, timeout=300)
        if done.returncode != 0:
            return "engine: " + done.stderr.strip().replace("\n", " | ")[:400], took
        mine = np.load(folder / f"out{i}.npz")
        mine = [mine[o.name] for o in session.get_outputs()]
        for who, outs in (("onnxruntime", got), ("engine", mine)):
            if len(outs) != len(want):
                return f"{who}: {len(outs)} outputs instead of {len(want)}", took
            if case.detections:
                want_rows = {k: v.numpy() for k, v in results[i][0].items()}
                have_rows = dict(zip([o.name for o in session.get_outputs()], map(np.asarray, outs)))
                have_rows = {k: have_rows[k] for k in want_rows}
                problem = same_detections(have_rows, want_rows)
                if problem:
                    return f"{who}: sizes {case.sizes[i]}: {problem}", took
                continue
            for k, (h, w) in enumerate(zip(outs, want)):
                if getattr(case, "random", False):
                    continue
                if w.is_complex():
                    w = torch.view_as_real(w.resolve_conj())
                problem = close(np.asarray(h), w.detach().numpy(), case)
                if problem:
                    return f"{who}: sizes {case.sizes[i]}, output {k}: {problem}", took
    return None, took


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True, type=pathlib.Path)
    p.add_argument("--cases", required=True, type=pathlib.Path)
    p.add_argument("--only")
    p.add_argument("--all", action="store_true")
    p.add_argument("--every", action="store_true")
    p.add_argument("--megabytes", type=float, default=200)
    p.add_argument("--zoo")
    args = p.parse_args()
    failed = count = 0
    if args.zoo or args.every:
        CASES.clear()
        traps(args.zoo) if args.zoo else every(args.megabytes)
    for case in CASES:
        if args.only and args.only not in case.name or case.large and not (args.all or args.only):
            continue
        for kind in case.kinds:
            count += 1
            try:
                problem, took = one(case, kind, args)
            except Exception as e:  # noqa: BLE001  a judge that fails is a failure of the case
                problem, took = "".join(traceback.format_exception_only(e)).strip()[:400], 0.0
            failed += problem is not None
            if problem is None:
                shutil.rmtree(args.cases / f"{case.name}-{kind}", ignore_errors=True)
            print(f"{'FAILED' if problem else 'ok':6} {case.name} {kind} ({took:.2f} s) {problem or ''}", flush=True)
    print(f"TorchScript: {count - failed} of {count} cases agree with PyTorch")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
