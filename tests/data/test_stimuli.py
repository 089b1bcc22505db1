"""Tables of stimuli: their form, how the words of an item are joined, and regions of sentences."""

from collections.abc import Iterable
from typing import Any

import pytest

from textgen.data.stimuli import Item, SentenceRows, WordRows
from textgen.errors import DataError, TextgenWarning, UsageError


def table(text: str, by: str | None = None, separator: str = " ", words: str = "word") -> WordRows:
    return WordRows(text.split("\n"), "t.csv", words=words, by=by, separator=separator)


def items(text: str, *arguments: Any, **options: Any) -> list[Item]:
    return list(table(text, *arguments, **options).items())


def joined(words: Iterable[str], separator: str = " ") -> str:
    cells = "\n".join('"' + word.replace('"', '""') + '",1' for word in words)
    (item,) = items(f"word,n\n{cells}", separator=separator)
    return item.text.text


ITEM_1 = ["The", "horse", "raced", "past", "the", "barn", "fell", "."]


def test_consecutive_rows_of_an_item_are_one_text_and_an_item_may_come_again() -> None:
    rows = [
        ("1", "a", "The"),
        ("1", "a", "barn"),
        ("1", "b", "The"),
        ("2", "b", "A"),
        ("1", "a", ""),
    ]
    text = "item,cond,word\n" + "\n".join(map(",".join, rows))
    assert [each.text.text for each in items(text, "item,cond")] == ["The barn", "The", "A", ""]
    assert [each.text.text for each in items(text, " item ")] == ["The barn The", "A", ""]
    assert [each.text.text for each in items(text)] == ["The barn The A"]
    first, *_, last = items(text, "item,cond")
    assert (first.text.line, first.text.word_ends) == (2, (3, 8))
    assert [row.cells for row in first.rows] == rows[:2]
    assert (last.text.line, last.text.word_ends, last.words) == (6, (0,), ("",))


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (ITEM_1, "The horse raced past the barn fell."),
        (["Don", "’t", "go", "now, please"], "Don’t go now, please"),
        (["He", "did", "n't", "go", ",", "she", "'ll"], "He didn't go, she'll"),
        (["DID", "N'T"], "DIDN'T"),
        (["a", "(", "b", ")", "c", "[", "d", "]", "?!"], "a (b) c [d]?!"),
        (['"', "No", ",", '"', "he", "said", ".", '"', "Go", '."'], '"No," he said. "Go."'),
        (["“", "No", ",", "”", "he", "said"], "“No,” he said"),
        (
            ["er", "sagte", "„", "nein", "“", "und", "»", "ja", "«", "."],
            "er sagte „nein“ und »ja«.",
        ),
        (["dit", "«", "oui", "»", "."], "dit «oui»."),
        (['("', "a", '")', "b"], '("a") b'),
        (["¿", "Qué", "?"], "¿Qué?"),
        (["so", "—", "or", "-", "he", "&", "she", "/", "it", "…"], "so — or - he & she / it…"),
        (["the", "dogs", "'", "food", "100", "%"], "the dogs' food 100%"),
        (["'", "No", "'", "he", "said"], "'No' he said"),
        (["he", "said", "'Hello"], "he said 'Hello"),
        (["a", "", "b", " c ", "", "."], "a b c."),
        (["", "."], "."),
    ],
)
def test_words_are_joined_as_they_are_written(words: list[str], expected: str) -> None:
    assert joined(words) == expected


def test_another_separator_is_all_that_comes_between() -> None:
    assert joined(["我", "喜歡", "（", "貓", "）", "。"], "") == "我喜歡（貓）。"
    assert joined(["The", " barn", " fell", "."], "") == "The barn fell."
    assert joined(["a", "", "b", "."], "_") == "a_b_."


def test_words_that_run_together_are_told_once() -> None:
    with pytest.warns(TextgenWarning, match="line 3: scored as 'Thebarn'") as told:
        assert [each.text.text for each in items("word\nThe\nbarn\nfell", separator="")]
    assert len(told) == 1
    items("word\nca\nn't\n猫\nが", separator="")  # a warning would be an error


@pytest.mark.parametrize("delimiter", ",\t;")
def test_the_delimiter_is_that_of_the_header_and_cells_may_be_quoted(delimiter: str) -> None:
    rows = ['1{}"now{} ""please"""', '"2\n"{}go', "3{}it's"]
    rows = [row.replace("{}", delimiter) for row in rows]
    (item,) = items("\n".join([f"n{delimiter}word", rows[0], rows[1], "", rows[2], ""]))
    words = (f'now{delimiter} "please"', "go", "it's")
    assert item.words == words
    lines = [(row.line, row.cells) for row in item.rows]
    assert lines == list(zip((2, 3, 6), zip(("1", "2\n", "3"), words, strict=True), strict=True))


