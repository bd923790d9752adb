"""Tests that a check of a store finds and names all damage and nothing else (BK9)."""

from collections.abc import Awaitable, Callable

import pytest
from engines import needs_folder
from space_grants import NOW
from value_bench import LARGE, OTHER, SMALL, SPACE, Bench, Write

from spaces.archive.checking import MOST_SHOWN, CheckResult, check_store
from spaces.identity import ensure_identity
from spaces.keyspace import (
    BODIES_COUNTER,
    SEQUENCES_PREFIX,
    object_key,
    rows_counter,
    space_id16,
    space_keys,
    usage_counter,
)
from spaces.store.contract import Add, Commit, Committed, Put
from spaces.store.lmdb._format import open_positions
from spaces.store.lmdb.engine import environment_of
from spaces.store.lmdb.snapshots import LmdbRows
from spaces.values.deleted_paths import deleted_path_put
from spaces.values.object_records import ObjectRecord, encode_object_record
from spaces.values.value_heads import head_key

pytestmark = needs_folder()

HERE = space_id16(SPACE)


async def fill(bench: Bench) -> None:
    await ensure_identity(bench.store, node_did="did:key:z6MkNode", entropy=bench.entropy)
    await bench.write(Write("small", SMALL, {"x-note": "n"}), Write("large", LARGE))
    await bench.write(Write("shared", LARGE), Write("p" * 900, SMALL))
    await bench.write(Write("other", LARGE + b"other"), space=OTHER)
    await bench.write(Write("gone", LARGE + b"gone"), Write("gone too", SMALL))
    await bench.write(Write("gone", None), Write("gone too", None))


async def check(bench: Bench) -> CheckResult:
    return await check_store(
        LmdbRows(bench.store, bench.folder.parent), bench.files, bench.folder.parent
    )


async def found(bench: Bench) -> list[str]:
    checked = await check(bench)
    assert checked.damages == len(checked.findings)
    return [f"{one.what} {one.name}: {one.text}" for one in checked.findings]


async def commit(bench: Bench, *puts: Put, adds: tuple[Add, ...] = ()) -> None:
    assert isinstance(await bench.store.commit(Commit(puts=puts, adds=adds)), Committed)


async def test_nothing_is_damaged(bench: Bench) -> None:
    """The check finds no damage after puts, replacements, deletes and collections of every size."""
    await fill(bench)
    checked = await check(bench)
    assert checked.findings == []
    assert checked.bodies == 2
    assert checked.body_bytes == 2 * len(LARGE) + 5
    await bench.write(Write("gone", LARGE + b"gone"), Write("large", SMALL))
    for later_s in (0, 1, 4000):
        await bench.collect(NOW + later_s)
        assert (await check(bench)).damages == 0
    assert await found(bench) == []


async def head_is_junk(bench: Bench) -> None:
    # Over the row as it was weighed, so that only what it counts itself is missing.
    await commit(
        bench,
        Put(
            head_key(SPACE, "small"), b"\x91", weight_bytes=len(SMALL), account=usage_counter(HERE)
        ),
    )


async def head_of_another_path(bench: Bench) -> None:
    record = (await bench.store.read((head_key(SPACE, "small"),))).records[0]
    assert record is not None
    await commit(bench, Put(head_key(SPACE, "tall"), record.value))


async def body_in_a_row(bench: Bench) -> None:
    key = head_key(SPACE, "small")
    record = (await bench.store.read((key,))).records[0]
    assert record is not None and record.value is not None
    value = b"smell".join(record.value.rsplit(SMALL, 1))  # behind its path
    await commit(bench, head_put(key, value, sequence=space_keys(SPACE).sequence))


def head_put(key: bytes, value: bytes, *, sequence: bytes | None) -> Put:
    """Return a write of the row of the small value."""
    account = usage_counter(HERE)
    return Put(key, value, weight_bytes=len(SMALL), account=account, sequence=sequence)


async def head_without_position(bench: Bench) -> None:
    key = head_key(SPACE, "small")
    record = (await bench.store.read((key,))).records[0]
    assert record is not None and record.value is not None
    await commit(bench, head_put(key, record.value, sequence=None))


async def deleted_path_with_a_value(bench: Bench) -> None:
    key = head_key(SPACE, "small")
    await commit(bench, deleted_path_put(space_keys(SPACE), key, "small", now=NOW))


async def deleted_path_elsewhere(bench: Bench) -> None:
    key = head_key(SPACE, "gone")
    await commit(bench, deleted_path_put(space_keys(SPACE), key, "away", now=NOW))


async def sequence_is_junk(bench: Bench) -> None:
    await commit(bench, Put(SEQUENCES_PREFIX + b"s" * 16, b"junk"))


async def change_positions(bench: Bench, *, lost: bool) -> None:
    """Remove an entry from the table of positions, or add one of a row that does not exist."""
    env = environment_of(bench.store)
    table = open_positions(env)
    with env.begin(table, write=True) as txn, txn.cursor() as cursor:
        assert cursor.first()
        entry = cursor.key()
        assert txn.delete(entry) if lost else txn.put(entry + b"x", b"")


