"""Tests of values: heads, bodies in rows and in files, references and quotas."""

import asyncio

import msgspec
import pytest
from blake3 import blake3
from space_grants import NOW
from value_bench import LARGE, OTHER, SMALL, SPACE, Bench, Write

from spaces.keyspace import deleted_key, space_keys
from spaces.space_errors import CommitInvalid, MetadataTooLarge, RecordDamaged
from spaces.store.contract import Add, Commit, Committed, Put, Record, Refused, has_value
from spaces.values.metadata import MAX_METADATA_BYTES, ROW_BYTES
from spaces.values.object_records import ObjectName, parse_file_name
from spaces.values.value_bodies import INLINE_BYTES, inline_body
from spaces.values.value_heads import head_key, head_of
from spaces.values.value_writes import Write as ValueWrite

BODIES = {
    "empty": b"",
    "small": SMALL,
    "inline": b"i" * INLINE_BYTES,
    "file": b"f" * (INLINE_BYTES + 1),
}
BODIES["large file"] = LARGE


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_body_comes_back(bench: Bench, body: bytes) -> None:
    """A value is read back unchanged with the ETag of its bytes, inline or in a file (M1)."""
    plan = await bench.write(Write("a/b", body, {"content-type": "text/plain"}))
    head = await bench.head("a/b")
    assert head is not None
    digest = blake3(body).hexdigest()
    assert plan.bodies[0].digest.hex() == digest
    assert head.etag == digest
    assert head.etag_header == f'"blake3-{digest}"'
    assert head.size_bytes == len(body)
    assert head.path == "a/b"
    assert head.metadata == {"content-type": "text/plain"}
    assert body == await bench.body("a/b")
    assert (len(body) > INLINE_BYTES) is (head.body is None)
    assert len(body) == await bench.usage()


async def test_put_replaces_value_and_metadata(bench: Bench) -> None:
    """A put replaces the value and all its metadata (M2)."""
    await bench.write(Write("a", b"1", {"content-type": "x", "x-tinycloud-meta-a": "1"}))
    plan = await bench.write(Write("a", b"22", {"content-language": "de"}))
    head = await bench.head("a")
    assert head is not None
    assert head.body == b"22"
    assert head.metadata == {"content-language": "de"}
    assert plan.draft.replaced[0].body == b"1"
    assert await bench.usage() == 2


async def test_delete_leaves_a_tombstone(bench: Bench) -> None:
    """A deleted path differs from a path that was never written (M31)."""
    await bench.write(Write("a", b"1"))
    plan = await bench.write(Write("a", None))
    assert plan.bodies == (None,)
    assert plan.draft.replaced[0] is not None
    deleted, never = (await bench.store.read((head_key(SPACE, "a"), head_key(SPACE, "b")))).records
    assert deleted is not None
    assert never is None
    assert (await bench.write(Write("a", None))).draft.replaced == (None,)
    with pytest.raises(CommitInvalid):
        await bench.plan(Write("b", None))
    assert await bench.usage() == 0
    await bench.write(Write("a", b"2"))
    assert await bench.body("a") == b"2"


async def test_racing_writes_of_one_path(bench: Bench) -> None:
    """Of two writes that were planned on the same read, the second is refused."""
    plans = [await bench.plan(Write("a", body)) for body in (SMALL, LARGE)]
    assert [Committed, Refused] == [type(await bench.commit(plan)) for plan in plans]


async def test_batch_is_written_together(bench: Bench) -> None:
    """A batch writes several paths in one commit, also with equal bodies."""
    await bench.write(Write("a", LARGE), Write("b", LARGE), Write("c", SMALL), Write("d", SMALL))
    assert [await bench.body(path) for path in "abcd"] == [LARGE, LARGE, SMALL, SMALL]
    assert await bench.references(LARGE) == 2
    assert len(LARGE) + 2 * len(SMALL) == await bench.usage()
    with pytest.raises(CommitInvalid):
        await bench.plan(Write("a", b"1"), Write("a", b"2"))


async def test_equal_bodies_share_a_file_within_a_space(bench: Bench) -> None:
    """A large body under two paths of one space is stored and counted once (M10)."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("b", LARGE))
    assert await bench.references(LARGE) == 2
    assert len(bench.names()) == 1
    assert await bench.usage() == len(LARGE)
    await bench.write(Write("a", LARGE), space=OTHER)
    assert await bench.references(LARGE, OTHER) == 1
    assert len(bench.names()) == 2


async def test_same_body_again_keeps_its_file(bench: Bench) -> None:
    """Putting the same bytes again changes neither the file nor the reference count."""
    await bench.write(Write("a", LARGE))
    plan = await bench.write(Write("a", LARGE, {"content-type": "x"}))
    assert len(plan.plan.puts) == 1
    assert len(plan.plan.checks) == 1
    assert await bench.references(LARGE) == 1
    assert len(bench.names()) == 1
    assert await bench.usage() == len(LARGE)
    assert await bench.body("a") == LARGE


async def test_shared_file_that_is_leaving_refuses_the_commit(bench: Bench) -> None:
    """A commit that shares a body is refused if the body's record changed."""
    await bench.write(Write("a", LARGE))
    sharing = await bench.plan(Write("b", LARGE))
    await bench.write(Write("a", None))
    assert isinstance(await bench.commit(sharing), Refused)
    await bench.write(Write("b", LARGE))
    assert await bench.references(LARGE) == 1
    assert await bench.body("b") == LARGE


