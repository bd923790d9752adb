"""`sealspace version`: print the version."""

import platform
from importlib.util import find_spec

import click

from .. import __version__
from .lazy import EXTRAS
from .terminal import print_found


@click.command()
def version() -> None:
    """Print the version; with `--json` also that of Python, and which extras are installed."""
    installed = [extra for extra, modules in EXTRAS.items() if all(map(find_spec, modules))]
    found = {"version": __version__, "python": platform.python_version(), "extras": installed}
    print_found(found, [__version__])
