"""The commands `sealspace secret share` and `unshare`, and those below `sealspace team`.

Teams are grants at the node, so this machine stores nothing.
"""

from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

import click

from ...client import Client
from ...service.command_errors import NotThere
from ..keep.shared_secrets import label_of
from ..options.durations import expires_option
from ..options.paths import grants_option, write_grants
from ..owner.owner_profile import at_node, owner_home
from ..terminal import confirm, end_text, optional_time, print_documents, tell, yes_option
from .secret_writers import warn_of_writers

_with = click.option(
    "--with", "person", metavar="DID|team:NAME", required=True, help="The person or the team."
)
_scope = click.option("--scope", metavar="SCOPE", help="The scope that the secrets are in.")
_at = click.option(
    "--at", "node", metavar="URL", help="The node of the person's network, if it is not yours."
)
_expires = expires_option("365d", "How long they may read, from 1m to 365d.")
_team = click.argument("team", metavar="TEAM")
_did = click.argument("did", metavar="DID")


@click.command(
    "share",
    epilog="Examples: `sealspace secret share API_KEY --with did:pkh:…`; `sealspace secret share"
    " API_KEY DB_URL --scope prod --with team:ops`.",
)
@click.argument("names", metavar="NAME", nargs=-1, required=True)
@_with
@_scope
@_at
@_expires
@grants_option
@at_node
async def share(
    client: Client,
    names: tuple[str, ...],
    person: str,
    scope: str | None,
    node: str | None,
    ttl_s: float,
    out: Path | None,
) -> None:
    """Share secrets with a person or a team.

    Each person gets a copy, which is encrypted to the person's own network. Compare the fingerprint
    that is printed with the one that `sealspace network show` prints for them. They read the copy
    with `sealspace secret get NAME --from DID`. When you store another value, they get that too.

    A person who uses another node also needs the file of --out. What a person has read stays known
    after `unshare`.
    """
    team = _team_in(person)
    if team and out:
        raise click.UsageError("--out requires --with DID; for a team: sealspace team add --out")
    shares = await client.sharing.shares()
    dids = {person}
    if team:
        dids = {one.folder.did for one in shares if one.folder.team == team}
    if not dids:
        raise NotThere(f"there is no team {team}", hint=f"sealspace team add {team} DID")
    labels = [label_of(one, scope) for one in names]
    # The value that is stored under a name is copied, whoever stored it there (SH6, EN34).
    await warn_of_writers(client, labels)
    for did in sorted(dids):
        await _share(client, labels, did, team, node, ttl_s, out)


@click.command()
@click.argument("names", metavar="[NAME]", nargs=-1)
@_with
@_scope
@yes_option
@at_node
async def unshare(
    client: Client, names: tuple[str, ...], person: str, scope: str | None, yes: bool
) -> None:
    """Stop sharing secrets with a person or a team.

    Without names, this ends everything that is shared with them, after you confirm. The copies are
    deleted. What was read stays known, so store other values afterwards.
    """
    team = _team_in(person)
    did = None if team else person
    labels = [label_of(one, scope) for one in names]
    if not labels:
        confirm(f"stop sharing everything with {person}?", yes=yes)
    await _unshare(client, labels or None, did, team)


@click.command(epilog="Example: `sealspace team add ops did:pkh:…`.")
@_team
@_did
@_at
@_expires
@grants_option
@at_node
async def add(
    client: Client, team: str, did: str, node: str | None, ttl_s: float, out: Path | None
) -> None:
    """Add a person to TEAM, which is created if there is no such team.

    The person gets a copy of each secret that is shared with the team.
    """
    copied = set[str]()
    for one in await client.sharing.shares():
        if one.folder.team == team:
            copied.update(copy.label for copy in one.copies)
    if copied:
        # The new member gets copies of the values that are stored now (SH6, EN34).
        await warn_of_writers(client, sorted(copied))
    await _share(client, (), did, team, node, ttl_s, out)


@click.command()
@_team
@_did
@at_node
async def remove(client: Client, team: str, did: str) -> None:
    """Remove a person from TEAM, and delete the person's copies.

    What was read stays known, so store other values afterwards.
    """
    await _unshare(client, None, did, team)


@click.command()
@at_node
async def list_(client: Client) -> None:
    """List the people who may read copies of your secrets, by team."""
    print_documents(
        [
            {
                "team": one.folder.team,
                "person": one.folder.did,
                "fingerprint": one.pin.fingerprint,
                "secrets": sorted(copy.label for copy in one.copies),
                "until": optional_time(one.grant.expires_at),
            }
            for one in await client.sharing.shares()
        ],
        {one: one for one in ("team", "person", "fingerprint", "secrets", "until")},
        nothing="nothing is shared; next: sealspace secret share NAME --with DID",
    )


def _team_in(person: str) -> str | None:
    """Return the team in `team:NAME`, or None for a person's DID."""
    return person.removeprefix("team:") if person.startswith("team:") else None


async def _share(
    client: Client,
    labels: Collection[str],
    did: str,
    team: str | None,
    node: str | None,
    ttl_s: float,
    out: Path | None,
) -> None:
    """Share secrets with a person, and write the person's grant to the file `out`.

    Args:
        client: of the owner.
        labels: the secrets to share; empty to add a member to a team.
        did: the person.
        team: the team in which the person gets them; None: none.
        node: address of the node of the person's network; None: the owner's node.
        ttl_s: how long the person may read.
        out: a new file, or None.
    """
    async with Client(node) if node else nullcontext(client) as other:
        made = await client.sharing.share(
            labels,
            did,
            team=team,
            wallet=owner_home().wallet,
            ttl_s=ttl_s,
            encryption=other.encryption,
        )
    tell(
        f"shared with {made.folder.did}, {end_text(made.grant.expires_at)}; fingerprint of their"
        f" network: {made.pin.fingerprint}"
    )
    if out is not None:
        write_grants(out, [made.portable(client.url)], "secret get NAME --from")


async def _unshare(
    client: Client, labels: Collection[str] | None, did: str | None, team: str | None
) -> None:
    """Stop sharing secrets, or everything if `labels` is None."""
    ended = await client.sharing.unshare(labels, did=did, team=team)
    tell(
        f"ended, and deleted the copies of: {', '.join(ended) or 'nothing'}",
        "what was read stays known: replace the values with `sealspace secret put`",
    )
