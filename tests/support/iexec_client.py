"""iExec's own client, unmodified, for tests. `make iexec-client` installs it.

One process loads the client, which takes a second, and runs all commands. That a process of its own
ends as they do is tested in `sealspace/cli/test_iexec_client.py`.

Example:
    with iexec_programs(tmp_path / "iexec") as programs:
        ran = programs.run("requester", "check-secret", "name", folder=folder)
        subprocess.run(["iexec", "requester", …], env={"PATH": f"{programs.folder}:/usr/bin:/bin"})
"""

import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from patience import PATIENCE_S
from tests_support import REPOSITORY

INSTALLED = REPOSITORY / ".cache" / "iexec" / "node_modules" / ".bin" / "iexec"
IEXEC_ABSENT = "iExec's client is not installed: make iexec-client"
_SERVER = Path(__file__).with_name("iexec_commands.mjs")
_ASK = """#!{python} -IS
import json, os, socket, sys
with socket.socket(socket.AF_UNIX) as line:
    line.connect({place!r})
    asked = sys.argv[1], sys.argv[2:], os.getcwd(), os.environ["HOME"]
    line.sendall(json.dumps(asked).encode() + b"\\n")
    status, out, err = json.loads(line.makefile().read())
sys.stdout.write(out)
sys.stderr.write(err)
sys.exit(status)
"""


def is_installed() -> bool:
    """Return whether the client and its interpreter are installed."""
    return INSTALLED.exists() and shutil.which("node") is not None


def needs_iexec() -> pytest.MarkDecorator:
    """Return the mark of tests that need the client."""
    return pytest.mark.skipif(not is_installed(), reason=IEXEC_ABSENT)


@dataclass(frozen=True)
class IexecPrograms:
    """A client that is loaded.

    Attributes:
        folder: has a program `iexec` for a shell.
    """

    folder: Path
    place: Path

    def run(self, noun: str, *arguments: str, folder: Path) -> "subprocess.CompletedProcess[str]":
        """Run a command in a folder that is the home too."""
        asked = noun, arguments, str(folder), str(folder)
        with socket.socket(socket.AF_UNIX) as line:
            line.settimeout(PATIENCE_S)
            line.connect(str(self.place))
            line.sendall(json.dumps(asked).encode() + b"\n")
            with line.makefile() as answer:
                status, out, err = json.loads(answer.read())
        return subprocess.CompletedProcess([noun, *arguments], status, out, err)


@contextmanager
def iexec_programs(folder: Path) -> Iterator[IexecPrograms]:
    """Load the client, and keep it until the block ends."""
    programs = IexecPrograms(folder / "bin", folder / "line")
    programs.folder.mkdir(parents=True)
    program = programs.folder / "iexec"
    program.write_text(_ASK.format(python=sys.executable, place=str(programs.place)))
    program.chmod(0o700)
    process = subprocess.Popen(
        ["node", str(_SERVER), str(INSTALLED.resolve().parent), str(programs.place)],
        stdout=subprocess.PIPE,
        env={"PATH": os.environ["PATH"], "HOME": str(folder), "NO_UPDATE_NOTIFIER": "1"},
    )
    try:
        assert process.stdout is not None and process.stdout.readline() == b"ready\n"
        yield programs
    finally:
        process.kill()
        process.communicate(timeout=PATIENCE_S)
