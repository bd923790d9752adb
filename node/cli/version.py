"""`sealspace version`: print the version."""

import click

from .. import __version__
from .terminal import print_lines


@click.command()
def version() -> None:
    """Print the version on standard output."""
    print_lines(__version__)
