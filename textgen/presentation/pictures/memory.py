"""Does it remember? Choices over a distance, and the loss by how much context is seen."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

from textgen.presentation.pictures.lines import Axis, Line, LinePicture, checkpoint_names
from textgen.presentation.pictures.rows import Row
from textgen.results import Accuracy, ContextLoss, Recall

Recalls = Mapping[str, Sequence[Recall]]
ContextLosses = Mapping[str, Sequence[ContextLoss]]
"""Both by checkpoint."""

CHOICES_TITLE = "Does it remember? Long-distance choices, by distance"
_LEAST_PAIRS = 20
CHOICES_NOTE = f"Shaded: 95 % interval. At least {_LEAST_PAIRS} pairs a point."
_CHANCE = (0.5, "guessing")
_KINDS = {
    "agreement": "Agreement",
    "brackets": "Closing brackets",
    "facts": "Recalled facts",
    "pronouns": "Pronouns",
    "quotes": "Closing quotes",
}
_DISTANCES = (5.0, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0)
_LEAST_DISTANCE = 4.0


def choices_pictures(measured: Recalls) -> list[LinePicture]:
    """A picture of all kinds together, then one of each."""
    kinds = [kind for kind in _KINDS if any(r.kind == kind for rs in measured.values() for r in rs)]
    together = {path: _together(recalls) for path, recalls in measured.items()}
    pictures = [_choices("All together", together)]
    for kind in kinds:
        own = {path: [r for r in recalls if r.kind == kind] for path, recalls in measured.items()}
        pictures.append(_choices(_KINDS[kind], own))
    return pictures


def _together(recalls: Sequence[Recall]) -> list[Recall]:
    """The pairs of all kinds, bucket by bucket."""
    buckets: dict[int, list[Recall]] = {}
    for recall in recalls:
        if recall.accuracy.pairs:
            buckets.setdefault(recall.shortest, []).append(recall)
    merged = []
    for _, some in sorted(buckets.items()):
        pairs = sum(each.accuracy.pairs for each in some)
        right = sum(each.accuracy.right for each in some)
        distance = sum(each.distance * each.accuracy.pairs for each in some) / pairs
        merged.append(replace(some[0], distance=distance, accuracy=Accuracy(right, pairs)))
    return merged


def _choices(title: str, measured: Recalls) -> LinePicture:
    lines = []
    names = checkpoint_names(list(measured))
    for group, (name, recalls) in enumerate(zip(names, measured.values(), strict=True)):
        asked = [each for each in recalls if each.accuracy.pairs >= _LEAST_PAIRS]
        places = [max(each.distance, _LEAST_DISTANCE) for each in asked]
        shares = [100 * each.accuracy.share for each in asked]
        sure = [tuple(100 * end for end in each.accuracy.interval) for each in asked]
        band = tuple((x, low, high) for x, (low, high) in zip(places, sure, strict=True))
        points = tuple(zip(places, shares, strict=True))
        lines.append(Line(name, points, group, band=band, dots=True))
    ends = [x for line in lines for x, _ in line.points]
    return LinePicture(
        title=title,
        x=Axis("distance", "characters", log=True, ticks=_DISTANCES[:-1]),
        y=Axis("right", "%", shown=lambda value: f"{value:.0f}", limits=(20, 103)),
        lines=tuple(lines),
        at=tuple(x for x in _DISTANCES if ends and min(ends) <= x <= max(ends)),
        baseline=(100 * _CHANCE[0], _CHANCE[1]),
    )


def context_picture(measured: ContextLosses, of: str = "") -> LinePicture:
    """The loss of the same tokens, the more of what comes before them is seen."""
    lines = []
    names = checkpoint_names(list(measured))
    for group, (name, losses) in enumerate(zip(names, measured.values(), strict=True)):
        part = [(float(each.context), each) for each in losses if each.context is not None]
        points = tuple((x, each.loss) for x, each in part)
        band = tuple((x, each.loss - each.error, each.loss + each.error) for x, each in part)
        lines.append(Line(name, points, group, band=band, dots=True))
        lines += [
            Line("", ((part[0][0], each.loss), (part[-1][0], each.loss)), group, dashed=True)
            for each in losses
            if each.context is None and part
        ]
    seen = sorted({x for line in lines for x, _ in line.points})
    tokens = min((each.tokens for losses in measured.values() for each in losses), default=0)
    return LinePicture(
        title="How much context does it use?",
        x=Axis("context", "tokens", log=True, ticks=tuple(seen)),
        y=Axis("loss", "nats a token", shown=lambda value: f"{value:.2f}"),
        lines=tuple(lines),
        at=tuple(seen),
        note=f"The same {tokens:,} tokens of {of or 'a text'}; shaded: standard error;"
        " dashed: all that comes before.",
    )


def choices_rows(measured: Recalls) -> Iterator[Row]:
    for path, recalls in measured.items():
        for each in recalls:
            low, high = each.accuracy.interval
            yield {
                "checkpoint": path,
                "kind": each.kind,
                "shortest": each.shortest,
                "longest": each.longest,
                "distance": each.distance,
                "accuracy": each.accuracy.share,
                "lower": low,
                "upper": high,
                "right": each.accuracy.right,
                "tied": each.accuracy.tied,
                "pairs": each.accuracy.pairs,
            }


def context_rows(measured: ContextLosses) -> Iterator[Row]:
    for path, losses in measured.items():
        for each in losses:
            yield {
                "checkpoint": path,
                "context": each.context,
                "loss": each.loss,
                "error": each.error,
                "tokens": each.tokens,
            }
