"""Darknet networks through oxrt, compared with a forward pass in PyTorch that is written here for the purpose.

    python tests/python/darknet.py --oxrt target/fast/oxrt --cases target/darknet-cases [--cfg FILE.cfg…]

The networks are those of the families (YOLO v1 tiny to v7 tiny, classifiers) at a small width, with random numbers.
Each goes through `oxrt export` → onnx.checker → onnxruntime, and through oxrt's engine, at several sizes, raw and
decoded; suppression is compared with torchvision's. `--cfg` takes cfg files as they were published instead, with random
numbers: networks without connected layers are run at 64 pixels and dynamic sizes, others at their own size.
"""
import argparse
import pathlib
import shutil
import struct
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import torch
import torch.nn.functional as F
import torchvision

torch.set_num_threads(1)


def conv(filters, size, stride=1, act="leaky", bn=1, **more):
    extra = "".join(f"{k}={v}\n" for k, v in more.items())
    return f"[convolutional]\nbatch_normalize={bn}\nfilters={filters}\nsize={size}\nstride={stride}\npad=1\nactivation={act}\n{extra}\n"


def pool(size=2, stride=2):
    return f"[maxpool]\nsize={size}\nstride={stride}\n\n"


def net(w, h, c=3):
    return f"[net]\nbatch=1\nwidth={w}\nheight={h}\nchannels={c}\nmomentum=0.9\n\n"


def route(*layers, **more):
    extra = "".join(f"{k}={v}\n" for k, v in more.items())
    return f"[route]\nlayers = {','.join(map(str, layers))}\n{extra}\n"


def shortcut(i, act="linear"):
    return f"[shortcut]\nfrom={i}\nactivation={act}\n\n"


def yolo(mask, anchors, classes, **more):
    extra = "".join(f"{k}={v}\n" for k, v in more.items())
    return (f"[yolo]\nmask = {','.join(map(str, mask))}\nanchors = {anchors}\nclasses={classes}\nnum=6\njitter=.3\n"
            f"ignore_thresh = .7\ntruth_thresh = 1\nrandom=1\n{extra}\n")


UP = "[upsample]\nstride=2\n\n"
ANCHORS = "10,14,  23,27,  37,58,  81,82,  135,169,  344,319"
OUT = 3 * (5 + 4)

