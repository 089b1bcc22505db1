"""What a Python user sees of the package: signatures, and types that a checker accepts."""

import dataclasses
import inspect
import math
import re
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from types import FunctionType
from typing import Any

import pytest

import textgen
from textgen import config
from textgen.config import Config, field_type, keywords
from textgen.errors import UsageError
from textgen.results import PartScore, SentenceScore, SentenceScores
from textgen.studies.compare.config import CompareOptions, ComparisonConfig

from .test_readme import blocks

ROOT = Path(__file__).resolve().parent.parent
PUBLIC = [getattr(textgen, name) for name in textgen.__all__ if not name.startswith("_")]
FUNCTIONS = [
    function
    for each in PUBLIC
    for function in (vars(each).values() if inspect.isclass(each) else [each])
    if isinstance(function, FunctionType | classmethod)
]


@pytest.mark.parametrize("function", FUNCTIONS, ids=lambda each: each.__name__)
def test_every_default_in_a_signature_explains_itself(function: object) -> None:
    function = getattr(function, "__func__", function)
    assert callable(function) and " at 0x" not in str(inspect.signature(function))


def test_the_example_of_the_reference_is_the_one_that_mypy_checks() -> None:
    (example,) = blocks(ROOT / "docs" / "reference" / "python.md", "python")
    assert (ROOT / "tests" / "typed" / "python_example.py").read_text(encoding="utf-8") == example


CONFIGURATIONS: list[tuple[type, tuple[type[Config], ...]]] = [
    (keywords.SamplingOptions, (config.SamplingConfig,)),
    (keywords.ScoringOptions, (config.ScoringConfig,)),
    (
        keywords.RunOptions,
        (config.TokenizerConfig, config.ModelConfig, config.TrainingConfig),
    ),
    (CompareOptions, (config.TokenizerConfig, config.TrainingConfig, ComparisonConfig)),
]


@pytest.mark.parametrize(("named", "configs"), CONFIGURATIONS, ids=lambda each: str(each)[:40])
def test_keyword_arguments_are_the_fields_of_the_configurations(
    named: type, configs: tuple[type[Config], ...]
) -> None:
    hints = typing.get_type_hints(named)
    fields = {name: spec for each in configs for name, spec in each.fields().items()}
    assert hints.keys() == fields.keys()
    for name, spec in fields.items():
        members = set(typing.get_args(hints[name])) - {type(None)}
        assert len(members) < len(typing.get_args(hints[name])), f"{name}: None is the default"
        if spec.metadata.get("parse") is None:  # otherwise more is accepted than the field is
            kind = field_type(spec)
            if typing.get_origin(kind) is tuple:
                kind = Sequence[typing.get_args(kind)[0]]
            assert members == {kind}, name


def test_a_frame_has_a_row_for_each_part_or_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = (PartScore("a", "a", -math.log(2)), PartScore("b", " b", -math.log(8), tokens=3))
    score = SentenceScore(-math.log(16), 4, line=7, text="a b", parts=parts)
    assert (score.surprisal, score.perplexity) == pytest.approx((4, 2))
    assert (parts[1].surprisal, parts[1].perplexity) == pytest.approx((3, 2))
    for each in (score, parts[1]):  # what pandas.DataFrame reads of them
        assert {"surprisal", "perplexity"} <= dataclasses.asdict(each).keys()
    frames: list[Any] = []
    pandas = types.SimpleNamespace(DataFrame=lambda rows, columns: frames.append((rows, columns)))
    monkeypatch.setitem(sys.modules, "pandas", pandas)
    score.to_frame()
    SentenceScores([dataclasses.replace(score, parts=None)] * 2).to_frame()
    (rows, columns), (sentences, names) = frames
    by_name = [dict(zip(columns, row, strict=True)) for row in rows]
    assert [(row["line"], row["number"], row["text"], row["tokens"]) for row in by_name] == [
        (7, 1, "a", 1),
        (7, 2, "b", 3),
    ]
    assert [row["surprisal"] for row in by_name] == pytest.approx([1, 3])
    assert dict(zip(names, sentences[1], strict=True))["perplexity"] == pytest.approx(2)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match=r"pandas: it is not installed; pip install .*\[pandas\]"):
        score.to_frame()


def test_a_notebook_shows_the_heat_map_of_a_score() -> None:
    parts = (
        PartScore("<b>", "<b>", -0.01),
        PartScore("x", " x\x1b", -40.0, unknown=True),
        PartScore("<EOS>", "", -1.0, ends=True),
    )
    score = SentenceScore(-41.01, 3, characters=6, line=1, text="<b> x\x1b", parts=parts)
    html = score._repr_html_()
    assert "&lt;b&gt;" in html and "<b>" not in html and "\x1b" not in html
    assert "underline dotted" in html and "⏎" in html and 'title="57.7 bits, unknown"' in html
    first, last = re.findall(r"background:(#\w+)", html)[:2]
    assert first != last
    assert "<script" not in html and "http" not in html
    plain = SentenceScores([dataclasses.replace(score, parts=None, pseudo=True)])._repr_html_()
    assert "background" not in plain and "pseudo-perplexity" in plain
