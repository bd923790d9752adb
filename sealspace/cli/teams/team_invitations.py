"""The commands `sealspace team invite`, `confirm` and `join`.

The state of an invitation is in the owner's folder until the command is complete: the admin's in
`invitations/<id>.json`, and that of the person who joins in `joining/<id>.json`. Both are private.
"""

import asyncio
import sys
from pathlib import Path
from shlex import quote

import click

from capabilities.clock_and_entropy import SystemClock
from capabilities.memberships import Role
from capabilities.principals import same_principal

from ...client import Client
from ...documents.contact_list import is_contact_name
from ...documents.invitations import MAX_LINE_CHARS, invitation_line, parse_invitation
from ...errors import InvalidInput, InvitationInvalid, NotAMember, NotSignedIn
from ...giving.teams.invitations import (
    Inviting,
    Joining,
    decode_inviting,
    decode_joining,
    encode_side,
)
from ...private_files import read_file, replace_file
from ...service.command_errors import AlreadyThere, NotThere
from ..options.durations import expires_option
from ..owner.chosen_team import team_session
from ..owner.contact_names import contacts_of, keep_contacts, name_or_none, names_for
from ..owner.owner_profile import FIRST_LOGIN, OwnerHome, at_node, owner_home
from ..terminal import (
    ask_yes_or_no,
    end_text,
    flag_option,
    is_interactive,
    optional_time,
    print_lines,
    print_result,
    tell,
    yes_option,
)
from .team_members import (
    labels_in,
    required_role,
    role_option,
    secrets_option,
    team_argument,
    team_or_chosen,
    wallet_of_owner,
    with_article,
)

_POLL_S = 1.0
"""How often a waiting command looks for the other person's answer, seconds."""
_MOST_BYTES = 128 * 1024
_no_wait = flag_option("--no-wait", help="Do not wait for the other person.")


@click.command(
    epilog="Example: `sealspace team invite shop --role writer --secrets API_KEY,DB_URL`. Send the"
    " line over any channel. Then compare the words in a call or face to face."
)
@team_argument
@role_option
@secrets_option
@click.option("--name", metavar="NAME", help="How the team will call the member.")
@expires_option("2d", "How long the invitation lasts, from 1m to 30d.", most_days=30)
@_no_wait
@yes_option
@at_node
async def invite(
    client: Client,
    team: str | None,
    role: Role | None,
    secrets: str | None,
    name: str | None,
    ttl_s: float,
    no_wait: bool,
    yes: bool,
) -> None:
    """Invite a person to TEAM, whose DID you do not know.

    The line that is printed opens nothing, and can be used once. The other person runs `sealspace
    team join` with it. Then both commands show four words. If they are the same, you confirm, and
    the person is a member. Without a terminal the command does not wait. Default for TEAM: the team
    that `sealspace use` chose.
    """
    _refuse_yes(yes)
    new_role = required_role(role)
    team_did, team_name = await team_or_chosen(client, team)
    acting = client.acting(await team_session(owner_home(), client, team_did))
    invitation = await acting.teams.invite(
        team_name,
        new_role,
        wallet=wallet_of_owner(),
        secrets=labels_in(secrets),
        ttl_s=ttl_s,
        name=name,
    )
    inviting = Inviting(invitation=invitation)
    _store_side(_admins_path(owner_home(), invitation.id), inviting)
    line = invitation_line(invitation)
    print_result(
        {
            "id": invitation.id,
            "invitation": line,
            "role": new_role,
            "expiresAt": optional_time(invitation.ends_at),
        },
        [line],
    )
    tell(
        f"this invites {with_article(new_role)}, {end_text(invitation.ends_at)}; the other person"
        " runs: sealspace team join LINE"
    )
    if no_wait or not is_interactive():  # nobody could say whether the words are the same
        tell(f"next, in a terminal: sealspace team confirm {invitation.id}")
        return
    await _admit(acting, client, inviting, no_wait=False)


@click.command()
@click.argument("invitation_id", metavar="ID")
@_no_wait
@yes_option
@at_node
async def confirm(client: Client, invitation_id: str, no_wait: bool, yes: bool) -> None:
    """Compare the words of an invitation, and admit the person.

    ID is printed by `sealspace team invite`. You are asked whether the words are the same. If you
    answer no, the invitation ends, and nobody is admitted.
    """
    _refuse_yes(yes)
    path = _admins_path(owner_home(), invitation_id)
    try:
        inviting = decode_inviting(read_file(path, most_bytes=_MOST_BYTES))
    except OSError:
        raise NotThere(
            f"no invitation {invitation_id[:40]} waits on this machine",
            hint="make a new one: sealspace team invite",
        ) from None
    team = inviting.invitation.team
    acting = client.acting(await team_session(owner_home(), client, team))
    await _admit(acting, client, inviting, no_wait=no_wait)


