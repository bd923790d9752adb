"""A store of an earlier version is brought up whole, whatever happens meanwhile, and charged exactly."""

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import former_store
import pytest
from engines import database_of, is_on_postgresql
from former_store import FailingStore, Interrupted, former_key, register_formerly, say_schema_1, write_formerly
from space_grants import NOW, OWNER, registered, space_text, ucan
from tests_support import CountingEntropy
from value_bench import LARGE, OTHER, SMALL, SPACE, Bench, Write

from capabilities.chain import Registered
from capabilities.cids import ContentKey
from capabilities.principals import Principal
from spaces import migrations
from spaces.expiry import rows_until
from spaces.grants.delegations import (
    accounts_above,
    charged_bytes,
    decode_delegation,
    kept_bytes_key,
    registration_puts,
)
from spaces.grants.retention import INDEX, KEPT_AFTER_EXPIRY_S, plan_removal, swept_until
from spaces.identity import open_identity, recorded_identity
from spaces.keyspace import SCHEMA_KEY, delegation_key
from spaces.migrations import bring_up
from spaces.store.contract import Commit, Put, Range, Store, counter_of
from spaces.values.listing import ListingQuery, list_paths
from spaces.values.long_paths import MAX_PATH_BYTES
from spaces.values.tickets import Ticket, new_ticket, ticket_of, ticket_put, ticket_row_key
from spaces.values.value_heads import ROW_BYTES, head_key

LONG = "x" * 400
METADATA = {"content-type": "t" * 100}
# Bodies in rows and files, shared or not; paths that lie among others, in groups, and in groups of groups.
WRITES = (
    Write("a", SMALL),
    Write("b", LARGE, METADATA),
    Write("c", b""),
    Write(LONG, SMALL),
    Write(LONG + "a", LARGE),
    Write(LONG + "b", SMALL, METADATA),
    Write(LONG + "c", b"", {"note": "m" * 2000}),
    Write(LONG * 2, b""),
    Write(LONG * 2 + "d", SMALL),
    Write(LONG * 9 + "ü" * 300, SMALL),
    Write("n" * 300, SMALL, {"note": "m" * 1000}),
    *(Write(f"{LONG}{number:03}", b"", METADATA) for number in range(150)),
)
ROWS = sum(ROW_BYTES + len(w.path.encode()) + sum(len(n) + len(v) for n, v in w.metadata.items()) for w in WRITES)
BODIES = sum(len(write.body or b"") for write in WRITES) - len(LARGE)  # one of them is shared
GRANTS = [
    registered(ucan({f"{space_text(OWNER.did)}/kv/{n}": ["tinycloud.kv/get"]}, nonce=f"n{n}", lifetime_s=60))
    for n in range(5)
]


