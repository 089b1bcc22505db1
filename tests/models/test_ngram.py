"""The n-gram model: counts, probabilities worked out by hand, KenLM's figures, damaged tables."""

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
from textgen.config import ModelConfig, TokenizerConfig
from textgen.data.corpus import bundled_corpus
from textgen.errors import CheckpointError, DataError, UsageError
from textgen.models import build, ngram
from textgen.models.ngram import UNSEEN, Counts, NgramModel, NgramTables, count
from textgen.results import TrainingWarning
from textgen.scoring.scorer import SentenceReader
from textgen.tokenizers.base import EOS, UNK, Tokenizer
from textgen.tokenizers.registry import learn_tokenizer

A, B, C = 2, 3, 4
DOZEN = [A, B, EOS, A, B, EOS, A, C, EOS, B, C, EOS]
Gram = tuple[int, ...]


def tables(ids: Sequence[int], order: int, vocabulary: int) -> NgramTables:
    counted = NgramTables(order, vocabulary)
    counted.count(np.array(ids, np.uint16))
    return counted


def after(model: NgramTables, history: Sequence[int]) -> list[float]:
    """p of each token after a history, read from the start of a text."""
    context = torch.full((1, model.order - 1), UNSEEN)
    if len(history):
        context = model.ngram_ids(torch.tensor(history).unsqueeze(1), context)[-1]
    (row,) = model.distributions(context)
    every = torch.arange(model.vocabulary_size)
    alone = model.probabilities(context.expand(len(every), -1), every)
    assert torch.allclose(row, alone, rtol=0, atol=1e-15)
    return row.tolist()


# Counts


def adjusted_counts(counts: list[Counts]) -> list[dict[Gram, int]]:
    """The adjusted count of each n-gram of each order."""
    contexts: list[Gram] = [()]
    found = []
    for each in counts:
        context_of = np.repeat(np.arange(len(contexts)), np.diff(each.offsets))
        pairs = zip(context_of.tolist(), each.tokens, strict=True)
        contexts = [(*contexts[context], int(token)) for context, token in pairs]
        assert contexts == sorted(set(contexts))
        found.append(dict(zip(contexts, each.counts.tolist(), strict=True)))
        if len(contexts[0]) == 1:
            contexts.append((len(contexts),))  # <s>
    return found


def by_counter(ids: list[int], order: int, vocabulary: int) -> list[dict[Gram, int]]:
    text = [EOS, *ids]
    raw = [Counter(zip(*(text[n:] for n in range(length)), strict=False)) for length in range(9)]
    raw[1] = Counter((id,) for id in ids)
    found = []
    for length in range(1, order + 1):
        before = Counter(gram[1:] for gram in raw[length + 1])
        whole = {
            # The start of the text counts as one token before.
            gram: number if length == order else max(before[gram], length > 1)
            for gram, number in raw[length].items()
        }
        if length > 1:
            at_start = {gram: n for gram, n in raw[length].items() if gram[0] == EOS}
            whole |= {(vocabulary, *gram[1:]): n for gram, n in at_start.items()}
        found.append({(id,): 0 for id in range(vocabulary)} | whole if length == 1 else whole)
    return found


@pytest.mark.parametrize("dense_factor", [0, 10**9])
def test_counts_are_those_of_a_plain_counter(
    dense_factor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ngram, "_DENSE_FACTOR", dense_factor)
    random = np.random.default_rng(4)
    texts = [random.integers(0, v, n).tolist() for v in (2, 3, 7, 40) for n in (5, 20, 60)]
    once_ended = [A, B, EOS, A, C]  # <EOS> is before the text, and once within it
    for ids in [*texts, [A], [EOS], [A] * 9, list(range(30)), DOZEN, once_ended]:
        for order in range(1, min(5, len(ids)) + 1):
            counts = count(np.array(ids, np.uint16), order, 41)
            expected = by_counter(ids, order, 41)
            assert adjusted_counts(counts) == expected, (ids, order)
            for each, grams in zip(counts, expected, strict=True):
                sentences = [gram for gram in grams if gram[0] != EOS or len(gram) == 1]
                within = [grams[gram] for gram in sentences if EOS not in gram[1:-1]]
                assert each.counts_of_counts.tolist() == [within.count(n) for n in (1, 2, 3, 4)]


