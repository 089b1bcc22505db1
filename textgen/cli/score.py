"""``textgen score``: how probable is this text?"""

import math
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, get_args

from textgen.cli.fields import command_options
from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    EncodingOption,
    ErrorsOption,
    LogBaseOption,
    ThreadsOption,
)
from textgen.cli.pairs import judge
from textgen.cli.parsing import choice
from textgen.cli.reranking import rerank
from textgen.cli.score_options import (
    ByOption,
    ContinuationsOption,
    FileArgument,
    FormatOption,
    HtmlOption,
    JobsOption,
    MixOption,
    NbestOption,
    PairsOption,
    PrecisionOption,
    TextOption,
    TuneOption,
)
from textgen.cli.scoring import Page, Texts, adaptation, score_texts
from textgen.config import (
    AdaptationConfig,
    MixingConfig,
    NbestFormat,
    PairsFormat,
    RerankingConfig,
    ScoreFormat,
    ScoringConfig,
    flag,
    option_names,
)
from textgen.errors import UsageError

EXAMPLES = """
    Which of two sentences is likelier, and by how much?
    textgen score checkpoints/mine --text "the dogs are" --text "the dogs is"
    How well does the model predict a text it has not seen?
    textgen score checkpoints/mine heldout.txt --context document
    The surprisal of every token, as a table for R or pandas:
    textgen score checkpoints/mine my.txt --level token --format tsv > my.tsv
    The text in colours, by how surprising each word is:
    textgen score checkpoints/mine my.txt --format heatmap
"""

_OF_NBEST = option_names(RerankingConfig) | option_names(MixingConfig) | {"tune", "mix"}
_OF_PAIRS = frozenset({"by"})
_OF_TEXTS = option_names(ScoringConfig) | option_names(AdaptationConfig) | {"html", "log_base"}
_OF_ALL = frozenset({"open_vocabulary"})


@command_options(ScoringConfig, AdaptationConfig, RerankingConfig, MixingConfig)
def score(
    *,
    checkpoint: Checkpoint,
    file: FileArgument = None,
    text: TextOption = None,
    continuations: ContinuationsOption = None,
    output: FormatOption = None,
    log_base: LogBaseOption = math.e,
    html: HtmlOption = None,
    nbest: NbestOption = None,
    tune: TuneOption = None,
    mix: MixOption = None,
    pairs: PairsOption = None,
    by: ByOption = None,
    given: dict[str, Any],
    encoding: EncodingOption = "utf-8",
    errors: ErrorsOption = "strict",
    precision: PrecisionOption = "float32",
    jobs: JobsOption = 1,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Say how probable sentences are.

    For each sentence: its log-probability, <EOS> included; perplexity a token, with and
    without the unknown ones; and bits a character, the figure in which models of different
    tokens compare. The totals come last.

    In JSON log_prob is natural, whatever --log-base says. TSV names the base in its header:
    log_prob, log2_prob, log10_prob; surprisal is always in bits. kenlm, lm-zoo,
    neural-complexity and theanolm are the layouts of those tools.
    """
    named = {"FILE": file, "--text": text, "--continuations": continuations}
    source = _only_one(named | {"--nbest": nbest, "--pairs": pairs})
    based = log_base if log_base != math.e else None
    extra = {"html": html, "log_base": based, "tune": tune, "mix": mix, "by": by}
    _refuse_foreign(source, {*given, *(name for name, value in extra.items() if value)})
    output = _format(source, output)
    from textgen.corpus import Findings, sentences
    from textgen.language_model import LanguageModel
    from textgen.presentation import console

    findings = Findings()
    read = partial(sentences, encoding=encoding, errors=errors, findings=findings)
    load = partial(LanguageModel.load, device=device, threads=threads, precision=precision)
    options = {name: given[name] for name in given if name in option_names(ScoringConfig)}
    options["jobs"] = jobs
    if nbest is not None:
        lists = (nbest, output, tune, mix)
        model = rerank(load, checkpoint, *lists, read=read, given=given, options=options)
    elif pairs is not None:
        model = load(checkpoint)
        judge(model, pairs, output, by, read=read, options=options)
    else:
        texts = Texts(file, tuple(text or ()), continuations, read)
        page = None if html is None else Page(Path(html), checkpoint)
        options |= adaptation(AdaptationConfig.from_options(given), options, texts)
        model = score_texts(partial(load, checkpoint), texts, output, log_base, page, options)
    # Last, because an error in the text is to be the only line.
    for message in (*findings.notes(), *model.notes):
        console.note(message)


def _only_one(sources: Mapping[str, object]) -> str:
    """Where the texts come from. Without any that is stdin."""
    names = [name for name, value in sources.items() if value]
    if len(names) > 1:
        raise UsageError(
            f"{names[0]} and {names[1]} cannot both be given", fix="give the texts one way"
        )
    return names[0] if names else "FILE"


def _refuse_foreign(source: str, typed: set[str]) -> None:
    """Refuse options that mean nothing for these texts."""
    for name in sorted(typed):
        for owner, names in (("--nbest", _OF_NBEST), ("--pairs", _OF_PAIRS)):
            if name in names and source != owner:
                raise UsageError(f"{flag(name)} is of {owner}", fix=f"give {owner} FILE too")
        if name in _OF_TEXTS - _OF_ALL and source in ("--nbest", "--pairs"):
            raise UsageError(f"{flag(name)} and {source} cannot both be given", fix="leave one out")


def _format(source: str, asked: str | None) -> str:
    """What was asked for, or the usual one."""
    formats = {"--nbest": NbestFormat, "--pairs": PairsFormat}.get(source, ScoreFormat)
    names = get_args(formats)
    return str(names[0] if asked is None else choice("--format", names)(asked))
