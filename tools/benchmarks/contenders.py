"""The servers that `versus.py` compares: how each is started in a folder, and what it is asked.

Each listens on loopback without TLS and keeps everything in its folder. What is not set here is the
server's own default.
"""

import contextlib
import http.client
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from loads import LOADS, WRITTEN
from places import KEYS, SMALL_BYTES, Place, base64_of, path_of, set_up
from processes import used_by
from scenarios import the_platform
from started_servers import NotServing, own_node, trusting

from sealspace import __version__

GET, PUT, LIST, DELEGATE, DECRYPT = "get 1 KiB", "put 1 KiB", "list 100", "delegate", "decrypt"
ASKED = (GET, PUT, LIST, DELEGATE, DECRYPT)
OURS, PEER, BAO = "sealspace", "TinyCloud node", "OpenBao"
_START_LIMIT_S = 60.0
_STOP_LIMIT_S = 20.0
_POLL_S = 0.005
_ENOUGH_PER_REQUEST = 30.0

Ask = Callable[[int], Awaitable[list[bytes]]]
"""Make so many requests of one kind."""


@dataclass(frozen=True, slots=True)
class Running:
    """A server that accepts requests.

    Attributes:
        pid: its first process.
        port: where it listens on 127.0.0.1.
        ready_s: wall time from its start until it accepted requests.
        ready_cpu_s: CPU time of all its processes until then.
    """

    pid: int
    port: int
    ready_s: float
    ready_cpu_s: float


class Contender(Protocol):
    """A server that is compared.

    Attributes:
        name: in the figures.
        writes_at: most connections on which it is asked to put and to delegate; None: any number.
    """

    name: str
    writes_at: int | None

    def start(self, folder: Path) -> AbstractContextManager[Running]:
        """Run it in a folder, which is empty or was left by an earlier start."""
        ...

    async def prepare(self, running: Running) -> Mapping[str, Ask]:
        """Write the values that are asked about; return how to make the requests of each kind."""
        ...

    def version(self, running: Running) -> str:
        """Return its version."""
        ...


@dataclass
class Sealspace:
    """This node with one worker, on LMDB, that trusts a simulated platform.

    Attributes:
        options: further ones of `sealspace serve`.
    """

    options: tuple[str, ...] = ()
    name: str = OURS
    writes_at: int | None = None
    _port: int = field(default_factory=lambda: _free_port())

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[Running]:
        trust = folder / "trust"
        if not trust.exists():
            trust.mkdir()
            trusting(trust, the_platform(), now=time.time())
        trusted = (
            *("--trust-root", str(trust / "root.pem")),
            *("--collateral", str(trust / "collateral")),
        )
        started = time.perf_counter()
        options = ("--port", str(self._port), *trusted, *self.options)
        with own_node(folder / "data", *options) as (_, pid):
            yield _ready(pid, self._port, "/readyz", started)

    async def prepare(self, running: Running) -> Mapping[str, Ask]:
        return _asked_of(await set_up(f"http://127.0.0.1:{running.port}"))

    def version(self, running: Running) -> str:
        return f"{__version__}, commit {_commit()}"


@dataclass
class TinyCloud:
    """TinyCloud's node with its defaults: rows in SQLite, values in files, staging in memory.

    At more than one connection its writes fail with "database is locked".

    Attributes:
        program: of the server.
    """

    program: Path
    name: str = PEER
    writes_at: int | None = 1
    _port: int = field(default_factory=lambda: _free_port())
    _secret: str = field(default_factory=lambda: base64_of(secrets.token_bytes(64)))

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[Running]:
        settings = {
            "ROCKET_ADDRESS": "127.0.0.1",
            "ROCKET_PORT": str(self._port),
            "TINYCLOUD_STORAGE__DATADIR": str(folder / "data"),
            "TINYCLOUD_KEYS__TYPE": "Static",
            "TINYCLOUD_KEYS__SECRET": self._secret.rstrip("=").replace("+", "-").replace("/", "_"),
        }
        (folder / "data").mkdir(exist_ok=True)
        with _process([str(self.program)], folder, settings) as (pid, started):
            yield _ready(pid, self._port, "/healthz", started)

    async def prepare(self, running: Running) -> Mapping[str, Ask]:
        url = f"http://127.0.0.1:{running.port}"
        return _asked_of(await set_up(url, writes_at=self.writes_at, is_other=True))

    def version(self, running: Running) -> str:
        return str(_called(running.port, "GET", "/version")["version"])


