"""Memberships, which are delegations that make people members of a team.

A team is an owner with a wallet's key that nobody uses day by day. It has members instead. Each
membership is a message of a wallet to the member's wallet, and states what it is in its only fact
(TM1):

    {"sealspace.member/v1": {"member": "did:pkh:…", "role": "writer", "end": 1790000000,
                             "paths": ["tinycloud:…:secrets/kv/vault/secrets/API_KEY"],
                             "name": "bob"}}

The team's own wallet signs memberships without proofs. An admin's wallet signs further ones, which
cite the admin's own membership (TM2).

Example:
    statement = stated_membership(delegation, registered_at=now)
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from .abilities import DECRYPT, KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT, satisfies
from .capability_errors import InvalidJson, MalformedToken
from .facts import MEMBER_FACT, states_membership
from .principals import Principal, is_wallet
from .resources import SpaceId, SpaceResource, extends, network_of, parse_resource, root_of
from .strict_json import StrictRecord, shaped
from .tokens import Capability, Delegation

Role = Literal["admin", "writer", "reader"]
"""What a member may do; each role includes those after it."""
StatedRole = Role | Literal["successor"]
"""Role in a statement. A successor is the wallet to which the team moves (TM16)."""

MAX_LIFE_S = 5 * 366 * 86_400
"""Longest life of a membership, from its registration."""
MAX_MEMBER_PATHS = 64
"""Most secrets of a membership that lists its secrets; each release reads a row for every one."""
MAX_ADMIN_RIGHTS = 64
"""Most rights of an admin's membership. A release reads those of every admin above a member."""
SECRETS_SPACE = "secrets"
"""Name of the space of a team that its members use."""
SECRETS_PATH = "vault/secrets/"
"""The path in this space below which all secrets are."""

_READ = (KV_GET, KV_METADATA)
_WRITE = (KV_PUT, KV_DELETE)
MemberName = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}\Z")]
"""How a team calls a member; it is safe to print."""

# Without "?" and "#": the path of a resource ends there, and a path without a name is a folder.
_SECRET = re.compile(r"(scoped/[^/?#]+/)?[A-Z][A-Z0-9_]*")
_Text = Annotated[str, Meta(max_length=4096)]


class Membership(StrictRecord, omit_defaults=True):
    """The statement of a membership (TM1).

    Attributes:
        member: DID of the member's wallet, in canonical form.
        role: of the member.
        end: of the membership, epoch seconds.
        paths: resources of the secrets, in canonical form; empty for all secrets of the team.
        name: how the team calls the member, for lists and receipts; None if it says nothing.
        countersigns: cid of the first statement of a succession, in the second one (TM17).
    """

    member: _Text
    role: StatedRole
    end: int
    paths: Annotated[tuple[_Text, ...], Meta(min_length=1, max_length=MAX_MEMBER_PATHS)] = ()
    name: MemberName | None = None
    countersigns: _Text | None = None


def is_membership(delegation: Delegation) -> bool:
    """Return whether a delegation has the statement of a membership, valid or not."""
    return bool(delegation.facts) and states_membership(delegation.facts)


def secrets_resource(team: Principal) -> str:
    """Return the resource below which all secrets of a team are."""
    space = SpaceId(owner=team, name=SECRETS_SPACE)
    return SpaceResource(space=space, service="kv", path=SECRETS_PATH).text


