"""Networks that read gaze, the pupil's centre or other points off an image: the paper's, and a small residual one."""

from collections.abc import Sequence
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Architecture = Literal["cnn", "cnn-full", "resnet"]
# Gaze is normalised, so that its head may be of any scale; an unbounded point needs small steps to settle.
POINT_SCALE = 0.1
LARGEST_MAP = (8, 10)  # of the last convolution; larger ones are averaged down to it ("cnn" has 5 x 10 at 35 x 55)


class Estimator(nn.Module):
    """N x 1 x H x W in [-1, 1] -> gaze, unit vectors N x 3, or K points N x 2K in fractions of W and H.

    `points` names them; the pupil is one point, and needs no name.

    "cnn" is the gaze network of the paper (Sec. 3.1): five convolutions without padding, with its FC9600 as their 9600
    last values at 35 x 55. "cnn-full" has FC9600 as a layer of its own (92 million weights more). Images too small for
    that are padded. "resnet" is a small residual network (He et al., CVPR 2016) without batch norm, whose statistics
    would fit the training domain alone.
    """

    def __init__(
        self,
        architecture: Architecture = "cnn",
        height: int = 35,
        width: int = 55,
        target: str = "gaze",
        points: Sequence[str] = (),
    ) -> None:
        super().__init__()
        outputs = {"gaze": 3, "pupil": 2, "points": 2 * len(points)}.get(target, 0)
        if not outputs:
            raise ValueError(f"target {target!r} with {len(points)} points")
        self.settings: dict[str, Any] = {
            "architecture": architecture, "height": height, "width": width, "target": target,
        }  # fmt: skip
        if target == "points":
            self.settings["points"] = list(points)
        self.convolutions = _residual_stages() if architecture == "resnet" else _paper_convolutions(height, width)
        with torch.no_grad():
            maps = self.convolutions(torch.zeros(2, 1, height, width))
        self._map = (min(maps.shape[2], LARGEST_MAP[0]), min(maps.shape[3], LARGEST_MAP[1]))
        flat = maps.shape[1] * self._map[0] * self._map[1]
        hidden = {"cnn": [1000], "cnn-full": [9600, 1000], "resnet": [256]}[architecture]
        sizes = [flat, *hidden]
        layers = [layer for a, b in zip(sizes, hidden, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def features(self, x: Tensor) -> Tensor:
        """Return the maps of the last convolution, which a learned psi compares (Eq. 4)."""
        maps: Tensor = self.convolutions(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        maps = self.features(x)
        if maps.shape[2:] != self._map:
            maps = average_down(maps.float(), self._map)
        hidden: Tensor = self.head[:-1](maps.flatten(1))
        with torch.autocast(x.device.type, enabled=False):  # three digits are too few for an angle
            output: Tensor = self.head[-1](hidden.float())
        return F.normalize(output) if self.settings["target"] == "gaze" else 0.5 + POINT_SCALE * output

    def squared_errors(self, output: Tensor, targets: Tensor) -> Tensor:
        """Return the squared errors of N outputs, of gaze or the mean over points; NaN targets do not count.

        An error is 0 where all its targets are NaN.
        """
        known = ~targets.isnan()
        squares = (output - targets.nan_to_num()).square() * known
        values = 3 if self.settings["target"] == "gaze" else 2  # of a vector or a point
        errors: Tensor = squares.sum(dim=1) * (values / known.sum(dim=1).clamp_min(values))
        return errors


def average_down(maps: Tensor, size: tuple[int, int]) -> Tensor:
    """Return N x C x H x W maps averaged down to `size`, as adaptive_avg_pool2d does.

    The gradient of that has no deterministic implementation on GPUs, and --deterministic refuses it.
    """
    for axis, count in zip((2, 3), size, strict=True):
        length = maps.shape[axis]
        windows = [(index * length // count, -(-(index + 1) * length // count)) for index in range(count)]
        maps = torch.stack([maps.narrow(axis, start, end - start).mean(axis) for start, end in windows], axis)
    return maps


def can_read(architecture: Architecture, height: int, width: int) -> bool:
    """Return whether images of that size are large enough for all convolutions."""
    try:
        with torch.device("meta"):
            Estimator(architecture, height, width)
    except RuntimeError:
        return False
    return True


# ReLU and a maximum may change places; after the pooling there is a quarter of the values.
def _paper_convolutions(height: int, width: int) -> nn.Sequential:
    padding = 0 if min(height, width) >= 25 else 1
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=padding), nn.MaxPool2d(3, 2), nn.ReLU(),
        nn.Conv2d(64, 80, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(80, 192, 3, padding=padding), nn.MaxPool2d(2, 2), nn.ReLU(),
    )  # fmt: skip


def _residual_stages() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1), nn.MaxPool2d(2), nn.ReLU(),
        _Residual(16, 32), nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()),
        _Residual(32, 64), nn.Sequential(nn.MaxPool2d(2, ceil_mode=True), nn.ReLU()),
    )  # fmt: skip


class _Residual(nn.Module):
    """A block that starts as a 1x1 convolution: its inner path ends in zeros. Its last ReLU follows the pooling."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, padding=1)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, padding=1)
        self.shortcut = nn.Conv2d(inputs, outputs, 1)
        nn.init.zeros_(self.conv2.weight)
        nn.init.zeros_(self.conv2.bias)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        maps: Tensor = self.conv2(F.relu(self.conv1(x))) + self.shortcut(x)
        return maps
