"""Build the page of a visual Turing test: one HTML file that needs no server and no network.

Its source reveals neither the file names nor which image is real. All images are uncompressed PNGs of the same number
of bytes, in random order, and answers are salted SHA-256.
"""

import hashlib
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from simgan_cli.documents import Kind
from simgan_cli.engine.run_folder.report_page import PAGES, inline
from simgan_cli.turing.images import N_EXAMPLES, TuringImage

N_EXAMPLE_PIXELS = 110  # largest width of an enlarged example; the factor is an integer


@dataclass(frozen=True)
class TuringPage:
    """A page, its id, and its `images` in the order of the page's numbers."""

    id: str
    html: str
    images: list[TuringImage]


def build_page(chosen: Mapping[Kind, Sequence[TuringImage]], *, pairs: bool, seed: int) -> TuringPage:
    """Return the page of an equal number of real and refined images; the first N_EXAMPLES of each are examples."""
    examples = {kind: chosen[kind][:N_EXAMPLES] for kind in ("real", "refined")}
    trials = len(chosen["real"]) - N_EXAMPLES
    judged = [*chosen["real"][N_EXAMPLES:], *chosen["refined"][N_EXAMPLES:]]
    pngs = [_stored_png(image) for image in judged]
    digest = hashlib.sha256(repr((pairs, seed)).encode() + b"".join(pngs)).digest()
    page = digest[:16].hex()
    number = np.random.default_rng(list(digest[16:])).permutation(2 * trials)  # the page's id does not reveal the seed
    order = np.argsort(number)
    images = [judged[place] for place in order]
    shown = [[place] for place in range(2 * trials)]
    if pairs:
        shown = sorted(sorted(map(int, pair)) for pair in zip(number[:trials], number[trials:], strict=True))
    height, width = images[0].levels.shape[:2]
    data: dict[str, Any] = {
        "schema": "simgan.turing-test/1",
        "page": page,
        "pairs": pairs,
        "width": width,
        "height": height,
        "images": [inline(pngs[place]) for place in order],
        "answers": [hash_of(page, place, image.kind) for place, image in enumerate(images)],
        "shown": shown,
    }
    html = _TEMPLATE.render(
        data=data,
        examples={kind: [inline(_stored_png(image)) for image in some] for kind, some in examples.items()},
        example_width=width * max(1, N_EXAMPLE_PIXELS // width),
        trials=len(shown),
    )
    return TuringPage(page, html, images)


def hash_of(page: str, number: int, kind: Kind) -> str:
    """Return the hash that hides the kind of an image in the page."""
    return hashlib.sha256(f"{page}:{number}:{kind}".encode()).hexdigest()


def _stored_png(image: TuringImage) -> bytes:
    """Return an uncompressed PNG without metadata, whose size in bytes depends on the shape alone."""
    file = io.BytesIO()
    Image.fromarray(image.levels).save(file, "PNG", compress_level=0)
    return file.getvalue()


_TEMPLATE = PAGES.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
