"""An index for paths longer than 400 bytes.

Such paths are stored in groups (see `keyspace`).

A listing finds each group through an index row. An index row exists as long as there is a path
below it. It is rewritten whenever a path is added or removed:

- The first write of a path writes all index rows that lead to it, whether they exist or not.
- A delete reads the path's group together with the index row that leads to it. If the group
  contains nothing else, the index row is deleted, and the group above is treated in the same way.
  The commit is refused unless the index row is unchanged. So the next attempt sees any path that
  was added or removed meanwhile, and no path loses the index rows that lead to it.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

from msgspec.structs import replace

from ..keyspace import MAX_PLAIN_PATH_BYTES, group_of, last_segment, path_keys
from ..space_errors import PathTooLong
from ..store.contract import Page, Put, Range, Store, read_page

# ST6: a value and all index rows that lead to its path fit into one commit.
MAX_PATH_BYTES = 100_000
# A path of an earlier version can be longer. Then the upper index rows stay, and lead to nothing.
_MOST_LEVELS = MAX_PATH_BYTES // MAX_PLAIN_PATH_BYTES + 1


def added_path_puts(space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the index updates for new paths, as write operations."""
    keys: dict[bytes, None] = {}
    for raw in paths:
        if len(raw) > MAX_PATH_BYTES:
            raise PathTooLong(
                f"a path may have at most {MAX_PATH_BYTES} bytes; this one has {len(raw)}"
            )
        keys.update(dict.fromkeys(path_keys(space16, raw)[:-1]))
    return [Put(key, b"") for key in keys]


@dataclass(slots=True)
class _Group:
    """A group of paths, and the keys of the rows that are removed from it.

    `prefix` is the key prefix of the rows in the group.
    """

    prefix: bytes
    removed: set[bytes] = field(default_factory=set)

    def others_in(self, page: Page) -> set[bytes]:
        """Return the keys in a page that are not removed."""
        return {key for key, _ in page.rows} - self.removed


async def removed_path_puts(store: Store, space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the index updates for deleted paths, as write operations.

    Index rows that lead to no path any more are deleted. The others are rewritten, so that
    concurrent deletes are refused. At least one read is needed for each group.
    """
    # The groups from which rows are removed, by the first bytes of all paths in the group.
    removed: dict[bytes, _Group] = {}
    for raw in paths:
        _add_removed(removed, raw, path_keys(space16, raw)[-1])
    puts: list[Put] = []
    while removed and len(puts) < _MOST_LEVELS * len(paths):
        # The innermost first, because its index row is in the group above and may be removed too.
        beginning = max(removed, key=len)
        group = removed.pop(beginning)
        # The index row of a group is the last one that leads to any path in it, such as this one.
        index_key = path_keys(space16, beginning + b"x")[-2]
        # One row more than are removed shows whether the group keeps a row.
        range_ = Range(group.prefix, limit=len(group.removed) + 1, keys_only=True)
        snapshot = await store.read((index_key,), ranges=(range_,))
        (record,) = snapshot.records
        (page,) = snapshot.pages
        if record is None or record.value is None:  # the index row is deleted already
            continue
        # Later pages are read from later snapshots. That does no harm, because the commit is
        # refused if the index row was rewritten meanwhile.
        others = group.others_in(page)
        while not others and page.more:
            page = await read_page(store, replace(range_, after=page.last_key))
            others = group.others_in(page)
        if others:
            puts.append(Put(index_key, b"", expect=record.stamp))
        else:
            puts.append(Put(index_key, None, expect=record.stamp))
            _add_removed(removed, beginning, index_key)
    return puts


def _add_removed(removed: dict[bytes, _Group], path: bytes, key: bytes) -> None:
    """Note that a row is removed from the group of a path."""
    start = last_segment(path)
    if start:  # no index row leads to the outermost group
        group = removed.setdefault(path[:start], _Group(group_of(key)))
        group.removed.add(key)
