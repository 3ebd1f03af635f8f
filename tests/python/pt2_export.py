"""Exports models to `.pt2` in the three program forms, with inputs and eager outputs, for `pt2_cases.py`.

    python pt2_export.py --zoo ZOO.py --out DIR [--forms a,c,b] [--modes static,dynamic] ID...

Each case becomes DIR/<id>/<mode>/: `a.pt2` (as exported), `c.pt2` (functional), `b.pt2` (core ATen), and for every set of
inputs `in<k>.npz`, `out<k>.npz` (arrays named 0, 1, …; bfloat16 as `<n>:bf16` of uint16). ID may be `family:NAME` or one
of the models in this file (`own/...`).
"""
import argparse
import importlib.util
import os
import sys
import time
import traceback

import numpy as np
import torch
import torch.nn as nn
import torch.nn.functional as F


class Darknetish(nn.Module):
    """YOLOv3 in miniature: residual trunk, upsample and concatenation, three heads, box decoding."""

    def __init__(self, classes=4):
        super().__init__()

        def conv(i, o, k, s=1):
            return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2, bias=False), nn.BatchNorm2d(o), nn.LeakyReLU(0.1, inplace=True))

        self.stem, self.d1, self.d2, self.d3 = conv(3, 8, 3), conv(8, 16, 3, 2), conv(16, 32, 3, 2), conv(32, 64, 3, 2)
        self.r1 = nn.Sequential(conv(16, 8, 1), conv(8, 16, 3))
        self.r2 = nn.Sequential(conv(32, 16, 1), conv(16, 32, 3))
        self.r3 = nn.Sequential(conv(64, 32, 1), conv(32, 64, 3))
        self.up1, self.up2 = conv(64, 16, 1), conv(48, 8, 1)
        self.h1, self.h2, self.h3 = (nn.Conv2d(c, 3 * (5 + classes), 1) for c in (64, 48, 24))
        self.register_buffer("anchors", torch.rand(3, 3, 2) * 32 + 8)

    def decode(self, p, anchors, stride):
        b, _, h, w = p.shape
        p = p.view(b, 3, -1, h, w).permute(0, 1, 3, 4, 2).contiguous()
        gy, gx = torch.meshgrid(torch.arange(h, device=p.device), torch.arange(w, device=p.device), indexing="ij")
        grid = torch.stack((gx, gy), 2).view(1, 1, h, w, 2).float()
        y = p.sigmoid()
        xy = (y[..., 0:2] * 2.0 - 0.5 + grid) * stride
        wh = (y[..., 2:4] * 2) ** 2 * anchors.view(1, 3, 1, 1, 2)
        return torch.cat((xy, wh, y[..., 4:]), -1).view(b, -1, y.shape[-1])

    def forward(self, image):
        x = self.d1(self.stem(image))
        s1 = x + self.r1(x)
        x = self.d2(s1)
        s2 = x + self.r2(x)
        x = self.d3(s2)
        s3 = x + self.r3(x)
        m = torch.cat((F.interpolate(self.up1(s3), scale_factor=2), s2), 1)
        n = torch.cat((F.interpolate(self.up2(m), size=s1.shape[-2:], mode="nearest"), s1), 1)
        outs = [self.decode(h(t), a, s) for h, t, a, s in zip((self.h1, self.h2, self.h3), (s3, m, n), self.anchors, (8, 4, 2))]
        return torch.cat(outs, 1)


