"""Safety checks of a PostgreSQL server's configuration.

The server must give each connection its own session, and make commits durable.

Three faults cause no error. A proxy that pools by transaction passes each statement to any session,
so settings and prepared statements get lost. A server that acknowledges before it syncs loses
acknowledged writes in a crash. A server that fails over to a standby that commits do not wait for
loses them too.

In addition, a process whose clock differs from the database's does no housekeeping, and valid
tokens are rejected if replay records were deleted ahead of time (ST9).

The proxy is detected like this: the first connection asks for the id of the process that serves it.
Others begin transactions, which keep their sessions busy. Then the first one asks again. Without
such a proxy the answer is the same.
"""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from typing import Literal, NamedTuple

import asyncpg

from capabilities.clock_and_entropy import Clock, SystemClock

from ...keyspace import REPLAY_FLOOR_KEY, acceptance_delay_s
from ...space_errors import StoreUnavailable
from ..observing import Clocks
from ._clock import DatabaseClock
from ._errors import CONNECTION_ERRORS
from ._statements import DATABASE_TIME, READ_VALUE

_CONNECT_S = 5.0
_ANSWER_S = 3.0
# Sessions that are kept busy. A proxy with up to this many spare sessions is detected.
_BUSY_CONNECTIONS = 4
_DURABLE_COMMIT = frozenset({"on", "remote_apply"})
# The states of standbys that commits wait for.
_SYNCHRONOUS_STATES = frozenset({"sync", "quorum"})
# Errors of a session that does not know a statement prepared in another one, and errors of several
# proxies.
_POOLING_ERRORS = frozenset({"26000", "42P05", "08P01", "08003"})

_COMMIT_ON = (
    "alter system set synchronous_commit = on; also check settings of the role and the database"
)


class _DiskSetting(NamedTuple):
    """A setting of the server that must not be off.

    Attributes:
        loss: what can happen while it is off.
    """

    name: str
    loss: str
    next_step: str


_DISK = (
    _DiskSetting(
        name="fsync",
        loss="a crash of the machine can damage the database",
        next_step=(
            "set fsync = on in postgresql.conf and restart the server; if the machine has crashed"
            " since, restore the database from a backup"
        ),
    ),
    _DiskSetting(
        name="full_page_writes",
        loss="a crash of the machine can leave pages half written",
        next_step="alter system set full_page_writes = on; select pg_reload_conf()",
    ),
    _DiskSetting(
        name="synchronous_commit",
        loss="writes are acknowledged before they are on the disk",
        next_step=_COMMIT_ON,
    ),
)

SETTINGS = (
    "select name, setting from pg_settings where name in ('fsync', 'full_page_writes',"
    " 'synchronous_commit', 'synchronous_standby_names')"
)
# Without the role pg_monitor, the states of other sessions are null.
STANDBYS = "select sync_state from pg_stat_replication"
SESSION = "select pg_backend_pid()"


class Finding(NamedTuple):
    """The result of one check of the database.

    Attributes:
        severity: "warn" for something that may be intended; "wrong" if acknowledged writes can be
            lost, or nothing works.
    """

    severity: Literal["ok", "warn", "wrong"]
    text: str
    next_step: str = ""


POOLED = Finding(
    severity="wrong",
    text=(
        "a proxy between node and database sends the statements of one connection to several"
        " sessions"
    ),
    next_step=(
        "make it pool by session (pgbouncer: pool_mode = session), or connect to the database"
        " directly"
    ),
)
"""The only finding of `examine` if a proxy pools by transaction."""


async def examine(url: str, *, clock: Clock | None = None) -> tuple[Finding, ...]:
    """Check the configuration of a database server.

    Nothing is written to the database.
    """
    try:
        async with AsyncExitStack() as exit_stack:
            connection = await _connect(url, exit_stack)
            if await _is_pooled(connection, url, exit_stack):
                return (POOLED,)
            settings = {
                str(row["name"]): str(row["setting"]) for row in await connection.fetch(SETTINGS)
            }
            standbys = [row["sync_state"] for row in await connection.fetch(STANDBYS)]
            database_clock = DatabaseClock(clock or SystemClock())
            await database_clock.compare(connection.fetchval(DATABASE_TIME))
            floor: bytes | None = None
            with suppress(asyncpg.UndefinedTableError):  # no node has used this database yet
                floor = await connection.fetchval(READ_VALUE, REPLAY_FLOOR_KEY)
    except CONNECTION_ERRORS as exc:
        reason = getattr(exc, "sqlstate", None) or type(exc).__name__
        raise StoreUnavailable(f"the database cannot be examined ({reason})") from None
    return (
        Finding("ok", "each connection has its own session"),
        *disk_findings(settings),
        *standby_findings(settings, standbys),
        *clock_findings(
            Clocks(database_clock.ahead_s, acceptance_delay_s(floor or b"", database_clock.now()))
        ),
    )


