"""The whole road for the families that the README names, against eager PyTorch and onnxruntime.

    python families.py --oxrt target/fast/oxrt --cases target/pt2-cases [--only SUBSTRING]

Every model is exported by PyTorch (as written by torch.export, and decomposed to core ATen; static and, where it makes
sense, with dynamic sizes), then
  1. `oxrt export` writes ONNX, which must pass onnx.checker with full shape inference,
  2. onnxruntime runs it and must agree with eager PyTorch, at every set of sizes,
  3. `oxrt run` on the .pt2 builds an engine in memory, and must agree too.
Prints one line per case and closes with `N passed, N failed`. Exit status 1 when any fails.
"""
import argparse
import os
import re
import subprocess
import sys
import time
import traceback
import warnings

warnings.filterwarnings("ignore")
os.environ.setdefault("HF_HUB_OFFLINE", "1")

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn as nn
import torch.nn.functional as F

onnxruntime.set_default_logger_severity(3)
RTOL, ATOL = 1e-3, 1e-4


def conv_bn(i, o, k, s=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1))


class Detector(nn.Module):
    """YOLOv3 in small: residual stages, two heads joined by upsampling and concatenation."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = conv_bn(3, 8, 3), conv_bn(8, 16, 3, 2), conv_bn(16, 32, 3, 2)
        self.r = conv_bn(32, 32, 3)
        self.h1, self.u = nn.Conv2d(32, 18, 1), conv_bn(32, 16, 1)
        self.h2 = nn.Conv2d(32, 18, 1)

    def forward(self, image):
        b = self.b(self.a(image))
        c = self.c(b)
        c = c + self.r(c)
        up = F.interpolate(self.u(c), scale_factor=2.0)
        return self.h1(c), self.h2(torch.cat([up, b], 1))


class UNet(nn.Module):
    def __init__(self, b=8):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, 1, 1), nn.GroupNorm(4, o), nn.SiLU(), nn.Conv2d(o, o, 3, 1, 1), nn.BatchNorm2d(o), nn.ReLU(inplace=True))

        self.d1, self.d2 = block(3, b), block(b, 2 * b)
        self.p, self.u, self.o = nn.ConvTranspose2d(2 * b, b, 2, 2), block(2 * b, b), nn.Conv2d(b, 1, 1)

    def forward(self, image):
        a = self.d1(image)
        d = self.d2(F.max_pool2d(a, 2))
        return self.o(self.u(torch.cat([self.p(d), a], 1)))


class Recurrent(nn.Module):
    def __init__(self, kind):
        super().__init__()
        self.r = getattr(nn, kind)(10, 16, 2, batch_first=True, bidirectional=True)
        self.o = nn.Linear(32, 5)

    def forward(self, x):
        y, _ = self.r(x)
        return self.o(y)


class SuperResolution(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Conv2d(3, 8, 3, padding=1), nn.Conv2d(8, 12, 3, padding=1)

    def forward(self, image):
        return F.interpolate(image, scale_factor=2, mode="bilinear") + F.pixel_shuffle(self.b(F.relu(self.a(image))), 2)


class Only(nn.Module):
    """One tensor of a transformers model's output."""

    def __init__(self, model, key, names):
        super().__init__()
        self.model, self.key, self.names = model, key, names

    def forward(self, *inputs):
        return getattr(self.model(**dict(zip(self.names, inputs))), self.key)


def images(*sizes):
    return lambda: [(torch.randn(b, 3, h, w),) for b, h, w in sizes]


D = torch.export.Dim
BATCH = {0: D("batch", max=64)}
IMAGE = {0: D("batch", max=64), 2: D("height", max=4096), 3: D("width", max=4096)}
# Networks that halve the picture five times: torch.export wants sizes that leave more than one row.
LARGE = {0: D("batch", max=64), 2: D("height", min=64, max=4096), 3: D("width", min=64, max=4096)}


def half_image(factor):
    return {0: D("batch", max=64), 2: factor * D("rows", max=512), 3: factor * D("columns", max=512)}


def torchvision_model(name, **kw):
    def make():
        import torchvision
        maker = getattr(torchvision.models, name, None) or getattr(torchvision.models.segmentation, name)
        return maker(weights=None, **kw)

    return make


