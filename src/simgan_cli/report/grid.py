"""Pictures of what the refiner does."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

COLUMNS = ("synthetic", "refined", "difference x2", "real")
GAP, HEADER, MIN_WIDTH = 4, 16, 150  # pixels


def sample_grid(
    synthetic: NDArray[np.float32], refined: NDArray[np.float32], real: NDArray[np.float32], title: str
) -> bytes:
    """Return a PNG with a row for each image: synthetic | refined | difference | real.

    All are N x C x H x W in [-1, 1]. The difference is refined - synthetic, doubled, on mid-grey.
    """
    difference = 2 * (np.clip(refined, -1, 1) - synthetic)
    columns = [_bytes(synthetic), _bytes(refined), _bytes(difference), _bytes(real)]
    rows, _, height, width = synthetic.shape
    scale = max(1, -(-MIN_WIDTH // width))
    cell_height, cell_width = height * scale + GAP, width * scale + GAP
    sheet = Image.new("RGB", (4 * cell_width + GAP, rows * cell_height + GAP + 2 * HEADER), "white")
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(12)
    draw.text((GAP, 1), title, "black", font)
    for column, (name, images) in enumerate(zip(COLUMNS, columns, strict=True)):
        x = GAP + column * cell_width
        draw.text((x, HEADER), name, "black", font)
        for row, image in enumerate(images):
            picture = Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)
            larger = picture.resize((width * scale, height * scale), Image.Resampling.NEAREST)
            sheet.paste(larger, (x, 2 * HEADER + GAP + row * cell_height))
    file = io.BytesIO()
    sheet.save(file, "PNG")
    return file.getvalue()


def _bytes(images: NDArray[np.float32]) -> NDArray[np.uint8]:
    levels = np.rint((np.clip(images, -1, 1) + 1) * 127.5).astype(np.uint8)
    return np.moveaxis(levels, 1, -1)
