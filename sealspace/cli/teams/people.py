"""The commands `sealspace team add`, `remove`, `renew` and `list`, for teams of both kinds."""

from contextlib import nullcontext
from pathlib import Path

import click
from click.core import ParameterSource

from capabilities.memberships import Role

from ...client import Client
from ..options.paths import grants_option
from ..owner.contact_names import did_named, names_for
from ..owner.owner_profile import at_node, owner_home
from ..share.sharing import at_option, end_copies, may_read_option, share_copies
from ..terminal import (
    cell_text,
    optional_time,
    print_result,
    print_rows,
    tell,
)
from .admitted_members import Admitted, admitted_option
from .team_members import (
    admit,
    did_of_member,
    members_team_named,
    own_memberships,
    remove_member,
    role_option,
    secrets_option,
)

_COLUMNS = ("kind", "team", "person", "role", "fingerprint", "secrets", "until")
_team = click.argument("team", metavar="TEAM")
_did = click.argument("did", metavar="DID|NAME")


@click.command(
    epilog="Examples: `sealspace team add ops did:pkh:…`; `sealspace team add shop bob --role"
    " writer`, for a team that `sealspace team create` made."
)
@_team
@_did
@at_option
@may_read_option
@grants_option
@role_option
@secrets_option
@at_node
async def add(
    client: Client,
    team: str,
    did: str,
    node: str | None,
    ttl_s: float,
    out: Path | None,
    role: Role | None,
    secrets: str | None,
) -> None:
    """Add a person to TEAM.

    In a team of copies, which is created if there is no such team, the person gets a copy of each
    secret that is shared with the team. In a team with members, the person becomes a member, and
    needs a --role. Compare the person's DID first: nothing else is checked. `sealspace team invite`
    admits somebody without a DID.
    """
    name = did
    did = await did_named(client, did)
    if (members_team := await members_team_named(client, team)) is not None:
        if node is not None or out is not None:
            raise click.UsageError("--at and --out are for teams of copies")
        source = click.get_current_context().get_parameter_source("ttl_s")
        given_ttl_s = None if source is ParameterSource.DEFAULT else ttl_s
        await admit(client, members_team, did, name, role, secrets, given_ttl_s)
        return
    if role is not None or secrets is not None:
        raise click.UsageError(f"{team} is not a team with members: omit --role and --secrets")
    await share_copies(client, (), did, team, node, ttl_s, out)


@click.command()
@_team
@_did
@admitted_option
@at_node
async def remove(client: Client, team: str, did: str, admitted: Admitted | None) -> None:
    """Remove a person from TEAM.

    In a team of copies, the person's copies are deleted. In a team with members, the membership is
    revoked. The members whom a removed admin had admitted are listed, and you are asked which of
    them stay: you sign their memberships anew first. What was read stays known, so store other
    values afterwards.
    """
    did = await did_of_member(client, did)
    if (members_team := await members_team_named(client, team)) is not None:
        await remove_member(client, members_team, did, admitted)
        return
    if admitted is not None:
        raise click.UsageError(f"{team} is not a team with members: omit --admitted")
    await end_copies(client, None, did, team)


@click.command(epilog="Example: `sealspace team renew did:pkh:…`.")
@_did
@at_option
@at_node
async def renew(client: Client, did: str, node: str | None) -> None:
    """Share with a person again who has replaced the key of the encryption network.

    The person signed that the new key replaces the former one, and this is verified. All copies for
    this person are encrypted to the new key, those of teams too. What is shared and how long they
    may read stays the same. A person who uses another node needs a new grant: share again with
    --out.
    """
    did = await did_named(client, did)
    async with Client(node) if node else nullcontext(client) as person_client:
        renewed = await client.sharing.renew_for(
            did, wallet=owner_home().wallet, encryption=person_client.encryption
        )
    whom = (await names_for(client, [did])).whole(did)
    if not renewed:
        tell(f"nothing to renew: the copies for {whom} are encrypted to the newest key")
    documents = []
    for share in renewed:
        team = share.folder.team
        where = "" if team is None else f" in the team {team}"
        tell(f"renewed the copies for {whom}{where}; fingerprint: {share.pin.fingerprint}")
        documents.append({"team": team})
    print_result({"renewed": documents})


@click.command()
@at_node
async def list_(client: Client) -> None:
    """List your teams of both kinds.

    `members` is a team whose members read and replace the same secrets, with your role in it.
    `copies` is a team, or a person, who may read copies of your own secrets.
    """
    shares = await client.sharing.shares()
    names = await names_for(client, [live_share.folder.did for live_share in shares])
    documents = await own_memberships(client)
    rows = [
        [cell_text(document_of_team.get(column)) for column in _COLUMNS]
        for document_of_team in documents
    ]
    for live_share in shares:
        document: dict[str, object] = {
            "kind": "copies",
            "team": live_share.folder.team,
            "person": live_share.folder.did,
            "name": names.name(live_share.folder.did),
            "role": None,
            "fingerprint": live_share.pin.fingerprint,
            "secrets": sorted(copy.label for copy in live_share.copies),
            "until": optional_time(live_share.grant.expires_at),
        }
        documents.append(document)
        shown = document | {"person": names.short(live_share.folder.did)}
        rows.append([cell_text(shown[column]) for column in _COLUMNS])
    print_rows(
        documents,
        _COLUMNS,
        rows,
        nothing="no teams, and nothing is shared; next: sealspace team create NAME, or sealspace"
        " secret share NAME --with DID",
    )
