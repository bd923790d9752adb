"""A real `sealspace serve` with its processes, and its users: owners, backends, and clients with
bare tokens.

What runs here is what an operator runs: a supervisor, a storekeeper and several workers on one
socket. `only` lets one worker alone answer for a while, so that a test can choose who is asked.

Example:
    with running_node(tmp_path, platform=platform) as node:
        reply = await send(node.url, "GET", "/info")
"""

import json
import os
import re
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote as percent_encoded

import aiohttp
import libipld
from deviating_platform import SimulatedPlatform
from engines import store_arguments
from patience import PATIENCE_S
from sql_processes import OF_ONE_PRIORITY as _KEEPER_OF_ONE_PRIORITY
from tests_support import REPOSITORY
from trust_settings import trust_arguments
from wire_replay import token_id
from yarl import URL

from capabilities.cacao import encode_cacao, header_text, sign_cacao
from capabilities.facts import statement_resource
from capabilities.recap import Recap, attach
from capabilities.signatures import Ed25519Signer, WalletSigner
from capabilities.siwe import SiweMessage
from capabilities.strict_json import Json
from capabilities.ucan import UcanPayload, encode_ucan
from encryption_network.policy import Measurements, Policy, policy_json

COMMAND = (
    sys.executable,
    "-P",
    "-c",
    "import sys; from sealspace.cli.root import main; sys.exit(main())",
)
"""The command line as it is installed; with REPOSITORY on PYTHONPATH it runs from any folder."""
OF_ONE_PRIORITY = (
    *COMMAND[:-1],
    f"import sys; sys.path.append({str(REPOSITORY / 'tests' / 'support')!r}); "
    f"{_KEEPER_OF_ONE_PRIORITY}{COMMAND[-1]}",
)
"""The same without the right to give its processes the lowest priority, at which slow statements
would not run at all on a busy machine."""
# a start is seconds of CPU in each of four processes, and the machine may be busy
_WAIT_S = PATIENCE_S

Grants = Mapping[str, Sequence[str]]
"""Resource to abilities, all without caveats."""


# --- processes ------------------------------------------------------------------------------------


class RunningNode:
    """A running `serve` on one data folder, and its standard error.

    Args:
        folder: where the data folder is.
        arguments: further arguments of `serve`.
        environment: further settings.
        started_in: the process's current folder; None: `folder`.
        command: starts `sealspace`.
    """

    def __init__(
        self,
        folder: Path,
        *arguments: str,
        environment: Mapping[str, str] | None = None,
        started_in: Path | None = None,
        command: Sequence[str] = COMMAND,
    ) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        self.started_at = time.monotonic()
        self.process = subprocess.Popen(
            [*command, "serve", "--data", str(folder / "data"), "--port", "0", *arguments],
            stderr=subprocess.PIPE,
            text=True,
            cwd=started_in or folder,
            env={**os.environ, "PYTHONPATH": str(REPOSITORY), **(environment or {})},
        )
        self.lines: list[str] = []
        self._said = threading.Condition()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self.process.stderr is not None
        for line in self.process.stderr:
            with self._said:
                self.lines.append(line.rstrip("\n"))
                self._said.notify_all()

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Wait for the first line that matches, and return it."""

        def found() -> re.Match[str] | None:
            return next((match for line in self.lines if (match := re.search(pattern, line))), None)

        with self._said:
            match = self._said.wait_for(found, _WAIT_S)
        assert match is not None, self.lines
        return match

    @property
    def url(self) -> str:
        """Return the node's address once it listens."""
        return self.wait_for(r"^listening on (http://127\.0\.0\.1:\d+)$").group(1)

    def children(self, command: str) -> list[int]:
        """Return the process ids of one kind that the supervisor started."""
        pid = self.process.pid
        try:
            task = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        except OSError:
            return []
        return sorted(int(child) for child in task if _runs(int(child), command))

    @contextmanager
    def only(self, index: int) -> Iterator[None]:
        """Let only one worker answer new connections; the others are stopped while the block runs.

        No request may be in progress: a process that is stopped while it holds a lock would block
        all others.
        """
        others = [pid for at, pid in enumerate(self.children("worker")) if at != index]
        for pid in others:
            os.kill(pid, signal.SIGSTOP)
        try:
            # until then one of them may accept a connection
            until(lambda: all(is_stopped(pid) for pid in others))
            yield
        finally:
            for pid in others:
                os.kill(pid, signal.SIGCONT)

    def kill(self) -> None:
        """Kill every process with SIGKILL, as a power cut would, and wait for their end."""
        children = [
            *self.children("storekeeper"),
            *self.children("sqlkeeper"),
            *self.children("worker"),
        ]
        for pid in (self.process.pid, *children):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.process.wait(_WAIT_S)
        until(lambda: not any(is_alive(pid) for pid in children))
        self._hang_up()

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Stop the node by a signal, as an operator would, and return the exit status."""
        self.process.send_signal(number)
        status = self.process.wait(_WAIT_S)
        self._hang_up()
        return status

    def close(self) -> None:
        """Stop the node, whatever its state."""
        if self.process.poll() is None:
            self.kill()
        self._hang_up()

    def _hang_up(self) -> None:
        self._reader.join(_WAIT_S)
        if self.process.stderr is not None:
            self.process.stderr.close()


def _runs(pid: int, command: str) -> bool:
    try:
        return command.encode() in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False


def is_alive(pid: int) -> bool:
    """Return whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def is_stopped(pid: int) -> bool:
    """Return whether a process was stopped by a signal."""
    return state_of(pid) == "T"


