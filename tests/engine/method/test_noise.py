"""The refiner's noise: its statistics, and that a look depends only on the image and the seed."""

import numpy as np
import pytest
import torch

from simgan_cli.engine.export.refiner_model import RefinerModel
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.method.noise import (
    CELL,
    MAPS,
    NoiseSource,
    beside_their_own_noise,
    noise_maps,
    normal_of,
    normal_values,
)
from simgan_cli.engine.refining.image_refiner import ImageRefiner

CPU = torch.device("cpu")


def test_maps_are_normal_and_vary_by_pixel_by_neighbourhood_and_by_image() -> None:
    maps = noise_maps((35, 55), normal_of(torch.Generator().manual_seed(1), 400)).numpy()
    assert maps.shape == (400, MAPS, 35, 55)
    fine, coarse, image = maps[:, 0], maps[:, 1], maps[:, 2]
    assert abs(fine.mean()) < 0.01
    assert abs(fine.std() - 1) < 0.01
    assert abs(np.corrcoef(fine[:, 0, 0], fine[:, 0, 1])[0, 1]) < 0.15  # neighbours
    assert np.corrcoef(coarse[:, 9, 9], coarse[:, 9, 10])[0, 1] > 0.8
    assert abs(np.corrcoef(coarse[:, 0, 0], coarse[:, 0, 3 * CELL])[0, 1]) < 0.15
    assert (image == image[:, :1, :1]).all()
    assert abs(image[:, 0, 0].std() - 1) < 0.1


@pytest.mark.parametrize(("size", "cells"), [((28, 50), (4, 7)), ((4, 13), (2, 2)), ((35, 55), (5, 7))])
def test_neighbourhoods_lie_between_values_nine_pixels_apart(size: tuple[int, int], cells: tuple[int, int]) -> None:
    maps = noise_maps(size, normal_of(torch.Generator().manual_seed(3), 2)).numpy()
    drawn = torch.Generator().manual_seed(3)
    fine, image, coarse = (
        torch.randn((2, 1, *shape), generator=drawn).numpy()[:, 0] for shape in (size, (1, 1), cells)
    )
    rows, columns = (np.linspace(0, count - 1, side) for count, side in zip(cells, size, strict=True))
    along = np.stack([[np.interp(columns, range(cells[1]), line) for line in each] for each in coarse])
    both = np.stack([[np.interp(rows, range(cells[0]), line) for line in each.T] for each in along]).swapaxes(1, 2)
    np.testing.assert_allclose(maps, np.stack([fine, both, np.broadcast_to(image, fine.shape)], axis=1), atol=1e-5)


def test_images_of_a_batch_have_their_own_noise_unless_alike_is_asked_for() -> None:
    images, source = torch.zeros(3, 1, 9, 9), NoiseSource((1, 2), CPU)
    source.restart(0)
    apart = source.beside(images)[:, 1:]
    source.restart(0)
    alike = source.beside(images, alike=True)[:, 1:]
    assert not torch.equal(apart[0], apart[1])
    assert torch.equal(alike, alike[:1].expand(3, -1, -1, -1))
    source.restart(0)
    assert torch.equal(alike[:1], source.beside(images[:1])[:, 1:])  # as for one image


def test_a_step_has_its_own_noise_whatever_came_before() -> None:
    source, other = NoiseSource((1, 2), CPU), NoiseSource((1, 2), CPU)
    images = torch.zeros(2, 1, 9, 9)
    for step in (3, 4):
        source.restart(step)
        first, second = source.beside(images), source.beside(images)
    other.restart(4)
    assert torch.equal(first, other.beside(images))
    assert torch.equal(second, other.beside(images))
    assert not torch.equal(first, second)
    rank = NoiseSource((1, 3), CPU)
    rank.restart(4)
    assert not torch.equal(first, rank.beside(images))


def test_an_image_keeps_its_noise_in_any_company_and_a_seed_changes_it() -> None:
    images = torch.rand(3, 1, 12, 14) * 2 - 1
    together, alone = beside_their_own_noise(images, 5), beside_their_own_noise(images[1:2], 5)
    assert torch.equal(together[1:2], alone)
    assert torch.equal(together[:, :1], images)
    assert not torch.equal(together[0, 1:], together[1, 1:])
    assert not torch.equal(beside_their_own_noise(images, 6)[:, 1:], together[:, 1:])


def test_integers_and_floats_of_one_image_have_the_same_noise() -> None:
    levels = torch.arange(256).view(1, 1, 16, 16)
    z = beside_their_own_noise(levels / 127.5 - 1, 5)[:, 1:]
    for same in ((levels.double() / 255 * 2 - 1).float(), levels * 257 / 32767.5 - 1, (levels / 255 - 0.5) / 0.5):
        assert torch.equal(beside_their_own_noise(same, 5)[:, 1:], z)
    by_columns = (levels / 127.5 - 1).transpose(2, 3).contiguous().transpose(2, 3)
    assert torch.equal(beside_their_own_noise(by_columns, 5)[:, 1:], z)
    levels[0, 0, 3, 3] += 1
    assert not torch.equal(beside_their_own_noise(levels / 127.5 - 1, 5)[:, 1:], z)


