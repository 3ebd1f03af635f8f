"""What the side-by-side times of `cargo xtask bench` do not show: memory, loading, building, sizes that change.

usage: cpu_lines.py MODE --oxrt PROGRAM --models FOLDER [--work FOLDER] [--threads 2] [--peer BENCH_PEER] [NAME...]

MODE `memory`: peak resident memory of a process that loads and runs, and the arena beside its lower bound.
MODE `load`: from engine file to first output, beside onnxruntime's session and first run; files in the cache.
MODE `build`: a build with kernels timed, the build again with the record, and whether both are the same bytes.
MODE `sizes`: models with sizes left open (made here from torchvision and transformers), by BENCH_PEER, the example
`bench_peer`: a size of a static engine beside the same size of the open one, what a new size adds to its first run, and a stream
of random sizes beside onnxruntime.
NAME.onnx and NAME.npz as the CPU comparison makes them. Every figure is a median of runs in turn; a table per mode.
"""

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import time

import numpy as np

# One process per figure, so that peaks are its own. Prints baseline and peak KiB, seconds to the first output.
ORT = """
import resource, sys, time, numpy as np, onnxruntime as o
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
model, npz, threads, runs = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
x, before = np.load(npz)["in0"], peak()
t = time.perf_counter()
so = o.SessionOptions(); so.intra_op_num_threads = threads; so.inter_op_num_threads = 1
s = o.InferenceSession(model, so, providers=["CPUExecutionProvider"]); n = s.get_inputs()[0].name
s.run(None, {n: x}); t = time.perf_counter() - t
for _ in range(runs): s.run(None, {n: x})
print(before, peak(), t)
"""


def onnxruntime(args, name, runs):
    argv = [sys.executable, "-c", ORT, f"{args.models}/{name}.onnx", f"{args.models}/{name}.npz", str(args.threads), str(runs)]
    before, peak, seconds = subprocess.check_output(argv, text=True).split()
    return int(before) / 1024, int(peak) / 1024, float(seconds) * 1e3


