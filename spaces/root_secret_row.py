"""The row that says which root secret a store is sealed with (RK1).

The row has the number and the check value of the present root secret, those of its predecessors,
and the keys that were kept from them. The check value is derived from the secret and does not
reveal it. The kept keys are sealed, and opaque here.

While a root secret is being replaced, the row also names its successor. Every commit that stores
something sealed requires this row to be unchanged (RK4). So a process that still has the former
secret cannot store anything that the new one does not open.
"""

from typing import Annotated

import msgspec
from msgspec.structs import replace

from capabilities.frozen_struct import FrozenStruct

from ._codec import Codec
from .keyspace import ROOT_SECRET_KEY
from .store.contract import Packed, Put, Record, Store, read_row, stamp_of

CHECK_VALUE_BYTES = 32
MAX_FORMER = 64
"""The former root secrets that a store remembers; older ones are reported as unknown."""

_CheckValue = Annotated[
    bytes, msgspec.Meta(min_length=CHECK_VALUE_BYTES, max_length=CHECK_VALUE_BYTES)
]
_Number = Annotated[int, msgspec.Meta(ge=1, lt=1 << 31)]
_SealedKeys = Annotated[bytes, msgspec.Meta(max_length=1024)]


class FormerSecret(Packed):
    """A root secret that was replaced.

    Attributes:
        number: 1 for the store's first root secret.
        check_value: of the secret, 32 bytes.
        replaced_at: epoch seconds.
    """

    number: _Number
    check_value: _CheckValue
    replaced_at: float


class NextSecret(Packed):
    """The root secret that is replacing the present one.

    Attributes:
        check_value: of the secret, 32 bytes.
        begun_at: epoch seconds.
        node_did: the DID of the node afterwards.
        kept_keys: the keys that stay the same, sealed under this secret.
    """

    check_value: _CheckValue
    begun_at: float
    node_did: Annotated[str, msgspec.Meta(max_length=4096)]
    kept_keys: _SealedKeys


class RootSecretRow(Packed):
    """The root secret that a store is sealed with.

    Attributes:
        number: 1 for the store's first root secret; each replacement adds one.
        check_value: of the secret, 32 bytes.
        since: epoch seconds of the replacement, or of the first start that recorded the secret.
        kept_keys: keys of former secrets, sealed under this one; empty for the first secret.
        former: the replaced secrets, oldest first.
        next: the successor while this secret is being replaced, else None.
    """

    number: _Number
    check_value: _CheckValue
    since: float
    kept_keys: _SealedKeys = b""
    former: Annotated[tuple[FormerSecret, ...], msgspec.Meta(max_length=MAX_FORMER)] = ()
    next: NextSecret | None = None

    def former_of(self, check_value: bytes) -> FormerSecret | None:
        """Return the replaced root secret with a check value, or None."""
        for former in self.former:
            if former.check_value == check_value:
                return former
        return None

    def replaced(self, now: float) -> "RootSecretRow":
        """Return the row after the replacement by `next` was finished.

        `now` is in epoch seconds.
        """
        assert self.next is not None  # the caller has begun a replacement
        this = FormerSecret(number=self.number, check_value=self.check_value, replaced_at=now)
        return RootSecretRow(
            number=self.number + 1,
            check_value=self.next.check_value,
            since=now,
            kept_keys=self.next.kept_keys,
            former=(*self.former, this)[-MAX_FORMER:],
        )

    def replacing(self, successor: NextSecret) -> "RootSecretRow":
        """Return the row while a successor replaces this secret."""
        return replace(self, next=successor)


_CODEC = Codec(RootSecretRow)
check_root_secret_row = _CODEC.of
root_secret_of = _CODEC.read


class StoredRootSecret(FrozenStruct):
    """The row of a store's root secret, as it was read.

    Attributes:
        row: the decoded row.
        record: the record that contains it. Its version stamp shows whether the row is unchanged.
    """

    row: RootSecretRow
    record: Record


async def read_root_secret(store: Store) -> StoredRootSecret | None:
    """Read which root secret a store is sealed with.

    Returns:
        None for a store that was last served by a version without this row.

    Raises:
        RecordDamaged: the row does not decode.
        SpaceError: the store does not answer.
    """
    record = await read_row(store, ROOT_SECRET_KEY)
    row = _CODEC.read(record)
    if record is None or row is None:
        return None
    return StoredRootSecret(row=row, record=record)


def root_secret_put(row: RootSecretRow, *, former: StoredRootSecret | None) -> Put:
    """Return the write operation for the row.

    Args:
        row: the row to store.
        former: what was read, or None if the store had no row. The commit is refused if the store
            has another one.
    """
    former_record = None if former is None else former.record
    return Put(ROOT_SECRET_KEY, _CODEC.encode(row), expect=stamp_of(former_record))
