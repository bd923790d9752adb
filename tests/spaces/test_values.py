"""Values: heads, bodies in rows and in files, references, quota, and the collector."""

import asyncio
import os
from pathlib import Path

import pytest
from blake3 import blake3
from space_grants import NOW, OWNER
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.blobs import (
    ORPHAN_AFTER_S,
    UNLINK_AFTER_S,
    BlobFiles,
    BlobName,
    blob_record_of,
    collect,
    parse_file_name,
    sweep_orphans,
)
from spaces.errors import CommitInvalid, MetadataTooLarge, RecordDamaged
from spaces.keyspace import blob_key, x16
from spaces.quota import quota_add, usage_key, usage_of
from spaces.store.contract import Add, Commit, Committed, Put, Refused, Store
from spaces.values import INLINE_BYTES, MAX_METADATA_BYTES, Head, Values, Write, WritePlan, head_key, head_of

SPACE = SpaceId(Principal(OWNER.did), "default")
OTHER = SpaceId(Principal(OWNER.did), "other")
LARGE = bytes(range(256)) * 256
SMALL = b"small"


class Bench:
    """A store with values, as operations use them."""

    def __init__(self, store: Store, folder: Path) -> None:
        self.store = store
        self.folder = folder
        self.entropy = CountingEntropy(b"values")
        self.files = BlobFiles(folder)
        self.values = Values(store, self.files, self.entropy)

    async def plan(self, *writes: Write, space: SpaceId = SPACE) -> WritePlan:
        records = (await self.store.read([head_key(space, write.path) for write in writes])).records
        return await self.values.plan(space, writes, records, now=NOW)

    async def commit(self, plan: WritePlan, *adds: Add) -> Committed | Refused:
        return await self.store.commit(Commit(puts=plan.puts, checks=plan.checks, adds=adds))

    async def write(self, *writes: Write, space: SpaceId = SPACE) -> WritePlan:
        plan = await self.plan(*writes, space=space)
        assert isinstance(await self.commit(plan), Committed)
        return plan

    async def head(self, path: str, space: SpaceId = SPACE) -> Head | None:
        key = head_key(space, path)
        return head_of((await self.store.read((key,))).records[0], key=key)

    async def body(self, path: str, space: SpaceId = SPACE) -> bytes | None:
        head = await self.head(path, space)
        return None if head is None else await self.values.read_body(head)

    async def usage(self) -> int:
        return usage_of((await self.store.read((usage_key(SPACE),))).records[0])

    async def references(self, body: bytes, space: SpaceId = SPACE) -> int | None:
        record = (await self.store.read((blob_key(x16(space.text), blake3(body).digest()),))).records[0]
        found = blob_record_of(record)
        return None if found is None else found.references

    def names(self) -> list[Path]:
        return [place for place in self.folder.glob("*/*") if place.is_file()]

    async def collect(self, now: float) -> None:
        while await collect(self.store, self.files, now=now, entropy=self.entropy):
            pass


@pytest.fixture
def bench(room: Store, tmp_path: Path) -> Bench:
    return Bench(room, tmp_path / "data" / "blobs")


BODIES = {"empty": b"", "small": SMALL, "inline": b"i" * INLINE_BYTES, "file": b"f" * (INLINE_BYTES + 1)}
BODIES["large file"] = LARGE


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
async def test_body_comes_back(bench: Bench, body: bytes) -> None:
    """A value is what was put, under the ETag of its bytes, inline or in a file (M1)."""
    plan = await bench.write(Write("a/b", body, {"content-type": "text/plain"}))
    head = await bench.head("a/b")
    assert head is not None
    digest = blake3(body).hexdigest()
    assert ((digest,), digest, f'"blake3-{digest}"') == (plan.etags, head.etag, head.etag_header)
    assert (len(body), "a/b", {"content-type": "text/plain"}) == (head.size_bytes, head.path, head.metadata)
    assert body == await bench.body("a/b")
    assert (len(body) > INLINE_BYTES) is (head.body is None)
    assert len(body) == await bench.usage()


