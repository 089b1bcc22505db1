"""Fine-tuning: a run that begins with the weights, shape and tokenizer of a checkpoint."""

import functools
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from textgen import LanguageModel, checkpoint, train
from textgen.cli.app import main
from textgen.config import LSTMConfig, TokenizerConfig
from textgen.data.encoded import tokenize
from textgen.errors import CheckpointError, DataError, ResourceError, TextgenError, UsageError
from textgen.models import Model, build
from textgen.results import TrainingEvent, TrainingStart, Validation
from textgen.tokenizers.registry import load_tokenizer_from
from textgen.tokenizers.word import WordTokenizer
from textgen.training.prepare import extended

from .conftest import (
    PLACE,
    RUN,
    SHAPE,
    TEXT,
    events_of,
    files_of,
    of_kind,
    stop_at,
    untimed_log,
    written,
)

SHIFTED = TEXT.replace("the", "þe").replace("dog", "øx").replace(".", "!")


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("texts") / "corpus.txt", TEXT)


@pytest.fixture(scope="module")
def shifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return written(tmp_path_factory.mktemp("texts") / "shifted.txt", SHIFTED)


@pytest.fixture(scope="module")
def source(corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A trained run, which no test may change: 60 steps on TEXT."""
    out = tmp_path_factory.mktemp("trained") / "source"
    train(corpus, out=out, steps=60, learning_rate=0.02, **SHAPE, **RUN)
    return out


run_of = functools.partial(events_of, **RUN)


def first_validation(events: list[TrainingEvent]) -> Validation:
    return of_kind(Validation, events)[0]


def notes_of(events: list[TrainingEvent]) -> str:
    return "\n".join(of_kind(TrainingStart, events)[0].notes)


@pytest.mark.parametrize(
    "shape",
    [
        {"hidden_size": 16, "embedding_size": 8},
        {"hidden_size": (12, 16), "tie": True},
        {"hidden_size": (16, 8, 12), "embedding_size": 6, "tie": False},
        {"hidden_size": 16, "level": "word", "tie": True},
        {"hidden_size": 16, "level": "subword", "vocab_size": 300},
    ],
)
def test_before_the_first_step_the_loss_is_exactly_the_source_s(
    corpus: Path, tmp_path: Path, shape: dict[str, Any]
) -> None:
    source = tmp_path / "source"
    result = train(corpus, out=source, steps=4, **shape, **RUN)
    events = run_of(corpus, out=tmp_path / "tuned", init_from=source, steps=1)
    found = first_validation(events)
    assert result.validation is not None
    assert found.step == 0
    assert found.loss == result.validation.loss
    assert found.tokens == result.validation.tokens


def test_rare_words_go_from_corpus_to_checkpoint_and_on_to_what_is_tuned(tmp_path: Path) -> None:
    first = written(tmp_path / "first.txt", "one heron\ntwo hares\n" + TEXT)
    second = written(tmp_path / "second.txt", "two hares\ntwo newts\n" + TEXT)
    folder, source, tuned = (tmp_path / name for name in ("tokenized", "source", "tuned"))
    tokenize([first], TokenizerConfig(level="word"), out=folder)
    train(folder, out=source, steps=1, **SHAPE, **RUN)
    train(out=source, resume=True, steps=2)
    options = {"extend_vocabulary": True, "min_count": 2}
    train(second, second, out=tuned, init_from=source, steps=1, **options, **RUN)
    rare = {place: rare_words_of(place) for place in (folder, source, tuned)}
    assert rare[source] == rare[folder] == ("one", "heron", "two", "hares")
    assert rare[tuned] == ("one", "heron")


def rare_words_of(place: Path) -> tuple[str, ...]:
    tokenizer = load_tokenizer_from(place)
    assert isinstance(tokenizer, WordTokenizer)
    return tokenizer.rare


def test_best_last_and_the_run_s_folder_can_each_be_named(
    source: Path, corpus: Path, tmp_path: Path
) -> None:
    for name in (checkpoint.BEST, checkpoint.LAST):
        run_of(corpus, out=tmp_path / name, init_from=source / name, steps=1)
        noted = checkpoint.load(tmp_path / name).header.init_from
        assert noted is not None
        assert noted.checkpoint == name
        assert noted.step == checkpoint.load(source / name).header.step


def test_fine_tuning_lowers_the_loss_on_the_new_text_and_only_reads_its_source(
    source: Path, shifted: Path, tmp_path: Path
) -> None:
    before = files_of(source)
    for extend in (True, False):
        out = tmp_path / f"{extend}"
        options = {"init_from": source, "extend_vocabulary": extend, "learning_rate": 0.02}
        events = run_of(shifted, out=out, steps=40, **options)
        validations = of_kind(Validation, events)
        assert validations[-1].loss < 0.8 * validations[0].loss
        assert checkpoint.load(out).header.step > 0
    assert files_of(source) == before


def test_a_fine_tune_that_only_harms_keeps_the_source_as_its_best(
    source: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    run_of(corpus, out=out, init_from=source, steps=5, learning_rate=10.0)
    assert checkpoint.load(out / "best").header.step == 0
    kept, begun = LanguageModel.load(out / "best"), LanguageModel.load(source)
    assert kept.score("the cat").log_prob == begun.score("the cat").log_prob


def test_a_fine_tune_has_its_own_schedule_and_its_source_s_shape_and_names_its_source(
    source: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "tuned"
    events = run_of(corpus, out=out, init_from=source, steps=7, learning_rate=1e-4)
    header = checkpoint.load(out / "last").header
    assert (header.step, header.training.learning_rate) == (7, 1e-4)
    assert header.model == checkpoint.load(source).header.model
    assert str(source) in notes_of(events)
    assert "unknown" not in notes_of(events), "all of this text is known"
    noted = checkpoint.describe(out).header.init_from
    assert noted.path == str(source)
    assert noted.weights_sha256 in (source / "best" / "manifest.json").read_text()
    assert main(["info", str(out)]) == 0
    assert noted.weights_sha256[:16] in "".join(capsys.readouterr().out.split())
    assert checkpoint.describe(source).header.init_from is None


def test_what_is_unknown_to_the_source_is_said_with_its_share(
    source: Path, shifted: Path, tmp_path: Path
) -> None:
    said = notes_of(run_of(shifted, out=tmp_path / "tuned", init_from=source, steps=1))
    train_part = checkpoint.load(tmp_path / "tuned").header.corpus.train
    share = train_part.unknown / train_part.tokens
    assert share > 0.05
    assert f"{share:.2%} of the training tokens are unknown" in said
    assert "most often 'þ' '!' 'ø'; --extend-vocabulary" in said


def test_at_most_ten_unknown_symbols_are_named(source: Path, tmp_path: Path) -> None:
    text = "".join(chr(0x3B1 + letter) * (20 - letter) for letter in range(14))
    corpus = written(tmp_path / "greek.txt", f"the cat {text}\n" * 20)
    said = notes_of(run_of(corpus, out=tmp_path / "tuned", init_from=source, steps=1))
    assert "'α' 'β' 'γ' 'δ' 'ε' 'ζ' 'η' 'θ' 'ι' 'κ';" in said
    assert "λ" not in said


@pytest.mark.parametrize(("level", "tie"), [("char", True), ("word", False)])
def test_an_extended_vocabulary_keeps_old_ids_and_their_logits(
    corpus: Path, shifted: Path, tmp_path: Path, level: str, tie: bool
) -> None:
    source, out = tmp_path / "source", tmp_path / "tuned"
    train(corpus, out=source, steps=5, hidden_size=16, level=level, tie=tie, **RUN)
    said = notes_of(run_of(shifted, out=out, init_from=source, extend_vocabulary=True, steps=3))
    old = checkpoint.load(source)
    begun = checkpoint.load(out)
    size = old.tokenizer.vocabulary_size
    assert f"tokens added to the vocabulary: {begun.tokenizer.vocabulary_size - size}, " in said
    assert begun.tokenizer.fingerprint != old.tokenizer.fingerprint
    assert begun.tokenizer.encode(TEXT).tolist() == old.tokenizer.encode(TEXT).tolist()
    assert begun.tokenizer.vocabulary_size > size
    assert not checkpoint.load(out).header.corpus.train.unknown
    # Before the first step, as a run that stops there leaves it:
    stopped = first_checkpoint(shifted, tmp_path / "first", source)
    ids = torch.from_numpy(old.tokenizer.encode(TEXT[:200]).astype("int64")).unsqueeze(1)
    with torch.no_grad():
        before, _ = old.model(ids, old.model.start(1))
        after, _ = stopped.model(ids, stopped.model.start(1))
    torch.testing.assert_close(after[..., :size], before, rtol=1e-5, atol=1e-5)


def first_checkpoint(corpus: Path, out: Path, source: Path) -> checkpoint.Checkpoint:
    """What a fine-tune saves before its first step."""

    def at_once(event: TrainingEvent) -> None:
        if isinstance(event, Validation):
            raise EOFError

    with pytest.raises(EOFError):
        train(
            corpus, out=out, init_from=source, extend_vocabulary=True, steps=9, on_event=at_once,
            **RUN,
        )  # fmt: skip
    return checkpoint.load(out / "last")


def test_limits_are_of_what_is_added(source: Path, shifted: Path, tmp_path: Path) -> None:
    size = checkpoint.load(source).tokenizer.vocabulary_size
    options: dict[str, Any] = {"init_from": source, "extend_vocabulary": True, "steps": 1}
    run_of(shifted, out=tmp_path / "one", vocab_size=size + 1, **options)
    assert checkpoint.load(tmp_path / "one").tokenizer.vocabulary_size == size + 1
    said = notes_of(run_of(shifted, out=tmp_path / "none", min_count=10**6, **options))
    assert checkpoint.load(tmp_path / "none").tokenizer.vocabulary_size == size
    assert "tokens added to the vocabulary: 0" in said
    with pytest.raises(UsageError, match=r"--vocab-size .* contradicts --init-from"):
        run_of(shifted, out=tmp_path / "fewer", vocab_size=size - 1, **options)


@pytest.mark.parametrize("extend", [True, False])
def test_a_fine_tune_resumes_bit_for_bit_without_its_source(
    source: Path, shifted: Path, tmp_path: Path, extend: bool
) -> None:
    own = shutil.copytree(source, tmp_path / "source")
    options = {"init_from": own, "extend_vocabulary": extend, "steps": 12, "dropout": 0.2}
    run_of(shifted, out=tmp_path / "whole", **options)
    runs = [tmp_path / f"stopped {step}" for step in (1, 7)]
    for out, step in zip(runs, (1, 7), strict=True):
        assert run_of(shifted, out=out, stop=stop_at(step), **options)
    if extend:
        first_checkpoint(shifted, tmp_path / "at once", own)
    shutil.rmtree(own)
    for out in runs:
        train(out=out, resume=True)
        for name in ("model.safetensors", "state.safetensors"):
            expected = (tmp_path / "whole" / "last" / name).read_bytes()
            assert (out / "last" / name).read_bytes() == expected
        assert untimed_log(out) == untimed_log(tmp_path / "whole")
        whole, resumed = (checkpoint.load(path).header for path in (tmp_path / "whole", out))
        assert resumed.init_from == whole.init_from is not None
    if extend:  # one that was cut off at step 0 validates there as it would have
        train(out=tmp_path / "at once", resume=True)
        assert [line["step"] for line in untimed_log(tmp_path / "at once")][:2] == [0, 1]


def test_what_contradicts_the_checkpoint_is_refused_and_what_agrees_is_not(
    source: Path, corpus: Path, tmp_path: Path
) -> None:
    out = tmp_path / "tuned"
    other = tmp_path / "other"
    tokenize([corpus], TokenizerConfig(level="word"), out=other)
    contradictions: list[dict[str, Any]] = [
        {"hidden_size": 32},
        {"hidden_size": (16, 16)},
        {"embedding_size": 9},
        {"tie": True},
        {"level": "word"},
        {"vocab_size": 20},
        {"min_count": 2},
        {"unit": "document"},
        {"unk_literal": "?"},
        {"tokenizer": other},
    ]
    for options in contradictions:
        with pytest.raises(UsageError, match=r"--\S+.* contradicts --init-from .*source"):
            train(corpus, out=out, init_from=source, steps=1, **options, **RUN)
        assert not out.exists()
    with pytest.raises(UsageError, match=r"--tie contradicts .* that checkpoint has --no-tie;"):
        train(corpus, out=out, init_from=source, tie=True, **RUN)
    agreeing: dict[str, Any] = {**SHAPE, "level": "char", "min_count": 1, "tie": False}
    agreeing["vocab_size"] = checkpoint.load(source).tokenizer.vocabulary_size
    train(corpus, out=out, init_from=source, steps=1, **agreeing, **RUN)
    train(corpus, out=tmp_path / "b", init_from=source, tokenizer=source, steps=1, **RUN)


def test_options_that_go_with_no_other_name_both(
    source: Path, corpus: Path, tmp_path: Path
) -> None:
    refused: list[tuple[str, dict[str, Any]]] = [
        ("--resume and --init-from", {"out": source, "init_from": source, "resume": True}),
        ("--extend-vocabulary needs --init-from", {"extend_vocabulary": True}),
        ("same run", {"out": source, "init_from": source, "overwrite": True}),
        ("same run", {"out": source, "init_from": source / "best"}),
        ("same run", {"out": source / "best", "init_from": source, "overwrite": True}),
        ("same run", {"out": source / "best" / "new", "init_from": source}),
        ("names no checkpoint", {"init_from": ""}),
    ]
    before = files_of(source)
    for message, options in refused:
        with pytest.raises(UsageError, match=message):
            train(corpus, **{"out": tmp_path / "tuned", "steps": 1, **options}, **RUN)
    assert files_of(source) == before
    assert not (tmp_path / "tuned").exists()


def test_subwords_are_not_extended(corpus: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    train(corpus, out=source, steps=1, level="subword", vocab_size=300, **SHAPE, **RUN)
    with pytest.raises(UsageError, match="encode any text already"):
        train(corpus, out=tmp_path / "t", init_from=source, extend_vocabulary=True, **RUN)


def test_a_missing_or_damaged_checkpoint_is_refused(
    source: Path, corpus: Path, tmp_path: Path
) -> None:
    damaged = shutil.copytree(source, tmp_path / "damaged")
    weights = damaged / "best" / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    bad: list[tuple[Path, type[TextgenError], int]] = [
        (tmp_path / "nowhere", ResourceError, 1),
        (damaged, CheckpointError, 3),
    ]
    for path, error, code in bad:
        with pytest.raises(error):
            train(corpus, out=tmp_path / "tuned", init_from=path, steps=1, **RUN)
        arguments = ["train", str(corpus), "--out", str(tmp_path / "tuned"), "--init-from"]
        assert main([*arguments, str(path)]) == code
        assert not (tmp_path / "tuned").exists()


def test_ids_must_be_of_the_checkpoint_s_tokenizer(
    source: Path, corpus: Path, shifted: Path, tmp_path: Path
) -> None:
    same, other = tmp_path / "same", tmp_path / "other"
    tokenize([corpus], TokenizerConfig(), out=same)
    tokenize([shifted], TokenizerConfig(), out=other)
    train(same, out=tmp_path / "tuned", init_from=source, steps=1, **RUN)
    with pytest.raises(UsageError, match="contradicts --init-from"):
        train(other, out=tmp_path / "b", init_from=source, steps=1, **RUN)
    with pytest.raises(UsageError, match="--extend-vocabulary needs the corpus as text"):
        train(same, out=tmp_path / "b", init_from=source, extend_vocabulary=True, **RUN)


def test_a_text_of_which_nothing_is_known_says_how_to_learn_it(
    source: Path, tmp_path: Path
) -> None:
    corpus = written(tmp_path / "greek.txt", "αβγδε\n" * 30)
    with pytest.raises(DataError, match="add --extend-vocabulary"):
        train(corpus, out=tmp_path / "tuned", init_from=source, steps=1, **RUN)
    train(corpus, out=tmp_path / "t", init_from=source, extend_vocabulary=True, steps=1, **RUN)


def test_a_fine_tune_learns_as_its_source_s_kind_does_though_no_option_names_it(
    corpus: Path, shifted: Path, tmp_path: Path
) -> None:
    source = tmp_path / "source"
    train(corpus, out=source, model="hmm", states=4, steps=2, **PLACE)
    train(shifted, out=tmp_path / "tuned", init_from=source, steps=2, **PLACE)
    training = checkpoint.describe(tmp_path / "tuned").header.training
    assert (training.learning_rate, training.dropout) == (0.1, 0.0)


def test_n_grams_are_counted_anew_once(corpus: Path, shifted: Path, tmp_path: Path) -> None:
    source = tmp_path / "source"
    train(corpus, out=source, model="ngram", order=2, **PLACE)
    result = train(shifted, out=tmp_path / "tuned", init_from=source, stop=stop_at(3), **PLACE)
    assert (result.steps, result.interrupted) == (1, None)
    with pytest.raises(UsageError, match="--steps is no option of --model ngram"):
        train(out=source, resume=True, steps=3, **PLACE)


# The extended model


OLD, NEW = 11, 15


def random_model(embedding: int, *, tie: bool) -> Model:
    config = LSTMConfig(hidden_size=(5, 7), embedding_size=embedding, tie=tie, vocabulary_size=OLD)
    model = build(config)
    model.initialize(torch.Generator().manual_seed(3))
    with torch.no_grad():
        model.get_parameter("output.bias").normal_(generator=torch.Generator().manual_seed(4))
    return model


def test_new_tokens_have_equal_shares_of_an_unknown_one_and_are_read_as_one() -> None:
    model = random_model(6, tie=False)
    assert extended(model, OLD) is model
    bigger = extended(model, NEW)
    logits, _ = bigger(torch.tensor([[1], [4], [2]]), bigger.start(1))
    shares = logits.softmax(-1)
    for new in range(OLD, NEW):
        torch.testing.assert_close(shares[..., new], shares[..., 0] / (NEW - OLD))
    of_new, of_unknown = (bigger(torch.tensor([[1], [id]]), bigger.start(1)) for id in (NEW - 1, 0))
    assert torch.equal(of_new[0], of_unknown[0])


def test_tied_weights_stay_tied_and_new_tokens_part_by_learning() -> None:
    bigger = extended(random_model(7, tie=True), NEW)
    embedding = bigger.get_parameter("embedding.weight")
    assert embedding is bigger.get_submodule("output").weight
    logits, _ = bigger(torch.tensor([[1], [NEW - 1]]), bigger.start(1))
    loss = torch.nn.functional.cross_entropy(logits[:, 0], torch.tensor([NEW - 1, NEW - 2]))
    loss.backward()
    assert embedding.grad is not None
    assert not torch.equal(embedding.grad[NEW - 1], embedding.grad[NEW - 2])
