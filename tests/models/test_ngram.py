"""The n-gram model: counts, probabilities worked out by hand, KenLM's figures, hostile tables."""

from __future__ import annotations

import dataclasses
import json
import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, checkpoint, storage, train
from textgen.config import ModelConfig, TokenizerConfig, TrainingConfig
from textgen.data.corpus import bundled_corpus
from textgen.errors import CheckpointError, DataError, UsageError
from textgen.inference.likelihood import batch_token_statistics
from textgen.models import Model, build, count_parameters
from textgen.models import ngram_tables as counting
from textgen.models.ngram import NgramModel
from textgen.models.ngram_tables import Counts, NgramTables, count
from textgen.results import TrainingWarning
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

A, B, C = 2, 3, 4
DOZEN = [A, B, EOS, A, B, EOS, A, C, EOS, B, C, EOS]
Gram = tuple[int, ...]
SMALL: dict[str, dict[str, Any]] = {
    "ngram": {},
    "lstm+ngram": {"hidden_size": 4, "steps": 3, "batch_size": 2},
}


def tables(ids: Sequence[int], order: int, vocabulary: int) -> NgramTables:
    made = NgramTables(order, vocabulary, ())
    made.read(np.array(ids, np.uint16))
    return made


def shares(model: NgramTables, history: Sequence[int]) -> list[float]:
    """p of each token after a history, read from where nothing is known."""
    nothing = torch.full((1, model.order - 1), -1)
    ids = torch.tensor(history, dtype=torch.int64).unsqueeze(1)
    context = model.follow(ids, nothing)[-1] if len(history) else nothing
    (row,) = model.distributions(context)
    every = torch.arange(model.vocabulary_size)
    alone = model.shares(context.expand(len(every), -1), every)
    assert torch.allclose(row, alone, rtol=0, atol=1e-15)
    return row.tolist()


# Counts


def grams_of(counts: list[Counts]) -> list[dict[Gram, int]]:
    """The n-grams of each length, and what counts of each."""
    contexts: list[Gram] = [()]
    found = []
    for each in counts:
        after = np.repeat(np.arange(len(contexts)), np.diff(each.begins))
        contexts = [(*contexts[c], int(w)) for c, w in zip(after.tolist(), each.words, strict=True)]
        assert contexts == sorted(set(contexts))
        found.append(dict(zip(contexts, each.seen.tolist(), strict=True)))
        if len(contexts[0]) == 1:
            contexts.append((len(contexts),))  # what a text begins after
    return found


def counted_plainly(ids: list[int], order: int, vocabulary: int) -> list[dict[Gram, int]]:
    text = [EOS, *ids]
    raw = [Counter(zip(*(text[n:] for n in range(length)), strict=False)) for length in range(9)]
    raw[1] = Counter((id,) for id in ids)
    found = []
    for length in range(1, order + 1):
        before = Counter(gram[1:] for gram in raw[length + 1])
        whole = {
            # Before a text stands nothing, and that is one thing that stands before.
            gram: number if length == order else max(before[gram], length > 1)
            for gram, number in raw[length].items()
        }
        if length > 1:
            at_start = {gram: n for gram, n in raw[length].items() if gram[0] == EOS}
            whole |= {(vocabulary, *gram[1:]): n for gram, n in at_start.items()}
        found.append({(id,): 0 for id in range(vocabulary)} | whole if length == 1 else whole)
    return found


