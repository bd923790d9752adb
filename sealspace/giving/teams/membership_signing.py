"""Memberships, as a client signs them (TM1, TM2).

Example:
    from sealspace.wallets import new_wallet

    assert member_did(new_wallet().did).startswith("did:pkh:eip155:1:0x")
    require_life(MEMBERSHIP_TTL_S)
"""

from collections.abc import Collection

import msgspec

from capabilities.capability_errors import CapabilityError
from capabilities.facts import MEMBER_URN, statement_resource
from capabilities.memberships import (
    MAX_LIFE_S,
    MAX_MEMBER_PATHS,
    Membership,
    Role,
    stated_membership,
)
from capabilities.principals import Principal, is_wallet, parse_principal
from capabilities.tokens import parse_delegation, verify_delegation

from ...errors import InvalidInput
from ...secrets import SECRETS_SPACE, parse_secret_label, writable_name
from ...session import Grant, space_of
from ...wallets import AnyWallet, wallet_of
from ...wire.caller import Caller
from ...wire.sign_in import register, sign_grant
from .memberships import membership_rights

MEMBERSHIP_TTL_S = 365 * 86_400.0
"""Default lifetime of a membership, seconds."""


async def sign_membership(
    caller: Caller,
    wallet: AnyWallet,
    did: Principal,
    role: Role,
    secrets: Collection[str] = (),
    *,
    ends_at: int,
    name: str | None,
    parent: Grant | None,
) -> Grant:
    """Sign a membership, check it as a node does (TM1), and register it.

    Args:
        caller: a caller with a session for the team.
        wallet: wallet of the admin who signs, or the team's own.
        did: DID of the member's wallet.
        role: `admin`, `writer` or `reader`.
        secrets: labels of the secrets, at most 64; empty: all.
        ends_at: epoch seconds.
        name: how the team calls the member, or None.
        parent: the signing admin's membership; None: the team's own wallet signs.
    Raises:
        InvalidInput: an argument is not valid.
        NodeRefused, TransportError: the node did not register the membership.
    """
    team = caller.session.owner
    space = space_of(team, SECRETS_SPACE).text
    paths = set()
    for label in secrets:
        parsed = parse_secret_label(label)
        secret = writable_name(parsed.name, parsed.scope)
        paths.add(f"{space}/kv/{secret.path}")
    statement = Membership(
        member=did, role=role, end=ends_at, paths=tuple(sorted(paths)), name=name
    )
    return await sign_statement(caller, wallet, team, statement, parent=parent)


async def sign_statement(
    caller: Caller,
    wallet: AnyWallet,
    team: Principal,
    statement: Membership,
    *,
    parent: Grant | None,
) -> Grant:
    """Sign the statement of a membership, check it as a node does (TM1), and register it.

    Args:
        caller: sends the request.
        wallet: wallet of the admin who signs, or the team's own.
        team: DID of the team.
        statement: the content of the membership.
        parent: the signing admin's membership; None: the team's own wallet signs.
    Raises:
        InvalidInput: the membership is not valid.
        NodeRefused, TransportError: the node did not register the membership.
    """
    now = caller.clock.now()
    grant = sign_grant(
        caller,
        wallet_of(wallet),
        parse_principal(statement.member),
        membership_rights(team, statement.role, statement.paths),
        # The delegation has to end in the second that the statement names. Its end is rounded down
        # when it is signed, and half a second may pass until then.
        ttl_s=statement.end + 0.5 - now,
        domain="localhost",
        parent=parent,
        resources=[statement_resource(msgspec.to_builtins(statement), urn=MEMBER_URN)],
    )
    try:
        delegation = verify_delegation(parse_delegation(grant.header))
        stated_membership(delegation, registered_at=now)  # raises, as the node would
    except CapabilityError as exc:
        raise InvalidInput(
            f"the membership is not valid: {exc}",
            hint=f"name at most {MAX_MEMBER_PATHS} secrets, none for an admin, and a name of at"
            " most 64 letters, digits, dots, dashes and underscores",
        ) from exc
    await register(caller, grant)
    return grant


def require_life(ttl_s: float) -> None:
    """Refuse a lifetime that no membership may have.

    Raises:
        InvalidInput: the lifetime is not positive, or longer than 1,830 days.
    """
    if not 0 < ttl_s <= MAX_LIFE_S:
        raise InvalidInput(
            f"a membership lasts more than 0 s, and at most {MAX_LIFE_S // 86_400} days"
        )


def member_did(did: str) -> Principal:
    """Return a wallet's DID in canonical spelling.

    Raises:
        InvalidInput: the text is not the DID of a wallet.
    """
    try:
        member = parse_principal(did)
    except CapabilityError:
        member = None
    if member is None or not is_wallet(member):
        raise InvalidInput(
            "a member of a team needs a wallet, and this is not the DID of one",
            hint="ask the person for the DID of the wallet, which begins with did:pkh:eip155:",
            step="ask the person for the DID that `sealspace whoami` prints as owner",
        )
    return member
