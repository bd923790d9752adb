"""`sealspace receipts list`: who got keys of the owner's network, checked."""

import asyncio
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

import click

from capabilities.strict_json import Json
from encryption_network.receipt import Receipt, encode_receipt, receipt_json
from sealspace.printable import printable
from sealspace.receipts import digest_of, named_receipt
from spaces.audit.chain import MAX_ENTRY_BYTES
from spaces.audit.export import verify_export
from spaces.errors import AuditChainBroken

from ...errors import AuditRefuted
from ..shared import shared
from ..terminal import print_json, print_lines, words
from .owner_profile import OwnerHome, owner_home


@click.command(
    "list",
    epilog="Examples: `sealspace receipts list`; `sealspace receipts list --out DIR`, then `sealspace receipts verify "
    "FOLDER/receipts/….json --evidence FOLDER/documents --node-did DID` judges a release anew, without the node; the "
    "first command says the DID.",
)
@click.option(
    "--out", type=click.Path(path_type=Path, file_okay=False), help="Keep receipts and their documents in a folder."
)
@click.option(
    "--audit", type=click.File("rb"), help="Look every receipt up in this export of the audit chain, and verify that."
)
def list_(out: Path | None, audit: BinaryIO | None) -> int:
    """Print the receipts of the owner's network, oldest first; the node's signature on each is checked.

    With --audit the status is 1 when a receipt is missing from the chain.
    """
    found = asyncio.run(_fetch(owner_home(), out))
    places = None if audit is None or not found else _places(audit, node_did=found[0].node)
    missing = 0
    for receipt in found:
        place = None if places is None else places.get(digest_of(receipt))
        missing += places is not None and place is None
        if shared().as_json:
            shown: dict[str, Json] = {} if places is None else {"auditEntry": place}
            print_json({**receipt_json(receipt), **shown})
        else:
            print_lines(_line(receipt) + ("" if places is None else f"  {_place_words(place)}"))
    # The value that `receipts verify --node-did` needs.
    words(f"{len(found)} receipts, each signed by the node {found[0].node}" if found else "no receipts")
    return 1 if missing else 0


async def _fetch(home: OwnerHome, out: Path | None) -> list[Receipt]:
    async with home.client() as client:
        found = []
        async for receipt in client.receipts.all():
            found.append(receipt)
            if out is not None:
                _keep(out, receipt, await client.receipts.documents(receipt))
        return found


def _keep(folder: Path, receipt: Receipt, documents: dict[bytes, bytes]) -> None:
    """Write a receipt and its documents as `sealspace admin receipts export` does."""
    for made in ("receipts", "documents"):
        (folder / made).mkdir(parents=True, exist_ok=True)
    (folder / "receipts" / f"{digest_of(receipt).hex()}.json").write_bytes(encode_receipt(receipt))
    for digest, document in documents.items():
        (folder / "documents" / digest.hex()).write_bytes(document)


def _places(audit: BinaryIO, *, node_did: str) -> dict[bytes, int]:
    """Verify an export, and return the number in the chain of each receipt."""
    places: dict[bytes, int] = {}

    def note(number: int, entry: bytes) -> None:
        digest = named_receipt(entry)
        if digest is not None:
            places[digest] = number

    try:
        verify_export(iter(lambda: audit.readline(MAX_ENTRY_BYTES + 2), b""), node_did=node_did, on_entry=note)
    except AuditChainBroken as error:
        raise AuditRefuted(
            f"the audit chain does not hold: {error}", hint="ask the operator for a new export"
        ) from error
    return places


def _line(receipt: Receipt) -> str:
    at = datetime.fromtimestamp(receipt.at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
    return f"{at}  {printable(receipt.ground):<13}  {printable(receipt.invoker)}"


def _place_words(place: int | None) -> str:
    return "NOT in the audit chain" if place is None else f"audit entry {place}"