def test_ids_of_n_grams_times_a_large_vocabulary_are_exact() -> None:
    ids = np.arange(2, 60_000, dtype=np.uint32)
    *_, longest = count(np.tile(ids, 2), 3, 60_000)
    assert len(longest.tokens) == len(ids) + 2  # once around, and twice after <EOS>
    assert longest.tokens.min() == 2 and longest.tokens.max() == 59_999
    assert sorted(set(longest.counts.tolist())) == [1, 2]


# Probabilities


def test_bigrams_of_a_dozen_tokens_worked_by_hand() -> None:
    # Bigrams, each sentence after <EOS> (.):  .a 3  ab 2  b. 2  c. 2  ac 1  .b 1  bc 1
    # Continuation counts: a 1 (after .), b 2 (after . a), . 2 (after b c), c 2 (after a b), of
    # seven bigrams. None is three, so the discounts are the fallback 1/2, 1, 3/2. They free
    # (1/2 + 3) / 7 = 1/2, which five tokens share evenly.
    lower = {A: Fraction(1, 14), B: Fraction(1, 7), C: Fraction(1, 7), EOS: Fraction(1, 7)}
    p = {token: lower.get(token, 0) + Fraction(1, 10) for token in (UNK, EOS, A, B, C)}
    # Three bigrams occur once, three twice, one three times: Y = 3 / (3 + 6), and so
    # D1 = 1 - 2Y 3/3 = 1/3, D2 = 2 - 3Y 1/3 = 5/3, D3+ = 3 - 4Y 0/1 = 3.
    d1, d2, d3 = Fraction(1, 3), Fraction(5, 3), Fraction(3)
    model = tables(DOZEN, 2, 5)
    assert after(model, [UNK]) == pytest.approx([float(p[token]) for token in range(5)])
    after_a = [(d1 + d2) / 3 * p[token] for token in range(5)]
    after_a[B] += (2 - d2) / 3
    after_a[C] += (1 - d1) / 3
    assert after(model, [A]) == pytest.approx(list(map(float, after_a)))
    assert after(model, [EOS])[A] == pytest.approx(float((3 - d3) / 4 + (d3 + d1) / 4 * p[A]))
    assert after(model, [C])[EOS] == pytest.approx(31 / 84)
    # lmplz -o 2 --discount_fallback of the same four lines
    kenlm = [after(model, [EOS])[A], after_a[B], after_a[C], after(model, [C])[EOS]]
    assert kenlm == pytest.approx([0.142857156, 0.273015937, 0.384127023, 0.369047638], abs=1e-7)


def test_trigrams_of_a_dozen_tokens_worked_by_hand() -> None:
    # Twice .ab ab.  once .ac ac. .bc bc.  and across sentences b.a c.b, which are not scored.
    # No count is three: the fallback discounts. Continuation counts of bigrams: ab 1 (.)  ac 1 (.)
    # b. 1 (a)  bc 1 (.)  c. 2 (a b), but occurrences of .a 3 and .b 1.
    # Their discounts would be 5/7 and -1/7, which is impossible: again the fallback.
    p = Fraction(17, 70)  # of the unigrams b, c and .
    bigram = Fraction(1, 4) + Fraction(1, 2) * p  # b and c after a, . and c after b
    model = tables(DOZEN, 3, 5)
    assert after(model, [EOS, A])[B] == pytest.approx(float(Fraction(1, 3) + bigram / 2))
    assert after(model, [A])[B] == pytest.approx(float(bigram))
    assert after(model, [C, A])[B] == pytest.approx(float(bigram))  # ca does not occur
    ended = (Fraction(2 - 1, 2) + Fraction(1, 2) * p) / 2 + Fraction(1, 2)
    assert after(model, [B, C])[EOS] == pytest.approx(float(ended))
    # lmplz -o 3 --discount_fallback of the same four lines
    found = [after(model, [EOS, A])[B], after(model, [A, B])[EOS], after(model, [B, C])[EOS]]
    assert found == pytest.approx([0.519047615, 0.685714290, 0.810714293], abs=1e-7)


