"""`sealspace doctor`: find what is wrong with an installation, a node or a login, and say what to do."""

import os
import platform
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Final

import click

from capabilities.ambient import SystemClock
from sealspace.cli.diagnosis import OK, WARNING, WRONG, Diagnosis, Found, diagnosed
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.lazy import EXTRAS
from sealspace.cli.owner_checks import owner_checks
from sealspace.cli.owner_profile import owner_home
from sealspace.cli.shared import HOME_VARIABLE, NODE_VARIABLE, shared
from sealspace.cli.terminal import print_json, print_lines

from ..config.loading import ENVIRONMENT_PREFIX
from ..config.tree import Store
from ..processes.clock_check import check_clock
from ..processes.ownership import check_ownership
from .settings import config_from, data_options

_OLDEST: Final = (3, 11)
_TOO_NEW: Final = (3, 16)
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
            f"this is Python {'.'.join(map(str, version))}, and sealspace needs 3.11 to 3.15",
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


@click.command(epilog="Examples: `sealspace doctor`; `sealspace doctor --data ./data`.")
@data_options
def doctor(config_file: Path | None, store__data: str | None) -> int:
    """Check the installation, the node whose data are here, and the login; ends with status 1 if something is wrong.

    The node is checked where its settings or its data folder are named, or a folder `data` is here; the login where
    somebody has logged in, but not where --data or --config names a node, unless --home or --node is given too.
    Nothing is changed.
    """
    found = []
    for diagnosis in _diagnoses(config_file, store__data):
        found.append(diagnosis)
        if not shared().as_json:
            print_lines(*diagnosis.lines())
    if shared().as_json:
        print_json(
            [{"check": one.name, "severity": one.severity, "text": one.text, "next": one.next_step} for one in found]
        )
    return 1 if any(one.severity == WRONG for one in found) else 0


def _diagnoses(config_file: Path | None, data: str | None) -> Iterator[Diagnosis]:
    yield from installation()
    if config_file is not None or data is not None or _names_a_node() or Path(Store().data).is_dir():
        yield from _node(config_file, data)
    else:
        yield Diagnosis(
            "node", OK, "none is named, and no folder data is here", "sealspace doctor --data DIR checks one"
        )
    if (config_file is None and data is None) or shared().names_login:
        yield from owner_checks(owner_home(), shared().node)
    else:  # a node may be well whatever node the person at this shell uses
        yield Diagnosis("login", OK, "not checked: a node is named", "sealspace doctor checks it")


def _node(config_file: Path | None, data: str | None) -> Iterator[Diagnosis]:
    missing = [module for module in EXTRAS["node"] if find_spec(module) is None]
    if missing:
        text = f"the extra node is not installed: there is no module {missing[0]}"
        yield Diagnosis("node", WRONG, text, "pip install 'sealspace[node]'")
        return
    try:
        config = config_from(config_file, {"store__data": data})
    except ConfigurationError as error:
        yield Diagnosis("settings", WRONG, error.text, error.hint)
        return
    yield Diagnosis("settings", OK, "well typed and known; sealspace config show prints them")
    from .node_checks import node_checks  # needs the extra

    yield from node_checks(config)


def _names_a_node() -> bool:
    owners = (NODE_VARIABLE, HOME_VARIABLE)
    return any(name.startswith(ENVIRONMENT_PREFIX) and name not in owners for name in os.environ)
