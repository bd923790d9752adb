"""Test of the README's six commands in an empty home."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from base_install import built_wheel, link_dependencies
from page_blocks import blocks_of
from tests_support import REPOSITORY

pytestmark = pytest.mark.slow
MOST_COMMANDS = 6
NODE = "http://127.0.0.1:8000"
VALUE = "open-sesame-4711"
_SECTION = re.compile(
    r"^## The first secret, in six commands$(?P<text>.*?)^## ", re.MULTILINE | re.DOTALL
)
_WAIT_S = 300


def _commands() -> list[str]:
    """Return the commands as the README has them."""
    found = _SECTION.search((REPOSITORY / "README.md").read_text("utf-8"))
    assert found is not None
    return [line for block in blocks_of(found["text"]) for line in block.text.splitlines()]


@dataclass(frozen=True)
class Machine:
    """A home and a folder with nothing in them."""

    folder: Path

    @property
    def variables(self) -> Mapping[str, str]:
        """Return the environment of a login shell, without the variables of the tests."""
        # the Python for which the dependencies are there
        path = f"{sys.base_prefix}/bin:{os.defpath}"
        return {"HOME": str(self.folder / "home"), "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm"}

    def run(self, line: str, *, given: str = "") -> str:
        """Run one command; return its standard output."""
        ran = subprocess.run(
            line.split(),
            input=given,
            capture_output=True,
            text=True,
            cwd=self.folder,
            env=self.variables,
            timeout=_WAIT_S,
        )
        assert ran.returncode == 0, (line, ran.stdout, ran.stderr)
        return ran.stdout

    @contextmanager
    def running(self, line: str) -> Iterator[str]:
        """Start a command that keeps running; yield the address at which it listens."""
        command = [*line.split(), "--port", "0"]
        process = subprocess.Popen(
            command, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=self.variables
        )
        try:
            assert process.stderr is not None
            yield next(
                found[1]
                for found in map(re.compile(r"listening on (\S+)").search, process.stderr)
                if found
            )
        finally:
            process.terminate()
            process.communicate(timeout=_WAIT_S)


def test_from_nothing_to_a_program_with_a_secret(
    tmp_path: Path,
    tmp_path_factory: pytest.TempPathFactory,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Install, serve, sign in, store, run: the program finds the secret, and its output is
    masked."""
    commands = _commands()
    assert 0 < len(commands) <= MOST_COMMANDS
    environment, install, serve, login, put, run = commands
    machine = Machine(tmp_path)
    (tmp_path / "home").mkdir()
    wheel = built_wheel(tmp_path_factory.getbasetemp())
    began = time.monotonic()
    machine.run(environment)
    (site,) = (tmp_path / "ENV").glob("lib/python*/site-packages")
    link_dependencies(site, "node")  # an index would serve them; there is none here
    machine.run(install.replace("'.[node]'", f"--quiet --no-index --no-deps {wheel}"))
    with machine.running(serve) as url:
        machine.run(login.replace(NODE, url))
        machine.run(put, given=VALUE)
        said = machine.run(run)
        taken_s = time.monotonic() - began
        unmasked = machine.run(run.replace(" run ", " run --no-masking "))
    assert "API_KEY=***" in said.splitlines()
    assert VALUE not in said
    assert f"API_KEY={VALUE}" in unmasked.splitlines()
    with capsys.disabled():
        print(
            f"\nfirst secret in a program: {len(commands)} commands, {taken_s:.1f} s",
            *commands,
            sep="\n  ",
        )