async def lost_position(bench: Bench) -> None:
    await change_positions(bench, lost=True)


async def position_of_nothing(bench: Bench) -> None:
    await change_positions(bench, lost=False)


async def unknown_kind(bench: Bench) -> None:
    await commit(bench, Put(b"~kind", b"1"))


async def document(bench: Bench) -> None:
    await commit(bench, Put(b"D" + b"d" * 32, b"{}"))


async def short_index(bench: Bench) -> None:
    await commit(bench, Put(b"I" + b"i" * 32, b"short"))


async def bytes_counted(bench: Bench) -> None:
    await commit(bench, adds=(Add(usage_counter(HERE), 5),))


async def rows_counted(bench: Bench) -> None:
    await commit(bench, adds=(Add(rows_counter(HERE), -1),))


async def files_counted(bench: Bench) -> None:
    await commit(bench, adds=(Add(BODIES_COUNTER, 1),))


async def spaces_counted(bench: Bench) -> None:
    await commit(bench, adds=(Add(b"cT", 1), Add(b"cH" + b"h" * 16, 2)))


async def delegations_counted(bench: Bench) -> None:
    await commit(bench, adds=(Add(b"cD" + b"d" * 16, 1),))


async def counter_is_junk(bench: Bench) -> None:
    await commit(bench, Put(b"cD" + b"d" * 16, b"1"))


async def references(bench: Bench) -> None:
    head = await bench.head("large")
    assert head is not None and head.object_name is not None
    name = head.object_name
    value = encode_object_record(ObjectRecord(name.generation, 3))
    key = object_key(name.space16, name.digest)
    await commit(bench, Put(key, value, weight_bytes=len(LARGE), account=usage_counter(HERE)))


async def missing_body(bench: Bench) -> None:
    head = await bench.head("large")
    assert head is not None and head.object_name is not None
    bench.files.place_of(head.object_name).unlink()


async def altered_body(bench: Bench) -> None:
    head = await bench.head("large")
    assert head is not None and head.object_name is not None
    bench.files.place_of(head.object_name).write_bytes(LARGE[:-1] + b"x")


DAMAGES: dict[str, tuple[Callable[[Bench], Awaitable[None]], tuple[str, ...]]] = {
    "a head": (head_is_junk, ("row value 'small' of the space", "counter bytes of the rows")),
    "a head of another path": (head_of_another_path, ("row value 'tall' of the space",)),
    "a body in a row": (body_in_a_row, ("row value 'small' of the space",)),
    "no position": (head_without_position, ("row value 'small' of the space",)),
    "a deleted path with a value": (deleted_path_with_a_value, ("row 'Z'",)),
    "a deleted path elsewhere": (deleted_path_elsewhere, ("row 'Z'",)),
    "a sequence": (sequence_is_junk, ("row 'H' 7373",)),
    "a lost position": (lost_position, ("store data.mdb: a row is missing in the order",)),
    "a position of nothing": (position_of_nothing, ("store data.mdb: the order of the changes",)),
    "no kind": (unknown_kind, ("row '~' 6b696e64: the row type is unknown",)),
    "a document": (document, ("row 'D' 6464",)),
    "an index": (short_index, ("row 'I' 6969",)),
    "bytes of bodies": (bytes_counted, ("counter bytes of the bodies of the space",)),
    "bytes of rows": (rows_counted, ("counter bytes of the rows of the space",)),
    "bytes of files": (files_counted, ("counter 'c' 42",)),
    "spaces": (spaces_counted, ("counter 'c' 4868", "counter 'c' 54")),
    "delegations": (delegations_counted, ("counter 'c' 4464",)),
    "a counter": (counter_is_junk, ("row 'c' 4464",)),
    "references": (references, ("counter references to the body",)),
    "a missing body": (missing_body, ("body ",)),
    "an altered body": (altered_body, ("body ",)),
}


@pytest.mark.parametrize("what", DAMAGES)
async def test_damage_is_named(bench: Bench, what: str) -> None:
    """The check finds each kind of damage by name, and no other."""
    await fill(bench)
    damage, expected = DAMAGES[what]
    await damage(bench)
    shown = await found(bench)
    assert len(shown) >= len(expected)
    assert all(any(line.startswith(start) for line in shown) for start in expected), shown
    assert all(any(line.startswith(start) for start in expected) for line in shown), shown
    assert not any("small" == line.rsplit(": ", 1)[-1] for line in shown)  # no value


async def test_two_mistakes_do_not_hide_each_other(bench: Bench) -> None:
    """Two counters that are wrong in opposite directions are both found, although their sum is
    right."""
    await fill(bench)
    adds = [Add(b"cD" + at.to_bytes(16, "big"), 1 if at % 2 else -1) for at in range(200)]
    await commit(bench, adds=tuple(adds))
    assert len(await found(bench)) == 200


def test_findings_are_bounded() -> None:
    """The check counts all findings but stores a limited number of them."""
    checked = CheckResult()
    for at in range(MOST_SHOWN + 5):
        checked.add("row", str(at), "")
    assert checked.damages == MOST_SHOWN + 5
    assert len(checked.findings) == MOST_SHOWN
    assert CheckResult().findings == []
