"""A node inside the test process that answers recorded requests at their recorded time.

It has the sample secret and the clock of each exchange. If an exchange creates a network whose key
pair is recorded, the node uses the recorded private key, so that recorded ciphertexts open.
"""

import base64
import io
import json
import secrets
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType
from urllib.parse import urlsplit

from conformance.raw_http import RawConnection
from embedded_node import embedded_node
from engines import no_housekeeping, store_at
from openapi_checks import is_documented_code, openapi_mismatch
from task_memory import fast_folder
from tests_support import FixedClock
from wire_replay import ADMIN_SECRET, NODE_SECRET, Answer, Case, Exchange, load_network_keys

from node.config.tree import (
    Admin,
    AttestationMode,
    Config,
    Hosting,
    HostingMode,
    Http,
    Limits,
    Log,
    PublicSpaces,
    Release,
    Secret,
)
from node.logs import configure_logs

# A store in memory, where the machine has such a folder: hundreds of cases wait for their commits.


class ReplayEntropy:
    """The system's random source, which can be given values to return next."""

    def __init__(self) -> None:
        self._ready: list[bytes] = []

    def lay_ready(self, *values: bytes) -> None:
        """Set the values to return next, each when its size is requested."""
        self._ready = list(values)

    def token(self, size_bytes: int) -> bytes:
        """Return the first given value of this size, else random bytes."""
        for index, value in enumerate(self._ready):
            if len(value) == size_bytes:
                return self._ready.pop(index)
        return secrets.token_bytes(size_bytes)


@dataclass(slots=True)
class ReplayNode:
    """A running node and the connection to it."""

    clock: FixedClock
    entropy: ReplayEntropy
    connection: RawConnection
    network_keys: Mapping[str, bytes] = field(repr=False)
    lines: io.StringIO

    async def answer(self, exchange: Exchange, *, network: str | None = None) -> Answer:
        """Send the request of an exchange at its time, and return this node's answer.

        Args:
            exchange: the recorded exchange.
            network: id of the network that the request creates, if any.
        """
        self.clock.time = exchange.at
        key = self.network_keys.get(network or "")
        self.entropy.lay_ready(*([] if key is None else [key]))
        try:
            answer = await self.connection.send(exchange.request)
        finally:
            self.entropy.lay_ready()
        request = exchange.request
        self._check_code()
        assert (
            openapi_mismatch(
                request.method, request.path, answer.status, dict(answer.headers), answer.body
            )
            == ""
        )
        return answer

    def _check_code(self) -> None:
        """Check that the expected code is the one in the request log for the last answer."""
        said = [json.loads(line) for line in self.lines.getvalue().splitlines()]
        self.lines.truncate(self.lines.seek(0))
        for line in said:
            if line["event"] == "request" and line["route"] is not None:
                assert is_documented_code(
                    line["method"], line["route"], line["status"], line["code"]
                ), line

    async def replay(self, exchanges: Sequence[Exchange]) -> AsyncIterator[Answer]:
        """Send requests in order and yield the answers, with recorded handles replaced by this
        node's."""
        handles: dict[str, str] = {}
        default = next(
            (made for e in exchanges if (made := _made_network(e)) and made.endswith(":default")),
            None,
        )
        for exchange in exchanges:
            # With hosting `auto` it is the sign-in that makes the owner's default network.
            network = default if exchange.request.path == "/delegate" else _made_network(exchange)
            answer = await self.answer(_with_own(exchange, handles), network=network)
            recorded, given = _handles(exchange.answer), _handles(answer)
            handles.update((recorded[name], given[name]) for name in recorded.keys() & given.keys())
            yield answer

    async def decide(self, case: Case) -> Answer:
        """Send all requests of a case in order, and return the answer to the decisive one."""
        answers = [answer async for answer in self.replay(case.exchanges)]
        return answers[-1]


