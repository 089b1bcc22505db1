"""``textgen score --pairs``: which of two sentences a model finds the likelier."""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel


def judge(
    model: "LanguageModel",
    pairs: str,
    output: str,
    by: str | None,
    *,
    read: Callable[..., Iterator[str]],
    options: dict[str, Any],
) -> None:
    """Write how often the good sentence of a pair is the likelier.

    read: gives the lines of a file. options: of scoring.
    """
    from textgen.presentation import pairs as writers
    from textgen.presentation.unknowns import UnknownReport
    from textgen.studies.pairs import Tally, read_pairs, score_pairs

    tally, writer = Tally(by), writers.FORMATS[output](pseudo=not model.generates)
    unknown = UnknownReport(in_lines=False)

    def score(texts: Iterable[str]) -> Iterator[float]:
        return (each.log_prob for each in unknown.told(model.scores(texts, **options)))

    for scored in score_pairs(read_pairs(read(pairs), pairs), score):
        tally.add(scored)
        writer.pair(scored)
    writer.end(tally.total, tally.by, tally.groups)
    unknown.say()
