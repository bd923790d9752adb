"""Tests of the command `sealspace dev`, whose printed commands work."""

import hashlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from live_processes import processes_that_name
from patience import PATIENCE_S
from person import Person
from running_node import COMMAND
from tests_support import OUR_IMPORTS, Input

from sealspace.cli.root import main

pytestmark = pytest.mark.slow

VALUE = "open sesame, says the owner"
LIMIT_S = PATIENCE_S


def _environment(folder: Path) -> dict[str, str]:
    (folder / "home").mkdir(exist_ok=True)
    (folder / "tmp").mkdir(exist_ok=True)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    places = {
        "PATH": path,
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "tmp"),
        "LANG": "C.UTF-8",
        "HISTFILE": "",
    }
    # Settings around it that it must not take.
    return {
        **places,
        **OUR_IMPORTS,
        "SEALSPACE_HTTP__PORT": "1",
        "TERM": "dumb",
        "LANG": "C.UTF-8",
    }


@contextmanager
def _dev(folder: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    process = subprocess.Popen(
        [*COMMAND, "dev", "--port", "0", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=_environment(folder),
        cwd=folder,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGINT)
        process.wait(LIMIT_S)
        if process.stdout is not None:
            process.stdout.close()


def _asked(url: str) -> dict[str, str]:
    with urllib.request.urlopen(url, timeout=LIMIT_S) as answer:
        shown: dict[str, str] = json.load(answer)
        return shown


def left_behind(folder: Path) -> list[object]:
    return [*processes_that_name(folder), *(folder / "tmp").iterdir(), *(folder / "home").iterdir()]


def test_the_three_commands_work(tmp_path: Path) -> None:
    """The printed commands store a secret and grant it to the backend, which reads it."""
    with _dev(tmp_path) as process:
        assert process.stdout is not None
        commands = [process.stdout.readline().rstrip("\n") for _ in range(3)]
        backend = commands[2].rpartition(" ")[2]
        assert _asked(backend) == {"API_KEY": "not granted"}
        shell = ["bash", "--norc", "--noprofile", "-i"]
        with Person(shell, environment=_environment(tmp_path), folder=tmp_path) as someone:
            someone.type(f"{commands[0]}\r{commands[1]}\r".encode())
            for prompt in ("\r\nvalue: ", "onfirm[^\r\n]*: "):
                someone.expect(prompt)
                someone.type(VALUE.encode() + b"\r")
            someone.expect("stored API_KEY")
            someone.type(commands[2].encode() + b"\r")
            someone.expect("\\[y/N\\]: ")
            someone.type(b"y\r")
            someone.expect("handed over")
            someone.type(b"exit\r")
            assert someone.end() == 0
        assert _asked(backend) == {
            "API_KEY": f"read, sha256 {hashlib.sha256(VALUE.encode()).hexdigest()[:16]}"
        }
        assert processes_that_name(tmp_path)
        process.send_signal(signal.SIGTERM)
        assert process.wait(LIMIT_S) == 0
    assert left_behind(tmp_path) == []


def test_a_folder_is_started_from_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """With `--data`, node, owner and secrets exist at the next start, also after Ctrl-C."""
    monkeypatch.setenv("SEALSPACE_HOME", str(tmp_path / "dev" / "owner"))
    monkeypatch.delenv("SEALSPACE_NODE", raising=False)

    def sealspace(*arguments: str) -> str:
        monkeypatch.setattr(sys, "stdin", Input(VALUE))
        assert main([*arguments]) == 0
        return capsys.readouterr().out

    seen = []
    for name in ("FIRST", "SECOND"):
        with _dev(tmp_path, "--data", "dev", "--json") as process:
            assert process.stdout is not None
            shown = json.loads(process.stdout.readline())
            assert re.fullmatch(r"http://localhost:[0-9]+/console/", shown["console"])
            assert shown["home"] == os.environ["SEALSPACE_HOME"]
            seen.append([one["name"] for one in json.loads(sealspace("secret", "list", "--json"))])
            sealspace("secret", "put", name)
            process.send_signal(signal.SIGINT)
            assert process.wait(LIMIT_S) == 0
    assert [[], ["FIRST"]] == seen
    assert left_behind(tmp_path) == []


def test_the_port_is_taken(tmp_path: Path) -> None:
    """A port in use is reported before anything is created."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ran = subprocess.run(
            [*COMMAND, "dev", "--port", str(port)],
            env=_environment(tmp_path),
            cwd=tmp_path,
            capture_output=True,
            text=True,
            timeout=LIMIT_S,
            check=False,
        )
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert f"port {port}" in ran.stderr
    assert "next: " in ran.stderr
    assert list((tmp_path / "tmp").iterdir()) == []
