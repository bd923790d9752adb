"""Tests of quotas: the limit that applies, limits of single spaces, and the largest spaces."""

import pytest

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.grants.hosting import HostingPolicy, hosting_by_put, plan_hosting
from spaces.keyspace import space_keys
from spaces.store.contract import Add, Commit, Put, Record, Store
from spaces.values import quota
from spaces.values.quota import (
    QuotaPolicy,
    SpaceUsage,
    effective_limit,
    largest_spaces,
    override_of,
    override_put,
    read_overrides,
)

OWNER = Principal("did:key:z6Mkowner")
POLICY = QuotaPolicy(default_bytes=100, public_bytes=10)


def _space(name: str) -> SpaceId:
    return SpaceId(OWNER, name)


def _row(limit_bytes: int) -> Record:
    return Record(override_put(_space("x"), limit_bytes).value, bytes(16))


@pytest.mark.parametrize(
    ("name", "own", "policy", "expected"),
    [
        ("default", None, POLICY, 100),
        ("default", 7, POLICY, 7),
        ("default", 0, POLICY, 0),
        ("default", None, QuotaPolicy(None, 10), None),
        ("default", 7, QuotaPolicy(None, 10), 7),
        ("public", None, POLICY, 10),
        ("public", 7, POLICY, 10),
        ("publico", None, POLICY, 100),
    ],
)
def test_the_limit_in_force(
    name: str, own: int | None, policy: QuotaPolicy, expected: int | None
) -> None:
    """A public space has the public limit (M53); another space has its own or the default limit
    (M52)."""
    record = None if own is None else _row(own)
    assert effective_limit(_space(name), record, policy) == expected


async def test_a_limit_is_set_and_taken_away(one_store: Store) -> None:
    """A limit can be set and removed, even for a space that is not hosted."""
    space = _space("default")
    await one_store.commit(Commit(puts=(override_put(space, 5),)))
    assert override_of((await one_store.read((space_keys(space).override,))).records[0]) == 5
    await one_store.commit(Commit(puts=(override_put(space, None),)))
    assert override_of((await one_store.read((space_keys(space).override,))).records[0]) is None


@pytest.fixture(params=[1, 2, 1024], ids=lambda rows: f"{rows} rows at once")
def _steps(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make scans read pages of the given number of rows."""
    monkeypatch.setattr(quota, "_STEP_ROWS", request.param)


@pytest.mark.usefixtures("_steps")
async def test_all_limits_are_reported(one_store: Store) -> None:
    """The list of limits is sorted by space, and says whether more limits exist."""
    spaces = {_space(name).text: at for at, name in enumerate("abc")}
    await one_store.commit(
        Commit(puts=tuple(override_put(_space(name), at) for at, name in enumerate("abc")))
    )
    every, more = await read_overrides(one_store, limit=3)
    assert every == spaces
    assert more is False
    some, more = await read_overrides(one_store, limit=2)
    assert len(some) == 2
    assert more is True


async def _host(store: Store, name: str, used_bytes: int, row_bytes: int = 0) -> None:
    space = _space(name)
    wanted = hosting_by_put(space, OWNER, HostingPolicy(), client=None, now=0.0)
    plan = plan_hosting(wanted, (await store.read(wanted.keys())).records, now=0.0)
    weigh = Put(
        b"Kx" + name.encode(), b"", weight_bytes=used_bytes, account=space_keys(space).usage
    )
    await store.commit(Commit(puts=(*plan.puts, *([weigh] if used_bytes else [])), adds=plan.adds))
    await store.commit(Commit(adds=(Add(space_keys(space).rows, row_bytes),)))


def name_of(entry: SpaceUsage) -> str:
    """Return the name of a space in the report of sizes."""
    return entry.space_id.rpartition(":")[2]


@pytest.mark.usefixtures("_steps")
async def test_the_largest_spaces_come_first(one_store: Store) -> None:
    """The largest spaces are listed first, with the total number of spaces."""
    for name, used_bytes in {"a": 5, "b": 0, "c": 9, "d": 7}.items():
        await _host(one_store, name, used_bytes)
    await one_store.commit(Commit(adds=(Add(space_keys(_space("never-hosted")).usage, 99),)))
    every = await largest_spaces(one_store, limit=10)
    assert [(name_of(entry), entry.usage_bytes) for entry in every.spaces] == [
        ("c", 9),
        ("d", 7),
        ("a", 5),
        ("b", 0),
    ]
    assert every.count == 4
    some = await largest_spaces(one_store, limit=2)
    assert [(name_of(entry), entry.usage_bytes) for entry in some.spaces] == [("c", 9), ("d", 7)]
    assert some.count == 4


@pytest.mark.usefixtures("_steps")
async def test_rows_make_a_space_large_too(one_store: Store) -> None:
    """The order by size includes the rows of values, even without bodies (M54)."""
    for name, (used_bytes, row_bytes) in {
        "a": (5, 1),
        "b": (0, 8),
        "c": (7, 0),
        "d": (0, 0),
        "e": (4, 5),
    }.items():
        await _host(one_store, name, used_bytes, row_bytes)
    reported = (await largest_spaces(one_store, limit=10)).spaces
    assert [(name_of(entry), entry.usage_bytes, entry.row_bytes) for entry in reported] == [
        ("e", 4, 5),
        ("b", 0, 8),
        ("c", 7, 0),
        ("a", 5, 1),
        ("d", 0, 0),
    ]
    assert [name_of(entry) for entry in (await largest_spaces(one_store, limit=2)).spaces[:1]] == [
        "e"
    ]
