"""`sealspace grant revoke` and `accept`: ending a grant, and using one that somebody gave."""

import shlex
from collections.abc import Sequence
from pathlib import Path

import click

from capabilities.abilities import DECRYPT, KV_GET, KV_LIST
from capabilities.ambient import SystemClock
from capabilities.principals import same_principal
from capabilities.resources import parse_space_id

from ..apps.descriptions import rights_words
from ..client import Client
from ..delegations import DELEGATION_TTL_S
from ..errors import InvalidPortableDelegation, NotGranted, Unauthorized
from ..secrets import secret_at
from ..wallets import Wallet
from ..wire.delegation_history import ending_with
from ..wire.portable import PortableDelegation
from .grant_create import NOT_SHARED, demands_code
from .grant_facts import JudgedGrant, judged_offline
from .grant_list import unknown_grant
from .owner_profile import at_node, owner_home
from .paths import FILE, checked_cid, file_named, read_grants
from .shared import shared
from .terminal import confirm, print_found, print_json, watched, words, yes_option


@click.command("revoke", epilog="Example: `sealspace grant revoke bafy…`; `sealspace grant list` shows the ids.")
@click.argument("grant", metavar="CID|FILE")
@click.option("--only", is_flag=True, help="End no other grant to the same recipient.")
@yes_option
@at_node
async def revoke(client: Client, grant: str, only: bool, yes: bool) -> None:
    """End a grant, named by its id or by its file, at once and for good; whatever was passed on from it ends too.

    Other grants that open the same secrets for the same recipient end with it, and are named before you are asked: with
    one of them left, the recipient could still open a copy that it kept.
    """
    file = file_named(grant)
    cids = [checked_cid(grant)] if file is None else [judged_offline(one).cid for one in read_grants(file)]
    ended = await _revoke(client, cids, only=only, yes=yes)
    words(*(f"was revoked already: {cid}" if was else f"revoked: {cid}" for cid, was in ended.items()))
    print_found([{"cid": cid, "wasRevokedAlready": was} for cid, was in ended.items()], ())


async def _revoke(client: Client, cids: Sequence[str], *, only: bool, yes: bool) -> dict[str, bool]:
    """Revoke grants, and what has to end with them; returns of each whether it was revoked before."""
    left = []
    for cid in cids:
        status = await client.delegations.status(cid)
        if status.word == "not_found":
            raise unknown_grant(cid)
        if status.word != "revoked":
            left.append(cid)
    records = [one async for one in client.delegations.query(direction="granted")] if left and not only else []
    ended = {cid: cid not in left for cid in cids}
    for one in records:
        if one.cid in left:
            together = ending_with(records, one, client.session.owner)
            words(*(f"ends too, or {one.delegate} could open a copy: {cid}" for cid in together if cid not in ended))
            del ended[one.cid]
            ended |= dict.fromkeys(together, False)
    if left and watched():  # a script that ends a grant in an emergency is not held up
        confirm(f"revoke {', '.join(cid for cid, was in ended.items() if not was)} for good?", yes=yes)
    try:
        # Those that are shown as revoked too: only the answer to a revocation says that it outlives a failover (ST16).
        await client.delegations.revoke(*ended)
    except Unauthorized:
        # What the wallet signed, the session may not always end; the wallet can.
        for cid in ended:
            await client.delegations.revoke_by_wallet(cid, owner_home().wallet())
    return ended


