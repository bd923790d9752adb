"""Operations that read values in public spaces (wire §5.11, U8).

Everyone may read the values in spaces named `public`.
"""

from collections.abc import Sequence

from capabilities.capability_errors import InvalidIdentifier
from capabilities.resources import SpaceId, parse_space_id
from spaces.store.contract import has_value
from spaces.values.listing import Listing, ListingQuery, below, complete
from spaces.values.quota import PUBLIC_NAME
from spaces.values.value_heads import Head, head_key, head_of

from ...refusal import Refusal
from ...services import Services

MAX_PAGE_PATHS = 1000
# Paths may be long and listing needs no token, so the size of a page is limited too.
_MAX_PAGE_BYTES = 256 * 1024


def valid_space(text: str) -> SpaceId:
    """Parse the id of a space.

    The request is refused if the id is invalid.
    """
    try:
        return parse_space_id(text)
    except InvalidIdentifier:
        raise Refusal("bad-option", "Invalid space ID") from None


def public_space(text: str) -> SpaceId:
    """Parse the id of a public space.

    The request is refused for other spaces. The space need not be hosted here.
    """
    space = valid_space(text)
    if space.name != PUBLIC_NAME:  # no other name makes a space public (U8)
        raise Refusal("not-public")
    return space


async def find_public(services: Services, space: SpaceId, paths: tuple[str, ...]) -> Head:
    """Find the public value at the first path that has one.

    Return the row that describes the value. All paths are read in one snapshot.

    Raises:
        Refusal: `no-value`, none of the paths has a value.
    """
    keys = [head_key(space, path) for path in paths]
    records = (await services.store.read(keys)).records
    for key, record in zip(keys, records, strict=True):
        head = head_of(record, key=key)
        if head is not None:
            return head
    raise Refusal("no-value")


async def list_public(
    services: Services, space: SpaceId, *, prefix: str, after: str | None, limit: int
) -> Listing:
    """Return one page of a path and the paths below it in a public space (M61).

    The page is empty if the space is not hosted.
    """
    limit = min(max(limit, 1), MAX_PAGE_PATHS)
    query = ListingQuery(
        space, prefix=below(prefix), after=after, limit=limit, enough_bytes=_MAX_PAGE_BYTES
    )
    own_key = head_key(space, prefix)
    snapshot = await services.store.read((own_key,), ranges=query.ranges())
    listing = await complete(services.store, query, snapshot.pages[0])
    paths = listing.paths
    is_own_due = query.prefix != prefix and (after is None or _comes_before(after, prefix))
    if is_own_due and has_value(snapshot.records[0]):
        paths = (prefix, *paths)
    fitting = min(_number_that_fits(paths), limit)
    return Listing(paths[:fitting], more=listing.more or fitting < len(paths))


def _comes_before(one: str, other: str) -> bool:
    """Return whether a path is before another one in byte order."""
    return one.encode("utf-8", "surrogatepass") < other.encode("utf-8", "surrogatepass")


def _number_that_fits(paths: Sequence[str]) -> int:
    """Return how many of the first paths fit into a page.

    The first path always fits, so that a listing continues after a long path.
    """
    number = 0
    size = 0
    for path in paths:
        size += len(path)
        if size > _MAX_PAGE_BYTES and number > 0:
            break
        number += 1
    return number
