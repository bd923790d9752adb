"""`sealspace backend list`, `revoke` and `withdraw`: the state of grants, and ending them."""

import click

from capabilities.principals import same_principal
from sealspace.apps.descriptions import granted_labels
from sealspace.cli.grant_list import state_at_node
from sealspace.cli.owner_profile import KeptGrant, at_node, dids_of, known_grants, owner_home
from sealspace.cli.shared import shared
from sealspace.cli.terminal import confirm, print_json, print_rows, time_text, watched, words
from sealspace.client import Client
from sealspace.errors import InvalidInput, NodeRefused


@click.command("list", epilog="Example: `sealspace backend list --json`. Other grants: `sealspace grant list`.")
def list_() -> None:
    """Show the grants to backends that were made from here, and how each stands at the node."""
    listed = _list()
    print_rows(
        [
            {
                "state": state,
                "url": one.url,
                "did": one.portable.delegate_did,
                "secrets": secrets,
                "cid": one.portable.cid,
                "expiresAt": until,
            }
            for one, state, secrets, until in listed
        ],
        ("state", "until", "backend", "secrets", "DID"),
        [
            (state, until or "-", one.url or "", ", ".join(secrets), one.portable.delegate_did)
            for one, state, secrets, until in listed
        ],
        nothing="nothing was granted to a backend from here; next: sealspace backend show URL",
    )


@click.command("revoke", epilog="Example: `sealspace backend revoke https://backend.example`.")
@click.argument("target", metavar="URL|DID")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(target: str, yes: bool) -> None:
    """End every grant that was made from here to the backend with this address or DID, at once and for good.

    A new grant may be made afterwards.
    """
    ended = _revoke(target, yes=yes)
    words(f"revoked {ended} grant{'s' if ended != 1 else ''}" if ended else "all of them were revoked already")
    if shared().as_json:
        print_json({"revoked": ended})


@click.command(
    "withdraw",
    epilog="Examples: `sealspace backend withdraw https://backend.example`; `sealspace backend withdraw --measurement "
    "HEX`, for code that turned out to be bad wherever it runs.",
)
@click.argument("target", metavar="[URL|DID]", required=False)
@click.option("--measurement", metavar="HEX", help="A register (96 hex digits) or a compose hash (64) instead.")
@click.option("--evidence", metavar="DIGEST", help="Evidence by its SHA-256, as receipts name it, instead.")
@click.option("--yes", is_flag=True, help="Do not ask.")
def withdraw(target: str | None, measurement: str | None, evidence: str | None, yes: bool) -> None:
    """Withdraw a backend, code or evidence: it gets no key of the owner's network any more, whatever grants say.

    In force for the next request, and never taken back. To end a grant only, use `revoke`.
    """
    named = [one for one in (target, measurement, evidence) if one is not None]
    if len(named) != 1:
        raise click.UsageError("name a backend, or --measurement, or --evidence")
    confirm(f"withdraw {named[0]} for ever?", yes=yes)
    _withdraw(target, measurement, evidence)
    words(f"withdrawn: {named[0]}")


@at_node
async def _list(client: Client) -> list[tuple[KeptGrant, str, list[str], str | None]]:
    """Return each grant, its state, its secrets, and when it ends."""
    return [
        (
            one,
            await state_at_node(client, one.portable.cid),
            granted_labels(one.portable),
            None if one.portable.expires_at is None else time_text(one.portable.expires_at),
        )
        for one in owner_home().grants()
        if one.url is not None
    ]


@at_node
async def _revoke(client: Client, target: str, *, yes: bool) -> int:
    """Revoke every grant of this owner; one that the node refuses to revoke does not prevent revoking the others.

    Returns:
        How many were revoked now.
    """
    wallet = owner_home().wallet()
    grants = [one.portable for one in known_grants(target) if same_principal(one.portable.owner, wallet.did)]
    if not grants:
        raise InvalidInput(
            f"the grants to {target} were made by another wallet", hint="sealspace login --key-file FILE, with its key"
        )
    refused: NodeRefused | None = None
    left = [one for one in grants if await state_at_node(client, one.cid) != "revoked"]
    if left and watched():  # a script that ends a grant in an emergency is not held up
        confirm(f"revoke {len(left)} grant{'s' if len(left) != 1 else ''} to {target} for good?", yes=yes)
    # Those that are shown as revoked too: only the answer to a revocation says that it outlives a failover (ST16).
    try:
        await client.delegations.revoke(*grants)
    except NodeRefused:
        for one in grants:
            try:
                await client.delegations.revoke_by_wallet(one, wallet)
            except NodeRefused as refusal:
                refused = refusal
                words(f"not revoked: {one.cid}")
    if refused is not None:
        raise refused
    return len(left)


@at_node
async def _withdraw(client: Client, target: str | None, measurement: str | None, evidence: str | None) -> None:
    if measurement is not None:
        await client.withdrawals.withdraw_measurement(_bytes(measurement))
    elif evidence is not None:
        await client.withdrawals.withdraw_evidence(_bytes(evidence))
    elif target is not None:
        for did in dids_of(target):
            await client.withdrawals.withdraw_backend(did)


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(
            "not hexadecimal", hint="96 or 64 hex digits; `sealspace backend show` prints them"
        ) from None
