"""`sealspace grant revoke` and `accept`: ending a grant, and using one that somebody gave."""

import asyncio
from pathlib import Path

import click

from capabilities.ambient import SystemClock
from capabilities.principals import same_principal
from sealspace.client import Client
from sealspace.delegations import DELEGATION_TTL_S
from sealspace.errors import InvalidPortableDelegation, NotGranted, Unauthorized
from sealspace.portable import PortableDelegation
from sealspace.wallets import Wallet

from ..shared import shared
from ..terminal import confirm, print_json, watched, words
from .grant_facts import GrantFacts, judged_offline, rights_words
from .grant_list import unknown_grant
from .owner_profile import OwnerHome, owner_home
from .portable_files import checked_cid, read_grant_file


@click.command("revoke", epilog="Example: `sealspace grant revoke bafy…`; `sealspace grant list` shows the ids.")
@click.argument("grant", metavar="CID|FILE")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(grant: str, yes: bool) -> None:
    """End a grant, named by its id or by its file, at once and for good; whatever was passed on from it ends too."""
    path = Path(grant)
    cid = judged_offline(read_grant_file(path)).cid if path.is_file() else checked_cid(grant)
    was_revoked = asyncio.run(_revoke(owner_home(), cid, yes=yes))
    words(f"was revoked already: {cid}" if was_revoked else f"revoked: {cid}")
    if shared().as_json:
        print_json({"revoked": cid, "wasRevokedAlready": was_revoked})


async def _revoke(home: OwnerHome, cid: str, *, yes: bool) -> bool:
    """Revoke a grant; returns whether that had been done before."""
    async with home.client() as client:
        status = await client.delegations.status(cid)
        if status.word == "revoked":
            return True
        if status.word == "not_found":
            raise unknown_grant(cid)
        if watched():  # a script that ends a grant in an emergency is not held up
            confirm(f"revoke {cid} for good?", yes=yes)
        try:
            await client.delegations.revoke(cid)
        except Unauthorized:
            # What the wallet signed, the session may not always end; the wallet can.
            await client.delegations.revoke_by_wallet(cid, home.wallet())
    return False


@click.command(
    "accept",
    epilog="Examples: `sealspace grant accept grant.json`, then `sealspace kv get KEY --space ID` with the id of the "
    "space that this command prints. For a second person on the same machine: `--home DIR`, after "
    "`sealspace login URL --new --home DIR`.",
)
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path, exists=True, dir_okay=False))
def accept(file: Path) -> None:
    """Use a grant that somebody gave you, from now on: every later command of this home has it.

    The grant has to be for the DID of your wallet or of your session; `sealspace whoami` prints both. It is checked on
    this machine, then by the node. A grant for the wallet is taken up again at each login.
    """
    home = owner_home()
    facts = asyncio.run(_accept(home, read_grant_file(file)))
    words(f"accepted: {facts.cid}, from {facts.delegator}")
    words(*(f"  {line}" for line in rights_words(facts.rights, by=facts.delegate)))
    spaces = sorted({one.space for one in facts.rights if one.service != "encryption"})
    if shared().as_json:
        print_json({"accepted": facts.cid, "by": facts.delegator, "spaces": spaces})
    else:
        words(*(f"its values: sealspace kv list --space {one}" for one in spaces))


async def _accept(home: OwnerHome, portable: PortableDelegation) -> GrantFacts:
    facts, owner = judged_offline(portable), home.profile().owner
    state = facts.state(SystemClock().now())
    if state != "active":
        raise InvalidPortableDelegation(f"the grant is {state}", hint="ask whoever gave it for a new one")
    async with home.client() as client:
        if not any(same_principal(facts.delegate, one) for one in (owner, client.session.did)):
            raise NotGranted(
                f"the grant is for {facts.delegate}, you are {owner}",
                hint="ask for a grant to the DID that `sealspace whoami` prints",
            )
        is_for_wallet = same_principal(facts.delegate, owner)
        await take_up(client, portable, home.wallet() if is_for_wallet else None)
        home.keep_session(client.session)
    if is_for_wallet:
        home.keep_received(portable)
    return facts


async def take_up(client: Client, portable: PortableDelegation, wallet: Wallet | None) -> None:
    """Use a grant for as long as the session lasts, or the grant.

    Raises:
        InvalidPortableDelegation, NodeRefused, TransportError.
    """
    ends = client.session.expires_at
    ttl_s = DELEGATION_TTL_S if ends is None else ends - SystemClock().now()
    await client.delegations.take_up(portable, wallet=wallet, ttl_s=ttl_s)


async def take_up_received(home: OwnerHome) -> None:
    """Take up again, in a new session, what was accepted for the wallet; what has ended or was revoked is forgotten."""
    received = home.received()
    if not received:
        return
    async with home.client() as client:
        for portable in received:
            try:
                await take_up(client, portable, home.wallet())
            except (InvalidPortableDelegation, Unauthorized):
                words(f"no longer in force, and left out: the grant {portable.cid} of {portable.owner}")
                home.forget_received(portable.cid)
        home.keep_session(client.session)
