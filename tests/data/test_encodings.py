"""Advice on the encoding of bytes that are not UTF-8."""

import pytest

from textgen.data.encodings import likely_encodings


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        ("It’s “fine” — really\n", "cp1252"),
        ("Déjà vu : l’été où tout a commencé, à l’œuvre\n", "cp1252"),
        ("Die schönsten Füße der Häuser, übermäßig groß\n", "cp1252"),
        ("Zażółć gęślą jaźń, śniła się łąka źrebięciu\n", "cp1250"),
        ("Все люди рождаются свободными и равными\n", "cp1251"),
        ("Все люди рождаются свободными и равными\n", "koi8-r"),
        ("人人生而自由，在尊严和权利上一律平等。\n", "gb18030"),
        ("すべての人間は、生まれながらにして自由である。\n", "shift_jis"),
        ("모든 인간은 태어날 때부터 자유롭다.\n", "euc-kr"),
    ],
)
def test_the_encoding_is_among_the_three_at_most_that_are_named(text: str, encoding: str) -> None:
    likely = likely_encodings(text.encode(encoding) * 3)
    assert len(likely) <= 3
    assert encoding in likely


def test_western_text_is_cp1252_before_all_others() -> None:
    for text in ("It’s “fine” — really\n", "Señor, ¿qué día es mañana?\n"):
        assert likely_encodings(text.encode("cp1252"))[0] == "cp1252"


def test_utf_8_with_a_damaged_byte_stays_utf_8() -> None:
    assert likely_encodings("Häuser, Füße, \n".encode() + b"\xff\n") == ["utf-8"]
    assert likely_encodings(b"only ascii") == ["utf-8"]
    assert likely_encodings("Häuser".encode()) == ["utf-8"]


def test_bytes_of_no_text_have_no_likely_encoding() -> None:
    assert likely_encodings(b"a\x81\xffb\x81\x8d\x90\x9d") == []


def test_a_character_that_the_end_of_the_sample_cuts_is_no_fault() -> None:
    assert likely_encodings(b"a" + "人人生而自由".encode("gb18030") * 3000)[0] == "gb18030"
