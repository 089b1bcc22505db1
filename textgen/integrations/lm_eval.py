"""A checkpoint as a model of lm-evaluation-harness.

Importing this module registers it there as ``textgen``; ``python -m textgen.integrations.lm_eval``
is the command ``lm_eval`` with that model.
"""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

from textgen.config import Device, SamplingConfig, ScoringConfig, ScoringPrecision
from textgen.errors import UsageError, missing_package
from textgen.language_model import LanguageModel

try:
    from lm_eval.api.model import LM
    from lm_eval.api.registry import register_model
except ImportError as error:
    name = error.name or "lm_eval"
    raise missing_package("lm-evaluation-harness", name, "lm-eval") from error

_LENGTH = 256
"""The most tokens of a generated text where a task does not say; as in the harness's own models."""

_DECODING = ("top_k", "top_p", "min_p", "repetition_penalty", "seed")


@register_model("textgen")
class TextgenLM(LM):  # type: ignore[misc]
    """A causal model that computes what tasks of the harness ask for.

    A context and its continuation are encoded as one text, from which nothing is stripped. The
    tokens of the continuation are scored, as ``textgen score --prefix`` scores them: a token across
    its beginning is one of them. A text may have several lines; newlines are ``<EOS>`` where the
    model was trained on lines.

    >>> from lm_eval import simple_evaluate  # doctest: +SKIP
    >>> simple_evaluate(model=TextgenLM("checkpoints/mine"), tasks=["blimp"])  # doctest: +SKIP

    Args:
        checkpoint: A folder as of ``LanguageModel.load``.
        eos: Whether the ``<EOS>`` after a text is scored, if the text does not end with one; None:
            after a whole text, as in the other commands, and not after the continuation of a
            context.
        device: As elsewhere; ``cuda:0``, which the command of the harness gives unless it is told
            otherwise, is ``auto``.
        batch_size: Of the command line of the harness; it has no effect. Texts of similar length
            are read side by side, as many as memory allows.
        max_batch_size: Likewise.

    Raises:
        UsageError: The model is not causal.
    """

    def __init__(
        self,
        checkpoint: str | Path,
        *,
        eos: bool | None = None,
        device: str = "auto",
        threads: int | None = None,
        precision: ScoringPrecision = "float32",
        batch_size: object = None,
        max_batch_size: object = None,
    ) -> None:
        super().__init__()
        chosen = cast(Device, "auto" if device == "cuda:0" else device)  # checked by load
        self.model = LanguageModel.load(
            checkpoint, device=chosen, threads=threads, precision=precision
        )
        if not self.model.is_causal:
            raise UsageError(
                "tasks need probabilities",
                where=checkpoint,
                why="a bidirectional model gives pseudo-log-probabilities",
                fix="use textgen pairs, or a causal model",
            )
        self._eos = eos

    def loglikelihood(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[tuple[float, bool]]:
        """ln p of each continuation given its context, and whether greedy decoding would write it.

        Args:
            requests: Their ``args`` are (context, continuation). After an empty context a text is
                whole, and read from the start state. The harness puts a space before it even so,
                to divide it from the context; that one is left out.
        """
        pairs = [request.args for request in requests]
        texts = [(context, text) if context else text.removeprefix(" ") for context, text in pairs]
        config = ScoringConfig(level="token", documents=True, eos=self._eos)
        results = []
        for scored in self.model.scores(texts, config):
            tokens = scored.parts or ()
            greedy = all(token.rank == 1 and not token.unknown for token in tokens)
            results.append((scored.log_prob, greedy))
        self._keep("loglikelihood", pairs, results)
        return results

    def loglikelihood_rolling(
        self, requests: Sequence[Any], disable_tqdm: bool = False
    ) -> list[float]:
        """ln p of each whole text, however long, read from the start state.

        Args:
            requests: Their ``args`` are (text,).
        """
        texts = [request.args for request in requests]
        config = ScoringConfig(documents=True, eos=self._eos)
        results = [scored.log_prob for scored in self.model.scores((t for (t,) in texts), config)]
        self._keep("loglikelihood_rolling", texts, results)
        return results

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """The text after each context, up to the first of its stop strings.

        Args:
            requests: Their ``args`` are (context, options): ``until``, ``max_gen_toks``,
                ``do_sample``, ``temperature``, ``top_k``, ``top_p``, ``min_p``,
                ``repetition_penalty`` and ``seed``. Decoding is greedy unless they say otherwise.

        Raises:
            UsageError: An option is another one.
        """
        given = [request.args for request in requests]
        groups: dict[SamplingConfig, list[int]] = {}
        for place, (_, options) in enumerate(given):
            groups.setdefault(_sampling(options), []).append(place)
        results = [""] * len(given)
        for config, places in groups.items():
            samples = self.model.sample([given[place][0] for place in places], config)
            for place, sample in zip(places, samples, strict=True):
                results[place] = sample.text
        self._keep("generate_until", given, results)
        return results

    def _keep(self, method: str, given: Iterable[Any], results: Iterable[Any]) -> None:
        """Hand the results to the harness, which stores them with ``--use_cache``."""
        for arguments, result in zip(given, results, strict=True):
            self.cache_hook.add_partial(method, arguments, result)


def _sampling(given: Mapping[str, Any]) -> SamplingConfig:
    """The options of ``generate_until`` as those of textgen."""
    options = dict(given)
    until, length = options.pop("until", None) or (), options.pop("max_gen_toks", _LENGTH)
    temperature = options.pop("temperature", None)
    samples = options.pop("do_sample", None)
    if samples is None:
        samples = bool(temperature)
    if not samples:
        temperature = 0.0
    elif temperature is None:
        temperature = 1.0
    for name in options:
        if name not in _DECODING:
            known = ("until", "max_gen_toks", "do_sample", "temperature", *_DECODING)
            raise UsageError(f"no such option: {name}", fix=f"there are {', '.join(known)}")
    stop = [until] if isinstance(until, str) else until
    return SamplingConfig.from_options(
        {"stop": tuple(stop), "length": length, "temperature": temperature, **options}
    )


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
