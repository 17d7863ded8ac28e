"""Settings of `simgan doctor`."""

from pydantic import BaseModel, ConfigDict

from simgan_cli.settings.train import Device, setting


class DoctorConfig(BaseModel):
    """What to look at."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    # fmt: off
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Check", metavar="DEVICE")
    cache: str | None = setting(None, "Folder of the pixel cache; by default the platform's cache folder.", "Check", metavar="DIR|off")
    # fmt: on
