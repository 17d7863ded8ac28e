"""The documentation site builds without a warning, is complete, and loads nothing from other sites."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import pytest
import typer

from simgan_cli.cli.app import app
from simgan_cli.documents import Document
from simgan_cli.engine.run_folder.health import RULES
from simgan_cli.engine.run_folder.metric_fields import METRICS
from simgan_cli.errors import EXIT_CODES

pytestmark = pytest.mark.slow  # complete commands

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return folder


def test_nothing_is_loaded_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > 20
    for page in pages:  # links to follow are allowed
        tags = re.findall(r"<(?:script|img|iframe|source|video|link)\b[^>]*>", page.read_text())
        loaded = [tag for tag in tags if not re.search(r"\brel=.?(canonical|next|prev)\b", tag)]
        assert loaded
        assert [tag for tag in loaded if re.search(r"""\b(src|href)=["']?(https?:)?//""", tag)] == []


def test_every_command_has_a_page_with_every_option(site: Path) -> None:
    group: Any = typer.main.get_command(app)
    for name, command in group.commands.items():
        page = (site / "reference" / f"{name}.html").read_text()
        for parameter in command.params:
            assert all(option in page for option in parameter.opts if option.startswith("--")), name


def test_tables_of_the_code_are_complete(site: Path) -> None:
    tables = {"metrics": METRICS, "health": [rule.name for rule in RULES], "exit-codes": map(str, EXIT_CODES)}
    tables["json"] = [get_args(kind.__annotations__["schema"])[0] for kind in get_args(Document)]
    for name, entries in tables.items():
        page = (site / "reference" / f"{name}.html").read_text()
        assert all(f">{entry}<" in page for entry in entries), name


def test_the_readme_is_the_front_page_and_the_browser_draws_equations(site: Path) -> None:
    front, method = ((site / f"{name}.html").read_text() for name in ("index", "method"))
    assert 'href="tutorial.html"' in front
    assert 'href="results.html"' in front
    assert method.count('<math xmlns="http://www.w3.org/1998/Math/MathML" display="block"') >= 4
    assert "arithmatex" not in method
    assert "\\(" not in method
