"""Examination of a quote, and judgement of the resulting evidence."""

import hashlib
from dataclasses import fields

import pytest
from deviating_platform import CollateralOptions, SimulatedPlatform

from capabilities.principals import parse_principal
from encryption_network.judgement import judge
from encryption_network.key_providers import DEFAULT_KEY_PROVIDERS
from encryption_network.policy import Evidence, Measurements, Policy
from tee_backend.attestation.collateral import Collateral, parse_collateral
from tee_backend.attestation.examine import EVIDENCE_TTL_S, BoundQuote, bind_quote, examine
from tee_backend.attestation.report_data import Binding
from tee_backend.attestation.trust_root import TrustRoot
from tee_backend.evidence.simulated import measurements_of

HOLDER = parse_principal("did:key:z6MkpTHR8VNsBxYAAWHut2Geadd9jSwuBV8xRoAnwWsdvktH")


@pytest.fixture
def bound(quote: bytes) -> BoundQuote:
    """A quote with the expected report data."""
    binding = Binding(report_data=bytes(range(64)), holder=HOLDER, receiver_public_key=b"\x07" * 32)
    return bind_quote(quote, binding, event_log=None, accepted=DEFAULT_KEY_PROVIDERS)


@pytest.fixture
def evidence(bound: BoundQuote, collateral: Collateral, root: TrustRoot, now: float) -> Evidence:
    """The evidence from that quote."""
    return examine(bound, collateral, root=root, now=now)


def test_facts(
    bound: BoundQuote, evidence: Evidence, code: Measurements, root: TrustRoot, now: float
) -> None:
    """Evidence contains the quote's facts in the sizes that policies expect, with a hashed platform
    id."""
    assert evidence.invoker == HOLDER
    assert evidence.receiver_public_key == b"\x07" * 32
    assert evidence.receiver_mode == "attested"
    assert code == Measurements(
        mrtd=evidence.mrtd,
        rtmr0=evidence.rtmr0,
        rtmr1=evidence.rtmr1,
        rtmr2=evidence.rtmr2,
        rtmr3=evidence.rtmr3,
    )
    assert hashlib.sha256(bound.quote.platform.ppid).digest() == evidence.platform_id_hash
    assert root.sha256 == evidence.root_ca_sha256
    assert evidence.evaluation_number == 20
    assert evidence.tcb_status == "UpToDate"
    assert evidence.attested_at == now
    assert now + EVIDENCE_TTL_S == evidence.expires_at
    sizes = {
        "td_attributes": 8,
        "xfam": 8,
        "tee_tcb_svn": 16,
        "mr_seam": 48,
        "mr_config_id": 48,
        "fmspc": 6,
    }
    assert sizes == {name: len(getattr(evidence, name)) for name in sizes}


def test_no_machine_identity(bound: BoundQuote, evidence: Evidence) -> None:
    """No field of evidence contains the machine's identifier itself."""
    values = [getattr(evidence, field.name) for field in fields(evidence)]
    assert bound.quote.platform.ppid not in [value for value in values if isinstance(value, bytes)]


def test_never_outlives_the_collateral(
    machine: SimulatedPlatform, bound: BoundQuote, root: TrustRoot, now: float
) -> None:
    """Evidence expires with the collateral if that is sooner."""
    options = CollateralOptions(issued_before_s=3600, valid_for_s=3660)
    collateral = parse_collateral(machine.collateral_json(now, options=options))
    assert now + 60 == examine(bound, collateral, root=root, now=now).expires_at


def test_default_policy_and_a_list(evidence: Evidence, code: Measurements, now: float) -> None:
    """Ordinary evidence satisfies the default policy and exactly the lists that name its code."""
    assert judge(evidence, Policy(), now) is None
    assert judge(evidence, Policy(measurements=(code,)), now) is None
    assert (
        judge(evidence, Policy(measurements=(measurements_of("other code"),)), now) == "measurement"
    )
    assert judge(evidence, Policy(), evidence.expires_at) == "evidence_expired"
