"""Writing files so that a reader finds the old content or the new, never half of it."""

import hashlib
import json
import math
import os
import secrets
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from simgan_cli.portability import (
    IS_WINDOWS,
    close_to_rename,
    has_syncfs,
    open_to_write,
    remove_locked,
    replace_file,
    sync_files,
    take_lock,
)

TEMPORARY_PREFIX, RETIRED = ".tmp-", "-retired"
MAX_NAME = 40  # characters of a folder's name in its temporary one; 255 bytes leave no room for more


@contextmanager
def atomic_file(path: Path, *, synced: bool = True) -> Iterator[BinaryIO]:
    """Yield a new file beside `path` that becomes `path` when the block succeeds: fsync, then rename.

    Unless `synced`, the caller makes the rename survive a power cut (`sync_directory`), once for many files.
    The new file's name depends on `path` alone, so that a rerun replaces what a killed process left. Its lock makes
    two writers of one path take turns; on Windows one of them fails. Raises OSError; `path` is then untouched and the
    new file removed. A device or pipe, such as /dev/null, is written to as it is: a rename would replace it.
    """
    if path.exists() and not path.is_file():
        with path.open("wb") as file:
            yield file
        return
    temporary = _temporary_of(path)
    with os.fdopen(_open_locked(temporary), "wb") as file:
        try:
            file.truncate()
            yield file
            file.flush()
            os.fsync(file.fileno())
            close_to_rename(file)
            replace_file(temporary, path)  # while it is still locked
        except BaseException:
            with suppress(OSError):
                close_to_rename(file)
            temporary.unlink(missing_ok=True)  # while it is still locked: another writer may wait for it
            raise
    if synced:
        sync_directory(path.parent)


def write_atomic(path: Path, content: bytes | str, *, synced: bool = True) -> None:
    """Replace `path` by `content` in one step. Raises OSError; the earlier file is then untouched.

    Text becomes UTF-8; lone surrogates, of file names that are not UTF-8, become escapes.
    """
    with atomic_file(path, synced=synced) as file:
        file.write(content.encode(errors="backslashreplace") if isinstance(content, str) else content)


@contextmanager
def atomic_files() -> Iterator[Callable[[Path, bytes], None]]:
    """Yield a function that writes a file; all files take their places when the block succeeds, after one sync.

    One sync for all takes a tenth of the CPU time of one for each. Without `syncfs` each file is replaced at once.
    The caller makes the renames survive a power cut (`sync_directory`). New files are named and locked as by
    `atomic_file`. Raises OSError; new files that are not in their place are then removed.
    """
    if not has_syncfs():
        yield partial(write_atomic, synced=False)
        return
    held: list[tuple[int, Path, Path]] = []  # descriptor, new file, path

    def write(path: Path, content: bytes) -> None:
        temporary = _temporary_of(path)
        try:
            descriptor = _open_locked(temporary, patience=0 if held else math.inf)
        except BlockingIOError:  # to wait while holding locks could be a deadlock with another writer
            put_in_place()
            descriptor = _open_locked(temporary)
        held.append((descriptor, temporary, path))
        os.ftruncate(descriptor, 0)
        left = memoryview(content)
        while left:
            left = left[os.write(descriptor, left) :]

    def put_in_place() -> None:
        sync_files([descriptor for descriptor, _, _ in held])
        while held:
            descriptor, temporary, path = held[-1]
            replace_file(temporary, path)  # while it is still locked
            os.close(descriptor)
            held.pop()

    try:
        yield write
        put_in_place()
    finally:
        for descriptor, temporary, _ in held:
            temporary.unlink(missing_ok=True)
            os.close(descriptor)


def copy_atomic(source: Path, path: Path) -> None:
    """Replace `path` by a copy of `source` with its times and permissions, in one step. Raises OSError.

    The caller makes the renames survive a power cut (`sync_directory`).
    """
    with atomic_file(path, synced=False) as file, source.open("rb") as original:
        while part := _read_part(original, source):
            file.write(part)
        file.flush()
        shutil.copystat(source, _temporary_of(path))