CFGS = {
    "yolov3_tiny": net(64, 64) + conv(8, 3) + pool() + conv(16, 3) + pool() + conv(16, 3) + pool(2, 1) + conv(8, 1)
    + conv(OUT, 1, act="linear", bn=0) + yolo([3, 4, 5], ANCHORS, 4) + route(-4) + conv(8, 1) + UP + route(-1, 2)
    + conv(OUT, 1, act="linear", bn=0) + yolo([0, 1, 2], ANCHORS, 4),
    "yolov3": net(64, 64) + conv(8, 3) + conv(16, 3, 2) + conv(8, 1) + conv(16, 3) + shortcut(-3) + conv(32, 3, 2)
    + conv(16, 1) + conv(32, 3) + shortcut(-3) + conv(OUT, 1, act="linear", bn=0) + yolo([3, 4, 5], ANCHORS, 4)
    + route(-3) + conv(16, 1) + UP + route(-1, 4) + conv(OUT, 1, act="linear", bn=0) + yolo([0, 1, 2], ANCHORS, 4),
    "yolov4": net(64, 64) + conv(8, 3, act="mish") + conv(16, 3, 2, act="mish") + conv(8, 1, act="mish") + route(-2)
    + conv(8, 1, act="mish") + conv(8, 3, act="mish") + shortcut(-2) + conv(8, 1, act="mish") + route(-1, -6)
    + conv(16, 1, act="mish") + conv(16, 3, 2) + pool(5, 1) + route(-2) + pool(9, 1) + route(-4) + pool(13, 1)
    + route(-1, -3, -5, -6) + conv(16, 1) + conv(OUT, 1, act="linear", bn=0)
    + yolo([0, 1, 2], ANCHORS, 4, scale_x_y=1.2, iou_loss="ciou", nms_kind="greedynms", beta_nms=0.6),
    "yolov4_tiny": net(64, 64) + conv(8, 3, 2) + conv(16, 3) + route(-1, groups=2, group_id=1) + conv(8, 3) + conv(8, 3)
    + route(-1, -2) + conv(16, 1) + route(-6, -1) + pool() + conv(16, 3) + conv(OUT, 1, act="linear", bn=0)
    + yolo([3, 4, 5], ANCHORS, 4, scale_x_y=1.05),
    "scaled_yolov4": net(64, 64) + conv(8, 3, 2, act="swish") + conv(16, 3, 2, act="mish")
    + conv(OUT, 1, act="logistic", bn=0) + yolo([0, 1, 2], ANCHORS, 4, scale_x_y=2.0, new_coords=1),
    "yolov7_tiny": net(64, 64) + conv(8, 3, 2) + conv(8, 1) + route(-2) + conv(8, 1) + conv(8, 3) + conv(8, 3)
    + route(-1, -2, -3, -5) + conv(16, 1) + pool() + conv(16, 3, groups=4) + conv(OUT, 1, act="linear", bn=0)
    + yolo([3, 4, 5], ANCHORS, 4, scale_x_y=2.0),
    "yolov2": net(64, 64) + conv(8, 3) + pool() + conv(16, 3) + route(-1) + conv(16, 1) + "[reorg]\nstride=2\n\n"
    + route(2) + pool() + conv(16, 3) + route(-1, -4) + conv(16, 3) + conv(5 * 9, 1, act="linear", bn=0)
    + "[region]\nanchors = 1.3221, 1.73145, 3.19275, 4.00944, 5.05587, 8.09892, 9.47112, 4.84053, 11.2364, 10.0071\n"
    "bias_match=1\nclasses=4\ncoords=4\nnum=5\nsoftmax=1\njitter=.2\nrescore=1\nthresh = .6\nrandom=0\n",
    "yolov1_tiny": net(64, 64) + conv(8, 3) + pool() + conv(16, 3) + pool()
    + "[connected]\noutput=32\nactivation=leaky\n\n[dropout]\nprobability=.5\n\n"
    + f"[connected]\noutput={9 * (4 + 2 * 5)}\nactivation=linear\n\n"
    + "[detection]\nclasses=4\ncoords=4\nrescore=1\nside=3\nnum=2\nsoftmax=0\nsqrt=1\njitter=.2\n",
    "local": net(32, 32) + conv(8, 3, 2) + "[local]\nsize=3\nstride=1\npad=1\nfilters=4\nactivation=leaky\n\n"
    + "[connected]\noutput=10\nactivation=linear\nbatch_normalize=1\n\n[softmax]\ngroups=2\n",
    "classifier": net(48, 48) + conv(8, 3, 2) + conv(8, 3, groups=8) + conv(16, 1, act="relu6") + conv(8, 1, act="swish")
    + "[avgpool]\n\n" + conv(8, 1, act="logistic", bn=0) + "[scale_channels]\nfrom=-3\n\n" + conv(16, 3, dilation=2)
    + "[avgpool]\n\n" + conv(10, 1, act="linear", bn=0) + "[softmax]\ngroups=1\n\n[cost]\ntype=sse\n",
    "dynamic_plane": net(-1, -1) + conv(8, 3, 2, act="elu") + conv(8, 3, act="tanh") + shortcut(-2, "leaky") + UP
    + conv(OUT, 3, act="linear", bn=0) + yolo([0, 1, 2], ANCHORS, 4),
}

SQUARE = {"yolov1_tiny", "local", "classifier"}


def parse(text):
    out = []
    for line in text.splitlines():
        line = line.split("#")[0].strip()
        if line.startswith(";"):
            continue
        if line.startswith("["):
            out.append((line.strip("[]"), {}))
        elif "=" in line:
            k, v = line.split("=", 1)
            out[-1][1][k.strip()] = v.replace(" ", "")
    return out


ACT = {
    "linear": lambda x: x, "leaky": lambda x: F.leaky_relu(x, 0.1), "mish": F.mish, "swish": F.silu,
    "logistic": torch.sigmoid, "relu": F.relu, "relu6": F.relu6, "elu": F.elu, "tanh": torch.tanh,
}


