"""The measure of how far content moved, on content that was moved by known amounts."""

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from simgan_cli.engine.drift import drift

SIZE = (35, 55)


def drawing(dx: float = 0, dy: float = 0, gain: float = 1, blur: float = 0) -> Tensor:
    """Return an eye of sorts, drawn eight times as large and averaged, so that fractions of a pixel are true."""
    scale = 8
    image = Image.new("L", (SIZE[1] * scale, SIZE[0] * scale), 120)
    draw = ImageDraw.Draw(image)
    for (left, top, right, bottom), level in (((10, 8, 44, 28), 230), ((20, 9, 36, 27), 60), ((25, 14, 31, 21), 10)):
        draw.ellipse([scale * (left + dx), scale * (top + dy), scale * (right + dx), scale * (bottom + dy)], level)
    small = image.filter(ImageFilter.GaussianBlur(blur * scale)).reduce(scale)
    return torch.from_numpy(np.asarray(small, dtype=np.float32) * gain)[None, None]


@pytest.mark.parametrize(("dx", "dy"), [(0, 0), (1, 0), (0, -2), (3, 4), (0.5, 0), (-1.5, 0.25)])
def test_known_shifts_are_found(dx: float, dy: float) -> None:
    found = float(drift(drawing(), drawing(dx, dy)))
    assert found == pytest.approx(np.hypot(dx, dy), abs=0.15)


def test_brightness_contrast_and_blur_are_no_shift() -> None:
    assert float(drift(drawing(), 0.5 * drawing() + 30)) < 0.01
    assert float(drift(drawing(), drawing(blur=1))) < 0.1


def test_images_are_measured_one_by_one() -> None:
    before = drawing().repeat(3, 1, 1, 1)
    after = torch.cat([drawing(), drawing(2, 0), drawing(0, 1)])
    assert drift(before, after).tolist() == pytest.approx([0, 2, 1], abs=0.1)


def test_images_without_an_edge_have_no_shift() -> None:
    flat = torch.full((1, 1, 20, 30), 7.0)
    assert drift(flat, flat).tolist() == [0.0]
    assert drift(flat, torch.rand(1, 1, 20, 30, generator=torch.Generator().manual_seed(0))).isfinite().all()
