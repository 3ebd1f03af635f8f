"""Models of families beyond the zoo, in its format: for `pt2_zoo.py`, static and dynamic.

    python pt2_zoo.py --zoo more_models.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv [PREFIX…]

Small, with random weights, seeded. An entry names its inputs by a function of a generator and sizes, two sets of sizes, and the
axes that are dynamic.
"""
import dataclasses
import math
import os
import warnings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
warnings.filterwarnings("ignore")

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils import _pytree as pytree


class RNG:
    def __init__(self, seed):
        self.g = torch.Generator().manual_seed(seed)

    def n(self, *shape):
        return torch.randn(*shape, generator=self.g)

    def u(self, *shape):
        return torch.rand(*shape, generator=self.g)

    def i(self, lo, hi, *shape):
        return torch.randint(lo, hi, shape, generator=self.g)


@dataclasses.dataclass
class Entry:
    id: str
    family: str
    build: object
    make: object
    sizes: dict
    alt: dict
    dyn: object
    compare: bool = True

    def inputs(self, rng, **sizes):
        """Arguments by place, and by name when the entry's function gives both."""
        out = self.make(rng, **sizes)
        return out if len(out) == 2 and isinstance(out[1], dict) else (out, {})

    def make_inputs(self, seed=0, alt=False):
        return self.inputs(RNG(1000 + seed), **{**self.sizes, **(self.alt if alt else {})})

    def make_model(self):
        torch.manual_seed(1234)
        m = self.build().eval()
        # Heads that start at zero and batch statistics of one would hide faults.
        g = torch.Generator().manual_seed(1234)
        with torch.no_grad():
            for p in m.parameters():
                p.requires_grad_(False)
                if p.is_floating_point() and p.dim() >= 2 and p.numel() and p.abs().max() == 0:
                    p.copy_(torch.randn(p.shape, generator=g) * 0.02)
            for x in m.modules():
                if isinstance(x, nn.modules.batchnorm._BatchNorm) and x.running_var is not None:
                    x.running_mean.copy_(torch.randn(x.running_mean.shape, generator=g) * 0.1)
                    x.running_var.copy_(torch.rand(x.running_var.shape, generator=g) * 0.7 + 0.7)
        return m

    @property
    def has_dyn(self):
        return self.dyn is not None


def flat_tensors(tree):
    leaves = pytree.tree_leaves(tree)
    return [v if isinstance(v, torch.Tensor) else torch.tensor(v) for v in leaves if isinstance(v, (torch.Tensor, bool, int, float))]


def clone_tree(t):
    return pytree.tree_map(lambda v: v.clone() if isinstance(v, torch.Tensor) else v, t)


def eager(m, args, kwargs):
    with torch.no_grad():
        return flat_tensors(m(*clone_tree(args), **clone_tree(kwargs)))


def do_export(e, dynamic=False):
    m, (args, kwargs) = e.make_model(), e.make_inputs()

    def spec(s, marker):
        if isinstance(s, dict) and all(isinstance(k, int) for k in s):
            return {k: marker for k in s}
        if isinstance(s, dict):
            return {k: spec(v, marker) for k, v in s.items()}
        return s if s is None else type(s)(spec(v, marker) for v in s)

    with torch.no_grad():
        if not dynamic:
            return m, args, kwargs, torch.export.export(m, args, kwargs, strict=False)
        try:
            return m, args, kwargs, torch.export.export(m, args, kwargs, dynamic_shapes=spec(e.dyn, torch.export.Dim.DYNAMIC), strict=False)
        except Exception as error:
            if "specialized it to be a constant" not in str(error):
                raise
            # Axes that the model's Python fixes stay fixed; the others are dynamic.
            return m, args, kwargs, torch.export.export(e.make_model(), args, kwargs, dynamic_shapes=spec(e.dyn, torch.export.Dim.AUTO), strict=False)


ENTRIES = {}


def registrar(entries):
    """A decorator of module classes, and of functions that make a module, that puts them into `entries`."""

    def entry(family, inputs, dyn=None, sizes=None, alt=None, **kw):
        def put(build):
            name = f"{family}/{build.__name__}"
            entries[name] = Entry(name, family, build, inputs, sizes or {}, alt or {}, dyn, **kw)
            return build

        return put

    return entry


entry = registrar(ENTRIES)
B, BT, BHW, BTHW = {0: "b"}, {0: "b", 1: "t"}, {0: "b", 2: "h", 3: "w"}, {0: "b", 2: "t", 3: "h", 4: "w"}
SEQ = dict(inputs=lambda r, b=2, t=7: (r.n(b, t, 16),), dyn=(BT,), alt=dict(b=3, t=11), sizes=dict(b=2, t=7))
IMG = dict(inputs=lambda r, b=2, h=32, w=48: (r.n(b, 3, h, w),), dyn=(BHW,), alt=dict(b=3, h=48, w=64), sizes=dict(b=2, h=32, w=48))
TOKENS = dict(inputs=lambda r, b=2, t=7: (r.i(0, 50, b, t),), dyn=(BT,), alt=dict(b=3, t=11), sizes=dict(b=2, t=7))


def conv(i, o, k=3, s=1):
    return nn.Sequential(nn.Conv2d(i, o, k, s, k // 2), nn.BatchNorm2d(o), nn.ReLU(inplace=True))


# ---- state-space models, linear attention, recurrences ----
@entry("ssm", **SEQ)
class SelectiveScan(nn.Module):
    """Mamba's recurrence by torch's scan."""

    def __init__(self, d=16, n=4):
        super().__init__()
        self.p, self.a = nn.Linear(d, 2 * n + d), nn.Parameter(torch.rand(d, n))

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        b, c, dt = self.p(x).split([4, 4, 16], -1)
        dt = F.softplus(dt)
        decay = torch.exp(-dt[..., None] * self.a).transpose(0, 1)
        drive = (dt[..., None] * b[:, :, None] * x[..., None]).transpose(0, 1)

        def step(h, inp):
            h = inp[0] * h + inp[1]
            return h, h.clone()

        _, hs = scan(step, torch.zeros_like(drive[0]), (decay, drive))
        return (hs.transpose(0, 1) * c[:, :, None]).sum(-1)


@entry("ssm", **{**SEQ, "dyn": ({1: "t"},)})
class AssociativeScan(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 16)

    def forward(self, x):
        from torch._higher_order_ops.associative_scan import associative_scan

        def combine(l, r):
            return l[0] * r[0], l[1] * r[0] + r[1]

        return associative_scan(combine, (self.a(x).sigmoid(), self.b(x)), dim=1, combine_mode="generic")[1]


@entry("ssm", **{**SEQ, "dyn": ({1: "t"},)})
class AssociativeScanReverse(nn.Module):
    def forward(self, x):
        from torch._higher_order_ops.associative_scan import associative_scan

        return associative_scan(lambda l, r: torch.maximum(l, r) + 0.1, x, dim=1, reverse=True, combine_mode="generic")


@entry("ssm", inputs=lambda r, b=2, t=8: (r.n(b, t, 16),), dyn=(B,), alt=dict(b=3), sizes=dict(b=2))
class UnrolledScan(nn.Module):
    def __init__(self):
        super().__init__()
        self.p, self.a, self.conv = nn.Linear(16, 24), nn.Parameter(torch.rand(16, 4)), nn.Conv1d(16, 16, 4, padding=3, groups=16)

    def forward(self, x):
        t = x.shape[1]
        x = F.silu(self.conv(x.transpose(1, 2))[..., :t].transpose(1, 2))
        b, c, dt = self.p(x).split([4, 4, 16], -1)
        dt, h, ys = F.softplus(dt), x.new_zeros(x.shape[0], 16, 4), []
        for i in range(t):
            h = torch.exp(-dt[:, i, :, None] * self.a) * h + dt[:, i, :, None] * b[:, i, None] * x[:, i, :, None]
            ys.append(torch.einsum("bdn,bn->bd", h, c[:, i]))
        return torch.stack(ys, 1)


@entry("ssm", **SEQ)
class StateSpaceDuality(nn.Module):
    """Mamba-2's quadratic form with segment sums."""

    def __init__(self, heads=4):
        super().__init__()
        self.h, self.p = heads, nn.Linear(16, 16 + 8 + 8 + heads)

    def forward(self, x):
        x, b, c, dt = self.p(x).split([16, 8, 8, self.h], -1)
        x = x.unflatten(-1, (self.h, -1))
        a = -F.softplus(dt).transpose(1, 2)
        s = a.cumsum(-1)
        mask = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool, device=x.device).tril()
        l = torch.exp((s[..., :, None] - s[..., None, :]).masked_fill(~mask, -torch.inf))
        return torch.einsum("btn,bsn,bhts,bshp->bthp", c, b, l, x).flatten(2)


@entry("ssm", **SEQ)
class Retention(nn.Module):
    def __init__(self, h=4):
        super().__init__()
        self.h, self.qkv, self.g = h, nn.Linear(16, 48), nn.GroupNorm(h, 16)
        self.register_buffer("decay", torch.log(1 - 2.0 ** (-5 - torch.arange(h, dtype=torch.float32))))

    def forward(self, x):
        b, t, _ = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.h, -1).permute(2, 0, 3, 1, 4)
        n = torch.arange(t, device=x.device)
        d = (n[:, None] - n[None, :]).float()
        d = torch.where(d >= 0, torch.exp(d.clamp(min=0)[None] * self.decay[:, None, None]), 0.0)
        y = (q @ k.mT * d) @ v
        return self.g(y.transpose(1, 2).reshape(b * t, -1)).view(b, t, -1)


@entry("ssm", **SEQ)
class LinearAttention(nn.Module):
    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)

    def forward(self, x):
        q, k, v = (t.unflatten(-1, (2, 8)) for t in self.qkv(x).chunk(3, -1))
        q, k = F.elu(q) + 1, F.elu(k) + 1
        kv = torch.cumsum(torch.einsum("bthd,bthe->bthde", k, v), 1)
        z = 1 / (torch.einsum("bthd,bthd->bth", q, k.cumsum(1)) + 1e-6)
        return torch.einsum("bthd,bthde,bth->bthe", q, kv, z).flatten(2)


@entry("ssm", **SEQ)
class S4D(nn.Module):
    """Diagonal state space as a long convolution by FFT, complex parameters."""

    def __init__(self, d=16, n=8):
        super().__init__()
        self.log_dt, self.c = nn.Parameter(torch.rand(d) - 3), nn.Parameter(torch.randn(d, n, 2))
        self.re, self.im = nn.Parameter(torch.rand(d, n).log()), nn.Parameter(torch.arange(n).float().repeat(d, 1) * math.pi)

    def forward(self, u):
        t = u.shape[1]
        a = torch.complex(-self.re.exp(), self.im)
        dt = self.log_dt.exp()[:, None]
        c = torch.view_as_complex(self.c) * (torch.exp(a * dt) - 1) / a
        k = 2 * torch.einsum("dn,dnt->dt", c, torch.exp((a * dt)[..., None] * torch.arange(t, device=u.device))).real
        y = torch.fft.irfft(torch.fft.rfft(u.transpose(1, 2), n=2 * t) * torch.fft.rfft(k, n=2 * t), n=2 * t)[..., :t]
        return y.transpose(1, 2)


@entry("ssm", inputs=lambda r, b=2, t=6: (r.n(b, t, 8), r.n(b, 3), r.i(1, 6, b)), dyn=(BT, B, B), alt=dict(b=3, t=9), sizes=dict(b=2, t=6))
class KalmanFilter(nn.Module):
    def __init__(self):
        super().__init__()
        self.f, self.h = nn.Parameter(torch.eye(3) * 0.9), nn.Parameter(torch.randn(8, 3))

    def forward(self, z, x, lengths):
        from torch._higher_order_ops.scan import scan

        def step(carry, zt):
            x, p = carry
            x, p = x @ self.f.mT, self.f @ p @ self.f.mT + 0.1 * torch.eye(3)
            s = self.h @ p @ self.h.mT + torch.eye(8)
            k = torch.linalg.solve(s, self.h @ p).mT
            x = x + (k @ (zt - x @ self.h.mT)[..., None]).squeeze(-1)
            p = (torch.eye(3) - k @ self.h) @ p
            return (x, p), x.clone()

        _, xs = scan(step, (x, torch.eye(3).repeat(x.shape[0], 1, 1)), z.transpose(0, 1))
        keep = torch.arange(z.shape[1])[:, None] < lengths
        return (xs * keep[..., None]).transpose(0, 1)


# ---- graphs ----
GRAPH = dict(
    inputs=lambda r, n=9, e=20: (r.n(n, 8), r.i(0, n, 2, e)), dyn=({0: "n"}, {1: "e"}), alt=dict(n=12, e=31), sizes=dict(n=9, e=20)
)


