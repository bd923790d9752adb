"""The commands `sealspace manifest check`, `explain` and `grant`."""

import asyncio
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import click

from capabilities.abilities import DECRYPT
from capabilities.capability_errors import InvalidJson
from capabilities.clock_and_entropy import SystemClock
from capabilities.strict_json import Json, parse_json
from encryption_network.policy import Policy

from ...apps.backends import require_address
from ...client import Client
from ...documents.manifests import (
    Manifest,
    check_manifest,
    compose_manifests,
    parse_manifest,
    target_grants,
    with_decrypt,
)
from ...errors import InvalidInput, ManifestInvalid
from ...giving.words.manifests import explain
from ...wire.portable import PortableDelegation, encode_bundle
from ..options.paths import FILE, grants_option, read_named, write_grants
from ..options.unbound_values import allow_unbound_option
from ..owner.contact_names import Names, did_named, names_for
from ..owner.owner_profile import at_node, opened, owner_home
from ..shared import shared
from ..terminal import (
    confirm,
    flag_option,
    print_exactly,
    print_json,
    print_result,
    tell,
    yes_option,
)
from .grant_create import hand_over_all, policy_option, print_granted, wallet_for, warn_about_proof

_MAX_MANIFEST_BYTES = 256 * 1024


def _read(file: Path) -> Json:
    try:
        return parse_json(
            read_named(file, most_bytes=_MAX_MANIFEST_BYTES), max_bytes=_MAX_MANIFEST_BYTES
        )
    except InvalidJson as error:
        raise ManifestInvalid(
            f"{file} is not a manifest: {error}",
            hint='write an object with the members of a manifest: {"app_id": …, "name": …}',
        ) from error


def _parse_manifest_file(
    _context: click.Context, _argument: click.Parameter, file: Path
) -> Manifest:
    value = _read(file)
    try:
        return parse_manifest(value)
    except ManifestInvalid as error:
        raise ManifestInvalid(
            f"{file}: {error.message}",
            hint=f"correct the file, then run: sealspace manifest check {file}",
        ) from None


_manifest = click.argument("manifest", metavar="FILE", type=FILE, callback=_parse_manifest_file)


@click.command(epilog="Example: `sealspace manifest check manifest.json`.")
@click.argument("file", type=FILE)
def check(file: Path) -> int:
    """Check the manifest in FILE, and print the first error.

    The error has its location in the JSON. The exit status is 1 if the manifest has an error.
    """
    faults = check_manifest(_read(file))
    print_result(
        [{"path": fault.path, "detail": fault.detail} for fault in faults],
        [fault.text for fault in faults],
    )
    if not faults:
        tell(f"{file} is a valid manifest; next: sealspace manifest explain {file}")
    return 1 if faults else 0


@click.command(epilog="Example: `sealspace manifest explain manifest.json`.")
@_manifest
def explain_(manifest: Manifest) -> None:
    """Explain which rights the manifest in FILE requests.

    The explanation includes the application, and how long the rights last. The node of your login,
    or the one that --node names, is asked which services it offers; no token is sent. Without a
    node, no right is left out.
    """
    features = asyncio.run(_features_of_node())
    if features is None:
        tell(
            "no node was asked which services it offers, so no right is left out; to ask one, add"
            " --node URL"
        )
        features = _requested_services(manifest)
    lines = explain(manifest, features=features, now=SystemClock.now())
    print_result(lines, [line.text for line in lines])


async def _features_of_node() -> Sequence[str] | None:
    """Return the features of the owner's node (MF23); None: no node is named.

    The login's session is not used, so it may have ended.
    """
    home = owner_home()
    if (home.folder / "profile.json").exists():
        profile = home.profile()
        async with opened(profile, home.node or profile.node) as client:
            if profile.node_policy is not None:
                await client.node_evidence()  # raises if it is refused
            return (await client.info()).features
    if home.node is None:
        return None
    async with Client(home.node) as client:
        return (await client.info()).features


