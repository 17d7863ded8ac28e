"""Sheets of pictures."""

import io

import numpy as np
from PIL import Image

from simgan_cli.pictures.grid import sheet


def test_a_long_name_does_not_run_into_the_next_column() -> None:
    picture = np.zeros((10, 10), np.uint8)

    def second_column(first: str) -> bytes:
        page = Image.open(io.BytesIO(sheet([first, "b"], [[picture, picture]], "")))
        return page.crop((page.width // 2, 0, *page.size)).tobytes()

    assert second_column("refiner-lr=0.00025,discriminator-lr=0.0005") == second_column("a") == second_column("")
