"""`sealspace worker`: one worker; started by `serve`, which communicates with it over its standard streams."""

import click

from ..processes.worker import main


@click.command(hidden=True)
def worker() -> int:
    """Serve requests for a supervisor."""
    return main()
