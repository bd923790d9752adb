"""Answers where no route matches: preflights, the 404 page, and 405 on paths of our own surface (H2, wire 5.2)."""

from aiohttp import web

from ..messages.answers import empty_answer
from ..messages.pages import NotFound, WrongMethod
from ..messages.route import Handler


async def options_any(_request: web.Request) -> web.Response:
    """OPTIONS on any path: empty; the CORS headers are added to every answer where they are on."""
    return empty_answer()


async def options_public(_request: web.Request) -> web.Response:
    """OPTIONS on a key of a public space."""
    return empty_answer(204)


def wrong_method(allowed: tuple[str, ...]) -> Handler:
    """Return what answers other methods on a path of our own surface, preflights too; the wire has 404 for that."""

    async def refuse(request: web.Request) -> web.Response:
        if request.method == "OPTIONS":
            return empty_answer()
        raise WrongMethod(allowed)

    return refuse


async def no_route(_request: web.Request) -> web.Response:
    """Any method on a path without a route, or a method that a path does not have."""
    raise NotFound
