"""The features of trained networks as psi, against the networks themselves."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from simgan_cli.engine.export.network_folder import load_network, save_network
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.psi import SelfRegularization
from simgan_cli.engine.training.learned_psi import check_psi, learned, psi_terms
from simgan_cli.errors import SettingsError, plural
from tests.helpers import write_refiner

CPU = torch.device("cpu")


@pytest.mark.parametrize("noise", [False, True])
def test_psi_learned_compares_the_frozen_features_of_a_network_without_noise(tmp_path: Path, noise: bool) -> None:
    folder = write_refiner(tmp_path / "refiner", channels=3, noise=noise)
    network = load_network(folder)
    assert isinstance(network, Refiner)

    def by_hand(images: NDArray[np.float32]) -> Tensor:
        silence = np.zeros((len(images), 3 if noise else 0, *images.shape[2:]), np.float32)  # the mean of noise
        return network.features(torch.from_numpy(np.concatenate([images, silence], axis=1)))

    x, refined = np.random.default_rng(1).uniform(-1, 1, (2, 2, 3, 5, 7)).astype(np.float32)
    expected = (by_hand(refined) - by_hand(x)).abs().mean().item()
    regularization = SelfRegularization(psi_terms(f"{folder}=2", CPU))
    assert regularization(torch.from_numpy(refined), torch.from_numpy(x)).item() == pytest.approx(
        2 * expected, rel=1e-5
    )
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
    says = f"--psi {tmp_path / name}: its network takes {plural(wanted, 'channel')}, the images have {channels}"
    with pytest.raises(SettingsError, match=re.escape(says)):
        check_psi(f"identity,{tmp_path / name}=2", (channels, 12, 14))
    check_psi(f"identity,{tmp_path / name}=2", (wanted, 12, 14))


def test_images_too_small_for_a_learned_psi_are_an_error(tmp_path: Path) -> None:
    save_network(tmp_path / "estimator", Estimator("cnn", 35, 55), {}, {})
    smallest = torch.zeros(1, 1, 19, 20)  # (19 - 6 - 1) // 2 - 4 leave two rows for the last pool
    assert SelfRegularization(psi_terms(str(tmp_path / "estimator"), CPU))(smallest, smallest) == 0
    check_psi(str(tmp_path / "estimator"), (1, 19, 20))
    with pytest.raises(SettingsError, match=r"images of 18x20 are too small for its network; .* a larger --size"):
        check_psi(str(tmp_path / "estimator"), (1, 18, 20))
