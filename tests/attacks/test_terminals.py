"""Answers with control characters print as harmless lines."""

import ast
import asyncio
import hashlib
import json
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import libipld
import pytest
from aiohttp import web
from aiohttp.test_utils import TestServer
from backend_site import Domain, Program, serving
from deviating_platform import SimulatedPlatform
from embedded_node import EmbeddedNode, embedded_node
from multidict import CIMultiDict
from tests_support import REPOSITORY, Input, altered
from trust_settings import MANY_CHALLENGES, trusting_config
from yarl import URL

from capabilities.capability_errors import InvalidIdentifier
from capabilities.principals import Principal, parse_principal
from encryption_network.canonical_json import canonical_bytes
from encryption_network.receipt import parse_receipt, receipt_json, signed_text
from sealspace.cli.root import main
from sealspace.client import Client
from sealspace.documents.published import encode_published, statement_json
from sealspace.session import key_session
from tee_backend.attestation.report_data import published_binding
from tee_backend.backend import Backend
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of, mint_event_log

pytestmark = pytest.mark.slow

FORGED = "MRTD           approved by everybody"
# Clears the screen, begins a line, sets a title, reverses the reading order; the last is one
# character for many.
HOSTILE = f"\x1b[2J\r\n{FORGED}\n\x1b]0;fine\x07\x9b2J\u202e\u2028{FORGED}\x7f"
COMPOSE = f"services: {{notes: {{image: 'notes@sha256:{'01' * 32}'}}}}\n"
IMAGE = replace(measurements_of("image"), rtmr3=None)
_PASSED_BACK = ("content-type", "etag", "x-tinycloud-truncated", "x-tinycloud-next-cursor")

Place = tuple[str, tuple[str, ...]]
"""Texts in an answer: method and path without numbers, then the members that lead to the text."""


