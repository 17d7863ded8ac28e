"""Both losses against plain numpy, on maps that are not square, so that a wrong permute shows."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from simgan_cli.engine.method.algorithm import discriminator_loss, loss_if_real, loss_if_refined, patch_log_odds
from simgan_cli.engine.method.psi import BUILT_IN, SelfRegularization, blur, channel_mean


def softmax_probability_of_refined(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    """D(x): the second of two classes, worked out location by location."""
    images, _, height, width = logits.shape
    probabilities = np.empty((images, height, width))
    for n in range(images):
        for i in range(height):
            for j in range(width):
                real, refined = np.exp(logits[n, 0, i, j]), np.exp(logits[n, 1, i, j])
                probabilities[n, i, j] = refined / (real + refined)
    return probabilities


@given(seed=st.integers(0, 2**16), images=st.integers(1, 3), height=st.integers(1, 5), width=st.integers(1, 7))
def test_adversarial_losses_are_the_cross_entropies_of_a_softmax_per_patch(
    seed: int, images: int, height: int, width: int
) -> None:
    logits = np.random.default_rng(seed).normal(0, 3, (images, 2, height, width))
    probability = softmax_probability_of_refined(logits)
    log_odds = patch_log_odds(torch.from_numpy(logits))
    assert log_odds.shape == (images, height, width)
    assert loss_if_refined(log_odds).item() == pytest.approx(-np.log(probability).mean(), rel=1e-4)
    assert loss_if_real(log_odds).item() == pytest.approx(-np.log(1 - probability).mean(), rel=1e-4)


def test_losses_stay_finite_where_a_probability_would_round_to_zero() -> None:
    log_odds = torch.tensor([[[-200.0, 200.0]]], requires_grad=True)
    loss = discriminator_loss(log_odds, log_odds)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(200)
    assert log_odds.grad is not None and torch.isfinite(log_odds.grad).all()


def test_losses_are_float32_whatever_the_networks_compute_in() -> None:
    assert patch_log_odds(torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)).dtype == torch.float32


def images_and_refined() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return tuple(rng.uniform(-1, 1, (2, 3, 5, 7)).astype(np.float32) for _ in range(2))  # type: ignore[return-value]


def psi(**weights: float) -> SelfRegularization:
    return SelfRegularization([(BUILT_IN[name], weight) for name, weight in weights.items()])


def regularization(**weights: float) -> float:
    x, refined = images_and_refined()
    return float(psi(**weights)(torch.from_numpy(refined), torch.from_numpy(x)))


def test_psi_identity_is_the_mean_absolute_difference_of_pixels() -> None:
    x, refined = images_and_refined()
    assert regularization(identity=1) == pytest.approx(np.abs(refined - x).mean(), rel=1e-5)


def test_psi_derivatives_compares_differences_of_neighbours() -> None:
    x, refined = images_and_refined()
    differences = [np.diff(refined, axis=axis) - np.diff(x, axis=axis) for axis in (2, 3)]
    expected = np.concatenate([np.abs(d).ravel() for d in differences]).mean()
    assert regularization(derivatives=1) == pytest.approx(expected, rel=1e-5)


def test_psi_channel_mean_leaves_hue_free() -> None:
    x, refined = images_and_refined()
    assert regularization(**{"channel-mean": 1}) == pytest.approx(np.abs(refined.mean(1) - x.mean(1)).mean(), rel=1e-5)
    assert channel_mean(torch.from_numpy(x)).shape == (2, 1, 5, 7)


@pytest.mark.parametrize("size", [(20, 30), (5, 4), (4, 5)])
def test_psi_blur_is_a_gaussian_of_two_pixels_that_sees_the_image_mirrored(size: tuple[int, int]) -> None:
    image = np.random.default_rng(1).uniform(-1, 1, size)
    radius = min(6, size[0] - 1, size[1] - 1)
    weights = np.exp(-(np.arange(-radius, radius + 1) ** 2) / 8)
    expected = np.pad(image, radius, mode="reflect")
    for axis in (0, 1):
        expected = np.apply_along_axis(np.convolve, axis, expected, weights / weights.sum(), mode="valid")
    blurred = blur(torch.from_numpy(image)[None, None].float())
    np.testing.assert_allclose(blurred[0, 0].numpy(), expected, atol=1e-5)


def test_psi_normalized_leaves_brightness_and_contrast_free() -> None:
    def by_hand(images: NDArray[np.float32]) -> NDArray[np.float64]:
        each = images.reshape(len(images), -1).astype(np.float64)
        centred = each - each.mean(axis=1, keepdims=True)
        normal: NDArray[np.float64] = centred / np.sqrt(each.var(axis=1, keepdims=True) + 0.05**2)
        return normal

    x, refined = images_and_refined()
    expected = np.abs(by_hand(refined) - by_hand(x)).mean()
    assert regularization(normalized=1) == pytest.approx(expected, rel=1e-5)
    darker = torch.from_numpy(0.2 * x - 0.7)
    assert float(psi(normalized=1)(darker, torch.from_numpy(x))) < 0.2 * expected


def test_psi_normalized_has_a_gradient_at_images_of_one_grey() -> None:
    flat = torch.zeros(2, 1, 5, 5, requires_grad=True)
    loss = psi(normalized=1)(flat, torch.rand(2, 1, 5, 5))
    loss.backward()  # type: ignore[no-untyped-call]
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


def test_several_psi_are_summed_with_their_weights() -> None:
    expected = 2 * regularization(identity=1) + 0.5 * regularization(derivatives=1)
    assert regularization(identity=2, derivatives=0.5) == pytest.approx(expected, rel=1e-6)
