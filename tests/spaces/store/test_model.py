"""Comparison of the store with a model, which is a dictionary with the contract's rules."""

import asyncio
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from spaces.store.contract import (
    ABSENT,
    ANY,
    LIVE_MARK,
    Add,
    Check,
    Commit,
    Committed,
    Follow,
    Put,
    Range,
    Record,
    Refused,
    ReplayRecord,
    Store,
    counter_of,
)

KEYS = [b"Ka", b"Kab", b"Kb", b"La", b"Lb"]
ACCOUNTS = [b"cA", b"cB"]
STALE = b"\0" * 16  # a stamp that no row has


@dataclass
class Model:
    """The expected contents of the store; stamps are learnt by reading."""

    rows: dict[bytes, Record] = field(default_factory=dict)
    weights: dict[bytes, tuple[bytes, int]] = field(default_factory=dict)
    counters: dict[bytes, int] = field(default_factory=lambda: dict.fromkeys(ACCOUNTS, 0))
    claims: set[bytes] = field(default_factory=set)

    def expected(self, commit: Commit) -> bool:
        """Whether the commit passes."""
        return (
            (commit.replay_record is None or commit.replay_record.key not in self.claims)
            and all(self.value(key) == LIVE_MARK for key in commit.live)
            and all(
                check.key in self.rows and self.rows[check.key].stamp == check.stamp
                for check in commit.checks
            )
            and all(self.is_expected(put) for put in commit.puts)
            and all(
                add.at_most is None or self.counted(commit)[add.counter] <= add.at_most
                for add in commit.adds
            )
        )

    def is_expected(self, put: Put) -> bool:
        if put.expect == ANY:
            return True
        if put.expect == ABSENT:
            return self.value(put.key) is None
        return put.key in self.rows and self.rows[put.key].stamp == put.expect

    def value(self, key: bytes) -> bytes | None:
        return self.rows[key].value if key in self.rows else None

    def counted(self, commit: Commit) -> dict[bytes, int]:
        counters = dict(self.counters)
        for put in commit.puts:
            account, weight = self.weights.get(put.key, (b"cA", 0))
            counters[account] -= weight
            if put.account is not None and put.value is not None:
                counters[put.account] += put.weight_bytes
        for add in commit.adds:
            counters[add.counter] += add.delta
        return counters

    def apply(self, commit: Commit) -> None:
        self.counters = self.counted(commit)
        for put in commit.puts:
            self.rows[put.key] = Record(put.value, b"")
            is_weighed = put.account is not None and put.value is not None
            self.weights[put.key] = (put.account or b"cA", put.weight_bytes if is_weighed else 0)
        if commit.replay_record is not None:
            self.claims.add(commit.replay_record.key)

    def learn(self, keys: list[bytes], records: tuple[Record | None, ...]) -> None:
        """Compare the result of a read, and record its stamps."""
        for key, record in zip(keys, records, strict=True):
            assert (None if record is None else record.value) == self.value(key)
            assert (record is None) == (key not in self.rows)
            if record is not None:
                assert self.rows[key].stamp in (b"", record.stamp)
                self.rows[key] = record


@dataclass(frozen=True)
class Draft:
    """A commit whose expected stamps are filled in when it is sent."""

    puts: list[tuple[bytes, bytes | None, str, int, bytes | None]]
    live: list[bytes]
    checks: list[tuple[bytes, bool]]
    adds: list[tuple[bytes, int, int | None]]
    replay_record: int | None

    def commit(self, model: Model) -> Commit:
        def stamp(key: bytes, is_current: bool) -> bytes:
            return model.rows[key].stamp if is_current and key in model.rows else STALE

        expects = {
            "any": lambda _: ANY,
            "absent": lambda _: ABSENT,
            "now": lambda key: stamp(key, True),
        }
        return Commit(
            puts=tuple(
                Put(key, value, expects[expect](key), weight, account)
                for key, value, expect, weight, account in self.puts
            ),
            live=tuple(self.live),
            checks=tuple(Check(key, stamp(key, is_current)) for key, is_current in self.checks),
            adds=tuple(Add(*add) for add in self.adds),
            replay_record=None
            if self.replay_record is None
            else ReplayRecord(bytes([self.replay_record]) * 32, 4_000_000_000),
        )


