"""A terminal, and how well two colours stand out from one another."""

from __future__ import annotations

import io
from collections.abc import Callable

import pytest


class Terminal(io.StringIO):
    encoding = "utf-8"

    def isatty(self) -> bool:
        return True


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Terminal]:
    """Puts a terminal in place of a stream: terminal("stdout")."""
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLORTERM", "truecolor")  # rich keeps the codes of a style
    monkeypatch.delenv("NO_COLOR", raising=False)

    def put(stream: str) -> Terminal:
        new = Terminal()
        monkeypatch.setattr(f"sys.{stream}", new)
        return new

    return put


def _luminance(colour: str) -> float:
    """WCAG 2: of linear light, from black, 0, to white, 1."""
    parts = (int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5))
    linear = [
        each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in parts
    ]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.fixture
def contrast() -> Callable[[str, str], float]:
    """The contrast of two colours #rrggbb, from 1, negative where the first is the darker."""

    def ratio(one: str, other: str) -> float:
        first, second = _luminance(one) + 0.05, _luminance(other) + 0.05
        return first / second if first >= second else -second / first

    return ratio
