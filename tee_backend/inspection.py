"""Verifying what a backend published, on the machine of whoever wants to grant to it (AT52).

The same code that a node verifies with, and collateral that the one who asks chose: a folder of documents, or Intel's
service. What the backend says about its own platform is not used.

Needs the quote library (`pip install 'sealspace[verify]'`); the SDK without it knows this module by a Protocol only.

Example:
    inspector = Inspector(CollateralFolder(Path("collateral")), root=intel_root())
    seen = await look_at("https://backend.example", inspector)
"""

import asyncio
import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Final, Protocol

import aiohttp

from encryption_network.key_providers import key_provider_text
from encryption_network.policy import Evidence
from sealspace.backends import ValidWindow, Verified
from sealspace.errors import BackendNotProven, CollateralNeeded
from sealspace.published import Published
from tee_backend.attestation.application import EventLogClaims, check_key_provider
from tee_backend.attestation.certificates import PlatformCa
from tee_backend.attestation.collateral import (
    MAX_COLLATERAL_BYTES,
    Collateral,
    CollateralFile,
    parse_collateral_file,
)
from tee_backend.attestation.errors import (
    AttestationError,
    CollateralOutsideWindow,
    CollateralUnusable,
    MalformedCertificate,
    TrustRootRefused,
)
from tee_backend.attestation.event_log import read_event_log
from tee_backend.attestation.event_log_claims import verify_event_log
from tee_backend.attestation.judgement import to_evidence
from tee_backend.attestation.pcs import CollateralService, ServiceSettings
from tee_backend.attestation.quote import Quote, parse_quote
from tee_backend.attestation.report_data import check_report_data, published_report_data
from tee_backend.attestation.trust_root import TrustRoot, intel_root
from tee_backend.attestation.verify import VerifiedQuote, verify_quote

MAX_FOLDER_FILES: Final = 256

# What does not hold -> what to say and to do; every other kind is said by its own name.
_SAID: Final[dict[str, tuple[str, str]]] = {
    "report_data": (
        "the quote is not about this answer: nonce, DID, manifest or compose file were changed on the way",
        "ask again; if it stays, somebody stands between you and the backend: do not grant",
    ),
    "td_attributes": (
        "the trust domain is in a state that proves nothing: debugged, migratable, or impossible",
        "do not grant: its operator can read its memory; ask for one that runs in production mode",
    ),
    "revoked": ("the platform's certificate or level is revoked", "do not grant; the backend has to move elsewhere"),
    "tcb_too_old": (
        "the platform is older than every level that is listed",
        "do not grant; the platform needs updates",
    ),
    "event_log": (
        "the event log is not the one that the quote's registers tell of",
        "ask again; if it stays, do not grant: the application that it names did not start this way",
    ),
    "key_provider": (
        "the application's keys come from nobody, or from a provider on its host's own word",
        "do not grant; ask the backend's operator for one with a key service",
    ),
    "untrusted_root": (
        "the quote ends at another root certificate than the one you trust",
        "a simulated platform has a root of its own: --trust-root FILE, for trying things out only",
    ),
}


class CollateralSource(Protocol):
    """Where the one who asks has collateral from."""

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the document for one platform family and authority; raises CollateralNeeded."""
        ...


class CollateralFolder:
    """Documents as files `*.json` of a folder, as `sealspace collateral` and nodes read them.

    Args:
        folder: read anew each time.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the newest document for the family.

        Raises:
            CollateralNeeded: the folder has none.
        """
        found = await asyncio.to_thread(lambda: list(self._documents()))
        fitting = [one.collateral for one in found if (one.fmspc, one.ca) == (fmspc, ca)]
        if not fitting:
            raise CollateralNeeded(
                f"no collateral for platform family {fmspc.hex()} ({ca}) in {self._folder}",
                problem="collateral-missing",
                hint=f"put the family's document into {self._folder}, or leave --collateral out to ask Intel",
            )
        return max(fitting, key=lambda one: one.starts_at)

    def _documents(self) -> Iterator[CollateralFile]:
        for path in sorted(self._folder.glob("*.json"))[:MAX_FOLDER_FILES]:
            try:
                with path.open("rb") as stream:
                    yield parse_collateral_file(stream.read(MAX_COLLATERAL_BYTES + 1))
            except (OSError, AttestationError):
                continue  # another's file; a family without a document is said above


class FetchedCollateral:
    """Intel's service, or a mirror of it, asked each time.

    Args:
        settings: which service.
    """

    def __init__(self, settings: ServiceSettings | None = None) -> None:
        self._settings = settings or ServiceSettings()

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Fetch the document for the family.

        Raises:
            CollateralNeeded: the service has none, or does not answer.
        """
        async with aiohttp.ClientSession() as session:
            try:
                return (await CollateralService(session, self._settings).collateral(fmspc, ca)).collateral
            except CollateralUnusable as exc:
                raise CollateralNeeded(
                    f"{self._settings.base_url} gives no collateral for platform family {fmspc.hex()}: {exc.code}",
                    problem=exc.code,
                    hint="try again later, or keep the document in a folder and name it: --collateral FOLDER",
                ) from exc


