"""`sealspace receipts verify`: a receipt judged again, without the node."""

from pathlib import Path

import click

from capabilities.ambient import SystemClock
from encryption_network.receipt import MAX_RECEIPT_BYTES
from sealspace.errors import ReceiptInvalid
from tee_backend.attestation.trust_root import intel_root
from tee_backend.receipt_check import documents_in, judge_with, verify_release

from ...term_files import read_collateral_file, read_trust_root
from ..terminal import print_json


@click.command("verify")
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
    print_json(shown)
    return 1 if any(today.values()) else 0


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_RECEIPT_BYTES + 2)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ReceiptInvalid(f"cannot read {path}: {reason}", hint=f"ls -l {path}") from None