@click.command(
    "accept",
    epilog="Examples: `sealspace grant accept grant.json`, then the command that it prints: `sealspace kv get KEY "
    "--space ID`, or `sealspace secret get NAME --owner DID`. For a second person on the same machine: `--home DIR`, "
    "after `sealspace login URL --new --home DIR`.",
)
@click.argument("file", type=FILE)
@at_node
async def accept(client: Client, file: Path) -> None:
    """Use a grant that somebody gave you, from now on: every later command of this home has it.

    The grant has to be for the DID of your wallet or of your session; `sealspace whoami` prints both. It is checked on
    this machine, then by the node. A grant for the wallet is taken up again at each login.
    """
    accepted = await _accept(client, read_grants(file))
    for one in accepted:
        words(f"accepted: {one.cid}, from {one.token.delegator}")
        words(*(f"  {line}" for line in rights_words(one.rights, by=one.token.delegate)))
    spaces = sorted({right.space for one in accepted for right in one.rights if right.service != "encryption"})
    if shared().as_json:
        print_json({"accepted": [one.cid for one in accepted], "spaces": spaces})
    else:
        words(*(f"to use it: {command}" for one in accepted for command in _commands(one)))


def _commands(judged: JudgedGrant) -> list[str]:
    """Return the commands that use a grant, one for each resource that a command reads; safe to paste into a shell."""
    commands = []
    for right in judged.rights:
        secret = secret_at(right.path)
        space = ("--space", right.space)
        if right.service == "kv" and secret is None and KV_LIST in right.actions:
            commands.append(_command("kv", "list", *space, named=right.path))
        elif right.service == "kv" and secret is None and KV_GET in right.actions:
            commands.append(_command("kv", "get", *space, named=right.path or "KEY"))
        elif secret is not None and KV_GET in right.actions:
            option = () if secret.scope is None else (f"--scope={secret.scope}",)
            owner = parse_space_id(right.space).owner
            commands.append(_command("secret", "get", *option, "--owner", owner, named=secret.name))
    return commands


def _command(*words: str, named: str) -> str:
    """Write a command for a shell; whoever made the grant chose what is named in it."""
    before = ("--",) if named.startswith("-") else ()
    return shlex.join(("sealspace", *words, *before, *((named,) if named else ())))


async def _accept(client: Client, portables: Sequence[PortableDelegation]) -> list[JudgedGrant]:
    """Use grants from now on; all are judged before the first is used."""
    home = owner_home()
    owner = home.profile().owner
    judged = [judged_offline(one) for one in portables]
    for grant in judged:
        _require_usable(grant, (owner, client.session.did))
    for_wallet = [one for one in portables if same_principal(one.delegate_did, owner)]
    for one in portables:
        await take_up(client, one, home.wallet() if one in for_wallet else None)
    home.keep_session(client.session)
    for one in for_wallet:
        home.keep_received(one)
    if any(DECRYPT in right.actions for grant in judged for right in grant.rights) and await demands_code(client):
        words(NOT_SHARED)
    return judged


def _require_usable(judged: JudgedGrant, ours: tuple[str, ...]) -> None:
    state = judged.state(SystemClock().now())
    if state != "active":
        raise InvalidPortableDelegation(f"the grant is {state}", hint="ask whoever gave it for a new one")
    if not any(same_principal(judged.token.delegate, one) for one in ours):
        raise NotGranted(
            f"the grant is for {judged.token.delegate}, you are {ours[0]}",
            hint="ask for a grant to the DID that `sealspace whoami` prints",
        )


async def take_up(client: Client, portable: PortableDelegation, wallet: Wallet | None) -> None:
    """Use a grant for as long as the session lasts, or the grant."""
    ends = client.session.expires_at
    ttl_s = DELEGATION_TTL_S if ends is None else ends - SystemClock().now()
    await client.delegations.take_up(portable, wallet=wallet, ttl_s=ttl_s)


def take_up_received() -> None:
    """Take up again, in a new session, what was accepted for the wallet; what has ended or was revoked is forgotten."""
    received = owner_home().received()
    if received:
        _take_up_again(received)


@at_node
async def _take_up_again(client: Client, received: Sequence[PortableDelegation]) -> None:
    home = owner_home()
    for portable in received:
        try:
            await take_up(client, portable, home.wallet())
        except (InvalidPortableDelegation, Unauthorized):
            words(f"no longer in force, and left out: the grant {portable.cid} of {portable.owner}")
            home.forget_received(portable.cid)
    home.keep_session(client.session)
