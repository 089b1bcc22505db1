r"""Tokens one by one, so that each can be told from every other.

A space is ``␣``, a line's end ``\n``, a tab ``\t``, other control characters ``\x1b``; a
backslash is ``\\``, a ``␣`` of the text itself ``\␣`` and a literal ``<EOS>`` of the text
``\<EOS>``, so that nothing is ambiguous.
"""

from rich.text import Text

from textgen.presentation.console import shown

_SPACE = "␣"
_SPECIAL_NAMES = ("<UNK>", "<EOS>")  # of the ids 0 and 1 in every vocabulary


def visible(token: str, id: int | None = None) -> str:
    r"""A token without white space. id: tells ``<EOS>`` from a text that spells it.

    >>> visible("the "), visible("\n"), visible("<EOS>", 1), visible("<EOS>", 7)
    ('the␣', '\\n', '<EOS>', '\\<EOS>')
    """
    if token in _SPECIAL_NAMES:
        is_special = id is None or id == _SPECIAL_NAMES.index(token)
        return token if is_special else "\\" + token
    escaped = shown(token.replace("\\", "\\\\").replace(_SPACE, "\\" + _SPACE))
    return "".join(_SPACE if each == " " else _without_space(each) for each in escaped)


def token_text(token: str, id: int | None = None, *, unknown: bool = False) -> Text:
    """A token for a table; an unknown one is told by its colour too."""
    return Text(visible(token, id), style="unknown" if unknown else "")


def _without_space(character: str) -> str:
    if not character.isspace():
        return character
    code = ord(character)
    return f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}"
