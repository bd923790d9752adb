"""Reading of requests to a door (DR2, DR3).

Everything is checked before a body is read. The path of a request is taken as it was sent, and
every spelling but one of it is refused: nothing decodes it, so that no two parts of the door can
take it for two different paths.
"""

import asyncio
import hashlib
import re
from collections.abc import Collection, Mapping
from dataclasses import field
from typing import Literal

from aiohttp import web

from capabilities.capability_errors import InvalidJson
from capabilities.frozen import frozen
from capabilities.strict_json import JsonObject, parse_json

from .door_errors import DoorRefusal, unserved
from .limits import BODY_S, MAX_TARGET_CHARS

Operation = Literal["read", "list", "write", "delete"]

_METHODS: Mapping[str, Operation] = {
    "GET": "read",
    "HEAD": "read",
    "POST": "write",
    "PUT": "write",
    "DELETE": "delete",
}
_PREFIX = "/v1/"
_PATH = re.compile(r"[A-Za-z0-9_.-]+(?:/[A-Za-z0-9_.-]+)*", re.ASCII)
_PARAMETER = re.compile(r"([a-z_]{1,32})=([A-Za-z0-9]{0,32})", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,256}", re.ASCII)
_ONCE = ("X-Vault-Token", "Authorization", "X-Vault-Namespace", "X-Vault-Wrap-TTL", "Content-Type")
_PIECE_BYTES = 65_536


@frozen
class ApiRequest:
    """A request with a valid form.

    Attributes:
        operation: what is asked for.
        path: below `/v1/`, without a slash at its end.
        parameters: those of the query.
        token: the door token; None if there is none. Hidden when this object is printed.
        source: the HTTP request, for its body.
    """

    operation: Operation
    path: str
    parameters: Mapping[str, str]
    token: str | None = field(repr=False)
    source: web.Request

    def require_parameters(self, allowed: Collection[str]) -> None:
        """Refuse parameters that a path does not have.

        Raises:
            DoorRefusal: there is another one. Its value is not in the text: it may be a token.
        """
        for name in self.parameters:
            if name not in allowed:
                raise DoorRefusal(
                    400,
                    f"the parameter {name} is unknown here; next: leave it out, and send tokens in"
                    " the header X-Vault-Token only",
                )

    async def body(self, *, most_bytes: int) -> JsonObject:
        """Read the body, a JSON object; an empty one is an empty object.

        Raises:
            DoorRefusal: it is too long, too slow, or no JSON object. The text has no part of it.
        """
        data = await self.raw_body(most_bytes=most_bytes)
        if not data.strip():
            return {}
        try:
            return parse_json(data, max_bytes=most_bytes)
        except InvalidJson:
            raise DoorRefusal(
                400, "the body is not a JSON object in UTF-8; next: send one, such as {}"
            ) from None

    async def raw_body(self, *, most_bytes: int) -> bytes:
        """Read the body as it was sent.

        Raises:
            DoorRefusal: it is too long or too slow.
        """
        return await _read(self.source, most_bytes)


