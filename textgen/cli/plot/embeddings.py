"""``textgen plot embeddings``: which words are alike to it?"""

from typing import Annotated

import typer

from textgen.cli import parsing
from textgen.cli.fields import choice_option, command_options
from textgen.cli.options import Checkpoint
from textgen.cli.plot.showing import FormatOption, OutOption, deliver, opened
from textgen.config import MapMethod
from textgen.errors import UsageError

EXAMPLES = """
    Which words are nearest to this one?
    textgen plot embeddings checkpoints/words --near cat
    A map of the two hundred most frequent words, for a slide:
    textgen plot embeddings checkpoints/words --words 200 --out words.png
"""
_COUNTED_CHARACTERS = 1_000_000
_ROWS, _NEAREST = 16, 6


@command_options()
def embeddings(
    *,
    checkpoint: Checkpoint,
    near: Annotated[
        list[str] | None,
        typer.Option(
            "--near",
            metavar="WORD",
            help="Show the words nearest to this one; may be given again.",
            show_default=False,
        ),
    ] = None,
    words: Annotated[
        int,
        typer.Option(
            "--words",
            parser=parsing.whole_number("--words", least=6),
            metavar="N",
            help="How many of the most frequent tokens are on the map.",
            show_default="default: 100",
        ),
    ] = 100,
    method: Annotated[
        MapMethod, choice_option("--method", MapMethod, "How the map is made; tsne takes a while.")
    ] = "pca",
    out: OutOption = None,
    output: FormatOption = "picture",
) -> None:
    """Show which tokens are alike to a model: those whose embeddings are near one another.

    In the terminal, the nearest of each of the most frequent words, or of those that --near
    names. With --out, a map: pca shows the two directions in which the embeddings differ most,
    tsne keeps near what is near. With --format json or tsv, what the picture would show: with
    --near the neighbours, else the map.
    """
    if near and out is not None:
        raise UsageError("--near is shown in the terminal", fix="leave out --near or --out")
    from textgen.language_model import LanguageModel
    from textgen.presentation.pictures import embeddings as pictures
    from textgen.studies import embeddings as study
    from textgen.studies.reading import text_to_read

    with opened(out) as file:
        model = LanguageModel.load(checkpoint, device="cpu")
        text = text_to_read(model, most=_COUNTED_CHARACTERS)[0]
        if near:
            found = study.neighbours(model, [parsing.typed_text("--near", each) for each in near])
            rows = pictures.neighbour_rows(found)
        elif out is None and output == "picture":
            frequent = study.frequent_words(model, text, _ROWS)
            found = study.neighbours(model, frequent, _NEAREST)
        else:
            map = study.map_embeddings(model, text, method=method, tokens=words)
            rows = pictures.map_rows(map)
        deliver(
            file,
            output,
            figure=lambda: pictures.embedding_figure(map),
            terminal=lambda width: pictures.neighbour_table(found),
            rows=lambda: rows,
        )
