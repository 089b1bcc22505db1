"""``textgen score``: what may be asked of it, and the formats of the same numbers."""

from __future__ import annotations

import json
import re
from math import exp
from pathlib import Path
from typing import Any

import pytest

from textgen.cli.score import write_scores
from textgen.config import ScoringConfig
from textgen.data.lines import Text
from textgen.presentation.formats import FORMATS, TIDY_FORMATS, Shown, score_writer
from textgen.results import SentenceScore

LN4 = 1.3862943611198906

KEYS = [
    "log_prob",
    "tokens",
    "unknown",
    "perplexity",
    "perplexity_without_unknown",
    "bits_per_character",
    "words",
    "characters",
    "bytes",
    "perplexity_per_word",
    "bits_per_byte",
    "comparable",
]


def test_json_has_exactly_the_keys_scripts_rely_on(run: Any, library: Any) -> None:
    ended = run("score", "x", "--text", "a?", "--format", "json", "--log-base", "2")
    sentence, total = map(json.loads, ended.out.splitlines())
    assert list(sentence) == ["line", "text", *KEYS]
    assert list(total) == ["total"]
    assert list(total["total"]) == KEYS
    assert sentence["log_prob"] == pytest.approx(3 * -1.3862943611198906)
    assert (sentence["tokens"], sentence["unknown"]) == (3, 1)


def test_tsv_of_sentences_names_its_base_and_has_no_totals_among_its_rows(
    run: Any, library: Any
) -> None:
    arguments = ("--text", "a\tb", "--text", "c\\?", "--format", "tsv", "--log-base", "2")
    ended = run("score", "x", *arguments)
    assert ended.out.splitlines() == [
        "line\tlog2_prob\ttokens\tunknown\tperplexity\tperplexity_without_unknown"
        "\tbits_per_character\twords\tcharacters\tbytes\tperplexity_per_word\tbits_per_byte"
        "\tcomparable\ttext",
        f'1\t-8.0\t4\t0\t4.0\t4.0\t2.0\t3\t4\t4\t{exp(4 * LN4 / 3)}\t2.0\t1\t"a\tb"',
        f"2\t-8.0\t4\t1\t4.0\t4.0\t2.0\t2\t4\t4\t{exp(4 * LN4 / 2)}\t2.0\t0\tc\\?",
    ]
    assert "2 sentences, 8 tokens, 1 unknown, log2 p -16.00, perplexity 4.000" in ended.err


def test_a_layout_shows_its_own_level_unless_another_is_asked_for(run: Any, library: Any) -> None:
    run("score", "x", "--text", "a", "--format", "lm-zoo")
    assert library.calls["scores"]["config"].level == "token"
    run("score", "x", "--text", "a", "--format", "lm-zoo", "--level", "word")
    assert library.calls["scores"]["config"].level == "word"


@pytest.mark.parametrize(("base", "name"), [("e", "ln p"), ("2", "log2 p"), ("7", "log7 p")])
def test_the_table_always_prints_the_base(run: Any, library: Any, base: str, name: str) -> None:
    for level in ("sentence", "token"):
        out = run("score", "x", "--text", "a", "--log-base", base, "--level", level).out
        assert name in out
        assert f"to base {base}" in out


def test_the_table_marks_what_unknown_tokens_make_incomparable(run: Any, library: Any) -> None:
    known = run("score", "x", "--text", "ab").out
    assert "*" not in known
    unknown = run("score", "x", "--text", "a?").out
    assert "2.000*" in unknown
    assert "not comparable" in unknown


def test_two_texts_are_compared_in_the_base_and_as_odds(run: Any, library: Any) -> None:
    out = run("score", "x", "--text", "abc", "--text", "a", "--log-base", "2").out
    assert "The second is 16.0 times likelier: its log2 p is greater by 4.00." in out
    assert "likelier" not in run("score", "x", "--text", "a").out
    assert "equally" in run("score", "x", "--text", "a", "--text", "b").out


def test_no_sentence_at_all_still_has_its_header_and_totals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in FORMATS.keys() - {"parquet"}:
        layout = score_writer(name)
        writer = layout(Shown(level=layout.levels[0]))
        write_scores([], [writer], at_once=False)
        captured = capsys.readouterr()
        if name == "tsv":
            (header,) = captured.out.splitlines()
            assert header.startswith("line\tlog_prob\t")
            assert captured.err.startswith("0 sentences, 0 tokens")
        assert captured.out + captured.err


def test_a_file_is_read_by_sentences(run: Any, library: Any, tmp_path: Any) -> None:
    path = tmp_path / "a file.txt"
    path.write_bytes("un\r\ndeux é\n".encode())
    ended = run("score", "x", path, "--context", "document", "--precision", "float64")
    asked = library.calls["scores"]
    del asked["on_skip"]
    assert asked == {
        "sentences": ["un", "deux é"],
        "config": ScoringConfig(context="document"),
        "jobs": 1,
        "reader": None,
    }
    assert library.calls["load"]["precision"] == "float64"
    assert "2 sentences" in ended.out


