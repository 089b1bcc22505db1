"""Folders and files that are complete or absent, and checked to the last byte before use."""

from textgen.storage.files import (
    check_format,
    flush_folder,
    foreign_kind,
    from_json,
    json_text,
    read_json,
    read_object,
    require,
    sha256_of,
    write_json,
)
from textgen.storage.folders import (
    LOCK,
    NewFile,
    clear_leftovers,
    discard,
    find_complete,
    locked,
    new_folder,
    write_error,
)
from textgen.storage.manifest import MANIFEST, verified

__all__ = [
    "LOCK",
    "MANIFEST",
    "NewFile",
    "check_format",
    "clear_leftovers",
    "discard",
    "find_complete",
    "flush_folder",
    "foreign_kind",
    "from_json",
    "json_text",
    "locked",
    "new_folder",
    "read_json",
    "read_object",
    "require",
    "sha256_of",
    "verified",
    "write_error",
    "write_json",
]
