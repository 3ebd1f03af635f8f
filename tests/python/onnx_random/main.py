"""Random ONNX graphs: oxrt against onnxruntime.

    python main.py --peer target/fast/onnx_peer --graphs 2000 --seed 1 [--jobs 2] [--only FAMILY] [--keep DIR]

Draws graphs of 1 to 12 nodes over the operators, attributes, shapes, types and opset versions, runs them by onnxruntime
and by oxrt (the engine with fixed, shared and free sizes, and the reference evaluator), and shrinks what differs. One in
20 is damaged on purpose: such a graph may be refused, but must not bring anything down. Differences that are explained in
known.py are counted; any other fails the run and is kept as a case that `onnx_cases` can run.
"""
import argparse
import collections
import json
import multiprocessing
import pathlib
import random
import sys
import time
import traceback
import warnings

import numpy as np

warnings.filterwarnings("ignore")
import control  # noqa: E402
import elementwise  # noqa: E402
import movement  # noqa: E402
import narrow  # noqa: E402
import neural  # noqa: E402
import rare  # noqa: E402
from draw import Draw, Reject  # noqa: E402
from known import explained  # noqa: E402
from onnx import TensorProto  # noqa: E402
from peer import OnnxRuntime, Oxrt, to_pb  # noqa: E402
from shrink import shrink  # noqa: E402

FAMILIES = {**elementwise.FAMILIES, **movement.FAMILIES, **neural.FAMILIES, **control.FAMILIES, **narrow.FAMILIES, **rare.FAMILIES}
OPSETS = (7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 18, 19, 20, 21, 21, 22, 23, 23, 24, 24)
# onnxruntime is released for these; newer ones are drawn for oxrt's engine against its reference evaluator.
NEWEST = (25, 26, 27, 28)


def draw(seed, families):
    rng = random.Random(seed)
    opset = rng.choice(OPSETS) if rng.random() < 0.93 else rng.choice(NEWEST)
    d = Draw(seed, opset)
    wanted = rng.choice((1, 1, 2, 2, 3, 4, 5, 6, 8, 12))
    tries = 0
    while len(d.nodes) < wanted and tries < 60:
        tries += 1
        family, = rng.choices(list(families), families.values())
        try:
            family(d)
        except Reject:
            pass
    return d.graph() if d.nodes else None


def damaged(graph, seed):
    """The graph with one thing wrong, or at least odd."""
    rng = random.Random(seed)
    node = rng.choice(graph.nodes)
    what = rng.randrange(5)
    if what == 0 and node.attribute:
        attr = rng.choice(node.attribute)
        if attr.type == 2:
            attr.i = rng.choice((-1, 0, 2, 1 << 40, -(1 << 62)))
        elif attr.type == 7:
            attr.ints[:] = [rng.choice((-1, 0, 1, 3, 1 << 40)) for _ in range(rng.randrange(5))]
        elif attr.type == 3:
            attr.s = b"nonsense"
        else:
            del node.attribute[:]
    elif what == 1 and node.input:
        del node.input[rng.randrange(len(node.input))]
    elif what == 2 and node.input:
        node.input[rng.randrange(len(node.input))] = rng.choice(list(graph.arrays) or [""])
    elif what == 3 and graph.arrays:
        name = rng.choice(list(graph.arrays))
        shape = tuple(rng.choice((0, 1, 2, 5)) for _ in range(rng.randrange(5)))
        graph.arrays[name] = np.resize(graph.arrays[name], shape) if graph.arrays[name].size else np.zeros(shape, graph.arrays[name].dtype)
    elif graph.arrays and not any(n.op_type in ("Range", "Loop") for n in graph.nodes):     # a long one is as good as any other
        name = rng.choice(list(graph.arrays))
        array = graph.arrays[name]
        if array.dtype.kind in "iu" and array.size:
            flat = array.copy().reshape(-1)
            flat[rng.randrange(flat.size)] = rng.choice((-1, 0, 77, np.iinfo(array.dtype).max, np.iinfo(array.dtype).min)) if array.dtype.kind == "i" else 255
            graph.arrays[name] = flat.reshape(array.shape)
    return graph


# Two neighbours in bfloat16 are at most this part of themselves apart: 7 bits stand behind the leading one.
BFLOAT_STEP = 2.0**-7
# Operators that hand elements on as they are.
EXACT = {"Transpose", "Reshape", "Concat", "Gather", "Slice", "Expand", "Where", "ReduceMax", "ReduceMin", "Relu", "Abs", "Neg", "Identity"}


def bfloat_steps(graph):
    """Results that are rounded to bfloat16: each side may take another neighbour at every one of them."""
    kept, steps = set(), 0
    for node in graph.nodes:
        to = next((a.i for a in node.attribute if a.name == "to"), None)
        if to == TensorProto.BFLOAT16 if to is not None else kept.intersection(node.input):
            kept.update(node.output)
            steps += node.op_type not in EXACT
    return steps


class Judge:
    def __init__(self, command):
        self.ort, self.oxrt = OnnxRuntime(), Oxrt(command)

    def verdict(self, graph, damaged=False):
        """(verdict of oxrt, whether onnxruntime gave an answer); None for the first when all is well."""
        model = graph.model().SerializeToString()
        inputs = [graph.arrays[n] for n in graph.inputs()]
        wanted = None if damaged else self.ort.run(model, dict(zip(graph.inputs(), inputs)))
        answer = self.oxrt.judge(model, inputs, wanted, rtol=max(2e-3, bfloat_steps(graph) * BFLOAT_STEP))
        bad = {way: v for way, v in answer.items() if v is not None}
        if damaged:
            bad = {way: v for way, v in bad.items() if v[0] == "panic"}
        elif wanted is None:
            # Both may refuse: but then oxrt must do so in every way of running.
            kinds = {v[0] for v in bad.values()}
            if kinds <= {"error", "declined"} and len(bad) in (0, 4):
                bad = {}
        return bad or None, wanted is not None


