"""`sealspace login`: sign in to a node as the owner of spaces and secrets, with a wallet's key."""

import asyncio
from dataclasses import replace
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import DECRYPT, NETWORK_CREATE, READ_RECEIPTS, SET_POLICY
from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.signatures import WalletSigner
from capabilities.strict_json import Json
from encryption_network.policy import Policy
from sealspace.client import Client, SignIn
from sealspace.errors import InvalidInput
from sealspace.node_evidence import NodePolicy
from sealspace.printable import printable
from sealspace.session import Session

from ...errors import NotSignedIn
from ...term_files import read_node_policy
from ..shared import shared
from ..terminal import print_json, print_lines, watched, words
from .node_demand import demanding
from .node_terms import Demand, demand_options
from .owner_profile import OwnerHome, Profile, make_wallet, owner_home, read_wallet

_NETWORK_ABILITIES: Final = (
    DECRYPT,
    NETWORK_CREATE,
    SET_POLICY,
    READ_RECEIPTS,
)


@click.command(
    epilog="Examples: `sealspace login http://127.0.0.1:8000 --new` makes a key and signs in; later "
    "`sealspace login http://127.0.0.1:8000` signs in again. With `--require-node-evidence --node-policy "
    "approved.json` no token leaves this machine, now or later, unless the node proves that it runs that code; "
    "`sealspace node verify URL` prints such a policy.",
)
@click.argument("url", metavar="[URL]", required=False)
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The wallet's private key as 64 hex digits, mode 0600; wallet.key in the owner's folder by default.",
)
@click.option("--new", "is_new", is_flag=True, help="Make the key file, with a new key; keep a copy of it.")
@click.option(
    "--days",
    type=click.FloatRange(min=0.01, max=30),
    default=7.0,
    show_default=True,
    help="Days until the session ends.",
)
@demand_options
def login(url: str | None, key_file: Path | None, is_new: bool, days: float, demand: Demand) -> None:
    """Sign in to a node as an owner; the session is kept for the commands `secret`, `backend` and `receipts`.

    One signature of the wallet; the owner's space for secrets and encryption network are there afterwards.
    """
    place = owner_home()
    node = url or shared().node or place.profile().node
    demand, policy = _demanded(place, node, demand)
    path = (key_file or place.default_key_file).absolute()
    wallet = make_wallet(path, SystemEntropy().token(32)) if is_new else read_wallet(path)
    session, policy = asyncio.run(_sign_in(node, demand, policy, wallet, days=days))
    profile = Profile(
        node=node,
        owner=wallet.did,
        key_file=path,
        trust_root=demand.trust_root,
        collateral=demand.collateral,
        node_policy=policy,
    )
    place.keep(profile, session)
    if shared().as_json:
        print_json(_as_json(profile, session))
    else:
        _show(profile, session, is_new=is_new)


def _as_json(profile: Profile, session: Session) -> dict[str, Json]:
    return {
        "owner": profile.owner,
        "node": session.node_id,
        "expiresAt": session.expires_at,
        "keyFile": str(profile.key_file),
        "nodeEvidence": profile.node_policy is not None,
    }


def _show(profile: Profile, session: Session, *, is_new: bool) -> None:
    print_lines(f"logged in as {profile.owner}", f"at {profile.node}, {printable(str(session.node_id))}")
    if profile.node_policy is not None:
        words("the node proved approved code, and has to before every later command")
    if is_new:
        words(f"the wallet's key is in {profile.key_file}: keep a copy, nothing is recovered without it")


def _demanded(home: OwnerHome, node: str, demand: Demand) -> tuple[Demand, NodePolicy | None]:
    """Return the demand with what the last login stored, and the policy that the node has to satisfy.

    The policy is None where nothing is demanded.
    """
    if demand.insists is False:
        return demand, None
    if demand.insists:
        code = read_node_policy(demand.code_file) if demand.code_file else asyncio.run(_seen_code(node, demand))
        return demand, demand.accepted.policy(code)
    before = _before(home, node)
    if before is None or before.node_policy is None:
        return demand, None
    # Signing in again, which the commands' hints suggest, must not drop what was demanded.
    trust_root, collateral = demand.trust_root or before.trust_root, demand.collateral or before.collateral
    return replace(demand, trust_root=trust_root, collateral=collateral), before.node_policy


def _before(home: OwnerHome, node: str) -> Profile | None:
    try:
        before = home.profile()
    except NotSignedIn:
        return None
    return before if before.node.rstrip("/") == node.rstrip("/") else None


async def _seen_code(node: str, demand: Demand) -> Policy:
    """Show what the node runs, and return the policy for exactly that if the owner approves of it."""
    from . import node_judging  # needs the extra `verify`; not needed where nothing is demanded

    async with node_judging.node_verifier(trust_root=demand.trust_root, collateral=demand.collateral) as verifier:
        async with Client(node) as client:
            attestation = await node_judging.ask_node(client)
        facts = await verifier.examine(attestation, now=SystemClock().now())
    print_lines(*node_judging.in_words(attestation.statement, facts), err=True)
    if not watched():
        raise InvalidInput(
            "nobody is here to approve what the node runs",
            hint="read it, keep the policy in a file, and name that: --node-policy FILE",
        )
    click.confirm("approve exactly this code?", abort=True, err=True)
    return node_judging.exact_code(facts)


async def _sign_in(
    node: str, demand: Demand, policy: NodePolicy | None, wallet: WalletSigner, *, days: float
) -> tuple[Session, NodePolicy | None]:
    """Return the session, and what is demanded from now on, bound to this store."""
    async with (
        demanding(node, policy, trust_root=demand.trust_root, collateral=demand.collateral) as requirement,
        Client(node, require_node_evidence=requirement) as client,
    ):
        await client.sign_in(wallet, SignIn(ttl_s=days * 86_400, network_abilities=_NETWORK_ABILITIES))
        await client.encryption.ensure_network()  # the stored session pins the network's key from now on
        if policy is not None:
            policy = replace(policy, store_id=(await client.node_evidence()).statement.store_id)
        return client.session, policy
