"""N-gram models as ARPA files, read by KenLM and by pyctcdecode."""

import math
import re
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from textgen import LanguageModel, train
from textgen.cli.app import main
from textgen.data.corpus import bundled_corpus
from textgen.exports import arpa
from textgen.models.ngram import UNSEEN, NgramModel
from textgen.tokenizers.base import EOS, UNK

kenlm = pytest.importorskip("kenlm")

ROOT = Path(__file__).resolve().parent.parent.parent
LEVELS: dict[str, dict[str, Any]] = {
    "whitespace": {"level": "word", "split": "whitespace", "min_count": 2},
    "word": {"level": "word", "min_count": 2},
    "char": {"level": "char"},
    "subword": {"level": "subword", "vocab_size": 400},
}
ODD_LINE = "a <s> of\u3000two <unk> words ▁ \xa0 and </s> _\n"


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    lines = bundled_corpus().read_text(encoding="utf-8").splitlines(keepends=True)
    path = tmp_path_factory.mktemp("text") / "text.txt"
    path.write_text("".join([ODD_LINE * 3, *lines[:600]]), encoding="utf-8")
    return path


def trained(text: Path, out: Path, **options: Any) -> LanguageModel:
    train(text, out=out, model="ngram", baseline=False, **options)
    return LanguageModel.load(out)


def read(path: Path) -> Any:
    config = kenlm.Config()
    config.show_progress = False
    return kenlm.Model(str(path), config)


def log10_probs(model: LanguageModel, ids: list[int], *, bos: bool) -> list[float]:
    """log10 p of each id after those before it and, with ``bos``, the start of the sentence."""
    assert isinstance(model.model, NgramModel)
    inputs = torch.tensor([EOS, *ids] if bos else ids)
    contexts = model.model.hidden_states(inputs[:, None], model.model.start(1))[0][:-1, 0]
    if not bos:
        contexts = torch.cat([torch.full_like(contexts[:1], UNSEEN), contexts])[: len(ids)]
    return (model.model.log_probs(contexts, torch.tensor(ids)) / math.log(10)).tolist()


@pytest.mark.parametrize("level", LEVELS)
@pytest.mark.parametrize("order", [2, 3, 6])
@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
def test_kenlm_gives_the_same_probabilities(
    text: Path, tmp_path: Path, level: str, order: int, name: str
) -> None:
    model = trained(text, tmp_path / "run", order=order, **LEVELS[level])
    assert not any("KenLM" in note for note in arpa.write(model, tmp_path / name))
    read_back, names = read(tmp_path / name), arpa.written_tokens(model.tokenizer)
    assert read_back.order == order
    random = np.random.default_rng(0)
    lines = text.read_text(encoding="utf-8").splitlines()
    sentences = [model.tokenizer.encode(line).tolist() for line in [*lines[:40], ODD_LINE[:-1]]]
    sentences += [model.tokenizer.encode("Xq zzz the unheard-of Ω word").tolist()]
    drawn = [random.integers(0, len(names), 9).tolist() for _ in range(40)]
    sentences += [[id for id in ids if id != EOS] for ids in drawn]
    lengths, unknown = set[int](), 0
    for ids in filter(None, sentences):
        words = " ".join(names[id] for id in ids)
        for bos in (True, False):
            for eos in (True, False):
                expected = log10_probs(model, [*ids, EOS] if eos else ids, bos=bos)
                scores = list(read_back.full_scores(words, bos=bos, eos=eos))
                assert len(scores) == len(expected)
                for (found, length, is_unknown), wanted in zip(scores, expected, strict=True):
                    assert found == pytest.approx(wanted, abs=1e-5)
                    lengths.add(length)
                    unknown += is_unknown
    assert lengths == set(range(1, order + 1))
    assert (unknown > 0) == any(UNK in ids for ids in sentences)


def test_the_perplexity_of_a_text_of_words_is_that_of_kenlm(text: Path, tmp_path: Path) -> None:
    # No step between text and file: what textgen calls a word here, KenLM's users do too.
    model = trained(text, tmp_path / "run", order=4, **LEVELS["whitespace"])
    arpa.write(model, tmp_path / "model.arpa")
    read_back = read(tmp_path / "model.arpa")
    for line in ["Ida asked the king.", "a gzorp of", "nothing of this is known", "the"]:
        ids = model.tokenizer.encode(line).tolist()
        ours = sum(log10_probs(model, [*ids, EOS], bos=True))
        assert read_back.score(line) == pytest.approx(ours, abs=1e-4)


def test_a_word_that_spells_a_mark_of_the_file_is_a_word_of_its_own(
    text: Path, tmp_path: Path
) -> None:
    model = trained(text, tmp_path / "run", order=3, **LEVELS["whitespace"])
    arpa.write(model, tmp_path / "model.arpa")
    read_back = read(tmp_path / "model.arpa")
    written = arpa.sentence(model.tokenizer, "a <s> of")
    assert written == "a <0x3C>s> of"
    assert [unknown for _, _, unknown in read_back.full_scores(written)] == [False] * 4


def test_pyctcdecode_decodes_with_it(tmp_path: Path) -> None:
    pyctcdecode = pytest.importorskip("pyctcdecode")
    text = tmp_path / "text.txt"
    text.write_text("the bad dog ran\nthe bad cat ran\na bed is here\nmy bed is here\n" * 20)
    options = {"level": "word", "split": "whitespace", "min_count": 1}
    model = trained(text, tmp_path / "run", order=3, **options)
    arpa.write(model, tmp_path / "model.arpa")
    labels = ["", " ", *"abcdefghimnorstuy"]

    def decoded(words: str, unsure: int) -> str:
        """What is heard where the vowel at one place is a or e, both as likely."""
        logits = np.full((len(words), len(labels)), -20.0, np.float32)
        logits[range(len(words)), [labels.index(char) for char in words]] = 0
        logits[unsure] = -20
        logits[unsure, [labels.index("a"), labels.index("e")]] = math.log(0.5)
        decoder = pyctcdecode.build_ctcdecoder(labels, str(tmp_path / "model.arpa"), alpha=1.0)
        return str(decoder.decode(logits))

    assert decoded("the bed dog ran", 5) == "the bad dog ran"
    assert decoded("my bad is here", 4) == "my bed is here"


def test_the_page_does_what_it_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("pyctcdecode")
    page = (ROOT / "docs" / "doors" / "arpa.md").read_text(encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    Path("mytext.txt").write_text("the king said no\nthe queen said yes to be\n" * 20)
    shell = "\n".join(re.findall(r"^```sh\n(.*?)^```", page, re.MULTILINE | re.DOTALL))
    for program, *arguments in filter(None, map(shlex.split, shell.splitlines())):
        if program == "textgen":
            assert main(arguments) == 0, arguments
    blocks = re.findall(r"^```python\n(.*?)^```", page, re.MULTILINE | re.DOTALL)
    assert len(blocks) == 3
    for block in blocks:
        exec(block, {})
