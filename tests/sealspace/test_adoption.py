"""Tests of moving one's own secrets into a team, with clients, wallets and a real node."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

import pytest
from aiohttp import web
from moved_secrets import copy, put_unbound
from patience import PATIENCE_S
from relay import Answer, relay_before

from capabilities.memberships import Role
from sealspace.client import Client
from sealspace.errors import (
    InvalidInput,
    InvalidSecretName,
    NodeFailure,
    NotFound,
    NotGranted,
    PlaceMismatch,
    PreconditionFailed,
    UnboundValue,
)
from sealspace.secrets import parse_secret_name
from sealspace.wallets import AnyWallet
from sealspace.wire.transport import TransportSettings

SETTINGS = TransportSettings(timeout_s=PATIENCE_S, tries=1, backoff_s=0)


@dataclass
class Move:
    """An owner with secrets, and a team of which the owner is an admin."""

    own: Client
    wallet: AnyWallet
    team: Client
    bench: Any

    async def stores(self, *values: str | bytes, name: str = "API_KEY") -> None:
        """Store values as versions of one's own secret, a second apart."""
        for value in values:
            await self.own.secrets().put(name, value)
            self.bench.clock.advance(1)

    async def adopts(self, label: str = "API_KEY", *, keep: bool = False) -> int:
        return (await self.own.teams.adopt(label, self.team.session, keep=keep)).versions

    async def history(self, name: str = "API_KEY") -> list[str | bytes]:
        """Return the team's values, the oldest first."""
        secrets = self.team.secrets()
        kept = await secrets.versions(name)
        return [await secrets.get(name, version=one.version) for one in reversed(kept)]

    async def is_own_deleted(self, name: str = "API_KEY") -> bool:
        return name not in await self.own.secrets().list()


@pytest.fixture
async def move(bench) -> Move:
    own, wallet = await bench.owner()
    created = await own.teams.create()
    session = await own.teams.sign_in(wallet, await own.teams.membership(created.team))
    return Move(own, wallet, own.acting(session), bench)


async def test_TM23_versions_move_in_order(move: Move) -> None:
    """TM23: all versions move, with values, types and times; one's own secret is deleted."""
    await move.stores("one", b"\xff\x00", "three")
    former = await move.own.secrets().read("API_KEY", version=2)
    assert await move.adopts() == 3
    assert await move.history() == ["one", b"\xff\x00", "three"]
    moved = await move.team.secrets().read("API_KEY", version=2)
    assert (moved.created_at, moved.updated_at) == (former.created_at, former.updated_at)
    assert moved.is_bound
    assert await move.is_own_deleted()
    assert await move.adopts() == 0


async def test_TM23_a_scope_and_keep(move: Move) -> None:
    """TM23: a scope stays; with `keep`, one's own secret stays too, and moves on later."""
    await move.own.secrets().put("TOKEN", "one", scope="ci")
    assert await move.adopts("ci/TOKEN", keep=True) == 1
    assert await move.own.secrets().get("TOKEN", scope="ci") == "one"
    move.bench.clock.advance(1)
    await move.own.secrets().put("TOKEN", "two", scope="ci")
    assert await move.adopts("ci/TOKEN") == 1
    assert await move.team.secrets().get("TOKEN", scope="ci") == "two"


async def interrupted(move: Move, label: str, write: int, *, is_stored: bool) -> None:
    """Move a secret, and fail at one of the writes: before the node stores it, or afterwards."""
    writes = 0

    async def count(request: web.Request) -> None:
        nonlocal writes
        if {"If-Match", "If-None-Match"} & set(request.headers):
            writes += 1
            if writes == write and not is_stored:
                raise web.HTTPInternalServerError

    def twist(answer: Answer) -> None:
        if writes >= write:
            answer.status = 500

    clock, entropy = move.bench.clock, move.bench.entropy
    async with relay_before(move.bench.node.url) as relay:
        relay.hold, relay.twist = count, twist
        async with Client(
            relay.url, session=move.own.session, settings=SETTINGS, clock=clock, entropy=entropy
        ) as client:
            with pytest.raises(NodeFailure):
                await client.teams.adopt(label, move.team.session)


