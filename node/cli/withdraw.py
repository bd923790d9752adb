"""`sealspace admin withdraw`: take code, a backend or evidence out of every release, everywhere at once."""

import asyncio

import click

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.errors import RecordError, WithdrawalError
from encryption_network.withdrawals import Withdrawals, parse_withdrawal
from sealspace.cli.errors import ConfigurationError, StoreMisused
from sealspace.cli.terminal import print_json

from ..config.tree import Config
from ..operations.releases.withdrawal import withdraw_everywhere, withdrawals_json
from .opened_store import opened_store
from .settings import store_options


@click.command()
@store_options
@click.option("--measurement", metavar="HEX", help="A register (96 hex digits) or a compose hash (64).")
@click.option("--did", metavar="DID", help="A backend, and every delegation that it signed or received.")
@click.option("--evidence", metavar="DIGEST", help="Evidence by its SHA-256, as receipts and the audit name it.")
def withdraw(config: Config, measurement: str | None, did: str | None, evidence: str | None) -> None:
    """Withdraw code, a backend or evidence for every network of the store; prints all that is withdrawn so."""
    named = {"measurement": measurement, "did": did, "evidence": evidence}
    given = [{name: value} for name, value in named.items() if value is not None]
    if len(given) != 1:
        raise click.UsageError("name exactly one of --measurement, --did and --evidence")
    try:
        listed = asyncio.run(_withdraw(config, parse_withdrawal({**given[0]})))
    except WithdrawalError as error:
        raise ConfigurationError(error.text, hint="sealspace admin withdraw --help") from None
    except RecordError as error:
        raise StoreMisused(f"the store cannot be read: {error}", hint="sealspace doctor") from error
    print_json(withdrawals_json(listed))


async def _withdraw(config: Config, entry: Withdrawals) -> Withdrawals:
    async with opened_store(config) as store:
        return await withdraw_everywhere(store, entry, now=SystemClock().now(), entropy=SystemEntropy())
