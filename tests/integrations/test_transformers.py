"""Exported models as the package transformers opens, runs and saves them."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from textgen import LanguageModel
from textgen.cli.app import main

from ..test_readme import ROOT, blocks
from .conftest import MakeCheckpoint

pytest.importorskip("transformers")

from transformers import AutoModelForCausalLM, AutoTokenizer

PAGE = ROOT / "docs" / "doors" / "transformers.md"
SENTENCES = [
    "the cat sat down.",
    '"no," said the cat.',
    "a",
    "the dogs that chased the cat were tired, and the cat was not.",
]
WORDS = {"level": "word", "min_count": 1}
PIECES = {"level": "subword", "vocab_size": 300}
MODELS: dict[str, dict[str, Any]] = {
    "lstm with n-grams": {"ngram_embeddings": 4},
    "lstm of one-hot characters": {"embedding_size": 0, "hidden_size": (8,)},
    "tied lstm of words": {"tokens": WORDS, "tie": True, "embedding_size": 7},
    "lstm of subwords with n-grams": {"tokens": PIECES, "ngram_embeddings": 2},
    "gru": {"model": "gru", "tokens": WORDS},
    "gru of one-hot words": {"model": "gru", "tokens": WORDS, "embedding_size": 0},
    "rnn": {"model": "rnn"},
    "rnn of rectified units": {"model": "rnn", "activation": "relu", "hidden_size": (8,)},
}


@pytest.fixture(params=MODELS.values(), ids=MODELS)
def ours(make_checkpoint: MakeCheckpoint, request: pytest.FixtureRequest) -> LanguageModel:
    return make_checkpoint(**request.param)


@pytest.fixture
def folder(ours: LanguageModel, tmp_path: Path) -> Path:
    assert (
        main(["export", str(tmp_path / "mine"), "--to", "transformers", str(tmp_path / "out")]) == 0
    )
    return tmp_path / "out"


def opened(folder: Path) -> tuple[Any, Any]:
    model = AutoModelForCausalLM.from_pretrained(folder)
    return model, AutoTokenizer.from_pretrained(folder)


def batch(tokenizer: Any, side: str = "right", *, ends: bool = True) -> Any:
    bos, eos = tokenizer.bos_token, tokenizer.eos_token if ends else ""
    texts = [bos + text + eos for text in SENTENCES]
    return tokenizer(texts, return_tensors="pt", padding=True, padding_side=side)


@pytest.mark.parametrize("side", ["right", "left"])
@torch.no_grad()
def test_tokens_are_as_probable_as_score_says_on_whichever_side_the_padding_is(
    ours: LanguageModel, folder: Path, side: str
) -> None:
    model, tokenizer = opened(folder)
    given = batch(tokenizer, side)
    log_probs = model(**given).logits.log_softmax(-1)
    expected = ours.score(SENTENCES, level="token")
    for ids, real, row, score in zip(
        given.input_ids, given.attention_mask.bool(), log_probs, expected, strict=True
    ):
        found = row[real][:-1].gather(1, ids[real][1:, None]).squeeze(1)
        assert score.parts is not None
        parts = torch.tensor([part.log_prob for part in score.parts])
        torch.testing.assert_close(found, parts, rtol=0, atol=1e-5)


@torch.no_grad()
def test_the_loss_is_the_mean_surprisal_of_what_follows_the_first_id(
    ours: LanguageModel, folder: Path
) -> None:
    model, tokenizer = opened(folder)
    scores = ours.score(SENTENCES)
    mean = -sum(score.log_prob for score in scores) / sum(score.tokens for score in scores)
    for side in ("left", "right"):
        given = batch(tokenizer, side)
        assert model(**given, labels=given.input_ids).loss.item() == pytest.approx(mean, abs=1e-5)


@torch.no_grad()
def test_a_text_read_in_chunks_with_padding_inside_ends_in_the_state_of_the_whole(
    folder: Path,
) -> None:
    model, tokenizer = opened(folder)
    ids = batch(tokenizer).input_ids[:2, :12]
    whole = model(ids)
    padding = torch.full_like(ids[:, :3], 1)
    spread = torch.cat([ids[:, :4], padding, ids[:, 4:5], padding, ids[:, 5:9]], 1)
    mask = torch.tensor([[1] * 4 + [0] * 3 + [1] + [0] * 3 + [1] * 4] * 2)
    first = model(spread, attention_mask=mask)
    nothing = model(padding, attention_mask=torch.zeros_like(padding), state=first.state)
    rest = model(ids[:, 9:], state=nothing.state)
    torch.testing.assert_close(first.logits[mask.bool()], whole.logits[:, :9].flatten(0, 1))
    torch.testing.assert_close(rest.logits, whole.logits[:, 9:])
    for part, expected in zip(rest.state, whole.state, strict=True):
        torch.testing.assert_close(part, expected)


@pytest.mark.parametrize(
    "options",
    [
        {"do_sample": False},
        {"do_sample": True},
        {"do_sample": True, "num_return_sequences": 3},
        {"num_beams": 4, "num_return_sequences": 2},
        {"num_beams": 3, "do_sample": True},
    ],
    ids=["greedy", "sampled", "several", "beams", "sampled beams"],
)
def test_generating_from_the_state_is_generating_from_the_whole_text_again(
    folder: Path, options: dict[str, Any]
) -> None:
    model, tokenizer = opened(folder)
    given = batch(tokenizer, "left", ends=False)
    generated = []
    for use_cache in (True, False):
        torch.manual_seed(0)
        out = model.generate(**given, **options, max_new_tokens=15, use_cache=use_cache)
        generated.append(tokenizer.batch_decode(out))
    assert generated[0] == generated[1]
    assert len(generated[0]) == len(SENTENCES) * options.get("num_return_sequences", 1)


def test_what_is_generated_does_not_depend_on_the_rows_beside_it(folder: Path) -> None:
    model, tokenizer = opened(folder)
    together = model.generate(
        **batch(tokenizer, "left", ends=False), max_new_tokens=12, num_beams=2
    )
    for text, row in zip(SENTENCES, together, strict=True):
        given = tokenizer(tokenizer.bos_token + text, return_tensors="pt")
        alone = model.generate(**given, max_new_tokens=12, num_beams=2)[0]
        expected = tokenizer.decode(alone[given.input_ids.shape[1] :], skip_special_tokens=True)
        new = row[-12:] if len(row) > 12 else row
        assert tokenizer.decode(new, skip_special_tokens=True).startswith(expected)


def test_a_text_without_a_prompt_begins_as_a_sentence_does(
    make_checkpoint: MakeCheckpoint, tmp_path: Path
) -> None:
    ours = make_checkpoint(ngram_embeddings=3)
    main(["export", str(tmp_path / "mine"), "--to", "transformers", str(tmp_path / "out")])
    model, tokenizer = opened(tmp_path / "out")
    text = tokenizer.decode(model.generate(max_new_tokens=20, do_sample=False)[0][1:])
    (sample,) = ours.sample(length=20, temperature=0)
    assert text.partition("\n")[0] == sample.text.partition("\n")[0]


def test_a_folder_saved_again_by_transformers_is_the_same_model(
    folder: Path, tmp_path: Path
) -> None:
    model, tokenizer = opened(folder)
    model.save_pretrained(tmp_path / "again")
    tokenizer.save_pretrained(tmp_path / "again")
    again, tokenizer_again = opened(tmp_path / "again")
    given = batch(tokenizer)
    assert tokenizer_again(SENTENCES).input_ids == tokenizer(SENTENCES).input_ids
    assert torch.equal(again(**given).logits, model(**given).logits)


def test_gradients_reach_every_weight(folder: Path) -> None:
    model, tokenizer = opened(folder)
    given = batch(tokenizer)
    model(**given, labels=given.input_ids).loss.backward()
    assert all(weight.grad is not None for weight in model.parameters())


PROGRAM = """
import sys
{imports}
from transformers import AutoModelForCausalLM, AutoTokenizer
model = AutoModelForCausalLM.from_pretrained(sys.argv[1]{trust})
tokenizer = AutoTokenizer.from_pretrained(sys.argv[1]{trust})
ids = tokenizer("a cat", return_tensors="pt").input_ids
print(tuple(model(ids).logits.shape), "textgen" in sys.modules)
"""


@pytest.mark.parametrize(
    ("imports", "trust", "is_known"),
    [
        ("", ", trust_remote_code=True", False),
        ("import textgen", "", True),
        ("import transformers, textgen", "", True),
        ("import importlib.util, textgen; importlib.util.find_spec('transformers')", "", True),
    ],
)
def test_the_folder_opens_with_its_own_code_or_after_importing_textgen(
    make_checkpoint: MakeCheckpoint, tmp_path: Path, imports: str, trust: str, is_known: bool
) -> None:
    size = make_checkpoint().tokenizer.vocabulary_size
    main(["export", str(tmp_path / "mine"), "--to", "transformers", str(tmp_path / "out")])
    program = PROGRAM.format(imports=imports, trust=trust)
    command = [sys.executable, "-c", program, str(tmp_path / "out")]
    environment = os.environ | {"HF_MODULES_CACHE": str(tmp_path / "cache"), "HF_HUB_OFFLINE": "1"}
    ended = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert ended.stdout.strip() == f"{(1, 5, size)} {is_known}", ended.stderr


def test_importing_textgen_imports_neither_transformers_nor_torch() -> None:
    program = (
        "import sys, textgen; sys.exit('torch' in sys.modules or 'transformers' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", program], timeout=60).returncode == 0


@pytest.mark.usefixtures("exported_here")
def test_the_example_of_the_page_runs() -> None:
    example, _ = blocks(PAGE, "python")
    exec(example, {})
