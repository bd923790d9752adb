"""Report the state of one delegation to every DID that has a say over it (wire 5.3).

A caller that may revoke may ask (W21, W22), with another ability. Any other caller is answered as
if the delegation did not exist.
"""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from capabilities.abilities import DELEGATION_STATUS
from capabilities.capability_errors import CapabilityError, InvalidIdentifier
from capabilities.chain import acting_principal, has_say
from capabilities.cids import parse_cid
from capabilities.references import CID_URN
from capabilities.resources import OpaqueResource
from capabilities.token_kinds import check_addressed
from capabilities.tokens import UnverifiedInvocation
from spaces.grants.revocations import mark_keys, mark_of, marks_of

from ...refusal import Refusal
from ...services import Services
from ..authorise import admit_signed, closure_contents
from .status import standing_of

# Where the word for a state differs from that of `/delegation/query`.
_WORDS: Final[Mapping[str, str]] = {"ancestor_revoked": "revoked", "pending": "unavailable"}


class StatusReport(Struct, frozen=True):
    """The state of one delegation, in the order of the wire."""

    cid: str
    status: str
    exists: bool = False
    active: bool = False
    revoked: bool = False
    expired: bool = False


async def delegation_status(
    services: Services, unverified: UnverifiedInvocation, cid: str
) -> StatusReport:
    """Return the current state of a delegation, to a caller that has a say over it.

    A token may be used again and live as long as it says: a second reading changes nothing (I23).

    Args:
        unverified: the token as it was read.
        cid: untrusted text, the delegation asked about in any multibase.

    Raises:
        Refusal: `status-token-refused`, `status-not-bound`: the token is not good, or asks for
            another delegation; `status-cid-invalid`: the text is no cid.
        WrongKind: it addresses another DID (T8).
        SpaceError: the store does not answer.
    """
    now = services.clock.now()
    try:
        invocation = admit_signed(unverified, now=now)
    except CapabilityError:
        raise Refusal("status-token-refused") from None
    check_addressed(invocation, services.keyring.node_did)  # T8; none is a registered grant (T11)
    # Whether the token asks for this delegation's status, in this very spelling, and for nothing
    # else.
    if not (
        [(c.ability, c.resource) for c in invocation.capabilities]
        == [(DELEGATION_STATUS, OpaqueResource(CID_URN + cid))]
    ):
        raise Refusal("status-not-bound")
    try:
        digest = parse_cid(cid).digest32
    except InvalidIdentifier:
        raise Refusal("status-cid-invalid") from None
    cited = invocation.parents[:1]  # W21: more than one proof proves nothing, whatever they are
    target, *proofs = await services.delegations.by_cid(
        [digest, *(parent.digest for parent in cited)]
    )
    contents = tuple(dict.fromkeys((*closure_contents([target]), *closure_contents(proofs))))
    records = (await services.store.read(mark_keys(contents))).records
    marks = dict(zip(contents, records, strict=True))
    # Without a mark it was removed long after its end, and only this process remembers it.
    if target is not None and mark_of(marks[target.delegation.content_key]) is not None:
        acting = acting_principal(
            invocation.invoker,
            invocation.parents,
            proofs,
            target.delegation,
            ability=DELEGATION_STATUS,
            named=digest,
            marks=marks_of(contents, records),
            now=now,
        )
        if acting is not None and has_say(acting, target.delegation):
            verdict = standing_of(target, marks, target.delegation, now=now)
            status = verdict.status
            return StatusReport(
                cid=cid,
                status=_WORDS.get(status, status),
                exists=True,
                active=status == "active",
                revoked=verdict.revoked is not None,
                expired=status == "expired",
            )
    return StatusReport(cid, "not_found")
