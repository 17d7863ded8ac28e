"""Settings of `simgan turing-test`. Imports no torch."""

from pathlib import Path
from typing import ClassVar

from simgan_cli.settings.base import RUNTIME, Device, PathSetting, Seed, Settings, setting


class TuringTestConfig(Settings):
    """The resolved settings of one page, or of one score."""

    command: ClassVar = "turing-test"

    # fmt: off
    inputs: tuple[PathSetting, ...] = setting((), "The run whose refiner is tested. With --score, files of answers.", "Data", essential=True, metavar="RUN|FILE...", argument=True)
    synthetic: PathSetting | None = setting(None, "Folder of renders to refine. By default that of the training.", "Data", essential=True, metavar="DIR")
    real: PathSetting | None = setting(None, "Folder of real images. By default that of the training.", "Data", essential=True, metavar="DIR")
    out: PathSetting = setting(Path("turing-test.html"), "Page to write.", "Data", essential=True, short="-o", metavar="FILE.html")

    trials: int = setting(50, "Refined images to judge, and as many real ones.", "Test", essential=True, ge=1, le=10_000)
    pairs: bool = setting(False, "Show one of each side by side.", "Test", essential=True)
    score: bool = setting(False, "Add up the answers in JSON files that the page gave.", "Test", essential=True)

    seed: Seed = setting(0, "Chooses the images and the noise. The same seed makes the same page.", RUNTIME, essential=True)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE")
    overwrite: bool = setting(False, "Replace the page.", "Job", essential=True)
    # fmt: on
