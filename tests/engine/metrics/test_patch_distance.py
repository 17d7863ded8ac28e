"""Distances of patches, against numpy and scipy."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from scipy.stats import wasserstein_distance

from simgan_cli.engine.metrics import patch_distance
from simgan_cli.engine.metrics.patch_distance import N_DIRECTIONS, PatchDistance, _directions, laplacian_pyramid

RNG = np.random.default_rng(0)


def halved_by_hand(image: NDArray[np.float64]) -> NDArray[np.float64]:
    weights = np.outer(*[np.array([1, 4, 6, 4, 1]) / 16] * 2)
    padded = np.pad(image, 2, mode="edge")
    rows, columns = range(0, image.shape[0], 2), range(0, image.shape[1], 2)
    return np.array([[(padded[r : r + 5, c : c + 5] * weights).sum() for c in columns] for r in rows])


def test_the_pyramid_is_that_of_burt_and_adelson() -> None:
    image = RNG.uniform(-1, 1, (35, 55))
    fine, coarse = laplacian_pyramid(torch.from_numpy(image)[None, None].float())
    assert np.allclose(coarse[0, 0], halved_by_hand(image), atol=1e-5)
    enlarged = torch.nn.functional.interpolate(coarse, (35, 55), mode="bilinear", align_corners=False)
    assert torch.allclose(fine + enlarged, torch.from_numpy(image).float(), atol=1e-5)  # nothing is lost


def test_small_images_have_one_band() -> None:
    assert len(laplacian_pyramid(torch.zeros(1, 1, 9, 15))) == 1
    assert len(laplacian_pyramid(torch.zeros(1, 1, 64, 64))) == 3


def test_the_distance_is_a_mean_of_wasserstein_distances(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of 7x7 are one patch each: scipy's one-dimensional distance in each direction is the oracle."""
    monkeypatch.setattr(patch_distance, "N_PATCHES", 80)  # each image twice
    a, b = (RNG.uniform(-1, 1, (40, 1, 7, 7)) for _ in range(2))
    scaled = [(images.reshape(40, 49) - a.reshape(40, 49).mean(0)) / a.std(ddof=1) for images in (a, b)]
    directions = _directions(49).double().numpy()
    assert np.allclose(np.linalg.norm(directions, axis=0), 1, atol=1e-6)
    wanted = np.mean([wasserstein_distance(*(s @ directions[:, k] for s in scaled)) for k in range(N_DIRECTIONS)])
    distance = PatchDistance(torch.from_numpy(a).float())(torch.from_numpy(b).float())
    assert float(distance) == pytest.approx(wanted, rel=1e-3)
