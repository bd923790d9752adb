"""The commands `sealspace team move`, `countersign` and `follow`.

The first admin's statement is in the owner's folder, in `moves/<address>.json`, until the move is
complete, so that the same command continues after an interruption.
"""

import asyncio
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import NamedTuple

import click
import msgspec

from capabilities.clock_and_entropy import SystemClock
from capabilities.principals import same_principal
from capabilities.signatures import WalletSigner
from capabilities.strict_json import StrictRecord
from capabilities.successions import SENIORITY_S
from encryption_network.canonical_json import canonical_bytes

from ...client import Client
from ...documents.successions import (
    MAX_LINE_CHARS,
    MoveStatement,
    ProvenMove,
    move_line,
    move_words,
    verify_statement,
)
from ...errors import InvalidInput, NodeRefused, SuccessionInvalid
from ...giving.teams.memberships import TeamMember, TeamMembers, wallets_above
from ...private_files import read_file, replace_file
from ...service.command_errors import AlreadyThere, NotThere
from ...session import Grant
from ..options.paths import NEW_FILE
from ..owner.chosen_team import (
    forget_team_session,
    keep_choice,
    session_path,
    stored_choice,
    team_named,
    team_session,
)
from ..owner.contact_names import Names, contacts_of, did_named, keep_contacts, names_for
from ..owner.owner_profile import OwnerHome, at_node, owner_home
from ..share.secret_show import granted_readers
from ..terminal import (
    ask_yes_or_no,
    cell_text,
    confirm,
    end_text,
    flag_option,
    is_interactive,
    optional_time,
    print_result,
    tell,
    time_text,
    yes_option,
)
from .team_keys import seed_in_file
from .team_members import wallet_of_owner

_POLL_S = 1.0
"""How often a waiting command looks whether the other admin has signed, seconds."""
_MOST_BYTES = 256 * 1024


class _StoredMove(StrictRecord):
    """The state of a move on the first admin's machine.

    Attributes:
        successor: DID of the new wallet.
        statement: token of the first statement.
        grants: descriptions of who read the team's secrets by a token, a trust or another grant
            when the statement was signed. The node does not list them after the move.
    """

    successor: str
    statement: str
    grants: tuple[str, ...] = ()


class _Choice(NamedTuple):
    """What the first admin chose.

    Attributes:
        left_out: names or DIDs of the members who do not come along.
        leave_unreadable: whether to move although secrets cannot be taken along.
        yes: whether the questions are answered.
    """

    left_out: tuple[str, ...]
    leave_unreadable: bool
    yes: bool


@click.command(
    epilog="Example: `sealspace team move shop --key-file shop-new.key`. If the command was"
    " interrupted, run it again. The first and the second admin were both admitted by the team's"
    " own key, or by different admins, more than 7 days ago.",
)
@click.argument("team", metavar="TEAM")
@click.option(
    "--key-file",
    type=NEW_FILE,
    required=True,
    help="New file for the key of the new wallet, with mode 0600. An existing file is used again,"
    " to continue an interrupted command.",
)
@click.option(
    "--without",
    "left_out",
    metavar="DID|NAME",
    multiple=True,
    help="A member who does not come along; repeatable.",
)
@flag_option(
    "--leave-unreadable",
    help="Also move if secrets cannot be taken along. They are listed, and lost with the former"
    " key.",
)
@flag_option("--no-wait", help="Do not wait for the other admin.")
@yes_option
@at_node
async def move(
    client: Client,
    team: str,
    key_file: Path,
    left_out: tuple[str, ...],
    leave_unreadable: bool,
    no_wait: bool,
    yes: bool,
) -> None:
    """Move TEAM to a new wallet, because somebody else may know the team's key.

    You and another admin sign. From then on the node refuses everything that the former key
    signed: sessions, memberships, tokens, trusts and grants. The secrets and the members that you
    confirm come along. The team gets a new DID, which you and the others compare.
    """
    home = owner_home()
    former_did = await team_named(client, team)
    succession = await client.team_moves.succession(former_did)
    if succession is None:
        choice = _Choice(left_out=left_out, leave_unreadable=leave_unreadable, yes=yes)
        statement = await _first_statement(client, home, team, former_did, key_file, choice)
        await _print_line(client, team, statement)
        same_command = _command_to_continue(team, key_file)
        if no_wait:
            tell(f"next, after the other admin has signed: {same_command}")
            return
        succession = await _wait_for_second_admin(client, former_did, same_command)
    await _finish_move(client, home, team, succession, key_file)


