"""``textgen plot``: plots of models and of their training, a command each."""

import functools
import importlib.util
import inspect
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
    choice_option,
    command_options,
    number_option,
    say_notes,
    typed_text,
    value_option,
)
from textgen.errors import UsageError, missing_package
from textgen.presentation import console
from textgen.presentation.records import emit_record, emit_rows, finite
from textgen.storage import NewFile
from textgen.studies.plots import drawing
from textgen.studies.plots.drawing import MapMethod, Plot
from textgen.studies.plots.loss import LossOver, loss_plot

if TYPE_CHECKING:
    from textgen.language_model import LanguageModel

HELP = """Plot the loss, gradients, memory, embeddings and single units of models.

    Each plot is drawn in the terminal, or into a PNG or SVG file with --out.
    """
EXAMPLES = """
    The loss of two runs, for a slide:
    textgen plot loss checkpoints/lstm checkpoints/rnn --out loss.png
    The vanishing gradient, in the terminal:
    textgen plot gradient checkpoints/lstm checkpoints/rnn
"""

Format = Literal["plot", "json", "tsv"]
MemoryMeasure = Literal["choices", "context"]

_GRADIENT_CHARACTERS, _MEMORY_CHARACTERS = 400_000, 2_000_000
_EMBEDDING_CHARACTERS, _NEURON_CHARACTERS = 1_000_000, 4000
_UNIT_TOKENS, _TOKENS_PER_UNIT = 1600, 480  # of one unit; of each of several units


Checkpoints = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT...", help="The folders that train wrote.", show_default=False
    ),
]
OutOption = Annotated[
    str | None,
    value_option("--out", "FILE", "Draw into this file, a .png or .svg, instead of the terminal."),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "The plot, or its numbers.")]
FileOption = Annotated[
    str | None,
    value_option(
        "--file",
        "FILE",
        "The text to read; by default the text held out of the training if it still exists,"
        " else the bundled stories.",
    ),
]


def _plot_command(make: Callable[..., Plot]) -> Callable[..., None]:
    """The command that shows the plot that a function makes, with --out and --format."""

    @functools.wraps(make)
    def command(*, out: str | None, output: Format, **arguments: Any) -> None:
        _show(functools.partial(make, **arguments), out=out, output=output)

    own, (_, *of_show) = (inspect.signature(each).parameters.values() for each in (make, _show))
    command.__signature__ = inspect.Signature([*own, *of_show])  # type: ignore[attr-defined]
    return command_options(command)


def _load(path: str, **options: Any) -> "LanguageModel":
    from textgen.language_model import LanguageModel

    model = LanguageModel.load(path, **options)
    say_notes(model)
    return model


def _show(
    make: Callable[[], Plot], *, out: OutOption = None, output: FormatOption = "plot"
) -> None:
    """Make a plot, then draw it or write its numbers.

    That the file can be written is checked before the plot, which can take long, is made.
    """
    if out is None:
        plot = make()
    else:
        suffix = Path(out).suffix.lower()
        if suffix not in (".png", ".svg"):
            raise UsageError(
                f"--out must end in .png or .svg, got {out!r}",
                fix="leave it out to see the plot in the terminal",
            )
        if importlib.util.find_spec("matplotlib") is None:
            instead = "leave --out out to see the plot in the terminal"
            raise missing_package("--out", "matplotlib", "plot", instead=instead)
        with NewFile(Path(out)) as file:
            plot = make()
            file.write(drawing.rendered(plot.figure(), suffix))
            file.finish()
        console.note(f"drawn into {out}")
    if output == "json":
        for row in plot.rows():
            emit_record(dict(row))
    elif output == "tsv":
        rows = list(plot.rows())
        emit_rows([list(each) for each in rows[:1]])
        emit_rows([finite(value) for value in row.values()] for row in rows)
    elif out is None:
        console.show(plot.terminal(console.out_console()))


LOSS_EXAMPLES = """
    The loss of one run:
    textgen plot loss checkpoints/mine
    Several runs, against the tokens read, for a slide:
    textgen plot loss runs/* --x tokens --out loss.png
    The points as a table:
    textgen plot loss checkpoints/mine --format tsv > loss.tsv
"""


@_plot_command
def loss(
    *,
    checkpoints: Checkpoints,
    x: Annotated[
        LossOver, choice_option("--x", LossOver, "The quantity on the x axis.")
    ] = "seconds",
) -> Plot:
    """Plot the training and the validation loss of one run or of several.

    The curves are in metrics.jsonl, in the folder that train wrote. The steep fall at the
    beginning is outside the plot, since it would flatten the rest; it is among the numbers.
    The checkpoints that --checkpoint-at kept are marked; one of them shows its run until then.
    """
    from textgen import checkpoint

    return loss_plot([checkpoint.loss_curves(Path(path)) for path in checkpoints], x)


GRADIENT_EXAMPLES = """
    Where does the gradient of a plain RNN vanish, and that of an LSTM not?
    textgen plot gradient checkpoints/lstm checkpoints/rnn --out gradient.png
    Up to three hundred tokens back, on a text of your own:
    textgen plot gradient checkpoints/mine --lags 300 --file my.txt
"""


