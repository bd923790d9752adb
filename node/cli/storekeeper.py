"""`sealspace storekeeper`: the process that writes the store; started by `serve`."""

import click

from ..processes.storekeeper import main


@click.command(hidden=True)
def storekeeper() -> int:
    """Write the store for a supervisor's workers."""
    return main()
