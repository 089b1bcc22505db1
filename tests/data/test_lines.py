"""What a prefix and its continuation make together."""

import pytest

from textgen.data.lines import joined_word


@pytest.mark.parametrize(
    ("before", "after", "word"),
    [
        ("past the barn", "fell.", "barnfell"),
        ("x", "y", "xy"),
        ("chapter 1", "0 ends", "10"),
        ("naïve", "té", "naïveté"),
        ("cafe", "\u0301s", "cafe\u0301s"),
        ("наш", "кот", "нашкот"),
        ("우리", "집", "우리집"),
        ("बिल्ली", "ने", "बिल्लीने"),
    ],
)
def test_word_characters_without_a_space_make_a_word(before: str, after: str, word: str) -> None:
    assert joined_word(before, after) == word


@pytest.mark.parametrize(
    ("before", "after"),
    [
        *(("barn", " fell"), ("barn ", "fell"), ("barn", "."), ("(", "fell"), ("barn", "’s")),
        *(("", "fell"), ("barn", ""), ("well-", "known"), ("barn\u00a0", "fell")),
        *(
            ("我喜", "歡貓"),
            ("ねこ", "が"),
            ("カ", "ﾀ"),
            ("แมว", "กิน"),
            ("ຂ້ອຍ", "ມັກ"),
            ("猫", "cat"),
        ),
        *(("ဗ", "မာ"), ("ខ្មែរ", "ភាសា"), ("𠀀", "𠀁"), ("々", "人")),
    ],
)
def test_punctuation_spaces_and_scripts_without_spaces_make_none(before: str, after: str) -> None:
    assert joined_word(before, after) is None
