"""The commands `sealspace secret share` and `unshare`.

Copies and the grants to read them are at the node, so this machine stores nothing.
"""

from collections.abc import Collection
from contextlib import nullcontext
from pathlib import Path

import click

from capabilities.clock_and_entropy import SystemClock

from ...client import Client
from ...documents.contact_list import checked_did
from ...errors import InvalidInput, NoSuchContact
from ...secrets import parse_secret_label
from ...service.command_errors import NotThere
from ..keep.named_secrets import no_secret
from ..keep.shared_secrets import label_of
from ..options.durations import expires_option
from ..options.paths import file_option, grants_option, read_named, write_grants
from ..owner.contact_names import confirm_first_use, did_named, names_for, require_no_typo
from ..owner.owner_profile import at_node, owner_home
from ..terminal import (
    confirm,
    end_text,
    tell,
    yes_option,
)

_with = click.option(
    "--with",
    "person",
    metavar="DID|NAME|team:NAME",
    required=True,
    help="The person, by DID or by the name of a contact, or the team.",
)
_scope = click.option("--scope", metavar="SCOPE", help="The scope that the secrets are in.")
at_option = click.option(
    "--at", "node", metavar="URL", help="The node of the person's network, if it is not yours."
)
may_read_option = expires_option("365d", "How long they may read, from 1m to 365d.")
_MOST_DID_BYTES = 256


@click.command(
    "share",
    epilog="Examples: `sealspace secret share API_KEY --with did:pkh:…`; `sealspace secret share"
    " API_KEY DB_URL --scope prod --with team:ops`.",
)
@click.argument("names", metavar="NAME", nargs=-1, required=True)
@click.option("--with", "person", metavar="DID|NAME|team:NAME", help="The person, or the team.")
@file_option(
    "--to",
    "file",
    help="File with the DID of the person, instead of --with. You are asked whether it is right,"
    " unless the DID is a contact.",
)
@_scope
@at_option
@may_read_option
@grants_option
@yes_option
@at_node
async def share(
    client: Client,
    names: tuple[str, ...],
    person: str | None,
    file: Path | None,
    scope: str | None,
    node: str | None,
    ttl_s: float,
    out: Path | None,
    yes: bool,
) -> None:
    """Share secrets with a person or a team.

    Each person gets a copy, which is encrypted to the person's own network. Compare the fingerprint
    that is printed with the one that `sealspace network show` prints for them. They read the copy
    with `sealspace secret get NAME --from DID`. When you store another value, they get that too.

    A person who uses another node also needs the file of --out. What a person has read stays known
    after `unshare`.
    """
    if (person is None) == (file is None):
        raise click.UsageError("name the person: either --with DID|NAME|team:NAME or --to FILE")
    team = None if person is None else _team_in(person)
    if team and out:
        raise click.UsageError("--out requires --with DID; for a team: sealspace team add --out")
    labels = [label_of(name, scope) for name in names]
    if file is not None:
        gets = f"a copy of {', '.join(labels)}, {end_text(SystemClock.now() + ttl_s)}"
        dids = {await _person_in(client, file, gets=gets, yes=yes)}
    elif team is not None:
        dids = await _members(client, team)
    else:
        dids = {await _did_of_person(client, str(person))}
    await _require_stored(client, labels)
    for did in sorted(dids):
        await share_copies(client, labels, did, team, node, ttl_s, out)


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
    did = None if team else await _did_of_person(client, person)
    labels = [label_of(name, scope) for name in names]
    if not labels:
        whom = person if did is None else (await names_for(client, [did])).whole(did)
        confirm(f"stop sharing everything with {whom}?", yes=yes)
    await end_copies(client, labels or None, did, team)


async def _members(client: Client, team: str) -> set[str]:
    """Return the DIDs of the members of a team."""
    shares = await client.sharing.shares()
    dids = {str(live_share.folder.did) for live_share in shares if live_share.folder.team == team}
    if not dids:
        raise NotThere(f"there is no team {team}", hint=f"sealspace team add {team} DID")
    return dids


async def _person_in(client: Client, file: Path, *, gets: str, yes: bool) -> str:
    """Return the DID in a file, after the owner has confirmed it (SH14)."""
    text = read_named(file, most_bytes=_MOST_DID_BYTES).decode("ascii", "replace").strip()
    try:
        did = checked_did(text)
    except InvalidInput as error:
        raise InvalidInput(
            f"{file} does not contain one DID and nothing else",
            hint="ask the person for the DID that `sealspace whoami` prints as owner",
        ) from error
    require_no_typo(text)
    names = await names_for(client, [did])
    confirm_first_use(names, did, source=str(file), gets=gets, yes=yes)
    return did


def _team_in(person: str) -> str | None:
    """Return the team in `team:NAME`, or None for a person's DID."""
    return person.removeprefix("team:") if person.startswith("team:") else None


async def _did_of_person(client: Client, person: str) -> str:
    """Return the DID of `--with`.

    Raises:
        NoSuchContact: there is no contact of this name; the next step has the form for a team.
    """
    try:
        return await did_named(client, person)
    except NoSuchContact as error:
        error.step = f"for a team: --with team:{person}; {error.step}"
        raise


async def _require_stored(client: Client, labels: Collection[str]) -> None:
    """Check that secrets are stored, before the wallet signs."""
    secrets = client.secrets()
    for label in labels:
        secret = parse_secret_label(label)
        if secret.name not in await secrets.list(scope=secret.scope):
            raise await no_secret(secrets, secret.name, secret.scope)


async def share_copies(
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
        client: a client with the owner's session.
        labels: the secrets to share; empty to add a member to a team.
        did: the person.
        team: the team in which the person gets them; None: none.
        node: address of the node of the person's network; None: the owner's node.
        ttl_s: how long the person may read.
        out: a new file, or None.
    """
    async with Client(node) if node else nullcontext(client) as person_client:
        share = await client.sharing.share(
            labels,
            did,
            team=team,
            wallet=owner_home().wallet,
            ttl_s=ttl_s,
            encryption=person_client.encryption,
        )
    whom = (await names_for(client, [share.folder.did])).whole(share.folder.did)
    tell(
        f"shared with {whom}, {end_text(share.grant.expires_at)}; fingerprint of their network:"
        f" {share.pin.fingerprint}"
    )
    if out is not None:
        write_grants(out, [share.portable(client.url)], "secret get NAME --from")


async def end_copies(
    client: Client, labels: Collection[str] | None, did: str | None, team: str | None
) -> None:
    """Stop sharing secrets, or everything if `labels` is None."""
    ended = await client.sharing.unshare(labels, did=did, team=team)
    tell(
        f"ended, and deleted the copies of: {', '.join(ended) or 'nothing'}",
        "what was read stays known: replace the values with `sealspace secret put`",
    )
