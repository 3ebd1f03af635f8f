"""Models of constructs that neither the zoo nor `more_models.py` holds, in the zoo's format: for `pt2_zoo.py`, static and dynamic.

    python pt2_zoo.py --zoo odd_models.py --oxrt target/fast/oxrt --cases DIR --out RESULTS.tsv [PREFIX…]

Small, with random weights, seeded: writes through views of views, sizes that data decides, branches in branches, loops of torch and
of `torch.func`, results that are dicts and dataclasses, arguments that are numbers, tensors of rank 0 and without elements.
"""
import collections
import dataclasses
import math
import typing

import torch
import torch.nn as nn
import torch.nn.functional as F
from more_models import BHW, BT, IMG, RNG, SEQ, TOKENS, B, Entry, clone_tree, do_export, eager, flat_tensors, registrar  # noqa: F401  what a zoo offers
from torch._higher_order_ops.while_loop import while_loop
from torch.utils import _pytree as pytree

ENTRIES = {}
entry = registrar(ENTRIES)

MAT = dict(inputs=lambda r, b=4, n=6: (r.n(b, n),), dyn=({0: "b", 1: "n"},), sizes=dict(b=4, n=6), alt=dict(b=7, n=9))
ROWS = dict(inputs=lambda r, b=4: (r.n(b, 6),), dyn=(B,), sizes=dict(b=4), alt=dict(b=7))


# ---- writes ----
@entry("write", **MAT)
class ViewsOfViews(nn.Module):
    """Every write goes through a chain of views, and is read through another."""

    def forward(self, x):
        y = x.clone()
        t = y.t()
        t[1:3].mul_(2.0)
        t.unsqueeze(0)[0, -1].fill_(7.0)
        y.diagonal().add_(1.0)
        y[:, ::2].neg_()
        y.view(-1)[1::3].clamp_(min=-0.5)
        a, b = y.split([2, y.shape[1] - 2], 1)
        a.copy_(b[:, :2])
        b.narrow(1, 0, 1).zero_()
        y.select(0, 0).sub_(y.select(0, 1), alpha=0.5)
        return y, t.sum(1), a * 2


@entry("write", **MAT)
class TensorIndices(nn.Module):
    """Writes at places that tensors name."""

    def forward(self, x):
        y = x.clone()
        i = torch.tensor([0, 2, 1])
        y[i] = y[i.flip(0)] + 1
        y[i, i] = 0.5
        y[:, i] *= 2
        y[i[:, None], i] += torch.arange(3.0)
        y[x > 1.0] = 0
        y[(x < -1.0).any(1)] = -3.0
        y[-1, (x[0] > 0)] = 9.0
        z = torch.zeros(3, y.shape[0], y.shape[1])
        z[i, :, i] = y[:, :3].t()
        z[..., 0] = -1
        z[1, None] = y
        return y, z


@entry("write", **MAT)
class IndexWrites(nn.Module):
    def forward(self, x):
        i = torch.tensor([1, 0, 1])
        y = x.clone()
        y.index_add_(0, i, torch.ones(3, y.shape[1]), alpha=2)
        y.index_fill_(1, torch.tensor([0, -1]), 0.25)
        y.index_copy_(0, torch.tensor([3, 1]), x[:2] * 2)
        y.scatter_(1, torch.zeros(y.shape[0], 1, dtype=torch.long), 5.0)
        y.scatter_add_(1, i.expand(y.shape[0], 3), x[:, :3])
        y.scatter_reduce_(1, i.expand(y.shape[0], 3), x[:, :3], "amax")
        y.masked_fill_(x.abs() < 0.1, -4)
        y.masked_scatter_(x > 1.5, x.flatten())
        y.put_(torch.tensor([0, 5, -1]), torch.tensor([1.0, 2.0, 3.0]), accumulate=True)
        y.fill_diagonal_(0.125)
        y[1:].bernoulli_(0.0)
        return y, x.index_put((torch.arange(3), i), torch.ones(()), accumulate=True)


@entry("write", inputs=lambda r, b=4, n=6: (r.n(b, n), r.i(0, 4, b)), dyn=({0: "b", 1: "n"}, B), sizes=dict(b=4, n=6), alt=dict(b=7, n=9))
class RowByTensor(nn.Module):
    """Slices and rows at positions that are values of tensors."""

    def forward(self, x, at):
        y = x.clone()
        k = at[0].item()
        torch._check(k >= 0)
        torch._check(k < y.shape[0])
        y[k] = 1.0
        y[torch.arange(y.shape[0]), at] += 10.0
        return y, x.gather(1, at[:, None]), x.index_select(1, at), torch.take_along_dim(x, at[:, None], 1)


@entry("write", **SEQ)
class SlidingState(nn.Module):
    """A ring of states that a Python loop of fixed length fills."""

    def __init__(self):
        super().__init__()
        self.cell = nn.Linear(32, 16)

    def forward(self, x):
        ring = x.new_zeros(4, x.shape[0], 16)
        for k in range(6):
            ring[k % 4] = torch.tanh(self.cell(torch.cat([ring[(k - 1) % 4], x[:, k]], -1)))
        return ring.roll(1, 0), ring.transpose(0, 1).flatten(1)


@entry("write", **MAT)
class InPlaceForms(nn.Module):
    """Operators whose in-place form is named otherwise than the one that makes a new tensor."""

    def forward(self, x):
        y = x.clone().abs_().add_(1)
        y.floor_divide_(0.3).floor_divide_(x.abs() + 1).pow_(x.abs()).pow_(0.5)
        y.ldexp_(torch.tensor(1))
        y.transpose_(0, 1)
        y.t_().unsqueeze_(0).squeeze_(0).swapaxes_(0, 1).swapaxes_(0, 1)
        y.logical_not_()
        y.addcmul_(x, x, value=0.5).addcdiv_(x, x.abs() + 1).lerp_(x, 0.5).clamp_(-3, 3).round_(decimals=1)
        y.cumsum_(1).renorm_(2, 0, 2.0).index_reduce_(0, torch.tensor([1, 0]), x[:2], "amax").masked_fill_(y > 2, 1).tril_(1).triu_(-1)
        y.copysign_(x).fmod_(0.7).remainder_(0.3).atan2_(x).nan_to_num_().xlogy_(y.abs() + 1).hypot_(x).sigmoid_().logit_(1e-3).erf_().exp2_().rsqrt_().sub_(x, alpha=2).div_(3, rounding_mode="floor").square_()
        z = (x * 4).int()
        z.bitwise_left_shift_(1).bitwise_and_(7).bitwise_or_(1).bitwise_xor_(2).bitwise_right_shift_(1).bitwise_not_().gcd_(torch.tensor(6, dtype=torch.int32))
        z.remainder_(3).floor_divide_(2)
        y.random_(1)
        return y, z, x.clone().exponential_().new_zeros(1), x.gt(0).logical_xor_(x > 1)


@entry("write", **ROWS)
class ListsOfTensors(nn.Module):
    """`torch._foreach_*`: lists of tensors at a time, in place and not, two of them in the same memory."""

    def forward(self, x):
        y = x.clone()
        a, b = list(y[:2].unbind(0)), [x[2], x[3:].sum(0)]
        c = torch._foreach_add(torch._foreach_mul(a, [2.0, -3.0]), b, alpha=0.5)
        torch._foreach_add_([y, y[:, 1:]], [x, x[:, 1:]])
        torch._foreach_clamp_min_(c, -1.0)
        torch._foreach_lerp_(c, b, 0.25)
        torch._foreach_addcdiv_(c, b, torch._foreach_exp(b), value=2)
        d = torch._foreach_maximum(torch._foreach_div(b, x[0].max()), [0.0, -0.5])
        return y, *c, *d, *torch._foreach_norm(b, 1), *torch._foreach_pow(2.0, b), *torch._foreach_addcmul(b, c, c, [1.0, 2.0])


@entry("write", **ROWS)
class OutArguments(nn.Module):
    def forward(self, x):
        a, b = torch.empty_like(x), torch.empty(x.shape[0])
        torch.exp(x, out=a)
        torch.sum(a, 1, out=b)
        torch.add(a, b[:, None], out=a)
        c = x.new_empty(2, *x.shape)
        torch.stack([x, a], out=c)
        return a, b, c


@entry("write", **ROWS)
class SetData(nn.Module):
    """A buffer that is replaced, one that is written, one that is read after."""

    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros((), dtype=torch.long))
        self.register_buffer("mean", torch.zeros(6))
        self.register_buffer("history", torch.zeros(4, 6))

    def forward(self, x):
        self.count += 1
        self.mean.lerp_(x.mean(0), 0.1)
        self.history[1:] = self.history[:-1].clone()
        self.history[0] = self.mean
        return (x - self.mean) / self.count, self.history.sum(0)


