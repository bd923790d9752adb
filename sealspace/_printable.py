"""What a stranger wrote, made fit for a person's terminal."""

from typing import Final

_MAX_SHOWN_CHARS: Final = 400
# Letters and symbols by their category, and blank all the same: with them a line can be filled up to its end.
_BLANK: Final = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def printable(text: str, *, most: int = _MAX_SHOWN_CHARS) -> str:
    """Return a text in one line, cut, without control characters, and without room to look like a line of its own.

    Args:
        text: untrusted.
        most: characters that are kept.
    """
    seen = "".join(sign if sign.isprintable() and sign not in _BLANK else "\ufffd" for sign in text[: 2 * most])
    return " ".join(seen.split())[:most]
