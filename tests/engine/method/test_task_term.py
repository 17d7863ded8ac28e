"""The task term: its losses and both gradients by hand, and who learns from it."""

import copy

import numpy as np
import pytest
import torch
from torch import Tensor

from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.task_term import LEARNING_RATE, TaskTerm, Toning, to_grey
from simgan_cli.engine.runtime.ranks import SINGLE
from tests.engine.method.test_algorithm import SHAPE, Images, copy_of, tiny_config, tiny_gan

LABELS = torch.tensor([[0.2, 0.7], [0.5, 0.5], [0.9, 0.1], [0.3, 0.3], [0.6, 0.8]])


def task_term(weight: float, labels: Tensor = LABELS, decay: float = 0.5, toning: Toning | None = None) -> TaskTerm:
    torch.manual_seed(3)
    return TaskTerm(Estimator("resnet", *SHAPE[1:], "pupil"), weight, lambda: labels, decay, toning)


def images(seed: int, count: int = len(LABELS)) -> Tensor:
    return Images(seed)(count)


def squared_error(estimator: Estimator, batch: Tensor, labels: Tensor = LABELS) -> Tensor:
    return torch.stack(
        [(estimator(image[None])[0] - label).pow(2).sum() for image, label in zip(batch, labels, strict=True)]
    ).mean()


def test_losses_are_the_mean_squared_errors_of_renders_and_refined_ones() -> None:
    task, x, refined = task_term(20), images(1), images(2)
    losses = task.losses(x, refined)
    torch.testing.assert_close(losses["loss_task_synthetic"], squared_error(task.estimator, x))
    torch.testing.assert_close(losses["loss_task_refined"], squared_error(task.estimator, refined))


def test_the_estimator_gets_its_gradient_and_the_refiner_a_weighted_one() -> None:
    task, x, refined = task_term(20), images(1), images(2).requires_grad_()
    twin = copy.deepcopy(task.estimator)
    sum(task.losses(x, refined).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    at = refined.detach().requires_grad_()
    (expected,) = torch.autograd.grad(20 * squared_error(twin, at), at)
    torch.testing.assert_close(refined.grad, expected)
    loss = squared_error(twin, x) + squared_error(twin, refined.detach())
    for parameter, gradient in zip(
        task.estimator.parameters(), torch.autograd.grad(loss, list(twin.parameters())), strict=True
    ):
        torch.testing.assert_close(parameter.grad, gradient)


def test_a_weight_of_0_trains_the_estimator_and_leaves_the_refiner_alone() -> None:
    task, refined = task_term(0), images(2).requires_grad_()
    sum(task.losses(images(1), refined).values(), start=torch.zeros(())).backward()  # type: ignore[no-untyped-call]
    assert refined.grad is None
    assert all(parameter.grad is not None for parameter in task.estimator.parameters())


def test_images_without_a_label_do_not_count() -> None:
    labels = LABELS.clone()
    labels[1] = torch.nan
    known = [0, 2, 3, 4]
    x, refined = images(1), images(2).requires_grad_()
    task = task_term(1, labels)
    losses = task.losses(x, refined)
    expected = squared_error(task.estimator, x[known], LABELS[known])
    torch.testing.assert_close(losses["loss_task_synthetic"], expected)
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
    (squared_error(twin, x) + squared_error(twin, refined)).backward()  # type: ignore[no-untyped-call]
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
    extra = torch.autograd.grad(weight * squared_error(twin, refined), theta)
    plain.refiner_step(x)
    for now, without, gradient in zip(gan.refiner.parameters(), theta, extra, strict=True):
        torch.testing.assert_close(now.detach(), without.detach() - 0.1 * gradient, rtol=1e-4, atol=1e-6)
    for now, then in zip(gan.discriminator.parameters(), phi, strict=True):
        assert torch.equal(now, then)
    torch.testing.assert_close(measures["loss_task_refined"], squared_error(twin, refined).detach())


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


def test_toning_gives_each_image_the_histogram_of_a_random_photograph() -> None:
    photographs = np.random.default_rng(0).uniform(-1, 1, (3, 2, 20)) * np.array([0.2, 0.5, 1])[:, None, None]
    quantiles = torch.from_numpy(np.sort(photographs, axis=2).astype(np.float32))
    toning, x = Toning(quantiles, (1, 2)), images(1, 40).repeat(1, 2, 1, 1)[..., :4, :5]  # as many pixels as quantiles
    toning.restart(7)
    toned = toning(x)
    taken = []
    for image, result in zip(x, toned, strict=True):
        rows = [np.sort(channel.flatten()) for channel in result.numpy()]
        (photograph,) = [
            index for index in range(3) if np.allclose(rows, np.sort(photographs[index], axis=1), atol=1e-6)
        ]
        taken.append(photograph)
        for before, after in zip(image, result, strict=True):
            assert before.flatten().argsort().tolist() == after.flatten().argsort().tolist(), (
                "the order of levels stays"
            )
    assert set(taken) == {0, 1, 2}
    assert not torch.equal(toning(x), toned)
    toning.restart(7)
    assert torch.equal(toning(x), toned)


def test_more_pixels_than_quantiles_lie_between_them() -> None:
    quantiles = torch.linspace(-1, 1, 5)[None, None]
    toning = Toning(quantiles, (0,))
    toning.restart(0)
    (toned,) = toning(torch.arange(20.0).view(1, 1, 4, 5)).flatten(1).numpy()
    expected = np.interp((np.arange(20) + 0.5) / 20, (np.arange(5) + 0.5) / 5, np.linspace(-1, 1, 5))
    np.testing.assert_allclose(toned, expected, atol=1e-6)


def test_the_estimator_learns_toned_images_and_the_refiner_does_not() -> None:
    toning = Toning(torch.linspace(-0.5, 0.5, 9)[None, None], (0,))
    toning.restart(0)
    task, refined = task_term(0.5, toning=toning), images(2).requires_grad_()
    losses = task.losses(images(1), refined)
    toning.restart(0)
    expected = squared_error(task.estimator, toning(refined.detach()))
    torch.testing.assert_close(losses["loss_task_toned"], expected)
    losses["loss_task_toned"].backward()  # type: ignore[no-untyped-call]
    assert refined.grad is None or not refined.grad.any()
    assert all(parameter.grad is not None for parameter in task.estimator.parameters())
