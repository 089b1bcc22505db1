"""``textgen plot``: plots of models and of their training, a command each."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from textgen.cli import options as parsing
from textgen.cli.options import (
    Checkpoint,
    DeviceOption,
    ThreadsOption,
    choice_option,
    command_options,
)
from textgen.errors import UsageError
from textgen.studies.plots import drawing
from textgen.studies.plots.drawing import Format, LossOver, MapMethod, Plot

HELP = """Plot what a model learned, and how: its loss, its gradient, its memory, its embeddings,
    its units.

    Each plot is drawn in the terminal, or into a PNG or SVG file with --out.
    """
EXAMPLES = """
    The loss of two runs, for a slide:
    textgen plot loss checkpoints/lstm checkpoints/rnn --out loss.png
    The vanishing gradient, in the terminal:
    textgen plot gradient checkpoints/lstm checkpoints/rnn
"""


def _option(name: str, metavar: str, help: str, default: str | None = None, **more: Any) -> Any:
    shown = f"default: {default}" if default else False
    return typer.Option(name, metavar=metavar, help=help, show_default=shown, **more)


def _number(name: str, help: str, *, least: int, default: int) -> Any:
    parser = parsing.whole_number(name, least=least)
    return _option(name, "N", help, str(default), parser=parser)


Checkpoints = Annotated[
    list[str],
    typer.Argument(
        metavar="CHECKPOINT...", help="The folders that train wrote.", show_default=False
    ),
]
OutOption = Annotated[
    str | None,
    _option("--out", "FILE", "Draw into this file, a .png or .svg, instead of the terminal."),
]
FormatOption = Annotated[Format, choice_option("--format", Format, "The plot, or its numbers.")]
FileOption = Annotated[
    str | None,
    _option(
        "--file",
        "FILE",
        "The text to read; by default the text held out of the training if it is still there,"
        " else the bundled stories.",
    ),
]


@contextmanager
def _delivery(out: str | None, output: Format) -> Iterator[Callable[[Plot], None]]:
    """Yield a function that draws a plot, or writes its numbers, where the options say.

    That the file can be written is checked on entry, before any computation.
    """
    from textgen.presentation import console

    with ExitStack() as stack:
        save = stack.enter_context(drawing.plot_file(out)) if out is not None else None

        def deliver(plot: Plot) -> None:
            if save is not None:
                save(plot.figure())
                console.note(f"drawn into {out}")
            if output != "plot":
                drawing.write_rows(plot.rows(), output)
            elif save is None:
                console.show(plot.terminal(console.out_console()))

        yield deliver


LOSS_EXAMPLES = """
    The loss of one run:
    textgen plot loss checkpoints/mine
    Several runs, against the tokens read, for a slide:
    textgen plot loss runs/* --x tokens --out loss.png
    The points as a table:
    textgen plot loss checkpoints/mine --format tsv > loss.tsv
"""


@command_options()
def loss(
    *,
    checkpoints: Checkpoints,
    x: Annotated[
        LossOver, choice_option("--x", LossOver, "The quantity on the x axis.")
    ] = "seconds",
    out: OutOption = None,
    output: FormatOption = "plot",
) -> None:
    """Plot the training and the validation loss of one run or of several.

    The curves are in metrics.jsonl, in the folder that train wrote. The steep fall at the
    beginning is outside the plot, since it would flatten the rest; it is among the numbers.
    """
    from textgen import checkpoint
    from textgen.studies.plots.loss import loss_plot

    with _delivery(out, output) as deliver:
        deliver(loss_plot([checkpoint.loss_curves(Path(path)) for path in checkpoints], x))


GRADIENT_EXAMPLES = """
    Where does the gradient of a plain RNN vanish, and that of an LSTM not?
    textgen plot gradient checkpoints/lstm checkpoints/rnn --out gradient.png
    Up to three hundred tokens back, on a text of your own:
    textgen plot gradient checkpoints/mine --lags 300 --file my.txt
"""
_GRADIENT_CHARACTERS = 400_000


@command_options()
def gradient(
    *,
    checkpoints: Checkpoints,
    file: FileOption = None,
    lags: Annotated[
        int, _number("--lags", "The largest distance, in tokens.", least=1, default=100)
    ] = 100,
    out: OutOption = None,
    output: FormatOption = "plot",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Plot the gradient of a token's loss with respect to the state k tokens before.

    Shown is its norm, at many places of a text, in double precision. The state of an LSTM is
    hidden values and cells of all layers as one vector; that of a plain RNN its hidden values.
    """
    from textgen.language_model import LanguageModel
    from textgen.studies.plots.gradient import gradient_norms, gradient_plot
    from textgen.studies.plots.text import text_to_read

    with _delivery(out, output) as deliver:
        measured, sources = {}, []
        for path in checkpoints:
            model = LanguageModel.load(path, device=device, threads=threads, precision="float64")
            text, source = text_to_read(model, file, most=_GRADIENT_CHARACTERS)
            measured[str(model.path)] = gradient_norms(model, text, lags=lags)
            sources.append(source)
        deliver(gradient_plot(measured, _joined(sources)))


def _joined(sources: list[str]) -> str:
    return " and ".join(dict.fromkeys(sources))


MemoryMeasure = Literal["choices", "context"]

MEMORY_EXAMPLES = """
    Which of two models of the bundled stories remembers further back?
    textgen plot memory checkpoints/lstm checkpoints/rnn --out memory.png
    How much context does a model of any text use?
    textgen plot memory checkpoints/mine --what context
"""
_MEMORY_CHARACTERS = 2_000_000


@command_options()
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
    out: OutOption = None,
    output: FormatOption = "plot",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Plot how far back a model remembers.

    choices: for a model of the bundled stories, how often it prefers the one of two
    continuations that agrees with something far before: agreement, quotes, brackets, pronouns,
    facts; by the number of characters between. context: for any model, its loss when it reads
    only so many tokens before the one that it predicts.
    """
    if what == "choices" and file is not None:
        raise UsageError("--file goes with --what context", fix="leave it out, or add that")
    from textgen.language_model import LanguageModel
    from textgen.studies.plots import memory as study
    from textgen.studies.plots.text import text_to_read

    with _delivery(out, output) as deliver:
        choices, contexts, sources = {}, {}, []
        for path in checkpoints:
            model = LanguageModel.load(path, device=device, threads=threads)
            if what == "choices":
                choices[path] = study.recall(model)
            else:
                text, source = text_to_read(model, file, most=_MEMORY_CHARACTERS)
                end = model.tokenizer.terminator
                sentences = text.removesuffix(end).split(end) if end else [text]
                contexts[path] = study.loss_by_context(model, sentences)
                sources.append(source)
        if what == "choices":
            deliver(study.choices_plot(choices))
        else:
            deliver(study.context_plot(contexts, _joined(sources)))


EMBEDDINGS_EXAMPLES = """
    Which words are nearest to this one?
    textgen plot embeddings checkpoints/words --near cat
    A map of the two hundred most frequent words, for a slide:
    textgen plot embeddings checkpoints/words --words 200 --out words.png
"""
_COUNTED_CHARACTERS = 1_000_000


@command_options()
def embeddings(
    *,
    checkpoint: Checkpoint,
    near: Annotated[
        list[str] | None,
        _option("--near", "WORD", "Show the words nearest to this one; may be given again."),
    ] = None,
    words: Annotated[
        int,
        _number("--words", "The number of most frequent tokens on the map.", least=6, default=100),
    ] = 100,
    method: Annotated[
        MapMethod, choice_option("--method", MapMethod, "The projection of the map; tsne is slow.")
    ] = "pca",
    out: OutOption = None,
    output: FormatOption = "plot",
) -> None:
    """Plot the embeddings of tokens: which are similar.

    In the terminal: the nearest neighbours of each of the most frequent words, or of those that
    --near names. With --out: a map. pca shows the two directions of the largest variance, tsne
    preserves neighbourhoods. With --format json or tsv: the neighbours with --near, else the map.
    """
    if near and out is not None:
        raise UsageError("--near is shown in the terminal", fix="leave out --near or --out")
    from textgen.language_model import LanguageModel
    from textgen.studies.plots.embeddings import EmbeddingPlot
    from textgen.studies.plots.text import text_to_read

    with _delivery(out, output) as deliver:
        model = LanguageModel.load(checkpoint, device="cpu")
        text, _ = text_to_read(model, most=_COUNTED_CHARACTERS)
        named = tuple(parsing.typed_text("--near", each) for each in near or ())
        deliver(EmbeddingPlot(model, text, named, method, words))


NEURONS_EXAMPLES = """
    Are there units that encode the position in the line, or an open quote?
    textgen plot neurons checkpoints/mine
    What does cell 17 of the lowest layer do, in a text of your own?
    textgen plot neurons checkpoints/mine "“Well,” he said." --unit cell.0.17
    The same for a slide:
    textgen plot neurons checkpoints/mine --unit 0.17 --out cell.png
"""
_NEURONS_CHARACTERS = 4000
_SHOWN, _SHOWN_OF_EACH = 1600, 480  # tokens of one unit; of each of several


@command_options()
def neurons(
    *,
    checkpoint: Checkpoint,
    text: Annotated[
        str | None,
        typer.Argument(metavar="[TEXT]", help="The text to read.", show_default=False),
    ] = None,
    file: FileOption = None,
    unit: Annotated[
        str | None,
        _option(
            "--unit",
            "UNIT",
            "The unit to show: cell.0.17, or 0.17, layer and number, or 17, in the top layer.",
            "those with the largest correlation",
        ),
    ] = None,
    out: OutOption = None,
    output: FormatOption = "plot",
    device: DeviceOption = "auto",
    threads: ThreadsOption = None,
) -> None:
    """Plot the values of one unit of the network as colours of the text, token by token.

    Without --unit, all units are correlated with the position in the line, with being inside
    quotes and with being inside brackets; the best for each is shown. The units of an LSTM are
    its cells and hidden values.
    """
    if text is not None and file is not None:
        raise UsageError("TEXT and --file cannot both be given", fix="leave one out")
    from textgen.language_model import LanguageModel
    from textgen.studies.plots import neurons as study
    from textgen.studies.plots.text import text_to_read

    with _delivery(out, output) as deliver:
        model = LanguageModel.load(checkpoint, device=device, threads=threads)
        if text is None:
            text, _ = text_to_read(model, file, most=_NEURONS_CHARACTERS)
        states = study.read_states(model, parsing.typed_text("TEXT", text))
        if unit is None:
            found = study.search(states)
            deliver(study.NeuronPlot(study.best_traces(states, found, most=_SHOWN_OF_EACH), found))
        else:
            deliver(study.NeuronPlot([study.trace(states, unit, most=_SHOWN)], []))


COMMANDS = (
    (loss, LOSS_EXAMPLES),
    (gradient, GRADIENT_EXAMPLES),
    (memory, MEMORY_EXAMPLES),
    (embeddings, EMBEDDINGS_EXAMPLES),
    (neurons, NEURONS_EXAMPLES),
)