@pytest.mark.parametrize("by_sorting", [False, True])
def test_counts_are_those_of_a_plain_counter(
    by_sorting: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(counting, "_TABLE_OF_PLACES", 0 if by_sorting else 10**9)
    random = np.random.default_rng(4)
    texts = [random.integers(0, v, n).tolist() for v in (2, 3, 7, 40) for n in (5, 20, 60)]
    once_ended = [A, B, EOS, A, C]  # <EOS> stands before the text, and once within it
    for ids in [*texts, [A], [EOS], [A] * 9, list(range(30)), DOZEN, once_ended]:
        for order in range(1, min(5, len(ids)) + 1):
            counts = count(np.array(ids, np.uint16), order, 41)
            found, expected = grams_of(counts), counted_plainly(ids, order, 41)
            assert found == expected, (ids, order)
            for each, grams in zip(counts, expected, strict=True):
                sentences = [gram for gram in grams if gram[0] != EOS or len(gram) == 1]
                within = [grams[gram] for gram in sentences if EOS not in gram[1:-1]]
                assert each.census.tolist() == [within.count(n) for n in (1, 2, 3, 4)], ids


def test_numbers_of_n_grams_times_a_large_vocabulary_are_exact() -> None:
    ids = np.arange(2, 60_000, dtype=np.uint32)
    *_, longest = count(np.tile(ids, 2), 3, 60_000)
    assert len(longest.words) == len(ids) + 2  # once around, and twice out of <EOS>
    assert longest.words.min() == 2 and longest.words.max() == 59_999
    assert sorted(set(longest.seen.tolist())) == [1, 2]


# Probabilities


def test_bigrams_of_a_dozen_tokens_worked_by_hand() -> None:
    # Bigrams, each sentence after <EOS> (.):  .a 3  ab 2  b. 2  c. 2  ac 1  .b 1  bc 1
    # Before a stood one token (.), before b two (. a), before . two (b c), before c two (a b):
    # of seven bigrams. None came after three, so the discounts are the usual 1/2, 1, 3/2;
    # they free (1/2 + 3) / 7 = 1/2, shared evenly by five tokens.
    lower = {A: Fraction(1, 14), B: Fraction(1, 7), C: Fraction(1, 7), EOS: Fraction(1, 7)}
    p = {token: lower.get(token, 0) + Fraction(1, 10) for token in (UNK, EOS, A, B, C)}
    # Three bigrams were seen once, three twice, one three times: Y = 3 / (3 + 6), and so
    # D1 = 1 - 2Y 3/3 = 1/3, D2 = 2 - 3Y 1/3 = 5/3, D3 = 3 - 4Y 0/1 = 3.
    d1, d2, d3 = Fraction(1, 3), Fraction(5, 3), Fraction(3)
    model = tables(DOZEN, 2, 5)
    assert shares(model, [UNK]) == pytest.approx([float(p[token]) for token in range(5)])
    after_a = [(d1 + d2) / 3 * p[token] for token in range(5)]
    after_a[B] += (2 - d2) / 3
    after_a[C] += (1 - d1) / 3
    assert shares(model, [A]) == pytest.approx(list(map(float, after_a)))
    assert shares(model, [EOS])[A] == pytest.approx(float((3 - d3) / 4 + (d3 + d1) / 4 * p[A]))
    assert shares(model, [C])[EOS] == pytest.approx(31 / 84)
    # lmplz -o 2 --discount_fallback of the same four lines
    kenlm = [shares(model, [EOS])[A], after_a[B], after_a[C], shares(model, [C])[EOS]]
    assert kenlm == pytest.approx([0.142857156, 0.273015937, 0.384127023, 0.369047638], abs=1e-7)


def test_trigrams_of_a_dozen_tokens_worked_by_hand() -> None:
    # Twice .ab ab.  once .ac ac. .bc bc.  and across sentences b.a c.b, which no sentence asks.
    # No count is three: the usual discounts. What counts of bigrams is after how many tokens
    # they came: ab 1 (.)  ac 1 (.)  b. 1 (a)  bc 1 (.)  c. 2 (a b), but .a 3 and .b 1 as seen.
    # The discounts of these would be 5/7 and -1/7, which no discount is: again the usual.
    p = Fraction(17, 70)  # of b, c and . alone
    bigram = Fraction(1, 4) + Fraction(1, 2) * p  # b and c after a, . and c after b
    model = tables(DOZEN, 3, 5)
    assert shares(model, [EOS, A])[B] == pytest.approx(float(Fraction(1, 3) + bigram / 2))
    assert shares(model, [A])[B] == pytest.approx(float(bigram))
    assert shares(model, [C, A])[B] == pytest.approx(float(bigram))  # ca was never seen
    ended = (Fraction(2 - 1, 2) + Fraction(1, 2) * p) / 2 + Fraction(1, 2)
    assert shares(model, [B, C])[EOS] == pytest.approx(float(ended))
    # lmplz -o 3 --discount_fallback of the same four lines
    found = [shares(model, [EOS, A])[B], shares(model, [A, B])[EOS], shares(model, [B, C])[EOS]]
    assert found == pytest.approx([0.519047615, 0.685714290, 0.810714293], abs=1e-7)


def test_three_discounts_are_estimated_from_the_counts_of_counts() -> None:
    # Four tokens once, two twice, one three times, one four times; token 8 and 9 never.
    ids = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 3, 4]).tolist()
    # Y = 4 / (4 + 2*2); the discounts are 1 - 2Y 2/4, 2 - 3Y 1/2 and 3 - 4Y 1/1.
    once, twice, often = 0.5, 1.25, 1.0
    evenly = (4 * once + 2 * twice + 2 * often) / 10
    found = shares(tables(ids, 1, 10), [])
    expected = np.array([1 - once, 2 - twice, 3 - often, 4 - often, 0]) + evenly
    np.testing.assert_allclose([found[id] for id in (0, 4, 6, 7, 9)], expected / 15)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_sum_to_one_after_any_history(order: int) -> None:
    ids = np.random.default_rng(1).integers(0, 4, 300).tolist()  # token 4 is never seen
    models = [tables(text, order, 5) for text in (ids, [A] * 20, [EOS, UNK, A, B, C, UNK], DOZEN)]
    for model in models:
        for history in ([A], [4], [4, A, B], [A, B, A, B, A, B], [EOS], [C, EOS], [A, 4], ids[:6]):
            found = shares(model, history)
            assert min(found) > 0
            assert math.fsum(found) == pytest.approx(1, abs=1e-12)


