"""Variants that the product leaves out: another adversarial loss, another regularization of the discriminator, or
another share of history in its mini-batches.

    python -m benchmarks.efficacy.variants hinge train --synthetic DIR --real DIR --out RUN
    python -m benchmarks.efficacy.efficacy --data DATA --work WORK --recipe variant=hinge --recipe variant=r1

Everything else is the product's own code: a variant is a `SimGAN` with a method or two of its own. s is the log odds of
*refined* at a patch, the difference of D's two maps.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from unittest.mock import patch

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm

from simgan_cli.cli import app
from simgan_cli.engine.method import algorithm
from simgan_cli.engine.method.algorithm import SimGAN, patch_log_odds
from simgan_cli.engine.training import build

Loss = Callable[[Tensor], Tensor]
R1_WEIGHT = 1.0  # gamma
SMOOTH = 0.9  # D's target for real images
GRAIN = 0.1  # standard deviation of the noise on D's input, for pixels in [-1, 1]


@contextmanager
def losses(if_refined: Loss, if_real: Loss) -> Iterator[None]:
    """Replace the two losses of `algorithm` within the block."""
    with patch.object(algorithm, "loss_if_refined", if_refined), patch.object(algorithm, "loss_if_real", if_real):
        yield


class LeastSquares(SimGAN):
    """Least squares (Mao et al., ICCV 2017) with targets 1 for refined and -1 for real."""

    def advance(self, *arguments: Any) -> algorithm.Measures:
        """Step with (s - 1)^2 / 2 and (s + 1)^2 / 2."""
        with losses(lambda s: (s - 1).square().mean() / 2, lambda s: (s + 1).square().mean() / 2):
            return super().advance(*arguments)


class Hinge(SimGAN):
    """Hinge for D, and s itself for R (Lim and Ye 2017; Miyato et al., ICLR 2018)."""

    def refiner_step(self, synthetic: Tensor, *, adversarial: bool = True) -> algorithm.Measures:
        """Lower the mean of s."""
        with losses(algorithm.loss_if_refined, lambda s: s.mean()):
            return super().refiner_step(synthetic, adversarial=adversarial)

    def discriminator_step(self, *arguments: Any) -> tuple[algorithm.Measures, Tensor]:
        """Step with max(0, 1 - s) for refined and max(0, 1 + s) for real patches."""
        with losses(lambda s: F.relu(1 - s).mean(), lambda s: F.relu(1 + s).mean()):
            return super().discriminator_step(*arguments)


class LabelSmoothing(SimGAN):
    """One-sided label smoothing (Salimans et al., NeurIPS 2016): real images are real to D by 0.9."""

    def discriminator_step(self, *arguments: Any) -> tuple[algorithm.Measures, Tensor]:
        """Step with a tenth of the other answer's cross-entropy for real patches."""

        def if_real(s: Tensor) -> Tensor:
            return (SMOOTH * F.softplus(s) + (1 - SMOOTH) * F.softplus(-s)).mean()

        with losses(algorithm.loss_if_refined, if_real):
            return super().discriminator_step(*arguments)


