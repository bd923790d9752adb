"""Tests of the Caddyfile of `examples/deploy` with Caddy and a node on PostgreSQL."""

import os
import re
import shutil
import socket
import ssl
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from http.client import HTTPSConnection
from pathlib import Path
from urllib.parse import quote

import pytest
import yaml
from held_ports import held_ports
from patience import PATIENCE_S
from postgres_server import needs_postgres, postgres_server
from running_node import running_node, until
from tests_support import REPOSITORY

from node.config.tree import Http
from sealspace.wallets import wallet_from_key

DEPLOY = REPOSITORY / "examples" / "deploy"
CADDY, CURL = shutil.which("caddy"), shutil.which("curl")
LARGE_BYTES = 20 << 20
REQUEST_ID = rb'"request_id":"[^"]*"'
REFUSALS = 5
OWNER_KEY = bytes(31) + b"7"
pytestmark = pytest.mark.skipif(CADDY is None, reason="caddy is not installed")

PROGRAM = f"""
import asyncio, hashlib, sys
from sealspace import Client, wallet_from_key

def pieces():
    for number in range({LARGE_BYTES >> 20}):
        yield bytes([number]) * (1 << 20)

async def main():
    async with Client(sys.argv[1]) as client:
        await client.sign_in(wallet_from_key({OWNER_KEY!r}))
        values = client.kv()
        await values.put("greeting", "hello")
        await values.upload("large", pieces())
        streamed, size = hashlib.sha256(), 0
        async for piece in values.stream("large"):
            streamed.update(piece)
            size += len(piece)
        assert streamed.digest() == hashlib.sha256(b"".join(pieces())).digest()
        await client.secrets().put("API_KEY", "open sesame")
        greeting = (await values.get("greeting")).body.decode()
        print(greeting, size, await client.secrets().get("API_KEY"))

asyncio.run(main())
"""


