"""Tests of the collector, which removes unreferenced bodies and keeps acknowledged ones."""

import os

import pytest
from space_grants import NOW
from value_bench import LARGE, SMALL, SPACE, Bench, Write, in_pieces

from spaces.keyspace import BODIES_COUNTER
from spaces.space_errors import RecordDamaged, StoreFull, StoreUnavailable
from spaces.store.contract import Committed, Refused, counter_of
from spaces.values.collector import (
    ORPHAN_AFTER_S,
    UNFINISHED_AFTER_S,
    collect,
    sweep_orphans,
    sweep_unfinished,
)
from spaces.values.object_records import UNLINK_AFTER_S
from spaces.values.value_heads import head_key
from spaces.values.value_writes import Write as ValueWrite

BODY = b"never committed" * 10_000


async def test_collector_removes_what_nobody_refers_to(bench: Bench) -> None:
    """The collector deletes an unreferenced body's record at once and its file an hour later."""
    await bench.write(Write("a", LARGE))
    head = await bench.head("a")
    assert head is not None
    await bench.write(Write("a", SMALL))
    assert await bench.references(LARGE) == 0
    assert await bench.usage() == len(SMALL)
    await bench.collect(NOW + 1)
    assert await bench.references(LARGE) is None
    assert len(bench.names()) == 1
    assert await bench.values.read_body(head) == LARGE
    await bench.collect(NOW + UNLINK_AFTER_S)
    assert len(bench.names()) == 1
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert bench.names() == []
    with pytest.raises(RecordDamaged):
        await bench.values.read_body(head)


async def test_collector_leaves_what_came_back(bench: Bench) -> None:
    """The collector keeps a body that was put again before its record was deleted."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("a", None))
    await bench.write(Write("a", LARGE))
    await bench.collect(NOW + 1)
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert await bench.references(LARGE) == 1
    assert await bench.body("a") == LARGE


async def test_collector_finds_nothing_twice(bench: Bench) -> None:
    """Repeating a collection deletes nothing more, and later work stays queued."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("a", None))
    assert await collect(bench.store, bench.files, now=NOW - 1, entropy=bench.entropy) == 0
    assert await collect(bench.store, bench.files, now=NOW, entropy=bench.entropy) == 1
    assert await collect(bench.store, bench.files, now=NOW, entropy=bench.entropy) == 0


async def orphans(bench: Bench, now: float) -> int:
    return await sweep_orphans(bench.store, bench.files, now=now, entropy=bench.entropy)


def age(bench: Bench) -> None:
    """Set the modification time of every file to NOW."""
    for place in bench.names():
        os.utime(place, (NOW, NOW))


async def test_orphans_go_after_a_day(bench: Bench) -> None:
    """The sweep deletes a file without a record an hour after finding it a day old."""
    await bench.write(Write("a", LARGE))
    await bench.plan(Write("b", BODY))
    age(bench)
    await bench.plan(Write("c", b"young" * 20_000))
    found_at = NOW + ORPHAN_AFTER_S + 1
    assert await orphans(bench, NOW + ORPHAN_AFTER_S) == 0
    assert await orphans(bench, found_at) == 1
    await bench.collect(found_at + UNLINK_AFTER_S - 1)
    assert len(bench.names()) == 3
    await bench.collect(found_at + UNLINK_AFTER_S + 1)
    assert len(bench.names()) == 2
    assert await bench.body("a") == LARGE


