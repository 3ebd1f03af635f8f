"""One engine for many sizes on an NVIDIA GPU: device times beside an engine for each size alone, what a new size costs, sessions at once.
fp16; times in ms.

usage: gpu_sizes.py --oxrt PROGRAM [--most RATIO] [--bind MS]    (fails when a ratio is larger, or when a new size costs more)
"""

import argparse
import os
import statistics
import sys
import tempfile
import time

import torch

from gpu import MODELS, oxrt, settle

# Model, the dimension's name, the range, the sizes that are tried.
CASES = [
    ("resnet50", "batch", "1:32:64", (1, 2, 5, 12, 20, 32, 50, 64)),
    ("bert_base_s128", "batch", "1:8:32", (1, 3, 6, 8, 14, 32)),
]


def export(name, path):
    make, sample, _ = MODELS[name]
    torch.manual_seed(0)
    model = settle(make())
    with torch.no_grad():
        torch.export.save(torch.export.export(model, (sample(4),), dynamic_shapes=({0: torch.export.Dim("batch", min=1, max=64)},)), path)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--most", type=float, default=1.1)
    p.add_argument("--bind", type=float, default=5.0)
    p.add_argument("--sizes", type=int, default=100, help="at most so many sizes of each model")
    a = p.parse_args()
    worst, slowest = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        for name, dim, profile, sizes in CASES:
            path, engine, one, record = (os.path.join(folder, f) for f in ("m.pt2", "many.engine", "one.engine", "many.json"))
            export(name, path)
            build = ["build", path, "--device", "cuda", "--precision", "fp16"]
            started = time.time()
            oxrt(a.oxrt, *build, "--dim", f"{dim}={profile}", "--tuning", record, "-o", engine)
            built, started = time.time() - started, time.time()
            oxrt(a.oxrt, *build, "--dim", f"{dim}={profile}", "--tuning", record, "-o", one)
            again = time.time() - started
            equal = open(engine, "rb").read() == open(one, "rb").read()
            print(f"{name} {profile}: built in {built:.1f} s, from the record in {again:.1f} s, equal {equal}, {os.path.getsize(engine) >> 20} MiB", flush=True)
            bench = lambda e, *more: oxrt(a.oxrt, "bench", e, "--seconds", "0.4", "--json", *more, parse=True)[0]
            for size in sizes[: a.sizes]:
                oxrt(a.oxrt, *build, "--dim", f"{dim}={size}", "-o", one)
                many, single = bench(engine, "--size", f"{dim}={size}")["report"], bench(one)["report"]
                ratio = many["device_ms"] / single["device_ms"]
                worst = max(worst, ratio)
                print(f"{name} {dim} {size}: {many['device_ms']:.4f} of {profile}, {single['device_ms']:.4f} alone, ratio {ratio:.3f}", flush=True)
            report = bench(engine, "--size", f"{dim}={profile.split(':')[1]}", "--at-once", "4")["report"]
            keys = ("device_ms", "enqueue_ms", "copy_in_ms", "copy_out_ms", "p50_ms", "device_memory_ms", "device_memory_equal", "throughput_per_s", "at_once_per_s")
            print(f"{name} {profile}: " + ", ".join(f"{k} {report[k]}" for k in keys), flush=True)
            stream = bench(engine, "--stream", "200")["sizes"]
            seen = [s for s in stream if s["again_ms"]]
            # The first size of all brings memory and modules with it.
            new = sorted(s["first_ms"] - s["again_ms"] for s in seen)
            second = sorted(s["second_ms"] - s["again_ms"] for s in seen)
            slowest = max(slowest, statistics.median(new))
            print(f"{name} {profile}: a new size costs {statistics.median(new):.2f} ms (median; {new[0]:.2f} to {new[-1]:.2f}) in its first run, {statistics.median(second):.2f} ({second[-1]:.2f}) in its second, of {len(seen)} sizes", flush=True)
    print(f"largest ratio {worst:.3f}, a new size {slowest:.2f} ms")
    sys.exit(worst > a.most or slowest > a.bind)


if __name__ == "__main__":
    main()
