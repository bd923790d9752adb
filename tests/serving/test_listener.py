"""Connections of a runner: limits on their number, on slow heads and on unread answers."""

import asyncio
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from socket import create_server

import pytest
from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from patience import AT_ONCE_S

from serving import listener
from serving.listener import ConnectionBounds, ConnectionLimits, listening

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]
PATIENT = ConnectionLimits(head_s=1000, unread_answer_s=1000, keep_alive_s=1000)
LONG = bytes(32 << 20)


@dataclass
class Site:
    """A site with a short answer at `/` and a long one at `/long`, and the connections to it."""

    port: int
    tls: ssl.SSLContext | None
    ends: list[asyncio.StreamWriter] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None) -> Streams:
        """Open a connection, by default without TLS; nothing is sent."""
        reader, writer = await asyncio.open_connection(
            "127.0.0.1", self.port, ssl=tls, limit=1 << 10
        )
        self.ends.append(writer)
        return reader, writer

    async def asked(self, path: str = "/", *, close: bool = True) -> tuple[bytes, Streams]:
        """Send a request, with TLS if the site has it, and return the first line of the answer."""
        reader, writer = await self.connect(self.tls)
        end = "Connection: close\r\n" if close else ""
        writer.write(f"GET {path} HTTP/1.1\r\nHost: a\r\n{end}\r\n".encode())
        return await reader.readline(), (reader, writer)

    async def asked_in_vain(self) -> bool:
        """Send a request, and return whether the connection ended without an answer."""
        with suppress(ConnectionError):
            line, _ = await self.asked()
            return line == b""
        return True


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """TLS contexts of the site and its clients, with a certificate for 127.0.0.1."""
    folder, key = tmp_path_factory.mktemp("tls"), ec.generate_private_key(ec.SECP256R1())
    name, now = (
        x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "runner")]),
        datetime.now(UTC),
    )
    built = (
        x509.CertificateBuilder(
            name, name, key.public_key(), x509.random_serial_number(), now, now + timedelta(1)
        )
        .add_extension(
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False
        )
        .sign(key, hashes.SHA256())
    )
    pem = built.public_bytes(Encoding.PEM)
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    (folder / "both.pem").write_bytes(pem + private)
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(folder / "both.pem")
    return context, ssl.create_default_context(cadata=pem.decode())


@asynccontextmanager
async def site(
    limits: ConnectionLimits, certificate: tuple[ssl.SSLContext, ssl.SSLContext] | None = None
) -> AsyncIterator[Site]:
    """Serve both answers within limits."""

    async def answer(request: web.Request) -> web.Response:
        return web.Response(body=LONG if request.path == "/long" else b"here")

    app = web.Application()
    app.router.add_get("/{path:.*}", answer)
    bound = create_server(("127.0.0.1", 0))
    server, client = certificate or (None, None)
    async with listening(app, bound, limits, tls=server), asyncio.timeout(AT_ONCE_S):
        served = Site(bound.getsockname()[1], client)
        try:
            yield served
        finally:
            for writer in served.ends:
                writer.transport.abort()
            await asyncio.gather(
                *(writer.wait_closed() for writer in served.ends), return_exceptions=True
            )


@pytest.mark.parametrize("has_tls", [False, True])
async def test_silent_connections_close_no_one_out(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext], has_tls: bool
) -> None:
    """RN155: if too many connections have no request, the oldest is closed, even in a TLS
    handshake."""
    limits = replace(PATIENT, max_idle=4)
    async with site(limits, certificate if has_tls else None) as served:
        silent = [await served.connect() for _ in range(12)]
        line, _ = await served.asked()
        assert line == b"HTTP/1.1 200 OK\r\n"
        for reader, _ in silent[:8]:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""


async def test_what_follows_an_answer_is_discarded_slowly(monkeypatch: pytest.MonkeyPatch) -> None:
    """RN157: bytes after an answer are discarded slowly, so that they do not use up the event
    loop."""
    async with site(PATIENT) as served:
        for is_paced in (False, True):
            if is_paced:
                monkeypatch.setattr(listener, "_DISCARDED_PER_S", 1)
            reader, writer = await served.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % len(LONG))
            assert await reader.readline() == b"HTTP/1.1 200 OK\r\n"
            writer.write(LONG)
            sending = asyncio.create_task(writer.drain())
            if not is_paced:
                await sending
                continue
            for _ in range(100):  # longer than it took above
                await served.asked()
            assert not sending.done()
            sending.cancel()


