"""HTTPS requests on behalf of guest programs (RN100 to RN110).

    guest's message -> host allowed? -> resolve name -> all addresses public? -> connect -> answer

aiohttp connects only to addresses that were checked here, because it has no other resolver. The
environment has no influence: no proxies, cookies, `.netrc`, or files of certificates or keys. No
redirect is followed, and no response is decompressed. Nothing is logged, because a URL, a header or
a body may contain a secret.

Example:
    request = parse_request(message, hosts={"api.example.com"}, any_port=False)
    async with Outbound() as outbound:
        answer = await outbound.send(request)
"""

import asyncio
import ipaddress
import re
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence, Set
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Self

import aiohttp
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from capabilities.frozen import frozen

from .messages import MAX_MESSAGE_BYTES, pack_parts, unpack_parts

# --- requests of a guest (RN101 to RN105) ---------------------------------------------------------
# Only one spelling of a URL is accepted. Others are refused, not normalised, because another
# program could read them differently.

HTTPS_PORT = 443
MAX_URL_CHARS = 8192
MAX_HEADERS = 64
MAX_HEADER_BYTES = 16 * 1024
"""Size of all headers of a request, names and values."""

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
# RN104. The pattern of the host is loose, because the host must also equal an allowed name.
_URL = re.compile(
    r"https://([a-z0-9.-]{1,253})(?::([1-9][0-9]{0,4}))?"
    r"((?:/(?:[A-Za-z0-9._~!$&'()*+,;=:@/-]|%[0-9A-Fa-f]{2})*)?(?:\?(?:[A-Za-z0-9._~!$&'()*+,;=:@/?-]|%[0-9A-Fa-f]{2})+)?)"
)
_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+")
_VALUE = re.compile(r"(?:[!-~](?:[\t -~]*[!-~])?)?")
_OWN = frozenset(
    {
        "connection",
        "content-length",
        "expect",
        "host",
        "http2-settings",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
    }
)
"""Headers that concern the connection, which only the runner may set (RN105)."""


class RequestRefused(Exception):
    """Raised when a program's HTTP request fails or is forbidden.

    `code` is one of `FETCH_ERRORS`.
    """

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(code)


@frozen
class OutboundRequest:
    """A checked HTTP request from a guest program.

    The IP addresses of the host are not checked yet.
    """

    method: str
    host: str
    port: int
    url: str = field(repr=False)
    headers: tuple[tuple[str, str], ...] = field(repr=False)
    body: bytes = field(repr=False)


def parse_request(message: bytes, *, hosts: Set[str] | None, any_port: bool) -> OutboundRequest:
    """Parse and check an HTTP request from a guest program.

    Args:
        message: a message (`messages`): method, URL, name and value of each header, and body;
            untrusted, at most `MAX_MESSAGE_BYTES`.
        hosts: hosts that the run may contact, each valid for
            `sealspace.documents.run_grants.checked_host`; None: every host with a name.
        any_port: whether other ports than 443 are allowed, for loopback only.
    Raises:
        RequestRefused: `request-invalid` or `host-refused`.
    """
    try:
        parts = unpack_parts(message, most=2 * MAX_HEADERS + 3)
        method, url, *texts = [part.decode("ascii") for part in parts[:-1]]
    except ValueError as exc:  # UnicodeDecodeError too
        raise RequestRefused("request-invalid") from exc
    url_match = None
    if len(url) <= MAX_URL_CHARS:
        url_match = _URL.fullmatch(url)
    if method not in _METHODS or url_match is None or len(texts) % 2:
        raise RequestRefused("request-invalid")
    names = texts[::2]
    values = texts[1::2]
    headers = tuple(zip(names, values, strict=True))
    if sum(map(len, texts)) > MAX_HEADER_BYTES:
        raise RequestRefused("request-invalid")
    if not all(_is_header_allowed(name, value) for name, value in headers):
        raise RequestRefused("request-invalid")
    host, port_text = url_match[1], url_match[2]
    port = int(port_text or HTTPS_PORT)
    # a URL has one spelling, without other ports (RN104)
    is_port_allowed = port == HTTPS_PORT or any_port
    if not is_port_allowed or port > 0xFFFF:
        raise RequestRefused("request-invalid")
    # RN102: the host is checked before its name is resolved. A host without a letter is refused,
    # because it could be an IP address, to which aiohttp connects without asking the resolver
    # (RN106).
    is_listed = hosts is None or host in hosts
    has_letter = re.search("[a-z]", host) is not None
    if not is_listed or not has_letter:
        raise RequestRefused("host-refused")
    return OutboundRequest(
        method=method, host=host, port=port, url=url, headers=headers, body=parts[-1]
    )


