"""Tests of value bodies: uploading, cleaning up after failures, and reading in pieces."""

import asyncio
import os
import resource
import threading
import tracemalloc
from collections.abc import AsyncIterator, Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import ParamSpec, TypeVar

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from own_process import in_own_process
from patience import PATIENCE_S
from value_bench import LARGE, SPACE, Bench, Write, in_pieces

from spaces.space_errors import (
    CommitTooLarge,
    IntakeFull,
    RecordDamaged,
    StoreBusy,
    StoreFull,
    StoreUnavailable,
)
from spaces.values import object_folder as object_files
from spaces.values.object_folder import STEP_BYTES, ObjectFolder
from spaces.values.object_records import ObjectName
from spaces.values.object_store import PIECE_BYTES
from spaces.values.value_bodies import (
    INLINE_BYTES,
    INLINE_TOGETHER_BYTES,
    INTAKE_BYTES,
    Intake,
    Staging,
    inline_body,
)
from spaces.values.value_writes import Write as ValueWrite

HUGE = bytes(range(256)) * 4096 + b"and a rest"

Result = TypeVar("Result")
Arguments = ParamSpec("Arguments")


class CountingThreads(ThreadPoolExecutor):
    """A thread pool that counts the jobs submitted to it."""

    steps = 0

    def submit(
        self,
        step: Callable[Arguments, Result],
        /,
        *args: Arguments.args,
        **kwargs: Arguments.kwargs,
    ) -> Future[Result]:
        """Count a job and submit it."""
        self.steps += 1
        return super().submit(step, *args, **kwargs)


@pytest.fixture
def files(tmp_path: Path) -> ObjectFolder:
    """An empty folder for body files."""
    return ObjectFolder(tmp_path / "blobs")


def left(folder: Path) -> list[Path]:
    """Return the files that remain in the folder."""
    return [place for place in (folder / "blobs").rglob("*") if place.is_file()]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    size_bytes=st.one_of(
        st.integers(0, 200),
        st.integers(INLINE_BYTES - 2, INLINE_BYTES + 2),
        st.integers(0, 3 * PIECE_BYTES),
    ),
    piece_bytes=st.sampled_from([1000, 4096, 65_536, 262_144, 300_000, 1_000_000]),
)
def test_body_is_what_came(tmp_path: Path, size_bytes: int, piece_bytes: int) -> None:
    """An uploaded body has the digest, size and bytes of the input, whatever the size of its
    pieces."""
    data = (HUGE * 2)[:size_bytes]

    async def check() -> None:
        files = ObjectFolder(tmp_path / "blobs")
        async with Staging(files) as staging:
            body = await staging.receive(in_pieces(data, piece_bytes))
            assert blake3(data).digest() == body.digest
            assert body.size_bytes == size_bytes
            assert (body.file is None) is (size_bytes <= INLINE_BYTES)
            assert body.inline == (data if size_bytes <= INLINE_BYTES else None)
            if body.file is not None:
                name = ObjectName(b"s" * 16, body.digest, b"g" * 16)
                await body.file.rename(name)
                async with await files.open(name, size_bytes=size_bytes) as opened:
                    pieces = [piece async for piece in opened.pieces()]
                assert b"".join(pieces) == data
                assert max(map(len, pieces)) <= PIECE_BYTES
                body.file.is_named = False
        assert left(tmp_path) == []

    asyncio.run(check())


async def test_broken_upload_leaves_nothing(files: ObjectFolder, tmp_path: Path) -> None:
    """An upload that fails leaves no file, and its error is raised."""

    async def broken() -> AsyncIterator[bytes]:
        async for piece in in_pieces(HUGE):
            yield piece
        assert len(left(tmp_path)) == 1
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        async with Staging(files) as staging:
            await staging.receive(broken())
    assert left(tmp_path) == []


def opened_below(folder: Path) -> list[str]:
    """Return the open files of a folder; other threads open and close other files meanwhile."""
    names = []
    for descriptor in os.listdir("/proc/self/fd"):
        with suppress(FileNotFoundError):  # closed since it was listed
            names.append(os.readlink(f"/proc/self/fd/{descriptor}"))
    return [name for name in names if name.startswith(f"{folder}/")]


