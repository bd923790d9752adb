"""`sealspace doctor`: find what is wrong with an installation, a node or a login, and say what to do."""

import os
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import click

from ..config.loading import ENVIRONMENT_PREFIX
from ..config.tree import Store
from ..errors import ConfigurationError
from .diagnosis import OK, WRONG, Diagnosis
from .installation import installation
from .lazy import EXTRAS
from .operator.settings import config_from, data_options
from .owner.owner_checks import owner_checks
from .owner.owner_profile import owner_home
from .shared import HOME_VARIABLE, NODE_VARIABLE, shared
from .terminal import print_json, print_lines


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
    from .operator.node_checks import node_checks  # needs the extra

    yield from node_checks(config)


def _names_a_node() -> bool:
    owners = (NODE_VARIABLE, HOME_VARIABLE)
    return any(name.startswith(ENVIRONMENT_PREFIX) and name not in owners for name in os.environ)