values = st.sampled_from([b"", b"a", b"ab", LIVE_MARK, LIVE_MARK, b"R", None])
puts = st.tuples(
    st.sampled_from(KEYS),
    values,
    st.sampled_from(["any", "any", "absent", "now"]),
    st.integers(0, 5),
    st.sampled_from([None, *ACCOUNTS]),
)
drafts = st.builds(
    Draft,
    puts=st.lists(puts, max_size=3, unique_by=lambda put: put[0]),
    live=st.lists(st.sampled_from(KEYS), max_size=1),
    checks=st.lists(st.tuples(st.sampled_from(KEYS), st.booleans()), max_size=1),
    adds=st.lists(
        st.tuples(st.sampled_from(ACCOUNTS), st.integers(-3, 3), st.none() | st.integers(0, 9)),
        max_size=2,
    ),
    replay_record=st.none() | st.none() | st.integers(0, 3),
)


class Runs:
    """One store of each engine for all examples, each of which uses keys of its own."""

    def __init__(self, store: Store, runner: asyncio.Runner) -> None:
        self.store = store
        self.runner = runner
        self.count = 0

    def prefix(self) -> bytes:
        self.count += 1
        return self.count.to_bytes(4, "big")


@pytest.fixture
def runs(engine_kind: Any, tmp_path: Path) -> Iterator[Runs]:
    with engine_kind(tmp_path / "data") as engine, asyncio.Runner() as runner:
        store = engine()
        yield Runs(store, runner)
        runner.run(store.close())


def under(prefix: bytes, commit: Commit) -> Commit:
    """Move a commit to keys of its own."""
    replay_record = commit.replay_record
    return Commit(
        puts=tuple(
            Put(
                prefix + put.key,
                put.value,
                put.expect,
                put.weight_bytes,
                put.account and prefix + put.account,
            )
            for put in commit.puts
        ),
        live=tuple(prefix + key for key in commit.live),
        checks=tuple(Check(prefix + check.key, check.stamp) for check in commit.checks),
        adds=tuple(Add(prefix + add.counter, add.delta, add.at_most) for add in commit.adds),
        replay_record=None
        if replay_record is None
        else ReplayRecord((prefix + replay_record.key)[:32], replay_record.expires_at),
    )


@settings(
    max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(st.lists(drafts, max_size=12))
def test_store_follows_the_model(runs: Runs, listed: list[Draft]) -> None:
    """Any sequence of commits has the same outcomes and rows in the store as in the model."""
    runs.runner.run(follow(runs.store, runs.prefix(), listed))


async def follow(store: Store, prefix: bytes, listed: list[Draft]) -> None:
    model = Model()
    for draft in listed:
        commit = draft.commit(model)
        outcome = await store.commit(under(prefix, commit))
        assert (Committed() if model.expected(commit) else Refused()) == outcome
        if isinstance(outcome, Committed):
            model.apply(commit)
        follow = Follow(tuple(prefix + key for key in KEYS), prefix + b"K")
        snapshot = await store.read(
            [prefix + key for key in KEYS], ranges=(Range(prefix + b"K"),), follow=follow
        )
        model.learn(KEYS, snapshot.records)
        led_to = [
            None if (value := model.value(key)) is None else model.rows.get(b"K" + value)
            for key in KEYS
        ]
        assert tuple(led_to) == snapshot.followed
        live = [(prefix + key, model.rows[key]) for key in KEYS[:3] if model.value(key) is not None]
        assert tuple(live) == snapshot.pages[0].rows
        counters = (await store.read([prefix + account for account in ACCOUNTS])).records
        assert [model.counters[account] for account in ACCOUNTS] == [
            counter_of(record) for record in counters
        ]


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    names=st.sets(st.binary(min_size=1, max_size=3), max_size=30),
    deleted=st.sets(st.integers(0, 29)),
    limit=st.integers(1, 7),
    prefix=st.binary(max_size=1),
)
def test_pages_of_any_size_equal_the_whole(
    runs: Runs, names: set[bytes], deleted: set[int], limit: int, prefix: bytes
) -> None:
    """Pages of any size together return every live row once, in order."""
    rows = [(name, None if at in deleted else name) for at, name in enumerate(sorted(names))]
    runs.runner.run(page_through(runs.store, runs.prefix(), rows, limit, prefix))


async def page_through(
    store: Store,
    base: bytes,
    rows: list[tuple[bytes, bytes | None]],
    limit: int,
    prefix: bytes,
) -> None:
    await store.commit(Commit(puts=tuple(Put(base + name, value) for name, value in rows)))
    whole = [base + name for name, value in rows if value is not None and name.startswith(prefix)]
    found: list[bytes] = []
    after: bytes | None = None
    more = True
    while more:
        wanted = Range(base + prefix, after=after, limit=limit)
        page = (await store.read(ranges=(wanted,))).pages[0]
        found += [key for key, _ in page.rows]
        after, more = page.last_key, page.more
    assert whole == found
