"""Where and in which precision a model computes."""

import pytest
import torch

from textgen.config import RecurrentConfig
from textgen.errors import UsageError
from textgen.models.device import choose_precision

CPU = torch.device("cpu")


def test_a_precision_the_processor_cannot_learn_in_is_refused(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("textgen.models.device.cpu_learns_in_bf16", lambda: False)
    with pytest.raises(UsageError, match="bf16 needs a processor"):
        choose_precision("bf16", CPU, RecurrentConfig())


def test_auto_is_never_a_precision_that_is_refused() -> None:
    chosen = choose_precision("auto", CPU, RecurrentConfig())
    assert choose_precision(chosen, CPU, RecurrentConfig()) == chosen


def test_fp16_is_refused_on_a_processor() -> None:
    with pytest.raises(UsageError, match="fp16 needs a CUDA device"):
        choose_precision("fp16", CPU, RecurrentConfig())
