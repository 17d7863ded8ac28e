"""Train a model on images that are refined while it trains: a `DataLoader` reads renders, a refiner takes each batch.

    python examples/torch_dataset.py RENDERS RUN [EPOCHS]

RENDERS is a folder of grey PNGs with labels.csv (file, gx, gy, gz); RUN is a run of `simgan train`.
"""

import csv
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

import simgan_cli
from simgan_cli.engine.refining.image_refiner import ImageRefiner

BATCH = 64


class Renders(Dataset[tuple[Tensor, Tensor]]):
    """Images 1 x H x W uint8 and unit gaze vectors."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        with (folder / "labels.csv").open(newline="") as file:
            self.rows = list(csv.DictReader(file))

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        row = self.rows[index]
        pixels = np.array(Image.open(self.folder / row["file"]).convert("L"))
        return torch.from_numpy(pixels)[None], torch.tensor([float(row[axis]) for axis in ("gx", "gy", "gz")])


def refined_batches(renders: Renders, refiner: ImageRefiner) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield batches of refined images N x 1 x H x W in [0, 1] with their labels, in random order.

    Workers only read files; the refiner runs in this process on complete batches, on the GPU if there is one.
    """
    for images, gaze in DataLoader(renders, BATCH, shuffle=True, num_workers=2):
        yield refiner(images).float() / 255, gaze


def main() -> None:
    """Fit a small network to the gaze, and print its error on its training images."""
    renders, refiner = Renders(Path(sys.argv[1])), simgan_cli.load_refiner(sys.argv[2])
    torch.manual_seed(0)
    network = nn.Sequential(
        nn.Conv2d(1, 16, 5, stride=2), nn.ReLU(), nn.Conv2d(16, 16, 3, stride=2), nn.ReLU(),
        nn.AdaptiveAvgPool2d(4), nn.Flatten(), nn.Linear(256, 3),
    )  # fmt: skip
    optimizer = torch.optim.Adam(network.parameters())
    for epoch in range(int(sys.argv[3]) if len(sys.argv) > 3 else 10):
        errors = []
        for images, gaze in refined_batches(renders, refiner):
            predicted = nn.functional.normalize(network(images))
            loss = (predicted - gaze).square().sum(1).mean()
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            across = torch.linalg.cross(predicted.detach(), gaze).norm(dim=1)
            errors.append(torch.rad2deg(torch.atan2(across, (predicted.detach() * gaze).sum(1))))
        print(f"epoch {epoch + 1}: {torch.cat(errors).mean():.2f} degrees on refined training images")


if __name__ == "__main__":
    main()