async def test_put_replaces_value_and_metadata(bench: Bench) -> None:
    """A put replaces everything; nothing is merged (M2)."""
    await bench.write(Write("a", b"1", {"content-type": "x", "x-tinycloud-meta-a": "1"}))
    plan = await bench.write(Write("a", b"22", {"content-language": "de"}))
    head = await bench.head("a")
    assert head is not None
    assert (head.body, head.metadata) == (b"22", {"content-language": "de"})
    assert plan.replaced[0].body == b"1"
    assert await bench.usage() == 2


async def test_delete_leaves_a_tombstone(bench: Bench) -> None:
    """A deleted path is told from one never written; deleting the latter is the caller's to refuse (M31)."""
    await bench.write(Write("a", b"1"))
    plan = await bench.write(Write("a", None))
    assert (plan.etags, plan.replaced[0] is not None) == ((None,), True)
    deleted, never = (await bench.store.read((head_key(SPACE, "a"), head_key(SPACE, "b")))).records
    assert deleted is not None
    assert never is None
    assert (await bench.write(Write("a", None))).replaced == (None,)
    with pytest.raises(CommitInvalid):
        await bench.plan(Write("b", None))
    assert await bench.usage() == 0
    await bench.write(Write("a", b"2"))
    assert await bench.body("a") == b"2"


async def test_racing_writes_of_one_path(bench: Bench) -> None:
    """Of two writes planned on the same read one is refused, so that no reference is ever lost."""
    plans = [await bench.plan(Write("a", body)) for body in (SMALL, LARGE)]
    assert [Committed, Refused] == [type(await bench.commit(plan)) for plan in plans]


async def test_batch_is_written_together(bench: Bench) -> None:
    """Several paths in one commit, equal bodies among them, count and read as written."""
    await bench.write(Write("a", LARGE), Write("b", LARGE), Write("c", SMALL), Write("d", SMALL))
    assert [await bench.body(path) for path in "abcd"] == [LARGE, LARGE, SMALL, SMALL]
    assert await bench.references(LARGE) == 2
    assert len(LARGE) + 2 * len(SMALL) == await bench.usage()
    with pytest.raises(CommitInvalid):
        await bench.plan(Write("a", b"1"), Write("a", b"2"))


async def test_equal_bodies_share_a_file_within_a_space(bench: Bench) -> None:
    """A large body under two paths of a space is stored and counted once, in two spaces twice (M10)."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("b", LARGE))
    assert (2, 1, len(LARGE)) == (await bench.references(LARGE), len(bench.names()), await bench.usage())
    await bench.write(Write("a", LARGE), space=OTHER)
    assert (await bench.references(LARGE, OTHER), len(bench.names())) == (1, 2)


async def test_same_body_again_keeps_its_file(bench: Bench) -> None:
    """Putting the bytes that are there already changes neither file nor count."""
    await bench.write(Write("a", LARGE))
    plan = await bench.write(Write("a", LARGE, {"content-type": "x"}))
    assert (len(plan.puts), len(plan.checks)) == (1, 1)
    assert (1, 1, len(LARGE)) == (await bench.references(LARGE), len(bench.names()), await bench.usage())
    assert await bench.body("a") == LARGE


async def test_shared_file_that_is_leaving_refuses_the_commit(bench: Bench) -> None:
    """A body is shared only while its record stands unchanged."""
    await bench.write(Write("a", LARGE))
    sharing = await bench.plan(Write("b", LARGE))
    await bench.write(Write("a", None))
    assert isinstance(await bench.commit(sharing), Refused)
    again = await bench.write(Write("b", LARGE))
    assert await bench.references(LARGE) == 1
    assert (await bench.body("b"), len(bench.names())) == (LARGE, 2)
    assert again.grows


async def test_collector_removes_what_nobody_refers_to(bench: Bench) -> None:
    """The record of a body without references goes at once, its file an hour later."""
    await bench.write(Write("a", LARGE))
    head = await bench.head("a")
    await bench.write(Write("a", SMALL))
    assert (0, len(SMALL)) == (await bench.references(LARGE), await bench.usage())
    await bench.collect(NOW + 1)
    assert (await bench.references(LARGE), len(bench.names())) == (None, 1)
    assert await bench.values.read_body(head) == LARGE
    await bench.collect(NOW + UNLINK_AFTER_S)
    assert len(bench.names()) == 1
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert bench.names() == []
    with pytest.raises(RecordDamaged):
        await bench.values.read_body(head)


async def test_collector_leaves_what_came_back(bench: Bench) -> None:
    """A body that was put again before the collector came has a new file, and the collector leaves it."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("a", None))
    await bench.write(Write("a", LARGE))
    await bench.collect(NOW + 1)
    await bench.collect(NOW + UNLINK_AFTER_S + 2)
    assert (await bench.references(LARGE), await bench.body("a")) == (1, LARGE)


