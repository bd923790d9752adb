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
    """The rows of the wallets that matter for a registration, as read in its snapshot.

    Attributes:
        keys: of the rows; those of the wallets above the delegation come first.
        records: in the same order.
        above: number of the wallets above the delegation.
    """

    keys: tuple[bytes, ...]
    records: tuple[Record | None, ...]
    above: int

    @property
    def unmoved(self) -> tuple[Check, ...]:
        """Conditions of the commit."""
        return unchanged_successions(self.keys, self.records)

    def of(self, key: bytes) -> Record | None:
        """Return one of the rows."""
        return self.records[self.keys.index(key)]


async def first_statement(services: Services, delegation: Delegation) -> Registered | None:
    """Return the statement that a delegation countersigns, or None.

    Raises:
        Refusal: `membership-refused`, the statement is invalid.
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
    """Return the keys of the rows for `Moves`, and the number of the wallets above.

    These are the rows of the wallets above a delegation and, for a statement of a succession, that
    of the successor.
    """
    wallets = wallets_of(delegation.delegator, judged)
    if not is_succession(delegation) or delegation.delegate in wallets:
        return succession_keys(wallets), len(wallets)
    return succession_keys((*wallets, delegation.delegate)), len(wallets)


def check_registration(moves: Moves, registered: Registered) -> None:
    """Refuse a delegation by a wallet that has moved, or under such a wallet's (TM18, TM19).

    The two statements of the succession itself may be sent again.

    Raises:
        Refusal: `owner-moved`.
    """
    delegation = registered.delegation
    above = moves.records[: moves.above]
    for moved in moved_owners(above):
        if delegation.content_key in moved.statements:
            return
    check_not_moved(above, registered, delegation.capabilities)


class Named(FrozenStruct, kw_only=True):
    """What a statement of a succession is judged by.

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
    """Return what is written beside a statement of a succession; nothing for other delegations.

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
        if moved_owners((named.moves.of(succession_key(delegation.delegate)),)):
            raise MalformedToken("the successor has moved to another wallet itself")
        if stated.countersigns is None:
            return _announced(delegation, above, named)
        return _moved(delegation, stated, above, named)
    except MalformedToken as exc:
        raise Refusal("membership-refused", exc.text) from exc


def _announced(delegation: Delegation, above: Sequence[Registered], named: Named) -> Commit:
    """Return what the first statement writes: that the team is about to move."""
    check_senior(above, now=named.now)
    team = team_of(delegation)
    record = named.moves.of(succession_key(team))
    if read_succession(record) is not None:  # another statement wrote it
        return Commit()
    return Commit(puts=(succession_put(Succession(owner=team), record),))


def _moved(
    delegation: Delegation, stated: Membership, above: Sequence[Registered], named: Named
) -> Commit:
    """Return what the second statement writes: that the team has moved."""
    first, now = named.first, named.now
    move = check_countersigned(delegation, stated, above, first, now=now)
    assert first is not None  # otherwise `check_countersigned` raises
    if not is_in_force(first, named.marks, now=now):
        raise MalformedToken("the statement that it countersigns is revoked or has ended")
    record = named.moves.of(succession_key(move.team))
    if record is None:
        raise MalformedToken("the first statement is to be signed again")
    above_first = tuple([one.content_key for one in first.closure])
    moved = Succession(
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
        authority=above_first,
        detail=canonical_members({"successor": move.successor, "statements": cids}),
    )
    return Commit(
        puts=(succession_put(moved, record), audit.put(named.services.entropy)),
        # If the signer of the first statement was removed meanwhile, the team does not move.
        live=marker_keys(above_first),
    )
