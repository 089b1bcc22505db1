"""What a file is, from its first bytes: text, or something to be named and refused."""

import codecs

HEAD_BYTES = 8192

_SIGNATURES: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive or office document"),
    (b"%PDF-", "a PDF"),
    (b"\x89PNG", "a PNG image"),
    (b"\xff\xd8\xff", "a JPEG image"),
    (b"GIF8", "a GIF image"),
    (b"\x7fELF", "an ELF program"),
    (b"MZ", "a Windows program"),
    (b"\xd0\xcf\x11\xe0", "an old office document"),
    (b"SQLite format 3\0", "an SQLite database"),
    (b"PAR1", "a Parquet file"),
    (b"ARROW1", "an Arrow file"),
    (b"\x93NUMPY", "a NumPy array"),
    (b"BZh", "a bzip2 archive"),
    (b"\xfd7zXZ\0", "an xz archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"7z\xbc\xaf\x27\x1c", "a 7-Zip archive"),
    (b"\x80\x02", "a Python pickle"),
    (b"\x80\x03", "a Python pickle"),
    (b"\x80\x04", "a Python pickle"),
    (b"\x80\x05", "a Python pickle"),
)
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF32_LE, "UTF-32"),
    (codecs.BOM_UTF32_BE, "UTF-32"),
    (codecs.BOM_UTF16_LE, "UTF-16"),
    (codecs.BOM_UTF16_BE, "UTF-16"),
)
_FEWEST_BYTES = 16  # a shorter file tells nothing by its share of NUL
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"


def other_encoding(head: bytes) -> str | None:
    """``UTF-16`` or ``UTF-32`` (with the codec's byte order), where the bytes are that."""
    for mark, name in _BYTE_ORDER_MARKS:
        if head.startswith(mark):
            return name
    if len(head) < _FEWEST_BYTES:
        return None
    nul = [head[place::4].count(0) / len(head[place::4]) for place in range(4)]
    if max(nul[1:]) > 0.9 and min(nul[1:]) > 0.9 and nul[0] < 0.1:
        return "UTF-32-LE"
    if min(nul[:3]) > 0.9 and nul[3] < 0.1:
        return "UTF-32-BE"
    low, high = (nul[0] + nul[2]) / 2, (nul[1] + nul[3]) / 2
    if high > 0.4 and low < 0.1:
        return "UTF-16-LE"
    if low > 0.4 and high < 0.1:
        return "UTF-16-BE"
    return None


def binary(head: bytes) -> str | None:
    """What the bytes are, where they are no text in any encoding.

    A file that is valid UTF-8 is refused only where NUL is common in it, or where it is a
    Git LFS pointer: a text may start with ``PK`` and may hold control characters.
    """
    if head.startswith(_LFS_POINTER):
        return "a Git LFS pointer, not the file: run 'git lfs pull'"
    crowded = len(head) >= _FEWEST_BYTES and head.count(0) > 0.3 * len(head)
    if not crowded and b"\0" not in head and _is_utf8(head):
        return None
    for start, name in _SIGNATURES:
        if head.startswith(start):
            return name
    if len(head) > 262 and head[257:262] == b"ustar":
        return "a tar archive"
    controls = sum(map(head.count, _CONTROLS))
    if crowded or (not _is_utf8(head) and controls > 0.05 * len(head)):
        return "binary data"
    return None


_CONTROLS = [bytes([code]) for code in range(32) if code not in b"\t\n\x0b\x0c\r\x1b"]


def _is_utf8(head: bytes) -> bool:
    try:
        codecs.utf_8_decode(head, "strict", False)
    except UnicodeDecodeError:
        return False
    return True