def _texts(value: object, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    if isinstance(value, str):
        yield above
    elif isinstance(value, dict):
        for name, one in value.items():
            yield from _texts(one, (*above, name))
    elif isinstance(value, list):
        for one in value:
            yield from _texts(one, (*above, "[]"))


def _with(value: Any, place: tuple[str, ...], change: Callable[[str], str]) -> Any:
    if isinstance(value, str):
        return value if place else change(value)
    if not place:
        return value
    head, *rest = place
    if isinstance(value, dict):
        return {
            name: _with(one, tuple(rest), change) if name == head else one
            for name, one in value.items()
        }
    return (
        [_with(one, tuple(rest), change) for one in value]
        if isinstance(value, list) and head == "[]"
        else value
    )


CHANGES: dict[str, Callable[[str], str]] = {
    "in place of it": lambda _: HOSTILE,
    "behind it": lambda text: text + HOSTILE,
    "as a DID": lambda _: f"did:{HOSTILE}:x",
}


@dataclass
class Between:
    """A proxy before a node or backend that changes texts in answers."""

    target: str = ""
    seen: dict[Place, None] = field(default_factory=dict)
    changed: int = 0
    place: Place | None = None
    change: Callable[[str], str] = CHANGES["in place of it"]
    refusal: bytes | None = None
    rewrite: tuple[str, Callable[[Any], Any]] | None = None

    async def handle(self, request: web.Request) -> web.Response:
        """Forward a request, and change its answer."""
        headers = CIMultiDict(request.headers)
        headers.pop("Host")
        address = URL(self.target + request.path_qs, encoded=True)
        async with (
            aiohttp.ClientSession() as session,
            session.request(
                request.method, address, headers=headers, data=await request.read()
            ) as passed,
        ):
            kept = {name: passed.headers[name] for name in _PASSED_BACK if name in passed.headers}
            body, status = await passed.read(), passed.status
        where = f"{request.method} {request.path.partition('did%3A')[0].partition('did:')[0]}"
        if self.refusal is not None:
            return web.Response(status=403, body=self.refusal)
        try:
            value = json.loads(body)
        except ValueError:
            return web.Response(status=status, headers=kept, body=body)
        self.seen.update(dict.fromkeys((where, place) for place in _texts(value)))
        if self.rewrite is not None and request.path.endswith(self.rewrite[0]):
            body = json.dumps(self.rewrite[1](value)).encode()
        if self.place is not None and self.place[0] == where:
            twisted = _with(value, self.place[1], self.change)
            # Another answer of the same route stays as it is, to the byte: its digest is checked.
            if twisted != value:
                self.changed += 1
                body = json.dumps(twisted).encode()
        return web.Response(status=status, headers=kept, body=body)


@asynccontextmanager
async def _between(target: str) -> AsyncIterator[tuple[str, Between]]:
    middle = Between(target)
    app = web.Application()
    app.router.add_route("*", "/{path:.*}", middle.handle)
    async with TestServer(app) as server:
        yield str(server.make_url("")).rstrip("/"), middle


@dataclass
class Desk:
    """An owner's machine, whose connections to node and backend go through a proxy."""

    node: EmbeddedNode
    node_url: str
    backend_url: str
    middles: tuple[Between, Between]
    folder: Path
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch

    async def run(self, *arguments: str, home: str = "home") -> tuple[int, str]:
        """Run a command in a thread; return its status and output."""
        self.monkeypatch.setattr(sys, "stdin", Input("a secret\n"))
        self.capsys.readouterr()
        status = await asyncio.to_thread(main, [*arguments, "--home", str(self.folder / home)])
        reported = self.capsys.readouterr()
        return status, reported.out + reported.err

    def trust(self) -> tuple[str, ...]:
        """Return the options that name the platform's root and collateral."""
        return (
            "--trust-root",
            str(self.folder / "root.pem"),
            "--collateral",
            str(self.folder / "collateral"),
        )


@pytest.fixture
async def desk(
    tmp_path: Path,
    platform: SimulatedPlatform,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> AsyncIterator[Desk]:
    """A node that trusts the simulated platform, and a backend on that platform."""
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(
            embedded_node(trusting_config(tmp_path, platform, limits=MANY_CHALLENGES))
        )
        domain = Domain(platform, IMAGE, mint_event_log(hashlib.sha256(COMPOSE.encode()).digest()))
        client = await stack.enter_async_context(Client(node.url, session=key_session(bytes(32))))
        program = Program(client, Backend(client, domain), ("API_KEY",))
        manifest: dict[str, Any] = {"app_id": "com.example", "name": "Notes", "defaults": False}
        surface = BackendSurface(
            domain,
            did=program.backend.did,
            manifest={**manifest, "secrets": {"API_KEY": True}},
            compose=COMPOSE,
            on_grant=program.accept,
        )
        backend = await stack.enter_async_context(serving(surface))
        node_url, node_middle = await stack.enter_async_context(_between(node.url))
        backend_url, backend_middle = await stack.enter_async_context(_between(backend))
        desk = Desk(
            node,
            node_url,
            backend_url,
            (node_middle, backend_middle),
            tmp_path,
            capsys,
            monkeypatch,
        )
        assert (await desk.run("login", "--node", node_url, "--new", *desk.trust()))[0] == 0
        assert (await desk.run("secret", "put", "API_KEY"))[0] == 0
        yield desk


def _is_fit(printed: str) -> bool:
    """Return whether a terminal shows exactly the lines that the command wrote."""
    lines = printed.split("\n")
    return all(line.isprintable() and not line.startswith(FORGED) for line in lines)


async def test_every_text_of_every_answer(desk: Desk) -> None:
    """No command prints a hostile text of an answer unescaped."""
    commands = {
        ("login", "--node", desk.node_url, "--new", *desk.trust()): 0,
        ("secret", "list"): 0,
        ("backend", "show", desk.backend_url): 0,
        ("backend", "show", desk.backend_url, "--json"): 0,
        ("backend", "list"): 0,
        ("receipts", "list"): 0,
        ("grant", "list"): 0,
        ("network", "show"): 0,
        ("network", "policy"): 0,
        # last, because the lists would have each of these grants
        (grant := ("backend", "grant", desk.backend_url, "--yes")): 0,
    }
    assert (await desk.run(*grant))[0] == 0
    tried = changed = 0
    for number, (command, status) in enumerate(commands.items()):
        for middle in desk.middles:
            middle.seen.clear()
        ran = await desk.run(*command, home=_home(command, "first"))
        assert ran[0] == status and _is_fit(ran[1]), ran
        for middle in desk.middles:
            for place in [*middle.seen]:
                for name, change in CHANGES.items():
                    middle.place, middle.change, middle.changed = place, change, 0
                    _, printed = await desk.run(*command, home=_home(command, f"{number}-{tried}"))
                    assert _is_fit(printed), (command, place, name, printed)
                    tried, changed = tried + 1, changed + bool(middle.changed)
            middle.place = None
    assert changed == tried > 100


def _home(command: tuple[str, ...], name: str) -> str:
    return name if command[0] == "login" else "home"


REFUSALS = {
    "a text": HOSTILE.encode(),
    "a page": json.dumps({"message": HOSTILE, "error": HOSTILE}).encode(),
    "a problem": json.dumps(
        dict.fromkeys(("type", "title", "code", "detail", "hint", "request_id"), HOSTILE)
    ).encode(),
}


@pytest.mark.parametrize("refusal", REFUSALS.values(), ids=REFUSALS)
async def test_every_refusal(desk: Desk, refusal: bytes) -> None:
    """A refusal has two lines, whatever the node or backend wrote."""
    for middle in desk.middles:
        middle.refusal = refusal
    for command in (
        ("login", "--node", desk.node_url, "--new", *desk.trust()),
        ("secret", "list"),
        ("secret", "put", "API_KEY"),
        ("backend", "show", desk.backend_url),
        ("receipts", "list"),
    ):
        status, printed = await desk.run(*command, home=_home(command, "refused"))
        assert status != 0 and _is_fit(printed) and "\nnext: " in f"\n{printed}", (command, printed)


async def test_receipts_that_a_node_signed(desk: Desk) -> None:
    """The list has one line for each receipt, whatever names it contains."""
    assert (await desk.run("backend", "grant", desk.backend_url, "--yes"))[0] == 0
    page = "/receipts"
    signer = desk.node.services.keyring.node_signer

    def forged(value: Any) -> Any:
        receipts = [parse_receipt(canonical_bytes(one)) for one in value["receipts"]]
        twisted = [
            parse_receipt(signed_text(altered(one, invoker=HOSTILE), signer)) for one in receipts
        ]
        return {**value, "receipts": [receipt_json(one) for one in twisted]}

    desk.middles[0].rewrite = (page, forged)
    status, printed = await desk.run("receipts", "list")
    first, last = printed.splitlines()
    assert (status, last) == (0, f"valid receipts: 1, signed by the node {signer.did}")
    assert _is_fit(printed) and "approved by everybody" in first
    status, printed = await desk.run("receipts", "list", "--json")
    assert _is_fit(printed) and json.loads(printed.splitlines()[0])[0]["invoker"] == HOSTILE


STATED: dict[str, Callable[[str], dict[str, Any]]] = {
    "did": lambda text: {"did": text},
    "app_id": lambda text: {"app_id": text},
    "name": lambda text: {"name": text},
    "description": lambda text: {"description": text},
    "secret": lambda text: {"secrets": {text: True}},
    "path": lambda text: {
        "permissions": [{"service": "tinycloud.kv", "path": text, "actions": ["get"]}]
    },
    "service": lambda text: {"permissions": [{"service": text, "path": "x", "actions": ["get"]}]},
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("member", STATED.values(), ids=STATED)
async def test_statements_that_a_quote_binds(
    desk: Desk,
    platform: SimulatedPlatform,
    member: Callable[[str], dict[str, Any]],
    change: Callable[[str], str],
) -> None:
    """A hostile statement of a genuine backend stays within its lines."""
    domain = Domain(platform, IMAGE, mint_event_log(hashlib.sha256(COMPOSE.encode()).digest()))
    manifest: dict[str, Any] = {
        "app_id": "com.example",
        "name": "Notes",
        "defaults": False,
        "secrets": {"A": True},
    }
    manifest |= member(change("A"))
    did = str(manifest.pop("did", key_session(bytes(32)).did))
    statement = statement_json(did, manifest, COMPOSE)

    async def evidence(request: web.Request) -> web.Response:
        nonce = libipld.decode_multibase("u" + request.query["nonce"])[1]
        bound = published_binding(
            nonce, Principal(did), hashlib.sha256(canonical_bytes(statement)).digest()
        )
        quoted = domain.quote(bound.report_data)
        log = None if quoted.event_log is None else quoted.event_log.to_json()
        body = encode_published(nonce, statement, quote=quoted.quote, event_log=log)
        return web.Response(body=body, content_type="application/json")

    async with serving(evidence) as url:
        for more in ((), ("--json",)):
            _, printed = await desk.run("backend", "show", url, *more)
            assert _is_fit(printed), printed


@pytest.mark.parametrize(
    "did", [f"did:{HOSTILE}:x", "did:a\nb:x", "did:Key:x", "did:k\u00e9y:x", "did::x", "did:x:a b"]
)
def test_what_is_no_did(did: str) -> None:
    """A DID method has lower-case letters and digits; the rest is printable (P3)."""
    with pytest.raises(InvalidIdentifier):
        parse_principal(did)


def test_commands_print_through_one_module() -> None:
    """Commands print through one module only."""
    found = set()
    for package in ("node", "door", "tee_backend", "sealspace"):
        for path in (REPOSITORY / package / "cli").rglob("*.py"):
            if _prints(path):
                found.add(path.name)
    assert found == {"terminal.py"}


def _prints(path: Path) -> bool:
    """Return whether a module writes to standard output or standard error itself."""
    printing = {"click.echo", "click.secho", "print", "sys.stdout.write", "sys.stderr.write"}
    calls = (n for n in ast.walk(ast.parse(path.read_text("utf-8"))) if isinstance(n, ast.Call))
    return any(ast.unparse(call.func) in printing for call in calls)
