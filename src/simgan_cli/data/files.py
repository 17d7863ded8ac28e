"""Writing files so that a reader finds the old content or the new, never half of it."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

TEMPORARY_PREFIX = ".tmp-"


def write_atomic(path: Path, content: bytes | str) -> None:
    """Replace `path` by `content` in one step: temporary file beside it, fsync, rename.

    Raises OSError; the earlier file is then untouched and the temporary one removed.
    """
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=path.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o666 & ~_umask())  # mkstemp's 0600 would hide results from a group
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
    # File names that are not UTF-8 hold lone surrogates; "backslashreplace" spells them as JSON's own escapes.
    write_atomic(path, text.encode("utf-8", "backslashreplace"))


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that becomes `path` when the block ends well.

    An older folder of that name is replaced. Raises OSError; nothing is then left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = Path(tempfile.mkdtemp(prefix=TEMPORARY_PREFIX, dir=path.parent))
    try:
        temporary.chmod(0o777 & ~_umask())
        yield temporary
        sync_directory(temporary)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            retired = temporary.with_name(temporary.name + "-retired")
            path.rename(retired)
            temporary.rename(path)
            shutil.rmtree(retired, ignore_errors=True)
        sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def remove_temporaries(folder: Path) -> None:
    """Delete what a killed process left half written in `folder`; call it only as the folder's one owner."""
    for entry in folder.glob(TEMPORARY_PREFIX + "*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def sync_directory(folder: Path) -> None:
    """Make renames in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _umask() -> int:
    current = os.umask(0o022)
    os.umask(current)
    return current
