"""The question which members stay whom a removed admin had admitted (TM15)."""

from collections.abc import Callable, Sequence
from typing import Any, Literal

import click

from ...apps.memberships import TeamMember
from ...client import Client
from ...errors import InvalidInput
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


async def chosen_to_stay(
    acting: Client, client: Client, did: str, admitted: Admitted | None, *, wallet: AnyWallet
) -> tuple[str, ...]:
    """Return the cids of the memberships that are signed anew before an admin is removed.

    The memberships that depend on the admin are listed first. An admin could be a second wallet of
    the removed person, so an admin stays only after a yes.

    Args:
        acting: with the session for the team.
        client: with the owner's own session.
        did: the admin who is removed, or gets another role.
        admitted: an answer for all; None: ask.
        wallet: the owner's.
    Raises:
        InvalidInput: the owner has to be asked, and there is no terminal.
        SealspaceError: as `Teams.admitted_by`.
    """
    found = await acting.teams.admitted_by(did, wallet=wallet)
    if not found:
        return ()
    names = await names_for(client, [did, *(one.did for one in found)])
    remover = names.whole(did)
    tell(f"{remover} had admitted:", *(f"  {_line(one, names)}" for one in found))
    if admitted is None:
        staying = _asked_who_stays(found, remover, names)
    elif admitted == "keep":
        staying = list(found)
    else:
        staying = []
    return tuple([one.grant.cid for one in staying])


def _asked_who_stays(found: Sequence[TeamMember], remover: str, names: Names) -> list[TeamMember]:
    """Ask which members stay. Without a terminal, all writers and readers do."""
    admins = [one for one in found if one.role == "admin"]
    staying = [one for one in found if one.role != "admin"]
    if is_interactive():
        staying = _asked_members(staying, names)
    elif admins:
        raise InvalidInput(
            f"{remover} had admitted the admin {names.whole(admins[0].did)}, which may be a second"
            " key of the same person, and this command is not running in a terminal",
            hint=f"say whether they stay: add {_OPTIONS}",
        )
    return staying + [one for one in admins if _admin_stays(names.whole(one.did), remover)]


def _admin_stays(admin: str, remover: str) -> bool:
    """Ask whether an admin stays."""
    tell(f"{remover} admitted the admin {admin}, which may be a second key of the same person")
    return ask_yes_or_no(f"does the admin {admin} stay?")


def _asked_members(members: Sequence[TeamMember], names: Names) -> list[TeamMember]:
    """Ask which writers and readers do not stay, and return the others."""
    if not members:
        return []
    # Only the owner's own names count: the removed admin chose those in the memberships.
    called: dict[str, set[str]] = {}
    for one in members:
        name = names.name(one.did)
        called[one.did] = {one.did} if name is None else {one.did, name}
    known = set().union(*called.values())
    while True:
        typed = ask_text("which writers and readers do not stay? names or DIDs; empty: all stay")
        leaving = {text.strip() for text in typed.split(",") if text.strip()}
        unknown = sorted(leaving - known)
        if not unknown:
            return [one for one in members if leaving.isdisjoint(called[one.did])]
        tell(f"{unknown[0]} is not one of these writers and readers")


def _line(one: TeamMember, names: Names) -> str:
    """Return a membership in words."""
    secrets = f" for {', '.join(one.secrets)}" if one.secrets else ""
    since = "" if one.since is None else f", since {time_text(one.since)}"
    return f"{names.whole(one.did)}, {one.role}{secrets}{since}"
