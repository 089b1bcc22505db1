"""The layouts of other tools, byte for byte, as their sources print them."""

from __future__ import annotations

import math
import re
from typing import Any

import pytest

from textgen.presentation.formats.other_tools import as_word, part_name
from textgen.results import PartScore, SentenceScore


def exp_of_bits(bits: int, parts: int) -> str:
    """2^(bits / parts), whose last digit is the C library's."""
    return repr(math.exp(bits * math.log(2) / parts))


def log10(bits: int) -> str:
    """The common logarithm of 2^-bits, at full precision."""
    return repr(-bits * math.log(2) / math.log(10))


def test_kenlm_s_words_lines_and_summary(write: Any) -> None:
    assert write("kenlm", "word") == (
        f"the=1 1 {log10(1)}\tcats=1 2 {log10(4)}\txyzzy=0 4 {log10(10)}\tsat=1 5 {log10(2)}\t"
        f"</s>=1 6 {log10(3)}\tTotal: {log10(20)} OOV: 1\n"
        f"a\\tb=1 1 {log10(2)}\t</s>=1 2 {log10(1)}\tTotal: {log10(3)} OOV: 0\n"
        f"Perplexity including OOVs:\t{exp_of_bits(23, 7)}\n"
        f"Perplexity excluding OOVs:\t{exp_of_bits(13, 6)}\n"
        "OOVs:\t1\n"
        "Tokens:\t7\n"
    )


def test_kenlm_s_ids_are_those_of_tokens_and_an_unknown_one_is_written_as_it_stands(
    write: Any,
) -> None:
    first = write("kenlm", "token", lines=1).splitlines()[0]
    entries = re.findall(r"(\S+?)=(\d+) (\d+) (\S+)\t", first)  # as rescoring scripts read it
    assert [entry[:3] for entry in entries] == [
        ("the", "5", "1"),
        ("␣cat", "9", "2"),
        ("s", "6", "3"),
        ("xyzzy", "0", "4"),
        ("␣sat", "7", "5"),
        ("</s>", "1", "6"),
    ]


def test_kenlm_s_sentences_without_words(write: Any) -> None:
    assert write("kenlm", "sentence", lines=1) == (
        f"Total: {log10(20)} OOV: 1\n"
        f"Perplexity including OOVs:\t{exp_of_bits(20, 6)}\n"
        f"Perplexity excluding OOVs:\t{exp_of_bits(10, 5).removesuffix('.0')}\n"
        "OOVs:\t1\n"
        "Tokens:\t6\n"
    )


def test_lm_zoo_s_table(write: Any) -> None:
    assert write("lm-zoo", "token") == (
        "sentence_id\ttoken_id\ttoken\tsurprisal\n"
        "1\t1\tthe\t1.0\n"
        "1\t2\t cat\t3.0\n"
        "1\t3\ts\t1.0\n"
        "1\t4\t<UNK>\t10.0\n"
        "1\t5\t sat\t2.0\n"
        "1\t6\t<EOS>\t3.0\n"
        "2\t1\ta\\tb\t2.0\n"
        "2\t2\t<EOS>\t1.0\n"
    )


def test_neural_complexity_s_table_counts_from_0_and_has_no_end_of_sentence(write: Any) -> None:
    assert write("neural-complexity", "word") == (
        "word sentid sentpos wlen surp entropy entred\n"
        "the 0 0 3 1.0 3.0 0\n"
        "cats 0 1 4 4.0 2.5 0.5\n"
        "<unk> 0 2 5 10.0 2.75 0\n"
        "sat 0 3 3 2.0 1.0 1.75\n"
        "a\\tb 1 0 3 2.0 3.0 0\n"
    )


def test_theanolm_s_utterance_scores_are_a_number_a_line_in_the_base(write: Any) -> None:
    assert write("theanolm", "sentence", base=2.0) == "-20.0\n-3.0\n"