@click.command(
    epilog="Examples: `sealspace team countersign shop smove_…`; `sealspace team countersign shop -"
    " < line.txt`.",
)
@click.argument("team", metavar="TEAM")
@click.argument("line", metavar="LINE|-")
@at_node
async def countersign(client: Client, team: str, line: str) -> None:
    """Sign, as the second admin, that TEAM moves to a new wallet.

    LINE comes from the admin who runs `sealspace team move`. You are asked whether that admin reads
    the same eight words, in a call or face to face. From your signature on, nobody uses the team's
    former key any more, and this cannot be undone.
    """
    home = owner_home()
    former_did = await team_named(client, team)
    acting = client.acting(await team_session(home, client, former_did))
    statement = await acting.team_moves.examine(_read_line(line))
    names = await names_for(client, [statement.signer])
    signer = names.whole(statement.signer)
    tell(
        f"{signer} signed that the team {team} moves",
        f"  from {statement.owner}",
        f"  to   {statement.successor}",
    )
    _print_words(statement)
    if not is_interactive():
        raise InvalidInput(
            "cannot ask whether the words are the same: this command is not running in a terminal",
            hint=f"run in a terminal: sealspace team countersign {team} LINE",
        )
    if not ask_yes_or_no(f"does {signer} read the same words, in a call with you?"):
        raise SuccessionInvalid("the words differ, so nothing was signed")
    await acting.team_moves.countersign(statement, wallet=wallet_of_owner())
    tell(
        f"the team {team} has moved, and the node refuses its former key",
        f"next, when the other admin is ready: sealspace team follow {team}",
    )
    print_result({"team": statement.successor, "former": statement.owner})


@click.command()
@click.argument("team", metavar="TEAM")
@click.option(
    "--did",
    metavar="DID",
    help="The new DID, which an admin told you. Without it, you are asked whether it is right.",
)
@at_node
async def follow(client: Client, team: str, did: str | None) -> None:
    """Use the new wallet of TEAM, after the team has moved.

    The signatures of both admins are verified here. Compare the new DID with an admin whom you
    know: somebody who has the team's former key could have made admins, too.
    """
    home = owner_home()
    former_did = await team_named(client, team)
    succession = await client.team_moves.succession(former_did)
    if succession is None:
        raise NotThere(
            f"the team {team} has not moved", hint="nothing to do: go on with its secrets"
        )
    names = await names_for(client, succession.signers)
    signers = [names.whole(signer) for signer in succession.signers]
    tell(
        f"the team {team} has moved",
        f"  from {succession.owner}",
        f"  to   {succession.successor}",
        f"signed by {' and '.join(signers)}",
    )
    if did is None:
        confirm(
            "is this the new DID that an admin told you?",
            hint="ask an admin for the new DID, then add --did DID",
        )
    elif not same_principal(did, succession.successor):
        raise SuccessionInvalid("the team has moved to another wallet than the one in --did")
    membership = await client.teams.membership(succession.successor)
    await _switch_to_successor(client, home, team, succession)
    tell(f"you are {membership.role} of the team {team}, {end_text(membership.ends_at)}")
    print_result(
        {"team": succession.successor, "former": succession.owner, "role": membership.role}
    )


# --- details --------------------------------------------------------------------------------------


