"""Choose the images of a visual Turing test: real ones, and renders refined by a run's refiner."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simgan_cli.data.cache import PixelSet
from simgan_cli.data.decoding import Pixels, channels_last
from simgan_cli.documents import Kind
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.refining.image_refiner import ImageRefiner
from simgan_cli.engine.run_folder.checkpoints import config_of, run_at
from simgan_cli.engine.runtime.device import prepare_process, resolve_device, stream_number
from simgan_cli.engine.training.build import open_domains
from simgan_cli.engine.training.metrics_log import DataListener
from simgan_cli.errors import DataError, SettingsError, plural
from simgan_cli.settings.train import TrainConfig
from simgan_cli.settings.turing_test import TuringTestConfig

N_EXAMPLES = 10  # of each kind, shown as examples before the first trial


@dataclass(frozen=True)
class TuringImage:
    """One image of the test, H x W or H x W x 3 uint8, and its source file."""

    kind: Kind
    file: str
    levels: NDArray[np.uint8]


def choose_images(run: Path, settings: TuringTestConfig, listener: DataListener) -> dict[Kind, list[TuringImage]]:
    """Return the images by kind: the examples, then those to judge, all of one size.

    They are prepared as in training. Raises SettingsError, DataError or CheckpointError.
    """
    config = _training_of(run, settings)
    device = resolve_device(settings.device)
    prepare_process(device, deterministic=False)
    model = open_model(run)
    refiner = ImageRefiner(model, device, seed=settings.seed)
    prepared = {"size": model.trained_size or config.size, "channels": str(model.channels)}
    domains = open_domains(config.model_copy(update=prepared), listener)
    rng = np.random.default_rng([settings.seed, stream_number("turing-test")])
    chosen = {name: _choose(domains[name], settings.trials, name, rng) for name in ("synthetic", "real")}
    refined = refiner.refine(domains["synthetic"].pixels[chosen["synthetic"]])
    kinds: dict[Kind, Pixels] = {"refined": refined, "real": domains["real"].pixels[chosen["real"]]}
    levels = dict(zip(kinds, _to_8_bits(*kinds.values()), strict=True))
    files = {"refined": domains["synthetic"].files, "real": domains["real"].files}
    places = {"refined": chosen["synthetic"], "real": chosen["real"]}
    return {
        kind: [
            TuringImage(kind, files[kind][place], channels_last(image))
            for place, image in zip(places[kind], levels[kind], strict=True)
        ]
        for kind in kinds
    }


def _training_of(run: Path, settings: TuringTestConfig) -> TrainConfig:
    """Return the settings of the run's training, with the folders of `settings` if given."""
    config = config_of(run_at(run))
    given = {"synthetic": settings.synthetic, "real": settings.real}
    problems = [
        f"{run} was trained on {path}, which is missing; give --{name} DIR"
        for name, path in (("synthetic", config.synthetic), ("real", config.real))
        if given[name] is None and not path.exists()
    ]
    if problems:
        raise SettingsError(*problems)
    return config.model_copy(update={name: path for name, path in given.items() if path is not None})


def _choose(domain: PixelSet, trials: int, name: str, rng: np.random.Generator) -> NDArray[np.int64]:
    count, wanted = len(domain.pixels), N_EXAMPLES + trials
    if count < wanted:
        advice = f", or --trials {count - N_EXAMPLES}" if count > N_EXAMPLES else ""
        raise DataError(
            f"{domain.folder}: {plural(count, 'image')}, but {N_EXAMPLES} examples and {plural(trials, 'trial')} need "
            f"{wanted}; give --{name} a larger folder{advice}"
        )
    return rng.choice(count, wanted, replace=False)


def _to_8_bits(*kinds: Pixels) -> list[NDArray[np.uint8]]:
    """Return 8-bit images unchanged; with 16-bit ones, stretch all together from darkest to brightest."""
    if all(images.dtype == np.uint8 for images in kinds):
        return list(kinds)
    wide = [images * np.uint16(257) if images.dtype == np.uint8 else images for images in kinds]  # 255 becomes 65535
    low, high = (float(edge([edge(images) for images in wide])) for edge in (np.min, np.max))
    return [np.rint((images - low) * (255 / max(1.0, high - low))).astype(np.uint8) for images in wide]