def build(args, model, engine, *more):
    start = time.perf_counter()
    argv = [args.oxrt, "build", model, "-o", engine, "--threads", str(args.threads), *more]
    subprocess.run(argv, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.perf_counter() - start


def engine_of(args, name):
    engine = f"{args.work}/{name}.engine"
    build(args, f"{args.models}/{name}.onnx", engine, "--tuning", f"{args.work}/{name}.json")
    return engine


def report(args, engine, *more):
    argv = [args.oxrt, "bench", engine, "--threads", str(args.threads), "--seconds", "0", "--runs", "3", "--json", *more]
    return json.loads(subprocess.check_output(argv, text=True))


def memory(args, names):
    print("| model | onnxruntime, MiB | less Python and its modules | oxrt, MiB | ratio to that | arena to its lower bound |\n|---|---|---|---|---|---|")
    for name in names:
        engine = engine_of(args, name)
        r = report(args, engine)["report"]
        before, peak, _ = onnxruntime(args, name, 3)
        mine = r["peak_rss_bytes"] / 2**20
        arena = r["arena_bytes"] / max(r["arena_lower_bound_bytes"], 1)
        print(f"| {name} | {peak:.0f} | {peak - before:.0f} | {mine:.0f} | {mine / (peak - before):.2f} | {arena:.2f} |", flush=True)
        os.remove(engine)


def load(args, names):
    print("| model | onnxruntime, ms | oxrt, ms | ratio |\n|---|---|---|---|")
    for name in names:
        engine = engine_of(args, name)
        theirs, mine = [], []
        for _ in range(3):
            r = report(args, engine)
            mine.append(r["load_ms"] + r["report"]["first_run_ms"])
            theirs.append(onnxruntime(args, name, 0)[2])
        mine, theirs = statistics.median(mine), statistics.median(theirs)
        print(f"| {name} | {theirs:.0f} | {mine:.1f} | {mine / theirs:.2f} |", flush=True)
        os.remove(engine)


def building(args, names):
    print("| model | build, s | with the record, s | same bytes |\n|---|---|---|---|")
    for name in names:
        model, record = f"{args.models}/{name}.onnx", f"{args.work}/{name}.new.json"
        if os.path.exists(record):
            os.remove(record)
        engines = [f"{args.work}/{name}.{i}.engine" for i in range(2)]
        seconds = [build(args, model, e, "--tuning", record) for e in engines]
        same = subprocess.run(["cmp", "-s", *engines]).returncode == 0
        print(f"| {name} | {seconds[0]:.2f} | {seconds[1]:.2f} | {'yes' if same else 'NO'} |", flush=True)
        [os.remove(e) for e in engines]


def open_models(args):
    """Name → (file, ranges of the shape, random shapes)."""
    import torch

    rng = random.Random(1)
    files = {n: f"{args.work}/{n}_open.onnx" for n in ("resnet50", "bert")}
    if not os.path.exists(files["resnet50"]):
        import torchvision

        m, x = torchvision.models.resnet50(weights=None).eval(), torch.randn(2, 3, 224, 224)
        dims = ({0: torch.export.Dim("n", max=8), 2: torch.export.Dim.AUTO, 3: torch.export.Dim.AUTO},)
        torch.onnx.export(m, (x,), files["resnet50"], dynamo=True, external_data=False, verbose=False, dynamic_shapes=dims)
    if not os.path.exists(files["bert"]):
        from transformers import BertConfig, BertModel

        class Bert(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.m = BertModel(BertConfig(), add_pooling_layer=False)

            def forward(self, x):
                return self.m(input_ids=x).last_hidden_state

        dims = ({0: torch.export.Dim("n", max=8), 1: torch.export.Dim("s", max=512)},)
        x = torch.randint(0, 30000, (2, 100))
        torch.onnx.export(Bert().eval(), (x,), files["bert"], dynamo=True, external_data=False, verbose=False, dynamic_shapes=dims)
    sides = [160, 192, 224, 256]
    return {
        "resnet50": (files["resnet50"], [(1, 1, 2), (3, 3, 3), (160, 224, 256), (160, 224, 256)], [(rng.choice([1, 2]), 3, rng.choice(sides), rng.choice(sides)) for _ in range(40)]),
        "bert": (files["bert"], [(1, 1, 2), (8, 128, 200)], [(rng.choice([1, 2]), rng.randrange(8, 200)) for _ in range(40)]),
    }


class Peer:
    """A `bench_peer` with an engine for the model whose sizes have these ranges (least, usual, most)."""

    def __init__(self, args, model, ranges, dtype):
        import onnx

        shape = [r[1] for r in ranges]
        dims = onnx.load(model, load_external_data=False).graph.input[0].type.tensor_type.shape.dim
        named = [(d.dim_param, r) for d, r in zip(dims, ranges) if d.dim_param]
        options = [o for name, r in named for o in ("--dim", f"{name}={':'.join(map(str, r))}")]
        engine = f"{args.work}/sizes.engine"
        build(args, model, engine, "--tune", *options)
        folder = f"{args.work}/inputs"
        os.makedirs(folder, exist_ok=True)
        np.zeros(shape, dtype).tofile(f"{folder}/in0.bin")
        with open(f"{folder}/in0.txt", "w") as f:
            f.write(f"{np.dtype(dtype).name} {' '.join(map(str, shape))}\n")
        argv = [args.peer, engine, folder, str(args.threads)]
        self.process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout.readline().startswith("ready")

    def ask(self, line):
        print(line, file=self.process.stdin, flush=True)
        return float(self.process.stdout.readline())

    def size(self, shape):
        return self.ask("size " + " ".join(map(str, shape)))

    def end(self):
        self.process.stdin.close()
        self.process.wait()


def fixed(args, model, shape):
    """The model with its input fixed to a shape."""
    import onnx

    m = onnx.load(model)
    dims = m.graph.input[0].type.tensor_type.shape.dim
    for d, n in zip(dims, shape):
        d.dim_value = n
    del m.graph.value_info[:]
    path = model.replace("_open", "_fixed")
    onnx.save(m, path)
    return path


def sizes(args, names):
    import onnxruntime as ort

    print("| model | fixed, ms | open, ms | ratio | new size adds, ms | stream, onnxruntime ms | stream, oxrt ms | ratio |\n|---|---|---|---|---|---|---|---|")
    for name, (model, ranges, stream) in open_models(args).items():
        if names and name not in names:
            continue
        shape = [r[1] for r in ranges]
        dtype = np.float32 if name == "resnet50" else np.int64
        opened, static = Peer(args, model, ranges, dtype), Peer(args, fixed(args, model, shape), ranges, dtype)
        [p.ask("go 5") for p in (opened, static)]
        times = [(static.ask("go 10"), opened.ask("go 10")) for _ in range(7)]
        one, other = (statistics.median(t) for t in zip(*times))
        static.end()
        # A size met for the first time, and the same again.
        added = []
        for s in [(1, *shape[1:-1], shape[-1] - 5 * i) for i in range(1, 6)]:
            first = opened.size(s)
            added.append(first - statistics.median(opened.size(s) for _ in range(5)))
        # One stream after the other: onnxruntime's threads go on turning for a while after a run.
        mine, theirs = [opened.size(s) for s in stream], []
        opened.end()
        so = ort.SessionOptions()
        so.intra_op_num_threads, so.inter_op_num_threads = args.threads, 1
        session = ort.InferenceSession(model, so, providers=["CPUExecutionProvider"])
        feed = session.get_inputs()[0].name
        session.run(None, {feed: np.zeros(shape, dtype)})
        for s in stream:
            x = np.zeros(s, dtype)
            t = time.perf_counter()
            session.run(None, {feed: x})
            theirs.append((time.perf_counter() - t) * 1e3)
        a, b = sum(theirs), sum(mine)
        print(f"| {name} | {one:.2f} | {other:.2f} | {other / one:.3f} | {statistics.median(added):.2f} | {a:.0f} | {b:.0f} | {a / b:.2f} |", flush=True)


def main():
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = {"memory": memory, "load": load, "build": building, "sizes": sizes}
    p.add_argument("mode", choices=modes)
    p.add_argument("--oxrt", default="target/fast/oxrt")
    p.add_argument("--peer", default="target/fast/examples/bench_peer")
    p.add_argument("--models", default="target/bench-models")
    p.add_argument("--work", default="target/cpu-lines")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("names", nargs="*")
    args = p.parse_intermixed_args()
    os.makedirs(args.work, exist_ok=True)
    if args.mode != "sizes" and not args.names:
        args.names = sorted(f[:-5] for f in os.listdir(args.models) if f.endswith(".onnx"))
    modes[args.mode](args, args.names)


if __name__ == "__main__":
    main()
