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


class _FeedCall(AcyclicStruct):
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
        assert self.resource.path is not None  # `_parse_resource` requires one
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
    feed = _parse_call(request)
    page = await _read_page(request, feed, feed.place, records_use=True)
    assert page is not None  # a cursor whose place was lost is refused
    # A reader without a cursor gets one at once, also if the feed is still empty.
    may_wait = feed.cursor is not None and feed.wait_s > 0
    if page.has_changes or not may_wait:
        return page.answer
    waiting = Waiting(
        owner=feed.resource.space.owner,
        client=counted_address(request.message.client),  # as for connections (H9)
        wait_s=feed.wait_s,
        is_gone=request.message.is_gone,
    )
    with request.services.waits.place(waiting) as place:
        if place is None:  # all places are taken
            return page.answer
        return await _wait_for_changes(request, feed, place, page)


async def _wait_for_changes(
    request: Request, feed: _FeedCall, place: WaitingPlace, page: "_FeedPage"
) -> Changes | Waited:
    """Wait for a page with changes, and judge the call again before it is answered (CF12).

    Args:
        request: the call.
        feed: its parameters.
        place: where the caller waits.
        page: the page that was read first, which has no changes.
    """
    cohort = request.services.cohort
    sequence = space_keys(feed.resource.space).sequence
    while True:
        # Other requests need not wait for this one to come to the same stage.
        cohort.answered(1)
        try:
            ending = await place.until_changed(sequence, page.sequence_row)
        finally:
            cohort.arrived(1)
            request.message.note_wait(place.waited_ns)
        if ending is Ending.GONE:
            raise ConnectionResetError("the client has disconnected")
        # The rows up to here contain no change for this reader, so they are not read again.
        next_page = await _read_page(request, feed, page.examined, records_use=False)
        if next_page is None:  # these rows were lost
            next_page = await _read_page(request, feed, feed.place, records_use=False)
            assert next_page is not None  # as in `sync`
        page = next_page
        if ending in (Ending.GIVEN_UP, Ending.CLOSED):  # the full time was not waited
            return page.answer
        if page.has_changes or ending is Ending.OVER:
            return Waited(page=page.answer, wait_s=feed.wait_s)


class _FeedPage(AcyclicStruct):
    """A page that was read.

    Attributes:
        answer: the page, as the caller gets it.
        has_changes: whether it contains changes, or more follow.
        sequence_row: the value of the row of the sequence; empty without a row.
        examined: the place of the last number of the space when the page was read.
    """

    answer: Changes
    has_changes: bool
    sequence_row: bytes
    examined: Place


async def _read_page(
    request: Request, feed: _FeedCall, start: Place | None, *, records_use: bool
) -> _FeedPage | None:
    """Authorise a call, and read the page that begins after a place.

    Args:
        request: the call.
        feed: its parameters.
        start: the place after which the page begins: that of the cursor, or a later one; None at
            the beginning.
        records_use: whether the token is used up by this read.
    Returns:
        None if `start` is later than the cursor, and the store has lost the rows up to it.
    Raises:
        Errors of `sync`.
    """
    services = request.services
    own = space_keys(feed.resource.space)
    after = 0 if start is None else start.position
    first_range = feed.query(after=after).first_range()
    call = await read_call(
        services,
        request.invocation,
        (own.sequence, own.feed_start),
        (first_range,),
        records_use=records_use,
    )
    sequence_record, feed_start_record = call.records
    (positions,) = call.pages
    call.require_hosted()
    _refuse_single_path(request.invocation.capabilities[0], feed.resource)
    retain_until = await _read_retention_end(services, call, feed)
    sequence = sequence_of(sequence_record)
    place = _require_known_place(feed, sequence, feed_start=feed_start_of(feed_start_record))
    if start is not None and not sequence.contains(start.position, start.history):
        return None
    query = feed.query(after=after, floor=place.floor, until=sequence.number)
    page = await read_changes(services.store, query, positions)
    answer = Changes(
        changes=tuple([_change_json(change) for change in page.changes]),
        more=page.more,
        cursor=_make_next_cursor(services, feed, place, page),
        source=Source(
            node_did=services.keyring.node_did,
            space=feed.resource.space.text,
            prefix=feed.prefix,
        ),
        authority=_authority_window(call.cited, retain_until),
    )
    sequence_row = None if sequence_record is None else sequence_record.value
    return _FeedPage(
        answer=answer,
        has_changes=bool(page.changes) or page.more,
        sequence_row=sequence_row or b"",
        examined=replace(place, position=sequence.number),
    )


def _parse_call(request: Request) -> _FeedCall:
    """Parse the token's capability and the headers of a call.

    Raises:
        Refusal: `bad-option`.
    """
    resource = _parse_resource(request.invocation.capabilities)
    assert resource.path is not None  # `_parse_resource` checked it
    headers = {name.lower(): value.strip() for name, value in request.message.headers.items()}
    cursor = headers.get(_CURSOR_HEADER)
    limit = _parse_limit(headers.get(_LIMIT_HEADER))
    place = None
    if cursor is not None:
        origin = (resource.space.text, resource.path)
        place = open_cursor(request.services.keyring, parse_cursor(cursor), origin)
    return _FeedCall(
        resource=resource,
        limit=limit,
        cursor=cursor,
        place=place,
        retention=_parse_retention(headers.get(RETENTION_HEADER)),
        wait_s=_parse_wait_s(headers.get(_PREFER_HEADER, "")),
    )


