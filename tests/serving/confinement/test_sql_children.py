"""Tests of the files, processes and networks that a controlled SQL process can reach."""

import json
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path

import pytest
from own_process import in_own_process

from serving.confinement.landlock import landlock_version
from serving.confinement.sql_children import confine_sql_child


def _outcomes(folder: Path, attempts: dict[str, Callable[[], object]]) -> dict[str, str]:
    """Fork a confined child that makes each attempt, and return `done` or an error name for
    each."""
    parent, (reading, writing) = os.getpid(), os.pipe()
    child = os.fork()
    if child == 0:
        try:
            confine_sql_child(folder, parent)
            found = {}
            for name, attempt in attempts.items():
                try:
                    attempt()
                    found[name] = "done"
                except OSError as error:
                    found[name] = type(error).__name__
            os.write(writing, json.dumps(found).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as told:
        outcomes: dict[str, str] = json.loads(told.read())
    os.waitpid(child, 0)
    return outcomes


@pytest.mark.skipif(landlock_version() == 0, reason="the kernel has no Landlock")
@in_own_process
def test_SQ29_a_child_opens_files_of_its_space_alone(tmp_path: Path) -> None:
    """A child reads and writes in the folder of its space, and opens no other file."""
    own, other = tmp_path / "own", tmp_path / "other"
    own.mkdir()
    other.mkdir()
    (other / "a.db").write_bytes(b"hush")
    outcomes = _outcomes(
        own,
        {
            "write its own": lambda: (own / "a.db").write_bytes(b"x"),
            "read its own": lambda: (own / "a.db").read_bytes(),
            "read another": lambda: (other / "a.db").read_bytes(),
            "write another": lambda: (other / "b.db").write_bytes(b"x"),
            "read by a longer path": lambda: (own / ".." / "other" / "a.db").read_bytes(),
            "read a system file": lambda: Path("/etc/passwd").read_bytes(),
            "read a process": lambda: Path("/proc/1/environ").read_bytes(),
        },
    )
    assert outcomes.pop("write its own") == "done"
    assert outcomes.pop("read its own") == "done"
    assert set(outcomes.values()) == {"PermissionError"}
    assert (other / "a.db").read_bytes() == b"hush"
    assert not (other / "b.db").exists()


@in_own_process
def test_SQ29_a_child_reaches_no_process_and_no_network(tmp_path: Path) -> None:
    """A child starts no process, signals none, and opens no connection."""
    parent = os.getpid()
    outcomes = _outcomes(
        tmp_path,
        {
            "fork": os.fork,
            "execute": lambda: os.execv("/bin/true", ["true"]),
            "signal": lambda: os.kill(parent, signal.SIGCONT),
            "connect": lambda: socket.socket(socket.AF_INET, socket.SOCK_STREAM),
            "listen": lambda: socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET),
            "link": lambda: os.symlink("/etc/passwd", tmp_path / "link"),
            "rename": lambda: os.rename(tmp_path, tmp_path.with_name("moved")),
        },
    )
    assert "done" not in outcomes.values(), outcomes
