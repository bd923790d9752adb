"""Tests of unusable files and streams, which give a command's error of two lines and do not stop a
node."""

import asyncio
import os
import subprocess
import sys
import time
import urllib.request
from contextlib import ExitStack, suppress
from pathlib import Path

import pytest
from engines import store_arguments
from held_ports import held_ports
from patience import PATIENCE_S
from running_node import COMMAND
from tests_support import REPOSITORY

from node.logs import configure_logs, log_event
from sealspace.cli.root import main
from spaces.store.lmdb.engine import open_lmdb

TOO_LARGE_BYTES = 8 << 40
START_S = 120.0


def _said(capsys: pytest.CaptureFixture[str]) -> list[str]:
    return capsys.readouterr().err.splitlines()


def test_a_compose_file_without_an_end_is_not_read(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A command reads only the allowed length of a file of eight terabytes."""
    compose = tmp_path / "compose.yaml"
    compose.touch()
    os.truncate(compose, TOO_LARGE_BYTES)
    asked = (
        "--node",
        "http://127.0.0.1:1",
        "--data",
        str(tmp_path / "data"),
        "--simulate",
        str(tmp_path),
    )
    assert main(["runner", "serve", *asked, "--compose", str(compose)]) == 2
    reported, following = _said(capsys)
    assert reported == f"sealspace: {compose} is not a compose file" and following.startswith(
        "next: "
    )


@pytest.mark.parametrize("name", ["file/folder", "n" * 300])
def test_a_folder_that_cannot_be_made(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    """A folder that cannot be created is an error of two lines."""
    (tmp_path / "file").touch()
    asyncio.run(open_lmdb(tmp_path / "data").close())
    status = main(
        ["admin", "receipts", "export", "--data", str(tmp_path / "data"), str(tmp_path / name)]
    )
    reported, following = _said(capsys)
    assert status == 1 and following.startswith("next: ls -ld ")
    assert reported.startswith(f"sealspace: {tmp_path}/")


def _ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(
            f"http://127.0.0.1:{port}/readyz", timeout=PATIENCE_S
        ) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _started(folder: Path, port: int, stderr: int | None) -> subprocess.Popen[bytes]:
    """Start a node with standard error at a file, or closed if the file is None."""
    # Without one the shell closes it, for `subprocess` cannot.
    command = [
        *COMMAND,
        "serve",
        "--data",
        str(folder / "data"),
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command = command if stderr is not None else ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", *command]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    # Buffered, as for most users: what was not written is tried again when the interpreter ends.
    environment.pop("PYTHONUNBUFFERED", None)
    return subprocess.Popen(
        [*command, *store_arguments(folder)], stderr=stderr, env=environment, cwd=folder
    )


@pytest.mark.slow
@pytest.mark.parametrize("nobody", ["full", "broken", "closed"])
def test_a_node_whose_words_nobody_takes_serves(tmp_path: Path, nobody: str) -> None:
    """A node serves with standard error full, broken or closed."""
    with held_ports(1) as (port,), ExitStack() as opened:
        stderr: int | None = None
        if nobody == "full":
            stderr = opened.enter_context(Path("/dev/full").open("wb")).fileno()
        elif nobody == "broken":
            reader, stderr = os.pipe()
            os.close(reader)
            opened.callback(os.close, stderr)
        process = _started(tmp_path, port, stderr)
        try:
            until = time.monotonic() + START_S
            while not _ready(port) and time.monotonic() < until:
                with suppress(subprocess.TimeoutExpired):
                    pytest.fail(f"it ended with status {process.wait(timeout=0.2)}")
            assert _ready(port)
        finally:
            process.terminate()
            process.wait(timeout=PATIENCE_S)
    assert process.returncode == 0


def test_a_file_does_not_take_the_place_of_standard_error(tmp_path: Path) -> None:
    """A command with closed standard error opens no file under descriptor 2."""
    program = (
        "from sealspace.cli.root import main; main(['version']); print(open('file', 'w').fileno()"
        " > 2)"
    )
    command = ["/bin/sh", "-c", 'exec "$@" 2>&-', "sh", sys.executable, "-c", program]
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY)}
    ran = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        env=environment,
        cwd=tmp_path,
        check=True,
        timeout=PATIENCE_S,
    )
    assert ran.stdout.split()[-1] == b"True"


def test_a_log_without_a_place_loses_its_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    """A program that embeds a node continues without standard error, and logs nothing."""
    monkeypatch.setattr(sys, "stderr", None)
    configure_logs("info")
    log_event("nobody-listens")
