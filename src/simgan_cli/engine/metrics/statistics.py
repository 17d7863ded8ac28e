"""Statistics of a refiner on a few fixed images, which rules of health need beside losses and accuracies."""

import torch
from torch import Tensor

from simgan_cli.engine.method.algorithm import Measures, SimGAN, loss_if_real, patch_log_odds
from simgan_cli.engine.method.psi import normalized

MIN_DIFFERENCE = 1e-3  # added to both sides, so that equal originals do not make a refiner look collapsed
MIN_DEVIATION = 0.15  # within an image, of pixels in [-1, 1]; dark infrared eyes have 0.10 to 0.26
MAX_UNSATURATED = 1 - 1 / 255  # beyond it a pixel of 8 bits is black or white


def refiner_statistics(gan: SimGAN, synthetic: Tensor, real: Tensor) -> Measures:
    """Measure the training refiner on `synthetic`, beside `real`, N x C x H x W in [-1, 1], N at least 2.

    `correlation` is that of R(x) with x, mean over images. `diversity` is the mean difference between refined images
    over that between their originals, tone aside, under one noise. `common_change` is the share of the change that is
    the same on all images, tone aside. `saturated` is the share of black and white pixels above that of either domain.
    `gradient_ratio` is the norm of self-regularization's gradient at R(x) over that of the adversarial loss.
    """
    gan.restart_noise()
    with torch.no_grad(), gan.autocast():
        refined = gan.refine(synthetic).float()
        alike = gan.refine(synthetic, alike=True).float() if gan.noise is not None else refined
    return {
        "correlation": _correlation(refined, synthetic),
        "diversity": diversity(alike, synthetic),
        "common_change": _common_share(_without_tone(refined, synthetic)),
        "saturated": _extreme(refined) - torch.maximum(_extreme(synthetic), _extreme(real)),
        "gradient_ratio": _gradient_ratio(gan, refined, synthetic),
    }


def _extreme(images: Tensor) -> Tensor:
    return (images.abs() > MAX_UNSATURATED).float().mean()


def _correlation(a: Tensor, b: Tensor) -> Tensor:
    a, b = (images.flatten(1) - images.flatten(1).mean(1, keepdim=True) for images in (a, b))
    correlations: Tensor = (a * b).sum(1) / (a.norm(dim=1) * b.norm(dim=1)).clamp_min(1e-6)
    return correlations.mean()


def diversity(refined: Tensor, synthetic: Tensor) -> Tensor:
    """Return the mean difference between refined images over that between their originals, tone aside, a scalar."""
    return (_spread(refined) + MIN_DIFFERENCE) / (_spread(synthetic) + MIN_DIFFERENCE)


def _spread(images: Tensor) -> Tensor:
    """Return the mean absolute difference of neighbours in the batch; the last one's neighbour is the first.

    Images are normalized by their own mean and deviation: a dark target gives smaller differences, not less variety.
    Below MIN_DEVIATION an image does become blank.
    """
    toned = normalized(images, MIN_DEVIATION)
    return (toned - toned.roll(1, 0)).abs().mean()


def _without_tone(refined: Tensor, synthetic: Tensor) -> Tensor:
    """Return the residual of R(x) from the best a x + b for all pixels."""
    x, y = synthetic - synthetic.mean(), refined - refined.mean()
    return y - (x * y).sum() / x.square().sum().clamp_min(1e-12) * x


def _common_share(change: Tensor) -> Tensor:
    return change.mean(0).square().sum() / change.square().sum(dim=(1, 2, 3)).mean().clamp_min(1e-12)


def _gradient_ratio(gan: SimGAN, refined: Tensor, synthetic: Tensor) -> Tensor:
    at = refined.detach().requires_grad_()
    gan.discriminator.requires_grad_(False)
    with gan.autocast():
        logits = gan.discriminator(at)
    gan.discriminator.requires_grad_(True)
    (loss_adv,) = torch.autograd.grad(loss_if_real(patch_log_odds(logits)), at)
    (grad_reg,) = torch.autograd.grad(gan.lambda_reg * gan.regularization(at, synthetic), at)
    ratio: Tensor = grad_reg.norm() / loss_adv.norm().clamp_min(1e-12)
    return ratio.clamp_max(1e9)  # JSON has no infinity
