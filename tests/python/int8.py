"""Quantised models: answers beside onnxruntime's, and, when asked, times beside onnxruntime and OpenVINO.

Models are made here, quantised by onnxruntime's static quantiser (QDQ, random calibration data, random weights) per channel
and per tensor, with unsigned and signed activations, and in the form that OpenVINO's NNCF writes (rounding behind the
activation, real biases). Checked for each: no float convolution or matrix product with weights is left; the share of values
within one quantum of onnxruntime's unoptimised answer is no smaller than that of onnxruntime's own optimised answer less
SLACK; the error to the float model is at most MARGIN times onnxruntime's.

usage: int8.py --oxrt PROGRAM --cases FOLDER [--models FOLDER NAME...]
       int8.py --oxrt PROGRAM --cases FOLDER --models FOLDER NAME... --time BENCH_PEER [--threads 2] [--rounds 5] [--openvino PYTHON]

`--models FOLDER` takes NAME.onnx and NAME.npz (in0, out0 …) as the CPU comparison makes them, beside the small models.
`--time` takes the example program `bench_peer`; peers answer in turn in one run, and medians and ratios are printed.
"""

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import time

import numpy as np

# Rounding differences spread through deep networks: two exact orders of summing differ as much.
SLACK = 0.05
MARGIN = 1.1
# A value is within one quantum when it is no further off than this.
QUANTUM = 1.01


def small_models():
    """Name → (module, example input)."""
    import torch
    from torch import nn

    torch.manual_seed(0)

    class Residual(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem = nn.Sequential(nn.Conv2d(3, 16, 3, 2, 1), nn.ReLU(), nn.MaxPool2d(3, 2, 1))
            self.a, self.b = nn.Conv2d(16, 24, 1), nn.Conv2d(24, 16, 3, 1, 1)
            self.down, self.last = nn.Conv2d(16, 32, 1, 2), nn.Conv2d(16, 32, 3, 2, 1, groups=2)
            self.head = nn.Linear(32, 10)

        def forward(self, x):
            x = self.stem(x)
            x = torch.relu(self.b(torch.relu(self.a(x))) + x)
            x = torch.relu(self.last(x) + self.down(x))
            return self.head(x.mean((2, 3)))

    class Mobile(nn.Module):
        def __init__(self):
            super().__init__()
            self.stem, self.act = nn.Conv2d(3, 20, 3, 2, 1), nn.Hardswish()
            self.depth = nn.Conv2d(20, 20, 5, 1, 2, groups=20)
            self.squeeze, self.excite = nn.Conv2d(20, 8, 1), nn.Conv2d(8, 20, 1)
            self.point = nn.Conv2d(20, 12, 1)

        def forward(self, x):
            x = self.act(self.depth(self.act(self.stem(x))))
            gate = nn.functional.hardsigmoid(self.excite(torch.relu(self.squeeze(x.mean((2, 3), keepdim=True)))))
            return self.point(x * gate)

    class Detector(nn.Module):
        def __init__(self):
            super().__init__()
            self.a, self.b = nn.Conv2d(3, 16, 3, 2, 1), nn.Conv2d(16, 32, 3, 2, 1)
            self.c, self.d = nn.Conv2d(32, 16, 1), nn.Conv2d(16, 16, 3, 1, 1)
            self.out = nn.Conv2d(32, 9, 1)

        def forward(self, x):
            act = lambda v: nn.functional.leaky_relu(v, 0.1)
            a = act(self.a(x))
            c = act(self.c(act(self.b(a))))
            c = c + act(self.d(c))
            up = nn.functional.interpolate(c, scale_factor=2.0)
            return self.out(torch.cat([up, a], 1))

    class Block(nn.Module):
        def __init__(self, width=64, heads=4):
            super().__init__()
            self.heads, self.norm, self.norm2 = heads, nn.LayerNorm(width), nn.LayerNorm(width)
            self.q, self.k, self.v, self.o = (nn.Linear(width, width) for _ in range(4))
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x):
            n = self.norm(x)
            split = lambda t: t.reshape(*t.shape[:2], self.heads, -1).transpose(1, 2)
            q, k, v = split(self.q(n)), split(self.k(n)), split(self.v(n))
            p = torch.softmax(q @ k.transpose(2, 3) * (q.shape[-1] ** -0.5), -1)
            x = x + self.o((p @ v).transpose(1, 2).reshape(x.shape))
            return x + self.down(nn.functional.gelu(self.up(self.norm2(x))))

    image = torch.randn(1, 3, 64, 64)
    return {
        "residual": (Residual(), image),
        "mobile": (Mobile(), image),
        "detector": (Detector(), image),
        "block": (Block(), torch.randn(1, 40, 64)),
    }


