"""Untrusted text, made fit for a person's terminal.

Rules kept here (spec/operations/running.md): nothing but printable characters reaches a terminal,
so that no text moves its cursor, hides what precedes it, or looks like a line of its own.

Example:
    print(printable_line(f"{when}  {printable(invoker)}"))
"""

from typing import Final

_MAX_SHOWN_CHARS: Final = 400
# Letters and symbols by their category, and blank all the same: with them a line can be filled up
# to its end.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def printable(text: str, *, most: int = _MAX_SHOWN_CHARS) -> str:
    """Return a text in one line, cut, without control characters, and unable to look like a line of
    its own."""
    return " ".join(printable_line(text[: 2 * most]).split())[:most]


def printable_line(line: str) -> str:
    """Return a line of ours, blanks and all, in which a replacement character stands for each that
    is not printable."""
    return "".join(sign if sign.isprintable() and sign not in _BLANK else "\ufffd" for sign in line)
