"""A durable local copy of the values below a prefix, for reading without the node.

The copy follows the change feed (change-feed CF1 to CF13) and is stored in a folder of its own.
`sync` brings it up to date. Reads never call the node, and end with the right to read.

Example:
    client = await Client(url).__aenter__()
    await client.sign_in_with_key(seed, spaces=("notes",))
    await client.kv("notes").put("todo/1", "buy milk")
    async with client.replica(folder / "todo", "todo", space="notes") as replica:
        counts = await replica.sync()
        assert (counts.written, counts.deleted, counts.missing) == (1, 0, 0)
        assert replica.get("todo/1").body == b"buy milk"
        assert list(replica.list()) == ["todo/1"]
    await client.close()
"""

import asyncio
import re
from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from multidict import CIMultiDict, CIMultiDictProxy

from capabilities.capability_errors import InvalidIdentifier
from capabilities.frozen import frozen
from capabilities.siwe import parse_rfc3339

from ..errors import (
    ClientClosed,
    ClientNotReady,
    DelegationRevoked,
    InvalidInput,
    MalformedAnswer,
    NodeFailure,
    NodeTimeout,
    NodeUnreachable,
    NotFound,
    ReplicaExpired,
    ReplicaFull,
    ReplicaIncomplete,
    ReplicaRevoked,
    ResponseTooLarge,
    SourceChanged,
    SpaceNotFound,
    TransferBroken,
    ValueTooLarge,
)
from ..kv import MAX_STREAM_BYTES, MAX_VALUE_BYTES, Kv
from ..session import SECRETS_SPACE
from ..wire.caller import Caller
from ..wire.changes import ChangesPage, Feed, FeedReader, require_feed
from ..wire.transfers import MOST_READS, packed_keys
from ..wire.transport import Answer
from ..wire.values import Value, value_of
from .replica_file import Draft, ReplicaFile
from .replica_rows import Entry, Window

_VAULT = "vault"
_ETAG = re.compile(r'"blake3-[0-9a-f]{64}"', re.ASCII)
# The whole text of a refusal, not a part of it: an error about something else may quote it.
_REVOCATION = re.compile(
    r"delegation-revoked: \w+|delegation-ancestor-revoked: ancestor=\w+ \w+=\w+", re.ASCII
)


@frozen
class SyncCounts:
    """The result of bringing a copy up to date.

    Attributes:
        pages: pages of the feed that were read.
        written: keys that were new or had changed.
        deleted: keys that were removed.
        missing: keys of the copy whose value is not stored; the next run fetches it.
    """

    pages: int
    written: int
    deleted: int
    missing: int


@frozen
class ReplicaState:
    """The state of a copy.

    Attributes:
        has_cursor: whether the next run continues; otherwise it begins with all values.
        is_complete: whether all values were read since the feed began. Until then keys may be
            absent, and after a reset the former ones are still there.
        is_expired: whether the right to read has ended, and the copy with it.
        is_retained: whether the right to read has ended, and the copy may still be read.
        is_revoked: whether the copy was deleted because a delegation was revoked.
        synced_at: when the last page came, epoch seconds; None: never.
        not_before: begin of the right to read, epoch seconds; None: always.
        expires_at: end of the right to read, epoch seconds; None: never.
        retain_until: until when the copy may be kept after that; None: not at all.
        keys: number of keys.
        missing: number of keys whose value is not stored.
        used_bytes: number of bytes that count towards the limit.
    """

    has_cursor: bool
    is_complete: bool
    is_expired: bool
    is_retained: bool
    is_revoked: bool
    synced_at: float | None
    not_before: float | None
    expires_at: float | None
    retain_until: float | None
    keys: int
    missing: int
    used_bytes: int


@dataclass
class _Counts:
    """The counts of a run that has not ended."""

    pages: int = 0
    written: int = 0
    deleted: int = 0


