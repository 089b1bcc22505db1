"""An n-gram model as an ARPA file, read by a reader of fifteen lines."""

import gzip
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, train
from textgen.config import TokenizerConfig
from textgen.errors import ResourceError, UsageError
from textgen.exports import arpa
from textgen.models.ngram import UNSEEN, NgramModel
from textgen.tokenizers.base import EOS, SPECIAL_TOKENS, Tokenizer
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.registry import learn_tokenizer
from textgen.tokenizers.word import WordTokenizer

Table = dict[tuple[str, ...], tuple[float, float]]
TEXT = (
    "the dog saw the cat\na cat saw <s> a dog\nthe bird\n\nthe cat saw a rare bird\n" * 4 + "odd\n"
)
LEVELS: dict[str, dict[str, Any]] = {
    "whitespace": {"level": "word", "split": "whitespace", "min_count": 2},
    "word": {"level": "word", "min_count": 2},
    "char": {"level": "char"},
    "subword": {"level": "subword", "vocab_size": 290},
}


def read(path: Path) -> Table:
    """The n-grams of an ARPA file with log10 of probability and back-off weight."""
    table, counts, length = Table(), dict[int, int](), 0
    data = path.read_bytes()
    text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    for line in text.split("\n"):
        if count := re.fullmatch(r"ngram (\d+)=(\d+)", line):
            counts[int(count[1])] = int(count[2])
        elif section := re.fullmatch(r"\\(\d+)-grams:", line):
            length = int(section[1])
        elif "\t" in line:
            probability, ngram, *weight = line.split("\t")
            assert len(ngram.split()) == length == len(ngram.split(" "))
            table[tuple(ngram.split(" "))] = (float(probability), float(weight[0] if weight else 0))
    assert text.startswith("\\data\\\n") and text.endswith("\n\\end\\\n")
    assert counts == {n: sum(len(each) == n for each in table) for n in counts}
    return table


def log10_prob(table: Table, context: tuple[str, ...], word: str) -> float:
    if (*context, word) in table:
        return table[(*context, word)][0]
    weight = table.get(context, (0.0, 0.0))[1]
    return weight + log10_prob(table, context[1:], word)


def exported(
    tmp_path: Path, name: str = "model.arpa", **options: Any
) -> tuple[LanguageModel, Path]:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    options = {"order": 3, **options}
    train(text, out=tmp_path / "run", model="ngram", baseline=False, valid=text, **options)
    model = LanguageModel.load(tmp_path / "run")
    arpa.write(model, tmp_path / name)
    return model, tmp_path / name


def ours(model: LanguageModel, ids: list[int], *, begins: bool) -> list[float]:
    """log10 p of each id, after <EOS> or after nothing."""
    assert isinstance(model.model, NgramModel)
    text = torch.tensor([EOS, *ids])
    contexts, _ = model.model.hidden_states(text[:-1, None], model.model.start(1))
    contexts = contexts[:, 0]
    if not begins:  # contexts that reach back to the <EOS> are unknown
        alone, _ = model.model.hidden_states(text[1:, None], model.model.start(1))
        contexts = torch.cat([torch.full_like(contexts[:1], UNSEEN), alone[:-1, 0]])
    return (model.model.log_probs(contexts, text[1:]) / math.log(10)).tolist()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("order", [1, 2, 4])
def test_every_sentence_has_the_probabilities_of_the_model(
    tmp_path: Path, level: str, order: int
) -> None:
    model, path = exported(tmp_path, order=order, **LEVELS[level])
    table = read(path)
    names, tokens = arpa.written_tokens(model.tokenizer), 0
    random = np.random.default_rng(0)
    seen = [model.tokenizer.encode(line).tolist() for line in TEXT.splitlines()]
    drawn = [random.integers(0, len(names), 12) for _ in range(20)]
    unseen = [[id for id in ids.tolist() if id != EOS] for ids in drawn]
    for ids in [*seen, *unseen, []]:
        for begins in (True, False):
            expected = ours(model, [*ids, EOS], begins=begins)
            context = (arpa.BEGIN,) if begins else ()
            for id, wanted in zip([*ids, EOS], expected, strict=True):
                found = log10_prob(table, context[-(order - 1) :] if order > 1 else (), names[id])
                assert found == pytest.approx(wanted, abs=2e-6)
                context, tokens = (*context, names[id]), tokens + 1
    assert tokens > 200


def test_the_words_of_a_file_are_distinct_and_have_the_start_the_end_and_the_unknown(
    tmp_path: Path,
) -> None:
    model, path = exported(tmp_path, **LEVELS["whitespace"])
    words = [ngram[0] for ngram in read(path) if len(ngram) == 1]
    assert words[:3] == ["<s>", "<unk>", "</s>"]
    assert len(words) == model.tokenizer.vocabulary_size + 1 == len(set(words))
    assert "<0x3C>s>" in words  # a word of the text
    assert read(path)[("<s>",)][0] == -99
    assert all("</s>" not in ngram[:-1] and "<s>" not in ngram[1:] for ngram in read(path))