def transformer(kind):
    def make():
        import transformers as t
        small = dict(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, vocab_size=200)
        if kind == "bert":
            return Only(t.BertModel(t.BertConfig(**small)), "last_hidden_state", ["input_ids", "attention_mask"])
        if kind == "distilbert":
            config = t.DistilBertConfig(dim=64, n_layers=2, n_heads=4, hidden_dim=128, vocab_size=200)
            return Only(t.DistilBertModel(config), "last_hidden_state", ["input_ids", "attention_mask"])
        if kind == "gpt2":
            config = t.GPT2Config(n_embd=64, n_layer=2, n_head=4, vocab_size=200, use_cache=False)
            return Only(t.GPT2Model(config), "last_hidden_state", ["input_ids"])
        config = t.ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=32, patch_size=8)
        return Only(t.ViTModel(config, add_pooling_layer=False), "last_hidden_state", ["pixel_values"])

    return make


def tokens(mask):
    def make():
        out = []
        for b, s in ((2, 11), (1, 7), (3, 16)):
            ids = torch.randint(0, 200, (b, s))
            m = torch.ones(b, s, dtype=torch.int64)
            m[0, -2:] = 0
            out.append((ids, m) if mask else (ids,))
        return out

    return make


SEQUENCE = {0: D("batch", max=64), 1: D("sequence", max=512)}
SIZE64 = images((2, 64, 64), (1, 64, 64), (5, 64, 64))
ODD = images((2, 64, 80), (1, 67, 101), (3, 96, 64))
SIZE224 = images((2, 224, 224), (1, 224, 224))
# name: (model, inputs at several sizes, dynamic dimensions per input or None)
CASES = {
    "super_resolution": (SuperResolution, images((2, 16, 20), (1, 7, 13), (3, 32, 9)), (IMAGE,)),
    "detector": (Detector, images((2, 32, 48), (1, 64, 32)), (half_image(4),)),
    "unet": (UNet, images((2, 32, 48), (1, 16, 32)), (half_image(2),)),
    "lstm": (lambda: Recurrent("LSTM"), lambda: [(torch.randn(2, 9, 10),), (torch.randn(1, 9, 10),)], (BATCH,)),
    "gru": (lambda: Recurrent("GRU"), lambda: [(torch.randn(2, 9, 10),), (torch.randn(1, 9, 10),)], (BATCH,)),
    "bert": (transformer("bert"), tokens(True), (SEQUENCE, SEQUENCE)),
    "distilbert": (transformer("distilbert"), tokens(True), (SEQUENCE, SEQUENCE)),
    "gpt2": (transformer("gpt2"), tokens(False), (SEQUENCE,)),
    "vit_hf": (transformer("vit"), images((2, 32, 32), (1, 32, 32)), (BATCH,)),
}
for name in ["resnet18", "resnext50_32x4d", "mobilenet_v2", "mobilenet_v3_small", "squeezenet1_1", "densenet121", "shufflenet_v2_x0_5",
             "mnasnet0_5", "efficientnet_b0", "efficientnet_v2_s", "regnet_y_400mf", "convnext_tiny"]:
    free = name in ("resnet18", "mobilenet_v2")
    CASES[f"torchvision/{name}"] = (torchvision_model(name), ODD if free else SIZE64, (LARGE if free else BATCH,))
for name in ["alexnet", "vgg11_bn", "vit_b_32", "swin_t", "swin_v2_t", "maxvit_t"]:
    CASES[f"torchvision/{name}"] = (torchvision_model(name), SIZE224, (BATCH,))
CASES["torchvision/googlenet"] = (torchvision_model("googlenet", init_weights=False, aux_logits=False), SIZE64, (BATCH,))
CASES["torchvision/inception_v3"] = (torchvision_model("inception_v3", init_weights=False, aux_logits=False), images((2, 96, 96), (1, 96, 96)), (BATCH,))
for name in ["fcn_resnet50", "deeplabv3_mobilenet_v3_large", "lraspp_mobilenet_v3_large"]:
    CASES[f"torchvision/{name}"] = (torchvision_model(name, weights_backbone=None), SIZE64, (BATCH,))


