"""The Python face: a model and its tokenizer, loaded, that writes text and scores it."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, overload

from textgen import checkpoint
from textgen.config import Device, SamplingConfig, ScoringConfig, check_options, check_whole
from textgen.errors import ResourceError, UsageError
from textgen.results import Prediction, Sample, SentenceScore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    import torch

    from textgen.data.lines import Item
    from textgen.models import Model
    from textgen.scoring.scorer import MakeReader, Skipped
    from textgen.tokenizers.base import Tokenizer


_MOST_JOBS = 1024
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

        from textgen.models.device import choose_device, use_threads

        use_threads(threads)
        chosen = choose_device(device)
        loaded = checkpoint.load(Path(path))
        dtypes = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.bfloat16}
        if precision not in dtypes:
            raise UsageError(f"--precision must be one of {', '.join(dtypes)}, got {precision!r}")
        loaded.model.to(device=chosen, dtype=dtypes[precision])
        return cls(loaded, (f"reading {loaded.folder}",))

    @property
    def is_causal(self) -> bool:
        """Whether it tells what comes next; else it fills blanks, and its scores are pseudo."""
        return self.model.is_causal

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

        In a prompt with a blank, ``____``, it is what stands there, given what is on both sides;
        a model that reads both ways can tell nothing else. words: give that many of the likeliest
        words to come instead, however many tokens each has.
        """
        from textgen.sampling.prediction import fill, has_blank, next_tokens, next_words

        if words is not None and not self.is_causal:
            raise UsageError(
                "--words is of models that write from left to right",
                fix="leave it out: a blank is filled by one token",
            )
        if not self.is_causal or (words is None and has_blank(prompt)):
            return fill(self.model, self.tokenizer, prompt)
        if words is None:
            return next_tokens(self.model, self.tokenizer, prompt)
        if words < 1:
            raise UsageError(f"at least one word must be asked for, got {words}")
        return next_words(self.model, self.tokenizer, prompt, words)

    @overload
    def score(self, text: str, **options: Any) -> SentenceScore: ...

    @overload
    def score(self, text: Iterable[str], **options: Any) -> list[SentenceScore]: ...

    def score(
        self, text: str | Iterable[str], **options: Any
    ) -> SentenceScore | list[SentenceScore]:
        """How probable a sentence is, or each of several.

        The options are the fields of ScoringConfig.
        """
        if isinstance(text, str):
            (only,) = self.scores([text], **options)
            return only
        return list(self.scores(text, **options))

    def scores(
        self,
        texts: Iterable[Item],
        *,
        jobs: int = 1,
        on_skip: Callable[[Skipped], None] | None = None,
        reader: MakeReader | None = None,
        **options: Any,
    ) -> Iterator[SentenceScore]:
        """As ``score`` for any number of sentences, read and given one after another.

        texts: sentences, or (prefix, continuation) each. jobs: how many processes share the
        work; the texts are then taken in a thread. on_skip: called with each text that is left
        out, in its place. reader: makes what reads the texts, if that is neither of the contexts.
        """
        check_options(options, ScoringConfig)
        config = ScoringConfig.from_options(options)
        check_whole("jobs", jobs, 1, _MOST_JOBS)
        import torch

        from textgen.scoring.jobs import groups, scores_of_jobs
        from textgen.scoring.scorer import Scorer, kept

        given = groups(texts, config.prefix)
        if jobs == 1:
            scorer = Scorer(self.model, self.tokenizer, config, reader)
            return kept(scorer.scores(given), on_skip)
        threads = max(1, torch.get_num_threads() // jobs)
        load = partial(
            _load_again, self.path, self.header, self.model.device, self.model.dtype, threads
        )
        return kept(scores_of_jobs(load, config, given, jobs), on_skip)


def _load_again(
    path: Path,
    header: checkpoint.Header,
    device: torch.device,
    dtype: torch.dtype,
    threads: int,
    number: int,
) -> tuple[Model, Tokenizer]:
    """The same model, for the process of this number; each has a GPU of its own, if it can."""
    from textgen.models.device import beside, use_threads

    use_threads(threads)
    loaded = checkpoint.load(path)
    if loaded.header != header:
        raise ResourceError("changed while it was read", where=path, fix="run it again")
    loaded.model.to(device=beside(device, number), dtype=dtype)
    return loaded.model, loaded.tokenizer
