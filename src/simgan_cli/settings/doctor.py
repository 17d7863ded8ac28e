"""Settings of `simgan doctor`."""

from typing import ClassVar

from simgan_cli.settings.base import RUNTIME, Device, Settings, setting


class DoctorConfig(Settings):
    """The device and the cache to look at."""

    command: ClassVar = "doctor"

    # fmt: off
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", RUNTIME, essential=True, metavar="DEVICE")
    cache: str | None = setting(None, "Folder of the pixel cache, or off. By default the platform's cache folder.", RUNTIME, essential=True, metavar="DIR|off")
    # fmt: on
