"""Tests of versions of values: which are kept, deleted and counted (ST19, ST20)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import msgspec
import pytest
from space_grants import NOW, OWNER
from value_bench import Bench, in_pieces

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.archive.checking import check_store
from spaces.identity import ensure_identity
from spaces.keyspace import (
    VERSION_DUE_PREFIX,
    micros8,
    space_keys,
    versions_prefix,
    x16,
)
from spaces.store.contract import Commit, Committed, Put, Refused, commit_puts, counter_of
from spaces.store.lmdb.snapshots import RowSource
from spaces.values.collector import sweep_versions
from spaces.values.former_values import RESTORABLE_S
from spaces.values.metadata import row_bytes
from spaces.values.value_bodies import INLINE_BYTES, inline_body
from spaces.values.value_heads import Head, head_key, versions_in, versions_range
from spaces.values.value_writes import VersionRoom
from spaces.values.value_writes import Write as ValueWrite

SECRETS = SpaceId(Principal(OWNER.did), "secrets")
MOST = 3
KEPT = {"secrets/vault/": MOST}
LARGE = b"l" * (INLINE_BYTES + 1)


@pytest.fixture
def keeping(bench: Bench) -> Bench:
    """A store that keeps three former values below `vault/`."""
    bench.values.kept = KEPT
    return bench


async def write(
    bench: Bench,
    values: Mapping[str, bytes | None],
    *,
    now: float = NOW,
    limit_bytes: int | None = None,
    purges: bool = False,
) -> Committed | Refused:
    """Write or delete values in one commit, as a node does."""
    paths, own = list(values), space_keys(SECRETS)
    async with bench.values.staging() as staging:
        writes = [
            ValueWrite(path, None if body is None else await staging.receive(in_pieces(body)))
            for path, body in values.items()
        ]
        keys = [head_key(SECRETS, path) for path in paths]
        *records, usage, kept = (await bench.store.read((*keys, own.usage, own.versions))).records
        room = VersionRoom(kept_bytes=counter_of(kept))
        if limit_bytes is not None:
            room = VersionRoom(limit_bytes, counter_of(usage), counter_of(kept))
        found = await kept_of(bench, paths[0]) if purges else None
        draft = await bench.values.draft(SECRETS, writes, records, room=room, removed=found)
        plan = await draft.finalize(now=now)
        return await bench.store.commit(Commit(puts=plan.puts, checks=plan.checks, adds=plan.adds))


async def kept_of(bench: Bench, path: str) -> dict[bytes, Head]:
    snapshot = await bench.store.read(ranges=(versions_range(SECRETS, path),))
    return versions_in(snapshot.pages[0])


async def numbers(bench: Bench, path: str) -> list[int]:
    return [head.version for head in (await kept_of(bench, path)).values()]


async def kept_bytes(bench: Bench) -> int:
    return counter_of((await bench.store.read((space_keys(SECRETS).versions,))).records[0])


@dataclass
class Kept:
    number: int
    body: bytes
    replaced_at: float


@dataclass
class Model:
    """The expected contents of a store, as plain lists."""

    current: dict[str, tuple[int, bytes]] = field(default_factory=dict)
    kept: dict[str, list[Kept]] = field(default_factory=dict)

    def live_bytes(self) -> int:
        bodies = [body for _, body in self.current.values()]
        large = {body for body in bodies if len(body) > INLINE_BYTES}
        return sum(map(len, large)) + sum(len(one) for one in bodies if len(one) <= INLINE_BYTES)

    def kept_bytes(self) -> int:
        live = {body for _, body in self.current.values()}
        size_bytes, large = 0, set[bytes]()
        for path, versions in self.kept.items():
            for one in versions:
                size_bytes += row_bytes(path, {})
                if len(one.body) > INLINE_BYTES:
                    large |= {one.body} - live
                else:
                    size_bytes += len(one.body)
        return size_bytes + sum(map(len, large))

    def references(self, body: bytes) -> int:
        bodies = [one.body for versions in self.kept.values() for one in versions]
        return [*bodies, *[one for _, one in self.current.values()]].count(body)

    def write(
        self, values: Mapping[str, bytes | None], now: float, limit_bytes: int | None
    ) -> None:
        free_bytes = 1 << 62
        if limit_bytes is not None:
            free_bytes = limit_bytes - self.live_bytes()
        excess_bytes = self.kept_bytes()
        for path, body in values.items():
            free_bytes += len(self.current[path][1]) if path in self.current else 0
            free_bytes -= len(body or b"")
        gone: list[tuple[str, Kept]] = []
        for path, body in values.items():
            number, old = self.current.pop(path, (0, None))
            kept = self.kept.setdefault(path, [])
            if old is not None and path.startswith("vault/"):
                weight_bytes = len(old) + row_bytes(path, {})
                gone += [(path, one) for one in kept[: max(len(kept) - MOST, 0)]]
                if weight_bytes <= free_bytes:
                    free_bytes -= weight_bytes
                    gone += [(path, one) for one in kept[: max(len(kept) + 1 - MOST, 0)]]
                    kept.append(Kept(number, old, now))
            if body is not None:
                newest = kept[-1].number if kept else 0
                new = max(number, newest) + 1 if path.startswith("vault/") else 1
                self.current[path] = (new, body)
        kept_bytes = excess_bytes
        excess_bytes -= free_bytes
        for path, one in gone:
            self.kept[path].remove(one)
            excess_bytes -= len(one.body) + row_bytes(path, {})
        if excess_bytes > 0:
            self.evict(excess_bytes + kept_bytes // 16, now)

    def evict(self, excess_bytes: int, now: float) -> None:
        every = [(one, path) for path, many in self.kept.items() for one in many]
        for one, path in sorted(every, key=lambda row: (row[0].replaced_at, x16(row[1]))):
            if excess_bytes > 0 and one.replaced_at < now:
                self.kept[path].remove(one)
                excess_bytes -= len(one.body) + row_bytes(path, {})

    def purge(self, path: str) -> None:
        self.current.pop(path, None)
        self.kept.pop(path, None)

    def sweep(self, now: float) -> None:
        for path, kept in self.kept.items():
            if path not in self.current and kept and kept[-1].replaced_at <= now - RESTORABLE_S:
                kept.clear()


PATHS = ("vault/a", "vault/b", "vault/" + "c" * 500, "other")
BODIES = (b"", b"one", b"two" * 300, LARGE, LARGE + b"2")


async def assert_equal(bench: Bench, model: Model) -> None:
    for path in PATHS:
        head = await bench.head(path, SECRETS)
        found = None if head is None else (head.version, await bench.values.read_body(head))
        assert found == model.current.get(path)
        kept = [
            (one.version, await bench.values.read_body(one), one.replaced_at)
            for one in (await kept_of(bench, path)).values()
        ]
        assert kept == [
            (one.number, one.body, int(one.replaced_at * 1_000_000))
            for one in model.kept.get(path, ())
        ]
    for body in BODIES:
        if len(body) > INLINE_BYTES:
            assert (await bench.references(body, SECRETS) or 0) == model.references(body)
    assert await bench.usage(SECRETS) == model.live_bytes()
    assert await kept_bytes(bench) == model.kept_bytes()


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("limit_bytes", [None, 3 * len(LARGE)], ids=["unlimited", "limited"])
async def test_versions_equal_a_model(
    keeping: Bench, one_rows: RowSource, seed: int, limit_bytes: int | None
) -> None:
    """After any writes, deletes, purges and sweeps, the store equals a plain model (ST19, ST20)."""
    chance, model, now = random.Random(seed), Model(), NOW
    await ensure_identity(keeping.store, node_did="did:key:z6MkNode", entropy=keeping.entropy)
    for _ in range(40):
        now += chance.choice((1.0, 1.0, 1.0, RESTORABLE_S / 3))
        paths = chance.sample(PATHS, chance.choice((1, 1, 1, 3)))
        match chance.choice(("put", "put", "put", "delete", "purge", "sweep")):
            case "put":
                values: dict[str, bytes | None] = {path: chance.choice(BODIES) for path in paths}
                live = Model({**model.current, **{p: (0, b or b"") for p, b in values.items()}})
                if limit_bytes is not None and live.live_bytes() > limit_bytes:
                    continue
                assert isinstance(
                    await write(keeping, values, now=now, limit_bytes=limit_bytes), Committed
                )
                model.write(values, now, limit_bytes)
            case "delete":
                values = {path: None for path in paths if path in model.current}
                if values:
                    await write(keeping, values, now=now)
                    model.write(values, now, None)
            case "purge":
                if model.current.get(paths[0]) or model.kept.get(paths[0]):
                    await write(keeping, {paths[0]: None}, now=now, purges=True)
                    model.purge(paths[0])
            case _:
                await sweep_versions(keeping.store, keeping.values, now=now)
                model.sweep(now)
        await keeping.collect(now)
        await assert_equal(keeping, model)
    assert (await check_store(one_rows, keeping.files, keeping.folder.parent)).findings == []


async def test_racing_writes_keep_each_value_once(keeping: Bench) -> None:
    """Of two writes that read the same value, one is refused, and its retry keeps the other's value
    (ST19)."""
    await write(keeping, {"vault/a": LARGE})
    drafts = []
    for body in (b"two", b"three"):
        key = head_key(SECRETS, "vault/a")
        records = (await keeping.store.read((key,))).records
        written = ValueWrite("vault/a", inline_body(body))
        draft = await keeping.values.draft(SECRETS, (written,), records)
        drafts.append(await draft.finalize(now=NOW))
    outcomes = [
        await keeping.store.commit(Commit(puts=plan.puts, checks=plan.checks, adds=plan.adds))
        for plan in drafts
    ]
    assert [type(outcome) for outcome in outcomes] == [Committed, Refused]
    await write(keeping, {"vault/a": b"three"})
    bodies = [
        await keeping.values.read_body(one) for one in (await kept_of(keeping, "vault/a")).values()
    ]
    assert bodies == [LARGE, b"two"]
    assert await keeping.references(LARGE, SECRETS) == 1


async def test_value_that_exceeds_the_commit_is_not_kept(keeping: Bench) -> None:
    """A batch keeps as many former values as fit into its commit (ST20, ST6)."""
    body = b"b" * INLINE_BYTES
    values = {f"vault/{at:03}": body for at in range(100)}
    await write(keeping, values)
    assert isinstance(await write(keeping, values), Committed)
    kept = [bool(await numbers(keeping, path)) for path in values]
    assert kept == [True] * sum(kept) + [False] * (100 - sum(kept))
    assert 0 < sum(kept) < 100
    assert isinstance(await write(keeping, dict.fromkeys(values)), Committed)


async def test_value_that_exceeds_the_space_is_not_kept(keeping: Bench) -> None:
    """A write succeeds without keeping the former value if both would exceed the quota (ST20)."""
    await write(keeping, {"vault/a": b"1"})
    await write(keeping, {"vault/a": b"x" * 9000})
    assert await numbers(keeping, "vault/a") == [1]
    written = await write(keeping, {"vault/a": b"y" * 9000}, limit_bytes=9000)
    assert isinstance(written, Committed)
    assert await numbers(keeping, "vault/a") == []
    assert await kept_bytes(keeping) == 0


async def test_row_of_an_earlier_version(keeping: Bench) -> None:
    """A value that was stored before versions is version 1 (ST19)."""
    await write(keeping, {"vault/a": b"old"})
    key = head_key(SECRETS, "vault/a")
    (record,) = (await keeping.store.read((key,))).records
    assert record is not None and record.value is not None
    fields = msgspec.msgpack.decode(record.value)
    former = msgspec.msgpack.encode(fields[:-2])
    own = space_keys(SECRETS)
    await commit_puts(keeping.store, Put(key, former, weight_bytes=3, account=own.usage))
    head = await keeping.head("vault/a", SECRETS)
    assert head is not None and head.version == 1
    await write(keeping, {"vault/a": b"new"})
    (kept,) = (await kept_of(keeping, "vault/a")).values()
    assert kept.version == 1
    assert kept.body == b"old"


async def test_numbers_after_versions_were_off(keeping: Bench) -> None:
    """After a period without versions, new versions get numbers that no kept version has (ST19)."""
    await write(keeping, {"vault/a": b"1"})
    await write(keeping, {"vault/a": b"2"})
    keeping.values.kept = {}
    await write(keeping, {"vault/a": None})
    await write(keeping, {"vault/a": b"3"})
    keeping.values.kept = KEPT
    await write(keeping, {"vault/a": b"4"})
    found = [(one.version, one.body) for one in (await kept_of(keeping, "vault/a")).values()]
    head = await keeping.head("vault/a", SECRETS)
    assert found == [(1, b"1"), (2, b"3")]
    assert (head and head.version) == 3


async def test_sweep_of_a_path_that_left_nothing(keeping: Bench) -> None:
    """A sweep continues with other paths if a purge left no row of one path (ST5, ST20)."""
    place = versions_prefix(x16(SECRETS.text), "vault/gone")[1:]
    task = f"{SECRETS.text}\nvault/gone".encode()
    await commit_puts(keeping.store, Put(VERSION_DUE_PREFIX + micros8(NOW) + place, task))
    await write(keeping, {"vault/a": b"1"})
    await write(keeping, {"vault/a": None})
    await sweep_versions(keeping.store, keeping.values, now=NOW + RESTORABLE_S)
    assert await numbers(keeping, "vault/a") == []


async def test_sweep_after_clocks_differed(keeping: Bench) -> None:
    """A version that is newer than the delete after it is removed by a later sweep (ST9, ST20)."""
    await write(keeping, {"vault/a": b"1"})
    await write(keeping, {"vault/a": b"2"}, now=NOW + 60)
    await write(keeping, {"vault/a": None})
    for after_s, expected in ((30, [1, 2]), (62, [])):
        await sweep_versions(keeping.store, keeping.values, now=NOW + RESTORABLE_S + after_s)
        assert await numbers(keeping, "vault/a") == expected


async def test_first_prefix_applies(keeping: Bench) -> None:
    """The first prefix that a path has decides how many versions are kept, zero included (ST19)."""
    keeping.values.kept = {"secrets/vault/none/": 0, **KEPT}
    for body in (b"1", b"2"):
        await write(keeping, {"vault/none/a": body, "vault/a": body})
    assert await numbers(keeping, "vault/none/a") == []
    assert await numbers(keeping, "vault/a") == [1]


async def test_damaged_versions_are_found(keeping: Bench, one_rows: RowSource) -> None:
    """A check names a version that is stored under another path (BK9, ST19)."""
    await ensure_identity(keeping.store, node_did="did:key:z6MkNode", entropy=keeping.entropy)
    await write(keeping, {"vault/a": b"1"})
    await write(keeping, {"vault/a": b"2"})
    ((key, _),) = (await kept_of(keeping, "vault/a")).items()
    (record,) = (await keeping.store.read((key,))).records
    assert record is not None
    moved = versions_prefix(key[1:17], "vault/b") + key[-12:]
    own = space_keys(SECRETS)
    weight_bytes = 1 + row_bytes("vault/a", {})
    await commit_puts(
        keeping.store,
        Put(key, None),
        Put(moved, record.value, weight_bytes=weight_bytes, account=own.versions),
    )
    checked = await check_store(one_rows, keeping.files, keeping.folder.parent)
    texts = [one.text for one in checked.findings]
    assert texts == ["a version is stored under the wrong path"]


async def test_versions_of_every_time_are_whole(keeping: Bench, one_rows: RowSource) -> None:
    """A version is not taken for an index row if the bytes of its time end with 0xFF (BK9)."""
    await ensure_identity(keeping.store, node_did=OWNER.did, entropy=keeping.entropy)
    await write(keeping, {"vault/a": b"1"})
    now = NOW
    while micros8(now)[-1] != 0xFF:
        now += 1e-6
    await write(keeping, {"vault/a": b"2"}, now=now)
    (key,) = await kept_of(keeping, "vault/a")
    assert key[-1] == 0xFF
    checked = await check_store(one_rows, keeping.files, keeping.folder.parent)
    assert checked.findings == []
