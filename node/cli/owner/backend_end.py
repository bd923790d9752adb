"""`sealspace backend list`, `revoke` and `withdraw`: the state of grants, and ending them."""

import asyncio
from dataclasses import dataclass

import click

from capabilities.principals import same_principal
from sealspace.client import Client
from sealspace.errors import InvalidInput, NodeRefused
from sealspace.portable import PortableDelegation

from ..shared import shared
from ..terminal import confirm, print_json, table, time_text, watched, words
from .grant_facts import secret_label
from .grant_list import state_at_node
from .owner_profile import KeptGrant, OwnerHome, owner_home


@dataclass(frozen=True, slots=True, kw_only=True)
class _Listed:
    """A grant to a backend that was made from here, and how it stands at the node."""

    state: str
    url: str
    portable: PortableDelegation

    @property
    def until(self) -> str | None:
        """When it ends, RFC 3339."""
        return None if self.portable.expires_at is None else time_text(self.portable.expires_at)

    @property
    def secrets(self) -> list[str]:
        """Labels of the secrets that it opens."""
        paths = [one.path for one in self.portable.resources if one.service == "kv"]
        return [secret_label(path) or path for path in paths]


@click.command("list", epilog="Example: `sealspace backend list --json`. Other grants: `sealspace grant list`.")
def list_() -> None:
    """Show the grants to backends that were made from here, and how each stands at the node."""
    listed = asyncio.run(_list(owner_home()))
    if shared().as_json:
        print_json(
            [
                {
                    "state": one.state,
                    "url": one.url,
                    "did": one.portable.delegate_did,
                    "secrets": one.secrets,
                    "cid": one.portable.cid,
                    "expiresAt": one.until,
                }
                for one in listed
            ]
        )
        return
    if not listed:
        words("nothing was granted to a backend from here; next: sealspace backend show URL")
    table(
        ("state", "until", "backend", "secrets", "did"),
        [(one.state, one.until or "-", one.url, ", ".join(one.secrets), one.portable.delegate_did) for one in listed],
    )


@click.command(
    "revoke",
    epilog="Example: `sealspace backend revoke https://backend.example`.",
)
@click.argument("target", metavar="URL|DID")
@click.option("--yes", is_flag=True, help="Do not ask.")
def revoke(target: str, yes: bool) -> None:
    """End every grant that was made from here to the backend with this address or DID, at once and for good.

    A new grant may be made afterwards.
    """
    ended = asyncio.run(_revoke(owner_home(), target, yes=yes))
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
    asyncio.run(_withdraw(owner_home(), target=target, measurement=measurement, evidence=evidence))
    words(f"withdrawn: {named[0]}")


async def _list(home: OwnerHome) -> list[_Listed]:
    listed = []
    async with home.client() as client:
        for one in home.grants():
            if one.url is not None:
                state = await state_at_node(client, one.portable.cid)
                listed.append(_Listed(state=state, url=one.url, portable=one.portable))
    return listed


async def _revoke(home: OwnerHome, target: str, *, yes: bool) -> int:
    """Revoke every grant of this owner; one that the node refuses to revoke does not prevent revoking the others.

    Returns:
        How many were revoked now.
    """
    wallet = home.wallet()
    grants = [one.portable for one in _known(home, target) if same_principal(one.portable.owner, wallet.did)]
    if not grants:
        raise InvalidInput(
            f"the grants to {target} were made by another wallet", hint="sealspace login --key-file FILE, with its key"
        )
    refused: NodeRefused | None = None
    async with home.client() as client:
        left = [one for one in grants if await state_at_node(client, one.cid) != "revoked"]
        if left and watched():  # a script that ends a grant in an emergency is not held up
            confirm(f"revoke {len(left)} grant{'s' if len(left) != 1 else ''} to {target} for good?", yes=yes)
        for one in left:
            try:
                await client.delegations.revoke_by_wallet(one, wallet)
            except NodeRefused as refusal:
                refused = refusal
                words(f"not revoked: {one.cid}")
    if refused is not None:
        raise refused
    return len(left)


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
