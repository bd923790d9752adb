"""Fuzz tests of rows and frames: any bytes give a value or a SpaceError."""

import asyncio
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import msgspec
import pytest
from fuzz_strategies import damaged_bytes, deep_packed, packed_values
from hypothesis import given
from hypothesis import strategies as st
from patience import PATIENCE_S
from storekeeper_process import StorekeeperProcess
from tests_support import fuzzed

from spaces.audit.audit_records import AuditRecord, audit_record_of
from spaces.identity import recorded_identity
from spaces.keyspace import AUDIT_PREFIX
from spaces.space_errors import SpaceError
from spaces.store.contract import (
    ABSENT,
    Add,
    Check,
    Commit,
    Committed,
    Follow,
    Page,
    Put,
    Range,
    Record,
    Refused,
    ReplayRecord,
    Snapshot,
    Store,
    check_commit,
    check_read,
)
from spaces.store.lmdb._folder import socket_path_for
from spaces.store.lmdb._frames import (
    MAX_REQUEST_BYTES,
    CommitReply,
    FrameReader,
    Kind,
    encode_request,
    parse_replies,
    parse_requests,
    reply_frame,
    request_frames,
)
from spaces.store.lmdb._writer import CommitRequest
from spaces.store.lmdb.engine import connect_lmdb
from spaces.values.object_records import object_work_of

STAMP = b"." * 16
COMMIT = Commit(
    puts=(Put(b"Ka", b"value", expect=ABSENT, weight_bytes=5, account=b"cA"), Put(b"Kb", None)),
    live=(b"La",),
    checks=(Check(b"Ka", STAMP),),
    adds=(Add(b"cB", 1, at_most=10),),
    replay_record=ReplayRecord(bytes(32), 1_795_000_000),
)
# Passes on an empty store, so that what is damaged in it reaches the tables.
PASSING = Commit(puts=COMMIT.puts, adds=COMMIT.adds)
BOTH = [
    encode_request(CommitRequest(number, bytes([number]) * 16, 29_000_000, commit))
    for number, commit in enumerate((COMMIT, PASSING))
]
ASKS = tuple(frame for asks in (BOTH[:1], BOTH[1:], BOTH) for frame in request_frames(asks))
ANSWERS = tuple(
    reply_frame([CommitReply(1, kind, already_applied=True), CommitReply(2, kind)]) for kind in Kind
)
packed = packed_values.map(msgspec.msgpack.encode)


def _with_another_field(frame: bytes) -> st.SearchStrategy[bytes]:
    """Return a frame's payload with one field or the first member changed to another kind."""
    word, (fields, *others) = msgspec.msgpack.decode(frame[4:])
    return st.builds(
        lambda place, value: msgspec.msgpack.encode(
            [
                word,
                [value if place < 0 else [*fields[:place], value, *fields[place + 1 :]], *others],
            ]
        ),
        st.integers(-1, len(fields) - 1),
        packed_values,
    )


def payloads(*frames: bytes) -> st.SearchStrategy[bytes]:
    """Return frame payloads that are damaged, of another shape, or arbitrary."""
    own = [frame[4:] for frame in frames]
    return (
        damaged_bytes(*own)
        | st.sampled_from(frames).flatmap(_with_another_field)
        | packed
        | deep_packed
        | st.binary()
    )


@fuzzed()
@given(payloads(*ASKS), payloads(*ANSWERS))
def test_fuzz_frames(ask: bytes, answer: bytes) -> None:
    """Arbitrary payloads are read as requests and replies within their limits, or refused."""
    with suppress(SpaceError):
        parsed = parse_requests(ask)
        assert [parsed] == [
            parse_requests(frame[4:])
            for frame in request_frames([encode_request(one) for one in parsed])
        ]
        for one in parsed:
            check_commit(one.commit)
    with suppress(SpaceError):
        for found in parse_replies(answer):
            found.outcome()


@fuzzed()
@given(
    st.lists(damaged_bytes(*ASKS) | st.binary(max_size=40), max_size=4).map(b"".join),
    st.lists(st.integers(1, 200), max_size=8),
)
def test_fuzz_streams_of_frames(stream: bytes, cuts: list[int]) -> None:
    """A stream of any bytes, cut anywhere, gives the same frames as the whole, or is refused at the
    same place."""

    def frames(parts: list[bytes]) -> list[bytes]:
        reader, found = FrameReader(MAX_REQUEST_BYTES), []
        with suppress(SpaceError):
            for part in parts:
                found.extend(reader.feed(part))
        return found

    parts, rest = [], stream
    for cut in cuts:
        parts.append(rest[:cut])
        rest = rest[cut:]
    assert frames([*parts, rest])[:50] == _frames_of(stream)[:50]


