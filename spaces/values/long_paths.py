"""Rows that say that paths go on: they lead a listing into the groups of paths of more than 400
bytes (`keyspace`).

Such a row exists as long as there is a path below it, and every path that is added or removed puts
it anew:

- A put of a path that had no value puts all rows on the way to it, whatever is there.
- A delete reads the path's group together with the row that leads to it. The row is removed if the
  group contains nothing else, and then the group above is treated the same way. The commit is
  refused unless the row is the one that was read: so the next attempt sees any path added or
  removed meanwhile, and no path is left without the rows on its way.
"""

from collections.abc import Sequence
from typing import Final

from ..keyspace import MAX_PLAIN_PATH_BYTES, group_of, last_segment, path_keys
from ..space_errors import PathTooLong
from ..store.contract import Page, Put, Range, Store, read_page

# so that the rows on the way to a path fit into one commit with it (ST6)
MAX_PATH_BYTES: Final = 100_000
# A path of an earlier version may be longer: rows further up stay, and lead to nothing.
_MOST_LEVELS: Final = MAX_PATH_BYTES // MAX_PLAIN_PATH_BYTES + 1


def added_path_puts(space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the rows on the way to paths that get a value, each once."""
    keys: dict[bytes, None] = {}
    for raw in paths:
        if len(raw) > MAX_PATH_BYTES:
            raise PathTooLong(
                f"the path of a value may have {MAX_PATH_BYTES} bytes, this has {len(raw)}"
            )
        keys.update(dict.fromkeys(path_keys(space16, raw)[:-1]))
    return [Put(key, b"") for key in keys]


async def removed_path_puts(store: Store, space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the puts for the rows on the way to paths whose values are deleted. One read for each
    group looked at."""
    # beginning of a group: its prefix, the keys removed from it
    leaving: dict[bytes, tuple[bytes, set[bytes]]] = {}
    for raw in paths:
        _leave(leaving, raw, path_keys(space16, raw)[-1])
    puts: list[Put] = []
    while leaving and len(puts) < _MOST_LEVELS * len(paths):
        # the innermost first: its row in the group above may be removed too
        beginning = max(leaving, key=len)
        prefix, keys = leaving.pop(beginning)
        leads = path_keys(space16, beginning + b"x")[-2]
        wanted = Range(prefix, limit=len(keys) + 1, keys_only=True)
        snapshot = await store.read((leads,), ranges=(wanted,))
        record = snapshot.records[0]
        if record is None or record.value is None:
            continue
        if await _holds_others(store, wanted, snapshot.pages[0], keys):
            puts.append(Put(leads, b"", expect=record.stamp))
            continue
        puts.append(Put(leads, None, expect=record.stamp))
        _leave(leaving, beginning, leads)
    return puts


async def _holds_others(store: Store, wanted: Range, page: Page, keys: set[bytes]) -> bool:
    """Whether a group has rows that are not removed, reading past tombstones; what is read later is
    no older."""
    while not {key for key, _ in page.rows} - keys:
        if not page.more:
            return False
        page = await read_page(
            store, Range(wanted.prefix, page.last_key, wanted.limit, keys_only=True)
        )
    return True


def _leave(leaving: dict[bytes, tuple[bytes, set[bytes]]], raw: bytes, key: bytes) -> None:
    """Note that the row of a path, or the one that says that a beginning goes on, is removed from
    its group."""
    start = last_segment(raw)
    if start:  # nothing leads to the outermost group
        leaving.setdefault(raw[:start], (group_of(key), set()))[1].add(key)
