"""The paths that stored a content key (RL21).

An encrypted value contains its content key, wrapped for an encryption network. The first path that
stored a content key owns it. The row of the key has that path and, once another path has stored the
same key, a second one. More paths change nothing. Rows are never removed, because an envelope that
was replaced or deleted is still a secret.

A path is recorded as the key of the row of its value. A content key is recorded by its hash, which
the caller computes: this package cannot open wrapped keys.

Example:
    stored = [StoredKey(row_key=row_key, place=head_key)]
    plan = await plan_key_places(store, stored, account=space_keys(space).rows)
    commit = Commit(puts=(*plan.puts, ...), checks=(*plan.checks, ...))
"""

from collections import defaultdict
from collections.abc import Sequence

from capabilities.frozen_struct import AcyclicStruct, FrozenStruct

from .._codec import Codec
from ..store.contract import Check, Packed, Put, Record, Store, stamp_of
from .metadata import ROW_BYTES


class KeyPlaces(Packed):
    """The paths that stored a content key, as keys of the rows of values.

    Attributes:
        owner: the first path.
        other: the second path, or None. A key with two paths is released to nobody but its owner
            in person (RL22).
    """

    owner: bytes
    other: bytes | None = None

    @property
    def value_keys(self) -> tuple[bytes, ...]:
        """The keys of the rows of values, the first path first."""
        return (self.owner,) if self.other is None else (self.owner, self.other)

    @property
    def charged_bytes(self) -> int:
        """The size of the row, as it counts towards the limit of a space (ST22)."""
        return ROW_BYTES + len(self.owner) + len(self.other or b"")


_CODEC = Codec(KeyPlaces)


def key_places_of(record: Record | None) -> KeyPlaces | None:
    """Decode the paths of a content key; None if no path has stored it.

    Raises RecordDamaged if the row does not decode.
    """
    return _CODEC.read(record)


class StoredKey(FrozenStruct):
    """A content key that a commit stores at a path.

    Attributes:
        row_key: `keyspace.key_places_key` of the key.
        place: the key of the row of the value.
    """

    row_key: bytes
    place: bytes


class KeyPlacesPlan(AcyclicStruct):
    """The part of a commit that records where content keys are stored.

    Attributes:
        puts: the rows that change.
        checks: the rows that have the path already.
        growth_bytes: by how much the account grows at most.
    """

    puts: tuple[Put, ...] = ()
    checks: tuple[Check, ...] = ()
    growth_bytes: int = 0


_NOTHING = KeyPlacesPlan()


async def plan_key_places(
    store: Store, stored: Sequence[StoredKey], *, account: bytes
) -> KeyPlacesPlan:
    """Prepare the rows of content keys that a commit stores (RL21).

    Every row is written only over the very row that was read. A writer that loses a race is refused
    and plans again, so no path is lost.

    Args:
        store: contains the rows.
        stored: the content keys, in the order of the writes.
        account: key of the counter to which new and changed rows are charged (ST22).
    Raises:
        RecordDamaged: a row does not decode.
        StoreUnavailable: the store does not answer.
    """
    if not stored:
        return _NOTHING
    places_by_row: dict[bytes, list[bytes]] = defaultdict(list)
    for stored_key in stored:
        places_by_row[stored_key.row_key].append(stored_key.place)
    row_keys = tuple(places_by_row)
    records = (await store.read(row_keys)).records
    puts: list[Put] = []
    checks: list[Check] = []
    growth_bytes = 0
    for row_key, record in zip(row_keys, records, strict=True):
        recorded = key_places_of(record)
        updated = _add_places(recorded, places_by_row[row_key])
        if record is not None and updated == recorded:
            # The commit relies on this row, so the row has to be as durable as the commit.
            checks.append(Check(row_key, record.stamp))
            continue
        # A changed row is charged anew as a whole, to who changed it. So whoever stores keys of
        # others at second paths takes nothing of their limits.
        growth_bytes += updated.charged_bytes
        put = Put(
            row_key,
            _CODEC.encode(updated),
            expect=stamp_of(record),
            weight_bytes=updated.charged_bytes,
            account=account,
        )
        puts.append(put)
    return KeyPlacesPlan(puts=tuple(puts), checks=tuple(checks), growth_bytes=growth_bytes)


def _add_places(recorded: KeyPlaces | None, places: Sequence[bytes]) -> KeyPlaces:
    """Return the paths of a content key after further paths have stored it.

    Args:
        recorded: the paths so far; None: no path has stored the key.
        places: the further paths, at least one, in the order of the writes. One of them may be the
            owner again.
    """
    owner = places[0] if recorded is None else recorded.owner
    if recorded is not None and recorded.other is not None:
        return recorded  # the row has room for two paths
    for place in places:
        if place != owner:
            return KeyPlaces(owner, place)
    return KeyPlaces(owner)
