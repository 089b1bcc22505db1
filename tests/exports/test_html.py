"""What a page contains; what it does in a browser is tested in ``tests/integrations``."""

import gzip
import json
import re
from html import unescape
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import textgen
from textgen import LanguageModel
from textgen.config import Level, SamplingConfig
from textgen.errors import DataError, UsageError
from textgen.exports.html import LEVELS, engine_of, page
from textgen.exports.html.divergence import measure
from textgen.exports.html.weights import as_characters, pack
from textgen.presentation import html as scores

TEXT = "the cat sat on the mat, and the dog <b>saw</b> it.\nthe dog & the cat sat down.\n" * 20
SMALL = {"hidden_size": 16, "embedding_size": 8, "batch_size": 4, "sequence_length": 16, "steps": 3}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("pages")
    (path / "<my> text.txt").write_text(TEXT, encoding="utf-8")
    textgen.train(path / "<my> text.txt", out=path / "model", threads=1, **SMALL)
    return path


@pytest.fixture
def model(folder: Path) -> LanguageModel:
    return LanguageModel.load(folder / "model", device="cpu")


def unpacked(text: str) -> tuple[dict[str, Any], bytes]:
    """The header and the weights in a page, read as ``unpack.js`` and ``network.js`` do."""
    found = re.search(r'id="weights"[^>]* data-bytes="(\d+)">(.*?)</script>', text, re.S)
    assert found is not None
    codes = np.frombuffer(found[2].encode("utf-16-le"), "<u2") - 0x5000
    bits = (codes[:, None] >> np.arange(15)) & 1
    data = np.packbits(bits.astype(np.uint8).ravel(), bitorder="little").tobytes()
    raw = gzip.decompress(data[: int(found[1])])
    end = 4 + int.from_bytes(raw[:4], "little")
    return json.loads(raw[4:end]), raw[end:]


