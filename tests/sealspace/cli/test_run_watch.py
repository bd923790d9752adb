"""Tests of `sealspace run --watch` and `template --watch` with secrets of a real node."""

import asyncio
import json
import os
import shlex
import signal
import stat
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import IO

import pytest
from live_processes import has_ended, is_readable, started_by, takes_output
from owner_desk import OwnerDesk
from owner_machine import LIMIT_S, Machine, Owner, new_machine
from running_node import is_alive, until

FORMER, NEW = "canary-former-4711", "canary-new-4712"
# It prints its value, whether it is the new one, and waits for a line.
SHOWS = f'echo "it is $API_KEY"; test "$API_KEY" = {NEW} && echo new; read line; exit 42'
RESTARTING = "new value of API_KEY: restarting the command"


class Watched:
    """A running command with `--watch`, whose output is read line by line."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self.process = process

    async def line(self) -> str:
        """Return the next line of standard output; "" at its end."""
        return await asyncio.to_thread(_line, self.process.stdout)

    async def said(self) -> str:
        """Return the next line of standard error; "" at its end."""
        return await asyncio.to_thread(_line, self.process.stderr)

    def type(self, line: bytes) -> None:
        """Write to the command's standard input."""
        assert self.process.stdin is not None
        os.write(self.process.stdin.fileno(), line)

    async def end(self) -> int:
        """Wait for the end, and return the exit status."""
        return await asyncio.to_thread(self.process.wait, LIMIT_S)


def _line(stream: object) -> str:
    assert hasattr(stream, "fileno")
    data = b""
    while not data.endswith(b"\n"):
        assert is_readable(stream.fileno(), LIMIT_S), data
        byte = os.read(stream.fileno(), 1)
        if not byte:
            break
        data += byte
    return data.decode().rstrip("\n")


@contextmanager
def watched(machine: Machine, command: str, *arguments: str, **variables: str) -> Iterator[Watched]:
    """Run a command that looks for new values in each second."""
    options = ("--watch", "--watch-every", "1")
    with machine.start(command, *options, *arguments, **variables) as process:
        try:
            yield Watched(process)
        finally:
            process.kill()


# --- run ------------------------------------------------------------------------------------------


async def test_CL7_a_replaced_secret_restarts_the_command(owner: Owner) -> None:
    """CL7: the command starts again with the new value, which is masked too. It keeps standard
    input, and its own end ends the watch."""
    await owner.store_secrets(API_KEY=FORMER)
    with watched(owner, "run", "--", "sh", "-c", SHOWS) as run:
        assert await run.line() == "it is ***"
        await owner.store_secrets(API_KEY=NEW)
        assert await run.said() == RESTARTING
        assert [await run.line(), await run.line()] == ["it is ***", "new"]
        run.type(b"\n")
        assert await run.end() == 42
        assert await run.said() == ""


async def test_CL7_one_restart_for_all_secrets(owner: Owner) -> None:
    """CL7: the command is restarted once for the secrets that were replaced together, and not for
    other secrets."""
    names = ("A_KEY", "B_KEY", "C_KEY")
    await owner.store_secrets(**dict.fromkeys(names, FORMER))
    script = 'echo "start $OTHER_KEY"; read line'
    with watched(owner, "run", "--only", ",".join(names), "--", "sh", "-c", script) as run:
        assert await run.line() == "start "
        async with owner.desk.client() as client:
            await client.secrets().put_many({"OTHER_KEY": NEW})
            await client.secrets().put_many({"A_KEY": NEW, "C_KEY": NEW})
        assert await run.said() == "new value of A_KEY, C_KEY: restarting the command"
        assert await run.line() == "start "
        run.type(b"\n")
        assert await run.end() == 0
        assert (await run.line(), await run.said()) == ("", "")


async def test_CL7_variables_of_a_project(owner: Owner) -> None:
    """CL7: in a project, the new value has the variable's name of the project file."""
    await owner.store_secrets("ci", DB_URL=FORMER)
    project = owner.here / ".sealspace.toml"
    project.write_text('scope = "ci"\n[rename]\nAPI_KEY = "DB_URL"\n')
    project.chmod(0o600)
    with watched(owner, "run", "--", "sh", "-c", SHOWS) as run:
        assert (await run.said()).startswith("project file ")
        assert await run.line() == "it is ***"
        await owner.store_secrets("ci", DB_URL=NEW)
        assert await run.said() == "new value of DB_URL: restarting the command"
        assert [await run.line(), await run.line()] == ["it is ***", "new"]


