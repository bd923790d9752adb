"""List the paths of a space under a prefix, in byte order and in pages (wire §4.4.4, Q1, Q15, Q32)."""

from dataclasses import dataclass
from enum import Enum, auto
from hmac import compare_digest
from typing import Final

from blake3 import blake3
from msgspec import Struct

from capabilities.abilities import KV_LIST, satisfies, sufficient_for
from capabilities.caveats import Caveats, same_json, selection_of
from capabilities.principals import Principal
from capabilities.resources import Resource, SpaceResource, extends
from capabilities.strict_base64 import decode_url, encode_url
from capabilities.tokens import Invocation
from encryption_network.keyring import Keyring
from spaces.values.listing import MAX_LISTING, Listing, ListingQuery, complete, list_paths

from ...refusal import Refusal
from ...services import Services
from ..authorise import Call, read_call
from ..reading import Reading
from .conditions import Options
from .plan import Step

MAX_CURSOR_CHARS: Final = 131_072
_CONTEXT: Final = "sealspace/kv/list-cursor"
_MAC_BYTES: Final = 32


@dataclass(frozen=True, slots=True)
class Cursor:
    """The call that a cursor belongs to: its next page must be requested with the same words."""

    invoker: Principal
    space: str
    prefix: str
    limit: int | None


def encode_cursor(keyring: Keyring, origin: Cursor, last: str) -> str:
    """Return the cursor that continues strictly after `last`."""
    path = last.encode("utf-8", "surrogatepass")
    return encode_url(path + _mac(keyring, origin, path))


def parse_cursor(keyring: Keyring, text: str | None, origin: Cursor) -> str | None:
    """Return the path to continue after; None without a cursor."""
    if text is None:
        return None
    if len(text) > MAX_CURSOR_CHARS or origin.limit is None:
        raise Refusal("bad-option", "Invalid KV list cursor")
    raw = decode_url(text)
    if raw is None:
        raise Refusal("bad-option", "Invalid KV list cursor")
    path, mac = raw[:-_MAC_BYTES], raw[-_MAC_BYTES:]
    if len(mac) != _MAC_BYTES or not compare_digest(mac, _mac(keyring, origin, path)):
        raise Refusal("bad-option", "Invalid KV list cursor")
    last: str = path.decode("utf-8", "surrogatepass")
    return last


def _mac(keyring: Keyring, origin: Cursor, path: bytes) -> bytes:
    parts = [part.encode("utf-8", "surrogatepass") for part in (origin.invoker, origin.space, origin.prefix)]
    parts += [str(origin.limit).encode(), path]
    framed = b"".join(len(part).to_bytes(4, "big") + part for part in parts)
    return blake3(framed, key=keyring.derive(_CONTEXT)).digest()


class Paths(Struct, frozen=True, gc=False):
    """A listing."""

    paths: tuple[str, ...]
    next_cursor: str | None


async def list_granted(services: Services, invocation: Invocation, step: Step, options: Options) -> Paths:
    """Return the paths that start with the step's path and that the caller was granted.

    Raises:
        `bad-option`: this call cannot continue from the cursor.
        `duplicate-invocation`, ChainError, `space-not-found`, SpaceError: see `read_call`.
    """
    limit = options.list_limit
    after = None
    if options.list_cursor is not None:
        after = parse_cursor(services.keyring, options.list_cursor, _origin(invocation, step, options))
    query = ListingQuery(step.space, prefix=step.path, after=after, limit=limit or MAX_LISTING)
    reading = Reading()
    pages = reading.pages(query.ranges())
    call = await read_call(services, invocation, reading, claiming=True)
    call.require_hosted()
    scope = _Scope.of(call, step)
    listing = await complete(services.store, query, pages.found[0])
    paths = scope.within(step, listing)
    rest = scope.rest(step)
    # Without a limit everything is returned; with one, paths outside the grant do not count towards it. Those are left
    # out unread, however many lie beside what was granted (M55).
    while rest is not None and listing.more and (limit is None or len(paths) <= limit):
        query = ListingQuery(step.space, prefix=rest, after=listing.paths[-1], limit=query.limit)
        listing = await list_paths(services.store, query)
        paths += scope.within(step, listing)
    if limit is None or len(paths) <= limit:
        return Paths(tuple(paths), None)
    page = paths[:limit]
    return Paths(tuple(page), encode_cursor(services.keyring, _origin(invocation, step, options), page[-1]))


def _origin(invocation: Invocation, step: Step, options: Options) -> Cursor:
    return Cursor(invocation.invoker, step.space.text, step.path, options.list_limit)


class _Scope(Enum):
    """What of a plain prefix the caller was granted: a grant on `photos` does not cover `photos2` (X6, Q15)."""

    ALL = auto()
    SEGMENT = auto()
    """The path that the prefix is, and those below it."""
    PATH = auto()
    """The path that the prefix is."""
    NOTHING = auto()

    @classmethod
    def of(cls, call: Call, step: Step) -> "_Scope":
        """Return the scope of a judged call: what its grants and its own conditions both leave."""
        caveats = _caveats(call, step)
        selection = selection_of(SpaceResource(step.space, "kv", step.path), caveats)
        if selection is not None and selection.is_exact:
            return cls.PATH
        ends_segment = step.path.endswith("/")  # then nothing that begins so lies outside
        if selection is not None and not ends_segment and _is_of(selection.resource, step):
            return cls.SEGMENT
        if call.invocation.invoker == step.space.owner:  # R1; both are canonical (P4)
            return cls.ALL
        granted = _granted(call, step, caveats)
        if not granted:
            return cls.NOTHING
        is_whole = ends_segment or not all(_is_of(resource, step) for resource in granted)
        return cls.ALL if is_whole else cls.SEGMENT

    def rest(self, step: Step) -> str | None:
        """Return the prefix of what was granted behind the first page, where the path itself is; None: nothing."""
        match self:
            case _Scope.ALL:
                return step.path
            case _Scope.SEGMENT:
                return step.path + "/"
            case _Scope.PATH | _Scope.NOTHING:
                return None

    def within(self, step: Step, listing: Listing) -> list[str]:
        """Return the paths of a listing that were granted."""
        match self:
            case _Scope.ALL:
                return list(listing.paths)
            case _Scope.SEGMENT:
                below = step.path + "/"
                return [path for path in listing.paths if path == step.path or path.startswith(below)]
            case _Scope.PATH:
                return [path for path in listing.paths if path == step.path]
            case _Scope.NOTHING:
                return []


def _caveats(call: Call, step: Step) -> Caveats:
    """Return the call's own conditions on the path; every grant it rests on states the same or none (I35, I39)."""
    for capability in call.invocation.capabilities:
        if _is_of(capability.resource, step) and satisfies(capability.ability, KV_LIST):
            return capability.caveats
    return {}


def _granted(call: Call, step: Step, caveats: Caveats) -> list[Resource]:
    """Return the resources that contain the prefix and were granted without conditions, or under those of the call."""
    asked, sufficient = SpaceResource(step.space, "kv", step.path), sufficient_for(KV_LIST)
    return [
        row.resource
        for stored in call.cited
        for row in stored.delegation.capabilities
        if row.ability in sufficient
        and (not row.caveats or same_json(dict(row.caveats), dict(caveats)))
        and extends(asked, row.resource)
    ]


def _is_of(resource: Resource, step: Step) -> bool:
    """Return whether a resource is just the path that is listed; query and fragment do not count."""
    return isinstance(resource, SpaceResource) and (resource.space, resource.service, resource.path) == (
        step.space,
        "kv",
        step.path,
    )
