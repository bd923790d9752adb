"""Tests of the rows with the paths that stored a content key (RL21, ST22)."""

import asyncio

import pytest
from tests_support import CountingEntropy

from capabilities.principals import Principal
from capabilities.resources import SpaceId
from spaces.keyspace import key_places_key, key_rows_counter, space_keys, x16
from spaces.space_errors import RecordDamaged
from spaces.store.contract import Commit, Committed, Put, Refused, Store, counter_of, read_row
from spaces.values.key_places import KeyPlaces, StoredKey, key_places_of, plan_key_places
from spaces.values.metadata import ROW_BYTES
from spaces.values.value_heads import head_key

OWNER = Principal("did:key:z6MkOwner")
SPACE, OTHER_SPACE = SpaceId(OWNER, "secrets"), SpaceId(OWNER, "default")
OWN, OTHER_OWN = space_keys(SPACE), space_keys(OTHER_SPACE)
ENTROPY = CountingEntropy(b"key places")


def a_key() -> bytes:
    """Return the key of the row of a new content key."""
    return key_places_key(b"n" * 16, ENTROPY.token(32))


def stored(row_key: bytes, path: str, space: SpaceId = SPACE) -> StoredKey:
    """Return a content key that is stored at a path."""
    return StoredKey(row_key=row_key, place=head_key(space, path))


async def note(store: Store, *keys: StoredKey, account: bytes = OWN.rows) -> Committed | Refused:
    """Record where content keys are stored."""
    plan = await plan_key_places(store, keys, account=account)
    return await store.commit(Commit(puts=plan.puts, checks=plan.checks))


async def places(store: Store, row_key: bytes) -> KeyPlaces | None:
    """Return the recorded paths of a content key."""
    return key_places_of(await read_row(store, row_key))


async def test_RL21_the_first_path_owns_a_key(store: Store) -> None:
    """The first path stays the owner, a second one is recorded, and more change nothing (RL21)."""
    key = a_key()
    assert await places(store, key) is None
    await note(store, stored(key, "one"))
    one, two = head_key(SPACE, "one"), head_key(OTHER_SPACE, "two")
    assert await places(store, key) == KeyPlaces(one)
    await note(store, stored(key, "one"))
    assert await places(store, key) == KeyPlaces(one)
    await note(store, stored(key, "two", OTHER_SPACE), account=OTHER_OWN.rows)
    assert await places(store, key) == KeyPlaces(one, two)
    await note(store, stored(key, "three"))
    assert await places(store, key) == KeyPlaces(one, two)


async def test_RL21_one_commit_may_store_a_key_twice(store: Store) -> None:
    """In one commit the first path owns the key, and other keys have rows of their own."""
    key, other = a_key(), a_key()
    await note(store, stored(key, "a"), stored(other, "b"), stored(key, "c"))
    assert await places(store, key) == KeyPlaces(head_key(SPACE, "a"), head_key(SPACE, "c"))
    assert await places(store, other) == KeyPlaces(head_key(SPACE, "b"))


async def test_RL21_of_two_writers_at_once_none_is_lost(store: Store) -> None:
    """Two writers that read the same row: one is refused, plans again, and is recorded (RL21)."""
    key = a_key()
    plans = [
        await plan_key_places(store, [stored(key, path)], account=OWN.rows) for path in ("a", "b")
    ]
    commits = [store.commit(Commit(puts=plan.puts, checks=plan.checks)) for plan in plans]
    outcomes = await asyncio.gather(*commits)
    assert sorted(type(outcome).__name__ for outcome in outcomes) == ["Committed", "Refused"]
    await note(store, stored(key, "a"))
    await note(store, stored(key, "b"))
    found = await places(store, key)
    assert found is not None
    assert {found.owner, found.other} == {head_key(SPACE, "a"), head_key(SPACE, "b")}


async def test_RL21_a_commit_relies_on_the_row_that_it_found(store: Store) -> None:
    """A writer that finds its path recorded is refused if the row changed meanwhile."""
    key = a_key()
    await note(store, stored(key, "a"))
    plan = await plan_key_places(store, [stored(key, "a")], account=OWN.rows)
    assert (plan.puts, len(plan.checks), plan.growth_bytes) == ((), 1, 0)
    await note(store, stored(key, "b"))
    assert isinstance(await store.commit(Commit(checks=plan.checks)), Refused)


async def test_ST22_who_changes_a_row_is_charged_for_it(store: Store) -> None:
    """A new row is charged to the given counter, and a changed one as a whole anew (ST22)."""
    key = a_key()
    one, two = head_key(SPACE, "one"), head_key(OTHER_SPACE, "two")
    plan = await plan_key_places(store, [stored(key, "one")], account=OWN.rows)
    assert plan.growth_bytes == ROW_BYTES + len(one)
    await store.commit(Commit(puts=plan.puts))
    assert counter_of(await read_row(store, OWN.rows)) == ROW_BYTES + len(one)
    eves_rows = key_rows_counter(OWN.space16, x16("did:key:z6MkEve"))
    assert eves_rows.startswith(key_rows_counter(OWN.space16))
    second = stored(key, "two", OTHER_SPACE)
    plan = await plan_key_places(store, [second], account=eves_rows)
    assert plan.growth_bytes == ROW_BYTES + len(one) + len(two)
    await store.commit(Commit(puts=plan.puts))
    assert counter_of(await read_row(store, OWN.rows)) == 0
    assert counter_of(await read_row(store, eves_rows)) == ROW_BYTES + len(one) + len(two)


async def test_a_path_of_any_length_takes_a_short_row(store: Store) -> None:
    """A path is recorded as the key of its value, which has a bounded length (ST6)."""
    key, path = a_key(), "p" * 90_000
    await note(store, stored(key, path))
    record = await read_row(store, key)
    assert record is not None and record.value is not None and len(record.value) < 480
    assert await places(store, key) == KeyPlaces(head_key(SPACE, path))


async def test_a_damaged_row_is_an_error(store: Store) -> None:
    """A row that does not decode is not taken for an absent one."""
    key = a_key()
    await store.commit(Commit(puts=(Put(key, b"\xff"),)))
    with pytest.raises(RecordDamaged):
        await note(store, stored(key, "a"))
