"""The settings of `simgan demo-data` and `simgan demo`. Imports no torch."""

from pydantic import BaseModel, ConfigDict

from simgan_cli.settings.train import Device, Seed, Size, setting


class DemoDataConfig(BaseModel):
    """The resolved settings of one set of simulated eyes."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # fmt: off
    count: int = setting(6000, "Images of each domain; camera/test gets a third as many more.", "Images", ge=1, le=99_999)
    size: Size = setting("35x55", "Size of the images.", "Images", metavar="HxW", validate_default=True)
    seed: int = setting(0, "The same seed draws the same images.", "Images", ge=0)
    # fmt: on


class DemoConfig(BaseModel):
    """The resolved settings of one demonstration."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)

    # fmt: off
    seed: Seed = setting(0, "Of the eyes, the training and the estimators.", "Demo")
    device: Device = setting("auto", "auto, cpu, cuda, cuda:N or mps.", "Demo", metavar="DEVICE")
    quick: bool = setting(False, "Run every command for a moment: shows that all is installed, and its figures mean nothing.", "Demo")
    # fmt: on