def test_three_discounts_are_estimated_from_the_counts_of_counts() -> None:
    # Four tokens once, two twice, one three times, one four times; tokens 8 and 9 never.
    ids = np.repeat(np.arange(8), [1, 1, 1, 1, 2, 2, 3, 4]).tolist()
    # Y = 4 / (4 + 2*2); the discounts are 1 - 2Y 2/4, 2 - 3Y 1/2 and 3 - 4Y 1/1.
    once, twice, often = 0.5, 1.25, 1.0
    evenly = (4 * once + 2 * twice + 2 * often) / 10
    found = after(tables(ids, 1, 10), [])
    expected = np.array([1 - once, 2 - twice, 3 - often, 4 - often, 0]) + evenly
    np.testing.assert_allclose([found[id] for id in (0, 4, 6, 7, 9)], expected / 15)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
def test_probabilities_sum_to_one_after_any_history(order: int) -> None:
    ids = np.random.default_rng(1).integers(0, 4, 300).tolist()  # token 4 does not occur
    models = [tables(text, order, 5) for text in (ids, [A] * 20, [EOS, UNK, A, B, C, UNK], DOZEN)]
    for model in models:
        for history in ([A], [4], [4, A, B], [A, B, A, B, A, B], [EOS], [C, EOS], [A, 4], ids[:6]):
            found = after(model, history)
            assert min(found) > 0
            assert math.fsum(found) == pytest.approx(1, abs=1e-12)


def test_counts_stay_on_the_device_of_the_model() -> None:
    model = tables(DOZEN, 3, 5)
    after(model, [A])
    model.to("meta").count(np.array(DOZEN[:6]))
    assert {buffer.device.type for buffer in model.buffers()} == {"meta"}
    assert model.to_empty(device="cpu").count(np.array(DOZEN)) == (9, 11)
    assert after(model, [EOS, A])[B] == pytest.approx(109 / 210)


# KenLM

KENLM = json.loads(Path(__file__).with_name("kenlm.json").read_text(encoding="utf-8"))


@pytest.fixture(scope="module", params=["word", "char"])
def encoded(request: pytest.FixtureRequest) -> tuple[str, Tokenizer, Any, Any]:
    """The level; the ids of the part of the bundled corpus that KenLM was trained on; the rest."""
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
    # Of words they are equal to eight digits. Of characters to five: KenLM counts the raw count
    # of the last unigram in its counts of counts, and the adjusted count of all others.
    level, tokenizer, learned, held = encoded
    config = ModelConfig.from_options({"model": "ngram", "order": order})
    model = build(config.resolved(tokenizer.vocabulary_size))
    model.initialize_from_text(learned)
    sentences = np.split(held, np.flatnonzero(held == EOS)[:-1] + 1)
    log_probs = np.concatenate(SentenceReader(model).read(sentences))
    assert len(log_probs) == KENLM["tokens"][level]
    expected = KENLM["perplexity"][level][str(order)]
    tolerance = 1e-6 if level == "word" else 2e-5
    assert math.exp(-log_probs.mean()) == pytest.approx(expected, rel=tolerance)


# Training


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("a b\na b\na c\nb c\n" * 30)
    return path


@pytest.fixture(scope="module")
def trained(text: Path) -> Path:
    train(text, out=text.parent / "run", model="ngram", order=3, baseline=False)
    return text.parent / "run"


