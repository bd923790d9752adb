"""Tests of the PostgreSQL engine with several stores, counted round trips and lost connections."""

import asyncio
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit

import asyncpg
import pytest
from engines import no_housekeeping
from patience import PATIENCE_S
from postgres_relay import Loss, Relay, relayed
from postgres_server import needs_postgres, postgres_server
from tests_support import CountingEntropy, FixedClock

from spaces.audit.audit_chain import Chain, seal_batch
from spaces.audit.audit_records import AuditRecord
from spaces.expiry import rows_until
from spaces.keyspace import (
    AUDIT_PREFIX,
    DUE_PREFIX,
    REPLAY_FLOOR_KEY,
    micros8,
    replay_key,
    replay_minute4,
)
from spaces.lease import Lease
from spaces.space_errors import SchemaMismatch, StoreUnavailable
from spaces.store.contract import (
    ABSENT,
    LIVE_MARK,
    MAX_PAGE_SCAN,
    Add,
    Commit,
    Committed,
    Put,
    Range,
    Refused,
    ReplayRecord,
    Store,
    counter_of,
)
from spaces.store.observing import Clocks, SharedStore
from spaces.store.postgres import _pool, engine
from spaces.store.postgres._clock import DatabaseClock
from spaces.store.postgres._pool import Connections
from spaces.store.postgres._schema import prepare_tables
from spaces.store.postgres.engine import do_housekeeping, open_postgres
from spaces.store.postgres.requirements import examine
from spaces.values.collector import collect
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_records import ObjectName, due_put

pytestmark = needs_postgres()

NEVER_SWEPT = 4_000_000_000
NOW = 1_795_000_000.0
SEED = 20_260_101
INTERLEAVINGS = 300
LONGEST_DELAY_S = 0.004
LIFE_S = 360
T = TypeVar("T")


def claim(name: bytes) -> ReplayRecord:
    return ReplayRecord(key=name.ljust(32, b"."), expires_at=NEVER_SWEPT)


@pytest.fixture
def url() -> str:
    """The address of an empty database."""
    return postgres_server().new_database()


@pytest.fixture
async def pair(url: str) -> AsyncIterator[tuple[Store, Store]]:
    """Two stores on one database, as two machines have them."""
    async with AsyncExitStack() as opened:
        stores = (open_postgres(url), open_postgres(url))
        for store in stores:
            opened.push_async_callback(store.close)
        yield stores


