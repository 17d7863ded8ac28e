"""A few hundred of the cases of benchmarks/stress/fuzz.py: hostile input ends in success or in a clear error."""

import mmap
import multiprocessing
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import pytest

from benchmarks.stress import fuzz
from simgan_cli.data.decoding import Preparation, read_pixels
from simgan_cli.errors import UnreadableImage

pytestmark = pytest.mark.slow  # provokes limits on time and memory


def run(numbers: Iterable[int], seed: int) -> fuzz.Result:
    """Run cases in a process of their own: their audit hook stays, and coverage cannot trace new threads beside one."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("fork")) as process:
        return process.submit(fuzz.run, numbers, seed).result()


def test_hostile_input_ends_in_success_or_a_clear_error() -> None:
    kinds = fuzz.ROUND
    numbers = [
        number
        for number in range(6 * len(kinds))
        if number < len(kinds) or "claim" not in str(kinds[number % len(kinds)])
    ]
    result = run(numbers, 1)
    assert result.findings == {}
    assert result.cases.total() == len(numbers)
    assert set(result.cases) == {kind.__name__ for kind in fuzz.KINDS}
    accepted = {kind for kind, count in result.cases.items() if result.refused[kind] < count}
    assert len(accepted) > len(fuzz.KINDS) / 2, "nearly all is refused: deeper code is not reached"


def test_unmutated_images_of_our_formats_are_read(tmp_path: Path) -> None:
    refused = set()
    for name, content in fuzz.images().items():
        (tmp_path / name).write_bytes(content)
        try:
            read_pixels(tmp_path / name, Preparation())
        except UnreadableImage:
            refused.add(name)
    assert refused == {"f.tif", "float.ppm", "ico.png", "tga.png", "eps.png", "pdf.jpg", "j2k.png"}


def test_the_harness_detects_each_kind_of_finding(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def crashes(case: object) -> None:
        raise ZeroDivisionError("x")

    def escapes(case: object) -> None:
        (tmp_path / "escaped").write_text("x")

    def hangs(case: object) -> None:
        while True:
            pass

    def swells(case: object) -> None:
        mmap.mmap(-1, 50_000_000).write(
            bytes(50_000_000)
        )  # memory that an earlier test freed and the process kept does not count

    monkeypatch.setattr(fuzz, "ROUND", [crashes, escapes, hangs, swells])
    monkeypatch.setattr(fuzz, "WALL", 0.2)
    monkeypatch.setattr(fuzz, "MEMORY", 20_000_000)
    findings = " ".join(run(range(4), 0).findings)
    assert "crashes: ZeroDivisionError" in findings
    assert f"wrote to {tmp_path / 'escaped'}" in findings
    assert "hangs: longer" in findings
    assert "swells: " in findings
