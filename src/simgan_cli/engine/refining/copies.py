"""Names of results, and copies of label files where each image gets several looks (--copies)."""

import os
import posixpath
import re
from collections.abc import Callable, Iterable, Iterator
from pathlib import PurePosixPath

from simgan_cli.data import label_table
from simgan_cli.data.texts import edit_text
from simgan_cli.data.tree import SUFFIXES, suffix_of
from simgan_cli.engine.refining.image_file import FORMATS
from simgan_cli.settings.refine import FormatName

TABLE_SUFFIXES = frozenset(".json .jsonl .csv .tsv .txt .xml .yaml .yml .html .md .log".split())
_SUFFIX = "|".join(suffix[1:] for suffix in sorted(SUFFIXES))
NAME_OF_IMAGE = re.compile(rf"""[^/\\"'<>,;:|=\s]+\.(?:{_SUFFIX})(?![\w.])""".encode(), re.IGNORECASE)


def output_name(path: str, wanted: FormatName | None) -> str:
    """Return the name of a result: that of its input, with another suffix only where another format needs it."""
    if wanted is None or PurePosixPath(path).suffix.lower() in FORMATS[wanted].suffixes:
        return path
    return str(PurePosixPath(path).with_suffix(FORMATS[wanted].suffixes[0]))


def copy_name(path: str, copy: int) -> str:
    """Return the name of one look of an image: "b_0.png" for "b.png"."""
    stem = _stem(path)
    return f"{stem}_{copy}{path[len(stem) :]}"


class Copies:
    """The looks of all images in one folder or archive, and the files of labels that follow them.

    Files beside an image that have its stem get a copy for each look, and rows of labels.csv are repeated. With one
    look each, all names stay.
    """

    def __init__(self, count: int, images: Iterable[str], wanted: FormatName | None) -> None:
        self.count, self._format = count, wanted
        self._paths = set(images) if count > 1 else set[str]()
        self._stems = {_stem(path) for path in self._paths}
        self._names = {os.fsencode(path.rpartition("/")[2]) for path in self._paths}

    def images(self, path: str) -> list[str]:
        """Return the names of the results of an image."""
        name = output_name(path, self._format)
        return [copy_name(name, copy) for copy in range(self.count)] if self.count > 1 else [name]

    def pairs(self, images: Iterable[str], others: Iterable[str]) -> Iterator[tuple[str, str]]:
        """Yield each input with each name of its results; images that look like labels are carried along."""
        for path in images:
            made = self.images(path) if self.count == 1 or path in self._paths else [path]
            yield from ((path, name) for name in made)
        for path in others:
            yield from ((path, name) for name in self.others(path))

    def others(self, path: str) -> list[str]:
        """Return the names under which another file is carried along: one for each look of the image beside it."""
        stem = path
        while "." in stem.rpartition("/")[2]:
            stem = stem.rpartition(".")[0]
            if stem in self._stems:
                return [f"{stem}_{copy}{path[len(stem) :]}" for copy in range(self.count)]
        return [path]

    def is_edited(self, path: str) -> bool:
        """Return whether another file's content changes."""
        return self.count > 1 and path.rpartition("/")[2] == label_table.NAME

    def edited(self, path: str, content: bytes) -> bytes:
        """Return the content of labels.csv with a row for each look; content that is not such a table stays."""
        folder = path[: -len(label_table.NAME)]
        try:
            return edit_text(content, lambda text: label_table.repeat_rows(text, lambda file: self._rows(folder, file)))
        except ValueError:
            return content

    def is_outdated(self, path: str, read: Callable[[], bytes]) -> bool:
        """Return whether a file that is carried along names images by their old names."""
        if self.count == 1 or suffix_of(path) not in TABLE_SUFFIXES:
            return False
        content = self.edited(path, read()) if self.is_edited(path) else read()
        matches = NAME_OF_IMAGE.finditer(content.replace(b"\0", b""))  # UTF-16, too
        return any(match[0] in self._names for match in matches)

    def _rows(self, folder: str, file: str) -> list[str]:
        """Return the looks of a file that a table in `folder` names, with or without its suffix."""
        place = posixpath.normpath(folder + file.replace("\\", "/"))
        if place in self._paths:
            return self.images(file)
        return [f"{file}_{copy}" for copy in range(self.count)] if place in self._stems else [file]


def _stem(path: str) -> str:
    """Return a path without its last suffix."""
    folder, slash, name = path.rpartition("/")
    return folder + slash + PurePosixPath(name).stem
