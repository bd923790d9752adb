"""Tests of the restarts of a command: how it is stopped, and what ends the restarts.

The news come through a pipe here, so that a test decides when they come.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from live_processes import is_readable, started_by, takes_output
from patience import PATIENCE_S
from person import Person
from running_node import is_alive, is_stopped, state_of, until
from tests_support import REPOSITORY

FORMER, NEW = "open sesame, says the owner", "close sesame, says the other"
# Reads single letters: `r` is a restart with the new value, `s` a stop.
PROGRAM = f"""
import os, sys
from sealspace.cli.use.run_masker import patterns_of
from sealspace.cli.use.run_process import run_masked
from sealspace.cli.use.run_restarts import News, Start

def start(value):
    environment = {{**os.environb, b"VALUE": value.encode()}}
    return Start(environment=environment, patterns=patterns_of(value.encode()))

class Pipe:
    stop_s = float(sys.argv[1])
    def fileno(self):
        return news
    def take(self):
        is_restart = os.read(news, 1) == b"r"
        return News(start=start({NEW!r})) if is_restart else News(stops=True)
    def close(self):
        os.write(2, b"closed\\n")

news = os.open(sys.argv[2], os.O_RDWR)
first = start({FORMER!r})
sys.exit(run_masked(sys.argv[3:], first.environment, first.patterns, restarts=Pipe()).status)
"""
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
# Prints what it gets of signals, and ends at the letter q.
COUNTING = """
import os, select, signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda number, _: os.write(1, b"got %d;" % number))
os.write(1, os.environb[b"VALUE"] + b";")
while not select.select([0], [], [], 0.02)[0] or os.read(0, 1) != b"q":
    pass
os._exit(7)
"""
SHOWS = 'printf "$VALUE;"; read line; exit 7'


class Restarted:
    """A command under test, and the pipe with its news."""

    def __init__(self, process: "subprocess.Popen[bytes]", news: Path) -> None:
        self.process = process
        self._news = news

    def news(self, letter: bytes) -> None:
        """Send news."""
        self._news.write_bytes(letter)

    def type(self, keys: bytes) -> None:
        """Write to the command's standard input."""
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), keys)

    def read(self, expected: bytes) -> None:
        """Read exactly these bytes of standard output."""
        self._read(self.process.stdout, expected)

    def is_told(self, expected: bytes) -> None:
        """Read exactly these bytes of standard error."""
        self._read(self.process.stderr, expected)

    def _read(self, source: IO[bytes] | None, expected: bytes) -> None:
        assert source is not None
        stream, seen = source.fileno(), b""
        while len(seen) < len(expected):
            assert is_readable(stream, PATIENCE_S), seen
            piece = os.read(stream, len(expected) - len(seen))
            assert piece, seen
            seen += piece
        assert seen == expected

    def end(self) -> int:
        """Wait for the end, and return the exit status. Nothing else was printed."""
        assert self.process.stdout is not None
        stream = self.process.stdout.fileno()
        assert is_readable(stream, PATIENCE_S)
        assert os.read(stream, 100) == b""
        return self.process.wait(PATIENCE_S)


def arguments(folder: Path, stop_s: float, *command: str) -> list[str]:
    """Return how a command is run, whose news come from a named pipe in the folder."""
    os.mkfifo(folder / "news")
    return [sys.executable, "-P", "-c", PROGRAM, str(stop_s), str(folder / "news"), *command]


