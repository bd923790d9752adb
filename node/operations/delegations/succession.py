"""Registration of the statements by which a team moves to another wallet (TM16 to TM18).

The first statement writes the team's row without a successor, and the second one writes the
successor. The row is written in the commit that registers the statement.
"""

from collections.abc import Sequence

from capabilities.capability_errors import InvalidIdentifier, MalformedToken
from capabilities.chain import Markers, Registered, is_in_force
from capabilities.cids import cid_text, parse_cid
from capabilities.frozen_struct import FrozenStruct
from capabilities.memberships import Membership, stated_membership, team_of
from capabilities.successions import (
    check_countersigned,
    check_senior,
    is_succession,
    wallets_of,
)
from capabilities.tokens import Delegation
from encryption_network.canonical_json import canonical_members
from spaces.audit.audit_records import AuditRecord
from spaces.grants.revocations import marker_keys
from spaces.grants.successions import (
    Succession,
    has_moved,
    moved_owners,
    read_succession,
    succession_key,
    succession_keys,
    succession_put,
    unchanged_successions,
)
from spaces.store.contract import Check, Commit, Record

from ...refusal import Refusal
from ...services import Services
from ..authorise import check_not_moved


class Moves(FrozenStruct):
    """The rows that say which wallets have moved, as read in the snapshot of a registration.

    Attributes:
        keys: of the rows. The first ones are those of the wallets above the delegation. For a
            statement of a succession, that of the successor may follow.
        records: in the same order; None for a wallet without a row.
        above: number of the wallets above the delegation.
    """

    keys: tuple[bytes, ...]
    records: tuple[Record | None, ...]
    above: int

    @property
    def unmoved(self) -> tuple[Check, ...]:
        """Conditions of the commit: no row has changed."""
        return unchanged_successions(self.keys, self.records)

    def of(self, key: bytes) -> Record | None:
        """Return one of the rows."""
        return self.records[self.keys.index(key)]


async def read_countersigned(services: Services, delegation: Delegation) -> Registered | None:
    """Read the first statement of a succession, which a delegation countersigns.

    Returns None if the delegation countersigns nothing, or if the first statement is not stored.

    Raises:
        Refusal: `membership-refused`, the statement in the delegation is invalid.
    """
    if not is_succession(delegation):
        return None
    try:
        statement = stated_membership(delegation, registered_at=services.now())
        if statement.countersigns is None:
            return None
        digest = parse_cid(statement.countersigns).digest32
    except (MalformedToken, InvalidIdentifier) as exc:
        raise Refusal("membership-refused", exc.text) from exc
    (countersigned,) = await services.delegations.by_cid((digest,))
    return countersigned


def move_keys(
    delegation: Delegation, judged: Sequence[Registered | None]
) -> tuple[tuple[bytes, ...], int]:
    """Return `Moves.keys` and `Moves.above` for a delegation.

    `judged` are the stored delegations by whose closures the wallets above are known: those that
    it cites, or itself if it is registered already; None: not stored.
    """
    wallets_above = wallets_of(delegation.delegator, judged)
    wallets = wallets_above
    if is_succession(delegation) and delegation.delegate not in wallets_above:
        wallets = (*wallets_above, delegation.delegate)  # the successor
    return succession_keys(wallets), len(wallets_above)


def check_registration(moves: Moves, registered: Registered) -> None:
    """Refuse a delegation that a wallet above it signed, if this wallet has moved (TM18, TM19).

    The signer is one of these wallets. The two statements of the succession itself may be sent
    again.

    Raises:
        Refusal: `owner-moved`.
    """
    delegation = registered.delegation
    rows_above = moves.records[: moves.above]
    for succession in moved_owners(rows_above):
        if delegation.content_key in succession.statements:
            return
    check_not_moved(rows_above, registered, delegation.capabilities)


class SuccessionFacts(FrozenStruct, kw_only=True):
    """The facts by which a statement of a succession is judged.

    Attributes:
        services: of this process.
        countersigned: the first statement, if the second one is judged; see `read_countersigned`.
        moves: the rows of the wallets; those of the team and of the successor are among them.
        marks: of the closures of the parents and of the first statement.
        now: epoch seconds.
    """

    services: Services
    countersigned: Registered | None
    moves: Moves
    marks: Markers
    now: float


def plan_succession(
    delegation: Delegation, parents: Sequence[Registered | None], facts: SuccessionFacts
) -> Commit:
    """Return the rows to write together with a statement of a succession.

    For any other delegation, the commit is empty.

    Args:
        delegation: registered in the same commit; the rules of chains and memberships accepted it.
        parents: the stored delegations that it cites.
        facts: the rows by which it is judged.
    Raises:
        Refusal: `membership-refused`, it breaks TM16 or TM17.
    """
    if not is_succession(delegation):
        return Commit()
    stored_parents = [parent for parent in parents if parent is not None]
    try:
        statement = stated_membership(delegation, registered_at=facts.now)
        if has_moved(facts.moves.of(succession_key(delegation.delegate))):
            raise MalformedToken("the successor has moved to another wallet itself")
        is_first_statement = statement.countersigns is None
        if is_first_statement:
            return _plan_first_statement(delegation, stored_parents, facts)
        return _plan_move(delegation, statement, stored_parents, facts)
    except MalformedToken as exc:
        raise Refusal("membership-refused", exc.text) from exc


def _plan_first_statement(
    delegation: Delegation, parents: Sequence[Registered], facts: SuccessionFacts
) -> Commit:
    """Return the write of the first statement: the team's row, without a successor yet.

    The commit is empty if another statement has written the row.

    Raises:
        MalformedToken: the signer has not been an admin for long enough (TM17).
    """
    check_senior(parents, now=facts.now)
    team = team_of(delegation)
    record = facts.moves.of(succession_key(team))
    if read_succession(record) is not None:  # another statement wrote the row
        return Commit()
    about_to_move = Succession(owner=team)
    return Commit(puts=(succession_put(about_to_move, record),))


def _plan_move(
    delegation: Delegation,
    statement: Membership,
    parents: Sequence[Registered],
    facts: SuccessionFacts,
) -> Commit:
    """Return the writes of the second statement: the successor, and an audit record.

    Raises:
        MalformedToken: the two statements do not make a succession, or the first one is not in
            force.
    """
    first, now = facts.countersigned, facts.now
    move = check_countersigned(delegation, statement, parents, first, now=now)
    assert first is not None  # otherwise `check_countersigned` raises
    if not is_in_force(first, facts.marks, now=now):
        raise MalformedToken("the statement that it countersigns is revoked or has ended")
    record = facts.moves.of(succession_key(move.team))
    if record is None:
        raise MalformedToken("the first statement is to be signed again")
    authority_of_first = tuple([link.content_key for link in first.closure])
    succession = Succession(
        owner=move.team,
        successor=move.successor,
        statements=(first.delegation.content_key, delegation.content_key),
        at=now,
    )
    cids = [cid_text(first.delegation.cid), cid_text(delegation.cid)]
    audit = AuditRecord(
        at=now,
        action="owner.moved",
        actor=delegation.delegator,
        subject=move.team,
        token=delegation.cid,
        authority=authority_of_first,
        detail=canonical_members({"successor": move.successor, "statements": cids}),
    )
    return Commit(
        puts=(succession_put(succession, record), audit.put(facts.services.entropy)),
        # If the signer of the first statement was removed meanwhile, the team does not move.
        live=marker_keys(authority_of_first),
    )
