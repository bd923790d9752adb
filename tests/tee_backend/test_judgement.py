"""From a verified quote to evidence and its judgement."""

import hashlib
from dataclasses import fields

import pytest

from capabilities.principals import parse_principal
from encryption_network.judgement import judge
from encryption_network.policy import Evidence, Measurements, Policy
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.judgement import EVIDENCE_TTL_S, to_evidence
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.attestation.verify import VerifiedQuote, verify_quote
from tee_backend.evidence.simulated import CollateralOptions, SimulatedPlatform, measurements_of

HOLDER = parse_principal("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")


@pytest.fixture
def verified(quote: bytes, collateral: Collateral, root: TrustRoot, now: float) -> VerifiedQuote:
    """A verified quote."""
    return verify_quote(quote, collateral, root=root, now=now)


def _evidence(verified: VerifiedQuote) -> Evidence:
    return to_evidence(verified, invoker=HOLDER, receiver_public_key=b"\x07" * 32, receiver_mode="attested")


def test_facts(verified: VerifiedQuote, code: Measurements, root: TrustRoot, now: float) -> None:
    """Evidence states the quote's facts, with the sizes that policies expect and the machine's identity hashed."""
    evidence = _evidence(verified)
    assert (
        evidence.invoker,
        evidence.receiver_public_key,
        evidence.receiver_mode,
    ) == (HOLDER, b"\x07" * 32, "attested")
    assert code == Measurements(
        mrtd=evidence.mrtd, rtmr0=evidence.rtmr0, rtmr1=evidence.rtmr1, rtmr2=evidence.rtmr2, rtmr3=evidence.rtmr3
    )
    assert hashlib.sha256(verified.quote.platform.ppid).digest() == evidence.platform_id_hash
    assert (root.sha256, 20, "UpToDate") == (evidence.root_ca_sha256, evidence.evaluation_number, evidence.tcb_status)
    assert (now, now + EVIDENCE_TTL_S) == (evidence.attested_at, evidence.expires_at)
    sizes = {"td_attributes": 8, "xfam": 8, "tee_tcb_svn": 16, "mr_seam": 48, "mr_config_id": 48, "fmspc": 6}
    assert sizes == {name: len(getattr(evidence, name)) for name in sizes}


def test_no_machine_identity(verified: VerifiedQuote) -> None:
    """No field of evidence holds the machine's identifier itself."""
    evidence = _evidence(verified)
    values = [getattr(evidence, field.name) for field in fields(evidence)]
    assert verified.quote.platform.ppid not in [value for value in values if isinstance(value, bytes)]


def test_never_outlives_the_collateral(machine: SimulatedPlatform, quote: bytes, root: TrustRoot, now: float) -> None:
    """Evidence ends with the collateral when that is sooner."""
    options = CollateralOptions(issued_before_s=3600, valid_for_s=3660)
    collateral = parse_collateral(machine.collateral_json(now, options=options))
    assert now + 60 == _evidence(verify_quote(quote, collateral, root=root, now=now)).expires_at


def test_default_policy_and_a_list(verified: VerifiedQuote, code: Measurements, now: float) -> None:
    """Ordinary evidence satisfies the default policy and a list that names its code, and no list that does not."""
    evidence = _evidence(verified)
    assert judge(evidence, Policy(), now) is None
    assert judge(evidence, Policy(measurements=(code,)), now) is None
    assert judge(evidence, Policy(measurements=(measurements_of("other code"),)), now) == "measurement"
    assert judge(evidence, Policy(), evidence.expires_at) == "evidence_expired"