@dataclass
class OpenBao:
    """OpenBao with raft storage on one node, KV v2, transit, and a token of one policy.

    A static seal unseals it at each start, so that no person is needed. No audit device is on.

    Attributes:
        program: `bao`.
    """

    program: Path
    name: str = BAO
    writes_at: int | None = None
    _port: int = field(default_factory=lambda: _free_port())
    _cluster_port: int = field(default_factory=lambda: _free_port())
    _root: str = ""

    @contextlib.contextmanager
    def start(self, folder: Path) -> Iterator[Running]:
        settings = folder / "bao.hcl"
        if not settings.exists():
            self._write_settings(folder, settings)
        command = [str(self.program), "server", f"-config={settings}"]
        with _process(command, folder, {}) as (pid, started):
            if not self._root:
                _wait_for(pid, self._port, "/v1/sys/health", 501)
                shares = {"recovery_shares": 1, "recovery_threshold": 1}
                self._root = _called(self._port, "PUT", "/v1/sys/init", shares)["root_token"]
            yield _ready(pid, self._port, "/v1/sys/health", started)

    def _write_settings(self, folder: Path, settings: Path) -> None:
        key, data = folder / "seal.key", folder / "raft"
        key.write_bytes(secrets.token_bytes(32))
        data.mkdir()
        settings.write_text(
            _BAO_SETTINGS.format(port=self._port, cluster=self._cluster_port, data=data, key=key),
            encoding="utf-8",
        )

    async def prepare(self, running: Running) -> Mapping[str, Ask]:
        call = partial(_called, running.port, token=self._root)
        call("POST", "/v1/sys/mounts/kv", {"type": "kv", "options": {"version": "2"}})
        call("POST", "/v1/sys/mounts/transit", {"type": "transit"})
        call("POST", "/v1/transit/keys/bench", {})
        call("PUT", "/v1/sys/policies/acl/bench", {"policy": _BAO_POLICY})
        made = call("POST", "/v1/auth/token/create-orphan", {"policies": ["bench"]})
        token = made["auth"]["client_token"]
        self._wait_for_upgrade(call)
        for number in range(KEYS):
            call("POST", f"/v1/kv/data/{path_of(number)}", _bao_value())
        content_key = {"plaintext": base64_of(secrets.token_bytes(32))}
        encrypted = call("POST", "/v1/transit/encrypt/bench", content_key)["data"]["ciphertext"]
        return {
            GET: lambda count: _each(
                count, lambda number: _bao("GET", f"kv/data/{path_of(number)}", token)
            ),
            PUT: lambda count: _each(
                count,
                lambda number: _bao(
                    "POST", f"kv/data/put/{number % WRITTEN:03}", token, _bao_value()
                ),
            ),
            LIST: lambda count: _each(
                count, lambda _: _bao("GET", "kv/metadata/bench?list=true", token)
            ),
            DECRYPT: lambda count: _each(
                count,
                lambda _: _bao("POST", "transit/decrypt/bench", token, {"ciphertext": encrypted}),
            ),
        }

    def _wait_for_upgrade(self, call: Callable[..., Any]) -> None:
        """Wait until the mount of KV v2 accepts writes, which it refuses just after it is made."""
        end = time.monotonic() + _START_LIMIT_S
        while True:
            try:
                call("POST", f"/v1/kv/data/{path_of(0)}", _bao_value())
            except NotServing:
                if time.monotonic() > end:
                    raise
                time.sleep(_POLL_S)
            else:
                return

    def version(self, running: Running) -> str:
        done = subprocess.run([self.program, "version"], capture_output=True, text=True, check=True)
        number, _, rest = done.stdout.removeprefix("OpenBao v").partition(" ")
        return f"{number}, commit {rest.strip().lstrip('(')[:12]}"


