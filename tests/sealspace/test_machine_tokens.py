"""Tests of machine tokens in the SDK: their text line, their issuers, and their readers."""

import asyncio
import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from capability_cases import machine_statement
from embedded_node import embedded_node
from hypothesis import given
from hypothesis import strategies as st
from tests_support import CountingEntropy, FixedClock, fuzzed

from capabilities.abilities import DECRYPT, KV_GET
from capabilities.clock_and_entropy import SystemClock
from capabilities.facts import MACHINE_URN, statement_resource
from capabilities.principals import did_key
from capabilities.signatures import Ed25519Signer
from capabilities.strict_base64 import decode_url, encode_url
from node.config.tree import Config, Http, Store
from sealspace import sync
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import (
    ClientNotReady,
    DecryptDenied,
    InvalidInput,
    InvalidSession,
    NodeMismatch,
    NotGranted,
    NotSignedIn,
    SessionExpired,
)
from sealspace.session import iso_time, network_of_owner, sign_message, space_of
from sealspace.wallets import new_wallet
from sealspace.wire.token_line import MAX_TOKEN_CHARS, read_token, token_in, token_line, token_of

SEED, NODE = b"\x07" * 32, did_key(b"\x08" * 32)
DAY_S = 86_400


def _header(
    *, key: str = Ed25519Signer(SEED).did, stated: Sequence[str] = (), names: Sequence[str] = ("A",)
) -> str:
    """Return a wallet's machine token for secrets, whose statement may name other secrets."""
    wallet, clock = new_wallet(entropy=CountingEntropy()), FixedClock()
    folder = f"{space_of(wallet.did, 'secrets').text}/kv/vault/secrets"
    statement = machine_statement(
        key=Ed25519Signer(SEED).did,
        paths=[f"{folder}/{name}" for name in stated or names],
        ends_at=int(clock.now()) + 60,
        name="deploy",
    )
    return sign_message(
        wallet,
        CountingEntropy(),
        domain="localhost",
        uri=key,
        issued_at=clock.now(),
        expires_at=clock.now() + 60,
        capabilities=[
            *(allow(f"{folder}/{name}", KV_GET) for name in names),
            allow(network_of_owner(wallet.did).text, DECRYPT),
        ],
        resources=[statement_resource(statement, urn=MACHINE_URN)] if stated != ("none",) else [],
    )


def _checked(body: bytes) -> str:
    """Return a line with a valid checksum over any bytes."""
    return "sst_" + encode_url(body + hashlib.sha256(body).digest()[:4])


# --- the line -------------------------------------------------------------------------------------


def test_a_line_is_read_as_it_was_written() -> None:
    """A token line contains a key, a node and a delegation; surrounding blanks are ignored."""
    line = token_line(SEED, NODE, _header(names=("scoped/ci/A", "scoped/ci/B")))
    session = read_token(f"  {line}\r\n")
    token = token_of(session)
    assert token is not None
    assert session.seed == SEED
    assert session.node_id == NODE
    assert session.owner == new_wallet(entropy=CountingEntropy()).did
    assert token.name == "deploy"
    assert token.labels == "ci/A, ci/B"
    assert token.scope == "ci"
    assert token_line(SEED, NODE, token.grant.header) == line
    assert line not in f"{session!r}{token!r}" and encode_url(SEED) not in f"{session!r}{token!r}"


def test_scopes_that_differ_are_no_default() -> None:
    """A token for secrets of several scopes has no default scope."""
    token = token_in(_header(names=("A", "scoped/ci/A")))
    assert token is not None and token.scope is None


def test_a_cut_line() -> None:
    """The error for a truncated line says so and contains no part of the line."""
    line = token_line(SEED, NODE, _header())
    for length in range(len(line)):
        with pytest.raises(InvalidSession) as refused:
            read_token(line[:length])
        is_cut = length >= len("sst_")
        assert refused.value.message == (
            "not a sealspace token" + (": it is cut off or mistyped" if is_cut else "")
        )
        assert length < 8 or line[:length] not in str(refused.value)


@pytest.mark.parametrize(
    "line",
    [
        _checked(b"\x02" + SEED * 2 + _header().encode()),
        _checked(b"\x01" + SEED * 2 + _header(key=did_key(b"\x09" * 32)).encode()),
        _checked(b"\x01" + SEED * 2 + _header(stated=("none",)).encode()),
        _checked(b"\x01" + SEED * 2 + _header(stated=("B",)).encode()),
        _checked(b"\x01" + SEED * 2 + "é".encode()),
        token_line(SEED, NODE, _header()).replace("sst_", "SST_"),
        token_line(SEED, NODE, _header()) + "=",
        "sst_" + "A" * MAX_TOKEN_CHARS,
    ],
    ids=["version", "key", "statement", "paths", "ascii", "prefix", "padding", "length"],
)
def test_MF21_a_line_of_something_else(line: str) -> None:
    """MF21: a line with another version, key or delegation, or in another format, is refused."""
    with pytest.raises(InvalidSession, match="not a sealspace token"):
        read_token(line)


