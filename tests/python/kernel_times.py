"""Operators beside onnxruntime: single nodes, both answering in turn in one run; answers are compared first.

usage: kernel_times.py --peer BENCH_PEER [--large] [--threads 2] [--rounds 5] [--only TEXT] [--markdown]

`BENCH_PEER` is the example program of that name. Prints the medians in ms and the ratio (oxrt to onnxruntime) of each; of the rounds,
the one that was disturbed least counts on either side.

`--large` takes tensors that no cache holds, and adds the bytes that have to move (inputs read once, results written once) per second,
and their share of what a copy of such a tensor moves (by numpy, in as many threads).
"""

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto as T
from onnx import helper, numpy_helper

MS = "com.microsoft"


def noise(shape, seed=0, dtype=np.float32):
    return np.random.default_rng(seed).normal(size=shape).astype(dtype)


class Case:
    """One node; inputs named in `constants` are initialisers."""

    def __init__(self, name, op, inputs, constants=(), outputs=1, domain="", opset=21, dynamic=False, tolerance=1e-3, **attrs):
        self.name, self.op, self.inputs, self.constants = name, op, inputs, set(constants)
        self.outputs, self.domain, self.opset, self.attrs = outputs, domain, opset, attrs
        self.dynamic, self.tolerance = dynamic, tolerance

    def feed(self):
        return [(f"x{i}", x) for i, x in enumerate(self.inputs) if x is not None and i not in self.constants]

    def write(self, path):
        names = [f"x{i}" if x is not None else "" for i, x in enumerate(self.inputs)]
        inits = [numpy_helper.from_array(x, f"x{i}") for i, x in enumerate(self.inputs) if i in self.constants and x is not None]
        typed = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in self.feed()]
        ys = [f"y{i}" for i in range(self.outputs)]
        node = helper.make_node(self.op, names, ys, domain=self.domain, **self.attrs)
        results = [helper.make_value_info(y, onnx.TypeProto()) for y in ys]
        graph = helper.make_graph([node], self.name, typed, results, inits)
        opsets = [helper.make_opsetid("", self.opset), helper.make_opsetid(MS, 1)]
        onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=10), path)


