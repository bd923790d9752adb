"""The question whether the members whom a removed admin had admitted stay (TM15)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import click

from ...client import Client
from ...errors import InvalidInput
from ...giving.teams.memberships import TeamMember
from ...wallets import AnyWallet
from ..owner.contact_names import Names, names_for
from ..terminal import ask_text, ask_yes_or_no, is_interactive, tell, time_text

Admitted = Literal["keep", "remove"]
"""An answer for all members whom the admin had admitted."""

_OPTIONS = "--admitted keep or --admitted remove"

admitted_option: Callable[[Callable[..., Any]], Callable[..., Any]] = click.option(  # as in click
    "--admitted",
    type=click.Choice(("keep", "remove")),
    help="Whether the members whom this admin had admitted stay, admins among them. Default: you"
    " are asked about admins; writers and readers stay.",
)


async def choose_memberships_to_renew(
    team_client: Client, client: Client, did: str, admitted: Admitted | None, *, wallet: AnyWallet
) -> tuple[str, ...]:
    """Return the cids of the memberships that are signed anew before an admin is removed.

    The memberships that depend on the removed admin are listed first. An admin among these members
    could be a second wallet of the removed person, so such an admin stays only after a yes.

    Args:
        team_client: a client with the session for the team.
        client: a client with the owner's own session.
        did: the admin who is removed, or gets another role.
        admitted: an answer for all; None: ask.
        wallet: the owner's.
    Raises:
        InvalidInput: the owner has to be asked, and there is no terminal.
        SealspaceError: the same errors as `Teams.admitted_by`.
    """
    members = await team_client.teams.admitted_by(did, wallet=wallet)
    if not members:
        return ()
    names = await names_for(client, [did, *[member.did for member in members]])
    removed_admin = names.whole(did)
    lines = [f"  {_membership_text(member, names)}" for member in members]
    tell(f"{removed_admin} had admitted:", *lines)
    if admitted is None:
        staying = _ask_who_stays(members, removed_admin, names)
    elif admitted == "keep":
        staying = list(members)
    else:
        staying = []
    return tuple([member.grant.cid for member in staying])


def _ask_who_stays(
    members: Sequence[TeamMember], removed_admin: str, names: Names
) -> list[TeamMember]:
    """Ask which members stay, and return them.

    Without a terminal, all writers and readers stay.

    Raises:
        InvalidInput: there is an admin among the members, and no terminal.
    """
    admins = [member for member in members if member.role == "admin"]
    others = [member for member in members if member.role != "admin"]
    if is_interactive():
        staying = _ask_who_leaves(others, names)
    elif not admins:
        staying = others
    else:
        raise InvalidInput(
            f"{removed_admin} had admitted the admin {names.whole(admins[0].did)}, which may be a"
            " second key of the same person, and this command is not running in a terminal",
            hint=f"say whether they stay: add {_OPTIONS}",
        )
    for admin in admins:
        if _ask_whether_admin_stays(names.whole(admin.did), removed_admin):
            staying.append(admin)
    return staying


def _ask_whether_admin_stays(admin: str, removed_admin: str) -> bool:
    """Ask whether an admin stays whom the removed one had admitted."""
    tell(
        f"{removed_admin} admitted the admin {admin}, which may be a second key of the same person"
    )
    return ask_yes_or_no(f"does the admin {admin} stay?")


def _ask_who_leaves(members: Sequence[TeamMember], names: Names) -> list[TeamMember]:
    """Ask which writers and readers do not stay, and return the others."""
    if not members:
        return []
    # Only the owner's own names count: the removed admin chose those in the memberships.
    accepted_texts: dict[str, set[str]] = {}  # DID -> how the user may write this member
    for member in members:
        name = names.name(member.did)
        accepted_texts[member.did] = {member.did} if name is None else {member.did, name}
    all_texts: set[str] = set().union(*accepted_texts.values())
    while True:
        typed = ask_text("which writers and readers do not stay? names or DIDs; empty: all stay")
        leaving = {text.strip() for text in typed.split(",") if text.strip()}
        unknown = sorted(leaving - all_texts)
        if not unknown:
            return [member for member in members if leaving.isdisjoint(accepted_texts[member.did])]
        tell(f"{unknown[0]} is not one of these writers and readers")


def _membership_text(member: TeamMember, names: Names) -> str:
    """Return a membership in words: who, role, secrets, and since when."""
    secrets = f" for {', '.join(member.secrets)}" if member.secrets else ""
    since = "" if member.since is None else f", since {time_text(member.since)}"
    return f"{names.whole(member.did)}, {member.role}{secrets}{since}"
