"""The change feed of the values below a prefix (wire §4.4.9, change-feed).

A reader begins without a cursor, reads pages until `more` is false, and asks again later with the
last cursor. Everything that the answer depends on is checked for each page anew.
"""

from collections.abc import Mapping, Sequence

from msgspec.structs import replace

from capabilities.abilities import KV_RETAIN, KV_SYNC
from capabilities.capability_errors import CaveatRefused, InvalidIdentifier
from capabilities.caveats import selection_of
from capabilities.chain import Marker, Registered
from capabilities.cids import Digest, parse_cid
from capabilities.clock_and_entropy import time_text
from capabilities.frozen_struct import AcyclicStruct
from capabilities.limits import counted_address
from capabilities.resources import SpaceResource, extends
from capabilities.tokens import Capability
from spaces.keyspace import space_keys
from spaces.store.sequence_waits import Ending, Waiting, WaitingPlace
from spaces.store.sequences import SequenceState, sequence_of
from spaces.values.changes import Change, ChangesPage, ChangesQuery, read_changes
from spaces.values.deleted_paths import feed_start_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import Call, closure_contents, read_call, read_markers
from .conditions import MAX_LIST_LIMIT
from .plan import Request
from .sync_cursor import NONCE_BYTES, Place, open_cursor, parse_cursor, seal_cursor

_DEFAULT_LIMIT = 500
_LIMIT_HEADER = "x-tinycloud-limit"
_CURSOR_HEADER = "x-tinycloud-cursor"
_PREFER_HEADER = "prefer"
MAX_WAIT_S = 60
"""The longest wait for a change, in seconds."""
_MAX_WAIT_DIGITS = 9
RETENTION_HEADER = "x-tinycloud-retention-grant"


class Window(AcyclicStruct, rename="camel"):
    """The times that the reader's right depends on, as RFC 3339 text, or None.

    Attributes:
        not_before: the latest begin of the cited delegations and their ancestors.
        expires_at: their earliest end.
        retain_until: the earliest end of the retention grant and its ancestors.
    """

    not_before: str | None
    expires_at: str | None
    retain_until: str | None


class Source(AcyclicStruct, rename="camel"):
    """Where the changes come from."""

    node_did: str
    space: str
    prefix: str


class Changes(AcyclicStruct):
    """The answer to a call of the feed."""

    changes: tuple[Mapping[str, object], ...]
    more: bool
    cursor: str
    source: Source
    authority: Window


class Waited(AcyclicStruct):
    """A page for which the call had a place to wait.

    Attributes:
        page: the page.
        wait_s: the longest wait that the node accepted, in seconds.
    """

    page: Changes
    wait_s: int


class _Call(AcyclicStruct):
    """A call of the feed, before it is authorised.

    Attributes:
        resource: the space and the prefix.
        limit: the page ends with the commit that reaches this number of changes.
        cursor: the cursor as sent, or None at the beginning.
        place: what the cursor contains; None without a cursor, or if it is from elsewhere.
        retention: the cid of the retention grant, or None.
        wait_s: how long an empty page may wait for a change, in seconds.
    """

    resource: SpaceResource
    limit: int
    cursor: str | None
    place: Place | None
    retention: "_RetentionCid | None"
    wait_s: int

    @property
    def prefix(self) -> str:
        """The prefix of the feed."""
        assert self.resource.path is not None  # `_feed_of` checked it
        return self.resource.path

    @property
    def origin(self) -> tuple[str, str]:
        """What the cursor is bound to."""
        return self.resource.space.text, self.prefix

    def query(self, *, after: int, floor: int = 0, until: int = 0) -> ChangesQuery:
        """Return the parameters of the page."""
        return ChangesQuery(
            space=self.resource.space,
            prefix=self.prefix,
            after=after,
            floor=floor,
            until=until,
            limit=self.limit,
        )


class _RetentionCid(AcyclicStruct):
    """The cid of a retention grant; the digest is None if no delegation has such a cid."""

    digest: Digest | None


