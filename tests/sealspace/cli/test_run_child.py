"""Tests of the child of `sealspace run`: masked output, signals, exit status and terminals."""

import os
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_processes import is_readable
from patience import PATIENCE_S
from person import Person
from running_node import is_alive, until
from tests_support import REPOSITORY

SECRET = "open sesame, says the owner"
RUN = (
    sys.executable,
    "-P",
    "-c",
    (
        "import os, sys; from sealspace.cli.use.run_process import run_masked; "
        "from sealspace.cli.use.run_masker import patterns_of; "
        f"patterns = patterns_of({SECRET.encode()!r}); "
        "sys.exit(run_masked(sys.argv[1:], dict(os.environb), patterns).status)"
    ),
)
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
LIMIT_S = PATIENCE_S


def python(program: str) -> tuple[str, ...]:
    """Return a command that runs a program."""
    return (sys.executable, "-c", textwrap.dedent(program))


@contextmanager
def running(*command: str, folder: Path) -> Iterator["subprocess.Popen[bytes]"]:
    """Run a command with pipes as its three streams, without a terminal."""
    pipe = subprocess.PIPE
    with subprocess.Popen(
        [*RUN, *command],
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=ENVIRONMENT,
        cwd=folder,
        start_new_session=True,
    ) as process:
        try:
            yield process
        finally:
            process.kill()


def read(stream: int, expected: bytes) -> None:
    """Read exactly these bytes."""
    seen = b""
    while len(seen) < len(expected):
        assert is_readable(stream, LIMIT_S), seen
        piece = os.read(stream, len(expected) - len(seen))
        assert piece, seen
        seen += piece
    assert expected == seen


def run(*command: str, folder: Path, given: bytes = b"") -> "subprocess.CompletedProcess[bytes]":
    """Run a command to its end with pipes as its streams."""
    return subprocess.run(
        [*RUN, *command],
        input=given,
        capture_output=True,
        env=ENVIRONMENT,
        cwd=folder,
        timeout=LIMIT_S,
        check=False,
    )


# --- output ---------------------------------------------------------------------------------------


def test_a_value_over_two_writes(tmp_path: Path) -> None:
    """A value that is written in two parts with a pause between is masked."""
    halves = f"""
        import os
        os.write(1, b"it is {SECRET[:9]}")
        os.read(0, 1)
        os.write(1, b"{SECRET[9:]}!")
        os.read(0, 1)
        """
    with running(*python(halves), folder=tmp_path) as process:
        assert process.stdout is not None and process.stdin is not None
        read(process.stdout.fileno(), b"it is ")
        os.write(process.stdin.fileno(), b"\n")
        read(process.stdout.fileno(), b"***!")
        os.write(process.stdin.fileno(), b"\n")
        assert process.stdout.read() == b""
        assert process.wait(LIMIT_S) == 0


def test_the_end_of_a_prompt_is_shown_when_idle(tmp_path: Path) -> None:
    """A prompt that ends like the beginning of a value is shown completely. If the value follows,
    its rest is masked."""
    program = f"""
        import os
        os.write(1, b"go on? ope")
        os.read(0, 1)
        os.write(1, b"{SECRET[3:]}!")
        """
    with running(*python(program), folder=tmp_path) as process:
        assert process.stdout is not None and process.stdin is not None
        read(process.stdout.fileno(), b"go on? ope")
        os.write(process.stdin.fileno(), b"\n")
        read(process.stdout.fileno(), b"***!")
        assert process.wait(LIMIT_S) == 0


def test_both_outputs_are_masked(tmp_path: Path) -> None:
    """Standard output and standard error are masked separately, and not mixed."""
    ran = run("sh", "-c", f"echo 'out: {SECRET}'; echo 'err: {SECRET}' >&2", folder=tmp_path)
    assert ran.stdout == b"out: ***\n"
    assert ran.stderr == b"err: ***\n"
    assert ran.returncode == 0


