"""Requests that the runner makes for guests (RN100 to RN110).

    message of a guest -> host allowed? -> name resolved -> every address public? -> connected to one of these -> answer

aiohttp makes the connection to the very addresses that were checked here: it has no other resolver.
Nothing is taken from the environment (proxies, cookies, `.netrc`, files of certificates or keys),
nothing is followed or decompressed, and nothing is logged: a URL, a header or a body may contain a
secret.

Example:
    async with Outbound() as outbound:
        client = RunClient(outbound, frozenset({"api.example.com"}))
        answer = await client.answer(message)
        client.contacted
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import Awaitable, Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self, TypeAlias

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from .frames import MAX_MESSAGE_BYTES, pack_parts, unpack_parts

# --- requests of a guest (RN101 to RN105) ---------------------------------------------------------
# A URL has one spelling: what another program could read in another way is refused, not repaired.

HTTPS_PORT: Final = 443
MAX_URL_CHARS: Final = 8192
MAX_HEADERS: Final = 64
MAX_HEADER_BYTES: Final = 16 * 1024
"""Names and values together."""

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# RN104. Of the host nothing is decided here but that it can be one: it is compared with names that
# were.
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
    """A request that may be made, if the host's address may be contacted."""

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
        hosts: that the run may contact, each as `sealspace.documents.run_grants.checked_host` takes
            it.
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
    # no line end can be in it
    if sum(map(len, texts)) > MAX_HEADER_BYTES or not all(
        (
            _NAME.fullmatch(name) is not None
            and name.lower() not in _OWN  # RN105
            and _VALUE.fullmatch(value) is not None
        )
        for name, value in headers
    ):
        raise RequestRefused("request-invalid")
    host, port = found[1], int(found[2] or HTTPS_PORT)
    if (port != HTTPS_PORT and not any_port) or port > 0xFFFF:  # RN104
        raise RequestRefused("request-invalid")
    # RN102: before its name is resolved. A number is no name: aiohttp would connect to it and ask
    # no resolver (RN106).
    if host not in hosts or not re.search("[a-z]", host):
        raise RequestRefused("host-refused")
    return OutboundRequest(method, host, port, url, headers, parts[-1])


# RN106: IPv4 by what is not public, IPv6 by what is. Addresses that contain or lead to others
# (mapped, compatible, NAT64, 6to4, Teredo) are outside of it.
_IPV6_PUBLIC: Final = ipaddress.IPv6Network("2000::/3")
_SPECIAL: Final = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # shared by customers of a provider
            "127.0.0.0/8",
            "168.63.129.16/32",  # a cloud's service for its machines, in public space
            "169.254.0.0/16",  # link-local: metadata of clouds
            "172.16.0.0/12",
            "192.0.0.0/24",
            "192.0.2.0/24",
            "192.31.196.0/24",
            "192.52.193.0/24",
            "192.88.99.0/24",  # relays of 6to4
            "192.168.0.0/16",
            "192.175.48.0/24",
            "198.18.0.0/15",
            "198.51.100.0/24",
            "203.0.113.0/24",
            "224.0.0.0/3",  # multicast, reserved, broadcast
            "2001::/23",  # protocols, among them Teredo
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


def is_public(text: str) -> bool:
    """Tell whether an address is one of the public internet; a text that is no address is none."""
    address = _address(text)
    if address is None or (address.version == 6 and address not in _IPV6_PUBLIC):
        return False
    return not any(address in special for special in _SPECIAL)


def is_loopback(text: str) -> bool:
    """Tell whether an address is this machine's own in its plain form: 127.0.0.0/8, or ::1."""
    address = _address(text)
    return (
        address is not None
        and address.is_loopback
        and getattr(address, "ipv4_mapped", None) is None
    )


def _address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return None if "%" in text else ipaddress.ip_address(text)
    except ValueError:
        return None