def state_of(pid: int) -> str:
    """Return the state of a process as in `ps`, such as S for one that waits; "" without one."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def until(condition: Callable[[], bool]) -> None:
    """Wait until a condition is true; fail after a time limit."""
    deadline = time.monotonic() + _WAIT_S
    while not condition():
        assert time.monotonic() < deadline, "it did not come to pass"
        threading.Event().wait(0.02)


@contextmanager
def running_node(
    folder: Path,
    *arguments: str,
    platform: SimulatedPlatform | None = None,
    workers: int = 2,
    environment: Mapping[str, str] | None = None,
    command: Sequence[str] = COMMAND,
) -> Iterator[RunningNode]:
    """Run a node on a folder until the block ends.

    Args:
        folder: where the data folder, `root.pem` and `collateral` go.
        arguments: further arguments of `serve`.
        platform: whose quotes the node trusts; None: Intel's root and no collateral.
        workers: how many.
        environment: further settings.
        command: starts `sealspace`.
    """
    trust = () if platform is None else trust_arguments(folder, platform)
    settings = {"SEALSPACE_LIMITS__CHALLENGES_PER_MINUTE": "1000000", **(environment or {})}
    stored = () if "--store" in arguments else store_arguments(folder)
    node = RunningNode(
        folder,
        "--workers",
        str(workers),
        *trust,
        *stored,
        *arguments,
        environment=settings,
        command=command,
    )
    try:
        assert node.url
        yield node
    finally:
        node.close()


# --- requests -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer, with header names in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def text(self) -> str:
        """Return the body as text."""
        return self.body.decode()

    @property
    def said(self) -> tuple[int, str]:
        """Return status and text, which most tests compare."""
        return self.status, self.text

    @property
    def storage_said(self) -> tuple[int, str]:
        """Return status and message of the JSON for a write that does not fit into its space."""
        assert self.headers["content-type"] == "application/json"
        return self.status, str(self.value["message"])

    @property
    def value(self) -> dict[str, Json]:
        """Return the body as a JSON object."""
        value: dict[str, Json] = json.loads(self.body)
        return value

    @property
    def reported(self) -> Any:
        """Return the body as JSON of any type."""
        return json.loads(self.body)


async def send(
    url: str,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes | AsyncIterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request on a new connection."""
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(
        connector=connector, timeout=aiohttp.ClientTimeout(total=_WAIT_S)
    ) as session:
        return await exchange(session, url, method, path, token=token, body=body, headers=headers)


async def exchange(
    session: aiohttp.ClientSession,
    url: str,
    method: str,
    path: str,
    *,
    token: str | None = None,
    body: bytes | AsyncIterator[bytes] | None = None,
    headers: Mapping[str, str] | None = None,
) -> Reply:
    """Send one request on a connection of a session."""
    sent = dict(headers or {})
    if token is not None:
        sent["Authorization"] = token
    if isinstance(body, bytes) and body[:1] in (b"{", b"["):
        sent.setdefault("Content-Type", "application/json")
    skipped = () if "Content-Type" in sent else ("Content-Type",)
    address = URL(url + path, encoded=True)
    async with session.request(
        method, address, headers=sent, data=body, skip_auto_headers=skipped
    ) as answer:
        given = {name.lower(): text for name, text in answer.headers.items()}
        return Reply(answer.status, given, await answer.read())