# KenLM

KENLM = json.loads(Path(__file__).with_name("kenlm.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["word", "char"])
def encoded(request: pytest.FixtureRequest) -> tuple[str, Tokenizer, Any, Any]:
    """The level; of the bundled corpus the ids of what KenLM learned from, and of the rest."""
    lines = bundled_corpus().read_text(encoding="utf-8").splitlines(keepends=True)
    learned = lines[: KENLM["learned_lines"]]
    split: Any = "whitespace" if request.param == "word" else "punctuation"
    config = TokenizerConfig(level=request.param, split=split, min_count=1)
    tokenizer = learn_tokenizer(config, [("".join(learned), True)])
    held = "".join(lines[KENLM["learned_lines"] :])
    return request.param, tokenizer, tokenizer.encode("".join(learned)), tokenizer.encode(held)


@pytest.mark.parametrize("order", [2, 3, 4, 5])
def test_perplexities_of_sentences_are_kenlms(
    encoded: tuple[str, Tokenizer, Any, Any], order: int
) -> None:
    # Of words they are the same to eight digits. Of characters to five: KenLM puts the raw count
    # of the last unigram into its counts of counts, where all others have the adjusted one.
    level, tokenizer, learned, held = encoded
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(tokenizer.vocabulary_size))
    model.read(learned)
    log_probs = by_sentences(model, held)
    assert len(log_probs) == KENLM["tokens"][level]
    expected = KENLM["perplexity"][level][str(order)]
    tolerance = 1e-6 if level == "word" else 2e-5
    assert math.exp(-log_probs.mean()) == pytest.approx(expected, rel=tolerance)


def by_sentences(model: Model, ids: Any) -> Any:
    """ln p of each token, each sentence read from its start."""
    sentences = np.split(ids, np.flatnonzero(ids == EOS)[:-1] + 1)
    lengths = np.array([len(sentence) for sentence in sentences])
    targets = np.full((lengths.max(), len(sentences)), EOS, np.int64)
    for column, sentence in enumerate(sentences):
        targets[: len(sentence), column] = sentence
    inputs = np.concatenate([np.full_like(targets[:1], EOS), targets[:-1]])
    within = np.arange(len(targets))[:, None] < lengths
    return batch_token_statistics(model, inputs, targets)[..., 0][within]


# Learning


@pytest.fixture
def text(tmp_path: Path) -> Path:
    path = tmp_path / "text.txt"
    path.write_text("a b\na b\na c\nb c\n" * 30)
    return path


def test_what_is_trained_scores_sentences_as_its_tables_do(text: Path, tmp_path: Path) -> None:
    train(text, out=tmp_path / "run", model="ngram", order=3, baseline=False)
    model = LanguageModel.load(tmp_path / "run", precision="bf16")  # it computes no less exactly
    ids = model.tokenizer.encode("a b\n").tolist()
    assert isinstance(model.model, NgramModel)
    history, expected = [EOS], 0.0
    for id in ids:
        expected += math.log(shares(model.model.tables, history)[id])
        history.append(id)
    assert model.score("a b").log_prob == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["ngram", "lstm+ngram"])