@pytest.mark.parametrize("has_tls", [False, True])
async def test_each_new_connection_gets_the_place_of_another(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext], has_tls: bool
) -> None:
    """RN155: without a free place, each new client is answered, and a silent connection is
    closed."""
    async with site(
        replace(PATIENT, max_connections=20), certificate if has_tls else None
    ) as served:
        for _ in range(20):
            await served.connect(served.tls)
        answered = await asyncio.gather(*(served.asked() for _ in range(6)))
        assert {line for line, _ in answered} == {b"HTTP/1.1 200 OK\r\n"}


@pytest.mark.parametrize("has_tls", [False, True])
async def test_a_client_that_keeps_its_connection_is_answered_each_time(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext], has_tls: bool
) -> None:
    """RN157: a client that reads its answers is never disconnected as one that reads nothing."""
    async with site(
        replace(PATIENT, unread_answer_s=0.5), certificate if has_tls else None
    ) as served:
        _, (reader, writer) = await served.asked(close=False)
        for _ in range(8):
            await reader.readuntil(b"here")
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        await reader.readuntil(b"here")


async def test_a_connection_that_had_a_request_is_kept_before_silent_ones() -> None:
    """RN155: a connection that had a request is closed last; without a free place it is closed
    too."""
    async with site(replace(PATIENT, max_connections=4)) as served:
        _, (reader, writer) = await served.asked(close=False)
        await reader.readuntil(b"here")
        silent = [await served.connect() for _ in range(12)]
        for waiting, _ in silent[:8]:
            with suppress(ConnectionResetError):
                assert await waiting.read() == b""
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
        assert await reader.readuntil(b"here")


async def test_a_client_that_still_sends_an_answered_body_goes_first() -> None:
    """RN155: clients that do not end the bodies of answered requests close no new connection,
    which has not sent its request yet."""
    async with site(replace(PATIENT, max_connections=4)) as served:
        fresh_reader, fresh_writer = await served.connect()
        answered = []
        for _ in range(3):
            reader, writer = await served.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n")
            await reader.readuntil(b"here")
            answered.append(reader)
        newest = [await served.connect() for _ in range(3)]
        for reader in answered:
            with suppress(ConnectionResetError):
                assert await reader.read() == b""
        for reader, writer in ((fresh_reader, fresh_writer), *newest):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.readuntil(b"here")


async def test_clients_that_keep_connections_close_no_new_one() -> None:
    """RN155: where most idle connections had a request, the one whose last request was longest ago
    is closed, and no new one, which has not sent its request yet."""
    async with site(replace(PATIENT, max_connections=4)) as served:
        kept = []
        for _ in range(3):
            reader, writer = await served.connect()
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            await reader.readuntil(b"here")
            kept.append((reader, writer))
        fresh = [await served.connect() for _ in range(2)]
        with suppress(ConnectionResetError):
            assert await kept[0][0].read() == b""
        for reader, writer in (*kept[1:], *fresh):
            writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert await reader.readuntil(b"here")


@pytest.mark.parametrize("has_tls", [False, True])
async def test_half_a_head(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext], has_tls: bool
) -> None:
    """RN156: an incomplete head is answered 408, and its connection is closed."""
    async with site(replace(PATIENT, head_s=0.2), certificate if has_tls else None) as served:
        reader, writer = await served.connect(served.tls)
        writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n")
        assert (await reader.read()).startswith(b"HTTP/1.1 408 ")


async def test_a_handshake_that_does_not_end(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext],
) -> None:
    """RN156: a connection without a TLS handshake is closed after the time allowed for a head."""
    async with site(replace(PATIENT, head_s=0.2), certificate) as served:
        reader, _ = await served.connect()
        with suppress(ConnectionResetError):
            assert await reader.read() == b""


