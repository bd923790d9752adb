"""Answers where no route matches: preflights, and the 404 page (H2, wire 5.2)."""

from aiohttp import web

from ..messages.answers import empty_answer
from ..messages.pages import NotFound


async def options_any(_request: web.Request) -> web.Response:
    """OPTIONS on any path: empty; the CORS headers are added to every answer where they are on."""
    return empty_answer()


async def options_public(_request: web.Request) -> web.Response:
    """OPTIONS on a key of a public space."""
    return empty_answer(204)


async def no_route(_request: web.Request) -> web.Response:
    """Any method on a path without a route, or a method that a path does not have."""
    raise NotFound