async def test_CL7_a_value_that_no_variable_holds(owner: Owner) -> None:
    """CL7: a new value that cannot be passed leaves the command alone, until the next one."""
    await owner.store_secrets(API_KEY=FORMER)
    with watched(owner, "run", "--", "sh", "-c", SHOWS) as run:
        assert await run.line() == "it is ***"
        await owner.store_secrets(API_KEY="a\0b")
        assert (await run.said()).startswith(
            "not restarting the command: the secret API_KEY contains a zero byte"
        )
        await owner.store_secrets(API_KEY=NEW)
        assert await run.said() == RESTARTING
        assert [await run.line(), await run.line()] == ["it is ***", "new"]


async def _token(desk: OwnerDesk) -> str:
    made = await desk.run("token", "create", "deploy", "--secret", "API_KEY", "--json")
    assert made.status == 0, made
    line: str = json.loads(made.out)["token"]
    return line


async def test_CL7_a_machine_token(owner: Owner, tmp_path: Path) -> None:
    """CL7: a machine token restarts its command too, without a login and without a file. After its
    revocation the command keeps running, with --watch-stop it is stopped."""
    await owner.store_secrets(API_KEY=FORMER)
    line = await _token(owner.desk)
    server = new_machine(tmp_path / "server")
    variables = {"SEALSPACE_NODE": owner.desk.node, "SEALSPACE_TOKEN": line}
    command = ("--", "sh", "-c", SHOWS)
    with (
        watched(server, "run", *command, **variables) as run,
        watched(server, "run", "--watch-stop", *command, **variables) as stopping,
    ):
        for one in (run, stopping):
            assert await one.line() == "it is ***"
        await owner.store_secrets(API_KEY=NEW)
        for one in (run, stopping):
            assert await one.said() == RESTARTING
            assert [await one.line(), await one.line()] == ["it is ***", "new"]
        assert (await owner.desk.run("token", "revoke", "deploy", "--yes")).status == 0
        revoked = "cannot look for new values: the machine token deploy was revoked; "
        assert (await stopping.said()).startswith(f"{revoked}stopping; next: ask the owner")
        assert await stopping.end() == 128 + signal.SIGTERM
        kept = "the command keeps running with the values that it has; next: "
        assert (await run.said()).startswith(f"{revoked}{kept}")
        run.type(b"\n")
        assert await run.end() == 42
    assert list((server.folder / "home").iterdir()) == []


async def test_CL9_output_that_nobody_reads(owner: Owner) -> None:
    """CL9: a command is restarted, and stopped after the loss of the access, although nobody reads
    its output or the messages."""
    await owner.store_secrets(API_KEY=FORMER)
    script = 'echo "start" >> starts; yes "$API_KEY" >&2 & exec yes "$API_KEY"'
    noted = owner.here / "starts"
    with watched(owner, "run", "--watch-stop", "--", "sh", "-c", script) as run:
        for stream in (run.process.stdout, run.process.stderr):
            await asyncio.to_thread(until, partial(is_full, stream))
        await owner.store_secrets(API_KEY=NEW)
        await asyncio.to_thread(until, lambda: noted.read_text().count("start") == 2)
        async with owner.desk.client() as client:
            await client.secrets().delete("API_KEY")
        await asyncio.to_thread(until, lambda: not started_by(run.process.pid))
        out, err = await asyncio.to_thread(run.process.communicate, timeout=LIMIT_S)
        assert run.process.returncode == 128 + signal.SIGTERM
        assert set(out.split(b"\n")) <= {b"***", b"******", b""}
        said = {line for line in err.decode().splitlines() if line.strip("*")}
        assert RESTARTING in said
        assert any(line.startswith("cannot look for new values: deleted") for line in said)


def is_full(stream: IO[bytes] | None) -> bool:
    """Return whether a pipe of which we have the reader's end takes no more."""
    assert stream is not None
    writing = os.open(f"/proc/self/fd/{stream.fileno()}", os.O_WRONLY | os.O_NONBLOCK)
    try:
        return not takes_output(writing)
    finally:
        os.close(writing)