class Replica:
    """A durable local copy of the values below a prefix.

    Use `Client.replica` to get an instance. Use it in `async with`, or call `close`. Its reads run
    in the caller's thread, and each commit of a page waits for the disk there.
    """

    def __init__(self, caller: Caller, feed: Feed, file: ReplicaFile) -> None:
        self._caller = caller
        self._kv = Kv(caller, feed.space)
        self._feed = feed
        self._file = file
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the file. Waits for the end of a run."""
        async with self._turn:
            self._file.close()

    @property
    def state(self) -> ReplicaState:
        """The state of the copy, as far as it was committed."""
        state = self._file.state
        window = state.window
        now = max(self._file.seen_at, self._caller.clock.now())
        return ReplicaState(
            has_cursor=state.cursor is not None,
            is_complete=state.is_complete,
            is_expired=window.has_ended(now),
            is_retained=window.is_retained(now),
            is_revoked=state.revoked is not None,
            synced_at=state.synced_at,
            not_before=state.not_before,
            expires_at=state.expires_at,
            retain_until=state.retain_until,
            keys=state.entries,
            missing=state.missing,
            used_bytes=state.used_bytes,
        )

    def get(self, key: str) -> Value | None:
        """Read a value of the copy.

        Returns:
            The value; None if the copy has no such key.
        Raises:
            ReplicaIncomplete: the key is there, but its value is not stored yet.
            ReplicaExpired, ReplicaRevoked: the right to read has ended.
            ReplicaCorrupt: the stored value does not match its version.
            ClockWentBack: the clock shows a time before the last one that was seen.
            ClientNotReady: the copy was never synced, or is closed (ClientClosed).
        """
        self._require_readable()
        stored = self._file.read(key)
        if stored.entry is None:
            return None
        if stored.body is None:
            raise ReplicaIncomplete(f"the copy does not have the value of {key} yet")
        return _make_value(stored.entry, stored.body)

    def metadata(self, key: str) -> Value | None:
        """Read the version and the metadata of a value of the copy.

        The `body` of the result is empty.

        Returns:
            The metadata; None if the copy has no such key.
        Raises:
            SealspaceError: the same errors as `get`, except ReplicaIncomplete.
        """
        self._require_readable()
        entry = self._file.entry(key)
        return None if entry is None else _make_value(entry, b"")

    def list(self, prefix: str = "") -> Iterator[str]:
        """Yield the keys of the copy below a prefix, in ascending order.

        Keys whose values are not stored yet are included.

        Args:
            prefix: whole segments: `notes` is this key and all below `notes/`; "": all keys.
        Raises:
            SealspaceError: the same errors as `get`, except ReplicaIncomplete.
        """
        self._require_readable()
        for entry in self._file.list(prefix):
            self._require_readable()  # the right may have ended since the keys were read
            yield entry.key

    async def sync(self) -> SyncCounts:
        """Bring the copy up to date.

        Each page is committed with its cursor, so a later run continues after the last page that
        was committed, whatever ended the run.

        Raises:
            SourceChanged: the node is not the one that the copy is from; nothing was sent.
            ReplicaExpired: the right to read is not valid at the time of this machine's clock.
            ReplicaRevoked: a delegation was revoked; the values were deleted.
            ReplicaFull: the copy would be larger than allowed.
            ReplicaCorrupt, ReplicaUnusable: the file is damaged, or the disk fails.
            ClockWentBack: the clock shows a time before the last one that was seen.
            MalformedAnswer: a page is not one of this feed.
            SealspaceError: the same errors as `Kv.changes`; the copy is kept.
        """
        async with self._turn:
            reader = self._make_reader(waits_for_change=False)
            return await self._read_to_present(reader)

    async def follow(self, *, retry_s: float | None = None) -> AsyncIterator[SyncCounts]:
        """Bring the copy up to date, and again whenever a value changes.

        Yields after each run that changed something, and after the first. While the node cannot be
        reached, nothing is yielded, and the copy can be read.

        Args:
            retry_s: seconds until the next attempt after the node could not be reached, did not
                answer in time, or failed (5xx). None: these are errors, after the client's retries
                of a request (`TransportSettings`). Other errors are never retried.
        Raises:
            InvalidInput: `retry_s` is not above 0.
            SealspaceError: the same errors as `sync`. Call this again to continue.
        """
        if retry_s is not None and retry_s <= 0:
            raise InvalidInput("the seconds until the next attempt must be above 0")
        is_first = True
        while True:
            try:
                async with self._turn:
                    reader = self._make_reader(waits_for_change=not is_first)
                    counts = await self._read_to_present(reader)
            except (NodeUnreachable, NodeTimeout, TransferBroken, NodeFailure):
                if retry_s is None:
                    raise
                await asyncio.sleep(retry_s)
                continue
            if is_first or counts.written or counts.deleted:
                is_first = False
                yield counts
            if reader.is_pause_due:
                await asyncio.sleep(self._feed.poll_s)

    def _make_reader(self, *, waits_for_change: bool) -> FeedReader:
        """Return a reader that continues after the last committed page."""
        cursor = self._file.state.cursor
        # Without a cursor there are pages to read at once, so the node must not wait for a change.
        first_request_waits = waits_for_change and cursor is not None
        return FeedReader(self._feed, cursor, is_current=first_request_waits)

    async def _read_to_present(self, reader: FeedReader) -> SyncCounts:
        """Read and commit pages until the node has no more, and return what changed.

        The copy is emptied if its right to read has ended (RP9), or if the node says that a
        delegation was revoked (RP8).

        Raises:
            SealspaceError: the same errors as `sync`.
        """
        self._require_usable()
        now = self._file.note_time(self._caller.clock.now())
        state = self._file.state
        if state.window.has_ended(now) and state.entries:
            self._file.empty()  # RP9
            # The keys are gone, so the feed is read from its beginning, without waiting.
            reader.cursor = None
            reader.is_current = False
        counts = _Counts()
        try:
            await self._require_same_node()
            await self._fetch_missing()
            await self._read_pages(reader, counts)
            if self._file.is_log_due:
                self._file.clear_log()
        except DelegationRevoked as refusal:
            is_revocation = refusal.status == 401 and _REVOCATION.fullmatch(refusal.text)
            if not is_revocation:
                raise
            # RP8: the copy is deleted before anything else happens, and stays blocked.
            self._file.empty(revoked=refusal.text)
            raise _revoked_error(refusal.text) from refusal
        return SyncCounts(
            pages=counts.pages,
            written=counts.written,
            deleted=counts.deleted,
            missing=self._file.state.missing,
        )

    async def _require_same_node(self) -> None:
        """Raise SourceChanged unless the node is the one that sent the first page of the copy."""
        node_did_of_copy = self._file.state.node_did
        node_did = await self._caller.node_id()
        if node_did_of_copy is not None and node_did_of_copy != node_did:
            raise SourceChanged(
                f"the copy is from the node {node_did_of_copy}, but this is {node_did}"
            )

    async def _read_pages(self, reader: FeedReader, counts: _Counts) -> None:
        """Read and commit pages until the node has no more. The node may reset the feed once.

        Raises:
            MalformedAnswer: the node reset the feed twice.
            SealspaceError: the same errors as `sync`.
        """
        was_reset = False
        while True:
            page = await reader.read()
            if page is None:  # the node reset the feed
                if was_reset:
                    raise MalformedAnswer("the node reset the feed twice in one run")
                was_reset = True
                with self._file.page() as draft:
                    draft.begin_again()
                continue
            await self._commit_page(page, counts)
            if not page.more:
                return

    async def _commit_page(self, page: ChangesPage, counts: _Counts) -> None:
        """Commit a page, with the values of its keys and its cursor.

        Values that the node no longer has in this version stay missing. A later page has their next
        change.

        Raises:
            ReplicaExpired: the right to read in the page is not valid now.
            MalformedAnswer: the page has a version that is not a digest, or a malformed time.
            ReplicaFull: the copy would be larger than allowed; nothing of the page is committed.
            SealspaceError: a value cannot be fetched.
        """
        window = _window_of(page)
        now = self._file.note_time(self._caller.clock.now())
        if not window.is_live(now):
            raise ReplicaExpired(
                "the node's page has a right to read that is not valid at the time of this"
                " machine's clock"
            )
        node_did = await self._caller.node_id()
        deleted = written = 0
        with self._file.page() as draft:
            for change in page.changes:
                if change.etag is None:
                    deleted += draft.delete(change.key)
                    continue
                if not _ETAG.fullmatch(change.etag):
                    raise MalformedAnswer(f"the version of {change.key} is not a digest")
                draft.note(change.key, change.etag, change.metadata)
                written += 1
            await self._fetch_values(draft, draft.wanted)
            deleted += draft.finish(
                cursor=page.cursor,
                window=window,
                node_did=node_did,
                now=now,
                is_end=not page.more,
            )
        counts.pages += 1
        counts.written += written
        counts.deleted += deleted

    async def _fetch_missing(self) -> None:
        """Fetch the values that an earlier run did not get."""
        if not self._file.state.missing:
            return
        missing_keys = [entry.key for entry in self._file.list(only_missing=True)]
        for batch in packed_keys(missing_keys, MOST_READS):
            # A commit of its own for each batch, so that a later error does not lose it.
            with self._file.page() as draft:
                await self._fetch_batch(draft, batch)

    async def _fetch_values(self, draft: Draft, keys: Iterable[str]) -> None:
        """Fetch the values of keys, and store those that are the versions of their keys."""
        for batch in packed_keys(tuple(keys), MOST_READS):
            await self._fetch_batch(draft, batch)

    async def _fetch_batch(self, draft: Draft, keys: Sequence[str]) -> None:
        """Fetch and store values in one request, or one by one if one of them is large.

        A key that the node does not have any more is left out.

        Raises:
            ReplicaFull: the copy would be larger than allowed.
            SealspaceError: the same errors as `Kv.get_many`.
        """
        most_bytes = min(_require_space(draft), MAX_VALUE_BYTES)
        try:
            values = await self._kv.get_many(keys, max_bytes=most_bytes)
        except (ValueTooLarge, ResponseTooLarge):
            await self._fetch_one_by_one(draft, keys)
            return
        for key, value in values.items():
            draft.store(key, value.body)

    async def _fetch_one_by_one(self, draft: Draft, keys: Sequence[str]) -> None:
        """Fetch and store values that do not fit into one answer."""
        for key in keys:
            value = await self._fetch_large_value(key, left_bytes=_require_space(draft))
            if value is not None:
                draft.store(key, value.body)

    async def _fetch_large_value(self, key: str, *, left_bytes: int) -> Value | None:
        """Fetch a value of any size; None if the node does not have the key.

        Raises:
            ReplicaFull: the value has more than `left_bytes` bytes.
            SealspaceError: the same errors as `Kv.get`.
        """
        try:
            return await self._kv.get(key, max_bytes=min(left_bytes, MAX_STREAM_BYTES))
        except SpaceNotFound:  # a kind of NotFound, but about all keys
            raise
        except NotFound:
            return None
        except (ValueTooLarge, ResponseTooLarge) as refusal:
            raise ReplicaFull(
                f"the value of {key} is larger than what the copy may grow ({left_bytes} bytes)"
            ) from refusal

    def _require_usable(self) -> None:
        """Raise ClientClosed if the copy was closed, and ReplicaRevoked if it was revoked."""
        if self._file.is_closed:
            raise ClientClosed("the copy was closed", hint="open it again")
        revoked = self._file.state.revoked
        if revoked is not None:
            raise _revoked_error(revoked)

    def _require_readable(self) -> None:
        """Check the right to read the copy (RP7 to RP10)."""
        self._require_usable()
        now = self._file.note_time(self._caller.clock.now())
        state = self._file.state
        if state.synced_at is None:
            raise ClientNotReady("the copy was never synced", hint="call `sync` first")
        # The begin of the right was checked with the page, and time only advances (RP10).
        if state.window.has_ended(now):
            self._file.note_time(now, must_store=True)
            raise ReplicaExpired("the right to read the copy has ended")


def open_replica(
    caller: Caller,
    feed: Feed,
    folder: str | Path,
    *,
    max_bytes: int,
    allow_envelopes: bool,
) -> Replica:
    """Open a copy; see `Client.replica`."""
    require_feed(feed)
    is_sealed = feed.space.name == SECRETS_SPACE or feed.prefix.partition("/")[0] == _VAULT
    if is_sealed and not allow_envelopes:
        raise InvalidInput(
            "the values of this prefix are encrypted, and the copy would contain only envelopes",
            hint="pass allow_envelopes=True to copy them as they are",
            step="copy another prefix",
        )
    if max_bytes < 1:
        raise InvalidInput("the limit of a copy must be at least one byte")
    now = caller.clock.now()
    file = ReplicaFile.open(
        Path(folder), space=feed.space.text, prefix=feed.prefix, now=now, max_bytes=max_bytes
    )
    try:
        if file.state.window.has_ended(file.seen_at) and file.state.entries:
            file.empty()  # RP9
    except BaseException:
        file.close()
        raise
    return Replica(caller, feed, file)


def _revoked_error(text: str) -> ReplicaRevoked:
    """Return the error of a copy that a revocation ended. `text` is the node's refusal."""
    return ReplicaRevoked(f"the copy was deleted, because the node refused it: {text}")


