"""Evaluation of attestation evidence against a policy (RL8, RL11).

It is repeated at every key release.

Example:
    for policy in policies_of(delegation.facts):
        refusal = judge(evidence, policy, now)
"""

from typing import Literal

from .key_providers import is_accepted
from .policy import GRACE_STATUSES, Evidence, Policy

CLOCK_SKEW_S = 60
"""How far the attesting machine's clock may be ahead of this one's."""

# Intel's life-cycle notices may accompany the status UpToDate; they are not vulnerabilities.
_NOTICE_PREFIX = "INTEL-DOC-"

Refusal = Literal[
    "evidence_expired",
    "measurement",
    "key_provider",
    "attributes",
    "platform",
    "tcb_status",
    "advisory",
    "evaluation",
    "age",
    "receiver",
]
"""The checks that evidence can fail."""


def judge(evidence: Evidence, policy: Policy, now: float) -> Refusal | None:
    """Check attestation evidence against a release policy (RL8, RL11).

    Args:
        evidence: facts of a verified quote.
        policy: one policy; the caller judges every policy in force.
        now: epoch seconds.
    Returns:
        None if the evidence satisfies the policy now, else the first check that it fails.
    Does not check:
        The subject of the evidence, the receiver key of the release, the trust root, the paths; see
        `gate.admit`.
    """
    if not evidence.attested_at - CLOCK_SKEW_S <= now < evidence.expires_at:
        return "evidence_expired"
    if not _is_code_listed(evidence, policy):
        return "measurement"
    if policy.key_providers and not is_accepted(evidence.key_provider, policy.key_providers):
        return "key_provider"
    if evidence.td_attributes not in policy.td_attributes:
        return "attributes"
    if policy.platform_ids and evidence.platform_id_hash not in policy.platform_ids:
        return "platform"
    if not _is_status_accepted(evidence, policy, now):
        return "tcb_status"
    if not _are_advisories_accepted(evidence, policy):
        return "advisory"
    if evidence.evaluation_number < policy.min_evaluation_number:
        return "evaluation"
    if policy.max_age_s is not None and now - evidence.attested_at > policy.max_age_s:
        return "age"
    if evidence.receiver_mode != "attested" and policy.receiver != "signed":
        return "receiver"
    return None


def _is_code_listed(evidence: Evidence, policy: Policy) -> bool:
    """Return whether the policy lists the code in the evidence."""
    if policy.compose_hashes and evidence.compose_hash not in policy.compose_hashes:
        return False
    if policy.app_ids and evidence.app_id not in policy.app_ids:
        return False
    return not policy.measurements or any(entry.covers(evidence) for entry in policy.measurements)


def _are_advisories_accepted(evidence: Evidence, policy: Policy) -> bool:
    """Return whether the policy accepts all advisories about the platform."""
    for advisory in evidence.advisories:
        if advisory not in policy.advisories and not advisory.startswith(_NOTICE_PREFIX):
            return False
    return True


def _is_status_accepted(evidence: Evidence, policy: Policy, now: float) -> bool:
    """Return whether the policy accepts the TCB statuses of platform and enclave."""
    # The date belongs to the platform's TCB level. An outdated quoting enclave has no date from
    # which a grace period could be counted, so it is never accepted.
    if evidence.qe_status not in policy.tcb_statuses or evidence.qe_status in GRACE_STATUSES:
        return False
    if evidence.tcb_status not in policy.tcb_statuses:
        return False
    if evidence.tcb_status not in GRACE_STATUSES:
        return True
    return policy.tcb_grace_s is not None and now <= evidence.tcb_date + policy.tcb_grace_s
