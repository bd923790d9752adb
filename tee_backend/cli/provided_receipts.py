"""Receipts of runs, which the package of the runner verifies.

Imports go downwards only, so that package names its module by an entry point.
"""

from typing import Protocol

from capabilities.siwe import parse_rfc3339
from capabilities.strict_json import JsonObject
from sealspace.apps.backends import Seen, Verified
from sealspace.cli.provided import load
from sealspace.documents.builds import Build
from sealspace.documents.published import Published

from ..attestation.inspection import Inspector


class VerifiedRun(Protocol):
    """A verified receipt of a run, with the runner's verified attestation."""

    @property
    def stated(self) -> JsonObject:
        """The contents of the receipt."""

    @property
    def start(self) -> Published:
        """The runner's startup document."""

    @property
    def runner(self) -> Verified:
        """The runner's code."""

    @property
    def build(self) -> Build | None:
        """The origin of the program, as the owners of the secrets verified it."""

    def is_about(self, *, salt: bytes, input: bytes | None, output: bytes) -> bool:
        """Return whether the receipt matches the given input and output (RN74)."""


class RunReceipts(Protocol):
    """Verification of receipts of runs."""

    @property
    def RECEIPT_TYPE(self) -> str:
        """The member `type` of a receipt."""

    @property
    def SALT_BYTES(self) -> int:
        """Length of the salt of its hashes."""

    async def verify_run(self, receipt: bytes, start: bytes, inspector: Inspector) -> VerifiedRun:
        """Verify a receipt with the runner's startup document, for the time that it states.

        Raises:
            StatementInvalid: the receipt or the document is invalid, or they do not belong
                together.
            BackendNotProven, CollateralNeeded: the quote is not valid.
        """


def run_receipts() -> RunReceipts:
    """Return what verifies receipts of runs."""
    loaded: RunReceipts = load("run-receipts")
    return loaded


def startup_evidence(run: VerifiedRun) -> Seen:
    """Return the verified startup evidence of a runner."""
    return Seen(
        url="",
        published=run.start,
        verified=run.runner,
        seen_at=parse_rfc3339(str(run.stated["at"])),
    )