def export_small(folder):
    import torch

    names = []
    for name, (module, x) in small_models().items():
        path = f"{folder}/{name}.onnx"
        if not os.path.exists(path):
            with torch.no_grad():
                y = module.eval()(x)
                torch.onnx.export(module, (x,), path, dynamo=True, external_data=False, verbose=False)
            np.savez(f"{folder}/{name}.npz", in0=x.numpy(), out0=y.numpy())
        names.append((folder, name))
    return names


def quantise(source, path, signed, per_channel):
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    prepared = path[: -len(".onnx")] + ".prepared"
    quant_pre_process(source, prepared, skip_symbolic_shape=True)
    given = onnx.load(prepared, load_external_data=False).graph.input[0]
    shape = [d.dim_value for d in given.type.tensor_type.shape.dim]
    integers = given.type.tensor_type.elem_type == onnx.TensorProto.INT64
    random = np.random.default_rng(5)

    class Reader(CalibrationDataReader):
        left = 2

        def get_next(self):
            self.left -= 1
            if self.left < 0:
                return None
            data = random.integers(0, 30000, shape) if integers else random.standard_normal(shape).astype("f4")
            return {given.name: data}

    quantize_static(
        prepared,
        path,
        Reader(),
        quant_format=QuantFormat.QDQ,
        per_channel=per_channel,
        activation_type=QuantType.QInt8 if signed else QuantType.QUInt8,
        weight_type=QuantType.QInt8,
    )
    os.remove(prepared)


def as_nncf(path, out):
    """Moves the rounding of a convolution's result behind its activation, and makes its bias real."""
    import onnx
    from onnx import helper, numpy_helper

    model = onnx.load(path)
    g = model.graph
    constants = {t.name: t for t in g.initializer}
    makers = {o: n for n in g.node for o in n.output}
    readers = {}
    for n in g.node:
        for i in n.input:
            readers.setdefault(i, []).append(n)
    gone = []
    for conv in [n for n in g.node if n.op_type in ("Conv", "Gemm")]:
        if len(conv.input) > 2 and conv.input[2] in makers and makers[conv.input[2]].op_type == "DequantizeLinear":
            dq = makers[conv.input[2]]
            q, s = (numpy_helper.to_array(constants[i]) for i in dq.input[:2])
            g.initializer.append(numpy_helper.from_array((q * s).astype("f4"), dq.output[0] + "_real"))
            conv.input[2] = dq.output[0] + "_real"
        chain = [conv]
        for op in ("QuantizeLinear", "DequantizeLinear"):
            after = readers.get(chain[-1].output[0], [])
            if len(after) != 1 or after[0].op_type != op:
                break
            chain.append(after[0])
        acts = readers.get(chain[-1].output[0], [])
        if len(chain) == 3 and len(acts) == 1 and acts[0].op_type in ("Relu", "LeakyRelu", "HardSwish"):
            acts[0].input[0] = conv.output[0]
            gone += chain[1:]
    for n in gone:
        g.node.remove(n)
    onnx.save(model, out)


