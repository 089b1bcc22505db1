"""``--embeddings``: word vectors out of a file."""

import gzip
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, train
from textgen.config import TokenizerConfig
from textgen.errors import DataError, ResourceError, UsageError
from textgen.results import TrainingStart
from textgen.tokenizers.base import Tokenizer
from textgen.tokenizers.registry import learn_tokenizer
from textgen.training.word_vectors import read_vectors, vector_width

from .conftest import events_of, of_kind, written

TEXT = 'the cat sat.\n"no," said the cat; naïve dogs sat.\n'
GLOVE = b"the 0.5 -1 2e-1\ncat 1 2 3\n, 0.1 0.1 0.1\n"
Write = Callable[[bytes], str]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    def write_bytes(content: bytes) -> str:
        path = tmp_path / "vectors.txt"
        path.write_bytes(content)
        return str(path)

    return write_bytes


@pytest.fixture
def tokenizer() -> Tokenizer:
    config = TokenizerConfig(level="word", min_count=1)
    return learn_tokenizer(config, [(line + "\n", True) for line in TEXT.splitlines()])


def vectors_of(path: str, tokenizer: Tokenizer) -> dict[str, list[float]]:
    found = read_vectors(path, tokenizer)
    assert found.vectors.dtype == np.float32
    return {
        tokenizer.token(id): row
        for id, row in zip(found.ids.tolist(), found.vectors.round(3).tolist(), strict=True)
    }


@pytest.mark.parametrize(
    "content",
    [
        GLOVE,
        b"3 3\n" + GLOVE,
        b"\xef\xbb\xbf" + GLOVE,
        GLOVE.replace(b"\n", b" \r\n"),
        GLOVE.rstrip() + b"\n\n",
        gzip.compress(GLOVE),
        gzip.compress(b"3 3\n" + GLOVE),
    ],
    ids=["GloVe", "word2vec", "marked", "spaces at ends", "empty last line", "gzip", "gzip too"],
)
def test_both_layouts_are_read(content: bytes, write: Write, tokenizer: Tokenizer) -> None:
    path = write(content)
    assert vector_width(path) == 3
    found = vectors_of(path, tokenizer)
    expected = {"the": [0.5, -1, 0.2], "cat": [1, 2, 3], "￭,": [0.1, 0.1, 0.1]}
    assert found == {token: pytest.approx(row, abs=1e-3) for token, row in expected.items()}


def test_a_token_is_found_by_what_it_writes(write: Write, tokenizer: Tokenizer) -> None:
    found = vectors_of(write('" 1 0\n. 0 1\nnaïve 2 2\nThe 3 3\n'.encode()), tokenizer)
    assert {token.strip("￭") for token in found} == {'"', ".", "naïve"}
    assert found["naïve"] == [2, 2]
    assert sum(token.strip("￭") == '"' for token in found) == 2  # before a word, and after


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (b"cat 1 2\ncat 3 4\n", {"cat": [1, 2]}),
        (
            b"the 1 2\n\xff\xfe 1 2\n. . . 3 4\nat name@domain.com 1 2\ncat 5 6\n",
            {"the": [1, 2], "cat": [5, 6]},
        ),
        (b"</s> 1 2\n<unk> 3 4\ncat 5 6\n", {"<EOS>": [1, 2], "<UNK>": [3, 4], "cat": [5, 6]}),
    ],
    ids=["the first of two", "neither bytes that are no UTF-8 nor spaces", "ends and unknowns"],
)
def test_only_what_can_be_a_token_is_read_and_once(
    content: bytes, expected: dict[str, list[float]], write: Write, tokenizer: Tokenizer
) -> None:
    assert vectors_of(write(content), tokenizer) == expected


@pytest.mark.parametrize(
    ("content", "line", "why"),
    [
        (b"the 1 2\ncat 1\n", 2, "after the word come 1, not 2"),
        (b"the 1 2\ncat 1 2 3\n", 2, "after the word come 3, not 2"),
        (b"2 3\nthe 1 2\n", 2, "after the word come 2, not 3"),
        (b"the 1 2\nmouse 1 two\n", 2, "'two' is not a finite number"),
        (b"the 1 2\ncat 1 nan\n", 2, "'nan' is not a finite number"),
        (b"the 1 2\nmouse -inf 1\n", 2, "'-inf' is not a finite number"),
        (b"the 1 2\ncat 1e60 1\n", 2, "'1e60' is not a finite number"),
        (b"the 1 2\ncat 1 2.\n\ncat  1\n", 4, "'' is not a finite number"),
        (b"the\n", 1, "neither a word with its numbers"),
        (b"", 1, "neither a word with its numbers"),
        (b"5 0\n", 1, "neither a word with its numbers"),
    ],
)
def test_a_malformed_line_is_told_by_its_number(
    content: bytes, line: int, why: str, write: Write, tokenizer: Tokenizer
) -> None:
    with pytest.raises(DataError, match=rf"line {line} is malformed.*vectors\.txt.*{why}"):
        read_vectors(write(content), tokenizer)


