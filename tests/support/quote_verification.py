"""Verification of quotes with any report data."""

import math

from capabilities.principals import Principal
from encryption_network.policy import Evidence
from tee_backend.attestation.collateral import Collateral
from tee_backend.attestation.examine import BoundQuote, examine
from tee_backend.attestation.quote import parse_quote
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import TrustRoot


def verify_quote(quote: bytes, collateral: Collateral, *, root: TrustRoot, now: float) -> Evidence:
    """Return the evidence of a quote, valid as long as its collateral."""
    parsed = parse_quote(quote)
    binding = Binding(report_data=parsed.report.report_data, holder=Principal("did:key:zHolder"))
    return examine(
        BoundQuote(parsed, binding, None), collateral, root=root, now=now, ttl_s=math.inf
    )