@pytest.fixture
async def former(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """A store of before: values in two spaces, and delegations; brought up in small steps."""
    monkeypatch.setattr(migrations, "_ROWS_AT_ONCE", 20)
    await open_identity(bench.store, node_did="did:key:one", entropy=CountingEntropy())
    for space in (SPACE, OTHER):
        for write in WRITES:
            await write_formerly(bench, space, write)
    for grant in GRANTS:
        await register_formerly(bench.store, grant, now=NOW)
    await say_schema_1(bench.store)
    return bench


async def check(bench: Bench) -> None:
    """Everything is there, in order, charged with what it takes; and gives all of it back."""
    store = bench.store
    for space in (SPACE, OTHER):
        assert (BODIES, ROWS) == (await bench.usage(space), await bench.rows(space))
        assert sorted(write.path for write in WRITES) == list((await list_paths(store, ListingQuery(space))).paths)
        for write in WRITES:
            head = await bench.head(write.path, space)
            assert head is not None
            assert (write.path, write.metadata) == (head.path, head.metadata)
            assert write.body == await bench.values.read_body(head)
    granted = sum(charged_bytes(_rows_of(one)) for one in GRANTS)
    assert granted == await _granted_bytes(store)
    for space in (SPACE, OTHER):
        for write in WRITES:
            await bench.write(Write(write.path, None), space=space)
        assert (0, 0) == (await bench.usage(space), await bench.rows(space))
    assert () == (await store.read(ranges=(Range(b"K"), Range(b"k")))).pages[0].rows
    now = NOW + KEPT_AFTER_EXPIRY_S + 61
    for due, row in await rows_until(store, INDEX, swept_until(now), limit=10):
        record = (await store.read((delegation_key(ContentKey(row.value or b"")),))).records[0]
        await store.commit(plan_removal(due, decode_delegation(record), record, now=now))
    assert await _granted_bytes(store) == 0


def _rows_of(granted: Registered) -> list[Put]:
    return registration_puts(granted, now=NOW, accounts=accounts_above(granted.delegation, ()))


async def _granted_bytes(store: Store) -> int:
    return counter_of((await store.read((kept_bytes_key(Principal(OWNER.did)),))).records[0])


async def _schema(store: Store) -> int:
    record = (await store.read((SCHEMA_KEY,))).records[0]
    assert record is not None
    return int.from_bytes(record.value or b"", "big")


async def test_a_store_of_before_is_brought_up(former: Bench) -> None:
    """Values are found under paths of any length, rows and delegations are charged, and the schema is that of now."""
    assert await _schema(former.store) == 1
    assert await recorded_identity(former.store) is not None
    await open_identity(former.store, node_did="did:key:one", entropy=CountingEntropy())
    assert await _schema(former.store) == 2
    counting = FailingStore(former.store, commits=0)
    await bring_up(counting)  # nothing is left to write
    assert counting.committed == 0
    await check(former)


@pytest.mark.parametrize("after", [False, True], ids=["before a commit", "after a commit"])
async def test_what_is_interrupted_goes_on(former: Bench, after: bool) -> None:
    """It stops with every second commit, and each time goes on where it was; nothing is charged twice or left out."""
    interruptions = 0
    while True:
        try:
            await bring_up(FailingStore(former.store, commits=1, after=after))
            break
        except Interrupted:
            interruptions += 1
            assert await _schema(former.store) == 2  # an earlier version leaves it alone from the first commit on
    assert interruptions >= 5
    await check(former)


async def test_processes_that_start_together(former: Bench) -> None:
    """Of processes that bring one store up side by side each row is brought up by one."""
    await asyncio.gather(*[bring_up(former.store) for _ in range(3)])
    await check(former)


@pytest.mark.slow
async def test_killed_midway(one_engine: Callable[[], Store], tmp_path: Path) -> None:
    """The process that brings a store up is killed after so many commits; the next one finishes its work."""
    store = one_engine()
    bench = Bench(store, tmp_path / "data" / "blobs")
    await open_identity(store, node_did="did:key:one", entropy=CountingEntropy())
    for space in (SPACE, OTHER):
        for write in WRITES:
            await write_formerly(bench, space, write)
    for grant in GRANTS:
        await register_formerly(store, grant, now=NOW)
    await say_schema_1(store)
    await store.close()
    place = database_of(tmp_path / "data") if is_on_postgresql() else str(tmp_path / "data")
    for commits in (1, 2, 1):
        program = (sys.executable, former_store.__file__, place, str(commits))
        process = await asyncio.create_subprocess_exec(*program, env={**os.environ, "PYTHONPATH": ":".join(sys.path)})
        assert -signal.SIGKILL == await process.wait()
    store = one_engine()
    try:
        assert await _schema(store) == 2
        assert await bench_of(store, tmp_path).rows(OTHER) < ROWS  # killed in the middle of its work
        await bring_up(store)
        await check(bench_of(store, tmp_path))
    finally:
        await store.close()


def bench_of(store: Store, folder: Path) -> Bench:
    return Bench(store, folder / "data" / "blobs")


async def test_a_path_longer_than_any_of_now(bench: Bench) -> None:
    """A path beyond today's bound is moved in several commits, found, listed, replaced and deleted."""
    path = "y" * (MAX_PATH_BYTES + 60_000)
    await open_identity(bench.store, node_did="did:key:one", entropy=CountingEntropy())
    await write_formerly(bench, SPACE, Write(path, SMALL))
    await write_formerly(bench, SPACE, Write("z", SMALL))
    await say_schema_1(bench.store)
    while True:
        try:
            await bring_up(FailingStore(bench.store, commits=3))
            break
        except Interrupted:
            continue
    assert await bench.body(path) == SMALL
    assert (await list_paths(bench.store, ListingQuery(SPACE))).paths == (path, "z")
    await bench.write(Write(path, b"2"))
    await bench.write(Write(path, None))
    assert (await list_paths(bench.store, ListingQuery(SPACE))).paths == ("z",)


async def test_a_row_that_does_not_decode_stays(former: Bench, caplog: pytest.LogCaptureFixture) -> None:
    """A damaged row is left as it is and told, and keeps nothing else from being brought up."""
    damaged = former_key(SPACE, LONG + "damaged")
    await former.store.commit(
        Commit(puts=(Put(damaged, b"\xc1"), Put(delegation_key(ContentKey(b"\xff" * 32)), b"\xc1")))
    )
    await bring_up(former.store)
    assert caplog.text.count("does not decode and stays") == 2
    assert (await former.store.read((damaged,))).records[0] is not None
    assert await former.rows() == ROWS


async def test_a_signed_url_of_a_long_path_goes_on(former: Bench) -> None:
    """A ticket that was made before leads to the value where it lies now."""
    path = LONG + "a"
    ticket = new_ticket(NOW + 60, CountingEntropy(b"ticket"))
    await former.store.commit(Commit(puts=(ticket_put(ticket, Ticket(former_key(SPACE, path), bytes(32), NOW, ())),)))
    await bring_up(former.store)
    said = ticket_of((await former.store.read((ticket_row_key(ticket),))).records[0])
    assert said is not None
    assert said.value_key == head_key(SPACE, path)
