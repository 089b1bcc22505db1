"""Strings that a sample must hold, put where they fit best in one that lacks them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.errors import UsageError, named
from textgen.models import Model, State, Stepper
from textgen.results import Sample
from textgen.sampling import decoding
from textgen.sampling.generator import Uniforms
from textgen.sampling.text import Writing
from textgen.tokenizers.base import EOS, UNK, Tokenizer


@dataclass
class Draft:
    """What of a sample is written, token by token.

    fixed: how many tokens there are up to the end of the last string that was put in.
    """

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    fixed: int = 0


class Required:
    """The strings that every sample must hold."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        self._model = model
        # A token is left to be written after each, that a sample may end as any other does.
        self._length = config.length - 1
        self._forms = {each: forms(tokenizer, each, self._length) for each in config.require}

    def __bool__(self) -> bool:
        return bool(self._forms)

    def lacking(self, text: str) -> list[str]:
        """Those that are not in a text."""
        return [each for each in self._forms if each not in text]

    def put_in(
        self,
        sample: Sample,
        draft: Draft,
        prompt: Sequence[int],
        uniforms: Uniforms,
        writing: Callable[[], Writing],
    ) -> tuple[Draft, Writing]:
        """Put the first string that a sample lacks where it fits, to be written on from there.

        Not where it would complete a banned string or a stop string with what is before it, nor
        before the end of one that was put in already. writing: begins the sample's text.
        Raises UsageError where there is no place.
        """
        string, *others = self.lacking(sample.text)
        room = self._length - sum(min(map(len, self._forms[other])) for other in others)
        last = sample.tokens - (sample.finish_reason == "eos")
        if last >= draft.fixed:
            where = Places(
                self._model,
                prompt,
                draft.ids,
                self._forms[string],
                places=range(draft.fixed, last + 1),
                length=room,
            )
            while (put := where.draw(uniforms.next())) is not None:
                kept = [*draft.ids[: put.position], *put.ids]
                log_probs = [*draft.log_probs[: put.position], *put.log_probs]
                begun = writing()
                if begun.replay(kept, log_probs):
                    return Draft(kept, log_probs, len(kept)), begun
                where.refuse(put.position)
        raise UsageError(
            f"--require {string!r} fits nowhere in sample {sample.index}",
            fix="raise --length, or require or ban less",
        )


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


class Places:
    """How well the forms of a string fit at each place of a text, by the model's probabilities.

    read: the prompt. written: the text's tokens. places: after how many of them the string may
    stand. length: how many tokens there may be in all.
    """

    @torch.inference_mode()
    def __init__(
        self,
        model: Model,
        read: Sequence[int],
        written: Sequence[int],
        forms: Sequence[tuple[int, ...]],
        *,
        places: range,
        length: int,
    ) -> None:
        self._places, self._forms = places, forms
        stepper = model.stepper()
        stepper.state, logits = _at_each(model, stepper, read, written, places)
        rows = stepper.state
        self._log_probs: list[Tensor] = []  # of each form, (places, tokens)
        for form in forms:
            stepper.state = rows
            steps = [_log_probs(logits)[:, form[0]]]
            for id, following in pairwise(form):
                ids = torch.full((len(places),), id, device=model.device)
                steps.append(_log_probs(stepper.step(ids))[:, following])
            self._log_probs.append(torch.stack(steps, 1))
        fits = [[at + len(form) <= length for at in places] for form in forms]
        scores = torch.stack([log_probs.sum(1) for log_probs in self._log_probs])
        self._scores = scores.masked_fill(~torch.tensor(fits, device=scores.device), -torch.inf)

    def refuse(self, position: int) -> None:
        """Nothing may be put there."""
        row = torch.tensor([self._places.index(position)], device=self._scores.device)
        self._scores = self._scores.index_fill(1, row, -torch.inf)

    def draw(self, uniform: float) -> Placement | None:
        """A place and a form, by the string's probability there; None: there is no place."""
        if not bool(self._scores.isfinite().any()):
            return None
        at = torch.tensor([uniform], dtype=torch.float64, device=self._scores.device)
        shares = decoding.distribution(self._scores.view(1, -1))
        which, row = divmod(int(decoding.draw(shares, at)), len(self._places))
        log_probs = tuple(self._log_probs[which][row].tolist())
        return Placement(self._places[row], self._forms[which], log_probs)


def _at_each(
    model: Model, stepper: Stepper, read: Sequence[int], written: Sequence[int], places: range
) -> tuple[State, Tensor]:
    """The state, and logits (places, vocabulary), at each place in the text."""
    first, stepper.state = model.after([EOS, *read, *written[: places.start]])
    logits, states = [first], [stepper.state.tensors()]
    for id in written[places.start : places.stop - 1]:
        logits.append(stepper.step(torch.tensor([id], device=model.device)).clone())
        states.append(stepper.state.tensors())
    rows = {name: torch.cat([each[name] for each in states]) for name in states[0]}
    return model.restore(rows), torch.cat(logits)


def _log_probs(logits: Tensor) -> Tensor:
    return decoding.in_float64(logits).log_softmax(-1)
