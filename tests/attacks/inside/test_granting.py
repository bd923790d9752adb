"""Attacks on a backend that publishes evidence and accepts grants."""

import asyncio
import io
import json
import sys
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import pytest
from backend_site import Documents, Domain, Program, owner_of, serving
from deviating_platform import SimulatedPlatform
from embedded_node import embedded_node
from patience import PATIENCE_S
from tests_support import CountingEntropy, FixedClock
from trust_settings import trusting_config

from capabilities.strict_json import Json
from encryption_network.policy import Policy
from node.config.tree import Limits
from sealspace.apps.backends import Seen, deliver, fetch_evidence, policy_for
from sealspace.cli.root import fail, main
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.documents.published import GRANTS_PATH, parse_statement
from sealspace.errors import BackendAnswerInvalid
from sealspace.giving.words.backends import as_json, in_plain_words
from sealspace.printable import printable
from sealspace.session import Session, key_session, mint, read_grant
from sealspace.wire.portable import PortableDelegation, encode_portable, portable_of
from sealspace.wire.transport import TransportSettings
from tee_backend.attestation.inspection import Inspector
from tee_backend.attestation.trust_root import parse_trust_root
from tee_backend.backend import Backend
from tee_backend.backend.grant_door import GRANTS_OF_A_CLIENT_PER_MINUTE
from tee_backend.backend.publishing import BackendSurface
from tee_backend.evidence.simulated import measurements_of

CODE = measurements_of("notes")
SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass
class Yard:
    """A node with a movable clock, and its clients."""

    url: str
    folder: Path
    platform: SimulatedPlatform
    clock: FixedClock
    entropy: CountingEntropy
    stack: AsyncExitStack
    backends: int = 0

    async def client(self, session: Session | None = None) -> Client:
        client = Client(
            self.url, session=session, settings=SETTINGS, clock=self.clock, entropy=self.entropy
        )
        return await self.stack.enter_async_context(client)

    async def backend(self, **asked: Any) -> tuple[str, Program]:
        """A backend that accepts grants from any client."""
        self.backends += 1
        domain = Domain(self.platform, CODE)
        client = await self.client(key_session(bytes(31) + bytes([self.backends])))
        program = Program(
            client, Backend(client, domain, clock=self.clock, entropy=self.entropy), ("API_KEY",)
        )
        manifest = {
            "app_id": "com.example",
            "name": "Notes",
            "defaults": False,
            "secrets": {"API_KEY": True},
            **asked,
        }
        surface = BackendSurface(
            domain, did=program.backend.did, manifest=manifest, on_grant=program.accept
        )
        return await self.stack.enter_async_context(serving(surface)), program

    async def look(self, url: str) -> Seen:
        """Inspect a backend as an owner does."""
        root = parse_trust_root(self.platform.root_der)
        inspector = Inspector(Documents(self.platform, self.clock.now()), root=root)
        return await fetch_evidence(
            url, inspector, clock=self.clock, entropy=self.entropy, settings=SETTINGS
        )

    async def grant(self, owner: Client, did: str) -> PortableDelegation:
        """Grant the secret and decrypt to a backend."""
        wanted = [allow(owner.secrets().resource("API_KEY"), "tinycloud.kv/get")]
        wanted.append(allow(owner.encryption.network().text, "tinycloud.encryption/decrypt"))
        return await owner.delegations.delegate(did, wanted, policy=Policy(measurements=(CODE,)))


@pytest.fixture
async def yard(
    tmp_path: Path, platform: SimulatedPlatform, entropy: CountingEntropy
) -> AsyncIterator[Yard]:
    clock = FixedClock(time.time())
    config = trusting_config(
        tmp_path, platform, published_at=clock.now(), limits=Limits(unauthenticated_per_minute=200)
    )
    async with AsyncExitStack() as stack:
        node = await stack.enter_async_context(embedded_node(config, clock=clock, entropy=entropy))
        clients = await stack.enter_async_context(AsyncExitStack())
        yield Yard(node.url, tmp_path, platform, clock, entropy, clients)


class Input(io.TextIOWrapper):
    """A standard input with or without a terminal."""

    def isatty(self) -> bool:
        return self.name == "terminal"


