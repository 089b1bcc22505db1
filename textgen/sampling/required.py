"""Where a required string fits best in a text that lacks it."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from textgen.errors import UsageError, named
from textgen.models import Model
from textgen.sampling import decoding
from textgen.tokenizers.base import EOS, UNK, Tokenizer


@dataclass(frozen=True)
class Placement:
    """A string put into a text after so many of its tokens: as which tokens, with ln p of each."""

    position: int
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]


def forms(tokenizer: Tokenizer, string: str, length: int) -> list[tuple[int, ...]]:
    """The ways to write a string: as it is, and after a space.

    Raises UsageError where the model cannot write it within ``length`` tokens, one less than may
    be written.
    """
    found = []
    for written in (string, " " + string):
        ids = tuple(tokenizer.encode(written).tolist())
        decoder = tokenizer.decoder()
        text = "".join(map(decoder.feed, ids)) + decoder.finish()
        if UNK not in ids and EOS not in ids and string in text and ids not in found:
            found.append(ids)
    if not found:
        unknown = tokenizer.unknown_in(string)
        raise UsageError(
            f"--require {string!r} cannot be written",
            why=f"the model does not know {named(unknown)}" if unknown else "it ends a sentence",
        )
    short = [ids for ids in found if len(ids) <= length]
    if not short:
        raise UsageError(
            f"--require {string!r} does not fit into --length {length + 1}",
            why=f"it has {min(map(len, found))} tokens",
        )
    return short


@torch.inference_mode()
def place(
    model: Model,
    read: Sequence[int],
    written: Sequence[int],
    forms: Sequence[tuple[int, ...]],
    *,
    places: range,
    length: int,
    uniform: float,
    refused: Collection[int] = (),
) -> Placement | None:
    """Put a string where the model finds it likely: places are drawn by its probability there.

    read: the prompt. written: the text's tokens. places: after how many of them it may stand.
    length: how many tokens there may be in all. refused: places where it must not stand. None
    where there is no place.
    """
    logits, rows = _at_each(model, [EOS, *read, *written[: places.start]], written, places)
    stepper = model.stepper()
    scores, log_probs = [], []
    for form in forms:
        stepper.state = model.restore(rows)
        steps = [_log_probs(logits)[:, form[0]]]
        for id, following in pairwise(form):
            ids = torch.full((len(places),), id, device=model.device)
            steps.append(_log_probs(stepper.step(ids))[:, following])
        log_probs.append(torch.stack(steps, 1))  # (places, tokens)
        fit = [at + len(form) <= length and at not in refused for at in places]
        fits = torch.tensor(fit, device=logits.device)
        scores.append(log_probs[-1].sum(1).masked_fill(~fits, -torch.inf))
    every = torch.cat(scores).unsqueeze(0)
    if not bool(every.isfinite().any()):
        return None
    at = torch.tensor([uniform], dtype=torch.float64, device=every.device)
    chosen = int(decoding.draw(decoding.distribution(every), at))
    which, row = divmod(chosen, len(places))
    return Placement(places[row], forms[which], tuple(log_probs[which][row].tolist()))


def _at_each(
    model: Model, read: Sequence[int], written: Sequence[int], places: range
) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits (places, vocabulary), and the state, at each place in the text."""
    stepper = model.stepper()
    first, state = model.after(read)
    stepper.state = state
    logits, states = [first], [state.tensors()]
    for id in written[places.start : places.stop - 1]:
        logits.append(stepper.step(torch.tensor([id], device=model.device)).clone())
        states.append(stepper.state.tensors())
    rows = {name: torch.cat([each[name] for each in states]) for name in states[0]}
    return torch.cat(logits), rows


def _log_probs(logits: Tensor) -> Tensor:
    return decoding.in_float64(logits).log_softmax(-1)