class R1(SimGAN):
    """A penalty on D's gradient at real images (Mescheder et al., ICML 2018, R1), with s summed over patches."""

    def discriminator_step(self, synthetic: Tensor, real: Tensor, past: Tensor) -> tuple[algorithm.Measures, Tensor]:
        """Keep the real images for the penalty."""
        self.real = real
        return super().discriminator_step(synthetic, real, past)

    def _update(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        if network is self.discriminator:
            loss = loss + R1_WEIGHT / 2 * penalty(network, self.real)
        super()._update(network, optimizer, loss)


def penalty(discriminator: nn.Module, real: Tensor) -> Tensor:
    """Return the squared norm of the gradient of s, summed over patches, by an image; mean over images and patches."""
    seen = real.detach().requires_grad_()
    odds = patch_log_odds(discriminator(seen))
    (gradient,) = torch.autograd.grad(odds.sum(), seen, create_graph=True)
    return gradient.square().sum() / odds.numel()


class SeenThrough(SimGAN):
    """D gets every image, refined or real, through `seen`, at both kinds of step; chance restarts at each step."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.chance = torch.Generator(next(self.discriminator.parameters()).device)
        discriminator = self._discriminator
        self._discriminator = lambda images: discriminator(self.seen(images))

    def restart_noise(self, step: int = 0) -> None:
        """Restart the random stream of `step`, too, so that a training follows from its seed and can be resumed."""
        super().restart_noise(step)
        self.chance.manual_seed(int(np.random.SeedSequence([self.config.seed, step]).generate_state(1)[0]))

    def seen(self, images: Tensor) -> Tensor:
        """Return N x C x H x W images as the input of D."""
        raise NotImplementedError


class InstanceNoise(SeenThrough):
    """Noise on D's input (Sonderby et al., ICLR 2017)."""

    def seen(self, images: Tensor) -> Tensor:
        """Add grain."""
        grain = torch.randn(images.shape, generator=self.chance, device=images.device, dtype=images.dtype)
        return images + GRAIN * grain


class DiffAugment(SeenThrough):
    """Brightness, contrast and translation at random on D's input (Zhao et al., NeurIPS 2020)."""

    def seen(self, images: Tensor) -> Tensor:
        """Shift brightness by up to 0.5, scale contrast by 0.5 to 1.5, move by up to an eighth."""
        draws = torch.rand(4, len(images), generator=self.chance, device=images.device)
        brightness, contrast = draws[:2, :, None, None, None].to(images.dtype)
        mean = images.mean(dim=(1, 2, 3), keepdim=True)
        images = (images - mean) * (0.5 + contrast) + mean + brightness - 0.5
        shift = (draws[2:].T - 0.5) / 2  # an image is 2 wide and high
        identity = torch.eye(2, device=images.device).expand(len(images), 2, 2)
        grid = F.affine_grid(torch.cat([identity, shift[..., None]], dim=2), list(images.shape), align_corners=False)
        return F.grid_sample(images.float(), grid, padding_mode="border", align_corners=False).to(images.dtype)


class SpectralNorm(SimGAN):
    """Spectral normalisation of each convolution of D (Miyato et al., ICLR 2018)."""

    def __post_init__(self) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.config.seed)
            for module in [module for module in self.discriminator.modules() if isinstance(module, nn.Conv2d)]:
                spectral_norm(module)
        self.discriminator.eval()
        super().__post_init__()

    def advance(self, *arguments: Any) -> algorithm.Measures:
        """Step; passes through D improve its estimate of the norms in steps alone, not in measurements."""
        self.discriminator.train()
        measures = super().advance(*arguments)
        self.discriminator.eval()
        return measures


class HistoryShare(SimGAN):
    """Another share of history in D's mini-batches than the half of Sec. 2.3."""

    share: float

    def iteration(self, *arguments: Any) -> algorithm.Measures:
        """Iterate with `share` of the refined images from history, where it has that many."""
        draw, count = self.history.draw, min(self.batch_size - 1, max(1, round(self.batch_size * self.share)))
        with patch.object(self.history, "draw", lambda half: draw(count)):
            return super().iteration(*arguments)


class HistoryQuarter(HistoryShare):
    """A quarter of history."""

    share = 1 / 4


class HistoryThreeQuarters(HistoryShare):
    """Three quarters of history; the refined quarter replaces images of it."""

    share = 3 / 4


VARIANTS: dict[str, type[SimGAN]] = {
    "least-squares": LeastSquares,
    "hinge": Hinge,
    "label-smoothing": LabelSmoothing,
    "r1": R1,
    "spectral-norm": SpectralNorm,
    "instance-noise": InstanceNoise,
    "diffaugment": DiffAugment,
    "history-quarter": HistoryQuarter,
    "history-three-quarters": HistoryThreeQuarters,
}


def main() -> None:
    """Run `simgan` with the variant named first."""
    if len(sys.argv) < 3 or sys.argv[1] not in VARIANTS:
        raise SystemExit(f"{__doc__}\nvariants: {', '.join(VARIANTS)}")
    with patch.object(build, "SimGAN", VARIANTS[sys.argv.pop(1)]):
        app.main()


if __name__ == "__main__":
    main()
