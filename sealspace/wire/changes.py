"""The client side of the change feed of values (change-feed CF1 to CF13).

Example:
    async for page in follow_changes(feed, None, waits=True):
        if page.is_reset: ...       # drop the copy, and begin with this page
        for change in page.changes: ...
        ...                         # store page.cursor together with the copy
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, NamedTuple

import msgspec

from capabilities.abilities import KV_SYNC
from capabilities.frozen import frozen
from capabilities.resources import SpaceId

from ..errors import InvalidInput, MalformedAnswer, NodeRefused
from ..session import space_capability
from .caller import Caller
from .node_answers import decoded
from .transport import Request
from .values import header_value

MAX_CHANGES = 1000
"""Highest limit of a page. A page can have more changes, because its last commit is whole."""
DEFAULT_POLL_S = 60.0
"""Pause between two requests if the node does not wait for a change, seconds."""
_MAX_WAIT_S = 25.0
_MAX_SHARE_OF_TIMEOUT = 0.8
"""A wait takes at most this part of a request's timeout."""
_RESET_STATUS = 410
# The last commit of a page is whole (CF3), and no node of this protocol commits more at once.
_MAX_CHANGES_OF_COMMIT = 4096
# A header's value, because it is sent in one. Otherwise a reader that has stored it is stuck.
_CURSOR = r"\A[!-~](?:[ -~]*[!-~])?\Z"
_MAX_STANDING_PAGES = 20
"""Most pages in a row with the same cursor. Several are possible while many values elsewhere in the
space are written."""


@frozen
class Change:
    """The latest state of a value.

    Attributes:
        key: the full key.
        etag: the version of the value; None if it was deleted.
        metadata: names and texts stored with the value; empty if it was deleted.
    """

    key: str
    etag: str | None
    metadata: Mapping[str, str] = field(default_factory=dict)

    @property
    def is_deleted(self) -> bool:
        """Whether the value was deleted."""
        return self.etag is None


@frozen
class ChangesPage:
    """A page of changes, in the order of the commits that made them.

    Attributes:
        changes: each key once, with its latest state; can be empty.
        cursor: where the next page begins. Store it together with what was done with this page.
        more: whether further changes are there already.
        is_reset: whether everything read before is void: the node cannot tell what has changed
            since the former cursor. This page is the first of a new beginning.
        expires_at: RFC 3339 text: when the right to read ends; None without an end.
        not_before: RFC 3339 text: when the right to read began; None without a begin (CF9).
        retain_until: RFC 3339 text: until when a copy may be kept although the right to read has
            ended; None if it may not (CF10).
    """

    changes: tuple[Change, ...]
    cursor: str
    more: bool
    is_reset: bool = False
    expires_at: str | None = None
    not_before: str | None = None
    retain_until: str | None = None


@frozen
class Feed:
    """A feed of the values below a prefix.

    Attributes:
        caller: sends requests with the session's authority.
        space: the space.
        prefix: the beginning of the keys, of whole segments; not empty.
        limit: a page ends with the commit that reaches this number of changes, 1 to MAX_CHANGES.
        poll_s: pause after an empty page of a node that does not wait, seconds.
        retention_grant: cid of the delegation that says how long a copy may be kept; None: none is
            named (CF10).
    """

    caller: Caller
    space: SpaceId
    prefix: str
    limit: int
    poll_s: float
    retention_grant: str | None = None


class _Change(msgspec.Struct):
    key: str
    deleted: bool
    etag: str | None = None
    metadata: dict[str, str] = {}


class _Source(msgspec.Struct, rename="camel"):
    node_did: str
    space: str
    prefix: str


class _Authority(msgspec.Struct, rename="camel"):
    not_before: str | None
    expires_at: str | None
    retain_until: str | None


class _Page(msgspec.Struct):
    changes: list[_Change]
    more: bool
    cursor: Annotated[str, msgspec.Meta(max_length=4096, pattern=_CURSOR)]
    source: _Source
    authority: _Authority


_PAGES = msgspec.json.Decoder(_Page)


async def follow_changes(
    feed: Feed, cursor: str | None, *, waits: bool
) -> AsyncIterator[ChangesPage]:
    """Yield the changes since a cursor, page by page.

    A page is yielded if it has a change or a new cursor, or is the first one after a reset.

    Args:
        feed: the feed.
        cursor: cursor of the last page that the caller has seen; None to begin with all values.
        waits: True: wait for further changes, without an end. False: stop at the present state.
    Raises:
        InvalidInput: the prefix is empty, or the limit is out of range.
        MalformedAnswer: the answer is not a page of this feed, or the pages do not advance.
        SealspaceError: the same errors as `Kv.list_page`.
    """
    require_feed(feed)
    reader = FeedReader(feed, cursor)
    while True:
        page = await reader.read()
        if page is not None:
            has_news = page.changes or page.is_reset or reader.is_new
            if has_news:
                yield page
        if reader.is_current and not waits:
            return
        if reader.is_pause_due:
            await asyncio.sleep(feed.poll_s)


def require_feed(feed: Feed) -> None:
    """Check the arguments of a feed before anything is sent.

    Raises:
        InvalidInput: the prefix is empty, or the limit is out of range.
    """
    if not feed.prefix:
        raise InvalidInput("the feed of changes needs a prefix: an empty one is not allowed")
    if not 1 <= feed.limit <= MAX_CHANGES:
        raise InvalidInput(f"the limit of changes must be 1 to {MAX_CHANGES}, not {feed.limit}")


