"""Reading what a guest wants to send (RN101 to RN105).

A URL has one spelling: what another program could read in another way is refused, not repaired.

Example:
    request = parse_request(message, hosts=frozenset({"api.example.com"}), any_port=False)
    request.host
"""

import re
from collections.abc import Set
from dataclasses import dataclass, field
from typing import Final

from .frames import unpack_parts

HTTPS_PORT: Final = 443
MAX_URL_CHARS: Final = 8192
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 16 * 1024
"""Names and values together."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# RN104. Of the host nothing is decided here but that it can be one: it is compared with names that were.
_URL: Final = re.compile(
    r"https://([a-z0-9.-]{1,253})(?::([1-9][0-9]{0,4}))?"
    r"((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})+)?)"
)
_NAME: Final = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE: Final = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_OWN: Final = frozenset(
    """
    connection content-length expect host http2-settings keep-alive proxy-authenticate proxy-authorization
    proxy-connection te trailer transfer-encoding upgrade
    """.split()  # noqa: SIM905  # a list of words
)
"""Headers that are about the connection, which is the runner's (RN105)."""


class RequestRefused(Exception):
    """There is no response; `code` is one of `FETCH_ERRORS`."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@dataclass(frozen=True, slots=True)
class OutboundRequest:
    """A request that may be made, if the host's address may be contacted.

    Attributes:
        host: in its one spelling; among those allowed.
        port: 443, but for loopback.
        url: as the guest wrote it; may contain a secret.
        headers: names and values, in order.
    """

    method: str
    host: str
    port: int
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


def parse_request(message: bytes, *, hosts: Set[str], any_port: bool) -> OutboundRequest:
    """Read a message of a guest, untrusted, at most `MAX_MESSAGE_BYTES`.

    Args:
        message: as `_frames` describes it.
        hosts: that the run may contact, each as `sealspace.documents.run_grants.checked_host` takes it.
        any_port: whether another port than 443 may be named: for loopback alone.
    Raises:
        RequestRefused: `request-invalid` or `host-refused`.
    """
    try:
        parts = unpack_parts(message, most=2 * MAX_HEADERS + 3)
        method, url, *texts = [part.decode("ascii") for part in parts[:-1]]
    except ValueError as exc:  # UnicodeDecodeError too
        raise RequestRefused("request-invalid") from exc
    found = _URL.fullmatch(url) if len(url) <= MAX_URL_CHARS else None
    if method not in _METHODS or found is None or len(texts) % 2:
        raise RequestRefused("request-invalid")
    headers = tuple(zip(texts[::2], texts[1::2], strict=True))
    if sum(map(len, texts)) > MAX_HEADER_BYTES or not all(_is_header(name, value) for name, value in headers):
        raise RequestRefused("request-invalid")
    host, port = found[1], int(found[2] or HTTPS_PORT)
    if (port != HTTPS_PORT and not any_port) or port > 0xFFFF:  # RN104
        raise RequestRefused("request-invalid")
    # RN102: before its name is resolved. A number is no name: aiohttp would connect to it and ask no resolver (RN106).
    if host not in hosts or not re.search("[a-z]", host):
        raise RequestRefused("host-refused")
    return OutboundRequest(method, host, port, url, headers, parts[-1])


def _is_header(name: str, value: str) -> bool:
    return (
        _NAME.fullmatch(name) is not None
        and name.lower() not in _OWN  # RN105
        and _VALUE.fullmatch(value) is not None  # no line end can be in it
    )
