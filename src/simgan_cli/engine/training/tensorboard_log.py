"""Events of --tensorboard: lines of metrics, sheets of samples, the history by age, and the settings."""

import io
from collections.abc import Mapping
from typing import Any

import numpy as np
from PIL import Image

from simgan_cli.engine.run_folder.layout import RunFolder, settings_of
from simgan_cli.engine.run_folder.report_page import HISTORY_TITLE, Excerpt
from simgan_cli.pictures.grid import history_sheet
from simgan_cli.settings.train import TrainConfig

COMPARED = ("swd_refined", "label_drift", "two_sample")  # metrics beside the settings in the table of runs


class TensorBoardLog:
    """Writes events of steps after `step`; readers drop those that an earlier process wrote of later ones.

    Its methods may be called by several threads at once.
    """

    def __init__(self, run: RunFolder, config: TrainConfig, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter
        from torch.utils.tensorboard.summary import hparams

        self._writer = SummaryWriter(str(run.root / "tensorboard"), purge_step=step + 1)
        settings = {name: _as_text(value) for name, value in settings_of(config).items()}
        # add_hparams would write a file of its own, and readers would then ignore the first one.
        for summary in hparams(settings, dict.fromkeys(COMPARED, 0.0)):  # type: ignore[no-untyped-call]
            self._writer.file_writer.add_summary(summary, step)  # type: ignore[attr-defined]

    def __enter__(self) -> "TensorBoardLog":
        return self

    def __exit__(self, *_: object) -> None:
        self._writer.close()

    def line(self, line: Mapping[str, Any]) -> None:
        """Write the numbers of a line of metrics."""
        for name, value in line.items():
            if isinstance(value, float):
                self._writer.add_scalar(name, value, line["step"])

    def picture(self, name: str, png: bytes, step: int) -> None:
        """Write a picture."""
        with Image.open(io.BytesIO(png)) as image:
            self._writer.add_image(name, np.asarray(image.convert("RGB")), step, dataformats="HWC")

    def history(self, history: Excerpt, step: int) -> None:
        """Write the ages of all images in steps, and some images from the oldest to the newest."""
        self._writer.add_histogram("history_age", step - history.made_at, step)
        self.picture("history", history_sheet(history.images, history.images_made_at, HISTORY_TITLE), step)


def _as_text(value: Any) -> Any:
    """Return a setting as TensorBoard takes it: a number, a boolean or text."""
    if isinstance(value, list):
        return ", ".join(map(str, value))
    return "none" if value is None else value
