"""The owners whom the operator has allowed to create spaces (ST14).

In hosting mode `permit`, only these owners and those in the settings may create spaces.

The operator admits an owner, and the store has one row for each admitted owner. An operation
that hosts a space reads the owner's row in the same read as all other rows, and lists it under
`checks`. So a removal that was acknowledged before the commit wins, on every worker and machine.
"""

from collections.abc import AsyncIterator

from capabilities.principals import Principal

from .._codec import Codec
from ..keyspace import ADMISSIONS_PREFIX, x16
from ..store.contract import ABSENT, Packed, Put, Range, Store, has_value, pages_of

_PAGE_ROWS = 1000


class Admission(Packed):
    """An owner whom the operator has allowed to create spaces."""

    owner: Principal
    admitted_at: float


_CODEC = Codec(Admission)
admission_of = _CODEC.of


def admission_key(owner: Principal) -> bytes:
    """Return the database key of an owner's permission to create spaces."""
    return ADMISSIONS_PREFIX + x16(owner)


is_admitted = has_value
"""Return whether the operator has allowed an owner to create spaces, by the row under
`admission_key`."""


def admission_put(owner: Principal, *, now: float) -> Put:
    """Return the write operation that allows an owner to create spaces.

    The commit is refused if the owner is admitted already.
    """
    return Put(admission_key(owner), _CODEC.encode(Admission(owner, now)), expect=ABSENT)


async def read_admissions(store: Store) -> AsyncIterator[Admission]:
    """Yield every owner whom the operator has allowed to create spaces.

    The owners are ordered by the hashes of their DIDs.
    """
    async for page in pages_of(store, Range(ADMISSIONS_PREFIX, limit=_PAGE_ROWS)):
        for _, record in page.rows:
            yield admission_of(record)
