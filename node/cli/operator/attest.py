"""`sealspace attest`: receipts of releases, and their verification without the node."""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path

import click

from capabilities.ambient import SystemClock
from capabilities.errors import InvalidIdentifier
from capabilities.resources import NetworkId, parse_network_id
from encryption_network.errors import ReceiptError
from encryption_network.receipt import MAX_RECEIPT_BYTES, Receipt, parse_receipt
from spaces.documents.receipts import document_row_key, stored_receipts
from tee_backend.attestation.trust_root import intel_root

from ...collateral.intake import read_collateral_file
from ...config.tree import Config
from ...errors import ConfigurationError, ReceiptRefuted
from ...operations.releases.receipt_check import documents_in, judge_with, verify_release
from ...term_files import read_trust_root
from ..owner.attest_node import node
from ..terminal import tell_exactly, tell_json
from .opened_store import opened_store
from .settings import config_from, data_options

_NETWORK_HELP = "Only of this network."


@click.group(short_help="Show receipts of releases, or verify one.")
def attest() -> None:
    """Show receipts of releases, or verify one without the node; ask a node what code it runs."""


attest.add_command(node)


@attest.command("receipts")
@data_options
@click.option("--network", metavar="ID", help=_NETWORK_HELP)
def receipts(config_file: Path | None, store__data: str | None, network: str | None) -> None:
    """Print receipts, one JSON object a line."""
    asyncio.run(_print(config_from(config_file, {"store__data": store__data}), _network(network)))


@attest.command("export")
@data_options
@click.option("--network", metavar="ID", help=_NETWORK_HELP)
@click.argument("folder", type=click.Path(path_type=Path, file_okay=False))
def export(config_file: Path | None, store__data: str | None, network: str | None, folder: Path) -> None:
    """Write receipts and every document they refer to into FOLDER, and print how many receipts there are."""
    config = config_from(config_file, {"store__data": store__data})
    tell_json({"receipts": asyncio.run(_export(config, _network(network), folder))})


@attest.command("verify")
@click.option("--evidence", type=click.Path(path_type=Path), required=True, help="Folder of documents.")
@click.option("--node-did", required=True, metavar="DID", help="The node that has to have signed.")
@click.option("--trust-root", type=click.Path(path_type=Path), help="Root certificate instead of Intel's.")
@click.option("--collateral", type=click.Path(path_type=Path), help="Judge the code with this document too, as of now.")
@click.argument("receipt", type=click.Path(path_type=Path))
def verify(evidence: Path, node_did: str, trust_root: Path | None, collateral: Path | None, receipt: Path) -> int:
    """Judge RECEIPT again from stored documents, as of then; ends with status 1 when today's verdict differs."""
    root = read_trust_root(trust_root) if trust_root else intel_root()
    release = verify_release(_read(receipt), documents_in(evidence), root=root, node_did=node_did)
    shown: dict[str, object] = {
        "node": release.receipt.node,
        "network": release.receipt.network,
        "invoker": release.receipt.invoker,
        "ground": release.receipt.ground,
        "atMicros": release.receipt.at_micros,
        "policies": len(release.policies),
    }
    today: dict[str, str | None] = {}
    if collateral is not None:
        today = judge_with(release, read_collateral_file(collateral), root=root, now=SystemClock().now())
        shown["today"] = today
    tell_json(shown)
    return 1 if any(today.values()) else 0


def _network(text: str | None) -> NetworkId | None:
    try:
        return None if text is None else parse_network_id(text)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"{text!r} is no network: {error.text}", hint="write urn:tinycloud:encryption:<DID>:<name>"
        ) from None


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_RECEIPT_BYTES + 2)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ReceiptRefuted(f"cannot read {path}: {reason}", hint=f"ls -l {path}") from None


async def _print(config: Config, network: NetworkId | None) -> None:
    async with opened_store(config) as store:
        async for text in stored_receipts(store, network):
            tell_exactly(text)


async def _export(config: Config, network: NetworkId | None, folder: Path) -> int:
    """Write `receipts/<SHA-256>.json` and `documents/<SHA-256>`."""
    kept, documents = folder / "receipts", folder / "documents"
    for made in (kept, documents):
        made.mkdir(parents=True, exist_ok=True)
    count = 0
    async with opened_store(config) as store:
        async for text in stored_receipts(store, network):
            (kept / f"{hashlib.sha256(text).hexdigest()}.json").write_bytes(text)
            digests = tuple(_referred(_stored(text)))
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
        raise ReceiptRefuted(f"a stored receipt does not read: {error}", hint="restore a backup") from error


def _referred(receipt: Receipt) -> Iterator[bytes]:
    yield from receipt.policies
    judged = receipt.evidence
    if judged is not None:
        digests = (judged.record, judged.quote, judged.event_log, judged.collateral)
        yield from (digest for digest in digests if digest is not None)
