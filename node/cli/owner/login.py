"""`sealspace login`: sign in to a node as the owner of spaces and secrets, with a wallet's key."""

import asyncio
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import click

from capabilities.ambient import SystemClock, SystemEntropy
from capabilities.signatures import WalletSigner
from encryption_network.policy import Policy
from sealspace.client import Client, SignIn
from sealspace.encryption import SET_POLICY
from sealspace.errors import InvalidInput
from sealspace.node_evidence import NodePolicy
from sealspace.printable import printable
from sealspace.receipts import READ_RECEIPTS
from sealspace.session import Session

from ...errors import NotSignedIn
from ...term_files import read_node_policy
from ..terminal import tell, tell_json
from .node_demand import demanding, judging
from .node_terms import Accepted, accepting_options
from .owner_profile import OwnerHome, Profile, home_option, make_wallet, read_wallet

_NETWORK_ABILITIES: Final = (
    "tinycloud.encryption/decrypt",
    "tinycloud.encryption/network.create",
    SET_POLICY,
    READ_RECEIPTS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Asked:
    """What the owner wants of a node.

    Attributes:
        node: its address.
        insists: whether it has to prove its code; None: as the login before.
        code_file: approved code; None: what is seen now, if the owner says so.
        accepted: beside the strict terms.
        trust_root: instead of Intel's.
        collateral: instead of Intel's service.
    """

    node: str
    insists: bool | None
    code_file: Path | None
    accepted: Accepted
    trust_root: Path | None
    collateral: Path | None


@click.command(
    short_help="Sign in to a node as an owner, with a wallet's key.",
    epilog="Examples: `sealspace login --node http://127.0.0.1:8000 --new` makes a key and signs in; later "
    "`sealspace login --node http://127.0.0.1:8000` signs in again. With `--require-node-evidence --node-policy "
    "approved.json` no token leaves this machine, now or later, unless the node proves that it runs that code; "
    "`sealspace attest node URL` prints such a policy.",
)
@click.option("--node", required=True, metavar="URL", help="The node: https://…, or http://… on this machine.")
@click.option(
    "--key-file",
    metavar="FILE",
    type=click.Path(path_type=Path, dir_okay=False),
    help="The wallet's private key as 64 hex digits, mode 0600; wallet.key in the owner's folder by default.",
)
@click.option("--new", is_flag=True, help="Make that file, with a new key; keep a copy of it.")
@click.option("--days", type=click.FloatRange(min=0.01, max=30), default=7.0, show_default=True, help="How long.")
@click.option(
    "--require-node-evidence/--no-node-evidence",
    "insists",
    default=None,
    help="Whether the node has to prove what code it runs, before this and every later command; remembered.",
)
@click.option(
    "--node-policy",
    "code_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Which code the node may run, as JSON; without it you are shown what runs there, and asked.",
)
@accepting_options
@click.option(
    "--trust-root",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False, resolve_path=True),
    help="Root certificate that quotes have to end at, instead of Intel's; remembered.",
)
@click.option(
    "--collateral",
    metavar="FOLDER",
    type=click.Path(path_type=Path, exists=True, file_okay=False, resolve_path=True),
    help="Folder of collateral to judge quotes by, instead of asking Intel; remembered.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object.")
@home_option
def login(
    node: str,
    key_file: Path | None,
    new: bool,
    days: float,
    insists: bool | None,
    code_file: Path | None,
    accepted: Accepted,
    trust_root: Path | None,
    collateral: Path | None,
    as_json: bool,
    home: Path,
) -> None:
    """Sign in to a node as an owner; the session is kept for the commands `secret`, `backend` and `receipts`.

    One signature of the wallet; the owner's space for secrets and encryption network are there afterwards.
    """
    if insists is not True and (code_file is not None or accepted != Accepted()):
        raise click.UsageError("--node-policy and --accept-… go with --require-node-evidence")
    place = OwnerHome(home)
    asked, policy = _demanded(
        place,
        _Asked(
            node=node,
            insists=insists,
            code_file=code_file,
            accepted=accepted,
            trust_root=trust_root,
            collateral=collateral,
        ),
    )
    path = (key_file or place.default_key_file).absolute()
    wallet = make_wallet(path, SystemEntropy().token(32)) if new else read_wallet(path)
    session, policy = asyncio.run(_sign_in(asked, policy, wallet, days=days))
    place.keep(
        Profile(
            node=node,
            owner=wallet.did,
            key_file=path,
            trust_root=asked.trust_root,
            collateral=asked.collateral,
            node_policy=policy,
        ),
        session,
    )
    if as_json:
        told = {"owner": wallet.did, "node": session.node_id, "expiresAt": session.expires_at, "keyFile": str(path)}
        tell_json({**told, "nodeEvidence": policy is not None})
        return
    tell(f"logged in as {wallet.did}", f"at {node}, {printable(str(session.node_id))}")
    if policy is not None:
        tell("the node proved approved code, and has to before every later command", err=True)
    if new:
        tell(f"the wallet's key is in {path}: keep a copy, nothing is recovered without it", err=True)


def _demanded(home: OwnerHome, asked: _Asked) -> tuple[_Asked, NodePolicy | None]:
    """Return what is demanded of the node, and with what it is verified."""
    if asked.insists is False:
        return asked, None
    if asked.insists:
        code = asyncio.run(_seen_code(asked)) if asked.code_file is None else read_node_policy(asked.code_file)
        return asked, asked.accepted.policy(code)
    before = _before(home, asked.node)
    if before is None or before.node_policy is None:
        return asked, None
    # To sign in again, as the commands' hints say, must not drop what was demanded.
    trust_root, collateral = asked.trust_root or before.trust_root, asked.collateral or before.collateral
    return replace(asked, trust_root=trust_root, collateral=collateral), before.node_policy


def _before(home: OwnerHome, node: str) -> Profile | None:
    try:
        before = home.profile()
    except NotSignedIn:
        return None
    return before if before.node.rstrip("/") == node.rstrip("/") else None


async def _seen_code(asked: _Asked) -> Policy:
    """Show what the node runs, and return the policy for exactly that if the owner approves of it."""
    judge = judging()
    async with judge.node_verifier(trust_root=asked.trust_root, collateral=asked.collateral) as verifier:
        async with Client(asked.node) as client:
            attestation = await judge.ask_node(client)
        facts = await verifier.examine(attestation, now=SystemClock().now())
    tell(*judge.in_words(attestation.statement, facts), err=True)
    if not sys.stdin.isatty():
        raise InvalidInput(
            "nobody is here to approve what the node runs",
            hint="read it, keep the policy in a file, and name that: --node-policy FILE",
        )
    click.confirm("approve exactly this code?", abort=True, err=True)
    code: Policy = judge.exact_code(facts)
    return code


async def _sign_in(
    asked: _Asked, policy: NodePolicy | None, wallet: WalletSigner, *, days: float
) -> tuple[Session, NodePolicy | None]:
    """Return the session, and what is demanded from now on: of this very store."""
    async with (
        demanding(asked.node, policy, trust_root=asked.trust_root, collateral=asked.collateral) as requirement,
        Client(asked.node, require_node_evidence=requirement) as client,
    ):
        await client.sign_in(wallet, SignIn(ttl_s=days * 86_400, network_abilities=_NETWORK_ABILITIES))
        await client.encryption.ensure_network()  # the session that is kept holds the network to its key from now on
        if policy is not None:
            policy = replace(policy, store_id=(await client.node_evidence()).statement.store_id)
        return client.session, policy