def test_values_by_key_and_number_are_normal_and_independent() -> None:
    keys = np.arange(2 * 300, dtype=np.uint32).reshape(300, 2)  # keys as similar as possible
    values = normal_values(keys, 0, 2001).astype(np.float64)
    error = 1 / np.sqrt(values.size)
    moments = [(values**power).mean() for power in (1, 2, 3, 4)]
    # by hand: of a normal distribution 0, 1, 0, 3; variances of these means are 1, 2, 15 and 96 over the count
    for found, wanted, variance in zip(moments, (0, 1, 0, 3), (1, 2, 15, 96), strict=True):
        assert abs(found - wanted) < 4 * error * np.sqrt(variance)
    assert 4 < np.abs(values).max() < 6
    shares = [(values < limit).mean() for limit in (-1.96, -0.6745, 0.6745, 1.96)]
    assert shares == pytest.approx([0.025, 0.25, 0.75, 0.975], abs=2e-3)
    for left, right in (
        (values[:-1], values[1:]),  # images
        (values[:, :-1], values[:, 1:]),  # pixels, of which two make a pair
        (values[:, :-55], values[:, 55:]),  # rows
        (values[:-1, 1:], values[1:, :-1]),  # a shifted stream
    ):
        for a, b in ((left, right), (left**2 - 1, right**2 - 1)):
            assert abs((a * b).mean()) < 4 * error * np.sqrt((a**2).mean() * (b**2).mean())


def test_values_depend_on_key_and_number_alone() -> None:
    keys = np.random.default_rng(0).integers(0, 2**32, (5, 2), dtype=np.uint32)
    many = normal_values(keys, 0, 100_001)  # more than one chunk
    assert np.array_equal(normal_values(keys[3:4], 0, 99), many[3:4, :99])
    assert np.array_equal(normal_values(keys[1:3], 40, 70_000), many[1:3, 40:70_040])


def test_images_under_one_look_have_one_noise_in_any_company() -> None:
    images = torch.rand(4, 1, 12, 14) * 2 - 1
    looks = ["camera", "camera", None, "caf\udce9"]  # a name that is not UTF-8
    z = beside_their_own_noise(images, 5, looks)[:, 1:]
    assert torch.equal(z[0], z[1])
    assert torch.equal(z[2:3], beside_their_own_noise(images[2:3], 5)[:, 1:])
    assert not torch.equal(z[0], z[3])
    alone = beside_their_own_noise(torch.zeros(1, 1, 12, 14), 5, ["camera"])[:, 1:]
    assert torch.equal(z[:1], alone)
    assert not torch.equal(alone, beside_their_own_noise(torch.zeros(1, 1, 12, 14), 6, ["camera"])[:, 1:])


def test_a_look_does_not_get_the_noise_of_an_image_with_the_same_bytes() -> None:
    image = torch.zeros(1, 1, 3, 3)
    look = image.numpy().tobytes().decode()
    assert not torch.equal(beside_their_own_noise(image, 5), beside_their_own_noise(image, 5, [look]))


@pytest.fixture
def noisy() -> RefinerModel:
    torch.manual_seed(0)
    network = Refiner(1, width=4, blocks=1, output="residual", padding="replicate", noise=True)
    torch.nn.init.normal_(network.last.weight, std=0.3)
    return RefinerModel(network.eval().requires_grad_(False), None, "", None, "none", None)  # type: ignore[arg-type]


def test_frames_that_differ_in_a_pixel_keep_their_noise_under_one_look(noisy: RefinerModel) -> None:
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 1, 70, 80), dtype=np.uint8), 3, axis=0)
    frames[1, 0, 3, 4] ^= 8
    frames[2, 0, 60, 70] ^= 8
    refiner = ImageRefiner(noisy, CPU)
    far = np.s_[:, :, 25:45, 25:60]  # outside the receptive field of a changed pixel
    together = refiner.refine(frames, ["walk"] * 3)
    assert (together[far] == together[far][:1]).all()
    assert not np.array_equal(refiner.refine(frames)[far][0], refiner.refine(frames)[far][1])
    assert np.array_equal(refiner.refine(frames[1:2], ["walk"]), together[1:2])
    mixed = refiner.refine(frames, [None, "walk", "run"])
    assert np.array_equal(mixed[1], together[1])
    assert np.array_equal(mixed[0], refiner.refine(frames[:1])[0])
    assert not np.array_equal(mixed[2], together[2])
    assert np.array_equal(ImageRefiner(noisy, CPU, strength=0).refine(frames, ["walk"] * 3), frames)
    half = ImageRefiner(noisy, CPU, strength=0.5).refine(frames, ["walk"] * 3).astype(int)
    assert np.abs(half - (frames.astype(int) + together) / 2).max() <= 1


def test_seeds_choose_looks_and_tiles_do_not(noisy: RefinerModel) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (2, 1, 90, 100), dtype=np.uint8)
    untiled = ImageRefiner(noisy, CPU).refine(pixels)
    tiled = ImageRefiner(noisy, CPU, tile=64).refine(pixels)
    assert np.abs(untiled.astype(int) - tiled).max() <= 1
    assert np.array_equal(ImageRefiner(noisy, CPU).refine(pixels[1:]), untiled[1:])
    other = ImageRefiner(noisy, CPU, seed=1).refine(pixels)
    assert np.abs(untiled.astype(int) - other).mean() > 2
