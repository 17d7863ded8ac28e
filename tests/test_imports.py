"""Imports run one way, from the command line down to files; only some folders load torch."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE = Path(__file__).parents[1] / "src" / "simgan_cli"
LAYERS = (  # each imports from itself and from layers below; parts of one layer do not know each other
    ("cli",),
    ("gaze", "turing"),
    ("engine.selftest",),
    ("engine.training", "engine.refining"),
    ("engine.metrics",),
    ("engine.export",),
    ("engine.method",),
    ("engine.run_folder", "engine.runtime"),
    ("documents",),
    ("settings",),
    ("data", "demo"),
    ("pictures",),
    ("files",),
    ("errors", "portability"),
)
DEPTH = {part: depth for depth, layer in enumerate(LAYERS) for part in layer}
# `simgan --help` and every usage error answer without these: pyproject.toml keeps torch out of their modules.
WITHOUT_TORCH = {
    "cli",
    "engine.run_folder",
    "engine.runtime",
    "documents",
    "settings",
    "data",
    "demo",
    "pictures",
    "files",
    "errors",
    "portability",
}
MODULES = [
    *sorted(path for path in SOURCE.rglob("*/*.py") if path.name != "__init__.py"),
    SOURCE / "documents.py",
    SOURCE / "files.py",
    SOURCE / "errors.py",
    SOURCE / "portability.py",
]


def part_of(module: str) -> str:
    """Return the part that a module below simgan_cli belongs to, such as engine.method."""
    return max((part for part in DEPTH if f"{module}.".startswith(f"{part}.")), key=len)


def imports_of(tree: ast.Module) -> Iterator[tuple[str, bool]]:
    """Yield the modules below simgan_cli that one imports, and whether it does so as soon as it is imported."""
    at_once = set(map(id, tree.body))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.startswith("simgan_cli."):
            module = node.module.removeprefix("simgan_cli.")
            names = [f"engine.{alias.name}" for alias in node.names] if module == "engine" else [module]
            for name in names:
                yield name, id(node) in at_once


def violations(module: str, source: str) -> list[str]:
    """Return each import of `module` that breaks a rule."""
    mine = part_of(module)
    found = []
    for name, at_once in imports_of(ast.parse(source)):
        theirs = part_of(name)
        if theirs != mine and DEPTH[theirs] <= DEPTH[mine]:
            found.append(f"{module} imports {name}: {mine} lies below or beside {theirs}")
        if at_once and mine in WITHOUT_TORCH and theirs not in WITHOUT_TORCH:
            found.append(f"{module} imports {name} at module level: {theirs} loads torch")
    return found


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_one_way(path: Path) -> None:
    module = ".".join(path.relative_to(SOURCE).with_suffix("").parts)
    assert violations(module, path.read_text()) == []


def test_forbidden_imports_are_found_and_lazy_ones_of_torch_folders_allowed() -> None:
    lazily = "def f():\n    from simgan_cli.engine.training.build import train"
    assert violations("data.cache", "from simgan_cli.engine.method.psi import blur")
    assert violations("engine.training.loop", "from simgan_cli.engine.refining.job import RefineJob")
    assert violations("engine.method.algorithm", lazily)
    assert violations("cli.train", "from simgan_cli.engine.training.build import train")
    assert not violations("cli.train", lazily)
