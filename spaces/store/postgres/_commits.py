"""Execution of each commit as one SQL statement in PostgreSQL.

The statement checks the conditions and writes atomically.

Every commit that writes leaves a row that proves its outcome: its replay record, or a row of its
own under the same prefix (ST4). When the connection breaks before the reply, the same statement is
sent again. It finds that row, or it happens now. The lost statement may still be running. Whichever
of the two comes second collides with that row's primary key, and is rolled back.

A commit of conditions alone writes no row. The locks on the rows that it names are in the
database's log all the same, so it waits for the standby like any other commit. A repeated commit
that finds its outcome waits for the same reason (ST16).
"""

import asyncio
from collections.abc import Iterable
from dataclasses import dataclass, field

from capabilities.clock_and_entropy import Clock

from ...space_errors import StoreBusy, StoreError, StoreUnavailable
from ..contract import Commit, Committed, Refused, check_commit
from ._errors import CONNECTION_ERRORS, ErrorGroup, error_group_of, store_error_of
from ._parameters import CommitParameters, counter_changes, parameters_of
from ._pool import ANSWER_WITHIN_S, RECONNECT_WITHIN_S, Connections, pause
from ._statements import ALREADY_APPLIED, REFUSED


@dataclass(slots=True, eq=False)
class QueuedCommit:
    """A commit that is waiting or running.

    Attributes:
        written_keys: of the rows that it writes.
        condition_keys: of the rows that it relies on.
        earlier: the conflicting commits that must finish first.
        done: set when it has finished.
    """

    written_keys: frozenset[bytes]
    condition_keys: frozenset[bytes]
    earlier: "set[QueuedCommit]" = field(default_factory=set)
    done: asyncio.Event = field(default_factory=asyncio.Event)


COMMIT_CONNECTIONS = 4
MAX_WAITING_BYTES = 64 * 1024 * 1024
_RETRY_WITHIN_S = 2.0


