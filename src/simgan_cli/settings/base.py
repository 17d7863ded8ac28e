"""Types and helpers of all commands' settings. Imports no torch."""

import re
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, cast

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, JsonValue, PlainSerializer
from pydantic.fields import FieldInfo

RUNTIME = "Runtime"  # a panel; a key that several commands have here is one setting for all of them


def parse_size(value: object) -> object:
    """Read "HxW" (rows x columns, pixels) as (H, W); anything else is left to the type check."""
    if isinstance(value, str):
        match = re.fullmatch(r"(\d{1,6})x(\d{1,6})", value.strip())
        if match is None:
            raise ValueError(f"{value!r} is not HEIGHTxWIDTH, such as 35x55")
        return int(match[1]), int(match[2])
    return value


def parse_duration(value: object) -> object:
    """Read "90s", "30m", "2h" or "1h30m" as seconds."""
    if isinstance(value, str):
        match = re.fullmatch(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s?)?", value.strip())
        if match is None or not any(match.groups()):
            raise ValueError(f"{value!r} is not a duration, such as 90s, 30m or 1h30m")
        hours, minutes, seconds = (int(group or 0) for group in match.groups())
        return float(3600 * hours + 60 * minutes + seconds)
    return value


def as_list(value: object) -> object:
    """Return a single text, as the environment gives it, in a list."""
    return [value] if isinstance(value, str) else value


def _check_path(value: object) -> object:
    if value == "":
        raise ValueError("it is empty; '.' means the current folder")
    if isinstance(value, str) and "\0" in value:
        raise ValueError("a path cannot hold a NUL character")
    return value


def _as_text(value: object) -> object:
    return str(value) if isinstance(value, Path) else value


ModelSetting = Annotated[str, BeforeValidator(_as_text), BeforeValidator(_check_path)]  # a Path turns hf:// into hf:/
PathSetting = Annotated[Path, BeforeValidator(_check_path)]
Globs = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], BeforeValidator(as_list)]
PlainBackground = Annotated[str, Field(pattern=r"^(keep|#[0-9a-fA-F]{6})$")]
Device = Annotated[str, Field(pattern=r"^(auto|cpu|cuda(:\d{1,3})?|mps)$")]
Convention = Literal["mpiigaze", "gazehub", "xgaze"]  # meaning of two angles
Target = Literal["gaze", "pupil", "points"]  # meaning of labels
Arithmetic = Literal["fp32", "bf16"]
Precision = Literal["auto", Arithmetic]
Size = Annotated[
    tuple[Annotated[int, Field(ge=4)], Annotated[int, Field(ge=4)]],
    BeforeValidator(parse_size),
    PlainSerializer(lambda size: f"{size[0]}x{size[1]}", when_used="json-unless-none"),
]
Seed = Annotated[int, Field(ge=0, lt=2**63)]  # PyTorch's generators take no more
Duration = Annotated[float, BeforeValidator(parse_duration), Field(gt=0)]


def setting(
    default: Any,
    meaning: str,
    panel: str,
    *,
    essential: bool = False,
    short: str | None = None,
    metavar: str | None = None,
    argument: bool = False,
    changeable: bool = False,
    **bounds: Any,
) -> Any:
    """Declare a setting: an option of its command, or a positional `argument`.

    `--help` shows the `essential` ones, `--help-all` all. `changeable` ones may differ when a training is resumed: they
    set how far and where it runs, and what it keeps.
    """
    extra: dict[str, JsonValue] = {
        "panel": panel, "essential": essential, "short": short, "metavar": metavar, "argument": argument,
        "changeable": changeable,
    }  # fmt: skip
    return Field(default, description=meaning, json_schema_extra=extra, **bounds)


class Settings(BaseModel):
    """The resolved settings of one command."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
    command: ClassVar[str]
    recorded_as: ClassVar[str | None] = None  # schema of the JSON file that records them, which --config reads

    @classmethod
    def fields_by_key(cls) -> dict[str, FieldInfo]:
        """Return the fields by the names that people use: `lambda_reg` is `lambda`, which Python reserves."""
        return {field.alias or name: field for name, field in cls.model_fields.items()}


def extra_of(field: FieldInfo) -> dict[str, Any]:
    """Return the arguments of `setting` beside the type and the bounds."""
    return cast("dict[str, Any]", field.json_schema_extra)
