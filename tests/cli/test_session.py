"""A text written by turns."""

from pathlib import Path

import pytest

from textgen import LanguageModel, train
from textgen.cli.sample import Session
from textgen.errors import UsageError
from textgen.tokenizers.base import EOS


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> LanguageModel:
    folder = tmp_path_factory.mktemp("session")
    text = folder / "text.txt"
    text.write_text("the cats sat down.\nthe dogs slept.\n" * 20)
    train(text, out=folder / "run", steps=2, hidden_size=8, batch_size=2)
    return LanguageModel.load(folder / "run")


@pytest.fixture
def session(model: LanguageModel) -> Session:
    return Session(model, length=12, seed=3)


def test_a_turn_is_what_the_model_would_write_there(model: LanguageModel, session: Session) -> None:
    session.add("the cats")
    heard: list[str] = []
    sample = session.write(heard.append)
    assert "".join(heard) == sample.text
    assert sample == model.sample("the cats", length=12, seed=3)[0]
    assert session.text == "the cats" + sample.text
    second = session.write(heard.append)
    assert second == model.sample(session.text.removesuffix(second.text), length=12, seed=4)[0]


def test_what_is_taken_back_is_gone_and_comes_otherwise(session: Session) -> None:
    assert session.take_back() is None
    session.add("the")
    first = session.write(lambda piece: None)
    assert session.take_back() is not None
    assert session.text == "the"
    again = session.write(lambda piece: None)
    assert again.text != first.text
    session.take_back()
    session.take_back()
    assert session.text == ""


def test_an_interrupted_turn_is_kept_as_far_as_it_came(session: Session) -> None:
    heard: list[str] = []

    def interrupt(piece: str) -> None:
        heard.append(piece)
        if len(heard) == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        session.write(interrupt)
    assert session.text == "".join(heard)
    session.take_back()
    assert session.text == ""


def test_a_sentence_ends_with_its_newline(session: Session) -> None:
    session.set(sentences=1, length=10_000)
    session.write(lambda piece: None)
    assert session.text.endswith("\n")
    assert session.text.count("\n") == 1


def test_where_a_paragraph_is_the_unit_it_ends_as_paragraphs_do(tmp_path: Path) -> None:
    text = tmp_path / "text.txt"
    text.write_text("the cats\nsat down.\n\nthe dogs\nslept.\n\n" * 20)
    train(text, out=tmp_path / "run", steps=2, hidden_size=8, batch_size=2, unit="paragraph")
    session = Session(LanguageModel.load(tmp_path / "run"), sentences=1, length=10_000)
    session.write(lambda piece: None)
    assert session.text.endswith("\n\n")
    session.turns.clear()
    end = next(each for each in session.predict(40).choices if each.id == EOS)
    session.choose(end)
    assert session.text == "\n\n"


def test_the_stop_string_was_said(session: Session) -> None:
    session.set(stop="e", length=10_000)
    session.write(lambda piece: None)
    assert session.text.endswith("e")


def test_a_setting_holds_from_then_on_and_a_bad_one_changes_nothing(session: Session) -> None:
    session.set(temperature="0.5")
    with pytest.raises(UsageError):
        session.set(temperature="hot")
    with pytest.raises(UsageError):
        session.set(length=0)
    assert session.config.temperature == (0.5,)
    assert session.config.length == 12


def test_the_likeliest_words_go_on_from_the_text(session: Session) -> None:
    session.add("the ca")
    predicted = session.predict(4)
    assert predicted.prompt == "the ca"
    assert len(predicted.choices) == 4


def test_beams_are_for_those_who_wait(model: LanguageModel) -> None:
    with pytest.raises(UsageError, match="--beams"):
        Session(model, beams=4)
