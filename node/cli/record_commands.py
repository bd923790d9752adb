"""The commands `sealspace admin audit` and `receipts`."""

from pathlib import Path
from typing import BinaryIO

import click

from capabilities.audit_export import MAX_ENTRY_BYTES, verify_export
from capabilities.capability_errors import AuditChainBroken, InvalidIdentifier
from capabilities.clock_and_entropy import SystemClock
from capabilities.resources import NetworkId, parse_network_id
from encryption_network.network_errors import ReceiptError
from encryption_network.receipt import parse_receipt
from sealspace.cli.lazy import Verbs
from sealspace.cli.options.paths import NEW_FOLDER, keep_receipt, make_receipt_folder
from sealspace.cli.shared import shared
from sealspace.cli.terminal import print_exactly, print_json, tell
from sealspace.errors import ReceiptInvalid
from sealspace.receipts import documents_of
from sealspace.service.command_errors import AuditRefuted, ConfigurationError
from spaces.audit.audit_chain import Chain, exported_lines, seal_batch
from spaces.audit.pruning import note_exported, read_pruning
from spaces.documents.receipt_rows import stored_receipts
from spaces.keyspace import document_key
from spaces.store.contract import Store

from ..config.tree import Config
from ..storage.objects import started_id
from .opened_store import on_store, own_keyring


@click.group(cls=Verbs)
def audit() -> None:
    """Export the audit log, and record which exports are saved.

    Old records whose export was saved may then be removed from the store.
    """


@audit.command("export")
@on_store
@click.option(
    "--after", type=click.IntRange(min=0), default=0, help="Begin after the entry with this number."
)
async def export_audit(config: Config, store: Store, after: int) -> None:
    """Print the audit log as JSON lines.

    New records are added to the log's hash chain first. The last line is a signed head that covers
    every record.
    """
    chain = await _chain(config, store)
    cut = (await read_pruning(store)).pruned
    if cut > after:
        tell(
            f"entries up to {cut} were removed from the store; the export starts with a signed head"
            " that covers the removed entries"
        )
    now = SystemClock.now()
    has_more = True
    while has_more:
        sealed = await seal_batch(store, chain, now=now, is_last=True)
        has_more = sealed.more
    async for line in exported_lines(store, chain, after=after):
        print_exactly(line.removesuffix(b"\n"))


@audit.command("kept")
@on_store
@click.argument("file", type=click.File("rb"))
async def kept(config: Config, store: Store, file: BinaryIO) -> None:
    """Record that an export of the audit log has been saved.

    FILE is the export, saved outside the node's store. The command verifies FILE and compares it
    with the chain. The node may then remove the records in FILE from the store, as set by
    `retention.audit_days`.
    """
    chain = await _chain(config, store)
    last_entry = b""

    def note_entry(_number: int, text: bytes) -> None:
        nonlocal last_entry
        last_entry = text

    try:
        # FILE may be anything, also one endless line, so each read is limited. The limit is above
        # the longest valid line, so that a longer one is refused.
        lines = iter(lambda: file.readline(MAX_ENTRY_BYTES + 2), b"")
        verified = verify_export(lines, node_did=chain.node_did, on_entry=note_entry)
    except AuditChainBroken as error:
        raise AuditRefuted(
            f"the export is not a valid audit chain: {error}", hint="export it again"
        ) from error
    # Entries that were removed without an export are gone, and no export can contain them. They
    # must not prevent later exports from being confirmed.
    progress = await read_pruning(store)
    before = max(progress.exported, progress.pruned)
    if verified.after > before:
        raise AuditRefuted(
            f"entries are missing: this export starts after entry {verified.after}, but the earlier"
            f" exports end at entry {before}",
            hint=f"sealspace admin audit export --after {before}",
        )
    if verified.store_id != chain.store_id or not last_entry:
        raise AuditRefuted(
            "the export is empty or belongs to another store", hint="export it again"
        )
    if not await note_exported(store, number=verified.number, entry=last_entry):
        raise AuditRefuted(
            "the export's last entry differs from this store's", hint="export it again"
        )
    print_json({"kept": verified.number})


async def _chain(config: Config, store: Store) -> Chain:
    """Return the parameters for signing the node's audit log.

    They are the DID of the node, the id of its store, and a function that signs.
    """
    keyring = await own_keyring(config, store)
    return Chain(
        node_did=keyring.node_did,
        store_id=await started_id(store),
        sign=keyring.node_signer.sign,
    )


# --- receipts -------------------------------------------------------------------------------------


def _network(text: str) -> NetworkId:
    try:
        return parse_network_id(text)
    except InvalidIdentifier as error:
        raise ConfigurationError(
            f"{text!r} is not a network id: {error.text}",
            hint="use the form urn:tinycloud:encryption:<DID>:<name>",
        ) from None


_NETWORK = click.option(
    "--network", metavar="ID", type=_network, help="Only receipts of this network."
)


@click.group(cls=Verbs)
def receipts() -> None:
    """Print or export the receipts of key releases."""


@receipts.command("list")
@on_store
@_NETWORK
async def list_(_: Config, store: Store, network: NetworkId | None) -> None:
    """Print the signed receipts of key releases as JSON lines.

    With --json, print one array.
    """
    if shared().as_json:
        print_exactly(
            b"[" + b",".join([text async for text in stored_receipts(store, network)]) + b"]"
        )
        return
    async for text in stored_receipts(store, network):
        print_exactly(text)


@receipts.command("export")
@on_store
@_NETWORK
@click.argument("folder", type=NEW_FOLDER)
async def export_receipts(_: Config, store: Store, network: NetworkId | None, folder: Path) -> None:
    """Write receipts into a folder, with the documents that they cite.

    DIR is the folder. The command prints the number of receipts.
    """
    make_receipt_folder(folder)
    count = 0
    async for text in stored_receipts(store, network):
        try:
            digests = documents_of(parse_receipt(text))
        except ReceiptError as error:
            raise ReceiptInvalid(
                f"a stored receipt cannot be read: {error}", hint="restore a backup"
            ) from error
        rows = (await store.read([document_key(digest) for digest in digests])).records
        documents = {
            digest: row.value
            for digest, row in zip(digests, rows, strict=True)
            if row is not None and row.value
        }
        keep_receipt(folder, text, documents)
        count += 1
    print_json({"receipts": count})