# ---- control ----
@entry("control", **ROWS)
class NestedCond(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        def deep(x):
            return torch.cond(x.mean() > 0.1, lambda x: self.a(x), lambda x: x * 2, (x,))

        def other(x):
            return torch.cond(x.max() > 2.0, lambda x: self.b(x).relu(), lambda x: x - 1, (x,))

        y = torch.cond(x.sum() > 0, deep, other, (x,))
        return torch.cond(y.shape[0] > 5, lambda y: y.sin(), lambda y: y.cos(), (y,))


@entry("control", **ROWS)
class WhileInScan(nn.Module):
    """A loop of unknown length in every step of a scan."""

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        def step(carry, row):
            n, out = while_loop(lambda n, v: (v.abs().sum() > 1.0) & (n < 20), lambda n, v: (n + 1, v * 0.5), (torch.zeros((), dtype=torch.long), row + carry))
            return out, torch.cat([out, n[None].float()])

        last, every = scan(step, x[0] * 0, x)
        return last, every


@entry("control", inputs=lambda r, n=5: (torch.tensor(n), r.n(4)), sizes=dict(n=5))
class Collatz(nn.Module):
    """Integers in a loop, a condition within."""

    def forward(self, n, x):
        def body(n, k, x):
            even = torch.cond(n % 2 == 0, lambda n: n // 2, lambda n: 3 * n + 1, (n,))
            return even, k + 1, x + k.float()

        return while_loop(lambda n, k, x: n > 1, body, (n.clone(), torch.zeros((), dtype=torch.long), x))


@entry("control", **ROWS)
class MapOverRows(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.randn(6, 3))

    def forward(self, x):
        from functorch.experimental.control_flow import map as tmap

        return tmap(lambda row, w: torch.cond(row.sum() > 0, lambda r: r @ w, lambda r: -(r @ w), (row,)), x, self.w)


@entry("control", **SEQ)
class ScanPair(nn.Module):
    """Two carries, two results, backwards, over the second axis."""

    def __init__(self):
        super().__init__()
        self.i, self.h = nn.Linear(16, 32), nn.Linear(16, 32, bias=False)

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        w, hw = self.i(x), self.h.weight

        def step(carry, xt):
            h, c = carry
            g, u = (xt + h @ hw.t()).chunk(2, -1)
            c = c * g.sigmoid() + u.tanh()
            return [c.tanh(), c + 0], [c.tanh().clone(), g.sum(-1)]

        (h, c), (ys, gs) = scan(step, [x.new_zeros(x.shape[0], 16), x.new_zeros(x.shape[0], 16)], w, dim=1, reverse=True)
        return h, c, ys, gs


# ---- sizes of data ----
@entry("data", **ROWS)
class Selected(nn.Module):
    """Rows that data selects, through a layer, back to their places."""

    def __init__(self):
        super().__init__()
        self.m = nn.Linear(6, 6)

    def forward(self, x):
        keep = (x.sum(1) > 0).nonzero().squeeze(1)
        y = x.index_put((keep,), self.m(x[keep]))
        mask = x > 0
        return y, x[mask].sum(), x[mask][:, None].expand(-1, 3), torch.cat([x[mask], x.new_ones(2)]), keep.numel() + torch.zeros(())


@entry("data", inputs=lambda r, b=4: (r.n(b, 6), r.i(1, 5, b)), dyn=(B, B), sizes=dict(b=4), alt=dict(b=7))
class Repeats(nn.Module):
    """Length regulation: rows repeated as often as data says, positions within each."""

    def forward(self, x, n):
        y = x.repeat_interleave(n, 0)
        owner = torch.arange(n.shape[0]).repeat_interleave(n)
        start = n.cumsum(0) - n
        within = torch.arange(owner.shape[0]) - start[owner]
        return y, owner, within, torch.zeros_like(x).index_add(0, owner, y)


@entry("data", inputs=lambda r, n=12: (r.i(0, 5, n), r.n(n, 3)), dyn=({0: "n"}, {0: "n"}), sizes=dict(n=12), alt=dict(n=17))
class Groups(nn.Module):
    """Groups by value: unique, counts, means, order of first appearance."""

    def forward(self, keys, x):
        u, inv, count = torch.unique(keys, return_inverse=True, return_counts=True)
        total = x.new_zeros(u.shape[0], 3).index_add(0, inv, x)
        best = x.new_full((u.shape[0], 3), -math.inf).scatter_reduce(0, inv[:, None].expand(-1, 3), x, "amax")
        c, cinv, ccount = torch.unique_consecutive(keys.sort().values, return_inverse=True, return_counts=True)
        return u, total / count[:, None], best[inv], c, cinv, ccount, torch.bincount(keys, minlength=6)


@entry("data", inputs=lambda r, n=9: (r.u(n, 4) * 10, r.u(n)), dyn=({0: "n"}, {0: "n"}), sizes=dict(n=9), alt=dict(n=15))
class SelectThenTop(nn.Module):
    """Candidates over a threshold, the best of them, padded to a fixed count."""

    def forward(self, boxes, score):
        keep = torch.where(score > 0.3)[0]
        s, order = score[keep].sort(descending=True)
        b = boxes[keep][order]
        out = torch.cat([b, torch.zeros(20, 4)])[:20]
        return out, s, (b[:, None] - b[None]).abs().sum(-1), b.shape[0] * torch.ones((), dtype=torch.long)


# ---- arguments and results ----
@dataclasses.dataclass
class Result:
    logits: torch.Tensor
    hidden: typing.List[torch.Tensor]
    loss: typing.Optional[torch.Tensor] = None


try:
    torch.export.register_dataclass(Result, serialized_type_name="odd.Result")
except Exception:
    pass
Pair = collections.namedtuple("Pair", "first second")
pytree._register_namedtuple(Pair, serialized_type_name="odd.Pair")


@entry("calls", **ROWS)
class DataclassOut(nn.Module):
    def forward(self, x):
        return Result(x * 2, [x.sum(0), x.t()])


@entry("calls", **ROWS)
class OrderedOut(nn.Module):
    def forward(self, x):
        return collections.OrderedDict(z=x, a={"k": [x + 1, (x + 2,)], "b": x.sum()}), Pair(x.exp(), x.shape[0]), None, 3, True


@entry("calls", inputs=lambda r, b=4: ((), dict(x=r.n(b, 6), scale=2.5, flag=True, n=3, mask=None)), dyn=dict(x=B, scale=None, flag=None, n=None, mask=None), sizes=dict(b=4), alt=dict(b=7))
class OnlyKeywords(nn.Module):
    def forward(self, *, x, scale: float = 1.0, flag: bool = False, n: int = 1, mask=None):
        y = x * scale if flag else x
        return dict(y=y.repeat(1, n), m=x if mask is None else x * mask)


@entry("calls", inputs=lambda r, b=4: ((r.n(b, 6), [r.n(b, 2), r.n(b, 3)]), dict(extra=(r.n(b), {"deep": r.n(b, 1)}))), dyn=None, sizes=dict(b=4))
class Mixed(nn.Module):
    def forward(self, x, items, *more, extra=None, **rest):
        return x.sum(1) + items[0].sum(1) * items[1].sum(1) + extra[0] + extra[1]["deep"][:, 0], x, items[1]


@entry("calls", inputs=lambda r, b=3: (r.n(()), torch.tensor(2), torch.tensor(True), r.n(b, 0), r.n(b, 4)), dyn=(None, None, None, B, B), sizes=dict(b=3), alt=dict(b=6))
class RankZero(nn.Module):
    """Tensors of rank 0 and without elements."""

    def forward(self, s, n, f, empty, x):
        return (
            x * s + n, torch.where(f, s, -s), torch.cat([empty, x], 1), empty.sum(1), empty.prod(1), empty.reshape(-1), s.reshape(1, 1).expand(2, 3), s.unsqueeze(0), s.sum(0), s.max(), s.argmax(), x @ x.new_zeros(4, 0),
            empty @ x.new_ones(0, 5), torch.stack([s, s]), s.softmax(0), s.cumsum(0), s.sort()[0], n.bitwise_not(), f.logical_not(), s.flatten(), x[:0], x[3:3].sum(), F.linear(empty, x.new_zeros(2, 0)), s.repeat(3), n ** 2, x.numel() * s, torch.empty(0).sum(), s.clamp(0, 1), x.new_zeros(0, 3, 4).transpose(0, 2), s.square().mean(),
        )


@entry("calls", inputs=lambda r, b=3: (r.n(b, 4),), dyn=(B,), sizes=dict(b=3), alt=dict(b=6))
class TiedWeights(nn.Module):
    """Weights that are views of each other, one used twice, one passed through."""

    def __init__(self):
        super().__init__()
        self.e = nn.Embedding(10, 4)
        self.head = nn.Linear(4, 10, bias=False)
        self.head.weight = self.e.weight
        self.first = nn.Parameter(self.e.weight[:5])
        self.register_buffer("t", self.e.weight.detach().t())

    def forward(self, x):
        y = self.head(x)
        return self.e(y.argmax(-1)), y, x @ self.first.t(), x @ self.t, self.e.weight, x


@entry("calls", **ROWS)
class SameTwice(nn.Module):
    """One tensor as two results; an input and a constant as results."""

    def forward(self, x):
        y = x.relu()
        return y, y, x, torch.arange(3), y.view(-1), torch.tensor(1.5), x.shape[1]


# ---- torch.func, vmap, custom functions ----
A = torch.ops.aten


class Straight(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, levels):
        ctx.save_for_backward(x)
        return torch.round(x * levels) / levels

    @staticmethod
    def backward(ctx, g):
        return g, None


@entry("func", inputs=lambda r, b=4: (r.n(b, 6), r.n(b, 6)), sizes=dict(b=4))
class ShrinkGradients(nn.Module):
    def forward(self, x, g):
        return A.hardshrink_backward(g, x, 0.5), A.softshrink_backward(g, x, 0.5)


@entry("func", **ROWS)
class CustomFunction(nn.Module):
    def forward(self, x):
        q = Straight.apply(x, 8)
        return q, x + (q - x).detach()


@entry("func", inputs=lambda r, b=2, h=9, w=12: (r.n(b, 4, h, w), r.n(b, 6, h, w)), dyn=(BHW, BHW), sizes=dict(b=2, h=9, w=12), alt=dict(b=3, h=11, w=8))
class ConvolutionGradients(nn.Module):
    """Gradients of the core set, by their names: convolutions and pools of every form."""

    def __init__(self):
        super().__init__()
        self.w, self.t = nn.Parameter(torch.randn(6, 2, 3, 2)), nn.Parameter(torch.randn(4, 3, 3, 2))

    def forward(self, x, z):
        conv = dict(bias_sizes=[6], output_padding=[0, 0], groups=2, output_mask=[True, True, True])
        y = F.conv2d(x, self.w, None, (2, 1), (1, 2), (1, 2), 2)
        out = [*A.convolution_backward(y.sin(), x, self.w, stride=[2, 1], padding=[1, 2], dilation=[1, 2], transposed=False, **conv)]
        y = F.conv_transpose2d(x, self.t, None, (2, 1), (1, 0), (1, 0), 2)
        conv["output_padding"] = [1, 0]
        out += A.convolution_backward(y.cos(), x, self.t, stride=[2, 1], padding=[1, 0], dilation=[1, 1], transposed=True, **conv)
        for args in (([3, 2], [2, 2], [1, 0], False, True, None), ([3, 3], [2, 2], [1, 1], True, False, None), ([3, 3], [2, 3], [1, 1], True, True, None), ([2, 2], [], [0, 0], False, True, 3)):
            y = A.avg_pool2d(x, *args)
            out.append(A.avg_pool2d_backward(y.sin(), x, *args))
        for size in ((2, 3), (1, 1), (4, 4)):
            out.append(A._adaptive_avg_pool2d_backward(A._adaptive_avg_pool2d(x, size).sin(), x))
        y, at = A.max_pool2d_with_indices(x, [3, 3], [2, 2], [1, 1])
        return *out, A.max_pool2d_with_indices_backward(y.sin(), x, [3, 3], [2, 2], [1, 1], [1, 1], False, at)


@entry("func", inputs=lambda r, b=3, n=5: (r.n(b, n, 8), r.n(b, n, 8), r.i(0, 7, b, n)), dyn=({0: "b", 1: "n"},) * 3, sizes=dict(b=3, n=5), alt=dict(b=4, n=7))
class LayerGradients(nn.Module):
    """Gradients of the core set and of activations, by their names."""

    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(torch.rand(8) + 0.5)

    def forward(self, x, g, ids):
        y, mean, rstd = A.native_layer_norm(x, [8], self.w, None, 1e-5)
        out = [*A.native_layer_norm_backward(g, x, [8], mean, rstd, self.w, self.w, [True, True, True])]
        b, n = x.shape[:2]
        c = x.transpose(1, 2).contiguous()
        y, mean, rstd = A.native_group_norm(c, self.w, self.w, b, 8, n, 4, 1e-5)
        out += A.native_group_norm_backward(y.sin(), c, mean, rstd, self.w, b, 8, n, 4, [True, True, True])
        out += A.native_batch_norm_backward(y.cos(), c, self.w, self.w, self.w, None, None, False, 1e-5, [True, True, True])
        out += [A.embedding_dense_backward(g, ids, 7, 2, False), A.embedding_dense_backward(g, ids, 7, -1, True)]
        t = x * 2
        out += [A.tanh_backward(g, t.tanh()), A.sigmoid_backward(g, t.sigmoid()), A.threshold_backward(g, t, 0.2), A.gelu_backward(g, t), A.gelu_backward(g, t, approximate="tanh"), A.silu_backward(g, t), A.mish_backward(g, t), A.softplus_backward(g, t, 2.0, 3.0), A.log_sigmoid_backward(g, t, A.log_sigmoid_forward(t)[1]), A.elu_backward(g, 0.5, 1.5, 2.0, False, t), A.leaky_relu_backward(g, t, 0.1, False), A.hardtanh_backward(g, t, -1, 1.5), A.hardsigmoid_backward(g, t), A.hardswish_backward(g, t * 2)]
        out += [A._softmax_backward_data(g, x.softmax(1), 1, torch.float32), A._log_softmax_backward_data(g, x.log_softmax(-1), -1, torch.float32), A.mse_loss_backward(g, x, t, 0), A.mse_loss_backward(g[0, 0, 0], x, t, 1), A.smooth_l1_loss_backward(g, x, t, 2, 0.7), A.huber_loss_backward(g, x, t, 1, 0.7)]
        out += [A.select_backward(g[:, 0], [b, n, 8], 1, -1), A.slice_backward(g[:, :, :3], [b, n, 8], 2, 1, 7, 2), A.diagonal_backward(g[:, 0, :2], [b, 2, 2], 0, 1, 2), A.index_select_backward(g, [9, n, 8], 0, ids[:, 0]), A.value_selecting_reduction_backward(g[:, :, 0], 2, ids, [b, n, 8], False)]
        return out


# ---- recurrences ----
@entry("rnn", **SEQ)
class Recurrences(nn.Module):
    """Kinds, layers, directions and states that the zoo does not combine."""

    def __init__(self):
        super().__init__()
        self.a = nn.GRU(16, 6, num_layers=2, bidirectional=True, batch_first=True, dropout=0.3)
        self.b = nn.RNN(12, 5, nonlinearity="relu", bias=False, batch_first=True)
        self.c = nn.LSTM(5, 8, proj_size=3, num_layers=2, bidirectional=True, batch_first=True)

    def forward(self, x):
        y, h = self.a(x)
        z, k = self.b(y)
        w, (p, q) = self.c(z)
        return w, h, k, p, q


@entry("rnn", inputs=lambda r, t=7: (r.n(t, 8), r.n(2, 5)), dyn=({0: "t"}, None), sizes=dict(t=7), alt=dict(t=11))
class Unbatched(nn.Module):
    def __init__(self):
        super().__init__()
        self.g, self.l = nn.GRU(8, 5, num_layers=2), nn.LSTM(5, 4, bidirectional=True)

    def forward(self, x, h):
        y, h = self.g(x, h)
        z, (a, b) = self.l(y)
        return z, h, a, b


@entry("rnn", inputs=lambda r, b=2, t=4, h=8, w=10: (r.n(b, t, 3, h, w),), dyn=({0: "b", 3: "h", 4: "w"},), sizes=dict(b=2, t=4, h=8, w=10), alt=dict(b=3, h=12, w=9))
class ConvLSTM(nn.Module):
    def __init__(self):
        super().__init__()
        self.m = nn.Conv2d(3 + 4, 16, 3, padding=1)

    def forward(self, x):
        h = c = x.new_zeros(x.shape[0], 4, *x.shape[3:])
        out = []
        for k in range(x.shape[1]):
            i, f, g, o = self.m(torch.cat([x[:, k], h], 1)).chunk(4, 1)
            c = f.sigmoid() * c + i.sigmoid() * g.tanh()
            h = o.sigmoid() * c.tanh()
            out.append(h)
        return torch.stack(out, 1), c


# ---- attention and caches ----
@entry("cache", inputs=lambda r, b=2, p=5, s=1: (r.n(b, s, 16), r.n(b, 2, p, 8), r.n(b, 2, p, 8)), dyn=({0: "b", 1: "s"}, {0: "b", 2: "p"}, {0: "b", 2: "p"}), sizes=dict(b=2, p=5, s=2), alt=dict(b=3, p=9, s=3))
class GrowingCache(nn.Module):
    """Grouped queries, rotary positions behind the past, causal from the lower right corner."""

    def __init__(self):
        super().__init__()
        self.q, self.kv = nn.Linear(16, 32), nn.Linear(16, 32)

    def rope(self, x, at):
        f = torch.outer(at.float(), 1.0 / 100 ** (torch.arange(0, 8, 2) / 8))
        c, s = f.cos(), f.sin()
        a, b = x[..., ::2], x[..., 1::2]
        return torch.stack([a * c - b * s, a * s + b * c], -1).flatten(-2)

    def forward(self, x, k, v):
        p, s = k.shape[2], x.shape[1]
        at = torch.arange(p, p + s)
        q = self.rope(self.q(x).unflatten(-1, (4, 8)).transpose(1, 2), at)
        nk, nv = self.kv(x).unflatten(-1, (2, 2, 8)).permute(2, 0, 3, 1, 4)
        k, v = torch.cat([k, self.rope(nk, at)], 2), torch.cat([v, nv], 2)
        mask = torch.ones(s, p + s, dtype=torch.bool).tril(p)
        y = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, enable_gqa=True, scale=0.3)
        return y.transpose(1, 2).flatten(2), k, v


@entry("cache", inputs=lambda r, b=2: (r.n(b, 1, 16), torch.tensor([3])), dyn=(B, None), sizes=dict(b=2), alt=dict(b=2))
class RingCache(nn.Module):
    """A cache of fixed length in buffers, written at a position modulo its length."""

    def __init__(self):
        super().__init__()
        self.kv = nn.Linear(16, 32)
        self.register_buffer("k", torch.zeros(2, 8, 16))
        self.register_buffer("v", torch.zeros(2, 8, 16))

    def forward(self, x, at):
        k, v = self.kv(x).chunk(2, -1)
        self.k.index_copy_(1, at % 8, k)
        self.v[:, at % 8] = v
        bias = torch.where(torch.arange(8) <= at, 0.0, -torch.inf)
        return ((x @ self.k.mT) * 0.25 + bias).softmax(-1) @ self.v


@entry("cache", **SEQ)
class WindowAttention(nn.Module):
    """Local attention by unfold, ALiBi, a sink logit, soft caps."""

    def forward(self, x):
        b, t, d = x.shape
        pad = F.pad(x, (0, 0, 3, 0))
        k = pad.unfold(1, 4, 1)
        s = torch.einsum("btd,btdw->btw", x, k)
        s = 5 * torch.tanh(s / 5) - torch.arange(3, -1, -1) * 0.5
        s = torch.cat([s, s.new_zeros(b, t, 1)], -1).softmax(-1)[..., :-1]
        i = torch.arange(t)
        far = (i[:, None] - i).abs() > 2
        full = (x @ x.transpose(1, 2)).masked_fill(far, torch.finfo(x.dtype).min).softmax(-1) @ x
        return torch.einsum("btw,btdw->btd", s, k), full


# ---- sound ----
@entry("sound", inputs=lambda r, b=2, n=1200: (r.n(b, n),), dyn=({0: "b", 1: "n"},), sizes=dict(b=2, n=1200), alt=dict(b=3, n=1700))
class Cepstrum(nn.Module):
    """Pre-emphasis, STFT, mel, logarithm, cosine transform, deltas, normalisation."""

    def __init__(self):
        super().__init__()
        self.register_buffer("mel", torch.rand(65, 20))
        self.register_buffer("dct", torch.cos(math.pi / 20 * (torch.arange(20) + 0.5)[:, None] * torch.arange(8)))
        self.register_buffer("window", torch.hamming_window(128))

    def forward(self, x):
        x = torch.cat([x[:, :1], x[:, 1:] - 0.97 * x[:, :-1]], 1)
        s = torch.stft(x, 128, 64, window=self.window, center=True, pad_mode="reflect", return_complex=True).abs().square()
        c = (s.mT @ self.mel).clamp_min(1e-6).log() @ self.dct
        p = F.pad(c.mT, (2, 2), mode="replicate").unfold(-1, 5, 1)
        d = (p * torch.arange(-2.0, 3)).sum(-1) / 10
        f = torch.cat([c, d.mT], -1)
        return (f - f.mean(1, keepdim=True)) / (f.std(1, keepdim=True) + 1e-5), s.sum()


@entry("sound", inputs=lambda r, b=2, n=1024: (r.n(b, n),), dyn=(B,), sizes=dict(b=2, n=1024), alt=dict(b=3))
class MaskAndBack(nn.Module):
    """Spectrogram by stft, a complex mask, back by istft; phases by angle."""

    def __init__(self):
        super().__init__()
        self.m = nn.Conv1d(33, 66, 3, padding=1)

    def forward(self, x):
        w = torch.hann_window(64)
        s = torch.stft(x, 64, 16, window=w, return_complex=True, normalized=True)
        m = self.m(s.abs()).unflatten(1, (2, 33))
        y = s * torch.complex(m[:, 0], m[:, 1].tanh())
        return torch.istft(y, 64, 16, window=w, normalized=True, length=x.shape[1]), torch.polar(y.abs(), s.angle()).real


@entry("sound", inputs=lambda r, b=3, n=64: (r.n(b, n),), dyn=({0: "b", 1: "n"},), sizes=dict(b=3, n=64), alt=dict(b=5, n=80))
class Phases(nn.Module):
    """Phases and their differences: those of the first and the middle frequency are 0 or π, which rounding must not turn into −π."""

    def forward(self, x):
        s = torch.stft(x, 16, 8, window=torch.hann_window(16), center=False, return_complex=True)
        f = torch.fft.rfft(x)
        return s.angle(), torch.atan2(f.imag, f.real).diff(dim=-1), torch.fft.fft(x[:, :12]).angle()[:, :7], torch.fft.rfft2(x.view(-1, 2, x.shape[1] // 2)).abs()


@entry("sound", inputs=lambda r, b=2, n=300: (r.n(b, 1, n),), dyn=({0: "b", 2: "n"},), sizes=dict(b=2, n=300), alt=dict(b=3, n=411))
class SincFilters(nn.Module):
    """SincNet: filters computed from two parameters each; power to decibels."""

    def __init__(self):
        super().__init__()
        self.lo, self.band = nn.Parameter(torch.rand(6) * 0.2), nn.Parameter(torch.rand(6) * 0.2 + 0.05)

    def forward(self, x):
        t = torch.arange(-20.0, 21)
        f = lambda c: 2 * c[:, None] * torch.sinc(2 * c[:, None] * t)
        w = (f(self.lo.abs() + self.band.abs()) - f(self.lo.abs())) * torch.blackman_window(41, periodic=False)
        y = F.conv1d(x, w[:, None], stride=3, padding=20)
        db = 10 * torch.log10(y.square().clamp_min(1e-10))
        return torch.maximum(db, db.amax((1, 2), keepdim=True) - 80), F.avg_pool1d(y.abs(), 5, 2, 1, ceil_mode=True, count_include_pad=False), F.lp_pool1d(y, 2, 3)


# ---- detection ----
@entry("heads", **{**IMG, "inputs": lambda r, b=2, h=64, w=96: (r.n(b, 3, h, w),), "sizes": dict(b=2, h=64, w=96), "alt": dict(b=3, h=96, w=64)})
class AnchorHead(nn.Module):
    """Anchors from the features' sizes, deltas decoded, clipped, suppressed per picture, padded to a fixed count."""

    def __init__(self):
        super().__init__()
        self.b = nn.Sequential(nn.Conv2d(3, 8, 3, 4, 1), nn.ReLU(), nn.Conv2d(8, 8, 3, 4, 1), nn.ReLU())
        self.cls, self.reg = nn.Conv2d(8, 3, 1), nn.Conv2d(8, 12, 1)

    def forward(self, x):
        import torchvision

        h, w = x.shape[-2:]
        f = self.b(x)
        fh, fw = f.shape[-2:]
        y, z = torch.meshgrid(torch.arange(fh) * 16.0, torch.arange(fw) * 16.0, indexing="ij")
        base = torch.tensor([[-8.0, -8, 8, 8], [-12, -6, 12, 6], [-6, -12, 6, 12]])
        anchors = (torch.stack([z, y, z, y], -1).reshape(-1, 1, 4) + base).reshape(-1, 4)
        d = self.reg(f).permute(0, 2, 3, 1).reshape(x.shape[0], -1, 4)
        s = self.cls(f).permute(0, 2, 3, 1).reshape(x.shape[0], -1).sigmoid()
        size, mid = anchors[:, 2:] - anchors[:, :2], (anchors[:, 2:] + anchors[:, :2]) / 2
        c, e = mid + d[..., :2] * size, size * d[..., 2:].clamp(max=math.log(1000 / 16)).exp() / 2
        boxes = torch.cat([c - e, c + e], -1)
        boxes = torch.minimum(boxes.clamp_min(0), torch.tensor([w, h, w, h], dtype=boxes.dtype))
        top, at = s.topk(10, 1)
        boxes = boxes.gather(1, at[..., None].expand(-1, -1, 4))
        keep = torchvision.ops.batched_nms(boxes.flatten(0, 1), top.flatten(), torch.arange(x.shape[0]).repeat_interleave(10), 0.5)
        return boxes.flatten(0, 1)[keep], top.flatten()[keep], torchvision.ops.box_iou(boxes[0], boxes[0])


@entry("heads", **IMG)
class Keypoints(nn.Module):
    """Heat maps: soft argmax, hard argmax with neighbours, peaks by pooling."""

    def __init__(self):
        super().__init__()
        self.m = nn.Conv2d(3, 5, 3, padding=1)

    def forward(self, x):
        h = self.m(x)
        b, k, r, c = h.shape
        p = h.flatten(2).softmax(-1).view(b, k, r, c)
        soft = torch.stack([(p.sum(2) * torch.arange(c)).sum(-1), (p.sum(3) * torch.arange(r)).sum(-1)], -1)
        v, at = h.flatten(2).max(-1)
        y, z = at // c, at % c
        peak = (h == F.max_pool2d(h, 3, 1, 1)) & (h > 1.0)
        right = h.flatten(2).gather(2, (y * c + (z + 1).clamp(max=c - 1))[..., None]).squeeze(-1)
        return soft, v, torch.stack([z, y], -1), peak, right - v, peak.nonzero()


@entry("heads", inputs=lambda r, b=2, h=12, w=16, n=5: (r.n(b, 4, h, w), torch.cat([r.u(n, 2) * 8, 8 + r.u(n, 2) * 8], 1), r.i(0, b, n)), dyn=(BHW, {0: "n"}, {0: "n"}), sizes=dict(b=2, h=12, w=16, n=5), alt=dict(b=3, h=15, w=18, n=8))
class RegionOps(nn.Module):
    def forward(self, f, boxes, which):
        from torchvision import ops

        rois = torch.cat([which[:, None].float(), boxes], 1)
        area = ops.box_area(boxes)
        xy = ops.box_convert(boxes, "xyxy", "cxcywh")
        return (
            ops.roi_align(f, rois, (3, 4), 0.5, 2, True), ops.roi_pool(f, rois, 2, 0.5), ops.ps_roi_align(f, rois, 2, 0.5, 2), ops.ps_roi_pool(f, rois, 2, 0.5),
            area, xy, ops.generalized_box_iou(boxes, boxes), ops.distance_box_iou(boxes, boxes), ops.clip_boxes_to_image(boxes, (10, 12)), ops.remove_small_boxes(boxes, 6.0),
        )


# ---- quantities of other kinds ----
@entry("kinds", inputs=lambda r, b=4: (r.i(-50, 50, b, 6).to(torch.int8), r.i(0, 255, b, 6).to(torch.uint8), r.i(-9, 9, b, 6).to(torch.int16), r.n(b, 6) > 0), dyn=(B, B, B, B), sizes=dict(b=4), alt=dict(b=7))
class Narrow(nn.Module):
    """Arithmetic in narrow integers, with its wrap-around and promotions."""

    def forward(self, a, u, s, f):
        return (
            a + a, u * 2, u + a, s * u, a / 3, a // 3, -a, a.abs(), u >> 1, a << 1, a & 15, u ^ 255, ~u, a.sum(), u.float().mean(), f + f, f.sum(), f * a, a.max(1)[0], u.min(0)[0], s.argmax(1), a.sort(1)[0], u.cumsum(1), f.any(1), f.all(),
            a.to(torch.float16) * 0.5, u.view(torch.int8) + 0, a > u, torch.where(f, a, s), a.clamp(-5, 5), s % 4, s.remainder(-4), torch.fmod(s, 4), a.pow(2), s.sign(), u.unique(), f.int().prod(1), a.eq(0), torch.bitwise_left_shift(s, 2), a.float().to(torch.int32), f.long().argmax(1), torch.cat([a, s], 1), torch.stack([u, u]),
        )


@entry("kinds", inputs=lambda r, b=4: (r.n(b, 6).half(), r.n(b, 6).bfloat16(), r.n(b, 6).double(), r.n(b, 6)), dyn=(B, B, B, B), sizes=dict(b=4), alt=dict(b=7))
class Floats(nn.Module):
    """Promotion between the float types, and casts in the middle of it."""

    def forward(self, h, g, d, x):
        return (
            h + x, g * x, h + d, h * 2.5, g + 1, (h @ h.t()).float(), (g @ g.t()).sum(), d @ d.t(), h.softmax(-1), F.layer_norm(g.float(), (6,)).to(g.dtype), h.sum(dtype=torch.float32), g.mean(1), d.to(torch.float32).exp(), x.half().float(), F.gelu(h), F.silu(g),
            torch.where(x > 0, h.float(), d), x.double().cumsum(0), h.var(1), d.std(), h.max(), torch.result_type(h, x) == torch.float32, x.to(torch.int32), d.floor().long(), torch.finfo(h.dtype).max * torch.ones((), dtype=h.dtype), h.clamp(-1, 1), g.relu(), torch.cat([h, x], 1), d.sum(),
        )


@entry("kinds", **ROWS)
class Fourier2(nn.Module):
    """Transforms of every family, along several axes, padded and cut."""

    def forward(self, x):
        f = torch.fft
        c = f.fft(x, n=8)
        return (
            f.rfft(x).abs(), f.irfft(f.rfft(x), n=6), f.fft2(x.unsqueeze(0)).real, f.ifft(c)[:, :6].real, f.fftshift(c, -1).imag, f.ifftshift(f.fftfreq(6)) * x, f.hfft(c, n=6), f.rfftn(x[:, None].expand(-1, 3, -1), dim=(1, 2)).abs(), torch.view_as_real(c * c.conj()),
            c.prod(-1).real, (c @ c.mH).abs(), c.sum(0).real, torch.view_as_real(c.exp() / 100), f.rfft(x, n=10, norm="ortho").real, f.rfft(x, n=4, norm="forward").imag, c.roll(1, 1).imag, torch.complex(x, -x).abs(), c.mean().abs(), c.reshape(-1).real, torch.where(x > 0, c[:, :6], 0).real, c.cumsum(1).real, c.log().real, torch.polar(x.abs(), x).imag, c.flip(0).real, c.isfinite(), c.sqrt().abs(),
        )


@entry("kinds", **MAT)
class Statistics(nn.Module):
    def forward(self, x):
        return (
            x.quantile(0.3, dim=1), x.nanquantile(torch.tensor([0.1, 0.9])), x.median(1)[0], x.kthvalue(2, 1)[0], x.mode(1)[0], x.logsumexp((0, 1)), torch.var_mean(x, 1, correction=0), torch.histc(x, 5, -2, 2), x.cummax(1)[0], x.cumprod(1), x.logcumsumexp(0), x.renorm(2, 0, 1.0), x.diff(dim=1), torch.trapezoid(x, dim=1),
            torch.cdist(x, x, p=1), F.pairwise_distance(x, x.flip(0)), F.cosine_similarity(x[:, None], x[None], -1), torch.aminmax(x, dim=1), torch.std_mean(x), x.norm(3, 1), x.nan_to_num(0.0), torch.nansum(x, 1), torch.count_nonzero(x > 0, 1), x.argsort(dim=1, descending=True, stable=True), torch.gradient(x, dim=1)[0], torch.combinations(x[0, :4]), torch.cartesian_prod(x[0, :2], x[1, :3]), torch.vander(x[0, :3], 4), torch.bucketize(x, torch.tensor([-1.0, 0, 1])), x.tril(1).triu(-1), torch.block_diag(x, x), x.rot90(), torch.kron(x[:2, :2], x), x.movedim(0, 1), x.swapaxes(0, 1), x.unflatten(1, (1, -1)), x.tile(2, 1), x.logaddexp(x.t().sum()), torch.heaviside(x, torch.tensor(0.5)), torch.special.xlogy(x.abs(), x.abs() + 1), x.sinc(), x.frac(), x.fmax(x * 0), x.hypot(x), x.copysign(-x), torch.ldexp(x, torch.tensor(2)), torch.frexp(x)[0], x.float_power(2), x.addcdiv(x, x.abs() + 1, value=0.5), x.lerp(x * 2, 0.3), x.erfinv(), x.sigmoid().logit(), torch.dstack([x, x]), torch.hstack([x, x]), torch.tensor_split(x, 3, 1)[2],
        )


# ---- geometry ----
@entry("geometry", inputs=lambda r, b=3: (r.n(b, 3), r.n(b, 3), r.n(b, 5, 3)), dyn=(B, B, B), sizes=dict(b=3), alt=dict(b=6))
class RigidFrames(nn.Module):
    """Rotations by Rodrigues' formula, frames by Gram-Schmidt, quaternions, cross products, alignment by SVD."""

    def forward(self, w, t, p):
        th = w.norm(dim=-1, keepdim=True).clamp_min(1e-6)
        k = w / th
        z = torch.zeros_like(k[:, 0])
        K = torch.stack([z, -k[:, 2], k[:, 1], k[:, 2], z, -k[:, 0], -k[:, 1], k[:, 0], z], -1).view(-1, 3, 3)
        th = th[..., None]
        R = torch.eye(3) + th.sin() * K + (1 - th.cos()) * (K @ K)
        q = torch.einsum("bij,bnj->bni", R, p) + t[:, None]
        e1 = F.normalize(p[:, 0], dim=-1)
        e2 = F.normalize(p[:, 1] - (p[:, 1] * e1).sum(-1, True) * e1, dim=-1)
        frame = torch.stack([e1, e2, torch.linalg.cross(e1, e2)], -1)
        a, b = p - p.mean(1, True), q - q.mean(1, True)
        U, S, V = torch.linalg.svd(a.mT @ b)
        d = torch.linalg.det(U @ V).sign()
        fix = torch.diag_embed(torch.stack([torch.ones_like(d), torch.ones_like(d), d], -1))
        hom = F.pad(p, (0, 1), value=1.0) @ F.pad(R, (0, 1)).mT
        return q, frame, (U @ fix @ V), torch.linalg.inv(R), hom, torch.atan2(w[:, 0], w[:, 1]), torch.linalg.matrix_exp(K), S


@entry("geometry", inputs=lambda r, n=20, g=8: (r.u(n, 3), r.n(n, 4)), dyn=({0: "n"}, {0: "n"}), sizes=dict(n=20), alt=dict(n=31))
class Voxels(nn.Module):
    """Points to voxels: trilinear scatter into a volume, convolution, and back by grid_sample."""

    def __init__(self):
        super().__init__()
        self.c = nn.Conv3d(4, 4, 3, padding=1)

    def forward(self, p, f):
        g = 6
        u = p * (g - 1)
        lo = u.floor().long().clamp(0, g - 2)
        fr = u - lo
        vol = f.new_zeros(g**3, 4)
        for dx in (0, 1):
            for dy in (0, 1):
                for dz in (0, 1):
                    w = (fr[:, 0] if dx else 1 - fr[:, 0]) * (fr[:, 1] if dy else 1 - fr[:, 1]) * (fr[:, 2] if dz else 1 - fr[:, 2])
                    i = lo + torch.tensor([dx, dy, dz])
                    vol.index_add_(0, (i[:, 0] * g + i[:, 1]) * g + i[:, 2], f * w[:, None])
        v = self.c(vol.t().view(1, 4, g, g, g))
        return F.grid_sample(v, (p.flip(-1) * 2 - 1).view(1, -1, 1, 1, 3), align_corners=True).view(4, -1).t(), vol.sum(0)


@entry("geometry", inputs=lambda r, b=2, n=12: (r.n(b, n, 3), r.n(b, n, 4)), dyn=({0: "b", 1: "n"},) * 2, sizes=dict(b=2, n=12), alt=dict(b=3, n=17))
class Equivariant(nn.Module):
    """EGNN layer with Gaussian basis and masked neighbours."""

    def __init__(self):
        super().__init__()
        self.e, self.x, self.h = nn.Linear(4 * 2 + 8, 6), nn.Linear(6, 1), nn.Linear(10, 4)

    def forward(self, x, h):
        n = x.shape[1]
        r = x[:, :, None] - x[:, None]
        d = r.square().sum(-1)
        basis = torch.exp(-((d.add(1e-8).sqrt()[..., None] - torch.linspace(0, 3, 8)) ** 2))
        m = F.silu(self.e(torch.cat([h[:, :, None].expand(-1, -1, n, -1), h[:, None].expand(-1, n, -1, -1), basis], -1)))
        m = m * (1 - torch.eye(n))[None, :, :, None] * (d < 6.0)[..., None]
        return x + (r * self.x(m)).mean(2), h + self.h(torch.cat([h, m.sum(2)], -1)), d.topk(3, largest=False)[0]


# ---- layers ----
@entry("layers", **IMG)
class ConvKinds(nn.Module):
    """Convolutions, pools and paddings in forms that models seldom have."""

    def __init__(self):
        super().__init__()
        self.a = nn.Conv2d(3, 6, (3, 5), padding="same", dilation=(2, 1), padding_mode="circular")
        self.b = nn.Conv2d(6, 6, 3, stride=2, padding=(1, 0), groups=3, padding_mode="reflect")
        self.c = nn.ConvTranspose2d(6, 4, (3, 2), stride=(2, 3), padding=(1, 0), output_padding=(1, 0), dilation=(1, 2), groups=2)
        self.d = nn.utils.parametrizations.weight_norm(nn.Conv2d(4, 4, 1))
        self.e = nn.utils.parametrizations.spectral_norm(nn.Conv2d(4, 4, 1))
        self.n = nn.ModuleList([nn.InstanceNorm2d(4, affine=True), nn.InstanceNorm2d(4, track_running_stats=True), nn.GroupNorm(2, 4), nn.LocalResponseNorm(3)])

    def forward(self, x):
        y = self.e(self.d(self.c(self.b(self.a(x)))))
        for n in self.n:
            y = n(y)
        p, i = F.max_pool2d(y, 2, return_indices=True)
        return (
            F.max_unpool2d(p, i, 2, output_size=y.shape[2:]), F.adaptive_max_pool2d(y, (3, 5)), F.lp_pool2d(y, 4, 2), F.avg_pool2d(y, 3, 2, 1, True, False, 5), F.pixel_unshuffle(x, 4), F.channel_shuffle(y, 2), F.fold(F.unfold(x, 4, stride=4), x.shape[-2:], 4, stride=4), F.pad(x, (1, -2, 3, 0), value=2.0), F.pad(x, (2, 1, 1, 2), "circular"), F.alpha_dropout(y, 0.5, False),
            F.rrelu(y), F.glu(y, 1), F.hardtanh(y, -0.5, 0.5), F.softmin(y, 1), F.gumbel_softmax(y * 0, hard=False).sum() * 0, F.celu(y, 0.5), F.softsign(y), F.prelu(y, torch.tensor([0.1, 0.2, 0.3, 0.4])),
        )


@entry("layers", inputs=lambda r, b=2, t=7: (r.n(b, t, 16), torch.arange(t) >= torch.tensor([[t]] + [[t - 3]] * (b - 1))), dyn=(BT, BT), sizes=dict(b=2, t=7), alt=dict(b=3, t=11))
class Attentions(nn.Module):
    """nn.MultiheadAttention in its rarer forms."""

    def __init__(self):
        super().__init__()
        self.a = nn.MultiheadAttention(16, 2, batch_first=True, add_bias_kv=True, add_zero_attn=True)
        self.b = nn.MultiheadAttention(16, 4, kdim=16, vdim=16, bias=False, batch_first=True)
        self.c = nn.MultiheadAttention(16, 2, kdim=8, vdim=4)

    def forward(self, x, pad):
        y, w = self.a(x, x, x, key_padding_mask=pad, average_attn_weights=False)
        m = torch.ones(x.shape[1], x.shape[1], dtype=torch.bool).triu(1)
        z, v = self.b(y, x, x, attn_mask=m)
        q, u = self.c(x.transpose(0, 1), x[..., :8].transpose(0, 1), x[..., :4].transpose(0, 1), need_weights=False)
        return y, w, z, v, q


@entry("layers", **SEQ)
class Experts(nn.Module):
    """Mixture of experts by sorting, one weight tensor for all, dropped beyond a capacity; expert choice beside it."""

    def __init__(self):
        super().__init__()
        self.g, self.w = nn.Linear(16, 4), nn.Parameter(torch.randn(4, 16, 16) * 0.2)

    def forward(self, x):
        f = x.flatten(0, 1)
        p = self.g(f).softmax(-1)
        v, e = p.topk(2)
        order = e.flatten().argsort(stable=True)
        tok, ex = order // 2, e.flatten()[order]
        start = torch.searchsorted(ex.contiguous(), torch.arange(4))
        pos = torch.arange(order.shape[0]) - start[ex]
        keep = pos < 5
        buf = f.new_zeros(4, 6, 16)
        buf = buf.index_put((ex, pos.clamp(max=5)), f[tok] * keep[:, None], accumulate=True)
        out = torch.bmm(buf, self.w)[ex, pos.clamp(max=5)] * keep[:, None] * v.flatten()[order][:, None]
        y = torch.zeros_like(f).index_add(0, tok, out)
        s, at = p.t().topk(3, -1)
        c = torch.zeros_like(f).index_add(0, at.flatten(), (torch.einsum("ekd,edf->ekf", f[at], self.w) * s[..., None]).flatten(0, 1))
        return y.view_as(x), c.view_as(x), F.one_hot(e, 4).sum((0, 1))


@entry("layers", **TOKENS)
class Losses(nn.Module):
    """Losses as part of a model's results."""

    def __init__(self):
        super().__init__()
        self.e, self.h = nn.Embedding(50, 12, padding_idx=0, max_norm=2.0), nn.Linear(12, 50)

    def forward(self, ids):
        y = self.h(self.e(ids))
        lp = y.log_softmax(-1)
        t = F.one_hot(ids, 50).float()
        return (
            F.cross_entropy(y[:, :-1].flatten(0, 1), ids[:, 1:].flatten(), ignore_index=0, label_smoothing=0.1), F.nll_loss(lp.flatten(0, 1), ids.flatten(), reduction="none"), F.binary_cross_entropy_with_logits(y, t, pos_weight=torch.full((50,), 2.0)), F.kl_div(lp, t, reduction="batchmean"), F.mse_loss(y, t), F.smooth_l1_loss(y, t, beta=0.5), F.huber_loss(y, t), F.poisson_nll_loss(y, t), F.triplet_margin_loss(y[:, 0], y[:, 1], y[:, 2]), F.cosine_embedding_loss(y[:, 0], y[:, 1], torch.ones(y.shape[0])), F.multilabel_margin_loss(y[:, 0], ids[:, :1].expand(-1, 50)), F.hinge_embedding_loss(y, t * 2 - 1), F.soft_margin_loss(y, t * 2 - 1), F.multi_margin_loss(y[:, 0], ids[:, 0]), F.l1_loss(y, t, reduction="sum"),
        )


@entry("layers", inputs=lambda r, n=10: (r.i(0, 20, n), torch.tensor([0, 2, 2, 7]), r.u(n)), dyn=({0: "n"}, None, {0: "n"}), sizes=dict(n=10), alt=dict(n=15))
class Lookups(nn.Module):
    def __init__(self):
        super().__init__()
        self.s, self.m, self.x = (nn.EmbeddingBag(20, 6, mode=k) for k in ("sum", "mean", "max"))
        self.l = nn.EmbeddingBag(20, 6, mode="sum", include_last_offset=True, padding_idx=3)

    def forward(self, ids, off, w):
        return self.s(ids, off, per_sample_weights=w), self.m(ids, off), self.x(ids, off), self.l(ids, off), F.embedding(ids, self.s.weight, padding_idx=1).cumsum(0), self.s.weight[ids % 4, ids % 6], F.one_hot(ids, 25).argmax(-1), torch.take(self.s.weight, ids)


@entry("layers", **SEQ)
class StateSpace(nn.Module):
    """Mamba's convolution, gate and discretised recurrence, unrolled by cumulative sums in the logarithm."""

    def __init__(self):
        super().__init__()
        self.i, self.c, self.x, self.o = nn.Linear(16, 64), nn.Conv1d(32, 32, 4, groups=32, padding=3), nn.Linear(32, 2 + 8), nn.Linear(32, 16)
        self.dt, self.A = nn.Linear(2, 32), nn.Parameter(torch.rand(32, 4))

    def forward(self, x):
        u, z = self.i(x).chunk(2, -1)
        u = F.silu(self.c(u.mT)[..., : x.shape[1]].mT)
        dt, B_, C = self.x(u).split([2, 4, 4], -1)
        dt = F.softplus(self.dt(dt))
        la = (-dt[..., None] * self.A).cumsum(1)
        h = torch.exp(la) * torch.cumsum((dt * u)[..., None] * B_[:, :, None] * torch.exp(-la), 1)
        return self.o(torch.einsum("btdn,btn->btd", h, C) * F.silu(z))


@entry("layers", inputs=lambda r, b=2, h=16, w=16: (r.n(b, 4, h, w), r.i(0, 1000, b), r.n(b, 5, 12)), dyn=(BHW, B, {0: "b", 1: "s"}), sizes=dict(b=2, h=16, w=16), alt=dict(b=3, h=24, w=32))
class GuidedStep(nn.Module):
    """One step of guided sampling: doubled batch, schedule looked up by step, clipped prediction, noise of zero."""

    def __init__(self):
        super().__init__()
        self.t, self.m, self.k, self.o = nn.Linear(32, 8), nn.Conv2d(4, 8, 3, padding=1), nn.Linear(12, 16), nn.Conv2d(8, 4, 3, padding=1)
        self.register_buffer("a", torch.linspace(0.9999, 0.98, 1000).cumprod(0))

    def noise(self, x, t, c):
        f = t[:, None].float() * torch.exp(-math.log(1e4) * torch.arange(16) / 16)
        h = F.silu(self.m(x) + self.t(torch.cat([f.sin(), f.cos()], 1))[..., None, None])
        q = h.flatten(2).mT
        k, v = self.k(c).chunk(2, -1)
        h = h + F.scaled_dot_product_attention(q, k, v).mT.unflatten(2, h.shape[2:])
        return self.o(F.interpolate(F.avg_pool2d(h, 2), scale_factor=2.0, mode="nearest") + h)

    def forward(self, x, t, c):
        e, n = self.noise(torch.cat([x, x]), t.repeat(2), torch.cat([c, torch.zeros_like(c)])).chunk(2)
        e = n + 3.0 * (e - n)
        a = self.a[t].view(-1, 1, 1, 1)
        p = self.a[(t - 50).clamp_min(0)].view(-1, 1, 1, 1)
        x0 = ((x - (1 - a).sqrt() * e) / a.sqrt()).clamp(-1, 1)
        return p.sqrt() * x0 + (1 - p).sqrt() * e, x0


@entry("layers", **ROWS)
class Programs(nn.Module):
    """What Python does with sizes: arithmetic, minima, slices by them, reshapes that follow."""

    def forward(self, x):
        b, n = x.shape
        k = min(b, 3)
        h = (b + 1) // 2
        y = x[:h].sum(0) + x[b - h :].sum(0)
        pad = (-b) % 4
        z = F.pad(x, (0, 0, 0, pad)).view(-1, 4, n).mean(1)
        s = torch.linspace(0, 1, b)[:, None] * x
        e = torch.eye(b)[:, :3] if b > 2 else torch.eye(b)
        return y, z, s, x.new_full((b, 2), b / n), torch.arange(0, b * n, n), x.reshape(b * n // 2, 2), torch.ones(b, b).triu(k - b), x.chunk(2)[0], x.expand(2, b, n).reshape(2 * b, n), e, math.sqrt(b) * x, x[-k:], torch.full((k,), float(b)), x.unfold(0, 2, 2), torch.tensor([b, n, b * n])


# ---- sizes, numbers and branches together ----
@entry("sizes", **MAT)
class CondSizes(nn.Module):
    """Branches that read sizes from outside, and a loop that counts with a size."""

    def forward(self, x):
        b, n = x.shape
        y = torch.cond(x.sum() > 0, lambda x: x * n + b, lambda x: x / b - n, (x,))
        k, z = while_loop(lambda k, z: k < b, lambda k, z: (k + 1, z + k * x[:, 0]), (torch.zeros((), dtype=torch.long), x[:, 0] * 0))
        return y, k, z, torch.sym_max(b, n) * x[0], torch.sym_min(b, 5) + x[0]


@entry("sizes", **MAT)
class SizeArithmetic(nn.Module):
    def forward(self, x):
        b, n = x.shape
        h, w, q, r = (b + 1) // 2, n // 2, b + b // 2, n // 3
        s = b**2
        return (
            x.new_zeros(h, w) + s, x[:h, :w].sum(), x.new_ones(q), torch.arange(r), torch.arange(0, n, 2, dtype=torch.float32), x.split([1, b - 1])[1], x.view(b, -1, n)[:, 0], torch.full((b,), n), torch.linspace(0, b, n), x.repeat(1, 2)[:, : n + 1],
            torch.cat([x] * 3)[b : 2 * b], x.new_empty(b, n).fill_(b % 3), F.pad(x, (0, n % 4, b // 3, 0)), x[:, n // 2 :], x[-h:], x[: b - 1 : 2], torch.eye(b, n), (x > b / n).sum(), x.expand(b, b, n).sum(0), x.flatten()[: b * n - 1], torch.ones(b, n, dtype=torch.bool).tril(b - n), b * 1.0 / n + x[0], -b // 2 + x[0], float(b) ** 0.5 * x[0], torch.tensor(b) + torch.tensor([n, b]), x.reshape(n, b), x.narrow(1, n - 3, 2), torch.tril_indices(3, 4), x.diagonal(1), x.roll(b // 2, 0), x.index_select(0, torch.arange(b - 1, -1, -1)),
        )


@entry("sizes", inputs=lambda r, b=5: (r.n(b, 6), torch.tensor([2, 1, 3]), torch.tensor(1.5)), dyn=(B, None, None), sizes=dict(b=5), alt=dict(b=8))
class NumbersOfData(nn.Module):
    """Numbers read from tensors, as factors, sizes, bounds and list elements."""

    def forward(self, x, n, f):
        k = n[0].item()
        torch._check(k >= 1)
        torch._check(k <= 4)
        a, b, c = n.tolist()
        for v in (a, b, c):
            torch._check(v >= 0)
            torch._check(v <= 6)
        torch._check(a + b + c == 6)
        s = f.item()
        u, v, w = x.split([a, b, c], 1)
        return x * s, x[:k], x.new_zeros(k, 3) + s, torch.arange(k), u.sum(1), v.sum(1), w.sum(1), x[k:].sum(0), x[:, :k] * (s * 2 + 1), torch.full((k,), s), torch.eye(k), x.new_ones(2 * k + 1)


@entry("sizes", inputs=lambda r, b=3: (r.n(b, 4), None, 3, 0.5, True, {"a": [r.n(b), None], "b": (1, r.n(b, 2))}), sizes=dict(b=3))
class OddArguments(nn.Module):
    def __init__(self):
        super().__init__()
        self.register_buffer("table", torch.arange(12).view(3, 4).to(torch.int8), persistent=False)
        self.register_buffer("phase", torch.polar(torch.ones(4), torch.arange(4.0)))
        self.register_buffer("mask", torch.tensor([True, False, True, True]))
        self.register_buffer("none", None)
        self.scale, self.empty, self.h = nn.Parameter(torch.tensor(0.7)), nn.Parameter(torch.zeros(0, 4)), nn.Parameter(torch.ones(4, dtype=torch.half))
        self.constant = torch.tensor([1.0, 2.0, 3.0, 4.0])

    def forward(self, x, nothing, n, f, flag, more):
        y = torch.cat([x, self.empty]) * self.scale + self.constant * f
        y = y.masked_fill(~self.mask, n) if flag else y
        z = torch.view_as_complex(torch.stack([y, y], -1)) * self.phase
        return y, z.abs(), torch.view_as_real(z), self.table[:, 0] + n, self.h * x, more["a"][0] * more["b"][0], more["b"][1], self.scale, z


class Stacked(nn.Module):
    """Layers whose weights are one tensor, applied in a scan."""

    def __init__(self):
        super().__init__()
        self.w, self.b = nn.Parameter(torch.randn(3, 6, 6) * 0.3), nn.Parameter(torch.randn(3, 6))

    def forward(self, x):
        from torch._higher_order_ops.scan import scan

        return scan(lambda h, p: ((h @ p[0] + p[1]).tanh(), h.sum(-1)), x, (self.w, self.b))


entry("sizes", **ROWS)(Stacked)


@entry("sizes", **SEQ)
class ShortWindow(nn.Module):
    """Transforms without a window, or with a shorter one; frames by as_strided."""

    def forward(self, x):
        s = x[:, :, 0].repeat(1, 12)[:, :80]
        a = torch.stft(s, 16, 4, win_length=10, return_complex=True, center=False, onesided=False)
        b = torch.stft(s, 16, 8, win_length=12, window=torch.hann_window(12), return_complex=True, pad_mode="constant")
        return a.abs(), torch.view_as_real(b), s.contiguous().as_strided((s.shape[0], 9, 16), (80, 8, 1)), torch.fft.rfft(s, dim=0).abs(), torch.fft.ifft(torch.fft.fft(s.mT, norm="forward"), norm="forward").real


# ---- as many groups as a size says ----
@entry("groups", inputs=lambda r, b=2, h=12, w=14: (r.n(b, 4, h, w), r.n(b, 4, 5, 3)), dyn=(BHW, B), sizes=dict(b=2, h=12, w=14), alt=dict(b=3, h=15, w=11))
class CrossCorrelation(nn.Module):
    """Trackers search for a template: one filter per channel of every sample."""

    def forward(self, x, k):
        b, c, h, w = x.shape
        y = F.conv2d(x.reshape(1, b * c, h, w), k.reshape(b * c, 1, *k.shape[2:]), groups=b * c)
        # The derivative along an axis, as torchaudio takes it: unbatched, one axis.
        slope = torch.arange(-2.0, 3.0).repeat(b * c, 1, 1)
        z = F.conv1d(F.pad(x[:, :, 0].reshape(1, b * c, w), (2, 2), "replicate"), slope, groups=b * c)
        return y.view(b, c, *y.shape[2:]), z.view(b, c, w), F.conv1d(x[:, :, 1].reshape(b * c, w), slope, padding=2, groups=b * c)


@entry("groups", inputs=lambda r, b=2, h=10, w=12: (r.n(b, 6, h, w), r.n(b, 8)), dyn=(BHW, B), sizes=dict(b=2, h=10, w=12), alt=dict(b=3, h=9, w=11))
class Modulated(nn.Module):
    """StyleGAN's convolutions, also transposed."""

    def __init__(self):
        super().__init__()
        self.w, self.up, self.style = nn.Parameter(torch.randn(5, 6, 3, 3)), nn.Parameter(torch.randn(6, 5, 3, 3)), nn.Linear(8, 6)

    def forward(self, x, s):
        b, (h, w), style = x.shape[0], x.shape[2:], self.style(s)
        k = self.w * style[:, None, :, None, None]
        k = k * torch.rsqrt(k.square().sum((2, 3, 4), keepdim=True) + 1e-8)
        y = F.conv2d(x.reshape(1, -1, h, w), k.reshape(-1, 6, 3, 3), padding=1, groups=b).view(b, 5, h, w)
        k = self.up * style[:, :, None, None, None]
        z = F.conv_transpose2d(x.reshape(1, -1, h, w), k.reshape(-1, 5, 3, 3), stride=2, padding=1, output_padding=1, groups=b)
        t = F.conv_transpose1d(x[:, :, 0].reshape(1, -1, w), k[:, :, :, 0].reshape(-1, 5, 3), bias=s.reshape(-1)[:1].expand(5 * b), stride=2, groups=b)
        return y, z.view(b, 5, *z.shape[2:]), t


# ---- pictures of bytes, and whole numbers ----
BYTES = dict(inputs=lambda r, b=2, h=30, w=40: ((r.u(b, 3, h, w) * 255).to(torch.uint8),), dyn=(BHW,), sizes=dict(b=2, h=30, w=40), alt=dict(b=3, h=44, w=36))


@entry("bytes", **BYTES)
class Resized(nn.Module):
    """torch resizes bytes with weights of 16 bits and rounds after each axis."""

    def forward(self, x):
        sizes = dict(bilinear=[(11, 13), (50, 60), (30, 16)], bicubic=[(11, 13), (50, 60)])
        out = [F.interpolate(x, size=s, mode=m, antialias=a) for m, ss in sizes.items() for s in ss for a in (False, True)]
        corners = [F.interpolate(x, size=(17, 21), mode=m, align_corners=True, antialias=a) for m in sizes for a in (False, True)]
        wide = torch.cat([x, x], 1)
        return *out, *corners, F.interpolate(wide, scale_factor=0.7, mode="bilinear", antialias=True), F.interpolate(wide, scale_factor=1.3, mode="bicubic"), F.interpolate(x, scale_factor=2.0, mode="bilinear")


@entry("bytes", **BYTES)
class Corners(nn.Module):
    """Antialiasing with aligned corners, of floats."""

    def forward(self, x):
        x = x / 255
        return [F.interpolate(x, size=s, mode=m, align_corners=True, antialias=True) for m in ("bilinear", "bicubic") for s in ((9, 17), (61, 33))]


@entry("bytes", **BYTES)
class Nearest(nn.Module):
    """Sizes where a factor rounded to f32 finds other pixels."""

    def forward(self, x):
        return F.interpolate(x, size=(20, 24)), F.interpolate(x.float(), size=(20, 24)), F.interpolate(x, size=x.shape[2:]), F.interpolate(x.float(), scale_factor=2)


@entry("bytes", **BYTES)
class Prepared(nn.Module):
    """torchvision's transforms before a classifier."""

    def __init__(self):
        super().__init__()
        import torchvision.transforms.v2 as T

        self.t = T.Compose([T.Resize((24, 24), antialias=True), T.CenterCrop(20), T.ToDtype(torch.float32, scale=True), T.Normalize((0.4, 0.5, 0.6), (0.2, 0.2, 0.3)), T.Grayscale(3)])

    def forward(self, x):
        return self.t(x)


@entry("bytes", inputs=lambda r, b=20: (r.n(b, 32),), dyn=(B,), sizes=dict(b=20), alt=dict(b=23))
class WholeProducts(nn.Module):
    """Products of bytes, as torchao writes them."""

    def __init__(self):
        super().__init__()
        self.register_buffer("w", torch.randint(-127, 128, (16, 32), dtype=torch.int8))
        self.register_buffer("s", torch.rand(16))

    def forward(self, x):
        scale = x.abs().amax(1, keepdim=True).clamp(min=1e-5) / 127
        q = (x / scale).round().clamp(-128, 127).to(torch.int8)
        return torch._int_mm(q, self.w.mT) * scale * self.s, torch.ops.aten._weight_int8pack_mm(x, self.w, self.s), torch._int_mm(q, self.w.mT), torch.einsum("ij->j", q)


if __name__ == "__main__":
    for e in ENTRIES.values():
        args, kwargs = e.make_inputs()
        print(e.id, [tuple(t.shape) for t in eager(e.make_model(), args, kwargs)])
