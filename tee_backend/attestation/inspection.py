"""Verifying what a backend published, on the machine of an owner that wants to grant to it (AT52).

It uses the same code as a node, and collateral that the owner chose: a folder of documents, or
Intel's service. What the backend says about its own platform is not used.

Needs the quote library (`pip install 'sealspace[verify]'`); the SDK without it knows this module by
a Protocol only.

Example:
    inspector = Inspector(CollateralFolder(Path("collateral")), root=intel_root())
    seen = await fetch_evidence("https://backend.example", inspector)
"""

import asyncio
import hashlib
from pathlib import Path
from typing import Final

from capabilities.strict_json import Json
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from sealspace.apps.backends import ValidWindow, Verified
from sealspace.documents.published import Published
from sealspace.errors import BackendNotProven, CollateralNeeded

from .attestation_errors import AttestationError, CollateralUnusable, MalformedCertificate
from .certificates import PlatformCa
from .collateral import MAX_COLLATERAL_BYTES, Collateral, CollateralProvider, HeldCollateral
from .event_log_claims import EventLogClaims
from .examine import bind_quote, examine_with
from .pcs import INTEL_SERVICE_URL, CollateralService
from .report_data import Binding, published_binding
from .trust_root import TrustRoot, intel_root

# The failed check -> what to report and to do; every other kind is reported by its own name.
_SAID: Final[dict[str, tuple[str, str]]] = {
    "report-data": (
        (
            "the quote is not about this answer: nonce, DID, manifest or compose file were changed"
            " on the way"
        ),
        "ask again; if it stays, somebody stands between you and the backend: do not grant",
    ),
    "td-attributes": (
        "the trust domain is in a state that proves nothing: debugged, migratable, or impossible",
        "do not grant: its operator can read its memory; ask for one that runs in production mode",
    ),
    "revoked": (
        "the platform's certificate or level is revoked",
        "do not grant; the backend has to move elsewhere",
    ),
    "tcb-too-old": (
        "the platform is older than every level that is listed",
        "do not grant; the platform needs updates",
    ),
    "event-log": (
        "the event log is not the one that the quote's registers tell of",
        (
            "ask again; if it stays, do not grant: the application that it names did not start"
            " this way"
        ),
    ),
    "key-provider": (
        "the application's keys come from nobody, or from a provider on its host's own word",
        "do not grant; ask the backend's operator for one with a key service",
    ),
    "untrusted-root": (
        "the quote ends at another root certificate than the one you trust",
        "a simulated platform has a root of its own: --trust-root FILE, for trying things out only",
    ),
}


class CollateralFolder:
    """Documents as files `*.json` of a folder, as `sealspace admin collateral` and nodes read
    them."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Return the newest document for the family."""
        documents = await asyncio.to_thread(self._read)
        try:
            held = HeldCollateral(documents)
        except CollateralUnusable as error:
            raise CollateralNeeded(
                f"a document in {self._folder} is refused: {error.code}: {error.detail}",
                problem=error.code,
                hint=f"look at the files in {self._folder}",
            ) from error
        try:
            return await held.collateral(fmspc, ca)
        except CollateralUnusable as error:
            raise CollateralNeeded(
                f"no collateral for platform family {fmspc.hex()} ({ca}) in {self._folder}",
                problem="collateral-missing",
                hint=(
                    f"put the family's document into {self._folder}, or leave --collateral out to"
                    " ask Intel"
                ),
            ) from error

    def _read(self) -> list[bytes]:
        documents = []
        for path in sorted(self._folder.glob("*.json")):
            try:
                with path.open("rb") as stream:
                    documents.append(stream.read(MAX_COLLATERAL_BYTES + 1))
            except OSError as error:
                raise CollateralNeeded(
                    f"cannot read {path}: {error.strerror or 'unreadable'}",
                    problem="collateral-malformed",
                    hint=f"ls -l {path}",
                ) from error
        return documents


class FetchedCollateral:
    """Intel's service, queried each time."""

    async def collateral(self, fmspc: bytes, ca: PlatformCa) -> Collateral:
        """Fetch the document for the family."""
        try:
            return await CollateralService().collateral(fmspc, ca)
        except CollateralUnusable as exc:
            raise CollateralNeeded(
                f"{INTEL_SERVICE_URL} gives no collateral for platform family {fmspc.hex()}:"
                f" {exc.code}",
                problem=exc.code,
                hint=(
                    "try again later, or keep the document in a folder and name it: --collateral"
                    " FOLDER"
                ),
            ) from exc


class Inspector:
    """Verifies evidence for an owner that wants to grant; an `EvidenceVerifier` of the SDK."""

    def __init__(self, source: CollateralProvider, *, root: TrustRoot | None = None) -> None:
        self._source = source
        self._root = root or intel_root()

    async def verify(self, published: Published, *, now: float) -> Verified:
        """Verify quote, event log and what they bind; cheap before expensive.

        Raises:
            BackendNotProven: a check fails; `problem` names it.
            CollateralNeeded: there is no collateral, or none that is valid now.
        """
        statement = published.statement
        binding = published_binding(published.nonce, statement.did, statement.sha256)  # AT51
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
        """Verify a quote that has to bind something, of whatever purpose."""
        try:
            bound = bind_quote(quote, binding, event_log=event_log, accepted=DEFAULT_KEY_PROVIDERS)
            _check_compose(compose, bound.claims)
            evidence, collateral = await examine_with(bound, self._source, root=self._root, now=now)
        except AttestationError as exc:
            raise _as_refusal(exc) from exc
        return Verified(
            evidence=evidence,
            ca=collateral.ca,
            windows=tuple(
                ValidWindow(name, one.starts_at, one.ends_at) for name, one in collateral.windows
            ),
            root_is_intel=self._root.is_intel,
        )


def _check_compose(compose: str | None, claims: EventLogClaims | None) -> None:
    """Check that a compose file is shown only where the log names it (AT52)."""
    if compose is None:
        return
    if claims is None:
        raise BackendNotProven(
            "it shows a compose file, and no event log that names it", problem="event-log"
        )
    if hashlib.sha256(compose.encode()).digest() != claims.compose_hash:
        raise BackendNotProven(
            "the compose file that it shows is not the one that it runs", problem="compose"
        )


def _as_refusal(error: AttestationError) -> BackendNotProven | CollateralNeeded:
    if error.code == "collateral-window":
        return CollateralNeeded(
            f"the collateral at hand is stale: {error.detail}",
            problem=error.code,
            hint="fetch the platform family's document anew; leave --collateral out to ask Intel",
        )
    if isinstance(error, CollateralUnusable | MalformedCertificate):
        return CollateralNeeded(
            f"the collateral at hand is of no use: {error.code}", problem=error.code
        )
    if error.code in _SAID:
        said, hint = _SAID[error.code]
        return BackendNotProven(said, problem=error.code, hint=hint)
    return BackendNotProven(f"its evidence does not hold: {error.code}", problem=error.code)