async def test_damaged_file_is_reported(bench: Bench) -> None:
    """Reading a file that does not match its head's digest raises an error (M13)."""
    await bench.write(Write("a", LARGE))
    (place,) = bench.names()
    place.chmod(0o600)
    place.write_bytes(LARGE[:-1] + b"x")
    with pytest.raises(RecordDamaged):
        await bench.body("a")


async def test_quota_is_exact_among_racing_writes(bench: Bench) -> None:
    """Of many concurrent writes, exactly as many succeed as the quota allows."""
    plans = [await bench.plan(Write(f"p{at}", b"x" * 100)) for at in range(10)]
    limit = Add(space_keys(SPACE).usage, 0, at_most=350)
    outcomes = await asyncio.gather(*[bench.commit(plan, limit) for plan in plans])
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 3
    assert await bench.usage() == 300
    assert (await bench.plan(Write("p0", None))).draft.growth_bytes == -100


async def test_rows_are_charged_apart(bench: Bench) -> None:
    """Path, metadata and a fixed size per value are charged to a separate account (M54)."""
    metadata = {"content-type": "t" * 100}
    left_bytes = 0  # of the rows of the paths deleted before
    for path in ("p", "ü" * 20, "p" * 2000):
        for body in (b"", SMALL, LARGE):
            planned = await bench.write(Write(path, body, metadata))
            expected = ROW_BYTES + len(path.encode()) + len("content-type") + 100
            assert await bench.rows() == left_bytes + expected
            assert await bench.usage() == len(body)
        assert planned.draft.row_growth_bytes == 0
        await bench.write(Write(path, b""), Write("last", b"", metadata))
        both_bytes = 2 * ROW_BYTES + len(path.encode()) + len("last")
        assert left_bytes + both_bytes + len("content-type") + 100 == await bench.rows()
        await bench.write(Write(path, None), Write("last", None))
        # A deleted path has a row without metadata (CF6), until it is written again.
        assert left_bytes + both_bytes == await bench.rows()
        await bench.write(Write("last", b""))
        assert left_bytes + both_bytes == await bench.rows()
        await bench.write(Write("last", None))
        assert await bench.usage() == 0
        left_bytes += ROW_BYTES + len(path.encode())
        await bench.store.commit(Commit(puts=(Put(deleted_key(head_key(SPACE, "last")), None),)))


async def test_metadata_is_bounded(bench: Bench) -> None:
    """Stored metadata has at most 16 KiB of names and values (ST6)."""
    name = "x-tinycloud-meta-a"
    free_bytes = MAX_METADATA_BYTES - len(name)
    await bench.write(Write("a", b"", {name: "v" * free_bytes}))
    with pytest.raises(MetadataTooLarge):
        await bench.plan(Write("a", b"", {name: "v" * (free_bytes + 1)}))


async def test_metadata_that_is_not_utf8(bench: Bench) -> None:
    """Metadata bytes that are not UTF-8 are returned unchanged."""
    metadata = {"content-disposition": "caf\udce9 ü"}
    await bench.write(Write("a", b"", metadata))
    head = await bench.head("a")
    assert head is not None
    assert metadata == head.metadata


async def test_CF5_a_path_that_is_written_and_deleted_meanwhile(bench: Bench) -> None:
    """A write that found an unwritten path is refused if the path was written and deleted since: a
    path never has both the row of a value and that of a deleted path (CF5)."""
    planned = await bench.plan(Write("a", SMALL))
    await bench.write(Write("a", b"meanwhile"))
    await bench.write(Write("a", None))
    assert isinstance(await bench.commit(planned), Refused)
    deleted = deleted_key(head_key(SPACE, "a"))
    assert has_value((await bench.store.read((deleted,))).records[0])
    await bench.write(Write("a", SMALL))
    assert not has_value((await bench.store.read((deleted,))).records[0])


def test_M62_a_row_of_an_earlier_version() -> None:
    """A row that an earlier version wrote has no name of who stored it (M62)."""
    row = [bytes(32), 1, {}, "a", b"1", None, None, int(NOW), 3]
    head = head_of(Record(stamp=b"s", value=msgspec.msgpack.encode(row)), key=b"")
    assert head is not None
    assert (head.version, head.stored_by) == (3, None)


async def test_damaged_head_is_reported(bench: Bench) -> None:
    """A head that cannot be decoded raises RecordDamaged."""
    await bench.store.commit(Commit(puts=(Put(head_key(SPACE, "a"), b"\x90"),)))
    with pytest.raises(RecordDamaged):
        await bench.head("a")


def test_names_of_files() -> None:
    """A file's name is parsed back to its parts, and any other name is refused."""
    name = ObjectName(b"\x01" * 16, b"\x02" * 32, b"\x03" * 16)
    assert name == parse_file_name(name.file_name)
    for text in (
        "",
        "a-b-c",
        name.file_name[:-1],
        name.file_name[:-1] + "z",
        name.file_name + "-00",
    ):
        assert parse_file_name(text) is None


async def test_a_body_in_a_row_is_no_reference_to_an_equal_one_in_a_file(bench: Bench) -> None:
    """An inline body does not count as a reference to an equal body in a file."""
    async with bench.values.staging() as staging:
        staging._inline_free_bytes = 0  # as after many small bodies in one batch
        in_file = await staging.keep(SMALL)
        writes = (ValueWrite("a", in_file), ValueWrite("b", inline_body(SMALL)))
        plan = await (await bench.values.draft(SPACE, writes, (None, None))).finalize(now=NOW)
        await bench.store.commit(Commit(puts=plan.puts, checks=plan.checks, adds=plan.adds))
    assert await bench.references(SMALL) == 1
    assert await bench.body("a") == SMALL
    assert await bench.body("b") == SMALL