def _is_header_allowed(name: str, value: str) -> bool:
    """Return whether a guest may send a header (RN105).

    Neither pattern admits a line end, so a guest cannot add headers or a second request.
    """
    if _NAME.fullmatch(name) is None or _VALUE.fullmatch(value) is None:
        return False
    return name.lower() not in _OWN  # such a header would change where a message ends


# RN106: for IPv4 the ranges that are not public, for IPv6 the one that is. IPv6 addresses that
# embed IPv4 ones (mapped, compatible, NAT64, 6to4, Teredo) could lead inward and are all refused.
_IPV6_PUBLIC = ipaddress.IPv6Network("2000::/3")
_SPECIAL = tuple(
    map(
        ipaddress.ip_network,
        (
            "0.0.0.0/8",
            "10.0.0.0/8",
            "100.64.0.0/10",  # carrier-grade NAT
            "127.0.0.0/8",
            "168.63.129.16/32",  # Azure's platform service, at a public address
            "169.254.0.0/16",  # link-local, with the metadata services of clouds
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
            "2001::/23",  # protocol assignments, Teredo among them
            "2001:db8::/32",
            "2002::/16",  # 6to4
            "2620:4f:8000::/48",
            "3fff::/20",
        ),
    )
)


def is_public(text: str) -> bool:
    """Return whether a string is a public IP address."""
    address = _parse_address(text)
    if address is None or (address.version == 6 and address not in _IPV6_PUBLIC):
        return False
    return not any(address in special for special in _SPECIAL)


def is_loopback(text: str) -> bool:
    """Return whether a string is a loopback address.

    Loopback addresses are 127.0.0.0/8 and ::1, but not their IPv4-mapped forms.
    """
    address = _parse_address(text)
    return (
        address is not None
        and address.is_loopback
        and getattr(address, "ipv4_mapped", None) is None
    )


def _parse_address(text: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """Parse an IP address, or return None; an address with a zone is not accepted."""
    if "%" in text:
        return None
    try:
        return ipaddress.ip_address(text)
    except ValueError:
        return None


_LOOKUPS = 512
"""Threads for name look-ups, so that a slow name server does not delay other runs.

A look-up cannot be cancelled: its thread stays busy until the resolver gives up, by default after
30 s, even if the run has ended. A run makes one look-up at a time, and if its limit ends it, it has
lasted at least a second. So 16 children leave at most some 500 look-ups behind.
"""
_MOST_ADDRESSES = 16
"""Addresses of a name that are used; further ones are ignored."""
_READ_BYTES = 16 * 1024
"""Bytes per read. The loop's default, 256 KiB of tiny HTTP chunks, takes 0.1 s to parse."""
_NOT_SENT = ("User-Agent", "Accept", "Accept-Encoding", "Content-Type")
"""Headers that aiohttp would add by itself; a guest sets its own."""

if TYPE_CHECKING:
    from _typeshed import WriteableBuffer

Resolve = Callable[[str], Awaitable[Sequence[str]]]
"""Function that returns the untrusted addresses of a name, or raises OSError."""


@dataclass(eq=False, repr=False)
class Outbound:
    """An HTTPS client for guest programs.

    All runs of an executor share this client. It is an asynchronous context manager and needs
    asyncio's own event loop.
    """

    loopback_ca: Path | None = None
    resolve: Resolve | None = None
    most_requests: int = 64
    request_s: float = 30.0
    most_arriving_bytes: int = 4 * MAX_MESSAGE_BYTES
    """Bytes received over one connection, TLS included: a service could send for ever otherwise."""

    def __post_init__(self) -> None:
        self._tls = _tls(self.loopback_ca)
        self._resolver = CheckedResolver(_LOOKUPS, self.resolve, self.loopback_ca is not None)
        self._session: aiohttp.ClientSession | None = None

    async def __aenter__(self) -> Self:
        if not isinstance(asyncio.get_running_loop(), asyncio.SelectorEventLoop):
            # RN109: uvloop, for example, reads sockets itself, so `_CountedSocket` would count
            # nothing.
            raise RuntimeError("requests from programs need asyncio's own event loop, not uvloop")
        # Each connection serves one request (RN107). No limit is needed here, because each run has
        # at most one connection and the number of runs is bounded.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                resolver=self._resolver,
                use_dns_cache=False,
                force_close=True,
                limit=0,
                ssl=self._tls,
                # An address has its family, type and protocol first, as a socket takes them.
                socket_factory=lambda address: _CountedSocket(
                    self.most_arriving_bytes, *address[:3]
                ),
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None),  # `response` bounds it
            auto_decompress=False,  # a small body could become large (RN109)
            skip_auto_headers=_NOT_SENT,
            trust_env=False,  # no proxy or password of the runner (RN108)
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._session is not None:
            await self._session.close()
        await self._resolver.close()

    async def send(self, request: OutboundRequest) -> bytes:
        """Send an HTTP request, and return the encoded response.

        Raises:
            RequestRefused: no valid response arrived.
        """
        async with self.response(request) as response:
            head = [str(response.status).encode()]
            for name, value in response.raw_headers:
                head += [name.lower(), value]
            body = bytearray()
            most_bytes = MAX_MESSAGE_BYTES - len(pack_parts([*head, b""]))
            while len(body) <= most_bytes:
                piece = await response.content.readany()
                if not piece:  # the body has ended
                    return pack_parts([*head, bytes(body)])
                body += piece
        raise RequestRefused("response-too-large")  # RN109: the rest is not read

    @asynccontextmanager
    async def response(self, request: OutboundRequest) -> AsyncIterator[aiohttp.ClientResponse]:
        """Send an HTTP request, and yield the response, whose body is not read yet.

        Errors of the connection become RequestRefused, also inside the `async with` block.
        """
        assert self._session is not None
        try:
            # a service may send nothing (RN109)
            async with asyncio.timeout(self.request_s):
                response = await self._session.request(
                    request.method,
                    URL(request.url, encoded=True),
                    headers=request.headers,
                    data=request.body or None,
                    allow_redirects=False,  # a redirect may lead to any host (RN107)
                )
                try:
                    yield response
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


