"""Environments of links to exactly the packages of the base install or of chosen extras.

A process in one sees the standard library and that folder: neither the packages of the environment
that runs the tests nor the current folder. What it starts takes its import path from it.

Example:
    base = environment(tmp_path / "base")
    ran = base.run("serve", "--data", "data")
"""

import fcntl
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import Distribution, distribution
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from patience import PATIENCE_S
from tests_support import PACKAGES, REPOSITORY

OURS = "sealspace"

_PATH = "import sys; sys.path.append(sys.argv.pop(1))\n"
_ONE = "from sealspace.cli.root import main; sys.exit(main())"
_MANY = """
import io, json, traceback
from sealspace.cli.root import main

ended = []
for arguments, given in json.load(sys.stdin):
    streams = [io.TextIOWrapper(io.BytesIO(data)) for data in (given.encode(), b"", b"")]
    sys.stdin, sys.stdout, sys.stderr = streams
    try:
        status = main(arguments)
    except BaseException:
        status = -1
        traceback.print_exc()
    said = []
    for stream in streams[1:]:
        stream.flush()
        said.append(stream.buffer.getvalue().decode())
    ended.append([status, *said])
sys.stdout = sys.__stdout__
json.dump(ended, sys.stdout)
"""
_WAIT_S = PATIENCE_S

_QUICK_PYTHON = """#!/bin/sh
set -eu
if [ "$*" != "-m venv ${{3-}}" ]; then
    exec {python} "$@"
fi
{python} -m venv --without-pip "$3"
cp -a {copied}/lib "$3"
for program in {copied}/bin/pip*; do
    sed "s|{made}|$3|" "$program" > "$3/bin/$(basename "$program")"
    chmod +x "$3/bin/$(basename "$program")"
done
"""
"""Programs of pip name the environment for which they were made."""


@dataclass(frozen=True)
class Ended:
    """The exit status and output of a command; status -1 after an exception."""

    status: int
    out: str
    err: str


@dataclass(frozen=True)
class Environment:
    """A folder of packages, and processes that can import only these.

    Attributes:
        site: the folder; processes run in the one that holds it.
    """

    site: Path

    def start(self, *arguments: str) -> "subprocess.Popen[str]":
        """Start `sealspace` with a readable standard error."""
        return subprocess.Popen(
            self._python(_ONE, arguments), stderr=subprocess.PIPE, text=True, cwd=self.site.parent
        )

    def start_example(self, path: Path, folder: Path) -> "subprocess.Popen[str]":
        """Start an example program on a free port with a readable standard output."""
        program = (
            "import os, runpy, sys; os.environ['PORT'] = '0';"
            f" sys.stdout.reconfigure(line_buffering=True); runpy.run_path({str(path)!r},"
            " run_name='__main__')"
        )
        return subprocess.Popen(
            self._python(program, ()), stdout=subprocess.PIPE, text=True, cwd=folder
        )

    def run(self, *arguments: str) -> Ended:
        """Run `sealspace` in a separate process and wait for its end."""
        return self._run(_ONE, arguments)

    def run_all(self, calls: Sequence[tuple[Sequence[str], str]]) -> list[Ended]:
        """Run `sealspace` several times in one process, each call with its own arguments and
        standard input."""
        ran = self._run(_MANY, given=json.dumps(calls))
        assert ran.status == 0, ran
        return [Ended(*one) for one in json.loads(ran.out)]

    def absent(self, *modules: str) -> list[str]:
        """Return the modules that the environment cannot import."""
        program = (
            "from importlib.util import find_spec\nprint(*(name for name in sys.argv[1:] if"
            " find_spec(name) is None))"
        )
        ran = self._run(program, modules)
        assert ran.status == 0, ran
        return ran.out.split()

    def _run(self, program: str, arguments: Sequence[str] = (), *, given: str = "") -> Ended:
        ran = subprocess.run(
            self._python(program, arguments),
            input=given,
            capture_output=True,
            text=True,
            check=False,
            cwd=self.site.parent,
            timeout=_WAIT_S,
        )
        return Ended(ran.returncode, ran.stdout, ran.stderr)

    def _python(self, program: str, arguments: Sequence[str]) -> list[str]:
        # Isolated, it does not read the variable that says where compiled modules are. None is put
        # into the checkout.
        compiled = (
            ("-B",)
            if sys.pycache_prefix is None
            else ("-X", f"pycache_prefix={sys.pycache_prefix}")
        )
        return [
            sys.executable,
            "-I",
            "-S",
            *compiled,
            "-c",
            _PATH + program,
            str(self.site),
            *arguments,
        ]


