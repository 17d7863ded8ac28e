"""SimGAN (Shrivastava et al., CVPR 2017) in plain PyTorch, for grey images of 35x55 without labels.

Settings are the defaults of `simgan train`, but for its second discriminator, of half the size.

    python examples/plain_simgan.py SYNTHETIC REAL SHEET.png [ITERATIONS]    # folders of PNGs; writes x above R(x)

Equations and sections are the paper's. Comments at the ends of lines are shapes: N images, w maps of the refiner.
"""

import copy
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

SIZE, REAL, REFINED = (35, 55), 0, 1  # height and width; classes of D
LAMBDA, K_G, K_D = 1.0, 2, 1
RATE_R, RATE_D, BETAS, EMA = 5e-4, 1e-3, (0.5, 0.999), 0.995  # Adam, and a moving average of R
conv3x3 = partial(nn.Conv2d, kernel_size=3, padding=1, padding_mode="replicate")


class Block(nn.Module):
    def __init__(self, w: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = conv3x3(w, w), conv3x3(w, w)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))  # N x w x 35 x 55


class Refiner(nn.Module):
    """R(x, z) = x + a correction, at first zero; no striding or pooling, so that labels stay true (Sec. 2.1, 3.1)."""

    def __init__(self, w: int) -> None:
        super().__init__()
        self.first, self.blocks, self.last = conv3x3(1 + 3, w), nn.Sequential(*map(Block, [w] * 4)), nn.Conv2d(w, 1, 1)
        self.last.load_state_dict({"weight": torch.zeros(1, w, 1, 1), "bias": torch.zeros(1)})

    def forward(self, x: Tensor, z: Tensor) -> Tensor:
        maps = self.blocks(torch.relu(self.first(torch.cat([x, z], dim=1))))  # N x w x 35 x 55
        return torch.add(x, self.last(maps))  # N x 1 x 35 x 55


def discriminator() -> nn.Sequential:
    """Return D, which separates real from refined at each patch (Sec. 2.2, 3.1)."""
    return nn.Sequential(
        nn.Conv2d(1, 96, 3, 2, padding=1), nn.ReLU(),  # N x 96 x 18 x 28
        nn.Conv2d(96, 64, 3, 2, padding=1), nn.ReLU(),  # N x 64 x 9 x 14
        nn.MaxPool2d(3, 1, padding=1),  # N x 64 x 9 x 14
        nn.Conv2d(64, 32, 3, padding=1), nn.ReLU(),  # N x 32 x 9 x 14
        nn.Conv2d(32, 32, 1), nn.ReLU(),  # N x 32 x 9 x 14
        nn.Conv2d(32, 2, 1),  # N x 2 x 9 x 14 logits
    )  # fmt: skip


def noise(n: int, generator: torch.Generator) -> Tensor:
    """Return z: normal values for each pixel, each neighbourhood of 9 pixels, and the complete image."""
    sizes = SIZE, (1, 1), (round(SIZE[0] / 9) + 1, round(SIZE[1] / 9) + 1)
    fine, image, cells = (torch.randn((n, 1, *s), generator=generator, device=generator.device) for s in sizes)
    coarse = F.interpolate(cells, SIZE, mode="bilinear", align_corners=True)  # N x 1 x 35 x 55
    return torch.cat([fine, coarse, image.expand_as(fine)], dim=1)  # N x 3 x 35 x 55


def psi(x: Tensor) -> Tensor:
    """Return each image less its mean, over its deviation: the features that the refiner must keep."""
    centred = x - x.mean((1, 2, 3), keepdim=True)  # N x 1 x 35 x 55
    return centred / (centred.square().mean((1, 2, 3), keepdim=True) + 0.05**2).sqrt()


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    return F.cross_entropy(logits, torch.full_like(logits[:, 0], label, dtype=torch.long))  # mean over N x 9 x 14


