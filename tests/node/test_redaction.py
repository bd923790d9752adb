"""Tests that a caller's texts appear only in the caller's own answers.

The tests search the log at its most verbose level, metrics, the audit, error answers, and the live
objects of the process afterwards. Freed memory is not searched, because Python never clears it.
"""

import asyncio
import base64
import io
import json
import os
import re
import secrets
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import AsyncExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from attacks.parties import (
    DELETE,
    GET,
    LIST,
    PUT,
    ROUTES,
    Delegate,
    Owner,
    Stage,
    opens,
    policy_for,
    refused,
    stage_on,
)
from deviating_platform import SimulatedPlatform
from engines import needs_folder
from patience import AT_ONCE_S
from running_node import Grants, Reply, key_token, new_key, running_node, send
from tests_support import REPOSITORY
from trust_settings import trust_files

from node.http.routes.route_table import ROUTES as ALL_ROUTES
from node.logs import configure_logs
from sealspace.cli.root import main

CANARY = "canaryZ0tEc2VjcmV0"
METADATA = "tinycloud.kv/metadata"
KINDS = ("key", "body", "metadata", "token", "grant")
_LARGE_BYTES = 200_000


# --- canaries


@dataclass(frozen=True)
class Canaries:
    """One unique text for each kind of input.

    Attributes:
        texts: kind to text: `key` in paths, `body` in values, `metadata` in headers, `token` in
            invocations and other signed requests, `grant` in delegations.
        signatures: of tokens of both kinds, which are derived and not texts.
    """

    texts: Mapping[str, str] = field(
        default_factory=lambda: {kind: f"canary{secrets.token_hex(12)}" for kind in KINDS}
    )
    signatures: list[tuple[str, str]] = field(default_factory=list)

    def __getitem__(self, kind: str) -> str:
        return self.texts[kind]

    @property
    def body(self) -> bytes:
        """Return a value that is too long for a row."""
        return self["body"].encode() * (_LARGE_BYTES // len(self["body"]))

    def signed(self, token: str, kind: str) -> str:
        """Record a token's signature as one of a kind."""
        self.signatures.append((kind, token.rpartition(".")[2]))
        return token

    def spellings(self) -> dict[str, str]:
        """Return every encoding in which a canary may appear, with its kind."""
        plain = {
            spelling: kind
            for kind, text in self.texts.items()
            for spelling in _spellings(text.encode())
        }
        return plain | {signature: kind for kind, signature in self.signatures}

    def found_in(self, *texts: str) -> set[str]:
        """Return the kinds that appear in some texts, in any encoding."""
        return {
            kind
            for spelling, kind in self.spellings().items()
            for text in texts
            if spelling in text
        }


def _spellings(data: bytes) -> set[str]:
    """Return a text, its hex, and the parts of its base64 that do not depend on the position."""
    coded = set()
    for before in range(3):
        whole = base64.b64encode(bytes(before) + data).decode()
        coded.add(whole[-(-before * 4 // 3) + (before > 0) :].rstrip("=")[:-2])
    return {data.decode(), data.hex(), *coded}


@pytest.mark.parametrize("before", [b"", b"a", b"ab", b"abc"])
@pytest.mark.parametrize("after", [b"", b"c", b"cd"])
def test_canaries_are_found_in_every_spelling(before: bytes, after: bytes) -> None:
    """A canary is found in plain text, hex and base64, also inside longer texts."""
    canaries = Canaries()
    data = before + canaries["body"].encode() + after
    for text in (
        data.decode(),
        data.hex(),
        base64.b64encode(data).decode(),
        base64.urlsafe_b64encode(data).decode(),
    ):
        assert {"body"} == canaries.found_in("x", f"({text})")
    assert set() == canaries.found_in(canaries["body"][:-3], canaries["key"][3:])


# --- requests that carry them


@dataclass
class Laden:
    """A client whose every request carries canaries, and the answers to them."""

    stage: Stage
    canaries: Canaries = field(default_factory=Canaries)
    errors: list[str] = field(default_factory=list)

    def token(
        self, who: Delegate, grants: Grants, *, audience: str | None = None, kind: str = "token"
    ) -> str:
        """Return a token with canaries in every place that can have one."""
        text = self.canaries[kind]
        made = key_token(
            who.signer,
            audience or who.did,
            grants,
            proofs=who.proofs,
            nonce=f"{secrets.token_hex(6)}{text}",
            facts=[{"note": text}],
        )
        return self.canaries.signed(made, kind)

    def key(self, space: str) -> str:
        """Return the resource of a value."""
        return f"{space}/kv/{self.canaries['key']}"

    async def invoke(
        self, who: Delegate, grants: Grants, *, body: bytes | None = None, **headers: str
    ) -> Reply:
        """Invoke with canaries in the token, and in the headers of a put."""
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        token = self.token(who, grants)
        return await self.noted(
            send(self.stage.url, "POST", "/invoke", token=token, body=body, headers=given)
        )

    async def put(
        self, who: Delegate, space: str, body: bytes | None = None, **headers: str
    ) -> Reply:
        """Put a value, by default one that is too long for a row."""
        said = {
            "content_type": f"text/{self.canaries['metadata']}",
            "x_tinycloud_meta_note": self.canaries["metadata"],
        }
        return await self.invoke(
            who, {self.key(space): [PUT]}, body=body or self.canaries.body, **(said | headers)
        )

    async def noted(self, asked: Any) -> Reply:
        """Return an answer, and record it with its headers if it is a refusal."""
        reply: Reply = await asked
        if reply.status >= 400:
            self.errors.append(f"{reply.text}\n{reply.headers}")
        return reply

    async def member(self, owner: Owner) -> Delegate:
        """Return a client to whom a delegation with a canary grants a whole space."""
        member = Delegate()
        session = owner.session
        grants: Grants = {f"{owner.space('more')}/kv": [GET, PUT, DELETE, LIST, METADATA]}
        member.proofs = [
            await self.stage.register(
                self.token(session, grants, audience=member.did, kind="grant")
            )
        ]
        return member


async def _let_in(laden: Laden, owner: Owner) -> None:
    """Send requests that succeed: writes and reads of values, a signed URL, and a release on each
    route."""
    stage, space, member = laden.stage, owner.space("more"), await laden.member(owner)
    for body in (laden.canaries["body"].encode(), laden.canaries.body):  # in the row, and in a file
        assert (await laden.put(member, space, body)).status == 200
        got = await laden.invoke(member, {laden.key(space): [GET]})
        assert (got.status, got.body) == (200, body)
    assert {"key"} <= laden.canaries.found_in(
        (await laden.invoke(member, {f"{space}/kv/": [LIST]})).text
    )
    assert (await laden.invoke(member, {laden.key(space): [METADATA]})).status == 200
    url = await _signed_url(laden, member, space)
    assert (await send(stage.url, "GET", url)).body == laden.canaries.body
    assert (await laden.invoke(member, {laden.key(space): [DELETE]})).status == 200
    delegate = Delegate()
    delegate.proofs = [
        await stage.register(owner.grant_decrypt(delegate.did, policy=policy_for("approved")))
    ]
    for route in ROUTES:
        assert (await laden.noted(stage.ask(delegate, owner, route))).said == refused(
            "not_attested", route
        )
    await stage.attest(delegate, owner.network)
    for route in ROUTES:
        asked = stage.decrypt(delegate, owner)
        laden.canaries.signed(asked.token, "token")
        assert opens(await stage.send_decrypt(asked, route), delegate, owner)


async def _signed_url(laden: Laden, who: Delegate, space: str) -> str:
    asked = json.dumps({"space": space, "path": laden.canaries["key"]}).encode()
    token = laden.token(who, {laden.key(space): [GET]})
    reply = await send(laden.stage.url, "POST", "/signed/kv", token=token, body=asked)
    assert reply.status == 200, reply.said
    return str(reply.value["url"])


async def _turned_away(laden: Laden, owner: Owner) -> None:
    """Send requests that are refused after their token is parsed."""
    space, member = owner.space("more"), await laden.member(owner)
    assert (await laden.put(member, owner.space("other"))).status == 401
    assert (await laden.invoke(member, {laden.key(space): [GET]})).status == 404
    assert (await laden.invoke(member, {laden.key(space): ["tinycloud.kv/unknown"]})).status in (
        400,
        401,
    )
    assert (
        await laden.invoke(member, {f"{space}/sql/{laden.canaries['key']}": ["tinycloud.sql/read"]})
    ).status >= 400
    assert (await laden.put(member, space, if_match=f'"{laden.canaries["metadata"]}"')).status in (
        400,
        412,
    )
    grant = laden.token(member, {f"{owner.space('other')}/kv": [GET]}, audience=new_key().did)
    assert (await laden.noted(laden.stage.post("/delegate", grant))).status == 401
    assert (await laden.noted(laden.stage.post("/revoke", grant))).status >= 400
    outsider = Delegate()
    body = laden.canaries.body[:1000]
    decrypt = laden.token(
        outsider, {owner.network: ["tinycloud.encryption/decrypt"]}, audience=laden.stage.node_did
    )
    path = f"/encryption/networks/{owner.network.replace(':', '%3A')}/decrypt"
    assert (
        await laden.noted(send(laden.stage.url, "POST", path, token=decrypt, body=body))
    ).status >= 400


async def _stopped(laden: Laden, owner: Owner, *, until_closed: bool) -> None:
    """Begin an authorised put, and stop in the middle of its body.

    Args:
        until_closed: wait until the node no longer waits for the rest, for ten seconds.
    """
    token = laden.token(await laden.member(owner), {laden.key(owner.space("more")): [PUT]})
    host, port = urlsplit(laden.stage.url).hostname, urlsplit(laden.stage.url).port
    reader, writer = await asyncio.open_connection(host, port)
    head = (
        f"POST /invoke HTTP/1.1\r\nHost: x\r\nAuthorization: {token}\r\nContent-Length:"
        f" {2 * _LARGE_BYTES}\r\n"
    )
    writer.write(
        f"{head}X-TinyCloud-Meta-Note: {laden.canaries['metadata']}\r\n\r\n".encode()
        + laden.canaries.body
    )
    async with asyncio.timeout(AT_ONCE_S):
        answer = await reader.readuntil(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)\r\n", answer)
        assert length is not None
        answer += await reader.readexactly(int(length.group(1)))
        if until_closed:
            assert await reader.read() == b""
    writer.close()
    assert b" 408 " in answer.partition(b"\r\n")[0]
    laden.errors.append(answer.decode())


async def _unanswered(laden: Laden, owner: Owner, storekeeper: int) -> None:
    """Send authorised requests that wait for a store that does not answer."""
    space, member, session = owner.space("more"), await laden.member(owner), owner.session
    delegation = laden.token(session, {f"{space}/kv": [GET]}, audience=new_key().did)
    body = dict.fromkeys(("name", "note"), laden.canaries["body"])
    os.kill(storekeeper, signal.SIGSTOP)
    try:
        replies = await asyncio.gather(
            laden.put(member, space),
            laden.invoke(
                member,
                {f"{space}/kv/small{laden.canaries['key']}": [PUT]},
                body=json.dumps(body).encode(),
            ),
            laden.noted(laden.stage.post("/delegate", delegation)),
            laden.noted(laden.stage.ask(session, owner)),
        )
    finally:
        os.kill(storekeeper, signal.SIGCONT)
    assert {503} == {reply.status for reply in replies}, [reply.said for reply in replies]


async def _damaged(laden: Laden, owner: Owner, data: Path) -> None:
    """Request a value whose file is damaged."""
    member, space = await laden.member(owner), owner.space("more")
    assert (await laden.put(member, space)).status == 200
    for file in (path for path in (data / "blobs").rglob("*") if path.is_file()):
        file.write_bytes(file.read_bytes()[:-1] + b"!")
    assert (await laden.invoke(member, {laden.key(space): [GET]})).status == 500
    assert (await laden.invoke(member, {laden.key(space): [DELETE]})).status == 200


async def _without_room(laden: Laden, owner: Owner) -> None:
    """Put values that exceed the quota."""
    member, space = await laden.member(owner), owner.space("more")
    token = laden.token(member, {laden.key(space): [PUT]})
    large = os.urandom(800_000)
    reply = await laden.noted(
        send(laden.stage.url, "POST", "/invoke", token=token, body=laden.canaries.body + large)
    )
    assert reply.status == 507, reply.said


# --- where they must not come back


def _audit_of(data: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["admin", "audit", "export", "--data", str(data)]) == 0
    return capsys.readouterr().out


SETTINGS = {
    "SEALSPACE_METRICS__LISTEN": "127.0.0.1:0",
    "SEALSPACE_HTTP__IDLE_BODY_S": "0.2",
    "SEALSPACE_STORE__MAX_BYTES": str(1 << 20),
}


@pytest.mark.slow
@needs_folder()
async def test_canaries_stay_out_of_logs_numbers_audit_and_errors(
    tmp_path: Path, platform: SimulatedPlatform, capsys: pytest.CaptureFixture[str]
) -> None:
    """A caller's texts appear only in the caller's own successful answers."""
    arguments = ("--log-level", "debug", "--log-requests", "hashed")
    with running_node(tmp_path, *arguments, platform=platform, environment=SETTINGS) as node:
        numbers = node.wait_for(r'"url": "(http://127\.0\.0\.1:\d+)/metrics"').group(1)
        async with AsyncExitStack() as clients:
            laden = Laden(await stage_on(node.url, platform, clients))
            owner = await laden.stage.owner("more", "other")
            await _let_in(laden, owner)
            await _turned_away(laden, owner)
            await _stopped(laden, owner, until_closed=False)
            await _damaged(laden, owner, tmp_path / "data")
            await _without_room(laden, owner)
            await _unanswered(laden, owner, *node.children("storekeeper"))
        metrics = (await send(numbers, "GET", "/metrics")).text
    canaries = laden.canaries
    assert "sealspace_requests_total" in metrics and len(laden.errors) >= 15
    assert set() == canaries.found_in(metrics)
    # a fault of each kind, and one of each process
    failed = [line for line in node.lines if '"request-failed"' in line]
    assert len(failed) >= 5
    # a full store is an expected refusal
    assert not any("StoreFull" in line for line in failed)
    assert sum('"event": "request"' in line for line in node.lines) >= 40
    assert set() == canaries.found_in(*node.lines)
    # A refusal names the resource that was asked for: whoever reads it wrote it (wire 4.10).
    assert {"key"} >= canaries.found_in(*laden.errors)
    audit = await asyncio.to_thread(_audit_of, tmp_path / "data", capsys)
    # Who made a signed URL of what is what the audit is for.
    assert {"key"} == canaries.found_in(audit)


# A node in a process of its own, which says what its objects hold. A line on standard input is a
# JSON list of texts, each written backwards so that asking for one does not make it be there.
_SEARCHED = """
import asyncio, gc, json, os, sys
from pathlib import Path
from node.config.loading import load_config
from embedded_node import embedded_node

def fields_of(one):
    # msgspec does not register all of its objects with the collector
    names = getattr(type(one), "__struct_fields__", ())
    return names if isinstance(names, tuple) else ()

def texts():
    seen = set()
    waiting = [one for one in gc.get_objects() if type(one).__name__ not in ("frame", "coroutine")]
    while waiting:
        one = waiting.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        if isinstance(one, str):
            yield one
        elif isinstance(one, (bytes, bytearray)):
            yield one.decode("latin-1")
        elif not gc.is_tracked(one):  # what is tracked stands in the list itself
            waiting.extend(gc.get_referents(one))
            waiting.extend(getattr(one, name) for name in fields_of(one))
        else:
            waiting.extend(held for held in gc.get_referents(one) if not gc.is_tracked(held))
            waiting.extend(getattr(one, name) for name in fields_of(one))

def held(line):
    gc.collect()
    everything = list(texts())
    return [any(asked[::-1] in text for text in everything) for asked in json.loads(line)]

async def main():
    lines = asyncio.Queue()
    async with embedded_node(load_config(file=Path(sys.argv[1]))) as node:
        asyncio.get_running_loop().add_reader(0, lambda: lines.put_nowait(sys.stdin.readline()))
        print(json.dumps(node.url), flush=True)
        while line := await lines.get():
            print(json.dumps(held(line)), flush=True)

asyncio.run(main())
"""


@contextmanager
def _searched(folder: Path, platform: SimulatedPlatform) -> Iterator["subprocess.Popen[str]"]:
    root, collateral = trust_files(folder, platform)
    settings = folder / "settings.toml"
    settings.write_text(
        f'[http]\nport = 0\nidle_body_s = 0.2\n[store]\ndata = "{folder}/data"\n'
        f'[release]\ntrust_root = "{root}"\ncollateral = "{collateral}"\n'
    )
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", _SEARCHED, str(settings)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'tests' / 'support'}"},
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def _said(process: "subprocess.Popen[str]") -> Any:
    assert process.stdout is not None
    return json.loads(process.stdout.readline())


@pytest.mark.slow
async def test_nothing_that_was_sent_stays_in_a_process(
    tmp_path: Path, platform: SimulatedPlatform
) -> None:
    """After the calls no object of the process contains their values or tokens.

    Only delegations as parsed, and parsed paths and heads of values, may stay in bounded caches.
    """
    with _searched(tmp_path, platform) as process:
        async with AsyncExitStack() as clients:
            laden = Laden(await stage_on(_said(process), platform, clients))
            owner = await laden.stage.owner("more", "other")
            await _let_in(laden, owner)
            await _turned_away(laden, owner)
            await _stopped(laden, owner, until_closed=True)
            await _damaged(laden, owner, tmp_path / "data")
        spellings = laden.canaries.spellings()
        assert process.stdin is not None
        process.stdin.write(json.dumps([spelling[::-1] for spelling in spellings]) + "\n")
        process.stdin.flush()
        held = {
            kind
            for kind, is_held in zip(spellings.values(), _said(process), strict=True)
            if is_held
        }
    # That the delegation is found shows that the search finds what there is.
    assert {"grant"} <= held <= {"grant", "key", "metadata"}


# --- without any authority


@pytest.mark.parametrize("store_fails", [False, True])
async def test_no_route_logs_what_it_was_sent(caller, store_fails: bool) -> None:
    """The log contains no header, path, query or body of any request."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)
    if store_fails:
        await caller.node.services.store.close()
    headers = {
        "Authorization": f"eyJhbGciOiJFZERTQSJ9.{CANARY}.{CANARY}",
        "Content-Type": "application/json",
        "X-Canary": CANARY,
        "If-Match": CANARY,
    }
    for route in ALL_ROUTES:
        method = "POST" if route.method == "*" else route.method
        path = re.sub(r"\{[^}]*\}", CANARY, route.path)
        body = None if method in {"GET", "OPTIONS"} else f'{{"key":"{CANARY}"}}'.encode()
        await caller.send(method, f"{path}?q={CANARY}", headers=headers, body=body)
    assert CANARY not in stream.getvalue()


async def test_an_unforeseen_error_is_logged_without_its_message(
    caller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An internal error is a 500 page and a log line with the trace id, without its message."""
    stream = io.StringIO()
    configure_logs("debug", stream=stream)

    def fail(_self: object, _space: object) -> str:
        raise ValueError(CANARY)

    monkeypatch.setattr(type(caller.node.services.keyring), "space_did", fail)
    reply = await caller.send("GET", f"/peer/generate/tinycloud:key:z6MkhaXg{'a' * 40}:default")
    if reply.status == 400:
        pytest.fail("the space id of this test is not one")
    assert reply.status == 500 and CANARY.encode() not in reply.body
    assert (
        reply.headers["tinycloud-trace-id"] in stream.getvalue() and CANARY not in stream.getvalue()
    )
