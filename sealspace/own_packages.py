"""Detection of other packages that conflict with sealspace.

A module `capabilities.py` or a folder `node` earlier on the import path hides ours, and pip
replaces files of another distribution without a warning (spec/decisions/0001-flat-packages.md).
This module imports none of the other packages.

Example:
    found = hidden_by("spaces")
    if found is not None: print(found.text, found.hint)
"""

import os
import sys
from importlib.machinery import PathFinder
from typing import NamedTuple

DISTRIBUTION = "sealspace"
PACKAGES = (
    "node",
    "runner",
    "door",
    "tee_backend",
    "sealspace",
    "encryption_network",
    "spaces",
    "serving",
    "capabilities",
)
NEEDED = ("encryption_network", "capabilities")
"""The packages that every module of this package imports."""
_SEPARATE = (
    "install sealspace into its own environment; in a clone: python -m venv ENV && ENV/bin/pip"
    " install '.[node]'"
)
_BESIDE = __file__.rsplit(os.sep, 2)[0]  # the folder that contains all packages
_PROGRAMS = (f"{os.sep}sealspace", f"{_BESIDE}{os.sep}node{os.sep}__main__.py")


class Clash(NamedTuple):
    """A conflict with a package of another project."""

    text: str
    hint: str


def hidden_by(*names: str) -> Clash | None:
    """Find a package that shadows one of sealspace's packages.

    Returns None if no package does. The check reads only file names, which takes some 70 µs for
    each package. Packages that are missing, or are not loaded from files, are left to the import
    system.
    """
    for name in names:
        origin = _origin_of(name)
        if origin is not None and not origin.startswith(f"{_BESIDE}{os.sep}{name}{os.sep}"):
            clash = _clash_with(name, origin)
            if clash is not None:
                return clash
    return None


def _origin_of(name: str) -> str | None:
    """Return the file that an import of a package loads or has loaded, or None without a file."""
    loaded = sys.modules.get(name)
    spec = PathFinder.find_spec(name) if loaded is None else getattr(loaded, "__spec__", None)
    if spec is None or not spec.has_location:
        return None
    return spec.origin


def _clash_with(name: str, origin: str) -> Clash | None:
    """Return the conflict of a package with a file at another path.

    Returns None if it is the same folder under another path, such as a symbolic link.
    """
    from pathlib import Path  # imported late: the usual case does not need it

    own_folder = Path(f"{_BESIDE}{os.sep}{name}")
    foreign = Path(origin)
    culprit = foreign.parent if foreign.stem == "__init__" else foreign
    if culprit.exists() and own_folder.exists() and culprit.samefile(own_folder):
        return None
    if culprit.parent.name in ("site-packages", "dist-packages"):
        hint = _SEPARATE
    else:
        hint = f"rename it, or keep {culprit.parent} off the import path"
    return Clash(text=f"{culprit} hides sealspace's own package {name}", hint=hint)


def overlapping_distribution() -> Clash | None:
    """Find another installed distribution that contains one of sealspace's packages.

    Returns None if there is no such distribution.
    """
    import re  # imported late: only servers need them
    from importlib.metadata import distributions

    # Matches a line of RECORD (`node/app.py,HASH,SIZE`, `node.py,…`) or of top_level.txt (`node`).
    our_package = re.compile(rf"^({'|'.join(PACKAGES)})(?:/|\.py,|$)", re.MULTILINE)
    for distribution in distributions():
        # Searched as text, because parsing the lists of a hundred distributions takes 0.2 s.
        files = distribution.read_text("RECORD") or distribution.read_text("top_level.txt") or ""
        match = our_package.search(files)
        if match is None or distribution.name.lower() == DISTRIBUTION:
            continue
        return Clash(
            text=f"the distribution {distribution.name} also installs a package named {match[1]},"
            " and may have replaced files of it",
            hint=_SEPARATE,
        )
    return None


def is_command_line() -> bool:
    """Return whether this process is one of sealspace's programs.

    The programs are `sealspace` and `python -m node`. They report a clash themselves.
    """
    return any(started.endswith(_PROGRAMS) for started in sys.argv[:1])
