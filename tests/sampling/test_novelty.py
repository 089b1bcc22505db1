"""What of a sample is copied from the training text."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from textgen import LanguageModel, train
from textgen.config import TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.errors import DataError, ResourceError, UsageError
from textgen.results import Novelty
from textgen.sampling import novelty
from textgen.sampling.novelty import FOLDER, TRIES, Index, novel_samples, open_index

LINES = [
    "the cats that the dogs chased sat down by the café.",
    "“no,” said the cat, “i will not sit — not here.”",
    "the dogs (who were tired) slept, and the cats did not.",
]
HELD_OUT = "nobody ever reads these words before the end.\n" * 4


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("corpus") / "text.txt"
    chance = random.Random(0)
    lines = [chance.choice(LINES) for _ in range(40)]
    path.write_text("\n".join(lines) + "\n" + HELD_OUT, encoding="utf-8")
    return path


def trained(corpus: Path, out: Path, **options: Any) -> LanguageModel:
    settings: dict[str, Any] = {"steps": 1, "hidden_size": 8, "batch_size": 2} | options
    train(str(corpus), out=out, on_event=lambda event: None, **settings)
    return LanguageModel.load(out)


@pytest.fixture(scope="module")
def model(text: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return trained(text, tmp_path_factory.mktemp("model") / "run")


@pytest.fixture(scope="module")
def index(model: LanguageModel) -> Index:
    return open_index(model)


def brute_force(training: str, text: str, least: int) -> Novelty:
    """Every stretch of the text looked for, plainly."""
    copied = [False] * len(text)
    longest = 0
    for start in range(len(text)):
        end = start
        while end < len(text) and text[start : end + 1] in training:
            end += 1
        longest = max(longest, end - start)
        if end - start >= least:
            copied[start:end] = [True] * (end - start)
    stretches, at = [], 0
    while at < len(text):
        end = at
        while end < len(text) and copied[end]:
            end += 1
        if end > at:
            stretches.append((at, end))
        at = max(end, at + 1)
    return Novelty(longest, sum(copied) / len(text), tuple(stretches))


def test_copied_text_is_found_and_novel_text_is_not(index: Index) -> None:
    copied = index.novelty(LINES[1])
    assert copied == Novelty(len(LINES[1]), 1.0, ((0, len(LINES[1])),))
    assert copied.novelty == 0
    novel = index.novelty("xyzzy quux, frobnicate the plugh")
    assert novel.copied_share == 0
    assert novel.longest_copied == len(" the ")
    assert index.novelty("") == Novelty(0, 0.0, ())


def test_what_was_held_out_is_no_copy(index: Index) -> None:
    assert index.novelty(HELD_OUT, least=20).copied_share == 0


def test_characters_are_counted_and_not_bytes(index: Index) -> None:
    text = "zz “no,” said the cat, “i zz"
    assert index.novelty(text, least=10) == Novelty(23, 23 / 28, ((3, 26),))
    # The first byte of the dash is in the text before another: no character is copied by half.
    assert index.novelty("“–", least=1).longest_copied == 1


@pytest.mark.parametrize("least", [1, 4, 12, 30])
def test_it_agrees_with_a_plain_search(index: Index, text: Path, least: int) -> None:
    training = text.read_text(encoding="utf-8").removesuffix(HELD_OUT)
    chance = random.Random(least)
    for _ in range(20):
        parts = []
        for _ in range(6):
            start = chance.randrange(len(training))
            parts.append(training[start : start + chance.randint(1, 40)])
            parts.append("".join(chance.choices("the—é ", k=chance.randint(0, 9))))
        sample = "".join(parts)
        assert index.novelty(sample, least) == brute_force(training, sample, least)


def test_the_index_is_made_once_beside_the_checkpoint(
    model: LanguageModel, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert novelty.is_indexed(model)
    assert (model.path.parent / FOLDER).is_dir()
    monkeypatch.setattr(novelty, "build", None)
    assert open_index(model).novelty(LINES[0]).copied_share == 1


def test_an_index_of_another_corpus_is_refused(text: Path, tmp_path: Path) -> None:
    model = trained(text, tmp_path / "run")
    open_index(model)
    header = tmp_path / "run" / FOLDER / "novelty.json"
    kept = json.loads(header.read_text())
    for name in ("fingerprint", "boundary"):
        header.write_text(json.dumps(kept | {name: 0}))
        with pytest.raises(DataError, match=r"of another corpus.*remove .* made anew"):
            open_index(model)
    header.write_text(json.dumps(kept | {"bytes": 5}))
    with pytest.raises(DataError, match="damaged"):
        open_index(model)
    for damaged in ("[]", "5", "{", json.dumps(kept | {"format": 99}), '{"format": 1}'):
        header.write_text(damaged)
        with pytest.raises(DataError):
            open_index(model)
    header.unlink()
    with pytest.raises(ResourceError, match=r"cannot read.*remove .* made anew"):
        open_index(model)


def test_a_text_that_has_changed_or_gone_is_named(text: Path, tmp_path: Path) -> None:
    moved = tmp_path / "text.txt"
    moved.write_bytes(text.read_bytes())
    model = trained(moved, tmp_path / "run")
    moved.write_text("something else\n" * 50)
    with pytest.raises(DataError, match=r"the text has changed.*--corpus"):
        open_index(model)
    moved.unlink()
    with pytest.raises(ResourceError, match=r"text\.txt"):
        open_index(model)
    assert not (tmp_path / "run" / FOLDER).exists()
    assert open_index(model, [str(text)]).novelty(LINES[0]).copied_share == 1


@pytest.mark.parametrize("level", ["char", "subword"])
def test_a_tokenized_corpus_is_read_back(text: Path, tmp_path: Path, level: str) -> None:
    config = TokenizerConfig.from_options({"level": level, "vocab_size": 300})
    tokenize([text], config, out=tmp_path / "ids")
    model = trained(tmp_path / "ids", tmp_path / "run")
    assert open_index(model).novelty(LINES[2]).copied_share == 1


def test_samples_come_with_their_novelty(model: LanguageModel, index: Index) -> None:
    samples = list(novel_samples(model, "the ", index=index, count=3, length=40, least=3))
    plain = model.sample("the ", count=3, length=40)
    for sample, other in zip(sorted(samples, key=lambda each: each.index), plain, strict=True):
        assert sample.text == other.text
        assert sample.novelty == index.novelty(sample.text, 3)
        assert sample.drawn == 1


def test_what_is_not_new_enough_is_drawn_again(model: LanguageModel, index: Index) -> None:
    options: dict[str, Any] = {"count": 100, "length": 12, "least": 3}
    free = list(novel_samples(model, index=index, **options))
    assert any(sample.novelty and sample.novelty.novelty < 0.7 for sample in free)
    samples = list(novel_samples(model, index=index, min_novelty=0.7, **options))
    assert sorted(sample.index for sample in samples) == list(range(100))
    assert all(sample.novelty and sample.novelty.novelty >= 0.7 for sample in samples)
    assert any(sample.drawn > 1 for sample in samples)
    first = {sample.index: sample.text for sample in free}
    for sample in samples:
        assert (sample.drawn == 1) == (sample.text == first[sample.index])


def test_a_novelty_that_cannot_be_met_ends_after_so_many_tries(
    model: LanguageModel, index: Index
) -> None:
    with pytest.raises(DataError, match=rf"no sample as novel as 1 in {TRIES} tries"):
        list(novel_samples(model, index=index, min_novelty=1, least=1, length=20))


@pytest.mark.parametrize("least", [-0.1, 1.1, float("nan")])
def test_a_share_is_a_share(model: LanguageModel, index: Index, least: float) -> None:
    with pytest.raises(UsageError, match=r"--min-novelty must lie in \[0, 1\]"):
        list(novel_samples(model, index=index, min_novelty=least))
