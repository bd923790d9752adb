"""Storage of the fetches of copies (RC33 to RC36).

A fetch is a read of a shared secret's copy by somebody other than its owner. There is one row for
each reader, version of a copy and hour: the key has a hash of these, so another fetch finds the
row. The rows of an owner are in the order of their hours, under the owner's network `default`.
"""

from blake3 import blake3

from capabilities.principals import Principal
from capabilities.resources import NetworkId, SpaceId, network_id

from .._codec import Codec
from ..keyspace import FETCHES_PREFIX, fetch_key, micros8, x16
from ..store.contract import Packed, Page, Put, Range, Record, Store, stamp_of
from .receipt_rows import PLACE_BYTES, sweep_networks

HOUR_S = 3_600
_NETWORK = "default"
_WALK = "fetches"
_HASH_BYTES = 16


class Fetch(Packed, kw_only=True):
    """A fetch of a copy.

    Attributes:
        reader: DID of the recipient of the owner's grant.
        space: the owner's space that contains the copy.
        path: path of the copy.
        version: number of the copy's version; 0 if it is not known.
        etag: BLAKE3 of the copy in hex, without quotes.
        at: time of the first fetch in this hour, epoch seconds.
    """

    reader: str
    space: str
    path: str
    version: int
    etag: str
    at: float

    @property
    def hour(self) -> int:
        """The start of the hour in which the copy was fetched, in epoch seconds."""
        return int(self.at) // HOUR_S * HOUR_S


_CODEC = Codec(Fetch)
fetch_of = _CODEC.of
"""Decode the row of a fetch."""


def fetches_network(owner: Principal) -> NetworkId:
    """Return the encryption network with which an owner's fetches are listed (RC35)."""
    return network_id(owner, _NETWORK)


def fetch_row_key(space: SpaceId, fetch: Fetch) -> bytes:
    """Return the key of a fetch's row.

    The fetches of one version by one reader in one hour have the same key (RC34). `space` is the
    parsed form of `fetch.space`.
    """
    parts = (fetch.reader, fetch.space, fetch.path, str(fetch.version), fetch.etag)
    # None of the parts contains a zero byte, so different fetches have different texts.
    text = "\0".join(parts).encode("utf-8", "surrogatepass")
    place = micros8(fetch.hour) + blake3(text).digest(length=_HASH_BYTES)
    return fetch_key(x16(fetches_network(space.owner).text), place)


def fetch_put(key: bytes, fetch: Fetch, record: Record | None) -> Put:
    """Return the write operation that stores a fetch.

    `record` is the row that was read: the write fails if another process has changed the row.
    """
    return Put(key, _CODEC.encode(fetch), expect=stamp_of(record))


def fetches_range(network: NetworkId, *, after: bytes | None, limit: int) -> Range:
    """Return the key range of the fetches that are listed with an encryption network.

    The oldest hour comes first. The range begins after the fetch with the sort key `after`, of
    `PLACE_BYTES` bytes, or with the first fetch if `after` is None.
    """
    network16 = x16(network.text)
    start = None if after is None else fetch_key(network16, after)
    return Range(fetch_key(network16), after=start, limit=limit)


def fetches_of(page: Page) -> tuple[list[Fetch], bytes | None]:
    """Return the fetches in a page of `fetches_range`.

    The second result is the `after` argument for the next page, or None if no more fetches follow.
    """
    after = None if page.place is None else page.place[-PLACE_BYTES:]
    return [fetch_of(record) for _, record in page.rows], after


async def sweep_fetches(store: Store, *, until: float) -> bool:
    """Delete the fetches of hours that began before a given time (RC36).

    The time `until` is in epoch seconds. Returns True if more old fetches may remain.
    """
    return await sweep_networks(store, FETCHES_PREFIX, _WALK, until=until)