class SimGAN:
    def __init__(self, w: int = 16, b: int = 32, capacity: int = 3200, device: str | torch.device = "cpu") -> None:
        self.b, self.capacity, self.history = b, capacity, list[Tensor]()  # of 1 x 35 x 55
        self.rng, self.generator = np.random.default_rng(0), torch.Generator(device)
        self.refiner, self.discriminator = Refiner(w).to(device), discriminator().to(device)
        self.average = copy.deepcopy(self.refiner)
        self.refiner_optimizer = torch.optim.Adam(self.refiner.parameters(), RATE_R, BETAS)
        self.discriminator_optimizer = torch.optim.Adam(self.discriminator.parameters(), RATE_D, BETAS)

    def iteration(self, synthetic: Callable[[int], Tensor], real: Callable[[int], Tensor]) -> tuple[float, float]:
        """Do one iteration of Algorithm 1 on mini-batches, N x 1 x 35 x 55 in [-1, 1]; return L_R and L_D."""
        b, half, theta = self.b, self.b // 2, list(self.refiner.parameters())
        for _ in range(K_G):
            x = synthetic(b)  # b x 1 x 35 x 55
            refined = self.refiner(x, noise(b, self.generator))
            fooling = cross_entropy(self.discriminator(refined), REAL)  # -log(1 - D(R(x))), Eq. 3
            loss_r = fooling + LAMBDA * (psi(refined) - psi(x)).abs().mean()  # Eq. 4
            self.refiner_optimizer.zero_grad()
            loss_r.backward(inputs=theta)  # type: ignore[no-untyped-call]  # phi is fixed
            self.refiner_optimizer.step()
            for mean, parameter in zip(self.average.parameters(), theta, strict=True):
                mean.data.lerp_(parameter.data, 1 - EMA)
        for _ in range(K_D):
            chosen = self.rng.choice(len(self.history), min(half, len(self.history)), replace=False)
            x = synthetic(b - len(chosen))  # b/2 x 1 x 35 x 55, more while history has fewer than b/2 (Sec. 2.3)
            with torch.no_grad():
                refined = self.refiner(x, noise(len(x), self.generator))
            fakes = torch.cat([refined, *(self.history[place][None] for place in chosen)])  # b x 1 x 35 x 55
            logits, logits_real = self.discriminator(fakes), self.discriminator(real(b))  # b x 2 x 9 x 14
            loss_d = cross_entropy(logits, REFINED) + cross_entropy(logits_real, REAL)  # Eq. 2
            self.discriminator_optimizer.zero_grad()
            loss_d.backward()  # type: ignore[no-untyped-call]
            self.discriminator_optimizer.step()
        is_full = len(self.history) == self.capacity  # a multiple of b/2
        replaced = set(self.rng.choice(self.capacity, half, replace=False)) if is_full else ()
        self.history = [image for place, image in enumerate(self.history) if place not in replaced] + [*refined[:half]]
        return loss_r.item(), loss_d.item()


def images_of(folder: str) -> Callable[[int], Tensor]:
    files = sorted(Path(folder).rglob("*.png"))
    pixels = np.stack([np.asarray(Image.open(file).convert("L").resize(SIZE[::-1])) for file in files])
    return lambda n: torch.from_numpy(pixels[np.random.choice(len(pixels), n)])[:, None] / 127.5 - 1


if __name__ == "__main__":
    gan, synthetic, real = SimGAN(), images_of(sys.argv[1]), images_of(sys.argv[2])
    for step in range(int(sys.argv[4]) if len(sys.argv) > 4 else 2000):
        print(step, *gan.iteration(synthetic, real))
    x = synthetic(8)
    sheet = torch.cat([x, gan.average(x, noise(8, gan.generator)).detach()], dim=2).clamp(-1, 1)  # 8 x 1 x 70 x 55
    Image.fromarray(((torch.hstack([*sheet[:, 0]]) + 1) * 127.5).byte().numpy()).save(sys.argv[3])