class Commits:
    """A queue of commits to the database.

    Commits to the same rows run one after the other.
    """

    def __init__(self, connections: Connections, clock: Clock) -> None:
        """Create an empty queue of commits.

        `clock` returns the estimated database time.
        """
        self._connections = connections
        self._clock = clock
        # By key: the last commit that writes it, and the commits that rely on it and came after.
        self._writers: dict[bytes, QueuedCommit] = {}
        self._readers: dict[bytes, set[QueuedCommit]] = {}
        self._waiting_bytes = 0
        self._writing: set[asyncio.Task[Committed | Refused]] = set()

    async def commit(self, commit: Commit) -> Committed | Refused:
        """Write a commit, and return its outcome.

        See `Store.commit`. The commit continues when the caller is cancelled, because a commit that
        was sent cannot be taken back.
        """
        check_commit(commit)
        if self._waiting_bytes > MAX_WAITING_BYTES:
            raise StoreBusy("too many bytes are waiting to be written to the database")
        counters = counter_changes(commit)
        if counters is None:  # a counter would not fit its row
            return Refused()
        parameters = parameters_of(commit, counters, now=int(self._clock.now()))
        put_keys = [put.key for put in commit.puts]
        queued = self._enter(
            written_keys=[
                parameters.outcome_key,
                *put_keys,
                *parameters.counter_keys,
                *parameters.sequence_keys,
            ],
            condition_keys=parameters.condition_keys,
        )
        size_bytes = sum([len(put.key) + len(put.value or b"") for put in commit.puts])
        task = asyncio.create_task(self._write_in_turn(parameters, queued, size_bytes))
        self._writing.add(task)
        task.add_done_callback(self._writing.discard)
        return await asyncio.shield(task)

    async def close(self) -> None:
        """Wait for the outcomes of running commits.

        The connections must be closed already.
        """
        await asyncio.gather(*self._writing, return_exceptions=True)

    # Two commits on two connections run in the order of the database's locks, which is arbitrary. A
    # caller that revokes and then writes, without waiting in between, expects them in its order.
    # Commits that would wait for each other in the database wait here instead, where they occupy no
    # connection.
    def _enter(
        self, *, written_keys: Iterable[bytes], condition_keys: Iterable[bytes]
    ) -> QueuedCommit:
        """Queue a commit behind all conflicting commits.

        Two commits conflict if one writes a key that the other writes or relies on.
        """
        queued = QueuedCommit(frozenset(written_keys), frozenset(condition_keys))
        for key in queued.written_keys | queued.condition_keys:
            if key in self._writers:
                queued.earlier.add(self._writers[key])
            if key in queued.written_keys:
                queued.earlier |= self._readers.pop(key, set())
                self._writers[key] = queued
            else:
                self._readers.setdefault(key, set()).add(queued)
        return queued

    def _leave(self, queued: QueuedCommit) -> None:
        """Remove a finished commit from the queue.

        Commits that conflict with it can then run.
        """
        queued.done.set()
        queued.earlier.clear()  # otherwise each commit would keep all earlier ones in memory
        for key in queued.written_keys | queued.condition_keys:
            if self._writers.get(key) is queued:
                del self._writers[key]
            readers = self._readers.get(key, set())
            readers.discard(queued)
            if not readers:
                self._readers.pop(key, None)

    async def _write_in_turn(
        self, parameters: CommitParameters, queued: QueuedCommit, size_bytes: int
    ) -> Committed | Refused:
        """Write a commit after all conflicting commits have ended."""
        give_up_at = asyncio.get_running_loop().time() + ANSWER_WITHIN_S
        self._waiting_bytes += size_bytes
        try:
            for earlier_commit in queued.earlier:
                async with asyncio.timeout_at(give_up_at):
                    await earlier_commit.done.wait()
        except TimeoutError:
            raise StoreBusy("too many commits are waiting for the same rows") from None
        else:
            return await self._write(parameters)
        finally:
            self._waiting_bytes -= size_bytes
            self._leave(queued)

    async def _write(self, parameters: CommitParameters) -> Committed | Refused:
        """Run the SQL statement of a commit, with retries.

        Raises:
            StoreBusy: other commits changed the same rows for too long; nothing was written.
            StoreUnavailable: the database failed, or the outcome is unknown after a lost connection
                or a timeout.
        """
        loop = asyncio.get_running_loop()
        give_up_at = loop.time() + _RETRY_WITHIN_S
        was_lost = False
        while True:
            # An attempt that began in time is repeated, however long it waited for a lock: the
            # repeat finds what a lost statement committed meanwhile.
            is_late = loop.time() >= give_up_at
            try:
                rows = await self._connections.run(parameters.statement, parameters.arguments)
            except CONNECTION_ERRORS as exc:
                group = error_group_of(exc)
                if group is ErrorGroup.OUT_OF_RANGE and not was_lost:
                    return Refused()  # a counter that would not fit its row
                error = _final_error(exc, was_lost=was_lost, is_late=is_late)
                if error is not None:
                    raise error from None
                if group is ErrorGroup.LOST and not was_lost:
                    was_lost = True
                    # The time for retries begins with the loss: the statement may have waited for
                    # a lock longer than that before.
                    give_up_at = loop.time() + RECONNECT_WITHIN_S
                elif group is ErrorGroup.REPEAT:
                    await pause()  # so that processes in conflict do not repeat at the same time
            else:
                ((verdict,),) = rows
                return _outcome_of(verdict, was_lost=was_lost)


def _final_error(exc: Exception, *, was_lost: bool, is_late: bool) -> StoreError | None:
    """Return the error that ends the attempts to write a commit, or None to try again.

    Args:
        exc: the error of the latest attempt.
        was_lost: whether an earlier attempt lost its connection, and may still succeed.
        is_late: whether the latest attempt was the last one.
    """
    group = error_group_of(exc)
    if group in (ErrorGroup.OUT_OF_RANGE, ErrorGroup.FAILED):
        if was_lost:
            return _outcome_unknown()  # the lost attempt may still succeed
        return store_error_of(exc)
    if isinstance(exc, TimeoutError):
        return _outcome_unknown()  # the statement may still run on the server
    is_first_loss = group is ErrorGroup.LOST and not was_lost
    if is_first_loss or not is_late:
        return None
    if was_lost:
        return _outcome_unknown()
    return StoreBusy("the commit timed out because other commits kept changing the same rows")


def _outcome_of(verdict: int, *, was_lost: bool) -> Committed | Refused:
    """Return the outcome for a verdict of the statement.

    Raises StoreUnavailable if the verdict is a refusal and an earlier attempt lost its connection.
    """
    if verdict != REFUSED:
        return Committed(already_applied=verdict == ALREADY_APPLIED)
    if was_lost:
        # The lost statement may still be waiting for a lock, and succeed although this one was
        # refused.
        raise _outcome_unknown()
    return Refused()


def _outcome_unknown() -> StoreUnavailable:
    """Return the error for a commit that may have been written."""
    return StoreUnavailable(
        "the connection was lost or the database timed out; the outcome of the commit is unknown"
    )
