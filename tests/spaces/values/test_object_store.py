"""Tests of the behaviour that folders and buckets of bodies share."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from pathlib import Path

import obstore
import pytest
from blake3 import blake3
from s3_server import s3_server
from value_bench import LARGE, SMALL, SPACE, Bench, Write, in_pieces

from spaces.space_errors import RecordDamaged, StoreUnavailable
from spaces.store.contract import Store
from spaces.values.collector import (
    ORPHAN_AFTER_S,
    UNFINISHED_AFTER_S,
    collect,
    sweep_orphans,
    sweep_unfinished,
)
from spaces.values.object_bucket import PART_BYTES, ObjectBucket, key_of
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_records import UNLINK_AFTER_S, ObjectName
from spaces.values.object_store import PIECE_BYTES, ObjectStore
from spaces.values.value_bodies import INLINE_BYTES, Staging
from spaces.values.value_heads import head_key
from spaces.values.value_storage import Values
from spaces.values.value_writes import Write as ValueWrite

SIZES = (
    INLINE_BYTES + 1,
    PIECE_BYTES,
    3 * PIECE_BYTES + 7,
    PART_BYTES,
    PART_BYTES + 1,
    2 * PART_BYTES + PIECE_BYTES,
)
STORE_ID = b"i" * 16


@dataclass(frozen=True)
class Place:
    """A place for bodies, with functions to inspect and damage its contents."""

    objects: ObjectStore
    names: Callable[[], list[str]]
    spoil: Callable[[ObjectName, bytes], object]


async def _in_folder(folder: Path) -> Place:
    files = ObjectFolder(folder)

    def names() -> list[str]:
        return sorted(
            str(place.relative_to(folder)) for place in folder.rglob("*") if place.is_file()
        )

    return Place(files, names, lambda name, data: files.place_of(name).write_bytes(data) and None)


async def _in_bucket(_folder: Path) -> Place:
    server = s3_server()
    place = server.new_bucket()
    bucket = ObjectBucket(place, server.access)
    await bucket.claim(STORE_ID)

    def names() -> list[str]:
        unfinished = ["incoming/parts"] * server.unfinished(place)
        return [key for key in server.keys(place) if key != "store"] + unfinished

    return Place(
        bucket, names, lambda name, data: obstore.put(bucket.objects, key_of(name), data) and None
    )


@pytest.fixture(params=[_in_folder, _in_bucket], ids=["folder", "bucket"])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> Place:
    """An empty place of each kind: a folder and a bucket."""
    made: Place = await request.param(tmp_path / "blobs")
    return made


@pytest.fixture
def bench(one_store: Store, place: Place, tmp_path: Path) -> Bench:
    """Values over an empty store that keeps bodies in the place under test."""
    bench = Bench(one_store, tmp_path / "unused")
    bench.files = place.objects  # type: ignore[assignment]  # any place of bodies
    bench.values = Values(one_store, place.objects, bench.entropy)
    return bench


def name_for(digest: bytes, generation: bytes = b"g") -> ObjectName:
    return ObjectName(b"s" * 16, digest, generation * 16)


def made(size_bytes: int) -> bytes:
    return blake3(b"%d" % size_bytes).digest(length=size_bytes)


async def kept(place: Place, data: bytes) -> ObjectName:
    """Store a body under a name of its own."""
    incoming = await place.objects.begin()
    async for piece in in_pieces(data, PIECE_BYTES):
        await incoming.append(piece)
    digest, size_bytes = await incoming.finish()
    assert digest == blake3(data).digest()
    assert size_bytes == len(data)
    name = name_for(digest)
    await incoming.rename(name)
    return name


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_an_upload_is_read_back_before_it_has_a_name(place: Place, size_bytes: int) -> None:
    """A completed upload is read back unchanged, and is stored under its name afterwards."""
    data = made(size_bytes)
    incoming = await place.objects.begin()
    async for piece in in_pieces(data, PIECE_BYTES):
        await incoming.append(piece)
    digest, _ = await incoming.finish()
    assert await incoming.contents() == data
    await incoming.rename(name_for(digest))
    async with await place.objects.open(name_for(digest), size_bytes=size_bytes) as body:
        assert await body.read() == data


@pytest.mark.parametrize("size_bytes", SIZES)
async def test_body_is_what_came(place: Place, size_bytes: int) -> None:
    """A stored body is read back unchanged, in pieces of bounded size."""
    data = made(size_bytes)
    name = await kept(place, data)
    async with await place.objects.open(name, size_bytes=size_bytes) as body:
        pieces = [piece async for piece in body.pieces()]
        assert await body.read() == data
    assert b"".join(pieces) == data
    assert max(map(len, pieces)) <= PIECE_BYTES
    assert [key_of(name)] == place.names()


async def test_parts_of_a_body(place: Place) -> None:
    """Reading a range returns the same bytes as slicing the whole body."""
    data = made(SIZES[-1])
    name = await kept(place, data)
    body = await place.objects.open(name, size_bytes=len(data))
    ends = len(data)
    async with body:
        for start, stop in [
            (0, 1),
            (PIECE_BYTES - 1, PIECE_BYTES + 1),
            (5, ends),
            (ends - 3, None),
            (7, 7),
            (9, 3),
        ]:
            assert b"".join([piece async for piece in body.pieces(start, stop)]) == data[start:stop]
    with pytest.raises(StoreUnavailable):
        await body.read()


@pytest.mark.parametrize("size_bytes", [len(LARGE), PART_BYTES + 1])
async def test_body_has_one_name_at_a_time(place: Place, size_bytes: int) -> None:
    """A renamed body is found under its new name only, and a discarded body under none."""
    data = made(size_bytes)
    incoming = await place.objects.begin()
    await incoming.append(data)
    digest, _ = await incoming.finish()
    first, second = name_for(digest, b"1"), name_for(digest, b"2")
    await incoming.rename(first)
    await incoming.rename(second)
    assert [key_of(second)] == place.names()
    async with await place.objects.open(second, size_bytes=size_bytes) as body:
        assert await body.read() == data
    await incoming.discard()
    await incoming.discard()
    assert place.names() == []
    with pytest.raises(StoreUnavailable):
        await incoming.rename(first)


async def test_bodies_that_are_not_there(place: Place) -> None:
    """Reading a body that is missing or has the wrong size raises RecordDamaged."""
    with pytest.raises(RecordDamaged):
        await place.objects.open(name_for(bytes(32)), size_bytes=1)
    name = await kept(place, LARGE)
    with pytest.raises(RecordDamaged):
        await place.objects.open(name, size_bytes=len(LARGE) + 1)
    await place.objects.remove(name)
    await place.objects.remove(name)
    with pytest.raises(RecordDamaged):
        await place.objects.open(name, size_bytes=len(LARGE))


async def test_last_piece_of_a_damaged_body_is_kept_back(place: Place) -> None:
    """A reader never gets the last piece of a body that does not match its digest (M13)."""
    data = made(3 * PIECE_BYTES + 7)
    name = await kept(place, data)
    place.spoil(name, data[:-1] + bytes((data[-1] ^ 1,)))
    given_out = b""
    with pytest.raises(RecordDamaged):
        async with await place.objects.open(name, size_bytes=len(data)) as body:
            async for piece in body.pieces():
                given_out += piece
    assert len(given_out) == 3 * PIECE_BYTES


async def _broken(size_bytes: int) -> AsyncIterator[bytes]:
    yield made(size_bytes)
    raise ConnectionResetError


@pytest.mark.parametrize("size_bytes", [len(LARGE), 3 * PART_BYTES])
async def test_broken_upload_leaves_nothing(place: Place, size_bytes: int) -> None:
    """An upload that fails leaves no object, and its error is raised."""
    with pytest.raises(ConnectionResetError):
        async with Staging(place.objects) as staging:
            await staging.receive(_broken(size_bytes))
    assert place.names() == []


@pytest.mark.parametrize("size_bytes", [len(LARGE), 3 * PART_BYTES])
async def test_cancelled_upload_leaves_nothing(place: Place, size_bytes: int) -> None:
    """A cancelled upload leaves no complete or partial body."""
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield made(size_bytes)
        arrived.set()
        await asyncio.Event().wait()

    async def upload() -> None:
        async with Staging(place.objects) as staging:
            await staging.receive(endless())

    task = asyncio.create_task(upload())
    await arrived.wait()
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert place.names() == []


async def test_listing_of_old_bodies(place: Place) -> None:
    """The list of old bodies contains named bodies above the age limit and nothing else."""
    name = await kept(place, LARGE)
    incoming = await place.objects.begin()
    await incoming.append(made(PART_BYTES + 1))
    await incoming.finish()
    later = time.time() + 60
    assert [one async for names in place.objects.older_than(later) for one in names] == [name]
    assert [one async for names in place.objects.older_than(later - 86_400) for one in names] == []
    await incoming.discard()


async def test_unfinished_bodies_are_removed(place: Place) -> None:
    """The sweep deletes an unnamed body an hour after it was written, and its put fails."""
    async with Staging(place.objects) as staging:
        body = await staging.receive(in_pieces(made(PART_BYTES + 1), PIECE_BYTES))
        assert body.file is not None
        assert await sweep_unfinished(place.objects, now=time.time() + 60) == 0
        assert await sweep_unfinished(place.objects, now=time.time() + UNFINISHED_AFTER_S + 60) == 1
        with pytest.raises(StoreUnavailable):
            await body.file.rename(name_for(body.digest))
    assert place.names() == []


async def test_collector_removes_record_then_body(bench: Bench, place: Place) -> None:
    """The collector deletes an unreferenced body's record first, and the body an hour later."""
    await bench.write(Write("a", LARGE), Write("b", LARGE))
    head = await bench.head("a")
    assert head is not None
    await bench.write(Write("a", SMALL), Write("b", None))
    now = time.time() + 10 * UNLINK_AFTER_S
    assert await collect(bench.store, place.objects, now=now, entropy=bench.entropy) > 0
    assert await bench.references(LARGE) is None
    assert await bench.values.read_body(head) == LARGE
    await bench.collect(now + 2 * UNLINK_AFTER_S)
    assert place.names() == []