async def test_cancelled_upload_leaves_nothing(files: ObjectFolder, tmp_path: Path) -> None:
    """A cancelled upload leaves neither a file nor an open descriptor."""
    arrived = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        yield HUGE
        arrived.set()
        await asyncio.Event().wait()

    async def upload() -> None:
        async with Staging(files) as staging:
            await staging.receive(endless())

    for wait_for_it in (True, False):
        arrived.clear()
        task = asyncio.create_task(upload())
        if wait_for_it:
            await arrived.wait()
        else:
            await asyncio.to_thread(lambda: None)  # a turn or two, somewhere in the writing
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    assert left(tmp_path) == []
    assert opened_below(tmp_path) == []


@pytest.mark.parametrize("what", ["reading", "upload"])
async def test_cancelled_end_closes_the_file(
    files: ObjectFolder, tmp_path: Path, what: str
) -> None:
    """Cancelling the close of a body leaves no open descriptor, even if all threads are busy."""
    threads, go_on = CountingThreads(1), threading.Event()
    asyncio.get_running_loop().set_default_executor(threads)
    incoming = await files.begin()
    await incoming.append(HUGE)
    end = incoming.discard
    if what == "reading":
        name = ObjectName(b"s" * 16, (await incoming.finish())[0], b"g" * 16)
        await incoming.rename(name)
        end = (await files.open(name, size_bytes=len(HUGE))).close
    assert len(opened_below(tmp_path)) == 1
    threads.submit(go_on.wait, PATIENCE_S)
    threads.steps = 0
    task = asyncio.create_task(end())
    while not threads.steps:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go_on.set()
    await asyncio.to_thread(lambda: None)
    assert opened_below(tmp_path) == []


async def test_full_disk(tmp_path: Path) -> None:
    """An upload that would use the reserved disk space raises StoreFull and leaves no file."""
    files = ObjectFolder(tmp_path / "blobs", reserve_bytes=1 << 62)
    with pytest.raises(StoreFull):
        async with Staging(files) as staging:
            await staging.receive(in_pieces(HUGE))
    assert left(tmp_path) == []
    async with Staging(files) as staging:
        assert (await staging.receive(in_pieces(b"small"))).inline == b"small"


async def test_unusable_folder(tmp_path: Path) -> None:
    """An unusable data folder raises StoreUnavailable."""
    (tmp_path / "blobs").write_bytes(b"no folder")
    with pytest.raises(StoreUnavailable):
        async with Staging(ObjectFolder(tmp_path / "blobs")) as staging:
            await staging.receive(in_pieces(HUGE))


@pytest.mark.parametrize(
    ("error", "stays"),
    [
        (StoreBusy("x"), False),
        (StoreFull("x"), False),
        (CommitTooLarge("x"), False),
        (StoreUnavailable("the outcome is unknown"), True),
        (asyncio.CancelledError(), True),
    ],
    ids=["busy", "full", "too large", "unavailable", "cancelled"],
)
async def test_named_files_stay_only_where_a_commit_may_refer_to_them(
    bench: Bench, error: BaseException, stays: bool
) -> None:
    """A body's file is removed if the commit wrote nothing, and kept if the outcome is unknown."""
    with pytest.raises(type(error)):
        async with bench.values.staging() as staging:
            await bench.plan(Write("a", LARGE), staging=staging)
            raise error
    assert len(bench.names()) == stays


async def test_refused_commit_names_its_file_anew(bench: Bench) -> None:
    """After a refused commit, a body's file gets a new name for the next commit."""
    async with bench.values.staging() as staging:
        planned = await bench.plan(Write("a", LARGE), staging=staging)
        (first,) = bench.names()
        staging.recall()
        draft = await bench.values.draft(SPACE, (ValueWrite("a", planned.bodies[0]),), (None,))
        await draft.finalize(now=0.0)
        (second,) = bench.names()
        assert first.name.rpartition("-")[0] == second.name.rpartition("-")[0]
        assert first != second
        staging.recall()
    assert bench.names() == []


