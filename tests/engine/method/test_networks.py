"""The layer tables of the paper (Sec. 3.1, 3.2), with counts worked out by hand."""

import pytest
import torch
import torch.nn.functional as F

from simgan_cli.engine.method.networks import (
    EYES,
    HANDS,
    Discriminator,
    Refiner,
    build_discriminator,
    count_patches,
    discriminator_layers,
    map_size,
    receptive_field,
)
from simgan_cli.engine.training.build import build_networks
from simgan_cli.engine.training.dry_run import layer_table, parameter_count
from simgan_cli.errors import SettingsError
from simgan_cli.settings.train import TrainConfig, defaults_of


def networks_of(preset: str, size: tuple[int, int], **settings: object) -> tuple[Refiner, Discriminator]:
    explicit = {"synthetic": "a", "real": "b", "preset": preset} | settings
    config = TrainConfig.model_validate(defaults_of("paper", preset) | explicit)
    with torch.device("meta"):
        return build_networks(config, 1, size)


def test_the_eyes_refiner_is_the_papers() -> None:
    refiner, _ = networks_of("eyes", (35, 55))
    rows = layer_table(refiner, (35, 55))
    assert [name for name, _, _ in rows] == ["Conv3x3/1-64"] * 9 + ["Conv1x1/1-1"]
    assert parameter_count(refiner) == (9 * 64 + 64) + 8 * (9 * 64 * 64 + 64) + (64 + 1) == 296_129
    assert receptive_field(refiner) == 19


def test_the_eyes_discriminator_is_the_papers() -> None:
    _, discriminator = networks_of("eyes", (35, 55))
    rows = [(name, output) for name, output, _ in layer_table(discriminator, (35, 55))]
    assert rows == [
        ("Conv3x3/2-96", [96, 18, 28]),
        ("Conv3x3/2-64", [64, 9, 14]),
        ("MaxPool3x3/1", [64, 9, 14]),
        ("Conv3x3/1-32", [32, 9, 14]),
        ("Conv1x1/1-32", [32, 9, 14]),
        ("Conv1x1/1-2", [2, 9, 14]),
    ]
    assert parameter_count(discriminator) == 960 + 55_360 + 18_464 + 1_056 + 66 == 75_906
    assert receptive_field(discriminator) == 23


@pytest.mark.parametrize(("block_kernel", "field", "block_parameters"), [(7, 127, 200_768), (3, 47, 36_928)])
def test_the_hands_refiner_has_the_sizes_of_either_reading(
    block_kernel: int, field: int, block_parameters: int
) -> None:
    refiner, _ = networks_of("hands", (224, 224), refiner_block_kernel=block_kernel)
    assert receptive_field(refiner) == field
    assert parameter_count(refiner) == (49 * 64 + 64) + 20 * block_parameters + 65


def test_the_hands_discriminator_is_the_papers() -> None:
    _, discriminator = networks_of("hands", (224, 224))
    assert receptive_field(discriminator) == 71
    assert map_size(discriminator, (224, 224)) == (7, 7)
    assert parameter_count(discriminator) == (49 * 96 + 96) + (25 * 96 * 64 + 64) + 18_464 + 1_056 + 66


def test_auto_at_the_papers_size_is_the_papers_network() -> None:
    assert tuple(discriminator_layers("auto", (35, 55))) == EYES


@pytest.mark.parametrize("size", [(4, 4), (9, 15), (16, 16), (24, 40), (36, 60), (64, 64), (240, 320)])
def test_auto_has_at_least_4x4_patches_and_stays_local(size: tuple[int, int]) -> None:
    network = build_discriminator("auto", "local", 3, size)
    assert min(map_size(network, size)) >= 4
    assert receptive_field(network) <= max(9, 2 / 3 * min(size))


def test_auto_refuses_images_too_small_for_4x4_patches() -> None:
    with pytest.raises(SettingsError, match="3x50"):
        discriminator_layers("auto", (3, 50))