@pytest.fixture
async def through_relay(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[tuple[Store, Relay]]:
    """A store whose connections go through a relay, and that has used each kind of statement
    once."""
    # a busy machine may take longer than these limits allow
    monkeypatch.setattr(_pool, "RECONNECT_WITHIN_S", PATIENCE_S)
    monkeypatch.setattr(_pool, "ANSWER_WITHIN_S", PATIENCE_S)
    async with relayed(url) as (address, relay), AsyncExitStack() as opened:
        # It would run a statement that a test loses instead of its own, or use the connection on
        # which commits are prepared.
        opened.enter_context(no_housekeeping())
        store = open_postgres(address)
        opened.push_async_callback(store.close)
        await store.commit(Commit(puts=(Put(b"Kwarm", b""),)))
        await store.read((b"Kwarm",), replay_record=claim(b"warm"))
        await store.read((b"Kwarm",))
        await store.read((b"Kwarm",), ranges=(Range(b"K"),))
        yield store, relay


@dataclass
class Timed:
    """A database and its stores with one clock that the test sets."""

    url: str
    set_database: Callable[[float], None]
    clock: FixedClock

    def advance(self, seconds: float) -> None:
        self.clock.advance(seconds)
        self.set_database(self.clock.now())

    @asynccontextmanager
    async def keeper(
        self, clock: FixedClock | None = None
    ) -> AsyncIterator[tuple[Store, Connections]]:
        """A store of a process, and connections to run its housekeeping."""
        store = open_postgres(self.url, clock=clock or self.clock)
        keeping = Connections(self.url, size=1, session={}, opened=prepare_tables)
        try:
            yield store, keeping
        finally:
            await keeping.close()
            await store.close()

    async def round(self, keeping: Connections, clock: FixedClock | None = None) -> bool:
        return await do_housekeeping(
            keeping, DatabaseClock(clock or self.clock), longest_life_s=LIFE_S
        )


@pytest.fixture
def timed(clock: FixedClock, monkeypatch: pytest.MonkeyPatch) -> Timed:
    """A database and a process with equal clocks. Only the test runs housekeeping."""
    # a store would take a turn of its own within a minute
    monkeypatch.setattr(engine, "HOUSEKEEPING_S", 1e9)
    url, set_database = postgres_server().clocked_database()
    set_database(clock.now())
    return Timed(url, set_database, clock)


async def after(delay_s: float, what: Awaitable[T]) -> T:
    """Run a function after a delay."""
    begun = asyncio.Event()
    asyncio.get_running_loop().call_later(delay_s, begun.set)
    await begun.wait()
    return await what


async def count(store: Store, key: bytes) -> int:
    return counter_of((await store.read((key,))).records[0])


def delays(number: int) -> Iterator[tuple[float, float]]:
    """Yield pairs of short delays, the same in every run."""
    source = random.Random(SEED)
    for _ in range(number):
        yield source.uniform(0, LONGEST_DELAY_S), source.uniform(0, LONGEST_DELAY_S)


async def test_one_store_sees_what_the_other_committed(pair: tuple[Store, Store]) -> None:
    """A read sees every commit acknowledged on another machine before it (ST1)."""
    here, there = pair
    for at in range(20):
        await here.commit(Commit(puts=(Put(b"Ka", b"%d" % at),)))
        record = (await there.read((b"Ka",))).records[0]
        assert record is not None
        assert record.value == b"%d" % at


async def test_claim_of_reads_is_once_on_all_machines(pair: tuple[Store, Store]) -> None:
    """Many concurrent reads with one replay record on two machines report one first use (ST4)."""
    for at in range(20):
        snapshots = await asyncio.gather(
            *[store.read(replay_record=claim(b"%d" % at)) for store in pair for _ in range(5)]
        )
        assert sum(snapshot.is_first_use is True for snapshot in snapshots) == 1


async def test_claim_of_commits_is_once_on_all_machines(pair: tuple[Store, Store]) -> None:
    """Many concurrent commits with one replay record on two machines are written once (ST4)."""
    for at in range(20):
        commits = [Commit(adds=(Add(b"cA", 1),), replay_record=claim(b"%d" % at)) for _ in range(4)]
        outcomes = await asyncio.gather(
            *[pair[place % 2].commit(commit) for place, commit in enumerate(commits)]
        )
        assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 1
        assert (await pair[1].read(replay_record=claim(b"%d" % at))).is_first_use is False
    assert await count(pair[0], b"cA") == 20


async def test_claims_in_any_order_do_not_lock_each_other_out(pair: tuple[Store, Store]) -> None:
    """Batches with the same replay records in opposite orders both end, and each record has one
    first use."""
    names = [b"%d" % at for at in range(50)]
    forwards = [pair[0].read(replay_record=claim(name)) for name in names]
    backwards = [pair[1].read(replay_record=claim(name)) for name in reversed(names)]
    snapshots = await asyncio.gather(*forwards, *backwards)
    assert sum(snapshot.is_first_use is True for snapshot in snapshots) == len(names)


async def test_revocation_wins_against_every_write_that_commits_after_it(
    pair: tuple[Store, Store],
) -> None:
    """If a write and a revocation race on two machines, nothing is written after the revocation was
    acknowledged."""
    here, there = pair
    passed = 0
    for at, (writing, revoking) in enumerate(delays(INTERLEAVINGS)):
        mark, row = b"L%03d" % at, b"K%03d" % at
        await here.commit(Commit(puts=(Put(mark, LIVE_MARK),)))
        write = Commit(puts=(Put(row, b"v", expect=ABSENT),), live=(mark,))

        async def revoked(mark: bytes = mark, row: bytes = row) -> bool:
            assert isinstance(await there.commit(Commit(puts=(Put(mark, b"R"),))), Committed)
            return (await there.read((row,))).records[0] is not None

        outcome, seen = await asyncio.gather(
            after(writing, here.commit(write)), after(revoking, revoked())
        )
        assert isinstance(
            await here.commit(Commit(puts=(Put(row + b"x", b"v"),), live=(mark,))), Refused
        )
        assert (
            seen
            == ((await here.read((row,))).records[0] is not None)
            == isinstance(outcome, Committed)
        )
        passed += isinstance(outcome, Committed)
    assert 0 < passed < INTERLEAVINGS  # both orders were met


async def test_ST25_tables_of_an_earlier_version(url: str) -> None:
    """Tables without positions get them at the next start, also from several processes at once, and
    their rows stay."""
    store = open_postgres(url)
    await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    await store.close()
    for statement in (
        "alter table sealspace_map drop column q",
        "delete from sealspace_schema where name in ('positions', 'history', 'history-of-server')",
    ):
        postgres_server().run(_name(url), statement)
    async with AsyncExitStack() as opened:
        stores = [open_postgres(url) for _ in range(4)]
        for one in stores:
            opened.push_async_callback(one.close)
        await asyncio.gather(*[one.read((b"Ka",)) for one in stores])
    store = open_postgres(url)
    sequence = b"H" + b"s" * 16
    outcome = await store.commit(Commit(puts=(Put(b"Kb", b"2", sequence=sequence),)))
    assert isinstance(outcome, Committed)
    snapshot = await store.read((b"Ka",), ranges=(Range(sequence, by_number=True),))
    record = snapshot.records[0]
    assert record is not None and record.value == b"1"
    assert [key for key, _ in snapshot.pages[0].rows] == [sequence + (1).to_bytes(8, "big") + b"Kb"]
    await store.close()


async def test_lease_has_one_holder_on_all_machines(pair: tuple[Store, Store]) -> None:
    """Two machines that request the lease concurrently get it one after the other."""
    for at in range(20):
        leases = [
            Lease(store, owner=bytes((at, place)), ttl_s=120) for place, store in enumerate(pair)
        ]
        taken = await asyncio.gather(*[lease.take(now=1000.0 * at) for lease in leases])
        assert sorted(taken) == [False, True]
        holder, other = (leases[place] for place in (taken.index(True), taken.index(False)))
        assert not await other.take(now=1000.0 * at + 100)
        if at % 2:
            await holder.release()
            assert await other.take(now=1000.0 * at + 101)
            await other.release()
        else:
            assert await other.take(now=1000.0 * at + 400)
            assert not await holder.take(now=1000.0 * at + 401)
            await other.release()


async def test_creations_are_once_on_all_machines(pair: tuple[Store, Store]) -> None:
    """One of two commits on two machines that expect absence succeeds, with or without a tombstone
    (ST5)."""
    for at, (one, other) in enumerate(delays(100)):
        key = b"K%03d" % at
        if at % 2:
            await pair[0].commit(Commit(puts=(Put(key, None),)))
        outcomes = await asyncio.gather(
            after(one, pair[0].commit(Commit(puts=(Put(key, b"0", expect=ABSENT),)))),
            after(other, pair[1].commit(Commit(puts=(Put(key, b"1", expect=ABSENT),)))),
        )
        winners = [
            b"%d" % place
            for place, outcome in enumerate(outcomes)
            if isinstance(outcome, Committed)
        ]
        record = (await pair[0].read((key,))).records[0]
        assert record is not None
        assert winners == [record.value]


async def test_replacements_are_handed_on_without_a_gap(pair: tuple[Store, Store]) -> None:
    """If two machines replace one row, each put subtracts the weight of the row it replaced, and
    none is lost (ST7)."""
    commits = [
        Commit(puts=(Put(b"Ka", b"%d" % at, weight_bytes=1 << at, account=b"cA"),))
        for at in range(60)
    ]
    outcomes = await asyncio.gather(
        *[pair[at % 2].commit(commit) for at, commit in enumerate(commits)]
    )
    assert [Committed()] * 60 == outcomes
    last, weighed = (await pair[0].read((b"Ka", b"cA"))).records
    assert last is not None
    assert last.value is not None
    assert counter_of(weighed) == 1 << int(last.value)


async def test_bound_is_exact_on_all_machines(pair: tuple[Store, Store]) -> None:
    """Commits of two machines succeed exactly as often as a limit allows, on a counter that did not
    exist (ST7)."""
    commits = [
        Commit(puts=(Put(b"K%02d" % at, b"v"),), adds=(Add(b"cA", 1, at_most=7),))
        for at in range(40)
    ]
    outcomes = await asyncio.gather(
        *[pair[at % 2].commit(commit) for at, commit in enumerate(commits)]
    )
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 7
    assert await count(pair[0], b"cA") == 7
    assert len((await pair[0].read(ranges=(Range(b"K"),))).pages[0].rows) == 7


async def test_accounts_are_exact_whatever_meets(pair: tuple[Store, Store], url: str) -> None:
    """After hundreds of concurrent puts and deletes of few rows, each account equals the weight of
    its rows (ST7)."""
    source = random.Random(SEED)

    def anything() -> Commit:
        rows = source.sample(range(6), source.randint(1, 3))
        puts = [
            Put(
                b"K%d" % row,
                None if source.random() < 0.25 else b"v",
                expect=source.choice((b"", b"", ABSENT)),
                weight_bytes=source.randint(0, 9),
                account=source.choice((b"cA", b"cB", None)),
            )
            for row in rows
        ]
        return Commit(puts=tuple(puts), adds=(Add(b"cA", 0, at_most=40),))

    async def work(store: Store) -> None:
        for _ in range(60):
            await store.commit(anything())

    await asyncio.gather(*[work(store) for store in pair for _ in range(3)])
    connection = await asyncpg.connect(url)
    weights = {row["a"]: row["w"] for row in await connection.fetch(_WEIGHTS)}
    carried = await connection.fetchval("select count(*) from sealspace_map where o is not null")
    await connection.close()
    for account in (b"cA", b"cB"):
        assert await count(pair[0], account) == weights.get(account, 0)
    assert carried == 0


_WEIGHTS = "select a, sum(w)::bigint as w from sealspace_map where a is not null group by a"


async def test_opening_an_empty_database_from_many_sides(url: str) -> None:
    """Stores that create the tables at the same time all work."""
    async with AsyncExitStack() as opened:
        stores = [open_postgres(url) for _ in range(6)]
        for store in stores:
            opened.push_async_callback(store.close)
        await asyncio.gather(*[store.commit(Commit(adds=(Add(b"cA", 1),))) for store in stores])
        assert await count(stores[0], b"cA") == 6


async def test_tables_of_another_version_are_refused(url: str) -> None:
    """A database with tables of another version is not changed."""
    store = open_postgres(url)
    await store.read()
    await store.close()
    postgres_server().run(
        _name(url), "update sealspace_schema set value = 99 where name = 'version'"
    )
    store = open_postgres(url)
    with pytest.raises(
        SchemaMismatch, match=r"has schema version 99; this version of sealspace needs 1$"
    ):
        await store.read()
    await store.close()


async def test_standby_is_refused(url: str) -> None:
    """A read-only server is not used for reads either, because it may lag behind (ST1)."""
    postgres_server().run(
        "postgres", f"alter database {_name(url)} set default_transaction_read_only = on"
    )
    store = open_postgres(url)
    with pytest.raises(StoreUnavailable):
        await store.read((b"Ka",))
    await store.close()


async def test_address_is_in_no_message(url: str) -> None:
    """Errors of a connection do not contain the password of the address."""
    store = open_postgres("postgresql://user:hush@127.0.0.1:1/db")
    with pytest.raises(StoreUnavailable) as raised:
        await store.commit(Commit())
    assert "hush" not in str(raised.value)
    assert "hush" not in repr(store)
    await store.close()


async def test_round_trips(through_relay: tuple[Store, Relay]) -> None:
    """A commit, a read with a claim, a page, and all reads of one turn of the loop are one round
    trip each."""
    store, relay = through_relay

    async def trips(*what: Awaitable[object]) -> int:
        before = relay.round_trips
        await asyncio.gather(*what)
        return relay.round_trips - before

    assert (
        await trips(
            store.commit(
                Commit(puts=(Put(b"Ka", b"1"),), live=(), adds=(Add(b"cA", 1, at_most=5),))
            )
        )
        == 1
    )
    assert await trips(store.read((b"Ka", b"Kb"), replay_record=claim(b"one"))) == 1
    assert await trips(store.read((b"Ka",), ranges=(Range(b"K"),))) == 1
    assert (
        await trips(
            *[store.read((b"K%d" % at,), replay_record=claim(b"%d" % at)) for at in range(100)]
        )
        == 1
    )


async def test_commit_whose_answer_was_lost_is_settled(through_relay: tuple[Store, Relay]) -> None:
    """A commit that was written before its connection broke is recognised, and written once
    (ST4)."""
    store, relay = through_relay
    for is_first_use in (None, claim(b"one")):
        relay.lose(Loss.ANSWER)
        outcome = await store.commit(
            Commit(puts=(Put(b"Ka", b"1"),), adds=(Add(b"cA", 1),), replay_record=is_first_use)
        )
        assert relay.lost.is_set()
        assert outcome == Committed(already_applied=True)
    assert await count(store, b"cA") == 2


async def test_commit_that_was_never_heard_is_sent_again(
    through_relay: tuple[Store, Relay],
) -> None:
    """A commit whose request was lost is written on the next connection."""
    store, relay = through_relay
    relay.lose(Loss.QUESTION)
    outcome = await store.commit(Commit(puts=(Put(b"Ka", b"1"),), adds=(Add(b"cA", 1),)))
    assert relay.lost.is_set()
    assert outcome == Committed()
    assert await count(store, b"cA") == 1


async def test_refusal_after_a_lost_answer_is_not_trusted(
    through_relay: tuple[Store, Relay],
) -> None:
    """After a lost reply a refusal of the repeated commit leaves the outcome unknown."""
    store, relay = through_relay
    relay.lose(Loss.ANSWER)
    with pytest.raises(StoreUnavailable):
        await store.commit(Commit(puts=(Put(b"Kwarm", b"1", expect=ABSENT),)))


async def test_commit_that_goes_on_unheard_happens_once(
    through_relay: tuple[Store, Relay], url: str
) -> None:
    """If a commit is sent again while the first statement still waits for a lock, both together are
    written once."""
    store, relay = through_relay
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("select 1 from sealspace_map where k = 'Kwarm'::bytea for update")
        relay.lose(Loss.LISTENER)
        commit = asyncio.ensure_future(
            store.commit(
                Commit(
                    puts=(Put(b"Kwarm", b"1"),), adds=(Add(b"cA", 1),), replay_record=claim(b"one")
                )
            )
        )
        await relay.lost.wait()
        await _until_waiting(blocker, 2)
    assert isinstance(await commit, Committed)
    await _until_waiting(blocker, 0)
    assert await count(store, b"cA") == 1
    await blocker.close()


async def test_replay_record_outlives_a_lost_answer(through_relay: tuple[Store, Relay]) -> None:
    """A replay record that was written before its connection broke is the first use of the read
    that wrote it."""
    store, relay = through_relay
    for loss in (Loss.ANSWER, Loss.QUESTION):
        relay.lose(loss)
        assert (
            await store.read((b"Kwarm",), replay_record=claim(loss.name.encode()))
        ).is_first_use is True
        assert relay.lost.is_set()
        assert (await store.read(replay_record=claim(loss.name.encode()))).is_first_use is False


async def test_database_that_is_away_and_comes_back(
    through_relay: tuple[Store, Relay], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the database reads and commits are unavailable. When it is back they work without
    intervention."""
    store, relay = through_relay
    await relay.shut()
    with monkeypatch.context() as patch:
        patch.setattr(_pool, "RECONNECT_WITHIN_S", 0.0)
        for _ in range(2):
            with pytest.raises(StoreUnavailable):
                await store.read((b"Kwarm",))
            with pytest.raises(StoreUnavailable):
                await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    await relay.open()
    assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)
    assert (await store.read((b"Ka",))).records[0] is not None


async def test_closing_fails_what_is_under_way(url: str) -> None:
    """A commit that waits for a lock when the store is closed is unavailable, and the store is
    closed at once."""
    store = open_postgres(url)
    await store.commit(Commit(puts=(Put(b"Ka", b"1"),)))
    blocker = await asyncpg.connect(url)
    async with blocker.transaction():
        await blocker.execute("select 1 from sealspace_map for update")
        commit = asyncio.ensure_future(store.commit(Commit(puts=(Put(b"Ka", b"2"),))))
        await _until_waiting(blocker, 1)
        await store.close()
        with pytest.raises(StoreUnavailable):
            await commit
    await blocker.close()


async def test_closing_between_preparing_and_executing(
    url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A statement that was prepared and not yet executed when the store is closed is unavailable,
    like any other."""
    connections = Connections(url, size=1, session={}, opened=prepare_tables)
    await connections.run("select 1", [])
    prepare = asyncpg.Connection._get_statement

    async def prepare_and_hang_up(*arguments: object, **more: object) -> object:
        prepared = await prepare(*arguments, **more)
        await connections.close()
        return prepared

    monkeypatch.setattr(asyncpg.Connection, "_get_statement", prepare_and_hang_up)
    with pytest.raises(StoreUnavailable):
        await connections.run("select 2", [])


async def test_housekeeping_forgets_claims_and_keeps_them_refused(timed: Timed) -> None:
    """Expired replay records are removed one round after their minute was closed, and never count
    as a first use again (ST4)."""
    clock = timed.clock
    async with timed.keeper() as (store, keeping):
        read = ReplayRecord(b"read".ljust(32, b"."), int(clock.now()) + 60)
        committed = ReplayRecord(b"committed".ljust(32, b"."), int(clock.now()) + 60)
        durable = replay_key(replay_minute4(committed.expires_at), committed.key[:16])
        assert (await store.read(replay_record=read)).is_first_use is True
        assert isinstance(await store.commit(Commit(replay_record=committed)), Committed)
        assert await timed.round(keeping)
        assert not await timed.round(keeping)  # another process had this turn
        timed.advance(120)
        assert await timed.round(keeping)
        assert (await store.read((durable,))).records[0] is not None
        for _ in range(2):
            timed.advance(3600)
            assert await timed.round(keeping)
        assert (await store.read((durable,))).records == (None,)
        assert await keeping.run("select 1 from sealspace_claims where k < $1", [b"\xff"]) == []
        for old in (read, committed):
            snapshot = await store.read(replay_record=old)
            assert snapshot.is_first_use is False
            assert snapshot.is_use_unknown is True
            assert isinstance(await store.commit(Commit(replay_record=old)), Refused)
        assert isinstance(await store.commit(Commit(puts=(Put(b"Ka", b"1"),))), Committed)


async def test_clocks_are_compared(timed: Timed) -> None:
    """A store reports how far its clock is ahead of the database, and how far ahead the floor of
    replay records is (ST9)."""
    ahead = FixedClock(timed.clock.now() + 61)
    async with timed.keeper(ahead) as (store, keeping):
        assert isinstance(store, SharedStore)
        assert await store.clocks() == Clocks(ahead_s=61.0, acceptance_delay_s=0.0)
        assert (await store.clocks()).is_skewed
        assert not await timed.round(keeping, ahead)
        assert (await store.read((REPLAY_FLOOR_KEY,))).records == (None,)
        ahead.advance(-1)
        assert not (await store.clocks()).is_skewed
        assert await timed.round(keeping, ahead)
        timed.set_database(timed.clock.now() - 3600)
        reported = await store.clocks()
        assert reported.ahead_s == 3660.0
        assert reported.acceptance_delay_s > 3000
        wrong = [
            found.text
            for found in await examine(timed.url, clock=ahead)
            if found.severity == "wrong"
        ]
        assert any("3660 s ahead of the database's" in text for text in wrong)
        assert any("replay records were deleted" in text for text in wrong)


async def test_rows_that_a_clock_ahead_writes_are_of_the_database_s_time(timed: Timed) -> None:
    """Tombstones and outcomes of a process whose clock is a year ahead are removed like those of
    others (ST9)."""
    ahead = FixedClock(timed.clock.now() + 365 * 86_400)
    async with timed.keeper(ahead) as (store, _), timed.keeper() as (other, keeping):
        await store.commit(Commit(puts=(Put(b"Ka", None),)))
        assert len((await other.read(ranges=(Range(b"C"),))).pages[0].rows) == 1
        for _ in range(2):
            timed.advance(86_400 + 3600)
            assert await timed.round(keeping)
        assert (await other.read((b"Ka",))).records == (None,)
        assert (await other.read(ranges=(Range(b"C"),))).pages[0].rows == ()


async def test_housekeeping_removes_old_tombstones(timed: Timed) -> None:
    """A deleted row differs from one that was never written for a day; values and recent tombstones
    are kept (M31)."""
    async with timed.keeper() as (store, keeping):
        await store.commit(Commit(puts=(Put(b"Ka", None), Put(b"Kb", b"1"))))
        timed.advance(86_400 + 3600)
        await store.commit(Commit(puts=(Put(b"Kc", None),)))
        assert await timed.round(keeping)
        gone, value, young = (await store.read((b"Ka", b"Kb", b"Kc"))).records
        assert gone is None
        assert value is not None
        assert young is not None


async def test_what_lies_behind_deleted_rows_is_found(
    url: str, tmp_path: Path, entropy: CountingEntropy
) -> None:
    """A page of deleted rows is empty and reports that more rows follow, so scans of due work,
    expiries and records continue."""
    record = AuditRecord(at=NOW, action="kv.put", actor="did:key:zA", subject="one")
    object_name = ObjectName(b"s" * 16, b"d" * 32, b"g" * 16)
    async with AsyncExitStack() as opened:
        store = open_postgres(url)
        opened.push_async_callback(store.close)
        due = due_put(object_name, due_at=NOW, unlink=True, entropy=entropy)
        await store.commit(Commit(puts=(due, record.put(entropy))))
        connection = await asyncpg.connect(url)
        opened.push_async_callback(connection.close)
        for prefix in (DUE_PREFIX, AUDIT_PREFIX):
            await connection.execute(
                "insert into sealspace_map (k, s, w, d) select $1::bytea || int8send(at), $2, 0, $3"
                " from generate_series(1, $4::int) as at",
                *(prefix, b"." * 16, int(NOW) // 60, MAX_PAGE_SCAN + 1),
            )
        page = (await store.read(ranges=(Range(DUE_PREFIX, limit=9),))).pages[0]
        assert page.rows == ()
        assert page.more is True
        assert [key for key, _ in await rows_until(store, DUE_PREFIX, micros8(NOW), limit=9)] == [
            due.key
        ]
        assert await rows_until(store, DUE_PREFIX, micros8(0.01), limit=9) == ()
        assert await collect(store, ObjectFolder(tmp_path), now=NOW + 1, entropy=entropy) == 1
        chain = Chain(node_did="did:key:zNode", store_id=b"i" * 16, sign=lambda _: b"-")
        assert (await seal_batch(store, chain, now=NOW + 100, is_last=True)).appended == 1


async def _until_waiting(connection: "asyncpg.Connection[asyncpg.Record]", number: int) -> None:
    """Wait until this many statements of stores wait for a lock or are at work."""
    busy = (
        "select count(*) from pg_stat_activity where application_name = 'sealspace' and state ="
        " 'active'"
    )
    async with asyncio.timeout(PATIENCE_S):
        while True:
            await connection.execute("select pg_stat_clear_snapshot()")
            if await connection.fetchval(f"{busy} and datname = current_database()") == number:
                return


def _name(url: str) -> str:
    return urlsplit(url).path.lstrip("/")
