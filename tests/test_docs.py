"""The commands of README and docs work as printed, and the names in them exist."""

import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer

from simgan_cli.cli.app import app
from simgan_cli.engine.run_folder.layout import LAYOUT
from tests.conftest import Domains
from tests.gaze.helpers import write_csv
from tests.helpers import QUICK_ENVIRONMENT, TINY, simgan, write_images
from tests.simgan_server import warm_simgan

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = PAGES[0].read_text()
FILE = "(?:src|tests|examples|benchmarks)/"  # how the path of a file begins
TALK = ("text",)  # languages of blocks that are not commands


@dataclass(frozen=True)
class Block:
    """A fenced block of a page, with what stands in its first line and in the comment above it."""

    comment: str
    language: str
    title: str | None
    text: str

    @property
    def is_marked(self) -> bool:
        """Return whether the page gives a reason not to run it."""
        return re.fullmatch("not run: .{10,}|the test command", self.comment) is not None

    @property
    def is_included(self) -> bool:
        """Return whether it includes a file of the repository."""
        return self.text.startswith('--8<-- "')


def blocks_of(page: Path) -> list[Block]:
    fence = r'(?:^<!-- ([^\n]+) -->\n)?^```(\w+)(?: title="([^\n]+)")?\n(.*?)^```$'
    fences = re.findall(fence, page.read_text(), re.MULTILINE | re.DOTALL)
    assert len(fences) == len(re.findall("^```", page.read_text(), re.MULTILINE)) / 2, "a fence that is not understood"
    return [Block(comment, language, title or None, text) for comment, language, title, text in fences]


@pytest.fixture(scope="module")
def program() -> Path:
    return warm_simgan()


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory, program: Path) -> Path:
    """Everything that the pages suppose a reader has, and a run."""
    folder = tmp_path_factory.mktemp("world")
    persons = {"renders": 0, "more-renders": 0, "photos": 0, "real-eyes": 3, "more-real-eyes": 2}
    for seed, name in enumerate(persons):
        write_csv(folder / name, 12, seed, persons[name])
    (folder / "photos" / "labels.csv").unlink()
    for seed, domain in enumerate(("renders", "photos"), start=5):
        write_images(folder / f"color-{domain}", 5, seed, (16, 20, 3), np.uint8)
        write_images(folder / f"depth-{domain}", 5, seed + 10, (16, 20), np.uint16)
    shutil.copytree(ROOT / "examples", folder / "examples")
    shell("simgan train --synthetic renders --real photos --out run --quiet", folder, program)
    return folder


def shell(script: str, folder: Path, program: Path) -> str:
    """Run a script as a reader's shell would, on quick settings; return what it wrote to stdout."""
    environment = os.environ | QUICK_ENVIRONMENT | {"PATH": f"{program.parent}:{os.environ['PATH']}", "NO_COLOR": "1"}
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script], cwd=folder, env=environment, capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert result.returncode == 0, f"{script}\n{result.stdout}\n{result.stderr}"
    return result.stdout


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_a_page_works_from_top_to_bottom(
    page: Path, world: Path, program: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "reader"
    shutil.copytree(world, folder, symlinks=True)
    if re.search(r"--out run\s", page.read_text()):
        shutil.rmtree(folder / "run")  # the page trains its own
    monkeypatch.chdir(folder)
    for block in blocks_of(page):
        if block.is_included:
            assert (ROOT / block.text.split('"')[1]).is_file()
        elif block.is_marked or block.language in TALK:
            continue
        elif block.title is not None:
            Path(block.title).write_text(block.text)
        elif block.language == "sh":
            shell(block.text, folder, program)
        elif block.language == "python":
            exec(block.text, {"images": np.zeros((2, 35, 55, 1), np.uint8)})
        else:
            pytest.fail(f"nothing runs this block, and no comment gives the reason:\n{block.text}")


def anchors_of(page: Path) -> set[str]:
    """Return GitHub's anchors of a page's headings; mkdocs checks its own."""
    outside_of_blocks = re.sub("^```.*?^```$", "", page.read_text(), flags=re.MULTILINE | re.DOTALL)
    headings = re.findall("^#+ (.+)$", outside_of_blocks, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize(
    "name", ["README.md", "CONTRIBUTING.md", "benchmarks/README.md", "benchmarks/RESULTS.md", "SECURITY.md"]
)
def test_links_in_a_checkout_lead_to_headings(name: str) -> None:
    page = ROOT / name
    links = re.findall(r"\]\(((?!https?:)[^)\s]+)\)", page.read_text())
    for link in links:
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors_of(target), link
    assert links


def test_every_option_named_in_the_pages_exists() -> None:
    group: Any = typer.main.get_command(app)
    known = {
        name
        for command in (group, *group.commands.values())
        for parameter in command.params
        for name in (*parameter.opts, *parameter.secondary_opts)
    }
    others = {"--nproc-per-node", "--standalone", "--signal", "--requeue", "--help", "--install-completion"}
    for page in PAGES:
        unmarked = re.sub(r"<!--.*?-->\n```.*?```", "", page.read_text(), flags=re.DOTALL)
        named = set(re.findall(r"(?<![\w-])--[a-z][a-z-]+[a-z0-9]", unmarked))
        assert named <= known | others, page


def rows_of(page: Path) -> list[list[str]]:
    """Return the cells of each row of the page's tables."""
    return [row.split(" | ") for row in re.findall(r"^\| (?!---)(.+) \|$", page.read_text(), re.MULTILINE)]


def test_each_row_of_paper_to_code_names_a_test() -> None:
    tests = [row[-1] for row in rows_of(ROOT / "docs" / "paper-to-code.md") if row[-1] != "test"]
    assert len(tests) >= 25
    assert [cell for cell in tests if not re.search("`tests/", cell)] == []


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "docs/architecture.md", "docs/paper-to-code.md"])
def test_names_in_pages_for_developers_exist(name: str) -> None:
    cells = [cell for row in rows_of(ROOT / name) for cell in row if re.search(f"`{FILE}", cell)]
    assert len(cells) >= 10
    assert [cell for cell in cells if not names_are_defined(cell)] == []


def names_are_defined(cell: str) -> bool:
    """Return whether every name in backticks stands in the file that is named before it."""
    text = ""
    for item in re.findall("`([^`]+)`", cell):
        if re.match(FILE, item):
            if not (ROOT / item).is_file():
                return False
            text = (ROOT / item).read_text()
        elif text and not re.search(rf"\b{item}\b", text):
            return False
    return True


@pytest.mark.slow
def test_the_run_folder_is_as_documented(domains: Domains) -> None:
    result = simgan("train", *domains.flags, *TINY, "--sample-every", "5")
    assert result.returncode == 0, result.stderr
    documented = {path.split("/")[0] for path in LAYOUT} | {".lock"}
    of_labels = {"estimator", "weights.csv"}  # files of renders with labels
    assert {path.name for path in domains.out.iterdir()} == documented - of_labels
