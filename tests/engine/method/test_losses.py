"""Both losses against plain numpy, on maps that are not square, so that a wrong permute shows."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.engine.export.network_folder import load_network, save_network
from simgan_cli.engine.method.algorithm import loss_if_real, loss_if_refined, patch_log_odds
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.psi import SelfRegularization, blur, channel_mean, check_psi, learned
from simgan_cli.errors import SettingsError
from tests.helpers import write_refiner

CPU = torch.device("cpu")


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
    loss = loss_if_refined(log_odds) + loss_if_real(log_odds)
    loss.backward()  # type: ignore[no-untyped-call]
    assert loss.item() == pytest.approx(200)
    assert log_odds.grad is not None and torch.isfinite(log_odds.grad).all()


def test_losses_are_float32_whatever_the_networks_compute_in() -> None:
    assert patch_log_odds(torch.zeros(1, 2, 3, 4, dtype=torch.bfloat16)).dtype == torch.float32


def images_and_refined() -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    rng = np.random.default_rng(1)
    return tuple(rng.uniform(-1, 1, (2, 3, 5, 7)).astype(np.float32) for _ in range(2))  # type: ignore[return-value]


def regularization(spec: str) -> float:
    x, refined = images_and_refined()
    return float(SelfRegularization(spec, CPU)(torch.from_numpy(refined), torch.from_numpy(x)))


def test_psi_identity_is_the_mean_absolute_difference_of_pixels() -> None:
    x, refined = images_and_refined()
    assert regularization("identity") == pytest.approx(np.abs(refined - x).mean(), rel=1e-5)


def test_psi_derivatives_compares_differences_of_neighbours() -> None:
    x, refined = images_and_refined()
    differences = [np.diff(refined, axis=axis) - np.diff(x, axis=axis) for axis in (2, 3)]
    expected = np.concatenate([np.abs(d).ravel() for d in differences]).mean()
    assert regularization("derivatives") == pytest.approx(expected, rel=1e-5)


def test_psi_derivatives_leaves_brightness_free() -> None:
    x = torch.rand(1, 1, 6, 8)
    assert SelfRegularization("derivatives", CPU)(x + 0.5, x).item() == pytest.approx(0, abs=1e-6)


def test_psi_channel_mean_leaves_hue_free() -> None:
    x, refined = images_and_refined()
    assert regularization("channel-mean") == pytest.approx(np.abs(refined.mean(1) - x.mean(1)).mean(), rel=1e-5)
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


def test_psi_blur_forgives_texture_but_not_a_shift_of_brightness() -> None:
    x = torch.zeros(1, 1, 20, 20)
    checkerboard = ((torch.arange(20)[:, None] + torch.arange(20)) % 2 * 2.0 - 1).view(1, 1, 20, 20)
    blurred = SelfRegularization("blur", CPU)
    assert blurred(x + checkerboard, x).item() < 0.02
    assert blurred(x + 0.5, x).item() == pytest.approx(0.5, rel=1e-5)


def test_psi_normalized_leaves_brightness_and_contrast_free() -> None:
    def by_hand(images: NDArray[np.float32]) -> NDArray[np.float64]:
        each = images.reshape(len(images), -1).astype(np.float64)
        centred = each - each.mean(axis=1, keepdims=True)
        normal: NDArray[np.float64] = centred / np.sqrt(each.var(axis=1, keepdims=True) + 0.05**2)
        return normal

    x, refined = images_and_refined()
    expected = np.abs(by_hand(refined) - by_hand(x)).mean()
    assert regularization("normalized") == pytest.approx(expected, rel=1e-5)
    darker = torch.from_numpy(0.2 * x - 0.7)
    assert float(SelfRegularization("normalized", CPU)(darker, torch.from_numpy(x))) < 0.2 * expected


def test_psi_normalized_has_a_gradient_at_images_of_one_grey() -> None:
    flat = torch.zeros(2, 1, 5, 5, requires_grad=True)
    loss = SelfRegularization("normalized", CPU)(flat, torch.rand(2, 1, 5, 5))
    loss.backward()
    assert flat.grad is not None
    assert torch.isfinite(flat.grad).all()


@pytest.mark.parametrize("noise", [False, True])
def test_psi_learned_compares_the_frozen_features_of_a_network_without_noise(tmp_path: Path, noise: bool) -> None:
    folder = write_refiner(tmp_path / "refiner", channels=3, noise=noise)
    network = load_network(folder)
    assert isinstance(network, Refiner)

    def by_hand(images: NDArray[np.float32]) -> Tensor:
        silence = np.zeros((len(images), 3 if noise else 0, *images.shape[2:]), np.float32)  # the mean of noise
        return network.features(torch.from_numpy(np.concatenate([images, silence], axis=1)))

    x, refined = images_and_refined()
    expected = (by_hand(refined) - by_hand(x)).abs().mean().item()
    assert regularization(str(folder)) == pytest.approx(expected, rel=1e-5)
    assert not learned(folder, CPU)(torch.from_numpy(x)).requires_grad


def test_psi_learned_of_an_estimator_is_its_convolutional_part(tmp_path: Path) -> None:
    estimator = Estimator("resnet", 12, 14)
    save_network(tmp_path / "estimator", estimator, {}, {})
    images = torch.rand(2, 1, 12, 14)
    assert torch.equal(learned(tmp_path / "estimator", CPU)(images), estimator.features(images))


@pytest.mark.parametrize(
    ("name", "channels", "wanted"), [("grey", 3, 1), ("colour", 1, 3), ("noisy", 1, 3), ("estimator", 3, 1)]
)
def test_a_learned_psi_of_other_channels_is_an_error_that_names_both(
    tmp_path: Path, name: str, channels: int, wanted: int
) -> None:
    if name == "estimator":
        save_network(tmp_path / name, Estimator("resnet", 12, 14), {}, {})
    else:
        write_refiner(tmp_path / name, channels=wanted, noise=name == "noisy")
    says = f"--psi {tmp_path / name}: its network takes images of {wanted} channels, and these have {channels}"
    with pytest.raises(SettingsError, match=re.escape(says)):
        check_psi(f"identity,{tmp_path / name}=2", (channels, 12, 14))
    check_psi(f"identity,{tmp_path / name}=2", (wanted, 12, 14))


def test_images_too_small_for_a_learned_psi_are_an_error(tmp_path: Path) -> None:
    save_network(tmp_path / "estimator", Estimator("cnn", 35, 55), {}, {})
    smallest = torch.zeros(1, 1, 19, 20)  # (19 - 6 - 1) // 2 - 4 leave two rows for the last pool
    assert SelfRegularization(str(tmp_path / "estimator"), CPU)(smallest, smallest) == 0
    check_psi(str(tmp_path / "estimator"), (1, 19, 20))
    with pytest.raises(SettingsError, match=r"images of 18x20 are too small for its network; .* a larger --size"):
        check_psi(str(tmp_path / "estimator"), (1, 18, 20))


def test_several_psi_are_summed_with_their_weights() -> None:
    expected = 2 * regularization("identity") + 0.5 * regularization("derivatives")
    assert regularization("identity=2,derivatives=0.5") == pytest.approx(expected, rel=1e-6)