_LOOKUPS: Final = 512
"""Names that are resolved at one time, in threads of their own; made when they are needed.

A look-up cannot be ended: where nobody waits for it any more, its thread is taken until the
machine's resolver gives up, 30 s by default. A run waits for one at a time, and lasts a second at
least where its limit ends it. So sixteen children leave at most some 500 behind, and no slow name
server holds up other runs.
"""
_MOST_ADDRESSES: Final = 16
"""Of a name; further ones are not looked at, nor connected to."""
_MOST_ARRIVING_BYTES: Final = 4 * MAX_MESSAGE_BYTES
"""Over one connection, TLS and all: a service can send for ever without any of it being a
response."""
_READ_BYTES: Final = 16 * 1024
"""At one time: of a quarter of a megabyte, which the loop would read, tiny chunks are a tenth of a
second's work."""
_NOT_SENT: Final = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that aiohttp would add; a guest says itself who it is and what it takes."""

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Resolve: TypeAlias = Callable[[str], Awaitable[Sequence[str]]]
"""Returns the addresses of a name, untrusted; OSError where there is none."""


@dataclass(eq=False, repr=False)
class Outbound:
    """Makes requests for the runs of an executor; a context manager, on asyncio's own event
    loop."""

    loopback_ca: Path | None = None
    resolve: Resolve | None = None
    most_requests: int = 64
    request_s: float = 30.0

    def __post_init__(self) -> None:
        self._tls = _tls(self.loopback_ca)
        self._lookups = ThreadPoolExecutor(_LOOKUPS, "lookup")
        resolve = self._addresses if self.loopback_ca is None else _this_machine
        self._resolver = _CheckedResolver(self.resolve or resolve, self.loopback_ca is not None)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            # RN109: `_CountedSocket` counts what this loop reads; another, uvloop say, reads past
            # it.
            raise RuntimeError("programs make requests on asyncio's own event loop alone")
        # A connection serves one request (RN107). Runs are bounded, and so are their connections:
        # one for each.
        connector = aiohttp.TCPConnector(
            resolver=self._resolver,
            use_dns_cache=False,
            force_close=True,
            limit=0,
            ssl=self._tls,
            socket_factory=lambda found: _CountedSocket(*found[:3]),
        )
        self._session = aiohttp.ClientSession(
            connector=connector,
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `send` bounds it
            auto_decompress=False,  # RN109
            skip_auto_headers=_NOT_SENT,
            trust_env=False,  # RN108
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        self._lookups.shutdown(wait=False, cancel_futures=True)

    async def send(self, request: OutboundRequest) -> bytes:
        """Make one request, and return the response as a message.

        Raises:
            RequestRefused: there is none.
        """
        assert self._session is not None
        try:
            async with asyncio.timeout(self.request_s):  # RN109
                response = await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    data=request.body or None,
                    allow_redirects=False,  # RN107
                )
                try:
                    return await _message(response)
                finally:
                    response.close()
        except TimeoutError as late:
            raise RequestRefused("timed-out") from late
        except aiohttp.ClientConnectorCertificateError as refused:
            raise RequestRefused("certificate-refused") from refused
        except (aiohttp.ClientConnectionError, OSError) as failed:
            raise RequestRefused("connection-failed") from failed
        except (aiohttp.ClientError, ValueError) as invalid:
            raise RequestRefused("response-invalid") from invalid

    async def _addresses(self, host: str) -> list[str]:
        # With a dot at its end a name is a whole one: nothing is appended to it, and no file of the
        # machine answers.
        look_up = asyncio.get_running_loop().run_in_executor(
            self._lookups,
            lambda: socket.getaddrinfo(f"{host}.", HTTPS_PORT, type=socket.SOCK_STREAM),
        )
        return [str(address[0]) for _, _, _, _, address in await look_up]


class RunClient:
    """Makes the requests of one run, to these hosts alone."""

    def __init__(self, outbound: Outbound, hosts: frozenset[str]) -> None:
        self._outbound = outbound
        self._hosts = hosts
        self._left = outbound.most_requests
        self.contacted: set[str] = set()

    async def answer(self, message: bytes) -> bytes:
        """Answer a message of a guest, untrusted: with a response, or with an error of
        `FETCH_ERRORS`.

        Raises:
            EOFError: the child was told that there are no requests left, and asks again (RN109).
        """
        self._left -= 1
        if self._left < -1:
            raise EOFError
        try:
            if self._left < 0:  # RN109
                raise RequestRefused("requests-exhausted")
            any_port = self._outbound.loopback_ca is not None
            request = parse_request(message, hosts=self._hosts, any_port=any_port)
            known = request.host in self.contacted
            self.contacted.add(request.host)  # before it is: the run may end meanwhile
            try:
                return await self._outbound.send(request)
            except RequestRefused as refused:
                if not known and refused.code in ("name-unknown", "address-refused"):
                    self.contacted.discard(request.host)
                raise
        except RequestRefused as refused:
            return pack_parts([refused.code.encode()])


class _CheckedResolver(AbstractResolver):
    """Returns the addresses that a connection may be made to; the connection is made to one of
    these (RN106)."""

    def __init__(self, resolve: Resolve, loopback: bool) -> None:
        self._resolve = resolve
        self._is_allowed = is_loopback if loopback else is_public

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        try:
            found = list(dict.fromkeys(await self._resolve(host)))[:_MOST_ADDRESSES]
        except (OSError, UnicodeError) as unknown:
            raise RequestRefused("name-unknown") from unknown
        if not found:
            raise RequestRefused("name-unknown")
        # one that is not public is a mistake, or means another
        if not all(map(self._is_allowed, found)):
            raise RequestRefused("address-refused")
        return [
            ResolveResult(
                hostname=host,
                host=address,
                port=port,
                family=socket.AF_INET6 if ":" in address else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST | socket.AI_NUMERICSERV,
            )
            for address in found
        ]

    async def close(self) -> None:
        """There is nothing to close."""


async def _this_machine(host: str) -> list[str]:
    return ["127.0.0.1"]


class _CountedSocket(socket.socket):
    """Breaks a connection over which too much arrives (RN109), read in small parts; the loop reads
    by these two."""

    left = _MOST_ARRIVING_BYTES

    def recv(self, size: int, flags: int = 0) -> bytes:
        data = super().recv(min(size, _READ_BYTES), flags)
        self._count(len(data))
        return data

    def recv_into(self, buffer: "WriteableBuffer", size: int = 0, flags: int = 0) -> int:
        count = super().recv_into(
            buffer, min(size or memoryview(buffer).nbytes, _READ_BYTES), flags
        )
        self._count(count)
        return count

    def _count(self, arrived: int) -> None:
        self.left -= arrived
        if self.left < 0:
            raise ConnectionAbortedError


def _tls(loopback_ca: Path | None) -> ssl.SSLContext:
    """Return how a service proves its name. No authority, and no file for keys, comes from the
    environment (RN108)."""
    # demands a certificate, and one for this name
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    if loopback_ca is not None:
        context.load_verify_locations(cafile=loopback_ca)
        return context
    paths = ssl.get_default_verify_paths()
    for name, path in (("cafile", paths.openssl_cafile), ("capath", paths.openssl_capath)):
        if Path(path).exists():
            context.load_verify_locations(**{name: path})
    return context


async def _message(response: aiohttp.ClientResponse) -> bytes:
    """Read a response, and return it as a message."""
    head = [str(response.status).encode()]
    for name, value in response.raw_headers:
        head += [name.lower(), value]
    body = bytearray()
    left = MAX_MESSAGE_BYTES - len(pack_parts([*head, b""]))
    while len(body) <= left:
        if not (piece := await response.content.readany()):
            return pack_parts([*head, bytes(body)])
        body += piece
    raise RequestRefused("response-too-large")  # RN109: the rest is not read