async def test_CL9_a_secret_that_was_deleted(owner: Owner) -> None:
    """CL9: a deleted secret is reported once, and the command keeps running. When it is stored
    again, the command gets it."""
    await owner.store_secrets(API_KEY=FORMER)
    with (
        watched(owner, "run", "--", "sh", "-c", SHOWS) as run,
        watched(owner, "run", "--watch-stop", "--", "sh", "-c", SHOWS) as stopping,
    ):
        for one in (run, stopping):
            assert await one.line() == "it is ***"
        async with owner.desk.client() as client:
            await client.secrets().delete("API_KEY")
        deleted = "cannot look for new values: deleted secrets: API_KEY; "
        restore = "next: store it again: sealspace secret put API_KEY"
        assert await stopping.said() == f"{deleted}stopping; {restore}"
        assert await stopping.end() == 128 + signal.SIGTERM
        kept = "the command keeps running with the values that it has"
        assert await run.said() == f"{deleted}{kept}; {restore}"
        await owner.store_secrets(API_KEY=NEW)
        said = {await run.said(), await run.said()}
        assert said == {RESTARTING, "the secrets can be read again"}
        assert [await run.line(), await run.line()] == ["it is ***", "new"]


async def test_CL12_the_watching_process(owner: Owner) -> None:
    """CL12: the process that looks ignores the signals of the command, and ends with its parent,
    even if that is killed. No file and no argument contains a value."""
    await owner.store_secrets(API_KEY=FORMER)
    with watched(owner, "run", "--", "sh", "-c", SHOWS) as run:
        assert await run.line() == "it is ***"
        watching, _command = started_by(run.process.pid)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
            os.kill(watching, number)
        await owner.store_secrets(API_KEY=NEW)
        assert await run.said() == RESTARTING
        assert [await run.line(), await run.line()] == ["it is ***", "new"]
        processes = started_by(run.process.pid)
        assert len(processes) == 2
        for pid in (run.process.pid, *processes):
            arguments = Path(f"/proc/{pid}/cmdline").read_bytes()
            assert FORMER.encode() not in arguments
        assert owner.files_with(FORMER) == owner.files_with(NEW) == []
        run.process.kill()
        for pid in processes:
            assert await asyncio.to_thread(has_ended, pid, LIMIT_S)


async def test_CL12_the_watching_process_ends(owner: Owner) -> None:
    """CL12: the command keeps running if the process that looks has ended, and a line says so."""
    await owner.store_secrets(API_KEY=FORMER)
    with watched(owner, "run", "--", "sh", "-c", SHOWS) as run:
        assert await run.line() == "it is ***"
        watching, _command = started_by(run.process.pid)
        os.kill(watching, signal.SIGKILL)
        assert (await run.said()).startswith("no longer looking for new values: ")
        run.type(b"\n")
        assert await run.end() == 42


@pytest.mark.parametrize(
    ("arguments", "happened"),
    [
        (("run", "--watch", "--stop-s", "3601", "--", "true"), "0<=x<=3600"),
        (("run", "--watch-stop", "--", "true"), "--watch-stop needs --watch"),
        (("run", "--stop-s", "0", "--", "true"), "--stop-s needs --watch"),
        (("run", "--watch-every", "3", "--", "true"), "--watch-every needs --watch"),
        (("run", "--watch", "--watch-every", "0", "--", "true"), "1<=x<=3600"),
        (("run", "--watch", "--watch-every", "3601", "--", "true"), "1<=x<=3600"),
        (("run", "--watch", "--no-masking", "--", "true"), "cannot be combined"),
        (("template", "-", "--then", "true"), "--then needs --watch"),
        (("template", "-", "--watch"), "--watch needs --out FILE"),
        (("template", "-", "--watch", "--out", "f", "--then", "'"), "--then is not a command"),
        (("template", "-", "--watch", "--out", "f", "--then", ""), "--then is empty"),
        (("template", "-", "--watch", "--out", "f"), "there is nothing to watch"),
    ],
)
async def test_CL7_options_of_a_watch(
    owner: Owner, arguments: tuple[str, ...], happened: str
) -> None:
    """CL7: an option that would have no effect is refused, and an interval that is out of range."""
    ran = await owner.desk.run(*arguments)
    assert ran.status == 2, ran
    assert happened in ran.err