@click.command(
    epilog="Examples: `sealspace team join sinv_…`; `sealspace team join - < line.txt`. If the"
    " command was interrupted, run it again with the same line."
)
@click.argument("line", metavar="LINE|-")
@click.option(
    "--name",
    metavar="NAME",
    help="Your name for the team, a new contact. Default: the name in the invitation.",
)
@_no_wait
def join(line: str, name: str | None, no_wait: bool) -> None:
    """Join a team with an invitation.

    Both commands show four words. Read them to the admin, in a call or face to face. The admin
    confirms that they are the same. Then you are a member.
    """
    if line == "-":
        line = sys.stdin.read(MAX_LINE_CHARS + 1)
    try:
        _join(line, name, no_wait)
    except NotSignedIn as error:
        if error.step == FIRST_LOGIN:  # a newcomer does not know which node the team uses
            # Quoted, because the line is untrusted and the step is copied into a shell.
            node = quote(parse_invitation(line, now=SystemClock.now()).node)
            error.step = (
                f"log in at the node of the invitation: sealspace login {node} --new; if you have a"
                " wallet key, use --key-file FILE instead of --new; then run the same command again"
            )
        raise


@at_node
async def _join(client: Client, line: str, name: str | None, no_wait: bool) -> None:
    """Join a team with the client of a login."""
    home = owner_home()
    invitation = parse_invitation(line, now=SystemClock.now())
    team_name = name or invitation.name
    await _require_free_name(client, team_name, invitation.team)
    path = _joiners_path(home, invitation.id)
    joining = _read_stored_joining(path)
    if joining is None:
        joining = await Joining.prepare(client.teams, line)
        _store_side(path, joining)
    if not joining.admin_nonce:
        await joining.commit(client.teams)
    joining = await _wait_for_nonce(client, joining, path, no_wait=no_wait)
    if joining.words is None:  # only with --no-wait
        tell("the admin has not answered yet; then run the same command again")
        return
    print_words(joining.words)
    tell("read these words to the admin, who compares and confirms them")
    is_member = await _wait_for_membership(client, joining, no_wait=no_wait)
    if not is_member:  # only with --no-wait
        tell("the admin has not confirmed yet; then run the same command again")
        return
    if await name_or_none(client, team_name) is None:
        contacts = contacts_of(client)
        await contacts.add(team_name, invitation.team)
        keep_contacts(client, await contacts.read())
    await team_session(home, client, invitation.team, anew=True)
    path.unlink(missing_ok=True)
    tell(
        f"you are {with_article(invitation.role)} of the team {team_name} ({invitation.team})",
        f"next: sealspace use {team_name}, then sealspace secret list",
    )
    print_result({"team": invitation.team, "name": team_name, "role": invitation.role})


def print_words(words: tuple[str, ...]) -> None:
    """Show the words to compare, even with --quiet."""
    print_lines(f"words: {' '.join(words)}", err=True)


def _refuse_yes(yes: bool) -> None:
    """Refuse --yes, which every other command with a question accepts."""
    if yes:
        raise InvalidInput(
            "--yes cannot be used here: only a person can compare the words, and without this"
            " somebody else could be admitted",
            hint="omit --yes; if you have the person's DID already: sealspace team add TEAM DID"
            " --role ROLE",
        )


async def _admit(acting: Client, client: Client, inviting: Inviting, *, no_wait: bool) -> None:
    """Wait for the person, show the words, and sign the membership after a confirmation.

    Args:
        acting: a client with the admin's session for the team.
        client: a client with the admin's own session.
        inviting: the admin's side.
        no_wait: whether to return at once if the person has not answered.
    Raises:
        InvalidInput: the command is not running in a terminal.
        InvitationInvalid: the words differ; the invitation has ended.
    """
    path = _admins_path(owner_home(), inviting.invitation.id)
    inviting = await _wait_for_person(acting, inviting, path, no_wait=no_wait)
    if inviting.words is None:  # only with --no-wait
        tell(
            "the other person has not answered yet; then:"
            f" sealspace team confirm {inviting.invitation.id}"
        )
        return
    print_words(inviting.words)
    if not is_interactive():
        raise InvalidInput(
            "cannot ask whether the words are the same: this command is not running in a terminal",
            hint=f"run in a terminal: sealspace team confirm {inviting.invitation.id}",
        )
    names = await names_for(client, [inviting.joiner])
    whom = names.whole(inviting.joiner)
    role = with_article(inviting.invitation.role)
    if not ask_yes_or_no(f"does the other person read the same words? {whom} becomes {role}"):
        await inviting.withdraw(acting.teams)
        path.unlink(missing_ok=True)
        raise InvitationInvalid(
            "the words differ, so nobody was admitted, and the invitation has ended",
            hint="make a new invitation, and send it over another channel",
        )
    grant = await inviting.confirm(acting.teams, wallet=wallet_of_owner())
    path.unlink(missing_ok=True)
    tell(f"{whom} is {role} of the team, {end_text(grant.expires_at)}")
    if whom == inviting.joiner:  # there is no contact yet
        _tell_contact_name(inviting)
    print_result({"member": inviting.joiner, "role": inviting.invitation.role, "cid": grant.cid})