def read_request(request: web.Request, *, list_method: str) -> ApiRequest:
    """Check the form of a request.

    Args:
        request: the HTTP request.
        list_method: the method by which the listener passes on the method LIST.
    Raises:
        DoorRefusal: the path, the query or a header is not valid, or is not supported.
    """
    _require_own_client(request)
    for name in _ONCE:
        if len(request.headers.getall(name, ())) > 1:
            raise DoorRefusal(400, f"the header {name} is there twice; next: send it once")
    # What is ignored would have a meaning that the client relies on (DR3).
    if request.headers.get("X-Vault-Namespace", ""):
        raise DoorRefusal(
            400,
            "this door has no namespaces; next: leave out the header X-Vault-Namespace, for example"
            " with: unset VAULT_NAMESPACE BAO_NAMESPACE",
        )
    if request.headers.get("X-Vault-Wrap-TTL", ""):
        raise DoorRefusal(
            400,
            "this door wraps no answers; next: leave out the header X-Vault-Wrap-TTL, for example"
            " the option -wrap-ttl",
        )
    target, has_query, query = request.raw_path.partition("?")
    path = _path_of(request.raw_path, target)
    parameters = _parameters_of(query) if has_query else {}
    operation = "list" if request.method == list_method else _METHODS.get(request.method)
    if operation is None:
        raise DoorRefusal(405, f"the method {request.method} is not supported; next: use another")
    if operation == "read" and parameters.get("list") == "true":
        operation = "list"
    # Only listings have a slash at the end.
    if path.endswith("/") and operation != "list":
        raise DoorRefusal(400, "the path ends with a slash; next: leave it out, or list the path")
    return ApiRequest(
        operation=operation,
        path=path.removesuffix("/"),
        parameters=parameters,
        token=_token_of(request),
        source=request,
    )


def token_digest(token: str) -> bytes:
    """Return the digest by which a token is looked up.

    A lookup by the token itself would take a time that depends on its first bytes.
    """
    return hashlib.sha256(token.encode()).digest()


def _require_own_client(request: web.Request) -> None:
    """Refuse requests of web pages (DR3)."""
    # A page of any site can make a browser on this machine send requests to its loopback address.
    # Browsers add these headers themselves; no client of this API does.
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        raise DoorRefusal(
            403, "a door does not answer web pages; next: send the request from a program"
        )


def _path_of(raw: str, target: str) -> str:
    if len(raw) > MAX_TARGET_CHARS:
        raise DoorRefusal(
            414, f"the path has more than {MAX_TARGET_CHARS} characters; next: use a shorter one"
        )
    path = target.removeprefix(_PREFIX)
    if path == target:
        raise unserved("a door answers only below /v1/", "set VAULT_ADDR without a path")
    inner = path.removesuffix("/")
    if _PATH.fullmatch(inner) is None:
        raise DoorRefusal(
            400,
            "the path has an empty segment or a character that no path of a door has, such as %;"
            " next: use letters, digits, dots, dashes, underscores and single slashes",
        )
    # Both would lead out of the mount for whoever resolves them (DR5).
    if not {".", ".."}.isdisjoint(inner.split("/")):
        raise DoorRefusal(
            400, "the path leads out of its mount by a segment of dots; next: leave them out"
        )
    return path


def _parameters_of(query: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in query.split("&"):
        match = _PARAMETER.fullmatch(text)
        if match is None or match[1] in found:
            raise DoorRefusal(
                400, "the query is not valid; next: send each parameter once, as name=value"
            )
        found[match[1]] = match[2]
    return found


def _token_of(request: web.Request) -> str | None:
    tokens = []
    if "X-Vault-Token" in request.headers:
        tokens.append(request.headers["X-Vault-Token"])
    scheme, _, bearer = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        tokens.append(bearer)
    if not tokens:
        return None
    if len(set(tokens)) > 1:
        raise DoorRefusal(400, "two headers have different tokens; next: send one of them")
    (token,) = set(tokens)
    return token if _TOKEN.fullmatch(token) else ""


async def _read(request: web.Request, most_bytes: int) -> bytes:
    """Read a body of a bounded size within a bounded time."""
    too_long = DoorRefusal(413, f"the body has more than {most_bytes} bytes; next: send less")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise DoorRefusal(415, "the body is compressed; next: send it as it is")
    if (request.content_length or 0) > most_bytes:
        raise too_long
    data = bytearray()
    try:
        async with asyncio.timeout(BODY_S):
            async for piece in request.content.iter_chunked(_PIECE_BYTES):
                data += piece
                if len(data) > most_bytes:
                    raise too_long
    except TimeoutError:
        raise DoorRefusal(408, f"the body took more than {BODY_S:.0f} s; next: try again") from None
    return bytes(data)
