"""The location where a node stores large values.

The location is the data folder or a bucket. All processes read the location from one row. Without
the row, large values are stored in the folder `blobs` of the data folder. The row is written when a
node first starts with a bucket, and when the values are moved. A first start with a bucket is
refused if large values are already stored in files.
"""

from ..keyspace import BODIES_COUNTER, BODIES_PLACE_KEY
from ..space_errors import BodiesElsewhere, StoreBusy
from ..store.contract import (
    Add,
    Commit,
    Put,
    Record,
    Refused,
    Store,
    commit_puts,
    counter_of,
    read_row,
    stamp_of,
)

FOLDER = "folder"


async def recorded_location(store: Store) -> str:
    """Return the location where large values are stored.

    The location is FOLDER or the address of a bucket.
    """
    return _location_of(await read_row(store, BODIES_PLACE_KEY))


async def claim_location(store: Store, location: str) -> None:
    """Record the location where large values are stored.

    The location cannot be changed while large values exist. Raises BodiesElsewhere if large values
    are stored in another location.
    """
    # If another process changes the store meanwhile, the second attempt finds what it wrote.
    for _ in range(2):
        row, counter = (await store.read((BODIES_PLACE_KEY, BODIES_COUNTER))).records
        recorded = _location_of(row)
        if recorded == location:
            return
        if counter_of(counter):
            used = "the folder blobs of its data folder" if recorded == FOLDER else recorded
            raise BodiesElsewhere(f"this store keeps its large values in {used}")
        put = Put(BODIES_PLACE_KEY, location.encode(), expect=stamp_of(row))
        # The limit of 0 bytes refuses this commit if another commit stored a large value meanwhile.
        no_bodies = Add(BODIES_COUNTER, 0, at_most=0)
        outcome = await store.commit(Commit(puts=(put,), adds=(no_bodies,)))
        if not isinstance(outcome, Refused):
            return
    raise StoreBusy(
        "the location of the large values could not be recorded: another process changed the store"
    )


async def record_move(store: Store, location: str) -> None:
    """Record the new location of large values.

    All large values must have been copied there before.
    """
    row = await read_row(store, BODIES_PLACE_KEY)
    if not await commit_puts(store, Put(BODIES_PLACE_KEY, location.encode(), expect=stamp_of(row))):
        raise StoreBusy(
            "the location of the large values could not be recorded: another process changed the"
            " location"
        )


def _location_of(row: Record | None) -> str:
    if row is None or row.value is None:
        return FOLDER
    return row.value.decode("utf-8", "replace")
