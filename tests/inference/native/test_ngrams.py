"""Compiled steps of an LSTM mixed with n-grams, against the model."""

import numpy as np
import pytest
import torch

from textgen.config import ModelConfig
from textgen.inference.steppers import make_stepper
from textgen.models import Model, build

VOCABULARY = 30


@pytest.fixture(scope="module", params=[1, 2, 5])
def mixture(request: pytest.FixtureRequest) -> Model:
    config = ModelConfig.from_options(
        {"model": "lstm+ngram", "hidden_size": (24,), "order": request.param}
    )
    model = build(config.resolved(VOCABULARY))
    model.initialize(torch.Generator().manual_seed(0))
    random = np.random.default_rng(0)
    text = (np.cumsum(random.choice([1, 2, 5], 4000)) % VOCABULARY).astype(np.uint16)
    model.initialize_from_text(text)
    model.fit_mixture([text[chunk] for chunk in model.held_out_chunks(text)])
    return model.eval()


@pytest.mark.usefixtures("compiled", "two_threads")
@pytest.mark.parametrize("rows", [1, 3])
def test_compiled_steps_are_those_of_the_model(mixture: Model, rows: int) -> None:
    ids = torch.randint(VOCABULARY, (40, rows), generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        expected, last = mixture(ids, mixture.start(rows))
    stepper = make_stepper(mixture)
    stepper.state = mixture.start(rows)
    assert stepper.network is not None
    found = torch.stack([stepper.step(row).log_softmax(-1) for row in ids])
    assert torch.allclose(found, expected.log_softmax(-1), atol=2e-5)
    assert bool(stepper.state.close_to(last, 1e-4).all())
    selected = torch.tensor([rows - 1, 0])
    stepper.state = state = stepper.state.select(selected)
    (after,) = mixture(ids[:1, selected], state)[0]
    assert torch.allclose(stepper.step(ids[0, selected]), after.log_softmax(-1), atol=2e-5)
