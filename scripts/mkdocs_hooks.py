"""MkDocs hooks: every build makes the reference from the code and its help, so that it is never out of date.

`pages` makes the reference. README.md is the front page, benchmarks/RESULTS.md a page of its own. Equations become
MathML, which browsers draw themselves, so that the site loads nothing from elsewhere.
"""

import ast
import html
import inspect
import json
import re
import textwrap
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import NoneType
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import typer
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from pydantic import BaseModel
from typing_extensions import is_typeddict

import simgan_cli
from simgan_cli.cli.app import app
from simgan_cli.cli.command import default_of, names_of
from simgan_cli.cli.resolve import COMMANDS, ENVIRONMENT_PREFIX, shared_keys, variables_of
from simgan_cli.documents import EXPORT_METADATA, FILES, LABEL_COLUMNS, PREDICTION_COLUMNS, Document
from simgan_cli.engine.run_folder.health import RULES, WARM_UP_STEPS
from simgan_cli.engine.run_folder.layout import LAYOUT
from simgan_cli.engine.run_folder.metric_fields import METRICS
from simgan_cli.errors import EXIT_CODES
from simgan_cli.settings.train import PAPER_HANDS, PRESETS, RECIPES

ROOT = Path(__file__).parents[1]
FRONT_PAGE, REFERENCE, RESULTS = "index.md", "Reference", "results.md"
WORDS: dict[Any, str] = {
    str: "text", int: "integer", float: "number", bool: "true or false", NoneType: "null", dict[str, Any]: "object",
}  # fmt: skip
BOUNDS = {"ge": "at least", "gt": "above", "le": "at most", "lt": "below"}


def on_config(config: MkDocsConfig) -> None:
    """Add the generated pages to the navigation."""
    assert config.nav is not None
    section = next(item[REFERENCE] for item in config.nav if REFERENCE in item)
    section += pages()


def on_files(files: Files, config: MkDocsConfig) -> None:
    """Add the generated pages themselves."""
    for path, text in pages().items():
        files.append(File.generated(config, path, content=text))
    results = (ROOT / "benchmarks" / "RESULTS.md").read_text().replace("](../docs/", "](")
    files.append(File.generated(config, RESULTS, content=results))


def on_page_markdown(markdown: str, page: Page, **_: Any) -> str:
    """Show README.md as the front page: its links into docs/ start one folder lower here."""
    if page.file.src_uri != FRONT_PAGE:
        return markdown
    readme = (ROOT / "README.md").read_text()
    return readme.replace("](docs/", "](").replace("](benchmarks/RESULTS.md", f"]({RESULTS}")


def on_page_content(content: str, **_: Any) -> str:
    """Turn the equations that arithmatex marked into MathML."""

    def drawn(match: re.Match[str]) -> str:
        tag, latex = match["tag"], html.unescape(match["latex"]).strip()
        formula: str = convert(latex, display="block" if tag == "div" else "inline")
        return f'<{tag} class="formula">{formula}</{tag}>'

    return re.sub(
        r'<(?P<tag>span|div) class="arithmatex">\\[(\[](?P<latex>.*?)\\[)\]]</(?P=tag)>',
        drawn,
        content,
        flags=re.DOTALL,
    )


def pages() -> dict[str, str]:
    """Return the reference, Markdown by path, in the order of the navigation."""
    group: Any = typer.main.get_command(app)
    commands = {f"reference/{name}.md": command_page(name, command) for name, command in group.commands.items()}
    return commands | {
        "reference/recipes.md": recipes_page(),
        "reference/metrics.md": metrics_page(),
        "reference/health.md": health_page(),
        "reference/run-folder.md": run_folder_page(),
        "reference/exit-codes.md": exit_codes_page(),
        "reference/json.md": json_page(),
        "reference/python.md": python_page(),
    }


def command_page(name: str, command: Any) -> str:
    """Return the page of `simgan NAME --help-all`, with the other places to set each option."""
    with command.make_context(f"simgan {name}", [], resilient_parsing=True) as context:
        usage = command.get_usage(context).removeprefix("Usage: ")
    panels: dict[str, list[Any]] = {}
    for parameter in command.params:
        panels.setdefault(getattr(parameter, "rich_help_panel", None) or "Options", []).append(parameter)
    parts = [f"# simgan {name}", command.help, f"```text\n{usage}\n```"]
    if name in COMMANDS:
        variable = list(variables_of(name))[-1]
        shared = ", ".join(f"`{ENVIRONMENT_PREFIX}{key.upper()}`" for key in sorted(shared_keys()))
        parts.append(
            f"Each option below a heading other than *Options* is also a key of the table `[{name}]` in a TOML file "
            f"(`--config`), without its dashes, and an environment variable, such as `{variable}`. "
            f"{shared} set their option for all commands that have it."
        )
    for panel, parameters in panels.items():
        rows = [(f"`{names_of(p)}`", _code(default_of(p)), _meaning(p, _bounds(name, p.name))) for p in parameters]
        parts.append(f"## {panel}\n\n{_table(('option', 'default', 'meaning'), rows)}")
    return "\n\n".join(parts)


