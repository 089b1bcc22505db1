"""``textgen score --nbest``: a recogniser's hypotheses in a better order."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from textgen.cli.scoring import refuse_pseudo
from textgen.config import MixingConfig, RerankingConfig

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
    from textgen.presentation.unknowns import UnknownReport
    from textgen.studies.mixing import LogProbs, Words
    from textgen.studies.reranking import Score


def rerank(
    load: "Callable[[str], LanguageModel]",
    checkpoint: str,
    nbest: str,
    output: str,
    references: str | None,
    mix: str | None,
    *,
    read: Callable[..., Iterator[str]],
    given: dict[str, Any],
    options: dict[str, Any],
) -> "LanguageModel":
    """Write a list in its new order or, with references, the weights that suit it best.

    load: gives the model of a checkpoint. read: gives the lines of a file. given: of the
    configurations. options: of scoring. Returns the checkpoint's model.
    """
    from textgen.presentation import console, records
    from textgen.presentation import nbest as writers
    from textgen.presentation.unknowns import UnknownReport
    from textgen.studies import reranking
    from textgen.studies.mixing import mixed, sentence_sums
    from textgen.studies.nbest import read_nbest, read_references
    from textgen.studies.tuning import tune

    config, unknown, model = RerankingConfig.from_options(given), UnknownReport(), load(checkpoint)
    refuse_pseudo(model, "--nbest")
    score: Score = _sentences(model, unknown, options)
    if mix is not None:
        words = _words(model, unknown, options)
        mixing = MixingConfig.from_options(given)
        score = sentence_sums(mixed(words, _second(load, mix, options), mixing))
    utterances = read_nbest(read(nbest), nbest)
    if references is None:
        for utterance in reranking.rerank(utterances, score, config):
            writers.FORMATS[output](utterance)
    else:
        expected = read_references(read(references), references)
        tuned = tune(utterances, expected, score, config)
        if output == "json":
            records.emit_record(writers.tuning_record(tuned))
        else:
            console.show(writers.tuning_summary(tuned))
    unknown.say()
    return model


def _sentences(
    model: "LanguageModel", unknown: "UnknownReport", options: dict[str, Any]
) -> "Score":
    """ln p of each sentence."""
    return lambda texts: (each.log_prob for each in unknown.told(model.scores(texts, **options)))


def _words(model: "LanguageModel", unknown: "UnknownReport", options: dict[str, Any]) -> "Words":
    """ln p of the words that white space separates, and of the end."""
    import numpy as np

    def words(texts: Iterable[str]) -> "Iterator[LogProbs]":
        for scored in unknown.told(model.scores(texts, **options, level="word")):
            yield np.array([part.log_prob for part in scored.parts or ()])

    return words


def _second(load: "Callable[[str], LanguageModel]", mix: str, options: dict[str, Any]) -> "Words":
    """The same of another checkpoint, or of an n-gram model."""
    from textgen.presentation.unknowns import UnknownReport
    from textgen.studies.ngrams import NgramModel

    if Path(mix).is_file():
        return NgramModel(mix).words
    second = load(mix)
    refuse_pseudo(second, "--mix")
    return _words(second, UnknownReport(), options)
