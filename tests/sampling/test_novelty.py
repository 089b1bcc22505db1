"""What of a sample is copied from the training text."""

import contextlib
import itertools
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from textgen import LanguageModel, train
from textgen.config import NoveltyConfig, SamplingConfig, TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.errors import CheckpointError, DataError, ResourceError
from textgen.results import Novelty, Sample
from textgen.sampling import novelty
from textgen.sampling.novelty import (
    FOLDER,
    TRIES,
    TextIndex,
    build,
    novel_samples,
    open_index,
)

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
    settings: dict[str, Any] = {"steps": 1, "hidden_size": 8, "baseline": False} | options
    train(str(corpus), out=out, on_event=lambda event: None, **settings)
    return LanguageModel.load(out)


@pytest.fixture(scope="module")
def model(text: Path, tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    return trained(text, tmp_path_factory.mktemp("model") / "run")


def indexed(model: LanguageModel, corpora: tuple[str, ...] = ()) -> TextIndex:
    return open_index(model.path, model.header, corpora)


@pytest.fixture(scope="module")
def index(model: LanguageModel) -> TextIndex:
    return indexed(model)


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
    for is_copied, run in itertools.groupby(copied):
        end = at + len(list(run))
        if is_copied:
            stretches.append((at, end))
        at = end
    return Novelty(longest, sum(copied) / len(text), tuple(stretches))


def test_copied_text_is_found_and_novel_text_is_not(index: TextIndex) -> None:
    copied = index.novelty(LINES[1])
    assert copied == Novelty(len(LINES[1]), 1.0, ((0, len(LINES[1])),))
    assert copied.novelty == 0
    novel = index.novelty("xyzzy quux, frobnicate the plugh")
    assert novel.copied_share == 0
    assert novel.longest_copied == len(" the ")
    assert index.novelty("") == Novelty(0, 0.0, ())


def test_what_was_held_out_is_no_copy(index: TextIndex) -> None:
    assert index.novelty(HELD_OUT, least=20).copied_share == 0


def test_characters_are_counted_and_not_bytes(index: TextIndex) -> None:
    text = "zz “no,” said the cat, “i zz"
    assert index.novelty(text, least=10) == Novelty(23, 23 / 28, ((3, 26),))
    # The first byte of the dash is in the text before another: no character is copied by half.
    assert index.novelty("“–", least=1).longest_copied == 1


def test_the_index_is_made_once_beside_the_checkpoint(
    model: LanguageModel, index: TextIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert novelty.is_indexed(model.path)
    assert (model.path.parent / FOLDER).is_dir()
    monkeypatch.setattr(novelty, "build", None)
    assert indexed(model).novelty(LINES[0]).copied_share == 1


def test_an_index_of_another_corpus_is_refused(text: Path, tmp_path: Path) -> None:
    model = trained(text, tmp_path / "run")
    indexed(model)
    header = tmp_path / "run" / FOLDER / "novelty.json"
    kept = json.loads(header.read_text())
    for name, other in (("fingerprint", "0"), ("boundary", 0)):
        header.write_text(json.dumps(kept | {name: other}))
        with pytest.raises(DataError, match=r"of another corpus.*remove .* built again"):
            indexed(model)
    header.write_text(json.dumps(kept | {"bytes": 5}))
    with pytest.raises(DataError, match="damaged"):
        indexed(model)
    wrong = [kept | each for each in ({"format": 99}, {"bytes": -1}, {"boundary": "x"})]
    for damaged in ("[]", "5", "{", '{"format": 1}', *map(json.dumps, wrong)):
        header.write_text(damaged)
        with pytest.raises(CheckpointError, match=r"novelty\.json"):
            indexed(model)
    header.unlink()
    with pytest.raises(ResourceError, match=r"cannot read.*remove .* built again"):
        indexed(model)


def test_a_text_that_has_changed_or_gone_is_named(text: Path, tmp_path: Path) -> None:
    moved = tmp_path / "text.txt"
    moved.write_bytes(text.read_bytes())
    model = trained(moved, tmp_path / "run")
    moved.write_text("something else\n" * 50)
    with pytest.raises(DataError, match=r"the text has changed.*--corpus"):
        indexed(model)
    moved.unlink()
    with pytest.raises(ResourceError, match=r"text\.txt.*--corpus"):
        indexed(model)
    assert not (tmp_path / "run" / FOLDER).exists()
    assert indexed(model, (str(text),)).novelty(LINES[0]).copied_share == 1


@pytest.mark.parametrize("level", ["char", "subword"])
def test_a_tokenized_corpus_is_read_back(text: Path, tmp_path: Path, level: str) -> None:
    config = TokenizerConfig.from_options({"level": level, "vocab_size": 300})
    tokenize([text], config, out=tmp_path / "ids")
    model = trained(tmp_path / "ids", tmp_path / "run")
    assert indexed(model).novelty(LINES[2]).copied_share == 1


def novel(
    model: LanguageModel, index: TextIndex, config: NoveltyConfig, prompt: str = "", **options: Any
) -> list[Sample]:
    sampling = SamplingConfig(**options)
    found = novel_samples(
        lambda accept: model.samples(prompt, sampling, accept=accept), index, config
    )
    return sorted(found, key=lambda sample: sample.index)


def test_samples_come_with_their_novelty(model: LanguageModel, index: TextIndex) -> None:
    options: dict[str, Any] = {"prompt": "the ", "count": 3, "length": 40}
    samples = novel(model, index, NoveltyConfig(copied_length=3), **options)
    plain = model.sample(options.pop("prompt"), **options)
    for sample, other in zip(samples, plain, strict=True):
        assert sample.text == other.text
        assert sample.novelty == index.novelty(sample.text, 3)
        assert sample.drawn == 1


def test_what_is_not_new_enough_is_drawn_again(model: LanguageModel, index: TextIndex) -> None:
    free, samples = (
        novel(model, index, NoveltyConfig(min_novelty=least, copied_length=3), count=60, length=12)
        for least in (None, 0.7)
    )
    assert any(sample.novelty and sample.novelty.novelty < 0.7 for sample in free)
    assert [sample.index for sample in samples] == list(range(60))
    assert all(sample.novelty and sample.novelty.novelty >= 0.7 for sample in samples)
    assert any(sample.drawn > 1 for sample in samples)
    for sample, first in zip(samples, free, strict=True):
        assert (sample.drawn == 1) == (sample.text == first.text)


def test_a_novelty_that_cannot_be_met_ends_after_so_many_tries(
    model: LanguageModel, index: TextIndex
) -> None:
    config = NoveltyConfig(min_novelty=1, copied_length=1)
    with pytest.raises(DataError, match=rf"no sample as novel as 1 in {TRIES} tries"):
        novel(model, index, config, length=20)


def built(folder: Path, text: str) -> TextIndex:
    return TextIndex(folder, build(folder, [text[at : at + 7] for at in range(0, len(text), 7)]))


@pytest.mark.parametrize("alphabet", ["ab", "abcdefgh", "aé€", "a\0", "the—é "])
def test_it_agrees_with_a_plain_search(alphabet: str, tmp_path: Path) -> None:
    chance = random.Random(0)
    for number in range(30):
        text = "".join(chance.choices(alphabet, k=chance.choice([0, 1, 7, 8, 9, 60, 300])))
        query = "".join(chance.choices(alphabet, k=40))
        if len(text) > 20:  # a stretch over several words of eight bytes, and the very end
            query += text[5:50] + alphabet[0] + text[-19:]
        folder = tmp_path / str(number)
        folder.mkdir()
        least = chance.choice([1, 4, 12, 30])
        assert built(folder, text).novelty(query, least) == brute_force(text, query, least)


def test_the_whole_text_is_found_in_itself_and_no_more(tmp_path: Path) -> None:
    text = "".join(random.Random(1).choices("abc \n", k=5000))
    found = built(tmp_path, text).longest((text + "a").encode(), np.array([0, 4000]))
    assert found.tolist() == [5000, 1000]
    again = built(tmp_path, "a" * 1000).longest(b"a" * 2000, np.array([0, 999, 1000, 1999]))
    assert again.tolist() == [1000, 1000, 1000, 1]


def test_suffixes_outside_the_text_name_their_file(tmp_path: Path) -> None:
    length = build(tmp_path, ["some text of a few words"])
    for low, high in ((-(2**31), 2**31), (0, 2 * length)):
        damaged = np.random.default_rng(0).integers(low, high, length).astype("<i4")
        damaged.tofile(tmp_path / "suffixes.bin")
        with pytest.raises(CheckpointError, match=r"suffixes\.bin.*remove .* built again"):
            TextIndex(tmp_path, length).longest(b"text of words, some words", np.arange(24))
    for place in range(length):  # inside the text, and out of order
        np.full(length, place, "<i4").tofile(tmp_path / "suffixes.bin")
        with contextlib.suppress(CheckpointError):
            TextIndex(tmp_path, length).longest(b"text of words, some words", np.arange(24))


def test_a_text_that_places_cannot_reach_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(novelty, "_LONGEST", 10)
    build(tmp_path, ["0123456789"])
    with pytest.raises(DataError, match="too long"):
        build(tmp_path, ["01234", "567890"])