def recipes_page() -> str:
    """Return the tables of recipes and presets."""
    tables = [
        f"## --{kind} {name}\n\n" + (_settings(values) if values else "The defaults of [simgan train](train.md).")
        for kind, table in (("recipe", RECIPES), ("preset", PRESETS))
        for name, values in table.items()
    ]
    tables.append(
        f"## --recipe paper --preset hands\n\nTogether, these in place of theirs:\n\n{_settings(PAPER_HANDS)}"
    )
    intro = "The settings of recipes and presets; a file, the environment and flags win over them."
    return "\n\n".join(["# Recipes and presets", intro, *tables])


def metrics_page() -> str:
    """Return the table of the fields of metrics.jsonl."""
    rows = [(f"`{name}`", field.lines, field.meaning) for name, field in METRICS.items()]
    intro = (
        "A JSON object a line, every `--log-every` steps. Numbers are means since the last line; x is a synthetic "
        "image, R(x) the refined one, D the discriminator. Fields that a line's phase does not have are absent. "
        "Measurements on held-out images need 80 images in each domain."
    )
    return f"# Fields of metrics.jsonl\n\n{intro}\n\n{_table(('field', 'lines', 'meaning'), rows)}"


def health_page() -> str:
    """Return the table of the rules that judge a training."""
    rows = [
        (f"**{rule.name}**", rule.when, "at once" if rule.steps == 0 else f"{rule.steps} steps", rule.advice)
        for rule in RULES
    ]
    intro = (
        "These rules judge each line of [metrics](metrics.md). A rule that holds for its time fires once, with its "
        "numbers and what to change. It stands in `health` of the line and of `--json`, in the summary and in "
        f"`report.html`. All but the first wait for {WARM_UP_STEPS} iterations of Algorithm 1."
    )
    return f"# Rules of health\n\n{intro}\n\n{_table(('verdict', 'seen', 'for', 'what to change'), rows)}"


def run_folder_page() -> str:
    """Return the table of the files in a run folder."""
    rows = [(f"`run/{path}`", meaning) for path, meaning in LAYOUT.items()]
    return f"# The run folder\n\nThe files that `simgan train --out run` writes.\n\n{_table(('path', 'content'), rows)}"


def exit_codes_page() -> str:
    """Return the table of exit codes."""
    rows = [(f"`{code}`", meaning) for code, meaning in EXIT_CODES.items()]
    return f"# Exit codes\n\nThe same for all commands.\n\n{_table(('code', 'meaning'), rows)}"


def json_page() -> str:
    """Return the fields of all JSON documents; what several of them share has a section of its own."""
    from simgan_cli.gaze.labels import UNIT

    documents = [*get_args(Document), *FILES]
    uses = dict.fromkeys(use for document in documents for use in _uses(document))
    shared = [part for part, count in Counter(part for _, part in uses).items() if count > 1]
    sections = []
    for document in [*documents, *shared]:
        rows = list(_field_rows(document, shared))
        about = f"## {_heading(document)}\n\n{inspect.getdoc(document)}"
        sections.append(f"{about}\n\n{_table(('field', 'type', 'meaning'), rows)}")
    columns = [(f"`{name}`", meaning) for name, meaning in PREDICTION_COLUMNS.items()]
    for target, (true, predicted, meaning) in LABEL_COLUMNS.items():
        names = ", ".join(f"`{name}`" for name in (*true, *predicted))
        columns.append((f"{names}, `error_{UNIT[target]}`", f"with `--target {target}`: true and predicted {meaning}"))
    intro = (
        "`--json` writes one document to stdout; messages go to stderr. Each names its `schema`, whose number changes "
        "when a field changes its meaning. Fields may be added. A field that does not apply is null.\n\n"
        "`a[].b` is the field `b` of each object in the list `a`, and `a.*.b` that of each object in `a` by name."
    )
    metadata = [(f"`{key}`", meaning) for key, meaning in EXPORT_METADATA.items()]
    return "\n\n".join(
        [
            f"# JSON documents\n\n{intro}",
            *sections,
            "## Metadata of an exported file\n\nTexts in an ONNX file. `simgan.json` in a `.pt2` has the first three "
            f"as values, and `interface`.\n\n{_table(('key', 'meaning'), metadata)}",
            "## predictions.csv\n\nBeside `results.json`, a line for each row, seed and test image.\n\n"
            f"{_table(('column', 'meaning'), columns)}",
        ]
    )