@contextmanager
def restarted(
    *command: str, folder: Path, stop_s: float = PATIENCE_S, stdout: int = subprocess.PIPE
) -> Iterator[Restarted]:
    """Run a command without a terminal, or with one as standard output."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        arguments(folder, stop_s, *command),
        stdin=pipe,
        stdout=stdout,
        stderr=pipe,
        env=ENVIRONMENT,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            yield Restarted(process, folder / "news")
        finally:
            process.kill()


def test_CL11_both_values_are_masked(tmp_path: Path) -> None:
    """CL11: after a restart the output shows neither the new value nor the former one."""
    script = f'printf "$VALUE; {FORMER};"; read line; exit 7'
    with restarted("sh", "-c", script, folder=tmp_path) as run:
        run.read(b"***; ***;")
        run.news(b"r")
        run.read(b"***; ***;")
        run.type(b"\n")
        assert run.end() == 7


@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "])
def test_CL11_a_value_that_was_cut(tmp_path: Path, ignores: str) -> None:
    """CL11: if the command is stopped while it writes a value, the output does not show the
    beginning of it."""
    script = f"{ignores}printf 'ready; %s' \"${{VALUE%?}}\"; while :; do read line; done"
    with restarted("sh", "-c", script, folder=tmp_path, stop_s=0.5) as run:
        run.read(b"ready; ")
        run.news(b"r")
        run.read(b"***ready; ")
        run.news(b"s")
        run.read(b"***")
        assert run.end() == 128 + (signal.SIGKILL if ignores else signal.SIGTERM)


def test_CL8_a_command_that_ended_by_itself(tmp_path: Path) -> None:
    """CL8: a command that has ended by itself is not started again, even if there are news."""
    with restarted("sh", "-c", SHOWS, folder=tmp_path) as run:
        run.read(b"***;")
        (child,) = started_by(run.process.pid)
        run.process.send_signal(signal.SIGSTOP)
        until(lambda: is_stopped(run.process.pid))
        run.type(b"\n")
        until(lambda: not is_alive(child))
        run.news(b"r")
        run.process.send_signal(signal.SIGCONT)
        assert run.end() == 7


def test_CL8_a_command_that_ignores_the_signal(tmp_path: Path) -> None:
    """CL8: a command that does not end after SIGTERM is killed in the end."""
    script = "trap 'printf \"got it;\"' TERM; printf '%s;' \"$VALUE\"; while :; do read line; done"
    with restarted("sh", "-c", script, folder=tmp_path, stop_s=0.5) as run:
        run.read(b"***;")
        run.news(b"r")
        run.read(b"got it;***;")
        run.news(b"s")
        run.read(b"got it;")
        assert run.end() == 128 + signal.SIGKILL


# Notes each start in a file, and then writes its value without end.
ENDLESS = 'echo start >> starts; while :; do printf "%s;%0400d;" "$VALUE" 0; done'


def is_started(folder: Path, starts: int) -> bool:
    """Return whether `ENDLESS` was started in a folder at least so many times."""
    noted = folder / "starts"
    return noted.exists() and len(noted.read_text().splitlines()) >= starts


def shows_no_value(shown: bytes) -> bool:
    """Return whether an output contains no word of a value."""
    return not any(word.encode() in shown for word in f"{FORMER} {NEW}".replace(",", "").split())


class Unread:
    """A pipe or a terminal that nobody reads.

    Attributes:
        end: the end that is written.
    """

    def __init__(self, kind: str) -> None:
        if kind == "pipe":
            self._read_end, self.end = os.pipe()
        else:
            self._read_end, self.end = os.openpty()

    def is_full(self) -> bool:
        """Return whether the next write waits."""
        return not takes_output(self.end)

    def read(self) -> bytes:
        """Read a piece; nothing if there is nothing to read now."""
        return os.read(self._read_end, 65_536) if is_readable(self._read_end, 0.0) else b""

    def read_all(self) -> bytes:
        """Close the end that is written, and read until other processes have closed it too."""
        os.close(self.end)
        data = b""
        # A terminal ends with an error.
        with open(self._read_end, "rb", buffering=0) as stream, suppress(OSError):
            while piece := stream.read(65_536):
                data += piece
        return data


@pytest.mark.parametrize("kind", ["pipe", "terminal"])
@pytest.mark.parametrize("ignores", ["", "trap '' TERM; "], ids=["it ends", "it is killed"])
def test_CL8_CL9_output_that_nobody_reads(tmp_path: Path, kind: str, ignores: str) -> None:
    """CL8, CL9: a command whose output nobody reads is restarted and stopped like others, and is
    killed if it does not end. All that it wrote is masked, and is written when somebody reads."""
    unread = Unread(kind)
    script = f"{ignores}{ENDLESS}"
    with restarted("sh", "-c", script, folder=tmp_path, stop_s=0.5, stdout=unread.end) as run:
        until(unread.is_full)
        for starts, letter in ((1, b"r"), (2, b"r"), (3, b"s")):
            until(partial(is_started, tmp_path, starts))
            run.news(letter)
        run.is_told(b"closed\n")
        until(lambda: not started_by(run.process.pid))
        shown = unread.read_all()
        expected = 128 + (signal.SIGKILL if ignores else signal.SIGTERM)
        assert run.process.wait(PATIENCE_S) == expected
    assert shows_no_value(shown)
    assert shown.count(b"***;") > 10


def test_CL8_much_output_that_nobody_reads(tmp_path: Path) -> None:
    """CL8: the memory for output that nobody reads is bounded: when much of it waits, the next
    start waits until somebody reads."""
    unread = Unread("pipe")
    with restarted("sh", "-c", ENDLESS, folder=tmp_path, stdout=unread.end) as run:
        until(unread.is_full)
        starts = 0
        while starts < 12 and is_started(tmp_path, starts + 1):
            starts += 1
            until(partial(is_blocked, run))
            run.news(b"r")
            until(partial(is_started_or_waits, run, tmp_path, starts + 1))
        assert 3 < starts < 12
        until(lambda: unread.read() != b"" and is_started(tmp_path, starts + 1))
        run.news(b"s")
        run.is_told(b"closed\n")
        assert shows_no_value(unread.read_all())
        assert run.process.wait(PATIENCE_S) == 128 + signal.SIGTERM


def is_blocked(run: Restarted) -> bool:
    """Return whether the command waits, which `ENDLESS` does only in a write to a full pipe."""
    return [state_of(child) for child in started_by(run.process.pid)] == ["S"]


def is_started_or_waits(run: Restarted, folder: Path, starts: int) -> bool:
    """Return whether the command was started again, or has ended and is not started for now."""
    has_ended = [state_of(child) for child in started_by(run.process.pid)] == ["Z"]
    return is_started(folder, starts) or (has_ended and state_of(run.process.pid) == "S")


def test_CL8_time_to_end_in_order(tmp_path: Path) -> None:
    """CL8: the command starts again only after it has ended, and its last output is forwarded."""
    with restarted(sys.executable, "-c", COUNTING, folder=tmp_path) as run:
        run.read(b"***;")
        run.news(b"r")
        run.read(b"got 15;")
        run.news(b"r")  # further news while it is being stopped
        run.type(b"q")
        run.read(b"***;")
        run.type(b"q")
        assert run.end() == 7


def test_CL9_a_command_that_is_stopped(tmp_path: Path) -> None:
    """CL9: a command that is stopped for good ends with its own status."""
    with restarted(sys.executable, "-c", COUNTING, folder=tmp_path) as run:
        run.read(b"***;")
        run.news(b"s")
        run.read(b"got 15;")
        run.type(b"q")
        assert run.end() == 7
        run.is_told(b"closed\n")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda one: one.name)
def test_CL8_a_signal_ends_the_restarts(number: signal.Signals, tmp_path: Path) -> None:
    """CL8: SIGINT and SIGTERM reach the command once, and it is not restarted afterwards."""
    with restarted(sys.executable, "-c", COUNTING, folder=tmp_path) as run:
        run.read(b"***;")
        run.process.send_signal(number)
        run.read(b"got %d;" % number)
        run.is_told(b"closed\n")
        run.news(b"r")
        run.type(b"q")
        assert run.end() == 7


def test_CL8_a_signal_while_the_command_is_stopped(tmp_path: Path) -> None:
    """CL8: a command that is being stopped for a restart is not started again after SIGTERM."""
    with restarted(sys.executable, "-c", COUNTING, folder=tmp_path) as run:
        run.read(b"***;")
        run.news(b"r")
        run.read(b"got 15;")
        run.process.send_signal(signal.SIGTERM)
        run.read(b"got 15;")
        run.type(b"q")
        assert run.end() == 7


def test_CL8_a_hangup_does_not_end_the_restarts(tmp_path: Path) -> None:
    """CL8: SIGHUP, at which many programs read their settings again, is only forwarded."""
    with restarted(sys.executable, "-c", COUNTING, folder=tmp_path) as run:
        run.read(b"***;")
        run.process.send_signal(signal.SIGHUP)
        run.read(b"got 1;")
        run.news(b"r")
        run.read(b"got 15;")
        run.type(b"q")
        run.read(b"***;")
        run.type(b"q")
        assert run.end() == 7


def test_CL8_at_a_terminal(tmp_path: Path) -> None:
    """CL8: a command that was restarted reads the terminal as before. Ctrl-C reaches it once, and
    ends the restarts."""
    command = arguments(tmp_path, PATIENCE_S, sys.executable, "-c", COUNTING)
    with Person(command, environment=ENVIRONMENT, folder=tmp_path) as person:
        person.expect("^\\*\\*\\*;")
        (tmp_path / "news").write_bytes(b"r")
        person.expect("got 15;")
        person.type(b"q\r")
        person.expect("\\*\\*\\*;")
        person.interrupt()
        person.expect("got 2;.*closed|closed.*got 2;")
        (tmp_path / "news").write_bytes(b"r")
        person.type(b"q\r")
        assert person.end() == 7
        assert b"got" not in person.seen and b"***" not in person.seen
