"""Globs that select the pictures of a folder."""

import fnmatch
import re
from dataclasses import dataclass
from functools import cache


@dataclass(frozen=True)
class Patterns:
    """Pictures match an `include`, if there is one, and no `exclude`.

    The rules are rsync's. A pattern is compared with the last names of a path; one that starts with a slash, with the
    complete path below the input. `*` and `?` stop at a slash, `**` does not. A pattern that matches a folder takes
    everything in it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.include or self.exclude)

    def takes(self, path: str) -> bool:
        """Return whether the file at `path`, relative to the input, is one of the pictures."""
        return (not self.include or _match(self.include, path)) and not self.excludes(path)

    def excludes(self, path: str) -> bool:
        """Return whether an `exclude` matches."""
        return bool(self.exclude) and _match(self.exclude, path)

    def names(self, suffix: str) -> bool:
        """Return whether an `include` ends in `suffix`."""
        return any(glob.lower().endswith(suffix) for glob in self.include)


ANY = Patterns()


def _match(patterns: tuple[str, ...], path: str) -> bool:
    return _compiled(patterns).match(path) is not None


@cache
def _compiled(patterns: tuple[str, ...]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, patterns)), re.DOTALL)


def translate(pattern: str) -> str:
    """Return the regular expression that a pattern stands for."""
    anchored = pattern.startswith("/")
    parts = []
    for part in re.split(r"(\*\*/?|\*|\?|\[!?\]?[^\]/]*\])", pattern.removeprefix("./").strip("/")):
        if part.startswith("**"):
            parts.append("(?:.*/)?" if part.endswith("/") else ".*")
        elif part in ("*", "?"):
            parts.append("[^/]*" if part == "*" else "[^/]")
        elif part.startswith("[") and part.endswith("]") and len(part) > 2:
            parts.append(re.sub(r"^\(\?s:(.*)\)\\[zZ]$", r"(?!/)\1", fnmatch.translate(part), flags=re.DOTALL))
        else:
            parts.append(re.escape(part))
    return f"(?:{'' if anchored else '(?:.*/)?'}{''.join(parts)}(?:/.*)?)\\Z"
