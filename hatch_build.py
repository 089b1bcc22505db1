"""The links of the distribution's metadata and README, from the address of its repository.

The address is written nowhere in the source: a fork's wheel leads to the fork. On a build server it
is what the server says, elsewhere the remote ``origin``; without a public one there are no links.
"""

import re
import subprocess
from os import environ
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface

_PUBLIC = re.compile(
    r"(?:https://|ssh://git@|git@)(?:[^/@]+@)?([\w-]+(?:\.[\w-]+)+)[:/](\w[\w./-]+)"
)


def public_address(root: str) -> str | None:
    """``https://HOST/OWNER/REPOSITORY`` of the repository in the folder ``root``, if it has one."""
    if "GITHUB_REPOSITORY" in environ:
        server = environ.get("GITHUB_SERVER_URL", "https://github.com")
        return f"{server}/{environ['GITHUB_REPOSITORY']}"
    if not Path(root, ".git").exists():  # of another project around this one
        return None
    command = ["git", "-C", root, "remote", "get-url", "origin"]
    try:
        remote = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
    named = _PUBLIC.fullmatch(remote.removesuffix("/").removesuffix(".git"))
    return named and f"https://{named[1]}/{named[2]}"


def site_address(address: str) -> str:
    """Where ``.github/workflows/docs.yml`` puts the documentation; elsewhere it is the README."""
    on_github = re.fullmatch(r"https://github\.com/([\w.-]+)/([\w.-]+)", address)
    return f"https://{on_github[1]}.github.io/{on_github[2]}/" if on_github else f"{address}#readme"


def standalone(readme: str, address: str | None) -> str:
    """The README with links that work outside of the repository; without an address, with none."""

    def absolute(match: re.Match[str]) -> str:
        picture, text, target = match.groups()
        if address is None:
            return text
        return f"{picture}[{text}]({address}/{'raw' if picture else 'blob'}/main/{target})"

    return re.sub(r"(!?)\[([^\]]*)\]\((?![a-z]+:|#)([^)]+)\)", absolute, readme)


class Links(MetadataHookInterface):
    """Fills ``project.urls`` and ``project.readme``.

    A wheel made from a source distribution keeps those of that one.
    """

    def update(self, metadata: dict[str, Any]) -> None:
        address = public_address(self.root)
        if "readme" not in metadata:
            readme = Path(self.root, "README.md").read_text(encoding="utf-8")
            text = standalone(readme, address)
            metadata["readme"] = {"content-type": "text/markdown", "text": text}
        if address is None or "urls" in metadata:
            return
        metadata["urls"] = {
            "Homepage": site_address(address),
            "Repository": address,
            "Documentation": site_address(address),
            "Changelog": f"{address}/blob/main/CHANGELOG.md",
            "Issues": f"{address}/issues",
        }
