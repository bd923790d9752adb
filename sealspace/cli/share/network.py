"""The commands `sealspace network`, which manage encryption networks."""

from pathlib import Path

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
from encryption_network.pins import pin_of
from encryption_network.policy import Policy, policy_json
from encryption_network.release_record import INTEL_ROOT_SHA256

from ...apps.attestation import ReleaseTerms
from ...client import Client
from ...delegations import allow
from ...documents.key_statements import read_key_change
from ...documents.network_keys import NetworkKey, NetworkKeys
from ...errors import NetworkNotFound, NotGranted
from ...giving.words.policies import MODE_WORDS, policy_changes, policy_words
from ...service.term_files import read_node_policy
from ...session import DEFAULT_NETWORK
from ...wire.team_session import member_of_session
from ..options.paths import file_option
from ..owner.owner_profile import at_node, owner_home
from ..terminal import confirm, facts, flag_option, print_result, tell, yes_option
from .grant_create import node_terms

OWNER_ABILITIES = (DECRYPT, NETWORK_CREATE, SET_POLICY, READ_RECEIPTS)
"""Abilities on a network that an owner's commands need."""

name_argument = click.argument("name", required=False, default=DEFAULT_NETWORK)


@click.command(
    epilog="Example: `sealspace network show` shows the network to which secrets are encrypted.",
)
@name_argument
@at_node
async def show(client: Client, name: str) -> None:
    """Show the encryption network NAME.

    The default is `default`. This prints the key and the state of the network, its former keys, and
    the conditions under which the node decrypts.
    """
    network = client.encryption.network(name)
    descriptor = await client.encryption.descriptor(network)
    listed = await client.network_keys.versions(network)
    versions, signed_for = listed.keys, _nodes_of(listed, network)
    await right_to(client, network, SET_POLICY)  # reading the policy needs this right
    policy = await client.encryption.policy(network)
    terms = await node_terms(client)
    pin = pin_of(descriptor)
    document = {
        "network": network.text,
        "owner": network.owner,
        "node": descriptor.node_did,
        "state": descriptor.state,
        "algorithm": descriptor.alg,
        "keyVersion": pin.key_version,
        "publicEncryptionKey": pin.public_key.hex(),
        "fingerprint": pin.fingerprint,
        "keys": [
            _key_document(version, network) | {"signedForNode": signed_for.get(version.key_version)}
            for version in versions
        ],
        "policy": None if policy is None else policy_json(policy),
        "terms": None if terms is None else msgspec.to_builtins(terms),
    }
    lines = {
        "network": network.text,
        "node": descriptor.node_did,
        "state": descriptor.state,
        "key": f"{pin.fingerprint}, version {pin.key_version}, {descriptor.alg}",
        "former keys": [_key_line(version, network) for version in versions[:-1]],
        "requires": describe_terms(terms),
        "policy": policy_words(policy),
    }
    print_result(document, facts(lines))
    for key_version, node in signed_for.items():
        if node != descriptor.node_did:
            tell(f"version {key_version} of the key was signed for the node's former DID {node}")


def _nodes_of(listed: NetworkKeys, network: NetworkId) -> dict[int, str]:
    """Return the node that the owner's statement names, for each version from 2 on."""
    changes = [
        read_key_change(statement.encode(), network=network, node_did=None)
        for statement in listed.statements
    ]
    return {change.to_key.key_version: change.node for change in changes}


def _key_document(key: NetworkKey, network: NetworkId) -> dict[str, object]:
    return {
        "keyVersion": key.key_version,
        "fingerprint": key.pin(network.text).fingerprint,
        "state": key.state,
        "createdAt": key.created_at,
        "changedAt": key.changed_at,
    }


def _key_line(key: NetworkKey, network: NetworkId) -> str:
    fingerprint = key.pin(network.text).fingerprint
    return (
        f"{fingerprint}, version {key.key_version}, {key.state} since {key.changed_at}, made"
        f" {key.created_at}"
    )


@click.command(epilog="Example: `sealspace network create production`.")
@click.argument("name")
@at_node
async def create(client: Client, name: str) -> None:
    """Create an additional encryption network called NAME.

    A network is a key pair on the node. Your secrets can be encrypted to its public key.
    """
    network = client.encryption.network(name)
    try:
        await client.encryption.descriptor(network)  # only to learn whether the network exists
        was_there = True
    except NetworkNotFound:
        was_there = False
        await right_to(client, network, *OWNER_ABILITIES)
    await client.encryption.ensure_network(name)  # fails if the network was revoked
    tell(f"{'already exists' if was_there else 'created'}: {network.text}")
    print_result({"network": network.text, "wasThereAlready": was_there})