class SuperRes(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1, self.c2, self.c3 = nn.Conv2d(1, 16, 5, padding=2), nn.Conv2d(16, 16, 3, padding=1), nn.Conv2d(16, 9, 3, padding=1)
        self.up = nn.PixelShuffle(3)

    def forward(self, x):
        return self.up(self.c3(F.relu(self.c2(F.relu(self.c1(x))))))


class UNet(nn.Module):
    def __init__(self):
        super().__init__()

        def block(i, o):
            return nn.Sequential(nn.Conv2d(i, o, 3, padding=1), nn.BatchNorm2d(o), nn.ReLU(True), nn.Conv2d(o, o, 3, padding=1), nn.ReLU(True))

        self.e1, self.e2, self.m = block(3, 8), block(8, 16), block(16, 32)
        self.u2, self.u1 = nn.ConvTranspose2d(32, 16, 2, 2), nn.ConvTranspose2d(16, 8, 2, 2)
        self.d2, self.d1, self.head = block(32, 16), block(16, 8), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        a = self.e1(x)
        b = self.e2(F.max_pool2d(a, 2))
        m = self.m(F.max_pool2d(b, 2))
        b = self.d2(torch.cat((self.u2(m), b), 1))
        u = F.interpolate(self.u1(b), size=a.shape[-2:], mode="bilinear", align_corners=False)
        return self.head(self.d1(torch.cat((u, a), 1)))


class Rnn(nn.Module):
    def __init__(self, kind, **kw):
        super().__init__()
        self.emb, self.rnn = nn.Embedding(50, 12), kind(12, 10, **kw)
        d = 2 if kw.get("bidirectional") else 1
        self.head = nn.Linear(10 * d, 3)

    def forward(self, ids):
        y, h = self.rnn(self.emb(ids))
        return self.head(y), h


def hf(kind, **kw):
    import transformers as t

    return lambda: getattr(t, kind[0])(getattr(t, kind[1])(**kw)).eval()


def own():
    n, i = torch.randn, torch.randint
    hw = ({0: "b", 2: "h", 3: "w"},)
    # id -> (build, inputs(b or alternative sizes), dynamic axes)
    return {
        "own/yolo": (Darknetish, lambda k: (n(2 + k, 3, 64 + 32 * k, 96 - 32 * k),), hw),
        "own/superres": (SuperRes, lambda k: (n(2 + k, 1, 20 + 3 * k, 17 + 5 * k),), hw),
        "own/unet": (UNet, lambda k: (n(2 + k, 3, 32 + 16 * k, 48 - 16 * k),), hw),
        "own/lstm": (lambda: Rnn(nn.LSTM, batch_first=True), lambda k: (i(0, 50, (2 + k, 7)),), ({0: "b"},)),
        "own/lstm_bi2": (lambda: Rnn(nn.LSTM, batch_first=True, bidirectional=True, num_layers=2), lambda k: (i(0, 50, (2 + k, 7)),), ({0: "b"},)),
        "own/gru": (lambda: Rnn(nn.GRU), lambda k: (i(0, 50, (7, 2 + k)),), ({1: "b"},)),
        "own/gru_bi2": (lambda: Rnn(nn.GRU, bidirectional=True, num_layers=2, bias=False), lambda k: (i(0, 50, (7, 2 + k)),), ({1: "b"},)),
        "own/rnn": (lambda: Rnn(nn.RNN, num_layers=2), lambda k: (i(0, 50, (7, 2 + k)),), ({1: "b"},)),
        "own/bert-base": (hf(("BertModel", "BertConfig")), lambda k: (i(0, 900, (2 + k, 16 + 9 * k)),), ({0: "b", 1: "s"},)),
    }


def save(path, tensors):
    arrays = {}
    for k, t in enumerate(tensors):
        t = t.detach().contiguous()
        bf16 = t.dtype == torch.bfloat16
        arrays[f"{k}:bf16" if bf16 else str(k)] = (t.view(torch.uint16) if bf16 else t).numpy()
    np.savez(path, **arrays)


def flat(tree):
    return [v if isinstance(v, torch.Tensor) else torch.tensor(v) for v in torch.utils._pytree.tree_leaves(tree) if isinstance(v, (torch.Tensor, int, float, bool))]


class Zoo:
    def __init__(self, path):
        spec = importlib.util.spec_from_file_location("zoo", path)
        self.m = importlib.util.module_from_spec(spec)
        sys.modules["zoo"] = self.m
        spec.loader.exec_module(self.m)
        self.entries = self.m.ENTRIES


def export(zoo, id, out, forms, dynamic):
    if id.startswith("own/"):
        build, inputs, axes = own()[id]
        torch.manual_seed(0)
        model = build().eval()
        cases = [(inputs(0), {})] + ([(inputs(1), {})] if dynamic else [])
        shapes = tuple({k: torch.export.Dim.DYNAMIC for k in a} for a in axes) if dynamic else None
        args, kwargs = cases[0]
        if id == "own/bert-base":
            args, shapes = (args[0],), shapes
        make = lambda: model
        run = lambda a, k: model(*a, **k)
    else:
        e = zoo.entries[id]
        if dynamic and not e.has_dyn:
            return
        args, kwargs = e.make_inputs()
        model = e.make_model()
        cases = [(args, kwargs)] + ([e.make_inputs(seed=1, alt=True)] if dynamic else [])
        shapes = zoo.m.dyn_spec(e, model, args, kwargs) if dynamic else None
        run = lambda a, k: zoo.m.eager(e.make_model(), a, k)
    os.makedirs(out, exist_ok=True)
    with torch.no_grad():
        for k, (a, kw) in enumerate(cases):
            save(f"{out}/in{k}.npz", flat((a, kw)))
            save(f"{out}/out{k}.npz", flat(run(a, kw)))
        ep = torch.export.export(model, args, kwargs, dynamic_shapes=shapes, strict=False)
        for form in forms:
            try:
                p = ep if form == "a" else ep.run_decompositions({} if form == "c" else None)
                torch.export.save(p, f"{out}/{form}.pt2")
            except Exception as e:
                # torch cannot decompose or save some programs that it exported; the other forms still count.
                print(f"{id} {form}: {type(e).__name__}: {str(e)[:150]!r}", flush=True)
                if os.path.exists(f"{out}/{form}.pt2"):
                    os.remove(f"{out}/{form}.pt2")


def main():
    ap = argparse.ArgumentParser()
    ap.add_argument("--zoo")
    ap.add_argument("--out", required=True)
    ap.add_argument("--forms", default="a,c,b")
    ap.add_argument("--modes", default="static,dynamic")
    ap.add_argument("--again", action="store_true")
    ap.add_argument("ids", nargs="+")
    a = ap.parse_args()
    torch.set_num_threads(1)
    zoo = Zoo(a.zoo) if a.zoo else None
    ids = []
    for i in a.ids:
        if i == "own":
            ids += list(own())
        elif i.startswith("family:"):
            ids += [e.id for e in zoo.entries.values() if e.family == i[7:]]
        else:
            ids.append(i)
    for id in ids:
        for mode in a.modes.split(","):
            out = os.path.join(a.out, id, mode)
            if os.path.exists(f"{out}/done") and not a.again:
                continue
            t = time.time()
            try:
                export(zoo, id, out, a.forms.split(","), mode == "dynamic")
                os.makedirs(out, exist_ok=True)
                open(f"{out}/done", "w").close()
                print(f"{id} {mode} {time.time() - t:.1f} s", flush=True)
            except Exception as e:
                os.makedirs(out, exist_ok=True)
                with open(f"{out}/failed", "w") as f:
                    traceback.print_exc(file=f)
                print(f"{id} {mode} FAILED {type(e).__name__}: {str(e)[:150]!r}", flush=True)


if __name__ == "__main__":
    main()