@entry("graph", **GRAPH)
class GCN(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(8, 16), nn.Linear(16, 4)

    def propagate(self, x, edges):
        loops = torch.arange(x.shape[0], device=x.device)
        src, dst = torch.cat([edges[0], loops]), torch.cat([edges[1], loops])
        deg = torch.zeros(x.shape[0]).scatter_add_(0, dst, torch.ones(dst.shape[0]))
        norm = deg.rsqrt()
        return torch.zeros_like(x).index_add_(0, dst, x[src] * (norm[src] * norm[dst])[:, None])

    def forward(self, x, edges):
        x = F.relu(self.propagate(self.a(x), edges))
        return self.propagate(self.b(x), edges).log_softmax(-1)


@entry("graph", **GRAPH)
class GAT(nn.Module):
    def __init__(self, h=2):
        super().__init__()
        self.h, self.w, self.l, self.r = h, nn.Linear(8, h * 8), nn.Parameter(torch.randn(h, 8)), nn.Parameter(torch.randn(h, 8))

    def forward(self, x, edges):
        n, (src, dst) = x.shape[0], edges
        x = self.w(x).view(n, self.h, -1)
        e = F.leaky_relu((x * self.l).sum(-1)[src] + (x * self.r).sum(-1)[dst], 0.2)
        idx = dst[:, None].expand_as(e)
        top = torch.full((n, self.h), -torch.inf).scatter_reduce(0, idx, e, "amax")
        e = (e - top[dst]).exp()
        total = torch.zeros(n, self.h).scatter_add(0, idx, e)
        a = e / (total[dst] + 1e-16)
        return torch.zeros_like(x).index_add(0, dst, a[..., None] * x[src]).flatten(1)


@entry("graph", **GRAPH)
class Aggregators(nn.Module):
    """Mean, max, min, product, standard deviation over neighbours."""

    def forward(self, x, edges):
        src, dst = edges[0], edges[1][:, None].expand(-1, x.shape[1])
        out = [torch.zeros_like(x).scatter_reduce(0, dst, x[src], m, include_self=False) for m in ("mean", "amax", "amin", "prod")]
        square = torch.zeros_like(x).scatter_reduce(0, dst, x[src] ** 2, "mean", include_self=False)
        return torch.cat([*out, (square - out[0] ** 2).clamp(min=1e-6).sqrt()], -1)


@entry("graph", inputs=lambda r, b=2, n=10: (r.n(b, n, 3),), dyn=({0: "b", 1: "n"},), alt=dict(b=3, n=17), sizes=dict(b=2, n=10))
class EdgeConv(nn.Module):
    """DGCNN: neighbours by distance."""

    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(nn.Linear(6, 16), nn.LeakyReLU(0.2), nn.Linear(16, 16))

    def forward(self, p):
        idx = torch.cdist(p, p).topk(4, largest=False).indices
        near = torch.gather(p[:, None].expand(-1, p.shape[1], -1, -1), 2, idx[..., None].expand(-1, -1, -1, 3))
        own = p[:, :, None].expand_as(near)
        return self.m(torch.cat([own, near - own], -1)).amax(2)


@entry("graph", inputs=lambda r, b=2, n=16: (r.n(b, n, 3), r.n(b, n, 4)), dyn=({0: "b", 1: "n"},) * 2, alt=dict(b=3, n=21), sizes=dict(b=2, n=16))
class PointNetSet(nn.Module):
    """Farthest points, ball query, grouping."""

    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(nn.Conv2d(7, 16, 1), nn.BatchNorm2d(16), nn.ReLU())

    def forward(self, p, f):
        b, n, _ = p.shape
        far, d, picked = torch.zeros(b, dtype=torch.long), torch.full((b, n), 1e10), []
        rows = torch.arange(b)
        for _ in range(4):
            picked.append(far)
            d = torch.minimum(d, ((p - p[rows, far][:, None]) ** 2).sum(-1))
            far = d.argmax(-1)
        centre = p[rows[:, None], torch.stack(picked, 1)]
        dist = torch.cdist(centre, p)
        idx = torch.where(dist < 1.5, torch.arange(n).expand_as(dist), n).sort(-1).values[..., :5]
        idx = torch.where(idx == n, idx[..., :1], idx)
        pick = lambda t: t[rows[:, None, None], idx]
        g = torch.cat([pick(p) - centre[:, :, None], pick(f)], -1)
        return self.m(g.permute(0, 3, 1, 2)).amax(-1)


@entry("graph", inputs=lambda r, n=9, e=20, g=3: (r.n(n, 8), r.i(0, n, 2, e), r.i(0, 3, n).sort().values), dyn=({0: "n"}, {1: "e"}, {0: "n"}), alt=dict(n=12, e=31), sizes=dict(n=9, e=20))
class GINPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.m, self.eps = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 8)), nn.Parameter(torch.tensor(0.1))

    def forward(self, x, edges, batch):
        for _ in range(2):
            x = self.m((1 + self.eps) * x + torch.zeros_like(x).index_add(0, edges[1], x[edges[0]]))
        out = torch.zeros(3, 8).index_reduce(0, batch, x, "mean", include_self=False)
        return out, torch.bincount(batch, minlength=3)


# ---- speech ----
@entry("speech", inputs=lambda r, b=2, t=12, u=5: (r.n(b, t, 20), r.i(0, 30, b, u)), dyn=(B, B), alt=dict(b=3), sizes=dict(b=2, t=12, u=5))
class RNNT(nn.Module):
    def __init__(self):
        super().__init__()
        self.enc, self.emb, self.pred = nn.LSTM(20, 16, 2, batch_first=True), nn.Embedding(30, 16), nn.LSTM(16, 16, batch_first=True)
        self.j = nn.Linear(16, 30)

    def forward(self, x, y):
        e, p = self.enc(x)[0], self.pred(self.emb(F.pad(y, (1, 0))))[0]
        return self.j(torch.tanh(e[:, :, None] + p[:, None])).log_softmax(-1)


@entry("speech", inputs=lambda r, t=9: (r.n(1, t, 20),), sizes=dict(t=9))
class RNNTGreedy(nn.Module):
    """Greedy decoding, a symbol a frame, by while_loop."""

    def __init__(self):
        super().__init__()
        self.enc, self.emb, self.cell, self.j = nn.GRU(20, 16, batch_first=True), nn.Embedding(12, 16), nn.GRUCell(16, 16), nn.Linear(16, 12)

    def forward(self, x):
        from torch._higher_order_ops.while_loop import while_loop

        e = self.enc(x)[0][0]
        t = e.shape[0]

        def go(i, token, h, out):
            return i < t

        def step(i, token, h, out):
            h2 = self.cell(self.emb(token), h)
            frame = torch.index_select(e, 0, i.view(1))
            k = self.j(torch.tanh(frame + h2)).argmax(-1)
            blank = k == 0
            out = torch.where(torch.arange(t) == i, k, out)
            return i + 1, torch.where(blank, token, k), torch.where(blank[:, None], h, h2), out

        start = (torch.tensor(0), torch.zeros(1, dtype=torch.long), torch.zeros(1, 16), torch.zeros(t, dtype=torch.long))
        return while_loop(go, step, start)[3]


