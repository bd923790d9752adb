"""Tests of the frames between workers and the storekeeper, and their size limits."""

import asyncio
from pathlib import Path

import pytest
from storekeeper_process import StorekeeperProcess

from spaces.store.contract import MAX_VALUE_BYTES, Commit, Committed, Put, Range
from spaces.store.lmdb._frames import (
    MAX_REQUEST_BYTES,
    CommitReply,
    FrameInvalid,
    FrameReader,
    Kind,
    encode_request,
    parse_replies,
    parse_requests,
    reply_frame,
    request_frames,
)
from spaces.store.lmdb._writer import BATCH_COMMITS, CommitRequest
from spaces.store.lmdb.engine import connect_lmdb


def _ask(number: int, size_bytes: int = 1) -> CommitRequest:
    return CommitRequest(
        number,
        number.to_bytes(16, "big"),
        1_795_000_000,
        Commit(puts=(Put(b"Ka", bytes(size_bytes)),)),
    )


def _read(frames: list[bytes]) -> list[tuple[CommitRequest, ...]]:
    return [
        parse_requests(payload) for payload in FrameReader(MAX_REQUEST_BYTES).feed(b"".join(frames))
    ]


def test_what_is_asked_in_one_turn_is_one_frame() -> None:
    """Requests of one turn of the loop are sent in one frame, in their order."""
    asks = [_ask(number) for number in range(BATCH_COMMITS)]
    assert [tuple(asks)] == _read(request_frames([encode_request(ask) for ask in asks]))


def test_no_frame_is_beyond_its_bounds() -> None:
    """Commits that exceed the limits of a batch or of a frame are sent in several frames."""
    many = [_ask(number) for number in range(2 * BATCH_COMMITS + 1)]
    large = [_ask(number, MAX_VALUE_BYTES) for number in range(100)]
    for asks in (many, large):
        frames = request_frames([encode_request(ask) for ask in asks])
        found = _read(frames)
        assert len(frames) > 1
        assert max(map(len, frames)) <= MAX_REQUEST_BYTES + 4
        assert max(map(len, found)) <= BATCH_COMMITS
        assert asks == [ask for frame in found for ask in frame]


def test_a_frame_of_too_many_is_refused() -> None:
    """A frame that is empty, or has more entries than a batch, is refused."""
    (full,) = request_frames([encode_request(_ask(1))] * BATCH_COMMITS)
    start = full.index(b"\xdd")  # the array of questions; its length follows
    over = (
        full[4:start]
        + b"\xdd"
        + (BATCH_COMMITS + 1).to_bytes(4, "big")
        + full[start + 5 :]
        + encode_request(_ask(1))
    )
    empty = full[4:start] + b"\xdd" + bytes(4)
    for payload in (over, empty):
        with pytest.raises(FrameInvalid):
            parse_requests(payload)
    for count in (0, BATCH_COMMITS + 1):
        with pytest.raises(FrameInvalid):
            parse_replies(reply_frame([CommitReply(1, Kind.COMMITTED)] * count)[4:])


async def test_many_commits_of_one_turn_are_all_answered(tmp_path: Path) -> None:
    """Concurrent commits that exceed a batch are all written."""
    count = BATCH_COMMITS + 88
    with StorekeeperProcess(tmp_path) as process:
        store = connect_lmdb(tmp_path)
        try:
            await store.commit(Commit(puts=(Put(b"Kz", b"connected"),)))
            asked = [
                store.commit(Commit(puts=(Put(b"Kx%04d" % at, b"value"),))) for at in range(count)
            ]
            assert {type(outcome) for outcome in await asyncio.gather(*asked)} == {Committed}
            page = (await store.read(ranges=(Range(b"Kx"),))).pages[0]
            assert len(page.rows) == count
        finally:
            await store.close()
        assert process.end() == 0
