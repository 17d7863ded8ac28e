"""`simgan export`: a refiner as one file for other programs."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from simgan_cli.cli.command import Json
from simgan_cli.cli.console import echo_err, exit_codes, print_json
from simgan_cli.documents import ExportDocument, ExportFormat
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.errors import DataError, SettingsError
from simgan_cli.files import parse_json, write_atomic

if TYPE_CHECKING:
    from simgan_cli.data.decoding import Pixels
    from simgan_cli.engine.export.refiner_model import RefinerModel


def export(
    run: Annotated[str, typer.Argument(metavar="RUN", help="Run, checkpoint or exported refiner.", show_default=False)],
    *,
    form: Annotated[ExportFormat, typer.Option("--format", help="ONNX, or an exported program of PyTorch.")] = "onnx",
    out: Annotated[Path, typer.Option("--out", "-o", metavar="FILE", help="File to write.", show_default=False)],
    step: Annotated[
        int | None, typer.Option("--step", metavar="N", help="Take the run's checkpoint at this step.")
    ] = None,
    check: Annotated[
        Path | None,
        typer.Option("--check", metavar="DIR", help="Renders to compare on. By default those of the training."),
    ] = None,
    json: Json = False,
) -> None:
    """Write a refiner as one file for other programs.

        simgan export run --format onnx --out refiner.onnx

    Compares the file with the refiner on renders of its training.
    """
    with exit_codes("the file", smaller="give smaller images with --check", json=json):
        if out.suffix != f".{form}" or out.is_dir():
            raise SettingsError(f"--out {out}: give the name of a .{form} file")
        from simgan_cli.engine.export.portable import OPSET, export_model, interface, largest_difference
        from simgan_cli.engine.export.refiner_model import open_model  # torch takes seconds to import

        model = open_model(run, step)
        source, images = images_to_try(model, run, check)
        content, network = export_model(model, form)
        difference = largest_difference(model, network, images)
        out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(out, content)
        described = interface(model)
        sha256 = hashlib.sha256(content).hexdigest()
        if json:
            document: ExportDocument = {
                "schema": "simgan.export/1",
                "file": str(out),
                "format": form,
                "sha256": sha256,
                "opset": OPSET if form == "onnx" else None,
                "step": model.step,
                "model_sha256": model.sha256,
                "interface": described,
                "check": {"source": source, "images": len(images), "largest_difference": difference},
            }
            print_json(document)
            return
        for name, about in described.items():
            echo_err(f"{name}: {about['type']}, {about['shape']}, {about['meaning']}")
        echo_err(f"largest difference from the refiner: {difference:.2g} grey levels of 255 ({len(images)} {source})")
        echo_err(f"written: {out}, sha256 {sha256}")


def images_to_try(model: "RefinerModel", run: str, given: Path | None) -> tuple[str, "list[Pixels]"]:
    """Return a description of images to compare on, and the images: of `given`, else the run's renders, else patterns.

    Raises DataError where the given folder holds no image.
    """
    from simgan_cli.engine.export.portable import patterns_for, renders_in

    if given is not None:
        return f"images of {given}", renders_in(given, model)
    if (folder := renders_of(run)) is not None:
        try:
            return f"images of {folder}", renders_in(folder, model)
        except DataError as error:
            echo_err(f"warning: the renders of the training cannot be used: {error}", "yellow")
    return "synthetic patterns, since no renders are at hand: give some with --check", patterns_for(model)


def renders_of(run: str) -> Path | None:
    """Return the folder or archive of renders that a run recorded, None where it is missing or `run` is not a run."""
    folder = RunFolder(Path(run))
    if not folder.is_run():
        return None
    renders = Path(parse_json(folder.config.read_bytes())["settings"]["synthetic"])
    return renders if renders.exists() else None
