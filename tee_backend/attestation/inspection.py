"""Verification of a backend's published evidence (AT52).

Owners run it on their own machines. It uses the same code as a node, with collateral that the owner
chose: a folder of documents, or Intel's service. Statements of the backend about its own platform
are not used.

This module needs the quote library (`pip install 'sealspace[verify]'`). Without it the SDK knows
this module only as a Protocol.

Example:
    inspector = Inspector(CollateralFolder(Path("collateral")), root=intel_root())
    seen = await fetch_evidence("https://backend.example", inspector)
"""

import asyncio
import hashlib
from dataclasses import dataclass
from pathlib import Path

from capabilities.strict_json import Json
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from sealspace.apps.backends import ValidWindow, Verified
from sealspace.documents.published import Published
from sealspace.errors import BackendNotProven, CollateralNeeded
from sealspace.private_files import file_fault, read_foreign

from .attestation_errors import AttestationError, CollateralUnusable, MalformedCertificate
from .certificates import SIMULATED_FMSPC, PlatformCa
from .collateral import MAX_COLLATERAL_BYTES, Collateral, CollateralProvider, HeldCollateral
from .event_log_claims import EventLogClaims
from .examine import bind_quote, examine_with
from .pcs import INTEL_SERVICE_URL, CollateralService
from .report_data import Binding, published_binding
from .trust_root import TrustRoot, intel_root

# Message and next step by the code of the failed check; other codes are reported by name.
_FINDINGS: dict[str, tuple[str, str]] = {
    "report-data": (
        (
            "the quote does not match the answer: nonce, DID, manifest or compose file were changed"
            " in transit"
        ),
        "try again; if it happens again, the connection is being tampered with: do not grant",
    ),
    "td-attributes": (
        "the trust domain's memory is not protected: debug mode, migratable, or an invalid state",
        "do not grant: the operator can read the memory; ask the operator to use production mode",
    ),
    "revoked": (
        "the platform's certificate or its TCB level is revoked",
        "do not grant; the backend has to move to another machine",
    ),
    "tcb-too-old": (
        "the platform is older than every published TCB level",
        "do not grant; the platform needs updates",
    ),
    "event-log": (
        "the event log does not match the quote's registers",
        "try again; if it happens again, do not grant: another application may be running",
    ),
    "key-provider": (
        "the application has no key provider, or a key provider that only the host vouches for",
        "do not grant; ask the backend's operator to use a key service",
    ),
    "untrusted-root": (
        "the quote's certificates do not end at the root certificate that you trust",
        "for a simulated platform, which proves nothing, add the root: --trust-root FILE",
    ),
}


