"""Lists of the delegations on a space (wire 4.5).

A request may ask instead for one delegation with its ancestors.

A list contains the newest delegations. Limits apply to the number examined, the number returned and
their size, and other tasks run in between. The list is read in steps, so each delegation is
returned in its state at that step.
"""

import asyncio
from collections.abc import Collection, Iterable, Sequence

import msgspec

from capabilities.capability_errors import InvalidIdentifier
from capabilities.chain import MAX_CHAIN_NODES, Marker, Markers, Registered, mentioned_spaces
from capabilities.cids import cid_text, parse_cid
from capabilities.frozen_struct import FrozenStruct
from capabilities.principals import Principal
from capabilities.resources import Resource, SpaceId, SpaceResource
from capabilities.strict_json import Json
from capabilities.tokens import Delegation, Invocation
from spaces.grants.delegations import space_grants_range, unexpired_of
from spaces.space_errors import TooMuchDecoded
from spaces.store.contract import read_page

from ...refusal import Refusal
from ...services import Services
from ..authorise import closure_contents, read_call, read_markers
from .delegation_listing import Entries, postable_token
from .root_identity import root_identities
from .status import status_at

FACT = "capabilitiesReadParams"


class GrantFilters(FrozenStruct):
    """Filters for the delegations on a space."""

    direction: str | None = None
    path: str | None = None
    actions: frozenset[str] | None = None

    def match(self, delegation: Delegation, identities: Collection[Principal]) -> bool:
        """Return whether a delegation matches all filters.

        `identities` are the wallets or keys that created or received the listed delegations.
        """
        if self.direction == "created" and delegation.delegator not in identities:
            return False
        if self.direction == "received" and delegation.delegate not in identities:
            return False
        capabilities = delegation.capabilities
        if self.actions is not None:
            abilities = {capability.ability for capability in capabilities}
            if abilities.isdisjoint(self.actions):
                return False
        if self.path is None:
            return True
        return any(_is_below(capability.resource, self.path) for capability in capabilities)


def _is_below(resource: Resource, path: str) -> bool:
    """Return whether a resource's path starts with the given one."""
    return (
        isinstance(resource, SpaceResource)
        and resource.path is not None
        and resource.path.startswith(path)
    )


class Chain(FrozenStruct, tag="chain"):
    """A request for one delegation and its ancestors.

    `cid` is untrusted.
    """

    cid: str = msgspec.field(name="delegation_cid")


class _List(FrozenStruct, tag="list"):
    """A request for a list of delegations."""

    filters: GrantFilters | None = None


def parse_query(facts: Iterable[Json]) -> GrantFilters | Chain:
    """Parse the query in a token's facts.

    It asks for one delegation, or for a filtered list. The first valid query counts. Without a
    valid query, return filters that match every delegation.
    """
    for fact in facts:
        if not isinstance(fact, dict):
            continue
        try:
            query = msgspec.convert(fact.get(FACT), _List | Chain)
        except msgspec.ValidationError:
            continue
        if isinstance(query, Chain):
            return query
        return query.filters or GrantFilters()
    return GrantFilters()


_STEP = 16  # delegations between two iterations of the event loop: a few milliseconds

_CID_PREFIX = (0x01, 0x55, 0x1E, 0x20)  # version 1, raw, BLAKE3, 32 bytes (E7)


class ListBounds(FrozenStruct):
    """Limits on the cost of one response.

    A longer list is cut and marked as truncated.
    """

    reported: int = 1000
    answer_bytes: int = 8 * 1024 * 1024
    examined: int = 8192
    page_rows: int = 512


DEFAULT_BOUNDS = ListBounds()


def is_about_grants(resource: Resource) -> bool:
    """Return whether a resource is exactly `<space>/capabilities/all`."""
    return isinstance(resource, SpaceResource) and resource == SpaceResource(
        resource.space, "capabilities", path="all"
    )