def network_path(network: str, leaf: str) -> str:
    """Return the path of a route of a network."""
    return f"/encryption/networks/{percent_encoded(network, safe='')}/{leaf}"


# --- bare tokens ----------------------------------------------------------------------------------


def fresh_nonce() -> str:
    """Return a random nonce of seventeen letters and digits."""
    return f"n{secrets.token_hex(8)}"


def time_text(epoch_s: float) -> str:
    """Return a time in the format of sign-in texts."""
    return datetime.fromtimestamp(epoch_s, tz=UTC).strftime("%Y-%m-%dT%H:%M:%S.000Z")


def wallet_token(
    wallet: WalletSigner,
    audience: str,
    grants: Grants,
    *,
    ttl_s: float | None = 3600,
    policy: Policy | None = None,
    parents: Sequence[str] = (),
    age_s: float = 0,
    ends_at: float | None = None,
    resources: Sequence[str] = (),
) -> str:
    """Return a delegation signed by a wallet.

    Args:
        wallet: who signs.
        audience: DID or DID URL of the delegate.
        grants: what is granted.
        ttl_s: seconds until it expires, half as many with parents; None: never.
        policy: what code may receive keys under it.
        parents: ids of delegations it rests on.
        age_s: how long ago it says it was signed; negative: in the future.
        ends_at: epoch seconds at which it expires, in place of `ttl_s`.
        resources: further resources of the text.
    """
    now = time.time()
    if ends_at is None and ttl_s is not None:
        # A second may have passed since the parents were signed, and they have to end later.
        ends_at = now + (ttl_s / 2 if parents else ttl_s)
    stated = () if policy is None else (statement_resource(policy_json(policy)),)
    message = SiweMessage(
        domain="app.example",
        address=wallet.address,
        chain_id=wallet.chain_id,
        uri=audience,
        nonce=fresh_nonce(),
        issued_at=time_text(now - age_s),
        expiration_time=None if ends_at is None else time_text(ends_at),
        resources=(*stated, *resources),
    )
    recap = Recap(
        {resource: {one: ({},) for one in abilities} for resource, abilities in grants.items()},
        tuple(_base58_id(parent) for parent in parents),
    )
    signed = attach(message, recap)
    return header_text(encode_cacao(sign_cacao(signed, wallet)))


def _base58_id(cid: str) -> str:
    return str(libipld.encode_multibase("z", libipld.decode_multibase(cid)[1]))


def key_token(
    signer: Ed25519Signer,
    audience: str,
    grants: Grants,
    *,
    ttl_s: float = 60,
    ends_at: float | None = None,
    proofs: Sequence[str] = (),
    facts: Sequence[Json] = (),
    nonce: str | None = None,
    not_before: float | None = None,
    issuer: str | None = None,
    caveats: Sequence[Mapping[str, Json]] = ({},),
) -> str:
    """Return a UCAN of a key: a delegation or an invocation. `proofs` are tokens or ids."""
    listed = [dict(caveat) for caveat in caveats]
    payload = UcanPayload(
        iss=issuer or signer.did_url,
        aud=audience,
        exp=round(time.time() + ttl_s, 3) if ends_at is None else ends_at,
        nbf=not_before,
        nnc=nonce or fresh_nonce(),
        fct=list(facts) or None,
        prf=[id_of(proof) for proof in proofs],
        att={resource: dict.fromkeys(abilities, listed) for resource, abilities in grants.items()},
    )
    return encode_ucan(payload, signer)


def id_of(token: str) -> str:
    """Return the id of a token; an id is returned unchanged."""
    return token if token.startswith("bafkr4i") else token_id(token)


def new_key() -> Ed25519Signer:
    """Return a new random key."""
    return Ed25519Signer(secrets.token_bytes(32))


# --- trust domains --------------------------------------------------------------------------------


@dataclass(slots=True)
class Source:
    """A trust domain that runs one program."""

    platform: SimulatedPlatform
    measurements: Measurements

    def quote(self, data: bytes) -> bytes:
        """Return a quote over 64 bytes of report data."""
        return self.platform.mint_quote(self.measurements, data)