@pytest.mark.parametrize("is_stored", [False, True])
async def test_TM23_interrupted_at_each_write(move: Move, is_stored: bool) -> None:
    """TM23: after a failure at any write, the same call completes the move; nothing is doubled."""
    for write in (1, 2, 3, 4):
        name = f"KEY_{write}"
        await move.stores("one", "two", "three", name=name)
        await interrupted(move, name, write, is_stored=is_stored)
        stored = min(write if is_stored else write - 1, 3)
        assert await move.adopts(name) == 3 - stored
        assert await move.history(name) == ["one", "two", "three"]
        assert await move.is_own_deleted(name)


async def test_TM23_a_former_value_that_came_back(move: Move) -> None:
    """TM23: a value that a rollback stored again is the newest also after an interrupted move."""
    for write in (2, 3):
        name = f"KEY_{write}"
        await move.stores("one", "two", name=name)
        await move.own.secrets().rollback(name, 1)
        await interrupted(move, name, write, is_stored=False)
        await move.adopts(name)
        assert await move.history(name) == ["two", "one"]


async def test_TM23_a_new_own_value_meanwhile(move: Move) -> None:
    """TM23: a value that was stored between two calls moves too, before one's own is deleted."""
    await move.stores("one", "two")
    await interrupted(move, "API_KEY", 3, is_stored=False)
    await move.stores("three")
    assert await move.adopts() == 1
    assert await move.history() == ["one", "two", "three"]


async def test_TM23_a_newer_value_of_the_team_stays(move: Move) -> None:
    """TM23: if a member replaces the value before one's own is deleted, that value stays."""
    await move.stores("one", "two")
    await interrupted(move, "API_KEY", 3, is_stored=False)
    await move.team.secrets().put("API_KEY", "newer")
    assert await move.adopts() == 0
    assert await move.history() == ["one", "two", "newer"]
    assert await move.is_own_deleted()


async def test_TM23_a_value_of_the_team_is_not_replaced(move: Move) -> None:
    """TM23: with another value of the team, from the start or since, nothing changes."""
    await move.stores("one", "two")
    await move.team.secrets().put("API_KEY", "theirs")
    with pytest.raises(InvalidInput, match="it is not replaced"):
        await move.adopts()
    assert await move.history() == ["theirs"]
    await move.stores("one", "two", name="OTHER")
    await interrupted(move, "OTHER", 2, is_stored=False)
    await move.team.secrets().put("OTHER", "theirs")
    with pytest.raises(InvalidInput, match="it is not replaced"):
        await move.adopts("OTHER")
    assert await move.history("OTHER") == ["one", "theirs"]
    assert not await move.is_own_deleted() and not await move.is_own_deleted("OTHER")


async def test_TM23_a_member_rolls_back_meanwhile(move: Move) -> None:
    """TM23: a member who stores a moved version again has changed the secret."""
    await move.stores("one", "two", "three")
    await interrupted(move, "API_KEY", 3, is_stored=False)
    await move.team.secrets().rollback("API_KEY", 1)
    with pytest.raises(InvalidInput, match="it is not replaced"):
        await move.adopts()
    assert await move.history() == ["one", "two", "one"]


async def test_TM23_a_deletion_by_a_member(move: Move) -> None:
    """TM23: a half-moved secret that a member deleted is not stored again."""
    await move.stores("one", "two")
    await interrupted(move, "API_KEY", 2, is_stored=False)
    await move.team.secrets().delete("API_KEY")
    with pytest.raises(InvalidInput, match="it is not replaced"):
        await move.adopts()
    await move.team.secrets().delete("API_KEY", purge=True)
    assert await move.adopts() == 2


async def test_TM23_a_name_that_the_team_deleted_before(move: Move) -> None:
    """TM23: versions of another secret that was deleted do not keep a secret from moving."""
    await move.team.secrets().put("API_KEY", "theirs")
    await move.team.secrets().delete("API_KEY")
    await move.stores("one", "two")
    assert await move.adopts() == 2
    assert await move.history() == ["theirs", "one", "two"]


async def test_TM23_eleven_versions(move: Move) -> None:
    """TM23: as many versions move as a node keeps."""
    values = [f"value {number}" for number in range(12)]
    await move.stores(*values)
    kept = len(await move.own.secrets().versions("API_KEY"))
    assert await move.adopts() == kept
    assert await move.history() == values[-kept:]


