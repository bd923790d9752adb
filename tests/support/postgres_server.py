"""A PostgreSQL server for the tests: one per test process, on a Unix socket in a temporary folder.

It starts when a test first requests it, and ends with the process, even if that is killed.
PostgreSQL refuses to run as root; for root it runs as `postgres` or `nobody`. If its programs are
not installed, the tests that need it are skipped by name, and their number is printed at the end of
the run.
"""

import atexit
import ctypes
import functools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote

import pytest
from patience import PATIENCE_S

PROGRAMS_ABSENT = "the programs of a PostgreSQL server are not installed"
_START_WITHIN_S = PATIENCE_S
_POLL_S = 0.02
_PR_SET_PDEATHSIG = 1
_SUPERUSER = "sealspace"
_SCHEMAS = "schemas"
_SCHEMAS_AT_ONCE = 32
# Nothing here outlives the machine, so nothing waits for its disk.
_SETTINGS = {
    "listen_addresses": "",
    "fsync": "off",
    "full_page_writes": "off",
    "shared_buffers": "32MB",
    "max_connections": "100",
    "deadlock_timeout": "50ms",
    "autovacuum": "off",
    "log_min_messages": "panic",
}


@functools.cache
def programs() -> Path | None:
    """Return the folder of PostgreSQL's programs, or None if they are not installed."""
    found = sorted(
        Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: float(path.parts[-3])
    )
    if found:
        return found[-1].parent
    named = shutil.which("initdb")
    return Path(named).resolve().parent if named else None


def needs_postgres() -> pytest.MarkDecorator:
    """Return the mark of tests that need a server."""
    return pytest.mark.skipif(programs() is None, reason=PROGRAMS_ABSENT)


@dataclass
class PostgresServer:
    """A server with its own data, on a Unix socket.

    Attributes:
        folder: of its data and its socket.
        settings: beside those that every server of the tests has, and over them.
    """

    folder: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    _process: "subprocess.Popen[bytes] | None" = field(default=None, repr=False)
    _has_schemas: bool = field(default=False, repr=False)
    _schemas: list[str] = field(default_factory=list, repr=False)

    def url(self, database: str) -> str:
        """Return the address of a database, for clients."""
        return f"postgresql://{_SUPERUSER}@/{database}?host={quote(str(self.folder), safe='')}"

    def run(self, database: str, statement: str) -> str:
        """Run statements and return their output."""
        psql = [
            str(_program("psql")),
            "-X",
            "-q",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-h",
            str(self.folder),
        ]
        called = [*psql, "-U", _SUPERUSER, "-d", database, "-c", statement]
        return subprocess.run(called, check=True, capture_output=True, text=True).stdout

    def new_database(self) -> str:
        """Make an empty database, and return its address."""
        name = f"test_{next(_NUMBERS)}"
        self.run("postgres", f"create database {name}")
        return self.url(name)

    def clocked_database(self) -> tuple[str, Callable[[float], None]]:
        """Make an empty database with its own clock; return its address and a function to set the
        clock.

        The clock is set in epoch seconds. A function in the database shadows the server's.
        """
        name = f"test_{next(_NUMBERS)}"
        self.run("postgres", f"create database {name}")

        def set_clock(at: float) -> None:
            self.run(name, _CLOCK.format(at=at))

        set_clock(0.0)
        return f"{self.url(name)}&search_path=public,pg_catalog", set_clock

    def new_schema(self) -> str:
        """Make an empty schema in a shared database and return its address; this is faster."""
        if not self._has_schemas:
            self.run("postgres", f"create database {_SCHEMAS}")
            self._has_schemas = True
        # many by one process of psql, which takes longer to start than a schema to make
        if not self._schemas:
            self._schemas = [f"schema_{next(_NUMBERS)}" for _ in range(_SCHEMAS_AT_ONCE)]
            self.run(_SCHEMAS, "; ".join(f"create schema {name}" for name in self._schemas))
        return f"{self.url(_SCHEMAS)}&search_path={self._schemas.pop()}"

    def start(self) -> None:
        """Start the server on its data and wait until it accepts connections."""
        settings = {**_SETTINGS, **self.settings}
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._process = subprocess.Popen(
            [
                str(_program("postgres")),
                "-D",
                str(self.folder / "data"),
                "-k",
                str(self.folder),
                *options,
            ],
            user=unprivileged_user(),
            cwd=self.folder,
            stdin=subprocess.DEVNULL,
            preexec_fn=_end_with_parent,
        )
        _wait_until_ready(self.folder, self._process)

    def stop(self) -> None:
        """Stop the server at once, without finishing uncommitted work."""
        self._end(signal.SIGINT)

    def kill(self) -> None:
        """Kill the server as a machine crash would, with the disk intact."""
        self._end(signal.SIGQUIT)

    def _end(self, how: signal.Signals) -> None:
        if self._process is not None:
            self._process.send_signal(how)
            self._process.wait()
            self._process = None


_CLOCK = """create or replace function public.clock_timestamp() returns timestamptz
language plpgsql as 'begin return to_timestamp({at}); end'"""
_NUMBERS = iter(range(1, 1_000_000))


def new_server(
    settings: Mapping[str, str] | None = None, *, standby_of: PostgresServer | None = None
) -> PostgresServer:
    """Create a server's data without starting the server.

    Args:
        settings: beside the usual ones.
        standby_of: a running server whose data is copied and then followed; its name among standbys
            is `standby`.
    """
    folder = Path(tempfile.mkdtemp(prefix="sealspace-postgres-", dir="/tmp"))
    user = unprivileged_user()
    if user is not None:
        shutil.chown(folder, user)
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    data = str(folder / "data")
    if standby_of is None:
        made = [
            str(_program("initdb")),
            "-D",
            data,
            "-U",
            _SUPERUSER,
            "-A",
            "trust",
            "-E",
            "UTF8",
            "--locale=C",
            "-N",
        ]
        _run(made, user=user, folder=folder)
    else:
        where = f"host={standby_of.folder} user={_SUPERUSER} application_name=standby"
        copied = [str(_program("pg_basebackup")), "-D", data, "-R", "-N", "-c", "fast", "-d", where]
        _run(copied, user=user, folder=folder)
    server = PostgresServer(folder, settings or {})
    atexit.register(server.kill)
    return server


def _run(command: list[str], *, user: str | None, folder: Path) -> None:
    """Run a program that creates a server's data, and show its output if it fails."""
    ran = subprocess.run(command, capture_output=True, text=True, user=user, cwd=folder)
    assert ran.returncode == 0, ran.stderr


@functools.cache
def postgres_server() -> PostgresServer:
    """Return the server of this process, and start it if it does not run."""
    server = new_server()
    server.start()
    return server


def _program(name: str) -> Path:
    place = programs()
    assert place is not None, PROGRAMS_ABSENT
    return place / name


def unprivileged_user() -> str | None:
    """Return the user that runs the programs, or None for the current user."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def _end_with_parent() -> None:
    """Let the kernel kill the server when this process dies."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGQUIT)


def _wait_until_ready(folder: Path, process: "subprocess.Popen[bytes]") -> None:
    asked = [str(_program("pg_isready")), "-q", "-h", str(folder), "-U", _SUPERUSER]
    give_up_at = time.monotonic() + _START_WITHIN_S
    while subprocess.run(asked, check=False).returncode != 0:
        assert process.poll() is None, "the database server ended at its start"
        assert time.monotonic() < give_up_at, "the database server did not start in time"
        with suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
