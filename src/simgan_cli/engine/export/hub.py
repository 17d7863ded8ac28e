"""Refiners on the Hugging Face Hub: fetch one by its address, and upload one."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from simgan_cli import __version__
from simgan_cli.engine.export.network_folder import CONFIG, WEIGHTS
from simgan_cli.errors import SettingsError, SimganError

if TYPE_CHECKING:
    from huggingface_hub import HfApi

SCHEME = "hf://"
REPOSITORY = r"[\w.-]+/[\w.-]+"
TONES = "tones.safetensors"
FETCHED = (CONFIG, WEIGHTS, TONES)  # no code, no pickle


class Commit(NamedTuple):
    """The commit of an upload."""

    url: str
    sha: str


def is_address(place: str | Path) -> bool:
    """Return whether a model is named by its address on the Hub, hf://user/name or hf://user/name@revision."""
    return str(place).startswith(SCHEME)


def fetch(address: str) -> Path:
    """Return the folder of the refiner at `address`, in the Hub library's cache.

    Only JSON and safetensors are fetched. Raises SettingsError for a wrong address, or a missing repository, revision
    or library.
    """
    match = re.fullmatch(rf"{SCHEME}({REPOSITORY})(?:@([\w./-]+))?", address, re.ASCII)
    if match is None:
        raise SettingsError(f"{address}: wanted {SCHEME}USER/NAME or {SCHEME}USER/NAME@REVISION")
    with _explained(address):
        from huggingface_hub.utils import tqdm  # type: ignore[attr-defined]

        class NoBar(tqdm):
            """The library's bar, unseen: it would also be drawn into logs, and despite --quiet."""

            def __init__(self, *arguments: Any, **settings: Any) -> None:
                super().__init__(*arguments, **settings | {"disable": True})  # type: ignore[no-untyped-call]

        api, files = _api(), list(FETCHED)
        return Path(api.snapshot_download(match[1], revision=match[2], allow_patterns=files, tqdm_class=NoBar))


def upload(repository: str, files: Mapping[str, bytes], message: str, *, private: bool) -> Commit:
    """Upload `files` by name as one commit to a model repository, created if missing.

    Raises SettingsError for a wrong name, a model card that the Hub refuses, or missing rights or library.
    """
    if re.fullmatch(REPOSITORY, repository, re.ASCII) is None:
        raise SettingsError(f"{repository}: wanted USER/NAME")
    with _explained(repository):
        from huggingface_hub import CommitOperationAdd

        api = _api()
        api.create_repo(repository, private=private, exist_ok=True)
        operations = [CommitOperationAdd(name, content) for name, content in files.items()]
        commit = api.create_commit(repository, operations, commit_message=message)
    return Commit(commit.commit_url, commit.oid)


def _api() -> "HfApi":
    from huggingface_hub import HfApi

    # Named here, since the library reads its environment only once, at import.
    return HfApi(os.environ.get("HF_ENDPOINT"), library_name="simgan", library_version=__version__)


@contextmanager
def _explained(what: str) -> Iterator[None]:
    """Turn the library's errors into ours, which name `what`."""
    try:
        import huggingface_hub.errors as hub
    except ImportError as error:
        raise SettingsError(f"{what}: needs huggingface_hub; pip install 'simgan-cli[hub]'") from error
    try:
        yield
    except hub.RevisionNotFoundError as error:
        raise SettingsError(f"{what}: the repository has no such revision; give a branch, tag or commit") from error
    except hub.RepositoryNotFoundError as error:
        raise SettingsError(
            f"{what}: found no such repository, or one that you may not read; check the name, or run `hf auth login`"
        ) from error
    except (hub.LocalEntryNotFoundError, hub.HTTPError) as error:  # type: ignore[attr-defined]
        if getattr(getattr(error, "response", None), "status_code", None) in (401, 403):
            raise SettingsError(
                f"{what}: the Hub refused ({error}); run `hf auth login`, or set HF_TOKEN to a token that may do this"
            ) from error
        raise SimganError(f"{what}: the Hub cannot be reached or refused ({error}); try again later") from error
    except ValueError as error:  # a wrong name, or a model card whose --license the Hub does not know
        raise SettingsError(f"{what}: {error}") from error
