"""An index for paths longer than 400 bytes.

Such paths are stored in groups (see `keyspace`): a group contains the values whose paths begin with
the same segments of 400 bytes and have one segment more, and the index rows of longer paths.

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

from ..keyspace import (
    MAX_PLAIN_PATH_BYTES,
    group_of,
    index_row_key,
    last_segment,
    path_keys,
)
from ..space_errors import PathTooLong
from ..store.contract import Page, Put, Range, Store, read_page

# ST6: a value and all index rows that lead to its path fit into one commit.
MAX_PATH_BYTES = 100_000
# The most index rows that lead to a path of this length.
_MAX_INDEX_ROWS = MAX_PATH_BYTES // MAX_PLAIN_PATH_BYTES + 1


def added_path_puts(space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the index updates for new paths, as write operations.

    Raises:
        PathTooLong: a path has more than MAX_PATH_BYTES.
    """
    index_keys: dict[bytes, None] = {}  # each once, in order
    for path in paths:
        if len(path) > MAX_PATH_BYTES:
            raise PathTooLong(
                f"a path may have at most {MAX_PATH_BYTES} bytes; this one has {len(path)}"
            )
        *index_keys_of_path, _ = path_keys(space16, path)
        index_keys.update(dict.fromkeys(index_keys_of_path))
    return [Put(key, b"") for key in index_keys]


@dataclass(slots=True)
class _Group:
    """A group of paths, and the keys of the rows that are removed from it.

    `prefix` is the key prefix of the rows in the group.
    """

    prefix: bytes
    removed_keys: set[bytes] = field(default_factory=set)

    @property
    def range(self) -> Range:
        """The rows to read: one more than are removed shows whether the group keeps a row."""
        return Range(self.prefix, limit=len(self.removed_keys) + 1, keys_only=True)

    def keeps_row_of(self, page: Page) -> bool:
        """Return whether a page of the group contains a row that is not removed."""
        return any(key not in self.removed_keys for key, _ in page.rows)


async def removed_path_puts(store: Store, space16: bytes, paths: Sequence[bytes]) -> list[Put]:
    """Return the index updates for deleted paths, as write operations.

    Index rows that lead to no path any more are deleted. The index row of a group that keeps a row
    is rewritten, so that concurrent deletes are refused. At least one read is needed for each
    group.

    Args:
        store: contains the rows.
        space16: the hash of the space.
        paths: the deleted paths in UTF-8. Paths of one segment have no index rows.
    Raises:
        StoreUnavailable: the store does not answer.
    """
    # The groups from which rows are removed, by the segments that their paths begin with.
    groups: dict[bytes, _Group] = {}
    for path in paths:
        *_, value_key = path_keys(space16, path)
        _add_removed(groups, path, value_key)
    puts: list[Put] = []
    # This ends the work early only for a path of an earlier version, which can be longer than
    # MAX_PATH_BYTES. Its outer index rows then stay, and lead to nothing.
    max_puts = _MAX_INDEX_ROWS * len(paths)
    while groups and len(puts) < max_puts:
        # The innermost first, because its index row is in the group above and may be removed too.
        beginning = max(groups, key=len)
        group = groups.pop(beginning)
        index_key = index_row_key(space16, beginning)
        snapshot = await store.read((index_key,), ranges=(group.range,))
        (index_row,) = snapshot.records
        (first_page,) = snapshot.pages
        if index_row is None or index_row.value is None:  # it is deleted already
            continue
        if await _keeps_row(store, group, first_page):
            puts.append(Put(index_key, b"", expect=index_row.stamp))
        else:
            puts.append(Put(index_key, None, expect=index_row.stamp))
            _add_removed(groups, beginning, index_key)
    return puts


async def _keeps_row(store: Store, group: _Group, first_page: Page) -> bool:
    """Return whether a group contains a row that is not removed.

    Later pages are read from later snapshots. That does no harm, because the commit is refused if
    the index row was rewritten meanwhile.
    """
    page = first_page
    while not group.keeps_row_of(page):
        if not page.more:
            return False
        page = await read_page(store, replace(group.range, after=page.last_key))
    return True


def _add_removed(groups: dict[bytes, _Group], path: bytes, key: bytes) -> None:
    """Note that a row is removed from the group of a path.

    `key` is the key of the row: of the path's value, or of the index row for longer paths.
    """
    beginning = path[: last_segment(path)]
    if beginning:  # no index row leads to the outermost group
        group = groups.setdefault(beginning, _Group(group_of(key)))
        group.removed_keys.add(key)