def test_an_order_above_the_text_s_length_is_refused_before_anything_is_written(
    tmp_path: Path, kind: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a b\n" * 4)
    with pytest.raises(DataError, match="--order 16 is more than the text has tokens") as refused:
        train(text, out=tmp_path / "run", model=kind, order=16, **SMALL[kind])
    assert refused.value.exit_code == 3
    assert not (tmp_path / "run").exists()
    train(text, out=tmp_path / "run", model="ngram", order=14, baseline=False)


@pytest.mark.parametrize("kind", ["ngram", "lstm+ngram"])
def test_usual_discounts_are_warned_of_once(tmp_path: Path, text: Path, kind: str) -> None:
    warnings: list[str] = []

    def on_event(event: Any) -> None:
        if isinstance(event, TrainingWarning):
            warnings.append(event.text)

    train(text, out=tmp_path / "run", model=kind, order=2, on_event=on_event, **SMALL[kind])
    found = [each for each in warnings if "discounts" in each]
    assert len(found) == 1
    assert "of 2 tokens" in found[0] and "0.5, 1, 1.5" in found[0]


def test_what_it_counts_stays_where_the_model_is() -> None:
    model = tables(DOZEN, 3, 5)
    shares(model, [A])
    model.to("meta").read(np.array(DOZEN[:6]))
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    assert model.to_empty(device="cpu").read(np.array(DOZEN)) == (9, 11)
    assert shares(model, [EOS, A])[B] == pytest.approx(109 / 210)


def test_another_text_makes_other_probabilities_of_the_same_model() -> None:
    model = tables([A, B, C, A, B], 2, 5)
    before = shares(model, [A])
    model.read(np.array(DOZEN))
    assert shares(model, [A]) != before
    assert shares(model, [A]) == shares(tables(DOZEN, 2, 5), [A])


# Hostile checkpoints


@pytest.mark.parametrize(
    ("name", "at", "value", "why"),
    [
        ("words_2", 0, 4, "not in the order of tokens"),
        ("words_3", -1, 9, "unknown tokens"),
        ("words_3", -1, -1, "not in the order|unknown tokens"),
        ("seen_1", 2, -1, "cannot be"),
        ("seen_2", 0, 0, "cannot be"),
        ("seen_3", 0, -5, "cannot be"),
        ("begins_2", 0, 1, "not in the order of contexts"),
        ("begins_2", -1, 2**31 - 1, "not in the order of contexts"),
        ("begins_3", 1, -(2**31), "not in the order of contexts"),
        ("census", 1, -1, "counts of counts"),
    ],
)
def test_tables_that_no_counting_leaves_are_refused(
    tmp_path: Path, name: str, at: int, value: int, why: str
) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("abc\n", True)])
    model = build(ModelConfig.from_options({"model": "ngram", "order": 3}).resolved(5))
    model.read(np.array(DOZEN))
    model.get_buffer(f"tables.{name}").view(-1)[at] = value
    checkpoint.save(tmp_path / "run", header_of(model), model, tokenizer)
    with pytest.raises(CheckpointError, match=why) as refused:
        checkpoint.load(tmp_path / "run")
    assert "damaged" in str(refused.value)


def test_tables_of_another_order_are_refused(tmp_path: Path) -> None:
    tokenizer = learn_tokenizer(TokenizerConfig(), [("abc\n", True)])
    model = build(ModelConfig.from_options({"model": "ngram", "order": 3}).resolved(5))
    model.read(np.array(DOZEN))
    with pytest.raises(UsageError, match="2 tables are not those of --order 4"):
        dataclasses.replace(model.config, order=4)
    checkpoint.save(tmp_path / "run", header_of(model), model, tokenizer)
    with storage.new_folder(tmp_path / "other") as begun:
        for path in (tmp_path / "run").iterdir():
            if path.name != storage.MANIFEST:
                (begun / path.name).write_bytes(path.read_bytes())
        config = json.loads((begun / "config.json").read_text())
        config["model"]["order"] = 4
        (begun / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "other")


def header_of(model: Model) -> checkpoint.Header:
    return checkpoint.Header(
        model=model.config,
        training=TrainingConfig(steps=1),
        corpus={"fingerprint": "f" * 64},
        source={},
        machine={"device": "cpu", "precision": "float32", "threads": 1},
        step=1,
        tokens_seen=12,
        seconds=0.1,
        tokens_per_second=1.0,
        parameters=count_parameters(model.config),
        validation=None,
    )
