"""Images of any size, type and channels through a refiner: against the network itself, and against each other."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray
from PIL import Image

import simgan_cli
from simgan_cli.data.decoding import luma
from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.runtime.device import resolve_precision
from simgan_cli.errors import DataError, SettingsError
from tests.helpers import write_refiner

RNG = np.random.default_rng(0)


def noise(*shape: int, dtype: Any = np.uint8) -> NDArray[Any]:
    return RNG.integers(0, np.iinfo(dtype).max, shape, dtype=dtype, endpoint=True)


@pytest.fixture(scope="module")
def grey(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("grey"))


@pytest.fixture(scope="module")
def colour(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_refiner(tmp_path_factory.mktemp("colour"), channels=3)


@pytest.fixture(scope="module")
def unchanging(grey: Path) -> ImageRefiner:
    return simgan_cli.load_refiner(grey, device="cpu", strength=0.0)


def by_hand(model: Path, pixels: NDArray[Any], strength: float = 1.0) -> NDArray[Any]:
    """Return N x C x H x W through the network in float64: scale, refine, clip, blend, round half to even."""
    network = open_model(model).network.double()
    top = np.iinfo(pixels.dtype).max
    x = pixels / (top / 2) - 1
    with torch.no_grad():
        refined = network(torch.from_numpy(x)).clamp(-1, 1).numpy()
    blended = x + strength * (refined - x)
    levels: NDArray[Any] = np.clip(np.rint((blended + 1) * (top / 2)), 0, top).astype(pixels.dtype)
    return levels


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("strength", [1.0, 0.4])
@pytest.mark.parametrize("model", ["grey", "colour"])
def test_pixels_are_those_of_the_network(
    model: str, dtype: Any, strength: float, request: pytest.FixtureRequest
) -> None:
    folder = request.getfixturevalue(model)
    images = noise(3, 1 if model == "grey" else 3, 14, 19, dtype=dtype)
    refiner = simgan_cli.load_refiner(folder, device="cpu", precision="fp32", strength=strength)
    refined = refiner.refine(images)
    assert refined.dtype == dtype
    difference = np.abs(refined.astype(int) - by_hand(folder, images, strength))
    assert difference.max() <= (1 if dtype == np.uint16 else 0)
    assert np.abs(refined.astype(int) - images).mean() > np.iinfo(dtype).max / 100  # the refiner changes images


@given(arrays(np.uint8, st.tuples(st.integers(1, 9), st.integers(1, 9))))
def test_strength_0_is_the_input(unchanging: ImageRefiner, image: NDArray[np.uint8]) -> None:
    assert np.array_equal(unchanging(image), image)


def test_strength_0_is_the_input_for_every_16_bit_value(unchanging: ImageRefiner) -> None:
    every = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    assert np.array_equal(unchanging(every), every)
    assert np.array_equal(unchanging(every.astype(">u2")), every)


def test_arrays_and_tensors_refine_alike_one_image_at_a_time_or_in_a_batch(colour: Path) -> None:
    refiner = simgan_cli.load_refiner(colour, device="cpu")
    images = noise(4, 10, 12, 3)
    refined = refiner(images)
    assert np.array_equal(refiner(images[2]), refined[2])
    tensors = torch.from_numpy(np.moveaxis(images, -1, 1).copy())
    assert torch.equal(refiner(tensors), torch.from_numpy(np.moveaxis(refined, -1, 1).copy()))
    assert torch.equal(refiner(tensors[1]), refiner(tensors)[1])
    mirrored = np.flip(images, axis=2)  # negative strides
    assert np.array_equal(refiner(mirrored), refiner(mirrored.copy()))


@pytest.mark.parametrize(("value_range", "lowest"), [((0, 1), 0.0), ((-1, 1), -1.0)])
def test_floats_of_both_ranges_are_the_integers_scaled(
    colour: Path, value_range: tuple[int, int], lowest: float
) -> None:
    refiner = simgan_cli.load_refiner(colour, device="cpu", precision="fp32")
    tensors = torch.from_numpy(noise(2, 3, 10, 12))
    scale = 255 / (1 - lowest)
    scaled = tensors.double() / scale + lowest
    floats = refiner(scaled, value_range=value_range)
    assert floats.dtype == torch.float32
    assert np.array_equal(((floats - lowest) * scale).round().byte().numpy(), refiner(tensors).numpy())
    assert lowest <= floats.min() < floats.max() <= 1
    if lowest == 0:
        assert torch.equal(refiner(scaled), floats)  # the default, as torchvision gives them
    floats.requires_grad_(True).sum().backward()  # type: ignore[no-untyped-call]


def test_floats_outside_the_range_are_refused_with_what_was_found(grey: Path) -> None:
    refiner = simgan_cli.load_refiner(grey, device="cpu")
    image = np.linspace(-1, 1, 30, dtype=np.float32).reshape(5, 6)
    with pytest.raises(DataError, match=r"from -1 to 1; wanted value_range \[0, 1\]"):
        refiner(image)
    assert refiner(image, value_range=(-1, 1)).shape == (5, 6)
    with pytest.raises(DataError, match=r"from 0 to 255; wanted value_range \[-1, 1\]"):
        refiner(np.arange(256.0).reshape(16, 16), value_range=(-1, 1))
    with pytest.raises(SettingsError, match=r"value_range \(0, 255\): wanted \(0, 1\) or \(-1, 1\)"):
        refiner(image, value_range=(0, 255))


def test_read_only_arrays_and_pil_images_are_refined(grey: Path, colour: Path) -> None:
    for model, shape, dtype, mode in (
        (grey, (9, 12), np.uint8, "L"),
        (grey, (9, 12), np.uint16, "I;16"),
        (colour, (9, 12, 3), np.uint8, "RGB"),
    ):
        refiner, array = simgan_cli.load_refiner(model, device="cpu"), noise(*shape, dtype=dtype)
        expected = refiner(array)
        array.flags.writeable = False
        assert np.array_equal(refiner(array), expected)
        refined = refiner(Image.fromarray(array))
        assert (refined.mode, refined.size) == (mode, (12, 9))
        assert np.array_equal(np.asarray(refined), expected)
    for mode in ("P", "1", "RGBA", "CMYK", "F"):
        with pytest.raises(DataError, match=f"a PIL image of mode {mode}; convert it to one of L, RGB, I;16"):
            simgan_cli.load_refiner(grey, device="cpu")(Image.new(mode, (4, 5)))


def test_the_network_is_a_plain_module(grey: Path) -> None:
    refiner, pixels = simgan_cli.load_refiner(grey, device="cpu", precision="fp32"), noise(2, 1, 9, 12)
    assert isinstance(refiner.network, torch.nn.Module)
    assert not any(parameter.requires_grad for parameter in refiner.network.parameters())
    levels = (refiner.network(torch.from_numpy(pixels) / 127.5 - 1).clamp(-1, 1) + 1) * 127.5
    assert np.array_equal(levels.round().byte().numpy(), refiner.refine(pixels))


def test_wrong_images_are_refused(grey: Path, colour: Path, tmp_path: Path) -> None:
    refiner = simgan_cli.load_refiner(grey, device="cpu")
    wrong: list[Any] = [
        noise(4, 5, 3), np.zeros((2, 2, 2, 2, 2), np.uint8), np.zeros((0, 5), np.uint8), noise(4, 5).astype(np.int32),
        np.full((4, 5), 1.01), np.full((4, 5), -0.01), np.full((4, 5), np.nan), torch.zeros(4, 5),
        torch.zeros(3, 4, 5), np.zeros(3), noise(4, 5).astype(object), noise(4, 5) > 9,
    ]  # fmt: skip
    for images in wrong:
        with pytest.raises(DataError):
            refiner(images)
    with pytest.raises(DataError, match=r"3 channels, so wanted N x H x W x 3, or one image"):
        simgan_cli.load_refiner(colour)(noise(4, 5))
    listed: Any = [noise(4, 5)]
    with pytest.raises(DataError, match=r"a list; wanted a NumPy array.* as of numpy\.stack"):
        refiner(listed)
    with pytest.raises(SettingsError, match="nowhere"):
        simgan_cli.load_refiner(tmp_path / "nowhere")
    with pytest.raises(SettingsError, match="'fp16': wanted auto, fp32 or bf16"):
        simgan_cli.load_refiner(grey, precision="fp16")
    with pytest.raises(SettingsError, match="match 'histgram': wanted auto, histogram, mean-std or off"):
        simgan_cli.load_refiner(grey, match="histgram")  # type: ignore[arg-type]
    for strength in (2, float("nan")):
        with pytest.raises(SettingsError, match=f"strength {strength}: wanted 0 to 1"):
            simgan_cli.load_refiner(grey, strength=strength)
    with pytest.raises(SettingsError, match="seed -1: wanted 0 or more"):
        simgan_cli.load_refiner(grey, seed=-1)
    with pytest.raises(SettingsError, match="--device gpu: wanted auto, cpu, cuda"):
        simgan_cli.load_refiner(grey, device="gpu")


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["grey", "colour"])
def test_an_image_does_not_depend_on_its_batch(model: str, precision: str, request: pytest.FixtureRequest) -> None:
    refiner = simgan_cli.load_refiner(request.getfixturevalue(model), device="cpu", precision=precision)
    images = noise(35, 3 if model == "colour" else 1, 35, 55)
    together = refiner.refine(images)
    for start, stop in ((0, 1), (3, 5), (7, 18), (15, 33), (34, 35)):
        assert np.array_equal(refiner.refine(images[start:stop]), together[start:stop])
    other = ImageRefiner(refiner.model, torch.device("cpu"), batch_size=3, precision=precision)
    assert np.array_equal(other.refine(images), together)


def test_the_number_of_cores_changes_no_bit(grey: Path) -> None:
    images = noise(5, 120, 97, 1, dtype=np.uint16)
    before = torch.get_num_threads()
    try:
        results = []
        for cores in (1, 2, 3):
            torch.set_num_threads(cores)
            results.append(simgan_cli.load_refiner(grey, device="cpu")(images))
    finally:
        torch.set_num_threads(before)
    assert np.array_equal(results[0], results[1])
    assert np.array_equal(results[0], results[2])


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("model", ["grey", "colour"])
def test_tiles_change_no_pixel_by_more_than_one_level(
    model: str, precision: str, request: pytest.FixtureRequest
) -> None:
    loaded = open_model(request.getfixturevalue(model))
    untiled = ImageRefiner(loaded, torch.device("cpu"), tile=1000, precision=precision)
    tiled = ImageRefiner(loaded, torch.device("cpu"), tile=64, precision=precision)
    for size in ((150, 65), (64, 400), (131, 257)):
        images = noise(2, loaded.channels, *size)
        assert np.abs(tiled.refine(images).astype(int) - untiled.refine(images)).max() <= 1


@pytest.mark.parametrize("is_depth", [False, True])
def test_auto_is_the_precision_of_the_machine_but_for_depth(tmp_path: Path, is_depth: bool) -> None:
    images, cpu, model = noise(3, 1, 35, 55), torch.device("cpu"), write_refiner(tmp_path)
    if not is_depth:
        save_tones(model, quantiles_of(images))
    by_default = simgan_cli.load_refiner(model, device="cpu").refine(images)
    precision = "fp32" if is_depth else resolve_precision("auto", cpu)
    expected = ImageRefiner(open_model(model), cpu, precision=precision)
    assert np.array_equal(by_default, expected.refine(images))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(("padding", "with_noise"), [("replicate", True), ("zeros", False)])
def test_bf16_changes_no_pixel_by_more_than_one_level(
    tmp_path: Path, channels: int, padding: str, with_noise: bool
) -> None:
    model = open_model(write_refiner(tmp_path, channels, width=16, blocks=4, padding=padding, noise=with_noise))
    model.network.get_parameter("last.weight").mul_(0.3)
    images = noise(40, channels, 35, 55)
    full, half = (
        ImageRefiner(model, torch.device("cpu"), precision=precision).refine(images).astype(int)
        for precision in ("fp32", "bf16")
    )
    assert np.abs(full - images).mean() > 6  # as much as a trained refiner changes
    assert 0 < np.abs(full - half).max() <= 1


def test_sixteen_bits_of_colour_are_equalized_by_their_luma(tmp_path: Path) -> None:
    model = write_refiner(tmp_path, channels=3, preprocess="equalize")
    refiner = simgan_cli.load_refiner(model, device="cpu", strength=0.0)
    grey = np.array([[10, 10, 20], [20, 20, 30]], np.uint16)[None, None]
    # by hand, as for 8 bits: 0, 3/4 and 4/4 of the range
    equalized = refiner.refine(np.repeat(grey, 3, axis=1)).astype(int)
    assert np.abs(equalized - [[0, 0, 49151], [49151, 49151, 65535]]).max() <= 2
    images = noise(1, 3, 20, 30, dtype=np.uint16) // 64 + 30_000  # a 64th of the range
    wide = refiner.refine(images)
    before, after = luma(images)[0, 0], luma(wide)[0, 0]
    assert np.ptp(before) < 1024 < 60_000 < np.ptp(after)
    assert np.corrcoef(np.argsort(np.argsort(before, axis=None)), after.ravel())[0, 1] > 0.99
    assert (wide[0, 0] != wide[0, 1]).mean() > 0.9


def test_luma_is_pillows(grey: Path) -> None:
    image = noise(40, 50, 3)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    assert np.array_equal(luma(np.moveaxis(image, -1, 0)[None])[0, 0], expected)
    deep = np.repeat(np.arange(65536, dtype=np.uint16).reshape(1, 1, 256, 256), 3, axis=1)
    assert np.array_equal(luma(deep)[:, 0], deep[:, 0])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_colour_through_a_grey_model_changes_only_its_luma(grey: Path, dtype: Any) -> None:
    refiner, top = simgan_cli.load_refiner(grey, device="cpu"), np.iinfo(dtype).max
    images = (noise(2, 3, 12, 15, dtype=dtype) // 4 + top // 8 * 3).astype(dtype)  # no value is clipped
    change = refiner.refine(images).astype(int) - images
    assert (change == change[:, :1]).all()
    assert np.array_equal(change[:, 0], refiner.refine(luma(images)).astype(int)[:, 0] - luma(images)[:, 0])
    assert np.abs(change).mean() > top / 400  # the refiner changes images


def test_sixteen_bits_through_a_grey_model_are_eight_bits_but_for_rounding(grey: Path) -> None:
    refiner, eight = simgan_cli.load_refiner(grey, device="cpu"), noise(2, 3, 12, 15) // 4 + 96
    deep = refiner.refine(eight.astype(np.uint16) * 257).astype(int)
    assert np.abs(deep - refiner.refine(eight).astype(int) * 257).max() <= 2 * 257  # luma and result are rounded


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_through_a_colour_model_stays_grey(colour: Path, dtype: Any) -> None:
    refiner = simgan_cli.load_refiner(colour, device="cpu")
    images = noise(2, 1, 12, 15, dtype=dtype)
    refined = refiner.refine(images)
    assert (refined.shape, refined.dtype) == (images.shape, dtype)
    assert np.array_equal(refined, luma(refiner.refine(np.repeat(images, 3, axis=1))))


def test_images_are_preprocessed_as_in_training(tmp_path: Path) -> None:
    refiner = simgan_cli.load_refiner(write_refiner(tmp_path, preprocess="equalize"), device="cpu", strength=0.0)
    image = np.array([[10, 10, 20], [20, 20, 30]], np.uint8)
    # by hand: (cdf - 2) / (6 - 2) * 255 with cdf 2, 5, 6
    assert refiner(image).tolist() == [[0, 0, 191], [191, 191, 255]]
    with pytest.raises(DataError, match="equalizes histograms, of uint8 or uint16"):
        refiner(image / np.float32(255))


LITTLE_MEMORY = """
import resource, sys
import numpy as np, torch
from pathlib import Path
from simgan_cli.data.matching import quantiles_of
from simgan_cli.engine.export.refiner_model import open_model, save_tones
from simgan_cli.data.decoding import luma
from simgan_cli.engine.refining.image_refiner import ImageRefiner

model = open_model(Path(sys.argv[1]))
small = ImageRefiner(model, torch.device("cpu"), precision="fp32", tile=128)
image = np.random.default_rng(0).integers(0, 256, (1, 1, 640, 640), dtype=np.uint8)
expected = small.refine(image)
large = ImageRefiner(model, torch.device("cpu"), precision="fp32", tile=2000)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 220_000_000, -1))  # one layer of the uncut image takes 105 MB
found = large.refine(image)
assert large._tile < 640, large._tile
assert np.abs(found.astype(int) - expected).max() <= 1
print("refined")
"""


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits its memory as only Linux does")
def test_batches_shrink_where_memory_runs_out(tmp_path: Path) -> None:
    model = write_refiner(tmp_path, width=64)
    result = subprocess.run(
        [sys.executable, "-c", LITTLE_MEMORY, str(model)], capture_output=True, text=True, check=False
    )
    assert result.stdout.strip() == "refined", result.stderr
