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

from ...documents.invitations import INVITATIONS_PATH
from ...documents.secret_names import OWN_FOLDER, SECRETS_SPACE, secret_at
from ...errors import InvalidInput, NotAMember
from ...session import Grant, capability, network_of_owner, read_grant, space_capability, space_of
from ...wallets import AnyWallet, wallet_of
from ...wire.delegation_history import LIVE, DelegationRecord, Status


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
        status: status that the node states; that of a live membership is `active`.
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


class OwnMemberships(NamedTuple):
    """The memberships that a person has received.

    Attributes:
        memberships: the latest first.
        is_cut: whether older ones were left out. The teams that they are of have to be named.
    """

    memberships: tuple[TeamMember, ...]
    is_cut: bool


class TeamMembers(NamedTuple):
    """The memberships of a team.

    Attributes:
        members: the latest first. A member whose role was changed can have ended ones too.
    """

    members: tuple[TeamMember, ...]

    @property
    def live(self) -> tuple[TeamMember, ...]:
        """The memberships that can be used."""
        return tuple([member for member in self.members if member.is_live])

    @property
    def admins(self) -> frozenset[Principal]:
        """The DIDs of all admins."""
        return frozenset([member.did for member in self.live if member.role == "admin"])

    @property
    def has_one_admin(self) -> bool:
        """Whether there is only one admin.

        If this admin loses the wallet's key, only the team's own key can admit another one.
        """
        return len(self.admins) == 1

    def of(self, did: str) -> tuple[TeamMember, ...]:
        """Return the live memberships of a member."""
        return tuple([member for member in self.live if same_principal(member.did, did)])


def membership_rights(
    team: Principal, role: StatedRole, paths: Sequence[str]
) -> tuple[Capability, ...]:
    """Return the rights that a membership grants (TM1).

    Args:
        team: DID of the team.
        role: role of the membership.
        paths: resources of the secrets, as the membership states them; empty for all secrets.
    """
    network = network_of_owner(team).text
    right_to_decrypt = capability(network, DECRYPT)
    if role != "admin":
        rights = [capability(path, ability) for path, ability in secret_rights(role, team, paths)]
        return (*rights, right_to_decrypt)
    rights = [right_to_decrypt]
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


class Terms(NamedTuple):
    """The terms of a membership. Memberships with equal terms are the same for the member.

    Attributes:
        did: DID of the member's wallet.
        role: role of the member.
        secrets: labels of the secrets; empty for all.
    """

    did: Principal
    role: Role
    secrets: tuple[str, ...]


def terms_of(member: TeamMember) -> Terms:
    """Return the terms of a membership."""
    return Terms(did=member.did, role=member.role, secrets=member.secrets)


def with_descendants(listed: TeamMembers, members: Iterable[TeamMember]) -> frozenset[str]:
    """Return the cids of memberships, and of all live memberships below them."""
    ending_cids = {member.grant.cid for member in members}
    # Each round adds the next level below, until a round adds nothing.
    is_complete = False
    while not is_complete:
        is_complete = True
        for member in listed.live:
            if member.parent in ending_cids and member.grant.cid not in ending_cids:
                ending_cids.add(member.grant.cid)
                is_complete = False
    return frozenset(ending_cids)


def ending_of_others(
    listed: TeamMembers, ending: Collection[str], did: str
) -> tuple[TeamMember, ...]:
    """Return the memberships of others that end with those of a member.

    A membership is left out if another one with equal terms stays. So a removal can be repeated.
    Of several with equal terms, the latest one is returned.

    Args:
        listed: the team's members.
        ending: cids of all memberships that end; see `with_descendants`.
        did: the member who is removed or gets another role.
    """
    covered_terms = {terms_of(member) for member in listed.live if member.grant.cid not in ending}
    others = []
    for member in listed.live:
        is_ending = member.grant.cid in ending
        is_other_person = not same_principal(member.did, did)
        if is_ending and is_other_person and terms_of(member) not in covered_terms:
            covered_terms.add(terms_of(member))
            others.append(member)
    return tuple(others)


def stated_team(token: str) -> Principal | None:
    """Return the team that a membership states; None for any other token.

    Does not check the signature: anybody can state any team.
    """
    try:
        delegation = parse_delegation(token)
        states_membership = has_membership_fact(delegation.facts)
    except CapabilityError:
        return None
    if not states_membership or not delegation.capabilities:
        return None
    return root_of(delegation.capabilities[0].resource)


def verify_or_none(token: str) -> Delegation | None:
    """Parse a delegation and verify its signature; None if either fails."""
    try:
        return verify_delegation(parse_delegation(token))
    except CapabilityError:
        return None


def as_registered(delegation: Delegation, now: float) -> Registered:
    """Return a delegation in the form that the rules of memberships take.

    A client does not know when the node registered it, so it takes the present time. The rules
    bound the life from the registration, and the rest of the life from now is shorter. So no
    membership that the node has accepted is refused here.
    """
    return Registered(
        delegation=delegation,
        closure=(),
        not_before=None,
        expires_at=None,
        parents=(),
        registered_at=now,
    )


def verify_records(records: Iterable[DelegationRecord], *, now: float) -> dict[str, Registered]:
    """Verify the tokens of a node's records; return the valid ones by the cids of the records."""
    delegations = {}
    for record in records:
        delegation = verify_or_none(record.token or "")
        if delegation is not None:
            delegations[record.cid] = as_registered(delegation, now)
    return delegations


