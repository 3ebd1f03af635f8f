"""`oxrt simplify` beside onnxsim and OnnxSlim: nodes, contract, numbers at several sizes, time.

    python simplify_peers.py --oxrt target/fast/oxrt --cases DIR [--onnx-cases DIR] [--pt2 DIR] [--exports DIR] [--out RESULTS.jsonl] [--only TEXT] [--again]

Models: those that torch's old tracer (`torch.onnx.export(…, dynamo=False)`) makes of twenty networks with small random configurations, kept
in DIR; of `--onnx-cases` the official light and pytorch ones; of `--pt2` (programs kept by node_counts.py) what `oxrt export` writes; the files
of `--exports` as they are (what `torch.onnx.export(…, dynamo=True)` made of a collection of networks). Each
result is run by onnxruntime on the inputs of the original, at two sizes per dynamic dimension. A count takes subgraphs in and leaves
`Constant` nodes out, which are initializers to others. Times: of the call for the peers (their imports left out), of the whole process for
oxrt, with its comparison with the original left out (`seconds`) and done (`checked_seconds`); `cpu` and `checked_cpu` are those of all processors. Exit status 1 when a contract or a number of
oxrt's changed, or where it has more nodes than the better of the two.
"""
import argparse
import json
import multiprocessing
import os
import resource
import subprocess
import sys
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")
import logging

logging.disable(logging.WARNING)

import numpy as np
import onnx

# The peers fold constants of any size; the default of oxrt keeps those that would make the file larger by more than 1 MiB.
FOLD = str(3 << 29)
TRACED = (
    "tv/resnet18 tv/mobilenet_v2 tv/mobilenet_v3_small tv/efficientnet_b0 tv/shufflenet_v2_x0_5 tv/squeezenet1_1 tv/googlenet tv/densenet121 "
    "tv/regnet_y_400mf tv/mnasnet0_5 tv/vit tv/swin timm/levit_conv_128s timm/mobilevit_xxs timm/resmlp_12_224 hf/bert hf/distilbert hf/gpt2 "
    "hf/t5-encoder hf/vit"
).split()


def make(name):
    """Network, inputs, names of the inputs, and which axes are dynamic."""
    import torch

    torch.manual_seed(0)
    family, name = name.split("/")
    image = (torch.randn(2, 3, 64, 64),)
    batch = {"x": {0: "batch"}}
    if family == "tv":
        import torchvision.models as tv

        if name == "vit":
            return tv.VisionTransformer(image_size=32, patch_size=8, num_layers=2, num_heads=2, hidden_dim=32, mlp_dim=64, num_classes=10), (torch.randn(2, 3, 32, 32),), ["x"], batch
        if name == "swin":
            return tv.SwinTransformer([4, 4], 16, [2, 2], [2, 2], [4, 4], num_classes=10), image, ["x"], batch
        kw = dict(init_weights=False, aux_logits=False) if name == "googlenet" else {}
        net = getattr(tv, name)(weights=None, num_classes=10, **kw)
        spatial = {"x": {0: "batch", 2: "height", 3: "width"}}
        return net, image, ["x"], spatial if name in ("resnet18", "squeezenet1_1") else batch
    if family == "timm":
        import timm

        side = 224 if name.endswith("224") or "levit" in name else 64
        return timm.create_model(name, pretrained=False), (torch.randn(1, 3, side, side),), ["x"], batch
    import transformers as hf

    small = dict(hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, vocab_size=100)
    ids = torch.randint(0, 99, (2, 7))
    text = {"input_ids": {0: "batch", 1: "seq"}, "attention_mask": {0: "batch", 1: "seq"}}

    class Tuple(torch.nn.Module):
        def __init__(self, net):
            super().__init__()
            self.net = net

        def forward(self, input_ids, attention_mask):
            return self.net(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]

    eager = dict(attn_implementation="eager")
    nets = {
        "bert": lambda: hf.BertModel(hf.BertConfig(**small, **eager)),
        "distilbert": lambda: hf.DistilBertModel(hf.DistilBertConfig(dim=32, n_layers=2, n_heads=2, hidden_dim=64, vocab_size=100, **eager)),
        "gpt2": lambda: hf.GPT2Model(hf.GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=100, use_cache=False, **eager)),
        "t5-encoder": lambda: hf.T5EncoderModel(hf.T5Config(d_model=32, d_kv=16, d_ff=64, num_layers=2, num_heads=2, vocab_size=100)),
        "vit": lambda: hf.ViTModel(hf.ViTConfig(image_size=32, patch_size=8, **{k: v for k, v in small.items() if k != "vocab_size"}, **eager)),
    }
    net = nets[name]()
    if name == "vit":

        class Image(torch.nn.Module):
            def __init__(self):
                super().__init__()
                self.net = net

            def forward(self, x):
                return self.net(x, return_dict=False)[0]

        return Image(), (torch.randn(2, 3, 32, 32),), ["x"], batch
    return Tuple(net), (ids, torch.ones_like(ids)), ["input_ids", "attention_mask"], text


