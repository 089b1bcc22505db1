"""The Python API: a trained model with its tokenizer, to sample, predict and score with."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack, cast, overload

import numpy as np
import numpy.typing as npt

from textgen import checkpoint
from textgen.config import (
    KINDS,
    Config,
    Device,
    LayersConfig,
    SamplingConfig,
    ScoringConfig,
    ScoringPrecision,
    check_arguments,
    check_options,
    check_whole,
)
from textgen.config.keywords import SamplingOptions, ScoringOptions
from textgen.data.lines import joined_word
from textgen.errors import ResourceError, TextgenWarning, UsageError, not_both
from textgen.results import Prediction, Sample, SentenceScore, SentenceScores

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import torch

    from textgen.data.lines import Item
    from textgen.models import Model
    from textgen.models.base import HiddenStates
    from textgen.sampling.text import Accept, OnText
    from textgen.scoring.scorer import MakeReader, Skipped
    from textgen.tokenizers.base import Tokenizer

    Floats = npt.NDArray[np.floating[Any]]

_MOST_JOBS = 1024
AnyConfig = TypeVar("AnyConfig", bound=Config)
AnyItem = TypeVar("AnyItem")


class LanguageModel:
    """A trained model and its tokenizer.

    Sampling and scoring take a configuration, or its fields as keywords.

    >>> model = LanguageModel.load("checkpoints/shakespeare")  # doctest: +SKIP
    >>> model.sample("ROMEO:", length=200, temperature=0.8)[0].text  # doctest: +SKIP
    >>> model.score("To be, or not to be").bits_per_character  # doctest: +SKIP

    Attributes:
        path: The checkpoint folder that was read.
        name: ``best``, ``last`` or that of one kept on the way, ``at/5M``.
        notes: Messages for the user.
    """

    def __init__(self, loaded: checkpoint.Checkpoint, notes: tuple[str, ...] = ()) -> None:
        self.path, self.name, self.notes = loaded.folder, loaded.name, notes
        self.header = loaded.header
        self.tokenizer = loaded.tokenizer
        self.model = loaded.model.eval()

    @classmethod
    def load(
        cls,
        path: str | Path,
        *,
        device: Device = "auto",
        threads: int | None = None,
        precision: ScoringPrecision = "float32",
    ) -> LanguageModel:
        """Load a checkpoint: ``best`` of a run folder, else ``last``, or the folder itself.

        Args:
            precision: Of all arithmetic; logits become float32 or wider before any sum.

        Raises:
            ResourceError: There is no checkpoint.
            CheckpointError: It is damaged.
        """
        check_arguments(LanguageModel.load, locals())
        import torch

        from textgen.models.device import choose_device, use_threads

        use_threads(threads)
        chosen = choose_device(device)
        loaded = checkpoint.load(Path(path))
        dtypes = {"float32": torch.float32, "float64": torch.float64, "bf16": torch.bfloat16}
        loaded.model.to(device=chosen, dtype=dtypes[precision])
        is_last_of_run = loaded.name == checkpoint.LAST and loaded.folder.parent == Path(path)
        why = f"reading {loaded.folder}: there is no {checkpoint.BEST} checkpoint yet"
        return cls(loaded, (why,) if is_last_of_run else ())

    def __repr__(self) -> str:
        header = self.header
        model = f"{header.model.description}, {header.parameters:,} parameters"
        return f"<LanguageModel {str(self.path)!r}: {model}>"

    @property
    def is_causal(self) -> bool:
        """Whether it predicts the next token; otherwise its scores are pseudo-log-probabilities."""
        return self.model.is_causal

    def encode(self, text: str) -> npt.NDArray[np.uint32]:
        """The ids of a text, (tokens,) uint32; each end of a sentence in it is ``<EOS>``, 1."""
        check_arguments(LanguageModel.encode, locals())
        return self.tokenizer.encode(text)

    def decode(self, ids: Sequence[int] | npt.NDArray[np.integer[Any]]) -> str:
        """The text of ids (tokens,). ``<EOS>`` is the end of a sentence, ``<UNK>`` is ``<UNK>``.

        Raises:
            UsageError: They are not a sequence of whole numbers, or one is not in the vocabulary.
        """
        try:
            given = np.asarray(ids)
        except (ValueError, OverflowError):  # a ragged list, or a number of more than 64 bits
            given = np.empty((0, 0))
        size = self.tokenizer.vocabulary_size
        if given.ndim != 1 or (len(given) and given.dtype.kind not in "iu"):
            raise UsageError(f"ids must be whole numbers in one dimension, got {ids!r:.80}")
        wrong = given[(given < 0) | (given >= size)]
        if len(wrong):
            raise UsageError(f"the vocabulary has the ids 0 to {size - 1}, not {int(wrong[0])}")
        return self.tokenizer.decode(given)

    @overload
    def logits(self, texts: str) -> Floats: ...  # type: ignore[overload-overlap]

    @overload
    def logits(self, texts: Iterable[str]) -> list[Floats]: ...

    def logits(self, texts: str | Iterable[str]) -> Floats | list[Floats]:
        """The logits of a text from the start state, or of each of several.

        Returns:
            (tokens + 1, vocabulary) float32, or float64 in that precision; a list of them where
            several texts are given, because their lengths differ. Row t has the logits of token t
            of ``encode(text)``, given ``<EOS>`` and the tokens before it; the last row those of
            what comes after the text. So ``log_softmax(row[t])[id]`` of the ids and of ``<EOS>``
            sum to the log-probability that ``score`` gives. Of a bidirectional model each is
            given all others.
        """
        return self._of_texts(texts, lambda hidden: self.model.logits(hidden))

    @overload
    def hidden_states(self, texts: str) -> Floats: ...  # type: ignore[overload-overlap]

    @overload
    def hidden_states(self, texts: Iterable[str]) -> list[Floats]: ...

    def hidden_states(self, texts: str | Iterable[str]) -> Floats | list[Floats]:
        """The output of the last layer for a text from the start state, or for each of several.

        Returns:
            (tokens + 1, units), of which ``logits`` has the rows; of a mixture the LSTM's.

        Raises:
            UsageError: The model has no layers of units.
        """
        if not isinstance(self.header.model, LayersConfig):
            kinds = ", ".join(name for name, kind in KINDS.items() if "hidden_size" in kind.options)
            raise UsageError(
                f"a model of kind {self.header.model.model} has no hidden states",
                why=f"it has no layers of units, as {kinds} have",
            )
        # Those of a mixture are its LSTM's, beside the contexts of the n-grams.
        return self._of_texts(texts, lambda hidden: cast(Any, getattr(hidden, "hidden", hidden)))

    def _of_texts(
        self, texts: str | Iterable[str], read: Callable[[HiddenStates], torch.Tensor]
    ) -> Floats | list[Floats]:
        """What is read from the hidden states (time, 1, ...) of each text, without the batch."""
        import torch

        from textgen.tokenizers.base import EOS

        def of(text: object) -> Floats:
            if not isinstance(text, str):
                raise UsageError(f"a text must be text, got {text!r:.80}")
            ids = torch.tensor([EOS, *self.encode(text).tolist(), EOS], device=self.model.device)
            before, after = ids[:-1].unsqueeze(1), ids[1:].unsqueeze(1)
            start = self.model.start(1)
            with torch.inference_mode():
                hidden, _ = self.model.hidden_states_in_context(before, after, start)
                values = read(hidden)[:, 0].cpu()
            wide = values if values.dtype == torch.float64 else values.float()
            found: Floats = wide.numpy()
            return found

        return (
            of(texts) if isinstance(texts, str) else [of(each) for each in _several("texts", texts)]
        )

    def sample(
        self,
        prompts: str | Iterable[str] = "",
        config: SamplingConfig | None = None,
        *,
        on_text: OnText | None = None,
        **options: Unpack[SamplingOptions],
    ) -> list[Sample]:
        """Generate the samples of a prompt, or of several, in order; see ``samples``."""
        samples = self.samples(prompts, config, on_text=on_text, **options)
        return sorted(samples, key=lambda sample: sample.index)

    def samples(
        self,
        prompts: str | Iterable[str] = "",
        config: SamplingConfig | None = None,
        *,
        on_text: OnText | None = None,
        accept: Accept | None = None,
        **options: Unpack[SamplingOptions],
    ) -> Iterator[Sample]:
        """Generate samples, each as soon as it is finished.

        Args:
            on_text: Called with (index, prompt, piece) as text is generated, sample by sample.
            accept: A sample that it rejects is drawn again.
            options: The fields of ``SamplingConfig``.
        """
        _check_functions(on_text=on_text, accept=accept)
        from textgen.sampling.text import TextGenerator

        given = [prompts] if isinstance(prompts, str) else list(_several("prompts", prompts))
        for prompt in given:
            if not isinstance(prompt, str):
                raise UsageError(f"a prompt must be text, got {prompt!r}")
        generator = TextGenerator(
            self.model, self.tokenizer, _configuration(SamplingConfig, config, options)
        )
        return generator.generate(given, on_text, accept)

    def score_sample(self, sample: Sample) -> float | None:
        """The ln p that ``score`` gives for the text of a sample as the continuation of its prompt.

        It differs from ``sample.log_prob`` where the sampler drew other tokens than the tokenizer
        encodes the text to, as can happen with subwords.

        Returns:
            None if something in it is unknown to the model, or it has no text of whole characters.
        """
        from textgen.scoring.scorer import sample_log_prob

        return sample_log_prob(self.model, self.tokenizer, sample)

    def predict(self, prompt: str = "", *, words: int | None = None) -> Prediction:
        """Every token that can come after a prompt, or stand in its blank, the most probable first.

        Args:
            prompt: With a blank, ``____``, it is a sentence to complete. A bidirectional model
                needs one.
            words: Predict this many of the most probable words instead, of any number of tokens.
        """
        check_arguments(LanguageModel.predict, locals())
        from textgen.sampling.prediction import fill, has_blank, next_tokens, next_words

        if words is not None and not self.is_causal:
            raise UsageError(
                "--words needs a causal model", fix="leave it out: a blank is filled by one token"
            )
        if not self.is_causal or (words is None and has_blank(prompt)):
            return fill(self.model, self.tokenizer, prompt)
        if words is not None and words < 1:
            raise UsageError(f"words must be at least 1, got {words}")
        level = self.tokenizer.level
        if words is None:
            predicted = next_tokens(self.model, self.tokenizer, prompt)
        else:
            predicted = next_words(self.model, self.tokenizer, prompt, words)
        # A token of a word model is a word; one of a character model goes on as it may.
        if level == "subword" or (level == "char" and words is not None):
            _warn_if_continued(prompt, predicted)
        return predicted

    @overload
    def score(  # type: ignore[overload-overlap]  # text is an iterable of texts, too
        self, text: str, config: ScoringConfig | None = None, **options: Unpack[ScoringOptions]
    ) -> SentenceScore: ...

    @overload
    def score(
        self,
        text: Iterable[str],
        config: ScoringConfig | None = None,
        **options: Unpack[ScoringOptions],
    ) -> SentenceScores: ...

    def score(
        self,
        text: str | Iterable[str],
        config: ScoringConfig | None = None,
        **options: Unpack[ScoringOptions],
    ) -> SentenceScore | SentenceScores:
        """The score of a sentence, or of each of several; see ``scores``."""
        if isinstance(text, str):
            (only,) = self.scores([text], config, **options)
            return only
        return SentenceScores(self.scores(text, config, **options))

    def scores(
        self,
        texts: Iterable[Item],
        config: ScoringConfig | None = None,
        *,
        jobs: int = 1,
        on_skip: Callable[[Skipped], None] | None = None,
        reader: MakeReader | None = None,
        **options: Unpack[ScoringOptions],
    ) -> Iterator[SentenceScore]:
        """Score sentences, any number of them, in order and lazily.

        Args:
            texts: Sentences, or pairs of a prefix and its continuation.
            jobs: The number of processes; the texts are then read in a thread.
            on_skip: Called with each text that is skipped, in its place.
            reader: Makes the reader of the texts, instead of that for ``context``.
            options: The fields of ``ScoringConfig``.
        """
        config = _configuration(ScoringConfig, config, options)
        check_whole("jobs", jobs, 1, _MOST_JOBS)
        _check_functions(on_skip=on_skip, reader=reader)
        import torch

        from textgen.scoring.jobs import groups, scores_of_jobs
        from textgen.scoring.scorer import Scorer

        given = groups(_several("texts", texts), config.prefix)
        if jobs == 1:
            results = Scorer(self.model, self.tokenizer, config, reader).scores(given)
        else:
            threads = max(1, torch.get_num_threads() // jobs)
            load = partial(
                _load_again, self.path, self.header, self.model.device, self.model.dtype, threads
            )
            results = scores_of_jobs(load, config, given, jobs)
        scores = _checked(results, on_skip)
        if config.level == "word" and config.alternatives and reader is None:
            from textgen.scoring.words import WordSearch

            return WordSearch(self.model, self.tokenizer, config).scores(scores)
        return scores


def _check_functions(**functions: object) -> None:
    for name, function in functions.items():
        if function is not None and not callable(function):
            raise UsageError(f"{name} must be a function, got {function!r}")


def _several(name: str, given: Iterable[AnyItem]) -> Iterable[AnyItem]:
    """The texts that were given, refused where they are none or a single one."""
    if isinstance(given, str | bytes) or not isinstance(given, Iterable):
        raise UsageError(f"{name} must be text or several texts, got {given!r}")
    return given


def _configuration(
    cls: type[AnyConfig], config: AnyConfig | None, options: Mapping[str, Any]
) -> AnyConfig:
    """The configuration, or one made of the options. Raises UsageError if both are given."""
    check_options(options, cls)
    if config is None:
        return cls.from_options(options)
    if not isinstance(config, cls):
        raise UsageError(f"the configuration must be a {cls.__name__}, got {config!r}")
    if options:
        fix = "make it part of the configuration"
        raise not_both(next(iter(options)), "a configuration", fix=fix)
    return config


def _warn_if_continued(prompt: str, predicted: Prediction) -> None:
    """Warn if a predicted word, or the likeliest token, continues the last word of the prompt."""
    choices = predicted.choices if predicted.of == "word" else predicted.choices[:1]
    words = (joined_word(prompt, choice.text) for choice in choices)
    word = next(filter(None, words), None)
    if word is not None:
        warnings.warn(
            f"what is predicted may continue the last word of the text, as in {word!r}; end the"
            " text with a space to predict the word after it",
            TextgenWarning,
            stacklevel=3,
        )


def _checked(
    results: Iterable[SentenceScore | Skipped], on_skip: Callable[[Skipped], None] | None
) -> Iterator[SentenceScore]:
    """The scores, without what was skipped; warns of the first that lacks a space."""
    warned = False
    for result in results:
        if not isinstance(result, SentenceScore):
            if on_skip is not None:
                on_skip(result)
            continue
        word = None if warned else joined_word(result.prefix or "", result.text)
        if word is not None:
            warned = True
            warnings.warn(
                f"line {result.line}: the prefix and its continuation are scored as one word,"
                f" {word!r}; if they are two, begin the second or end the first with a space",
                TextgenWarning,
                stacklevel=2,
            )
        yield result


def _load_again(
    path: Path,
    header: checkpoint.Header,
    device: torch.device,
    dtype: torch.dtype,
    threads: int,
    number: int,
) -> tuple[Model, Tokenizer]:
    """The same model in another process, on a GPU chosen by the number if there are several."""
    from textgen.models.device import device_of_process, use_threads

    use_threads(threads)
    loaded = checkpoint.load(path)
    if loaded.header != header:
        raise ResourceError("changed while it was read", where=path, fix="run it again")
    loaded.model.to(device=device_of_process(device, number), dtype=dtype)
    return loaded.model, loaded.tokenizer
