"""`sealspace receipts verify`: a receipt judged again, without the node."""

from pathlib import Path
from typing import Final

import click

from capabilities.ambient import SystemClock
from encryption_network.receipt import MAX_RECEIPT_BYTES
from sealspace.cli.paths import FILE, FOLDER, read_named
from sealspace.cli.terminal import facts, print_found, time_text

from ..attestation.receipt_check import VerifiedRelease, documents_in, judge_with, verify_release
from ..attestation.trust_root import intel_root
from .trust_files import read_collateral_file, read_trust_root


@click.command(
    "verify",
    epilog="Example: `sealspace receipts list --out kept`, then `sealspace receipts verify kept/receipts/….json "
    "--node-did DID`.",
)
@click.option(
    "--evidence", type=FOLDER, help="Folder of documents; `documents` beside the folder of the receipt by default."
)
@click.option("--node-did", required=True, metavar="DID", help="The node that has to have signed.")
@click.option("--trust-root", type=FILE, help="Root certificate instead of Intel's.")
@click.option("--collateral", type=FILE, help="Judge the code with this document too, as of now.")
@click.argument("receipt", metavar="FILE", type=FILE)
def verify(
    evidence: Path | None, node_did: str, trust_root: Path | None, collateral: Path | None, receipt: Path
) -> int:
    """Judge the receipt in FILE again from stored documents, as of then, without asking anybody.

    The status is 1 when today's verdict differs.
    """
    root = read_trust_root(trust_root) if trust_root else intel_root()
    folder = evidence or receipt.absolute().parent.parent / "documents"
    release = verify_release(
        read_named(receipt, most_bytes=MAX_RECEIPT_BYTES), documents_in(folder), root=root, node_did=node_did
    )
    today: dict[str, str | None] = {}
    if collateral is not None:
        today = judge_with(release, read_collateral_file(collateral), root=root, now=SystemClock().now())
    _print(release, today, was_judged_today=collateral is not None)
    return 1 if any(today.values()) else 0


def _print(release: VerifiedRelease, today: dict[str, str | None], *, was_judged_today: bool) -> None:
    said, number = release.receipt, len(release.policies)
    found: dict[str, object] = {
        "node": said.node,
        "network": said.network,
        "invoker": said.invoker,
        "ground": said.ground,
        "at": time_text(said.at),
    }
    shown = facts(
        {
            "holds": "the receipt is the node's, and the documents prove the release",
            **{_WORDS.get(name, name): value for name, value in found.items()},
            "under": f"{number} polic{'y' if number == 1 else 'ies'}",
        }
    )
    shown += [f"today    policy {digest}: {refusal or 'satisfied'}" for digest, refusal in today.items()]
    print_found(found | {"policies": number} | ({"today": today} if was_judged_today else {}), shown)


_WORDS: Final = {"invoker": "to", "ground": "why", "at": "time"}
"""Member as JSON -> what a person reads."""