async def sync(request: Request) -> Changes | Waited:
    """Return a page of the changes below a prefix; wait for it if the caller wants that (CF11).

    Raises:
        Refusal: `bad-option`, the token has other capabilities too, or a header is malformed;
            `space-not-found`; `retention-refused`; `sync-reset`, the reader has to start again.
        CaveatRefused: the grant is for one path alone.
        ConnectionError: the client has disconnected while it waited.
        Errors of `read_call`.
    """
    asked = _parse(request)
    found = await _read(request, asked, asked.place, records_use=True)
    assert found is not None  # a call begins where its cursor says
    if found.has_changes or asked.cursor is None or asked.wait_s == 0:
        return found.page
    waiting = Waiting(
        owner=asked.resource.space.owner,
        client=counted_address(request.message.client),  # as for connections (H9)
        wait_s=asked.wait_s,
        is_gone=request.message.is_gone,
    )
    with request.services.waits.place(waiting) as place:
        if place is None:
            return found.page
        return await _wait(request, asked, place, found)


async def _wait(
    request: Request, asked: _Call, place: WaitingPlace, found: "_Found"
) -> Changes | Waited:
    """Wait for a page with changes, and judge the call again before it is answered (CF12)."""
    cohort = request.services.cohort
    sequence = space_keys(asked.resource.space).sequence
    while True:
        # Other requests need not wait for this one to come to the same stage.
        cohort.answered(1)
        try:
            ending = await place.until_changed(sequence, found.sequence_row)
        finally:
            cohort.arrived(1)
            request.message.note_wait(place.waited_ns)
        if ending is Ending.GONE:
            raise ConnectionResetError("the client has disconnected")
        # The rows up to here contain no change for this reader, so they are not read again.
        read = await _read(request, asked, found.examined, records_use=False)
        if read is None:  # these rows were lost
            read = await _read(request, asked, asked.place, records_use=False)
            assert read is not None  # as in `sync`
        found = read
        if ending in (Ending.GIVEN_UP, Ending.CLOSED):
            return found.page
        if found.has_changes or ending is Ending.OVER:
            return Waited(page=found.page, wait_s=asked.wait_s)


class _Found(AcyclicStruct):
    """A page that was read.

    Attributes:
        page: the answer.
        has_changes: whether it contains changes, or more follow.
        sequence_row: the value of the row of the sequence; empty without a row.
        examined: the last number of the space when the page was read.
    """

    page: Changes
    has_changes: bool
    sequence_row: bytes
    examined: Place


async def _read(
    request: Request, asked: _Call, start: Place | None, *, records_use: bool
) -> _Found | None:
    """Authorise a call, and read the page that begins after a place.

    Returns None if `start` is a later place than that of the call, and is not in the store any
    more.
    """
    services = request.services
    own = space_keys(asked.resource.space)
    after = 0 if start is None else start.position
    first_range = asked.query(after=after).first_range()
    call = await read_call(
        services,
        request.invocation,
        (own.sequence, own.feed_start),
        (first_range,),
        records_use=records_use,
    )
    call.require_hosted()
    _refuse_single_path(request.invocation.capabilities[0], asked.resource)
    retain_until = await _retain_until(services, call, asked)
    state = sequence_of(call.records[0])
    place = _valid_place(asked, state, feed_start=feed_start_of(call.records[1]))
    if start is not None and not state.contains(start.position, start.history):
        return None
    query = asked.query(after=after, floor=place.floor, until=state.number)
    page = await read_changes(services.store, query, call.pages[0])
    answer = Changes(
        changes=tuple([_shown(change) for change in page.changes]),
        more=page.more,
        cursor=_next_cursor(services, asked, place, page),
        source=Source(
            node_did=services.keyring.node_did,
            space=asked.resource.space.text,
            prefix=asked.prefix,
        ),
        authority=_window(call.cited, retain_until),
    )
    row = call.records[0]
    return _Found(
        page=answer,
        has_changes=bool(page.changes) or page.more,
        sequence_row=b"" if row is None else row.value or b"",
        examined=replace(place, position=state.number),
    )


