from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from simgan_cli.engine.method.gaze_estimator import Estimator, average_down
from simgan_cli.errors import DataError
from simgan_cli.gaze.estimator_training import Schedule, fit, held_out, nearest_neighbours, predict, predict_mean
from simgan_cli.gaze.labels import LabelledImages
from simgan_cli.gaze.scores import errors_of
from simgan_cli.settings.base import Target
from tests.gaze.helpers import discs

CPU = torch.device("cpu")


def eyes(count: int, seed: int, target: Target = "gaze", persons: list[str] | None = None) -> LabelledImages:
    images, gaze, centres = discs(count, seed)
    files = [str(index) for index in range(count)]
    targets = gaze if target == "gaze" else centres / 2
    return LabelledImages(Path("d"), "csv", target, images[:, ::2, ::2], targets, files, persons)


def test_the_papers_network_has_9600_values_before_its_layers() -> None:
    network = Estimator("cnn")
    assert network.features(torch.zeros(1, 1, 35, 55)).shape == (1, 192, 5, 10)
    # by hand: convolutions, FC1000, FC3
    convolutions = 320 + 9248 + 18496 + 46160 + 138432
    assert sum(p.numel() for p in network.parameters()) == convolutions + 9600 * 1000 + 1000 + 3003


@pytest.mark.parametrize("architecture", ["cnn", "resnet"])
@pytest.mark.parametrize("size", [(9, 15), (36, 60), (64, 64), (120, 160)])
def test_other_sizes_work(architecture: str, size: tuple[int, int]) -> None:
    network = Estimator(architecture, *size).eval()  # type: ignore[arg-type]
    assert torch.allclose(network(torch.rand(2, 1, *size)).norm(dim=1), torch.ones(2))


@pytest.mark.parametrize("size", [(8, 17), (13, 10), (28, 28), (9, 31)])
def test_maps_are_averaged_down_as_by_adaptive_pooling(size: tuple[int, int]) -> None:
    maps = torch.randn(2, 3, *size, requires_grad=True)
    ours, theirs = average_down(maps, (8, 10)), torch.nn.functional.adaptive_avg_pool2d(maps, (8, 10))
    torch.testing.assert_close(ours, theirs)
    weight = torch.randn(ours.shape)
    gradients = [torch.autograd.grad((weight * result).sum(), maps)[0] for result in (ours, theirs)]
    torch.testing.assert_close(*gradients)


@pytest.mark.slow
@pytest.mark.parametrize("target", ["gaze", "pupil"])
def test_a_short_training_beats_the_mean(target: Target) -> None:
    train, test = eyes(300, 1, target), eyes(60, 2, target)
    network = fit("resnet", train, 0, Schedule(60, 32, 2e-3, "fp32"), CPU)
    error = errors_of(predict(network, test.pixels, CPU, "fp32"), test.targets, test.target).mean()
    guess = errors_of(predict_mean(train, 60), test.targets, test.target).mean()
    near = errors_of(nearest_neighbours(train, test.pixels, CPU), test.targets, test.target).mean()
    assert error < 0.6 * guess
    assert near < 0.6 * guess


def test_the_same_seed_gives_the_same_estimator() -> None:
    train, schedule = eyes(40, 1), Schedule(4, 8, 1e-3, "fp32")
    first, again, other = (fit("resnet", train, seed, schedule, CPU).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["head.0.weight"], other["head.0.weight"])


def test_one_point_trains_the_same_estimator_as_the_pupil() -> None:
    pupils, schedule = eyes(40, 1, "pupil"), Schedule(4, 8, 1e-3, "fp32")
    points = replace(pupils, target="points", points=("pupil",))
    of_pupil, of_point = (
        predict(fit("resnet", images, 0, schedule, CPU), images.pixels, CPU, "fp32") for images in (pupils, points)
    )
    assert np.array_equal(of_pupil, of_point)
    assert np.array_equal(
        nearest_neighbours(pupils, pupils.pixels, CPU), nearest_neighbours(points, points.pixels, CPU)
    )


def test_missing_points_do_not_count_in_the_loss() -> None:
    network = Estimator("resnet", 12, 20, "points", ("tip", "root"))
    output = torch.tensor([[0.1, 0.2, 0.3, 0.4], [0.5, 0.5, 0.9, 0.9], [0.0, 0.0, 0.0, 0.0]])
    targets = torch.tensor([[0.1, 0.1, 0.3, 0.6], [0.5, 0.2, torch.nan, torch.nan], [torch.nan] * 4])
    # by hand: (0.1^2 + 0.2^2) / 2 points, 0.3^2 / 1 point, none
    torch.testing.assert_close(network.squared_errors(output, targets), torch.tensor([0.025, 0.09, 0.0]))