@dataclass
class Machine:
    """An owner's machine, logged in, with a secret stored."""

    yard: Yard
    capsys: pytest.CaptureFixture[str]
    monkeypatch: pytest.MonkeyPatch
    out: str = ""
    err: str = ""

    @property
    def folder(self) -> Path:
        return self.yard.folder

    async def run(self, *arguments: str, given: str = "", typed: str | None = None) -> int:
        """Run a command, and store its output."""
        self.monkeypatch.setattr(
            sys, "stdin", standard_input(given if typed is None else typed, typed is not None)
        )
        self.monkeypatch.setattr(sys.stderr, "isatty", lambda: typed is not None)
        self.capsys.readouterr()
        status = await asyncio.to_thread(main, [*arguments, "--home", str(self.folder / "home")])
        self.out, self.err = self.capsys.readouterr()
        return status

    def seen(self, seen: Seen) -> str:
        """The parsed output of `show --json`."""
        return msgspec.json.encode(as_json(seen, policy_for(seen, ttl_s=60))).decode()


def standard_input(text: str, is_terminal: bool) -> io.TextIOWrapper:
    raw = io.BytesIO(text.encode())
    raw.name = "terminal" if is_terminal else "pipe"  # as files have
    return Input(raw)


@pytest.fixture
async def machine(
    yard: Yard, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Machine:
    machine = Machine(yard, capsys, monkeypatch)
    trust = (
        "--trust-root",
        str(yard.folder / "root.pem"),
        "--collateral",
        str(yard.folder / "collateral"),
    )
    assert await machine.run("login", "--node", yard.url, "--new", *trust) == 0
    for name in ("API_KEY", "MASTER_KEY"):
        assert await machine.run("secret", "put", name, given="value") == 0
    return machine


async def posted(url: str, body: bytes) -> int:
    """Send a grant, and return the status."""
    async with (
        aiohttp.ClientSession() as session,
        session.post(url + GRANTS_PATH, data=body) as answer,
    ):
        await answer.read()
        return answer.status


# --- grants of strangers --------------------------------------------------------------------------


async def test_an_outsider_s_grant_cannot_stop_the_renewal_for_others(yard: Yard) -> None:
    """An outsider's revoked grant does not stop others' grants (AT54)."""
    url, program = await yard.backend()
    owner = await owner_of(yard)
    await deliver(url, await yard.grant(owner, program.backend.did), settings=SETTINGS)
    outsider = await owner_of(yard)
    theirs = await yard.grant(outsider, program.backend.did)
    await deliver(url, theirs, settings=SETTINGS)
    await outsider.delegations.revoke(theirs)
    live = program.backend.attestation
    assert live is not None
    yard.clock.advance(live.expires_at - yard.clock.now() - 1)
    assert await program.backend.read_secret(owner.session.owner, "API_KEY") == "value"


async def test_a_flood_of_grants_does_not_stop_the_backend(yard: Yard) -> None:
    """A backend limits the grants that it forwards, so a flood does not exhaust its quota
    (AT54)."""
    url, program = await yard.backend()
    owner, outsider = await owner_of(yard), await yard.client(key_session(b"s" * 32))
    await deliver(url, await yard.grant(owner, program.backend.did), settings=SETTINGS)
    wanted = [allow(owner.secrets().resource("API_KEY"), "tinycloud.kv/get")]
    header = mint(
        outsider.session.signer,
        yard.entropy,
        audience=program.backend.did,
        capabilities=wanted,
        proofs=(),
        expires_at=int(yard.clock.now()) + 600,
        issuer=outsider.session.did,
    )
    grant = read_grant(header)
    body = encode_portable(portable_of(grant, owner=owner.session.owner, host=yard.url))
    answers = [await posted(url, body) for _ in range(400)]
    assert set(answers) == {409, 503}
    assert await program.backend.read_secret(owner.session.owner, "API_KEY") == "value"


async def test_outsiders_grants_do_not_stay_for_ever(
    yard: Yard, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thousand useless grants end without displacing an owner's grant."""
    _, program = await yard.backend()
    backend, did, now = program.backend, program.backend.did, int(yard.clock.now())
    monkeypatch.setattr(backend._held, "_most_of_an_owner", 16)
    owner, outsider = await owner_of(yard), await yard.client(key_session(b"s" * 32))
    await backend.accept(await yard.grant(owner, did))
    assert await backend.read_secret(owner.session.owner, "API_KEY") == "value"
    me = outsider.session.did
    wanted = [allow(f"urn:tinycloud:encryption:{me}:default", "tinycloud.encryption/decrypt")]
    await outsider.encryption.ensure_network()

    async def junk(ends_at: int) -> None:
        header = mint(
            outsider.session.signer,
            yard.entropy,
            audience=did,
            capabilities=wanted,
            proofs=(),
            expires_at=ends_at,
            issuer=me,
        )
        await backend.accept(portable_of(read_grant(header), owner=me, host=yard.url))

    for number in range(30):
        await junk(now + 100 + number)
        assert len(program.client.session.grants) <= 1 + 16
    yard.clock.advance(200)
    await junk(now + 1000)
    assert (me, owner.session.owner) == backend.owners and len(program.client.session.grants) == 2
    assert await backend.read_secret(owner.session.owner, "API_KEY") == "value"


async def test_one_client_cannot_shut_the_door(yard: Yard) -> None:
    """Only the address that floods a backend with grants is refused (AT54)."""
    _, program = await yard.backend()
    domain = Domain(yard.platform, CODE)
    manifest: dict[str, Any] = {"app_id": "com.example", "name": "Notes", "defaults": False}
    surface = BackendSurface(
        domain,
        did=program.backend.did,
        manifest={**manifest, "secrets": {"API_KEY": True}},
        on_grant=program.accept,
        client_of=lambda request: request.header("X-Client"),
    )
    owner, outsider = await owner_of(yard), await owner_of(yard)
    theirs, grant = [await yard.grant(one, program.backend.did) for one in (outsider, owner)]
    async with serving(surface) as url, aiohttp.ClientSession() as session:

        async def send(client: str, sent: bytes) -> int:
            async with session.post(
                url + GRANTS_PATH, data=sent, headers={"X-Client": client}
            ) as answer:
                return answer.status

        answers = [await send("flood", encode_portable(theirs)) for _ in range(200)]
        # Not the exact number: some more are let through if the test runs slowly.
        assert set(answers) == {204, 429}
        assert answers[:GRANTS_OF_A_CLIENT_PER_MINUTE] == [204] * GRANTS_OF_A_CLIENT_PER_MINUTE
        assert await send("owner", encode_portable(grant)) == 204
    assert program.read == {"API_KEY": "value"}


async def test_an_outsider_s_grants_use_up_no_attestations(yard: Yard) -> None:
    """A repeated grant does not cause a new quote each time (AT54)."""
    url, program = await yard.backend()
    owner, outsider = await owner_of(yard), await owner_of(yard)
    grant = await yard.grant(outsider, program.backend.did)
    for _ in range(70):
        await program.backend.accept(grant)
    await deliver(url, await yard.grant(owner, program.backend.did), settings=SETTINGS)
    assert program.read == {"API_KEY": "value"}
    live = program.backend.attestation
    assert live is not None
    yard.clock.advance(live.expires_at - yard.clock.now() - 1)
    assert await program.backend.read_secret(owner.session.owner, "API_KEY") == "value"


@pytest.mark.parametrize("is_attested", [False, True])
@pytest.mark.parametrize(
    "change",
    [
        {"ownerAddress": "0x\x1b[2J"},
        {"ownerAddress": "0x" + "1" * 40},
        {"ownerAddress": None, "ownerDID": "did:x:" + "y" * 200_000},
        {"ownerAddress": None, "ownerDID": "\ud800"},
        {"ownerAddress": None, "ownerDID": ""},
        {"chainId": True},
        {"chainId": -1},
        {"chainId": 10**30},
        {"expiry": "0000-00-00T00:00:00Z"},
    ],
)
async def test_descriptions_that_lie(yard: Yard, change: dict[str, Any], is_attested: bool) -> None:
    """A description that the grant's token does not confirm is refused (AT54)."""
    url, program = await yard.backend()
    owner, outsider = await owner_of(yard), await owner_of(yard)
    if is_attested:
        await deliver(url, await yard.grant(owner, program.backend.did), settings=SETTINGS)
    value = {
        **json.loads(encode_portable(await yard.grant(outsider, program.backend.did))),
        **change,
    }
    assert await posted(url, json.dumps(value).encode()) in (400, 409)


async def test_descriptions_without_effect(yard: Yard) -> None:
    """Forged resources or node addresses in a description have no effect."""
    url, program = await yard.backend()
    owner = await owner_of(yard)
    value = json.loads(encode_portable(await yard.grant(owner, program.backend.did)))
    value |= {"host": "https://evil.example", "resources": [], "path": "\x1b", "spaceId": "\x1b"}
    assert await posted(url, json.dumps(value).encode()) == 204
    assert program.read == {"API_KEY": "value"}


# --- what is shown, and what is asked -------------------------------------------------------------


@pytest.mark.parametrize(
    "asked",
    [
        {
            "permissions": [
                {"service": "tinycloud.vault", "path": "x", "actions": ["\x1b]0;all is well\x07"]}
            ]
        },
        {"secrets": {"\x1b[2J": True}},
        {"secrets": {"A": {"name": "\u202eB"}}},
        {"expiry": "\x9b2J" + "x" * 10_000},
    ],
)
def test_a_manifest_that_is_refused_cannot_steer_a_terminal(asked: dict[str, Any]) -> None:
    """A refusal contains no control characters of the refused manifest (AT52)."""
    stated: dict[str, Json] = {
        "did": key_session(bytes(32)).did,
        "manifest": {"app_id": "a", "name": "n", **asked},
        "compose": None,
    }
    with pytest.raises(BackendAnswerInvalid) as reported:
        parse_statement(stated)
    assert str(reported.value).isprintable() and len(str(reported.value)) < 500


def test_names_have_no_room_for_lines_of_their_own() -> None:
    """A long or padded name cannot imitate another line on the terminal."""
    for blank in (" ", "\u2800", "\u3164", "\u00a0", "\t"):
        shown = printable("Notes" + blank * 60 + "root" + blank * 11 + "Intel", most=40)
        assert len(shown) <= 40 and "root           Intel" not in shown
        assert "\u2800" not in shown and "\u3164" not in shown


async def test_what_an_outsider_lists_is_cut(yard: Yard) -> None:
    """A long list of requests is shortened, with the number of those left out."""
    many = {f"S{number}": ["read", "write"] for number in range(256)}
    url, _ = await yard.backend(secrets=many, name="N" * 20_000, app_id="A" * 20_000)
    said = in_plain_words(await yard.look(url))
    assert all(len(line) < 6000 for line in said)
    assert sum("and 224 more" in line for line in said) == 2


def test_errors_of_the_command_line_are_printable(capsys: pytest.CaptureFixture[str]) -> None:
    """An error is two printable lines, whatever the node or backend answered."""
    assert fail("x", "the node said \x1b[2J\u202e\x9b", "try \x07 again") == 1
    assert all(line.isprintable() for line in capsys.readouterr().err.splitlines())


async def test_approved_code_gets_no_secret_that_nobody_named(yard: Yard, machine: Machine) -> None:
    """Approved code that requests more secrets needs a new confirmation (AT53)."""
    url, program = await yard.backend()
    approved = machine.folder / "approved.json"
    approved.write_text(machine.seen(await yard.look(url)))
    greedy, other = await yard.backend(secrets={"API_KEY": True, "MASTER_KEY": True})
    whole = [
        f"--expect={one.hex()}"
        for one in (CODE.mrtd, CODE.rtmr0, CODE.rtmr1, CODE.rtmr2, CODE.rtmr3 or b"")
    ]
    for known in (["--like", str(approved)], whole):
        assert await machine.run("backend", "grant", greedy, *known) == 2
        assert other.read == {}
    assert (
        await machine.run(
            "backend", "grant", greedy, "--like", str(approved), "--secret", "API_KEY"
        )
        == 0
    )
    assert await machine.run("backend", "grant", url, *whole, "--secret", "API_KEY") == 0
    assert other.read == {"API_KEY": "value"}
    assert program.read == {"API_KEY": "value"}


async def test_json_is_ascii(yard: Yard, machine: Machine) -> None:
    """Commands escape control characters in JSON output."""
    url, _ = await yard.backend(name="\x9b2J\u202eNotes")
    assert await machine.run("backend", "show", url, "--json") == 0
    assert machine.out.isascii() and json.loads(machine.out)["name"] == "\x9b2J\u202eNotes"


async def test_nobody_is_asked_about_what_is_not_shown(yard: Yard, machine: Machine) -> None:
    """With --json a command writes the facts to be confirmed to standard error (AT53)."""
    url, program = await yard.backend()
    assert await machine.run("backend", "grant", url, "--json", typed="n\n") == 1
    assert program.read == {}
    assert CODE.mrtd.hex() in machine.err and machine.out == ""


# --- what is kept on the owner's machine ----------------------------------------------------------


async def test_a_folder_that_others_write_to_is_not_believed(machine: Machine) -> None:
    """Commands refuse a folder of profiles that other users can write to."""
    home = machine.folder / "home"
    for mode in (0o770, 0o702, 0o777):
        home.chmod(mode)
        for arguments in (
            ("secret", "list"),
            ("backend", "list"),
            ("login", "--node", machine.yard.url),
        ):
            assert await machine.run(*arguments) == 10
            assert "chmod 700" in machine.err
    home.chmod(0o700)
    assert await machine.run("secret", "list") == 0


async def test_a_key_file_is_judged_by_what_is_read(machine: Machine) -> None:
    """A command refuses a link to a key file that other users can read."""
    home = machine.folder / "home"
    (home / "wallet.key").rename(machine.folder / "open.key")
    (machine.folder / "open.key").chmod(0o640)
    (home / "wallet.key").symlink_to(machine.folder / "open.key")
    assert await machine.run("login", "--node", machine.yard.url) == 10
    assert "chmod 600" in machine.err