async def _first_statement(
    client: Client,
    home: OwnerHome,
    team: str,
    former_did: str,
    key_file: Path,
    choice: _Choice,
) -> MoveStatement:
    """Return the first statement of a move: the stored one if it is live, or else a new one.

    Before a new one is signed, the user confirms which members and secrets come along.
    """
    _require_other_key(key_file, former_did, team)
    acting = client.acting(await team_session(home, client, former_did))
    stored_statement = _read_stored_statement(home, former_did, key_file)
    if stored_statement is not None and await acting.team_moves.is_live(stored_statement):
        return stored_statement
    left_secrets = await _require_readable(acting, choice)
    listed = await acting.teams.members()
    coming_members = await _without_left_out(client, listed.live, choice.left_out)
    await _confirm_members(client, coming_members, yes=choice.yes)
    seed = seed_in_file(key_file)
    ending_grants = await _list_ending_grants(acting, left_secrets)
    prepared = await client.team_moves.prepare(seed, coming_members)
    grant = await _sign_first_statement(acting, prepared.team, listed)
    stored_move = _StoredMove(successor=prepared.team, statement=grant.header, grants=ending_grants)
    path = _stored_move_path(home, former_did)
    path.parent.mkdir(mode=0o700, exist_ok=True)
    replace_file(path, canonical_bytes(msgspec.to_builtins(stored_move)))
    return verify_statement(grant.header, now=SystemClock.now())


async def _without_left_out(
    client: Client, members: Sequence[TeamMember], left_out: Sequence[str]
) -> list[TeamMember]:
    """Return the members who come along. `left_out` has names or DIDs of the others."""
    left_out_dids = [await did_named(client, name) for name in left_out]
    coming: list[TeamMember] = []
    for member in members:
        if not any(same_principal(member.did, did) for did in left_out_dids):
            coming.append(member)
    return coming


async def _sign_first_statement(acting: Client, successor: str, listed: TeamMembers) -> Grant:
    """Sign the first statement with the owner's wallet, and register it.

    Raises:
        NodeRefused: the node does not accept it. If an admin is too new, the step says until when.
    """
    try:
        return await acting.team_moves.name(successor, wallet=wallet_of_owner())
    except NodeRefused as error:
        # A refusal for another reason keeps its own next step.
        step = None
        if error.status == 400:
            step = step_for_missing_seniority(listed, now=SystemClock.now())
        if step is not None:
            error.step = step
        raise


def step_for_missing_seniority(listed: TeamMembers, *, now: float) -> str | None:
    """Return what to do until two admins have been admins for long enough (TM17).

    Admins count, not memberships: an admin can have several. Each signs under the membership with
    the fewest admins above, and of these under the oldest one.

    Returns None if two have been already, as far as their memberships state when they were signed.
    The node decides by the time at which it registered the memberships.
    """
    admins_since: list[float] = []
    for did in listed.admins:
        memberships = [member for member in listed.of(did) if member.role == "admin"]
        signs_under = min(memberships, key=partial(_seniority_order, listed))
        admins_since.append(signs_under.since or 0)
    admins_since.sort()
    instead = "if you cannot wait, create a new team with `sealspace team create`, and store the"
    instead += " secrets there"
    if len(admins_since) < 2:
        return f"a move needs a second admin, and this team has one; {instead}"
    second_admin_since = admins_since[1]
    ready_at = second_admin_since + SENIORITY_S
    if ready_at <= now:
        return None
    return (
        f"run the same command again after {time_text(ready_at)}, when two admins have been admins"
        f" for 7 days; neither may have admitted the other; {instead}"
    )


def _seniority_order(listed: TeamMembers, membership: TeamMember) -> tuple[int, float]:
    return len(wallets_above(listed, membership.grant.cid)), membership.since or 0


async def _require_readable(acting: Client, choice: _Choice) -> frozenset[str]:
    """List the secrets that cannot be taken along, and refuse to begin unless the user accepts it.

    Every writer, and whoever has the team's key, can store such a value at any time.

    Returns:
        The labels of the secrets that stay behind.
    Raises:
        InvalidInput: there are such secrets, and --leave-unreadable was not given.
    """
    unreadable = await acting.team_moves.unreadable()
    for label, reason in unreadable:
        tell(f"cannot be taken along: {label}: {reason}")
    if unreadable and not choice.leave_unreadable:
        raise InvalidInput(
            f"{len(unreadable)} secrets could not be read after the move",
            hint="store them again with `sealspace secret put`, or delete them; then run this"
            " again. To move without them: add --leave-unreadable",
        )
    return frozenset([label for label, _ in unreadable])


