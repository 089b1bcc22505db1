"""A text that a person and a model write together, turn by turn."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from textgen.config import SamplingConfig
from textgen.errors import UsageError
from textgen.language_model import LanguageModel
from textgen.results import Choice, Prediction, Sample
from textgen.tokenizers.base import EOS


@dataclass(frozen=True)
class Turn:
    """A piece of the text. sample: as the model wrote it; None: it is the person's."""

    text: str
    sample: Sample | None = None


class Session:
    """The text so far, as the turns that made it."""

    def __init__(self, model: LanguageModel, **options: Any) -> None:
        """options: the fields of SamplingConfig; ``length`` is that of each turn."""
        from textgen.sampling.writer import check_generates

        check_generates(model.model)
        self._model, self._terminator = model, model.tokenizer.terminator
        self.config = SamplingConfig.from_options(options)
        if self.config.beams is not None:
            raise UsageError("--beams cannot write as one watches", fix="leave it out")
        self.turns: list[Turn] = []
        self._written = 0  # turns of the model's, those taken back counted: each has its own seed

    @property
    def text(self) -> str:
        return "".join(turn.text for turn in self.turns)

    def set(self, **options: Any) -> None:
        """Change how the model writes from now on. Raises UsageError, and changes nothing."""
        changed = SamplingConfig.from_options({**self.config.to_json(), **options})
        self.config = replace(changed, count=1)

    def add(self, text: str) -> None:
        """A turn of the person's."""
        if text:
            self.turns.append(Turn(text))

    def write(self, on_text: Callable[[str], None]) -> Sample:
        """A turn of the model's; what it has written is kept though it is interrupted."""
        pieces: list[str] = []

        def hear(index: int, prompt: str, piece: str) -> None:
            pieces.append(piece)
            on_text(piece)

        options = self.config.to_json() | {"seed": (self.config.seed + self._written) % 2**63}
        self._written += 1
        try:
            (sample,) = self._model.samples(self.text, on_text=hear, **options)
        except KeyboardInterrupt:
            self.add("".join(pieces))
            raise
        # The <EOS> or the stop string that ended it is part of what was said.
        end = self._terminator if sample.finish_reason == "eos" else sample.stop or ""
        self.turns.append(Turn(sample.text + end, sample))
        return sample

    def take_back(self) -> Turn | None:
        """Forget the last turn; None: there is none."""
        return self.turns.pop() if self.turns else None

    def choose(self, choice: Choice) -> None:
        """A turn of the person's: what was predicted."""
        self.add(self._terminator if choice.id == EOS else choice.text)

    def predict(self, most: int) -> Prediction:
        """The likeliest words to go on with."""
        return self._model.predict(self.text, words=most)
