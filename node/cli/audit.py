"""`sealspace audit`: the chain over the audit records, and its verification without the node."""

import asyncio
from pathlib import Path
from typing import BinaryIO

import click
import msgspec

from capabilities.ambient import SystemClock, SystemEntropy
from encryption_network.keyring import Keyring
from spaces.audit_chain import MAX_ENTRY_BYTES, Chain, exported_lines, seal_batch
from spaces.audit_export import verify_export
from spaces.errors import AuditChainBroken
from spaces.identity import recorded_identity
from spaces.store.contract import Store

from ..config import Config
from ..errors import AuditRefuted, StoreMisused
from ..root_secret import load_root_secret
from .opened_store import opened_store
from .settings import config_from, data_options


@click.group(short_help="Export the chain over the audit records, or verify an export.")
def audit() -> None:
    """Export the chain over the audit records, or verify an export without the node."""


@audit.command("export")
@data_options
@click.option("--after", type=click.IntRange(min=0), default=0, help="Begin behind this entry.")
def export(config_file: Path | None, store__data: str | None, after: int) -> None:
    """Seal what is not sealed yet, sign a head over all, and print the chain as JSON lines."""
    asyncio.run(_export(config_from(config_file, {"store__data": store__data}), after))


@audit.command("verify")
@click.option("--node-did", required=True, metavar="DID", help="The node that has to have signed the heads.")
@click.argument("file", type=click.File("rb"))
def verify(node_did: str, file: BinaryIO) -> None:
    """Verify an exported chain in FILE (- for standard input) and print what it holds."""
    try:
        verified = verify_export(iter(lambda: file.readline(MAX_ENTRY_BYTES + 2), b""), node_did=node_did)
    except AuditChainBroken as error:
        raise AuditRefuted(f"the audit chain does not hold: {error}", hint="export it again") from error
    shown = {
        "store": verified.store_id.hex(),
        "after": verified.after,
        "number": verified.number,
        "hash": verified.hash.hex(),
        "heads": verified.heads,
    }
    click.echo(msgspec.json.encode(shown))


async def _export(config: Config, after: int) -> None:
    async with opened_store(config) as store:
        chain = await _chain(config, store)
        now = SystemClock().now()
        while (await seal_batch(store, chain, now=now, is_last=True)).more:
            pass
        async for line in exported_lines(store, chain, after=after):
            click.echo(line, nl=False)


async def _chain(config: Config, store: Store) -> Chain:
    """Return whose chain the store's is, when the secret at hand is the store's."""
    keyring = Keyring(load_root_secret(config, SystemEntropy()))
    identity = await recorded_identity(store)
    if identity is None or identity.node_did != keyring.node_did:
        raise StoreMisused(
            "the root secret at hand is not the one of this store", hint="name the store's secret with --config FILE"
        )
    return Chain(node_did=keyring.node_did, store_id=identity.store_id, sign=keyring.node_signer.sign)