@pytest.mark.parametrize("length", [0, 1, 14, 15, 16, 1000])
def test_bytes_as_characters_are_whole_and_never_surrogates(length: int) -> None:
    data = bytes(range(256)) * 4
    text = as_characters(data[:length])
    assert len(text) == -(-8 * length // 15)
    assert all(0x5000 <= ord(character) < 0xD000 for character in text)
    number = sum((ord(each) - 0x5000) << 15 * place for place, each in enumerate(text))
    assert number.to_bytes(length + 2, "little")[:length] == data[:length]


def test_a_page_has_the_weights_of_its_model(model: LanguageModel) -> None:
    header, weights = unpacked(page(model, "float32")[0].decode("utf-16"))
    assert header["tokenizer"]["symbols"] == [
        model.tokenizer.token(id) for id in range(2, model.tokenizer.vocabulary_size)
    ]
    values = np.frombuffer(weights, "<f4")
    assert len(values) == model.header.parameters
    embedding = model.model.state_dict()["embedding.weight"].numpy()
    assert (values[: embedding.size] == embedding.ravel()).all()


def test_8_bits_are_within_half_a_step_of_each_row(model: LanguageModel) -> None:
    exact, rounded = model.model.state_dict(), pack(model, "int8")[1].state_dict()
    for name, weight in exact.items():
        if weight.ndim == 1:
            assert torch.equal(weight, rounded[name])
            continue
        largest = weight.abs().amax(1, keepdim=True)
        # Scales are rounded up to 8 bits: a step is at most 1/128 wider than it need be.
        assert ((weight - rounded[name]).abs() <= largest / 127 * (1 + 2**-7) / 2 + 1e-12).all()
        assert torch.equal(rounded[name][largest[:, 0] == 0], weight[largest[:, 0] == 0])


@pytest.mark.parametrize("level", ["char", "word", "subword"])
def test_a_page_is_small_where_its_weights_do_not_compress(level: Level, folder: Path) -> None:
    if level != "char":
        options = {**SMALL, "level": level, "vocab_size": 300 if level == "subword" else None}
        corpus = folder / "<my> text.txt"
        textgen.train(corpus, out=folder / level, threads=1, overwrite=True, **options)
    model = LanguageModel.load(folder / ("model" if level == "char" else level), device="cpu")
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for weight in model.model.parameters():
            weight.uniform_(-0.1, 0.1, generator=generator)
    assert len(page(model)[0]) <= 1.1 * model.header.parameters + 150_000


def test_a_page_refers_to_nothing_outside_it(model: LanguageModel) -> None:
    text = page(model)[0].decode("utf-16")
    plain = re.sub(r'(?s)<script id="(engine|weights)"[^>]*>.*?</script>', "", text)
    plain += "".join(map(engine_of, LEVELS))
    assert not re.search(r"https?:|url\(|@import|fetch\(|XMLHttp|innerHTML", plain)
    (policy,) = re.findall(r'Content-Security-Policy" content="([^"]*)"', text)
    assert policy.startswith("default-src 'none';")
    assert re.findall(r"'unsafe[^']*'", policy) == []
    for script in re.findall(r"(?s)<script>(.*?)</script>", text):
        assert scores.hash_of(script) in policy
    (style,) = re.findall(r"(?s)<style>(.*?)</style>", text)
    assert scores.hash_of(style) in policy
    assert "<h1>A language model of &lt;my&gt; text.txt</h1>" in text


def test_the_rules_of_a_page_begin_as_those_of_sample(model: LanguageModel) -> None:
    text, defaults = page(model)[0].decode("utf-16"), SamplingConfig()
    values = dict(re.findall(r'<input type="[a-z]+" id="([a-z-]+)"[^>]* value="([^"]*)"', text))
    assert float(values["dry-base"]) == defaults.dry_base
    assert float(values["xtc-threshold"]) == defaults.xtc_threshold
    assert values["dry-multiplier"] == values["xtc-probability"] == "0"
    (breakers,) = re.findall(r'data-breakers="([^"]*)"', text)
    assert tuple(json.loads(unescape(breakers))) == defaults.dry_sequence_breaker
    # Each is within one token of every tokenizer, which worker.js relies on.
    assert all(len(each) == 1 and each.isascii() for each in defaults.dry_sequence_breaker)


def test_the_divergence_is_measured_on_held_out_text_and_said(
    model: LanguageModel, folder: Path, run: Any
) -> None:
    data, divergence = page(model)
    assert divergence.held_out and divergence.tokens > 0
    assert 0 < divergence.nats < 1e-2
    assert measure(model, pack(model, "float32")[1]).nats == 0
    ended = run("export", folder / "model", "--to", "html", folder / "page.html")
    assert ended.code == 0 and f"on {divergence.tokens} held-out tokens" in ended.err
    assert f"on {divergence.tokens} held-out tokens" in data.decode("utf-16")
    assert (folder / "page.html").read_bytes() == data


def test_without_its_corpus_the_model_writes_what_the_divergence_is_measured_on(
    folder: Path, model: LanguageModel
) -> None:
    corpus = folder / "<my> text.txt"
    for other in (None, TEXT.replace("cat", "cow")):
        corpus.unlink()
        if other is not None:
            corpus.write_text(other, encoding="utf-8")
        try:
            divergence = page(model)[1]
        finally:
            corpus.write_text(TEXT, encoding="utf-8")
        assert not divergence.held_out and divergence.nats > 0


def test_what_a_page_cannot_hold_is_refused(folder: Path, run: Any, model: LanguageModel) -> None:
    for kind, says in (("bidirectional", "cannot generate"), ("hmm", "cannot hold")):
        out = folder / kind
        sizes = {"states": 4} if kind == "hmm" else {"hidden_size": 4}
        textgen.train(
            folder / "<my> text.txt", out=out, model=kind, steps=1, threads=1, batch_size=4, **sizes
        )
        ended = run("export", out, "--to", "html", folder / "no.html")
        assert ended.code == 2 and says in ended.err
        assert not (folder / "no.html").exists()
    ended = run("export", folder / "model", "--to", "onnx", folder / "no", "--precision", "int8")
    assert ended.code == 2 and "--precision" in ended.err
    with torch.no_grad():
        model.model.output.weight[0, 0] = 1e6
    with pytest.raises(UsageError, match="too large for float16"):
        page(model, "float16")
    with torch.no_grad():
        model.model.output.bias[:] = torch.inf
    with pytest.raises(DataError, match="no probabilities"):
        page(model)