# --- template -------------------------------------------------------------------------------------


async def test_CL7_a_file_is_written_again(owner: Owner) -> None:
    """CL7: `template --watch` writes the file again with the same mode, and runs a command each
    time, whose output is masked. Ctrl-C ends it with status 0."""
    await owner.store_secrets(API_KEY=FORMER)
    (owner.here / "app.tmpl").write_text('key: {{ secret "API_KEY" }}\n')
    target = owner.here / "app.yaml"
    options = ("app.tmpl", "--out", "app.yaml", "--then", "sh -c 'cat app.yaml; env; exit 3'")
    with watched(owner, "template", *options, SEALSPACE_HOME=str(owner.desk.home)) as run:
        for value in (FORMER, NEW):
            if value == NEW:
                await owner.store_secrets(API_KEY=NEW)
            assert await run.said() == "wrote app.yaml with 1 secret"
            while (line := await run.line()) != "key: ***":
                assert FORMER not in line and NEW not in line and "SEALSPACE" not in line
            assert await run.said() == "sh ended with status 3"
            assert target.read_text() == f"key: {value}\n"
            assert stat.S_IMODE(target.stat().st_mode) == 0o600
        watching = started_by(run.process.pid)
        run.process.send_signal(signal.SIGINT)
        assert await run.end() == 0
        assert [pid for pid in watching if is_alive(pid)] == []
    assert sorted(path.name for path in owner.here.iterdir()) == ["app.tmpl", "app.yaml"]


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=lambda one: one.name)
async def test_CL8_a_signal_while_the_command_of_then_runs(
    owner: Owner, number: signal.Signals
) -> None:
    """CL8: a signal ends `template --watch` even if the command of `--then`, to which it is
    forwarded, ends with status 0."""
    await owner.store_secrets(API_KEY=FORMER)
    (owner.here / "app.tmpl").write_text('key: {{ secret "API_KEY" }}\n')
    script = "trap 'exit 0' TERM INT; echo ready; while :; do read line; done"
    options = ("app.tmpl", "--out", "app.yaml", "--then", shlex.join(["sh", "-c", script]))
    with watched(owner, "template", *options, SEALSPACE_HOME=str(owner.desk.home)) as run:
        assert await run.line() == "ready"
        run.process.send_signal(number)
        assert await run.end() == 0


async def test_CL11_the_command_of_then_shows_no_former_value(owner: Owner) -> None:
    """CL11: the output of the command of `--then` shows no value of its last starts."""
    values = [f"canary-{number}-4711" for number in range(4)]
    await owner.store_secrets(API_KEY=values[0])
    (owner.here / "app.tmpl").write_text('{{ secret "API_KEY" }}\n')
    script = "cat app.txt >> log; cat log; echo end"
    options = ("app.tmpl", "--out", "app.txt", "--then", shlex.join(["sh", "-c", script]))
    with watched(owner, "template", *options, SEALSPACE_HOME=str(owner.desk.home)) as run:
        for number, value in enumerate(values):
            if number:
                await owner.store_secrets(API_KEY=value)
            for _ in range(number + 1):
                assert await run.line() == "***"
            assert await run.line() == "end"


@pytest.mark.slow
async def test_CL7_values_that_are_too_large_together(owner: Owner) -> None:
    """CL7: new values that the system does not pass to a program leave the command alone."""
    most_bytes = min(os.sysconf("SC_ARG_MAX"), 6 << 20)
    names = [f"A{number}_KEY" for number in range((most_bytes - 50_000) // 120_000)]
    async with owner.desk.client() as client:
        await client.secrets().put_many({**dict.fromkeys(names, "x" * 120_000), "B_KEY": FORMER})
    script = 'echo "it is $B_KEY"; read line; exit 42'
    with watched(owner, "run", "--", "sh", "-c", script) as run:
        assert await run.line() == "it is ***"
        await owner.store_secrets(B_KEY="x" * 120_000)
        assert (await run.said()).startswith(
            "not restarting the command: the secrets are too large together"
        )
        run.type(b"\n")
        assert await run.end() == 42