async def test_equal_bodies_of_a_batch_share_a_file(bench: Bench) -> None:
    """Two bodies of a batch with the same bytes share one file."""
    await bench.write(Write("a", LARGE), Write("b", LARGE))
    assert await bench.references(LARGE) == 2
    assert len(bench.names()) == 1


def test_inline_body_is_bounded() -> None:
    """An inline body above the size limit raises ValueError."""
    assert inline_body(b"x" * INLINE_BYTES).size_bytes == INLINE_BYTES
    with pytest.raises(ValueError, match="file"):
        inline_body(b"x" * (INLINE_BYTES + 1))


# --- reading


async def written(bench: Bench, body: bytes) -> Path:
    await bench.write(Write("a", body))
    (place,) = bench.names()
    return place


async def test_ranges(bench: Bench) -> None:
    """Reading a range returns the same bytes as slicing the whole body."""
    await written(bench, HUGE)
    head = await bench.head("a")
    assert head is not None
    body = await bench.values.open_body(head)
    assert not isinstance(body, bytes)
    async with body:
        for start, stop in [
            (0, 1),
            (PIECE_BYTES - 1, PIECE_BYTES + 1),
            (5, len(HUGE)),
            (0, None),
            (7, 7),
            (9, 3),
        ]:
            assert b"".join([piece async for piece in body.pieces(start, stop)]) == HUGE[start:stop]
    with pytest.raises(StoreUnavailable):
        await body.read()


async def test_reading_goes_on_after_the_file_is_gone(bench: Bench) -> None:
    """An open body is read to its end, even if the collector removes its file."""
    place = await written(bench, HUGE)
    head = await bench.head("a")
    assert head is not None
    body = await bench.values.open_body(head)
    assert not isinstance(body, bytes)
    async with body:
        pieces = body.pieces()
        first = await anext(pieces)
        place.unlink()
        assert first + b"".join([piece async for piece in pieces]) == HUGE


async def test_last_piece_of_a_damaged_body_is_kept_back(bench: Bench) -> None:
    """A reader never gets the last piece of a damaged body (M13)."""
    place = await written(bench, HUGE)
    head = await bench.head("a")
    assert head is not None
    place.write_bytes(HUGE[:-1] + b"x")
    body = await bench.values.open_body(head)
    assert not isinstance(body, bytes)
    given_out = b""
    with pytest.raises(RecordDamaged):
        async with body:
            async for piece in body.pieces():
                given_out += piece
    assert len(given_out) == len(HUGE) // PIECE_BYTES * PIECE_BYTES


def knows_how_not_to_wait(place: Path) -> bool:
    """Return whether the file system supports reads without waiting (RWF_NOWAIT)."""
    try:
        with place.open("rb") as stream:
            return os.preadv(stream.fileno(), [bytearray(1)], 0, os.RWF_NOWAIT) == 1
    except (AttributeError, OSError):
        return False


@pytest.mark.parametrize("waits", [False, True], ids=["in memory", "anywhere"])
async def test_what_is_in_memory_is_read_without_a_thread(
    bench: Bench, monkeypatch: pytest.MonkeyPatch, waits: bool
) -> None:
    """A body in the page cache is read on the event loop; any other piece is read in a thread."""
    place = await written(bench, HUGE)
    if not (waits or knows_how_not_to_wait(place)):
        pytest.skip("this file system does not say what it has in memory")
    if waits:
        monkeypatch.setattr(object_files, "_NOWAIT", None)  # as on a platform without it
    head = await bench.head("a")
    assert head is not None
    threads, turns, is_read = CountingThreads(), 0, False
    asyncio.get_running_loop().set_default_executor(threads)

    async def others() -> None:
        nonlocal turns
        while not is_read:
            turns += 1
            await asyncio.sleep(0)

    body = await bench.values.open_body(head)
    assert not isinstance(body, bytes)
    async with body, asyncio.TaskGroup() as group:
        group.create_task(others())
        threads.steps = 0
        pieces = [piece async for piece in body.pieces()]
        is_read = True
        steps = threads.steps
    assert b"".join(pieces) == HUGE
    assert steps == (len(pieces) if waits else 0)
    assert turns >= len(pieces) // 2