@dataclass(frozen=True)
class Front:
    """A running Caddy.

    Attributes:
        url: where clients reach the node.
        node: where Caddy does.
        root: the certificate that its own end at.
        health: of its health check.
        log: what it writes.
    """

    url: str
    node: str
    root: Path
    health: str
    log: Path

    def curl(self, *arguments: str, client: str = "127.0.0.1") -> list[str]:
        """Call paths from a client's address; return for each the status and the version of
        HTTP."""
        told = [
            "--silent",
            "--cacert",
            str(self.root),
            "--interface",
            client,
            "--max-time",
            str(PATIENCE_S),
        ]
        shown = ["--write-out", "%{http_code} %{http_version}\n", "--output", os.devnull]
        called = [
            part
            for path in arguments
            if path.startswith("/")
            for part in (f"{self.url}{path}", *shown[2:])
        ]
        rest = [one for one in arguments if not one.startswith("/")]
        ran = subprocess.run(
            [str(CURL), *told, *shown[:2], *rest, *called],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        return ran.stdout.splitlines()


@contextmanager
def _caddy(folder: Path, node: str) -> Iterator[Front]:
    """Run Caddy with the Caddyfile, only on loopback."""
    with held_ports(3) as ports:
        yield from _running(folder, node, *ports)


def _running(folder: Path, node: str, http: int, https: int, health: int) -> Iterator[Front]:
    text = (DEPLOY / "Caddyfile").read_text("utf-8")
    assert text.count("\tadmin off\n") == 1
    file = folder / "Caddyfile"
    file.write_text(text.replace("\tadmin off\n", "\tadmin off\n\tdefault_bind 127.0.0.1\n"))
    variables = {
        **{name: value for name, value in os.environ.items() if name == "PATH"},
        "XDG_DATA_HOME": str(folder / "share"),
        "XDG_CONFIG_HOME": str(folder / "config"),
        "HOME": str(folder),
        "SEALSPACE_NODE": node.removeprefix("http://"),
        "SEALSPACE_HTTP_PORT": str(http),
        "SEALSPACE_HTTPS_PORT": str(https),
        "SEALSPACE_HEALTH_PORT": str(health),
    }
    root = folder / "share" / "caddy" / "pki" / "authorities" / "local" / "root.crt"
    command = [str(CADDY), "run", "--config", str(file), "--adapter", "caddyfile"]
    with (folder / "caddy.log").open("w") as log:
        process = subprocess.Popen(command, env=variables, cwd=folder, stderr=log)
    try:
        until(lambda: process.poll() is not None or _is_served(root, https))
        assert process.poll() is None, (folder / "caddy.log").read_text()
        yield Front(
            f"https://localhost:{https}",
            node,
            root,
            f"http://127.0.0.1:{health}/",
            folder / "caddy.log",
        )
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def _is_served(root: Path, port: int) -> bool:
    """Return whether Caddy listens and has a certificate."""
    try:
        trusted = ssl.create_default_context(cafile=str(root))
        with (
            socket.create_connection(("127.0.0.1", port)) as plain,
            trusted.wrap_socket(plain, server_hostname="localhost"),
        ):
            return True
    except OSError:
        return False


def _database(secrets: Path) -> str:
    """Create a database that requires the generated password; return its address without the
    password."""
    server = postgres_server()
    password = (secrets / "database_password").read_text()
    server.run("postgres", f"create role deployed login password '{password}'")
    server.run("postgres", "create database deployed owner deployed")
    rules = server.folder / "data" / "pg_hba.conf"
    rules.write_text(f"local all deployed scram-sha-256\n{rules.read_text()}")
    server.run("postgres", "select pg_reload_conf()")
    address = f"postgresql://deployed@/deployed?host={quote(str(server.folder), safe='')}"
    until(
        lambda: (
            subprocess.run(
                ["psql", "-wqc", "", address], capture_output=True, check=False
            ).returncode
            != 0
        )
    )
    passwords = secrets / "database_pgpass"
    passwords.chmod(0o600)
    passwords.write_text(
        passwords.read_text().replace(
            "database:5432:sealspace:sealspace:", "*:*:deployed:deployed:"
        )
    )
    passwords.chmod(0o400)
    return address


@pytest.fixture(scope="module")
def front(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Front]:
    """Caddy before a node with the settings of the compose file, except for addresses and files."""
    folder = tmp_path_factory.mktemp("deployed")
    me = str(os.getuid())
    made = {**os.environ, "NODE_USER": me, "DATABASE_USER": me}
    subprocess.run(
        ["sh", str(DEPLOY / "new-secrets.sh")], cwd=folder, env=made, check=True, timeout=PATIENCE_S
    )
    stated = yaml.safe_load((DEPLOY / "compose.yaml").read_text("utf-8"))["services"]["node"][
        "environment"
    ]
    settings = {
        name: value.replace("/run/secrets", str(folder / "secrets"))
        for name, value in stated.items()
    }
    settings |= {
        "SEALSPACE_HTTP__HOST": "127.0.0.1",
        "SEALSPACE_HTTP__TRUSTED_PROXIES": "127.0.0.1",
        "SEALSPACE_HOSTING__LISTED": wallet_from_key(OWNER_KEY).did,  # the mode is `permit`
    }
    settings |= {"SEALSPACE_STORE__URL": _database(folder / "secrets")}
    settings |= {"SEALSPACE_LIMITS__UNAUTHENTICATED_PER_MINUTE": str(REFUSALS)}
    arguments = ("--store", settings["SEALSPACE_STORE__URL"])
    with (
        running_node(folder, *arguments, workers=1, environment=settings) as node,
        _caddy(folder, node.url) as caddy,
    ):
        yield caddy


def test_the_caddyfile_is_valid(tmp_path: Path) -> None:
    """Caddy accepts the Caddyfile, and rejects it with a misspelt word."""
    text = (DEPLOY / "Caddyfile").read_text("utf-8")
    for written, expected in ((text, 0), (text.replace("request_body", "request_bodies"), 1)):
        file = tmp_path / "Caddyfile"
        file.write_text(written)
        checked = [str(CADDY), "validate", "--config", str(file), "--adapter", "caddyfile"]
        variables = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
        ran = subprocess.run(
            checked, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert ran.returncode == expected, ran.stderr


def test_its_bounds_are_those_of_the_node() -> None:
    """Caddy passes all requests that the node accepts, and closes idle connections before the node
    does."""
    text, http = (DEPLOY / "Caddyfile").read_text("utf-8"), Http()
    assert http.max_body_bytes == 1_000_000_000 and "max_size 1GB" in text
    assert http.max_header_line_bytes + (64 << 10) < 512_000 and "max_header_size 512KB" in text
    assert "read_header 30s" in text and http.head_s == 30
    assert "keepalive 60s" in text and http.keep_alive_s > 60


@pytest.mark.slow
@pytest.mark.skipif(CURL is None, reason="curl is not installed")
def test_errors_name_no_request(tmp_path: Path) -> None:
    """If the node does not answer, the log says so without the token and the address of the
    request."""
    with _caddy(tmp_path, "http://127.0.0.1:1") as front:
        assert front.curl("--header", "Authorization: canary-1", "/signed/canary-2?q=canary-3") == [
            "502 2"
        ]
    log = front.log.read_text()
    assert "connection refused" in log
    assert "canary" not in log


@pytest.mark.slow
@needs_postgres()
@pytest.mark.skipif(CURL is None, reason="curl is not installed")
class TestPlayed:
    """A node, PostgreSQL and Caddy."""

    def test_the_sdk_works_through_it(self, front: Front) -> None:
        """The SDK stores values, a large value in pieces, and a secret through Caddy."""
        variables = {**os.environ, "SSL_CERT_FILE": str(front.root)}
        command = [sys.executable, "-c", PROGRAM, front.url]
        ran = subprocess.run(
            command, env=variables, capture_output=True, text=True, timeout=PATIENCE_S, check=False
        )
        assert (ran.returncode, ran.stdout) == (0, f"hello {LARGE_BYTES} open sesame\n"), ran.stderr

    def test_clients_are_counted_apart(self, front: Front) -> None:
        """Each client has its own limit of refusals, whatever address it claims."""
        claims = ("--header", "X-Forwarded-For: 192.0.2.9", "--header", "X-Real-IP: 192.0.2.9")
        refused = ("--request", "POST", "--header", "Authorization: none", *claims)
        answers = front.curl(*refused, *["/invoke"] * (2 * REFUSALS), client="127.0.0.2")
        assert answers[:REFUSALS] == ["401 2"] * REFUSALS and "429 2" in answers
        assert front.curl(*refused, "/invoke", client="127.0.0.3") == ["401 2"]

    def test_each_version_of_http(self, front: Front) -> None:
        """HTTP/2 and HTTP/1.1 both reach the node, and so does a token of the greatest length."""
        assert front.curl("/healthz") == ["200 2"]
        assert front.curl("--http1.1", "/healthz") == ["200 1.1"]
        long = front.root.parent / "header"
        long.write_text(f"Authorization: {'x' * (60 << 10)}\n")  # in HTTP/2 curl sends no more
        assert front.curl(
            "--header", f"@{long}", "--request", "POST", "/invoke", client="127.0.0.4"
        ) == ["401 2"]
        trusted = ssl.create_default_context(cafile=str(front.root))
        connection = HTTPSConnection(
            front.url.removeprefix("https://"), context=trusted, timeout=PATIENCE_S
        )
        with closing(connection):
            connection.request(
                "POST", "/invoke", headers={"Authorization": "x" * Http().max_header_line_bytes}
            )
            assert connection.getresponse().status == 401

    def test_what_ends_at_caddy(self, front: Front) -> None:
        """Caddy answers the operator's routes in each spelling, and the health check."""
        paths = (
            "/admin",
            "/admin/usage",
            "/%61dmin/usage",
            "/ADMIN/usage",
            "//admin/usage",
            "/info/../admin/usage",
        )
        assert front.curl("--path-as-is", *paths) == ["404 2"] * len(paths)
        assert (
            subprocess.run(
                [str(CURL), "--silent", "--fail", front.health], timeout=PATIENCE_S, check=False
            ).returncode
            == 0
        )

    def test_what_the_node_would_read_as_the_operators_ends_at_caddy(self, front: Front) -> None:
        """Caddy passes no spelling of an operator's route to the node."""
        climbs = (
            "/admin/quota/..%2f..%2fx",
            "/admin/%2e%2e/x",
            "/admin%2f..%2finfo",
            "/%61dmin/x/%2E./%2e%2E/info",
        )
        paths = (
            *climbs,
            "//admin/..%2f..%2fx",
            "/ADM%49N/..%2F..%2fx",
            "/admin/../info",
            "/admin/..?x=1",
            "/admin/.%2e#x",
        )
        assert front.curl("--path-as-is", *paths) == ["404 2"] * len(paths)
        # In HTTP/1.1 an address may be absolute, or what follows a scheme alone.
        absolute = f"{front.url}/admin/..%2f..%2fx"
        for target in (absolute, f"http:{absolute}", "http:admin/usage", "http:/admin/usage"):
            assert front.curl("--http1.1", "--request-target", target, "/") in (
                ["404 1.1"],
                ["400 1.1"],
            ), target

    def test_keys_may_contain_encoded_slashes_and_dots(self, front: Front) -> None:
        """Other paths reach the node unchanged, also with the words of the operator's routes in
        them."""
        paths = (
            "/public/none/admin%2Fquota",
            "/public/none/a%2F..%2Fb",
            "/administrator",
            "/kv%2Fadmin/quota",
        )
        told = [str(CURL), "--silent", "--path-as-is", "--cacert", str(front.root)]
        for path in paths:
            direct, through = (
                subprocess.run(
                    [*told, f"{url}{path}"], capture_output=True, timeout=PATIENCE_S, check=True
                ).stdout
                for url in (front.node, front.url)
            )
            # Each answer has an id of its own.
            assert re.sub(REQUEST_ID, b"", through) == re.sub(REQUEST_ID, b"", direct) != b""

    def test_headers(self, front: Front) -> None:
        """Answers tell browsers to stay with TLS, and do not name the server software."""
        told = [
            "--silent",
            "--cacert",
            str(front.root),
            "--dump-header",
            "-",
            "--output",
            os.devnull,
        ]
        ran = subprocess.run(
            [str(CURL), *told, f"{front.url}/info"],
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
        )
        names = {line.partition(":")[0].lower(): line for line in ran.stdout.splitlines()}
        assert "max-age=" in names["strict-transport-security"]
        assert "caddy" not in ran.stdout.lower() and "content-encoding" not in names
