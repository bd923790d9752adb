"""Reading of requests to a door (DR2, DR3).

Everything is checked before a body is read. Nothing decodes the path of a request, and each path
has only one accepted spelling, so two parts of the door cannot take it for two different paths.
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
from serving.host_names import names_no_web_page

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
_PARAMETER = re.compile(r"(?P<name>[a-z_]{1,32})=(?P<value>[A-Za-z0-9]{0,32})", re.ASCII)
_TOKEN = re.compile(r"[A-Za-z0-9_.-]{1,256}", re.ASCII)
_SINGLE_HEADERS = (
    "X-Vault-Token",
    "Authorization",
    "X-Vault-Namespace",
    "X-Vault-Wrap-TTL",
    "Content-Type",
    "Host",
)
_PIECE_BYTES = 65_536


@frozen
class ApiRequest:
    """A request with a valid form.

    Attributes:
        operation: the operation that is asked for.
        path: path below `/v1/`, without a slash at its end.
        parameters: parameters of the query.
        token: the door token; None if there is none. Hidden when this object is printed.
        source: the HTTP request, for its body.
        client: address by which the client is counted; None for clients on this machine.
    """

    operation: Operation
    path: str
    parameters: Mapping[str, str]
    token: str | None = field(repr=False)
    source: web.Request
    client: str | None

    def require_parameters(self, allowed: Collection[str]) -> None:
        """Refuse parameters that a path does not have.

        Raises:
            DoorRefusal: a parameter is not in `allowed`. The text does not have its value, which
                may be a token.
        """
        for name in self.parameters:
            if name not in allowed:
                raise DoorRefusal(
                    400,
                    f"the parameter {name} is unknown here; next: leave it out, and send tokens in"
                    " the header X-Vault-Token only",
                )

    async def body(self, *, most_bytes: int) -> JsonObject:
        """Read the body, a JSON object; an empty body is an empty object.

        Raises:
            DoorRefusal: the body is too long, too slow, or not a JSON object. The text has no part
                of the body.
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
            DoorRefusal: the body is too long, too slow or compressed.
        """
        return await _read_body(self.source, most_bytes)


def read_request(
    request: web.Request, *, list_method: str, own_host: str | None, client: str | None
) -> ApiRequest:
    """Check the form of a request.

    Args:
        request: the HTTP request.
        list_method: the method by which the listener passes on the method LIST.
        own_host: the host that the door listens on without TLS; None if no page can reach it by a
            name of its own, because it has a certificate or a Unix socket.
        client: address by which the client is counted; None for clients on this machine.
    Raises:
        DoorRefusal: the path, the query or a header is not valid, or is not supported.
    """
    _refuse_web_page(request, own_host)
    _require_supported_headers(request)
    target, question_mark, query = request.raw_path.partition("?")
    if len(request.raw_path) > MAX_TARGET_CHARS:
        raise DoorRefusal(
            414, f"the path has more than {MAX_TARGET_CHARS} characters; next: use a shorter one"
        )
    path = _parse_path(target)
    parameters = _parse_query(query) if question_mark else {}
    operation = "list" if request.method == list_method else _METHODS.get(request.method)
    if operation is None:
        raise DoorRefusal(405, f"the method {request.method} is not supported; next: use another")
    # A client that cannot send the method LIST sends GET with this parameter.
    if operation == "read" and parameters.get("list") == "true":
        operation = "list"
    # Only listings have a slash at the end.
    if path.endswith("/") and operation != "list":
        raise DoorRefusal(400, "the path ends with a slash; next: leave it out, or list the path")
    return ApiRequest(
        operation=operation,
        path=path.removesuffix("/"),
        parameters=parameters,
        token=_read_token(request),
        source=request,
        client=client,
    )


def token_digest(token: str) -> bytes:
    """Return the digest by which a token is looked up.

    A lookup by the token itself would take a time that depends on its first bytes.
    """
    return hashlib.sha256(token.encode()).digest()


def _refuse_web_page(request: web.Request, own_host: str | None) -> None:
    """Refuse a request that a web page made (DR3)."""
    # A page of any site can make a browser on this machine send requests to its loopback address.
    # Browsers add these headers themselves; no client of this API does.
    if "Origin" in request.headers or "Sec-Fetch-Site" in request.headers:
        raise DoorRefusal(
            403, "a door does not answer web pages; next: send the request from a program"
        )
    # A browser leaves both out of what it takes for a page's own address.
    host = request.headers.get("Host", "")
    if own_host is not None and not names_no_web_page(host, own=own_host):
        raise DoorRefusal(
            403,
            "the header Host names neither this machine nor an address, so a web page may have sent"
            " the request; next: use the address that the door printed",
        )


def _require_supported_headers(request: web.Request) -> None:
    """Refuse headers that are there twice, or that ask for what a door does not have (DR3).

    A client relies on the meaning of these headers, so none of them is ignored.
    """
    for name in _SINGLE_HEADERS:
        if len(request.headers.getall(name, ())) > 1:
            raise DoorRefusal(400, f"the header {name} is there twice; next: send it once")
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


def _parse_path(target: str) -> str:
    """Return the path below `/v1/`, as it was sent.

    Raises:
        DoorRefusal: it is elsewhere, has a character or a segment that no path has, or has a
            segment of dots.
    """
    path = target.removeprefix(_PREFIX)
    if path == target:
        raise unserved("a door answers only below /v1/", "set VAULT_ADDR without a path")
    path_without_slash = path.removesuffix("/")
    if _PATH.fullmatch(path_without_slash) is None:
        raise DoorRefusal(
            400,
            "the path has an empty segment or a character that no path of a door has, such as %;"
            " next: use letters, digits, dots, dashes, underscores and single slashes",
        )
    # A part of the door that resolved such a segment would leave the mount (DR5).
    segments = path_without_slash.split("/")
    if "." in segments or ".." in segments:
        raise DoorRefusal(
            400, "the path leads out of its mount by a segment of dots; next: leave them out"
        )
    return path


def _parse_query(query: str) -> dict[str, str]:
    """Return the parameters of a query, by their names.

    Raises:
        DoorRefusal: a parameter has another form, or is there twice.
    """
    parameters: dict[str, str] = {}
    for text in query.split("&"):
        match = _PARAMETER.fullmatch(text)
        if match is None or match["name"] in parameters:
            raise DoorRefusal(
                400, "the query is not valid; next: send each parameter once, as name=value"
            )
        parameters[match["name"]] = match["value"]
    return parameters


def _read_token(request: web.Request) -> str | None:
    """Return the door token of a request; None if it has none.

    A token of another form becomes "", which no grant has, so the request is refused like one with
    an unknown token.

    Raises:
        DoorRefusal: the two headers have different tokens.
    """
    tokens = set()
    if "X-Vault-Token" in request.headers:
        tokens.add(request.headers["X-Vault-Token"])
    scheme, _, bearer_token = request.headers.get("Authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        tokens.add(bearer_token)
    if not tokens:
        return None
    if len(tokens) > 1:
        raise DoorRefusal(400, "two headers have different tokens; next: send one of them")
    (token,) = tokens
    return token if _TOKEN.fullmatch(token) else ""


async def _read_body(request: web.Request, most_bytes: int) -> bytes:
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
