"""`sealspace admin receipts`: the receipts of releases in the store."""

import asyncio
import hashlib
from pathlib import Path

import click

from capabilities.errors import InvalidIdentifier
from capabilities.resources import NetworkId, parse_network_id
from encryption_network.errors import ReceiptError
from encryption_network.receipt import Receipt, parse_receipt
from sealspace.cli.errors import ConfigurationError
from sealspace.cli.lazy import Verbs
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_exactly, print_json
from sealspace.errors import ReceiptInvalid
from sealspace.receipts import documents_of
from spaces.documents.receipts import document_row_key, stored_receipts

from ..config.tree import Config
from .opened_store import opened_store
from .settings import store_options

_NETWORK_HELP = "Only of this network."


@click.group(cls=Verbs)
def receipts() -> None:
    """Print or export the receipts of releases, of every network of the store."""


@receipts.command("list")
@store_options
@click.option("--network", metavar="ID", help=_NETWORK_HELP)
def list_(config: Config, network: str | None) -> None:
    """Print receipts as they were signed, one JSON object a line; with --json, one array."""
    asyncio.run(_print(config, _network(network)))


@receipts.command("export")
@store_options
@click.option("--network", metavar="ID", help=_NETWORK_HELP)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export(config: Config, network: str | None, folder: Path) -> None:
    """Write receipts and every document they refer to into DIR, and print how many receipts there are."""
    print_json({"receipts": asyncio.run(_export(config, _network(network), folder))})


def _network(text: str | None) -> NetworkId | None:
    try:
        return None if text is None else parse_network_id(text)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"{text!r} is no network: {error.text}", hint="write urn:tinycloud:encryption:<DID>:<name>"
        ) from None


async def _print(config: Config, network: NetworkId | None) -> None:
    async with opened_store(config) as store:
        if shared().as_json:
            print_exactly(b"[" + b",".join([text async for text in stored_receipts(store, network)]) + b"]")
            return
        async for text in stored_receipts(store, network):
            print_exactly(text)


async def _export(config: Config, network: NetworkId | None, folder: Path) -> int:
    """Write `receipts/<SHA-256>.json` and `documents/<SHA-256>`."""
    kept, documents = folder / "receipts", folder / "documents"
    for made in (kept, documents):
        made.mkdir(parents=True, exist_ok=True)
    count = 0
    async with opened_store(config) as store:
        async for text in stored_receipts(store, network):
            (kept / f"{hashlib.sha256(text).hexdigest()}.json").write_bytes(text)
            digests = documents_of(_stored(text))
            found = (await store.read([document_row_key(digest) for digest in digests])).records
            for digest, record in zip(digests, found, strict=True):
                if record is not None and record.value is not None:
                    (documents / digest.hex()).write_bytes(record.value)
            count += 1
    return count


def _stored(text: bytes) -> Receipt:
    try:
        return parse_receipt(text)
    except ReceiptError as error:
        raise ReceiptInvalid(f"a stored receipt does not read: {error}", hint="restore a backup") from error
