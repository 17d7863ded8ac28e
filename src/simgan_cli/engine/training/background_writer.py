"""Pictures, page and checkpoints of a run, written by a thread of its own while training continues."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.decoding import Pixels, top_of
from simgan_cli.data.matching import are_equalized, quantiles_of
from simgan_cli.data.weights import write_weights
from simgan_cli.documents import RefinerConfig
from simgan_cli.engine.export.model_card import model_card
from simgan_cli.engine.export.network_folder import save_network
from simgan_cli.engine.export.refiner_model import save_tones
from simgan_cli.engine.method.gaze_estimator import Estimator
from simgan_cli.engine.method.networks import Refiner
from simgan_cli.engine.run_folder.health import conclude, why_unmeasured
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import Excerpt, write_page
from simgan_cli.engine.training.photographs import choose_photographs
from simgan_cli.engine.training.state import Snapshot
from simgan_cli.engine.training.tensorboard_log import TensorBoardLog
from simgan_cli.files import write_atomic
from simgan_cli.pictures.grid import sample_grid
from simgan_cli.settings.train import TrainConfig

MAX_AVERAGED_IMAGES = 1000  # for a mean colour


class BackgroundWriter:
    """Writes files in the order of its calls, from copies that training does not change.

    `wait` and `check` raise errors of the thread. Its block ends only once all is written, also after an exception.
    """

    def __init__(
        self,
        run: RunFolder,
        config: TrainConfig,
        domains: Mapping[str, PixelSet],
        tensorboard: TensorBoardLog | None = None,
    ) -> None:
        self._run, self._config, self._tensorboard = run, config, tensorboard
        background = mean_colour(domains["real"].pixels) if config.background == "real" else config.background
        photographs = choose_photographs(config, domains["real"].pixels)
        self._tones = None if photographs is None else quantiles_of(photographs)
        self._renders = domains["synthetic"].files
        self._images = {name: len(domain.pixels) for name, domain in domains.items()}
        _, height, width = domains["synthetic"].shape
        self._facts = RefinerConfig(
            include=config.include,
            exclude=config.exclude,
            pixels=config.pixels,
            background=background,
            tone_curve=config.tone_curve,
            preprocess=config.preprocess,
            equalized=photographs is not None and are_equalized(photographs),
            size=(height, width),
            training_images=self._images,
            training_settings=_without_paths(config),
        )
        self._thread = ThreadPoolExecutor(1)
        self._given: list[Future[None]] = []

    def __enter__(self) -> "BackgroundWriter":
        return self

    def __exit__(self, *_: object) -> None:
        self._thread.shutdown()

    def wait(self) -> None:
        """Wait until all is written, so that there is memory for new copies. Raises the thread's error."""
        given, self._given = self._given, []
        for work in given:
            work.result()

    def check(self) -> None:
        """Raise the thread's error, if there is one so far."""
        for work in self._given:
            if work.done():
                work.result()

    def picture(self, step: int, synthetic: Tensor, refined: Tensor, real: Tensor) -> None:
        """Draw N x C x H x W images in [-1, 1] beside each other."""
        title = f"step {step}" + (" (moving average)" if self._config.ema else "")

        def write() -> None:
            grid = sample_grid(synthetic.numpy(), refined.numpy(), real.numpy(), title)
            write_atomic(self._run.samples / f"step-{step:08d}.png", grid)
            if self._tensorboard is not None:
                self._tensorboard.picture("samples", grid, step)

        self._give(write)

    def page(self, step: int, verdicts: Sequence[Mapping[str, Any]], history: Excerpt | None) -> None:
        """Write report.html as of `step`."""

        def write() -> None:
            write_page(self._run, self._config, self._images, verdicts, history, step)
            if self._tensorboard is not None and history is not None and len(history.made_at):
                self._tensorboard.history(history, step)

        self._give(write)

    def checkpoint(self, snapshot: Snapshot) -> None:
        """Export the refiner with its model card, write a checkpoint, delete the oldest ones beyond --keep."""

        def write() -> None:
            # Export first: a run killed before the checkpoint resumes earlier and exports again.
            self._export(*snapshot.exported, now=snapshot.step)
            if snapshot.estimator is not None:
                self._export_estimator(snapshot.estimator, snapshot.step)
            if "weights" in snapshot.tensors:
                write_weights(self._run.weights, self._renders, snapshot.tensors["weights"]["synthetic"].numpy())
            snapshot.save(self._run.checkpoint(snapshot.step))
            self._run.prune(self._config.keep)

        self._give(write)

    def _export(self, step: int, refiner: Refiner, *, now: int) -> None:
        """Export the refiner of `step` with the run's conclusion as of step `now`."""
        self._run.refiner.mkdir(parents=True, exist_ok=True)
        conclusion = conclude(self._run.read_metrics(now), self._config.select)
        line = conclusion.in_one_line() if conclusion else why_unmeasured(self._config, self._images)
        facts = self._facts.model_copy(update={"conclusion": line}).model_dump(mode="json", by_alias=True)
        card = model_card(facts, step, self._run.last_metrics(step))
        write_atomic(self._run.refiner / "README.md", card)
        if self._tones is not None:
            save_tones(self._run.refiner, self._tones)
        # Last, since its header names the step of the complete folder.
        save_network(self._run.refiner, refiner, facts, {"step": str(step)})

    def _export_estimator(self, estimator: Estimator, step: int) -> None:
        made_of = {"preprocess": self._config.preprocess, "renders": self._images["synthetic"], "step": step}
        save_network(self._run.estimator, estimator, {"made_of": made_of}, {"step": str(step)})

    def _give(self, work: Callable[[], None]) -> None:
        self._given.append(self._thread.submit(work))


def _without_paths(config: TrainConfig) -> dict[str, Any]:
    """Return the settings to publish with a refiner: of files and folders, the names alone."""
    settings = config.model_dump(mode="json", by_alias=True, exclude={"synthetic", "real", "out", "cache"})
    psi = ",".join(Path(term).name for term in config.psi.split(","))
    return settings | {"weights": Path(config.weights).name, "psi": psi}


def mean_colour(pixels: Pixels) -> str:
    """Return the mean colour of N x C x H x W pixels as "#rrggbb"; grey has three equal channels."""
    chosen = pixels[:: -(-len(pixels) // MAX_AVERAGED_IMAGES)]
    levels = np.rint(chosen.mean(axis=(0, 2, 3)) * (255 / top_of(pixels.dtype))).astype(int).tolist()
    return "#" + "".join(f"{level:02x}" for level in (3 * levels)[:3])
