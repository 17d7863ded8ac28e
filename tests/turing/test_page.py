"""The source of a page does not reveal the answers."""

import base64
import hashlib
import json
import re
import struct
from collections import Counter
from typing import Any

import numpy as np
import pytest

from simgan_cli.documents import Kind
from simgan_cli.turing.images import N_EXAMPLES, TuringImage
from simgan_cli.turing.page import TuringPage, build_page

TRIALS = 6


def images(kind: Kind, smooth: bool) -> list[TuringImage]:
    """Return images that compress well or not at all, by kind."""
    rng = np.random.default_rng(smooth)
    levels = [np.full((8, 9), n, np.uint8) if smooth else rng.integers(0, 256, (8, 9), np.uint8) for n in range(16)]
    return [TuringImage(kind, f"{kind}-{n}.png", image) for n, image in enumerate(levels)]


def page(seed: int = 0, *, pairs: bool = False) -> TuringPage:
    return build_page({"real": images("real", False), "refined": images("refined", True)}, pairs=pairs, seed=seed)


def data_of(page: TuringPage) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(re.findall(r'<script id="data"[^>]*>(.*?)</script>', page.html)[0])
    return data


def pngs(page: TuringPage) -> list[bytes]:
    return [base64.b64decode(url) for url in re.findall(r"data:image/png;base64,([\w+/=]+)", page.html)]


def test_all_pictures_have_one_size_in_bytes_and_no_metadata() -> None:
    files = pngs(page())
    assert len(files) == 2 * (N_EXAMPLES + TRIALS)
    assert len({len(file) for file in files}) == 1
    for file in files:
        chunks, place = [], 8
        while place < len(file):
            (length,) = struct.unpack(">I", file[place : place + 4])
            chunks.append(file[place + 4 : place + 8])
            place += 12 + length
        assert chunks == [b"IHDR", b"IDAT", b"IEND"]


@pytest.mark.parametrize("pairs", [False, True])
def test_the_source_holds_hashes_in_place_of_names_and_kinds(pairs: bool) -> None:
    made = page(pairs=pairs)
    data = data_of(made)
    assert set(data) == {"schema", "page", "pairs", "width", "height", "images", "answers", "shown"}
    assert all(image.file not in made.html for image in made.images)
    assert len(set(data["answers"])) == 2 * TRIALS
    for number, (image, answer) in enumerate(zip(made.images, data["answers"], strict=True)):
        assert answer == hashlib.sha256(f"{data['page']}:{number}:{image.kind}".encode()).hexdigest()


def test_examples_are_not_judged_and_everything_else_once() -> None:
    made = page()
    assert Counter(image.kind for image in made.images) == {"real": TRIALS, "refined": TRIALS}
    expected = {f"{kind}-{n}.png" for kind in ("real", "refined") for n in range(N_EXAMPLES, N_EXAMPLES + TRIALS)}
    assert {image.file for image in made.images} == expected
    assert data_of(made)["shown"] == [[number] for number in range(2 * TRIALS)]


def test_a_pair_has_one_of_each_and_its_order_depends_on_no_kind() -> None:
    first = Counter[str]()
    for seed in range(60):
        made = page(seed, pairs=True)
        shown = data_of(made)["shown"]
        assert sorted(number for pair in shown for number in pair) == list(range(2 * TRIALS))
        assert all({made.images[a].kind, made.images[b].kind} == {"real", "refined"} for a, b in shown)
        first.update(made.images[pair[0]].kind for pair in shown)
    assert 130 < first["real"] < 230  # of 360, five standard deviations


def test_the_seed_the_images_and_the_kind_of_test_make_the_page() -> None:
    assert page(1).html == page(1).html
    assert len({made.id for made in (page(1), page(2), page(1, pairs=True))}) == 3


def test_nothing_is_loaded_from_elsewhere() -> None:
    html = page().html
    assert "default-src 'none'" in html
    assert re.findall(r"https?://", html) == []
