"""`sealspace grant create`: a grant to a DID, written in portable form."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import click

from capabilities.abilities import DECRYPT, KV_DELETE, KV_GET, KV_LIST, KV_METADATA, KV_PUT
from capabilities.principals import same_principal
from capabilities.resources import root_of
from capabilities.tokens import Capability
from encryption_network.policy import Policy
from sealspace.client import Client
from sealspace.delegations import allow
from sealspace.errors import InvalidInput, NotFound, SpaceNotFound
from sealspace.portable import PortableDelegation, encode_portable
from sealspace.release_terms import ReleaseTerms

from ...errors import NotThere
from ...term_files import read_node_policy
from ..shared import shared
from ..terminal import print_exactly, print_json, time_text, words
from .durations import ttl_s_of
from .grant_facts import rights_words
from .owner_profile import KeptGrant, OwnerHome, owner_home
from .portable_files import require_free, write_grants

ACTIONS: Final = {
    "get": KV_GET,
    "put": KV_PUT,
    "delete": KV_DELETE,
    "list": KV_LIST,
    "head": KV_METADATA,
}
"""Word on the command line -> ability."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Parameters:
    """The parameters of the command."""

    did: str
    secrets: tuple[str, ...]
    scope: str | None
    space: str | None
    path: str
    actions: tuple[str, ...]
    ttl_s: float
    policy: Policy | None
    out: Path | None


@click.command(
    "create",
    epilog="Examples: `sealspace grant create did:key:… --space notes --path todo --can get,list --out grant.json`; "
    "`sealspace grant create did:key:… --secret API_KEY --expires 12h > grant.json`. The recipient finds the DID with "
    "`sealspace whoami`, and uses the file with `sealspace grant accept grant.json`.",
)
@click.argument("did")
@click.option("--secret", "secrets", metavar="NAME", multiple=True, help="A secret to grant; repeatable.")
@click.option("--scope", metavar="SCOPE", help="Scope of the secrets.")
@click.option("--space", metavar="NAME", help="A space to grant values of: a name of your own, or a whole id.")
@click.option("--path", metavar="PATH", default="", help="Only this key of the space, and what is below it.")
@click.option(
    "--can",
    metavar="ACTIONS",
    help=f"Some of {','.join(ACTIONS)}; `get` for secrets and `get,list` for a space by default.",
)
@click.option("--expires", metavar="TIME", default="7d", show_default=True, help="30m, 12h, 90d: 1m to 365d.")
@click.option(
    "--policy",
    "policy_file",
    metavar="FILE",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="What code the recipient has to prove before a secret opens, as JSON.",
)
@click.option("--out", metavar="FILE", type=click.Path(path_type=Path, dir_okay=False), help="A new file, mode 0600.")
def create(
    did: str,
    secrets: tuple[str, ...],
    scope: str | None,
    space: str | None,
    path: str,
    can: str | None,
    expires: str,
    policy_file: Path | None,
    out: Path | None,
) -> None:
    """Grant secrets, or values of a space, to DID, and write the grant for its recipient.

    A secret opens only for code that proves what it is, which --policy or the network's policy approves; to a person,
    grant values of a space. The grant is in force when the command ends. It serves nobody but DID; `sealspace grant
    revoke` ends it.
    """
    if bool(secrets) == (space is not None):  # other clients refuse a grant that names two spaces
        raise click.UsageError("name what is granted: either --secret NAME, or --space NAME")
    if path and space is None:
        raise click.UsageError("--path goes with --space")
    if scope is not None and not secrets:
        raise click.UsageError("--scope goes with --secret")
    asked = _Parameters(
        did=did,
        secrets=secrets,
        scope=scope,
        space=space,
        path=path,
        actions=_actions(can),
        ttl_s=ttl_s_of(expires),
        policy=None if policy_file is None else read_node_policy(policy_file),
        out=out,
    )
    if out is not None:
        require_free(out)
    asyncio.run(_create(owner_home(), asked))