# Programs that torch itself cannot decompose with dynamic sizes: recurrent layers are unrolled over a fixed length,
# and GPT-2's `view` of an attention result fails in run_decompositions (torch 2.15).
NO_CORE = ("lstm", "gru", "gpt2")


def flat(y):
    if isinstance(y, torch.Tensor):
        return [y]
    if isinstance(y, dict):
        return [t for v in y.values() for t in flat(v)]
    return [t for v in y for t in flat(v)]


def liven(model):
    """Random statistics and no all-zero parameter, so that outputs depend on every layer."""
    g = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for m in model.modules():
            if isinstance(m, nn.BatchNorm2d):
                m.running_mean.normal_(0, 0.1, generator=g)
                m.running_var.uniform_(0.5, 1.5, generator=g)
        for p in model.parameters():
            if not p.any():
                p.normal_(0, 0.02, generator=g)
    return model.eval()


def export(name, folder, mode, form):
    """Writes model.pt2 and the inputs and outputs of each set of sizes."""
    make, inputs, dynamic = CASES[name]
    torch.manual_seed(0)
    model = liven(make())
    sets = inputs()
    shapes = dict(zip(range(len(dynamic)), dynamic)) if mode == "dynamic" else None
    args = sets[0]
    spec = None
    if shapes:
        spec = tuple(shapes[i] for i in range(len(args)))
        # A wrapper that takes *inputs has one parameter, which is a tuple.
        spec = (spec,) if isinstance(model, Only) else spec
    with torch.no_grad():
        program = torch.export.export(model, args, dynamic_shapes=spec)
        if form == "core":
            program = program.run_decompositions()
        os.makedirs(folder, exist_ok=True)
        torch.export.save(program, f"{folder}/model.pt2")
        for k, x in enumerate(sets if mode == "dynamic" else sets[:1]):
            arrays = {f"in{i}": t.numpy() for i, t in enumerate(x)}
            arrays |= {f"out{i}": t.numpy() for i, t in enumerate(flat(model(*x)))}
            np.savez(f"{folder}/case{k}.npz", **arrays)
    open(f"{folder}/done", "w").write(torch.__version__)


def compare(what, got, want):
    if len(got) != len(want):
        return f"{what}: {len(got)} outputs, not {len(want)}"
    for i, (a, b) in enumerate(zip(got, want)):
        if a.shape != b.shape:
            return f"{what}: output {i} has shape {a.shape}, not {b.shape}"
        if not np.allclose(a, b, rtol=RTOL, atol=ATOL * max(1.0, float(np.abs(b).max()) if b.size else 1.0), equal_nan=True):
            return f"{what}: output {i} differs by {np.abs(a.astype('f8') - b).max():.2e} (largest value {np.abs(b).max():.2e})"
    return None


def command(*args):
    p = subprocess.run(args, capture_output=True, text=True, timeout=600)
    if p.returncode:
        raise RuntimeError(f"{' '.join(map(str, args[1:3]))} ended with {p.returncode}: {p.stderr.strip()[-600:]}")


def check(oxrt, folder):
    command(oxrt, "export", f"{folder}/model.pt2", "-o", f"{folder}/model.onnx")
    onnx.checker.check_model(f"{folder}/model.onnx", full_check=True)
    session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
    names = [i.name for i in session.get_inputs()]
    command(oxrt, "build", f"{folder}/model.pt2", "-o", f"{folder}/model.engine")
    k = 0
    while os.path.exists(f"{folder}/case{k}.npz"):
        z = np.load(f"{folder}/case{k}.npz")
        want = [z[f"out{i}"] for i in range(sum(n.startswith("out") for n in z.files))]
        got = session.run(None, {n: z[f"in{i}"] for i, n in enumerate(names)})
        problem = compare(f"onnxruntime, sizes {k}", got, want)
        if problem:
            return problem
        command(oxrt, "run", f"{folder}/model.engine", "--in", f"{folder}/case{k}.npz", "--out", f"{folder}/got.npz")
        y = np.load(f"{folder}/got.npz")
        problem = compare(f"oxrt, sizes {k}", [y[o.name] for o in session.get_outputs()], want)
        if problem:
            return problem
        k += 1
    for f in ("model.engine", "model.onnx"):
        os.remove(f"{folder}/{f}")
    return None


