"""What is on disk: folders whole or not at all, checked to the last byte before they are read."""

from textgen.storage.files import (
    check_format,
    flush_folder,
    json_text,
    read_json,
    sha256_of,
    what_it_is,
    write_json,
)
from textgen.storage.folders import (
    LOCK,
    NewFile,
    clear_leftovers,
    discard,
    locked,
    new_folder,
    unwritable,
    whole,
)
from textgen.storage.manifest import MANIFEST, verified

__all__ = [
    "LOCK",
    "MANIFEST",
    "NewFile",
    "check_format",
    "clear_leftovers",
    "discard",
    "flush_folder",
    "json_text",
    "locked",
    "new_folder",
    "read_json",
    "sha256_of",
    "unwritable",
    "verified",
    "what_it_is",
    "whole",
    "write_json",
]
