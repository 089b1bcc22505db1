"""An LSTM mixed with n-grams, read step by step by compiled code."""

import numpy as np
import pytest
import torch

from textgen.config import ModelConfig
from textgen.models import Model, build

VOCABULARY = 30


@pytest.fixture(params=[1, 2, 5])
def mixture(request: pytest.FixtureRequest) -> Model:
    config = ModelConfig(model="lstm+ngram", hidden_size=(24,), order=request.param)
    model = build(config.resolved(VOCABULARY))
    model.initialize(torch.Generator().manual_seed(0))
    random = np.random.default_rng(0)
    text = (np.cumsum(random.choice([1, 2, 5], 4000)) % VOCABULARY).astype(np.uint16)
    pieces = [text[piece] for piece in model.held_out_chunks(text)]
    model.read(text)
    model.settle(pieces)
    return model.eval()


@pytest.mark.usefixtures("compiled", "two_threads")
@pytest.mark.parametrize("rows", [1, 3])
def test_compiled_steps_are_the_whole_sequence(mixture: Model, rows: int) -> None:
    ids = torch.randint(VOCABULARY, (40, rows), generator=torch.Generator().manual_seed(1))
    whole, last = mixture(ids, mixture.start(rows))
    stepper = mixture.stepper()
    stepper.state = mixture.start(rows)
    assert stepper.network is not None
    for place, row in enumerate(ids):
        found = stepper.step(row).log_softmax(-1)
        assert torch.allclose(found, whole[place].log_softmax(-1), atol=2e-5)
    assert bool(stepper.state.close_to(last, 1e-4).all())
    again = stepper.state.select(torch.tensor([rows - 1, 0]))
    stepper.state = again
    after = mixture(ids[:1, [rows - 1, 0]], again)[0][0]
    assert torch.allclose(stepper.step(ids[0, [rows - 1, 0]]), after.log_softmax(-1), atol=2e-5)