def _window_of(page: ChangesPage) -> Window:
    """Return when the copy may be read after a page.

    Raises:
        MalformedAnswer: a time of the page is malformed.
    """
    return Window(
        not_before=_parse_time(page.not_before),
        expires_at=_parse_time(page.expires_at),
        retain_until=_parse_time(page.retain_until),
    )


def _parse_time(text: str | None) -> float | None:
    """Return the epoch seconds of a time in a page; None if the page has no such time.

    Raises:
        MalformedAnswer: the text is not an RFC 3339 time.
    """
    if text is None:
        return None
    try:
        return parse_rfc3339(text)
    except InvalidIdentifier:
        raise MalformedAnswer("the node's page has a time that is not valid") from None


def _require_space(draft: Draft) -> int:
    """Return by how many bytes the copy may grow, which is at least one.

    Raises:
        ReplicaFull: it may not grow.
    """
    if draft.left_bytes <= 0:
        raise ReplicaFull("the copy has as many bytes as it may have")
    return draft.left_bytes


def _make_value(entry: Entry, body: bytes) -> Value:
    """Return a value of the copy, as `Kv.get` would return it."""
    headers = CIMultiDict(entry.metadata)
    headers["ETag"] = entry.etag
    answer = Answer(status=200, headers=CIMultiDictProxy(headers), body=body, asked=entry.key)
    return value_of(answer, body)