async def _connect(url: str, exit_stack: AsyncExitStack) -> "asyncpg.Connection[asyncpg.Record]":
    """Open a connection, which is closed at the end of `exit_stack`."""
    # No session settings on purpose: a proxy may refuse those that the engine sets.
    connection = await asyncpg.connect(
        url,
        timeout=_CONNECT_S,
        command_timeout=_ANSWER_S,
        statement_cache_size=0,
        target_session_attrs="read-write",
    )
    exit_stack.callback(connection.terminate)
    return connection


async def _is_pooled(
    first: "asyncpg.Connection[asyncpg.Record]", url: str, exit_stack: AsyncExitStack
) -> bool:
    """Return whether a proxy sends the statements of one connection to several sessions.

    Further connections keep sessions busy, so that the first one gets another session (see above).
    """
    try:
        session = await first.fetchval(SESSION)
        for _ in range(_BUSY_CONNECTIONS):
            other = await _connect(url, exit_stack)
            await other.execute("begin")
            await other.fetchval(SESSION)  # any statement, so that the transaction has a session
            try:
                if await first.fetchval(SESSION) != session:
                    return True
            except TimeoutError:
                # If this times out too, the server does not answer at all, and the error is raised.
                await other.fetchval(SESSION)
                # The server answers, so the first connection waits for a session of a proxy that
                # has no spare one.
                return True
    except asyncpg.PostgresError as exc:
        if exc.sqlstate in _POOLING_ERRORS:
            return True
        raise
    return False


def disk_findings(settings: Mapping[str, str]) -> list[Finding]:
    """Check for settings that allow data loss in a crash.

    Settings that the server does not report are skipped.
    """
    findings = []
    for setting in _DISK:
        if settings.get(setting.name) == "off":
            text = f"{setting.name} is off: {setting.loss}"
            findings.append(Finding(severity="wrong", text=text, next_step=setting.next_step))
    return findings or [Finding("ok", "acknowledged writes are on the server's disk")]


def standby_findings(settings: Mapping[str, str], standbys: Sequence[str | None]) -> list[Finding]:
    """Check that commits wait for a standby server.

    The result is empty if the server does not report the setting.
    """
    names = settings.get("synchronous_standby_names")
    if names is None:
        return []
    return [_standby_finding(names, settings.get("synchronous_commit"), standbys)]


def _standby_finding(
    names: str, synchronous_commit: str | None, standbys: Sequence[str | None]
) -> Finding:
    """Return the finding about whether commits wait for a standby.

    Args:
        names: the setting `synchronous_standby_names`; empty if commits wait for no standby.
        synchronous_commit: the setting of this name.
        standbys: the states of the standbys; None for a state that the role may not see.
    """
    if not names and standbys:
        return Finding(
            severity="wrong",
            text=(
                f"standbys are connected ({len(standbys)}), but commits do not wait for them: "
                "a failover loses acknowledged writes"
            ),
            next_step="set synchronous_standby_names, such as 'ANY 1 (*)', and reload the server",
        )
    if not names:
        return Finding(
            severity="warn",
            text=(
                "no standby is connected: if the server's disk fails, everything since the last"
                " backup is lost"
            ),
            next_step="add a synchronous standby, or use a replicated disk and test the backups",
        )
    if synchronous_commit not in _DURABLE_COMMIT:
        return Finding(
            severity="wrong",
            text=(
                f"synchronous_commit is {synchronous_commit}: commits do not wait for the standbys"
            ),
            next_step=_COMMIT_ON,
        )
    if any(state in _SYNCHRONOUS_STATES for state in standbys):
        return Finding("ok", "commits wait for a standby")
    if None in standbys:
        return Finding(
            severity="warn",
            text="standbys are connected, but this role cannot see whether commits wait for them",
            next_step="grant pg_monitor to the role, or look at pg_stat_replication yourself",
        )
    return Finding(
        severity="wrong",
        text=(
            "no standby of synchronous_standby_names is connected: commits wait until one connects"
        ),
        next_step="start the standby, or check its application_name in primary_conninfo",
    )


def clock_findings(clocks: Clocks) -> list[Finding]:
    """Compare this machine's clock with the database's clock.

    Also check whether replay records were deleted too early.
    """
    findings = []
    side = "ahead of" if clocks.ahead_s > 0 else "behind"
    skew = f"this machine's clock is {abs(clocks.ahead_s):.0f} s {side} the database's"
    if clocks.is_skewed:
        text = f"{skew}: a node here does no housekeeping, and rejects tokens that others accept"
        step = "set both clocks: timedatectl set-ntp true"
        findings.append(Finding(severity="wrong", text=text, next_step=step))
    if clocks.acceptance_delay_s > 0:
        text = (
            f"replay records were deleted up to {clocks.acceptance_delay_s:.0f} s ahead of the"
            " database's clock: tokens that expire before then are rejected"
        )
        step = (
            "set the clocks of the database and of all nodes; housekeeping corrects this once the"
            " affected tokens have expired"
        )
        findings.append(Finding(severity="wrong", text=text, next_step=step))
    return findings or [Finding("ok", skew)]
