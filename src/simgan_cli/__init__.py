"""simgan: train a refiner that makes rendered images look real while their labels stay true."""

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from simgan_cli.data.matching import MatchSetting
    from simgan_cli.engine.refining.image_refiner import ImageRefiner

__version__ = "0.1.0"
__all__ = ["__version__", "load_refiner"]


def load_refiner(
    path: str | Path,
    *,
    step: int | None = None,
    device: str = "auto",
    precision: str = "auto",
    strength: float = 1.0,
    seed: int = 0,
    match: "MatchSetting" = "auto",
    augment: bool = False,
) -> "ImageRefiner":
    """Return a trained refiner: a callable that maps NumPy or PIL images or tensors to refined ones of the same shape.

    `path` is a run (its exported refiner, or its checkpoint at `step`), a checkpoint, an exported folder or an ONNX
    file of `simgan export`. It may also be a Hugging Face Hub address: hf://user/name or hf://user/name@revision.
    `device` is auto, cpu, cuda, cuda:N or mps. `strength` is A in x + A (R(x) - x). `seed` chooses the look of an
    image. `precision` (auto, fp32 or bf16), `match` (auto, histogram, mean-std or off) and `augment` are those of
    `simgan refine`. `ImageRefiner.__call__` has the shapes and types of images. Raises SettingsError for a missing
    path, device or tones and a wrong argument, and CheckpointError for weights that are damaged or do not fit.
    """
    from simgan_cli.engine.export.refiner_model import open_model  # torch takes seconds to import
    from simgan_cli.engine.refining.image_refiner import ImageRefiner
    from simgan_cli.engine.runtime.device import resolve_device
    from simgan_cli.errors import SettingsError

    if precision not in ("auto", "fp32", "bf16"):
        raise SettingsError(f"precision {precision!r}: wanted auto, fp32 or bf16")
    if match not in ("auto", "histogram", "mean-std", "off"):
        raise SettingsError(f"match {match!r}: wanted auto, histogram, mean-std or off")
    if not 0 <= strength <= 1:
        raise SettingsError(f"strength {strength}: wanted 0 to 1")
    if not 0 <= seed < 2**63:
        raise SettingsError(f"seed {seed}: wanted 0 or more, below 2**63")
    model = open_model(path, step)
    return ImageRefiner(
        model,
        resolve_device(model.device if device == "auto" else device),
        precision=precision,
        strength=strength,
        seed=seed,
        match=match,
        augment=augment,
    )
