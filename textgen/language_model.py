"""The Python face: a model and its tokenizer, loaded, that writes text and scores it."""

from __future__ import annotations

from itertools import tee
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from textgen import checkpoint
from textgen.config import UNIT_TERMINATORS, Context, Device, SamplingConfig, check_options
from textgen.errors import UsageError
from textgen.results import Prediction, Sample, SentenceScore
from textgen.tokenizers.base import EOS

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from textgen.batching import IdArray

ScoringPrecision = Literal["float32", "float64", "bf16"]


class LanguageModel:
    """A trained model and its tokenizer.

    >>> model = LanguageModel.load("checkpoints/shakespeare")  # doctest: +SKIP
    >>> model.sample("ROMEO:", length=200, temperature=0.8)[0].text  # doctest: +SKIP
    >>> model.score("To be, or not to be").bits_per_character  # doctest: +SKIP

    path: the checkpoint folder that was read. name: ``best`` or ``last``. notes: what a
    person should be told once.
    """

    def __init__(self, loaded: checkpoint.Checkpoint, notes: tuple[str, ...] = ()) -> None:
        self.path, self.name, self.notes = loaded.folder, loaded.name, notes
        self.header = loaded.header
        self.tokenizer = loaded.tokenizer
        self.model = loaded.model

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: Device = "auto",
        threads: int | None = None,
        precision: ScoringPrecision = "float32",
    ) -> LanguageModel:
        """Read ``best``, else ``last``, of a run's folder, or one of the two itself.

        precision: of all arithmetic afterwards; logits become float32 or wider before any sum.
        Raises ResourceError where there is none, CheckpointError where it is damaged.
        """
        import torch

        from textgen.models.placement import choose_device, use_threads

        use_threads(threads)
        chosen = choose_device(device)
        loaded = checkpoint.load(Path(path))
        dtypes = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.bfloat16}
        if precision not in dtypes:
            raise UsageError(f"--precision must be one of {', '.join(dtypes)}, got {precision!r}")
        loaded.model.to(device=chosen, dtype=dtypes[precision])
        return cls(loaded, (f"reading {loaded.folder}",))

    def sample(
        self,
        prompts: str | Iterable[str] = "",
        *,
        on_text: Callable[[int, str, str], None] | None = None,
        **options: Any,
    ) -> list[Sample]:
        """Write texts that go on from a prompt, or from each of several, in their order.

        The options are the fields of SamplingConfig.
        """
        written = self.samples(prompts, on_text=on_text, **options)
        return sorted(written, key=lambda sample: sample.index)

    def samples(
        self,
        prompts: str | Iterable[str] = "",
        *,
        on_text: Callable[[int, str, str], None] | None = None,
        accept: Callable[[Sample], bool] | None = None,
        **options: Any,
    ) -> Iterator[Sample]:
        """As ``sample``, each text as soon as it is finished.

        on_text: called with (index, prompt, piece) as the text is written, one after another.
        accept: a sample that it refuses is drawn again.
        """
        check_options(options, SamplingConfig)
        config = SamplingConfig.from_options(options)
        given = [prompts] if isinstance(prompts, str) else prompts
        from textgen.sampling.writer import Writer

        return Writer(self.model, self.tokenizer, config).write(given, on_text, accept)

    def predict(self, prompt: str = "", *, words: int | None = None) -> Prediction:
        """What comes after a prompt: every token with its probability, the likeliest first.

        words: give that many of the likeliest words instead, however many tokens each has.
        """
        from textgen.sampling.prediction import next_tokens, next_words

        if words is None:
            return next_tokens(self.model, self.tokenizer, prompt)
        if words < 1:
            raise UsageError(f"at least one word must be asked for, got {words}")
        return next_words(self.model, self.tokenizer, prompt, words)

    @overload
    def score(  # type: ignore[overload-overlap]  # a str is an Iterable[str] too
        self, text: str, *, context: Context = "sentence", tokens: bool = False
    ) -> SentenceScore: ...

    @overload
    def score(
        self, text: Iterable[str], *, context: Context = "sentence", tokens: bool = False
    ) -> list[SentenceScore]: ...

    def score(
        self, text: str | Iterable[str], *, context: Context = "sentence", tokens: bool = False
    ) -> SentenceScore | list[SentenceScore]:
        """How probable a sentence is, or each of several.

        context: ``sentence`` scores each from the start state, ``document`` carries the state
        from each to the next. tokens: give every token's own score too.
        """
        if isinstance(text, str):
            return next(self.scores([text], context=context, tokens=tokens))
        return list(self.scores(text, context=context, tokens=tokens))

    def scores(
        self, sentences: Iterable[str], *, context: Context = "sentence", tokens: bool = False
    ) -> Iterator[SentenceScore]:
        """As ``score`` for any number of sentences, read and given one after another."""
        from textgen.scoring import scorer, units

        if context not in ("sentence", "document"):
            raise UsageError(f"--context must be sentence or document, got {context!r}")
        read = {
            "sentence": scorer.sentence_log_probs,
            "document": scorer.document_log_probs,
        }[context]
        texts, to_encode = tee(sentences)
        ids, to_score = tee(self._sentence_ids(text) for text in to_encode)
        terminator = len(UNIT_TERMINATORS[self.tokenizer.config.unit])
        everything = zip(texts, ids, read(self.model, to_score), strict=True)
        for line, (text, sentence, log_probs) in enumerate(everything, start=1):
            yield units.sentence_score(
                line,
                text,
                sentence,
                log_probs,
                characters=len(text) + terminator,
                token=self.tokenizer.token if tokens else None,
            )

    def _sentence_ids(self, text: str) -> IdArray:
        """The ids of one sentence, its ``<EOS>`` at the end."""
        import numpy as np

        if self.tokenizer.terminator and self.tokenizer.terminator in text:
            raise UsageError(
                f"not one sentence: {text[:40]!r}",
                why=f"with --unit {self.tokenizer.config.unit} it ends at the newline in it",
                fix="give its parts one by one, or in a file",
            )
        return np.append(self.tokenizer.encode(text), np.uint32(EOS))
