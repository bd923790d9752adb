"""`sealspace admin receipts`: the receipts of releases in the store."""

from pathlib import Path

import click

from capabilities.errors import InvalidIdentifier
from capabilities.resources import NetworkId, parse_network_id
from encryption_network.errors import ReceiptError
from encryption_network.receipt import parse_receipt
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.lazy import Verbs
from sealspace.cli.paths import NEW_FOLDER, keep_receipt
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_exactly, print_json
from sealspace.errors import ReceiptInvalid
from sealspace.receipts import documents_of
from spaces.documents.receipts import stored_receipts
from spaces.keyspace import document_key
from spaces.store.contract import Store

from ..config.tree import Config
from .opened_store import on_store


def _network(text: str) -> NetworkId:
    try:
        return parse_network_id(text)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"{text!r} is no network: {error.text}", hint="write urn:tinycloud:encryption:<DID>:<name>"
        ) from None


_NETWORK = click.option("--network", metavar="ID", type=_network, help="Only of this network.")


@click.group(cls=Verbs)
def receipts() -> None:
    """Print or export the receipts of releases, of every network of the store."""


@receipts.command("list")
@on_store
@_NETWORK
async def list_(_: Config, store: Store, network: NetworkId | None) -> None:
    """Print receipts as they were signed, one JSON object a line; with --json, one array."""
    if shared().as_json:
        print_exactly(b"[" + b",".join([text async for text in stored_receipts(store, network)]) + b"]")
        return
    async for text in stored_receipts(store, network):
        print_exactly(text)


@receipts.command("export")
@on_store
@_NETWORK
@click.argument("folder", type=NEW_FOLDER)
async def export(_: Config, store: Store, network: NetworkId | None, folder: Path) -> None:
    """Write receipts and every document they refer to into DIR, and print how many receipts there are."""
    count = 0
    async for text in stored_receipts(store, network):
        try:
            digests = documents_of(parse_receipt(text))
        except ReceiptError as error:
            raise ReceiptInvalid(f"a stored receipt does not read: {error}", hint="restore a backup") from error
        found = (await store.read([document_key(digest) for digest in digests])).records
        documents = {digest: one.value for digest, one in zip(digests, found, strict=True) if one and one.value}
        keep_receipt(folder, text, documents)
        count += 1
    print_json({"receipts": count})