def test_a_file_without_any_of_the_words_is_refused(write: Write, tokenizer: Tokenizer) -> None:
    with pytest.raises(DataError, match="no token of the vocabulary has a vector"):
        read_vectors(write(b"</s> 1 2\nchat 1 2\n"), tokenizer)


# In a run


def trained(tmp_path: Path, path: str | Path, **options: Any) -> tuple[LanguageModel, str]:
    text = written(tmp_path / "text.txt", TEXT * 30)
    settings = {"level": "word", "hidden_size": 8, "steps": 12, "batch_size": 2} | options
    run = tmp_path / "run"
    events = events_of(text, out=run, embeddings=path, sequence_length=8, **settings)
    (start,) = of_kind(TrainingStart, events)
    return LanguageModel.load(run / "last"), " ".join(start.notes)


def embedding(model: LanguageModel, word: str) -> list[float]:
    (id,) = (i for i in range(model.tokenizer.vocabulary_size) if model.tokenizer.token(i) == word)
    vectors = model.model.token_vectors()
    assert vectors is not None
    rows: list[float] = vectors[id].tolist()
    return rows


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_frozen_vectors_are_those_of_the_file_to_the_end_and_after_resuming(
    name: str, write: Write, tmp_path: Path
) -> None:
    path = Path(write(GLOVE))
    model, notes = trained(tmp_path, path, model=name, freeze_embeddings=True)
    assert "3 of 14 tokens (21%) start from the vectors of" in notes
    assert model.header.model.embedding_size == 3
    path.unlink()
    train(out=tmp_path / "run", resume=True, steps=20)
    resumed = LanguageModel.load(tmp_path / "run" / "last")
    assert resumed.header.step == 20
    for word, vector in (("the", [0.5, -1, 0.2]), ("cat", [1, 2, 3])):
        assert embedding(model, word) == embedding(resumed, word) == pytest.approx(vector)
    assert embedding(model, "sat") == embedding(resumed, "sat")
    before, after = (each.model.get_parameter("output.weight") for each in (model, resumed))
    assert not torch.equal(before, after)


@pytest.mark.parametrize("kind", [{"model": "lstm"}, {"model": "lstm+ngram", "order": 2}])
def test_vectors_that_are_not_frozen_learn_on(
    kind: dict[str, Any], write: Write, tmp_path: Path
) -> None:
    model, _ = trained(tmp_path, write(GLOVE), **kind)
    assert embedding(model, "cat") != [1, 2, 3]
    assert embedding(model, "cat") == pytest.approx([1, 2, 3], abs=0.3)


def test_tied_vectors_are_the_outputs_too(write: Write, tmp_path: Path) -> None:
    model, _ = trained(tmp_path, write(GLOVE), hidden_size=3, tie=True)
    assert embedding(model, "cat") == pytest.approx([1, 2, 3], abs=0.3)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"embedding_size": 4}, "--embedding-size 4 contradicts --embeddings .*3 numbers"),
        ({"embedding_size": 0}, "--embedding-size 0 contradicts --embeddings"),
        ({"freeze_embeddings": True, "tie": True}, "--freeze-embeddings and --tie"),
        ({"hidden_size": 8, "tie": True}, "--tie needs"),
    ],
)
def test_what_contradicts_the_file_is_named(
    options: dict[str, Any], named: str, write: Write, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=named):
        trained(tmp_path, write(GLOVE), **options)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"freeze_embeddings": True}, "--freeze-embeddings needs --embeddings"),
        ({"preset": "textbok"}, "did you mean textbook?"),
    ],
)
def test_an_option_that_cannot_be_is_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        train(out="nowhere", **options)


def test_damaged_gzip_is_told(write: Write, tokenizer: Tokenizer) -> None:
    for content in (gzip.compress(GLOVE)[:-9], b"\x1f\x8bnot really"):
        with pytest.raises(DataError, match="damaged gzip"):
            read_vectors(write(content), tokenizer)


def test_a_file_that_is_not_there_is_an_error_of_input(tmp_path: Path) -> None:
    with pytest.raises(ResourceError, match=r"cannot read the word vectors .*none\.txt"):
        trained(tmp_path, tmp_path / "none.txt")


@pytest.mark.parametrize("kind", [{}, {"model": "gru"}, {"model": "lstm+ngram", "order": 2}])
def test_a_tied_embedding_starts_from_the_neighbours_of_tokens(
    kind: dict[str, Any], tmp_path: Path
) -> None:
    text = written(tmp_path / "text.txt", TEXT * 30)
    settings = {"level": "word", "hidden_size": 8, "steps": 1, "batch_size": 2, "warmup": 0.9}
    norms = []
    for tie in (True, False):
        run = tmp_path / str(tie)
        events_of(text, out=run, sequence_length=8, learning_rate=1e-6, tie=tie, **settings, **kind)
        vectors = LanguageModel.load(run / "last").model.token_vectors()
        assert vectors is not None
        norms.append(vectors.norm(dim=1).mean().item())
    assert norms[0] == pytest.approx(3, rel=0.1)
    assert norms[1] != pytest.approx(3, rel=0.1)