@dataclass
class FeedReader:
    """A reader of a feed, with the position that it has reached.

    Attributes:
        feed: the feed.
        cursor: where the next page begins; None: at the beginning.
        is_current: whether the last page was the end of the feed. The next request then waits for
            a change.
        is_new: whether the cursor of the last page differs from that of the page before.
        is_reset: whether the next page is the first one after a reset.
        is_pause_due: whether the caller should pause, because the node did not wait for a change.
        standing: number of pages in a row whose cursor did not advance, although the node said
            that more follows.
    """

    feed: Feed
    cursor: str | None
    is_current: bool = False
    is_new: bool = False
    is_reset: bool = False
    is_pause_due: bool = False
    standing: int = 0

    async def read(self) -> ChangesPage | None:
        """Read the next page, and advance to its end.

        Returns None if the node reset the feed. The next call then reads the first page of a new
        beginning. Raises the same errors as `follow_changes`.
        """
        wait_s = _wait_s(self.feed) if self.is_current else 0
        self.is_pause_due = False
        try:
            page_answer = await _fetch_page(self.feed, self.cursor, wait_s=wait_s)
        except NodeRefused as refusal:
            # Without a cursor there is nothing to reset.
            is_reset_by_node = refusal.status == _RESET_STATUS and self.cursor is not None
            if not is_reset_by_node:
                raise
            self.cursor = None
            self.is_current = False
            self.is_reset = True
            return None
        page = page_answer.page
        if self.is_reset:
            page = replace(page, is_reset=True)
        self.is_reset = False
        self.is_new = page.cursor != self.cursor
        self.cursor = page.cursor
        self.is_current = not page.more
        if self.is_new or self.is_current:
            self.standing = 0
        else:
            self.standing += 1
        if self.standing >= _MAX_STANDING_PAGES:
            raise MalformedAnswer("the node's pages of changes do not advance")
        is_wait_ignored = wait_s > 0 and not page_answer.is_wait_applied
        self.is_pause_due = is_wait_ignored and not page.changes
        return page


def _wait_s(feed: Feed) -> int:
    """Return how long the node may wait, in whole seconds: less than a request may take."""
    longest_s = feed.caller.transport.timeout_s * _MAX_SHARE_OF_TIMEOUT
    return max(1, int(min(_MAX_WAIT_S, longest_s)))


class _PageAnswer(NamedTuple):
    """The node's answer to a request for a page.

    Attributes:
        page: the page.
        is_wait_applied: whether the node was ready to wait for a change.
    """

    page: ChangesPage
    is_wait_applied: bool


async def _fetch_page(feed: Feed, cursor: str | None, *, wait_s: int) -> _PageAnswer:
    """Fetch the page after a cursor, and check that it belongs to the feed.

    With a `wait_s` above 0, the node is asked to wait so long for a change.
    """
    headers = {"x-tinycloud-limit": str(feed.limit)}
    if cursor is not None:
        headers["x-tinycloud-cursor"] = header_value(cursor)
    if feed.retention_grant is not None:
        headers["x-tinycloud-retention-grant"] = header_value(feed.retention_grant)
    if wait_s:
        headers["Prefer"] = f"wait={wait_s}"
    right = space_capability(feed.space, "kv", feed.prefix, KV_SYNC)
    request = Request(headers=headers, repeatable=True)
    answer = (await feed.caller.invoke([right], request)).require()
    parsed = decoded(_PAGES, answer, "a page of changes")
    node_did = await feed.caller.node_id()
    expected_source = _Source(node_did=node_did, space=feed.space.text, prefix=feed.prefix)
    if parsed.source != expected_source:
        raise MalformedAnswer("the node's page of changes is of another feed")
    if len(parsed.changes) > feed.limit + _MAX_CHANGES_OF_COMMIT:
        raise MalformedAnswer("the node's page of changes is longer than was requested")
    page = ChangesPage(
        changes=tuple([_check_change(change, feed.prefix) for change in parsed.changes]),
        cursor=parsed.cursor,
        more=parsed.more,
        expires_at=parsed.authority.expires_at,
        not_before=parsed.authority.not_before,
        retain_until=parsed.authority.retain_until,
    )
    return _PageAnswer(page=page, is_wait_applied="Preference-Applied" in answer.headers)


def _check_change(change: _Change, prefix: str) -> Change:
    """Check that a change is below the prefix, and has an ETag unless the value was deleted."""
    has_etag = change.etag is not None
    is_etag_right = has_etag is not change.deleted
    if not is_below(change.key, prefix) or not is_etag_right:
        raise MalformedAnswer("the node's page of changes has a change that is not valid")
    return Change(key=change.key, etag=change.etag, metadata=change.metadata)


def is_below(key: str, prefix: str) -> bool:
    """Return whether a key is the prefix or below it. Every key is below the empty prefix.

    A prefix consists of whole segments: `a/bc` is not below `a/b`.
    """
    folder = prefix
    if prefix and not prefix.endswith("/"):
        folder = f"{prefix}/"
    return key == prefix or key.startswith(folder)