async def _list_ending_grants(acting: Client, left_secrets: frozenset[str]) -> tuple[str, ...]:
    """Return in words who reads the team's secrets by a token, a trust or another grant.

    The secrets in `left_secrets` are not taken along, so nobody reads them afterwards.
    """
    secrets = acting.secrets()
    lines: list[str] = []
    for scope in (None, *await secrets.scopes()):
        for name in await secrets.list(scope=scope):
            label = name if scope is None else f"{scope}/{name}"
            if label in left_secrets:
                continue
            for reader in await granted_readers(acting, label):
                lines.append(f"{label}: {reader}")
    return tuple(lines)


async def _confirm_members(client: Client, members: Sequence[TeamMember], *, yes: bool) -> None:
    """Show who comes along, and ask whether that is right.

    Anyone with the team's key could have admitted members.
    """
    people = [member.did for member in members] + [member.admitted_by for member in members]
    names = await names_for(client, people)
    tell("these members come along:")
    for member in members:
        tell("  " + "  ".join(_member_cells(member, names)))
    confirm(
        "do you know all of them? whoever has the team's key could have admitted others",
        yes=yes,
        hint="leave somebody out with --without DID; if all are right, add --yes",
    )


def _member_cells(member: TeamMember, names: Names) -> tuple[str, ...]:
    """Return a member in words: who, name, role, secrets, end, and by whom admitted."""
    is_admitted_by_team = member.admitted_by == member.team
    by = "the team's key" if is_admitted_by_team else names.short(member.admitted_by)
    return (
        cell_text(names.short(member.did)),
        cell_text(member.name),
        cell_text(member.role),
        cell_text(list(member.secrets) or "all"),
        cell_text(optional_time(member.ends_at)),
        cell_text(by),
    )


async def _print_line(client: Client, team: str, statement: MoveStatement) -> None:
    """Print the line and the words for the other admin."""
    line = move_line(
        node=client.url, node_did=(await client.info()).node_id, statement=statement.token
    )
    words = move_words(statement.owner, statement.successor, statement.cid)
    print_result({"move": line, "words": list(words), "team": statement.successor}, [line])
    _print_words(statement)
    tell(
        f"nothing has changed yet; another admin runs: sealspace team countersign {team} LINE",
        "read the words to each other in a call or face to face",
    )


def _print_words(statement: MoveStatement) -> None:
    """Print the words that both admins compare."""
    words = move_words(statement.owner, statement.successor, statement.cid)
    tell(f"the words are: {' '.join(words)}")


async def _wait_for_second_admin(client: Client, former_did: str, same_command: str) -> ProvenMove:
    """Wait until the other admin has signed, and return the verified succession."""
    tell(f"waiting for the other admin; to go on later: Ctrl-C, then {same_command}")
    while True:
        succession = await client.team_moves.succession(former_did)
        if succession is not None:
            return succession
        await asyncio.sleep(_POLL_S)


async def _finish_move(
    client: Client, home: OwnerHome, team: str, succession: ProvenMove, key_file: Path
) -> None:
    """Take the secrets along, and use the new wallet from now on."""
    seed = _require_seed_of_successor(key_file, succession)
    values = await client.team_moves.take_along(succession, seed)
    for label, reason in values.failed:
        tell(f"not taken along: {label}: {reason}")
    stored_move = _read_stored_move(home, succession.owner)
    ended_grants = () if stored_move is None else stored_move.grants
    if ended_grants:
        tell("these grants ended with the former key:", *[f"  {line}" for line in ended_grants])
    await _switch_to_successor(client, home, team, succession)
    _stored_move_path(home, succession.owner).unlink(missing_ok=True)
    tell(
        f"took {len(values.moved)} secrets along; {len(values.kept)} were there already",
        f"the other members run: sealspace team follow {team}, and compare the new DID:"
        f" {succession.successor}",
        "make again what your programs use: tokens (sealspace token create), trusts (sealspace ci"
        " trust), grants to backends and runners",
        f"the new key is in {key_file}. Keep it in a safe place, away from this machine",
    )
    print_result(
        {
            "team": succession.successor,
            "former": succession.owner,
            "moved": list(values.moved),
            "kept": list(values.kept),
            "failed": [{"secret": label, "reason": reason} for label, reason in values.failed],
            "ended": list(ended_grants),
        }
    )


