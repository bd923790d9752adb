"""Access of a worker to SQL databases, by way of processes that it borrows (SQ29).

A worker opens no database. It sends statements to a child process, waits for the answer, and ends
the child if the answer is no longer wanted: after a deadline, or if `watch` says so.
"""

import asyncio
import itertools
import math
import os
import re
import stat
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple

from ..keyspace import x16
from ..space_errors import (
    RecordDamaged,
    SqlError,
    SqlOutcomeUnknown,
    StoreBusy,
    StoreUnavailable,
)
from .child import ERRORS, LogHeld
from .database_files import COPY_PREFIX
from .database_rows import DatabaseName, file_of, space16_of
from .frames import (
    MAX_FROM_CHILD_BYTES,
    Commit,
    Committed,
    Copied,
    Copy,
    Failed,
    FromChild,
    LeaseRequest,
    MessageInvalid,
    MessageReader,
    Ran,
    Releasing,
    Run,
    ToChild,
    framed,
)
from .keeper_client import KeeperClient, LentChild
from .priorities import processor_time_s

PIECE_BYTES = 256 * 1024
COMMIT_S = 60.0
"""How long a commit, or the release of free pages, may take."""
_COPY_S = 300.0
_WATCH_EVERY_S = 0.25
_MOST_WAITING = 256  # requests of one owner that read, and as many that write
_COPY_NAME = re.compile(re.escape(COPY_PREFIX) + "[0-9a-f]{32}")

Watch = Callable[[], Awaitable[object]]
"""Raises an error if the answer to a request is no longer wanted."""


