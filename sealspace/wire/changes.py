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
from typing import Annotated

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
_OF_TIMEOUT = 0.8  # a wait takes this part of a request's timeout at most
_RESET = 410
# The last commit of a page is whole (CF3), and no node of this protocol commits more at once.
_MOST_OF_A_COMMIT = 4096
# A header's value, because it is sent in one. Otherwise a reader that has stored it is stuck.
_CURSOR = r"\A[!-~](?:[ -~]*[!-~])?\Z"
# Several are possible, while many values elsewhere in the space are written.
_MOST_STANDING = 20


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

    Pages without a change, a new cursor or a reset are not yielded.

    Args:
        feed: the feed.
        cursor: that of the last page that the caller has seen; None to begin with all values.
        waits: whether to go on and wait for further changes; otherwise the end is the present.
    Raises:
        InvalidInput: the prefix is empty, or the limit is out of range.
        MalformedAnswer: the answer is not a page of this feed, or the pages do not advance.
        SealspaceError: as `Kv.list_page`.
    """
    require_feed(feed)
    reader = FeedReader(feed, cursor)
    while True:
        page = await reader.read()
        if page is not None and (page.changes or page.is_reset or reader.is_new):
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
    """How far a reader of a feed has come.

    Attributes:
        feed: the feed.
        cursor: where the next page begins; None: at the beginning.
        is_current: whether the last page said that nothing more is there. The next request then
            waits for a change.
        is_new: whether the last page has another cursor than the one before.
        is_reset: whether the next page is the first one after a reset.
        is_pause_due: whether the node was not ready to wait.
        standing: pages in a row that did not advance, although more follows.
    """

    feed: Feed
    cursor: str | None
    is_current: bool = False
    is_new: bool = False
    is_reset: bool = False
    is_pause_due: bool = False
    standing: int = 0

    async def read(self) -> ChangesPage | None:
        """Read the next page; None if the node reset the feed, which then begins again.

        Raises the same errors as `follow_changes`.
        """
        wait_s = _wait_of(self.feed) if self.is_current else 0
        self.is_pause_due = False
        try:
            page, has_waited = await _page(self.feed, self.cursor, wait_s=wait_s)
        except NodeRefused as refusal:
            # Without a cursor there is nothing to reset.
            if refusal.status != _RESET or self.cursor is None:
                raise
            self.cursor = None
            self.is_current = False
            self.is_reset = True
            return None
        if self.is_reset:
            page = replace(page, is_reset=True)
        self.is_reset = False
        self.is_new = page.cursor != self.cursor
        self.cursor = page.cursor
        self.is_current = not page.more
        self.standing = 0 if self.is_new or self.is_current else self.standing + 1
        if self.standing >= _MOST_STANDING:
            raise MalformedAnswer("the node's pages of changes do not advance")
        self.is_pause_due = wait_s > 0 and not has_waited and not page.changes
        return page


def _wait_of(feed: Feed) -> int:
    """Return how long the node may wait, in whole seconds: less than a request may take."""
    return max(1, int(min(_MAX_WAIT_S, feed.caller.transport.timeout_s * _OF_TIMEOUT)))


async def _page(feed: Feed, cursor: str | None, *, wait_s: int) -> tuple[ChangesPage, bool]:
    """Read a page; the second result is whether the node was ready to wait for it."""
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
    page = decoded(_PAGES, answer, "a page of changes")
    node_did = await feed.caller.node_id()
    source = _Source(node_did=node_did, space=feed.space.text, prefix=feed.prefix)
    if page.source != source:
        raise MalformedAnswer("the node's page of changes is of another feed")
    if len(page.changes) > feed.limit + _MOST_OF_A_COMMIT:
        raise MalformedAnswer("the node's page of changes is longer than was requested")
    changes: list[Change] = []
    for one in page.changes:
        if not is_below(one.key, feed.prefix) or one.deleted != (one.etag is None):
            raise MalformedAnswer("the node's page of changes has a change that is not valid")
        changes.append(Change(key=one.key, etag=one.etag, metadata=one.metadata))
    found = ChangesPage(
        changes=tuple(changes),
        cursor=page.cursor,
        more=page.more,
        expires_at=page.authority.expires_at,
        not_before=page.authority.not_before,
        retain_until=page.authority.retain_until,
    )
    return found, "Preference-Applied" in answer.headers


def is_below(key: str, prefix: str) -> bool:
    """Return whether a key is the prefix, or is below it; every key is below the empty one."""
    below = prefix if prefix.endswith("/") or not prefix else f"{prefix}/"
    return key == prefix or key.startswith(below)