class Darknet:
    """The forward pass, straight from Darknet's sources."""

    def __init__(self, text, seed, gain=1.5):
        self.sections, self.gain = parse(text), gain
        self.g = torch.Generator().manual_seed(seed)
        self.file = [struct.pack("<iiiq", 0, 2, 5, 0)]
        self.params = {}

    def numbers(self, key, shape, lo=-0.5, hi=0.5, std=None):
        if key not in self.params:
            t = torch.randn(shape, generator=self.g) * std if std else torch.rand(shape, generator=self.g) * (hi - lo) + lo
            self.params[key] = t
            self.file.append(t.numpy().astype("<f4").tobytes())
        return self.params[key]

    def forward(self, x):
        outs, heads = [], []
        for i, (kind, o) in enumerate(self.sections[1:]):
            get = lambda k, d=0: int(o.get(k, d))  # noqa: E731
            act = ACT[o.get("activation", "logistic" if kind in ("convolutional", "connected", "local") else "linear")]
            if kind == "convolutional":
                n, k, s, g = get("filters", 1), get("size", 1), get("stride", 1), get("groups", 1)
                d = get("dilation", 1) if k > 1 else 1
                bias = self.numbers((i, "b"), [n])
                stats = None
                if get("batch_normalize"):
                    stats = [self.numbers((i, "s"), [n], 0.5, 1.5), self.numbers((i, "m"), [n]),
                             self.numbers((i, "v"), [n], 0.5, 1.5)]
                c = x.shape[1] // g
                w = self.numbers((i, "w"), [n, c, k, k], std=(self.gain / (c * k * k)) ** 0.5)
                x = F.conv2d(x, w, None, s, (k // 2) * d if get("pad") else get("padding"), d, g)
                if stats:
                    sc, m, v = (t.view(1, -1, 1, 1) for t in stats)
                    x = (x - m) / torch.sqrt(v + 1e-5) * sc
                x = act(x + bias.view(1, -1, 1, 1))
            elif kind == "connected":
                n = get("output")
                flat = x.reshape(x.shape[0], -1)
                bias = self.numbers((i, "b"), [n])
                w = self.numbers((i, "w"), [n, flat.shape[1]], std=flat.shape[1] ** -0.5)
                y = flat @ w.T
                if get("batch_normalize"):
                    sc, m, v = self.numbers((i, "s"), [n], 0.5, 1.5), self.numbers((i, "m"), [n]), self.numbers((i, "v"), [n], 0.5, 1.5)
                    y = (y - m) / torch.sqrt(v + 1e-5) * sc
                x = act(y + bias).reshape(x.shape[0], n, 1, 1)
            elif kind == "local":
                n, k, s, p = get("filters"), get("size"), get("stride"), get("size") // 2 if get("pad") else 0
                b, c, h, w_ = x.shape
                oh, ow = ((d - (1 if p else k)) // s + 1 for d in (h, w_))
                bias = self.numbers((i, "b"), [n, oh, ow])
                weights = self.numbers((i, "w"), [oh * ow, n, c, k, k], std=(c * k * k) ** -0.5)
                padded = F.pad(x, [p, p + k, p, p + k])
                out = torch.zeros(b, n, oh, ow)
                for r in range(oh):
                    for q in range(ow):
                        patch = padded[:, :, r * s:r * s + k, q * s:q * s + k]
                        out[:, :, r, q] = torch.einsum("bcij,ncij->bn", patch, weights[r * ow + q])
                x = act(out + bias)
            elif kind == "maxpool":
                k, s = get("size", get("stride", 1)), get("stride", 1)
                p = get("padding", k - 1)
                x = F.max_pool2d(F.pad(x, [p // 2, p - p // 2, p // 2, p - p // 2], value=float("-inf")), k, s)
            elif kind == "avgpool":
                x = x.mean((2, 3), keepdim=True)
            elif kind == "shortcut":
                for f in map(int, o["from"].split(",")):
                    # Of another number of channels, those that both have are added; of a larger plane every so many-th element.
                    other = outs[f if f >= 0 else i + f][:, :x.shape[1]]
                    step = other.shape[2] // x.shape[2]
                    other = other[:, :, ::step, ::step]
                    x = x + F.pad(other, [0, 0, 0, 0, 0, x.shape[1] - other.shape[1]])
                x = act(x)
            elif kind == "route":
                parts = [outs[f if f >= 0 else i + f] for f in map(int, o["layers"].split(","))]
                if get("groups", 1) > 1:
                    parts = [p.chunk(get("groups"), 1)[get("group_id")] for p in parts]
                x = torch.cat(parts, 1)
            elif kind == "upsample":
                x = x.repeat_interleave(get("stride"), 2).repeat_interleave(get("stride"), 3)
            elif kind == "scale_channels":
                f = int(o["from"])
                x = act(outs[f if f >= 0 else i + f] * x)
            elif kind == "reorg":
                s = get("stride")
                b, c, h, w = x.shape
                flat, out, c2n = x.reshape(b, -1), torch.empty(b, c * h * w), c // (s * s)
                for k in range(c):
                    c2, offset = k % c2n, k // c2n
                    for j in range(h):
                        rows = torch.arange(w)
                        src = rows * s + offset % s + w * s * (j * s + offset // s + h * s * c2)
                        out[:, rows + w * (j + h * k)] = flat[:, src]
                x = out.reshape(b, c * s * s, h // s, w // s)
            elif kind == "sam":
                f = int(o["from"])
                x = act(x * outs[f if f >= 0 else i + f])
            elif kind == "softmax":
                b = x.shape[0]
                x = torch.softmax(x.reshape(b, get("groups", 1), -1), -1).reshape(x.shape)
            elif kind in ("yolo", "region", "detection"):
                heads.append((kind, o, x))
            elif kind not in ("dropout", "cost"):
                raise ValueError(kind)
            outs.append(x)
        return x, heads


def decode(heads, height, width):
    boxes, scores = [], []
    for kind, o, x in heads:
        classes = int(o["classes"])
        if kind == "detection":
            s, n = int(o["side"]), int(o["num"])
            for image in x.reshape(x.shape[0], -1):
                bs, ss = [], []
                probs = image[:s * s * classes].reshape(s * s, classes)
                conf = image[s * s * classes:s * s * (classes + n)].reshape(s * s, n)
                coords = image[s * s * (classes + n):].reshape(s * s, n, 4)
                for i in range(s * s):
                    for k in range(n):
                        cx, cy = (coords[i, k, 0] + i % s) / s * width, (coords[i, k, 1] + i // s) / s * height
                        w, h = coords[i, k, 2] ** 2 * width, coords[i, k, 3] ** 2 * height
                        bs.append(torch.stack([cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]))
                        ss.append(probs[i] * conf[i, k])
                boxes.append(torch.stack(bs)[None])
                scores.append(torch.stack(ss)[None])
            boxes, scores = [torch.cat(boxes)], [torch.cat(scores)]
            continue
        anchors = torch.tensor([float(a) for a in o["anchors"].split(",")]).reshape(-1, 2)
        if "mask" in o:
            anchors = anchors[[int(m) for m in o["mask"].split(",")]]
        a = len(anchors)
        b, _, h, w = x.shape
        x = x.reshape(b, a, 5 + classes, h, w).permute(0, 1, 3, 4, 2)
        new = int(o.get("new_coords", 0))
        s = float(o.get("scale_x_y", 1.0)) if kind == "yolo" else 1.0
        xy = x[..., :2] if new else torch.sigmoid(x[..., :2])
        xy = xy * s - (s - 1) / 2
        grid = torch.stack(torch.meshgrid(torch.arange(w), torch.arange(h), indexing="xy"), -1)
        xy = (xy + grid) / torch.tensor([w, h]) * torch.tensor([width, height])
        unit = torch.tensor([1.0, 1.0]) if kind == "yolo" else torch.tensor([width / w, height / h])
        wh = ((2 * x[..., 2:4]) ** 2 if new else torch.exp(x[..., 2:4])) * anchors.view(1, a, 1, 1, 2) * unit
        obj = x[..., 4:5] if new else torch.sigmoid(x[..., 4:5])
        p = x[..., 5:] if new else torch.softmax(x[..., 5:], -1) if kind == "region" else torch.sigmoid(x[..., 5:])
        boxes.append(torch.cat([xy - wh / 2, xy + wh / 2], -1).reshape(b, -1, 4))
        scores.append((obj * p).reshape(b, -1, classes))
    return torch.cat(boxes, 1), torch.cat(scores, 1)


def suppressed(boxes, scores, iou, least):
    rows = []
    for n in range(boxes.shape[0]):
        for c in range(scores.shape[2]):
            good = torch.nonzero(scores[n, :, c] > least).flatten()
            keep = torchvision.ops.nms(boxes[n, good], scores[n, good, c], iou)
            for k in good[keep][:200]:
                rows.append([n, c, scores[n, k, c].item(), *boxes[n, k].tolist()])
    return torch.tensor(rows).reshape(-1, 7)


def check(have, want, what):
    want = want.numpy()
    if list(have.shape) != list(want.shape):
        raise AssertionError(f"{what}: shape {list(have.shape)} instead of {list(want.shape)}")
    bound = 1e-4 * max(1.0, float(np.abs(want).max() if want.size else 0)) + 1e-3 * np.abs(want)
    if not np.isfinite(want).all():
        raise AssertionError(f"{what}: the test's own numbers are not finite")
    if not (np.abs(have - want) <= bound).all():
        raise AssertionError(f"{what}: off by {np.abs(have - want).max():.3g}")


def published(path, args):
    """A cfg as it was published: raw and decoded results at two sizes of the picture, if its layers allow them."""
    text = path.read_text(errors="replace")
    folder = args.cases / path.stem
    folder.mkdir(parents=True, exist_ok=True)
    # A gain at which the numbers of a hundred layers stay finite.
    model = Darknet(text, 7, 0.5)
    own = model.sections[0][1]
    # Shortcuts that skip elements are known at fixed sizes only.
    fixed = any(kind in ("connected", "local", "softmax", "reorg") for kind, _ in model.sections) or path.stem.startswith("resn")
    least = 256 if "p6" in path.stem or "p7" in path.stem else 128
    side = [(int(own["height"]), int(own["width"]))] if fixed else [(least, least), (least, least + 128)]
    flags = [] if fixed else ["--input", "images=f32[batch,3,height,width]"]
    images = [torch.rand(1, int(own.get("channels", 3)), *hw, generator=torch.Generator().manual_seed(hw[1])) for hw in side]
    with torch.no_grad():
        results = [model.forward(x) for x in images]
    (folder / "net.cfg").write_text(text)
    (folder / "net.weights").write_bytes(b"".join(model.file))
    modes = ["raw"] + (["decode"] if results[0][1] else [])
    for mode in modes:
        onnx_path = folder / f"{mode}.onnx"
        command(args.oxrt, "export", folder / "net.cfg", "-o", onnx_path, *flags, *(["--decode"] if mode == "decode" else []))
        onnx.checker.check_model(str(onnx_path), full_check=True)
        engine = folder / f"{mode}.engine"
        command(args.oxrt, "build", onnx_path, "-o", engine, "--no-tune", "--threads", "1")
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        session = onnxruntime.InferenceSession(str(onnx_path), options, providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        for x, (last, heads), hw in zip(images, results, side):
            want = ([r for _, _, r in heads] or [last]) if mode == "raw" else decode(heads, *hw)
            np.savez(folder / "in.npz", images=x.numpy())
            command(args.oxrt, "run", engine, "--in", folder / "in.npz", "--out", folder / "out.npz", "--threads", "1")
            mine = np.load(folder / "out.npz")
            for who, outs in (("onnxruntime", session.run(None, {"images": x.numpy()})), ("engine", [mine[n] for n in names])):
                assert len(outs) == len(want), f"{len(outs)} outputs instead of {len(want)}"
                for have, wanted in zip(outs, want):
                    check(have, wanted, f"{mode}, {who}, size {hw}")
    shutil.rmtree(folder)
    return len(modes) * len(side)


def command(*args):
    done = subprocess.run([str(a) for a in args], capture_output=True, text=True, timeout=300)
    if done.returncode:
        raise AssertionError(f"{args[1]}: " + done.stderr.strip().replace("\n", " | "))


def one(name, text, args):
    folder = args.cases / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "net.cfg").write_text(text)
    model = Darknet(text, 7)
    side = 32 if name == "local" else 48 if name == "classifier" else 64
    sizes = [(1, side, side), (3, side, side)]
    flags = []
    if name == "dynamic_plane":
        sizes += [(2, 20, 36)]
    elif name not in SQUARE:
        sizes += [(2, 64, 96)]
        flags = ["--input", "images=f32[batch,3,height,width]"]
    images = [torch.rand(n, 3, h, w, generator=torch.Generator().manual_seed(n + h)) for n, h, w in sizes]
    with torch.no_grad():
        results = [model.forward(x) for x in images]
    (folder / "net.weights").write_bytes(b"".join(model.file))
    detects = bool(results[0][1])
    modes = [("raw", [])] + ([("decode", ["--decode"]), ("nms", ["--nms", "0.45:0.3"])] if detects else [])
    for mode, more in modes:
        path = folder / f"{mode}.onnx"
        command = [args.oxrt, "export", folder / "net.cfg", "-o", path, *flags, *more]
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise AssertionError("export: " + done.stderr.strip().replace("\n", " | "))
        onnx.checker.check_model(str(path), full_check=True)
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        names = [o.name for o in session.get_outputs()]
        for i, (x, (last, heads), (_, h, w)) in enumerate(zip(images, results, sizes)):
            if mode == "raw":
                want = [r for _, _, r in heads] or [last]
            else:
                boxes, scores = decode(heads, h, w)
                want = [boxes, scores] if mode == "decode" else [suppressed(boxes, scores, 0.45, 0.3)]
            np.savez(folder / f"in{i}.npz", images=x.numpy())
            got = session.run(None, {"images": x.numpy()})
            run = [args.oxrt, "run", path, "--in", folder / f"in{i}.npz", "--out", folder / "out.npz"]
            done = subprocess.run([str(c) for c in run], capture_output=True, text=True, timeout=120)
            if done.returncode:
                raise AssertionError("engine: " + done.stderr.strip().replace("\n", " | "))
            mine = np.load(folder / "out.npz")
            for who, outs in (("onnxruntime", got), ("engine", [mine[n] for n in names])):
                assert len(outs) == len(want), f"{len(outs)} outputs instead of {len(want)}"
                for have, wanted in zip(outs, want):
                    if mode == "nms" and have.shape == tuple(wanted.shape):
                        # Rows whose scores all but tie may stand in another order: compare them by image, class, place.
                        order = lambda r: np.lexsort((np.round(r[:, 3:].sum(1), 1), r[:, 1], r[:, 0]))  # noqa: E731
                        have, wanted = have[order(have)], wanted[order(wanted.numpy())]
                    check(have, wanted, f"{mode}, {who}, sizes {sizes[i]}")
    return len(modes) * len(sizes)


def main():
    p = argparse.ArgumentParser()
    p.add_argument("--oxrt", required=True, type=pathlib.Path)
    p.add_argument("--cases", required=True, type=pathlib.Path)
    p.add_argument("--only")
    p.add_argument("--cfg", nargs="+", type=pathlib.Path, help="cfg files as they were published, instead of the networks here")
    args = p.parse_args()
    failed = 0
    names = args.cfg or [n for n in CFGS if not args.only or args.only in n]
    for name in names:
        try:
            n = published(name, args) if args.cfg else one(name, CFGS[name], args)
            print(f"ok     {name} ({n} runs)", flush=True)
        except Exception as e:  # noqa: BLE001  a judge that fails is a failure of the case
            failed += 1
            print(f"FAILED {name} {type(e).__name__}: {str(e)[:400]}", flush=True)
    print(f"Darknet: {len(names) - failed} of {len(names)} networks agree")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
