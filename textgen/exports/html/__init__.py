"""A model as one HTML page that writes and reads text: no server, no network, no build step.

``page.html`` is the page, into which the styles, the scripts and the weights are put. What runs
in the worker is the tokenizer of the model's level and ``ENGINE``, packed as the weights are;
``VIEW`` is the page itself. The page's Content-Security-Policy names styles and scripts by their
hashes, and allows nothing else but WebAssembly and a worker made by the page: no request of any
kind.

The file is in UTF-16 with its byte order mark, which browsers heed before what a server says: see
``weights``.
"""

import codecs
import gzip
import json
import re
from html import escape
from importlib import resources
from pathlib import Path
from string import Template

from textgen.checkpoint import Header
from textgen.config import UNIT_TERMINATORS, Level, SamplingConfig
from textgen.errors import UsageError
from textgen.exports import PagePrecision
from textgen.exports.html.divergence import Divergence, measure
from textgen.exports.html.weights import KINDS, as_characters, pack
from textgen.language_model import LanguageModel
from textgen.presentation import html as scores
from textgen.presentation.console import shown
from textgen.presentation.numbers import count, figure, fixed
from textgen.sampling.text import check_is_causal
from textgen.storage import NewFile

LEVELS: dict[Level, str] = {"char": "characters.js", "word": "words.js", "subword": "subwords.js"}
ENGINE = ("unpack.js", "kernel.js", "network.js", "sampling.js", "worker.js")
VIEW = ("unpack.js", "view.js", "write.js", "read.js")
MOST_TOKENS, MOST_CHARACTERS = 10_000, 100_000
"""How much is written at a time, and how much text the page holds."""

_IN_WORDS = {"int8": "8 bits, with a scale for each row", "float16": "16 bits", "float32": "exact"}
_LONGER: dict[Level, int] = {"char": 20}
"""What DRY allows at first where tokens are shorter than those its default is meant for."""
_LEVELS = {"char": "characters", "word": "words", "subword": "parts of words"}


def write(model: LanguageModel, out: Path, precision: PagePrecision = "int8") -> list[str]:
    """Write a model as a page; returns notes on its size and its exactness.

    Raises:
        UsageError: The model cannot generate text, or is of a kind that a page cannot hold.
    """
    text, divergence = page(model, precision)
    with NewFile(out) as file:
        file.write(text)
        file.finish()
    notes = [f"{len(text) / 1e6:.2f} MB, to be opened in a browser"]
    return [*notes, f"its predictions are {_on_divergence(divergence)}"]


def page(model: LanguageModel, precision: PagePrecision = "int8") -> tuple[bytes, Divergence]:
    """The bytes of the page, and how far its predictions are from the model's.

    Raises:
        As ``write``.
    """
    check_is_causal(model.model)
    kind = model.header.model.model
    if kind not in KINDS:
        raise UsageError(
            f"a page cannot hold a model of the kind {kind}",
            where=model.path,
            why=f"it computes only {', '.join(KINDS[:-1])} and {KINDS[-1]}",
            fix="train one of these",
        )
    data, rounded = pack(model, precision)
    divergence = measure(model, rounded)
    style = _without_comments(scores.resource("page.css") + _resource("page.css"))
    engine = gzip.compress(engine_of(model.tokenizer.level).encode(), 9, mtime=0)
    view, reader_script = _block(VIEW), _without_comments(scores.resource("page.js"))
    unit = model.tokenizer.config.unit
    level, name = model.tokenizer.level, escape(shown(model.header.source.name))
    text = Template(_resource("page.html")).substitute(
        title=f"A language model of {name}",
        summary=_summary(model),
        edges=json.dumps(scores.EDGES_BITS),
        breakers=escape(json.dumps(SamplingConfig.dry_sequence_breaker)),
        dry_base=SamplingConfig.dry_base,
        dry_allowed_length=_LONGER.get(level, SamplingConfig.dry_allowed_length),
        xtc_threshold=SamplingConfig.xtc_threshold,
        tokens=_LEVELS[level],
        unit=unit,
        no_terminator="" if UNIT_TERMINATORS[unit] else " disabled",
        most_tokens=MOST_TOKENS,
        most_characters=MOST_CHARACTERS,
        reader=scores.reader_markup("token", in_main=True),
        facts=_facts(model, precision, divergence),
        style=style,
        style_hash=scores.hash_of(style),
        engine=as_characters(engine),
        engine_bytes=len(engine),
        reader_script=reader_script,
        reader_hash=scores.hash_of(reader_script),
        view=view,
        view_hash=scores.hash_of(view),
        weights=as_characters(data),
        bytes=len(data),
    )
    return codecs.BOM_UTF16_LE + text.encode("utf-16-le"), divergence


def engine_of(level: Level) -> str:
    """The script of the worker in the page of a model of this level."""
    return _block(("tokenizer.js", LEVELS[level], *ENGINE))


def _block(names: tuple[str, ...]) -> str:
    """Some scripts as one, in a block, so that their names are none of the page's."""
    joined = "".join(map(_resource, names)).replace('"use strict";\n', "")
    return f'"use strict";\n{{\n{_without_comments(joined)}\n}}\n'


def _without_comments(text: str) -> str:
    """A style or script without its comments and indentation: in UTF-16 each byte counts twice."""
    lines = map(str.strip, re.sub(r"(?s)/\*.*?\*/", "", text).split("\n"))
    return "\n".join(line for line in lines if line and not line.startswith("//"))


def _resource(name: str) -> str:
    text = resources.files(__package__).joinpath(name).read_text("utf-8")
    return text.replace("\r\n", "\n")


def _summary(model: LanguageModel) -> str:
    header = model.header
    article = "An" if header.model.model in ("lstm", "rnn") else "A"
    return (
        f"{article} {header.model.model.upper()} with {count(header.parameters)} weights, trained"
        f" on {count(header.corpus.train.characters)} characters. It runs on this device alone:"
        " nothing that is typed here leaves it."
    )


def _facts(model: LanguageModel, precision: PagePrecision, divergence: Divergence) -> str:
    header = model.header
    config, text = model.tokenizer.config, header.corpus
    facts = [
        ("Learned from", f"{header.source.name}, {count(text.train.characters)} characters"),
        ("Network", f"{header.model.description}; {count(header.parameters)} weights"),
        (
            "Tokens",
            f"{_LEVELS[config.level]}; a vocabulary of {count(header.model.vocabulary_size)}",
        ),
        ("Trained", f"{count(header.step)} steps, {count(header.tokens_seen)} tokens"),
        *_validation_facts(header),
        ("Weights in this page", _IN_WORDS[precision]),
        ("Divergence", _on_divergence(divergence)),
    ]
    rows = "\n".join(f"<dt>{name}</dt><dd>{escape(shown(value))}</dd>" for name, value in facts)
    return f"<dl>\n{rows}\n</dl>"


def _validation_facts(header: Header) -> list[tuple[str, str]]:
    found = header.validation
    if found is None:
        return []
    loss = f"{fixed(found.loss, 4)} nats per token, perplexity {figure(found.perplexity)}"
    return [
        ("Loss on held-out text", loss),
        ("Bits per character", f"{figure(found.bits_per_character)}, on the same text"),
    ]


def _on_divergence(divergence: Divergence) -> str:
    of = "held-out tokens" if divergence.held_out else "tokens that it wrote, as its corpus is gone"
    return (
        f"{figure(divergence.nats)} nats per token from the exact model's predictions"
        f" (Kullback-Leibler divergence on {count(divergence.tokens)} {of})"
    )
