"""`simgan push`: an exported refiner to the Hugging Face Hub."""

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from simgan_cli.cli.command import Json
from simgan_cli.cli.console import echo_err, exit_codes, print_json
from simgan_cli.cli.export import renders_of
from simgan_cli.documents import PushDocument
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.errors import CheckpointError, DataError, SettingsError
from simgan_cli.files import parse_json
from simgan_cli.settings.eval_gaze import EvalGazeConfig

if TYPE_CHECKING:
    from simgan_cli.engine.export.refiner_model import RefinerModel

N_GRID_IMAGES = 8


def push(
    run: Annotated[
        str, typer.Argument(metavar="RUN", help="Run, or the folder of an exported refiner.", show_default=False)
    ],
    repository: Annotated[
        str, typer.Argument(metavar="USER/NAME", help="Model repository; created if missing.", show_default=False)
    ],
    *,
    private: Annotated[bool, typer.Option("--private", help="Make a new repository private.")] = False,
    license_id: Annotated[
        str, typer.Option("--license", metavar="ID", help="Licence of the weights, as the Hub names it.")
    ] = "unknown",
    evaluation: Annotated[
        Path | None,
        typer.Option("--evaluation", metavar="FILE", help="results.json of eval-gaze, for a table in the model card."),
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid/--no-grid", help="Show renders before and after; never photographs.")
    ] = True,
    json: Json = False,
) -> None:
    """Upload a refiner to the Hugging Face Hub.

        simgan push run user/name --license cc-by-4.0

    Uploads weights, settings, tones and a model card. The token is that of `hf auth login` or HF_TOKEN.
    """
    with exit_codes("the upload", smaller="give --no-grid", json=json):
        results = _read_evaluation(evaluation) if evaluation is not None else None
        from simgan_cli.engine.export.hub import FETCHED, SCHEME, upload
        from simgan_cli.engine.export.model_card import GRID, missing_facts, model_card
        from simgan_cli.engine.export.network_folder import CONFIG, WEIGHTS, read_json
        from simgan_cli.engine.export.refiner_model import open_model  # torch takes seconds to import

        model = open_model(run)
        folder = model.weights.parent
        if model.weights.name != WEIGHTS:
            raise SettingsError(f"{run}: found no exported refiner; give a run, or a folder such as RUN/refiner")
        facts = read_json(folder / CONFIG)
        if missing := missing_facts(facts):
            raise CheckpointError(f"{folder / CONFIG}: lacks {', '.join(missing)}; export it with simgan train")
        files = {name: (folder / name).read_bytes() for name in FETCHED if (folder / name).is_file()}
        if grid and (picture := _draw_grid(model, run)) is not None:
            files[GRID] = picture
        step, last = model.step or 0, RunFolder(Path(run)).last_metrics(model.step)
        card = model_card(
            facts, step, last, model=f"{SCHEME}{repository}", license_id=license_id, has_grid=GRID in files,
            evaluation=results,
        )  # fmt: skip
        files["README.md"] = card.encode()
        commit = upload(repository, files, f"Refiner of step {step}, sha256 {model.sha256}", private=private)
        address = f"{SCHEME}{repository}@{commit.sha}"
        hashes = {name: hashlib.sha256(content).hexdigest() for name, content in files.items()}
        if json:
            document: PushDocument = {
                "schema": "simgan.push/1",
                "repository": repository,
                "commit": commit.sha,
                "url": commit.url,
                "address": address,
                "files": hashes,
            }
            print_json(document)
            return
        for name, sha256 in hashes.items():
            echo_err(f"uploaded: {name}, {len(files[name]):,} bytes, sha256 {sha256}")
        echo_err(f"{commit.url}\nuse it with --model {address}")


def _read_evaluation(path: Path) -> dict[str, Any]:
    try:
        results = parse_json(path.read_bytes())
    except (OSError, ValueError) as error:
        raise SettingsError(f"--evaluation {path}: cannot be read as JSON ({error})") from error
    if not isinstance(results, dict) or results.get("schema") != EvalGazeConfig.recorded_as:
        raise SettingsError(f"--evaluation {path}: wanted the results.json of simgan eval-gaze")
    return results


def _draw_grid(model: "RefinerModel", run: str) -> bytes | None:
    """Return a PNG of renders of the training before and after, None where they are missing."""
    import torch

    from simgan_cli.engine.export.portable import renders_in
    from simgan_cli.engine.refining.image_refiner import ImageRefiner
    from simgan_cli.pictures.grid import before_and_after

    folder = renders_of(run)
    try:
        renders = renders_in(folder, model)[:N_GRID_IMAGES] if folder is not None else []
    except DataError as error:
        echo_err(f"warning: no grid, since the renders of the training cannot be used: {error}", "yellow")
        return None
    refiner = ImageRefiner(model, torch.device("cpu"))
    return before_and_after([(render, refiner.refine(render[None])[0]) for render in renders]) if renders else None