async def _switch_to_successor(
    client: Client, home: OwnerHome, team: str, succession: ProvenMove
) -> None:
    """Replace the former DID by that of the new wallet: in the choice, then in the contact.

    The contact is the last: while it has the former DID, the same command continues.
    """
    forget_team_session(home, succession.owner)
    chosen = stored_choice(home)
    if chosen is not None and chosen.did == succession.owner:
        keep_choice(home, succession.successor, chosen.name)
    is_contact_name = not team.startswith("did:")
    if is_contact_name and same_principal(await did_named(client, team), succession.owner):
        contacts = contacts_of(client)
        await contacts.replace(team, succession.owner, succession.successor)
        keep_contacts(client, await contacts.read())


def _require_other_key(key_file: Path, former_did: str, team: str) -> None:
    """Refuse the key file of the wallet that the team has.

    Raises:
        AlreadyThere: the file exists and has this key.
    """
    if not key_file.exists():
        return
    wallet = WalletSigner(seed_in_file(key_file))
    if same_principal(wallet.did, former_did):
        raise AlreadyThere(
            f"the team {team} has moved already to the wallet in {key_file}",
            hint="to move it once more, name a new file with --key-file",
        )


def _require_seed_of_successor(key_file: Path, succession: ProvenMove) -> bytes:
    """Return the key of the wallet to which a team has moved.

    Raises:
        NotThere: the file does not exist.
        InvalidInput: the file has another key.
    """
    if not key_file.exists():
        raise NotThere(
            f"the team has moved to {succession.successor}, and {key_file} does not exist",
            hint="name the key file of the first command; without it, the secrets stay where"
            " they are",
        )
    seed = seed_in_file(key_file)
    if not same_principal(WalletSigner(seed).did, succession.successor):
        raise InvalidInput(
            f"the team has moved to {succession.successor}, and {key_file} has another key",
            hint="if an admin told you this DID: sealspace team follow NAME; otherwise somebody"
            " else has moved the team",
        )
    return seed


def _read_line(line: str) -> str:
    """Return the line of an argument; `-` means that it is read from standard input."""
    return sys.stdin.read(MAX_LINE_CHARS + 1) if line == "-" else line


def _command_to_continue(team: str, key_file: Path) -> str:
    """Return the command that continues a move."""
    return f"sealspace team move {team} --key-file {key_file}"


def _read_stored_statement(
    home: OwnerHome, former_did: str, key_file: Path
) -> MoveStatement | None:
    """Return the first statement that is stored on this machine.

    Returns None if there is none, if it is not valid or has ended, or if the key file is gone.
    """
    now = SystemClock.now()
    stored_move = _read_stored_move(home, former_did)
    if stored_move is None or not key_file.exists():
        return None
    try:
        statement = verify_statement(stored_move.statement, now=now)
    except SuccessionInvalid:
        return None
    return statement if statement.ends_at > now else None


def _read_stored_move(home: OwnerHome, former_did: str) -> _StoredMove | None:
    """Return the state of a move on this machine; None if it is missing or cannot be read."""
    try:
        data = read_file(_stored_move_path(home, former_did), most_bytes=_MOST_BYTES)
        return msgspec.json.decode(data, type=_StoredMove)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def _stored_move_path(home: OwnerHome, former_did: str) -> Path:
    """Return the path of the state of a move. The file is named by the address of the team."""
    return home.folder / "moves" / session_path(home, former_did).name
