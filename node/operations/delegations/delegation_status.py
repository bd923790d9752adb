"""The status of a delegation, for callers that may revoke it (wire 5.3).

A caller that may revoke a delegation may also ask for its state (W21, W22), with another ability.
Every other caller gets the same response as for a delegation that does not exist. So does everybody
if a wallet above the caller or above the delegation has moved (TM18).
"""

from capabilities.abilities import DELEGATION_STATUS
from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.chain import acting_principal, may_manage
from capabilities.cids import parse_cid
from capabilities.frozen_struct import FrozenStruct
from capabilities.references import CID_URN
from capabilities.resources import OpaqueResource
from capabilities.successions import wallets_of
from capabilities.token_kinds import check_addressed
from capabilities.tokens import UnverifiedInvocation
from spaces.grants.revocations import marker_keys, marker_of, markers_of
from spaces.grants.successions import moved_owners, succession_keys

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_signed, closure_contents
from .status import Verdict, verdict_of

# States that have another name here than in `/delegation/query`.
_WORDS = {"ancestor_revoked": "revoked", "pending": "unavailable"}


class StatusReport(FrozenStruct):
    """The status of one delegation.

    The fields are in the order of the JSON response.
    """

    cid: str
    status: str
    exists: bool = False
    active: bool = False
    revoked: bool = False
    expired: bool = False


async def delegation_status(
    services: Services, unverified: UnverifiedInvocation, cid: str
) -> StatusReport:
    """Return the current status of a delegation.

    A caller that may not revoke the delegation gets `not_found`.

    The token may be used repeatedly and has no limit on its lifetime, because reading changes
    nothing (I23).

    Args:
        unverified: the parsed token.
        cid: untrusted CID of the delegation, in any multibase.

    Raises:
        Refusal: `status-token-refused`, the token is invalid; `status-not-bound`, it is for another
            delegation; `status-cid-invalid`, the CID is malformed.
        WrongKind: the token is for another audience (T8).
        SpaceError: the store does not answer.
    """
    now = services.now()
    try:
        invocation = admit_signed(unverified, now=now)
    except CapabilityError:
        raise Refusal("status-token-refused") from None
    # There is no check for a registered delegation (T9), because a status request cannot be one
    # (T11).
    check_addressed(invocation, services.keyring.node_did)  # T8
    # The token must request the status of this delegation and nothing else, with the same text for
    # its CID.
    requested = [
        (capability.ability, capability.resource) for capability in invocation.capabilities
    ]
    if requested != [(DELEGATION_STATUS, OpaqueResource(CID_URN + cid))]:
        raise Refusal("status-not-bound")
    try:
        digest = parse_cid(cid).digest32
    except InvalidIdentifier:
        raise Refusal("status-cid-invalid") from None
    # One proof is read at most. `acting_principal` refuses a token with more (W21).
    digests = [digest, *(proof.digest for proof in invocation.parents[:1])]
    target, *proofs = await services.delegations.by_cid(digests)
    contents = tuple(dict.fromkeys((*closure_contents([target]), *closure_contents(proofs))))
    move_keys = succession_keys(wallets_of(invocation.invoker, (*proofs, target)))
    rows = (await services.store.read((*marker_keys(contents), *move_keys))).records
    marker_rows = rows[: len(contents)]
    move_rows = rows[len(contents) :]
    row_by_content = dict(zip(contents, marker_rows, strict=True))
    not_found = StatusReport(cid, "not_found")
    if target is None:
        return not_found
    # Without a revocation marker, the delegation was removed after its expiry and is only in this
    # process's cache.
    if marker_of(row_by_content[target.delegation.content_key]) is None:
        return not_found
    acting = acting_principal(
        invocation.invoker,
        invocation.parents,
        proofs,
        target.delegation,
        ability=DELEGATION_STATUS,
        named=digest,
        marks=markers_of(contents, marker_rows),
        now=now,
    )
    if acting is None or not may_manage(acting, target.delegation):
        return not_found
    if moved_owners(move_rows):  # a wallet above the caller or the delegation has moved (TM18)
        return not_found
    return _report(cid, verdict_of(target, row_by_content, target.delegation, now=now))


def _report(cid: str, verdict: Verdict) -> StatusReport:
    """Return the status of a delegation that the caller may revoke."""
    status = verdict.status
    return StatusReport(
        cid=cid,
        status=_WORDS.get(status, status),
        exists=True,
        active=status == "active",
        revoked=verdict.revoked is not None,
        expired=status == "expired",
    )