class Inspector:
    """Verifies evidence for whoever wants to grant; an `EvidenceVerifier` of the SDK.

    Args:
        source: of collateral.
        root: where chains have to end; None: Intel's.
    """

    def __init__(self, source: CollateralSource, *, root: TrustRoot | None = None) -> None:
        self._source = source
        self._root = root or intel_root()

    async def verify(self, published: Published, *, now: float) -> Verified:
        """Verify quote, event log and what they bind; cheap before expensive.

        Raises:
            BackendNotProven: something does not hold; `problem` names it.
            CollateralNeeded: there is no collateral, or none that holds now.
        """
        try:
            quote = parse_quote(published.quote)
            statement = published.statement
            expected = published_report_data(published.nonce, statement.did, statement.sha256)
            check_report_data(quote.report.report_data, expected)  # AT51
            claims = _claims(published, quote)
            collateral = await self._source.collateral(quote.platform.fmspc, quote.platform.ca)
            verified = await asyncio.to_thread(verify_quote, quote.raw, collateral, root=self._root, now=now)
        except AttestationError as exc:
            raise _as_refusal(exc) from exc
        return Verified(
            evidence=_evidence(published, verified, claims),
            windows=tuple(ValidWindow(name, one.starts_at, one.ends_at) for name, one in collateral.windows),
            root_is_intel=self._root.is_intel,
        )


def _claims(published: Published, quote: Quote) -> EventLogClaims | None:
    """Return what the event log says; a compose file is shown only where the log names it."""
    compose = published.statement.compose
    if published.event_log is None:
        if compose is not None:
            raise BackendNotProven("it shows a compose file, and no event log that names it", problem="event_log")
        return None
    claims = verify_event_log(read_event_log(published.event_log), quote.report)
    check_key_provider(claims)
    if compose is not None and hashlib.sha256(compose.encode()).digest() != claims.compose_hash:
        raise BackendNotProven("the compose file that it shows is not the one that it runs", problem="compose")
    return claims


def _evidence(published: Published, verified: VerifiedQuote, claims: EventLogClaims | None) -> Evidence:
    return to_evidence(
        verified,
        invoker=published.statement.did,
        receiver_public_key=b"",  # nothing is to be received yet; such evidence is never kept
        receiver_mode="attested",
        compose_hash=None if claims is None else claims.compose_hash,
        app_id=None if claims is None else claims.app_id,
        key_provider=None if claims is None else key_provider_text(claims.key_provider.name, claims.key_provider.id),
    )


def _as_refusal(error: AttestationError) -> BackendNotProven | CollateralNeeded:
    if isinstance(error, CollateralOutsideWindow):
        return CollateralNeeded(
            f"the collateral at hand is stale: {error.detail}",
            problem=error.code,
            hint="fetch the platform family's document anew; leave --collateral out to ask Intel",
        )
    if isinstance(error, CollateralUnusable | MalformedCertificate):
        return CollateralNeeded(f"the collateral at hand is of no use: {error.code}", problem=error.code)
    if isinstance(error, TrustRootRefused) or error.code in _SAID:
        said, hint = _SAID[error.code]
        return BackendNotProven(said, problem=error.code, hint=hint)
    return BackendNotProven(f"its evidence does not hold: {error.code}", problem=error.code)