def decoded(written: str) -> str:
    """What docs/doors/arpa.md says: bytes first, then spaces."""
    data = re.sub(
        rb"<0x([0-9A-F]{2})>|\xe2\x96\x81",
        lambda found: bytes([int(found[1], 16)]) if found[1] else b" ",
        written.encode(),
    )
    return data.decode()


ODD = ["\n", "\t", " ", "\u2581", "\u3000", "\xa0", "\0", "\x1c", "\u2028", "<", "é", "▁", "x"]
ODD_WORDS = ["<s>", "</s>", "<unk>", "<UNK>", "<EOS>", "<0x0A>", "a<0xE3>", "<0x0a>", "<0x3C>s>"]


@pytest.mark.parametrize(
    "tokenizer",
    [
        CharacterTokenizer(TokenizerConfig(unit="document"), list(dict.fromkeys(ODD))),
        WordTokenizer(
            TokenizerConfig(level="word", split="whitespace"), [*ODD_WORDS, "\u2581", "x"]
        ),
    ],
)
def test_a_token_has_no_white_space_stands_for_itself_alone_and_can_be_read_back(
    tokenizer: Tokenizer,
) -> None:
    written = arpa.written_tokens(tokenizer)
    assert len(set(written)) == len(written)
    for id, token in enumerate(written[2:], start=2):
        assert token and len(token.split()) == 1 and "\0" not in token
        assert token not in ("<s>", "</s>", "<unk>", "<UNK>")
        assert decoded(token) == tokenizer.token(id)
    ordinary = [each for each in written if "<0x" not in each and "▁" not in each]
    assert {"x", "<unk>"} <= set(ordinary)


def test_subwords_keep_the_names_that_sentencepiece_gives_them() -> None:
    text = "a\u3000b low lower\n" * 20
    config = TokenizerConfig(level="subword", vocab_size=272)
    tokenizer = learn_tokenizer(config, [(text, True)])
    written = arpa.written_tokens(tokenizer)
    assert len(set(written)) == len(written)
    entries = [tokenizer.token(id) for id in range(tokenizer.vocabulary_size)]
    for id in range(len(SPECIAL_TOKENS), len(entries)):
        if "\u3000" in entries[id]:
            assert written[id] == entries[id].replace("\u3000", "<0xE3><0x80><0x80>")
        else:
            assert written[id] == entries[id]
    assert any("\u3000" in entry for entry in entries)


def test_a_sentence_is_written_as_the_tokens_of_the_file(tmp_path: Path) -> None:
    model, path = exported(tmp_path, **LEVELS["char"])
    words = arpa.sentence(model.tokenizer, "the cat?").split(" ")
    assert words == ["t", "h", "e", "▁", "c", "a", "t", "<unk>"]
    assert all((word,) in read(path) for word in words)


def test_gzip_has_the_same_text_and_equal_models_give_equal_files(tmp_path: Path) -> None:
    model, path = exported(tmp_path, "model.arpa.gz")
    arpa.write(model, tmp_path / "again.gz")
    arpa.write(model, tmp_path / "plain.arpa")
    assert path.read_bytes() == (tmp_path / "again.gz").read_bytes()
    assert gzip.decompress(path.read_bytes()) == (tmp_path / "plain.arpa").read_bytes()


def test_blocks_of_n_grams_are_joined_without_a_seam(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, path = exported(tmp_path)
    monkeypatch.setattr(arpa, "_BLOCK", 7)
    arpa.write(model, tmp_path / "blocks.arpa")
    assert (tmp_path / "blocks.arpa").read_bytes() == path.read_bytes()


def test_a_write_that_fails_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model, path = exported(tmp_path)
    path.unlink()

    def fails(file: Any, data: bytes) -> None:
        if b"2-grams" in data:
            raise ResourceError("cannot write", why="the disk is full")

    monkeypatch.setattr("textgen.storage.NewFile.write", fails)
    with pytest.raises(ResourceError, match="the disk is full"):
        arpa.write(model, path)
    assert [each.name for each in tmp_path.iterdir() if "arpa" in each.name] == []


def test_what_kenlm_would_not_read_is_noted(tmp_path: Path) -> None:
    for order, noted in ((1, True), (2, False), (6, False), (7, True)):
        options = {"order": order, **LEVELS["whitespace"]}
        text = tmp_path / "text.txt"
        text.write_text(TEXT)
        out = tmp_path / str(order)
        train(text, out=out, model="ngram", baseline=False, valid=text, **options)
        notes = arpa.write(LanguageModel.load(out), tmp_path / f"{order}.arpa")
        assert any("KenLM" in note for note in notes) == noted


def test_another_kind_is_refused_by_name(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text(TEXT)
    train(text, out=tmp_path / "run", model="gru", hidden_size=8, steps=1, baseline=False)
    with pytest.raises(UsageError, match=r"--to arpa .*--model gru.*--model ngram"):
        arpa.write(LanguageModel.load(tmp_path / "run"), tmp_path / "model.arpa")
    assert not (tmp_path / "model.arpa").exists()
