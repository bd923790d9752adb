"""Storage of attestation collateral (AT31, AT32).

A document is written only when it changes, so that attempts without a new result do not invalidate
the decisions that rely on it. The download status is a separate row, which records the attempts and
when the next attempt is due. A status without a document means that a quote named a platform family
whose document is not stored yet.
"""

from collections.abc import Sequence

from .._codec import Codec
from ..keyspace import COLLATERAL_PREFIX, COLLATERAL_STATE_PREFIX, collateral_state_key
from ..store.contract import ANY, Expect, Packed, Put, Range, Store, pages_of, read_page

MAX_FAMILIES = 256
"""The most platform families that are recorded, with or without a document.

There are a few dozen in the world.
"""
_FMSPC_BYTES = 6
_PAGE_ROWS = 32
"""Documents in one read. Each has at most 256 KiB, so a page of them stays within its limit."""

Family = tuple[bytes, str]
"""The FMSPC of 6 bytes, and the name of a PCK authority."""


class CollateralState(Packed, kw_only=True):
    """The download status of attestation collateral.

    There is one status for each platform family. Times are in epoch seconds.
    """

    source: str = ""
    refreshed_at: float = 0.0
    tried_at: float = 0.0
    due_at: float = 0.0
    failed: str = ""
    failures: int = 0
    wanted_at: float = 0.0

    @property
    def is_missing(self) -> bool:
        """Whether the collateral is not stored yet."""
        return not self.source


_CODEC = Codec(CollateralState)
state_of = _CODEC.read
"""Decode a download status. Return None if the row does not exist."""


def state_put(family: Family, state: CollateralState | None, *, expect: Expect = ANY) -> Put:
    """Return the write operation that stores a collateral download's status.

    `family` is the platform family of the collateral. A state of None deletes the row.
    """
    fmspc, authority = family
    value = None if state is None else _CODEC.encode(state)
    return Put(collateral_state_key(fmspc, authority), value, expect=expect)


async def collateral_states(store: Store) -> Sequence[tuple[Family, CollateralState, bytes]]:
    """Return the download status of all attestation collateral.

    There is one status for each platform family, with the version stamp of the row that stores it.
    At most twice MAX_FAMILIES rows are returned.
    """
    page = await read_page(store, Range(COLLATERAL_STATE_PREFIX, limit=2 * MAX_FAMILIES))
    return [(_family(key), _CODEC.of(record), record.stamp) for key, record in page.rows]


async def collateral_documents(store: Store) -> Sequence[tuple[Family, bytes]]:
    """Return all stored collateral documents.

    Each document comes with its platform family.
    """
    found: list[tuple[Family, bytes]] = []
    async for page in pages_of(store, Range(COLLATERAL_PREFIX, limit=_PAGE_ROWS)):
        found += [
            (_family(key), record.value) for key, record in page.rows if record.value is not None
        ]
    return found


def _family(key: bytes) -> Family:
    """Extract the platform family from a database key.

    Both kinds of rows have a prefix of one letter.
    """
    return key[1 : 1 + _FMSPC_BYTES], key[1 + _FMSPC_BYTES :].decode("ascii", "replace")