@dataclass
class CollateralFolder:
    """A collateral source that reads JSON files from a folder.

    The files have the format that nodes import.
    """

    _folder: Path

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the newest collateral document for a platform family."""
        documents = await asyncio.to_thread(self._read)
        try:
            provider = HeldCollateral(documents)
        except CollateralUnusable as error:
            raise CollateralNeeded(
                f"the collateral in {self._folder} was refused: {error.code}: {error.detail}",
                problem=error.code,
                hint=f"check the files in {self._folder}",
            ) from error
        try:
            return await provider.collateral(fmspc, ca)
        except CollateralUnusable as error:
            raise CollateralNeeded(
                f"no collateral for platform family {fmspc.hex()} ({ca}) in {self._folder}",
                problem="collateral-missing",
                hint=f"put collateral for this platform family into {self._folder}, or omit"
                " --collateral to fetch collateral from Intel",
            ) from error

    def _read(self) -> list[bytes]:
        """Return the bytes of all documents in the folder, by name."""
        documents = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                # One byte more than allowed is read, so that the parser refuses a longer document.
                documents.append(read_foreign(path, most_bytes=MAX_COLLATERAL_BYTES))
            except OSError as error:
                reason, step = file_fault(path, error.errno)
                raise CollateralNeeded(
                    f"cannot read {path}: {reason}",
                    problem="collateral-malformed",
                    hint=step,
                ) from error
        return documents


class FetchedCollateral:
    """A collateral source that queries Intel's service."""

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Fetch the collateral document for a platform family."""
        if fmspc == SIMULATED_FMSPC:
            raise CollateralNeeded(
                "this backend is simulated, so its quote proves nothing",
                problem="collateral-missing",
                hint="in development, add --trust-root tee/root-ca.pem --collateral tee/collateral,"
                " where tee is the folder that `sealspace backend simulate` made",
            )
        try:
            return await CollateralService().collateral(fmspc, ca)
        except CollateralUnusable as exc:
            raise CollateralNeeded(
                f"{INTEL_SERVICE_URL} returned no collateral for platform family {fmspc.hex()}:"
                f" {exc.code}",
                problem=exc.code,
                hint="try again later, or put the collateral document into a folder and add"
                " --collateral FOLDER",
            ) from exc


class Inspector:
    """A verifier of backends' published evidence.

    Implements the SDK's `EvidenceVerifier`.
    """

    def __init__(self, source: CollateralProvider, *, root: TrustRoot | None = None) -> None:
        self._source = source
        self._root = root or intel_root()

    async def verify(self, published: Published, *, now: float) -> Verified:
        """Verify a backend's published evidence.

        Cheap checks run first.

        Raises:
            BackendNotProven: a check failed; `problem` names it.
            CollateralNeeded: there is no collateral, or none that is valid now.
        """
        statement = published.statement
        # The quote has to name the nonce and everything that is published (AT51).
        binding = published_binding(published.nonce, statement.did, statement.sha256)
        return await self.verify_bound(
            published.quote,
            binding,
            event_log=published.event_log,
            compose=statement.compose,
            now=now,
        )

    async def verify_bound(
        self,
        quote: bytes,
        binding: Binding,
        *,
        event_log: list[Json] | None,
        compose: str | None,
        now: float,
    ) -> Verified:
        """Verify that a quote is genuine and has the expected report data."""
        try:
            bound = bind_quote(quote, binding, event_log=event_log, accepted=DEFAULT_KEY_PROVIDERS)
            _check_compose(compose, bound.claims)  # cheap, so before collateral is fetched
            evidence, collateral = await examine_with(bound, self._source, root=self._root, now=now)
        except AttestationError as exc:
            raise _convert_error(exc) from exc
        return Verified(
            evidence=evidence,
            ca=collateral.ca,
            windows=tuple(
                ValidWindow(name=part, starts_at=window.starts_at, ends_at=window.ends_at)
                for part, window in collateral.windows
            ),
            root_is_intel=self._root.is_intel,
        )


def _check_compose(compose: str | None, claims: EventLogClaims | None) -> None:
    """Check the hash of a compose file against the event log (AT52)."""
    if compose is None:
        return
    if claims is None:
        raise BackendNotProven(
            "the backend publishes a compose file without the event log that verifies it",
            problem="event-log",
        )
    if hashlib.sha256(compose.encode()).digest() != claims.compose_hash:
        raise BackendNotProven(
            "the published compose file differs from the file that the backend runs",
            problem="compose",
        )


def _convert_error(error: AttestationError) -> BackendNotProven | CollateralNeeded:
    """Convert a verification error to an error of the SDK, with the next step for the owner."""
    if error.code == "collateral-window":
        return CollateralNeeded(
            f"the collateral is not valid now: {error.detail}",
            problem=error.code,
            hint="get new collateral for the platform family, or omit --collateral to use Intel's",
        )
    if isinstance(error, CollateralUnusable | MalformedCertificate):
        return CollateralNeeded(
            f"this quote cannot be verified with the collateral: {error.code}", problem=error.code
        )
    if error.code in _FINDINGS:
        message, hint = _FINDINGS[error.code]
        return BackendNotProven(message, problem=error.code, hint=hint)
    return BackendNotProven(
        f"the backend's evidence is not valid: {error.code}", problem=error.code
    )