def secret_rights(
    role: Literal["writer", "reader", "successor"], team: Principal, paths: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the rights on secrets of a writer, a reader or a successor (TM1, TM16).

    The right to decrypt with the team's network is not among them.

    Args:
        role: of the member.
        team: DID of the team.
        paths: resources of the secrets; empty for all secrets, which the member may then list too.
    Returns:
        Pairs of a resource and an ability.
    """
    abilities: tuple[str, ...] = _READ
    if role == "writer":
        abilities += _WRITE
    if not paths:
        paths = (secrets_resource(team),)
        abilities += (KV_LIST,)
    return [(path, ability) for path in paths for ability in abilities]


def stated_membership(delegation: Delegation, *, registered_at: float) -> Membership:
    """Return what a membership states, after checking its form and its rights (TM1).

    Args:
        delegation: verified; `is_membership` is true.
        registered_at: when it was registered here, epoch seconds.
    Raises:
        MalformedToken: the statement is invalid, or differs from what the delegation grants.
    Does not check:
        Who may sign it (`check_admitted`), and that it is live.
    """
    stated = _parse_statement(delegation)
    if delegation.form != "cacao":
        raise MalformedToken("a membership is signed by a wallet")
    if stated.member != delegation.delegate or delegation.audience != delegation.delegate:
        raise MalformedToken("the membership is for another member than it states")
    if not is_wallet(delegation.delegate):
        raise MalformedToken("a membership is for a wallet")
    if stated.end != delegation.expires_at:
        raise MalformedToken("the membership ends at another time than it states")
    if stated.end > registered_at + MAX_LIFE_S:
        raise MalformedToken(f"a membership ends within {MAX_LIFE_S // 86_400} days")
    team = team_of(delegation)
    _check_paths(stated, team)
    _check_succession(stated, team)
    if stated.role == "admin":
        _check_rights_of_admin(delegation.capabilities, team)
    else:
        _check_rights(delegation.capabilities, stated, team)
    return stated


def team_of(delegation: Delegation) -> Principal:
    """Return the team of a membership, which owns everything that the membership grants.

    Raises:
        MalformedToken: it grants nothing, resources of several owners, or rights with conditions.
    """
    teams = {root_of(capability.resource) for capability in delegation.capabilities}
    team = teams.pop() if len(teams) == 1 else None
    if team is None:
        raise MalformedToken("a membership grants rights of one team")
    if any(capability.caveats for capability in delegation.capabilities):
        raise MalformedToken("a membership grants rights without caveats")
    return team


def admin_membership(
    membership: Delegation, *, registered_at: float, admin: Principal, team: Principal
) -> Membership:
    """Return the membership by which an admin acts for a team (TM2).

    Args:
        membership: verified; any delegation.
        registered_at: when it was registered here, epoch seconds.
        admin: DID of the wallet that acts.
        team: DID of the team.
    Raises:
        MalformedToken: it is no valid membership of this admin in this team.
    Does not check:
        Who signed it, and that it is live.
    """
    if not is_membership(membership):
        raise MalformedToken("an admin cites the own membership")
    stated = stated_membership(membership, registered_at=registered_at)
    if stated.role != "admin" or stated.member != admin:
        raise MalformedToken("only an admin acts for a team")
    if team_of(membership) != team:
        raise MalformedToken("the admin is an admin of another team")
    return stated


def _parse_statement(delegation: Delegation) -> Membership:
    """Parse the statement in the facts of a membership (TM1).

    Raises:
        MalformedToken: there are other facts, or the statement has not the documented form.
    """
    fact, *others = delegation.facts
    if others or not isinstance(fact, dict) or len(fact) != 1:
        raise MalformedToken("a membership has exactly one fact")
    try:
        return shaped(fact.get(MEMBER_FACT), Membership)
    except InvalidJson as exc:
        raise MalformedToken(f"its statement is invalid: {exc.text}") from exc


def _check_paths(stated: Membership, team: Principal) -> None:
    """Check that the paths of a membership are secrets of the team, each once."""
    if stated.role == "admin" and stated.paths:
        raise MalformedToken("an admin's membership lists no paths")
    if len(set(stated.paths)) < len(stated.paths):
        raise MalformedToken("a membership lists each secret once")
    folder = secrets_resource(team)
    for path in stated.paths:
        is_in_folder = path.startswith(folder)
        # A path that is itself a folder would include everything below it.
        if not is_in_folder or not _SECRET.fullmatch(path.removeprefix(folder)):
            raise MalformedToken("the paths of a membership are secrets of the team")


def _check_succession(stated: Membership, team: Principal) -> None:
    """Check the statement of a successor, and that no other one countersigns (TM16, TM17)."""
    if stated.role != "successor":
        if stated.countersigns is not None:
            raise MalformedToken("only a succession is countersigned")
        return
    if stated.paths:
        raise MalformedToken("a successor's membership lists no paths")
    if stated.member == team:
        raise MalformedToken("a team is not its own successor")
    if not is_wallet(team):
        raise MalformedToken("only a team with the key of a wallet has a successor")


def _check_rights_of_admin(capabilities: Sequence[Capability], team: Principal) -> None:
    """Check that an admin's membership grants at least what a writer of all secrets has (TM1).

    A release does not tell an admin with fewer rights from one with all of them.
    """
    if len(capabilities) > MAX_ADMIN_RIGHTS:
        raise MalformedToken(f"an admin's membership has at most {MAX_ADMIN_RIGHTS} rights")
    may_decrypt = any(
        satisfies(capability.ability, DECRYPT) and network_of(capability.resource)
        for capability in capabilities
    )
    if not may_decrypt:
        raise MalformedToken("an admin may decrypt with a network of the team")
    secrets = parse_resource(secrets_resource(team))
    granted_abilities: list[str] = []  # on all secrets of the team
    for capability in capabilities:
        if extends(secrets, capability.resource):
            granted_abilities.append(capability.ability)
    for _, required in secret_rights("writer", team, ()):
        if not any(satisfies(granted, required) for granted in granted_abilities):
            raise MalformedToken("an admin may use all secrets of the team as a writer")


def _check_rights(capabilities: Sequence[Capability], stated: Membership, team: Principal) -> None:
    """Check that a membership grants exactly the rights of its role (TM1).

    If it granted more, the statement, which clients show, would not be the whole truth.
    """
    assert stated.role != "admin"  # `stated_membership` checks admins elsewhere
    expected = secret_rights(stated.role, team, stated.paths)
    granted: list[tuple[str, str]] = []
    network_count = 0
    for capability in capabilities:
        if capability.ability == DECRYPT and network_of(capability.resource):
            network_count += 1
        else:
            granted.append((capability.resource.text, capability.ability))
    has_expected_rights = sorted(granted) == sorted(expected)  # no capability repeats (T7)
    if network_count != 1 or not has_expected_rights:
        raise MalformedToken(
            f"a {stated.role} may use its secrets as a {stated.role}, decrypt with one network, and"
            " nothing else"
        )
