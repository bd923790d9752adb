"""A pgbouncer in front of a test server: each has a loopback port and a temporary folder."""

import functools
import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest
from held_ports import held_ports
from patience import PATIENCE_S
from postgres_server import unprivileged_user

PGBOUNCER_ABSENT = "the program pgbouncer is not installed"
_WITHIN_S = PATIENCE_S


@functools.cache
def program() -> str | None:
    """Return the path of the program, or None if it is not installed."""
    return shutil.which("pgbouncer", path=f"{os.environ.get('PATH', '')}:/usr/sbin")


def needs_pgbouncer() -> pytest.MarkDecorator:
    """Return the mark of tests that need pgbouncer."""
    return pytest.mark.skipif(program() is None, reason=PGBOUNCER_ABSENT)


@contextmanager
def pgbouncer(url: str, *, pool_mode: str, pool_size: int = 20) -> Iterator[str]:
    """Run a pgbouncer in front of a database, and return the database's address through it."""
    with held_ports(1) as (port,):
        yield from _pgbouncer(url, port, pool_mode, pool_size)


def _pgbouncer(url: str, port: int, pool_mode: str, pool_size: int) -> Iterator[str]:
    parts = urlsplit(url)
    name, user = parts.path.lstrip("/"), parts.username
    upstream = parse_qs(parts.query)["host"][0]
    folder = Path(tempfile.mkdtemp(prefix="sealspace-pgbouncer-", dir="/tmp"))
    settings = folder / "pgbouncer.ini"
    settings.write_text(
        f"[databases]\n{name} = host={upstream} dbname={name} user={user}\n[pgbouncer]\nlisten_addr"
        f" = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir =\nauth_type = any\npool_mode ="
        f" {pool_mode}\ndefault_pool_size = {pool_size}\nlogfile ="
        f" {folder / 'log'}\nignore_startup_parameters ="
        " default_transaction_isolation,statement_timeout,synchronous_commit\n"
    )
    unprivileged = unprivileged_user()
    if unprivileged is not None:
        for place in (folder, settings):
            shutil.chown(place, unprivileged)
    called = [str(program()), "-q", str(settings)]
    process = subprocess.Popen(called, user=unprivileged, cwd=folder, stderr=subprocess.DEVNULL)
    try:
        _wait_for(port, process)
        yield f"postgresql://{user}@127.0.0.1:{port}/{name}"
    finally:
        process.kill()
        process.wait()
        shutil.rmtree(folder)


def _wait_for(port: int, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _WITHIN_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            assert process.poll() is None, "pgbouncer ended at its start"
            assert time.monotonic() < deadline, "pgbouncer did not start in time"
