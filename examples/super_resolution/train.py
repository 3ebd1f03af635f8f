"""Trains the super-resolution example and writes what the repository ships.

usage: python train.py [OUT]      (needs torch, numpy, scikit-image, Pillow; about five minutes on one core)

Writes model.pt2 (dynamic batch, height and width), reference.npz (an input, the output that PyTorch gives, and the same
at another size and batch), and the held-out photographs that the network never saw. The network learns from photographs
that scikit-image ships as CC0 or public domain.
"""
import os, random, sys
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
from PIL import Image
import skimage.data

TRAIN = ["astronaut.png", "rocket.jpg", "hubble_deep_field.jpg", "retina.jpg", "ihc.png", "camera.png", "brick.png", "grass.png", "gravel.png", "moon.png"]
HELD_OUT = {"cat": "chelsea.png", "coffee": "coffee.png"}
FOLDER = os.path.dirname(skimage.data.__file__)


class Block(nn.Module):
    def __init__(self, channels):
        super().__init__()
        self.a = nn.Conv2d(channels, channels, 3, padding=1)
        self.b = nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x):
        return x + self.b(F.relu(self.a(x)))


class SuperResolution(nn.Module):
    """Doubles height and width of an RGB picture in 0..1: bilinear upsampling plus learned detail."""

    def __init__(self, channels=32, blocks=4):
        super().__init__()
        self.head = nn.Conv2d(3, channels, 3, padding=1)
        self.body = nn.Sequential(*[Block(channels) for _ in range(blocks)])
        self.tail = nn.Conv2d(channels, 12, 3, padding=1)
        self.up = nn.PixelShuffle(2)

    def forward(self, image):
        detail = self.up(self.tail(self.body(F.relu(self.head(image)))))
        return F.interpolate(image, scale_factor=2, mode="bilinear", align_corners=False) + detail


def picture(name):
    return Image.open(os.path.join(FOLDER, name)).convert("RGB")


def tensor(p):
    return torch.from_numpy(np.asarray(p, dtype=np.float32) / 255).permute(2, 0, 1).contiguous()


def halved(p):
    return p.resize((p.width // 2, p.height // 2), Image.BICUBIC)


def pairs():
    """(small, large) tensors; every picture also at half size, which has more detail per pixel."""
    for name in TRAIN:
        p = picture(name)
        p = p.crop((0, 0, p.width // 4 * 4, p.height // 4 * 4))
        for large in (p, halved(p)):
            large = large.crop((0, 0, large.width // 2 * 2, large.height // 2 * 2))
            yield tensor(halved(large)), tensor(large)


def batch(data, n, size):
    xs, ys = [], []
    for _ in range(n):
        x, y = random.choice(data)
        i, j = random.randrange(x.shape[1] - size), random.randrange(x.shape[2] - size)
        x, y = x[:, i:i + size, j:j + size], y[:, 2 * i:2 * (i + size), 2 * j:2 * (j + size)]
        if random.random() < 0.5:
            x, y = x.flip(2), y.flip(2)
        k = random.randrange(4)
        xs.append(torch.rot90(x, k, (1, 2)))
        ys.append(torch.rot90(y, k, (1, 2)))
    return torch.stack(xs), torch.stack(ys)


def psnr(a, b):
    return -10 * torch.log10(F.mse_loss(a.clamp(0, 1), b)).item()


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    steps = int(os.environ.get("STEPS", 4000))
    torch.manual_seed(0), random.seed(0)
    data = list(pairs())
    model = SuperResolution()
    optimiser = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, 2e-3, total_steps=steps)
    for step in range(steps):
        x, y = batch(data, 8, 32)
        loss = F.l1_loss(model(x), y)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        schedule.step()
        if step % 500 == 0:
            print(step, f"{loss.item():.4f}", flush=True)
    model.eval()
    with torch.no_grad():
        for stem, name in HELD_OUT.items():
            p = picture(name)
            p = p.crop((0, 0, p.width // 2 * 2, p.height // 2 * 2))
            small = halved(p)
            y = model(tensor(small)[None])[0]
            bicubic = tensor(small.resize(p.size, Image.BICUBIC))
            print(stem, f"network {psnr(y, tensor(p)):.2f} dB, bicubic {psnr(bicubic, tensor(p)):.2f} dB")
            small.save(os.path.join(out, f"{stem}.png"))
        x = tensor(halved(picture(HELD_OUT["cat"])).crop((60, 20, 60 + 96, 20 + 64)))[None]
        z = torch.rand(2, 3, 17, 23)
        np.savez(os.path.join(out, "reference.npz"), image=x.numpy(), output=model(x).numpy())
        np.savez(os.path.join(out, "reference-odd.npz"), image=z.numpy(), output=model(z).numpy())
        d = torch.export.Dim
        sizes = {0: d("batch", min=1, max=16), 2: d("height", min=2, max=2048), 3: d("width", min=2, max=2048)}
        program = torch.export.export(model, (torch.rand(2, 3, 48, 64),), dynamic_shapes=(sizes,))
        torch.export.save(program, os.path.join(out, "model.pt2"))


if __name__ == "__main__":
    main()
