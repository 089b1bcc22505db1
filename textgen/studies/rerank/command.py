"""``textgen rerank``: the hypotheses of a speech recognizer in a better order."""

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType

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
    refuse_pseudo,
    say_notes,
    value_option,
)
from textgen.config import ScoringConfig, flag
from textgen.presentation.console import emit, show
from textgen.presentation.formats import UnknownReport
from textgen.presentation.numbers import count, share
from textgen.presentation.records import emit_record
from textgen.presentation.tables import facts, next_commands, quoted, section
from textgen.results import SentenceScore
from textgen.studies.rerank.config import MixingConfig, RerankingConfig
from textgen.studies.rerank.nbest import read_nbest, read_references

if TYPE_CHECKING:
    from textgen.studies.rerank.reranking import RankedUtterance, Score
    from textgen.studies.rerank.tuning import TuningResult

EXAMPLES = """
    Reorder a recognizer's hypotheses, the best of each utterance first:
    textgen rerank checkpoints/mine nbest.txt --weight 0.4
    Find the weights with the fewest word errors:
    textgen rerank checkpoints/mine nbest.txt --tune references.txt
"""


def nbest_lines(utterance: "RankedUtterance") -> Iterator[str]:
    """The list in its new order, in the columns of the input.

    The language model's column has the models' score together, so that acoustic + lm_scale *
    lm + length_penalty * words is the total; a list with one score has the total in its place.
    """
    for each in utterance.hypotheses:
        id, text, acoustic = each.hypothesis.id, each.hypothesis.text, each.hypothesis.acoustic
        if acoustic is None:
            yield f"{id} {text}".rstrip(" ")
        elif each.hypothesis.old_lm is None:
            yield f"{id}\t{each.total!r}\t{text}"
        else:
            yield f"{id}\t{acoustic!r}\t{each.lm!r}\t{text}"


LINES: Mapping[str, Callable[["RankedUtterance"], Iterable[str]]] = {
    "nbest": nbest_lines,
    "1best": lambda each: [f"{each.id} {each.hypotheses[0].hypothesis.text}".rstrip(" ")],
    "transcripts": lambda each: [each.hypotheses[0].hypothesis.text],
}


def utterance_record(utterance: "RankedUtterance") -> dict[str, Any]:
    hypotheses = [
        {
            **dataclasses.asdict(each.hypothesis),
            "log_prob": each.log_prob,
            "lm": each.lm,
            "words": each.hypothesis.words,
            "total": each.total,
        }
        for each in utterance.hypotheses
    ]
    return {"utterance": utterance.id, "hypotheses": hypotheses}


def tuning_record(result: "TuningResult") -> dict[str, Any]:
    record = dataclasses.asdict(result)
    return {"tuning": record.pop("weights") | record}


def tuning_summary(result: "TuningResult", *given: str) -> tuple[RenderableType, ...]:
    """The weights found, the errors before and after, and the command that applies them.

    given: the arguments and options of that command besides the weights.
    """
    weights = dataclasses.asdict(result.weights)
    words = f"of {count(result.words)} words in {count(result.utterances)} utterances"
    tuned = facts(
        [
            *((name.replace("_", " "), f"{value:g}") for name, value in weights.items()),
            ("word errors", f"{share(result.wer_after)}, before {share(result.wer_before)}"),
            ("", words),
        ]
    )
    found = [f"{flag(name)} {value!r}" for name, value in weights.items()]
    return section("Tuned", tuned), next_commands(" ".join(("rerank", *given, *found)))


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
    value_option(
        "--tune",
        "REFERENCES",
        "Find the weights with the fewest word errors against lines of 'id words'.",
    ),
]
MixOption = Annotated[
    str | None,
    value_option(
        "--mix",
        "MODEL",
        "Another checkpoint, or an ARPA or KenLM file, to interpolate word by word.",
    ),
]
FormatOption = Annotated[
    str, choice_option("--format", (*LINES, "json"), "How to show the reordered list.")
]


@command_options
def rerank(
    *,
    checkpoint: Checkpoint,
    nbest: ListArgument,
    tune: TuneOption = None,
    mix: MixOption = None,
    weights: RerankingConfig,
    mixing: MixingConfig,
    config: Annotated[ScoringConfig, "open_vocabulary"],
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
    log-probability under this model. With --tune the weights of the three are fitted to a
    list with references, and shown.
    """
    from textgen.language_model import LanguageModel
    from textgen.studies.rerank import reranking, tuning

    files, unknown = TextFiles(encoding, errors), UnknownReport()
    load = partial(LanguageModel.load, device=device, threads=threads, precision=precision)
    model = load(checkpoint)
    refuse_pseudo(model, "rerank")

    def scores(texts: Iterable[str], config: ScoringConfig) -> Iterator[SentenceScore]:
        return unknown.counted(model.scores(texts, config, jobs=jobs))

    def sentences(texts: Iterable[str]) -> Iterator[float]:
        return (each.log_prob for each in scores(texts, config))

    score: Score = sentences
    if mix is not None:
        by_word = dataclasses.replace(config, level="word")
        if Path(mix).is_file():
            second = reranking.ngram_words(mix)
        else:
            other = load(mix)
            refuse_pseudo(other, "--mix")
            say_notes(other)
            second = reranking.word_log_probs(partial(other.scores, config=by_word, jobs=jobs))
        first = reranking.word_log_probs(partial(scores, config=by_word))
        score = reranking.mixed(first, second, mixing)
    utterances = read_nbest(files.read(nbest), nbest)
    if tune is None:
        for utterance in reranking.rerank(utterances, score, weights):
            if output == "json":
                emit_record(utterance_record(utterance))
                continue
            for line in LINES[output](utterance):
                emit(line + "\n")
    else:
        references = read_references(files.read(tune), tune)
        result = tuning.tune(utterances, references, score, weights)
        if output == "json":
            emit_record(tuning_record(result))
        else:
            given = [quoted(checkpoint), nbest if nbest == "-" else quoted(nbest)]
            if mix is not None:
                given += ["--mix", quoted(mix), "--mix-weight", repr(mixing.mix_weight)]
            show(*tuning_summary(result, *given, *["--open-vocabulary"] * config.open_vocabulary))
    unknown.say()
    files.say_notes(model)
