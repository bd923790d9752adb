"""Tests of completion in real shells, which imports only the completed command."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from patience import PATIENCE_S
from person import Person
from tests_support import OUR_IMPORTS, REPOSITORY

from node.cli import node_groups as operators
from sealspace import __version__
from sealspace.cli import groups as owners
from sealspace.cli.root import COMMANDS

# How each shell is started without anybody's settings, and what is typed before completion works.
SHELLS = {
    "bash": (["bash", "--norc", "--noprofile", "-i"], 'eval "$(sealspace completion bash)"'),
    "zsh": (
        ["zsh", "-f", "-i"],
        'autoload -Uz compinit; compinit -u -D; eval "$(sealspace completion zsh)"',
    ),
    "fish": (["fish", "--no-config", "--interactive"], "sealspace completion fish | source"),
}
CALLED = """
import sys
from sealspace.cli.root import main
try: main()
finally: print(*sys.modules, sep="\\n", file=sys.stderr)
"""


def _environment(folder: Path) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return {
        "PATH": path,
        "HOME": str(folder),
        "TERM": "dumb",
        **OUR_IMPORTS,
        "LANG": "C.UTF-8",
    }


@pytest.mark.slow
@pytest.mark.parametrize("shell", SHELLS)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    """A real shell completes a command, a verb of a noun, and an option."""
    command, preparation = SHELLS[shell]
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    with Person(command, environment=_environment(tmp_path), folder=tmp_path) as someone:
        someone.type(b"PS1=; echo prepa''red\r" if shell != "fish" else b"echo prepa''red\r")
        someone.expect("prepared")
        someone.type(preparation.encode() + b"; echo rea''dy\r")
        someone.expect("ready")
        someone.type(b"sealspace vers\t\r")
        someone.expect(__version__.replace(".", "\\."))
        someone.type(b"sealspace secret li\t--sc\tci --help\r")
        someone.expect("Usage: sealspace secret list")
        someone.type(b"exit 7\r")
        assert someone.end() == 7


def _completed(*words: str) -> tuple[list[str], set[str]]:
    """Return what bash offers for the last word, and the modules of commands that were imported."""
    ran = subprocess.run(
        [sys.executable, "-P", "-c", CALLED],
        env={
            **os.environ,
            "PYTHONPATH": str(REPOSITORY),
            "_SEALSPACE_COMPLETE": "bash_complete",
            "COMP_WORDS": " ".join(("sealspace", *words)),
            "COMP_CWORD": str(len(words)),
        },
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
        check=False,
    )
    assert "sealspace: " not in ran.stderr
    offered = [line.partition(",")[2] for line in ran.stdout.splitlines() if line]
    commands = {
        row.module
        for row in (
            *COMMANDS.values(),
            *owners.secret.table.values(),
            *operators.admin.table.values(),
        )
    }
    modules = (commands & set(ran.stderr.splitlines())) - {
        row.module for row in COMMANDS.values() if "groups" in row.module
    }
    return offered, modules


def test_names_are_completed_without_imports() -> None:
    """Names of commands are completed from the tables: no command is imported, and no hidden one is
    offered."""
    assert _completed("vers") == (["version"], set())
    assert _completed("secret", "pu") == (["put"], set())
    assert _completed("admin", "coll") == (["collateral"], set())
    assert _completed("work") == ([], set())


def test_an_option_imports_its_command_only() -> None:
    """Completing an option imports only its own command."""
    offered, modules = _completed("secret", "list", "--sc")
    assert offered == ["--scope"]
    assert "sealspace.cli.keep.secret" in modules
    assert not modules & {"sealspace.cli.who.login", "sealspace.cli.use.run", "node.cli.serve"}
    assert _completed("version", "--js") == (["--json"], {"sealspace.cli.version"})


def test_mistakes_are_completed_in_silence() -> None:
    """After an unknown command, completion prints nothing."""
    assert _completed("nothing", "--sc") == ([], set())
