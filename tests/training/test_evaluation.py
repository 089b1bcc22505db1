from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pytest

from textgen.inference.likelihood import Document
from textgen.models import Model
from textgen.scoring.scorer import DocumentReader
from textgen.tokenizers.base import EOS, UNK
from textgen.training import loop as evaluation
from textgen.training.loop import validate


def test_the_validation_loss_is_the_mean_over_every_token_once(
    model: Model, random_ids: Callable[..., npt.NDArray[np.uint16]], monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = random_ids(3000)
    log_probs = Document(model, first=EOS).read(ids)
    validation = validate(model, ids, characters=3100, step=7, seconds=1.5)
    assert validation.loss == pytest.approx(-log_probs.mean(), abs=1e-9)
    assert (validation.tokens, validation.characters, validation.step) == (3000, 3100, 7)
    assert validation.unknown == np.count_nonzero(ids == UNK) > 0
    monkeypatch.setattr(evaluation, "_PART_TOKENS", 700)
    assert validate(model, ids, characters=3100).loss == pytest.approx(validation.loss, abs=1e-6)


def test_the_validation_loss_is_what_scoring_in_document_context_gives(
    model: Model, text_ids: npt.NDArray[np.uint16]
) -> None:
    ids = np.where(text_ids > 10, 10, text_ids)
    sentences = np.split(ids, np.flatnonzero(ids == EOS)[:-1] + 1)
    scored = sum(read.sum() for read in DocumentReader(model).read(sentences))
    assert validate(model, ids, characters=1).loss == pytest.approx(-scored / len(ids), abs=1e-6)