def floats_left(oxrt, model, engine):
    """(steps, steps that multiply weights in floats, steps of the reference evaluator)."""
    run = subprocess.run([oxrt, "build", model, "-o", engine], capture_output=True, text=True, check=True)
    shown = subprocess.run([oxrt, "inspect", engine, "--nodes"], capture_output=True, text=True, check=True).stdout
    steps = [line.split()[:2] for line in shown.splitlines() if re.match(r"^[A-Za-z.]+ {2,}[a-z_0-9:]+", line)]
    floats = [s for s in steps if s[0] in ("Conv", "oxrt.Conv", "Gemm", "oxrt.Gemm", "MatMul", "oxrt.ConvTranspose")]
    host = re.findall(r"(\d+) node\(s\) run by the reference", run.stdout + run.stderr)
    return len(steps), floats, sum(map(int, host))


def answers_onnxruntime(model, feed, optimised):
    import onnxruntime as ort

    options = ort.SessionOptions()
    options.intra_op_num_threads = 2
    level = ort.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimised else level.ORT_DISABLE_ALL
    session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {session.get_inputs()[0].name: feed})


def quanta(model):
    """For each output, the scale of the rounding that makes it, or None; and the outputs' names."""
    import onnx
    from onnx import numpy_helper

    g = onnx.load(model).graph
    constants = {t.name: t for t in g.initializer}
    scale = {n.output[0]: n.input[1] for n in g.node if n.op_type == "DequantizeLinear"}
    number = lambda name: float(numpy_helper.to_array(constants[name]).ravel()[0])
    names = [o.name for o in g.output]
    return names, [number(scale[o]) if o in scale else None for o in names], g.input[0].name


def check(oxrt, folder, name, model):
    """Compares one quantised model; returns what is wrong with it."""
    data = np.load(f"{folder}/{name}.npz")
    x = data["in0"]
    np.save(model + ".npy", x)
    names, scales, given = quanta(model)
    out = model + ".npz"
    subprocess.run([oxrt, "run", model, "--in", f"{given}={model}.npy", "--out", out], capture_output=True, check=True)
    own, plain, peer = np.load(out), answers_onnxruntime(model, x, False), answers_onnxruntime(model, x, True)
    steps, floats, host = floats_left(oxrt, model, model + ".engine")
    wrong = []
    if floats or host:
        wrong.append(f"{len(floats)} float products and {host} reference steps are left: {floats[:3]}")
    error = lambda a, b: float(np.linalg.norm(a.astype("f8") - b) / (np.linalg.norm(b) + 1e-30))
    shares = []
    for i, (o, scale) in enumerate(zip(names, scales)):
        y, real = own[o], data[f"out{i}"]
        ours, theirs = error(y, real), error(peer[i], real)
        if ours > MARGIN * theirs + 1e-3:
            wrong.append(f"`{o}` is {ours:.4f} from the float model, onnxruntime {theirs:.4f}")
        if scale is not None:
            share = lambda a: float(np.mean(np.abs(a - plain[i]) <= QUANTUM * scale))
            shares.append((share(y), share(peer[i])))
            if shares[-1][0] < shares[-1][1] - SLACK:
                wrong.append(f"`{o}`: {shares[-1][0]:.4f} within one quantum, onnxruntime {shares[-1][1]:.4f}")
        shares.append((round(ours, 4), round(theirs, 4)))
    print(f"{os.path.basename(model)}: {steps} steps, {shares}", "; ".join(wrong) or "ok", flush=True)
    return wrong