def _parse_resource(capabilities: Sequence[Capability]) -> SpaceResource:
    """Return the resource of a call's only capability, which has a path: the prefix.

    Raises:
        Refusal: `bad-option`, there are other capabilities, or the prefix is missing (CF1).
    """
    if len(capabilities) != 1:
        raise Refusal("bad-option", f"{KV_SYNC} must be the invocation's only capability")
    resource = capabilities[0].resource
    requires_prefix = Refusal("bad-option", f"{KV_SYNC} requires a non-empty KV prefix")
    if not isinstance(resource, SpaceResource) or not resource.path:
        raise requires_prefix
    if resource.query is not None or resource.fragment is not None:
        raise requires_prefix
    return resource


def _parse_limit(text: str | None) -> int:
    """Return the limit of changes in a header; without the header, the default.

    Raises:
        Refusal: `bad-option`, not a number from 1 to MAX_LIST_LIMIT.
    """
    if text is None:
        return _DEFAULT_LIMIT
    is_number = text.isascii() and text.isdecimal()
    if is_number and len(text) <= len(str(MAX_LIST_LIMIT)):
        limit = int(text)
        if 1 <= limit <= MAX_LIST_LIMIT:
            return limit
    raise Refusal("bad-option", f"{_LIMIT_HEADER} must be between 1 and {MAX_LIST_LIMIT}")


def _parse_wait_s(text: str) -> int:
    """Return the seconds that a caller prefers to wait (RFC 7240); 0 without such a preference.

    A preference that is malformed or unknown is ignored, as the RFC demands.
    """
    for preference in text.split(","):
        without_parameters, _, _ = preference.partition(";")
        name, _, value = without_parameters.partition("=")
        if name.strip().lower() != "wait":
            continue
        seconds = value.strip().strip('"')
        is_number = seconds.isascii() and seconds.isdecimal()
        if not is_number or len(seconds) > _MAX_WAIT_DIGITS:
            return 0
        return min(int(seconds), MAX_WAIT_S)
    return 0


def _parse_retention(text: str | None) -> _RetentionCid | None:
    """Return the cid of a retention grant in a header, or None without the header.

    Raises:
        Refusal: `bad-option`, not a cid.
    """
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


def _require_known_place(feed: _FeedCall, sequence: SequenceState, *, feed_start: int) -> Place:
    """Return how far the reader has come, in the present history of the space (CF8).

    A reader without a cursor begins with all values, and with the deletes from now on.

    Args:
        feed: the call.
        sequence: that of the space.
        feed_start: the highest number of a deleted path whose row was removed.
    Raises:
        Refusal: `sync-reset`, the cursor is not for this feed, or the store has another history.
    """
    if feed.cursor is None:
        return Place(position=0, floor=sequence.number, history=sequence.history)
    place = feed.place
    if place is None:
        raise Refusal("sync-reset", "cursor-invalid")
    # Numbers are used again after a restore or a failover, histories are not. A reader whose
    # position was lost has seen changes that are not in the store.
    for number in (place.position, place.floor):
        if not sequence.contains(number, place.history):
            raise Refusal("sync-reset", "position-unknown")
    # The reader has read all deletes up to its position, and those up to its floor do not concern
    # it. It may have missed a later delete whose row is gone.
    knows_deletes_up_to = max(place.position, place.floor)
    if knows_deletes_up_to < feed_start:
        raise Refusal("sync-reset", "position-unknown")
    return replace(place, history=sequence.history)


def _make_next_cursor(services: Services, feed: _FeedCall, place: Place, page: ChangesPage) -> str:
    """Return the cursor for the next page; that of the call if nothing is new (CF7)."""
    has_advanced = page.number != place.position and (page.changes or page.more)
    if feed.cursor is not None and not has_advanced:
        return feed.cursor
    return seal_cursor(
        services.keyring,
        replace(place, position=page.number),
        feed.origin,
        nonce=services.entropy.token(NONCE_BYTES),
    )


def _change_json(change: Change) -> Mapping[str, object]:
    """Return a change as JSON members; a delete has only the path."""
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


def _authority_window(cited: Sequence[Registered], retain_until: float | None) -> Window:
    """Return the times that the reader's right depends on (CF9).

    Args:
        cited: the live delegations of the call, whose times include those of their ancestors.
        retain_until: end of the retention grant, epoch seconds; None: no grant, or without an end.
    """
    begins = [grant.not_before for grant in cited if grant.not_before is not None]
    ends = [grant.expires_at for grant in cited if grant.expires_at is not None]
    return Window(
        not_before=time_text(max(begins)) if begins else None,
        expires_at=time_text(min(ends)) if ends else None,
        retain_until=None if retain_until is None else time_text(retain_until),
    )


async def _read_retention_end(services: Services, call: Call, feed: _FeedCall) -> float | None:
    """Check the retention grant of a call, and return its end in epoch seconds (CF10).

    Returns None if the call names no retention grant, or if the grant has no end.

    Raises:
        Refusal: `retention-refused`, the grant does not exist, is not the caller's, is not in
            force, or does not cover the prefix. No page is answered then.
    """
    if feed.retention is None:
        return None
    (grant,) = await services.delegations.by_cid([feed.retention.digest])
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
    for capability in grant.delegation.capabilities:
        if _allows_keeping(capability, feed.resource):
            return grant.expires_at
    raise _retention_refused("not-covering")


def _allows_keeping(capability: Capability, resource: SpaceResource) -> bool:
    """Return whether a capability allows to keep what is read below a prefix."""
    # A condition could restrict it to less than the prefix, so conditions are not accepted.
    return (
        capability.ability == KV_RETAIN
        and not capability.caveats
        and extends(resource, capability.resource)
    )


def _retention_refused(reason: str) -> Refusal:
    return Refusal("retention-refused", f"retention-grant-{reason}")