def work(index, args, results):
    try:
        work_until_done(index, args, results)
    except BaseException:  # told to the parent, which would take silence for a death
        results.put(("fault", index, traceback.format_exc()))


def work_until_done(index, args, results):
    judge = Judge([args.peer])
    families = {f: w for f, w in FAMILIES.items() if args.only in f.__name__}
    for i in range(index, args.graphs, args.jobs):
        seed = args.seed * 1_000_003 + i
        results.put(("start", index, i))
        graph = draw(seed, families)
        if graph is None:
            continue
        odd = seed % 20 == 0
        if odd:
            graph = damaged(graph, seed)
        bad, answered = judge.verdict(graph, odd)
        operators = [n.op_type for n in graph.nodes]
        if bad is None:
            results.put(("good", index, (answered, odd, operators)))
            continue
        small = graph if odd else shrink(graph, judge)
        bad = judge.verdict(small, odd)[0] or bad
        results.put(("bad", index, (seed, answered, odd, operators, describe(small), bad, None if odd else explained(small, bad), files(small, judge, odd))))
    results.put(("done", index, None))


def describe(graph):
    from onnx import helper
    lines = [f"opset {graph.opset}"]
    for name, array in graph.arrays.items():
        kind = "constant" if name in graph.constants else "input"
        values = f" = {array.reshape(-1)[:12].tolist()}" if array.size <= 12 else ""
        lines.append(f"{kind} {name}: {array.dtype}{list(array.shape)}{values}")
    lines += [helper.printable_node(n) if not any(a.type == 5 for a in n.attribute) else n.op_type for n in graph.nodes]
    return "\n".join(lines + [f"outputs {graph.outputs}"])


def files(graph, judge, odd):
    inputs = [graph.arrays[n] for n in graph.inputs()]
    model = graph.model().SerializeToString()
    # What onnxruntime makes of a damaged graph is of no interest, and may be large.
    outputs = [] if odd else judge.ort.run(model, dict(zip(graph.inputs(), inputs))) or []
    return model, [to_pb(x) for x in inputs], [to_pb(x) for x in outputs]


def keep(folder, name, stored):
    model, inputs, outputs = stored
    data = folder / "random" / name / "test_data_set_0"
    data.mkdir(parents=True, exist_ok=True)
    (data.parent / "model.onnx").write_bytes(model)
    for which, values in (("input", inputs), ("output", outputs)):
        for i, value in enumerate(values):
            (data / f"{which}_{i}.pb").write_bytes(value)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--peer", required=True)
    parser.add_argument("--graphs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--only", default="")
    parser.add_argument("--keep", type=pathlib.Path, default=pathlib.Path("target/onnx-random"))
    args = parser.parse_args()
    started = time.monotonic()
    results = multiprocessing.Queue()
    running = {}

    def start(index, first):
        # The stride stays that of all workers; a worker that takes over begins after the graph that ended the last.
        process = multiprocessing.Process(target=work, args=(first, args, results), daemon=True)
        process.start()
        running[index] = [process, first]

    for k in range(args.jobs):
        start(k, k)
    counts, operators = collections.Counter(), collections.Counter()
    groups = collections.defaultdict(list)
    died = []
    while running:
        try:
            kind, first, payload = results.get(timeout=0.3)
        except Exception:
            for index, (process, at) in list(running.items()):
                if not process.is_alive():
                    # onnxruntime ends its process on some graphs; the next one is drawn.
                    counts["onnxruntime died"] += 1
                    died.append(args.seed * 1_000_003 + at)
                    start(index, at + args.jobs) if at + args.jobs < args.graphs else running.pop(index)
            continue
        index = first % args.jobs
        if kind == "start":
            running[index][1] = payload
        elif kind == "fault":
            sys.exit(payload)
        elif kind == "done":
            running.pop(index, None)
        elif kind == "good":
            answered, odd, ops = payload
            counts["damaged" if odd else "agree" if answered else "onnxruntime declined"] += 1
            operators.update(ops)
        else:
            seed, answered, odd, ops, text, bad, why, stored = payload
            operators.update(ops)
            if why:
                counts[f"explained: {why}"] += 1
                continue
            counts["differ"] += 1
            keep(args.keep, str(seed), stored)
            head = text.splitlines()
            op = next((line.split(" = ")[1].split("(")[0].split("[")[0] for line in head if " = " in line and line.startswith("%")), "?")
            key = (op, tuple(sorted((way, v[0]) for way, v in bad.items())))
            groups[key].append((seed, text, bad))
    for (op, ways), found in sorted(groups.items(), key=lambda g: -len(g[1])):
        seed, text, bad = min(found, key=lambda f: len(f[1]))
        print(f"\n=== {len(found)} × {op} {dict(ways)}; shortest has seed {seed}\n{text}")
        for way, (kind, message) in bad.items():
            print(f"  {way}: {kind}: {message[:400]}")
    for name, n in counts.most_common():
        print(f"{n:>7}  {name}")
    print(f"{len(operators)} operators, {sum(operators.values())} nodes, {time.monotonic() - started:.0f} s")
    if died:
        print("onnxruntime ended its process at the seeds", died[:20])
    least = sorted(operators.items(), key=lambda o: o[1])[:12]
    print("least often:", ", ".join(f"{o} {n}" for o, n in least))
    return 1 if counts["differ"] else 0


if __name__ == "__main__":
    sys.exit(main())
