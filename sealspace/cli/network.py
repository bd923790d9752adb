"""`sealspace network show`, `create` and `revoke`: an owner's encryption networks."""

from typing import Final

import click

from capabilities.abilities import DECRYPT, NETWORK_CREATE, NETWORK_REVOKE, READ_RECEIPTS, SET_POLICY
from capabilities.ambient import SystemClock
from capabilities.resources import NetworkId
from capabilities.strict_json import Json
from encryption_network.networks import Descriptor
from encryption_network.pins import pin_of
from encryption_network.policy import Policy, policy_json
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
def show(name: str) -> None:
    """Show the network NAME, `default` unless named: its key, its state, and what the node demands before it opens."""
    found = _look(name)
    print_found(_json(*found), _words(*found))


@click.command("create", epilog="Example: `sealspace network create production`.")
@click.argument("name")
def create(name: str) -> None:
    """Make the network NAME: a further key pair of yours at the node."""
    network, was_there = _create(name)
    words(f"{'was there already' if was_there else 'made'}: {network.text}")
    if shared().as_json:
        print_json({"network": network.text, "wasThereAlready": was_there})


@click.command("revoke", epilog="Example: `sealspace network revoke production`.")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(name: str, yes: bool) -> None:
    """End the network NAME for ever: nothing that is sealed to it is opened again, for anybody.

    Its name stays taken. To end a grant only: `sealspace grant revoke`.
    """
    was_revoked = _revoke(name, yes=yes)
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


@at_node
async def _look(client: Client, name: str) -> tuple[NetworkId, Descriptor, Policy | None, ReleaseTerms | None]:
    network = client.encryption.network(name)
    descriptor = await client.encryption.descriptor(network)
    await right_to(client, network, SET_POLICY)
    return network, descriptor, await client.encryption.policy(network), await node_terms(client)


@at_node
async def _create(client: Client, name: str) -> tuple[NetworkId, bool]:
    """Return the network, and whether it was there before."""
    network = client.encryption.network(name)
    try:
        await client.encryption.descriptor(network)
    except NetworkNotFound:
        await right_to(client, network, NETWORK_CREATE, *_RIGHTS)
        await client.encryption.ensure_network(name)
        return network, False
    await client.encryption.ensure_network(name)  # a revoked one is refused
    return network, True


@at_node
async def _revoke(client: Client, name: str, *, yes: bool) -> bool:
    """Revoke a network; returns whether that had been done before."""
    network = client.encryption.network(name)
    was_revoked = (await client.encryption.descriptor(network)).state == "revoked"
    if not was_revoked:
        confirm(f"revoke {network.text} for ever, with everything that is sealed to it?", yes=yes)
    await right_to(client, network, NETWORK_REVOKE)
    await client.encryption.revoke_network(network)  # ST16: also where it is shown as revoked
    return was_revoked


# --- saying it --------------------------------------------------------------------------------------------------------


def _words(
    network: NetworkId, descriptor: Descriptor, policy: Policy | None, terms: ReleaseTerms | None
) -> tuple[str, ...]:
    pin = pin_of(descriptor)
    lines = [
        f"network   {network.text}",
        f"node      {descriptor.node_did}",
        f"state     {descriptor.state}",
        f"key       {pin.fingerprint}, version {pin.key_version}, {descriptor.alg}",
    ]
    lines += [f"demands   {one}" for one in terms_words(terms)]
    lines += [f"policy    {one}" for one in policy_words(policy)]
    return tuple(lines)


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


def _json(
    network: NetworkId, descriptor: Descriptor, policy: Policy | None, terms: ReleaseTerms | None
) -> dict[str, Json]:
    pin = pin_of(descriptor)
    return {
        "network": network.text,
        "owner": network.owner,
        "node": descriptor.node_did,
        "state": descriptor.state,
        "algorithm": descriptor.alg,
        "keyVersion": pin.key_version,
        "publicEncryptionKey": pin.public_key.hex(),
        "fingerprint": pin.fingerprint,
        "policy": None if policy is None else policy_json(policy),
        "terms": None
        if terms is None
        else {
            "attestation": terms.attestation,
            "trustRoots": list(terms.trust_roots),
            "keyProviders": list(terms.key_providers),
            "nodePolicy": terms.node_policy,
            "nodePolicySuffices": terms.node_policy_suffices,
        },
    }