def _read_part(file: BinaryIO, path: Path) -> bytes:
    with with_filename(path):
        return file.read(2**20)


@contextmanager
def with_filename(path: Path) -> Iterator[None]:
    """Add the file name to an OSError raised while reading, which names none."""
    try:
        yield
    except OSError as error:
        error.filename = error.filename or str(path)
        raise


def _temporary_of(path: Path) -> Path:
    # A digest, since a name of 255 bytes leaves no room for more.
    return path.with_name(TEMPORARY_PREFIX + hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16])


@contextmanager
def locked_file(path: Path) -> Iterator[None]:
    """Hold the lock file `path` against all other processes; create it if missing, and remove it afterwards."""
    descriptor = _open_locked(path)
    try:
        yield
    finally:
        remove_locked(path, descriptor)


def _open_locked(path: Path, patience: float = math.inf) -> int:
    """Return a descriptor of `path`, created if missing, that this process alone holds.

    Raises BlockingIOError where another process holds it longer than `patience` seconds.
    """
    while True:
        descriptor = _open_to_write(path)
        try:
            take_lock(descriptor, patience=patience)
            with suppress(FileNotFoundError):
                if os.path.samestat(os.fstat(descriptor), path.lstat()):
                    return descriptor
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)  # another writer renamed or removed it meanwhile


def _open_to_write(path: Path) -> int:
    try:
        return open_to_write(path)
    except PermissionError:  # a killed process may have left a copy of a read-only file
        if not path.exists():
            raise
        path.chmod(0o600)
        return open_to_write(path)


def parse_json(text: str | bytes) -> Any:
    """Return the value of a JSON text. Raises ValueError, also for one that is nested too deep."""
    try:
        return json.loads(text)
    except RecursionError as error:
        raise ValueError("nested too deep") from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_atomic(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextmanager
def atomic_directory(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that becomes `path` when the block succeeds.

    An older folder of that name is replaced. Raises OSError; nothing is then left behind.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY_PREFIX}{path.name[:MAX_NAME]}-{secrets.token_hex(8)}")
    temporary.mkdir()
    try:
        yield temporary
        sync_directory(temporary)
        try:
            temporary.rename(path)
        except OSError:
            if not path.is_dir():
                raise
            _replace_directory(path, temporary)
        sync_directory(path.parent)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise


def _replace_directory(path: Path, new: Path) -> None:
    """Put a complete folder in the place of an older one; `remove_temporaries` completes this after a kill."""
    retired = new.with_name(new.name + RETIRED)
    try:
        path.rename(retired)
        new.rename(path)
    except BaseException:
        if retired.is_dir() and not path.exists():
            retired.rename(path)
        raise
    shutil.rmtree(retired, ignore_errors=True)


def remove_temporaries(folder: Path) -> None:
    """Delete what a killed process left half written in `folder`; call it only as the folder's one owner.

    Where `_replace_directory` was killed between its two renames, the new, complete folder takes its place.
    """
    for retired in folder.glob(f"{TEMPORARY_PREFIX}*{RETIRED}"):
        new = retired.with_name(retired.name.removesuffix(RETIRED))
        name = new.name.removeprefix(TEMPORARY_PREFIX).rpartition("-")[0]
        if len(name) < MAX_NAME and not (folder / name).exists():  # a longer name was cut
            (new if new.is_dir() else retired).rename(folder / name)
    for entry in folder.glob(f"{TEMPORARY_PREFIX}*"):
        if entry.is_dir():
            shutil.rmtree(entry, ignore_errors=True)
        else:
            entry.unlink(missing_ok=True)


def sync_directory(folder: Path) -> None:
    """Make renames in `folder` survive a power cut; Windows has no call for it."""
    if IS_WINDOWS:
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the hexadecimal SHA-256 of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
