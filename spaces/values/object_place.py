"""Where a store keeps its bodies: recorded in the store, so that no process looks for them in
another place.

A store without the row keeps them in the folder `blobs` of its data. The row is written by the
first start on a bucket, which is refused when there are bodies in files already, and by a move of
the bodies.
"""

from typing import Final

from ..keyspace import BODIES_COUNTER, BODIES_PLACE_KEY
from ..space_errors import BodiesElsewhere, StoreBusy
from ..store.contract import (
    Add,
    Commit,
    Put,
    Record,
    Refused,
    Store,
    counter_of,
    read_row,
    stamp_of,
)

FOLDER: Final = "folder"


async def recorded_place(store: Store) -> str:
    """Return the recorded place of the bodies: FOLDER, or the address of a bucket."""
    return _place_of(await read_row(store, BODIES_PLACE_KEY))


async def claim_place(store: Store, place: str) -> None:
    """Compare a place with the one recorded, or record it while there is no body in files."""
    for _ in range(2):
        row, counter = (await store.read((BODIES_PLACE_KEY, BODIES_COUNTER))).records
        if (recorded := _place_of(row)) == place:
            return
        if counter_of(counter):
            words = "the folder blobs of its data" if recorded == FOLDER else recorded
            raise BodiesElsewhere(f"large values of this store lie in {words}")
        put = Put(BODIES_PLACE_KEY, place.encode(), expect=stamp_of(row))
        # The bound is judged in the commit: a body that is named meanwhile refuses it.
        if not isinstance(
            await store.commit(Commit(puts=(put,), adds=(Add(BODIES_COUNTER, 0, at_most=0),))),
            Refused,
        ):
            return
    raise StoreBusy("where the bodies lie could not be recorded")


async def record_move(store: Store, place: str) -> None:
    """Record that the bodies were moved."""
    row = await read_row(store, BODIES_PLACE_KEY)
    put = Put(BODIES_PLACE_KEY, place.encode(), expect=stamp_of(row))
    if isinstance(await store.commit(Commit(puts=(put,))), Refused):
        raise StoreBusy("where the bodies lie could not be recorded")


def _place_of(row: Record | None) -> str:
    return FOLDER if row is None or row.value is None else row.value.decode("utf-8", "replace")
