"""The folder for transformers, without that package: what is in it, and what is refused."""

import importlib.util
import json
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from textgen import LanguageModel, train
from textgen.config import TokenizerConfig
from textgen.errors import DataError, UsageError
from textgen.exports import transformers
from textgen.exports.fast_tokenizer import tokenizer_json
from textgen.tokenizers.character import CharacterTokenizer
from textgen.tokenizers.subword import SCORE_STEP, SubwordTokenizer
from textgen.tokenizers.word import WordTokenizer

from ..conftest import TEXT

Train = Callable[..., LanguageModel]
SHORT = {"steps": 2, "batch_size": 2, "sequence_length": 8, "threads": 1, "baseline": False}


@pytest.fixture
def trained(tmp_path: Path) -> Train:
    """Trains a small model of a kind."""
    (tmp_path / "text.txt").write_text(TEXT, encoding="utf-8")

    def of(model: str, **options: Any) -> LanguageModel:
        manner = {} if model == "ngram" else SHORT  # which is learned by counting
        train(tmp_path / "text.txt", out=tmp_path / "mine", model=model, **manner | options)
        return LanguageModel.load(tmp_path / "mine", device="cpu")

    return of


def test_the_folder_has_the_weights_in_float32_and_no_shared_one_twice(
    trained: Train, tmp_path: Path
) -> None:
    model = trained("lstm", hidden_size=(6,), embedding_size=6, tie=True, ngram_embeddings=3)
    transformers.write(model, tmp_path / "out")
    weights = load_file(tmp_path / "out" / "model.safetensors")
    own = model.model.state_dict()
    assert weights.keys() == own.keys() - {"output.weight"}
    assert all(torch.equal(weights[name], own[name]) for name in weights)
    assert {weight.dtype for weight in weights.values()} == {torch.float32}
    config = json.loads((tmp_path / "out" / "config.json").read_text(encoding="utf-8"))
    shape = {"hidden_sizes": [6], "embedding_size": 6, "ngram_embeddings": 3}
    assert config.items() >= {**shape, "kind": "lstm", "tie_word_embeddings": True}.items()
    assert config["vocab_size"] == model.tokenizer.vocabulary_size


@pytest.mark.parametrize(
    ("kind", "options", "advice"),
    [
        ("ngram", {"order": 2}, "--to arpa"),
        ("hmm", {"states": 4}, "--model lstm"),
        ("bidirectional", {"hidden_size": (4,)}, "--model lstm"),
        ("feedforward", {"hidden_size": (4,)}, "--model lstm"),
        ("lstm+ngram", {"hidden_size": (4,), "order": 2}, "--model lstm"),
    ],
)
def test_other_kinds_are_refused_by_name(
    trained: Train, tmp_path: Path, kind: str, options: dict[str, Any], advice: str
) -> None:
    model = trained(kind, **options)
    with pytest.raises(UsageError, match="with a") as refused:
        transformers.write(model, tmp_path / "out")
    assert kind in str(refused.value) and advice in str(refused.value)
    assert not (tmp_path / "out").exists()


def test_without_the_package_tokenizers_a_note_says_that_nothing_was_checked(
    trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    (note,) = transformers.write(trained("rnn", hidden_size=(4,)), tmp_path / "out")
    assert "not checked" in note and "tokenizers" in note


def test_a_tokenizer_that_encodes_otherwise_leaves_no_folder(
    trained: Train, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong:
        @staticmethod
        def from_file(path: str) -> "Wrong":
            return Wrong()

        def encode(self, text: str, **options: Any) -> Any:
            return type("Encoding", (), {"ids": [0]})

    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    monkeypatch.setitem(sys.modules, "tokenizers", type("Package", (), {"Tokenizer": Wrong}))
    with pytest.raises(DataError, match="encodes a text otherwise"):
        transformers.write(trained("gru", hidden_size=(4,)), tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_subwords_with_a_literal_are_refused() -> None:
    config = TokenizerConfig(level="subword", vocab_size=300, unk_literal="<unk>")
    with pytest.raises(UsageError, match="--unk-literal with --level subword"):
        tokenizer_json(SubwordTokenizer.learn(config, [TEXT]))


@pytest.mark.parametrize("word", ["<UNK>", "<EOS>", "<unk>"])
def test_a_word_that_is_the_name_of_a_special_token_is_refused(word: str) -> None:
    config = TokenizerConfig(level="word", split="whitespace", unit="document", unk_literal="<unk>")
    with pytest.raises(UsageError, match=word):
        tokenizer_json(WordTokenizer(config, ["a", word]))


def test_no_mark_is_a_character_of_the_vocabulary() -> None:
    words = ["\U000f0000", "a\U000f0001"]
    config = TokenizerConfig(level="word", split="whitespace")
    decoders = tokenizer_json(WordTokenizer(config, words))["decoder"]["decoders"]
    (mark,) = (rule["prefix"] for rule in decoders if rule["type"] == "WordPiece")
    assert mark not in "".join(words)


def test_pieces_whose_scores_are_not_round_are_refused() -> None:
    config = TokenizerConfig(level="subword", vocab_size=300)
    tokenizer = SubwordTokenizer.learn(config, [TEXT])
    scores = [score for _, score in tokenizer.scored_pieces()]
    assert all(score % SCORE_STEP == 0 for score in scores)
    model = tokenizer._model.replace(struct.pack("<f", scores[0]), struct.pack("<f", -1.001))
    with pytest.raises(UsageError, match="earlier version"):
        tokenizer_json(SubwordTokenizer(config, model))


def test_every_id_has_its_place_in_the_vocabulary() -> None:
    tokenizer = CharacterTokenizer.learn(TokenizerConfig(), [TEXT])
    vocabulary = tokenizer_json(tokenizer)["model"]["vocab"]
    assert list(vocabulary) == ["<UNK>", "\n", *tokenizer.symbols]
    assert list(vocabulary.values()) == list(range(tokenizer.vocabulary_size))


@pytest.mark.parametrize("imports", ["textgen, transformers", "transformers, textgen"])
def test_another_version_of_transformers_is_imported_with_a_warning(
    tmp_path: Path, imports: str
) -> None:
    (tmp_path / "transformers.py").write_text("loaded = True\n", encoding="utf-8")
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])}
    command = [sys.executable, "-c", f"import {imports}; print(transformers.loaded)"]
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60)
    assert ended.stdout == "True\n"
    assert "transformers does not know textgen's models" in ended.stderr
