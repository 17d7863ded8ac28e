"""Write report.html of an evaluation: one self-contained page, the verdict first."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from simgan_cli.documents import EvalGazeDocument
from simgan_cli.engine.export.refiner_model import open_model
from simgan_cli.engine.run_folder.layout import RunFolder
from simgan_cli.engine.run_folder.report_page import PAGES
from simgan_cli.files import write_atomic
from simgan_cli.settings.eval_gaze import EvalGazeConfig, only_on_curve

PAGE = "report.html"


def write_page(config: EvalGazeConfig, document: EvalGazeDocument, pictures: Mapping[str, bytes]) -> None:
    """Write the page of results.json, of `pictures` by file name, and of the refiner's run. Raises OSError."""
    hidden = only_on_curve(document["settings"])
    page = _TEMPLATE.render(
        document,
        name=config.out.resolve().name,
        shown=[row for row in document["rows"] if row["name"] not in hidden],
        pictures=pictures,
        between=between,
        conclusion=config.model and open_model(config.model, config.step).conclusion,
        training=config.model and _page_of(RunFolder(Path(config.model))),
    )
    write_atomic(config.out / PAGE, page.encode("utf-8", "backslashreplace"))  # names may hold any bytes


def between(number: float, ci95: Sequence[float], form: str = ".2f") -> str:
    """Return a number with its 95% interval, such as "2.05 (1.98 to 2.12)"."""
    low, high = (format(end, form) for end in ci95)
    return f"{number:{form}} ({low} to {high})"


def _page_of(run: RunFolder) -> str | None:
    return run.report.read_text(encoding="utf-8") if run.report.is_file() else None


_TEMPLATE = PAGES.from_string((Path(__file__).parent / "page.html").read_text(encoding="utf-8"))
