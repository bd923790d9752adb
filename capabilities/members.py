"""Memberships, which are delegations that make people members of a team.

A team is an owner with a wallet's key that nobody uses day by day. It has members instead. Each
membership is a message of a wallet to the member's wallet, and states what it is in its only fact
(TM1):

    {"sealspace.member/v1": {"member": "did:pkh:…", "role": "writer", "end": 1790000000,
                             "paths": ["tinycloud:…:secrets/kv/vault/secrets/API_KEY"],
                             "name": "bob"}}

The team's own wallet signs memberships without proofs. An admin's wallet signs further ones, which
cite the admin's own membership (TM2). A member then signs in with a message to a session key that
cites the membership, and in every other way is a sign-in (TM3).

Example:
    statement = stated_membership(delegation, registered_at=now)
    member = member_of(facts)  # None: the request was not made as a member
"""

import re
from collections.abc import Sequence
from typing import Annotated, Literal

from msgspec import Meta

from .abilities import DECRYPT, KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from .capability_errors import InvalidJson, MalformedToken
from .chain import Registered
from .facts import MEMBER_FACT, states_membership
from .frozen_struct import AcyclicStruct
from .machine_tokens import MachineName
from .principals import Principal, is_wallet
from .resources import SpaceId, SpaceResource, network_of, root_of
from .sign_ins import AuthorityFacts, cited_links, is_issued, signs_in_a_key
from .strict_json import StrictRecord, shaped
from .tokens import Capability, Delegation

Role = Literal["admin", "writer", "reader"]
"""What a member may do; each role includes those after it."""

MAX_LIFE_S = 5 * 366 * 86_400
"""Longest life of a membership, from its registration."""
MAX_MEMBER_PATHS = 64
"""Most secrets of a membership that lists its secrets; each release reads a row for every one."""
SECRETS_SPACE = "secrets"
"""Name of the space of a team that its members use."""
SECRETS_PATH = "vault/secrets/"
"""The path in this space below which all secrets are."""

_READ = (KV_GET, KV_METADATA)
_WRITE = (KV_PUT, KV_DELETE)
_SECRET = re.compile(r"(scoped/[^/]+/)?[A-Z][A-Z0-9_]*")
_Text = Annotated[str, Meta(max_length=4096)]


class Membership(StrictRecord, omit_defaults=True):
    """The statement of a membership (TM1).

    Attributes:
        member: DID of the member's wallet, in canonical form.
        role: of the member.
        end: of the membership, epoch seconds.
        paths: resources of the secrets, in canonical form; empty for all secrets of the team.
        name: how the team calls the member, for lists and receipts; None if it says nothing.
    """

    member: _Text
    role: Role
    end: int
    paths: Annotated[tuple[_Text, ...], Meta(max_length=MAX_MEMBER_PATHS)] = ()
    name: MachineName | None = None


class Member(AcyclicStruct, kw_only=True):
    """The member in whose name a request was made (TM3).

    Attributes:
        team: DID of the team, which owns the requested resource.
        statement: of the membership.
        name: the member's name in the team, or a part of the DID.
    """

    team: Principal
    statement: Membership

    @property
    def paths(self) -> tuple[str, ...]:
        """Resources of the secrets that the member may use; empty for all secrets of the team."""
        return self.statement.paths

    @property
    def name(self) -> str:
        """How receipts name the member."""
        return self.statement.name or self.statement.member.rsplit(":", 1)[-1]


def is_membership(delegation: Delegation) -> bool:
    """Return whether a delegation has the statement of a membership, valid or not."""
    return bool(delegation.facts) and states_membership(delegation.facts)


def secrets_resource(team: Principal) -> str:
    """Return the resource below which all secrets of a team are."""
    space = SpaceId(owner=team, name=SECRETS_SPACE)
    return SpaceResource(space=space, service="kv", path=SECRETS_PATH).text