def _made_network(exchange: Exchange) -> str | None:
    """Return the network that an exchange created, from its recorded answer."""
    if exchange.request.path != "/encryption/networks" or exchange.answer.status != 200:
        return None
    return str(json.loads(exchange.answer.body)["descriptor"]["networkId"])


def _handles(answer: Answer) -> dict[str, str]:
    """Return the handles in an answer: the ticket of a signed URL, the cursor of a listing."""
    handles = {}
    if cursor := answer.header("x-tinycloud-next-cursor"):
        handles["cursor"] = cursor
    if answer.status == 200 and b'"ticketId"' in answer.body:
        handles["ticket"] = str(json.loads(answer.body)["ticketId"])
    return handles


def _with_own(exchange: Exchange, handles: Mapping[str, str]) -> Exchange:
    """Return the exchange with recorded tickets and cursors replaced by this node's."""
    path, headers = exchange.request.path, exchange.request.headers
    for recorded, given in handles.items():
        path = path.replace(recorded, given)
        headers = tuple((name, given if value == recorded else value) for name, value in headers)
    return replace(exchange, request=replace(exchange.request, path=path, headers=headers))


class ReplayNodes:
    """Nodes for a test module, which all stop together; cases with equal settings share one.

    Every case has keys, spaces and networks of its own, so cases do not affect each other.
    Exchanges set the clock in any order, so these nodes run no tasks by the clock alone.
    """

    def __init__(
        self,
        *,
        hosting: HostingMode = "explicit",
        attestation: AttestationMode = "off",
        quota_bytes: int = 0,
    ) -> None:
        self._hosting: HostingMode = hosting
        self._quota_bytes = quota_bytes
        self._attestation: AttestationMode = attestation
        self._running = AsyncExitStack()
        self._by_settings: dict[frozenset[str], ReplayNode] = {}
        self._network_keys = load_network_keys()
        self._lines = io.StringIO()

    async def __aenter__(self) -> "ReplayNodes":
        self._running.enter_context(no_housekeeping())
        configure_logs("info", stream=self._lines)
        self._running.callback(configure_logs, "info")
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._running.aclose()

    async def node_for(self, case: Case) -> ReplayNode:
        """Return the node with the settings that a case needs."""
        if case.server not in self._by_settings:
            self._by_settings[case.server] = await self.new_node(server=case.server)
        return self._by_settings[case.server]

    async def new_node(
        self, *, secret: bytes = NODE_SECRET, server: frozenset[str] = frozenset()
    ) -> ReplayNode:
        """Start a node that no other case uses."""
        folder = tempfile.TemporaryDirectory(dir=fast_folder())
        data = Path(self._running.enter_context(folder))
        clock, entropy = FixedClock(), ReplayEntropy()
        node = await self._running.enter_async_context(
            embedded_node(self._config(data, secret, server), clock=clock, entropy=entropy)
        )
        connection = RawConnection(urlsplit(node.url).port or 0)
        await self._running.enter_async_context(connection)
        return ReplayNode(clock, entropy, connection, self._network_keys, self._lines)

    def _config(self, data: Path, secret: bytes, server: frozenset[str]) -> Config:
        return Config(
            # What was recorded came through a proxy, so to say: each case has a client address of
            # its own.
            http=Http(port=0, cors="cors" in server, drain_s=0, trusted_proxies=("127.0.0.1",)),
            store=store_at(data),
            hosting=Hosting(mode=self._hosting, default_quota_bytes=self._quota_bytes),
            admin=Admin(secret=ADMIN_SECRET if "admin" in server else None),
            # hundreds of refused tokens from one address are the purpose
            limits=Limits(unauthenticated_per_minute=0),
            release=Release(attestation=self._attestation),
            log=Log(requests="hashed"),
            public_spaces=PublicSpaces(storage_limit_bytes=10 << 20),  # as recorded
            secret=Secret(value=base64.urlsafe_b64encode(secret).decode().rstrip("=")),
        )