async def _create(home: OwnerHome, asked: _Parameters) -> None:
    async with home.client() as client:
        await _require_space(client, asked.space)
        wanted = _wanted(client, asked)
        portable = await granted(home, client, asked.did, wanted, ttl_s=asked.ttl_s, policy=asked.policy)
        if any(one.ability == DECRYPT for one in wanted):
            words(*await opening_words(client, is_pinned=asked.policy is not None and asked.policy.is_allow_list))
    kept = home.keep_grant(KeptGrant(url=None, portable=portable))
    say_granted(portable)
    if asked.out is not None:
        write_grants(asked.out, [portable])
        words(f"written to {asked.out}, for the recipient: sealspace grant accept {asked.out.name}")
        if shared().as_json:
            ends = None if portable.expires_at is None else time_text(portable.expires_at)
            print_json({"cid": portable.cid, "file": str(asked.out), "expiresAt": ends})
    else:
        words(f"the recipient runs `sealspace grant accept FILE` with what follows; a copy is in {kept}")
        print_exactly(encode_portable(portable))


async def _require_space(client: Client, space: str | None) -> None:
    """Refuse a space of the owner's that the node does not host: signing the grant would make one of a mistyped name.

    Raises:
        NotThere: there is no such space. A whole id is not looked up: it may be somebody else's.
    """
    if space is None or ":" in space:
        return
    try:
        await client.spaces().info(space)
    except SpaceNotFound:
        raise NotThere(f"there is no space {space} of yours", hint=f"sealspace space create {space}") from None


async def granted(
    home: OwnerHome,
    client: Client,
    did: str,
    wanted: Sequence[Capability],
    *,
    ttl_s: float,
    policy: Policy | None = None,
) -> PortableDelegation:
    """Sign a grant: with the wallet where all of it is the owner's own, so that it outlives the session; else pass on.

    Raises:
        InvalidInput, NotGranted, SessionExpired, KeyFileUnusable, NodeRefused, TransportError.
    """
    owner = home.profile().owner
    is_own = all(same_principal(root_of(one.resource) or "", owner) for one in wanted)
    wallet = home.wallet() if is_own else None
    return await client.delegations.delegate(did, wanted, ttl_s=ttl_s, policy=policy, wallet=wallet)


def say_granted(portable: PortableDelegation) -> None:
    """Say on standard error what was granted."""
    until = "for good" if portable.expires_at is None else f"until {time_text(portable.expires_at)}"
    words(f"granted to {portable.delegate_did}, {until}: {portable.cid}")
    words(*(f"  {line}" for line in rights_words(portable.resources, by=portable.owner)))


async def opening_words(client: Client, *, is_pinned: bool) -> tuple[str, ...]:
    """Return what the recipient of a secret has to expect of the node before it opens anything."""
    terms = await node_terms(client)
    if terms is None or terms.attestation == "off" or is_pinned:
        return ()
    return (
        "the node opens a secret for others only when they prove approved code: name it with --policy, or in the "
        "network's policy; for a backend that publishes its evidence: sealspace backend grant URL",
    )


async def node_terms(client: Client) -> ReleaseTerms | None:
    """Return by what the node judges backends; None where it does not tell."""
    try:
        return await client.release_terms()
    except NotFound:
        return None


def _wanted(client: Client, asked: _Parameters) -> list[Capability]:
    wanted: list[Capability] = []
    for name in asked.secrets:
        resource = client.secrets().resource(name, scope=asked.scope)
        wanted += [allow(resource, ability) for ability in asked.actions or (KV_GET,)]
    if any(one.ability == KV_GET for one in wanted):
        wanted.append(allow(client.encryption.network().text, DECRYPT))
    if asked.space is not None:
        space = client.kv(asked.space).space
        place = f"{space.text}/kv/{asked.path}" if asked.path else f"{space.text}/kv"
        wanted += [allow(place, ability) for ability in asked.actions or (KV_GET, KV_LIST)]
    return wanted


def _actions(text: str | None) -> tuple[str, ...]:
    """Read the value of `--can`; nothing where it was left out."""
    if text is None:
        return ()
    named = [one.strip() for one in text.split(",")]
    unknown = [one for one in named if one not in ACTIONS]
    if unknown:
        raise InvalidInput(f"--can names no action {unknown[0][:20]!r}", hint=f"some of {','.join(ACTIONS)}")
    return tuple(dict.fromkeys(ACTIONS[one] for one in named))
