"""Stores of a size: many values in one space, or many spaces of ten values, and who may ask about
them.

They are filled through the store's own contract, with the rows that a put and a hosting plan make;
only the commits are larger than those of requests, and nothing is audited. A node has to have run
on the folder before: it makes the secret and the identity that the rows belong to.
"""

import asyncio
import random
import secrets
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from places import Party, Place, request, token

from capabilities.clock_and_entropy import SystemEntropy
from capabilities.principals import Principal
from capabilities.resources import SpaceId, parse_space_id
from capabilities.signatures import Ed25519Signer
from spaces.grants.hosting import HostingPolicy, hosting_by_put, plan_hosting
from spaces.store.contract import Add, Commit, Put, Refused, Store
from spaces.store.lmdb.engine import open_lmdb
from spaces.store.postgres.engine import open_postgres
from spaces.values.object_folder import ObjectFolder
from spaces.values.value_bodies import Body, inline_body
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write, WritePlan

PER_SPACE = 10
PAGE = 100
_PUTS = 250
_IN_FLIGHT = 64
_REPORTED = 1_000_000
_HOSTED_AT = 1.0


class LoadingRefused(Exception):
    """A commit was refused: the folder is not a new one."""


@dataclass(frozen=True, slots=True)
class Target:
    """A value that may be asked about.

    Attributes:
        party: who may ask.
        space: id of its space.
        path: of the value.
        listed: a prefix under which a page of paths lies, at most PAGE.
    """

    party: Party
    space: str
    path: str
    listed: str


Pick = Callable[[random.Random], Target]


def values_of_one(place: Place, count: int) -> Pick:
    """Return how to pick among many values of the space of a place."""

    def pick(chance: random.Random) -> Target:
        path = _path(chance.randrange(count))
        return Target(place.session, place.space, path, path[:-2])

    return pick


def spaces_of_ten(count: int) -> Pick:
    """Return how to pick among many spaces, each of a key of its own that asks for itself."""

    def pick(chance: random.Random) -> Target:
        signer = owner_of(chance.randrange(count))
        return Target(
            Party(signer, ()), _space_of(signer).text, _path(chance.randrange(PER_SPACE)), "v"
        )

    return pick


def owner_of(number: int) -> Ed25519Signer:
    """Return the key that owns a space of a crowd."""
    return Ed25519Signer(number.to_bytes(32, "big"))


def _space_of(signer: Ed25519Signer) -> SpaceId:
    return SpaceId(Principal(signer.did), "default")


def _path(number: int) -> str:
    return f"v/{number:08}"


# --- what is asked --------------------------------------------------------------------------------


def reads(pick: Pick, chance: random.Random) -> bytes:
    """Read a value."""
    target = pick(chance)
    return _invoke(target, target.path, "get")


def writes(pick: Pick, chance: random.Random) -> bytes:
    """Write a value over one that is there."""
    target = pick(chance)
    return _invoke(target, target.path, "put", secrets.token_bytes(100))


def pages(pick: Pick, chance: random.Random) -> bytes:
    """List a page of paths."""
    target = pick(chance)
    return _invoke(target, target.listed, "list")


def grants(pick: Pick, chance: random.Random) -> bytes:
    """Register a delegation of the right to read a value."""
    target = pick(chance)
    resource = f"{target.space}/kv/{target.path}"
    to = Ed25519Signer(chance.randbytes(32)).did
    return request("/delegate", token(target.party, {resource: ["tinycloud.kv/get"]}, audience=to))


ASKED: dict[str, Callable[[Pick, random.Random], bytes]] = {
    "get": reads,
    "put": writes,
    "list a page": pages,
    "delegate": grants,
}


def _invoke(target: Target, path: str, verb: str, body: bytes = b"") -> bytes:
    return request(
        "/invoke",
        token(target.party, {f"{target.space}/kv/{path}": [f"tinycloud.kv/{verb}"]}),
        body,
    )


# --- loading --------------------------------------------------------------------------------------


async def load_values(
    data: Path, space: str, count: int, *, size_bytes: int, url: str | None = None
) -> None:
    """Write so many values into a hosted space.

    Args:
        data: folder of the node.
        space: id of the space.
        count: how many values.
        size_bytes: of each.
        url: of the database that the node stores its rows in; None: LMDB.
    """
    await _load(
        data,
        url,
        lambda values: _values(
            values, parse_space_id(space), count, inline_body(_body(size_bytes))
        ),
    )


async def load_spaces(data: Path, count: int, *, size_bytes: int, url: str | None = None) -> None:
    """Host so many spaces, each of another owner, with ten values each."""
    await _load(data, url, lambda values: _spaces(values, count, inline_body(_body(size_bytes))))


def _body(size_bytes: int) -> bytes:
    return secrets.token_bytes(size_bytes)


async def _load(
    data: Path, url: str | None, commits: Callable[[Values], AsyncIterator[Commit]]
) -> None:
    store: Store = open_lmdb(data) if url is None else open_postgres(url)
    try:
        values = Values(store, ObjectFolder(data / "blobs"), SystemEntropy())
        under_way: set[asyncio.Task[None]] = set()
        rows = 0
        async for commit in commits(values):
            under_way.add(asyncio.create_task(_committed(store, commit)))
            rows += len(commit.puts)
            if len(under_way) == _IN_FLIGHT:
                await asyncio.gather(*under_way)
                under_way.clear()
                if rows % _REPORTED < _PUTS * _IN_FLIGHT:
                    print(f"{rows:>10} rows", file=sys.stderr)
        await asyncio.gather(*under_way)
        print(f"{rows:>10} rows", file=sys.stderr)
    finally:
        await store.close()


async def _committed(store: Store, commit: Commit) -> None:
    if isinstance(await store.commit(commit), Refused):
        raise LoadingRefused("rows of this crowd are there already")


async def _values(values: Values, space: SpaceId, count: int, body: Body) -> AsyncIterator[Commit]:
    for start in range(0, count, _PUTS):
        numbers = range(start, min(start + _PUTS, count))
        plan = await _plan(values, space, numbers, body)
        yield Commit(puts=plan.puts, adds=plan.adds)


async def _plan(values: Values, space: SpaceId, numbers: Sequence[int], body: Body) -> WritePlan:
    drafted = [Write(_path(number), body) for number in numbers]
    draft = await values.draft(space, drafted, [None] * len(drafted))
    return await draft.finalize(now=_HOSTED_AT)


async def _spaces(values: Values, count: int, body: Body) -> AsyncIterator[Commit]:
    policy = HostingPolicy("auto")
    each = _PUTS // (PER_SPACE + 2)
    for start in range(0, count, each):
        puts: list[Put] = []
        adds: dict[bytes, int] = {}
        for number in range(start, min(start + each, count)):
            space = _space_of(owner_of(number))
            wanted = hosting_by_put(space, space.owner, policy, client=None, now=_HOSTED_AT)
            hosted = plan_hosting(wanted, [None] * len(wanted.keys()), now=_HOSTED_AT)
            plan = await _plan(values, space, range(PER_SPACE), body)
            for add in (*hosted.adds, *plan.adds):
                adds[add.counter] = adds.get(add.counter, 0) + add.delta
            puts += [*hosted.puts, *plan.puts]
        yield Commit(
            puts=tuple(puts), adds=tuple([Add(counter, delta) for counter, delta in adds.items()])
        )
