"""Memberships of a team, as a client reads and verifies them (TM1, TM2).

A node lists delegations, and a client verifies by itself which of them are memberships: signature,
statement, rights, and who signed them.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

from capabilities.abilities import (
    CAPABILITIES_READ,
    DECRYPT,
    DELEGATION_LIST,
    DELEGATION_STATUS,
    KV_DELETE,
    KV_GET,
    KV_LIST,
    KV_METADATA,
    KV_PUT,
    READ_RECEIPTS,
    REVOKE,
    SET_POLICY,
)
from capabilities.capability_errors import CapabilityError
from capabilities.chain import Registered
from capabilities.facts import states_membership as has_membership_fact
from capabilities.members import check_admitted
from capabilities.memberships import (
    Role,
    StatedRole,
    is_membership,
    secret_rights,
    stated_membership,
    team_of,
)
from capabilities.principals import Principal, parse_principal, same_principal
from capabilities.resources import root_of
from capabilities.tokens import Capability, Delegation, parse_delegation, verify_delegation

from ..documents.invitations import INVITATIONS_PATH
from ..documents.secret_names import OWN_FOLDER, SECRETS_SPACE, secret_at
from ..errors import InvalidInput, NotAMember
from ..session import (
    Grant,
    capability,
    network_of_owner,
    read_grant,
    space_capability,
    space_of,
)
from ..wallets import AnyWallet, wallet_of
from ..wire.delegation_history import LIVE, DelegationRecord, Status


class TeamMember(NamedTuple):
    """A membership of a team, whose statement and signature were verified.

    Attributes:
        team: DID of the team.
        did: DID of the member's wallet.
        name: how the team calls the member, or None.
        role: `admin`, `writer` or `reader`.
        secrets: labels of the secrets that the member may use; empty for all.
        since: when it was signed, epoch seconds, as the signer stated it; None if it does not say.
        ends_at: epoch seconds.
        admitted_by: DID of the wallet that signed: the team's, or an admin's.
        status: as the node states it; `active` is a live one.
        grant: the membership itself.
        parent: cid of the admin's membership that it cites; None: the team signed it.
    """

    team: Principal
    did: Principal
    name: str | None
    role: Role
    secrets: tuple[str, ...]
    since: float | None
    ends_at: int
    admitted_by: Principal
    status: Status
    grant: Grant
    parent: str | None

    @property
    def is_live(self) -> bool:
        """Whether the node lists the membership as usable."""
        return self.status in LIVE


class TeamMembers(NamedTuple):
    """The memberships of a team.

    Attributes:
        members: the latest first. A member whose role was changed can have ended ones too.
    """

    members: tuple[TeamMember, ...]

    @property
    def live(self) -> tuple[TeamMember, ...]:
        """The memberships that can be used."""
        return tuple([one for one in self.members if one.is_live])

    @property
    def admins(self) -> frozenset[Principal]:
        """The DIDs of all admins."""
        return frozenset([one.did for one in self.live if one.role == "admin"])

    @property
    def has_one_admin(self) -> bool:
        """Whether there is only one admin.

        If this admin loses the wallet's key, only the team's own key can admit another one.
        """
        return len(self.admins) == 1

    def of(self, did: str) -> tuple[TeamMember, ...]:
        """Return the live memberships of a member."""
        return tuple([one for one in self.live if same_principal(one.did, did)])


def membership_rights(
    team: Principal, role: StatedRole, paths: Sequence[str]
) -> tuple[Capability, ...]:
    """Return what a membership grants (TM1)."""
    network = network_of_owner(team).text
    rights = [capability(network, DECRYPT)]
    if role != "admin":
        return (
            *(capability(path, ability) for path, ability in secret_rights(role, team, paths)),
            *rights,
        )
    space = space_of(team, SECRETS_SPACE)
    # The right to the policy lets an admin read it. Only the team in person may change it (TM9).
    for ability in (READ_RECEIPTS, SET_POLICY):
        rights.append(capability(network, ability))
    for path in (OWN_FOLDER, INVITATIONS_PATH):
        for ability in (KV_GET, KV_METADATA, KV_PUT, KV_DELETE, KV_LIST):
            rights.append(space_capability(space, "kv", path, ability))
    for ability in (DELEGATION_LIST, REVOKE, DELEGATION_STATUS):
        rights.append(space_capability(space, "delegation", None, ability))
    rights.append(space_capability(space, "capabilities", None, CAPABILITIES_READ))
    return tuple(rights)


def terms_of(member: TeamMember) -> tuple[Principal, Role, tuple[str, ...]]:
    """Return what two memberships have in common that are equal for the member."""
    return member.did, member.role, member.secrets


def with_descendants(listed: TeamMembers, members: Iterable[TeamMember]) -> frozenset[str]:
    """Return the cids of memberships, and of all live ones that depend on them."""
    ending = {one.grant.cid for one in members}
    size = 0
    while size != len(ending):
        size = len(ending)
        for one in listed.live:
            if one.parent in ending:
                ending.add(one.grant.cid)
    return frozenset(ending)


def ending_of_others(
    listed: TeamMembers, ending: Collection[str], did: str
) -> tuple[TeamMember, ...]:
    """Return the memberships of others that end with those of a member.

    A membership is left out if an equal one stays, so a removal can be repeated.

    Args:
        listed: the team's members.
        ending: cids of all memberships that end; see `with_descendants`.
        did: the member who is removed or gets another role.
    """
    stays = {terms_of(one) for one in listed.live if one.grant.cid not in ending}
    found = []
    for one in listed.live:
        is_of_another = one.grant.cid in ending and not same_principal(one.did, did)
        if is_of_another and terms_of(one) not in stays:
            stays.add(terms_of(one))
            found.append(one)
    return tuple(found)


def stated_team(token: str) -> Principal | None:
    """Return the team of a membership; None for any other token. No signature is verified."""
    try:
        delegation = parse_delegation(token)
        if not has_membership_fact(delegation.facts) or not delegation.capabilities:
            return None
    except CapabilityError:
        return None
    return root_of(delegation.capabilities[0].resource)


def verified(token: str) -> Delegation | None:
    """Return a delegation with a valid signature, or None."""
    try:
        return verify_delegation(parse_delegation(token))
    except CapabilityError:
        return None


def registered(delegation: Delegation, now: float) -> Registered:
    """Return a delegation in the form that the rules of memberships take.

    The time of registration is not known. A membership that is short enough from now was short
    enough before.
    """
    return Registered(
        delegation=delegation,
        closure=(),
        not_before=None,
        expires_at=None,
        parents=(),
        registered_at=now,
    )


def read_member(
    record: DelegationRecord, known: Mapping[str, Registered], *, now: float
) -> TeamMember | None:
    """Return the membership of a record, or None if it breaks a rule of TM1.

    `known` has the verified delegation. The status is the node's.
    """
    link = known.get(record.cid)
    if link is None or not is_membership(link.delegation):
        return None
    delegation = link.delegation
    grant = read_grant(record.token or "")
    if grant.cid != record.cid or len(delegation.parents) > 1:
        return None
    try:
        stated = stated_membership(delegation, registered_at=now)
        team = team_of(delegation)
        place = f"{space_of(team, SECRETS_SPACE).text}/kv/"
        secrets = [secret_at(path.removeprefix(place)) for path in stated.paths]
    except (CapabilityError, InvalidInput):
        return None
    if same_principal(delegation.delegator, team) is bool(delegation.parents):
        return None
    if stated.role == "successor":  # it says to whom the team moves, not who is a member (TM16)
        return None
    return TeamMember(
        team=team,
        did=delegation.delegate,
        name=stated.name,
        role=stated.role,
        secrets=tuple(sorted([one.label for one in secrets if one is not None])),
        since=delegation.issued_at,
        ends_at=stated.end,
        admitted_by=delegation.delegator,
        status=record.status,
        grant=grant,
        parent=delegation.parents[0].echo if delegation.parents else None,
    )


def is_admitted(cid: str, known: Mapping[str, Registered]) -> bool:
    """Return whether the team, or a chain of its admins, signed a membership (TM2)."""
    for _ in range(len(known)):
        link = known[cid]
        parents = []
        for cited in link.delegation.parents:
            if cited.echo not in known:
                return False
            parents.append(known[cited.echo])
            cid = cited.echo
        try:
            stated = stated_membership(link.delegation, registered_at=link.registered_at)
            check_admitted(link.delegation, stated, parents)
        except CapabilityError:
            return False
        if not parents:
            return True
    return False


def cited_membership(token: str) -> str | None:
    """Return the cid of the membership that a membership cites alone; None: it cites none."""
    delegation = verified(token)
    if delegation is None or len(delegation.parents) != 1:
        return None
    return delegation.parents[0].echo


def wallets_above(listed: TeamMembers, cid: str | None) -> frozenset[Principal]:
    """Return a member and the admins by whom the member was admitted, without the team itself.

    Args:
        listed: the team's members.
        cid: of the membership; None: there is none.
    """
    by_cid = {one.grant.cid: one for one in listed.members}
    found: set[Principal] = set()
    for _ in range(len(by_cid)):
        member = by_cid.get(cid or "")
        if member is None:
            break
        found.add(member.did)
        cid = member.parent
    return frozenset(found)


def members_of(listed: TeamMembers, did: str) -> tuple[TeamMember, ...]:
    """Return the live memberships of a member, of whom there has to be at least one."""
    found = listed.of(did)
    if not found:
        raise NotAMember(
            f"{did} is not a member of this team",
            hint="list the members with `client.teams.members()`",
            step="sealspace team members",
        )
    return found


def admin_of(
    listed: TeamMembers, wallet: AnyWallet, *, without: Collection[str] = ()
) -> TeamMember:
    """Return a membership of a wallet that makes it an admin, and that is none of `without`."""
    did = wallet_of(wallet).did
    found = [one for one in listed.of(did) if one.role == "admin"]
    if not found:
        raise NotAMember(
            f"{did} is not an admin of this team", hint="ask an admin of the team to do this"
        )
    for one in found:
        if one.grant.cid not in without:
            return one
    raise InvalidInput(
        "your own membership depends on this member, who signed it, and would end too",
        hint="let an admin do this whom this member did not admit, or the owner of the team's key",
    )


def require_other_admin(listed: TeamMembers, did: str) -> None:
    """Refuse to end the memberships of the last admin."""
    if listed.admins == {parse_principal(did)}:
        raise InvalidInput(
            "the team would have no admin: only its own key could admit one",
            hint="admit another admin first, or make a member an admin",
        )