def test_neighbours_and_the_mean_leave_missing_points_out() -> None:
    images, missing = eyes(40, 1, "pupil"), [np.nan, np.nan]
    targets = np.concatenate([images.targets, np.where(np.arange(40)[:, None] % 2, images.targets, missing)], axis=1)
    points = replace(images, target="points", points=("a", "b"), targets=targets)
    assert np.allclose(predict_mean(points, 1)[0, 2:], images.targets[1::2].mean(axis=0))
    assert np.isfinite(nearest_neighbours(points, points.pixels, CPU)).all()


@pytest.mark.slow
def test_images_of_weight_0_are_not_trained_on() -> None:
    train, test = eyes(600, 1), eyes(60, 2)
    false = train.targets * np.where(np.arange(600)[:, None] % 2, [-1, -1, 1], 1)  # every second label is mirrored
    train = replace(train, targets=false)
    schedule = Schedule(60, 32, 2e-3, "fp32")
    weighted = replace(train, weights=np.tile([2.0, 0.0], 300))
    good, bad = (fit("resnet", images, 0, schedule, CPU) for images in (weighted, train))
    guess = errors_of(predict_mean(test, 60), test.targets, test.target).mean()
    errors = [
        errors_of(predict(one, test.pixels, CPU, "fp32"), test.targets, test.target).mean() for one in (good, bad)
    ]
    assert errors[0] < 0.6 * guess < errors[1]


def test_a_training_set_without_any_weight_is_refused() -> None:
    train = eyes(100, 1)
    weights = np.zeros(100)
    weights[held_out(train, 0)[1][0]] = 100
    with pytest.raises(DataError, match="no training image has a weight"):
        fit("resnet", replace(train, weights=weights), 0, Schedule(4, 8, 1e-3, "fp32"), CPU)


def test_weights_travel_with_their_images_and_make_another_set() -> None:
    images = replace(eyes(4, 1), weights=np.array([0.0, 1.0, 2.0, 1.0]))
    part = images.part(np.array([2, 0]))
    assert part.weights is not None
    assert part.weights.tolist() == [2.0, 0.0]
    assert len({each.fingerprint for each in (images, eyes(4, 1), replace(images, weights=np.ones(4)))}) == 3


def test_held_out_images_without_any_weight_count_equally() -> None:
    weights = np.ones(40)
    weights[held_out(eyes(40, 1), 0)[1]] = 0
    network = fit("resnet", replace(eyes(40, 1), weights=weights), 0, Schedule(4, 8, 1e-3, "fp32"), CPU)
    assert np.isfinite(predict(network, eyes(2, 2).pixels, CPU, "fp32")).all()


def test_looks_of_a_held_out_render_are_not_trained_on() -> None:
    train, stop = held_out(replace(eyes(103, 1), copies=4), 0)
    assert sorted([*train, *stop]) == list(range(103))
    assert not {index // 4 for index in train} & {index // 4 for index in stop}
    assert len(stop) in (11, 12)  # 3 of 26 renders, the last of 3 images


def test_held_out_persons_are_not_trained_on() -> None:
    persons = [f"p{i % 10}" for i in range(100)]
    train, stop = held_out(eyes(100, 1, persons=persons), 0)
    assert not {persons[i] for i in train} & {persons[i] for i in stop}
    assert len(train) + len(stop) == 100
    with pytest.raises(DataError, match="1 image"):
        held_out(eyes(1, 1), 0)


def test_pooling_before_the_relu_gives_what_the_papers_order_gives() -> None:
    torch.manual_seed(0)
    network = Estimator("cnn", 25, 31)
    x = torch.rand(2, 1, 25, 31)
    maps = x
    for index, layer in enumerate(layer for layer in network.convolutions if isinstance(layer, torch.nn.Conv2d)):
        maps = torch.relu(torch.nn.functional.conv2d(maps, layer.weight, layer.bias))
        if index in (2, 4):
            maps = torch.nn.functional.max_pool2d(maps, 3 if index == 2 else 2, 2)
    assert torch.equal(network.features(x), maps)


def test_bf16_changes_angles_of_an_untrained_network_by_less_than_a_degree() -> None:
    torch.manual_seed(0)
    network, pixels = Estimator("resnet", 18, 28), eyes(20, 1).pixels
    exact, rounded = (predict(network, pixels, CPU, precision) for precision in ("fp32", "bf16"))
    assert (
        0 < errors_of(rounded, exact, "gaze").max() < 1
    )  # short output vectors exaggerate it; the mean of a trained estimator is 0.02