@click.command(epilog="Example: `sealspace network revoke production`.")
@click.argument("name")
@yes_option
@at_node
async def revoke(client: Client, name: str, yes: bool) -> None:
    """Revoke the encryption network NAME permanently.

    Its secrets can never be decrypted again. The name cannot be used again. To revoke only a grant,
    use `sealspace grant revoke`.
    """
    network = client.encryption.network(name)
    was_revoked = (await client.encryption.descriptor(network)).state == "revoked"
    if not was_revoked:
        confirm(f"permanently revoke {network.text} and everything encrypted to it?", yes=yes)
    await right_to(client, network, NETWORK_REVOKE)
    # A network that is shown as revoked is revoked again: only the answer to a revocation confirms
    # that it survives a failover (ST16).
    await client.encryption.revoke_network(network)
    tell(f"already revoked: {name}" if was_revoked else f"revoked: {name}")
    print_result({"revoked": name, "wasRevokedAlready": was_revoked})


@click.command(
    epilog="Examples: `sealspace network policy` shows the policy; `sealspace network policy --set"
    " policy.json` shows the changes, asks, and sets it. `--json` prints the policy in the"
    " format that `--set` reads. To approve the code of a running backend, use the member"
    " `policy` of `sealspace backend show URL --json`.",
)
@name_argument
@file_option("--set", "file", help="Replace the policy with the one in this JSON file.")
@flag_option("--remove", help="Remove the policy.")
@yes_option
@at_node
async def policy_(client: Client, name: str, file: Path | None, remove: bool, yes: bool) -> None:
    """Show, set or remove the policy of the encryption network NAME.

    The default is `default`. The policy says which code may receive keys of the network. It applies
    from the next request on, in addition to the conditions of the node and of each grant.
    """
    if file is not None and remove:
        raise click.UsageError("--set and --remove cannot be combined")
    after = None if file is None else read_node_policy(file)
    network = client.encryption.network(name)
    await right_to(client, network, SET_POLICY)
    before = await client.encryption.policy(network)
    if file is None and not remove:
        print_result(None if before is None else policy_json(before), policy_words(before))
        return
    if before != after:
        tell(*policy_changes(before, after))
        if only_tightens(before, after):
            tell("this only restricts access further")
        else:
            tell("this may admit code that was refused before")
        confirm("set this policy?", yes=yes)
        await client.encryption.set_policy(network, after)
    tell("no change" if before == after else f"set: {name}")
    print_result(None if after is None else policy_json(after))


def only_tightens(before: Policy | None, after: Policy | None) -> bool:
    """Return whether a new policy is at least as strict as the old policy.

    Adding or removing a list of approved code never counts as tightening. Delegates are judged by
    that list (RL5), so the first list admits code that was refused without one.
    """
    if before is None:
        return after is None or not after.is_allow_list
    if after is None:
        return False
    # The old policy may have no list of approved code only if the new one has none.
    return after.is_within(before) and (before.is_allow_list or not after.is_allow_list)


async def right_to(client: Client, network: NetworkId, *abilities: str) -> None:
    """Ensure that the session has rights on an encryption network.

    The wallet grants missing rights. The grant is for this command only: it is not added to the
    stored session.
    """
    rights = [allow(network.text, ability) for ability in abilities]
    try:
        # Called only to learn whether the session has the rights.
        client.session.proofs_for(rights, now=SystemClock.now())
    except NotGranted as error:
        if member_of_session(client.session) is not None:
            error.step = "only admins of a team can do this: ask one"
            raise
        await client.delegations.add_right(owner_home().wallet(), rights)


def describe_terms(terms: ReleaseTerms | None) -> tuple[str, ...]:
    """Describe a node's conditions for releasing keys.

    Each line has one condition.
    """
    if terms is None:
        return ("unknown: the node does not publish its terms",)
    lines = [MODE_WORDS[terms.attestation]]
    for root in terms.trust_roots:
        whose = f"the root {root}, NOT Intel's"
        if root == INTEL_ROOT_SHA256.hex():
            whose = "Intel's root certificate"
        lines.append(f"quotes signed under {whose}")
    if not terms.trust_roots:
        lines.append("the node has no root certificate, so it accepts no quote")
    providers = ", ".join(terms.key_providers) or "no provider: none is accepted"
    lines.append(f"applications with keys from {providers}")
    if terms.node_policy:
        lines.append("the operator's policy applies in addition to yours")
    if terms.node_policy_suffices:
        lines.append("if you approve no code, the operator's list decides")
    return tuple(lines)