async def test_file_of_a_record_that_came_back_goes(bench: Bench) -> None:
    """A body that is put again while its record is being deleted leaves no old file."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("a", None))
    await bench.write(Write("a", LARGE))
    assert len(bench.names()) == 2
    await bench.collect(NOW + UNLINK_AFTER_S + 1)
    assert await bench.body("a") == LARGE
    assert len(bench.names()) == 1


async def test_unfinished_bodies_go_after_an_hour(bench: Bench) -> None:
    """The sweep deletes an unfinished body after an hour without new bytes."""
    staging = bench.values.staging()
    body = await staging.receive(in_pieces(8 * LARGE))
    (place,) = bench.names()
    os.utime(place, (NOW, NOW))
    assert await sweep_unfinished(bench.files, now=NOW + UNFINISHED_AFTER_S) == 0
    assert body.file is not None
    assert await sweep_unfinished(bench.files, now=NOW + UNFINISHED_AFTER_S + 1) == 1
    draft = await bench.values.draft(SPACE, (ValueWrite("a", body),), (None,))
    with pytest.raises(StoreUnavailable):
        await draft.finalize(now=NOW)


async def test_nothing_to_sweep(bench: Bench) -> None:
    """A sweep before the first body finds no folder and raises no error."""
    assert await orphans(bench, NOW) == 0
    assert await sweep_unfinished(bench.files, now=NOW) == 0
    assert await collect(bench.store, bench.files, now=NOW, entropy=bench.entropy) == 0


# --- what all bodies have together


async def counted_bytes(bench: Bench) -> int:
    return counter_of((await bench.store.read((BODIES_COUNTER,))).records[0])


async def test_bodies_are_counted_while_their_files_lie_there(bench: Bench) -> None:
    """The total size of bodies includes each file once, from its commit until its deletion."""
    await bench.write(Write("a", LARGE), Write("b", LARGE), Write("c", LARGE[1:]))
    assert await counted_bytes(bench) == 2 * len(LARGE) - 1
    await bench.write(Write("a", None), Write("b", SMALL), Write("c", None))
    await bench.collect(NOW + 1)
    await bench.write(Write("c", LARGE[1:]))
    assert await counted_bytes(bench) == 3 * len(LARGE) - 2
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert await counted_bytes(bench) == len(LARGE) - 1
    assert len(bench.names()) == 1
    await bench.plan(Write("d", BODY))
    age(bench)
    assert await orphans(bench, NOW + ORPHAN_AFTER_S + 1) == 1
    await bench.collect(NOW + 2 * ORPHAN_AFTER_S)
    assert await counted_bytes(bench) == len(LARGE) - 1
    assert len(bench.names()) == 1


async def test_bodies_are_bounded_together(bench: Bench) -> None:
    """A commit is refused if it would exceed the total limit of bodies, even among concurrent
    commits."""
    bench.files.max_bytes = 2 * len(LARGE)
    await bench.write(Write("a", LARGE))
    racing = [await bench.plan(Write(path, LARGE[1:] + path.encode())) for path in "bc"]
    assert [type(await bench.commit(plan)) for plan in racing] == [Committed, Refused]
    with pytest.raises(StoreFull):
        await bench.write(Write("d", LARGE[2:]))
    await bench.write(Write("d", LARGE), Write("e", SMALL))
    await bench.write(Write("a", None), Write("b", None), Write("d", None))
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    await bench.collect(NOW + 2 * UNLINK_AFTER_S + 4)
    await bench.write(Write("d", LARGE[2:]))


# --- a put that meets the collector is never acknowledged and gone


async def test_sharing_put_meets_the_collector(bench: Bench) -> None:
    """A put that shares a body is refused if the collector deleted the body first."""
    await bench.write(Write("a", LARGE))
    async with bench.values.staging() as staging:
        sharing = await bench.plan(Write("b", LARGE), staging=staging)
        await bench.write(Write("a", None))
        await bench.collect(NOW + UNLINK_AFTER_S + 2)
        assert isinstance(await bench.commit(sharing), Refused)
        staging.recall()
        records = (await bench.store.read((head_key(SPACE, "b"),))).records
        draft = await bench.values.draft(SPACE, (ValueWrite("b", sharing.bodies[0]),), records)
        plan = await draft.finalize(now=NOW)
        assert isinstance(await bench.commit(type(sharing)(plan, draft, sharing.bodies)), Committed)
    await bench.collect(NOW + 3 * UNLINK_AFTER_S)
    assert await bench.body("b") == LARGE


async def test_collector_meets_a_sharing_put(bench: Bench) -> None:
    """The collector keeps a record that a put shared first."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("b", LARGE))
    await bench.write(Write("a", None))
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert await bench.references(LARGE) == 1
    assert await bench.body("b") == LARGE


@pytest.mark.parametrize("swept_before", [False, True], ids=["first sweep", "later sweep"])
async def test_put_that_stood_still_meets_the_sweep(bench: Bench, swept_before: bool) -> None:
    """A put that named its file a day ago is refused if a sweep deleted the file."""
    if swept_before:
        await bench.plan(Write("z", BODY))
        age(bench)
        assert await orphans(bench, NOW + ORPHAN_AFTER_S + 1) == 1
        await bench.collect(NOW + 2 * ORPHAN_AFTER_S)
    async with bench.values.staging() as staging:
        standing = await bench.plan(Write("a", LARGE), staging=staging)
        age(bench)
        assert await orphans(bench, NOW + ORPHAN_AFTER_S + 1) == 1
        assert isinstance(await bench.commit(standing), Refused)
        staging.recall()
        draft = await bench.values.draft(SPACE, (ValueWrite("a", standing.bodies[0]),), (None,))
        plan = await draft.finalize(now=NOW)
        assert isinstance(
            await bench.commit(type(standing)(plan, draft, standing.bodies)), Committed
        )
    await bench.collect(NOW + 2 * ORPHAN_AFTER_S)
    assert await bench.body("a") == LARGE
    assert len(bench.names()) == 1


async def test_sweep_sees_what_was_committed_before(bench: Bench) -> None:
    """A sweep keeps the file of a put that was committed before the sweep began."""
    standing = await bench.plan(Write("a", LARGE))
    age(bench)
    assert isinstance(await bench.commit(standing), Committed)
    assert await orphans(bench, NOW + ORPHAN_AFTER_S + 1) == 0
    assert await bench.body("a") == LARGE