async def test_many_readings_read_one_piece_in_a_round_of_the_loop(bench: Bench) -> None:
    """However many bodies are being read, a short request waits for only one piece."""
    place = await written(bench, HUGE)
    if not knows_how_not_to_wait(place):
        pytest.skip("this file system does not say what it has in memory")
    head = await bench.head("a")
    assert head is not None
    body = await bench.values.open_body(head)
    assert not isinstance(body, bytes)
    rounds, later_pieces = 0, list[int]()
    begun = list[None]()

    async def read() -> bytes:
        pieces = body.pieces()
        whole = await anext(pieces)
        begun.append(None)
        async for piece in pieces:
            whole += piece
            later_pieces.append(rounds)
        return bytes(whole)

    async with body:
        readings = [asyncio.create_task(read()) for _ in range(8)]
        gave_up = asyncio.create_task(read())
        while not all(reading.done() for reading in readings):
            rounds += 1
            await asyncio.sleep(0)
            if len(begun) == 9:
                gave_up.cancel()
        assert {reading.result() for reading in readings} == {HUGE}
    with pytest.raises(asyncio.CancelledError):
        await gave_up
    assert len(later_pieces) >= 8 * 4
    assert len(set(later_pieces)) == len(later_pieces)


@pytest.mark.parametrize("damage", ["missing", "short", "shrinks"])
async def test_files_that_are_not_whole(bench: Bench, damage: str) -> None:
    """Reading a file that is missing or too short raises an error."""
    place = await written(bench, HUGE)
    head = await bench.head("a")
    assert head is not None
    if damage == "missing":
        place.unlink()
    if damage == "short":
        os.truncate(place, 10)
    with pytest.raises(RecordDamaged):
        body = await bench.values.open_body(head)
        assert not isinstance(body, bytes)
        async with body:
            os.truncate(place, PIECE_BYTES + 1)
            await body.read()


async def test_bodies_on_their_way_hold_a_bounded_memory(files: ObjectFolder) -> None:
    """A body beyond the memory limit of all uploads is refused until other uploads end."""
    intake = Intake(2 * PIECE_BYTES)
    async with Staging(files, intake) as first, Staging(files, intake) as second:
        await first.receive(in_pieces(HUGE))  # most of it lies on the disk
        await first.keep(LARGE)
        with pytest.raises(IntakeFull):
            await second.receive(in_pieces(HUGE))
    intake.take(2 * PIECE_BYTES)
    with pytest.raises(IntakeFull):
        intake.take(1)