class DatabaseCopy(NamedTuple):
    """A copy of a database in a file without a name.

    Attributes:
        file: opened for reading.
        size_bytes: the size of the file.
        cleanup: frees the file, and lets the space be exported again. The owner of the copy must
            close it.
    """

    file: IO[bytes]
    size_bytes: int
    cleanup: ExitStack

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the bytes of the copy."""
        while piece := await asyncio.to_thread(self.file.read, PIECE_BYTES):
            yield piece


class Databases:
    """The access of one worker to the databases of a node.

    Args:
        folder: where the files are; it is created with the first database.
        keeper: the path of the keeper's socket.
        wait_s: seconds that a request waits for others.
    """

    def __init__(self, folder: Path, keeper: Path, *, wait_s: float) -> None:
        self._folder = folder
        self._wait_s = wait_s
        self._keeper = KeeperClient(keeper)
        self._numbers = itertools.count(1)
        self._waiting = Counter[tuple[bytes, bool]]()  # by owner, and by whether they write
        self._exporting = set[bytes]()  # spaces, by the 16-byte hash of their id

    @asynccontextmanager
    async def lease(
        self, name: DatabaseName, *, writes: bool, has_file: bool, is_export: bool = False
    ) -> AsyncIterator["Lease"]:
        """Borrow a child for a database. Writes that are not committed at the end are undone.

        Args:
            name: the database.
            writes: whether statements may write. Only one lease of a database does, in any worker.
            has_file: whether the database exists or may be created; otherwise it is an empty one in
                memory.
            is_export: whether it is copied.
        Raises:
            StoreBusy: other requests took too long (SQ15).
            StoreUnavailable: no process can be started.
        """
        owner = x16(name.space.owner)
        queue = (owner, writes)
        if self._waiting[queue] >= _MOST_WAITING:
            raise StoreBusy("too many requests wait for the SQL databases of this owner")
        request = LeaseRequest(
            number=next(self._numbers),
            owner=owner,
            key=name.key,
            writes=writes,
            has_file=has_file,
            is_export=is_export,
        )
        self._waiting[queue] += 1
        try:
            child = await self._keeper.borrow(request, self._wait_s)
        finally:
            self._waiting[queue] -= 1
            if self._waiting[queue] == 0:
                del self._waiting[queue]
        file = ""
        if has_file:
            file = Path(file_of(name.key)).name
        lease = Lease(
            self._keeper,
            number=request.number,
            child=child,
            file=file,
            wait_s=self._wait_s,
        )
        try:
            yield lease
        finally:
            lease.close()

    async def copy(self, name: DatabaseName) -> DatabaseCopy:
        """Copy a database as of one moment (SQ13).

        Returns:
            The copy. The caller closes its `cleanup`.
        Raises:
            StoreBusy: another copy of a database of this space is still in use, or the copy took
                too long.
            StoreUnavailable: no process can be started, or the copy cannot be read.
            RecordDamaged: the database is missing or damaged.
        """
        space16 = space16_of(name.key)
        if space16 in self._exporting:
            raise StoreBusy("another database of this space is being exported")
        with ExitStack() as cleanup:
            self._exporting.add(space16)
            cleanup.callback(self._exporting.discard, space16)
            async with self.lease(name, writes=False, has_file=True, is_export=True) as lease:
                copy_name = await lease.copy()
            folder = (self._folder / file_of(name.key)).parent
            file = cleanup.enter_context(_open_and_unlink(folder / copy_name))
            size_bytes = os.fstat(file.fileno()).st_size
            # From here on the caller cleans up; after an error above, this function does.
            return DatabaseCopy(file=file, size_bytes=size_bytes, cleanup=cleanup.pop_all())

    def close(self) -> None:
        """End all leases, and the connection with the keeper."""
        self._keeper.close()


def _open_and_unlink(path: Path) -> IO[bytes]:
    """Open a copy that a child has made, and delete its name at once.

    The child is not trusted (`frames`), so the copy may be a link or no file.

    Raises:
        StoreUnavailable: it is missing, a link, or not a file.
    """
    try:
        file = os.fdopen(os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC), "rb")
    except OSError as exc:
        raise StoreUnavailable("the copy of a database cannot be read") from exc
    path.unlink(missing_ok=True)
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise StoreUnavailable("the copy of a database is not a file")
    return file


class _DeadlineOver(Exception):
    """A child has not answered before the deadline of a request."""


class Lease:
    """A child process that works for one request.

    If a method ends without an answer of the child, for example after its deadline, the child is
    ended with the lease.

    Attributes:
        is_clean: whether no answer is due and no transaction is open, so that the child can be used
            further.
    """

    def __init__(
        self,
        keeper: KeeperClient,
        *,
        number: int,
        child: LentChild,
        file: str,
        wait_s: float,
    ) -> None:
        self._keeper = keeper
        self._number = number
        self._connection = child.connection
        self._process = child.process
        self._file = file
        self._wait_s = wait_s
        self._reader = MessageReader(FromChild, MAX_FROM_CHILD_BYTES)
        self.is_clean = True

    @property
    def file(self) -> str:
        """The name of the database's file; empty for a database in memory."""
        return self._file

    async def run(self, run: Run, within_s: float, watch: Watch) -> Ran:
        """Run statements; with `run.writes`, their transaction stays open.

        Args:
            run: the statements. Its file is that of this lease.
            within_s: seconds after which they are stopped.
            watch: is called a few times a second.
        Raises:
            SqlError: the time is over, or an error of the statements.
            WriteNeeded: a statement writes, but `run.writes` is not set.
            StoreBusy: the process has ended, because it needed too much memory or another request
                needed the log of the database emptied.
            Errors of `Connection` and `watch`.
        """
        deadline = asyncio.get_running_loop().time() + within_s
        computed_before_s = processor_time_s(self._process)
        try:
            answer = await self._run_with_empty_log(run, deadline, watch)
        except _DeadlineOver:
            computed_s = processor_time_s(self._process) - computed_before_s
            raise SqlError(_timeout_text(within_s, computed_s)) from None
        if not isinstance(answer, Ran):
            raise self._wrong_answer()
        leaves_transaction_open = run.writes and run.file != ""
        self.is_clean = not leaves_transaction_open
        return answer

    async def _run_with_empty_log(self, run: Run, deadline: float, watch: Watch) -> Any:
        """Run statements, a second time if the log of their database had to be emptied first.

        Raises _DeadlineOver, and the errors of `run`.
        """
        try:
            return await self._request(run, deadline, watch)
        except LogHeld:
            await self._keeper.end_readers(self._number, self._wait_s)
        try:
            return await self._request(run, deadline, watch)
        except LogHeld:
            raise StoreBusy("the log of an SQL database is full") from None

    async def commit(self) -> None:
        """Commit the open transaction durably.

        Raises:
            SqlOutcomeUnknown: the child did not answer within `COMMIT_S`, or has ended.
            SpaceError: the database was not changed, for example because the disk is full.
        """
        deadline = asyncio.get_running_loop().time() + COMMIT_S
        try:
            answer = await self._request(Commit(), deadline, None)
        except (StoreBusy, _DeadlineOver):  # the child has ended, perhaps after its commit
            raise SqlOutcomeUnknown("it is unknown whether an SQL database was changed") from None
        if not isinstance(answer, Committed):
            raise self._wrong_answer()

    async def copy(self) -> str:
        """Copy the database, and return the name of the copy.

        Raises:
            StoreBusy: it took too long, or the child has ended.
            StoreUnavailable: the child gave a wrong answer.
            The errors that the child reports.
        """
        deadline = asyncio.get_running_loop().time() + _COPY_S
        try:
            answer = await self._request(Copy(self._file), deadline, None)
        except _DeadlineOver:
            raise StoreBusy("the export of an SQL database took too long") from None
        if not isinstance(answer, Copied) or not _COPY_NAME.fullmatch(answer.file):
            raise self._wrong_answer()
        return answer.file

    def close(self) -> None:
        """End the lease, and the child too unless it can be lent again."""
        self._connection.close()
        self._keeper.end_lease(self._number, keeps_child=self.is_clean)

    def _wrong_answer(self) -> StoreUnavailable:
        """Return the error for a wrong answer, after which the child cannot be lent again."""
        self.is_clean = False
        return StoreUnavailable("a process for SQL statements gave a wrong answer")

    async def _request(self, message: ToChild, deadline: float, watch: Watch | None) -> Any:
        """Send a request to the child, and return its answer.

        Args:
            message: the request.
            deadline: by the clock of the event loop.
            watch: see `run`; None to watch nothing.
        Raises:
            _DeadlineOver: the child has not answered before the deadline.
            StoreBusy: the child has ended.
            StoreUnavailable: the answer cannot be parsed.
            The errors that the child reports, and those of `watch`.
        """
        self.is_clean = False
        loop = asyncio.get_running_loop()
        release_deadline: float | None = None
        try:
            await self._send(message, deadline)
            while True:
                answer = self._received_message()
                if isinstance(answer, Releasing):
                    # The statements ended in time. The release of free pages has a deadline of its
                    # own, which another message of this kind does not move.
                    release_deadline = release_deadline or loop.time() + COMMIT_S
                    deadline = release_deadline
                    answer = self._reader.feed(b"")  # the answer may have arrived already
                if answer is not None:
                    break
                left_s = deadline - loop.time()
                if left_s <= 0:
                    raise _DeadlineOver
                is_readable = await self._wait_for_bytes(min(_WATCH_EVERY_S, left_s))
                if watch is not None and not is_readable:
                    await watch()
        except (ConnectionError, EOFError):
            raise StoreBusy("the process of an SQL statement has ended") from None
        except MessageInvalid as exc:
            raise self._wrong_answer() from exc
        self.is_clean = True
        if isinstance(answer, Failed):
            raise ERRORS.get(answer.kind, RecordDamaged)(answer.text)
        return answer

    async def _send(self, message: ToChild, deadline: float) -> None:
        """Send a message. The deadline also ends a child that reads slowly, or not at all."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(deadline):
                await loop.sock_sendall(self._connection, framed(message))
        except TimeoutError:
            raise _DeadlineOver from None

    def _received_message(self) -> Any:
        """Return the next message if all of it has arrived, or None.

        Raises EOFError if the child has ended.
        """
        while True:
            try:
                data = self._connection.recv(PIECE_BYTES)
            except BlockingIOError:
                return None
            if not data:
                raise EOFError
            message = self._reader.feed(data)
            if message is not None:
                return message

    async def _wait_for_bytes(self, max_wait_s: float) -> bool:
        """Wait until the child has sent something, and return whether it has in time."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()

        def wake() -> None:
            if not readable.done():
                readable.set_result(None)

        loop.add_reader(self._connection, wake)
        try:
            done, _ = await asyncio.wait((readable,), timeout=max_wait_s)
            return bool(done)
        finally:
            loop.remove_reader(self._connection)


def _timeout_text(within_s: float, computed_s: float) -> str:
    """Return what a caller is told whose statement was ended by its deadline (SQ15).

    Args:
        within_s: the time that it had.
        computed_s: the processor time that it got; not finite if that is not known.
    """
    text = f"SQLite error: statement exceeded {round(within_s * 1000)} ms"
    if math.isfinite(computed_s) and computed_s < within_s / 2:
        text += f"; the node was busy, and it computed for {round(computed_s * 1000)} ms of them"
    return text
