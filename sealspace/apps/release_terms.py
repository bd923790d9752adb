"""What a node judges backends by: asked before a grant is signed that would open nothing (AT59).

Example:
    terms = await fetch_terms(transport, Family(evidence.fmspc, "platform"))
    require_judgeable(terms, evidence)
"""

from dataclasses import dataclass
from typing import Final, Literal

import msgspec

from encryption_network.key_providers import is_accepted
from encryption_network.policy import Evidence
from encryption_network.release_record import Mode

from ..errors import BackendNotAcceptable, MalformedAnswer
from ..wire.answers import decoded
from ..wire.transport import Request, Transport

CollateralUse = Literal["usable", "unusable", "fetched", "missing"]
"""usable: it judges quotes now; unusable: ended, stale or damaged; fetched: none yet, the node fetches it; missing."""

PlatformCa = Literal["platform", "processor"]
"""Which of Intel's two authorities issued a platform's certificate."""

_MAX_TERMS_BYTES: Final = 64 * 1024


@dataclass(frozen=True, slots=True)
class Family:
    """A platform family, as collateral is kept for it."""

    fmspc: bytes
    ca: PlatformCa


class ReleaseTerms(msgspec.Struct, frozen=True, kw_only=True, rename="camel"):
    """What a node says that it judges backends by; unsigned."""

    attestation: Mode
    trust_roots: tuple[str, ...]
    key_providers: tuple[str, ...]
    node_policy: bool
    node_policy_suffices: bool
    collateral: CollateralUse | None = None


_DECODER: Final = msgspec.json.Decoder(ReleaseTerms)


async def fetch_terms(transport: Transport, family: Family | None) -> ReleaseTerms:
    """Ask a node for its terms; no token is sent."""
    query = "" if family is None else f"?fmspc={family.fmspc.hex()}&ca={family.ca}"
    request = Request("GET", f"/attestation/terms{query}", repeatable=True, max_answer_bytes=_MAX_TERMS_BYTES)
    terms = decoded(_DECODER, await transport.require(request), "release terms")
    if (terms.collateral is None) is (family is not None):
        raise MalformedAnswer("the node's answer says nothing of the collateral that was asked about")
    return terms


def require_judgeable(terms: ReleaseTerms, evidence: Evidence) -> None:
    """Refuse a backend whose evidence the node could not judge, or would not accept, whatever a grant says."""
    root, provider = evidence.root_ca_sha256.hex(), evidence.key_provider
    if root not in terms.trust_roots:
        named = " or ".join(one[:16] + "…" for one in terms.trust_roots) or "none"
        raise BackendNotAcceptable(
            f"the node trusts another root certificate: this quote ends at {root[:16]}…, the node trusts {named}",
            problem="trust_root",
            hint="ask the node's operator whether it shall trust that platform: sealspace serve --trust-root FILE",
        )
    if provider is not None and not is_accepted(provider, terms.key_providers):
        raise BackendNotAcceptable(
            f"the node takes no evidence of applications with keys from {provider[:80]}",
            problem="key_provider",
            hint=f"its operator accepts {', '.join(one[:80] for one in terms.key_providers) or 'none'}",
        )
    if terms.collateral in ("missing", "unusable"):
        lacks = "no collateral" if terms.collateral == "missing" else "no usable collateral"
        raise BackendNotAcceptable(
            f"the node has {lacks} for this platform, family {evidence.fmspc.hex()}: it can judge none of its quotes",
            problem="collateral",
            hint="ask the node's operator to run: sealspace admin collateral import FILE",
        )
