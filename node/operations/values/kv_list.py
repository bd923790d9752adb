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
    raw = (decode_url(text) if len(text) <= MAX_CURSOR_CHARS else None) or b""
    path, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    # In constant time, so that a client cannot find a valid MAC byte by byte.
    if not compare_digest(mac, _mac(keyring, origin, path)):
        raise Refusal("bad-option", "Invalid KV list cursor")
    last: str = path.decode("utf-8", "surrogatepass")
    return last


def _mac(keyring: Keyring, origin: Sequence[str], path: bytes) -> bytes:
    parts = [*[word.encode("utf-8", "surrogatepass") for word in origin], path]
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
    services, invocation, target = request.services, request.invocation, request.target
    limit, after = request.options.list_limit, None
    origin = (invocation.invoker, target.space.text, target.path, str(limit))
    if (cursor := request.options.list_cursor) is not None:
        after = parse_cursor(services.keyring, cursor, origin)
    query = ListingQuery(target.space, prefix=target.path, after=after, limit=limit or MAX_LISTING)
    call = await read_call(services, invocation, (), query.ranges())
    call.require_hosted()
    is_path_granted, rest = _permitted_prefix(call, target)

    def permitted(listed: Sequence[str]) -> Sequence[str]:
        """Return only the paths that the caller may see."""
        if rest == target.path:
            return listed
        return [
            path
            for path in listed
            if (path == target.path and is_path_granted)
            or (rest is not None and path.startswith(rest))
        ]

    listing = await complete(services.store, query, call.pages[0])
    paths = [*permitted(listing.paths)]
    # Without a limit everything is returned. With one, only granted paths count towards it. Paths
    # outside the grant are skipped without being read, however many there are (M55).
    while rest is not None and listing.more and (limit is None or len(paths) <= limit):
        query = ListingQuery(target.space, prefix=rest, after=listing.paths[-1], limit=query.limit)
        listing = await list_paths(services.store, query)
        paths += permitted(listing.paths)
    if limit is None or len(paths) <= limit:
        return Paths(paths, None)
    page = paths[:limit]
    return Paths(page, encode_cursor(services.keyring, origin, page[-1]))


def _permitted_prefix(call: Call, target: OperationTarget) -> tuple[bool, str | None]:
    """Determine the caller's permitted paths under a prefix.

    Returns:
        Whether the path equal to the prefix is granted, and the prefix of the other granted paths,
        or None. A grant on `photos` does not cover `photos2` (X6, Q15).
    """
    # Every grant that the call depends on has the same conditions or none (I35, I39).
    own = [
        c.caveats
        for c in call.invocation.capabilities
        if _is_of(c.resource, target) and satisfies(c.ability, KV_LIST)
    ]
    caveats: Caveats = own[0] if own else {}
    asked = SpaceResource(target.space, "kv", target.path)
    selection = selection_of(asked, caveats)
    if selection is not None and selection.is_exact:
        return True, None
    # every path that starts with `segment` is below the requested path
    segment = target.path if target.path.endswith("/") else target.path + "/"
    if selection is not None and segment != target.path and _is_of(selection.resource, target):
        return True, segment
    if call.invocation.invoker == target.space.owner:  # R1; both are canonical (P4)
        return True, target.path
    # A grant with conditions counts only if the call has the same conditions.
    sufficient = sufficient_for(KV_LIST)
    granted = [
        row.resource
        for stored in call.cited
        for row in stored.delegation.capabilities
        if row.ability in sufficient
        and (not row.caveats or same_json(dict(row.caveats), dict(caveats)))
        and extends(asked, row.resource)
    ]
    if not granted:
        return False, None
    return True, segment if all(_is_of(resource, target) for resource in granted) else target.path


def _is_of(resource: Resource, target: OperationTarget) -> bool:
    """Return whether the path of a resource equals the requested prefix.

    The spaces must be equal too. The resource's query and fragment are ignored.
    """
    return isinstance(resource, SpaceResource) and (
        resource.space,
        resource.service,
        resource.path,
    ) == (target.space, "kv", target.path)
