"""The operator's command `sealspace runner credit`."""

import asyncio
import secrets
from pathlib import Path

import click

from sealspace.apps.api_keys import MAX_AMOUNT
from sealspace.cli.options.paths import FOLDER
from sealspace.cli.terminal import print_result

from ..http.operator_routes import MAX_REFERENCE_CHARS, ask_operator


@click.command(
    epilog="Example: `sealspace runner credit did:key:z6Mk… 5000000 --data runner --reference"
    " invoice-7`. Without `--reference`, running the command twice adds the credit twice.",
)
@click.argument("owner", metavar="DID|0x…")
@click.argument("amount", type=click.IntRange(0, MAX_AMOUNT))
@click.option(
    "--data",
    "folder",
    required=True,
    type=FOLDER,
    help="Data folder of the runner. The runner must be running.",
)
@click.option(
    "--reference",
    help="Name of this credit. Adding the same credit again under this name changes nothing.",
)
def credit(owner: str, amount: int, folder: Path, reference: str | None) -> None:
    """Add NUMBER micro-units to an owner's account at a runner.

    The runner is on this machine. The account is printed. If NUMBER is 0, the account is printed
    unchanged. The command uses a socket in the runner's data folder, which only root and the
    runner's user can open.
    """
    if reference is not None and not 0 < len(reference) <= MAX_REFERENCE_CHARS:
        raise click.UsageError(f"--reference must have 1 to {MAX_REFERENCE_CHARS} characters")
    unique_reference = reference or f"unnamed {secrets.token_hex(16)}"
    account = asyncio.run(
        ask_operator(folder, {"owner": owner, "amount": amount, "reference": unique_reference})
    )
    print_result(
        account,
        [f"{name}: {account.get(name)}" for name in ("owner", "balance", "reserved", "charged")],
    )
