"""`sealspace receipts verify`: a receipt judged again, without the node."""

from pathlib import Path

import click

from capabilities.ambient import SystemClock
from encryption_network.receipt import MAX_RECEIPT_BYTES
from sealspace.errors import ReceiptInvalid
from tee_backend.attestation.trust_root import intel_root
from tee_backend.receipt_check import VerifiedRelease, documents_in, judge_with, verify_release

from ...term_files import read_collateral_file, read_trust_root
from ..shared import shared
from ..terminal import print_json, print_lines, time_text


@click.command(
    "verify",
    epilog="Example: `sealspace receipts list --out kept`, then `sealspace receipts verify kept/receipts/….json "
    "--node-did DID`.",
)
@click.option(
    "--evidence",
    metavar="FOLDER",
    type=click.Path(path_type=Path),
    help="Folder of documents; `documents` beside the folder of the receipt by default.",
)
@click.option("--node-did", required=True, metavar="DID", help="The node that has to have signed.")
@click.option(
    "--trust-root",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Root certificate instead of Intel's.",
)
@click.option(
    "--collateral",
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="Judge the code with this document too, as of now.",
)
@click.argument("receipt", metavar="FILE", type=click.Path(path_type=Path))
def verify(
    evidence: Path | None, node_did: str, trust_root: Path | None, collateral: Path | None, receipt: Path
) -> int:
    """Judge the receipt in FILE again from stored documents, as of then, without asking anybody.

    The status is 1 when today's verdict differs.
    """
    root = read_trust_root(trust_root) if trust_root else intel_root()
    folder = evidence or receipt.absolute().parent.parent / "documents"
    release = verify_release(_read(receipt), documents_in(folder), root=root, node_did=node_did)
    today: dict[str, str | None] = {}
    if collateral is not None:
        today = judge_with(release, read_collateral_file(collateral), root=root, now=SystemClock().now())
    _print(release, today, was_judged_today=collateral is not None)
    return 1 if any(today.values()) else 0


def _print(release: VerifiedRelease, today: dict[str, str | None], *, was_judged_today: bool) -> None:
    said = release.receipt
    if shared().as_json:
        shown: dict[str, object] = {
            "node": said.node,
            "network": said.network,
            "invoker": said.invoker,
            "ground": said.ground,
            "at": time_text(said.at),
            "policies": len(release.policies),
        }
        print_json(shown | ({"today": today} if was_judged_today else {}))
        return
    number = len(release.policies)
    print_lines(
        "holds    the receipt is the node's, and the documents prove the release",
        f"node     {said.node}",
        f"network  {said.network}",
        f"invoker  {said.invoker}",
        f"why      {said.ground}",
        f"at       {time_text(said.at)}",
        f"under    {number} polic{'y' if number == 1 else 'ies'}",
        *(f"today    policy {digest}: {refusal or 'satisfied'}" for digest, refusal in today.items()),
    )


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as stream:
            return stream.read(MAX_RECEIPT_BYTES + 2)
    except OSError as error:
        reason = error.strerror or "unreadable"
        raise ReceiptInvalid(f"cannot read {path}: {reason}", hint=f"ls -l {path}") from None
