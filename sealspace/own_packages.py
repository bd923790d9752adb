"""Whether an import of one of our six packages finds ours: their names are common words.

A module `capabilities.py` or a folder `node` earlier on the import path is imported in place of
ours, and pip replaces files of one distribution by those of another without a warning
(spec/decisions/0001-flat-packages.md). This module imports none of the other five.

Example:
    found = hidden_by("spaces")
    if found is not None: print(found.text, found.hint)
"""

import os
import sys
from collections.abc import Mapping, Sequence
from importlib.machinery import PathFinder
from typing import Final, NamedTuple

DISTRIBUTION: Final = "sealspace"
PACKAGES: Final = (
    "node",
    "tee_backend",
    "sealspace",
    "encryption_network",
    "spaces",
    "capabilities",
)
NEEDED: Final = ("encryption_network", "capabilities")
"""What every module of this package imports."""
_SEPARATE: Final = (
    "give sealspace an environment of its own: in a clone, python -m venv ENV && ENV/bin/pip"
    " install '.[node]'"
)
_BESIDE: Final = __file__.rsplit(os.sep, 2)[0]  # the six always lie side by side
_PROGRAMS: Final = (f"{os.sep}sealspace", f"{_BESIDE}{os.sep}node{os.sep}__main__.py")


class Clash(NamedTuple):
    """A package that is not ours and has one of our names."""

    text: str
    hint: str


def hidden_by(*names: str) -> Clash | None:
    """Return what is imported in place of one of our packages, or would be; None: nothing.

    It looks at files alone, which takes some 70 µs a name. A package that is not found, or that
    something else than a file provides, is left to the import itself.
    """
    for name in names:
        loaded = sys.modules.get(name)
        spec = PathFinder.find_spec(name) if loaded is None else getattr(loaded, "__spec__", None)
        if spec is None or not spec.has_location or spec.origin is None:
            continue
        ours = f"{_BESIDE}{os.sep}{name}"
        if not spec.origin.startswith(ours + os.sep):
            from pathlib import Path  # not loaded where nothing is wrong

            found = Path(spec.origin)
            culprit = found.parent if found.stem == "__init__" else found
            if culprit.exists() and Path(ours).exists() and culprit.samefile(ours):
                continue  # one folder under two paths
            is_installed = culprit.parent.name in ("site-packages", "dist-packages")
            return Clash(
                f"{culprit} is imported in place of sealspace's own package {name}",
                (
                    _SEPARATE
                    if is_installed
                    else f"rename it, or keep {culprit.parent} off the import path"
                ),
            )
    return None


def claimed_by(owners: Mapping[str, Sequence[str]] | None = None) -> Clash | None:
    """Return the installed distribution that has a package of one of our names; None: there is
    none."""
    if owners is None:
        from importlib.metadata import packages_distributions

        owners = packages_distributions()
    for name in PACKAGES:
        for other in sorted(set(owners.get(name, ()))):
            if other.lower() != DISTRIBUTION:
                return Clash(
                    f"the distribution {other} also installs a package named {name}; parts of one"
                    " may have replaced the other's",
                    _SEPARATE,
                )
    return None


def is_command_line() -> bool:
    """Whether this process was started as `sealspace` or `python -m node`, which report a clash by
    themselves."""
    return any(started.endswith(_PROGRAMS) for started in sys.argv[:1])
