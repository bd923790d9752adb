"""From a verified quote to the evidence that policies judge.

The evidence is normalised and carries no verdict; it is made once per attestation session and judged at each release.
"""

import hashlib

from capabilities.principals import Principal
from encryption_network.policy import Evidence, ReceiverMode

from .verify import VerifiedQuote

EVIDENCE_TTL_S = 600
"""How long evidence counts unless a policy asks for less; renewal needs a new quote."""


def to_evidence(
    verified: VerifiedQuote,
    *,
    invoker: Principal,
    receiver_public_key: bytes,
    receiver_mode: ReceiverMode,
    ttl_s: float = EVIDENCE_TTL_S,
    compose_hash: bytes | None = None,
    app_id: bytes | None = None,
    key_provider: str | None = None,
) -> Evidence:
    """State what a verified quote says about its holder's code.

    Args:
        verified: from `verify_quote`.
        invoker: canonical DID whose signature and report data were checked.
        receiver_public_key: X25519 key that the report data binds, 32 bytes.
        receiver_mode: mode that the report data binds.
        ttl_s: longest life of the evidence; the collateral's end cuts it shorter.
        compose_hash: from a replayed event log, 32 bytes; None without one.
        app_id: from a replayed event log; None without one.
        key_provider: from a replayed event log, in the form of policies; None without one.
    Returns:
        Evidence that begins at the verification's `now`. Its `quote_sha256` is the digest of the signed statement, the
        same for every spelling of one quote; its `platform_id_hash` hides the machine's PPID from whoever reads it.
    Does not check:
        That the report data binds invoker, key and mode: see report_data.check_report_data.
    """
    report, platform = verified.quote.report, verified.quote.platform
    return Evidence(
        invoker=invoker,
        receiver_public_key=receiver_public_key,
        receiver_mode=receiver_mode,
        mrtd=report.mrtd,
        rtmr0=report.rtmr0,
        rtmr1=report.rtmr1,
        rtmr2=report.rtmr2,
        rtmr3=report.rtmr3,
        mr_config_id=report.mr_config_id,
        mr_owner=report.mr_owner,
        mr_owner_config=report.mr_owner_config,
        td_attributes=report.td_attributes,
        xfam=report.xfam,
        tee_tcb_svn=report.tee_tcb_svn,
        mr_seam=report.mr_seam,
        tcb_status=verified.tcb_status,
        qe_status=verified.qe_status,
        advisories=verified.advisories,
        evaluation_number=verified.evaluation_number,
        tcb_date=verified.tcb_date,
        fmspc=platform.fmspc,
        platform_id_hash=hashlib.sha256(platform.ppid).digest(),
        root_ca_sha256=verified.root_sha256,
        quote_sha256=verified.quote.statement_sha256,
        collateral_sha256=verified.collateral_sha256,
        attested_at=verified.verified_at,
        expires_at=min(verified.verified_at + ttl_s, verified.collateral_ends_at),
        compose_hash=compose_hash,
        app_id=app_id,
        key_provider=key_provider,
    )