def test_binary_output_is_untouched(tmp_path: Path) -> None:
    """Megabytes of random bytes arrive unchanged from both outputs, whichever is read first."""
    data = bytes(range(256)) * 64 + os.urandom(4_000_000)
    (tmp_path / "data").write_bytes(data)
    ran = run("sh", "-c", "cat data >&2 & cat data; wait", folder=tmp_path)
    assert ran.stdout == data
    assert ran.stderr == data
    assert ran.returncode == 0


def test_input_is_the_callers(tmp_path: Path) -> None:
    """The command reads the same input as without `run`, byte by byte, to its end."""
    data = os.urandom(300_000)
    assert run("cat", folder=tmp_path, given=data).stdout == data


def test_what_outlives_the_command_is_not_waited_for(tmp_path: Path) -> None:
    """A background process that holds the outputs open does not delay the end."""
    ran = run("sh", "-c", "sleep 300 & echo $!", folder=tmp_path)
    left = int(ran.stdout)
    try:
        assert ran.returncode == 0
        assert is_alive(left)
    finally:
        os.kill(left, signal.SIGKILL)


def test_nobody_reads_the_output(tmp_path: Path) -> None:
    """When the reader of the output ends, the command gets the same signal as without `run`."""
    with running("sh", "-c", "echo one; exec yes", folder=tmp_path) as process:
        assert process.stdout is not None
        read(process.stdout.fileno(), b"one\n")
        process.stdout.close()
        assert process.wait(LIMIT_S) == 128 + signal.SIGPIPE


# --- exit status and signals ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 42", 42), ("exit 0", 0), ("kill -9 $$", 137), ("kill -TERM $$", 143)],
)
def test_exit_status(script: str, status: int, tmp_path: Path) -> None:
    """The exit status is the command's; 128 + n if a signal ended it."""
    assert run("sh", "-c", script, folder=tmp_path).returncode == status


# Python runs a handler between two steps of a program: a signal just before a read would wait for
# what is read. So the programs of these tests ask again and again.
COUNTING = """
    import os, select, signal
    got = []
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1):
        signal.signal(
            number, lambda number, _: (got.append(number), os.write(1, b"got %d;" % number))
        )
    os.write(1, b"ready;")
    while not select.select([0], [], [], 0.02)[0] or os.read(0, 1) != b"q":
        pass
    os.write(1, b"all %d;" % len(got))
    """


@pytest.mark.parametrize(
    "number",
    [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1],
    ids=lambda one: one.name,
)
def test_signals_are_passed_on_once(number: signal.Signals, tmp_path: Path) -> None:
    """A signal to the parent, alone or with its whole process group, reaches the command once."""
    for kill in (os.kill, os.killpg):
        with running(*python(COUNTING), folder=tmp_path) as process:
            assert process.stdout is not None and process.stdin is not None
            read(process.stdout.fileno(), b"ready;")
            kill(process.pid, number)
            read(process.stdout.fileno(), b"got %d;" % number)
            os.write(process.stdin.fileno(), b"q")
            assert process.stdout.read() == b"all 1;"
            assert process.wait(LIMIT_S) == 0


def test_an_ignored_signal_stays_ignored(tmp_path: Path) -> None:
    """Below `nohup` neither the parent nor the command ends at SIGHUP."""
    script = "trap '' HUP; exec " + " ".join(
        map(_quoted, [*RUN, "sh", "-c", "echo ready; read line; echo on"])
    )
    pipe = subprocess.PIPE
    with subprocess.Popen(
        ["sh", "-c", script], stdin=pipe, stdout=pipe, env=ENVIRONMENT, cwd=tmp_path
    ) as process:
        assert process.stdout is not None and process.stdin is not None
        read(process.stdout.fileno(), b"ready\n")
        process.send_signal(signal.SIGHUP)
        os.write(process.stdin.fileno(), b"\n")
        assert process.stdout.read() == b"on\n"
        assert process.wait(LIMIT_S) == 0


