"""Versions of values: what is kept, what goes, and what is counted (ST19, ST20)."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field

import pytest
from space_grants import NOW, OWNER
from value_bench import Bench, in_pieces

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.archive.checking import check_store
from spaces.identity import ensure_identity
from spaces.keyspace import space_keys, x16
from spaces.store.contract import Commit, Committed, Refused, counter_of
from spaces.store.lmdb.snapshots import RowSource
from spaces.values.collector import sweep_versions
from spaces.values.value_bodies import INLINE_BYTES
from spaces.values.value_heads import (
    RESTORABLE_S,
    Head,
    VersionRoom,
    head_key,
    row_bytes,
    versions_in,
    versions_range,
)
from spaces.values.value_heads import Write as ValueWrite

SECRETS = SpaceId(Principal(OWNER.did), "secrets")
MOST = 3
KEPT = {"secrets/vault/": MOST}
LARGE = b"l" * (INLINE_BYTES + 1)


@pytest.fixture
def keeping(bench: Bench) -> Bench:
    """Values of which three former ones are kept below `vault/`."""
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
            room = VersionRoom(limit_bytes - counter_of(usage), counter_of(kept))
        found = await kept_of(bench, paths[0]) if purges else None
        draft = await bench.values.draft(SECRETS, writes, records, room=room, removed=found)
        plan = await draft.plan(now=now)
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
    """What a store should contain, in plain lists."""

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
        excess_bytes -= free_bytes
        for path, one in gone:
            self.kept[path].remove(one)
            excess_bytes -= len(one.body) + row_bytes(path, {})
        self.evict(excess_bytes, now)

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
    """After any writes, deletes, purges and sweeps, values, versions, references and counters are
    those of a plain model, and a check finds nothing (ST19, ST20)."""
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
    assert (await check_store(one_rows, keeping.files)).findings == []