def python_page() -> str:
    """Return signatures and docstrings of the public Python API."""
    from simgan_cli.engine.refining.image_refiner import ImageRefiner

    functions: list[tuple[str, Callable[..., Any]]] = [
        ("simgan_cli.load_refiner", simgan_cli.load_refiner),
        ("ImageRefiner.__call__", ImageRefiner.__call__),
    ]
    parts = ["# Python", f"`import simgan_cli` offers {', '.join(f'`{name}`' for name in simgan_cli.__all__)}."]
    for name, function in functions:
        parts += [f"## `{name}`", f"```text\n{_signature(name, function)}\n```", inspect.getdoc(function) or ""]
    return "\n\n".join(parts)


def _heading(document: type) -> str:
    """Return a document's schema, or the class's name where it has none."""
    hints = get_type_hints(document)
    schema = hints.get("schema", hints.get("schema_name"))
    return str(get_args(schema)[0]) if schema else document.__name__


def _fields(document: type) -> dict[str, Any]:
    """Return the types of a document's fields but its schema, with their meanings, by name."""
    hints = get_type_hints(document, include_extras=True)
    if issubclass(document, BaseModel):
        hints = {field.alias or name: hints[name] for name, field in document.model_fields.items()}
    return {name: hint for name, hint in hints.items() if name != "schema"}


def _field_rows(document: type, shared: Sequence[type], prefix: str = "") -> Iterator[tuple[str, str, str]]:
    """Yield name, type and meaning of each field, and below it the fields of an object that no section describes."""
    for name, hint in _fields(document).items():
        meaning = next(text for text in reversed(get_args(hint)) if isinstance(text, str))
        yield f"`{prefix}{name}`", _in_words(hint, shared), meaning
        for part, place in _parts(hint):
            if part not in shared:
                yield from _field_rows(part, shared, f"{prefix}{name}{place}.")


def _parts(hint: Any, place: str = "") -> Iterator[tuple[type, str]]:
    """Yield each object that a type holds, and its place: "[]" for an item of a list, ".*" for one of an object."""
    if is_typeddict(hint) or (isinstance(hint, type) and issubclass(hint, BaseModel)):
        yield hint, place
        return
    inner = {list: "[]", dict: ".*"}.get(get_origin(hint), "")
    for argument in get_args(hint):
        yield from _parts(argument, place + inner)


def _uses(document: type) -> Iterator[tuple[type, type]]:
    """Yield each part of a document, at any depth, after the object that holds it."""
    for hint in _fields(document).values():
        for part, _ in _parts(hint):
            yield document, part
            yield from _uses(part)


def _in_words(hint: Any, shared: Sequence[type]) -> str:
    """Return a type in plain words."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _in_words(arguments[0], shared)
    if hint in WORDS:
        return WORDS[hint]
    if hint in shared:
        return f"[{hint.__name__}](#{hint.__name__.lower()})"
    if origin is Literal:
        return " or ".join(f"`{value if isinstance(value, str) else json.dumps(value)}`" for value in arguments)
    words = [_in_words(argument, shared) for argument in arguments if argument is not ...]
    if origin is list:
        return f"list of {words[0]}"
    if origin is tuple:
        return f"[{', '.join(words)}]" if ... not in arguments else f"list of {words[0]}"
    if origin is dict:
        value = f"({words[1]})" if " or " in words[1] else words[1]
        return f"{value} by {'name' if arguments[0] is str else words[0].replace(' or ', ', ')}"
    return " or ".join(words) or "object"


def _signature(name: str, function: Callable[..., Any]) -> str:
    """Return the signature as its source has it, a parameter a line."""
    (definition,) = ast.parse(textwrap.dedent(inspect.getsource(function))).body
    assert isinstance(definition, ast.FunctionDef)
    assert definition.returns is not None
    parameters = re.split(r", (?=\w+:|\*)", ast.unparse(definition.args))
    lines = "".join(f"    {parameter},\n" for parameter in parameters if parameter != "self")
    return f"{name}(\n{lines}) -> {ast.unparse(definition.returns).strip(chr(39))}"


def _code(text: str) -> str:
    return f"`{text}`" if text else ""


def _meaning(parameter: Any, bounds: str) -> str:
    return (parameter.help or "") + (f" {bounds[0].upper()}{bounds[1:]}." if bounds else "")


def _bounds(command: str, name: str) -> str:
    field = COMMANDS[command].model_fields.get(name) if command in COMMANDS else None
    bounds: Iterator[str] = (
        f"{words} {getattr(item, bound):g}"
        for item in (field.metadata if field else [])
        for bound, words in BOUNDS.items()
        if getattr(item, bound, None) is not None
    )
    return ", ".join(bounds)


def _settings(values: dict[str, Any]) -> str:
    return _table(
        ("option", "value"), [(f"`--{key.replace('_', '-')}`", f"`{value}`") for key, value in values.items()]
    )


def _table(head: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [head, ("---",) * len(head), *([_cell(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(text: str) -> str:
    """Return text with its bars escaped, except within backticks, where Markdown does it."""
    parts = text.split("`")
    return "`".join(part if number % 2 else part.replace("|", "&#124;") for number, part in enumerate(parts))
