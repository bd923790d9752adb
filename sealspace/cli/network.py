"""`sealspace network show`, `create` and `revoke`: an owner's encryption networks."""

from typing import Final

import click
import msgspec

from capabilities.abilities import DECRYPT, NETWORK_CREATE, NETWORK_REVOKE, READ_RECEIPTS, SET_POLICY
from capabilities.ambient import SystemClock
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from encryption_network.pins import pin_of
from encryption_network.policy import policy_json
from encryption_network.release_record import INTEL_ROOT_SHA256

from ..apps.descriptions import MODE_WORDS, policy_words
from ..apps.release_terms import ReleaseTerms
from ..client import Client
from ..delegations import allow
from ..errors import NetworkNotFound, NotGranted
from ..session import DEFAULT_NETWORK
from .grant_create import node_terms
from .owner_profile import at_node, owner_home
from .shared import shared
from .terminal import confirm, print_found, print_json, words

_RIGHTS: Final = (DECRYPT, SET_POLICY, READ_RECEIPTS)
"""What an owner's commands do with a network."""

name_argument = click.argument("name", required=False, default=DEFAULT_NETWORK)


@click.command("show", epilog="Example: `sealspace network show`, of the network that secrets are sealed to.")
@name_argument
@at_node
async def show(client: Client, name: str) -> None:
    """Show the network NAME, `default` unless named: its key, its state, and what the node demands before it opens."""
    network = client.encryption.network(name)
    descriptor = await client.encryption.descriptor(network)
    await right_to(client, network, SET_POLICY)
    policy, terms, pin = await client.encryption.policy(network), await node_terms(client), pin_of(descriptor)
    stated = None if terms is None else {**msgspec.to_builtins(terms)}
    if stated is not None:
        del stated["collateral"]  # stated for one platform family alone
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
    lines = [
        f"network   {network.text}",
        f"node      {descriptor.node_did}",
        f"state     {descriptor.state}",
        f"key       {pin.fingerprint}, version {pin.key_version}, {descriptor.alg}",
        *(f"demands   {one}" for one in terms_words(terms)),
        *(f"policy    {one}" for one in policy_words(policy)),
    ]
    print_found(said, lines)


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
        await right_to(client, network, NETWORK_CREATE, *_RIGHTS)
    await client.encryption.ensure_network(name)  # a revoked one is refused
    words(f"{'was there already' if was_there else 'made'}: {network.text}")
    if shared().as_json:
        print_json({"network": network.text, "wasThereAlready": was_there})


@click.command("revoke", epilog="Example: `sealspace network revoke production`.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
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
    if shared().as_json:
        print_json({"revoked": name, "wasRevokedAlready": was_revoked})


async def right_to(client: Client, network: NetworkId, *abilities: str) -> None:
    """Have the wallet give the session a right on the owner's network that the login did not ask for.

    For this command only: the session that is kept does not have it.
    """
    held = client.session
    try:
        for ability in abilities:
            held.proofs_for([allow(network.text, ability)], now=SystemClock().now())
    except NotGranted:
        await client.delegations.add_right(owner_home().wallet(), [allow(network.text, one) for one in abilities])


def terms_words(terms: ReleaseTerms | None) -> tuple[str, ...]:
    """Return what a node demands before it opens anything, a fact a line."""
    if terms is None:
        return ("the node does not tell",)
    lines = [MODE_WORDS[terms.attestation]]
    for root in terms.trust_roots:
        whose = "Intel's root certificate" if root == INTEL_ROOT_SHA256.hex() else f"the root {root}, NOT Intel's"
        lines.append(f"quotes that end at {whose}")
    if not terms.trust_roots:
        lines.append("quotes that end at a root certificate that the node does not have: it accepts none")
    lines.append(f"applications with keys from {', '.join(terms.key_providers) or 'nobody'}")
    if terms.node_policy:
        lines.append("the operator's own policy is in force beside yours")
    if terms.node_policy_suffices:
        lines.append("where you approve no code, the operator's list decides")
    return tuple(lines)
