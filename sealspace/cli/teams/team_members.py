"""The commands below `sealspace team` for teams with members.

A team is called by the name of a contact, whose DID is that of the team.
"""

from collections.abc import Callable, Collection
from typing import Any, NamedTuple

import click

from capabilities.memberships import Role
from capabilities.principals import same_principal

from ...client import Client
from ...documents.secret_names import SECRETS_SPACE
from ...errors import InvalidInput, LifetimeTooLong, NoSuchContact, NotGranted, SealspaceError
from ...giving.released_secrets import OpenedSecrets, OwnerRecords, opened_by_member
from ...giving.stored_secrets import StoredSecrets, secrets_stored_by
from ...giving.teams.memberships import TeamMember
from ...giving.teams.teams import Removal
from ...wallets import AnyWallet
from ..owner.chosen_team import (
    chosen_team,
    forget_choice,
    forget_team_session,
    no_wallet,
    stored_choice,
    team_named,
    team_session,
)
from ..owner.contact_names import did_named, name_or_none, names_for
from ..owner.owner_profile import at_node, owner_home
from ..terminal import (
    cell_text,
    confirm,
    end_text,
    flag_option,
    optional_time,
    print_result,
    print_rows,
    tell,
    yes_option,
)
from .admitted_members import Admitted, admitted_option, choose_memberships_to_renew

_ROLES = ("admin", "writer", "reader")
_COLUMNS = ("member", "name", "role", "secrets", "until", "by", "state")

_Option = Callable[[Callable[..., Any]], Callable[..., Any]]  # Any: as in click

role_option: _Option = click.option(
    "--role",
    type=click.Choice(_ROLES),
    help="What the member may do, in a team with members: a reader reads secrets, a writer also"
    " replaces them, an admin also admits and removes members.",
)
secrets_option: _Option = click.option(
    "--secrets",
    metavar="NAME,…",
    help="Only these secrets (NAME or scope/NAME), separated by commas. Default: all.",
)
team_argument = click.argument("team", metavar="[TEAM]", required=False)


@click.command()
@team_argument
@flag_option("--ended", help="Also list memberships that have ended or were revoked.")
@at_node
async def members(client: Client, team: str | None, ended: bool) -> None:
    """List the members of TEAM, with role, secrets and who admitted them.

    Only admins may list them. Each membership is verified here: its signature, what it grants, and
    who signed it. Default for TEAM: the team that `sealspace use` chose.
    """
    did, name = await team_or_chosen(client, team)
    team_client = await _client_for_team(client, did)
    try:
        memberships = await team_client.teams.members(ended=ended)
    except NotGranted as error:
        error.step = "only admins can list the members of a team: ask one"
        raise
    names = await names_for(client, [member.did for member in memberships.members])
    documents: list[dict[str, object]] = []
    rows: list[list[str]] = []
    for member in memberships.members:
        document = _member_document(member)
        documents.append(document)
        is_admitted_by_team = member.admitted_by == member.team
        by = "the team" if is_admitted_by_team else names.short(member.admitted_by)
        with_names = document | {"member": names.short(member.did), "by": by}
        rows.append([cell_text(with_names[column]) for column in _COLUMNS])
    print_rows(documents, _COLUMNS, rows, nothing="no members")
    if memberships.has_one_admin:
        tell(one_admin(name))


def one_admin(team: str) -> str:
    """Return the warning for a team with only one admin."""
    return (
        f"warning: the team {team} has only one admin; if this key is lost, only the team's own key"
        f" can admit another one; next: sealspace team add {team} DID --role admin"
    )


def _member_document(member: TeamMember) -> dict[str, object]:
    """Return a membership as JSON members, with DIDs in place of names."""
    return {
        "member": member.did,
        "name": member.name,
        "role": member.role,
        "secrets": list(member.secrets) or "all",
        "until": optional_time(member.ends_at),
        "by": member.admitted_by,
        "state": member.status,
        "cid": member.grant.cid,
    }


@click.command(epilog="Example: `sealspace team role shop bob --role writer --secrets API_KEY`.")
@click.argument("team", metavar="TEAM")
@click.argument("member", metavar="DID|NAME")
@role_option
@secrets_option
@admitted_option
@at_node
async def role(
    client: Client,
    team: str,
    member: str,
    role: Role | None,
    secrets: str | None,
    admitted: Admitted | None,
) -> None:
    """Change the role of a member of TEAM, or the secrets that the member may use.

    The new membership replaces all that the member has. It ends when the former one would have
    ended.
    """
    new_role = required_role(role)
    member_did = await did_of_member(client, member)
    team_did = await team_named(client, team)
    team_client = await _client_for_team(client, team_did)
    wallet = wallet_of_owner()
    # The former membership is revoked, and with it all memberships that this member signed as an
    # admin. Those that stay are signed anew by the owner.
    cids_to_renew = await choose_memberships_to_renew(
        team_client, client, member_did, admitted, wallet=wallet
    )
    change = await team_client.teams.change_role(
        member_did, new_role, wallet=wallet, secrets=labels_in(secrets), kept=cids_to_renew
    )
    await _tell_renewed(client, change)
    tell(f"{member} is {with_article(new_role)} of the team {team} now, from the next command on")
    print_result({"team": team_did, "member": member_did, "role": new_role})


