"""Algorithm 1: one iteration by hand, who learns in which step, and the shares of history."""

from collections.abc import Callable
from typing import Any
from unittest.mock import patch

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from simgan_cli.engine.method.algorithm import Network, SimGAN
from simgan_cli.engine.method.history_buffer import HistoryBuffer
from simgan_cli.engine.method.networks import Discriminator, Refiner
from simgan_cli.engine.runtime.ranks import SINGLE, Ranks
from simgan_cli.engine.training import build
from simgan_cli.settings.train import TrainConfig

SHAPE = (1, 6, 9)


def tiny_config(**settings: Any) -> TrainConfig:
    plain = {
        "synthetic": "a", "real": "b", "batch_size": 5, "history_size": 8, "pretrain_discriminator": 0,
        "refiner_updates": 1, "optimizer": "sgd", "refiner_lr": 0.1, "discriminator_lr": 0.2, "ema": 0.0, "lambda": 0.7,
        "psi": "identity", "noise": False, "precision": "fp32",
    }  # fmt: skip
    return TrainConfig.model_validate(plain | settings)


def tiny_gan(
    config: TrainConfig,
    compiled: Callable[[nn.Module], Network] = lambda network: network,
    ranks: Ranks = SINGLE,
    kind: type[SimGAN] = SimGAN,
) -> SimGAN:
    torch.manual_seed(5)
    history = HistoryBuffer(config.history_size, SHAPE, np.random.default_rng(1), torch.device("cpu"))
    refiner = Refiner(width=3, blocks=1, output="tanh", noise=config.noise)
    discriminator = Discriminator([("conv", 3, 2, 4), ("pool", 3, 1, 4), ("conv", 1, 1, 3)])
    with patch.object(build, "SimGAN", kind):  # as benchmarks/variants.py puts in a variant
        return build.build_gan(config, refiner, discriminator, history, config.rates(1), ranks, compiled)


class Images:
    """Counts draws and keeps the last batch."""

    def __init__(self, seed: int, shape: tuple[int, int, int] = SHAPE) -> None:
        self.generator, self.shape = torch.Generator().manual_seed(seed), shape
        self.batches: list[Tensor] = []

    def __call__(self, count: int) -> Tensor:
        self.batches.append(torch.rand(count, *self.shape, generator=self.generator) * 2 - 1)
        return self.batches[-1]


def copy_of(network: nn.Module) -> list[Tensor]:
    return [parameter.detach().clone() for parameter in network.parameters()]


def unchanged(network: nn.Module, before: list[Tensor]) -> bool:
    return all(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))


def changed_everywhere(network: nn.Module, before: list[Tensor]) -> bool:
    return not any(torch.equal(now, then) for now, then in zip(network.parameters(), before, strict=True))


def cross_entropy(logits: Tensor, label: int) -> Tensor:
    """The mean over images and patches of -log softmax, in another form than in the product."""
    probabilities = logits.exp() / logits.exp().sum(dim=1, keepdim=True)
    return -probabilities[:, label].log().mean()


def stepped(network: nn.Module, loss: Tensor, rate: float) -> list[Tensor]:
    gradients = torch.autograd.grad(loss, list(network.parameters()))
    return [(p - rate * g).detach() for p, g in zip(network.parameters(), gradients, strict=True)]


def assert_weights(network: nn.Module, expected: list[Tensor]) -> None:
    for now, wanted in zip(network.parameters(), expected, strict=True):
        torch.testing.assert_close(now.detach(), wanted, rtol=1e-5, atol=1e-7)


def test_one_iteration_is_the_step_worked_out_by_hand() -> None:
    config, synthetic, real = tiny_config(), Images(1), Images(2)
    gan, twin = tiny_gan(config), tiny_gan(config)
    past = torch.rand(8, *SHAPE) * 2 - 1
    for each in (gan, twin):
        each.history.replace(past, 0)
    gan.iteration(0, synthetic, real)
    x_refiner, x_discriminator = synthetic.batches
    (y,) = real.batches

    refined = twin.refiner(x_refiner)  # Eq. 4
    loss = cross_entropy(twin.discriminator(refined), 0) + 0.7 * (refined - x_refiner).abs().mean()
    theta = stepped(twin.refiner, loss, 0.1)
    assert_weights(gan.refiner, theta)

    with torch.no_grad():  # Eq. 2, with the theta just found
        for parameter, value in zip(twin.refiner.parameters(), theta, strict=True):
            parameter.copy_(value)
        new = twin.refiner(x_discriminator)
        fakes = torch.cat([new, twin.history.draw(2)])  # 5 // 2 from history, 3 from the current refiner
    loss = cross_entropy(twin.discriminator(fakes), 1) + cross_entropy(twin.discriminator(y), 0)
    assert_weights(gan.discriminator, stepped(twin.discriminator, loss, 0.2))

    twin.history.replace(new[:2], 1)
    torch.testing.assert_close(gan.history.images, twin.history.images)
    assert gan.history.made_at.tolist() == twin.history.made_at.tolist()


