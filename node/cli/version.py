"""`sealspace version`: print the version."""

import platform
from importlib.util import find_spec

import click

from .. import __version__
from .lazy import EXTRAS
from .shared import shared
from .terminal import print_json, print_lines


@click.command()
def version() -> None:
    """Print the version; with `--json` also that of Python, and which extras are installed."""
    if shared().as_json:
        installed = [extra for extra, modules in EXTRAS.items() if all(map(find_spec, modules))]
        print_json({"version": __version__, "python": platform.python_version(), "extras": installed})
    else:
        print_lines(__version__)
