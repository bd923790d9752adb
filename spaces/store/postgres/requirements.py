"""Whether a database provides what the PostgreSQL engine needs: a session per connection, and
durable commits.

Three faults are silent. A proxy that pools by transaction passes each statement to any session, so
that settings and prepared statements belong to another one. A server that does not sync, or
acknowledges before it has, loses what was acknowledged. And one that fails over to a standby which
was not waited for loses it too.

In addition, a process whose clock differs from the database's runs no housekeeping, and a floor of
claims that is ahead prevents tokens from being used (ST9).

The proxy is detected like this: one connection asks for the process that serves it; others begin
transactions, which keep their sessions; then the first one asks again. Without such a proxy the
answer is the same.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Final, Literal, NamedTuple

import asyncpg

from capabilities.clock_and_entropy import Clock, SystemClock

from ...keyspace import REPLAY_FLOOR_KEY, floor_ahead_s
from ...space_errors import StoreUnavailable
from ..observing import Clocks
from ._clock import DatabaseClock
from ._errors import CONNECTION_ERRORS
from ._statements import DATABASE_TIME, READ_VALUE

_CONNECT_S: Final = 5.0
_ANSWER_S: Final = 3.0
# How many sessions are kept busy, so that a proxy with that many to spare is detected.
_BUSY_CONNECTIONS: Final = 4
_DURABLE_COMMIT: Final = frozenset({"on", "remote_apply"})
_WAITED_FOR: Final = frozenset({"sync", "quorum"})
# Errors of another session for a statement that was prepared in ours, and errors of the various
# proxies.
_NOT_OURS: Final = frozenset({"26000", "42P05", "08P01", "08003"})

_COMMIT_ON: Final = (
    "alter system set synchronous_commit = on; look at alter role and alter database too"
)
_DISK: Final = (
    (
        "fsync",
        "after a crash of the machine the database is damaged",
        (
            "set fsync = on in postgresql.conf and restart the server; restore it if the machine"
            " crashed meanwhile"
        ),
    ),
    (
        "full_page_writes",
        "a page that was half written when the machine crashed stays so",
        "alter system set full_page_writes = on; select pg_reload_conf()",
    ),
    ("synchronous_commit", "writes are acknowledged before they are on the disk", _COMMIT_ON),
)

SETTINGS: Final = (
    "select name, setting from pg_settings where name in ('fsync', 'full_page_writes',"
    " 'synchronous_commit', 'synchronous_standby_names')"
)
# Without the right to see more (pg_monitor), the states of others are null.
STANDBYS: Final = "select sync_state from pg_stat_replication"
SESSION: Final = "select pg_backend_pid()"


class Finding(NamedTuple):
    """The result of one check, and what to do.

    Attributes:
        severity: "warn" of what may be intended; "wrong" where acknowledged writes can be lost, or
            nothing works.
    """

    severity: Literal["ok", "warn", "wrong"]
    text: str
    next_step: str = ""


POOLED: Final = Finding(
    "wrong",
    "a proxy between node and database hands statements of one connection to several sessions",
    "let it pool by session (pgbouncer: pool_mode = session), or name the database itself",
)
"""What `examine` returns alone where a proxy pools by transaction."""


async def examine(url: str, *, clock: Clock | None = None) -> tuple[Finding, ...]:
    """Examine the database at an address; nothing is written."""
    try:
        async with AsyncExitStack() as opened:
            first = await _connection(url, opened)
            if await _is_pooled(first, url, opened):
                return (POOLED,)
            rows = await first.fetch(SETTINGS)
            settings = {str(row["name"]): str(row["setting"]) for row in rows}
            standbys = [row["sync_state"] for row in await first.fetch(STANDBYS)]
            theirs = DatabaseClock(clock or SystemClock())
            await theirs.compare(first.fetchval(DATABASE_TIME))
            floor: bytes | None = None
            with suppress(asyncpg.UndefinedTableError):  # no node was started on it yet
                floor = await first.fetchval(READ_VALUE, REPLAY_FLOOR_KEY)
    except CONNECTION_ERRORS as exc:
        reason = getattr(exc, "sqlstate", None) or type(exc).__name__
        raise StoreUnavailable(f"the database cannot be examined ({reason})") from None
    own = Finding("ok", "each connection has a session of its own")
    clocks = Clocks(theirs.ahead_s, floor_ahead_s(floor or b"", theirs.now()))
    return (
        own,
        *disk_findings(settings),
        *standby_findings(settings, standbys),
        *clock_findings(clocks),
    )


async def _connection(url: str, opened: AsyncExitStack) -> "asyncpg.Connection[asyncpg.Record]":
    # Without settings on purpose: a proxy may not pass on the session's settings that the engine
    # starts with.
    connection = await asyncpg.connect(
        url,
        timeout=_CONNECT_S,
        command_timeout=_ANSWER_S,
        statement_cache_size=0,
        target_session_attrs="read-write",
    )
    opened.callback(connection.terminate)
    return connection


async def _is_pooled(
    first: "asyncpg.Connection[asyncpg.Record]", url: str, opened: AsyncExitStack
) -> bool:
    try:
        session = await first.fetchval(SESSION)
        for _ in range(_BUSY_CONNECTIONS):
            other = await _connection(url, opened)
            await other.execute("begin")
            await other.fetchval(SESSION)
            try:
                if await first.fetchval(SESSION) != session:
                    return True
            except TimeoutError:
                # raises where the server answers nobody: that is no proxy
                await other.fetchval(SESSION)
                # it has no session to spare, because those that are busy are not the first
                # connection's
                return True
    except asyncpg.PostgresError as exc:
        if exc.sqlstate in _NOT_OURS:
            return True
        raise
    return False


def disk_findings(settings: Mapping[str, str]) -> list[Finding]:
    """Judge whether the server's own disk keeps what was acknowledged; unknown settings are
    skipped."""
    wrong = [
        Finding("wrong", f"{name} is off: {loss}", step)
        for name, loss, step in _DISK
        if settings.get(name) == "off"
    ]
    return wrong or [Finding("ok", "what is acknowledged is on the server's disk")]


def standby_findings(settings: Mapping[str, str], standbys: Sequence[str | None]) -> list[Finding]:
    """Judge whether a standby that may take over has what was acknowledged."""
    names, commit = settings.get("synchronous_standby_names"), settings.get("synchronous_commit")
    if names is None:
        return []
    if not names and standbys:
        finding = Finding(
            "wrong",
            f"standbys are connected ({len(standbys)}), and commits wait for none: "
            "a failover forgets what was acknowledged",
            "set synchronous_standby_names, such as 'ANY 1 (*)', and reload the server",
        )
    elif not names:
        finding = Finding(
            "warn",
            "no standby is connected: the store is gone with the server's disk, back to the last"
            " backup",
            "add a synchronous standby, or have the disk replicated and backups tested",
        )
    elif commit not in _DURABLE_COMMIT:
        finding = Finding(
            "wrong",
            f"synchronous_commit is {commit}: the standbys named are not waited for",
            _COMMIT_ON,
        )
    elif any(state in _WAITED_FOR for state in standbys):
        finding = Finding("ok", "commits wait for a standby")
    elif None in standbys:
        finding = Finding(
            "warn",
            "standbys are connected, and this role may not see whether commits wait for them",
            "grant pg_monitor to the role, or look at pg_stat_replication by hand",
        )
    else:
        finding = Finding(
            "wrong",
            "no standby of synchronous_standby_names is connected: commits wait until one is",
            "start the standby, or look at its application_name in primary_conninfo",
        )
    return [finding]


def clock_findings(clocks: Clocks) -> list[Finding]:
    """Judge whether this machine's clock agrees with the database's, and whether everything
    forgotten has expired."""
    found = []
    side = "ahead of" if clocks.ahead_s > 0 else "behind"
    skew = f"this machine's clock is {abs(clocks.ahead_s):.0f} s {side} the database's"
    if clocks.is_apart:
        text = f"{skew}: a node here does no housekeeping, and refuses tokens that others take"
        found.append(Finding("wrong", text, "set both clocks: timedatectl set-ntp true"))
    if clocks.floor_ahead_s > 0:
        text = (
            f"replay records are forgotten up to {clocks.floor_ahead_s:.0f} s ahead of the"
            " database's clock: tokens that end before are refused"
        )
        step = (
            "set the clocks of the database and of all nodes; housekeeping lowers it when what was"
            " claimed is over"
        )
        found.append(Finding("wrong", text, step))
    return found or [Finding("ok", skew)]
