"""Nodes of the simplified file, and seconds of the conversion, beside torch.onnx (dynamo) followed by onnxsim.

    python node_counts.py --zoo ZOO.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv [--modes static,dynamic]
        [--repeat N] [ID…]

Without IDs: the named sample below, which spans the zoo's families and whose models are small enough to be converted by both on one
core. The zoo's format is that of `pt2_zoo.py`. Both start from the same exported program: torch.onnx gets it in memory and its
time is that of `torch.onnx.export(…, dynamo=True)` and of `onnxsim.simplify`; ours is that of `oxrt export` from the saved file
and of `oxrt simplify --no-check`, processes and files included (with `--repeat`, medians of N runs, taken in turn; `export_seconds` are those of the two exports alone, without
the simplifiers). Programs are kept in DIR, rows in RESULTS.tsv; rows that are there
are not made again. Prints one line per model and the totals.
"""
import argparse
import json
import os
import statistics
import subprocess
import tempfile
import time
import warnings

warnings.filterwarnings("ignore")

import onnx
import torch
from pt2_judge import forked, warm_up
from pt2_zoo import load_zoo

torch.set_num_threads(1)
SAMPLE = (
    "hf/bert hf/roberta hf/albert hf/electra hf/mpnet hf/deberta hf/deberta-v2 hf/mobilebert hf/convbert hf/squeezebert hf/fnet hf/roformer "
    "hf/layoutlm hf/esm hf/distilbert hf/modernbert hf/funnel hf/xlnet hf/gpt2 hf/gpt_neo hf/gpt_neox hf/gptj hf/opt hf/bloom hf/llama hf/mistral "
    "hf/qwen2 hf/qwen3 hf/gemma hf/phi hf/falcon hf/mpt hf/olmo2 hf/cohere hf/mamba hf/mixtral hf/t5 hf/bart hf/marian hf/whisper hf/vit hf/deit "
    "hf/beit hf/dinov2 hf/swin hf/convnext hf/segformer hf/mobilevit hf/poolformer hf/pvt_v2 hf/detr hf/rt_detr hf/clip hf/sam hf/wav2vec2 "
    "hf/hubert hf/patchtst hf/llama-kvstep tv/resnet18 tv/mobilenet_v3_small tv/squeezenet1_1 tv/shufflenet_v2_x0_5 tv/efficientnet_b0 "
    "tv/regnet_y_400mf tv/deeplabv3_mobilenet_v3_large timm/lcnet_035 timm/mobilevit_xxs timm/levit_conv_128s timm/resmlp_12_224 "
    "timm/test_vit_relpos timm/test_efficientnet timm/repghostnet_050"
).split()
COLUMNS = "id mode ours theirs ours_raw theirs_raw seconds their_seconds export_seconds their_export_seconds".split()


def nodes(path):
    def count(graph):
        inner = sum(count(a.g) for n in graph.node for a in n.attribute if a.type == onnx.AttributeProto.GRAPH)
        # A constant is a node or an initializer as the writer likes.
        return inner + sum(n.op_type != "Constant" for n in graph.node)

    return count(onnx.load(path, load_external_data=False).graph)


def ours(oxrt, pt2, tmp):
    def run(*args):
        started = time.time()
        p = subprocess.run([oxrt, *args], capture_output=True, text=True)
        if p.returncode:
            raise RuntimeError(p.stderr[:300])
        return time.time() - started

    export = run("export", pt2, "-o", f"{tmp}/ours.onnx")
    raw = nodes(f"{tmp}/ours.onnx")
    seconds = export + run("simplify", f"{tmp}/ours.onnx", "-o", f"{tmp}/ours_simple.onnx", "--no-check")
    return dict(ours_raw=raw, ours=nodes(f"{tmp}/ours_simple.onnx"), seconds=seconds, export_seconds=export)