def _parse(request: Request) -> _Call:
    """Parse the token's capability and the headers of a call.

    Raises:
        Refusal: `bad-option`.
    """
    resource = _feed_of(request.invocation.capabilities)
    headers = {name.lower(): value.strip() for name, value in request.message.headers.items()}
    cursor = headers.get(_CURSOR_HEADER)
    limit = _limit_of(headers.get(_LIMIT_HEADER))
    place = None
    if cursor is not None:
        origin = (resource.space.text, resource.path or "")
        place = open_cursor(request.services.keyring, parse_cursor(cursor), origin)
    return _Call(
        resource=resource,
        limit=limit,
        cursor=cursor,
        place=place,
        retention=_retention_of(headers.get(RETENTION_HEADER)),
        wait_s=_wait_of(headers.get(_PREFER_HEADER, "")),
    )


def _feed_of(capabilities: Sequence[Capability]) -> SpaceResource:
    """Return the resource of a call's only capability.

    Raises:
        Refusal: `bad-option`, there are others, or the prefix is missing (CF1).
    """
    if len(capabilities) != 1:
        raise Refusal("bad-option", f"{KV_SYNC} must be the invocation's only capability")
    resource = capabilities[0].resource
    if (
        not isinstance(resource, SpaceResource)
        or not resource.path
        or resource.query is not None
        or resource.fragment is not None
    ):
        raise Refusal("bad-option", f"{KV_SYNC} requires a non-empty KV prefix")
    return resource


def _limit_of(text: str | None) -> int:
    """Return the limit of changes in a header."""
    if text is None:
        return _DEFAULT_LIMIT
    if text.isascii() and text.isdecimal() and len(text) <= len(str(MAX_LIST_LIMIT)):
        limit = int(text)
        if 1 <= limit <= MAX_LIST_LIMIT:
            return limit
    raise Refusal("bad-option", f"{_LIMIT_HEADER} must be between 1 and {MAX_LIST_LIMIT}")


def _wait_of(text: str) -> int:
    """Return the seconds that a caller prefers to wait (RFC 7240); 0 without such a preference.

    A preference that is malformed or unknown is ignored, as the RFC demands.
    """
    for preference in text.split(","):
        name, _, value = preference.partition(";")[0].partition("=")
        seconds = value.strip().strip('"')
        if name.strip().lower() != "wait":
            continue
        if not (seconds.isascii() and seconds.isdecimal() and len(seconds) <= _MAX_WAIT_DIGITS):
            return 0
        return min(int(seconds), MAX_WAIT_S)
    return 0


def _retention_of(text: str | None) -> _RetentionCid | None:
    """Return the cid of a retention grant in a header."""
    if text is None:
        return None
    try:
        return _RetentionCid(parse_cid(text).digest32)
    except InvalidIdentifier:
        raise Refusal("bad-option", f"{RETENTION_HEADER} must be a delegation CID") from None


def _refuse_single_path(capability: Capability, resource: SpaceResource) -> None:
    """Refuse a grant for one path alone: a feed also contains the paths below it (CF2).

    Raises:
        CaveatRefused: the condition of the grant selects exactly this path.
    """
    selection = selection_of(resource, capability.caveats)
    if selection is not None and selection.is_exact:
        raise CaveatRefused("selector-caveat-not-met")


