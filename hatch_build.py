"""Metadata that depends on where a release is made: the project's addresses, and README links that work on an index.

GitHub Actions sets the three variables. Other builds leave them out: links stay relative, and no address is named.
"""

import os
import re
from pathlib import Path
from typing import Any

VARIABLES = ("GITHUB_SERVER_URL", "GITHUB_REPOSITORY", "GITHUB_REF_NAME")
RELATIVE_LINK = re.compile(r"(?P<image>!?)\[(?P<text>[^\]]*)\]\((?P<path>(?![a-z]+:|#)[^)\s]+)\)")


def with_absolute_links(readme: str, repository: str, ref: str) -> str:
    """Return the Markdown with its links to files of the checkout made addresses of `repository` at `ref`."""

    def absolute(match: re.Match[str]) -> str:
        view = "raw" if match["image"] else "blob"
        return f"{match['image']}[{match['text']}]({repository}/{view}/{ref}/{match['path']})"

    return RELATIVE_LINK.sub(absolute, readme)


def metadata_of(readme: str, environment: dict[str, str]) -> dict[str, Any]:
    """Return the fields `readme` and `urls` of pyproject.toml's [project]."""
    server, name, ref = (environment.get(variable) for variable in VARIABLES)
    urls = {}
    if server and name and ref:
        repository = f"{server}/{name}"
        readme = with_absolute_links(readme, repository, ref)
        urls = {
            "Documentation": f"{repository}/blob/{ref}/docs/tutorial.md",
            "Changelog": f"{repository}/blob/{ref}/CHANGELOG.md",
            "Issues": f"{repository}/issues",
            "Source": repository,
        }
    return {"readme": {"content-type": "text/markdown", "text": readme}, "urls": urls}


def get_metadata_hook() -> type:
    """Return the class that hatchling looks for here."""
    from hatchling.metadata.plugin.interface import MetadataHookInterface  # installed during a build alone

    class ReleaseMetadata(MetadataHookInterface):
        def update(self, metadata: dict[str, Any]) -> None:
            readme = (Path(self.root) / "README.md").read_text(encoding="utf-8")
            metadata |= metadata_of(readme, dict(os.environ))

    return ReleaseMetadata
