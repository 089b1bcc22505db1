"""``textgen score``: three formats of the same numbers."""

from __future__ import annotations

import json
from typing import Any

import pytest

KEYS = [
    "log_prob",
    "tokens",
    "unknown",
    "perplexity",
    "perplexity_without_unknown",
    "bits_per_character",
]


def test_json_has_exactly_the_keys_scripts_rely_on(run: Any, library: Any) -> None:
    ended = run("score", "x", "--text", "a?", "--format", "json", "--log-base", "2")
    sentence, total = map(json.loads, ended.out.splitlines())
    assert list(sentence) == ["line", "text", *KEYS]
    assert list(total) == ["total"]
    assert list(total["total"]) == KEYS
    assert sentence["log_prob"] == pytest.approx(3 * -1.3862943611198906)
    assert (sentence["tokens"], sentence["unknown"]) == (3, 1)


def test_json_of_tokens_ends_each_sentence_with_eos(run: Any, library: Any) -> None:
    out = run("score", "x", "--text", "a", "--format", "json", "--level", "token").out
    tokens = json.loads(out.splitlines()[0])["token_scores"]
    assert [list(each) for each in tokens] == [
        ["token", "id", "log_prob", "surprisal", "unknown"]
    ] * 2
    assert tokens[-1]["token"] == "<EOS>"
    assert tokens[-1]["surprisal"] == 2.0


def test_tsv_of_sentences_names_its_base_and_ends_with_the_totals(run: Any, library: Any) -> None:
    arguments = ("--text", "a\tb", "--text", "c\\?", "--format", "tsv", "--log-base", "2")
    assert run("score", "x", *arguments).out.splitlines() == [
        "line\tlog2_prob\ttokens\tunknown\tperplexity\tperplexity_without_unknown"
        "\tbits_per_character\ttext",
        "1\t-8.0\t4\t0\t4.0\t4.0\t2.0\ta\\tb",
        "2\t-8.0\t4\t1\t4.0\t4.0\t2.0\tc\\\\?",
        "total\t-16.0\t8\t1\t4.0\t4.0\t2.0\t",
    ]


def test_tsv_of_tokens_is_lm_zoo_s_table(run: Any, library: Any) -> None:
    ended = run("score", "x", "--text", "a ", "--text", "b", "--format", "tsv", "--level", "token")
    assert ended.out.splitlines() == [
        "sentence_id\ttoken_id\ttoken\tsurprisal",
        "1\t1\ta\t2.0",
        "1\t2\t \t2.0",
        "1\t3\t<EOS>\t2.0",
        "2\t1\tb\t2.0",
        "2\t2\t<EOS>\t2.0",
    ]
    assert "5 tokens" in ended.err


@pytest.mark.parametrize(("base", "name"), [("e", "ln p"), ("2", "log2 p"), ("10", "log10 p")])
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


def test_two_texts_are_compared_in_the_base_as_odds_and_a_token(run: Any, library: Any) -> None:
    out = run("score", "x", "--text", "abc", "--text", "a", "--log-base", "2").out
    assert "The second is 16.0 times likelier: its log2 p is greater by 4.00." in out
    assert "Per token its log2 p is -2.000 and the other's -2.000 (tokens: 2 and 4)." in out
    assert "likelier" not in run("score", "x", "--text", "a").out
    assert "equally" in run("score", "x", "--text", "a", "--text", "b").out


def test_a_file_is_read_by_sentences(run: Any, library: Any, tmp_path: Any) -> None:
    path = tmp_path / "a file.txt"
    path.write_bytes("un\r\ndeux é\n".encode())
    ended = run("score", "x", path, "--context", "document", "--precision", "float64")
    assert library.calls["scores"] == {
        "sentences": ["un", "deux é"],
        "context": "document",
        "tokens": False,
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
