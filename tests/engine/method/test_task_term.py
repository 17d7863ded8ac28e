"""The task term: its losses and both gradients by hand, and who learns from it."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from simgan_cli.data.augmentation import augment
from simgan_cli.data.matching import N_QUANTILES, QUANTILE_RANKS
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.task_term import LEARNING_RATE, RandomLooks, TaskTerm, to_grey
from simgan_cli.engine.runtime.ranks import SINGLE
from tests.engine.method.test_algorithm import SHAPE, Images, copy_of, tiny_config, tiny_gan

LABELS = torch.tensor([[0.2, 0.7], [0.5, 0.5], [0.9, 0.1], [0.3, 0.3], [0.6, 0.8]])
FIRST, SECOND = slice(2), slice(2, 5)  # halves of such a batch


def task_term(weight: float, labels: Tensor = LABELS, decay: float = 0.5, looks: RandomLooks | None = None) -> TaskTerm:
    torch.manual_seed(3)
    return TaskTerm(Estimator("resnet", *SHAPE[1:], "pupil"), weight, lambda: labels, decay, looks)


def random_looks() -> RandomLooks:
    """Looks of three photographs whose largest levels are 0.2, 0.5 and 1."""
    bank = np.linspace(0, 1, N_QUANTILES) * np.array([0.2, 0.5, 1])[:, None, None]
    return RandomLooks(bank.astype(np.float32), (1, 2))


def images(seed: int, count: int = len(LABELS)) -> Tensor:
    return Images(seed)(count)


def squared_error(estimator: Estimator, batch: Tensor, half: slice, labels: Tensor = LABELS) -> Tensor:
    pairs = zip(batch[half], labels[half], strict=True)
    return torch.stack([(estimator(image[None])[0] - label).pow(2).sum() for image, label in pairs]).mean()


def test_losses_are_the_mean_squared_errors_of_half_a_batch_each() -> None:
    task, x, refined = task_term(20), images(1), images(2)
    losses = task.losses(x, refined)
    torch.testing.assert_close(losses["loss_task_refined"], squared_error(task.estimator, refined, FIRST))
    torch.testing.assert_close(losses["loss_task_synthetic"], squared_error(task.estimator, x, SECOND))


def test_the_estimator_gets_its_gradient_and_the_refiner_a_weighted_one() -> None:
    task, x, refined = task_term(20), images(1), images(2).requires_grad_()
    twin = copy.deepcopy(task.estimator)
    sum(task.losses(x, refined).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    at = refined.detach().requires_grad_()
    (expected,) = torch.autograd.grad(20 * squared_error(twin, at, FIRST), at)
    torch.testing.assert_close(refined.grad, expected)
    loss = squared_error(twin, x, SECOND) + squared_error(twin, refined.detach(), FIRST)
    for parameter, gradient in zip(
        task.estimator.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_weight_of_0_trains_the_estimator_and_leaves_the_refiner_alone() -> None:
    task, refined = task_term(0), images(2).requires_grad_()
    sum(task.losses(images(1), refined).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert refined.grad is None
    assert all(parameter.grad is not None for parameter in task.estimator.parameters())


def test_images_without_a_label_do_not_count_in_the_task_loss() -> None:
    labels = LABELS.clone()
    labels[[1, 3]] = torch.nan
    x, refined = images(1), images(2).requires_grad_()
    task = task_term(1, labels)
    losses = task.losses(x, refined)
    expected = squared_error(task.estimator, x[[2, 4]], slice(None), LABELS[[2, 4]])
    torch.testing.assert_close(losses["loss_task_synthetic"], expected)
    torch.testing.assert_close(losses["loss_task_refined"], squared_error(task.estimator, refined, slice(1)))
    losses["loss_task_refined"].backward()  # type: ignore[no-untyped-call]
    assert refined.grad is not None
    assert torch.isfinite(refined.grad).all()
    assert not refined.grad[1].any()


def test_a_batch_without_any_label_gives_no_loss() -> None:
    losses = task_term(1, torch.full_like(LABELS, torch.nan)).losses(images(1), images(2))
    assert [float(loss.detach()) for loss in losses.values()] == [0, 0]


def test_a_step_is_one_of_adam_and_the_average_follows() -> None:
    task = task_term(1)
    twin = copy.deepcopy(task.estimator)
    reference = torch.optim.Adam(twin.parameters(), LEARNING_RATE)
    x, refined = images(1), images(2)
    (squared_error(twin, x, SECOND) + squared_error(twin, refined, FIRST)).backward()  # type: ignore[no-untyped-call]
    reference.step()
    before = copy_of(task.average)
    sum(task.losses(x, refined).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    task.step(SINGLE.average_gradients)
    for now, wanted in zip(task.estimator.parameters(), twin.parameters(), strict=True):
        torch.testing.assert_close(now.detach(), wanted.detach(), rtol=1e-3, atol=1e-5)
    for average, then, now in zip(task.average.parameters(), before, task.estimator.parameters(), strict=True):
        torch.testing.assert_close(average.detach(), (then + now.detach()) / 2)


@pytest.mark.parametrize("weight", [0, 20])
def test_the_refiners_step_minimizes_eq_4_plus_the_weighted_error(weight: float) -> None:
    gan, plain = tiny_gan(tiny_config()), tiny_gan(tiny_config())
    gan.task = task_term(weight)
    twin = copy.deepcopy(gan.task.estimator)
    x = images(1)
    phi, theta = copy_of(gan.discriminator), list(plain.refiner.parameters())
    measures = gan.refiner_step(x)
    refined = plain.refiner(x)
    extra = torch.autograd.grad(weight * squared_error(twin, refined, FIRST), theta)
    plain.refiner_step(x)
    for now, without, gradient in zip(gan.refiner.parameters(), theta, extra, strict=True):
        torch.testing.assert_close(now.detach(), without.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    for now, then in zip(gan.discriminator.parameters(), phi, strict=True):
        assert torch.equal(now, then)
    torch.testing.assert_close(measures["loss_task_refined"], squared_error(twin, refined, FIRST).detach())


def test_pretraining_has_no_task_term() -> None:
    gan = tiny_gan(tiny_config())
    gan.task = task_term(20)
    before = copy_of(gan.task.estimator)
    assert "loss_task_refined" not in gan.refiner_step(images(1), adversarial=False)
    assert all(torch.equal(now, then) for now, then in zip(gan.task.estimator.parameters(), before, strict=True))


def test_colour_becomes_grey_as_in_files() -> None:
    colours = torch.tensor([[1.0, 0, 0], [0, 1, 0], [0, 0, 1], [1, 1, 1]])[:, :, None, None].expand(4, 3, 2, 2)
    grey = to_grey(colours)
    assert grey.shape == (4, 1, 2, 2)
    torch.testing.assert_close(grey[:, 0, 0, 0], torch.tensor([0.299, 0.587, 0.114, 1.0]))


def test_looks_have_the_histogram_of_a_random_photograph_and_restart() -> None:
    looks, x = random_looks(), images(1, 40)
    looks.restart(7)
    varied = looks(x)
    assert varied.shape == x.shape
    brightest = torch.stack([image.max() for image in varied]) / 2 + 0.5
    assert {int(place) for place in torch.bucketize(brightest, torch.tensor([0.2, 0.5, 1.0]))} == {0, 1, 2}
    assert not torch.equal(looks(x), varied)
    looks.restart(7)
    assert torch.equal(looks(x), varied)


def test_looks_are_those_of_augment_and_match() -> None:
    bank = np.linspace(0, 0.5, N_QUANTILES, dtype=np.float32)[None, None]
    looks, x = RandomLooks(bank, (3,)), images(1, 2)
    looks.restart(5)
    rng = np.random.default_rng([3, 5])
    normal = [(image - image.mean()) / image.std() for image in x.double().numpy()[:, 0]]
    full = [np.rint(np.clip(0.5 + image / 4, 0, 1) * 255).astype(np.uint8) for image in normal]
    degraded = [augment(image, rng) for image in full]
    for image, result in zip(degraded, looks(x), strict=True):
        _, places, counts = np.unique(image, return_inverse=True, return_counts=True)
        ranks = ((np.cumsum(counts) - counts / 2) / image.size)[places]
        expected = np.interp(ranks, QUANTILE_RANKS, bank[0, 0])
        np.testing.assert_allclose(result.flatten().numpy() / 2 + 0.5, expected.flatten(), atol=1e-6)


def test_the_estimator_learns_from_varied_images_and_the_refiner_does_not() -> None:
    looks = random_looks()
    task, refined = task_term(0.5, looks=looks), images(2).requires_grad_()
    looks.restart(1)
    losses = task.losses(images(1), refined)
    looks.restart(1)
    expected = squared_error(task.estimator, looks(refined.detach()[SECOND]), slice(None), LABELS[SECOND])
    torch.testing.assert_close(losses["loss_task_varied"], expected)
    losses["loss_task_varied"].backward()  # type: ignore[no-untyped-call]
    assert refined.grad is None or not refined.grad.any()
    assert all(parameter.grad is not None for parameter in task.estimator.parameters())
