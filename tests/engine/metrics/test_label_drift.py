"""The measure of label drift, on content that was moved by known amounts."""

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from simgan_cli.engine.metrics import label_drift as measure
from simgan_cli.engine.metrics.label_drift import drift

SIZE = (35, 55)


def drawing(dx: float = 0, dy: float = 0, gain: float = 1, blur: float = 0) -> Tensor:
    """Return a simple eye, drawn eight times as large and averaged, so that fractions of a pixel are exact."""
    scale = 8
    image = Image.new("L", (SIZE[1] * scale, SIZE[0] * scale), 120)
    draw = ImageDraw.Draw(image)
    for (left, top, right, bottom), level in (((10, 8, 44, 28), 230), ((20, 9, 36, 27), 60), ((25, 14, 31, 21), 10)):
        draw.ellipse([scale * (left + dx), scale * (top + dy), scale * (right + dx), scale * (bottom + dy)], level)
    small = image.filter(ImageFilter.GaussianBlur(blur * scale)).reduce(scale)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) * gain)[None, None]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (3, 4), (0.5, 0), (-1.5, 0.25)])
def test_known_shifts_are_found(dx: float, dy: float) -> None:
    shift = float(drift(drawing(), drawing(dx, dy)))
    assert shift == pytest.approx(np.hypot(dx, dy), abs=0.15)


def by_hand(before: NDArray[np.float32], after: NDArray[np.float32]) -> float:
    """The shift of one image, H x W, in numpy: the smaller one by gradients as they are and by limited ones."""
    fields: list[NDArray[np.complex128]] = []
    for image in (before.astype(np.float64), after.astype(np.float64)):
        down, across = np.gradient(image)
        fields.append(np.asarray(2 * across + 2j * down, np.complex128)[1:-1, 1:-1])
    limited = [field / np.sqrt(np.abs(field) ** 2 + np.abs(field).mean() ** 2) for field in fields]
    return min(phase_correlation(*fields), phase_correlation(*limited))


def phase_correlation(first: NDArray[np.complex128], second: NDArray[np.complex128]) -> float:
    """The shift of windowed fields, H-2 x W-2, the peak refined by parabolas."""
    height, width = (length + 2 for length in first.shape)
    hann = [0.5 - 0.5 * np.cos(2 * np.pi * np.arange(1, length - 1) / (length - 1)) for length in (height, width)]
    spectra = [np.fft.fft2(field * np.outer(*hann)) for field in (first, second)]
    cross = spectra[0].conj() * spectra[1]
    surface = np.fft.ifft2(cross / (np.abs(cross) + 1e-3 * np.abs(cross).max() + 1e-12)).real
    reach = max(1, min(height - 2, width - 2) // 4)
    heights = {
        (y, x): surface[y % (height - 2), x % (width - 2)]
        for y in range(-reach, reach + 1)
        for x in range(-reach, reach + 1)
    }
    y, x = max(heights, key=lambda place: heights[place])

    def vertex(lower: float, peak: float, upper: float) -> float:
        steps = np.linspace(-0.5, 0.5, 100_001)
        fitted = peak + (upper - lower) / 2 * steps + (upper + lower - 2 * peak) / 2 * steps**2
        return float(steps[fitted.argmax()]) if lower + upper < 2 * peak else 0.0

    def near(place: tuple[int, int]) -> float:
        return float(heights[int(np.clip(place[0], -reach, reach)), int(np.clip(place[1], -reach, reach))])

    dy = y + vertex(near((y - 1, x)), near((y, x)), near((y + 1, x)))
    dx = x + vertex(near((y, x - 1)), near((y, x)), near((y, x + 1)))
    return float(np.hypot(dy, dx))


@pytest.mark.parametrize("size", [(8, 8), (9, 14), (20, 13), (34, 55), (38, 30)])
@pytest.mark.parametrize("kind", ["shifted", "unlike", "far"])
def test_the_shift_is_phase_correlation_worked_out_by_hand(size: tuple[int, int], kind: str) -> None:
    rng = np.random.default_rng(size[0])
    large = rng.uniform(-1, 1, (12, size[0] + 30, size[1] + 30)).astype(np.float32)
    large = large + np.roll(large, 1, 1) + np.roll(large, 1, 2) + np.roll(large, (1, 1), (1, 2))
    first = large[:, 15 : 15 + size[0], 15 : 15 + size[1]]
    reach = max(1, (min(size) - 2) // 4)
    second = []
    for number, image in enumerate(large):
        dy, dx = (
            rng.integers(-reach, reach + 1, 2)
            if kind == "shifted"
            else (reach, -reach)
            if number % 2
            else (-reach, reach)
        )
        second.append(image[15 + dy : 15 + dy + size[0], 15 + dx : 15 + dx + size[1]])
    after = rng.uniform(-1, 1, first.shape).astype(np.float32) if kind == "unlike" else np.stack(second)
    shifts = drift(torch.from_numpy(first[:, None].copy()), torch.from_numpy(after[:, None].copy()))
    expected = [by_hand(one, other) for one, other in zip(first, after, strict=True)]
    assert shifts.tolist() == pytest.approx(expected, abs=2e-3)


def test_brightness_contrast_and_blur_are_no_shift() -> None:
    assert float(drift(drawing(), 0.5 * drawing() + 30)) < 0.01
    assert float(drift(drawing(), drawing(blur=1))) < 0.1
    assert float(drift(drawing(), drawing(blur=2))) < 0.3


@pytest.mark.parametrize("shift", [0, 2])
def test_a_glint_elsewhere_is_no_shift(shift: int) -> None:
    before, after = drawing(), 0.1 * drawing(shift, blur=0.5)
    before[..., 12:15, 22:25] = 255
    after[..., 20:23, 32:35] = 255
    assert float(drift(before, after)) == pytest.approx(shift, abs=0.2)


def test_images_without_an_edge_have_no_shift() -> None:
    flat = torch.full((1, 1, 20, 30), 7.0)
    assert drift(flat, flat).tolist() == [0.0]
    assert drift(flat, torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0))).isfinite().all()


def test_images_are_measured_one_by_one_and_large_ones_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    before = torch.cat([drawing()] * 5)
    after = torch.cat([drawing(dx) for dx in (0, 1, 2, 3, 1.5)])
    at_once = drift(before, after)
    assert at_once.tolist() == pytest.approx([0, 1, 2, 3, 1.5], abs=0.15)
    monkeypatch.setattr(measure, "MAX_BATCH_PIXELS", 2 * SIZE[0] * SIZE[1])
    assert torch.allclose(drift(before, after), at_once, atol=1e-4)


def test_the_shift_of_colour_images_is_that_of_their_luma() -> None:
    """A shift of blue alone hardly counts, one of green does."""
    still, moved = drawing(), drawing(3)
    before = torch.cat([still, still, still], dim=1)
    blue, green = (torch.cat(channels, dim=1) for channels in ((still, still, moved), (still, moved, still)))
    grey = 0.299 * still + 0.587 * moved + 0.114 * still
    assert float(drift(before, green)) == pytest.approx(float(drift(still, grey)), abs=1e-3)
    assert float(drift(before, green)) > 1 > 0.5 > float(drift(before, blue))
