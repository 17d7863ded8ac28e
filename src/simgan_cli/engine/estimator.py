"""Networks that read gaze or the pupil's centre off an eye image: the paper's, and a small residual one."""

from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

Architecture = Literal["cnn", "cnn-full", "resnet"]
# Gaze is normalised, so that its head may be of any scale; an unbounded point needs small steps to settle.
PUPIL_SCALE = 0.1
LARGEST_MAP = (5, 10)  # of the last convolution at 35 x 55; larger images are averaged down to it


class Estimator(nn.Module):
    """N x 1 x H x W in [-1, 1] -> gaze, unit vectors N x 3, or the pupil's centre N x 2 in fractions of W and H.

    "cnn" is the gaze network of the paper (Sec. 3.1): five convolutions without padding, whose 9600 last values at
    35 x 55 are what it calls FC9600; "cnn-full" reads FC9600 as a layer of its own (92 million weights more). Images
    too small for that are padded. "resnet" is a small residual network (He et al., CVPR 2016).
    """

    def __init__(
        self, architecture: Architecture = "cnn", height: int = 35, width: int = 55, target: str = "gaze"
    ) -> None:
        super().__init__()
        if target not in ("gaze", "pupil"):
            raise ValueError(f"target {target!r}")
        self.settings: dict[str, Any] = {
            "architecture": architecture, "height": height, "width": width, "target": target,
        }  # fmt: skip
        self.convolutions = _residual_stages() if architecture == "resnet" else _paper_convolutions(height, width)
        with torch.no_grad():
            maps = self.convolutions(torch.zeros(2, 1, height, width))
        self._map = (min(maps.shape[2], LARGEST_MAP[0]), min(maps.shape[3], LARGEST_MAP[1]))
        flat = maps.shape[1] * self._map[0] * self._map[1]
        outputs = 3 if target == "gaze" else 2
        hidden = {"cnn": [1000], "cnn-full": [9600, 1000], "resnet": []}[architecture]
        sizes = [flat, *hidden]
        layers = [layer for a, b in zip(sizes, hidden, strict=False) for layer in (nn.Linear(a, b), nn.ReLU())]
        self.head = nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))

    def features(self, x: Tensor) -> Tensor:
        """Return the maps of the last convolution: what self-regularization compares (psi of Eq. 4)."""
        maps: Tensor = self.convolutions(x)
        return maps

    def forward(self, x: Tensor) -> Tensor:
        maps = F.adaptive_avg_pool2d(self.features(x).float(), self._map)
        with torch.autocast(x.device.type, enabled=False):  # three digits are too few for an angle
            output: Tensor = self.head(maps.flatten(1))
        return F.normalize(output) if self.settings["target"] == "gaze" else 0.5 + PUPIL_SCALE * output


def _paper_convolutions(height: int, width: int) -> nn.Sequential:
    padding = 0 if min(height, width) >= 25 else 1
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(32, 32, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(32, 64, 3, padding=padding), nn.ReLU(),
        nn.MaxPool2d(3, 2),
        nn.Conv2d(64, 80, 3, padding=padding), nn.ReLU(),
        nn.Conv2d(80, 192, 3, padding=padding), nn.ReLU(),
        nn.MaxPool2d(2, 2),
    )  # fmt: skip


def _residual_stages() -> nn.Sequential:
    stem = [nn.Conv2d(1, 32, 3, stride=2, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU()]
    return nn.Sequential(*stem, _Residual(32, 32, 1), _Residual(32, 64, 2), _Residual(64, 128, 2))


class _Residual(nn.Module):
    def __init__(self, inputs: int, outputs: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
        self.norm1 = nn.BatchNorm2d(outputs)
        self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
        self.norm2 = nn.BatchNorm2d(outputs)
        self.shortcut = nn.Identity() if inputs == outputs else nn.Conv2d(inputs, outputs, 1, stride)

    def forward(self, x: Tensor) -> Tensor:
        inner = self.norm2(self.conv2(F.relu(self.norm1(self.conv1(x)))))
        return F.relu(inner + self.shortcut(x))
