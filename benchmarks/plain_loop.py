"""SimGAN as a plain PyTorch training loop: what somebody writes first, to compare the product's speed with.

The same networks, losses, counts and settings as `simgan train` has by default, in float32 with contiguous tensors,
PyTorch's own allocator and optimizers, and a history that is a list of images. Nothing in it is slow on purpose: as in
good ports D is frozen while R learns, and R makes D's images without a graph.
"""

import copy
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.method.networks import eyes_layers
from simgan_cli.engine.method.noise import MAPS, noise_maps, normal_of
from simgan_cli.engine.method.psi import SelfRegularization
from simgan_cli.settings.train import TrainConfig


class Block(nn.Module):
    """conv, ReLU, conv, add the input, ReLU."""

    def __init__(self, width: int, **conv: object) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1, **conv)  # type: ignore[arg-type]
        self.conv2 = nn.Conv2d(width, width, 3, padding=1, **conv)  # type: ignore[arg-type]

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(x + self.conv2(torch.relu(self.conv1(x))))


class Refiner(nn.Module):
    """The default refiner for grey images: x and noise -> x + a correction."""

    def __init__(self, config: TrainConfig) -> None:
        super().__init__()
        conv = {"padding_mode": config.refiner_padding}
        width = config.refiner_width
        self.first = nn.Conv2d(1 + MAPS, width, 3, padding=1, **conv)  # type: ignore[arg-type]
        self.blocks = nn.Sequential(*(Block(width, **conv) for _ in range(config.refiner_blocks)))
        self.last = nn.Conv2d(width, 1, 1)

    def forward(self, x: Tensor) -> Tensor:
        correction: Tensor = self.last(self.blocks(torch.relu(self.first(x))))
        return x[:, :1] + correction


def discriminator() -> nn.Sequential:
    """Return the eyes discriminator for grey images."""
    layers: list[nn.Module] = []
    channels = 1
    for kind, kernel, stride, maps in eyes_layers():
        if kind == "pool":
            layers.append(nn.MaxPool2d(kernel, stride, padding=kernel // 2))
        else:
            layers += [nn.Conv2d(channels, maps, kernel, stride, padding=kernel // 2), nn.ReLU()]
            channels = maps
    return nn.Sequential(*layers, nn.Conv2d(channels, 2, 1))


def plain_iteration(
    config: TrainConfig, domains: dict[str, np.ndarray], device: torch.device
) -> Callable[[], dict[str, float]]:
    """Return one iteration of Algorithm 1 on `domains`, N x 1 x H x W uint8 by name, its history filled beforehand."""
    torch.manual_seed(0)
    rng, generator = np.random.default_rng(0), torch.Generator(device)
    b, half = config.batch_size, config.batch_size // 2
    refiner, judge = Refiner(config).to(device), discriminator().to(device)
    average = copy.deepcopy(refiner)
    betas = (config.beta1, 0.999)
    refiner_optimizer = torch.optim.Adam(refiner.parameters(), lr=config.refiner_lr, betas=betas)
    judge_optimizer = torch.optim.Adam(judge.parameters(), lr=config.discriminator_lr, betas=betas)
    regularization = SelfRegularization(config.psi, device)
    history = list(torch.rand(config.history_size, *domains["real"].shape[1:], device=device) * 2 - 1)

    def batch(name: str, count: int) -> Tensor:
        chosen = rng.choice(len(domains[name]), count, replace=count > len(domains[name]))
        return torch.from_numpy(domains[name][chosen]).to(device).float() / 127.5 - 1

    def refine(images: Tensor) -> Tensor:
        noise = noise_maps((images.shape[2], images.shape[3]), normal_of(generator, len(images)))
        refined: Tensor = refiner(torch.cat([images, noise], dim=1))
        return refined

    def loss(logits: Tensor, label: int) -> Tensor:
        return F.cross_entropy(logits, torch.full_like(logits[:, 0], label, dtype=torch.long))

    def iteration() -> dict[str, float]:
        for _ in range(config.refiner_updates):
            synthetic = batch("synthetic", b)
            judge.requires_grad_(False)
            refined = refine(synthetic)
            loss_refiner = loss(judge(refined), 0) + float(config.lambda_reg) * regularization(refined, synthetic)
            refiner_optimizer.zero_grad()
            loss_refiner.backward()
            refiner_optimizer.step()
            judge.requires_grad_(True)
            with torch.no_grad():
                for mean, parameter in zip(average.parameters(), refiner.parameters(), strict=True):
                    mean.mul_(config.ema).add_(parameter, alpha=1 - config.ema)
        for _ in range(config.discriminator_updates):
            with torch.no_grad():
                refined = refine(batch("synthetic", b - half))
            past = torch.stack([history[place] for place in rng.choice(len(history), half, replace=False)])
            loss_judge = loss(judge(torch.cat([refined, past])), 1) + loss(judge(batch("real", b)), 0)
            judge_optimizer.zero_grad()
            loss_judge.backward()  # type: ignore[no-untyped-call]
            judge_optimizer.step()
        for place, image in zip(rng.choice(len(history), half, replace=False), refined, strict=False):
            history[place] = image
        return {"loss_refiner": loss_refiner.item(), "loss_discriminator": loss_judge.item()}

    return iteration
