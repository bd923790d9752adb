"""Paged listings of the paths in a space (wire §4.4.4, Q1, Q15, Q32, M61).

A listing contains a path and the paths below it, in byte order.
"""

from collections.abc import Sequence
from hmac import compare_digest

from blake3 import blake3

from capabilities.abilities import KV_LIST, satisfies, sufficient_for
from capabilities.caveats import Caveats, same_json, selection_of
from capabilities.frozen_struct import AcyclicStruct
from capabilities.resources import Resource, SpaceResource, extends
from capabilities.strict_base64 import decode_url, encode_url
from encryption_network.keyring import Keyring
from spaces.store.contract import has_value
from spaces.values.listing import MAX_LISTING, ListingQuery, below, complete, list_paths
from spaces.values.value_heads import head_key

from ...refusal import Refusal
from ..authorise import Call, read_call
from .plan import OperationTarget, Request

MAX_CURSOR_CHARS = 131_072
_CONTEXT = "sealspace/kv/list-cursor"
_MAC_BYTES = 32


def encode_cursor(keyring: Keyring, origin: Sequence[str], last: str) -> str:
    """Return a cursor for the next page of a listing.

    The cursor is authenticated by a MAC.

    Args:
        keyring: derives the MAC key.
        origin: the parameters of the call that the cursor is for; the next page must be requested
            with the same ones.
        last: the last path of this page.
    """
    path = last.encode("utf-8", "surrogatepass")
    return encode_url(path + _mac(keyring, origin, path))


def parse_cursor(keyring: Keyring, text: str, origin: Sequence[str]) -> str:
    """Verify a cursor and return the last path of the previous page.

    Raises:
        Refusal: `bad-option`, the cursor is malformed, or was made for another call.
    """
    raw = None
    if len(text) <= MAX_CURSOR_CHARS:
        raw = decode_url(text)
    if raw is None:
        raw = b""  # too short for a MAC, so it is refused below
    path = raw[:-_MAC_BYTES]
    mac = raw[-_MAC_BYTES:]
    # In constant time, so that a client cannot find a valid MAC byte by byte.
    if not compare_digest(mac, _mac(keyring, origin, path)):
        raise Refusal("bad-option", "Invalid KV list cursor")
    last: str = path.decode("utf-8", "surrogatepass")
    return last


def _mac(keyring: Keyring, origin: Sequence[str], path: bytes) -> bytes:
    """Return the MAC of a cursor."""
    parts = [word.encode("utf-8", "surrogatepass") for word in origin]
    parts.append(path)
    # With lengths, parts that would join to the same bytes have different MACs.
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake3(framed, key=keyring.derive(_CONTEXT)).digest()


class Paths(AcyclicStruct):
    """One page of a listing of paths."""

    paths: Sequence[str]
    next_cursor: str | None


async def list_granted(request: Request) -> Paths:
    """List a path and the paths below it, as far as the caller may see them (M61).

    Raises:
        Refusal: `bad-option`, this call cannot continue from the cursor.
        Errors of `read_call`.
    """
    services = request.services
    target = request.target
    limit = request.options.list_limit
    origin = (request.invocation.invoker, target.space.text, target.path, str(limit))
    after = None
    if request.options.list_cursor is not None:
        after = parse_cursor(services.keyring, request.options.list_cursor, origin)
    query = ListingQuery(
        target.space, prefix=below(target.path), after=after, limit=limit or MAX_LISTING
    )
    own_key = head_key(target.space, target.path)
    call = await read_call(services, request.invocation, (own_key,), query.ranges())
    call.require_hosted()
    granted = _granted_paths(call, target)
    paths: list[str] = []
    # A path that ends with a slash is among the paths below it, unless those are not listed.
    is_listed_below = granted.prefix == target.path
    is_due = granted.is_requested_granted and not is_listed_below and after is None
    if is_due and has_value(call.records[0]):
        paths.append(target.path)  # before all others, in byte order
    has_more = False
    if granted.prefix is not None:
        if granted.prefix == query.prefix:
            listing = await complete(services.store, query, call.pages[0])
        else:
            query = ListingQuery(
                target.space, prefix=granted.prefix, after=after, limit=query.limit
            )
            listing = await list_paths(services.store, query)
        paths += listing.paths
        while limit is None and listing.more:
            query = ListingQuery(
                target.space, prefix=query.prefix, after=listing.paths[-1], limit=query.limit
            )
            listing = await list_paths(services.store, query)
            paths += listing.paths
        has_more = listing.more
    if limit is None or (len(paths) <= limit and not has_more):
        return Paths(paths, None)
    page = paths[:limit]
    return Paths(page, encode_cursor(services.keyring, origin, page[-1]))


class _GrantedPaths(AcyclicStruct):
    """The paths of a listing that the caller may see.

    Attributes:
        is_requested_granted: whether the requested path itself is granted.
        prefix: the text that the other granted paths begin with; None if there are none.
    """

    is_requested_granted: bool
    prefix: str | None


def _granted_paths(call: Call, target: OperationTarget) -> _GrantedPaths:
    """Determine which paths of a listing the caller may see (Q15).

    A grant that covers the requested path covers all paths below it too, because both go by whole
    segments (X6).
    """
    everything = _GrantedPaths(is_requested_granted=True, prefix=below(target.path))
    # An empty path that is present covers paths that begin with a slash. Only an absent one covers
    # all paths (X3), and the listing of an empty path contains them.
    of_empty_path = _GrantedPaths(is_requested_granted=True, prefix="/")
    requested = SpaceResource(target.space, "kv", path=target.path)
    caveats = _conditions_of(call, target)
    selection = selection_of(requested, caveats)
    if selection is not None and selection.is_exact:
        return _GrantedPaths(is_requested_granted=True, prefix=None)
    if selection is not None and target.path == "" and _is_of(selection.resource, target):
        return of_empty_path
    if call.invocation.invoker == target.space.owner:  # both are canonical (R1, P4)
        return everything
    granted = _granted_resources(call, requested, caveats)
    if not granted:
        return _GrantedPaths(is_requested_granted=False, prefix=None)
    if target.path == "" and all(_is_of(resource, target) for resource in granted):
        return of_empty_path
    return everything


def _conditions_of(call: Call, target: OperationTarget) -> Caveats:
    """Return the conditions of the capability that is called.

    Every grant that the call depends on has the same conditions or none (I35, I39).
    """
    for capability in call.invocation.capabilities:
        if _is_of(capability.resource, target) and satisfies(capability.ability, KV_LIST):
            return capability.caveats
    return {}


def _granted_resources(call: Call, requested: SpaceResource, caveats: Caveats) -> list[Resource]:
    """Return the resources of the cited grants that cover a listing.

    A grant with conditions counts only if the call has the same conditions.
    """
    sufficient = sufficient_for(KV_LIST)
    granted: list[Resource] = []
    for stored in call.cited:
        for capability in stored.delegation.capabilities:
            if capability.ability not in sufficient:
                continue
            if not extends(requested, capability.resource):
                continue
            conditions = capability.caveats
            if not conditions or same_json(dict(conditions), dict(caveats)):
                granted.append(capability.resource)
    return granted


def _is_of(resource: Resource, target: OperationTarget) -> bool:
    """Return whether the path of a resource equals the requested prefix.

    The spaces must be equal too. The resource's query and fragment are ignored.
    """
    return (
        isinstance(resource, SpaceResource)
        and resource.space == target.space
        and resource.service == "kv"
        and resource.path == target.path
    )