async def test_collector_finds_nothing_twice(bench: Bench) -> None:
    """Work that is done stays done, and work of later waits."""
    await bench.write(Write("a", LARGE))
    await bench.write(Write("a", None))
    assert await collect(bench.store, bench.files, now=NOW - 1, entropy=bench.entropy) == 0
    assert await collect(bench.store, bench.files, now=NOW, entropy=bench.entropy) == 1
    assert await collect(bench.store, bench.files, now=NOW, entropy=bench.entropy) == 0


async def test_orphans_go_after_a_day(bench: Bench) -> None:
    """Files that no record names go when they are a day old; files that one names, and young ones, stay."""
    await bench.write(Write("a", LARGE))
    await bench.plan(Write("b", b"never committed" * 10_000))
    unfinished = bench.names()[0].with_name(".new-unfinished")
    unfinished.write_bytes(b"half")
    for place in bench.names():
        os.utime(place, (NOW, NOW))
    await bench.plan(Write("c", b"young" * 20_000))
    assert await sweep_orphans(bench.store, bench.files, now=NOW + ORPHAN_AFTER_S) == 0
    assert await sweep_orphans(bench.store, bench.files, now=NOW + ORPHAN_AFTER_S + 1) == 1
    assert len(bench.names()) == 2
    assert await bench.body("a") == LARGE


async def test_damaged_file_is_told(bench: Bench) -> None:
    """A file that does not hold the body of its head is an error, never an answer (M13)."""
    await bench.write(Write("a", LARGE))
    (place,) = bench.names()
    place.chmod(0o600)
    place.write_bytes(LARGE[:-1] + b"x")
    with pytest.raises(RecordDamaged):
        await bench.body("a")


async def test_quota_is_exact_among_racing_writes(bench: Bench) -> None:
    """Of many writes at once exactly as many pass as the quota has room for; deletes pass beyond it."""
    plans = [await bench.plan(Write(f"p{at}", b"x" * 100)) for at in range(10)]
    limit = quota_add(SPACE, limit_bytes=350)
    outcomes = await asyncio.gather(*[bench.commit(plan, limit) for plan in plans])
    assert sum(isinstance(outcome, Committed) for outcome in outcomes) == 3
    assert await bench.usage() == 300
    assert not (await bench.plan(Write("p0", None))).grows


async def test_metadata_is_bounded(bench: Bench) -> None:
    """Stored metadata has at most 16 KiB of names and values (ST6)."""
    name = "x-tinycloud-meta-a"
    room_bytes = MAX_METADATA_BYTES - len(name)
    await bench.write(Write("a", b"", {name: "v" * room_bytes}))
    with pytest.raises(MetadataTooLarge):
        await bench.plan(Write("a", b"", {name: "v" * (room_bytes + 1)}))


async def test_metadata_that_is_not_utf8(bench: Bench) -> None:
    """Header bytes that are not UTF-8 come back as they were decoded."""
    metadata = {"content-disposition": "caf\udce9 ü"}
    await bench.write(Write("a", b"", metadata))
    head = await bench.head("a")
    assert head is not None
    assert metadata == head.metadata


async def test_damaged_head_is_told(bench: Bench) -> None:
    """A head that does not decode is an error of its own."""
    await bench.store.commit(Commit(puts=(Put(head_key(SPACE, "a"), b"\x90"),)))
    with pytest.raises(RecordDamaged):
        await bench.head("a")


def test_names_of_files() -> None:
    """A file's name is read back, and anything else is not one."""
    name = BlobName(b"\x01" * 16, b"\x02" * 32, b"\x03" * 16)
    assert name == parse_file_name(name.file_name)
    for text in ("", "a-b-c", name.file_name[:-1], name.file_name[:-1] + "z", name.file_name + "-00"):
        assert parse_file_name(text) is None