def read_member(
    record: DelegationRecord, known: Mapping[str, Registered], *, now: float
) -> TeamMember | None:
    """Read the membership in a node's record; None if it breaks a rule of TM1.

    Args:
        record: the record, untrusted. Only its status is taken from the node.
        known: verified delegations by their cids.
        now: epoch seconds.
    Does not check:
        That an admin signed it; see `is_admitted`.
    """
    registered = known.get(record.cid)
    if registered is None or not is_membership(registered.delegation):
        return None
    delegation = registered.delegation
    grant = read_grant(record.token or "")
    if grant.cid != record.cid or len(delegation.parents) > 1:
        return None
    try:
        statement = stated_membership(delegation, registered_at=now)
        team = team_of(delegation)
        labels = _labels_at(statement.paths, team)
    except (CapabilityError, InvalidInput):
        return None
    # The team itself cites nothing, and an admin cites the own membership.
    is_signed_by_team = same_principal(delegation.delegator, team)
    has_parent = bool(delegation.parents)
    if is_signed_by_team == has_parent:
        return None
    # A successor is the wallet to which the team moves, not a member (TM16).
    if statement.role == "successor":
        return None
    return TeamMember(
        team=team,
        did=delegation.delegate,
        name=statement.name,
        role=statement.role,
        secrets=labels,
        since=delegation.issued_at,
        ends_at=statement.end,
        admitted_by=delegation.delegator,
        status=record.status,
        grant=grant,
        parent=delegation.parents[0].echo if has_parent else None,
    )


def _labels_at(paths: Iterable[str], team: Principal) -> tuple[str, ...]:
    """Return the labels of the secrets at the paths of a membership, sorted.

    A path that is not that of a secret has no label.
    """
    folder = f"{space_of(team, SECRETS_SPACE).text}/kv/"
    labels = []
    for path in paths:
        secret = secret_at(path.removeprefix(folder))
        if secret is not None:
            labels.append(secret.label)
    return tuple(sorted(labels))


def is_admitted(cid: str, known: Mapping[str, Registered]) -> bool:
    """Return whether the team, or a chain of its admins, signed a membership (TM2).

    Args:
        cid: cid of the membership.
        known: verified delegations by their cids; those above the membership have to be there.
    """
    for _ in range(len(known)):  # a chain cannot be longer, unless its delegations are a circle
        registered = known[cid]
        delegation = registered.delegation
        parents = []
        for cited in delegation.parents:
            if cited.echo not in known:
                return False
            parents.append(known[cited.echo])
        try:
            statement = stated_membership(delegation, registered_at=registered.registered_at)
            check_admitted(delegation, statement, parents)
        except CapabilityError:
            return False
        if not parents:
            return True
        cid = delegation.parents[0].echo  # the only one: `check_admitted` refuses several
    return False


def cited_membership(token: str) -> str | None:
    """Return the cid of the only membership that a membership cites.

    None if the token is not valid, or cites none or several.
    """
    delegation = verify_or_none(token)
    if delegation is None or len(delegation.parents) != 1:
        return None
    return delegation.parents[0].echo


def wallets_above(listed: TeamMembers, cid: str | None) -> frozenset[Principal]:
    """Return the wallets of a member and of all admins above, without the team's own wallet.

    Args:
        listed: the team's members.
        cid: cid of the member's membership; None if there is none: then the result is empty.
    """
    member_by_cid = {member.grant.cid: member for member in listed.members}
    wallets: set[Principal] = set()
    for _ in range(len(member_by_cid)):
        member = member_by_cid.get(cid or "")
        if member is None:
            break
        wallets.add(member.did)
        cid = member.parent
    return frozenset(wallets)


def members_of(listed: TeamMembers, did: str) -> tuple[TeamMember, ...]:
    """Return the live memberships of a member, at least one.

    Raises:
        NotAMember: there is none.
    """
    memberships = listed.of(did)
    if not memberships:
        raise NotAMember(
            f"{did} is not a member of this team",
            hint="list the members with `client.teams.members()`",
            step="sealspace team members",
        )
    return memberships


def admin_of(
    listed: TeamMembers, wallet: AnyWallet, *, without: Collection[str] = ()
) -> TeamMember:
    """Return a live membership that makes a wallet an admin.

    Args:
        listed: the team's members.
        wallet: the admin's wallet.
        without: cids of memberships that are not returned, because they are about to end.
    Raises:
        NotAMember: the wallet is not that of an admin.
        InvalidInput: all memberships of this admin are in `without`.
    """
    did = wallet_of(wallet).did
    admin_memberships = [member for member in listed.of(did) if member.role == "admin"]
    if not admin_memberships:
        raise NotAMember(
            f"{did} is not an admin of this team", hint="ask an admin of the team to do this"
        )
    for membership in admin_memberships:
        if membership.grant.cid not in without:
            return membership
    raise InvalidInput(
        "your own membership depends on this member, who signed it, and would end too",
        hint="let an admin do this whom this member did not admit, or the owner of the team's key",
    )


def require_other_admin(listed: TeamMembers, did: str) -> None:
    """Refuse to end the memberships of the last admin (InvalidInput)."""
    is_only_admin = listed.admins == {parse_principal(did)}
    if is_only_admin:
        raise InvalidInput(
            "the team would have no admin: only its own key could admit one",
            hint="admit another admin first, or make a member an admin",
        )
