"""``textgen rerank``: the hypotheses of a recognizer in a better order."""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    JobsOption,
    PrecisionOption,
    TextFiles,
    ThreadsOption,
    choice_option,
    command_options,
    optional,
    refuse_pseudo,
)
from textgen.config import ScoringConfig
from textgen.studies.rerank.config import MixingConfig, NbestFormat, RerankingConfig

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel
    from textgen.presentation.tables import UnknownReport
    from textgen.studies.rerank.mixing import LogProbs, Score, Words

EXAMPLES = """
    Reorder a recognizer's hypotheses, the best of each utterance first:
    textgen rerank checkpoints/mine nbest.txt --weight 0.4
    Find the weights with the fewest word errors:
    textgen rerank checkpoints/mine nbest.txt --tune references.txt
"""

ListArgument = Annotated[
    str,
    typer.Argument(
        metavar="LIST",
        help="N-best list: lines of 'id hypothesis', or of id, acoustic score, language model"
        " score and hypothesis between tabs; - reads stdin.",
    ),
]
TuneOption = Annotated[
    str | None,
    optional(
        "--tune",
        "REFERENCES",
        "Find the weights with the fewest word errors against lines of 'id words'.",
    ),
]
MixOption = Annotated[
    str | None,
    optional(
        "--mix", "MODEL", "Another checkpoint, or an ARPA or KenLM file, to mix in word by word."
    ),
]
FormatOption = Annotated[
    NbestFormat, choice_option("--format", NbestFormat, "How to show the reordered list.")
]


@command_options(RerankingConfig, MixingConfig, extra={ScoringConfig: ("open_vocabulary",)})
def rerank(
    *,
    checkpoint: Checkpoint,
    nbest: ListArgument,
    tune: TuneOption = None,
    mix: MixOption = None,
    given: dict[str, Any],
    output: FormatOption = "nbest",
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Rerank the hypotheses of n-best lists.

    The score of a hypothesis combines its acoustic score, its old language model score and the
    log-probability under this model. With --tune the weights of the three are found on a list
    with references, and shown.
    """
    from textgen.language_model import LanguageModel
    from textgen.presentation import console, records
    from textgen.presentation.tables import UnknownReport
    from textgen.studies.rerank import mixing as reranking
    from textgen.studies.rerank import view
    from textgen.studies.rerank.mixing import mixed, sentence_sums
    from textgen.studies.rerank.nbest import read_nbest, read_references
    from textgen.studies.rerank.tuning import tune as tuned_weights

    files = TextFiles(encoding, errors)
    load = partial(LanguageModel.load, device=device, threads=threads, precision=precision)
    config, unknown, model = RerankingConfig.from_options(given), UnknownReport(), load(checkpoint)
    refuse_pseudo(model, "rerank")
    options = {"jobs": jobs, "open_vocabulary": given.get("open_vocabulary", False)}
    score: Score = _sentences(model, unknown, options)
    if mix is not None:
        words = _words(model, unknown, options)
        mixing = MixingConfig.from_options(given)
        score = sentence_sums(mixed(words, _second(load, mix, options), mixing))
    utterances = read_nbest(files.read(nbest), nbest)
    if tune is None:
        for utterance in reranking.rerank(utterances, score, config):
            view.FORMATS[output](utterance)
    else:
        result = tuned_weights(utterances, read_references(files.read(tune), tune), score, config)
        if output == "json":
            records.emit_record(view.tuning_record(result))
        else:
            console.show(view.tuning_summary(result))
    unknown.say()
    files.say_notes(model)


def _sentences(
    model: "LanguageModel", unknown: "UnknownReport", options: dict[str, Any]
) -> "Score":
    """The log-probability of each sentence."""
    return lambda texts: (each.log_prob for each in unknown.counted(model.scores(texts, **options)))


def _words(model: "LanguageModel", unknown: "UnknownReport", options: dict[str, Any]) -> "Words":
    """The log-probabilities of the words between white space, and of the end of the sentence."""
    import numpy as np

    def words(texts: Iterable[str]) -> "Iterator[LogProbs]":
        for scored in unknown.counted(model.scores(texts, **options, level="word")):
            yield np.array([part.log_prob for part in scored.parts or ()])

    return words


def _second(load: "Callable[[str], LanguageModel]", mix: str, options: dict[str, Any]) -> "Words":
    """The same of another checkpoint, or of an n-gram model."""
    from textgen.presentation.tables import UnknownReport
    from textgen.studies.rerank.mixing import NgramModel

    if Path(mix).is_file():
        return NgramModel(mix).words
    second = load(mix)
    refuse_pseudo(second, "--mix")
    return _words(second, UnknownReport(), options)