@pytest.mark.parametrize(
    ("others_bytes", "step_bytes"),
    [(0, STEP_BYTES), (INTAKE_BYTES // 2, PIECE_BYTES)],
    ids=["much room", "little room"],
)
async def test_long_bodies_wait_for_long_steps_where_there_is_room(
    files: ObjectFolder, others_bytes: int, step_bytes: int
) -> None:
    """An upload may buffer up to 1 MiB while others need little memory, and 256 KiB otherwise."""
    intake = Intake()
    intake.take(others_bytes)
    held: list[int] = []

    async def watched() -> AsyncIterator[bytes]:
        async for piece in in_pieces(HUGE * 4, 65_536):
            held.append(intake.held_bytes - others_bytes)
            yield piece

    async with Staging(files, intake) as staging:
        body = await staging.receive(watched())
    assert body.digest == blake3(HUGE * 4).digest()
    assert max(held) + 65_536 == step_bytes


async def test_short_pieces_take_little_more_memory_than_their_bytes(files: ObjectFolder) -> None:
    """A client that sends two bytes at a time uses little more memory than its bytes."""

    async def short() -> AsyncIterator[bytes]:
        for number in range(50_000):
            yield number.to_bytes(2, "big")

    async with Staging(files) as staging:
        tracemalloc.start()
        try:
            body = await staging.receive(short())
            _, peak_bytes = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert (
        body.digest
        == blake3(b"".join([number.to_bytes(2, "big") for number in range(50_000)])).digest()
    )
    assert peak_bytes < 1_000_000


async def test_any_number_of_pieces_is_written_at_once(files: ObjectFolder) -> None:
    """A body with more pieces than one system call accepts is written completely."""
    incoming = await files.begin()
    pieces = [number.to_bytes(2, "big") * 100 for number in range(3000)]
    await incoming.append(*pieces)
    digest, size_bytes = await incoming.finish()
    assert digest == blake3(b"".join(pieces)).digest()
    assert size_bytes == 600_000
    name = ObjectName(b"s" * 16, digest, b"g" * 16)
    await incoming.rename(name)
    async with await files.open(name, size_bytes=size_bytes) as body:
        assert await body.read() == b"".join(pieces)


@in_own_process
def test_write_that_ends_early(tmp_path: Path) -> None:
    """An upload fails and leaves no file if the disk writes only a part of it."""

    async def kept() -> None:
        async with Staging(ObjectFolder(tmp_path / "blobs")) as staging:
            await staging.keep(HUGE)

    resource.setrlimit(resource.RLIMIT_FSIZE, (PIECE_BYTES + 1, PIECE_BYTES + 1))
    with pytest.raises(StoreUnavailable):
        asyncio.run(kept())
    assert left(tmp_path) == []


async def test_commit_holds_a_bounded_number_of_bytes_inline(files: ObjectFolder) -> None:
    """Small bodies beyond a commit's inline limit are stored in files (ST6)."""
    async with Staging(files) as staging:
        bodies = [
            await staging.keep(b"b" * INLINE_BYTES)
            for _ in range(INLINE_TOGETHER_BYTES // INLINE_BYTES + 2)
        ]
        last = await staging.keep(b"")
    assert [body.file is None for body in bodies] == [True] * (len(bodies) - 2) + [False] * 2
    assert last.inline == b""


# --- words in files -------------------------------------------------------------------------------


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    before=st.integers(0, 70_000),
    after=st.integers(0, 70_000),
    cut=st.integers(0, 9),
    sizes=st.lists(st.sampled_from([1, 2, 5, 9, 10, 11, 4_000, 65_536, 300_000]), min_size=1),
)
async def test_a_word_in_a_file_is_found(
    files: ObjectFolder, before: int, after: int, cut: int, sizes: list[int]
) -> None:
    """A word is found wherever the pieces of a value divide it, and only if the value has it."""
    word = b"'0123456'"
    whole = b"x" * (before + INLINE_BYTES) + word + b"'" * after
    for data in (whole, whole.replace(b"345", b"354")):
        rest, pieces = data, []
        for size_bytes in (before + INLINE_BYTES + cut, *sizes, len(data)):
            pieces.append(rest[:size_bytes])
            rest = rest[size_bytes:]

        async def arriving(pieces: list[bytes] = pieces) -> AsyncIterator[bytes]:
            for piece in pieces:
                yield piece

        async with Staging(files, word=word) as staging:
            for body in (await staging.receive(arriving()), await staging.keep(data)):
                assert body.inline is None
                assert body.has_word is (word in data)
                assert await staging.contents(body) == data
        async with Staging(files) as staging:
            assert not (await staging.keep(data)).has_word


async def test_contents_that_are_read_back_count_as_memory(files: ObjectFolder) -> None:
    """Contents that are read back from a file take memory until the block ends."""
    intake = Intake(max_bytes=3 * INLINE_BYTES)
    async with Staging(files, intake) as staging:
        body = await staging.keep(b"x" * (INLINE_BYTES + 1))
        await staging.contents(body)
        with pytest.raises(IntakeFull):
            await staging.contents(body)
    assert intake.held_bytes == 0
