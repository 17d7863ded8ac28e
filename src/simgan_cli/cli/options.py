"""Options that all commands share: they say how to run one, and are no settings of what it computes."""

from pathlib import Path
from typing import Annotated

import typer

ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", help="Settings from a TOML file, below the command's name in brackets.", metavar="FILE"),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Only warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Every setting, also those left at their default.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on stdout at the end.")]
