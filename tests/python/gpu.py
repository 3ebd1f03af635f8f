"""Engines on an NVIDIA GPU: answers beside PyTorch's, and device times beside CUDA graphs of eager and torch.compile, fp16.

Models are made here with random weights. For each: the relative L2 error of the engine and of PyTorch in fp16, both to
PyTorch in fp32 (TF32 off); the median device time of a run, without copies; build seconds with timing and from the record.
The engine must be no less exact than MARGIN times PyTorch in fp16.

usage: gpu.py --oxrt PROGRAM [--only NAME:BATCH,...] [--precision fp16] [--peers graph,compile,freeze|best] [--steps N] [--out FILE.json]
       [--keep FOLDER]    (tuning records: the times of all candidates)
       (--peers best: the one that was quickest for the model when all three were tried)
       [--each]           (also builds with every candidate in turn, wherever it serves, and judges the answers)
       [--without WORD]   (also times an engine from the same record without candidates whose names hold the word, and counts steps that have one)
"""

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

import numpy as np
import torch
from torch import nn

MARGIN = 1.1
# A record's time of a candidate that a library turned out not to have.
UNFIT = 1e300


def conv_bn(i, o, k, s=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1))


class Residual(nn.Module):
    def __init__(self, c):
        super().__init__()
        self.a, self.b = conv_bn(c, c // 2, 1), conv_bn(c // 2, c, 3)

    def forward(self, x):
        return x + self.b(self.a(x))


def darknet53():
    layers, c = [conv_bn(3, 32, 3)], 32
    for n in (1, 2, 8, 8, 4):
        layers.append(conv_bn(c, c * 2, 3, 2))
        c *= 2
        layers += [Residual(c) for _ in range(n)]
    return nn.Sequential(*layers)


def vision(name):
    import torchvision

    return getattr(torchvision.models, name)(weights=None)


def bert():
    from transformers import BertConfig, BertModel

    inner = BertModel(BertConfig(), add_pooling_layer=False)

    class Model(nn.Module):
        def __init__(self):
            super().__init__()
            self.inner = inner

        def forward(self, ids):
            return self.inner(input_ids=ids).last_hidden_state

    return Model()


# The quickest way of PyTorch, of a CUDA graph of eager and two forms of torch.compile, when all were tried on an H200.
BEST = {"vit_b_16": "graph", "bert_base_s128": "freeze"}
BEST_OF_BATCH = {("bert_base_s128", 32): "compile"}


def image(batch, size=224):
    return torch.randn(batch, 3, size, size)


MODELS = {
    "resnet50": (lambda: vision("resnet50"), image, (1, 32, 128)),
    "mobilenet_v3_large": (lambda: vision("mobilenet_v3_large"), image, (1, 128)),
    "vit_b_16": (lambda: vision("vit_b_16"), image, (1, 32)),
    "bert_base_s128": (bert, lambda b: torch.randint(0, 30000, (b, 128)), (1, 32)),
    "darknet53_416": (darknet53, lambda b: image(b, 416), (1, 8)),
    "convnext_tiny": (lambda: vision("convnext_tiny"), image, (32,)),
    "efficientnet_b0": (lambda: vision("efficientnet_b0"), image, (32,)),
}


@torch.no_grad()
def settle(model):
    """Statistics of batch norms that a trained network would have: activations of every layer are near unit size."""
    torch.manual_seed(1)
    for m in model.modules():
        if isinstance(m, nn.BatchNorm2d):
            m.running_mean.normal_(0, 0.1)
            m.running_var.uniform_(0.5, 1.5)
            m.weight.data.uniform_(0.5, 1.0)
            m.bias.data.normal_(0, 0.1)
    for w in model.parameters():
        # A last layer of zeros (ViT) would leave nothing to compare.
        if w.dim() > 1 and not w.any():
            nn.init.normal_(w, 0, 0.02)
    return model.eval()


def rel_l2(got, want):
    got, want = got.double().flatten(), want.double().flatten()
    return float((got - want).norm() / want.norm())


def timed(run, reps=50):
    for _ in range(5):
        run()
    torch.cuda.synchronize()
    times = []
    for _ in range(reps):
        start, end = torch.cuda.Event(True), torch.cuda.Event(True)
        start.record()
        run()
        end.record()
        end.synchronize()
        times.append(start.elapsed_time(end))
    return statistics.median(times)


def peer(kind, model, x):
    torch._dynamo.reset()
    with torch.inference_mode():
        if kind == "graph":
            side = torch.cuda.Stream()
            side.wait_stream(torch.cuda.current_stream())
            with torch.cuda.stream(side):
                for _ in range(3):
                    model(x)
            torch.cuda.current_stream().wait_stream(side)
            graph = torch.cuda.CUDAGraph()
            with torch.cuda.graph(graph):
                model(x)
            return timed(graph.replay)
        import torch._inductor.config as inductor

        inductor.freezing = kind == "freeze"
        compiled = torch.compile(model, mode="reduce-overhead")
        return timed(lambda: compiled(x))


def oxrt(program, *args, parse=False):
    start = time.time()
    done = subprocess.run([program, *args], capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"oxrt {args[0]}: {done.stderr.strip()[-1500:]}")
    return (json.loads(done.stdout) if parse else done.stdout), time.time() - start


def answer(a, engine, folder):
    out = os.path.join(folder, "out.npz")
    oxrt(a.oxrt, "run", engine, "--in", os.path.join(folder, "x.npy"), "--out", out)
    return torch.from_numpy(np.load(out)[np.load(out).files[0]])


def forced(a, build, record, engine, folder, want):
    """The error of the model with each candidate of the record, chosen wherever it competed; where a candidate is wrong, with
    it for each node alone."""
    kept = open(record).read()
    machine = next(iter(json.loads(kept)["machines"].values()))

    def error(name, keys):
        changed = json.loads(kept)
        for times in changed["machines"].values():
            for key in keys:
                if times[key].get(name, UNFIT) < UNFIT:
                    times[key][name] = 0.0
        with open(record, "w") as f:
            json.dump(changed, f)
        oxrt(a.oxrt, *build)
        return rel_l2(answer(a, engine, folder), want)

    found = {}
    for name in sorted({n for times in machine.values() for n in times if times[n] < UNFIT}):
        keys = [key for key, times in machine.items() if times.get(name, UNFIT) < UNFIT]
        found[name] = error(name, keys)
        print(f"  {name:28} on {len(keys):2} kinds of node: error {found[name]:.2e}", flush=True)
    bound = 2 * min(found.values())
    for name in [n for n, e in found.items() if e > bound]:
        for key in [key for key, times in machine.items() if times.get(name, UNFIT) < UNFIT]:
            e = error(name, [key])
            if e > bound:
                print(f"    {name} alone for {key}: error {e:.2e}", flush=True)
    with open(record, "w") as f:
        f.write(kept)
    return max(found.values())


def without(a, build, record, engine, folder):
    """Device time of the engine that the record gives without some candidates, and the steps that have one of them otherwise."""
    x = os.path.join(folder, "x.npy")
    bench = ["bench", engine, "--in", x, "--seconds", "0.5", "--json", "--profile-steps"]
    report, _ = oxrt(a.oxrt, *bench, parse=True)
    steps = [s["kernel"] for s in report["report"]["steps"] if a.without in s["kernel"]]
    kept = open(record).read()
    changed = json.loads(kept)
    for times in (t for m in changed["machines"].values() for t in m.values()):
        times.update({n: UNFIT for n in times if a.without in n})
    with open(record, "w") as f:
        json.dump(changed, f)
    oxrt(a.oxrt, *build)
    report, _ = oxrt(a.oxrt, *bench[:-1], parse=True)
    with open(record, "w") as f:
        f.write(kept)
    return report["report"]["device_ms"], steps


def case(a, name, batch, folder):
    make, sample, _ = MODELS[name]
    torch.manual_seed(0)
    model = settle(make())
    x = sample(batch)
    pt2, record, engine = (os.path.join(folder, f"m.{e}") for e in ("pt2", "json", "engine"))
    for f in (record, engine):
        if os.path.exists(f):
            os.remove(f)
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (x,)), pt2)
    row = {"model": name, "batch": batch, "precision": a.precision}
    build = ["build", pt2, "--device", "cuda", "--precision", a.precision, "--tuning", record, "-o", engine]
    _, row["build_s"] = oxrt(a.oxrt, *build)
    first = open(engine, "rb").read()
    _, row["rebuild_s"] = oxrt(a.oxrt, *build)
    row["rebuild_equal"] = open(engine, "rb").read() == first
    row["engine_mb"] = round(len(first) / 1e6, 1)
    np.save(os.path.join(folder, "x.npy"), x.numpy())
    got = answer(a, engine, folder)
    report, _ = oxrt(a.oxrt, "bench", engine, "--in", os.path.join(folder, "x.npy"), "--seconds", "0.5", "--json", *(["--profile-steps"] if a.steps else []), parse=True)
    r = report["report"]
    row.update(ms=r["device_ms"], end_to_end_ms=r["p50_ms"], first_ms=r["first_run_ms"], load_ms=report["load_ms"])
    if a.without:
        row["ms_without"], steps = without(a, build, record, engine, folder)
        row["steps_with"] = len(steps)
    model, x = model.cuda(), x.cuda()
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    with torch.inference_mode():
        want = model(x).cpu()
        # The same precision in PyTorch.
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = a.precision == "tf32"
        dtype = {"fp16": torch.float16, "bf16": torch.bfloat16}.get(a.precision, torch.float32)
        half = model.to(dtype)
        hx = x.to(dtype) if x.is_floating_point() else x
        row["error"] = rel_l2(got, want)
        row["torch_error"] = rel_l2(half(hx).cpu(), want)
    worst = row["error"]
    if a.each:
        row["worst_error"] = worst = max(worst, forced(a, build, record, engine, folder, want))
    if row["error"] > MARGIN * row["torch_error"]:
        each = [(rel_l2(got[i], want[i]), i) for i in range(batch)]
        again = answer(a, engine, folder)
        print(f"  worst of the batch: {sorted(each)[-5:]}; again: error {rel_l2(again, want):.2e}, {(again != got).sum()} elements differ")
    row["ok"] = worst <= MARGIN * row["torch_error"] or worst < (1e-4 if a.precision == "fp32" else 1e-5)
    if x.is_floating_point() and name != "vit_b_16":
        half = half.to(memory_format=torch.channels_last)
        hx = hx.to(memory_format=torch.channels_last)
    best = BEST_OF_BATCH.get((name, batch), BEST.get(name, "freeze"))
    for kind in filter(None, (best if a.peers == "best" else a.peers).split(",")):
        try:
            row[kind] = round(peer(kind, half, hx), 4)
        except Exception as e:  # a peer that fails is no reason to stop
            row[kind] = None
            print(f"{name}: {kind}: {str(e)[:200]}", file=sys.stderr)
    if a.keep:
        shutil.copy(record, os.path.join(a.keep, f"{name}_{batch}.json"))
    if a.steps:
        steps = sorted(r["steps"], key=lambda s: -s["ms"])
        total = sum(s["ms"] for s in steps)
        print(f"  {len(steps)} steps, {total:.3f} ms one by one")
        for s in steps[: a.steps]:
            print(f"  {s['ms']:.4f} {s['gflop_per_s'] / 1e3:7.1f} TF {s['gb_per_s']:7.0f} GB/s {s['op']:24} {s['kernel']:18} {s['name'][:60]}")
    torch.cuda.empty_cache()
    return row


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--only", default="")
    p.add_argument("--precision", default="fp16")
    p.add_argument("--peers", default="")
    p.add_argument("--steps", type=int, default=0)
    p.add_argument("--out", default="")
    p.add_argument("--keep", default="")
    p.add_argument("--each", action="store_true")
    p.add_argument("--without", default="")
    p.add_argument("--budget", type=float, default=540)
    a = p.parse_args()
    started = time.time()
    wanted = [w.split(":") for w in filter(None, a.only.split(","))]
    cases = [(w[0], int(w[1])) for w in wanted] or [(n, b) for n, m in MODELS.items() for b in m[2]]
    rows, failed = [], 0
    with tempfile.TemporaryDirectory() as folder:
        for name, batch in cases:
            if time.time() - started > a.budget:
                print("no time left")
                break
            try:
                row = case(a, name, batch, folder)
            except Exception as e:
                row = {"model": name, "batch": batch, "failed": str(e)[:1500], "ok": False}
            failed += not row["ok"]
            rows.append(row)
            print(json.dumps({k: round(v, 5) if isinstance(v, float) else v for k, v in row.items()}), flush=True)
            if a.out:
                json.dump(rows, open(a.out, "w"), indent=1)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
