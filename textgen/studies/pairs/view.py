"""How many minimal pairs are right: a table for people, TSV for tools, JSON for scripts."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any

from rich.table import Table
from rich.text import Text

from textgen.presentation.console import emit, show, shown
from textgen.presentation.numbers import count, fixed
from textgen.presentation.records import emit_record
from textgen.results import Accuracy, PairScore

Groups = Mapping[str, Accuracy]


class PairWriter(ABC):
    """Writes pairs one by one, then the accuracies. pseudo: whether the scores are pseudo."""

    def __init__(self, *, pseudo: bool = False) -> None:
        self.pseudo = pseudo

    def pair(self, scored: PairScore) -> None:
        """One pair; most formats have no room for it."""
        return

    @abstractmethod
    def end(self, total: Accuracy, by: str | None, groups: Groups) -> None:
        """by: the field that makes the groups; None: there are none."""


class JsonPairs(PairWriter):
    """A line a pair, then the accuracies. Log-probabilities are natural."""

    def pair(self, scored: PairScore) -> None:
        log_prob = "pseudo_log_prob" if self.pseudo else "log_prob"
        emit_record(
            {
                "line": scored.pair.line,
                "sentence_good": scored.pair.good,
                "sentence_bad": scored.pair.bad,
                "fields": dict(scored.pair.fields),
                f"{log_prob}_good": scored.good_log_prob,
                f"{log_prob}_bad": scored.bad_log_prob,
                "right": scored.right,
            }
        )

    def end(self, total: Accuracy, by: str | None, groups: Groups) -> None:
        by_group = {name: _record(groups[name]) for name in sorted(groups)}
        emit_record({"total": _record(total) | {"by": by, "groups": by_group}})


class TsvPairs(PairWriter):
    r"""A row a group and one of all. Tabs and backslashes of a name are ``\t`` and ``\\``."""

    def end(self, total: Accuracy, by: str | None, groups: Groups) -> None:
        emit("\t".join((by or "group", *_record(total))) + "\n")
        for name in sorted(groups):
            self._row(shown(name.replace("\\", "\\\\")), groups[name])
        self._row("total", total)

    def _row(self, name: str, accuracy: Accuracy) -> None:
        emit("\t".join((name, *map(repr, _record(accuracy).values()))) + "\n")


class TablePairs(PairWriter):
    """The groups, the hardest first, then all."""

    def end(self, total: Accuracy, by: str | None, groups: Groups) -> None:
        table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="label")
        table.add_column(Text(shown(by or "")), overflow="fold")
        for name in ("accuracy", "95 % interval", "right", "pairs"):
            table.add_column(name, justify="right", no_wrap=True)
        for name in sorted(groups, key=lambda name: (groups[name].share, name)):
            table.add_row(Text(shown(name)), *_cells(groups[name]))
        table.add_row(Text("all", style="heading"), *_cells(total))
        show(table)
        likelier = "has the greater pseudo-log-likelihood" if self.pseudo else "is the likelier"
        show(Text(f"Right: the good sentence {likelier}. Intervals are Wilson's.", "label"))
        if total.tied:
            noun = "pair is" if total.tied == 1 else "pairs are"
            show(Text(f"{count(total.tied)} {noun} equally likely: not right.", "warning"))


FORMATS: Mapping[str, type[PairWriter]] = {
    "table": TablePairs,
    "tsv": TsvPairs,
    "json": JsonPairs,
}


def _cells(accuracy: Accuracy) -> tuple[str, ...]:
    low, high = accuracy.interval
    return (
        f"{fixed(100 * accuracy.share, 1)} %",
        f"{fixed(100 * low, 1)} – {fixed(100 * high, 1)} %",
        count(accuracy.right),
        count(accuracy.pairs),
    )


def _record(accuracy: Accuracy) -> dict[str, Any]:
    low, high = accuracy.interval
    return {
        "accuracy": accuracy.share,
        "low": low,
        "high": high,
        "right": accuracy.right,
        "tied": accuracy.tied,
        "pairs": accuracy.pairs,
    }
