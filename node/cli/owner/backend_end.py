"""`sealspace backend list`, `revoke` and `withdraw`: the state of grants, and ending them."""

import asyncio

import click

from capabilities.principals import same_principal
from capabilities.strict_json import Json
from sealspace.client import Client
from sealspace.errors import InvalidInput, NodeRefused
from sealspace.printable import printable

from ..shared import shared
from ..terminal import confirm, print_json, print_lines, words
from .owner_profile import KeptGrant, OwnerHome, owner_home


@click.command("list")
def list_() -> None:
    """Show the grants that were made from here, and the state of each at the node."""
    for row in asyncio.run(_list(owner_home())):
        if shared().as_json:
            print_json(row)
        else:
            paths = ", ".join(map(str, row["paths"]))  # type: ignore[arg-type]  # a list
            url, did = printable(str(row["url"])), printable(str(row["did"]))
            print_lines(f"{printable(str(row['stands'])):<10} {url}  {printable(paths)}  {did}")


@click.command(
    "revoke",
    epilog="Example: `sealspace backend revoke https://backend.example`.",
)
@click.argument("target", metavar="URL|DID")
def revoke(target: str) -> None:
    """End every grant that was made from here to the backend with this address or DID, at once and for good.

    A new grant may be made afterwards.
    """
    ended = asyncio.run(_revoke(owner_home(), target))
    words(f"revoked {ended} grant{'s' if ended != 1 else ''}")


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
    asyncio.run(_withdraw(owner_home(), target=target, measurement=measurement, evidence=evidence))
    words(f"withdrawn: {named[0]}")


async def _list(home: OwnerHome) -> list[dict[str, Json]]:
    rows: list[dict[str, Json]] = []
    async with home.client() as client:
        for one in home.grants():
            status = await client.delegations.status(one.portable)
            rows.append(
                {
                    "stands": status.word,
                    "url": one.url,
                    "did": one.portable.delegate_did,
                    "paths": [resource.path for resource in one.portable.resources if resource.service == "kv"],
                    "cid": one.portable.cid,
                    "expiresAt": one.portable.expires_at,
                }
            )
    return rows


async def _revoke(home: OwnerHome, target: str) -> int:
    """Revoke every grant of this owner; one that the node refuses to revoke does not prevent revoking the others."""
    wallet = home.wallet()
    grants = [one for one in _known(home, target) if same_principal(one.portable.owner, wallet.did)]
    if not grants:
        raise InvalidInput(
            f"the grants to {target} were made by another wallet", hint="sealspace login --key-file FILE, with its key"
        )
    refused: NodeRefused | None = None
    async with home.client() as client:
        for one in grants:
            try:
                await client.delegations.revoke_by_wallet(one.portable, wallet)
            except NodeRefused as refusal:
                refused = refusal
                words(f"not revoked: {one.portable.cid}")
    if refused is not None:
        raise refused
    return len(grants)


async def _withdraw(home: OwnerHome, *, target: str | None, measurement: str | None, evidence: str | None) -> None:
    async with home.client() as client:
        if measurement is not None:
            await client.withdrawals.withdraw_measurement(_bytes(measurement))
        elif evidence is not None:
            await client.withdrawals.withdraw_evidence(_bytes(evidence))
        elif target is not None:
            await _withdraw_backend(home, client, target)


async def _withdraw_backend(home: OwnerHome, client: Client, target: str) -> None:
    dids = (
        [target] if target.startswith("did:") else sorted({one.portable.delegate_did for one in _known(home, target)})
    )
    for did in dids:
        await client.withdrawals.withdraw_backend(did)


def _known(home: OwnerHome, target: str) -> tuple[KeptGrant, ...]:
    grants = home.grants_to(target)
    if not grants:
        raise InvalidInput(
            f"no grant to {target} was made from here",
            hint="sealspace backend list shows them; a DID can be withdrawn too",
        )
    return grants


def _bytes(text: str) -> bytes:
    try:
        return bytes.fromhex(text)
    except ValueError:
        raise InvalidInput(
            "not hexadecimal", hint="96 or 64 hex digits; `sealspace backend show` prints them"
        ) from None