def _valid_place(asked: _Call, state: SequenceState, *, feed_start: int) -> Place:
    """Return how far the reader has come (CF8).

    A reader without a cursor begins with all values, and with the deletes from now on.

    Args:
        asked: the call.
        state: the sequence of the space.
        feed_start: the highest number of a deleted path whose row was removed.
    Raises:
        Refusal: `sync-reset`, the cursor is not for this feed, or the store has another history.
    """
    if asked.cursor is None:
        return Place(position=0, floor=state.number, history=state.history)
    place = asked.place
    if place is None:
        raise Refusal("sync-reset", "cursor-invalid")
    # Numbers are used again after a restore or a failover, histories are not. A reader whose
    # position was lost has seen changes that are not in the store.
    for number in (place.position, place.floor):
        if not state.contains(number, place.history):
            raise Refusal("sync-reset", "position-unknown")
    # The reader may have missed a delete whose row is gone. Deletes up to the floor do not concern
    # it.
    if max(place.position, place.floor) < feed_start:
        raise Refusal("sync-reset", "position-unknown")
    return replace(place, history=state.history)


def _next_cursor(services: Services, asked: _Call, place: Place, page: ChangesPage) -> str:
    """Return the cursor for the next page; that of the call if nothing is new (CF7)."""
    is_new = page.number != place.position and (page.changes or page.more)
    if asked.cursor is not None and not is_new:
        return asked.cursor
    return seal_cursor(
        services.keyring,
        replace(place, position=page.number),
        asked.origin,
        nonce=services.entropy.token(NONCE_BYTES),
    )


def _shown(change: Change) -> Mapping[str, object]:
    """Return a change as the answer shows it."""
    head = change.head
    if head is None:
        return {"key": change.path, "deleted": True}
    metadata: dict[str, str] = {}
    for name, value in sorted(head.metadata.items()):
        # Bytes that are not UTF-8 are replaced, since JSON cannot contain them.
        metadata[name] = value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
    return {
        "key": change.path,
        "deleted": False,
        "etag": head.etag_header,
        "metadata": metadata,
    }


def _window(cited: Sequence[Registered], retain_until: float | None) -> Window:
    """Return the times that the reader's right depends on (CF9)."""
    begins = [grant.not_before for grant in cited if grant.not_before is not None]
    ends = [grant.expires_at for grant in cited if grant.expires_at is not None]
    return Window(
        not_before=time_text(max(begins)) if begins else None,
        expires_at=time_text(min(ends)) if ends else None,
        retain_until=None if retain_until is None else time_text(retain_until),
    )


async def _retain_until(services: Services, call: Call, asked: _Call) -> float | None:
    """Return until when the reader may keep what it has read (CF10).

    None means that no retention was asked for, or that the grant has no end.

    Raises:
        Refusal: `retention-refused`, the grant does not allow it; nothing is answered.
    """
    if asked.retention is None:
        return None
    (grant,) = await services.delegations.by_cid([asked.retention.digest])
    if grant is None:
        raise _retention_refused("not-found")
    if grant.delegation.delegate != call.invocation.invoker:
        raise _retention_refused("holder-mismatch")
    contents = closure_contents([grant])
    marks = await read_markers(services, contents)
    own = grant.delegation.content_key
    # A delegation without a marker is unknown, and is treated like a revoked one.
    if marks.get(own) is not Marker.LIVE:
        raise _retention_refused("revoked")
    if any(marks.get(content) is not Marker.LIVE for content in contents):
        raise _retention_refused("ancestor-revoked")
    now = services.now()
    if grant.not_before is not None and now < grant.not_before:
        raise _retention_refused("not-yet-valid")
    if grant.expires_at is not None and now >= grant.expires_at:
        raise _retention_refused("expired")
    if not any(_retains(one, asked.resource) for one in grant.delegation.capabilities):
        raise _retention_refused("not-covering")
    return grant.expires_at


def _retains(capability: Capability, resource: SpaceResource) -> bool:
    """Return whether a capability allows to keep what is read below a prefix."""
    # A condition could restrict it to less than the prefix, so conditions are not accepted.
    return (
        capability.ability == KV_RETAIN
        and not capability.caveats
        and extends(resource, capability.resource)
    )


def _retention_refused(reason: str) -> Refusal:
    return Refusal("retention-refused", f"retention-grant-{reason}")
