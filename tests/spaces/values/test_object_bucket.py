"""Tests of bodies in a bucket: its ownership, outages and remaining objects."""

import asyncio
from pathlib import Path

import obstore
import pytest
from s3_server import KEY_ID, SECRET_KEY, S3Server, s3_server
from value_bench import LARGE, Bench, Write, in_pieces

from spaces.archive.bodies import MovedBodies, move_bodies
from spaces.space_errors import BodiesElsewhere, RecordDamaged, StoreUnavailable
from spaces.store.contract import Store
from spaces.store.lmdb.snapshots import RowSource
from spaces.values.object_bucket import PART_BYTES, BucketLocation, ObjectBucket
from spaces.values.object_folder import ObjectFolder
from spaces.values.object_place import FOLDER, claim_location, recorded_location
from spaces.values.object_records import ObjectName
from spaces.values.value_bodies import Staging

STORE_ID = b"i" * 16
BIG = LARGE * 100


@pytest.fixture
def server() -> S3Server:
    """The S3-compatible server with the buckets."""
    return s3_server()


@pytest.fixture
def place(server: S3Server) -> BucketLocation:
    """An empty prefix in a bucket."""
    return server.new_bucket()


@pytest.fixture
async def bucket(server: S3Server, place: BucketLocation) -> ObjectBucket:
    """The empty prefix, claimed by a store."""
    bucket = ObjectBucket(place, server.access)
    await bucket.claim(STORE_ID)
    return bucket


async def test_place_belongs_to_one_store(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket
) -> None:
    """Nodes of one store share a prefix; the node refuses another store's prefix."""
    await ObjectBucket(place, server.access).claim(STORE_ID)
    other = ObjectBucket(place, server.access)
    with pytest.raises(BodiesElsewhere):
        await other.claim(b"j" * 16)
    for outsider in (other, ObjectBucket(place, server.access)):
        with pytest.raises(BodiesElsewhere):
            [names async for names in outsider.older_than(4e9)]
        with pytest.raises(BodiesElsewhere):
            await outsider.remove_unfinished(4e9)
    assert [names async for names in bucket.older_than(4e9)] == []


@pytest.mark.parametrize("inner", ["x", "ff", "x/ff/y"])
async def test_place_inside_another_is_refused(server: S3Server, inner: str) -> None:
    """A prefix inside or around another store's prefix is refused."""
    name = server.new_bucket().bucket
    for first, second in ((f"a/{inner}", "a"), ("b", f"b/{inner}")):
        await ObjectBucket(BucketLocation(name, first), server.access).claim(STORE_ID)
        for store_id in (STORE_ID, b"j" * 16):
            with pytest.raises(BodiesElsewhere, match="another store"):
                await ObjectBucket(BucketLocation(name, second), server.access).claim(store_id)
        await ObjectBucket(BucketLocation(name, f"{first}-beside"), server.access).claim(b"k" * 16)
    with pytest.raises(BodiesElsewhere, match="another store"):
        await ObjectBucket(BucketLocation(name), server.access).claim(STORE_ID)
    assert b"<Key>store</Key>" not in server.ask("GET", f"/{name}?list-type=2")


async def test_places_that_were_made_inside_each_other_are_reported(server: S3Server) -> None:
    """If an earlier version allowed two nested prefixes, the inner store refuses to start."""
    name = server.new_bucket().bucket
    inner = ObjectBucket(BucketLocation(name, "a/b"), server.access)
    await inner.claim(STORE_ID)
    await obstore.put_async(
        ObjectBucket(BucketLocation(name, "a"), server.access).objects, "store", b"0" * 32
    )
    with pytest.raises(BodiesElsewhere, match="a/store"):
        await inner.claim(STORE_ID)
    with pytest.raises(BodiesElsewhere, match="a/store"):
        await inner.remove_unfinished(4e9)
    with pytest.raises(BodiesElsewhere, match="a/store"):
        [names async for names in inner.older_than(4e9)]


async def test_objects_called_store_that_are_no_markers(server: S3Server) -> None:
    """An object that only has the name of a marker does not block a prefix."""
    name = server.new_bucket().bucket
    whole = ObjectBucket(BucketLocation(name), server.access).objects
    for key, value in (("store", b"a shop"), ("a/store", b"g" * 32), ("a/b/c/store", b"0" * 31)):
        await obstore.put_async(whole, key, value)
    await ObjectBucket(BucketLocation(name, "a/b"), server.access).claim(STORE_ID)


