"""The settings of `simgan demo-data` and `simgan demo`. Imports no torch."""

from typing import ClassVar

from simgan_cli.settings.base import RUNTIME, Device, Seed, Settings, Size, setting


class DemoDataConfig(Settings):
    """The resolved settings of one set of simulated eyes."""

    command: ClassVar = "demo-data"

    # fmt: off
    count: int = setting(6000, "Images of each domain, plus a third for testing.", "Images", essential=True, ge=1, le=99_999)
    size: Size = setting("35x55", "Size of the images.", "Images", essential=True, metavar="HxW", validate_default=True)
    seed: Seed = setting(0, "The same seed draws the same images.", RUNTIME, essential=True)
    # fmt: on


class DemoConfig(Settings):
    """The resolved settings of one demonstration."""

    command: ClassVar = "demo"

    # fmt: off
    seed: Seed = setting(0, "Seed of all random numbers.", RUNTIME, essential=True)
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE")
    quick: bool = setting(False, "Only test the installation; figures mean nothing.", "Demo", essential=True)
    # fmt: on