def test_the_global_discriminator_decides_once_for_the_image() -> None:
    network = build_discriminator("auto", "global", 1, (35, 55))
    assert network(torch.zeros(2, 1, 35, 55)).shape == (2, 2, 1, 1)
    assert network.last.kernel_size == (9, 14)


@pytest.mark.parametrize(
    ("preset", "size"), [("auto", (35, 55)), ("auto", (25, 41)), ("auto", (64, 64)), ("hands", (224, 224))]
)
def test_a_second_network_judges_as_many_patches_of_halves(preset: str, size: tuple[int, int]) -> None:
    network = build_discriminator(preset, "local", 1, size, "auto")
    network = Discriminator(**network.settings)
    images = torch.randn(2, 1, *size)
    logits = network(images)
    height, width = map_size(network, size)
    assert logits.shape == (2, 2, 2 * height, width)
    assert count_patches(network, size) == 2 * height * width
    assert torch.allclose(logits[:, :, :height], network.last(network.features(images)))
    padded = F.pad(images, (0, size[1] % 2, 0, size[0] % 2), mode="replicate")  # half windows at the far edges
    halves = padded.reshape(2, 1, padded.shape[2] // 2, 2, -1, 2).mean((3, 5))
    assert network.of_halves is not None
    assert torch.allclose(logits[:, :, height:], network.of_halves(halves), atol=1e-5)
    assert len(layer_table(network, size)) == 12


def test_patches_of_halves_are_wider_in_the_image() -> None:
    network = build_discriminator("auto", "local", 1, (35, 55), "2")
    assert network.of_halves is not None
    assert (receptive_field(network), 2 * receptive_field(network.of_halves)) == (23, 30)


def test_auto_judges_halves_only_where_they_have_4x4_patches() -> None:
    assert build_discriminator("auto", "local", 1, (9, 15), "auto").of_halves is None
    assert build_discriminator("auto", "global", 1, (35, 55), "auto").of_halves is None
    with pytest.raises(SettingsError, match="--discriminator-scales 2: images of 9x15 have no 4x4 patches at half"):
        build_discriminator("auto", "local", 1, (9, 15), "2")


def test_receptive_fields_are_what_gradients_show() -> None:
    for network, field in (
        (Discriminator(EYES), 23),
        (Refiner(width=2), 19),
        (Discriminator(HANDS), 71),
    ):
        with torch.no_grad():
            # Positive weights leave no ReLU closed, so no path is lost by chance.
            for parameter in network.parameters():
                parameter.abs_()
        images = torch.rand(1, 1, 161, 161, dtype=torch.float64, requires_grad=True)
        network.double()
        maps = network.features(images) if isinstance(network, Refiner) else network(images)
        maps[..., maps.shape[-2] // 2, maps.shape[-1] // 2].sum().backward()
        assert images.grad is not None
        touched = images.grad[0, 0].abs().sum(dim=0).nonzero()
        size = touched.max() - touched.min() + 1
        # Max pooling passes one gradient of its window, so the discriminators' field is only bounded.
        assert size == field if isinstance(network, Refiner) else size <= field


def test_the_residual_refiner_starts_as_the_identity() -> None:
    images = torch.rand(2, 3, 7, 9) * 2 - 1
    assert torch.equal(Refiner(3, width=4, output="residual")(images), images)


def test_replicated_edges_leave_a_flat_image_flat() -> None:
    flat = torch.full((1, 1, 24, 30), 0.3)
    assert Refiner(width=4, padding="replicate")(flat).std() < 1e-6
    assert Refiner(width=4, padding="zeros")(flat).std() > 1e-4


def test_the_tanh_refiner_stays_in_range_at_any_size() -> None:
    images = 50 * torch.randn(2, 1, 13, 6)
    refined = Refiner(width=4)(images)
    assert refined.shape == images.shape
    assert refined.abs().max() <= 1
