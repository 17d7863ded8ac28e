"""`simgan turing-test`: ask people which images are refined, and add their answers up."""

from pathlib import Path
from typing import Any

from rich.box import SIMPLE_HEAD
from rich.markup import escape
from rich.table import Table

from simgan_cli.cli.command import ConfigFile, Json, Quiet, Verbose, with_settings
from simgan_cli.cli.console import ProgressLine, echo_err, exit_codes, print_json, stdout, strip_control
from simgan_cli.cli.resolve import print_settings, read_settings
from simgan_cli.documents import Choice, PageScore, TuringPageDocument
from simgan_cli.errors import SettingsError
from simgan_cli.files import write_atomic
from simgan_cli.settings.turing_test import TuringTestConfig

LOG_EVERY = 10_000  # images between lines of progress where there is no terminal


@with_settings(TuringTestConfig)
def turing_test(
    flags: dict[str, Any],
    *,
    config: ConfigFile = None,
    quiet: Quiet = False,
    verbose: Verbose = False,
    json: Json = False,
) -> None:
    """Ask people which images are refined (visual Turing test).

        simgan turing-test run --out turing-test.html

        simgan turing-test --score answers/*.json

    The page needs no server. At its end it gives a JSON file of answers.
    """
    with exit_codes("the page", smaller="lower --trials", json=json):
        settings = read_settings(TuringTestConfig, flags, config)
        if settings.score:
            _score(settings, json=json)
            return
        run = _run_of(settings)
        if not quiet:
            print_settings(settings, everything=verbose)
        from simgan_cli.turing.images import choose_images  # torch takes seconds to import
        from simgan_cli.turing.page import build_page

        with ProgressLine(LOG_EVERY, quiet=quiet) as progress:
            chosen = choose_images(run, settings, _Listener(progress, quiet=quiet))
        page = build_page(chosen, pairs=settings.pairs, seed=settings.seed)
        settings.out.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(settings.out, page.html)
        if not quiet:
            echo_err(f"written: {settings.out} (page {page.id}); open it in a browser, or send it to people")
        if json:
            document: TuringPageDocument = {
                "schema": "simgan.turing-test.page/1",
                "page": page.id,
                "out": str(settings.out),
                "pairs": settings.pairs,
                "images": [{"kind": image.kind, "file": image.file} for image in page.images],
            }
            print_json(document)


def _run_of(settings: TuringTestConfig) -> Path:
    """Return the run. Raises SettingsError that lists all problems before anything slow starts."""
    problems = []
    if len(settings.inputs) != 1:
        given = ", ".join(map(str, settings.inputs)) or "none"
        problems.append(f"wanted one run, got {given}; give --score for files of answers")
    if settings.out.is_dir():
        problems.append(f"--out {settings.out}: a folder; give the name of a file")
    elif settings.out.exists() and not settings.overwrite:
        problems.append(f"--out {settings.out}: exists; give --overwrite to replace it, or another name")
    if problems:
        raise SettingsError(*problems)
    return settings.inputs[0]


class _Listener:
    """Shows the progress of reading images."""

    def __init__(self, progress: ProgressLine, *, quiet: bool) -> None:
        self._progress, self._quiet = progress, quiet

    def decoding(self, domain: str, done: int, total: int) -> None:
        self._progress.update(f"reading {domain}", "images", done, total)

    def message(self, text: str) -> None:
        if not self._quiet:
            echo_err(text)

    def warning(self, text: str) -> None:
        echo_err(f"warning: {text}", "yellow")


def _score(settings: TuringTestConfig, *, json: bool) -> None:
    if not settings.inputs:
        raise SettingsError("--score: no file of answers given; name the JSON files that the page gave")
    from simgan_cli.turing.answers import score  # scipy.stats takes a second to import

    document = score(settings.inputs)
    if json:
        print_json(document)
        return
    for page in document["pages"]:
        stdout.print(f"page {page['page']}{' (pairs)' if page['pairs'] else ''}")
        stdout.print(_persons_table(page))
        stdout.print(_truth_table(page["all"]["table"]))
    if len(document["pages"]) > 1:
        echo_err("answers to different pages are not added up", "yellow")


def _persons_table(page: PageScore) -> Table:
    """Return a row for each person and one for all, with the p-value of guessing."""
    table = Table("person", "right", "accuracy", "95%", "p (one-sided)", box=SIMPLE_HEAD, pad_edge=False)
    for column in table.columns[1:]:
        column.justify, column.no_wrap = "right", True
    rows = [(person["subject"] or Path(person["file"]).name, person) for person in page["persons"]]
    for name, row in [*rows, (f"all {len(rows):,}", page["all"])]:
        low, high = row["ci95"]
        p = f"{row['p']:.3f}" if row["p"] >= 0.001 else "< 0.001"
        interval = f"{low:.1%} to {high:.1%}"
        right = f"{row['correct']:,} of {row['trials']:,}"
        table.add_row(escape(strip_control(name)), right, f"{row['accuracy']:.1%}", interval, p)
    return table


def _truth_table(counts: dict[Choice, dict[Choice, int]]) -> Table:
    """Return Table 1 of the paper: rows are the truth, columns the answers."""
    is_paired = "left" in counts
    table = Table(
        "refined image" if is_paired else "ground truth",
        *(f"selected {answer}" if is_paired else f"selected as {answer}" for answer in counts),
        box=SIMPLE_HEAD,
        pad_edge=False,
    )
    for truth, answers in counts.items():
        table.add_row(truth, *(f"{count:,}" for count in answers.values()))
    return table