def _quoted(word: str) -> str:
    return "'" + word.replace("'", "'\\''") + "'"


def test_the_command_ends_when_its_parent_is_killed(tmp_path: Path) -> None:
    """SIGKILL of the parent sends SIGTERM to the command, which may clean up."""
    program = f"""
        import os, pathlib, select, signal, sys
        def end(*_):
            pathlib.Path({str(tmp_path / "ended")!r}).write_text("in order")
            sys.exit()
        signal.signal(signal.SIGTERM, end)
        os.write(1, b"%d;" % os.getpid())
        while True:
            select.select([], [], [], 0.02)
        """
    with running(*python(program), folder=tmp_path) as process:
        assert process.stdout is not None
        written = b""
        while not written.endswith(b";"):  # in pieces: a digit may be the beginning of a secret
            written += os.read(process.stdout.fileno(), 8)
        child = int(written[:-1])
        process.kill()
        until(lambda: not is_alive(child))
    assert (tmp_path / "ended").read_text() == "in order"


# --- terminals ------------------------------------------------------------------------------------


def person(
    *command: str, folder: Path, stdin: int | None = None, stdout: int | None = None
) -> Person:
    """Return a person who runs a command."""
    return Person(
        [*RUN, *command], environment=ENVIRONMENT, folder=folder, stdin=stdin, stdout=stdout
    )


def test_a_terminal_is_the_input_alone(tmp_path: Path) -> None:
    """At a terminal the command inherits standard input and its outputs are pipes. The terminal's
    settings do not change."""
    with person(
        *python("import os; print([os.isatty(n) for n in range(3)])"), folder=tmp_path
    ) as someone:
        assert someone.end() == 0
        assert b"[True, False, False]\r\n" == someone.seen
        assert not someone.is_raw


def test_pipes_are_pipes(tmp_path: Path) -> None:
    """Without a terminal the command has none."""
    program = "import os; print([os.isatty(number) for number in range(3)])"
    assert run(*python(program), folder=tmp_path).stdout == b"[False, False, False]\n"


def test_output_at_a_terminal_is_masked(tmp_path: Path) -> None:
    """A value is masked at a terminal too, and a prompt appears without a line break."""
    script = f"printf 'go on? '; read answer; echo $answer: '{SECRET}'; exit 42"
    with person("sh", "-c", script, folder=tmp_path) as someone:
        someone.expect("^go on\\? ")
        someone.type(b"yes\r")
        assert someone.end() == 42
        assert someone.seen == b"yes\r\nyes: ***\r\n"


def test_ctrl_c_reaches_the_child_once(tmp_path: Path) -> None:
    """Ctrl-C at the terminal is one SIGINT for the command, and none for the parent."""
    with person(*python(COUNTING), folder=tmp_path) as someone:
        someone.expect("ready;")
        someone.interrupt()
        someone.expect("got 2;")
        someone.type(b"q\r")
        someone.expect("all 1;")
        assert someone.end() == 0


def test_ctrl_c_ends_a_simple_command(tmp_path: Path) -> None:
    """A command that does not handle Ctrl-C is ended by it: status 130."""
    with person("sh", "-c", "echo ready; exec cat", folder=tmp_path) as someone:
        someone.expect("ready")
        someone.interrupt()
        assert someone.end() == 130
        assert not someone.is_raw


def test_a_pipeline_at_a_terminal(tmp_path: Path) -> None:
    """If its output is piped the command reads the terminal itself, and other programs there get no
    key."""
    ours, its = os.pipe()
    try:
        with person(*python(COUNTING), folder=tmp_path, stdout=its) as someone:
            os.close(its)
            read(ours, b"ready;")
            assert not someone.is_raw
            someone.interrupt()
            read(ours, b"got 2;")
            someone.type(b"q\n")
            read(ours, b"all 1;")
            assert someone.end() == 0
    finally:
        os.close(ours)
