"""`sealspace runner credit`: the operator of a runner adds to an owner's account."""

import asyncio
import secrets
from pathlib import Path

import click

from sealspace.apps.api_keys import MAX_AMOUNT
from sealspace.cli.paths import FOLDER
from sealspace.cli.terminal import print_found

from ..runner.http.operator_routes import MAX_REFERENCE_CHARS, ask_operator


@click.command(
    "credit",
    epilog=(
        "Example: `sealspace runner credit did:key:z6Mk… 5000000 --data runner --reference"
        " invoice-7`. Without `--reference`, each call of this command is a credit of its own."
    ),
)
@click.argument("owner", metavar="DID|0x…")
@click.argument("amount", type=click.IntRange(0, MAX_AMOUNT))
@click.option(
    "--data",
    "folder",
    required=True,
    type=FOLDER,
    help="The folder of the runner, which has to be running.",
)
@click.option("--reference", help="Names this credit: a second one with it changes nothing.")
def credit(owner: str, amount: int, folder: Path, reference: str | None) -> None:
    """Add AMOUNT micro-units to the account of an owner at the runner whose folder this is, and
    print the account.

    An AMOUNT of 0 shows it. The runner is asked on a socket in its folder: only the user that runs
    it, and root, can.
    """
    if reference is not None and not 0 < len(reference) <= MAX_REFERENCE_CHARS:
        raise click.UsageError(f"--reference has 1 to {MAX_REFERENCE_CHARS} characters")
    named = reference or f"unnamed {secrets.token_hex(16)}"
    account = asyncio.run(
        ask_operator(folder, {"owner": owner, "amount": amount, "reference": named})
    )
    print_found(
        account,
        [f"{name}: {account.get(name)}" for name in ("owner", "balance", "reserved", "charged")],
    )
