"""Measures of a refiner and the two-sample test, on images with known differences."""

import numpy as np
import pytest
import torch

from simgan_cli.data.sampler import to_network
from simgan_cli.engine.method.algorithm import Measures
from simgan_cli.engine.metrics import patch_distance
from simgan_cli.engine.metrics import realism as realism_module
from simgan_cli.engine.metrics.label_drift import drift
from simgan_cli.engine.metrics.realism import HeldOut, Realism, Refine, cap_by_pixels

EYE = (1, 35, 55)


@pytest.fixture(autouse=True)
def _few_patches(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patch_distance, "N_PATCHES", 2000)  # an eighth, for the time it takes


def textures(count: int, grain: float, seed: int, size: tuple[int, int] = (35, 55)) -> torch.Tensor:
    """Return integer images of smooth blobs with so much grain."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[: size[0], : size[1]]
    places = rng.uniform(5, 30, (count, 2))
    blobs = np.exp(-((y - places[:, :1, None]) ** 2 + (x - places[:, 1:, None]) ** 2) / 60)
    images = 60 + 120 * blobs + rng.normal(0, grain, (count, *size))
    return torch.from_numpy(np.clip(images, 0, 255).astype(np.uint8))[:, None]


def measured(realism: Realism, refine: Refine) -> Measures:
    return realism.measure(refine, refine)


def test_the_patch_distance_orders_images_as_people_do() -> None:
    real, other, synthetic = textures(20, 8, 1), textures(20, 8, 2), textures(20, 0, 3)
    half_way = torch.from_numpy(np.random.default_rng(0).normal(0, 4, synthetic.shape)).float() / 127.5
    realism = Realism(synthetic, real, other)
    numbers = {name: float(value) for name, value in measured(realism, lambda x: (x + half_way).clamp(-1, 1)).items()}
    assert numbers["swd_real"] < numbers["swd_refined"] < numbers["swd_synthetic"]
    same = measured(realism, lambda x: x)
    assert float(same["label_drift"]) == pytest.approx(0, abs=0.01)
    assert float(same["swd_refined"]) == float(same["swd_synthetic"])
    brighter = measured(realism, lambda x: (x + 0.3).clamp(-1, 1))
    assert float(brighter["swd_refined"]) > 1.5 * float(same["swd_refined"])  # brightness counts


@pytest.mark.parametrize(("height", "is_measured"), [(7, False), (8, True)])
def test_images_too_small_to_measure_have_no_drift(height: int, is_measured: bool) -> None:
    synthetic, real, other = torch.randint(0, 256, (3, 8, 1, height, 9), dtype=torch.uint8)
    assert ("label_drift" in measured(Realism(synthetic, real, other), lambda x: x)) is is_measured


def test_drift_and_diversity_are_those_of_all_images_at_once() -> None:
    synthetic, real, other = (textures(20, 4, seed) for seed in (1, 2, 3))
    x, faint = to_network(synthetic), torch.linspace(0, 1, 20)[:, None, None, None]

    def refine(images: torch.Tensor) -> torch.Tensor:
        return images.roll(2, dims=3) * faint + images * (1 - faint)

    realism = Realism(synthetic, real, other)
    shifted = measured(realism, refine)
    assert float(shifted["label_drift"]) == pytest.approx(float(drift(x, refine(x)).mean()), abs=1e-5)
    assert float(shifted["label_drift"]) > 0.5
    blank = measured(realism, lambda images: images[:1].expand_as(images))
    assert float(blank["diversity_held_out"]) < 0.01
    assert float(measured(realism, lambda images: images)["diversity_held_out"]) == 1


@pytest.mark.slow
def test_the_two_sample_test_finds_a_difference_in_grain_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism_module, "STEPS", 50)  # a quarter, in batches of a quarter, for the time it takes
    monkeypatch.setattr(realism_module, "BATCH_SIZE", 8)

    def grainy(count: int, grain: float, seed: int) -> torch.Tensor:
        return textures(count, grain, seed, (14, 18))

    def accuracy_of(grain: float) -> list[float]:
        realism = Realism(grainy(24, grain, 3), grainy(24, 12, 1), grainy(24, 12, 2))
        result = realism.two_sample(lambda x: x, grainy(100, grain, 4), grainy(100, 12, 5), seed=0)
        return [float(result[name]) for name in ("two_sample_low", "two_sample", "two_sample_high")]

    low, accuracy, high = accuracy_of(0)
    assert accuracy > 0.9
    assert low < accuracy <= high <= 1
    low, _, high = accuracy_of(12)
    assert low < 0.5 < high


def test_the_two_sample_classifier_is_tested_on_fresh_noise(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(realism_module, "STEPS", 1)
    draws: list[torch.Tensor] = []

    def refine(images: torch.Tensor) -> torch.Tensor:
        draws.append(torch.randn(images.shape, generator=torch.Generator().manual_seed(0)))  # again with each call
        return images + draws[-1]

    images = [textures(12, 12, seed, (12, 14)) for seed in range(3)]
    Realism(*images).two_sample(refine, textures(20, 12, 4, (12, 14)), textures(20, 12, 5, (12, 14)), seed=0)
    noise = torch.cat(draws).flatten(1)
    assert len(torch.unique(noise, dim=0)) == len(noise) == 32


def test_large_images_are_fewer_but_never_too_few() -> None:
    sizes = {(1, 35, 55): 32, (1, 128, 128): 32, (3, 128, 128): 10, (1, 256, 256): 8, (3, 2048, 2048): 4}
    assert {shape: cap_by_pixels(32, 2**19, shape) for shape in sizes} == sizes
    assert cap_by_pixels(3, 2**19, (1, 4096, 4096)) == 3


def test_held_out_sets_do_not_overlap_and_small_domains_have_none() -> None:
    held_out = HeldOut.choose(5000, 160, EYE, seed=3)
    assert [len(part) for part in (held_out.synthetic, held_out.real, held_out.other_real)] == [16, 16, 16]
    assert not set(held_out.real) & set(held_out.other_real)
    assert len(HeldOut.choose(10**6, 10**6, EYE, 0)) == 256
    assert [len(HeldOut.choose(count, 10**6, EYE, 0)) for count in (79, 80, 89, 90, 319)] == [0, 8, 8, 9, 31]
    assert len(HeldOut.choose(10**6, 10**6, (3, 1024, 1024), 0)) == 10  # 126 MB of floats, and not 3.2 GB
    assert len(HeldOut.choose(10**6, 10**6, (3, 1200, 1200), 0)) == 8  # the fewest that measure anything
    assert np.array_equal(HeldOut.choose(5000, 160, EYE, seed=3).synthetic, held_out.synthetic)
    assert not np.array_equal(HeldOut.choose(5000, 160, EYE, seed=4).synthetic, held_out.synthetic)