def trace(name, path):
    import torch

    net, inputs, names, axes = make(name)
    torch.onnx.export(net.eval(), inputs, path, input_names=names, output_names=["y"], dynamic_axes={**axes}, dynamo=False, opset_version=17)


def forked(work, seconds):
    """Result of a call in a process of its own, or what went wrong."""

    def child(pipe):
        try:
            pipe.send(work())
        except BaseException as e:
            pipe.send(dict(error=f"{type(e).__name__}: {e}"[:200]))

    here, there = multiprocessing.Pipe(False)
    p = multiprocessing.get_context("fork").Process(target=child, args=(there,))
    p.start()
    there.close()
    try:
        return here.recv() if here.poll(seconds) else dict(error=f"more than {seconds} s")
    except EOFError:
        p.join()
        return dict(error=f"died with {p.exitcode}")
    finally:
        p.kill()
        p.join()


def nodes(model):
    def count(graph):
        inner = sum(count(a.g) for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
        return inner + sum(n.op_type != "Constant" for n in graph.node)

    return count(model.graph)


def contract(model):
    def value(v):
        t = v.type.tensor_type
        return (v.name, t.elem_type, [d.dim_param or d.dim_value for d in t.shape.dim] if t.HasField("shape") else None)

    constants = {i.name for i in model.graph.initializer}
    return [value(v) for v in model.graph.input if v.name not in constants], [value(v) for v in model.graph.output]


def changes(before, after):
    """What of a contract changed: a dimension that was unknown may become known."""
    found = []
    for what, a, b in zip(("input", "output"), before, after):
        if [v[:2] for v in a] != [v[:2] for v in b]:
            found.append(f"{what}s {[v[:2] for v in a]} became {[v[:2] for v in b]}")
            continue
        for (name, _, x), (_, _, y) in zip(a, b):
            if x is not None and (y is None or len(x) != len(y) or any(i and i != j for i, j in zip(x, y))):
                if x != y and not (y is not None and all(i == j or i in ("", 0) or "_dim_" in str(i) for i, j in zip(x, y))):
                    found.append(f"{what} {name} {x} became {y}")
    return found


def feeds(model, seed):
    """Inputs at sizes that differ with `seed`."""
    rng, sizes = np.random.default_rng(seed), {}
    constants = {i.name for i in model.graph.initializer}
    result = {}
    for v in model.graph.input:
        if v.name in constants:
            continue
        t = v.type.tensor_type
        shape = []
        for axis, d in enumerate(t.shape.dim):
            big = d.dim_param in ("height", "width")
            shape.append(d.dim_value or sizes.setdefault(d.dim_param or f"{v.name}{axis}", (64 + 32 * seed) if big else 2 + 3 * seed))
        kind = onnx.helper.tensor_dtype_to_np_dtype(t.elem_type)
        if np.issubdtype(kind, np.floating):
            result[v.name] = rng.standard_normal(shape).astype(kind)
        elif kind == np.bool_:
            result[v.name] = rng.random(shape) < 0.5
        else:
            result[v.name] = rng.integers(0, 2, shape).astype(kind)
    return result


def run(path, inputs):
    import onnxruntime as ort

    o = ort.SessionOptions()
    o.intra_op_num_threads, o.log_severity_level = 1, 4
    o.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return ort.InferenceSession(path, o, providers=["CPUExecutionProvider"]).run(None, inputs)


def compare(original, result):
    """Largest difference relative to the largest number, over two sizes; `None` when onnxruntime cannot run the original."""
    model, worst = onnx.load(original, load_external_data=False), None
    for seed in (0, 1):
        inputs = feeds(model, seed)
        try:
            want = run(original, inputs)
        except Exception:
            continue
        got = run(result, inputs)
        for g, w in zip(got, want):
            g, w = np.asarray(g), np.asarray(w)
            if g.shape != w.shape or g.dtype != w.dtype:
                return dict(difference=float("inf"))
            if w.size and w.dtype.kind in "fiub":
                g, w = g.astype(np.float64), w.astype(np.float64)
                both = np.isfinite(g) & np.isfinite(w)
                same = (g == w) | (np.isnan(g) & np.isnan(w))
                d = np.abs(g - w)[both].max(initial=0) / max(np.abs(w)[both].max(initial=0), 1e-6)
                worst = max(worst or 0, float("inf") if (~both & ~same).any() else float(d))
    return dict(difference=worst)


def ours(a, path, out):
    command = [a.oxrt, "simplify", path, "-o", out, "--fold-limit", FOLD]
    plain, seconds, cpu = timed(lambda: subprocess.run([*command, "--no-check"], capture_output=True, text=True))
    if plain.returncode:
        return dict(error=plain.stderr[:200])
    # Every tool writes a new file: to replace one costs time of its own.
    os.remove(out)
    checked, checked_seconds, checked_cpu = timed(lambda: subprocess.run(command, capture_output=True, text=True))
    times = dict(seconds=seconds, cpu=cpu, checked_seconds=checked_seconds, checked_cpu=checked_cpu)
    return dict(**times, **(dict(error="check: " + checked.stderr[:200]) if checked.returncode else {}))


def timed(work):
    """Result, seconds, and seconds of all processors together: the latter hold on a busy machine too."""
    used = lambda: sum(sum(resource.getrusage(who)[:2]) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    started, before = time.time(), used()
    result = work()
    return result, time.time() - started, used() - before


def onnxsim(path, out):
    import onnxsim

    _, seconds, cpu = timed(lambda: onnx.save(onnxsim.simplify(onnx.load(path))[0], out))
    return dict(seconds=seconds, cpu=cpu)


def onnxslim(path, out):
    import onnxslim

    _, seconds, cpu = timed(lambda: onnx.save(onnxslim.slim(path), out))
    return dict(seconds=seconds, cpu=cpu)


def measure(a, name, path):
    row = dict(id=name)
    before = onnx.load(path, load_external_data=False)
    row["before"] = nodes(before)
    with tempfile.TemporaryDirectory() as tmp:
        for tool, work in (
            ("oxrt", lambda out: ours(a, path, out)),
            ("onnxsim", lambda out: onnxsim(path, out)),
            ("onnxslim", lambda out: onnxslim(path, out)),
        ):
            out = f"{tmp}/{tool}.onnx"
            got = forked(lambda: work(out), a.seconds)
            if "error" not in got:
                after = onnx.load(out, load_external_data=False)
                got.update(nodes=nodes(after), changed=changes(contract(before), contract(after)))
                got.update(forked(lambda: compare(path, out), a.seconds))
            row[tool] = got
    return row


def models(a):
    for name in TRACED:
        path = f"{a.cases}/{name.replace('/', '-')}.onnx"
        if not os.path.exists(path) and (not a.only or a.only in "traced/" + name):
            os.makedirs(a.cases, exist_ok=True)
            made = forked(lambda: trace(name, path), a.seconds)
            if made:
                print(f"traced/{name}\tnot made: {made['error']}", flush=True)
                if os.path.exists(path):
                    os.remove(path)
                continue
        yield "traced/" + name, path
    for suite in ("light", "pytorch-converted", "pytorch-operator") if a.onnx_cases else ():
        for case in sorted(os.listdir(f"{a.onnx_cases}/{suite}")):
            yield f"{suite}/{case}", f"{a.onnx_cases}/{suite}/{case}/model.onnx"
    for folder, _, files in sorted(os.walk(a.pt2)) if a.pt2 else ():
        if "model.pt2" in files:
            name, path = "zoo/" + os.path.relpath(folder, a.pt2), f"{folder}/exported.onnx"
            if not os.path.exists(path) and (not a.only or a.only in name):
                subprocess.run([a.oxrt, "export", f"{folder}/model.pt2", "-o", path], capture_output=True)
            if os.path.exists(path):
                yield name, path
    for file in sorted(os.listdir(a.exports)) if a.exports else ():
        if file.endswith(".onnx"):
            yield "exports/" + file[:-5], f"{a.exports}/{file}"


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--onnx-cases")
    ap.add_argument("--pt2")
    ap.add_argument("--exports")
    ap.add_argument("--out")
    ap.add_argument("--only")
    ap.add_argument("--again", action="store_true", help="keeps what the peers gave, and runs oxrt anew")
    ap.add_argument("--seconds", type=int, default=300)
    a = ap.parse_args()
    rows = {}
    if a.out and os.path.exists(a.out):
        rows = {r["id"]: r for r in map(json.loads, open(a.out))}
    # Loaded once, before the forks.
    import onnxruntime  # noqa: F401
    import onnxsim  # noqa: F401
    import onnxslim  # noqa: F401

    bad = []
    for name, path in models(a):
        if a.only and a.only not in name:
            continue
        if name not in rows:
            rows[name] = measure(a, name, path)
        elif a.again:
            with tempfile.TemporaryDirectory() as tmp:
                out = f"{tmp}/oxrt.onnx"
                got = ours(a, path, out)
                if "error" not in got:
                    before, after = (onnx.load(p, load_external_data=False) for p in (path, out))
                    got.update(nodes=nodes(after), changed=changes(contract(before), contract(after)))
                    got.update(forked(lambda: compare(path, out), a.seconds))
                rows[name]["oxrt"] = got
        r = rows[name]
        o, peers = r["oxrt"], [r[t]["nodes"] for t in ("onnxsim", "onnxslim") if is_right(r[t])]
        trouble = []
        if not is_right(o):
            trouble.append(o.get("error") or f"difference {o['difference']}")
        trouble += o.get("changed", [])
        if "nodes" in o and peers and o["nodes"] > min(peers):
            trouble.append("more nodes")
        if trouble:
            bad.append(name)
        cells = [name, r["before"]] + [r[t].get("nodes", r[t].get("error", "")) for t in ("oxrt", "onnxsim", "onnxslim")]
        print("\t".join(map(str, cells + ["; ".join(trouble)])), flush=True)
        if a.out:
            with open(a.out + ".new", "w") as f:
                f.writelines(json.dumps(x) + "\n" for x in rows.values())
            os.replace(a.out + ".new", a.out)
    report(rows)
    sys.exit(bool(bad))


def is_right(got):
    d = got.get("difference")
    return "nodes" in got and (d is None or d < 1e-3)


def report(rows):
    for group in ("traced/", "light/", "pytorch-", "zoo/", "exports/", ""):
        for peer in ("onnxsim", "onnxslim"):
            both = [r for k, r in rows.items() if k.startswith(group) and is_right(r["oxrt"]) and is_right(r[peer])]
            if not both:
                continue
            total = lambda tool, key: sum(r[tool][key] for r in both)
            ratio = total("oxrt", "nodes") / max(total(peer, "nodes"), 1)
            print(
                f"{group or 'all'} beside {peer}: {len(both)} models, {total('oxrt', 'nodes')} nodes for {total(peer, 'nodes')} ({ratio - 1:+.1%}); more in "
                f"{sum(r['oxrt']['nodes'] > r[peer]['nodes'] for r in both)}; {total('oxrt', 'cpu'):.1f} s of processors (with the "
                f"comparison {total('oxrt', 'checked_cpu'):.1f} s) for {total(peer, 'cpu'):.1f} s; contract changed by {peer} in "
                f"{sum(bool(r[peer]['changed']) for r in both)}, by oxrt in {sum(bool(r['oxrt']['changed']) for r in both)}"
            )
    for tool in ("oxrt", "onnxsim", "onnxslim"):
        wrong = [k for k, r in rows.items() if not is_right(r[tool])]
        print(f"{tool} fails or is wrong on {len(wrong)}: {' '.join(wrong[:20])}")


if __name__ == "__main__":
    main()