def test_a_table_of_any_width_shows_every_sentence(
    run: Any, library: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    for width in ("40", "80", "140"):
        monkeypatch.setenv("COLUMNS", width)
        out = run("score", "x", "--text", "a long sentence of many words " * 5, "--text", "b").out
        assert out.count("words") == 5
        assert max(map(len, out.splitlines())) <= int(width)


def test_escape_codes_in_a_text_are_shown_escaped(run: Any, library: Any) -> None:
    for level in ("sentence", "token"):
        out = run("score", "x", "--text", "\x1b[31m", "--level", level).out
        assert "\x1b" not in out
        assert r"\x1b[31m" in out


def test_what_goes_on_from_what_is_read_from_two_columns(
    run: Any, library: Any, tmp_path: Any
) -> None:
    path = tmp_path / "c.tsv"
    path.write_text("item\tprefix\tcontinuation\n1\tthe keys\t are\n2\tthe key\t is\n")
    ended = run("score", "x", "--continuations", path, "--no-eos", "--jobs", "3")
    asked = library.calls["scores"]
    assert asked["sentences"] == [Text(2, " are", "the keys"), Text(3, " is", "the key")]
    assert (asked["jobs"], asked["config"].eos) == (3, False)
    assert "<EOS> is not counted" in ended.out
    path.write_text("the keys\t are\nthe key is\n")
    ended = run("score", "x", "--continuations", path)
    assert ended.code == 3
    assert "c.tsv, line 2" in ended.err


def test_every_layout_has_its_name_on_the_help_page(run: Any) -> None:
    page = " ".join(run("score", "--help").out.replace("│", " ").split())
    assert ", ".join(FORMATS) in page


def test_scores_that_end_in_an_error_say_after_which_line(
    run: Any, library: Any, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "half.txt"
    path.write_bytes(b"one\ntwo\nth\xffee\n")

    def as_they_come(self: Any, sentences: Any, config: Any, **options: Any) -> Any:
        for line, text in enumerate(sentences, 1):
            yield SentenceScore(-1.0, 4, 0, 0.0, 4, line=line, text=text)

    monkeypatch.setattr(type(library.load("x")), "scores", as_they_come)
    ended = run("score", "x", path, "--format", "json")
    assert ended.code == 3
    assert [json.loads(line)["text"] for line in ended.out.splitlines()] == ["one", "two"]
    note, error = ended.lines
    assert note == "note: the scores end after line 2"
    assert "half.txt, line 3, byte 10" in error


def test_what_is_unknown_is_reported_with_its_place_and_code_points(run: Any, library: Any) -> None:
    library.scores = [
        SentenceScore(-1, 4, 2, -1.0, 4, line=1, text="é?é", unknown_texts=("é", "é")),
        SentenceScore(-1, 4, 1, -1.0, 4, line=2, text="żółwiami", unknown_texts=("żółwiami",)),
    ]
    said = run("score", "x", "--text", "é").lines
    assert said[1] == (
        "note: the figures exclude the spelling of unknown words; --open-vocabulary includes it"
    )
    assert said[0] == (
        "note: unknown to the model: 3 (37.50% of the tokens), 2 different: 'é' (U+00E9) 2 times,"
        " first in line 1, 'żółwiami' 1 time, first in line 2"
    )


def test_code_points_are_only_of_what_sight_does_not_tell(run: Any, library: Any) -> None:
    names = ("größer", "b\N{CYRILLIC SMALL LETTER A}rn", "\u200bzero", "barn")
    library.scores = [
        SentenceScore(-1, 4, 1, -1.0, 4, line=line, text=name, unknown_texts=(name,))
        for line, name in enumerate(names, start=1)
    ]
    said = run("score", "x", "--text", "a").lines[0]
    assert "'größer' 1 time, first in line 1" in said
    assert "(U+0430) 1 time, first in line 2" in said
    assert "'\\u200bzero' (U+200B) 1 time, first in line 3" in said
    assert said.endswith("'barn' 1 time, first in line 4")


def test_a_page_is_written_beside_what_is_shown(run: Any, library: Any, tmp_path: Any) -> None:
    page = tmp_path / "page.html"
    ended = run("score", "x", "--text", "ab", "--format", "json", "--html", page)
    config = library.calls["scores"]["config"]
    assert (config.level, config.alternatives) == ("word", 5)
    sentence, total = map(json.loads, ended.out.splitlines())
    assert list(sentence)[:2] == ["line", "text"]
    assert "word_scores" not in sentence
    assert total["total"]["tokens"] == 3
    assert "<title>" in page.read_text(encoding="utf-8")


def test_a_page_that_cannot_be_written_is_said_before_a_model_is_read(
    run: Any, library: Any, tmp_path: Any
) -> None:
    ended = run("score", "x", "--text", "ab", "--html", tmp_path / "nowhere" / "page.html")
    assert ended.code == 1
    assert not library.calls
    assert not ended.out


def test_adapted_figures_are_said_to_be_that(run: Any, library: Any) -> None:
    ended = run("score", "x", "--text", "ab", "--adapt", "--adapt-rate", "2", "--format", "json")
    asked = library.calls["scores"]
    assert asked["config"].context == "document"
    assert asked["reader"].keywords["config"].adapt_rate == 2.0
    assert json.loads(ended.out.splitlines()[-1])["adapted"] is True
    assert "not the figures of the trained weights" in ended.err
    static = run("score", "x", "--text", "ab", "--format", "json")
    assert list(json.loads(static.out.splitlines()[-1])) == ["total"]


@pytest.fixture
def pseudo(library: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The model of the library reads both ways."""
    model = library.load("x")
    monkeypatch.setattr(type(model), "is_causal", False)
    library.scores = [
        SentenceScore(-2.0, tokens=4, characters=4, words=2, bytes=4, pseudo=True, line=1, text="a")
    ]


TRUE_NAMES = ("perplexity", "bits", "ln p", "log_prob", "likelier", "surprisal")


@pytest.mark.parametrize("output", ["table", "tsv", "json"])
def test_pseudo_scores_never_have_the_name_of_a_true_one(
    run: Any, pseudo: None, output: str
) -> None:
    out = run("score", "x", "--text", "a", "--text", "b", "--format", output).out
    told = re.sub(r"pseudo[ _-](log_prob|perplexity|ln p|loss)\w*", "", out)
    assert told != out
    assert not [name for name in TRUE_NAMES if name in told], told


def test_pseudo_scores_in_json_have_keys_of_their_own(run: Any, pseudo: None) -> None:
    lines = run("score", "x", "--text", "a", "--format", "json").out.splitlines()
    sentence, total = map(json.loads, lines)
    assert sentence["pseudo_log_prob"] == -2.0 and sentence["pseudo_loss"] == 0.5
    assert sentence["pseudo_perplexity"] == pytest.approx(exp(0.5))
    assert total["total"]["pseudo_log_prob"] == -2.0


@pytest.mark.parametrize("output", sorted(set(FORMATS) - {"table", "json", *TIDY_FORMATS}))
def test_a_layout_that_cannot_say_pseudo_is_refused(run: Any, pseudo: None, output: str) -> None:
    ended = run("score", "x", "--text", "a", "--format", output)
    assert (ended.code, ended.out) == (2, "")
    assert f"--format {output} needs probabilities" in ended.err


def test_a_page_is_refused_where_there_are_no_probabilities(
    run: Any, pseudo: None, tmp_path: Path
) -> None:
    page = tmp_path / "page.html"
    ended = run("score", "x", "--text", "a", "--html", page)
    assert ended.code == 2 and "--html needs probabilities" in ended.err
    assert not page.exists()


def test_a_missing_space_is_noted_and_the_row_with_one_differs(
    trained: Path, typed: Any, tmp_path: Path
) -> None:
    path = tmp_path / "c.tsv"
    path.write_text("prefix\tcontinuation\nThe king\tsees\nThe king\t sees\n")
    for jobs in ("1", "2"):
        ended = typed("score", trained, "--continuations", path, "--format", "json", "--jobs", jobs)
        first, second, _ = map(json.loads, ended.out.splitlines())
        assert first["log_prob"] != second["log_prob"]
        assert [line for line in ended.lines if "space" in line] == [
            "note: line 2: the prefix and its continuation are scored as one word, 'kingsees'; if"
            " they are two, begin the second or end the first with a space"
        ]
    ended = typed("score", trained, "--prefix", "The king", "--text", "sees", "--text", "likes")
    assert ended.err.count("end the first with a space") == 1
    ended = typed("score", trained, "--prefix", "The king", "--text", " sees")
    assert "end the first with a space" not in ended.err


def test_a_word_that_goes_on_is_noted_by_predict_and_sample(trained: Path, typed: Any) -> None:
    noted = "end the text with a space to predict the word after it"
    assert noted in typed("predict", trained, "The kin", "--words").err
    assert noted not in typed("predict", trained, "The king ", "--words").err
    asked = ("--temperature", "0.01", "--length", "9", "--count", "2")
    ended = typed("sample", trained, "--prompt", "The ki", *asked)
    assert ended.err.count("the text continues the last word of the prompt, as in 'ki") == 1
    assert "continues" not in typed("sample", trained, "--prompt", "The king ", *asked).err