def _frames_of(stream: bytes) -> list[bytes]:
    found = []
    while len(stream) >= 4 and len(stream) - 4 >= (size := int.from_bytes(stream[:4], "big")):
        found.append(stream[4 : 4 + size])
        stream = stream[4 + size :]
    return found


@pytest.mark.slow
def test_fuzz_the_storekeeper(tmp_path: Path) -> None:
    """The storekeeper survives any bytes on one connection and serves the next connection."""

    @fuzzed(1 / 10)
    @given(st.lists(payloads(*ASKS), min_size=1, max_size=3), st.binary(max_size=8))
    def send(asked: list[bytes], more: bytes) -> None:
        with socket.socket(socket.AF_UNIX) as line:
            line.connect(str(socket_path_for(tmp_path)))
            line.settimeout(PATIENCE_S)
            with suppress(BrokenPipeError, ConnectionResetError):
                for payload in asked:
                    line.sendall(len(payload).to_bytes(4, "big") + payload)
                line.sendall(more)
                line.shutdown(socket.SHUT_WR)
                while line.recv(1 << 16):
                    pass

    async def still_commits() -> bool:
        store = connect_lmdb(tmp_path)
        try:
            return isinstance(await store.commit(Commit(puts=(Put(b"Kz", b"after"),))), Committed)
        finally:
            await store.close()

    with StorekeeperProcess(tmp_path) as process:
        send()
        assert asyncio.run(still_commits())
        assert process.end() == 0


@fuzzed(1 / 10)
@given(damaged_bytes(msgspec.msgpack.encode(PASSING)) | packed)
def test_fuzz_commits(one_engine: Callable[[], Store], data: bytes) -> None:
    """A commit of any shape that the contract accepts is committed or refused."""
    try:
        commit = msgspec.msgpack.decode(data, type=Commit)
    except (msgspec.DecodeError, ValueError, RecursionError):
        return

    async def ask() -> None:
        store = one_engine()
        try:
            with suppress(SpaceError):
                assert isinstance(await store.commit(commit), Committed | Refused)
        finally:
            await store.close()

    asyncio.run(ask())


@fuzzed()
@given(
    st.lists(st.binary(max_size=600), max_size=3),
    st.builds(Range, st.binary(max_size=600), limit=st.integers()),
)
def test_fuzz_reads(keys: list[bytes], wanted: Range) -> None:
    """Any keys and ranges are within the limits of a read, or refused."""
    with suppress(SpaceError):
        check_read(keys, None, [wanted], None)


class OneRow:
    """A store in which each key and each page contains the same bytes."""

    def __init__(self, value: bytes) -> None:
        self._record = Record(value, STAMP)

    async def read(
        self,
        keys: Sequence[bytes] = (),
        *,
        replay_record: ReplayRecord | None = None,
        ranges: Sequence[Range] = (),
        follow: Follow | None = None,
    ) -> Snapshot:
        page = Page(((AUDIT_PREFIX + bytes(24), self._record),), more=False)
        return Snapshot(None, (self._record,) * len(keys), (page,) * len(ranges))

    async def commit(self, commit: Commit) -> Refused:
        return Refused()

    async def close(self) -> None:
        return


AUDIT_ROW = msgspec.msgpack.encode(
    AuditRecord(at=1.0, action="kv.put", actor="did:key:zA", subject="s")
)


@fuzzed()
@given(packed | deep_packed | st.binary(max_size=60))
def test_fuzz_due_work(value: bytes) -> None:
    """A due-work row of any bytes is parsed or raises RecordDamaged."""
    with suppress(SpaceError):
        object_work_of(Record(value, b""))


@fuzzed()
@given(
    value=damaged_bytes(AUDIT_ROW, (1).to_bytes(4, "big"))
    | packed
    | deep_packed
    | st.binary(max_size=40)
)
def test_fuzz_rows_of_the_store_itself(value: bytes) -> None:
    """Audit and identity rows of any bytes are parsed or raise RecordDamaged."""
    with suppress(SpaceError):
        audit_record_of(Record(value, b""))
    with suppress(SpaceError):
        asyncio.run(recorded_identity(OneRow(value)))
