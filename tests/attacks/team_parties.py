"""The members of a team, with memberships and sign-ins that can each be wrong on their own.

Example:
    team = await stage.owner()
    bob = Person()
    bob.take(await stage.register(membership(team, bob, "reader")))
    reply = await stage.ask(await bob.sign_in(stage, team), team)
"""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from attacks.parties import (
    DECRYPT,
    DELETE,
    GET,
    LIST,
    PUT,
    READ_CAPABILITIES,
    REVOKE,
    Delegate,
    Owner,
    Stage,
    ids,
)
from running_node import Grants, wallet_token

from capabilities.facts import MEMBER_URN, statement_resource
from capabilities.memberships import Role, secrets_resource
from capabilities.principals import parse_principal
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from sealspace.wallets import new_wallet

METADATA = "tinycloud.kv/metadata"


@dataclass
class Person:
    """Somebody with a wallet, who is a member of one team at most.

    Attributes:
        wallet: the person's.
        membership: the token of the membership, empty before the person has one.
    """

    wallet: WalletSigner = field(default_factory=new_wallet)
    membership: str = ""

    @property
    def did(self) -> str:
        return self.wallet.did

    async def sign_in(
        self, stage: Stage, rights: Grants, *, delegate: Delegate | None = None, **more: Any
    ) -> Delegate:
        """Sign in to a key as a member, with these rights."""
        key = delegate or Delegate()
        token = wallet_token(
            self.wallet,
            key.did_url,
            rights,
            parents=ids(self.membership),
            **({"ttl_s": 900} | more),
        )
        key.proofs = [await stage.register(token)]
        return key


def rights_on(team: Owner, role: Role, paths: Sequence[str] = ()) -> Grants:
    """Return what a membership of a role grants (TM1)."""
    abilities = [GET, METADATA]
    if role != "reader":
        abilities += [PUT, DELETE]
    rights: dict[str, list[str]] = {team.network: [DECRYPT]}
    if paths:
        return {**rights, **dict.fromkeys(paths, abilities)}
    rights[secrets_resource(parse_principal(team.wallet.did))] = [*abilities, LIST]
    if role == "admin":
        space = team.space("secrets")
        rights[f"{space}/delegation"] = [REVOKE, "tinycloud.delegation/list"]
        rights[f"{space}/capabilities"] = [READ_CAPABILITIES]
    return rights


def membership(
    team: Owner,
    person: Person,
    role: Role,
    *names: str,
    by: Person | None = None,
    ttl_s: int | None = None,
    grants: Grants | None = None,
    also: Grants | None = None,
    changes: Mapping[str, Json] | None = None,
    **more: Any,
) -> str:
    """Return a membership for all secrets or for the named ones.

    Args:
        team: the owner of the secrets.
        person: the member.
        role: the member's.
        names: secrets.
        by: the admin who signs it; None: the team's wallet.
        ttl_s: seconds until it ends; None: an hour, or half an hour if an admin signs, whose own
            membership has to end later.
        grants: what it grants, in place of the role's rights.
        also: what it grants beside them.
        changes: members that replace those of the statement.
        more: arguments of `wallet_token`.
    """
    life_s = ttl_s or (3600 if by is None else 1800)
    ends_at = int(time.time()) + life_s
    paths = [team.client.secrets().resource(name) for name in names]
    stated: dict[str, Json] = {"member": person.did, "role": role, "end": ends_at}
    if paths:
        stated["paths"] = [*paths]
    stated |= changes or {}
    rights = {**(grants or rights_on(team, role, paths)), **(also or {})}
    signer = team.wallet if by is None else by.wallet
    parents = () if by is None else ids(by.membership)
    values = {"ends_at": ends_at, "parents": parents, "resources": [member_resource(stated)]}
    return wallet_token(signer, person.did, rights, **(values | more))


def member_resource(stated: Mapping[str, Json], *, urn: str = MEMBER_URN) -> str:
    """Return the resource of a message that states a membership."""
    return statement_resource(stated, urn=urn)


async def admitted(
    stage: Stage, team: Owner, role: Role, *names: str, **more: Any
) -> tuple[Person, Delegate]:
    """Return a new member who has signed in with all rights of the membership."""
    person = Person()
    person.membership = await stage.register(membership(team, person, role, *names, **more))
    paths = [team.client.secrets().resource(name) for name in names]
    return person, await person.sign_in(stage, rights_on(team, role, paths))