@_plot_command
def gradient(
    *,
    checkpoints: Checkpoints,
    file: FileOption = None,
    lags: Annotated[
        int, number_option("--lags", "The largest distance, in tokens.", least=1, default=100)
    ] = 100,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> Plot:
    """Plot the gradient of a token's loss with respect to the state k tokens before.

    Shown is its norm, at many places of a text, in double precision. The state of an LSTM is
    hidden values and cells of all layers as one vector; that of a plain RNN its hidden values.
    """
    from textgen.studies.plots.memory import gradient_norms, gradient_plot
    from textgen.studies.plots.text import text_to_read

    measured, sources = {}, []
    for path in checkpoints:
        model = _load(path, device=device, threads=threads, precision="float64")
        text, source = text_to_read(model, file, most=_GRADIENT_CHARACTERS)
        measured[str(model.path)] = gradient_norms(model, text, lags=lags)
        sources.append(source)
    return gradient_plot(measured, sources)


MEMORY_EXAMPLES = """
    Which of two models of the bundled stories remembers further back?
    textgen plot memory checkpoints/lstm checkpoints/rnn --out memory.png
    How much context does a model of any text use?
    textgen plot memory checkpoints/mine --what context
"""


@_plot_command
def memory(
    *,
    checkpoints: Checkpoints,
    what: Annotated[
        MemoryMeasure,
        choice_option(
            "--what", MemoryMeasure, "Choices by distance, or the loss by the length of context."
        ),
    ] = "choices",
    file: FileOption = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> Plot:
    """Plot how far back a model remembers.

    choices: for a model of the bundled stories, how often it prefers the one of two
    continuations that agrees with something far before: agreement, quotes, brackets, pronouns,
    facts; by the number of characters between. context: for any model, its loss when it reads
    only that many tokens before the one that it predicts.
    """
    if what == "choices" and file is not None:
        raise UsageError("--file needs --what context", fix="add that, or leave --file out")
    from textgen.studies.plots import memory as study
    from textgen.studies.plots.text import text_to_read

    load = functools.partial(_load, device=device, threads=threads)
    if what == "choices":
        return study.choices_plot({path: study.recall(load(path)) for path in checkpoints})
    measured, sources = {}, []
    for path in checkpoints:
        model = load(path)
        text, source = text_to_read(model, file, most=_MEMORY_CHARACTERS)
        end = model.tokenizer.terminator
        sentences = text.removesuffix(end).split(end) if end else [text]
        measured[path] = study.loss_by_context(model, sentences)
        sources.append(source)
    return study.context_plot(measured, sources)


EMBEDDINGS_EXAMPLES = """
    Which words are nearest to this one?
    textgen plot embeddings checkpoints/words --near cat
    A map of the two hundred most frequent words, for a slide:
    textgen plot embeddings checkpoints/words --words 200 --out words.png
"""


@_plot_command
def embeddings(
    *,
    checkpoint: Checkpoint,
    near: Annotated[
        list[str] | None,
        value_option("--near", "WORD", "Show the words nearest to this one; may be given again."),
    ] = None,
    words: Annotated[
        int,
        number_option(
            "--words", "The number of most frequent tokens on the map.", least=6, default=100
        ),
    ] = 100,
    method: Annotated[
        MapMethod, choice_option("--method", MapMethod, "The projection of the map; tsne is slow.")
    ] = "pca",
) -> Plot:
    """Plot the embeddings of tokens: a map, or nearest neighbours.

    In the terminal: the nearest neighbours of each of the most frequent words, or of those that
    --near names. With --out: a map. pca shows the two directions of the largest variance, tsne
    preserves neighbourhoods. With --format json or tsv: the neighbours with --near, else the map.
    """
    from textgen.studies.plots.embeddings import EmbeddingPlot
    from textgen.studies.plots.text import text_to_read

    model = _load(checkpoint, device="cpu")
    text, _ = text_to_read(model, most=_EMBEDDING_CHARACTERS)
    tokens = tuple(typed_text("--near", each) for each in near or ())
    return EmbeddingPlot(model, text, tokens, method, words)


NEURONS_EXAMPLES = """
    Are there units that encode the position in the line, or an open quote?
    textgen plot neurons checkpoints/mine
    What does cell 17 of the lowest layer do, in a text of your own?
    textgen plot neurons checkpoints/mine "“Well,” he said." --unit cell.0.17
    The same for a slide:
    textgen plot neurons checkpoints/mine --unit 0.17 --out cell.png
"""


@_plot_command
def neurons(
    *,
    checkpoint: Checkpoint,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT]", help="The text to read; - is stdin.", show_default=False),
    ] = None,
    file: FileOption = None,
    unit: Annotated[
        str | None,
        value_option(
            "--unit",
            "UNIT",
            "The unit to show: cell.0.17, or 0.17, layer and number, or 17, in the top layer.",
            default="those with the largest correlation",
        ),
    ] = None,
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> Plot:
    """Plot the values of one unit of the network as colours of the text, token by token.

    Without --unit, all units are correlated with the position in the line, with being inside
    quotes and with being inside brackets; the best for each is shown. The units of an LSTM are
    its cells and hidden values.
    """
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot both be given", fix="leave one out")
    from textgen.studies.plots import neurons as study
    from textgen.studies.plots.text import text_to_read

    model = _load(checkpoint, device=device, threads=threads)
    if text == "-":
        text, file = None, "-"
    if text is None:
        text, _ = text_to_read(model, file, most=_NEURON_CHARACTERS)
    states = study.read_states(model, typed_text("TEXT", text))
    if unit is not None:
        return study.NeuronPlot([study.trace(states, unit, most=_UNIT_TOKENS)], [])
    found = study.search(states)
    return study.NeuronPlot(study.best_traces(states, found, most=_TOKENS_PER_UNIT), found)


COMMANDS = (
    (loss, LOSS_EXAMPLES),
    (gradient, GRADIENT_EXAMPLES),
    (memory, MEMORY_EXAMPLES),
    (embeddings, EMBEDDINGS_EXAMPLES),
    (neurons, NEURONS_EXAMPLES),
)