def test_MF21_a_forged_delegation_is_no_token() -> None:
    """MF21: the SDK verifies the owner's signature before it uses a machine token."""
    data = decode_url(_header())
    assert data is not None
    assert token_in(encode_url(data[:-4] + bytes(4))) is None


@fuzzed()
@given(st.text(max_size=200) | st.binary(max_size=200).map(_checked))
def test_any_line_is_a_token_or_an_error(text: str) -> None:
    """Any text is parsed as a token or raises this module's error."""
    for line in (text, f"sst_{text}"):
        with pytest.raises(InvalidSession):
            read_token(line)


def test_a_line_that_would_be_too_long() -> None:
    """The SDK does not issue a token whose line would be too long to parse."""
    with pytest.raises(InvalidInput, match="too long"):
        token_line(SEED, NODE, "x" * MAX_TOKEN_CHARS)


# --- making and using -----------------------------------------------------------------------------


async def _program(bench: Any, line: str) -> Client:
    return await bench.client(read_token(line))


async def test_a_program_reads_its_secrets_and_nothing_else(bench: Any) -> None:
    """A token reads its own secrets; it cannot read others, write or list."""
    owner, wallet = await bench.owner()
    await owner.secrets().put_many({"A": "alpha", "B": "beta", "C": "gamma"})
    line = await owner.delegations.create_token("deploy", ["B", "A", "A"], wallet=wallet)
    program = await _program(bench, line)
    assert wallet.signatures == 2  # the sign-in, and the token
    assert program.session.expires_at == bench.clock.now() + 30 * DAY_S
    secrets = program.secrets()
    assert await secrets.get_many(["A", "B"]) == {"A": "alpha", "B": "beta"}
    assert await secrets.get("A") == "alpha"
    with pytest.raises(NotGranted) as refused:
        await secrets.get("C")
    assert refused.value.message == ("the machine token deploy does not include C; it reads A, B")
    with pytest.raises(NotGranted):
        await secrets.get_many(["A", "C"])
    with pytest.raises(NotGranted, match="kv/put"):
        await secrets.put("A", "other")
    with pytest.raises(NotGranted, match="kv/list"):
        await secrets.list()
    with pytest.raises(ClientNotReady):
        program.kv()


async def test_the_owner_of_a_key_makes_a_token(bench: Any) -> None:
    """An owner with a key of its own instead of a wallet can issue a token."""
    owner = await bench.client()
    await owner.sign_in_with_key(bench.entropy.token(32), spaces=["secrets"])
    await owner.encryption.ensure_network()
    await owner.secrets().put("A", "alpha", scope="ci")
    line = await owner.delegations.create_token("deploy", ["A"], scope="ci", ttl_s=366 * DAY_S)
    assert await (await _program(bench, line)).secrets().get("A", scope="ci") == "alpha"


async def test_a_session_makes_no_token(bench: Any) -> None:
    """Neither a session's key nor another owner's wallet can sign a token, and nothing is sent."""
    owner, _ = await bench.owner()
    with pytest.raises(InvalidInput, match="only the owner's wallet can sign it"):
        await owner.delegations.create_token("deploy", ["A"])
    with pytest.raises(NotGranted):
        await owner.delegations.create_token(
            "deploy", ["A"], wallet=new_wallet(entropy=bench.entropy)
        )


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"name": "-deploy"}, "a name of at most 64 letters"),
        ({"name": "d" * 65}, "a name of at most 64 letters"),
        ({"secrets": []}, "1 to 64 secrets"),
        ({"secrets": [f"A{n}" for n in range(65)]}, "1 to 64 secrets"),
        ({"secrets": ["A", "PROTECTED_A"]}, "only attested runners can open protected secrets"),
        ({"secrets": ["a"]}, "Invalid secret name"),
        ({"ttl_s": 59.0}, "lasts 1 minute to 366 days"),
        ({"ttl_s": 366.1 * DAY_S}, "lasts 1 minute to 366 days"),
    ],
)
async def test_what_no_token_can_be(bench: Any, change: dict[str, object], reason: str) -> None:
    """The SDK refuses names, counts and lifetimes that the node would refuse, before the wallet
    signs."""
    owner, wallet = await bench.owner()
    asked: dict[str, Any] = {"name": "deploy", "secrets": ["A"], "wallet": wallet, **change}
    with pytest.raises(InvalidInput, match=reason):
        await owner.delegations.create_token(**asked)
    assert wallet.signatures == 1


