"""Functions that make untrusted text safe to print on a terminal.

Only printable characters reach a terminal (spec/operations/running.md). Otherwise a text could move
the cursor, hide the text before it, or look like a separate line.

Example:
    print(printable_line(f"{when}  {printable(invoker)}"))
"""

_MAX_SHOWN_CHARS = 400
# Unicode counts these as letters or symbols, but they are shown blank. With them an attacker could
# push the rest of a line out of sight.
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


def printable(text: str, *, most: int = _MAX_SHOWN_CHARS) -> str:
    """Return text as a single line of printable characters.

    The line is cut after `most` characters.
    """
    # A long text is cut before the work on it. Twice the length is kept, because blanks get lost.
    line = printable_line(text[: 2 * most])
    return " ".join(line.split())[:most]


def printable_line(line: str) -> str:
    """Replace unprintable characters in a line.

    Spaces are kept.
    """
    signs = []
    for sign in line:
        if sign.isprintable() and sign not in _BLANK:
            signs.append(sign)
        else:
            signs.append("\ufffd")
    return "".join(signs)


def format_message(*lines: str, level: str = "info") -> str:
    """Format a message for standard error.

    Control characters are replaced. A node that logs JSON replaces this function, which ignores the
    level.
    """
    return "\n".join(map(printable_line, lines))
