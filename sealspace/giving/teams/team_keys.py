"""The two uses of a team's own key: to make the team, and to admit an admin (TM9).

Example:
    created = await client.teams.create()
    membership = await client.teams.recover(created.seed, created.team)
    assert membership.delegator == created.team
"""

from collections.abc import Iterable, Mapping
from dataclasses import field

from capabilities.capability_errors import CapabilityError
from capabilities.frozen import frozen
from capabilities.principals import Principal, same_principal
from capabilities.signatures import WalletSigner

from ...delegations import Delegations
from ...encryption import Encryption
from ...errors import InvalidInput, NetworkNotFound, RecoveredKeyMismatch
from ...printable import printable
from ...secrets import SECRETS_SPACE
from ...session import Grant, network_of_owner
from ...wire.caller import Caller
from ...wire.sign_in import SignIn, wallet_sign_in
from .membership_signing import MEMBERSHIP_TTL_S, member_did, require_life, sign_membership

_BRIEF_TTL_S = 600.0
"""Lifetime of the team's own sign-in, seconds."""


@frozen(repr=False)
class CreatedTeam:
    """A new team.

    Attributes:
        team: DID of the team.
        memberships: memberships of its admins, the caller's first.
        seed: the private key of the team's wallet, 32 bytes. Store it where no member needs it day
            by day: whoever has it can do everything that the team can (TM9).
    """

    team: Principal
    memberships: tuple[Grant, ...]
    seed: bytes = field(repr=False)

    def __repr__(self) -> str:
        return f"CreatedTeam({self.team}, {len(self.memberships)} admins)"


async def create_team(
    caller: Caller,
    admins: Iterable[str],
    *,
    ttl_s: float = MEMBERSHIP_TTL_S,
    names: Mapping[str, str] | None = None,
    seed: bytes | None = None,
) -> CreatedTeam:
    """Create a team; see `Teams.create`. `admins` are the DIDs of all its admins."""
    require_life(ttl_s)
    admin_dids = [member_did(did) for did in admins]
    if seed is None:
        seed = caller.entropy.token(32)
    wallet = _wallet_from_seed(seed)
    _require_other_wallet(wallet, admin_dids)
    team_caller = await _sign_in(caller, wallet)
    await Encryption(team_caller).ensure_network()
    ends_at = int(caller.clock.now() + ttl_s)
    name_by_did = names or {}
    memberships = []
    for did in dict.fromkeys(admin_dids):  # each admin once
        membership = await sign_membership(
            team_caller,
            wallet,
            did,
            "admin",
            ends_at=ends_at,
            name=name_by_did.get(did),
            parent=None,
        )
        memberships.append(membership)
    await _end_session(team_caller)
    return CreatedTeam(team=team_caller.session.owner, memberships=tuple(memberships), seed=seed)


async def recover_team(
    caller: Caller,
    seed: bytes,
    team: str,
    admin: str,
    *,
    ttl_s: float = MEMBERSHIP_TTL_S,
    name: str | None = None,
) -> Grant:
    """Admit an admin with the team's own key; see `Teams.recover`."""
    require_life(ttl_s)
    did = member_did(admin)
    wallet = _wallet_from_seed(seed)
    if not same_principal(wallet.did, team):
        raise RecoveredKeyMismatch(
            f"the key is not that of the team {printable(team, most=100)}",
            hint="compare the DID, or use the key or the shares of this team",
        )
    _require_other_wallet(wallet, [did])
    # A node that hosts everybody would make an empty space for the team at the sign-in. So the
    # node has to have the team's network first.
    try:
        await Encryption(caller).descriptor(network_of_owner(wallet.did))
    except NetworkNotFound as missing:
        missing.hint = "use a client for the node that has the team"
        missing.step = "log in at the team's node: sealspace login URL"
        raise
    team_caller = await _sign_in(caller, wallet)
    membership = await sign_membership(
        team_caller,
        wallet,
        did,
        "admin",
        ends_at=int(caller.clock.now() + ttl_s),
        name=name,
        parent=None,
    )
    await _end_session(team_caller)
    return membership


async def _sign_in(caller: Caller, wallet: WalletSigner) -> Caller:
    """Sign in with the team's own wallet for ten minutes, and return a caller for the session."""
    sign_in = SignIn(space=SECRETS_SPACE, ttl_s=_BRIEF_TTL_S)
    session = await wallet_sign_in(caller, wallet, sign_in)
    return caller.acting(session)


async def _end_session(caller: Caller) -> None:
    """Revoke the sign-in of a caller's session."""
    sign_in = caller.session.grants[0]
    await Delegations(caller).revoke(sign_in.cid)


def _wallet_from_seed(seed: bytes) -> WalletSigner:
    try:
        return WalletSigner(seed)
    except (ValueError, CapabilityError) as exc:
        raise InvalidInput("the seed is not the key of a wallet: 32 random bytes") from exc


def _require_other_wallet(wallet: WalletSigner, dids: Iterable[str]) -> None:
    """Refuse the key of an admin's wallet, because a team has a key of its own."""
    if any(same_principal(wallet.did, did) for did in dids):
        raise InvalidInput(
            f"this is the key of {wallet.did}, who would be an admin, and not that of a team",
            hint="a team has a key of its own: name another file or folder",
        )