async def test_TM23_secrets_that_do_not_move(move: Move) -> None:
    """TM23: absent and reserved names, and values that may belong elsewhere, stay as they are."""
    with pytest.raises(NotFound):
        await move.adopts("ABSENT")
    with pytest.raises(InvalidSecretName):
        await move.adopts("PROTECTED_KEY")
    await move.stores("one")
    source, target = parse_secret_name("API_KEY"), parse_secret_name("COPY")
    await put_unbound(move.own, parse_secret_name("OLD"), "old")
    assert await move.adopts("OLD") == 1  # nothing else is stored with this key
    await copy(move.own, source, target)
    with pytest.raises(PlaceMismatch):
        await move.adopts("COPY")
    await put_unbound(move.own, source, "unbound")
    await copy(move.own, source, parse_secret_name("UNBOUND"))
    with pytest.raises(UnboundValue):
        await move.adopts("UNBOUND")
    assert not await move.is_own_deleted("COPY")
    assert "COPY" not in await move.team.secrets().list()


async def test_TM23_who_may_move(move: Move, bench: Any) -> None:
    """TM23: a writer moves secrets, a reader and a member for some secrets do not."""
    cases: list[tuple[Role, tuple[str, ...]]] = [
        ("writer", ()),
        ("reader", ()),
        ("writer", ("API_KEY",)),
    ]
    for role, secrets in cases:
        client, wallet = await bench.owner()
        await move.team.teams.admit(client.session.owner, role, secrets=secrets, wallet=move.wallet)
        membership = await client.teams.membership(move.team.session.owner)
        session = await client.teams.sign_in(wallet, membership)
        name = f"OF_{role.upper()}" if not secrets else "API_KEY"
        await client.secrets().put(name, "mine")
        if role == "writer" and not secrets:
            assert (await client.teams.adopt(name, session)).versions == 1
            continue
        with pytest.raises(NotGranted):
            await client.teams.adopt(name, session)
        assert await client.secrets().get(name) == "mine"


# --- others at the same time ----------------------------------------------------------------------


async def with_hold(move: Move, hold: Callable[[web.Request], Awaitable[None]]) -> None:
    """Move a secret, with something that happens before the node gets each write."""

    async def before(request: web.Request) -> None:
        if {"If-Match", "If-None-Match"} & set(request.headers):
            await hold(request)

    clock, entropy = move.bench.clock, move.bench.entropy
    async with relay_before(move.bench.node.url) as relay:
        relay.hold = before
        async with Client(
            relay.url, session=move.own.session, settings=SETTINGS, clock=clock, entropy=entropy
        ) as client:
            await client.teams.adopt("API_KEY", move.team.session)


async def test_TM23_a_member_writes_before_the_first_write(move: Move) -> None:
    """TM23: a value that a member stores just before the first write stays."""
    await move.stores("one")

    async def hold(_: web.Request) -> None:
        await move.team.secrets().put("API_KEY", "theirs")

    with pytest.raises(PreconditionFailed):
        await with_hold(move, hold)
    assert await move.history() == ["theirs"]
    assert not await move.is_own_deleted()


async def test_TM23_a_member_writes_before_a_later_write(move: Move) -> None:
    """TM23: a value that a member stores between two versions stays."""
    await move.stores("one", "two")

    async def hold(request: web.Request) -> None:
        if "If-Match" in request.headers:
            await move.team.secrets().put("API_KEY", "theirs")

    with pytest.raises(PreconditionFailed):
        await with_hold(move, hold)
    assert await move.history() == ["one", "theirs"]
    assert not await move.is_own_deleted()


async def test_TM23_the_owner_writes_before_the_deletion(move: Move) -> None:
    """TM23: one's own value that is newer than the moved one is not deleted, and moves next."""
    await move.stores("one")

    async def hold(request: web.Request) -> None:
        if "If-Match" in request.headers:  # the only one is the deletion
            await move.own.secrets().put("API_KEY", "newer")

    with pytest.raises(PreconditionFailed):
        await with_hold(move, hold)
    assert await move.own.secrets().get("API_KEY") == "newer"
    assert await move.adopts() == 1
    assert await move.history() == ["one", "newer"]


async def test_TM23_a_node_that_does_not_store(move: Move) -> None:
    """TM23: if the node acknowledges a write and does not have it, one's own is not deleted."""
    await move.stores("one", "two")

    async def hold(request: web.Request) -> None:
        if "If-Match" in request.headers:
            raise web.HTTPOk(headers={"ETag": '"blake3-00"'})

    with pytest.raises(InvalidInput, match="lacks 1 of 2 versions"):
        await with_hold(move, hold)
    assert await move.own.secrets().get("API_KEY") == "two"
