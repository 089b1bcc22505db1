"""Results for people: facts under headings, unambiguous tokens, plots of losses.

A space is written ``␣``, a newline ``\\n``, a tab ``\\t``, other control characters and what is
invisible ``\\x1b``; a backslash is ``\\\\``, a ``␣`` of the text itself ``\\␣`` and a literal
``<EOS>`` of the text ``\\<EOS>``, so that nothing is ambiguous.
"""

import dataclasses
import math
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Column, Table
from rich.text import Text

from textgen.config import Config, flag
from textgen.metrics import LOG_2
from textgen.presentation.console import escape, shown
from textgen.presentation.numbers import count, duration, figure, fixed, label, rounded, share, size
from textgen.presentation.terminal_plot import Curve, plot
from textgen.results import (
    NgramBaseline,
    Plan,
    TokenizerSummary,
    TrainingResult,
    Validation,
    held_out_text,
)

if TYPE_CHECKING:
    from textgen.checkpoint import CheckpointInfo

Fact = tuple[str, str | Text]

_SPACE = "␣"
_SPECIAL_NAMES = ("<UNK>", "<EOS>")  # of the ids 0 and 1 in every vocabulary


def visible(token: str, id: int | None = None, *, escaped: Callable[[str], str] = shown) -> str:
    r"""A token without white space.

    Args:
        id: Distinguishes ``<EOS>`` from a text that spells it.
        escaped: Escapes what cannot be seen.

    >>> visible("the "), visible("\n"), visible("<EOS>", 1), visible("<EOS>", 7)
    ('the␣', '\\n', '<EOS>', '\\<EOS>')
    """
    if token in _SPECIAL_NAMES:
        is_special = id is None or id == _SPECIAL_NAMES.index(token)
        return token if is_special else "\\" + token
    text = escaped(token.replace("\\", "\\\\").replace(_SPACE, "\\" + _SPACE)).replace(" ", _SPACE)
    return re.sub(r"\s", lambda space: escape(space[0]), text)


def token_text(token: str, id: int | None = None) -> Text:
    return Text(visible(token, id))


def facts(pairs: Iterable[Fact]) -> Table:
    """Names and values in two columns; a value that is empty is left out."""
    table = Table.grid(Column(style="label"), Column(overflow="fold"), padding=(0, 2, 0, 0))
    for name, value in pairs:
        if value:
            table.add_row(name, value if isinstance(value, Text) else Text(shown(value)))
    return table


def section(title: str, body: RenderableType) -> RenderableType:
    return Group(Text(title, style="heading"), Padding(body, (0, 0, 1, 2)))