def test_the_refiners_step_leaves_phi_and_changes_every_theta() -> None:
    gan = tiny_gan(tiny_config())
    theta, phi = copy_of(gan.refiner), copy_of(gan.discriminator)
    gan.refiner_step(Images(1)(5))
    assert unchanged(gan.discriminator, phi)
    assert changed_everywhere(gan.refiner, theta)
    assert all(parameter.requires_grad and parameter.grad is None for parameter in gan.discriminator.parameters())


def test_the_discriminators_step_leaves_theta_and_changes_every_phi() -> None:
    gan = tiny_gan(tiny_config())
    theta, phi = copy_of(gan.refiner), copy_of(gan.discriminator)
    gan.discriminator_step(Images(1)(5), Images(2)(5), Images(3)(0))
    assert unchanged(gan.refiner, theta)
    # A common bias of both classes cancels in the last layer alone, where its gradients are opposite.
    assert changed_everywhere(gan.discriminator, phi)


@pytest.mark.parametrize(("batch", "size"), [(5, 8), (4, 3), (6, 3), (2, 1)])
def test_half_of_a_batch_comes_from_history_as_far_as_it_is_filled(batch: int, size: int) -> None:
    gan, synthetic = tiny_gan(tiny_config(batch_size=batch, history_size=size)), Images(1)
    filled = 0
    for step in range(6):
        gan.iteration(step, synthetic, Images(2))
        from_history = min(batch // 2, filled)
        assert len(synthetic.batches[-1]) == batch - from_history
        filled = min(size, filled + batch // 2)
        assert gan.history.filled == filled
    assert gan.history.made_at.max() == 6


def test_without_history_every_refined_image_is_current() -> None:
    gan, synthetic = tiny_gan(tiny_config(history_size=0)), Images(1)
    measures = gan.iteration(0, synthetic, Images(2))
    assert [len(batch) for batch in synthetic.batches] == [5, 5]
    assert "accuracy_history" not in measures


def test_k_g_and_k_d_count_the_updates_and_history_is_replaced_once() -> None:
    gan = tiny_gan(tiny_config(refiner_updates=3, discriminator_updates=2))
    synthetic, real = Images(1), Images(2)
    gan.iteration(0, synthetic, real)
    assert len(synthetic.batches) == 5
    assert len(real.batches) == 2
    assert gan.history.filled == 2


def test_the_phases_train_one_network_each_and_leave_history_empty() -> None:
    config = tiny_config(pretrain_refiner=2, pretrain_discriminator=2, steps=1)
    gan, synthetic, real = tiny_gan(config), Images(1), Images(2)
    phi = copy_of(gan.discriminator)
    first = gan.advance(0, synthetic, real)
    assert unchanged(gan.discriminator, phi)
    assert set(first) == {"loss_refiner", "loss_regularization", "change"}
    theta = copy_of(gan.refiner)
    second = gan.advance(2, synthetic, real)
    assert unchanged(gan.refiner, theta)
    assert set(second) == {"loss_discriminator", "accuracy_real", "accuracy_refined"}
    assert gan.history.filled == 0
    gan.advance(4, synthetic, real)
    assert gan.history.filled == 2


def test_pretraining_of_the_refiner_needs_no_lambda() -> None:
    config = tiny_config(**{"lambda": 0.0, "pretrain_refiner": 1})
    gan, synthetic = tiny_gan(config), Images(1)
    twin = tiny_gan(config)
    gan.advance(0, synthetic, Images(2))
    refined = twin.refiner(synthetic.batches[0])
    expected = stepped(twin.refiner, (refined - synthetic.batches[0]).abs().mean(), 0.1)
    assert_weights(gan.refiner, expected)


def test_the_moving_average_follows_theta() -> None:
    gan = tiny_gan(tiny_config(ema=0.75))
    start = copy_of(gan.refiner)
    gan.refiner_step(Images(1)(5))
    assert gan.average is not None
    expected = [0.75 * then + 0.25 * now for then, now in zip(start, copy_of(gan.refiner), strict=True)]
    assert_weights(gan.average, expected)
    assert not any(parameter.requires_grad for parameter in gan.average.parameters())
    assert gan.exported_refiner is gan.average


def test_clipping_bounds_the_step() -> None:
    gan = tiny_gan(tiny_config(clip_gradient=1e-3))
    before = copy_of(gan.refiner)
    gan.refiner_step(Images(1)(5))
    moved = torch.cat([(now - then).flatten() for now, then in zip(gan.refiner.parameters(), before, strict=True)])
    assert moved.norm().item() == pytest.approx(0.1 * 1e-3, rel=1e-3)


@pytest.mark.parametrize(
    ("after", "expected"), [(0, [0.1] * 4), (1, [0.1] + [0.025] * 3), (2, [0.1] * 2 + [0.025] * 2)]
)
def test_rates_drop_by_four_after_the_given_iteration(after: int, expected: list[float]) -> None:
    gan = tiny_gan(tiny_config(lr_drop_step=after, pretrain_refiner=3))
    rates = []
    for step in (3, 4, 5, 6):
        gan.iteration(step, Images(1), Images(2))
        rates.append(gan.refiner_optimizer.param_groups[0]["lr"])
    assert rates == expected


def test_noise_is_fresh_for_every_image_and_repeats_after_a_restart() -> None:
    gan = tiny_gan(tiny_config(noise=True))
    images = Images(1)(1).expand(2, -1, -1, -1)
    looks = {}
    for step in (0, 1):
        gan.restart_noise(step)
        looks[step] = gan.refine(images)
    assert not torch.equal(looks[0][0], looks[0][1])
    assert not torch.equal(looks[0], looks[1])
    gan.restart_noise()
    assert torch.equal(gan.refine(images), looks[0])
    assert not torch.equal(gan.refine(images), looks[0])
    one_look = gan.refine(images, alike=True)
    assert torch.equal(one_look[0], one_look[1])


def test_each_rank_takes_its_part_of_a_mini_batch() -> None:
    assert tiny_gan(tiny_config(batch_size=6), ranks=Ranks(1, 3, 1)).batch_size == 2


def test_metrics_match_their_definitions() -> None:
    gan = tiny_gan(tiny_config())
    x, y, past = Images(1)(5), Images(2)(5), Images(3)(2)

    def pred_refined(images: Tensor) -> float:
        return float(gan.discriminator(images).argmax(dim=1).float().mean())

    with torch.no_grad():
        refined = gan.refiner(x)
        expected = pred_refined(refined), pred_refined(past), 1 - pred_refined(y)
    measures, _ = gan.discriminator_step(x, y, past)
    accuracies = (measures["accuracy_refined"], measures["accuracy_history"], measures["accuracy_real"])
    assert [value.item() for value in accuracies] == pytest.approx(expected)
    with torch.no_grad():
        loss_adv = cross_entropy(gan.discriminator(refined), 0).item()
    measures = gan.refiner_step(x)
    assert measures["loss_adversarial"].item() == pytest.approx(loss_adv, rel=1e-5)
    assert measures["change"].item() == pytest.approx((refined - x).abs().mean().item() / 2, rel=1e-5)


def test_an_undecided_discriminator_has_an_accuracy_of_0() -> None:
    gan = tiny_gan(tiny_config())
    with torch.no_grad():
        for parameter in gan.discriminator.parameters():
            parameter.zero_()
    measures, _ = gan.discriminator_step(Images(1)(5), Images(2)(5), Images(3)(2))
    assert [measures[f"accuracy_{kind}"].item() for kind in ("real", "refined", "history")] == [0, 0, 0]


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor:UserWarning")  # a warning of the compiler
def test_compiled_networks_train_the_same_weights() -> None:
    config = tiny_config(batch_size=4, history_size=0, optimizer="adam", ema=0.9, psi="normalized")
    # The complete compiler except code generation; one graph each, since code outside it is not fused.

    def compiled(network: nn.Module) -> Network:
        return torch.compile(network, backend="aot_eager", dynamic=False, fullgraph=True)

    plain, fast = tiny_gan(config), tiny_gan(config, compiled)
    for gan in (plain, fast):
        synthetic, real = Images(1), Images(2)
        before = copy_of(gan.refiner), copy_of(gan.discriminator)
        for step in range(4):
            gan.advance(step, synthetic, real)
        assert changed_everywhere(gan.refiner, before[0])
        assert changed_everywhere(gan.discriminator, before[1])
    for network in ("refiner", "discriminator", "average"):
        wanted = getattr(plain, network).state_dict()
        assert getattr(fast, network).state_dict().keys() == wanted.keys()  # so checkpoints fit both
        for name, value in getattr(fast, network).state_dict().items():
            torch.testing.assert_close(value, wanted[name], rtol=1e-4, atol=1e-5)