_BAO_SETTINGS = """
ui = false
api_addr = "http://127.0.0.1:{port}"
cluster_addr = "http://127.0.0.1:{cluster}"
listener "tcp" {{
  address = "127.0.0.1:{port}"
  cluster_address = "127.0.0.1:{cluster}"
  tls_disable = true
}}
storage "raft" {{
  path = "{data}"
  node_id = "one"
}}
seal "static" {{
  current_key_id = "one"
  current_key = "file://{key}"
}}
"""
_BAO_POLICY = """
path "kv/*" { capabilities = ["create", "read", "update", "list"] }
path "transit/decrypt/bench" { capabilities = ["update"] }
"""


def _bao_value() -> dict[str, Any]:
    return {"data": {"value": secrets.token_hex(SMALL_BYTES // 2)}}


def _bao(method: str, path: str, token: str, body: object = None) -> bytes:
    sent = b"" if body is None else json.dumps(body).encode()
    head = (
        f"{method} /v1/{path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-vault-token: {token}\r\n"
        f"content-type: application/json\r\ncontent-length: {len(sent)}\r\n\r\n"
    )
    return head.encode() + sent


async def _each(count: int, make: Callable[[int], bytes]) -> list[bytes]:
    return [make(number) for number in range(count)]


def _asked_of(place: Place) -> Mapping[str, Ask]:
    """Return the requests of TinyCloud's protocol, which both nodes have."""
    return {name: partial(LOADS[name].make, place) for name in ASKED}


# --- processes ------------------------------------------------------------------------------------


@contextlib.contextmanager
def _process(
    command: list[str], folder: Path, settings: Mapping[str, str]
) -> Iterator[tuple[int, float]]:
    """Run a server with its output in a file of the folder; give its process and when it began."""
    environment = {"PATH": os.defpath, "HOME": str(folder), **settings}
    with (folder / "output").open("ab") as output:
        started = time.perf_counter()
        try:
            process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env=environment,
                cwd=folder,
            )
        except OSError as failure:
            raise NotServing(f"{command[0]} cannot be run: {failure}") from None
    try:
        yield process.pid, started
    except NotServing as failure:
        said = (folder / "output").read_text(errors="replace").splitlines()[-5:]
        raise NotServing("\n".join([str(failure), *said])) from None
    finally:
        process.terminate()
        try:
            process.wait(_STOP_LIMIT_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(pid: int, port: int, path: str, started: float) -> Running:
    _wait_for(pid, port, path, 200)
    took_s = time.perf_counter() - started
    return Running(pid, port, took_s, sum(used_by(pid).cpu_s.values()))


def _wait_for(pid: int, port: int, path: str, status: int) -> None:
    end = time.monotonic() + _START_LIMIT_S
    while True:
        with contextlib.suppress(OSError, http.client.HTTPException):
            if _answered(port, "GET", path)[0] == status:
                return
        if time.monotonic() > end or not used_by(pid).cpu_s or _has_ended(pid):
            raise NotServing(f"no {status} from {path} on port {port}")
        time.sleep(_POLL_S)


def _has_ended(pid: int) -> bool:
    """Return whether a child of this process has ended and was not waited for yet."""
    state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    return state == "Z"


def _called(port: int, method: str, path: str, body: object = None, *, token: str = "") -> Any:
    status, text = _answered(port, method, path, body, token=token)
    if not 200 <= status < 300:
        raise NotServing(f"{method} {path} was answered {status}: {text[:300]!r}")
    return json.loads(text) if text else None


def _answered(
    port: int, method: str, path: str, body: object = None, *, token: str = ""
) -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=_ENOUGH_PER_REQUEST)
    try:
        headers = {"content-type": "application/json"} | ({"x-vault-token": token} if token else {})
        connection.request(
            method, path, None if body is None else json.dumps(body).encode(), headers
        )
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()


def _free_port() -> int:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port: int = bound.getsockname()[1]
        return port


def _commit() -> str:
    """Return the commit of the working tree, and whether files were changed since."""
    root = Path(__file__).parents[2]
    named = [
        "git",
        "-C",
        str(root),
        "describe",
        "--always",
        "--dirty",
        "--abbrev=12",
        "--exclude=*",
    ]
    done = subprocess.run(named, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
