"""Revocation of delegations (wire §5.5).

It includes all delegations that depend on the revoked ones.
"""

from collections.abc import Sequence

from capabilities.capability_errors import MalformedToken
from capabilities.chain import Marker, Registered, judge_revocation
from capabilities.cids import cid_text
from capabilities.members import member_of
from capabilities.memberships import is_membership, team_of
from capabilities.principals import Principal
from capabilities.sign_ins import AuthorityFacts
from capabilities.successions import wallets_of
from capabilities.token_kinds import check_addressed
from capabilities.tokens import Revocation, parse_revocation, verify_revocation
from spaces.audit.audit_records import AuditRecord
from spaces.grants.revocations import Revoked, marker_keys, marker_of, markers_of, revocation_put
from spaces.grants.successions import succession_keys, unchanged_successions
from spaces.store.contract import REVOCATION_RESERVE, Check, Commit, Put

from ...services import Services
from ..attempts import until_committed
from ..authorise import check_no_move, closure_contents
from ..owner_authority import links_of


async def revoke(services: Services, header: str) -> tuple[str, ...]:
    """Revoke the delegations named in a token.

    The revocation is durable when this returns. Repeating it has no effect (W24).

    Args:
        header: untrusted text of the `Authorization` header.

    Returns:
        The CIDs of the targets in base32, in the order of the token. Each CID keeps the codec that
        the token uses for it (W27).

    Raises:
        MalformedToken: undecodable, or without an explicit target (Q8).
        WrongKind: not a revocation, or not for this node or for no node in particular (V1, V3, V5).
        BadSignature, ChainError: W20 to W23.
        Refusal: `owner-moved`, the wallet or one above its proof has moved (TM18).
        SpaceError: the store does not answer.
    """
    revocation = verify_revocation(parse_revocation(header))
    check_addressed(revocation, services.keyring.node_did)  # not for another node (V1)
    await services.cohort.yield_to_cohort()
    return await until_committed(services, lambda _: _attempt(services, revocation))


async def _attempt(services: Services, revocation: Revocation) -> tuple[Commit, tuple[str, ...]]:
    """Decide on a revocation, and prepare its commit.

    Returns:
        The commit, and the CIDs of the targets in base32, in the order of the token.
    """
    now = services.now()
    cited_targets = revocation.targets
    # W21 requires exactly one proof; reading two is enough to detect more.
    cited_proofs = revocation.parents[:2]
    digests = [cited.digest for cited in (*cited_targets, *cited_proofs)]
    stored_delegations = await services.delegations.by_cid(digests)
    targets = stored_delegations[: len(cited_targets)]
    proofs = stored_delegations[len(cited_targets) :]
    proof_contents = closure_contents(proofs)
    # The delegations to revoke, by content key: two targets may be encodings of one delegation, and
    # a commit may write its revocation marker only once.
    ended = {stored.delegation.content_key: stored for stored in targets if stored is not None}
    contents = (*proof_contents, *ended)
    keys = marker_keys(contents)
    move_keys = succession_keys(wallets_of(revocation.revoker, proofs))
    records = (await services.store.read((*keys, *move_keys))).records
    marker_rows = records[: len(keys)]
    move_rows = records[len(keys) :]
    team = await _administered_team(services, proofs, now=now)
    marks = markers_of(contents, marker_rows)
    acting = judge_revocation(revocation, proofs, targets, marks, now=now, team=team)
    check_no_move(move_rows)
    puts: list[Put] = []
    checks: list[Check] = [*unchanged_successions(move_keys, move_rows)]
    # The markers of the proofs come first, then those of the delegations to revoke.
    ended_keys = keys[len(proof_contents) :]
    ended_rows = marker_rows[len(proof_contents) :]
    for (content, stored), key, row in zip(ended.items(), ended_keys, ended_rows, strict=True):
        if row is not None and marker_of(row) is Marker.REVOKED:
            # A repeat writes nothing, but its commit waits until the marker that was read is
            # durable (W24, ST16).
            checks.append(Check(key, row.stamp))
            continue
        audit = AuditRecord(
            at=now,
            action="delegation.revoked",
            actor=acting,
            subject=cid_text(stored.delegation.cid),
            token=revocation.cid,
            authority=proof_contents,
        )
        puts += (
            revocation_put(content, Revoked(cid=revocation.cid, at=now, by=acting)),
            audit.put(services.entropy),
        )
    # The proof must still be live when the markers are written. Otherwise a session that is revoked
    # at the same moment could still revoke others.
    commit = Commit(
        puts=tuple(puts),
        live=marker_keys(proof_contents),
        checks=tuple(checks),
        reserve=REVOCATION_RESERVE,  # a full store still accepts revocations (ST17)
    )
    return commit, tuple([target.echo for target in cited_targets])


async def _administered_team(
    services: Services, proofs: Sequence[Registered | None], *, now: float
) -> Principal | None:
    """Return the team whose admin signed a revocation, or None (TM7).

    The only proof of such a revocation is a session of the admin. Its only parent is the admin's
    membership. Whether both are in force is not checked here, but by `judge_revocation`.

    Args:
        services: of this process.
        proofs: the delegations that the revocation cites; None: not stored.
        now: of this process, in seconds since 1970.
    """
    if len(proofs) != 1:
        return None
    (proof,) = proofs
    # Nearly every revocation ends here: it has no proof, or one that an owner signed.
    if proof is None or len(proof.parents) != 1:
        return None
    closure = closure_contents((proof,))
    links = await links_of(services, closure)
    (membership_content,) = proof.parents
    membership = links.get(membership_content)
    if membership is None or not is_membership(membership.delegation):
        return None
    try:
        # Neither sessions nor marks decide which membership is stated.
        facts = AuthorityFacts(
            owner=team_of(membership.delegation),
            invoker=proof.delegation.delegate,
            cited=(proof.delegation.content_key,),
            links=links,
            sessions=(),
            marks={},
            now=now,
        )
        member = member_of(facts)
    except MalformedToken:
        return None
    if member is None or member.statement.role != "admin":
        return None
    return member.team
