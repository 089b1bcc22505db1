"""The likely encodings of a text that is not UTF-8, for advice: no text is read by them."""

import unicodedata
from itertools import pairwise

_SAMPLE_BYTES = 2**14
_CANDIDATES = ("cp1252", "cp1250", "cp1251", "koi8-r", "gb18030", "shift_jis", "euc-jp", "euc-kr")
_MOST_NAMED, _LARGEST_DIFFERENCE, _LEAST_SCORE = 3, 0.15, 0.5
_MARKS = "‘’“”«»„–—…€£§°©·¿¡、。「」，！？：；（）"
_WRITTEN_TOGETHER = {"CJK", "HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"}


def likely_encodings(data: bytes) -> list[str]:
    """The encodings that make plausible text of bytes that are not all UTF-8, best first.

    Returns:
        ``utf-8`` alone if most of what is not ASCII is UTF-8; nothing if none is plausible.
    """
    data = data[:_SAMPLE_BYTES]
    as_utf8 = data.decode("utf-8", "ignore")
    invalid = len(data) - len(as_utf8.encode())
    if not invalid or sum(each > "\x7f" for each in as_utf8) > invalid:
        return ["utf-8"]
    scores: dict[str, tuple[float, str]] = {}  # by the text: the first of equal encodings
    for codec in _CANDIDATES:
        text = _decoded(data, codec)
        if text is not None:
            scores.setdefault(text, (_plausibility(text), codec))
    ranked = sorted(scores.values(), key=lambda each: -each[0])[:_MOST_NAMED]
    least = max(_LEAST_SCORE, ranked[0][0] - _LARGEST_DIFFERENCE) if ranked else 1.0
    return [codec for score, codec in ranked if score >= least]


def _decoded(data: bytes, codec: str) -> str | None:
    """The text, but for a character that the end of the sample cuts."""
    try:
        return data.decode(codec)
    except UnicodeDecodeError as error:
        cut = error.start > max(0, len(data) - 4) and len(data) == _SAMPLE_BYTES
        return data[: error.start].decode(codec) if cut else None


def _plausibility(text: str) -> float:
    """The share of what is not ASCII that fits beside the character before it; at most 1."""
    fits = number = 0
    for before, character in pairwise(" " + text):
        if character <= "\x7f":
            continue
        number += 1
        if character.isalpha():
            scripts = {_script(character), _script(before)} if before.isalpha() else set()
            together = len(scripts) < 2 or scripts <= _WRITTEN_TOGETHER
            turns = before.islower() and character.isupper()
            fits += 1 if together and not turns else -1
        elif character in _MARKS:
            fits += 1
    return fits / number if number else 0.0


def _script(letter: str) -> str:
    return unicodedata.name(letter, "").partition(" ")[0]