def environment(folder: Path, *extras: str) -> Environment:
    """Make the environment of `pip install 'sealspace[…]'` in a new folder."""
    site = folder / "site"
    site.mkdir(parents=True)
    for package in PACKAGES:
        _link(site / package, REPOSITORY / package)
    # The command line finds its commands by the entry points of the distribution.
    stated = next(
        file for file in distribution(OURS).files or () if file.name == "entry_points.txt"
    )
    _link(site / stated.parts[0], Path(str(stated.locate())).parent)
    link_dependencies(site, *extras)
    return Environment(site)


def link_dependencies(site: Path, *extras: str) -> None:
    """Link everything that the base install and some extras require into a folder of packages."""
    for found in _closure([*_project()["dependencies"], *requirements_of(*extras)]):
        for name in top_level(found):
            _link(site / name, Path(str(found.locate_file(name))))


def built_wheel(run: Path) -> Path:
    """Build what `pip install` of a clone builds, and return its path.

    Args:
        run: a folder of this process's tests; processes of one run share the wheel.
    """
    folder = shared_folder(run) / "wheel"
    with (folder.parent / "wheel.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            unfinished = folder.with_name("wheel.unfinished")
            build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir"]
            subprocess.run(
                [*build, str(unfinished), str(REPOSITORY)],
                check=True,
                capture_output=True,
                timeout=300,
            )
            unfinished.rename(folder)
    (wheel,) = folder.glob("*.whl")
    return wheel


def quick_python(run: Path) -> Path:
    """Return a folder for PATH whose `python3` makes environments in a fraction of the time.

    `python3 -m venv ENV` compiles all of pip, which takes eight seconds. Here that is done once,
    and each environment gets a copy. Everything else is what `python3` is otherwise.

    Args:
        run: a folder of this process's tests; processes of one run share the compiled pip.
    """
    folder = shared_folder(run) / "quick-python"
    with (folder.parent / "quick-python.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not folder.exists():
            python = shutil.which("python3")
            assert python is not None
            unfinished = folder.with_name("quick-python.unfinished")
            made = unfinished / "env"
            subprocess.run(
                [python, "-m", "venv", str(made)],
                check=True,
                timeout=300,
                env={**os.environ, "PYTHONPYCACHEPREFIX": ""},  # compiled files beside the others
            )
            program = unfinished / "python3"
            program.write_text(
                _QUICK_PYTHON.format(python=python, copied=folder / made.name, made=made)
            )
            program.chmod(0o755)
            unfinished.rename(folder)
    return folder


def shared_folder(run: Path) -> Path:
    """Return the folder of a run of tests, below which each process has its own."""
    is_one_of_several = "PYTEST_XDIST_WORKER" in os.environ
    return run.parent if is_one_of_several else run


def _link(place: Path, package: Path) -> None:
    """Link a package or module, and its compiled files where those are stored elsewhere."""
    place.symlink_to(package)
    if sys.pycache_prefix is None or not package.is_dir():
        return
    linked, compiled = (
        Path(sys.pycache_prefix, *path.absolute().parts[1:]) for path in (place, package)
    )
    if not linked.exists():  # an earlier run may have had a folder of this name
        compiled.mkdir(parents=True, exist_ok=True)
        linked.parent.mkdir(parents=True, exist_ok=True)
        linked.symlink_to(compiled)


def stated_extras() -> dict[str, list[str]]:
    """Return each extra of the distribution with its own requirements."""
    return dict(_project()["optional-dependencies"])


def requirements_of(*extras: str) -> list[str]:
    """Return the requirements of extras, including those of extras that they name."""
    stated, found = stated_extras(), []
    for extra in extras:
        for text in stated[extra]:
            named = Requirement(text)
            if named.marker is not None and not named.marker.evaluate():
                continue  # not for this Python
            found += requirements_of(*sorted(named.extras)) if named.name == OURS else [text]
    return found


def top_level(found: Distribution) -> list[str]:
    """Return the files and folders that a distribution adds to an environment."""
    assert found.files
    return sorted({file.parts[0] for file in found.files} - {"..", "__pycache__"})


def _closure(wanted: Sequence[str]) -> Iterator[Distribution]:
    """Yield each installed distribution that requirements need, directly or indirectly, once."""
    seen: set[str] = set()
    queue = list(wanted)
    while queue:
        required = Requirement(queue.pop())
        name = canonicalize_name(required.name)
        if name in seen or (
            required.marker is not None and not required.marker.evaluate({"extra": ""})
        ):
            continue
        seen.add(name)
        found = distribution(name)
        queue += found.requires or ()
        yield found


def _project() -> dict[str, Any]:
    project: dict[str, Any] = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))[
        "project"
    ]
    return project
