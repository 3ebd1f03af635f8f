"""Trains the digit classifier and writes model.pt2 and held-out.npz.

usage: python train.py [OUT]      (needs torch, numpy, scikit-learn; half a minute on one core)

The data are scikit-learn's handwritten digits (8 x 8 pixels). A quarter is held out; held-out.npz has those pictures,
their labels, and the logits and predictions that PyTorch gives.
"""
import os, sys
import numpy as np
import torch, torch.nn as nn, torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split


class Digits(nn.Module):
    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1), nn.BatchNorm2d(64), nn.ReLU(), nn.AdaptiveAvgPool2d(1))
        self.classify = nn.Linear(64, 10)

    def forward(self, pixels):
        return self.classify(self.features(pixels).flatten(1))


def main():
    out = sys.argv[1] if len(sys.argv) > 1 else os.path.dirname(os.path.abspath(__file__))
    torch.manual_seed(0)
    digits = load_digits()
    images = (digits.images / 16).astype(np.float32)[:, None]
    x, held_x, y, held_y = train_test_split(images, digits.target, test_size=0.25, random_state=0, stratify=digits.target)
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    model = Digits()
    optimiser = torch.optim.AdamW(model.parameters(), lr=3e-3)
    for epoch in range(30):
        for i in torch.randperm(len(x)).split(64):
            loss = F.cross_entropy(model(x[i]), y[i])
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
    model.eval()
    with torch.no_grad():
        logits = model(torch.from_numpy(held_x))
        predictions = logits.argmax(1)
        print(f"held-out accuracy {(predictions.numpy() == held_y).mean():.4f} of {len(held_y)}")
        np.savez(os.path.join(out, "held-out.npz"), pixels=held_x, output=logits.numpy(),
                 predictions=predictions.numpy(), labels=held_y.astype(np.int64))
        batch = torch.export.Dim("batch", min=1, max=1024)
        program = torch.export.export(model, (torch.from_numpy(held_x[:4]),), dynamic_shapes=({0: batch},))
        torch.export.save(program, os.path.join(out, "model.pt2"))


if __name__ == "__main__":
    main()
