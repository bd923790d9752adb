"""Checks of `sealspace doctor` that need neither a node nor an owner: Python, packages, clock, proxies."""

import os
import platform
import sys
from collections.abc import Iterator
from typing import Final

from capabilities.ambient import SystemClock

from ..errors import ConfigurationError
from ..processes.clock_check import check_clock
from ..processes.ownership import check_ownership
from .diagnosis import WARNING, Diagnosis, Found, diagnosed

_OLDEST: Final = (3, 11)
_TOO_NEW: Final = (3, 14)
_PROXIES: Final = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")


def installation() -> Iterator[Diagnosis]:
    """Check this installation and this machine."""
    yield from diagnosed("python", python)
    yield from diagnosed("packages", _packages)
    yield from diagnosed("clock", _clock)
    yield from diagnosed("proxies", _proxies)


def python(version: tuple[int, ...] = sys.version_info[:2]) -> Found:
    """Check the version of Python."""
    if not _OLDEST <= version < _TOO_NEW:
        raise ConfigurationError(
            f"this is Python {'.'.join(map(str, version))}, and sealspace needs 3.11 to 3.13",
            hint="in a clone of sealspace: python3.13 -m venv ENV && ENV/bin/pip install '.[node]'",
        )
    return f"{platform.python_version()} at {sys.executable}"


def _packages() -> Found:
    check_ownership()
    return "our six names are ours"


def _clock() -> Found:
    check_clock(SystemClock())
    return "not before this version was made, nor long after"


def _proxies() -> Found:
    named = [name for one in _PROXIES for name in (one, one.lower()) if os.environ.get(name)]
    if named:
        return Diagnosis(
            "proxies",
            WARNING,
            f"{named[0]} is set, and sealspace does not use it: it connects to nodes and services directly",
            "allow direct connections, or name a node that is reached without the proxy",
        )
    return "no variable names one"