def secret_rights(
    role: Literal["writer", "reader"], team: Principal, paths: Sequence[str]
) -> list[tuple[str, str]]:
    """Return the rights on secrets of a writer or a reader (TM1).

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
    stated = _statement(delegation)
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
    if stated.role != "admin":
        _check_rights(delegation.capabilities, stated, team)
    return stated


def team_of(delegation: Delegation) -> Principal:
    """Return the team of a membership, which owns everything that the membership grants.

    Raises:
        MalformedToken: it grants nothing, resources of several owners, or rights with conditions.
    """
    teams = {root_of(capability.resource) for capability in delegation.capabilities}
    (team, *others) = teams or {None}
    if team is None or others:
        raise MalformedToken("a membership grants rights of one team")
    if any(capability.caveats for capability in delegation.capabilities):
        raise MalformedToken("a membership grants rights without caveats")
    return team


def check_admitted(
    delegation: Delegation, stated: Membership, parents: Sequence[Registered]
) -> None:
    """Check that a membership was signed by somebody who may admit members (TM2).

    Args:
        delegation: the membership.
        stated: its statement.
        parents: the stored delegations that it cites.
    Raises:
        MalformedToken: neither the team nor one of its admins signed it.
    """
    team = team_of(delegation)
    if delegation.delegator == team:
        if delegation.parents:
            raise MalformedToken("a membership that the team signs cites no proof")
        return
    parent = parents[0] if len(parents) == len(delegation.parents) == 1 else None
    if parent is None or not is_membership(parent.delegation):
        raise MalformedToken("a membership is signed by the team, or cites an admin's membership")
    admin = stated_membership(parent.delegation, registered_at=parent.registered_at)
    if admin.role != "admin" or admin.member != delegation.delegator:
        raise MalformedToken("only an admin may admit members")
    if team_of(parent.delegation) != team:
        raise MalformedToken("the admin is an admin of another team")
    if stated.end > admin.end:
        raise MalformedToken("a membership ends no later than that of the admin who signed it")


def member_of(facts: AuthorityFacts) -> Member | None:
    """Return as which member of a team a request was made (TM3).

    Such a request cites one delegation: a member's sign-in to the invoker. It has no other
    authority.

    Args:
        facts: of the request; `owner` is the owner of the requested resource.
    Returns:
        None if the request was not made as a member.
    Raises:
        MalformedToken: the sign-in cites a membership that is not valid (TM1, TM2).
    Does not check:
        That the delegations are in force.
    """
    if facts.invoker == facts.owner or len(facts.cited) != 1:
        return None
    sign_in = facts.links.get(facts.cited[0])
    if sign_in is None or sign_in.delegation.delegate != facts.invoker:
        return None
    return signed_in_member(facts, sign_in)


def signed_in_member(facts: AuthorityFacts, sign_in: Registered) -> Member | None:
    """Return the member who signed in with a delegation; None if it is no member's sign-in (TM3).

    Raises:
        MalformedToken: it cites a membership that is not valid.
    """
    delegation = sign_in.delegation
    if len(delegation.parents) != 1 or not is_issued(delegation, now=facts.now):
        return None
    if not signs_in_a_key(delegation, registered_at=sign_in.registered_at):
        return None
    membership = _only_proof(facts, sign_in)
    if membership is None or not is_membership(membership.delegation):
        return None
    return _member(facts, membership, holder=delegation.delegator)


def admin_statement(facts: AuthorityFacts, link: Registered) -> bool:
    """Return whether an admin of the owner made a statement for it (TM6).

    The delegation is signed by an admin's wallet, and cites only the admin's membership; or it is
    signed by the key of an admin's session, and cites only the admin's sign-in.

    Raises:
        MalformedToken: it cites a membership that is not valid.
    Does not check:
        That the delegations are in force.
    """
    proof = _only_proof(facts, link)
    if proof is None:
        return False
    signer = link.delegation.delegator
    if is_membership(proof.delegation):
        member: Member | None = _member(facts, proof, holder=signer)
    elif proof.delegation.delegate == signer:
        member = signed_in_member(facts, proof)
    else:
        member = None
    return member is not None and member.statement.role == "admin"


def _member(facts: AuthorityFacts, membership: Registered, *, holder: Principal) -> Member:
    """Check a membership of `holder` and all above it, and return the member.

    Raises:
        MalformedToken: one of them is not valid, or the membership is not the holder's.
    """
    first = stated_membership(membership.delegation, registered_at=membership.registered_at)
    if first.member != holder:
        raise MalformedToken("the membership is that of another member")
    if team_of(membership.delegation) != facts.owner:
        raise MalformedToken("the membership is one of another team")
    link, stated = membership, first
    # A closure has few members and no cycle, but the bound does not rely on that.
    for _ in range(len(facts.links)):
        parents = cited_links(facts, link)
        if parents is None:
            raise MalformedToken("a delegation that the membership cites is missing")
        check_admitted(link.delegation, stated, parents)
        if not parents:
            return Member(team=facts.owner, statement=first)
        link = parents[0]
        stated = stated_membership(link.delegation, registered_at=link.registered_at)
    raise MalformedToken("the memberships cite each other")


def _only_proof(facts: AuthorityFacts, link: Registered) -> Registered | None:
    """Return the only delegation that a delegation cites; None if it cites another number."""
    proofs = cited_links(facts, link) or []
    return proofs[0] if len(proofs) == 1 else None


def _statement(delegation: Delegation) -> Membership:
    """Return the statement in the facts of a membership (TM1)."""
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
        # A folder would include everything below it.
        if not path.startswith(folder) or not _SECRET.fullmatch(path.removeprefix(folder)):
            raise MalformedToken("the paths of a membership are secrets of the team")


def _check_rights(capabilities: Sequence[Capability], stated: Membership, team: Principal) -> None:
    """Check that a membership grants exactly the rights of its role (TM1).

    A membership that granted more would say less than it is.
    """
    assert stated.role != "admin"
    expected = secret_rights(stated.role, team, stated.paths)
    granted: list[tuple[str, str]] = []
    network_count = 0
    for capability in capabilities:
        if capability.ability == DECRYPT and network_of(capability.resource):
            network_count += 1
        else:
            granted.append((capability.resource.text, capability.ability))
    if network_count != 1 or sorted(granted) != sorted(expected):  # no capability repeats (T7)
        raise MalformedToken(
            f"a {stated.role} may use its secrets as a {stated.role}, decrypt with one network, and"
            " nothing else"
        )
