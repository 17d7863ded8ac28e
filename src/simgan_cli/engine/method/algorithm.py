"""The method in one file: Algorithm 1 of SimGAN, its losses and its history (Shrivastava et al., CVPR 2017).

    repeat T times:                                                                              Algorithm 1
        repeat K_g times:  x <- b synthetic images
                           theta <- theta - rate * gradient of L_R(theta)
        repeat K_d times:  x~ <- R(b/2 synthetic images) and b/2 images of the history;  y <- b real images
                           phi <- phi - rate * gradient of L_D(phi)
        b/2 random entries of the history <- images just refined

    L_R(theta) = sum_i [ l_real(theta; x_i) + lambda l_reg(theta; x_i) ]                               Eq. 1
    L_D(phi)   = - sum_i log D(x~_i) - sum_j log(1 - D(y_j))                                           Eq. 2
    l_real     = - log(1 - D(R(x_i)))                                                                  Eq. 3
    L_R(theta) = - sum_i log(1 - D(R(x_i))) + lambda sum_i |psi(R(x_i)) - psi(x_i)|                    Eq. 4

x is synthetic, y real, x~ refined; R is the refiner (weights theta), psi a feature transform. D, the discriminator
(phi), is the probability of *refined* at each patch. Sums are means here, over images and patches or features: so
lambda means the same at every image size. Where renders have labels, `task_term.py` adds a term to Eq. 4.
`examples/plain_simgan.py` is the complete method on one page of plain PyTorch.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.method.networks import Discriminator, Refiner, update_average
from simgan_cli.engine.method.noise import NoiseSource
from simgan_cli.engine.method.task_term import TaskTerm
from simgan_cli.settings.train import TrainConfig

Batches = Callable[[int], Tensor]  # count -> count x C x H x W in [-1, 1], on the training device
Network = Callable[[Tensor], Tensor]
Measures = dict[str, Tensor]


def patch_log_odds(logits: Tensor) -> Tensor:
    """Return log D - log(1 - D) of each patch, N x h x w float32, from D's N x 2 x h x w logits.

    The softmax runs over the two maps at one location (Sec. 2.2), so only their difference matters.
    """
    logits = logits.float()
    return logits[:, 1] - logits[:, 0]


def loss_if_refined(log_odds: Tensor) -> Tensor:
    """Return mean -log D over images and patches: the cross-entropy of calling them refined."""
    return F.softplus(-log_odds).mean()


def loss_if_real(log_odds: Tensor) -> Tensor:
    """Return mean -log(1 - D) over images and patches: the cross-entropy of calling them real (Eq. 3)."""
    return F.softplus(log_odds).mean()


def discriminator_loss(log_odds_refined: Tensor, log_odds_real: Tensor) -> Tensor:
    """Return L_D = -log D(x~) - log(1 - D(y)), Eq. 2."""
    return loss_if_refined(log_odds_refined) + loss_if_real(log_odds_real)


def refiner_loss(log_odds: Tensor, regularization: Tensor, lambda_reg: float) -> Tensor:
    """Return L_R = -log(1 - D(R(x))) + lambda |psi(R(x)) - psi(x)|, Eq. 4."""
    return loss_if_real(log_odds) + lambda_reg * regularization


@dataclass(eq=False)
class SimGAN:
    """Both networks and all else that a training step needs; `advance` does one."""

    config: TrainConfig  # K_g, K_d, the phases, the average's decay, the gradient's largest norm
    refiner: Refiner  # R_theta
    discriminator: Discriminator  # D_phi
    history: HistoryBuffer
    refiner_optimizer: torch.optim.Optimizer
    discriminator_optimizer: torch.optim.Optimizer
    schedule: Callable[[int], None]  # sets both rates for the iteration after so many finished steps
    regularization: Callable[[Tensor, Tensor], Tensor]  # R(x), x -> mean |psi(R(x)) - psi(x)|
    lambda_reg: float
    batch_size: int  # b, or the part of it that this process of several takes
    noise: NoiseSource | None
    autocast: Callable[[], AbstractContextManager[object]]
    average_gradients: Callable[[nn.Module], None]  # over all processes, in place
    compiled: Callable[[nn.Module], Network]  # the same network for training alone, on batches of one size
    task: TaskTerm | None = None  # where renders have labels

    def __post_init__(self) -> None:
        self._refiner, self._discriminator = self.compiled(self.refiner), self.compiled(self.discriminator)
        self.average = copy.deepcopy(self.refiner).requires_grad_(False) if self.config.ema else None

    @property
    def exported_refiner(self) -> Refiner:
        """The refiner that users get: the moving average where there is one, else the last iterate."""
        return self.average if self.average is not None else self.refiner

    def restart_noise(self, step: int = 0) -> None:
        """Start the random streams of `step`; measurements always take those of step 0."""
        if self.noise is not None:
            self.noise.restart(step)
        if self.task is not None:
            self.task.restart(step)

    def refine(self, synthetic: Tensor, refiner: Network | None = None, *, alike: bool = False) -> Tensor:
        """Return R(x), or R(x, z) with fresh noise z, of N x C x H x W images; R is in training by default."""
        inputs = synthetic if self.noise is None else self.noise.beside(synthetic, alike=alike)
        refined: Tensor = (self.refiner if refiner is None else refiner)(inputs)
        return refined

    def advance(self, step: int, synthetic: Batches, real: Batches) -> Measures:
        """Do the step after `step` finished ones, in the phase that it belongs to; return its measures."""
        b = self.batch_size
        self.restart_noise(step)
        phase = self.config.phase(step)
        if phase == "pretrain-refiner":
            return self.refiner_step(synthetic(b), adversarial=False)
        if phase == "pretrain-discriminator":
            return self.discriminator_step(synthetic(b), real(b), self.history.draw(0))[0]
        return self.iteration(step, synthetic, real)

    def iteration(self, step: int, synthetic: Batches, real: Batches) -> Measures:
        """One iteration of Algorithm 1: K_g steps on theta, K_d steps on phi, b/2 entries of history replaced."""
        b, half = self.batch_size, self.batch_size // 2
        self.schedule(step)
        for _ in range(self.config.refiner_updates):
            measures = self.refiner_step(synthetic(b))
        for _ in range(self.config.discriminator_updates):
            past = self.history.draw(half)
            # The current refiner makes the images that a buffer not yet full cannot supply.
            measures_discriminator, refined = self.discriminator_step(synthetic(b - len(past)), real(b), past)
        self.history.replace(refined[:half], step + 1)
        return measures | measures_discriminator

    def refiner_step(self, synthetic: Tensor, *, adversarial: bool = True) -> Measures:
        """One optimizer step on theta with phi fixed (Eq. 4), for b x C x H x W `synthetic` images.

        Without `adversarial` only the second term remains (pretraining).
        """
        self.discriminator.requires_grad_(False)  # saves computing gradients of phi
        with self.autocast():
            refined = self.refine(synthetic, self._refiner)
            logits = self._discriminator(refined) if adversarial else None
            task = self.task.losses(synthetic, refined) if adversarial and self.task is not None else {}
        regularization = self.regularization(refined, synthetic)
        measures = {}
        if logits is not None:
            log_odds = patch_log_odds(logits)
            loss = refiner_loss(log_odds, regularization, self.lambda_reg)
            measures["loss_adversarial"] = loss_if_real(log_odds.detach())
        else:  # pretraining has no other term, so that a lambda of 0 would train nothing
            loss = (self.lambda_reg or 1) * regularization
        self._update(self.refiner, self.refiner_optimizer, sum(task.values(), start=loss))
        if self.task is not None and task:
            self.task.step(self.average_gradients)
        self.discriminator.requires_grad_(True)
        if self.average is not None:
            update_average(self.average, self.refiner, self.config.ema)
        change = (refined.detach().float() - synthetic).abs().mean() / 2  # [-1, 1] is two units of [0, 1] wide
        measures |= {name: value.detach() for name, value in task.items()}
        return measures | {
            "loss_refiner": loss.detach(),
            "loss_regularization": regularization.detach(),
            "change": change,
        }

    def discriminator_step(self, synthetic: Tensor, real: Tensor, past: Tensor) -> tuple[Measures, Tensor]:
        """One optimizer step on phi with theta fixed (Eq. 2).

        x~ are the `synthetic` images under the current refiner and the `past` ones from history (Sec. 2.3).
        Returns the measures and the newly refined images, shaped as `synthetic`.
        """
        with torch.no_grad(), self.autocast():
            refined = self.refine(synthetic, self._refiner).float()
        fakes = torch.cat([refined, past])
        with self.autocast():  # one pass over all images: without batch norm they do not influence each other
            logits = self._discriminator(torch.cat([fakes, real]))
        log_odds = patch_log_odds(logits)
        log_odds_refined, log_odds_real = log_odds[: len(fakes)], log_odds[len(fakes) :]
        loss = discriminator_loss(log_odds_refined, log_odds_real)
        self._update(self.discriminator, self.discriminator_optimizer, loss)
        pred_refined = (log_odds_refined.detach() > 0).float()
        measures = {
            "loss_discriminator": loss.detach(),
            "accuracy_real": (log_odds_real.detach() < 0).float().mean(),
            "accuracy_refined": pred_refined[: len(refined)].mean(),
        }
        if len(past):
            measures["accuracy_history"] = pred_refined[len(refined) :].mean()
        return measures, refined

    def _update(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.average_gradients(network)
        if self.config.clip_gradient:
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_gradient)
        optimizer.step()
