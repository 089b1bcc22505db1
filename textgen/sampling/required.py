"""Required strings, inserted into a sample that lacks them where they fit best."""

from collections.abc import Callable, Iterator, Sequence
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
    """The tokens of an unfinished sample. fixed: How many end with the last inserted string."""

    ids: list[int] = field(default_factory=list)
    log_probs: list[float] = field(default_factory=list)
    fixed: int = 0


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
        """Drafts that end with the first missing string, after all strings inserted before.

        There are several, because the string may complete a banned string or a stop string there.

        Raises:
            UsageError: No place remains.
        """
        string, *others = self.missing(sample.text)
        room = self._length - sum(min(map(len, self._encodings[each])) for each in others)
        last = sample.tokens - (sample.finish_reason == "eos")
        if last >= draft.fixed:
            found = insertions(
                self._model,
                prompt,
                draft.ids,
                self._encodings[string],
                uniforms.next,
                positions=range(draft.fixed, last + 1),
                length=room,
            )
            for place, ids, log_probs in found:
                whole = [*draft.ids[:place], *ids]
                yield TokenDraft(whole, [*draft.log_probs[:place], *log_probs], len(whole))
        raise UsageError(
            f"--require {string!r} fits nowhere in sample {sample.index}",
            fix="raise --length, or require or ban less",
        )


def encodings(tokenizer: Tokenizer, string: str, length: int) -> list[tuple[int, ...]]:
    """The ids of a string at the start of a text and after a space.

    Raises:
        UsageError: The model cannot generate it, or needs more than ``length`` tokens.
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


def insertions(
    model: Model,
    prompt: Sequence[int],
    ids: Sequence[int],
    encodings: Sequence[tuple[int, ...]],
    draw: Callable[[], float],
    *,
    positions: range,
    length: int,
) -> Iterator[tuple[int, tuple[int, ...], list[float]]]:
    """Places of a string in a text, drawn by its probability there, each position once.

    Args:
        ids: The tokens of the text after the prompt.
        draw: Draws a number in [0, 1).
        positions: The numbers of tokens after which the string may be inserted.
        length: The most tokens up to the end of the string.

    Yields:
        The position, the encoding, and ln p of each of its tokens.
    """
    log_probs = _log_probs_at(model, prompt, ids, encodings, positions)
    fits = [[at + len(encoding) <= length for at in positions] for encoding in encodings]
    scores = torch.stack([each.sum(1) for each in log_probs])  # (encodings, positions)
    scores = scores.masked_fill(~torch.tensor(fits, device=scores.device), -torch.inf)
    while bool(scores.isfinite().any()):
        uniform = scores.new_tensor([draw()])
        drawn = int(decoding.draw(scores.view(1, -1).softmax(-1), uniform))
        encoding, row = divmod(drawn, len(positions))
        yield positions[row], encodings[encoding], log_probs[encoding][row].tolist()
        scores = scores.index_fill(1, torch.tensor([row], device=scores.device), -torch.inf)


@torch.inference_mode()
def _log_probs_at(
    model: Model,
    prompt: Sequence[int],
    ids: Sequence[int],
    encodings: Sequence[tuple[int, ...]],
    positions: range,
) -> list[Tensor]:
    """ln p of the tokens of each encoding at each position, (positions, tokens) in float64."""
    stepper = make_stepper(model)
    first, stepper.state = read_prompt(model, [EOS, *prompt, *ids[: positions.start]])
    each_logits, states = [first], [stepper.state.tensors()]
    for id in ids[positions.start : positions.stop - 1]:
        each_logits.append(stepper.step(torch.tensor([id], device=model.device)).clone())
        states.append(stepper.state.tensors())
    logits = torch.cat(each_logits)  # (positions, vocabulary)
    rows = {name: torch.cat([state[name] for state in states]) for name in states[0]}
    state = model.restore(rows)
    found = []
    for encoding in encodings:
        stepper.state = state
        steps = [_log_probs(logits)[:, encoding[0]]]
        for id, following in pairwise(encoding):
            column = torch.full((len(positions),), id, device=model.device)
            steps.append(_log_probs(stepper.step(column))[:, following])
        found.append(torch.stack(steps, 1))
    return found


def _log_probs(logits: Tensor) -> Tensor:
    return decoding.in_float64(logits).log_softmax(-1)
