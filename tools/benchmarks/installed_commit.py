"""An earlier commit of this repository, installed beside the working tree.

Each commit gets an environment of its own with the packages of its own lock file. Sharing the
environment of the working tree would be faster to set up, but a commit from before a change of
dependencies does not run there. So the comparison includes what other versions of packages cost.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / ".cache" / "commits"


class NotInstalled(Exception):
    """A commit is unknown here, or its installation failed."""


def commit_of(name: str) -> str:
    """Return the full hash of a commit that a branch, a tag or an abbreviation names."""
    found = _run("git", "rev-parse", "--verify", f"{name}^{{commit}}", failure=f"no commit {name}")
    return found.decode().strip()


def install(commit: str, folder: Path = FOLDER) -> Path:
    """Install a commit, unless it is installed already; return its program `sealspace`.

    Args:
        commit: Full hash.
        folder: Where installations are kept, one folder for each commit.

    Raises:
        NotInstalled: The commit is not in this repository, or pip failed.
    """
    place = folder / commit
    tree, environment, finished = place / "tree", place / "venv", place / "installed"
    program = environment / "bin" / "sealspace"
    if finished.exists():
        return program
    shutil.rmtree(place, ignore_errors=True)  # an installation that was interrupted
    tree.mkdir(parents=True)
    archive = _run("git", "archive", commit, failure=f"no commit {commit}")
    _run("tar", "-x", "-C", str(tree), sent=archive, failure="the commit cannot be unpacked")
    _run(sys.executable, "-m", "venv", str(environment), failure="no environment for the commit")
    pip = [str(environment / "bin" / "pip"), "install", "--quiet", "--no-deps"]
    lock = ["--require-hashes", "--requirement", str(tree / "requirements.lock")]
    itself = ["--no-build-isolation", "--editable", str(tree)]
    for wanted in (lock, itself):
        _run(*pip, *wanted, failure="the packages of the commit cannot be installed")
    finished.touch()
    return program


def _run(*command: str, failure: str, sent: bytes = b"") -> bytes:
    """Run a command, and return its output."""
    variables = {"PIP_CACHE_DIR": str(ROOT / ".cache" / "pip"), **os.environ}
    done = subprocess.run(command, input=sent, capture_output=True, cwd=ROOT, env=variables)
    if done.returncode:
        said = done.stderr.decode(errors="replace").strip().splitlines()[-3:]
        raise NotInstalled("\n".join([failure, *said]))
    return done.stdout