async def test_too_much_below_a_new_place(
    server: S3Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A new prefix is refused if more folders are below it than the check reads."""
    monkeypatch.setattr("spaces.values.object_bucket.MOST_FOLDERS", 3)
    name = server.new_bucket().bucket
    bucket = ObjectBucket(BucketLocation(name, "a"), server.access)
    for folder in ("x", "y", "z/z"):
        await obstore.put_async(bucket.objects, f"{folder}/object", b"")
    with pytest.raises(BodiesElsewhere, match="too many folders"):
        await bucket.claim(STORE_ID)


async def test_sweeps_keep_to_names_of_their_own(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket
) -> None:
    """A sweep ignores objects in deeper folders or with other names."""
    name = ObjectName(b"s" * 16, bytes(32), b"g" * 16)
    own, others = (
        f"00/{name.file_name}",
        (
            f"00/00/{name.file_name}",
            f"incoming/00/{name.file_name}",
            f"node/00/{name.file_name}",
            f"01/{name.file_name}",
            "incoming/store",
            "incoming/" + "A" * 32,
        ),
    )
    for key in (own, "incoming/" + "a" * 32, *others):
        await obstore.put_async(bucket.objects, key, b"body")
    assert [one async for names in bucket.older_than(4e9) for one in names] == [name]
    assert await bucket.remove_unfinished(4e9) == 1
    assert sorted(server.keys(place)) == sorted((own, "store", *others))


def test_prefix_inside_what_is_on_its_way() -> None:
    """A prefix is refused if it contains the segment for unfinished uploads."""
    for prefix in ("incoming", "a/incoming", "incoming/a", "a/incoming/b"):
        with pytest.raises(ValueError, match="incoming"):
            BucketLocation("bodies", prefix)
    assert BucketLocation("bodies", "a/incoming-1").prefix


async def test_two_nodes_share_a_bucket(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket
) -> None:
    """One node of a store can read a body that another node stored."""
    other = ObjectBucket(place, server.access)
    for size_bytes in (len(LARGE), PART_BYTES + 1):
        async with Staging(bucket) as staging:
            body = await staging.receive(in_pieces(BIG[:size_bytes]))
            assert body.file is not None
            name = ObjectName(b"s" * 16, body.digest, b"g" * 16)
            await body.file.rename(name)
        async with await other.open(name, size_bytes=size_bytes) as opened:
            assert await opened.read() == BIG[:size_bytes]


async def test_name_is_taken_once(bucket: ObjectBucket) -> None:
    """Storing a body under an existing name leaves the existing object unchanged."""
    name = ObjectName(b"s" * 16, bytes(32), b"g" * 16)
    for data, is_taken in ((b"1" * 100, False), (b"2" * 100, True)):
        incoming = await bucket.begin()
        await incoming.append(data)
        await incoming.finish()
        if is_taken:
            with pytest.raises(StoreUnavailable):
                await incoming.rename(name)
        else:
            await incoming.rename(name)
    async with await bucket.open(name, size_bytes=100) as opened:
        assert [piece async for piece in opened.pieces(0, 1)] == [b"1"]


async def test_memory_of_waiting_bodies_is_bounded(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Unnamed bodies use bounded memory, and further ones wait in the bucket."""
    monkeypatch.setattr("spaces.values.object_bucket._HELD_BYTES", 2 * len(LARGE))
    async with Staging(bucket) as staging:
        bodies = [await staging.receive(in_pieces(LARGE[at:] + bytes(at))) for at in range(3)]
        assert bucket.held_bytes == 2 * len(LARGE)
        assert len(server.keys(place)) == 2  # the marker, and one that found no room in memory
        for at, body in enumerate(bodies):
            assert body.file is not None
            await body.file.rename(ObjectName(b"s" * 16, body.digest, bytes((at,)) * 16))
        assert sum(key.startswith("incoming/") for key in server.keys(place)) == 0
        del body, bodies
    del staging
    assert bucket.held_bytes == 0
    assert len(server.keys(place)) == 4


async def test_bucket_that_is_away_and_comes_back(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket
) -> None:
    """While the bucket's server is down, bodies are unavailable; afterwards they work again without
    a restart."""
    async with Staging(bucket) as staging:
        small = await staging.receive(in_pieces(LARGE))
        large = await staging.receive(in_pieces(BIG))
        assert small.file is not None and large.file is not None
        names = [ObjectName(b"s" * 16, body.digest, b"g" * 16) for body in (small, large)]
        with server.away():
            for attempt in (
                small.file.rename(names[0]),
                large.file.rename(names[1]),
                staging.receive(in_pieces(BIG)),
                bucket.open(names[0], size_bytes=len(LARGE)),
                bucket.remove(names[0]),
                bucket.check(),
                bucket.claim(STORE_ID),
                bucket.remove_unfinished(4e9),
                bucket.try_out(),
            ):
                with pytest.raises(StoreUnavailable) as raised:
                    await attempt
                assert place.bucket not in str(raised.value)
        await bucket.check()
        await small.file.rename(names[0])
        await large.file.rename(names[1])
    for name, data in zip(names, (LARGE, BIG), strict=True):
        async with await bucket.open(name, size_bytes=len(data)) as opened:
            assert await opened.read() == data


async def test_bucket_that_goes_away_while_a_body_is_read(
    server: S3Server, bucket: ObjectBucket
) -> None:
    """A read raises an error if the bucket's server goes down during the read."""
    async with Staging(bucket) as staging:
        body = await staging.receive(in_pieces(BIG))
        assert body.file is not None
        name = ObjectName(b"s" * 16, body.digest, b"g" * 16)
        await body.file.rename(name)
    async with await bucket.open(name, size_bytes=len(BIG)) as opened:
        pieces = opened.pieces()
        assert await anext(pieces) == BIG[:262_144]
        with server.away(), pytest.raises(StoreUnavailable):
            async for _ in pieces:
                pass


async def test_body_that_vanishes_is_damaged(bucket: ObjectBucket) -> None:
    """A body that is deleted or truncated during a read raises RecordDamaged."""
    async with Staging(bucket) as staging:
        body = await staging.receive(in_pieces(BIG))
        assert body.file is not None
        name = ObjectName(b"s" * 16, body.digest, b"g" * 16)
        await body.file.rename(name)
    key = f"{name.digest[:1].hex()}/{name.file_name}"
    async with await bucket.open(name, size_bytes=len(BIG)) as opened:
        await obstore.put_async(bucket.objects, key, BIG[:-1])
        with pytest.raises(RecordDamaged):
            await opened.read()
        await bucket.remove(name)
        with pytest.raises(RecordDamaged):
            await opened.read()


async def test_wrong_bucket_is_found_out(server: S3Server, bucket: ObjectBucket) -> None:
    """The bucket check passes for a working bucket and fails for a missing one."""
    await bucket.try_out()
    absent = ObjectBucket(BucketLocation("no-such-bucket"), server.access)
    for attempt in (absent.try_out(), absent.claim(STORE_ID)):
        with pytest.raises(StoreUnavailable):
            await attempt


async def test_trying_out_leaves_nothing(
    server: S3Server, place: BucketLocation, bucket: ObjectBucket
) -> None:
    """The bucket check removes the objects that it wrote."""
    await bucket.try_out()
    assert server.keys(place) == ["store"]


def test_credentials_are_not_shown(server: S3Server, place: BucketLocation) -> None:
    """The representations of access settings and bucket do not contain the secret key."""
    shown = repr(server.access) + repr(ObjectBucket(place, server.access))
    assert KEY_ID in shown
    assert SECRET_KEY not in shown


# --- where the bodies lie


async def test_place_is_recorded_while_there_is_no_body(one_store: Store) -> None:
    """A store without bodies accepts any place for bodies; a store with bodies accepts only its
    own."""
    await claim_location(one_store, FOLDER)
    assert await recorded_location(one_store) == FOLDER
    await claim_location(one_store, "s3://a/b")
    await claim_location(one_store, "s3://a/b")
    assert await recorded_location(one_store) == "s3://a/b"
    await claim_location(one_store, FOLDER)
    assert await recorded_location(one_store) == FOLDER


async def test_moving_needs_the_right_source(
    one_store: Store, one_rows: RowSource, tmp_path: Path, bucket: ObjectBucket
) -> None:
    """A move is refused if the store's bodies are neither at its source nor at its target."""
    await claim_location(one_store, "s3://a/b")
    with pytest.raises(BodiesElsewhere):
        await move_bodies(
            one_store,
            one_rows,
            ObjectFolder(tmp_path),
            bucket,
            origin=FOLDER,
            to="s3://c/d",
            progress=lambda _bodies: None,
        )


async def test_damaged_body_is_not_moved(
    one_store: Store,
    one_rows: RowSource,
    tmp_path: Path,
    server: S3Server,
    place: BucketLocation,
    bucket: ObjectBucket,
) -> None:
    """A move stops at a missing or altered body, and continues once the body is restored."""
    bench = Bench(one_store, tmp_path / "bodies")
    await bench.write(
        Write("a", LARGE), Write("b", b"small"), Write("c", LARGE[1:]), Write("d", LARGE)
    )
    (body, other) = bench.names()
    whole = body.read_bytes()

    async def move() -> MovedBodies:
        return await move_bodies(
            one_store,
            one_rows,
            bench.files,
            bucket,
            origin=FOLDER,
            to="s3://c/d",
            progress=lambda _bodies: None,
        )

    for damage in (bytes([whole[0] ^ 1]) + whole[1:], None):
        body.unlink()
        if damage is not None:
            body.write_bytes(damage)
        with pytest.raises(RecordDamaged):
            await move()
        assert await recorded_location(one_store) == FOLDER
        assert [
            key for key in server.keys(place) if key.startswith("incoming/") or body.name in key
        ] == []
        body.write_bytes(whole)
    moved = await move()
    assert moved.bodies == 2
    assert moved.size_bytes == 2 * len(LARGE) - 1
    assert await recorded_location(one_store) == "s3://c/d"
    assert {body.name, other.name} == {key.rpartition("/")[2] for key in server.keys(place)} - {
        "store"
    }


async def test_cancelling_a_reading_does_no_harm(bucket: ObjectBucket) -> None:
    """Cancelling a read during a range request leaves the bucket usable."""
    async with Staging(bucket) as staging:
        body = await staging.receive(in_pieces(BIG))
        assert body.file is not None
        name = ObjectName(b"s" * 16, body.digest, b"g" * 16)
        await body.file.rename(name)

    async def read() -> None:
        async with await bucket.open(name, size_bytes=len(BIG)) as opened:
            await opened.read()

    task = asyncio.create_task(read())
    await asyncio.to_thread(lambda: None)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    await read()
