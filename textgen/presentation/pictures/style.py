"""How every figure looks: for a slide, on white, in colours that the colour-blind tell apart."""

import textwrap
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH, HEIGHT = 12.0, 6.75  # inches: 16 to 9
INK, GREY, LIGHT = "#222222", "#5f6368", "#dfe1e5"
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#7F5F3F")
"""Okabe and Ito's (2008), but for yellow, which is lost on white."""

MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*")
_NOTE_CHARACTERS = 90  # as wide as the axes
_SETTINGS: Any = {
    "font.size": 15,
    "axes.labelsize": 16,
    "xtick.labelsize": 14,
    "ytick.labelsize": 14,
    "legend.fontsize": 15,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "text.color": INK,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.unicode_minus": True,
    "figure.facecolor": "white",
    "savefig.facecolor": "white",
    "text.parse_math": False,  # a dollar of a text is a dollar
    "svg.hashsalt": "textgen",  # the same names inside a file each time
}


@contextmanager
def styled() -> Iterator[None]:
    """Figures that are made and written in this block have the look."""
    import matplotlib

    with matplotlib.rc_context(_SETTINGS), warnings.catch_warnings():
        # A character that the font lacks is drawn as a box; the picture is whole all the same.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        yield


def new_figure(height: float = HEIGHT) -> "Figure":
    """An empty figure, not bound to any display."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    layout = ConstrainedLayoutEngine(w_pad=0.15, h_pad=0.15)
    return Figure(figsize=(WIDTH, height), layout=layout)


def set_title(axes: "Axes", title: str, note: str = "") -> None:
    """A title over the axes, and a note in smaller lines under it."""
    lines = textwrap.wrap(note, _NOTE_CHARACTERS)
    bold: Any = {"fontsize": 21, "fontweight": "bold"}
    axes.set_title(title, loc="left", pad=18 + 22 * len(lines), fontdict=bold)
    if note:
        place: Any = {"xytext": (0, 16), "textcoords": "offset points"}
        axes.annotate(
            "\n".join(lines), (0, 1), xycoords="axes fraction", fontsize=14, color=GREY, **place
        )


def colour(group: int) -> str:
    return COLOURS[group % len(COLOURS)]


def quiet_grid(axes: "Axes") -> None:
    axes.grid(visible=True, axis="y", color=LIGHT, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=6)