def test_a_column_that_has_a_comma_in_its_name_divides_nothing() -> None:
    assert table('item;"word, spoken";x\n1;a;b', words="word, spoken").table.delimiter == ";"
    assert table("word\na").table.delimiter == ","
    assert items('"a,b",word\n1,x\n2,y', by='"a,b"')[1].text.text == "y"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("", r"no column 'word' \(t.csv, line 1\): it has none"),
        ("a,words\n1,2", r"no column 'word' \(t.csv, line 1\): it has 'a', 'words'; did you mean"),
        (
            "The,1\nking,2",
            r"it has 'The', '1'; .* the first line is to name them",
        ),
        ("word,word\n1,2", r"two columns 'word' \(t.csv, line 1\)"),
        ("word,n", r"no rows below the header \(t.csv\)"),
        ("word,n\n\n", r"no rows below the header \(t.csv\)"),
        ("word,n\na,1\nb", r"1 cells, not 2 as in the header \(t.csv, line 3\)"),
        ("word,n\na,1\n\nb,2,3", r"3 cells, not 2 as in the header \(t.csv, line 4\)"),
        ('word,n\n",1\na,2\n",3', r"a line break in the column 'word' \(t.csv, line 2\)"),
        ('word,n\na,1\n"b,2', r"not a row of cells \(t.csv, line 3\): unexpected end of data"),
        ('word,n\n"a"b,1', r"not a row of cells \(t.csv, line 2\)"),
        ("word,n\n" + "a" * 200_000 + ",1", r"not a row of cells \(t.csv, line 2\)"),
    ],
)
def test_what_is_no_such_table_is_said_with_its_line(text: str, error: str) -> None:
    with pytest.raises(DataError, match=error):
        items(text)
    with pytest.raises(DataError, match=r"no column 'item'.*it has 'word', 'n'"):
        items("word,n\na,1", "n,item")


def sentences(text: str, column: str = "s", **options: Any) -> list[Item]:
    return list(SentenceRows(text.split("\n"), "t.csv", column=column, **options).items())


def test_each_row_of_a_column_is_a_text_as_it_is() -> None:
    first, second = sentences('n,s,p\n1," A ""cat"", ",The \n2,,', prefix="p")
    assert (first.text.text, first.text.prefix, first.text.line) == (' A "cat", ', "The ", 2)
    assert (second.text.text, second.text.prefix, second.words) == ("", "", ())
    assert second.rows[0].cells == ("2", "", "")


@pytest.mark.parametrize(
    ("edges", "words"),
    [
        ("4,8", ("The", " king", " sat. ")),  # the space before a word is the word's
        ("3,8", ("The", " king", " sat. ")),
        ("4,9", ("The", " king", " sat. ")),
        ("5,6", ("The k", "i", "ng sat. ")),
        ("0,14", ("", "The king sat. ", "")),
        ("9.0,13.0", ("The king", " sat.", " ")),
        ("8,8", ("The king", "", " sat. ")),
        (",", ()),
    ],
)
def test_a_region_divides_its_sentence_in_three(edges: str, words: tuple[str, ...]) -> None:
    (item,) = sentences(f"s,a,b\nThe king sat. ,{edges}", region="a:b")
    assert item.words == words
    assert item.text.text == "The king sat. "
    ends = [len("".join(words[: place + 1])) for place in range(3)]
    assert item.text.word_ends == (tuple(ends) if words else None)


@pytest.mark.parametrize("edges", ["2,1", "0,4", "-1,2", "1,", "a,b", "1.5,2", "nan,2", "inf,2"])
def test_what_is_no_region_is_said_with_its_line(edges: str) -> None:
    with pytest.raises(DataError, match=r"not a region: .* \(t.csv, line 2\): .* 3 characters"):
        sentences(f"s,a,b\ncat,{edges}", region="a:b")


@pytest.mark.parametrize("region", ["a", "a:", "a:b:c", ""])
def test_a_region_is_two_columns(region: str) -> None:
    with pytest.raises(UsageError, match="--region must name two columns"):
        sentences("s,a,b\ncat,0,1", region=region)
    with pytest.raises(DataError, match=r"no column 'end'.*it has 's', 'a', 'b'"):
        sentences("s,a,b\ncat,0,1", region="a:end")