async def read_capabilities(
    services: Services,
    invocation: Invocation,
    space: SpaceId,
    *,
    bounds: ListBounds = DEFAULT_BOUNDS,
) -> Entries:
    """Return a space's active delegations that match the token's filters.

    If the token names one delegation, the result is only that delegation and its ancestors.

    Raises:
        Refusal: `space-not-found`; `bad-delegation-cid`, the token names a delegation by a text
            that is not a CID.
        Errors of `read_call`.
    """
    query = parse_query(invocation.facts)
    if isinstance(query, Chain):
        call = await read_call(services, invocation)
        call.require_hosted()
        return await _list_chain(services, space, query, bounds)
    newest = space_grants_range(space, limit=bounds.page_rows)
    call = await read_call(services, invocation, (), (newest,))
    call.require_hosted()
    identities = await root_identities(services, call)
    grants = _Grants(bounds)
    (page,) = call.pages
    examined = 0
    while True:
        contents = unexpired_of(page, now=services.now())
        for start in range(0, len(contents), _STEP):
            step = contents[start : start + _STEP]
            delegations = await services.delegations.first_of(step)
            grants.add_all(await _matching(services, delegations, query, identities))
            # Fewer than asked for: the request may not decode more.
            if grants.is_cut or len(delegations) < len(step):
                return Entries(grants.by_cid, truncated=True)
            await asyncio.sleep(0)  # lets other tasks run
        examined += len(page.rows)
        if not page.more or examined >= bounds.examined:
            return Entries(grants.by_cid, truncated=page.more)
        following = space_grants_range(space, after=page.last_key, limit=bounds.page_rows)
        page = await read_page(services.store, following)


class _Grants:
    """The delegations in a list, up to its bounds.

    Attributes:
        by_cid: the delegations as they are listed.
        is_cut: whether one was left out.
    """

    def __init__(self, bounds: ListBounds) -> None:
        self.by_cid: dict[str, msgspec.Raw] = {}
        self.is_cut = False
        self._bounds = bounds
        self._size_bytes = 0

    def add_all(self, delegations: Iterable[Delegation]) -> None:
        """Add delegations until the list is full."""
        for delegation in delegations:
            if (
                len(self.by_cid) >= self._bounds.reported
                or self._size_bytes >= self._bounds.answer_bytes
            ):
                self.is_cut = True
                return
            reported = _reported(delegation)
            self.by_cid[cid_text(delegation.cid)] = msgspec.Raw(reported)
            self._size_bytes += len(reported)


async def _matching(
    services: Services,
    delegations: Sequence[Registered | None],
    filters: GrantFilters,
    identities: Collection[Principal],
) -> list[Delegation]:
    """Return those of some delegations that are live and match the filters."""
    stored_ones = [stored for stored in delegations if stored is not None]
    contents = [stored.delegation.content_key for stored in stored_ones]
    marks = await read_markers(services, contents)
    now = services.now()
    matching: list[Delegation] = []
    for stored in stored_ones:
        if not _is_live(stored, marks, now):
            continue
        if filters.match(stored.delegation, identities):
            matching.append(stored.delegation)
    return matching


async def _list_chain(
    services: Services, space: SpaceId, query: Chain, bounds: ListBounds
) -> Entries:
    """Return a delegation and its ancestors.

    Only the first parent of each delegation is followed. The chain ends before the first delegation
    that is inactive or does not mention the space.
    """
    try:
        digest = parse_cid(query.cid).digest32
    except InvalidIdentifier:
        raise Refusal("bad-delegation-cid", query.cid) from None
    (stored,) = await services.delegations.by_cid([digest])
    marks = await read_markers(services, closure_contents([stored]))
    now = services.now()
    grants: list[msgspec.Raw] = []
    size_bytes = 0
    while stored is not None and _is_live(stored, marks, now):
        delegation = stored.delegation
        if space not in mentioned_spaces(delegation.capabilities):
            break
        if len(grants) >= MAX_CHAIN_NODES or size_bytes >= bounds.answer_bytes:
            return Entries(grants, truncated=True)
        reported = _reported(delegation)
        grants.append(msgspec.Raw(reported))
        size_bytes += len(reported)
        try:
            stored = await services.delegations.first_parent(stored)
        except TooMuchDecoded:
            return Entries(grants, truncated=True)
    return Entries(grants, truncated=False)


def _is_live(stored: Registered, marks: Markers, now: float) -> bool:
    """Return whether a delegation is active and not revoked.

    Its ancestors are not checked.
    """
    delegation = stored.delegation
    return (
        marks.get(delegation.content_key) is Marker.LIVE and status_at(delegation, now) == "active"
    )


def _reported(delegation: Delegation) -> bytes:
    """Return a delegation in JSON, as it is listed."""
    reported = {
        "capabilities": [
            {
                "resource": capability.resource.text,
                "ability": capability.ability,
                "caveats": capability.caveats,
            }
            for capability in delegation.capabilities
        ],
        "delegator": delegation.delegator,
        "delegate": delegation.delegate,
        # CIDs as arrays of byte values (Q23)
        "parents": [
            (*_CID_PREFIX, *parent.digest)
            for parent in delegation.parents
            if parent.digest is not None
        ],
        "raw": postable_token(delegation),
    }
    return msgspec.json.encode(reported)
