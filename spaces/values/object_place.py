"""The storage location of bodies, recorded so that all processes use the same location.

One row records it. Without the row, bodies are stored in the folder `blobs` of the data folder. The
row is written by the first start with a bucket, which is refused if there are bodies in files
already, and by a move of the bodies.
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
    counter_of,
    read_row,
    stamp_of,
)

FOLDER = "folder"


async def recorded_location(store: Store) -> str:
    """Return the recorded storage location of bodies: FOLDER, or the address of a bucket."""
    return _place_of(await read_row(store, BODIES_PLACE_KEY))


async def claim_location(store: Store, place: str) -> None:
    """Record the storage location of bodies. Refuse to change it while bodies are stored.

    A location is recorded only if no bodies are stored in files or in a bucket.
    """
    for _ in range(2):
        row, counter = (await store.read((BODIES_PLACE_KEY, BODIES_COUNTER))).records
        if (recorded := _place_of(row)) == place:
            return
        if counter_of(counter):
            place = "the folder blobs of its data folder" if recorded == FOLDER else recorded
            raise BodiesElsewhere(f"this store keeps its large values in {place}")
        put = Put(BODIES_PLACE_KEY, place.encode(), expect=stamp_of(row))
        # The limit of 0 bytes refuses the commit if another one named a body meanwhile.
        if not isinstance(
            await store.commit(Commit(puts=(put,), adds=(Add(BODIES_COUNTER, 0, at_most=0),))),
            Refused,
        ):
            return
    raise StoreBusy(
        "the location of the large values could not be recorded: another process changed the store"
    )


async def record_move(store: Store, place: str) -> None:
    """Record that the bodies were moved to another storage location."""
    row = await read_row(store, BODIES_PLACE_KEY)
    put = Put(BODIES_PLACE_KEY, place.encode(), expect=stamp_of(row))
    if isinstance(await store.commit(Commit(puts=(put,))), Refused):
        raise StoreBusy(
            "the location of the large values could not be recorded: another process changed the"
            " location"
        )


def _place_of(row: Record | None) -> str:
    return FOLDER if row is None or row.value is None else row.value.decode("utf-8", "replace")
