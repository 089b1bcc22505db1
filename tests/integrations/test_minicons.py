"""minicons on exported models: the scores of textgen, first token included."""

from pathlib import Path
from typing import Any

import pytest

from textgen import LanguageModel
from textgen.cli.app import main

from ..test_readme import ROOT, blocks
from .conftest import MakeCheckpoint

pytest.importorskip("minicons")

from minicons.scorer import IncrementalLMScorer

SENTENCES = ["the dogs slept.", "a cat that the dogs chased sat down.", "a"]
MODELS: dict[str, dict[str, Any]] = {
    "characters": {"ngram_embeddings": 3},
    "words": {"model": "gru", "tokens": {"level": "word", "min_count": 1}},
    "spaced words": {"tokens": {"level": "word", "min_count": 1, "split": "whitespace"}},
    "subwords": {"tokens": {"level": "subword", "vocab_size": 300}, "ngram_embeddings": 2},
}
parametrized = pytest.mark.parametrize("name", MODELS)
CLOSE = {"abs": 1e-4}  # of a sum of up to forty float32 scores


@pytest.fixture
def ours(make_checkpoint: MakeCheckpoint, name: str) -> LanguageModel:
    return make_checkpoint(**MODELS[name])


@pytest.fixture
def scorer(ours: LanguageModel, tmp_path: Path) -> Any:
    folder = tmp_path / "out"
    assert main(["export", str(tmp_path / "mine"), "--to", "transformers", str(folder)]) == 0
    return IncrementalLMScorer(str(folder), "cpu")


@parametrized
def test_tokens_have_our_log_probabilities(ours: LanguageModel, scorer: Any) -> None:
    found = scorer.token_score(SENTENCES, bos_token=True, eos_token=True)
    expected = ours.score(SENTENCES, level="token")
    for tokens, score in zip(found, expected, strict=True):
        assert score.parts is not None
        assert tokens[0] == (scorer.tokenizer.bos_token, 0.0)
        log_probs = [log_prob for _, log_prob in tokens[1:]]
        assert log_probs == pytest.approx([part.log_prob for part in score.parts], abs=1e-5)


@parametrized
def test_sequences_have_our_log_probabilities(ours: LanguageModel, scorer: Any) -> None:
    for eos in (True, False):
        found = scorer.sequence_score(
            SENTENCES, reduction=lambda each: each.sum().item(), bos_token=True, eos_token=eos
        )
        assert found == pytest.approx([s.log_prob for s in ours.score(SENTENCES, eos=eos)], **CLOSE)


@parametrized
def test_continuations_have_our_log_probabilities(ours: LanguageModel, scorer: Any) -> None:
    prefixes, texts = ["the dogs", "a cat that", '"no,"'], ["slept.", "the dogs chased sat", "said"]
    found = scorer.conditional_score(
        prefixes, texts, reduction=lambda each: each.sum().item(), bos_token=True
    )
    pairs = [(prefix, " " + text) for prefix, text in zip(prefixes, texts, strict=True)]
    assert found == pytest.approx([score.log_prob for score in ours.scores(pairs)], **CLOSE)


@pytest.mark.parametrize("name", sorted(MODELS.keys() - {"words"}))
def test_words_have_the_sums_of_our_tokens(ours: LanguageModel, scorer: Any) -> None:
    found = scorer.word_score_tokenized(SENTENCES, str.split, bos_token=True)
    expected = ours.score(SENTENCES, level="token", eos=False)
    for sentence, words, score in zip(SENTENCES, found, expected, strict=True):
        assert score.parts is not None
        assert [word for word, _ in words] == sentence.split()
        sums = [0.0]
        for part in score.parts:
            sums += [0.0] if part.span.startswith(" ") else []
            sums[-1] += part.log_prob
        assert [log_prob for _, log_prob in words] == pytest.approx(sums, **CLOSE)


@pytest.mark.parametrize("name", ["words"])
def test_the_tokens_of_a_word_model_are_its_words(ours: LanguageModel, scorer: Any) -> None:
    (tokens,) = scorer.token_score(SENTENCES[:1], bos_token=True)
    assert [token for token, _ in tokens] == ["\n", "the", "dogs", "slept", "￭."]
    assert tokens[1][1] != 0


@pytest.mark.usefixtures("exported_here")
def test_the_example_of_the_page_runs() -> None:
    _, example = blocks(ROOT / "docs" / "doors" / "transformers.md", "python")
    exec(example, {})