@click.command()
@click.argument("team", metavar="TEAM")
@yes_option
@at_node
async def leave(client: Client, team: str, yes: bool) -> None:
    """End your own membership of TEAM.

    The last admin cannot leave. An admin who admitted others is removed by another admin instead.
    """
    home = owner_home()
    did = await team_named(client, team)
    confirm(f"leave the team {team} ({did})? You will not read its secrets any more", yes=yes)
    await client.teams.leave(did, wallet=wallet_of_owner())
    forget_team_session(home, did)
    chosen = stored_choice(home)
    if chosen is not None and chosen.did == did:
        forget_choice(home)
        tell("later commands use your own secrets")
    tell(f"you are no longer a member of the team {team}")


# --- for both kinds of teams ----------------------------------------------------------------------


async def did_of_member(client: Client, person: str) -> str:
    """Return the DID of a person in a team, by a DID or the name of a contact.

    Raises:
        NoSuchContact: there is no contact of this name. The name by which the team calls a member
            is not used: an admin chose it, and two members can have the same one.
        SealspaceError: the same errors as `did_named`.
    """
    try:
        return await did_named(client, person)
    except NoSuchContact as error:
        error.step = (
            "give the DID, which sealspace team members prints, or name the person first:"
            f" sealspace contact add {person} DID"
        )
        raise


async def members_team_named(client: Client, team: str) -> str | None:
    """Return the DID of a team with members, by its DID or the name of a contact.

    Returns None if the owner is not a member of a team with this name. It may be the name of a team
    of copies.

    Raises:
        InvalidInput: there is a team of each kind with this name.
    """
    if team.startswith("did:"):
        return team
    did = await name_or_none(client, team)
    if did is None:
        return None
    memberships = await client.teams.memberships()
    if not any(same_principal(membership.team, did) for membership in memberships):
        return None
    shares = await client.sharing.shares()
    is_also_team_of_copies = any(share.folder.team == team for share in shares)
    if is_also_team_of_copies:
        raise InvalidInput(
            f"{team} is a team with members, and also the name of a team of copies",
            hint=f"for the team with members, write its DID: {did}",
        )
    return did


async def admit(
    client: Client,
    team: str,
    did: str,
    name: str,
    role: Role | None,
    secrets: str | None,
    ttl_s: float | None,
) -> None:
    """Make a person a member of a team with members.

    Args:
        client: a client with the owner's own session.
        team: DID of the team.
        did: DID of the person.
        name: the person's DID, or the name that the team uses from now on.
        role: role of the member; None is refused, because there is no default.
        secrets: the option --secrets.
        ttl_s: life of the membership, seconds; None: until the owner's own ends, at most a year.
    """
    new_role = required_role(role)
    team_client = await _client_for_team(client, team)
    try:
        grant = await team_client.teams.admit(
            did,
            new_role,
            wallet=wallet_of_owner(),
            secrets=labels_in(secrets),
            ttl_s=ttl_s,
            name=None if name.startswith("did:") else name,
        )
    except LifetimeTooLong as error:
        error.step = "omit --expires: the membership then ends with your own, or after a year"
        raise
    tell(
        f"{name} is {with_article(new_role)} of the team, {end_text(grant.expires_at)}",
        f"next, on their machine: sealspace contact add NAME {team}, then sealspace use NAME",
    )
    print_result({"team": team, "member": did, "role": new_role, "cid": grant.cid})


async def remove_member(client: Client, team: str, did: str, admitted: Admitted | None) -> None:
    """Remove a member of a team with members, and name the secrets that the member knows.

    Members whom a removed admin had admitted would lose their membership too. Those that stay get
    a new one first, which the owner's wallet signs.

    Args:
        client: with the owner's own session; the owner is an admin of the team.
        team: DID of the team.
        did: DID of the member.
        admitted: which of the members whom the removed one had admitted stay; None: ask.
    """
    team_client = await _client_for_team(client, team)
    wallet = wallet_of_owner()
    cids_to_renew = await choose_memberships_to_renew(
        team_client, client, did, admitted, wallet=wallet
    )
    removal = await team_client.teams.remove(did, wallet=wallet, kept=cids_to_renew)
    await _tell_renewed(client, removal)
    names = await names_for(client, [did])
    tell(f"removed {names.whole(did)}")
    opened = await _opened_by(team_client, did, removal.revoked)
    if opened is not None:
        _tell_opened(opened)
    stored = await _stored_by(team_client, did)
    if stored is not None:
        _tell_stored(stored)
    tell("what was read stays known: replace the values with `sealspace secret put`")
    print_result(
        {
            "team": team,
            "removed": did,
            "cids": list(removal.revoked),
            "opened": None if opened is None else list(opened.labels),
            "stored": None if stored is None else list(stored.labels),
        }
    )


