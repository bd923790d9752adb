"""The token of a request: the first `Authorization` header, as it is (E1)."""

from typing import Final

from aiohttp import web

from .problems import Unauthenticated

_NAME: Final = "Authorization"


def token_of(request: web.Request) -> str:
    """Return the raw token.

    Raises:
        Unauthenticated: there is none.
    """
    token = request.headers.get(_NAME)
    if token is None:
        raise Unauthenticated
    return token
