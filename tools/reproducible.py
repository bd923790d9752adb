"""Build the wheel and the source archive twice in different surroundings, and compare the bytes.

    python tools/reproducible.py     print the SHA-256 of each archive, or fail with the difference

The two builds have different folders, times of files, umasks, time zones, languages and seeds of
hashes. They have the same `SOURCE_DATE_EPOCH`, by default the one of `make wheel`.
"""

import hashlib
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
# The time that hatchling gives to files without SOURCE_DATE_EPOCH.
EPOCH_WITHOUT_A_COMMIT = "1580601600"

_NOT_COPIED = shutil.ignore_patterns(
    ".git", ".venv", ".cache", ".hypothesis", "__pycache__", "dist", "node_modules"
)


@dataclass(frozen=True)
class Surroundings:
    """What may differ between two machines that build the same commit."""

    folder: str
    file_time: int
    umask: int
    variables: dict[str, str]


HERE = Surroundings(
    "sealspace", 1_700_000_000, 0o022, {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
)
ELSEWHERE = Surroundings(
    "another/place/of/the/source",
    1_600_000_001,
    0o077,
    {"TZ": "Pacific/Auckland", "LC_ALL": "C", "PYTHONHASHSEED": "2"},
)


def commit_epoch() -> str:
    """Return the time of the commit that is checked out, as `make wheel` uses it."""
    found = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return found.stdout.strip() or EPOCH_WITHOUT_A_COMMIT


def build(source: Path, epoch: str, surroundings: Surroundings, scratch: Path) -> dict[str, str]:
    """Build both archives from a copy of the source, and return the SHA-256 of each by its name."""
    copy = scratch / surroundings.folder
    shutil.copytree(source, copy, ignore=_NOT_COPIED)
    for path in copy.rglob("*"):
        os.utime(path, (surroundings.file_time, surroundings.file_time), follow_symlinks=False)
    made = scratch / "made"
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--wheel", "--sdist", "--outdir", made],
        cwd=copy,
        env=os.environ | surroundings.variables | {"SOURCE_DATE_EPOCH": epoch},
        umask=surroundings.umask,
        stdout=subprocess.DEVNULL,
        check=True,
    )
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in made.iterdir()}


def differences(first: dict[str, str], second: dict[str, str]) -> list[str]:
    """Return the names of archives that are missing in one build or have other bytes there."""
    return sorted(
        name for name in first.keys() | second.keys() if first.get(name) != second.get(name)
    )


def main() -> int:
    """Build twice, and print what was compared."""
    epoch = os.environ.get("SOURCE_DATE_EPOCH") or commit_epoch()
    with TemporaryDirectory() as one, TemporaryDirectory() as other:
        first = build(ROOT, epoch, HERE, Path(one))
        second = build(ROOT, epoch, ELSEWHERE, Path(other))
    for name, digest in sorted(first.items()):
        print(f"{digest}  {name}")
    differing = differences(first, second)
    if differing:
        print("two builds differ:", *differing, file=sys.stderr)
        return 1
    print(f"two builds of time {epoch} have the same bytes")
    return 0


if __name__ == "__main__":
    sys.exit(main())
