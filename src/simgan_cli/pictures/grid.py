"""Draw images in grids, as PNG."""

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from simgan_cli.errors import plural

GAP, HEADER = 4, 16  # pixels
MIN_WIDTH, MAX_WIDTH = 150, 480  # of a picture in a sheet, in pixels
TILE_WIDTH = 100  # of a picture in a sheet of many
Levels = NDArray[np.uint8]  # H x W or H x W x 3


def sample_grid(
    synthetic: NDArray[np.float32], refined: NDArray[np.float32], real: NDArray[np.float32], title: str
) -> bytes:
    """Return a PNG with a row for each image: synthetic | refined | difference | real.

    All are N x C x H x W in [-1, 1]. The difference is refined - synthetic, doubled, on mid-grey.
    """
    rows = [
        [levels_of(before), levels_of(after), levels_of(2 * (np.clip(after, -1, 1) - before)), levels_of(photo)]
        for before, after, photo in zip(synthetic, refined, real, strict=True)
    ]
    return sheet(["synthetic", "refined", "difference x2", "real"], rows, title)


def before_and_after(pairs: Sequence[tuple[NDArray[Any], NDArray[Any]]]) -> bytes:
    """Return a PNG with a row for each pair of C x H x W uint8 or uint16: before | after | difference.

    The difference is after - before, doubled, on mid-grey.
    """
    rows = []
    for pair in pairs:
        before, after = (image.astype(np.float32) / (np.iinfo(image.dtype).max / 2) - 1 for image in pair)
        rows.append([levels_of(before), levels_of(after), levels_of(2 * (after - before))])
    return sheet(["before", "after", "difference x2"], rows, plural(len(rows), "image"))


def history_sheet(images: NDArray[np.float32], made_at: NDArray[np.int64], title: str, across: int = 8) -> bytes:
    """Return a PNG of images N x C x H x W in [-1, 1], row by row, each over the step that made it."""
    tiles = [_tile(levels_of(image), f"{step:,}") for image, step in zip(images, made_at, strict=True)]
    rows = [tiles[start : start + across] for start in range(0, len(tiles), across)]
    return sheet([""] * len(rows[0]), rows, title)


def _tile(levels: Levels, label: str) -> Levels:
    """Return a picture with a line of text below it."""
    picture = _scaled(Image.fromarray(levels), TILE_WIDTH)
    tile = Image.new("RGB", (picture.width, picture.height + HEADER), "white")
    tile.paste(picture, (0, 0))
    ImageDraw.Draw(tile).text((2, picture.height), label, "black", ImageFont.load_default(12))
    return np.asarray(tile)


def sheet(columns: Sequence[str], rows: Sequence[Sequence[Levels]], title: str) -> bytes:
    """Return a PNG of `rows` of pictures under the names of their `columns`; small ones are enlarged."""
    min_width = MIN_WIDTH if len(columns) < 6 else TILE_WIDTH
    pictures = [[_scaled(Image.fromarray(levels), min_width) for levels in row] for row in rows]
    width = max(picture.width for row in pictures for picture in row) + GAP
    heights = [max(picture.height for picture in row) + GAP for row in pictures]
    page = Image.new("RGB", (len(columns) * width + GAP, sum(heights) + GAP + 2 * HEADER), "white")
    draw, font = ImageDraw.Draw(page), ImageFont.load_default(12)
    draw.text((GAP, 1), title, "black", font)
    for column, name in enumerate(columns):
        draw.text((GAP + column * width, HEADER), _cut(name, width - GAP, font), "black", font)
    y = 2 * HEADER + GAP
    for row, height in zip(pictures, heights, strict=True):
        for column, picture in enumerate(row):
            page.paste(picture, (GAP + column * width, y))
        y += height
    file = io.BytesIO()
    page.save(file, "PNG")
    return file.getvalue()


def _cut(name: str, width: int, font: ImageFont.FreeTypeFont | ImageFont.ImageFont) -> str:
    while font.getlength(name) > width:
        name = name.removesuffix("...")[:-1] + "..."
    return name


def _scaled(picture: Image.Image, min_width: int) -> Image.Image:
    scale = max(1, -(-min_width // picture.width))
    if scale > 1:
        return picture.resize((picture.width * scale, picture.height * scale), Image.Resampling.NEAREST)
    if picture.width > MAX_WIDTH:
        return picture.resize((MAX_WIDTH, max(1, picture.height * MAX_WIDTH // picture.width)))
    return picture


def levels_of(image: NDArray[np.float32]) -> Levels:
    """Return C x H x W in [-1, 1] as H x W or H x W x 3 bytes."""
    levels = np.rint((np.clip(image, -1, 1) + 1) * 127.5).astype(np.uint8)
    return levels[0] if len(levels) == 1 else np.moveaxis(levels, 0, -1)
