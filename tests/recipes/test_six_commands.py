"""From an empty machine to a program that has a secret in its environment: six commands, in an empty home."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from base_install import link_dependencies
from tests_support import REPOSITORY

pytestmark = pytest.mark.slow
MOST_COMMANDS = 6
VALUE = "open-sesame-4711"
_WAIT_S = 300


@dataclass
class Machine:
    """A home and a folder with nothing in them, and a count of what is typed."""

    folder: Path
    typed: list[str] = field(default_factory=list)

    @property
    def variables(self) -> Mapping[str, str]:
        """What a login shell has, and nothing of the tests."""
        path = f"{self.folder / 'ENV' / 'bin'}:{os.defpath}"
        return {"HOME": str(self.folder / "home"), "PATH": path, "LANG": "C.UTF-8", "TERM": "xterm"}

    def run(self, line: str, *, given: str = "", instead: str | None = None) -> str:
        """Type one command; return what it prints on standard output.

        Args:
            line: what is typed.
            given: standard input.
            instead: what is run in its place on a machine without a network.
        """
        self.typed.append(line)
        words = (instead or line).split()
        command = [str(self.folder / "ENV" / "bin" / word) if word == "sealspace" else word for word in words]
        ran = subprocess.run(
            command,
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
        """Type a command that goes on; yields the address at which it listens."""
        self.typed.append(line)
        command = [str(self.folder / "ENV" / "bin" / "sealspace"), *line.split()[1:], "--port", "0"]
        process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, cwd=self.folder, env=self.variables)
        try:
            assert process.stderr is not None
            yield next(found[1] for found in map(re.compile(r"listening on (\S+)").search, process.stderr) if found)
        finally:
            process.terminate()
            process.communicate(timeout=_WAIT_S)


def _wheel(folder: Path) -> Path:
    """Build what an index would serve."""
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(REPOSITORY)]
    subprocess.run(build, check=True, capture_output=True, timeout=_WAIT_S)
    (wheel,) = folder.glob("*.whl")
    return wheel


def test_from_nothing_to_a_program_with_a_secret(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Install, serve, sign in, store, run: the program finds the secret, and its output is masked."""
    machine = Machine(tmp_path)
    (tmp_path / "home").mkdir()
    wheel = _wheel(tmp_path / "wheel")
    began = time.monotonic()
    machine.run("python3 -m venv ENV")
    (site,) = (tmp_path / "ENV").glob("lib/python*/site-packages")
    link_dependencies(site, "node")  # an index would serve them; there is none here
    offline = f"ENV/bin/pip install --quiet --no-index --no-deps {wheel}"
    machine.run("ENV/bin/pip install sealspace[node]", instead=offline)
    with machine.running("sealspace serve --data ./data") as url:
        machine.run(f"sealspace login {url} --new")
        machine.run("sealspace secret put API_KEY", given=VALUE)
        said = machine.run("sealspace run -- env")
        unmasked = machine.run("sealspace run --no-mask -- env")
    taken_s = time.monotonic() - began
    assert "API_KEY=***" in said.splitlines()
    assert VALUE not in said
    assert f"API_KEY={VALUE}" in unmasked.splitlines()
    typed = machine.typed[:-1]  # the last one is the test's own look behind the mask
    assert len(typed) <= MOST_COMMANDS
    with capsys.disabled():
        print(f"\nfirst secret in a program: {len(typed)} commands, {taken_s:.1f} s", *typed, sep="\n  ")