def few_bits(rows, n, k, bits, block, zeros=False):
    random = np.random.default_rng(1)
    blocks = -(-k // block)
    inputs = [noise([rows, k]), random.integers(0, 256, [n, blocks, block * bits // 8], dtype=np.uint8),
              random.uniform(0.001, 0.01, [n * blocks]).astype(np.float32)]
    if zeros:
        inputs.append(random.integers(0, 256, [n * -(-blocks * bits // 8)], dtype=np.uint8))
    return Case(f"MatMulNBits {bits} bits, blocks of {block}{', zero points' if zeros else ''}, {rows} x {k} x {n}", "MatMulNBits", inputs,
                constants=range(1, len(inputs)), domain=MS, K=k, N=n, bits=bits, block_size=block)


def boxes(count, seed=3):
    corner = np.random.default_rng(seed).uniform(0, 600, [1, count, 2])
    size = np.random.default_rng(seed + 1).uniform(5, 80, [1, count, 2])
    return np.concatenate([corner, corner + size], -1).astype(np.float32)


def recurrent(op, gates, steps=64, batch=4, size=128, hidden=128, peepholes=False, **attrs):
    inputs = [noise([steps, batch, size]), noise([1, gates * hidden, size], 1) * np.float32(0.1),
              noise([1, gates * hidden, hidden], 2) * np.float32(0.1), noise([1, 2 * gates * hidden], 3)]
    if peepholes:
        inputs += [None, None, None, noise([1, 3 * hidden], 4)]
    extra = ", peepholes" if peepholes else "".join(f", {k}={v}" for k, v in attrs.items())
    return Case(f"{op} {steps} steps of {batch} x {hidden}{extra}", op, inputs, constants=[1, 2, 3, 7], hidden_size=hidden, **attrs)


def cases():
    i64 = lambda *v: np.array(v, np.int64)
    yield few_bits(1, 4096, 4096, 4, 32)
    yield few_bits(1, 4096, 4096, 4, 32, zeros=True)
    yield few_bits(1, 4096, 4096, 4, 128)
    yield few_bits(1, 4096, 4096, 8, 32)
    yield few_bits(4, 4096, 4096, 4, 32)
    yield few_bits(8, 4096, 4096, 4, 32)
    yield few_bits(16, 4096, 4096, 4, 32)
    yield few_bits(128, 4096, 4096, 4, 32)
    table = np.random.default_rng(5).integers(0, 256, [32000, 1024], dtype=np.uint8)
    yield Case("GatherBlockQuantized 128 of 32000 x 2048", "GatherBlockQuantized",
               [table, np.random.default_rng(6).integers(0, 32000, [128]), np.random.default_rng(7).uniform(0.01, 0.1, [32000, 64]).astype(np.float32)],
               constants=[0, 2], domain=MS, block_size=32, bits=4, quantize_axis=1, gather_axis=0)
    yield Case("STFT 160000, frames of 400 by 160", "STFT", [noise([1, 160000]), i64(160)[0], np.hanning(400).astype(np.float32), i64(400)[0]],
               constants=[1, 2, 3], opset=17, onesided=1)
    yield Case("STFT 160000, frames of 512 by 128", "STFT", [noise([1, 160000, 1]), i64(128)[0], np.hanning(512).astype(np.float32), i64(512)[0]],
               constants=[1, 2, 3], opset=17, onesided=1)
    yield Case("DFT 64 x 1024, real, half", "DFT", [noise([64, 1024, 1])], onesided=1)
    yield Case("DFT 64 x 1000, complex", "DFT", [noise([64, 1000, 2])])
    yield Case("DFT 64 x 1009, complex", "DFT", [noise([64, 1009, 2])])
    picture = np.random.default_rng(8).integers(0, 256, [1, 3, 480, 640], dtype=np.uint8)
    yield Case("Resize linear u8 480 x 640 to 224 x 224", "Resize", [picture, None, None, i64(1, 3, 224, 224)], constants=[3], mode="linear", tolerance=1.0)
    yield Case("Resize linear u8 480 x 640 to 960 x 1280", "Resize", [picture, None, None, i64(1, 3, 960, 1280)], constants=[3], mode="linear", tolerance=1.0)
    yield Case("Resize cubic f32 240 x 320 to 480 x 640", "Resize", [noise([1, 3, 240, 320]), None, None, i64(1, 3, 480, 640)], constants=[3], mode="cubic")
    yield Case("Resize linear f32, antialias, 480 x 640 to 224 x 224", "Resize", [noise([1, 3, 480, 640]), None, None, i64(1, 3, 224, 224)], constants=[3],
               mode="linear", antialias=1)
    yield Case("Resize cubic f32, antialias, 480 x 640 to 224 x 224", "Resize", [noise([1, 3, 480, 640]), None, None, i64(1, 3, 224, 224)], constants=[3],
               mode="cubic", antialias=1)
    yield recurrent("LSTM", 4)
    yield recurrent("LSTM", 4, peepholes=True)
    yield recurrent("LSTM", 4, input_forget=1)
    yield recurrent("GRU", 3, linear_before_reset=0)
    yield recurrent("GRU", 3, linear_before_reset=1)
    mask = np.random.default_rng(18).uniform(size=[128, 128]) < 0.8
    yield Case("Attention 8 heads of 128 x 64, bool mask", "Attention", [noise([1, 8, 128, 64]), noise([1, 8, 128, 64], 1), noise([1, 8, 128, 64], 2), mask],
               opset=23)
    square = noise([16, 64, 64])
    yield Case("Einsum bii->bi of 16 x 64 x 64", "Einsum", [square], equation="bii->bi")
    yield Case("Einsum bqhd,bkhd->bhqk, 8 heads of 128 x 64", "Einsum", [noise([2, 128, 8, 64]), noise([2, 128, 8, 64], 1)], equation="bqhd,bkhd->bhqk")
    score = np.random.default_rng(9).uniform(size=[1, 1, 5000]).astype(np.float32)
    yield Case("NonMaxSuppression 5000 boxes, 100 kept", "NonMaxSuppression", [boxes(5000), score, i64(100), np.float32([0.5]), np.float32([0.05])],
               constants=[2, 3, 4])
    many = np.random.default_rng(9).uniform(size=[1, 80, 2000]).astype(np.float32)
    yield Case("NonMaxSuppression 2000 boxes, 80 classes", "NonMaxSuppression", [boxes(2000), many, i64(100), np.float32([0.5]), np.float32([0.5])],
               constants=[2, 3, 4])
    keep = np.random.default_rng(10).uniform(size=[1 << 20]) < 0.5
    yield Case("Compress half of 1M f32", "Compress", [noise([1 << 20]), keep])
    yield Case("Compress half of 100k rows of 3", "Compress", [noise([100_000, 3]), keep[:100_000]], axis=0)
    yield Case("Compress half of 100k rows of 4", "Compress", [noise([100_000, 4]), keep[:100_000]], axis=0)
    yield Case("Compress half of 4096 rows of 256", "Compress", [noise([4096, 256]), keep[:4096]], axis=0)
    yield Case("NonZero of 1M bool, half", "NonZero", [keep])
    yield Case("Unique of 100k i64, sorted", "Unique", [np.random.default_rng(11).integers(0, 5000, [100000])])
    yield Case("TopK 100 of 100k", "TopK", [noise([1, 100000]), i64(100)], constants=[1], outputs=2)
    yield Case("RoiAlign 100 of 256 x 50 x 50", "RoiAlign", [noise([1, 256, 50, 50]), boxes(100)[0], np.zeros(100, np.int64)], opset=16,
               output_height=7, output_width=7, sampling_ratio=2, spatial_scale=0.0625)
    moved = noise([1, 18, 32, 32], 20)
    yield Case("DeformConv 64 to 64, 3 x 3 at 32 x 32", "DeformConv", [noise([1, 64, 32, 32]), noise([64, 64, 3, 3], 1), moved], constants=[1], opset=19,
               pads=[1, 1, 1, 1], kernel_shape=[3, 3])
    yield Case("Col2Im 64 of 3 x 3 at 56 x 56", "Col2Im", [noise([1, 576, 3136]), i64(56, 56), i64(3, 3)], constants=[1, 2], opset=18, pads=[1, 1, 1, 1])
    grid = np.random.default_rng(12).uniform(-1, 1, [1, 64, 64, 2]).astype(np.float32)
    yield Case("GridSample 64 x 64 x 64", "GridSample", [noise([1, 64, 64, 64]), grid], opset=20)
    yield Case("ScatterElements add 256 x 1024", "ScatterElements", [noise([256, 1024]), np.random.default_rng(13).integers(0, 256, [256, 1024]), noise([256, 1024], 1)],
               axis=0, reduction="add")
    yield Case("CumSum 512 x 4096", "CumSum", [noise([512, 4096]), np.int64(1)], constants=[1])
    yield Case("ReduceMean i32 512 x 4096", "ReduceMean", [np.random.default_rng(14).integers(-99, 99, [512, 4096], dtype=np.int32), i64(1)], constants=[1], tolerance=1.0)
    yield Case("ReduceSum f64 512 x 4096", "ReduceSum", [noise([512, 4096], dtype=np.float64), i64(1)], constants=[1])
    yield Case("MatMul f32 128 x 4096 x 4096", "MatMul", [noise([128, 4096]), noise([4096, 4096], 1)], constants=[1])
    yield Case("MatMul f32 128 x 4096 x 4096, both computed", "MatMul", [noise([128, 4096]), noise([4096, 4096], 1)])
    yield Case("MatMul f64 256", "MatMul", [noise([256, 256], 0, np.float64), noise([256, 256], 1, np.float64)])
    yield Case("MatMul i32 256", "MatMul", [np.random.default_rng(15).integers(-99, 99, [256, 256], dtype=np.int32)] * 2)
    yield Case("MatMulInteger 256 x 1024 x 1024", "MatMulInteger", [np.random.default_rng(16).integers(0, 255, [256, 1024], dtype=np.uint8),
                                                                   np.random.default_rng(17).integers(-99, 99, [1024, 1024], dtype=np.int8)], constants=[1])
    yield Case("Softmax f32 512 x 4096", "Softmax", [noise([512, 4096])])
    yield Case("LpNormalization 512 x 4096", "LpNormalization", [noise([512, 4096])])


def chain(count, elements):
    """A graph of elementwise nodes, each by a constant or of one value."""
    steps = [("Add", 0.25), ("Mul", 0.75), ("Relu", None), ("Sub", 0.125), ("Max", -0.5), ("Abs", None), ("Min", 4.0), ("Neg", None), ("Mul", 1.25), ("Add", 0.5)]
    nodes, inits = [], []
    for i in range(count):
        op, value = steps[i % len(steps)]
        names = [f"t{i}" if i else "x0"]
        if value is not None:
            inits.append(numpy_helper.from_array(np.float32(value), f"c{i}"))
            names.append(f"c{i}")
        nodes.append(helper.make_node(op, names, ["y0" if i == count - 1 else f"t{i + 1}"]))
    return Graph(f"chain of {count} elementwise nodes, {elements >> 20} M", nodes, [noise([elements])], inits)


def tiny(count):
    """Nodes of four values that nothing fuses."""
    nodes = [helper.make_node("Softmax" if i % 2 else "CumSum", ["x0" if i == 0 else f"t{i}"] + ([] if i % 2 else ["axis"]), [f"t{i + 1}"]) for i in range(count)]
    nodes[-1].output[0] = "y0"
    return Graph(f"{count} nodes of 4 values", nodes, [noise([1, 4])], [numpy_helper.from_array(np.int64(1), "axis")])


class Graph(Case):
    """Several nodes from `x0` … to `y0`."""

    def __init__(self, name, nodes, inputs, inits=()):
        super().__init__(name, "", inputs)
        self.nodes, self.inits = nodes, list(inits)

    def write(self, path):
        typed = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(x.dtype), x.shape) for n, x in self.feed()]
        graph = helper.make_graph(self.nodes, "chain", typed, [helper.make_value_info("y0", onnx.TypeProto())], self.inits)
        onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=10), path)


def large():
    i64 = lambda *v: np.array(v, np.int64)
    rows = noise([4096, 4096])
    scale, shift = noise([4096], 1), noise([4096], 2)
    maps = noise([4, 64, 256, 256])
    yield chain(50, 1 << 20)
    yield chain(10, 1 << 24)
    yield tiny(1000)
    yield Case("Softmax", "Softmax", [rows])
    yield Case("LayerNormalization", "LayerNormalization", [rows, scale, shift], constants=[1, 2], opset=17)
    yield Case("RMSNormalization", "RMSNormalization", [rows, scale], constants=[1], opset=23)
    yield Case("GroupNormalization, 8 groups", "GroupNormalization", [maps, noise([64], 1), noise([64], 2)], constants=[1, 2], num_groups=8)
    yield Case("Transpose of rows and columns", "Transpose", [rows], perm=[1, 0])
    yield Case("Transpose of images to channels last", "Transpose", [maps], perm=[0, 2, 3, 1])
    yield Case("Transpose of heads", "Transpose", [noise([8, 2048, 16, 64])], perm=[0, 2, 1, 3])
    yield Case("Concat along the last dimension", "Concat", [noise([4096, 2048]), noise([4096, 2048], 1)], axis=1)
    yield Case("Concat along the first dimension", "Concat", [noise([2048, 4096]), noise([2048, 4096], 1)], axis=0)
    yield Case("Slice of every row", "Slice", [rows, i64(0, 1024), i64(4096, 3072), i64(0, 1)], constants=[1, 2, 3])
    yield Case("Resize, nearest, twice the size", "Resize", [noise([1, 64, 256, 256]), None, np.float32([1, 1, 2, 2])], constants=[2], mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor")
    yield Case("Resize, linear, twice the size", "Resize", [noise([1, 64, 256, 256]), None, np.float32([1, 1, 2, 2])], constants=[2], mode="linear")
    yield Case("MaxPool 2 x 2", "MaxPool", [maps], kernel_shape=[2, 2], strides=[2, 2])
    yield Case("AveragePool 3 x 3, padded", "AveragePool", [maps], kernel_shape=[3, 3], strides=[2, 2], pads=[1, 1, 1, 1])
    yield Case("GlobalAveragePool", "GlobalAveragePool", [maps])
    yield Case("Gather of rows", "Gather", [rows, np.random.default_rng(3).permutation(4096)], axis=0)
    yield Case("GatherElements along the first dimension", "GatherElements", [rows, np.random.default_rng(4).integers(0, 4096, [1024, 4096])], axis=0)
    yield Case("TopK 8 of rows", "TopK", [rows, i64(8)], constants=[1], outputs=2)
    yield Case("ReduceSum of rows", "ReduceSum", [rows, i64(1)], constants=[1], keepdims=0)
    yield Case("ReduceMean of columns", "ReduceMean", [rows, i64(0)], constants=[1], keepdims=0, opset=18)
    yield Case("ReduceMax of everything", "ReduceMax", [rows], keepdims=0, opset=18)
    yield Case("ArgMax of rows", "ArgMax", [rows], axis=1)
    yield Case("CumSum of rows", "CumSum", [rows, np.int64(1)], constants=[1])
    yield Case("CumSum of columns", "CumSum", [rows, np.int64(0)], constants=[1])


def copy_speed(threads):
    """Bytes per second that a copy reads and writes, of a tensor that no cache holds."""
    a, b = np.ones((threads, (16 << 20) // threads), np.float32), np.empty((threads, (16 << 20) // threads), np.float32)
    seconds = []
    for _ in range(10):
        parts = [threading.Thread(target=np.copyto, args=(b[i], a[i])) for i in range(threads)]
        start = time.perf_counter()
        [p.start() for p in parts]
        [p.join() for p in parts]
        seconds.append(time.perf_counter() - start)
    return 2 * a.nbytes / min(seconds)


class Oxrt:
    def __init__(self, peer, folder, case, threads):
        for i, (_, x) in enumerate(case.feed()):
            with open(f"{folder}/in{i}.txt", "w") as f:
                f.write(" ".join([x.dtype.name, *map(str, x.shape)]))
            x.tofile(f"{folder}/in{i}.bin")
        self.folder = folder
        self.process = subprocess.Popen([peer, f"{folder}/m.onnx", folder, str(threads)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                        text=True)
        if not self.process.stdout.readline().startswith("ready"):
            raise RuntimeError(self.process.stderr.read())

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline().strip()

    def answers(self, like):
        self.ask(f"out {self.folder}")
        return [np.fromfile(f"{self.folder}/out{i}.bin", y.dtype).reshape(y.shape) for i, y in enumerate(like)]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def measure(args, case, folder):
    case.write(f"{folder}/m.onnx")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = args.threads
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(f"{folder}/m.onnx", options, providers=["CPUExecutionProvider"])
    feed = dict(case.feed())
    want = session.run(None, feed)
    args.moved = sum(x.nbytes for x in [*case.inputs, *want] if x is not None)
    if case.op in ("Slice", "Gather", "GatherElements"):
        # Of the data, what is taken.
        args.moved += want[0].nbytes - case.inputs[0].nbytes
    peer = Oxrt(args.peer, folder, case, args.threads)
    for got, w in zip(peer.answers(want), want):
        off = np.abs(got.astype(np.float64) - w.astype(np.float64)).max(initial=0)
        if off > case.tolerance * max(1.0, np.abs(w.astype(np.float64)).max(initial=0)):
            print(f"{case.name}: answers are {off} apart", file=sys.stderr)
            args.failed = True

    def ort(runs):
        times = []
        for _ in range(runs):
            start = time.perf_counter()
            session.run(None, feed)
            times.append((time.perf_counter() - start) * 1e3)
        return statistics.median(times)

    runs = int(min(200, max(3, 30 / max(ort(2), 0.01))))
    ours, theirs = [], []
    for _ in range(args.rounds):
        theirs.append(ort(runs))
        ours.append(float(peer.ask(f"go {runs}")))
    peer.close()
    return min(theirs), min(ours)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--only", default="")
    parser.add_argument("--markdown", action="store_true")
    args = parser.parse_args()
    args.failed = False
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    speed = copy_speed(args.threads) if args.large else 0
    if args.large:
        print(f"a copy moves {speed / 1e9:.1f} GB/s")
    for case in large() if args.large else cases():
        if args.only.lower() not in case.name.lower():
            continue
        with tempfile.TemporaryDirectory() as folder:
            try:
                theirs, ours = measure(args, case, folder)
            except Exception as e:
                print(f"{case.name}: {str(e).strip().splitlines()[-1] if str(e).strip() else e!r}", file=sys.stderr)
                args.failed = True
                continue
        row = [f"{theirs:.3f}", f"{ours:.3f}", f"{ours / theirs:.2f}"]
        if args.large:
            rate = args.moved / (ours * 1e-3)
            row += [f"{rate / 1e9:.1f}", f"{100 * rate / speed:.0f} %"]
        print(f"| {case.name} | {' | '.join(row)} |" if args.markdown else f"{case.name:62} {' '.join(f'{cell:>9}' for cell in row)}", flush=True)
    return args.failed


if __name__ == "__main__":
    sys.exit(main())
