"""spec/recipes.md does what it says: its commands, in order, in one shell, against a real node."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import pytest
from patience import PATIENCE_S
from tests_support import REPOSITORY

PAGE = REPOSITORY / "spec" / "recipes.md"
CURL_ABSENT = "curl is not installed"
FENCE = re.compile(r"^```(\w*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = "--- block {} ---"
LIMIT_S = PATIENCE_S


def _recipes() -> list[tuple[str, str]]:
    """Return each block of commands with what the box below it says that they print; nothing where there is none."""
    recipes: list[tuple[str, str]] = []
    for kind, text in FENCE.findall(PAGE.read_text("utf-8")):
        if kind == "bash":
            recipes.append((text, ""))
        else:
            assert kind == "text" and not recipes[-1][1], "a box of output follows commands"
            recipes[-1] = (recipes[-1][0], text)
    return recipes


def _script(commands: list[str]) -> str:
    marked = (f"printf '\\n{MARK.format(at)}\\n'\n{text}" for at, text in enumerate(commands))
    # Where a command fails the node must not go on holding the pipe.
    return "set -euo pipefail\ntrap 'kill $(jobs -p) 2> /dev/null || true' EXIT\n" + "".join(marked)


def _run(script: str, folder: Path) -> tuple[int, str, str]:
    """Run a script in a session of its own, and end whatever it left running."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    process = subprocess.Popen(
        ["bash", "-c", script],
        cwd=folder,
        env={**os.environ, "PATH": path, "PORT": str(port)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        printed, errors = process.communicate(timeout=LIMIT_S)
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    return process.returncode, printed, errors


def _pattern(box: str) -> str:
    """Return what a box matches: `…` stands for anything within a line."""
    return ".*".join(map(re.escape, box.strip().split("…")))


def test_every_box_is_commands_or_their_output() -> None:
    """The page has commands with what they print, and no third kind of box."""
    recipes = _recipes()
    assert len(recipes) > 10
    assert len([box for _, box in recipes if box]) > 10


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("curl") is None, reason=CURL_ABSENT)
def test_recipes(tmp_path: Path) -> None:
    """Every block of the page succeeds and prints what stands below it."""
    recipes = _recipes()
    status, printed, errors = _run(_script([commands for commands, _ in recipes]), tmp_path)
    parts = re.split(r"\n--- block \d+ ---\n", printed)[1:]
    reported = (parts[-1:], errors, (tmp_path / "node.log").read_text("utf-8")[-2000:])
    assert (status, len(parts)) == (0, len(recipes)), reported
    for (commands, box), part in zip(recipes, parts, strict=True):
        assert re.fullmatch(_pattern(box), part.strip()), (commands, box, part)
    assert {path.stat().st_mode & 0o077 for path in tmp_path.glob("*.key")} == {0}