async def test_orphans_go_after_a_day(bench: Bench, place: Place) -> None:
    """The sweep deletes a body without a record an hour after finding it a day old."""
    await bench.write(Write("a", LARGE))
    await bench.plan(Write("b", b"never committed" * 10_000))
    now = time.time()
    assert (
        await sweep_orphans(
            bench.store, place.objects, now=now + ORPHAN_AFTER_S - 60, entropy=bench.entropy
        )
        == 0
    )
    assert (
        await sweep_orphans(
            bench.store, place.objects, now=now + ORPHAN_AFTER_S + 60, entropy=bench.entropy
        )
        == 1
    )
    await bench.collect(now + 2 * ORPHAN_AFTER_S)
    assert len(place.names()) == 1
    assert await bench.body("a") == LARGE


async def test_put_that_stood_still_meets_the_sweep(bench: Bench, place: Place) -> None:
    """A put whose body was swept before the commit is refused, and succeeds with a new name."""
    async with bench.values.staging() as staging:
        standing = await bench.plan(Write("a", LARGE), staging=staging)
        later = time.time() + ORPHAN_AFTER_S + 60
        assert (
            await sweep_orphans(bench.store, place.objects, now=later, entropy=bench.entropy) == 1
        )
        assert type(await bench.commit(standing)).__name__ == "Refused"
        staging.recall()
        records = (await bench.store.read((head_key(SPACE, "a"),))).records
        draft = await bench.values.draft(SPACE, (ValueWrite("a", standing.bodies[0]),), records)
        plan = await draft.finalize(now=later)
        assert (
            type(await bench.commit(type(standing)(plan, draft, standing.bodies))).__name__
            == "Committed"
        )
    await bench.collect(later + 2 * UNLINK_AFTER_S)
    assert await bench.body("a") == LARGE
    assert len(place.names()) == 1


async def test_equal_bodies_of_a_batch_share_one(bench: Bench, place: Place) -> None:
    """Two bodies of a batch with the same bytes share one object."""
    await bench.write(Write("a", LARGE), Write("b", LARGE))
    assert await bench.references(LARGE) == 2
    assert len(place.names()) == 1


async def test_check_of_a_place(place: Place) -> None:
    """The check passes for an empty place that can be reached."""
    await place.objects.check()
