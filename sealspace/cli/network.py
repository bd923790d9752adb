"""`sealspace network`: an owner's encryption networks, and what code may receive keys of them."""

from pathlib import Path
from typing import Final

import click
import msgspec

from capabilities.abilities import (
    DECRYPT,
    NETWORK_CREATE,
    NETWORK_REVOKE,
    READ_RECEIPTS,
    SET_POLICY,
)
from capabilities.clock_and_entropy import SystemClock
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from encryption_network.pins import pin_of
from encryption_network.policy import Policy, policy_json
from encryption_network.release_record import INTEL_ROOT_SHA256

from ..apps.attestation import ReleaseTerms
from ..apps.descriptions import MODE_WORDS, policy_changes, policy_words
from ..client import Client
from ..delegations import allow
from ..errors import NetworkNotFound, NotGranted
from ..session import DEFAULT_NETWORK
from .grant_create import node_terms
from .owner_profile import at_node, owner_home
from .paths import FILE
from .term_files import read_node_policy
from .terminal import confirm, facts, print_found, words, yes_option

OWNER_ABILITIES: Final = (DECRYPT, NETWORK_CREATE, SET_POLICY, READ_RECEIPTS)
"""What an owner's commands do with a network."""

name_argument = click.argument("name", required=False, default=DEFAULT_NETWORK)


@click.command(
    "show", epilog="Example: `sealspace network show`, of the network that secrets are sealed to."
)
@name_argument
@at_node
async def show(client: Client, name: str) -> None:
    """Show the network NAME, `default` unless named: its key, its state, and what the node demands
    before it opens."""
    network = client.encryption.network(name)
    descriptor = await client.encryption.descriptor(network)
    await right_to(client, network, SET_POLICY)
    policy, terms, pin = (
        await client.encryption.policy(network),
        await node_terms(client),
        pin_of(descriptor),
    )
    stated = None if terms is None else msgspec.to_builtins(terms)
    said: dict[str, Json] = {
        "network": network.text,
        "owner": network.owner,
        "node": descriptor.node_did,
        "state": descriptor.state,
        "algorithm": descriptor.alg,
        "keyVersion": pin.key_version,
        "publicEncryptionKey": pin.public_key.hex(),
        "fingerprint": pin.fingerprint,
        "policy": None if policy is None else policy_json(policy),
        "terms": stated,
    }
    named = {
        "network": network.text,
        "node": descriptor.node_did,
        "state": descriptor.state,
        "key": f"{pin.fingerprint}, version {pin.key_version}, {descriptor.alg}",
        "demands": terms_words(terms),
        "policy": policy_words(policy),
    }
    print_found(said, facts(named))


@click.command("create", epilog="Example: `sealspace network create production`.")
@click.argument("name")
@at_node
async def create(client: Client, name: str) -> None:
    """Make the network NAME: a further key pair of yours at the node."""
    network, was_there = client.encryption.network(name), True
    try:
        await client.encryption.descriptor(network)
    except NetworkNotFound:
        was_there = False
        await right_to(client, network, *OWNER_ABILITIES)
    await client.encryption.ensure_network(name)  # a revoked one is refused
    words(f"{'was there already' if was_there else 'made'}: {network.text}")
    print_found({"network": network.text, "wasThereAlready": was_there})


@click.command("revoke", epilog="Example: `sealspace network revoke production`.")
@click.argument("name")
@yes_option
@at_node
async def revoke(client: Client, name: str, yes: bool) -> None:
    """End the network NAME for ever: nothing that is sealed to it is opened again, for anybody.

    Its name stays taken. To end a grant only: `sealspace grant revoke`.
    """
    network = client.encryption.network(name)
    was_revoked = (await client.encryption.descriptor(network)).state == "revoked"
    if not was_revoked:
        confirm(f"revoke {network.text} for ever, with everything that is sealed to it?", yes=yes)
    await right_to(client, network, NETWORK_REVOKE)
    await client.encryption.revoke_network(network)  # ST16: also where it is shown as revoked
    words(f"was revoked already: {name}" if was_revoked else f"revoked: {name}")
    print_found({"revoked": name, "wasRevokedAlready": was_revoked})


@click.command(
    "policy",
    epilog=(
        "Examples: `sealspace network policy` shows it; `sealspace network policy --set"
        " policy.json` shows what changes, asks, and sets it; `--json` prints what `--set` reads."
        " `sealspace backend show URL --json` has the policy that approves what runs there, as its"
        " member `policy`."
    ),
)
@name_argument
@click.option(
    "--set",
    "file",
    type=FILE,
    help="Set the policy in this JSON file, in place of what was stated.",
)
@click.option("--remove", is_flag=True, help="State nothing any more.")
@yes_option
@at_node
async def policy_(client: Client, name: str, file: Path | None, remove: bool, yes: bool) -> None:
    """Show, set or remove what code may receive keys of the network NAME, `default` unless named.

    A policy is in force with the next request, beside what the node demands and what each grant
    says.
    """
    if file is not None and remove:
        raise click.UsageError("--set and --remove exclude each other")
    wanted = None if file is None else read_node_policy(file)
    network = client.encryption.network(name)
    await right_to(client, network, SET_POLICY)
    before = await client.encryption.policy(network)
    if file is None and not remove:
        print_found(None if before is None else policy_json(before), policy_words(before))
        return
    if before != wanted:
        words(*policy_changes(before, wanted))
        effect = (
            "it only tightens"
            if only_tightens(before, wanted)
            else "code that was refused may be accepted by it"
        )
        confirm(f"set this? {effect}", yes=yes)
        await client.encryption.set_policy(network, wanted)
    words("nothing changes" if before == wanted else f"set: {name}")
    print_found(None if wanted is None else policy_json(wanted))


def only_tightens(before: Policy | None, after: Policy | None) -> bool:
    """Whether nothing is accepted that was refused: False in doubt, and wherever a list of code
    appears or goes.

    A policy that approves code is the list that delegates are judged by (RL5), so that the first
    one opens something.
    """
    if after is None or before is None:
        return after == before or (before is None and after is not None and not after.is_allow_list)
    return after.is_within(before) and (before.is_allow_list or not after.is_allow_list)


async def right_to(client: Client, network: NetworkId, *abilities: str) -> None:
    """Have the wallet give the session a right on the owner's network that the login did not ask
    for.

    For this command only: the session that is kept does not have it.
    """
    wanted = [allow(network.text, one) for one in abilities]
    try:
        client.session.proofs_for(wanted, now=SystemClock().now())
    except NotGranted:
        await client.delegations.add_right(owner_home().wallet(), wanted)


def terms_words(terms: ReleaseTerms | None) -> tuple[str, ...]:
    """Return what a node demands before it opens anything, a fact a line."""
    if terms is None:
        return ("the node does not tell",)
    lines = [MODE_WORDS[terms.attestation]]
    for root in terms.trust_roots:
        whose = (
            "Intel's root certificate"
            if root == INTEL_ROOT_SHA256.hex()
            else f"the root {root}, NOT Intel's"
        )
        lines.append(f"quotes that end at {whose}")
    if not terms.trust_roots:
        lines.append(
            "quotes that end at a root certificate that the node does not have: it accepts none"
        )
    lines.append(f"applications with keys from {', '.join(terms.key_providers) or 'nobody'}")
    if terms.node_policy:
        lines.append("the operator's own policy is in force beside yours")
    if terms.node_policy_suffices:
        lines.append("where you approve no code, the operator's list decides")
    return tuple(lines)