class CheckedResolver(AbstractResolver):
    """A DNS resolver that refuses forbidden addresses (RN106).

    aiohttp connects to the returned addresses, so DNS rebinding after the check has no effect.
    Names are looked up in at most `threads` threads. The event loop's own threads also read files,
    and would be blocked by slow names.
    """

    def __init__(
        self, threads: int, resolve: Resolve | None = None, loopback: bool = False
    ) -> None:
        self._threads = ThreadPoolExecutor(threads, "lookup")
        self._resolve = resolve or (_this_machine if loopback else self._addresses)
        self._is_allowed = is_loopback if loopback else is_public

    async def _addresses(self, host: str) -> list[str]:
        # The final dot makes the name absolute, so that no search domain is appended to it and no
        # entry of /etc/hosts answers.
        look_up = asyncio.get_running_loop().run_in_executor(
            self._threads,
            lambda: socket.getaddrinfo(f"{host}.", HTTPS_PORT, type=socket.SOCK_STREAM),
        )
        return [str(address[0]) for _, _, _, _, address in await look_up]

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """Return the addresses of a name, or raise RequestRefused."""
        try:
            addresses = list(dict.fromkeys(await self._resolve(host)))[:_MOST_ADDRESSES]
        except (OSError, UnicodeError) as unknown:
            raise RequestRefused("name-unknown") from unknown
        if not addresses:
            raise RequestRefused("name-unknown")
        # One inward address refuses the name: it is a mistake or an attempt to reach inward.
        if not all(map(self._is_allowed, addresses)):
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
            for address in addresses
        ]

    async def close(self) -> None:
        """Cancel the look-ups that have not begun."""
        self._threads.shutdown(wait=False, cancel_futures=True)


async def _this_machine(host: str) -> list[str]:
    return ["127.0.0.1"]


class _CountedSocket(socket.socket):
    """A socket that limits the number of received bytes (RN109).

    asyncio's own loop reads by `recv` and `recv_into` only.
    """

    def __init__(self, allowed_bytes: int, *kind: int) -> None:
        super().__init__(*kind)
        self._left_bytes = allowed_bytes

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
        self._left_bytes -= arrived
        if self._left_bytes < 0:  # more bytes have arrived than are allowed
            raise ConnectionAbortedError


def _tls(loopback_ca: Path | None) -> ssl.SSLContext:
    """Return a TLS context that ignores environment variables (RN108).

    The environment could name files of certificates and keys.
    """
    # This protocol requires a valid certificate for the host's name.
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
