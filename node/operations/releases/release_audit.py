"""Audit records of releases: `release.authorised` before a key leaves, `release.refused` with the full cause.

The detail is canonical JSON. It names owner, invoker, network, policies and evidence by their digests; never a key,
a token or a value.
"""

from typing import Final

from capabilities.abilities import DECRYPT
from capabilities.ambient import Entropy
from capabilities.cids import Digest
from capabilities.strict_json import Json
from encryption_network.canonical_json import canonical_bytes, canonical_members
from encryption_network.errors import ReleaseRefused, RequestError
from encryption_network.release_facts import ReleaseAudit
from spaces.audit.records import AuditRecord, audit_put
from spaces.store.contract import Put

from ..authorise import Call

AUTHORISED: Final = "release.authorised"
REFUSED: Final = "release.refused"


def authorised_put(audit: ReleaseAudit, call: Call, *, receipt: str, entropy: Entropy) -> Put:
    """Return the record that a release was authorised; it is durable before the key is opened.

    It names the receipt by its SHA-256 in hex, so that the chain over the audit covers the receipts (RC8).
    """
    detail = canonical_members(
        {
            "ground": audit.ground,
            "mode": audit.mode,
            "owner": audit.owner,
            "requestHash": audit.request_hash,
            "receiverPublicKeyHash": audit.receiver_public_key_hash,
            "policies": audit.policy_sha256,
            "evidence": audit.evidence_sha256,
            "quote": audit.quote_sha256,
            "collateral": audit.collateral_sha256,
            "receipt": receipt,
        }
    )
    record = _record(AUTHORISED, audit.network_id, call, detail, at=audit.decided_at, token=audit.token)
    return audit_put(record, entropy=entropy)


def refused_put(refusal: ReleaseRefused | RequestError, call: Call, *, at: float, entropy: Entropy) -> Put | None:
    """Return the record of a refusal; None for rows of the request ladder that are not audited (enc 2.10)."""
    if isinstance(refusal, ReleaseRefused):
        detail: dict[str, Json] = {"reason": refusal.reason, "detail": refusal.detail}
    elif refusal.audit_outcome is not None:
        detail = {"reason": refusal.audit_outcome}
    else:
        return None
    text = canonical_bytes(detail)
    record = _record(REFUSED, _network_text(call), call, text, at=at, token=call.invocation.cid)
    return audit_put(record, entropy=entropy)


def _network_text(call: Call) -> str:
    asked = (c.resource.text for c in call.invocation.capabilities if c.ability == DECRYPT)
    return next(asked, "")


def _record(action: str, subject: str, call: Call, detail: bytes, *, at: float, token: Digest) -> AuditRecord:
    return AuditRecord(
        at=at,
        action=action,
        actor=call.invocation.invoker,
        subject=subject,
        token=token,
        authority=call.authority.live,
        detail=detail,
    )