class CustomOperator(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(4))

    def forward(self, x):
        return torch.ops.my.scale_shift(x, self.w, alpha=0.5).relu()


def custom_operators(oxrt, folder):
    """Every block of code and every command of `docs/custom-operators.md`, as they stand there."""
    torch.library.define("my::scale_shift", "(Tensor x, Tensor w, *, float alpha=1.0) -> Tensor")
    torch.library.impl("my::scale_shift", "CompositeExplicitAutograd", lambda x, w, *, alpha=1.0: x * w + alpha)
    torch.library.register_fake("my::scale_shift", lambda x, w, *, alpha=1.0: torch.empty_like(x))
    model, x = CustomOperator().eval(), torch.randn(3, 4)
    os.makedirs(folder, exist_ok=True)
    program = torch.export.export(model, (x,), dynamic_shapes=({0: torch.export.Dim.DYNAMIC},))
    torch.export.save(program, f"{folder}/model.pt2")
    page = open(os.path.join(os.path.dirname(__file__), "../../docs/custom-operators.md")).read()
    before = os.getcwd()
    os.chdir(folder)
    try:
        for language, code in re.findall(r"```(\w+)\n(.*?)```", page, re.S):
            if language == "python":
                exec(code, {})
            elif language == "sh":
                for line in code.splitlines():
                    words = line.split("#")[0].split()
                    assert words[0] == "oxrt", line
                    command(oxrt, *words[1:])
    finally:
        os.chdir(before)
    for x in (x, torch.randn(5, 4)):
        with torch.no_grad():
            want = [model(x).numpy()]
        session = onnxruntime.InferenceSession(f"{folder}/model.onnx", providers=["CPUExecutionProvider"])
        problem = compare("onnxruntime", session.run(None, {session.get_inputs()[0].name: x.numpy()}), want)
        np.savez(f"{folder}/x.npz", x=x.numpy())
        command(oxrt, "run", f"{folder}/model.engine", "--in", f"{folder}/x.npz", "--out", f"{folder}/got.npz")
        got = np.load(f"{folder}/got.npz")
        problem = problem or compare("oxrt", [got[n] for n in got.files], want)
        if problem:
            return problem
    return None


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--oxrt", required=True)
    ap.add_argument("--cases", required=True)
    ap.add_argument("--only", default="")
    ap.add_argument("--forms", default="plain,core")
    a = ap.parse_args()
    passed, failed = 0, []
    for name in [n for n in CASES if a.only in n]:
        for mode in ("static", "dynamic"):
            for form in a.forms.split(","):
                # Decomposition is slow and the weights are large; the core form is checked with dynamic sizes only.
                if form == "core" and mode == "static":
                    continue
                if form == "core" and name in NO_CORE:
                    continue
                case, start = f"{name} {mode} {form}", time.time()
                folder = os.path.join(a.cases, name, mode, form)
                try:
                    if not os.path.exists(f"{folder}/done"):
                        export(name, folder, mode, form)
                    made = time.time()
                    problem = check(a.oxrt, folder)
                except Exception as e:
                    problem, made = f"{type(e).__name__}: {str(e)[-500:]}", time.time()
                    if not isinstance(e, RuntimeError):
                        traceback.print_exc(limit=3)
                if problem:
                    failed.append(case)
                else:
                    passed += 1
                print(f"{'FAILED' if problem else 'ok':7}{case:55} export {made - start:5.1f} s  check {time.time() - made:5.1f} s{'  ' + problem if problem else ''}", flush=True)
    if a.only in "custom operators":
        problem = custom_operators(os.path.abspath(a.oxrt), os.path.join(a.cases, "custom-operators"))
        failed += ["custom operators"] if problem else []
        passed += not problem
        print(f"{'FAILED' if problem else 'ok':7}custom operators, by the page{'  ' + problem if problem else ''}", flush=True)
    print(f"families: {passed} passed, {len(failed)} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