async def _wait_for_person(
    acting: Client, inviting: Inviting, path: Path, *, no_wait: bool
) -> Inviting:
    """Exchange nonces with the person who joins, until there are words to compare.

    Returns:
        The new state of the admin's side. Only with `no_wait` it can be without words: the person
        has not answered.
    """
    is_told = False
    while inviting.words is None:
        advanced = await inviting.advance(acting.teams)
        person_has_answered = advanced != inviting
        if person_has_answered:
            inviting = advanced
            if inviting.words is None:
                _store_side(path, inviting)  # the nonce is stored before anybody sees it
        elif no_wait:
            return inviting
        else:
            if not is_told:
                tell(
                    "waiting for the other person; to go on later: Ctrl-C, then"
                    f" sealspace team confirm {inviting.invitation.id}"
                )
                is_told = True
            await asyncio.sleep(_POLL_S)
    return inviting


def _tell_contact_name(inviting: Inviting) -> None:
    """Print how commands can name the new member."""
    member_name = inviting.invitation.member_name or ""
    name = member_name if is_contact_name(member_name) else "NAME"
    tell(f"next, to use a name in commands: sealspace contact add {name} {inviting.joiner}")


async def _wait_for_nonce(
    client: Client, joining: Joining, path: Path, *, no_wait: bool
) -> Joining:
    """Wait until the admin has answered, store the admin's nonce, and send the person's.

    Returns:
        The new state of the person's side. Only with `no_wait` its nonce can be unsent: the admin
        has not answered.
    """
    is_told = False
    while not joining.is_revealed:
        # Reads the admin's nonce, or sends the person's once the admin's is stored.
        advanced = await joining.advance(client.teams)
        admin_has_answered = advanced != joining
        if admin_has_answered:
            joining = advanced
            _store_side(path, joining)
        elif no_wait:
            return joining
        else:
            if not is_told:
                tell("waiting for the admin; to go on later: Ctrl-C, then the same command again")
                is_told = True
            await asyncio.sleep(_POLL_S)
    return joining


async def _wait_for_membership(client: Client, joining: Joining, *, no_wait: bool) -> bool:
    """Wait until the admin has confirmed, and return whether the person is a member.

    False is returned only with `no_wait`.

    Raises:
        InvitationInvalid: the invitation has ended without a membership.
    """
    while True:
        # Asked first: the membership is signed before the invitation ends.
        is_open = await joining.is_open(client.teams)
        try:
            await joining.membership(client.teams)
        except NotAMember:
            if not is_open:
                raise InvitationInvalid(
                    "the invitation has ended, and the admin did not confirm the words",
                    hint="ask the admin whether the words differed, and for a new invitation",
                ) from None
            if no_wait:
                return False
        else:
            return True
        await asyncio.sleep(_POLL_S)


async def _require_free_name(client: Client, name: str, team: str) -> None:
    """Check that a name can become that of a team among the contacts.

    Raises:
        InvalidInput: not a valid name of a contact.
        AlreadyThere: another contact has the name.
    """
    if not is_contact_name(name):
        raise InvalidInput(
            "the invitation has no usable name for the team", hint="choose one: add --name NAME"
        )
    did_of_contact = await name_or_none(client, name)
    if did_of_contact is not None and not same_principal(did_of_contact, team):
        raise AlreadyThere(
            f"you have a contact {name}, which is {did_of_contact}",
            hint="choose another name for the team: add --name NAME",
        )


def _read_stored_joining(path: Path) -> Joining | None:
    """Return the stored state, or None if this is the first call with the line."""
    try:
        return decode_joining(read_file(path, most_bytes=_MOST_BYTES))
    except FileNotFoundError:
        return None


def _store_side(path: Path, side: Inviting | Joining) -> None:
    """Store the state of one side of an invitation in a private file."""
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, encode_side(side))


def _admins_path(home: OwnerHome, invitation_id: str) -> Path:
    return _side_path(home, "invitations", invitation_id)


def _joiners_path(home: OwnerHome, invitation_id: str) -> Path:
    return _side_path(home, "joining", invitation_id)


def _side_path(home: OwnerHome, folder: str, invitation_id: str) -> Path:
    """Return the path of the state of one side. The id must not lead out of the folder."""
    is_base64url = invitation_id.replace("-", "").replace("_", "").isalnum()
    if not is_base64url or len(invitation_id) > 64:
        raise InvalidInput("not the id of an invitation", hint="copy the id from `team invite`")
    return home.folder / folder / f"{invitation_id}.json"
