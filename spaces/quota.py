"""How many bytes a space holds, and how many it may hold.

Every row that holds a body is weighed with it in the space's counter, inside the commit: usage is exact without being
read first, and a row that is replaced or deleted gives its weight back (ST7).

Example:
    commit = Commit(puts=plan.puts, adds=(quota_add(space, limit_bytes=1 << 30),))
    if isinstance(outcome, Refused): ...      # read the counter again: is there room?
"""

from typing import Final

from capabilities.resources import SpaceId

from .keyspace import usage_counter, x16
from .store.contract import Add, Record, counter_of

DEFAULT_QUOTA_BYTES: Final = 1 << 30


def usage_key(space: SpaceId) -> bytes:
    """Key of the counter of a space, which is also the account that its rows are charged to."""
    return usage_counter(x16(space.text))


def usage_of(record: Record | None) -> int:
    """Return the bytes that a space holds, from the record under `usage_key`."""
    return counter_of(record)


def quota_add(space: SpaceId, *, limit_bytes: int) -> Add:
    """Refuse the commit if the space would hold more than the limit after it.

    Add it only to commits that grow a space: a delete must work beyond the limit.
    """
    return Add(usage_key(space), 0, at_most=limit_bytes)
