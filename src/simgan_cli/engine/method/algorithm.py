"""SimGAN: the two losses, the mini-batch that mixes in history, and Algorithm 1 (Shrivastava et al., CVPR 2017).

Names are the paper's: x synthetic, y real, R refiner, D discriminator (class 1 = refined), psi the feature transform.
All losses are means, over images and patches or pixels, so that lambda means the same at every image size.
"""

import copy
from collections.abc import Callable
from contextlib import AbstractContextManager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from simgan_cli.engine.method.history import HistoryBuffer
from simgan_cli.engine.method.networks import Discriminator, Refiner
from simgan_cli.engine.method.noise import NoiseSource
from simgan_cli.engine.method.psi import SelfRegularization
from simgan_cli.engine.runtime.device import stream_number
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.settings.train import LAMBDA_START, TrainConfig

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
    """Return mean -log D over images and patches: the cross-entropy of calling them refined (Eq. 2, first sum)."""
    return F.softplus(-log_odds).mean()


def loss_if_real(log_odds: Tensor) -> Tensor:
    """Return mean -log(1 - D): the cross-entropy of calling them real (Eq. 2, second sum; Eq. 4, first term)."""
    return F.softplus(log_odds).mean()


class SimGAN:
    """Both networks, their optimizers, the moving average and the history, and one method for each kind of step.

    Each of several `ranks` does this to its part of every mini-batch with a history of its own; gradients are averaged.
    `compiled` returns a network that computes the same from the same weights, for training alone.
    """

    def __init__(
        self,
        config: TrainConfig,
        refiner: Refiner,
        discriminator: Discriminator,
        history: HistoryBuffer | None,
        autocast: Callable[[], AbstractContextManager[object]],
        ranks: Ranks = SINGLE,
        compiled: Callable[[nn.Module], Network] = lambda network: network,
    ) -> None:
        self.config = config
        self.ranks = ranks
        self.batch_size = config.batch_size // ranks.count
        self.refiner = refiner
        self.discriminator = discriminator
        self.history = history
        self.autocast = autocast
        device = next(refiner.parameters()).device
        noisy = refiner.settings["noise"]
        self.noise = NoiseSource((config.seed, stream_number("noise"), ranks.rank), device) if noisy else None
        self.lambda_reg = LAMBDA_START if config.lambda_reg == "auto" else config.lambda_reg
        self.regularization = SelfRegularization(config.psi, device)
        self.refiner_optimizer = self._optimizer(refiner, config.refiner_lr)
        self.discriminator_optimizer = self._optimizer(discriminator, config.discriminator_lr)
        # The same networks as training runs them; whatever looks on from outside comes with other batch sizes.
        self._refiner, self._discriminator = compiled(refiner), compiled(discriminator)
        self.average = copy.deepcopy(refiner).requires_grad_(False) if config.ema else None

    @property
    def exported_refiner(self) -> Refiner:
        """The refiner that users get: the moving average where there is one, else the last iterate."""
        return self.average if self.average is not None else self.refiner

    def restart_noise(self, step: int = 0) -> None:
        """Begin the noise of `step`; what looks on from outside takes that of step 0, the same each time."""
        if self.noise is not None:
            self.noise.restart(step)

    def refine(self, synthetic: Tensor, refiner: Network | None = None, *, alike: bool = False) -> Tensor:
        """Return R(x), or R(x, z) with fresh noise z, of N x C x H x W images; R is in training by default."""
        seen = synthetic if self.noise is None else self.noise.beside(synthetic, alike=alike)
        refined: Tensor = (self.refiner if refiner is None else refiner)(seen)
        return refined

    def step(self, step: int, synthetic: Batches, real: Batches) -> Measures:
        """Do the step after `step` finished ones, in whatever phase it belongs to; return its measures."""
        b = self.batch_size
        self.restart_noise(step)
        phase = self.config.phase(step)
        if phase == "pretrain-refiner":
            return self.refiner_step(synthetic(b), adversarial=False)
        if phase == "pretrain-discriminator":
            return self.discriminator_step(synthetic(b), real(b))[0]
        return self.iteration(step, synthetic, real)

    def iteration(self, step: int, synthetic: Batches, real: Batches) -> Measures:
        """One iteration t of Algorithm 1: K_g steps on theta, K_d steps on phi, b/2 entries of history replaced."""
        config, history = self.config, self.history
        b, half = self.batch_size, self.batch_size // 2
        self._schedule_rates(step)
        for _ in range(config.refiner_updates):
            measures = self.refiner_step(synthetic(b))
        for _ in range(config.discriminator_updates):
            # Half the refined images come from history; what it cannot supply yet, from the current refiner.
            past = history.draw(half) if history else None
            current = b - (len(past) if past is not None else 0)
            seen, refined = self.discriminator_step(synthetic(current), real(b), past)
        if history:
            history.replace(refined[:half], step + 1)
        return measures | seen

    def refiner_step(self, synthetic: Tensor, *, adversarial: bool = True) -> Measures:
        """One optimizer step on theta with phi fixed: L_R = -log(1 - D(R(x))) + lambda |psi(R(x)) - psi(x)| (Eq. 4).

        `synthetic` is b x C x H x W. Without `adversarial` only the second term remains (pretraining).
        """
        self.discriminator.requires_grad_(False)  # no gradient of phi is computed, let alone applied
        with self.autocast():
            refined = self.refine(synthetic, self._refiner)
            logits = self._discriminator(refined) if adversarial else None
        regularization = self.regularization(refined, synthetic)
        loss = self.lambda_reg * regularization
        measures = {}
        if logits is not None:
            loss_adv = loss_if_real(patch_log_odds(logits))
            loss = loss + loss_adv
            measures["loss_adversarial"] = loss_adv.detach()
        elif self.lambda_reg == 0:
            loss = regularization  # pretraining has no other term to weigh it against
        self._update(self.refiner, self.refiner_optimizer, loss)
        self.discriminator.requires_grad_(True)
        if self.average is not None:
            with torch.no_grad():
                torch._foreach_lerp_(
                    list(self.average.parameters()), list(self.refiner.parameters()), 1 - self.config.ema
                )
        change = (refined.detach().float() - synthetic).abs().mean() / 2  # [-1, 1] is two units of [0, 1] wide
        return measures | {
            "loss_refiner": loss.detach(),
            "loss_regularization": regularization.detach(),
            "change": change,
        }

    def discriminator_step(
        self, synthetic: Tensor, real: Tensor, past: Tensor | None = None
    ) -> tuple[Measures, Tensor]:
        """One optimizer step on phi with theta fixed: L_D = -log D(x~) - log(1 - D(y)) (Eq. 2).

        x~ are the `synthetic` images under the current refiner and the `past` ones from history (Sec. 2.3).
        Returns the measures and the newly refined images, shaped as `synthetic`.
        """
        with torch.no_grad(), self.autocast():
            refined = self.refine(synthetic, self._refiner).float()
        fakes = refined if past is None else torch.cat([refined, past])
        with self.autocast():  # one pass over all images: D has no batch norm, so they cannot influence each other
            logits = self._discriminator(torch.cat([fakes, real]))
        log_odds = patch_log_odds(logits)
        log_odds_refined, log_odds_real = log_odds[: len(fakes)], log_odds[len(fakes) :]
        loss = loss_if_refined(log_odds_refined) + loss_if_real(log_odds_real)
        self._update(self.discriminator, self.discriminator_optimizer, loss)
        pred_refined = (log_odds_refined.detach() > 0).float()
        measures = {
            "loss_discriminator": loss.detach(),
            "accuracy_real": (log_odds_real.detach() < 0).float().mean(),
            "accuracy_refined": pred_refined[: len(refined)].mean(),
        }
        if past is not None and len(past):
            measures["accuracy_history"] = pred_refined[len(refined) :].mean()
        return measures, refined

    def _update(self, network: nn.Module, optimizer: torch.optim.Optimizer, loss: Tensor) -> None:
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.ranks.average_gradients(network)
        if self.config.clip_gradient:
            torch.nn.utils.clip_grad_norm_(network.parameters(), self.config.clip_gradient)
        optimizer.step()

    def _optimizer(self, network: nn.Module, rate: float) -> torch.optim.Optimizer:
        if self.config.optimizer == "sgd":
            return torch.optim.SGD(network.parameters(), lr=rate)
        return torch.optim.Adam(network.parameters(), lr=rate, betas=(self.config.beta1, 0.999), fused=True)

    def _schedule_rates(self, step: int) -> None:
        dropped = 0 < self.config.lr_drop_step <= step - self.config.pretraining_steps
        for optimizer, rate in (
            (self.refiner_optimizer, self.config.refiner_lr),
            (self.discriminator_optimizer, self.config.discriminator_lr),
        ):
            optimizer.param_groups[0]["lr"] = rate / 4 if dropped else rate