def test_a_trained_model_scores_sentences_as_its_tables_do(trained: Path) -> None:
    model = LanguageModel.load(trained, precision="bf16")  # tables are no less exact
    assert isinstance(model.model, NgramModel)
    history, expected = [EOS], 0.0
    for id in model.tokenizer.encode("a b\n").tolist():
        expected += math.log(after(model.model.tables, history)[id])
        history.append(id)
    assert model.score("a b").log_prob == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("kind", ["ngram", "lstm+ngram"])
def test_an_order_above_the_length_of_the_text_is_refused_before_anything_is_written(
    tmp_path: Path, kind: str
) -> None:
    text = tmp_path / "text.txt"
    text.write_text("a b\n" * 4)
    size = {} if kind == "ngram" else {"hidden_size": 4, "steps": 3, "batch_size": 2}
    with pytest.raises(DataError, match="--order 16 exceeds the length of the text") as refused:
        train(text, out=tmp_path / "run", model=kind, order=16, **size)
    assert refused.value.exit_code == 3
    assert not (tmp_path / "run").exists()
    train(text, out=tmp_path / "run", model="ngram", order=14, baseline=False)


@pytest.mark.parametrize("kind", ["ngram", "lstm+ngram"])
def test_fallback_discounts_are_warned_of_once(tmp_path: Path, text: Path, kind: str) -> None:
    warnings: list[str] = []

    def on_event(event: Any) -> None:
        if isinstance(event, TrainingWarning) and "discounts" in event.text:
            warnings.append(event.text)

    size = {} if kind == "ngram" else {"hidden_size": 4, "steps": 3, "batch_size": 2}
    train(text, out=tmp_path, model=kind, order=2, on_event=on_event, baseline=False, **size)
    (warning,) = warnings
    assert "of order 2" in warning and "0.5, 1, 1.5" in warning


# Damaged checkpoints


@pytest.mark.parametrize(
    ("name", "at", "value", "why"),
    [
        ("tokens_2", 0, 4, "not sorted by token"),
        ("tokens_3", -1, 9, "outside the vocabulary"),
        ("tokens_3", -1, -1, "not sorted|outside the vocabulary"),
        ("counts_1", 2, -1, "1-grams are too small"),
        ("counts_2", 0, 0, "2-grams are too small"),
        ("counts_3", 0, -5, "3-grams are too small"),
        ("offsets_2", 0, 1, "not sorted by context"),
        ("offsets_2", -1, 2**31 - 1, "not sorted by context"),
        ("offsets_3", 1, -(2**31), "not sorted by context"),
        ("counts_of_counts", 1, -1, "counts of counts"),
    ],
)
def test_tables_that_are_not_counts_of_a_text_are_refused(
    name: str, at: int, value: int, why: str
) -> None:
    model = tables(DOZEN, 3, 5)
    model.check()
    model.get_buffer(name).view(-1)[at] = value
    with pytest.raises(ValueError, match=why):
        model.check()


def test_a_checkpoint_with_damaged_tables_is_refused(trained: Path, tmp_path: Path) -> None:
    model = LanguageModel.load(trained)
    model.model.get_buffer("tables.tokens_2")[0] = 99
    checkpoint.save(tmp_path / "run", model.header, model.model, model.tokenizer)
    with pytest.raises(CheckpointError, match="damaged") as refused:
        checkpoint.load(tmp_path / "run")
    assert "not sorted by token" in str(refused.value)


def test_tables_of_another_order_are_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="2 n-gram tables do not fit --order 4"):
        dataclasses.replace(LanguageModel.load(trained).header.model, order=4)
    with storage.new_folder(tmp_path / "other") as folder:
        for path in (trained / "last").iterdir():
            if path.name != storage.MANIFEST:
                (folder / path.name).write_bytes(path.read_bytes())
        config = json.loads((folder / "config.json").read_text())
        config["model"]["order"] = 4
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(CheckpointError):
        checkpoint.load(tmp_path / "other")
