"""Required strings, inserted into a sample that lacks them where they fit best."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import torch
from torch import Tensor

from textgen.config import SamplingConfig
from textgen.errors import UsageError, quoted
from textgen.inference.steppers import make_stepper, read_prompt
from textgen.models import Model
from textgen.results import Sample
from textgen.sampling import decoding
from textgen.sampling.generator import Uniforms
from textgen.tokenizers.base import EOS, UNK, Tokenizer


@dataclass
class TokenDraft:
    """The tokens of an unfinished sample.

    Attributes:
        log_probs: Natural, one for each id.
        fixed: The number of tokens up to the end of the last string that was inserted.
    """

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    fixed: int = 0


@dataclass(frozen=True)
class Insertion:
    """A string in a text after ``position`` tokens: its tokens, with the ln p of each."""

    position: int
    ids: tuple[int, ...]
    log_probs: tuple[float, ...]


class RequiredStrings:
    """The strings that every sample must contain."""

    def __init__(self, model: Model, tokenizer: Tokenizer, config: SamplingConfig) -> None:
        self._model = model
        self._length = config.length - 1  # one token remains to end the sample as any other
        self._encodings = {
            each: encodings(tokenizer, each, self._length) for each in config.require
        }

    def __bool__(self) -> bool:
        return bool(self._encodings)

    def missing(self, text: str) -> list[str]:
        return [each for each in self._encodings if each not in text]

    def insertions(
        self, sample: Sample, draft: TokenDraft, prompt: Sequence[int], uniforms: Uniforms
    ) -> Iterator[TokenDraft]:
        """Insert the first missing string: drafts that end with it, until one is accepted.

        It is inserted after all strings that were inserted before. A draft may not be acceptable
        because the string completes a banned string or a stop string there.

        Raises:
            UsageError: No place remains.
        """
        string, *others = self.missing(sample.text)
        room = self._length - sum(min(map(len, self._encodings[each])) for each in others)
        last = sample.tokens - (sample.finish_reason == "eos")
        if last >= draft.fixed:
            places = Places(
                self._model,
                prompt,
                draft.ids,
                self._encodings[string],
                positions=range(draft.fixed, last + 1),
                length=room,
            )
            while (insertion := places.draw(uniforms.next())) is not None:
                ids = [*draft.ids[: insertion.position], *insertion.ids]
                log_probs = [*draft.log_probs[: insertion.position], *insertion.log_probs]
                yield TokenDraft(ids, log_probs, len(ids))
                places.exclude(insertion.position)
        raise UsageError(
            f"--require {string!r} fits nowhere in sample {sample.index}",
            fix="raise --length, or require or ban less",
        )


def encodings(tokenizer: Tokenizer, string: str, length: int) -> list[tuple[int, ...]]:
    """The ids of a string at the start of a text and after a space.

    Args:
        length: The most tokens that it may have, one less than ``--length``.

    Raises:
        UsageError: The model cannot generate it, or needs more tokens.
    """
    found = []
    for spelled in (string, " " + string):
        ids = tuple(tokenizer.encode(spelled).tolist())
        if UNK not in ids and EOS not in ids and string in tokenizer.decode(ids):
            found.append(ids)
    if not found:
        unknown = tokenizer.unknown_in(string)
        raise UsageError(
            f"--require {string!r} cannot be written",
            why=f"the model does not know {quoted(unknown)}" if unknown else "it ends a sentence",
        )
    short = [ids for ids in dict.fromkeys(found) if len(ids) <= length]
    if not short:
        raise UsageError(
            f"--require {string!r} does not fit into --length {length + 1}",
            why=f"it has {min(map(len, found))} tokens",
        )
    return short


class Places:
    """The probabilities of a string at each place of a text."""

    @torch.inference_mode()
    def __init__(
        self,
        model: Model,
        prompt: Sequence[int],
        ids: Sequence[int],
        encodings: Sequence[tuple[int, ...]],
        *,
        positions: range,
        length: int,
    ) -> None:
        """Compute the probability of each encoding at each position.

        Args:
            ids: The tokens of the text after the prompt.
            positions: The numbers of tokens after which the string may be inserted.
            length: The most tokens up to the end of the string.
        """
        self._positions, self._encodings = positions, encodings
        stepper = make_stepper(model)
        first, stepper.state = read_prompt(model, [EOS, *prompt, *ids[: positions.start]])
        each_logits, states = [first], [stepper.state.tensors()]
        for id in ids[positions.start : positions.stop - 1]:
            each_logits.append(stepper.step(torch.tensor([id], device=model.device)).clone())
            states.append(stepper.state.tensors())
        logits = torch.cat(each_logits)  # (positions, vocabulary)
        rows = {name: torch.cat([state[name] for state in states]) for name in states[0]}
        state = model.restore(rows)
        self._log_probs: list[Tensor] = []  # of each encoding, (positions, tokens)
        for encoding in encodings:
            stepper.state = state
            steps = [_log_probs(logits)[:, encoding[0]]]
            for id, following in pairwise(encoding):
                column = torch.full((len(positions),), id, device=model.device)
                steps.append(_log_probs(stepper.step(column))[:, following])
            self._log_probs.append(torch.stack(steps, 1))
        fits = [[at + len(encoding) <= length for at in positions] for encoding in encodings]
        scores = torch.stack([log_probs.sum(1) for log_probs in self._log_probs])
        self._scores = scores.masked_fill(~torch.tensor(fits, device=scores.device), -torch.inf)

    def exclude(self, position: int) -> None:
        """Draw this position no more."""
        row = torch.tensor([self._positions.index(position)], device=self._scores.device)
        self._scores = self._scores.index_fill(1, row, -torch.inf)

    def draw(self, uniform: float) -> Insertion | None:
        """A position and an encoding, drawn by their probabilities; None if none remains."""
        if not bool(self._scores.isfinite().any()):
            return None
        uniforms = torch.tensor([uniform], dtype=torch.float64, device=self._scores.device)
        drawn = int(decoding.draw(self._scores.view(1, -1).softmax(-1), uniforms))
        which, row = divmod(drawn, len(self._positions))
        log_probs = tuple(self._log_probs[which][row].tolist())
        return Insertion(self._positions[row], self._encodings[which], log_probs)


def _log_probs(logits: Tensor) -> Tensor:
    return decoding.in_float64(logits).log_softmax(-1)
