"""Revoke a delegation, and everything below it (wire §5.5)."""

from capabilities.chain import Mark, judge_revocation
from capabilities.cids import cid_text
from capabilities.errors import ParentNotFound
from capabilities.kinds import check_addressed
from capabilities.tokens import Revocation, parse_revocation, verify_revocation
from spaces.audit.records import AuditRecord, audit_put
from spaces.grants.revocations import Revoked, mark_keys, marks_of, revocation_put
from spaces.store.contract import Commit

from ...services import Services
from ..attempts import CommitPlan, until_committed
from ..authorise import closure_contents, registered_of


async def revoke(services: Services, header: str) -> str:
    """Revoke the delegation that the token names; idempotent (W24), and acknowledged only when it is durable.

    Args:
        header: untrusted text of the `Authorization` header.

    Returns:
        The target's cid in base32, with the codec it was named in (W27).

    Raises:
        MalformedToken: undecodable, or without an explicit target (Q8).
        WrongKind: something other than a revocation, sent to this node or to no node (V1, V3).
        BadSignature, RevocationOutsideWindow, ParentNotFound, UnauthorizedRevoker: W20 to W23.
        SpaceError: the store does not answer.
    """
    revocation = verify_revocation(parse_revocation(header))
    check_addressed(revocation, services.keyring.node_did)  # V1
    await services.cohort.yield_to_cohort()

    async def attempt(_: bool) -> CommitPlan[str]:
        return await _attempt(services, revocation)

    return await until_committed(services, attempt)


async def _attempt(services: Services, revocation: Revocation) -> CommitPlan[str]:
    now = services.clock.now()
    # W21 takes exactly one proof; a second one is enough to see that there are more.
    cids = [revocation.target.digest, *(parent.digest for parent in revocation.parents[:2])]
    target, *proofs = await services.delegations.by_cid(cids)
    contents = closure_contents(proofs)
    asked = contents if target is None else (*contents, target.registered.delegation.content_key)
    marks = marks_of(asked, (await services.store.read(mark_keys(asked))).records)
    acting = judge_revocation(
        revocation,
        registered_of(proofs),
        None if target is None else target.registered,
        marks,
        now=now,
    )
    if target is None:
        raise ParentNotFound  # W20
    content = target.registered.delegation.content_key
    if marks.get(content) is Mark.REVOKED:  # W24: repeating a text costs nothing, and leaves no further record
        return CommitPlan(None, revocation.target.echo)
    audit = AuditRecord(
        at=now,
        action="delegation.revoked",
        actor=acting,
        subject=cid_text(target.registered.delegation.cid),
        token=revocation.cid,
        authority=contents,
    )
    puts = (
        revocation_put(content, Revoked(cid=revocation.cid, at=now, by=acting)),
        audit_put(audit, entropy=services.entropy),
    )
    # The proof has to be in force when the mark is replaced: else a revoked session could still revoke.
    return CommitPlan(Commit(puts=puts, live=mark_keys(contents)), revocation.target.echo)
