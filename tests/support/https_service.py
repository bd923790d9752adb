"""HTTPS services on loopback to which a runner's programs send requests.

Example:
    async with https_service(folder, "api.test") as service:
        settings = Outbound(loopback_ca=service.ca, resolve=service.resolve)
        url = service.url("/path")
"""

import asyncio
import datetime
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from aiohttp import web
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

LOOPBACK = "127.0.0.1"
Talk = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@dataclass
class Service:
    """A service, and the network as a runner sees it.

    `names` has the addresses of each name, one answer after the other; the last one stays.
    """

    ca: Path
    port: int
    host: str
    names: dict[str, list[list[str]]]
    looked_up: list[str] = field(default_factory=list)
    seen: list[web.Request] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    server_names: list[str | None] = field(default_factory=list)
    documents: dict[str, bytes] = field(default_factory=dict)

    async def resolve(self, host: str) -> list[str]:
        """Resolve a name to the next of its addresses."""
        self.looked_up.append(host)
        answers = self.names.get(host)
        if answers is None:
            raise OSError("no such name")
        return answers.pop(0) if len(answers) > 1 else answers[0]

    def url(self, path: str = "/", *, host: str | None = None) -> str:
        """Return an address of this service."""
        return f"https://{host or self.host}:{self.port}{path}"


_SIGNS_CERTIFICATES = x509.KeyUsage(
    key_cert_sign=True,
    crl_sign=True,
    digital_signature=False,
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    encipher_only=False,
    decipher_only=False,
)


def make_certificates(folder: Path, names: list[str]) -> tuple[Path, Path]:
    """Make a certificate authority and a certificate for names, with the extensions of RFC 5280
    that Python demands from 3.13 on.

    Returns the files with the authority, and with the certificate and its key.
    """
    now = datetime.datetime.now(datetime.UTC)

    def made(subject: str, key: ec.EllipticCurvePrivateKey) -> x509.CertificateBuilder:
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)])
        builder = (
            x509.CertificateBuilder()
            .subject_name(name)
            .issuer_name(issuer)
            .public_key(key.public_key())
        )
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(now - datetime.timedelta(1)).not_valid_after(
            now + datetime.timedelta(1)
        )
        identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
        return builder.add_extension(identifier, critical=False)

    issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "authority")])
    authority, own = (
        ec.generate_private_key(ec.SECP256R1()),
        ec.generate_private_key(ec.SECP256R1()),
    )
    root = (
        made("authority", authority)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_SIGNS_CERTIFICATES, critical=True)
    )
    alternatives = x509.SubjectAlternativeName([x509.DNSName(name) for name in names])
    signed_by = x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.public_key())
    leaf = (
        made("service", own)
        .add_extension(alternatives, critical=False)
        .add_extension(signed_by, critical=False)
    )
    ca, chain = folder / "ca.pem", folder / "service.pem"
    ca.write_bytes(root.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    key = own.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    chain.write_bytes(
        leaf.sign(authority, hashes.SHA256()).public_bytes(serialization.Encoding.PEM) + key
    )
    return ca, chain


@asynccontextmanager
async def https_service(
    folder: Path, *names: str, talk: Talk | None = None
) -> AsyncIterator[Service]:
    """Serve under host names, of which the first is the service's. If `talk` is given, that
    function replaces HTTP.

    Paths: those of `documents`; `/echo` answers with the body, `/redirect?to=URL`,
    `/large?size=N`, `/slow` never answers.
    """
    ca, chain = make_certificates(folder, list(names))
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(chain)
    service = Service(ca, 0, names[0], {name: [[LOOPBACK]] for name in names})
    tls.sni_callback = lambda _, name, __: service.server_names.append(name)
    ended = asyncio.Event()

    async def handle(request: web.Request) -> web.StreamResponse:
        service.seen.append(request)
        service.bodies.append(await request.read())
        if request.path in service.documents:
            return web.Response(body=service.documents[request.path])
        match request.path:
            case "/redirect":
                return web.Response(status=302, headers={"Location": request.query["to"]})
            case "/large":
                return web.Response(body=bytes(int(request.query["size"])))
            case "/packed":
                return web.Response(
                    body=b"\x1f\x8b not gzip",
                    headers={"Content-Encoding": "gzip", "Set-Cookie": "a=b"},
                )
            case "/slow":
                await ended.wait()
        return web.Response(body=service.bodies[-1])

    if talk is not None:
        server = await asyncio.start_server(talk, LOOPBACK, 0, ssl=tls)
        service.port = server.sockets[0].getsockname()[1]
        try:
            yield service
        finally:
            server.close()
        return
    runner = web.ServerRunner(web.Server(handle), shutdown_timeout=0)  # type: ignore[arg-type]  # a request is one that a handler takes
    await runner.setup()
    site = web.TCPSite(runner, LOOPBACK, 0, ssl_context=tls)
    await site.start()
    assert site._server is not None
    service.port = site._server.sockets[0].getsockname()[1]  # type: ignore[attr-defined]  # of a server that serves
    try:
        yield service
    finally:
        ended.set()
        await runner.cleanup()
