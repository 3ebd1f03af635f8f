"""One engine for many sizes on an NVIDIA GPU, beside an engine for each: median device times and their ratios, fp16.

usage: gpu_sizes.py --oxrt PROGRAM [--most RATIO]    (fails when a ratio is larger)
"""

import argparse
import os
import sys
import tempfile

import torch

from gpu import MODELS, oxrt, settle

# Model, the dimension's name, the range, the sizes that are tried.
CASES = [("resnet50", "batch", "1:32:64", (1, 12, 32)), ("bert_base_s128", "batch", "1:8:32", (1, 6))]


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
    a = p.parse_args()
    worst = 0
    with tempfile.TemporaryDirectory() as folder:
        for name, dim, profile, sizes in CASES:
            path, engine, one = (os.path.join(folder, f) for f in ("m.pt2", "many.engine", "one.engine"))
            export(name, path)
            build = ["build", path, "--device", "cuda", "--precision", "fp16"]
            oxrt(a.oxrt, *build, "--dim", f"{dim}={profile}", "-o", engine)
            for size in sizes:
                oxrt(a.oxrt, *build, "--dim", f"{dim}={size}", "-o", one)
                bench = lambda e, *more: oxrt(a.oxrt, "bench", e, "--seconds", "0.4", "--json", *more, parse=True)[0]["report"]
                many, single = bench(engine, "--size", f"{dim}={size}"), bench(one)
                ratio = many["device_ms"] / single["device_ms"]
                worst = max(worst, ratio)
                print(f"{name} {dim} {size}: {many['device_ms']:.4f} ms of {profile}, {single['device_ms']:.4f} ms alone, ratio {ratio:.3f}", flush=True)
    print(f"largest ratio {worst:.3f}")
    sys.exit(worst > a.most)


if __name__ == "__main__":
    main()
