"""How much a model remembers, of models whose memory is known."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from torch import Tensor

from textgen import LanguageModel
from textgen.config import LSTMConfig, TokenizerConfig
from textgen.errors import DataError, UsageError
from textgen.models import Dropout, Model, State
from textgen.results import SentenceScore
from textgen.studies.plots.memory import DISTANCES, loss_by_context, recall
from textgen.tokenizers.character import CharacterTokenizer

LAG, SHARE, LETTERS = 6, 0.9, "abcdefgh"


class Last(State):
    """The last tokens that were read, the first of them -1 where there were fewer."""

    beginning = -1


class Echo(Model):
    """Expects what stood ``LAG`` places before with probability ``SHARE``, and knows no more."""

    def __init__(self, vocabulary: int) -> None:
        super().__init__(LSTMConfig(vocabulary_size=vocabulary))
        self.share = torch.nn.Parameter(torch.tensor(SHARE))

    def start(self, batch: int) -> Last:
        return Last({"last": torch.full((batch, LAG), -1)})

    def initialize(self, generator: torch.Generator) -> None: ...

    def hidden_states(
        self, ids: Tensor, state: State, dropout: Dropout | None = None
    ) -> tuple[Tensor, Any]:
        seen = torch.cat([state.named["last"].T, ids])  # (LAG + time, batch)
        return seen[1 : 1 + len(ids)].unsqueeze(-1).float(), Last({"last": seen[-LAG:].T})

    def logits(self, features: Tensor) -> Tensor:
        size = self.config.vocabulary_size
        expected = features[..., 0].long()
        spread = torch.full((*expected.shape, size), (1 - SHARE) / (size - 1))
        certain = spread.scatter(-1, expected.clamp(min=0).unsqueeze(-1), SHARE)
        return torch.where(
            (expected < 0).unsqueeze(-1), torch.full_like(spread, 1 / size), certain
        ).log()


def echoing() -> tuple[LanguageModel, str]:
    """The model, and a text in which each character stands ``LAG`` places before."""
    text = "".join(np.random.default_rng(0).choice(list(LETTERS), LAG)) * 300
    config = TokenizerConfig(level="char", unit="document")
    tokenizer = CharacterTokenizer.learn(config, [LETTERS])
    model = SimpleNamespace(model=Echo(tokenizer.vocabulary_size), tokenizer=tokenizer)
    return cast(LanguageModel, model), text


def test_the_loss_falls_where_the_context_reaches_what_is_remembered() -> None:
    model, text = echoing()
    losses = loss_by_context(model, [text], contexts=(8, 1, 5, 6, 64), tokens=200)
    vocabulary = model.tokenizer.vocabulary_size
    assert [each.context for each in losses] == [1, 5, 6, 8, 64, None]
    assert [each.loss for each in losses[:2]] == pytest.approx([math.log(vocabulary)] * 2)
    assert [each.loss for each in losses[2:5]] == pytest.approx([losses[5].loss] * 3)
    assert losses[5].loss == pytest.approx(-math.log(SHARE), abs=0.1)
    assert {each.tokens for each in losses} == {200}
    assert losses[0].error == pytest.approx(0, abs=1e-6)


def test_all_that_there_is_to_read_is_the_document() -> None:
    model, text = echoing()
    (*_, short, whole) = loss_by_context(model, [text[:50]], contexts=(1, 2), tokens=10**6)
    assert whole.tokens == short.tokens == 51 - 2
    uniform, certain = math.log(model.tokenizer.vocabulary_size), -math.log(SHARE)
    # Of <EOS> and LAG characters nothing is known before they come; the last <EOS> is a surprise.
    other = -math.log((1 - SHARE) / (model.tokenizer.vocabulary_size - 1))
    assert whole.loss * 49 == pytest.approx(3 * uniform + 2 * other + 44 * certain)
    with pytest.raises(DataError, match="51 tokens"):
        loss_by_context(model, [text[:50]], contexts=(51,))


OPENED = {"“": "”", "‘": "’", "(": ")", "[": "]"}


class Brackets:
    """Scores what closes by the last so many characters alone."""

    model = SimpleNamespace(is_causal=True)
    path = Path("run")

    def __init__(self, memory: int, unknown: int = 0) -> None:
        self._memory, self._unknown = memory, unknown

    def scores(self, texts: Iterable[tuple[str, str]]) -> Iterator[SentenceScore]:
        for context, text in texts:
            open_: list[str] = []
            for character in context[-self._memory :]:
                if character in OPENED:
                    open_.append(OPENED[character])
                elif open_ and character == open_[-1]:
                    open_.pop()
            right = bool(open_) and text[0] == open_[-1]
            yield SentenceScore(-1.0 if right else -2.0, tokens=2, unknown=self._unknown)


def test_a_memory_of_so_many_characters_recalls_what_is_no_further() -> None:
    found = recall(cast(LanguageModel, Brackets(40)))
    assert len(found) == 5 * len(DISTANCES)
    for each in found:
        if each.pairs:
            assert each.shortest <= each.distance <= (each.longest or math.inf)
        if each.kind in ("quotes", "brackets"):
            near = each.longest is not None and each.longest < 40
            assert each.right == (each.pairs if near else 0)
    pairs = {(each.kind, each.shortest): each.pairs for each in found}
    assert pairs["quotes", 40] == pairs["facts", 160] == pairs["agreement", 20] == 100
    assert pairs["quotes", 160] == 0


def test_a_preference_for_one_form_is_not_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    def prefer(_: Any, texts: Iterable[tuple[str, str]]) -> Iterator[SentenceScore]:
        return (SentenceScore(-1.0 if text[0] in "”)" else -2.0, tokens=2) for _, text in texts)

    monkeypatch.setattr(Brackets, "scores", prefer)
    for each in recall(cast(LanguageModel, Brackets(0))):
        if each.kind in ("quotes", "brackets") and each.pairs:
            assert each.accuracy == 0.5


def test_unknown_text_and_a_model_that_reads_both_ways_are_refused(stand_in: Any) -> None:
    with pytest.raises(DataError, match="unknown to the model"):
        recall(cast(LanguageModel, Brackets(40, unknown=1)))
    both_ways = stand_in(SimpleNamespace(is_causal=False), kind="bidirectional")
    for measure in (recall, lambda model: loss_by_context(model, ["a"])):
        with pytest.raises(UsageError, match="both ways"):
            measure(both_ways)


def test_an_ending_among_the_choices_is_no_missing_space(trained: Path) -> None:
    with pytest.raises(DataError, match="stories"):  # and no warning, which would be an error here
        recall(LanguageModel.load(trained))


def test_a_model_that_never_saw_the_stories_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def spell(bits: float) -> Any:
        def scores(_: Any, texts: Iterable[tuple[str, str]]) -> Iterator[SentenceScore]:
            for _context, text in texts:
                log_prob = -bits * math.log(2) * len(text)
                yield SentenceScore(log_prob, tokens=2, characters=len(text))

        return scores

    monkeypatch.setattr(Brackets, "scores", spell(4.4))
    with pytest.raises(DataError, match=r"does not know the bundled stories.*4\.4 bits.*--what"):
        recall(cast(LanguageModel, Brackets(40)))
    monkeypatch.setattr(Brackets, "scores", spell(0.9))
    assert recall(cast(LanguageModel, Brackets(40)))
