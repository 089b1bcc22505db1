"""The links of the distribution's metadata, made from the address of the repository that builds it.

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


class Links(MetadataHookInterface):
    """Fills ``project.urls``; a wheel made from a source distribution keeps that one's links."""

    def update(self, metadata: dict[str, Any]) -> None:
        address = public_address(self.root)
        if address is None or "urls" in metadata:
            return
        metadata["urls"] = {
            "Repository": address,
            "Documentation": f"{address}#readme",
            "Changelog": f"{address}/blob/main/CHANGELOG.md",
            "Issues": f"{address}/issues",
        }
