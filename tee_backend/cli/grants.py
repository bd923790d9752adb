"""The commands `list`, `revoke` and `withdraw` for grants to backends and runners."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import click

from capabilities.principals import same_principal
from capabilities.strict_json import Json, JsonObject
from sealspace.apps.backends import deliver as deliver_grants
from sealspace.cli.options.paths import FILE, read_grants
from sealspace.cli.owner.contact_names import names_for, target_named
from sealspace.cli.owner.owner_profile import KeptGrant, at_node, dids_of, known_grants, owner_home
from sealspace.cli.share.grant_list import state_at_node
from sealspace.cli.terminal import (
    confirm,
    is_interactive,
    optional_time,
    print_result,
    print_rows,
    tell,
    yes_option,
)
from sealspace.client import Client
from sealspace.documents.app_names import quoted_name
from sealspace.errors import InvalidInput, NodeRefused
from sealspace.giving.words.rights import granted_labels
from sealspace.wallets import Wallet
from sealspace.wire.portable import PortableDelegation

from .approval import signed_name


@click.command(
    epilog="Example: `sealspace backend list --json`. Other grants: `sealspace grant list`."
)
@at_node
async def list_(client: Client) -> None:
    """List your grants to backends, as saved on this machine.

    The state of each grant is shown.
    """
    listings = []
    for kept_grant in owner_home().grants():
        if kept_grant.url is not None:
            listings.append(await listing_of(client, kept_grant))
    names = await names_for(client, [listing.description["did"] for listing in listings])
    descriptions = []
    rows = []
    for listing in listings:
        did = str(listing.description["did"])
        descriptions.append(listing.description | {"name": names.name(did)})
        whom = names.short(did)
        if listing.description["appName"]:
            whom = f"{quoted_name(str(listing.description['appName']), is_short=True)} {whom}"
        rows.append((*listing.cells, whom))
    print_rows(
        descriptions,
        ("state", "until", "backend", "secrets", "DID"),
        rows,
        nothing="there are no grants to backends; next: sealspace backend show URL",
    )


@dataclass(frozen=True)
class GrantListing:
    """A grant and its state at the node, as lists of grants show it.

    Attributes:
        description: the members in JSON output.
        cells: the cells of a table row: state, end, address and secrets.
    """

    description: JsonObject
    cells: tuple[str, str, str, str]


async def listing_of(client: Client, kept_grant: KeptGrant) -> GrantListing:
    """Fetch the state of a grant, and describe the grant for a list."""
    portable = kept_grant.portable
    secrets = granted_labels(portable)
    state = await state_at_node(client, portable.cid)
    until = optional_time(portable.expires_at)
    description: JsonObject = {
        "state": state,
        "url": kept_grant.url,
        "appName": signed_name(portable),
        "did": portable.delegate_did,
        "secrets": [*secrets],
        "cid": portable.cid,
        "expiresAt": until,
    }
    cells = (state, until or "-", kept_grant.url or "-", ", ".join(secrets))
    return GrantListing(description=description, cells=cells)


@click.command(
    epilog="Example: `sealspace backend deliver grants.json --to https://backend.example`. No login"
    " is needed. A backend that uses the node of the grants fetches the grants itself.",
)
@click.argument("file", type=FILE)
@click.option(
    "--to",
    "url",
    metavar="URL",
    help="Address of the backend. Default: the address that you used for an earlier grant to this"
    " backend on this machine.",
)
def deliver(file: Path, url: str | None) -> None:
    """Send the grants in FILE to the backend that they are for.

    Use this if the backend cannot reach the node where the grants were made.
    """
    portables = read_grants(file)
    did = portables[0].delegate_did
    url = url or _known_address(did)
    if url is None:
        raise InvalidInput(
            f"cannot send the grants: the address of {did} is not known on this machine",
            hint="specify the backend's address: --to URL",
        )
    asyncio.run(deliver_grants(url, *portables))
    print_result({"url": url}, (f"handed over to {url}",))


def _known_address(did: str) -> str | None:
    """Return the address to which this machine sent a grant for a backend, or None."""
    for kept_grant in owner_home().grants_to(did):
        if kept_grant.url:
            return kept_grant.url
    return None


@click.command(epilog="Example: `sealspace backend revoke https://backend.example`.")
@click.argument("target", metavar="URL|DID|NAME")
@yes_option
@at_node
async def revoke(client: Client, target: str, yes: bool) -> None:
    """Permanently revoke all grants to a backend.

    Only grants that were made on this machine are revoked, shares of projects and their storage
    included; `sealspace backend list` lists them. You can make new grants to the backend later.
    """
    home = owner_home()
    wallet = home.wallet()
    owner = home.profile().owner
    target = await target_named(client, target)
    grants = [
        kept_grant.portable
        for kept_grant in known_grants(target)
        if same_principal(kept_grant.portable.owner, owner)
    ]
    if not grants:
        raise InvalidInput(
            f"the grants to {target} were made by another wallet",
            hint="sealspace login --key-file FILE, with the key of that wallet",
        )
    unrevoked = 0
    for grant in grants:
        if await state_at_node(client, grant.cid) != "revoked":
            unrevoked += 1
    number = "1 grant" if unrevoked == 1 else f"{unrevoked} grants"
    if unrevoked and is_interactive():  # a script that revokes in an emergency is not asked
        confirm(f"permanently revoke {number} to {target}?", yes=yes)
    # Grants that are shown as revoked are sent too: only the answer to a revocation confirms that
    # it survives a failover (ST16).
    await _revoke_all(client, grants, wallet)
    tell(f"revoked {number}" if unrevoked else "all grants were already revoked")
    print_result({"revoked": unrevoked})


async def _revoke_all(
    client: Client, grants: Sequence[PortableDelegation], wallet: Wallet | None
) -> None:
    """Revoke grants together, or one by one if the node refuses that.

    If grants cannot be revoked, the last refusal is raised after the others are revoked.
    """
    refusals = []
    try:
        await client.delegations.revoke(*grants)
    except NodeRefused:
        # The node revokes all of them or none. One refused grant must not keep the others.
        for grant in grants:
            try:
                if wallet is None:
                    await client.delegations.revoke(grant)
                else:
                    await client.delegations.revoke_by_wallet(grant, wallet)
            except NodeRefused as refusal:
                refusals.append(refusal)
                tell(f"not revoked: {grant.cid}")
    if refusals:
        raise refusals[-1]


@click.command(
    epilog="Examples: `sealspace backend withdraw https://backend.example`; `sealspace backend"
    " withdraw --measurement HEX`, to deny keys to vulnerable code on every machine.",
)
@click.argument("target", metavar="[URL|DID|NAME]", required=False)
@click.option(
    "--measurement",
    metavar="HEX",
    help="Deny keys to all code that has this register value (96 hex digits) or this compose hash"
    " (64 hex digits).",
)
@click.option(
    "--evidence",
    metavar="DIGEST",
    help="Deny keys to any backend that uses the evidence with this SHA-256 (printed in receipts).",
)
@yes_option
@at_node
async def withdraw(
    client: Client, target: str | None, measurement: str | None, evidence: str | None, yes: bool
) -> None:
    """Permanently deny backends access to the keys of your encryption network.

    The backends are named by address, code or evidence. The denial overrides all grants from the
    next request on, and cannot be undone. To end grants without denying keys, use `revoke`.
    """
    options = (target, measurement, evidence)
    targets = [option for option in options if option is not None]
    if len(targets) != 1:
        raise click.UsageError("give exactly one of URL|DID|NAME, --measurement and --evidence")
    denied = targets[0]
    shown = denied
    if target is not None:
        denied = await target_named(client, target)
        shown = (await names_for(client, [denied])).whole(denied)
    confirm(f"permanently deny {shown} access to all keys of your encryption network?", yes=yes)
    if measurement is not None:
        await client.withdrawals.withdraw_measurement(_parse_digest(measurement))
    elif evidence is not None:
        await client.withdrawals.withdraw_evidence(_parse_digest(evidence))
    else:
        for did in dids_of(denied):
            await client.withdrawals.withdraw_backend(did)
    tell(f"withdrawn: {shown}")


def _parse_digest(text: str) -> bytes:
    """Parse a measurement, a compose hash or a digest."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(
            "the value is not hexadecimal",
            hint="pass 96 or 64 hex digits, as `sealspace backend show` prints them",
        ) from None


def hosts_words(stated: Json) -> str:
    """Format the list of contacted hosts in a run receipt.

    The receipt is not verified here. The hosts are separated by commas. Without hosts, the text is
    "none".
    """
    hosts = stated.get("hosts") if isinstance(stated, dict) else None
    if not isinstance(hosts, list):
        return "none"
    return ", ".join(map(str, hosts)) or "none"