async def _opened_by(acting: Client, did: str, cids: Collection[str]) -> OpenedSecrets | None:
    """Return what a removed member opened, by the receipts.

    None means that they could not be read. The member is removed all the same, so this is a
    warning.
    """
    records = OwnerRecords(
        receipts=acting.receipts,
        delegations=acting.delegations,
        secrets=acting.kv(SECRETS_SPACE),
    )
    try:
        return await opened_by_member(records, acting.encryption.network(), did, cids)
    except SealspaceError as error:
        tell(f"warning: cannot tell what this member opened: {error}")
        return None


def _tell_opened(opened: OpenedSecrets) -> None:
    """Name the secrets that a removed member opened."""
    labels = ", ".join(opened.labels) or "no secret that a receipt names"
    tell(f"opened by this member, now or in a former value: {labels}")
    if opened.unnamed_count:
        tell(f"reads of values that are not kept any more: {opened.unnamed_count}")
    if not opened.is_complete:
        tell("there are more receipts than were read; all of them: sealspace receipts list")


async def _stored_by(acting: Client, did: str) -> StoredSecrets | None:
    """Return the secrets that a removed member stored, as the node states it.

    None means that the versions could not be read. The member is removed all the same, so this is a
    warning.
    """
    try:
        return await secrets_stored_by(acting.kv(SECRETS_SPACE), did)
    except SealspaceError as error:
        tell(f"warning: cannot tell what this member stored: {error}")
        return None


def _tell_stored(stored: StoredSecrets) -> None:
    """Name the secrets that a removed member stored."""
    if stored.labels:
        tell(f"stored by this member, now or in a former value: {', '.join(stored.labels)}")
    if stored.unread_count:
        tell(
            f"{stored.unread_count} more secrets were not looked through; who stored one: sealspace"
            " secret versions NAME"
        )


async def own_memberships(client: Client) -> list[dict[str, object]]:
    """Return the teams with members of which the owner is a member, as JSON."""
    documents: dict[str, dict[str, object]] = {}  # by the DID of the team
    found = await client.teams.own_memberships()
    if found.is_cut:
        tell(
            "more than 2,000 memberships were signed for you; the teams of older ones are left out."
            " To see one: sealspace team members DID"
        )
    for membership in found.memberships:
        team = membership.team
        if team in documents:  # the latest membership comes first
            continue
        names = await names_for(client, [team])
        documents[team] = {
            "kind": "members",
            "team": names.name(team) or team,
            "did": team,
            "person": None,
            "role": membership.role,
            "fingerprint": None,
            "secrets": list(membership.secrets) or "all",
            "until": optional_time(membership.ends_at),
        }
    return list(documents.values())


# --- details --------------------------------------------------------------------------------------


async def _client_for_team(client: Client, team_did: str) -> Client:
    """Return a client with the owner's session for a team."""
    session = await team_session(owner_home(), client, team_did)
    return client.acting(session)


class NamedTeam(NamedTuple):
    """The DID of a team, and the name by which the user calls it."""

    did: str
    name: str


async def team_or_chosen(client: Client, team: str | None) -> NamedTeam:
    """Return the given team, or else the team that is chosen for commands.

    Args:
        team: a DID or the name of a contact; None: the team that is chosen for commands.
    Raises:
        InvalidInput: no team is given, and none is chosen.
    """
    if team is not None:
        return NamedTeam(did=await team_named(client, team), name=team)
    chosen = chosen_team(owner_home())
    if chosen is None:
        raise InvalidInput(
            "no team is chosen",
            hint="name the team, or choose one: sealspace use TEAM; to list yours: sealspace team"
            " list",
        )
    did = chosen.did
    if did is None:
        did = await team_named(client, chosen.name)
    return NamedTeam(did=did, name=chosen.name)


def required_role(role: Role | None) -> Role:
    """Return the role that the user gave; without one, the command is refused."""
    if role is None:
        raise click.UsageError("a member needs a --role: reader, writer or admin")
    return role


def labels_in(secrets: str | None) -> list[str]:
    """Return the labels of secrets in the option --secrets, a list with commas."""
    if secrets is None:
        return []
    return [label.strip() for label in secrets.split(",")]


def wallet_of_owner() -> AnyWallet:
    """Return the owner's wallet, which signs memberships."""
    wallet = owner_home().wallet()
    if wallet is None:
        raise no_wallet()
    return wallet


def with_article(role: Role) -> str:
    """Return a role with its article."""
    return f"an {role}" if role == "admin" else f"a {role}"


async def _tell_renewed(client: Client, removal: Removal) -> None:
    """Name the members whose memberships were signed anew."""
    if not removal.renewed:
        return
    dids = [member.did for member in removal.renewed]
    names = await names_for(client, dids)
    whom = ", ".join([names.whole(did) for did in dids])
    tell(f"signed anew, because the removed admin had admitted them: {whom}")
