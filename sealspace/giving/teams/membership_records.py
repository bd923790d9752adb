"""The memberships that a node lists for an account, before they are verified."""

from collections import Counter
from typing import NamedTuple

from capabilities.principals import Principal, same_principal

from ...delegations import Delegations
from ...errors import MalformedAnswer
from ...wire.caller import Caller
from ...wire.delegation_history import MAX_PAGE_ITEMS, DelegationRecord, Direction, Status
from .memberships import stated_team

_MOST_MEMBERSHIPS = 2_000
"""Most memberships of a list that are verified. Each one costs a signature."""

_MOST_TOKEN_CHARS = 64 << 20
"""Most characters of their tokens together, which are all in memory."""

_MOST_OF_A_TEAM = 4
"""Of each team, in a list of several. A person has one membership of a team that matters."""


class MembershipRecords(NamedTuple):
    """Delegations that state that they are memberships, the latest first.

    Attributes:
        records: their signatures are not verified.
        is_cut: whether older ones were left out because of the limits.
    """

    records: list[DelegationRecord]
    is_cut: bool


async def fetch_membership_records(
    caller: Caller,
    *,
    direction: Direction,
    account: str | None,
    status: Status | None,
    team: str | None,
) -> MembershipRecords:
    """Fetch the memberships of an account.

    Anybody can sign many for a person. So with `team`, those of other teams do not count toward the
    limits; without it, the latest of each team count alone.
    """
    query = Delegations(caller).query(
        direction=direction,
        status=status,
        account=account,
        tokens=True,
        derived=direction == "granted",
        page_items=MAX_PAGE_ITEMS,
    )
    records: list[DelegationRecord] = []
    char_count = 0
    count_of_team = Counter[Principal]()
    async for record in query:
        token = record.token or ""
        token_team = stated_team(token)
        if token_team is None:
            continue
        if team is not None and not same_principal(token_team, team):
            continue
        count_of_team[token_team] += 1
        if team is None and count_of_team[token_team] > _MOST_OF_A_TEAM:
            continue
        if len(records) >= _MOST_MEMBERSHIPS or char_count + len(token) > _MOST_TOKEN_CHARS:
            return MembershipRecords(records, is_cut=True)
        records.append(record)
        char_count += len(token)
    return MembershipRecords(records, is_cut=False)


def too_many_memberships() -> MalformedAnswer:
    """Return the error for a team with more memberships than a client verifies."""
    return MalformedAnswer(
        f"the node lists more than {_MOST_MEMBERSHIPS} memberships of the team, or too long ones"
    )
