"""Paged listings of the paths in a space (wire §4.4.4, Q1, Q15, Q32).

Paths are listed by prefix, in byte order.
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
from spaces.values.listing import MAX_LISTING, ListingQuery, complete, list_paths

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
    """List the paths that the caller may see under a prefix.

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
    query = ListingQuery(target.space, prefix=target.path, after=after, limit=limit or MAX_LISTING)
    call = await read_call(services, request.invocation, (), query.ranges())
    call.require_hosted()
    granted = _granted_paths(call, target)
    listing = await complete(services.store, query, call.pages[0])
    paths = [*granted.among(listing.paths)]
    # Only granted paths count towards the limit. From here on the prefix is that of the grant, so
    # paths outside the grant are skipped without being read, however many there are (M55).
    while listing.more and granted.prefix is not None:
        if limit is not None and len(paths) > limit:
            break  # one path beyond the limit shows that another page follows
        query = ListingQuery(
            target.space, prefix=granted.prefix, after=listing.paths[-1], limit=query.limit
        )
        listing = await list_paths(services.store, query)
        paths += granted.among(listing.paths)
    if limit is None or len(paths) <= limit:
        return Paths(paths, None)
    page = paths[:limit]
    return Paths(page, encode_cursor(services.keyring, origin, page[-1]))


class _GrantedPaths(AcyclicStruct):
    """The paths below a requested prefix that the caller may see.

    Attributes:
        requested: the prefix that the caller requested.
        is_requested_granted: whether the path that equals the requested prefix is granted.
        prefix: the prefix of the other granted paths; None if there are none.
    """

    requested: str
    is_requested_granted: bool
    prefix: str | None

    def among(self, listed: Sequence[str]) -> Sequence[str]:
        """Return those of some listed paths that the caller may see."""
        requested, prefix = self.requested, self.prefix
        if prefix == requested:
            return listed
        return [
            path
            for path in listed
            if (path == requested and self.is_requested_granted)
            or (prefix is not None and path.startswith(prefix))
        ]


def _granted_paths(call: Call, target: OperationTarget) -> _GrantedPaths:
    """Determine the paths below a prefix that the caller may see.

    A grant on `photos` does not cover `photos2` (X6, Q15).
    """
    requested = target.path
    # Every path that starts with `segment` is below the requested path. A listing by prefix also
    # contains paths such as `photos2`, which only start with the same text.
    segment = requested if requested.endswith("/") else requested + "/"
    everything = _GrantedPaths(requested=requested, is_requested_granted=True, prefix=requested)
    one_tree = _GrantedPaths(requested=requested, is_requested_granted=True, prefix=segment)
    asked = SpaceResource(target.space, "kv", path=requested)
    caveats = _conditions_of(call, target)
    selection = selection_of(asked, caveats)
    if selection is not None and selection.is_exact:
        return _GrantedPaths(requested=requested, is_requested_granted=True, prefix=None)
    # A condition on the requested path itself does not cover paths that only start with its text.
    if selection is not None and segment != requested and _is_of(selection.resource, target):
        return one_tree
    if call.invocation.invoker == target.space.owner:  # both are canonical (R1, P4)
        return everything
    granted = _granted_resources(call, asked, caveats)
    if not granted:
        return _GrantedPaths(requested=requested, is_requested_granted=False, prefix=None)
    # A grant on a path above the requested one covers all paths that start with the requested text.
    if all(_is_of(resource, target) for resource in granted):
        return one_tree
    return everything


def _conditions_of(call: Call, target: OperationTarget) -> Caveats:
    """Return the conditions of the capability that is called.

    Every grant that the call depends on has the same conditions or none (I35, I39).
    """
    for capability in call.invocation.capabilities:
        if _is_of(capability.resource, target) and satisfies(capability.ability, KV_LIST):
            return capability.caveats
    return {}


def _granted_resources(call: Call, asked: SpaceResource, caveats: Caveats) -> list[Resource]:
    """Return the resources of the cited grants that cover a listing.

    A grant with conditions counts only if the call has the same conditions.
    """
    sufficient = sufficient_for(KV_LIST)
    return [
        row.resource
        for stored in call.cited
        for row in stored.delegation.capabilities
        if row.ability in sufficient
        and (not row.caveats or same_json(dict(row.caveats), dict(caveats)))
        and extends(asked, row.resource)
    ]


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