async def test_a_token_outlives_the_session_that_made_it(bench: Any) -> None:
    """A machine token works after the sign-in that issued it has expired."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("A", "alpha")
    line = await owner.delegations.create_token("deploy", ["A"], wallet=wallet)
    ends_at = bench.clock.now() + 30 * DAY_S
    await owner.delegations.revoke(owner.session.grants[0].cid)
    program = await _program(bench, line)
    assert await program.secrets().get("A") == "alpha"
    bench.clock.advance(30 * DAY_S)
    for read in (program.secrets().get("A"), program.secrets().get_many(["A"])):
        with pytest.raises(SessionExpired) as ended:
            await read
        assert (
            ended.value.message == f"the machine token deploy was valid until {iso_time(ends_at)}"
        )
        assert ended.value.hint == (
            f"ask the owner {wallet.did} for a new one: sealspace token create deploy --secret A"
        )


async def test_a_revoked_token(bench: Any) -> None:
    """A read with a revoked token fails with an error that names the token and its owner."""
    owner, wallet = await bench.owner()
    await owner.secrets().put("A", "alpha")
    line = await owner.delegations.create_token("deploy", ["A"], wallet=wallet)
    program = await _program(bench, line)
    envelope = await program.secrets().envelope("A")
    await owner.delegations.revoke(program.session.grants[0].cid)
    for read in (program.secrets().get("A"), program.secrets().get_many(["A"])):
        with pytest.raises(SessionExpired, match="the machine token deploy was revoked") as ended:
            await read
        assert wallet.did in ended.value.hint
    with pytest.raises(DecryptDenied):  # with a copy of the envelope
        await program.encryption.decrypt(envelope)


async def test_MF21_a_hijacked_address_gets_no_request(bench: Any) -> None:
    """MF21: the SDK sends no token to a node other than the one that the token names."""
    owner, wallet = await bench.owner()
    line = await owner.delegations.create_token("deploy", ["A"], wallet=wallet)
    session = read_token(line)
    other = await bench.client(replace(session, node_id=NODE))
    with pytest.raises(NodeMismatch):
        await other.secrets().get("A")


# --- the environment ------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [Client, sync.Client])
def test_both_variables_are_needed(
    kind: type[Client] | type[sync.Client], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The error names the missing environment variable and its expected content."""
    monkeypatch.setenv("SEALSPACE_TOKEN", "")
    monkeypatch.setenv("SEALSPACE_NODE", "http://127.0.0.1:1")
    with pytest.raises(NotSignedIn, match="SEALSPACE_TOKEN is empty; next: set SEALSPACE_NODE"):
        kind.from_environment()
    monkeypatch.delenv("SEALSPACE_TOKEN")
    with pytest.raises(NotSignedIn, match="SEALSPACE_TOKEN is not set; next: set SEALSPACE_NODE"):
        kind.from_environment()
    monkeypatch.setenv("SEALSPACE_TOKEN", "sst_")
    monkeypatch.delenv("SEALSPACE_NODE")
    with pytest.raises(NotSignedIn, match="SEALSPACE_NODE is not set"):
        kind.from_environment()
    with pytest.raises(InvalidSession):
        kind.from_environment("http://127.0.0.1:1")


async def test_a_program_with_two_variables(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A program with both environment variables reads secrets, synchronously and asynchronously."""
    config = Config(http=Http(port=0, drain_s=0), store=Store(data=str(tmp_path / "data")))
    async with embedded_node(config) as node, Client(node.url) as owner:
        wallet = new_wallet()
        await owner.sign_in(wallet)
        await owner.secrets().put("A", "alpha")
        line = await owner.delegations.create_token("deploy", ["A"], wallet=wallet, ttl_s=60)
        monkeypatch.setenv("SEALSPACE_TOKEN", line)
        monkeypatch.setenv("SEALSPACE_NODE", node.url)
        async with Client.from_environment() as client:
            assert await client.secrets().get("A") == "alpha"

        def read() -> object:
            with sync.Client.from_environment() as client:
                return client.secrets().get("A")

        assert await asyncio.to_thread(read) == "alpha"


def test_a_token_that_has_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    """The SDK raises the error for an expired token without a request to the node."""
    monkeypatch.setenv("SEALSPACE_TOKEN", token_line(SEED, NODE, _header()))
    monkeypatch.setattr(SystemClock, "now", lambda: FixedClock().now() + 60)
    with pytest.raises(SessionExpired, match="the machine token deploy was valid until 2026"):
        Client.from_environment("http://127.0.0.1:1")