def _requested_services(manifest: Manifest) -> list[str]:
    """Return the services that a manifest requests, in the form of a node's features."""
    request = compose_manifests([manifest], include_account_registry_permissions=False)
    return [resource.service.removeprefix("tinycloud.") for resource in request.resources]


@click.command(
    epilog="Examples: `sealspace manifest grant manifest.json --out grants.json` writes a file for"
    " the application; `--hand-over URL` sends the grants to the application's backend instead."
    " Later, `sealspace grant list` lists the grants, and `sealspace grant revoke` revokes one.",
)
@_manifest
@click.option(
    "--to",
    "did",
    metavar="DID|NAME",
    help="Grant to this DID or contact instead of the DID in the manifest.",
)
@flag_option("--leave-out", help="Leave out rights to services that this node does not offer.")
@policy_option
@allow_unbound_option
@grants_option
@click.option(
    "--hand-over", "url", metavar="URL", help="Send the grants to the application's backend at URL."
)
@yes_option
@at_node
async def grant(
    client: Client,
    manifest: Manifest,
    did: str | None,
    leave_out: bool,
    policy: Policy | None,
    unbound: bool,
    out: Path | None,
    url: str | None,
    yes: bool,
) -> None:
    """Grant an application the rights requested by the manifest in FILE.

    Exactly these rights are granted. They are shown first, and you are asked to confirm. All rights
    of one owner go into one grant, which lasts for the shortest time that the manifest requests.
    """
    recipient = manifest.did if did is None else await did_named(client, did)
    if recipient is None:
        raise InvalidInput(
            f"the manifest of {manifest.name} does not specify the recipient's DID",
            hint="add --to DID",
        )
    if url is not None:
        require_address(url)
    features = (await client.info()).features
    request = compose_manifests(
        [replace(manifest, did=recipient)], include_account_registry_permissions=False
    )
    # The right to read a secret includes the right to decrypt on the owner's network (MF8).
    request = with_decrypt(request, client.encryption.network().text)
    (target,) = request.delegation_targets  # one, because there is one manifest
    # Lines about the session of a person who signs in to the app are left out: none is made here.
    for line in explain(request, features=features, now=SystemClock.now()):
        if line.who == target.did or line.kind in ("app", "not-served", "note"):
            tell(line.text)
    # Reject what cannot be granted before asking for confirmation.
    grants = target_grants(
        target, owner=client.session.owner, features=features, leave_out=leave_out
    )
    rights = [right for grant in grants for right in grant.capabilities]
    if any(right.ability == DECRYPT for right in rights):
        await warn_about_proof(client, policy)
    # SH14: the DID, which may come from the file, is shown whole, after the rights.
    names = await names_for(client, [target.did])
    confirm(f"grant these rights to {names.whole(target.did)}?", yes=yes)
    portables = await client.delegations.delegate_to_target(
        target,
        policy=policy,
        unbound=unbound,
        wallet=wallet_for(rights),
        leave_out=leave_out,
    )
    await _pass_on(portables, names, out=out, url=url)


async def _pass_on(
    portables: Sequence[PortableDelegation], names: Names, *, out: Path | None, url: str | None
) -> None:
    """Save new grants, send them to the application's backend or write them to a file.

    With neither a backend nor a file, the grants are printed.
    """
    for portable in portables:
        owner_home().keep_grant(portable, url=url)
        print_granted(portable, names)
    if url is not None:
        await hand_over_all(url, portables, copies=f"the files in {owner_home().folder / 'grants'}")
    if out is not None:
        write_grants(out, portables)
    if shared().as_json:
        print_json(
            [
                {
                    "cid": portable.cid,
                    "to": portable.delegate_did,
                    "name": names.name(portable.delegate_did),
                    "space": portable.space,
                }
                for portable in portables
            ]
        )
    elif out is None and url is None:
        print_exactly(encode_bundle(portables))