async def test_a_long_head() -> None:
    """RN156: an endless head is refused before it fills the memory."""
    async with site(PATIENT) as served:
        reader, writer = await served.connect()
        for number in range(PATIENT.max_head_bytes // 1000 + 1):
            writer.write(
                b"%s%d: %s\r\n" % (b"x" if number else b"GET / HTTP/1.1\r\nx", number, b"a" * 1000)
            )
        assert (await reader.read()).startswith(b"HTTP/1.1 431 ")


@pytest.mark.parametrize("has_tls", [False, True])
async def test_an_answer_that_is_not_read(
    certificate: tuple[ssl.SSLContext, ssl.SSLContext], has_tls: bool
) -> None:
    """RN157: a client that reads nothing of its answer is disconnected; until then it is not
    idle."""
    limits = replace(PATIENT, max_connections=1, unread_answer_s=0.2)
    async with site(limits, certificate if has_tls else None) as served:
        line, _ = await served.asked("/long")
        assert line == b"HTTP/1.1 200 OK\r\n"
        assert await served.asked_in_vain()
        while await served.asked_in_vain():
            pass


@pytest.mark.parametrize(
    ("addresses", "taken"),
    [
        (["192.0.2.7"] * 3, [True, True, False]),
        (
            ["2001:db8::1", "2001:db8::2", "2001:db8::3", "2001:db8:0:1::1"],
            [True, True, False, True],
        ),
        (["::ffff:192.0.2.7", "192.0.2.7", "192.0.2.7"], [True, True, False]),
        (
            ["127.0.0.1", "::1", "::ffff:127.0.0.1", "127.0.0.1", "127.0.0.1", "::1"],
            [True] * 5 + [False],
        ),
    ],
)
def test_connections_of_one_client(addresses: list[str], taken: list[bool]) -> None:
    """RN155: the connections of one address or IPv6 network are limited, except on loopback."""
    bounds = ConnectionBounds(ConnectionLimits(connections_per_client=2, max_connections=5))
    take: Callable[[str], bool] = bounds.take
    assert taken == [take(address) for address in addresses]


# --- the method LIST ------------------------------------------------------------------------------


@asynccontextmanager
async def _listing_site(reads_list: bool) -> AsyncIterator[int]:
    """Serve a site that answers with the method of each request; yield its port."""

    async def said(request: web.Request) -> web.Response:
        body = await request.read()
        return web.Response(text=f"{request.method} {request.raw_path} {len(body)}")

    app = web.Application()
    app.router.add_route("*", "/{path:.*}", said)
    bound = create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    async with listening(app, bound, PATIENT, reads_list=reads_list):
        yield port


@pytest.mark.parametrize("pieces", [["LIST / H"], ["L", "IS", "T", " / H"], ["LIST", " / H"]])
async def test_a_request_with_the_method_list(pieces: list[str]) -> None:
    """A LIST request reaches the application as LINK, however its bytes arrive, also after others.

    A body that begins with LIST is not changed.
    """
    async with _listing_site(True) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"POST /a HTTP/1.1\r\nHost: a\r\nContent-Length: 6\r\n\r\n")
        await writer.drain()
        writer.write(b"LIST x")
        assert b"POST /a 6" in await reader.readuntil(b" 6")
        for piece in pieces:
            writer.write(piece.encode())
            await writer.drain()
            await asyncio.sleep(0)
        writer.write(b"TTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b"LINK / 0" in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_the_method_list_is_an_error_elsewhere() -> None:
    """Without `reads_list`, a LIST request is refused as before."""
    async with _listing_site(False) as port:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"LIST / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n")
        assert b" 400 " in await reader.read()
        writer.close()
        await writer.wait_closed()


async def test_the_beginning_of_a_list_request_has_a_time_limit() -> None:
    """A client that sends only the first bytes of LIST is refused after the time for a head."""
    app = web.Application()
    bound = create_server(("127.0.0.1", 0))
    port = bound.getsockname()[1]
    limits = replace(PATIENT, head_s=0.2)
    async with listening(app, bound, limits, reads_list=True):
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(b"LIS")
        assert (await reader.read()).startswith(b"HTTP/1.1 408")
        writer.close()
        await writer.wait_closed()
