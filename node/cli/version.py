"""`sealspace version`: print the version."""

import click

from .. import __version__
from .terminal import tell


@click.command()
def version() -> None:
    """Print the version on standard output."""
    tell(__version__)
