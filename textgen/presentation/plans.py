"""``train --plan``: what a run would be, and why."""

import dataclasses
from typing import Any

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from textgen.config import flag
from textgen.presentation.console import shown
from textgen.presentation.numbers import count, duration, figure, rounded
from textgen.presentation.tables import facts, section
from textgen.results import Plan

_MEGA = 1e6


def plan_record(plan: Plan) -> dict[str, Any]:
    """The plan as JSON: the options as an object of {value, reason}."""
    record = dataclasses.asdict(plan)
    options = {o.name: {"value": o.value, "reason": o.reason} for o in plan.options}
    return record | {"options": options}


def plan_tables(plan: Plan) -> RenderableType:
    state, window = plan.state_bytes / _MEGA, plan.window_bytes / _MEGA
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    size = facts(
        [
            ("parameters", rounded(plan.parameters)),
            ("vocabulary", count(plan.vocabulary_size)),
            ("text to learn from", f"{rounded(plan.train_tokens)} tokens"),
            (
                "memory",
                f"{count(round(state))} MB of weights, gradients and moments, about"
                f" {count(round(window))} MB an update",
            ),
            ("speed", f"{rounded(plan.tokens_per_second)} tokens a second, measured just now"),
            ("computes on", f"{plan.device}, {plan.precision}, {threads}"),
            ("learns from", f"{rounded(round(plan.tokens))} tokens, {duration(plan.seconds)}"),
            ("epochs", figure(plan.epochs, 3)),
        ]
    )
    return Group(section("Plan", size), section("Options", _options(plan)))


def _options(plan: Plan) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0))
    table.add_column(no_wrap=True)
    table.add_column(no_wrap=True)
    table.add_column(style="label", overflow="fold")
    for option in plan.options:
        value = option.value
        if isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, tuple | list):
            value = ",".join(map(str, value))
        elif isinstance(value, float):
            value = f"{value:g}"
        table.add_row(flag(option.name), Text(shown(str(value))), option.reason)
    return table
