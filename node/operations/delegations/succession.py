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


async def first_statement(services: Services, delegation: Delegation) -> Registered | None:
    """Return the first statement of a succession, which a delegation countersigns.

    Returns None if the delegation countersigns nothing, or if the first statement is not stored.

    Raises:
        Refusal: `membership-refused`, the statement in the delegation is invalid.
    """
    if not is_succession(delegation):
        return None
    try:
        stated = stated_membership(delegation, registered_at=services.now())
        if stated.countersigns is None:
            return None
        digest = parse_cid(stated.countersigns).digest32
    except (MalformedToken, InvalidIdentifier) as exc:
        raise Refusal("membership-refused", exc.text) from exc
    (first,) = await services.delegations.by_cid((digest,))
    return first


def move_keys(
    delegation: Delegation, judged: Sequence[Registered | None]
) -> tuple[tuple[bytes, ...], int]:
    """Return `Moves.keys` and `Moves.above` for a delegation.

    `judged` are the stored delegations that it cites; None: not stored.
    """
    above = wallets_of(delegation.delegator, judged)
    wallets = above
    if is_succession(delegation) and delegation.delegate not in above:
        wallets = (*above, delegation.delegate)
    return succession_keys(wallets), len(above)


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


class Named(FrozenStruct, kw_only=True):
    """The facts by which a statement of a succession is judged.

    Attributes:
        services: of this process.
        first: see `first_statement`.
        moves: the rows of the wallets; those of the team and of the successor are among them.
        marks: of the closures of the parents and of the first statement.
        now: epoch seconds.
    """

    services: Services
    first: Registered | None
    moves: Moves
    marks: Markers
    now: float


def plan_succession(
    delegation: Delegation, parents: Sequence[Registered | None], named: Named
) -> Commit:
    """Return the rows to write together with a statement of a succession.

    For any other delegation, the commit is empty.

    Args:
        delegation: registered in the same commit; the rules of chains and memberships accepted it.
        parents: the stored delegations that it cites.
        named: the rows by which it is judged.
    Raises:
        Refusal: `membership-refused`, it breaks TM16 or TM17.
    """
    if not is_succession(delegation):
        return Commit()
    above = [parent for parent in parents if parent is not None]
    try:
        stated = stated_membership(delegation, registered_at=named.now)
        if has_moved(named.moves.of(succession_key(delegation.delegate))):
            raise MalformedToken("the successor has moved to another wallet itself")
        is_first_statement = stated.countersigns is None
        if is_first_statement:
            return _plan_first_statement(delegation, above, named)
        return _plan_move(delegation, stated, above, named)
    except MalformedToken as exc:
        raise Refusal("membership-refused", exc.text) from exc


def _plan_first_statement(
    delegation: Delegation, above: Sequence[Registered], named: Named
) -> Commit:
    """Return the write of the first statement: the team's row, without a successor yet.

    Raises:
        MalformedToken: the signer has not been an admin for long enough (TM17).
    """
    check_senior(above, now=named.now)
    team = team_of(delegation)
    record = named.moves.of(succession_key(team))
    if read_succession(record) is not None:  # another statement wrote the row
        return Commit()
    about_to_move = Succession(owner=team)
    return Commit(puts=(succession_put(about_to_move, record),))


def _plan_move(
    delegation: Delegation, stated: Membership, above: Sequence[Registered], named: Named
) -> Commit:
    """Return the writes of the second statement: the successor, and an audit record.

    Raises:
        MalformedToken: the two statements do not make a succession, or the first one is not in
            force.
    """
    first, now = named.first, named.now
    move = check_countersigned(delegation, stated, above, first, now=now)
    assert first is not None  # otherwise `check_countersigned` raises
    if not is_in_force(first, named.marks, now=now):
        raise MalformedToken("the statement that it countersigns is revoked or has ended")
    record = named.moves.of(succession_key(move.team))
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
        puts=(succession_put(succession, record), audit.put(named.services.entropy)),
        # If the signer of the first statement was removed meanwhile, the team does not move.
        live=marker_keys(authority_of_first),
    )