def setting(value: Any) -> str:
    """The value of an option for people; empty for None."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return count(value)
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple):
        return ", ".join(map(setting, value))
    return str(value)


def quoted(path: str) -> str:
    """A path quoted for the shell; one that begins with a dash is not an option."""
    if path.startswith("-"):
        path = f"./{path}"
    if sys.platform == "win32":
        return subprocess.list2cmdline([path])
    if path.isprintable():
        return shlex.quote(path)
    plain = path.replace("\\", "\\\\").replace("'", "\\'")
    parts = (each if each.isprintable() else _in_shell(each) for each in plain)
    return "$'" + "".join(parts) + "'"


def _in_shell(character: str) -> str:
    return "\\n" if character == "\n" else "".join(f"\\x{b:02x}" for b in os.fsencode(character))


def tokenizer_summary(summary: TokenizerSummary) -> RenderableType:
    """What a tokenizer learned, and its most frequent tokens with their shares."""
    parts = f"{count(summary.train_tokens)} for training, {count(summary.valid_tokens)} held out"
    held_out = "held-out " if summary.valid_tokens else ""
    pairs: list[Fact] = [
        ("level", f"{summary.level}, <EOS> at the end of each {summary.unit}"),
        ("vocabulary", f"{count(summary.vocabulary_size)} with <UNK> and <EOS>"),
        ("tokens", count(summary.tokens)),
        ("", Text(parts if summary.valid_tokens else "", style="label")),
        ("held out", shown(held_out_text(summary.held_out, summary.characters))),
        ("characters", count(summary.characters)),
        ("sentences", count(summary.sentences)),
        ("characters per token", figure(summary.characters_per_token, 3)),
        ("unknown", f"{share(summary.unknown_rate)} of the {held_out}tokens"),
        ("fingerprint", summary.fingerprint[:16]),
        ("saved", summary.out or ""),
    ]
    total = max(1, summary.train_tokens)
    frequent = [
        Text.assemble(visible(token), (f" {share(seen / total)}", "label"))
        for token, seen in summary.most_frequent_texts
    ]
    columns = Columns(frequent, padding=(0, 3), equal=True, column_first=True)
    return Group(
        section("Tokenizer", facts(pairs)),
        *([section("Most frequent", columns)] if frequent else []),
    )


def plan_tables(plan: Plan) -> RenderableType:
    """The planned model and run, and the options with the reason for each value."""
    state, window = (count(round(each / 1e6)) for each in (plan.state_bytes, plan.window_bytes))
    memory = f"{state} MB of weights, gradients and moments, about {window} MB per update"
    threads = f"{plan.threads} thread{'s' if plan.threads > 1 else ''}"
    has_ngrams = any(option.name == "order" for option in plan.options)
    uncounted = ", and the n-grams, which are counted in the run" if has_ngrams else ""
    pairs: list[Fact] = [
        ("parameters", f"{rounded(plan.parameters)}{uncounted}"),
        ("vocabulary", count(plan.vocabulary_size)),
        ("training text", f"{rounded(plan.train_tokens)} tokens"),
        ("memory", memory),
        ("speed", f"{rounded(plan.tokens_per_second)} tokens per second, measured just now"),
        ("machine", f"{plan.device}, {plan.precision}, {threads}"),
        ("length", f"{rounded(round(plan.tokens))} tokens, {duration(plan.seconds)}"),
        ("epochs", figure(plan.epochs, 3)),
        *(("warning", Text(shown(each), style="warning")) for each in plan.warnings),
    ]
    columns = (Column(no_wrap=True), Column(no_wrap=True), Column(style="label", overflow="fold"))
    options = Table.grid(*columns, padding=(0, 2, 0, 0))
    for option in plan.options:
        value = option.value
        if isinstance(value, list | tuple):
            typed = ",".join(map(str, value))
        else:
            typed = setting(value) if isinstance(value, bool | float) else str(value)
        options.add_row(flag(option.name), Text(shown(typed)), option.reason)
    return Group(section("Plan", facts(pairs)), section("Options", options))


def validation_facts(validation: Validation) -> list[Fact]:
    """The figures of a validation; pseudo-figures have none per character."""
    pseudo = validation.pseudo
    given = ", given all others of its sentence" if pseudo else ""
    loss = (fixed(validation.loss, 4), (f"  nats per token{given}", "label"))
    per_token = (figure(validation.perplexity), ("" if pseudo else "  per token", "label"))
    pairs: list[Fact] = [
        ("validation " + label("loss", pseudo=pseudo), Text.assemble(*loss)),
        (label("perplexity", pseudo=pseudo), Text.assemble(*per_token)),
    ]
    if not pseudo:
        bits = Text(figure(validation.bits_per_character))
        if validation.unknown:
            unknown = share(validation.unknown / validation.tokens)
            bits.append(f"  ({unknown} unknown: comparable only over one vocabulary)", "warning")
        pairs.append(("bits per character", bits))
    return pairs


def next_commands(*arguments: str) -> Text:
    """Commands to continue with; each is one line at any width, so that it can be copied.

    To be shown by itself: inside other renderables lines are cut.
    """
    commands = "\n".join(f"  textgen {each}" for each in arguments)
    return Text.assemble(("Next", "heading"), "\n", (commands, "accent"), "\n", no_wrap=True)


def training_summary(result: TrainingResult, out: str) -> tuple[RenderableType, ...]:
    """The result of a run, its folder, and commands to continue with."""
    best, memory, ngram = result.validation, result.peak_memory_bytes, result.ngram
    pseudo = best is not None and best.pseudo
    none_yet = Text("none, as the run was stopped before the first validation", style="label")
    pairs: list[Fact] = [("validation loss", none_yet)] if best is None else validation_facts(best)
    if best is not None and best.characters and not pseudo:
        bits_per_nat = best.tokens / best.characters / LOG_2
        if ngram is not None:
            learned = f"  Kneser-Ney, from {rounded(ngram.train_tokens)} tokens"
            bits = Text.assemble(figure(ngram.loss * bits_per_nat), (learned, "label"))
            pairs.append((f"  {ngram.order}-gram model", bits))
        pairs.append(("  uniform distribution", figure(result.uniform_loss * bits_per_nat)))
    updates = f"{count(result.steps)} step{'s' * (result.steps != 1)}"
    steps = f"{rounded(result.tokens_seen)} tokens in {updates}"
    pairs += [
        ("trained", f"{steps}, {duration(result.seconds)}"),
        ("ended early", result.ended_early or ""),
        ("speed", f"{count(round(result.tokens_per_second))} tokens per second"),
        ("memory", f"{size(memory)} at most" if memory else ""),
        ("parameters", rounded(result.parameters)),
        ("saved", result.checkpoint),
    ]
    folder = quoted(out)
    next_ = [
        f'predict {folder} "A text with a ____ in it"' if pseudo else f"sample {folder}",
        f'score {folder} --text "How likely is this?"',
        f"info {folder}",
    ]
    title = "Trained"
    if result.interrupted is not None:
        title = "Stopped, and saved"
        next_.insert(0, f"train --out {folder} --resume")
    return section(title, facts(pairs)), next_commands(*next_)


LEAST_GAIN = 0.01
"""Nats per token for which a mixture is worth its name in a summary."""


def ngram_advice(model: str, loss: float, ngram: NgramBaseline) -> dict[str, str]:
    """Why another kind of model predicts better than one that was trained, by kind."""
    advice = {}
    if ngram.loss < loss and model != "ngram":
        advice["ngram"] = (
            f"{ngram.order}-grams alone predict better than {model}: {fixed(ngram.loss, 4)} against"
            f" {fixed(loss, 4)} nats per token."
        )
    gain = ngram.mixture_gain
    if gain is not None and gain >= LEAST_GAIN and loss - gain < ngram.loss:
        advice["lstm+ngram"] = (
            f"A mixture of {model} with {ngram.order}-grams predicts better than {model} alone:"
            f" {fixed(loss - gain, 4)} against {fixed(loss, 4)} nats per token."
        )
    return advice


def better_models(result: TrainingResult, out: str) -> list[Text]:
    """What predicts the text better than the model that was trained, with the commands."""
    best, ngram, lines = result.validation, result.ngram, list[Text]()
    if best is None or best.pseudo or ngram is None:
        return lines
    text = [each if each.startswith("--") else quoted(each) for each in result.same_text]
    for model, why in ngram_advice(result.model, best.loss, ngram).items():
        other = quoted(f"{out.rstrip('/')}-{model.replace('+', '-')}")
        command = " ".join(("textgen train", *text, "--out", other, "--model", model))
        lines += [
            Text(why, style="warning"),
            Text(f"  {command}", style="accent", no_wrap=True),
        ]
    return lines


_WIDEST_PLOT, _PLOT_ROWS = 90, 8
_ONLY_AT_LEVEL = {"split": "word", "subword-model": "subword"}


def checkpoint_info(info: "CheckpointInfo", width: int) -> RenderableType:
    """A checkpoint: model, text, training with its loss curve, validation, versions."""
    header, level, origin = info.header, info.tokenizer.level, info.header.init_from
    model: list[Fact] = [
        ("parameters", f"{count(header.parameters)}, {size(info.bytes)} on disk"),
        ("vocabulary", count(header.model.vocabulary_size)),
        *_options(header.model),
    ]
    if header.rounding is not None:
        divergence = f"{figure(header.rounding.divergence)} nats per token from those trained"
        model.append(("weights", f"{header.rounding.dtype}, {divergence}"))
    if origin is not None:
        weights = f"weights {origin.weights_sha256[:16]}"
        model.append(("fine-tuned from", f"{origin.path}, step {origin.step}, {weights}"))
    tokens = [
        (name, value)
        for name, value in _options(info.tokenizer)
        if _ONLY_AT_LEVEL.get(name, level) == level
    ]
    text: list[Fact] = [("from", setting(header.corpus.sources))]
    for name, part in (("training", header.corpus.train), ("held out", header.corpus.valid)):
        counts = [f"{count(value)} {key}" for key, value in dataclasses.asdict(part).items()]
        text.append((name, ", ".join(counts)))
    if header.corpus.held_out:
        text.append(("", shown(header.corpus.held_out_text)))
    text.append(("fingerprint", header.corpus.fingerprint[:16]))
    progress = [
        f"{rounded(header.step)} steps",
        f"{rounded(header.tokens_seen)} tokens",
        duration(header.seconds),
    ]
    if math.isfinite(header.tokens_per_second):
        progress.append(f"{rounded(header.tokens_per_second)} tokens per second")
    machine = [f"{name} {setting(value)}" for name, value in header.machine.to_json().items()]
    training: list[Fact] = [
        ("so far", ", ".join(progress)),
        ("machine", ", ".join(machine)),
        *_options(header.training),
    ]
    parts = [
        section(shown(info.path), facts(model)),
        section("Tokens", facts(tokens)),
        section("Text", facts(text)),
        section("Training", facts(training)),
    ]
    if header.validation is not None:
        title = f"Validation at step {count(header.validation.step)}"
        parts.append(section(title, facts(validation_facts(header.validation))))
    learned = [(float(step), loss) for step, loss in info.training_curve]
    held_out = [(float(each.step), each.loss) for each in info.curve]
    if len(learned) + len(held_out) >= 3:
        curves = [Curve("training", learned, "faint"), Curve("validation", held_out, "accent")]
        curve = plot(curves, min(width, _WIDEST_PLOT) - 2, _PLOT_ROWS)
        if curve:
            parts.append(section("Loss", curve))
    versions = " · ".join(f"{name} {version}" for name, version in header.versions.items())
    parts.append(section("Made with", Text(shown(versions), style="label")))
    return Group(*parts)


def _options(config: Config) -> list[Fact]:
    """The settings that are options, by their names on the command line."""
    names = [name for name, spec in config.fields().items() if "help" in spec.metadata]
    return [(name.replace("_", "-"), setting(getattr(config, name))) for name in names]