@entry("speech", inputs=lambda r, b=2, t=21: (r.n(b, t, 20), torch.tensor([t] + [t - 6] * (b - 1))), dyn=(BT, B), alt=dict(b=3, t=33), sizes=dict(b=2, t=21))
class Conformer(nn.Module):
    """Subsampling, relative positions by the shift of Transformer-XL, convolution module, lengths as masks."""

    def __init__(self, d=16, h=2):
        super().__init__()
        self.sub, self.inp = nn.Sequential(nn.Conv2d(1, 8, 3, 2), nn.ReLU(), nn.Conv2d(8, 8, 3, 2), nn.ReLU()), nn.Linear(8 * 4, d)
        self.h, self.qkv, self.pos = h, nn.Linear(d, 3 * d), nn.Linear(d, d, bias=False)
        self.u, self.v = nn.Parameter(torch.randn(h, d // h)), nn.Parameter(torch.randn(h, d // h))
        self.ff = nn.ModuleList(nn.Sequential(nn.LayerNorm(d), nn.Linear(d, 32), nn.SiLU(), nn.Linear(32, d)) for _ in range(2))
        self.pw, self.dw, self.bn, self.out = nn.Conv1d(d, 2 * d, 1), nn.Conv1d(d, d, 5, padding=2, groups=d), nn.BatchNorm1d(d), nn.Conv1d(d, d, 1)
        self.n1, self.n2, self.n3 = nn.LayerNorm(d), nn.LayerNorm(d), nn.LayerNorm(d)

    def positions(self, t, d):
        p = torch.arange(t - 1, -t, -1.0)[:, None] * torch.exp(torch.arange(0, d, 2) * (-math.log(1e4) / d))
        return torch.stack([p.sin(), p.cos()], -1).flatten(1)

    def attend(self, x, mask):
        b, t, d = x.shape
        q, k, v = self.qkv(x).view(b, t, 3, self.h, -1).unbind(2)
        p = self.pos(self.positions(t, d)).view(-1, self.h, d // self.h)
        ac = torch.einsum("bthd,bshd->bhts", q + self.u, k)
        bd = torch.einsum("bthd,phd->bhtp", q + self.v, p)
        bd = F.pad(bd, (1, 0)).view(b, self.h, 2 * t, t)[:, :, 1:].reshape(b, self.h, t, 2 * t - 1)[..., :t]
        a = ((ac + bd) / math.sqrt(d // self.h)).masked_fill(~mask[:, None, None], -1e4).softmax(-1)
        return torch.einsum("bhts,bshd->bthd", a, v).flatten(2)

    def forward(self, x, lengths):
        x = self.sub(x[:, None])
        x = self.inp(x.transpose(1, 2).flatten(2))
        lengths = ((lengths - 1) // 2 - 1) // 2
        mask = torch.arange(x.shape[1]) < lengths[:, None]
        x = x + 0.5 * self.ff[0](x)
        x = x + self.attend(self.n1(x), mask)
        y = F.glu(self.pw(self.n2(x).transpose(1, 2).masked_fill(~mask[:, None], 0)), 1)
        x = x + self.out(F.silu(self.bn(self.dw(y)))).transpose(1, 2)
        return self.n3(x + 0.5 * self.ff[1](x)), lengths


@entry("speech", inputs=lambda r, b=2, n=1600: (r.n(b, n),), dyn=({0: "b", 1: "n"},), alt=dict(b=3, n=2400), sizes=dict(b=2, n=1600))
class MelFrontEnd(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.hann_window(160))
        self.register_buffer("fb", torch.rand(20, 101))
        self.c = nn.Conv1d(20, 8, 3, 2, 1)

    def forward(self, x):
        s = torch.stft(x, 200, 80, 160, self.w, center=True, return_complex=True).abs() ** 2
        m = (self.fb @ s).clamp(min=1e-10).log10()
        m = torch.maximum(m, m.amax((1, 2), keepdim=True) - 8)
        return self.c((m + 4) / 4)


@entry("speech", inputs=lambda r, b=2, n=1600: (r.n(b, n),), dyn=(B,), alt=dict(b=3), sizes=dict(b=2))
class MaskNet(nn.Module):
    """Enhancement in the complex spectrum."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.hann_window(128))
        self.r, self.o = nn.GRU(130, 32, batch_first=True), nn.Linear(32, 130)

    def forward(self, x):
        s = torch.stft(x, 128, 32, window=self.w, return_complex=True)
        f = torch.cat([s.real, s.imag], 1).transpose(1, 2)
        m = torch.tanh(self.o(self.r(f)[0])).transpose(1, 2)
        re, im = m.chunk(2, 1)
        return torch.istft(s * torch.complex(re, im), 128, 32, window=self.w, length=x.shape[1])


@entry("speech", inputs=lambda r, b=2, t=40: (r.i(0, 32, b, t),), dyn=(BT,), alt=dict(b=3, t=55), sizes=dict(b=2, t=40))
class WaveNet(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.e = nn.Embedding(32, d)
        self.f = nn.ModuleList(nn.Conv1d(d, 2 * d, 2, dilation=2**i) for i in range(4))
        self.s, self.o = nn.ModuleList(nn.Conv1d(d, 2 * d, 1) for _ in range(4)), nn.Conv1d(d, 32, 1)

    def forward(self, x):
        x, skip = self.e(x).transpose(1, 2), 0
        for i, (f, s) in enumerate(zip(self.f, self.s)):
            a, g = f(F.pad(x, (2**i, 0))).chunk(2, 1)
            r, k = s(a.tanh() * g.sigmoid()).chunk(2, 1)
            x, skip = x + r, skip + k
        return self.o(F.relu(skip))


@entry("speech", inputs=lambda r, b=2, t=6: (r.n(b, 1, 16), r.n(b, 5, 16), r.n(2, b, 2, t, 8), r.n(2, b, 2, t, 8)), dyn=(B, B, {1: "b", 3: "t"}, {1: "b", 3: "t"}), alt=dict(b=3, t=9), sizes=dict(b=2, t=6))
class WhisperDecoderStep(nn.Module):
    """A step of two layers with caches: self-attention appended, cross-attention over the encoder."""

    def __init__(self):
        super().__init__()
        self.q, self.k, self.v, self.o = (nn.ModuleList(nn.Linear(16, 16) for _ in range(4)) for _ in range(4))
        self.n, self.m = nn.ModuleList(nn.LayerNorm(16) for _ in range(6)), nn.ModuleList(nn.Sequential(nn.Linear(16, 32), nn.GELU(), nn.Linear(32, 16)) for _ in range(2))

    def heads(self, x):
        return x.view(x.shape[0], x.shape[1], 2, 8).transpose(1, 2)

    def forward(self, x, enc, keys, values):
        ks, vs = [], []
        for l in range(2):
            h = self.n[3 * l](x)
            k, v = torch.cat([keys[l], self.heads(self.k[l](h))], 2), torch.cat([values[l], self.heads(self.v[l](h))], 2)
            ks.append(k)
            vs.append(v)
            x = x + self.o[l](F.scaled_dot_product_attention(self.heads(self.q[l](h)), k, v).transpose(1, 2).flatten(2))
            h = self.n[3 * l + 1](x)
            a = F.scaled_dot_product_attention(self.heads(self.q[l + 2](h)), self.heads(self.k[l + 2](enc)), self.heads(self.v[l + 2](enc)))
            x = x + self.o[l + 2](a.transpose(1, 2).flatten(2))
            x = x + self.m[l](self.n[3 * l + 2](x))
        return x, torch.stack(ks), torch.stack(vs)


@entry("speech", inputs=lambda r, b=2, t=3: (r.n(b, t, 16), torch.arange(4, 4 + t)), dyn=({1: "t"}, {0: "t"}), alt=dict(b=2, t=5), sizes=dict(b=2, t=3))
class StaticCache(nn.Module):
    """Keys and values written into buffers at positions."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(16, 48)
        self.register_buffer("k", torch.randn(2, 2, 12, 8))
        self.register_buffer("v", torch.randn(2, 2, 12, 8))

    def forward(self, x, pos):
        q, k, v = (t.unflatten(-1, (2, 8)).transpose(1, 2) for t in self.qkv(x).chunk(3, -1))
        self.k[:, :, pos] = k
        self.v.index_copy_(2, pos, v)
        mask = torch.arange(12) <= pos[:, None]
        return F.scaled_dot_product_attention(q, self.k, self.v, attn_mask=mask)


# ---- mixtures of experts ----
@entry("moe", **SEQ)
class TopTwo(nn.Module):
    """Every expert over every token, weighted."""

    def __init__(self, e=4):
        super().__init__()
        self.g, self.w1, self.w2 = nn.Linear(16, e), nn.Parameter(torch.randn(e, 16, 32) * 0.2), nn.Parameter(torch.randn(e, 32, 16) * 0.2)

    def forward(self, x):
        w, idx = self.g(x).softmax(-1).topk(2)
        w = w / w.sum(-1, keepdim=True)
        gate = torch.zeros(*x.shape[:2], 4).scatter(-1, idx, w)
        h = F.gelu(torch.einsum("btd,edf->btef", x, self.w1))
        return torch.einsum("btef,efd,bte->btd", h, self.w2, gate)


@entry("moe", **SEQ)
class Capacity(nn.Module):
    """Switch routing with a capacity and dispatch by one-hot."""

    def __init__(self, e=4, c=3):
        super().__init__()
        self.e, self.c, self.g, self.w = e, c, nn.Linear(16, e), nn.Parameter(torch.randn(e, 16, 16) * 0.2)

    def forward(self, x):
        p, idx = self.g(x).softmax(-1).max(-1)
        hot = F.one_hot(idx, self.e)
        place = (hot.cumsum(1) - 1) * hot
        kept = hot * (place < self.c)
        dispatch = F.one_hot((place * kept).sum(-1).clamp(max=self.c - 1), self.c)[:, :, None] * kept[..., None]
        inp = torch.einsum("btec,btd->becd", dispatch.float(), x)
        return torch.einsum("btec,becd,bt->btd", dispatch.float(), torch.einsum("becd,edf->becf", inp, self.w), p)


@entry("moe", **SEQ)
class IndexedExperts(nn.Module):
    """The tokens of each expert by where() and index_add_: sizes that data decide."""

    def __init__(self):
        super().__init__()
        self.g, self.f = nn.Linear(16, 4), nn.ModuleList(nn.Sequential(nn.Linear(16, 24), nn.SiLU(), nn.Linear(24, 16)) for _ in range(4))

    def forward(self, x):
        b, t, d = x.shape
        x = x.reshape(-1, d)
        w, idx = self.g(x).softmax(-1).topk(2)
        out, mask = torch.zeros_like(x), F.one_hot(idx, 4).permute(2, 1, 0)
        for e in range(4):
            k, rows = torch.where(mask[e])
            out.index_add_(0, rows, self.f[e](x[rows]) * w[rows, k, None])
        return out.reshape(b, t, d)


@entry("moe", **SEQ)
class SortedExperts(nn.Module):
    """Tokens sorted by expert, and put back."""

    def __init__(self):
        super().__init__()
        self.g, self.w = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16) * 0.2)

    def forward(self, x):
        b, t, d = x.shape
        x = x.reshape(b * t, d)
        w, e = self.g(x).softmax(-1).max(-1)
        order = e.argsort(stable=True)
        y = torch.bmm(x[order][:, None], self.w[e[order]])[:, 0]
        return (torch.empty_like(y).index_copy(0, order, y) * w[:, None]).view(b, t, d)


# ---- flows, densities, processes ----
@entry("flow", inputs=lambda r, b=5: (r.n(b, 6),), dyn=(B,), alt=dict(b=9), sizes=dict(b=5))
class RealNVP(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.ModuleList(nn.Sequential(nn.Linear(3, 16), nn.Tanh(), nn.Linear(16, 6)) for _ in range(4))

    def forward(self, x):
        ld = torch.zeros(x.shape[0])
        for i, n in enumerate(self.n):
            a, b = x.chunk(2, 1) if i % 2 else x.flip(1).chunk(2, 1)
            s, t = n(a).chunk(2, 1)
            s = torch.tanh(s)
            x, ld = torch.cat([a, b * s.exp() + t], 1), ld + s.sum(1)
        return x, torch.distributions.Normal(0.0, 1.0, validate_args=False).log_prob(x).sum(1) + ld


@entry("flow", inputs=lambda r, b=2, h=8, w=8: (r.n(b, 3, h, w),), dyn=(BHW,), alt=dict(b=3, h=12, w=16), sizes=dict(b=2, h=8, w=8))
class Glow(nn.Module):
    """Squeeze, invertible 1×1 convolution (with its determinant), affine coupling, and back."""

    def __init__(self):
        super().__init__()
        self.w, self.n = nn.Parameter(torch.linalg.qr(torch.randn(12, 12))[0] + 0.1 * torch.randn(12, 12)), nn.Sequential(nn.Conv2d(6, 16, 3, padding=1), nn.ReLU(), nn.Conv2d(16, 12, 3, padding=1))

    def forward(self, x):
        b, c, h, w = x.shape
        x = F.pixel_unshuffle(x, 2)
        x = F.conv2d(x, self.w[..., None, None])
        ld = torch.linalg.slogdet(self.w)[1] * (h * w / 4)
        a, y = x.chunk(2, 1)
        s, t = self.n(a).chunk(2, 1)
        s = torch.sigmoid(s + 2)
        z = torch.cat([a, y * s + t], 1)
        back = torch.cat([a, (z.chunk(2, 1)[1] - t) / s], 1)
        back = F.pixel_shuffle(F.conv2d(back, torch.linalg.inv(self.w)[..., None, None]), 2)
        return z, ld + s.log().sum((1, 2, 3)), back


@entry("flow", inputs=lambda r, b=6: (r.u(b, 3) * 2 - 1,), dyn=(B,), alt=dict(b=10), sizes=dict(b=6))
class SplineFlow(nn.Module):
    """Rational quadratic splines (Durkan et al.)."""

    def __init__(self, k=5):
        super().__init__()
        self.k, self.p = k, nn.Parameter(torch.randn(3, 3 * k + 1))

    def forward(self, x):
        k = self.k
        p = self.p.expand(x.shape[0], -1, -1)
        w, h, d = p.split([k, k, k + 1], -1)
        w, h = (1e-3 + (1 - 1e-3 * k) * t.softmax(-1) for t in (w, h))
        cw, ch = (F.pad(t.cumsum(-1), (1, 0)) * 2 - 1 for t in (w, h))
        d = 1e-3 + F.softplus(d)
        bin = (torch.searchsorted(cw[..., 1:-1].contiguous(), x[..., None], right=True))
        pick = lambda t: t.gather(-1, bin)[..., 0]
        x0, y0, w0, h0, d0, d1 = pick(cw), pick(ch), pick(w * 2), pick(h * 2), pick(d), d.gather(-1, bin + 1)[..., 0]
        s, z = h0 / w0, ((x - x0) / w0).clamp(0, 1)
        den = s + (d1 + d0 - 2 * s) * z * (1 - z)
        y = y0 + h0 * (s * z**2 + d0 * z * (1 - z)) / den
        return y, (s**2 * (d1 * z**2 + 2 * s * z * (1 - z) + d0 * (1 - z) ** 2) / den**2).log().sum(-1)


@entry("flow", inputs=lambda r, n=7, m=4: (r.n(n, 2), r.n(n), r.n(m, 2)), dyn=({0: "n"}, {0: "n"}, {0: "m"}), alt=dict(n=11, m=6), sizes=dict(n=7, m=4))
class GaussianProcess(nn.Module):
    def forward(self, x, y, z):
        k = lambda a, b: torch.exp(-0.5 * torch.cdist(a, b) ** 2)
        l = torch.linalg.cholesky(k(x, x) + 0.1 * torch.eye(x.shape[0]))
        a = torch.cholesky_solve(y[:, None], l)
        v = torch.linalg.solve_triangular(l, k(x, z), upper=False)
        return (k(z, x) @ a)[:, 0], torch.diagonal(k(z, z) - v.mT @ v), l.diagonal().log().sum()


@entry("flow", inputs=lambda r, b=5: (r.n(b, 4),), dyn=(B,), alt=dict(b=8), sizes=dict(b=5))
class Mixture(nn.Module):
    def __init__(self):
        super().__init__()
        self.n = nn.Linear(4, 3 * (1 + 2 * 4))

    def forward(self, x):
        p = self.n(x).view(-1, 3, 9)
        cat, mu, sc = p[..., 0], p[..., 1:5], F.softplus(p[..., 5:]) + 1e-3
        comp = torch.distributions.Independent(torch.distributions.Normal(mu, sc, validate_args=False), 1, validate_args=False)
        mix = torch.distributions.MixtureSameFamily(torch.distributions.Categorical(logits=cat, validate_args=False), comp, validate_args=False)
        return mix.log_prob(x), mix.mean, mix.variance


@entry("flow", inputs=lambda r, b=3: (r.n(b, 4), torch.tensor(1.0)), dyn=(B, None), alt=dict(b=6), sizes=dict(b=3))
class NeuralODE(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 4))

    def forward(self, y, end):
        from torch._higher_order_ops.while_loop import while_loop

        def step(t, y):
            h = 0.1
            a = self.f(y)
            b = self.f(y + h / 2 * a)
            c = self.f(y + h / 2 * b)
            d = self.f(y + h * c)
            return t + h, y + h / 6 * (a + 2 * b + 2 * c + d)

        return while_loop(lambda t, y: t < 0.95 * end, step, (torch.tensor(0.0), y))[1]


# ---- Fourier ----
@entry("fourier", inputs=lambda r, b=2, h=16, w=16: (r.n(b, 2, h, w),), dyn=(BHW,), alt=dict(b=3, h=20, w=24), sizes=dict(b=2, h=16, w=16))
class FNO(nn.Module):
    def __init__(self, c=4, m=4):
        super().__init__()
        self.m, self.i, self.o, self.k = m, nn.Conv2d(2, c, 1), nn.Conv2d(c, 1, 1), nn.Conv2d(c, c, 1)
        self.w1, self.w2 = (nn.Parameter(torch.randn(c, c, m, m, dtype=torch.cfloat) * 0.1) for _ in range(2))

    def forward(self, x):
        m, x = self.m, self.i(x)
        f = torch.fft.rfft2(x)
        g = torch.zeros_like(f)
        g[:, :, :m, :m] = torch.einsum("bixy,ioxy->boxy", f[:, :, :m, :m], self.w1)
        g[:, :, -m:, :m] = torch.einsum("bixy,ioxy->boxy", f[:, :, -m:, :m], self.w2)
        return self.o(F.gelu(torch.fft.irfft2(g, s=x.shape[-2:]) + self.k(x)))


@entry("fourier", inputs=lambda r, b=2: (r.n(b, 8, 8, 6),), dyn=(B,), alt=dict(b=3), sizes=dict(b=2))
class GlobalFilter(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.n = nn.Parameter(torch.randn(8, 5, 6, 2) * 0.1), nn.LayerNorm(6)

    def forward(self, x):
        f = torch.fft.rfft2(self.n(x), dim=(1, 2), norm="ortho") * torch.view_as_complex(self.w)
        return x + torch.fft.irfft2(f, s=(8, 8), dim=(1, 2), norm="ortho")


@entry("fourier", **SEQ)
class Autocorrelation(nn.Module):
    """Autoformer's delays by FFT, and rolled sums."""

    def forward(self, x):
        t = x.shape[1]
        f = torch.fft.rfft(x, dim=1)
        c = torch.fft.irfft(f * torch.conj(f), n=t, dim=1).mean(-1)
        # A delay and what is left to the end are alike.
        w, d = c[:, : t // 2].topk(2, -1)
        idx = (torch.arange(t)[None, :, None] + d[:, None]) % t
        return sum(x.gather(1, idx[..., i : i + 1].expand(-1, -1, 16)) * w.softmax(-1)[:, i, None, None] for i in range(2))


@entry("fourier", inputs=lambda r, b=2, n=4: (torch.complex(r.n(b, n, 3), r.n(b, n, 3)), torch.complex(r.n(b, 3, 2), r.n(b, 3, 2))), dyn=(B, B), alt=dict(b=3), sizes=dict(b=2, n=4))
class ComplexAlgebra(nn.Module):
    def forward(self, x, y):
        z = x @ y
        return torch.view_as_real(z), z.abs(), z.angle(), (z * z.conj()).real, torch.view_as_real(torch.polar(z.abs(), z.angle()) / (1 + 2j)), torch.view_as_real(z.exp().mean(1))


@entry("fourier", inputs=lambda r, b=3, n=6: (r.n(b, n, 2), r.n(b, n)), dyn=(B, B), alt=dict(b=4), sizes=dict(b=3, n=6))
class ComplexPieces(nn.Module):
    """Rearrangements, choices and writes of complex tensors."""

    def forward(self, p, x):
        z = torch.view_as_complex(p)
        w = torch.zeros_like(z)
        w[:, 1:] = z[:, :-1]
        w[:, 0] = x[:, 0]
        w.mul_(2j)
        w[:, ::2] += 1
        s = torch.stack([z, w, z.conj()], -1)
        a, b = s.flip(0).transpose(0, 1).split([1, z.shape[1] - 1], 0)
        k = torch.where(x > 0, z, w * 0.5).masked_fill(x > 1, 0.25)
        y = torch.cat([z, x.to(torch.complex64)], 1).roll(1, 1)
        pieces = [w, s.mean(1), b.repeat(1, 1, 2), k, y, z[x > 0], z[:, torch.tensor([2, 0])], F.pad(z, (1, 2)), z.cumsum(1), a.squeeze(0)]
        return [torch.view_as_real(t) for t in pieces], [t.unbind(-1)[0].abs() for t in (s,)], torch.linalg.vector_norm(z, dim=1), z == w


@entry("fourier", inputs=lambda r, b=3, n=6: (torch.complex(r.n(b, n), r.n(b, n)),), dyn=({0: "b"},), alt=dict(b=5), sizes=dict(b=3, n=6))
class ComplexFunctions(nn.Module):
    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(4, 6, dtype=torch.cfloat)), nn.Parameter(torch.randn(4, dtype=torch.cfloat))
        self.k = nn.Parameter(torch.randn(4, 1, 3, dtype=torch.cfloat))

    def forward(self, z):
        out = [z.sqrt(), z.log(), z**3, z.sin(), z.cos(), 1 / z, z.square(), z.sgn(), F.linear(z, self.w, self.b), torch.outer(z[0], z[1]), z.sub(z, alpha=0.5), 1 - z, F.conv1d(z[:, None], self.k, self.b, padding=1)]
        return [torch.view_as_real(t) for t in out], z.real * z.imag


# ---- diffusion ----
class Res(nn.Module):
    def __init__(self, i, o, t=32):
        super().__init__()
        self.n1, self.c1, self.t, self.n2, self.c2 = nn.GroupNorm(4, i), nn.Conv2d(i, o, 3, 1, 1), nn.Linear(t, 2 * o), nn.GroupNorm(4, o), nn.Conv2d(o, o, 3, 1, 1)
        self.s = nn.Conv2d(i, o, 1) if i != o else nn.Identity()

    def forward(self, x, t):
        h = self.c1(F.silu(self.n1(x)))
        a, b = self.t(F.silu(t))[..., None, None].chunk(2, 1)
        return self.s(x) + self.c2(F.silu(self.n2(h) * (1 + a) + b))


class Cross(nn.Module):
    def __init__(self, c, d=12, h=2):
        super().__init__()
        self.h, self.n, self.q, self.k, self.v, self.o = h, nn.GroupNorm(4, c), nn.Linear(c, c), nn.Linear(d, c), nn.Linear(d, c), nn.Linear(c, c)

    def forward(self, x, y):
        b, c, h, w = x.shape
        q = self.q(self.n(x).flatten(2).transpose(1, 2)).view(b, h * w, self.h, -1).transpose(1, 2)
        k, v = (f(y).view(b, -1, self.h, c // self.h).transpose(1, 2) for f in (self.k, self.v))
        a = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(b, h * w, c)
        return x + self.o(a).transpose(1, 2).reshape(b, c, h, w)


class DiffusionUNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.t, self.i = nn.Sequential(nn.Linear(16, 32), nn.SiLU(), nn.Linear(32, 32)), nn.Conv2d(4, 8, 3, 1, 1)
        self.d1, self.a1, self.p, self.d2, self.a2 = Res(8, 8), Cross(8), nn.Conv2d(8, 16, 3, 2, 1), Res(16, 16), Cross(16)
        self.m, self.u1, self.up, self.u2, self.o = Res(16, 16), Res(32, 8), nn.Conv2d(8, 8, 3, 1, 1), Res(16, 8), nn.Conv2d(8, 4, 3, 1, 1)

    def forward(self, x, t, y):
        f = torch.exp(-math.log(1e4) * torch.arange(8, device=x.device) / 8)
        a = t[:, None].float() * f
        t = self.t(torch.cat([a.cos(), a.sin()], -1))
        h0 = self.a1(self.d1(self.i(x), t), y)
        h1 = self.a2(self.d2(self.p(h0), t), y)
        h = self.u1(torch.cat([self.m(h1, t), h1], 1), t)
        h = self.up(F.interpolate(h, scale_factor=2.0, mode="nearest"))
        return self.o(self.u2(torch.cat([h[..., : x.shape[2], : x.shape[3]], h0], 1), t))


DIFF = dict(inputs=lambda r, b=2, h=16, w=16, s=5: (r.n(b, 4, h, w), r.i(0, 1000, b), r.n(b, s, 12)), dyn=(BHW, B, {0: "b", 1: "s"}), alt=dict(b=3, h=24, w=20, s=7), sizes=dict(b=2, h=16, w=16, s=5))
entry("diffusion", **DIFF)(DiffusionUNet)


@entry("diffusion", inputs=lambda r, b=2, s=5: (r.n(b, 4, 8, 8), r.n(b, s, 12)), dyn=(B, {0: "b", 1: "s"}), alt=dict(b=3, s=7), sizes=dict(b=2, s=5))
class DDIM(nn.Module):
    """Three steps with guidance, the noise schedule indexed by a tensor."""

    def __init__(self):
        super().__init__()
        self.u = DiffusionUNet()
        self.register_buffer("a", torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000), 0))

    def forward(self, x, y):
        for t in (800, 500, 200):
            tt = torch.full((2 * x.shape[0],), t)
            e0, e1 = self.u(torch.cat([x, x]), tt, torch.cat([torch.zeros_like(y), y])).chunk(2)
            e = e0 + 3.0 * (e1 - e0)
            a, b = self.a[t], self.a[t - 199]
            x = b.sqrt() * ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-3, 3) + (1 - b).sqrt() * e
        return x


@entry("diffusion", inputs=lambda r, b=2, h=8, w=8: (r.n(b, 4, h, w), r.u(b), r.i(0, 10, b)), dyn=(BHW, B, B), alt=dict(b=3, h=12, w=16), sizes=dict(b=2, h=8, w=8))
class DiT(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.p, self.c, self.l = nn.Conv2d(4, d, 2, 2), nn.Embedding(10, d), nn.Linear(2, d)
        self.ada, self.n, self.att, self.m, self.o = nn.Linear(d, 6 * d), nn.LayerNorm(d, elementwise_affine=False), nn.MultiheadAttention(d, 2, batch_first=True), nn.Sequential(nn.Linear(d, 32), nn.GELU("tanh"), nn.Linear(32, d)), nn.Linear(d, 16)

    def forward(self, x, t, y):
        b, _, h, w = x.shape
        x = self.p(x).flatten(2).mT
        c = self.l(torch.stack([t.sin(), t.cos()], -1)) + self.c(y)
        s1, k1, g1, s2, k2, g2 = self.ada(F.silu(c))[:, None].chunk(6, -1)
        q = self.n(x) * (1 + s1) + k1
        x = x + g1 * self.att(q, q, q, need_weights=False)[0]
        x = self.o(x + g2 * self.m(self.n(x) * (1 + s2) + k2))
        return torch.einsum("nhwpqc->nchpwq", x.reshape(b, h // 2, w // 2, 2, 2, 4)).reshape(b, 4, h, w)


# ---- detection, segmentation, images ----
@entry("detect", **IMG)
class CenterNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.h, self.w = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2)), nn.Conv2d(16, 3, 1), nn.Conv2d(16, 4, 1)

    def forward(self, x):
        f = self.b(x)
        heat, wh = self.h(f).sigmoid(), self.w(f)
        heat = heat * (F.max_pool2d(heat, 3, 1, 1) == heat)
        b, c, h, w = heat.shape
        s, i = heat.flatten(1).topk(6)
        cls, place = i // (h * w), i % (h * w)
        y, x = (place // w).float(), (place % w).float()
        g = wh.flatten(2).gather(2, place[:, None].expand(-1, 4, -1)).mT
        return torch.stack([x - g[..., 0], y - g[..., 1], x + g[..., 2], y + g[..., 3]], -1) * 4, s, cls


@entry("detect", inputs=lambda r, b=2, h=64, w=96: (r.n(b, 3, h, w),), dyn=(BHW,), alt=dict(b=3, h=96, w=64), sizes=dict(b=2, h=64, w=96))
class DFLHead(nn.Module):
    """Three scales, boxes as distributions, anchors from the maps' sizes (YOLOv8)."""

    def __init__(self):
        super().__init__()
        self.s = nn.ModuleList([nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 2), conv(8, 16, 3, 2)), conv(16, 16, 3, 2), conv(16, 16, 3, 2)])
        self.box, self.cls = nn.ModuleList(nn.Conv2d(16, 32, 1) for _ in range(3)), nn.ModuleList(nn.Conv2d(16, 5, 1) for _ in range(3))
        self.register_buffer("p", torch.arange(8.0))

    def forward(self, x):
        outs, points, strides, stride = [], [], [], 8
        for s, bx, c in zip(self.s, self.box, self.cls):
            x = s(x)
            h, w = x.shape[-2:]
            gy, gx = torch.meshgrid(torch.arange(h) + 0.5, torch.arange(w) + 0.5, indexing="ij")
            points.append(torch.stack([gx, gy], -1).view(-1, 2))
            strides.append(torch.full((h * w, 1), float(stride)))
            outs.append(torch.cat([bx(x), c(x)], 1).flatten(2))
            stride *= 2
        y, p, st = torch.cat(outs, 2), torch.cat(points).T, torch.cat(strides).T
        box, cls = y.split([32, 5], 1)
        d = (box.view(box.shape[0], 4, 8, -1).softmax(2) * self.p.view(1, 1, -1, 1)).sum(2)
        lt, rb = d.chunk(2, 1)
        return torch.cat([(2 * p + rb - lt) / 2 * st, (rb + lt) * st, cls.sigmoid()], 1)


@entry("detect", inputs=lambda r, n=20: (r.u(n, 4), r.u(n), r.i(0, 3, n)), dyn=({0: "n"},) * 3, alt=dict(n=33), sizes=dict(n=20))
class BatchedNMS(nn.Module):
    def forward(self, xywh, s, c):
        import torchvision

        b = torchvision.ops.box_convert(xywh * 100, "cxcywh", "xyxy")
        b = torchvision.ops.clip_boxes_to_image(b, (80, 90))
        keep = torchvision.ops.nms(b + (c * 200.0)[:, None], s, 0.4)[:7]
        return b[keep], s[keep], c[keep]


@entry("detect", inputs=lambda r, b=2, h=64, w=64: (r.n(b, 3, h, w), torch.cat([r.i(0, b, 7, 1).float(), r.u(7, 2) * 20, 24 + r.u(7, 2) * 30], 1)), dyn=(BHW, {0: "n"}), alt=dict(b=3, h=96, w=64), sizes=dict(b=2, h=64, w=64))
class RoiHead(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.f, self.m = nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 2)), nn.Linear(8 * 9, 9), nn.ConvTranspose2d(8, 2, 2, 2)

    def forward(self, x, rois):
        import torchvision

        f = self.b(x)
        r = torchvision.ops.roi_align(f, rois, 3, 0.25, 2, True)
        y = self.f(r.flatten(1))
        return y[:, :4].softmax(-1), rois[:, 1:] + y[:, 5:], self.m(r).sigmoid()


@entry("detect", **IMG)
class MiniDETR(nn.Module):
    def __init__(self, d=16):
        super().__init__()
        self.b, self.q = nn.Sequential(conv(3, 8, 3, 2), conv(8, 16, 3, 2), conv(16, d, 3, 2)), nn.Parameter(torch.randn(6, d))
        self.row, self.col = nn.Parameter(torch.rand(50, d // 2)), nn.Parameter(torch.rand(50, d // 2))
        self.t, self.c, self.x = nn.Transformer(d, 2, 1, 1, 32, batch_first=True), nn.Linear(d, 5), nn.Linear(d, 4)

    def forward(self, x):
        f = self.b(x)
        h, w = f.shape[-2:]
        pos = torch.cat([self.col[:w][None].repeat(h, 1, 1), self.row[:h][:, None].repeat(1, w, 1)], -1).flatten(0, 1)
        y = self.t(pos + 0.1 * f.flatten(2).mT, self.q.expand(x.shape[0], -1, -1))
        return self.c(y), self.x(y).sigmoid()


@entry("segment", inputs=lambda r, b=2, h=30, w=45: (r.n(b, 3, h, w),), dyn=(BHW,), alt=dict(b=3, h=41, w=64), sizes=dict(b=2, h=30, w=45))
class PaddedUNet(nn.Module):
    """Pads to a multiple of 8, and cuts back."""

    def __init__(self):
        super().__init__()
        self.e = nn.ModuleList([conv(3, 8), conv(8, 16), conv(16, 16)])
        self.u, self.d, self.o = nn.ModuleList([nn.ConvTranspose2d(16, 16, 2, 2), nn.ConvTranspose2d(8, 8, 2, 2)]), nn.ModuleList([conv(32, 8), conv(16, 8)]), nn.Conv2d(8, 2, 1)

    def forward(self, x):
        h, w = x.shape[-2:]
        x = F.pad(x, (0, -w % 8, 0, -h % 8), mode="reflect")
        a = self.e[0](x)
        b = self.e[1](F.max_pool2d(a, 2))
        c = self.e[2](F.max_pool2d(b, 2))
        y = self.d[0](torch.cat([self.u[0](c), b], 1))
        y = self.d[1](torch.cat([self.u[1](y), a], 1))
        return self.o(y)[..., :h, :w]


@entry("segment", **IMG)
class PyramidPool(nn.Module):
    def __init__(self):
        super().__init__()
        self.b, self.p, self.o = nn.Sequential(conv(3, 8, 3, 2), conv(8, 8, 3, 2)), nn.ModuleList(conv(8, 4, 1) for _ in range(3)), nn.Conv2d(20, 3, 1)

    def forward(self, x):
        f = self.b(x)
        p = [F.interpolate(c(F.adaptive_avg_pool2d(f, n)), f.shape[-2:], mode="bilinear", align_corners=False) for c, n in zip(self.p, (1, 2, 4))]
        return F.interpolate(self.o(torch.cat([f, *p], 1)), x.shape[-2:], mode="bilinear", align_corners=True).argmax(1)


@entry("segment", inputs=lambda r, b=2, t=8, h=16, w=16: (r.n(b, 1, t, h, w),), dyn=(BTHW,), alt=dict(b=3, t=12, h=24, w=20), sizes=dict(b=2, t=8, h=16, w=16))
class VNet(nn.Module):
    def __init__(self):
        super().__init__()
        c = lambda i, o, s=1: nn.Sequential(nn.Conv3d(i, o, 3, s, 1), nn.InstanceNorm3d(o, affine=True), nn.PReLU(o))
        self.a, self.b, self.c, self.u, self.o = c(1, 4), c(4, 8, 2), c(8, 8), nn.ConvTranspose3d(8, 4, 2, 2), nn.Conv3d(8, 2, 1)

    def forward(self, x):
        a = self.a(x)
        b = self.b(a)
        y = self.u(b + self.c(b))
        z = F.interpolate(F.avg_pool3d(a, 2), size=a.shape[2:], mode="trilinear", align_corners=False)
        return self.o(torch.cat([y, a + z], 1)).softmax(1)


@entry("segment", **IMG)
class VitInterpolated(nn.Module):
    """Positions stretched to the picture, patches put back."""

    def __init__(self, d=16):
        super().__init__()
        self.p, self.e = nn.Conv2d(3, d, 8, 8), nn.Parameter(torch.randn(1, d, 5, 5))
        self.l, self.o = nn.TransformerEncoderLayer(d, 2, 32, batch_first=True, activation="gelu", norm_first=True), nn.Linear(d, 64)

    def forward(self, x):
        f = self.p(x)
        f = f + F.interpolate(self.e, f.shape[-2:], mode="bicubic", align_corners=False)
        b, c, h, w = f.shape
        y = self.o(self.l(f.flatten(2).mT))
        return y.view(b, h, w, 8, 8).permute(0, 1, 3, 2, 4).reshape(b, h * 8, w * 8)


@entry("segment", **IMG)
class ShiftedWindows(nn.Module):
    def __init__(self, d=8, m=4):
        super().__init__()
        self.m, self.p, self.qkv, self.t = m, nn.Conv2d(3, d, 4, 4), nn.Linear(d, 3 * d), nn.Parameter(torch.randn((2 * m - 1) ** 2, 2))
        i = torch.stack(torch.meshgrid(torch.arange(m), torch.arange(m), indexing="ij")).flatten(1)
        i = (i[:, :, None] - i[:, None]) + m - 1
        self.register_buffer("i", i[0] * (2 * m - 1) + i[1])

    def forward(self, x):
        x, m = self.p(x).permute(0, 2, 3, 1), self.m
        b, h, w, c = x.shape
        x = F.pad(x, (0, 0, 0, -w % m, 0, -h % m))
        H, W = x.shape[1:3]
        x = torch.roll(x, (-m // 2, -m // 2), (1, 2))
        k = x.view(b, H // m, m, W // m, m, c).transpose(2, 3).reshape(-1, m * m, c)
        q, k, v = self.qkv(k).unflatten(-1, (3, 2, c // 2)).permute(2, 0, 3, 1, 4)
        a = (q @ k.mT + self.t[self.i.flatten()].view(m * m, m * m, 2).permute(2, 0, 1)).softmax(-1)
        y = (a @ v).transpose(1, 2).reshape(b, H // m, W // m, m, m, c).transpose(2, 3).reshape(b, H, W, c)
        return torch.roll(y, (m // 2, m // 2), (1, 2))[:, :h, :w].contiguous()


@entry("image", **IMG)
class Warp(nn.Module):
    """Flow, backward warping, correlation."""

    def __init__(self):
        super().__init__()
        self.f = nn.Conv2d(3, 2, 3, padding=1)

    def forward(self, x):
        b, c, h, w = x.shape
        gy, gx = torch.meshgrid((torch.arange(h) * 2 + 1) / h - 1, (torch.arange(w) * 2 + 1) / w - 1, indexing="ij")
        g = torch.stack([gx, gy], -1)[None] + 0.1 * self.f(x).permute(0, 2, 3, 1)
        y = F.grid_sample(x, g, padding_mode="border", align_corners=True)
        k = F.unfold(F.pad(y, (1, 1, 1, 1)), 3).view(b, c, 9, h, w)
        return y, (x[:, :, None] * k).mean(1)


@entry("image", **IMG)
class AdaIN(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.d = nn.Sequential(nn.ReflectionPad2d(1), nn.Conv2d(3, 8, 3), nn.ReLU(), nn.AvgPool2d(2)), nn.Sequential(nn.Upsample(scale_factor=2), nn.ReflectionPad2d(1), nn.Conv2d(8, 3, 3))

    def forward(self, x):
        f, s = self.e(x), self.e(x.flip(0))
        v, m = torch.var_mean(f, (2, 3), keepdim=True, correction=0)
        w, n = torch.var_mean(s, (2, 3), keepdim=True)
        return self.d((f - m) / (v + 1e-5).sqrt() * w.sqrt() + n)


@entry("image", **IMG)
class VQ(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.c, self.d = nn.Conv2d(3, 8, 4, 4), nn.Embedding(12, 8), nn.ConvTranspose2d(8, 3, 4, 4)

    def forward(self, x):
        z = self.e(x).permute(0, 2, 3, 1)
        flat = z.reshape(-1, 8)
        d = (flat**2).sum(1, keepdim=True) - 2 * flat @ self.c.weight.T + (self.c.weight**2).sum(1)
        i = d.argmin(1)
        q = self.c(i).view(z.shape)
        q = z + (q - z).detach()
        p = F.one_hot(i, 12).float().mean(0)
        return self.d(q.permute(0, 3, 1, 2)), i, torch.exp(-(p * (p + 1e-10).log()).sum())


@entry("image", inputs=lambda r, n=6: (r.n(n, 3), F.normalize(r.n(n, 3), dim=-1)), dyn=({0: "n"},) * 2, alt=dict(n=10), sizes=dict(n=6))
class NeRF(nn.Module):
    """Positional encoding, rendering by cumulated transmittance, importance samples by inverse cumulated weights."""

    def __init__(self):
        super().__init__()
        self.m = nn.Sequential(nn.Linear(27, 32), nn.ReLU(), nn.Linear(32, 4))

    def render(self, o, d, z):
        p = o[:, None] + d[:, None] * z[..., None]
        e = torch.cat([p] + [f(2.0**k * p) for k in range(4) for f in (torch.sin, torch.cos)], -1)
        y = self.m(e)
        step = F.pad(z.diff(dim=-1), (0, 1), value=1e10)
        a = 1 - torch.exp(-F.relu(y[..., 3]) * step)
        t = torch.cumprod(torch.cat([torch.ones_like(a[:, :1]), 1 - a + 1e-10], -1), -1)[:, :-1]
        return a * t, (a * t)[..., None] * y[..., :3].sigmoid()

    def forward(self, o, d):
        z = torch.linspace(2, 6, 8).expand(o.shape[0], 8)
        w, _ = self.render(o, d, z)
        w = w[:, 1:-1] + 1e-5
        c = F.pad((w / w.sum(-1, keepdim=True)).cumsum(-1), (1, 0))
        mid = 0.5 * (z[:, 1:] + z[:, :-1])
        u = torch.linspace(0.05, 0.95, 5).expand(o.shape[0], 5).contiguous()
        i = torch.searchsorted(c, u, right=True)
        lo, hi = (i - 1).clamp(min=0), i.clamp(max=c.shape[-1] - 1)
        c0, c1, m0, m1 = c.gather(1, lo), c.gather(1, hi), mid.gather(1, lo), mid.gather(1, hi)
        fine = m0 + (u - c0) / (c1 - c0).clamp(min=1e-5) * (m1 - m0)
        z = torch.cat([z, fine], -1).sort(-1).values
        w, rgb = self.render(o, d, z)
        return rgb.sum(1), (w * z).sum(1)


@entry("image", **IMG)
class SlotAttention(nn.Module):
    def __init__(self, d=8):
        super().__init__()
        self.c, self.s, self.k, self.v, self.q, self.g, self.n = nn.Conv2d(3, d, 5, 4, 2), nn.Parameter(torch.randn(1, 4, d)), nn.Linear(d, d), nn.Linear(d, d), nn.Linear(d, d), nn.GRUCell(d, d), nn.LayerNorm(d)

    def forward(self, x):
        x = self.c(x).flatten(2).mT
        k, v, s = self.k(x), self.v(x), self.s.expand(x.shape[0], -1, -1)
        for _ in range(3):
            a = torch.einsum("bid,bjd->bij", self.q(self.n(s)), k).softmax(1) + 1e-8
            u = torch.einsum("bij,bjd->bid", a / a.sum(-1, keepdim=True), v)
            s = self.g(u.flatten(0, 1), s.flatten(0, 1)).view_as(s)
        return s


# ---- text and time series ----
@entry("text", inputs=lambda r, b=2, t=7: (r.i(0, 50, b, t), torch.tensor([t] + [t - 3] * (b - 1))), dyn=(B, B), alt=dict(b=3), sizes=dict(b=2, t=7))
class CRFTagger(nn.Module):
    """BiLSTM with packed sequences' masking by hand, Viterbi by scan."""

    def __init__(self, k=5):
        super().__init__()
        self.e, self.r, self.o = nn.Embedding(50, 12), nn.LSTM(12, 8, batch_first=True, bidirectional=True), nn.Linear(16, k)
        self.tr = nn.Parameter(torch.randn(k, k))

    def forward(self, x, lengths):
        from torch._higher_order_ops.scan import scan

        em = self.o(self.r(self.e(x))[0])
        mask = torch.arange(x.shape[1])[:, None] < lengths

        def step(score, inp):
            e, m = inp
            best, arg = (score[..., None] + self.tr).max(1)
            return torch.where(m[:, None], best + e, score), arg.clone()

        score, back = scan(step, em[:, 0].clone(), (em[:, 1:].transpose(0, 1), mask[1:]))
        return score.max(-1).values, back


@entry("text", **TOKENS)
class CharHighway(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.c = nn.Embedding(50, 8, padding_idx=0), nn.ModuleList(nn.Conv1d(8, 6, k, padding=k // 2) for k in (1, 3, 5))
        self.h, self.g, self.b = nn.Linear(18, 18), nn.Linear(18, 18), nn.EmbeddingBag(50, 18, mode="mean")

    def forward(self, x):
        e = self.e(x).mT
        y = torch.cat([c(e).relu().amax(-1) for c in self.c], -1)
        g = self.g(y).sigmoid()
        return g * self.h(y).relu() + (1 - g) * y + self.b(x)


@entry("text", inputs=lambda r, n=10, b=3: (r.i(0, 50, n), torch.arange(0, n, (n + b - 1) // b)[:b]), dyn=({0: "n"}, {0: "b"}), alt=dict(n=16, b=4), sizes=dict(n=10, b=3))
class Bags(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.ModuleList(nn.EmbeddingBag(50, 4, mode=m) for m in ("sum", "mean", "max"))
        self.l = nn.EmbeddingBag(50, 4, mode="sum", include_last_offset=True)

    def forward(self, x, offsets):
        y = self.l(x, torch.cat([offsets, torch.full((1,), x.shape[0])]))
        return torch.cat([m(x, offsets) for m in self.m] + [y], -1)


@entry("text", **{**TOKENS, "dyn": (B,), "alt": dict(b=3)})
class BeamStep(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.r, self.o = nn.Embedding(50, 12), nn.GRU(12, 12, batch_first=True), nn.Linear(12, 50)

    def forward(self, x):
        b, k = x.shape[0], 3
        y, h = self.r(self.e(x))
        s, i = self.o(y[:, -1]).log_softmax(-1).topk(k)
        seq = torch.cat([x[:, None].expand(-1, k, -1), i[..., None]], -1)
        for _ in range(2):
            h = h[:, :, None].expand(-1, -1, k, -1).reshape(1, b * k, -1) if h.shape[1] == b else h
            y, h = self.r(self.e(seq[..., -1].reshape(b * k, 1)), h.contiguous())
            lp = s[..., None] + self.o(y[:, 0]).log_softmax(-1).view(b, k, -1)
            s, i = lp.view(b, -1).topk(k)
            beam = torch.div(i, 50, rounding_mode="floor")
            seq = torch.cat([seq.gather(1, beam[..., None].expand(-1, -1, seq.shape[-1])), (i % 50)[..., None]], -1)
            h = h.view(b, k, -1).gather(1, beam[..., None].expand(-1, -1, 12)).reshape(1, b * k, -1)
        return seq, s


@entry("text", **TOKENS)
class TransformerLM(nn.Module):
    def __init__(self):
        super().__init__()
        self.e, self.p = nn.Embedding(50, 16), nn.Embedding(64, 16)
        self.t = nn.TransformerEncoder(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True), 2, enable_nested_tensor=False)

    def forward(self, x):
        t = x.shape[1]
        h = self.e(x) + self.p(torch.arange(t, device=x.device))
        return self.t(h, mask=nn.Transformer.generate_square_subsequent_mask(t), is_causal=True) @ self.e.weight.T


@entry("text", inputs=lambda r, b=2, t=7, s=5: (r.n(b, t, 16), r.n(b, s, 16), torch.arange(t)[None] >= torch.tensor([t] + [t - 2] * (b - 1))[:, None]), dyn=(BT, {0: "b", 1: "s"}, BT), alt=dict(b=3, t=9, s=6), sizes=dict(b=2, t=7, s=5))
class EncoderDecoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.t = nn.Transformer(16, 2, 1, 2, 32, batch_first=True)

    def forward(self, x, y, pad):
        m = torch.full((y.shape[1], y.shape[1]), -torch.inf).triu(1)
        return self.t(x, y, tgt_mask=m, tgt_is_causal=True, src_is_causal=False, src_key_padding_mask=pad, memory_key_padding_mask=pad)


@entry("text", **SEQ)
class Perceiver(nn.Module):
    def __init__(self):
        super().__init__()
        self.l, self.c, self.s = nn.Parameter(torch.randn(4, 16)), nn.MultiheadAttention(16, 2, batch_first=True), nn.MultiheadAttention(16, 4, batch_first=True)

    def forward(self, x):
        y, w = self.c(self.l.expand(x.shape[0], -1, -1), x, x)
        return self.s(y, y, y, need_weights=False)[0], w


@entry("time", inputs=lambda r, b=3: (r.n(b, 24),), dyn=(B,), alt=dict(b=5), sizes=dict(b=3))
class NBeats(nn.Module):
    def __init__(self):
        super().__init__()
        self.f = nn.ModuleList(nn.Sequential(nn.Linear(24, 32), nn.ReLU(), nn.Linear(32, 6)) for _ in range(2))
        t = torch.linspace(-1, 1, 30)
        self.register_buffer("basis", torch.stack([t**i for i in range(3)] + [torch.cos(k * math.pi * t) for k in range(3)]))

    def forward(self, x):
        y = 0
        for f in self.f:
            z = f(x) @ self.basis
            x, y = x - z[:, :24], y + z[:, 24:]
        return y


@entry("time", **SEQ)
class Decomposition(nn.Module):
    """Series and trend by moving average with the ends repeated; reversible normalisation."""

    def __init__(self):
        super().__init__()
        self.l = nn.Conv1d(16, 16, 3, padding=1, padding_mode="circular")

    def forward(self, x):
        m, s = x.mean(1, keepdim=True).detach(), torch.sqrt(x.var(1, keepdim=True, unbiased=False) + 1e-5)
        x = (x - m) / s
        p = torch.cat([x[:, :1].repeat(1, 2, 1), x, x[:, -1:].repeat(1, 2, 1)], 1)
        trend = F.avg_pool1d(p.mT, 5, 1).mT
        return (self.l((x - trend).mT).mT + trend) * s + m


@entry("time", inputs=lambda r, b=2, t=7: (r.n(b, t, 6), torch.tensor([t] + [t - 2] * (b - 1))), dyn=(B, B), alt=dict(b=3), sizes=dict(b=2, t=7))
class Packed(nn.Module):
    def __init__(self):
        super().__init__()
        self.r = nn.ModuleList([nn.LSTM(6, 8, 2, batch_first=True, bidirectional=True, proj_size=5), nn.RNN(10, 8, nonlinearity="relu", batch_first=True)])
        self.n = nn.LSTMCell(8, 8)

    def forward(self, x, lengths):
        y, (h, c) = self.r[0](x)
        y, _ = self.r[1](y)
        s = (torch.zeros(x.shape[0], 8), torch.zeros(x.shape[0], 8))
        for t in range(3):
            s = self.n(y[:, t], s)
        last = y.gather(1, (lengths - 1)[:, None, None].expand(-1, 1, 8))[:, 0]
        return last, s[0], h, c


# ---- constructs ----
@entry("construct", inputs=lambda r, b=3, t=6: (r.n(b, 4, t, 8), r.n(b, 2, t, 8), r.n(b, 2, t, 8)), dyn=({0: "b", 2: "t"},) * 3, alt=dict(b=4, t=9), sizes=dict(b=3, t=6))
class FlexAttention(nn.Module):
    """What `docs/aten-coverage.md` puts in the place of flex_attention, which torch.export.save refuses: causal, with a bias by distance
    that a tensor holds, grouped heads."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.randn(4, 32))

    def forward(self, q, k, v):
        def score(s, b, h, i, j):
            return s + self.bias[h, (i - j).abs()]

        def mask(b, h, i, j):
            return i >= j

        return plain_flex_attention(q, k, v, score, mask, enable_gqa=True)


def plain_flex_attention(query, key, value, score_mod=None, mask_mod=None, scale=None, enable_gqa=False):
    if enable_gqa:
        n = query.shape[1] // key.shape[1]
        key, value = key.repeat_interleave(n, 1), value.repeat_interleave(n, 1)
    scores = query @ key.mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    at = [torch.arange(n, device=query.device).view([-1 if i == k else 1 for i in range(4)]) for k, n in enumerate(scores.shape)]
    if score_mod is not None:
        scores = score_mod(scores, *at)
    if mask_mod is not None:
        scores = torch.where(mask_mod(*at), scores, -torch.inf)
    return scores.softmax(-1).nan_to_num(0.0) @ value


@entry("construct", inputs=lambda r, b=3: (r.n(b, 8),), dyn=(B,), alt=dict(b=5), sizes=dict(b=3))
class Checkpointed(nn.Module):
    def __init__(self):
        super().__init__()
        self.l = nn.Linear(8, 8)

    def forward(self, x):
        from torch.utils.checkpoint import checkpoint

        with torch.enable_grad():
            y = checkpoint(lambda t: self.l(t).relu() + 1, x, use_reentrant=False)
        with torch.no_grad():
            z = y * 2
        with torch.autocast("cpu", torch.bfloat16):
            w = self.l(z)
        return z + w.float(), x + y


@entry("construct", inputs=lambda r, b=3: (r.n(b, 8),), dyn=(B,), alt=dict(b=5), sizes=dict(b=3))
class Mutated(nn.Module):
    """Views written in several ways."""

    def forward(self, x):
        y = x.clone()
        y[:, ::2] += 1
        y.view(-1)[3:6].mul_(2)
        a, b = y.chunk(2, 1)
        a.copy_(b.flip(1))
        y.t()[0].fill_(7)
        y[y > 2] = 0.5
        torch.relu_(b)
        z = y.unflatten(1, (2, 4)).transpose(0, 1)
        z[1] -= z[0].sum(-1, keepdim=True)
        return y, z


@entry("construct", inputs=lambda r, b=3: (dict(a=r.n(b, 4), more=[r.n(b, 2), (r.n(b, 1), None)]), 2.0), dyn=({"a": B, "more": [B, (B, None)]}, None), alt=dict(b=5), sizes=dict(b=3))
class Nested(nn.Module):
    def forward(self, tree, scale):
        a, (b, (c, _)) = tree["a"], tree["more"]
        return {"sum": (a * scale).sum(1, keepdim=True) + c, "list": [b, torch.cat([a, b, c], 1)], "n": a.shape[0]}


@entry("construct", inputs=lambda r, b=4: (r.n(b, 6), r.n(b, 6) > 0), dyn=(B, B), alt=dict(b=7), sizes=dict(b=4))
class DataSizes(nn.Module):
    """Sizes that data decide, used in arithmetic and further operators."""

    def forward(self, x, m):
        y = x[m]
        n = m.sum().item()
        torch._check(n >= 1)
        torch._check(n <= x.numel())
        z = torch.arange(n) * 0.5
        i = m.nonzero()
        u, inv, c = torch.unique(i[:, 1], return_inverse=True, return_counts=True)
        return y.sort().values, y.mean(), z, i.float().mean(0), u, c, x.new_zeros(n, 2) + z[:, None], torch.split(x, [1, x.shape[0] - 1])[1]


@entry("construct", inputs=lambda r, b=4: (r.n(b, 6),), dyn=(B,), alt=dict(b=7), sizes=dict(b=4))
class Conditions(nn.Module):
    def forward(self, x):
        y = torch.cond(x.sum() > 0, lambda t: t.relu() + 1, lambda t: t.abs() * 2, (x,))
        z = torch.cond(x.shape[0] > 5, lambda t: t * 3, lambda t: t - 3, (x,))
        f = torch.vmap(lambda t: (t * t).sum() + t.cumsum(0))
        return y, z, f(x), torch.func.vmap(torch.outer)(x, y)


@entry("construct", inputs=lambda r, b=4: (r.n(b, 16),), sizes=dict(b=4))
class Histograms(nn.Module):
    def forward(self, x):
        h, e = torch.histogram(x, bins=5, range=(-2.0, 2.0), density=True)
        hd, (ea, eb) = torch.histogramdd(x.view(-1, 2), bins=[3, 4])
        return torch.histc(x, 6), h, e, hd, ea, eb, torch.bucketize(x, e)


@entry("construct", inputs=lambda r, b=4: (r.n(b, 6), r.i(0, 9, b, 6)), dyn=(B, B), alt=dict(b=7), sizes=dict(b=4))
class OtherNames(nn.Module):
    """Operators under their second names, and rare ones."""

    def forward(self, x, i):
        f = [torch.arcsinh(x), torch.arctanh(x.sigmoid()), torch.arccosh(x.abs() + 1), torch.subtract(x, 2), torch.divide(x, 0.7, rounding_mode="floor")]
        g = [torch.less(x, 0.1), torch.less_equal(i, i.flip(0)), torch.greater(x, 0), torch.greater_equal(x, x.flip(0)), torch.not_equal(i, i.flip(0)), torch.isin(i, 3)]
        h = [torch.remainder(7, i + 1), torch.bitwise_and(6, i), torch.clip(x, max=x.flip(0)), torch.special.logsumexp(x, 1), torch.linalg.matmul(x, x.mT), torch.row_stack([x, x])]
        w = [torch.hamming_window(7), torch.blackman_window(8, periodic=False), torch.bartlett_window(5), torch.kaiser_window(9, True, beta=6.0), torch.hann_window(1)]
        q = [torch.fft.fftfreq(6), torch.fft.rfftfreq(7, 0.5), nn.utils.rnn.pad_sequence([x[0], x[1, :4]], batch_first=True, padding_value=1.5), torch.special.round(x, decimals=1)]
        n = [torch.norm(x, dim=1, dtype=torch.float64), F.logsigmoid(x), torch.tensordot(x, x, dims=([1], [1]))]
        return f, g, h, w, q, n


# ---- libraries ----
def timm_model(name, size=None):
    import timm

    f = lambda: timm.create_model(name, pretrained=False, **({} if size is None else {"img_size": size}))
    cfg = timm.get_pretrained_cfg(name).to_dict()
    s = size or cfg["input_size"][-1]
    ENTRIES[f"timm/{name}"] = Entry(f"timm/{name}", "timm", f, lambda r, b=2: (r.n(b, 3, s, s),), dict(b=2), dict(b=3), (B,))


for _n in (
    "convnextv2_atto edgenext_xx_small efficientformerv2_s0 xcit_nano_12_p16_224 poolformerv2_s12 tinynet_e crossvit_tiny_240 visformer_tiny "
    "sequencer2d_s pit_ti_224 gcvit_xxtiny mobilenetv4_conv_small ese_vovnet19b_dw selecsls42b hgnetv2_b0 tiny_vit_5m_224 tnt_s_patch16_224 "
    "mambaout_femto bat_resnext26ts lambda_resnet26t dla34 ghostnetv2_100 caformer_s18 coatnet_nano_rw_224 regnetz_b16 volo_d1_224 res2net50_26w_4s"
).split():
    try:
        timm_model(_n)
    except Exception:
        print(f"timm has no {_n}")

TINY = dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, max_position_embeddings=64, num_key_value_heads=2, head_dim=8)


def hf(kind, cls, inputs=None, dyn=None, sizes=None, alt=None, **cfg):
    def build():
        import transformers
        from transformers.models.auto.configuration_auto import CONFIG_MAPPING

        c = CONFIG_MAPPING[kind](**cfg)
        c.use_cache = False
        return getattr(transformers, cls)(c)

    text = lambda r, b=2, s=8: ((), dict(input_ids=r.i(3, 99, b, s), attention_mask=torch.ones(b, s, dtype=torch.long)))
    bs = {0: "b", 1: "s"}
    name = f"hf/{kind}-{cls}"
    ENTRIES[name] = Entry(name, "hf", build, inputs or text, sizes or dict(b=2, s=8), alt or dict(b=3, s=11), dyn or dict(input_ids=bs, attention_mask=bs))


PIX = dict(inputs=lambda r, b=2: ((), dict(pixel_values=r.n(b, 3, 32, 32))), dyn=dict(pixel_values=B), sizes=dict(b=2), alt=dict(b=3))
WAVE = dict(inputs=lambda r, b=2, n=2000: ((), dict(input_values=r.n(b, n))), dyn=dict(input_values={0: "b", 1: "n"}), sizes=dict(b=2, n=2000), alt=dict(b=3, n=2600))
S2S = dict(
    inputs=lambda r, b=2, s=8, d=5: ((), dict(input_ids=r.i(3, 99, b, s), attention_mask=torch.ones(b, s, dtype=torch.long), decoder_input_ids=r.i(3, 99, b, d))),
    dyn=dict(input_ids=BT, attention_mask=BT, decoder_input_ids={0: "b", 1: "d"}), sizes=dict(b=2, s=8, d=5), alt=dict(b=3, s=11, d=7))
GPT = dict(vocab_size=99, n_embd=32, n_layer=2, n_head=4, n_positions=64, n_ctx=64)
PRE = dict(vocab_size=99, d_model=32, encoder_layers=2, decoder_layers=2, encoder_attention_heads=4, decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, max_position_embeddings=64)
for _k, _c in (("nemotron", "NemotronForCausalLM"), ("olmo", "OlmoForCausalLM"), ("cohere2", "Cohere2ForCausalLM"), ("exaone4", "Exaone4ForCausalLM"), ("helium", "HeliumForCausalLM"), ("glm", "GlmForCausalLM"), ("persimmon", "PersimmonForCausalLM"), ("seed_oss", "SeedOssForCausalLM"), ("ernie4_5", "Ernie4_5ForCausalLM"), ("gemma3n_text", "Gemma3nForCausalLM"), ("biogpt", "BioGptForCausalLM"), ("bert-generation", "BertGenerationDecoder")):
    hf(_k, _c, **{**TINY, **(dict(pad_token_id=0) if _k in ("glm",) else {})})
hf("codegen", "CodeGenForCausalLM", **{**GPT, "rotary_dim": 4})
hf("ctrl", "CTRLModel", **{**GPT, "dff": 37})
hf("xglm", "XGLMForCausalLM", vocab_size=99, d_model=32, ffn_dim=37, num_layers=2, attention_heads=4, max_position_embeddings=64)
for _k, _c in (("phimoe", "PhimoeForCausalLM"), ("granitemoe", "GraniteMoeForCausalLM"), ("ernie4_5_moe", "Ernie4_5_MoeForCausalLM"), ("glm4_moe", "Glm4MoeForCausalLM")):
    hf(_k, _c, **{**TINY, "num_local_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "moe_num_experts": 4, "moe_k": 2, "n_group": 1, "topk_group": 1})
hf("jamba", "JambaForCausalLM", **{**TINY, "num_experts": 4, "attn_layer_period": 2, "attn_layer_offset": 1, "expert_layer_period": 2, "use_mamba_kernels": False, "mamba_d_state": 4, "mamba_dt_rank": 4})
hf("lfm2", "Lfm2ForCausalLM", **{**TINY, "layer_types": ["conv", "full_attention"]})
hf("bamba", "BambaForCausalLM", **{**TINY, "attn_layer_indices": [1], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 4, "mamba_expand": 2})
hf("tapas", "TapasModel", inputs=lambda r, b=2, s=8: ((), dict(input_ids=r.i(3, 99, b, s), token_type_ids=r.i(0, 2, b, s, 7))), dyn=dict(input_ids=BT, token_type_ids=BT), **TINY)
hf("mra", "MraModel", **{**TINY, "block_per_row": 2})
hf("splinter", "SplinterModel", **TINY)
hf("umt5", "UMT5ForConditionalGeneration", **S2S, vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4)
hf("longt5", "LongT5Model", **S2S, vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, local_radius=5)
hf("plbart", "PLBartModel", **S2S, **PRE)
hf("prophetnet", "ProphetNetModel", **S2S, vocab_size=99, hidden_size=32, num_encoder_layers=2, num_decoder_layers=2, num_encoder_attention_heads=4, num_decoder_attention_heads=4, encoder_ffn_dim=37, decoder_ffn_dim=37, max_position_embeddings=64)
hf("fsmt", "FSMTModel", **S2S, src_vocab_size=99, tgt_vocab_size=99, **{k: v for k, v in PRE.items() if k != "vocab_size"})
hf("moonshine", "MoonshineForConditionalGeneration", inputs=lambda r, b=2, n=2000, d=5: ((), dict(input_values=r.n(b, n), decoder_input_ids=r.i(0, 99, b, d))), dyn=dict(input_values={0: "b", 1: "n"}, decoder_input_ids={0: "b", 1: "d"}), sizes=dict(b=2, n=2000, d=5), alt=dict(b=3, n=2600, d=7), vocab_size=99, hidden_size=32, intermediate_size=37, encoder_num_hidden_layers=2, decoder_num_hidden_layers=2, encoder_num_attention_heads=4, decoder_num_attention_heads=4)
hf("speech_to_text", "Speech2TextModel", inputs=lambda r, b=2, t=24, d=5: ((), dict(input_features=r.n(b, t, 20), decoder_input_ids=r.i(3, 99, b, d))), dyn=dict(input_features=BT, decoder_input_ids={0: "b", 1: "d"}), sizes=dict(b=2, t=24, d=5), alt=dict(b=3, t=32, d=7), input_feat_per_channel=20, conv_channels=16, **PRE)
for _k, _c in (("unispeech", "UniSpeechModel"), ("unispeech-sat", "UniSpeechSatModel")):
    hf(_k, _c, **WAVE, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, conv_dim=(16, 16), conv_stride=(5, 4), conv_kernel=(10, 8), num_conv_pos_embeddings=8, num_conv_pos_embedding_groups=2)
for _k, _c, _kw in (
    ("levit", "LevitModel", dict(image_size=64, hidden_sizes=[16, 24, 32], num_attention_heads=[2, 3, 4], depths=[1, 1, 1], key_dim=[8, 8, 8])),
    ("cvt", "CvtModel", dict(embed_dim=[16, 24, 32], num_heads=[1, 2, 2], depth=[1, 1, 2])),
    ("efficientnet", "EfficientNetModel", dict(width_coefficient=0.35, depth_coefficient=0.35, hidden_dim=64)),
    ("mobilenet_v1", "MobileNetV1Model", dict(depth_multiplier=0.25)), ("bit", "BitModel", dict(hidden_sizes=[16, 24, 32, 40], depths=[1, 1, 1, 1], embedding_size=16)),
    ("swin2sr", "Swin2SRForImageSuperResolution", dict(image_size=32, embed_dim=24, depths=[1, 1], num_heads=[2, 2], window_size=8, upscale=2)),
    ("glpn", "GLPNForDepthEstimation", dict(hidden_sizes=[8, 16, 24, 32], num_attention_heads=[1, 1, 2, 2], depths=[1, 1, 1, 1], decoder_hidden_size=16)),
    ("superpoint", "SuperPointForKeypointDetection", dict(encoder_hidden_sizes=[16, 16, 16, 16], decoder_hidden_size=16, descriptor_decoder_dim=16)),
    ("vit_msn", "ViTMSNModel", dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37)),
    ("ijepa", "IJepaModel", dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37)),
):
    hf(_k, _c, **{**PIX, **({"inputs": lambda r, b=2: ((), dict(pixel_values=r.n(b, 3, 64, 64)))} if _k == "levit" else {})}, **_kw)
hf("patchtsmixer", "PatchTSMixerModel", inputs=lambda r, b=2: ((), dict(past_values=r.n(b, 32, 3))), dyn=dict(past_values=B), sizes=dict(b=2), alt=dict(b=3), context_length=32, patch_length=8, patch_stride=8, num_input_channels=3, d_model=16, num_layers=2)
hf("decision_transformer", "DecisionTransformerModel", inputs=lambda r, b=2, s=5: ((), dict(states=r.n(b, s, 6), actions=r.n(b, s, 3), rewards=r.n(b, s, 1), returns_to_go=r.n(b, s, 1), timesteps=torch.arange(s).expand(b, s), attention_mask=torch.ones(b, s, dtype=torch.long))), dyn={k: BT for k in ("states", "actions", "rewards", "returns_to_go", "timesteps", "attention_mask")}, sizes=dict(b=2, s=5), alt=dict(b=3, s=7), state_dim=6, act_dim=3, hidden_size=32, n_layer=2, n_head=4, n_positions=64)
MOE = {**TINY, "intermediate_size": 40, "pad_token_id": 0, "num_local_experts": 4, "num_experts": 4, "num_experts_per_tok": 2, "moe_intermediate_size": 16, "n_routed_experts": 4, "n_shared_experts": 1, "n_group": 1, "topk_group": 1, "first_k_dense_replace": 1}
LATENT = {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 8, "qk_nope_head_dim": 8, "v_head_dim": 8, "num_key_value_heads": 4}
for _k, _c, _x in (
    ("deepseek_v3", "DeepseekV3ForCausalLM", {**MOE, **LATENT}), ("deepseek_v2", "DeepseekV2ForCausalLM", {**MOE, **LATENT, "head_dim": 8}),
    ("olmoe", "OlmoeForCausalLM", MOE), ("qwen2_moe", "Qwen2MoeForCausalLM", {**MOE, "shared_expert_intermediate_size": 16}),
    ("dots1", "Dots1ForCausalLM", MOE), ("minimax", "MiniMaxForCausalLM", {**MOE, "block_size": 4}), ("jetmoe", "JetMoeForCausalLM", {**MOE, "kv_channels": 8, "num_key_value_heads": 2}),
    ("hunyuan_v1_dense", "HunYuanDenseV1ForCausalLM", TINY), ("arcee", "ArceeForCausalLM", TINY), ("apertus", "ApertusForCausalLM", TINY), ("bitnet", "BitNetForCausalLM", TINY),
    ("diffllama", "DiffLlamaForCausalLM", TINY), ("doge", "DogeForCausalLM", TINY), ("olmo3", "Olmo3ForCausalLM", TINY), ("vaultgemma", "VaultGemmaForCausalLM", TINY), ("glm4", "Glm4ForCausalLM", {**TINY, "pad_token_id": 0}),
    ("phi3", "Phi3ForCausalLM", {**TINY, "pad_token_id": 0}), ("gemma2", "Gemma2ForCausalLM", TINY), ("qwen3_next", "Qwen3NextForCausalLM", {**MOE, "linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8, "shared_expert_intermediate_size": 16, "layer_types": ["linear_attention", "full_attention"]}),
    ("granitemoehybrid", "GraniteMoeHybridForCausalLM", {**MOE, "layer_types": ["mamba", "attention"], "mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 4, "shared_intermediate_size": 16}),
    ("mamba2", "Mamba2ForCausalLM", dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_heads=8, head_dim=8, state_size=8, n_groups=1, chunk_size=4)),
    ("falcon_mamba", "FalconMambaForCausalLM", dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, state_size=4, time_step_rank=4)),
    ("falcon_h1", "FalconH1ForCausalLM", {**TINY, "mamba_d_ssm": 32, "mamba_n_heads": 4, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_chunk_size": 4}),
    ("xlstm", "xLSTMForCausalLM", dict(vocab_size=99, hidden_size=32, num_hidden_layers=2, num_heads=2, chunkwise_kernel="chunkwise--native_autograd", sequence_kernel="native_sequence__native", step_kernel="native", chunk_size=4)),
    ("zamba2", "Zamba2ForCausalLM", {**TINY, "mamba_d_state": 8, "n_mamba_heads": 8, "mamba_headdim": 8, "chunk_size": 4, "layers_block_type": ["mamba", "hybrid"]}),
    ("gpt_bigcode", "GPTBigCodeForCausalLM", GPT), ("openai-gpt", "OpenAIGPTModel", GPT), ("ernie", "ErnieModel", TINY),
    ("longformer", "LongformerModel", {**TINY, "attention_window": [4, 4]}), ("luke", "LukeModel", {**TINY, "entity_vocab_size": 20}), ("data2vec-text", "Data2VecTextModel", TINY), ("xmod", "XmodModel", {**TINY, "default_language": "en_XX", "languages": ["en_XX"]}),
    ("camembert", "CamembertModel", TINY), ("roc_bert", "RoCBertModel", {**TINY, "enable_pronunciation": False, "enable_shape": False}), ("eurobert", "EuroBertModel", {**TINY, "pad_token_id": 0}), ("ministral", "MinistralForCausalLM", TINY), ("flex_olmo", "FlexOlmoForCausalLM", MOE), ("nomic_bert", "NomicBertModel", TINY),
):
    hf(_k, _c, **_x)
for _k, _c, _x in (("mbart", "MBartModel", PRE), ("pegasus", "PegasusModel", PRE), ("blenderbot", "BlenderbotModel", PRE), ("m2m_100", "M2M100Model", PRE), ("pegasus_x", "PegasusXModel", {**PRE, "block_size": 4, "num_global_tokens": 2}), ("bigbird_pegasus", "BigBirdPegasusModel", {**PRE, "attention_type": "original_full"}), ("led", "LEDModel", {**PRE, "attention_window": 4, "max_encoder_position_embeddings": 64, "max_decoder_position_embeddings": 64}), ("mvp", "MvpModel", PRE), ("switch_transformers", "SwitchTransformersModel", dict(vocab_size=99, d_model=32, d_kv=8, d_ff=37, num_layers=2, num_heads=4, num_experts=4, num_sparse_encoder_layers=1, num_sparse_decoder_layers=1)),):
    hf(_k, _c, **S2S, **_x)
V32 = dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37)
for _k, _c, _kw in (
    ("hiera", "HieraModel", dict(image_size=[32, 32], patch_size=[3, 3], patch_stride=[4, 4], patch_padding=[1, 1], embed_dim=16, depths=[1, 1], num_heads=[1, 2], query_stride=[2, 2], masked_unit_size=[4, 4], num_query_pool=1)),
    ("pvt", "PvtModel", dict(image_size=32, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], num_attention_heads=[1, 2, 2, 2])),
    ("textnet", "TextNetModel", {}), ("vitdet", "VitDetModel", {**{k: v for k, v in V32.items() if k != "intermediate_size"}, "window_size": 2, "window_block_indices": [0], "residual_block_indices": [1], "use_relative_position_embeddings": True}),
    ("vitpose_backbone", "VitPoseBackbone", {**V32, "image_size": [32, 32], "patch_size": [8, 8]}), ("swiftformer", "SwiftFormerModel", dict(embed_dims=[8, 16, 24, 32], depths=[1, 1, 1, 1])),
    ("regnet", "RegNetModel", dict(embedding_size=8, hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], groups_width=8)), ("mobilevitv2", "MobileViTV2Model", dict(image_size=64)), ("mlcd_vision_model", "MLCDVisionModel", V32), ("aimv2_vision_model", "Aimv2VisionModel", V32),
    ("upernet", "UperNetForSemanticSegmentation", dict(hidden_size=16, pool_scales=[1, 2], auxiliary_in_channels=16, auxiliary_channels=8, backbone_config=dict(model_type="convnext", hidden_sizes=[8, 16, 16, 24], depths=[1, 1, 1, 1], out_features=["stage1", "stage2", "stage3", "stage4"]))),
    ("rt_detr_v2", "RTDetrV2ForObjectDetection", dict(backbone_config=dict(model_type="rt_detr_resnet", embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"], layer_type="basic"), use_timm_backbone=False, encoder_hidden_dim=32, encoder_in_channels=[16, 16, 32], encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2, d_model=32, num_queries=6, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, decoder_n_points=2, decoder_layers=2, decoder_attention_heads=2, num_denoising=0, num_labels=5)),
    ("d_fine", "DFineForObjectDetection", dict(backbone_config=dict(model_type="rt_detr_resnet", embedding_size=8, hidden_sizes=[8, 16, 16, 32], depths=[1, 1, 1, 1], out_features=["stage2", "stage3", "stage4"], layer_type="basic"), use_timm_backbone=False, encoder_hidden_dim=32, encoder_in_channels=[16, 16, 32], encoder_layers=1, encoder_ffn_dim=32, encoder_attention_heads=2, d_model=32, num_queries=6, decoder_in_channels=[32, 32, 32], decoder_ffn_dim=32, decoder_n_points=[2, 2, 2], decoder_layers=2, decoder_attention_heads=2, num_denoising=0, num_labels=5)),
    ("vitmatte", "VitMatteForImageMatting", dict(hidden_size=32, convstream_hidden_sizes=[8, 8, 8], fusion_hidden_sizes=[16, 8, 8, 8], backbone_config=dict(model_type="vitdet", num_channels=4, image_size=32, patch_size=16, hidden_size=32, num_hidden_layers=2, num_attention_heads=2, out_features=["stage2"]))),
):
    hf(_k, _c, **{**PIX, **({"inputs": lambda r, b=2: ((), dict(pixel_values=r.n(b, 3, 64, 64)))} if _k in ("rt_detr_v2", "d_fine", "textnet", "maskformer", "upernet", "swiftformer", "mobilevitv2") else {"inputs": lambda r, b=2: ((), dict(pixel_values=r.n(b, 4, 32, 32)))} if _k == "vitmatte" else {})}, **_kw)
hf("wav2vec2-bert", "Wav2Vec2BertModel", inputs=lambda r, b=2, t=20: ((), dict(input_features=r.n(b, t, 16))), dyn=dict(input_features=BT), sizes=dict(b=2, t=20), alt=dict(b=3, t=27), hidden_size=32, num_hidden_layers=2, num_attention_heads=4, intermediate_size=37, feature_projection_input_dim=16, output_hidden_size=32, conv_depthwise_kernel_size=5)
hf("fastspeech2_conformer", "FastSpeech2ConformerModel", inputs=lambda r, b=1, t=6: ((), dict(input_ids=r.i(1, 20, b, t))), dyn=dict(input_ids={1: "t"}), sizes=dict(b=1, t=6), alt=dict(b=1, t=9), hidden_size=16, vocab_size=20, num_mel_bins=8, encoder_layers=1, decoder_layers=1, encoder_num_attention_heads=2, decoder_num_attention_heads=2, encoder_linear_units=16, decoder_linear_units=16, duration_predictor_channels=8, energy_predictor_channels=8, pitch_predictor_channels=8, speech_decoder_postnet_units=8, speech_decoder_postnet_layers=2, duration_predictor_layers=1, energy_predictor_layers=1, pitch_predictor_layers=1)
hf("dac", "DacModel", inputs=lambda r, b=2, n=256: ((), dict(input_values=r.n(b, 1, n))), dyn=dict(input_values={0: "b", 2: "n"}), sizes=dict(b=2, n=256), alt=dict(b=3, n=384), encoder_hidden_size=8, downsampling_ratios=[2, 4], decoder_hidden_size=16, upsampling_ratios=[4, 2], n_codebooks=2, codebook_size=16, codebook_dim=4)
hf("mimi", "MimiModel", inputs=lambda r, b=2, n=512: ((), dict(input_values=r.n(b, 1, n))), dyn=dict(input_values={0: "b", 2: "n"}), sizes=dict(b=2, n=512), alt=dict(b=3, n=640), hidden_size=16, num_filters=4, upsampling_ratios=[4, 2], codebook_size=16, codebook_dim=8, vector_quantization_hidden_dimension=8, num_hidden_layers=1, num_attention_heads=2, num_key_value_heads=2, head_dim=8, intermediate_size=16, num_quantizers=4, upsample_groups=16, frame_rate=50.0, sampling_rate=800)
hf("timesfm", "TimesFmModel", inputs=lambda r, b=2: ((), dict(past_values=r.n(b, 32), past_values_padding=torch.zeros(b, 32), freq=torch.zeros(b, 1, dtype=torch.long))), dyn=dict(past_values=B, past_values_padding=B, freq=B), sizes=dict(b=2), alt=dict(b=3), patch_length=8, context_length=32, horizon_length=8, hidden_size=16, num_hidden_layers=2, num_attention_heads=2, head_dim=8, intermediate_size=16)
hf("layoutlmv3", "LayoutLMv3Model", inputs=lambda r, b=2, s=8: ((), dict(input_ids=r.i(3, 99, b, s), bbox=r.i(0, 20, b, s, 4).sort(-1).values, pixel_values=r.n(b, 3, 32, 32))), dyn=dict(input_ids=BT, bbox=BT, pixel_values=B), sizes=dict(b=2, s=8), alt=dict(b=3, s=11), **{**TINY, "input_size": 32, "patch_size": 8, "coordinate_size": 5, "shape_size": 6, "rel_pos_bins": 8, "rel_2d_pos_bins": 8})
hf("lilt", "LiltModel", inputs=lambda r, b=2, s=8: ((), dict(input_ids=r.i(3, 99, b, s), bbox=r.i(0, 20, b, s, 4).sort(-1).values)), dyn=dict(input_ids=BT, bbox=BT), sizes=dict(b=2, s=8), alt=dict(b=3, s=11), **{**TINY, "hidden_size": 48, "channel_shrink_ratio": 2})
hf("lxmert", "LxmertModel", inputs=lambda r, b=2, s=8, v=5: ((), dict(input_ids=r.i(3, 99, b, s), visual_feats=r.n(b, v, 12), visual_pos=r.u(b, v, 4))), dyn=dict(input_ids=BT, visual_feats={0: "b", 1: "v"}, visual_pos={0: "b", 1: "v"}), sizes=dict(b=2, s=8, v=5), alt=dict(b=3, s=11, v=7), vocab_size=99, hidden_size=32, num_attention_heads=4, intermediate_size=37, l_layers=1, x_layers=1, r_layers=1, visual_feat_dim=12, max_position_embeddings=64)
hf("visual_bert", "VisualBertModel", inputs=lambda r, b=2, s=8, v=5: ((), dict(input_ids=r.i(3, 99, b, s), visual_embeds=r.n(b, v, 12))), dyn=dict(input_ids=BT, visual_embeds={0: "b", 1: "v"}), sizes=dict(b=2, s=8, v=5), alt=dict(b=3, s=11, v=7), **{**TINY, "visual_embedding_dim": 12})
hf("perceiver", "PerceiverModel", inputs=lambda r, b=2, s=9: ((), dict(inputs=r.n(b, s, 16))), dyn=dict(inputs=BT), sizes=dict(b=2, s=9), alt=dict(b=3, s=12), d_model=16, d_latents=16, num_latents=5, num_blocks=1, num_self_attends_per_block=2, num_self_attention_heads=2, num_cross_attention_heads=2)
hf("imagegpt", "ImageGPTModel", **{**GPT, "vocab_size": 99})
hf("git", "GitForCausalLM", inputs=lambda r, b=2, s=6: ((), dict(input_ids=r.i(3, 99, b, s), attention_mask=torch.ones(b, s, dtype=torch.long), pixel_values=r.n(b, 3, 32, 32))), dyn=dict(input_ids=BT, attention_mask=BT, pixel_values=B), sizes=dict(b=2, s=6), alt=dict(b=3, s=8), vision_config=dict(image_size=32, patch_size=8, hidden_size=32, num_hidden_layers=1, num_attention_heads=4, intermediate_size=37), **TINY)
hf("vivit", "VivitModel", inputs=lambda r, b=2: ((), dict(pixel_values=r.n(b, 4, 3, 32, 32))), dyn=dict(pixel_values=B), sizes=dict(b=2), alt=dict(b=3), num_frames=4, tubelet_size=[2, 8, 8], **{k: v for k, v in V32.items() if k != "patch_size"})
hf("vjepa2", "VJEPA2Model", inputs=lambda r, b=2: ((), dict(pixel_values_videos=r.n(b, 4, 3, 32, 32))), dyn=dict(pixel_values_videos=B), sizes=dict(b=2), alt=dict(b=3), patch_size=8, crop_size=32, frames_per_clip=4, tubelet_size=2, hidden_size=24, num_attention_heads=2, num_hidden_layers=2, pred_hidden_size=24, pred_num_attention_heads=2, pred_num_hidden_layers=1, pred_num_mask_tokens=2)
# Masked anchors have equal scores: which of them come first is open.
ENTRIES["hf/rt_detr_v2-RTDetrV2ForObjectDetection"].compare = False
hf("clap_audio_model", "ClapAudioModel", inputs=lambda r, b=2: ((), dict(input_features=r.n(b, 1, 32, 16))), dyn=dict(input_features=B), sizes=dict(b=2), alt=dict(b=3), spec_size=32, num_mel_bins=16, patch_size=4, patch_stride=[4, 4], patch_embeds_hidden_size=8, hidden_size=32, depths=[1, 1], num_attention_heads=[2, 2], window_size=4, num_hidden_layers=2)
