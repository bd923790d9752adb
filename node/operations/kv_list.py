"""List the paths of a space under a prefix, in byte order and in pages (wire §4.4.4, Q1, Q15, Q32)."""

from msgspec import Struct

from capabilities.abilities import sufficient_for
from capabilities.resources import SpaceResource, extends
from capabilities.tokens import Invocation
from spaces.listing import MAX_LISTING, Listing, ListingQuery, complete, list_paths

from ..services import Services
from .authorise import Call, read_call
from .conditions import Options
from .cursor import Cursor, encode_cursor, parse_cursor
from .plan import Step, Verb


class Paths(Struct, frozen=True, gc=False):
    """A listing.

    Attributes:
        paths: full keys in byte order.
        next_cursor: gives the following page; None on the last one, and where no limit was asked for.
    """

    paths: tuple[str, ...]
    next_cursor: str | None


async def list_granted(services: Services, invocation: Invocation, step: Step, options: Options) -> Paths:
    """Return the paths that start with the step's path and that the caller was granted.

    Raises:
        BadOption: the cursor is not one this call can go on from.
        DuplicateInvocation, ChainError, SpaceNotFound, SpaceError: see `read_call`.
    """
    limit = options.list_limit
    after = None
    if options.list_cursor is not None:
        after = parse_cursor(services.keyring, options.list_cursor, _origin(invocation, step, options))
    query = ListingQuery(step.space, prefix=step.path, after=after, limit=limit or MAX_LISTING)
    call = await read_call(services, invocation, ranges=query.ranges(), claiming=True)
    call.require_hosted()
    scope = _Scope.of(call, step)
    listing = await complete(services.store, query, call.pages[0])
    paths = scope.within(listing)
    # Without a limit everything is returned; with one, paths out of the grant do not count towards it.
    while listing.more and (limit is None or len(paths) <= limit):
        query = ListingQuery(step.space, prefix=step.path, after=listing.paths[-1], limit=query.limit)
        listing = await list_paths(services.store, query)
        paths += scope.within(listing)
    if limit is None or (len(paths) <= limit and not listing.more):
        return Paths(tuple(paths), None)
    page = paths[:limit]
    return Paths(tuple(page), encode_cursor(services.keyring, _origin(invocation, step, options), page[-1]))


def _origin(invocation: Invocation, step: Step, options: Options) -> Cursor:
    return Cursor(invocation.invoker, step.space.text, step.path, options.list_limit)


class _Scope(Struct, frozen=True, gc=False):
    """What of a plain prefix the caller was granted: a grant on `photos` says nothing of `photos2` (X6, Q15)."""

    step: Step
    granted: tuple[SpaceResource, ...] | None

    @classmethod
    def of(cls, call: Call, step: Step) -> "_Scope":
        """Find the granted resources; None where nothing of the prefix can lie outside them."""
        if call.invocation.invoker == step.space.owner:  # R1; both are canonical (P4)
            return cls(step, None)
        asked = SpaceResource(step.space, "kv", step.path)
        sufficient = sufficient_for(Verb.LIST.value)
        granted = tuple(
            [
                row.resource
                for stored in call.cited
                for row in stored.registered.delegation.capabilities
                if row.ability in sufficient
                and isinstance(row.resource, SpaceResource)
                and extends(asked, row.resource)
            ]
        )
        is_whole = any(resource.path != step.path for resource in granted) or step.path.endswith("/")
        return cls(step, None if is_whole else granted)

    def within(self, listing: Listing) -> list[str]:
        """Return the paths of a listing that were granted."""
        if self.granted is None:
            return list(listing.paths)
        if not self.granted:
            return []
        # Each grant is of the prefix itself, and that ends no segment: it covers this one path and those below it.
        here, below = self.step.path, self.step.path + "/"
        return [path for path in listing.paths if path == here or path.startswith(below)]
