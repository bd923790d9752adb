"""`sealspace version`: print the version."""

import click

from .. import __version__


@click.command(short_help="Print the version.")
def version() -> None:
    """Print the version on standard output."""
    click.echo(__version__)
