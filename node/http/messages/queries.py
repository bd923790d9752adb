"""Members of a URL's query, read leniently: what is no number is ignored."""

from typing import Final

from aiohttp import web

_MAX_DIGITS: Final = 9


def whole_number(request: web.Request, name: str, *, default: int) -> int:
    """Return a whole number of at most nine digits, not negative; the default for anything else."""
    text = request.query.get(name, "")
    return int(text) if text.isascii() and text.isdigit() and len(text) <= _MAX_DIGITS else default
