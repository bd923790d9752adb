"""Retrieval of the fetches of copies by their owner (RC35)."""

from msgspec import Struct

from capabilities.abilities import READ_RECEIPTS
from spaces.documents.fetch_rows import Fetch, fetches_of, fetches_range
from spaces.documents.network_rows import network_row_key

from ...services import Services
from ..authorise import read_call
from .network_reading import admitted_reader, known_network
from .release_receipts import requested_place

PAGE_FETCHES = 100


class FetchedCopy(Struct, rename="camel"):
    """A fetch of a copy, as clients see it."""

    reader: str
    space: str
    path: str
    version: int
    etag: str
    hour: int
    at_micros: int


class FetchPage(Struct):
    """A page of fetches, the oldest hour first.

    `after` is null on the last page.
    """

    fetches: tuple[FetchedCopy, ...]
    after: str | None


async def read_fetches(services: Services, header: str, *, path_id: str, after: str) -> FetchPage:
    """Return one page of the fetches of copies that a network's owner shares (RC35).

    The caller must be the network's owner or an authorised delegate of the owner. Only the network
    `default` has fetches.

    Args:
        services: the node's.
        header: untrusted text of the `Authorization` header: a UCAN to this node whose only
            capability is `sealspace.encryption/receipts` on the network.
        path_id: network id of the path, percent-decoded once.
        after: untrusted `after` of the previous page; empty for the first page.

    Raises:
        Errors of `admitted_reader` and `read_call`.
        Refusal: `network-unknown`; `request-malformed`, `after` is invalid.
    """
    invocation, network = admitted_reader(services, header, path_id, READ_RECEIPTS)
    place = requested_place(after)
    call = await read_call(
        services,
        invocation,
        (network_row_key(network),),
        (fetches_range(network, after=place, limit=PAGE_FETCHES),),
    )
    known_network(call.records[0])
    fetches, next_place = fetches_of(call.pages[0])
    return FetchPage(
        fetches=tuple([_shown(fetch) for fetch in fetches]),
        after=None if next_place is None else next_place.hex(),
    )


def _shown(fetch: Fetch) -> FetchedCopy:
    return FetchedCopy(
        reader=fetch.reader,
        space=fetch.space,
        path=fetch.path,
        version=fetch.version,
        etag=fetch.etag,
        hour=fetch.hour,
        at_micros=int(fetch.at * 1_000_000),
    )