def test_theanolm_s_word_scores_show_three_words_of_history_and_end_with_perplexity(
    write: Any,
) -> None:
    assert write("theanolm", "word", base=2.0) == (
        "# Sentence 1\n"
        "log(p(the | <s>)) = -1.0  [the:shortlist]\n"
        "log(p(cats | <s> the)) = -4.0  [cats:shortlist]\n"
        "log(p(xyzzy | <s> the cats)) = -10.0  [xyzzy:OOV]\n"
        "log(p(sat | ... the cats xyzzy)) = -2.0  [sat:shortlist]\n"
        "log(p(</s> | ... cats xyzzy sat)) = -3.0  [</s>:shortlist]\n"
        f"Sentence perplexity: {exp_of_bits(20, 5)}\n"
        "\n"
        "# Sentence 2\n"
        "log(p(a\\tb | <s>)) = -2.0  [a\\tb:shortlist]\n"
        "log(p(</s> | <s> a\\tb)) = -1.0  [</s>:shortlist]\n"
        f"Sentence perplexity: {exp_of_bits(3, 2)}\n"
        "\n"
        "Number of sentences: 2\n"
        "Number of words: 9\n"
        "Number of tokens: 10\n"
        "Number of predicted probabilities: 7\n"
        "Number of excluded (OOV) words: 0\n"
        "Number of zero probabilities: 0\n"
        f"Cross entropy (base e): {23 * math.log(2) / 7!r}\n"
        f"Cross entropy (base 2): {23 * math.log(2) / 7 / math.log(2)!r}\n"
        f"Perplexity: {exp_of_bits(23, 7)}\n"
    )


def test_theanolm_names_no_second_base_where_logarithms_are_natural(write: Any) -> None:
    assert write("theanolm", "token").count("Cross entropy") == 1


@pytest.mark.parametrize("name", ["lm-zoo", "neural-complexity"])
def test_surprisal_is_in_bits_whatever_the_base(write: Any, name: str) -> None:
    assert write(name, "word", base=10.0) == write(name, "word")


def test_a_part_that_cannot_be_is_no_reason_to_print_no_perplexity(write: Any) -> None:
    parts = (PartScore("a", "a", -1.5), PartScore("b", " b", -math.inf))
    score = SentenceScore(-math.inf, 2, 0, 0.0, 3, words=2, line=1, text="a b", parts=parts)
    out = write.of("theanolm", [score], level="word")
    assert "log(p(b | <s> a)) = -inf  [b:shortlist]\n" in out
    assert "Number of predicted probabilities: 1\n" in out
    assert "Number of zero probabilities: 1\nCross entropy (base e): 1.5\n" in out


@pytest.mark.parametrize(
    ("name", "level"),
    [("tsv", "word"), ("lm-zoo", "token"), ("neural-complexity", "word"), ("theanolm", "sentence")],
)
def test_layouts_without_room_for_totals_say_them_on_stderr(
    write: Any, name: str, level: Any
) -> None:
    assert "8 tokens" not in write(name, level)
    assert write.said.startswith("2 sentences, 8 tokens, 1 unknown, ln p -15.94, ")


def test_white_space_in_a_word_is_escaped_and_a_text_that_spells_the_end_is_no_end() -> None:
    assert as_word(PartScore("New York", " New York", -1.0)) == "New␣York"
    assert as_word(PartScore("a␣b\\", "a␣b\\", -1.0)) == "a\\␣b\\\\"
    spelled = PartScore("<EOS>", " <EOS>", -1.0)
    assert (as_word(spelled), part_name(spelled)) == ("\\<EOS>", "\\<EOS>")
    end = PartScore("<EOS>", " ", -1.0, ends=True, id=8)
    assert (as_word(end), part_name(end)) == ("</s>", "<EOS>")


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("kenlm", f"the=1 1 0\t</s>=8 2 {log10(1)}\tTotal: {log10(1)} OOV: 0"),
        ("neural-complexity", "the 0 0 3 0.0 nan 0"),
        ("heatmap", "1  the‹0.0› <EOS>‹1.0›"),
    ],
)
def test_the_end_is_the_end_with_white_space_before_it(write: Any, name: str, shown: str) -> None:
    end = PartScore("<EOS>", " ", -math.log(2), tokens=2, ends=True, id=8)
    parts = (PartScore("the", "the", 0.0), end)
    score = SentenceScore(end.log_prob, 3, 0, 0.0, 5, line=1, text="the ", parts=parts)
    assert shown in write.of(name, [score], level="word").splitlines()
