"""When the next checkpoint of a run is due."""

from dataclasses import dataclass

_INTERVAL_SECONDS = 60.0
_LONGEST_SECONDS = 600.0
_MOST_SAVING = 0.02


@dataclass
class SaveClock:
    """Keeps saving to a fiftieth of a run's time, whatever the model's size and the disk's speed.

    asked: the seconds between saves where the user chose them; they are then heeded.
    saved_at: the run's seconds when the newest save was done. save_seconds: what it took.
    """

    asked: float | None = None
    saved_at: float = 0.0
    save_seconds: float = 0.0

    @property
    def interval(self) -> float:
        """A minute; where that would be too often, longer, but ten minutes at most."""
        if self.asked is not None:
            return self.asked
        return min(_LONGEST_SECONDS, max(_INTERVAL_SECONDS, self.save_seconds / _MOST_SAVING))

    def is_due(self, seconds: float) -> bool:
        return seconds - self.saved_at >= self.interval

    def saved(self, begun_at: float, took: float) -> None:
        """A save began at ``begun_at`` of the run's seconds and took ``took`` of them."""
        self.save_seconds = took
        self.saved_at = begun_at + took