def theirs(program, tmp):
    import onnxsim

    started = time.time()
    torch.onnx.export(program, (), f"{tmp}/theirs.onnx", dynamo=True, external_data=False, verbose=False)
    export = time.time() - started
    raw = nodes(f"{tmp}/theirs.onnx")
    started = time.time()
    model, _ = onnxsim.simplify(onnx.load(f"{tmp}/theirs.onnx"))
    onnx.save(model, f"{tmp}/theirs_simple.onnx")
    seconds = export + time.time() - started
    return dict(theirs_raw=raw, theirs=nodes(f"{tmp}/theirs_simple.onnx"), their_seconds=seconds, their_export_seconds=export)


def measure(zoo, a, e, dynamic, folder):
    os.makedirs(folder, exist_ok=True)
    _, _, _, program = zoo.do_export(e, dynamic)
    torch.export.save(program, f"{folder}/model.pt2")
    runs, failed = [], {}
    with tempfile.TemporaryDirectory(dir=folder) as tmp:
        for _ in range(a.repeat):
            row = ours(a.oxrt, f"{folder}/model.pt2", tmp)
            if not failed:
                try:
                    row.update(theirs(program, tmp))
                except Exception as error:
                    failed = dict(theirs=f"fails: {type(error).__name__}")
            runs.append(row)
    row = {**runs[-1], **failed}
    row.update({k: round(statistics.median(r[k] for r in runs if k in r), 4) for k in row if k.endswith("seconds")})
    return row


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--zoo", required=True)
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--out", required=True)
    ap.add_argument("--modes", default="static,dynamic")
    ap.add_argument("--seconds", type=int, default=300)
    ap.add_argument("--repeat", type=int, default=1)
    ap.add_argument("--ours-again", action="store_true", help="keeps what torch.onnx gave, and converts the saved programs again")
    ap.add_argument("ids", nargs="*")
    a = ap.parse_args()
    zoo = load_zoo(a.zoo)
    warm_up()
    rows = {}
    if os.path.exists(a.out):
        rows = {(r["id"], r["mode"]): r for r in map(json.loads, open(a.out))}
    for mode in a.modes.split(","):
        for i in a.ids or SAMPLE:
            e, folder = zoo.ENTRIES[i], f"{a.cases}/{i}/{mode}"
            if mode == "dynamic" and not e.has_dyn:
                continue
            old = rows.get((i, mode))
            if old and "theirs" in old and not a.ours_again:
                row = old
            elif old and a.ours_again and os.path.exists(f"{folder}/model.pt2"):
                with tempfile.TemporaryDirectory(dir=folder) as tmp:
                    row = {**old, **ours(a.oxrt, f"{folder}/model.pt2", tmp)}
            else:
                row = dict(id=i, mode=mode, **forked(lambda: measure(zoo, a, e, mode == "dynamic", folder), a.seconds))
            rows[i, mode] = row
            with open(a.out + ".new", "w") as f:
                f.writelines(json.dumps(r) + "\n" for r in rows.values())
            os.replace(a.out + ".new", a.out)
            print("\t".join(str(row.get(c, row.get("error", ""))) for c in COLUMNS), flush=True)
    for mode in a.modes.split(","):
        both = [r for r in rows.values() if r["mode"] == mode and isinstance(r.get("theirs"), int) and "ours" in r]
        if not both:
            continue
        total = lambda key: sum(r[key] for r in both)
        fewer = sum(r["ours"] <= r["theirs"] for r in both)
        print(
            f"{mode}: {len(both)} models, {total('ours')} nodes for {total('theirs')}; no more nodes in {fewer} of {len(both)}; "
            f"{total('seconds'):.1f} s for {total('their_seconds'):.1f} s (1/{total('their_seconds') / total('seconds'):.0f})"
        )
        timed = [r for r in both if "their_export_seconds" in r]
        if timed:
            own, peer = (sum(r[k] for r in timed) for k in ("export_seconds", "their_export_seconds"))
            print(f"{mode}: export alone, {len(timed)} models: {own:.2f} s for {peer:.1f} s (1/{peer / own:.0f})")


if __name__ == "__main__":
    main()