def peer(kind, model, npz, threads):
    """A process that answers `go K` with the median milliseconds of K runs."""
    x = np.load(npz)["in0"]
    if kind == "onnxruntime":
        import onnxruntime as ort

        options = ort.SessionOptions()
        options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
        session = ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        given = session.get_inputs()[0].name
        run = lambda: session.run(None, {given: x})
    else:
        import openvino

        hints = {"INFERENCE_NUM_THREADS": threads, "PERFORMANCE_HINT": "LATENCY", "NUM_STREAMS": 1}
        compiled = openvino.Core().compile_model(model, "CPU", hints)
        request = compiled.create_infer_request()

        def run():
            request.infer([x])
            return [request.get_output_tensor(i).data for i in range(len(compiled.outputs))]

    run()
    print("ready", flush=True)
    for line in sys.stdin:
        times = []
        for _ in range(int(line.split()[1])):
            start = time.perf_counter()
            run()
            times.append((time.perf_counter() - start) * 1e3)
        print(statistics.median(times), flush=True)


def measure(args, model, npz):
    """Medians of all peers in milliseconds, in turn."""
    x = np.ascontiguousarray(np.load(npz)["in0"])
    folder = model + ".in"
    os.makedirs(folder, exist_ok=True)
    x.tofile(f"{folder}/in0.bin")
    with open(f"{folder}/in0.txt", "w") as f:
        f.write(f"{x.dtype} {' '.join(map(str, x.shape))}\n")
    own = [args.time, model, folder, str(args.threads)]
    ask = lambda python, kind: [python, __file__, "--peer", kind, model, npz, str(args.threads)]
    commands = {"oxrt": own, "onnxruntime": ask(sys.executable, "onnxruntime")}
    if args.openvino:
        commands["openvino"] = ask(args.openvino, "openvino")
    peers = {}
    for name, argv in commands.items():
        p = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        line = p.stdout.readline()
        while line and not line.startswith("ready"):
            line = p.stdout.readline()
        peers[name] = p

    def go(p, runs):
        p.stdin.write(f"go {runs}\n")
        p.stdin.flush()
        return float(p.stdout.readline())

    runs = {}
    for name, p in peers.items():
        go(p, 2)
        runs[name] = max(3, min(100, int(250 / go(p, 2))))
    times = {name: [] for name in peers}
    for _ in range(args.rounds):
        for name, p in peers.items():
            times[name].append(go(p, runs[name]))
    for p in peers.values():
        p.stdin.close()
        p.wait()
    return {name: statistics.median(t) for name, t in times.items()}


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True)
    p.add_argument("--cases", required=True)
    p.add_argument("--models", nargs="+", default=[])
    p.add_argument("--time")
    p.add_argument("--openvino", help="a Python that has it")
    p.add_argument("--threads", type=int, default=2)
    p.add_argument("--rounds", type=int, default=5)
    args = p.parse_args()
    os.makedirs(args.cases, exist_ok=True)
    models = [(args.models[0], name) for name in args.models[1:]]
    if not args.time:
        models = export_small(args.cases) + models
    wrong = []
    for folder, name in models:
        forms = [(False, True), (True, False)] if folder == args.cases else [(False, not name.startswith("bert"))]
        made = []
        for signed, per_channel in forms:
            path = f"{args.cases}/{name}.{'s8' if signed else 'u8'}.{'channel' if per_channel else 'tensor'}.onnx"
            if not os.path.exists(path):
                quantise(f"{folder}/{name}.onnx", path, signed, per_channel)
            made.append(path)
        if folder == args.cases and name != "block":
            path = f"{args.cases}/{name}.nncf.onnx"
            as_nncf(made[0], path)
            made.append(path)
        for path in made:
            if not args.time:
                wrong += [f"{path}: {w}" for w in check(args.oxrt, folder, name, path)]
                continue
            ms = measure(args, path, f"{folder}/{name}.npz")
            ratios = {k: round(v / ms["oxrt"], 2) for k, v in ms.items() if k != "oxrt"}
            print(json.dumps({"model": name, "threads": args.threads, "ms": ms, "times oxrt": ratios}), flush=True)
    if wrong:
        sys.exit("\n".join(wrong))


if __name__ == "__main__":
    if len(sys.argv) == 6 and sys.argv[1] == "--peer":
        peer(sys.argv[2], sys.argv[3], sys.argv[4], int(sys.argv[5]))
    else:
        main()
